"""How likely a model finds texts: token by token, and of choices at a mask.

    before      log p(token | those before it)           a decoder, or an encoder asked as one
    pseudo      log p(token | all others)                a masked model: each token hidden in a copy of its own
                                                         (pseudo-log-likelihood, Salazar et al. 2020)
    choices     log p(piece at the mask), of some pieces    a masked model as a classifier (Schick & Schütze 2021)

A word of several pieces gives its later pieces away where only one is hidden, so `pseudo` hides with a piece the
pieces of its word that follow (PLL-word-l2r, Kauf & Ivanova 2023); `words=None` is the original form.

Promises: a document's numbers depend on no other document; float32 at least. Costs one pass for `before`; for `pseudo`
as many copies of a document as it has tokens, `at_once` tokens in a pass. Refuses models that predict no tokens so.

A document: ids with what frames it, (n,) integers. `first`, `last`: so many tokens at its ends frame it and are never
asked about.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from tundish.operators.model.family import Model
from tundish.operators.model.packed import Packed, packed

AT_ONCE = 16_384  # tokens of a pass


@torch.no_grad()
def before(model: Model, documents: Sequence[np.ndarray], *, at_once: int = AT_ONCE) -> list[np.ndarray]:
    """Of each document the log-probabilities in nats, (n - 1,) float64, of its tokens from the second on."""
    if model.decoder is not None:
        raise ValueError("a pair of encoder and decoder has no likelihood of one text; give a decoder or an encoder")
    found: list[np.ndarray] = [np.zeros(0)] * len(documents)
    for numbers in _parts([len(each) for each in documents], at_once):
        flat, layout = _flat([documents[number] for number in numbers], model)
        states = model(flat, layout, causal=True)
        asked = torch.from_numpy(np.concatenate([_asked(layout, place, 0, 1) for place in range(len(numbers))]))
        scores = _of(model, states, asked.to(flat.device), flat[asked.to(flat.device) + 1])
        for number, each in zip(numbers, np.split(scores, _ends(documents, numbers, 1)), strict=True):
            found[number] = each
    return found


@torch.no_grad()
def pseudo(
    model: Model,
    documents: Sequence[np.ndarray],
    *,
    mask: int,
    words: np.ndarray | None = None,
    first: int = 1,
    last: int = 1,
    at_once: int = AT_ONCE,
) -> list[np.ndarray]:
    """Of each document the log-probabilities in nats, (n - first - last,) float64, of its tokens given all others.

    `words` (V,): which pieces begin a word; with a piece those of its word behind it are hidden as well."""
    if model.shape.stack != "encoder":
        raise ValueError(
            f"pseudo-log-likelihoods are of encoders, and this is a {model.shape.stack}; ask it by `before`"
        )
    copies, wanted, owner = [], [], []
    for number, document in enumerate(documents):
        for place in range(first, len(document) - last):
            copy = np.array(document, np.int64)
            end = _word_end(document, place, len(document) - last, words)
            copy[place:end] = mask
            copies.append(copy)
            wanted.append((place, int(document[place])))
            owner.append(number)
    scores = np.empty(len(copies))
    for numbers in _parts([len(each) for each in copies], at_once):
        flat, layout = _flat([copies[number] for number in numbers], model)
        starts = layout.bounds[:-1].long()
        places = starts + torch.tensor([wanted[number][0] for number in numbers], device=flat.device)
        truth = torch.tensor([wanted[number][1] for number in numbers], device=flat.device)
        scores[numbers] = _of(model, model(flat, layout), places, truth)
    whose = np.array(owner, np.int64)
    return [scores[whose == number] for number in range(len(documents))]


@torch.no_grad()
def choices(
    model: Model, documents: Sequence[np.ndarray], *, mask: int, pieces: Sequence[int], at_once: int = AT_ONCE
) -> np.ndarray:
    """Log-probabilities (N, C) in nats of some pieces at each document's only mask, among the whole vocabulary."""
    for number, document in enumerate(documents):
        if (count := int((np.asarray(document) == mask).sum())) != 1:
            raise ValueError(f"document {number} has {count} masks; write one where the answer is to stand")
    found = np.empty((len(documents), len(pieces)))
    for numbers in _parts([len(each) for each in documents], at_once):
        flat, layout = _flat([documents[number] for number in numbers], model)
        places = torch.nonzero(flat == mask).squeeze(1)
        logits = model.logits(model(flat, layout)[places]).double()
        found[numbers] = logits.log_softmax(1)[:, list(pieces)].cpu().numpy()
    return found


def _word_end(document: np.ndarray, place: int, most: int, words: np.ndarray | None) -> int:
    """Behind the last piece of the word from this place on; never beyond what is the text's own."""
    end = place + 1
    while words is not None and end < most and not words[document[end]]:
        end += 1
    return end


def _parts(lengths: Sequence[int], at_once: int) -> Iterator[list[int]]:
    """Numbers of documents that go through together, those of like length beside each other; at least one."""
    part: list[int] = []
    total = 0
    for number in np.argsort(lengths, kind="stable").tolist():
        if part and total + lengths[number] > at_once:
            yield part
            part, total = [], 0
        part.append(number)
        total += lengths[number]
    if part:
        yield part


def _flat(documents: Sequence[np.ndarray], model: Model) -> tuple[Tensor, Packed]:
    device = next(model.parameters()).device
    bounds = np.concatenate([[0], np.cumsum([len(each) for each in documents])])
    flat = torch.from_numpy(np.concatenate([np.asarray(each, np.int64) for each in documents]))
    return flat.to(device), packed(bounds, device=device)


def _asked(layout: Packed, number: int, first: int, last: int) -> np.ndarray:
    """Places of a document's tokens without so many at its ends."""
    begin, end = (int(each) for each in layout.bounds[number : number + 2])
    return np.arange(begin + first, max(begin + first, end - last))


def _ends(documents: Sequence[np.ndarray], numbers: Sequence[int], less: int) -> np.ndarray:
    return np.cumsum([max(0, len(documents[number]) - less) for number in numbers])[:-1]


def _of(model: Model, states: Tensor, places: Tensor, truth: Tensor) -> np.ndarray:
    """Log-probabilities (K,) float64 of tokens at places; not more logits at once than a few thousand rows."""
    found = []
    for some, right in zip(places.split(4096), truth.split(4096), strict=True):
        logits = model.logits(states[some])
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        found.append((logits.gather(1, right[:, None]).squeeze(1) - logits.logsumexp(1)).double())
    return torch.cat(found).cpu().numpy() if found else np.zeros(0)
