"""A curriculum in steps: everything a step needs to know, as a function of the step.

Promises: legs of steps follow one another without a gap, and have the tokens of their phases but for less than a step;
what a stair is short of or beyond its share, the next has more or less. `at` needs nothing but the step. Costs a binary
search and, for mixtures, a few integer operations. Refuses steps outside of the run.
"""

from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np

from tundish.operators.model.mixture import Mixture
from tundish.operators.model.stream import Aim, Objective

LEVELS = 8  # of a rate or a batch that changes: so many shapes are compiled


@dataclass(frozen=True)
class Phase:
    """Tokens `first` to `end` of a training. `mixture`: names of objectives and their weights. `rate`: from, to; None:
    the objective's own. `batch`: rows of a step, from, to. `lr`: factor, from, to. `row`, `context`: 0: the task's."""

    first: int
    end: int
    mixture: tuple[tuple[str, int], ...] = (("mlm", 1),)
    rate: tuple[float, float] | None = None
    row: int = 0
    context: int = 0
    batch: tuple[int, int] = (0, 0)
    lr: tuple[float, float] = (1.0, 1.0)


class Leg(NamedTuple):
    """`steps` steps from `first` on, of `rows` rows each; `phase` counts in the curriculum."""

    first: int
    steps: int
    rows: int
    phase: int


class Setting(NamedTuple):
    """What a step has. `name`: of its objective. `rate`: None: the objective's own. `lr`: a factor."""

    phase: int
    name: str
    objective: Objective
    rate: float | None
    row: int
    context: int
    rows: int
    lr: float


@dataclass(frozen=True)
class Schedule:
    phases: tuple[Phase, ...]
    objectives: Mapping[str, Objective]
    legs: tuple[Leg, ...]
    levels: int = LEVELS

    @property
    def steps(self) -> int:
        return self.legs[-1].first + self.legs[-1].steps

    @property
    def batches(self) -> tuple[tuple[int, int], ...]:
        """(first step, rows of a step from there on), as a plan takes them."""
        return _changes((leg.first, leg.rows) for leg in self.legs)

    @property
    def layouts(self) -> tuple[tuple[int, tuple[int, int]], ...]:
        """(first step, (row, context) from there on): rows are cut anew where these change."""
        return _changes((leg.first, (self.phases[leg.phase].row, self.phases[leg.phase].context)) for leg in self.legs)

    @cached_property
    def _spans(self) -> tuple[tuple[int, int], ...]:
        """The first step of every phase, and how many it has."""
        found = []
        for number in range(len(self.phases)):
            legs = [leg for leg in self.legs if leg.phase == number]
            found.append((legs[0].first, sum(leg.steps for leg in legs)))
        return tuple(found)

    @cached_property
    def _mixtures(self) -> tuple[Mixture, ...]:
        return tuple(Mixture([weight for _, weight in phase.mixture]) for phase in self.phases)

    def phase(self, number: int) -> tuple[int, int]:
        """A phase's first step, and how many it has."""
        return self._spans[number]

    def at(self, step: int) -> Setting:
        if not 0 <= step < self.steps:
            raise ValueError(f"there is no step {step} in a curriculum of {self.steps} steps; ask for one of them")
        leg = self.legs[bisect_right(self.legs, step, key=lambda leg: leg.first) - 1]
        phase, (first, steps) = self.phases[leg.phase], self._spans[leg.phase]
        which = int(self._mixtures[leg.phase].split(np.array([step - first]))[0][0])
        name = phase.mixture[which][0]
        rate = None
        if phase.rate is not None:
            rate = round(_between(phase.rate, _stair(step - first, steps, self.levels)), 6)
        lr = _between(phase.lr, (step - first) / max(1, steps - 1))
        return Setting(leg.phase, name, self.objectives[name], rate, phase.row, phase.context, leg.rows, lr)

    def aim(self, step: int) -> Aim:
        """What the stream asks of a step's rows."""
        setting = self.at(step)
        return Aim(setting.objective, setting.rate)


def fitted(
    phases: Sequence[Phase], objectives: Mapping[str, Objective], mean: Callable[[Phase], float], levels: int
) -> Schedule:
    """The legs that give each phase its tokens, where a row of it holds `mean(phase)` of them."""
    legs: list[Leg] = []
    step, used = 0, 0.0
    for number, phase in enumerate(phases):
        stairs = levels if phase.batch[0] != phase.batch[1] else 1
        start = step
        for stair in range(stairs):
            rows = round(_between(phase.batch, stair / max(1, stairs - 1)))
            each, until = rows * mean(phase), phase.first + (phase.end - phase.first) * (stair + 1) / stairs
            steps = max(0, round((until - used) / each))
            if stair + 1 == stairs and step + steps == start:
                steps = 1  # a phase has a step at least
            if steps:
                legs.append(Leg(step, steps, rows, number))
            step, used = step + steps, used + steps * each
    return Schedule(tuple(phases), objectives, tuple(legs), levels)


def _stair(place: int, places: int, levels: int) -> float:
    """How far a place is, from 0 to 1, in so many equal steps; levels below 2: in as many as there are places."""
    levels = levels if 1 < levels < places else places
    return (place * levels // places) / max(1, levels - 1)


def _between(ends: tuple[float, float], how_far: float) -> float:
    return ends[0] + (ends[1] - ends[0]) * how_far


def _changes(found):  # type: ignore[no-untyped-def]
    """Of (step, value) in order, those whose value is another than before."""
    kept = []
    for step, value in found:
        if not kept or kept[-1][1] != value:
            kept.append((step, value))
    return tuple(kept)
