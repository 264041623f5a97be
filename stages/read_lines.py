"""Lines of a file that may be broken: unpacked member by member, and on behind what cannot be unpacked.

Promises: lines end at \\n alone (texts contain U+2028 and U+0085); memory of one line and one block, so a bomb is read
in little; every line before damage, and after it every line from the next gzip member, zstd frame, bzip2 or xz stream
on. The line that damage lies in is lost with it. UTF-16 and UTF-32 with a mark, as spreadsheets write it, become UTF-8.
Costs one pass. Refuses nothing, but errors of the stream itself are raised, since they are no property of the file.
"""

import bz2
import codecs
import csv
import lzma
import re
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import zstandard

# What broken bytes raise in the readers of gzip, bzip2, xz, Zstandard, UTF-8, JSON, CSV and Parquet.
BROKEN = (ValueError, OSError, EOFError, RecursionError, OverflowError, zlib.error, lzma.LZMAError)
BROKEN += (zstandard.ZstdError, pa.ArrowException, csv.Error)
BLOCK = 1 << 20  # bytes read, and unpacked, at once
SLICE = 4096  # compressed bytes taken at once: the reader of zstd knows no bound, and 4 may unpack to 128 KiB
LITTLE = 32  # of a part that is broken
PIECE = 64 << 10  # bytes searched at once for the next start
STARTS = 1000  # starts of a file that were none, after which it is given up


@dataclass(frozen=True)
class Kind:
    """How a file may be compressed, how one part of it is unpacked, and how each part begins."""

    name: str
    new: Callable[[], Any]
    magic: re.Pattern[bytes]


