"""Small tuned models with weights wide enough that a change in them shows, and a batch of documents for them."""

from dataclasses import replace

import numpy as np
import torch

from tundish.operators.model import heads
from tundish.operators.model.packed import packed
from tundish.operators.model.shape import Shape

TIGHT = {"atol": 1e-5, "rtol": 1e-5}
SHAPE = Shape(vocabulary=40, width=16, layers=2, heads=2, ff=24, length=32)
POST = replace(SHAPE, norm="post", positions="learned", bias=True, gated=False)
SHAPES = {
    "modern": replace(SHAPE, window=3, every=2),
    "bert": replace(POST, types=2),
    "albert": replace(POST, shared=True, embedding=8),
    "deberta": replace(POST, positions="disentangled", buckets=8, distance=16, enhanced=2),
    "gpt": replace(SHAPE, stack="decoder", positions="learned", first_norm=True, embedding_norm=False),
}


def batch(lengths=(5, 1, 9), seed=3):
    tokens = np.random.default_rng(seed).integers(3, SHAPE.vocabulary, sum(lengths))
    return torch.from_numpy(tokens), packed(np.cumsum([0, *lengths]))


def draws(*size, seed=0):
    return torch.randn(*size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def widened(model, by=6.0):
    with torch.no_grad():
        for weight in model.parameters():
            weight.mul_(by if weight.dim() > 1 else 1.0)
    return model


def model_of(shape=SHAPE, head="sequence", classes=3, **options):
    return widened(heads.begun(shape, head, classes, seed=4, **options))
