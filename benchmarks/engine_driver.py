"""Where the driver would bind: CPU-seconds of its own work over 1,000, 10,000 and 100,000 tasks, step by step.

The real driver code runs (`Local.each`, `map_`, `Target.seal`, `lost`, the progress bar); only the work of shards is
left out: tasks return at once, or a record of a shard is given back for each. Beside three steps stands how they were
before this file was written, in the same run: the work sent with every item (pickled and read once an item, the square
of their number), the manifest through json's indenting encoder, and the sizes of the files asked one by one.

`first_bottleneck_tasks`: the number of tasks from which the driver takes as much CPU for a task as leaves two workers
waiting at the least work there is (a shard of one row: read, written, synced, committed); by a line through its seconds
a task, which is flat where a step is linear. With no such number below ten times the most that was tried, it is 0.
"""

import json
import multiprocessing
import random
import shutil
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from time import process_time
from typing import Any

import numpy as np
import pyarrow as pa
from rich.console import Console

from tundish.cluster import store
from tundish.cluster.local import Local
from tundish.cluster.map import Passed, map_
from tundish.cluster.shards import SCHEMA, Dataset, Shard
from tundish.cluster.target import Target, lost, manifest_of
from tundish.cluster.verbs import At, Job, Told, unwatched
from tundish.pipeline.progress import Progressed

TASKS = (1_000, 10_000, 100_000)
FEW = (100, 300, 800)  # tasks for what was: it takes their square, hours for 100,000
WORKERS = 2
LEAST = 100  # shards of one row, for what a worker takes at least


def described(count: int, uri: str) -> Dataset:
    """So many shards that are nowhere, described as a stage of the project describes its own."""
    draw = random.Random(count)
    made = []
    for number in range(count):
        name, digests = f"part-{number:05d}", [draw.randbytes(32).hex() for _ in range(3)]
        inputs = {f"gather-0123456789/{name}": digests[2]}
        counts = {"dropped:gopher_short_doc": draw.randrange(900), "kept": draw.randrange(9000)}
        columns = ("id", "text", "url", "title", "date", "language", "reason")
        shard = Shard(name, f"{name}.parquet", 9000, 0, digests[0], digests[1], columns, inputs, counts)
        made.append(shard)
    return Dataset(uri, tuple(made))


@dataclass
class Replayed:
    """A cluster that works no shard: it gives back the record of each."""

    records: Sequence[Shard]
    watch: Callable[..., None] = unwatched
    handed: tuple[Any, Sequence[Any]] = (None, ())  # the work and the items it was given last

    def each(self, stage: str, work: Any, items: Sequence[Any]) -> Iterator[Any]:
        self.handed = work, items
        for record in self.records:
            yield Passed([[record.plain()]], (0,))


@dataclass
class Timed(Local):
    """One worker, and the CPU-seconds that were its own."""

    spent: float = 0.0

    def each(self, stage: str, work: Callable[[Any], Any], items: Sequence[Any]) -> Iterator[Any]:
        for item in items:
            begun = process_time()
            told = work(item)
            self.spent += process_time() - begun
            yield told


@dataclass(frozen=True)
class Idle:
    """Weighs what a map's work weighs, and does nothing. What a map's work was held all of its source."""

    work: Any

    def __call__(self, item: Any) -> str:
        return str(item[1])


def same(rows: pa.Table, at: At) -> pa.Table:
    return rows


def number(item: int) -> int:
    return item


def each_before(workers: int, work: Callable[[Any], Any], items: Sequence[Any]) -> None:
    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
        list(pool.map(number, range(4 * workers)))
        for future in as_completed([pool.submit(work, item) for item in items]):
            future.result()


def manifest_before(dataset: Dataset) -> str:
    said = {"schema": SCHEMA, "digest": dataset.digest, "about": dataset.about, "sealed": 0.0}
    value = {**said, "shards": [shard.plain() for shard in dataset.shards]}
    return json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False)


def lost_before(dataset: Dataset) -> str | None:
    return next((s.name for s in dataset.shards if store.size(dataset.at(s)) != s.size), None)


def watched(count: int) -> None:
    """The progress bar of a terminal, told of every task."""
    with Path("/dev/null").open("w") as nowhere, Progressed(Console(file=nowhere, force_terminal=True)) as shown:
        for done in range(count):
            shown.watch("Engine", done, count, Told("part", 1, {}))


def spent(call: Callable[[], Any]) -> float:
    """CPU-seconds of the driver, its threads included."""
    begun = process_time()
    call()
    return process_time() - begun


