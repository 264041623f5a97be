"""Manners of a crawl: robots.txt, delays, Retry-After, nofollow, and when a host is left alone."""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.test_crawl import HTML, Pages, at, crawl, fate, log, moved, page, plain, run, stored
from tundish.cluster.wire import Request, Response, Toy, Unfetched
from tundish.stages import crawl_rulebook
from tundish.stages.crawl_frontier import Frontier, Host
from tundish.stages.crawl_manners import (
    DAY,
    DOWN,
    DROPPED,
    PARKS,
    RETRIED,
    ROBOTS_STALE,
    TRIES,
    allowance,
    busy_again,
    pause,
    rest,
    retry_after,
    spacing,
)
from tundish.stages.crawl_rulebook import Rulebook


def test_robots_are_asked_first_and_obeyed(tmp_path: Path) -> None:
    toy = Toy(
        {
            at("/robots.txt"): plain("User-agent: *\nDisallow: /private/\nAllow: /private/press\n"),
            at(): page("/private/a", "/private/press"),
            at("/private/a"): page(),
            at("/private/press"): page(),
        }
    )
    made = run(toy, tmp_path)
    asked = [url for url, _ in toy.asked]
    assert asked[0] == at("/robots.txt")
    assert asked.count(at("/robots.txt")) == 1
    assert at("/private/a") not in asked
    assert fate(made)[at("/private/a")] == ("forbidden", "robots")
    assert at("/private/press") in stored(made)


@pytest.mark.parametrize(("status", "allowed"), [(404, True), (403, True), (500, False), (503, False)])
def test_a_robots_file_that_fails_forbids_and_one_that_is_not_there_does_not(
    tmp_path: Path, status: int, allowed: bool
) -> None:
    web: Pages = {at("/robots.txt"): Response("", status, (("Retry-After", "0"),)), at(): page()}
    web["http://kranich.test/"] = page()
    made = run(web, tmp_path, seeds=(at(), "http://kranich.test/"))
    assert fate(made)[at()] == (("stored", None) if allowed else ("forbidden", "robots_unavailable"))


def test_a_robots_file_may_lie_behind_a_redirect(tmp_path: Path) -> None:
    web: Pages = {
        at("/robots.txt"): moved("/rules"),
        at("/rules"): plain("User-agent: tundish-test\nDisallow: /no\n"),
        at(): page("/no", "/yes"),
        at("/no"): page(),
        at("/yes"): page(),
    }
    assert stored(run(web, tmp_path)) == [at(), at("/yes")]


def test_nofollow_is_heard_in_page_and_header(tmp_path: Path) -> None:
    web: Pages = {
        at(): page("/meta", "/header", "/other"),
        at("/meta"): page("/hidden/1", head='<meta name="robots" content="noindex, nofollow">'),
        at("/header"): page("/hidden/2", headers=(*HTML, ("X-Robots-Tag", "nofollow"))),
        at("/other"): page("/seen", headers=(*HTML, ("X-Robots-Tag", "otherbot: nofollow"))),
        at("/seen"): page(),
    }
    found = fate(run(web, tmp_path))
    assert found[at("/meta")] == found[at("/header")] == ("stored", "nofollow")
    assert not any("hidden" in url for url in found)
    assert found[at("/seen")] == ("stored", None)


def test_a_host_is_asked_one_by_one_with_its_delay_between(tmp_path: Path) -> None:
    pages = [f"/{n}" for n in range(5)]
    web: Pages = {at(): page(*pages), **{at(path): page() for path in pages}}
    web |= {f"http://kranich.test{path}": page(*pages) for path in ["/", *pages]}
    toy = Toy(web, seconds=0.01)
    run(toy, tmp_path, seeds=(at(), "http://kranich.test/"), delays={"heron.example": 0.05, "kranich.test": 0})
    times = [when for url, when in toy.asked if url.startswith(at())]
    assert min(b - a for a, b in pairwise(times)) >= 0.05 + 0.01 - 0.002
    assert len(times) == 9  # robots.txt, tdmrep.json, sitemap.xml, six pages
    order = [url for url, _ in toy.asked]
    assert order.index("http://kranich.test/4") < order.index(at("/4"))  # nobody waits for another host


