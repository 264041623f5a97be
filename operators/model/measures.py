"""How good guesses are: classes, sets of labels, numbers, scores and probabilities; truth first, guesses second.

Classes are whole numbers from 0, (n,); sets of labels are 0 or 1, (n, C). Probabilities are either the shares of a
distribution, (n, C) beside classes (n,), or each of its own, 0 or 1 beside each (as of a sigmoid).

Promises: scikit-learn's numbers (zero_division=0), in float64. What has no spread correlates with nothing: 0, not NaN.
Costs one or two passes, or a sort where order counts. Refuses truth and guesses of different shapes, nothing at all,
NaN, labels that are no classes, and shares that do not sum to one.
"""

import numpy as np

from tundish.operators.tallies import Shares, Tally, averaged, comparable, shares

EDGE = 1e-6  # how far a probability may be from 0 to 1: a product's last bit
NUMBERS = 1 << 22  # of a block of products: 32 MB
SUM = 1e-4  # how far a distribution's sum may be from one: float32's rounding, but not half precision's


# -- classes and sets of labels


def confusion(truth: np.ndarray, guesses: np.ndarray, classes: int | None = None) -> np.ndarray:
    """(C, C) int64: how often the class of the row was taken for that of the column. C: `classes`, or those seen."""
    truth, guesses = _classes(truth, "label"), _classes(guesses, "guess")
    comparable(truth, guesses)
    if truth.ndim != 1 or guesses.ndim != 1:
        raise ValueError(
            f"labels of shape {truth.shape} and guesses of {guesses.shape} are no rows of classes; give (n,)"
        )
    seen = int(max(truth.max(), guesses.max())) + 1
    if classes is not None and seen > classes:
        raise ValueError(f"class {seen - 1} is none of {classes} classes, 0 to {classes - 1}; look at the labels")
    size = classes or seen
    return np.bincount(truth * size + guesses, minlength=size * size).reshape(size, size)


def tally(truth: np.ndarray, guesses: np.ndarray, classes: int | None = None) -> Tally:
    """Counts by class, or for sets of labels by column."""
    if np.ndim(truth) == 2:
        truth, guesses = _sets(truth, guesses)
        return Tally((truth & guesses).sum(0), guesses.sum(0), truth.sum(0))
    table = confusion(truth, guesses, classes)
    return Tally(np.diag(table), table.sum(0), table.sum(1))


def per_class(truth: np.ndarray, guesses: np.ndarray, classes: int | None = None) -> Shares:
    """Precision, recall, F1 and support, each (C,), of classes or of the columns of sets."""
    return shares(tally(truth, guesses, classes))


def average(truth: np.ndarray, guesses: np.ndarray, how: str) -> Shares:
    """Precision, recall, F1 (floats) and support by `micro`, `macro` or `weighted`, and for sets also `samples`.

    A class counts where it is present or guessed, a column of sets always. `samples` is the mean of the rows: a row
    without labels counts 0, found or not, as in scikit-learn.
    """
    if np.ndim(truth) == 2 and how == "samples":
        truth, guesses = _sets(truth, guesses)
        return averaged(Tally((truth & guesses).sum(1), guesses.sum(1), truth.sum(1)), "macro")
    counts = tally(truth, guesses)
    met = (counts.guessed + counts.true > 0) | (np.ndim(truth) == 2)
    return averaged(Tally(*(each[met] for each in counts)), how)


def subset_accuracy(truth: np.ndarray, guesses: np.ndarray) -> float:
    """Share of rows (n, C) whose labels are all right."""
    truth, guesses = _sets(truth, guesses)
    return float((truth == guesses).all(1).mean())


def balanced_accuracy(truth: np.ndarray, guesses: np.ndarray) -> float:
    """Mean recall of the classes that are present."""
    found = per_class(truth, guesses)
    return float(found.recall[found.support > 0].mean())


def matthews(truth: np.ndarray, guesses: np.ndarray) -> float:
    """Matthews correlation of two or more classes (Gorodkin 2004), -1 to 1; 0 where either is of one class only."""
    table = confusion(truth, guesses).astype(np.float64)
    true, guessed, total = table.sum(1), table.sum(0), table.sum()
    spread = (total**2 - true @ true) * (total**2 - guessed @ guessed)
    return float((np.trace(table) * total - true @ guessed) / np.sqrt(spread)) if spread else 0.0


