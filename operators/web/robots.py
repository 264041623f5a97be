"""What a host's robots.txt allows (RFC 9309), read from bytes, and what it says of the use of what it allows.

Promises: any bytes give rules; longest match, allow on a tie, groups of one agent joined, lines nobody knows change
nothing; matching takes time linear in pattern and path, however many `*` a pattern has. Costs about 1 ms for 100 lines
once, then 2 to 10 us an address. Refuses nothing; reads the first 500 KiB.

Beyond the RFC: Crawl-delay, Request-rate and Sitemap lines, a missing colon, and spellings that search engines accept;
`Content-Usage` (draft-ietf-aipref-attach-05, section 3) and `Content-Signal` (contentsignals.org) of a group, for the
whole host or behind a path.
"""

import math
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property

from tundish.operators.web.patterns import Pattern, compiled, normal, path_of
from tundish.operators.web.preferences import statement, strictest

LIMIT = 500 << 10  # bytes; RFC 9309 section 2.5 asks for at least this
LINE = 16 << 10  # bytes of one line; no URL is longer
SITEMAPS = 1000
STARRED = 10_000  # patterns with `*` or `$` in a group that are told apart; real files have 1,100 at most
STATED = 1000  # statements of use in a group

_LINES = re.compile(rb"\r\n|[\r\n]")
_MARK = re.compile(rb"\A\xef(?:\xbb\xbf?)?")  # a byte order mark, also cut short
_TOKEN = re.compile(r"[A-Za-z0-9_.-]+")
_RATE = re.compile(r"(\d{1,9})\s*/\s*(\d{1,9})\s*([smh]?)(?![A-Za-z])", re.IGNORECASE)
_SECONDS = {"": 1, "s": 1, "m": 60, "h": 3600}

_KEYS = {
    "user-agent": "agent",
    "useragent": "agent",
    "user agent": "agent",
    "allow": "allow",
    "disallow": "disallow",
    "dissallow": "disallow",
    "dissalow": "disallow",
    "disalow": "disallow",
    "diasllow": "disallow",
    "disallaw": "disallow",
    "crawl-delay": "delay",
    "crawldelay": "delay",
    "request-rate": "rate",
    "sitemap": "sitemap",
    "site-map": "sitemap",
    "content-usage": "usage",
    "content-signal": "signal",
    "content-signals": "signal",
}
RULES = frozenset({"allow", "disallow", "usage", "signal"})
_WITH_PATH = re.compile(r"(/\S*)\s+(.*)", re.DOTALL)

Line = tuple[str, str]  # what a line is about, and its value
Rule = tuple[str, bool]  # a pattern, and whether it allows
Stated = tuple[str, tuple[tuple[str, bool], ...]]  # a pattern, and what may be done with what lies there


@dataclass(frozen=True)
class Group:
    """What is told to one agent.

    `rules`: longest pattern first, allow before disallow. `delay`: seconds or None. `usage`, `signals`: statements of
    use, longest pattern first; those of one pattern are joined, the strictest holds.
    """

    rules: tuple[Rule, ...]
    delay: float | None
    usage: tuple[Stated, ...] = ()
    signals: tuple[Stated, ...] = ()

    def allowed(self, path: str) -> bool:
        """Whether a path in its one spelling (`path_of`) may be fetched."""
        length, allow = self._longest_plain(path)
        for pattern, allows in self._starred:
            if pattern.length < length or (pattern.length == length and (allow or not allows)):
                break
            if pattern.matches(path):
                return allows
        return allow

    def _longest_plain(self, path: str) -> tuple[int, bool]:
        for length in self._lengths:
            if length <= len(path) and (allow := self._plain.get(path[:length])) is not None:
                return length, allow
        return -1, True

    @cached_property
    def _plain(self) -> dict[str, bool]:
        """Rules that are the beginning of a path and nothing else: found by a look, however many there are."""
        found: dict[str, bool] = {}
        for pattern, allow in self.rules:
            if not _starred(pattern):
                found[pattern] = found.get(pattern, False) or allow
        starred = [rule for rule in self.rules if _starred(rule[0])]
        for pattern, allow in starred[STARRED:]:  # an attack, or madness: forbid more rather than search for ever
            if not allow:
                found.setdefault(re.split(r"[*$]", pattern, maxsplit=1)[0], False)
        return found

    @cached_property
    def _lengths(self) -> tuple[int, ...]:
        return tuple(sorted({len(pattern) for pattern in self._plain}, reverse=True))

    @cached_property
    def _starred(self) -> tuple[tuple[Pattern, bool], ...]:
        starred = [rule for rule in self.rules if _starred(rule[0])]
        return tuple((compiled(pattern), allow) for pattern, allow in starred[:STARRED])


