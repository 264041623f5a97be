"""Extract: captures become documents, written once; what cannot become one is dropped with its reason and counted.

Text is decoded by the ladder of operators/web/encoding, extracted by the cascade of operators/web/html and repaired
last. `dropped/` beside it holds one row for each capture that is no document. Costs about 4 ms a page. Refuses
nothing: a page that cannot be parsed never ends a run.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import pyarrow as pa

from tundish.cluster.map import map_
from tundish.cluster.shards import Dataset
from tundish.cluster.verbs import At, Cluster, Job
from tundish.operators.text import warm
from tundish.operators.text.digest import identity, payload_digest
from tundish.operators.text.repair import repaired
from tundish.operators.web import encoding, html, urls
from tundish.operators.web.links import links
from tundish.stages.archives import Archives
from tundish.stages.documents import DOCUMENT, DROPPED, table_of
from tundish.stages.stage import Place, Stage

HTML = ("text/html", "application/xhtml+xml")
TEXT = ("text/plain",)
BAD_SHARE = 0.01  # of characters that could not be decoded


class Refused(Exception):
    """A capture that is no document: reason, and what more there is to say."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(reason)
        self.reason, self.detail = reason, detail


@dataclass(frozen=True)
class Extract(Stage):
    """`archives`: what Crawl or Ingest gives."""

    version: ClassVar[int] = 2
    makes: ClassVar[tuple[str, ...]] = tuple(DOCUMENT.names)
    wants: ClassVar[Mapping[str, tuple[str, ...]]] = {"archives": ("payload",)}

    archives: Stage

    def prepare(self) -> None:
        warm.repairing()

    def run(self, cluster: Cluster, inputs: Mapping[str, Dataset], out: Place) -> Dataset:
        source = Archives(inputs["archives"], getattr(self.archives, "sample", None))
        job = Job(self.documents, (out.target(), out.target("dropped")), about={**out.about, "inside": ["dropped"]})
        [(documents, _)] = map_(cluster, "Extract", [job], source)
        return documents

    def documents(self, batch: pa.Table, at: At) -> tuple[pa.Table, pa.Table]:
        """Captures -> (documents, dropped)."""
        kept, dropped = [], []
        origin = type(self.archives).__name__.lower()
        for capture in batch.to_pylist():
            at.tally["captures"] += 1
            at.tally["bytes_in"] += len(capture["payload"] or b"")
            try:
                kept.append(self.document(capture) | {"origin": origin})
                at.tally["bytes_out"] += len(kept[-1]["text"].encode())
            except Refused as why:
                at.tally[f"dropped:{why.reason}"] += 1
                dropped.append(_dropped(capture, why, origin))
        return table_of(DOCUMENT, kept), table_of(DROPPED, dropped)

    def document(self, capture: Mapping[str, Any]) -> dict[str, Any]:
        """One capture as a document; raises `Refused`."""
        url = _address(capture)
        headers = json.loads(capture["headers"])
        payload, mime = capture["payload"], capture["mime"]
        _refuse_by_header(capture, headers)
        decoded = encoding.decode(payload, encoding.charset_of(headers.get("content-type")))
        if decoded.replaced > BAD_SHARE * max(1, len(decoded.text)):
            raise Refused("undecodable", f"{decoded.replaced} characters of {len(decoded.text)} as {decoded.encoding}")
        text, title, how, repairs = _text(decoded.text, url, mime)
        digest = payload_digest(payload)
        return {
            "id": identity([url], [digest])[0].as_py(),
            "content_digest": digest,
            "url": url,
            "host": urls.host(url),
            "text": text,
            "title": title,
            "date": capture["date"],
            "source": capture["source"],
            "mime": mime,
            "status": capture["status"],
            "encoding": decoded.encoding,
            "how": how,
            "repairs": repairs,
        }


def _address(capture: Mapping[str, Any]) -> str:
    if capture["damage"]:
        raise Refused(capture["damage"], capture["detail"] or "")
    try:
        return urls.canonical(capture["url"])
    except ValueError as error:
        raise Refused("bad_url", str(error)) from None


def _refuse_by_header(capture: Mapping[str, Any], headers: Mapping[str, str]) -> None:
    """What can be refused before a byte is decoded."""
    if capture["status"] and capture["status"] != 200:
        raise Refused(f"status_{capture['status']}")
    if capture["mime"] not in HTML + TEXT:
        raise Refused("not_text", capture["mime"] or "no content type")
    if not capture["payload"]:
        raise Refused("empty")
    if capture["truncated"]:
        raise Refused("truncated", f"{len(capture['payload'])} bytes were stored")
    if {"noindex", "none"} & {part.strip().lower() for part in headers.get("x-robots-tag", "").split(",")}:
        raise Refused("noindex", "X-Robots-Tag")


def _text(page: str, url: str, mime: str) -> tuple[str, str | None, str, list[str]]:
    """Text, title, how they were found, and what was repaired in the text. Raises `Refused`."""
    if mime in TEXT:
        text, title, how = page, None, "plain"
    else:
        try:
            if links(page, url).noindex:
                raise Refused("noindex", "meta robots")
            found = html.extract(page, url)
        except html.Unextractable as error:
            raise Refused(error.reason, str(error)) from None
        text, title, how = found.text, found.title, found.how
    text, repairs = repaired(text)
    text = text.strip()
    if not text:
        raise Refused("no_text")
    return text, title and repaired(title)[0].strip(), how, repairs


def _dropped(capture: Mapping[str, Any], why: Refused, origin: str) -> dict[str, Any]:
    url = capture["url"]
    return {"url": url, "origin": origin, "stage": "extract", "reason": why.reason, "detail": why.detail or None}
