"""Floating-point operations of a step, term by term: what utilisation is measured against.

Promises: agrees with `torch.utils.flop_counter` where that counts what is used (whole attention, no padding); counts
the pairs of places that see each other, not those a mask hides; a product of m x k and k x n counts 2mkn; the backward
pass counts twice the forward (Kaplan et al. 2020), recomputation nothing. Costs nothing.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from tundish.operators.model.shape import Shape

PASSES = 3  # forward, and backward to what comes in and to the weights


def pairs(lengths: Sequence[int] | np.ndarray, *, window: int = 0, causal: bool = False) -> float:
    """Pairs of places that see each other in documents of these lengths.

    >>> pairs([3, 2]), pairs([3, 2], causal=True), pairs([5], window=1)
    (13.0, 9.0, 13.0)
    """
    each = np.asarray(lengths, np.float64)
    if window:
        near = np.minimum(each - 1, window).clip(0)
        one_side = near * each - near * (near + 1) / 2
    else:
        one_side = each * (each - 1) / 2
    return float((one_side * (1 if causal else 2) + each).sum())


def forward(
    shape: Shape,
    lengths: Sequence[int] | np.ndarray,
    predicted: float,
    answers: Sequence[int] | np.ndarray = (),
    *,
    causal: bool | None = None,
) -> dict[str, float]:
    """Operations of one forward pass over documents of these lengths, of which `predicted` places are turned into
    scores of all tokens. `answers`: lengths of a pair's decoder documents."""
    tokens, heads = float(np.sum(lengths)), shape.heads * shape.head_width
    causal = shape.stack == "decoder" if causal is None else causal
    found = {"blocks": 0.0, "attention": 0.0}
    for count, layers, mine, behind in (
        (tokens, shape.layers, lengths, causal),
        (float(np.sum(answers)), shape.decoder, answers, True),
    ):
        # DeBERTa's decoder asks its last block `enhanced` times instead of once
        again = [layers - 1] * (shape.enhanced - 1) if shape.enhanced else []
        for layer in [*range(layers), *again]:
            found["blocks"] += count * 2 * (4 * shape.width * heads + _inner(shape, layer))
            window = shape.window if shape.local(layer) else 0
            found["attention"] += 4 * heads * pairs(mine, window=window, causal=behind)
            if shape.positions == "disentangled":  # both terms, and the distances through the projections
                found["attention"] += 2 * (2 * heads * 2 * shape.buckets * count) + 2 * 2 * (
                    2 * shape.buckets * shape.width * heads
                )
    if shape.decoder:
        count = float(np.sum(answers))
        found["blocks"] += shape.decoder * 2 * shape.width * heads * (2 * count + 2 * tokens)
        found["attention"] += shape.decoder * 4 * heads * float((np.asarray(lengths) * np.asarray(answers)).sum())
    if shape.span:  # a convolution beside the first block
        found["blocks"] += 2 * tokens * shape.span * shape.width**2
    if shape.embedded != shape.width:
        found["blocks"] += 2 * tokens * shape.embedded * shape.width
    dense = shape.width * shape.embedded if shape.transform else 0
    return found | {"head": predicted * 2 * (dense + shape.embedded * shape.vocabulary)}


def _inner(shape: Shape, layer: int) -> float:
    """Weights a token meets in the layer behind attention."""
    if shape.sparse_at(layer):
        return 2 * shape.width * shape.ff + shape.experts * shape.width
    return (3 if shape.gated else 2) * shape.width * shape.ff


def training(shape: Shape, lengths: Sequence[int] | np.ndarray, predicted: float, **rest: object) -> float:
    """Operations of a training step."""
    terms: Mapping[str, float] = forward(shape, lengths, predicted, **rest)  # type: ignore[arg-type]
    return PASSES * sum(terms.values())


def tuning(
    shape: Shape, lengths: Sequence[int] | np.ndarray, predicted: float = 0.0, answers: Sequence[int] | np.ndarray = (),
    *, frozen: bool = False, twice: bool = False, moved: bool = False,
) -> float:  # fmt: skip
    """Operations of fine-tuning once over documents of these lengths; a head of classes, tags or spans is left out, as
    small as it is beside the blocks. `frozen`: the trunk has no gradient of its own, as with LoRA, so that the way back
    goes to what comes in alone. `twice`: a second pass there and back (R-drop). `moved`: a search there and back to the
    embedding, and a pass with what it found (SiFT)."""
    once = sum(forward(shape, lengths, predicted, answers).values())
    there_and_back = PASSES - frozen
    return once * (there_and_back * (1 + twice + moved) + (PASSES - 1) * moved)


def a_token(shape: Shape, *, length: float, rate: float) -> float:
    """Operations of training for a token of documents of one length, a share `rate` of which is predicted."""
    return training(shape, [length], rate * length) / length
