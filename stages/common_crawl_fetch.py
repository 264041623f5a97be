"""Captures by their places: ranges of archives that lie elsewhere, fetched one after the other.

Promises: neighbours in one file are one request; one connection a worker, taken up again with patience
(stages/ingest_streams); memory of one request; no name leads out of the base. Costs one request a page where pages lie
scattered. Refuses nothing: a file that is not there is damage, `missing`, and one that ends early `truncated`.
"""

import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import pyarrow.parquet as pq

from tundish.cluster import store
from tundish.operators.web.walk import STORED, Damage
from tundish.operators.web.warc import Capture, Revisit, captures
from tundish.stages.ingest_streams import opened, patiently, range_of

GAP = 32 << 10  # bytes between two ranges that are fetched along with them: cheaper than another request
MOST = 8 << 20  # bytes of a request, unless one range alone is larger
WHOLE = -1  # length of a range that is the whole file


@dataclass(frozen=True)
class Request:
    """Bytes of a file, and the ranges (offset, length) that lie in them."""

    file: str
    start: int
    stop: int
    ranges: tuple[tuple[int, int], ...]


def requests(places: Iterator[tuple[str, int, int]]) -> Iterator[Request]:
    """(file, offset, length), sorted, as few requests as `GAP` and `MOST` allow.

    >>> [(r.start, r.stop) for r in requests(iter([("a", 0, 10), ("a", 20, 5), ("a", 10**6, 5), ("b", 0, 1)]))]
    [(0, 25), (1000000, 1000005), (0, 1)]
    """
    now: Request | None = None
    for file, offset, length in places:
        stop = offset + min(length, STORED)
        if now and file == now.file and length > 0 and 0 <= offset - now.stop <= GAP and stop - now.start <= MOST:
            now = replace(now, stop=stop, ranges=(*now.ranges, (offset, length)))
            continue
        if now:
            yield now
        now = Request(file, offset, stop, ((offset, length),))
    if now:
        yield now


def fetched(uri: str, base: str, described: bool = False, verify: bool = False) -> Iterator[tuple[str, Any]]:
    """(file, what `captures` finds) for each place in a table of (filename, offset, length) at `uri`."""
    asked = {"revisits": True, "described": described, "verify": verify}
    for one in requests(_places(uri)):
        where = store.join(base, one.file)
        if not below(one.file) or one.start < 0 or (one.stop <= one.start and one.ranges[0][1] != WHOLE):
            yield (
                one.file,
                Damage(one.start, "missing", f"{one.ranges[0]} of {one.file[:200]!r} is no place in the crawl"),
            )
            continue
        try:
            found = _whole(where, asked) if one.ranges[0][1] == WHOLE else _ranges(where, one, asked)
            yield from ((one.file, capture) for capture in found)
        except FileNotFoundError:
            yield one.file, Damage(one.start, "missing", where)


def below(path: str) -> bool:
    """Whether a path from a list stays below the base it is joined to.

    >>> below("crawl-data/a.warc.gz"), below("/etc/passwd"), below("a/../../b"), below("file:///etc")
    (True, False, False, False)
    """
    return bool(path) and not path.startswith("/") and ".." not in path.split("/") and "://" not in path


def _places(uri: str) -> Iterator[tuple[str, int, int]]:
    with store.opened(uri) as stream:
        for batch in pq.ParquetFile(stream).iter_batches(4096, columns=["filename", "offset", "length"]):
            for row in batch.to_pylist():
                yield row["filename"], row["offset"], row["length"]


def _whole(uri: str, asked: Mapping[str, Any]) -> Iterator[Any]:
    try:
        stream = opened(uri)
    except ValueError as error:
        if isinstance(error.__cause__, FileNotFoundError):
            raise error.__cause__ from None
        raise
    with stream:
        yield from map(_told, captures(stream, **asked))


def _told(found: Any) -> Any:
    """A revisit, whose original lies in some other file of the crawl, is counted as one."""
    return Damage(found.offset, "revisit", found.url) if isinstance(found, Revisit) else found


def _ranges(uri: str, one: Request, asked: Mapping[str, Any]) -> Iterator[Any]:
    body = patiently(uri, lambda: range_of(uri, one.start, one.stop - one.start))
    for offset, length in one.ranges:
        piece = body[offset - one.start : offset - one.start + length]
        if len(piece) < length:
            yield Damage(offset, "truncated", f"{len(piece)} of {length} bytes are there")
        for found in map(_told, captures(io.BytesIO(piece), records=1, **asked)):
            yield replace(found, offset=offset + found.offset) if isinstance(found, Capture | Damage) else found
