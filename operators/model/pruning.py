"""Pruning: heads, layers and single weights taken out of a fine-tuned model, those that matter least first.

    heads       importance: the mean over documents of |dL/dm|, m a factor of 1 on what a head gives (Michel, Levy &
                Neubig 2019); their weights leave the model, which is smaller and faster for it
    layers      from the top, every other, from the middle or the bottom, or those that change their states least
                (Sajjad et al. 2020: top, alternate, symmetric, bottom, contribution)
    magnitude   weights of the smallest size become zero, over all matrices or in each (Han et al. 2015); dense kernels
                are no faster and files no smaller for it. Gradually by 1 - (1 - t)^3 (Zhu & Gupta 2017, equation 1)

A model's layers have equally many heads (`Shape.heads`), so of each layer as many are taken, its own least important;
one block for all layers, and T5's bias of distances, which all layers share, have the same taken everywhere.

Promises: what stays computes what the whole model does with the rest masked; the given model is not changed but by
`hold`. Costs a forward and a backward pass for importance. Refuses what cannot be expressed: heads with ALiBi's slopes,
which follow from their number, and layers of another kind in the place of one.

L layers, H heads, d width of a head, N documents, T tokens.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tundish.operators.model.dropping import spaced, thinned
from tundish.operators.model.family import Model, Stack
from tundish.operators.model.heads import TRUNK, UNASKED, Tuned
from tundish.operators.model.mixout import linear_weights
from tundish.operators.model.shape import Shape

WAYS = ("top", "alternate", "symmetric", "bottom", "contribution")
SCOPES = ("global", "matrix")
Ask = Callable[[], Tensor]


def bare(model: Tuned) -> Tuned:
    """The same without what no head asks: the vocabulary's own head, BERT's pooler, a pair's decoder."""
    shape = model.encoder.shape
    stack = "encoder" if shape.stack == "pair" else shape.stack
    own = replace(shape, stack=stack, decoder=0, transform=False, head_bias=False, tied=True, pooler=False)
    weights = model.state_dict()
    gone = tuple(TRUNK + part for part in UNASKED)
    return rebuilt(model, own, {name: each for name, each in weights.items() if not name.startswith(gone)})


def rebuilt(model: Tuned, shape: Shape, weights: Mapping[str, Tensor]) -> Tuned:
    """A model of another shape with the same head, with copies of these weights by their names in `Tuned`."""
    classes = 0 if model.chooser is None else model.chooser.out_features
    with torch.device("meta"):
        made = Tuned(Model(shape), model.head, classes, dropout=model.dropout, form=model.form)
    made.load_state_dict({name: weight.detach().clone() for name, weight in weights.items()}, assign=True)
    return made.train(model.training)


# -- heads


def head_importance(model: Tuned, losses: Iterable[Ask]) -> Tensor:
    """(L, H), or (1, H) where one block is all layers: the mean over documents of |dL/dm|. Each of `losses` runs the
    model on some documents and gives the sum of their losses."""
    total, count = torch.zeros(()), 0
    for ask in losses:
        with gated(model) as gates:
            loss = ask()
            factors = list(gates.values())
            found = torch.autograd.grad(loss, factors)
        summed: dict[int, Tensor] = {}
        for (layer, _), each in zip(gates, found, strict=True):
            summed[layer] = summed.get(layer, 0.0) + each.abs().sum(0).double().cpu()
        total = total + torch.stack([summed[layer] for layer in sorted(summed)])
        count += sum(len(each) for (layer, _), each in gates.items() if layer == 0)
    if not count:
        raise ValueError("there are no documents to weigh heads by; give some")
    return (total / count).float()


@contextmanager
def gated(model: Tuned) -> Iterator[dict[tuple[int, int], Tensor]]:
    """Within it, what a head gives is multiplied by a factor of its own in every document, 1. They come to be as the
    model is run: (N, H) by block, and by the pass that met them."""
    gates: dict[tuple[int, int], Tensor] = {}
    with ExitStack() as hooks:
        passes: list[Any] = []  # kept, so that no two have one id
        for number, block in enumerate(model.encoder.stack.blocks):
            _gate(block.attention, number, gates, passes, hooks, model.encoder.shape.heads)
        yield gates


def _gate(
    attention: Any, layer: int, gates: dict[tuple[int, int], Tensor], passes: list[Any], hooks: ExitStack, heads: int
) -> None:
    def arrive(_: nn.Module, given: tuple[Any, ...]) -> None:
        passes.append(given[1])

    def leave(_: nn.Module, given: tuple[Tensor, ...]) -> tuple[Tensor]:
        [x], around = given, passes[-1]
        documents = around.packed.documents.long()
        key = layer, id(around)
        if key not in gates:  # one block called many times has one factor
            gates[key] = x.new_ones(len(around.packed.bounds) - 1, heads).requires_grad_()
        return ((x.unflatten(1, (heads, -1)) * gates[key][documents][:, :, None]).flatten(1),)

    for hook in (attention.register_forward_pre_hook(arrive), attention.out.register_forward_pre_hook(leave)):
        hooks.callback(hook.remove)


