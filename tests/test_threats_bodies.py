"""What hostile bodies do to a crawl: bombs, pages made for parsers, names and characters that mean something else."""

import gzip
import re
import tracemalloc
from pathlib import Path
from typing import Any

import brotli
import pytest
import zstandard

from tests.site_server import NOTHING, Asked, Said, answer, served
from tests.test_crawl import HTML, at, fate, log, page, plain, run, stored
from tests.threats import Endless, MiB, body, ends, kept, over
from tundish.cluster.wire import Request, Response, Toy
from tundish.operators.web.message import CAP
from tundish.stages.crawl_frontier import SITEMAPS

__all__ = ["ends"]  # the fixture of all tests here
pytestmark = pytest.mark.usefixtures("ends")


def bombs() -> dict[str, bytes]:
    """Coding -> a few kilobytes or a megabyte that become 256 MiB."""
    zeros = bytes(256 * MiB)
    return {
        "gzip": gzip.compress(zeros, 9),
        "br": brotli.compress(zeros, quality=1, lgwin=24),
        "zstd": zstandard.ZstdCompressor(level=1).compress(zeros),
    }


BOMBS = bombs()


@pytest.mark.parametrize("coding", sorted(BOMBS))
@pytest.mark.parametrize("what", ["/page", "/robots.txt", "/sitemap.xml"])
def test_a_bomb_is_stopped_at_the_cap(tmp_path: Path, coding: str, what: str) -> None:
    headers = (("Content-Type", "text/html"), ("Content-Encoding", coding))
    web: dict[str, Any] = {at(): page("/page", "/fine"), at("/fine"): page(), at("/page"): page()}
    web[at(what)] = Response("", 200, headers, BOMBS[coding])
    tracemalloc.start()
    try:
        made = run(web, tmp_path)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert {at(), at("/fine")} <= set(stored(made))
    assert most < 12 * CAP


def test_codings_in_a_row_end(tmp_path: Path) -> None:
    inner = gzip.compress(gzip.compress(gzip.compress(b"<a href=/hidden>x</a>")))
    deep = gzip.compress(BOMBS["gzip"])
    web: dict[str, Any] = {
        at(): page("/three", "/deep", "/fine"),
        at("/three"): Response("", 200, (*HTML, ("Content-Encoding", "gzip, gzip, gzip, gzip, gzip")), inner),
        at("/deep"): Response("", 200, (*HTML, ("Content-Encoding", "gzip, gzip")), deep),
        at("/fine"): page(),
    }
    assert {at(), at("/fine"), at("/deep")} <= set(stored(run(web, tmp_path)))


def test_sitemaps_that_grow_or_lead_in_circles_end(tmp_path: Path) -> None:
    laughs = b'<!DOCTYPE x [<!ENTITY a "ha">' + b"".join(
        b'<!ENTITY %c "%s">' % (n, b"&%c;" % (n - 1) * 20) for n in range(98, 110)
    )
    laughs += b"]><urlset><url><loc>http://heron.example/&m;</loc></url><url><loc>http://heron.example/known</loc></url></urlset>"

    def index(url: str) -> Response:
        n = int(re.findall(r"\d+", url)[-1])
        named = "".join(f"<sitemap><loc>{at(f'/map/{2 * n + more}.xml')}</loc></sitemap>" for more in (1, 2))
        return plain(f"<sitemapindex>{named}<sitemap><loc>{url}</loc></sitemap></sitemapindex>", "application/xml")

    robots = plain(f"User-agent: *\nSitemap: {at('/map/0.xml')}\nSitemap: {at('/laughs.xml')}\n")
    rest = {at("/robots.txt"): robots, at(): page(), at("/laughs.xml"): Response("", 200, (), laughs)}
    toy = Toy(Endless(at("/map/"), index, rest))
    made = run(toy, tmp_path)
    maps = [url for url, _ in toy.asked if "/map/" in url]
    assert 1 < len(maps) <= SITEMAPS
    assert len(maps) == len(set(maps))
    assert stored(made) == [at()]
    assert ("depth", "sitemap") in {(row["outcome"], row["reason"]) for row in log(made).values()}


def test_a_sitemap_names_no_more_than_the_protocol_allows(tmp_path: Path) -> None:
    named = "".join(f"<url><loc>http://heron.example/{n}</loc></url>" for n in range(60_000))
    web = {at("/sitemap.xml"): plain(f"<urlset>{named}</urlset>", "text/xml"), at(): page()}
    made = run(web, tmp_path, pages=1)
    assert len(log(made)) <= 50_000 + 3


def test_robots_bombs_are_read_to_their_cap_and_matched_in_linear_time(tmp_path: Path) -> None:
    rules = "".join(f"Disallow: /{'*a' * 40}{n}$\n" for n in range(5000))
    text = f"User-agent: *\nDisallow: /no\n{rules}" + "#" * (2 * MiB) + "\nDisallow: /beyond\n"
    long = "/" + "a" * 1500
    web: dict[str, Any] = {at("/robots.txt"): plain(text), at(): page("/no", long, "/beyond"), at("/beyond"): page()}
    web[at(long)] = page()
    made = run(web, tmp_path)
    assert fate(made)[at("/no")] == ("forbidden", "robots")
    assert stored(made) == [at(), at(long), at("/beyond")]


# names, numbers and characters


