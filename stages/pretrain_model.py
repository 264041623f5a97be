"""What a pretraining trains: the model of a task with its first weights, the loss of a part, the optimiser.

Promises: every precision and every number of ranks begins with the same weights; a model begun from a folder has the
folder's (`pretrain_adopt`).
"""

from typing import Any, Protocol

import torch
from torch import Tensor, nn

from tundish.operators.model.descent import AdamW, StableAdamW
from tundish.operators.model.family import Model
from tundish.operators.model.init import initialise
from tundish.operators.model.muon import Muon
from tundish.operators.model.objective import Detection, Part, Term, guess
from tundish.operators.model.shape import Shape
from tundish.stages.pretrain_adopt import begin
from tundish.stages.pretrain_task import PretrainTask, causal_of

OPTIMIZERS = {"stable-adamw": StableAdamW, "adamw": AdamW}


class Optimizer(Protocol):
    def step(self, rate: float | Tensor, factor: Tensor | None = None) -> None: ...

    def state(self) -> dict[str, Tensor]: ...

    def restore(self, state: dict[str, Tensor], steps: int) -> None: ...


def trainee_of(task: PretrainTask, dtype: torch.dtype) -> nn.Module:
    """The model, or generator and discriminator, on the CPU. Drawn in float32 and then widened."""
    shape, generator = task.shapes
    if generator:
        with torch.device("meta"):
            both = Detection(shape, generator, sharing=task.sharing)
        both.to_empty(device="cpu").tie()
        # one seed for all would give parts of one size the same weights; a shared table is the generator's
        for number, (part, its) in enumerate(
            ((both.discriminator, both.discriminator.shape), (both.detector, shape), (both.generator, generator)), 1
        ):
            initialise(part, its, seed=task.seed + number % 3)
        if task.sharing == "gdes":
            nn.init.zeros_(both.discriminator.embedding.weight)
        if task.begin:
            begin(both, task)
        both.to(dtype).tie()
        return both
    with torch.device("meta"):
        model = Model(shape)
    initialise(model, shape, seed=task.seed)
    if task.begin:
        begin(model, task)
    return model.to(dtype)


def losses_of(model: nn.Module, part: Part, task: PretrainTask, objective: object, dtype: torch.dtype) -> list[Term]:
    """The terms of the loss of a part of a batch."""
    if isinstance(model, Detection):
        return model(part, dtype=dtype)
    return guess(model, part, causal=causal_of(objective), dtype=dtype, z=task.z)  # type: ignore[arg-type]


def terms_of(task: PretrainTask) -> tuple[str, ...]:
    """Names of the terms of a task's loss, in their order; a rank without rows has no others."""
    if task.detects:
        return ("masked", "detected")
    return ("loss", "balance") if task.shapes[0].experts else ("loss",)


def optimizer_of(task: PretrainTask, named: list[tuple[str, nn.Parameter]], shape: Shape, compiled: bool) -> Optimizer:
    peak = task.lr if task.decoupled else None

    def adam(kind: type[AdamW], some: Any) -> AdamW:
        told: dict[str, Any] = {"betas": task.betas, "eps": task.eps, "decay": task.weight_decay, "peak": peak}
        return kind(some, **told, compiled=compiled)

    if task.optimizer == "muon":
        third = shape.heads * shape.head_width
        parts = {name: (third, third, third) for name, _ in named if name.endswith("attention.qkv.weight")}
        parts |= {name: (third, third) for name, _ in named if name.endswith("across.kv.weight")}
        return Muon(named, parts=parts, decay=task.weight_decay, peak=peak, others=lambda some: adam(StableAdamW, some))
    return adam(OPTIMIZERS[task.optimizer], named)
