"""Text from a model: what follows a prompt (decoder), or answers a source (pair of encoder and decoder).

    found = generate(model, prompts, Decoding(longest=64, beams=4), ends=(2,))
    found[example][0].tokens

    greedy      the best token each time                     Decoding()
    sampled     a draw, narrowed as told                     Decoding(sample=True, temperature=0.7, top_p=0.9)
    beams       the best of several rows kept open           Decoding(beams=4), see `beams`

Promises: greedy and beams give what `generate` of transformers 5.17 gives; a draw is a function of the seed and of the
example's key, whatever else is in the batch (but for the rounding of other sizes); torch's own stream is left alone,
and the model is in the mode it was in. Costs as `stepping` says, for rows that are not finished. Refuses encoders,
prompts of no tokens, and what is longer than learned positions.

Lengths count new tokens, the end token included.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from tundish.operators.model import beams
from tundish.operators.model.choosing import drawn, narrowed, number, without
from tundish.operators.model.decoding import Decoding
from tundish.operators.model.family import Model
from tundish.operators.model.head_losses import wide
from tundish.operators.model.stepping import Steps, stepping


class Written(NamedTuple):
    """New tokens, without the end token; `score`: the sum of their logarithms, end included (of beams, over the
    length); `ended`: whether the end token came."""

    tokens: tuple[int, ...]
    score: float
    ended: bool


@torch.no_grad()
def generate(
    model: Model,
    prompts: Sequence[Sequence[int]],
    decoding: Decoding,
    *,
    ends: Sequence[int],
    start: Sequence[int] = (),
    keys: Sequence[int] | None = None,
    kept: bool | None = None,
) -> list[list[Written]]:
    """For each of the prompts (of a pair: sources) its sequences; beams best first. `ends`: tokens that end a text.
    `start`: what a pair's answers begin with. `keys`: by which each example draws, its number unless given. `kept`:
    whether keys and values are kept, as can be unless told."""
    if keys is not None and len(keys) != len(prompts):
        raise ValueError(f"{len(keys)} keys cannot draw for {len(prompts)} prompts; give one to each")
    if not prompts:
        return []
    begins, sources = _begun(model, prompts, start, decoding.longest)
    mode = model.training
    model.eval()
    try:
        rows = stepping(model, begins, sources, room=decoding.longest, kept=kept)
        if decoding.beams > 1:
            found = _beamed(rows, begins, decoding, ends)
        else:
            found = _one_by_one(rows, begins, decoding, ends, list(keys or range(len(prompts))))
    finally:
        model.train(mode)
    return found


def _begun(
    model: Model, prompts: Sequence[Sequence[int]], start: Sequence[int], longest: int
) -> tuple[list[list[int]], list[list[int]] | None]:
    """What each row begins with, and what it answers."""
    shape = model.shape
    if shape.stack == "encoder":
        raise ValueError("an encoder writes no text; give a decoder, or a pair of encoder and decoder")
    if shape.stack == "pair" and not start:
        raise ValueError("a pair's answers begin with nothing; give the decoder's start token")
    given = [list(map(int, prompt)) for prompt in prompts]
    for number_, prompt in enumerate([*given, list(start)]):
        if not prompt and number_ < len(given):
            raise ValueError(f"prompt {number_} has no token; give at least one")
        if wrong := [token for token in prompt if not 0 <= token < shape.vocabulary]:
            raise ValueError(f"token {wrong[0]} is not among the {shape.vocabulary} of the model; give its tokens")
    begins = given if shape.stack == "decoder" else [list(map(int, start)) for _ in given]
    most = max(map(len, begins), default=0) + longest - 1  # the last token is not read again
    if (shape.positions == "learned" or shape.absolute) and most > shape.length:
        raise ValueError(f"{most} tokens are more than the model's {shape.length}; give shorter prompts, or `longest`")
    return begins, None if shape.stack == "decoder" else given


@dataclass
class _Text:
    """One sequence on its way: `tokens` with what it began with, without the end token."""

    example: int
    nth: int
    tokens: list[int]
    score: float = 0.0
    ended: bool = False


def _one_by_one(
    rows: Steps, begins: list[list[int]], decoding: Decoding, ends: Sequence[int], keys: list[int]
) -> list[list[Written]]:
    """Greedy and sampled: every sequence goes its own way, and leaves when it has ended."""
    texts = [
        [_Text(number_, nth, list(each)) for nth in range(decoding.sequences)] for number_, each in enumerate(begins)
    ]
    there = [text for each in texts for text in each]
    scores = rows.first()
    if decoding.sequences > 1:
        index = torch.tensor([text.example for text in there], device=scores.device)
        rows.keep(index)
        scores = scores[index]
    for step in range(decoding.longest):
        chosen = _step(wide(scores), there, step, decoding, ends, keys)
        left = [row for row, text in enumerate(there) if not text.ended]
        if not left or step + 1 == decoding.longest:
            break
        if len(left) < len(there):
            index = torch.tensor(left, device=chosen.device)
            rows.keep(index)
            chosen, there = chosen[index], [there[row] for row in left]
        scores = rows.next(chosen)
    return [
        [Written(tuple(text.tokens[len(begin) :]), text.score, text.ended) for text in each]
        for each, begin in zip(texts, begins, strict=True)
    ]


def _step(
    scores: Tensor, there: list[_Text], step: int, decoding: Decoding, ends: Sequence[int], keys: list[int]
) -> Tensor:
    """One more token (R,) for each text, put to it."""
    stops = ends if step < decoding.shortest else ()
    allowed = without(scores, [text.tokens for text in there], size=decoding.no_repeat, ends=stops)
    if decoding.sample:
        allowed = narrowed(allowed, temperature=decoding.temperature, top_k=decoding.top_k, top_p=decoding.top_p)
        chosen = drawn(allowed, [number(decoding.seed, keys[text.example], text.nth, step) for text in there])
    else:
        chosen = allowed.argmax(1)
    gained = scores.log_softmax(1).gather(1, chosen[:, None]).squeeze(1).tolist()
    for text, token, more in zip(there, chosen.tolist(), gained, strict=True):
        text.score += more
        text.ended = token in ends
        if not text.ended:
            text.tokens.append(token)
    return chosen


def _beamed(rows: Steps, begins: list[list[int]], decoding: Decoding, ends: Sequence[int]) -> list[list[Written]]:
    found = []
    for each in beams.search(rows, begins, decoding, ends):
        ended = [row.tokens[-1] in ends for row in each]
        found.append(
            [
                Written(row.tokens[:-1] if end else row.tokens, row.score, end)
                for row, end in zip(each[: decoding.sequences], ended, strict=False)
            ]
        )
    return found
