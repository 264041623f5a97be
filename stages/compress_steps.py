"""The steps of a compression that change a model, each with its recovery run, and what is said of it.

    distil       fewer layers (or another folder's model) learn from a teacher
    heads        the least important of each layer go, and the rest recovers
    layers       some go, and the rest recovers
    magnitude    the smallest weights are zero, and stay so while the rest recovers
    recovery     nothing goes: what the training of the others does by itself
    int8         matrices in bytes; nothing learns

Promises: the given model is left as it is; a step is a function of it, of the task, of `Means` and of the seed, on
machines of one kind; what is scored before a recovery is scored as after it. All recoveries learn at one rate, by the
size of the whole model unless the task says one; a student from a folder at that of its own size. Importance is that of
the first WEIGHED examples of train, which lie in an order that makes them a fair sample. Costs a training a seed, and
what the operators say. Refuses what they refuse.
"""

import copy
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from tundish.operators.model import pruning
from tundish.operators.model.distil import matched
from tundish.operators.model.heads import Tuned, begun
from tundish.operators.model.quantized import quantized
from tundish.stages import hub
from tundish.stages.compress_distil import Taught, require_alike, require_student, teaching
from tundish.stages.compress_read import reader
from tundish.stages.compress_task import Means
from tundish.stages.finetune_kinds import asked, loss_of, outputs, scored
from tundish.stages.finetune_one import DTYPES, Besides, Outcome, trained
from tundish.stages.finetune_rows import Batch, Rows
from tundish.stages.finetune_task import HEADS, Run, TuneTask, rate_of
from tundish.stages.predict import Predictor

WEIGHED = 1024  # examples that importance is the mean over
GROWING = 0.5  # of the steps of a recovery, while zeros grow gradually
Scores = dict[str, dict[str, float]]  # part -> measure -> score


@dataclass(frozen=True)
class Room:
    """What all steps share: the task with its parts, and the model as it was read (`whole`)."""

    task: TuneTask
    means: Means
    parts: Mapping[str, Rows]
    device: torch.device
    whole: Predictor
    trained: frozenset[str] = frozenset()  # ids of texts that the whole model has learnt

    @property
    def dtype(self) -> torch.dtype:
        return DTYPES[self.task.dtype]

    @property
    def rate(self) -> float:
        """Of every recovery: a smaller model would have a higher one by its size, and be told for that."""
        return self.task.lr or rate_of(sum(each.numel() for each in self.whole.model.parameters()))


class Made(NamedTuple):
    """What a step left: the model (of a `graph` what it was made of), in words what was done, the scores before its
    recovery, and how that went."""

    model: Tuned
    told: str
    before: Scores | None = None
    outcome: Outcome | None = None
    graph: bytes | None = None


