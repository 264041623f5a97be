"""Crawl: from seeds to archives, politely, and to the same pages whatever is killed on the way.

    part-00-0000.warc.zst    what was fetched, as it was sent (WARC/1.1)
    log/                     one row for every address met, and what became of it
    cdxj/                    an index of the captures, for replay tools
    scope.json               include and exclude, to be edited while it runs

Work is cut into `parts` by registrable domain: everything a host is owed (robots.txt, its delay, one request at a time)
is known in one place, and only links cross from part to part. Promises: at least once on the network, exactly once in
the archives; an interrupted crawl goes on from its keepers' folders, or their checkpoints. A live crawl is a clock's
child: the same set of pages from a web that stands still, as long as the budget does not end it. Refuses an agent
nobody can write to.
"""

import dataclasses
import math
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import date
from functools import partial
from typing import Any, ClassVar

from tundish.cluster import store
from tundish.cluster.shards import Dataset, digest_of
from tundish.cluster.verbs import Cluster, Status, Told
from tundish.cluster.wire import Web, Wire
from tundish.operators.web import urls
from tundish.operators.web.surt import address, prefixes
from tundish.stages.crawl_earlier import crawls
from tundish.stages.crawl_edits import Scope
from tundish.stages.crawl_home import POINTER, Home
from tundish.stages.crawl_keeper import Make
from tundish.stages.crawl_manners import product
from tundish.stages.crawl_scope import Rules, domain_of
from tundish.stages.crawl_seal import seal
from tundish.stages.crawl_tables import FRONTIER
from tundish.stages.crawl_worth import keep_rates, tell
from tundish.stages.forgotten import forgotten, root_of
from tundish.stages.stage import PLACE, Place, Stage

SHOWN = 10.0  # seconds that all hosts must rest to be spoken of
LEAST_DELAY = 1.0  # seconds, for hosts that are not named in `delays`
CONTACT = re.compile(r"https?://[^\s)]+\.[^\s)]+|[^\s@(]+@[^\s@)]+\.[^\s@)]+")
TOKEN = re.compile(r"[A-Za-z_-]+")  # RFC 9309: what robots.txt can name


