"""What a fine-tuned model gives for many texts: batched by length, flat, on whatever device it lies.

Promises: the same weights and tokens give the same outputs, in whatever company, but for rounding (to about 1e-6).
Costs one forward pass a text; memory of `budget` tokens. Refuses heads that say something of each token.
"""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import torch

from tundish.operators.model.heads import Tuned
from tundish.operators.model.packed import packed

WHOLE = ("sequence", "embedding")  # heads that say one thing of a text


@torch.no_grad()
def outputs_of(
    model: Tuned, texts: Sequence[Sequence[int]], specials: Mapping[str, int], *, budget: int = 16_384
) -> np.ndarray:
    """(n, C) logits or (n, D) vectors, float64, for `texts`, token ids without [CLS] and [SEP]; what the model cannot
    hold is cut. `budget`: most tokens of a batch. Raises ValueError for a head that says more of a text."""
    if model.head not in WHOLE:
        raise ValueError(f"a head for {model.head} says no one thing of a text; give one for {' or '.join(WHOLE)}")
    device, room = next(model.parameters()).device, model.encoder.shape.length - 2
    wide = model.chooser.weight.shape[0] if model.chooser is not None else model.encoder.shape.width
    sizes = np.array([min(len(text), room) + 2 for text in texts], np.int64)
    found = np.zeros((len(texts), wide))
    model.eval()
    for rows in _batches(sizes, budget):
        framed = [[specials["[CLS]"], *texts[row][:room], specials["[SEP]"]] for row in rows]
        bounds = np.concatenate([[0], np.cumsum(sizes[rows])])
        tokens = torch.tensor([token for text in framed for token in text], device=device)
        found[rows] = model(tokens, packed(bounds, device=device)).double().cpu().numpy()
    return found


def _batches(sizes: np.ndarray, budget: int) -> Iterator[np.ndarray]:
    """Rows by length, as many together as `budget` allows, at least one."""
    order = np.argsort(sizes, kind="stable")
    start, tokens = 0, 0
    for at, row in enumerate(order.tolist()):
        if tokens + sizes[row] > budget and at > start:
            yield order[start:at]
            start, tokens = at, 0
        tokens += int(sizes[row])
    if start < len(order):
        yield order[start:]