def heads(room: Room, given: Tuned, seed: int) -> Made:
    shape = given.encoder.shape
    keep = room.means.heads or max(1, shape.heads // 2)
    importance = pruning.head_importance(given.eval(), _losses(room, given))
    same = shape.positions == "buckets"  # one bias of distances serves all layers
    smaller = pruning.without_heads(given, pruning.kept_heads(importance, keep, same=same))
    return _recovered(room, smaller, seed, f"{keep} of {shape.heads} heads a layer")


def layers(room: Room, given: Tuned, seed: int) -> Made:
    kept = _kept(room, given)
    return _recovered(room, pruning.without_layers(given, kept), seed, _numbered(kept, given.encoder.shape.layers))


def magnitude(room: Room, given: Tuned, seed: int) -> Made:
    share, scope = room.means.share, room.means.scope
    model, cut = copy.deepcopy(given), copy.deepcopy(given)
    masks = pruning.masks_of(cut, share, scope)
    pruning.hold(cut, masks)
    before = scores_of(room, cut)
    told = f"{100 * share:.0f} % of the layers' matrices zero{'' if scope == 'global' else ', of each as many'}"
    if not room.means.gradual:
        return _recovered(room, cut, seed, told, lambda model: pruning.hold(model, masks), before)
    return _recovered(room, model, seed, told + ", gradually", _growing(room), before)


def _growing(room: Room) -> Callable[[Tuned], None]:
    """Behind every step: more zeros, up to the share, and none of them lost."""
    task, means = room.task, room.means
    steps = max(1, int(GROWING * task.epochs * -(-len(room.parts["train"]) // task.batch)))
    each, done, masks = max(1, steps // 20), 0, dict[str, Tensor]()

    def after(model: Tuned) -> None:
        nonlocal done, masks
        done += 1
        if done == steps or (done < steps and done % each == 0):
            masks = pruning.masks_of(model, pruning.share_at(done, steps, means.share), means.scope)
        pruning.hold(model, masks)

    return after


def recovery(room: Room, given: Tuned, seed: int) -> Made:
    return _recovered(room, copy.deepcopy(given), seed, "the same training, and nothing taken away")


def distil(room: Room, given: Tuned, seed: int) -> Made:
    """`given` is the model itself, or what another step left of it, which then learns as it is."""
    means, own = room.means, given is room.whole.model
    teacher = room.whole
    if means.teacher:
        teacher = reader(means.teacher, device=str(room.device))
        require_alike(room.whole, teacher, means.teacher)
    student, told = _student(room, given, seed) if own else (copy.deepcopy(given), "what was left")
    depth, deep = student.encoder.shape.layers, teacher.model.encoder.shape.layers
    pairs = matched(depth, deep, means.match) if means.hidden else ()
    taught = Taught(teacher.model, tuple(dict.fromkeys(layer for _, layer in pairs)), room.dtype)
    told += f", from {means.teacher or 'the model'}"
    before = scores_of(room, student)
    with teaching(room.task, means, student, taught, pairs, seed) as loss:
        rate = room.task.lr if own and means.student else room.rate
        model, outcome = _trained(room, student, seed, Besides(start=student, loss=loss), rate)
    return Made(model, told, before, outcome)


def int8(room: Room, given: Tuned, seed: int) -> Made:
    return Made(quantized(copy.deepcopy(given).cpu()), "matrices in bytes, activations as they come")  # type: ignore[arg-type]


STEPS: Mapping[str, Callable[[Room, Tuned, int], Made]] = {
    "distil": distil,
    "heads": heads,
    "layers": layers,
    "magnitude": magnitude,
    "recovery": recovery,
    "int8": int8,
}


def scores_of(room: Room, model: Any) -> Scores:
    """What a model scores on every part but train, on the device where it lies."""
    device = next((each.device for each in model.parameters()), torch.device("cpu"))
    return {name: one for name, (one, _) in said_of(room, model, device).items()}


def said_of(room: Room, model: Any, device: torch.device) -> dict[str, tuple[dict[str, float], Any]]:
    """Scores of every part but train, and what was said of it."""
    found = {}
    for name, rows in room.parts.items():
        if name != "train":
            said = asked(room.task, model, rows, device, room.dtype)
            found[name] = scored(room.task, rows, said, room.task.truth.get(name)), said["logits"]
    return found


def _student(room: Room, given: Tuned, seed: int) -> tuple[Tuned, str]:
    means, train = room.means, room.parts["train"]
    if not means.student:
        kept = _kept(room, given)
        return pruning.without_layers(given, kept), _numbered(kept, given.encoder.shape.layers)
    require_student(room.whole, means.student, room.task.length)
    shape, weights = hub.weights_of(means.student)
    head, classes = HEADS[room.task.kind], train.classes
    student = begun(shape, head, classes, seed=seed, weights=weights, dropout=room.task.dropout)
    return pruning.bare(student).to(room.device), f"a student of {shape.layers} layers from {means.student}"


def _kept(room: Room, given: Tuned) -> tuple[int, ...]:
    shape, way = given.encoder.shape, room.means.way
    keep, importance = room.means.layers or max(1, shape.layers // 2), None
    if way == "contribution":
        rows = room.parts["train"]
        passes = [lambda each=each: _outputs(room, given.eval(), each) for each in _batches(room, rows)]
        importance = pruning.contributions(given, passes)
    return pruning.kept_layers(shape, keep, way, importance)


def _numbered(kept: tuple[int, ...], of: int) -> str:
    return f"layers {', '.join(str(layer + 1) for layer in kept)} of {of}"


def _recovered(room: Room, model: Tuned, seed: int, told: str, after: Any = None, before: Scores | None = None) -> Made:
    before = before if before is not None else scores_of(room, model)
    model, outcome = _trained(room, model, seed, Besides(start=model, after=after), room.rate)
    return Made(model, told, before, outcome)


def _trained(room: Room, model: Tuned, seed: int, besides: Besides, rate: float) -> tuple[Tuned, Outcome]:
    model.dropout = room.task.dropout
    model.requires_grad_(True)
    task, run, shape = replace(room.task, lr=rate), Run(True, seed), model.encoder.shape
    return trained(task, run, shape, {}, room.parts, room.device, lambda *_: None, besides)


def _losses(room: Room, model: Tuned) -> Iterator[Callable[[], Tensor]]:
    """Of batches of the first examples, the sum of their losses."""
    for batch in _batches(room, room.parts["train"]):
        yield lambda batch=batch: loss_of(room.task, _outputs(room, model, batch), batch, None).total


def _outputs(room: Room, model: Tuned, batch: Batch) -> Tensor:
    texts = [each for each in (batch, batch.wanted, batch.unwanted) if each is not None]
    return torch.cat([outputs(model, each, {}, dtype=room.dtype) for each in texts])


def _batches(room: Room, rows: Rows) -> Iterator[Batch]:
    count = min(len(rows), WEIGHED)
    for first in range(0, count, room.task.batch):
        yield rows.batch(range(first, min(count, first + room.task.batch)), room.device)
