"""A crawl fetches the same addresses in whatever order it comes to know of them."""

import random
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.test_crawl import HOSTS, HTML, Pages, at, crawl, fate, log, moved, page, plain, run, stored
from tundish.cluster.local import Local
from tundish.cluster.wire import Request, Response, Toy
from tundish.stages.crawl_archive import Archive, answer_of, response_bytes
from tundish.stages.crawl_frontier import Frontier
from tundish.stages.crawl_scope import Found
from tundish.stages.stage import Place

OTHER = "http://kranich.test/"


def slow(host: str, pages: Pages) -> Toy:
    """A web of which one host answers late, while the others go on."""

    @dataclass
    class Uneven(Toy):
        async def fetch(self, request: Request, *, cap: int) -> Response:
            self.seconds = 0.1 if request.url.startswith(host) else 0.0
            return await super().fetch(request, cap=cap)

    return Uneven(pages)


def chain(*ways: str) -> Pages:
    """Pages that link each the next one."""
    return {at(way): page(*ways[n + 1 : n + 2], text=way) for n, way in enumerate(ways)}


@pytest.mark.parametrize("parts", [1, 4])
@pytest.mark.parametrize("last", ["http://heron.example", OTHER])
def test_what_lies_behind_a_page_is_reached_when_a_shorter_way_to_it_is_found(
    tmp_path: Path, parts: int, last: str
) -> None:
    """/3 lies 3 links deep by its own host and 1 by the other; /5 is in reach by that one only."""
    web = chain("/", "/1", "/2", "/3", "/4", "/5", "/6") | {OTHER: page(at("/3"))}
    toy = slow(last, web)
    made = run(toy, tmp_path, seeds=(at(), OTHER), depth=3, parts=parts)
    assert stored(made) == sorted([OTHER, *(at(way) for way in ("/", "/1", "/2", "/3", "/4", "/5"))])
    assert fate(made)[at("/6")] == ("depth", "depth")
    assert {url: log(made)[url]["depth"] for url in (at("/3"), at("/4"), at("/6"))} == {
        at("/3"): 1,
        at("/4"): 2,
        at("/6"): 4,
    }
    assert len([url for url, _ in toy.asked if url == at("/3")]) == 1  # its links were read from the archive


def test_a_shorter_way_counts_beyond_redirects(tmp_path: Path) -> None:
    web = chain("/", "/1", "/2") | {at("/2"): page("/old"), at("/old"): moved("/new"), OTHER: page(at("/old"))}
    web |= {at("/new"): page("/end"), at("/end"): page()}
    made = run(slow(OTHER, web), tmp_path, seeds=(at(), OTHER), depth=3)
    assert fate(made)[at("/end")] == ("stored", None)


def test_a_page_behind_many_redirects_is_reached_by_a_link(tmp_path: Path) -> None:
    """The sixth redirect of a row is not followed, until a page that comes later links into the row."""
    row: Pages = {at(f"/chain/{n}"): moved(f"/chain/{n + 1}", 302) for n in range(8)}
    web = {at(): page("/chain/0"), at("/chain/8"): page("/end"), at("/end"): page(), OTHER: page("/x"), **row}
    made = run(slow(OTHER, web), tmp_path / "none", seeds=(at(), OTHER))
    assert fate(made)[at("/chain/5")] == ("redirect", "too_many_hops")
    assert at("/chain/6") not in fate(made)
    web[f"{OTHER}x"] = page(at("/chain/5"))
    made = run(slow(OTHER, web), tmp_path / "one", seeds=(at(), OTHER))
    assert fate(made)[at("/chain/5")] == ("redirect", None)
    assert fate(made)[at("/end")] == ("stored", None)
    assert log(made)[at("/chain/8")]["depth"] == 1  # that way is the shorter one, whatever the hops


def test_an_address_closed_for_its_hops_is_opened_by_a_direct_link(tmp_path: Path) -> None:
    frontier = Frontier(tmp_path / "f.sqlite", crawl().rules)
    part = frontier.rules.part(at())
    assert frontier.admit(Found(at("/a"), 1, at(), 6), part) is None
    assert [row[5:7] for row in frontier.log()] == [("redirect", "too_many_hops")]
    host = frontier.admit(Found(at("/a"), 2, at("/b"), 0), part)
    assert host is not None
    assert frontier.queued == 1
    row = frontier.next(host, time.time())
    assert row is not None
    assert (row.url, row.depth, row.hops) == (at("/a"), 1, 0)


