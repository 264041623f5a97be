"""How much work a batch is: places that are computed, and operations that are of use."""

from dataclasses import replace

import numpy as np

from tundish.operators.model import flops
from tundish.operators.model.batch import Batch
from tundish.stages.pretrain_task import PretrainTask


def places_of(batch: Batch) -> int:
    """Places that are computed, padding among them; of a pair those of both sides."""
    return int(batch.inputs.size) + (0 if batch.answers is None else int(batch.answers.size))


def useful_of(task: PretrainTask, batch: Batch, causal: bool | None = None) -> float:
    """Operations that training on a batch takes, padding and what is recomputed not counted."""
    shape, generator = task.shapes
    lengths, guessed = _lengths(batch), int(batch.counts.sum())
    if generator:
        found = replace(shape, transform=False)  # telling takes a layer of the stack's width for every token
        telling = flops.PASSES * 2 * float(lengths.sum()) * shape.width**2
        return flops.training(generator, lengths, guessed) + flops.training(found, lengths, 0) + telling
    answers = np.diff(batch.answer_bounds) if batch.answer_bounds is not None else ()
    return flops.training(shape, lengths, guessed, answers=answers, causal=causal)


def _lengths(batch: Batch) -> np.ndarray:
    """Lengths of the documents of a batch; those of padding are 0."""
    lengths = np.diff(batch.bounds)
    if batch.inputs.ndim != 2:
        return lengths
    rows, places = np.divmod(batch.bounds[:-1], batch.inputs.shape[1])
    rows = np.minimum(rows, len(batch.sizes) - 1)
    return np.where(places < batch.sizes[rows], lengths, 0)
