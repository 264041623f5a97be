"""One fine-tuning run, top to bottom: from weights to what the model says of every part.

Promises: a function of the task and the run on machines of one kind; every step's loss is the mean over its whole
batch, however it is parted; AdamW corrects its bias (Mosbach et al. 2021: without, small data collapse); the last
weights are scored, or with `patience` those best on dev, never those best on a test. Costs a forward and a backward
pass a batch; R-drop and SiFT as they say. A loss that is no number ends the run: it failed, and is told. A task may
bring others that learn on its trunk (stages/finetune_mixed); its own batches are the same with and without them.
"""

import contextlib
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor, nn

from tundish.operators.model import lora, writer
from tundish.operators.model.classes import Balanced, class_weights
from tundish.operators.model.depth import depths, groups, reinitialised, thaw, thawed
from tundish.operators.model.dropping import gone, skipped
from tundish.operators.model.head_losses import Summed
from tundish.operators.model.heads import TRUNK, Tuned, begun
from tundish.operators.model.mixout import mixed
from tundish.operators.model.order import keyed, shuffled
from tundish.operators.model.patience import progress
from tundish.operators.model.schedules import warm_linear
from tundish.operators.model.shape import Shape
from tundish.operators.model.smooth import drawing, rdrop, roughness
from tundish.stages.finetune_kinds import SMOOTH, asked, counted, loss_of, outputs, readied, scored
from tundish.stages.finetune_rows import Batch, Rows, counts
from tundish.stages.finetune_task import HEADS, MEASURES, Run, TuneTask, rate_of

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float64": torch.float64}
DROPPED = 77  # a stream of keys


@dataclass
class Outcome:
    """`losses`: means over epochs; `dev`: the score after each, where it was asked; `failed`: why a run ended early;
    `beside`: what is told of each other task that learned on the trunk."""

    losses: list[float] = field(default_factory=list)
    dev: list[float] = field(default_factory=list)
    steps: int = 0
    rate: float = 0.0
    failed: str = ""
    said: dict[str, dict[str, np.ndarray]] = field(default_factory=dict)
    beside: dict[str, Any] = field(default_factory=dict)


class Company(Protocol):
    """Other tasks that learn on one trunk with the one that counts. `models`: each task's head on that trunk; `steps`
    of theirs in all. `before(step, began)` leaves the gradient of one batch after the other that comes before a step of
    the one that counts, and gives its model; `began` is what mixout mixes with. `told(dtype)`: what they came to."""

    models: Sequence[Tuned]
    steps: int

    def before(self, step: int, began: Mapping[str, Tensor] | None) -> Iterable[Tuned]: ...
    def told(self, dtype: torch.dtype) -> dict[str, Any]: ...


@dataclass(frozen=True)
class Besides:
    """What a run may have beside its task. `start`: a model to go on from, in place of a new one; it is changed, and is
    the one whose trunk `company` learns on, if there is company.
    `loss(model, batch, found, own)`: the loss of a part of a batch in place of its own, as (sum, count); `found` is
    what the model gave for it. `after(model)`: once behind every step. `watch(epochs, score)`: behind every epoch,
    with the score on dev; true ends the run there."""

    start: Tuned | None = None
    loss: Callable[[Tuned, Batch, Tensor, Summed], Summed] | None = None
    after: Callable[[Tuned], None] | None = None
    watch: Callable[[int, float], bool] | None = None
    company: Company | None = None


ALONE = Besides()
Weights = Mapping[str, Tensor]


@runtime_checkable
class Brings(Protocol):
    """A task that others belong to: what a run of it begins with, and what it has beside it."""

    def joined(
        self, run: Run, shape: Shape, given: Weights | None, parts: Mapping[str, Rows], device: torch.device,
        besides: Besides,
    ) -> tuple[Weights | None, Besides]: ...  # fmt: skip


