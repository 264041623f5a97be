"""Revisits of an input, and where in the same input lies what they refer to.

Promises: the same table for any number of workers; an original is named by shard and offset, never by a path, so an
input that was moved is the same input. Costs one more pass over the archives, and only where there are revisits at all.
Refuses nothing: a revisit without its original stays one, and is counted as `revisit` by who reads it.
"""

import functools
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from tundish.cluster import store
from tundish.cluster.shards import Shard, digest_of, opened
from tundish.cluster.target import Target
from tundish.operators.web.arc import records_of
from tundish.operators.web.revisit import originals, revisit_of
from tundish.operators.web.walk import Damage
from tundish.stages import ingest_streams

INSIDE = "revisits"
TABLE = pa.schema(
    [
        ("archive", pa.string()),  # with the revisit, and its offset there
        ("offset", pa.int64()),
        ("shard", pa.string()),  # a shard of the archive with the original, and its offset there
        ("original", pa.int64()),
        ("key", pa.large_string()),  # by which it was found
    ]
)


@dataclass(frozen=True)
class Survey:
    """What one pass over an archive found: records by type, damage by reason, and the keys of its revisits."""

    counts: dict[str, int]
    revisits: tuple[tuple[int, tuple[str, ...]], ...]


def survey(stream: Any) -> Survey:
    """Count the records of an archive and note its revisits; no block is read."""
    counts: Counter[str] = Counter()
    revisits = []
    for found in records_of(stream):
        if isinstance(found, Damage):
            counts[f"damage:{found.reason}"] += 1
            continue
        kind = str(found.record.record_type).rpartition(".")[2]
        counts[f"record:{kind}"] += 1
        if kind == "revisit":
            head = {name.lower(): value for name, value in found.record.headers.items()}
            revisits.append((found.offset, revisit_of(head, b"", found.offset).keys))
    return Survey(dict(sorted(counts.items())), tuple(revisits))


@dataclass(frozen=True)
class Look:
    """(number, uri, member) -> (number, {key: offset}) of the wanted keys the archive has; its first one of each."""

    wanted: frozenset[str]

    def __call__(self, item: tuple[int, str, str]) -> tuple[int, dict[str, int]]:
        number, uri, member = item
        found: dict[str, int] = {}
        with ingest_streams.opened(uri, member) as stream:
            for key, offset in originals(stream, self.wanted):
                found.setdefault(key, offset)
        return number, found


def matched(
    archives: Sequence[str], surveys: Sequence[Survey], found: Mapping[int, Mapping[str, int]], shards: Sequence[str]
) -> list[dict[str, Any]]:
    """Rows of `TABLE`: each revisit by its surest key that any archive has, of several archives the first.

    `archives`, `surveys`, `shards` (the first shard of each) and the keys of `found` go by the number of the archive.
    """
    where: dict[str, tuple[int, int]] = {}
    for number in sorted(found):
        for key, offset in found[number].items():
            where.setdefault(key, (number, offset))
    rows = []
    for name, one in zip(archives, surveys, strict=True):
        for offset, keys in one.revisits:
            key = next((key for key in keys if key in where), None)
            if key is not None:
                number, original = where[key]
                rows.append(
                    {"archive": name, "offset": offset, "shard": shards[number], "original": original, "key": key}
                )
    return rows


def written(rows: Sequence[Mapping[str, Any]], target: Target, about: Mapping[str, Any]) -> Shard:
    """Seal the table beside the archives."""
    writer = target.writer("part-00000")
    try:
        writer.write(pa.Table.from_pylist(list(rows), schema=TABLE))
        shard = writer.finish({}, {"found": len(rows)})
    except BaseException as error:
        writer.abandon(error)
        raise
    target.seal([shard], **about)
    return shard


def archive(digest: str, member: str) -> str:
    """What names an archive, wherever it lies."""
    return f"{digest}/{member}" if member else digest


def digests(rows: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Archive -> digest of what its revisits lead to: a part of what decides its captures."""
    by_archive: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        by_archive.setdefault(row["archive"], []).append(row)
    return {name: digest_of(held) for name, held in by_archive.items()}


@functools.lru_cache(maxsize=16)
def leads(uri: str, name: str, digest: str) -> dict[int, tuple[str, int]]:
    """Offset of a revisit -> (shard, offset) of its original, for one archive of the dataset at `uri`.

    `digest`: what `digests` gives for it. Raises ValueError where the table is gone or another.
    """
    table = opened(store.join(uri, INSIDE))
    rows = [] if table is None else table.table().filter(pc.field("archive") == name).to_pylist()
    if digests(rows).get(name) != digest:
        raise ValueError(f"{store.join(uri, INSIDE)} is not what its manifest says; delete {uri} and run again")
    return {row["offset"]: (row["shard"], row["original"]) for row in rows}
