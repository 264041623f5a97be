"""The forms of a table of texts, and how one file is cut so that several workers read it.

    .parquet                 row groups               .arrow, .feather   record batches (an IPC file; a stream is whole)
    .jsonl .ndjson .json     ranges of lines          .csv               whole: quotes may hold line ends
    .tsv                     ranges of lines          .txt .md           whole: one text a file

All but the first two also as `.gz`, `.bz2`, `.xz` (whole) and `.zst` (cut between frames that begin a line).

Promises: memory of one row group or one line; a row has the same number however the file is cut; one that cannot be
read is `Broken`, counts as a row, and costs none before or after it. A `.json` file is one of lines, as data sets have
it. Cells of a `.tsv` hold no quotes that mean anything (IANA text/tab-separated-values); a `.csv` is RFC 4180. Costs a
pass over a file of lines that is large enough to be cut. Refuses, by name, a file of which nothing can be read, or not
the half of its first rows, and one that has nowhere what is looked for.
"""

import io
import itertools
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import zstandard

from tundish.cluster import store
from tundish.operators.web import encoding
from tundish.stages.ingest_streams import opened
from tundish.stages.read_batches import batches, parquet
from tundish.stages.read_cells import Rows, objects, separated, tabbed
from tundish.stages.read_lines import BROKEN, SLICE, Broken, blame, lines, said, unpacked, wide

LINES, CELLS, TEXTS = (".jsonl", ".ndjson", ".json"), (".csv", ".tsv"), (".txt", ".md")
PACKED = ("", ".gz", ".zst", ".bz2", ".xz")
BATCHES = (".arrow", ".feather")
READERS = (*(form + pack for form in (*LINES, *CELLS, *TEXTS) for pack in PACKED), ".parquet", *BATCHES)
MARK = b"\xef\xbb\xbf"
HEAD = 1000  # rows by which a file is judged


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


def portions(uri: str, pieces: Sequence[Piece], whole: float) -> list[float]:
    """Stored bytes of each of all pieces of a file of so many; what is in none, as a footer, is shared by size."""
    if len(pieces) == 1:
        return [whole]
    form, _ = form_of(uri)
    if form != ".parquet" and form not in BATCHES:  # pieces of bytes
        ends = [*(piece.start for piece in pieces[1:]), whole]
        return [float(end - piece.start) for piece, end in zip(pieces, ends, strict=True)]
    with opened(uri) as stream:
        weights = [weight for weight, _ in _parts(stream, form)]
    held = [sum(weights[piece.start : piece.stop]) for piece in pieces]
    return [whole * each / max(1, sum(held)) for each in held]


def _parts(stream: Any, form: str) -> Iterator[tuple[int, int]]:
    """(bytes, rows) of each row group or batch of a file."""
    if form == ".parquet":
        held = pq.ParquetFile(stream).metadata
        for each in map(held.row_group, range(held.num_row_groups)):
            yield sum(each.column(c).total_compressed_size for c in range(each.num_columns)), each.num_rows
    else:
        file = pa.ipc.open_file(stream)
        yield from (_weighed(file, number) for number in range(file.num_record_batches))


def _marks(stream: Any, form: str, pack: str, size: int) -> Iterator[tuple[int, int]]:
    """(where a piece starts, number of its first row), the first of them at 0."""
    if form == ".parquet" or form in BATCHES:
        try:
            return _summed(list(_parts(stream, form)), size)
        except pa.ArrowInvalid:
            if form == ".parquet":
                raise
            return iter([(0, 0)])  # a stream: nothing says where its batches lie
    if wide(next((block for block in unpacked(stream, pack) if isinstance(block, bytes)), b"")):
        return iter([(0, 0)])  # its lines are known once it is decoded
    stream.seek(0)
    header = form == ".tsv"
    return _framed(stream, size, header) if pack else _lined(stream, size, header)


def _weighed(file: Any, number: int) -> tuple[int, int]:
    """(bytes, rows) of a batch; one that is broken is one row."""
    try:
        batch = file.get_batch(number)
    except BROKEN:
        return 0, 1
    return batch.nbytes, batch.num_rows


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
        row += bool((line if at else line.removeprefix(MARK)).strip())
        at += len(line)


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