def test_crawl_delay_is_kept_and_a_very_long_one_is_for_a_days_pages(tmp_path: Path) -> None:
    web: Pages = {
        at("/robots.txt"): plain("User-agent: *\nCrawl-delay: 0.06\n"),
        at(): page("/a", "/b"),
        at("/a"): page(),
        at("/b"): page(),
        "http://kranich.test/robots.txt": plain("User-agent: *\nCrawl-delay: 1000000\n"),
        "http://kranich.test/": page("/a", "/b"),
    }
    toy = Toy(web)
    made = run(toy, tmp_path, seeds=(at(), "http://kranich.test/"))
    times = [when for url, when in toy.asked if url.startswith(at()) and "robots" not in url]
    assert min(b - a for a, b in pairwise(times)) >= 0.058
    told = fate(made)  # and nobody waits the twelve days
    assert told["http://kranich.test/"] == ("stored", None)
    assert told["http://kranich.test/a"] == told["http://kranich.test/b"] == ("forbidden", "crawl_delay")


def test_opt_outs_of_the_site_are_kept_with_the_page(tmp_path: Path) -> None:
    web: Pages = {
        at("/robots.txt"): plain("User-agent: *\nContent-Usage: /a train-ai=n\nContent-Signal: search=no\n"),
        at("/.well-known/tdmrep.json"): plain('[{"location": "/a", "tdm-reservation": 1}]'),
        at(): page("/a"),
        at("/a"): page(),
    }
    told = log(run(web, tmp_path))
    assert told[at()]["opted"] == "search=n (robots.txt)"
    assert told[at("/a")]["opted"] == "search=n (robots.txt); tdm-reservation (tdmrep.json); train-ai=n (robots.txt)"


def test_a_busy_host_is_left_alone_as_long_as_it_asks(tmp_path: Path) -> None:
    answers = iter([Response("", 429, (("Retry-After", "1"),))])
    web: Pages = {at(): page("/busy", "/z"), at("/busy"): lambda _: next(answers, page()), at("/z"): page()}
    toy = Toy(web)
    made = run(toy, tmp_path, sitemaps=False)
    times = [when for url, when in toy.asked]
    first = [url for url, _ in toy.asked].index(at("/busy"))
    assert times[first + 1] - times[first] >= 0.99  # whatever was next
    assert stored(made) == [at(), at("/busy"), at("/z")]


def test_a_host_rests_as_long_as_it_says_after_the_last_try_too(tmp_path: Path) -> None:
    busy = Response("", 429, (("Retry-After", "1"),))
    toy = Toy({at(): page("/busy"), at("/busy"): busy, at("/z"): page()})
    made = run(toy, tmp_path, sitemaps=False, seeds=(at(), at("/z")), delays={"heron.example": 0.01})
    times = [when for url, when in toy.asked if url == at("/busy")]
    assert len(times) == TRIES
    behind = [when for _, when in toy.asked if when > times[-1]]
    assert all(when - times[-1] >= 0.99 for when in behind)
    assert min(b - a for a, b in pairwise(times)) >= 0.99
    assert fate(made)[at("/busy")] == ("error", "status_429")


def test_a_robots_file_in_a_coding_nobody_knows_forbids(tmp_path: Path) -> None:
    rules = Response("", 200, (("Content-Type", "text/plain"), ("Content-Encoding", "gzip")), b"\x1f\x8b\xff\xff\x00")
    web: Pages = {at("/robots.txt"): rules, at(): page(), "http://kranich.test/": page()}
    made = run(web, tmp_path, seeds=(at(), "http://kranich.test/"))
    assert fate(made)[at()] == ("forbidden", "robots_unavailable")


