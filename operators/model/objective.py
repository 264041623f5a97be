"""Masked-language modelling: rows become inputs and what is to be guessed from them, and a loss that adds up.

Promises: the loss of a batch is the sum of the losses of its parts, however it is cut; states are turned into logits
only where a token is hidden.

B rows, L places of a row, K hidden tokens.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from tundish.operators.model.encoder import Encoder
from tundish.operators.model.scores import masked_loss
from tundish.operators.model.stream import Batch


class Part(NamedTuple):
    """Rows of one forward pass: inputs, segments and positions (B, L), and of what is hidden the places (K,) in the
    flattened rows and the labels (K,)."""

    inputs: Tensor
    segments: Tensor
    positions: Tensor
    places: Tensor
    labels: Tensor


def part_of(batch: Batch, device: torch.device) -> Part:
    """Rows of the stream on a device, as whole rows under a mask."""
    arrays = (batch.inputs, *batch.spread(), batch.places, batch.labels)
    return Part(*(torch.from_numpy(each).to(device) for each in arrays))


def loss_of(model: Encoder, part: Part) -> tuple[Tensor, int]:
    """Sum of the losses in nats of what is hidden, and their number K."""
    states = model(part.inputs, part.segments, part.positions).flatten(0, 1)
    return masked_loss(model.logits(states[part.places]), part.labels)


def gradients_of(model: nn.Module) -> Tensor:
    """One flat buffer, of which every weight's gradient is a view: ranks add up in one go. Its last number is free."""
    weights = list(model.parameters())
    sizes = [weight.numel() for weight in weights]
    flat = torch.zeros(sum(sizes) + 1, dtype=weights[0].dtype, device=weights[0].device)
    for weight, view in zip(weights, flat[:-1].split(sizes), strict=True):
        weight.grad = view.view_as(weight)
    return flat
