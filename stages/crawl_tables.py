"""What the frontier of a part keeps: its tables, and their rows as the rest of the crawl sees them."""

from dataclasses import dataclass, fields
from typing import Any, NamedTuple

from tundish.operators.web import urls

FRONTIER = "frontier.sqlite"
TABLES = """
CREATE TABLE IF NOT EXISTS url(
    key INTEGER PRIMARY KEY, url TEXT NOT NULL, host INTEGER NOT NULL, kind TEXT NOT NULL, depth INTEGER NOT NULL,
    parent TEXT NOT NULL, hops INTEGER NOT NULL, tries INTEGER NOT NULL DEFAULT 0, after REAL NOT NULL DEFAULT 0,
    status INTEGER, outcome TEXT, reason TEXT, target TEXT, seconds REAL, archive TEXT, offset INTEGER, size INTEGER,
    length INTEGER, mime TEXT, time REAL, etag TEXT, modified TEXT, digest TEXT, held TEXT, opted TEXT);
CREATE INDEX IF NOT EXISTS waiting ON url(host, after, depth, key) WHERE outcome IS NULL;
CREATE TABLE IF NOT EXISTS host(
    id INTEGER PRIMARY KEY, name TEXT UNIQUE NOT NULL, ready REAL NOT NULL DEFAULT 0, fails INTEGER NOT NULL DEFAULT 0,
    sitemaps INTEGER NOT NULL DEFAULT 0, pages INTEGER NOT NULL DEFAULT 0, same REAL NOT NULL DEFAULT 0,
    delay REAL NOT NULL DEFAULT 0, busy INTEGER NOT NULL DEFAULT 0, busied REAL NOT NULL DEFAULT 0,
    asked INTEGER NOT NULL DEFAULT 0);
CREATE TABLE IF NOT EXISTS robots(
    origin TEXT PRIMARY KEY, status INTEGER, body BLOB NOT NULL, error TEXT NOT NULL, at REAL NOT NULL,
    tries INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS archive(name TEXT PRIMARY KEY, bytes INTEGER NOT NULL, captures INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS outbox(
    batch INTEGER PRIMARY KEY AUTOINCREMENT, part INTEGER NOT NULL, after INTEGER NOT NULL, rows TEXT NOT NULL,
    sent INTEGER NOT NULL DEFAULT 0);
CREATE INDEX IF NOT EXISTS unsent ON outbox(part, batch) WHERE NOT sent;
CREATE INDEX IF NOT EXISTS sent ON outbox(part, batch) WHERE sent;
CREATE TABLE IF NOT EXISTS chain(part INTEGER PRIMARY KEY, batch INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS inbox(sender INTEGER PRIMARY KEY, batch INTEGER NOT NULL, taken INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS nearer(key INTEGER PRIMARY KEY, depth INTEGER NOT NULL);
CREATE INDEX IF NOT EXISTS nearest ON nearer(depth, key);
CREATE TABLE IF NOT EXISTS form(key INTEGER PRIMARY KEY);
CREATE TABLE IF NOT EXISTS before(
    key INTEGER PRIMARY KEY, etag TEXT, modified TEXT, digest TEXT NOT NULL, date TEXT NOT NULL, held TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS learned(uri TEXT PRIMARY KEY);
"""
CAPTURED = "outcome IN ('stored', 'unchanged')"
_ANSWERED = (
    *("status", "outcome", "reason", "seconds", "archive", "offset", "size", "length", "mime", "time", "etag"),
    *("modified", "digest", "held", "opted"),
)
UNASKED = ", ".join(f"{column}=NULL" for column in _ANSWERED)


@dataclass
class Host:
    """What has to be known of a host to be polite to it."""

    id: int
    name: str
    ready: float = 0.0  # seconds since 1970: not asked before
    fails: int = 0  # failures in a row
    sitemaps: int = 0
    pages: int = 0  # captures
    same: float = 0.0  # share of the last 500 or so captures that are like an earlier one
    delay: float = 0.0  # seconds it was given after its last answer
    busy: int = 0  # how often in a row it said that it is
    busied: float = 0.0  # when it last did
    asked: int = 0  # requests, but for robots.txt and tdmrep.json


HOST = tuple(f.name for f in fields(Host))


@dataclass
class Domain:
    """What a registrable domain has had: hosts met, captures stored or under way."""

    hosts: int = 0
    pages: int = 0

    def count(self, pages: int) -> None:
        self.hosts += 1
        self.pages += pages


class Waiting(NamedTuple):
    """An address whose turn it is."""

    key: int
    url: str
    kind: str
    depth: int
    hops: int
    tries: int


class Letter(NamedTuple):
    """Links that another part owns, up to a batch. `after`: the batch before them, without which they are not taken."""

    batch: int
    part: int
    after: int
    rows: list[Any]


class Nearer(NamedTuple):
    """An address that was answered, now nearer than it was then. `target`: of a redirect; else its capture's place,
    and that of its payload where an earlier crawl holds it."""

    row: Waiting
    target: str | None
    archive: str
    offset: int
    size: int
    held: str | None = None


def key_of(url: str, kind: str) -> int:
    """The key of an address as SQLite keeps it (signed). Canonical URLs have no fragment: no page is `#sitemap`."""
    return urls.key(url if kind == "page" else f"{url}#{kind}") - (1 << 63)
