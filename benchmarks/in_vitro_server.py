"""Serves a `World` over loopback, HTTP/1.1 and TLS, from one process or several.

    with served(World(hosts=2000)) as there:            # its own processes; there.world knows the ports
        ... Web(there.world.table) ...                  # SSL_CERT_FILE=there.authority for the TLS part
    there.told                                          # requests, connections, CPU-seconds; after the block

    python benchmarks/in_vitro_server.py [--size 80000] [--tls 1]      how fast it is, by a bare client

A raw protocol on an event loop: some 35 us of CPU a page of 16 KB with keep-alive, measured too, and a crawler that
comes near to it would have to be given more processes. Certificates: an authority made at the start, one certificate a
host, by SNI. Nothing is kept of what was asked, so a server may be killed and begun again.
"""

import argparse
import asyncio
import gzip
import ipaddress
import json
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime, timedelta
from functools import cache
from http import HTTPStatus
from pathlib import Path
from typing import Any

from in_vitro import PAUSE, Answer, World

DRIP = 0.5  # seconds between two bytes
CLIENTS = 64


@cache
def bomb() -> bytes:
    """A GiB in a MiB: sixteen gzip members of 64 MiB of zeros."""
    return 16 * gzip.compress(bytes(64 << 20), 9)


@dataclass
class Counts:
    requests: int = 0
    connections: int = 0
    began: float = 0.0  # CPU-seconds before the first request


def head_of(answer: Answer, length: int) -> bytes:
    """Status line and headers."""
    lines = [f"HTTP/1.1 {answer.status} {HTTPStatus(answer.status).phrase}"]
    lines += [f"{name}: {value}" for name, value in answer.headers]
    return ("\r\n".join([*lines, f"Content-Length: {length}", "", ""])).encode()


class Site(asyncio.Protocol):
    """One connection: requests in, answers out, in order."""

    def __init__(self, world: World, counts: Counts, loop: asyncio.AbstractEventLoop) -> None:
        self.world, self.counts, self.loop, self.buffer = world, counts, loop, b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: Any = transport
        self.counts.connections += 1

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        while (end := self.buffer.find(b"\r\n\r\n")) >= 0:
            head, self.buffer = self.buffer[:end], self.buffer[end + 4 :]
            self.counts.requests += 1
            self._answer(self.world.answer(*asked(head)))

    def _answer(self, answer: Answer) -> None:
        if self.transport.is_closing():
            return  # who asked is gone: killed while a slow host was thinking
        if not answer.how:
            self.transport.write(head_of(answer, len(answer.body)) + answer.body)
        elif answer.how == "slow":
            self.loop.call_later(PAUSE, self._answer, answer._replace(how=""))
        else:
            getattr(self, f"_{answer.how}")(answer)

    # broken in one way each

    def _reset(self, _: Answer) -> None:
        self.transport.abort()

    def _garbage(self, _: Answer) -> None:
        self.transport.write(b"\x00\x01\x02 this is not HTTP\r\n\r\n")
        self.transport.close()

    def _short(self, answer: Answer) -> None:
        self.transport.write(head_of(answer, 100_000) + b"less than was said")
        self.transport.close()

    def _silent(self, _: Answer) -> None:
        """Nothing, ever."""

    def _headers(self, _: Answer) -> None:
        self.transport.write(b"HTTP/1.1 200 OK\r\n")
        self._again(b"X-More: " + b"y" * 90 + b"\r\n", 0.001)

    def _drip(self, answer: Answer) -> None:
        self.transport.write(head_of(answer, 100_000))
        self._again(b"x", DRIP)

    def _again(self, piece: bytes, seconds: float) -> None:
        if not self.transport.is_closing():
            self.transport.write(piece)
            self.loop.call_later(seconds, self._again, piece, seconds)

    def _bomb(self, answer: Answer) -> None:
        answer = answer._replace(headers=(*answer.headers, ("Content-Encoding", "gzip")))
        self.transport.write(head_of(answer, len(bomb())) + bomb())


def asked(head: bytes) -> tuple[str, str]:
    """(host without port, path) of a request."""
    first, _, rest = head.partition(b"\r\n")
    path = first.split(b" ")[1].decode("latin-1")
    low = rest.lower()
    at = 0 if low.startswith(b"host:") else low.find(b"\r\nhost:") + 2
    host = rest[at + 5 :].split(b"\r\n", 1)[0].strip().decode("latin-1")
    return host.partition(":")[0], path


