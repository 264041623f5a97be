"""Which examples train and which test: by the hash of their text, several times over, and nested samples of each size.

Promises: a function of the texts and the seed, whatever the order of the rows; equal texts never lie on both sides, nor
examples with an equal value in the column named by `by` (the article of a question, say). Stratified, each class (each
tenth of the values, where a number is asked) gives its share, to within one text of it. Nested samples are prefixes of
one order, in which every class keeps its share to within one row. Costs a hash a row, that order some 10 us a row.
Refuses a side with nothing on it.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from tundish.operators.text.digest import payload_digest
from tundish.stages.examples import Examples
from tundish.stages.examples_checks import keys

BINS = 10  # of a number that is stratified by


def places(examples: Examples, *, seed: int | None = None, by: str | None = None) -> np.ndarray:
    """(n,) float64 in [0, 1): where the hash of each text lies; without a seed the one that `Finetune` cuts by."""
    texts = _groups(examples, by)
    lead = b"" if seed is None else f"{seed}\0".encode()
    found = {text: int.from_bytes(payload_digest(lead + text.encode())[:8], "little") / 2**64 for text in set(texts)}
    return np.array([found[text] for text in texts])


def _groups(examples: Examples, by: str | None) -> list[str]:
    if by is None:
        return keys(examples)
    if by not in examples.table.column_names:
        raise ValueError(f"examples have no column {by!r}; it is one of {', '.join(examples.table.column_names)}")
    return ["" if value is None else str(value) for value in examples.table[by].to_pylist()]


def strata(examples: Examples) -> np.ndarray:
    """(n,) int64: the class of each row, or the tenth its number lies in; 0 for all of other kinds."""
    if examples.kind == "classify":
        return examples.table["label"].fill_null(0).to_numpy()
    if examples.kind == "regress":
        values = examples.table["value"].fill_null(0.0).to_numpy()
        return np.searchsorted(np.quantile(values, np.arange(1, BINS) / BINS), values, side="right")
    return np.zeros(len(examples), np.int64)


def split(
    examples: Examples,
    holdout: float = 0.2,
    *,
    seed: int | None = None,
    by: str | None = None,
    stratified: bool = False,
    part: str = "test",
) -> tuple[Examples, Examples]:
    """(the rest, the part that is held out: about the share `holdout` of the texts). `part`: what that is called."""
    if not 0 < holdout < 1:
        raise ValueError(f"the share held out is {holdout}; it is between 0 and 1, such as 0.2")
    where = places(examples, seed=seed, by=by)
    held = _least(where, strata(examples), holdout) if stratified else where < holdout
    for side, name in ((held, part), (~held, "train")):
        if not side.any():
            rows = f"{len(examples)} row{'s' if len(examples) != 1 else ''}"
            raise ValueError(f"{rows} leave nothing for {name} at a share of {holdout} held out; give more rows")
    return examples.take(np.flatnonzero(~held)), examples.take(np.flatnonzero(held))


def _least(where: np.ndarray, classes: np.ndarray, share: float) -> np.ndarray:
    """(n,) bool: of each class, the share of its texts whose hashes are least. A text of several classes counts to the
    first of them."""
    held = np.zeros(len(where), np.bool_)
    texts, rows = np.unique(where, return_inverse=True)
    own = np.full(len(texts), np.iinfo(np.int64).max)
    np.minimum.at(own, rows, classes)
    for one in np.unique(own):
        mine = np.flatnonzero(own == one)  # in the order of their hashes
        held |= np.isin(rows, mine[: round(share * len(mine))])
    return held


def splits(
    examples: Examples, seeds: Sequence[int], holdout: float = 0.2, **how: Any
) -> list[tuple[Examples, Examples]]:
    """The same for each seed."""
    return [split(examples, holdout, seed=seed, **how) for seed in seeds]


def order(examples: Examples, *, seed: int = 0) -> np.ndarray:
    """(n,) int64: rows in an order of which every prefix has each class in its share, to within one row."""
    where, classes = places(examples, seed=seed), strata(examples)
    rows = np.lexsort((examples.table["row"].to_numpy(), where, classes))  # each class by itself, then by its hashes
    _, sizes = np.unique(classes, return_counts=True)
    turns = _turns(sizes)
    found = np.empty(len(rows), np.int64)
    found[np.argsort(turns, kind="stable")] = rows
    return found


def _turns(sizes: np.ndarray) -> np.ndarray:
    """(n,) whose turn it is, so that of every prefix each class has its share to within one row: of those that are
    due, the one that is first at the point where it can wait no longer (Tijdeman 1980, the chairman assignment
    problem).

    >>> _turns(np.array([4, 2])), _turns(np.array([3]))
    (array([0, 1, 0, 0, 1, 0]), array([0, 0, 0]))
    """
    whole, classes = int(sizes.sum()), len(sizes)
    if classes < 2:
        return np.zeros(whole, np.int64)
    least = 1 / (2 * classes - 2)
    shares, had = sizes / whole, np.zeros(classes, np.int64)
    turns = np.empty(whole, np.int64)
    for place in range(whole):
        lack = shares * (place + 1) - had
        wait = np.where(lack >= least - 1e-9, (1 - least - lack) / shares, np.inf)
        turns[place] = one = wait.argmin()
        had[one] += 1
    return turns


def nested(examples: Examples, least: int = 100, *, seed: int = 0) -> list[tuple[int, np.ndarray]]:
    """(size, rows) of samples that double from `least` on up to all; each is the beginning of the next."""
    if not least >= 1:
        raise ValueError(f"the smallest sample has {least} rows; give 1 or more")
    rows = order(examples, seed=seed)
    sizes, size = [], least
    while size < len(rows):
        sizes.append(size)
        size *= 2
    return [(size, rows[:size]) for size in (*sizes, len(rows))]
