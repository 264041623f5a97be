"""How likely words are where they are hidden: of documents that hide some tokens, what a masked model says of places.

    numbers = likely(model, documents, where=[(0, 4), (0, 4), (1, 2)], pieces=[17, 23, 17])

Promises: a document's numbers depend on no other document; what is asked twice is worked out once; float32 at least.
Costs a forward pass a document, `at_once` tokens in a pass, and scores of the asked places alone. Refuses models that
are no encoders: others have no token that hides.

N documents, n questions.
"""

from collections.abc import Sequence

import numpy as np
import torch

from tundish.operators.model.family import Model
from tundish.operators.model.head_losses import wide
from tundish.operators.model.likelihood import AT_ONCE, _flat, _parts


@torch.no_grad()
def likely(
    model: Model,
    documents: Sequence[np.ndarray],
    where: Sequence[tuple[int, int]] | np.ndarray,
    pieces: Sequence[int] | np.ndarray,
    *,
    at_once: int = AT_ONCE,
) -> np.ndarray:
    """Log-probabilities (n,) float64 in nats of `pieces` (n,) at places `where` (n, 2): number of a document, and place
    in it. Documents (ids with their frame) are read as they stand."""
    if model.shape.stack != "encoder":
        raise ValueError(f"words are hidden from encoders, and this is a {model.shape.stack}; ask it for what follows")
    asked, wanted = np.asarray(where, np.int64).reshape(-1, 2), np.asarray(pieces, np.int64)
    order = np.argsort(asked[:, 0], kind="stable")
    starts = np.searchsorted(asked[order, 0], np.arange(len(documents) + 1))
    found = np.empty(len(asked))
    for numbers in _parts([len(each) for each in documents], at_once):
        flat, layout = _flat([documents[number] for number in numbers], model)
        mine = [order[starts[number] : starts[number + 1]] for number in numbers]
        questions = np.concatenate(mine)
        if not len(questions):
            continue
        first = np.repeat(np.cumsum([0, *(len(documents[number]) for number in numbers)])[:-1], list(map(len, mine)))
        rows, back = np.unique(first + asked[questions, 1], return_inverse=True)
        states = model(flat, layout)[torch.from_numpy(rows).to(flat.device)]
        logs = wide(model.logits(states)).double().log_softmax(1).cpu().numpy()
        found[questions] = logs[back, wanted[questions]]
    return found
