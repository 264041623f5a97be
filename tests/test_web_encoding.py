"""Encodings: the ladder, wrong labels, real labelled texts, and text that is safe to keep."""

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tundish.operators.text.repair import repaired
from tundish.operators.web.encoding import Decoded, charset_of, decode
from tundish.operators.web.labels import MULTIBYTE, codec

RUSSIAN = "<p>Река течёт к морю, и вода в ней к вечеру теплее воздуха."
JAPANESE = "<p>川は海へ流れ、夕方の水は空気よりも暖かい。①と②の橋を渡る。"
CHINESE = "<p>河水流向大海，傍晚的水比空气更暖。我们沿着河岸慢慢走回村子里。"
KOREAN = "<p>강물은 바다로 흐르고 저녁에는 공기보다 물이 더 따뜻하다. 똠방각하"
FRENCH = "<p>La rivière coule vers la mer ; l’eau est plus chaude à la tombée du soir."


@pytest.mark.parametrize(
    ("text", "stored", "label"),
    [
        (RUSSIAN, "cp1251", "windows-1251"),
        (RUSSIAN, "koi8-r", "KOI8-R"),
        (JAPANESE, "cp932", "Shift_JIS"),
        (JAPANESE, "euc_jis_2004", "euc-jp"),
        (CHINESE, "gb18030", "gb2312"),
        (CHINESE, "gb18030", "GBK"),
        (KOREAN, "cp949", "euc-kr"),
        (FRENCH, "cp1252", "iso-8859-1"),
        (FRENCH, "utf-8", "utf8"),
    ],
)
def test_labels_name_their_widest_codec(text: str, stored: str, label: str) -> None:
    body = text.encode(stored)
    by_header = decode(body, label)
    assert (by_header.text, by_header.how, by_header.replaced) == (text, "http", 0)
    meta = f'<!-- x --><meta http-equiv="Content-Type" content="text/html; charset={label}">'
    by_meta = decode(meta.encode() + body)
    assert (by_meta.text, by_meta.how) == (meta + text, "meta")
    declaration = f'<?xml version="1.0" encoding="{label}"?>'
    assert decode(declaration.encode() + body).text == declaration + text


@pytest.mark.parametrize(
    "label", ["iso-8859-1", "windows-1251", "gb2312", "shift_jis", "euc-kr", "big5", "us-ascii", "klingon"]
)
@pytest.mark.parametrize("text", [RUSSIAN, JAPANESE, CHINESE, KOREAN, FRENCH])
def test_utf8_under_another_name_is_read_right(text: str, label: str) -> None:
    if len([c for c in text if ord(c) > 127]) < 8 and codec(label) in MULTIBYTE:
        return  # too little to tell; the label holds
    found = decode(text.encode(), label)
    assert (found.text, found.encoding, found.how, found.replaced) == (text, "utf-8", "utf-8", 0)


@pytest.mark.parametrize(
    ("text", "stored"), [(RUSSIAN, "cp1251"), (JAPANESE, "cp932"), (CHINESE, "gb18030"), (KOREAN, "cp949")]
)
@pytest.mark.parametrize("label", ["utf-8", None])
def test_a_wrong_or_missing_label_leaves_it_to_the_detector(text: str, stored: str, label: str | None) -> None:
    found = decode((text * 8).encode(stored), label)
    assert (found.text, found.how, found.replaced) == (text * 8, "detected", 0)


def test_header_before_meta_unless_it_does_not_decode() -> None:
    body = b'<meta charset="koi8-r">' + RUSSIAN.encode("koi8-r")
    assert decode(body, "windows-1251").how == "http"
    assert decode(body).text.endswith(RUSSIAN)
    japanese = b'<meta charset="euc-jp">' + JAPANESE.encode("euc_jis_2004")
    found = decode(japanese, "utf-8")
    assert (found.text[23:], found.how) == (JAPANESE, "meta")


@pytest.mark.parametrize("name", ["utf-8-sig", "utf-16", "utf-32"])
def test_byte_order_marks(name: str) -> None:
    found = decode(JAPANESE.encode(name), "iso-8859-1")
    assert (found.text, found.how) == (JAPANESE, "bom")


@pytest.mark.parametrize("name", ["utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be"])
def test_wide_text_without_a_mark(name: str) -> None:
    assert decode(("<html><body>" + FRENCH).encode(name)).text == "<html><body>" + FRENCH


def test_stray_bytes_are_counted() -> None:
    body = (RUSSIAN * 20).encode()
    found = decode(body[:-1] + b"\xff\xff", "utf-8")
    assert found.encoding == "utf-8"
    assert found.text.startswith(RUSSIAN * 19)
    assert found.replaced in (2, 3)
    assert decode(b"caf\xe9 \x81 " + b"\x8d\x8f" * 3).replaced >= 1
    written = "a page that holds \ufffd itself ".encode()
    assert decode(written) == Decoded(written.decode(), "utf-8", "utf-8", 0)
    assert decode(b"") == Decoded("", "utf-8", "utf-8", 0)


@pytest.mark.parametrize(
    ("value", "label"),
    [
        ("text/html; charset=utf-8", "utf-8"),
        ('text/html;charset="Shift_JIS"', "Shift_JIS"),
        ("text/html; CHARSET = 'koi8-r'; x=y", "koi8-r"),
        ("text/html", None),
        (None, None),
    ],
)
def test_charset_of(value: str | None, label: str | None) -> None:
    assert charset_of(value) == label


def test_every_label_browsers_know_is_known(data: Path) -> None:
    groups = json.loads((data / "encodings-chardet" / "whatwg-encodings.json").read_text())
    names = {
        label: encoding["name"] for group in groups for encoding in group["encodings"] for label in encoding["labels"]
    }
    unknown = {label for label in names if codec(label) is None}
    assert unknown == {"x-user-defined", "replacement", "iso-2022-cn", "iso-2022-cn-ext"}
    for label in names.keys() - unknown:
        assert "abc".encode(codec(label)).decode(codec(label)) == "abc"


@settings(deadline=None)  # the first repair loads kernels
@given(st.binary(max_size=200), st.sampled_from([None, "utf-8", "shift_jis", "windows-1251", "x-nothing"]))
def test_any_bytes_give_a_text(body: bytes, label: str | None) -> None:
    found = decode(body, label)
    repaired(found.text)[0].encode()
    assert found.replaced <= found.text.count("\ufffd")
