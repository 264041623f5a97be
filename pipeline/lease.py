"""A lease on a root: one driver at a time, with a fencing number that only grows.

Promises: a driver that lost its lease seals nothing more under that root, though the stage it is at works on until it
would; a dead driver of this
machine and this container is succeeded at once, one elsewhere once nothing was heard of it for a minute, which is
waited for; where it is heard of meanwhile, the root is refused. Clocks of machines may differ by an hour: a holder that
seems silent is listened to for longer than from one heartbeat to the next. A heartbeat that cannot be written, because
the disk is full or the store does not answer, is tried again at the next; a lease that cannot be given back ends as a
dead driver's does. On object stores without compare-and-swap two drivers starting in the same instant may both believe
they hold it, and one that stood still may write over its successor's word: the higher number wins, of equal ones the
greater name, within a heartbeat of the winner, and who has lost is told so before it seals.
"""

import contextlib
import fcntl
import functools
import json
import logging
import os
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tundish.cluster import retry, store, target

LOG = logging.getLogger("tundish.lease")
SILENCE = 60.0  # seconds after which a holder elsewhere counts as gone
BEAT = 10.0
LATE = 1.5  # heartbeats to listen for to one that seems silent: its clock may be behind
LONG = 3600.0  # seconds of silence that no two clocks differ by
LENGTH = 800  # bytes of a lease: a machine's name may have 253 characters
_held: set[str] = set()  # names of the leases of this process


class Lease:
    """`with Lease(root) as lease:` holds the root; `lease.check()` is asked before every seal (cluster/target)."""

    def __init__(self, root: str) -> None:
        self.uri, self.name, self.number = store.join(root, "lease.json"), uuid.uuid4().hex, 0
        self._done = threading.Event()

    def __enter__(self) -> "Lease":
        if (held := self._take()) is not None:
            self._outlive(held)
        self._thread = threading.Thread(target=self._beat, daemon=True)
        self._thread.start()
        target.fences[self.uri.removesuffix("lease.json")] = self.check
        return self

    def _take(self, silent: str = "") -> dict[str, Any] | None:
        """Whoever holds it, or None once it is this one's. `silent`: the name of one that was listened to in vain."""
        with _alone(self.uri):
            held = store.read_json(self.uri)
            if held and not _gone(held) and held["name"] != silent:
                return held  # type: ignore[no-any-return]
            self.number = (held["number"] if held else 0) + 1
            _held.add(self.name)
            try:
                self._say()
                _swept(self.uri)
                if store.local(self.uri) is None and not self._mine():
                    _held.discard(self.name)  # another began in the same instant, and its word came later
                    return store.read_json(self.uri)  # type: ignore[no-any-return]
            except BaseException:
                _held.discard(self.name)
                raise
        return None

    def _outlive(self, first: dict[str, Any]) -> None:
        """Wait until a holder elsewhere has been silent for long enough; refuse where it is heard of."""
        if not here(first):
            wait = max(SILENCE - _age(first), LATE * BEAT)
            LOG.warning(
                "another run held this root (process %s on %s); waiting %.0f s for a word of it",
                first["process"], first["machine"], wait,
            )  # fmt: skip
            until = time.monotonic() + wait
            while time.monotonic() < until and store.read_json(self.uri) == first:  # nothing was heard of it
                time.sleep(min(1.0, BEAT / 10))
            if (held := self._take(first["name"] if time.monotonic() >= until else "")) is None:
                return
            first = held
        raise ValueError(
            f"another run holds this root (process {first['process']} on {first['machine']}, "
            f"heard of {_age(first):.0f} s ago); wait for it, or use another --root"
        )

    def __exit__(self, *_: object) -> None:
        target.fences.pop(self.uri.removesuffix("lease.json"), None)
        self._done.set()
        self._thread.join()
        try:
            with contextlib.suppress(ValueError, OSError):  # what the run itself has to say would be lost behind it
                self._renew(released=True)
        finally:  # an interrupt here must not keep this process from its own root for as long as it lives
            _held.discard(self.name)

    def _say(self, *, released: bool = False) -> None:
        """Always of one length: who asks an object store for its size and then for its bytes may meet two of them."""
        process = {"process": os.getpid(), "began": _began(os.getpid())}
        said = {"heard": round(time.time(), 3), **_place(), **process, "released": released}
        claim = {"name": self.name, "number": self.number, **said}
        store.write(self.uri, json.dumps(claim).ljust(LENGTH).encode())

    def _mine(self) -> bool:
        """Also where one that has lost it wrote later: its word is of a lower number."""
        held = store.read_json(self.uri)
        return bool(held and (held["number"], held["name"]) <= (self.number, self.name))

    def _renew(self, *, released: bool = False) -> None:
        if not self._mine():
            return  # maybe the root is gone: nothing is to come up there again
        with _alone(self.uri):  # who stands still between the two would write over a successor's word
            if self._mine():
                self._say(released=released)

    def _beat(self) -> None:
        while not self._done.wait(BEAT):
            # a thread that ended here would give the root away, and one that tried for long write over a successor's
            with contextlib.suppress(ValueError, OSError), retry.once():
                self._renew()

    def check(self) -> None:
        """Stop a driver whose root was taken over."""
        if not self._mine():
            raise ValueError(
                f"this root was taken over by another run (after number {self.number}); nothing more is written here"
            )


def _swept(uri: str) -> None:
    """Remove what a holder left that was killed in the midst of a beat, where the root is a local folder."""
    if (path := store.local(uri)) is not None:
        for left in path.parent.glob(f".{path.name}.*.attempt"):
            left.unlink(missing_ok=True)


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
    """Whether the holder of a lease is at work still, as far as one look tells."""
    return not held.get("released") and _age(held) < SILENCE and not (here(held) and not _lives(held))


def refuse_held(root: str) -> None:
    """For who only looks, and takes no lease."""
    held = store.read_json(store.join(root, "lease.json"))
    if held and alive(held):
        raise ValueError(f"a run holds {root!r} (process {held['process']} on {held['machine']}); wait until it ends")


def here(held: dict[str, Any]) -> bool:
    """Whether a process number of the holder's means the same process to this one: containers may share a name."""
    return all(held.get(name) == value for name, value in _place().items())


def _gone(held: dict[str, Any]) -> bool:
    """Whether nobody need be waited for."""
    if held.get("released") or _age(held) >= LONG:
        return True
    return here(held) and not alive(held)  # also of this machine: a process may stand still


def _age(held: dict[str, Any]) -> float:
    """Seconds since it was heard of, by the clocks of two machines."""
    return max(0.0, time.time() - float(held["heard"]))


def _lives(held: dict[str, Any]) -> bool:
    """Whether a process of this machine is there, and the one that took the lease."""
    if held["process"] == os.getpid():
        return held["name"] in _held
    try:
        os.kill(held["process"], 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return held.get("began") == _began(held["process"])


@functools.cache
def _place() -> dict[str, Any]:
    """What tells this machine, since it was started, and this container from all others."""
    return {"machine": socket.gethostname(), "boot": _read("/proc/sys/kernel/random/boot_id"), "space": _space()}


def _space() -> str:
    with contextlib.suppress(OSError):
        return os.readlink("/proc/self/ns/pid")
    return ""


def _began(process: int) -> str:
    """When it was started, in ticks since the machine was; nothing where the system does not tell."""
    told = _read(f"/proc/{process}/stat").rpartition(")")[2].split()
    return told[19] if len(told) > 19 else ""


def _read(path: str) -> str:
    with contextlib.suppress(OSError):
        return Path(path).read_text(encoding="utf-8").strip()
    return ""
