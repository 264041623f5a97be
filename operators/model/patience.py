"""When to stop, and which of several evaluations was the best: a function of the scores so far.

Promises: nothing to remember, so a resumed training stops where an undisturbed one would; of equal scores the first is
the best; a score that is not a number is never it, and counts as no progress. Refuses a patience below one.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple


class Progress(NamedTuple):
    """`best`: number of the best evaluation, -1 for none; `since`: evaluations since one was better by enough; `stop`:
    whether that were as many as the patience."""

    best: int
    since: int
    stop: bool


def progress(scores: Sequence[float], *, patience: int, least: float = 0.0, higher: bool = True) -> Progress:
    """`patience`: so many evaluations without progress end the training; `least`: a score must be better by more than
    this to be progress; `higher`: scores are better so, losses are not.

    >>> progress([0.5, 0.7, 0.6, 0.7], patience=2), progress([3.0, 2.0, 1.0], patience=1, higher=False)
    (Progress(best=1, since=2, stop=True), Progress(best=2, since=0, stop=False))
    """
    if patience < 1 or least < 0:
        raise ValueError(f"patience {patience} and a least gain of {least} never wait; give at least 1, and 0 or more")
    best = mark = -1
    for number, score in enumerate(scores):
        if not _better(score, scores[best] if best >= 0 else None, 0.0, higher):
            continue
        best = number
        if _better(score, scores[mark] if mark >= 0 else None, least, higher):
            mark = number
    since = len(scores) - 1 - mark
    return Progress(best, since, since >= patience)


def _better(score: float, than: float | None, least: float, higher: bool) -> bool:
    if math.isnan(score):
        return False
    return than is None or (score - than if higher else than - score) > least
