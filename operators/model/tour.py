"""One epoch of a source: its shards in a permuted order, and the rows of a few neighbouring shards permuted together.

    order of shards   4 0 2 | 1 5 3        windows of three
    rows              every row of 4, 0 and 2 in one permuted order, then every row of 1, 5 and 3

Promises: every row comes once; the same on every machine; at any time the rows in use lie in one window of shards.
Documents lie in shards by the hash of their id, so a window is a sample of the source. Costs a permutation of the
shards an epoch, 24 bytes a shard. Refuses nothing: what is asked for is known to be there.
"""

import hashlib
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np

from tundish.operators.model.order import keyed, shuffled, unshuffled

SHARDS, ROWS, NAME = 1, 2, 3  # three streams of keys


@dataclass(frozen=True)
class Source:
    """`rows`: of every shard. `digest` names the shards' content: a plan is only replayed on the same."""

    name: str
    rows: tuple[int, ...]
    digest: str = ""

    @cached_property
    def size(self) -> int:
        return sum(self.rows)

    @cached_property
    def before(self) -> np.ndarray:
        """Rows before each shard, (shards,) int64: with the row in its shard the number that its masks go by."""
        return np.cumsum([0, *self.rows[:-1]])


@dataclass(frozen=True)
class Tour:
    """Shards in the order in which they come, rows before each, and rows before the end of every window."""

    source: Source
    order: np.ndarray  # (shards,) numbers of shards
    starts: np.ndarray  # (shards,) rows before each in this order
    ends: np.ndarray  # (windows,) rows before the end of each window
    key: int

    def rows(self, places: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Shards and rows in them, each (n,) int64, that come at these places (n,) of the epoch."""
        shards, rows = np.empty_like(places), np.empty_like(places)
        windows = np.searchsorted(self.ends, places, "right")
        for window in np.unique(windows):
            mine = windows == window
            first, last, key = self._window(int(window))
            landed = first + shuffled(places[mine] - first, size=last - first, key=key)
            slot = np.searchsorted(self.starts, landed, "right") - 1
            shards[mine], rows[mine] = self.order[slot], landed - self.starts[slot]
        return shards, rows

    def place(self, shard: int, row: int) -> int:
        """Where in the epoch a row comes."""
        landed = int(self.starts[np.flatnonzero(self.order == shard)[0]]) + row
        first, last, key = self._window(int(np.searchsorted(self.ends, landed, "right")))
        return first + unshuffled(landed - first, size=last - first, key=key)

    def around(self, place: int) -> tuple[list[int], int]:
        """The shards that are in use at a place of the epoch, and the first place at which others are."""
        first, last, _ = self._window(int(np.searchsorted(self.ends, place, "right")))
        shards = self.order[(self.starts >= first) & (self.starts < last)].tolist()
        return sorted(shard for shard in shards if self.source.rows[shard]), last

    def _window(self, window: int) -> tuple[int, int, int]:
        """First place, the one behind the last, and the key of its permutation."""
        return int(self.ends[window - 1]) if window else 0, int(self.ends[window]), keyed(self.key, ROWS, window)


def tour(source: Source, seed: int, epoch: int, window: int) -> Tour:
    """An epoch of a source. `window`: shards in use at once; 0: all of them."""
    return _tour(source, keyed(seed, name_key(source.name), epoch), window or len(source.rows))


@lru_cache(maxsize=64)
def _tour(source: Source, key: int, window: int) -> Tour:
    size = len(source.rows)
    order = shuffled(np.arange(size), size=size, key=keyed(key, SHARDS))
    ends = np.cumsum(np.asarray(source.rows, np.int64)[order])
    marks = np.append(np.arange(window - 1, size - 1, window), size - 1)
    return Tour(source, order, np.concatenate([[0], ends[:-1]]), ends[marks], key)


@lru_cache(maxsize=4096)
def name_key(name: str) -> int:
    """A 64-bit key of a source's name."""
    return keyed(NAME, int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "little"))
