"""Bytes to where they lie elsewhere: whole or not there, and what was there before stays until they are.

    s3, gs, abfs                  one call to the name itself: an object appears when its upload is completed
    hdfs, viewfs, all of fsspec   `.NAME.ATTEMPT.attempt` beside it, then a rename over NAME

Promises: a put that is refused, interrupted or killed leaves NAME as it was; what was refused leaves no attempt, and
what was killed one that `swept` removes. Where a store renames over nothing (Hadoop, some FTP and SMB), what was there
is moved to `.NAME.ATTEMPT.before` for the length of two renames: a writer killed between them leaves NAME away, and
`swept` brings back what it was. Costs, where there are folders, a rename and a question; in S3 and its like nothing.
What fsspec renames by copying (`AbstractFileSystem.mv`) is as whole as its copy: of object stores it is.

`Spool` holds what is on its way: in memory while it goes in one request, then in a file without a name, whose room the
system takes back however the process ends.
Sources: Hadoop's FileSystem specification ("rename": fails where a file is), Arrow's `HadoopFileSystem::Move` (removes
what is there, then renames).
"""

import contextlib
import ctypes
import mmap
import posixpath
import re
import tempfile
import uuid
from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pyarrow.fs as pafs

from tundish.cluster.schemes import FLAT, ONE

CHUNK = 1 << 20
REMOVES = re.compile(r"(py::)?(fsspec\+)?hdfs")  # pyarrow's client, whose move is not one deed where something lies
LEFT = re.compile(r"\.(?P<name>.+)\.[0-9a-f]{12}\.(?P<kind>attempt|before)")


class Spool(tempfile.SpooledTemporaryFile[bytes]):
    """What is written for a store; `room` is asked before it goes to the disk, and may refuse."""

    def __init__(self, room: Callable[[], None]) -> None:
        super().__init__(max_size=ONE)
        self._room = room

    def rollover(self) -> None:
        self._room()
        super().rollover()

    def body(self) -> pa.Buffer:
        """All that was written, mapped where it lies in a file."""
        self.flush()
        size = self.seek(0, 2)
        self.seek(0)
        return pa.py_buffer(self.read() if size <= ONE else mmap.mmap(self.fileno(), 0, access=mmap.ACCESS_READ))


def attempt_at(path: str) -> str:
    """A name of its own beside a path, which `swept` knows."""
    folder, name = posixpath.split(path)
    return posixpath.join(folder, f".{name}.{uuid.uuid4().hex[:12]}.attempt")


def put(body: pa.Buffer, filesystem: pafs.FileSystem, path: str) -> None:
    """One file to where it lies elsewhere, over what lies there; raises what the store says."""
    if filesystem.type_name in FLAT:
        return _uploaded(body, filesystem, path)
    filesystem.create_dir(posixpath.dirname(path), recursive=True)
    _by(filesystem, path, lambda attempt: _streamed(body, filesystem, attempt))


def copied(filesystem: pafs.FileSystem, path: str, to: str) -> None:
    """A file under a second name of the same store, as whole as `put`."""
    if filesystem.type_name in FLAT:
        return filesystem.copy_file(path, to)
    filesystem.create_dir(posixpath.dirname(to), recursive=True)
    _by(filesystem, to, lambda attempt: filesystem.copy_file(path, attempt))


def swept(filesystem: pafs.FileSystem, folder: str) -> None:
    """Remove what killed writers left in a folder, and bring back what they had only moved aside. What is written
    there at the same time would go, too. Asks nothing of a store without folders: there nothing is left."""
    if filesystem.type_name in FLAT:
        return
    found = filesystem.get_file_info(pafs.FileSelector(folder, allow_not_found=True))
    names = {each.base_name for each in found if each.is_file}
    for name in sorted(names):
        if hit := LEFT.fullmatch(name):
            path = posixpath.join(folder, name)
            if hit["kind"] == "before" and hit["name"] not in names:
                filesystem.move(path, posixpath.join(folder, hit["name"]))
                names.add(hit["name"])
            else:
                filesystem.delete_file(path)


def _uploaded(body: pa.Buffer, filesystem: pafs.FileSystem, path: str) -> None:
    # by its name alone a file would be compressed on the way, archives a second time
    sink = filesystem.open_output_stream(path, compression=None)
    try:
        sink.write(body)
        sink.close()
    except BaseException:
        # pyarrow has no word for giving up, and closes what is collected, at the latest when the process ends, with
        # what has come so far: such a stream is never collected, and what was there stays
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(sink))
        raise


def _streamed(body: pa.Buffer, filesystem: pafs.FileSystem, path: str) -> None:
    sink = filesystem.open_output_stream(path, compression=None)
    try:
        for at in range(0, body.size, CHUNK):
            sink.write(body.slice(at, min(CHUNK, body.size - at)))
        sink.close()
    except BaseException:
        with contextlib.suppress(Exception):
            sink.close()  # of an attempt, which goes
        raise


def _by(filesystem: pafs.FileSystem, path: str, made: Callable[[str], Any]) -> None:
    """What `made` makes under a name of its own, brought to its place; on an error that name alone goes."""
    attempt = attempt_at(path)
    try:
        made(attempt)
        _renamed(filesystem, attempt, path)
    except BaseException:
        with contextlib.suppress(Exception):
            filesystem.delete_file(attempt)
        raise


def _renamed(filesystem: pafs.FileSystem, attempt: str, path: str) -> None:
    """Over what lies there. A client may refuse that, or (fsspec's WebHDFS) not do it and say nothing."""
    if not REMOVES.fullmatch(filesystem.type_name):
        try:
            filesystem.move(attempt, path)
        except Exception:
            if not (_there(filesystem, attempt) and _there(filesystem, path)):
                raise
        if not _there(filesystem, attempt):
            return
    before = f"{attempt.removesuffix('.attempt')}.before" if _there(filesystem, path) else None
    if before:
        filesystem.move(path, before)
    try:
        filesystem.move(attempt, path)
        if _there(filesystem, attempt) or not _there(filesystem, path):
            raise OSError(f"the store did not rename {posixpath.basename(attempt)!r} to {posixpath.basename(path)!r}")
    except BaseException:
        if before:
            filesystem.move(before, path)
        raise
    if before:
        with contextlib.suppress(Exception):  # the new one is there: what cannot be removed now is swept later
            filesystem.delete_file(before)


def _there(filesystem: pafs.FileSystem, path: str) -> bool:
    return bool(filesystem.get_file_info(path).type != pafs.FileType.NotFound)
