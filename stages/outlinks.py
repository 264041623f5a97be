"""Outlinks: who links to whom, from WAT files (which hold no page, so Extract has nothing to read) or from pages.

A row a link: `url`, `date` of the page, `target` as a canonical address, `text` and `rel` of the link, `place` (element
and attribute). `pages/` beside it holds a row a page: status, media type, headers, title, number of links.

Promises: links that lead to no http or https address are passed over; damage is counted. Of a WAT file the links and
their words, of a page in an archive the links alone. Costs 0.5 ms a page of a WAT file. Refuses nothing.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import pyarrow as pa

from tundish.cluster.map import map_
from tundish.cluster.shards import Dataset
from tundish.cluster.verbs import At, Cluster, Job
from tundish.operators.web import encoding, urls
from tundish.operators.web.links import links
from tundish.operators.web.warc import HTML, Capture, Damage
from tundish.operators.web.wat import Told
from tundish.stages.archives import Archives
from tundish.stages.stage import Place, Stage

FOLLOWED = ("A@/href", "AREA@/href", "FRAME@/src", "IFRAME@/src")
LINK = pa.schema(
    [
        ("url", pa.large_string()),
        ("date", pa.string()),
        ("target", pa.large_string()),
        ("text", pa.large_string()),
        ("rel", pa.string()),
        ("place", pa.string()),
    ]
)
_LINKS = pa.list_(pa.struct([LINK.field(n) for n in ("target", "text", "rel", "place")]))
PAGE = pa.schema(
    [
        ("url", pa.large_string()),
        ("date", pa.string()),
        ("status", pa.int32()),
        ("mime", pa.string()),
        ("headers", pa.large_string()),  # JSON object, lower-case names
        ("title", pa.large_string()),
        ("outlinks", pa.int32()),
    ]
)
_BOTH = pa.schema([*PAGE, ("links", _LINKS), ("damage", pa.string())])


@dataclass(frozen=True)
class Outlinks(Stage):
    """`archives`: what Ingest, CommonCrawl or Crawl gives. `every`: images, scripts and the like too (WAT only)."""

    makes: ClassVar[tuple[str, ...]] = tuple(LINK.names)
    wants: ClassVar[Mapping[str, tuple[str, ...]]] = {"archives": ("payload",)}

    archives: Stage
    every: bool = False

    def run(self, cluster: Cluster, inputs: Mapping[str, Dataset], out: Place) -> Dataset:
        source = Pages(Archives(inputs["archives"], getattr(self.archives, "sample", None)), self.every)
        job = Job(apart, (out.target(), out.target("pages")), about={**out.about, "inside": ["pages"]})
        [(found, _)] = map_(cluster, "Outlinks", [job], source)
        return found


@dataclass(frozen=True)
class Pages:
    """Archives as a source of pages with their links."""

    archives: Archives
    every: bool

    @property
    def names(self) -> tuple[str, ...]:
        return self.archives.names

    def digests(self, name: str) -> dict[str, str]:
        return self.archives.digests(name)

    def batches(self, name: str, rows: int) -> Iterator[pa.Table]:
        batch: list[dict[str, Any]] = []
        yield pa.Table.from_pylist([], schema=_BOTH)
        for number, (_, found) in enumerate(self.archives.found(name, described=True)):
            if self.archives.sample is not None and number >= self.archives.sample:
                break
            batch.append(_row(found, self.every))
            if len(batch) == rows:
                yield pa.Table.from_pylist(batch, schema=_BOTH)
                batch = []
        if batch:
            yield pa.Table.from_pylist(batch, schema=_BOTH)


def _row(found: Capture | Told | Damage, every: bool) -> dict[str, Any]:
    if isinstance(found, Damage):
        return {"damage": found.reason}
    held = list(_of_told(found, every) if isinstance(found, Told) else _of_page(found))
    return {
        "url": found.url,
        "date": found.date,
        "status": found.status,
        "mime": found.mime,
        "headers": json.dumps(found.headers, sort_keys=True, ensure_ascii=False),
        "title": (found.title or None) if isinstance(found, Told) else None,
        "outlinks": len(held),
        "links": held,
    }


def _of_told(page: Told, every: bool) -> Iterator[dict[str, str | None]]:
    base = _canonical(page.base, page.url) or page.url
    for link in page.links:
        target = _canonical(link.url, base) if every or link.place in FOLLOWED else None
        if target is not None:
            yield {"target": target, "text": link.text or None, "rel": link.rel or None, "place": link.place}


def _of_page(page: Capture) -> Iterator[dict[str, str | None]]:
    if page.mime not in HTML:
        return
    text = encoding.decode(page.payload, encoding.charset_of(page.headers.get("content-type"))).text
    try:
        found = links(text, page.url).urls
    except ValueError:  # its own address is none
        return
    yield from ({"target": url} for url in found)


def _canonical(address: str, base: str) -> str | None:
    try:
        return urls.canonical(address, base) if address else None
    except ValueError:
        return None


def apart(batch: pa.Table, at: At) -> tuple[pa.Table, pa.Table]:
    """Pages with their links -> (links, pages)."""
    rows, pages = [], []
    for row in batch.to_pylist():
        if row["damage"]:
            at.tally[f"damage:{row['damage']}"] += 1
            continue
        at.tally["pages"] += 1
        at.tally["kept"] += row["outlinks"]
        rows += [{"url": row["url"], "date": row["date"], **link} for link in row["links"]]
        pages.append({name: row[name] for name in PAGE.names})
    return pa.Table.from_pylist(rows, schema=LINK), pa.Table.from_pylist(pages, schema=PAGE)
