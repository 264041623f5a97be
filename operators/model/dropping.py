"""LayerDrop: blocks that are left out by lot in training, and smaller models of the blocks that are kept.

    with skipped(model.stack, gone(step, seed=1, layers=12, share=0.1)):
        loss = ...                               the forward pass; and the way back, where it computes anew
    shape, weights = thinned(shape, weights, spaced(12, 6))

A model trained so works with fewer blocks, without further training (Fan, Grave & Joulin 2020, "Reducing Transformer
Depth on Demand"). What is left out passes its input on, and costs nothing.

Promises: lots are a function of (seed, step); nothing of the model changes beyond the `with`; a thinned model gives
what the whole one gives with the others skipped. One block called many times (ALBERT) is skipped call by call. Refuses
layers that are not there, the last block of a DeBERTa that answers from it, and lists of layers to keep in which a
block would change its kind (local, with experts). A block that was compiled is compiled anew for what is left out.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import count
from typing import Any

from torch import Tensor

from tundish.operators.model.family import Around, Block, Stack
from tundish.operators.model.order import keyed
from tundish.operators.model.shape import Shape

LOTS = 72  # a stream of keys
STACKS = {"stack": "layers", "decoder": "decoder"}  # names of a model's stacks, and of their sizes in its shape


def gone(step: int, *, seed: int, layers: int, share: float) -> tuple[int, ...]:
    """Which of the layers are left out in a step, each by the chance `share`.

    >>> gone(3, seed=1, layers=12, share=0.2) == gone(3, seed=1, layers=12, share=0.2)
    True
    """
    if not 0 <= share < 1:
        raise ValueError(f"a share of {share} of the layers cannot be left out; give one from 0 to below 1")
    return tuple(layer for layer in range(layers) if keyed(seed, LOTS, step, layer) / 2**64 < share)


@contextmanager
def skipped(stack: Stack, layers: Collection[int]) -> Iterator[None]:
    """A stack (`model.stack`, `model.decoder`) without these layers. The last one of a DeBERTa with `enhanced` answers
    from absolute positions and stays, whatever is said."""
    if wrong := [layer for layer in layers if not 0 <= layer < stack.layers]:
        raise ValueError(f"there is no layer {wrong[0]} among {stack.layers}; number them from 0")
    left = set(layers) - ({stack.layers - 1} if stack.shape.enhanced else set())
    blocks = {0: left} if stack.shape.shared else {layer: {0} for layer in left}
    calls = stack.layers - bool(stack.shape.enhanced) + stack.shape.enhanced if stack.shape.shared else 1
    try:
        for number, these in blocks.items():
            block = stack.blocks[number]
            block.forward = _passing(block, these, calls)  # type: ignore[method-assign]
        yield
    finally:
        for number in blocks:
            stack.blocks[number].__dict__.pop("forward", None)


def _passing(block: Any, left: Collection[int], calls: int) -> Any:
    """A block's forward pass that gives back what it got in those of its `calls` that are `left` out."""
    number = count()

    def forward(x: Tensor, around: Around, asking: Tensor | None = None) -> Tensor:
        if next(number) % calls in left:
            return x  # never asked: the block that answers is not left out
        return Block.forward(block, x, around, asking)

    return forward


def spaced(layers: int, keep: int) -> tuple[int, ...]:
    """So many layers to keep, the first among them, as evenly as can be: "every other" of the paper for a half.

    >>> spaced(12, 6), spaced(6, 4)
    ((0, 2, 4, 6, 8, 10), (0, 1, 3, 4))
    """
    if not 1 <= keep <= layers:
        raise ValueError(f"{keep} of {layers} layers cannot be kept; give a number between 1 and {layers}")
    return tuple(number * layers // keep for number in range(keep))


def thinned(
    shape: Shape, weights: Mapping[str, Tensor], keep: Sequence[int], *, stack: str = "stack"
) -> tuple[Shape, dict[str, Tensor]]:
    """Shape and weights of the model of the layers to keep. `weights` by the names of `Model`, none of them copied;
    `stack`: or the `decoder` of a pair."""
    if stack not in STACKS:
        raise ValueError(f"{stack!r} is no stack of a model; choose one of {', '.join(STACKS)}")
    layers = getattr(shape, STACKS[stack])
    keep = tuple(keep)
    if not keep or list(keep) != sorted(set(keep)) or keep[0] < 0 or keep[-1] >= layers:
        raise ValueError(f"layers {list(keep)} of {layers} cannot be kept; give ascending numbers from 0")
    smaller = _smaller(shape, keep, stack)
    if shape.shared:
        return smaller, dict(weights)
    found, number = {}, {f"{stack}.blocks.{old}.": f"{stack}.blocks.{new}." for new, old in enumerate(keep)}
    for name, weight in weights.items():
        if not name.startswith(f"{stack}.blocks."):
            found[name] = weight
            continue
        old = ".".join(name.split(".")[:3]) + "."
        if old in number:
            found[number[old] + name.removeprefix(old)] = weight
    return smaller, found


def _smaller(shape: Shape, keep: tuple[int, ...], stack: str) -> Shape:
    if shape.enhanced and keep[-1] != shape.layers - 1:
        raise ValueError(f"layer {shape.layers - 1} answers from absolute positions; keep it, the last")
    if shape.span and keep[0] != 0:
        raise ValueError("a convolution stands beside layer 0; keep it, the first")
    for new, old in enumerate(keep):
        for kind, of in (("local", shape.local), ("with experts", shape.sparse_at)):
            if not shape.shared and of(new) != of(old):
                raise ValueError(
                    f"layer {old} would become layer {new}, where one is {'' if of(new) else 'not '}{kind}; "
                    "choose layers whose kinds come in the same order"
                )
    if stack == "decoder" and keep[0] and not shape.first_norm and shape.norm == "pre":
        raise ValueError("the decoder's first block has no norm before it and others do; keep layer 0, the first")
    normed = shape.first_norm or (keep[0] > 0 and not shape.shared)  # only a model's very first block can do without
    return replace(shape, first_norm=normed, **{STACKS[stack]: len(keep)})
