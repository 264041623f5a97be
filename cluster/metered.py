"""What work takes: clock, CPU and memory of every item that a cluster carries, measured where the work is done.

    metered = Metered(cluster)      a cluster like the one it wraps, whose `each` also notes what an item took
    metered.spent                   a `Spent` an item, in the order in which they ended

Promises: the same calls, items and bytes as without it. CPU is that of the process and of all processes below it, which
is where Extract and SentencePiece work; the peak is the most memory the process itself held while it had the item,
libraries included. Costs about 0.2 ms an item, and 100 bytes of memory a shard. Where the system does not count
a peak anew a thread looks at what is held; where it has no /proc (macOS) CPU lacks children that are still alive, and
the peak is the most since the process began. Refuses nothing.
"""

import contextlib
import os
import resource
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from tundish.cluster.verbs import Cluster, may_run_twice, wants_gpu

PROC = Path("/proc")
TICK = os.sysconf("SC_CLK_TCK")
RESET = "5"  # written to clear_refs it sets the high-water mark of memory to what is held now (proc(5))
LOOK = 0.01  # seconds from one look at what is held to the next, where the system does not count
_most = [0]  # bytes held at most until the peak was last counted anew
SLACK = 32 << 20  # bytes by which the kernel's counts of a process may differ: each core keeps some pages to itself


class Spent(NamedTuple):
    """What one item took: its pass and its name ("" where it has none), seconds, bytes."""

    stage: str
    name: str
    wall: float
    cpu: float
    peak: int


@dataclass(frozen=True)
class Timed:
    """Work that says with its answer what it took: (answer, name, wall, cpu, peak)."""

    work: Callable[[Any], Any]

    @property
    def twice(self) -> bool:
        """Whether an item may be worked at by two at once, as the work says."""
        return may_run_twice(self.work)

    @property
    def gpu(self) -> bool:
        """Whether it is done better on a GPU, as the work says."""
        return wants_gpu(self.work)

    def __call__(self, item: Any) -> tuple[Any, str, float, float, int]:
        with Peak() as peak:
            wall, cpu = time.monotonic(), cpu_seconds()
            answer = self.work(item)
            wall, cpu = time.monotonic() - wall, max(0.0, cpu_seconds() - cpu)
        return answer, name_of(item), wall, cpu, peak.bytes


class Metered:
    """A cluster that measures. `only`: of a pass with this title, the names of the items that are done at all."""

    def __init__(self, cluster: Cluster, only: Mapping[str, frozenset[str]] | None = None) -> None:
        self.inner, self.only = cluster, only or {}
        self.spent: list[Spent] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__dict__["inner"], name)  # `watch`, `workers`, `attend`, `gang`: as the cluster has them

    def each(self, stage: str, work: Callable[[Any], Any], items: Sequence[Any]) -> Iterator[Any]:
        if stage in self.only:
            items = [item for item in items if name_of(item) in self.only[stage]]
        for answer, *told in self.inner.each(stage, Timed(work), items):
            self.spent.append(Spent(stage, *told))
            yield answer


def name_of(item: Any) -> str:
    """The shard that an item is about: (number, name, …) of a map, (name, …) of a cut; "" for all else."""
    first = item[:2] if isinstance(item, tuple) else (item,)
    return next((word for word in first if isinstance(word, str)), "")


def cpu_seconds() -> float:
    """CPU of this process, of those below it that live, and of those that are gone."""
    gone = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + gone.ru_utime + gone.ru_stime + sum(map(_below, _children("self")))


def _children(process: str) -> list[str]:
    found: list[str] = []
    with contextlib.suppress(OSError):  # it ended, or there is no /proc
        for thread in (PROC / process / "task").iterdir():
            found += (thread / "children").read_text().split()
    return found


def _below(process: str) -> float:
    """CPU of a process, of its children that it outlived, and of those that live."""
    try:
        fields = (PROC / process / "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    own = sum(int(ticks) for ticks in fields[11:15]) / TICK  # utime, stime, cutime, cstime
    return own + sum(map(_below, _children(process)))


class Peak:
    """`with Peak() as peak`: `peak.bytes` is the most memory that this process held inside, libraries included.

    The system counts, where it counts anew when told to; some containers refuse that, and there a thread looks every
    10 ms, which misses what is held for less. Without /proc it is the most since the process began.
    """

    def __enter__(self) -> "Peak":
        self.bytes = 0
        self._over, self._looks = threading.Event(), None
        if not forget_peak() and held_now():
            self._looks = threading.Thread(target=self._look, daemon=True)
            self._looks.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        if self._looks is None:
            self.bytes = peak_memory()
        else:
            self._looks.join()

    def _look(self) -> None:
        while True:
            self.bytes = max(self.bytes, held_now())
            if self._over.wait(LOOK):
                break
        self.bytes = max(self.bytes, held_now())


def forget_peak() -> bool:
    """From here on the system counts the peak anew; whether it does."""
    most_memory()
    with contextlib.suppress(OSError):
        (PROC / "self/clear_refs").write_text(RESET)
        return peak_memory() < held_now() + SLACK
    return False


def most_memory() -> int:
    """Bytes that this process has held at most since it began, also where the peak was counted anew meanwhile."""
    _most[0] = max(_most[0], peak_memory())
    return _most[0]


def peak_memory() -> int:
    """Bytes that this process has held at most since `forget_peak`; else since it began."""
    held = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return _status("VmHWM:") or int(held if sys.platform == "darwin" else held * 1024)


def held_now() -> int:
    """Bytes that this process holds; 0 where the system does not tell."""
    return _status("VmRSS:")


def _status(line: str) -> int:
    with contextlib.suppress(OSError, StopIteration), open(PROC / "self/status", encoding="ascii") as told:
        return 1024 * int(next(one for one in told if one.startswith(line)).split()[1])
    return 0
