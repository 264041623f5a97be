"""The forms of a table of texts, and how one file is cut so that several workers read it.

    .parquet                 row groups               .arrow, .feather   record batches (an IPC file; a stream is whole)
    .jsonl .ndjson .json     ranges of lines          .csv               whole: quotes may hold line ends
    .tsv                     ranges of lines          .txt .md           whole: one text a file

All but the first two also as `.gz`, `.bz2`, `.xz` (whole) and `.zst` (cut between frames that begin a line).

Promises: lines end at \\n alone (texts contain U+2028 and U+0085); memory of one row group or one line; a row has the
same number however the file is cut. A `.json` file is one of lines, as data sets have it. Cells of a `.tsv` hold no
quotes that mean anything (IANA text/tab-separated-values); a `.csv` is RFC 4180. Costs a pass over a file of lines that
is large enough to be cut. Refuses, by file and row (counted from 0), what is not what the name says.
"""

import bz2
import csv
import gzip
import io
import json
import lzma
import os
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import zstandard

from tundish.cluster import store
from tundish.operators.web import encoding
from tundish.stages.ingest_streams import Window, opened

# What broken bytes raise in the readers of gzip, bzip2, xz, Zstandard, UTF-8, JSON, CSV and Parquet.
BROKEN = (ValueError, OSError, EOFError, RecursionError, OverflowError, zlib.error, lzma.LZMAError)
BROKEN += (zstandard.ZstdError, pa.ArrowException, csv.Error)
LINES, CELLS, TEXTS = (".jsonl", ".ndjson", ".json"), (".csv", ".tsv"), (".txt", ".md")
PACKED = ("", ".gz", ".zst", ".bz2", ".xz")
BATCHES = (".arrow", ".feather")
READERS = (*(form + pack for form in (*LINES, *CELLS, *TEXTS) for pack in PACKED), ".parquet", *BATCHES)
ROWS = 256  # of a batch held as Python values: pages have hundreds of kilobytes
SLICE = 4096  # bytes of zstd taken at once when frames are looked for: one may unpack to 128 KiB for each four
FIELD = 1 << 30  # bytes of a CSV cell; the reader's own limit is 128 KiB, which whole pages outgrow


@dataclass(frozen=True)
class Piece:
    """A part of a file: row groups, batches or bytes from `start` up to `stop`, the first row being number `row`."""

    start: int = 0
    stop: int | None = None
    row: int = 0

    @property
    def whole(self) -> bool:
        return self.start == 0 and self.stop is None


def form_of(uri: str) -> tuple[str, str]:
    """The form of a file and how it is compressed, by its name.

    >>> form_of("s3://a/c4-train.00000-of-01024.json.gz"), form_of("b.parquet")
    (('.json', '.gz'), ('.parquet', ''))
    """
    pack = next((p for p in PACKED[1:] if uri.endswith(p)), "")
    return os.path.splitext(uri.removesuffix(pack))[1], pack


def cut(uri: str, size: int) -> list[Piece]:
    """A file as pieces of about `size` stored bytes; a small one, or one that cannot be cut, is one piece."""
    form, pack = form_of(uri)
    if (store.size(uri) or 0) <= 2 * size or form in (*TEXTS, ".csv") or pack not in ("", ".zst"):
        return [Piece()]
    try:
        with opened(uri) as stream:
            marks = list(_marks(stream, form, pack, size))
    except BROKEN:
        return [Piece()]  # who reads it says what is wrong
    ends = [*(start for start, _ in marks[1:]), None]
    return [Piece(start, stop, row) for (start, row), stop in zip(marks, ends, strict=True)]


def _marks(stream: Any, form: str, pack: str, size: int) -> Iterator[tuple[int, int]]:
    """(where a piece starts, number of its first row), the first of them at 0."""
    if form == ".parquet":
        held = pq.ParquetFile(stream).metadata
        groups = [held.row_group(g) for g in range(held.num_row_groups)]
        return _summed(
            [(sum(g.column(c).total_compressed_size for c in range(g.num_columns)), g.num_rows) for g in groups], size
        )
    if form in BATCHES:
        try:
            batches = pa.ipc.open_file(stream)
        except pa.ArrowInvalid:
            return iter([(0, 0)])  # a stream: nothing says where its batches lie
        each = (batches.get_batch(b) for b in range(batches.num_record_batches))
        return _summed(((batch.nbytes, batch.num_rows) for batch in each), size)
    header = form == ".tsv"
    return _framed(stream, size, header) if pack else _lined(stream, size, header)


def _summed(parts: Iterable[tuple[int, int]], size: int) -> Iterator[tuple[int, int]]:
    yield 0, 0
    weight = row = 0
    for at, (bytes_, rows) in enumerate(parts):
        if weight >= size:
            yield at, row
            weight = 0
        weight, row = weight + bytes_, row + rows


def _lined(stream: Any, size: int, header: bool) -> Iterator[tuple[int, int]]:
    yield 0, 0
    at, row, last = 0, -int(header), 0
    for line in io.BufferedReader(stream, 1 << 20):
        if at - last >= size and row > 0:  # after the header at least
            yield at, row
            last = at
        at += len(line)
        row += bool(line.strip())


def _framed(stream: Any, size: int, header: bool) -> Iterator[tuple[int, int]]:
    """Starts of zstd frames that begin a line."""
    yield 0, 0
    row, last, rest = -int(header), 0, b""
    for at, data in _frames(stream):
        if data is None:
            if not rest and at - last >= size and row > 0:
                yield at, row
                last = at
            continue
        *lines, rest = (rest + data).split(b"\n")
        row += sum(bool(line.strip()) for line in lines)


