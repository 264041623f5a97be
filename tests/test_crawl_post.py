"""Links on their way to other parts, and what of a host outlives a kill."""

import asyncio
import time
from pathlib import Path
from typing import Any

from tests.test_crawl import HTML, at, crawl, page
from tundish.cluster.wire import Request, Response, Toy
from tundish.stages.crawl_archive import Archive
from tundish.stages.crawl_edits import Scope
from tundish.stages.crawl_frontier import Frontier
from tundish.stages.crawl_home import Home
from tundish.stages.crawl_keeper import Keeper, Make
from tundish.stages.crawl_post import Carrier
from tundish.stages.crawl_scope import Found
from tundish.stages.crawl_seal import take_back

OTHERS = [f"http://h{n}.test/" for n in range(40)]


def keeper(folder: Path, toy: Toy, **fields: Any) -> Keeper:
    """Of part 0, on a web."""
    rules = crawl(**{"parts": 1, "sitemaps": False, "opt_outs": False, **fields}).rules
    scope = Scope(str(folder))
    scope.offered(rules)
    return Make(rules, Home(str(folder / "k")), lambda: toy, scope)(0)


async def nobody(*_: Any) -> dict[str, int]:
    raise AssertionError("there is no other part")


def test_a_part_that_is_away_keeps_no_other_waiting(tmp_path: Path) -> None:
    rules = crawl(parts=3, hosts=("*",)).rules
    frontier = Frontier(tmp_path / "f.sqlite", rules)
    got: list[int] = []
    errors: list[BaseException] = []

    async def post(part: int, batch: str, rows: list[Any]) -> dict[str, int]:
        got.append(part)
        if part == 1:
            await asyncio.sleep(60)
        return {"covered": int(batch.split("-")[1])}

    async def work() -> None:
        carrier = Carrier(frontier, errors.append)
        task = asyncio.create_task(carrier.carry(post))
        for path in range(4):
            for url in OTHERS:
                frontier.admit(Found(f"{url}{path}"), 0)
            frontier.commit([])
            carrier.posted.set()
            await asyncio.sleep(0.02)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    asyncio.run(work())
    assert (got.count(1), got.count(2), errors) == (1, 4, [])
    assert [letter.part for letter in frontier.letters()] == [1]
    assert frontier.outgoing == 4
    frontier.close()


def test_batches_that_wait_are_posted_as_one_and_taken_once(tmp_path: Path) -> None:
    rules = crawl(parts=2, hosts=("*",)).rules
    sender, receiver = (Frontier(tmp_path / f"{name}.sqlite", rules) for name in ("a", "b"))
    for path in range(5):
        for url in OTHERS:
            sender.admit(Found(f"{url}{path}"), 0)
        sender.commit([])
    mine = {f"{url}{path}" for url in OTHERS for path in range(5) if rules.part(url) == 1}
    [first] = sender.letters()
    assert (first.after, len(first.rows), sender.outgoing) == (0, len(mine), 5)
    for url in OTHERS:
        sender.admit(Found(f"{url}late"), 0)
    sender.commit([])
    [both] = sender.letters()  # the receipt of the first was lost: it comes again, with what came since
    for letter in (first, both):
        assert letter.after <= receiver.last(0)
        assert receiver.take(0, letter.batch)
        for row in letter.rows:
            receiver.admit(Found(*row), 1)
    sender.delivered(first, first.batch)
    assert sender.outgoing == 1
    sender.delivered(both, both.batch)
    assert (sender.outgoing, sender.letters()) == (0, [])
    assert sender.db.execute("SELECT count(*) FROM outbox").fetchone() == (0,)
    assert not receiver.take(0, both.batch)
    known = [row[0] for row in receiver.log()]
    assert sorted(known) == sorted(mine | {f"{url}late" for url in OTHERS if rules.part(url) == 1})
    plan = "EXPLAIN QUERY PLAN SELECT batch FROM outbox WHERE part=1 AND NOT sent ORDER BY batch LIMIT 9"
    assert "USING" in str(sender.db.execute(plan).fetchall())  # an index, or each look reads all links that wait
    for one in (sender, receiver):
        one.close()


def test_a_wait_that_a_host_wants_outlives_a_kill_though_a_commit_fell_into_its_turn(tmp_path: Path) -> None:
    async def slowly(request: Request) -> None:
        await asyncio.sleep(0.4 if request.url.endswith("/busy") else 0.0)

    class Slow(Toy):
        async def fetch(self, request: Request, *, cap: int) -> Response:
            await slowly(request)
            return await super().fetch(request, cap=cap)

    busy = Response("", 503, (("Retry-After", "3600"),))
    toy = Slow({at(): page("/busy"), at("/busy"): busy, "http://kranich.test/": page()})

    async def work() -> None:
        one = keeper(tmp_path, toy, seeds=(at(), "http://kranich.test/"))
        task = asyncio.create_task(one.work(nobody))
        while not any(url == at("/busy") for url, _ in toy.asked):
            await asyncio.sleep(0.01)
            one._commit()  # now and then, as other hosts' pages make it; one falls into the turn
        await asyncio.sleep(0.1)
        one._commit()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        one.frontier.close()

    asyncio.run(work())
    again = Frontier(tmp_path / "k" / "00" / "frontier.sqlite", crawl().rules)
    assert again.names["heron.example"].ready - time.time() > 3500
    again.close()


def test_captures_over_the_budget_are_taken_back_across_a_restart(tmp_path: Path) -> None:
    rules = crawl().rules
    for paths in (("/a", "/b"), ("/c",)):  # the second life begins with a warcinfo record of its own
        frontier = Frontier(tmp_path / "f.sqlite", rules)
        archive = Archive(tmp_path, frontier.archives(), {"software": "test"})
        for path in paths:
            frontier.admit(Found(at(path)), rules.part(at()))
            row = frontier.next(frontier.names["heron.example"], time.time())
            assert row is not None
            held = archive.append(Request(at(path)), Response(at(path), 200, HTML, b"x" * 500), "2026-11-21T00:00:00Z")
            frontier.finish(row, "stored", time=1.0, **held._asdict())
        archive.sync()
        frontier.commit(archive.news())
        archive.close()
        if "/b" in paths:
            [(_, _, _)] = frontier.archives()
            [start] = frontier.db.execute("SELECT offset + length - size FROM url WHERE url=?", (at("/b"),)).fetchone()
            frontier.close()
    take_back(frontier, 2)
    assert [(size, captures) for _, size, captures in frontier.archives()] == [(start, 1)]
    frontier.close()
