"""A folder that goes with a job: which of its files, and that no key is among them.

Promises: counts what Ray would pack, links followed as Ray follows them (and what a .gitignore there names, which Ray
leaves out); leaves out hidden files and folders, roots and
environments without a word, and says of the rest what it leaves out and why: the signing key, files that hold a private
key or are called like a credential, links that lead out of the folder, into what stays, or round in a circle, and what
cannot be read. What a link inside the folder names goes along under the link's name. Costs one look at the first 64 KB
of each file. Refuses a folder with more than `LARGEST` bytes to send.

It knows keys by their PEM, by the JSON of a service account, and by their names: a secret in a file of any other form
and name goes along. Source: Ray 2.60, "Environment dependencies" (`excludes`, in the words of .gitignore).
"""

import os
import re
from dataclasses import dataclass, field
from pathlib import Path

from tundish.cluster.signing import VARIABLE

LARGEST = 50_000_000  # bytes of a folder sent with a job: Ray keeps it in the head's memory
HEAD = 1 << 16  # bytes of a file that are looked at: a key may stand behind its certificates
SKIPPED = {"venv", "__pycache__"}  # folders that are not sent
QUIET = {"hidden", "Python's", "a root"}  # reasons that go without saying
KEY = re.compile(rb'(?m)^[ \t]*-----BEGIN [A-Z0-9 ]*PRIVATE KEY|"private_key"[ \t\r\n]*:[ \t\r\n]*"-----BEGIN')
CALLED = re.compile(
    r"\.env(\..*)?|[._]netrc|\.(pgpass|git-credentials|npmrc|pypirc)|id_(rsa|dsa|ecdsa|ed25519)(_sk)?|rootkey\.csv|.*_accesskeys\.csv|application_default_credentials\.json"
    r"|.*\.(key|p12|pfx|jks|keystore|ppk|kdbx|env)"
    r"|(.*[_.-])?key\.(pem|der)"
    r"|(.*[_.-])?(credentials?|passwords?|passwd|secrets?|token|(api|access|account|secret|private|signing)[_-]?key)"
    r"(\.(txt|ini|cfg|conf|toml|ya?ml|json))?"
)


@dataclass
class Parcel:
    """What of a folder stays here. `left`: why, by path in the folder; `size`: bytes that go."""

    folder: Path
    left: dict[str, str] = field(default_factory=dict)
    size: int = 0

    @property
    def excludes(self) -> list[str]:
        """What stays, in Ray's words."""
        return [f"/{_escaped(name)}" for name in self.left]

    @property
    def stays(self) -> dict[str, str]:
        """What stays that somebody might have expected to go."""
        return {name: why for name, why in self.left.items() if why not in QUIET}

    def without(self, inner: Path, why: str) -> None:
        self.left[inner.relative_to(self.folder).as_posix()] = why

    def weighs(self, size: int) -> None:
        """Add a file's bytes; refuses the one too many at once, for the folder may be anybody's home."""
        self.size += size
        if self.size > LARGEST:
            raise ValueError(
                f"{self.folder} holds more than {LARGEST / 1e6:.0f} MB, and no more may go with a job; put the recipe "
                "and its small files into a folder of their own, and name large data by a URI"
            )

    def says(self) -> str:
        """One line of what stays here; "" where there is nothing to say."""
        return ", ".join(f"{name} ({why})" for name, why in sorted(self.stays.items()))

    def keeps(self, inner: str) -> str:
        """Why a path in the folder stays here; "" where it goes."""
        return next((why for name, why in self.left.items() if inner == name or inner.startswith(f"{name}/")), "")


def packed(folder: Path) -> Parcel:
    """What of a folder goes with a job; refuses one that is too large."""
    parcel = Parcel(folder)
    _look(parcel, folder, (folder.resolve(),))
    return parcel


def _look(parcel: Parcel, here: Path, trail: tuple[Path, ...]) -> None:
    """Everything in a folder, and in those in it; `trail`: where it and those above it really lie."""
    for inner in sorted(here.iterdir()):
        why = _astray(inner, trail) if inner.is_symlink() else ""
        if why := why or (_kept(inner) if inner.is_file() else "") or _silent(inner):
            parcel.without(inner, why)
        elif inner.is_dir():
            try:
                _look(parcel, inner, (*trail, inner.resolve()))
            except PermissionError:
                parcel.without(inner, "cannot be read")
        elif inner.is_file():
            parcel.weighs(inner.stat().st_size)


def _silent(path: Path) -> str:
    """Why nobody expects it to be sent; "" where somebody may."""
    if path.name.startswith("."):
        return "hidden"
    if not path.is_dir():
        return ""
    return "Python's" if path.name in SKIPPED else "a root" if (path / "lease.json").is_file() else ""


def _astray(link: Path, trail: tuple[Path, ...]) -> str:
    """Why a link is not followed; "" where it is. A link to nothing is none of Ray's business."""
    top, end = trail[0], Path(os.path.realpath(link))
    if not end.is_relative_to(top):
        return "a link out of the folder"
    if end in trail:
        return "a link in a circle"
    inside = [end, *end.parents][: len(end.parts) - len(top.parts)]
    return "a link to what stays here" if any(map(_silent, inside)) else ""


def _kept(path: Path) -> str:
    """Why a file stays here; "" where it goes."""
    end = Path(os.path.realpath(path))
    if (said := os.environ.get(VARIABLE)) and end == Path(os.path.realpath(said)):
        return f"the key of {VARIABLE}"
    if any(CALLED.fullmatch(name) for name in (path.name.casefold(), end.name.casefold())):
        return "called like a key"
    try:
        with open(path, "rb") as file:
            return "holds a private key" if KEY.search(file.read(HEAD)) else ""
    except OSError:
        return "cannot be read"


def _escaped(name: str) -> str:
    """A path as a pattern that means itself."""
    made = re.sub(r"([\\*?\[\]])", r"\\\1", name)
    return re.sub(r" +$", lambda spaces: "[ ]" * len(spaces[0]), made)  # a bare one at the end is taken off
