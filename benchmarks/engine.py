"""What the engine costs beside a bare pool of processes, what a second core brings, and where its driver would bind.

Promises, each from alternating rounds in one run:
* `overhead_share`: wall seconds of `map_` on `Local` over those of a bare pool that does the same work of each shard
  (read Parquet, the same function, write Parquet, tell the digest) less 1; median of the rounds' ratios, with the least
  and the most of them; `_cpu`, of CPU-seconds. Files of both have the same bytes, which is checked. The function is
  FineWeb's chain; `_light`, one that does next to nothing. `promises_share`: the bare pool once it checks its input and
  syncs as the project promises, so that what is left of the overhead is handing out, commits and the manifest.
* `speedup_2_cores`: best round of one worker over the best of two. `speedup_room`: what two processes that do nothing
  but count get done over one, before and after: less than 2 is the machine's.
* `first_bottleneck_tasks`: see benchmarks/engine_driver.py.

    make bench NAME=engine [ARGS="--shards 4 --rounds 3 --only overhead"]      some two minutes each part

Costs 64 MB of text a shard under a temporary folder, twice. The load of the machine is told beside each time; where
others work on it, the CPU-seconds say more. `--ray`: the same on a Ray of its own. Prints tables and last one line
of JSON.
"""

import argparse
import contextlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import engine_driver
from engine_work import DATA, Carried, Pool, Rows, cpu_seconds, judged, room, shards, sifted, warm

from tundish.cluster.local import Local
from tundish.cluster.map import map_
from tundish.cluster.shards import Dataset
from tundish.cluster.target import Target
from tundish.cluster.verbs import Job

SIZE = 64_000_000  # bytes of text of a shard
PARTS = ("overhead", "light", "speedup", "driver")
Round = dict[str, tuple[float, float]]  # contender -> wall seconds, CPU-seconds


class Race:
    """One set of shards, and those who carry them."""

    def __init__(self, folder: Path, source: Dataset, clusters: dict[str, Any], pool: Pool | None) -> None:
        self.folder, self.source, self.clusters, self.pool = folder, source, clusters, pool
        self.digests: dict[Rows, list[str]] = {}

    def timed(self, name: str, fn: Rows) -> tuple[float, float]:
        """Wall and CPU-seconds of one contender; what it wrote is compared with what the first one wrote."""
        out = self.folder / "out-0123456789"
        wall, cpu = perf_counter(), cpu_seconds()
        digests = self._run(name, out, fn)
        spent = perf_counter() - wall, cpu_seconds() - cpu
        shutil.rmtree(out)
        if digests != self.digests.setdefault(fn, digests):
            raise RuntimeError(f"{name} wrote other bytes than the first one; the race says nothing")
        return spent

    def _run(self, name: str, out: Path, fn: Rows) -> list[str]:
        if name in self.clusters:
            job = Job(Carried(fn), (Target(str(out), "engine"),))
            [(made,)] = map_(self.clusters[name], "Engine", [job], self.source)
            return [shard.digest for shard in made.shards]
        assert self.pool is not None
        return self.pool.run(self.source, out, fn, promised=name == "promised")

    def rounds(self, names: list[str], fn: Rows, count: int) -> list[Round]:
        """Every contender once a round, the order turned from round to round."""
        found = []
        for number in range(count):
            turned = names[number % len(names) :] + names[: number % len(names)]
            load = os.getloadavg()[0]
            found.append({name: self.timed(name, fn) for name in turned})
            told = ", ".join(f"{name} {found[-1][name][0]:.2f} s (CPU {found[-1][name][1]:.2f})" for name in names)
            print(f"  {fn.__name__}, load {load:.1f}: {told}", flush=True)
        return found


def share(rounds: list[Round], name: str, over: str, of: int = 0) -> tuple[float, float, float]:
    """Median, least and most of what a contender takes beyond another, by round; of wall (0) or CPU-seconds (1)."""
    found = [one[name][of] / one[over][of] - 1 for one in rounds]
    return round(median(found), 4), round(min(found), 4), round(max(found), 4)


def overhead(folder: Path, source: Dataset, workers: int, rounds: int, ray: bool, fn: Rows) -> dict[str, Any]:
    """Shares of wall and of CPU-seconds, each with its least and its most."""
    with clusters_of(workers, ray) as clusters:
        names = ["bare", "promised", *clusters]
        timed = Race(folder, source, clusters, Pool(workers)).rounds(names, fn, rounds)
    found: dict[str, Any] = {}
    suffix = "" if fn is judged else "_light"
    for name in ("promised", *clusters):
        key = {"engine": "overhead_share", "promised": "promises_share"}.get(name, f"overhead_share_{name}") + suffix
        found[key], *found[f"{key}_spread"] = share(timed, name, "bare")
        if name != "ray":  # whose workers are no children of this process
            found[f"{key}_cpu"], *found[f"{key}_cpu_spread"] = share(timed, name, "bare", 1)
    return found


@contextlib.contextmanager
def clusters_of(workers: int, ray: bool) -> Iterator[dict[str, Any]]:
    """The project's clusters, their processes started and warm."""
    with contextlib.ExitStack() as stack:
        clusters: dict[str, Any] = {"engine": Local(workers)}
        if ray:
            from tundish.cluster.on_ray import OnRay

            clusters["ray"] = stack.enter_context(OnRay(cpus=workers, dashboard=False))
        for cluster in clusters.values():
            list(cluster.each("Warm", warm, range(4 * workers)))
        yield clusters


def speedup(folder: Path, source: Dataset, rounds: int) -> dict[str, Any]:
    """One worker and two, in turn."""
    clusters = {"one": Local(1), "two": Local(2)}
    for cluster in clusters.values():
        list(cluster.each("Warm", warm, range(8)))
    load, free = [os.getloadavg()[0]], [room()]
    found = Race(folder, source, clusters, None).rounds(["one", "two"], judged, rounds)
    load.append(os.getloadavg()[0])
    free.append(room())
    best = {name: min(one[name][0] for one in found) for name in clusters}
    each = [round(one["one"][0] / one["two"][0], 3) for one in found]
    ratio = round(best["one"] / best["two"], 3)
    beside = {"speedup_room": [round(one, 2) for one in free], "speedup_load": [round(one, 1) for one in load]}
    return {"speedup_2_cores": ratio, "speedup_rounds": each, **beside}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("data", nargs="?", type=Path, default=DATA)
    parser.add_argument("--shards", type=int, default=6)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--workers", type=int, default=2, help="of the overhead; 1 for this process alone")
    parser.add_argument("--size", type=int, default=SIZE, help="bytes of text of a shard")
    parser.add_argument("--folder", type=Path, help="where the shards may lie; a temporary folder")
    parser.add_argument("--tasks", type=int, nargs="+", default=list(engine_driver.TASKS))
    parser.add_argument("--only", choices=PARTS, nargs="+", default=list(PARTS))
    parser.add_argument("--ray", action="store_true", help="beside Local, a Ray that is started here")
    given = parser.parse_args()
    parts, found = set(given.only), {}
    with tempfile.TemporaryDirectory(prefix="engine-", dir=given.folder) as folder:
        place = Path(folder)
        if parts - {"driver"}:
            source = shards(place, given.shards, given.size, given.data)
        for part, fn in (("overhead", judged), ("light", sifted)):
            if part in parts:
                found |= overhead(place, source, given.workers, given.rounds, given.ray, fn)
        if "speedup" in parts:
            found |= speedup(place, source, given.rounds)
        if "driver" in parts:
            found |= engine_driver.driver(place, tuple(given.tasks))
    print(json.dumps(found))


if __name__ == "__main__":
    main()
