"""A web in a test tube: thousands of hosts whose every page is a function of (seed, URL), so that truth is computed.

    world = World(hosts=2000, mean=50)                  # 2,000 hosts of 50 pages each in the mean, and the others
    world.answer("plain7.example", "/s3/page-40.html")   # what the server says; no state, the same for ever
    set(world.pages())                                   # every page a crawl of links has to find, and no other

Hosts lie under .example (RFC 2606), one registrable domain each. By kind:

    plain, tls            healthy: HTTP, and HTTPS by certificates of an authority made at the start
    slow                  healthy, half a second before every answer
    twin                  plain7's pages byte for byte under another name
    calendar, sessions    traps: a chain of months that differ in digits; a new session id in every link
    reset, garbage, short, headers, drip, silent, bomb, busy, untrusted      broken, each in its own way (`BROKEN`)

A healthy host's page n links its children in a binary tree (2n+1, 2n+2), so all are reachable; five pages of a menu,
8 others of its own drawn at random, 3 of other hosts of any kind, and now and then a page that is gone (404), that has
moved (301 to another), that is forbidden by robots.txt, or that always answers 503. Hosts form a tree by their roots.
Pages per host are exponential about the mean, 4,000 at most. Sizes are lognormal (sigma 1, cut at 8 times the mean)
about `size` bytes: prose with some 15 tags in a thousand bytes. Costs about 25 us a page.
"""

import math
import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from hashlib import blake2b
from statistics import NormalDist
from typing import NamedTuple

HEALTHY = ("plain", "tls", "slow", "twin")
TRAPS = ("calendar", "sessions")
BROKEN = {
    "reset": "the connection ends before an answer",
    "garbage": "bytes that are no HTTP",
    "short": "Content-Length says more than comes",
    "headers": "headers without end",
    "drip": "a byte every now and then",
    "silent": "no answer at all",
    "bomb": "pages of a gigabyte in a megabyte of gzip",
    "busy": "503 to everything, robots.txt included",
    "untrusted": "a certificate for another name",
}
SECURE = frozenset({"tls", "untrusted"})
PROTECTED = b"User-agent: *\nDisallow: /private/\n"
MENU, OWN, OTHERS = 5, 8, 3  # links of a page
MOST = 4000  # pages of a host
PAUSE = 0.5  # seconds a slow host thinks
END = b"</body></html>"
FILLER = 1 << 20  # bytes of prose all pages are cut from
DEAD_ENDS = ("/gone/page-{}.html", "/old/page-{}.html", "/private/page-{}.html", "/busy/page-{}.html")
SYLLABLES = "ta ri no el se mu ka do in ver ster al pe lo qui ba sch un te ra"


class Answer(NamedTuple):
    """What a server says. `how`: how it says it when that is not the usual way (a key of BROKEN, or `slow`)."""

    status: int
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""
    how: str = ""


class Host(NamedTuple):
    """`number`: among those of its kind."""

    name: str
    kind: str
    number: int


