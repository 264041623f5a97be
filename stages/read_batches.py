"""Rows of Parquet and Arrow files: what is broken of them is told with its rows, and the next is read.

Promises: memory of one row group, or of one batch; a row group, a page whose checksum is wrong, a batch or a value that
cannot be read costs itself; of a file that ends early, the batches before. Costs one pass over the wanted columns, the
check of what an Arrow file holds included, since its offsets are addresses. Refuses nothing but a file without schema.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from tundish.stages.read_cells import Rows
from tundish.stages.read_lines import BROKEN, Broken, blame, said

ARROW = b"ARROW1\0\0"  # before the stream that an IPC file holds
ROWS = 256  # of a batch held as Python values: pages have hundreds of kilobytes


def _wanted(columns: Sequence[str] | None, known: Sequence[str]) -> list[str] | None:
    """Those of the columns that there are; None, which is all of them, where the first is not."""
    first = columns[0] if columns else ""
    if not columns or (first not in known and first.partition(".")[0] not in known):
        return None
    return [column for column in dict.fromkeys(columns) if column in known]


def parquet(stream: Any, start: int, stop: int | None, columns: Sequence[str] | None) -> Rows:
    file = pq.ParquetFile(stream, page_checksum_verification=True)
    wanted = _wanted(columns, file.schema_arrow.names)
    for group in range(start, file.num_row_groups if stop is None else stop):
        many = left = file.metadata.row_group(group).num_rows
        why = "it holds fewer"
        try:
            for batch in file.iter_batches(ROWS, row_groups=[group], columns=wanted):
                left -= len(batch)
                yield from _values(batch)
        except BROKEN as error:
            blame(stream, error)
            why = said(error)
        if left > 0:
            yield Broken("bad_row", f"{left} of {many} rows of row group {group}: {why}", left)


def _values(batch: pa.RecordBatch) -> Rows:
    """The rows of a batch; where it is broken, row by row."""
    try:
        yield from _checked(batch)
    except BROKEN:
        for number in range(len(batch)):
            try:
                yield from _checked(batch.slice(number, 1))
            except UnicodeDecodeError as error:
                yield Broken("undecodable", said(error))
            except BROKEN as error:
                yield Broken("undecodable" if "UTF8" in str(error) else "bad_row", said(error))


def _checked(batch: pa.RecordBatch) -> list[Mapping[str, Any]]:
    """Rows as Python values. What lies in a file as it lies in memory is checked first: its offsets are addresses."""
    batch.validate(full=True)
    return batch.to_pylist()


def batches(stream: Any, start: int, stop: int | None, columns: Sequence[str] | None) -> Rows:
    try:
        file = pa.ipc.open_file(stream)
    except pa.ArrowInvalid as error:
        yield from _streamed(stream, columns, said(error))
        return
    wanted = _wanted(columns, file.schema.names)
    for number in range(start, file.num_record_batches if stop is None else stop):
        try:
            batch = file.get_batch(number)
        except BROKEN as error:
            blame(stream, error)
            yield Broken("bad_row", f"record batch {number}: {said(error)}")
            continue
        yield from _sliced(batch, wanted)


def _streamed(stream: Any, columns: Sequence[str] | None, why: str) -> Rows:
    """The batches of a stream, or of a file whose end is gone, which is a stream but for its first bytes."""
    stream.seek(0)
    begun = bytes(stream.read(8)) == ARROW
    stream.seek(8 * begun)
    held = pa.ipc.open_stream(stream)
    wanted, number = _wanted(columns, held.schema.names), 0
    try:
        for batch in held:
            yield from _sliced(batch, wanted)
            number += 1
    except BROKEN as error:
        blame(stream, error)
        yield Broken("truncated", f"from record batch {number} on: {said(error)}")
        return
    if begun:
        yield Broken("truncated", why)


def _sliced(batch: pa.RecordBatch, wanted: Sequence[str] | None) -> Rows:
    batch = batch if wanted is None else batch.select(wanted)
    for start in range(0, len(batch), ROWS):
        yield from _values(batch.slice(start, ROWS))
