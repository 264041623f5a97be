"""exchange: all rows with the same key meet, over sealed files, so that a killed exchange goes on where it was.

Ray's own shuffles do not serve here (references by the product of maps and parts, or a lost node that ends the job);
this one is two maps: M files with an index of parts, then range reads, of which each is checked by itself.
"""

import hashlib
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa

from tundish.cluster import retry, store
from tundish.cluster.map import map_, origin_of
from tundish.cluster.shards import Damaged, Dataset, Shard, digest_of
from tundish.cluster.target import Target, one_batch, standing
from tundish.cluster.verbs import BATCH, At, Cluster, Fn, Job, Source, Told

MARK = "sha256"  # what a record batch is told with: the digest of its own bytes


def mixed(values: np.ndarray) -> np.ndarray:
    """Steele, Lea and Flood's splitmix64 finaliser (OOPSLA 2014) over uint64 keys: spreads them evenly over parts."""
    z = values.astype(np.uint64) + np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def part_of(column: pa.ChunkedArray, parts: int) -> np.ndarray:
    """The part each key belongs to; keys are integers or fixed-size binaries of at least 8 bytes."""
    array = column.combine_chunks()
    if pa.types.is_fixed_size_binary(array.type):
        raw = np.frombuffer(b"".join(array.to_pylist()), np.uint8).reshape(len(array), array.type.byte_width)
        keys = np.ascontiguousarray(raw[:, :8]).view(np.uint64).reshape(-1)
    else:
        keys = array.to_numpy(zero_copy_only=False).astype(np.uint64)
    return (mixed(keys) % np.uint64(parts)).astype(np.int64)


@dataclass(frozen=True)
class _Cut:
    """Write one file for a group of source shards: record batch p holds the rows bound for part p."""

    twice: ClassVar[bool] = True  # files are committed whole, from the same inputs with the same bytes

    fn: Fn | None
    source: Source
    target: Target
    by: str
    parts: int
    numbered: bool = False

    def __call__(self, item: tuple[str, tuple[tuple[int, str], ...]]) -> dict[str, Any]:
        name, members = item
        inputs = {k: v for _, member in members for k, v in self.source.digests(member).items()}
        if shard := self.target.committed(name, inputs):
            return shard.plain()
        began, tally = time.monotonic(), Counter[str]()
        bound: list[list[pa.Table]] = [[] for _ in range(self.parts)]
        for index, member in members:
            row = 0
            for batch in self.source.batches(member, BATCH):
                rows = batch if self.fn is None else self.fn(batch, At(member, index, row, tally))
                row += len(batch)
                self._scatter(rows, bound)
        writer = self.target.writer(name)
        writer.started = began  # who looks for another's commit goes by the time the whole took
        try:
            for tables in bound:
                batch = one_batch(pa.concat_tables(tables))
                writer.write(pa.Table.from_batches([batch]), {MARK: mark_of(batch)})
            return writer.finish(inputs, tally).plain()
        except BaseException as error:
            writer.abandon(error)
            raise

    def _scatter(self, rows: pa.Table, bound: list[list[pa.Table]]) -> None:
        if self.numbered:
            part = rows[self.by].to_numpy().astype(np.int64)
            assert not len(part) or 0 <= part.min() <= part.max() < self.parts, f"{self.by} leads outside of the parts"
        else:
            part = part_of(rows[self.by], self.parts) if len(rows) else np.empty(0, np.int64)
        order = np.argsort(part, kind="stable")
        ends = np.searchsorted(part[order], np.arange(self.parts + 1))
        taken = rows.take(pa.array(order))
        for p in range(self.parts):
            if ends[p + 1] > ends[p] or not bound[p]:
                bound[p].append(taken.slice(ends[p], ends[p + 1] - ends[p]))


