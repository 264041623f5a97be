"""A trunk that writes: scores of every token where one is asked for, of a pair or of a decoder.

    model = begun(shape, seed=1, weights=pretrained)
    logits = model(sources, packed, answers, packed_answers)       (U, V): a pair, at every token of its decoder
    logits = model(documents, packed, places=places)               (K, V): a decoder, where `places` (T,) holds

There is no head beside the trunk's own vocabulary, so a pretrained model goes on from all it has learnt.

Promises: the trunk keeps the names of its weights behind `encoder.`, as under every head; fresh weights are a function
of the seed; token types are those of writing step by step (`stepping`), all 0. `dropout` stands before the vocabulary,
as T5's last one does. Losses of balance of experts are not asked for. Costs the trunk, and scores of the asked places
alone. Refuses encoders, and weights that are not of this shape.

T tokens, U of the answers, K asked places, V vocabulary.
"""

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tundish.operators.model.decoding import Decoding
from tundish.operators.model.family import Model
from tundish.operators.model.heads import filled
from tundish.operators.model.init import initialise
from tundish.operators.model.packed import Packed
from tundish.operators.model.shape import Shape

SPARED = ("pooler.", "follows.")  # weights of a trunk that no writing asks


class Writer(nn.Module):
    """`form`: how texts are chosen, where nothing else is said."""

    head, chooser, dense = "write", None, None

    def __init__(self, encoder: Model, *, dropout: float = 0.1, form: Decoding | None = None) -> None:
        super().__init__()
        check(encoder.shape)
        self.encoder, self.dropout, self.form, self.pooling = encoder, dropout, form or Decoding(), ""

    def forward(
        self,
        tokens: Tensor,
        packed: Packed,
        answers: Tensor | None = None,
        packed_answers: Packed | None = None,
        *,
        places: Tensor | None = None,
        dtype: torch.dtype | None = None,
    ) -> Tensor:
        states = self.encoder(tokens, packed, answers, packed_answers, dtype=dtype)
        states = states if places is None else states[places]
        return self.encoder.logits(F.dropout(states, self.dropout, self.training))  # type: ignore[no-any-return]


def check(shape: Shape) -> None:
    """Raises ValueError for a shape that writes nothing."""
    if shape.stack == "encoder":
        raise ValueError(
            "an encoder alone (BERT and its kin) writes no text; give a pair of encoder and decoder (T5, Switch) or a "
            "causal model (GPT-2)"
        )


def begun(
    shape: Shape,
    *,
    seed: int,
    weights: Mapping[str, Tensor] | None = None,
    dropout: float = 0.1,
    form: Decoding | None = None,
) -> Writer:
    """Every weight drawn from the seed; pretrained ones, by their names in `Model`, over all of them."""
    with torch.device("meta"):
        model = Writer(Model(shape), dropout=dropout, form=form)
    initialise(model, shape, seed=seed)
    if weights is not None:
        own = [name for name in model.encoder.state_dict() if not name.startswith(SPARED)]
        if lacking := [name for name in own if name not in weights]:
            raise ValueError(
                f"{lacking[0]} is missing from the pretrained weights, and a model writes by all of them; give a whole "
                "language model"
            )
        filled(model.encoder, weights)
    return model