@pytest.mark.parametrize("seconds", [0.0, 0.1])
def test_a_sitemap_linked_as_a_page_is_read_as_a_sitemap_too(tmp_path: Path, seconds: float) -> None:
    """It is named by the robots.txt of another host, before or after it was stored as the page a link made of it."""
    listed = f"<urlset><url><loc>{at('/hidden')}</loc></url></urlset>"
    web: Pages = {
        at(): page("/map.xml"),
        at("/map.xml"): plain(listed, "application/xml"),
        at("/hidden"): page(),
        OTHER: page(),
        f"{OTHER}robots.txt": plain(f"User-agent: *\nDisallow:\nSitemap: {at('/map.xml')}\n"),
    }
    toy = slow(OTHER if seconds else "nobody", web)
    stage = crawl(seeds=(at(), OTHER))
    made = stage.through(lambda: toy, Local(), Place(str(tmp_path), stage.fingerprint))
    assert stored(made) == sorted([at(), at("/hidden"), at("/map.xml"), OTHER])
    assert [url for url, _ in toy.asked].count(at("/map.xml")) == 2


def test_a_sitemap_found_nearer_names_its_sitemaps_again(tmp_path: Path) -> None:
    """Sitemaps nest three deep: the fifth in a row is read only because robots.txt of another host names the third."""
    ways = [at(f"/s{n}.xml") for n in range(5)]
    index = "<sitemapindex><sitemap><loc>{}</loc></sitemap></sitemapindex>"
    web: Pages = {way: plain(index.format(ways[n + 1]), "application/xml") for n, way in enumerate(ways[:-1])}
    web |= {
        at("/robots.txt"): plain(f"Sitemap: {ways[0]}\n"),
        ways[4]: plain(f"<urlset><url><loc>{at('/hidden')}</loc></url></urlset>", "application/xml"),
        at(): page(),
        at("/hidden"): page(),
    }
    assert stored(run(web, tmp_path / "none")) == [at()]
    web |= {OTHER: page(), f"{OTHER}robots.txt": plain(f"Sitemap: {ways[2]}\n")}
    made = run(slow(OTHER, web), tmp_path / "two", seeds=(at(), OTHER))
    assert stored(made) == sorted([at(), at("/hidden"), OTHER])


def tangled(seed: int, hosts: int = 4, pages: int = 18) -> Pages:
    """Hosts that link each other at random, a third of their addresses redirects."""
    choice = random.Random(seed)
    names = [f"http://{host}/{n}" for host in HOSTS[:hosts] for n in range(pages)]
    web: Pages = {}
    for n, name in enumerate(names):
        one, two = choice.choice(names), names[(n + 1) % len(names)]
        web[name] = moved(choice.choice([one, two])) if choice.random() < 0.3 else page(one, two, text=name)
    return web


@pytest.mark.parametrize("seed", range(3))
def test_the_pages_of_a_crawl_do_not_hang_on_what_comes_first(tmp_path: Path, seed: int) -> None:
    web = tangled(seed)
    seeds = tuple(f"http://{host}/0" for host in HOSTS[:4])
    one = run(web, tmp_path / "one", seeds=seeds, depth=4, parts=1, sitemaps=False)
    deep = {url: (row["outcome"], row["depth"]) for url, row in log(one).items()}
    assert 0 < sum(outcome == "depth" for outcome, _ in deep.values()) < len(deep)
    for host in HOSTS[:2]:
        other = run(slow(f"http://{host}/", web), tmp_path / host, seeds=seeds, depth=4, sitemaps=False)
        assert {url: (row["outcome"], row["depth"]) for url, row in log(other).items()} == deep
        assert stored(other) == stored(one)


def test_what_was_to_be_told_again_is_not_forgotten_by_a_crash(tmp_path: Path) -> None:
    rules = crawl(depth=3).rules
    frontier = Frontier(tmp_path / "f.sqlite", rules)
    part = frontier.rules.part(at())
    host = frontier.admit(Found(at("/a"), 3, at()), part)
    assert host is not None
    row = frontier.next(host, time.time())
    assert row is not None
    frontier.finish(row, "stored", archive="archive-0000.warc.zst", offset=7, size=9)
    frontier.admit(Found(at("/a"), 1, at("/b")), part)
    frontier.commit([])
    frontier.close()
    again = Frontier(tmp_path / "f.sqlite", rules)
    assert again.behind == 1
    one = again.nearer()
    assert one is not None
    assert (one.row.depth, one.archive, one.offset, one.size) == (1, "archive-0000.warc.zst", 7, 9)
    assert (again.behind, again.nearer()) == (0, None)


def test_an_answer_is_read_back_as_it_was(tmp_path: Path) -> None:
    archive = Archive(tmp_path, [], {"software": "test"})
    twice = (*HTML, ("X-Robots-Tag", "a: nofollow"), ("X-Robots-Tag", "noindex"), ("X-Empty", ""))
    given = [Response(at(f"/{n}"), 200, twice, b"\r\n\r\nbody \xff" * n) for n in range(3)]
    kept = [archive.append(Request(one.url), one, "2026-11-21T00:00:00Z") for one in given]
    for one, place in zip(given, kept, strict=True):
        back = archive.answer(one.url, *place[:3])
        assert (back.status, back.headers, back.body) == (200, twice, one.body)
    assert answer_of("u", b"WARC/1.1\r\nContent-Length: 999\r\n\r\n" + response_bytes(given[1])).body == given[1].body
    archive.close()
