"""URL rules: what an address alone says, in whatever case and spelling."""

import gzip
import re
import unicodedata
from urllib.parse import unquote

import ada_url
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tundish.operators.web import url_rules
from tundish.operators.web.url_rules import SCHEMA, entries, judged, lists

KNOWN = lists(
    domains=["Heron.example", "blog.kranich.test", "مثال.إختبار", "10.0.0.7"],
    urls=["tern.example/a/B?c=1", "https://www.gull.example:443/list/"],
    hard=["casino", "Рулетка"],
    soft=["hot", "deal", "pills"],
    subwords=["badword", "bad", "rds"],
)


def counts(url: str | None, known: url_rules.Lists = KNOWN) -> dict[str, int | None]:
    return {
        name.removeprefix("url_"): n
        for name, n in judged(pa.array([url], pa.large_string()), known).to_pylist()[0].items()
    }


@pytest.mark.parametrize(
    "url",
    [
        "http://heron.example/",
        "https://www.nest.heron.example/a?b",
        "HTTP://HERON.EXAMPLE",
        "http://user:pw@heron.example:8080/",
        "http://heron.example./",
        "http://her%6Fn.example/",
        "http://ｈｅｒｏｎ.example/",
        "https://blog.kranich.test/",
        "https://old.blog.kranich.test/",
        "http://xn--mgbh0fb.xn--kgbechtv/",
        "http://www.مثال.إختبار/",
        "http://10.0.0.7/x",
    ],
)
def test_a_listed_domain(url: str) -> None:
    assert counts(url)["domain_listed"] == 1


@pytest.mark.parametrize(
    "url",
    [
        "http://theheron.example/",
        "http://example/",
        "http://heron.example.test/",
        "https://kranich.test/",
        "https://myblog.kranich.test/",
        "http://tern.example/?to=heron.example",
        "http://tern.example/heron.example",
        "no address at all",
        "",
        "http://",
        "mailto:someone@heron.example",
    ],
)
def test_a_domain_that_is_not_listed(url: str) -> None:
    assert counts(url)["domain_listed"] == 0


@pytest.mark.parametrize(
    ("url", "listed"),
    [
        ("http://tern.example/a/b?c=1", 1),
        ("https://www.TERN.example:443/a/%42?c=1#top", 1),
        ("http://me@tern.example./a/b?c=1", 1),
        ("http://tern.example/a/b?c=2", 0),
        ("http://tern.example/a/b", 0),
        ("http://tern.example:8080/a/b?c=1", 0),
        ("http://gull.example/list", 1),
        ("http://gull.example/list/more", 0),
    ],
)
def test_a_listed_address(url: str, listed: int) -> None:
    assert counts(url)["listed"] == listed


@pytest.mark.parametrize(
    ("url", "hard", "soft"),
    [
        ("http://a.example/casino/", 1, 0),
        ("http://a.example/CASINO-hot_deal.html", 1, 2),
        ("http://casino.example/casino?q=Casino", 1, 0),
        ("http://a.example/casinos", 0, 0),
        ("http://a.example/%63asino", 1, 0),
        ("http://a.example/hot%20deal", 0, 2),
        ("http://a.example/hot-hot-hot", 0, 1),
        ("http://hot.example/deal?for=pills", 0, 3),
        ("http://a.example/%D0%A0%D1%83%D0%BB%D0%B5%D1%82%D0%BA%D0%B0", 1, 0),
        ("http://xn--80ajfp2bya.example/", 0, 0),
        ("http://рулетка.example/", 1, 0),
        ("casino", 1, 0),
    ],
)
def test_words(url: str, hard: int, soft: int) -> None:
    found = counts(url)
    assert (found["hard_words"], found["soft_words"]) == (hard, soft)


@pytest.mark.parametrize(
    ("url", "parts"),
    [
        ("http://a.example/", 0),
        ("http://mybadlands.example/", 1),
        ("http://my.example/BAD-words", 2),  # badword, and rds inside it
        ("http://a.example/b.a/d", 1),
        ("http://a.example/b%61d", 1),
        ("http://a.example/bad/badword/", 2),
    ],
)
def test_parts_of_words(url: str, parts: int) -> None:
    assert counts(url)["subwords"] == parts


def test_null_and_nothing() -> None:
    assert set(counts(None).values()) == {None}
    assert set(counts("http://heron.example/casino", lists()).values()) == {0}
    empty = judged(pa.array([], pa.large_string()), KNOWN)
    assert empty.schema == SCHEMA
    assert empty.num_rows == 0
    assert judged(pa.array(["http://a.example/", None], pa.string()), KNOWN)["url_listed"].to_pylist() == [0, None]


@given(st.lists(st.one_of(st.none(), st.text(st.characters(exclude_categories=["Cs"])))))
def test_no_address_changes_its_neighbour(urls: list[str | None]) -> None:
    together = judged(pa.array(urls, pa.large_string()), KNOWN).to_pylist()
    assert together == [judged(pa.array([url], pa.large_string()), KNOWN).to_pylist()[0] for url in urls]


@given(st.sets(st.text("abc", min_size=1, max_size=5), min_size=1), st.text("abcd", max_size=40))
def test_the_tree_of_letters_finds_the_longest_at_every_place(words: set[str], text: str) -> None:
    known = lists(subwords=words)
    wanted = {
        max(here, key=len) for at in range(len(text)) if (here := [word for word in words if text.startswith(word, at)])
    }
    assert counts(text, known)["subwords"] == len(wanted)


