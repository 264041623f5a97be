"""One turn of a host: robots.txt, or one page; the answer goes into the archive, what it means into the frontier.

Promises: nothing is awaited between reading an answer and the last row it changes, so a commit sees all of it or
nothing; a page that an earlier crawl has is stored as a revisit, and its links are followed. Costs about 1 ms of CPU a
page. Refuses nothing: what fails becomes a row with its reason.
"""

import asyncio
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from tundish.cluster.wire import Request, Response, Unfetched, Wire
from tundish.operators.web.opt_outs import BETWEEN
from tundish.operators.web.warc_write import OPT_OUTS, digest
from tundish.stages.crawl_archive import Archive
from tundish.stages.crawl_earlier import Before, before, forget, now_of
from tundish.stages.crawl_frontier import Frontier, Host, Waiting
from tundish.stages.crawl_manners import (
    BUSY,
    DROPPED,
    LONGEST_DELAY,
    RETRIED,
    TRIES,
    busy_again,
    pause,
    rest,
    retry_after,
    spacing,
)
from tundish.stages.crawl_rulebook import Rulebook, Standing
from tundish.stages.crawl_scope import Found
from tundish.stages.crawl_visit import SITEMAP_BYTES, Visit, read, told

SITEMAPS = 8  # under way at once: each may be of 10 MB
YIELD = 64  # addresses settled without a request before others get their turn
LARGE = 256 << 10  # bytes of a sitemap that is read beside the event loop: a megabyte of hostile ones takes 0.4 s
KNOWN = 200  # captures of a host before it can be called one page again and again

Admit = Callable[[Found], None]


