"""Links of a page, and what it says of following and keeping it. Forms of links and hostile pages: test_web_html.py."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tundish.operators.web.links import links
from tundish.operators.web.opt_outs import METAS, metas, opt_outs

PAGE = "http://heron.example/a/"
LINK = "<a href=b>b</a>"


@pytest.mark.parametrize(
    ("tag", "follow", "index"),
    [
        ("<meta name=robots content='noindex, nofollow'>", False, False),
        ("<meta name=robots content=NONE>", False, False),
        ("<meta name=robots content=nofollow>", False, True),
        ("<meta name=robots content='noindex'><meta name=robots content='nofollow'>", False, False),
        ("<meta name=Tundish content=nofollow>", False, True),
        ("<meta name=googlebot content='noindex,nofollow'>", True, True),
        ("<meta name=robots content='unavailable_after: 2020-01-01'>", True, False),
        ("<meta name=robots content='unavailable_after: 2040-01-01'>", True, True),
        ("<meta name=robots content='unavailable_after: Wed, 01-Jan-20 15:00:00 GMT, nofollow'>", False, False),
        ("<meta name=robots content='index, follow, max-snippet:-1'>", True, True),
        ("<meta name=description content='noindex, nofollow'>", True, True),
    ],
)
def test_directives_of_a_page(tag: str, follow: bool, index: bool) -> None:
    found = links(tag + LINK, PAGE, token="tundish", now=1.79e9)
    assert (not found.nofollow, not found.noindex) == (follow, index)
    assert found.urls == ((PAGE + "b",) if follow else ())


def test_without_a_clock_nothing_has_expired() -> None:
    assert not links("<meta name=robots content='unavailable_after: 2020-01-01'>", PAGE).noindex


@pytest.mark.parametrize("rel", ["nofollow", "ugc", "sponsored", "noopener NoFollow", "ugc\tsponsored"])
def test_links_the_page_does_not_stand_for(rel: str) -> None:
    page = f"<a href=b rel='{rel}'>b</a><a href=c rel='noopener external'>c</a>"
    assert links(page, PAGE).urls == (PAGE + "c",)
    assert links(page, PAGE, obey_rel=False).urls == (PAGE + "b", PAGE + "c")


def test_meta_tags_are_kept_for_the_opt_outs() -> None:
    page = "<meta name=robots content=noai><meta name=TDM-Reservation content=1><meta name=author content=x>" + LINK
    found = links(page, PAGE, token="tundish").metas
    assert found == metas(page, "tundish") == (("robots", "noai"), ("tdm-reservation", "1"))
    assert opt_outs([], found) == ("noai (meta)", "tdm-reservation (meta)")


def test_a_heap_of_meta_tags_is_cut() -> None:
    page = "<meta name=robots content=index>" * 5000
    assert len(links(page, PAGE).metas) == len(metas(page)) == METAS


@given(st.text("<>metanrobsci='\" =:,/\n", max_size=200))
def test_any_page_has_links(page: str) -> None:
    assert links(f"<meta {page}", PAGE, token="tundish", now=0.0).base == PAGE or "<base" in page
