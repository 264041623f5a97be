"""The sample web keeps its word: what it serves, what it says of itself, and texts that are worth serving."""

import gzip
import http.client
import re
import sys
import time
from collections import Counter
from html import unescape
from pathlib import Path
from urllib.parse import urldefrag, urljoin, urlsplit

import pyarrow as pa
import pytest

from tundish.operators.text.rules import decide, rules
from tundish.operators.text.signals import signals
from tundish.operators.web import encoding, html

sys.path.insert(0, str(Path(__file__).parents[1] / "examples"))

from sample_web import server, site, traps
from sample_web.articles import load, parse
from sample_web.hosts import HOSTS, SORA, home, path
from sample_web.variants import COPIES, EDITED, ENCODED, RETEMPLATED, SITEMAP_ONLY, SLOW

ARTICLES = load()
WEB = site.web()
FATES = site.fates()


def page_of(slug):
    article = ARTICLES[slug]
    return WEB[home(article), path(article)]


def content(page):
    body = page.body
    return gzip.decompress(body) if ("Content-Encoding", "gzip") in page.headers else body


def text_of(page, codec="utf-8"):
    return unescape(re.sub(r"<[^<>]*>", "", content(page).decode(codec)))


def links(page, address):
    """Absolute addresses a page leads to, by a pattern and not by the project's own scanner."""
    found = re.findall(r'href="([^"]*)"', content(page).decode("ascii", "ignore"))
    found += [value for name, value in page.headers if name == "Location"]
    absolute = (urldefrag(urljoin(address, unescape(target)))[0] for target in found)
    return {normal(a) for a in absolute if a.startswith("http://")}


def normal(address):
    """As RFC 3986 would have it, as far as this web needs it: host in lower case, no port, no dot segments."""
    parts = urlsplit(address)
    return urljoin(f"http://{parts.hostname}/", parts.path + ("?" + parts.query if parts.query else ""))


def ask(connection, host, target, method="GET"):
    connection.request(method, target, headers={"Host": host})
    answer = connection.getresponse()
    return answer, answer.read()


@pytest.fixture(scope="module")
def connection():
    with server.serve(WEB) as address:
        yield http.client.HTTPConnection(address, timeout=10)


# what it is made of


def test_it_has_sixty_articles_in_eight_languages():
    languages = Counter(article.language for article in ARTICLES.values())
    assert len(ARTICLES) >= 60
    assert len(languages) >= 8
    assert min(languages.values()) >= 3
    assert languages["en"] >= 24


def test_every_article_has_its_length_and_ends_its_paragraphs():
    for article in ARTICLES.values():
        text = "\n".join(article.paragraphs)
        low, high, size = (400, 900, len(text)) if article.language in ("zh", "ja") else (150, 450, len(text.split()))
        assert low <= size <= high, article.slug
        assert len(article.paragraphs) >= 4, article.slug
        assert all(re.search(r"[.!?。！？»”\"][»”\"]?$", p) for p in article.paragraphs), article.slug


def test_no_sentence_stands_in_two_articles():
    sentences = [s for a in ARTICLES.values() for p in a.paragraphs for s in re.split(r"(?<=[.!?。！？])\s*", p) if s]
    assert [s for s, n in Counter(sentences).items() if n > 1 and len(s) > 25] == []


def test_articles_pass_the_rules():
    texts = pa.array(["\n\n".join(a.paragraphs) for a in ARTICLES.values()], pa.large_string())
    measured = signals(texts, pa.array([a.language for a in ARTICLES.values()]))
    reasons = decide(pa.Table.from_batches([measured]), rules("gopher"))["reason"].to_pylist()
    assert {a.slug: why for a, why in zip(ARTICLES.values(), reasons, strict=True) if why} == {}


def test_an_article_without_a_date_is_refused():
    with pytest.raises(AssertionError, match="needs title and date"):
        parse("title: A\n\nOne.\n\nTwo.", "en", "a")


def test_an_edit_that_finds_nothing_is_refused():
    with pytest.raises(AssertionError, match="does not say"):
        ARTICLES["the-harbour-crane"].edited({"no such words": "x"})


# the pages


def test_the_same_bytes_every_time():
    site._all.cache_clear()
    again = site.web()
    assert again == WEB
    assert list(again) == list(WEB)


def test_every_page_has_a_fate_and_every_fate_is_written_down():
    machines = {site.url(*key) for key in WEB if re.search(r"/(robots\.txt|sitemap[^/]*)$", key[1])}
    assert {site.url(*key) for key in WEB} - machines <= set(FATES)
    assert machines.isdisjoint(FATES)
    assert site.FATES.read_text(encoding="utf-8") == site.written()
    assert {fate.fate for fate in FATES.values()} == {"kept", "forbidden", "never", "redirect", "error", "dropped"}


