"""Documents in one flat array: where each begins, and how attention finds its way among them without padding.

    tokens     a a a a b b c c c c c c
    bounds     0       4   6           12
    positions  0 1 2 3 0 1 0 1 2 3 4 5

Promises: made once for a batch and used by every layer; no place outlives its document; to a GPU go the bounds alone,
from pinned memory, so that nobody waits for it, and positions are made there. Costs 12 bytes a token, and for
attention by groups the places of each group of like lengths, twice. Refuses bounds that do not ascend from 0.

T places, N documents, L places of the longest in a group, P places of all groups.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

STEP = 8  # lengths are rounded up to multiples of it
GROWTH = 1.2  # and one group's to its next is at least so far, so that there are few


class Group(NamedTuple):
    """Documents of like length. `places` (n, L) of the flat array, the rest of a shorter document pointing at its
    first; `valid` (n, L) which are its own, None where all are; `whose` (n,): their numbers. `keys`, `keys_valid`
    (n, M): the same of the documents of these numbers in another array, where one was given."""

    places: Tensor
    valid: Tensor | None
    whose: Tensor
    keys: Tensor | None = None
    keys_valid: Tensor | None = None


class Packed(NamedTuple):
    """`bounds` (N + 1,) int32, the last one T; `longest`: no document is longer; `positions` (T,) int64 in the document
    and `documents` (T,) int32, the number of it. `row`: where the flat array is rows of so many places and no
    document crosses them, else 0. `groups`: the documents by length; `laid` (P,): the places of all of them, one group
    behind the other, `own` (P,) which are a document's own, None where all are, and `back` (T,): where each place of
    the flat array lies among them. `prefixes` (N,): of so many tokens each document's others see all (prefix LM).
    `present` (T,) bool: which places are no padding, for what is a mean over tokens; None where all are."""

    bounds: Tensor
    longest: int
    positions: Tensor
    documents: Tensor
    row: int
    groups: tuple[Group, ...]
    back: Tensor | None
    prefixes: Tensor | None = None
    laid: Tensor | None = None
    own: Tensor | None = None
    present: Tensor | None = None


def packed(
    bounds: np.ndarray | Sequence[int],
    *,
    row: int = 0,
    longest: int = 0,
    prefixes: np.ndarray | None = None,
    device: torch.device | str = "cpu",
    grouped: bool | None = None,
    keys: np.ndarray | Sequence[int] | None = None,
) -> Packed:
    """From the places at which documents begin, and the end of the last. `longest`: a round number that holds for
    many batches, so that nothing is compiled anew; the longest here, if 0. `grouped`: also lay out groups; if None,
    where there is no GPU. `keys`: bounds of other documents of the same numbers, which these will look at."""
    bounds = np.asarray(bounds, np.int64)
    lengths = np.diff(bounds)
    if len(bounds) < 2 or bounds[0] or (lengths < 0).any():
        raise ValueError(f"documents cannot begin at {bounds[:8].tolist()}…; give ascending places from 0 to the end")
    total = int(bounds[-1])
    if row and (total % row or np.setdiff1d(np.arange(0, total, row), bounds).size):
        raise ValueError(f"documents cross rows of {row} places; say no row, or end documents with their rows")
    device = torch.device(device)
    groups, laid, own, back = [], None, None, None
    if grouped or (grouped is None and device.type == "cpu"):
        groups, back = _groups(bounds, lengths)
        laid = np.concatenate([places.ravel() for places, _, _ in groups]) if groups else np.zeros(0, np.int64)
        if any(valid is not None for _, valid, _ in groups):
            own = np.zeros(len(laid), bool)
            own[back] = True
        if keys is not None:
            bounds_of = np.asarray(keys, np.int64)
            groups = [(*group, *_spread(bounds_of, group[2])) for group in groups]
    first = there(bounds.astype(np.int32), device)
    each = (first[1:] - first[:-1]).long()
    documents = torch.repeat_interleave(torch.arange(len(each), device=device), each, output_size=total)
    return Packed(
        first,
        longest or int(lengths.max(initial=1)),
        torch.arange(total, device=device) - first[:-1].long()[documents],
        documents.int(),
        row,
        tuple(Group(*(each if each is None else there(each, device) for each in group)) for group in groups),
        None if back is None else there(back, device),
        None if prefixes is None else there(prefixes, device),
        None if laid is None else there(laid, device),
        None if own is None else there(own, device),
    )


def there(array: Any, device: torch.device | str) -> Tensor:
    """An array of the host on a device. The host goes on at once: what is copied to a GPU lies in pinned memory."""
    found, device = torch.as_tensor(array), torch.device(device)
    return found.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else found.to(device)


def packed_rows(present: Tensor) -> tuple[Tensor, Packed]:
    """For padded rows, of which `present` (B, L) bool marks what is there, from the left: the flat places of that,
    (T,), and the rows as documents."""
    sizes = present.sum(1).cpu().numpy()
    bounds = np.concatenate([[0], np.cumsum(sizes)])
    return present.flatten().nonzero().squeeze(1), packed(bounds, device=present.device, grouped=True)


def _groups(bounds: np.ndarray, lengths: np.ndarray) -> tuple[list[tuple], np.ndarray]:
    """Documents by length, shortest first; and where in the groups each place lies."""
    groups, back, at = [], np.empty(int(bounds[-1]), np.int64), 0
    order = np.argsort(lengths, kind="stable")
    order = order[lengths[order] > 0]
    while len(order):
        limit = max(-(-int(lengths[order[0]] * GROWTH) // STEP) * STEP, STEP)
        mine = order[: int(np.searchsorted(lengths[order], limit, "right"))]
        order = order[len(mine) :]
        places, valid = _spread(bounds, mine)
        back[places[valid]] = at + np.flatnonzero(valid.ravel())
        at += places.size
        groups.append((places, None if valid.all() else valid, mine))
    return groups, back


def theirs(bounds: Tensor, whose: Tensor) -> tuple[Tensor, Tensor]:
    """Places (n, M) of documents by number, and which are their own. Waits for the device: see `keys` of `packed`."""
    places, valid = _spread(bounds.cpu().numpy().astype(np.int64), whose.cpu().numpy())
    return torch.from_numpy(places).to(bounds.device), torch.from_numpy(valid).to(bounds.device)


def _spread(bounds: np.ndarray, which: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    lengths = np.diff(bounds)[which]
    place = np.arange(max(1, int(lengths.max(initial=0))))
    valid = place < lengths[:, None]
    first = np.minimum(bounds[which], max(0, int(bounds[-1]) - 1))[:, None]
    return np.where(valid, first + place, first), valid
