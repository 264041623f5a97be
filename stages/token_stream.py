"""Token shards as a trainer sees them: mapped files, the index of their rows, and the plan made from both.

    rows/part-00017.arrow      start: int64, the first token of every row of the token shard of this name, the end last

Promises: a shard is mapped, never read whole, where it lies on this machine; the index is 8 bytes a row, mapped as
well, and a sealed dataset like any other, so a resume cuts nothing anew. Costs one pass over a near shard's ids and
offsets, and one reading of a far shard for each new training. Refuses files that are no token shards, by name.
"""

import hashlib
import re
import shutil
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa

from tundish.cluster import store
from tundish.cluster.cache import Cache
from tundish.cluster.digests import cache as home
from tundish.cluster.fetch import Entry
from tundish.cluster.foresight import Future
from tundish.cluster.shards import Damaged, Dataset, check
from tundish.cluster.shards import Shard as File
from tundish.cluster.target import Target
from tundish.cluster.verbs import Cluster, Told
from tundish.operators.model.plan import Plan, Source
from tundish.operators.model.rows import Layout, Shard, counted

SIZE = re.compile(r"\s*(\d[\d.]*)\s*([kMGT]?)B?\s*")


@dataclass(frozen=True)
class TokenFiles:
    """The shards of one source. `index`, `rows` (of each shard) and `places` (of all rows that hold something) come
    from the index; where there is none they are counted when training begins. `entries`: size and SHA-256 of every
    shard, without which none can be kept in a cache."""

    name: str
    shards: tuple[str, ...]  # Arrow IPC files with a column tokens: large_list<uint16|uint32>
    digest: str = ""
    index: tuple[str, ...] = ()
    rows: tuple[int, ...] = ()
    places: int = 0
    entries: tuple[Entry, ...] = ()

    def counted(self, layout: Layout) -> "TokenFiles":
        """With what an index would say."""
        if self.index:
            return self
        found = [_cut(shard, layout) for shard in self.shards]
        told = hashlib.sha256(repr(self.digest).encode())
        for shard in self.shards if not self.digest else ():
            told.update(np.ascontiguousarray(mapped(shard)[1]).tobytes())
        rows, places = tuple(len(starts) - 1 for starts, _ in found), sum(places for _, places in found)
        return replace(self, digest=self.digest or told.hexdigest(), rows=rows, places=places)

    @property
    def source(self) -> Source:
        return Source(self.name, self.rows, self.digest)

    def shard(self, number: int, layout: Layout, path: str | None = None) -> Shard:
        """One shard, mapped where it lies or at another path, with its rows."""
        tokens, offsets = mapped(path or self.shards[number])
        starts = _index(self.index[number]) if self.index else counted(offsets, layout)[0]
        return Shard(tokens, offsets, starts)


