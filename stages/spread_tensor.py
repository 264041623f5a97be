"""Layers in slices (tensor parallelism, Shoeybi et al. 2019): each rank of a group has some heads of every attention
and some of the inner width, and sums make the rest.

    what enters a sliced layer    is the same on all ranks of a group; its gradients are summed over them
    what leaves it                is summed over them, and the bias added once

Attention is sliced by heads, with T5's bias and ALiBi's slopes of those heads; `Inner` and every expert by inner width;
embeddings, norms, router and head are copies. Groups are of `ranks.together` neighbouring ranks, and share a batch
among them as single ranks do elsewhere. All of it is done to module instances (slices in place of weights, hooks, one
exchanged forward): the model's code knows nothing of it.

Promises: the numbers of one rank, but for the order of sums; ranks of a group compute the same bits, given they draw
the same dropout (seed by `ranks.share`). Weights that are sliced are DTensors for optimisers and checkpoints. A fused
weight (qkv; a gated layer's two halves) is sliced through each of its pieces, so its DTensor has rows in another order
than the model: `stored` puts weights and moments back into it, and what treats pieces apart (Muon by thirds) is not for
it. Costs a sum of the states over the group for each layer, forward and backward, and the head and its scores on every
rank. Refuses heads and widths that do not divide.
"""

import copy
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import DTensor, Replicate, Shard

from tundish.operators.model.experts import Experts
from tundish.operators.model.family import Across, Attention
from tundish.operators.model.layers import Inner, Linear
from tundish.operators.model.objective import gradients_of
from tundish.operators.model.relative import Buckets, Slopes
from tundish.stages.ranks import Ranks
from tundish.stages.spread import FREE, first_hand
from tundish.stages.spread_sharded import gathered


class Cut(NamedTuple):
    """A dimension of a weight, which consists of so many pieces that are sliced alike."""

    dim: int
    pieces: int = 1

    def slice(self, whole: Tensor, number: int, of: int) -> Tensor:
        each = whole.unflatten(self.dim, (self.pieces, -1)).chunk(of, self.dim + 1)[number]
        return each.flatten(self.dim, self.dim + 1).contiguous()

    def order(self, slices: Tensor, of: int) -> Tensor:
        """The whole, from all slices one behind the other."""
        return _swapped(slices, self.dim, of, self.pieces)

    def disorder(self, whole: Tensor, of: int) -> Tensor:
        return _swapped(whole, self.dim, self.pieces, of)


def _swapped(tensor: Tensor, dim: int, outer: int, inner: int) -> Tensor:
    return tensor.unflatten(dim, (outer, inner, -1)).transpose(dim, dim + 1).flatten(dim, dim + 2)


