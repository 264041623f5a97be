"""Mixout: in training each weight is, by lot, what it was before fine-tuning (Lee, Cho & Kang 2020).

    weights = mixed(model, pretrained, 0.1, seed=seed, step=step)
    logits = call(model, weights, tokens, packed)

    mixed weight = (m u + (1 - m) w - p u) / (1 - p)       m: 1 by the chance p; u: pretrained, or 0

Promises: a mixed weight's expectation is the weight; lots are a function of (seed, step) on machines of one kind, and
torch's own stream is left alone; outside of training nothing is mixed; gradients reach the weights by the chain rule,
and none goes to the pretrained ones. Costs a copy and a mask of what is mixed, each step. Towards zero it is dropout
of weights (DropConnect, Wan et al. 2013). Refuses shares outside [0, 1), and pretrained weights that do not fit.

As in the paper, weights of linear layers are mixed, not norms, biases or embeddings; and none that is frozen.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from tundish.operators.model.layers import Linear
from tundish.operators.model.order import keyed

LOTS = 71  # a stream of keys


def linear_weights(model: nn.Module) -> list[str]:
    """Names of the weights of a model's linear layers."""
    layers = {name: each for name, each in model.named_modules() if isinstance(each, Linear)}
    return [f"{name}.weight" for name, each in layers.items() if "weight" in each._parameters]


def mixed(
    model: nn.Module,
    pretrained: Mapping[str, Tensor] | None,
    share: float,
    *,
    seed: int,
    step: int,
    names: Iterable[str] | None = None,
) -> dict[str, Tensor]:
    """Weights to call the model with, by name. `pretrained`: what they are mixed with, by the model's names; what it
    does not hold (a head) is not mixed; None: all are mixed with zero. `share`: chance of each number to be the
    pretrained one. `names`: of the weights to mix, instead of those of linear layers."""
    if not 0 <= share < 1:
        raise ValueError(f"a share of {share} cannot be mixed in; give one from 0 to below 1")
    if not model.training or share == 0:
        return {}
    chosen = linear_weights(model) if names is None else list(names)
    if pretrained is not None:
        chosen = [name for name in chosen if name in pretrained]
    weights = dict(model.named_parameters())
    sources: dict[torch.device, torch.Generator] = {}
    found = {}
    for name in chosen:
        if name not in weights:
            raise ValueError(f"{name!r} is no weight of the model; name weights as named_parameters does")
        weight = weights[name]
        if not weight.requires_grad:
            continue
        if weight.device not in sources:
            sources[weight.device] = torch.Generator(weight.device).manual_seed(keyed(seed, LOTS, step) >> 1)
        other = None if pretrained is None else pretrained[name].to(weight.device, weight.dtype).detach()
        if other is not None and other.shape != weight.shape:
            raise ValueError(
                f"{name} was {tuple(other.shape)} and is {tuple(weight.shape)}; give the weights it began from"
            )
        found[name] = _mixed(weight, other, share, sources[weight.device])
    return found


def _mixed(weight: Tensor, other: Tensor | None, share: float, source: torch.Generator) -> Tensor:
    lots = torch.rand(weight.shape, generator=source, device=weight.device)
    kept = (lots >= share).to(weight.dtype) / (1 - share)
    if other is None:
        return weight * kept
    return other + (weight - other) * kept  # the formula above, with u taken out


def call(model: nn.Module, weights: Mapping[str, Tensor], *given: Any, **named: Any) -> Any:
    """What the model gives with these weights in the place of its own."""
    return functional_call(model, dict(weights), given, named) if weights else model(*given, **named)
