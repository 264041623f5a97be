"""Whose turn it is: earliest time, worth, and not too many of one domain at once."""

from pathlib import Path

import pytest

from tests.test_crawl import FREE, at, crawl, log, page, run, stored
from tundish.cluster import store
from tundish.cluster.local import Local
from tundish.cluster.wire import Response, Toy
from tundish.stages import crawl_visit
from tundish.stages.crawl import home_of
from tundish.stages.crawl_agenda import CROWD, Agenda
from tundish.stages.crawl_edits import Scope
from tundish.stages.crawl_home import Home
from tundish.stages.stage import Place


def free(ranks: dict[int, float] | None = None) -> Agenda:
    return Agenda((ranks or {}).get if ranks else lambda _: 0.0, lambda _: None)  # type: ignore[arg-type]


def test_an_earlier_time_holds_and_a_later_one_does_not() -> None:
    agenda = free()
    assert [agenda.hold(1, 20.0), agenda.hold(1, 30.0), agenda.hold(1, 10.0), agenda.hold(2, 15.0)] == [
        True,
        False,
        True,
        True,
    ]
    assert agenda.soonest() == 10.0
    agenda.ripen(12.0)
    assert (agenda.next(), agenda.next(), agenda.soonest(), len(agenda)) == (1, None, 15.0, 2)
    assert not agenda.hold(1, 0.0)  # it is under way
    agenda.landed(1)
    agenda.ripen(50.0)  # its old entry for 20 is no turn
    assert (agenda.next(), agenda.next()) == (2, None)
    agenda.landed(2)
    assert (len(agenda), agenda.soonest()) == (0, None)


def test_the_worthiest_of_those_that_may_be_asked_comes_first() -> None:
    agenda = free({1: 0.2, 2: 0.9, 3: 0.5, 4: 1.0})
    for host, ready in ((1, 0.0), (2, 1.0), (3, 2.0), (4, 9.0)):
        agenda.hold(host, ready)
    agenda.ripen(5.0)
    assert [agenda.next(), agenda.next(), agenda.next(), agenda.next()] == [2, 3, 1, None]


def test_few_hosts_of_a_domain_are_asked_at_once() -> None:
    agenda = Agenda(lambda _: 0.0, lambda host: "crowd" if host < 50 else None)
    for host in range(60):
        agenda.hold(host, 0.0)
    agenda.ripen(1.0)
    first = [host for host in iter(agenda.next, None)]
    assert (sum(host < 50 for host in first), sum(host >= 50 for host in first)) == (CROWD, 10)
    seen = set(first)
    while len(agenda):
        host = next(iter(first))
        first.remove(host)
        agenda.landed(host)
        for more in iter(agenda.next, None):
            assert more not in seen
            seen.add(more)
            first.append(more)
        assert sum(host < 50 for host in first) <= CROWD
    assert seen == set(range(60))
    assert (agenda.crowded, len(agenda.under_way)) == ({}, 0)


def test_a_new_address_does_not_wait_for_another_ones_retry(tmp_path: Path) -> None:
    """/broken is to be tried again in 5 s; what kranich.test names meanwhile on the same host is asked before that."""
    toy = Toy(
        {
            at(): page("/broken"),
            at("/broken"): Response("", 500, (("Retry-After", "2"),)),
            "http://kranich.test/": page("/1"),
            "http://kranich.test/1": page(at("/new")),
            at("/new"): page(),
        }
    )
    stage = crawl(seeds=(at(), "http://kranich.test/"), delays={**FREE, "kranich.test": 0.3}, parts=1, sitemaps=False)
    made = stage.through(lambda: toy, Local(), Place(str(tmp_path / "c"), stage.fingerprint))
    asked = [url for url, _ in toy.asked]
    assert at("/new") in stored(made)
    second = [n for n, url in enumerate(asked) if url == at("/broken")][1]
    assert asked.index(at("/new")) < second


