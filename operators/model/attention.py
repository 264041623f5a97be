"""Attention among the documents of a flat array: queries, keys and values brought to where they meet, and back.

Who sees whom, and by which way, is said by `sight`: varlen, groups, band or rows; all give the same numbers.

Promises: gradients come back by the way the states went, place by place, and nothing is added up that has one source.
Costs, by groups, a copy of queries, keys, values and what is found; by the band one of keys and values alone.

T places, P places of all groups, H heads, d width of a head, n documents of a group, blocks or rows, L places of each
that ask, M that are asked.
"""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from tundish.operators.model.packed import Packed, theirs
from tundish.operators.model.sight import VARLEN, Sight, Sights, sights, tiled, windows

Bias = Callable[[Tensor, Tensor, Tensor], Tensor]  # queries (n, H, L, d), keys, numbers (L, M) -> (n, H, L, M)


def attend(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    packed: Packed,
    keys: Packed | None = None,
    *,
    scale: float | None = None,
    window: int = 0,
    causal: bool = False,
    bias: Bias | None = None,
    seen: Sights | None = None,
) -> Tensor:
    """States (T, H, d) for queries (T, H, d) over keys and values (T', H, d) of `keys`, or of the same documents.
    `scale` of the scores: one over the root of d, unless given. Document i of `packed` sees document i of `keys`.
    `seen`: what `sights` gave for these documents, for all layers; `bias` is added to it."""
    seen = seen or sights(packed, keys, like=q, window=window, causal=causal)
    if seen.way == "varlen":
        assert VARLEN is not None
        other = keys or packed
        left, right = (-1, -1) if keys is not None else (window or -1, 0 if causal else window or -1)
        found: Tensor = VARLEN(
            q, k, v, packed.bounds, other.bounds, packed.longest, other.longest, scale=scale, window_size=(left, right)
        )
        return found
    if seen.way == "groups":
        return _by_groups(q, k, v, packed, keys, scale, bias, seen)
    [sight] = seen.each
    if seen.way == "band":
        each = (tiled(q, seen.block), *(_Windows.apply(part, seen.block, seen.behind) for part in (k, v)))
    else:
        each = q.unflatten(0, (-1, packed.row)), *(part.unflatten(0, (-1, (keys or packed).row)) for part in (k, v))
    return _meet(*(part.transpose(1, 2) for part in each), sight, scale, bias).flatten(0, 1)[: len(q)]


def _meet(q: Tensor, k: Tensor, v: Tensor, sight: Sight, scale: float | None, bias: Bias | None) -> Tensor:
    """(n, L, H, d) for queries (n, H, L, d) over keys and values (n, H, M, d)."""
    added = sight.added
    if bias is not None:
        assert sight.number is not None
        more = bias(q, k, sight.number)
        added = more if added is None else more + added
    out = F.scaled_dot_product_attention(q, k, v, attn_mask=added, is_causal=sight.causal, scale=scale)
    return out.transpose(1, 2)


def _by_groups(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    packed: Packed,
    keys: Packed | None,
    scale: float | None,
    bias: Bias | None,
    seen: Sights,
) -> Tensor:
    found, sizes = [], [group.places.numel() for group in packed.groups]
    each_q = _laid(q, packed).split(sizes)
    if keys is None:
        each_k, each_v = (_laid(part, packed).split(sizes) for part in (k, v))
    else:
        places = [
            group.keys if group.keys is not None else theirs(keys.bounds, group.whose)[0] for group in packed.groups
        ]
        each_k, each_v = ([part.index_select(0, its.flatten()) for its in places] for part in (k, v))
    for group, sight, *parts in zip(packed.groups, seen.each, each_q, each_k, each_v, strict=True):
        rows = (part.unflatten(0, (len(group.places), -1)).transpose(1, 2) for part in parts)
        found.append(_meet(*rows, sight, scale, bias).flatten(0, 1))
    return _Back.apply(torch.cat(found), packed.laid, packed.back, packed.own) if found else torch.empty_like(q)


def _laid(flat: Tensor, packed: Packed) -> Tensor:
    """(P, H, d) of a flat (T, H, d), in groups."""
    return _Laid.apply(flat, packed.laid, packed.back)  # type: ignore[no-any-return]


class _Laid(torch.autograd.Function):
    """Into groups. What fills a document up there has no gradient, so every place has one source of it: autograd's own
    way back would fill an array with zeros and add to it, which takes three times as long."""

    @staticmethod
    def forward(ctx: Any, flat: Tensor, laid: Tensor, back: Tensor) -> Tensor:
        ctx.save_for_backward(back)
        return flat.index_select(0, laid)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Any, ...]:
        return grads[0].index_select(0, *ctx.saved_tensors), None, None


class _Back(torch.autograd.Function):
    """Out of groups; what fills a document up is left behind, and given a gradient of zero."""

    @staticmethod
    def forward(ctx: Any, found: Tensor, laid: Tensor, back: Tensor, own: Tensor | None) -> Tensor:
        ctx.save_for_backward(laid, own)
        return found.index_select(0, back)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Any, ...]:
        laid, own = ctx.saved_tensors
        given = grads[0].index_select(0, laid)
        return given if own is None else given.mul_(own[:, None, None]), None, None, None


class _Windows(torch.autograd.Function):
    """Blocks with their neighbours, as `windows` gives them; a block's gradient is the sum of what its three places
    gave."""

    @staticmethod
    def forward(ctx: Any, flat: Tensor, block: int, behind: bool) -> Tensor:
        ctx.size, ctx.block, ctx.behind = len(flat), block, behind
        return windows(flat, block, behind=behind)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Any, ...]:
        grad, block = grads[0], ctx.block
        found = grad[:, block : 2 * block].clone(memory_format=torch.contiguous_format)
        found[:-1] += grad[1:, :block]
        if ctx.behind:
            found[1:] += grad[:-1, 2 * block :]
        return found.flatten(0, 1)[: ctx.size], None, None


def turns(positions: Tensor, size: int, theta: float, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Cosines and sines (T, 1, size) of rotary positions (Su et al. 2021); angles in float64, because bf16 cannot count
    to 512 and float32 loses places at 160,000."""
    rates = theta ** (-torch.arange(0, size, 2, dtype=torch.float64, device=positions.device) / size)
    angles = positions[:, None].double() * rates
    angles = torch.cat([angles, angles], -1)[:, None]
    return angles.cos().to(dtype), angles.sin().to(dtype)


def turned(x: Tensor, turn: tuple[Tensor, Tensor]) -> Tensor:
    """(T, H, d) rotated by its places."""
    if not torch.compiler.is_compiling():
        return _Turned.apply(x, *turn)  # type: ignore[no-any-return]
    cos, sin = turn
    first, second = x.chunk(2, -1)
    return (x * cos + torch.cat([-second, first], -1) * sin).to(x.dtype)


class _Turned(torch.autograd.Function):
    """As a compiler would have it: two passes over memory there and two back, where the formula as it is takes some
    twelve. A rotation's way back is the rotation the other way."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        ctx.save_for_backward(cos, sin)
        return _rotated(x, cos, sin, 1)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Any, ...]:
        return _rotated(grads[0], *ctx.saved_tensors, -1), None, None


def _rotated(x: Tensor, cos: Tensor, sin: Tensor, way: int) -> Tensor:
    half = x.shape[-1] // 2
    out, sin = x * cos, sin[..., :half]
    out[..., :half].addcmul_(x[..., half:], sin, value=-way)
    out[..., half:].addcmul_(x[..., :half], sin, value=way)
    return out
