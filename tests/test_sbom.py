"""The bill of materials: what CycloneDX 1.6 requires, and what is installed, no more and no less."""

import json
import re
from email.message import Message
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

from tundish.pipeline import sbom

REF = re.compile(r"pkg:pypi/[a-z0-9]+(-[a-z0-9]+)*@[A-Za-z0-9.%_~!-]+")
TYPES = {"application", "framework", "library", "container", "platform", "operating-system", "device", "firmware"}


def refused(bill: dict[str, Any]) -> list[str]:
    """What of the schema a bill breaks: its required fields, their forms, references that lead nowhere."""
    wrong = [name for name in ("bomFormat", "specVersion") if name not in bill]
    wrong += [] if bill.get("bomFormat") == "CycloneDX" and bill.get("specVersion") == "1.6" else ["format"]
    number = r"urn:uuid:[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"
    wrong += [] if re.fullmatch(number, bill["serialNumber"]) else ["serialNumber"]
    wrong += [] if isinstance(bill["version"], int) and bill["version"] >= 1 else ["version"]
    every = [*bill["components"], *([bill["metadata"]["component"]] if "component" in bill["metadata"] else [])]
    wrong += [f"{each} has no name or type" for each in every if not each.get("name") or each.get("type") not in TYPES]
    refs = [each["bom-ref"] for each in every]
    wrong += ["two of one bom-ref"] if len(refs) != len(set(refs)) else []
    asked = [ref for each in bill["dependencies"] for ref in (each["ref"], *each["dependsOn"])]
    wrong += [f"{ref} is no component" for ref in asked if ref not in refs]
    for each in every:
        for licence in each.get("licenses", ()):
            wrong += [] if set(licence) in ({"expression"}, {"license"}) else [f"{licence} is no licence"]
        wrong += [] if len({"expression"} & {k for one in each.get("licenses", ()) for k in one}) <= 1 else ["several"]
    return wrong


def test_the_bill_of_this_environment(tmp_path: Path) -> None:
    sbom.main(str(tmp_path / "sbom.json"))
    told = json.loads((tmp_path / "sbom.json").read_text())
    assert refused(told) == []
    installed = {sbom.normal(each.metadata["Name"]) for each in distributions()}
    named = {sbom.normal(each["name"]) for each in told["components"]}
    assert named | {"tundish"} == installed
    assert all(REF.fullmatch(each["purl"]) for each in told["components"])
    needs = {each["ref"].split("@")[0]: each["dependsOn"] for each in told["dependencies"]}
    assert "pkg:pypi/pyarrow" in {ref.split("@")[0] for ref in needs["pkg:pypi/tundish"]}
    assert sum("licenses" in each for each in told["components"]) > 0.8 * len(told["components"])


def test_the_checker_refuses_what_is_broken() -> None:
    good = sbom.bill(distributions(), "2026-11-22T00:00:00Z")
    assert refused(good) == []
    first = {**good["components"][0]}
    for broken in (
        {"bomFormat": "SPDX"},
        {"serialNumber": "urn:uuid:1"},
        {"components": [*good["components"], first]},
        {"components": [{**first, "type": "thing"}, *good["components"][1:]]},
        {"components": good["components"][1:]},
    ):
        assert refused({**good, **broken}), broken


def test_equal_environments_give_equal_bills_but_for_the_time() -> None:
    found = {sbom.normal(each.metadata["Name"]): each for each in reversed(list(distributions()))}
    one = sbom.bill(distributions(), "2026-11-22T00:00:00Z")
    other = sbom.bill(reversed(list(found.values())), "2027-01-01T00:00:00Z")
    assert one["metadata"].pop("timestamp") != other["metadata"].pop("timestamp")
    assert one == other


def test_licences_are_told_as_their_author_says() -> None:
    def said(**fields: str) -> list[dict[str, Any]]:
        told = Message()
        for name, value in fields.items():
            told[name.replace("_", "-")] = value
        return sbom.licences(told)

    assert said(License_Expression="MIT OR Apache-2.0", License="MIT") == [{"expression": "MIT OR Apache-2.0"}]
    assert said(License="BSD") == [{"license": {"name": "BSD"}}]
    text = "Permission is hereby granted\nto any person"
    classified = "License :: OSI Approved :: MIT License"
    assert said(License=text, Classifier=classified) == [{"license": {"name": "MIT License"}}]
    assert said(License="UNKNOWN") == []
