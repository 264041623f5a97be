"""robots.txt and tdmrep.json of every origin: asked for through the wire, kept in the frontier, believed for a day.

Promises (RFC 9309): no page of an origin is asked for before its robots.txt was; what cannot be reached, and 429 and
5xx, means that nothing is allowed, after three tries, unless an older copy of 30 days at most says more; an origin is
scheme, host and port. Then, where the crawl keeps opt-outs, /.well-known/tdmrep.json once (TDMRep, May 2024), if
robots.txt lets us; whoever has none states nothing by it. Costs one request an origin and day for each of the two.
Refuses, by a reason, what the rules forbid, and the pages beyond a day's worth of hosts that want more than two minutes
between requests.
"""

import asyncio
from dataclasses import dataclass, field
from time import time

from tundish.cluster.wire import Headers, Request, Response, Unfetched, Wire
from tundish.operators.web import robots, urls
from tundish.operators.web.message import undone
from tundish.operators.web.opt_outs import FILE, FILE_OF_SITE, TRAINERS, Tdmrep, of_site
from tundish.stages.crawl_frontier import Frontier, Host
from tundish.stages.crawl_manners import (
    BUSY,
    LONGEST_DELAY,
    ROBOTS_AGE,
    ROBOTS_BYTES,
    ROBOTS_STALE,
    TRIES,
    allowance,
    pause,
    retry_after,
)
from tundish.stages.crawl_scope import HOPS, Found
from tundish.stages.crawl_visit import canonical, lowered

KEPT = 4096  # parsed files in memory,
KEPT_BYTES = 16 << 20  # and of what size before parsing, which makes ten times of it
TDMREP = f"/.well-known/{FILE_OF_SITE}"
LAST_GOOD = "#last-good"  # no origin has a fragment: the robots.txt of before it could not be had any more

Row = tuple[int | None, bytes, str, float, int]  # status, body, error, when, tries


@dataclass(frozen=True)
class Standing:
    """What an origin allows. `error`: why nobody knows."""

    rules: robots.Robots
    error: str
    delay: float
    at: float
    tdmrep: Tdmrep = field(default_factory=Tdmrep)

    def spent(self, asked: int | None) -> bool:
        """Whether a host that wants minutes between requests has had its day's worth of them. None: it gets none."""
        most = allowance(self.delay)
        return most is not None and (asked is None or asked >= most)

    def forbids(self, url: str, token: str, asked: int | None = None) -> tuple[str, str] | None:
        """(outcome, reason) for an address that must not be asked for. `asked`: requests its host has had."""
        if self.error:
            return ("forbidden" if self.error == "robots_unavailable" else "error"), self.error
        if self.spent(asked):
            return "forbidden", "crawl_delay"
        return None if self.rules.allowed(token, url) else ("forbidden", "robots")

    def opted(self, url: str, token: str) -> tuple[str, ...]:
        """The opt-outs that robots.txt and tdmrep.json state for an address, as `opt_outs.opt_outs` takes them."""
        return of_site(self.rules.usage(token, url), self.tdmrep.of(url), self.rules.refused(TRAINERS, url))


@dataclass(frozen=True)
class Answered:
    """What came of asking for a file; `error`: a kind of the wire's."""

    status: int | None
    body: bytes = b""
    error: str = ""
    wait: float | None = None
    final: bool = False  # asking again would change nothing

    @property
    def failed(self) -> bool:
        return self.status is None or self.status == 429 or self.status >= 500