@dataclass(frozen=True)
class Pieces:
    """The cut files, seen from the side of the parts: shard p is every file's record batch p."""

    dataset: Dataset
    parts: int
    sort: tuple[str, ...]
    origin: str  # digest of what the cut files were cut from
    whole: bool = False

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(f"part-{p:05d}" for p in range(self.parts))

    def digests(self, name: str) -> dict[str, str]:
        return {self.dataset.address: self.origin}

    def batches(self, name: str, rows: int) -> Iterator[pa.Table]:
        """All rows of the part at once, sorted: equal keys are neighbours and the order of files does not matter.

        Without a sort, file by file, for functions that look at one row at a time; or, where the `whole` part is
        wanted, one table of them all in the order of the files, mapped from disk where they lie there.
        """
        p = int(name.rsplit("-", 1)[1])
        pieces = (self._piece(file, p) for file in self.dataset.names)
        if self.sort:
            yield pa.concat_tables(pieces).sort_by([(column, "ascending") for column in self.sort])
        elif self.whole:
            yield pa.concat_tables(pieces)
        else:
            yield from pieces

    def _piece(self, name: str, p: int) -> pa.Table:
        uri = self.dataset.path(name)
        if store.local(uri):
            return self._cut_out(pa.memory_map, uri, uri, p)
        filesystem, path = store.resolve(uri)
        with store.telling(uri):
            return retry.patiently(lambda: self._cut_out(filesystem.open_input_file, path, uri, p))

    def _cut_out(self, opened: Callable[[str], pa.NativeFile], path: str, uri: str, p: int) -> pa.Table:
        """One record batch, checked by the digest it bears itself: that of the file would take a reading of it all in
        each process, of which most need a thousandth."""
        try:
            batch, told = pa.ipc.open_file(opened(path)).get_batch_with_custom_metadata(p)
        except FileNotFoundError:
            raise Damaged(f"{uri} is named in a manifest and is not there; restore it, or run again") from None
        except (pa.ArrowException, IndexError, OSError) as error:  # its end is gone, or what says where the rows lie
            if isinstance(error, OSError) and not store.local(uri):
                raise  # may be the way there
            raise Damaged(f"{uri} does not match its digest: its end is gone; delete it and run again") from None
        if told.get(MARK.encode()) != mark_of(batch).encode():
            raise Damaged(f"{uri} does not match its digest in part {p}; delete it and run again")
        return pa.Table.from_batches([batch])


def mark_of(batch: pa.RecordBatch) -> str:
    """Digest of a record batch, the same before it was written and after it was read."""
    return hashlib.sha256(batch.serialize()).hexdigest()


def exchange_(
    cluster: Cluster,
    stage: str,
    fn: Fn,
    source: Source,
    out: Target,
    *,
    by: str,
    parts: int,
    sort: Sequence[str] = (),
    whole: bool = False,
    first: Fn | None = None,
    about: Mapping[str, Any] | None = None,
    files: int = 1024,
    numbered: bool = False,
) -> Dataset:
    """Bring all rows with the same `by` to one call of `fn`, which gets a whole part, sorted by `sort`; or unsorted,
    if it says `whole`. With `numbered`, `by` says which part a row goes to: a number below `parts`.

    Two maps over sealed files: the first writes one file for each group of source shards (at most `files` of them,
    never one a pair), after `first` was applied to its batches; the second range-reads its part of each. A part
    must fit a worker; choose `parts` from the rows, not from the workers, because it decides the bytes.
    """
    pieces = Target(store.join(out.uri, "pieces"), digest_of([out.key, by, parts]), "arrow")
    origin = origin_of(source)
    assert source.names, f"{stage}: an exchange needs at least one shard, even an empty one"
    if (found := standing(out, origin)) is not None:
        return found
    store.sweep(pieces.uri)
    span = -(-len(source.names) // files)
    members = list(enumerate(source.names))
    groups = [
        (f"piece-{g:05d}", tuple(members[s : s + span])) for g, s in enumerate(range(0, len(members), max(1, span)))
    ]
    cut = _Cut(first, source, pieces, by, parts, numbered)
    cluster.watch(f"{stage}: cut", 0, len(groups), None)
    shards = []
    for done, plain in enumerate(cluster.each(f"{stage}: cut", cut, groups), 1):
        shards.append(Shard.of(plain))
        cluster.watch(f"{stage}: cut", done, len(groups), Told(shards[-1].name, shards[-1].rows, {}))
    met = Pieces(pieces.seal(shards), parts, tuple(sort), origin, whole)
    [(sealed,)] = map_(cluster, stage, [Job(fn, (out,), about=about or {})], met, origin=origin)
    store.remove(pieces.uri)  # the parts are sealed; the way there is not needed again
    return sealed
