"""Losses of heads, each a sum and what it is to be divided by, so that parts of a batch add up exactly.

    total, count = class_loss(logits, labels)
    (total / counts_of_all_parts).backward()

Promises: `total / count` over one whole batch is the mean that torch or transformers call by that name; arithmetic in
float32 (float64 for float64) whatever the logits are in; what is marked as ignored counts nothing, not even where its
logits are infinite. Both numbers stay on the device. Costs a pass over the logits; spans wait once for the device, to
see whether their answers lie where one may. Refuses shapes that do not fit, and answers that lie elsewhere.

N documents or rows, T tokens, C classes, D width.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from tundish.operators.model.batch import IGNORED
from tundish.operators.model.packed import Packed

SHUT = float("-inf")


class Summed(NamedTuple):
    """A loss's sum and the number, or the weights, of what it is over; 0-d."""

    total: Tensor
    count: Tensor

    @property
    def mean(self) -> Tensor:
        return self.total / self.count.clamp(min=torch.finfo(self.count.dtype).tiny)


def wide(x: Tensor) -> Tensor:
    return x.to(torch.promote_types(x.dtype, torch.float32))


def class_loss(logits: Tensor, labels: Tensor, *, weights: Tensor | None = None, smoothing: float = 0.0) -> Summed:
    """Cross-entropy in nats of logits (N, C) or, token by token, (T, C), against labels of which -100 counts nothing.
    `weights` (C,) of classes, by which the count is weighed too; `smoothing`: this share of each label's weight is
    spread over all classes (Szegedy et al. 2016), as `torch.nn.functional.cross_entropy` does it."""
    _fits(logits, labels, logits.shape[:1])
    logits, labels = wide(logits), labels.long()
    counted = labels != IGNORED
    logits = logits.masked_fill(~counted[:, None], 0.0)
    own = None if weights is None else weights.to(logits)
    total = F.cross_entropy(logits, labels, own, ignore_index=IGNORED, reduction="sum", label_smoothing=smoothing)
    each = counted.to(logits.dtype) if own is None else own[labels.clamp(min=0)] * counted
    return Summed(total, each.sum())


def labels_loss(logits: Tensor, truth: Tensor, *, weights: Tensor | None = None) -> Summed:
    """Binary cross-entropy in nats of every label of its own: logits (N, C) against truth (N, C) in 0 .. 1, in which
    numbers below 0 are unknown and count nothing. `weights` (C,): how much more a label that holds weighs than one
    that does not (torch's `pos_weight`)."""
    _fits(logits, truth, logits.shape)
    logits = wide(logits)
    known = truth >= 0
    truth = truth.to(logits.dtype).clamp(min=0)
    own = None if weights is None else weights.to(logits)
    each = F.binary_cross_entropy_with_logits(logits, truth, pos_weight=own, reduction="none")
    return Summed(each.masked_fill(~known, 0.0).sum(), known.sum().to(logits.dtype))


def number_loss(found: Tensor, truth: Tensor) -> Summed:
    """Squared error of (N, 1) or (N,) against (N,)."""
    found = wide(found)
    if found.dim() == 2 and found.shape[1] == 1:
        found = found.squeeze(1)
    _fits(found, truth, found.shape)
    return Summed((found - truth.to(found.dtype)).square().sum(), found.new_tensor(float(len(found))))