def test_nothing_from_the_web_names_a_file(tmp_path: Path) -> None:
    paths = ("/../../../etc/passwd", "/%2e%2e/%2e%2e/etc/passwd", "/..%2f..%2fx", "/CON", "/a%00b", "/" + "n" * 1900)
    paths += ("/aux.warc.zst", "/manifest.json", "/log/part-00.parquet", "/~/.ssh/id", "/%5c..%5cx", "/;rm -rf")
    inside = tmp_path / "root"
    toy = Toy(Endless(at(), lambda url: page(*paths) if url == at() else page(), {}))
    made = run(toy, inside)
    assert len(stored(made)) >= 10
    files = {str(path.relative_to(made.uri)) for path in Path(made.uri).rglob("*") if path.is_file()}
    known = r"part-\d\d-\d{4}\.warc\.(zst|gz)|manifest\.json|scope\.json|.*commits/[\w-]+\.json"
    known += r"|log/(part-\d\d\.parquet|manifest\.json)|cdxj/(part-\d\d\.cdxj|manifest\.json)"
    assert not [name for name in files if not re.fullmatch(known, name)]
    assert [path.name for path in tmp_path.iterdir()] == ["root"]


def test_a_crawl_keeps_no_pickles(tmp_path: Path) -> None:
    """What a keeper lays down to go on from later is SQLite and WARC: data, no code."""
    seen: set[bytes] = set()

    def look(request: Request) -> Response:
        files = (path for path in tmp_path.rglob("keepers/**/*") if path.is_file() and path.stat().st_size)
        seen.update(path.read_bytes()[:4] for path in files)
        return page()

    run({at(): page("/a", "/b"), at("/a"): look, at("/b"): look}, tmp_path)
    assert b"SQLi" in seen
    assert not [one for one in seen if one.startswith((b"\x80", b"(lp", b"(dp"))]  # how pickles begin


def test_names_and_headers_cannot_forge_a_line(tmp_path: Path) -> None:
    """Neither a record of the archive nor a line of a log can be ended by what a server or a page says."""
    escape, forged = "\x1b[2J\x07", "WARC/1.1\r\nWARC-Type: response\r\nWARC-Target-URI: http://forged.invalid/\r\n\r\n"
    links = [f"/a{escape}", "/b\r\nWARC/1.1", "/c\u2028d", "/e\x00f", "/%0d%0aWARC/1.1"]
    odd = b"HTTP/1.1 200 OK" + escape.encode() + b"\r\nContent-Type: text/html\r\nX-Odd: a\x85b\xff\r\n"

    def say(asked: Asked) -> Said:
        if asked.path == "/":
            return answer(200, body(*links, "/odd", "/fold", "/away", text=forged))
        if asked.path == "/odd":
            return odd + b"Content-Length: 4\r\n\r\nfine"
        if asked.path == "/fold":
            return b"HTTP/1.1 200 OK\r\nX-Fold: a\r\n WARC/1.1\r\nContent-Length: 4\r\n\r\nfine"
        if asked.path == "/away":
            return answer(302, b"", "Location: /to\x1b[31m\tx\x7f")
        return NOTHING if asked.path == "/robots.txt" else answer(200, b"<p>deep")

    with served(say) as site:
        made = over(site.address, tmp_path)
    for row in log(made).values():
        for name in ("url", "parent", "reason", "target"):
            assert str(row[name] or "").isprintable(), (name, row[name])
    assert all(one.url.startswith(at()) for one in kept(made))
    assert len(kept(made)) == made.rows >= 6


def test_nuls_surrogates_and_wrong_charsets_pass_through(tmp_path: Path) -> None:
    odd = (
        b"\x00\xff\xfe<html>\xed\xa0\x80\xc0\xaf<a href='/a&#xD800;'>x</a><a href='/b&#0;'>x</a><a href='/c\x00d'>x</a>"
    )
    odd += b"<a href='/&#x110000;'>x</a><a href='/&#99999999999;'>x</a><a href='/good'>x</a>"
    web: dict[str, Any] = {at(): page("/odd"), at("/good"): page()}
    web[at("/odd")] = Response("", 200, (("Content-Type", "text/html; charset=utf-7\x00;;=\udcff"[:-1]),), odd)
    made = run(web, tmp_path)
    assert {at(), at("/odd"), at("/good")} <= set(stored(made))
    for url in log(made):
        url.encode()


@pytest.mark.parametrize(
    "text",
    [
        "<div>" * 300_000,
        "<a " * 500_000,
        "<a href=" * 200_000,
        "<b i>" * 100_000 + "</b>" * 100_000,
        "<a " + "x=y " * 400_000 + ">",
        "<!--" * 400_000,
        "<script>" * 200_000,
        "<a href='" + "y" * 1_500_000 + "'>",
        "&" * 1_500_000,
        "<meta name=robots content='" + "," * 1_500_000 + "'>",
        "<base href='/" + "a/" * 500_000 + "'><a href=../x>x</a>",
    ],
    ids=[
        "deep",
        "open",
        "href",
        "adoption",
        "attributes",
        "comments",
        "scripts",
        "value",
        "references",
        "meta",
        "base",
    ],
)
def test_a_hostile_page_costs_the_scan_nothing_but_one_pass(tmp_path: Path, text: str) -> None:
    web = {at(): page("/hostile", "/fine"), at("/hostile"): page(text=text), at("/fine"): page()}
    assert stored(run(web, tmp_path)) == [at(), at("/fine"), at("/hostile")]
