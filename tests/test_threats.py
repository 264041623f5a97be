"""What a hostile server does to a crawl: it costs itself, and nobody else (rows of the threat list, DESIGN section 8).

Here: bytes on a wire, and where a link may lead. Real servers behind the real `Web`. No test looks at how long
something takes; a hang is ended, and failed, by `ends`.
"""

import socket
import ssl
import subprocess
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from aiohttp.abc import AbstractResolver

from tests.site_server import NOTHING, Asked, Said, answer, served
from tests.test_crawl import FREE, at, crawl, fate, moved, page, run, stored
from tests.threats import HOST, MiB, body, ends, kept, over, through
from tundish.cluster.local import Local
from tundish.cluster.wire import Web
from tundish.stages.stage import Place

__all__ = ["ends"]  # the fixture of all tests here
pytestmark = pytest.mark.usefixtures("ends")

# bytes on a wire


def forever(piece: bytes, before: bytes, pause: float) -> Iterator[bytes | float]:
    yield before
    while True:
        yield piece
        yield pause


def hostile(asked: Asked) -> Said:
    """One server, every way to be broken; `/fine` and `/` are not."""
    endless = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n"
    ways: dict[str, Callable[[], Said]] = {
        "/": lambda: answer(200, body(*BROKEN, "/fine")),
        "/fine": lambda: answer(200, body(text="Fine.")),
        "/drip": lambda: forever(b"x", answer(200, b"")[:-2].replace(b"Length: 0", b"Length: 9999") + b"\r\n", 0.05),
        "/silent": lambda: [5.0],
        "/headers": lambda: forever(b"X-More: " + b"y" * 100 + b"\r\n", endless, 0.0),
        "/long-header": lambda: [endless + b"X-Long: " + b"y" * (10 * MiB) + b"\r\n\r\n"],
        "/short": lambda: [answer(200, b"x" * 5000)[:-2000]],
        "/negative": lambda: [endless + b"Content-Length: -5\r\n\r\nhello"],
        "/two-lengths": lambda: [endless + b"Content-Length: 5\r\nContent-Length: 500\r\n\r\nhello"],
        "/chunk": lambda: [endless + b"Transfer-Encoding: chunked\r\n\r\nFFFFFFFFFFFFFFFFF\r\nhello"],
        "/extension": lambda: forever(b"y" * 1000, endless + b"Transfer-Encoding: chunked\r\n\r\n5;", 0.0),
        "/continue": lambda: forever(b"HTTP/1.1 100 Continue\r\n\r\n", b"", 0.001),
        "/garbage": lambda: [b"\x00\x01\x02 this is not HTTP\r\n\r\n"],
        "/nothing": lambda: [],
        "/status": lambda: [b"HTTP/1.1 99999999999999999999 OK\r\n\r\n"],
        "/location": lambda: [b"HTTP/1.1 301 Moved\r\nLocation: /" + b"y" * MiB + b"\r\n\r\n"],
    }
    return ways[asked.path]() if asked.path in ways else NOTHING


BROKEN = {
    "/drip": {"timeout"},
    "/silent": {"timeout"},
    "/headers": {"protocol"},
    "/long-header": {"protocol"},
    "/short": {"disconnected"},
    "/negative": {"protocol"},
    "/two-lengths": {"protocol"},
    "/chunk": {"protocol", "disconnected"},
    "/extension": {"protocol", "disconnected", "timeout"},
    "/continue": {"timeout", "protocol"},
    "/garbage": {"protocol"},
    "/nothing": {"disconnected"},
    "/status": {"protocol"},
    "/location": {"protocol"},
}


@pytest.mark.parametrize("path", BROKEN)
def test_a_broken_answer_costs_itself_and_is_told(tmp_path: Path, path: str) -> None:
    def say(asked: Asked) -> Said:
        return answer(200, body(path, "/fine")) if asked.path == "/" else hostile(asked)

    with served(say) as site:
        made = over(site.address, tmp_path, deadline=0.5)
    found = fate(made)
    assert stored(made) == [at(), at("/fine")]
    assert found[at(path)][0] == "error"
    assert found[at(path)][1] in BROKEN[path]
    assert site.paths().count(path) <= 3
    if found[at(path)][1] == "protocol":
        assert site.paths().count(path) == 1  # it would say the same again


