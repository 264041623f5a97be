"""`each` on Ray: a task for every item, or for a few neighbours; what drags is begun once more where a CPU is idle.

Promises: answers come as they are made, one for each item, whoever is killed meanwhile; a worker or a node that is lost
is Ray's to replace, `TRIES` times a task; a task that drags is run again on another node, the first answer counts and
the other copy is killed, for work that says that it may run `twice` (cluster/verbs). Tasks bear the stage's name, so
the dashboard's page of the job shows how far each is. Costs about a millisecond of the driver a task (blocks of Ray
Data: 8 to 11). Refuses nothing: errors of the work reach the caller, those a user has to mend as they are.

What drags, when a copy of it is begun and where is decided in cluster/dragging.
"""

import contextlib
import functools
import itertools
import pickle
import statistics
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import ray
from ray._private.state import available_resources_per_node
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from tundish.cluster import ray_cancel, ray_room
from tundish.cluster.dragging import LOOK, dragging, idle_since, quickest, wait_of
from tundish.cluster.map import dealt
from tundish.cluster.verbs import may_run_twice, wants_gpu

TRIES = 8  # times that a task is given to another worker, after the first one was lost
AHEAD = 1000  # tasks handed out beyond two for each CPU: a cluster that grows by itself goes by what waits
SHARE = 0.25  # of a GPU for a task: what a small model leaves idle between two batches others take
LABEL = "tundish/work"  # of machines, "cpu" or "gpu": what they are for
KILLED = 10.0  # seconds to wait for tasks that were cancelled: they may write

Answer = tuple[str, float, list[bytes]]  # node, seconds, and for each item (error, what the work told), pickled


@ray.remote
def _run(packed: bytes, items: list[bytes]) -> Answer:
    """In a worker: the work on a few items; after the first error the others are left."""
    import pyarrow as pa

    pa.set_cpu_count(1)  # parallelism is the number of workers; nested pools only fight over the cores
    began = time.monotonic()
    told: list[bytes] = []
    for item in items:
        error, one = _one(packed, pickle.loads(item))
        told.append(one)
        if error:
            break
    return ray.get_runtime_context().get_node_id(), time.monotonic() - began, told


@functools.lru_cache(maxsize=4)
def _unpacked(packed: bytes) -> Callable[[Any], Any]:
    """The work of a stage, read once a process and not once a shard: it may name every shard of its source."""
    work: Callable[[Any], Any] = pickle.loads(packed)
    return work


def _one(packed: bytes, item: Any) -> tuple[bool, bytes]:
    try:
        return False, pickle.dumps((None, _unpacked(packed)(item)))
    except ValueError as error:  # the user's to mend; Ray would wrap it into pages of traceback
        return True, pickle.dumps((error, None))


@dataclass
class Copies:
    """Second copies of tasks: begun, and those that answered first."""

    begun: int = 0
    won: int = 0


def each(
    stage: str,
    work: Callable[[Any], Any],
    items: Sequence[Any],
    *,
    patience: float,
    copies: Copies,
    gpu_share: float | None = None,
) -> Iterator[Any]:
    """`work(item)` for every item, in whatever order they end. `gpu_share`: of a GPU, for each task of work that wants
    one; None for `SHARE` where the cluster has GPUs or may get some, and none elsewhere; 0 for none at all."""
    run = _Run(stage, work, items, patience, copies)
    run.asked |= _machines(wants_gpu(work), gpu_share)
    try:
        while run.hand_out():
            for answer in run.answers():
                yield from map(_taken, answer)
    except ray.exceptions.RayTaskError as error:
        last = str(error.cause or error).strip().splitlines()[-1]
        raise RuntimeError(f"{stage} failed in a worker: {first_own(str(error)) or last}") from error
    except ray.exceptions.RayError as error:  # a worker was lost with every try, for want of memory for one
        lines = [line for line in str(error).strip().splitlines() if line.strip()]
        raise RuntimeError(f"{stage} lost its worker {TRIES + 1} times: {lines[0].strip()}") from error
    finally:
        run.end()


def _machines(gpu: bool, gpu_share: float | None) -> dict[str, Any]:
    """What of machines a task asks for. On clusters whose machines say what they are for (cluster/files), what needs no
    GPU leaves those that have one to others."""
    if gpu_share is None:
        gpu_share = SHARE if ray_room.most("GPU") else 0.0
    if gpu and gpu_share:
        return {"num_gpus": gpu_share}
    if any(node.get("Labels", {}).get(LABEL) == "cpu" for node in _machines_there()):
        return {"label_selector": {LABEL: "cpu"}}
    return {}


def _machines_there() -> list[dict[str, Any]]:
    return [node for node in ray.nodes() if node["Alive"]]


def _taken(told: bytes) -> Any:
    error, one = pickle.loads(told)
    if error is not None:
        raise error
    return one


def first_own(trace: str) -> str:
    """The first exception a worker's traceback names: Ray wraps it into others."""
    named = [
        line for line in trace.splitlines() if line and not line[0].isspace() and ": " in line and "ray::" not in line
    ]
    return named[0] if named else ""


