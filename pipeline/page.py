"""page: one address as it was archived, as it was read, and what was decided of it, side by side in one HTML file.

Promises: the archived page is shown in a frame that may run no script, open nothing and ask nobody for anything; the
text is that of the documents, whole. Costs one record of an archive and one row of the documents. Refuses an address
that no run met, with the nearest known one.
"""

import io
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import jinja2
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from tundish.cluster import store
from tundish.cluster.shards import Dataset, Shard
from tundish.operators.web import encoding
from tundish.operators.web.message import undone
from tundish.operators.web.warc import Capture, captures
from tundish.pipeline.funnel import Ran, ran
from tundish.pipeline.judgements import Found, row_at, rows_of
from tundish.pipeline.why import logs, way
from tundish.stages.archives import Archives
from tundish.stages.common_crawl_fetch import WHOLE, below
from tundish.stages.crawl_earlier import payload_of
from tundish.stages.crawl_visit import lowered
from tundish.stages.ingest_streams import range_of

TEMPLATE = Path(__file__).with_name("page.html.j2")
# No script runs and no form is sent because the frame is sandboxed; nothing is fetched because of this.
POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; font-src data:"


def page(root: str, what: str, out: str | None = None, run: str | None = None) -> str:
    """Write the page of a URL or id; returns its URI (`<root>/page.html`, unless `out` says otherwise)."""
    past = ran(root, run)
    events, chain, found = way(past, root, what)
    capture = next(_archived(past, chain, found), None)
    shown = {
        "what": what,
        "events": events,
        "archived": _framed(capture) if capture else None,
        "place": capture[1] if capture else None,
        "texts": [(one.told, row_at(one.base, one.shard, one.row, "text", "title")) for one in found],
    }
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    uri = out or store.join(root, "page.html")
    store.write(uri, environment.from_string(TEMPLATE.read_text(encoding="utf-8")).render(shown).encode())
    return uri


Archived = tuple[bytes, str, str]  # payload, where it lies, Content-Type


def _archived(past: Ran, chain: set[str], found: list[Found]) -> Iterator[Archived]:
    """Captures of the address, those of a crawl first."""
    for address, log in logs(past):
        for name, row in rows_of(log, "url", chain, log.read(log.names[0]).schema.field("url").type):
            told = row_at(log, name, row, "url", "archive", "offset", "held")
            if told.get("held"):
                answer = payload_of(told["held"], told["url"])
                headers = lowered(answer)
                yield undone(answer.body, headers)[0], told["held"], headers.get("content-type", "")
            elif told["archive"]:
                yield from _read(store.join(past.root, address, told["archive"]), told["offset"])
    sources = [document.told["source"] for document in found]
    for source in dict.fromkeys([*sources, *_dropped(past, chain)]):
        label, _, offset = (source or "").rpartition(":")
        for address in [*past.of("Ingest"), *past.of("CommonCrawl")] if offset.isdigit() else ():
            yield from _ingested(past.datasets[address], label, int(offset))


def _dropped(past: Ran, chain: set[str]) -> Iterator[str]:
    """Where captures lie that became no document: pages that one looks at more than at any other."""
    for address in past.of("Extract"):
        if (dropped := past.inside(address, "dropped")) is not None:
            for name, row in rows_of(dropped, "url", chain, pa.large_string()):
                yield row_at(dropped, name, row, "source")["source"]


def _ingested(dataset: Dataset, label: str, offset: int) -> Iterator[Archived]:
    """A capture of archives, members of WACZ files, tables or ranges, as Extract was given it."""
    for shard in dataset.shards:
        told = shard.constants
        if "ranges" in told:
            yield from _fetched(dataset, shard, label, offset)
            continue
        if told.get("label", shard.file) != label:
            continue
        if "html" not in told:  # one record of a web archive
            shard = replace(shard, constants=told | {"start": str(offset), "records": "1"})
        archives = Archives(replace(dataset, shards=(shard,)))
        for where, one in archives.found(shard.name):
            if isinstance(one, Capture) and (where, one.offset) == (label, offset):
                place = f"{label} at {offset}" if "member" in told else f"{dataset.path(shard.name)} at {offset}"
                yield one.payload, place, one.headers.get("content-type", one.mime)
                return


def _fetched(dataset: Dataset, shard: Shard, file: str, offset: int) -> Iterator[Archived]:
    """The one range of a crawl elsewhere that a capture lies in."""
    with store.opened(dataset.path(shard.name)) as stream:
        places = pq.read_table(stream, columns=["filename", "offset", "length"])
    there = (pc.field("offset") == offset) | (pc.field("length") == WHOLE)
    length = places.filter((pc.field("filename") == file) & there)["length"].to_pylist()
    uri = store.join(str(dataset.about["base"]), file) if below(file) else ""
    if length and uri and length[0] == WHOLE:
        yield from _read(uri, offset)
    elif length and uri:
        for one in captures(io.BytesIO(range_of(uri, offset, length[0])), records=1):
            if isinstance(one, Capture):
                yield one.payload, f"{uri} at {offset}", one.headers.get("content-type", one.mime)


def _read(uri: str, offset: int) -> Iterator[Archived]:
    if not store.exists(uri):
        return
    with store.opened(uri) as stream:
        for one in captures(stream, start=offset, records=1):
            if isinstance(one, Capture):
                yield one.payload, f"{uri} at {offset}", one.headers.get("content-type", one.mime)


def _framed(archived: Archived) -> str:
    """A payload as the document of a frame: markup as it is, all else as text."""
    body, _, kind = archived
    text = encoding.decode(body, encoding.charset_of(kind)).text
    guard = f'<!doctype html><meta http-equiv="Content-Security-Policy" content="{POLICY}"><base target="_blank">'
    if "html" in kind or not kind:
        return guard + text
    return guard + "<pre>" + text.replace("&", "&amp;").replace("<", "&lt;") + "</pre>"
