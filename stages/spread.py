"""How a model lies on the ranks of a training: what the loop asks of it, and the plain way, a copy on every rank.

    copied     each rank has all weights; gradients are one flat buffer that is summed once a step
    sharded    each rank has a part of every weight (`spread_sharded`)
    sliced     each rank has some heads and some of the inner width (`spread_tensor`)

Promises: after `summed` the gradients are those of the global batch, whichever way weights lie; `stored` and `whole`
are the same for all. Costs, copied, one buffer the size of the weights beside them. The model knows nothing of it.
"""

from collections.abc import Mapping
from typing import Protocol

import torch
from torch import Tensor, nn

from tundish.operators.model.batch import IGNORED
from tundish.operators.model.objective import Detection, Part, gradients_of
from tundish.stages.pretrain_task import PretrainTask
from tundish.stages.ranks import Ranks

FREE = 16  # numbers that are summed along with the gradients


class Spread(Protocol):
    """`even`: all ranks must go forward, and backward, equally often; who has fewer parts goes on with `blank` ones."""

    model: nn.Module
    weights: list[nn.Parameter]  # that learn
    even: bool

    def named(self) -> list[tuple[str, nn.Parameter]]:
        """Weights that learn, by the names they have where all lie on one rank."""

    def clear(self) -> None:
        """Gradients to nothing, before a step."""

    def backward(self, loss: Tensor, *, last: bool) -> None:
        """Gradients of a part of the batch, added; `last`: no other part follows in this step."""

    def summed(self, numbers: Tensor) -> Tensor:
        """Gradients summed over ranks, and `numbers` (n <= FREE,) with them."""

    def state(self) -> dict[str, Tensor]:
        """Weights by name: whole tensors or DTensors, the very ones that learn."""

    def stored(self, live: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Weights, or moments under a weight's name behind a word, as a checkpoint takes them and fills them: in the
        order they have where all lie on one rank. The very tensors given where nothing has to move. All ranks ask."""

    def restore(self, live: Mapping[str, Tensor], stored: Mapping[str, Tensor]) -> None:
        """What a checkpoint filled into `stored`, back where it lives."""

    def whole(self) -> Mapping[str, Tensor]:
        """All weights on the CPU, on rank 0; the others, which must ask as well, get nothing."""


class Copied:
    even = False

    def __init__(self, model: nn.Module, ranks: Ranks) -> None:
        self.model, self.ranks = model, ranks
        first_hand(model, ranks)
        self.weights = list(model.parameters())
        self.flat = gradients_of(model, free=FREE)
        self.size = len(self.flat) - FREE

    def named(self) -> list[tuple[str, nn.Parameter]]:
        return list(self.model.named_parameters())

    def clear(self) -> None:
        self.flat.zero_()

    def backward(self, loss: Tensor, *, last: bool) -> None:
        loss.backward()

    def summed(self, numbers: Tensor) -> Tensor:
        self.flat[self.size : self.size + len(numbers)] = numbers
        self.ranks.total(self.flat)
        return self.flat[self.size : self.size + len(numbers)].clone()

    def state(self) -> dict[str, Tensor]:
        return dict(self.named())

    def stored(self, live: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return dict(live)

    def restore(self, live: Mapping[str, Tensor], stored: Mapping[str, Tensor]) -> None:
        """What is stored is what lives."""

    def whole(self) -> Mapping[str, Tensor]:
        return {} if self.ranks.rank else {name: weight.detach().cpu() for name, weight in self.named()}


def spread_of(task: PretrainTask, model: nn.Module, ranks: Ranks, *, compiled: bool) -> Spread:
    """The way a task asks for, its blocks compiled and computed anew as it says."""
    from tundish.stages import blockwise, spread_sharded, spread_tensor

    if ranks.together > 1 and task.spread != "copied":
        raise ValueError(
            f"heads shared by {ranks.together} ranks cannot be {task.spread} as well; leave one of them out"
        )
    if ranks.together > 1 and task.optimizer == "muon":
        raise ValueError(
            f"muon needs all of a matrix, and {ranks.together} ranks share it; shard instead, or use adamw"
        )
    if compiled:
        blockwise.compiled(model)
    if task.recompute:
        blockwise.recomputed(model, every=task.recompute)
    if ranks.together > 1:
        return spread_tensor.Sliced(model, ranks)
    if task.spread == "sharded" and ranks.world > 1:
        return spread_sharded.Sharded(model, ranks, states=precision_of(task.dtype)[1])
    return Copied(model, ranks)


def first_hand(model: nn.Module, ranks: Ranks) -> None:
    """To the ranks' device, with rank 0's weights: machines of several kinds do not draw the same bits."""
    model.to(ranks.device)
    if isinstance(model, Detection):
        model.tie()
    for weight in model.parameters():
        ranks.first(weight.data)


def blank(part: Part) -> Part:
    """A part that adds nothing to any loss or gradient."""
    return part._replace(present=torch.zeros_like(part.present), labels=torch.full_like(part.labels, IGNORED))


def precision_of(name: str) -> tuple[torch.dtype, torch.dtype]:
    """Precision of the weights and of the states, for a name in a recipe."""
    known = {
        "float32": (torch.float32, torch.float32),
        "bfloat16": (torch.float32, torch.bfloat16),
        "float16": (torch.float32, torch.float16),
        "float64": (torch.float64, torch.float64),
    }
    if name not in known:
        raise ValueError(f"training in {name!r} is not known; choose one of {', '.join(known)}")
    return known[name]