class _Run:
    """What is under way. A group of items is a task; it has one reference, or more where it drags."""

    def __init__(
        self, stage: str, work: Callable[[Any], Any], items: Sequence[Any], patience: float, copies: Copies
    ) -> None:
        self.items, self.patience, self.copies = items, patience, copies
        self.twice = may_run_twice(work)
        self.work = ray.put(ray.cloudpickle.dumps(work))
        self.bell = ray_cancel.bell()
        self.asked: dict[str, Any] = {
            "name": stage,
            "num_cpus": 1,
            "max_retries": TRIES,
            "scheduling_strategy": "SPREAD",
        }
        self.left = dealt(len(items))
        self.all_out = not items
        self.flying: dict[Any, range] = {}  # reference -> its group, the eldest first
        self.second: set[Any] = set()  # references of second copies
        self.overtaken: list[Any] = []  # references that were cancelled, and may be at work still
        self.copied_at: dict[range, float] = {}  # when a group's last copy was begun
        self.seconds: defaultdict[str, list[float]] = defaultdict(list)  # node -> of its tasks
        self.cpus = max(1, int(ray.cluster_resources().get("CPU", 1)))
        self.since: float | None = None  # when CPUs were first seen idle with nothing left to hand out
        self.gone: float | None = None  # when no machine was left of those that bear the label asked for
        self.looked = time.monotonic()

    def hand_out(self) -> bool:
        """Keep workers busy; returns whether anything is under way."""
        room = 2 * self.cpus + AHEAD - len(self.flying)
        if not self.all_out and room > 0:
            groups = list(itertools.islice(self.left, room))
            self.all_out = len(groups) < room
            for group in groups:
                self._begin(group)
        return bool(self.flying)

    def _begin(self, group: range, **otherwise: Any) -> Any:
        items = [pickle.dumps(self.items[number]) for number in group]
        reference = _run.options(**{**self.asked, **otherwise}).remote(self.work, items)
        self.flying[reference] = group
        return reference

    def answers(self) -> Iterator[list[bytes]]:
        """What has ended, after `LOOK` seconds at most; each group once."""
        flying = list(self.flying)
        ready, _ = ray.wait(flying, num_returns=1, timeout=LOOK)
        if ready and len(flying) > 1:
            ready, _ = ray.wait(flying, num_returns=len(flying), timeout=0)
        for reference in ready:
            if reference in self.flying and (told := self._settled(reference)) is not None:
                yield told
        if time.monotonic() - self.looked >= LOOK:
            self.looked = time.monotonic()
            self._anywhere(self.looked)
            self._hurry(self.looked)

    def _settled(self, reference: Any) -> list[bytes] | None:
        """The answer of a task; none of a copy that failed while the other goes on."""
        group = self.flying.pop(reference)
        others = [other for other, its in self.flying.items() if its == group] if self.all_out else []
        try:
            node, seconds, told = ray.get(reference)
        except ray.exceptions.RayError:
            if others:
                return None
            raise
        self.seconds[node].append(seconds)
        for other in others:
            del self.flying[other]
        self._cancel(others)
        self.overtaken += others
        self.copies.won += bool(others) and reference in self.second
        return told  # type: ignore[no-any-return]

    def _anywhere(self, now: float) -> None:
        """What asks for machines of a label goes to any once the last of them has been gone for a while: nobody can be
        at work at it, and on a cluster of fixed size it would wait for ever."""
        wanted = self.asked.get("label_selector")
        if not wanted or any(wanted.items() <= node.get("Labels", {}).items() for node in _machines_there()):
            self.gone = None
            return
        self.gone = self.gone or now
        if now - self.gone < self.patience:
            return
        del self.asked["label_selector"]
        waiting, self.flying = self.flying, {}
        self._cancel(list(waiting))
        self.overtaken += waiting
        for group in dict.fromkeys(waiting.values()):
            self._begin(group)

    def _hurry(self, now: float) -> None:
        """Begin what drags once more."""
        if not (self.twice and self.all_out):
            return
        idle = self._idle()
        self.since = idle_since(self.since, idle, now)
        if self.since is None:
            return
        took = [seconds for each in self.seconds.values() for seconds in each]
        wait = wait_of(len(took), statistics.median(took) if took else 0.0, self.patience)
        drag = dragging(Counter(self.flying.values()), self.copied_at, self.since, now, wait, idle)
        elsewhere = self._elsewhere() if drag else {}
        for group in drag:
            self.second.add(self._begin(group, **elsewhere))
            self.copied_at[group] = now
            self.copies.begun += 1

    def _idle(self) -> int:
        """Tasks that machines would take at once which these tasks may run on."""
        there = {node["NodeID"]: node.get("Labels", {}) for node in _machines_there()}
        wanted, share = self.asked.get("label_selector", {}), self.asked.get("num_gpus", 0.0)
        idle = 0
        for node, free in available_resources_per_node().items():
            if node in there and all(there[node].get(label) == value for label, value in wanted.items()):
                room = free.get("CPU", 0.0)
                idle += int(min(room, free.get("GPU", 0.0) / share) if share else room)
        return idle

    def _elsewhere(self) -> dict[str, Any]:
        """What to ask for, so that a copy goes to the quickest node, or to another while that is busy."""
        best = quickest({node: statistics.median(took) for node, took in self.seconds.items()})
        if best is None:
            return {}
        placed = NodeAffinitySchedulingStrategy(best, soft=True, _spill_on_unavailable=True)
        return {"scheduling_strategy": placed}

    def _cancel(self, references: list[Any]) -> None:
        if references:
            ray_cancel.cancel(references, self.bell)

    def end(self) -> None:
        """Nothing of it runs on: it might write."""
        left, self.flying = list(self.flying), {}
        self._cancel(left)
        if left := left + self.overtaken:  # one that stands still does not answer: it finds the commit when it wakes
            with contextlib.suppress(Exception):
                ray.wait(left, num_returns=len(left), timeout=KILLED)
