"""Rows on their way to rest: a dataset being written, shard by shard, each committed once it is whole.

Promises: a shard's file appears under its name only with its last byte on disk, its commit after it, the manifest after
all commits. A killed writer leaves nothing a reader would see.
"""

import contextlib
import hashlib
import json
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from tundish.cluster import signing, store
from tundish.cluster.shards import SCHEMA, Dataset, Shard, opened

ROW_GROUP = 4096  # rows; fixed, because it decides the bytes
LONG = 5.0  # seconds that a shard takes before who writes it looks whether another has committed it meanwhile


fences: dict[str, Callable[[], None]] = {}  # root that this process holds -> what raises once it has lost it


class Overtaken(RuntimeError):
    """Why a shard that was written is let go: it is there already."""


@dataclass(frozen=True)
class Target:
    """A dataset being written. `key` is everything besides the inputs that decides its bytes."""

    uri: str
    key: str
    format: str = "parquet"

    def writer(self, name: str) -> "ShardWriter":
        return ShardWriter(self, name)

    def committed(self, name: str, inputs: Mapping[str, str]) -> Shard | None:
        """The shard, if it was committed from exactly these inputs and its file is still there whole."""
        try:
            found = store.read_json(store.join(self.uri, "commits", f"{name}.json"))
        except store.Unread:
            return None  # what is half is not there: the shard is made again
        if (
            not found
            or found.get("schema") != SCHEMA
            or found["key"] != self.key
            or found["shard"]["inputs"] != dict(inputs)
        ):
            return None
        shard = Shard.of(found["shard"])
        return shard if store.size(store.join(self.uri, shard.file)) == shard.size else None

    def commit(self, shard: Shard, seconds: float) -> Shard:
        value = {"schema": SCHEMA, "key": self.key, "shard": shard.plain(), "seconds": round(seconds, 3)}
        store.write_json(store.join(self.uri, "commits", f"{shard.name}.json"), value)
        return shard

    def adopt(self, name: str, file: str, rows: int, inputs: Mapping[str, str], counts: Mapping[str, int]) -> Shard:
        """Commit a file that lies in place already (an archive, a model): hash it and say so."""
        uri = store.join(self.uri, file)
        shard = Shard(name, file, rows, store.size(uri) or 0, store.digest(uri), "", (), dict(inputs), dict(counts))
        return self.commit(shard, 0.0)

    def seal(self, shards: Iterable[Shard], **about: Any) -> Dataset:
        """Write the manifest: from now on the dataset exists. Refused under a root that this process has lost."""
        for root, check in list(fences.items()):
            if self.uri.startswith(root):
                check()
        ordered = tuple(sorted(shards, key=lambda s: in_order(s.name)))
        dataset = Dataset(self.uri, ordered, {**about, "key": self.key})
        manifest = manifest_of(dataset, time.time()).encode()
        if not signing.sign(self.uri, manifest):
            store.remove(store.join(self.uri, signing.FILE))  # of an earlier manifest, which this one is not
        store.write(store.join(self.uri, "manifest.json"), manifest)
        return dataset


def in_order(name: str) -> tuple[str, int, str]:
    """By what a shard's place among others is told: its number is one, though five digits do not hold it.

    >>> sorted(["part-100000", "part-99999", "part-00002"], key=in_order)
    ['part-00002', 'part-99999', 'part-100000']
    """
    word, _, number = name.rpartition("-")
    return (word, int(number), name) if word and number.isascii() and number.isdigit() else (name, -1, name)


def manifest_of(dataset: Dataset, sealed: float) -> str:
    """The text of a manifest: JSON, its keys in order, a line a shard.

    The whole at once with an indent would go through json's encoder in Python, some ten times the time.
    """
    said = {"schema": SCHEMA, "digest": dataset.digest, "about": dataset.about, "sealed": sealed}
    head = json.dumps(said, indent=1, sort_keys=True, ensure_ascii=False).removesuffix("\n}")
    line = json.JSONEncoder(sort_keys=True, ensure_ascii=False).encode
    shards = ",\n".join(f"  {line(shard.plain())}" for shard in dataset.shards)
    return f'{head},\n "shards": [\n{shards}\n ]\n}}\n'