def test_failures_are_tried_again_and_given_up(tmp_path: Path) -> None:
    def fails(times: int, kind: str) -> Callable[[Request], Response]:
        left = [times]

        def answer(request: Request) -> Response:
            left[0] -= 1
            if left[0] >= 0:
                raise Unfetched(kind, request.url)
            return page()

        return answer

    web: Pages = {
        at(): page("/flaky", "/tls", "/500"),
        at("/flaky"): fails(1, "disconnected"),
        at("/tls"): fails(1, "tls"),
        at("/500"): Response("", 500),
    }
    toy = Toy(web)
    made = run(toy, tmp_path, sitemaps=False)
    found, asked = fate(made), Counter(url for url, _ in toy.asked)
    assert found[at("/flaky")] == ("stored", None)
    assert found[at("/tls")] == ("error", "tls")
    assert found[at("/500")] == ("error", "status_500")
    assert (asked[at("/flaky")], asked[at("/tls")], asked[at("/500")]) == (2, 1, 3)


def test_a_dead_host_says_why(tmp_path: Path) -> None:
    def dead(request: Request) -> Response:
        raise Unfetched("dns", "nobody knows the name")

    web: Pages = {at(): page(), "http://kranich.test/robots.txt": dead}
    made = run(web, tmp_path, seeds=(at(), "http://kranich.test/"))
    assert fate(made)["http://kranich.test/"] == ("error", "dns")


# the numbers


@pytest.mark.parametrize(
    ("least", "wished", "seconds", "named", "wanted"),
    [
        (1.0, 0.0, 0.05, False, 1.0),
        (1.0, 0.0, 2.0, False, 10.0),
        (1.0, 0.0, 50.0, False, 60.0),  # a slow answer is not made more than a minute of
        (1.0, 7.0, 0.05, False, 7.0),
        (1.0, 100.0, 2.0, False, 100.0),
        (90.0, 0.0, 50.0, False, 90.0),
        (0.0, 0.0, 2.0, True, 0.0),
        (0.01, 0.5, 2.0, True, 0.5),
        (1.0, 1e12, 0.0, False, DAY),
    ],
)
def test_how_far_apart_requests_are(least: float, wished: float, seconds: float, named: bool, wanted: float) -> None:
    assert spacing(least, wished, seconds, named=named) == wanted


@pytest.mark.parametrize(("wished", "pages"), [(0, None), (120, None), (121, 714), (3600, 24), (86_400, 1), (1e12, 1)])
def test_who_wants_minutes_between_pages_gets_a_days_worth(wished: float, pages: int | None) -> None:
    assert allowance(wished) == pages


def test_pauses_double_and_have_an_end() -> None:
    assert [pause(1.0, n) for n in range(4)] == [5, 10, 20, 40]
    assert [pause(2.0, n, busy=True) for n in range(3)] == [120, 240, 480]
    assert pause(1.0, 500) == pause(1e9, 0) == DAY


@given(st.text(max_size=20), st.integers(0, 10))
def test_jitter_is_a_tenth_and_always_the_same(key: str, tries: int) -> None:
    found = pause(1.0, tries, key=key)
    assert 0.9 * 5 * 2**tries <= found <= 1.1 * 5 * 2**tries
    assert found == pause(1.0, tries, key=key)


def test_hosts_that_failed_together_do_not_come_back_together() -> None:
    assert len({pause(1.0, 0, key=f"h{n}.example") for n in range(100)}) > 90


def test_a_host_that_cannot_be_reached_is_parked_and_then_dropped() -> None:
    waits = [rest(fails, 1.0) for fails in range(1, DROPPED + 2)]
    assert waits == [5, 10, 20, 40, *PARKS, None, None]
    assert (DOWN, PARKS) == (5, (3600.0, 21_600.0, 86_400.0))
    quick = [rest(fails, 0.1, named=True) for fails in range(DOWN, DROPPED)]
    assert quick == pytest.approx([1.0, 6.0, 24.0])


def test_half_an_hour_of_quiet_forgives() -> None:
    assert [busy_again(0, 0.0, 1e9), busy_again(3, 1000.0, 2799.0), busy_again(3, 1000.0, 2800.0)] == [1, 4, 1]


