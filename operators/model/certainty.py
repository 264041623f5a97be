"""How sure a result is: over seeds, over examples, between two systems, over the trials spent and the examples seen.

Promises: the same numbers for the same seed; intervals hold the level they say under their own assumptions, which each
function names. Costs one measure a resample; everything else next to nothing. Refuses what leaves no spread to measure
(one run, no examples) and levels that are no shares.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from statistics import NormalDist
from typing import Any, NamedTuple

import numpy as np

from tundish.operators.tallies import comparable

Measure = Callable[..., float]  # of (truth, guesses), or of whatever columns it is given
Bounds = tuple[float, float]  # the least and the most that a score can be
FREE: Bounds = (-math.inf, math.inf)
EDGE = 1e-9  # scores may lie outside their bounds by rounding


class Interval(NamedTuple):
    value: float
    low: float
    high: float


class Difference(NamedTuple):
    """Second less first. `doubt`: share of the resamples in which the sign of `value` is lost; no less than 1/samples
    can be told from it."""

    value: float
    low: float
    high: float
    doubt: float


class Best(NamedTuple):
    """(n,) float64: expected best score of 1, 2, ... n trials, and its standard deviation."""

    mean: np.ndarray
    deviation: np.ndarray


class Code(NamedTuple):
    """Bits of the labels as sent, as a uniform code would send them, and uniform / bits: how much was learnt."""

    bits: float
    uniform: float
    compression: float


class Point(NamedTuple):
    size: int
    mean: float
    low: float
    high: float


# -- over seeds


def over_seeds(scores: Sequence[float], level: float = 0.95, bounds: Bounds = FREE) -> Interval:
    """Mean of scores of independent runs with Student's interval: it takes them for normal, and says nothing about
    other examples than those they were scored on. `bounds`: between which scores can lie; the interval does so too."""
    return _spread(scores, 1.0, level, bounds)


def over_splits(scores: Sequence[float], ratio: float, level: float = 0.95, bounds: Bounds = FREE) -> Interval:
    """Mean over random splits of the same examples, tests of `ratio` times the size of train. They share examples, so
    Student's interval by itself is too narrow: the variance of the mean is (1/splits + ratio) that of the scores
    (Nadeau and Bengio 2003, the corrected resampled t)."""
    if not ratio > 0:
        raise ValueError(f"the ratio of test to train is {ratio}; it is above 0")
    return _spread(scores, math.sqrt(1 + ratio * len(scores)), level, bounds)


def _spread(scores: Sequence[float], wider: float, level: float, bounds: Bounds) -> Interval:
    """Student's interval of the mean on the scale on which its spread depends on it least (arcsine of the root between
    two bounds, root above one: Anscombe 1948), carried back by the delta method. Of 40,000 draws of two to ten scores
    round 0.97 and 0.99 it held 0.93 to 0.95; cut at the bounds Student's own held 0.91 to 0.93, and a logit, which
    held 0.94 to 0.95, is three to five times as wide at two scores."""
    found = np.asarray(scores, np.float64)
    if found.ndim != 1 or len(found) < 2:
        raise ValueError(f"an interval needs more scores than {found.size}; give those of two seeds or more")
    reach = float(student(0.5 + _level(level) / 2, len(found) - 1) * found.std(ddof=1) / math.sqrt(len(found)) * wider)
    mean, (least, most) = float(found.mean()), bounds
    if found.min() < least - EDGE or found.max() > most + EDGE:
        raise ValueError(f"{found.min()} to {found.max()} lies outside {least} to {most}; give the measure's bounds")
    if math.isinf(least) or not reach or not least < mean < most:
        return Interval(mean, mean - reach, mean + reach)
    above = mean - least
    if math.isinf(most):
        root, by = math.sqrt(above), reach / (2 * math.sqrt(above))
        return Interval(mean, least + max(0.0, root - by) ** 2, least + (root + by) ** 2)
    width, share = most - least, above / (most - least)
    angle, by = math.asin(math.sqrt(share)), reach / (2 * width * math.sqrt(share * (1 - share)))
    low, high = max(0.0, angle - by), min(math.pi / 2, angle + by)
    return Interval(mean, least + width * math.sin(low) ** 2, least + width * math.sin(high) ** 2)


def student(share: float, freedom: int) -> float:
    """Quantile of Student's t with whole degrees of freedom: bisection of the finite sums of Abramowitz and Stegun
    26.7.3 and 26.7.4, to about 1e-12."""
    if not 0 < share < 1 or freedom < 1:
        raise ValueError(
            f"there is no quantile {share} of Student's t with {freedom} degrees of freedom; "
            "give a share between 0 and 1 and at least 1 degree"
        )
    inside, low, high = abs(2 * share - 1), 0.0, math.pi / 2
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (middle, high) if _within(middle, freedom) < inside else (low, middle)
    return math.copysign(math.tan(low) * math.sqrt(freedom), share - 0.5)


def _within(angle: float, freedom: int) -> float:
    """P(|t| < tan(angle) sqrt(freedom))."""
    sine, cosine, odd = math.sin(angle), math.cos(angle), freedom % 2
    steps = np.arange(2 + odd, freedom, 2, dtype=np.float64)
    factors = np.concatenate([[1.0], (steps - 1) / steps * cosine**2])
    if not odd:
        return sine * float(np.cumprod(factors).sum())
    sums = float(np.cumprod(factors).sum()) * cosine if freedom > 1 else 0.0
    return 2 / math.pi * (angle + sine * sums)


# -- over examples


def bootstrap(measure: Measure, *columns: Any, seed: int, samples: int = 1000, level: float = 0.95) -> Interval:
    """`measure(*columns)` between percentiles of its values on rows drawn anew (Efron and Tibshirani 1993). For
    examples drawn independently; `measure` must have a value whichever rows come. Where it takes long, give it columns
    of counts that add up (`tallies.Tally`), not what they were counted from."""
    arrays = _columns(columns)
    values = [measure(*(each[rows] for each in arrays)) for rows in _draws(len(arrays[0]), samples, seed)]
    return Interval(float(measure(*arrays)), *_percentiles(values, level))


def paired(
    measure: Measure, truth: Any, first: Any, second: Any, *, seed: int, samples: int = 1000, level: float = 0.95
) -> Difference:
    """How much better `second` is than `first` on the same examples, both scored on the same rows each time (paired
    bootstrap: Koehn 2004)."""
    truth, first, second = _columns((truth, first, second))
    values = np.array(
        [
            measure(truth[rows], second[rows]) - measure(truth[rows], first[rows])
            for rows in _draws(len(truth), samples, seed)
        ]
    )
    value = float(measure(truth, second) - measure(truth, first))
    return Difference(value, *_percentiles(values, level), float((values * np.sign(value) <= 0).mean()))


def between(
    measure: Measure,
    first: Any,
    second: Any,
    *,
    seed: int,
    samples: int = 1000,
    level: float = 0.95,
    together: bool = True,
) -> Difference:
    """How much better the runs of `second` are than those of `first`, on rows and runs drawn anew at once (the
    multi-bootstrap of Sellam et al. 2022): true of other examples and of other seeds.

    first, second (runs, n, ...): what the score of a run is counted from, example by example; `measure` of (n, ...).
    `together`: the runs of both are paired (they share a seed), and are drawn as pairs. Of few runs the spread is
    drawn too small, by 1 / runs of its variance; `over_seeds` of their differences is no such, nor is `apart.apart`
    of runs that are not paired.
    """
    one, other = np.asarray(first), np.asarray(second)
    comparable(one[0], other[0], "examples", "examples")
    if together:
        comparable(one, other, "runs", "runs")
    draw, rows = np.random.default_rng([seed, 1]), _draws(one.shape[1], samples, seed)
    values = []
    for some in rows:
        mine = draw.integers(0, len(one), len(one))
        theirs = mine if together else draw.integers(0, len(other), len(other))
        values.append(_mean(measure, other, theirs, some) - _mean(measure, one, mine, some))
    whole = slice(None)
    value = _mean(measure, other, range(len(other)), whole) - _mean(measure, one, range(len(one)), whole)
    return Difference(value, *_percentiles(values, level), float((np.array(values) * np.sign(value) <= 0).mean()))


def exchanged(measure: Measure, first: Any, second: Any, *, seed: int, samples: int = 1000) -> float:
    """Chance of a difference at least as large, either way, were the two systems one: those in which each example is
    exchanged between them with chance 1/2, in all runs at once (approximate randomisation: Noreen 1989, Yeh 2000), the
    difference itself among them. first, second (runs, n, ...) as in `between`."""
    one, other = np.asarray(first), np.asarray(second)
    comparable(one, other, "runs", "runs")
    comparable(one[0], other[0], "examples", "examples")
    if samples < 1:
        raise ValueError(f"{samples} resamples give no chance; draw at least one, better a thousand")
    draw, runs, whole = np.random.default_rng(seed), range(len(one)), slice(None)

    def apart(swapped: np.ndarray) -> float:
        swap = swapped.reshape(1, -1, *[1] * (one.ndim - 2))
        a, b = np.where(swap, other, one), np.where(swap, one, other)
        return abs(_mean(measure, b, runs, whole) - _mean(measure, a, runs, whole))

    least = apart(np.zeros(one.shape[1], bool)) - 1e-12  # sums in another order are no smaller difference
    return (1 + sum(apart(draw.random(one.shape[1]) < 0.5) >= least for _ in range(samples))) / (1 + samples)


def _mean(measure: Measure, runs: np.ndarray, some: Any, rows: Any) -> float:
    """Of the runs of these numbers, each scored once however often it was drawn."""
    numbers, times = np.unique(some, return_counts=True)
    return float(np.average([measure(runs[number][rows]) for number in numbers], weights=times))


def wilson(right: int, total: int, level: float = 0.95) -> Interval:
    """A share of independent trials with Wilson's score interval (1927), which holds for few trials and for 0 and 1."""
    if not 0 <= right <= total or total < 1:
        raise ValueError(f"{right} of {total} is no share; give at least one trial and no more right than there are")
    z = NormalDist().inv_cdf(0.5 + _level(level) / 2)
    share, more = right / total, z * z / total
    middle = (share + more / 2) / (1 + more)
    reach = z / (1 + more) * math.sqrt(share * (1 - share) / total + more / total / 4)
    return Interval(share, max(0.0, middle - reach), min(1.0, middle + reach))