@pytest.mark.parametrize("unit", ["%", "%25", "a.", "xn--", "bad", "@", ":", "/", "é", "casino-", "#"])
def test_hostile_addresses_are_linear(unit: str) -> None:
    """Were anything here quadratic, this would not come back."""
    run = unit * (400_000 // len(unit))
    for url in (run, f"http://{run}", f"http://a.example/{run}"):
        assert counts(url)["domain_listed"] == 0


def test_entries_of_a_file() -> None:
    text = "\ufeff# adult\r\none.example\r\n\n  two.example # seen in May\nthree.example/#top\n#four\n"
    wanted = ["one.example", "two.example", "three.example/#top"]
    assert entries(text.encode(), "list") == wanted
    assert entries(gzip.compress(text.encode()), "list.gz") == wanted


@pytest.mark.parametrize(
    ("payload", "why"),
    [
        (b"", "holds no entry"),
        (b"# only words about it\n\n", "holds no entry"),
        (b"\x89PNG\r\n\x1a\n\x00\x00\x00", "is no text"),
        (b"\x1f\x8bnot gzip at all", "is broken gzip"),
        (gzip.compress(b"one\ntwo\n", mtime=0)[:-6], "is broken gzip"),
    ],
)
def test_a_file_that_is_no_list(payload: bytes, why: str) -> None:
    with pytest.raises(ValueError, match=why) as told:
        entries(payload, "words.txt")
    assert "words.txt" in str(told.value)
    assert len(str(told.value).splitlines()) == 1


@pytest.mark.parametrize(
    "bad",
    ["http://heron.example/", "heron.example/a", "0.0.0.0 heron.example", "a b", "[::", "@", "*", "a.*.b"],
)
def test_a_domain_that_is_an_address(bad: str) -> None:
    with pytest.raises(ValueError, match="is no domain; write one host a line"):
        lists(domains=["fine.example", bad])


@pytest.mark.parametrize("bad", ["--", " ", "x" * 200])
def test_a_word_that_is_none(bad: str) -> None:
    with pytest.raises(ValueError, match="is no word; write a word"):
        lists(hard=[bad])


@pytest.mark.parametrize("name", ["domains", "urls", "hard", "soft", "subwords"])
def test_what_is_no_list_of_text(name: str) -> None:
    for string in ("porn", b"porn"):
        with pytest.raises(ValueError, match=f"{name} is b?'porn', not a list; give a list of entries"):
            lists(**{name: string})
    for entry in (None, 7, b"porn", "\ud800"):
        with pytest.raises(ValueError, match=f"{name} holds .*, which is no text; write each entry as a string"):
            lists(**{name: [entry]})


def test_a_star_before_a_domain_is_dropped() -> None:
    assert counts("http://nest.heron.example/", lists(domains=["*.heron.example"]))["domain_listed"] == 1


def twin(url: str) -> dict[str, int]:
    """The definition, slowly: every word looked for in every run, every sub-word at every place."""
    text = unquote(url, errors="replace").lower()
    for label in sorted(re.findall("xn--[a-z0-9-]+", text), key=len, reverse=True):
        if len(label) <= 63:
            text = text.replace(label, ada_url.idna.decode(label) or label)
    runs = [run for run in re.split(r"[^\w]|_", unicodedata.normalize("NFKC", text).lower()) if run]
    whole = "".join(runs)
    parts = [[w for w in ("badword", "bad", "rds") if whole.startswith(w, at)] for at in range(len(whole))]
    return {
        "hard_words": sum(word in runs for word in ("casino", "рулетка")),
        "soft_words": sum(word in runs for word in ("hot", "deal", "pills")),
        "subwords": len({max(here, key=len) for here in parts if here}),
    }


SOME = [
    "http://",
    "heron.example",
    "/",
    "?",
    "#",
    "casino",
    "CASINO",
    "hot",
    "deal",
    "bad",
    "word",
    "rds",
    "%63",
    "%D0",
]
SOME += [
    "рулетка",
    "РУЛЕТКА",
    "ｈｏｔ",
    "-",
    "_",
    ".",
    "%2e",
    "@",
    ":80",
    "xn--80ajfp2bya",
    "é",
    "ﬁ",
    " ",
    "pills",
    "x",
]
URLS = st.lists(st.sampled_from(SOME), max_size=9).map("".join)


@given(URLS)
def test_words_are_their_twins(url: str) -> None:
    told, found = twin(url), counts(url)
    assert {name: found[name] for name in told} == told


@given(URLS)
def test_case_never_matters(url: str) -> None:
    assert counts(re.sub("[a-z]+", lambda run: run[0].upper(), url)) == counts(url)


def test_a_word_is_compared_without_its_signs() -> None:
    """As datatrove reads its lists: an entry's own hyphens and spaces are dropped."""
    assert counts("http://a.example/hotdeal", lists(hard=["Hot-Deal"]))["hard_words"] == 1


def test_our_own_words_are_one_spelling() -> None:
    for kind in url_rules.SMALL.values():
        for word in kind.split():
            assert re.fullmatch("[a-z]+", word)