def _starred(pattern: str) -> bool:
    return "*" in pattern or "$" in pattern


@dataclass(frozen=True)
class Robots:
    """Sections of rules, which of them name which agent (lower-case product tokens; "*" for all others), what stands
    before all of them, and the sitemaps a host names, in file order. A group is put together when it is asked for: a
    file may give thousands of rules to thousands of names."""

    sections: tuple[list[Line], ...] = ()
    named: Mapping[str, list[tuple[int, int]]] = field(default_factory=dict)  # (section, line from which it holds)
    loose: tuple[Line, ...] = ()
    sitemaps: tuple[str, ...] = ()
    _known: dict[str, Group] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def parse(cls, body: bytes, agents: Collection[str] | None = None) -> "Robots":
        """Rules of a file. `agents`: lower-case names that will be asked for; rules of others are not kept."""
        wanted = None if agents is None else {"*", *agents}
        sections: list[list[Line]] = []
        named: dict[str, list[tuple[int, int]]] = {}
        sitemaps: dict[str, None] = {}
        loose: list[Line] = []
        current, ruled = loose, True  # a rule closes the list of agents; other lines do not (RFC 9309 section 2.2.4)
        for key, value in _records(body):
            if key == "agent":
                if ruled:
                    if not sections or sections[-1]:
                        sections.append([])
                    current, ruled = sections[-1], False
                name = _agent(value)
                if name and (wanted is None or name in wanted):
                    places = named.setdefault(name, [])
                    if not places or places[-1][0] != len(sections) - 1:
                        places.append((len(sections) - 1, len(current)))
            elif key == "sitemap":
                if len(sitemaps) < SITEMAPS:
                    sitemaps[value] = None
            else:
                ruled = ruled or key in RULES
                current.append((key, value))
        used = {section for places in named.values() for section, _ in places}
        kept = tuple(lines if number in used else [] for number, lines in enumerate(sections))
        stated = tuple(line for line in loose if line[0] in ("usage", "signal"))
        if stated:  # statements of use before all groups: nobody means nobody by them
            named.setdefault("*", [])
        return cls(kept, named, stated, tuple(filter(None, sitemaps)))

    @property
    def groups(self) -> dict[str, Group]:
        """All groups by name."""
        return {name: self._made(name) for name in self.named}

    def _made(self, name: str) -> Group:
        if name not in self._known:
            draft = _Draft()
            for section, start in self.named[name]:
                for key, value in self.sections[section][start:]:
                    draft.take(key, value)
            before = _Draft()
            for key, value in self.loose:
                before.take(key, value)
            self._known[name] = draft.joined(before).done()
        return self._known[name]

    def allowed(self, agent: str, url: str) -> bool:
        """May `agent` (a product token, in any case) fetch this URL? robots.txt itself always.

        >>> found = Robots.parse(b"User-agent: *\\nDisallow: /a*b$\\nAllow: /a")
        >>> found.allowed("tundish", "http://heron.example/axb"), found.allowed("tundish", "http://heron.example/axbc")
        (False, True)
        """
        path = path_of(url)
        group = self._group(agent)
        return group is None or path == "/robots.txt" or group.allowed(path)

    def delay(self, agent: str) -> float | None:
        """Seconds between two requests that the agent's group asks for. As stated: the caller sets a ceiling."""
        group = self._group(agent)
        return group.delay if group else None

    def usage(self, agent: str, url: str) -> dict[str, bool]:
        """What may be done with this URL's content, by label: True where allowed, False where refused.

        Of `Content-Usage` and of `Content-Signal` the statement with the longest pattern that matches, joined; where
        both use a label (`search`), the stricter holds. Nothing is said of a URL that must not be fetched.

        >>> found = Robots.parse(b"User-agent: *\\nContent-Usage: train-ai=n\\nContent-Usage: /open/ train-ai=y")
        >>> found.usage("tundish", "http://heron.example/a"), found.usage("tundish", "http://heron.example/open/a")
        ({'train-ai': False}, {'train-ai': True})
        """
        group = self._group(agent)
        if group is None or not (group.usage or group.signals):
            return {}
        path = path_of(url)
        return strictest([_longest(group.usage, path), _longest(group.signals, path)])

    def refused(self, agents: Iterable[str], url: str) -> tuple[str, ...]:
        """Those of these agents that have a group of their own and must not fetch this URL: whom the host turns away
        by name."""
        path = path_of(url)
        named = (agent for agent in agents if agent.lower() in self.named)
        return tuple(agent for agent in named if not self._made(agent.lower()).allowed(path))

    def _group(self, agent: str) -> Group | None:
        name = _agent(agent)
        return self._made(name) if name in self.named else self._made("*") if "*" in self.named else None


