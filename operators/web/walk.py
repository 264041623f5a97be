"""A walk over the records of an archive that damage does not end: it is named, and the next record looked for.

Promises: every record before damage, and after it every record whose start can be found (the next gzip member, zstd or
LZ4 frame that begins with a WARC version, or that line itself in a plain file); the same record count for whoever
walks. A zstd file whose dictionary opens it (IIPC, warc-zstd 1.0) can be walked from any frame: the dictionary is laid
before it. Costs one pass; looking for a start is linear. Refuses nothing, but errors of the stream itself (a disk, a
network) are raised, since they are no property of the archive.
"""

import re
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import BinaryIO

import zstandard
from fastwarc.warc import ArchiveIterator, WarcRecord

STORED = 32 << 20  # bytes of one record's block that are read; the rest is passed over
STARTS = 10_000  # starts tried after damage in one archive; more is an attack
OVERRUNS = 100  # of them after lengths that reach behind the end: each costs reading on to there
WINDOW = 1 << 20
PROBE = 136 << 10  # bytes that must lie before a member gives its first ones: a zstd block has up to 128 KiB
HEAD = 10 << 10  # decompressed bytes in which a record's first line must end: addresses are long
GLANCE = 4 << 10  # bytes that are enough for most, tried first
TRIED = 2_000  # likely starts opened in one window; more that are none is an attack
DICTIONARIES = 64 << 20  # bytes of a dictionary that are read

GZIP, ZSTD, LZ4 = b"\x1f\x8b\x08", b"\x28\xb5\x2f\xfd", b"\x04\x22\x4d\x18"
DICTIONARY = b"\x5d\x2a\x4d\x18"
_VERSION = re.compile(rb"(?<=\n)WARC/[01]\.\d{1,2}\r?\n[A-Za-z-]{1,64}:")
_FIRST = re.compile(rb"WARC/")
_MEMBERS = {form: re.compile(re.escape(form)) for form in (ZSTD, LZ4)}
_MEMBERS[DICTIONARY] = _MEMBERS[ZSTD]
_MEMBERS[GZIP] = re.compile(re.escape(GZIP) + rb"[\x00-\x1f]")  # deflate, and no flag of the future (RFC 1952)


@dataclass(frozen=True)
class Damage:
    """What could not be read: byte offset in the archive, a reason to count by, and what the reader said.

    Reasons of the archive: `not_warc`, `bad_record` (no header where one must be, or one that cannot be), `truncated`,
    `bad_compression`, `gave_up`; of one record: `bad_http`, `bad_coding` (a body that cannot be decoded), `bad_digest`,
    `revisit` (what it refers to is not at hand), `wat` (metadata of a page, which is not there).
    """

    offset: int
    reason: str
    detail: str


@dataclass(frozen=True)
class Found:
    """A record and, where it was asked for, its block.

    `short`: the archive ends, or the limit lies, inside the block. `broken`: the block cannot be read, damage follows.
    """

    record: WarcRecord
    offset: int
    block: bytes = b""
    short: bool = False
    broken: bool = False


@dataclass(frozen=True)
class Sign:
    """How a record is known: the form, where to look for it in the stored bytes, and how it opens (None: as found)."""

    form: bytes
    where: re.Pattern[bytes]
    head: re.Pattern[bytes] | None = None


def sign_of(form: bytes, head: re.Pattern[bytes] | None = None) -> Sign:
    """The sign of a form. `head`: how a record opens, WARC's way when it is not said; of plain text also the place."""
    if form in _MEMBERS:
        return Sign(form, _MEMBERS[form], head or _FIRST)
    return Sign(b"", head or _VERSION)


