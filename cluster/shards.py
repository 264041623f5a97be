"""Rows at rest: a dataset is a directory of shards, their commits, and a manifest written last.

    <uri>/part-00017.parquet          text and attributes (zstd level 1, no dictionary on text)
    <uri>/part-00017.arrow            token shards and pieces (Arrow IPC file, uncompressed, memory-mapped)
    <uri>/commits/part-00017.json     digest of the bytes, of the ids, of every input shard; counters
    <uri>/manifest.json               the shards, gathered; its existence means the dataset is whole

Promises: readers trust only the manifest; a shard is checked against its digest before its rows are used; datasets
lie beside each other only when every shard has the same name and the same ids in the same order. Refuses, by name,
a shard whose bytes changed, and a manifest that leads out of its root, but for archives and token shards that are read
where they lie. Costs one hashing pass a shard and process; a shard that lies elsewhere comes once, whole, for its
digest and its rows.
"""

import functools
import hashlib
import json
import posixpath
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tundish.cluster import retry, store

SCHEMA = 1
NAME = re.compile(
    r"[^/\\\0.][^/\\\0]{0,199}(/[^/\\\0.][^/\\\0]{0,199}){0,3}"
)  # of a shard: files made of it bear it, too
ADDRESS = re.compile(r"[^/]*-[^/-]{10}")  # of a stage, as `address_of` finds it
KNOWN = 4096  # files that a process remembers to have checked


class Damaged(ValueError):
    """A shard's bytes are not what its manifest says."""


@dataclass(frozen=True)
class Shard:
    """One file of a dataset, as its commit describes it."""

    name: str  # part-00017
    file: str  # relative to the dataset: part-00017.parquet, ../extract-3fa9c1d2e0/part-00003.parquet
    rows: int
    size: int
    digest: str  # SHA-256 of the file
    ids: str = ""  # digest of the id column in row order; "" where rows have no id
    columns: tuple[str, ...] = ()
    inputs: Mapping[str, str] = field(default_factory=dict)  # source shard -> its digest
    counts: Mapping[str, int] = field(default_factory=dict)
    constants: Mapping[str, str] = field(default_factory=dict)  # columns that are one value for the whole shard

    @property
    def content(self) -> str:
        """Digest of the rows as they are read: the file's, with the constants laid over it."""
        return digest_of([self.digest, dict(self.constants)]) if self.constants else self.digest

    def plain(self) -> dict[str, Any]:
        laid = {"inputs": dict(self.inputs), "counts": dict(self.counts), "constants": dict(self.constants)}
        return {**self.__dict__, "columns": list(self.columns), **laid}

    @classmethod
    def of(cls, plain: Mapping[str, Any], uri: str = "", placed: bool = False) -> "Shard":
        """Raises ValueError for a name that would lead out of the folder of what is made from it, and for a file out of
        the root that its dataset lies in at `uri`. `placed`: the dataset may hold files by their full address."""
        if not NAME.fullmatch(plain["name"]):
            raise ValueError(f"{plain['name'][:80]!r} is no name of a shard")
        if not (placed and far(plain["file"])) and not _within(plain["file"], uri):
            raise ValueError(f"{plain['name']} names the file {plain['file'][:200]!r}, which is none of its root")
        return cls(**{**plain, "columns": tuple(plain["columns"])})


