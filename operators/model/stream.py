"""The stream: from a step to a batch that is ready to train on. A function of the plan, with nothing to remember.

What is made of rows is said by an objective (`Masked`, `Following`, `Corrupted`) and a rate, both functions of the step
(`curriculum`): `Stream.aim`.

Promises: inputs, labels and the digest of a row depend on the plan, the row, its epoch and what the step asks of it,
not on the batch, the rank or the machine. Costs some 10 ns a token on one core, without the GIL, and the memory of two
batches. Refuses tokens outside the vocabulary and a shard that is not what the plan counted.

B rows, T places of a row, K guessed places, S segments.
"""

import itertools
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import NamedTuple, Protocol, TypeVar

import numpy as np

from tundish.operators.model.batch import Batch, Static
from tundish.operators.model.corrupting import Corrupted
from tundish.operators.model.following import Following
from tundish.operators.model.hiding import TOKENS, Hiding, Masked
from tundish.operators.model.order import mixed
from tundish.operators.model.plan import Places, Plan
from tundish.operators.model.rows import Filled, Frame, Layout, Shard, cut, fill
from tundish.operators.model.tour import name_key

Open = Callable[[int, int, int], Shard]  # (source, shard) as the plan numbers them, and a position at which it is read
T = TypeVar("T")
AT_ONCE = 4096  # rows whose places are worked out together


class Objective(Protocol):
    """What is made of rows: what is shown of them, and what is to be guessed."""

    def batch(self, rows: Filled, keys: np.ndarray, epochs: np.ndarray, hiding: Hiding, rate: float | None) -> Batch:
        """`rows` may be written over; `keys` (B,) uint64 and `epochs` (B,) int64 name each; `rate` None: its own."""


class Aim(NamedTuple):
    """What a step asks of its rows."""

    objective: Objective = TOKENS
    rate: float | None = None


USUAL = Aim()


@dataclass(frozen=True)
class Stream:
    """`open` gives a shard's mapped arrays; it is asked again and again, so it should remember. `aim`: what a step asks
    of its rows; None: single tokens are hidden at `hiding.rate`. `static`: sizes every batch is brought to."""

    plan: Plan
    layout: Layout
    hiding: Hiding
    open: Open
    aim: Callable[[int], Aim] | None = None
    static: Static | None = None

    def batch(self, places: Places, aim: Aim = USUAL) -> Batch:
        """The rows at these places, made ready as in their epochs."""
        made = aim.objective.batch(self.filled(places), self.keys(places), places.epoch, self.hiding, aim.rate)
        return self.static.of(made) if self.static else made

    def shares(self, steps: Iterable[int], *, world: int = 1, rank: int = 0) -> Iterator[tuple[int, Places]]:
        """Each step with this rank's rows. Places are worked out for many steps at a time: a call costs as much as
        some hundred rows do."""
        left = iter(steps)
        while taken := list(itertools.islice(left, 1)):
            each = len(self.plan.share(taken[0], world=world, rank=rank))
            taken += itertools.islice(left, AT_ONCE // max(1, each))
            positions = [self.plan.share(step, world=world, rank=rank) for step in taken]
            ends = np.cumsum([0, *map(len, positions)])
            places = self.plan.places(np.concatenate(positions))
            for number, step in enumerate(taken):
                yield step, places.slice(int(ends[number]), int(ends[number + 1]))

    def batches(self, steps: Iterable[int], *, world: int = 1, rank: int = 0) -> Iterator[tuple[int, Batch]]:
        """Each step with this rank's batch."""
        for step, places in self.shares(steps, world=world, rank=rank):
            yield step, self.batch(places, self.aim(step) if self.aim else USUAL)

    def filled(self, places: Places) -> Filled:
        """The rows at these places, with their tokens."""
        numbers = places.source << 32 | places.shard
        distinct, at, which = np.unique(numbers, return_index=True, return_inverse=True)
        places_ = zip(distinct.tolist(), places.position[at].tolist(), strict=True)
        shards = [self._shard(number >> 32, number & 0xFFFFFFFF, position) for number, position in places_]
        return fill(shards, which, places.row, self.layout, self.hiding.frame)

    def keys(self, places: Places) -> np.ndarray:
        """A 64-bit name of every row, (B,) uint64, from its source and its number there: hidden places go by it."""
        found = np.empty(len(places), np.uint64)
        for number in np.unique(places.source):
            source, here = self.plan.sources[number], places.source == number
            rows = (source.before[places.shard[here]] + places.row[here]).astype(np.uint64)
            found[here] = mixed(rows ^ np.uint64(name_key(source.name)))
        return found

    def _shard(self, source: int, number: int, position: int) -> Shard:
        shard, counted = self.open(source, number, position), self.plan.sources[source].rows[number]
        if len(shard.starts) - 1 != counted:
            raise ValueError(
                f"shard {number} of {self.plan.sources[source].name!r} has {len(shard.starts) - 1} rows and the plan "
                f"counted {counted}; train on the shards of the plan, or begin anew"
            )
        return shard


def warm() -> None:
    """Compile the kernels into the cache, before several processes would."""
    layout, offsets = Layout(8, 8), np.array([0, 3, 9], np.int64)
    for kind in (np.uint16, np.uint32):
        shard = Shard(np.arange(5, 14, dtype=kind), offsets, cut(offsets, layout))
        rows = fill([shard], [0, 0], np.arange(2), layout, Frame(2, 3, 0))
    hiding = Hiding(20, {"[PAD]": 0, "[CLS]": 2, "[SEP]": 3, "[MASK]": 4}, 1, 0.5)
    sampled, units = Masked(sampled=True), Masked(unit="span")
    for objective in (sampled, units, Following(), Corrupted(10, sentinels=5)):
        copied = rows._replace(tokens=rows.tokens.copy())
        objective.batch(copied, np.arange(2, dtype=np.uint64), np.zeros(2, np.int64), hiding, None)


def ahead(items: Iterator[T]) -> Iterator[T]:
    """The items in order, the next one made in another thread while one is used."""
    end = object()
    with ThreadPoolExecutor(1) as thread:
        coming = thread.submit(next, items, end)
        while (found := coming.result()) is not end:
            coming = thread.submit(next, items, end)
            yield found  # type: ignore[misc]
