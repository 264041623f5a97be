"""A map on thousands of workers, event by event: tasks handed out by one driver, nodes that fail, tasks that drag.

Promises: how shards go to tasks (`cluster/map.dealt`) and, with `again`, when work that drags is begun once more, how
often and on which node (cluster/dragging) are decided by the cluster's own functions, at looks as far apart as its own.
What is Ray's is told in simpler words: a worker takes the next task when it is free; a copy goes to the node it asks
for, or to whoever has been idle longest where that is busy; a task lost with its node, copy or not, is done again
before others, unless another copy has answered by then, and skips what was committed, at the cost of a look. The driver
hands out one task after another; the first copy to end counts, and the others end with it. No clock and no disk: the
same arguments give the same outcome. Costs some 10 us an event.
"""

import heapq
import math
from bisect import insort
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import NamedTuple

import numpy as np

from tundish.cluster import map as cluster
from tundish.cluster.dragging import LOOK, dragging, idle_since, quickest, wait_of

# An attempt ends; a node fails, its tasks are known to be lost, it is back; a look at what drags, after all else.
DONE, LOST, AGAIN, BACK, LOOKED = range(5)


@dataclass(frozen=True)
class Farm:
    """Where the work is done. Seconds throughout."""

    workers: int
    node: int = 16  # workers a node
    driver: float = 0.0  # of the driver, to hand out a task and take what it says
    known: float = 35.0  # until a lost node is known to be lost
    back: float = 300.0  # until there is another
    look: float = 0.0  # to see that a shard was committed
    again: bool = False  # whether idle workers take copies of what drags
    slow: float = 0.0  # medians of a task that one runs on before a copy of it is begun
    patience: float = 0.0  # and seconds at least

    def __post_init__(self) -> None:
        if self.workers < 1 or self.node < 1:
            raise ValueError(f"{self.workers} workers, {self.node} a node; give at least 1 of each")


class Outcome(NamedTuple):
    seconds: float
    worked: float  # worker-seconds, those of attempts that did not count included
    driver: float  # seconds the driver was busy
    shards: int  # shards worked on, those done twice included
    looks: int  # committed shards that were looked at again
    attempts: int
    failures: int


Pace = Callable[[int, int, int], np.ndarray]  # (task, attempt, worker) -> seconds of each of its shards


def dealt(shards: int) -> list[tuple[int, int]]:
    """First and last shard (exclusive) of each task, as the cluster deals them.

    >>> dealt(3)
    [(0, 1), (1, 2), (2, 3)]
    """
    return [(group.start, group.stop) for group in cluster.dealt(shards)]


@dataclass(frozen=True)
class _Attempt:
    task: int
    worker: int
    first: int  # its first shard: those before were committed when it began
    start: float
    ends: np.ndarray  # seconds from its start to the end of each of its shards

    def committed(self, now: float) -> int:
        """Shards of its task that are committed by now, as far as it knows."""
        return self.first + int(np.searchsorted(self.ends, now - self.start + 1e-9, "right"))


@dataclass
class _Task:
    done: int = 0  # shards known to be committed, from the first on
    tries: int = 0
    running: set[int] = field(default_factory=set)  # numbers of attempts
    ended: bool = False


