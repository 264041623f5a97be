"""Where bytes lie: a path or any `pyarrow.fs` URI, written whole or not at all.

Promises: `written` publishes a file only after its last byte is on disk (local: attempt name, fsync, rename;
elsewhere: `put`, of what was spooled in memory or, above 8 MiB, in the temporary folder), and says its size and
SHA-256. What fails elsewhere and may pass is tried again (`retry`); a disk is asked once. Costs one extra read of what
was written.
Refuses, in one sentence with the URI and the reason, a URI no installed filesystem understands, one that carries a
credential, and a place that cannot be read or written; and to write when the disk is nearly full (`room`).
"""

import contextlib
import errno
import functools
import glob
import hashlib
import json
import os
import posixpath
import re
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, TypeVar, cast

import pyarrow as pa
import pyarrow.fs as pafs

from tundish.cluster import credentials, put, retry, schemes
from tundish.cluster.room import UNITS as UNITS
from tundish.cluster.room import least_free as least_free
from tundish.cluster.room import require_space as require_space

CHUNK = 1 << 20
WIDE = 1 << 24  # bytes read at once where each read is a request
T = TypeVar("T")


@contextlib.contextmanager
def telling(uri: str, deed: str = "read") -> Iterator[None]:
    """What a filesystem refuses, as one sentence. That a file is not there stays a FileNotFoundError."""
    try:
        yield
    except FileNotFoundError:
        raise
    except Exception as error:
        # Clients under fsspec have errors of their own kinds; built-in ones but OSError are ours, or a mistake here.
        room = type(error).__module__.partition(".")[0]
        if room in ("builtins", "tundish") and not isinstance(error, (OSError, retry.Replaced)):
            raise
        reason = credentials.redacted(_reason(error))
        raise ValueError(
            f"cannot {deed} the URI {uri!r} ({reason}); check the address, the way to it, and that you may {deed} it"
        ) from error


def _reason(error: Exception) -> str:
    """What went wrong in one line: the system's words, where it has a number of the system.

    >>> _reason(NotADirectoryError(20, "Cannot list directory 'a'. Detail: [errno 20] Not a directory"))
    'Not a directory'
    """
    number = getattr(error, "errno", None)
    said = os.strerror(number) if number in errno.errorcode else " ".join(str(error).split())
    return said[:300] or type(error).__name__


_filesystem = functools.lru_cache(maxsize=64)(schemes.opened)  # a client for each bucket: it holds its connections


def resolve(uri: str, *, parts: bool = False) -> tuple[pafs.FileSystem, str]:
    """Filesystem and path of a URI or a plain path; `parts`: to write what does not go in one request.

    >>> resolve("/srv/corpus/../corpus/a")[1]
    '/srv/corpus/a'
    """
    if "://" not in uri:
        return pafs.LocalFileSystem(), os.path.abspath(os.path.expanduser(uri))
    credentials.refuse(uri)
    scheme, _, rest = uri.partition("://")
    base, path = schemes.parted(f"{scheme}://{posixpath.normpath(rest)}")
    with telling(uri):
        access = schemes.access_of(f"{base}/{path}", os.environ.get("TUNDISH_STORAGE", ""))
        filesystem, prefix = _filesystem(base, access, parts)
    return filesystem, schemes.path_in(prefix, path)


def asked(uri: str, deed: Callable[[pafs.FileSystem, str], T]) -> T:
    """What `deed` gets of the place a URI names; tried again, where it lies elsewhere, while what fails may pass."""
    filesystem, path = resolve(uri)
    if isinstance(filesystem, pafs.LocalFileSystem):
        return deed(filesystem, path)
    return retry.patiently(lambda: deed(filesystem, path))


def local(uri: str) -> Path | None:
    """The path on this machine, or None when the bytes lie elsewhere."""
    filesystem, path = resolve(uri)
    return Path(path) if isinstance(filesystem, pafs.LocalFileSystem) else None


def absolute(uri: str) -> str:
    """A path made absolute, for workers that stand elsewhere; a URI as it is."""
    return uri if "://" in uri else os.path.abspath(os.path.expanduser(uri))


def join(uri: str, *names: str) -> str:
    return "/".join([uri.rstrip("/"), *names])


def info(uri: str) -> pafs.FileInfo:
    """Kind, size and time of what lies there; of the kind NotFound when nothing does."""
    with telling(uri):
        return asked(uri, lambda filesystem, path: filesystem.get_file_info(path))