def walk(stream: BinaryIO, start: int, form: bytes, *, blocks: int = 0) -> Iterator[Found | Damage]:
    """Records from byte `start` on. `blocks`: bit mask of record types whose blocks are read."""
    watched, at = _Watched(stream), start
    laid = dictionary(watched) if form == DICTIONARY else b""
    after: Damage | None = None  # what the last record was followed by; the next start tells whether it is the culprit
    overrun = 0
    for _ in range(STARTS):
        last: Found | None = None
        damage: Damage | None = None
        watched.seek(at)
        source, shift = (_Laid(watched, laid, at), at - len(laid)) if at and laid else (watched, 0)
        try:
            for record in ArchiveIterator(source, parse_http=False):
                if after:
                    yield after
                after, last = None, _read(record, blocks, shift)
                yield last
                if last.broken:
                    raise OSError(f"{record.record_type} block cannot be decompressed")
        except OSError as error:
            watched.blame()
            damage = _damage(error, last.offset if last else at)
        if damage is None:
            if last is None or overrun == OVERRUNS or not _ends_inside(watched, last, laid):
                break
            overrun += 1
            at = next_start(watched, last.offset + 1, form, laid=laid)
        else:
            after = damage if last and not last.broken else None
            if after is None:
                yield damage
            at = next_start(watched, damage.offset + 1, form, laid=laid)
        if at < 0:
            break
    else:
        yield Damage(at, "gave_up", f"more than {STARTS} damaged places")
    if after:
        yield after


def _ends_inside(stream: "_Watched", last: Found, laid: bytes) -> bool:
    """Whether an archive ends inside the block of its last record, whose length may be a lie that swallows others."""
    stated = last.record.content_length
    if len(last.block) == stated:
        return False
    stream.seek(last.offset)
    source = _Laid(stream, laid, last.offset) if last.offset and laid else stream
    try:
        record = next(iter(ArchiveIterator(source, parse_http=False)))
        left = stated
        while left and (piece := record.reader.read(min(left, WINDOW))):
            left -= len(piece)
    except (OSError, StopIteration):
        stream.blame()
        return True
    return left > 0


def _read(record: WarcRecord, blocks: int, shift: int) -> Found:
    offset, stated = record.stream_pos + shift, record.content_length
    if not int(record.record_type) & blocks:
        return Found(record, offset)
    try:
        block = record.reader.read(min(stated, STORED))
    except OSError:
        return Found(record, offset, short=True, broken=True)
    return Found(record, offset, block, len(block) < stated)


def _damage(error: OSError, offset: int) -> Damage:
    return Damage(offset, _reason(str(error).lower(), offset), str(error))


def _reason(said: str, offset: int) -> str:
    if "incomplete" in said or "unexpected end" in said:
        return "truncated"
    if "header" not in said:
        return "bad_compression"
    return "bad_record" if offset else "not_warc"


def opening(stream: BinaryIO, offset: int = 0, size: int = 32) -> bytes:
    """The first decompressed bytes at an offset; none where they are broken."""
    stream.seek(offset)
    return _opened(stream.read(max(PROBE, size)), size) or b""


def _opened(raw: bytes, size: int, laid: zstandard.ZstdCompressionDict | None = None) -> bytes | None:
    """The first `size` bytes of a member, fewer where it is cut off, None where it is none."""
    try:
        if raw.startswith(GZIP):
            return zlib.decompressobj(31).decompress(raw, size)
        if raw.startswith(ZSTD):
            codec = zstandard.ZstdDecompressor(dict_data=laid, max_window_size=2**27)
            return codec.stream_reader(raw).read(size)
    except (zlib.error, zstandard.ZstdError):
        return None
    if raw.startswith(LZ4):  # a frame begins with bytes as they are: there is nothing yet to refer to
        return raw[max(0, raw.find(b"WARC/", 0, 40)) :][:size]
    return raw[:size]


def form_of(stream: BinaryIO) -> bytes:
    """How the archive is compressed: its magic bytes; empty for plain text and for what has no starts of its own."""
    stream.seek(0)
    head = stream.read(4)
    return next((magic for magic in _MEMBERS if head.startswith(magic)), b"")


def dictionary(stream: BinaryIO) -> bytes:
    """The skippable frame with the dictionary that opens a zstd archive (IIPC, warc-zstd 1.0), whole."""
    stream.seek(0)
    head = stream.read(8)
    return head + stream.read(min(DICTIONARIES, int.from_bytes(head[4:], "little")))


