"""Fresh weights: a function of a seed and a shape.

Promises: the same weights for the same seed on every machine of one kind, drawn in float32 whatever they become. Costs
one pass; a model built on the meta device gets its memory here, so nothing is drawn twice.

    pre-norm    normal(0, 0.02) cut at two deviations; what is added to the residual stream divided by sqrt(2 layers)
                (Radford et al. 2019; Megatron's rule, ModernBERT's choice)
    post-norm   normal(0, 0.02) cut at two deviations (Devlin et al. 2019)
    T5          by the width of what comes in, since its scores are not divided by the root of a head's width (Raffel
                et al. 2020); embeddings of deviation 1. Experts a tenth of that (Fedus et al. 2021)
"""

import math

import torch
from torch import nn

from tundish.operators.model.shape import Shape

SPREAD = 0.02  # standard deviation
EXPERTS = 0.1  # of the variance elsewhere


def initialise(model: nn.Module, shape: Shape, *, seed: int) -> None:
    """Draw every weight of a model of this shape, or of one that holds such a model."""
    if any(weight.is_meta for weight in model.parameters()):
        model.to_empty(device="cpu")
    source = torch.Generator().manual_seed(seed)
    for name, weight in model.named_parameters():
        fresh = torch.zeros(weight.shape)
        if weight.dim() > 1:
            spread = _spread(name, weight, shape)
            nn.init.trunc_normal_(fresh, 0.0, spread, -2 * spread, 2 * spread, generator=source)
            if not shape.scaled and name.endswith("attention.qkv.weight"):
                fresh[: len(fresh) // 3] *= shape.head_width**-0.5  # the queries'
        elif name.endswith("weight"):
            fresh.fill_(1.0)
        with torch.no_grad():
            weight.copy_(fresh)


def _spread(name: str, weight: nn.Parameter, shape: Shape) -> float:
    if not shape.scaled:
        return _t5(name, weight, shape)
    layers = shape.layers + shape.decoder
    added = name.endswith(("attention.out.weight", "across.out.weight", "inner.down.weight", "inner.down"))
    return SPREAD / math.sqrt(2 * layers) if added and shape.norm == "pre" else SPREAD


def _t5(name: str, weight: nn.Parameter, shape: Shape) -> float:
    if name.endswith("embedding.weight"):
        return 1.0
    if name.endswith(("bias.weight", "head.weight")):  # of distances; of an untied vocabulary
        return shape.width**-0.5
    if name.endswith("across.q.weight"):
        return (shape.width * shape.head_width) ** -0.5
    scale = math.sqrt(EXPERTS) if weight.dim() == 3 or name.endswith("router") else 1.0
    return scale * weight.shape[-1] ** -0.5


def parameters_of(model: nn.Module) -> int:
    return sum(weight.numel() for weight in model.parameters())
