"""Positions as distances: T5's learned bias of buckets, ALiBi's slopes, DeBERTa's attention to content and distance.

Promises: what is added to a score depends on the distance of two places (and in DeBERTa on what stands there), so it
is the same wherever a document lies. Distances become buckets, and a learned bias what it adds, once for all layers of
a stack (`attention.seen`). Costs, for DeBERTa, two more products a layer and a gather of (L, M) a head.

n documents, H heads, L places that ask, M that are asked, d width of a head, P buckets to either side.
"""

import math
from functools import cache

import torch
from torch import Tensor, nn


def t5_bucket(ahead: Tensor, *, buckets: int, distance: int, causal: bool) -> Tensor:
    """Bucket of key minus query place: half of them for each distance, the rest logarithmic up to `distance` (Raffel et
    al. 2020, section 2.1); both directions have their own half unless `causal`."""
    found = torch.zeros_like(ahead)
    if causal:
        far = (-ahead).clamp(min=0)
    else:
        buckets //= 2
        found, far = (ahead > 0).long() * buckets, ahead.abs()
    exact = buckets // 2
    grown = torch.log(far.float().clamp(min=1) / exact) / math.log(distance / exact) * (buckets - exact)
    return found + torch.where(far < exact, far, (exact + grown.long()).clamp(max=buckets - 1))


def deberta_bucket(behind: Tensor, *, buckets: int, distance: int) -> Tensor:
    """Bucket of query minus key place, negative where the key lies behind: itself up to half of `buckets`, then
    logarithmic up to `distance` (He et al. 2021, DeBERTa-v2); the distance as it is where that is 0."""
    if not distance:
        return behind
    middle = buckets // 2
    size = behind.abs().clamp(min=middle)
    # all in float32, as the reference has it: what lies on the edge of a bucket falls as it does there
    last = torch.full((), (distance - 1) / middle, dtype=torch.float32, device=behind.device).log()
    grown = torch.ceil(torch.log(size / middle) / last * (middle - 1)) + middle
    return torch.where(behind.abs() <= middle, behind, (grown * behind.sign()).long())


class Buckets(nn.Module):
    """T5's bias: one number for each head and bucket, learned once and used in every layer of a stack."""

    def __init__(self, heads: int, *, buckets: int, distance: int, causal: bool) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(buckets, heads))
        self.buckets, self.distance, self.causal = buckets, distance, causal

    def forward(self, ahead: Tensor) -> Tensor:
        """(1, H, L, M) for places of keys minus those of queries, (L, M)."""
        number = t5_bucket(ahead, buckets=self.buckets, distance=self.distance, causal=self.causal)
        return self.weight[number].permute(2, 0, 1)[None]


class Slopes(nn.Module):
    """ALiBi: a score falls with the distance, in every head by another slope (Press et al. 2021); to both sides, as
    MosaicBERT has it. Learns nothing."""

    def __init__(self, heads: int) -> None:
        super().__init__()
        self.heads = heads

    def forward(self, ahead: Tensor) -> Tensor:
        """(1, H, L, M) for places of keys minus those of queries, (L, M)."""
        return (-_slopes(self.heads, ahead.device)[:, None, None] * ahead.abs())[None]


@cache
def _slopes(heads: int, device: torch.device) -> Tensor:
    return torch.tensor(slopes_of(heads), device=device)  # once: a copy to a GPU would be waited for


def slopes_of(heads: int) -> list[float]:
    """A geometric series from 2^(-8/n) for a power of two of heads; for others that of the power below, and every
    second one of the power above.

    >>> slopes_of(4), slopes_of(3)
    ([0.25, 0.0625, 0.015625, 0.00390625], [0.0625, 0.00390625, 0.25])
    """
    below = 1 << (heads.bit_length() - 1)
    found = [2.0 ** (-8.0 * (each + 1) / below) for each in range(below)]
    return found + [2.0 ** (-8.0 * (each + 1) / (2 * below)) for each in range(0, 2 * below, 2)][: heads - below]


class Distances:
    """DeBERTa's numbers of distances, which know nothing of what stands there."""

    def __init__(self, *, buckets: int, distance: int) -> None:
        self.buckets, self.distance = buckets, distance

    def __call__(self, ahead: Tensor) -> Tensor:
        """(L, M) int64 in 0 .. 2P - 1 for places of keys minus those of queries, (L, M)."""
        behind = deberta_bucket(-ahead, buckets=self.buckets, distance=self.distance)
        return (behind + self.buckets).clamp(0, 2 * self.buckets - 1)


def disentangled(q: Tensor, k: Tensor, far_q: Tensor, far_k: Tensor, number: Tensor) -> Tensor:
    """DeBERTa's two terms, (n, H, L, M): what stands here asks for a distance, and a distance asks for what stands
    there. q (n, H, L, d); k (n, H, M, d); far_q, far_k (H, 2P, d): the distances' embeddings through the same
    projections; `number` (L, M) of each distance."""
    asks = (q @ far_k.transpose(-1, -2)).gather(-1, number.expand(*q.shape[:2], *number.shape))
    other = number.t().expand(*k.shape[:2], *number.t().shape)
    asked = (k @ far_q.transpose(-1, -2)).gather(-1, other).transpose(-1, -2)
    return (asks + asked) / math.sqrt(3 * q.shape[-1])