def trained(
    task: TuneTask,
    run: Run,
    shape: Shape,
    weights: Mapping[str, Tensor],
    parts: Mapping[str, Rows],
    device: torch.device,
    tell: Callable[[int, int, float], None],
    besides: Besides = ALONE,
) -> tuple[Tuned, Outcome]:
    """The model of a run, and what it says of every part but train. `tell(step, steps, loss)` once an epoch."""
    task = task.of(run)
    train, dtype = readied(task, parts["train"], shape), DTYPES[task.dtype]
    size = run.size or len(train)
    if size > len(train):
        raise ValueError(f"there are {len(train)} examples to train on, and not the first {size}; ask for fewer")
    given = weights if run.pretrained else None
    if isinstance(task, Brings):
        given, besides = task.joined(run, shape, given, parts, device, besides)
    model, told = besides.start or begun_of(task, run, shape, given, train), Outcome()
    models = [model, *(besides.company.models if besides.company else ())]
    for one in models:
        one.to(device)
    before = before_of(task, model, given)
    told.rate = task.lr or rate_of(sum(each.numel() for each in model.parameters()), lora=task.aids.lora)
    optimizer = optimizer_of(task, models, told.rate)
    order, each = order_of(task, run, train, size), -(-size // task.batch)
    heavy = _class_weights(task, train, size, device)
    steps, best = task.epochs * each + (besides.company.steps if besides.company else 0), None
    for epoch in range(task.epochs):
        if task.aids.unfreeze:
            thaw(model, thawed(depths(model), epoch, each=task.aids.unfreeze))
        for one in models:
            one.train()
        total = torch.zeros((), dtype=torch.float64, device=device)
        for part in range(each):
            step = epoch * each + part
            rows = order(np.arange(part * task.batch, min(size, (part + 1) * task.batch)), epoch)
            for other in besides.company.before(step, before) if besides.company else ():
                descend(task, other, optimizer, told, steps)
                if besides.after:
                    besides.after(model)
            total += step_of(task, run, model, train, rows, step, before, heavy, dtype, besides)
            descend(task, model, optimizer, told, steps)
            if besides.after:
                besides.after(model)
        told.losses.append(float(total) / each)
        tell(told.steps, steps, told.losses[-1])
        if not math.isfinite(told.losses[-1]):
            told.failed = f"the loss was {told.losses[-1]} in epoch {epoch + 1}"
            break
        if task.aids.patience or besides.watch:
            said = asked(task, model, parts["dev"], device, dtype)
            told.dev.append(scored(task, parts["dev"], said, task.truth.get("dev"))[MEASURES[task.kind]])
        if task.aids.patience:
            so_far = progress(told.dev, patience=task.aids.patience)
            if so_far.best == epoch:
                best = _copied(models)
            if so_far.stop:
                break
        if besides.watch and besides.watch(epoch + 1, told.dev[-1]):
            break
    for one, state in zip(models, best or (), strict=False):
        one.load_state_dict(state, strict=False)
    if besides.company and not told.failed:
        told.beside = besides.company.told(dtype)
    if task.aids.lora:
        lora.merged(model)
    told.said = {name: asked(task, model, rows, device, dtype) for name, rows in parts.items() if name != "train"}
    return model, told


def descend(task: TuneTask, model: Tuned, optimizer: torch.optim.Optimizer, told: Outcome, steps: int) -> None:
    """One step down the gradients of a model; the rate is that of step `told.steps` of `steps`."""
    for group in optimizer.param_groups:
        group["lr"] = told.rate * group["pace"] * warm_linear(told.steps, steps=steps, warm=task.warmup)
    torch.nn.utils.clip_grad_norm_([p for p in model.parameters() if p.grad is not None], task.clip)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    told.steps += 1


def _copied(models: Sequence[Tuned]) -> list[dict[str, Tensor]]:
    """The weights of models on one trunk, the trunk's with the first alone."""
    return [
        {name: each.detach().clone() for name, each in one.state_dict().items() if not at or not name.startswith(TRUNK)}
        for at, one in enumerate(models)
    ]


def begun_of(task: TuneTask, run: Run, shape: Shape, weights: Mapping[str, Tensor] | None, train: Rows) -> Tuned:
    level = float(np.nanmean(np.asarray(train.targets))) if task.kind == "regress" else 0.0
    classes = train.classes
    pooling = task.pooling or None
    how: dict[str, Any] = {"seed": run.seed, "weights": weights, "dropout": task.dropout}
    if task.kind == "write":
        model: Any = writer.begun(shape, form=task.writing, **how)
    else:
        model = begun(shape, HEADS[task.kind], classes, pooling=pooling, **how)
    if task.kind == "regress" and model.chooser is not None and model.chooser.bias is not None:
        nn.init.constant_(model.chooser.bias, level)  # numbers need not be learnt up to their mean
    if task.aids.fresh_top:
        reinitialised(model, task.aids.fresh_top, seed=keyed(run.seed, task.aids.fresh_top) >> 1)
    if task.aids.lora:
        lora.adapt(model, lora.Lora(rank=task.aids.lora, alpha=2.0 * task.aids.lora), seed=run.seed)
    return model


def before_of(task: TuneTask, model: Tuned, weights: Mapping[str, Tensor] | None) -> dict[str, Tensor] | None:
    """What mixout mixes with: the weights that the run began from; of fresh ones nothing, which is zero."""
    if not task.aids.mixout or weights is None:
        return None
    given = {TRUNK + name for name in weights}
    return {name: each.detach().clone() for name, each in model.named_parameters() if name in given}


def optimizer_of(task: TuneTask, models: Sequence[nn.Module], rate: float) -> torch.optim.AdamW:
    """Of all weights of models on one trunk; a weight without a gradient keeps still in a step."""
    made, known = [], set[int]()
    for model in models:
        for group in groups(model, decay=task.weight_decay, layerwise=task.aids.layerwise, rate=rate):
            fresh = [each for each in group["params"] if id(each) not in known]
            made += [group | {"params": fresh}] if fresh else []
            known |= set(map(id, fresh))
    return torch.optim.AdamW(made, lr=rate, betas=(0.9, 0.999), eps=1e-8)


def order_of(task: TuneTask, run: Run, train: Rows, size: int) -> Callable[[np.ndarray, int], np.ndarray]:
    """Rows at places of an epoch."""
    if task.aids.balance == "sampling":
        if task.kind != "classify":
            raise ValueError(f"only examples of one class each are drawn by class; a task of {task.kind} has others")
        even = Balanced(np.asarray(train.targets)[:size], seed=run.seed)
        return even.at
    return lambda places, epoch: shuffled(places, size=size, key=keyed(run.seed, epoch))


def _class_weights(task: TuneTask, train: Rows, size: int, device: torch.device) -> Tensor | None:
    if task.aids.balance in ("", "sampling"):
        return None
    if task.kind != "classify":
        raise ValueError(
            f"only classes of whole texts are weighed, and this is a task of {task.kind}; leave balance out"
        )
    mine = (
        np.bincount(np.asarray(train.targets)[:size], minlength=train.classes) if size < len(train) else counts(train)
    )
    return torch.tensor(class_weights(mine, task.aids.balance), dtype=torch.float32, device=device)


def step_of(
    task: TuneTask,
    run: Run,
    model: Tuned,
    train: Rows,
    rows: np.ndarray,
    step: int,
    before: Mapping[str, Tensor] | None,
    heavy: Tensor | None,
    dtype: torch.dtype,
    besides: Besides = ALONE,
) -> Tensor:
    """Leave the gradient of the mean loss over these rows; the mean itself (0-d, float64, on the device)."""
    device = next(model.parameters()).device
    weights = mixed(model, before, task.aids.mixout, seed=run.seed, step=step)
    left_out = gone(step, seed=run.seed, layers=shape_layers(model), share=task.aids.layerdrop)
    total, count = torch.zeros((), device=device), torch.zeros((), device=device)
    at_once = task.at_once or len(rows)
    several = len(rows) > at_once
    with skipped(model.encoder.stack, left_out) if left_out else contextlib.nullcontext():
        for number, at in enumerate(range(0, len(rows), at_once)):
            batch = train.batch(rows[at : at + at_once], device)
            found = _loss(task, run, model, batch, step, number, weights, heavy, dtype, besides)
            found.total.backward(retain_graph=bool(weights) and several)
            total, count = total + found.total.detach(), count + found.count.detach()
    for weight in model.parameters():
        if weight.grad is not None:
            weight.grad.div_(count.clamp(min=1e-12))
    return (total / count.clamp(min=1e-12)).double()


def shape_layers(model: Tuned) -> int:
    return model.encoder.shape.layers


def _loss(
    task: TuneTask,
    run: Run,
    model: Tuned,
    batch: Batch,
    step: int,
    number: int,
    weights: Mapping[str, Tensor],
    heavy: Tensor | None,
    dtype: torch.dtype,
    besides: Besides = ALONE,
) -> Summed:
    """The loss of a part of a step's batch, with what R-drop and SiFT add to it."""

    def once(which: int) -> Tensor:
        with drawing(keyed(run.seed, DROPPED, step, number, which), batch.tokens):
            if task.kind != "embed":
                return outputs(model, batch, weights, dtype=dtype)
            texts = [each for each in (batch, batch.wanted, batch.unwanted) if each is not None]
            return torch.cat([outputs(model, each, weights, dtype=dtype) for each in texts])

    first = once(0)
    found = loss_of(task, first, batch, heavy)
    if besides.loss:
        found = besides.loss(model, batch, first, found)
    if task.aids.rdrop:
        second = once(1)
        other = loss_of(task, second, batch, heavy)
        apart = rdrop(first, second, _smooth(task), counted=counted(task, batch))
        share = apart.total / apart.count.clamp(min=1e-12) * found.count
        found = Summed((found.total + other.total) / 2 + task.aids.rdrop * share, found.count)
    if task.aids.sift:
        rough = roughness(
            model, first, batch.tokens, batch.packed, kind=_smooth(task), seed=run.seed, step=step,
            counted=counted(task, batch), ask=lambda: once(0),
        )  # fmt: skip
        share = rough.total / rough.count.clamp(min=1e-12) * found.count
        found = Summed(found.total + task.aids.sift * share, found.count)
    return found


def _smooth(task: TuneTask) -> str:
    if task.kind not in SMOOTH:
        raise ValueError(f"R-drop and SiFT have no divergence for a task of {task.kind}; leave them out")
    return SMOOTH[task.kind]


def told_of(outcome: Outcome) -> dict[str, Any]:
    """What of an outcome is plain."""
    return {
        "losses": outcome.losses,
        "dev": outcome.dev,
        "steps": outcome.steps,
        "rate": outcome.rate,
        "failed": outcome.failed,
    } | ({"beside": outcome.beside} if outcome.beside else {})
