"""What a shard costs, measured here once and kept in simulate.json beside this file; read by benchmarks/simulate.

`measured` runs the project's own map, one process, over shards of novels: the signals Judge writes and the signatures
Sign writes, in one pass. Kept are, for each shard, bytes of text, bytes read and written, CPU-seconds of the worker;
and for each shard of a large map, by the driver's own code over shards that are nowhere: bytes of the manifest, of the
item sent to a worker, of memory in every worker and, at its peak, in the driver, and CPU-seconds of the driver.

    python benchmarks/simulate_costs.py      some two minutes
"""

import gc
import json
import pickle
import tempfile
import time
import tracemalloc
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import engine_driver
import pyarrow as pa
import pyarrow.compute as pc
from engine_work import DATA, Carried, shards

from tundish.cluster.local import Local
from tundish.cluster.map import map_
from tundish.cluster.target import Target, manifest_of
from tundish.cluster.verbs import Job
from tundish.operators.text import minhash, warm
from tundish.operators.text.signals import meter_of, signals

FILE = Path(__file__).with_suffix(".json").with_stem("simulate")
SHARDS, SIZE = 24, 8_000_000  # shards that are measured, bytes of text of each
MANY = 4_000  # shards of the map whose driver is measured
BANDS, ROWS = 14, 8


class Costs(NamedTuple):
    """What simulate.json holds. A shard: bytes of text, bytes read, bytes written, CPU-seconds."""

    shards: list[list[float]]
    manifest: float  # bytes a shard of a large map, as the rest
    item: float  # bytes of what comes with a shard
    worker_memory: float  # bytes a shard of the map that each process holds
    worker_memory_before: float  # the same when every process knew of all shards of the source
    driver_memory: float
    driver_seconds: float
    machine: str


def kept(file: Path = FILE) -> Costs:
    return Costs(**json.loads(file.read_text()))


def columns(rows: pa.Table) -> pa.Table:
    """Signals and signatures of a batch, beside its ids."""
    text = rows["text"].combine_chunks()
    made = pa.Table.from_batches([signals(text, meter=meter_of("unicode"))])
    signed = minhash.signatures(text, count=BANDS * ROWS)
    return made.add_column(0, "id", rows["id"]).append_column("signature", signed)


@dataclass
class Clocked(Local):
    """One worker in this process, and the CPU-seconds of each item."""

    spent: list[float] = field(default_factory=list)

    def each(self, stage: str, work: Callable[[Any], Any], items: Sequence[Any]) -> Iterator[Any]:
        for item in items:
            begun = time.process_time()
            told = work(item)
            self.spent.append(time.process_time() - begun)
            yield told


def worked(folder: Path, count: int = SHARDS, size: int = SIZE, data: Path = DATA) -> list[list[float]]:
    """For each shard: bytes of text, read and written, CPU-seconds. The first shard is done once before, unmeasured."""
    source = shards(folder, count + 1, size, data)
    cluster = Clocked()
    [(made,)] = map_(
        cluster, "Measure", [Job(Carried(columns), (Target(str(folder / "out-0123456789"), "m"),))], source
    )
    found = []
    for one, out, seconds in zip(source.shards, made.shards, cluster.spent, strict=True):
        text = pc.sum(pc.binary_length(source.read(one.name)["text"])).as_py()
        found.append([text, one.size, out.size, round(seconds, 4)])
    return found[1:]


def described(folder: Path, count: int = MANY) -> dict[str, float]:
    """What a shard of a large map costs besides its work."""
    source = engine_driver.described(count, str(folder / "read-0123456789"))
    records = engine_driver.described(count, str(folder / "judge-0123456789"))
    job, replayed = Job(engine_driver.same, (Target(records.uri, "m"),)), engine_driver.Replayed(records.shards)
    begun = time.process_time()
    map_(replayed, "Measure", [job], source)
    seconds = (time.process_time() - begun) / count
    (Path(records.uri) / "manifest.json").unlink()
    peak = traced(lambda: map_(replayed, "Measure", [job], source))[1]
    work, items = replayed.handed
    sent, held = pickle.dumps(work), pickle.dumps(source)
    return {
        "manifest": len(manifest_of(records, 0.0).encode()) / count,
        "item": float(len(pickle.dumps(items[count // 2]))),
        "worker_memory": traced(lambda: pickle.loads(sent))[0] / count,
        "worker_memory_before": traced(lambda: pickle.loads(held))[0] / count,
        "driver_memory": (peak + traced(lambda: pickle.loads(held))[0]) / count,
        "driver_seconds": seconds,
    }


def traced(call: Callable[[], Any]) -> tuple[int, int]:
    """Bytes of memory that what is made holds, and that making it took at most."""
    gc.collect()
    tracemalloc.start()
    made = call()
    found = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    del made
    return found


def measured(machine: str, data: Path = DATA) -> Costs:
    warm.measuring("unicode")
    warm.signing()
    with tempfile.TemporaryDirectory(prefix="simulate-") as folder:
        return Costs(worked(Path(folder), data=data), **described(Path(folder)), machine=machine)


def stored_share(costs: Costs) -> float:
    """Bytes stored for a byte of text."""
    return sum(one[1] for one in costs.shards) / sum(one[0] for one in costs.shards)


def main() -> None:
    made = measured(f"2 cores x86-64, {time.strftime('%Y-%m-%d', time.gmtime())}")
    FILE.write_text(json.dumps(made._asdict()) + "\n")
    print(json.dumps(made._asdict()))


if __name__ == "__main__":
    main()
