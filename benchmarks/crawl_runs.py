"""What benchmarks/crawl.py runs in processes of their own, so that CPU and memory are one crawler's alone.

    python crawl_runs.py tundish '{"world": {...}, "folder": "...", "archive": "gz", ...}'     one crawl
    python crawl_runs.py memory  '{"addresses": 2000000, "hosts": 20000}'                      what a frontier weighs

Each prints last one line of JSON. CPU-seconds are those of the crawl, from the first seed to the sealed archives; what
it takes to start Python and import is not among them. Where the CPU goes is sampled by CPU time (SIGPROF), a sample
counted with the time since the last one, and goes to the innermost frame that belongs to a part named in `PARTS`.
"""

import json
import os
import resource
import signal
import sys
import time
from collections import Counter
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

from in_vitro import World

from tundish.cluster.local import Local
from tundish.cluster.shards import opened
from tundish.cluster.wire import Web
from tundish.stages.crawl import Crawl
from tundish.stages.stage import Place

AGENT = "in-vitro-bench/1 (+https://heron.example/bot)"
TICK = 0.002  # CPU-seconds between samples
DEADLINE = 5.0  # seconds of a fetch: the silent hosts' share of the race
PARTS = {  # part of the work -> what its files' paths hold; the first that fits counts
    "archive": ("stages/crawl_archive", "operators/web/warc_write", "operators/web/revisit"),
    "robots": ("stages/crawl_rulebook", "operators/web/robots", "operators/web/patterns"),
    "scan": ("operators/web/", "stages/crawl_visit"),
    "frontier": ("stages/crawl_frontier", "stages/crawl_tables", "stages/crawl_scope", "stages/crawl_worth"),
    "seal": ("stages/crawl_seal", "cluster/shards", "cluster/target"),
    "fetch": ("cluster/wire", "aiohttp", "yarl", "multidict", "aiohappyeyeballs", "ssl.py", "asyncio/sslproto"),
    "keeper": ("stages/crawl_", "cluster/local"),
    "event loop": ("asyncio", "selectors.py", "uvloop"),
}


class Sampled:
    """CPU-seconds by part, while the block runs. Costs some 2 % of it."""

    def __init__(self) -> None:
        self.seconds: Counter[str] = Counter()
        self.last = 0.0

    def __enter__(self) -> "Sampled":
        self.last = time.process_time()
        signal.signal(signal.SIGPROF, self._sample)
        signal.setitimer(signal.ITIMER_PROF, TICK, TICK)
        return self

    def __exit__(self, *_: object) -> None:
        signal.setitimer(signal.ITIMER_PROF, 0)

    def _sample(self, _: int, frame: FrameType | None) -> None:
        now = time.process_time()
        self.seconds[part_of(frame)] += now - self.last
        self.last = now


def part_of(frame: FrameType | None) -> str:
    while frame is not None:
        file = frame.f_code.co_filename
        for part, marks in PARTS.items():
            if any(mark in file for mark in marks):
                return part
        frame = frame.f_back
    return "rest"


def tundish(given: dict[str, Any]) -> dict[str, Any]:
    """One crawl of a world. `loop`: asyncio or uvloop. `fields`: of Crawl, beside what the world decides."""
    world, folder = World(**given["world"]), Path(given["folder"])
    names = [host.name for host in world.all]
    stage = Crawl(
        seeds=world.seeds,
        agent=AGENT,
        as_of="2026-11-21",
        pages=given.get("pages", 10_000_000),
        depth=200,
        hosts=("*",),
        delays=dict.fromkeys(names, 0.0),
        **{"archive": "gz", "sitemaps": False, "opt_outs": False, **given.get("fields", {})},
    )
    if given.get("loop") == "uvloop":
        import uvloop

        uvloop.install()
    wire = partial(Web, world.table, deadline=given.get("deadline", DEADLINE))
    start, began = time.perf_counter(), time.process_time()
    place = Place(str(folder / "crawl"), stage.fingerprint)
    with Sampled() as sampled:  # an earlier life may have been killed when all was done
        made = opened(place.uri) or stage.through(wire, Local(), place)
    told: dict[str, Any] = {"cpu": time.process_time() - began, "seconds": time.perf_counter() - start}
    counts = made.about["counts"]
    told |= {"stored": made.rows, "requests": counts["fetched"], "urls": counts["urls"], "rss": rss()}
    return told | {"parts": dict(sampled.seconds), "uri": made.uri, "bytes": counts["bytes"]}


def memory(given: dict[str, Any]) -> dict[str, Any]:
    """RAM of a keeper's frontier that learns so many addresses, a tenth at a time, committed as a crawl commits."""
    from tundish.stages.crawl_frontier import Frontier
    from tundish.stages.crawl_scope import Found

    addresses, hosts = given["addresses"], given["hosts"]
    rules = Crawl(seeds=("http://a.example/",), agent=AGENT, as_of="2026-11-21", hosts=("*",), parts=1).rules
    frontier = Frontier(Path(given["folder"]) / "frontier.sqlite", rules)
    curve, began = [(0, resident())], time.process_time()
    for n in range(addresses):
        url = f"http://www.host{n * 7919 % hosts}.example/section-{n % 97}/a-title-of-so-many-words-{n}.html"
        frontier.admit(Found(url, 3, "http://www.host0.example/section-1/a-title-of-so-many-words-0.html"), 0)
        if n % 20_000 == 19_999:
            frontier.commit([])
        if (n + 1) % (addresses // 10) == 0:
            curve.append((n + 1, resident()))
    spent = time.process_time() - began
    disk = sum(path.stat().st_size for path in Path(given["folder"]).glob("frontier.sqlite*"))
    frontier.close()
    return {"curve": curve, "microseconds": 1e6 * spent / addresses, "disk": disk, "hosts": hosts}


def resident() -> int:
    """Bytes of this process in memory now."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def rss() -> int:
    """The most bytes of memory this process ever had (ru_maxrss would count those of who began it)."""
    if sys.platform == "linux":
        return int(Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


if __name__ == "__main__":
    print(json.dumps({"tundish": tundish, "memory": memory}[sys.argv[1]](json.loads(sys.argv[2]))))
