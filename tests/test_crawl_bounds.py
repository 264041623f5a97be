"""What bounds a crawl: scope by domain, host, prefix and SURT, budgets, floods, edits while it runs, worth of hosts."""

import asyncio
import json
import threading
import time
from pathlib import Path

import pytest

from tests.test_crawl import FREE, Pages, at, crawl, fate, log, page, run
from tundish.cluster import store
from tundish.cluster.local import Local
from tundish.cluster.wire import Request, Response, Toy
from tundish.operators.web.surt import address, prefixes, surt
from tundish.stages.crawl_edits import Scope
from tundish.stages.crawl_home import Home
from tundish.stages.crawl_keeper import Keeper
from tundish.stages.crawl_worth import Worth, keep_rates, worth_of
from tundish.stages.stage import Place


@pytest.mark.parametrize(
    ("named", "inside", "outside"),
    [
        ("heron.example", ["http://heron.example/", "https://a.heron.example:8443/x"], ["http://xheron.example/"]),
        ("example,heron", ["http://heron.example/", "http://b.heron.example/"], ["http://heronry.example/"]),
        ("http://(example,heron,)/docs/", ["https://heron.example/docs/a"], ["http://heron.example/doc"]),
        ("https://heron.example/docs/", ["http://heron.example/docs/"], ["http://a.heron.example/docs/"]),
        ("10.0.0.1", ["http://10.0.0.1/x"], ["http://10.0.0.10/"]),
    ],
)
def test_prefixes_name_a_part_of_the_web(named: str, inside: list[str], outside: list[str]) -> None:
    assert all(surt(url).startswith(prefixes(named)) for url in inside)
    assert not any(surt(url).startswith(prefixes(named)) for url in outside)


@pytest.mark.parametrize(
    ("seed", "url"),
    [
        ("heron.example", "https://heron.example/"),
        ("heron.example/docs/", "https://heron.example/docs/"),
        ("(example,heron,www,)/docs/", "https://www.heron.example/docs/"),
        ("http://(example,heron,)", "http://heron.example/"),
        ("http://heron.example/a,b)c", "http://heron.example/a,b)c"),
    ],
)
def test_seeds_are_addresses_hosts_and_prefixes(seed: str, url: str) -> None:
    assert crawl(seeds=(seed,)).rules.seeds == (url,)
    assert address(url) == url


def test_only_what_lies_within_is_fetched(tmp_path: Path) -> None:
    web: Pages = {
        at("/docs/"): page("/docs/a", "/blog/", "http://sora.example/x"),
        at("/docs/a"): page(),
        at("/blog/"): page(),
        "http://sora.example/x": page(),
    }
    made = run(web, tmp_path, seeds=(at("/docs/"),), within=(at("/docs/"), "sora.example"), hosts=("*",))
    assert fate(made)[at("/blog/")] == ("scope", "within")
    assert {url for url, (outcome, _) in fate(made).items() if outcome == "stored"} == {
        at("/docs/"),
        at("/docs/a"),
        "http://sora.example/x",
    }


def site(host: str, pages: int) -> Pages:
    urls = [f"http://{host}/{n}" for n in range(pages)]
    return {url: page(*urls, text=f"{host} {'abcdefghij'[n % 10] * (n + 1)}") for n, url in enumerate(urls)}


def test_hosts_and_domains_have_their_budgets(tmp_path: Path) -> None:
    web = site("a.heron.example", 20) | site("b.heron.example", 20) | site("sora.example", 20)
    seeds = ("http://a.heron.example/0", "http://b.heron.example/0", "http://sora.example/0")
    free = FREE | {"a.heron.example": 0.0, "b.heron.example": 0.0}
    made = run(web, tmp_path, seeds=seeds, per_host=7, per_domain=10, delays=free)
    found = [url.split("/")[2] for url, (outcome, _) in fate(made).items() if outcome == "stored"]
    assert found.count("sora.example") == 7
    assert max(found.count("a.heron.example"), found.count("b.heron.example")) <= 7
    assert found.count("a.heron.example") + found.count("b.heron.example") == 10
    assert {reason for outcome, reason in fate(made).values() if outcome == "budget"} == {"host", "domain"}


def test_a_flood_of_sub_domains_is_a_trap(tmp_path: Path) -> None:
    flood = {f"http://s{n}.heron.example/": page(f"http://s{n + 1}.heron.example/") for n in range(50)}
    free = FREE | {f"s{n}.heron.example": 0.0 for n in range(51)}
    made = run(flood, tmp_path, seeds=("http://s0.heron.example/",), hosts_per_domain=5, delays=free, depth=60)
    assert fate(made)["http://s5.heron.example/"] == ("trap", "hosts")
    assert made.rows == 5