class Rulebook:
    """The rules of all origins of one part."""

    def __init__(self, frontier: Frontier, token: str, headers: Headers) -> None:
        self.frontier, self.token, self.headers = frontier, token, headers
        self.agents = frozenset({token.lower(), *TRAINERS})
        self.known: dict[str, Standing] = {}
        self.weight = 0

    def of(self, origin: str, now: float) -> Standing | None:
        """What an origin allows; None when it has to be asked first."""
        found = self.known.get(origin)
        if found is None:
            row = self.frontier.robots(origin)
            found = None if row is None else self._standing(origin, row, now)
            if row is None or found is None:
                return None
            if len(self.known) >= KEPT or self.weight > KEPT_BYTES:
                self.known.clear()
                self.weight = 0
            self.known[origin] = found
            self.weight += len(row[1])
        return found if now - found.at < ROBOTS_AGE else None

    def _standing(self, origin: str, row: Row, now: float) -> Standing | None:
        status, body, error, at, tries = row
        if 0 < tries < TRIES:
            return None
        if tries and (good := self._last_good(origin, now)) is not None:
            status, body, error, tries = good[0], good[1], "", 0
        rules = robots.from_status(status, body, self.agents)
        why = error or ("robots_unavailable" if tries else "")
        tdmrep = Tdmrep()
        if not why and self._tdmrep_wanted(rules, origin):
            told = self.frontier.robots(origin + TDMREP)
            if told is None or now - told[3] >= ROBOTS_AGE:
                return None
            tdmrep = Tdmrep.parse(told[1])
        return Standing(rules, why, rules.delay(self.token) or 0.0, at, tdmrep)

    def _last_good(self, origin: str, now: float) -> Row | None:
        row = self.frontier.robots(origin + LAST_GOOD)
        return row if row is not None and now - row[3] < ROBOTS_STALE else None

    def _tdmrep_wanted(self, rules: robots.Robots, origin: str) -> bool:
        return self.frontier.rules.opt_outs and rules.allowed(self.token, origin + TDMREP)

    async def ask(self, wire: Wire, origin: str, host: Host, delay: float) -> tuple[float, list[Found]]:
        """Ask for robots.txt, or, if that is known, for tdmrep.json: (seconds until the host may be asked again,
        sitemaps it names)."""
        before, now = self.frontier.robots(origin), time()
        settled = before is not None and now - before[3] < ROBOTS_AGE and not 0 < before[4] < TRIES
        if settled and self.of(origin, now) is None:
            return await self._ask_tdmrep(wire, origin, delay), []
        return await self._ask_robots(wire, origin, host, delay, before)

    async def _ask_tdmrep(self, wire: Wire, origin: str, delay: float) -> float:
        """Once; "failure to provide access implies that the origin server does not implement this protocol"."""
        answered = await self._fetched(wire, origin + TDMREP, FILE + 1, delay)
        body = answered.body if answered.status is not None and 200 <= answered.status < 300 else b""
        self.frontier.keep_robots(origin + TDMREP, answered.status, body, answered.error, time(), 0)
        self.known.pop(origin, None)
        standing = self.of(origin, time())
        wished = standing.delay if standing is not None and standing.delay <= LONGEST_DELAY else 0.0
        return max(delay, wished, answered.wait or 0.0)

    async def _ask_robots(
        self, wire: Wire, origin: str, host: Host, delay: float, before: Row | None
    ) -> tuple[float, list[Found]]:
        answered = await self._fetched(wire, f"{origin}/robots.txt", ROBOTS_BYTES, delay)
        now = time()
        tries = before[4] if before and now - before[3] < ROBOTS_AGE else 0
        if answered.failed and before is not None and before[0] is not None and 200 <= before[0] < 300:
            self.frontier.keep_robots(origin + LAST_GOOD, *before)
        tries = TRIES if answered.final else tries + 1
        kept = (answered.status, answered.body, answered.error, now, tries if answered.failed else 0)
        self.frontier.keep_robots(origin, *kept)
        self.known.pop(origin, None)
        if answered.failed and tries >= TRIES:
            return delay, []  # nobody will ask again today
        if answered.failed:
            rests = pause(delay, tries - 1, busy=answered.status in BUSY, key=origin)
            return (rests if answered.wait is None else max(delay, answered.wait)), []
        rules = robots.from_status(answered.status, answered.body, self.agents)
        found = dict.fromkeys([*canonical(rules.sitemaps, f"{origin}/"), f"{origin}/sitemap.xml"])
        wished = rules.delay(self.token) or 0.0
        wait = max(delay, wished) if wished <= LONGEST_DELAY else delay
        return wait, [Found(urls.canonical(url), 0, f"{origin}/robots.txt", 0, "sitemap") for url in found]

    async def _fetched(self, wire: Wire, url: str, cap: int, delay: float) -> Answered:
        """A file behind at most five redirects; more of them count as if there were none (RFC 9309, 2.3.1.2)."""
        for hop in range(HOPS + 1):
            if hop:
                await asyncio.sleep(delay)
            try:
                answer = await wire.fetch(Request(url, self.headers), cap=cap)
            except Unfetched as error:
                return Answered(None, error=error.kind, final=not error.transient)
            if not 300 <= answer.status < 400 or (to := answer.header("location")) is None:
                return _answered(answer, cap)
            try:
                url = urls.canonical(to, url)
            except ValueError:  # a redirect to no address leads to no file
                return Answered(404)
        return Answered(404)


def _answered(answer: Response, cap: int) -> Answered:
    """What was sent; rules in a coding nobody can undo are rules that cannot be reached."""
    wait = retry_after(answer.header("retry-after"), time())
    if answer.status >= 300:
        return Answered(answer.status, b"", "", wait)
    try:
        return Answered(answer.status, undone(answer.body, lowered(answer), cap)[0], "", wait)
    except ValueError:
        return Answered(None, wait=wait, final=True)
