"""Crawl on a web in a dictionary: what is fetched, what is not and why, in which order, and what a kill leaves."""

import gzip
import io
import re
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import zstandard

from tundish.cluster import store
from tundish.cluster.local import Local
from tundish.cluster.shards import Dataset, opened
from tundish.cluster.wire import Request, Response, Toy
from tundish.operators.web.warc import Capture, captures
from tundish.stages import crawl_turn
from tundish.stages.crawl import Crawl
from tundish.stages.crawl_visit import read
from tundish.stages.stage import Place

AGENT = "tundish-test/1 (+https://heron.example/bot)"
HTML = (("Content-Type", "text/html; charset=utf-8"),)
HOSTS = ("heron.example", "kranich.test", "sora.example", "www.setun.invalid", "a.kingfisher.example")
SEEDS = tuple(f"http://{host}/0" for host in HOSTS)
FREE = dict.fromkeys(HOSTS, 0.0)
Pages = dict[str, Response | Callable[[Request], Response]]


def page(*links: str, text: str = "A page.", headers: tuple[tuple[str, str], ...] = HTML, head: str = "") -> Response:
    anchors = "".join(f'<a href="{link}">on</a>' for link in links)
    return Response("", 200, headers, f"<html><head>{head}</head><body><p>{text}</p>{anchors}</body></html>".encode())


def moved(to: str, status: int = 301) -> Response:
    return Response("", status, (("Location", to),))


def plain(text: str, mime: str = "text/plain") -> Response:
    return Response("", 200, (("Content-Type", mime),), text.encode())


def crawl(**fields: object) -> Crawl:
    given = {"seeds": ("http://heron.example/",), "agent": AGENT, "as_of": "2026-11-21", "delays": FREE}
    return Crawl(**{**given, **fields})  # type: ignore[arg-type]


def run(web: Toy | Pages, folder: Path, **fields: object) -> Dataset:
    toy = web if isinstance(web, Toy) else Toy(web)
    stage = crawl(**fields)
    return stage.through(lambda: toy, Local(), Place(str(folder / stage.address), stage.fingerprint))


def log(dataset: Dataset) -> dict[str, dict[str, object]]:
    found = opened(store.join(dataset.uri, "log"))
    assert found is not None
    rows = found.table().to_pylist()
    assert len({row["url"] for row in rows}) == len(rows), "an address has two rows"
    return {row["url"]: row for row in rows}


def fate(dataset: Dataset) -> dict[str, tuple[object, object]]:
    return {url: (row["outcome"], row["reason"]) for url, row in log(dataset).items() if row["kind"] == "page"}


def stored(dataset: Dataset) -> list[str]:
    """URLs in the archives, read back from their bytes."""
    found = []
    for name in dataset.names:
        with store.opened(dataset.path(name)) as stream:
            kept = list(captures(io.BytesIO(stream.read())))
        assert all(isinstance(one, Capture) for one in kept)
        assert len(kept) == dataset.shard(name).rows
        found += [one.url for one in kept]
    return sorted(found)


def at(path: str = "/") -> str:
    return f"http://heron.example{path}"


def test_pages_are_stored_once_and_everything_met_has_a_row(tmp_path: Path) -> None:
    web: Pages = {
        at(): page("/a", "/a#top", "HTTP://Heron.Example:80/b/../a", "/b?utm_source=x", "/gone", "mailto:x@y.z"),
        at("/a"): page("/", "/b"),
        at("/b"): page("http://elsewhere.invalid/x", "/a"),
    }
    made = run(web, tmp_path)
    assert stored(made) == [at(), at("/a"), at("/b")]
    assert fate(made) == {
        at(): ("stored", None),
        at("/a"): ("stored", None),
        at("/b"): ("stored", None),
        at("/gone"): ("error", "status_404"),
        "http://elsewhere.invalid/x": ("scope", "domain"),
    }
    assert made.about["kind"] == "archives"
    assert made.rows == made.about["counts"]["stored"] == 3
    assert made.about["counts"]["error:status_404"] == 1
    assert log(made)[at("/gone")]["parent"] == at()
    assert not (Path(made.uri) / "keepers").exists()


