"""What a page says of itself: title, author, date, language, canonical address, site, licence.

Read from the notes of an outline (meta, link, title, time, html, base), its JSON-LD (`json_ld`), and links with a `rel`
(of rel=author the words, of rel=license where it stands). Sources: WHATWG HTML (title, lang, base, rel=author,
rel=license, rel=canonical), Open Graph (ogp.me), Dublin Core terms, Creative Commons licence addresses.

Promises: linear in the notes; of several statements the one that is most its purpose holds, in the order of the lists
below; a licence or an author that may be a picture's is none of the page. Costs about 0.5 ms a page. Refuses nothing:
what cannot be read says nothing.
"""

import datetime
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from tundish.operators.web.elements import NAMES, SCRIPT, TAG, TITLE, TOLD
from tundish.operators.web.json_ld import is_address, parsed, stated
from tundish.operators.web.opt_outs import METAS, meta
from tundish.operators.web.outline import Outline
from tundish.operators.web.tags import attributes_at, title_of, unescaped

JSON_BYTES = 1 << 20  # of one JSON-LD script
LONGEST = 300  # characters of a name or a title
LINKS = 500  # links with a rel that are read
NEAR = 1024  # bytes of such a tag that are searched for a word of interest
AUTHORS = 3  # people whom links with rel=author name; on a page with more they are those of other pages
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
_BY = re.compile(r"(?:(?:view\s+)?(?:all\s+)?(?:posts|articles)\s+(?:by|from)|by|von|par|por)\b[\s:]*", re.I)
_RIGHTS = re.compile(r"(?!.*(?:image|photo|picture|video|media|thumb)).*(?:licen[cs]e|rights|copyright)", re.I)
_META_NAME = re.compile(rb"""\s(?:name|property|itemprop)=["']([\w:.-]+)["']""", re.I)
_UNASKED = frozenset(
    b"viewport description keywords generator theme-color referrer format-detection google-site-verification "
    b"og:description og:image og:image:url og:image:secure_url og:image:width og:image:height og:image:alt "
    b"og:image:type og:type og:updated_time twitter:card twitter:image twitter:image:src twitter:description "
    b"twitter:site twitter:creator twitter:url twitter:domain twitter:label1 twitter:data1 twitter:label2 "
    b"twitter:data2 fb:app_id fb:admins fb:pages article:section article:tag article:modified_time "
    b"article:publisher msapplication-tileimage msapplication-tilecolor msapplication-config "
    b"apple-mobile-web-app-capable apple-mobile-web-app-title mobile-web-app-capable image url position".split()
)
_A, _LINK, _META, _TIME, _HTML, _BASE = (TAG[name] for name in ("a", "link", "meta", "time", "html", "base"))
_FOOTER, _PICTURES = TAG["footer"], {TAG["figure"], TAG["figcaption"]}
PAGE, HERE = 0, 1  # where a licence stands: in a link element or the footer; elsewhere


@dataclass(frozen=True)
class Metadata:
    """`date`: of publication as the page says, YYYY-MM-DD. `language`: a BCP 47 tag as the page says. `canonical`:
    the address it says is its own, unresolved. `base`: what its addresses are to be resolved against, if it says so.
    `licence`: an address, or the words of the page. `metas`: those that `opt_outs` listens to."""

    title: str | None = None
    author: str | None = None
    date: str | None = None
    language: str | None = None
    canonical: str | None = None
    site: str | None = None
    licence: str | None = None
    base: str | None = None
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
        elif not (_unasked(page[start:end]) if tag == _META else tag == _LINK and not _asked(page[start:end])):
            head = page[start:end].decode("utf-8", "replace")
            said.take(tag, attributes_at(head, 1 + len(name))[0])
    for element, attributes in _with_rel(outline, page):
        said.rel(attributes, lambda element=element: _words(outline, page, element))
        if "license" in attributes.get("rel", "").lower().split():
            said.licensed(attributes.get("href", ""), _place(outline, element))
    if not said.knows() or any(b'"license"' in script for script in scripts):
        said.schema = stated([parsed(script) for script in scripts])
    return said.told(header_language)


def _with_rel(outline: Outline, page: bytes) -> Iterator[tuple[int, dict[str, str]]]:
    """`a` elements that have a rel, with their attributes."""
    marked = np.flatnonzero(((outline.marks & TOLD) != 0) & (outline.tags == _A))[:LINKS]
    for element, start in zip(marked.tolist(), outline.spans[3][marked].tolist(), strict=True):
        if _asked(page[start : start + NEAR]):
            yield element, attributes_at(page[start : start + 4096].decode("utf-8", "replace"), 2)[0]


def _words(outline: Outline, page: bytes, element: int) -> str:
    """What is said in an element."""
    pieces = outline.pieces[:2, outline.spans[0, element] : outline.spans[1, element]]
    text = b" ".join(page[start:end][: 2 * LONGEST] for start, end in pieces[:, :AUTHORS].T.tolist())
    return " ".join(unescaped(text.decode("utf-8", "replace")).split())


