"""The only door to the web, and the only file that opens sockets.

    response = await Web(table, agent="…").fetch(Request("http://heron.example/", ()), cap=2 << 20)

Promises: the bytes as they were sent (no content coding undone, no redirect followed, no cookie kept, no proxy taken
from the environment); at most `cap` bytes of body in memory; an answer or an `Unfetched` within the deadline (sooner
where a body only drips); the address actually connected to is a public one, looked at on every attempt, so that no name
can be bound to another address behind our back. Hosts allowed by name lead to the address their table entry gives,
whatever it is.
Costs about 0.3 ms of CPU a page over plain HTTP and 1.3 ms over fresh TLS. Refuses other schemes, and other ports than
80, 443, 8080 and 8443 where the host is not allowed by name. `Toy` is its twin for tests: a dictionary.
"""

import asyncio
import contextlib
import ipaddress
import socket
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import aiohttp
import yarl

PORTS = frozenset({80, 443, 8080, 8443})
DEADLINE, CONNECT = 60.0, 10.0  # seconds for a whole fetch, and for reaching the server
GRACE, LEAST_RATE = 10.0, 1024  # seconds after which a body has to have come at this many bytes a second
CHUNK = 1 << 16
TRANSIENT = frozenset({"timeout", "refused", "unreachable", "disconnected", "dns"})  # worth another try
# Not public, whatever the registries of this Python say: a service of Azure, 192.0.0.0/24 (Oracle's cloud has its
# metadata there), site-local (RFC 3879), documentation (RFC 9637) and segment routing (RFC 9602) addresses, and
# IPv4-compatible ones (RFC 4291, deprecated), which some systems connect to the IPv4 address inside.
INNER = tuple(
    map(ipaddress.ip_network, ("168.63.129.16/32", "192.0.0.0/24", "fec0::/10", "3fff::/20", "5f00::/16", "::/96"))
)
NAT64 = ipaddress.ip_network("64:ff9b::/96")  # RFC 6052: an IPv4 address in the last four bytes

Headers = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Request:
    """What is asked. `url` is absolute and canonical; `Host` is added by the wire."""

    url: str
    headers: Headers = ()
    method: str = "GET"


@dataclass(frozen=True)
class Response:
    """What was answered: names, order and bytes as they came; chunks of a chunked body are joined."""

    url: str
    status: int
    headers: Headers = ()
    body: bytes = b""
    address: str = ""  # the address connected to
    truncated: str | None = None  # "length" when the body went on after `cap` bytes
    seconds: float = 0.0
    reason: str = ""

    def header(self, name: str) -> str | None:
        """The first value of a header, whatever its case."""
        return next((value for key, value in self.headers if key.lower() == name), None)


class Unfetched(Exception):
    """Kinds: timeout, refused, unreachable, disconnected, dns, tls, protocol, forbidden_address, bad_url."""

    def __init__(self, kind: str, detail: str = "") -> None:
        super().__init__(kind, detail)
        self.kind, self.detail = kind, detail

    @property
    def transient(self) -> bool:
        return self.kind in TRANSIENT


class Wire(Protocol):
    """Request -> Response. Any number of fetches may be under way at once."""

    async def fetch(self, request: Request, *, cap: int) -> Response:
        """The answer with at most `cap` bytes of body; raises `Unfetched` when there is none."""

    async def close(self) -> None: ...


class Forbidden(OSError):
    """An address nobody may be led to by a name or a link."""


class _Answer(aiohttp.ClientResponse):
    """Remembers who answered: a short answer gives its connection back before anyone can ask."""

    address: str = ""

    async def start(self, connection: Any) -> "aiohttp.ClientResponse":
        peer = connection.transport.get_extra_info("peername") if connection.transport else None
        self.address = str(peer[0]) if peer else ""
        return await super().start(connection)


