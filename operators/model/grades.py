"""Probabilities of a fine-tuned classifier for many texts: batched by length, on whatever device it is handed.

Promises: the same weights and tokens give the same probabilities, in whatever company (to about 1e-6, which padding
to another length moves). Costs one forward pass a text; memory of `budget` tokens. Refuses weights that are not those
of the shape in the configuration.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from safetensors.torch import load as tensors_of
from torch import Tensor

from tundish.operators.model.classifier import Classifier
from tundish.operators.model.family import Model
from tundish.operators.model.shape import Shape


def classifier_of(config: Mapping[str, Any], weights: bytes, device: str | torch.device = "cpu") -> Classifier:
    """What fine-tuning left (`config.json` as a value, the bytes of `model.safetensors`), ready to ask."""
    with torch.device("meta"):
        model = Classifier(Model(Shape(**config["shape"])), config["classes"], pooling=config["pooling"])
    try:
        model.load_state_dict(tensors_of(weights), assign=True)
    except RuntimeError as error:
        raise ValueError(f"the weights are not those of the shape beside them ({error}); restore both files") from None
    return model.float().eval().to(device)


@torch.no_grad()
def probabilities(
    model: Classifier, texts: Sequence[Sequence[int]], specials: Mapping[str, int], *, budget: int = 16_384
) -> np.ndarray:
    """(n, C) float64 for `texts`, token ids without [CLS] and [SEP]; what the model cannot hold is cut.

    `budget`: most tokens of a batch, padding included.
    """
    device, room = next(model.parameters()).device, model.encoder.shape.length - 2
    sizes = np.array([min(len(text), room) + 2 for text in texts], np.int64)
    found = np.zeros((len(texts), model.chooser.out_features))
    for rows in _batches(sizes, budget):
        tokens = np.full((len(rows), sizes[rows].max()), specials["[PAD]"], np.int64)
        for at, row in enumerate(rows):
            tokens[at, : sizes[row]] = [specials["[CLS]"], *texts[row][:room], specials["[SEP]"]]
        present = np.arange(tokens.shape[1]) < sizes[rows, None]
        given: list[Tensor] = [torch.from_numpy(each).to(device) for each in (tokens, present)]
        found[rows] = model(*given).double().softmax(1).cpu().numpy()
    return found


def _batches(sizes: np.ndarray, budget: int) -> Iterator[np.ndarray]:
    """Rows by length, as many together as `budget` allows, at least one."""
    order = np.argsort(sizes, kind="stable")
    start = 0
    for at in range(1, len(order) + 1):
        if at == len(order) or (at + 1 - start) * sizes[order[at]] > budget:
            yield order[start:at]
            start = at
