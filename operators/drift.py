"""How far a population has moved from another: the population stability index of numbers and of categories.

    PSI = sum over bins of (q - p) ln(q / p)        p: share of the reference in a bin, q: share of the other

which is Jeffreys' divergence (Proc. R. Soc. A 186, 1946). Bins of numbers are quantiles of the reference; a value that
is missing has a bin of its own. By the rule of thumb of scorecards (Siddiqi, Credit Risk Scorecards, 2006) below 0.1 is
no change to speak of, from 0.25 on it is a large one. What comes of chance alone, where nothing moved, is about
(1/n + 1/m) times a chi-squared number of B - 1 degrees (Yurdakul and Naranjo, Journal of Risk Model Validation 14,
2020): `chance` is its 95th percentile, below which nothing is said of small samples.

Promises: every bin counts half a document more than it has (Krichevsky and Trofimov, 1981), so an empty one is no
infinity. Costs a sort of the reference, and a search a value. Refuses counts of different bins.
"""

import numpy as np

BINS = 10
SOME, LARGE = 0.1, 0.25
HALF = 0.5
NORMAL_95 = 1.6449


def edges_of(values: np.ndarray, bins: int = BINS) -> np.ndarray:
    """Inner edges, at most `bins` - 1, ascending: quantiles of these values (n,), those that are equal once. A value
    that makes up much of them (a 0 of a signal that most texts do not have) ends a bin of its own."""
    known = values[np.isfinite(values)]
    if not len(known):
        return np.empty(0)
    found = np.unique(np.quantile(known, np.arange(1, bins) / bins, method="inverted_cdf"))
    return found if found[-1] < known.max() else found[:-1]


def counted(values: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """(len(edges) + 2,) int64: how many values lie at or below each edge and above the one before it, above all of
    them, and how many are none (NaN)."""
    missing = np.isnan(values)
    place = np.searchsorted(edges, values[~missing], side="left")
    return np.append(np.bincount(place, minlength=len(edges) + 1), missing.sum())


def shares(counts: np.ndarray) -> np.ndarray:
    """Shares of bins with half a document more in each."""
    return (counts + HALF) / (counts.sum() + HALF * len(counts))


def stability(reference: np.ndarray, other: np.ndarray) -> float:
    """PSI of two counts of the same bins (B,); bins that both lack are none."""
    reference, other = np.asarray(reference), np.asarray(other)
    if reference.shape != other.shape:
        raise ValueError(f"{reference.shape} and {other.shape} bins cannot be compared; count both by the same edges")
    there = (reference + other) > 0
    p, q = shares(reference[there]), shares(other[there])
    return float(np.sum((q - p) * np.log(q / p)))


def chance(reference: np.ndarray, other: np.ndarray) -> float:
    """What the PSI of two samples of one population stays below 19 times of 20, by their numbers and bins; the
    chi-squared quantile is that of Wilson and Hilferty (PNAS 17, 1931)."""
    reference, other = np.asarray(reference), np.asarray(other)
    free = int(((reference + other) > 0).sum()) - 1
    if free < 1 or not reference.sum() or not other.sum():
        return 0.0
    ninth = 2 / (9 * free)
    quantile = free * (1 - ninth + NORMAL_95 * np.sqrt(ninth)) ** 3
    return float(quantile * (1 / reference.sum() + 1 / other.sum()))


def verdict(index: float, level: float) -> str:
    """In a word: `large`, `some`, `small`; `chance` where samples of one population differ as much.

    >>> verdict(0.3, 0.01), verdict(0.12, 0.01), verdict(0.05, 0.01), verdict(0.3, 0.4)
    ('large', 'some', 'small', 'chance')
    """
    if index <= level:
        return "chance"
    return "large" if index >= LARGE else "some" if index >= SOME else "small"
