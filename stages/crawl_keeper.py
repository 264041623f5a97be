"""The keeper of one part of a crawl: its hosts, its queue, its archive, in one event loop.

    agenda (a heap of hosts by when they may be asked) -> one turn of a host: robots.txt, or one page
        -> archive (append), frontier (what became of it, links) -> commit: archive to disk, then one transaction

Promises: one request under way a host, and its delay between the end of one and the beginning of the next; what is
committed is committed together, so that a killed keeper goes on with no page lost and none twice (at least once on
the network, exactly once in the archive). Costs about 1.5 ms of CPU a page, memory of 256 bodies at most. Refuses
nothing: what fails becomes a row with its reason.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any

from tundish.cluster import store
from tundish.cluster.verbs import Post, Status
from tundish.cluster.wire import Response, Wire
from tundish.stages.crawl_agenda import Agenda
from tundish.stages.crawl_archive import Archive
from tundish.stages.crawl_earlier import learn, payload_of
from tundish.stages.crawl_edits import EVERY as EVERY_LOOK
from tundish.stages.crawl_edits import Scope
from tundish.stages.crawl_frontier import Frontier
from tundish.stages.crawl_home import Home, Replaced
from tundish.stages.crawl_manners import ACCEPTED, product
from tundish.stages.crawl_post import AGAIN, Carrier, recovered
from tundish.stages.crawl_rulebook import Rulebook
from tundish.stages.crawl_scope import Found, Rules, registrable
from tundish.stages.crawl_tables import FRONTIER, Host, Nearer
from tundish.stages.crawl_turn import Turns
from tundish.stages.crawl_visit import named_again
from tundish.stages.crawl_worth import Worth, heard

FLYING = 256  # requests under way
EVERY, SOON = 1.0, 0.05  # seconds until a commit: in the midst of work, at its end
SHARED = 0.3  # seconds until a commit in the midst of work that other parts wait for
LOG = logging.getLogger("tundish.crawl")
CHECKPOINT = 600.0  # seconds between copies to where all nodes see them


@dataclass(frozen=True)
class Make:
    """Makes the keeper of a part, on whichever machine."""

    rules: Rules
    home: Home
    wire: Callable[[], Wire]
    scope: Scope

    def __call__(self, part: int) -> "Keeper":
        rules = self.scope.edited(self.rules) or self.rules
        return Keeper(part, rules, self.home, self.wire, self.scope, heard(self.scope.uri))


class Keeper:
    """See `cluster.verbs.Keeper`. The constructor restores what was committed."""

    def __init__(
        self, part: int, rules: Rules, home: Home, wire: Callable[[], Wire], scope: Scope, worth: Worth
    ) -> None:
        self.part, self.rules, self.make_wire, self.scope, self.worth = part, rules, wire, scope, worth
        self.home = home
        folder, self.forgetful = home.enter(part)  # whether the others may have sent what is not known here any more
        self.covered: dict[int, int] = {}
        self.token = product(rules.agent)
        headers = (("User-Agent", rules.agent), *ACCEPTED)
        self.frontier = Frontier(folder / FRONTIER, rules)
        about = {"software": "tundish", "format": "WARC File Format 1.1", "robots": "obey", "operator": rules.agent}
        learn(self.frontier.db, rules, part)
        self.archive = Archive(folder, self.frontier.archives(), about, rules.archive, f"part-{part:02d}")
        self.turns = Turns(self.frontier, self.archive, Rulebook(self.frontier, self.token, headers), self._admit)
        self.agenda = Agenda(self._rank, self._crowd)
        self.flying: set[asyncio.Task[None]] = set()
        self.tasks: list[asyncio.Task[None]] = []
        self.waiters: list[asyncio.Future[None]] = []
        self.wake, self.nearer = asyncio.Event(), asyncio.Event()
        self.carrier = Carrier(self.frontier, self._break)
        self.timer: asyncio.TimerHandle | None = None
        self.broken: BaseException | None = None
        self.closed = False
        self.wire: Wire | None = None
        met = set(self.frontier.hosts)
        for url in rules.seeds:
            if rules.part(url) == part:
                self.frontier.admit(Found(url), part)
        for host in self.frontier.open_hosts():  # whoever was asked just before a kill is owed its delay still
            owed = max(host.delay, rules.least_delay(host.name)) if host.id in met else 0.0
            self._hold(host, time.time() + owed if owed else 0.0)
        self._commit()

    # the verbs of a keeper

    async def work(self, post: Post) -> None:
        """Fetch until cancelled. Any error that is not a page's own ends the work."""
        self.wire = self.make_wire()
        self.tasks = [asyncio.create_task(task) for task in self._duties(post)]
        self.carrier.posted.set()
        self.nearer.set()
        try:
            await asyncio.gather(*self.tasks)
        except asyncio.CancelledError:
            if self.broken is not None:
                raise self._blamed(self.broken) from None
            if not self.closed:
                raise
        except Exception as error:
            if (blamed := self._blamed(error)) is error:
                raise
            raise blamed from error
        finally:
            await self._rest()

    def _blamed(self, error: BaseException) -> BaseException:
        """What the others are to hear of an error: that the folder is gone, if it is, whoever noticed it first."""
        if self.home.kept is None or self.archive.folder.is_dir():
            return error
        return Replaced(f"part {self.part} has lost its folder ({error})")

    def _duties(self, post: Post) -> tuple[Coroutine[Any, Any, None], ...]:
        return (
            self._launch(),
            self.carrier.carry(post),
            self._tell_again(),
            self._heed(),
            self._save(),
            self._recover(post),
        )

    async def receive(self, sender: int, batch: str, rows: list[Any]) -> dict[str, int]:
        """Take links of another part; returns when they are on disk: up to which batch no crash undoes it, or which was
        the last, where batches before this one are missing."""
        self._alive()
        if batch == AGAIN:
            self.frontier.again(sender, rows[0])
            self.carrier.posted.set()
            return {}
        after, number = map(int, batch.split("-"))
        if after > (last := self.frontier.last(sender)):
            return {"last": last}
        if self.frontier.take(sender, number):
            for row in rows:
                self._admit(Found(*row))
        waiter = asyncio.get_running_loop().create_future()
        self.waiters.append(waiter)
        self._commit_within(self._haste())
        await waiter
        return {"covered": number if self.home.kept is None else self.covered.get(sender, 0)}

    def status(self) -> Status:
        frontier = self.frontier
        outbox = frontier.outgoing + len(frontier.bound)
        soonest = self.agenda.soonest()
        rest = 0.0 if self.flying or soonest is None else soonest
        idle = not len(self.agenda) and not frontier.behind and not self.forgetful
        return Status(idle, outbox, frontier.taken, frontier.stored, frontier.queued, rest)

    async def close(self) -> dict[str, Any]:
        """Commit, unless something broke in the middle of a change, and let go."""
        self.closed = True
        await self._rest()
        if self.broken is None:
            self._commit()
        stored = self.frontier.stored
        self._let_go(RuntimeError(f"part {self.part} is closed"))
        self.archive.close()
        self.frontier.close()
        if self.home.kept is not None and self.broken is None:
            await asyncio.to_thread(self.home.save, self.part)
        return {"part": self.part, "stored": stored, "include": self.rules.include, "exclude": self.rules.exclude}

    # the agenda

    def _hold(self, host: Host, ready: float = 0.0) -> None:
        """Put a host on the agenda, unless it is on it at an earlier time, or under way."""
        if self.agenda.hold(host.id, max(ready, host.ready)):
            self.wake.set()

    def _rank(self, number: int) -> float:
        host = self.frontier.hosts[number]
        return self.worth.of(host.name, host.same)

    def _crowd(self, number: int) -> str | None:
        """Hosts named in `delays` are the user's own, or were agreed upon."""
        name = self.frontier.hosts[number].name
        return None if name in self.rules.delays else registrable(name)

    def _room(self) -> bool:
        """Whether one more request may be made: the budget counts those under way as if they were stored."""
        return len(self.flying) < FLYING and self.frontier.stored + len(self.flying) < self.rules.pages

    async def _launch(self) -> None:
        while True:
            self.wake.clear()
            self.agenda.ripen(time.time())
            while self._room() and (number := self.agenda.next()) is not None:
                task = asyncio.create_task(self._turns(self.frontier.hosts[number]))
                self.flying.add(task)
                task.add_done_callback(self._landed)
            soonest = self.agenda.soonest()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(None if soonest is None else max(0.0, soonest - time.time())):
                    await self.wake.wait()

    def _landed(self, task: "asyncio.Task[None]") -> None:
        self.flying.discard(task)
        self.wake.set()
        if task.cancelled() or self.closed:
            return
        if (error := task.exception()) is not None:
            self._break(error)
        else:
            self._commit_within(self._haste())

    async def _turns(self, host: Host) -> None:
        """One turn of a host: at most one request, then back to the agenda."""
        assert self.wire is not None
        self.frontier.touched.add(host.id)
        ready = await self.turns.take(self.wire, host)
        host.ready = ready + (self.worth.pace(host.name) - 1) * self.rules.least_delay(host.name)
        self.frontier.touched.add(host.id)  # again: a commit in the midst of the turn has taken it off
        soonest = self.frontier.soonest(host)
        self.agenda.landed(host.id)
        if soonest is not None:
            self._hold(host, soonest)

    def _admit(self, found: Found) -> None:
        if (host := self.frontier.admit(found, self.part)) is not None:
            self._hold(host)
        if self.frontier.behind:
            self.nearer.set()

    async def _tell_again(self) -> None:
        """What nearer addresses name, from their archived answers: links are not kept, and nobody is asked twice."""
        while True:
            await self.nearer.wait()
            self.nearer.clear()
            while (one := self.frontier.nearer()) is not None:
                for found in named_again(one, self._kept, self.token):
                    self._admit(found)
                self._commit_within(self._haste())
                await asyncio.sleep(0)

    def _kept(self, one: Nearer) -> Response:
        """The answer to an address, from this crawl's archive or an earlier one's."""
        if one.held is not None:
            return payload_of(one.held, one.row.url)
        return self.archive.answer(one.row.url, one.archive, one.offset, one.size)

    async def _heed(self) -> None:
        """Look whether the scope was edited, and whether the disk is nearly full."""
        stamp: Any = None
        while True:
            if stamp != (stamp := self.scope.stamp(stamp)) and (rules := self.scope.edited(self.rules)) is not None:
                self.rules = self.frontier.rules = rules
                self.turns.edited = True
                for host in self.frontier.ruled_anew():
                    self._hold(host)
                self._commit_within(self._haste())
            try:
                store.require_space(self.archive.folder)
            except ValueError as error:  # what is committed stays, and the crawl goes on from it once there is room
                self._break(error)
            await asyncio.sleep(EVERY_LOOK)

    # commits and posts

    def _haste(self) -> float:
        """Seconds the next commit may wait: each one costs two visits to the disk."""
        soonest = self.agenda.soonest()
        if not self.flying and not self.agenda.due and (soonest is None or soonest > time.time() + SOON):
            return SOON
        return SHARED if self.frontier.bound or self.waiters else EVERY

    def _commit_within(self, seconds: float) -> None:
        loop = asyncio.get_running_loop()
        if self.timer is not None:
            if self.timer.when() <= loop.time() + seconds:
                return
            self.timer.cancel()
        self.timer = loop.call_later(seconds, self._commit_now)

    def _commit_now(self) -> None:
        self.timer = None
        try:
            self._commit()
        except Exception as error:  # a full disk: the work must end, with this as its reason
            self._break(error)

    def _commit(self) -> None:
        self.archive.sync()
        self.frontier.commit(self.archive.news())
        self.carrier.posted.set()
        waiters, self.waiters = self.waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)

    async def _save(self) -> None:
        """Copy what is committed to where all nodes see it, now and then, beside the work."""
        while self.home.kept is not None:
            await asyncio.sleep(CHECKPOINT)
            try:
                self.covered = await asyncio.to_thread(self.home.save, self.part)
            except (Replaced, ValueError) as error:  # or no room: this keeper must end
                self._break(error)
            except Exception as error:  # a storage that is not to be reached just now; the next copy holds more
                LOG.warning("part %d: no checkpoint this time (%s)", self.part, error)

    async def _recover(self, post: Post) -> None:
        if self.forgetful:
            await recovered(post, self.frontier, self.part, self.rules.parts)
        self.forgetful = False

    # ends

    def _alive(self) -> None:
        if self.closed or self.broken is not None:
            raise RuntimeError(f"part {self.part} takes nothing any more; post it again when it is back")

    def _break(self, error: BaseException) -> None:
        self.broken = self.broken or error
        self._let_go(error)
        for task in self.tasks:
            task.cancel()

    def _let_go(self, error: BaseException) -> None:
        waiters, self.waiters = self.waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_exception(error)

    async def _rest(self) -> None:
        """End everything under way."""
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None
        under_way = [*self.tasks, *self.flying]
        for task in under_way:
            task.cancel()
        await asyncio.gather(*under_way, return_exceptions=True)
        if self.wire is not None:
            wire, self.wire = self.wire, None
            await wire.close()