@dataclass(frozen=True)
class Crawl(Stage):
    """`agent`: who asks, with an address to write to. `pages`: captures stored at most. `as_of`: which crawl this is.

    `seeds`: addresses, hosts or SURT prefixes to begin with. In scope are their registrable domains and the `hosts`
    named (`"*"`: all hosts there are); `within`: domains, addresses or SURT prefixes, if given, that they must lie in;
    `include` and `exclude`: regular expressions searched in the canonical URL. `depth`: links from a seed.

    `delay`: seconds between requests to a host, at least 1; `delays` says otherwise for hosts by name, 0 allowed.
    `max_bytes`: of a body. `per_host`, `per_domain`: captures at most. `hosts_per_domain`: sub-domains that are met.
    `sameness`: a host is left when more than this share of its last 500 pages are like earlier ones, digits aside.
    `archive`: `zst`, or `gz` for programs that read nothing else. `parts` decides the archive files, so it does not
    follow the size of a cluster. `sample`: pages, when fewer than `pages`.

    `hours`: after which it ends with what it has; addresses that still wait are logged as over the budget.
    `earlier`: roots of earlier crawls; what has not changed since is not stored again. `curated`: roots of earlier
    corpora; hosts of which little was kept are asked less often, and after others.
    """

    version: ClassVar[int] = 2

    seeds: tuple[str, ...]
    agent: str
    as_of: str
    pages: int = 10_000
    depth: int = 16
    hosts: tuple[str, ...] = ()
    within: tuple[str, ...] = ()
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    delay: float = 1.0
    delays: Mapping[str, float] = field(default_factory=dict)
    max_bytes: int = 2 << 20
    per_host: int | None = None
    per_domain: int | None = None
    hosts_per_domain: int = 1000
    sameness: float = 0.95
    archive: str = "zst"
    parts: int = 4
    sitemaps: bool = True
    opt_outs: bool = True
    hours: float | None = None
    earlier: tuple[str, ...] = field(default=(), metadata=PLACE)
    curated: tuple[str, ...] = field(default=(), metadata=PLACE)
    sample: int | None = None

    def check(self) -> None:
        if not self.seeds:
            raise ValueError("Crawl.seeds is empty; name at least one URL to begin with")
        for seed in self.seeds:
            self._check_seed(seed)
        self._check_agent()
        self._check_numbers()
        for named in self.within:
            prefixes(named)
        if self.archive not in ("zst", "gz"):
            raise ValueError(f"Crawl.archive is {self.archive!r}; it is 'zst', or 'gz' for programs that read no other")
        for name, hosts in (("hosts", self.hosts), ("delays", self.delays)):
            for host in hosts:
                self._check_host(name, host)
        for rule in (*self.include, *self.exclude):
            try:
                re.compile(rule)
            except re.error as error:
                raise ValueError(f"Crawl: {rule!r} is no regular expression ({error}); mend the rule") from None

    def _check_seed(self, seed: str) -> None:
        try:
            urls.canonical(address(seed))
        except ValueError as error:
            raise ValueError(f"Crawl.seeds: {error}") from None

    def _check_host(self, name: str, host: str) -> None:
        try:
            spelt = "*" if host == "*" and name == "hosts" else urls.host(f"http://{host}/")
        except ValueError:
            spelt = ""
        if spelt != host.lower():
            advice = f"; write {spelt!r}" if spelt else ""
            raise ValueError(f"Crawl.{name}: {host!r} is no name of a host, without scheme and port{advice}")

    def _check_agent(self) -> None:
        if not CONTACT.search(self.agent) or not self.agent.isprintable() or not self.agent.isascii():
            raise ValueError(
                f"Crawl.agent is {self.agent!r}, and nobody could write to it; name the crawler and an address, "
                "such as 'heron-bot/1.0 (+https://heron.example/bot)'"
            )
        if not TOKEN.fullmatch(product(self.agent)):
            raise ValueError(
                f"Crawl.agent begins with {product(self.agent)!r}, which no robots.txt can name (RFC 9309); "
                "begin with letters, '-' and '_' alone, such as 'heron-bot/1.0'"
            )

    def _check_numbers(self) -> None:
        try:
            date.fromisoformat(self.as_of)
        except ValueError:
            raise ValueError(f"Crawl.as_of is {self.as_of!r}; write the day of the crawl, such as 2026-11-21") from None
        for name, value, least in (
            ("pages", self.pages, 1),
            ("depth", self.depth, 0),
            ("max_bytes", self.max_bytes, 1024),
            ("parts", self.parts, 1),
            ("sample", 1 if self.sample is None else self.sample, 1),
            ("per_host", 1 if self.per_host is None else self.per_host, 1),
            ("per_domain", 1 if self.per_domain is None else self.per_domain, 1),
            ("hosts_per_domain", self.hosts_per_domain, 1),
            ("sameness", self.sameness, 0),
            ("hours", 1 if self.hours is None else self.hours, 0),
            *((f"delays[{host}]", seconds, 0) for host, seconds in self.delays.items()),
        ):
            if not value >= least:
                raise ValueError(f"Crawl.{name} is {value}; it is at least {least}")
        if not self.delay >= LEAST_DELAY:
            raise ValueError(
                f"Crawl.delay is {self.delay}; others are asked once a second at most. For hosts that are yours, "
                "name them in Crawl.delays, such as {heron.example: 0}"
            )

    @property
    def rules(self) -> Rules:
        """The fields as the keepers need them."""
        seeds = tuple(dict.fromkeys(urls.canonical(address(seed)) for seed in self.seeds))
        return Rules(
            seeds=seeds,
            agent=self.agent,
            pages=self.pages if self.sample is None else min(self.pages, self.sample),
            depth=self.depth,
            hosts=frozenset(host.lower() for host in self.hosts),
            include=self.include,
            exclude=self.exclude,
            delay=self.delay,
            delays={host.lower(): seconds for host, seconds in self.delays.items()},
            max_bytes=self.max_bytes,
            parts=self.parts,
            sitemaps=self.sitemaps,
            domains=frozenset(domain_of(seed) for seed in seeds),
            within=tuple(prefix for named in self.within for prefix in prefixes(named)),
            per_host=self.per_host,
            per_domain=self.per_domain,
            hosts_per_domain=self.hosts_per_domain,
            sameness=self.sameness,
            archive=self.archive,
            opt_outs=self.opt_outs,
            year=int(self.as_of[:4]),
        )

    def outside(self) -> list[dict[str, Any]]:
        """What it reads of earlier runs: the crawls' logs; keep-rates are counted when it begins, as pages are."""
        return [{"earlier": one.address, "digest": one.digest} for root in self.earlier for one in crawls(root)]

    def run(self, cluster: Cluster, inputs: Mapping[str, Dataset], out: Place) -> Dataset:
        return self.through(partial(Web, dict(out.settings.wire)), cluster, out)

    def through(self, wire: Callable[[], Wire], cluster: Cluster, out: Place) -> Dataset:
        """The crawl through any wire: the web, or a dictionary that stands in for it."""
        found = dict.fromkeys(one.uri for root in self.earlier for one in crawls(root))
        earlier = tuple(uri for uri in found if uri != store.absolute(out.uri))
        home, scope = home_of(cluster, out), Scope(out.uri)
        store.sweep(out.uri)
        gone = forgotten(root_of(out.uri))
        rules = scope.offered(dataclasses.replace(self.rules, earlier=earlier, forgotten=gone))
        tell(out.uri, keep_rates(self.curated))
        stop = _Budget(cluster, rules.pages, math.inf if self.hours is None else time.time() + 3600 * self.hours)
        told = cluster.attend("Crawl", Make(rules, home, wire, scope), parts=rules.parts, stop=stop)
        stored = [one["stored"] for one in told]
        held = {name: list(told[0][name]) for name in ("include", "exclude")}  # whatever lies in the file by now
        about = {**out.about, "as_of": self.as_of, "scope": held, "inside": ["log", "cdxj"]}
        sealed = seal(cluster, rules, home, out.target(), out.target("log"), out.target("cdxj"), stored, about)
        home.remove()
        return sealed


