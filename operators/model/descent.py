"""How weights move: AdamW, and AdamW that does not leap, over named weights.

`StableAdamW` shortens a weight's step where its gradient outruns its own second moment (root mean square of gradient
over expectation above 1), which takes the place of gradient clipping (Wortsman et al. 2023, arXiv 2304.13013; used so
by ModernBERT). Both correct the moments' bias.

Promises: nothing in `step` waits for the device; the same gradients give the same bits; a step with `factor` 0, and a
weight without a gradient, change neither weight nor moments nor their count, even where gradients are NaN. State is
tensors under the weights' names, so a checkpoint needs no pickle. Costs two numbers per weight, and passing room for
about four more per number of the largest stack (see `stacks`). Sharded weights (FSDP2) move where they lie; StableAdamW
adds up one number per weight over the ranks. Refuses what `stacks` refuses.

Decay takes w * rate * decay from a weight; with `peak`, the highest rate of the schedule, it is fully decoupled:
w * (rate / peak) * decay, so that the right decay does not depend on the rate while it follows the schedule's form
(what the optimi library calls decouple_lr and ModernBERT uses: 1e-5 there stands for 0.0125 here at a peak of 8e-4).
In StableAdamW the shortened rate shortens the decay too, as in the paper.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import torch
from torch import Tensor, nn

from tundish.operators.model.stacks import Stacks, over, restored, stacked

Named = Iterable[tuple[str, nn.Parameter]]


def matrices_decay(name: str, weight: Tensor) -> bool:
    """Matrices and embeddings decay; norms and biases do not."""
    return weight.dim() > 1


def groups(model: nn.Module, *, decay: float) -> list[dict]:
    """Parameter groups for a torch optimiser, by the same rule."""
    named = [(name, weight) for name, weight in model.named_parameters() if weight.requires_grad]
    return [
        {"params": [w for name, w in named if matrices_decay(name, w)], "weight_decay": decay},
        {"params": [w for name, w in named if not matrices_decay(name, w)], "weight_decay": 0.0},
    ]


class AdamW:
    """Adam with decoupled decay (Loshchilov & Hutter 2019), equal to `torch.optim.AdamW` where that has its options.

    `decays` says which weights decay; `rates` gives factors on the rate by name; `compiled` compiles the arithmetic of
    a step by torch.compile, for CUDA, which then works on all stacks at once and so needs a copy of all gradients.
    """

    stable = False

    def __init__(
        self,
        named: Named,
        *,
        betas: tuple[float, float] = (0.9, 0.98),
        eps: float = 1e-6,
        decay: float = 0.01,
        peak: float | None = None,
        decays: Callable[[str, Tensor], bool] = matrices_decay,
        rates: Mapping[str, float] | None = None,
        compiled: bool = False,
    ) -> None:
        if not (0 <= betas[0] < 1 and 0 <= betas[1] < 1 and eps > 0 and decay >= 0):
            raise ValueError(
                f"betas {betas}, eps {eps} and decay {decay} are no AdamW; give betas in [0, 1), eps above 0 and a "
                "decay of at least 0"
            )
        if peak is not None and peak <= 0:
            raise ValueError(f"decay cannot be told in shares of a peak rate of {peak}; give the schedule's highest")
        self.betas, self.eps = betas, eps
        self.taken, self.moved = over(taken, compiled), over(moved, compiled)
        self.stacks = stacks = Stacks(stacked(named))
        if unknown := set(rates or {}) - {name for name, _ in stacks.named}:
            raise ValueError(f"there are rates for {sorted(unknown)}, which are no weights; name weights that learn")
        self.mean = [stack.zeros() for stack in stacks.stacks]
        self.square = [stack.zeros() for stack in stacks.stacks]
        self.count = stacks.column(lambda *_: 0, torch.float64)  # steps that made the moments, (N, 1)
        self.size = stacks.column(lambda _, weight: weight.numel())
        self.pace = stacks.column(lambda name, _: (rates or {}).get(name, 1.0))
        self.decay = stacks.column(lambda name, weight: decay / (peak or 1.0) if decays(name, weight) else 0.0)
        decaying = [decay > 0 and any(map(decays, stack.names, stack.weights)) for stack in stacks.stacks]
        self.decays = [each if any_ else None for each, any_ in zip(stacks.rows(self.decay), decaying, strict=True)]

    @torch.no_grad()
    def step(self, rate: float | Tensor, factor: Tensor | None = None) -> None:
        """Move every weight by its gradient at learning rate `rate`, times a 0-d `factor` on the device."""
        keep, sure = self.stacks.keep(factor)
        self.count += keep
        powers = list(self.taken(self._gradients(keep, sure)))
        pace = self.pace * keep * rate if factor is None else self.pace * keep * rate * factor
        if self.stable:
            pace = pace / (self.stacks.totals(powers) / self.size).sqrt().clamp(min=1.0)
        for stack, move in zip(self.stacks.stacks, self.moved(self._moments(-pace)), strict=True):
            torch._foreach_add_(stack.parts(), stack.cut(move))

    def _gradients(self, keep: Tensor, sure: bool) -> Iterator[tuple]:
        """What `taken` takes, a stack at a time."""
        first, second = (self.stacks.rows(fresh(beta, self.count).to(keep.dtype) * keep) for beta in self.betas)
        keeps: Sequence[Tensor | None] = [None] * len(first) if sure else self.stacks.rows(keep)
        least = self.eps**2 if self.stable else None
        for stack, *columns in zip(self.stacks.stacks, keeps, self.mean, self.square, first, second, strict=True):
            yield stack.gradients(), *columns, least

    def _moments(self, pace: Tensor) -> Iterator[tuple]:
        """What `moved` takes, a stack at a time."""
        for stack, mean, square, decay, own in zip(
            self.stacks.stacks, self.mean, self.square, self.decays, self.stacks.rows(pace), strict=True
        ):
            yield mean, square, None if decay is None else stack.values(), decay, own, self.eps

    def state(self) -> dict[str, Tensor]:
        """Everything that is remembered, by name, alive: `mean.`, `square.`, `count.` (steps) of each weight."""
        found = {f"count.{name}": self.count[row, 0] for row, (name, _) in enumerate(self.stacks.named)}
        for stack, mean, square in zip(self.stacks.stacks, self.mean, self.square, strict=True):
            found |= stack.named("mean", mean) | stack.named("square", square)
        return found

    @torch.no_grad()
    def restore(self, state: Mapping[str, Tensor], steps: int) -> None:
        """Go on from a state; one without counts, as from another trainer, made them in `steps` steps."""
        live = self.state()
        counts = {name: torch.tensor(float(steps)) for name in live if name.startswith("count.")}
        restored(live, counts | dict(state))


class StableAdamW(AdamW):
    """AdamW with update clipping: see the top."""

    stable = True


# the arithmetic, on a stack: n weights of m numbers


def taken(
    gradient: Tensor,
    keep: Tensor | None,
    mean: Tensor,
    square: Tensor,
    first: Tensor,
    second: Tensor,
    least: float | None,
) -> Tensor | None:
    """Let a gradient (n, m) into its means by the shares `first` and `second` (n, 1); the sum of its squares over their
    expectations (n,), of at least `least`, where that is given. What is not to `keep` may be NaN, and has no share."""
    if keep is not None:
        gradient = torch.where(keep != 0, gradient, 0.0)
    mean.lerp_(gradient, first)
    power = gradient.square()
    square.lerp_(power, second)
    return None if least is None else power.div_(square.clamp(min=least)).sum(1)


def fresh(beta: float, count: Tensor) -> Tensor:
    """Share of the newest value in a bias-corrected running mean: (1 - beta) / (1 - beta^t).

    >>> fresh(0.5, torch.tensor([1.0, 2.0, 60.0])).tolist()
    [1.0, 0.6666666865348816, 0.5]
    """
    return (1 - beta) / (1 - beta ** count.clamp(min=1.0))


def moved(
    mean: Tensor, square: Tensor, values: Tensor | None, decay: Tensor | None, pace: Tensor, eps: float
) -> Tensor:
    """How far weights move (n, m): their normed means and decay, at their pace (n, 1)."""
    move = square.sqrt().add_(eps)
    torch.div(mean, move, out=move)  # in place: fresh room costs more than arithmetic on a CPU
    if decay is not None:
        move.addcmul_(values, decay)
    return move.mul_(pace)
