"""The length of a gradient, and a gradient that is no longer than so much; nothing waits for the device.

Promises: the norm over all weights as a 0-d tensor, the same on every rank, also where weights are sharded (squares are
added over the ranks that hold different parts). Costs one reading of the gradients, and one writing to clip. A norm
that is not finite leaves gradients that are not: the guard's factor is what keeps such a step out.
"""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from tundish.operators.model.stacks import layout, part, summed

TINY = 1e-6  # added to the norm, as torch does


@torch.no_grad()
def norm_of(weights: Iterable[nn.Parameter]) -> Tensor:
    """Euclidean length of all gradients together, 0-d."""
    groups: dict[tuple, list[Tensor]] = {}
    for weight in weights:
        if weight.grad is not None:
            groups.setdefault((layout(weight.grad), weight.grad.dtype), []).append(part(weight.grad))
    if not groups:
        raise ValueError("no weight has a gradient; go backward before asking for its norm")
    squares = [
        summed(torch.stack(torch._foreach_norm(gradients)).double().square().sum(), placed)
        for (placed, _), gradients in groups.items()
    ]
    return torch.stack(squares).sum().sqrt()


@torch.no_grad()
def clip(weights: Iterable[nn.Parameter], longest: float) -> Tensor:
    """Shorten the gradients in place to at most `longest`, all by one factor; the norm they had, 0-d."""
    if longest <= 0:
        raise ValueError(f"a gradient cannot be clipped to a length of {longest}; give one above 0")
    weights = list(weights)
    norm = norm_of(weights)
    multiply(weights, share_of(norm, longest))
    return norm


def share_of(norm: Tensor, longest: float) -> Tensor:
    """What gradients of this norm are to be multiplied with to be no longer, 0-d."""
    return (longest / (norm + TINY)).clamp(max=1.0)


@torch.no_grad()
def multiply(weights: Iterable[nn.Parameter], share: Tensor) -> None:
    """All gradients times a 0-d number, in place."""
    kinds: dict[torch.dtype, list[Tensor]] = {}
    for weight in weights:
        if weight.grad is not None:
            kinds.setdefault(weight.grad.dtype, []).append(part(weight.grad))
    for dtype, gradients in kinds.items():
        torch._foreach_mul_(gradients, share.to(dtype))
