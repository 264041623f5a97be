"""Web archives (WARC, ISO 28500; ARC; also WET): captures read from them.

Promises: memory of one record; damage is yielded, never raised, and what follows it is found where it can be. Costs
about 1 ms a page read (FastWARC), most of it decompression. Requests and metadata are passed over; the metadata of a
WAT file is named, since the pages it describes are not there (operators/web/wat reads it). Refuses nothing.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, BinaryIO

from fastwarc.warc import WarcRecordType

from tundish.operators.web.arc import records_of
from tundish.operators.web.fixity import wrong
from tundish.operators.web.message import BadCoding, message, mime_of
from tundish.operators.web.revisit import Revisit, revisit_of, target
from tundish.operators.web.walk import Damage, Found
from tundish.operators.web.warc_write import OPT_OUTS
from tundish.operators.web.wat import Told, told

__all__ = ["Capture", "Damage", "Revisit", "captures", "cuts"]

HTML = ("text/html", "application/xhtml+xml")
_READ = int(WarcRecordType.response | WarcRecordType.resource | WarcRecordType.conversion)


@dataclass(frozen=True)
class Capture:
    """What one URL answered.

    `payload`: the body with transfer and content coding undone. `status`: 0 for records without HTTP (resource,
    conversion). `date`: as stored, ISO 8601. `record`: its WARC-Record-ID. `truncated`: by whoever stored it, by the
    end of the archive, or by the cap of 8 MiB. `offset`: of its record in the archive, in (compressed) bytes.
    """

    url: str
    date: str
    status: int
    mime: str
    headers: dict[str, str]  # lower-case names
    payload: bytes
    offset: int
    record: str
    truncated: bool
    kind: str = "response"  # or resource, conversion, revisit
    opted: str = ""  # what robots.txt and tdmrep.json said of its use, as our crawls write it


def captures(
    stream: BinaryIO,
    *,
    start: int = 0,
    records: int | None = None,
    revisits: bool = False,
    described: bool = False,
    verify: bool = False,
) -> Iterator[Any]:
    """Responses, HTML resources and (WET) plain-text conversions of `records` records of any type from byte `start`.

    Gives `Capture` and `Damage`, where they are wanted `Revisit` (`revisits`) and `Told` (`described`: what a WAT file
    tells of a page). Reads gzip, zstd, LZ4 and plain; `stream` must be seekable. `verify`: what does not have the
    digests it states is damage. Raises only the stream's own errors.
    """
    seen = 0
    more = (int(WarcRecordType.revisit) if revisits else 0) | (int(WarcRecordType.metadata) if described else 0)
    for found in records_of(stream, start, blocks=_READ | more):
        if isinstance(found, Damage):
            yield found
        else:
            seen += 1
            capture = None if found.broken else _capture(found, revisits, described, verify)
            if capture is not None:
                yield capture
            if found.broken:  # its damage comes next
                continue
        if seen == records:
            return


def _capture(found: Found, revisits: bool, described: bool, verify: bool) -> Capture | Damage | Revisit | Told | None:
    kind = found.record.record_type
    try:
        head = {name.lower(): value for name, value in found.record.headers.items()}
        mime = mime_of(head.get("content-type", ""))
        if verify and int(kind) & _READ and (which := wrong(head, found.block, found.short)):
            return Damage(found.offset, "bad_digest", which)
        if kind == WarcRecordType.response and mime == "application/http":
            return _response(found, head)
        if kind == WarcRecordType.resource and mime in HTML:
            return _bare(found, head, mime, "resource")
        if kind == WarcRecordType.conversion and mime == "text/plain":
            return _bare(found, head, mime, "conversion")
        if kind == WarcRecordType.revisit and revisits:
            return revisit_of(head, found.block, found.offset)
        if kind == WarcRecordType.metadata and mime == "application/json":
            if described:
                return told(found.block)
            return Damage(found.offset, "wat", f"metadata of {target(head)}; Outlinks reads it")
    except ValueError as error:
        return Damage(found.offset, "bad_record", str(error))
    return None


def _response(found: Found, head: Mapping[str, str]) -> Capture | Damage:
    try:
        answer = message(found.block)
    except BadCoding as error:
        return Damage(found.offset, "bad_coding", str(error))
    except ValueError as error:
        return Damage(found.offset, "truncated" if found.short else "bad_http", str(error))
    mime = mime_of(answer.headers.get("content-type", ""))
    return _of(found, head, "response", answer.status, mime, answer.headers, answer.payload, answer.cut)


def _bare(found: Found, head: Mapping[str, str], mime: str, kind: str) -> Capture:
    headers = {"content-type": head["content-type"]}
    return _of(found, head, kind, 0, mime, headers, found.block, False)


def _of(
    found: Found,
    head: Mapping[str, str],
    kind: str,
    status: int,
    mime: str,
    headers: dict[str, str],
    payload: bytes,
    cut: bool,
) -> Capture:
    return Capture(
        url=target(head),
        date=head.get("warc-date", ""),
        status=status,
        mime=mime,
        headers=headers,
        payload=payload,
        offset=found.offset,
        record=head.get("warc-record-id", "").strip("<>"),
        truncated=cut or found.short or "warc-truncated" in head or "warc-segment-number" in head,
        kind=kind,
        opted=head.get(OPT_OUTS.lower(), ""),
    )


def cuts(stream: BinaryIO, *, size: int) -> list[tuple[int, int | None]]:
    """(offset, records) ranges of about `size` stored bytes, for `captures(start=…, records=…)`; the last has no count.

    Together they give what one pass gives. An archive that cannot be cut (one gzip member for many records) gives
    `[(0, None)]`. Costs one pass of decompression (about 1 s a GB of payload).
    """
    marks = [(0, 0)]
    for number, offset, record in _places(stream):
        if number > marks[-1][1] and offset - marks[-1][0] >= size and _starts(stream, offset, record):
            marks.append((offset, number))
    ends: list[int | None] = [number for _, number in marks[1:]]
    return [(at, end and end - number) for (at, number), end in zip(marks, [*ends, None], strict=True)]


def _places(stream: BinaryIO) -> list[tuple[int, int, str]]:
    """(number, offset, record id) of records whose offset is theirs alone and no damage lies before."""
    found: list[tuple[int, int, str]] = []
    clean = True
    for step in records_of(stream):
        if isinstance(step, Found):
            found.append((step.offset if clean else -1, len(found), step.record.record_id or ""))
        clean = isinstance(step, Found)
    offsets = [-1, *(offset for offset, _, _ in found), 1 << 62]
    return [
        (n, o, i) for (o, n, i), before, after in zip(found, offsets, offsets[2:], strict=False) if before < o < after
    ]


def _starts(stream: BinaryIO, offset: int, record: str) -> bool:
    """Does reading from here begin with this record?"""
    first = next(iter(records_of(stream, offset)), None)
    return isinstance(first, Found) and first.offset == offset and first.record.record_id == record
