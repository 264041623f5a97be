"""Work on items that may hang, eat all memory or crash: done in a child process that can be killed, item by item.

A C library cannot be interrupted, so whoever calls one on bytes from strangers does it here. A child takes a batch of
items and answers item by item; when it dies, the first item without an answer is the culprit, and a new child goes on
with those behind it. CPU time is limited by the child's own profiling timer, whose signal ends it inside any C code;
address space by RLIMIT_AS; the clock on the wall only catches a child that sleeps.

Promises: answers in the order of items; each item is answered once, with what the work returned or with `Lost`; a child
goes when its parent goes; the program that asks is not run again in it, so a script needs no
`if __name__ == "__main__"`. Costs about 0.1 ms an item of 200 KB, some seconds for the first child (a server that later
children are forked from, so they come in a tenth of a second). An exception of the work ends the run, as it would here.
Memory is not limited where the system does not (macOS).
"""

import contextlib
import mmap
import multiprocessing
import os
import pickle
import resource
import signal
import sys
import tempfile
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib.machinery import ModuleSpec
from multiprocessing.connection import Connection
from typing import Any, Literal, NamedTuple

BATCH = 8 << 20  # bytes handed over at once
SHARED = "/dev/shm"  # where a file is memory, if the system has it
SLEEP = 30.0  # seconds on the clock for each of CPU, and at least: a child that takes longer sleeps
_MEMORY = "memory"
_STARTING = threading.Lock()


class Lost(NamedTuple):
    """An item that took its child with it. `reason`: timeout, memory or crash."""

    reason: Literal["timeout", "memory", "crash"]
    detail: str


@dataclass(frozen=True)
class Limits:
    """`seconds` of CPU an item. `memory`: bytes of address space a child may take beyond what it begins with."""

    seconds: float = 10.0
    memory: int = 2 << 30


class _Slate:
    """A file that both sides have mapped: what is handed over is copied in once and out once, past the pipe."""

    def __init__(self, name: str) -> None:
        self._file = open(name, "r+b")  # noqa: SIM115  (as long as its process)
        self._map: mmap.mmap | None = None
        self._at = 0

    def put(self, items: Any) -> int:
        """Write; the bytes it took."""
        self._at = 0
        pickle.dump(items, self, pickle.HIGHEST_PROTOCOL)
        return self._at

    def write(self, data: Any) -> int:
        view = memoryview(data).cast("B")
        end = self._at + len(view)
        self._room(end)[self._at : end] = view
        self._at = end
        return len(view)

    def _grow(self, size: int) -> None:
        """Take the bytes now: a write into memory that /dev/shm does not have would end this process (SIGBUS), and a
        container has 64 MB there. Raises OSError."""
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(self._file.fileno(), 0, size)
        else:
            os.ftruncate(self._file.fileno(), size)

    def get(self, size: int) -> Any:
        with memoryview(self._room(size))[:size] as whole:
            return pickle.loads(whole)

    def close(self) -> None:
        if self._map is not None:
            self._map.close()
        self._file.close()

    def _room(self, size: int) -> mmap.mmap:
        """The map, at least so large; only who writes makes the file grow."""
        if self._map is None or len(self._map) < size:
            if self._map is not None:
                self._map.close()
            if os.fstat(self._file.fileno()).st_size < size:
                self._grow(max(2 * size, 2 * BATCH))
            self._map = mmap.mmap(self._file.fileno(), 0)
        return self._map


