"""The frontier of one part: every address it owns, and what became of it, in one SQLite file.

    url      one row an address: the queue (outcome is null), the seen-set (the key) and the audit trail (the rest)
    host     when it may be asked again, how often it failed
    robots   robots.txt as it was answered
    archive  the archive files and how many of their bytes are committed
    outbox   links that other parts own, until those have them where no crash undoes it; each batch knows the one before
    inbox    the last batch taken from each part
    nearer   addresses that were answered and then turned out to lie nearer: what they name is to be told again
    form     digests of pages without their digits, so that pages that differ in nothing else are known

An address is as deep as the shortest way to it and as many redirects away as the way with the fewest; both only fall,
and whatever they fall for is told on. So which addresses are fetched does not hang on the order in which links come.
Promises: everything since the last `commit` is undone by a crash, together; no address twice, but for one that is
named both as a page and as a sitemap: it is asked for as each. Costs about 20 us an address and 16 MB of memory,
however many there are. Refuses to open a frontier another keeper holds.
"""

import json
import sqlite3
from collections.abc import Collection, Iterable, Iterator
from hashlib import blake2b
from pathlib import Path
from typing import Any

from tundish.stages.crawl_scope import HOPS, Found, Rules, host_of, registrable
from tundish.stages.crawl_tables import CAPTURED, HOST, TABLES, Domain, Host, Letter, Nearer, Waiting, key_of

RECENT = 1 << 16  # addresses remembered as known without a look at the disk
PATIENCE = 20.0  # seconds a keeper that was killed may take to be gone
SITEMAPS = 100  # a host, so that a sitemap of sitemaps has an end
TOGETHER = 64  # batches of links posted as one, when a part has fallen behind
RECALL = 500  # captures of a host that its sameness looks back on: manuals end with as many untranslated pages


