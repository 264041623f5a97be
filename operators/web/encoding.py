"""Bytes of a page -> text: which encoding it is in, and what was lost.

Promises: every byte string gives a text, and says how and with how much loss; a page whose label is wrong is decoded
right where its bytes tell (UTF-8 under another name most of all). Costs one or two passes; the statistical detector
runs on the few pages without label and not in UTF-8. Refuses nothing: the caller looks at `replaced`.

The ladder: byte order mark, UTF-8 that cannot be chance, label of the HTTP header, label in the page, UTF-8, the
detector, windows-1252. A label holds only if the bytes decode by it.
"""

import re
from dataclasses import dataclass

from resiliparse.parse.encoding import detect_encoding

from tundish.operators.web.labels import MULTIBYTE, WIDER, codec
from tundish.operators.web.tags import pattern, tags

PRESCAN = 16 << 10  # bytes searched for a label; the standard's 1,024 miss pages with long comments before it
CHANCE = 8  # sequences: text in another multi-byte encoding is this often UTF-8 by chance in 1 of 10^6 pages
LOSS = 0.01  # of what is not ASCII: a label with so few errors still holds (cut pages, stray bytes)

_BOMS = (
    (b"\xef\xbb\xbf", "utf-8"),
    (b"\xff\xfe\0\0", "utf-32-le"),
    (b"\0\0\xfe\xff", "utf-32-be"),
    (b"\xff\xfe", "utf-16-le"),
    (b"\xfe\xff", "utf-16-be"),
)
_NULS = {
    (False, True, False, True): "utf-16-le",
    (True, False, True, False): "utf-16-be",
    (False, True, True, True): "utf-32-le",
    (True, True, True, False): "utf-32-be",
    (False, False, True, True): "utf-32-le",
    (True, True, False, False): "utf-32-be",
}
_META = pattern(frozenset({"meta"}))
_CHARSET = re.compile(r"charset\s{0,9}=\s{0,9}[\"']?\s{0,9}([^\s\"';,>]+)", re.IGNORECASE)
_XML = re.compile(rb"<\?xml[^>]{0,200}?encoding\s{0,9}=\s{0,9}[\"']([A-Za-z0-9._:-]{1,40})[\"']")
_SEQUENCE = re.compile(rb"[\xc2-\xf4][\x80-\xbf]+")
_HIGH = re.compile(rb"[\x80-\xff]+")
_ESCAPE = re.compile(rb"\x1b(?:(\$\)C)|\$[@B]|\([IJ])")  # ISO-2022-KR, ISO-2022-JP: seven bits, so UTF-8 too

_ISO_2022 = ("iso2022_jp_ext", "iso2022_kr")


@dataclass(frozen=True)
class Decoded:
    """`encoding`: a Python codec. `how`: bom, http, meta, utf-8, detected, fallback. `replaced`: U+FFFD brought in."""

    text: str
    encoding: str
    how: str
    replaced: int

    def utf8(self, body: bytes) -> bytes:
        """The text in UTF-8; without encoding it, where the body it was read from is that.

        >>> body = "Bücher".encode("cp1252")
        >>> decode(body).utf8(body).decode()
        'Bücher'
        """
        if self.encoding != "utf-8" or self.replaced:
            return self.text.encode("utf-8", "replace")
        return body[len(_BOMS[0][0]) :] if self.how == "bom" else body


def decode(body: bytes, declared: str | None = None) -> Decoded:
    """Text of a page; `declared` is the label of its HTTP header (see `charset_of`).

    >>> decode("Bücher".encode(), "iso-8859-1")
    Decoded(text='Bücher', encoding='utf-8', how='utf-8', replaced=0)
    """
    for mark, name in _BOMS:
        if body.startswith(mark):
            return _lossy(body[len(mark) :], name, "bom")
    if wide := _wide(body):
        return _lossy(body, wide, "detected")
    labels = _labelled(body, declared)
    return _by_bytes(body, labels) or _by_label(body, labels) or _by_guess(body, labels)


def _labelled(body: bytes, declared: str | None) -> list[tuple[str, str]]:
    """(codec, how) for each label that is known, header first."""
    found = [(codec(declared), "http"), (codec(_meta(body)), "meta")]
    return [(name, how) for name, how in found if name and not name.startswith("utf-16")]


