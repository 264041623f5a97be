"""Heads upon a trunk: what a fine-tuned model says of a document, of each of its tokens, or of where an answer lies.

    model = begun(shape, "sequence", 3, seed=1, weights=pretrained)
    logits = model(tokens, packed, types)

    sequence    (N, C)   classes, several labels at once or, with one class, a number: a pooled state through a dense
                         tanh layer and a linear one (BERT's pooler and classifier, Devlin et al. 2019)
    tokens      (T, C)   a class for each token
    spans       (T, 2)   scores of an answer's first and last token
    embedding   (N, D)   the pooled state at length one; no weights of its own (Reimers & Gurevych 2019)

Pooled is the mean of a document's states, the first ([CLS]) or the last; None takes the mean, and of a decoder, in
which only the last token has seen the others, the last.

Promises: a document's answer depends on no other document; the trunk's weights keep their names behind `encoder.`, so
a pretrained model is loaded as it is; fresh weights are a function of the seed. Of a pair of encoder and decoder the
encoder alone is asked. Costs the trunk and a matrix. Refuses heads and poolings it does not know, a decoder's first
token, and weights that do not fit.

N documents, T tokens, D width, C classes.
"""

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tundish.operators.model.family import Model
from tundish.operators.model.init import initialise
from tundish.operators.model.layers import Linear
from tundish.operators.model.packed import Packed
from tundish.operators.model.shape import Shape

HEADS = ("sequence", "tokens", "spans", "embedding")
POOLINGS = ("mean", "cls", "last")
TRUNK = "encoder."
UNASKED = ("head.", "pooler.", "follows.", "decoder.")  # parts of a trunk that no head here asks
DETECTOR = "detector."  # what replaced tokens were told by; of no use to a head


class Tuned(nn.Module):
    """A trunk and one head; `classes` says nothing where the head has sizes of its own (spans, embedding). `dropout`
    before each layer of the head."""

    def __init__(
        self, encoder: Model, head: str, classes: int = 0, *, pooling: str | None = None, dropout: float = 0.1
    ) -> None:
        super().__init__()
        pooling = pooling or ("last" if encoder.shape.stack == "decoder" else "mean")
        if head not in HEADS:
            raise ValueError(f"{head!r} is no head of a model; choose one of {', '.join(HEADS)}")
        if pooling not in POOLINGS:
            raise ValueError(f"states cannot be pooled by {pooling!r}; choose one of {', '.join(POOLINGS)}")
        if pooling == "cls" and encoder.shape.stack == "decoder":
            raise ValueError("a decoder's first token has seen nothing of its document; pool it by last or mean")
        if head in ("sequence", "tokens") and classes < 1:
            raise ValueError(f"a head for {head} has {classes} classes; give at least 1")
        width = encoder.shape.width
        self.encoder, self.head, self.pooling, self.dropout = encoder, head, pooling, dropout
        self.dense = Linear(width, width) if head == "sequence" else None
        self.chooser = None if head == "embedding" else Linear(width, 2 if head == "spans" else classes)

    def forward(
        self, tokens: Tensor, packed: Packed, types: Tensor | None = None, *, dtype: torch.dtype | None = None
    ) -> Tensor:
        """As the head has it, for tokens and token types (T,). `dtype` of the states, if not that of the weights."""
        states = states_of(self.encoder, tokens, packed, types, dtype=dtype)
        if self.head in ("sequence", "embedding"):
            states = pooled(states, packed, self.pooling)
        if self.head == "embedding":
            return F.normalize(states.to(_wide(states)), dim=1)
        assert self.chooser is not None
        if self.dense is not None:
            states = torch.tanh(self.dense(self._dropped(states)))
        return self.chooser(self._dropped(states))

    def _dropped(self, states: Tensor) -> Tensor:
        return F.dropout(states, self.dropout, self.training)


def states_of(
    model: Model, tokens: Tensor, packed: Packed, types: Tensor | None = None, *, dtype: torch.dtype | None = None
) -> Tensor:
    """States (T, D) of a model, and of a pair those of its encoder."""
    if model.decoder is None:
        return model(tokens, packed, types=types, dtype=dtype)  # type: ignore[no-any-return]
    x = model.embedding(tokens, packed.positions, types, dtype or model.embedding.weight.dtype)
    return model.stack(x, packed)[0]  # type: ignore[no-any-return]


def pooled(states: Tensor, packed: Packed, pooling: str) -> Tensor:
    """One state a document, (N, D); zeros by the mean of a document without tokens."""
    bounds = packed.bounds.long()
    if pooling == "mean":
        return means(states, packed)
    at = bounds[:-1] if pooling == "cls" else bounds[1:] - 1
    return states.index_select(0, at.clamp(0, len(states) - 1))  # documents of no tokens may lie at the end


def means(states: Tensor, packed: Packed) -> Tensor:
    """Means (N, D) of documents' states (T, D), added up in float32 at least."""
    sizes = packed.bounds.diff().long()
    wide = states.to(_wide(states))
    if wide.is_cuda:  # index_add has no fixed order there
        summed = torch.segment_reduce(wide, "sum", lengths=sizes, initial=0, unsafe=True)
    else:
        summed = wide.new_zeros(len(sizes), wide.shape[1]).index_add(0, packed.documents, wide)
    return (summed / sizes.clamp(min=1)[:, None]).to(states.dtype)


def _wide(states: Tensor) -> torch.dtype:
    return torch.promote_types(states.dtype, torch.float32)


def begun(
    shape: Shape,
    head: str,
    classes: int = 0,
    *,
    seed: int,
    weights: Mapping[str, Tensor] | None = None,
    pooling: str | None = None,
    dropout: float = 0.1,
) -> Tuned:
    """Every weight drawn from the seed by `initialise`; pretrained ones, by their names in `Model`, over them. Where
    [CLS] is pooled and the model was pretrained with BERT's pooler, the dense layer begins as that."""
    with torch.device("meta"):
        model = Tuned(Model(shape), head, classes, pooling=pooling, dropout=dropout)
    initialise(model, shape, seed=seed)
    if weights is not None:
        filled(model.encoder, weights)
        if model.dense is not None and model.pooling == "cls" and "pooler.weight" in weights:
            with torch.no_grad():
                model.dense.weight.copy_(weights["pooler.weight"])
                model.dense.bias.copy_(weights["pooler.bias"])
    return model


def filled(encoder: Model, weights: Mapping[str, Tensor]) -> None:
    """Pretrained weights into a trunk, in its precision. What a head never asks may be missing."""
    kept = {name: weight for name, weight in weights.items() if not name.startswith(DETECTOR)}
    own = {name: tuple(weight.shape) for name, weight in encoder.state_dict().items()}
    lacking = [name for name in own if name not in kept and not name.startswith(UNASKED)]
    foreign = [name for name, weight in kept.items() if own.get(name) != tuple(weight.shape)]
    if lacking or foreign:
        said = f"{lacking[0]} is missing from" if lacking else f"{foreign[0]} has no such place in the model among"
        raise ValueError(f"{said} the pretrained weights; give those of a model of this shape")
    encoder.load_state_dict(kept, strict=False)


def asked(model: Tuned) -> list[str]:
    """Names of the weights that the head's answer depends on; all others keep still, and get no gradient."""
    unasked = tuple(TRUNK + part for part in UNASKED)
    return [name for name, _ in model.named_parameters() if not name.startswith(unasked)]
