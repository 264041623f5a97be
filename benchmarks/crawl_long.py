"""Two long crawls of benchmarks/crawl.py: a web in a test tube with restarts, and a real site against its truth.

`long`: a crawl of so many pages of a web with every kind of host in it (slow, broken, traps, TLS), whose process is
killed (kill -9) every so many seconds until one life comes to the end. Told: pages a second of all lives together,
pages asked for twice, the most memory of any life, and whether every page of the healthy hosts was stored, once.

`site`: a folder laid out like site-httpd (crawl-truth, redirects, dead links) served over loopback and crawled with no
delay, its pages allowed to repeat each other (`sameness` 1: translations do): which share of the pages was stored, how
many twice, which redirects and dead links were met.
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Any

from crawl import scratch, stored
from crawl_runs import AGENT
from in_vitro import BROKEN, World
from in_vitro_server import There, served

from tundish.cluster.shards import opened

HERE = Path(__file__).parent
LOOK = 0.1  # seconds between looks at a life's memory
MEAN = 50  # pages of a host


def world_of(pages: int) -> World:
    """About so many pages, and one host in twenty that is slow, a trap or broken in one of all the ways."""
    hosts = max(20, pages // MEAN)
    odd = max(1, hosts // 200)
    kinds = ["slow", "twin", "calendar", "sessions", *BROKEN]
    return World(hosts=hosts, mean=MEAN, size=8000, tls=0.1, others=dict.fromkeys(kinds, odd), turns=300)


def long(pages: int, every: float) -> dict[str, Any]:
    """Crawl, kill, go on; figures for the last line."""
    with served(world_of(pages)) as there, scratch() as folder:
        truth = set(there.world.pages())
        start = time.perf_counter()
        lives, told = _lives(there, folder, every)
        seconds = time.perf_counter() - start
        got = Counter(stored(told["uri"]))
    healthy = [url for url in got if url in truth]
    found = {
        "pages": told["stored"],
        "urls": told["urls"],
        "hosts": len(there.world.all),
        "complete": len(healthy) / len(truth),
        "twice": sum(got.values()) - len(got),
        "kills": len(lives) - 1,
        "seconds": round(seconds, 1),
        "long_pages_per_second": round(told["stored"] / seconds, 1),
        "cpu_seconds": round(sum(life["cpu"] for life in lives), 1),
        "asked_per_page": round(there.told["requests"] / told["stored"], 3),
        "most_mb": round(max(life["rss"] for life in lives) / 1e6),
        "mb_by_life": [round(life["rss"] / 1e6) for life in lives],
    }
    print("\n".join(f"{name:22} {value}" for name, value in found.items()))
    if len(healthy) != len(truth) or found["twice"]:
        raise RuntimeError(f"{len(truth) - len(healthy)} pages are missing and {found['twice']} were stored twice")
    return found


def _lives(there: There, folder: str, every: float) -> tuple[list[dict[str, float]], dict[str, Any]]:
    """(what each life took, what the last one said)."""
    fields = {"archive": "zst", "per_host": 5000}
    given = {"world": asdict(there.world), "folder": folder, "fields": fields, "deadline": 5.0}
    env = {**os.environ, "SSL_CERT_FILE": there.authority}
    lives: list[dict[str, float]] = []
    while True:
        words = [sys.executable, "crawl_runs.py", "tundish", json.dumps(given)]
        with tempfile.TemporaryFile("w+") as said:
            process = subprocess.Popen(words, cwd=HERE, env=env, stdout=said)
            lives.append(_life(process, every))
            if process.returncode == 0:
                said.seek(0)
                return lives, json.loads(said.read().strip().split("\n")[-1])
            if process.returncode != -signal.SIGKILL:
                raise RuntimeError(f"the crawl ended with {process.returncode} in life {len(lives)}")


def _life(process: "subprocess.Popen[bytes]", every: float) -> dict[str, float]:
    """Wait for a process, kill it when its time is over; its CPU-seconds and most memory."""
    end, most, cpu = time.monotonic() + every, 0, 0.0
    while process.poll() is None:
        if time.monotonic() > end:
            process.send_signal(signal.SIGKILL)
        try:
            most = max(most, int(Path(f"/proc/{process.pid}/statm").read_text().split()[1]))
            fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
            cpu = max(cpu, (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK"))
        except (OSError, IndexError):  # it has just ended
            break
        time.sleep(LOOK)
    process.wait()
    return {"rss": most * os.sysconf("SC_PAGE_SIZE"), "cpu": cpu}


# a real site


def site(folder: Path) -> dict[str, Any]:
    """Completeness against a folder's crawl truth."""
    from functools import partial

    sys.path.insert(0, str(HERE.parent))
    from tests import real_site
    from tests.test_truth_site import site as running_site
    from tundish.cluster.local import Local
    from tundish.cluster.wire import Web
    from tundish.operators.web.urls import canonical
    from tundish.stages.crawl import Crawl
    from tundish.stages.stage import Place

    rows = real_site.records(folder / "crawl-truth.jsonl.zst")
    host = real_site.HOST
    pages = {f"http://{host}{row['url']}" for row in rows}
    seeds = tuple(f"http://{host}{row['url']}" for row in rows if row["depth"] == 0)
    stage = Crawl(
        seeds, AGENT, "2026-11-21", pages=10_000_000, depth=200, delays={host: 0.0}, sitemaps=False, sameness=1.0
    )
    with running_site(folder) as running, scratch() as out:
        began = time.process_time()
        wire = partial(Web, {f"{host}:80": running.address})
        made = stage.through(wire, Local(), Place(str(Path(out) / "crawl"), stage.fingerprint))
        spent = time.process_time() - began
        log = opened(f"{made.uri}/log")
        assert log is not None
        told = log.table().select(["url", "outcome", "reason", "target"]).to_pylist()
    got = [row["url"] for row in told if row["outcome"] == "stored"]
    moved = {row["url"]: row["target"] for row in told if row["outcome"] == "redirect"}
    listed = {
        f"http://{host}{row['url']}": f"http://{host}{row['location']}"
        for row in real_site.records(folder / "redirects.jsonl.zst")
    }
    dead = {canonical(f"http://{host}{path}") for path in (folder / "dead-links.txt").read_text().split("\n") if path}
    gone = {row["url"] for row in told if row["reason"] == "status_404"}
    found = {
        "site": folder.name,
        "site_complete": len(pages & set(got)) / len(pages),
        "site_beyond": len(set(got) - pages),
        "site_twice": len(got) - len(set(got)),
        "redirects_as_listed": len([url for url in listed if moved.get(url) == listed[url]]) / max(1, len(listed)),
        "dead_links_met": len(dead & gone) / max(1, len(dead)),
        "asked_twice": sum(n - 1 for n in Counter(running.paths()).values()),
        "requests": len(running.asked),
        "cpu_seconds_with_server": round(spent, 1),
    }
    print("\n".join(f"{name:26} {value}" for name, value in found.items()))
    return found
