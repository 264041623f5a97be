"""One capture as a document, or the reason why it is none: what Extract does with each, in a process of its own.

Everything here runs on bytes from strangers. Promises: the same answer for the same capture; what is refused says why,
and an exception that nobody foresaw is the page's own (`extract_error`). Costs 5 ms a page of 200 KB in `fast`. Refuses
nothing with an exception but MemoryError, which says more of the process than of the page.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from tundish.operators.text.digest import payload_digest
from tundish.operators.web import encoding, html, urls
from tundish.operators.web.directives import directives, moment
from tundish.operators.web.metadata import Metadata
from tundish.operators.web.opt_outs import BETWEEN, opt_outs

HTML = ("text/html", "application/xhtml+xml")
TEXT = ("text/plain",)
UNTOLD = ("", "unknown/unknown", "application/unknown", "*/*")  # types that say nothing (WHATWG MIME Sniffing, 7)
ERROR = "extract_error"
DETAIL = 500  # characters of what an exception says
BAD_SHARE = 0.01  # of characters that could not be decoded
# Beginnings that make a page of bytes without a type (WHATWG MIME Sniffing, 7.1), behind an XML declaration too.
_IS_HTML = re.compile(
    rb"(?:\xef\xbb\xbf)?[\t\n\f\r ]*+(?:<\?xml[^>]{0,200}>[\t\n\f\r ]*+)?(?:<!--|<(?:!doctype html|html|head|"
    rb"script|iframe|h1|div|font|table|a|style|title|b|body|br|p)[ >])",
    re.IGNORECASE,
)
WARM = b"<title>Warm</title><p>Words of a page that is looked at before any other, <a href=x>links</a> too.</p>"


class Refused(Exception):
    """A capture that is no document: reason, and what more there is to say."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(reason)
        self.reason, self.detail = reason, detail


class Dropped(NamedTuple):
    """Why a capture is no document."""

    reason: str
    detail: str


@dataclass(frozen=True)
class _Page:
    """What was found in a payload."""

    text: str
    how: str
    title: str | None = None
    expected: float | None = None
    about: Metadata = field(default_factory=Metadata)
    links: tuple[html.Link, ...] = ()


@dataclass(frozen=True)
class Extraction:
    """How pages are extracted; called with a capture. See `Extract` for the fields."""

    how: html.How
    format: html.Form
    links: bool

    def __call__(self, capture: Mapping[str, Any]) -> dict[str, Any] | Dropped:
        """The columns of a document (no id, its text not yet repaired) and of its page, or why there is none."""
        try:
            return _whole(self.document(capture))
        except Refused as why:
            return Dropped(why.reason, why.detail)
        except MemoryError:
            raise
        except Exception as error:  # whatever a stranger's bytes have brought about, the next page is another's
            said = " ".join(str(error).encode("utf-8", "replace").decode().split())
            return Dropped(ERROR, f"{type(error).__name__}: {said[:DETAIL]}")

    def warm(self) -> None:
        """Load (or, for the first time on a machine, compile) what a page needs, so that no page pays for it."""
        head = {"url": "http://warm.example/", "date": "2026-11-21T00:00:00Z", "status": 200, "mime": "text/html"}
        rest = {"truncated": False, "headers": "{}", "opted": None, "damage": None, "source": "warm"}
        for payload in (WARM, WARM + b"\xe4\xf6\xfc"):
            Extraction("best", self.format, True).document(head | rest | {"payload": payload})

    def document(self, capture: Mapping[str, Any]) -> dict[str, Any]:
        """One capture as a document; raises `Refused`."""
        url = _address(capture)
        headers = json.loads(capture["headers"])
        now = moment(capture["date"] or "")
        _refuse_by_header(capture, headers, now)
        payload, mime = capture["payload"], _type(capture)
        decoded = encoding.decode(payload, encoding.charset_of(headers.get("content-type")))
        if decoded.replaced > BAD_SHARE * max(1, len(decoded.text)):
            raise Refused("undecodable", f"{decoded.replaced} characters of {len(decoded.text)} as {decoded.encoding}")
        page = self._page(decoded.text, decoded.utf8(payload), url, mime, now)
        site = (capture.get("opted") or "").split(BETWEEN)
        return {
            "content_digest": payload_digest(payload),
            "url": url,
            "host": urls.host(url),
            "text": page.text,
            "title": page.title,
            "date": capture["date"],
            "source": capture["source"],
            "mime": mime,
            "status": capture["status"],
            "encoding": decoded.encoding,
            "how": page.how,
            "opt_outs": list(opt_outs(headers.items(), page.about.metas, site)),
            **_told(page, url, headers),
        }

    def _page(self, text: str, raw: bytes, url: str, mime: str, now: float | None) -> _Page:
        if mime in TEXT:
            return _Page(text, "plain")
        try:
            found = html.extract(text, url, how=self.how, form=self.format, links=self.links, raw=raw)
        except html.Unextractable as error:
            raise Refused(error.reason, str(error)) from None
        robots = [content for name, content in found.about.metas if name == "robots"]
        if "noindex" in directives(robots, "", now, scoped=False):
            raise Refused("noindex", "meta robots")
        return _Page(found.text, found.how, found.title, found.expected, found.about, found.links)


def _address(capture: Mapping[str, Any]) -> str:
    if capture["damage"]:
        raise Refused(capture["damage"], capture["detail"] or "")
    try:
        return urls.canonical(capture["url"])
    except ValueError as error:
        raise Refused("bad_url", str(error)) from None


def _whole(document: dict[str, Any]) -> dict[str, Any]:
    """Refuse half of a surrogate pair here, where it costs its page, and not where the column is made."""
    for value in document.values():
        if isinstance(value, str):
            value.encode()
    return document


def _type(capture: Mapping[str, Any]) -> str:
    """The media type; that of bytes without one, if they look like a page."""
    told: str = capture["mime"] or ""
    return HTML[0] if told in UNTOLD and _IS_HTML.match(capture["payload"] or b"") else told


def _refuse_by_header(capture: Mapping[str, Any], headers: Mapping[str, str], now: float | None) -> None:
    """What can be refused before a byte is decoded."""
    if capture["status"] and capture["status"] != 200:
        raise Refused(f"status_{capture['status']}")
    if (told := _type(capture)) not in HTML + TEXT:
        raise Refused("not_text", told or "no content type")
    if not capture["payload"]:
        raise Refused("empty")
    if capture["truncated"]:
        raise Refused("truncated", f"{len(capture['payload'])} bytes were stored")
    if "noindex" in directives([headers.get("x-robots-tag", "")], "", now):
        raise Refused("noindex", "X-Robots-Tag")


def _told(page: _Page, url: str, headers: Mapping[str, str]) -> dict[str, Any]:
    """What the page says of itself, for `pages` beside the documents."""
    about = page.about
    base = _resolved(about.base, url) or url
    return {
        "author": about.author,
        "published": about.date,
        "said_language": about.language or (headers.get("content-language", "").split(",")[0].strip() or None),
        "canonical": _resolved(about.canonical, base),
        "site": about.site,
        "licence": about.licence,
        "expected": page.expected,
        "links": [{"url": to, "text": one.text} for one in page.links if (to := _resolved(one.href, base))],
    }


def _resolved(href: str | None, base: str) -> str | None:
    try:
        return urls.canonical(href, base) if href else None
    except ValueError:
        return None