def span_loss(scores: Tensor, packed: Packed, context: Tensor, starts: Tensor, ends: Tensor) -> Summed:
    """Mean of the cross-entropies of an answer's first and last token among the places of its document where one may
    lie, summed over documents (BERT's for SQuAD, Devlin et al. 2019, 4.2 and 4.3).

    `scores` (T, 2); `context` (T,) bool: where answers may lie; a document's first token always may, and means that
    there is none. `starts`, `ends` (N,): places in the document, 0 for no answer, -100 for one that counts nothing."""
    scores = wide(scores)
    _fits(starts, ends, (len(packed.bounds) - 1,))
    allowed = context | (packed.positions == 0)
    counted, first = starts != IGNORED, packed.bounds[:-1].long()
    places = torch.stack([starts, ends], 1).long().clamp(min=0) + first[:, None]  # (N, 2)
    last = packed.bounds[1:].long()[:, None]
    inside = places < last
    places = places.clamp(max=len(scores) - 1)
    if not bool((inside & allowed[places] | ~counted[:, None]).all()):
        number = int(torch.nonzero(~(inside & allowed[places]).all(1) & counted)[0])
        raise ValueError(
            f"the answer of document {number} from {int(starts[number])} to {int(ends[number])} lies outside its "
            "context; mark it as none (0) or as not counted (-100)"
        )
    norms = _log_sums(scores.masked_fill(~allowed[:, None], SHUT), packed)
    each = (norms - scores.gather(0, places)).sum(1) / 2
    return Summed(each.masked_fill(~counted, 0.0).sum(), counted.sum().to(scores.dtype))


def _log_sums(scores: Tensor, packed: Packed) -> Tensor:
    """Logarithms of sums of exponents, (N, 2), of each document's scores (T, 2); minus infinity shuts a place."""
    whose, size = packed.documents.long(), len(packed.bounds) - 1
    with torch.no_grad():
        index = whose[:, None].expand_as(scores)
        top = scores.new_full((size, scores.shape[1]), SHUT).scatter_reduce(0, index, scores, "amax")
        top = top.masked_fill(top == SHUT, 0.0)  # documents of no tokens
    grown = (scores - top[whose]).exp()
    if grown.is_cuda:  # index_add has no fixed order there
        sums = torch.segment_reduce(grown, "sum", lengths=packed.bounds.diff().long(), initial=0, unsafe=True)
    else:
        sums = grown.new_zeros(size, scores.shape[1]).index_add(0, whose, grown)
    return top + torch.where(sums > 0, sums, 1.0).log()


def contrast_loss(
    asking: Tensor,
    wanted: Tensor,
    unwanted: Tensor | None = None,
    *,
    temperature: float = 0.05,
    both: bool = False,
    same: Tensor | None = None,
) -> Summed:
    """In-batch contrast (InfoNCE, van den Oord et al. 2018; multiple negatives ranking, Henderson et al. 2017): row i
    of `asking` (N, D) is to find row i of `wanted` (N, D) among all of these and all hard negatives `unwanted` (M, D),
    by inner products over the temperature. `both`: and each wanted row its asking one; the mean of the two. `same`
    (N,) or (N + M,): texts of one number are equal, those of rows first, and what is equal to the text that a row wants
    is none of its negatives.

    Negatives are those of one call: parts add up, but a part sees its own negatives only."""
    _fits(asking, wanted, asking.shape)
    if temperature <= 0:
        raise ValueError(f"a temperature of {temperature} divides nothing; give one above 0")
    asking, wanted = wide(asking), wide(wanted)
    many = wanted if unwanted is None else torch.cat([wanted, wide(unwanted)])
    scores = asking @ many.t() / temperature
    right = torch.arange(len(asking), device=asking.device)
    if same is not None:
        if len(same) not in (len(asking), len(many)):
            of = f"neither {len(asking)} rows nor {len(many)} texts"
            raise ValueError(f"{len(same)} numbers are of {of}; give one for each")
        every = torch.arange(len(same), device=asking.device)
        twin = (same[: len(asking), None] == same[None]) & (right[:, None] != every[None])
        scores = scores.masked_fill(F.pad(twin, (0, len(many) - len(same))), SHUT)
    total = F.cross_entropy(scores, right, reduction="sum")
    if both:
        back = scores[:, : len(asking)].t()
        total = (total + F.cross_entropy(back, right, reduction="sum")) / 2
    return Summed(total, total.new_tensor(float(len(asking))))


def _fits(left: Tensor, right: Tensor, wanted: tuple[int, ...]) -> None:
    if tuple(right.shape) != tuple(wanted):
        given = f"{tuple(left.shape)} and {tuple(right.shape)}"
        raise ValueError(f"sizes {given} do not belong together; give the second as {tuple(wanted)}")