def mapped(shard: str, body: bytes | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Tokens and offsets of a shard; on this machine they stay in the mapped file. `body`: its bytes, if at hand."""
    path = store.local(shard)
    try:
        far = pa.BufferReader(body) if body is not None else store.opened(shard) if path is None else None
        reader = pa.ipc.open_file(pa.memory_map(str(path)) if far is None else far)
        if reader.num_record_batches != 1:
            raise pa.ArrowInvalid(f"{reader.num_record_batches} record batches instead of one")
        column = reader.get_batch(0).column("tokens")
        if not pa.types.is_large_list(column.type):
            raise pa.ArrowInvalid(f"tokens are {column.type} instead of large_list")
        if column.type.value_type not in (pa.uint16(), pa.uint32()) or column.null_count or column.values.null_count:
            raise pa.ArrowInvalid(f"tokens are {column.type} with nulls or of another width than uint16 and uint32")
    except (OSError, KeyError, pa.ArrowInvalid) as error:
        raise ValueError(f"{shard!r} is no token shard ({error}); give files that Tokenize wrote") from None
    return column.values.to_numpy(zero_copy_only=True), column.offsets.to_numpy()


def _cut(shard: str, layout: Layout) -> tuple[np.ndarray, int]:
    return counted(mapped(shard)[1], layout)


def _index(file: str) -> np.ndarray:
    path = store.local(file)
    reader = pa.ipc.open_file(store.opened(file) if path is None else pa.memory_map(str(path)))
    return reader.get_batch(0).column("start").to_numpy(zero_copy_only=True)


def indexed(cluster: Cluster, tokens: Dataset, layout: Layout, target: Target) -> Dataset:
    """The rows of token shards, cut by the workers of a cluster: sealed, row-aligned with nothing, 8 bytes a row."""
    cut = _Cut(tokens, layout, target)
    shards = []
    cluster.watch("Pretrain: rows", 0, len(tokens.names), None)
    for done, plain in enumerate(cluster.each("Pretrain: rows", cut, tokens.names), 1):
        shards.append(File.of(plain))
        cluster.watch("Pretrain: rows", done, len(tokens.names), Told(shards[-1].name, shards[-1].rows, {}))
    return target.seal(shards, row=layout.row, context=layout.context)


@dataclass(frozen=True)
class _Cut:
    twice: ClassVar[bool] = True  # files are committed whole, from the same inputs with the same bytes

    tokens: Dataset
    layout: Layout
    target: Target

    def __call__(self, name: str) -> dict[str, Any]:
        inputs = self.tokens.digests(name)
        if shard := self.target.committed(name, inputs):
            return shard.plain()
        flat, offsets = mapped(self.tokens.path(name), self._body(name))
        starts, places = counted(offsets, self.layout)
        writer = self.target.writer(name)
        try:
            writer.write(pa.table({"start": starts}))
            counts = {"rows": len(starts) - 1, "places": places, "tokens": int(starts[-1] - starts[0])}
            counts["ids"] = 1 + int(flat.max(initial=0))
            return writer.finish(inputs, counts).plain()
        except BaseException as error:
            writer.abandon(error)
            raise

    def _body(self, name: str) -> bytes | None:
        """The bytes of a shard that lies elsewhere, fetched once and checked; those of a near one are mapped."""
        uri, shard = self.tokens.path(name), self.tokens.shard(name)
        if store.local(uri):
            check(uri, shard)
            return None
        body = store.read(uri)
        if hashlib.sha256(body).hexdigest() != shard.digest:
            raise Damaged(f"{uri} does not match its digest in the manifest; restore it, or tokenize again")
        return body


def files_of(tokens: Dataset, index: Dataset | None = None, suffix: str = "") -> tuple[TokenFiles, ...]:
    """The sources of a dataset of token shards, one an origin (its name with a suffix); a shard holds one origin."""
    found = []
    for origin, (first, count) in sorted(tokens.about["origins"].items()):
        names = [name for name in tokens.names if first <= int(name.rsplit("-", 1)[1]) < first + count]
        cut = [index.shard(name) for name in names] if index else []
        found.append(
            TokenFiles(
                origin + suffix,
                tuple(tokens.path(name) for name in names),
                tokens.digest,
                tuple(index.at(shard) for shard in cut) if index else (),
                tuple(shard.counts["rows"] for shard in cut),
                sum(shard.counts["places"] for shard in cut),
                tuple(Entry(tokens.path(name), tokens.shard(name).size, tokens.shard(name).digest) for name in names),
            )
        )
    return tuple(found)


class Opened:
    """(source, shard, position) -> its mapped arrays, for a `Stream`. Two windows of shards stay mapped: one that a
    cache has let go of keeps its bytes on disk as long as it is."""

    def __init__(
        self, files: Sequence[TokenFiles], layout: Layout, cache: Cache | None = None, window: int = 0
    ) -> None:
        self.files, self.layout, self.cache = tuple(files), layout, cache
        self._most = 8 + 2 * sum(min(window or len(one.shards), len(one.shards)) for one in files)
        self._first = np.cumsum([0, *(len(one.shards) for one in files)]).tolist()
        self._kept: OrderedDict[tuple[int, int], Shard] = OrderedDict()

    def __call__(self, source: int, shard: int, position: int) -> Shard:
        path = self.cache and str(self.cache.path(self._first[source] + shard, position))
        found = self._kept.pop((source, shard), None) or self.files[source].shard(shard, self.layout, path)
        self._kept[source, shard] = found
        while len(self._kept) > self._most:
            self._kept.popitem(last=False)
        return found

    def close(self) -> None:
        """Let go of the cache, if there is one."""
        if self.cache:
            self.cache.close()


def future(files: Sequence[TokenFiles], plan: Plan, last: int) -> Future:
    """From a position, the uses of the sources' shards up to position `last`, as a cache numbers files. A shard is
    needed from the beginning of the batch in which its first row comes."""
    batch = max(rows for _, rows in plan.batches)
    before = np.cumsum([0, *(len(one.shards) for one in files)]).tolist()

    def uses(position: int) -> Iterator[tuple[int, int, int]]:
        for use in plan.uses(position, last):
            begins = max(position, use.first // batch * batch)
            yield begins, before[use.source] + use.shard, use.last

    return uses


def cache_of(files: Sequence[TokenFiles], wish: str) -> Cache | None:
    """A cache for shards that lie elsewhere; None where all lie on this machine. `wish`: FOLDER=SIZE, or either."""
    entries = [entry for one in files for entry in one.entries]
    far = sum(entry.size for entry in entries if store.local(entry.uri) is None)
    if not far:
        return None
    folder, _, size = (
        wish.rpartition("=") if "=" in wish else ("", "", wish) if SIZE.fullmatch(wish) else (wish, "", "")
    )
    path = Path(folder).expanduser() if folder else home() / "tokens"
    path.mkdir(parents=True, exist_ok=True)
    return Cache(path, size_of(size) if size else min(far, shutil.disk_usage(path).free // 2), entries)


def size_of(text: str) -> int:
    """Bytes as people write them.

    >>> size_of("40GB"), size_of("1.5TB"), size_of("300 MB")
    (40000000000, 1500000000000, 300000000)
    """
    found = SIZE.fullmatch(text)
    try:
        return int(float(found[1]) * 1000 ** " kMGT".index(found[2] or " "))  # type: ignore[index]
    except (TypeError, ValueError):
        raise ValueError(f"{text!r} is no size of a cache; write it as 40GB or 800MB") from None


def mean_places(files: Sequence[TokenFiles], weights: Mapping[str, int]) -> float:
    """Places that hold something in the average row of a training by these weights."""
    total = sum(weights.values())
    each = {one.name: one.places / sum(one.rows) for one in files if weights.get(one.name)}
    return sum(weight / total * each[name] for name, weight in weights.items())
