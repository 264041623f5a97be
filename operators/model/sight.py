"""Who sees whom: the way attention goes over documents in a flat array, and what it adds to scores, once for a stack.

    varlen   on a GPU in half precision, without biases: torch's kernel for variable lengths; no padding anywhere
    groups   where they are laid out: documents of like length side by side; little padding, none of equal lengths
    band     where shapes must stay, or a window is much shorter than documents: blocks of places, each over the block
             before and the block behind it, in which lies all that its places may see
    rows     where rows are hardly longer than documents: whole rows

Promises: no document sees another; a place sees those `window` places to either side and, where `causal`, none behind
it. A bias is a function of the distance between places of one document, so it holds wherever the document lies. Costs
by the band, for each place (and each head, where there is a learned bias), three numbers for every place of the longest
document: memory grows with the number of places, never with its square. Refuses to look at other documents without
groups or rows of both.

T places, H heads, n documents of a group, blocks or rows, L places of each that ask, M that are asked.
"""

import inspect
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from tundish.operators.model.packed import Group, Packed, theirs
from tundish.operators.model.relative import Buckets, Distances, Slopes

HALVES = (torch.bfloat16, torch.float16)
DENSE = 3  # a row so many times as long as the longest document costs as much as the band
WORTH = 1.5  # a band's blocks are smaller than documents: by so much less has it to have to do


def _varlen() -> Callable[..., Any] | None:
    try:
        from torch.nn.attention.varlen import varlen_attn
    except ImportError:
        return None
    return varlen_attn if "window_size" in inspect.signature(varlen_attn).parameters else None


VARLEN = _varlen()  # torch's attention for variable lengths, where it knows windows; None in a torch without it


class Sight(NamedTuple):
    """Of a group, of all blocks, or of all rows. `added` to scores: a bias where a place may be seen, minus infinity
    where not, broadcast over (n, H, L, M); None where that is nothing. `causal`: that none behind is seen is left to
    the kernel. `number` (L, M) of each distance, where one was asked for."""

    added: Tensor | None
    causal: bool = False
    number: Tensor | None = None


class Sights(NamedTuple):
    """The `way`, and a sight for every group, or one. `block`: places of a block of the band; `behind`: whether it sees
    the block behind it as well as the one before."""

    way: str
    each: tuple[Sight, ...] = ()
    block: int = 0
    behind: bool = True


def sights(
    packed: Packed,
    keys: Packed | None = None,
    *,
    like: Tensor,
    window: int = 0,
    causal: bool = False,
    bias: Buckets | Slopes | None = None,
    numbers: Distances | None = None,
) -> Sights:
    """For documents that see themselves, or those of the same numbers in `keys`; `like`: states of their precision."""
    window, causal = (0, False) if keys is not None else (window, causal)
    prefixes = packed.prefixes if causal else None
    plain = bias is None and numbers is None and prefixes is None
    if plain and VARLEN is not None and like.is_cuda and like.dtype in HALVES:
        return Sights("varlen")
    way, block = _way(packed, keys, window)
    if way == "groups":
        kinds = [_in_group(group, packed, keys, window, causal, plain) for group in packed.groups]
    elif way == "band":
        kinds = [_in_band(packed, block, window, causal)]
    else:
        kinds = [_in_rows(packed, keys, window, causal)]
    each = []
    for ahead, mask, left in kinds:
        added = None if bias is None else bias(ahead).to(like.dtype)
        if mask is not None:
            shut = torch.zeros_like(mask, dtype=like.dtype).masked_fill(~mask, float("-inf"))
            added = shut if added is None else added + shut
        each.append(Sight(added, left, None if numbers is None else numbers(ahead)))
    return Sights(way, tuple(each), block, behind=not causal or prefixes is not None)


def _way(packed: Packed, keys: Packed | None, window: int) -> tuple[str, int]:
    """The way where there is no kernel for variable lengths, and the block of a band."""
    block = min(window or packed.longest, packed.longest)
    if packed.groups:
        scores = sum(group.places.numel() * group.places.shape[1] for group in packed.groups)
        narrow = keys is None and window and scores > WORTH * 3 * block * len(packed.positions)
        return ("band", block) if narrow else ("groups", 0)
    if keys is not None:
        if not packed.row or not keys.row:
            raise ValueError("other documents are looked at by groups or by rows; pack with `grouped`, or with `row`")
        return "rows", 0
    return ("rows", 0) if packed.row and packed.row <= DENSE * block else ("band", block)


