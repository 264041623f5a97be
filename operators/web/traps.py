"""Addresses that look endless: loops in a path, calendars without end, sessions, heaps of parameters.

A trap is known by its address alone, before anything is asked for, so a page that happens to look like one is lost.
Each rule is therefore drawn from what real addresses stay within; of the 9,000 of the test data it may hit none.
Sources: Heritrix's PathologicalPath and TooManyPathSegments, the habits of faceted shops and of event calendars.

Promises: a reason or None, from the address and the year alone; linear time. Costs 2 to 4 us. Refuses nothing.
"""

import re
from collections import Counter
from itertools import pairwise

SEGMENTS, REPEATS, PARAMETERS = 20, 2, 8  # what paths and queries of real pages stay within
NUMBERED = 4  # times a segment of digits may be there: /1/1/1/1 is a place in a tree of pages
FIRST = 1990  # calendars that go back further have left the web behind
SPAN = 100  # years before and behind in which a number is a year: calendars are walked month by month
_DIGITS = frozenset("0123456789")
_SESSION_SEGMENT = re.compile(r"\((?:[A-Z]\([A-Za-z0-9]{16,64}\))+\)")  # ASP.NET without cookies
_SESSION_NAME = re.compile(r"(?:session|sess|sid|phpsessid|jsessionid|sessionid|oscsid|zenid)", re.IGNORECASE)
_SESSION = re.compile(r"(?=[^/&]*[0-9])(?=[^/&]*[A-Za-z])[0-9A-Za-z]{20,128}")
_MONTHS, _DAYS = r"(?:0?[1-9]|1[0-2])", r"(?:0?[1-9]|[12][0-9]|3[01])"
_DATE = re.compile(rf"(?<=[/=])([12][0-9]{{3}})[-/]{_MONTHS}(?:[-/]{_DAYS})?(?=[/&?.]|$)")  # a whole segment or value
_ANY_DATE = re.compile(rf"(?<![0-9])([12][0-9]{{3}})[-/]?(?:0[1-9]|1[0-2])(?:[-/]?{_DAYS})?(?![0-9])")
_YEAR = re.compile(r"(?:^|[&_-])(?:year|yr|jahr|annee|ano|anno)=([12][0-9]{3})(?![0-9])", re.IGNORECASE)
_MONTH = re.compile(r"(?:^|[&_-])(?:month|mon|monat|mois|mes|mese|day|week)=", re.IGNORECASE)
_CALENDAR = re.compile(
    r"(?<![a-z])(?:e?cal(?:endar|endario|endrier)?|kalender|agenda|events?|veranstaltungen|termine|month|week|day)"
    r"(?![a-z])",
    re.IGNORECASE,
)


def trap(url: str, year: int | None = None) -> str | None:
    """Why a canonical URL looks endless, or None. `year`: that of the crawl; without it no date is too late.

    `segments`, `repeated_segment` (the third time), `repeated_path` (a/b/a/b), `parameters`, `repeated_parameter`,
    `session`, `calendar`.

    >>> trap("http://a.example/x/y/x/y/x/y/"), trap("http://a.example/x/y/?page=2")
    ('repeated_segment', None)
    >>> trap("http://a.example/events/2031-05/", 2026), trap("http://a.example/2026/05/a-heron", 2026)
    ('calendar', None)
    """
    way = url.split("/", 3)[3] if url.count("/") > 2 else ""
    path, _, query = way.partition("?")
    segments = [part for part in path.split("/") if part]
    return _loop(segments) or _session(segments, query) or _parameters(query) or _calendar(path, query, year)


def _loop(segments: list[str]) -> str | None:
    if len(segments) > SEGMENTS:
        return "segments"
    if len(segments) <= REPEATS:
        return None
    for part, times in Counter(segments).items():
        if times > (NUMBERED if _DIGITS.issuperset(part) else REPEATS):
            return "repeated_segment"
    return "repeated_path" if _doubled(segments) else None


def _doubled(segments: list[str]) -> bool:
    """Whether two or more segments are followed by the same ones again. Dates and numbers may be."""
    for width in range(2, len(segments) // 2 + 1):
        for low in range(len(segments) - 2 * width + 1):
            run = segments[low : low + width]
            if run == segments[low + width : low + 2 * width] and not _DIGITS.issuperset("".join(run)):
                return True
    return False


def _session(segments: list[str], query: str) -> str | None:
    """A session that is part of the address, not the parameters that `canonical` drops."""
    if any(_SESSION_SEGMENT.fullmatch(part) for part in segments):
        return "session"
    if any(_SESSION_NAME.fullmatch(name) and _SESSION.fullmatch(value) for name, value in pairwise(segments)):
        return "session"
    for part in segments[-1:] + query.split("&"):
        name, _, value = part.partition("=")
        if value and _SESSION_NAME.fullmatch(name) and _SESSION.fullmatch(value):
            return "session"
    return None


def _parameters(query: str) -> str | None:
    if not query:
        return None
    parts = query.split("&")
    if len(parts) > PARAMETERS:
        return "parameters"
    return "repeated_parameter" if any(times > REPEATS for times in Counter(parts).values()) else None


def _calendar(path: str, query: str, year: int | None) -> str | None:
    """A date after next year, or, in what calls itself a calendar, before the web. Elsewhere old dates are archives of
    newspapers, and a number inside a name is a number."""
    text = f"/{path}?{query}"
    named = _CALENDAR.search(text) is not None
    years = [int(found) for found in (_ANY_DATE if named else _DATE).findall(text)]
    if _MONTH.search(query):
        years += [int(found) for found in _YEAR.findall(query)]
    if year is not None and any(year + 1 < one <= year + SPAN for one in years):
        return "calendar"
    return "calendar" if named and any(FIRST - SPAN < one < FIRST for one in years) else None
