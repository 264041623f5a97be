"""Losses as sums, so that parts of a batch add up; over a large vocabulary without ever holding all its scores.

`vocabulary_loss` works out loss and gradients chunk by chunk in the forward pass: of K places and V tokens only
chunk x V scores exist at a time, and the products are three, as many as if all were kept.

    graded    as it is: few passes over memory, in place; what a CPU does
    fused     the same for a compiler that makes one kernel of many steps: scores are read twice and gradients
              written once, in the states' precision: on a GPU 14 bytes a score instead of 58. Every chunk has the same
              size, the last filled up with places that count nothing, so that it is compiled once

Promises: the value and gradients of cross-entropy in float32 (float64 for float64) whatever the states are in; the
table's gradient is added up in float32, and on a GPU comes out of its products so; labels of IGNORED count nothing.
Costs the gradient of the table in float32, (V, E).
"""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from tundish.operators.model.batch import IGNORED

ROOM = {"cpu": 1 << 22, "cuda": 1 << 27}  # scores at a time: what a cache holds; a fraction of a GPU
EVEN = 512  # places of a chunk are a multiple of it, where there are so many

# part (n, E), table (V, E), bias (V,), labels (n,), z, whether gradients are wanted
#   -> loss (0-d), gradient of the scores (n, V) in the precision of the part, and of the bias (V,)
Graded = Callable[[Tensor, Tensor, Tensor | None, Tensor, float, bool], tuple[Tensor, Tensor | None, Tensor | None]]


def vocabulary_loss(
    states: Tensor,
    table: Tensor,
    bias: Tensor | None,
    labels: Tensor,
    *,
    z: float = 0.0,
    at_once: int = 0,
    fused: Graded | None = None,
) -> Tensor:
    """Sum in nats of the cross-entropies of `states` (K, E) by `table` (V, E) and `bias` (V,) against `labels` (K,),
    plus `z` times the squared logarithm of each normaliser (Chowdhery et al. 2022). `at_once`: places a chunk.
    `fused`: what is to be done of each chunk, where it is compiled."""
    if not at_once:
        at_once = max(64, ROOM.get(states.device.type, ROOM["cuda"]) // len(table))
        at_once -= at_once % EVEN if at_once > EVEN else 0
    if fused is not None and (missing := -len(states) % at_once):
        states, labels = F.pad(states, (0, 0, 0, missing)), F.pad(labels, (0, missing), value=IGNORED)
    wanted = torch.is_grad_enabled() and any(each is not None and each.requires_grad for each in (states, table, bias))
    return _Chunked.apply(states, table, bias, labels, z, at_once, fused or graded, wanted)  # type: ignore[no-any-return]


class _Chunked(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        states: Tensor,
        table: Tensor,
        bias: Tensor | None,
        labels: Tensor,
        z: float,
        at_once: int,
        work: Graded,
        wanted: bool,
    ) -> Tensor:
        wide = torch.promote_types(states.dtype, torch.float32)
        cast, added = table.to(states.dtype), None if bias is None else bias.to(wide)
        total = torch.zeros((), dtype=wide, device=states.device)
        to_states = torch.empty_like(states) if wanted else None
        to_table = torch.zeros(table.shape, dtype=wide, device=table.device) if wanted else None
        to_bias = torch.zeros(len(table), dtype=wide, device=table.device) if wanted and bias is not None else None
        for first in range(0, len(states), at_once):
            part, label = states[first : first + at_once], labels[first : first + at_once]
            loss, given, column = work(part, cast, added, label, z, wanted)
            total += loss
            if given is not None:
                torch.mm(given, cast, out=to_states[first : first + at_once])  # type: ignore[index]
                _add_product(to_table, given.t(), part)  # type: ignore[arg-type]
            if to_bias is not None and column is not None:
                to_bias += column
        ctx.save_for_backward(to_states, to_table, to_bias)
        ctx.dtypes = table.dtype, None if bias is None else bias.dtype
        return total

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Any, ...]:
        grad = grads[0]
        to_states, to_table, to_bias = ctx.saved_tensors
        table, bias = ctx.dtypes
        return (
            to_states * grad.to(to_states.dtype),
            to_table.mul_(grad).to(table),
            None if to_bias is None else to_bias.mul_(grad).to(bias),
            *(None,) * 5,
        )


def _add_product(total: Tensor, left: Tensor, right: Tensor) -> None:
    """Add a product to a total of at least float32. A GPU's multiplies halves into float32; where torch cannot have
    that, each product is rounded to halves before it is added."""
    if left.dtype == total.dtype:
        total.addmm_(left, right)
    elif total.is_cuda and hasattr(torch.ops.aten.mm, "dtype"):
        total += torch.ops.aten.mm.dtype(left, right, total.dtype)
    else:
        total += left @ right


def graded(
    part: Tensor, table: Tensor, bias: Tensor | None, label: Tensor, z: float, wanted: bool
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """See `Graded`."""
    wide = torch.promote_types(part.dtype, torch.float32)
    if part.dtype == wide:
        scores = F.linear(part, table, bias)
    else:
        scores = F.linear(part, table).to(wide)
        scores = scores if bias is None else scores.add_(bias)
    counted = label != IGNORED
    label = label.clamp(min=0)[:, None]
    norm = scores.logsumexp(1, keepdim=True) if z else None
    scores = scores.log_softmax(1)
    each = -scores.gather(1, label)
    if norm is not None:
        each = each + z * norm.square()
    loss = each.squeeze(1).masked_fill(~counted, 0).sum()
    if not wanted:
        return loss, None, None
    scores = scores.exp_()
    if norm is not None:
        scores.mul_(1 + 2 * z * norm)
    scores.scatter_add_(1, label, torch.full_like(each, -1.0))
    if scores.is_cuda or not counted.all():  # a GPU is not asked: it would be waited for
        scores.mul_(counted[:, None])
    return loss, scores.to(part.dtype), None if bias is None else scores.sum(0)


def fused(
    part: Tensor, table: Tensor, bias: Tensor | None, label: Tensor, z: float, wanted: bool
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """See `Graded`: nothing in place and nothing scattered, which a compiler could not fuse."""
    wide = torch.promote_types(part.dtype, torch.float32)
    scores = F.linear(part, table).to(wide)
    scores = scores if bias is None else scores + bias
    counted = (label != IGNORED)[:, None]
    norm = scores.logsumexp(1, keepdim=True)
    hit = torch.arange(len(table), device=part.device) == label[:, None]
    each = norm - torch.where(hit, scores, 0.0).sum(1, keepdim=True)
    loss = torch.where(counted, each + z * norm.square(), 0.0).sum()
    if not wanted:
        return loss, None, None
    given = (scores - norm).exp() * (1 + 2 * z * norm) - hit.to(wide)
    given = torch.where(counted, given, 0.0)
    return loss, given.to(part.dtype), None if bias is None else given.sum(0)


def detection_loss(scores: Tensor, replaced: Tensor, counted: Tensor) -> Tensor:
    """Sum in nats over `counted` tokens of telling which were `replaced`; all (T,)."""
    wide = scores.to(torch.promote_types(scores.dtype, torch.float32))
    each = F.binary_cross_entropy_with_logits(wide, replaced.to(wide.dtype), reduction="none")
    return each.masked_fill(~counted, 0).sum()
