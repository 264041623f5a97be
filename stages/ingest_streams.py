"""Bytes of one archive, wherever they lie: a file, a range of it, a member of a WACZ, on a disk or behind a network.

Promises: what is read from afar is taken up again where it broke off, after a pause that doubles, so a lost connection
or a server that asks for patience (403, 429, 5xx) costs time and nothing else. One request at a time a worker. Refuses,
after `TRIES` failures in a row, with the address and the reason; and a server without ranges.
"""

import io
import lzma
import re
import struct
import time
import zipfile
import zlib
from collections.abc import Callable
from typing import Any

import pyarrow as pa

from tundish.cluster import store

BLOCK, LITTLE = 4 << 20, 64 << 10  # bytes fetched at once: by who reads on, and after a jump
TRIES, PAUSE, LONGEST = 8, 1.0, 60.0  # attempts in a row; seconds before the second of them, and at most
PATIENCE = frozenset({403, 408, 425, 429, 500, 502, 503, 504})  # Common Crawl's data hosts slow down with 403 and 503
CALLED = re.compile(r"\.w?arc(\.(gz|zst|lz4))?$", re.IGNORECASE)
LOCAL = struct.Struct("<26xHH")  # of a ZIP file's local header: lengths of name and extra field (APPNOTE 4.3.7)


def transient(error: Exception) -> bool:
    """Whether another attempt may help: an answer that asks for patience, or a connection that failed."""
    if (status := getattr(error, "status", None)) is not None:
        return status in PATIENCE
    if isinstance(error, FileNotFoundError | PermissionError):
        return False
    return isinstance(error, OSError) or type(error).__module__ != "builtins"


def patiently(uri: str, deed: Callable[[], Any]) -> Any:
    """What `deed` gives, tried again while its errors are transient."""
    for attempt in range(TRIES):
        try:
            return deed()
        except Exception as error:
            cause = error.__cause__ if isinstance(error.__cause__, Exception) else error
            if attempt == TRIES - 1 or not transient(cause):
                with store.telling(uri):
                    raise
        time.sleep(min(LONGEST, PAUSE * 2**attempt))
    raise AssertionError("the last attempt returns or raises")


def _afar(uri: str) -> tuple[Any, str]:
    """The fsspec filesystem of a URI, where it is one, and the path inside it. Asked directly, because on the way
    through pyarrow a server that asks for patience looks like a file that is not there."""
    filesystem, path = store.resolve(uri)
    return getattr(getattr(filesystem, "handler", None), "fs", None), path


def size_of(uri: str) -> int:
    """Bytes of a file. Raises FileNotFoundError where there is none."""
    return int(patiently(uri, lambda: _size(uri)))


def _size(uri: str) -> int:
    inner, path = _afar(uri)
    if inner is None:
        size = store.size(uri)
    else:
        try:
            size = inner.info(path)["size"]
        except FileNotFoundError as error:
            if isinstance(error.__cause__, Exception) and transient(error.__cause__):
                raise error.__cause__ from None
            raise
        if size is None:
            raise ValueError(f"the server of {uri} does not say how large it is; fetch the file first")
    if size is None:
        raise FileNotFoundError(uri)
    return int(size)


def range_of(uri: str, start: int, size: int) -> bytes:
    """Bytes of a file, in one request; fewer where it ends. Raises FileNotFoundError where there is none."""
    inner, path = _afar(uri)
    if inner is None:
        with store.resolve(uri)[0].open_input_file(path) as stream:
            stream.seek(start)
            return bytes(stream.read(size))
    try:
        body = bytes(inner.cat_file(path, start=start, end=start + size))
    except Exception as error:
        if getattr(error, "status", None) == 416:  # behind its end
            return b""
        raise
    if len(body) > size:
        raise ValueError(
            f"the server of {uri} sends {len(body)} bytes where {size} were asked for; use one with ranges"
        )
    return body


def _place(at: int) -> int:
    if at < 0:
        raise EOFError(f"byte {at} lies before the start")
    return at


