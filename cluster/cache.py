"""A node's cache of files that lie elsewhere, for readers whose order is a function and so is known.

    with Cache(folder, 40 * 10**9, entries(dataset)) as cache:
        cache.plan(future, position)
        ... pa.memory_map(str(cache.path(file, position)))

Promises: a path leads to a whole file of the manifest's size and SHA-256, which stays until its reader is past it;
files come before they are needed, those go that are needed last (`foresight`), and no clock decides which; processes
that share the folder bring a file once between them, and one that is killed holds up nobody. Files on local disks are
given as they lie, after their digest was checked (once: it is remembered by size and time). Costs `streams` threads
that hold 8 MiB each, and per use a look at the folder. Refuses a capacity below what one moment of the plan needs, a
file that is not what the manifest says, and to fill the disk beyond its floor (`TUNDISH_MIN_FREE`).
"""

import atexit
import os
import re
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType

from tundish.cluster import cache_folder, store
from tundish.cluster.cache_folder import Folder, Part
from tundish.cluster.digests import digest_once
from tundish.cluster.fetch import Download, Entry, Streams
from tundish.cluster.foresight import Foresight, Future, merged, next_fetch, reach
from tundish.cluster.retry import FULL
from tundish.cluster.shards import Damaged, Dataset

NEAR, FAR = 0.02, 1.0  # seconds between looks for what other processes did: while someone waits, and else


@dataclass
class Told:
    """What this process met. A use is a hit if its file was there already, though it may be on its way still from
    another process, and a miss if this one had to bring it; `waits` are the uses that were not served at once."""

    hits: int = 0
    misses: int = 0
    waits: int = 0
    stall_seconds: float = 0.0
    bytes: int = 0
    evictions: int = 0
    retries: int = 0
    unplanned: int = 0


def entries(dataset: Dataset) -> list[Entry]:
    """The files of a dataset as a cache takes them, in the order of its shards."""
    return [Entry(dataset.at(shard), shard.size, shard.digest) for shard in dataset.shards]


def named(entry: Entry) -> str:
    """The name of a file in the folder: its digest, and the ending it has where it lies.

    >>> named(Entry("s3://corpora/tokens/part-00000.arrow", 10, "ab" * 32))[-8:]
    'ab.arrow'
    """
    if not re.fullmatch(r"[0-9a-f]{64}", entry.digest) or entry.size < 0:
        raise ValueError(
            f"{entry.uri} comes with size {entry.size} and digest {entry.digest!r}; give its bytes and SHA-256 in hex"
        )
    ending = re.search(r"\.[a-z0-9]{1,8}$", entry.uri.partition("?")[0])
    return entry.digest + (ending[0] if ending and ending[0] != ".part" else "")


