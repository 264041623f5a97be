"""Several tasks in one training: how often each comes, and which at a step.

    tasks = Tasks((392_702, 8_551, 2_490), how="annealed", epochs=3, steps=4000)
    task, turn = tasks.at(step)               the task, and how often it has come before
    tasks.led(epoch, turns)                   the tasks of an epoch of the first one, which comes so often in it

    proportional   by size; with `limit` none counts for more than so many examples (Raffel et al. 2020, 3.5.2)
    root           by the root of the size
    temperature    by size to the power 1 / temperature; 1 is proportional, infinity equal
    equal          each the same
    annealed       by size to the power 1 - 0.8 (e - 1) / (E - 1) in epoch e of E: from by size towards equal (Stickland
                   & Murray 2019, 4.4)

Promises: a function of the step; tasks come evenly spread (`mixture`), so that after any number of steps of an epoch
each has come as often as its share says, give or take two. Costs a few operations a step, and an epoch. Refuses tasks
without examples, and more epochs than it was told of.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from tundish.operators.model.mixture import Mixture

HOWS = ("proportional", "root", "temperature", "equal", "annealed")
FINE = 1_000_000  # shares in so many parts
FALL = 0.8


@dataclass(frozen=True)
class Tasks:
    """`sizes`: examples of each. `steps`: of an epoch; `epochs`: of all, which annealing is over."""

    sizes: tuple[int, ...]
    how: str = "proportional"
    steps: int = 1000
    epochs: int = 1
    temperature: float = 2.0
    limit: int = 0  # 0: none

    def __post_init__(self) -> None:
        if self.how not in HOWS:
            raise ValueError(f"tasks cannot be mixed by {self.how!r}; choose one of {', '.join(HOWS)}")
        if not self.sizes or min(self.sizes) < 1:
            raise ValueError(f"tasks of {list(self.sizes)} examples cannot be mixed; give each at least one")
        if self.temperature <= 0 or self.steps < 1 or self.epochs < 1:
            raise ValueError(
                f"temperature {self.temperature}, {self.steps} steps and {self.epochs} epochs mix nothing; "
                "give numbers above 0"
            )

    def shares(self, epoch: int) -> np.ndarray:
        """Share of each task in an epoch, (tasks,), of sum 1."""
        sizes = np.asarray(self.sizes, np.float64)
        sizes = np.minimum(sizes, self.limit) if self.limit else sizes
        grown = (sizes / sizes.max()) ** self._power(epoch)
        return grown / grown.sum()

    def _power(self, epoch: int) -> float:
        if self.how == "annealed":
            return 1 - FALL * epoch / max(1, self.epochs - 1)
        return {"proportional": 1.0, "root": 0.5, "equal": 0.0, "temperature": 1 / self.temperature}[self.how]

    def at(self, step: int) -> tuple[int, int]:
        """The task of a step, and in how many steps it has come before."""
        epoch, place = divmod(step, self.steps)
        if not 0 <= epoch < self.epochs:
            raise ValueError(f"step {step} is beyond {self.epochs} epochs of {self.steps} steps; give more epochs")
        task, turn = (int(each[0]) for each in _mixture(self, epoch).split(np.array([place])))
        return task, turn + _before(self, epoch)[task]

    def led(self, epoch: int, turns: int) -> np.ndarray:
        """The tasks (n,) of the steps of an epoch in which the first comes `turns` times, and last: its own epoch. The
        others come between as often as their shares ask, give or take four; `steps` says nothing here."""
        if turns < 1:
            raise ValueError(f"an epoch in which the first task comes {turns} times has no end; give at least 1")
        mixture, before = _mixture(self, epoch), (epoch + 1) * turns  # not 0: an even word begins within a gap
        ends = mixture.place(0, np.array([before - 1, before + turns - 1]))
        return mixture.split(np.arange(ends[0] + 1, ends[1] + 1))[0]

    def counts(self) -> Sequence[int]:
        """How often each task comes in all."""
        return _before(self, self.epochs)


@lru_cache(maxsize=64)
def _mixture(tasks: Tasks, epoch: int) -> Mixture:
    return Mixture([max(1, round(float(share) * FINE)) for share in tasks.shares(epoch)])


@lru_cache(maxsize=1024)
def _before(tasks: Tasks, epoch: int) -> tuple[int, ...]:
    """How often each task has come before an epoch."""
    each = [_mixture(tasks, earlier).counts(tasks.steps) for earlier in range(epoch)]
    return tuple(sum(counts) for counts in zip([0] * len(tasks.sizes), *each, strict=True))
