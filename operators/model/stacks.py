"""Weights of one shape as the rows of one matrix: an optimiser works once a shape instead of once a weight.

A model of 150 weights has some six shapes, so a step is some hundred kernels instead of thousands, without lists that
a compiler would have to unroll. Rows are copies of gradients and weights, and views of the optimiser's own state, which
is therefore still found by a weight's name.

Sharded weights (DTensor, as FSDP2 and tensor parallelism leave them): a row is the part that lies on this rank, and
what needs the whole weight says so: `total` adds over the ranks that hold its parts (one number a weight), `whole`
gathers the weights themselves on every rank (an all-gather of the stack), `own` cuts this rank's part back out.
Stacks are formed by the shapes of whole weights, so every rank forms the same ones in the same order.

Refuses weights below float32 (small steps would be rounded away), one weight under two names, and a stack of none.

n weights of a stack, m numbers of a weight (of its part on this rank).
"""

from collections.abc import Callable, Iterable, Sequence
from functools import partial, reduce
from itertools import starmap
from types import FunctionType
from typing import Any

import torch
from torch import Tensor, nn

# Numbers in a stack of several weights: on a GPU it bounds the room a step needs, on a CPU its rows stay in the cache.
LARGEST = {"cpu": 1 << 16}
LARGE = 1 << 26


def part(tensor: Tensor) -> Tensor:
    """What of a tensor lies on this rank; all of it, unless it is sharded."""
    return tensor.to_local() if _sharded(tensor) else tensor  # type: ignore[attr-defined,no-any-return]


def _sharded(tensor: Tensor) -> bool:
    return hasattr(tensor, "device_mesh")


def layout(tensor: Tensor) -> tuple[Any, ...]:
    """Where the parts of a tensor lie: mesh and placements; empty for a tensor that is whole."""
    return (tensor.device_mesh, tuple(tensor.placements)) if _sharded(tensor) else ()  # type: ignore[attr-defined]


def summed(vector: Tensor, placed: tuple[Any, ...]) -> Tensor:
    """Numbers of each rank's parts, added over the ranks of a layout that hold different ones. No host sync."""
    if not placed:
        return vector
    from torch.distributed.tensor import DTensor, Partial, Replicate

    mesh, placements = placed
    kinds = [Replicate() if each.is_replicate() else Partial() for each in placements]
    return DTensor.from_local(vector, mesh, kinds, run_check=False).full_tensor()


