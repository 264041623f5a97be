"""robots.txt: RFC 9309 and what search engines accept, statements of use, delays, bombs."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tundish.operators.web import robots
from tundish.operators.web.patterns import matches, normal
from tundish.operators.web.robots import ALLOW_ALL, DISALLOW_ALL, LIMIT, Robots, from_status

SITE = "http://heron.example"


def rules(*lines: str) -> Robots:
    return Robots.parse("\n".join(lines).encode())


@pytest.mark.parametrize(
    ("lines", "path", "allowed"),
    [
        (["user-agent: tundish", "disallow: /x/page.html", "allow: /x/"], "/x/page.html", False),
        (["user-agent: tundish", "allow: /x/page.html", "disallow: /x/"], "/x/page.html", True),
        (["user-agent: tundish", "disallow: /", "allow: /"], "/any", True),
        (["user-agent: tundish", "disallow:"], "/any", True),
        (["user-agent: *", "disallow: /x", "user-agent: tundish", "disallow: /y"], "/x", True),
        (["user-agent: a", "user-agent: tundish", "disallow: /x"], "/x", False),
        (["user-agent: a", "crawl-delay: 3", "user-agent: tundish", "disallow: /x"], "/x", False),
        (["user-agent: a", "sitemap: /s", "user-agent: tundish", "disallow: /x"], "/x", False),
        (
            ["user-agent: tundish", "disallow: /a", "", "user-agent: b", "", "user-agent: tundish", "allow: /b"],
            "/a",
            False,
        ),
        (["user-agent: tundish-images", "disallow: /"], "/x", True),
        (["user-agent: tun", "disallow: /"], "/x", True),
        (["user-agent: tundish/1.0", "disallow: /"], "/x", False),
        (["User-Agent: TunDish bot", "disallow: /"], "/x", False),
        (["disallow: /", "user-agent: tundish"], "/x", True),
        (["user-agent tundish", "disallow /x # why"], "/x", False),
        (["user-agent: tundish", "dissalow: /x"], "/x", False),
        (["user-agent: *", "disallow: /*.pdf$"], "/a/b.pdf", False),
        (["user-agent: *", "disallow: /*.pdf$"], "/a/b.pdf?x", True),
        (["user-agent: *", "disallow: /a*/b*c"], "/axx/yy/bzzcq", False),
        (["user-agent: *", "disallow: /?q="], "/?q=1", False),
        (["user-agent: *", "disallow: /b%c3%bccher"], "/bücher/x", False),
        (["user-agent: *", "disallow: /bücher"], "/b%C3%BCcher/x", False),
        (["user-agent: *", "disallow: /%7Euser"], "/~user", False),
        (["user-agent: *", "disallow: /a%2fb"], "/a/b", True),
        (["user-agent: *", "disallow: /"], "/robots.txt", True),
        (["<html><body>disallow: /</body></html>"], "/x", True),
        (["user-agent: *OtherBot*", "disallow: /"], "/x", True),
        (["user-agent: **", "disallow: /"], "/x", False),
        (["user-agent: *", "disallow: /a-%2A.html"], "/a-*.html", False),
        (["user-agent: *", "disallow: /a-%2A.html"], "/a-b.html", True),
        (["user-agent: *", "disallow: /cost-%24"], "/cost-$9", False),
        (["user-agent: *", "disallow: /a$b"], "/a$b/c", False),
        (["user-agent: *", "disallow: /a$b"], "/a", True),
        (["user-agent: *", "disallow: /a$"], "/ab", True),
        (["user-agent: *", "disallow: /a$"], "/a", False),
        (["user-agent: *", "disallow: /page", "allow: /p*ge"], "/page", True),
        (["user-agent: *", "disallow: /p*ge", "allow: /page"], "/page", True),
        (["user-agent: *", "disallow: /p*ge/", "allow: /page"], "/page/", False),
    ],
)
def test_rules(lines: list[str], path: str, allowed: bool) -> None:
    assert rules(*lines).allowed("Tundish", SITE + path) is allowed
    assert Robots.parse("\r".join(lines).encode()).allowed("tundish", SITE + path) is allowed
    assert Robots.parse(b"\xef\xbb\xbf" + "\r\n".join(lines).encode()).allowed("tundish/2", SITE + path) is allowed
    assert Robots.parse("\n".join(lines).encode("utf-16")).allowed("tundish", SITE + path) is allowed


def test_delay_and_sitemaps() -> None:
    found = rules(
        "User-agent: *", "Crawl-delay: 2.5", "Disallow:", "Sitemap: http://heron.example/s.xml", "user-agent: b"
    )
    assert (found.delay("tundish"), found.delay("b")) == (2.5, None)
    assert found.sitemaps == ("http://heron.example/s.xml",)
    assert rules("user-agent: *", "crawl-delay: soon").delay("x") is None
    assert rules("user-agent: *", "crawl-delay: inf").delay("x") is None
    assert rules("user-agent: *", "crawl-delay: -1").delay("x") is None
    assert rules("user-agent: *", "crawl-delay: 2", "user-agent: *", "crawl-delay: 4").delay("x") == 4
    assert ALLOW_ALL.delay("x") is None


@pytest.mark.parametrize(
    ("rate", "delay"), [("1/10", 10), ("2/1m", 30), ("1/2 0600-0845", 2), ("1/1h", 3600), ("0/3", None), ("slow", None)]
)
def test_a_rate_is_a_delay(rate: str, delay: float | None) -> None:
    assert rules("user-agent: *", f"request-rate: {rate}").delay("x") == delay


@pytest.mark.parametrize(
    ("status", "allowed"),
    [
        (200, False),
        (206, False),
        (301, True),
        (403, True),
        (404, True),
        (410, True),
        (429, False),
        (503, False),
        (None, False),
    ],
)
def test_how_it_was_answered(status: int | None, allowed: bool) -> None:
    found = from_status(status, b"user-agent: *\ndisallow: /x")
    assert found.allowed("tundish", SITE + "/x") is allowed
    assert (found is DISALLOW_ALL) is (status in (429, 503, None))


def test_only_the_first_500_kib_count() -> None:
    line = b"# filler\n"
    body = b"user-agent: *\n" + line * (LIMIT // len(line)) + b"disallow: /late\n"
    assert Robots.parse(body).allowed("x", SITE + "/late")
    assert not Robots.parse(body[-200:].replace(line, b"user-agent: *\n")).allowed("x", SITE + "/late")


USED = [
    "User-agent: *",
    "Allow: /",
    "Content-Usage: train-ai=n, search=y",
    "Content-Usage: /open/ train-ai=y",
    "Content-Usage: /open/secret bots=n # why",
    "Content-Signal: search=no, ai-train=no",
    "Content-Signal: /*.txt$ ai-train=yes",
    "Disallow: /never/",
    "",
    "User-agent: friend",
    "Content-Usage: train-ai=y",
]


@pytest.mark.parametrize(
    ("agent", "path", "wanted"),
    [
        ("tundish", "/a", {"train-ai": False, "search": False, "ai-train": False}),
        ("tundish", "/open/a", {"train-ai": True, "search": False, "ai-train": False}),
        ("tundish", "/open/secret/a", {"bots": False, "search": False, "ai-train": False}),
        ("tundish", "/a.txt", {"train-ai": False, "search": True, "ai-train": True}),
        ("friend", "/a", {"train-ai": True}),
    ],
)
def test_what_may_be_done_with_a_page(agent: str, path: str, wanted: dict[str, bool]) -> None:
    """The longest path of each vocabulary speaks; a label both have is refused if one refuses it."""
    assert rules(*USED).usage(agent, SITE + path) == wanted


def test_statements_of_one_path_are_joined_and_the_stricter_holds() -> None:
    found = rules("user-agent: *", "content-usage: /a train-ai=y", "content-usage: /a train-ai=n, search=y")
    assert found.usage("tundish", SITE + "/a") == {"train-ai": False, "search": True}


def test_a_statement_before_all_groups_is_for_all_of_them() -> None:
    found = rules("Content-Signal: ai-train=no", "disallow: /", "user-agent: friend", "disallow: /x")
    assert found.usage("tundish", SITE + "/") == found.usage("friend", SITE + "/") == {"ai-train": False}
    assert found.allowed("tundish", SITE + "/a")  # a rule without a group is none
    assert not found.allowed("friend", SITE + "/x")


def test_a_statement_of_use_closes_the_list_of_agents() -> None:
    found = rules("user-agent: a", "content-signal: ai-train=no", "user-agent: b", "disallow: /")
    assert found.allowed("a", SITE + "/x")
    assert found.usage("b", SITE + "/x") == {}


def test_who_is_turned_away_by_name() -> None:
    found = rules(
        "user-agent: GPTBot", "disallow: /", "allow: /open", "user-agent: ccbot", "user-agent: *", "disallow: /x"
    )
    assert found.refused(["gptbot", "ccbot", "claudebot"], SITE + "/x") == ("gptbot", "ccbot")
    assert found.refused(["gptbot", "ccbot", "claudebot"], SITE + "/open") == ()


def slow(pattern: str, path: str) -> bool:
    """The obvious twin: a regular expression."""
    body = "".join(".*" if c == "*" else re.escape(c) for c in pattern.removesuffix("$"))
    return re.match(body + (r"\Z" if pattern.endswith("$") else ""), path, re.DOTALL) is not None


@given(st.text("ab*$/", max_size=10), st.text("ab$/", max_size=14))
def test_matching_equals_its_twin(pattern: str, path: str) -> None:
    """Patterns and paths as they are written: a `$` inside a pattern, and both signs in a path, are letters."""
    assert matches(pattern, path) == slow(pattern, path)


@given(st.lists(st.tuples(st.text("ab*$/", max_size=6), st.booleans()), max_size=8), st.text("ab$/", max_size=10))
def test_the_longest_rule_holds_whatever_form_it_has(given_rules: list[tuple[str, bool]], path: str) -> None:
    """The look-up of plain rules and the scan of the others together are the plain rule of the RFC."""
    lines = [f"{'allow' if allow else 'disallow'}: /{pattern}" for pattern, allow in given_rules]
    hits = [(len(f"/{pattern}"), allow) for pattern, allow in given_rules if slow(f"/{pattern}", f"/{path}")]
    assert rules("user-agent: *", *lines).allowed("x", f"{SITE}/{path}") is (max(hits)[1] if hits else True)


def test_a_bomb_of_stars_is_linear() -> None:
    assert not matches("/" + "a*" * 8000 + "b", "/" + "a" * 16_000)  # a backtracking matcher never returns


def test_a_file_of_very_many_rules_is_never_read_more_leniently() -> None:
    """500 KiB of patterns: those beyond the ten thousandth forbid what stands before their first star."""
    stars = "".join(f"disallow: /{n}*a*a*a\n" for n in range(30_000))
    plain = "".join(f"disallow: /{n}\n" for n in range(30_000))
    for body in (stars, plain):
        found = Robots.parse(b"user-agent: *\n" + body.encode())
        assert not found.allowed("x", f"{SITE}/20000aaa")
        for _ in range(20):  # measured: 3 ms each
            assert found.allowed("x", SITE + "/" + "a" * 2000)


@given(st.binary(max_size=300))
def test_any_bytes_give_rules(body: bytes) -> None:
    found = Robots.parse(b"user-agent: *\ndisallow: " + body + b"\ncontent-usage: " + body)
    found.allowed("tundish", SITE + "/x")
    found.usage("tundish", SITE + "/x")


@given(st.text(max_size=30))
def test_normal_is_idempotent(path: str) -> None:
    path = path.encode("utf-8", "replace").decode()
    assert normal(normal(path)) == normal(path)


def test_many_rules_for_many_names_are_kept_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file of 500 KB may give 25,000 rules to each of 15,000 names; only who is asked for gets them."""
    read: list[str] = []
    monkeypatch.setattr(robots, "normal", lambda path: read.append(path) or path)
    body = b"".join(b"user-agent: a%d\n" % n for n in range(500)) + b"".join(b"disallow: /%d\n" % n for n in range(400))
    found = Robots.parse(body)
    assert len(found.sections) == 1
    assert len(found.sections[0]) == 400
    assert not found.allowed("a7", SITE + "/3")
    assert found.allowed("other", SITE + "/3")
    assert len(read) == 400
    few = Robots.parse(b"user-agent: x\ndisallow: /\n" + body, {"a499"})
    assert (list(few.named), [len(lines) for lines in few.sections]) == (["a499"], [0, 400])
    assert not few.allowed("a499", SITE + "/399")
