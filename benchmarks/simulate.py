"""Hours, bytes and requests of one map over 10 TB and 1 PB of text on up to 5,000 workers, by simulation.

Promises: costs of shards are drawn from those measured here (simulate.json) and all else from distributions stated in
`Stated`, by seed: the same seed gives the same table. How shards go to tasks and what drags are the cluster's own
functions (`cluster/map.dealt`, `cluster/dragging`), events are simulate_core's. Each row stands three times: as the
cluster does it; without copies of tasks that drag; and with copies at the first look at which a worker is idle.

What binds first is the resource nearest to its limit: the driver's time, a node's network, the store's requests, memory
of the driver or of a node; more than 100 % is a run that cannot be. Workers themselves are no limit here: that they
are busy is what is wanted. Not simulated: the store's own errors, object placement, other users, CPUs of other kinds.

    make bench NAME=simulate [ARGS="--seed 2 --mtbf 24"]      a minute or two

Prints a table, as Markdown, and last one line of JSON.
"""

import argparse
import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from simulate_core import Farm, Outcome, dealt, simulate
from simulate_costs import Costs, kept

from tundish.cluster.dragging import DRAGS, SLOW

SIZES = {"10 TB": 10**13, "1 PB": 10**15}
WORKERS = (100, 1_000, 5_000)
RAY = 0.0011  # seconds of a driver for a task of cluster/ray_tasks (Ray 2.60, measured: 5,000 tasks that do nothing)
PART = 10 << 20  # bytes of a part of a file that Arrow puts in several (s3fs.cc)
HEADS, GETS, PUTS = 2, 1, 1  # requests a shard: its commit and its input looked for, its input, its commit
LOOK = 3  # requests to see that a shard was committed
READS, WRITES = 5_500, 3_500  # requests a second and prefix (Amazon S3, "Best practices design patterns")


@dataclass(frozen=True)
class Stated:
    """What was not measured here."""

    stored: int = 64 << 20  # bytes of a shard at rest: the default of Ingest.split and Read.piece
    spread: float = 0.3  # sigma of the log-normal factor on a shard's CPU-seconds, of mean 1
    slow: float = 0.01  # share of attempts at a shard that take `times` as long
    lame: float = 0.002  # share of workers that are so slow all along
    times: float = 10.0
    mtbf: float = 1_000.0  # hours of a node between failures, exponential
    node: int = 16  # workers a node
    memory: float = 64e9  # bytes of a node, and of the driver's machine
    network: float = 1.25e9  # bytes a second a node: 10 Gbit
    latency: float = 0.1  # seconds a request ("roughly 100-200 milliseconds", Amazon S3, "Performance guidelines")
    driver: float = RAY


class Load(NamedTuple):
    """A map of many shards: seconds each takes an unhurried worker, and what it moves."""

    seconds: np.ndarray
    read: float  # bytes, all shards
    written: float
    gets: float  # requests a shard that read, and that write
    puts: float


class Row(NamedTuple):
    text: str
    workers: int
    how: str
    shards: int
    hours: float
    useful: float
    read: float
    written: float
    requests: float
    manifest: float
    driver: float  # seconds a wall hour
    binds: str
    near: float  # how near to its limit that is: 1 is at it