def exists(uri: str) -> bool:
    return bool(info(uri).type != pafs.FileType.NotFound)


def size(uri: str) -> int | None:
    """Bytes of a file; None when it is not there."""
    found = info(uri)
    return found.size if found.is_file else None


def listing(uri: str) -> list[str]:
    """Names directly under a folder, sorted; an absent folder is empty."""
    return sorted(each.base_name for each in _within(uri))


def sizes(uri: str) -> dict[str, int]:
    """Bytes of every file directly under a folder, by name, from one listing; an absent folder is empty."""
    return {each.base_name: each.size for each in _within(uri) if each.is_file}


def _within(uri: str, below: str | None = None, recursive: bool = False) -> list[pafs.FileInfo]:
    """What lies in a folder, or in another one of the same store."""

    def listed(filesystem: pafs.FileSystem, path: str) -> list[pafs.FileInfo]:
        folder = pafs.FileSelector(path if below is None else below, allow_not_found=True, recursive=recursive)
        return list(filesystem.get_file_info(folder))

    with telling(uri):
        return asked(uri, listed)


def matching(pattern: str) -> list[str]:
    """URIs of the files a path, folder or glob (`*`, `?`, `**` on local paths) names, sorted."""
    with telling(pattern):
        return _matching(pattern)


def _matching(pattern: str) -> list[str]:
    if (folder := local(pattern)) is not None:
        found = [folder] if folder.is_file() else sorted(folder.rglob("*")) if folder.is_dir() else []
        paths = [str(p) for p in found] or sorted(glob.glob(str(folder), recursive=True))
        return [p for p in paths if os.path.isfile(p)]
    _, path = resolve(pattern)
    if not re.search(r"[*?\[]", path):
        inside = _within(pattern, path.rstrip("/"), recursive=True) if not info(pattern).is_file else None
        return [pattern] if inside is None else sorted(schemes.uri_of(pattern, i.path) for i in inside if i.is_file)
    fixed = re.split(r"[*?\[]", path)[0].rsplit("/", 1)[0]
    rule = re.compile(glob_rule(path))
    infos = _within(pattern, fixed, recursive=True)
    return sorted(schemes.uri_of(pattern, i.path) for i in infos if i.is_file and rule.fullmatch(i.path))


def glob_rule(pattern: str) -> str:
    """A glob as a regular expression: `*` and `?` stay within one folder, `**` does not."""
    parts = re.split(r"(\*\*/?|\*|\?)", pattern)
    known = {"**": ".*", "**/": "(?:.*/)?", "*": "[^/]*", "?": "[^/]"}
    return "".join(known.get(part, re.escape(part)) for part in parts)


def opened(uri: str) -> Any:
    """A seekable stream of a file's bytes; one that lies elsewhere is opened anew and read on when it breaks off."""
    filesystem, path = resolve(uri)
    try:
        with telling(uri):
            if isinstance(filesystem, pafs.LocalFileSystem):
                return filesystem.open_input_file(path)
            return pa.PythonFile(retry.Steady(lambda: filesystem.open_input_file(path)), mode="r")
    except FileNotFoundError as error:
        raise ValueError(f"there is no file {uri!r}; check the path") from error


def read(uri: str) -> bytes:
    with opened(uri) as stream, telling(uri):
        return bytes(stream.read())


class Unread(ValueError):
    """A file that should hold JSON and does not: it was cut or changed."""

    def __init__(self, uri: str, why: str) -> None:
        super().__init__(f"{uri} holds no JSON ({why}); it was cut or changed: restore it, or delete it and run again")
        self.why = why


def read_json(uri: str) -> Any | None:
    """The JSON value in a file; None when there is no file. One elsewhere that is no JSON is read again: it may have
    been replaced between the question for its size and that for its bytes."""
    try:
        with telling(uri):
            return asked(uri, _parsed)
    except FileNotFoundError:
        return None
    except EOFError as error:
        raise Unread(uri, str(error)) from None


def _parsed(filesystem: pafs.FileSystem, path: str) -> Any:
    try:
        return json.loads(_whole(filesystem, path))
    except ValueError as error:
        raise EOFError(str(error)) from None


