"""A wish to stop: how it reaches work that saves first, in whatever thread that runs.

    SIGTERM         to this process, while somebody listens
    interrupts()    a command line's: where nobody listens, SIGTERM is as Ctrl-C
    wish(why)       from a thread that heard it elsewhere: a gang's board, a node that is about to be taken away

Promises: who listens finds the wish when it asks, between two steps; where nobody listens a signal does what it did
before. Costs a look at a list. Refuses nothing. Signals are a process's, so what was heard is a process's as well.
"""

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any

_heard: list[str] = []
_ever: list[str] = []  # the last of this process, also once nobody listens any more
_ears: list[int] = []


class Stopped(KeyboardInterrupt):
    """The work was asked to stop, and what it has done lies whole on disk; said in one sentence."""


def wish(why: str) -> bool:
    """Ask the work of this process to stop; whether anybody listens."""
    if _ears:
        _heard.append(why)
        _ever[:] = [why]
    return bool(_ears)


def wishes() -> int:
    """How often this process was asked to stop since somebody listens."""
    return len(_heard)


@contextlib.contextmanager
def listening() -> Iterator[None]:
    """Until the block ends, SIGTERM is a wish; outside of the main thread where that took heed before."""
    _ears.append(1)
    undo = heed()
    try:
        yield
    finally:
        undo()
        _ears.pop()
        if not _ears:
            _heard.clear()


def heed() -> Callable[[], Any]:
    """In a main thread: SIGTERM becomes a wish while somebody listens. Returns what undoes it."""
    if threading.current_thread() is not threading.main_thread():
        return lambda: None
    before = signal.getsignal(signal.SIGTERM)

    def heard(number: int, frame: Any) -> None:
        if wish("SIGTERM"):
            return
        if callable(before):
            before(number, frame)
        elif before != signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)

    signal.signal(signal.SIGTERM, heard)
    return lambda: signal.signal(signal.SIGTERM, before)


def interrupts() -> None:
    """In a main thread, for the rest of the process: a SIGTERM that nobody listens to ends what runs as Ctrl-C does,
    with all that is told and given back then. One that is ignored stays so."""
    if threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGTERM) != signal.SIG_IGN:
        signal.signal(signal.SIGTERM, _interrupt)


def _interrupt(number: int, frame: Any) -> None:
    raise KeyboardInterrupt


@contextlib.contextmanager
def interrupted_still() -> Iterator[None]:
    """Where SIGTERM is an interrupt, it is one after the block as well: Ray takes it for itself when it is joined."""
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        if before is _interrupt:
            interrupts()


def ends_in_peace() -> None:
    """In a main thread, for the rest of the process: a SIGTERM that comes after a wish was heard changes nothing, for
    what was begun because of that wish is still written. To a rank each comes twice where a whole process group is
    asked: as the group's and handed on. Who will not wait has SIGKILL."""

    def heard(number: int, frame: Any) -> None:
        if not _ever:
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)

    signal.signal(signal.SIGTERM, heard)


@contextlib.contextmanager
def signals() -> Iterator[list[int]]:
    """The SIGTERM and Ctrl-C that come until the block ends, for one who hands them on; none outside a main thread."""
    found: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield found
        return
    numbers = (signal.SIGTERM, signal.SIGINT)
    before = [signal.signal(number, lambda number, _: found.append(number)) for number in numbers]
    try:
        yield found
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)