def loaded(size: float, workers: int, costs: Costs, stated: Stated, seed: int) -> Load:
    """Shards of so much text. What a node's workers transfer at once is the share of their time that transfers take."""
    measured = np.array(costs.shards)
    text, read, written, cpu = measured.T
    share = read.sum() / text.sum()
    count = max(1, round(size * share / stated.stored))
    draw = np.random.default_rng((seed, count))
    each = stated.stored / share * (cpu / text)[draw.integers(len(text), size=count)]
    each *= np.exp(draw.normal(-(stated.spread**2) / 2, stated.spread, count))
    out = stated.stored * float(written.sum() / read.sum())
    puts = PUTS + (1 if out <= PART else 2 + -(-out // PART))
    waits = (HEADS + GETS + puts) * stated.latency
    moved, together = stated.stored + out, min(stated.node, workers)
    network = moved / stated.network
    for _ in range(50):  # to the point where the share of time and the pace of a transfer agree
        network = moved / stated.network * (1 + (together - 1) * network / (network + waits + float(each.mean())))
    return Load(each + waits + network, count * float(stated.stored), count * out, HEADS + GETS, puts)


def pace_of(load: Load, cuts: list[tuple[int, int]], stated: Stated, seed: int, workers: int) -> Any:
    """Seconds of each shard of a task, by attempt and worker: a second attempt has other luck."""
    lame = np.random.default_rng((seed, workers)).random(workers) < stated.lame

    def pace(task: int, attempt: int, worker: int) -> np.ndarray:
        first, last = cuts[task]
        seconds = load.seconds[first:last]
        drags = np.random.default_rng((seed, task, attempt)).random(last - first) < stated.slow
        return np.where(drags, seconds * stated.times, seconds) * (stated.times if lame[worker] else 1.0)

    return pace


def failures(nodes: int, mtbf: float, horizon: float, seed: int) -> list[tuple[float, int]]:
    """(second, node) of what fails within so many seconds. Other hours between failures stretch the same draw."""
    found: list[tuple[float, int]] = []
    for node in range(nodes):
        draw, now = np.random.default_rng((seed, node)), 0.0
        while (now := now + draw.exponential() * mtbf * 3600) < horizon:
            found.append((now, node))
    return sorted(found)


def ways(stated: Stated) -> Iterator[tuple[str, Farm]]:
    """As the cluster does it, without copies of what drags, and with copies that wait for nothing."""
    now = Farm(1, stated.node, stated.driver, again=True, slow=SLOW, patience=DRAGS)
    yield "now", now
    yield "no copies", replace(now, again=False)
    yield "copies at once", replace(now, slow=0.0, patience=0.0)


def outcome(load: Load, farm: Farm, workers: int, stated: Stated, seed: int) -> Outcome:
    cuts = dealt(len(load.seconds))
    farm = replace(farm, workers=workers, look=LOOK * stated.latency)
    ideal = float(load.seconds.sum()) / workers
    broken = failures(-(-workers // stated.node), stated.mtbf, 40 * ideal + 1e5, seed)
    return simulate(len(cuts), farm, pace_of(load, cuts, stated, seed, workers), broken)


def row(text: str, how: str, load: Load, told: Outcome, workers: int, stated: Stated, costs: Costs) -> Row:
    count, wall = len(load.seconds), told.seconds
    gets = told.shards * load.gets + told.looks * LOOK
    puts = told.shards * load.puts
    again = told.shards / count
    nodes = -(-workers // stated.node)
    limits = {
        "driver": told.driver / wall,
        "network": (load.read + load.written) * again / (wall * nodes * stated.network),
        "store, reads": gets / wall / READS,
        "store, writes": puts / wall / WRITES,
        "driver's memory": count * (costs.driver_memory + costs.item) / stated.memory,
        "workers' memory": count * costs.worker_memory * min(workers, stated.node) / stated.memory,
    }
    binds = max(limits, key=lambda name: limits[name])
    useful = float(load.seconds.sum()) / (workers * wall)
    told_driver = told.driver / wall * 3600
    return Row(
        text, workers, how, count, wall / 3600, useful, load.read * again, load.written * again, gets + puts,
        count * costs.manifest, told_driver, binds, limits[binds],
    )  # fmt: skip


def rows(costs: Costs, stated: Stated, seed: int, sizes: dict[str, int], workers: tuple[int, ...]) -> Iterator[Row]:
    for text, size in sizes.items():
        for number in workers:
            load = loaded(size, number, costs, stated, seed)
            for how, farm in ways(stated):
                told = outcome(load, farm, number, stated, seed)
                yield row(text, how, load, told, number, stated, costs)


def line(one: Row) -> str:
    cells = (
        f"{one.text}, {one.workers:,}", one.how, f"{one.hours:,.2f}", f"{one.useful:.1%}", f"{one.read / 1e12:,.1f}",
        f"{one.written / 1e12:,.1f}", f"{one.requests / 1e6:,.1f}", f"{one.manifest / 1e9:,.2f}",
        f"{one.driver:,.0f}", f"{one.binds} {one.near:.0%}",
    )  # fmt: skip
    return "| " + " | ".join(cells) + " |"


COLUMNS = (
    "text, workers", "how", "hours", "useful", "TB read", "TB written", "M requests", "GB manifest",
    "driver s an hour", "binds first",
)  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--mtbf", type=float, default=Stated.mtbf, help="hours of a node between failures")
    parser.add_argument("--slow", type=float, default=Stated.slow, help="share of attempts ten times as long")
    parser.add_argument("--lame", type=float, default=Stated.lame, help="share of workers slow all along")
    parser.add_argument("--stored", type=int, default=Stated.stored, help="bytes of a shard at rest")
    parser.add_argument("--workers", type=int, nargs="+", default=list(WORKERS))
    parser.add_argument("--sizes", nargs="+", choices=list(SIZES), default=list(SIZES))
    given = parser.parse_args()
    stated = Stated(stored=given.stored, slow=given.slow, lame=given.lame, mtbf=given.mtbf)
    print(f"| {' | '.join(COLUMNS)} |\n{'|---' * len(COLUMNS)}|")
    found = []
    for one in rows(kept(), stated, given.seed, {s: SIZES[s] for s in given.sizes}, tuple(given.workers)):
        found.append(one)
        print(line(one), flush=True)
    print(json.dumps({"seed": given.seed, "rows": [one._asdict() for one in found]}))


if __name__ == "__main__":
    main()