def test_statuses_agree_with_fates():
    for (host, target), page in WEB.items():
        fate = FATES.get(site.url(host, target))
        if fate:
            assert (fate.fate == "redirect") == (300 <= page.status < 400), target
            assert (fate.fate == "error") == (page.status >= 400), target
    assert {page.status for page in WEB.values()} == {200, 301, 302, 303, 307, 308, 404, 410, 500}


def test_every_link_leads_to_something_known():
    for (host, target), page in WEB.items():
        for found in links(page, site.url(host, target)):
            assert found in FATES or found.startswith(site.TRAPS), (host, target, found)


def test_everything_but_what_is_left_for_the_sitemap_is_linked_from_the_front_pages():
    known, todo = set(), [*site.SEEDS]
    while todo:
        address = todo.pop()
        parts = urlsplit(address)
        page = WEB.get((parts.netloc, parts.path + ("?" + parts.query if parts.query else "")))
        if address not in known and page:
            known.add(address)
            todo += links(page, address)
    unlinked = {site.url(home(ARTICLES[s]), path(ARTICLES[s])) for s in SITEMAP_ONLY}
    assert {site.url(*key) for key in WEB} & set(FATES) - known == unlinked
    maps = b"".join(WEB[key].body for key in WEB if key[1] in ("/sitemap-articles.xml", "/sitemap.txt")).decode()
    assert all(address in maps for address in unlinked)


def test_encodings_decode_back_to_the_article():
    for slug, (codec, says, meta) in ENCODED.items():
        page = page_of(slug)
        text = text_of(page, codec)
        assert all(paragraph in text for paragraph in ARTICLES[slug].paragraphs), slug
        "".join(ARTICLES[slug].paragraphs).encode(codec)  # nothing hides behind a character reference
        assert dict(page.headers)["Content-Type"] == (f"text/html; charset={says}" if says else "text/html")
        assert f"charset={meta}" in page.body.decode("ascii", "ignore").replace('"', "")
        if codec != "utf-8":
            with pytest.raises(UnicodeDecodeError):
                page.body.decode("utf-8")


def test_the_mislabelled_page_does_not_decode_as_its_header_says():
    page = page_of("las-golondrinas-del-garaje")
    assert dict(page.headers)["Content-Type"].endswith("iso-8859-1")
    with pytest.raises(UnicodeDecodeError):
        page.body.decode("cp1252")


def test_every_page_with_an_article_carries_all_of_it():
    changed = {site.url(home(ARTICLES[s]), f"/2024/{s}") for s in EDITED}
    for (host, target), page in WEB.items():
        fate = FATES.get(site.url(host, target))
        if fate and fate.article and site.url(host, target) not in changed:
            moved = (host, target) in RETEMPLATED
            codec = "utf-8" if moved else ENCODED.get(fate.article, ("utf-8",))[0]
            assert all(p in text_of(page, codec) for p in ARTICLES[fate.article].paragraphs), target


def test_what_is_extracted_is_the_article_and_nearly_nothing_of_the_furniture():
    """All of every article; and on all pages but some, where titles of other articles stand below, nothing else."""
    beyond = {}
    for (host, target), page in WEB.items():
        fate, address = FATES.get(site.url(host, target)), site.url(host, target)
        if fate and fate.article:
            found = encoding.decode(content(page), encoding.charset_of(dict(page.headers)["Content-Type"]))
            lines = [line.strip() for line in html.extract(found.text, address).text.split("\n") if line.strip()]
            article = ARTICLES[fate.article]
            if target.startswith("/2024/"):
                article = article.edited(EDITED[fate.article])
            assert set(article.paragraphs) <= set(lines), address
            beyond[address] = set(lines) - set(article.paragraphs) - {article.title, article.date, "< > <>"}
    assert sum(map(bool, beyond.values())) <= 0.05 * len(beyond)
    assert max(map(len, beyond.values())) <= 5


def test_copies_are_exact_and_near_copies_are_near():
    groups = Counter(fate.duplicate_of for fate in FATES.values() if fate.duplicate_of)
    assert set(groups) == {*COPIES.values(), *EDITED, *RETEMPLATED.values()}
    assert min(groups.values()) >= 2
    for key, slug in COPIES.items():
        assert WEB[key].body == page_of(slug).body
    for slug in EDITED:
        before, after = (text_of(page) for page in (page_of(slug), WEB[home(ARTICLES[slug]), f"/2024/{slug}"]))
        assert before != after
    for key, slug in RETEMPLATED.items():
        assert WEB[key].body != page_of(slug).body