def numbered(
    uri: str, piece: Piece, columns: Sequence[str], field: str, most: int | None = None
) -> Iterator[tuple[int, Mapping[str, Any] | Broken]]:
    """The rows of a piece with their numbers in the file, up to `most`; broken ones too.

    Refuses a file whose head, the same for every cut, lacks the first of the columns or is broken for the most part;
    `field`: what named that column.
    """
    judged = piece.start == 0 and form_of(uri)[0] not in TEXTS  # of which each is a row of its own
    number, head = piece.row, Head(os.path.basename(uri), columns[0], field) if judged else None
    for row in rows(uri, piece, columns):
        if most is not None and number >= most:
            break
        if head:
            head.see(number, row)
        yield number, row
        number += row.rows if isinstance(row, Broken) else 1
    if head:
        if head.more and piece.stop is not None and most is None:  # the next pieces', which judge nothing themselves
            for row in itertools.takewhile(lambda _: head.more, rows(uri, Piece(piece.stop, None, number), columns)):
                head.see(number, row)
                number += row.rows if isinstance(row, Broken) else 1
        head.judge()


class Head:
    """The first rows of a file, and whether it can be what it is taken for."""

    def __init__(self, label: str, column: str, field: str) -> None:
        self._label, self._column, self._field = label, column, field
        self._seen = self._broken = 0
        self._first, self._has, self._names = "", False, dict[str, None]()

    @property
    def more(self) -> bool:
        """Whether rows that are still to come can change the verdict."""
        return self._seen < HEAD

    def see(self, number: int, row: Mapping[str, Any] | Broken) -> None:
        if not self.more:
            return
        self._seen += 1
        if isinstance(row, Broken):
            self._broken += 1
            self._first = self._first or f"row {number} of {self._label} cannot be read ({row.detail})"
        else:
            self._has = self._has or has(row, self._column)
            self._names |= dict.fromkeys(str(name)[:40] for name in list(row)[:20])
        if not self.more:
            self.judge()

    def judge(self) -> None:
        good = self._seen - self._broken
        if self._broken > good:
            many = f", and so are {self._broken - 1} more of the first {self._seen}" if self._broken > 1 else ""
            raise ValueError(f"{self._first}{many}; mend the file, or leave it out")
        if good and not self._has:
            listed = ", ".join(list(self._names)[:20]) or "nothing"
            raise ValueError(
                f"{self._label} has no {self._column!r} (it has {listed}); name the right key in {self._field}"
            )


def has(row: Mapping[str, Any], name: str) -> bool:
    """Whether a row has a key, or a way of keys with dots between them, whatever lies there.

    >>> has({"a": {"b": None}}, "a.b"), has({"a": None}, "a.b"), has({"a": {"c": 1}}, "a.b")
    (True, True, False)
    """
    first, _, rest = name.partition(".")
    if name in row or not rest or first not in row:
        return name in row
    return row[first] is None or (isinstance(row[first], Mapping) and has(row[first], rest))


def rows(uri: str, piece: Piece, columns: Sequence[str] | None = None) -> Rows:
    """The rows of a piece. `columns`: those that are wanted, where the form can leave others unread; all are given
    where the first of them is not there."""
    form, pack = form_of(uri)
    with opened(uri) as stream:
        try:
            yield from _rows(stream, form, pack, piece, columns)
        except BROKEN as error:
            blame(stream, error)
            yield Broken("bad_row", said(error))


def _rows(stream: Any, form: str, pack: str, piece: Piece, columns: Sequence[str] | None) -> Rows:
    if form == ".parquet":
        return parquet(stream, piece.start, piece.stop, columns)
    if form in BATCHES:
        return batches(stream, piece.start, piece.stop, columns)
    if form in TEXTS:
        return _text(stream, pack)
    held = lines(stream, pack, piece.start, piece.stop)
    if form == ".csv":
        return separated(held, lambda: lines(stream, pack))
    if form == ".tsv":
        return tabbed(held, lambda: lines(stream, pack), first=piece.start == 0)
    return objects(held)


def _text(stream: Any, pack: str) -> Rows:
    blocks = list(unpacked(stream, pack))
    broken = next((block for block in blocks if isinstance(block, Broken)), None)
    yield broken or {"text": encoding.decode(b"".join(b for b in blocks if isinstance(b, bytes))).text}
