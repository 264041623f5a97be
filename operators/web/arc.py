"""ARC, the format before WARC (Internet Archive 1996, versions 1 and 2): its records, handed on as WARC's are.

    http://heron.example/ 192.0.2.7 20140216050221 text/html 1591        (version 1: five fields, the length last)

Promises: what `walk` promises, for gzip (a member a record, or one for all) and plain files: damage is yielded and what
follows it is found; memory of one block. A record of http or https is a response, `filedesc` the warcinfo, anything
else a resource of the type it states. Costs one pass. Refuses nothing.
"""

import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from fastwarc.warc import WarcRecordType

from tundish.operators.web.walk import (
    DICTIONARY,
    GZIP,
    LZ4,
    OVERRUNS,
    STARTS,
    STORED,
    ZSTD,
    Damage,
    Found,
    Sign,
    first_sign,
    form_of,
    next_start,
    opening,
    sign_of,
    walk,
)

LINE = 64 << 10  # bytes of a header line: addresses are long, lines without end are an attack
CHUNK = 64 << 10
FIELDS = {b"1": 5, b"2": 10}  # of a header line, by version

_ADDRESS = rb"[a-z][a-z0-9+.-]{1,15}:\S"
_HEADER = _ADDRESS + rb"[^\n]{0,8000} [0-9A-Fa-f.:]{3,45} \d{14}[^\n]{0,400} \S+\r?\n"
_START = re.compile(rb"(?<=\n)" + _HEADER)
_LIKELY = rb"(?:filedesc|https?|ftp|dns|whois):\S"  # and the rest, where nothing else says that this is an ARC file
_SURE = _LIKELY + _HEADER.removeprefix(_ADDRESS).replace(rb" \S+\r", rb" \d{1,15}\r")
_MEMBER = re.compile(_ADDRESS)
_EITHER = re.compile(rb"WARC/|" + _SURE)
_ANYWHERE = re.compile(rb"WARC/[01]\.\d{1,2}\r?\n[A-Za-z-]{1,64}:")  # what was before it may be lost
SIGNS = (
    sign_of(GZIP, _EITHER),
    sign_of(ZSTD),
    sign_of(LZ4),
    Sign(b"", _ANYWHERE),
    Sign(b"", re.compile(rb"(?<=\n)" + _SURE)),
)
ZIP = b"PK\x03\x04"  # a WACZ under another name: its archives have no broken head, they are opened one by one
BLANK = b"\xef\xbb\xbf \t\r\n"  # before the first record, nothing that was lost


@dataclass(frozen=True)
class ArcRecord:
    """A record's header line in the words of a `WarcRecord`: what `walk` hands on, for its readers."""

    record_type: WarcRecordType
    headers: dict[str, str]
    record_id: str
    content_length: int


@dataclass(frozen=True)
class Beginning:
    """Where the first record of an archive lies, and in which form. `fields`: of a header line of ARC, 0 for WARC.
    `lost`: what lies before it is damage."""

    at: int
    form: bytes
    fields: int = 0
    lost: Damage | None = None


def beginning(stream: BinaryIO) -> Beginning:
    """The beginning by the first bytes; where they are none, by the first record that follows, of whatever form.

    Costs nothing for a whole archive, else one look at what lies before that record, at all of a file without any.
    """
    form, first = form_of(stream), opening(stream)
    if form == DICTIONARY or first.startswith(b"WARC/"):
        return Beginning(0, form)
    if first.startswith(b"filedesc://"):
        return Beginning(0, form, _fields(stream, 0))
    found = None if first.startswith(ZIP) else first_sign(stream, 0, SIGNS)
    if found is None:
        return Beginning(0, form)
    at, own = found[0], found[1].form
    fields = 0 if own not in (GZIP, b"") or opening(stream, at).startswith(b"WARC/") else _fields(stream, at)
    if own == form != b"":  # the walk finds it itself
        return Beginning(0, form, fields)
    stream.seek(0)
    if at <= LINE and not stream.read(at).strip(BLANK):
        return Beginning(at, own, fields)
    reason, said = "bad_compression" if form else "not_warc", f"{at} bytes before the first record cannot be read"
    return Beginning(at, own, fields, Damage(0, reason, said))


def records_of(stream: BinaryIO, start: int = 0, *, blocks: int = 0) -> Iterator[Found | Damage]:
    """The records of a web archive, WARC or ARC, from byte `start` on; raises only the stream's own errors."""
    first = beginning(stream)
    if first.lost and start < first.at:
        yield first.lost
    start = max(start, first.at)
    if first.fields:
        yield from arc_walk(stream, start, first.form, first.fields, blocks=blocks)
    else:
        yield from walk(stream, start, first.form, blocks=blocks)


def arc_walk(stream: BinaryIO, start: int, form: bytes, fields: int, *, blocks: int = 0) -> Iterator[Found | Damage]:
    """Records from byte `start` on. `fields`: of a header line. `blocks`: mask of the types whose blocks are read."""
    at, overrun = start, 0
    for _ in range(STARTS):
        source, last = _Source(stream, at, form == GZIP), at
        damage = None
        try:
            while line := source.header():
                record = _record(line, fields)
                last = source.offset
                block, whole = source.block(record.content_length, bool(int(record.record_type) & blocks))
                yield Found(record, last, block, not whole)
                if source.over:  # a length that is a lie may have swallowed others
                    break
            else:
                return
        except EOFError as error:
            damage = Damage(source.offset, "truncated", str(error))
        except zlib.error as error:
            damage = Damage(max(last, source.offset), "bad_compression", str(error))
        except ValueError as error:
            damage = Damage(source.offset, "bad_record", str(error))
        if damage:
            yield damage
        overrun += source.over
        starts = _START if form != GZIP else _MEMBER
        at = next_start(stream, last + 1, form, starts) if overrun <= OVERRUNS else -1
        if damage and at == damage.offset and (form != GZIP or source.alone):  # it is told already
            at = next_start(stream, at + 1, form, starts)
        if at < 0:
            return
    yield Damage(at, "gave_up", f"more than {STARTS} damaged places")


