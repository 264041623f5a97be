"""From scores of first and last tokens to an answer: the best spans of one question over several windows of its text.

    found = answers(scores, bounds, context, whose, offsets)[question]
    found.text_span if found.margin <= threshold else None

Promises: the exact best pairs start <= end of a bounded length inside the context, not those among the best starts and
the best ends; a span that lies in two windows comes once, with the better of its scores; ties go to the window, then
the place that comes first. Costs (L x longest) numbers a window. Refuses arrays that do not belong together.

What speaks for no answer is the sum of both scores of the first token ([CLS]), the least over a question's windows, as
BERT's script for SQuAD 2.0 has it (Devlin et al. 2019, 4.3): one window that holds an answer is enough.

L tokens of a window, T tokens of all, N windows.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

LONGEST, BEST = 30, 20  # tokens of an answer; spans kept of a question


class Span(NamedTuple):
    """`first` and `last`: what `offsets` says of the span's two ends; `score`: sum of both logits."""

    first: int
    last: int
    score: float


class Answer(NamedTuple):
    """The best `spans` of a question, best first, and the score of there being `none`."""

    spans: tuple[Span, ...]
    none: float

    @property
    def margin(self) -> float:
        """How far no answer is ahead of the best one; what a threshold is held against. Infinite where no span is."""
        return self.none - self.spans[0].score if self.spans else float("inf")

    @property
    def text_span(self) -> tuple[int, int] | None:
        """The best span's ends."""
        return (self.spans[0].first, self.spans[0].last) if self.spans else None

    def shares(self) -> list[float]:
        """Probabilities of the spans, and of none last: a softmax over these scores alone."""
        scores = np.array([*(span.score for span in self.spans), self.none])
        grown = np.exp(scores - scores.max())
        return (grown / grown.sum()).tolist()  # type: ignore[no-any-return]


def best_pairs(
    starts: np.ndarray, ends: np.ndarray, allowed: np.ndarray, *, longest: int = LONGEST, count: int = BEST
) -> list[tuple[int, int, float]]:
    """The best `count` of all pairs of places (start, end, score) with start <= end < start + longest, both allowed;
    best first, and of equal ones the earlier. Scores and `allowed` (bool) are (L,)."""
    size = len(starts)
    if not len(ends) == len(allowed) == size:
        raise ValueError(f"{size} starts, {len(ends)} ends and {len(allowed)} places; give as many of each")
    if longest < 1 or count < 1:
        raise ValueError(f"no answer has {longest} tokens, and {count} are none; give at least 1 of both")
    first, last = (np.where(allowed, np.asarray(each, np.float64), -np.inf) for each in (starts, ends))
    width = min(longest, size)
    behind = np.lib.stride_tricks.sliding_window_view(np.pad(last, (0, width), constant_values=-np.inf), width + 1)
    sums = (first[:, None] + behind[:size, :width]).ravel() if size else np.zeros(0)
    order = np.argsort(-sums, kind="stable")[:count]
    return [
        (int(each // width), int(each // width + each % width), float(sums[each]))
        for each in order
        if sums[each] > -np.inf
    ]


def answers(
    scores: np.ndarray,
    bounds: np.ndarray | Sequence[int],
    context: np.ndarray,
    whose: np.ndarray | Sequence[int],
    offsets: np.ndarray,
    *,
    longest: int = LONGEST,
    count: int = BEST,
) -> list[Answer]:
    """An answer for each question 0 .. Q - 1, from `scores` (T, 2) of windows that begin at `bounds` (N + 1,).

    `context` (T,) bool: where answers may lie. `whose` (N,): the question of each window. `offsets` (T, 2): where each
    token begins and ends in the text that the windows were cut from, in any unit: by these a span is the same in two
    windows. A question without a window has no answer."""
    scores, bounds, whose = np.asarray(scores), np.asarray(bounds), np.asarray(whose)
    if len(whose) != len(bounds) - 1 or not len(scores) == len(context) == len(offsets) == bounds[-1]:
        given = f"{len(scores)} scores, {len(context)} places, {len(offsets)} offsets, {len(whose)} windows"
        raise ValueError(f"{given} do not belong to bounds that end at {bounds[-1]}; give one of each a token")
    found: list[dict[tuple[int, int], float]] = [{} for _ in range(int(whose.max(initial=-1)) + 1)]
    none = [float("inf")] * len(found)
    for number, question in enumerate(whose.tolist()):
        here = slice(int(bounds[number]), int(bounds[number + 1]))
        if here.start == here.stop:
            continue
        mine = scores[here]
        none[question] = min(none[question], float(mine[0].sum()))
        places = offsets[here]
        for start, end, score in best_pairs(mine[:, 0], mine[:, 1], context[here], longest=longest, count=count):
            key = int(places[start][0]), int(places[end][1])
            found[question][key] = max(score, found[question].get(key, -np.inf))
    return [Answer(_best(spans, count), least) for spans, least in zip(found, none, strict=True)]


def _best(spans: dict[tuple[int, int], float], count: int) -> tuple[Span, ...]:
    order = sorted(spans.items(), key=lambda each: -each[1])[:count]
    return tuple(Span(first, last, score) for (first, last), score in order)