def test_pages_that_differ_in_digits_alone_end_a_host(tmp_path: Path) -> None:
    def day(request: Request) -> Response:
        number = int(request.url.rpartition("=")[2])
        return page(f"/calendar?day={number + 1}", text=f"Nothing happens on day {number}.")

    class Endless(dict[str, Response]):
        def get(self, url: str, default: object = None) -> object:
            return day(Request(url)) if "calendar" in url else default

    made = run(Toy(Endless()), tmp_path, seeds=(at("/calendar?day=1"),), depth=10**6, sitemaps=False)
    assert 200 <= made.rows < 220
    assert ("trap", "sameness") in fate(made).values()
    free = run(Toy(Endless()), tmp_path / "b", seeds=(at("/calendar?day=1"),), depth=300, sitemaps=False, sameness=1.0)
    assert free.rows == 301


def test_the_scope_is_edited_while_it_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rules that are tightened hold for addresses that wait, and loosened ones bring back what was kept out."""
    monkeypatch.setattr("tundish.stages.crawl_keeper.EVERY_LOOK", 0.05)
    web = site("heron.example", 60) | {at("/0"): page(*[at(f"/{n}") for n in range(60)], at("/late/x"))}
    web[at("/late/x")] = page(text="Came in by an edit.")
    stage = crawl(seeds=(at("/0"),), exclude=("/late/",), delays={"heron.example": 0.02}, sitemaps=False)
    out = Place(str(tmp_path / stage.address), stage.fingerprint)
    toy, file = Toy(web), Path(out.uri) / "scope.json"

    def edit() -> None:
        while len(toy.asked) < 10:
            time.sleep(0.01)
        file.write_text("{no json")  # an editor in the midst of writing: nothing changes
        time.sleep(0.2)
        file.write_text(json.dumps({"include": [], "exclude": ["/[3-5][0-9]$"]}))

    hand = threading.Thread(target=edit)
    hand.start()
    made = stage.through(lambda: toy, Local(), out)
    hand.join()
    found = fate(made)
    assert found[at("/late/x")] == ("stored", None)
    assert ("scope", "exclude") in found.values()
    assert all(outcome == "stored" for url, (outcome, _) in found.items() if not url[-2:].isdigit())
    assert made.about["scope"] == {"include": [], "exclude": ["/[3-5][0-9]$"]}
    assert log(made)[at("/late/x")]["parent"] == at("/0")


def test_hosts_that_survive_the_filters_come_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One request at a time, no delay: the budget goes to the host of which earlier runs kept most."""
    monkeypatch.setattr("tundish.stages.crawl_keeper.FLYING", 1)
    hosts = ("heron.example", "sora.example", "kranich.test")
    web = {url: answer for host in hosts for url, answer in site(host, 30).items()}
    toy = Toy(web)
    stage = crawl(seeds=[f"http://{h}/0" for h in hosts], parts=1, pages=40, sitemaps=False)
    worth = worth_of({"sora.example": (95, 100), "kranich.test": (50, 100), "heron.example": (2, 100)})
    keeper = Keeper(0, stage.rules, Home(str(tmp_path)), lambda: toy, Scope(str(tmp_path)), worth)

    async def crawled() -> None:
        store.write_json(store.join(str(tmp_path), "scope.json"), {"include": [], "exclude": []})
        work = asyncio.create_task(keeper.work(lambda part, batch, rows: None))
        while keeper.status().done < 40:
            await asyncio.sleep(0.01)
        work.cancel()
        await keeper.close()

    asyncio.run(crawled())
    asked = [url.split("/")[2] for url, _ in toy.asked if url[-1].isdigit()]
    assert asked[:30] == ["sora.example"] * 30
    assert set(asked[30:40]) == {"kranich.test"}


def test_worth_is_counted_from_corpora_and_paces_hosts(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="holds no finished Corpus"):
        keep_rates([str(tmp_path)])
    worth = worth_of({"good.example": (90, 100), "bad.example": (1, 100)})
    assert worth.of("good.example") > worth.of("unknown.example") > worth.of("bad.example") > 0
    assert worth.of("good.example", same=1.0) < worth.of("unknown.example")
    assert (worth.pace("good.example"), worth.pace("unknown.example")) == (1.0, 1.0)
    assert 8 < worth.pace("bad.example") <= 10
    assert Worth({}).pace("anything") == 1.0
