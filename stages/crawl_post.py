"""Links on their way to other parts: the outbox is carried batch by batch, each until its owner says that it has it.

Promises: batches for one part go in order, one at a time; a part that is away keeps no other waiting; what was not
received waits on disk and is posted again. Costs a message for each commit and part. Refuses nothing.
"""

import asyncio
from collections.abc import Callable
from functools import partial

from tundish.cluster.verbs import Post
from tundish.stages.crawl_frontier import Frontier
from tundish.stages.crawl_tables import Letter

PATIENCE = 1.0  # seconds before a batch is posted again
AGAIN = "again"  # a message: send anew what came after the batch named


class Carrier:
    """Carries what `frontier` has for others. `posted` is set when there may be more; `failed` hears of errors."""

    def __init__(self, frontier: Frontier, failed: Callable[[BaseException], None]) -> None:
        self.frontier, self.failed = frontier, failed
        self.posted = asyncio.Event()
        self.under_way: dict[int, asyncio.Task[None]] = {}

    async def carry(self, post: Post) -> None:
        """Until cancelled."""
        try:
            while True:
                await self.posted.wait()
                self.posted.clear()
                for letter in self.frontier.letters(besides=self.under_way):
                    task = asyncio.create_task(self._deliver(post, letter))
                    self.under_way[letter.part] = task
                    task.add_done_callback(partial(self._carried, letter.part))
        finally:
            tasks = list(self.under_way.values())
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def _carried(self, part: int, task: "asyncio.Task[None]") -> None:
        del self.under_way[part]
        self.posted.set()
        if not task.cancelled() and (error := task.exception()) is not None:
            self.failed(error)

    async def _deliver(self, post: Post, letter: Letter) -> None:
        try:
            told = await post(letter.part, f"{letter.after}-{letter.batch}", letter.rows)
        except Exception:  # the other is being restarted, or closed; the batch waits on disk
            await asyncio.sleep(PATIENCE)
            return
        if "last" in told:  # the other was brought back from a checkpoint
            self.frontier.again(letter.part, told["last"])
        else:
            self.frontier.delivered(letter, told["covered"])


async def recovered(post: Post, frontier: Frontier, part: int, parts: int) -> None:
    """After a checkpoint was brought back, every other part sends again what came since."""

    async def ask(other: int) -> None:
        while True:
            try:
                await post(other, AGAIN, [frontier.last(other)])
                return
            except Exception:  # it is being restarted, too
                await asyncio.sleep(PATIENCE)

    await asyncio.gather(*(ask(other) for other in range(parts) if other != part))