# -- numbers


def pearson(truth: np.ndarray, guesses: np.ndarray) -> float:
    """Linear correlation of (n,) numbers; 0 where either does not vary."""
    truth, guesses = _numbers(truth, guesses)
    if truth.ndim != 1:
        raise ValueError(
            f"numbers of shape {truth.shape} have more than one correlation; give (n,), a column at a time"
        )
    if not (np.ptp(truth) and np.ptp(guesses)):
        return 0.0
    one, other = (each / np.linalg.norm(each) for each in (truth - truth.mean(), guesses - guesses.mean()))
    return float(np.clip(one @ other, -1.0, 1.0))


def spearman(truth: np.ndarray, guesses: np.ndarray) -> float:
    """Correlation of the ranks; equal numbers share the mean of theirs."""
    return pearson(*map(ranks, _numbers(truth, guesses)))


def ranks(values: np.ndarray) -> np.ndarray:
    """(n,) float64 from 0, the mean of their places for equal values."""
    _, number, counts = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts + 1) / 2)[number]


def squared_error(truth: np.ndarray, guesses: np.ndarray) -> float:
    """Mean squared error."""
    truth, guesses = _numbers(truth, guesses)
    return float(np.square(truth - guesses).mean())


def absolute_error(truth: np.ndarray, guesses: np.ndarray) -> float:
    """Mean absolute error."""
    truth, guesses = _numbers(truth, guesses)
    return float(np.abs(truth - guesses).mean())


# -- scores of two classes: truth (n,) 0 or 1, and a number that is higher where 1 is more likely


def roc_auc(truth: np.ndarray, scores: np.ndarray) -> float:
    """Chance that a random 1 scores higher than a random 0; a tie is half a chance (Mann and Whitney's U)."""
    scores, positive = _scored(truth, scores)
    ones, zeros = int(positive.sum()), int((~positive).sum())
    if not ones or not zeros:
        raise ValueError(
            f"all {len(scores)} labels are {int(ones > 0)}, so nothing can be told apart; give both classes"
        )
    return float((ranks(scores)[positive].sum() - ones * (ones - 1) / 2) / (ones * zeros))


def average_precision(truth: np.ndarray, scores: np.ndarray) -> float:
    """Precision at each score, weighted by the recall gained there: steps, not trapezoids."""
    scores, positive = _scored(truth, scores)
    if not positive.any():
        raise ValueError(f"none of {len(scores)} labels is 1, so there is nothing to find; give at least one")
    order = np.argsort(-scores, kind="stable")
    last = np.flatnonzero(np.diff(scores[order], append=-np.inf))  # of equal scores: they are taken together
    found = np.cumsum(positive[order])[last]
    return float((found / (last + 1)) @ np.diff(found, prepend=0) / found[-1])


# -- probabilities


def log_loss(truth: np.ndarray, probabilities: np.ndarray) -> float:
    """Mean of -ln of the probability given to what is true, in nats; one below the type's epsilon is raised to it."""
    least = np.finfo(np.asarray(probabilities).dtype if np.asarray(probabilities).dtype.kind == "f" else float).eps
    truth, shares = probable(truth, probabilities)
    given = np.where(truth, shares, 1 - shares) if truth.shape == shares.shape else shares[np.arange(len(truth)), truth]
    return float(-np.log(np.clip(given, least, 1.0)).mean())


def brier(truth: np.ndarray, probabilities: np.ndarray) -> float:
    """Mean squared distance of probabilities from the truth: 0 to 1 each of its own, 0 to 2 for a distribution, whose
    squares are added up (Brier 1950)."""
    truth, shares = probable(truth, probabilities)
    if truth.shape == shares.shape:
        return float(np.square(shares - truth).mean())
    return float((np.square(shares).sum(1) - 2 * shares[np.arange(len(truth)), truth] + 1).mean())