class _Run:
    """The state between events."""

    def __init__(self, tasks: int, farm: Farm, pace: Pace) -> None:
        self.farm, self.pace = farm, pace
        self.tasks = [_Task() for _ in range(tasks)]
        self.queue, self.left = deque(range(tasks)), tasks
        self.idle: deque[int] = deque(range(farm.workers))
        self.down: dict[int, float] = {}  # node -> when it is back
        self.events: list[tuple[float, int, int, int]] = []  # time, kind, what, number of the attempt: a heap
        self.holds: dict[int, int] = {}  # worker -> number of its attempt
        self.attempts: dict[int, _Attempt] = {}
        self.flying: dict[int, int] = {}  # task -> copies under way, lost ones that are to be done again among them
        self.copied_at: dict[int, float] = {}  # when a task's last copy was begun
        self.since: float | None = None  # when workers were first seen idle with nothing left to hand out
        self.looking = False  # whether there is a look to come
        self.free = self.worked = self.busy = 0.0  # when the driver is free; worker-seconds; driver-seconds
        self.shards = self.looks = self.number = self.failures = 0
        self.took: list[float] = []  # seconds of tasks that ended, in order
        self.by_node: dict[int, list[float]] = {}  # the same, of each node

    def hand_out(self, now: float) -> None:
        while self.idle and (task := self._next()) is not None:
            self.flying.setdefault(task, 1)
            self._begin(task, self.idle.popleft(), now)
        if self.farm.again and self.idle and not self.looking:
            self._look_at(math.ceil(now / LOOK) * LOOK)

    def _next(self) -> int | None:
        while self.queue:
            task = self.queue.popleft()
            if not self.tasks[task].ended:  # else another copy has answered
                return task
        return None

    def _look_at(self, time: float) -> None:
        self.looking = True
        heapq.heappush(self.events, (time, LOOKED, 0, 0))

    def look(self, now: float) -> None:
        """As cluster/ray_tasks does; while nobody is idle nothing follows from a look, and none is needed."""
        self.looking = False
        self.since = idle_since(self.since, len(self.idle), now)
        if self.since is None:
            return
        wait = wait_of(len(self.took), median(self.took) if self.took else 0.0, self.farm.patience, self.farm.slow)
        drag = dragging(self.flying, self.copied_at, self.since, now, wait, len(self.idle))
        best = quickest({node: median(took) for node, took in self.by_node.items()}) if drag else None
        for task in drag:
            self.flying[task] += 1
            self.copied_at[task] = now
            self._begin(task, self._at(best), now)
        self._look_at(now + LOOK)

    def _at(self, node: int | None) -> int:
        """An idle worker, of this node if there is one; idle no more."""
        worker = next((one for one in self.idle if one // self.farm.node == node), self.idle[0])
        self.idle.remove(worker)
        return worker

    def _begin(self, task: int, worker: int, now: float) -> None:
        """A copy of a task looks at what the others have committed, and does the rest."""
        state = self.tasks[task]
        for other in state.running:
            state.done = max(state.done, self.attempts[other].committed(now))
        looks = state.done if state.tries else 0
        self.free = max(now, self.free) + self.farm.driver
        ends = looks * self.farm.look + np.cumsum(self.pace(task, state.tries, worker)[state.done :])
        self.number, self.busy, self.looks = self.number + 1, self.busy + self.farm.driver, self.looks + looks
        self.attempts[self.number] = _Attempt(task, worker, state.done, self.free, ends)
        self.holds[worker], state.tries = self.number, state.tries + 1
        state.running.add(self.number)
        end = self.free + float(ends[-1] if len(ends) else looks * self.farm.look)
        heapq.heappush(self.events, (end, DONE, worker, self.number))

    def done(self, now: float, worker: int, number: int) -> None:
        if self.holds.get(worker) != number:
            return  # it was lost, or another copy was faster
        attempt = self.attempts[number]
        self.left -= 1
        self.tasks[attempt.task].ended = True
        del self.flying[attempt.task]
        insort(self.took, now - attempt.start)
        self.by_node.setdefault(worker // self.farm.node, []).append(now - attempt.start)
        for each in sorted(self.tasks[attempt.task].running):
            self._end(each, now)
        self.hand_out(now)

    def _end(self, number: int, now: float) -> None:
        """An attempt is over; its worker is free, unless its node is gone."""
        attempt = self.attempts.pop(number)
        state = self.tasks[attempt.task]
        state.running.remove(number)
        del self.holds[attempt.worker]
        state.done = max(state.done, committed := attempt.committed(now))
        whole = committed - attempt.first
        self.shards += whole + (whole < len(attempt.ends) and now > attempt.start)
        self.worked += max(0.0, now - attempt.start)
        if attempt.worker // self.farm.node not in self.down:
            self.idle.append(attempt.worker)

    def _of(self, node: int) -> range:
        return range(node * self.farm.node, min((node + 1) * self.farm.node, self.farm.workers))

    def lost(self, now: float, node: int) -> None:
        self.failures += 1
        self.down[node] = now + self.farm.back
        heapq.heappush(self.events, (self.down[node], BACK, node, 0))
        for worker in self._of(node):
            if number := self.holds.get(worker):
                task = self.attempts[number].task
                self._end(number, now)
                heapq.heappush(self.events, (now + self.farm.known, AGAIN, task, 0))
        gone = self._of(node)
        self.idle = deque(worker for worker in self.idle if worker not in gone)

    def again(self, now: float, task: int) -> None:
        self.queue.appendleft(task)
        self.hand_out(now)

    def back(self, now: float, node: int) -> None:
        if self.down.get(node) == now:  # else it failed once more meanwhile
            del self.down[node]
            self.idle.extend(self._of(node))
            self.hand_out(now)


def simulate(tasks: int, farm: Farm, pace: Pace, failures: Sequence[tuple[float, int]] = ()) -> Outcome:
    """Carry all tasks to their end. `failures`: (second, node), in the order of time; a node that is down and fails is
    down for so much longer."""
    run = _Run(tasks, farm, pace)
    run.events += [(time, LOST, node, 0) for time, node in failures]
    heapq.heapify(run.events)
    run.hand_out(0.0)
    now = 0.0
    while run.left:
        now, kind, what, number = heapq.heappop(run.events)
        if kind == DONE:
            run.done(now, what, number)
        elif kind == LOST:
            run.lost(now, what)
        elif kind == AGAIN:
            run.again(now, what)
        elif kind == LOOKED:
            run.look(now)
        else:
            run.back(now, what)
    return Outcome(now, run.worked, run.busy, run.shards, run.looks, run.number, run.failures)