def kept_heads(importance: Tensor, keep: int, *, same: bool = False) -> list[list[int]]:
    """Numbers of the heads of each layer to keep, ascending; `same`: of all layers together, the same in each.

    >>> kept_heads(torch.tensor([[3.0, 1.0, 2.0], [0.0, 5.0, 4.0]]), 2)
    [[0, 2], [1, 2]]
    """
    by = importance.sum(0, keepdim=True).expand_as(importance) if same else importance
    return [sorted(row.argsort(descending=True, stable=True)[:keep].tolist()) for row in by]


def require_heads(shape: Shape, keep: int) -> None:
    """Refuse to keep so many heads of a layer, where that cannot be."""
    if not 1 <= keep <= shape.heads:
        raise ValueError(f"{keep} of {shape.heads} heads cannot be kept; give a number between 1 and {shape.heads}")
    if shape.positions == "alibi":
        raise ValueError("ALiBi's slopes follow from the number of heads, and would be others; prune layers instead")


def without_heads(model: Tuned, keep: Sequence[Sequence[int]]) -> Tuned:
    """The model of these heads of each block, equally many; the rest is cut out of its matrices."""
    shape, size = model.encoder.shape, model.encoder.shape.head_width
    require_heads(shape, len(keep[0]))
    if shape.positions == "buckets" and any(list(each) != list(keep[0]) for each in keep):
        raise ValueError("one bias of distances serves all layers of this model; keep the same heads in each")
    if model.encoder.decoder is not None:
        raise ValueError("the heads of a pair's decoder would have to go too; take it off first (`bare`)")
    weights = dict(model.state_dict())
    for layer, heads in enumerate(keep):
        inside = torch.tensor([head * size + at for head in heads for at in range(size)])
        name = f"{TRUNK}stack.blocks.{layer}.attention."
        for part, times in (("qkv", 3), ("far", 2)):
            places = torch.cat([inside + each * shape.heads * size for each in range(times)])
            for kind in ("weight", "bias"):
                _cut(weights, f"{name}{part}.{kind}", 0, places)
        _cut(weights, f"{name}out.weight", 1, inside)
    _cut(weights, f"{TRUNK}stack.bias.weight", 1, torch.tensor(list(keep[0])))
    return rebuilt(model, replace(shape, heads=len(keep[0]), head=size), weights)


def _cut(weights: dict[str, Tensor], name: str, dim: int, places: Tensor) -> None:
    if name in weights:
        weights[name] = weights[name].index_select(dim, places.to(weights[name].device))


# -- layers


def contributions(model: Tuned, passes: Iterable[Callable[[], Any]]) -> Tensor:
    """(L,): by how much each layer turns a token's state, 1 - cosine of what it gets and gives, the mean over tokens
    (Sajjad et al. 2020: layers whose output is like their input go first). Each of `passes` runs the model."""
    stack = model.encoder.stack
    total, count, calls = torch.zeros(stack.layers, dtype=torch.float64), [0.0], [0]

    def met(_: nn.Module, given: tuple[Any, ...], found: Tensor) -> None:
        layer = min(calls[0], stack.layers - 1)
        calls[0] += 1
        if calls[0] <= stack.layers:  # what answers once more (DeBERTa's last) is met at its first
            total[layer] += float((1 - F.cosine_similarity(given[0].float(), found.float(), dim=1)).sum())
            count[0] += len(found) if layer == 0 else 0

    with ExitStack() as hooks, torch.no_grad():
        for block in stack.blocks:
            hooks.callback(block.register_forward_hook(met).remove)
        hooks.callback(stack.register_forward_pre_hook(lambda *_: calls.__setitem__(0, 0)).remove)
        for each in passes:
            each()
    return (total / max(count[0], 1.0)).float()