@pytest.mark.parametrize(
    ("value", "wanted"),
    [
        ("0", 0.0),
        ("7200", 7200.0),
        ("999999999999999999", DAY),
        ("-5", None),
        ("1.5", None),
        ("", None),
        (None, None),
        ("Thu, 01 Jan 1970 00:00:05 GMT", 0.0),
        ("Fri, 31 Dec 9999 23:59:59 GMT", DAY),
        ("Fri, 99 Dec 9999 23:59:59 GMT", None),
        ("\u0663\u0660", None),
    ],
)
def test_retry_after(value: str | None, wanted: float | None) -> None:
    assert retry_after(value, 10.0) == wanted


@given(st.text(max_size=80))
def test_any_retry_after_is_a_day_at_most(value: str) -> None:
    found = retry_after(value, 1.7e9)
    assert found is None or 0 <= found <= DAY


def test_forbidden_is_an_answer_and_no_plea() -> None:
    assert 403 not in RETRIED


# the rules of origins


class Clock:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.now = 1.79e9

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    found = Clock()
    monkeypatch.setattr(crawl_rulebook, "time", found)
    return found


@pytest.fixture
def frontier(tmp_path: Path) -> Iterator[Frontier]:
    found = Frontier(tmp_path / "f.sqlite", crawl(opt_outs=False).rules)
    yield found
    found.close()


def ask(book: Rulebook, toy: Toy, origin: str = "http://heron.example") -> float:
    wait, _ = asyncio.run(book.ask(toy, origin, Host(1, "heron.example"), 0.0))
    return wait


def verdict(book: Rulebook, clock: Clock, path: str = "/no") -> object:
    standing = book.of("http://heron.example", clock.now)
    return "ask" if standing is None else standing.forbids(at(path), "tundish-test")


def failing(kind: str) -> Callable[[Request], Response]:
    def answer(request: Request) -> Response:
        raise Unfetched(kind, request.url)

    return answer


NO = plain("User-agent: *\nDisallow: /no\n")


@pytest.mark.parametrize(
    ("failure", "asked"),
    [(Response("", 503), 3), (Response("", 429), 3), (failing("timeout"), 3), (failing("tls"), 1)],
)
def test_an_old_copy_holds_while_a_new_one_cannot_be_had(
    frontier: Frontier, clock: Clock, failure: object, asked: int
) -> None:
    pages: Pages = {at("/robots.txt"): NO}
    toy, book = Toy(pages), Rulebook(frontier, "tundish-test", ())
    ask(book, toy)
    assert (verdict(book, clock), verdict(book, clock, "/yes")) == (("forbidden", "robots"), None)
    clock.now += DAY
    pages[at("/robots.txt")] = failure  # type: ignore[assignment]
    for _ in range(asked):
        assert verdict(book, clock) == "ask"
        ask(book, toy)
    assert (verdict(book, clock), verdict(book, clock, "/yes")) == (("forbidden", "robots"), None)
    again = Rulebook(frontier, "tundish-test", ())  # the copy is on disk, and in no memory
    assert verdict(again, clock, "/yes") is None
    clock.now += ROBOTS_STALE
    for _ in range(3):
        ask(book, toy)
    assert verdict(book, clock, "/yes")[1] in ("robots_unavailable", "timeout", "tls")  # type: ignore[index]
    pages[at("/robots.txt")] = Response("", 404)
    clock.now += DAY
    ask(book, toy)
    assert verdict(book, clock) is None


def test_what_was_never_there_forbids_nothing_and_what_never_answered_everything(
    frontier: Frontier, clock: Clock
) -> None:
    book = Rulebook(frontier, "tundish-test", ())
    toy = Toy({at("/robots.txt"): Response("", 404)})
    ask(book, toy)
    assert verdict(book, clock) is None
    clock.now += DAY
    down = Toy({at("/robots.txt"): Response("", 500)})
    waits = [ask(book, down) for _ in range(3)]
    assert 0 < waits[0] < waits[1]
    assert verdict(book, clock) == ("forbidden", "robots_unavailable")  # a 404 of yesterday is no copy
    assert len(down.asked) == 3


