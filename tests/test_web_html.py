"""HTML: main text, the guard before it, links and directives; hostile pages in linear time."""

import tarfile
from collections.abc import Iterator
from pathlib import Path

import lxml.html
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from tundish.operators.web import html as extraction
from tundish.operators.web.guard import verdict
from tundish.operators.web.html import Unextractable, extract
from tundish.operators.web.links import MOST, links
from tundish.operators.web.tags import pattern, tags
from tundish.operators.web.urls import canonical

HOME = "http://heron.example/a/page.html"
ARTICLE = (
    "<html><head><title>The &amp; tide\n table</title>"
    "<meta property='article:published_time' content='2026-03-04T05:06Z'>"
    "</head><body><nav><a href=/>Home</a> <a href=/x>More</a></nav><article><h1>The tide table</h1>"
    + "".join(
        f"<p>Paragraph {n} says that the sea comes twice a day, and that the harbour waits for it.</p>"
        for n in range(6)
    )
    + "</article><footer>Imprint, cookies, contact</footer><script>var x = '<p>no text</p>'</script></body></html>"
)


@pytest.mark.parametrize("how", ["fast", "cascade", "best"])
def test_the_main_text_of_a_plain_page(how: str) -> None:
    found = extract(ARTICLE, how=how)
    lines = found.text.split("\n")
    assert [line for line in lines if line.startswith("Paragraph")] == lines[-6:]
    assert all(word not in found.text for word in ("cookies", "no text", "var x"))
    assert (found.title, found.date) == ("The & tide table", "2026-03-04")
    assert found.how == {"fast": "first", "cascade": "first", "best": "second"}[how]


@pytest.mark.parametrize(
    ("head", "date"),
    [
        ('<meta name="date" content="2024-02-29">', "2024-02-29"),
        ('<meta itemprop="datePublished" content=" 2024-02-29T01:02:03+01:00">', "2024-02-29"),
        (
            '<script type="application/ld+json">{"@type": "Article", "datePublished" : "2023-12-31T00:00"}</script>',
            "2023-12-31",
        ),
        ('<meta name="date" content="29.2.2024">', None),
        ('<meta name="date" content="2024-13-01">', None),
        ("", None),
    ],
)
def test_dates_are_what_the_page_states(head: str, date: str | None) -> None:
    assert extract(f"<head>{head}</head><p>Some text that is long enough to be kept.</p>").date == date


HOSTILE = {
    "nested div": ("<div>" * 30_000 + "x", "too_deep"),
    "nested div, closed": ("<div>" * 30_000 + "x" + "</div>" * 30_000, "too_deep"),
    "div with a slash": ("<div/>" * 30_000, "too_deep"),
    "div and ends of others": ("<div></x>" * 15_000, "too_deep"),
    "span beyond div": ("<span><div></span>" * 20_000, "too_deep"),
    "div beyond a table": ("<div><table><td></div>" * 8_000, "too_deep"),
    "unknown elements": ("<x-y>" * 30_000, "too_deep"),
    "svg back to html": ("<svg><foreignObject>" + "<path/>" * 30_000, "too_deep"),
    "attributes": ("<div " + " ".join(f"a{n}=1" for n in range(60_000)) + ">x", "too_many_attributes"),
    "adoption agency": (
        "".join(f"<b {n}>" for n in range(2000)) + "".join(f"<i {n}>" for n in range(2000)) + "x</b>" * 2000,
        "too_deep",
    ),
    "formatting left open": ("".join(f"<p><b i={n}>x" for n in range(2000)), "too_deep"),
    "formatting across div": ("".join(f"<div><b i={n}></div>" for n in range(2000)), "too_deep"),
    "tags": ("<br>" * 100_001, "too_many_tags"),
    "bytes": ("<p>" + "é" * 1_100_000, "too_large"),
}


