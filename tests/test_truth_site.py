"""Two real sites held against their crawl truth: every page once, redirects and dead links as listed, delays kept.

The sites are the labelled data's (skipped where it is absent), served over loopback as its READMEs say. What was asked
when comes from the server's own log. A crawl that is to be killed runs in a process of its own; kills are `kill -9`.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from tests import real_site
from tests.site_server import NOTHING, Asked, Said, Site, answer, served
from tests.test_crawl import AGENT, fate, log, stored
from tundish.cluster.local import Local
from tundish.cluster.shards import Dataset, opened
from tundish.cluster.wire import Web
from tundish.operators.web import urls
from tundish.stages.crawl import Crawl
from tundish.stages.stage import Place

TOP = Path(__file__).resolve().parents[1]
DATA = TOP.parent / "shared" / "data"
HTTPD, HISHEL = DATA / "site-httpd", DATA / "site-hishel"
HOST = real_site.HOST
NOFOLLOW = b'content="noindex, nofollow" name="robots"'
have_data = pytest.mark.skipif(not HISHEL.is_dir(), reason="the labelled data does not lie beside this checkout")

CRAWL = """
import json, sys
from functools import partial
sys.path.insert(0, {top!r})
from tests.test_truth_site import crawled
fields = json.loads(sys.argv[2])
made = crawled(sys.argv[1], fields.pop("folder"), **fields)
print(made.uri)
"""


def crawled(address: str, folder: str | Path, **fields: Any) -> Dataset:
    """A crawl of the site at `address` that goes on where an earlier one in `folder` was ended."""
    given = {"agent": AGENT, "as_of": "2026-11-21", "sitemaps": False, "pages": 100_000}
    given |= {"delays": {HOST: 0.0}, "sameness": 1.0}  # in the large site whole translations are the same bytes
    stage = Crawl(**{**given, **fields, "seeds": tuple(fields["seeds"])})  # type: ignore[arg-type]
    wire = partial(Web, {f"{HOST}:80": address})
    return stage.through(wire, Local(), Place(str(Path(folder) / "crawl"), stage.fingerprint))


@contextmanager
def site(folder: Path, rules: bytes = b"", follow: bool = True) -> Iterator[Site]:
    """The site of a folder, as its README says; `rules`: its robots.txt, if it has one.

    The pages of one of the large site's three manuals say `noindex, nofollow`, which its crawl truth does not look at:
    with `follow` they do not say so.
    """
    files = real_site._files(folder / "site.tar.zst")
    if follow:
        files = {name: body.replace(NOFOLLOW, b'content="all" name="robots"') for name, body in files.items()}
    answers = {
        row["url"]: _page(files[row["file"]], row) for row in real_site.records(folder / "crawl-truth.jsonl.zst")
    }
    for row in real_site.records(folder / "redirects.jsonl.zst"):
        answers[row["url"]] = answer(301, b"", f"Location: {row['location']}")
    for name in ("sitemap.xml", "sitemap.xml.gz"):
        answers |= {f"/{one}": answer(200, files[one], mime="application/xml") for one in files if one.endswith(name)}
    if rules:
        answers["/robots.txt"] = answer(200, rules, mime="text/plain")
    with served(lambda asked: answers.get(asked.path, NOTHING)) as running:
        yield running


def _page(body: bytes, row: Mapping[str, str]) -> bytes:
    language = [f"Content-Language: {row['content_language']}"] if "content_language" in row else []
    return answer(200, body, *language, mime=row["content_type"])


def truth(folder: Path) -> tuple[list[str], set[str]]:
    """(seeds, pages) of a folder, as URLs."""
    rows = real_site.records(folder / "crawl-truth.jsonl.zst")
    return [at(row["url"]) for row in rows if row["depth"] == 0], {at(row["url"]) for row in rows}


def at(path: str) -> str:
    return f"http://{HOST}{path}"


def gaps(asked: list[Asked]) -> list[float]:
    """Seconds from an answer to the next request."""
    return [later.at - before.answered for before, later in pairwise(asked)]


def check(made: Dataset, folder: Path) -> None:
    """Every page once, nothing else stored; redirects and dead links as listed."""
    found, rows = fate(made), log(made)
    _, pages = truth(folder)
    assert stored(made) == sorted(pages)
    moved = {at(row["url"]): at(row["location"]) for row in real_site.records(folder / "redirects.jsonl.zst")}
    told = {url: rows[url]["target"] for url, (outcome, _) in found.items() if outcome == "redirect"}
    assert told == moved
    dead = {urls.canonical(at(path)) for path in (folder / "dead-links.txt").read_text().split("\n") if path}
    assert {url for url, why in found.items() if why == ("error", "status_404")} >= dead


@have_data
def test_a_small_site_is_crawled_whole_and_once(tmp_path: Path) -> None:
    seeds, pages = truth(HISHEL)
    with site(HISHEL) as running:
        made = crawled(running.address, tmp_path, seeds=seeds)
    check(made, HISHEL)
    assert len(pages) == 57
    assert max(Counter(running.paths()).values()) == 1


@have_data
def test_the_sitemap_of_a_small_site_names_another_host_which_is_not_asked(tmp_path: Path) -> None:
    seeds, pages = truth(HISHEL)
    with site(HISHEL, b"Sitemap: http://httpd.example/1.0/sitemap.xml\n") as running:
        made = crawled(running.address, tmp_path, seeds=seeds, sitemaps=True)
    assert set(stored(made)) >= pages
    assert {one.host for one in running.asked} == {HOST}
    assert "/1.0/sitemap.xml" in running.paths()
    assert ("scope", "domain") in fate(made).values()  # what it names


@have_data
def test_a_delay_of_10_ms_is_kept_over_a_small_site_with_kills(tmp_path: Path) -> None:
    seeds, _ = truth(HISHEL)
    with site(HISHEL) as running:
        made = killed(running, tmp_path, every=1.0, lives=3, seeds=seeds, delays={HOST: 0.01})
    check(made, HISHEL)
    assert min(gaps(running.asked)) >= 0.01


@have_data
def test_robots_are_obeyed_by_the_servers_own_log(tmp_path: Path) -> None:
    seeds, pages = truth(HISHEL)
    rules = b"User-agent: *\nDisallow: /1.0/\nDisallow: /*/advanced/\nAllow: /1.0/advanced/caching/\n"
    with site(HISHEL, rules) as running:
        made = crawled(running.address, tmp_path, seeds=seeds)
    allowed = {url for url in pages if not ("/1.0/" in url or "/advanced/" in url)}
    assert allowed - set(stored(made)) == set()
    banned = [path for path in running.paths() if path.startswith("/1.0/") or "/advanced/" in path]
    assert [path for path in banned if not path.startswith("/1.0/advanced/caching/")] == []
    assert running.paths()[0] == "/robots.txt"
    assert running.paths().count("/robots.txt") == 1


def killed(running: Site, folder: Path, *, every: float, lives: int = 10_000, **fields: Any) -> Dataset:
    """A crawl whose process is killed `every` so many seconds after its first request, until it comes to its end."""
    script = CRAWL.format(top=str(TOP))
    words = [sys.executable, "-c", script, running.address, json.dumps({"folder": str(folder), **fields})]
    env = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
    for life in range(lives + 1):
        before = len(running.asked)
        with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env) as process:
            while process.poll() is None and len(running.asked) == before:
                time.sleep(0.01)
            try:
                said, wrong = process.communicate(timeout=every if life < lives else None)
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGKILL)
                process.communicate()
                continue
        assert process.returncode == 0, wrong
        made = opened(said.strip())
        assert made is not None
        return made
    raise AssertionError(f"the crawl did not end in {lives} lives")


def ring(pages: int, busy: Mapping[int, int] = {}) -> tuple[Any, list[str]]:
    """A site of so many pages, each naming the next two; `busy`: page -> seconds of Retry-After of its first answer."""
    met: Counter[str] = Counter()

    def say(asked: Asked) -> Said:
        if asked.path == "/robots.txt":
            return answer(200, b"User-agent: *\nCrawl-delay: 1.0\n", mime="text/plain")
        if not asked.path.startswith("/p"):
            return NOTHING
        n = int(asked.path[2:])
        met[asked.path] += 1
        if n in busy and met[asked.path] == 1:
            return answer(429, b"", f"Retry-After: {busy[n]}")
        links = "".join(f'<a href="/p{(n + step) % pages}">on</a>' for step in (1, 2))
        return answer(200, f"<p>This is page {n}.</p>{links}".encode())

    return say, [f"/p{n}" for n in range(pages)]


def polite(asked: list[Asked], busy: Mapping[int, int]) -> None:
    """The crawl-delay of one second from answer to request; after a 429 what it asked for."""
    pages = [one for one in asked if one.path.startswith("/p")]
    met: Counter[str] = Counter()
    for before, later in pairwise(pages):
        met[before.path] += 1
        wait = busy.get(int(before.path[2:]), 1) if met[before.path] == 1 else 1
        assert later.at - before.answered >= wait, (before.path, later.path)


def test_crawl_delay_and_retry_after_are_kept_by_the_servers_own_log(tmp_path: Path) -> None:
    busy = {2: 3}
    say, paths = ring(5, busy)
    with served(say) as running:
        made = crawled(running.address, tmp_path, seeds=[at("/p0")], delays={HOST: 0.01})
    assert stored(made) == [at(path) for path in paths]
    polite(running.asked, busy)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("rules", "delay"),
    [
        (b"User-agent: *\nDisallow:\n", 2.0),
        (b"User-agent: *\nCrawl-delay: 2\n", 0.0),
    ],
    ids=["ours", "theirs"],
)
def test_a_delay_outlives_a_kill(tmp_path: Path, rules: bytes, delay: float) -> None:
    """Killed between a request and its commit: who goes on does not know of it, and has to wait all the same."""
    say, _ = ring(6)

    def rested(asked: Asked) -> Said:
        return answer(200, rules, mime="text/plain") if asked.path == "/robots.txt" else say(asked)

    def pages() -> list[Asked]:
        return [one for one in running.asked if one.path.startswith("/p")]

    script = CRAWL.format(top=str(TOP))
    fields = {"folder": str(tmp_path), "seeds": [at("/p0")], "delays": {HOST: delay}}
    with served(rested) as running:
        words = [sys.executable, "-c", script, running.address, json.dumps(fields)]
        for want in (1, 2, 3):
            with subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
                while len(pages()) < want and process.poll() is None:
                    time.sleep(0.001)
                process.send_signal(signal.SIGKILL)
    assert len(pages()) == 3
    assert min(gaps(pages())) >= 2.0


@pytest.mark.slow
def test_200_pages_at_a_second_each_with_kills(tmp_path: Path) -> None:
    """Some four minutes: crawl-delay 1 s, two answers that ask for more, a kill -9 every 20 seconds."""
    busy = {50: 4, 120: 6}
    say, paths = ring(200, busy)
    with served(say) as running:
        made = killed(running, tmp_path, every=20.0, seeds=[at("/p0")], depth=300, delays={HOST: 0.01})
    assert stored(made) == sorted(at(path) for path in paths)
    polite(running.asked, busy)
    assert len(running.asked) < 200 + 40


@have_data
@pytest.mark.slow
def test_a_large_site_is_crawled_whole_and_once(tmp_path: Path) -> None:
    """25,000 requests, about a minute."""
    seeds, pages = truth(HTTPD)
    with site(HTTPD) as running:
        made = crawled(running.address, tmp_path, seeds=seeds)
    check(made, HTTPD)
    assert len(pages) == 6406
    assert max(Counter(running.paths()).values()) == 1


@have_data
@pytest.mark.slow
def test_a_large_site_is_not_followed_where_it_says_so(tmp_path: Path) -> None:
    """The pages of its oldest manual say nofollow: its front page is stored, what it names is not asked for."""
    seeds, pages = truth(HTTPD)
    with site(HTTPD, follow=False) as running:
        made = crawled(running.address, tmp_path, seeds=seeds)
    assert stored(made) == sorted(url for url in pages if "/docs/2.0/" not in url or url == at("/docs/2.0/"))
    assert fate(made)[at("/docs/2.0/")] == ("stored", "nofollow")


@have_data
@pytest.mark.slow
def test_a_delay_of_10_ms_is_kept_over_a_large_site_with_kills(tmp_path: Path) -> None:
    """Some six minutes: 25,000 requests 10 ms apart, a kill -9 every five seconds for the first hundred."""
    seeds, _ = truth(HTTPD)
    with site(HTTPD) as running:
        made = killed(running, tmp_path, every=5.0, lives=20, seeds=seeds, delays={HOST: 0.01})
    check(made, HTTPD)
    assert min(gaps(running.asked)) >= 0.01
    again = sum(n - 1 for n in Counter(running.paths()).values())
    assert again < 20 * 200  # at most two seconds of work are lost to a kill: the rest is not asked for again
