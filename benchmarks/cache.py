"""The node's cache: what it costs beside the store, whether a rehearsal tells the truth, and what a look takes.

* rate: shards of random bytes out of a store that costs nothing (a folder behind fsspec, in the page cache) into a
  cache, checked and on disk, against the same done by hand, one file after the other: copy, SHA-256, fsync.
* rehearsal: a store held to a known rate by a lock and a sleep, a reader at a known rate, windows of four shards of 16;
  start-up and waiting as rehearsed and as they came, at a rate that is enough and one that is not, and bytes fetched.
* look: `path` of a file that is in use, and the first one of a use while 800 files and eight readers are in the folder.

    make bench NAME=cache                 about two minutes
    make bench NAME=cache ARGS=--quick    a quarter of it

Prints tables and last one line of JSON.
"""

import argparse
import contextlib
import hashlib
import json
import os
import random
import shutil
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
from fsspec.implementations.local import LocalFileSystem

from tundish.cluster.cache import Cache, Entry
from tundish.cluster.foresight import Future, Use
from tundish.cluster.rehearsal import Rehearsal, rehearsal

MB = 1_000_000


class Link(LocalFileSystem):
    """`link:///path`: a folder at so many bytes a second for all readers together; 0: as fast as it goes."""

    protocol = "link"
    rate = 0.0
    lock = threading.Lock()

    @classmethod
    def _strip_protocol(cls, path: Any) -> str:
        return LocalFileSystem._strip_protocol(str(path).replace("link://", "file://"))

    def _open(self, path: str, mode: str = "rb", **more: Any) -> Any:
        stream = super()._open(path, mode, **more)
        if self.rate:
            plain = stream.f.read

            def read(size: int = -1) -> bytes:
                with Link.lock:
                    body = plain(size)
                    time.sleep(len(body) / Link.rate)
                return body

            return _Slow(stream, read)
        return stream


class _Slow:
    def __init__(self, stream: Any, read: Any) -> None:
        self._stream, self.read = stream, read

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


fsspec.register_implementation("link", Link, clobber=True)


def made(folder: Path, count: int, size: int) -> list[Entry]:
    folder.mkdir()
    draw, files = random.Random(1), []
    for number in range(count):
        body = draw.randbytes(size)
        (folder / f"{number}.arrow").write_bytes(body)
        files.append(Entry(f"link://{folder}/{number}.arrow", size, hashlib.sha256(body).hexdigest()))
    return files


def one_by_one(count: int) -> Future:
    return lambda position: (Use(n, n, n) for n in range(position, count))


def rates(folder: Path, count: int, size: int) -> dict[str, float]:
    """MB a second into a cache, and by hand."""
    Link.rate = 0
    files, told = made(folder / "far", count, size), {"cache": 0.0, "by_hand": 0.0}
    for turn in range(3):
        began = time.perf_counter()
        with Cache(folder / f"near{turn}", count * size, files) as cache:
            cache.plan(one_by_one(count))
            for number in range(count):
                cache.path(number, number)
            seconds = time.perf_counter() - began
        told["cache"] = max(told["cache"], count * size / MB / seconds)
        shutil.rmtree(folder / f"near{turn}")
        (folder / "hand").mkdir()
        began = time.perf_counter()
        for number, entry in enumerate(files):
            by_hand(folder / "far" / f"{number}.arrow", folder / "hand" / str(number), entry.digest)
        told["by_hand"] = max(told["by_hand"], count * size / MB / (time.perf_counter() - began))
        shutil.rmtree(folder / "hand")
    shutil.rmtree(folder / "far")
    return told


def by_hand(source: Path, target: Path, digest: str) -> None:
    with source.open("rb") as stream, target.open("wb") as sink:
        shutil.copyfileobj(stream, sink, 8 << 20)
        sink.flush()
        os.fsync(sink.fileno())
    with target.open("rb") as stream:
        assert hashlib.file_digest(stream, "sha256").hexdigest() == digest


UNTIL = 1200  # positions: three epochs


def windows(position: int, rows: int = 100) -> Iterator[Use]:
    """Windows of four of 16 shards, the shards in another order every epoch; `rows` of positions a window."""
    epoch = position // (4 * rows)
    while epoch * 4 * rows < UNTIL:
        order = random.Random(epoch).sample(range(16), 16)
        for window in range(4):
            first = (epoch * 4 + window) * rows
            if first + rows > position:
                yield from (Use(first, file, first + rows - 1) for file in order[window * 4 : window * 4 + 4])
        epoch += 1