class Frontier:
    """Owner of the file; every change is in one open transaction until `commit`."""

    def __init__(self, path: Path, rules: Rules) -> None:
        self.rules = rules
        path.parent.mkdir(parents=True, exist_ok=True)
        self.db = sqlite3.connect(path, timeout=PATIENCE, isolation_level=None, check_same_thread=False)
        self._open(path)
        self.hosts = {row[0]: Host(*row) for row in self.db.execute(f"SELECT {', '.join(HOST)} FROM host")}
        self.names = {host.name: host for host in self.hosts.values()}
        self.domains: dict[str, Domain] = {}
        for host in self.hosts.values():
            self.domain(host).count(host.pages)
        self.touched: set[int] = set()
        self.recent: dict[int, tuple[int, int]] = {}  # the least depth and hops, by key
        self.bound: dict[int, list[Found]] = {}
        self.stored, self.queued = self._one(f"SELECT count(*) FROM url WHERE {CAPTURED}"), self._waiting()
        self.outgoing = self._one("SELECT count(*) FROM outbox WHERE NOT sent")
        self.taken = self._one("SELECT coalesce(sum(taken), 0) FROM inbox")
        self.behind = self._one("SELECT count(*) FROM nearer")

    def _open(self, path: Path) -> None:
        try:
            self.db.execute("PRAGMA journal_mode=WAL")
            self.db.execute("PRAGMA synchronous=FULL")  # what another part was told we have must survive a power cut
            self.db.execute("PRAGMA cache_size=-16384")
            self.db.executescript(TABLES)
            self.db.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError as error:
            self.db.close()
            raise ValueError(
                f"the frontier {path} cannot be opened ({error}); if another crawl works on it, wait for its end"
            ) from None

    def _one(self, query: str, *values: Any) -> Any:
        return self.db.execute(query, values).fetchone()[0]

    def _waiting(self) -> int:
        return int(self._one("SELECT count(*) FROM url WHERE outcome IS NULL"))

    def open_hosts(self) -> list[Host]:
        """Hosts with something waiting."""
        found = self.db.execute("SELECT DISTINCT host FROM url WHERE outcome IS NULL")
        return [self.hosts[row[0]] for row in found.fetchall()]

    # what comes in

    def admit(self, found: Found, part: int) -> Host | None:
        """Take an address, or put it into the outbox of its owner. Gives the host that has something new waiting."""
        key = key_of(found.url, found.kind)
        depth, hops = self.recent.get(key, (found.depth + 1, found.hops + 1))
        if depth <= found.depth and hops <= found.hops:
            return None
        if len(self.recent) >= RECENT:
            self.recent.clear()
        self.recent[key] = min(depth, found.depth), min(hops, found.hops)
        owner = self.rules.part(found.url)
        if owner != part:
            self.bound.setdefault(owner, []).append(found)
            return None
        return self._own(key, found)

    def _own(self, key: int, found: Found) -> Host | None:
        query = "SELECT depth, hops, parent, outcome, status FROM url WHERE key=?"
        known = self.db.execute(query, (key,)).fetchone()
        if known is None:
            return self._place(key, found, new=True)
        depth, hops, parent, outcome, status = known
        if depth <= found.depth and hops <= found.hops:
            return None
        parent = found.parent if found.depth < depth else parent
        now = found._replace(depth=min(depth, found.depth), hops=min(hops, found.hops), parent=parent)
        if outcome is None or (status is None and outcome in ("depth", "redirect")):  # nobody asked for it yet
            return self._place(key, now, new=outcome is not None)
        self.db.execute("UPDATE url SET depth=?, hops=?, parent=? WHERE key=?", (now.depth, now.hops, parent, key))
        return self._told_again(key, now, outcome, now.depth < depth)

    def _place(self, key: int, found: Found, new: bool) -> Host | None:
        """Put an address into the queue, or say why it is not. `new`: it was not in the queue before."""
        refused = self.rules.refuses(found)
        host = self._host(host_of(found.url)) if refused is None else None
        if host is None and refused is None:
            refused = ("trap", "hosts")
        if host is not None and new and found.kind == "sitemap":
            host.sitemaps += 1
            self.touched.add(host.id)
            refused = ("depth", "sitemaps") if host.sitemaps > SITEMAPS else None
        where = (found.depth, found.parent, found.hops, *(refused or (None, None)))
        self.db.execute(
            "INSERT INTO url(key, url, host, kind, depth, parent, hops, outcome, reason) VALUES(?,?,?,?,?,?,?,?,?) "
            "ON CONFLICT(key) DO UPDATE SET host=excluded.host, depth=excluded.depth, parent=excluded.parent, "
            "hops=excluded.hops, outcome=excluded.outcome, reason=excluded.reason",
            (key, found.url, host.id if host else 0, found.kind, *where),
        )
        if refused is not None:
            return None
        self.queued += new
        return host

    def _told_again(self, key: int, now: Found, outcome: str, shorter: bool) -> Host | None:
        """What an answered address names lies nearer, too. A sitemap is asked for again, for nobody kept it."""
        if outcome == "sitemap" and shorter:
            self.db.execute(
                "UPDATE url SET outcome=NULL, reason=NULL, status=NULL, tries=0, after=0 WHERE key=?", (key,)
            )
            self.queued += 1
            return self._host(host_of(now.url))
        if outcome == "redirect" or (outcome in ("stored", "unchanged") and shorter):
            added = self.db.execute("INSERT OR IGNORE INTO nearer VALUES(?, ?)", (key, now.depth))
            self.behind += added.rowcount
        return None

    def _host(self, name: str) -> Host | None:
        """A host by name; None for one more of a domain that has too many already."""
        if name not in self.names:
            domain = self.domains.setdefault(registrable(name), Domain())
            if domain.hosts >= self.rules.hosts_per_domain:
                return None
            domain.count(0)
            row = self.db.execute("INSERT INTO host(name) VALUES(?)", (name,))
            host = Host(int(row.lastrowid or 0), name)
            self.hosts[host.id] = self.names[name] = host
        return self.names[name]

    def domain(self, host: Host) -> Domain:
        return self.domains.setdefault(registrable(host.name), Domain())

    def resembles(self, host: Host, body: bytes) -> None:
        """Count a capture of a host, and whether one before it was the same but for digits, as in calendars."""
        form = blake2b(body.translate(None, b"0123456789"), digest_size=8).digest()
        key = int.from_bytes(form, "big", signed=True)
        new = self.db.execute("INSERT OR IGNORE INTO form VALUES(?)", (key,)).rowcount
        host.pages += 1
        host.same += ((not new) - host.same) / min(RECALL, host.pages)

    def ruled_anew(self) -> list[Host]:
        """The rules have changed: addresses they kept out and do not any more are taken in. Gives their hosts."""
        query = "SELECT key, url, depth, parent, hops, kind FROM url WHERE outcome='scope' AND reason IN (?, ?)"
        rows = self.db.execute(query, ("include", "exclude")).fetchall()
        hosts = [self._place(key, Found(*found), new=True) for key, *found in rows]
        return [host for host in hosts if host is not None]

    def last(self, sender: int) -> int:
        """The last batch that was taken from a part; 0 for none."""
        found = self.db.execute("SELECT batch FROM inbox WHERE sender=?", (sender,)).fetchone()
        return found[0] if found else 0

    def take(self, sender: int, batch: int) -> bool:
        """Whether a batch of another part is new; from now on it is not. Batches of a part come in order."""
        if batch <= self.last(sender):
            return False
        self.db.execute(
            "INSERT INTO inbox VALUES(?, ?, 1) ON CONFLICT(sender) DO UPDATE SET batch=excluded.batch, taken=taken + 1",
            (sender, batch),
        )
        self.taken += 1
        return True

    # what is worked on

    def next(self, host: Host, now: float) -> Waiting | None:
        """The address whose turn it is: nearest to a seed, then by key; second tries come last."""
        row = self.db.execute(
            "SELECT key, url, kind, depth, hops, tries, after FROM url WHERE outcome IS NULL AND host=? "
            "ORDER BY after, depth, key LIMIT 1",
            (host.id,),
        ).fetchone()
        return Waiting(*row[:-1]) if row and row[-1] <= now else None

    def soonest(self, host: Host) -> float | None:
        """When the first waiting address of a host may be asked for; None when nothing waits."""
        query = "SELECT after FROM url WHERE outcome IS NULL AND host=? ORDER BY after, depth, key LIMIT 1"
        row = self.db.execute(query, (host.id,)).fetchone()
        return row[0] if row else None

    def later(self, row: Waiting, after: float) -> None:
        """Another try of an address, not before `after`."""
        self.db.execute("UPDATE url SET tries=tries + 1, after=? WHERE key=?", (after, row.key))

    def placed(self, row: Waiting) -> Waiting:
        """The address with depth and hops as they are now: both may have fallen while it was asked for."""
        depth, hops = self.db.execute("SELECT depth, hops FROM url WHERE key=?", (row.key,)).fetchone()
        return row._replace(depth=depth, hops=hops)

    def nearer(self) -> Nearer | None:
        """An answered address that what it names has to be told of again, the nearest first; it is taken off."""
        found = self.db.execute(
            "SELECT url.key, url, kind, url.depth, hops, tries, target, archive, offset, size, held "
            "FROM nearer JOIN url ON url.key = nearer.key ORDER BY nearer.depth, nearer.key LIMIT 1"
        ).fetchone()
        if found is None:
            return None
        row = Waiting(*found[:6])
        self.db.execute("DELETE FROM nearer WHERE key=?", (row.key,))
        self.behind -= 1
        if row.hops < HOPS:
            self.db.execute("UPDATE url SET reason=NULL WHERE key=? AND reason='too_many_hops'", (row.key,))
        return Nearer(row, *found[6:])

    def finish(self, row: Waiting, outcome: str, reason: str = "", **told: Any) -> None:
        """What became of an address. `told`: further columns of the table."""
        names = ["outcome", "reason", *told]
        values = [outcome, reason or None, *told.values(), row.key]
        self.db.execute(f"UPDATE url SET {', '.join(f'{name}=?' for name in names)} WHERE key=?", values)
        self.queued -= 1
        self.stored += outcome in ("stored", "unchanged")

    def leads_back(self, url: str, target: str, kind: str) -> bool:
        """Whether following redirects from `target` comes to `url` again, as far as this part knows."""
        for _ in range(8):
            if target == url:
                return True
            row = self.db.execute("SELECT target FROM url WHERE key=?", (key_of(target, kind),)).fetchone()
            if row is None or row[0] is None:
                return False
            target = row[0]
        return False

    # what is kept

    def robots(self, origin: str) -> tuple[int | None, bytes, str, float, int] | None:
        """(status, body, error, when, tries) of robots.txt as it was last asked for."""
        query = "SELECT status, body, error, at, tries FROM robots WHERE origin=?"
        found: tuple[int | None, bytes, str, float, int] | None = self.db.execute(query, (origin,)).fetchone()
        return found

    def keep_robots(self, origin: str, status: int | None, body: bytes, error: str, at: float, tries: int) -> None:
        self.db.execute("REPLACE INTO robots VALUES(?,?,?,?,?,?)", (origin, status, body, error, at, tries))

    def archives(self) -> list[tuple[str, int, int]]:
        """(name, committed bytes, captures) of the archive files, in order."""
        return self.db.execute("SELECT name, bytes, captures FROM archive ORDER BY name").fetchall()

    def commit(self, archives: Iterable[tuple[str, int, int]]) -> None:
        """Make everything up to here hold: one transaction. The archives' bytes must be on disk already."""
        self.db.executemany("REPLACE INTO archive VALUES(?, ?, ?)", archives)
        for owner, found in sorted(self.bound.items()):
            before = self.db.execute("SELECT batch FROM chain WHERE part=?", (owner,)).fetchone() or (0,)
            new = self.db.execute(
                "INSERT INTO outbox(part, after, rows) VALUES(?, ?, ?)", (owner, *before, json.dumps(found))
            )
            self.db.execute("REPLACE INTO chain VALUES(?, ?)", (owner, new.lastrowid))
            self.outgoing += 1
        self.bound.clear()
        hosts = [tuple(vars(self.hosts[i])[name] for name in (*HOST[2:], "id")) for i in sorted(self.touched)]
        self.db.executemany(f"UPDATE host SET {', '.join(f'{name}=?' for name in HOST[2:])} WHERE id=?", hosts)
        self.touched.clear()
        self.db.execute("COMMIT")
        self.db.execute("BEGIN IMMEDIATE")

    # what goes out; called after a commit only

    def letters(self, besides: Collection[int] = ()) -> list[Letter]:
        """The oldest batches for each part that has some, as one; `besides` those parts."""
        query = "SELECT batch, after, rows FROM outbox WHERE part=? AND NOT sent ORDER BY batch LIMIT ?"
        found = []
        for part in range(self.rules.parts):
            if part not in besides and (batches := self.db.execute(query, (part, TOGETHER)).fetchall()):
                rows = [row for *_, text in batches for row in json.loads(text)]
                found.append(Letter(batches[-1][0], part, batches[0][1], rows))
        return found

    def delivered(self, letter: Letter, covered: int) -> None:
        """The owner has the batches of a letter; and those up to `covered` where no crash undoes it."""
        query = "UPDATE outbox SET sent=1 WHERE part=? AND batch<=? AND NOT sent"
        self.outgoing -= self.db.execute(query, (letter.part, letter.batch)).rowcount
        self.db.execute("DELETE FROM outbox WHERE part=? AND sent AND batch<=?", (letter.part, covered))

    def again(self, part: int, last: int) -> None:
        """A part was brought back from a checkpoint and has batches up to `last`: later ones are to be sent anew."""
        query = "UPDATE outbox SET sent=0 WHERE part=? AND sent AND batch>?"
        self.outgoing += self.db.execute(query, (part, last)).rowcount

    def log(self) -> Iterator[tuple[Any, ...]]:
        """Every address in order, with what became of it; what still waited was over the budget."""
        yield from self.db.execute(
            "SELECT url, nullif(parent, ''), kind, depth, status, coalesce(outcome, 'budget'), reason, target, "
            "seconds, mime, digest, etag, modified, opted, held, archive, offset, length, time FROM url "
            "ORDER BY url, kind"
        )

    def close(self) -> None:
        """Let go; what was not committed is undone."""
        if self.db.in_transaction:
            self.db.execute("ROLLBACK")
        self.db.close()
