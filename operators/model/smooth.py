"""Smoother functions: a model is held to the same answer where only dropout, or its embedding, is a little different.

    R-drop    two passes with different dropout, and the divergence of their answers (Liang et al. 2021)
    SiFT      a pass in which the embedding is moved to where the answer changes most (Jiang et al. 2020, SMART; Miyato
              et al. 2018), measured on the normalised embedding (He et al. 2021, DeBERTa, section 5)

    first, second = twice(model, tokens, packed, types, seed=seed, step=step)
    loss = (class_loss(first, …) + class_loss(second, …)) / 2 + weight * rdrop(first, second, "classes")

    clean = passed(model, tokens, packed, types, seed=seed, step=step)
    rough = roughness(model, clean, tokens, packed, types, kind="classes", seed=seed, step=step)

Promises: dropout of each pass and the first move are functions of (seed, step), and torch's own stream is left alone;
`roughness` runs with the dropout of the clean pass, so that the move alone makes the difference; searching a move
touches no gradient of any weight. Costs: R-drop a second pass; SiFT one forward and one backward pass a search, and one
more forward. Refuses answers it has no divergence for.

A normalised embedding is one of mean 0 and deviation 1. The model is not made to normalise: a move of a normalised
embedding by d is one of the embedding by d times its deviation, and that is what is done, token by token.

N rows of answers, C classes, T tokens, D width.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from tundish.operators.model.depth import trunk_of
from tundish.operators.model.head_losses import Summed, wide
from tundish.operators.model.order import keyed
from tundish.operators.model.packed import Packed

KINDS = ("classes", "labels", "numbers")
DROPPED, MOVED = 75, 76  # two streams of keys
TINY = 1e-12


def divergence(first: Tensor, second: Tensor, kind: str, *, counted: Tensor | None = None) -> Summed:
    """KL both ways, added (Jeffreys), over (N, C) logits: of one choice among `classes`, or summed over `labels` that
    each hold or not; of `numbers` the squared difference. In nats; `counted` (N,) bool: rows that count."""
    if kind not in KINDS:
        raise ValueError(f"answers of {kind!r} have no divergence here; choose one of {', '.join(KINDS)}")
    first, second = wide(first), wide(second)
    if kind == "classes":
        a, b = first.log_softmax(-1), second.log_softmax(-1)
        each = (a.exp() - b.exp()) * (a - b)
    elif kind == "labels":
        each = (first.sigmoid() - second.sigmoid()) * (first - second)  # what the four terms come to
    else:
        each = (first - second).square()
    rows = each.flatten(1).sum(1) if each.dim() > 1 else each
    if counted is not None:
        rows = rows.masked_fill(~counted, 0.0)
    count = rows.new_tensor(float(len(rows))) if counted is None else counted.sum().to(rows.dtype)
    return Summed(rows.sum(), count)


def rdrop(first: Tensor, second: Tensor, kind: str, *, counted: Tensor | None = None) -> Summed:
    """Half of the divergence: the mean of both ways, equation 2 of the paper; of numbers the squared difference."""
    found = divergence(first, second, kind, counted=counted)
    return found if kind == "numbers" else Summed(found.total / 2, found.count)


@contextmanager
def drawing(key: int, like: Tensor) -> Iterator[None]:
    """What torch draws in here, dropout that is, depends on the key; its own stream goes on as if nothing had been."""
    with torch.random.fork_rng([like.device] if like.is_cuda else []):
        torch.manual_seed(key >> 1)
        yield


def passed(
    model: nn.Module, tokens: Tensor, packed: Packed, *given: Any, seed: int, step: int, number: int = 0, **named: Any
) -> Tensor:
    """What the model gives, with the dropout of pass `number` of a step."""
    with drawing(keyed(seed, DROPPED, step, number), tokens):
        found: Tensor = model(tokens, packed, *given, **named)
        return found


def twice(
    model: nn.Module, tokens: Tensor, packed: Packed, *given: Any, seed: int, step: int, **named: Any
) -> tuple[Tensor, Tensor]:
    """Two passes that differ in dropout."""
    first, second = (
        passed(model, tokens, packed, *given, seed=seed, step=step, number=number, **named) for number in (0, 1)
    )
    return first, second


@contextmanager
def moved(embedding: nn.Module, move: Tensor) -> Iterator[None]:
    """In here, what an embedding gives, (T, D), is moved by `move` (T, D) times each token's deviation."""

    def hook(module: nn.Module, given: Any, found: Tensor) -> Tensor:
        deviation = found.detach().to(move.dtype).std(-1, correction=0, keepdim=True)
        return found + (move * deviation).to(found.dtype)

    handle = embedding.register_forward_hook(hook)
    try:
        yield
    finally:
        handle.remove()


def roughness(
    model: nn.Module,
    clean: Tensor,
    tokens: Tensor,
    packed: Packed,
    *given: Any,
    kind: str,
    seed: int,
    step: int,
    start: float = 1e-2,
    rate: float = 1e-4,
    radius: float = 1.0,
    searches: int = 1,
    counted: Tensor | None = None,
    ask: Callable[[], Tensor] | None = None,
    **named: Any,
) -> Summed:
    """How far the answer comes from `clean`, which `passed` gave in this step, when every token's normalised embedding
    moves against it: from a normal move of deviation `start`, `searches` times by `rate` along the divergence's
    gradient over its largest number, never by more than `radius` in any number (SMART, section 3.1 and algorithm 1).
    Its gradient goes through both answers. `ask`: the whole of the clean pass once more, dropout included, where it was
    more than `passed`, as with weights of mixout: what differs then is the move alone.

    `start` and `rate` as DeBERTa's released code has them, in which the search is small beside the first move. SMART
    has it the other way, with a rate of 100 starts and a radius of one, and that of embeddings as they are."""
    trunk = trunk_of(model)
    move = first_move(tokens, trunk.shape.width, start, keyed(seed, MOVED, step)).clamp(-radius, radius)

    def answer(by: Tensor) -> Tensor:
        with moved(trunk.embedding, by):
            return ask() if ask is not None else passed(model, tokens, packed, *given, seed=seed, step=step, **named)

    for _ in range(searches):
        move.requires_grad_()
        with torch.enable_grad():
            apart = divergence(answer(move), clean.detach(), kind, counted=counted).total
            [slope] = torch.autograd.grad(apart, move)
        steepest = slope.abs().amax(-1, keepdim=True)
        move = (move + rate * slope / steepest.clamp(min=TINY)).detach().clamp(-radius, radius)
    return divergence(answer(move), clean, kind, counted=counted)


def first_move(tokens: Tensor, width: int, start: float, key: int) -> Tensor:
    """Where a search begins, (T, D) float32, cut at two deviations: at nothing a divergence has no slope."""
    source = torch.Generator(tokens.device).manual_seed(key >> 1)
    return torch.randn(len(tokens), width, generator=source, device=tokens.device).clamp(-2, 2) * start
