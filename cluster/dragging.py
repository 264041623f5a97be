"""What drags, when a copy of it is begun, and where: functions of counts, seconds and medians.

Promises: this is all that decides it, for tasks on Ray (cluster/ray_tasks) and for simulated ones
(benchmarks/simulate_core) alike. No Ray, no clock. Costs a look some 100 ns a task under way. Refuses nothing.

A task drags when nothing is left to hand out, CPUs are idle, and it has run since then `SLOW` times as long as the
median of those that ended, and no less than the caller's patience; `ALONE` times that where hardly any has ended. Each
further copy waits as long again after the one before. Who looks, looks every `LOOK` seconds.

Backup tasks: Dean and Ghemawat 2004, section 3.6 (a sort took 44 % longer without them); copies go to the node with the
shortest median, or another while that is busy: Zaharia et al. 2008, section 4.
"""

from collections.abc import Hashable, Mapping
from itertools import islice
from typing import TypeVar

DRAGS, SLOW = 10.0, 1.5  # seconds at least, and medians of a task, that one runs on before a copy of it is begun
FEW = 3  # tasks that must have ended before there is a median to go by
ALONE = 30.0  # times the patience where there is none: a copy takes nothing but an idle CPU
MOST_COPIES = 3  # of a task at once, the first among them
LOOK = 1.0  # seconds between looks at what drags

Task = TypeVar("Task", bound=Hashable)
Node = TypeVar("Node", bound=Hashable)


def wait_of(ended: int, middle: float, patience: float, slow: float = SLOW) -> float:
    """Seconds that a task runs on before a copy of it is begun. `middle`: the median of those that `ended`, in seconds;
    of fewer than `FEW` it says nothing.

    >>> wait_of(100, 60.0, patience=10.0), wait_of(100, 2.0, patience=10.0), wait_of(2, 60.0, patience=10.0)
    (90.0, 10.0, 300.0)
    """
    return max(patience, slow * middle if ended >= FEW else ALONE * patience)


def idle_since(before: float | None, idle: int, now: float) -> float | None:
    """When CPUs were first seen idle, nothing being left to hand out, in looks without a break; None where none is now.
    From then on all that are outstanding run: a CPU would take what waits.

    >>> idle_since(None, 2, 50.0), idle_since(50.0, 1, 51.0), idle_since(50.0, 0, 52.0)
    (50.0, 50.0, None)
    """
    if idle < 1:
        return None
    return now if before is None else before


def dragging(
    flying: Mapping[Task, int], copied_at: Mapping[Task, float], since: float, now: float, wait: float, idle: int
) -> list[Task]:
    """Whom to begin once more, one for an idle CPU at most. `flying`: how many copies of each task are under way, the
    eldest task first; `copied_at`: when the last copy of a task was begun, for those that have some.

    >>> dragging({"a": 1, "b": 3, "c": 2, "d": 1}, {"b": 60.0, "c": 80.0}, since=70.0, now=100.0, wait=30.0, idle=4)
    ['a', 'd']
    """
    drag = (task for task, many in flying.items() if many < MOST_COPIES and now - copied_at.get(task, since) >= wait)
    return list(islice(drag, idle))


def quickest(middles: Mapping[Node, float]) -> Node | None:
    """Where a copy shall go: the node of the shortest median, for what stands still may stand where it is. None before
    tasks of two nodes have ended. `middles`: seconds of each node's tasks, in the order of their first answers.

    >>> quickest({"slow": 9.0, "quick": 2.0, "as quick": 2.0}), quickest({"only": 3.0})
    ('quick', None)
    """
    return min(middles, key=lambda node: middles[node]) if len(middles) > 1 else None
