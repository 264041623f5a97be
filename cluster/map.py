"""map: every job over every shard of a source, in one pass, each shard committed as it is done."""

import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, NamedTuple

import pyarrow as pa

from tundish.cluster import store
from tundish.cluster.metered import most_memory
from tundish.cluster.shards import Dataset, Shard, digest_of
from tundish.cluster.target import standing
from tundish.cluster.verbs import BATCH, At, Cluster, Job, Made, Source, Told, wants_gpu

MOST = 100_000  # tasks of one map: each costs a driver about a millisecond


def tasks_of(shards: int) -> int:
    """How many tasks the shards of a map are dealt to where a task costs more than handing over an item: neighbours
    go together, and a task that is done again skips those of its shards that were committed."""
    return min(shards, MOST)


def dealt(count: int) -> Iterator[range]:
    """Numbers of items, neighbours together, a group a task."""
    tasks = tasks_of(count)
    for number in range(tasks):
        yield range(number * count // tasks, (number + 1) * count // tasks)


def origin_of(source: Source) -> str:
    """Digest of everything a source would give, shard by shard."""
    return digest_of([[name, source.digests(name)] for name in source.names])


Apart = tuple[Dataset | None, ...]  # the source, and what each job reads, where that can be taken apart by shards
Item = tuple[int, str, Apart]  # number and name of a shard, and all that has to be known to read it


class Passed(NamedTuple):
    """What a worker answers for an item: shards of each job as plain values, and what it took."""

    shards: list[list[dict[str, Any]]]
    made: tuple[int, ...] = ()  # numbers of the jobs that ran; the others' shards were committed before
    read: int = 0  # rows of the source
    seconds: float = 0.0
    memory: int = 0  # bytes the process has held at most


@dataclass(frozen=True)
class _Items(Sequence[Item]):
    """The shards of a source, each with what has to be known of it alone, made when it is taken."""

    names: tuple[str, ...]
    sources: Apart

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[each] for each in range(*index.indices(len(self)))]
        name = self.names[index]
        return index, name, tuple(source and source.only(name) for source in self.sources)


@dataclass(frozen=True)
class _Work:
    """What a worker does with every item: picklable, sent to it once. What is said of a shard comes with its item: a
    worker that knew of all would hold a kilobyte a shard, which at ten million of them is more than it has."""

    twice: ClassVar[bool] = True  # shards are committed whole, from the same inputs with the same bytes

    jobs: tuple[Job, ...]
    source: Source | None  # none where each item brings its own

    @property
    def gpu(self) -> bool:
        return any(wants_gpu(job.fn) for job in self.jobs)

    def __call__(self, item: Item) -> Passed:
        index, name, (own, *reads) = item
        source = own or self.source
        assert source is not None
        jobs = tuple(replace(job, reads=one or job.reads) for job, one in zip(self.jobs, reads, strict=True))
        return _Pass(jobs, source)(index, name)


def _dealt(jobs: Sequence[Job], source: Source) -> tuple[_Work, _Items]:
    """The work of a map and its items."""
    every = (source, *(job.reads for job in jobs))
    apart = tuple(one if isinstance(one, Dataset) else None for one in every)
    kept = tuple(replace(job, reads=None) if one else job for job, one in zip(jobs, apart[1:], strict=True))
    return _Work(kept, None if apart[0] else source), _Items(source.names, apart)


