"""What is done to a model block by block, from outside: blocks compiled, blocks computed anew in the backward pass.

    recomputed(compiled(model), every=2)    both; before weights are spread or after
    before = compilations()                 after the first steps; no step of the same shapes adds to it

A block's `forward` is exchanged on the instance, so parameters keep their names and whatever gathers or slices weights
by hooks still runs around it. Blocks of one kind (with or without a first norm, local or not) share their compiled
code, and so do the chunks in which a head goes over its scores. Of a block with experts only the attention is compiled:
how many tokens an expert takes, the host alone knows.

Promises: losses and gradients as without, but for rounding where compiled. Costs a minute of compiling at the start,
some seconds for each kind of block, and for a block that is computed anew a second forward pass instead of its
activations. Refuses, as torch.compile does, code that cannot be compiled whole.

Shapes have to stay the same from batch to batch (`batch.Static`, a fixed `longest`). Attention by groups has others
each time, so what is compiled on a CPU is packed in rows (`grouped=False`).
"""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, TypeVar

import torch
import torch._dynamo
from torch import nn
from torch._dynamo.utils import counters
from torch.utils.checkpoint import checkpoint

from tundish.operators.model.experts import Experts
from tundish.operators.model.family import Block
from tundish.operators.model.layers import Head
from tundish.operators.model.losses import fused

M = TypeVar("M", bound=nn.Module)

KINDS = 64  # of blocks there may be: by norm, window and width, each with gradients and without, learning or not


def compiled(model: M, **options: Any) -> M:
    """Every block compiled at its first use; `options` go to torch.compile."""
    torch._dynamo.config.recompile_limit = max(torch._dynamo.config.recompile_limit, KINDS)
    for block in _blocks(model):
        inside = (block.attention, block.across) if isinstance(block.inner, Experts) else (block,)
        for module in inside:
            if module is not None:
                _exchange(module, torch.compile(module.forward, fullgraph=True, dynamic=False, **options))
    for module in model.modules():
        if isinstance(module, Head):
            module.fused = torch.compile(fused, fullgraph=True, dynamic=False, **options)
    return model


def recomputed(model: M, *, every: int = 1) -> M:
    """Each so-manieth block keeps nothing but what it was given, and computes the rest anew when gradients come."""
    if every < 1:
        raise ValueError(f"each {every}th block is none; give 1 for all blocks, 2 for every second")
    for block in list(_blocks(model))[::every]:
        # the same dropout twice needs the state of the generators, which is asked for only then
        again = partial(checkpoint, block.forward, use_reentrant=False, preserve_rng_state=block.shape.dropout > 0)
        _exchange(block, again)
    return model


def compilations() -> int:
    """How often this process has compiled something so far, the optimiser's arithmetic as well."""
    return int(counters["stats"]["unique_graphs"])


def _exchange(module: nn.Module, forward: Callable[..., Any]) -> None:
    module.forward = forward  # type: ignore[method-assign]


def _blocks(model: nn.Module) -> Iterator[Block]:
    return (module for module in model.modules() if isinstance(module, Block))
