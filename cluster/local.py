"""The verbs in this process, or in a few processes beside it: samples, tests, laptops. The same bytes as on Ray."""

import asyncio
import multiprocessing
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from typing import Any

from tundish.cluster.verbs import Keeper, Status, Watch, quiet, unwatched

POLL = 0.05  # seconds between looks at the keepers


@dataclass
class Local:
    """`workers=1` runs in this process; more spawn processes (functions must then be importable by name)."""

    workers: int = 1
    watch: Watch = unwatched

    def each(self, stage: str, work: Callable[[Any], Any], items: Sequence[Any]) -> Iterator[Any]:
        """`work(item)` for every item, in whatever order they end."""
        if self.workers <= 1 or len(items) <= 1:
            yield from map(work, items)
            return
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(min(self.workers, len(items)), mp_context=context) as pool:
            pending = [pool.submit(work, item) for item in items]
            try:
                for future in as_completed(pending):
                    yield future.result()
            finally:
                for future in pending:
                    future.cancel()

    def attend(
        self, stage: str, make: Callable[[int], Keeper], *, parts: int, stop: Callable[[list[Status]], bool]
    ) -> list[Any]:
        """Keepers in one event loop. A keeper whose work fails takes the run with it: there is no one to restart it."""
        return asyncio.run(_attend(make, parts, stop))

    def gang(self, stage: str, fn: Callable[..., None], *, size: int) -> None:
        """`fn(rank, world, tell)`: here when alone, else in `size` processes that meet as torchrun's would."""

        def tell(row: dict[str, Any]) -> None:
            self.watch(stage, int(row.get("step", 0)), int(row.get("steps", 0)), None)

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
        for process in ranks:
            process.start()
        _join(stage, ranks, told)


def _join(stage: str, ranks: list[Any], told: Any) -> None:
    """Wait for all; when one fails the others stop with it, for they would wait for it for ever."""
    failed: list[Any] = []
    try:
        while any(p.is_alive() for p in ranks) and not failed:
            for process in ranks:
                process.join(0.1)
            failed = [p for p in ranks if p.exitcode not in (None, 0)]
    finally:
        for process in ranks:
            if process.is_alive():
                process.terminate()
            process.join()
    if not told.empty():
        raise ValueError(told.get())
    if failed := failed or [p for p in ranks if p.exitcode]:
        name, code = failed[0].name, failed[0].exitcode
        raise RuntimeError(f"worker {name} ended with exit code {code}; run again to go on from the last checkpoint")


def _rank(fn: Callable[..., None], rank: int, world: int, port: int, told: Any) -> None:
    os.environ.update(
        RANK=str(rank), WORLD_SIZE=str(world), LOCAL_RANK=str(rank), MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port)
    )
    try:
        fn(rank, world, lambda row: None)
    except ValueError as error:  # the user's to mend: said by the driver in one sentence
        told.put(str(error))
        sys.exit(1)


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
