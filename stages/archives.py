"""Archives as a source of rows: captures of web archives cut into ranges of records, of lists of ranges, of tables.

A shard says by its constants what it is: `start` and `records` (a range of a web archive), `member` (of a WACZ file),
`html` (a table with a column of pages), `ranges` (a list of places in archives that lie elsewhere).

What the root was told to forget (stages/forgotten) is damage of the reason `forgotten`, without its address.

Promises: memory of one batch of captures; damage is a row with a reason, never an end; a revisit is given the payload
it refers to where that lies in the same input. Refuses a local archive whose bytes are not those of the manifest, and
one elsewhere that has not its size.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa

from tundish.cluster import store
from tundish.cluster.shards import Damaged, Dataset, Shard, check
from tundish.operators.web.message import mime_of
from tundish.operators.web.warc import Capture, Damage, Revisit, captures
from tundish.stages.common_crawl_fetch import fetched
from tundish.stages.forgotten import REASON, Forgotten, forgotten, root_of
from tundish.stages.ingest_revisits import archive, leads
from tundish.stages.ingest_streams import opened, size_of
from tundish.stages.ingest_tables import pages

CAPTURE = pa.schema(
    [
        ("url", pa.large_string()),
        ("date", pa.string()),
        ("status", pa.int32()),
        ("mime", pa.string()),
        ("headers", pa.large_string()),  # JSON object, lower-case names
        ("payload", pa.large_binary()),
        ("truncated", pa.bool_()),
        ("opted", pa.large_string()),  # what robots.txt and tdmrep.json said of its use
        ("source", pa.string()),
        ("damage", pa.string()),
        ("detail", pa.large_string()),
    ]
)
BATCH_BYTES = 32 << 20  # payload handed on at once
NOT_HERE = "what it refers to is not in this input"


@dataclass(frozen=True)
class Archives:
    """A dataset of archive files as a `Source`; each shard may be a range of records of its file."""

    dataset: Dataset
    sample: int | None = None  # at most this many captures of each shard

    @property
    def names(self) -> tuple[str, ...]:
        return self.dataset.names

    def digests(self, name: str) -> dict[str, str]:
        return self.dataset.digests(name)

    def batches(self, name: str, rows: int) -> Iterator[pa.Table]:
        """Captures and damage, in file order; one empty table when there is nothing."""
        batch: list[dict[str, Any]] = []
        weight = given = 0
        for label, found in self.found(name):
            batch.append(_row(found, label))
            weight += len(batch[-1].get("payload") or b"")
            if len(batch) >= rows or weight >= BATCH_BYTES:
                yield pa.Table.from_pylist(batch, schema=CAPTURE)
                given += len(batch)
                batch, weight = [], 0
            if self.sample is not None and given + len(batch) >= self.sample:
                break
        if batch or not given:
            yield pa.Table.from_pylist(batch, schema=CAPTURE)

    def found(self, name: str, *, described: bool = False) -> Iterator[tuple[str, Any]]:
        """(label of the archive, what was found in it): the captures of a shard; `described`: also of WAT files."""
        shard = self.dataset.shard(name)
        uri = self.dataset.path(name)
        checked(uri, shard)
        gone = forgotten(root_of(self.dataset.uri))
        for label, one in self._found(uri, shard, described, gone):
            yield label, _let(one, gone) if gone else one

    def _found(self, uri: str, shard: Shard, described: bool, gone: Forgotten) -> Iterator[tuple[str, Any]]:
        label = shard.constants.get("label", shard.file)
        if "ranges" in shard.constants:
            yield from fetched(uri, str(self.dataset.about["base"]), described, "verify" in shard.constants)
        elif "html" in shard.constants:
            yield from ((label, page) for page in pages(uri, shard.constants))
        else:
            yield from ((label, found) for found in self._archived(uri, shard, described, gone))

    def _archived(self, uri: str, shard: Shard, described: bool, gone: Forgotten) -> Iterator[Any]:
        told = shard.constants
        start, records = int(told.get("start", 0)), int(told["records"]) if "records" in told else None
        known = (
            leads(self.dataset.uri, archive(shard.digest, told.get("member", "")), told["revisits"])
            if "revisits" in told
            else {}
        )
        asked = dict(start=start, records=records, revisits=True, described=described, verify="verify" in told)
        with opened(uri, told.get("member", "")) as stream:
            for one in captures(stream, **asked):
                yield self._answered(one, known) if isinstance(one, Revisit) and not gone.holds(one.url) else one

    def _answered(self, revisit: Revisit, known: Mapping[int, tuple[str, int]]) -> Capture | Damage:
        """A revisit with the payload of its original."""
        place = known.get(revisit.offset)
        original = self._original(*place) if place else None
        if original is None:
            return Damage(revisit.offset, "revisit", f"{revisit.url}: {NOT_HERE}")
        same = dict(url=revisit.url, date=revisit.date, offset=revisit.offset, record=revisit.record, kind="revisit")
        if revisit.status in (0, 304):  # "not modified": what holds is what was said then
            return replace(original, **same)
        mime = mime_of(revisit.headers.get("content-type", "")) or original.mime
        return replace(original, status=revisit.status, headers=revisit.headers, mime=mime, **same)

    def _original(self, name: str, offset: int) -> Capture | None:
        shard = self.dataset.shard(name)
        checked(self.dataset.path(name), shard)
        with opened(self.dataset.path(name), shard.constants.get("member", "")) as stream:
            asked = dict(start=offset, records=1, verify="verify" in shard.constants)
            found = next(iter(captures(stream, **asked)), None)
        return found if isinstance(found, Capture) and found.offset == offset else None


def _let(one: Any, gone: Forgotten) -> Any:
    """What was found, or that it is not to be had. A lost revisit names its address in words."""
    lost = isinstance(one, Damage)
    url = one.detail.partition(": ")[0] if lost and one.reason == "revisit" else "" if lost else one.url
    return Damage(one.offset, REASON, "") if gone.holds(url) else one


def checked(uri: str, shard: Shard) -> None:
    """Refuse an archive that is not the one of the manifest; what lies elsewhere is not fetched again to be hashed."""
    if store.local(uri) is not None:
        check(uri, shard)
    elif (size := size_of(uri)) != shard.size:
        raise Damaged(f"{uri} has {size} bytes and the manifest says {shard.size}; restore it, or run again")


def _row(found: Capture | Damage, label: str) -> dict[str, Any]:
    if not isinstance(found, Capture):
        return {"source": f"{label}:{found.offset}", "damage": found.reason, "detail": found.detail}
    return {
        "url": found.url,
        "date": found.date,
        "status": found.status,
        "mime": found.mime,
        "headers": json.dumps(found.headers, sort_keys=True, ensure_ascii=False),
        "payload": found.payload,
        "truncated": found.truncated,
        "opted": found.opted or None,
        "source": f"{label}:{found.offset}",
    }
