"""Muon: matrices of the blocks move by the nearest orthogonal matrix to their momentum; everything else by AdamW.

Momentum is averaged, looked ahead (Nesterov) and orthogonalised by five Newton-Schulz steps (Jordan et al. 2024,
kellerjordan.github.io/posts/muon): all singular directions of a matrix learn at one speed. Matrices of one shape go
through the steps together, as one batched product after the other: on a GPU, 88 matrices of a 22-layer encoder are 4
chains of 15 products instead of 88. A fused matrix is taken apart by `parts` (query, key and value are three maps, and
each is orthogonal by itself); experts are a matrix each.

Promises: equal to `torch.optim.Muon` up to the rounding of the steps; nothing waits for the device; a step with
`factor` 0 and a weight without a gradient change nothing; state by name, one number per weight. Costs some 0.5 % of a
step of half a million tokens. Sharded matrices (FSDP2): momentum lives where the weight does; each rank gathers the
matrices of a stack and orthogonalises all of them, which is exact, and costs one all-gather of them a step and the
products on every rank. Refuses matrices that are placed in strides (FSDP2 over tensor parallelism), parts that do not
add up, and a choice of matrices that finds none.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping

import torch
from torch import Tensor

from tundish.operators.model.descent import AdamW, Named, StableAdamW
from tundish.operators.model.stacks import Stacks, over, restored, stacked

QUINTIC = (3.4445, -4.7750, 2.0315)  # steep at 0; leaves singular values between about 0.7 and 1.2
SMALLEST = 1e-7  # norm of a matrix that is not 0


def in_block(name: str, weight: Tensor) -> bool:
    """Whether a weight is a matrix of a numbered layer, or several of its experts', and so neither embedding nor head;
    a router is a head.

    >>> in_block("blocks.3.inner.up.weight", torch.ones(2, 2)), in_block("embedding.weight", torch.ones(2, 2))
    (True, False)
    """
    words = name.split(".")
    return weight.dim() in (2, 3) and any(word.isdigit() for word in words) and "router" not in words


def original(rows: int, columns: int) -> float:
    """Jordan's scale: a tall matrix takes longer steps. Its rate is Muon's own, about 0.02."""
    return math.sqrt(max(1.0, rows / columns))


def match_rms_adamw(rows: int, columns: int) -> float:
    """Moonshot's scale (Liu et al. 2025, arXiv 2502.16982): steps as long as AdamW's, so its rates and decay carry."""
    return 0.2 * math.sqrt(max(rows, columns))


SCALES = {"original": original, "match_rms_adamw": match_rms_adamw}


class Muon:
    """Muon over the `matrices` of named weights, `others` (AdamW or StableAdamW with its options) over the rest.

    `parts`: name -> rows of each part of a fused matrix. `ratio`: the matrices' rate over the rate of the others.
    `decay` of the matrices is per unit of their rate, or of rate over `peak` (see `descent`). `precision` of the
    Newton-Schulz steps: bfloat16 for weights in float32, else the weights' own.
    """

    def __init__(
        self,
        named: Named,
        *,
        matrices: Callable[[str, Tensor], bool] = in_block,
        parts: Mapping[str, tuple[int, ...]] | None = None,
        momentum: float = 0.95,
        nesterov: bool = True,
        scale: str = "match_rms_adamw",
        ratio: float = 1.0,
        decay: float = 0.1,
        peak: float | None = None,
        precision: torch.dtype | None = None,
        others: Callable[[Named], AdamW] = StableAdamW,
        compiled: bool = False,
    ) -> None:
        if scale not in SCALES:
            raise ValueError(f"the scale {scale!r} is not known; choose one of {', '.join(SCALES)}")
        if not 0 <= momentum < 1 or ratio <= 0 or decay < 0 or (peak is not None and peak <= 0):
            raise ValueError(
                f"momentum {momentum}, ratio {ratio}, decay {decay} and peak {peak} are no Muon; give a momentum in "
                "[0, 1), a ratio and a peak above 0 and a decay of at least 0"
            )
        weights = dict(named)
        chosen = [name for name, weight in weights.items() if weight.requires_grad and matrices(name, weight)]
        self.parts = self._checked(weights, chosen, parts or {})
        self.momentum, self.nesterov, self.ratio = momentum, nesterov, ratio
        self.scale, self.decay = SCALES[scale], decay / (peak * ratio if peak else 1.0)
        self.precision = precision
        self.averaged, self.turned = over(averaged, compiled), over(turned, compiled)
        alike: dict[tuple[int, ...], list[str]] = {}
        for name in chosen:
            alike.setdefault(self.parts.get(name, ()), []).append(name)
        self.stacks = Stacks(
            stack for names in alike.values() for stack in stacked((name, weights[name]) for name in names)
        )
        self.means = [stack.zeros() for stack in self.stacks.stacks]
        rest = [(name, w) for name, w in weights.items() if w.requires_grad and name not in set(chosen)]
        self.others = others(rest) if rest else None

    def _checked(
        self, weights: Mapping[str, Tensor], chosen: list[str], parts: Mapping[str, tuple[int, ...]]
    ) -> dict[str, tuple[int, ...]]:
        if not chosen:
            raise ValueError(f"none of {len(weights)} weights is a matrix for Muon; choose some, or take AdamW")
        for name in chosen:
            if weights[name].dim() not in (2, 3):
                raise ValueError(f"{name!r} is of shape {tuple(weights[name].shape)}, no matrix; leave it to AdamW")
        for name, rows in parts.items():
            if name not in chosen:
                raise ValueError(f"parts are given for {name!r}, which is no matrix here; the first is {chosen[0]!r}")
            if min(rows, default=0) < 1 or sum(rows) != weights[name].shape[-2]:
                raise ValueError(f"the parts {rows} of {name!r} are not its {weights[name].shape[-2]} rows; cut it so")
        return {name: tuple(rows) for name, rows in parts.items()}

    @torch.no_grad()
    def step(self, rate: float | Tensor, factor: Tensor | None = None) -> None:
        """Move every weight by its gradient at learning rate `rate`, times a 0-d `factor` on the device."""
        keep, sure = self.stacks.keep(factor)
        pace = keep * (-self.ratio * rate)
        paces = self.stacks.rows(pace if factor is None else pace * factor)
        turns = self.turned(self._matrices(self.averaged(self._gradients(keep, sure))))
        for stack, turn, own in zip(self.stacks.stacks, turns, paces, strict=True):
            move = stack.own(turn)
            if self.decay:
                move = move.add(stack.values(), alpha=self.decay)
            torch._foreach_add_(stack.parts(), stack.cut(move * own))
        if self.others:
            self.others.step(rate, factor)

    def _gradients(self, keep: Tensor, sure: bool) -> Iterator[tuple]:
        """What `averaged` takes, a stack at a time."""
        shares = self.stacks.rows(keep * (1 - self.momentum))
        keeps = [None] * len(shares) if sure else self.stacks.rows(keep)
        ahead = self.momentum if self.nesterov else None
        for stack, *columns in zip(self.stacks.stacks, keeps, self.means, shares, strict=True):
            yield stack.gradients(), *columns, ahead

    def _matrices(self, aheads: Iterable[Tensor]) -> Iterator[tuple]:
        """What `turned` takes, a stack at a time."""
        for stack, ahead in zip(self.stacks.stacks, aheads, strict=True):
            rows = self.parts.get(stack.names[0], (stack.shape[-2],))
            precision = self.precision or (torch.bfloat16 if ahead.dtype == torch.float32 else ahead.dtype)
            yield stack.whole(ahead), rows, self.scale, precision

    def state(self) -> dict[str, Tensor]:
        """Everything that is remembered, by name, alive: `momentum.` of each matrix, and what the others remember."""
        found: dict[str, Tensor] = {}
        for stack, mean in zip(self.stacks.stacks, self.means, strict=True):
            found |= stack.named("momentum", mean)
        return found | (self.others.state() if self.others else {})

    @torch.no_grad()
    def restore(self, state: Mapping[str, Tensor], steps: int) -> None:
        restored({name: tensor for name, tensor in self.state().items() if name.startswith("momentum.")}, dict(state))
        if self.others:
            self.others.restore(state, steps)


def averaged(gradient: Tensor, keep: Tensor | None, mean: Tensor, share: Tensor, ahead: float | None) -> Tensor:
    """Let a gradient (n, m) into its mean by a `share` (n, 1); the mean, or what it is `ahead` of itself. What is not
    to `keep` may be NaN, and has no share."""
    if keep is not None:
        gradient = torch.where(keep != 0, gradient, 0.0)
    mean.lerp_(gradient, share)
    return mean if ahead is None else gradient.lerp(mean, ahead)


def turned(
    matrices: Tensor, rows: tuple[int, ...], scale: Callable[[int, int], float], precision: torch.dtype
) -> Tensor:
    """Matrices (..., A, B) made orthogonal part by part and as long as they are to step; equal parts in one batch."""
    each = matrices.reshape(-1, *matrices.shape[-2:])
    even = len(set(rows)) == 1
    parts = [each.reshape(-1, rows[0], each.shape[2])] if even else each.split(rows, 1)
    found = [orthogonal(part, precision=precision).to(part.dtype) * scale(*part.shape[1:]) for part in parts]
    return (found[0] if even else torch.cat(found, 1)).reshape(matrices.shape)


def orthogonal(
    matrices: Tensor,
    *,
    steps: int = 5,
    coefficients: tuple[float, float, float] = QUINTIC,
    precision: torch.dtype = torch.float32,
) -> Tensor:
    """Matrices (n, A, B) with all singular values near 1 and their singular vectors kept; what is 0 stays 0.

    X <- a X + (b G + c G^2) X with G = X X', on the shorter side; with (15/8, -10/8, 3/8) it converges.
    """
    a, b, c = coefficients
    tall = matrices.shape[1] > matrices.shape[2]
    x = (matrices / matrices.norm(dim=(1, 2), keepdim=True).clamp(min=SMALLEST)).to(precision)
    x = x.mT if tall else x
    for _ in range(steps):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.mT if tall else x
