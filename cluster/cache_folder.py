"""A folder of whole files that several processes of one machine share.

    <folder>/lock                        held for every look and every change; a few milliseconds each
    <folder>/reader-<lot>                what one reader holds and when it needs what; locked while its process lives
    <folder>/<sha256>.arrow              a whole file, named by its content
    <folder>/<sha256>.arrow.<lot>.part   one on its way; locked by the process that brings it

Promises: a file under its name is whole and was checked; what a process that died held, read or was bringing counts
no more from the next look on, because its locks end with it (`flock`, so the folder has to be on a disk of this
machine, not on a network's). Room for a file is taken from the disk before its first byte comes. What else lies in the
folder is left alone. Refuses to be used in a forked child (open one there).
"""

import contextlib
import errno
import fcntl
import json
import os
import re
import shutil
import threading
import uuid
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from tundish.cluster import store

OURS = re.compile(r"[0-9a-f]{64}(\.[a-z0-9]+)*")  # what else lies in the folder is left alone
_HELD: set[int] = set()  # descriptors with locks: a forked child that kept them would hold the locks of its parent


def _let_go() -> None:
    for descriptor in _HELD:
        with contextlib.suppress(OSError):
            os.close(descriptor)
    _HELD.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_let_go)


class Part(NamedTuple):
    """A file on its way: its descriptor, its path, and the name it will have."""

    out: int
    path: Path
    name: str


@dataclass(frozen=True)
class Seen:
    """What one look found: files that are whole and on their way, with sizes; what other readers hold and need."""

    whole: dict[str, int] = field(default_factory=dict)
    coming: dict[str, int] = field(default_factory=dict)
    readers: list[tuple[list[str], dict[str, int]]] = field(default_factory=list)

    @property
    def bytes(self) -> int:
        return sum(self.whole.values()) + sum(self.coming.values())


def spare(folder: Path) -> int:
    """Bytes that may still be written on the disk of a folder: what is free above what must stay free."""
    disk = shutil.disk_usage(folder)
    return disk.free - store.least_free(disk.total)


class Folder:
    """One reader's hand on the folder. Everything but `has` and `path` is done within `locked`."""

    def __init__(self, path: Path) -> None:
        with store.telling(str(path), "write"):
            path.mkdir(parents=True, exist_ok=True)
            self.path, self._lot, self._pid = path, uuid.uuid4().hex[:12], os.getpid()
            self._lock = _opened(path / "lock")
            self._thread, self._told = threading.Lock(), ""
            with self.locked():
                self._reader = _opened(path / f"reader-{self._lot}")
                assert _locked(self._reader), "a new file is locked by nobody"

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        if os.getpid() != self._pid:
            raise ValueError(
                f"the cache in {self.path} was opened by process {self._pid} and is used by {os.getpid()}; "
                "open it in each process"
            )
        with self._thread:
            fcntl.flock(self._lock, fcntl.LOCK_EX)
            try:
                yield
            finally:
                fcntl.flock(self._lock, fcntl.LOCK_UN)

    def has(self, name: str, size: int) -> bool:
        try:
            return (self.path / name).stat().st_size == size
        except FileNotFoundError:
            return False

    def look(self) -> Seen:
        """What is there, after what the dead left was removed."""
        seen = Seen()
        for entry in sorted(os.scandir(self.path), key=lambda each: each.name):
            with contextlib.suppress(FileNotFoundError):  # removed by hand in this instant
                self._see(entry, seen)
        return seen

    def _see(self, entry: os.DirEntry[str], seen: Seen) -> None:
        if entry.name.startswith("reader-"):
            if entry.name != f"reader-{self._lot}" and (said := self._living(entry)) is not None:
                told = json.loads(said or "{}")
                seen.readers.append((told.get("held", []), told.get("needs", {})))
        elif entry.name.endswith(".part") and OURS.match(entry.name):
            if self._living(entry) is not None:
                seen.coming[entry.name.rsplit(".", 2)[0]] = entry.stat().st_size
        elif OURS.fullmatch(entry.name):
            seen.whole[entry.name] = entry.stat().st_size

    def _living(self, entry: os.DirEntry[str]) -> str | None:
        """What a reader's file says, if its process lives; None, and the file is gone, if not."""
        held = os.open(entry.path, os.O_RDWR)
        try:
            if _locked(held):
                os.unlink(entry.path)
                return None
            return os.pread(held, os.fstat(held).st_size, 0).decode() if entry.name.startswith("reader-") else ""
        finally:
            os.close(held)

    def tell(self, held: Collection[str], needs: Mapping[str, int]) -> None:
        """Say to the others what this reader holds, and in how many positions it needs what else."""
        told = json.dumps({"held": sorted(held), "needs": needs})
        if told != self._told:
            body = told.encode()
            os.ftruncate(self._reader, len(body))
            os.pwrite(self._reader, body, 0)
            self._told = told

    def begin(self, name: str, size: int) -> Part:
        """Take the room for a file that is to come."""
        path = self.path / f"{name}.{uuid.uuid4().hex[:12]}.part"
        out = _opened(path)
        try:
            assert _locked(out), "a new file is locked by nobody"
            _take(out, size)
        except BaseException:
            self.abandon(Part(out, path, name))
            raise
        return Part(out, path, name)

    def finish(self, part: Part) -> None:
        """Give a checked file its name."""
        os.replace(part.path, self.path / part.name)
        _close(part.out)

    def abandon(self, part: Part) -> None:
        part.path.unlink(missing_ok=True)
        _close(part.out)

    def drop(self, name: str) -> None:
        (self.path / name).unlink(missing_ok=True)

    def close(self) -> None:
        with contextlib.suppress(OSError), self.locked():
            (self.path / f"reader-{self._lot}").unlink(missing_ok=True)
        _close(self._reader)
        _close(self._lock)
        self._reader = self._lock = -1  # a thread that comes late must not lock what is opened under this number next


def _opened(path: Path) -> int:
    found = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    _HELD.add(found)
    return found


def _take(descriptor: int, size: int) -> None:
    """Give a file its size, and the disk's room for it where the filesystem can."""
    if size and hasattr(os, "posix_fallocate"):
        try:
            return os.posix_fallocate(descriptor, 0, size)
        except OSError as error:
            if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL):
                raise
    os.ftruncate(descriptor, size)


def _locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _close(descriptor: int) -> None:
    _HELD.discard(descriptor)
    os.close(descriptor)