def _place(outline: Outline, element: int) -> int | None:
    """Where a licence stands; None in a figure, whose licence it may be."""
    place = HERE
    while (element := int(outline.parents[element])) >= 0:
        if outline.tags[element] in _PICTURES:
            return None
        if outline.tags[element] == _FOOTER:
            place = PAGE
    return place


def _unasked(tag: bytes) -> bool:
    """Whether a meta tag has one of the names that are in most pages and say nothing of interest."""
    found = _META_NAME.search(tag)
    return found is not None and found[1].lower() in _UNASKED


def _asked(tag: bytes) -> bool:
    """Whether a link may say something of interest."""
    low = tag.lower()
    return b"canonical" in low or b"licen" in low or b"author" in low


class _Said:
    """What has been said so far; the first statement of each kind holds."""

    def __init__(self) -> None:
        self.title: str | None = None
        self.metas: dict[str, str] = {}
        self.canonical: str | None = None
        self.schema: dict[str, str] = {}
        self.authors: dict[str, None] = {}
        self.licences: dict[int, list[str]] = {PAGE: [], HERE: []}
        self.lang = self.time = self.base = None
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
            if "license" in attributes.get("rel", "").lower().split():
                self.licensed(attributes.get("href", ""), PAGE)
        elif tag == _BASE:
            self.base = self.base or attributes.get("href", "").strip() or None
        elif tag == _HTML:
            self.lang = self.lang or attributes.get("lang") or attributes.get("xml:lang")
        elif tag == _TIME and ("pubdate" in attributes or "published" in attributes.get("itemprop", "").lower()):
            self.time = self.time or day(attributes.get("datetime", ""))

    def rel(self, attributes: dict[str, str], words: Callable[[], str] = str) -> None:
        kinds = attributes.get("rel", "").lower().split()
        if "canonical" in kinds and attributes.get("href"):
            self.canonical = self.canonical or attributes["href"].strip()
        if "author" in kinds and (name := _BY.sub("", words(), count=1)) and not is_address(name):
            self.authors[name] = None

    def licensed(self, address: str, place: int | None) -> None:
        if address.strip() and place is not None:
            self.licences[place].append(licence(address) or address.strip())

    def knows(self) -> bool:
        """Author, date and title are known without JSON-LD."""
        dated = self.time or any(name in self.metas for name in _DATED)
        return bool(self.title and dated and self._author())

    def _linked(self) -> str | None:
        """Whom links name; of "Ann Reed" and "All of Ann Reed" the former."""
        names = [name for name in self.authors if not any(one in name for one in self.authors if one != name)]
        return ", ".join(names) if len(names) <= AUTHORS else None

    def _author(self) -> str | None:
        return _first(self.metas, _AUTHOR, lambda one: not is_address(one))

    def told(self, header_language: str | None) -> Metadata:
        author = self._author() or self.schema.get("author") or self._linked()
        dates = [self.metas.get(name, "") for name in _DATED] + [self.schema.get("datePublished", "")]
        spoken = (self.lang, self.metas.get("content-language"), header_language, self.metas.get("og:locale"))
        return Metadata(
            title=_short(self.title or _first(self.metas, _TITLE) or self.schema.get("headline")),
            author=_short(author),
            date=next((found for one in dates if (found := day(one))), self.time),
            language=next((found for one in (*spoken, self.schema.get("inLanguage")) if (found := _tag(one))), None),
            canonical=self.canonical or self.metas.get("og:url"),
            site=_short(self.metas.get("og:site_name")),
            licence=self._licence(),
            base=self.base,
            metas=tuple(self.listened),
        )

    def _licence(self) -> str | None:
        """Of links those that speak for the page; where they disagree, none of them does."""
        linked = self.licences[PAGE] or self.licences[HERE]
        for one in (linked[0] if len(set(linked)) == 1 else None, self.metas.get("dcterms.license")):
            if one:
                return licence(one) or _short(one)
        if one := self.schema.get("license"):
            return licence(one) or _short(one)
        rights = (value for name, value in self.metas.items() if _RIGHTS.match(name))
        return next((found for one in rights if (found := licence(one))), None)


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
    try:
        return datetime.date(int(found[1]), int(found[2]), int(found[3])).isoformat() if found else None
    except ValueError:  # 31 February
        return None


def _first(values: dict[str, str], names: tuple[str, ...], good: Any = bool) -> str | None:
    return next((values[name] for name in names if name in values and good(values[name])), None)


def _short(text: str | None) -> str | None:
    return " ".join(text.encode("utf-8", "replace").decode().split())[:LONGEST] or None if text else None


def _tag(text: str | None) -> str | None:
    """A language as a tag, if it looks like one: en_US is en-US."""
    found = _LANGUAGE.match((text or "").strip())
    return found[0].replace("_", "-") if found and found.end() == len((text or "").split(",")[0].strip()) else None
