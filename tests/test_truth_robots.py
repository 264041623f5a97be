"""robots.txt against the truth: the specification cases of a search engine, 2,324 real files, and another parser."""

import ast
import io
import random
import re
import tarfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
import zstandard

from tundish.operators.web.robots import LIMIT, Robots

SITE = "http://heron.example"
TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|[A-Za-z_]+|[{}\[\]:,]|#[^\n]*')
LINE = re.compile(r"\r\n|[\r\n]")
CAUSES = ("other lines", "absolute", "agent", "escaped length")
AGENTS = ("tundish", "googlebot", "bingbot", "gptbot", "AhrefsBot", "MJ12bot")


def members(archive: Path) -> Iterator[tuple[str, bytes]]:
    raw = zstandard.ZstdDecompressor(max_window_size=2**27).stream_reader(archive.open("rb")).read()
    with tarfile.open(fileobj=io.BytesIO(raw)) as tar:
        for member in tar:
            if member.isfile():
                yield member.name, tar.extractfile(member).read()


def cases(proto: str) -> Iterator[tuple[bytes, dict[str, str]]]:
    """(robots.txt, expectation) of a file in protobuf's text form."""
    body, expected, name = b"", {}, ""
    for token in TOKEN.findall(proto):
        if token.startswith('"'):
            text = ast.literal_eval("b" + token) if token.isascii() else ast.literal_eval(token).encode()
            if name == "robotstxt":
                body += text
            else:
                expected[name] = expected.get(name, "") + text.decode(errors="replace")
        elif token.isidentifier() and token.isupper():
            expected[name] = token
        elif token.isidentifier():
            name = token
            body = b"" if name == "robotstxt" else body
        elif token == "}" and "testurl" in expected:
            yield body, expected
            expected = {}


# (file of cases, what stands in the URL or the agent) -> why we answer otherwise; the number of cases.
OTHERWISE = {
    ("index-page", "/allowed-slash/"): ("their own rule: index.html in a pattern also means its folder", 1),
    ("non-ascii-paths", "ツ"): ("RFC 9309 2.2.2: escape URL and pattern before comparing; there the caller does", 2),
    ("non-ascii-paths", "/foo/bar/baz"): ("RFC 9309 2.2.2: %62 is b", 1),
    ("user-agent-name", "Foo Bar"): ("a product token ends at a space on both sides", 1),
    ("327748", "/robots.txt"): ("RFC 9309 2.2.2: robots.txt is always allowed", 1),
    ("369883", "/robots.txt"): ("the same", 2),
    ("860237", "/robots.txt"): ("the same", 1),
    ("369883", "AB42bot"): ("tokens may hold digits here, as those of many real crawlers do", 2),
    ("369883", "AB"): ("the same: AB42bot is not AB", 1),
}


def reason_of(stem: str, case: dict[str, str]) -> tuple[str, str] | None:
    """Under which of `OTHERWISE` a case falls."""
    for key in OTHERWISE:
        if key[0] == stem and (case["testurl"].endswith(key[1]) or case["useragent"] == key[1]):
            return key
    return None


def test_the_specification_cases_of_a_search_engine(data: Path) -> None:
    """400 cases of 40 files, correctness and stress; each one we answer otherwise is listed above with its reason."""
    seen, met, unexplained = 0, Counter(), []
    for name, raw in members(data / "robots" / "google-spec-textproto.tar.zst"):
        for body, case in cases(raw.decode()) if name.endswith(".textproto") else ():
            seen += 1
            if Robots.parse(body).allowed(case["useragent"], case["testurl"]) != (
                case["expected_outcome"] == "ALLOWED"
            ):
                key = reason_of(Path(name).stem, case)
                met[key] += 1
                unexplained += [] if key else [(name, case)]
    assert not unexplained
    assert seen == 400
    assert met == {key: times for key, (_, times) in OTHERWISE.items()}