@dataclass
class Web:
    """The web. `table`: "host:port" -> "address:port" for the hosts allowed by name."""

    table: Mapping[str, str] = field(default_factory=dict)
    agent: str = ""
    deadline: float = DEADLINE
    connect: float = CONNECT
    grace: float = GRACE
    resolver: Callable[[], Any] | None = None  # who looks names up; aiohttp's own when None
    _session: aiohttp.ClientSession | None = field(default=None, init=False, repr=False)
    _named: aiohttp.ClientSession | None = field(default=None, init=False, repr=False)

    async def fetch(self, request: Request, *, cap: int) -> Response:
        started = time.monotonic()
        try:
            url = self._checked(request.url)
            to = self.table.get(f"{url.raw_host}:{url.port}")
            async with self._asked(request, url, to) as answer:
                body, truncated = await _body(answer, cap, self.grace)
                if truncated:
                    answer.close()  # what is still on its way is not wanted
        except (aiohttp.ClientError, OSError, ValueError, TimeoutError) as error:
            raise Unfetched(_kind(error), str(error) or type(error).__name__) from None
        headers = tuple((k.decode("latin-1"), v.decode("latin-1")) for k, v in answer.raw_headers)
        seconds = time.monotonic() - started
        address = getattr(answer, "address", "")
        return Response(request.url, answer.status, headers, body, address, truncated, seconds, answer.reason or "")

    def _checked(self, text: str) -> yarl.URL:
        url = yarl.URL(text, encoded=True)  # spelt by one parser already: not to be read in two ways
        if url.scheme not in ("http", "https") or not url.raw_host or url.raw_user or url.raw_password:
            raise ValueError(f"{text!r} is no http or https URL with a host; ask for such a one")
        if f"{url.raw_host}:{url.port}" not in self.table and url.port not in PORTS:
            raise Forbidden(f"port {url.port} is not one of {sorted(PORTS)}")
        return url

    def _asked(self, request: Request, url: yarl.URL, to: str | None) -> Any:
        headers = [*request.headers]
        if self.agent and not any(name.lower() == "user-agent" for name, _ in headers):
            headers.append(("User-Agent", self.agent))
        more: dict[str, Any] = {}
        if to is not None:
            more["server_hostname"] = url.raw_host if url.scheme == "https" else None
            headers.insert(0, ("Host", url.raw_authority))
            url = yarl.URL(f"{url.scheme}://{to}{url.raw_path_qs}", encoded=True)
        return self._open(named=to is not None).request(
            request.method, url, headers=headers, allow_redirects=False, **more
        )

    def _open(self, *, named: bool) -> aiohttp.ClientSession:
        """The session, opened in the loop of the first fetch; hosts allowed by name have one without the guard."""
        found = self._named if named else self._session
        if found is None:
            guard = None if named else public_socket
            resolver = self.resolver() if self.resolver else None
            found = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0, socket_factory=guard, resolver=resolver),
                cookie_jar=aiohttp.DummyCookieJar(),
                timeout=aiohttp.ClientTimeout(total=self.deadline, connect=self.connect, sock_connect=self.connect),
                skip_auto_headers=("User-Agent", "Accept", "Accept-Encoding", "Content-Type"),
                auto_decompress=False,
                trust_env=False,
                response_class=_Answer,
            )
            # Its own second try of a GET comes at once and unseen; a connection that ended is ours to wait for.
            found._retry_connection = False
            if named:
                self._named = found
            else:
                self._session = found
        return found

    async def close(self) -> None:
        for session in (self._session, self._named):
            if session is not None:
                await session.close()
        self._session = self._named = None


async def _body(answer: aiohttp.ClientResponse, cap: int, grace: float) -> tuple[bytes, str | None]:
    found, started = bytearray(), time.monotonic()
    async for chunk in answer.content.iter_any():
        found += chunk
        if len(found) > cap:
            return bytes(found[:cap]), "length"
        if (seconds := time.monotonic() - started) > grace and len(found) < LEAST_RATE * seconds:
            raise TimeoutError(f"{len(found)} bytes in {seconds:.0f} s; a body has to come at {LEAST_RATE} a second")
    return bytes(found), None


def public_socket(info: Any) -> socket.socket:
    """A socket for an address that is about to be connected to; refuses what is not public. Asked on every attempt."""
    family, kind, protocol, _, address = info
    if not public(address[0]):
        raise Forbidden(f"address {address[0]} is not a public one")
    if address[1] not in PORTS:
        raise Forbidden(f"port {address[1]} is not one of {sorted(PORTS)}")
    return socket.socket(family=family, type=kind, proto=protocol)