class ShardWriter:
    """Writes one shard table by table; `finish` makes it whole and commits it."""

    def __init__(self, target: Target, name: str) -> None:
        self.target, self.name = target, name
        self.file = f"{name}.{target.format}"
        self.rows, self.ids, self.started = 0, hashlib.sha256(), time.monotonic()
        self._block = store.written(store.join(target.uri, self.file))
        self._stream, self._told = self._block.__enter__()
        self._sink: Any = None

    def write(self, table: pa.Table, told: Mapping[str, str] | None = None) -> None:
        """Add rows; `told` is said beside them, in an Arrow file alone, where they become one record batch."""
        if self._sink is None:
            self._sink = self._open(table.schema)
        self.rows += len(table)
        if "id" in table.column_names:
            for chunk in table["id"].chunks:
                if len(chunk):
                    self.ids.update(raw_ids(chunk))
        if self.target.format == "parquet":
            self._sink.write_table(table, row_group_size=ROW_GROUP)
        else:
            self._sink.write_batch(one_batch(table), custom_metadata=told)
        self.columns = tuple(table.column_names)

    def _open(self, schema: pa.Schema) -> Any:
        if self.target.format == "arrow":
            return pa.ipc.new_file(pa.PythonFile(self._stream, "w"), schema)
        return pq.ParquetWriter(self._stream, schema, compression="zstd", compression_level=1, use_dictionary=False)

    def finish(self, inputs: Mapping[str, str], counts: Mapping[str, int]) -> Shard:
        assert self._sink is not None, "a shard needs at least one table, even an empty one"
        self._sink.close()
        if time.monotonic() - self.started > LONG and (found := self.target.committed(self.name, inputs)):
            self.abandon(Overtaken(self.name))  # a second copy of the task was faster: its file stays as it was read
            return found
        self._block.__exit__(None, None, None)
        ids = self.ids.hexdigest() if "id" in self.columns else ""
        kept = {k: int(v) for k, v in sorted(counts.items())}
        told = self._told
        shard = Shard(self.name, self.file, self.rows, told.size, told.digest, ids, self.columns, dict(inputs), kept)
        return self.target.commit(shard, time.monotonic() - self.started)

    def abandon(self, error: BaseException) -> None:
        if self._sink is not None:
            with contextlib.suppress(Exception):  # else it closes itself later, into a file that is gone, and says so
                self._sink.close()
        try:
            self._block.__exit__(type(error), error, error.__traceback__)
        except BaseException as again:  # the context manager hands the error back; the caller raises it
            if again is not error:
                raise


def one_batch(table: pa.Table) -> pa.RecordBatch:
    """A table as exactly one record batch, an empty one included."""
    batches = table.combine_chunks().to_batches()
    if not batches:
        return pa.RecordBatch.from_arrays([pa.array([], f.type) for f in table.schema], schema=table.schema)
    assert len(batches) == 1, "columns that outgrow one chunk must be large_ types"
    return batches[0]


def standing(target: Target, source: str) -> Dataset | None:
    """The dataset of a target, if it was sealed under the same key from a source of the same digest and is whole."""
    found = opened(target.uri)
    if found is None or found.about.get("key") != target.key or found.about.get("from") != source:
        return None
    return None if lost(found) else found


FEW = 16  # files whose sizes are asked one by one: to list the folder may take a request a thousand of what it holds


def lost(dataset: Dataset) -> str | None:
    """The first shard whose file is gone or cut: it has to be made again. Lists each folder once: to ask for every
    file by itself took a request a shard, one after another, for each stage of a plan."""
    placed = [(shard, *dataset.at(shard).rpartition("/")[::2]) for shard in dataset.shards]
    many = {folder for folder, files in Counter(folder for _, folder, _ in placed).items() if files > FEW}
    there = {folder: store.sizes(folder) for folder in many}
    for shard, folder, file in placed:
        size = there[folder].get(file) if folder in many else store.size(dataset.at(shard))
        if size != shard.size:
            return shard.name
    return None


def raw_ids(chunk: pa.FixedSizeBinaryArray) -> memoryview:
    """The bytes of an id column (fixed-size binary, no nulls), without a copy."""
    width = chunk.type.byte_width
    return memoryview(chunk.buffers()[1])[chunk.offset * width : (chunk.offset + len(chunk)) * width]