class Sliced:
    even = False  # groups do not wait for each other; in a group all compute the same parts

    def __init__(self, model: nn.Module, ranks: Ranks) -> None:
        self.model, self.ranks = model, ranks
        self.slices, self.number = ranks.together, ranks.rank % ranks.together
        _require(model, self.slices)
        first_hand(model, ranks)
        shape = (ranks.shares, self.slices)
        self.mesh = init_device_mesh(ranks.device.type, shape, mesh_dim_names=("data", "tensor"))
        self.group, self.data = self.mesh.get_group("tensor"), self.mesh.get_group("data")
        self.cuts: dict[str, Cut] = {}
        summed: set[nn.Parameter] = set()
        for name, module in list(model.named_modules()):
            self._slice(name, module)
            summed.update(_half(module))
        self.flat = gradients_of(model, free=FREE)
        self.size = len(self.flat) - FREE
        shared = (weight.grad for weight in model.parameters() if weight in summed)
        self.partial = [gradient for gradient in shared if gradient is not None]
        self.held = {name: self._weight(name, weight) for name, weight in model.named_parameters()}
        self.weights = list(self.held.values())

    def _slice(self, name: str, module: nn.Module) -> None:
        """Turn a layer into this rank's slice of it."""
        group, of = self.group, self.slices
        for path, cut in _cuts(module).items():
            holder, _, own = path.rpartition(".")
            inner = module.get_submodule(holder)
            weight = getattr(inner, own)
            if weight is not None:
                setattr(inner, own, nn.Parameter(cut.slice(weight.detach(), self.number, of), weight.requires_grad))
                self.cuts[f"{name}.{path}" if name else path] = cut
        if isinstance(module, (Attention, Across)):
            shape = module.shape
            module.shape = replace(shape, heads=shape.heads // of, head=shape.head_width)
            module.register_forward_pre_hook(partial(_attended, group), with_kwargs=True)
            _sum(module.out, group)
        elif isinstance(module, Inner):
            module.register_forward_pre_hook(partial(_given, group))
            _sum(module.down, group)
        elif isinstance(module, Experts):
            module.register_forward_pre_hook(partial(_given, group))
            module.register_forward_hook(partial(_routed, group, of))
        elif isinstance(module, Slopes):
            module.register_forward_hook(partial(_mine, self.number, of))

    def _weight(self, name: str, weight: nn.Parameter) -> nn.Parameter:
        """What optimisers move: the weight itself, or its slice as part of a whole; memory is the module's."""
        if name not in self.cuts:
            return weight
        spread = nn.Parameter(self._spread(weight.detach(), self.cuts[name]), weight.requires_grad)
        spread.grad = self._spread(weight.grad, self.cuts[name])  # type: ignore[arg-type]
        return spread

    def _spread(self, local: Tensor, cut: Cut) -> DTensor:
        return DTensor.from_local(local, self.mesh, (Replicate(), Shard(cut.dim)), run_check=False)

    def named(self) -> list[tuple[str, nn.Parameter]]:
        return list(self.held.items())

    def clear(self) -> None:
        self.flat.zero_()

    def backward(self, loss: Tensor, *, last: bool) -> None:
        loss.backward()

    def summed(self, numbers: Tensor) -> Tensor:
        self.flat[self.size : self.size + len(numbers)] = numbers
        if self.partial and self.slices > 1:
            both = torch.cat([each.flatten() for each in self.partial])
            dist.all_reduce(both, group=self.group)
            for each, found in zip(self.partial, both.split([each.numel() for each in self.partial]), strict=True):
                each.copy_(found.view_as(each))
        if self.ranks.shares > 1:
            dist.all_reduce(self.flat, group=self.data)
        return self.flat[self.size : self.size + len(numbers)].clone()

    def state(self) -> dict[str, Tensor]:
        return dict(self.held)

    @torch.no_grad()
    def stored(self, live: Mapping[str, Tensor]) -> dict[str, Tensor]:
        found = dict(live)
        for name, cut in self._disordered(live):
            whole = cut.order(live[name].full_tensor(), self.slices)  # type: ignore[attr-defined]
            found[name] = self._spread(whole.chunk(self.slices, cut.dim)[self.number].contiguous(), cut)
        return found

    @torch.no_grad()
    def restore(self, live: Mapping[str, Tensor], stored: Mapping[str, Tensor]) -> None:
        for name, cut in self._disordered(live):
            whole = cut.disorder(stored[name].full_tensor(), self.slices)  # type: ignore[attr-defined]
            live[name].to_local().copy_(whole.chunk(self.slices, cut.dim)[self.number])  # type: ignore[attr-defined]

    def _disordered(self, live: Mapping[str, Tensor]) -> list[tuple[str, Cut]]:
        """Tensors of several pieces: weights, or moments under a weight's name behind a word."""
        found = [(name, self.cuts.get(name) or self.cuts.get(name.partition(".")[2])) for name in live]
        return [(name, cut) for name, cut in found if cut and cut.pieces > 1 and isinstance(live[name], DTensor)]

    def whole(self) -> Mapping[str, Tensor]:
        return gathered(self.stored(self.state()), self.ranks)


def _cuts(module: nn.Module) -> dict[str, Cut]:
    """What of a module is sliced, and how."""
    if isinstance(module, Attention):
        fused = {"qkv.weight": Cut(0, 3), "qkv.bias": Cut(0, 3), "out.weight": Cut(1)}
        return fused if module.far is None else fused | {"far.weight": Cut(0, 2), "far.bias": Cut(0, 2)}
    if isinstance(module, Across):
        over = {"kv.weight": Cut(0, 2), "kv.bias": Cut(0, 2), "out.weight": Cut(1)}
        return {"q.weight": Cut(0), "q.bias": Cut(0)} | over
    if isinstance(module, Inner):
        halves = 2 if module.gated else 1
        return {"up.weight": Cut(0, halves), "up.bias": Cut(0, halves), "down.weight": Cut(1)}
    if isinstance(module, Experts):
        return {"up": Cut(1), "down": Cut(2)}
    return {"weight": Cut(1)} if isinstance(module, Buckets) else {}


def _half(module: nn.Module) -> list[nn.Parameter]:
    """Weights that are copies but see slices: each rank finds a part of their gradient."""
    if isinstance(module, Attention) and module.normed is not None:
        return list(module.normed.parameters())
    return [module.router] if isinstance(module, Experts) else []


def _require(model: nn.Module, slices: int) -> None:
    for module in model.modules():
        if isinstance(module, (Attention, Across)) and module.shape.heads % slices:
            raise ValueError(f"{module.shape.heads} heads do not divide among {slices} ranks; slice into fewer")
        width = module.down.in_features if isinstance(module, Inner) else 0
        width = module.up.shape[1] if isinstance(module, Experts) else width
        if width % slices:
            raise ValueError(f"an inner width of {width} does not divide among {slices} ranks; slice into fewer")


# what hooks do


class _Entering(torch.autograd.Function):
    """The same here; a gradient is the sum of all ranks'."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, group: dist.ProcessGroup) -> Tensor:
        ctx.group = group
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Any, ...]:
        grad = grads[0].clone(memory_format=torch.contiguous_format)
        dist.all_reduce(grad, group=ctx.group)
        return grad, None


class _Leaving(torch.autograd.Function):
    """The sum of all ranks'; a gradient is the same for each."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, group: dist.ProcessGroup) -> Tensor:
        found = x.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(found, group=group)
        return found

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Any, ...]:
        return grads[0], None