Kind = tuple[Tensor, Tensor | None, bool]  # key minus query place (L, M); which may be seen (n or 1, 1, L, M); causal


def _distances(asking: int, asked: int, device: torch.device, first: int = 0) -> Tensor:
    """Key minus query place (L, M), where the first key lies `first` places behind the first query."""
    return torch.arange(first, first + asked, device=device) - torch.arange(asking, device=device)[:, None]


def _near(ahead: Tensor, window: int, causal: bool) -> Tensor:
    """Which distances (L, M) may be seen."""
    allowed = ahead <= 0 if causal else torch.ones_like(ahead, dtype=torch.bool)
    return allowed & (ahead.abs() <= window) if window else allowed


def _in_group(group: Group, packed: Packed, keys: Packed | None, window: int, causal: bool, plain: bool) -> Kind:
    device, length = group.places.device, group.places.shape[1]
    if keys is not None:
        valid = group.keys_valid if group.keys is not None else theirs(keys.bounds, group.whose)[1]
        assert valid is not None
        return _distances(length, valid.shape[1], device), valid[:, None, None, :], False
    ahead = _distances(length, length, device)
    mask = None if group.valid is None else group.valid[:, None, None, :]
    if plain and causal and mask is None and not window:
        return ahead, None, True
    if causal or (window and window + 1 < length):
        near = _near(ahead, window, causal)[None, None]
        if causal and packed.prefixes is not None:
            early = torch.arange(length, device=device) < packed.prefixes[group.whose][:, None]
            both = near | early[:, None, None, :]
            near = both & (ahead.abs() <= window) if window else both
        if mask is not None:
            # a place beyond its document sees itself: what sees nothing would become NaN
            mask = mask | torch.eye(length, dtype=torch.bool, device=device)
        mask = near if mask is None else mask & near
    return ahead, mask, False


def _in_band(packed: Packed, block: int, window: int, causal: bool) -> Kind:
    prefixes = packed.prefixes if causal else None
    behind = not causal or prefixes is not None
    asking = tiled(packed.documents, block, fill=-1)
    asked = windows(packed.documents, block, behind=behind, tail=-1, ends=-2)
    ahead = _distances(block, asked.shape[1], asked.device, -block)
    allowed = _near(ahead, window, causal)
    if prefixes is not None:
        early = packed.positions < prefixes[packed.documents.long()]
        early = windows(early.int(), block, behind=behind, tail=0, ends=0).bool()
        allowed = allowed | early[:, None, :]
        allowed = allowed & (ahead.abs() <= window) if window else allowed
    return ahead, ((asking[:, :, None] == asked[:, None, :]) & allowed)[:, None], False


def _in_rows(packed: Packed, keys: Packed | None, window: int, causal: bool) -> Kind:
    other = keys or packed
    asking, asked = packed.documents.view(-1, packed.row), other.documents.view(-1, other.row)
    ahead = _distances(packed.row, other.row, asking.device)
    mask = asking[:, :, None] == asked[:, None, :]
    if causal or window:
        allowed = _near(ahead, window, causal)
        if causal and packed.prefixes is not None:
            early = packed.positions < packed.prefixes[packed.documents.long()]
            allowed = allowed | early.view(-1, 1, packed.row)
            allowed = allowed & (ahead.abs() <= window) if window else allowed
        mask = mask & allowed
    return ahead, mask[:, None], False


def tiled(flat: Tensor, block: int, *, fill: float = 0) -> Tensor:
    """(n, L, …) of a flat (T, …), in blocks of L places, the last one filled up."""
    missing = -len(flat) % block
    if missing:
        flat = torch.cat([flat, flat.new_full((missing, *flat.shape[1:]), fill)])
    return flat.view(-1, block, *flat.shape[1:])


def windows(flat: Tensor, block: int, *, behind: bool, tail: float = 0, ends: float = 0) -> Tensor:
    """(n, M, …) of a flat (T, …): each block of `tiled` after the one before it and, if `behind`, before the one behind
    it. Views of one copy, so they are not to be written to. `tail`: what fills the last block up; `ends`: what stands
    before the first block and behind the last."""
    missing, more = -len(flat) % block, flat.shape[1:]
    pieces = [flat.new_full((block, *more), ends), flat]
    pieces += [flat.new_full((missing, *more), tail)] if missing else []
    pieces += [flat.new_full((block, *more), ends)] if behind else []
    return torch.cat(pieces).unfold(0, (3 if behind else 2) * block, block).movedim(-1, 1)