class Patient(io.RawIOBase):
    """A file behind a network as a seekable stream, fetched in blocks."""

    def __init__(self, uri: str) -> None:
        self._uri, self._at = uri, 0
        self._size = size_of(uri)
        self._block, self._from = b"", 0
        self.failed: Exception | None = None  # what it raised: no property of the bytes

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def read(self, size: int | None = -1) -> bytes:
        left = max(0, self._size - self._at)
        wanted = left if size is None or size < 0 else min(size, left)
        inside = self._at - self._from
        if wanted and not 0 <= inside <= inside + wanted <= len(self._block):
            onward = 0 <= inside <= len(self._block)  # who jumps about wants little
            ahead = max(wanted, BLOCK if onward else LITTLE)
            try:
                self._block, self._from, inside = self._fetched(min(left, ahead)), self._at, 0
            except Exception as error:
                self.failed = error
                raise
        piece = self._block[inside : inside + wanted]
        self._at += len(piece)
        return piece

    def _fetched(self, size: int) -> bytes:
        body: bytes = patiently(self._uri, lambda: range_of(self._uri, self._at, size))
        if len(body) < size:
            raise ValueError(f"{self._uri} ends at byte {self._at + len(body)} of {self._size}; it changed meanwhile")
        return body

    def readinto(self, into: Any) -> int:
        piece = self.read(len(into))
        into[: len(piece)] = piece
        return len(piece)

    def seek(self, offset: int, whence: int = 0) -> int:
        self._at = _place(offset + (0, self._at, self._size)[whence])
        return self._at

    def tell(self) -> int:
        return self._at


class Window(io.RawIOBase):
    """A range of bytes of a stream, as a stream of its own."""

    def __init__(self, stream: Any, start: int, size: int) -> None:
        self._stream, self._start, self._size, self._at = stream, start, size, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def read(self, size: int | None = -1) -> bytes:
        left = max(0, self._size - self._at)
        self._stream.seek(self._start + self._at)
        piece = bytes(self._stream.read(left if size is None or size < 0 else min(size, left)))
        self._at += len(piece)
        return piece

    def readinto(self, into: Any) -> int:
        piece = self.read(len(into))
        into[: len(piece)] = piece
        return len(piece)

    def seek(self, offset: int, whence: int = 0) -> int:
        self._at = _place(offset + (0, self._at, self._size)[whence])
        return self._at

    def tell(self) -> int:
        return self._at


class Unpacked(io.RawIOBase):
    """A compressed member of a ZIP file; where its bytes are broken, it ends. To go back unpacks it anew."""

    def __init__(self, held: Any) -> None:
        self._held = held

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def read(self, size: int | None = -1) -> bytes:
        try:
            return bytes(self._held.read(size))
        except BROKEN:
            return b""

    def seek(self, offset: int, whence: int = 0) -> int:
        try:
            return int(self._held.seek(offset, whence))
        except BROKEN:
            return int(self._held.tell())

    def tell(self) -> int:
        return int(self._held.tell())


def opened(uri: str, member: str = "") -> Any:
    """A seekable stream of a file, or of a member of the ZIP file it is."""
    try:
        stream = store.opened(uri) if store.local(uri) is not None else Patient(uri)
    except FileNotFoundError as error:
        raise ValueError(f"there is no file {uri!r}; check the path") from error
    return inside(stream, member) if member else stream


# What the reader of ZIP files raises for broken ones, as do streams for places before their start. No ValueError at
# large: that is how `patiently` gives up, and a network is no damage.
BROKEN = (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError)
UNZIPPED = (*BROKEN, KeyError, RuntimeError, UnicodeDecodeError, pa.ArrowInvalid, struct.error)


def inside(stream: Any, member: str) -> Any:
    """A member in place where it is stored as it is (as WACZ wants archives), else unpacked on the way.

    One that cannot be opened reads as a line that says why: it costs itself, and counts as `not_warc`.
    """
    try:
        held = zipfile.ZipFile(stream)
        info = held.getinfo(member)
        if info.compress_type != zipfile.ZIP_STORED or info.flag_bits & 1:
            return Unpacked(held.open(info))
        stream.seek(info.header_offset)
        lengths = LOCAL.unpack(stream.read(LOCAL.size))
    except UNZIPPED as error:
        return io.BytesIO(f"this member cannot be opened: {error}\n".encode())
    return Window(stream, info.header_offset + LOCAL.size + sum(lengths), info.file_size)


def members(uri: str) -> list[tuple[str, int]]:
    """(name, size) of the web archives in a WACZ file, sorted; none where it is no ZIP file. They are what lies in its
    folder `archive/`; where nothing does, what is called as one."""
    with opened(uri) as stream:
        try:
            held = zipfile.ZipFile(stream).infolist()
        except UNZIPPED:
            return []
    files = [(i.filename, i.file_size) for i in held if not i.is_dir()]
    inside = [one for one in files if one[0].startswith("archive/")]
    return sorted(inside or [one for one in files if CALLED.search(one[0])])