@dataclass(frozen=True)
class _Pass:
    """One pass over a shard of the source."""

    jobs: tuple[Job, ...]
    source: Source

    def __call__(self, index: int, name: str) -> Passed:
        began, read = time.monotonic(), 0
        found = self.committed(name)
        if open_jobs := [j for j, shards in enumerate(found) if shards is None]:
            read = self._run(index, name, open_jobs, found)
        plain = [[shard.plain() for shard in shards or ()] for shards in found]
        return Passed(plain, tuple(open_jobs), read, time.monotonic() - began, most_memory())

    def committed(self, name: str) -> list[tuple[Shard, ...] | None]:
        """The shards of each job that are there already; None for a job that has to run."""
        found: list[tuple[Shard, ...] | None] = []
        for job in self.jobs:
            inputs = self._inputs(job, name, found)
            shards = None if inputs is None else [out.committed(name, inputs) for out in job.outs]
            found.append(tuple(s for s in shards if s) if shards and all(shards) else None)
        return found

    def _inputs(self, job: Job, name: str, found: Sequence[tuple[Shard, ...] | None]) -> dict[str, str] | None:
        inputs = dict((job.reads or self.source).digests(name))
        for before in job.after:
            shards = found[before]
            if shards is None:
                return None
            inputs |= {
                f"{Dataset(out.uri, ()).address}/{name}": s.digest
                for out, s in zip(self.jobs[before].outs, shards, strict=True)
            }
        return inputs

    def _run(self, index: int, name: str, open_jobs: Sequence[int], found: list[tuple[Shard, ...] | None]) -> int:
        """Do the jobs that are open, and put their shards among those found; the rows that were read. A commit is not
        looked up again: that is three requests a shard where the store is asked over a network."""
        needed = set(open_jobs)
        for j in reversed(range(len(self.jobs))):
            needed |= set(self.jobs[j].after) if j in needed else set()
        writers = {j: [out.writer(name) for out in self.jobs[j].outs] for j in open_jobs}
        tallies = {j: Counter() for j in needed}
        try:
            row = 0
            for batch in self.source.batches(name, BATCH):
                self._batch(batch, sorted(needed), writers, {j: At(name, index, row, tallies[j]) for j in needed})
                row += len(batch)
            for j in open_jobs:
                inputs = self._inputs(self.jobs[j], name, found)
                assert inputs is not None
                found[j] = tuple(w.finish(inputs, tallies[j]) for w in writers[j])
            return row
        except BaseException as error:
            for writer in (w for each in writers.values() for w in each):
                writer.abandon(error)
            raise

    def _batch(
        self, batch: pa.Table, needed: Sequence[int], writers: Mapping[int, list[Any]], at: Mapping[int, At]
    ) -> None:
        made: dict[int, pa.Table] = {}
        for j in needed:
            own = self.jobs[j].columns
            seen = batch if own is None else batch.select([c for c in own if c in batch.column_names])
            for before in self.jobs[j].after:
                seen = alongside(seen, made[before])
            parts = self.jobs[j].fn(seen, at[j])
            tables = parts if isinstance(parts, tuple) else (parts,)
            made[j] = tables[0]
            for writer, table in zip(writers.get(j, ()), tables, strict=j in writers):
                writer.write(table)


def alongside(table: pa.Table, other: pa.Table) -> pa.Table:
    """The columns of `other` that `table` lacks, added to it."""
    for column in other.column_names:
        if column not in table.column_names:
            table = table.append_column(other.schema.field(column), other[column])
    return table


def map_(
    cluster: Cluster, stage: str, jobs: Sequence[Job], source: Source, *, origin: str | None = None
) -> list[tuple[Dataset, ...]]:
    """Run every job over every shard of the source, in one pass, and seal what they wrote.

    Shards committed from the same inputs are kept. The datasets come back job by job, out by out; the first out of
    a job is sealed last, so its manifest means that all of the job is there. `stage`: who watches is told the jobs by
    its words between ` + `, where those are as many.
    """
    origins = [origin or origin_of(job.reads or source) for job in jobs]
    found = [tuple(standing(out, o) for out in job.outs) for job, o in zip(jobs, origins, strict=True)]
    if all(all(outs) for outs in found):
        return [tuple(d for d in outs if d) for outs in found]
    for job, outs in zip(jobs, found, strict=True):
        for out in job.outs:
            store.sweep(out.uri)
            if not all(outs):  # its shards may be written over: from here on the old manifest would lie
                store.remove(store.join(out.uri, "manifest.json"))
    work, items = _dealt(jobs, source)
    gathered: list[list[list[Shard]]] = [[[] for _ in job.outs] for job in jobs]
    cluster.watch(stage, 0, len(items), None)
    for done, result in enumerate(cluster.each(stage, work, items), 1):
        for j, shards in enumerate(result.shards):
            for o, plain in enumerate(shards):
                gathered[j][o].append(Shard.of(plain))
        latest = [[each[-1] for each in outs] for outs in gathered]
        cluster.watch(stage, done, len(items), _told(stage, result, latest, getattr(cluster, "workers", 0)))
    for out in (out for job in jobs for out in job.outs if store.local(out.uri) is not None):
        store.sweep(out.uri)  # of workers that were killed meanwhile; elsewhere it would be a listing for each stage
    sealed = []
    for job, outs, its_origin in zip(jobs, gathered, origins, strict=True):
        datasets = [
            out.seal(shards, **{**job.about, "from": its_origin})
            for out, shards in reversed(list(zip(job.outs, outs, strict=True)))
        ]
        sealed.append(tuple(reversed(datasets)))
    return sealed


def _told(stage: str, passed: Passed, latest: Sequence[Sequence[Shard]], workers: int) -> Told:
    """What who watches is told of a shard, whose outs are `latest`, job by job."""
    words = stage.split(" + ")
    names = words if len(words) == len(latest) else [stage] * len(latest)
    made = tuple(
        Made(names[j], latest[j][0].rows, sum(each.size for each in latest[j]), latest[j][0].counts)
        for j in passed.made
    )
    first = latest[0][0]
    cost = {"read": passed.read, "seconds": passed.seconds, "memory": passed.memory}
    return Told(first.name, first.rows, first.counts, made=made, workers=workers, kept=not made, **cost)