class Turns:
    """What is done when it is a host's turn. `edited`: the scope was changed since addresses were let in."""

    def __init__(self, frontier: Frontier, archive: Archive, rulebook: Rulebook, admit: Admit) -> None:
        self.frontier, self.archive, self.rulebook, self.admit = frontier, archive, rulebook, admit
        self.edited = False
        self.sitemaps = asyncio.Semaphore(SITEMAPS)

    async def take(self, wire: Wire, host: Host) -> float:
        """Settle addresses that need no request, then make one; gives when the host may be asked again."""
        settled = 0
        while (row := self.frontier.next(host, time.time())) is not None:
            refused = self._refused(host, row)
            if refused is None:
                origin = "/".join(row.url.split("/", 3)[:3])
                standing = self.rulebook.of(origin, time.time())
                if standing is None:
                    return await self._ask(wire, host, origin)
                refused = standing.forbids(row.url, self.rulebook.token, host.asked if row.kind == "page" else None)
                if refused is None and row.kind == "sitemap":
                    async with self.sitemaps:
                        return await self._fetch(wire, host, row, standing)
                if refused is None:
                    return await self._fetch(wire, host, row, standing)
            self.frontier.finish(row, *refused, time=time.time())
            settled += 1
            if settled % YIELD == 0:
                await asyncio.sleep(0)
        return host.ready

    def _refused(self, host: Host, row: Waiting) -> tuple[str, str] | None:
        """(outcome, reason) of what is not to be asked for any more, whatever robots.txt says."""
        rules = self.frontier.rules
        if host.fails >= DROPPED:
            return "error", "host_down"
        if row.kind != "page":
            return None
        if rules.per_host is not None and host.pages >= rules.per_host:
            return "budget", "host"
        if rules.per_domain is not None and self.frontier.domain(host).pages >= rules.per_domain:
            return "budget", "domain"
        if host.pages >= KNOWN and host.same > rules.sameness:
            return "trap", "sameness"
        reason = rules.ruled_out(row.url, seed=row.depth == 0) if self.edited else None
        return ("scope", reason) if reason else None

    # requests

    async def _ask(self, wire: Wire, host: Host, origin: str) -> float:
        """robots.txt, and the sitemaps it leads to."""
        rules = self.frontier.rules
        wait, sitemaps = await self.rulebook.ask(wire, origin, host, rules.least_delay(host.name))
        host.delay = max(host.delay, min(wait, LONGEST_DELAY))
        for found in sitemaps if rules.sitemaps else ():
            self.admit(found)
        return time.time() + wait

    async def _fetch(self, wire: Wire, host: Host, row: Waiting, standing: Standing) -> float:
        rules, known = self.frontier.rules, None
        if rules.earlier and row.kind == "page":
            known = before(self.frontier.db, row.key)
        named, least = host.name in rules.delays, rules.least_delay(host.name)
        host.delay = delay = spacing(least, standing.delay, named=named)
        host.asked += 1
        request = Request(row.url, (*self.rulebook.headers, *(known.asked() if known else ())))
        cap = SITEMAP_BYTES if row.kind == "sitemap" else rules.max_bytes
        started, domain = time.time(), self.frontier.domain(host)
        domain.pages += row.kind == "page"  # as long as it is under way it counts as if it were stored
        try:
            answer = await wire.fetch(request, cap=cap)
            earlier = await asyncio.to_thread(_earlier, known, row.url) if known and answer.status == 304 else None
        except Unfetched as error:
            domain.pages -= row.kind == "page"
            return self._unfetched(host, row, error, delay, time.time() - started)
        except BaseException:
            domain.pages -= row.kind == "page"
            raise
        domain.pages -= row.kind == "page"
        host.fails = 0
        wished = 0.0 if standing.spent(host.asked) else standing.delay  # what is left is settled without a request
        host.delay = delay = spacing(least, wished, answer.seconds, named=named)
        if answer.status in RETRIED:
            delay = self._again(row, host, answer, delay)
            if row.tries + 1 < TRIES:
                return time.time() + delay
        if answer.status == 304 and known and earlier is None:  # what it refers to is gone: ask for the page itself
            forget(self.frontier.db, row.key)
            return time.time() + delay
        visit, opted = None, standing.opted(row.url, self.rulebook.token)
        if row.kind == "sitemap" and len(answer.body) > LARGE:
            visit = await asyncio.to_thread(read, answer, row, self.rulebook.token)
        self._read(request, answer, row, host, known, earlier, opted, visit)
        return time.time() + delay

    def _unfetched(self, host: Host, row: Waiting, error: Unfetched, delay: float, seconds: float) -> float:
        at = time.time()
        if not error.transient:
            self.frontier.finish(row, "error", error.kind, seconds=round(seconds, 4), time=at)
            return at + delay
        host.fails += 1
        # the whole host rests: it is not the page that failed
        resting = rest(host.fails, delay, named=host.name in self.frontier.rules.delays, key=host.name)
        again = at + max(delay, resting or 0.0)
        if row.tries + 1 < TRIES:
            self.frontier.later(row, again)
        else:
            self.frontier.finish(row, "error", error.kind, seconds=round(seconds, 4), time=at)
        return again

    def _again(self, row: Waiting, host: Host, answer: Response, delay: float) -> float:
        """A page that answered with 429 or 5xx is tried again, unless this was the last try; gives the seconds its host
        rests: one that says it is busy rests as long as it says, whatever becomes of the page."""
        at, busy = time.time(), answer.status in BUSY
        wished = retry_after(answer.header("retry-after"), at)
        times, least = row.tries, self.frontier.rules.least_delay(host.name)
        if busy:
            host.busy, host.busied = busy_again(host.busy, host.busied, at), at
            times = host.busy - 1
        wait = max(delay, pause(least, times, busy=busy, key=host.name) if wished is None else wished)
        if row.tries + 1 < TRIES:
            self.frontier.later(row, at + wait)
        return wait if busy else delay

    # answers

    def _read(
        self,
        request: Request,
        answer: Response,
        row: Waiting,
        host: Host,
        known: Before | None,
        earlier: Response | None,
        opted: tuple[str, ...],
        visit: Visit | None,
    ) -> None:
        """An answer, into archive and frontier; nothing is awaited, so a commit sees all of it or nothing.

        `known`: what an earlier crawl has of the address; `earlier`: its answer, where the page has not changed since;
        `visit`: what it means, where that is known already.
        """
        row = self.frontier.placed(row)
        visit = replace(visit or read(earlier or answer, row, self.rulebook.token), opted=opted)
        facts = {**told(answer, visit), "time": (at := time.time())}
        outcome, reason = visit.outcome, visit.reason
        if outcome == "redirect" and visit.target and self.frontier.leads_back(row.url, visit.target, row.kind):
            reason = "loop"
        if outcome == "stored":
            outcome, reason, more = self._store(request, answer, visit, known, earlier, now_of(at))
            facts |= more
            self.frontier.resembles(host, (earlier or answer).body)
            self.frontier.domain(host).pages += 1
        self.frontier.finish(row, outcome, reason, **facts)
        for found in visit.found:
            self.admit(found)

    def _store(
        self,
        request: Request,
        answer: Response,
        visit: Visit,
        known: Before | None,
        earlier: Response | None,
        date: str,
    ) -> tuple[str, str, dict[str, Any]]:
        """Into the archive: (outcome, reason, what the frontier keeps of it)."""
        opted = BETWEEN.join(visit.opted)
        more = {OPT_OUTS: opted} if opted else None
        capture = known.capture(answer.url, modified=False) if known and earlier else None
        if capture is None and known and known.digest == digest(answer.body):
            capture = known.capture(answer.url, modified=True)
        held = self.archive.append(request, answer, date, earlier=capture, more=more)
        facts = {**held._asdict(), "opted": opted or None, "held": known.held if known and capture else None}
        if capture is None:
            return "stored", visit.reason, facts
        return "unchanged", "not_modified" if earlier else "identical", facts


def _earlier(known: Before, url: str) -> Response | None:
    try:
        return known.answer(url)
    except (ValueError, OSError, KeyError, IndexError):
        return None
