"""A web server of a test's own on loopback: it says whatever bytes it is told to, and remembers when it was asked what.

    def say(asked):                                   # host, path and head of a request
        return answer(200, b"<p>hello") if asked.path == "/" else NOTHING

    with served(say) as site:
        table = {"heron.example:80": site.address}
        ...
    [one.path for one in site.asked]

Raw on purpose: what `say` gives is sent as it is, so answers may be as broken as the test wants. Bytes leave the
connection open for the next request; an iterable of bytes and of pauses (floats, seconds) is sent piece by piece, the
connection closed after it. Runs in a thread with a loop of its own. Times are of the monotonic clock: `at` when a
request was whole, `answered` before the answer left, so that a gap between the two is never shown longer than it was.
"""

import asyncio
import contextlib
import ssl
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from http import HTTPStatus


@dataclass
class Asked:
    """One request. `head`: its bytes up to the empty line."""

    host: str
    path: str
    head: bytes
    at: float
    answered: float = 0.0


Said = bytes | Iterable[bytes | float]
Say = Callable[[Asked], Said]


def answer(status: int, body: bytes = b"", *headers: str, mime: str = "text/html; charset=utf-8") -> bytes:
    """A well-formed answer."""
    lines = [f"HTTP/1.1 {status} {HTTPStatus(status).phrase}", f"Content-Type: {mime}", *headers]
    return "\r\n".join([*lines, f"Content-Length: {len(body)}", "", ""]).encode("latin-1") + body


NOTHING = answer(404, b"nothing", mime="text/plain")


@dataclass
class Site:
    """`address`: where it listens, "127.0.0.1:40123". `asked`: every request, in order."""

    say: Say
    address: str = ""
    asked: list[Asked] = field(default_factory=list)

    def paths(self) -> list[str]:
        return [one.path for one in self.asked]

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError, ssl.SSLError):
            while await self._one(await reader.readuntil(b"\r\n\r\n"), writer):
                pass
        with contextlib.suppress(ConnectionError, ssl.SSLError):
            writer.close()

    async def _one(self, head: bytes, writer: asyncio.StreamWriter) -> bool:
        """Answer one request; whether the connection stays open."""
        path = head.split(b" ")[1].decode("latin-1")
        host = next(line[5:].strip() for line in head.split(b"\r\n") if line.lower().startswith(b"host:"))
        one = Asked(host.decode("latin-1").partition(":")[0], path, head, time.monotonic())
        self.asked.append(one)
        said = self.say(one)
        one.answered = time.monotonic()
        for piece in (said,) if isinstance(said, bytes) else said:
            if isinstance(piece, float):
                await asyncio.sleep(piece)
                one.answered = time.monotonic()
            else:
                writer.write(piece)
                await writer.drain()
        return isinstance(said, bytes)


@contextlib.contextmanager
def served(say: Say, secure: ssl.SSLContext | None = None) -> Iterator[Site]:
    """Serve until the block ends."""
    site, loop, ready = Site(say), asyncio.new_event_loop(), threading.Event()

    async def begin() -> asyncio.Server:
        return await asyncio.start_server(site.serve, "127.0.0.1", 0, ssl=secure, backlog=512)

    def live() -> None:
        asyncio.set_event_loop(loop)
        server = loop.run_until_complete(begin())
        site.address = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        ready.set()
        loop.run_forever()
        server.close()
        for task in asyncio.all_tasks(loop):
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError, Exception):
                loop.run_until_complete(task)
        loop.close()

    thread = threading.Thread(target=live, daemon=True)
    thread.start()
    assert ready.wait(30)
    try:
        yield site
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(30)
