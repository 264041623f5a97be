"""The archive of one part: WARC/1.1 files that only grow, and whose committed length is known elsewhere.

Promises: a capture is appended in one write (request and response or revisit record); after a restart the files end
where they were last committed; a new file is begun after 64 MiB. Costs one fsync a commit. Nothing from the web names a
file.
"""

import os
import time
from collections.abc import Iterable, Mapping
from http import HTTPStatus
from pathlib import Path
from typing import BinaryIO, NamedTuple

from tundish.cluster.wire import Headers, Request, Response
from tundish.operators.web.warc_write import Earlier, Fetch, packer, records, unpacked, warcinfo, warcinfo_id

ROLL = 64 << 20  # bytes of a file, about


class Held(NamedTuple):
    """Where a capture lies: file, offset of the response record, bytes of both records, bytes of the response record,
    digest of the payload."""

    archive: str
    offset: int
    size: int
    length: int
    digest: str


class Archive:
    """Appends captures; `about` becomes the warcinfo record of every file, with the name it will be published under,
    `NAME-NNNN.warc`; `form` is `zst` or `gz`."""

    def __init__(
        self,
        folder: Path,
        committed: Iterable[tuple[str, int, int]],
        about: dict[str, str],
        form: str = "zst",
        name: str = "archive",
    ) -> None:
        self.folder, self.about, self.form, self.pack, self.name = folder, about, form, packer(form), name
        self.captures = {name: captures for name, _, captures in committed}
        self.sizes = {name: size for name, size, _ in committed}
        self.changed: set[str] = set()
        self.stream: BinaryIO | None = None
        self.info = ""
        for path in folder.glob("*.warc.*"):
            if path.name not in self.sizes:
                path.unlink()
            elif path.stat().st_size > self.sizes[path.name]:
                os.truncate(path, self.sizes[path.name])
        for name, size in self.sizes.items():
            if not (folder / name).is_file() or (folder / name).stat().st_size < size:
                raise ValueError(
                    f"{folder / name} is shorter than the {size} bytes its crawl committed; "
                    f"restore it, or delete {folder.parent} to crawl anew"
                )

    def append(
        self,
        request: Request,
        answer: Response,
        date: str,
        *,
        earlier: Earlier | None = None,
        more: Mapping[str, str] | None = None,
    ) -> Held:
        """Write one capture; with `earlier`, as a revisit of that one, its head alone."""
        name = self._open(date)
        fetch = Fetch(
            url=answer.url,
            date=date,
            request=request_bytes(request),
            response=response_bytes(answer),
            ip=answer.address or None,
            info=self.info,
            truncated=answer.truncated,
            more=more,
        )
        asked, got, digest = records(fetch, earlier)
        first, second = self.pack(asked), self.pack(got)
        offset = self.sizes[name] + len(first)
        self._write(name, first + second)
        self.captures[name] += 1
        return Held(name, offset, len(first) + len(second), len(second), digest)

    def answer(self, url: str, name: str, offset: int, size: int) -> Response:
        """The answer whose response record begins at `offset` of a file, within `size` bytes."""
        if self.stream is not None:
            self.stream.flush()
        with open(self.folder / name, "rb") as stream:
            stream.seek(offset)
            return answer_of(url, unpacked(stream.read(size), self.form))

    def _open(self, date: str) -> str:
        """The file to append to: the last one, or a new one."""
        name = max(self.sizes, default="")
        if self.stream is not None and self.sizes[name] < ROLL:
            return name
        if not name or self.sizes[name] >= ROLL:
            self.sync()
            if self.stream is not None:
                self.stream.close()
            name = f"archive-{len(self.sizes):04d}.warc.{self.form}"
            self.sizes[name] = self.captures[name] = 0
        self.stream = open(self.folder / name, "ab")  # noqa: SIM115 (stays open from append to append)
        said = f"{self.name}-{sorted(self.sizes).index(name):04d}.warc.{self.form}"
        self.info = warcinfo_id(self.about, date=date, filename=said)
        self._write(name, warcinfo(self.about, date=date, filename=said, form=self.form))
        return name

    def _write(self, name: str, data: bytes) -> None:
        assert self.stream is not None
        self.stream.write(data)
        self.sizes[name] += len(data)
        self.changed.add(name)

    def sync(self) -> None:
        """Bring what was appended to disk."""
        if self.stream is not None and self.changed:
            self.stream.flush()
            os.fsync(self.stream.fileno())

    def news(self) -> list[tuple[str, int, int]]:
        """(name, bytes, captures) of the files that grew since the last call."""
        found = [(name, self.sizes[name], self.captures[name]) for name in sorted(self.changed)]
        self.changed.clear()
        return found

    def close(self) -> None:
        if self.stream is not None:
            self.stream.close()


def now() -> str:
    """Now, as WARC writes it (UTC)."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def request_bytes(request: Request) -> bytes:
    """The request as it was sent."""
    _, _, place, way = request.url.split("/", 3)  # canonical: scheme, host and path are always there
    lines = [f"{request.method} /{way} HTTP/1.1", f"Host: {place}", *_lines(request.headers)]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1", "replace")


def response_bytes(answer: Response) -> bytes:
    """Status line, headers and body as they came, but for the chunks of a chunked body: those are joined.

    The header that spoke of them is renamed, as Common Crawl does, so that nobody looks for chunks again.
    """
    headers = tuple(
        (f"X-Crawler-{name}" if name.lower() == "transfer-encoding" else name, value) for name, value in answer.headers
    )
    lines = [f"HTTP/1.1 {answer.status} {answer.reason or _phrase(answer.status)}".rstrip(), *_lines(headers)]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1", "replace") + answer.body


def answer_of(url: str, record: bytes) -> Response:
    """A response record of `response_bytes` as the answer it was; what was chunked says so under its new name."""
    told, _, block = record.partition(b"\r\n\r\n")
    fields = dict(line.lower().split(b": ", 1) for line in told.split(b"\r\n")[1:])
    head, _, body = block[: int(fields[b"content-length"])].partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    headers = tuple((name, value) for name, _, value in (line.partition(": ") for line in lines))
    return Response(url, int(first.split(" ", 2)[1]), headers, body)


def _lines(headers: Headers) -> list[str]:
    return [f"{name}: {value}" for name, value in headers]


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return ""