def _whole(filesystem: pafs.FileSystem, path: str) -> bytes:
    with filesystem.open_input_file(path) as stream:
        return bytes(stream.read())


def digest(uri: str) -> str:
    """SHA-256 of a file's bytes, in hex; streams."""
    found = hashlib.sha256()
    step = WIDE if local(uri) is None else CHUNK
    with opened(uri) as stream, telling(uri):
        while block := stream.read(step):
            found.update(block)
    return found.hexdigest()


def remove(uri: str) -> None:
    """Delete a file or a folder with all it holds; what is not there stays so."""

    def removed(filesystem: pafs.FileSystem, path: str) -> None:
        kind = filesystem.get_file_info(path).type
        if kind == pafs.FileType.Directory:
            filesystem.delete_dir(path)
        elif kind == pafs.FileType.File:
            filesystem.delete_file(path)

    with telling(uri, "remove"):
        asked(uri, removed)


def move(uri: str, to: str) -> None:
    """Bring a file under another name on the same filesystem, over what lies there."""
    target = local(to)
    if target is not None:
        target.parent.mkdir(parents=True, exist_ok=True)
        _renamed(local(uri), target)
        return
    _, place = resolve(to)
    with telling(to, "write"):
        asked(uri, lambda filesystem, path: put.copied(filesystem, path, place))
    remove(uri)


def _require_spool() -> None:
    require_space(Path(tempfile.gettempdir()), "set TMPDIR to a folder of another disk, ")


class Written:
    """What became of a file: its size in bytes and SHA-256, known once the `with` block has ended."""

    size: int = 0
    digest: str = ""


@contextlib.contextmanager
def written(uri: str) -> Iterator[tuple[BinaryIO, Written]]:
    """Write a file whole or not at all; an error inside the block leaves nothing behind."""
    target = local(uri)
    with _here(target, uri) if target is not None else _elsewhere(uri) as found:
        yield found


@contextlib.contextmanager
def _here(target: Path, uri: str) -> Iterator[tuple[BinaryIO, Written]]:
    with telling(uri, "write"):
        target.parent.mkdir(parents=True, exist_ok=True)
    require_space(target.parent)
    attempt, told = Path(put.attempt_at(str(target))), Written()
    try:
        with telling(uri, "write"):
            sink = open(attempt, "wb")  # noqa: SIM115 - an error of the caller's block is not this place's
        with sink as stream:
            yield stream, told
            stream.flush()
            os.fsync(stream.fileno())
        told.size, told.digest = attempt.stat().st_size, digest(str(attempt))
        with telling(uri, "write"):
            _publish(attempt, target, uri)
    finally:
        attempt.unlink(missing_ok=True)


@contextlib.contextmanager
def _elsewhere(uri: str) -> Iterator[tuple[BinaryIO, Written]]:
    told = Written()
    with put.Spool(_require_spool) as spool:
        yield cast(BinaryIO, spool), told
        body = spool.body()
        told.size, told.digest = body.size, hashlib.sha256(body).hexdigest()
        with telling(uri, "write"):
            _publish(body, None, uri)


def _publish(made: Any, target: Path | None, uri: str) -> None:
    """`made`: the path of an attempt on a disk, the bytes themselves for a place elsewhere."""
    if target is not None:
        return _renamed(made, target)
    filesystem, path = resolve(uri, parts=made.size > schemes.ONE)
    retry.patiently(lambda: put.put(made, filesystem, path))


def _renamed(path: Path | None, target: Path) -> None:
    assert path is not None, "a file is moved on its own filesystem"
    os.replace(path, target)
    folder = os.open(target.parent, os.O_RDONLY)
    try:
        os.fsync(folder)  # the rename itself must survive a power cut
    finally:
        os.close(folder)


def write(uri: str, body: bytes) -> Written:
    with written(uri) as (stream, told):
        stream.write(body)
    return told


def write_json(uri: str, value: Any) -> Written:
    text = json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False)
    return write(uri, (text + "\n").encode())


def sweep(uri: str) -> None:
    """Remove attempts that killed writers left in a folder, and among its commits."""
    folder = local(uri)
    if folder is None:
        with telling(uri, "write"):
            for each in (uri, join(uri, "commits")):
                asked(each, put.swept)
    elif folder.is_dir():
        for left in [*folder.glob(".*.attempt"), *folder.glob("commits/.*.attempt")]:
            left.unlink(missing_ok=True)