def test_the_log_says_where_an_answer_lies(tmp_path: Path) -> None:
    made = run({at(): page("/a"), at("/a"): page(text="Second.")}, tmp_path)
    row = log(made)[at("/a")]
    with open(Path(made.uri) / str(row["archive"]), "rb") as stream:
        [capture] = captures(stream, start=int(str(row["offset"])), records=1)
    assert isinstance(capture, Capture)
    assert (capture.url, capture.offset, capture.status) == (at("/a"), row["offset"], 200)
    assert b"Second." in capture.payload


def frames(body: bytes) -> bytes:
    return zstandard.ZstdDecompressor().stream_reader(body, read_across_frames=True).read()


@pytest.mark.parametrize("form", ["zst", "gz"])
def test_archives_are_of_the_form_that_is_wished(form: str, tmp_path: Path) -> None:
    made = run({at(): page("/a"), at("/a"): page()}, tmp_path, archive=form)
    assert stored(made) == [at(), at("/a")]
    bodies = [store.read(made.path(name)) for name in made.names]
    assert all(made.path(name).endswith(f".warc.{form}") for name in made.names)
    assert b"".join(map(gzip.decompress if form == "gz" else frames, bodies)).count(b"WARC-Type: request\r\n") == 2


def test_request_and_response_are_kept_as_they_went(tmp_path: Path) -> None:
    packed = gzip.compress(b"<p>packed</p><a href='/b'>b</a>", mtime=0)
    web: Pages = {
        at(): Response("", 200, (*HTML, ("Content-Encoding", "gzip"), ("Transfer-Encoding", "chunked")), packed),
        at("/b"): page(),
    }
    made = run(web, tmp_path)
    assert stored(made) == [at(), at("/b")]  # the link inside the packed page was found
    raw = b"".join(frames(store.read(made.path(name))) for name in made.names)
    assert packed in raw
    assert b"GET / HTTP/1.1\r\nHost: heron.example\r\nUser-Agent: " + AGENT.encode() in raw
    assert b"X-Crawler-Transfer-Encoding: chunked" in raw


def test_redirects_re_enter_the_frontier(tmp_path: Path) -> None:
    chain: Pages = {at(f"/chain/{n}"): moved(f"/chain/{n + 1}", 302) for n in range(9)}
    web: Pages = {
        at("/robots.txt"): plain("User-agent: *\nDisallow: /secret\n"),
        at(): page("/old", "/loop/a", "/self", "/to-secret", "/chain/0", "/away", "/nowhere"),
        at("/old"): moved("/new"),
        at("/new"): page(),
        at("/loop/a"): moved("/loop/b"),
        at("/loop/b"): moved("/loop/a"),
        at("/self"): moved("/self"),
        at("/to-secret"): moved("/secret"),
        at("/secret"): page(),
        at("/away"): moved("http://elsewhere.invalid/"),
        at("/nowhere"): moved("ftp://heron.example/"),
        **chain,
    }
    made = run(web, tmp_path)
    found = fate(made)
    assert stored(made) == [at(), at("/new")]
    assert found[at("/old")] == ("redirect", None)
    assert log(made)[at("/old")]["target"] == at("/new")
    assert sorted([found[at("/loop/a")], found[at("/loop/b")]], key=str) == [("redirect", "loop"), ("redirect", None)]
    assert found[at("/self")] == ("redirect", "loop")
    assert found[at("/secret")] == ("forbidden", "robots")
    assert found[at("/chain/5")] == ("redirect", "too_many_hops")
    assert at("/chain/6") not in found
    assert found["http://elsewhere.invalid/"] == ("scope", "domain")
    assert found[at("/nowhere")] == ("error", "bad_location")