def told(page: str, how: str) -> str:
    try:
        return extract(page, how=how).how
    except Unextractable as refused:
        return refused.reason


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_pages_reach_no_library(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The guard names them, and they are looked at by what is linear alone, whatever was asked."""
    page, reason = HOSTILE[name]
    monkeypatch.setattr(extraction, "other_texts", None)
    assert verdict(page) == reason
    for how in ("fast", "best"):
        assert told(page, how) in ("first", "guarded", "no_text")


@pytest.mark.parametrize(
    ("page", "reason"),
    [
        (" \n", "empty"),
        ("<html><script>x</script></html>", "no_text"),
        ("<title>x</title><style>p {}</style>", "no_text"),
        ("<p>" + "é" * (extraction.BYTES // 2), "too_large"),
        ("<br>" * (extraction.TAGS + 1), "too_many_tags"),
    ],
    ids=range(5),
)
def test_pages_without_text_are_refused(page: str, reason: str) -> None:
    with pytest.raises(Unextractable) as refused:
        extract(page)
    assert refused.value.reason == reason


@pytest.mark.parametrize(
    "page",
    [
        "<p>flat" * 50_000,
        "<ul><li>a<ul><li>b</ul></ul>" * 5_000,
        "<table><tr><td>x<td>y</table>" * 5_000,
        "<div><span>x</div>" * 5_000,
        "<svg>" + "<path d=''/><g><path/></g>" * 5_000 + "</svg>",
        "<p><b>x</b> <i>y</i>" * 5_000,
        "<a href=x>y" * 5_000,
        "<script>" + "document.write('<div>');" * 5_000 + "</script>",
        "<!--" + "<div>" * 5_000 + "-->",
        f"<img src='data:{'A' * 900_000}'>",
        "<td " + "data-x='<div>' " * 500 + ">",
    ],
    ids=range(11),
)
def test_large_but_flat_pages_pass_the_guard(page: str) -> None:
    assert verdict(page) is None


def pages(data: Path, most: int) -> Iterator[tuple[str, bytes]]:
    stream = zstandard.ZstdDecompressor(max_window_size=2**27).stream_reader(
        (data / "web-wcxb" / "html.tar.zst").open("rb")
    )
    with tarfile.open(fileobj=stream, mode="r|") as tar:
        for number, member in enumerate(tar):
            if number == most:
                return
            yield member.name, tar.extractfile(member).read()


def test_links_are_those_a_parser_finds(data: Path) -> None:
    met = 0
    for _, raw in pages(data, 30):
        page = raw.decode("utf-8", "replace")
        found = links(page, HOME)
        tree = lxml.html.document_fromstring(page.encode(), parser=lxml.html.HTMLParser(encoding="utf-8"))
        wanted = set()
        for element in tree.iter("a", "area"):
            href = (element.get("href") or "").strip()
            if href and not href.startswith("#") and "nofollow" not in (element.get("rel") or "").lower().split():
                try:
                    wanted.add(canonical(href, found.base))
                except ValueError:
                    continue
        if len(found.urls) < MOST and not found.nofollow:
            assert set(found.urls) == wanted
            met += len(wanted)
    assert met > 1000


@pytest.mark.parametrize(
    ("page", "wanted"),
    [
        ("<a href=b>", ["http://heron.example/a/b"]),
        ("<A HREF='../b?x=1&amp;y=2#z'>", ["http://heron.example/b?x=1&y=2"]),
        ("<a href='?a=1&copy=2&lang=de'>", ["http://heron.example/a/page.html?a=1&copy=2&lang=de"]),
        ("<a href=/1><base href='//kranich.test/d/'><a href=2>", ["http://kranich.test/1", "http://kranich.test/d/2"]),
        ("<area href=m><frame src=f><meta http-equiv=refresh content='3; URL=\"r\"'>", ["m", "f", "r"]),
        ("<a rel='external NoFollow' href=n><a rel=noopener href=y>", ["y"]),
        ("<!-- <a href=c> --><script>'<a href=s>'</script><title><a href=t></title><a href=y>", ["y"]),
        ("<a href=y><a href=y#2><a href=' y '>", ["y"]),
        ("<a href=mailto:x@heron.example><a href=javascript:void(0)><a href='http://[bad'><a href=#top><a>", []),
        ("<a title='>' href=y data-x=\"a'b\">", ["y"]),
        ("<a href=y href=z>", ["y"]),
        ("<a\nhref\n=\ny\n>", ["y"]),
        ("<a href=never", []),
        ("<link rel=canonical href=/c><a href=y>", ["y"]),
        ("<svg><title/><style/><script href='x'/></svg><a href=y>", ["y"]),
        ("<svg></svg><title/><a href=no></title><a href=y>", ["y"]),
        ("<meta name=robots content='NOFOLLOW'><a href=y>", []),
    ],
)
def test_links(page: str, wanted: list[str]) -> None:
    full = [url if "://" in url else f"http://heron.example/a/{url}" for url in wanted]
    assert list(links(page, HOME).urls) == full


def test_directives_and_canonical() -> None:
    found = links("<meta name=ROBOTS content='noindex,  follow'><link rel='canonical' href='/c?utm_source=x'>", HOME)
    assert (found.noindex, found.nofollow, found.base, found.canonical) == (True, False, HOME, "http://heron.example/c")
    none = links("<meta content=none name=robots>", HOME)
    assert (none.noindex, none.nofollow) == (True, True)
    assert links("<meta name=description content=noindex>", HOME).noindex is False
    with pytest.raises(ValueError, match="not http"):
        links("", "ftp://heron.example/")


def test_no_more_than_a_thousand_links() -> None:
    assert len(links("".join(f"<a href={n}>" for n in range(3000)), HOME).urls) == MOST


BOMBS = [
    "<a " * 200_000,
    '<a href="' * 100_001,
    "<!--" * 300_000,
    "<script>" * 100_000,
    "<" * 1_000_000,
    "<a" + " " * 1_000_000,
]


@pytest.mark.parametrize("bomb", range(len(BOMBS)))
def test_link_bombs_end(bomb: int) -> None:
    """Each takes a quadratic scanner minutes."""
    assert len(links(BOMBS[bomb], HOME).urls) <= 1
    verdict(BOMBS[bomb][:1_900_000])


@given(st.text(st.sampled_from("<>/=!-'\"a b&;#href\n"), max_size=60))
def test_any_text_is_scanned(page: str) -> None:
    for name, attributes, end in tags(page, pattern(frozenset({"a"}))):
        assert name == "a" or name in ("script", "style")
        assert page[end - 1] == ">"
        assert all(key == key.lower() for key in attributes)
    links(page, HOME)
    verdict(page)