def _by_bytes(body: bytes, labels: list[tuple[str, str]]) -> Decoded | None:
    """UTF-8, if what is not ASCII can only be that; else None."""
    text = _strict(body, "utf-8")
    if text is None or len(text) == len(body):  # no UTF-8, or nothing but ASCII
        return None
    name = labels[0][0] if labels else ""
    if name in MULTIBYTE - {"utf-8"} and len(body) - len(text) < 3 * CHANCE:  # few enough to be counted
        sequences = sum(1 for _, _ in zip(range(CHANCE), _SEQUENCE.finditer(body), strict=False))
        if sequences < CHANCE:
            return None
    how = next((how for name, how in labels if name == "utf-8"), "utf-8")
    return Decoded(text, "utf-8", how, 0)


def _by_label(body: bytes, labels: list[tuple[str, str]]) -> Decoded | None:
    """The first label by which the bytes decode; then the first by which nearly all do."""
    for name, how in labels:
        for attempt in (name, WIDER.get(name)):
            if attempt and (text := _strict(body, attempt)) is not None:
                return Decoded(text, attempt, how, 0)
    for name, how in labels:
        if name in MULTIBYTE and _nearly(found := _lossy(body, name, how), body):
            return found
    return None


def _by_guess(body: bytes, labels: list[tuple[str, str]]) -> Decoded:
    """No label, or none that holds."""
    escaped = _ESCAPE.search(body)
    if not escaped:
        if (text := _strict(body, "utf-8")) is not None:
            return Decoded(text, "utf-8", "utf-8", 0)
        if _SEQUENCE.search(body) and _nearly(found := _lossy(body, "utf-8", "utf-8"), body):
            return found
    guess = _ISO_2022[bool(escaped[1])] if escaped else _detected(body)
    for attempt in (guess, guess and WIDER.get(guess)):
        if attempt and (text := _strict(body, attempt)) is not None:
            return Decoded(text, attempt, "detected", 0)
    if guess and _nearly(found := _lossy(body, guess, "detected"), body):
        return found
    return _lossy(body, labels[0][0], labels[0][1]) if labels else _lossy(body, "cp1252", "fallback")


def _detected(body: bytes) -> str | None:
    """The statistical detector's answer. Its HTML5 mode is off: it says utf-8 for Korean."""
    found = codec(detect_encoding(body, html5_compatible=False))
    if found == "mac-cyrillic" and _count(body, 0x80, 0xA0) <= _count(body, 0xC0, 0xDF):
        return "cp1251"  # small letters lie in the same places in both, capitals in these: they tell the two apart
    return found


def _count(body: bytes, low: int, high: int) -> int:
    return sum(map(body[: 128 << 10].count, range(low, high)))


def _nearly(found: Decoded, body: bytes) -> bool:
    return found.replaced <= LOSS * sum(len(run) for run in _HIGH.findall(body))


def _strict(body: bytes, name: str) -> str | None:
    try:
        return body.decode(name)
    except UnicodeDecodeError:
        return None


def _lossy(body: bytes, name: str, how: str) -> Decoded:
    text = body.decode(name, "replace")
    own = body.count(b"\xef\xbf\xbd") if name == "utf-8" else 0  # losses of whoever wrote the page
    return Decoded(text, name, how, max(0, text.count("\ufffd") - own))


def _wide(body: bytes) -> str | None:
    """UTF-16 or UTF-32 without a mark: NUL in fixed places of each four bytes. Other text holds none."""
    start = body[: min(len(body), 1024) & ~3]
    if len(start) < 8 or start.count(0) * 5 < len(start):
        return None
    empty = tuple(start[place::4].count(0) * 5 > len(start) // 4 for place in range(4))
    return _NULS.get(empty)


def _meta(body: bytes) -> str | None:
    """The label a page gives itself (WHATWG HTML 13.2.3.2): XML declaration, meta charset or http-equiv."""
    if found := _XML.match(body.lstrip()[:300]):
        return found[1].decode("ascii")
    head = body[:PRESCAN].decode("latin-1")
    for name, attributes, _ in tags(head, _META):
        if name == "meta" and (known := codec(_label_in(attributes))):
            return "utf-8" if known.startswith("utf-16") else known
    return None


def _label_in(attributes: dict[str, str]) -> str | None:
    if label := attributes.get("charset"):
        return label
    if attributes.get("http-equiv", "").strip().lower() == "content-type":
        return charset_of(attributes.get("content"))
    return None


def charset_of(content_type: str | None) -> str | None:
    """Label in a Content-Type value, as written.

    >>> charset_of('text/html; charset="windows-1251"')
    'windows-1251'
    """
    found = _CHARSET.search(content_type or "")
    return found[1] if found else None