def test_five_redirects_to_any_host_are_followed_and_a_sixth_is_none(frontier: Frontier, clock: Clock) -> None:
    for hops, wanted in ((5, ("forbidden", "robots")), (6, None)):
        pages: Pages = {at("/robots.txt"): moved("http://kranich.test/1")}
        pages |= {f"http://kranich.test/{n}": moved(f"/{n + 1}") for n in range(1, hops)}
        pages[f"http://kranich.test/{hops}"] = NO
        book = Rulebook(frontier, "tundish-test", ())
        ask(book, Toy(pages))
        assert verdict(book, clock) == wanted
        clock.now += DAY


def test_every_scheme_and_port_has_rules_of_its_own(frontier: Frontier, clock: Clock) -> None:
    book = Rulebook(frontier, "tundish-test", ())
    ask(book, Toy({at("/robots.txt"): NO}))
    assert verdict(book, clock) == ("forbidden", "robots")
    for origin in ("https://heron.example", "http://heron.example:8080", "http://www.heron.example"):
        assert book.of(origin, clock.now) is None


def test_slow_hosts_are_given_a_days_pages(frontier: Frontier, clock: Clock) -> None:
    book = Rulebook(frontier, "tundish-test", ())
    ask(book, Toy({at("/robots.txt"): plain("User-agent: *\nCrawl-delay: 43200\n")}))
    standing = book.of("http://heron.example", clock.now)
    assert standing is not None
    told = [standing.forbids(at(), "tundish-test", asked) for asked in (0, 1, 2)]
    assert told == [None, None, ("forbidden", "crawl_delay")]


FILE = at("/.well-known/tdmrep.json")


def opting(tmp_path: Path, pages: Pages, clock: Clock) -> tuple[Toy, object]:
    """What is asked for and what is said of `/a` where the crawl keeps opt-outs."""
    toy, frontier = Toy(pages), Frontier(tmp_path / "o.sqlite", crawl().rules)
    book = Rulebook(frontier, "tundish-test", ())
    for _ in range(4):
        standing = book.of("http://heron.example", clock.now)
        if standing is not None:
            break
        ask(book, toy)
    frontier.close()
    return toy, standing and standing.opted(at("/a"), "tundish-test")


@pytest.mark.parametrize(
    ("robots", "file", "asked", "said"),
    [
        (NO, plain('[{"location": "/a", "tdm-reservation": 1}]'), 2, ("tdm-reservation (tdmrep.json)",)),
        (NO, plain('[{"location": "/b", "tdm-reservation": 1}]'), 2, ()),
        (NO, plain("<html>not here</html>"), 2, ()),
        (NO, Response("", 503), 2, ()),
        (NO, failing("timeout"), 2, ()),
        (
            plain("User-agent: *\nDisallow: /.well-known/\nContent-Usage: train-ai=n\n"),
            NO,
            1,
            ("train-ai=n (robots.txt)",),
        ),
        (plain("User-agent: GPTBot\nDisallow: /\n"), NO, 2, ("disallow gptbot (robots.txt)",)),
        (Response("", 404), plain('[{"location": "/", "tdm-reservation": 1}]'), 2, ("tdm-reservation (tdmrep.json)",)),
    ],
)
def test_tdmrep_is_asked_for_once_behind_robots_txt(
    tmp_path: Path, clock: Clock, robots: Response, file: Response, asked: int, said: tuple[str, ...]
) -> None:
    toy, told = opting(tmp_path, {at("/robots.txt"): robots, FILE: file}, clock)
    assert told == said
    assert [url for url, _ in toy.asked] == [at("/robots.txt"), FILE][:asked]


def test_a_crawl_that_keeps_no_opt_outs_asks_for_none(frontier: Frontier, clock: Clock) -> None:
    toy, book = Toy({at("/robots.txt"): NO}), Rulebook(frontier, "tundish-test", ())
    ask(book, toy)
    assert verdict(book, clock, "/yes") is None
    assert len(toy.asked) == 1


def test_where_robots_txt_failed_nothing_else_is_asked_for(tmp_path: Path, clock: Clock) -> None:
    toy, told = opting(tmp_path, {at("/robots.txt"): Response("", 500), FILE: NO}, clock)
    assert {url for url, _ in toy.asked} == {at("/robots.txt")}
    assert told == ()
