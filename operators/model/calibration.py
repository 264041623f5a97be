"""Are probabilities what they say: calibration errors, reliability diagrams, temperature scaling (Guo et al. 2017).

What is said is either the highest share of each row and whether it was right (`by="top"`), or every share of every
class (`by="class"`: the mean of the classes' errors; Nixon et al. 2019, Kull et al. 2019). Outputs each of their own,
as of a sigmoid, say the likelier of 0 and 1, or by class the probability of 1; each column is a class.

Bins are equally wide, each without its lower end and with its upper one (0 is in the first), or hold equally many; what
is equally sure is never parted. Promises: float64, and the same for any order of the rows. Costs a sort; a temperature
costs some ten passes over the logits. Refuses what `measures.probable` refuses, logits that are not finite, no bins.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

from tundish.operators.model.measures import fitting, probable
from tundish.operators.tallies import comparable

BINS = 15  # as in Guo et al. 2017
COLDEST, HOTTEST = 0.05, 20.0
PSEUDO = 20  # rows that speak for a temperature of 1
Pair = tuple[np.ndarray, np.ndarray]
Moments = tuple[float, float]


class Reliability(NamedTuple):
    """The bins that hold anything, lowest first, each (b,): mean confidence, share that was right, how many, and
    between which confidences the bin lies (float64; `count` int64)."""

    confidence: np.ndarray
    accuracy: np.ndarray
    count: np.ndarray
    low: np.ndarray
    high: np.ndarray


def reliability(truth: np.ndarray, probabilities: np.ndarray, *, bins: int = BINS, equal: str = "width") -> Reliability:
    """The points of a reliability diagram of the likeliest answers."""
    return binned(*_top(*probable(truth, probabilities)), bins=bins, equal=equal)


def expected_error(
    truth: np.ndarray, probabilities: np.ndarray, *, bins: int = BINS, equal: str = "width", by: str = "top"
) -> float:
    """Expected calibration error, 0 to 1: the mean distance of confidence and accuracy, each bin by its count."""
    return float(np.mean([gap @ count / count.sum() for gap, count in _gaps(truth, probabilities, bins, equal, by)]))


def maximum_error(
    truth: np.ndarray, probabilities: np.ndarray, *, bins: int = BINS, equal: str = "width", by: str = "top"
) -> float:
    """Maximum calibration error, 0 to 1: the largest distance in a bin; by class, of any class."""
    return float(max(gap.max() for gap, _ in _gaps(truth, probabilities, bins, equal, by)))


def binned(confidence: np.ndarray, right: np.ndarray, *, bins: int = BINS, equal: str = "width") -> Reliability:
    """Bins of confidences (n,) in [0, 1] with what was right (n,), by `width` or by `mass`."""
    if bins < 1 or equal not in ("width", "mass"):
        raise ValueError(f"{bins} bins of equal {equal!r} cannot be made; take at least one, of equal width or mass")
    comparable(right, confidence)
    ordered = np.sort(confidence)
    if equal == "width":
        edges = np.arange(bins + 1) / bins
        number = np.clip(np.searchsorted(edges, confidence, side="left") - 1, 0, bins - 1)
    else:
        number = np.searchsorted(ordered, confidence, side="left") * bins // len(ordered)
        first = np.searchsorted(number[np.argsort(confidence, kind="stable")], np.arange(bins + 1))
        edges = np.concatenate([ordered, [1.0]])[np.minimum(first, len(ordered))]
    count = np.bincount(number, minlength=bins)
    sums = (np.bincount(number, weights=each, minlength=bins) for each in (confidence, right))
    held = count > 0
    mean, accuracy = (each[held] / count[held] for each in sums)
    return Reliability(mean, accuracy, count[held], edges[:-1][held], edges[1:][held])


def softmax(logits: np.ndarray, temperature: float = 1.0) -> np.ndarray:
    """Shares of the last axis, float64."""
    logits = np.asarray(logits, np.float64) / _positive(temperature)
    grown = np.exp(logits - logits.max(-1, keepdims=True))
    return grown / grown.sum(-1, keepdims=True)


def sigmoid(logits: np.ndarray, temperature: float = 1.0) -> np.ndarray:
    """Probability of each logit, float64."""
    logits = np.asarray(logits, np.float64) / _positive(temperature)
    small = np.exp(-np.abs(logits))
    return np.where(logits >= 0, 1.0, small) / (1 + small)


def temperature(truth: np.ndarray, logits: np.ndarray) -> float:
    """The T with the lowest log loss of logits / T, of classes (n,) with logits (n, C) under a softmax or of 0 and 1
    with their like under a sigmoid; exactly 1 where there is none to fit. Fit it on other examples than those it is
    judged on.

    The loss is that of the rows and of `PSEUDO` rows more, which are labelled as the logits themselves foretell at
    T = 1: the conjugate prior of the family that T makes (Diaconis and Ylvisaker 1979). Few rows so hardly move it;
    that many alone leave a third of error in T, and beside 2,000 they shift it by about 1 %. None is to be fitted
    where the rows alone would have it at 0.05 or 20, or beyond: all labels are told rightly, or the logits tell
    nothing or less. The loss is convex in 1 / T, so Newton's steps, kept between the bounds, find the one there is.
    """
    logits = np.asarray(logits, np.float64)
    comparable(np.atleast_1d(truth), np.atleast_1d(logits))
    if not np.isfinite(logits).all():
        raise ValueError(f"logit {logits[~np.isfinite(logits)][0]} has no temperature; give finite logits")
    truth = fitting(truth, logits)
    if truth.shape == logits.shape:
        moments, told = _sigmoid_moments, float((truth * logits).mean())
    else:
        logits = logits - logits.max(1, keepdims=True)
        moments, told = _softmax_moments, float(logits[np.arange(len(truth)), truth].mean())
    low, high = 1 / HOTTEST, 1 / COLDEST
    if not moments(logits, low)[0] < told < moments(logits, high)[0]:
        return 1.0
    told += (moments(logits, 1.0)[0] - told) * PSEUDO / (PSEUDO + len(truth))

    def slopes(at: float) -> tuple[float, float]:
        mean, spread = moments(logits, at)
        return mean - told, spread

    return 1 / _root(slopes, low, high)


def _root(slopes: Callable[[float], tuple[float, float]], low: float, high: float) -> float:
    """Where the first slope is zero, by Newton's steps; one that would leave the bracket goes to its middle."""
    at = 1.0
    for _ in range(200):
        slope, curve = slopes(at)
        low, high = (at, high) if slope < 0 else (low, at)
        step = at - slope / curve if curve > 0 else low
        step = step if low < step < high else (low * high) ** 0.5
        if abs(step - at) <= 1e-13 * at or slope == 0:
            break
        at = step
    return at


