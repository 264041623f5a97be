"""Files on their way here: ranges of them that several threads pull, then a check of the whole.

Promises: no more than so many requests at once, those of the file that was asked for first before others; what arrives
has the size and SHA-256 that were asked for. A failure that may pass (by the kind of its error alone) is tried again,
each time after a longer pause, on a file opened anew; others are not. A whole file of another digest is fetched a
second time, for it may have been damaged on its way. Costs one request a range, one more to open, and one reading of
what was written, from the page cache. Refuses, by name, a file whose size or digest is another than the manifest's.
"""

import hashlib
import os
import queue
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import pyarrow.fs as pafs

from tundish.cluster import store
from tundish.cluster.retry import PAUSES, drawn, passing
from tundish.cluster.shards import Damaged

RANGE = 8 << 20  # bytes a request: object stores give their full rate a connection from about this size on
SHARED = (pafs.S3FileSystem, pafs.GcsFileSystem, pafs.LocalFileSystem)  # one open file serves threads side by side


class Entry(NamedTuple):
    """A file as its manifest names it: where it lies, its size in bytes and SHA-256 in hex."""

    uri: str
    size: int
    digest: str


class Stopped(Exception):
    """Nobody waits for the file any more."""


class Download:
    """The bytes of one file, from where it lies into an open file here. Ranges may be pulled side by side."""

    def __init__(
        self, entry: Entry, out: int, then: "Then", pause: Callable[[float], bool], last: bool = False
    ) -> None:
        """`then` hears of the end. `pause` waits so many seconds and says whether to stop. `last`: of the tries."""
        self.entry, self.out, self.then, self._pause, self.last = entry, out, then, pause, last
        self.ranges = [(at, min(RANGE, entry.size - at)) for at in range(0, entry.size, RANGE)] or [(0, 0)]
        self.left, self.retries = len(self.ranges), 0
        self.error: Exception | None = None
        self._shared: Any = None
        self._lock = threading.Lock()

    def pull(self, at: int, count: int) -> bool:
        """Bring one range, or note why it cannot be had; whether it was the last to come."""
        if self.error is None:
            try:
                self._put(self._tried(at, count), at)
            except Exception as error:
                self.error = self.error or error
        with self._lock:
            self.left -= 1
            return not self.left

    def _tried(self, at: int, count: int) -> bytes:
        for pause in (*PAUSES, None):
            try:
                return self._read(at, count)
            except Exception as error:
                if pause is None or not passing(error):
                    raise
                with self._lock:
                    self.retries += 1
                    self._shared = None
            if self._pause(drawn(pause)):
                raise Stopped
        raise AssertionError("the last try returns or raises")

    def _read(self, at: int, count: int) -> bytes:
        stream = self._stream()
        if (size := stream.size()) != self.entry.size:
            raise Damaged(
                f"{self.entry.uri} has {size:,} bytes and the manifest says {self.entry.size:,}; "
                "restore it, or take the manifest that belongs to it"
            )
        body = bytes(stream.read_at(count, at)) if count else b""
        if len(body) != count:
            raise EOFError(f"{len(body)} of {count} bytes came of {self.entry.uri}")
        return body

    def _stream(self) -> Any:
        filesystem, path = store.resolve(self.entry.uri)
        if not isinstance(filesystem, SHARED):
            return filesystem.open_input_file(path)
        with self._lock:
            if self._shared is None:
                self._shared = filesystem.open_input_file(path)
            return self._shared

    def _put(self, body: bytes, at: int) -> None:
        view = memoryview(body)
        while view:
            done = os.pwrite(self.out, view, at)
            view, at = view[done:], at + done

    def check(self) -> None:
        """Refuse bytes that are not the manifest's."""
        found, at = hashlib.sha256(), 0
        while block := os.pread(self.out, store.CHUNK, at):
            found.update(block)
            at += len(block)
        if at != self.entry.size or found.hexdigest() != self.entry.digest:
            raise Damaged(
                f"{self.entry.uri} does not match its digest in the manifest; "
                "restore it, or take the manifest that belongs to it"
            )


Then = Callable[[Download], None]


class Streams:
    """`count` threads that pull ranges, in the order in which their files were asked for."""

    def __init__(self, count: int, idle: Callable[[], None]) -> None:
        """`idle` is called when no range waits any more: there is room for the next file."""
        self.count, self._idle, self._files = count, idle, 0
        self._work: queue.SimpleQueue[tuple[Download, tuple[int, int]] | None] = queue.SimpleQueue()
        self._stop, self._lock = threading.Event(), threading.Lock()
        self._threads = [threading.Thread(target=self._pull, name="stream", daemon=True) for _ in range(count)]
        for thread in self._threads:
            thread.start()

    @property
    def ready(self) -> bool:
        """Whether another file would be begun at once."""
        return not self._work.qsize() and self._files < self.count

    def bring(self, entry: Entry, out: int, then: Then) -> None:
        """Fill an open file with what lies at an entry's URI. `then` is called at its end, by one of the threads."""
        with self._lock:
            self._files += 1
        self._put(Download(entry, out, then, self._stop.wait))

    def _put(self, job: Download) -> None:
        for each in job.ranges:
            self._work.put((job, each))

    def _pull(self) -> None:
        while (task := self._work.get()) is not None:
            job, (at, count) = task
            if self._stop.is_set():
                job.error = job.error or Stopped()
            if job.pull(at, count):
                self._end(job)
            if self.ready:
                self._idle()

    def _end(self, job: Download) -> None:
        if job.error is None:
            try:
                job.check()
                os.fsync(job.out)
            except Exception as error:
                job.error = error
                if isinstance(error, Damaged) and not job.last:
                    again = Download(job.entry, job.out, job.then, self._stop.wait, last=True)
                    again.retries = job.retries + 1
                    return self._put(again)
        with self._lock:
            self._files -= 1
        job.then(job)

    def close(self, seconds: float = 10.0) -> None:
        """Bring nothing more; wait so long for requests under way."""
        self._stop.set()
        for _ in self._threads:
            self._work.put(None)
        ends = time.monotonic() + seconds
        for thread in self._threads:
            if thread is not threading.current_thread():
                thread.join(max(0.0, ends - time.monotonic()))


def speed(entry: Entry, streams: int = 8, most: int = 64 << 20) -> float:
    """Bytes a second that come from where a file lies: measured on the beginning of it, by as many requests at once."""
    cut, done = entry._replace(size=min(entry.size, most)), threading.Event()
    with tempfile.TemporaryFile() as out:
        job = Download(entry, out.fileno(), lambda _: None, done.wait)
        ranges = Download(cut, out.fileno(), lambda _: None, done.wait).ranges
        began = time.monotonic()
        with ThreadPoolExecutor(streams) as pool:
            list(pool.map(lambda each: job.pull(*each), ranges))
        seconds = time.monotonic() - began
    if job.error is not None:
        with store.telling(entry.uri):
            raise job.error
    return cut.size / max(seconds, 1e-9)