def probable(truth: np.ndarray, probabilities: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Truth as int64 and probabilities as float64: classes (n,) with shares (n, C), or 0 and 1 with their like."""
    given = np.asarray(probabilities, np.float64)
    comparable(np.atleast_1d(truth), np.atleast_1d(given))
    wrong = ~((given >= -EDGE) & (given <= 1 + EDGE))
    if wrong.any():
        raise ValueError(f"{given[wrong][0]} is no probability; give numbers from 0 to 1, softmax or sigmoid of logits")
    truth = fitting(truth, given)
    sums = given.sum(1) if truth.shape != given.shape else np.ones(1)
    row = int(np.argmax(np.abs(sums - 1)))
    if abs(sums[row] - 1) > SUM:
        raise ValueError(f"the probabilities of row {row} sum to {sums[row]:.6g}; give shares that sum to one")
    return truth, np.clip(given, 0.0, 1.0)


def fitting(truth: np.ndarray, outputs: np.ndarray) -> np.ndarray:
    """Truth as int64: classes (n,) of outputs (n, C), or 0 and 1 of the shape of the outputs."""
    truth = _classes(truth, "label")
    own = truth.shape == outputs.shape
    if not own and not (truth.ndim == 1 and outputs.ndim == 2 and len(truth) == len(outputs)):
        raise ValueError(
            f"labels of shape {truth.shape} and outputs of {outputs.shape} do not belong together; "
            "give classes (n,) with (n, C), or 0 and 1 of one shape"
        )
    most = 1 if own else outputs.shape[1] - 1
    if truth.size and truth.max() > most:
        raise ValueError(f"label {truth.max()} has no output; give labels from 0 to {most}")
    return truth


def found(
    asking: np.ndarray, wanted: np.ndarray, numbers: int = NUMBERS, own: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Of vectors (n, D) that ask for the wanted ones (m, D), by products: how many others are ahead of the own one, and
    how many stand with it, (n,) and (n,) int64. `own` (n,): the row of each one's wanted one; its own row unless told.
    A product that is no number lies behind all others. Of the n x m products some `numbers` are held at once, and a row
    at least."""
    places = np.arange(len(asking)) if own is None else own
    each = max(1, numbers // max(1, len(wanted)))
    ahead, ties = np.zeros(len(asking), np.int64), np.zeros(len(asking), np.int64)
    for at in range(0, len(asking), each):
        here = slice(at, at + each)
        products = np.nan_to_num(asking[here] @ wanted.T, nan=-np.inf)
        rows = np.arange(len(products))
        mine = products[rows, places[here]][:, None]
        ahead[here], ties[here] = (products > mine).sum(1), (products == mine).sum(1) - 1
    return ahead, ties


# -- what may be compared


def _classes(labels: np.ndarray, what: str) -> np.ndarray:
    found = np.asarray(labels)
    whole = found.dtype.kind in "iub" or (found.dtype.kind == "f" and bool((found == np.floor(found)).all()))
    if not whole:
        raise ValueError(f"a {what} of type {found.dtype} is no class; give whole numbers from 0")
    found = found.astype(np.int64)
    if found.size and found.min() < 0:
        raise ValueError(f"{what} {found.min()} is no class; give whole numbers from 0")
    return found


def _sets(truth: np.ndarray, guesses: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    truth, guesses = _classes(truth, "label"), _classes(guesses, "guess")
    comparable(truth, guesses, "rows of labels")
    if truth.shape != guesses.shape or truth.ndim != 2 or max(truth.max(initial=0), guesses.max(initial=0)) > 1:
        raise ValueError(
            f"labels of shape {truth.shape} and guesses of {guesses.shape} are no sets to compare; give 0 and 1, (n, C)"
        )
    return truth > 0, guesses > 0


def _numbers(truth: np.ndarray, guesses: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    truth, guesses = np.asarray(truth, np.float64), np.asarray(guesses, np.float64)
    comparable(np.atleast_1d(truth), np.atleast_1d(guesses), "numbers")
    for each in (truth, guesses):
        if each.shape != truth.shape or not np.isfinite(each).all():
            raise ValueError(
                f"numbers of shape {truth.shape} and guesses of {guesses.shape} are not alike or not finite; "
                "give finite numbers of one shape"
            )
    return truth, guesses


def _scored(truth: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    positive, scores = _numbers(_classes(truth, "label"), scores)
    if positive.max() > 1:
        raise ValueError(f"label {int(positive.max())} is neither 0 nor 1; score two classes at a time")
    return scores, positive > 0
