"""The end of a crawl: what the keepers kept becomes two datasets, the archives and the log.

    part-PP-NNNN.warc.zst    the archive files, by hard link where the disk can
    cdxj/part-PP.cdxj        the captures for replay tools, sorted as they look them up
    log/part-PP.parquet      one row an address: what became of it, why, and where its answer lies

Promises: no more captures than the budget (what several keepers stored beyond it in the last moment is taken back,
the newest first); run again after a crash, the same. Costs a copy of the archives only between file systems. Refuses
a crawl that stored nothing, with the top reasons.
"""

import os
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from tundish.cluster import store
from tundish.cluster.shards import Dataset, Shard
from tundish.cluster.target import Target
from tundish.cluster.verbs import Cluster
from tundish.stages.crawl_cdxj import write
from tundish.stages.crawl_frontier import Frontier
from tundish.stages.crawl_home import Home
from tundish.stages.crawl_scope import Rules
from tundish.stages.crawl_tables import CAPTURED, FRONTIER, UNASKED
from tundish.stages.forgotten import Forgotten, masked

ROWS = 4096  # of the log at once

LOG = pa.schema(
    [
        ("url", pa.large_string()),
        ("parent", pa.large_string()),  # who named it first; null for seeds
        ("kind", pa.string()),  # page, sitemap
        ("depth", pa.int32()),
        ("status", pa.int32()),
        ("outcome", pa.string()),  # stored unchanged redirect sitemap forbidden error scope trap depth budget
        ("reason", pa.string()),
        ("target", pa.large_string()),  # of a redirect
        ("seconds", pa.float64()),
        ("mime", pa.string()),
        ("digest", pa.string()),  # of the payload, as WARC writes it: sha1, base32
        ("etag", pa.string()),
        ("modified", pa.string()),
        ("opted", pa.string()),  # what robots.txt and tdmrep.json say of its use
        ("held", pa.large_string()),  # where the payload lies when an earlier crawl has it: uri#offset-length
        ("archive", pa.string()),
        ("offset", pa.int64()),  # of the response record
        ("length", pa.int64()),  # of the response record, as it lies there
        ("time", pa.timestamp("us", "UTC")),
    ]
)


NAMED = tuple(LOG.get_field_index(name) for name in ("url", "parent", "target"))  # columns of addresses


@dataclass(frozen=True)
class Newest:
    """When the newest captures of a part were stored."""

    rules: Rules
    home: Home
    most: int

    def __call__(self, part: int) -> list[tuple[float, int]]:
        frontier = opened(self.home, part, self.rules)
        query = f"SELECT time FROM url WHERE {CAPTURED} ORDER BY archive DESC, offset DESC LIMIT ?"
        found = [(row[0], part) for row in frontier.db.execute(query, (self.most,))]
        frontier.close()
        return found


@dataclass(frozen=True)
class Publish:
    """Seal what one part kept: its `most` oldest captures, the others taken back."""

    rules: Rules
    home: Home
    out: str
    log: Target
    cdxj: Target

    def __call__(self, item: tuple[int, int]) -> dict[str, Any]:
        part, most = item
        frontier = opened(self.home, part, self.rules)
        take_back(frontier, frontier.stored - most)
        held = {
            name: f"part-{part:02d}-{n:04d}" for n, (name, _, captures) in enumerate(frontier.archives()) if captures
        }
        for name, size, captures in frontier.archives():
            if captures:
                lay(
                    self.home.path(part) / name,
                    size,
                    store.join(self.out, f"{held[name]}.warc.{self.rules.archive}"),
                )
        counts = tally(frontier)
        shard = self._logged(frontier, part, held, counts)
        lines = write(frontier.db, store.join(self.cdxj.uri, f"part-{part:02d}.cdxj"), held, self.rules.archive)
        index = self.cdxj.adopt(f"part-{part:02d}", f"part-{part:02d}.cdxj", lines, {}, {})
        files = [(held[name], captures, size) for name, size, captures in frontier.archives() if captures]
        frontier.close()
        return {"archives": files, "counts": counts, "log": shard.plain(), "cdxj": index.plain()}

    def _logged(self, frontier: Frontier, part: int, held: Mapping[str, str], counts: Mapping[str, int]) -> Shard:
        writer = self.log.writer(f"part-{part:02d}")
        try:
            for table in tables(frontier.log(), held, self.rules.archive, self.rules.forgotten):
                writer.write(table)
            return writer.finish({}, counts)
        except BaseException as error:
            writer.abandon(error)
            raise


def opened(home: Home, part: int, rules: Rules) -> Frontier:
    return Frontier(home.enter(part)[0] / FRONTIER, rules)


