"""The verbs in this process, or in a few processes beside it: samples, tests, laptops. The same bytes as on Ray.

The processes stay from stage to stage, for each takes seconds to begin, with the environment of the first; they go
while a gang trains and where a stage fails, and end with this one, however that ends. Where one is killed under its
work others take their place, and do again what was not answered, `LOST` times a stage. The work of a stage is handed
to them in a file, once a process: it names every shard of its source, so that handing it over with each item took the
square of their number.
"""

import asyncio
import contextlib
import functools
import itertools
import math
import multiprocessing
import os
import pickle
import signal
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor
from concurrent.futures import wait as finished
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

from tundish.cluster.verbs import PATIENCE, Keeper, Status, Watch, quiet, stepped, unwatched
from tundish.cluster.wish import Stopped, ends_in_peace, signals

POLL = 0.05  # seconds between looks at the keepers
GRACE = 10.0  # seconds for workers that cannot go on, because another one is lost
LOST = 3  # processes of a stage that may be killed under their work: the next may be for the same reason
AHEAD = 4  # items handed out for each process: none waits for this one, and no more are held than that


@dataclass
class Local:
    """`workers=1` runs in this process; more spawn processes (functions must then be importable by name)."""

    workers: int = 1
    watch: Watch = unwatched
    _kept: ProcessPoolExecutor | None = field(default=None, init=False, repr=False, compare=False)

    def each(self, stage: str, work: Callable[[Any], Any], items: Sequence[Any]) -> Iterator[Any]:
        """`work(item)` for every item, in whatever order they end."""
        if self.workers <= 1 or len(items) <= 1:
            yield from map(work, items)
            return
        with _laid(work) as laid:
            source, again, lost = iter(items), deque[Any](), 0
            while True:
                try:
                    yield from self._by(self._pool(), laid, source, again)
                    return
                except BrokenProcessPool:  # none of them is at work any more, and what they had begun is in `again`
                    lost += 1
                    if lost > LOST:
                        raise RuntimeError(
                            f"{stage} lost a worker process {lost} times, killed perhaps for want of memory; run it "
                            "again with fewer --workers, and it goes on from what is committed"
                        ) from None

    def _by(
        self, pool: ProcessPoolExecutor, laid: "_Laid", source: Iterator[Any], again: "deque[Any]"
    ) -> Iterator[Any]:
        """Answers of the items in `again` and then of those in `source`; those that have none lie in `again` when this
        ends early."""
        pending: dict[Future[Any], Any] = {}
        try:
            while True:
                again.extend(itertools.islice(source, max(0, AHEAD * self.workers - len(pending) - len(again))))
                while again and len(pending) < AHEAD * self.workers:
                    pending[pool.submit(laid, again[0])] = again[0]
                    again.popleft()
                if not pending:
                    return
                for future in finished(pending, return_when=FIRST_COMPLETED).done:
                    answer = future.result()
                    del pending[future]
                    yield answer
        except BaseException:
            self._kept = None
            _let_go(pool, [future for future in pending if not future.cancel()])
            again.extendleft(reversed(pending.values()))
            raise

    def _pool(self) -> ProcessPoolExecutor:
        with contextlib.suppress(BrokenProcessPool):
            if self._kept:
                self._kept.submit(int)  # which says whether one of them was lost since
                return self._kept
        return self._anew()

    def _anew(self) -> ProcessPoolExecutor:
        spawn = multiprocessing.get_context("spawn")
        self._kept = ProcessPoolExecutor(self.workers, mp_context=spawn, initializer=_kept_ready)
        return self._kept

    def attend(
        self, stage: str, make: Callable[[int], Keeper], *, parts: int, stop: Callable[[list[Status]], bool]
    ) -> list[Any]:
        """Keepers in one event loop. A keeper whose work fails takes the run with it: there is no one to restart it."""
        return asyncio.run(_attend(make, parts, stop))

    def gang(self, stage: str, fn: Callable[..., None], *, size: int, least: int = 0) -> None:
        """`fn(rank, world, tell)`: here when alone, else in `size` processes that meet as torchrun's would. A wish to
        stop (SIGTERM, Ctrl-C) is handed on to them; they end with this process, however that ends."""

        def tell(row: dict[str, Any]) -> None:
            stepped(self.watch, stage, row)

        kept, self._kept = self._kept, None
        if kept:
            kept.shutdown()
        if size <= 1:
            fn(0, 1, tell)
            return
        from tundish.cluster.wire import free_port  # here, because it brings the whole web client with it

        port = free_port()
        context = multiprocessing.get_context("spawn")
        told = context.SimpleQueue()
        ranks = [
            context.Process(target=_rank, args=(fn, rank, size, port, told), name=f"{stage}-{rank}")
            for rank in range(size)
        ]
        with signals() as asked:
            try:
                for process in ranks:
                    process.start()
                failed = _join(ranks, asked)
            finally:
                for process in ranks:
                    if process.is_alive():
                        process.kill()
                    if process.pid:
                        process.join()
        _end(failed, told, asked)