@pytest.fixture(scope="module")
def files(data: Path) -> list[tuple[str, bytes]]:
    return list(members(data / "robots" / "robots-txt.tar.zst"))


def test_every_real_file_gives_rules(files: list[tuple[str, bytes]]) -> None:
    found = [Robots.parse(body) for _, body in files]
    for one in found:
        assert one.allowed("tundish", SITE + "/robots.txt")
        one.allowed("tundish", SITE + "/a/b?c=d")
    assert len(found) == 2324
    assert sum(bool(one.groups) for one in found) > 2000
    assert sum(bool(one.sitemaps) for one in found) > 800
    assert sum(one.delay("tundish") is not None for one in found) > 150
    assert max(len(group.rules) for one in found for group in one.groups.values()) > 1000


def only_rules(text: str) -> str:
    return "\n".join(
        line for line in LINE.split(text) if re.match(r"\W{0,3}\s*(user-?agent|(dis)?allow)\b", line, re.I)
    )


def only_paths(text: str) -> str:
    return "\n".join(line for line in LINE.split(text) if not re.match(r"\s*(dis)?allow\s*:\s*https?://", line, re.I))


def only_tokens(text: str) -> str:
    """Agents cut to their product tokens; `*bot*` is a bot, and no token is a part of another."""
    text = re.sub(r"(?im)^(\W{0,3}\s*user-?agent\s*:\s*)\*+(?=\w)", r"\1", text)
    text = re.sub(r"(?im)^(\W{0,3}\s*user-?agent\s*:\s*)(\*|[A-Za-z0-9_.-]+)[^\r\n]*", r"\1\2", text)
    return re.sub(r"(?im)^(\W{0,3}\s*user-?agent\s*:\s*)google\s*$", r"\1", text)


def plain(text: str) -> str:
    """With signs that are one octet in any spelling: there an escaped pattern's length decides which is longest."""
    return text.replace("?", "~").replace("&", "~")


def paths(text: str, draw: random.Random) -> list[str]:
    """Two addresses any site has, and some that its own patterns are about."""
    patterns = [line.split(":", 1)[1].split("#")[0].strip() for line in LINE.split(text) if "allow" in line.lower()[:9]
                and ":" in line]  # fmt: skip
    found = ["/", "/a/b.html?c=d"]
    for pattern in draw.sample(patterns, min(6, len(patterns))):
        path = pattern.replace("*", draw.choice(["x", "x/y", ""])).replace("$", "")
        path = (path if path.startswith("/") else f"/{path}") + draw.choice(["", "z", "/index.html", "?q=1"])
        found += [path] if " " not in path and len(path) < 500 else []
    return found


def test_another_parser_answers_alike(files: list[tuple[str, bytes]]) -> None:
    """Protego (Scrapy's parser). A difference counts under the first change to the file that ends it, each change on
    top of the ones before."""
    protego = pytest.importorskip("protego").Protego
    draw, asked, causes, rest = random.Random(1), 0, Counter(), []
    for name, body in files:
        text = body[:LIMIT].decode("utf-8-sig", "replace")
        ours, theirs, changed = Robots.parse(body), protego.parse(text), []
        for path in paths(text, draw):
            for agent in AGENTS:
                asked, url = asked + 1, SITE + path
                answer = ours.allowed(agent, url)
                if theirs.can_fetch(url, agent) == answer:
                    continue
                rules, relative = only_rules(text), only_paths(only_rules(text))
                tokens = only_tokens(relative)
                changed = changed or [protego.parse(one) for one in (rules, relative, tokens, plain(tokens))]
                agrees = [
                    *(one.can_fetch(url, agent) == answer for one in changed[:3]),
                    changed[3].can_fetch(plain(url), agent) == answer,
                ]
                cause = CAUSES[agrees.index(True)] if any(agrees) else "rest"
                causes[cause] += 1
                rest += [(name, agent, path)] if cause == "rest" else []
    assert asked > 80_000
    assert not rest
    assert sum(causes.values()) / asked < 0.004, causes
