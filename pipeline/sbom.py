"""A bill of materials: every distribution installed beside this one, as CycloneDX 1.6 JSON.

    python -m tundish.pipeline.sbom build/sbom.json

Promises: name, version, package URL, licence as its author says it, and which installed distribution asks for which;
sorted, and equal for equal environments but for the time. Costs a second and no network. Knows nothing of what lies
inside a wheel (the C and Rust libraries of pyarrow or torch), and nothing of what is not a Python distribution.

Sources: CycloneDX 1.6 (ECMA-424), the purl specification's type `pypi`, "Core metadata" of the Python packaging guide.
"""

import hashlib
import json
import re
import sys
import uuid
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from importlib.metadata import Distribution, distributions
from typing import Any
from urllib.parse import quote

from packaging.requirements import InvalidRequirement, Requirement

from tundish.cluster import store

SPEC = "1.6"
OWN = "tundish"


def normal(name: str) -> str:
    """The one spelling of a distribution's name.

    >>> normal("Jinja2"), normal("zope.interface__x")
    ('jinja2', 'zope-interface-x')
    """
    return re.sub(r"[-_.]+", "-", name).lower()


def purl(name: str, version: str) -> str:
    """Its package URL.

    >>> purl("Torch_X", "2.13.0+cpu")
    'pkg:pypi/torch-x@2.13.0%2Bcpu'
    """
    return f"pkg:pypi/{normal(name)}@{quote(version, safe='')}"


def bill(found: Iterable[Distribution], moment: str) -> dict[str, Any]:
    """The bill of these distributions, of several of a name the first, as an import has it; `moment`: when, as ISO
    8601 in UTC."""
    by_name: dict[str, Distribution] = {}
    for each in found:
        if each.metadata["Name"]:
            by_name.setdefault(normal(each.metadata["Name"]), each)
    refs = {name: purl(name, each.version) for name, each in by_name.items()}
    parts = {name: component(each, refs[name]) for name, each in sorted(by_name.items())}
    main = parts.pop(OWN, None)
    edges = [{"ref": refs[name], "dependsOn": wanted(by_name[name], refs)} for name in sorted(by_name)]
    body = {"components": list(parts.values()), "dependencies": edges}
    digest = hashlib.sha256(json.dumps([main, body], sort_keys=True).encode()).hexdigest()
    return {
        "$schema": f"http://cyclonedx.org/schema/bom-{SPEC}.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": SPEC,
        "serialNumber": f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_OID, digest)}",
        "version": 1,
        "metadata": {"timestamp": moment} | ({"component": main | {"type": "application"}} if main else {}),
        **body,
    }


def component(one: Distribution, ref: str) -> dict[str, Any]:
    told: dict[str, Any] = {"type": "library", "bom-ref": ref, "name": one.metadata["Name"], "version": one.version}
    return told | {"purl": ref} | ({"licenses": found} if (found := licences(one.metadata)) else {})


def licences(said: Any) -> list[dict[str, Any]]:
    """What the metadata say of the licence: an SPDX expression, else its name, else those of the classifiers."""
    if expression := said.get("License-Expression"):
        return [{"expression": expression}]
    plain = (said.get("License") or "").strip()
    if plain and "\n" not in plain and len(plain) <= 80 and plain != "UNKNOWN":
        return [{"license": {"name": plain}}]
    words = [each.rpartition(" :: ")[2] for each in said.get_all("Classifier") or () if each.startswith("License ::")]
    return [{"license": {"name": each}} for each in sorted(set(words)) if each != "OSI Approved"]


def wanted(one: Distribution, refs: Mapping[str, str]) -> list[str]:
    """Which of the installed distributions it asks for in this environment, extras left out."""
    found = set()
    for line in one.requires or ():
        try:
            asked = Requirement(line)
        except InvalidRequirement:
            continue
        if (asked.marker is None or asked.marker.evaluate({"extra": ""})) and normal(asked.name) in refs:
            found.add(refs[normal(asked.name)])
    return sorted(found)


def main(uri: str) -> None:
    told = bill(distributions(), datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"))
    store.write_json(uri, told)
    print(f"{len(told['components'])} components in {uri}")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("say where it goes: python -m tundish.pipeline.sbom build/sbom.json")
    main(sys.argv[1])