def public(address: str) -> bool:
    """Whether an address is globally reachable (IANA special-purpose registries, `INNER`), and any IPv4 address inside.

    >>> public("93.184.216.34"), public("127.0.0.1"), public("169.254.169.254"), public("::ffff:10.0.0.1")
    (True, False, False, False)
    >>> public("192.0.0.192"), public("168.63.129.16"), public("fec0::1"), public("::7f00:1")
    (False, False, False, False)
    >>> public("64:ff9b::7f00:1"), public("2002:7f00:1::1"), public("fe80::1%eth0"), public("224.0.0.1")
    (False, False, False, False)
    """
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    if isinstance(found, ipaddress.IPv6Address):
        inner = found.ipv4_mapped or found.sixtofour or (found.teredo or (None, None))[1]
        if found in NAT64:
            inner = ipaddress.IPv4Address(found.packed[-4:])
        if inner is not None:
            return _global(inner)
    return _global(found)


def _global(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    if any(address in one for one in INNER if one.version == address.version):
        return False
    return address.is_global and not address.is_multicast and not address.is_reserved


def _kind(error: BaseException) -> str:
    """The one word for an error; the causes are asked before the families they belong to."""
    inner = getattr(error, "os_error", None) or error
    if isinstance(inner, Forbidden) or "is not a public one" in str(inner):  # several attempts come as one text
        return "forbidden_address"
    if isinstance(error, aiohttp.ClientConnectorDNSError | socket.gaierror):
        return "dns"
    if isinstance(error, aiohttp.ClientSSLError):
        return "tls"
    if isinstance(error, TimeoutError | asyncio.TimeoutError):
        return "timeout"
    if isinstance(inner, ConnectionRefusedError):
        return "refused"
    if isinstance(error, aiohttp.ClientConnectorError):
        return "unreachable"
    if isinstance(error, aiohttp.ServerDisconnectedError | aiohttp.ClientPayloadError | ConnectionError):
        return "disconnected"
    if isinstance(error, aiohttp.InvalidURL) or (isinstance(error, ValueError) and not _is_answer(error)):
        return "bad_url"
    return "protocol" if _is_answer(error) else "disconnected"


def _is_answer(error: BaseException) -> bool:
    return isinstance(error, aiohttp.ClientResponseError | aiohttp.http_exceptions.HttpProcessingError)


Page = Response | Callable[[Request], Response]


@dataclass
class Toy:
    """A web in a dictionary: URL -> answer, or a function that gives one (it may raise `Unfetched`); 404 elsewhere.

    `asked` keeps (URL, time on the monotonic clock) of every request in order; an answer takes `seconds`.
    """

    pages: Mapping[str, Page]
    seconds: float = 0.0
    asked: list[tuple[str, float]] = field(default_factory=list)

    async def fetch(self, request: Request, *, cap: int) -> Response:
        self.asked.append((request.url, time.monotonic()))
        await asyncio.sleep(self.seconds)
        found = self.pages.get(request.url) or Response(request.url, 404, (("Content-Type", "text/plain"),), b"nothing")
        answer = found if isinstance(found, Response) else found(request)
        cut = len(answer.body) > cap
        return Response(
            request.url,
            answer.status,
            answer.headers,
            answer.body[:cap],
            answer.address or "192.0.2.1",
            "length" if cut else answer.truncated,
            self.seconds,
            answer.reason,
        )

    async def close(self) -> None:
        """Nothing to let go of."""


def answers(address: str, seconds: float = 5.0) -> bool:
    """Whether anybody listens at `host:port`."""
    host, _, port = address.rpartition(":")
    try:
        with socket.create_connection((host.strip("[]"), int(port)), timeout=seconds):
            return True
    except (OSError, ValueError):
        return False


def free_port() -> int:
    """A TCP port of the loopback address nobody listened to a moment ago."""
    with contextlib.closing(socket.socket(socket.AF_INET, socket.SOCK_STREAM)) as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])
