"""Forgetting in web archives: the place of a record is taken by one that says nothing, and no other byte moves.

A run of forgotten records (request and response of a page, its revisits) becomes one `metadata` record of exactly as
many stored bytes, so that every offset that anybody keeps (`source` of documents, the crawl's log, CDXJ lines, later
crawls in other roots that refer back) stays right, and whoever reads the archive finds whole records as before.

Promises: every other record keeps its bytes and its offset; the same archive and the same forgetting give the same
bytes. Costs one pass of reading to find the records, a copy of an archive that holds some, and two more passes to see
that it reads as it did. Refuses an archive that does not, and a record of fewer than `LEAST` stored bytes.
"""

import struct
import zlib
from bisect import bisect_right
from collections.abc import Sequence
from typing import Any, BinaryIO

from fastwarc.warc import WarcRecordType

from tundish.cluster import store
from tundish.operators.web.arc import records_of
from tundish.operators.web.walk import Damage
from tundish.operators.web.warc_write import record_id
from tundish.stages.forgotten import Forgotten

TEXT = b"forgotten: what stood here was removed\r\n"
GZIP = b"\x1f\x8b\x08\0\0\0\0\0\0\xff"  # no name, no time
ZSTD = b"\x28\xb5\x2f\xfd"
GZ_BLOCK, ZST_BLOCK = 0xFFFF, 128 << 10  # bytes of a stored block, at most: RFC 1951, RFC 8878
LEAST = 200  # stored bytes in which a record fits
Place = tuple[int, int, int]  # first byte, byte behind the last, captures
CAPTURE = int(WarcRecordType.response | WarcRecordType.revisit | WarcRecordType.resource)


def places(stream: BinaryIO, size: int, forgotten: Forgotten) -> list[Place]:
    """Where the records of forgotten addresses lie, neighbours as one. Damage, and what follows it, is left alone."""
    found: list[Place] = []
    start, capture = None, 0  # of a forgotten record whose end is not known yet
    for one in records_of(stream):
        if start is not None:
            _join(found, (start, one.offset, capture))
        start = None
        if isinstance(one, Damage):
            continue
        if forgotten.holds(one.record.headers.get("WARC-Target-URI", "").strip("<>")):
            start, capture = one.offset, int(bool(int(one.record.record_type) & CAPTURE))
    if start is not None:
        _join(found, (start, size, capture))
    return found


def _join(found: list[Place], more: Place) -> None:
    if found and found[-1][1] == more[0]:
        start, _, captures = found.pop()
        more = (start, more[1], captures + more[2])
    found.append(more)


def rewritten(uri: str, out: str, gone: Sequence[Place], date: str) -> store.Written:
    """A copy of an archive with these places filled. Raises ValueError where it does not read as it did."""
    form = "zst" if uri.endswith(".zst") else "gz"
    with store.opened(uri) as stream, store.written(out) as (sink, told):
        at = 0
        for start, stop, _ in gone:
            _copied(stream, sink, start - at)
            sink.write(filler(stop - start, form, date, start))
            stream.seek(stop)
            at = stop
        _copied(stream, sink, None)
    _same(uri, out, gone)
    return told


def _copied(stream: Any, sink: BinaryIO, size: int | None) -> None:
    while size is None or size > 0:
        block = stream.read(store.CHUNK if size is None else min(size, store.CHUNK))
        if not block:
            return
        sink.write(block)
        size = None if size is None else size - len(block)


def _same(before: str, after: str, gone: Sequence[Place]) -> None:
    """Every record that is not gone lies where it lay, under its name."""
    kept, now = (_marks(uri, gone) for uri in (before, after))
    if kept != now or store.size(before) != store.size(after):
        raise ValueError(
            f"{before} does not read the same once records are taken out of it; nothing was changed. Look whether the "
            "archive is damaged, and report it"
        )


def _marks(uri: str, gone: Sequence[Place]) -> list[tuple[int, str]]:
    """(offset, record id, or what is damaged) of all that lies outside of these places."""
    starts, found = [start for start, _, _ in gone], []
    with store.opened(uri) as stream:
        for one in records_of(stream):
            place = bisect_right(starts, one.offset) - 1
            if place < 0 or one.offset >= gone[place][1]:
                found.append((one.offset, one.reason if isinstance(one, Damage) else one.record.record_id or ""))
    return found


def filler(size: int, form: str, date: str, number: int) -> bytes:
    """`size` stored bytes that hold nothing: one record where it fits, packed without compression.

    >>> len(filler(5000, "gz", "2026-11-21T00:00:00Z", 0)), len(filler(300_000, "zst", "2026-11-21T00:00:00Z", 7))
    (5000, 300000)
    """
    assert form in ("gz", "zst"), form
    if size < LEAST:
        raise ValueError(
            f"a record of {size} stored bytes is too short to be taken out of an archive; delete the crawl that "
            "holds it, or report it"
        )
    bare, most, head = (len(GZIP) + 8, GZ_BLOCK, 5) if form == "gz" else (len(ZSTD) + 9, ZST_BLOCK, 3)
    blocks = -(-(size - bare) // (most + head))
    body = _record(size - bare - head * blocks, date, number)
    parts = [body[at * most : (at + 1) * most] for at in range(blocks)]  # the last may be empty, at some sizes
    return (_member if form == "gz" else _frame)(body, parts)


def _record(size: int, date: str, number: int) -> bytes:
    """A record of exactly so many bytes."""
    ident = record_id("metadata", "forgotten", date, str(number).encode())
    head = f"WARC/1.1\r\nWARC-Type: metadata\r\nWARC-Record-ID: {ident}\r\nWARC-Date: {date}\r\n"

    def of(room: int) -> bytes:
        block = (TEXT + b" " * room)[:room]
        return f"{head}Content-Length: {room}\r\n\r\n".encode() + block + b"\r\n\r\n"

    room = size - len(of(0))
    while len(of(room)) > size:  # the length is spelt in digits, which take room themselves
        room -= 1
    lacking = size - len(of(room))  # one more digit would be too much, one less too little
    return of(room).replace(b"Content-Length: ", b"Content-Length: " + b" " * lacking, 1)


def _member(body: bytes, parts: Sequence[bytes]) -> bytes:
    """One gzip member of stored blocks."""
    ends = [*[0] * (len(parts) - 1), 1]
    blocks = (struct.pack("<BHH", end, len(p), len(p) ^ 0xFFFF) + p for end, p in zip(ends, parts, strict=True))
    return GZIP + b"".join(blocks) + struct.pack("<II", zlib.crc32(body), len(body) & 0xFFFFFFFF)


def _frame(body: bytes, parts: Sequence[bytes]) -> bytes:
    """One zstd frame of raw blocks, its content size in eight bytes."""
    ends = [*[0] * (len(parts) - 1), 1]
    blocks = (struct.pack("<I", len(p) << 3 | end)[:3] + p for end, p in zip(ends, parts, strict=True))
    return ZSTD + b"\xe0" + struct.pack("<Q", len(body)) + b"".join(blocks)
