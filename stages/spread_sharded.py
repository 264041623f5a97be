"""Weights in shards: each rank keeps a part of every weight, gradient and moment, and blocks are gathered as they run.

    before a block runs    its weights are gathered from all ranks, and let go after it
    behind its gradients   they are summed over the ranks, each rank keeping its shard of the sum

FSDP2 (`fully_shard`) does it, wrapped around the model from outside; `hybrid` keeps a copy on every group of so many
ranks, so that gathering stays inside a group. Where states are half precision, blocks travel in it too, half the bytes;
gradients are summed in float32, and so are the router of experts and all that is not in a block kept.

What is not in a block (embeddings, head, last norms, distances) is gathered when the model's forward begins and stays
until the backward pass has ended, because a loss reads the table and the head between the two. A block that runs more
than once (ALBERT's, DeBERTa's last) belongs to it as well, so that it is gathered and summed once.

Promises: the sums of `Copied`, by the same names, as DTensors. Costs, beside its shard, the block that runs, what is
not in blocks, and in a step of several parts whole gradients until the last. Refuses a hybrid that does not divide the
ranks. All ranks must go forward and backward equally often: see `spread.blank`.
"""

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor

from tundish.operators.model.experts import Experts
from tundish.operators.model.family import Block, Stack
from tundish.stages.ranks import Ranks
from tundish.stages.spread import first_hand


class Sharded:
    even = True

    def __init__(self, model: nn.Module, ranks: Ranks, *, states: torch.dtype | None = None, hybrid: int = 0) -> None:
        """`states`: what forward passes compute in, if not the weights' precision. `hybrid`: ranks of a group that
        holds all weights once; all ranks, if 0."""
        self.model, self.ranks = model, ranks
        mesh = _mesh(ranks, hybrid)
        first_hand(model, ranks)
        for block in apart(model):
            fully_shard(block, mesh=mesh, mp_policy=_precision(block, states), reshard_after_forward=True)
        fully_shard(model, mesh=mesh, mp_policy=_precision(model, None), reshard_after_forward=False)
        for module in self._modules():
            module.set_gradient_divide_factor(1.0)  # losses are divided by global counts already
            module.set_force_sum_reduction_for_comms(True)  # a factor would otherwise need NCCL's own reduction
        self.shards = dict(model.named_parameters())  # they stay the same for good
        self.weights = list(self.shards.values())

    def named(self) -> list[tuple[str, nn.Parameter]]:
        return list(self.shards.items())

    def clear(self) -> None:
        for weight in self.weights:
            weight.grad = None

    def backward(self, loss: Tensor, *, last: bool) -> None:
        self.model.set_requires_gradient_sync(last)  # type: ignore[operator]
        loss.backward()

    def summed(self, numbers: Tensor) -> Tensor:
        for weight in self.weights:
            if weight.grad is None:  # what no loss reaches has a gradient of nothing, as in one flat buffer
                weight.grad = torch.zeros_like(weight)
        return self.ranks.total(numbers.clone())

    def state(self) -> dict[str, Tensor]:
        for module in self._modules():
            module.reshard()  # what a forward pass without gradients left gathered is not what a checkpoint may fill
        return dict(self.shards)

    def stored(self, live: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return dict(live)

    def restore(self, live: Mapping[str, Tensor], stored: Mapping[str, Tensor]) -> None:
        """What is stored is what lives."""

    def whole(self) -> Mapping[str, Tensor]:
        return gathered(self.state(), self.ranks)

    def _modules(self) -> Iterator[FSDPModule]:
        return (module for module in self.model.modules() if isinstance(module, FSDPModule))


@torch.no_grad()
def gathered(tensors: Mapping[str, Tensor], ranks: Ranks) -> dict[str, Tensor]:
    """Whole tensors on rank 0's host, one after the other; all ranks must ask."""
    found = {}
    for name, tensor in tensors.items():
        full = tensor.full_tensor() if isinstance(tensor, DTensor) else tensor
        if ranks.rank == 0:
            found[name] = full.detach().cpu().clone()
    return found


def _mesh(ranks: Ranks, hybrid: int) -> DeviceMesh:
    kind, size = ranks.device.type, hybrid or ranks.world
    if size < 1 or ranks.world % size:
        raise ValueError(f"{ranks.world} ranks do not divide into groups of {size}; give a size that divides them")
    if size == ranks.world:
        return init_device_mesh(kind, (size,), mesh_dim_names=("shard",))
    return init_device_mesh(kind, (ranks.world // size, size), mesh_dim_names=("copy", "shard"))


def apart(model: nn.Module) -> Iterator[Block]:
    """Blocks that run once a forward pass."""
    for stack in model.modules():
        if isinstance(stack, Stack) and not stack.shape.shared:
            yield from list(stack.blocks)[: len(stack.blocks) - bool(stack.shape.enhanced)]  # type: ignore[misc]


def _precision(module: nn.Module, states: torch.dtype | None) -> MixedPrecisionPolicy:
    """Layers cast weights to what comes in, so a block's may come in that precision; a router's may not."""
    own = next(module.parameters()).dtype
    half = states not in (None, own) and not any(isinstance(each, Experts) for each in module.modules())
    return MixedPrecisionPolicy(
        param_dtype=states if half else None, reduce_dtype=own if half else None, cast_forward_inputs=False
    )
