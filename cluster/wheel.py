"""This tundish as a wheel that a job takes along, so that driver and workers run the code of who submitted it.

Promises: the modules and data files of the tundish that is imported here, installed or editable, byte for byte; the
same files give the same wheel, without a clock, a compiler or the network; its name holds its digest, for Ray knows a
wheel by its name alone and would run an earlier one of the same version. Names no dependencies: Ray installs it with
`pip install --target`, which would fetch them all again, torch first; they have to be on the machines. Costs 0.3 s
and about 1 MB. Refuses nothing.

`python -m tundish.cluster.wheel FOLDER` writes it and prints its path, for `ray job submit --runtime-env-json
'{"py_modules": ["PATH"]}'` and for images.
Sources: the binary distribution format (PEP 427, PEP 425), the core metadata of packages 2.1; Ray 2.60, "Environment
dependencies", on `py_modules`.
"""

import base64
import hashlib
import importlib.util
import sys
import zipfile
from collections.abc import Iterator, Mapping
from importlib.metadata import Distribution, distribution
from pathlib import Path
from typing import NamedTuple

FLOORS = ("operators", "cluster", "stages", "pipeline")
DATA = (".py", ".j2", ".tsv", ".json.gz", "py.typed")  # what pyproject.toml has setuptools install
MOMENT = (1980, 1, 1, 0, 0, 0)  # the first a zip can tell; files of a wheel have no time of their own
TAG = "py3-none-any"


class Wheel(NamedTuple):
    """Where the wheel lies, and the SHA-256 of its files' names and bytes, in hex."""

    path: Path
    digest: str


def built(folder: Path) -> Wheel:
    """The wheel of this tundish, written into a folder that is there."""
    files = modules()
    digest = digest_of(files)
    ours = distribution("tundish")
    build = f"0{digest[:16]}"  # a build number begins with a digit
    path = folder / f"tundish-{ours.version}-{build}-{TAG}.whl"
    about = f"tundish-{ours.version}.dist-info"
    files |= {f"{about}/{name}": body for name, body in _about(ours, build).items()}
    files[f"{about}/RECORD"] = _record(files, f"{about}/RECORD")
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, body in files.items():
            archive.writestr(_entry(name), body)
    return Wheel(path, digest)


def modules() -> dict[str, bytes]:
    """Every file of the four floors by its name in a wheel, such as `tundish/cluster/wheel.py`; sorted."""
    found = {}
    for floor in FLOORS:
        spec = importlib.util.find_spec(f"tundish.{floor}")
        assert spec is not None, floor
        (place,) = spec.submodule_search_locations or ()
        top = Path(place)
        found |= {f"tundish/{floor}/{path.relative_to(top).as_posix()}": path.read_bytes() for path in _files(top)}
    return dict(sorted(found.items()))


def digest_of(files: Mapping[str, bytes]) -> str:
    """SHA-256 over names and contents, in hex: the same for any zip of them."""
    lines = [f"{name} {hashlib.sha256(body).hexdigest()}\n" for name, body in sorted(files.items())]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def _files(package: Path) -> Iterator[Path]:
    """The files of a package and of the packages in it; a folder without `__init__.py` is none."""
    for path in sorted(package.iterdir()):
        if path.is_dir() and (path / "__init__.py").is_file():
            yield from _files(path)
        elif path.is_file() and path.name.endswith(DATA):
            yield path


def _about(ours: Distribution, build: str) -> dict[str, bytes]:
    """What pip asks of a wheel beside its files."""
    needs = ours.metadata["Requires-Python"]
    told = {
        "METADATA": f"Metadata-Version: 2.1\nName: tundish\nVersion: {ours.version}\nRequires-Python: {needs}\n",
        "WHEEL": f"Wheel-Version: 1.0\nGenerator: tundish\nRoot-Is-Purelib: true\nTag: {TAG}\nBuild: {build}\n",
        "entry_points.txt": ours.read_text("entry_points.txt") or "",
    }
    return {name: text.encode() for name, text in told.items()}


def _record(files: Mapping[str, bytes], own: str) -> bytes:
    """The list of a wheel's files with their digests and sizes; its own line has neither."""
    lines = []
    for name, body in files.items():
        told = base64.urlsafe_b64encode(hashlib.sha256(body).digest()).rstrip(b"=").decode()
        lines.append(f"{name},sha256={told},{len(body)}\n")
    return "".join([*lines, f"{own},,\n"]).encode()


def _entry(name: str) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(name, MOMENT)
    entry.compress_type, entry.external_attr = zipfile.ZIP_DEFLATED, 0o644 << 16
    return entry


if __name__ == "__main__":
    if len(sys.argv) != 2 or not Path(sys.argv[1]).is_dir():
        sys.exit("tundish: give the folder to write the wheel into, which has to be there")
    print(built(Path(sys.argv[1])).path)