def _longest(stated: tuple[Stated, ...], path: str) -> dict[str, bool]:
    return next((dict(said) for pattern, said in stated if compiled(pattern).matches(path)), {})


@dataclass
class _Draft:
    rules: set[Rule] = field(default_factory=set)
    delay: float | None = None
    usage: dict[str, dict[str, bool]] = field(default_factory=dict)
    signals: dict[str, dict[str, bool]] = field(default_factory=dict)

    def take(self, key: str, value: str) -> None:
        if key in ("allow", "disallow"):
            if value:  # an empty one forbids, and allows, nothing
                self.rules.add((normal(value), key == "allow"))
        elif key in ("usage", "signal"):
            _state(self.usage if key == "usage" else self.signals, value)
        elif (seconds := _delay(value) if key == "delay" else _rate(value)) is not None:
            self.delay = max(self.delay or 0.0, seconds)  # of several the slowest

    def joined(self, loose: "_Draft") -> "_Draft":
        """With the statements of use that stand before all groups."""
        for mine, theirs in ((self.usage, loose.usage), (self.signals, loose.signals)):
            for pattern, said in theirs.items():
                mine[pattern] = strictest([mine.get(pattern, {}), said])
        return self

    def done(self) -> Group:
        rules = tuple(sorted(self.rules, key=lambda rule: (-len(rule[0]), not rule[1], rule[0])))
        return Group(rules, self.delay, _sorted(self.usage), _sorted(self.signals))


def _state(known: dict[str, dict[str, bool]], value: str) -> None:
    """One statement of use, joined with what is stated for the same pattern."""
    found = _WITH_PATH.match(value)
    pattern, text = (normal(found[1]), found[2]) if found else ("", value)
    if (said := statement(text)) and (pattern in known or len(known) < STATED):
        known[pattern] = strictest([known.get(pattern, {}), said])


def _sorted(known: dict[str, dict[str, bool]]) -> tuple[Stated, ...]:
    return tuple((pattern, tuple(known[pattern].items())) for pattern in sorted(known, key=lambda p: (-len(p), p)))


def _delay(value: str) -> float | None:
    try:
        seconds = float(value)
    except ValueError:
        return None
    return seconds if math.isfinite(seconds) and seconds >= 0 else None


def _rate(value: str) -> float | None:
    """Seconds a page of `1/10`, `1/10s` or `2/1m`: pages in so much time. Hours of the day behind it are not read."""
    found = _RATE.match(value)
    return int(found[2]) * _SECONDS[found[3].lower()] / int(found[1]) if found and int(found[1]) else None


def _records(body: bytes) -> Iterator[Line]:
    """(what, value) of the lines that mean something."""
    body = body[:LIMIT]
    if body[:2] in (b"\xff\xfe", b"\xfe\xff"):
        body = body.decode("utf-16", "replace").encode()
    for raw in _LINES.split(_MARK.sub(b"", body)):
        line = raw[:LINE].split(b"#", 1)[0].decode("utf-8", "surrogateescape").strip("\0 \t\v\f")
        name, colon, value = line.partition(":")
        if not colon:
            name, value = (*line.split(None, 1), "", "")[:2]
        if key := _KEYS.get(name.strip().lower()):
            yield key, value.strip()


def _agent(value: str) -> str:
    """Product token: `*`, or letters, digits, `_`, `.` and `-` up to anything else. `*bot*` is no `*`, but a bot."""
    found = _TOKEN.match(value.lstrip("*"))
    if found:
        return found[0].lower()
    return "*" if value.startswith("*") else ""


ALLOW_ALL = Robots()
DISALLOW_ALL = Robots.parse(b"User-agent: *\nDisallow: /")


def from_status(status: int | None, body: bytes, agents: Collection[str] | None = None) -> Robots:
    """Rules from how robots.txt was answered (RFC 9309 section 2.3.1); `status` None: it could not be reached.

    2xx: its rules. 4xx, and redirects that lead nowhere: no rules. 429, 5xx, unreachable: nothing is allowed, for now.
    """
    if status is not None and 200 <= status < 300:
        return Robots.parse(body, agents)
    if status is not None and 300 <= status < 500 and status != 429:
        return ALLOW_ALL
    return DISALLOW_ALL
