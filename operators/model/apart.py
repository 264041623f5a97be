"""How far apart two systems are, true of other rows and of other runs at once, also where there are few runs.

    scored(measure, runs)      scores of each run, on all rows and on rows drawn anew
    apart(first, second)       interval of the difference of means; runs of the two have nothing in common
    pairs(first, second)       the same where the runs of both share their seeds, one by one
    divided(first, second)     chance of such a difference, were all runs divided among the two at random

The variance of a mean over k runs and n rows is runs / k + rows / n + both / (n k) (Scheffe 1959, two-way random
effects). That of the runs' scores is the first and the last of these; rows drawn anew with the runs as they are give
the second and the last, which is in both and so is taken out once; it is also the least that runs can differ by, where
their few scores happen to be alike. Of the sum Student's interval is taken, its degrees of freedom by Satterthwaite
(1946): of runs alone that is Welch's (1947), which holds for three runs, as the percentiles of runs drawn anew do not.

Promises: the same numbers for the same seed, and rows drawn alike for all that is scored with it. A side of one run is
taken as given, no draw of many. Costs a score of each run a resample. Refuses sides of other rows.

k runs, n rows, S resamples.
"""

import itertools
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from tundish.operators.model.certainty import FREE, Bounds, Interval, Measure, student
from tundish.operators.tallies import comparable

MOST = 1e6  # degrees of freedom: beyond, Student's is the normal distribution


class Side(NamedTuple):
    """`scores` (k,) of each run; `drawn` (S, k) of the same on rows drawn anew; of so many `rows`."""

    scores: np.ndarray
    drawn: np.ndarray
    rows: int


class Part(NamedTuple):
    """A variance of a mean, and its degrees of freedom."""

    variance: float
    freedom: float


def scored(measure: Measure, runs: Any, *, seed: int, samples: int = 1000) -> Side:
    """runs (k, n, ...): what a score is counted from, row by row."""
    given = np.asarray(runs)
    if samples < 2:
        raise ValueError(f"{samples} resamples have no spread; draw at least two, better a thousand")
    count, draw = given.shape[1], np.random.default_rng(seed)
    each = [draw.integers(0, count, count) for _ in range(samples)]
    drawn = np.array([[measure(one[rows]) for one in given] for rows in each], np.float64)
    return Side(np.array([measure(one) for one in given], np.float64), drawn, count)


def apart(first: Side, second: Side, *, level: float = 0.95, bounds: Bounds = FREE) -> Interval:
    """How far the mean of the second lies above that of the first."""
    comparable(first.drawn, second.drawn, "resamples", "resamples")
    if first.rows != second.rows:
        raise ValueError(f"the sides were scored on {first.rows} and on {second.rows} rows; score both on the same")
    value = float(second.scores.mean() - first.scores.mean())
    drawn = second.drawn.mean(1) - first.drawn.mean(1)
    if len(first.scores) == len(second.scores) == 1:  # of rows alone: the paired bootstrap of Koehn 2004
        low, high = np.percentile(drawn, [50 - 50 * level, 50 + 50 * level])
        return Interval(value, float(low), float(high))
    several = [side for side in (first, second) if len(side.scores) > 1]
    rows = max(0.0, float(drawn.var(ddof=1)) - sum(map(_both, several)))
    parts = [Part(rows, first.rows - 1), *map(_runs, several)]
    reach = _reach(parts, level)
    return Interval(value, max(bounds[0], value - reach), min(bounds[1], value + reach))


def pairs(first: Side, second: Side, *, level: float = 0.95, bounds: Bounds = FREE) -> Interval:
    """The same of runs that belong together: their differences are what varies."""
    comparable(first.scores, second.scores, "runs", "runs")
    apiece = Side(second.scores - first.scores, second.drawn - first.drawn, second.rows)
    return apart(Side(np.zeros(1), np.zeros((len(apiece.drawn), 1)), first.rows), apiece, level=level, bounds=bounds)


def _runs(side: Side) -> Part:
    """Of the mean of the runs' scores; what is in it of rows and runs together counts here."""
    found = float(side.scores.var(ddof=1)) / len(side.scores)
    return Part(max(found, _both(side)), len(side.scores) - 1)


def _both(side: Side) -> float:
    """What runs add of their own when rows are drawn: the variance of their mean by that."""
    own = side.drawn - side.drawn.mean(1, keepdims=True)
    return float(own.var(0, ddof=1).mean()) / (len(side.scores) - 1)


def _reach(parts: Sequence[Part], level: float) -> float:
    """Half of Student's interval of a sum of independent estimates."""
    whole = sum(part.variance for part in parts)
    if not whole:
        return 0.0
    freedom = whole**2 / sum(part.variance**2 / max(1.0, part.freedom) for part in parts)
    return _student(0.5 + level / 2, freedom) * math.sqrt(whole)


def _student(share: float, freedom: float) -> float:
    """Between whole degrees of freedom on a line of their reciprocals, on which quantiles nearly lie."""
    least = max(1, math.floor(min(freedom, MOST)))
    low, high = student(share, least), student(share, least + 1)
    return low + (high - low) * (1 / least - 1 / max(least, min(freedom, MOST))) * least * (least + 1)


def divided(first: Sequence[float], second: Sequence[float], *, seed: int, samples: int = 1000) -> float:
    """Chance of a difference of the means at least as large, either way, were the scores of all runs divided anew
    among sides of these sizes: of all ways where these are no more than `samples`, else of so many that are drawn, the
    one there is among them (Fisher 1935, Pitman 1937). Of two and three runs it is no less than 1 / 10."""
    every, size = np.array([*first, *second], np.float64), len(first)
    if not size or size == len(every):
        raise ValueError(f"{size} and {len(every) - size} runs are not two sides; give at least one of each")
    if math.comb(len(every), size) <= samples:
        ways = np.array(list(itertools.combinations(range(len(every)), size)))
    else:
        draw = np.random.default_rng(seed)
        ways = np.array([range(size), *(draw.permutation(len(every))[:size] for _ in range(samples))])
    sums = every[ways].sum(1)
    found = np.abs((every.sum() - sums) / (len(every) - size) - sums / size)
    least = abs(np.mean(every[size:]) - np.mean(every[:size])) - 1e-12
    return float((found >= least).mean())
