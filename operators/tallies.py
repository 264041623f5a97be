"""Precision, recall and F1 from counts of what was right, guessed and true; counts add up, shares do not.

Promises: what scikit-learn and seqeval compute with zero_division=0: a share of nothing is 0. Costs microseconds.
Refuses an unknown way to average, and truth and guesses that cannot be compared.
"""

from collections.abc import Sized
from typing import NamedTuple

import numpy as np

WAYS = ("micro", "macro", "weighted")


class Tally(NamedTuple):
    """Counts by class, each (C,) int64: guessed rightly, guessed at all, and true."""

    right: np.ndarray
    guessed: np.ndarray
    true: np.ndarray


class Shares(NamedTuple):
    """(C,) arrays by class, or numbers where they are averaged. `support`: how many there are to be found."""

    precision: np.ndarray
    recall: np.ndarray
    f1: np.ndarray
    support: np.ndarray


def shares(tally: Tally) -> Shares:
    """Of each class; F1 is 2 right / (guessed + true)."""
    right, guessed, true = (np.asarray(each, np.int64) for each in tally)
    return Shares(_part(right, guessed), _part(right, true), _part(2 * right, guessed + true), true)


def averaged(tally: Tally, how: str) -> Shares:
    """One number each over all classes of the tally, floats and an int.

    `micro`: of the counts added up; `macro`: the mean of the classes; `weighted`: their mean by support.
    """
    if how not in WAYS:
        raise ValueError(f"there is no average called {how!r}; take one of {', '.join(WAYS)}")
    total = int(np.sum(tally.true))
    if how == "micro":
        tally = Tally(*(np.array([np.sum(each)]) for each in tally))
    each = shares(tally)
    weights = each.support if how == "weighted" else np.ones(len(each.support))
    sums = (float(part @ weights / weights.sum()) if weights.sum() else 0.0 for part in each[:3])
    return Shares(*sums, total)  # type: ignore[arg-type]


def comparable(truth: Sized, guesses: Sized, what: str = "labels", others: str = "guesses") -> None:
    """Raises ValueError where there is nothing to compare, or not one guess for each of the truth."""
    if not len(truth):
        raise ValueError(f"there are no {what} to go with the {others}; give at least one")
    if len(truth) != len(guesses):
        raise ValueError(f"{len(truth)} {what} and {len(guesses)} {others} do not go together; give one for each")


def _part(some: np.ndarray, of: np.ndarray) -> np.ndarray:
    return some / np.maximum(of, 1)