@dataclass(frozen=True)
class Dataset:
    """A sealed dataset, a choice of its columns, and what is laid beside it."""

    uri: str
    shards: tuple[Shard, ...]
    about: Mapping[str, Any] = field(default_factory=dict)
    others: tuple["Dataset", ...] = ()
    columns: tuple[str, ...] | None = None

    @property
    def address(self) -> str:
        """The last part of the URI: `judge-3fa9c1d2e0`, or `…/dropped` for a dataset inside a stage."""
        return address_of(self.uri)

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(shard.name for shard in self.shards)

    @property
    def rows(self) -> int:
        return sum(shard.rows for shard in self.shards)

    @property
    def digest(self) -> str:
        """Digest of the content: names, bytes and ids of every shard; no clock and no place in it."""
        return digest_of([(s.name, s.digest, s.ids, dict(s.constants)) for s in self.shards])

    @property
    def counts(self) -> dict[str, int]:
        return total(shard.counts for shard in self.shards)

    def shard(self, name: str) -> Shard:
        return self._by_name[name]

    @functools.cached_property
    def _by_name(self) -> dict[str, Shard]:
        return {shard.name: shard for shard in self.shards}

    def select(self, *columns: str) -> "Dataset":
        """The same rows with these columns only (they may come from what lies beside)."""
        return replace(self, columns=columns)

    def beside(self, *others: "Dataset") -> "Dataset":
        """Lay row-aligned datasets next to each other; refuses what is not aligned."""
        for other in others:
            if other.names != self.names:
                raise ValueError(
                    f"{other.address} has other shards than {self.address}; they cannot lie beside each other"
                )
            for mine, theirs in zip(self.shards, other.shards, strict=True):
                if mine.ids != theirs.ids or mine.rows != theirs.rows:
                    raise ValueError(
                        f"{mine.name} of {other.address} has other rows than that of {self.address}; run it again"
                    )
        flat = [part for other in others for part in (replace(other, others=()), *other.others)]
        return replace(self, others=(*self.others, *flat))

    def digests(self, name: str) -> dict[str, str]:
        """What decides the rows of a shard: the digest of each file that `read` would open."""
        return {f"{d.address}/{name}": d.shard(name).content for d in self._sources()}

    def only(self, name: str) -> "Dataset":
        """What has to be known to read one shard: it, and the first one, which says where each column lies."""
        shards = tuple({one.name: one for one in (*self.shards[:1], self.shard(name))}.values())
        return replace(self, shards=shards, about={}, others=tuple(other.only(name) for other in self.others))

    def _sources(self) -> list["Dataset"]:
        """The datasets that hold the wanted columns; all of them when no columns were chosen."""
        every = [self, *self.others]
        if self.columns is None:
            return every
        wanted, missing = [], set(self.columns) - {"id"}
        for dataset in every:
            held = {c for shard in dataset.shards[:1] for c in (*shard.columns, *shard.constants)}
            if missing & held:
                wanted.append(dataset)
                missing -= held
        return wanted or [self]

    @property
    def held(self) -> frozenset[str]:
        """The columns there are, here and beside; as the first shards say."""
        every = (shard for dataset in (self, *self.others) for shard in dataset.shards[:1])
        return frozenset(column for shard in every for column in (*shard.columns, *shard.constants))

    def read(self, name: str) -> pa.Table:
        """The rows of one shard, own columns first, each later dataset adding the columns not yet there."""
        table: pa.Table | None = None
        for dataset in self._sources():
            side = dataset._own(name, self.columns)
            if table is None:
                table = side
                continue
            for column in side.column_names:
                if column not in table.column_names:
                    table = table.append_column(side.schema.field(column), side[column])
        assert table is not None
        return table.select([c for c in self.columns if c in table.column_names]) if self.columns else table

    def _own(self, name: str, columns: tuple[str, ...] | None) -> pa.Table:
        shard = self.shard(name)
        table = load(self.at(shard), shard, columns)
        for column, value in shard.constants.items():
            if columns is None or column in columns:
                filled = pa.array(np.full(len(table), value, dtype=object), pa.string())
                at = table.schema.get_field_index(column)
                table = table.append_column(column, filled) if at < 0 else table.set_column(at, column, filled)
        return table

    def batches(self, name: str, rows: int) -> Iterator[pa.Table]:
        """The shard's rows in tables of `rows`; one empty table when there are none, so that the schema is known."""
        table = self.read(name)
        for start in range(0, max(1, len(table)), rows):
            yield table.slice(start, rows)

    def table(self) -> pa.Table:
        """Every row, in order. For small datasets: it holds them all."""
        return pa.concat_tables([self.read(name) for name in self.names]) if self.shards else pa.table({})

    def path(self, name: str) -> str:
        """The URI of a shard's file."""
        return self.at(self.shard(name))

    def at(self, shard: Shard) -> str:
        """A shard's file: inside the dataset, or wherever it lies when it was taken in by reference."""
        return shard.file if far(shard.file) else store.join(self.uri, shard.file)


def far(file: str) -> bool:
    """Whether a shard's file is named by its full address, and not from its dataset."""
    return "://" in file or file.startswith("/")


def _placed(about: Mapping[str, Any], file: str) -> bool:
    """Whether a dataset may hold this file where it lies: archives that an Ingest reads in place, tokens of the corpora
    that a Mix brings together. What else a manifest says so of is another file of the machine that reads it."""
    return about.get("kind") == "archives" or ("origins" in about and file.endswith(".arrow"))


def _within(file: str, uri: str) -> bool:
    """Whether a relative name stays in its stage's folder, or leads to `ADDRESS/...` of the same root.

    >>> [_within(f, "/srv/r/mix-0123456789/holdout") for f in ("a.arrow", "../../read-0123456789/a", "../v.model")]
    [True, True, True]
    >>> [_within(f, "/srv/r/mix-0123456789") for f in ("../lease.json", "../../read-0123456789/a", "/etc/hostname")]
    [False, False, False]
    """
    steps = posixpath.normpath(file).split("/")  # a Gather of a Gather: ../gather-…/../extract-…/part-00000.parquet
    up, folders = steps.count(".."), address_of(uri).split("/")
    if far(file) or not file or steps == ["."] or len(file) > 1000 or re.search(r"[\\\0]", file):
        return False
    if not ADDRESS.fullmatch(folders[0]):  # a copy under another name: its place in a root is not known
        return up <= 1 or (up == 2 and len(steps) > 3 and ADDRESS.fullmatch(steps[2]) is not None)
    return up < len(folders) or (up == len(folders) < len(steps) - 1 and ADDRESS.fullmatch(steps[up]) is not None)