# -- over runs and trials


def majority(truth: np.ndarray, measure: Measure) -> float:
    """The score of guessing the most frequent class (the lowest of equals) for every example."""
    truth = np.asarray(truth)
    comparable(truth, truth, others="classes")
    values, counts = np.unique(truth, return_counts=True)
    return float(measure(truth, np.full(len(truth), values[np.argmax(counts)])))


def failed(
    scores: Sequence[float],
    majority: float,
    *,
    losses: Sequence[float] | None = None,
    entropy: float | None = None,
) -> np.ndarray:
    """(runs,) bool: the runs that failed, whose mean is the failed-run rate.

    A run failed if its score at the end of training is at or below the majority's, or NaN (Mosbach et al. 2021, after
    Dodge et al. 2020; theirs is accuracy on the development set, any measure with its own `majority` will do). With
    `losses`, training losses at the end, also if that is not below `entropy` of the labels, both in nats: such a run
    learnt nothing from what it saw, the failures of optimisation that Mosbach et al. tell from those to generalise.
    """
    found = ~(np.asarray(scores, np.float64) > majority)
    if (losses is None) != (entropy is None):
        raise ValueError("losses say nothing without the entropy of the labels, nor it without them; give both")
    if losses is not None:
        comparable(scores, losses, "scores", "losses")
        found |= ~(np.asarray(losses, np.float64) < entropy)
    return found


