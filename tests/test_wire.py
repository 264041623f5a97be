"""The door to the web: bytes as they were sent, caps, deadlines, and no way to an address nobody allowed."""

import asyncio
import gzip
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
from aiohttp.abc import AbstractResolver

from tundish.cluster.wire import Request, Response, Toy, Unfetched, Web, free_port

Answer = Callable[[bytes, asyncio.StreamWriter], Awaitable[None]]
HOST = "heron.example"
PACKED = gzip.compress(b"the tide comes in twice a day\n" * 20, mtime=0)


def plain(body: bytes, *headers: str, status: str = "200 OK", length: int | None = None) -> bytes:
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body) if length is None else length}", *headers, "", ""]
    return "\r\n".join(lines).encode() + body


ANSWERS = {
    "/": plain(b"hello", "Set-Cookie: a=b", "X-Odd: one", "X-Odd: two"),
    "/gzip": plain(PACKED, "Content-Encoding: gzip"),
    "/moved": plain(b"", "Location: /", status="301 Moved Permanently"),
    "/chunked": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n",
    "/large": plain(b"x" * 1_000_000),
    "/exact": plain(b"x" * 1000),
    "/liar": plain(b"short", length=5000),
    "/garbage": b"\x00\x01\x02 this is not HTTP\r\n\r\n",
    "/many": plain(b"", *(f"X-{n}: {'y' * 100}" for n in range(2000))),
}


@asynccontextmanager
async def server(seen: list[bytes] | None = None) -> AsyncIterator[int]:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while request := await reader.readuntil(b"\r\n\r\n"):
                if seen is not None:
                    seen.append(request)
                path = request.split(b" ")[1].decode()
                if path == "/drip":
                    writer.write(plain(b"", length=10_000))
                    for _ in range(200):
                        writer.write(b"x")
                        await writer.drain()
                        await asyncio.sleep(0.05)
                    return
                writer.write(ANSWERS[path])
                await writer.drain()
                if path in ("/liar", "/garbage"):
                    return
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    running = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield running.sockets[0].getsockname()[1]
    finally:
        running.close()


def asked(path: str, *, cap: int = 1 << 20, seen: list[bytes] | None = None, **settings: float) -> Response:
    async def once() -> Response:
        async with server(seen) as port:
            web = Web({f"{HOST}:80": f"127.0.0.1:{port}"}, agent="tundish-test/1", **settings)
            try:
                return await web.fetch(Request(f"http://{HOST}{path}"), cap=cap)
            finally:
                await web.close()

    return asyncio.run(once())


def refused(url: str, table: dict[str, str] | None = None) -> str:
    async def once() -> str:
        web = Web(table or {}, connect=2.0)
        try:
            with pytest.raises(Unfetched) as error:
                await web.fetch(Request(url), cap=100)
            return error.value.kind
        finally:
            await web.close()

    return asyncio.run(once())


def test_an_answer_comes_as_it_was_sent() -> None:
    seen: list[bytes] = []
    answer = asked("/", seen=seen)
    assert (answer.status, answer.reason, answer.body, answer.truncated) == (200, "OK", b"hello", None)
    assert answer.headers[1:] == (("Set-Cookie", "a=b"), ("X-Odd", "one"), ("X-Odd", "two"))
    assert answer.address == "127.0.0.1"
    assert answer.header("x-odd") == "one"
    assert seen == [b"GET / HTTP/1.1\r\nHost: heron.example\r\nUser-Agent: tundish-test/1\r\n\r\n"]


def test_content_coding_is_kept_and_chunks_are_joined() -> None:
    assert asked("/gzip").body == PACKED
    assert asked("/chunked").body == b"hello world"


def test_a_redirect_is_an_answer_like_others() -> None:
    seen: list[bytes] = []
    answer = asked("/moved", seen=seen)
    assert (answer.status, answer.header("location"), len(seen)) == (301, "/", 1)


def test_no_cookie_comes_back() -> None:
    seen: list[bytes] = []

    async def twice() -> None:
        async with server(seen) as port:
            web = Web({f"{HOST}:80": f"127.0.0.1:{port}"})
            await web.fetch(Request(f"http://{HOST}/"), cap=10)
            await web.fetch(Request(f"http://{HOST}/"), cap=10)
            await web.close()

    asyncio.run(twice())
    assert len(seen) == 2
    assert b"ookie" not in seen[1]


def test_a_body_over_the_cap_is_cut_and_said_so() -> None:
    answer = asked("/large", cap=70_000)
    assert (len(answer.body), answer.truncated) == (70_000, "length")
    assert asked("/exact", cap=1000).truncated is None
    assert asked("/exact", cap=999).truncated == "length"


