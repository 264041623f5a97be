"""A total from a sample: the ratio estimator, and by the bootstrap how far off it may be.

Of N units of known size (shards, by their bytes) n were drawn and a cost was measured on each. The total is the cost a
size of the sample times the size of all (Cochran, Sampling Techniques, 3rd ed. 1977, chapter 6). Its error is that of
samples drawn again from the sample (Efron, Annals of Statistics 7, 1979). The spread of those is widened for small n
by sqrt(n / (n - 1)) and by Student's quantile over the normal one (Hesterberg, American Statistician 69, 2015), and
narrowed by sqrt(1 - n / N), which is nothing left where all were looked at (Davison and Hinkley, Bootstrap Methods,
1997, section 3.7). Of 200 shards whose sizes and costs scatter as lognormals, 4 or 8 give bands that hold the total 85
times of 100, 40 give 88; meant are 90.

Promises: the same numbers for the same seed. Costs draws x n numbers. Refuses sizes that add up to nothing. What the
sample cannot know (another machine, a busier one) is in no band of it.
"""

from typing import NamedTuple

import numpy as np

DRAWS, LOW, HIGH = 1000, 5, 95  # per cent: nine bands of ten hold what they are about

NORMAL_95 = 1.6449


class Band(NamedTuple):
    """A number with the range in which nine of ten would lie."""

    middle: float
    low: float
    high: float

    def times(self, factor: float) -> "Band":
        return Band(self.middle * factor, self.low * factor, self.high * factor)

    def plus(self, other: "Band") -> "Band":
        """Of two that err together, as costs of the same shards do: the ends add up."""
        return Band(self.middle + other.middle, self.low + other.low, self.high + other.high)

    def widened(self, share: float) -> "Band":
        """With another error, independent of the first: this share of the middle to both sides."""
        off = share * self.middle
        low, high = np.hypot(self.middle - self.low, off), np.hypot(self.high - self.middle, off)
        return Band(self.middle, max(0.0, self.middle - float(low)), self.middle + float(high))

    def holds(self, actual: float) -> bool:
        return self.low <= actual <= self.high


def drawn_again(units: int, seed: int, draws: int = DRAWS) -> np.ndarray:
    """(draws, units) int64: how often each unit is in a sample of as many, drawn with replacement."""
    return np.random.default_rng(seed).multinomial(units, np.full(units, 1 / units), draws)


def total(costs: np.ndarray, sizes: np.ndarray, whole: float) -> float:
    """The estimate. `costs`, `sizes`: (n,) of the sample; `whole`: the size of all."""
    if not sizes.sum() > 0:
        raise ValueError(f"a sample of {len(sizes)} units has the size {sizes.sum():g}; give units that hold something")
    return float(whole * costs.sum() / sizes.sum())


def wider(free: int) -> float:
    """Student's 95th percentile over the normal one, by the first terms of its expansion (Fisher and Cornish, 1960).

    >>> round(wider(3), 2), round(wider(19), 2)
    (1.4, 1.05)
    """
    z = NORMAL_95
    return 1 + ((z**2 + 1) / 4 + (5 * z**4 + 16 * z**2 + 3) / (96 * free)) / free


def banded(costs: np.ndarray, sizes: np.ndarray, whole: float, *, of: int, seed: int = 1) -> Band:
    """The estimate with its band; `of`: how many units there are. One of several tells nothing of their spread: its
    band begins at nothing and ends nowhere."""
    middle, units = total(costs, sizes, whole), len(costs)
    if units >= of:
        return Band(middle, middle, middle)
    if units < 2:
        return Band(middle, 0.0, float("inf"))
    times = drawn_again(units, seed)
    again = whole * (times @ costs) / np.maximum(times @ sizes, np.finfo(float).tiny)
    off = (again - middle) * np.sqrt((1 - units / of) * units / (units - 1)) * wider(units - 1)
    low, high = np.percentile(off, [LOW, HIGH])
    return Band(middle, max(0.0, middle + float(low)), middle + float(high))