def test_sitemaps_lead_to_pages_nobody_links(tmp_path: Path) -> None:
    def urlset(*pages: str) -> bytes:
        return ("<urlset>" + "".join(f"<url><loc>{p}</loc></url>" for p in pages) + "</urlset>").encode()

    index = f"<sitemapindex><sitemap><loc>{at('/deep.xml.gz')}</loc></sitemap></sitemapindex>"
    web: Pages = {
        at("/robots.txt"): plain(f"User-agent: *\nDisallow:\nSitemap: {at('/index.xml')}\n"),
        at("/index.xml"): plain(index, "application/xml"),
        at("/deep.xml.gz"): Response("", 200, (), gzip.compress(urlset(at("/hidden"), "http://elsewhere.invalid/"))),
        at("/sitemap.xml"): Response("", 200, (("Content-Type", "text/xml"),), urlset(at("/known"))),
        at(): page(),
        at("/hidden"): page("/further"),
        at("/further"): page(),
        at("/known"): page(),
    }
    made = run(web, tmp_path)
    assert stored(made) == [at(), at("/further"), at("/hidden"), at("/known")]
    assert log(made)[at("/hidden")]["parent"] == at("/deep.xml.gz")
    assert log(made)[at("/deep.xml.gz")]["outcome"] == "sitemap"
    assert stored(run(web, tmp_path, sitemaps=False)) == [at()]


