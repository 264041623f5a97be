"""From a batch to losses that add up: masked, causal and prefix language models, text to text, replaced tokens.

    masked, causal, prefix, pairs    a Model: cross-entropy at the guessed places
    replaced tokens (ELECTRA)        a Detection: a small generator fills the hidden places, the discriminator tells
                                     which tokens are not what they were (Clark et al. 2020)

Promises: every term is a sum over a count that the batch knows beforehand, so a gradient is exact however a global
batch is cut into parts and ranks; states become scores only where something is guessed; what the generator fills in
is a function of its scores and of one number a place, so it does not depend on the rank either. Refuses shapes of
generator and discriminator that cannot share a table.

T tokens, K guessed places, V vocabulary.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from tundish.operators.model.batch import IGNORED, Batch
from tundish.operators.model.family import Detector, Model
from tundish.operators.model.losses import detection_loss, vocabulary_loss
from tundish.operators.model.packed import Packed, packed, there
from tundish.operators.model.shape import Shape

GUESSED, TOKENS = "guessed", "tokens"  # what losses are divided by: guessed places; tokens, padding not counted
ROUND = 256  # documents of a batch of static shape: so many, or twice, four times, eight times as many
BALANCE = 0.01  # weight of the experts' loss of balance (Fedus et al. 2021)
DETECTED = 50.0  # weight of the discriminator's loss (Clark et al. 2020)
SHARED = ("all", "gdes", "none")  # one table; the discriminator's a difference to the other's (He et al. 2021); two


class Part(NamedTuple):
    """Documents of one forward pass. `tokens` (T,); `present` (T,) bool, not padding; `places` (K,) with `labels` (K,),
    of the answers where there are any; `uniforms` (K,) to fill in by."""

    tokens: Tensor
    packed: Packed
    present: Tensor
    places: Tensor
    labels: Tensor
    uniforms: Tensor | None = None
    answers: Tensor | None = None
    packed_answers: Packed | None = None


class Term(NamedTuple):
    """A loss: its sum, what its global mean is over, and its weight in the whole."""

    name: str
    total: Tensor
    over: str
    weight: float = 1.0


def counts_of(batch: Batch) -> dict[str, int]:
    """What the losses of a batch are divided by."""
    return {GUESSED: int(batch.counts.sum()), TOKENS: int(batch.sizes.sum())}


def part_of(batch: Batch, device: torch.device, *, longest: int = 0, static: bool = False) -> Part:
    """Rows of the stream on a device. `longest`: no document of any batch is longer. `static`: in shapes that stay."""
    row = batch.inputs.shape[1] if batch.inputs.ndim == 2 else len(batch.inputs)

    present = torch.zeros(batch.inputs.shape, dtype=torch.bool)
    if batch.inputs.ndim == 2:
        present = torch.arange(row) < torch.as_tensor(batch.sizes)[:, None]
    else:
        present[: int(batch.sizes.sum())] = True
    # documents of no length round their number up, and nothing is laid out by lengths: both would compile anew
    shaped = {"longest": longest, "device": device, "grouped": not static}
    bounds, prefixes = batch.bounds, batch.prefixes
    if longest and batch.inputs.ndim == 2:
        bounds, prefixes = shortened(bounds, prefixes, longest)
    bounds = rounded(bounds) if static else bounds
    if prefixes is not None:
        prefixes = np.concatenate([prefixes, np.zeros(len(bounds) - 1 - len(prefixes), prefixes.dtype)])
    answers = theirs = None
    if batch.answers is not None and batch.answer_bounds is not None:
        answers = there(batch.answers.ravel(), device)
        own = rounded(batch.answer_bounds) if static else batch.answer_bounds
        theirs = packed(own, row=len(batch.answers), keys=bounds, **shaped)  # type: ignore[arg-type]
    mine = packed(bounds, row=row, prefixes=prefixes, **shaped)  # type: ignore[arg-type]
    here = there(present.flatten(), device)
    return Part(
        there(batch.inputs.ravel(), device),
        mine._replace(present=here),
        here,
        there(batch.places, device),
        there(batch.labels, device),
        None if batch.uniforms is None else there(batch.uniforms, device),
        answers,
        theirs,
    )


def shortened(bounds: np.ndarray, prefixes: np.ndarray | None, longest: int) -> tuple[np.ndarray, np.ndarray | None]:
    """What is longer than the longest document is padding, and is cut to pieces: a kernel that was told how long
    documents are would leave the rest of it unwritten, and whatever lay there would come into the gradients."""
    lengths = np.diff(bounds)
    if (lengths <= longest).all():
        return bounds, prefixes
    pieces = np.maximum(1, -(-lengths // longest))
    number = np.arange(pieces.sum()) - np.repeat(np.cumsum(pieces) - pieces, pieces)
    found = np.append(np.repeat(bounds[:-1], pieces) + longest * number, bounds[-1]).astype(bounds.dtype)
    return found, None if prefixes is None else np.repeat(prefixes, pieces)


def rounded(bounds: np.ndarray) -> np.ndarray:
    """With the last once more and again, so that there are few numbers of documents: each is compiled for anew.

    >>> len(rounded(np.arange(4))), len(rounded(np.arange(258))), len(rounded(np.arange(1025)))
    (257, 513, 1025)
    """
    documents = ROUND
    while documents < len(bounds) - 1:
        documents *= 2
    return np.concatenate([bounds, np.full(documents + 1 - len(bounds), bounds[-1], bounds.dtype)])


def guess(model: Model, part: Part, *, causal: bool | None, dtype: torch.dtype | None, z: float = 0.0) -> list[Term]:
    """The losses of a model that guesses what stands, or follows, at places."""
    uneven: list[Tensor] = []
    states = model(
        part.tokens, part.packed, part.answers, part.packed_answers, causal=causal, dtype=dtype, balance=uneven
    )
    terms = [Term("loss", head_loss(model, states, part, z=z), GUESSED)]
    if uneven:
        size = part.present.sum()  # so that parts add up: the mean over all is weighed by their tokens
        terms.append(Term("balance", torch.stack(uneven).sum() * size, TOKENS, BALANCE))
    return terms


def head_loss(model: Model, states: Tensor, part: Part, *, z: float = 0.0) -> Tensor:
    """Sum of the cross-entropies of what is guessed, from states (T, D)."""
    head = model.head
    table = model.embedding.weight if head.weight is None else head.weight
    guessing = head.narrowed(states.index_select(0, part.places))
    return vocabulary_loss(guessing, table, head.bias, part.labels, z=z, fused=head.fused)


TABLES = ("weight", "positions", "types")  # of an embedding: what two models can share


class Detection(nn.Module):
    """Generator and discriminator, trained together; the discriminator is what is kept.

    `sharing`: `all`, one table of tokens, of positions and of types (Clark et al. 2020, 3.2); `gdes`, the discriminator
    adds a difference to the generator's tokens, through which no gradient goes back (He et al. 2021); `none`.
    """

    def __init__(self, shape: Shape, generator: Shape, *, sharing: str = "all") -> None:
        super().__init__()
        if sharing not in SHARED:
            raise ValueError(f"a table is shared as {', '.join(SHARED)}, not as {sharing!r}; choose one of them")
        if sharing != "none" and (shape.vocabulary, shape.embedded) != (generator.vocabulary, generator.embedded):
            raise ValueError(
                f"embeddings of {generator.embedded} and {shape.embedded} cannot share a table; "
                "give the generator the discriminator's width of embeddings"
            )
        self.shape, self.sharing = shape, sharing
        self.generator = Model(generator)
        self.discriminator = Model(replace(shape, transform=False, head_bias=False, tied=True))
        self.detector = Detector(shape)
        self.tie()

    def tie(self) -> None:
        """Make one table of two, where they are shared; moving a model may have parted them."""
        if self.sharing != "all":
            return
        for name in TABLES:
            table = getattr(self.generator.embedding, name)
            if table is not None and table.shape == getattr(self.discriminator.embedding, name).shape:
                setattr(self.discriminator.embedding, name, table)

    def forward(self, part: Part, *, dtype: torch.dtype | None = None) -> list[Term]:
        assert part.uniforms is not None, "the stream gives numbers to fill in by"
        states = self.generator(part.tokens, part.packed, dtype=dtype)
        masked = head_loss(self.generator, states, part)
        filled, changed = self.filled(states[part.places], part)
        found = self.detector(self.discriminator(filled, part.packed, dtype=dtype, table=self.table()))
        detected = detection_loss(found, changed, part.present)
        return [Term("masked", masked, GUESSED), Term("detected", detected, TOKENS, DETECTED)]

    def table(self) -> Tensor | None:
        """The discriminator's tokens, where they are not its own alone."""
        if self.sharing != "gdes":
            return None
        return self.generator.embedding.weight.detach() + self.discriminator.embedding.weight

    @torch.no_grad()
    def filled(self, states: Tensor, part: Part) -> tuple[Tensor, Tensor]:
        """Tokens (T,) with the generator's choices, and which are not what they were, (T,) bool."""
        counted = part.labels != IGNORED
        head = self.generator.head
        table = self.generator.embedding.weight if head.weight is None else head.weight
        chosen = sampled(head.narrowed(states), table, head.bias, part.uniforms)  # type: ignore[arg-type]
        size = len(part.tokens)
        places = torch.where(counted, part.places, size)  # what is not counted goes behind the end
        tokens = part.tokens.new_zeros(size + 1)
        tokens[:size] = part.tokens
        tokens = tokens.scatter(0, places, chosen.to(tokens.dtype))
        changed = torch.zeros(size + 1, dtype=torch.bool, device=tokens.device)
        changed = changed.scatter(0, places, counted & (chosen != part.labels))
        return tokens[:size], changed[:size]


