"""The columns every document carries, and where a document stands: its address (shard, row) as one number."""

import numpy as np
import pyarrow as pa

ID = pa.binary(16)

DOCUMENT = pa.schema(
    [
        ("id", ID),  # blake2b(canonical URL, NUL, digest of the payload), first 16 bytes
        ("content_digest", ID),  # blake2b of the payload as it was decoded from the wire
        ("url", pa.large_string()),
        ("host", pa.string()),
        ("text", pa.large_string()),
        ("title", pa.large_string()),
        ("date", pa.string()),  # when it was captured, ISO 8601
        ("origin", pa.string()),  # which source of the recipe
        ("source", pa.string()),  # archive and record offset
        ("mime", pa.string()),
        ("status", pa.int32()),
        ("encoding", pa.string()),
        ("how", pa.string()),  # which extractor wrote the text
        ("repairs", pa.list_(pa.string())),  # what was mended in it: operators/text/repair
        ("opt_outs", pa.list_(pa.string())),  # who does not want it used, and for what: operators/web/opt_outs
    ]
)

GOES = {"among": ("reason",), "twins": ("twin",), "contamination": ("contaminated",)}  # fields of those who cut parts
GONE = ("reason", "twin", "contaminated")  # columns of Refine, Deduplicate and Decontaminate: null for what stays

DROPPED = pa.schema(
    [
        ("id", ID),
        ("url", pa.large_string()),
        ("host", pa.string()),
        ("origin", pa.string()),
        ("source", pa.string()),  # archive and record offset, of a capture that is no document
        ("stage", pa.string()),
        ("reason", pa.string()),
        ("value", pa.float64()),
        ("threshold", pa.float64()),
        ("survivor", ID),
        ("similarity", pa.float32()),
        ("shard", pa.string()),  # where its text lies in the documents, when it has one
        ("row", pa.int64()),
        ("detail", pa.large_string()),
    ]
)


def labels(index: int, rows: np.ndarray) -> np.ndarray:
    """(shard number, row) as one uint64: a name inside one sealed dataset, and nothing else."""
    return (np.uint64(index) << np.uint64(32)) | rows.astype(np.uint64)


def shard_of(label: np.ndarray) -> np.ndarray:
    return (label >> np.uint64(32)).astype(np.uint64)


def row_of(label: np.ndarray) -> np.ndarray:
    return (label & np.uint64(0xFFFFFFFF)).astype(np.int64)


def table_of(schema: pa.Schema, rows: list[dict]) -> pa.Table:
    """Rows as a table of this schema; absent keys are null."""
    return pa.Table.from_pylist(rows, schema=schema)
