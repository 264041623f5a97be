"""The narrow waist: all work moves by one of four verbs.

* `map`       shard -> shard(s), several functions in one pass over the source
* `exchange`  all rows with the same key meet
* `attend`    long-lived keepers, one a part, restarted alone, that post rows to each other
* `gang`      fn(rank, world, tell) on workers that start and stop together

`map` (cluster/map) and `exchange` (cluster/exchange) are written once, over `each`; a cluster says only how many
functions are called. So every
cluster writes the same bytes. Promises: a committed shard is never redone; what a function returns depends on its
rows alone. Refuses nothing itself: errors of a function reach the caller unchanged.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import pyarrow as pa

from tundish.cluster.target import Target

BATCH = 2048  # rows handed to a function at once
PATIENCE = 600.0  # seconds for a gang that was asked to stop, and saves first


@dataclass
class At:
    """Where a function stands: the shard, its number, the first row of this batch, and the tally it may add to."""

    shard: str
    index: int
    row: int = 0
    tally: Counter = field(default_factory=Counter)


Fn = Callable[[pa.Table, At], "pa.Table | tuple[pa.Table, ...]"]


class Source(Protocol):
    """Anything cut into named shards whose rows come in batches and whose bytes have digests."""

    @property
    def names(self) -> tuple[str, ...]: ...
    def digests(self, name: str) -> dict[str, str]: ...
    def batches(self, name: str, rows: int) -> Iterator[pa.Table]: ...


@dataclass(frozen=True)
class Job:
    """One function of a map: what it writes, and which earlier jobs' columns it wants beside the source's.

    `reads` is the part of the source that decides its rows, when that is not all of it: another job's wishes must
    not change this one's inputs.
    """

    fn: Fn
    outs: tuple[Target, ...]
    after: tuple[int, ...] = ()
    reads: "Source | None" = None
    columns: tuple[str, ...] | None = None  # of the source that it may see; all of them when none are named
    about: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Made:
    """What one stage of a pass wrote of a shard: rows and counters of its dataset, bytes of all its files."""

    stage: str
    rows: int
    size: int
    counts: Mapping[str, int]


@dataclass(frozen=True)
class Told:
    """What a worker says when an item is done: tiny, whatever the shard weighs."""

    name: str
    rows: int  # that were written
    counts: Mapping[str, int]
    note: str = ""  # for whoever looks on
    made: tuple[Made, ...] = ()  # stage by stage, where one pass serves several
    read: int = 0  # rows of the source; 0 where nothing was read because all was committed before
    seconds: float = 0.0  # of a worker; 0 where that is not known
    memory: int = 0  # bytes a worker has held at most since it began
    workers: int = 0  # at work, where that is known
    kept: bool = False  # committed before: nobody worked for it now
    line: Mapping[str, Any] = field(default_factory=dict)  # of a training's log


Watch = Callable[[str, int, int, Told | None], None]  # (stage, done, total, what was just done)


def unwatched(stage: str, done: int, total: int, told: Told | None) -> None:
    """Nobody looks on."""


def stepped(watch: Watch, stage: str, row: Mapping[str, Any]) -> None:
    """Hand on what a gang tells of a step."""
    watch(stage, int(row.get("step", 0)), int(row.get("steps", 0)), Told(stage, 0, {}, line=row))


class Restart(RuntimeError):
    """Raised by the work of a keeper that has to be made anew: its place is gone, or another's by now."""


class Keeper(Protocol):
    """The owner of one part of a long work. Its constructor restores what it had committed."""

    async def work(self, post: "Post") -> None:
        """Work until cancelled; sleeping while there is nothing to do."""

    async def receive(self, sender: int, batch: str, rows: list[Any]) -> Any:
        """Take rows from another keeper, durably, before returning. Called at least once a batch. `post` gives what it
        returns."""

    def status(self) -> "Status": ...

    async def close(self) -> Any:
        """Commit and let go. Returns a small record."""


Tell = Callable[[dict[str, Any]], None]  # what a rank of a gang says of its progress

Post = Callable[[int, str, list[Any]], Any]  # await post(part, batch_id, rows): returns once the other has it


@dataclass(frozen=True)
class Status:
    """Where a keeper stands. The work is over when all are idle, nothing is under way and nothing arrived meanwhile."""

    idle: bool
    outbox: int = 0  # batches not yet taken by their receiver
    received: int = 0  # batches taken so far
    done: int = 0
    queued: int = 0
    until: float = 0.0  # when it goes on (seconds since 1970), where it only waits; else 0


class Cluster(Protocol):
    """Where work is carried. `workers` decides speed, never bytes."""

    watch: Watch

    def each(self, stage: str, work: Callable[[Any], Any], items: Sequence[Any]) -> Iterator[Any]: ...
    def attend(
        self, stage: str, make: Callable[[int], Keeper], *, parts: int, stop: Callable[[list[Status]], bool]
    ) -> list[Any]: ...
    def gang(self, stage: str, fn: Callable[[int, int, Tell], None], *, size: int, least: int = 0) -> None:
        """`least`: with how many workers it goes on where no more are to be had; 0 for `size` and no other number."""


def may_run_twice(work: Callable[[Any], Any]) -> bool:
    """Whether a piece of work says (`twice`) that two workers may do it at once: both write the same bytes under the
    same names, each file whole or not at all, and neither minds the other."""
    return bool(getattr(work, "twice", False))


def wants_gpu(work: Callable[[Any], Any]) -> bool:
    """Whether a piece of work says (`gpu`) that it is done better on a GPU; it is done without one, too."""
    return bool(getattr(work, "gpu", False))


def quiet(now: Sequence[Status], before: Sequence[Status] | None) -> bool:
    """Whether keepers have come to rest: seen idle twice, with no batch on its way and none taken in between."""
    if before is None or any(not s.idle or s.outbox for s in now):
        return False
    return all(s.idle and not s.outbox for s in before) and [s.received for s in now] == [s.received for s in before]