def _fields(stream: BinaryIO, at: int) -> int:
    """How many fields a header line has, as the second line of the file says; without it, as the date's place does."""
    first, _, rest = opening(stream, at, LINE).partition(b"\n")
    if first.startswith(b"filedesc://"):
        return FIELDS.get(rest[:1], FIELDS[b"1"])
    words = first.split()
    return next((count for count in FIELDS.values() if re.fullmatch(rb"\d{14}", b"".join(words[2 - count :][:1]))), 5)


def _record(line: bytes, fields: int) -> ArcRecord:
    """A header line read from its end: addresses hold spaces now and then. Raises ValueError for what is none."""
    text = line.decode("utf-8", "replace").strip()
    parts = text.rsplit(" ", fields - 1)
    if len(parts) != fields or not re.match(_ADDRESS, line):
        raise ValueError(f"{text[:80]!r} is no header line of an ARC record")
    url, _, date, mime = parts[:4]
    if not re.fullmatch(r"\d{1,15}", parts[-1], re.ASCII):
        raise ValueError(f"the length of {url[:80]!r} is {parts[-1][:20]!r}")
    scheme = url.partition(":")[0]
    kind = {"filedesc": WarcRecordType.warcinfo, "http": WarcRecordType.response, "https": WarcRecordType.response}
    head = {"WARC-Target-URI": url, "WARC-Date": dated(date)}
    head["Content-Type"] = "application/http" if scheme in ("http", "https") else mime
    return ArcRecord(kind.get(scheme, WarcRecordType.resource), head, text, int(parts[-1]))


def dated(digits: str) -> str:
    """Fourteen digits as ISO 8601 in UTC; what is none stays as it is.

    >>> dated("20140216050221"), dated("yesterday")
    ('2014-02-16T05:02:21Z', 'yesterday')
    """
    found = re.match(r"(\d{4})(\d\d)(\d\d)(\d\d)(\d\d)(\d\d)", digits, re.ASCII)
    return "{}-{}-{}T{}:{}:{}Z".format(*found.groups()) if found else digits


class _Source:
    """The bytes of an archive from a place on, decompressed. `offset`: of the member (gzip) or byte of the last header.

    A member is opened only when all of the one before was taken, so it is known which one a record begins in.
    """

    def __init__(self, stream: BinaryIO, start: int, packed: bool) -> None:
        self._stream, self._packed = stream, packed
        self._raw, self._at = b"", start  # not yet decompressed bytes, and where the next are read from
        self._held, self._member = b"", start
        self._step = zlib.decompressobj(31) if packed else None
        self._fresh, self._taken = True, 0  # of the member
        self.offset, self.alone = start, True  # `alone`: nothing of its member lies before the header
        self.over = False  # the archive ended inside a block

    def header(self) -> bytes:
        """The next line that is not blank; empty at the end."""
        while True:
            if not self._held and not self._fill():
                return b""
            self.offset, self.alone = self._member, self._taken == 0
            if line := self._line().strip(b"\r\n"):
                return line

    def block(self, size: int, wanted: bool) -> tuple[bytes, bool]:
        """The next `size` bytes, where they are wanted and not above the cap -> (bytes, whether they are all)."""
        kept, left = bytearray(), size
        while left:
            if not self._held and not self._fill():
                self.over = True
                return bytes(kept), False
            piece = self._take(left)
            left -= len(piece)
            if wanted and len(kept) < STORED:
                kept += piece[: STORED - len(kept)]
        return bytes(kept), not wanted or len(kept) == size

    def _line(self) -> bytes:
        line = b""
        while not line.endswith(b"\n") and (self._held or self._fill()):
            end = self._held.find(b"\n") + 1
            line += self._take(end or len(self._held))
            if len(line) > LINE:
                raise ValueError(f"a line of more than {LINE} bytes where a header must be")
        return line

    def _take(self, size: int) -> bytes:
        piece, self._held = self._held[:size], self._held[size:]
        self._taken += len(piece)
        if not self._packed:
            self._member += len(piece)
        return piece

    def _fill(self) -> bool:
        """More decompressed bytes, never of two members; False at the end."""
        while not self._held:
            if self._step is not None and self._step.eof:
                self._raw = self._step.unused_data
                self._member = self._at - len(self._raw)
                self._step, self._fresh, self._taken = zlib.decompressobj(31), True, 0
            if not self._raw and not self._load():
                if self._step is not None and not self._fresh:
                    raise EOFError("the archive ends inside a gzip member")
                return False
            if self._step is None:
                self._held, self._raw = self._raw, b""
            elif self._fresh and not self._raw.startswith(GZIP[: len(self._raw)]):
                raise zlib.error("no gzip member where one must begin")
            else:
                self._held = self._step.decompress(self._raw, CHUNK)
                self._raw, self._fresh = self._step.unconsumed_tail, False
        return True

    def _load(self) -> bool:
        self._stream.seek(self._at)
        self._raw = self._stream.read(CHUNK)
        self._at += len(self._raw)
        return bool(self._raw)
