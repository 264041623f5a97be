"""Sitemaps (sitemaps.org 0.9): the pages and the further sitemaps a file names; XML, gzip, plain text, RSS and Atom.

Promises: whatever the bytes, every entry that can be read, before and after the damage; time linear, memory bounded by
the caps; entities are not resolved, so none can grow, and nothing is fetched. Costs about 30 us an entry. Refuses
nothing. Whose addresses a sitemap may name is the caller's rule: `same_domain` is the one of sitemaps.org, widened from
the host to its registrable domain.

Tags are looked for, no tree is built: one bare `&`, which many sitemaps have, makes no XML of the file, and a parser
that goes on behind it (libxml2 does on request) loses the `&amp;` of all addresses that follow.
"""

import re
import zlib
from collections.abc import Iterable
from typing import NamedTuple

from tundish.operators.web import encoding
from tundish.operators.web.directives import moment
from tundish.operators.web.tags import attributes_at, resolved
from tundish.operators.web.urls import canonical, host, registrable

BYTES = 50 << 20  # decoded; both caps are the protocol's own
ENTRIES = 50_000
LINE = 8 << 10  # characters of an address, or of a date
NESTED = 64  # elements inside an entry
TAGS = 2_000_000  # start and end tags of a file that are looked at; 50,000 entries with five images each have as many
_GZIP = b"\x1f\x8b"
_MARKUP = re.compile(r"<(?:(!--)|(!\[CDATA\[)|(/?)(?:([A-Za-z_][\w.-]{0,63}+):)?([A-Za-z_][\w.-]{0,63}+)(?=[\s/>]))")
_ENTITY = re.compile(r"&[^\s;&]{1,64}+;")
_DATES = ("lastmod", "updated", "pubdate", "date", "published")  # the protocol, Atom, RSS 2.0, RSS 1.0, Atom again
_ENTRIES = frozenset({"url", "sitemap", "item", "entry"})
_LISTED = frozenset({"url", "sitemap"})


class Entry(NamedTuple):
    """An address, canonical, and when it last changed (seconds since 1970; None: not said)."""

    url: str
    changed: float | None = None


class _Reader:
    """What has been read: the entries, and the one under way with the elements that are open inside it."""

    def __init__(self, page: str) -> None:
        self.page = page
        self.entities = "<!ENTITY" in page[:LINE]  # then what looks like a reference may be one of the file's own
        self.pages: list[tuple[str, str]] = []
        self.further: list[tuple[str, str]] = []
        self.kind, self.prefix = "", ""
        self.open: list[str] = []
        self.urls: list[str] = []
        self.dates: dict[str, str] = {}
        self.bracket = -1  # the next ">", looked for once
        self.full = False

    def close(self) -> None:
        date = next((self.dates[name] for name in _DATES if name in self.dates), "")
        (self.further if self.kind == "sitemap" else self.pages).extend((url, date) for url in self.urls)
        self.kind, self.open, self.urls, self.dates = "", [], [], {}

    def start(self, prefix: str, name: str, at: int) -> None:
        """A start tag whose name ends at `at`."""
        end = self.bracket = self.bracket if self.bracket >= at - 1 else self.page.find(">", at - 1)
        if end < 0:
            self.full = True  # no tag ends any more
            return
        attributes: dict[str, str] = {}
        if name == "link" and self.kind in ("item", "entry") and end - at < LINE:
            attributes, _ = attributes_at(self.page[at : end + 1], 0)
        if name in _ENTRIES and (self.kind in ("", name) or self.kind in _LISTED):
            self.close()
            self.kind, self.prefix = name, prefix
        elif self.kind:
            if not self.open:
                self._take(prefix, name, attributes, end + 1)
            if self.page[end - 1] != "/" and len(self.open) < NESTED:
                self.open.append(name)
        self.full = len(self.pages) + len(self.further) + len(self.urls) >= ENTRIES

    def end(self, name: str) -> None:
        if name == self.kind and name not in self.open:
            self.close()
        elif name in self.open:
            while self.open.pop() != name:
                pass

    def _take(self, prefix: str, name: str, attributes: dict[str, str], at: int) -> None:
        """An element directly inside an entry: its address, or its date."""
        if name == "loc" and self.kind in _LISTED and prefix == self.prefix:  # else an image's or a video's
            self.urls.append(self._text(at))
        elif name == "link" and self.kind in ("item", "entry") and attributes.get("rel", "alternate") == "alternate":
            self.urls.append(attributes.get("href") or self._text(at))
        elif name in _DATES:
            self.dates.setdefault(name, self._text(at).strip())

    def _text(self, at: int) -> str:
        """What stands between a tag and the next one."""
        end = self.page.find("<", at, at + LINE)
        if end < 0:
            return ""
        text = resolved(self.page[at:end])
        if self.page.startswith("<![CDATA[", end):
            close = self.page.find("]]>", end, end + LINE)
            return text + self.page[end + 9 : close] if close > 0 else ""
        return "" if self.entities and _ENTITY.search(text) else text


