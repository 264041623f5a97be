"""Which tokens are hidden, on the device: a function of (seed, epoch, row, position), and of nothing else.

The same bits as `hiding.hide`, which does it on the host. Single tokens alone: whole words, spans, causal and prefix
modelling, span corruption and the uniforms that replacements are sampled by are made on the host.

Promises: the same bits on every device, for any batch size and number of ranks; exactly round(rate x n) of a row's
n ordinary tokens are chosen, and at least one; special tokens never. Of the chosen, the first share becomes [MASK], the
second a token drawn from the whole ordinary vocabulary, the rest stays (80, 10 and 10 %: Devlin et al. 2019, BERT).
Costs one sort per row. Refuses a rate outside (0, 1] and a vocabulary with no ordinary token.

B rows, L places of a row.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from tundish.operators.model.batch import IGNORED
from tundish.operators.model.hiding import CHOOSE, DRAW, check_rate
from tundish.operators.model.order import FIRST, GOLDEN, SECOND, keyed

LAST = (1 << 63) - 1
LOW = (1 << 32) - 1


def _signed(word: int) -> int:
    return word - (1 << 64) if word >> 63 else word


def _shift(x: Tensor, bits: int) -> Tensor:
    """Logical shift: torch's own drags the sign along."""
    return (x >> bits) & ((1 << (64 - bits)) - 1)


def mixed(words: Tensor) -> Tensor:
    """splitmix64's finaliser on int64 that wraps; the same bits as `order.mixed` on uint64."""
    x = words + _signed(GOLDEN)
    x = (x ^ _shift(x, 30)) * _signed(FIRST)
    x = (x ^ _shift(x, 27)) * _signed(SECOND)
    return x ^ _shift(x, 31)


def _draws(stream: int, seed: int, epochs: Tensor, rows: Tensor, length: int) -> Tensor:
    """A number in 0 .. 2^63 - 1 for every place, (B, L)."""
    row = mixed(mixed(epochs ^ _signed(keyed(seed, stream))) ^ rows)
    place = torch.arange(length, device=rows.device)
    return _shift(mixed(row[:, None] ^ mixed(place)), 1)


def _ordinary(vocabulary: int, specials: Sequence[int], device: torch.device) -> Tensor:
    """Ids of the tokens that are not special, ascending."""
    special = set(specials)
    ids = [token for token in range(vocabulary) if token not in special]
    if not ids:
        raise ValueError(f"all {vocabulary} tokens of the vocabulary are special; nothing is left to mask")
    return torch.tensor(ids, device=device)


def mask(
    tokens: Tensor,
    rows: Tensor,
    epochs: Tensor,
    *,
    seed: int,
    rate: float,
    vocabulary: int,
    specials: Sequence[int],
    mask_id: int,
    shares: tuple[int, int] = (80, 10),
) -> tuple[Tensor, Tensor, Tensor]:
    """Inputs and labels, each (B, L) int64, for `tokens` (B, L), and the digest of what is hidden, scalar int64: a
    64-bit sum, so the digests of a batch's parts add up (wrapping) to that of the batch, however it was shared out.
    `rows` and `epochs` (B,) int64 name each row.

    `specials` are ids that are neither chosen nor drawn (padding and [MASK] belong among them). A row of specials
    only has no label. `shares`: of a hundred chosen so many become [MASK], and so many are drawn.
    """
    check_rate(rate)
    ordinary = _ordinary(vocabulary, specials, tokens.device)
    length = tokens.shape[1]
    maskable = ~torch.isin(tokens, torch.tensor(sorted(set(specials)), device=tokens.device))
    draws = _draws(CHOOSE, seed, epochs, rows, length)
    chosen = _first_of(draws, maskable, rate)
    kind = ((draws & LOW) * 100) >> 32  # the low bits: the high ones chose the place
    drawn = ordinary[_draws(DRAW, seed, epochs, rows, length) % len(ordinary)]
    inputs = torch.where(chosen & (kind < sum(shares)), drawn, tokens)
    inputs = torch.where(chosen & (kind < shares[0]), torch.full_like(tokens, mask_id), inputs)
    told = mixed(draws ^ (tokens * (1 << 32) + inputs)).masked_fill(~chosen, 0).sum()
    return inputs, torch.where(chosen, tokens, torch.full_like(tokens, IGNORED)), told


def _first_of(draws: Tensor, maskable: Tensor, rate: float) -> Tensor:
    """The round(rate x n) maskable places of each row with the smallest draws, at least one, (B, L) bool."""
    count = maskable.sum(1)
    wanted = torch.minimum((count.double() * rate).round().long().clamp(min=1), count)
    order = draws.masked_fill(~maskable, LAST).argsort(dim=1, stable=True)
    place = torch.arange(draws.shape[1], device=draws.device).expand_as(order)
    return torch.empty_like(order).scatter_(1, order, place) < wanted[:, None]
