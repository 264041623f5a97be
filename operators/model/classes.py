"""When classes are of unequal size: what each example weighs, and an order in which every class is equally likely.

Promises: `Balanced` is a function of (seed, epoch, place): of any so many places in a row as there are classes, from a
multiple of them on, each class has one, and a class comes back to an example only after all its others had their turn,
across epochs too (those in the cut last round of an epoch lose it). Costs a permutation of the classes for each round
asked for. Refuses labels below 0.

C classes, n examples.
"""

from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from tundish.operators.model.order import keyed, shuffled

ROUND, TURN = 73, 74  # two streams of keys
HOWS = ("inverse", "root", "effective")


def class_weights(counts: Sequence[int] | np.ndarray, how: str = "inverse", *, beta: float = 0.999) -> np.ndarray:
    """What an example of each class weighs, (C,) float64, for `counts` (C,) of examples; 0 where there is none.

    inverse      n / (C count): all classes weigh the same together, and an example 1 on average
    root         one over the root of the count, examples again 1 on average
    effective    (1 - beta) / (1 - beta^count), of sum C (Cui et al. 2019, "Class-balanced loss based on effective
                 number of samples"): classes beyond 1 / (1 - beta) examples weigh nearly the same

    >>> class_weights([90, 10]).round(3).tolist(), class_weights([90, 10], "effective", beta=0.9).round(3).tolist()
    ([0.556, 5.0], [0.789, 1.211])
    """
    sizes = np.asarray(counts, np.float64)
    if how not in HOWS:
        raise ValueError(f"classes cannot be weighed by {how!r}; choose one of {', '.join(HOWS)}")
    if sizes.ndim != 1 or (sizes < 0).any() or not sizes.sum():
        raise ValueError(f"counts {list(counts)} are none of classes; give at least one example")
    if not 0 <= beta < 1:
        raise ValueError(f"a beta of {beta} weighs nothing; give one from 0 to below 1")
    there = sizes > 0
    raw = np.zeros_like(sizes)
    if how == "effective":
        raw[there] = (1 - beta) / (1 - beta ** sizes[there])
        return raw * there.sum() / raw.sum()
    raw[there] = sizes[there] ** (-1.0 if how == "inverse" else -0.5)
    return raw * sizes.sum() / (raw * sizes).sum()


class Balanced:
    """The order of examples of these `labels` (n,). An epoch has as many places as wanted: its size is the caller's,
    the same for all epochs."""

    def __init__(self, labels: Sequence[int] | np.ndarray, *, seed: int, size: int = 0) -> None:
        labels = np.asarray(labels, np.int64)
        if not len(labels) or labels.min() < 0:
            raise ValueError("there is no labelled example, or a label below 0; number the classes from 0")
        self.rows = [np.flatnonzero(labels == each) for each in np.unique(labels)]
        self.seed, self.size = seed, size or len(labels)

    def at(self, places: np.ndarray, epoch: int) -> np.ndarray:
        """Numbers of the examples (m,) that come at these places (m,) of an epoch."""
        places = np.asarray(places, np.int64)
        if places.size and not 0 <= int(places.min()) <= int(places.max()) < self.size:
            raise ValueError(f"places up to {places.max()} are not in an epoch of {self.size}; ask only for those")
        rounds, within = np.divmod(places, len(self.rows))
        rounds = rounds + epoch * -(-self.size // len(self.rows))
        return np.array([self._row(int(a), int(b)) for a, b in zip(rounds, within, strict=True)], np.int64)

    def _row(self, number: int, within: int) -> int:
        kind = _permuted(len(self.rows), keyed(self.seed, ROUND, number))[within]
        mine = self.rows[kind]
        turn, at = divmod(number, len(mine))  # a round has the class once
        return int(mine[shuffled(at, size=len(mine), key=keyed(self.seed, TURN, kind, turn))])


@lru_cache(maxsize=1024)
def _permuted(size: int, key: int) -> tuple[int, ...]:
    return tuple(shuffled(np.arange(size), size=size, key=key).tolist())