def test_a_body_that_drips_ends_before_the_deadline() -> None:
    started = time.monotonic()
    with pytest.raises(Unfetched, match="a body has to come at 1024 a second") as caught:
        asked("/drip", deadline=60.0, grace=0.3)
    assert caught.value.kind == "timeout"
    assert time.monotonic() - started < 30  # it would take the deadline


def test_a_dripping_body_ends_with_the_deadline() -> None:
    with pytest.raises(Unfetched) as error:
        asked("/drip", deadline=0.4)
    assert error.value.kind == "timeout"
    assert error.value.transient


@pytest.mark.parametrize(("path", "kind"), [("/liar", "disconnected"), ("/garbage", "protocol"), ("/many", "protocol")])
def test_broken_answers_have_a_kind(path: str, kind: str) -> None:
    with pytest.raises(Unfetched) as error:
        asked(path)
    assert error.value.kind == kind


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1/",
        "http://localhost/",
        "http://[::1]/",
        "http://[::ffff:127.0.0.1]/",
        "http://169.254.169.254/latest/meta-data",
        "http://10.0.0.1/",
        "http://0.0.0.0/",
        "http://192.0.2.7:22/",
        "http://93.184.216.34:25/",
    ],
)
def test_addresses_nobody_allowed_are_refused(url: str) -> None:
    assert refused(url) == "forbidden_address"


def test_the_table_allows_one_name_and_not_its_address() -> None:
    async def once() -> list[str]:
        async with server() as port:
            web = Web({f"{HOST}:80": f"127.0.0.1:{port}"})
            assert (await web.fetch(Request(f"http://{HOST}/"), cap=10)).status == 200
            kinds = []
            for url in (f"http://127.0.0.1:{port}/", "http://127.0.0.1/", f"http://{HOST}:8080/"):
                with pytest.raises(Unfetched) as error:
                    await web.fetch(Request(url), cap=10)
                kinds.append(error.value.kind)
            await web.close()
            return kinds

    kinds = asyncio.run(once())
    assert kinds[:2] == ["forbidden_address", "forbidden_address"]
    assert kinds[2] in ("dns", "timeout")  # an unknown name: no way leads to it


def test_an_address_literal_may_be_allowed_by_name() -> None:
    async def once() -> int:
        async with server() as port:
            web = Web({f"127.0.0.1:{port}": f"127.0.0.1:{port}"})
            try:
                return (await web.fetch(Request(f"http://127.0.0.1:{port}/"), cap=10)).status
            finally:
                await web.close()

    assert asyncio.run(once()) == 200


class Rebinding(AbstractResolver):
    """A name server in an attacker's hand: it leads an innocent name to private addresses."""

    async def resolve(self, host: str, port: int = 0, family: int = socket.AF_INET) -> list[dict[str, object]]:
        found = {"hostname": host, "port": 80, "family": socket.AF_INET, "proto": 0, "flags": 0}
        return [found | {"host": "127.0.0.1"}, found | {"host": "10.0.0.8"}]

    async def close(self) -> None:
        """Nothing to let go of."""


def test_a_name_bound_to_a_private_address_is_refused_when_connecting() -> None:
    async def once() -> str:
        web = Web(resolver=Rebinding)
        with pytest.raises(Unfetched) as error:
            await web.fetch(Request("http://innocent.example/"), cap=10)
        await web.close()
        return error.value.kind

    assert asyncio.run(once()) == "forbidden_address"


def test_nobody_listening_is_refused_and_other_schemes_are_no_urls() -> None:
    assert refused(f"http://{HOST}/", {f"{HOST}:80": f"127.0.0.1:{free_port()}"}) == "refused"
    assert refused("ftp://heron.example/") == "bad_url"
    assert refused("http://user:secret@heron.example/") == "bad_url"


def test_the_toy_answers_like_a_web() -> None:
    def down(request: Request) -> Response:
        raise Unfetched("refused", request.url)

    toy = Toy({"http://a.example/": Response("", 200, (), b"0123456789"), "http://b.example/": down})

    async def ask() -> None:
        assert (await toy.fetch(Request("http://a.example/"), cap=4)).truncated == "length"
        assert (await toy.fetch(Request("http://c.example/"), cap=4)).status == 404
        with pytest.raises(Unfetched):
            await toy.fetch(Request("http://b.example/"), cap=4)

    asyncio.run(ask())
    assert [url for url, _ in toy.asked] == ["http://a.example/", "http://c.example/", "http://b.example/"]