class _Alike(torch.autograd.Function):
    """The same here, and on all ranks: each gives its share of the gradient, since what entered sums them."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, ranks: int) -> Tensor:
        ctx.ranks = ranks
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Any, ...]:
        return grads[0] / ctx.ranks, None


def _attended(group: dist.ProcessGroup, module: nn.Module, args: tuple, kwargs: dict[str, Any]) -> tuple[tuple, dict]:
    """All that attention reads: states, who asks, embeddings of distances, an encoder's states."""
    x, around = args
    around = copy.copy(around)
    if isinstance(module, Across):
        states, packed = around.memory
        around.memory = _Entering.apply(states, group), packed
    elif around.far is not None:
        around.far = _Entering.apply(around.far, group)
    if kwargs.get("asking") is not None:
        kwargs = kwargs | {"asking": _Entering.apply(kwargs["asking"], group)}
    return (_Entering.apply(x, group), around), kwargs


def _given(group: dist.ProcessGroup, module: nn.Module, args: tuple) -> tuple:
    return _Entering.apply(args[0], group), *args[1:]


def _routed(group: dist.ProcessGroup, ranks: int, module: nn.Module, args: tuple, found: tuple) -> tuple:
    return _Leaving.apply(found[0], group), _Alike.apply(found[1], ranks)


def _mine(number: int, of: int, module: nn.Module, args: tuple, found: Tensor) -> Tensor:
    """The slopes of this rank's heads, from those of so many times as many."""
    return found.chunk(of, 1)[number]


def _sum(layer: Linear, group: dist.ProcessGroup) -> None:
    """Let a linear layer give the sum of all ranks' products."""

    def forward(x: Tensor) -> Tensor:
        found = _Leaving.apply(F.linear(x, layer.weight.to(x.dtype)), group)
        return found if layer.bias is None else found + layer.bias.to(x.dtype)

    layer.forward = forward  # type: ignore[method-assign]
