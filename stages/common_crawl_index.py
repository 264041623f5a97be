"""The columnar index of a Common Crawl, and what a query needs of it.

Promises: row groups whose statistics exclude every match are not read; of the others the columns of the query first,
the rest only where a row matches. How many files, groups and rows were read is counted. Costs the footer of each of the
index's files (300 a crawl), and the column chunks read. Refuses nothing; a file that is no Parquet ends the run.
Source of the columns: the schema of cc-index-table (Common Crawl); its keys are SURT, without `www`, sorted.
"""

import functools
import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from tundish.cluster.verbs import At
from tundish.stages.ingest_streams import opened

PLACE = ("warc_filename", "warc_record_offset", "warc_record_length")
FOUND = pa.schema(
    [
        ("bin", pa.uint64()),  # hash of the file's name: pages of one file meet
        ("filename", pa.string()),
        ("offset", pa.int64()),
        ("length", pa.int64()),
        ("url", pa.large_string()),
    ]
)


@dataclass(frozen=True)
class Query:
    """Which pages are wanted; an empty field wants all. `share`: of all, chosen by the hash of their address."""

    languages: tuple[str, ...] = ()
    domains: tuple[str, ...] = ()
    hosts: tuple[str, ...] = ()
    mimes: tuple[str, ...] = ()
    statuses: tuple[int, ...] = ()
    share: float = 1.0

    @property
    def equal(self) -> dict[str, tuple[Any, ...]]:
        """Columns that must hold one of these values."""
        named = {
            "url_host_registered_domain": self.domains,
            "url_host_name": self.hosts,
            "content_mime_detected": self.mimes,
            "fetch_status": self.statuses,
        }
        return {column: values for column, values in named.items() if values}

    @property
    def within(self) -> dict[str, list[tuple[Any, Any]]]:
        """Columns and the closed ranges one of which a match lies in; for statistics, so a range may be too wide."""
        found = {column: [(v, v) for v in values] for column, values in self.equal.items()}
        if self.languages:
            found["content_languages"] = [(code, f"{code},~") for code in self.languages]
        if names := (*self.domains, *self.hosts):
            found["url_surtkey"] = [(f"{surt(name)})", f"{surt(name)};") for name in names]
        return found

    @property
    def columns(self) -> list[str]:
        """What must be read to decide."""
        chosen = [*self.equal, *(["content_languages"] if self.languages else [])]
        return chosen + (["url"] if self.share < 1 else [])

    def mask(self, table: pa.Table) -> pa.ChunkedArray | pa.Array:
        """Which rows match."""
        kept: Any = pa.array(np.ones(len(table), bool))
        for column, values in self.equal.items():
            kept = pc.and_(kept, pc.is_in(table[column], pa.array(values, table[column].type)))
        if self.languages:
            first = pc.replace_substring_regex(table["content_languages"], ",.*", "")  # the main one stands first
            kept = pc.and_(kept, pc.is_in(first, pa.array(self.languages, first.type)))
        if self.share < 1:
            hashes = np.array([_hash(url or "") for url in table["url"].to_pylist()], np.uint64)
            kept = pc.and_(kept, pa.array(hashes < np.uint64(min(2**64 - 1, int(self.share * 2**64)))))
        return pc.fill_null(kept, False)


def surt(host: str) -> str:
    """A host as the index's keys begin with it.

    >>> surt("www.heron.example"), surt("blog.heron.example")
    ('example,heron', 'example,heron,blog')
    """
    return ",".join(reversed(re.sub(r"^www\d*\.(?=.*\.)", "", host.lower()).split(".")))


def _hash(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode("utf-8", "replace"), digest_size=8).digest(), "big")


@dataclass(frozen=True)
class Groups:
    """The files of an index as a `Source`: a shard each, a row for each row group, to be read by who gets it."""

    uris: tuple[str, ...]
    paths: tuple[str, ...]  # as the crawl's list names them: what a file is, wherever it lies

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(f"part-{n:05d}" for n in range(len(self.uris)))

    def digests(self, name: str) -> dict[str, str]:
        return {self.paths[int(name[5:])]: "as published"}

    def batches(self, name: str, rows: int) -> Iterator[pa.Table]:
        uri = self.uris[int(name[5:])]
        schema = pa.schema([("uri", pa.string()), ("group", pa.int64())])
        for group in range(_file(uri).num_row_groups):
            yield pa.table({"uri": [uri], "group": [group]}, schema=schema)
        if not _file(uri).num_row_groups:
            yield schema.empty_table()


@functools.lru_cache(maxsize=2)
def _file(uri: str) -> pq.ParquetFile:
    return pq.ParquetFile(opened(uri))


@dataclass(frozen=True)
class Select:
    """Row groups -> the places of the pages that match, as `FOUND`."""

    query: Query

    def __call__(self, batch: pa.Table, at: At) -> pa.Table:
        tables = [self._group(row["uri"], row["group"], at) for row in batch.to_pylist()]
        return pa.concat_tables([FOUND.empty_table(), *tables])

    def _group(self, uri: str, group: int, at: At) -> pa.Table:
        file = _file(uri)
        at.tally["groups"] += 1
        if group == 0:
            at.tally["files"] += 1
        if not overlaps(file.metadata.row_group(group), self.query.within):
            return FOUND.empty_table()
        at.tally["groups_read"] += 1
        at.tally["rows_read"] += file.metadata.row_group(group).num_rows
        kept = self._kept(file, group)
        if kept is not None and not pc.any(kept).as_py():
            return FOUND.empty_table()
        table = file.read_row_group(group, columns=["url", *PLACE])
        table = table if kept is None else table.filter(kept)
        at.tally["kept"] += len(table)
        return located(table)

    def _kept(self, file: pq.ParquetFile, group: int) -> Any:
        columns = self.query.columns
        if lacking := set(columns) - set(file.schema_arrow.names):
            raise ValueError(f"the index has no column {sorted(lacking)[0]!r}; crawls before 2018-39 lack languages")
        return self.query.mask(file.read_row_group(group, columns=columns)) if columns else None


def located(table: pa.Table) -> pa.Table:
    """Rows of the index as `FOUND`."""
    names = table["warc_filename"].unique()
    hashes = pa.array([_hash(name or "") for name in names.to_pylist()], pa.uint64())
    found = {
        "bin": hashes.take(pc.index_in(table["warc_filename"], names).combine_chunks()),
        "filename": table["warc_filename"].cast(pa.string()),
        "offset": table["warc_record_offset"].cast(pa.int64()),
        "length": table["warc_record_length"].cast(pa.int64()),
        "url": table["url"].cast(pa.large_string()),
    }
    return pa.table(found, schema=FOUND)


def overlaps(group: Any, within: Mapping[str, Sequence[tuple[Any, Any]]]) -> bool:
    """Whether the statistics of a row group leave room for a match; where there are none they do."""
    held = {group.column(c).path_in_schema: group.column(c).statistics for c in range(group.num_columns)}
    for column, ranges in within.items():
        stats = held.get(column)
        if stats is None or not stats.has_min_max:
            continue
        if not any(low <= stats.max and stats.min <= high for low, high in ranges):
            return False
    return True
