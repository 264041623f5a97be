"""One label for a sequence: a head over a model's states.

Promises: padding changes no prediction. Pooling is the mean over the sequence's states, or the state of [CLS].
B rows, L places, D width, C classes.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tundish.operators.model.family import Model
from tundish.operators.model.packed import packed_rows

POOLINGS = ("mean", "cls")


class Classifier(nn.Module):
    """Pooled states through one tanh layer (BERT's pooler) and a linear one to the classes."""

    def __init__(self, encoder: Model, classes: int, *, pooling: str = "mean", dropout: float = 0.1) -> None:
        super().__init__()
        if pooling not in POOLINGS:
            raise ValueError(f"states cannot be pooled by {pooling!r}; choose one of {', '.join(POOLINGS)}")
        self.encoder, self.pooling, self.dropout = encoder, pooling, dropout
        self.pooler = nn.Linear(encoder.shape.width, encoder.shape.width)
        self.chooser = nn.Linear(encoder.shape.width, classes)

    def forward(self, tokens: Tensor, present: Tensor) -> Tensor:
        """Logits (B, C) for `tokens` (B, L), of which `present` (B, L) bool are the sequence, from the left, and the
        rest padding."""
        places, packed = packed_rows(present)
        states = self.encoder(tokens.flatten()[places], packed)
        if self.pooling == "cls":
            pooled = states[packed.bounds[:-1].long()]
        else:
            summed = states.new_zeros(len(tokens), states.shape[1]).index_add(0, packed.documents, states)
            pooled = summed / present.sum(1, keepdim=True).clamp(min=1)
        hidden = torch.tanh(self.pooler(F.dropout(pooled, self.dropout, self.training)))
        return self.chooser(F.dropout(hidden, self.dropout, self.training))
