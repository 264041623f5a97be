"""Which token comes next, of the scores of all: what may not come, what is kept of the rest, and the draw.

Promises: `drawn` is a function of scores and of one number a row, which `number` makes of (seed, example, sequence,
step), so a row's tokens depend on no other row. Top-k, top-p and n-grams are those of transformers 5.17 (Fan et al.
2018; Holtzman et al. 2020; Paulus et al. 2018), equal scores included. Costs a sort of the vocabulary for top-p.

R rows, V vocabulary.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from tundish.operators.model.order import keyed

DRAWN = 77  # a stream of keys
SHUT = float("-inf")


def repeated(tokens: Sequence[int], size: int) -> list[int]:
    """Tokens that would make a run of `size` tokens come a second time.

    >>> repeated([1, 2, 3, 1, 2], 3), repeated([1, 2, 3, 1, 2], 2), repeated([5, 6], 1)
    ([3], [3], [5, 6])
    """
    if len(tokens) < size:
        return []
    last = tuple(tokens[len(tokens) + 1 - size :])
    runs = (tuple(tokens[at : at + size]) for at in range(len(tokens) + 1 - size))
    return sorted({run[-1] for run in runs if run[:-1] == last})


def without(scores: Tensor, rows: Sequence[Sequence[int]], *, size: int, ends: Sequence[int]) -> Tensor:
    """Scores (R, V), minus infinity for `ends` and for what would repeat a run of `size` tokens (0: nothing does)."""
    shut = [(row, token) for row, tokens in enumerate(rows) for token in (repeated(tokens, size) if size else ())]
    shut += [(row, token) for row in range(len(rows)) for token in ends]
    if not shut:
        return scores
    where = torch.tensor(shut, device=scores.device).t()
    return scores.index_put((where[0], where[1]), scores.new_tensor(SHUT))


def narrowed(scores: Tensor, *, temperature: float = 1.0, top_k: int = 0, top_p: float = 1.0) -> Tensor:
    """Scores (R, V) over the temperature, minus infinity for all but the best `top_k` (0: all) and of these all but the
    fewest that have `top_p` of the probability together, at least one."""
    scores = scores / temperature
    if top_k:
        least = scores.topk(min(top_k, scores.shape[1]))[0][:, -1:]
        scores = scores.masked_fill(scores < least, SHUT)
    if top_p < 1:
        rising, order = scores.sort(descending=False)
        left = rising.softmax(-1).cumsum(-1) <= 1 - top_p
        left[:, -1] = False
        scores = scores.masked_fill(left.scatter(1, order, left), SHUT)
    return scores


def drawn(scores: Tensor, numbers: Sequence[float]) -> Tensor:
    """A token of each row (R,), by inverting the distribution's running sum, in float64, at `numbers` in [0, 1)."""
    sums = scores.double().softmax(1).cumsum(1)
    wanted = torch.tensor(numbers, dtype=torch.float64, device=scores.device)[:, None] * sums[:, -1:]
    return torch.searchsorted(sums, wanted, right=True).squeeze(1)  # a number below 1 leads below the whole sum


def number(seed: int, example: int, sequence: int, step: int) -> float:
    """In [0, 1)."""
    return (keyed(seed, DRAWN, example, sequence, step) >> 11) * 2.0**-53
