"""What hostile sites do to a crawl: addresses without end, farms of links and hosts, waits without end."""

import re
import zlib
from pathlib import Path
from typing import Any

import pytest

from tests.test_crawl import at, fate, page, plain, run, stored
from tests.threats import Endless, ends
from tundish.cluster.wire import Response, Toy
from tundish.stages.crawl_manners import retry_after

__all__ = ["ends"]  # the fixture of all tests here
pytestmark = pytest.mark.usefixtures("ends")


def test_a_tree_without_end_ends_with_its_budget(tmp_path: Path) -> None:
    """Every address leads to two new ones: session ids that no rule knows."""

    def make(url: str) -> Response:
        mark = zlib.crc32(url.encode())
        return page(f"/v{mark:x}/a", f"/v{mark:x}/b", text=url)

    toy = Toy(Endless(at(), make, {"http://kranich.test/": page()}))
    made = run(toy, tmp_path, per_host=40, seeds=(at(), "http://kranich.test/"))
    assert len(stored(made)) == 41
    assert "http://kranich.test/" in stored(made)


def test_a_calendar_is_left_when_its_pages_are_one_page(tmp_path: Path) -> None:
    def make(url: str) -> Response:
        n = int(re.findall(r"\d+", url)[-1]) if url != at() else 0
        return page(f"/calendar?day={n + 1}", f"/calendar?day={n - 1}" if n else "/", text=f"Nothing on day {n}.")

    toy = Toy(Endless(at(), make, {}))
    made = run(toy, tmp_path, depth=5000)
    assert len(stored(made)) < 600
    assert ("trap", "sameness") in fate(made).values()


def test_paths_that_repeat_and_queries_that_grow_are_traps(tmp_path: Path) -> None:
    traps = ("/a/b/a/b/a/b/", "/" + "/".join(map(str, range(25))), "/x?" + "&".join(f"p{n}={n}" for n in range(12)))
    web = Endless(at("/"), lambda url: page(*traps), {})
    made = run(Toy(web), tmp_path)
    assert {outcome for url, (outcome, _) in fate(made).items() if url != at()} == {"trap"}


def test_a_page_of_ten_thousand_links_gives_a_thousand(tmp_path: Path) -> None:
    web = {at(): page(*(f"/{n}" for n in range(10_000)))}
    assert len(fate(run(web, tmp_path, depth=0))) == 1001


def test_a_farm_of_sub_domains_is_one_domain(tmp_path: Path) -> None:
    farm = [f"http://h{n}.heron.example/" for n in range(1000)]
    made = run({at(): page(*farm)}, tmp_path, hosts_per_domain=20, pages=1)
    taken = [url for url, why in fate(made).items() if why != ("trap", "hosts")]
    assert len(taken) <= 20


def test_a_page_brings_64_new_hosts_at_most(tmp_path: Path) -> None:
    farm = [f"http://a{n}.h{n}.example/" for n in range(900)]
    toy = Toy({at(): page(*farm)})
    made = run(toy, tmp_path, hosts=("*",), pages=1)
    taken = [url for url, (outcome, _) in fate(made).items() if outcome != "trap"]
    assert len(taken) <= 1 + 64


@pytest.mark.parametrize("value", ["1000000000", "9" * 5000, "-1", "1e9", "Fri, 31 Dec 9999 23:59:59 GMT", "²", "inf"])
def test_no_retry_after_is_longer_than_a_day(value: str) -> None:
    wait = retry_after(value, 0.0)
    assert wait is None or 0 <= wait <= 86_400


@pytest.mark.parametrize("value", ["1e9", "inf", "1" * 400, "86401"])
def test_a_crawl_delay_that_stops_a_crawl_stops_that_host_alone(tmp_path: Path, value: str) -> None:
    web: dict[str, Any] = {at("/robots.txt"): plain(f"User-agent: *\nCrawl-delay: {value}\n"), at(): page()}
    web["http://kranich.test/"] = page()
    made = run(web, tmp_path, seeds=(at(), "http://kranich.test/"))
    assert "http://kranich.test/" in stored(made)
    assert fate(made)[at()] in {("forbidden", "crawl_delay"), ("stored", None)}