def test_a_crawl_ends_after_its_hours(tmp_path: Path) -> None:
    """A host that wants to be left alone for an hour does not hold the others' pages back."""
    web = {
        at(): page("/busy", "/more"),
        at("/busy"): Response("", 503, (("Retry-After", "3600"),)),
        at("/more"): page(),
    }
    told = log(run(Toy(web), tmp_path, hours=2 / 3600, sitemaps=False))
    assert told[at()]["outcome"] == "stored"
    assert {told[at("/busy")]["outcome"], told[at("/more")]["outcome"]} <= {"budget", "stored"}
    assert "budget" in {told[at("/busy")]["outcome"], told[at("/more")]["outcome"]}


@pytest.mark.parametrize("given", [{"delays": {"http://heron.example": 0}}, {"delays": {"heron.example:80": 0}},
                                   {"hosts": ("https://kranich.test/",)}, {"hosts": ("bücher.example",)}])  # fmt: skip
def test_a_name_that_can_never_match_is_refused(given: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"is no name of a host, without scheme and port"):
        crawl(**given).check()
    crawl(hosts=("*", "xn--bcher-kva.example", "KRANICH.test", "192.0.2.7"), delays={"localhost": 0}).check()


@pytest.mark.parametrize("text", ['{"include": [], "exclude": "/a"}', "[]", "{", '{"include": ["("], "exclude": []}'])
def test_a_scope_that_cannot_be_read_changes_nothing_to_the_end(tmp_path: Path, text: str) -> None:
    stage = crawl(exclude=("/no",), sitemaps=False)
    uri = str(tmp_path / stage.address)

    def spoil(_: object) -> Response:
        store.write(store.join(uri, "scope.json"), text.encode())
        return page("/no/a", "/b")

    web = Toy({at(): spoil, at("/b"): page(), at("/no/a"): page()})
    made = stage.through(lambda: web, Local(), Place(uri, stage.fingerprint))
    assert stored(made) == [at(), at("/b")]
    assert made.about["scope"] == {"include": [], "exclude": ["/no"]}


def test_a_look_at_the_scope_that_fails_is_no_edit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def away(_: str) -> object:
        raise OSError("503 Slow Down")

    monkeypatch.setattr(store, "info", away)
    assert Scope(str(tmp_path)).stamp((1, 2)) == (1, 2)


def test_a_sitemap_that_is_cut_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crawl_visit, "SITEMAP_BYTES", 200)
    urls = "".join(f"<url><loc>{at(f'/{n}')}</loc></url>" for n in range(9))
    xml = Response("", 200, (("Content-Type", "text/xml"),), f"<urlset>{urls}</urlset>".encode())
    made = run({at(): page(), at("/sitemap.xml"): xml, at("/0"): page()}, tmp_path)
    assert log(made)[at("/sitemap.xml")]["reason"] == "truncated"
    assert at("/0") in stored(made)


class Nodes(Local):
    nodes = 2


def test_a_crawl_goes_on_where_its_state_is(tmp_path: Path) -> None:
    out = Place(str(tmp_path / "c"), "key")
    one = home_of(Local(), out)
    assert one.kept is None
    many = home_of(Nodes(), out)
    many.enter(0)
    assert home_of(Local(), out) == many  # checkpoints are there: whoever goes on begins from them
    many.remove()
    store.write(str(tmp_path / "c" / "keepers" / "00" / "frontier.sqlite"), b"x")
    assert home_of(Local(), out) == one
    with pytest.raises(ValueError, match="was begun on one machine"):
        home_of(Nodes(), out)


def test_a_kill_between_epoch_and_pointer_is_gone_on_from(tmp_path: Path) -> None:
    home = Home(str(tmp_path / "node"), str(tmp_path / "kept"))
    home.path(0).mkdir(parents=True)
    store.write_json(str(home.path(0) / "epoch.json"), 0)
    assert home.enter(0) == (home.path(0), False)
    assert home._owned(0)["epoch"] == 0
