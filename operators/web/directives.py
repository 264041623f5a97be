"""What a page says of its own use by search engines and crawlers: X-Robots-Tag headers and robots meta tags.

Sources: Google's "Robots meta tag, data-nosnippet, and X-Robots-Tag specifications" (2026-06), which the other engines
follow; `noai` and `noimageai` as DeviantArt defined them (November 2022).

Promises: directives in lower case, `none` spelt out as noindex and nofollow; those for another crawler left out; after
the moment of `unavailable_after` the page is noindex. Costs one pass. Refuses nothing: what cannot be read is left out.
"""

import re
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

LONGEST = 4096  # characters of one value
# What may stand before a colon without being the name of a crawler.
VALUED = frozenset({"unavailable_after", "max-snippet", "max-image-preview", "max-video-preview"})

_ITEM = re.compile(r"[,\s]*+([^\s,:]++)[ \t]*+(:?+)[ \t]*+", re.ASCII)
_ZONES = {"EST": "-0500", "EDT": "-0400", "CST": "-0600", "CDT": "-0500", "PST": "-0800", "PDT": "-0700", "UTC": "GMT"}
_ZONE = re.compile(r"\b(?:" + "|".join(_ZONES) + r")\b")


def directives(values: Iterable[str], token: str, now: float | None = None, *, scoped: bool = True) -> frozenset[str]:
    """What these values say to the crawler `token` (its product token, in any case).

    `scoped`: a value may begin with the name of the crawler it is for, as those of headers do (`name: noindex`); it
    then holds for all that follows in this value. `now`: seconds since 1970; without it `unavailable_after` says
    nothing but that it is there.

    >>> sorted(directives(["otherbot: noindex", "nofollow, noarchive"], "tundish"))
    ['noarchive', 'nofollow']
    >>> sorted(directives(["unavailable_after: 25 Jun 2010 15:00:00 PST"], "tundish", now=1.3e9))
    ['noindex', 'unavailable_after']
    """
    found: set[str] = set()
    for value in values:
        ours = True
        for name, said in _items(value[:LONGEST]):
            if said is None:
                found |= {name} if ours else set()
            elif name in VALUED:
                found |= _valued(name, said, now) if ours else set()
            elif scoped:
                ours = name == token.lower()
    return frozenset(found | {"noindex", "nofollow"} if "none" in found else found)


def _items(value: str) -> Iterator[tuple[str, str | None]]:
    """(name, None) of a plain directive, (name, what follows the colon) of others; a crawler's name has ""."""
    at = 0
    while part := _ITEM.match(value, at):
        name, at = part[1].lower(), part.end()
        if not part[2]:
            yield name, None
        elif name in VALUED:
            end = _end(value, at) if name == "unavailable_after" else _comma(value, at)
            yield name, value[at:end].strip()
            at = end
        else:
            yield name, ""


def _comma(value: str, at: int) -> int:
    found = value.find(",", at)
    return len(value) if found < 0 else found


def _end(value: str, at: int) -> int:
    """Where a date ends: at a comma, but not at the one behind the name of a day."""
    comma = _comma(value, at)
    return _comma(value, comma + 1) if value[at:comma].strip().isalpha() else comma


def _valued(name: str, said: str, now: float | None) -> set[str]:
    if name == "unavailable_after" and now is not None and (at := moment(said)) is not None and at <= now:
        return {name, "noindex"}
    return {name}


def moment(text: str) -> float | None:
    """Seconds since 1970 of a date in ISO 8601, RFC 822 or RFC 850, which is what pages write; None of what is none.

    A date without a zone is UTC; one without a time is the beginning of its day.

    >>> moment("2026-01-02"), moment("Thu, 01 Jan 1970 00:01:00 GMT"), moment("soon")
    (1767312000.0, 60.0, None)
    """
    text = text.strip()[:64]
    found = _iso(text) or _mail(_ZONE.sub(lambda zone: _ZONES[zone[0]], text))
    try:
        return None if found is None else (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()
    except (OverflowError, ValueError):
        return None


def _iso(text: str) -> datetime | None:
    if len(text) in (4, 7) and text.replace("-", "").isdigit():  # W3C: a year, or a year and a month
        text += "-01-01"[: 10 - len(text)]
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        return None


def _mail(text: str) -> datetime | None:
    try:
        return parsedate_to_datetime(text)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