class Stack:
    """Named weights of one shape, dtype, device and layout."""

    def __init__(self, named: Sequence[tuple[str, nn.Parameter]]) -> None:
        self.names = [name for name, _ in named]
        self.weights = [weight for _, weight in named]
        first = self.weights[0]
        self.shape, self.layout, self.dtype = first.shape, layout(first), first.dtype

    def __len__(self) -> int:
        return len(self.names)

    def zeros(self) -> Tensor:
        """Room for one number per number of the weights, (n, m)."""
        own = part(self.weights[0].detach())
        return torch.zeros(len(self), own.numel(), dtype=own.dtype, device=own.device)

    def parts(self) -> list[Tensor]:
        """The weights themselves, as far as they lie here."""
        return [part(weight.detach()) for weight in self.weights]

    def values(self) -> Tensor:
        """Copies of the weights, (n, m); a single weight is seen, not copied."""
        return _rows(self.parts())

    def gradients(self) -> Tensor:
        """Gradients (n, m) in the weights' dtype; a weight without one reads 0."""
        found = [self._gradient(weight, own) for weight, own in zip(self.weights, self.parts(), strict=True)]
        return _rows(found).to(self.dtype)

    def _gradient(self, weight: nn.Parameter, mine: Tensor) -> Tensor:
        gradient = weight.grad
        if gradient is None:
            return torch.zeros_like(mine)
        if self.layout and layout(gradient) != self.layout:
            gradient = gradient.redistribute(*self.layout)  # type: ignore[attr-defined]
        return part(gradient)

    def cut(self, moves: Tensor) -> list[Tensor]:
        """Moves (n, m) in the shapes of `parts`."""
        return [row.view(own.shape) for row, own in zip(moves.unbind(0), self.parts(), strict=True)]

    def whole(self, rows: Tensor) -> Tensor:
        """Rows (n, m) of parts as whole matrices (n, *shape), on every rank."""
        if not self.layout:
            return rows.view(len(self), *self.shape)
        from torch.distributed.tensor import DTensor

        mesh, placements = self._shifted()
        stack = rows.view(len(self), *part(self.weights[0].detach()).shape)
        shape = torch.Size((len(self), *self.shape))
        stride = torch.empty(shape, device="meta").stride()
        return DTensor.from_local(stack, mesh, placements, run_check=False, shape=shape, stride=stride).full_tensor()

    def own(self, matrices: Tensor) -> Tensor:
        """Whole matrices (n, *shape), the same on every rank, as rows (n, m) of this rank's parts."""
        if self.layout:
            matrices = part(_cut(matrices.contiguous(), *self._shifted()))
        return matrices.reshape(len(self), -1)

    def _shifted(self) -> tuple[Any, list[Any]]:
        """The layout of a stack of the weights: their dimensions count from 1."""
        from torch.distributed.tensor import Replicate, Shard

        mesh, placements = self.layout
        for each in placements:
            if type(each) not in (Replicate, Shard):
                raise ValueError(
                    f"the weight {self.names[0]!r} is placed as {each}, which cannot be gathered; "
                    "shard it over one dimension of the mesh, or leave it to AdamW"
                )
        return mesh, [Shard(each.dim + 1) if type(each) is Shard else each for each in placements]

    def named(self, kind: str, rows: Tensor) -> dict[str, Tensor]:
        """Rows (n, m) of state under `kind.name`, as live views, sharded where the weights are."""
        found = {}
        for name, weight, row in zip(self.names, self.weights, rows.unbind(0), strict=True):
            view = row.view(part(weight.detach()).shape)
            if self.layout:
                from torch.distributed.tensor import DTensor

                view = DTensor.from_local(
                    view, *self.layout, run_check=False, shape=weight.shape, stride=weight.stride()
                )
            found[f"{kind}.{name}"] = view
        return found


def _rows(tensors: Sequence[Tensor]) -> Tensor:
    if len(tensors) == 1:
        return tensors[0].reshape(1, -1)
    return torch.stack([each.reshape(-1) for each in tensors])


class Stacks:
    """All stacks of an optimiser, and one number per weight as a column (N, 1) over them: what is said of weights is
    computed once a step."""

    def __init__(self, stacks: Iterable[Stack]) -> None:
        order: dict[tuple[Any, ...], list[Stack]] = {}
        for stack in stacks:
            order.setdefault(stack.layout, []).append(stack)
        self.groups = list(order.items())
        self.stacks = [stack for group in order.values() for stack in group]
        self.named = [each for stack in self.stacks for each in zip(stack.names, stack.weights, strict=True)]
        devices = {weight.device for _, weight in self.named}
        if len(devices) > 1:
            raise ValueError(
                f"weights lie on {', '.join(sorted(map(str, devices)))}; give those of each device an optimiser"
            )
        self.device = devices.pop()
        self.dtype = reduce(torch.promote_types, (stack.dtype for stack in self.stacks))
        self.given: dict[tuple[bool, ...], Tensor] = {}

    def column(self, value: Callable[[str, nn.Parameter], float], dtype: torch.dtype | None = None) -> Tensor:
        numbers = [[float(value(name, weight))] for name, weight in self.named]
        return torch.tensor(numbers, dtype=dtype or self.dtype, device=self.device)

    def rows(self, column: Tensor) -> list[Tensor]:
        """The part of a column that each stack has, (n, 1)."""
        parts = column.split([len(stack) for stack in self.stacks])
        return [part.to(stack.dtype) for part, stack in zip(parts, self.stacks, strict=True)]

    def keep(self, factor: Tensor | None) -> tuple[Tensor, bool]:
        """A column: 1 for each weight that has a gradient, 0 for the others, for all where `factor` is 0; and whether
        it is known to be all 1."""
        given = tuple(weight.grad is not None for _, weight in self.named)
        if given not in self.given:  # built once a pattern: a copy from the host would wait for the device
            self.given[given] = self.column(lambda _, weight: weight.grad is not None)
        keep = self.given[given]
        return (keep if factor is None else keep * (factor != 0)), factor is None and all(given)

    def totals(self, vectors: Sequence[Tensor]) -> Tensor:
        """Numbers (n,) of this rank's parts of each stack, summed over the ranks that hold the rest: a column."""
        found, at = [], 0
        for placed, group in self.groups:
            found.append(summed(torch.cat([each.to(self.dtype) for each in vectors[at : at + len(group)]]), placed))
            at += len(group)
        return torch.cat(found).unsqueeze(1)


