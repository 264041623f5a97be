"""What fails for a while is tried again: which errors pass, how long to wait, and streams that read on.

Promises: whether an error may pass is decided here alone, by its kind, or by the name or the status (301, 400, 401,
403, 405, 411) a store gave its refusal; the pauses grow, each drawn anew around its length so that workers that failed
together do not come back together. Costs nothing where nothing fails; at most eight tries and some 32 s of pauses (48 s
as drawn), beside what the client under it repeats by itself. Refuses to read on in a file that it opened anew and that
is another than it was.

Sources: M. Brooker, "Exponential Backoff and Jitter" (AWS Architecture Blog, 2015); the error codes of S3 ("Error
responses", API reference 2006-03-01), of gRPC as GCS names them, and of Azure's Blob service.
"""

import contextlib
import errno
import io
import random
import re
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import pyarrow as pa

PAUSES = (0.2, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0)  # seconds between tries
FINAL = (FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError)
FULL = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG}
# pyarrow has one kind of error for all that a store answers: what was refused is told by the store's own word, or by
# the status where pyarrow has no name for that word. Some words under such a status say that bytes were lost on a way.
LOST = r"(?!.*ExceptionName: (?:IncompleteBody|BadDigest|RequestTimeout|XAmzContentSHA256Mismatch)\b)"
REFUSED = re.compile(
    r"(?s)AWS Error (ACCESS_DENIED|NO_SUCH_BUCKET|INVALID_ACCESS_KEY_ID|INVALID_CLIENT_TOKEN_ID"
    r"|SIGNATURE_DOES_NOT_MATCH|MISSING_AUTHENTICATION_TOKEN|UNRECOGNIZED_CLIENT|INVALID_SIGNATURE|INCOMPLETE_SIGNATURE"
    r"|OPT_IN_REQUIRED|REQUEST_TIME_TOO_SKEWED|REQUEST_EXPIRED)\b"
    rf"|AWS Error \w+ \(HTTP status (?:301|400|401|403|405|411)\){LOST}"
    r"|google::cloud::Status\((PERMISSION_DENIED|UNAUTHENTICATED|INVALID_ARGUMENT)\b"
    r"|\b(AuthenticationFailed|AuthorizationFailure|AuthorizationPermissionMismatch|ContainerNotFound|InvalidUri)\b"
)
T = TypeVar("T")
_thread = threading.local()


class Replaced(Exception):
    """A file is another than it was when it was opened."""


def passing(error: BaseException) -> bool:
    """Whether another try may go better, by the kind of the error.

    >>> passing(ConnectionResetError()), passing(FileNotFoundError()), passing(ValueError())
    (True, False, False)
    >>> passing(OSError("AWS Error SLOW_DOWN during PutObject")), passing(OSError("AWS Error ACCESS_DENIED during Put"))
    (True, False)
    >>> passing(OSError("AWS Error UNKNOWN (HTTP status 403) during GetObject operation: AllAccessDisabled"))
    False
    """
    if isinstance(error, OSError):
        return not isinstance(error, FINAL) and error.errno not in FULL and not REFUSED.search(str(error))
    # clients under fsspec have errors of their own kinds; built-in ones are ours, Arrow's mean what was asked
    own = type(error).__module__ == "builtins" or type(error).__module__.startswith("tundish.")
    return isinstance(error, EOFError) or not (own or isinstance(error, pa.ArrowException))


def drawn(pause: float) -> float:
    """Seconds to wait: half to one and a half of the pause."""
    return pause * random.uniform(0.5, 1.5)


@contextlib.contextmanager
def once() -> Iterator[None]:
    """In this thread nothing is tried again inside: for what is worth nothing when it comes late."""
    before, _thread.pauses = _pauses(), ()
    try:
        yield
    finally:
        _thread.pauses = before


def _pauses() -> tuple[float, ...]:
    return getattr(_thread, "pauses", PAUSES)


def patiently(deed: Callable[[], T]) -> T:
    """What `deed` gives, tried again while its errors may pass; the last of them goes up."""
    for pause in _pauses():
        try:
            return deed()
        except Exception as error:
            if not passing(error):
                raise
        time.sleep(drawn(pause))
    return deed()


class Steady(io.RawIOBase):
    """A file that lies elsewhere, as a seekable stream: what breaks off is opened anew and read on where it was."""

    def __init__(self, opened: Callable[[], Any]) -> None:
        """`opened` gives a `pyarrow.NativeFile` on it, each time a new one. Raises FileNotFoundError as it does."""
        self._opened, self._at = opened, 0
        self._inner: Any = None
        self._is: tuple[int, bytes] | None = None
        patiently(self._stream)

    def _stream(self) -> Any:
        if self._inner is None:
            inner = self._opened()
            found = (inner.size(), (inner.metadata() or {}).get("ETag", b""))
            if self._is not in (None, found):
                raise Replaced("it was replaced while it was read")
            self._inner, self._is = inner, found
        return self._inner

    def _read_at(self, size: int) -> bytes:
        try:
            body = bytes(self._stream().read_at(size, self._at))
            if len(body) != size:
                raise EOFError(f"{len(body)} of {size} bytes came")
        except Exception:
            self._inner = None
            raise
        return body

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        body = self.read(len(buffer))
        buffer[: len(body)] = body
        return len(body)

    def read(self, size: int | None = -1) -> bytes:
        assert self._is is not None, "it was opened"
        left = max(0, self._is[0] - self._at)
        wanted = left if size is None or size < 0 else min(size, left)
        body = patiently(lambda: self._read_at(wanted)) if wanted else b""
        self._at += len(body)
        return body

    def seek(self, offset: int, whence: int = 0) -> int:
        assert self._is is not None, "it was opened"
        at = offset + (0, self._at, self._is[0])[whence]
        if at < 0:
            raise OSError(errno.EINVAL, f"byte {at} lies before the start")
        self._at = at
        return at

    def tell(self) -> int:
        return self._at