def test_special_pages_are_what_they_claim():
    assert len(WEB["heron.example", "/data/readings"].body) > 3_000_000
    assert WEB["heron.example", "/empty"].body == b""
    assert WEB["heron.example", "/files/tide-table.pdf"].body.startswith(b"%PDF")
    assert WEB["shop.kingfisher.example", "/offers"].body.count(b"Click here to see") == 50
    assert b"</p>" not in page_of("a-night-train-north").body
    assert content(page_of("listening-to-a-glacier")) != page_of("listening-to-a-glacier").body
    numbers = [re.findall(r"\+1-555-01\d\d|01632 960 \d{3}", text_of(WEB[key])) for key in
               (("heron.example", "/contact"), ("shop.kingfisher.example", "/orders"))]  # fmt: skip
    assert all(len(found) == 2 for found in numbers)


# the endless parts


def test_the_calendar_has_always_a_next_month():
    target = traps.FIRST[0]
    for _ in range(30):
        page = site.lookup(WEB, "heron.example", target)
        target = re.search(r'href="(/calendar[^"]*)" rel="next"', page.body.decode())[1]
    assert target == "/calendar?month=2028-07"
    assert site.lookup(WEB, "heron.example", "/calendar?month=2026-13") is None


def test_the_archive_has_always_an_older_page():
    address = "http://heron.example" + traps.FIRST[1]
    for _ in range(5):
        page = site.lookup(WEB, "heron.example", urlsplit(address).path)
        address = urljoin(address, re.search(r'href="(older/)"', page.body.decode())[1])
    assert address.endswith("/archive" + "/older" * 6 + "/")


# the servers


def test_it_serves_each_page_under_its_host_on_one_connection(connection):
    for (host, target), page in WEB.items():
        if page.delay == 0:
            answer, body = ask(connection, host, target)
            assert (answer.status, body) == (page.status, page.body), target
            assert set(page.headers) <= set(answer.getheaders())


def test_it_answers_traps_and_knows_no_other_host_or_page(connection):
    assert ask(connection, "heron.example", "/calendar?month=2040-05")[0].status == 200
    assert ask(connection, "HERON.example:80", "/about")[0].status == 200
    assert ask(connection, "elsewhere.invalid", "/about")[0].status == 404
    assert ask(connection, "heron.example", "/no/such/page")[0].status == 404


def test_head_sends_no_body(connection):
    answer, body = ask(connection, "heron.example", "/about", "HEAD")
    assert (answer.status, body) == (200, b"")
    assert int(answer.getheader("Content-Length")) == len(WEB["heron.example", "/about"].body)


def test_the_slow_page_is_slow(connection):
    start = time.monotonic()
    article = ARTICLES[SLOW[0]]
    assert ask(connection, home(article), path(article))[0].status == 200
    assert time.monotonic() - start >= site.SECONDS


def test_the_table_leads_every_host_to_the_server():
    assert server.table("127.0.0.1:9")[f"{SORA}:80"] == "127.0.0.1:9"
    assert len(server.table("127.0.0.1:9")) == len(HOSTS)


def test_pydoc_serves_topics_and_modules_and_ends_with_its_block():
    with server.pydoc() as address:
        pages = {}
        for target in ("/topics.html", "/topic?key=LOOPING", "/textwrap.html"):
            connection = http.client.HTTPConnection(address, timeout=20)  # HTTP/1.0: one answer each
            pages[target] = ask(connection, server.PYDOC_HOST, target)[1].decode()
    assert "topic?key=LOOPING" in pages["/topics.html"]
    assert "while" in pages["/topic?key=LOOPING"]
    assert "dedent" in pages["/textwrap.html"]
    with pytest.raises(OSError):  # noqa: PT011 - whichever way this system refuses
        ask(http.client.HTTPConnection(address, timeout=5), server.PYDOC_HOST, "/topics.html")


def test_pydoc_exclusions():
    out = [re.compile(pattern) for pattern in server.PYDOC_EXCLUDE]
    aside = ("antigravity.html", "this.html", "idlelib.pyshell.html", "test.support.html", "json.__main__.html",
             "lib2to3.html", "get?key=os", "search?key=x", "turtledemo.html", "_testcapi.html")  # fmt: skip
    taken = ("topics.html", "topic?key=ASSERTION", "textwrap.html", "unittest.mock.html", "getpass.html", "index.html")
    assert all(any(p.search(f"http://pydoc.example/{page}") for p in out) for page in aside)
    assert not any(p.search(f"http://pydoc.example/{page}") for p in out for page in taken)