# certificates


def authority() -> tuple[Any, Any]:
    """(certificate, key) of an authority of one's own."""
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    return certificate("in vitro authority", key, None, key), key


def certificate(name: str, key: Any, issuer: Any, signer: Any) -> Any:
    """One for `name`, signed by `signer`; its own issuer, and an authority, where `issuer` is None."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes
    from cryptography.x509.oid import NameOID

    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now()
    made = x509.CertificateBuilder(
        subject_name=subject,
        issuer_name=issuer.subject if issuer else subject,
        public_key=key.public_key(),
        serial_number=x509.random_serial_number(),
        not_valid_before=now - timedelta(days=2),
        not_valid_after=now + timedelta(days=30),
    ).add_extension(x509.BasicConstraints(ca=issuer is None, path_length=None), critical=True)
    names: list[x509.GeneralName] = [x509.DNSName(name)] if issuer else []
    names += [x509.IPAddress(ipaddress.ip_address("127.0.0.1"))] if issuer else []
    if names:
        made = made.add_extension(x509.SubjectAlternativeName(names), critical=False)
    return made.sign(signer, hashes.SHA256())


def contexts(world: World, ca: tuple[Any, Any], folder: Path) -> ssl.SSLContext:
    """A context that hands every host its own certificate by SNI; `untrusted` ones get another's."""
    from cryptography.hazmat.primitives import serialization as out
    from cryptography.hazmat.primitives.asymmetric import ec

    root, signer = ca
    key = ec.generate_private_key(ec.SECP256R1())
    plain = key.private_bytes(out.Encoding.PEM, out.PrivateFormat.PKCS8, out.NoEncryption())

    @cache
    def of(name: str) -> ssl.SSLContext:
        known = world.by_name.get(name)
        shown = name if known is None or world.all[known].kind != "untrusted" else "elsewhere.example"
        chain = folder / "host.pem"
        chain.write_bytes(plain + certificate(shown, key, root, signer).public_bytes(out.Encoding.PEM))
        made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        made.load_cert_chain(chain)
        return made

    def chosen(connection: Any, name: str | None, _: ssl.SSLContext) -> None:
        connection.context = of(name or "nobody.example")

    first = of("nobody.example")
    first.sni_callback = chosen
    return first


# processes


@dataclass
class There:
    """A running web. `told`: what its processes said at their end."""

    world: World
    authority: str
    told: dict[str, float] = field(default_factory=dict)


@contextmanager
def served(world: World, processes: int = 1) -> Iterator[There]:
    """Run it until the block ends. Its ports, when taken, give way to free ones."""
    from cryptography.hazmat.primitives import serialization as out

    world = replace(world, port=open_port(world.port), tls_port=open_port(world.tls_port))
    with tempfile.TemporaryDirectory() as name:
        certificate_, key = authority()
        pem, secret = Path(name) / "authority.pem", Path(name) / "key.pem"
        pem.write_bytes(certificate_.public_bytes(out.Encoding.PEM))
        secret.write_bytes(key.private_bytes(out.Encoding.PEM, out.PrivateFormat.PKCS8, out.NoEncryption()))
        words = [sys.executable, __file__, "--serve", json.dumps(asdict(world)), "--folder", name]
        running = [subprocess.Popen(words, stdin=-1, stdout=-1, text=True) for _ in range(processes)]
        there = There(world, str(pem))
        try:
            for one in running:
                assert one.stdout is not None
                if one.stdout.readline() != "serving\n":
                    raise RuntimeError("the in-vitro web did not begin; its error stands above")
            yield there
        finally:
            for one in running:
                last, _ = one.communicate()
                for key_, value in json.loads(last or "{}").items():
                    there.told[key_] = there.told.get(key_, 0) + value


def open_port(wanted: int) -> int:
    """`wanted` if nobody has it, else a free one."""
    for port in (wanted, 0):
        with suppress(OSError), socket.socket() as one:
            one.bind(("127.0.0.1", port))
            return int(one.getsockname()[1])
    raise OSError("no port of the loopback address is free")


