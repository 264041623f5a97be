"""The stream: from a step to a batch that is ready to train on. A function of the plan, with nothing to remember.

Promises: inputs, labels and the digest of a row depend on the plan, the row and its epoch alone, not on the batch,
the rank or the machine; exactly round(rate x n) of a row's n ordinary tokens are hidden, at least one; the bits are
those of `masking.mask`, which does the same on a GPU. Costs some 10 ns a token on one core, without the GIL, and the
memory of two batches. Refuses tokens outside the vocabulary and a shard that is not what the plan counted.

B rows, T places of a row, K hidden places, S segments.
"""

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import NamedTuple, TypeVar

import numpy as np

from tundish.operators.model import kernels
from tundish.operators.model.order import keyed, mixed
from tundish.operators.model.plan import Places, Plan
from tundish.operators.model.rows import Filled, Frame, Layout, Shard, cut, fill
from tundish.operators.model.tour import name_key

CHOOSE, DRAW = 1, 2  # two streams of numbers per place; masking draws from the same

Open = Callable[[int, int, int], Shard]  # (source, shard) as the plan numbers them, and a position at which it is read
T = TypeVar("T")
AT_ONCE = 4096  # rows whose places are worked out together


@dataclass(frozen=True)
class Hiding:
    """What is hidden in a row, besides its number and epoch. `specials` names [PAD], [UNK], [CLS], [SEP], [MASK]."""

    vocabulary: int
    specials: Mapping[str, int]
    seed: int
    rate: float

    def __post_init__(self) -> None:
        if not 0 < self.rate <= 1:
            raise ValueError(f"a mask rate of {self.rate} hides nothing or more than all; use a share such as 0.3")
        if not len(self.ordinary):
            raise ValueError(
                f"all {self.vocabulary} tokens of the vocabulary are special, so nothing is left to hide; take more"
            )

    @cached_property
    def special(self) -> np.ndarray:
        """(V,) uint8: 1 for what is neither hidden nor drawn."""
        found = np.zeros(self.vocabulary, np.uint8)
        found[[each for each in self.specials.values() if each < self.vocabulary]] = 1
        return found

    @cached_property
    def span(self) -> np.ndarray:
        """(2,) uint32: the first and last special id where they are neighbours, else (1, 0)."""
        found = np.flatnonzero(self.special)
        together = len(found) and found[-1] - found[0] + 1 == len(found)
        return np.array([found[0], found[-1]] if together else [1, 0], np.uint32)

    @cached_property
    def ordinary(self) -> np.ndarray:
        return np.flatnonzero(self.special == 0).astype(np.int32)

    @property
    def frame(self) -> Frame:
        return Frame(self.specials["[CLS]"], self.specials["[SEP]"], self.specials["[PAD]"])


class Hidden(NamedTuple):
    """`inputs` (B, T) int32; of what is hidden the `places` (K,) int64 in the flattened rows and the `labels` (K,)
    int64; `counts` (B,) int64: how many a row; `digest`: a 64-bit sum that adds up, wrapping, over parts of a batch."""

    inputs: np.ndarray
    places: np.ndarray
    labels: np.ndarray
    counts: np.ndarray
    digest: int


class Batch(NamedTuple):
    """Rows ready to train on. `bounds` (S + 1,) int32: where segments begin in the flattened rows (padding is one of
    its own) and B * T last, as variable-length attention takes them; `sizes` (B,) int64: places not padded."""

    inputs: np.ndarray
    bounds: np.ndarray
    sizes: np.ndarray
    places: np.ndarray
    labels: np.ndarray
    counts: np.ndarray
    digest: int

    @property
    def longest(self) -> int:
        """Places of the longest segment."""
        return int(np.diff(self.bounds).max())

    def spread(self) -> tuple[np.ndarray, np.ndarray]:
        """Segments and positions, each (B, T) int32: the number of a place's segment, -1 for padding, and its place
        in it. For attention over whole rows with a mask."""
        shape = self.inputs.shape
        segments = np.repeat(np.arange(len(self.bounds) - 1, dtype=np.int32), np.diff(self.bounds))
        positions = (np.arange(len(segments), dtype=np.int32) - self.bounds[segments]).reshape(shape)
        segments = segments.reshape(shape)
        padded = np.arange(shape[1]) >= self.sizes[:, None]
        segments[padded], positions[padded] = -1, 0
        return segments, positions


def hide(tokens: np.ndarray, keys: np.ndarray, epochs: np.ndarray, hiding: Hiding) -> Hidden:
    """Rows `tokens` (B, T) int32 with places hidden, written over them; `keys` (B,) uint64 and `epochs` (B,) int64
    name each row."""
    count, length = tokens.shape
    turns = epochs.astype(np.uint64)
    words = [mixed(mixed(turns ^ np.uint64(keyed(hiding.seed, stream))) ^ keys) for stream in (CHOOSE, DRAW)]
    found, labels = np.empty((2, tokens.size + 1), np.int32)  # the kernel writes one place ahead
    told = np.zeros(1, np.uint64)
    counts = np.zeros(count, np.int64)
    total = kernels.hide(
        tokens,
        *words,
        _place_words(length),
        hiding.ordinary,
        hiding.special,
        hiding.span,
        hiding.rate,
        hiding.specials["[MASK]"],
        np.empty((2, length), np.uint64),
        np.empty(kernels.BUCKETS, np.int32),
        found,
        labels,
        counts,
        told,
    )
    if total < 0:
        raise ValueError(
            f"token {-1 - total} is outside the vocabulary of {hiding.vocabulary}; "
            "train on shards written with this vocabulary"
        )
    return Hidden(tokens, found[:total].astype(np.int64), labels[:total].astype(np.int64), counts, int(told[0]))


@lru_cache(maxsize=8)
def _place_words(length: int) -> np.ndarray:
    return mixed(np.arange(length, dtype=np.uint64))


@dataclass(frozen=True)
class Stream:
    """`open` gives a shard's mapped arrays; it is asked again and again, so it should remember."""

    plan: Plan
    layout: Layout
    hiding: Hiding
    open: Open

    def batch(self, places: Places) -> Batch:
        """The rows at these places, with places hidden as in their epochs."""
        rows = self.filled(places)
        hidden = hide(rows.tokens, self.keys(places), places.epoch, self.hiding)
        return Batch(hidden.inputs, rows.bounds, rows.sizes, hidden.places, hidden.labels, hidden.counts, hidden.digest)

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
            yield step, self.batch(places)

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
    hide(rows.tokens, np.arange(2, dtype=np.uint64), np.zeros(2, np.int64), hiding)


def ahead(items: Iterator[T]) -> Iterator[T]:
    """The items in order, the next one made in another thread while one is used."""
    end = object()
    with ThreadPoolExecutor(1) as thread:
        coming = thread.submit(next, items, end)
        while (found := coming.result()) is not end:
            coming = thread.submit(next, items, end)
            yield found  # type: ignore[misc]
