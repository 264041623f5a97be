"""Names of classes that a Parquet or Arrow file keeps beside its numbers, as the library `datasets` writes them.

Such a file holds a label as its number, and in the schema's metadata under `huggingface` what each number is called.
Promises: a number becomes its name, in a column or in a list of one; -1, which stands there for no label, becomes
none; what has no names stays. Costs a look at the schema. Refuses nothing: metadata that cannot be read name nothing.
"""

import json
from collections.abc import Iterator, Mapping
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

KEY = b"huggingface"
Names = dict[str, tuple[str, ...]]


def names_in(stream: Any, form: str) -> Names:
    """Column -> what its numbers are called. `form`: parquet or arrow; the stream stands at its beginning after."""
    try:
        schema = pq.ParquetFile(stream).schema_arrow if form == "parquet" else _schema(stream)
        told = json.loads((schema.metadata or {}).get(KEY, b"{}"))
        features = told.get("info", {}).get("features", {})
        found = {column: _names(feature) for column, feature in features.items()}
    except (pa.ArrowException, OSError, ValueError, AttributeError, TypeError):
        found = {}  # what is broken is told by who reads the rows
    stream.seek(0)
    return {column: names for column, names in found.items() if names}


def _schema(stream: Any) -> pa.Schema:
    try:
        return pa.ipc.open_file(stream).schema
    except pa.ArrowInvalid:
        stream.seek(0)
        return pa.ipc.open_stream(stream).schema


def _names(feature: Any) -> tuple[str, ...]:
    """Of a ClassLabel, and of a list of them: [feature], or an object with `feature` inside."""
    if isinstance(feature, list):
        return _names(feature[0]) if len(feature) == 1 else ()
    if not isinstance(feature, Mapping):
        return ()
    if feature.get("_type") == "ClassLabel":
        return tuple(map(str, feature.get("names") or ()))
    return _names(feature.get("feature"))


def spelt(rows: Iterator[Any], names: Names) -> Iterator[Any]:
    """The same rows with names in the place of numbers."""
    for row in rows:
        if isinstance(row, Mapping):
            row = {column: _spelt(value, names[column]) if column in names else value for column, value in row.items()}
        yield row


def _spelt(value: Any, names: tuple[str, ...]) -> Any:
    if isinstance(value, list | tuple):
        return [_spelt(one, names) for one in value]
    if isinstance(value, bool) or not isinstance(value, int):
        return value
    return names[value] if 0 <= value < len(names) else None if value == -1 else value
