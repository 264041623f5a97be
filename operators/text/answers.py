"""Answers to questions as SQuAD's scripts score them: exact match, F1 of tokens, and when it is better not to answer.

An answer is compared in small letters, without ASCII punctuation, without the words a, an and the, split at white
space (Rajpurkar et al. 2016, the script of 1.1). Of several true answers the best counts. In 2.0 (Rajpurkar et al.
2018) a question may have none: true answers of which nothing is left are not there, and where no other is, "" is the
answer; not to answer is to give one of which nothing is left.

Promises: the scripts' scores as shares of one. Made for English: a language written without spaces has one token a
sentence. Costs some 20 us a pair. Refuses questions and guesses of different numbers.
"""

import re
import string
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from tundish.operators.tallies import comparable

PUNCTUATION = str.maketrans("", "", string.punctuation)
ARTICLES = re.compile(r"\b(?:a|an|the)\b")


class Answered(NamedTuple):
    """Of each question, (n,): `exact` and `f1` float64 in [0, 1]; `answerable` bool: there is something to find."""

    exact: np.ndarray
    f1: np.ndarray
    answerable: np.ndarray


class Threshold(NamedTuple):
    """`value`: answer where the score of no answer is at most this; `score`: the mean that comes of it."""

    value: float
    score: float


def tokens(text: str) -> list[str]:
    """What of an answer is compared."""
    return ARTICLES.sub(" ", text.lower().translate(PUNCTUATION)).split()


def exact(truth: str, guess: str) -> float:
    """1 where nothing that is compared differs, else 0."""
    return float(tokens(truth) == tokens(guess))


def f1(truth: str, guess: str, *, unanswerable: bool = True) -> float:
    """Harmonic mean of the shares of tokens both have. Where one has none: 1 if the other has none either, 0 in 1.1
    (`unanswerable=False`)."""
    return _f1(tokens(truth), tokens(guess), unanswerable)


def answered(truth: Sequence[Sequence[str]], guesses: Sequence[str], *, unanswerable: bool = True) -> Answered:
    """`truth`: of each question its answers, none where it has none; `unanswerable`: by 2.0, else by 1.1."""
    comparable(truth, guesses, "questions")
    rows = []
    for number, (golds, guess) in enumerate(zip(truth, guesses, strict=True)):
        if not unanswerable and not golds:
            raise ValueError(f"question {number} has no answer, which SQuAD 1.1 does not know; score it by 2.0")
        known = [each for each in map(tokens, golds) if each or not unanswerable]
        said = tokens(guess)
        best = max(_f1(each, said, unanswerable) for each in known or [[]])
        rows.append((said in (known or [[]]), best, bool(known)))
    found = np.array(rows, np.float64)
    return Answered(found[:, 0], found[:, 1], found[:, 2] > 0)


def withheld(scores: np.ndarray, answerable: np.ndarray, none: np.ndarray, threshold: float) -> np.ndarray:
    """(n,) scores when no answer is given where `none` (n,), the score of no answer, is above the threshold."""
    comparable(scores, none, "scores", "scores of no answer")
    return np.where(np.asarray(none) > threshold, ~np.asarray(answerable, bool), scores).astype(np.float64)


def best_threshold(scores: np.ndarray, answerable: np.ndarray, none: np.ndarray) -> Threshold:
    """The threshold with the highest mean of `withheld`; the lowest of equals.

    As the script of 2.0 does it, but that questions of equal `none` are withheld together, as they will be, and that
    withholding all is one less than the lowest of `none` (the script's 0 would answer where `none` is below 0).
    """
    comparable(scores, none, "scores", "scores of no answer")
    scores, none, answerable = np.asarray(scores, float), np.asarray(none, float), np.asarray(answerable, bool)
    if not np.isfinite(none).all():
        raise ValueError(f"score {none[~np.isfinite(none)][0]} of no answer has no order; give finite numbers")
    order = np.argsort(none, kind="stable")
    gained = np.cumsum((scores - ~answerable)[order])
    last = np.flatnonzero(np.diff(none[order], append=np.inf) > 0)  # of those with equal scores of no answer
    values = np.concatenate([[none.min() - 1], none[order][last]])
    sums = (~answerable).sum() + np.concatenate([[0.0], gained[last]])
    best = int(np.argmax(sums))
    return Threshold(float(values[best]), float(sums[best] / len(scores)))


def _f1(one: list[str], other: list[str], unanswerable: bool) -> float:
    if not one or not other:
        return float(unanswerable and one == other)
    return 2 * (Counter(one) & Counter(other)).total() / (len(one) + len(other))
