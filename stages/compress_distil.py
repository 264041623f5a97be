"""What a teacher says of a student's batches, each text once, and the loss that brings the student near it.

Promises: the teacher is asked of a text once, whatever the epoch, while its answers and states find room in `most`
bytes; beyond that it is asked again. A text's answer does not depend on the others. What is matched of hidden states is
a function of the seed. Costs the teacher's pass over every text. Refuses teachers of another vocabulary, task or
classes, and that are graphs, students of another vocabulary, both where they read less than the texts have, and layers
that are not there to be matched: all of it can be asked before anything learns (`require_teaching`).
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from tundish.operators.model import distil
from tundish.operators.model.batch import IGNORED
from tundish.operators.model.head_losses import Summed
from tundish.operators.model.heads import Tuned
from tundish.operators.model.packed import packed
from tundish.operators.model.shape import Shape
from tundish.operators.text import tokenizer
from tundish.stages import hub
from tundish.stages.compress_onnx import Session
from tundish.stages.compress_read import reader
from tundish.stages.compress_task import Means
from tundish.stages.finetune_kinds import outputs
from tundish.stages.finetune_rows import Batch
from tundish.stages.finetune_task import TuneTask
from tundish.stages.language_model import vocabulary_in
from tundish.stages.predict import Predictor

MOST = 1 << 30  # bytes of answers and states that are kept
Loss = Callable[[Tuned, Batch, Tensor, Summed], Summed]


class Answer(NamedTuple):
    """Of one text: what the head said (1 or its tokens, C), and states (t, E) behind the layers asked for."""

    said: Tensor
    states: tuple[Tensor, ...]


class Taught:
    """A teacher with what it said so far. `layers`: whose states are kept; `whole`: one row a text, not one a token."""

    def __init__(self, teacher: Tuned, layers: tuple[int, ...], dtype: torch.dtype, most: int = MOST) -> None:
        self.teacher, self.layers, self.dtype = teacher.eval().requires_grad_(False), layers, dtype
        self.whole = teacher.head in ("sequence", "embedding")
        self.kept: dict[bytes, Answer] = {}
        self.room, self.asked = most, 0

    def of(self, batch: Batch) -> Answer:
        """Of all texts of a batch, one behind the other."""
        bounds, device = batch.packed.bounds.tolist(), batch.tokens.device
        parts = [slice(a, b) for a, b in pairwise(bounds)]
        tokens, types = batch.tokens.cpu().numpy(), batch.types.cpu().numpy()
        keys = [tokens[part].tobytes() + b"|" + types[part].tobytes() for part in parts]
        fresh = {key: part for key, part in zip(keys, parts, strict=True) if key not in self.kept}
        found = self._ask(batch, fresh) if fresh else {}
        each = [found.get(key) or self.kept[key] for key in keys]
        states = [torch.cat([one.states[at] for one in each]).to(device) for at in range(len(self.layers))]
        return Answer(torch.cat([one.said for one in each]).to(device), tuple(states))

    @torch.no_grad()
    def _ask(self, batch: Batch, fresh: dict[bytes, slice]) -> dict[bytes, Answer]:
        device, sizes = batch.tokens.device, [part.stop - part.start for part in fresh.values()]
        bounds = np.cumsum([0, *sizes])
        tokens, types = (torch.cat([flat[part] for part in fresh.values()]) for flat in (batch.tokens, batch.types))
        texts = Batch(tokens, packed(bounds, device=device), types)
        with distil.tapped(self.teacher.encoder.stack, self.layers) as passes:
            said = outputs(self.teacher, texts, {}, dtype=self.dtype).float().cpu()
            states = [passes[-1][layer].float().cpu().split(sizes) for layer in self.layers]
        self.asked += len(fresh)
        rows = said.split(1 if self.whole else sizes)
        found = {
            key: Answer(rows[at].clone(), tuple(each[at].clone() for each in states)) for at, key in enumerate(fresh)
        }
        for key, answer in found.items():
            size = len(key) + 4 * sum(each.numel() for each in (answer.said, *answer.states))
            if size <= self.room:
                self.room -= size
                self.kept[key] = answer
        return found


def require_alike(student: Predictor, teacher: Predictor, where: str) -> None:
    """Refuse a teacher that cannot teach this student."""
    if isinstance(teacher.model, Session):
        raise ValueError(f"the teacher in {where} is a graph, whose layers nobody sees; take what it was exported from")
    if not tokenizer.alike(student.pieces, teacher.pieces):
        raise ValueError(
            f"the teacher in {where} reads other pieces than the student; take one of the same vocabulary, for what it "
            "says of a text is said piece by piece"
        )
    mine, its = ((each.task.kind, each.names) for each in (student, teacher))
    if mine != its:
        raise ValueError(
            f"the teacher in {where} was tuned for {its[0]} with {', '.join(its[1][:5]) or 'no classes'}, and the "
            f"student for {mine[0]} with {', '.join(mine[1][:5]) or 'no classes'}; take one of the same task"
        )


def require_teaching(whole: Predictor, means: Means, paths: Sequence[str], reads: int) -> None:
    """Refuse what a distillation among these paths would refuse when it comes to it: its teacher, its student, and
    layers that are not there to be matched. `reads`: tokens of a text."""
    shape, paths = whole.model.encoder.shape, [path for path in paths if path.split("+")[-1] == "distil"]
    if not paths:
        return
    deep = shape.layers
    if means.teacher:
        teacher = reader(means.teacher)
        require_alike(whole, teacher, means.teacher)
        deep = teacher.model.encoder.shape.layers
        _room(teacher.model.encoder.shape, reads, f"the teacher in {means.teacher}")
    own = require_student(whole, means.student, reads).layers if means.student and "distil" in paths else 0
    for path in paths if means.hidden else ():
        distil.matched(_depth(path.split("+"), shape.layers, means.layers, own), deep, means.match)


def require_student(whole: Predictor, where: str, reads: int) -> Shape:
    """The shape of a student in a folder. Refuses one that cannot read what the model reads."""
    if not tokenizer.alike(tokenizer.load(vocabulary_in(where)), whole.pieces):
        raise ValueError(f"the student in {where} reads other pieces than the model; take one of its vocabulary")
    shape = hub.read(where, partial=True, outlined=True).shape
    _room(shape, reads, f"the student in {where}")
    return shape


def _room(shape: Shape, reads: int, who: str) -> None:
    if shape.length < reads:
        raise ValueError(f"{who} reads {shape.length} tokens, and texts here have up to {reads}; give --length less")


def _depth(words: Sequence[str], depth: int, keep: int, student: int) -> int:
    """Layers of what learns at the end of a path, of a model with `depth`: a student's own, or what was left."""
    for word in words:
        if word == "layers" or (words == ["distil"] and not student):
            depth = keep or max(1, depth // 2)
    return student if words == ["distil"] and student else depth


@contextmanager
def teaching(task: TuneTask, means: Means, student: Tuned, taught: Taught, pairs: Any, seed: int) -> Iterator[Loss]:
    """The loss of a student that learns from a teacher: `besides.loss` of a run. Within it, a student of another width
    has a map to the teacher's as a part of its own, which learns with it."""
    fit = None
    if pairs:
        fit = distil.fit_of(student.encoder.shape.width, taught.teacher.encoder.shape.width, seed=seed)
        student.fit = fit
    try:
        with distil.tapped(student.encoder.stack, [own for own, _ in pairs]) as passes:
            yield _loss(task, means, taught, pairs, passes)
    finally:
        if pairs:
            del student.fit


def _loss(task: TuneTask, means: Means, taught: Taught, pairs: Any, passes: Any) -> Loss:
    def loss(model: Tuned, batch: Batch, found: Tensor, own: Summed) -> Summed:
        texts = [each for each in (batch, batch.wanted, batch.unwanted) if each is not None]
        answers = [taught.of(each) for each in texts]
        soft = soft_of(task, means, found, torch.cat([each.said for each in answers]), batch)
        if not pairs:
            return distil.mixed(own, soft, means.alpha)
        met = []
        for text, answer, states in zip(texts, answers, list(passes)[-len(texts) :], strict=True):
            its = [answer.states[taught.layers.index(layer)] for _, layer in pairs]
            met.append(distil.hidden_loss([states[layer] for layer, _ in pairs], its, text.packed, model.fit))
        hidden = Summed(sum(each.total for each in met), sum(each.count for each in met))  # type: ignore[arg-type]
        return distil.mixed(own, soft, means.alpha, hidden, means.hidden)

    return loss


def soft_of(task: TuneTask, means: Means, found: Tensor, said: Tensor, batch: Batch) -> Summed:
    """How far a student is from what its teacher says, by the kind of the task."""
    heat = means.temperature
    if task.kind == "classify":
        return distil.soft_classes(found, said, heat)
    if task.kind == "tag":
        return distil.soft_classes(found, said, heat, None if batch.target is None else batch.target != IGNORED)
    if task.kind == "multilabel":
        return distil.soft_labels(found, said, heat)
    if task.kind == "regress":
        return distil.soft_numbers(found, said)
    if task.kind == "answer":
        assert batch.context is not None
        return distil.soft_spans(found, said, batch.packed, batch.context, heat)
    return distil.soft_pairs(found, said, len(batch.packed.bounds) - 1, task.temperature)
