"""The real documentation site of the labelled data, over real HTTP on loopback: the manuals of three Apache versions.

    with serve(data / "site-httpd") as address:             # "127.0.0.1:40123"
        wire_table = {f"{HOST}:80": address}                # URLs are http://httpd.example/docs/2.4/ ...

    python tests/real_site.py ../shared/data/site-httpd     # prints the address, serves until it is stopped

It answers as the folder's README says: each URL of `crawl-truth` with its file, content type and language, each of
`redirects` with 301 and the location as recorded (a path), all else with 404, robots.txt and every query string
included. All files lie in memory (46 MiB, about half a second to load); several URLs share one file's bytes. The Host
header is ignored. Refuses a folder that lacks one of the three files.
"""

import io
import json
import socketserver
import sys
import tarfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any, NamedTuple

import zstandard

HOST = "httpd.example"
SEEDS = tuple(f"http://{HOST}/docs/{version}/" for version in ("2.0", "2.2", "2.4"))
WINDOW = 2**27  # the files are compressed with a window of 128 MiB; zstandard's own limit is smaller


class Answer(NamedTuple):
    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes = b""


MISSING = Answer(404, (("Content-Type", "text/plain; charset=utf-8"),), b"Not Found\n")


def _unpacked(path: Path) -> bytes:
    try:
        packed = path.read_bytes()
    except FileNotFoundError:
        raise ValueError(f"{path} does not exist; give the folder site-httpd of the labelled data") from None
    return zstandard.ZstdDecompressor(max_window_size=WINDOW).stream_reader(packed).read()


def records(path: Path) -> list[dict[str, Any]]:
    """The rows of a .jsonl.zst file, such as crawl-truth: url (a path), depth, file, content_type, content_language."""
    return [json.loads(line) for line in _unpacked(path).split(b"\n") if line]


def _files(path: Path) -> dict[str, bytes]:
    with tarfile.open(fileobj=io.BytesIO(_unpacked(path))) as archive:
        opened = ((member.name, archive.extractfile(member)) for member in archive if member.isfile())
        return {name: file.read() for name, file in opened if file is not None}


def site(folder: Path) -> dict[str, Answer]:
    """Path -> answer, for every path that is not 404."""
    files = _files(folder / "site.tar.zst")
    pages = {
        row["url"]: Answer(
            200,
            (("Content-Type", row["content_type"]), *_language(row)),
            files[row["file"]],
        )
        for row in records(folder / "crawl-truth.jsonl.zst")
    }
    moved = {
        row["url"]: Answer(301, (("Location", row["location"]),)) for row in records(folder / "redirects.jsonl.zst")
    }
    return pages | moved


def _language(row: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    return (("Content-Language", row["content_language"]),) if row.get("content_language") else ()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128
    answers: Mapping[str, Answer]

    def server_bind(self) -> None:
        """As TCPServer binds: HTTPServer asks the resolver for a name of the machine, which may take seconds."""
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = "localhost", self.server_address[1]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # Headers and body leave in two writes; Nagle would hold the second back until the first is acknowledged (40 ms).
    disable_nagle_algorithm = True
    server: _Server

    def do_GET(self) -> None:
        answer = self.server.answers.get(self.path, MISSING)
        self.send_response(answer.status)
        for name, value in answer.headers:
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(answer.body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(answer.body)

    do_HEAD = do_GET

    def log_message(self, *_: object) -> None:
        """Quiet."""

    def handle(self) -> None:
        """A crawler that is killed in the middle of an answer is no error of the site."""
        with suppress(ConnectionError):
            super().handle()


@contextmanager
def serve(folder: str | Path) -> Iterator[str]:
    """Serves the site in `folder` until the block ends; gives "127.0.0.1:PORT". ValueError where files are missing."""
    answers = site(Path(folder))
    with _Server(("127.0.0.1", 0), _Handler) as server:
        server.answers = answers
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        try:
            yield f"127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def main(arguments: list[str]) -> int:
    """Exit code 2 and one sentence for a wrong folder; else serves until interrupted."""
    if len(arguments) != 1:
        print(f"{len(arguments)} arguments given; usage: python tests/real_site.py FOLDER", file=sys.stderr)
        return 2
    try:
        with serve(arguments[0]) as address, suppress(KeyboardInterrupt):
            print(address, flush=True)
            while True:
                time.sleep(3600)
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
