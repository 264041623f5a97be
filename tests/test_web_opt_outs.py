"""Opt-outs: every way a page or a site says no, what overrides what, and what keeps a text out of training."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tundish.operators.web.directives import directives, moment
from tundish.operators.web.opt_outs import (
    BETWEEN,
    FILE,
    TRAINERS,
    Tdm,
    Tdmrep,
    forbids_training,
    metas,
    of_site,
    opt_outs,
)
from tundish.operators.web.preferences import allows, statement
from tundish.operators.web.robots import Robots

URL = "http://heron.example/a/page.html"


@pytest.mark.parametrize(
    ("name", "value", "wanted", "forbids"),
    [
        ("TDM-Reservation", "1", "tdm-reservation (header)", True),
        ("tdm-reservation", " 1 ", "tdm-reservation (header)", True),
        ("tdm-reservation", "1, 1", "tdm-reservation (header)", True),
        ("tdm-reservation", "0", None, False),
        ("tdm-reservation", "2", None, False),
        ("tdm-reservation", "yes", None, False),
        ("X-Robots-Tag", "noai", "noai (header)", True),
        ("X-Robots-Tag", "noindex, NoAI", "noai (header)", True),
        ("X-Robots-Tag", "tundish: noai", "noai (header)", True),
        ("X-Robots-Tag", "otherbot: noai", None, False),
        ("X-Robots-Tag", "otherbot: noindex, noai", "noai (header)", True),  # perhaps two headers, joined on the way
        ("X-Robots-Tag", "noimageai", "noimageai (header)", False),
        ("X-Robots-Tag", "noindex, nofollow", None, False),
        ("Content-Usage", "train-ai=n", "train-ai=n (header)", True),
        ("Content-Usage", "train-ai=n;reason=x", "train-ai=n (header)", True),
        ("Content-Usage", "train-genai=n", "train-genai=n (header)", True),
        ("Content-Usage", "bots=n", "bots=n (header)", True),
        ("Content-Usage", "tdm=n", "tdm=n (header)", True),
        ("Content-Usage", "bots=n, train-ai=y", "bots=n but train-ai=y (header)", False),
        ("Content-Usage", "bots=n, search=y", "bots=n but search=y (header)", True),
        ("Content-Usage", "train-ai=n, train-genai=y", "train-ai=n but train-genai=y (header)", True),
        ("Content-Usage", "ai-use=n", "ai-use=n (header)", False),
        ("Content-Usage", "search=n", "search=n (header)", False),
        ("Content-Usage", "train-ai=y", None, False),
        ("Content-Usage", "train-ai=maybe", None, False),
        ("Content-Usage", 'train-ai="n"', None, False),
        ("Content-Usage", 'x="a, train-ai=n, b"', None, False),
        ("Content-Usage", "train-ai=n, train-ai=y", None, False),  # the last one holds
        ("Content-Usage", "train-ai=no", "train-ai=n (header)", True),
        ("Content-Usage", "ai-train=no", "ai-train=no (header)", True),
        ("Content-Signal", "search=yes,ai-train=no", "ai-train=no (header)", True),
        ("Content-Signal", "ai-input=no", "ai-input=no (header)", False),
        ("License", "CC BY-NC-ND", None, False),
    ],
)
def test_headers(name: str, value: str, wanted: str | None, forbids: bool) -> None:
    found = opt_outs([("Content-Type", "text/html"), (name, value)], token="Tundish")
    assert found == ((wanted,) if wanted else ())
    assert forbids_training(found) is forbids


@pytest.mark.parametrize(
    ("tag", "wanted"),
    [
        ('<meta name="tdm-reservation" content="1">', ("tdm-reservation (meta)",)),
        ("<META NAME=TDM-Reservation CONTENT=1>", ("tdm-reservation (meta)",)),
        ('<meta name="tdm-reservation" content="0">', ()),
        ('<meta name="robots" content="noai, noimageai">', ("noai (meta)", "noimageai (meta)")),
        ('<meta name="tundish" content="noai">', ("noai (meta)",)),
        ('<meta name="googlebot" content="noai">', ()),
        ('<!-- <meta name="robots" content="noai"> -->', ()),
        ('<script>"<meta name=robots content=noai>"</script>', ()),
        ('</head><body><meta name="robots" content="noai">', ()),
        (
            '<meta name="tdm-policy" content=" https://heron.example/p 1 "><meta name="tdm-reservation" content="1">',
            ("tdm-policy https://heron.example/p%201 (meta)", "tdm-reservation (meta)"),
        ),
    ],
)
def test_meta_tags(tag: str, wanted: tuple[str, ...]) -> None:
    assert opt_outs([], metas(f"<html><head>{tag}<title>x</title>", "tundish"), token="tundish") == wanted


def tdm(*rules: tuple[str, object]) -> Tdmrep:
    return Tdmrep.parse(json.dumps([{"location": where, "tdm-reservation": value} for where, value in rules]).encode())


@pytest.mark.parametrize(
    ("rules", "reserved"),
    [
        ([("/", 1)], True),
        ([("/", "1")], True),
        ([("/a/", 0), ("/", 1)], False),  # the first that matches, not the longest
        ([("/", 1), ("/a/", 0)], True),
        ([("/a/*.html$", 1)], True),
        ([("/a/*.htm$", 1)], None),
        ([("a/", 1)], True),  # a slash was forgotten
        ([("/A/", 1)], None),
        ([("/%61/page", 1)], True),
        ([("/", 2)], None),
        ([("/", True)], None),
        ([("/", None), ("/", 1)], True),
        ([("/b", 1)], None),
    ],
)
def test_the_file_of_a_site(rules: list[tuple[str, object]], reserved: bool | None) -> None:
    assert tdm(*rules).of(URL).reserved is reserved


def test_page_over_header_over_file() -> None:
    file = of_site({}, tdm(("/", 1)).of(URL))
    assert opt_outs([], (), file) == ("tdm-reservation (tdmrep.json)",)
    assert opt_outs([("tdm-reservation", "0")], (), file) == ()
    assert opt_outs([("tdm-reservation", "0")], [("tdm-reservation", "1")], file) == ("tdm-reservation (meta)",)
    assert opt_outs([("tdm-reservation", "1")], [("tdm-reservation", "0")], file) == ()
    assert opt_outs([("tdm-reservation", "7")], (), file) == file  # an error counts as not set


def test_what_robots_txt_says_goes_with_the_page() -> None:
    found = Robots.parse(b"User-agent: GPTBot\nDisallow: /\nUser-agent: *\nContent-Signal: search=yes, ai-train=no\n")
    site = of_site(found.usage("tundish", URL), Tdm(), found.refused(TRAINERS, URL))
    assert site == ("ai-train=no (robots.txt)", "disallow gptbot (robots.txt)")
    assert opt_outs([], (), BETWEEN.join(site).split(BETWEEN)) == site
    assert forbids_training(site)
    assert not forbids_training(["disallow gptbot (robots.txt)"])
    assert forbids_training(["disallow gptbot (robots.txt)"], by_name=True)


@pytest.mark.parametrize(
    "body",
    [b"", b"{}", b"null", b"[1, [2]]", b"[" * 100_000, b'[{"location": 7, "tdm-reservation": 1}]', b"9" * 10_000,
     b'{"location": {"a": 1}}', b"\xff\xfe[\x00", b'[{"tdm-reservation": 1}]', b"<html>404</html>"],
)  # fmt: skip
def test_a_broken_file_states_nothing(body: bytes) -> None:
    assert Tdmrep.parse(body).of(URL) == Tdm()


def test_a_file_too_long_to_be_read_reserves_everything() -> None:
    assert Tdmrep.parse(b" " * (FILE + 1)).of(URL).reserved


def test_what_is_kept_can_be_written_anywhere() -> None:
    """Lone surrogates, line ends and other languages in an address that somebody else chose."""
    body = b'[{"location": "/", "tdm-reservation": 1, "tdm-policy": "\\ud800\\r\\nX: y; b\\u2028\xc3\xa9"}]'
    for one in of_site({}, Tdmrep.parse(body).of(URL)):
        assert one.isascii()
        assert one.isprintable()
        assert BETWEEN not in one


def test_no_opt_outs_kept_is_none() -> None:
    assert opt_outs([], (), "".split(BETWEEN)) == ()


def test_one_rule_without_its_brackets_is_a_rule() -> None:
    assert Tdmrep.parse(b'\xef\xbb\xbf{"location": "/", "tdm-reservation": 1}').of(URL).reserved


@pytest.mark.parametrize(
    ("stated", "use", "wanted"),
    [
        ("train-ai=y, train-genai=n", "train-genai", False),
        ("bots=n", "train-genai", False),
        ("all=n, genai=y", "train-genai", True),
        ("tdm=y, bots=n", "train-ai", False),
        ("train-ai=y, ai-train=no", "train-ai", False),
        ("search=n", "train-ai", None),
        ("", "train-ai", None),
    ],
)
def test_wider_uses_speak_for_narrower_ones(stated: str, use: str, wanted: bool | None) -> None:
    assert allows(statement(stated), use) is wanted


@given(st.lists(st.tuples(st.sampled_from(["tdm-reservation", "x-robots-tag", "content-usage", "content-signal"]),
                          st.text(max_size=60))), st.text(max_size=200), st.binary(max_size=100))  # fmt: skip
def test_nothing_a_server_sends_raises(headers: list[tuple[str, str]], page: str, body: bytes) -> None:
    found = opt_outs(
        headers, metas(f"<meta name=robots content='{page}'>{page}"), of_site({}, Tdmrep.parse(body).of(URL))
    )
    assert list(found) == sorted(set(found))
    assert isinstance(forbids_training(found), bool)
    assert all(BETWEEN not in one for one in found)


@pytest.mark.parametrize(
    ("values", "wanted"),
    [
        (["otherbot: noindex", "nofollow, noarchive"], {"nofollow", "noarchive"}),
        (["tundish: noindex, nofollow"], {"noindex", "nofollow"}),
        (["googlebot: noindex, nofollow"], set()),
        (["none"], {"none", "noindex", "nofollow"}),
        (["unavailable_after: 25 Jun 2010 15:00:00 PST"], {"unavailable_after", "noindex"}),
        (
            ["unavailable_after: Friday, 25-Jun-10 15:00:00 GMT, noarchive"],
            {"unavailable_after", "noindex", "noarchive"},
        ),
        (["unavailable_after: 2010-06-25"], {"unavailable_after", "noindex"}),
        (["unavailable_after: 2050-06-25"], {"unavailable_after"}),
        (["unavailable_after: when the cows come home"], {"unavailable_after"}),
        (["otherbot: unavailable_after: 2010-06-25"], set()),
        (["max-snippet: 20, noindex"], {"max-snippet", "noindex"}),
        (["NOINDEX;x nofollow"], {"noindex;x", "nofollow"}),
        (["", ",,, : ::"], set()),
    ],
)
def test_directives(values: list[str], wanted: set[str]) -> None:
    assert directives(values, "Tundish", 1.7e9) == wanted


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("1970-01-02", 86_400.0),
        ("1970-01", 0.0),
        ("1971", 31_536_000.0),
        ("1970-01-01T01:00:00+01:00", 0.0),
        ("1970-01-01T00:00:09Z", 9.0),
        ("Thu, 01 Jan 1970 00:01:00 GMT", 60.0),
        ("01 Jan 1970 00:00:00 EST", 18_000.0),
        ("yesterday", None),
        ("9999-99", None),
        ("Thu, 99 Jan 1970 00:00:00 GMT", None),
        ("", None),
    ],
)
def test_moments(text: str, seconds: float | None) -> None:
    assert moment(text) == seconds


@given(st.text(max_size=80))
def test_any_text_is_a_moment_or_none(text: str) -> None:
    assert moment(text) is None or isinstance(moment(text), float)