def rehearsed(folder: Path, size: int, capacity: int, share: float) -> dict[str, float]:
    """A store that gives `share` of what is enough: start-up and stalls, rehearsed and real, in seconds."""
    folder.mkdir()
    files, rate = made(folder / "far", 16, size), 100.0
    told = rehearsal(windows, files, capacity, rate=rate, bandwidth=1e9, until=UNTIL)
    Link.rate = told.steady * share
    told = rehearsal(windows, files, capacity, rate=rate, bandwidth=Link.rate, until=UNTIL)
    real = driven(folder / "near", files, capacity, rate)
    shutil.rmtree(folder / "far")
    shutil.rmtree(folder / "near")
    return {
        "link_mb": round(Link.rate / MB, 2),
        **{f"{key}_rehearsed": round(value, 2) for key, value in counted(told).items()},
        **{f"{key}_real": round(value, 2) for key, value in real.items()},
    }


def counted(told: Rehearsal) -> dict[str, float]:
    return {"startup": told.startup, "stalled": told.stall_seconds, "mb": told.bytes / MB, "hits": told.hits}


def driven(near: Path, files: list[Entry], capacity: int, rate: float) -> dict[str, float]:
    """Read at a rate, waiting as a trainer does: time lost is not made up."""
    startup = stalled = 0.0
    with Cache(near, capacity, files, streams=2) as cache:
        cache.plan(windows)
        due = time.perf_counter()
        for position in range(UNTIL):
            before = time.perf_counter()
            for use in windows(position):
                if use.position > position:
                    break
                cache.path(use.file, position)
            waited = time.perf_counter() - before
            if position:
                stalled += waited if waited > 0.002 else 0.0
            else:
                startup = waited
            due += waited + 1 / rate
            time.sleep(max(0.0, due - time.perf_counter()))
        met = cache.told
    return {"startup": startup, "stalled": stalled, "mb": met.bytes / MB, "hits": met.hits}


def looks(folder: Path) -> dict[str, float]:
    """Microseconds of a look at a file in use, and of the first of a use, in a full house."""
    Link.rate = 0
    files = made(folder / "far", 800, 1000)
    with contextlib.ExitStack() as stack:
        caches = [stack.enter_context(Cache(folder / "near", 10**9, files, streams=1)) for _ in range(8)]
        for cache in caches:
            cache.plan(one_by_one(800))
        caches[0].path(0, 0)
        caches[0].settle()
        cache = caches[0]
        began = time.perf_counter()
        for number in range(1, 401):
            cache.path(number, number)
        first = (time.perf_counter() - began) / 400
        began = time.perf_counter()
        for _ in range(100_000):
            cache.path(400, 400)
        again = (time.perf_counter() - began) / 100_000
    return {"first_us": round(first * 1e6, 1), "again_us": round(again * 1e6, 3)}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true")
    quick = parser.parse_args().quick
    os.environ.setdefault("TUNDISH_MIN_FREE", "500MB")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        rate = rates(folder, *((4, 64 * MB) if quick else (8, 128 * MB)))
        print(
            f"into the cache  {rate['cache']:8.0f} MB/s    by hand, one after the other  {rate['by_hand']:8.0f} MB/s\n"
        )
        size, told = 1 * MB, {}
        print(f"{'':24}{'start-up, s':>18}{'waiting, s':>18}{'fetched, MB':>18}{'hits':>14}")
        print(f"{'store, cache':24}" + f"{'paper':>10}{'real':>8}" * 3 + f"{'paper':>7}{'real':>7}")
        for share, shards in ((1.3, 9), (0.7, 9)) if quick else ((1.3, 9), (0.7, 9), (1.3, 13), (0.5, 16)):
            met = rehearsed(folder / f"{share}-{shards}", size, shards * size, share)
            told[f"{share} of enough, {shards} of 16"] = met
            pairs = [(met[f"{key}_rehearsed"], met[f"{key}_real"]) for key in ("startup", "stalled", "mb")]
            print(f"{met['link_mb']:6.1f} MB/s, {shards:2} of 16   ", end="")
            print("".join(f"{paper:10.2f}{real:8.2f}" for paper, real in pairs), end="")
            print(f"{met['hits_rehearsed']:7.0f}{met['hits_real']:7.0f}")
        look = looks(folder)
        print(f"\na look: {look['again_us']} us at a file in use, {look['first_us']} us at the first of a use")
    print(json.dumps({**{f"{k}_mb_s": round(v) for k, v in rate.items()}, "rehearsed": told, **look}))


if __name__ == "__main__":
    main()
