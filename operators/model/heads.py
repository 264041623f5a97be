"""Heads upon a trunk: what a fine-tuned model says of a document, of each of its tokens, or of where an answer lies.

    model = begun(shape, "sequence", 3, seed=1, weights=pretrained)
    logits = model(tokens, packed, types)

    sequence    (N, C)   classes, several labels at once or, with one class, a number: of a pooled state
    tokens      (T, C)   a class for each token
    spans       (T, 2)   scores of an answer's first and last token
    embedding   (N, D)   the pooled state at length one; no weights of its own (Reimers & Gurevych 2019)

What lies between is the head's form (`head_forms`): which state is pooled, whether a dense layer and a norm come before
the chooser. It is that of the trunk's family unless another is given, so what is trained is what others load.

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
from tundish.operators.model.head_forms import DENSE_ACTS, Form, form_for
from tundish.operators.model.init import initialise
from tundish.operators.model.layers import Linear, Norm
from tundish.operators.model.packed import Packed
from tundish.operators.model.shape import Shape

HEADS = ("sequence", "tokens", "spans", "embedding")
TRUNK = "encoder."
UNASKED = ("head.", "pooler.", "follows.", "decoder.")  # parts of a trunk that no head here asks
DETECTOR = "detector."  # what replaced tokens were told by; of no use to a head


class Tuned(nn.Module):
    """A trunk and one head; `classes` says nothing where the head has sizes of its own (spans, embedding). `pooling`:
    other than the family's. `form`: other than the family's, pooling included. `dropout` where the form has some."""

    def __init__(
        self,
        encoder: Model,
        head: str,
        classes: int = 0,
        *,
        pooling: str | None = None,
        dropout: float = 0.1,
        form: Form | None = None,
    ) -> None:
        super().__init__()
        if head not in HEADS:
            raise ValueError(f"{head!r} is no head of a model; choose one of {', '.join(HEADS)}")
        form = form or form_for(encoder.shape, head, pooling or "")
        if form.pooling == "cls" and encoder.shape.stack == "decoder":
            raise ValueError("a decoder's first token has seen nothing of its document; pool it by last or mean")
        if head in ("sequence", "tokens") and classes < 1:
            raise ValueError(f"a head for {head} has {classes} classes; give at least 1")
        width, eps = encoder.shape.width, encoder.shape.eps
        dense, own = bool(form.act) and head != "embedding", 2 if head == "spans" else classes
        self.encoder, self.head, self.form, self.dropout = encoder, head, form, dropout
        self.dense = Linear(width, width, bias=form.bias) if dense else None
        self.norm = Norm(width, eps=eps, rms=False, bias=form.norm_bias) if dense and form.norm else None
        self.chooser = None if head == "embedding" else Linear(width, own, bias=form.chooser_bias)

    @property
    def pooling(self) -> str:
        return self.form.pooling

    def forward(
        self, tokens: Tensor, packed: Packed, types: Tensor | None = None, *, dtype: torch.dtype | None = None
    ) -> Tensor:
        """As the head has it, for tokens and token types (T,). `dtype` of the states, if not that of the weights."""
        states = states_of(self.encoder, tokens, packed, types, dtype=dtype)
        if self.head in ("sequence", "embedding"):
            states = pooled(states, packed, self.pooling)
        if self.head == "embedding":
            return F.normalize(states.to(_wide(states)), dim=1)
        return self.chosen(states)

    def chosen(self, states: Tensor) -> Tensor:
        """(K, C) logits of states (K, D): pooled ones, or those of tokens."""
        assert self.chooser is not None, "an embedding chooses nothing"
        if self.dense is not None:
            states = DENSE_ACTS[self.form.act](self.dense(self._dropped(states, "dense")))
        if self.norm is not None:
            states = self.norm(states)
        return self.chooser(self._dropped(states, "chooser"))

    def _dropped(self, states: Tensor, before: str) -> Tensor:
        return F.dropout(states, self.dropout, self.training and before in self.form.drops)


def states_of(
    model: Model, tokens: Tensor, packed: Packed, types: Tensor | None = None, *, dtype: torch.dtype | None = None
) -> Tensor:
    """States (T, D) of a model, and of a pair those of its encoder. A model of one token type (RoBERTa) reads the
    second text of a pair as the first."""
    types = types if model.shape.types > 1 else None
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
    form: Form | None = None,
) -> Tuned:
    """Every weight drawn from the seed by `initialise`; pretrained ones, by their names in `Model`, over them. A dense
    layer begins as its like in the pretrained model, if that has one (`carried`)."""
    with torch.device("meta"):
        model = Tuned(Model(shape), head, classes, pooling=pooling, dropout=dropout, form=form)
    initialise(model, shape, seed=seed)
    if weights is not None:
        filled(model.encoder, weights)
        own = model.state_dict(keep_vars=True)
        with torch.no_grad():
            for name, theirs in carried(model, weights).items():
                own[name].copy_(weights[theirs])
    return model


def carried(model: Tuned, weights: Mapping[str, Tensor]) -> dict[str, str]:
    """Weights of a head, and which pretrained ones they begin as, where transformers has it so: where [CLS] is pooled
    and goes through tanh BERT's pooler, and before a norm ModernBERT's layer below the vocabulary (of equal names)."""
    if model.form.norm:
        pairs = {"dense": "head.dense", "norm": "head.norm"}
    elif model.pooling == "cls" and model.form.act == "tanh":
        pairs = {"dense": "pooler"}
    else:
        return {}
    own = {name: tuple(each.shape) for name, each in model.state_dict().items() if not name.startswith(TRUNK)}
    found = {}
    for name, size in own.items():
        part, _, last = name.partition(".")
        theirs = f"{pairs.get(part, '')}.{last}"
        if theirs in weights and tuple(weights[theirs].shape) == size:
            found[name] = theirs
    return found


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
