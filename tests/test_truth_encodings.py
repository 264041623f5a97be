"""encodings-chardet: 425 real files, each named by its encoding, decoded without a label and with one.

Web encodings are those of the WHATWG Encoding standard: what browsers read. The others are read where they can be told.
"""

import io
import json
import tarfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
import zstandard

from tundish.operators.web.encoding import decode
from tundish.operators.web.labels import codec

CODECS = {"TIS-620": "cp874", "CP932": "cp932", "CP949": "cp949", "UTF-16": "utf-16", "MacRoman": "mac-roman",
          "MacCyrillic": "mac-cyrillic", "UTF-32": "utf-32", "UTF-32LE": "utf-32-le", "UTF-32BE": "utf-32-be",
          "IBM855": "cp855", "Johab": "johab"}  # fmt: skip
NOT_WEB = {"IBM855", "Johab", "EUC-TW", "UTF-32", "UTF-32LE", "UTF-32BE", "iso-2022-kr"}
MISSED = {
    "EUC-JP/_mozilla_bug431054_text.html",  # 4 words of Japanese in a page of ASCII
    "MacRoman/ioreg_output.txt",  # 1 letter beyond ASCII in 200 KB
    "iso-8859-7-greek/_ude_2.txt",  # an A with tonos, which windows-1253 has elsewhere
    "windows-1250-romanian/_ude_1.txt",  # ISO 8859-16 has the same letters, and commas below
    "windows-1252/github_bug_9.txt",  # 1 letter
}


@pytest.fixture(scope="module")
def files(data: Path) -> list[tuple[str, str, str, bytes]]:
    """(name, folder, label, bytes)"""
    return list(read(data / "encodings-chardet" / "texts.tar.zst"))


def read(archive: Path) -> Iterator[tuple[str, str, str, bytes]]:
    raw = zstandard.ZstdDecompressor(max_window_size=2**27).stream_reader(archive.open("rb")).read()
    with tarfile.open(fileobj=io.BytesIO(raw)) as tar:
        for member in tar:
            if member.isfile():
                folder, _, name = member.name.rpartition("/")
                folder = folder.rpartition("/")[2]
                label = folder if codec(folder) or folder in CODECS else folder.rpartition("-")[0]
                yield f"{folder}/{name}", folder, label, tar.extractfile(member).read()


def wanted(label: str, body: bytes) -> str:
    return body.decode(CODECS.get(label) or codec(label), "replace").removeprefix("\ufeff")


def test_web_encodings_are_told_without_a_label(files: list[tuple[str, str, str, bytes]]) -> None:
    web = [(name, label, body) for name, folder, label, body in files if folder not in NOT_WEB]
    missed = {name for name, label, body in web if decode(body).text != wanted(label, body)}
    assert len(web) == 395
    assert missed <= MISSED
    assert 1 - len(missed) / len(web) >= 0.96


def test_a_right_label_is_right(files: list[tuple[str, str, str, bytes]]) -> None:
    """As a header: all web encodings; what is in UTF-16 with a mark, by the mark."""
    wrong = Counter()
    for _, folder, label, body in files:
        if folder not in NOT_WEB and codec(label):
            wrong[folder] += decode(body, label).text != wanted(label, body)
    assert +wrong == Counter()


def test_every_folder_decodes_to_something(files: list[tuple[str, str, str, bytes]]) -> None:
    for name, _, _, body in files:
        assert decode(body).text.strip(), name
        assert decode(body[:1000], "klingon").text.strip(), name


def test_korean_and_japanese_traps(files: list[tuple[str, str, str, bytes]]) -> None:
    """Undeclared EUC-KR is no UTF-8, as Resiliparse has it; the standard's label reads the vendor's letters."""
    korean = [body for _, folder, _, body in files if folder in ("EUC-KR", "CP949")]
    assert len(korean) == 33
    assert {decode(body).encoding for body in korean} == {"cp949"}
    assert decode("①髙".encode("cp932"), "shift_jis").text == "①髙"
    assert decode("똠".encode("cp949"), "euc-kr").text == "똠"


def test_the_labels_are_those_of_the_standard(data: Path) -> None:
    groups = json.loads((data / "encodings-chardet" / "whatwg-encodings.json").read_text())
    encodings = [encoding for group in groups for encoding in group["encodings"]]
    assert sum(len(encoding["labels"]) for encoding in encodings) == 228
    for encoding in encodings:
        if encoding["name"] not in ("replacement", "x-user-defined"):
            assert len({codec(label) for label in encoding["labels"]}) == 1, encoding["name"]
            assert codec(encoding["labels"][0])