def expected_best(scores: Sequence[float], trials: int | None = None) -> Best:
    """The best validation score to expect of n trials drawn from those made, for n from 1 to `trials` (all of them).

    Closed form of Dodge et al. 2019: the best of n draws with replacement is the i-th lowest of B scores with chance
    (i/B)^n - ((i-1)/B)^n. Sound for n well below B; beyond, it cannot exceed the best that was seen.
    """
    found = np.sort(np.asarray(scores, np.float64))
    comparable(found, found, "scores", "trials")
    if not np.isfinite(found).all():
        raise ValueError(f"score {found[~np.isfinite(found)][0]} has no order; give runs that failed their own score")
    budget = np.arange(1, (trials or len(found)) + 1)[:, None]
    below = np.arange(len(found) + 1) / len(found)
    chances = np.diff(below**budget, axis=1)
    mean = chances @ found
    return Best(mean, np.sqrt((chances * np.square(found - mean[:, None])).sum(1)))


# -- over examples seen


def code_length(sizes: Sequence[int], losses: Sequence[float], classes: int) -> Code:
    """Online (prequential) code of n labels of so many classes (Blier and Ollivier 2018; Voita and Titov 2020).

    `sizes`: after how many examples a model is trained, rising, the last n; `losses`: of each model but the last, the
    sum of -ln p of the labels up to the next size, in nats. The first `sizes[0]` labels are sent uniformly.
    """
    steps = np.asarray(sizes, np.int64)
    if classes < 2 or not len(steps) or steps[0] < 1 or (np.diff(steps) <= 0).any():
        raise ValueError(
            f"sizes {steps.tolist()} of {classes} classes make no code; give rising sizes from 1 and 2 classes or more"
        )
    if len(losses) != len(steps) - 1:
        raise ValueError(f"{len(steps)} sizes have {len(steps) - 1} blocks and not {len(losses)}; give a loss for each")
    bits = float(steps[0] * math.log2(classes) + np.sum(losses) / math.log(2))
    uniform = float(steps[-1] * math.log2(classes))
    return Code(bits, uniform, uniform / bits)