def _softmax_moments(logits: np.ndarray, at: float) -> Moments:
    """Mean and variance of the logits under softmax(at logits), the mean over rows: less the mean logit of the labels
    the first is the slope of the log loss, the second its curvature."""
    shares = softmax(logits, 1 / at)
    mean = (shares * logits).sum(1)
    spread = (shares * np.square(logits - mean[:, None])).sum(1)
    return float(mean.mean()), float(spread.mean())


def _sigmoid_moments(logits: np.ndarray, at: float) -> Moments:
    ones = sigmoid(logits, 1 / at)
    return float((ones * logits).mean()), float((ones * (1 - ones) * np.square(logits)).mean())


def _top(truth: np.ndarray, shares: np.ndarray) -> Pair:
    """(confidence, right) of the likeliest answers, flat."""
    if truth.shape == shares.shape:
        return np.maximum(shares, 1 - shares).ravel(), ((shares >= 0.5) == truth).ravel()
    return shares.max(1), shares.argmax(1) == truth


def _gaps(truth: np.ndarray, probabilities: np.ndarray, bins: int, equal: str, by: str) -> Iterator[Pair]:
    """(distance of confidence and accuracy, count) of the bins, once or for each class."""
    truth, shares = probable(truth, probabilities)
    if by not in ("top", "class"):
        raise ValueError(f"there is no calibration by {by!r}; take top or class")
    if by == "top":
        pairs = [_top(truth, shares)]
    elif truth.shape == shares.shape:
        pairs = list(zip(np.atleast_2d(shares.T), np.atleast_2d(truth.T), strict=True))
    else:
        pairs = [(shares[:, each], truth == each) for each in range(shares.shape[1])]
    for confidence, right in pairs:
        found = binned(confidence, right, bins=bins, equal=equal)
        yield np.abs(found.confidence - found.accuracy), found.count


def _positive(temperature: float) -> float:
    if not 0 < temperature < np.inf:
        raise ValueError(f"{temperature} is no temperature; give a number above 0")
    return temperature