KINDS = {
    ".gz": Kind("gzipped", lambda: zlib.decompressobj(31), re.compile(rb"\x1f\x8b\x08[\x00-\x1f]")),
    ".bz2": Kind("bzip2", bz2.BZ2Decompressor, re.compile(rb"BZh[1-9](?:1AY&SY|\x17rE8P)")),
    ".xz": Kind("xz", lzma.LZMADecompressor, re.compile(rb"\xfd7zXZ\x00")),
    ".zst": Kind("zstd", lambda: _ZSTD.decompressobj(), re.compile(rb"\x28\xb5\x2f\xfd|[\x50-\x5f]\x2a\x4d\x18")),
}
_ZSTD = zstandard.ZstdDecompressor(max_window_size=2**31)
LONGEST = 10  # bytes of a magic
MARKS = ((b"\xff\xfe\0\0", "utf-32"), (b"\0\0\xfe\xff", "utf-32"), (b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16"))


@dataclass(frozen=True)
class Broken:
    """Rows that cannot be read: what to count them by, what the reader said, and how many (1 where nobody knows).

    Reasons: `bad_row`, `undecodable` (not UTF-8, where it has to be), `bad_compression`, `truncated` (the file ends
    early).
    """

    reason: str
    detail: str
    rows: int = 1


def said(error: BaseException) -> str:
    """The sentence of an error, short; it names places and bytes, no text."""
    return " ".join(str(error).split())[:200] or type(error).__name__


def blame(stream: Any, error: BaseException) -> None:
    """Raise what is an error of the stream, a disk or a network, and no damage of the file."""
    if own := getattr(stream, "failed", None):
        raise own
    if isinstance(error, OSError) and error.errno is not None:
        raise error


def lines(stream: Any, pack: str, start: int = 0, stop: int | None = None) -> Iterator[bytes | Broken]:
    """The lines of bytes `start` to `stop` of a file, with their ends; what is compressed (`pack`) is unpacked."""
    rest: list[bytes] = []
    for block in _plain(unpacked(stream, pack, start, stop), start == 0):
        if isinstance(block, Broken):  # what came of the line before it is a part
            rest = []
            yield block
            continue
        first, *others = block.split(b"\n")
        rest.append(first)
        for other in others:
            yield b"".join(rest) + b"\n"
            rest = [other]
    if last := b"".join(rest):
        yield last


def strictly(found: Iterable[bytes | Broken]) -> Iterator[bytes]:
    """The lines of a file that must not be broken: the first damage is raised."""
    for line in found:
        if isinstance(line, Broken):
            raise ValueError(line.detail)
        yield line


def wide(head: bytes) -> str | None:
    """The codec of UTF-16 or UTF-32, where the file begins with its mark: it has no lines before it is decoded."""
    return next((name for mark, name in MARKS if head.startswith(mark)), None)


def _plain(blocks: Iterator[bytes | Broken], first: bool) -> Iterator[bytes | Broken]:
    """The same in UTF-8 without a mark."""
    decoder: Any = None
    for block in blocks:
        if first and isinstance(block, bytes):
            first = False
            decoder = codecs.getincrementaldecoder(name)("replace") if (name := wide(block)) else None
            block = block.removeprefix(codecs.BOM_UTF8)
        yield decoder.decode(block).encode("utf-8", "replace") if decoder and isinstance(block, bytes) else block


def unpacked(stream: Any, pack: str, start: int = 0, stop: int | None = None) -> Iterator[bytes | Broken]:
    """The bytes from `start` to `stop`, unpacked, in blocks; in the place of what cannot be, `Broken`."""
    source = _Source(stream, start, stop)
    if not pack:
        while block := source.read(BLOCK):
            yield block
        return
    told, failed = False, 0
    while failed < STARTS and source.skip_padding():
        begun = source.at
        try:
            for block in _salvaged(source, pack):
                told = False
                yield block
        except BROKEN as error:
            blame(stream, error)
            ended = isinstance(error, EOFError)
            if not told:  # a start behind damage that is none after all says nothing new
                yield Broken("truncated" if ended else "bad_compression", said(error))
            told, failed = True, failed + 1
            if not source.seek(KINDS[pack].magic, max(begun + 1, source.at - BLOCK)):
                return
    if failed == STARTS:
        yield Broken("bad_compression", f"{STARTS} places are broken; what follows was not read")


def _salvaged(source: "_Source", pack: str) -> Iterator[bytes]:
    """A member, up to where it is broken: what a step that failed had already unpacked is lost, so the last is taken
    again in little ones. Costs a second pass over a broken member."""
    begun, given = source.at, 0
    try:
        for block in _member(source, pack):
            given += len(block)
            yield block
    except EOFError:
        raise
    except BROKEN as error:
        blame(source, error)
        source.at, fine = begun, source.last
        for block in _member(source, pack, fine):
            if rest := block[given:]:
                yield rest
            given = max(0, given - len(block))


def _member(source: "_Source", pack: str, fine: int | None = None) -> Iterator[bytes]:
    """One gzip member, zstd frame, bzip2 or xz stream; the source then stands behind it. Raises what broken ones raise,
    EOFError where the file ends inside. `fine`: the byte from which on it takes little steps."""
    kind = KINDS[pack]
    if not kind.magic.match(source.peek(LONGEST)):
        raise ValueError(f"Not a {kind.name} file" + f" from byte {source.at} on" * (source.at > 0))
    step, left = kind.new(), b""
    while not step.eof:
        size = SLICE if fine is None else LITTLE if source.at >= fine else min(SLICE, fine - source.at)
        raw = left or (source.read(size) if getattr(step, "needs_input", True) else b"")
        held = step.decompress(raw) if pack == ".zst" else step.decompress(raw, BLOCK)
        if not raw and not held and not step.eof:
            raise EOFError("Compressed file ended before the end-of-stream marker was reached")
        left = getattr(step, "unconsumed_tail", b"")
        if held:
            yield held
    source.at -= len(step.unused_data)


class _Source:
    """A range of bytes of a stream, and where the next are read from."""

    def __init__(self, stream: Any, start: int, stop: int | None) -> None:
        self._stream, self.at, self.last = stream, start, start  # where the next bytes are read, where the last were
        self._stop = stream.seek(0, 2) if stop is None else stop

    @property
    def failed(self) -> Exception | None:
        return getattr(self._stream, "failed", None)

    def read(self, size: int) -> bytes:
        self._stream.seek(self.at)
        self.last = self.at
        piece = bytes(self._stream.read(max(0, min(size, self._stop - self.at))))
        self.at += len(piece)
        return piece

    def peek(self, size: int) -> bytes:
        piece = self.read(size)
        self.at -= len(piece)
        return piece

    def skip_padding(self) -> bool:
        """Whether anything follows but zeros, which may pad what is compressed."""
        while piece := self.read(SLICE):
            if rest := piece.lstrip(b"\0"):
                self.at -= len(rest)
                return True
        return False

    def seek(self, magic: re.Pattern[bytes], at: int) -> bool:
        """Go to the first place of a magic from a byte on; whether there is one."""
        self.at, held = at, b""
        while piece := self.read(PIECE):
            held += piece
            if match := magic.search(held):
                self.at -= len(held) - match.start()
                return True
            held = held[-LONGEST:]
        return False