def stacked(named: Iterable[tuple[str, nn.Parameter]]) -> list[Stack]:
    """The weights that learn, by shape, in the order in which a shape first comes."""
    groups: dict[tuple[Any, ...], list[list[tuple[str, nn.Parameter]]]] = {}
    seen: dict[int, str] = {}
    for name, weight in named:
        if not weight.requires_grad:
            continue
        if (other := seen.setdefault(id(weight), name)) != name:
            raise ValueError(f"{other!r} and {name!r} are one weight, which would move twice; give it under one name")
        if torch.finfo(weight.dtype).bits < 32:
            raise ValueError(
                f"{name!r} is kept in {weight.dtype}, which rounds small steps away; keep weights in float32 and "
                "compute in lower precision"
            )
        chunks = groups.setdefault((weight.shape, weight.dtype, weight.device, layout(weight)), [[]])
        if chunks[-1] and (len(chunks[-1]) + 1) * weight.numel() > LARGEST.get(weight.device.type, LARGE):
            chunks.append([])
        chunks[-1].append((name, weight))
    if not groups:
        raise ValueError("there is no weight that learns; give named parameters that require a gradient")
    return [Stack(chunk) for chunks in groups.values() for chunk in chunks]


def over(function: Callable[..., Any], compiled: bool) -> Callable[[Iterable[tuple]], Iterable[Any]]:
    """The function over the arguments of each stack: one at a time, or all `compiled` into one graph, since a graph for
    each shape would soon be more than torch.compile keeps."""

    def every(arguments: list[tuple]) -> list[Any]:
        return [function(*each) for each in arguments]

    if not compiled:
        return partial(starmap, function)
    # torch.compile keeps 8 graphs a code object: each function, and each optimiser of a process, has its own
    alone = FunctionType(every.__code__.replace(), globals(), "every", None, every.__closure__)
    whole = torch.compile(alone, dynamic=False)
    return lambda arguments: whole(list(arguments))


def restored(live: dict[str, Tensor], state: dict[str, Tensor]) -> None:
    """Copy a state of the same names over the live one; whole tensors are cut as the live ones are."""
    for name, tensor in live.items():
        if name not in state:
            raise ValueError(f"the optimiser's state holds no {name!r}; restore it into the model and options it is of")
        found = state[name]
        if (placed := layout(tensor)) and not layout(found):
            found = _cut(found.to(part(tensor).device), *placed)
        tensor.copy_(found)


def _cut(whole: Tensor, mesh: Any, placements: Sequence[Any]) -> Tensor:
    """A tensor that is the same on every rank, sharded; nothing is sent."""
    from torch.distributed.tensor import DTensor, Replicate

    same = DTensor.from_local(whole, mesh, [Replicate()] * len(placements), run_check=False)
    return same.redistribute(mesh, placements)
