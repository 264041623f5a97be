"""Which datasets lie under a root, and which of their rows are of what is forgotten.

    row of documents or beside them      by `id`; what has none, by `url` or `url_key`
    row of a crawl's log                 kept, without address and answer: `forgotten:<digest>` stands for the address

Promises: a row that is asked about is told by its own columns alone, so datasets that lie beside each other lose the
same rows. Costs the columns it looks at, and 6 us an address where rows have no id. Refuses nothing.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tundish.cluster import store
from tundish.cluster.shards import Dataset, Shard, load, opened
from tundish.stages.forgotten import REASON, Forgotten, masked

ON_THE_WAY = ("keepers", "pieces", "steps")  # what a stage leaves on its way: it goes as a whole
APART = {"commits", "runs", "checkpoints", "follow", *ON_THE_WAY}  # folders that hold no dataset to be looked at
NAMED = ("url", "parent", "target")  # columns of a log that hold addresses
ANSWER = ("reason", "mime", "digest", "etag", "modified", "opted", "held", "archive", "offset", "length", "seconds")
LOOKED_AT = ("id", "url", "url_key", "host", *NAMED)


@dataclass(frozen=True)
class Piece:
    """A dataset under a root. `path`: below the root; `sealed`: whether its manifest is there, or only commits."""

    root: str
    path: str
    dataset: Dataset
    sealed: bool

    @property
    def about(self) -> Mapping[str, Any]:
        return self.dataset.about

    @property
    def stage(self) -> str:
        """The folder of the stage it is of."""
        return self.path.split("/")[0]

    @property
    def own(self) -> Iterator[Shard]:
        """Shards whose files lie in its folder: those of others are told of by their own dataset."""
        return (shard for shard in self.dataset.shards if not self.elsewhere(shard))

    @staticmethod
    def elsewhere(shard: Shard) -> bool:
        return "/" in shard.file


def pieces(root: str, path: str = "") -> Iterator[Piece]:
    """Every dataset under a root, sealed or begun, by name; what lies inside after what it lies in."""
    uri = store.join(root, *path.split("/")) if path else root
    names = store.listing(uri)
    if path and "manifest.json" in names and (found := opened(uri)) is not None:
        yield Piece(root, path, found, True)
    elif path and "commits" in names:
        yield Piece(root, path, Dataset(uri, tuple(_committed(uri))), False)
    for name in names:
        inside = f"{path}/{name}" if path else name
        if "." not in name and name not in APART and store.size(store.join(root, *inside.split("/"))) is None:
            yield from pieces(root, inside)


def _committed(uri: str) -> Iterator[Shard]:
    for name in store.listing(store.join(uri, "commits")):
        if name.endswith(".json") and not name.startswith("."):
            yield Shard.of((store.read_json(store.join(uri, "commits", name)) or {})["shard"])


def is_log(shard: Shard) -> bool:
    """Whether a shard is of the log of a crawl."""
    return {"url", "parent", "outcome", "target"} <= set(shard.columns)


def is_table(shard: Shard) -> bool:
    """Whether a shard has rows that could be forgotten: tables do, archives and models do not."""
    return bool({"id", "url", "url_key"} & set(shard.columns)) and shard.file.endswith((".parquet", ".arrow"))


def is_tokens(shard: Shard) -> bool:
    """Whether a shard holds the tokens of documents."""
    return {"tokens", "place"} <= set(shard.columns)


def hits(piece: Piece, shard: Shard, gone: Forgotten) -> np.ndarray:
    """(rows,) whether each row of a shard is of what is forgotten."""
    table = load(piece.dataset.at(shard), shard, LOOKED_AT)
    if is_log(shard):
        found = np.zeros(len(table), bool)
        for column in NAMED:
            found |= addressed(table[column], gone)
        return found
    return of_these(table, gone)


def of_these(table: pa.Table, gone: Forgotten) -> np.ndarray:
    """(rows,) by id; by address for those without one."""
    found, open_ = np.zeros(len(table), bool), np.ones(len(table), bool)
    if "id" in table.column_names:
        found = among(table["id"], gone.ids)
        open_ = pc.is_null(table["id"]).to_numpy(zero_copy_only=False)
    if "url_key" in table.column_names:
        found = found | among(table["url_key"], gone.urls)
    if "url" in table.column_names and open_.any():
        found = found.copy()
        found[open_] |= addressed(table["url"].filter(pa.array(open_)), gone)
    return found


def among(column: pa.ChunkedArray, keys: frozenset[bytes]) -> np.ndarray:
    """(n,) whether each value of 16 bytes is one of these."""
    known = pa.array(sorted(keys), pa.binary(16))
    return pc.fill_null(pc.is_in(column.cast(pa.binary(16)), known), False).to_numpy()


def addressed(column: pa.ChunkedArray, gone: Forgotten) -> np.ndarray:
    """(n,) whether each address is a forgotten one."""
    return np.fromiter((gone.holds(url) for url in column.to_pylist()), bool, len(column))


def reduced(table: pa.Table, gone: Forgotten) -> pa.Table:
    """Rows of a log with forgotten addresses masked; of what such an address answered nothing is left but its state."""
    away = addressed(table["url"], gone)
    for column in table.column_names:
        field = table.schema.field(column)
        if column in NAMED:
            values = [masked(url) if gone.holds(url) else url for url in table[column].to_pylist()]
        elif column == "outcome":
            values = np.where(away, REASON, table[column].to_numpy(zero_copy_only=False))
        elif column in ANSWER:
            values = pc.if_else(pa.array(away), pa.scalar(None, field.type), table[column])
        else:
            continue
        made = values if isinstance(values, pa.ChunkedArray) else pa.array(values, field.type)
        table = table.set_column(table.schema.get_field_index(column), field, made)
    return table


def documents(found: list[Piece]) -> Iterator[tuple[Piece, Shard]]:
    """Shards whose rows have both an id and an address."""
    for piece in found:
        yield from ((piece, shard) for shard in piece.own if {"id", "url"} <= set(shard.columns) and is_table(shard))