def take_back(frontier: Frontier, surplus: int) -> None:
    """Turn the newest captures into addresses over the budget; the archives end before them from now on."""
    query = (
        f"SELECT key, archive, offset + length - size FROM url WHERE {CAPTURED} "
        "ORDER BY archive DESC, offset DESC LIMIT ?"
    )
    files = {name: [name, size, captures] for name, size, captures in frontier.archives()}
    for key, name, start in frontier.db.execute(query, (max(0, surplus),)).fetchall():
        frontier.db.execute(f"UPDATE url SET {UNASKED} WHERE key=?", (key,))
        frontier.stored -= 1
        files[name][1] = start  # and not its size less: since a restart there may be a warcinfo record between two
        files[name][2] -= 1
    frontier.commit([(name, size, captures) for name, size, captures in files.values()])


def lay(path: Path, size: int, uri: str) -> None:
    """The first `size` bytes of a file at another place: a link, or a copy where links do not reach."""
    if path.stat().st_size > size:
        os.truncate(path, size)
    target = store.local(uri)
    if target is not None:
        attempt = target.with_name(f".{target.name}.attempt")
        attempt.unlink(missing_ok=True)
        try:
            os.link(path, attempt)
            os.replace(attempt, target)
            return
        except OSError:  # another file system
            attempt.unlink(missing_ok=True)
    with open(path, "rb") as source, store.written(uri) as (sink, _):
        shutil.copyfileobj(source, sink, store.CHUNK)


def tally(frontier: Frontier) -> dict[str, int]:
    """Counts of one part: by outcome and reason, by class of status, bytes stored."""
    counts: Counter[str] = Counter()
    query = (
        "SELECT coalesce(outcome, 'budget'), reason, status, count(*), coalesce(sum(size), 0) FROM url GROUP BY 1, 2, 3"
    )
    for outcome, reason, status, rows, size in frontier.db.execute(query):
        counts["urls"] += rows
        counts[outcome] += rows
        counts["bytes"] += size
        if reason and outcome != "stored":
            counts[f"{outcome}:{reason}"] += rows
        if status:
            counts["fetched"] += rows
            counts[f"status_{status // 100}xx"] += rows
    return dict(sorted(counts.items()))


def tables(
    rows: Iterator[tuple[Any, ...]], held: Mapping[str, str], form: str, forgotten: Forgotten
) -> Iterator[pa.Table]:
    """Rows of the log in tables; one empty table when there are none. No forgotten address stands in them."""
    batch: list[tuple[Any, ...]] = []
    for row in rows:
        *before, archive, offset, length, at = row
        for column in NAMED if forgotten else ():
            before[column] = masked(before[column]) if forgotten.holds(before[column]) else before[column]
        where = f"{held[archive]}.warc.{form}" if archive else None
        batch.append((*before, where, offset, length, None if at is None else int(at * 1e6)))
        if len(batch) == ROWS:
            yield table_of(batch)
            batch = []
    yield table_of(batch)


def table_of(rows: Sequence[tuple[Any, ...]]) -> pa.Table:
    columns = list(zip(*rows, strict=True)) or [()] * len(LOG)
    return pa.table([pa.array(column, field.type) for column, field in zip(columns, LOG, strict=True)], schema=LOG)


def seal(
    cluster: Cluster,
    rules: Rules,
    home: Home,
    out: Target,
    log: Target,
    cdxj: Target,
    stored: Sequence[int],
    about: Mapping[str, Any],
) -> Dataset:
    """Publish every part, then the manifests: the log's first, the archives' last."""
    title, parts = "Crawl: seal", range(rules.parts)
    surplus = Counter[int]()
    if (over := sum(stored) - rules.pages) > 0:
        newest = sorted(row for rows in cluster.each(title, Newest(rules, home, over), parts) for row in rows)
        surplus = Counter(part for _, part in newest[-over:])
    items = [(part, stored[part] - surplus[part]) for part in parts]
    published = list(cluster.each(title, Publish(rules, home, out.uri, log, cdxj), items))
    counts: Counter[str] = Counter()
    for one in published:
        counts.update(one["counts"])
    if not counts["stored"] + counts["unchanged"]:
        home.remove()  # so that the next try begins anew
        advice = "check the seeds and whether their hosts answer"
        if counts["error:forbidden_address"]:
            advice = "hosts inside your own network are asked where you say: --wire HOST:PORT=ADDRESS:PORT"
        raise ValueError(f"the crawl stored no page (top outcomes: {top(counts)}); {advice}")
    log.seal([Shard.of(one["log"]) for one in published])
    cdxj.seal([Shard.of(one["cdxj"]) for one in published], kind="files")
    shards = [
        out.adopt(name, f"{name}.warc.{rules.archive}", captures, {}, {"captures": captures, "bytes": size})
        for one in published
        for name, captures, size in one["archives"]
    ]
    return out.seal(shards, **about, kind="archives", counts=dict(sorted(counts.items())))


def top(counts: Mapping[str, int]) -> str:
    """The most frequent outcomes with their reasons, in words."""
    named = {k: v for k, v in counts.items() if ":" in k and not k.startswith("sitemap")}
    return ", ".join(f"{k} {v}" for k, v in sorted(named.items(), key=lambda kv: (-kv[1], kv[0]))[:5]) or "none"
