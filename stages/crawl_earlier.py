"""What earlier crawls know: what an address answered with, and when.

Promises: a page that has not changed is not sent again (If-None-Match, If-Modified-Since) and not stored again, but its
links are followed as if it were; each part reads its own addresses once, into its own file. Costs 150 bytes of disk an
address known before. Refuses a root that holds no finished crawl.
"""

import sqlite3
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from tundish.cluster import store
from tundish.cluster.shards import Dataset, opened
from tundish.cluster.wire import Headers, Response
from tundish.operators.web.warc_write import IDENTICAL, NOT_MODIFIED, Earlier, unpacked
from tundish.stages.crawl_archive import answer_of
from tundish.stages.crawl_scope import Rules
from tundish.stages.crawl_tables import key_of

COLUMNS = ("url", "kind", "outcome", "etag", "modified", "digest", "held", "archive", "offset", "length", "time")
MOST = 4 << 20  # bytes of an earlier record that are read


class Before(NamedTuple):
    """What an address answered with in an earlier crawl. `held`: where the payload lies, `uri#offset-length`."""

    etag: str | None
    modified: str | None
    digest: str
    date: str
    held: str

    def asked(self) -> Headers:
        """Headers that ask for the page only if it has changed (RFC 9110, section 13.1)."""
        found = (("If-None-Match", self.etag), ("If-Modified-Since", self.modified))
        return tuple((name, value) for name, value in found if value and value.isprintable())

    def capture(self, url: str, *, modified: bool) -> Earlier:
        """The earlier capture, for a revisit record. `modified`: it was sent again, and is the same."""
        return Earlier(IDENTICAL if modified else NOT_MODIFIED, url, self.date, self.digest)

    def answer(self, url: str) -> Response:
        """The answer as it was stored then. Raises ValueError or OSError where it no longer lies there."""
        return payload_of(self.held, url)


def payload_of(held: str, url: str) -> Response:
    """The answer to `url` that lies at `uri#offset-length`. Raises ValueError or OSError where it does not."""
    uri, _, place = held.rpartition("#")
    offset, _, length = place.partition("-")
    with store.opened(uri) as stream:
        stream.seek(int(offset))
        return answer_of(url, unpacked(stream.read(min(MOST, int(length))), uri.rpartition(".")[2]))


def crawls(root: str) -> list[Dataset]:
    """The finished crawls of a root, by their day; or the one crawl a folder is. Raises ValueError for none."""
    root = store.absolute(root)  # the log keeps where payloads lie, for crawls that are run from elsewhere
    itself = opened(root)
    names = [name for name in store.listing(root) if name.startswith("crawl-")]
    found = [itself] if itself else [opened(store.join(root, name)) for name in names]
    known = [one for one in found if one is not None and "as_of" in one.about]
    if not known:
        raise ValueError(f"Crawl.earlier: {root} holds no finished crawl; give the root of one, or leave it out")
    return sorted(known, key=lambda one: (str(one.about["as_of"]), one.address))


def learn(db: sqlite3.Connection, rules: Rules, part: int) -> None:
    """Read what earlier crawls say of the addresses of a part, once, into the transaction that is open; a later
    crawl's word stands before an earlier one's."""
    done = {uri for (uri,) in db.execute("SELECT uri FROM learned")}
    for uri in rules.earlier:
        if uri not in done:
            db.executemany("REPLACE INTO before VALUES(?,?,?,?,?,?)", _of_part(uri, rules, part))
            db.execute("INSERT INTO learned VALUES(?)", (uri,))


def _of_part(uri: str, rules: Rules, part: int) -> Iterator[tuple[object, ...]]:
    log = opened(store.join(uri, "log"))
    if log is None:
        return
    for name in log.names:
        for table in log.batches(name, 4096):
            if not set(COLUMNS) <= set(table.column_names):
                return  # an older tundish kept no digests
            wanted = pc.and_(
                pc.is_in(table["outcome"], pa.array(["stored", "unchanged"])), pc.equal(table["kind"], "page")
            )
            for row in table.select(COLUMNS).filter(wanted).to_pylist():
                if rules.part(row["url"]) == part and row["digest"]:
                    held = row["held"] or f"{store.join(uri, row['archive'])}#{row['offset']}-{row['length']}"
                    date = row["time"].astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
                    yield key_of(row["url"], "page"), row["etag"], row["modified"], row["digest"], date, held


def before(db: sqlite3.Connection, key: int) -> Before | None:
    row = db.execute("SELECT etag, modified, digest, date, held FROM before WHERE key=?", (key,)).fetchone()
    return Before(*row) if row else None


def forget(db: sqlite3.Connection, key: int) -> None:
    """What an earlier crawl stored of an address is gone: the address is asked for as a new one."""
    db.execute("DELETE FROM before WHERE key=?", (key,))


def now_of(seconds: float) -> str:
    """Seconds since 1970 as WARC writes a time.

    >>> now_of(0)
    '1970-01-01T00:00:00Z'
    """
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
