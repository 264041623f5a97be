"""What drags, against a history of looks that is searched anew for each; the simulation that asks the same functions,
against one that goes second by second."""

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from tests.test_simulate import core, modules  # noqa: F401 - fixtures: files of benchmarks/ as modules
from tundish.cluster.dragging import dragging, idle_since, quickest, wait_of

SEEDS = range(40)


@dataclass
class History:
    """All that was seen and done, in order."""

    patience: float
    looks: list[tuple[float, int]] = field(default_factory=list)  # time, idle
    began: dict[str, list[float]] = field(default_factory=dict)  # task -> when each copy was begun
    failed: dict[str, int] = field(default_factory=dict)  # task -> copies that are no more, the others being at work
    took: list[float] = field(default_factory=list)

    def wait(self) -> float:
        """One and a half medians, or thirty times the patience where fewer than three ended; the patience at least."""
        times, n = sorted(self.took), len(self.took)
        if n < 3:
            return 30 * self.patience
        return max(self.patience, 1.5 * (times[n // 2] if n % 2 else (times[n // 2 - 1] + times[n // 2]) / 2))

    def idle_from(self) -> float | None:
        """The first of the looks in a row, up to the last one, that saw somebody idle."""
        first = None
        for time, idle in reversed(self.looks):
            if idle == 0:
                break
            first = time
        return first

    def chosen(self) -> list[str]:
        """Begun longest ago first: those with a copy to go who have waited since their last one, or since all wait."""
        now, idle = self.looks[-1]
        found: list[str] = []
        for task in sorted(self.began, key=lambda task: self.began[task][0]):
            begun, start = self.began[task], self.idle_from()
            start = begun[-1] if len(begun) > 1 else start
            room = len(begun) - self.failed.get(task, 0) < 3
            if start is not None and room and now - start >= self.wait() and len(found) < idle:
                found.append(task)
        return found


def happens(draw: random.Random, seen: History) -> None:
    """Between two looks: tasks end, copies fail."""
    for task in [*seen.began]:
        if draw.random() < 0.03:
            seen.took.append(draw.uniform(0.5, 9))
            del seen.began[task]
        elif len(seen.began[task]) - seen.failed.get(task, 0) > 1 and draw.random() < 0.1:
            seen.failed[task] = seen.failed.get(task, 0) + 1


@pytest.mark.parametrize("seed", SEEDS)
def test_look_after_look_as_the_whole_history_says(seed: int) -> None:
    draw = random.Random(seed)
    seen = History(patience=draw.choice([0.1, 2.0, 10.0]))
    seen.began = {f"task {number}": [number / 1000] for number in range(25)}
    since, copied_at, copies = None, dict[str, float](), 0
    for look in range(1, 120):
        now = look * 1.0
        happens(draw, seen)
        seen.looks.append((now, draw.choice([0, 1, 2, 9] if look % 40 < 4 else [1, 2, 9])))
        since = idle_since(since, seen.looks[-1][1], now)
        assert since == seen.idle_from()
        wait = wait_of(len(seen.took), float(np.median(seen.took)) if seen.took else 0.0, seen.patience)
        assert wait == pytest.approx(seen.wait())
        flying = {task: len(begun) - seen.failed.get(task, 0) for task, begun in seen.began.items()}
        drag = dragging(flying, copied_at, since, now, wait, seen.looks[-1][1]) if since is not None else []
        assert drag == seen.chosen()
        for task in drag:
            copied_at[task] = now
            seen.began[task].append(now)
            copies += 1
    assert copies or seen.patience == 10.0


@pytest.mark.parametrize("seed", SEEDS)
def test_the_quickest_node_is_that_of_the_least_median(seed: int) -> None:
    draw = random.Random(seed)
    middles = {f"node {number}": float(draw.randint(1, 5)) for number in range(draw.randint(2, 6))}
    least = [node for node in middles if middles[node] == sorted(middles.values())[0]]
    assert quickest(middles) == least[0]


def test_where_nothing_is_known_of_others_a_copy_goes_anywhere() -> None:
    assert quickest({}) is None
    assert quickest({"one": 1.0}) is None


Pace = Callable[[int, int, int], int]


@dataclass
class Steps:
    """The slow twin: every second all workers are gone through. Tasks of one shard; nothing fails."""

    tasks: int
    workers: int
    node: int
    slow: float
    patience: float
    pace: Pace
    at: dict[int, tuple[int, int, int, int]] = field(default_factory=dict)  # worker -> number, task, begun, ends
    log: list[tuple[int, int]] = field(default_factory=list)  # task, begun: of every attempt
    took: list[tuple[int, int]] = field(default_factory=list)  # node, seconds
    over: set[int] = field(default_factory=set)
    worked: int = 0

    def run(self) -> tuple[int, int, int]:
        """Seconds, attempts, worker-seconds."""
        idle, left = list(range(self.workers)), list(range(self.tasks))
        quiet = 0  # the first of the looks in a row that saw somebody idle
        for now in range(10_000):
            for worker in range(self.workers):
                if worker in self.at and self.at[worker][3] == now:
                    idle += self.ends(worker, now)
                    self.hand_out(left, idle, now)
            if len(self.over) == self.tasks:
                return now, len(self.log), self.worked
            self.hand_out(left, idle, now)
            quiet = quiet if idle else now + 1
            for task in [*self.drags(quiet, now, len(idle))]:
                worker = next((w for w in idle if w // self.node == self.best()), idle[0])
                idle.remove(worker)
                self.begin(task, worker, now)
        raise AssertionError("it never ends")

    def hand_out(self, left: list[int], idle: list[int], now: int) -> None:
        while idle and left:
            self.begin(left.pop(0), idle.pop(0), now)

    def begin(self, task: int, worker: int, now: int) -> None:
        attempt = sum(1 for each, _ in self.log if each == task)
        self.at[worker] = (len(self.log), task, now, now + self.pace(task, attempt, worker))
        self.log.append((task, now))

    def ends(self, worker: int, now: int) -> list[int]:
        """Of all who are at this task; who is free now, in the order in which they began."""
        _, task, begun, _ = self.at[worker]
        self.over.add(task)
        self.took.append((worker // self.node, now - begun))
        free = sorted((w for w in self.at if self.at[w][1] == task), key=lambda w: self.at[w][0])
        for one in free:
            self.worked += now - self.at.pop(one)[2]
        return free

    def drags(self, quiet: int, now: int, idle: int) -> Iterator[int]:
        times = sorted(seconds for _, seconds in self.took)
        wait = max(self.patience, self.slow * float(np.median(times)) if len(times) > 2 else 30 * self.patience)
        many = [task for _, task, _, _ in self.at.values()]
        for task in sorted(set(many)):
            copies = [begun for each, begun in self.log if each == task][1:]
            if many.count(task) < 3 and now - (copies[-1] if copies else quiet) >= wait and idle:
                idle -= 1
                yield task

    def best(self) -> int | None:
        nodes = list(dict.fromkeys(node for node, _ in self.took))
        middles = [float(np.median([s for n, s in self.took if n == node])) for node in nodes]
        return nodes[middles.index(min(middles))] if len(nodes) > 1 else None


@pytest.mark.parametrize("seed", SEEDS)
def test_the_simulation_goes_as_one_that_looks_every_second(core: ModuleType, seed: int) -> None:  # noqa: F811
    draw = random.Random(seed)
    workers, tasks, node = draw.randint(2, 9), draw.randint(1, 30), draw.randint(1, 3)
    slow, patience = draw.choice([0.0, 1.5]), draw.choice([0.0, 1.0, 3.0])
    lame = {draw.randrange(workers) for _ in range(2)}

    def pace(task: int, attempt: int, worker: int) -> int:
        own = random.Random(seed * 1_000_003 + task * 101 + attempt)
        return own.randint(1, 7) * (9 if own.random() < 0.1 else 1) * (12 if worker in lame else 1)

    def shards(task: int, attempt: int, worker: int) -> Any:
        return np.array([pace(task, attempt, worker)], float)

    farm = core.Farm(workers, node, again=True, slow=slow, patience=patience)
    told = core.simulate(tasks, farm, shards)
    assert (told.seconds, told.attempts, told.worked) == Steps(tasks, workers, node, slow, patience, pace).run()


def test_a_copy_lost_with_its_node_is_done_again(core: ModuleType) -> None:  # noqa: F811
    """The first task takes 100 s. Of the others three have ended at 8 s: a copy is begun there, where a worker has been
    idle since 4 s, and one more 2 s later. The node of the first copy goes at 12 s and comes at 15 s; whoever does the
    task there is done at 20 s, before the other copy, which needs until 30."""

    def pace(task: int, attempt: int, worker: int) -> np.ndarray:
        return np.array([float((100, 50, 20, 5)[attempt] if task == 0 else 4)])

    farm = core.Farm(3, 1, known=1.0, back=3.0, again=True, patience=2.0)
    told = core.simulate(4, farm, pace, [(12.0, 1)])
    assert (told.seconds, told.attempts) == (20.0, 4 + 2 + 1)
    assert told.worked == 20 + 3 * 4 + (12 - 8) + (20 - 10) + (20 - 15)
