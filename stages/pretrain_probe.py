"""What a pretraining will take, before it begins: counted where it can be counted, measured on a few real steps.

Promises: parameters and bytes of weights, gradients, moments and checkpoints are exact, and steps, where the shards are
there (`pretrain_count`); what a forward pass keeps for the way back is counted on a real one, tensor by tensor; speed
is that of a few steps of every kind a curriculum has, at the rows that go through at once, weighed by how many of them
there will be; documents are as long as those of the shards, or as web pages where there are none yet. Costs some
seconds and the memory of one part of a batch. What it cannot know is how several workers slow each other down.
"""

import os
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import numpy as np
import torch

from tundish.operators.model import clip
from tundish.operators.model.batch import Batch
from tundish.operators.model.guard import Guard
from tundish.operators.model.objective import TOKENS, counts_of, part_of, whole
from tundish.operators.model.phases import Leg, Phase, Schedule
from tundish.operators.model.rows import Layout
from tundish.operators.model.stream import Aim, Objective
from tundish.stages.pretrain_count import (
    amount,
    batch_of,
    copied,
    counted,
    noting,
    schedule_of,
    sizes_of,
    sliced,
)
from tundish.stages.pretrain_log import peak_of
from tundish.stages.pretrain_model import losses_of, optimizer_of
from tundish.stages.pretrain_passes import rows_of_pass
from tundish.stages.pretrain_task import PretrainTask, causal_of
from tundish.stages.pretrain_work import places_of, useful_of
from tundish.stages.spread import Copied, precision_of

COUNTED = 1 << 18  # places that are looked at to know what is in a row
STEPS, SECONDS = 3, 5.0  # at least so many of each kind, and for so long in all, unless a step alone takes longer


@dataclass(frozen=True)
class Forecast:
    """`memory`: bytes of a worker by part; `flops`: operations of training on a token, `padding` the share of places
    without one; `hours` with all workers, `held` of them to measure on what is held out."""

    parameters: int
    memory: dict[str, int]
    flops: float
    padding: float
    tokens: float
    tokens_per_second: float  # of all workers
    mfu: float  # 0 where the device's peak is not known
    hours: float
    held: float
    steps: int
    checkpoint: int  # bytes of one
    workers: int
    device: str

    def plain(self) -> dict[str, Any]:
        return asdict(self)


class Kind(NamedTuple):
    """Steps that take equally long: a phase's layout and objective, and rows that go through at once."""

    layout: Layout
    objective: Objective
    rate: float | None
    rows: int


class Measured(NamedTuple):
    """A part of a batch: seconds there and back, seconds of moving the weights, and what was in it."""

    seconds: float
    moving: float
    tokens: float
    places: float
    useful: float
    kept: int