def doubling(total: int, first: int) -> list[int]:
    """Sizes of a curve: `first`, twice that and so on below `total`, and `total`.

    >>> doubling(1000, 100)
    [100, 200, 400, 800, 1000]
    """
    if first < 1 or total < 1:
        raise ValueError(f"no sizes lead from {first} to {total}; give whole numbers of at least 1")
    sizes = []
    while first < total:
        sizes.append(first)
        first *= 2
    return [*sizes, total]


def efficiency(sizes: Sequence[int], scores: Sequence[Sequence[float]], level: float = 0.95) -> list[Point]:
    """A sample-efficiency curve: at each size the scores of several seeds, as `over_seeds` has them."""
    comparable(sizes, scores, "sizes", "rows of scores")
    return [Point(int(size), *over_seeds(each, level)) for size, each in zip(sizes, scores, strict=True)]


def _level(level: float) -> float:
    if not 0 < level < 1:
        raise ValueError(f"{level} is no level of an interval; give a share between 0 and 1, such as 0.95")
    return level


def _columns(columns: Sequence[Any]) -> list[np.ndarray]:
    made = [np.asarray(each) for each in columns]
    for each in made:
        comparable(made[0], each, "examples")
    return made


def _draws(count: int, samples: int, seed: int) -> Iterator[np.ndarray]:
    """Rows of each resample; one at a time, for memory."""
    if samples < 1:
        raise ValueError(f"{samples} resamples give no interval; draw at least one, better a thousand")
    draw = np.random.default_rng(seed)
    return (draw.integers(0, count, count) for _ in range(samples))


def _percentiles(values: Any, level: float) -> tuple[float, float]:
    low, high = np.percentile(values, [50 - 50 * _level(level), 50 + 50 * level])
    return float(low), float(high)
