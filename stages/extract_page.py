"""One capture as a document, or the reason why it is none: what Extract does with each, in a process of its own.

Everything here runs on bytes from strangers. Promises: the same answer for the same capture; what is refused says why.
Costs 5 ms a page of 200 KB in `fast`. Refuses nothing with an exception: `Refused` is an answer.
"""

import json
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
BAD_SHARE = 0.01  # of characters that could not be decoded
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
            return self.document(capture)
        except Refused as why:
            return Dropped(why.reason, why.detail)

    def warm(self) -> None:
        """Load (or, for the first time on a machine, compile) what a page needs, so that no page pays for it."""
        head = {"url": "http://warm.example/", "date": "2026-11-21T00:00:00Z", "status": 200, "mime": "text/html"}
        rest = {"truncated": False, "headers": "{}", "opted": None, "damage": None, "source": "warm"}
        for payload in (WARM, WARM + b"\xe4\xf6\xfc"):
            made = Extraction("best", self.format, True)(head | rest | {"payload": payload})
            assert not isinstance(made, Dropped), made

    def document(self, capture: Mapping[str, Any]) -> dict[str, Any]:
        """One capture as a document; raises `Refused`."""
        url = _address(capture)
        headers = json.loads(capture["headers"])
        now = moment(capture["date"] or "")
        _refuse_by_header(capture, headers, now)
        payload, mime = capture["payload"], capture["mime"]
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


def _refuse_by_header(capture: Mapping[str, Any], headers: Mapping[str, str], now: float | None) -> None:
    """What can be refused before a byte is decoded."""
    if capture["status"] and capture["status"] != 200:
        raise Refused(f"status_{capture['status']}")
    if capture["mime"] not in HTML + TEXT:
        raise Refused("not_text", capture["mime"] or "no content type")
    if not capture["payload"]:
        raise Refused("empty")
    if capture["truncated"]:
        raise Refused("truncated", f"{len(capture['payload'])} bytes were stored")
    if "noindex" in directives([headers.get("x-robots-tag", "")], "", now):
        raise Refused("noindex", "X-Robots-Tag")


def _told(page: _Page, url: str, headers: Mapping[str, str]) -> dict[str, Any]:
    """What the page says of itself, for `pages` beside the documents."""
    about = page.about
    return {
        "author": about.author,
        "published": about.date,
        "said_language": about.language or (headers.get("content-language", "").split(",")[0].strip() or None),
        "canonical": _resolved(about.canonical, url),
        "site": about.site,
        "licence": about.licence,
        "expected": page.expected,
        "links": [{"url": to, "text": one.text} for one in page.links if (to := _resolved(one.href, url))],
    }


def _resolved(href: str | None, base: str) -> str | None:
    try:
        return urls.canonical(href, base) if href else None
    except ValueError:
        return None