def next_start(
    stream: BinaryIO, after: int, form: bytes, head: re.Pattern[bytes] | None = None, laid: bytes = b""
) -> int:
    """Offset of the first record start at or after a byte (above 0), or -1. Linear in what lies between.

    `head`: as in `sign_of`. `laid`: the frame with the dictionary that the frames need.
    """
    found = first_sign(stream, after, [sign_of(form, head)], _known(laid))
    return found[0] if found else -1


def first_sign(
    stream: BinaryIO, after: int, signs: Sequence[Sign], known: zstandard.ZstdCompressionDict | None = None
) -> tuple[int, Sign] | None:
    """The first place at or after a byte that has one of the signs, and which. Linear in what lies between."""
    base = after - 1  # a line is known by the line feed before it, which is as good as there before byte 0
    stream.seek(max(0, base))
    window = b"\n" * (base < 0)
    window += stream.read(WINDOW + PROBE - len(window))
    while True:
        final = len(window) < WINDOW + PROBE
        places = [(_place(window, sign, final, known), number) for number, sign in enumerate(signs)]
        at, number = min((place for place in places if place[0] > 0), default=(0, 0))
        if at:
            return base + at, signs[number]
        if final:
            return None
        base, window = base + WINDOW, window[WINDOW:] + stream.read(WINDOW)


def _place(window: bytes, sign: Sign, final: bool, known: zstandard.ZstdCompressionDict | None) -> int:
    """Where a window has the sign, 0 where it has not."""
    for tried, match in enumerate(sign.where.finditer(window, 1)):
        at = match.start()
        if tried == TRIED or (at > WINDOW and not final):  # met again in the next window
            break
        if sign.head is None or _opens(window, at, sign.head, known):
            return at
    return 0


def _opens(window: bytes, at: int, head: re.Pattern[bytes], known: zstandard.ZstdCompressionDict | None) -> bool:
    """Whether a member of the window opens so."""
    for much in (GLANCE, PROBE):
        begun = _opened(window[at : at + much], HEAD, known)
        if begun is None or head.match(begun):
            return begun is not None
    return False


def _known(laid: bytes) -> zstandard.ZstdCompressionDict | None:
    """The dictionary in its frame, which may be compressed itself."""
    body = laid[8:]
    if body.startswith(ZSTD):
        try:
            body = zstandard.ZstdDecompressor().stream_reader(body).read(DICTIONARIES)
        except zstandard.ZstdError:
            return None
    return zstandard.ZstdCompressionDict(body) if body else None


class _Laid:
    """An archive from byte `at` on, with the frame of its dictionary before that. Its places begin at 0, where the
    reader looks for dictionaries."""

    def __init__(self, stream: "_Watched", laid: bytes, at: int) -> None:
        self._stream, self._laid, self._start, self._at = stream, laid, at, 0

    def read(self, size: int = -1) -> bytes:
        piece = self._laid[self._at :][: size if size >= 0 else None]
        self._stream.seek(self._start + max(0, self._at + len(piece) - len(self._laid)))
        piece += self._stream.read(size - len(piece) if size >= 0 else -1)
        self._at += len(piece)
        return piece

    def seek(self, offset: int, whence: int = 0) -> int:
        assert whence == 0, "only places from the start are asked for"
        self._at = offset
        return offset

    def tell(self) -> int:
        return self._at

    def close(self) -> None:
        """The stream is the caller's."""


class _Watched:
    """A stream that remembers its own errors, so that they are not taken for damage."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._error: BaseException | None = None

    def read(self, size: int = -1) -> bytes:
        try:
            return self._stream.read(size)
        except BaseException as error:
            self._error = error
            raise

    def seek(self, offset: int, whence: int = 0) -> int:
        self._stream.seek(offset, whence)
        return self._stream.tell()

    def tell(self) -> int:
        return self._stream.tell()

    def close(self) -> None:
        """The stream is the caller's."""

    def blame(self) -> None:
        if self._error:
            raise self._error
