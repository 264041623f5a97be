"""Beam search: of every example several rows are kept open, and the best that ended are found.

Each step, of all continuations of an example's open rows the best are looked at, twice as many as beams (more where
there are several end tokens). Those that end and are among the first `beams` of them are finished, with the sum of
logarithms over length to the power of the penalty for a score; the best others stay open. An example is over when its
finished rows cannot be bettered any more, which is judged as `early` says.

Promises: the rows and scores of `generate(num_beams=…)` of transformers 5.17, of which these are the rules (there for
a whole batch in tensors): scores in float32, ties by topk, a row's score at the greatest length taken as if it had
ended. An example depends on no other. Costs `beams` rows an example, until it is over.

E examples that are not over, B beams, V vocabulary.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor

from tundish.operators.model.choosing import without
from tundish.operators.model.decoding import Decoding
from tundish.operators.model.head_losses import wide
from tundish.operators.model.stepping import Steps

NOWHERE = -1e9  # the score of a row that is not there yet


class Row(NamedTuple):
    """New tokens, the end token included."""

    score: float
    tokens: tuple[int, ...]


@dataclass
class _Example:
    """`running`: sums of logarithms; `finished`: over their lengths, best first."""

    prompt: list[int]
    running: list[Row]
    finished: list[Row] = field(default_factory=list)


def search(rows: Steps, begins: Sequence[Sequence[int]], decoding: Decoding, ends: Sequence[int]) -> list[list[Row]]:
    """Of every example up to `decoding.beams` finished rows, best first."""
    scores, beams = rows.first(), decoding.beams
    index = torch.arange(len(begins), device=scores.device).repeat_interleave(beams)
    rows.keep(index)
    scores = scores[index]
    # all rows are the same at first: only one of them counts
    examples = [_Example(list(each), [Row(NOWHERE * bool(beam), ()) for beam in range(beams)]) for each in begins]
    there = list(examples)
    for step in range(decoding.longest):
        texts = [each.prompt + list(row.tokens) for each in there for row in each.running]
        stops = ends if step < decoding.shortest else ()
        chances = without(wide(scores).log_softmax(1), texts, size=decoding.no_repeat, ends=stops)
        best, places = _best(chances, there, max(2, 1 + len(ends)) * beams)
        parents = [
            _advance(*each, chances.shape[1], decoding, None if step + 1 == decoding.longest else ends)
            for each in zip(there, best.tolist(), places.tolist(), strict=True)
        ]
        left = [number for number, each in enumerate(there) if not _over(each, step + 1, decoding)]
        if not left or step + 1 == decoding.longest:
            break
        index = torch.tensor([number * beams + parent for number in left for parent in parents[number]])
        rows.keep(index.to(scores.device))
        there = [there[number] for number in left]
        tokens = [row.tokens[-1] for each in there for row in each.running]
        scores = rows.next(torch.tensor(tokens, device=scores.device))
    return [each.finished for each in examples]


def _best(chances: Tensor, there: list[_Example], looked: int) -> tuple[Tensor, Tensor]:
    """The best continuations of each example: sums (E, K), and where in (B V) they lie."""
    sums = torch.tensor([[row.score for row in each.running] for each in there]).to(chances)
    whole = (chances.view(*sums.shape, -1) + sums[:, :, None]).flatten(1)
    return whole.topk(min(looked, whole.shape[1]))


def _advance(
    example: _Example,
    values: list[float],
    places: list[int],
    vocabulary: int,
    decoding: Decoding,
    ends: Sequence[int] | None,
) -> list[int]:
    """One step of an example, in place; which of its rows each that stays open goes on from. Where `ends` is None it is
    the last step, and every row ends."""
    beams = decoding.beams
    stay, parents, ended = [], [], []
    for rank, (value, place) in enumerate(zip(values, places, strict=True)):
        parent, token = divmod(place, vocabulary)
        tokens = (*example.running[parent].tokens, token)
        if ends is None or token in ends:
            if rank < beams:
                ended.append(Row(value / len(tokens) ** decoding.length_penalty, tokens))
        elif len(stay) < beams:
            stay.append(Row(value, tokens))
            parents.append(parent)
    example.finished = sorted(example.finished + ended, key=lambda row: -row.score)[:beams]
    example.running = stay
    return parents


def _over(example: _Example, length: int, decoding: Decoding) -> bool:
    """Whether no open row is likely to be better than the worst finished one."""
    if len(example.finished) < decoding.beams or not example.running:
        return not example.running
    if decoding.early is True:
        return True
    penalty = decoding.length_penalty
    reach = decoding.longest if decoding.early == "never" and penalty > 0 else length
    return example.running[0].score / reach**penalty <= example.finished[-1].score