class Killable:
    """`work(item)` in a child. `work` is found by its name, so it is a function of a module (or a frozen value of one).

    `warm`: called once in each child, unlimited, before its first item. `preload`: modules that the server imports
    before it forks. `size(item)`: bytes an item weighs.
    """

    def __init__(
        self,
        work: Callable[[Any], Any],
        limits: Limits,
        *,
        warm: Callable[[], None] | None = None,
        preload: Sequence[str] = (),
        size: Callable[[Any], int] = lambda item: 1,
    ) -> None:
        self.work, self.limits, self.warm, self.size = work, limits, warm, size
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(list(preload))
        self._child: Any = None
        self._talk: Connection | None = None
        self._slate: Any = None
        self._shared = SHARED if os.path.isdir(SHARED) else None

    def __enter__(self) -> "Killable":
        return self

    def __exit__(self, *told: object) -> None:
        self.close()

    def map(self, items: Sequence[Any]) -> Iterator[Any]:
        """What the work returned for each item, or `Lost`."""
        for batch in self._batches(items):
            done = 0
            while done < len(batch):
                for answer in self._answers(batch[done:]):
                    done += 1
                    yield answer

    def close(self) -> None:
        """Let the child go."""
        if self._talk is not None:
            self._talk.close()
        if self._child is not None:
            self._child.join(1)
        self._end()

    def _batches(self, items: Sequence[Any]) -> Iterator[Sequence[Any]]:
        start = weight = 0
        for at, item in enumerate(items):
            weight += self.size(item)
            if weight >= BATCH:
                yield items[start : at + 1]
                start, weight = at + 1, 0
        if start < len(items):
            yield items[start:]

    def _answers(self, items: Sequence[Any]) -> Iterator[Any]:
        """Answers as they come; after a death that of the culprit, and no more."""
        (talk, size), whole = self._handed(items), False
        try:
            talk.send(size)
            for _ in items:
                if not talk.poll(max(SLEEP, SLEEP * self.limits.seconds)):
                    self._end()
                    yield Lost("timeout", f"no answer after {SLEEP * self.limits.seconds:.0f} seconds")
                    return
                kind, answer = pickle.loads(talk.recv_bytes())
                if kind == "error":
                    raise RuntimeError(f"the work failed in its own process:\n{answer}")
                if kind == _MEMORY:
                    yield Lost("memory", f"more than {self.limits.memory >> 20} MB")
                    return
                yield answer
            whole = True
        except (EOFError, ConnectionError):
            yield self._lost()
        finally:
            if not whole:  # whatever it still has to say is about items that nobody waits for
                self._end()

    def _handed(self, items: Sequence[Any]) -> tuple[Connection, int]:
        """Items on the slate: on disk, for good, once memory has no room for them."""
        talk = self._started()
        try:
            return talk, self._slate.put(items)
        except OSError:
            self._end()
            if self._shared is None:
                raise
            self._shared = None
        return self._handed(items)

    def _started(self) -> Connection:
        if self._talk is None:
            here, there = self._context.Pipe()
            with tempfile.NamedTemporaryFile(dir=self._shared) as file:
                told = (there, file.name, self.work, self.limits, self.warm)
                self._child = self._context.Process(target=_child, args=told, daemon=True)
                with _without_main(self.work, self.warm):
                    self._child.start()
                there.close()
                self._talk, self._slate = here, _Slate(file.name)
                self._heard_ready()
        return self._talk

    def _heard_ready(self) -> None:
        """A child that cannot begin is no fault of an item."""
        try:
            kind, told = pickle.loads(self._talk.recv_bytes())
        except (EOFError, ConnectionError):
            kind, told = "error", f"it ended with {self._lost().detail}"
        if kind == "error":
            self._end()
            raise RuntimeError(f"a process for the work could not begin:\n{told}")

    def _lost(self) -> Lost:
        """Why the child is gone."""
        child = self._child
        child.join(5)
        code = child.exitcode
        self._end()
        if code == -signal.SIGPROF:
            return Lost("timeout", f"more than {self.limits.seconds:g} seconds of CPU")
        name = signal.Signals(-code).name if code is not None and code < 0 else f"exit code {code}"
        return Lost("crash", name)

    def _end(self) -> None:
        if self._child is not None and self._child.is_alive():
            self._child.kill()
            self._child.join()
        for one in (self._talk, self._slate):
            if one is not None:
                one.close()
        self._child = self._talk = self._slate = None


@contextlib.contextmanager
def _without_main(*functions: Any) -> Iterator[None]:
    """Let a child begin without running the main module of this process once more, as multiprocessing would: it is not
    there to be imported, and a script without a guard would start the whole run again. Unless the work is in it."""
    main = sys.modules["__main__"]
    theirs = (getattr(one, "__self__", one) for one in functions)
    if any("__main__" in (getattr(one, "__module__", ""), type(one).__module__) for one in theirs):
        yield
        return
    with _STARTING:
        held = main.__spec__
        main.__spec__ = ModuleSpec("__main__", None)  # the name by which spawn.py knows that there is nothing to do
        try:
            yield
        finally:
            main.__spec__ = held


def _child(
    talk: Connection, file: str, work: Callable[[Any], Any], limits: Limits, warm: Callable[[], None] | None
) -> None:
    """Take batches until the parent closes its end."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    try:
        slate = _Slate(file)
        if warm is not None:
            warm()
    except Exception:
        talk.send_bytes(pickle.dumps(("error", traceback.format_exc())))
        return
    _bound(limits.memory)
    talk.send_bytes(pickle.dumps(("ready", None)))
    with contextlib.suppress(EOFError, ConnectionError):
        while True:
            for item in slate.get(talk.recv()):
                signal.setitimer(signal.ITIMER_PROF, limits.seconds)
                answer = _answer(work, item)
                signal.setitimer(signal.ITIMER_PROF, 0)
                talk.send_bytes(answer)


def _answer(work: Callable[[Any], Any], item: Any) -> bytes:
    try:
        return pickle.dumps(("done", work(item)), pickle.HIGHEST_PROTOCOL)
    except MemoryError:
        return pickle.dumps((_MEMORY, None))
    except Exception:
        return pickle.dumps(("error", traceback.format_exc()))


def _bound(memory: int) -> None:
    """Limit the address space to what there is and so many bytes."""
    try:
        with open("/proc/self/statm", encoding="ascii") as told:
            used = int(told.read().split()[0]) * os.sysconf("SC_PAGE_SIZE")
        resource.setrlimit(resource.RLIMIT_AS, (used + memory, used + memory))
    except (OSError, ValueError):
        return  # a system without it
