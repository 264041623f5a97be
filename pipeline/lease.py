"""A lease on a root: one driver at a time, with a fencing number that only grows.

Promises: a driver that lost its lease begins no other stage, and the stage it was at is its last; a dead driver on
this machine is succeeded at once, one elsewhere after a minute of silence. A heartbeat that cannot be written, because
the disk is full or the store does not answer, is tried again at the next; a lease that cannot be given back ends as a
dead driver's does. On object stores without compare-and-swap two drivers starting in the same instant may both believe
they hold it for one heartbeat; the later number wins.
"""

import contextlib
import fcntl
import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from typing import Any

from tundish.cluster import retry, store

SILENCE = 60.0  # seconds after which a holder elsewhere counts as gone
BEAT = 10.0
LENGTH = 600  # bytes of a lease: a machine's name may have 253 characters


class Lease:
    """`with Lease(root) as lease:` holds the root; `lease.check()` before every seal."""

    def __init__(self, root: str) -> None:
        self.uri, self.name, self.number = store.join(root, "lease.json"), uuid.uuid4().hex, 0
        self._done = threading.Event()

    def __enter__(self) -> "Lease":
        with _alone(self.uri):
            self._take()
        self._thread = threading.Thread(target=self._beat, daemon=True)
        self._thread.start()
        return self

    def _take(self) -> None:
        held = store.read_json(self.uri)
        if held and alive(held):
            raise ValueError(
                f"another run holds this root (process {held['process']} on {held['machine']}, "
                f"heard of {time.time() - held['heard']:.0f} s ago); wait for it, or use another --root"
            )
        self.number = (held["number"] if held else 0) + 1
        self._say()

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()
        with contextlib.suppress(ValueError, OSError):  # what the run itself has to say would be lost behind it
            if self._mine():
                self._say(released=True)

    def _say(self, *, released: bool = False) -> None:
        """Always of one length: who asks an object store for its size and then for its bytes may meet two of them."""
        place = {"machine": socket.gethostname(), "process": os.getpid()}
        said = {"heard": round(time.time(), 3), **place, "released": released}
        claim = {"name": self.name, "number": self.number, **said}
        store.write(self.uri, json.dumps(claim).ljust(LENGTH).encode())

    def _mine(self) -> bool:
        held = store.read_json(self.uri)
        return bool(held and held["name"] == self.name)

    def _beat(self) -> None:
        while not self._done.wait(BEAT):
            # a thread that ended here would give the root away, and one that tried for long write over a successor's
            with contextlib.suppress(ValueError, OSError), retry.once():
                if self._mine():
                    self._say()

    def check(self) -> None:
        """Stop a driver whose root was taken over."""
        if not self._mine():
            raise ValueError(
                f"this root was taken over by another run (after number {self.number}); nothing more is written here"
            )


@contextlib.contextmanager
def _alone(uri: str) -> Iterator[None]:
    """Between reading a lease and taking it nobody else does, where the root is a local folder."""
    path = store.local(uri)
    if path is None:
        yield
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path.with_suffix(".lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def alive(held: dict[str, Any]) -> bool:
    """Whether the holder of a lease is at work still."""
    if held.get("released"):
        return False
    if time.time() - held["heard"] >= SILENCE:  # also here: a process of the same number may be another one
        return False
    if held["machine"] == socket.gethostname():
        try:
            os.kill(held["process"], 0)
            return held["process"] != os.getpid()
        except ProcessLookupError:
            return False
        except PermissionError:
            return True
    return True