async def serve(world: World, folder: Path) -> Counts:
    """Serve until stdin ends: so it ends with whoever began it, whatever ended them."""
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    ca = (
        x509.load_pem_x509_certificate((folder / "authority.pem").read_bytes()),
        load_pem_private_key((folder / "key.pem").read_bytes(), None),
    )
    loop, counts, ended = asyncio.get_running_loop(), Counts(), asyncio.Event()
    with tempfile.TemporaryDirectory() as own:
        secure = contexts(world, ca, Path(own))
        make = lambda: Site(world, counts, loop)  # noqa: E731
        await loop.create_server(make, "127.0.0.1", world.port, reuse_port=True, backlog=1024)
        await loop.create_server(make, "127.0.0.1", world.tls_port, ssl=secure, reuse_port=True, backlog=1024)
        _ = world.filler, world.counts, world.roots
        counts.began = time.process_time()
        print("serving", flush=True)
        threading.Thread(target=lambda: (sys.stdin.read(), loop.call_soon_threadsafe(ended.set)), daemon=True).start()
        await ended.wait()
    return counts


# how fast it is


class Bare(asyncio.Protocol):
    """A client that does nothing with what it gets: one path after the other on one connection."""

    def __init__(self, asks: list[bytes], done: asyncio.Future[None]) -> None:
        self.asks, self.done, self.left, self.head = asks, done, 0, b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: Any = transport
        self._next()

    def _next(self) -> None:
        if self.asks:
            self.transport.write(self.asks.pop())
        elif not self.done.done():
            self.done.set_result(None)
            self.transport.close()

    def data_received(self, data: bytes) -> None:
        if not self.left:
            self.head += data
            end = self.head.find(b"\r\n\r\n")
            if end < 0:
                return
            length = int(self.head[:end].lower().partition(b"content-length:")[2].split(b"\r\n", 1)[0])
            self.left, data, self.head = length + 1, self.head[end + 4 :], b""
        self.left -= len(data)
        if self.left == 1:
            self.left = 0
            self._next()


async def pulled(world: World, pages: int, trusted: str, tls: bool) -> float:
    """Fetch so many pages over CLIENTS connections; seconds."""
    loop, start = asyncio.get_running_loop(), time.perf_counter()
    own = [at for at, host in enumerate(world.all) if host.kind == ("tls" if tls else "plain")]
    secure = ssl.create_default_context(cafile=trusted) if tls else None
    ends = []
    for n in range(CLIENTS):
        at, end = own[n % len(own)], loop.create_future()
        ask = f"GET /s1/page-1.html HTTP/1.1\r\nHost: {world.all[at].name}\r\n\r\n".encode()
        to = ("127.0.0.1", world.tls_port if tls else world.port)
        name = world.all[at].name if tls else None
        await loop.create_connection(
            lambda ask=ask, end=end: Bare([ask] * (pages // CLIENTS), end), *to, ssl=secure, server_hostname=name
        )
        ends.append(end)
    await asyncio.gather(*ends)
    return time.perf_counter() - start


def measured(size: int, pages: int, tls: bool) -> dict[str, float]:
    """Pages a second, and the CPU of the server and of the bare client, in milliseconds a page."""
    import uvloop

    with served(World(size=size, hosts=200, tls=0.5)) as there:
        before = time.process_time()
        seconds = uvloop.run(pulled(there.world, pages, there.authority, tls))
        spent = time.process_time() - before
    told = {"size": size, "tls": tls, "pages_per_second": round(there.told["requests"] / seconds)}
    return told | {"server_ms": 1e3 * there.told["cpu"] / there.told["requests"], "client_ms": 1e3 * spent / pages}


def main() -> None:
    parser = argparse.ArgumentParser(description="Serve an in-vitro web, or measure how fast it is served.")
    parser.add_argument("--serve", help="a World in JSON: serve it until stdin ends")
    parser.add_argument("--folder", type=Path, help="where authority.pem and key.pem lie")
    parser.add_argument("--size", type=int, default=16_000)
    parser.add_argument("--tls", type=int, default=0)
    parser.add_argument("--pages", type=int, default=40_000)
    given = parser.parse_args()
    if not given.serve:
        print(json.dumps(measured(given.size, given.pages, bool(given.tls))))
        return
    import uvloop

    counts = uvloop.run(serve(World(**json.loads(given.serve)), given.folder))
    spent = time.process_time() - counts.began
    print(json.dumps({"requests": counts.requests, "connections": counts.connections, "cpu": spent}))


if __name__ == "__main__":
    main()