class Cache:
    """One reader of a folder. Use it from any thread of the process that made it."""

    def __init__(
        self,
        folder: str | Path,
        capacity: int,
        files: Sequence[Entry],
        *,
        ahead: int | None = None,
        streams: int = 8,
        patience: float = 60.0,
    ) -> None:
        """`ahead`: bytes needed next that files needed later make room for; None: see `foresight.reach`. `streams`:
        requests at once. `patience`: seconds to wait for room that other readers hold."""
        self.files, self.capacity, self.patience = list(files), capacity, patience
        self._wish, self._ahead = ahead, 0
        self._here = [store.local(entry.uri) for entry in self.files]
        self._names = [None if path else named(each) for path, each in zip(self._here, self.files, strict=True)]
        self._entries = {name: each for name, each in zip(self._names, self.files, strict=True) if name}
        self._sizes = {name: entry.size for name, entry in self._entries.items()}
        self._check(max(self._sizes.values(), default=0), "the largest file has")
        self._future: Foresight | None = None
        self._told = Told()
        self._served: dict[int, Path] = {}  # of the files in use now
        self._from, self._until = 0, 0  # positions between which nothing changes
        self._failed: dict[str, Exception] = {}
        self._fresh: set[str] = set()  # brought here for a use that is to come
        self._asked: list[str] = []  # waited for
        self._jobs: set[str] = set()  # on their way through this process
        self._short: str | None = None  # why there is no room for what is needed now
        self._alone = True  # nothing changes in the folder but by this reader
        self._changed = threading.Condition(threading.RLock())
        self._news = self._closed = False
        self._pid = os.getpid()
        self._watcher = threading.Thread(target=self._watch, name="cache", daemon=True)
        if self._entries:
            self.folder, self._streams = Folder(Path(folder)), Streams(streams, self._tell)
            atexit.register(self.close)  # threads inside of a read must not meet the end of the interpreter

    def _check(self, needed: int, why: str) -> None:
        if needed > self.capacity:
            raise ValueError(
                f"a cache of {self.capacity:,} bytes is too small: {why} {needed:,} bytes; give it at least as much"
            )

    def plan(self, future: Future, position: int = 0, *, slack: int = 0) -> None:
        """From here on the uses are these. `slack`: how far behind the farthest position others are still asked for."""
        found = Foresight(future, self._names, position, slack)
        moment = found.moment(self._sizes)
        self._check(moment, "files in use at one moment of the plan have")
        with self._changed:
            self._ahead = reach(self._wish, moment, self.capacity)
            self._future = found
            self._failed.clear()
            self._moved()
            if self._entries and not self._watcher.is_alive():
                self._watcher.start()

    def path(self, file: int, position: int) -> Path:
        """Where a file lies that is needed at this position; waits until it does."""
        if self._from <= position < self._until and (served := self._served.get(file)):
            return served
        self._mine()
        if not 0 <= file < len(self.files):
            raise ValueError(f"there is no file {file} among {len(self.files)}; give the number of one that is there")
        with self._changed:
            if self._future is None:
                raise ValueError("the cache was asked for a file before it has a plan; call plan first")
            if self._future.move(position):
                self._moved()
            if file not in self._served:
                name, here = self._names[file], self._here[file]
                self._served[file] = _checked(here, self.files[file]) if here else self._awaited(name or "")
            return self._served[file]

    @property
    def told(self) -> Told:
        """What was met so far."""
        with self._changed:
            return replace(self._told)

    def settle(self) -> None:
        """Wait until nothing more is to be brought at this position."""
        with self._changed:
            while self._entries and not self._closed and (self._news or self._jobs):
                self._changed.wait(NEAR)

    def close(self) -> None:
        """Let go of all. What lies in the folder stays for the next reader."""
        if self._closed or os.getpid() != self._pid:
            return
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        if self._entries:
            atexit.unregister(self.close)
            if self._watcher.is_alive():
                self._watcher.join()
            self._streams.close()
            self.folder.close()

    def __enter__(self) -> "Cache":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _mine(self) -> None:
        if os.getpid() != self._pid:  # its threads are not here, and its locks may be held for ever
            raise ValueError(
                f"a cache was opened by process {self._pid} and is asked by {os.getpid()}; open one in each process"
            )

    def _moved(self) -> None:
        """The reader is somewhere else: say so, before anything is looked for, so that nobody removes it."""
        assert self._future is not None
        now = self._future.now
        self._from, self._until = self._future.position - self._future.slack, self._future.until
        self._served = {f: path for f, path in self._served.items() if self._here[f] or self._names[f] in now}
        self._say()
        self._tell()

    def _say(self) -> None:
        assert self._future is not None
        if self._entries:
            with self.folder.locked():
                self.folder.tell(self._future.now, self._future.distances())

    def _tell(self) -> None:
        with self._changed:
            self._news = True
            self._changed.notify_all()

    def _awaited(self, name: str) -> Path:
        assert self._future is not None
        if name not in self._future.now:
            self._told.unplanned += 1
            self._future.insist(name)
            self._moved()
        self._failed.pop(name, None)  # it failed before it was asked for: once more
        if not self.folder.has(name, self._sizes[name]):
            self._stall(name)
        fresh = name in self._fresh
        self._fresh.discard(name)
        self._told.misses += fresh
        self._told.hits += not fresh
        return self.folder.path / name

    def _stall(self, name: str) -> None:
        began, self._short = time.monotonic(), None
        self._told.waits += 1
        self._asked.append(name)
        self._tell()
        try:
            while not self.folder.has(name, self._sizes[name]):
                self._changed.wait(NEAR)
                self._refuse(name, time.monotonic() - began)
        finally:
            self._asked.remove(name)
            self._told.stall_seconds += time.monotonic() - began

    def _refuse(self, name: str, waited: float) -> None:
        uri = self._entries[name].uri
        if self._closed:
            raise ValueError(f"the cache was closed while {uri} was waited for; close it after its readers")
        if (error := self._failed.get(name)) is not None:
            if isinstance(error, FileNotFoundError):
                raise Damaged(f"{uri} is named in a manifest and is not there; restore it, or run again") from error
            if isinstance(error, ValueError):
                raise error
            full = isinstance(error, OSError) and error.errno in FULL
            with store.telling(str(self.folder.path), "write") if full else store.telling(uri):
                raise error
        if self._short and not self._jobs and (self._alone or waited > self.patience):
            raise ValueError(self._short)

    # what goes on behind

    def _watch(self) -> None:
        with self._changed:
            while not self._closed:
                self._news = started = False
                try:
                    started = self._begin_one()
                except Exception as error:  # the folder is gone, or the plan is none: who waits hears of it
                    if isinstance(error, OSError):
                        error = ValueError(
                            f"cannot keep files under {self.folder.path} ({error.strerror or error}); "
                            "make room or make it writable, or give another folder"
                        )
                    self._failed.update(dict.fromkeys(self._asked, error))
                    self._changed.notify_all()
                if not started and not self._news:
                    self._changed.wait(NEAR if self._asked else FAR)

    def _begin_one(self) -> bool:
        """Begin with the next file, if there is one, and a thread for it, and room."""
        if not self._streams.ready:
            return False
        assert self._future is not None
        with self.folder.locked():
            seen = self.folder.look()
            for name in [n for n, size in seen.whole.items() if self._sizes.get(n, size) != size]:
                self.folder.drop(name)  # nobody of us wrote that
                del seen.whole[name]
            now, own = self._future.now, self._future.distances()
            held, distances = merged([(now, own), *seen.readers])
            free = min(self.capacity - seen.bytes, cache_folder.spare(self.folder.path))
            passed = seen.coming.keys() | self._failed.keys()
            chosen = next_fetch(
                self._future,
                sizes=self._sizes,
                whole=seen.whole,
                passed=passed,
                free=free,
                ahead=self._ahead,
                distances=distances,
                held=held,
            )
            if chosen is None:
                missing = min(now - seen.whole.keys() - passed, default=None)
                self._short = missing and self._why(missing, held, free)
                self._alone = not seen.readers and not seen.coming
                return False
            name, gone = chosen
            for each in gone:
                self.folder.drop(each)
            self._told.evictions += len(gone)
            part = self.folder.begin(name, self._sizes[name])
        self._jobs.add(name)
        self._streams.bring(self._entries[name], part.out, lambda job: self._arrived(name, part, job))
        return True

    def _why(self, missing: str, held: set[str], free: int) -> str:
        needed, uri = sum(self._sizes.get(name, 0) for name in held), self._entries[missing].uri
        if needed > self.capacity:
            return (
                f"a cache of {self.capacity:,} bytes is too small: the files its readers use at once have {needed:,} "
                f"bytes, {uri} among them; give it at least as much"
            )
        return (
            f"there is no room for the {self._sizes[missing]:,} bytes of {uri} under {self.folder.path}: "
            f"{max(0, free):,} may be written, and what lies there is in use; make room, or lower TUNDISH_MIN_FREE"
        )

    def _arrived(self, name: str, part: Part, job: Download) -> None:
        with self._changed:
            error = job.error
            try:
                with self.folder.locked():
                    self.folder.abandon(part) if error else self.folder.finish(part)
            except OSError as gone:
                error = error or gone
            self._jobs.discard(name)
            self._told.retries += job.retries
            if error is None:
                self._told.bytes += self._sizes[name]
                self._fresh.add(name)
            else:
                self._failed[name] = error
            self._tell()


def _checked(path: Path, entry: Entry) -> Path:
    """A file of a local disk as it lies, if it is what the manifest says."""
    if not path.is_file():
        raise Damaged(f"{path} is named in a manifest and is not there; restore it, or run again")
    if path.stat().st_size != entry.size or digest_once(str(path)) != entry.digest:
        raise Damaged(f"{path} does not match its digest in the manifest; restore it, or run again")
    return path