def kept_layers(shape: Shape, keep: int, way: str = "top", importance: Tensor | None = None) -> tuple[int, ...]:
    """Which layers to keep when some are dropped by a `way`, ascending: those nearest to it in which every layer takes
    the place of one of its kind (local or not, with experts or not). `importance` (L,) for contribution.

    >>> six = Shape(9, 8, layers=6, heads=2, ff=8)
    >>> [kept_layers(six, 3, way) for way in WAYS[:4]]
    [(0, 1, 2), (0, 2, 4), (0, 1, 5), (3, 4, 5)]
    """
    layers = shape.layers
    if way not in WAYS:
        raise ValueError(f"layers are not dropped by {way!r}; choose one of {', '.join(WAYS)}")
    if not 1 <= keep <= layers:
        raise ValueError(f"{keep} of {layers} layers cannot be kept; give a number between 1 and {layers}")
    if way == "contribution":
        if importance is None or len(importance) != layers:
            raise ValueError("layers are dropped by what they contribute, and that is not given; give one number each")
        worth = [importance.tolist()] * keep
    else:
        first = -(-keep // 2)
        wish = {
            "top": range(keep),
            "alternate": spaced(layers, keep),
            "symmetric": (*range(first), *range(layers - keep + first, layers)),
            "bottom": range(layers - keep, layers),
        }[way]
        worth = [[-abs(old - place) for old in range(layers)] for place in wish]
    return _best(shape, keep, worth)


def _best(shape: Shape, keep: int, worth: Sequence[Sequence[float]]) -> tuple[int, ...]:
    """The ascending layers that may stand in each other's places and are worth most together."""
    best: list[dict[int, tuple[float, tuple[int, ...]]]] = [{-1: (0.0, ())}]
    for new in range(keep):
        here = {}
        for old in range(new, shape.layers):
            below = [found for last, found in best[-1].items() if last < old]
            if below and _fits(shape, keep, new, old):
                value, chosen = max(below, key=lambda found: found[0])
                here[old] = value + worth[new][old], (*chosen, old)
        best.append(here)
    if not best[-1]:
        raise ValueError(f"no {keep} of {shape.layers} layers can take each other's places; keep another number")
    return max(best[-1].values(), key=lambda found: found[0])[1]


def _fits(shape: Shape, keep: int, new: int, old: int) -> bool:
    """Whether a layer may take a place (see `thinned`)."""
    if (shape.enhanced and new == keep - 1 and old != shape.layers - 1) or (shape.span and new == 0 and old != 0):
        return False
    return shape.shared or (shape.local(new) == shape.local(old) and shape.sparse_at(new) == shape.sparse_at(old))


def without_layers(model: Tuned, keep: Sequence[int]) -> Tuned:
    """The model of these layers alone."""
    weights = model.state_dict()
    trunk = {name.removeprefix(TRUNK): each for name, each in weights.items() if name.startswith(TRUNK)}
    shape, kept = thinned(model.encoder.shape, trunk, keep)
    rest = {name: each for name, each in weights.items() if not name.startswith(TRUNK)}
    return rebuilt(model, shape, rest | {TRUNK + name: each for name, each in kept.items()})


# -- single weights


def masks_of(model: nn.Module, share: float, scope: str = "global") -> dict[str, Tensor]:
    """Which weights of linear layers in the trunk's blocks stay, by name, bool: all but that `share` of them that are
    smallest, of equal ones the first; exactly so many, over all together or in each matrix."""
    if not 0 <= share < 1:
        raise ValueError(f"a share of {share} of the weights cannot be zero; give one from 0 to below 1")
    if scope not in SCOPES:
        raise ValueError(f"weights are not ranked by {scope!r}; choose one of {', '.join(SCOPES)}")
    blocks = f"{TRUNK}stack.blocks."
    sizes = {n: model.get_parameter(n).detach().abs() for n in linear_weights(model) if n.startswith(blocks)}
    if scope == "matrix":
        return {name: _largest(size.flatten(), share).view_as(size) for name, size in sizes.items()}
    stays = _largest(torch.cat([size.flatten() for size in sizes.values()]), share)
    parts = stays.split([size.numel() for size in sizes.values()])
    return {name: part.view_as(size) for part, (name, size) in zip(parts, sizes.items(), strict=True)}


def _largest(sizes: Tensor, share: float) -> Tensor:
    stays = torch.ones_like(sizes, dtype=torch.bool)
    stays[sizes.argsort(stable=True)[: round(share * len(sizes))]] = False
    return stays


@torch.no_grad()
def hold(model: nn.Module, masks: Mapping[str, Tensor]) -> None:
    """Set to zero what the masks leave out, in place."""
    for name, mask in masks.items():
        model.get_parameter(name).mul_(mask)


def share_at(step: int, steps: int, share: float) -> float:
    """The share of zeros after a step, which grows to `share` at the last of `steps`.

    >>> [round(share_at(step, 4, 0.8), 3) for step in range(6)]
    [0.0, 0.463, 0.7, 0.788, 0.8, 0.8]
    """
    return share * (1 - (1 - min(1.0, step / max(1, steps))) ** 3)


def zeros(stack: Stack) -> tuple[int, int]:
    """Zeros among the weights of a stack's matrices, and how many they are."""
    found = [weight for weight in stack.parameters() if weight.dim() > 1]
    return sum(int((each == 0).sum()) for each in found), sum(each.numel() for each in found)