@dataclass(frozen=True)
class World:
    """`hosts`: plain and tls ones, of `mean` pages each in the mean. `size`: mean bytes of a page's body.

    `tls`: share of the hosts. `others`: kind -> hosts of it. `turns`: pages of a trap. `port`, `tls_port`: where all of
    them listen.
    """

    seed: int = 1
    hosts: int = 1000
    mean: int = 50
    size: int = 16_000
    tls: float = 0.2
    others: dict[str, int] = field(default_factory=dict)
    turns: int = 1000
    port: int = 8080
    tls_port: int = 8443

    # who there is

    @cached_property
    def all(self) -> tuple[Host, ...]:
        """Every host: the plain and the tls ones mixed, then the others in order of their kinds."""
        secure = int(self.hosts * self.tls)
        kinds = [
            "tls" if (n + 1) * secure // self.hosts > n * secure // self.hosts else "plain" for n in range(self.hosts)
        ]
        kinds += [kind for kind, count in sorted(self.others.items()) for _ in range(count)]
        numbers: dict[str, int] = {}
        found = []
        for kind in kinds:
            number = numbers[kind] = numbers.get(kind, -1) + 1
            found.append(Host(f"{kind}{number}.example", kind, number))
        return tuple(found)

    @cached_property
    def by_name(self) -> dict[str, int]:
        return {host.name: at for at, host in enumerate(self.all)}

    @property
    def table(self) -> dict[str, str]:
        """For the wire: every host, and where it really is."""
        return {f"{host.name}:{port}": f"127.0.0.1:{port}" for host in self.all for port in (self.port_of(host),)}

    @property
    def seeds(self) -> tuple[str, ...]:
        return self.roots[: min(8, self.hosts)]

    def port_of(self, host: Host) -> int:
        return self.tls_port if host.kind in SECURE else self.port

    @cached_property
    def roots(self) -> tuple[str, ...]:
        """The front page of every host."""
        return tuple(f"http{'s' * (one.kind in SECURE)}://{one.name}:{self.port_of(one)}/" for one in self.all)

    # the truth

    def pages(self) -> Iterator[str]:
        """Every page (200) of a healthy host that links lead to, allowed by its robots.txt."""
        for at, host in enumerate(self.all):
            if host.kind in HEALTHY:
                yield from (self.roots[at][:-1] + page_path(n) for n in range(self.counts[at]))

    @cached_property
    def counts(self) -> tuple[int, ...]:
        """Pages of every host; 0 of those that are not healthy."""
        return tuple(self._count(self._shown(at)) if one.kind in HEALTHY else 0 for at, one in enumerate(self.all))

    def _count(self, at: int) -> int:
        drawn = (self._draws(at, -1)[0] + 1) / (1 << 32)
        return max(1, min(MOST, round(-math.log(drawn) * self.mean)))

    def _shown(self, at: int) -> int:
        """The host whose pages a host shows: a twin those of another."""
        host = self.all[at]
        return self.by_name[f"plain{host.number}.example"] if host.kind == "twin" else at

    # what they say

    def answer(self, name: str, path: str) -> Answer:
        """What is answered to a GET of `path` at the host `name`."""
        at = self.by_name.get(name)
        if at is None:
            return Answer(404, (), b"no such host")
        host = self.all[at]
        if host.kind in BROKEN and host.kind != "untrusted":
            return self._broken(host, path)
        if path == "/robots.txt":
            return Answer(200, (("Content-Type", "text/plain"),), PROTECTED, "slow" if host.kind == "slow" else "")
        if host.kind in TRAPS:
            return self._trap(host, path)
        found = self._healthy(self._shown(at), path)
        return found._replace(how="slow") if host.kind == "slow" else found

    def _healthy(self, at: int, path: str) -> Answer:
        if path == "/":
            return self._page(at, 0)
        section, _, rest = path[1:].partition("/page-")
        number = rest.removesuffix(".html")
        if not number.isdecimal() or len(number) > 9:
            return MISSING
        n = int(number)
        if section == "old":
            return Answer(301, (("Location", page_path(n % self.counts[at])),))
        if section == "busy":
            return Answer(503, (("Retry-After", "0"),), b"try again")
        return self._page(at, n) if path == page_path(n) and n < self.counts[at] else MISSING

    def _page(self, at: int, n: int) -> Answer:
        drawn = self._draws(at, n)
        length = int(self.size * SIZES[drawn[0] % len(SIZES)])
        start = drawn[1] % FILLER
        anchors = "".join(f'<li><a href="{link}">{link[-16:]}</a>\n' for link in self.links(at, n))
        head = f"<!DOCTYPE html><html><head><title>Page {n} of host {at}</title></head><body>\n<ul>{anchors}</ul>\n<p>"
        body = head.encode()
        return Answer(
            200, HTML, body + self.filler[start : start + max(0, length - len(body) - 14)] + b"</body></html>"
        )

    def links(self, at: int, n: int) -> list[str]:
        """Links of page n of a healthy host, as they stand in it."""
        count, drawn = self.counts[at], self._draws(at, n)
        found = [page_path(child) for child in (2 * n + 1, 2 * n + 2) if child < count]
        found += [page_path(one) for one in range(1, min(1 + MENU, count))]
        found += [page_path(one % count) for one in drawn[2 : 2 + OWN]]
        for one in drawn[2 + OWN : 2 + OWN + OTHERS]:
            other = one % len(self.all)
            found.append(self.roots[other][:-1] + page_path((one >> 12) % (self.counts[other] or 1)))
        if n == 0:
            found += [self.roots[child] for child in (2 * at + 1, 2 * at + 2) if child < len(self.all)]
        dead = drawn[13] % 64
        if dead < 8:
            found.append(DEAD_ENDS[(0, 0, 0, 1, 1, 2, 2, 3)[dead]].format(drawn[14] % 1000))
        return found

    def _trap(self, host: Host, path: str) -> Answer:
        _, _, value = path.partition("=")
        n = int(value) if value.isdecimal() and len(value) < 9 else 0
        if host.kind == "calendar":
            text, link = f"Nothing happens in month {n}.", f"/calendar?month={n + 1}" if n < self.turns else "/"
        else:
            mark = blake2b(f"{host.name}{n + 1}".encode(), digest_size=16).hexdigest()
            text, link = "Welcome, visitor.", f"/visit/{mark}?turn={n + 1}" if n < self.turns else "/"
        return Answer(200, HTML, f'<html><body><p>{text}</p><a href="{link}">on</a></body></html>'.encode())

    def _broken(self, host: Host, path: str) -> Answer:
        if host.kind == "busy":
            return Answer(503, (), b"try again")
        if host.kind == "bomb" and path == "/robots.txt":
            return Answer(404)
        return Answer(200, HTML, b"", host.kind)

    # where it comes from

    def _draws(self, at: int, n: int) -> tuple[int, ...]:
        """Sixteen numbers below 2**32 that (seed, host, page) decides."""
        told = blake2b(b"%d %d %d" % (self.seed, at, n)).digest()
        return tuple(int.from_bytes(told[low : low + 4], "big") for low in range(0, 64, 4))

    @cached_property
    def filler(self) -> bytes:
        """Prose of words that occur as often as words do (Zipf), in paragraphs with some markup."""
        draw = random.Random(self.seed)
        syllables = SYLLABLES.split()
        words = ["".join(draw.choices(syllables, k=draw.randint(1, 4))) for _ in range(20_000)]
        weights = [1 / (rank + 3) for rank in range(len(words))]
        marks = ["{}"] * 12 + ["<b>{}</b>", "<i>{}</i>", '<span class="note">{}</span>', "{}.", "{},"]
        drawn = draw.choices(words, weights, k=FILLER // 6)
        said = (draw.choice(marks).format(word) + ("\n<p>" if n % 60 == 59 else " ") for n, word in enumerate(drawn))
        base = "".join(said).encode()[:FILLER].ljust(FILLER, b".")
        return base * (2 + 9 * self.size // FILLER)


HTML = (("Content-Type", "text/html; charset=utf-8"),)
MISSING = Answer(404, (("Content-Type", "text/plain"),), b"nothing here")


def _sizes(sigma: float = 1.0, steps: int = 256) -> tuple[float, ...]:
    """Quantiles of a lognormal distribution, cut at 8 times its mean, scaled to mean 1."""
    drawn = [math.exp(sigma * NormalDist().inv_cdf((n + 0.5) / steps)) for n in range(steps)]
    cut = [min(one, 8 * math.exp(sigma**2 / 2)) for one in drawn]
    return tuple(one * steps / sum(cut) for one in cut)


SIZES = _sizes()


def page_path(n: int) -> str:
    """Path of page n of a healthy host.

    >>> page_path(0), page_path(40)
    ('/', '/s5/page-40.html')
    """
    return f"/s{n % 7}/page-{n}.html" if n else "/"