def test_one_that_drips_holds_its_own_host_alone(tmp_path: Path) -> None:
    """A slow host has one request under way, however many of its pages wait; others are asked meanwhile."""
    slow, fast = [f"/slow/{n}" for n in range(3)], [f"/{n}" for n in range(20)]

    def say(asked: Asked) -> Said:
        if asked.path == "/robots.txt":
            return NOTHING
        if asked.host == "kranich.test":
            return [0.3, answer(200, body(*slow))] if asked.path.startswith(("/slow", "/")) else NOTHING
        return answer(200, body(*fast, text=asked.path))

    with served(say) as site:
        over(site.address, tmp_path, hosts=("kranich.test",), seeds=(at(), "http://kranich.test/"))
    dripped = [one for one in site.asked if one.host == "kranich.test"]
    assert all(later.at >= before.answered for before, later in pairwise(dripped))
    last_fast = max(one.at for one in site.asked if one.host == HOST)
    assert last_fast < dripped[-1].at


def test_a_second_answer_behind_the_first_is_nobodys(tmp_path: Path) -> None:
    """An answer that hides another behind its end must not be taken for that of the next request."""
    hidden = answer(200, b"<p>smuggled</p>")

    def say(asked: Asked) -> Said:
        if asked.path == "/":
            return answer(200, body("/a", "/b", "/c"))
        return answer(200, f"<p>this is {asked.path}</p>".encode()) + hidden if len(asked.path) == 2 else NOTHING

    with served(say) as site:
        made = over(site.address, tmp_path)
    payloads = {one.url: one.payload for one in kept(made)}
    assert payloads[at("/a")] == b"<p>this is /a</p>"
    assert not any(b"smuggled" in payload for payload in payloads.values())


def test_no_cookie_is_kept(tmp_path: Path) -> None:
    jar = [f"Set-Cookie: c{n}={'y' * 100}" for n in range(60)]
    with served(lambda asked: answer(200, body("/a", "/b"), *jar)) as site:
        over(site.address, tmp_path)
    assert len(site.asked) >= 4
    assert not any(b"ookie" in one.head for one in site.asked)


