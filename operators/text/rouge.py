"""ROUGE-1 to -9, -L and -Lsum of summaries (Lin 2004), as the package rouge-score 0.1.2 computes them.

Tokens are runs of ASCII letters and digits in small letters, so text in another script has none; with `stem`, those
of more than three characters are cut to their stems (porter.py). -L is the longest common subsequence of two texts.
-Lsum takes their lines for sentences: the tokens of each true line that are in its longest common subsequence with
any guessed line, none counted more often than either text has it.

Promises: rouge-score's numbers, and with the same seed its bootstrap's. Subsequences are found 64 tokens at a time
(Hyyrö 2004), so -L of texts of m and n tokens costs some m n / 64 steps and not m n, some 0.1 ms for two of 100.
Refuses measures it does not know, no true text, and texts and guesses of different numbers.
"""

import re
from collections import Counter
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from tundish.operators.tallies import comparable
from tundish.operators.text import porter

KINDS = ("1", "2", "L", "Lsum")
TOKEN = re.compile("[a-z0-9]+")
_stem = lru_cache(maxsize=1 << 16)(porter.stem)


class Overlap(NamedTuple):
    precision: float
    recall: float
    f1: float


class Bounds(NamedTuple):
    """Each (3,) float64: precision, recall, F1. `middle` is the median of the resampled means."""

    low: np.ndarray
    middle: np.ndarray
    high: np.ndarray


def tokens(text: str, *, stem: bool = False) -> list[str]:
    """What of a text is compared."""
    found = TOKEN.findall(text.lower())
    return [_stem(each) if len(each) > 3 else each for each in found] if stem else found


def rouge(truth: str, guess: str, kinds: Sequence[str] = KINDS, *, stem: bool = False) -> dict[str, Overlap]:
    """The overlap of two texts by each of `kinds`: `1` to `9` (n-grams), `L`, `Lsum`."""
    for kind in kinds:
        if kind not in ("L", "Lsum") and not re.fullmatch("[1-9]", kind):
            raise ValueError(f"there is no ROUGE-{kind}; take some of 1 to 9, L and Lsum")
    one, other = tokens(truth, stem=stem), tokens(guess, stem=stem)
    made = {}
    for kind in kinds:
        if kind == "L":
            made[kind] = _overlap(_common(one, other), len(other), len(one))
        elif kind == "Lsum":
            lines = [[tokens(line, stem=stem) for line in text.split("\n")] for text in (truth, guess)]
            made[kind] = _overlap(_union(*lines), len(other), len(one))
        else:
            made[kind] = _grams(one, other, int(kind))
    return made


def best(truths: Sequence[str], guess: str, kinds: Sequence[str] = KINDS, *, stem: bool = False) -> dict[str, Overlap]:
    """Of several true texts, for each kind the one with the highest F1."""
    if not truths:
        raise ValueError("there is no true text to compare the guess with; give at least one")
    found = [rouge(truth, guess, kinds, stem=stem) for truth in truths]
    return {kind: max((each[kind] for each in found), key=lambda one: one.f1) for kind in kinds}


def rouges(
    truths: Sequence[Sequence[str]], guesses: Sequence[str], kinds: Sequence[str] = KINDS, *, stem: bool = False
) -> dict[str, np.ndarray]:
    """By kind, (n, 3) float64: precision, recall and F1 of each guess, with the best of its true texts."""
    comparable(truths, guesses, "texts")
    rows = [best(truth, guess, kinds, stem=stem) for truth, guess in zip(truths, guesses, strict=True)]
    return {kind: np.array([row[kind] for row in rows], np.float64) for kind in kinds}


def bounds(scores: np.ndarray, *, seed: int, samples: int = 1000, level: float = 0.95) -> Bounds:
    """The mean of `scores` (n, 3) between percentiles of the means of resampled rows, as ROUGE reports it.

    The numbers drawn are those of rouge-score's BootstrapAggregator after `numpy.random.seed(seed)`.
    """
    if not len(scores) or samples < 1 or not 0 < level < 1:
        raise ValueError(
            f"{len(scores)} rows, {samples} samples and the level {level} give no interval; "
            "give at least one row and one sample, and a level between 0 and 1"
        )
    draw = np.random.RandomState(seed)  # the generator it was made with
    means = np.array([scores[draw.randint(0, len(scores), len(scores))].mean(0) for _ in range(samples)])
    return Bounds(*np.percentile(means, [50 - 50 * level, 50, 50 + 50 * level], axis=0))


def _overlap(common: int, guessed: int, true: int) -> Overlap:
    precision, recall = common / max(guessed, 1), common / max(true, 1)
    return Overlap(precision, recall, 2 * precision * recall / (precision + recall) if common else 0.0)


def _grams(one: list[str], other: list[str], n: int) -> Overlap:
    true, guessed = (
        Counter(zip(*(each[at:] for at in range(n)), strict=False)) for each in (one, other)
    )  # n-grams as tuples
    return _overlap((true & guessed).total(), guessed.total(), true.total())


def _steps(one: list[str], other: list[str]) -> list[int]:
    """After each token of `other`, the set of places of `one` (bits) at which the longest subsequence does not grow.

    With t[i][j] the length for the first i and j tokens, bit i-1 of step j is 0 where t[i][j] is t[i-1][j] + 1.
    """
    places: dict[str, int] = {}
    for at, token in enumerate(one):
        places[token] = places.get(token, 0) | 1 << at
    every = (1 << len(one)) - 1
    made, row = [every], every
    for token in other:
        here = row & places.get(token, 0)
        row = ((row + here) | (row - here)) & every
        made.append(row)
    return made


def _common(one: list[str], other: list[str]) -> int:
    return len(one) - _steps(one, other)[-1].bit_count()


def _chosen(one: list[str], other: list[str]) -> set[int]:
    """Places of `one` in a longest common subsequence: read from the end, what is equal is taken; else the text whose
    last token is not needed for the length gives it up, `one` before `other` where neither is."""
    steps, found = _steps(one, other), set()
    i, j = len(one), len(other)
    while i and j:
        if one[i - 1] == other[j - 1]:
            i, j = i - 1, j - 1
            found.add(i)
        elif steps[j] >> (i - 1) & 1:
            i -= 1
        else:
            j -= 1
    return found


def _union(truth: list[list[str]], guess: list[list[str]]) -> int:
    """How many tokens of true lines are in the union of their common subsequences with the guessed ones."""
    left = Counter(token for line in truth for token in line), Counter(token for line in guess for token in line)
    hits = 0
    for line in truth:
        for at in sorted(set[int]().union(*(_chosen(line, other) for other in guess))):
            if all(each[line[at]] > 0 for each in left):
                hits += 1
                for each in left:
                    each[line[at]] -= 1
    return hits
