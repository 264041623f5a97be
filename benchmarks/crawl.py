"""Pages a CPU-second of tundish's crawler and of Scrapy 2.18, on the same web in a test tube, doing the same work.

The web: `in_vitro.py`, over loopback from a process of its own: a host for every twenty pages (`--pages 40000`: two
thousand), a fifth of them with TLS, slow, broken and trap hosts among them. The work: robots.txt asked for and
obeyed, links parsed and followed on every host, one request and one response record a page with digests, zstd frames
of level 3 (our default; the headline) and, in a second pair, gzip members of level 4; no delays. Checked: both store
every page of the healthy hosts, which is computed (`World.pages`), and nothing that robots.txt forbids. Scrapy is set
up as `crawl_scrapy.py` says, keeps its queue in memory where tundish has a disk, and is not asked for a revisit, a
log or an audit trail. Turns alternate, the ratio is the median of theirs over the median of ours. Two sizes of pages:
16 KB and 80 KB in the mean. CPU-seconds are the crawler process's alone.

    make bench NAME=crawl                            the race (some ten minutes), CPU a page by part, memory
    make bench NAME=crawl ARGS=--quick               a few hundred pages a turn, one size, one turn
    make bench NAME=crawl ARGS="--million 100000"    so many pages with a kill -9 every 20 seconds, in bounded memory
    make bench NAME=crawl ARGS="--site DIR"          a folder laid out like site-httpd, held against its crawl truth

Prints tables and last one line of JSON: pages_ratio_scrapy, pages_per_second (a CPU-second, tundish, 16 KB),
mb_per_million_urls (RAM a frontier grows by as it learns them, its caches full); null where a part was not run.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from statistics import median
from typing import Any

from in_vitro import TRAPS, World
from in_vitro_server import There, served
from parity import table

from tundish.cluster.shards import opened

HERE = Path(__file__).parent
OTHERS = {"twin": 5, "slow": 5, "calendar": 1, "reset": 5, "garbage": 5, "silent": 2}
SIZES = (16_000, 80_000)
PAGES, QUICK = 6000, 500  # of the healthy hosts, about
TURNS = 3
MONTHS = 60  # so few that both go to the end of a trap: this race is not about who knows one
ADDRESSES, HOSTS = 2_000_000, 20_000
KEYS = ("pages_ratio_scrapy", "pages_per_second", "mb_per_million_urls")


def run(words: list[str], trusted: str = "") -> dict[str, Any]:
    """The last line of a process of its own, as JSON."""
    env = {**os.environ, "SSL_CERT_FILE": trusted} if trusted else None
    done = subprocess.run([sys.executable, *words], cwd=HERE, env=env, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{words[:2]} ended with {done.returncode}: {done.stderr[-2000:]}")
    return json.loads(done.stdout.strip().split("\n")[-1])


@contextmanager
def scratch() -> Iterator[str]:
    folder = tempfile.mkdtemp(prefix="tundish-crawl-")
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


# the race


def world_of(pages: int, size: int) -> World:
    """A world of about so many pages, of 20 a host in the mean, with all kinds of hosts both can be done with."""
    return World(hosts=max(12, pages // 20), mean=20, size=size, others=OTHERS, turns=MONTHS)


def tundish(there: There, **given: Any) -> dict[str, Any]:
    """One crawl of ours; `stored` becomes the set of pages."""
    with scratch() as folder:
        words = {"world": asdict(there.world), "folder": folder, **given}
        told = run(["crawl_runs.py", "tundish", json.dumps(words)], there.authority)
        return told | {"pages": stored(told["uri"])}


def stored(uri: str) -> list[str]:
    """Addresses a crawl stored, by its log."""
    log = opened(f"{uri}/log")
    assert log is not None
    return [row["url"] for row in log.table().select(["url", "outcome"]).to_pylist() if row["outcome"] == "stored"]


def scrapy(there: There, form: str) -> dict[str, Any]:
    with scratch() as folder:
        told = run(["crawl_scrapy.py", json.dumps({"seeds": there.world.seeds, "folder": folder, "form": form})])
        told["pages"] = Path(folder, "stored").read_text().split("\n")
        if told["archived"] != told["stored"]:
            raise RuntimeError(f"Scrapy archived {told['archived']} of {told['stored']} pages; its error log says why")
        return told


def check(name: str, told: Mapping[str, Any], truth: set[str]) -> dict[str, int]:
    """How its pages differ from the truth, those of trap hosts aside; raises where they do."""
    got = {url for url in told["pages"] if not any(f"/{kind}" in url for kind in TRAPS)}
    missing, beyond = len(truth - got), len(got - truth)
    if missing or beyond:
        raise RuntimeError(f"{name} stored {beyond} pages it should not have and missed {missing} of {len(truth)}")
    return {"twice": len(told["pages"]) - len(set(told["pages"])), "traps": len(set(told["pages"])) - len(got)}


def race(size: int, pages: int, turns: int) -> dict[str, Any]:
    """Both in turn, with zstd and with gzip; medians of CPU-milliseconds a page."""
    with served(world_of(pages, size)) as there:
        truth = set(there.world.pages())
        turn: dict[str, list[dict[str, Any]]] = {}
        for _ in range(turns):
            for form in ("zst", "gz"):
                turn.setdefault(f"Scrapy, {form}", []).append(scrapy(there, form))
                turn.setdefault(f"tundish, {form}", []).append(tundish(there, fields={"archive": form}))
        rows = []
        for name, runs in turn.items():
            odd = check(name, runs[0], truth)
            rows.append({"crawler": name, "pages": runs[0]["stored"], **odd, **_row(runs)})
    print(f"\n{len(truth)} pages of healthy hosts, {size} bytes in the mean, {len(there.world.all)} hosts")
    print(table(rows))
    print(_parts(turn["tundish, zst"][-1]))
    each = {row["crawler"]: row["ms"] for row in rows}
    return {"rate": 1e3 / each["tundish, zst"]} | {
        form: each[f"Scrapy, {form}"] / each[f"tundish, {form}"] for form in ("zst", "gz")
    }


def _row(runs: list[dict[str, Any]]) -> dict[str, float]:
    ms = [1e3 * one["cpu"] / one["stored"] for one in runs]
    return {
        "ms": round(median(ms), 2),
        "least ms": round(min(ms), 2),
        "pages/CPU-s": round(1e3 / median(ms)),
        "wall s": round(median(one["seconds"] for one in runs), 1),
        "MB RAM": runs[0]["rss"] >> 20,
        "archive MB": round(runs[0]["bytes"] / 1e6, 1),
    }


def _parts(told: Mapping[str, Any]) -> str:
    """CPU a page of one crawl by part."""
    whole = sum(told["parts"].values())
    rows = sorted(told["parts"].items(), key=lambda one: -one[1])
    return table(
        [
            {"part": part, "ms a page": round(1e3 * s / told["stored"], 3), "share": f"{s / whole:.0%}"}
            for part, s in rows
        ]
    )


# memory


def memory(addresses: int, hosts: int) -> dict[str, float]:
    """RAM a keeper grows by: each million addresses once its caches are full, and all of them with the caches."""
    with scratch() as folder:
        told = run(["crawl_runs.py", "memory", json.dumps({"addresses": addresses, "hosts": hosts, "folder": folder})])
    curve = told["curve"]
    first, last = curve[1], curve[-1]  # by the first tenth the caches are full: SQLite's 16 MB, the recent addresses
    slope = (last[1] - first[1]) / (last[0] - first[0])
    print(f"\na frontier that learns {addresses:,} addresses of {hosts:,} hosts, {told['microseconds']:.0f} us each:")
    print(table([{"addresses": n, "MB more": round((size - curve[0][1]) / 1e6, 1)} for n, size in curve[::2]]))
    print(
        f"{slope:.1f} MB a million beyond the caches' {(first[1] - curve[0][1]) / 1e6:.0f} MB; "
        f"{told['disk'] / addresses:.0f} bytes an address on disk"
    )
    return {"mb_per_million_urls": round(slope, 1), "mb_with_caches": round((last[1] - curve[0][1]) / 1e6, 1)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="a few hundred pages, one turn, one size")
    parser.add_argument("--pages", type=int, default=0, help="of the race, about")
    parser.add_argument("--turns", type=int, default=0)
    parser.add_argument("--million", type=int, nargs="?", const=1_000_000, help="crawl so many pages with restarts")
    parser.add_argument("--every", type=float, default=20.0, help="seconds between kills of --million")
    parser.add_argument("--site", type=Path, help="a folder laid out like site-httpd")
    given = parser.parse_args()
    line: dict[str, Any] = dict.fromkeys(KEYS)
    if given.site:
        from crawl_long import site

        line |= site(given.site)
    elif given.million:
        from crawl_long import long

        line |= long(given.million, given.every)
    else:
        line |= _races(given)
    print(json.dumps(line))


def _races(given: argparse.Namespace) -> dict[str, Any]:
    pages = given.pages or (QUICK if given.quick else PAGES)
    turns = given.turns or (1 if given.quick else TURNS)
    found = {size: race(size, pages, turns) for size in SIZES[: 1 if given.quick else None]}
    weight = memory(*(ADDRESSES // 10, HOSTS // 10) if given.quick else (ADDRESSES, HOSTS))
    line: dict[str, Any] = {
        "pages_ratio_scrapy": round(found[SIZES[0]]["zst"], 2),
        "pages_per_second": round(found[SIZES[0]]["rate"]),
    }
    for size, one in found.items():
        for form in ("zst", "gz"):
            line[f"ratio_{size // 1000}kb_{form}"] = round(one[form], 2)
    return line | weight | {"quick": given.quick, "pages": pages, "turns": turns}


if __name__ == "__main__":
    main()
