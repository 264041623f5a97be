"""Experts: of many inner layers each token takes one (Switch Transformer, Fedus et al. 2021).

Promises: a router in float32 whatever the rest is in; an expert takes of each document at most `capacity` times an
equal share, first come first served, and what does not fit passes through unchanged, as the block's residual; routing
of a document does not depend on what else is in the batch; padding is given to no expert and counts for nothing. Costs
one sort of the tokens. The loss of balance is `experts * sum(share of tokens routed x mean probability)`, 1 where all
are equal.

T tokens, D width, F inner width, E experts.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tundish.operators.model.layers import ACTS
from tundish.operators.model.packed import Packed
from tundish.operators.model.shape import Shape


class Experts(nn.Module):
    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.act, self.capacity = shape.act, shape.capacity
        self.router = nn.Parameter(torch.empty(shape.experts, shape.width))
        self.up = nn.Parameter(torch.empty(shape.experts, shape.ff, shape.width))
        self.down = nn.Parameter(torch.empty(shape.experts, shape.width, shape.ff))

    def forward(self, x: Tensor, packed: Packed) -> tuple[Tensor, Tensor]:
        """What the experts give for (T, D), and the loss of balance, float32."""
        count = len(self.router)
        with torch.autocast(x.device.type, enabled=False):  # selective precision: probabilities in float32
            wide = torch.promote_types(x.dtype, torch.float32)
            probabilities = F.linear(x.to(wide), self.router.to(wide)).softmax(-1)
        chance, chosen = probabilities.max(-1)
        balance = balance_of(probabilities, chosen, packed.present)
        taken = fits(chosen, packed.bounds, packed.documents, experts=count, capacity=self.capacity)
        if packed.present is not None:
            taken = taken & packed.present
        order = torch.where(taken, chosen, count).argsort(stable=True)
        sizes = torch.bincount(torch.where(taken, chosen, count), minlength=count + 1).tolist()
        found = [
            F.linear(ACTS[self.act](F.linear(part, up.to(x.dtype))), down.to(x.dtype))
            for part, up, down in zip(x[order].split(sizes), self.up, self.down, strict=False)
        ]
        out = torch.cat([*found, x.new_zeros(sizes[count], x.shape[1])])
        return torch.empty_like(x).index_copy(0, order, out) * chance[:, None].to(x.dtype), balance


def balance_of(probabilities: Tensor, chosen: Tensor, present: Tensor | None = None) -> Tensor:
    """Of probabilities (T, E) and the experts chosen (T,), of places that are `present` (T,) bool, or of all; equation
    4 of the paper, without its factor."""
    count = probabilities.shape[1]
    routed = F.one_hot(chosen, count).to(probabilities.dtype)
    if present is None:
        return count * (routed.mean(0) * probabilities.mean(0)).sum()
    size = present.sum().clamp(min=1)
    shares = [each.masked_fill(~present[:, None], 0.0).sum(0) / size for each in (routed, probabilities)]
    return count * (shares[0] * shares[1]).sum()


def fits(chosen: Tensor, bounds: Tensor, documents: Tensor, *, experts: int, capacity: float) -> Tensor:
    """Which tokens find room with the expert they chose, (T,) bool. Room for a document of n tokens:
    ceil(capacity * n / experts), never less than one."""
    if not capacity:
        return torch.ones_like(chosen, dtype=torch.bool)
    before = F.one_hot(chosen, experts).cumsum(0)  # among all tokens so far, this one among them
    mine = before.gather(1, chosen[:, None]).squeeze(1)
    first = bounds[documents.long()].long()
    earlier = (
        torch.where((first > 0)[:, None], before[(first - 1).clamp(min=0)], 0).gather(1, chosen[:, None]).squeeze(1)
    )
    length = bounds[documents.long() + 1].long() - first
    room = torch.ceil(length.double() * capacity / experts - 1e-9).clamp(min=1)
    return mine - earlier <= room


def room(length: int, *, experts: int, capacity: float) -> int:
    """Tokens an expert takes of a document of this length."""
    return max(1, math.ceil(length * capacity / experts - 1e-9))