def sitemap(body: bytes) -> tuple[list[str], list[str]]:
    """(page URLs, further sitemaps), canonical, distinct, in file order.

    >>> sitemap(b"<urlset><url><loc> http://heron.example/a </loc></url><url><loc>b</loc></url></urlset>")
    (['http://heron.example/a'], [])
    """
    pages, further = entries(body)
    return [entry.url for entry in pages], [entry.url for entry in further]


def entries(body: bytes) -> tuple[list[Entry], list[Entry]]:
    """(pages, further sitemaps) with the dates the file gives them, distinct, in file order.

    >>> pages, _ = entries(b"<urlset><url><loc>http://heron.example/</loc><lastmod>1970-01-02</lastmod></url></urlset>")
    >>> pages
    [Entry(url='http://heron.example/', changed=86400.0)]
    """
    body = _plain(body)
    start = body[:1024].lstrip(b"\xef\xbb\xbf\xff\xfe\0 \t\r\n")
    if not start.startswith(b"<"):
        return _distinct((line, "") for line in _lines(body)), []
    found = _read(encoding.decode(body).text)
    return _distinct(found.pages), _distinct(found.further)


def same_domain(found: Iterable[Entry], of: str) -> list[Entry]:
    """Those entries that lie in the registrable domain of the sitemap's own address.

    >>> same_domain([Entry("http://www.heron.example/"), Entry("http://kranich.test/")], "http://heron.example/s.xml")
    [Entry(url='http://www.heron.example/', changed=None)]
    """
    own, known = registrable(host(of)), {}
    kept = []
    for entry in found:
        place = entry.url.split("/", 3)[2]
        if place not in known:
            known[place] = registrable(host(entry.url)) == own
        if known[place]:
            kept.append(entry)
    return kept


def _lines(body: bytes) -> list[str]:
    lines = re.split(r"\r\n|[\r\n]", encoding.decode(body).text, maxsplit=ENTRIES)
    return [line for line in lines[:ENTRIES] if len(line) <= LINE]


def _plain(body: bytes) -> bytes:
    """Gzip undone, also doubled, up to the cap; what precedes damage is kept."""
    for _ in range(2):
        if not body.startswith(_GZIP):
            break
        body = _gunzipped(body)
    return body[:BYTES]


def _gunzipped(body: bytes) -> bytes:
    step, out = zlib.decompressobj(31), bytearray()
    for low in range(0, len(body), 1 << 14):
        try:
            out += step.decompress(step.unconsumed_tail + body[low : low + (1 << 14)], BYTES - len(out) or 1)
        except zlib.error:
            break
        if step.eof or len(out) >= BYTES:
            break
    return bytes(out)


def _read(page: str) -> _Reader:
    found, at = _Reader(page), 0
    for _ in range(TAGS):
        if found.full or not (markup := _MARKUP.search(page, at)):
            break
        at = markup.end()
        if markup[1] or markup[2]:
            at = page.find("-->" if markup[1] else "]]>", at)
            if at < 0:
                break
        elif markup[3]:
            found.end(markup[5].lower())
        else:
            found.start(markup[4] or "", markup[5].lower(), at)
    found.close()  # an entry that was never closed has an address all the same
    return found


def _distinct(found: Iterable[tuple[str, str]]) -> list[Entry]:
    """Addresses in their one spelling; of several dates of one the latest."""
    kept: dict[str, float | None] = {}
    for url, date in found:
        try:
            spelt = canonical(url.strip())
        except ValueError:  # no address
            continue
        changed, known = moment(date) if date else None, kept.get(spelt)
        kept[spelt] = changed if known is None else max(known, changed or known)
    return [Entry(url, changed) for url, changed in kept.items()]