def test_a_large_sitemap_is_read_beside_the_event_loop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A hostile one takes seconds, in which the other hosts of the keeper want their turn."""
    threads: dict[str, str] = {}

    def spied(answer: Response, *rest: Any) -> Any:
        threads[answer.url] = threading.current_thread().name
        return read(answer, *rest)

    monkeypatch.setattr(crawl_turn, "read", spied)
    urls = "".join(f"<url><loc>{at(f'/{n}')}</loc></url>" for n in range(3))
    large = f"<urlset><!--{'-' * crawl_turn.LARGE}-->{urls}</urlset>".encode()
    xml = (("Content-Type", "text/xml"),)
    web: Pages = {at(): page(), at("/sitemap.xml"): Response("", 200, xml, large)}
    made = run(web | {at(f"/{n}"): page(text=str(n)) for n in range(3)}, tmp_path)
    assert stored(made) == [at(), at("/0"), at("/1"), at("/2")]
    main = threading.current_thread().name
    assert threads[at()] == main != threads[at("/sitemap.xml")]


def test_scope_is_the_domains_of_the_seeds_and_the_hosts_named(tmp_path: Path) -> None:
    web: Pages = {
        at(): page("http://www.heron.example/", "http://kranich.test/", "http://sora.example/", "/x.zip", "/keep/x"),
        "http://www.heron.example/": page(),
        "http://kranich.test/": page(),
        "http://sora.example/": page(),
        at("/x.zip"): page(),
        at("/keep/x"): page(),
    }
    delays = FREE | {"www.heron.example": 0.0}
    made = run(web, tmp_path, hosts=("kranich.test",), exclude=(r"\.zip$",), delays=delays)
    assert stored(made) == sorted([at(), at("/keep/x"), "http://kranich.test/", "http://www.heron.example/"])
    assert fate(made)["http://sora.example/"] == ("scope", "domain")
    assert fate(made)[at("/x.zip")] == ("scope", "exclude")
    made = run(web, tmp_path, include=("/keep/",), delays=delays)
    assert stored(made) == [at(), at("/keep/x")]


def test_endless_addresses_end(tmp_path: Path) -> None:
    def calendar(request: Request) -> Response:
        month = int(request.url.rpartition("=")[2])
        return page(f"/calendar?month={month + 1}")

    web: Pages = {at(f"/calendar?month={n}"): calendar for n in range(100)}
    older = ["/archive/" + "older/" * n for n in range(8)]
    web |= {at(path): page("older/") for path in older}
    web[at()] = page("/calendar?month=0", "/archive/")
    made = run(web, tmp_path, depth=5)
    found = fate(made)
    assert found[at("/calendar?month=4")] == ("stored", None)
    assert found[at("/calendar?month=5")] == ("depth", "depth")
    assert at("/calendar?month=6") not in found
    assert found[at(older[2])] == ("stored", None)
    assert found[at(older[3])] == ("trap", "repeated_segment")


def test_a_shorter_way_found_later_counts(tmp_path: Path) -> None:
    """The last page lies 3 links deep by one way and 2 by another that is answered later."""

    def late(request: Request) -> Response:
        time.sleep(0.02)
        return page("http://heron.example/end")

    web: Pages = {
        at(): page("/1"),
        at("/1"): page("/2"),
        at("/2"): page("/end"),
        at("/end"): page(),
        "http://kranich.test/": page("/x"),
        "http://kranich.test/x": late,
    }
    for seeds in ((at(),), (at(), "http://kranich.test/")):
        made = run(web, tmp_path, seeds=seeds, depth=2)
        assert (fate(made)[at("/end")] == ("stored", None)) == (len(seeds) == 2)


def test_a_crawl_of_nothing_is_refused_with_the_reasons_and_can_be_tried_again(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"stored no page \(top outcomes: error:status_404 1\)"):
        run({}, tmp_path)
    assert stored(run({at(): page()}, tmp_path)) == [at()]


def test_bodies_are_cut_and_said_to_be(tmp_path: Path) -> None:
    made = run({at(): page(text="x" * 5000)}, tmp_path, max_bytes=2000)
    with store.opened(made.path(made.names[0])) as stream:
        [capture] = captures(io.BytesIO(stream.read()))
    assert isinstance(capture, Capture)
    assert capture.truncated
    assert len(capture.payload) == 2000


def many(hosts: int = 5, pages: int = 40) -> Pages:
    """Hosts of several registrable domains, every page linking its neighbours here and on the next host."""
    web: Pages = {}
    names = HOSTS[:hosts]
    for h, host in enumerate(names):
        for n in range(pages):
            there = f"http://{names[(h + 1) % hosts]}/{(n * 7 + 3) % pages}"
            web[f"http://{host}/{n}"] = page(
                f"/{(n * 3 + 1) % pages}", there, f"/{(n + 1) % pages}", text=f"{host} {n}"
            )
    return web


def test_links_cross_parts_and_two_crawls_agree(tmp_path: Path) -> None:
    web, seeds = many(), SEEDS
    assert len({crawl(seeds=seeds).rules.part(seed) for seed in seeds}) > 1
    one = run(web, tmp_path / "one", seeds=seeds)
    two = run(web, tmp_path / "two", seeds=seeds)
    other = run(web, tmp_path / "other", seeds=seeds, parts=1)
    assert stored(one) == stored(two) == stored(other) == sorted(web)
    assert fate(one) == fate(two) == fate(other)
    assert {n.rpartition("-")[0] for n in other.names} == {"part-00"}


def test_the_budget_is_kept_to_the_page(tmp_path: Path) -> None:
    web, seeds = many(), SEEDS
    for pages in (1, 37):
        made = run(web, tmp_path, seeds=seeds, pages=pages)
        assert len(stored(made)) == made.rows == pages
        counts = Counter(outcome for outcome, _ in fate(made).values())
        assert counts["stored"] == pages
        assert counts["budget"] > 0
    assert run(web, tmp_path, seeds=seeds, sample=5).rows == 5


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"seeds": ("a b",)}, "is no URL"),
        ({"within": ("heron example",)}, "names no part of the web"),
        ({"archive": "zip"}, "it is 'zst', or 'gz'"),
        ({"per_host": 0}, "Crawl.per_host is 0"),
        ({"seeds": ()}, "Crawl.seeds is empty"),
        ({"seeds": ("ftp://heron.example/",)}, "not http or https"),
        ({"agent": "bot"}, "nobody could write to it"),
        ({"agent": "Mozilla/5.0"}, "nobody could write to it"),
        ({"agent": "bot9/1 (a@b.example)"}, "no robots.txt can name"),
        ({"agent": "bot/1 (a@b.example)\r\nX: y"}, "nobody could write to it"),
        ({"as_of": "today"}, "write the day of the crawl"),
        ({"delay": 0.0}, "name them in Crawl.delays"),
        ({"delays": {"heron.example": -1.0}}, "at least 0"),
        ({"pages": 0}, "Crawl.pages is 0"),
        ({"exclude": ("(",)}, "no regular expression"),
    ],
)
def test_mistakes_are_refused_in_one_sentence(fields: dict[str, object], sentence: str) -> None:
    with pytest.raises(ValueError, match=re.escape(sentence)):
        crawl(**fields)
