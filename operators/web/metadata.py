"""What a page says of itself: title, author, date, language, canonical address, site, licence.

Read from the notes of an outline (meta, link, title, time, html, base, JSON-LD) and from links with a `rel`. Sources:
WHATWG HTML (title, lang, rel=author, rel=license, rel=canonical), Open Graph (ogp.me), Dublin Core terms, schema.org
(author, datePublished, license), Creative Commons licence addresses.

Promises: linear in the notes; of several statements the one that is most its purpose holds, in the order of the lists
below. Costs about 0.1 ms a page. Refuses nothing: what cannot be read says nothing.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import msgspec

from tundish.operators.web.elements import NAMES, SCRIPT, TAG, TITLE, TOLD
from tundish.operators.web.opt_outs import METAS, meta
from tundish.operators.web.outline import Outline
from tundish.operators.web.tags import attributes_at, title_of

JSON_BYTES = 1 << 20  # of one JSON-LD script
LONGEST = 300  # characters of a name or a title
NESTED = 12  # levels of JSON-LD that are read
LINKS = 500  # links with a rel that are read
NEAR = 1024  # bytes of such a tag that are searched for a word of interest
_AUTHOR = ("author", "article:author", "dc.creator", "dcterms.creator", "parsely-author", "sailthru.author", "byl")
_DATED = (
    "article:published_time", "datepublished", "date", "dc.date", "dc.date.issued", "dcterms.created", "pubdate",
    "publishdate", "publish_date", "parsely-pub-date", "sailthru.date", "og:published_time",
)  # fmt: skip
_TITLE = ("og:title", "twitter:title", "dc.title")
_DAY = re.compile(r"\s*((?:19|20)\d\d)-?(0[1-9]|1[0-2])-?(0[1-9]|[12]\d|3[01])(?!\d)")
_LANGUAGE = re.compile(r"[A-Za-z]{2,3}(?:[-_][A-Za-z0-9]{2,8}){0,3}")
_COMMONS = re.compile(
    r"https?://(?:www\.)?creativecommons\.org/(licenses|publicdomain)/([a-z+-]{2,12})/(\d\.\d)?", re.I
)
_ADDRESS = re.compile(r"https?://", re.I)
_A, _LINK, _META, _TIME, _HTML = (TAG[name] for name in ("a", "link", "meta", "time", "html"))


@dataclass(frozen=True)
class Metadata:
    """`date`: of publication as the page says, YYYY-MM-DD. `language`: a BCP 47 tag as the page says. `canonical`:
    the address it says is its own, unresolved. `licence`: an address, or the words of the page. `metas`: those
    that `opt_outs` listens to."""

    title: str | None = None
    author: str | None = None
    date: str | None = None
    language: str | None = None
    canonical: str | None = None
    site: str | None = None
    licence: str | None = None
    metas: tuple[tuple[str, str], ...] = ()


def metadata(outline: Outline, page: bytes, *, header_language: str | None = None) -> Metadata:
    """What a page in UTF-8 says of itself. `header_language`: its Content-Language."""
    said, scripts = _Said(), []
    for tag, start, end, close in outline.notes.T.tolist():
        name = NAMES[tag]
        if tag == TITLE:
            said.title = said.title or title_of(page[end : close + 8].decode("utf-8", "replace"), 0) or None
        elif tag == SCRIPT:
            scripts.append(page[end : min(close, end + JSON_BYTES)])
        elif tag != _LINK or _asked(page[start:end]):
            head = page[start:end].decode("utf-8", "replace")
            said.take(tag, attributes_at(head, 1 + len(name))[0])
    for attributes in _with_rel(outline, page):
        said.rel(attributes)
    for script in scripts:
        if b'"license"' in script or not said.knows():
            said.json_ld(script)
    return said.told(header_language)


def _with_rel(outline: Outline, page: bytes) -> Iterator[dict[str, str]]:
    """Attributes of `a` elements that have a rel."""
    marked = ((outline.marks & TOLD) != 0) & (outline.tags == _A)
    for start in outline.spans[3][marked][:LINKS].tolist():
        if _asked(page[start : start + NEAR]):
            yield attributes_at(page[start : start + 4096].decode("utf-8", "replace"), 2)[0]


def _asked(tag: bytes) -> bool:
    """Whether a link may say something of interest."""
    low = tag.lower()
    return b"canonical" in low or b"licen" in low or b"author" in low


class _Said:
    """What has been said so far; the first statement of each kind holds."""

    def __init__(self) -> None:
        self.title: str | None = None
        self.metas: dict[str, str] = {}
        self.linked: dict[str, str] = {}
        self.schema: dict[str, str] = {}
        self.lang = self.time = None
        self.listened: list[tuple[str, str]] = []

    def take(self, tag: int, attributes: dict[str, str]) -> None:
        if tag == _META:
            name = attributes.get("property") or attributes.get("name") or attributes.get("itemprop")
            name = name or attributes.get("http-equiv") or ""
            if (kept := meta(attributes)) and len(self.listened) < METAS:
                self.listened.append(kept)
            if value := attributes.get("content", "").strip():
                self.metas.setdefault(name.strip().lower(), value)
        elif tag == _LINK:
            self.rel(attributes)
        elif tag == _HTML:
            self.lang = self.lang or attributes.get("lang") or attributes.get("xml:lang")
        elif tag == _TIME and ("pubdate" in attributes or "published" in attributes.get("itemprop", "").lower()):
            self.time = self.time or day(attributes.get("datetime", ""))

    def rel(self, attributes: dict[str, str]) -> None:
        for kind in attributes.get("rel", "").lower().split():
            if attributes.get("href"):
                self.linked.setdefault(kind, attributes["href"].strip())

    def json_ld(self, raw: bytes) -> None:
        try:
            found = _json(raw)
        except (ValueError, RecursionError):
            return
        for thing in _things(found, NESTED):
            for key in ("datePublished", "license", "author", "creator", "inLanguage", "headline"):
                if (value := _named(thing.get(key))) and key not in self.schema:
                    self.schema[key] = value

    def knows(self) -> bool:
        """Author, date and title are known without JSON-LD."""
        dated = self.time or any(name in self.metas for name in _DATED)
        return bool(self.title and dated and any(name in self.metas for name in _AUTHOR))

    def told(self, header_language: str | None) -> Metadata:
        author = _first(self.metas, _AUTHOR, lambda one: not _ADDRESS.match(one))
        author = author or self.schema.get("author") or self.schema.get("creator")
        dates = [self.metas.get(name, "") for name in _DATED] + [self.schema.get("datePublished", "")]
        spoken = (self.lang, self.metas.get("content-language"), header_language, self.metas.get("og:locale"))
        return Metadata(
            title=_short(self.title or _first(self.metas, _TITLE) or self.schema.get("headline")),
            author=_short(author),
            date=next((found for one in dates if (found := day(one))), self.time),
            language=next((found for one in (*spoken, self.schema.get("inLanguage")) if (found := _tag(one))), None),
            canonical=self.linked.get("canonical") or self.metas.get("og:url"),
            site=_short(self.metas.get("og:site_name")),
            licence=self._licence(),
            metas=tuple(self.listened),
        )

    def _licence(self) -> str | None:
        for one in (self.linked.get("license"), self.metas.get("dcterms.license"), self.schema.get("license")):
            if one:
                return licence(one) or _short(one)
        return next((found for one in self.metas.values() if (found := licence(one))), None)


def _json(raw: bytes) -> Any:
    """msgspec is five times as fast as json, which in turn bears line feeds inside strings."""
    try:
        return msgspec.json.decode(raw)
    except (ValueError, RecursionError):
        return json.loads(raw.decode("utf-8", "replace"), strict=False)


def licence(text: str) -> str | None:
    """The Creative Commons licence that an address names, in one spelling.

    >>> licence("http://www.creativecommons.org/licenses/BY-SA/4.0/deed.de")
    'https://creativecommons.org/licenses/by-sa/4.0/'
    """
    found = _COMMONS.search(text[:2048])
    if not found:
        return None
    return f"https://creativecommons.org/{found[1].lower()}/{found[2].lower()}/" + (f"{found[3]}/" if found[3] else "")


def day(text: str) -> str | None:
    """YYYY-MM-DD at the beginning of an ISO 8601 date.

    >>> day("20240229T0102"), day("29.2.2024")
    ('2024-02-29', None)
    """
    found = _DAY.match(text)
    return f"{found[1]}-{found[2]}-{found[3]}" if found else None


def _first(values: dict[str, str], names: tuple[str, ...], good: Any = bool) -> str | None:
    return next((values[name] for name in names if name in values and good(values[name])), None)


def _short(text: str | None) -> str | None:
    return " ".join(text.encode("utf-8", "replace").decode().split())[:LONGEST] or None if text else None


def _tag(text: str | None) -> str | None:
    """A language as a tag, if it looks like one: en_US is en-US."""
    found = _LANGUAGE.match((text or "").strip())
    return found[0].replace("_", "-") if found and found.end() == len((text or "").split(",")[0].strip()) else None


def _things(value: Any, depth: int) -> Iterator[dict[str, Any]]:
    """Every object of a JSON-LD document, outer ones first, `@graph` and lists opened."""
    if depth and isinstance(value, list):
        for one in value[:200]:
            yield from _things(one, depth - 1)
    elif depth and isinstance(value, dict):
        yield value
        for key in ("@graph", "mainEntity", "mainEntityOfPage", "itemListElement"):
            yield from _things(value.get(key), depth - 1)


def _named(value: Any) -> str | None:
    """Text, or the name or address of a thing, or those of a list joined."""
    if isinstance(value, str):
        return value.strip() or None
    if isinstance(value, dict):
        return _named(value.get("name") or value.get("url") or value.get("@id"))
    if isinstance(value, list):
        names = [name for one in value[:10] if (name := _named(one))]
        return ", ".join(names) or None
    return None