def _frames(stream: Any) -> Iterator[tuple[int, bytes | None]]:
    """(offset, None) where a frame starts, and what it holds, piece by piece."""
    codec = zstandard.ZstdDecompressor(max_window_size=2**31)
    step, at = codec.decompressobj(), 0
    yield 0, None
    while piece := stream.read(SLICE):
        at += len(piece)
        while piece:
            if step.eof:
                yield at - len(piece), None
                step = codec.decompressobj()
            yield at, step.decompress(piece)
            piece = step.unused_data if step.eof else b""


def rows(uri: str, piece: Piece, columns: Sequence[str] | None = None) -> Iterator[Mapping[str, Any]]:
    """The rows of a piece. `columns`: those that are wanted, where the form can leave others unread."""
    form, pack = form_of(uri)
    if form in TEXTS:
        yield {"text": encoding.decode(_unpacked(uri, pack)).text}
        return
    number = piece.row
    with opened(uri) as stream:
        try:
            for row in _rows(stream, form, pack, piece, columns):
                if not isinstance(row, Mapping):
                    raise ValueError(f"it is of the type {type(row).__name__}, not an object")
                yield row
                number += 1
        except BROKEN as error:
            reason = " ".join(str(error).split())[:200] or type(error).__name__
            raise ValueError(
                f"row {number} of {os.path.basename(uri)} cannot be read ({reason}); mend the file, or leave it out"
            ) from error


def _unpacked(uri: str, pack: str) -> bytes:
    with opened(uri) as stream:
        try:
            return bytes(stream.read()) if not pack else b"".join(lines_of(stream, pack))
        except BROKEN as error:
            raise ValueError(
                f"{os.path.basename(uri)} cannot be unpacked ({error}); mend it, or leave it out"
            ) from error


def _rows(stream: Any, form: str, pack: str, piece: Piece, columns: Sequence[str] | None) -> Iterator[Any]:
    if form == ".parquet":
        return _parquet(stream, piece, columns)
    if form in BATCHES:
        return _batches(stream, piece)
    if form == ".csv":
        return _csv(lines_of(stream, pack))
    if form == ".tsv":
        names = _header(next(iter(_within(stream, pack, Piece())), b""))
        return _tsv(_within(stream, pack, piece), names, skip=piece.start == 0)
    return (json.loads(text) for line in _within(stream, pack, piece) if (text := line.decode().strip()))


def _within(stream: Any, pack: str, piece: Piece) -> Iterable[bytes]:
    """The lines of a piece; in a window, since readers close what they read from when they are done."""
    stop = stream.seek(0, 2) if piece.stop is None else piece.stop
    return lines_of(Window(stream, piece.start, stop - piece.start), pack)


def lines_of(stream: Any, pack: str) -> Iterable[bytes]:
    """Lines of a file, ended by LF alone; compressed ones are unpacked."""
    if pack == ".gz":
        return gzip.GzipFile(fileobj=stream)
    if pack == ".bz2":
        return bz2.BZ2File(stream)
    if pack == ".xz":
        return lzma.LZMAFile(stream)
    if pack == ".zst":
        frames = zstandard.ZstdDecompressor(max_window_size=2**31).stream_reader(stream, read_across_frames=True)
        return io.BufferedReader(frames)
    return io.BufferedReader(stream, 1 << 20)


def _parquet(stream: Any, piece: Piece, columns: Sequence[str] | None) -> Iterator[Any]:
    file = pq.ParquetFile(stream)
    known = file.schema_arrow.names
    wanted = None if columns is None else [c for c in dict.fromkeys(columns) if c in known]
    stop = file.num_row_groups if piece.stop is None else piece.stop
    for batch in file.iter_batches(ROWS, row_groups=range(piece.start, stop), columns=wanted or None):
        yield from batch.to_pylist()


def _batches(stream: Any, piece: Piece) -> Iterator[Any]:
    try:
        file = pa.ipc.open_file(stream)
        stop = file.num_record_batches if piece.stop is None else piece.stop
        batches = (file.get_batch(number) for number in range(piece.start, stop))
    except pa.ArrowInvalid:
        stream.seek(0)
        batches = iter(pa.ipc.open_stream(stream))
    for batch in batches:
        for start in range(0, len(batch), ROWS):
            yield from batch.slice(start, ROWS).to_pylist()


def _csv(lines: Iterable[bytes]) -> Iterator[Any]:
    csv.field_size_limit(FIELD)
    cells = csv.reader((line.decode() for line in lines), strict=True)
    names = [name.removeprefix("\ufeff") for name in next(cells, [])]
    for row in cells:
        if row:
            yield _named(names, row)


def _tsv(lines: Iterable[bytes], names: Sequence[str], skip: bool) -> Iterator[Any]:
    for number, line in enumerate(lines):
        if line.strip() and not (skip and number == 0):
            yield _named(names, line.decode().rstrip("\r\n").split("\t"))


def _header(line: bytes) -> list[str]:
    return line.decode().removeprefix("\ufeff").rstrip("\r\n").split("\t")


def _named(names: Sequence[str], cells: Sequence[str]) -> dict[str, str]:
    if len(cells) != len(names):
        raise ValueError(f"it has {len(cells)} cells, and the first line names {len(names)}")
    return dict(zip(names, cells, strict=True))