def address_of(uri: str) -> str:
    parts = uri.rstrip("/").split("/")
    at = next(
        (i for i in range(len(parts) - 1, -1, -1) if "-" in parts[i] and len(parts[i].rsplit("-", 1)[1]) == 10), -1
    )
    return "/".join(parts[at:])


def digest_of(value: Any) -> str:
    """SHA-256 of a JSON value in its one canonical spelling."""
    return hashlib.sha256(
        json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    ).hexdigest()


def total(counts: Iterable[Mapping[str, int]]) -> dict[str, int]:
    summed: dict[str, int] = {}
    for one in counts:
        for key, value in one.items():
            summed[key] = summed.get(key, 0) + value
    return dict(sorted(summed.items()))


_known: set[tuple[str, str, int, int]] = set()  # files this process has checked: URI, digest, size, time


def _checked(uri: str, digest: str, size: int, time: int, found: Callable[[], str]) -> None:
    key = (uri, digest, size, time)
    if key in _known:
        return
    if found() != digest:
        raise Damaged(f"{uri} does not match its digest in the manifest; restore it, or delete it and run again")
    if len(_known) >= KNOWN:
        _known.clear()
    _known.add(key)


def check(uri: str, shard: Shard) -> None:
    """Refuse a shard that is gone, cut or changed; a file already checked is hashed again only if it was touched."""
    size = store.size(uri)
    if size is None:
        raise Damaged(f"{uri} is named in a manifest and is not there; restore it, or run again")
    path = store.local(uri)
    _checked(uri, shard.digest, size, path.stat().st_mtime_ns if path else 0, lambda: store.digest(uri))


def load(uri: str, shard: Shard, columns: tuple[str, ...] | None = None) -> pa.Table:
    """The table in a shard's file, after its digest was checked. Arrow files on local disks are memory-mapped."""
    if path := store.local(uri):
        check(uri, shard)
        return _table(pa.OSFile(str(path)) if uri.endswith(".parquet") else pa.memory_map(str(path)), uri, columns)
    with store.telling(uri):
        return retry.patiently(lambda: _table(_fetched(uri, shard), uri, columns))


def _table(source: pa.NativeFile, uri: str, columns: tuple[str, ...] | None) -> pa.Table:
    if uri.endswith(".parquet"):
        reader = pq.ParquetFile(source)
        wanted = None if columns is None else [c for c in reader.schema_arrow.names if c in columns]
        return reader.read(columns=wanted)
    table = pa.ipc.open_file(source).read_all()
    return table if columns is None else table.select([c for c in table.column_names if c in columns])


def _fetched(uri: str, shard: Shard) -> pa.NativeFile:
    """A file that lies elsewhere, after its digest was checked. The first time it comes whole, in one request; block
    by block for its digest, and again for its rows, it took a request a MiB."""
    filesystem, path = store.resolve(uri)
    try:
        stream = filesystem.open_input_file(path)
        size = stream.size()
        if (uri, shard.digest, size, 0) in _known:
            return stream
        body = stream.read_buffer()
    except FileNotFoundError:
        raise Damaged(f"{uri} is named in a manifest and is not there; restore it, or run again") from None
    _checked(uri, shard.digest, size, 0, lambda: hashlib.sha256(body).hexdigest())
    return pa.BufferReader(body)


def opened(uri: str) -> Dataset | None:
    """The sealed dataset at a URI, or None when there is none (yet)."""
    try:
        manifest = store.read_json(store.join(uri, "manifest.json"))
        if manifest is None:
            return None
        about = manifest.get("about", {})
        shards = tuple(Shard.of(each, uri, _placed(about, each["file"])) for each in manifest.get("shards", ()))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        why = error.why if isinstance(error, store.Unread) else error
        raise Damaged(
            f"{uri}/manifest.json is cut or changed ({why}); restore it, or delete it and run again"
        ) from None
    if manifest.get("schema") != SCHEMA:
        raise ValueError(
            f"{uri} was written with schema {manifest.get('schema')} and this version reads {SCHEMA}; use a new root"
        )
    return Dataset(uri, shards, about)


def verify(dataset: Dataset) -> list[str]:
    """Re-hash every file of a dataset; one sentence for each that is not what the manifest says."""
    wrong = []
    for shard in dataset.shards:
        uri = dataset.at(shard)
        if store.size(uri) is None:
            wrong.append(f"{dataset.address}/{shard.name}: the file is gone")
        elif store.size(uri) != shard.size or store.digest(uri) != shard.digest:
            wrong.append(f"{dataset.address}/{shard.name}: the bytes differ from the digest in the manifest")
    return wrong