def probe(task: PretrainTask, *, workers: int = 1, device: torch.device | None = None) -> Forecast:
    """A forecast for a task, of which `sources` need not be there yet, shared by so many workers."""
    device = device or torch.device("cuda" if torch.cuda.is_available() else "cpu")
    own, schedule, shares = counted(task, workers), schedule_of(task), max(1, workers // task.tensor)
    compiled = device.type == "cuda" if task.compiled is None else task.compiled
    compiled = compiled and task.shapes[0].stack != "pair"  # as the loop has it
    threads = torch.get_num_threads()
    if device.type == "cpu":  # those of a worker: as the run is told, or its share of this machine
        torch.set_num_threads(int(os.environ.get("TUNDISH_TORCH_THREADS", 0)) or max(1, threads // workers))
    try:
        kinds = _kinds(task, schedule, shares, compiled)
        found = _measured(task, set(kinds.values()), device, compiled)
        used = torch.get_num_threads()
    finally:
        torch.set_num_threads(threads)
    seconds, tokens, places, useful = np.zeros(4)
    for leg in schedule.legs:
        phase = schedule.phases[leg.phase]
        total = sum(weight for _, weight in phase.mixture)
        for name, weight in phase.mixture:
            kind = kinds[leg.phase, name]
            mine, parts = found[kind], _parts(leg, kind, shares, compiled)
            steps = leg.steps * weight / total
            seconds += steps * (parts * mine.seconds + mine.moving)
            here = steps * leg.rows / kind.rows  # of all workers, padding rows of a fixed shape not counted
            tokens, useful = tokens + here * mine.tokens, useful + here * mine.useful
            places += steps * parts * shares * mine.places
    most = max(each.kept for each in found.values())
    memory = own.memory | ({"passes" if compiled else "kept for the way back": most} if most else {})
    held = _held(task, schedule, found, kinds, shares)
    peak = task.peak or peak_of(device)
    return Forecast(
        parameters=own.parameters,
        memory=memory,
        flops=float(useful / tokens),
        padding=float(1 - tokens / places) if task.shapes[0].stack != "pair" else 0.0,
        tokens=float(tokens),
        tokens_per_second=float(tokens / seconds),
        mfu=float(useful / seconds / peak / workers) if peak else 0.0,
        hours=float(seconds + held) / 3600,
        held=held / 3600,
        steps=schedule.steps,
        checkpoint=own.checkpoint,
        workers=workers,
        device=torch.cuda.get_device_name(device) if device.type == "cuda" else f"CPU, {used} threads",
    )


def _kinds(task: PretrainTask, schedule: Schedule, shares: int, static: bool) -> dict[tuple[int, str], Kind]:
    """By phase and objective; of a batch that grows, its largest."""
    found = {}
    for number, phase in enumerate(schedule.phases):
        mine = -(-max(leg.rows for leg in schedule.legs if leg.phase == number) // shares)
        layout = Layout(phase.row, phase.context)
        rows = rows_of_pass(task, schedule, layout, shares, static=static) or mine
        rate = None if phase.rate is None else round(sum(phase.rate) / 2, 6)
        for name, _ in phase.mixture:
            found[number, name] = Kind(layout, task.aims.objectives[name], rate, rows if static else min(rows, mine))
    return found


def _parts(leg: Leg, kind: Kind, shares: int, static: bool) -> float:
    """Forward passes of a step, of so many rows as were measured; where shapes stay, the last is filled up."""
    mine = -(-leg.rows // shares)
    return -(-mine // kind.rows) if static else mine / kind.rows


def _measured(task: PretrainTask, kinds: set[Kind], device: torch.device, compiled: bool) -> dict[Kind, Measured]:
    """Each kind timed; those that differ in the rate alone once, and told apart by their operations."""
    spread = copied(task, device, compiled=compiled)
    optimizer = optimizer_of(sliced(task), spread.named(), sliced(task).shapes[0], compiled)
    alike = {kind._replace(rate=None): kind for kind in kinds}
    timed, found = {}, {}
    for plain, kind in alike.items():
        steps = _steps(task, spread, optimizer, kind, device, compiled)
        useful, _, _, kept = next(steps)  # the first warms up, and its tensors are counted
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
        times, began, due = [next(steps)[1:3]], time.perf_counter(), SECONDS / len(alike)
        least = STEPS if sum(times[0]) < due else 1
        while (len(times) < least or time.perf_counter() - began < due) and time.perf_counter() - began < 3 * due:
            times.append(next(steps)[1:3])
        if device.type == "cuda" and compiled:  # hooks would be compiled as well: what is given out tells instead
            own = [*spread.weights, spread.flat, *optimizer.state().values()]
            kept = max(0, torch.cuda.max_memory_allocated(device) - sum(each.nbytes for each in own))
        passing, moving = np.median(times, axis=0)
        timed[plain] = float(passing) / useful, float(moving), kept
    for kind in kinds:
        # what is in the rows of many, so that a few long documents among those that were timed do not count for all
        many = max(kind.rows, min(512, COUNTED // kind.layout.row))
        batch, share = _batch(task, kind, many), kind.rows / many
        useful = share * useful_of(task, batch, causal_of(kind.objective))
        each, moving, kept = timed[kind._replace(rate=None)]
        tokens, places = share * counts_of(batch)[TOKENS], share * places_of(batch)
        found[kind] = Measured(each * useful, moving, tokens, places, useful, kept)
    return found


def _batch(task: PretrainTask, kind: Kind, rows: int) -> Batch:
    sizes = sizes_of(task, Phase(0, 0, row=kind.layout.row, context=kind.layout.context))
    return batch_of(task, kind.layout, rows, Aim(kind.objective, kind.rate), sizes)


def _steps(
    task: PretrainTask, spread: Copied, optimizer: Any, kind: Kind, device: torch.device, compiled: bool
) -> Iterator[tuple[float, float, float, int]]:
    """Of one step after the other its operations, seconds of passes and of moving the weights, and bytes kept."""
    batch, states = _batch(task, kind, kind.rows), precision_of(task.dtype)[1]
    useful = useful_of(task, batch, causal_of(kind.objective))

    def clock() -> float:
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return time.perf_counter()

    def passing() -> torch.Tensor:
        part = part_of(batch, device, longest=kind.layout.context, static=compiled)
        return whole(losses_of(spread.model, part, task, kind.objective, states), counts_of(batch))

    guard = Guard(device, sigmas=task.sigmas)
    hooked = not compiled
    while True:
        kept: dict[int, int] = {}
        spread.clear()
        began = clock()
        if hooked:
            with noting(spread) as kept:
                loss = passing()
        else:
            loss = passing()
        spread.backward(loss, last=True)
        between = clock()
        norm = clip.norm_of(spread.weights)
        factor = guard.look(0, loss, norm)
        optimizer.step(0.0, factor)
        guard.drain()
        yield useful, between - began, clock() - between, sum(kept.values())
        hooked = False


def _held(
    task: PretrainTask,
    schedule: Schedule,
    found: dict[Kind, Measured],
    kinds: dict[tuple[int, str], Kind],
    shares: int,
) -> float:
    """Seconds of measuring on what is held out: forward passes, a third of the way, at the ends and in between."""
    number = schedule.at(schedule.steps - 1).phase
    phase = schedule.phases[number]
    kind = kinds[number, max(phase.mixture, key=lambda each: each[1])[0]]
    layout = Layout(phase.row, phase.context)
    rows = sum(min(sum(one.counted(layout).rows), task.holdout_rows) for one in task.holdout)
    times = 1 + (len(range(0, schedule.steps, task.evaluate_every)) if task.evaluate_every else 1)
    return times * rows / shares / kind.rows * found[kind].seconds / 3


def spoken(forecast: Forecast) -> list[str]:
    """A forecast in lines."""
    memory = forecast.memory
    parts = ", ".join(f"{name} {amount(size)}B" for name, size in memory.items())
    mfu = f", {forecast.mfu:.0%} of its peak" if forecast.mfu else ""
    workers = f"{forecast.workers} workers" if forecast.workers > 1 else "one worker"
    held = f", {forecast.held / forecast.hours:.0%} of them to measure on held-out rows" if forecast.held else ""
    return [
        f"{amount(forecast.parameters)} parameters; {amount(forecast.flops)}FLOP a token; {forecast.steps:,} steps",
        f"memory of a worker: {amount(sum(memory.values()))}B ({parts})",
        f"{forecast.tokens_per_second:,.0f} tokens/s with {workers} on this machine's {forecast.device}{mfu}: "
        f"{hours(forecast.hours)}{held}",
        f"a checkpoint takes {amount(forecast.checkpoint)}B",
    ]


def hours(number: float) -> str:
    """Hours as people read them.

    >>> hours(51.94), hours(0.2), hours(0.001)
    ('51.9 hours', '12.0 minutes', '3.6 seconds')
    """
    if number >= 1:
        return f"{number:.1f} hours"
    return f"{60 * number:.1f} minutes" if 60 * number >= 1 else f"{3600 * number:.3g} seconds"