def test_a_certificate_nobody_signed_is_an_error_and_told(tmp_path: Path) -> None:
    words = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", f"/CN={HOST}"]
    words += ["-keyout", str(tmp_path / "key.pem"), "-out", str(tmp_path / "own.pem")]
    try:
        subprocess.run(words, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("there is no openssl to make a certificate with")
    secure = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    secure.load_cert_chain(tmp_path / "own.pem", tmp_path / "key.pem")
    with served(lambda _: answer(200, b"secret"), secure) as site, served(hostile) as fine:
        table = {f"{HOST}:443": site.address, "kranich.test:80": fine.address}
        seeds = (f"https://{HOST}/", "http://kranich.test/fine")
        made = through(lambda: Web(table), tmp_path, seeds=seeds, sitemaps=False)
    assert fate(made)[f"https://{HOST}/"] == ("error", "tls")
    assert stored(made) == ["http://kranich.test/fine"]
    assert site.asked == []


# where a link may lead

INWARD = (
    "http://127.0.0.1/",
    "http://localhost/",
    "http://2130706433/",
    "http://0x7f.1/",
    "http://0177.0.0.1/",
    "http://127.1/",
    "http://１２７.0.0.1/",  # full-width digits
    "http://127。0。0。1/",  # ideographic full stops
    "http://[::1]/",
    "http://[::ffff:127.0.0.1]/",
    "http://[64:ff9b::7f00:1]/",
    "http://169.254.169.254/latest/meta-data/",
    "http://[fd00:ec2::254]/latest/meta-data/",
    "http://10.0.0.1/",
    "http://192.168.0.1/",
    "http://100.64.0.1/",
    "http://0.0.0.0/",
)


def test_no_spelling_of_an_inner_address_is_connected_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tundish.stages.crawl_rulebook.pause", lambda *_, **__: 0.0)
    moves = {f"/moved/{n}": to for n, to in enumerate(INWARD)}

    def say(asked: Asked) -> Said:
        if asked.path in moves:
            return answer(302, b"", f"Location: {moves[asked.path]}".encode().decode("latin-1"))
        return answer(200, body(*INWARD, *moves)) if asked.path == "/" else NOTHING

    with served(say) as site:
        stage = crawl(hosts=("*",), sitemaps=False, delays=FREE | dict.fromkeys(inner_hosts(), 0.0))
        made = stage.through(
            lambda: Web({f"{HOST}:80": site.address}), Local(), Place(str(tmp_path / "c"), stage.fingerprint)
        )
    assert stored(made) == [at()]
    found = fate(made)
    inner = {url: why for url, why in found.items() if not url.startswith(at())}
    assert len(inner) >= 9  # many spellings are one address
    assert set(inner.values()) == {("error", "forbidden_address")}
    assert {one.host for one in site.asked} == {HOST}


def inner_hosts() -> set[str]:
    from tundish.operators.web import urls

    return {urls.canonical(url).split("/")[2] for url in INWARD}


class Rebinding(AbstractResolver):
    """A name server in an attacker's hand: another private address each time it is asked."""

    turns: list[str]

    async def resolve(self, host: str, port: int = 0, family: int = socket.AF_INET) -> list[dict[str, Any]]:
        given = self.turns[0] if len(self.turns) == 1 else self.turns.pop(0)
        return [{"hostname": host, "host": given, "port": port, "family": socket.AF_INET, "proto": 0, "flags": 0}]

    async def close(self) -> None:
        """Nothing to let go of."""


def test_a_name_bound_again_is_looked_at_when_connecting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A public-looking name leads inwards, by a new answer of its name server for every attempt."""
    monkeypatch.setattr("tundish.stages.crawl_rulebook.pause", lambda *_, **__: 0.0)
    Rebinding.turns = ["10.0.0.8", "169.254.169.254", "127.0.0.1"]
    with served(hostile) as site:
        table = {"kranich.test:80": site.address}
        seeds = (at(), "http://kranich.test/fine")
        made = through(lambda: Web(table, resolver=Rebinding), tmp_path, seeds=seeds, sitemaps=False)
    assert fate(made)[at()] == ("error", "forbidden_address")
    assert stored(made) == ["http://kranich.test/fine"]


def test_other_schemes_are_not_addresses(tmp_path: Path) -> None:
    elsewhere = (
        "file:///etc/passwd",
        "ftp://heron.example/x",
        "javascript:alert(1)",
        "data:text/html,x",
        "gopher://x/",
    )
    web: dict[str, Any] = {at(): page(*elsewhere, *(f"/to/{n}" for n in range(len(elsewhere))))}
    web |= {at(f"/to/{n}"): moved(url) for n, url in enumerate(elsewhere)}
    made = run(web, tmp_path)
    assert stored(made) == [at()]
    assert {fate(made)[at(f"/to/{n}")] for n in range(len(elsewhere))} == {("error", "bad_location")}
    assert all(url.startswith(at()) for url in fate(made))


def test_all_parsers_read_an_address_the_same_way(tmp_path: Path) -> None:
    """Links that one parser reads as ours and another as theirs: the host that is judged is the one that is asked."""
    odd = (
        r"http:\\elsewhere.invalid/a",
        r"http://heron.example\@elsewhere.invalid/b",
        "http://elsewhere.invalid\\.heron.example/c",
        "http://heron.example@elsewhere.invalid/d",
        "http://elsewhere.invalid#@heron.example/e",
        "http://elsewhere.invalid?@heron.example/f",
        "ht\ntp://heron\t.example/g",
        "//elsewhere.invalid/h",
        "http:elsewhere",
        "http:///heron.example/i",
        "http://heron.example:80@elsewhere.invalid:80/j",
        "http://heron.example%2eelsewhere.invalid/k",
        "http://heron%00.example/l",
        "http://[heron.example]/m",
    )
    with served(lambda asked: answer(200, body(*odd)) if asked.path == "/" else NOTHING) as site:
        made = over(site.address, tmp_path)
    hosts = {url.split("/")[2] for url in fate(made)}
    for url, (outcome, reason) in fate(made).items():
        if not url.startswith(at()):
            assert (outcome, reason) == ("scope", "domain"), url
    assert hosts >= {HOST, "elsewhere.invalid"}
    assert {one.head.split(b"\r\n")[1] for one in site.asked} == {b"Host: heron.example"}
