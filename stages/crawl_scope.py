"""What belongs to a crawl: which part owns an address, and why an address is not fetched.

Pure: the answers depend on the address and the rules alone. Costs about 10 us an address. Refuses nothing.
"""

import functools
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import NamedTuple

from tundish.operators.web import urls
from tundish.operators.web.surt import surt
from tundish.operators.web.traps import trap
from tundish.stages.forgotten import NONE, REASON, Forgotten

HOPS = 5  # redirects in a row
SITEMAP_DEPTH = 3  # sitemaps inside sitemaps


class Found(NamedTuple):
    """An address somebody named. `depth`: links from a seed; of a sitemap, the sitemaps above it."""

    url: str  # canonical
    depth: int = 0
    parent: str = ""  # "" for seeds
    hops: int = 0  # redirects that led here in a row
    kind: str = "page"  # or sitemap


@dataclass(frozen=True)
class Rules:
    """What a keeper has to know of the crawl: the fields of the stage, ready for use."""

    seeds: tuple[str, ...]  # canonical
    agent: str
    pages: int
    depth: int
    hosts: frozenset[str]  # in scope beside the seeds' domains; "*": all of them
    include: tuple[str, ...]
    exclude: tuple[str, ...]
    delay: float
    delays: Mapping[str, float]
    max_bytes: int
    parts: int
    sitemaps: bool
    domains: frozenset[str] = field(default=frozenset())
    within: tuple[str, ...] = ()  # SURT prefixes; none: no other limit than hosts and domains
    per_host: int | None = None  # captures
    per_domain: int | None = None  # captures
    hosts_per_domain: int = 1000
    sameness: float = 0.95
    archive: str = "zst"
    year: int | None = None  # of the crawl: later dates in addresses are calendars without end
    opt_outs: bool = True
    earlier: tuple[str, ...] = ()  # URIs of crawls
    forgotten: Forgotten = NONE  # what the root was told to forget

    def part(self, url: str) -> int:
        """The part that owns an address: all hosts of a registrable domain meet in one."""
        return _part(_domain(host_of(url)), self.parts)

    def refuses(self, found: Found) -> tuple[str, str] | None:
        """(outcome, reason) for an address that is not to be fetched."""
        if self.forgotten and self.forgotten.holds(found.url):
            return "scope", REASON
        host = host_of(found.url)
        if "*" not in self.hosts and host not in self.hosts and _domain(host) not in self.domains:
            return "scope", "domain"
        if self.within and not surt(found.url).startswith(self.within):
            return "scope", "within"
        if found.kind == "sitemap":
            return ("depth", "sitemap") if found.depth > SITEMAP_DEPTH else None
        if reason := self.ruled_out(found.url, seed=not found.parent):
            return "scope", reason
        if reason := trap(found.url, self.year):
            return "trap", reason
        if found.hops > HOPS:
            return "redirect", "too_many_hops"
        return ("depth", "depth") if found.depth > self.depth else None

    def ruled_out(self, url: str, *, seed: bool = False) -> str | None:
        """Which of the two lists of expressions keeps an address out; seeds need no include."""
        if any(re.search(rule, url) for rule in self.exclude):
            return "exclude"
        return "include" if self.include and not seed and not any(re.search(r, url) for r in self.include) else None

    def least_delay(self, host: str) -> float:
        """Seconds between two requests to a host, before its own wishes are heard."""
        return self.delays.get(host, self.delay)


@functools.lru_cache(maxsize=1 << 16)
def _domain(host: str) -> str:
    return urls.registrable(host)


@functools.lru_cache(maxsize=1 << 16)
def _part(domain: str, parts: int) -> int:
    return int.from_bytes(blake2b(domain.encode(), digest_size=8).digest(), "big") % parts


def host_of(url: str) -> str:
    """Host of a canonical URL, without parsing it again.

    >>> host_of("http://heron.example:8080/a:b"), host_of("http://[::1]/")
    ('heron.example', '[::1]')
    """
    place = url.split("/", 3)[2]
    return place if place.endswith("]") else place.partition(":")[0] if place[0] != "[" else place.rpartition(":")[0]


def domain_of(url: str) -> str:
    return _domain(host_of(url))


def registrable(host: str) -> str:
    """The registrable domain of a host, remembered."""
    return _domain(host)