@dataclass(frozen=True)
class _Laid:
    """Work that lies in a file."""

    path: str

    def __call__(self, item: Any) -> Any:
        return _taken(self.path)(item)


@contextlib.contextmanager
def _laid(work: Callable[[Any], Any]) -> Iterator[_Laid]:
    """The work in a file of its own, for as long as it takes."""
    with tempfile.NamedTemporaryFile(prefix="tundish-", suffix=".work") as file:
        pickle.dump(work, file)
        file.flush()
        yield _Laid(file.name)


@functools.lru_cache(maxsize=1)
def _taken(path: str) -> Callable[[Any], Any]:
    work: Callable[[Any], Any] = pickle.loads(Path(path).read_bytes())
    return work


def _join(ranks: list[Any], asked: list[int]) -> list[Any]:
    """Wait for all, or until there is nothing to wait for; returns those that failed, the first one first. Who was
    asked to stop may take its time to save, unless asked twice; when one fails the others would wait for ever."""
    failed: list[Any] = []
    handed, until = 0, math.inf
    while time.monotonic() < until and (alive := [p for p in ranks if p.is_alive()]):
        alive[0].join(0.1)
        if len(asked) > handed:
            until = time.monotonic() + (0 if handed else PATIENCE)
            handed = len(asked)
            for process in alive:
                process.terminate()
        before = bool(failed)
        failed += [p for p in ranks if p.exitcode and p not in failed]
        if failed and not before:
            until = min(until, time.monotonic() + GRACE)
            for process in ranks:  # to some it is a wish to save first, which alone none can
                process.terminate()
    return failed


def _end(failed: list[Any], told: Any, asked: list[int]) -> None:
    """What has come of a gang whose workers are gone."""
    said: dict[str, str] = {}
    while not told.empty():
        kind, sentence = told.get()
        said.setdefault(kind, sentence)
    if "refused" in said:
        raise ValueError(said["refused"])
    if "stopped" in said:
        raise Stopped(said["stopped"])
    if asked:
        raise KeyboardInterrupt
    if failed:
        name, code = failed[0].name, failed[0].exitcode
        raise RuntimeError(f"worker {name} ended with exit code {code}; run again to go on from the last checkpoint")


def _rank(fn: Callable[..., None], rank: int, world: int, port: int, told: Any) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends it to all; the driver hands on one wish
    ends_in_peace()
    _watchful()
    # with more threads than CPUs each waits for others that have none: ten times slower, not twice
    os.environ.setdefault("TUNDISH_TORCH_THREADS", str(max(1, (os.cpu_count() or 1) // world)))
    os.environ.update(
        RANK=str(rank), WORLD_SIZE=str(world), LOCAL_RANK=str(rank), MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port)
    )
    try:
        fn(rank, world, lambda row: None)
    except ValueError as error:  # the user's to mend: said by the driver in one sentence
        told.put(("refused", str(error)))
        sys.exit(1)
    except Stopped as stopped:
        told.put(("stopped", str(stopped)))


def _let_go(pool: ProcessPoolExecutor, running: list[Future[Any]]) -> None:
    """Wait for what still runs, for it may write, unless a process is lost; then see the processes to their end."""
    processes = list((pool._processes or {}).values())
    while finished(running, timeout=0.2).not_done and all(process.is_alive() for process in processes):
        pass
    for process in processes:
        process.terminate()
    for process in processes:
        process.join(GRACE)


def _kept_ready() -> None:
    """A terminal's Ctrl-C goes to all: a worker ends without a word, the driver says what there is to say."""
    signal.signal(signal.SIGINT, lambda number, frame: os._exit(128 + number))
    _watchful()


def _watchful() -> None:
    threading.Thread(target=_orphaned, daemon=True).start()


def _orphaned() -> None:
    """End with the driver, at once: the next one may already train in the same folder."""
    parent = multiprocessing.parent_process()
    assert parent is not None, "a rank has a parent"
    wait([parent.sentinel])
    os._exit(1)


async def _attend(make: Callable[[int], Keeper], parts: int, stop: Callable[[list[Status]], bool]) -> list[Any]:
    keepers = [make(part) for part in range(parts)]

    def post_of(sender: int) -> Callable[[int, str, list[Any]], Any]:
        async def post(part: int, batch: str, rows: list[Any]) -> Any:
            return await keepers[part].receive(sender, batch, rows)

        return post

    tasks = [asyncio.create_task(keeper.work(post_of(part))) for part, keeper in enumerate(keepers)]
    before: list[Status] | None = None
    try:
        while True:
            now = [keeper.status() for keeper in keepers]
            for task in tasks:
                if task.done():
                    task.result()
            if quiet(now, before) or stop(now):
                break
            before = now
            await asyncio.sleep(POLL)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        told = [await keeper.close() for keeper in keepers]
    return told
