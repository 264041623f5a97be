"""How a host is treated: whose rules are read how, how long to wait, when to stop asking.

Sources: RFC 9309 (robots.txt), RFC 9110 section 10.2.3 (Retry-After), and what Heritrix, Nutch and StormCrawler do
(research in docs/manners.md). Pure functions of headers, counts and seconds. A host that is allowed by name has its own
delay for a unit, so that who may be asked at once may be asked again soon; for all others the numbers are seconds.
Refuses nothing.
"""

import math
from datetime import UTC
from email.utils import parsedate_to_datetime
from hashlib import blake2b

from tundish.operators.web.directives import directives as directives

TRIES = 3  # requests for one address before it is given up
DOWN = 5  # failures of a host in a row before it is parked
PARKS = (3600.0, 21_600.0, 86_400.0)  # seconds a host is parked after DOWN failures in a row, and after each one more
DROPPED = DOWN + len(PARKS)  # failures in a row after which it is given up
NAMED_UNIT = 360.0  # seconds of a park that are one unit where a host is named: 10, 60 and 240 of its delays
LONGEST_DELAY = 120.0  # seconds; who asks for more is asked that slowly, for a day's worth of pages
DAY = 86_400.0
LONGEST_PAUSE = DAY  # seconds waited at most, whatever Retry-After says
ADAPTED = (1.0, 60.0)  # seconds between which the delay follows how long a host takes to answer
LATENCIES = 5.0  # delays a request's own time stands for
JITTER = 0.1  # share of a pause that is more or less, so that hosts that failed together do not come back together
QUIET = 1800.0  # seconds without a "busy" after which a host's earlier ones are forgotten
ROBOTS_AGE = DAY  # seconds a robots.txt is believed (RFC 9309 section 2.4)
ROBOTS_STALE = 30 * DAY  # seconds an old one is believed while a new one cannot be had (section 2.3.1.4)
ROBOTS_BYTES = 512_000  # RFC 9309 section 2.5 asks for 500 KiB at least
RETRIED = frozenset({429, 500, 502, 503, 504})  # 403 is an answer, not a plea: it is neither tried again nor waited for
BUSY = frozenset({429, 503})
ACCEPTED = (("Accept", "text/html,application/xhtml+xml,text/plain;q=0.9,*/*;q=0.5"), ("Accept-Encoding", "gzip, br"))


def product(agent: str) -> str:
    """The product token robots.txt groups are named by.

    >>> product("tundish-demo/0.1 (+http://heron.example/bot)")
    'tundish-demo'
    """
    return agent.split("/")[0].split()[0] if agent.strip() else ""


def spacing(least: float, wished: float = 0.0, seconds: float = 0.0, *, named: bool = False) -> float:
    """Seconds from the end of one request to the next: what we owe any host, what this one asks for, or five times
    what its last answer took, whichever is longest. Of an answer's time no more than a minute is made.

    `least`: the crawl's own delay. `wished`: Crawl-delay. `seconds`: what the last answer took. `named`: the crawl's
    author answers for this host's delay, so how long it takes changes nothing.

    >>> spacing(1.0, seconds=0.1), spacing(1.0, seconds=3.0), spacing(1.0, seconds=99.0), spacing(1.0, 90.0, 99.0)
    (1.0, 15.0, 60.0, 90.0)
    >>> spacing(0.01, 0.0, 3.0, named=True)
    0.01
    """
    owed = max(least, wished)
    if named:
        return min(owed, DAY)
    low, high = ADAPTED
    return min(DAY, max(owed, min(high, max(low, LATENCIES * seconds))))


def allowance(wished: float) -> int | None:
    """Pages a host may be asked for in a crawl: as many as a day has room for, where it wants more than two minutes
    between them; None, no limit, for all others.

    >>> allowance(120.0), allowance(600.0), allowance(1e9)
    (None, 144, 1)
    """
    return None if wished <= LONGEST_DELAY else max(1, int(DAY // wished))


def pause(delay: float, tries: int, *, busy: bool = False, key: str = "") -> float:
    """Seconds until the next try: doubles each time, from 5 delays, or 60 where the host said it was busy.

    `key`: whose pause it is; it is a tenth longer or shorter by a hash of it, the same whenever it is worked out.

    >>> pause(1.0, 0), pause(1.0, 2, busy=True), pause(0.0, 0)
    (5.0, 240.0, 0.5)
    >>> 4.5 <= pause(1.0, 0, key="heron.example") == pause(1.0, 0, key="heron.example") <= 5.5
    True
    """
    pure = (60 if busy else 5) * max(delay, 0.1) * 2.0 ** min(tries, 64)
    return min(LONGEST_PAUSE, pure * _jitter(key, tries))


def _jitter(key: str, tries: int) -> float:
    if not key:
        return 1.0
    drawn = int.from_bytes(blake2b(f"{key}\0{tries}".encode("utf-8", "replace"), digest_size=4).digest(), "big")
    return 1.0 + JITTER * (drawn / 2**31 - 1.0)


def rest(fails: int, delay: float, *, named: bool = False, key: str = "") -> float | None:
    """Seconds a host is left alone after so many failures in a row to reach it: a pause that doubles, from the fifth on
    an hour, six hours, a day; None when it is to be given up.

    >>> rest(1, 1.0), rest(5, 1.0), rest(7, 1.0), rest(8, 1.0), rest(5, 0.1, named=True)
    (5.0, 3600.0, 86400.0, None, 1.0)
    """
    if fails < DOWN:
        return pause(delay, max(0, fails - 1), key=key)
    if fails >= DROPPED:
        return None
    park = PARKS[fails - DOWN]
    return (max(delay, 0.1) / NAMED_UNIT * park if named else park) * _jitter(key, fails)


def busy_again(times: int, last: float, now: float) -> int:
    """How often in a row a host has said that it is busy, this time included; half an hour of quiet forgives.

    >>> busy_again(2, 1000.0, 1500.0), busy_again(2, 1000.0, 9000.0)
    (3, 1)
    """
    return times + 1 if now - last < QUIET else 1


def retry_after(value: str | None, now: float) -> float | None:
    """Seconds a Retry-After header asks for, a day at most; None when there is none that can be read.

    >>> retry_after("7", 0.0), retry_after("Thu, 01 Jan 1970 00:00:30 GMT", 10.0), retry_after("soon", 0.0)
    (7.0, 20.0, None)
    """
    if value is None:
        return None
    text = value.strip()
    if text.isascii() and text.isdigit():
        return min(LONGEST_PAUSE, float(text[:12]))
    try:
        date = parsedate_to_datetime(text[:64])
        at = (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp()
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    return min(LONGEST_PAUSE, max(0.0, at - now)) if math.isfinite(at) else None