def sampled(states: Tensor, table: Tensor, bias: Tensor | None, uniforms: Tensor, *, at_once: int = 1024) -> Tensor:
    """A token for each of states (K, E), by inverting the distribution's running sum at `uniforms` (K,)."""
    found = []
    cast = table.to(states.dtype)
    for part, uniform in zip(states.split(at_once), uniforms.split(at_once), strict=True):
        scores = (part @ cast.t()).to(torch.promote_types(part.dtype, torch.float32))
        chances = (scores if bias is None else scores + bias).softmax(1).cumsum(1)
        wanted = uniform.to(chances.dtype)[:, None] * chances[:, -1:]  # the sum is not quite 1
        found.append(torch.searchsorted(chances, wanted, right=True).squeeze(1).clamp(max=len(table) - 1))
    return torch.cat(found) if found else torch.zeros(0, dtype=torch.long, device=states.device)


def whole(terms: list[Term], counts: Mapping[str, float]) -> Tensor:
    """What a part adds to the loss of the global batch, given the global counts."""
    parts = [term.weight * term.total / max(1.0, counts[term.over]) for term in terms]
    return torch.stack([part.to(parts[0].dtype) for part in parts]).sum()


def gradients_of(model: nn.Module, *, free: int = 1) -> Tensor:
    """One flat buffer, of which every weight's gradient is a view: ranks add up in one go. Its last `free` numbers
    are for others."""
    weights = list(model.parameters())
    sizes = [weight.numel() for weight in weights]
    flat = torch.zeros(sum(sizes) + free, dtype=weights[0].dtype, device=weights[0].device)
    for weight, view in zip(weights, flat[: sum(sizes)].split(sizes), strict=True):
        weight.grad = view.view_as(weight)
    return flat
