"""The legs of a training's plan: stretches of steps in which rows have one length, each with a plan of its own.

Promises: a position is told apart from those of other legs by bits above its own, so a list of skipped rows may name
any of them. Costs nothing. Refuses nothing; the plans do.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from tundish.operators.model.batch import IGNORED, Batch
from tundish.operators.model.phases import Schedule
from tundish.operators.model.plan import Plan, onward
from tundish.operators.model.rows import Layout

LEG = 40  # bits of a position below the number of its leg
Holes = Sequence[tuple[int, int]]


@dataclass(frozen=True)
class Leg:
    """`steps` steps from `first` on, of rows of one layout; in its plan they are counted from 0."""

    first: int
    steps: int
    layout: Layout
    plan: Plan

    def plain(self) -> dict[str, Any]:
        layout = {"row": self.layout.row, "context": self.layout.context}
        return {"first": self.first, "steps": self.steps, **layout, "plan": self.plan.plain()}

    @classmethod
    def of(cls, plain: Mapping[str, Any]) -> "Leg":
        layout = Layout(plain["row"], plain["context"])
        return cls(plain["first"], plain["steps"], layout, Plan.of(plain["plan"]))


def holes_of(holes: Holes, number: int) -> tuple[tuple[int, int], ...]:
    """The holes of a leg, in its own positions; those that touch are one."""
    mine: list[tuple[int, int]] = []
    for first, last in sorted(holes):
        if first >> LEG == number:
            first, last = first - (number << LEG), last - (number << LEG)
            if mine and first <= mine[-1][1]:
                mine[-1] = mine[-1][0], max(last, mine[-1][1])
            else:
                mine.append((first, last))
    return tuple(mine)


def shifted(holes: Holes, number: int) -> list[tuple[int, int]]:
    """A leg's holes as they are told apart from those of other legs."""
    return [(first + (number << LEG), last + (number << LEG)) for first, last in holes]


def with_holes(legs: Sequence[Leg], holes: Holes) -> tuple[Leg, ...]:
    """The legs without these positions. Changed weights stay at the step at which they were."""
    found = []
    for number, leg in enumerate(legs):
        mine = holes_of(holes, number)
        starts = [_consumed(leg.plan, stretch.first) for stretch in leg.plan.stretches]
        plan = replace(leg.plan, holes=mine)
        stretches = tuple(
            replace(stretch, first=_around(mine, start))
            for stretch, start in zip(leg.plan.stretches, starts, strict=True)
        )
        found.append(replace(leg, plan=replace(plan, stretches=stretches)))
    return tuple(found)


def _consumed(plan: Plan, position: int) -> int:
    """Rows before a position that were not skipped."""
    return position - sum(min(last, position) - first for first, last in plan.holes if first < position)


def _around(holes: Holes, consumed: int) -> int:
    """The position of a row by its number among those that are not skipped; the first is always 0."""
    position = consumed
    for first, last in holes if consumed else ():
        position += last - first if position >= first else 0
    return position


def until_of(legs: Sequence[Leg], step: int) -> list[dict[str, Any]]:
    """What of a plan's legs decides the steps before this one."""
    known = [leg for number, leg in enumerate(legs) if leg.first < step or not number]
    told = [replace(leg, plan=leg.plan.until(min(step - leg.first, leg.steps))).plain() for leg in known]
    return [{name: value for name, value in leg.items() if name != "steps"} for leg in told]


def lasting(plan: Plan, until: int) -> Plan:
    """The plan with stretches up to a step: each lasts until its sources have been seen as often as one another."""
    end = int(plan.share(until)[0])
    while (over := plan.runs_out()) < end:
        plan = onward(plan, over)
    return plan


def of_steps(schedule: Schedule, steps: int) -> Schedule:
    """The schedule with its last leg shorter or longer, so that it has so many steps."""
    *before, last = schedule.legs
    return replace(schedule, legs=(*before, last._replace(steps=steps - last.first)))


def filled_up(batch: Batch, rows: int, pad: int) -> Batch:
    """The batch with rows of padding behind it, so that there are so many."""
    missing = rows - len(batch.sizes)
    if not missing or batch.inputs.ndim != 2:
        return batch
    row = batch.inputs.shape[1]
    none = np.zeros(missing, np.int64)
    more = batch.bounds[-1] + row * np.arange(1, missing + 1, dtype=np.int32)
    return batch._replace(
        inputs=np.concatenate([batch.inputs, np.full((missing, row), pad, batch.inputs.dtype)]),
        bounds=np.concatenate([batch.bounds, more.astype(batch.bounds.dtype)]),
        sizes=np.concatenate([batch.sizes, none]),
        counts=np.concatenate([batch.counts, none]),
        prefixes=None if batch.prefixes is None else np.concatenate([batch.prefixes, none.astype(np.int32)]),
    )


def blanked(batch: Batch) -> Batch:
    """The batch as one that adds nothing to any loss."""
    none = np.zeros_like(batch.sizes)
    return batch._replace(labels=np.full_like(batch.labels, IGNORED), sizes=none, counts=none, digest=0)