def steps(folder: Path, count: int, cluster: Local) -> dict[str, float]:
    """CPU-seconds of the driver for so many tasks, by step; `before …` where a step was another one."""
    uri = str(folder / f"judge-{count:010d}")
    source, made = described(count, str(folder / "read-0123456789")), described(count, uri)
    job, replayed = Job(same, (Target(uri, "engine"),)), Replayed(made.shards)
    found = {"gather and seal": spent(lambda: map_(replayed, "Engine", [job], source))}
    work, items = replayed.handed
    found["hand out"] = spent(lambda: list(cluster.each("Engine", Idle(work), items)))
    if count <= max(FEW):
        named = list(enumerate(source.names))
        found["before: hand out"] = spent(lambda: each_before(WORKERS, Idle((job, source)), named))
    found["manifest alone"] = spent(lambda: manifest_of(made, 0.0))
    found["before: manifest alone"] = spent(lambda: manifest_before(made))
    for shard in made.shards:
        (Path(uri) / shard.file).touch()
    found["look for lost files"] = min(spent(lambda: lost(made)) for _ in range(3))
    found["before: look for lost files"] = min(spent(lambda: lost_before(made)) for _ in range(3))
    found["progress"] = spent(lambda: watched(count))
    shutil.rmtree(uri)
    return found


def least(folder: Path) -> float:
    """CPU-seconds a worker takes for a shard of one row: what is left when there is nothing to work on."""
    target = Target(str(folder / "read-0123456789"), "engine")
    rows = pa.table({"id": pa.array([b"0123456789abcdef"], pa.binary(16)), "text": pa.array(["."], pa.large_string())})
    made = []
    for index in range(LEAST):
        writer = target.writer(f"part-{index:05d}")
        writer.write(rows)
        made.append(writer.finish({}, {}))
    cluster = Timed()
    map_(cluster, "Engine", [Job(same, (Target(str(folder / "next-0123456789"), "engine"),))], target.seal(made))
    for name in ("read-0123456789", "next-0123456789"):
        shutil.rmtree(folder / name)
    return cluster.spent / LEAST


def whole(found: dict[str, float], before: bool) -> float:
    """The driver's seconds for all steps, now or as they were."""
    own = sum(found[name] for name in ("hand out", "gather and seal", "look for lost files", "progress"))
    changed = ("hand out", "manifest alone", "look for lost files")
    return own + sum(found[f"before: {name}"] - found[name] for name in changed) if before else own


def crossing(tasks: Sequence[int], seconds: Sequence[float], worker: float) -> int:
    """From how many tasks on the driver takes `worker` seconds for each: by a line through its seconds a task. 0 where
    there is none below ten times the most that was tried.

    >>> crossing((100, 200), (100 * 0.002, 200 * 0.003), 0.005)
    400
    >>> crossing((100, 200), (100 * 0.002, 200 * 0.002), 0.005)
    0
    """
    slope, start = np.polyfit(tasks, np.array(seconds) / np.array(tasks), 1)
    if start >= worker:
        return min(tasks)
    found = (worker - start) / slope if slope > 0 else np.inf
    return round(float(found)) if found <= 10 * max(tasks) else 0


def exponent(tasks: Sequence[int], seconds: Sequence[float]) -> float:
    """The power of the number of tasks by which seconds grow: 1 is linear."""
    return round(float(np.polyfit(np.log(tasks), np.log(seconds), 1)[0]), 2)


def driver(folder: Path, tasks: tuple[int, ...]) -> dict[str, Any]:
    """Prints a row a step; the keys of the last line."""
    worker, cluster = least(folder), Local(WORKERS)
    list(cluster.each("Warm", number, range(8)))
    found = {}
    for count in sorted({*FEW, *tasks}):
        found[count] = steps(folder, count, cluster)
        print(f"  {count:,} tasks done", flush=True)
    print(f"driver, CPU-us a task; a worker's least is {worker * 1e6:.0f} us")
    for step in found[FEW[0]]:
        own = [count for count in found if step in found[count]]
        rate = ", ".join(f"{count:,}: {found[count][step] / count * 1e6:.1f}" for count in own)
        power = exponent(own, [found[count][step] for count in own])
        print(f"  {step:<28} {rate}  (grows by the power {power})", flush=True)
    now, then = [whole(found[count], False) for count in tasks], [whole(found[count], True) for count in FEW]
    few_now = [whole(found[count], False) for count in FEW]
    return {
        "first_bottleneck_tasks": crossing(tasks, now, worker / WORKERS),
        "first_bottleneck_tasks_before": crossing(FEW, then, worker / WORKERS),
        "driver_us_a_task": {str(n): round(one / n * 1e6, 1) for n, one in zip(tasks, now, strict=True)},
        "driver_exponent": exponent(tasks, now),
        "driver_exponent_before": exponent(FEW, then),
        "driver_times_less": {str(n): round(b / a, 1) for n, a, b in zip(FEW, few_now, then, strict=True)},
        "manifest_times_less": round(ratio(found[max(tasks)], "manifest alone"), 1),
        "lost_times_less": round(ratio(found[max(tasks)], "look for lost files"), 1),
        "worker_least_us": round(worker * 1e6),
    }


def ratio(found: dict[str, float], step: str) -> float:
    return found[f"before: {step}"] / found[step]