def home_of(cluster: Cluster, out: Place) -> Home:
    """With the stage where that is the disk of the one node there is, else on the disk of whoever runs a keeper, with
    checkpoints in the stage's folder. (SQLite is not safe on a disk that is shared over a network.)"""
    here, kept = store.local(out.uri), store.join(store.absolute(out.uri), "keepers")
    moved = here is not None and any((here / "keepers").glob(f"*/{POINTER}"))
    begun = here is not None and any((here / "keepers").glob(f"*/{FRONTIER}"))
    if here is not None and not moved and (begun or getattr(cluster, "nodes", 1) == 1):
        if getattr(cluster, "nodes", 1) > 1:
            raise ValueError(
                f"this crawl was begun on one machine ({here / 'keepers'}) and the cluster has {cluster.nodes} nodes; "
                "go on with --on local there, or delete that folder to crawl anew"
            )
        return Home(str(here / "keepers"))
    return Home(f"tundish-crawl-{digest_of([out.uri, out.key])[:20]}", kept)


@dataclass(frozen=True)
class _Budget:
    """Says how far the crawl is, and when it has enough, of pages or of time."""

    cluster: Cluster
    pages: int
    ends: float = math.inf

    def __call__(self, now: list[Status]) -> bool:
        done, queued = sum(s.done for s in now), sum(s.queued for s in now)
        self.cluster.watch("Crawl", min(done, self.pages), min(self.pages, done + queued), self._resting(now))
        return done >= self.pages or time.time() >= self.ends

    def _resting(self, now: list[Status]) -> Told | None:
        """That all wait for hosts that rest, and until when, if it is longer than a moment."""
        until = [s.until for s in now if not s.idle]
        if not until or not all(until) or min(until) - time.time() < SHOWN:
            return None
        return Told("Crawl", 0, {}, f"hosts rest until {time.strftime('%H:%M', time.localtime(min(until)))}")
