"""CommonCrawl: pages of one crawl of Common Crawl, by its columnar index or by whole files, taken by reference.

    CommonCrawl: {crawl: CC-MAIN-2025-05, languages: [isl], mimes: [text/html]}      the pages that match
    CommonCrawl: {crawl: CC-MAIN-2025-05, kind: wet, files: 10}                       ten whole files

Promises: only the places of pages are written here, grouped by file; Extract fetches them by ranges, one connection a
worker. A published crawl does not change, so its list of files names what it holds, and nothing is hashed from afar.
Costs the footers of the index and the columns of the row groups that can match, then one request a page. Refuses a
crawl, or a file list, that is not there, and a query nothing matches.

`base` is where the crawl lies: `s3://commoncrawl/` (with credentials, best inside us-east-1), the public
`https://data.commoncrawl.org/`, or a copy in a folder. Common Crawl asks to go slowly over HTTPS: run few workers.
"""

import gzip
import re
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, ClassVar, Literal

import pyarrow as pa

from tundish.cluster import store
from tundish.cluster.exchange import exchange_
from tundish.cluster.map import map_
from tundish.cluster.shards import Dataset
from tundish.cluster.verbs import At, Cluster, Job
from tundish.stages.common_crawl_fetch import WHOLE, below
from tundish.stages.common_crawl_index import FOUND, Groups, Query, Select
from tundish.stages.forgotten import Forgotten, forgotten, root_of
from tundish.stages.ingest_streams import opened, patiently
from tundish.stages.stage import PLACE, Place, Stage

PAGES = 2000  # of a shard, about: some minutes of fetching
LISTED = 64 << 20  # bytes of a list of files that are read
CRAWL = re.compile(r"CC-MAIN-\d{4}(-\d{2}){1,2}(-[A-Za-z0-9-]+)?|CC-NEWS")


@dataclass(frozen=True)
class CommonCrawl(Stage):
    """`languages`: ISO 639-3, of which a page's main one must be one. `domains`: registered ones. `share`: 0 to 1."""

    makes: ClassVar[tuple[str, ...]] = ("payload",)

    crawl: str
    base: str = field(default="s3://commoncrawl/", metadata=PLACE)
    languages: tuple[str, ...] = ()
    domains: tuple[str, ...] = ()
    hosts: tuple[str, ...] = ()
    mimes: tuple[str, ...] = ()
    statuses: tuple[int, ...] = (200,)
    subset: Literal["warc", "robotstxt", "crawldiagnostics"] = "warc"
    share: float = 1.0
    kind: Literal["warc", "wet", "wat"] = "warc"
    files: int | None = None  # whole files instead, this many, spread evenly over the list
    verify: bool = False
    sample: int | None = None  # captures of each shard

    def check(self) -> None:
        if not CRAWL.fullmatch(self.crawl):
            raise ValueError(f"CommonCrawl.crawl is {self.crawl!r}; name one such as CC-MAIN-2025-05")
        if odd := [code for code in self.languages if not re.fullmatch("[a-z]{3}", code)]:
            raise ValueError(f"CommonCrawl.languages holds {odd[0]!r}; the index has ISO 639-3 codes such as eng")
        if not 0 < self.share <= 1:
            raise ValueError(f"CommonCrawl.share is {self.share}; give a share above 0 and up to 1")
        if self.files is None and self.kind != "warc":
            raise ValueError(
                f"CommonCrawl.kind {self.kind} has no index; say how many whole files with CommonCrawl.files"
            )
        if self.files is not None:
            self._check_files(self.files)

    def _check_files(self, files: int) -> None:
        if files < 1:
            raise ValueError(f"CommonCrawl.files is {files}; give 1 or more")
        asked = [n for n in ("languages", "domains", "hosts", "mimes") if getattr(self, n)]
        if asked or self.share < 1:
            raise ValueError(
                f"CommonCrawl.files takes whole files, and {(asked or ['share'])[0]} chooses pages; drop one"
            )

    @property
    def query(self) -> Query:
        lowered = [tuple(one.lower().rstrip(".") for one in names) for names in (self.domains, self.hosts)]
        return Query(self.languages, *lowered, self.mimes, self.statuses, self.share)

    def run(self, cluster: Cluster, inputs: Mapping[str, Dataset], out: Place) -> Dataset:
        ranges = self._listed(out) if self.files is not None else self._indexed(cluster, out)
        constants = {"ranges": self.crawl, "label": self.crawl} | ({"verify": "yes"} if self.verify else {})
        shards = [
            replace(shard, file=f"ranges/{shard.file}", constants=constants) for shard in ranges.shards if shard.rows
        ]
        about = {**out.about, "inside": ["ranges"] if self.files is not None else ["index", "ranges"]}
        return out.target().seal(shards, **about, kind="archives", base=store.absolute(self.base))

    def _indexed(self, cluster: Cluster, out: Place) -> Dataset:
        """Places by the index: selected file by file of it, then brought together by the file they lie in."""
        paths = tuple(p for p in self._paths("cc-index-table") if f"/subset={self.subset}/" in p)
        if not paths:
            raise ValueError(f"the index of {self.crawl} lists no file of subset={self.subset}; choose another")
        source = Groups(tuple(store.join(self.base, path) for path in paths), paths)
        job = Job(Select(self.query), (out.target("index"),), about=out.about)
        [(found,)] = map_(cluster, "CommonCrawl: index", [job], source)
        if not found.rows:
            raise ValueError(
                f"no page of {self.crawl} matches ({found.counts.get('groups_read', 0)} of "
                f"{found.counts.get('groups', 0)} row groups were read); loosen what CommonCrawl asks for"
            )
        taken = partial(together, gone=forgotten(root_of(out.uri)))
        target, parts = out.target("ranges"), -(-found.rows // PAGES)
        sort = ("filename", "offset")
        return exchange_(
            cluster, "CommonCrawl: ranges", taken, found, target, by="bin", parts=parts, sort=sort, about=out.about
        )

    def _listed(self, out: Place) -> Dataset:
        """Whole files, one a shard."""
        paths, most = self._paths(self.kind), self.files or 1
        step = max(1, len(paths) // most)
        target = out.target("ranges")
        shards = []
        for number, path in enumerate(paths[::step][:most]):
            writer = target.writer(f"part-{number:05d}")
            row = {"bin": 0, "filename": path, "offset": 0, "length": WHOLE, "url": ""}
            try:
                writer.write(pa.Table.from_pylist([row], schema=FOUND))
                shards.append(writer.finish({}, {}))
            except BaseException as error:
                writer.abandon(error)
                raise
        return target.seal(shards, **out.about)

    def _paths(self, name: str) -> list[str]:
        """One of the lists of files that every crawl is published with."""
        uri = store.join(self.base, "crawl-data", self.crawl, f"{name}.paths.gz")
        try:
            with patiently(uri, lambda: opened(uri)) as stream, gzip.GzipFile(fileobj=stream) as lines:
                listed = lines.read(LISTED).decode().split("\n")
        except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
            raise ValueError(f"{uri} is no list of files ({error}); check CommonCrawl.base and the crawl") from error
        paths = [path.strip() for path in listed if path.strip()]
        if odd := [path for path in paths if not below(path)]:
            raise ValueError(f"{uri} names {odd[0]!r}, which lies outside of the crawl; check CommonCrawl.base")
        return paths


def together(rows: pa.Table, at: At, *, gone: Forgotten) -> Any:
    """Places of a part, each once, in the order in which they lie; none of what the root was told to forget."""
    if gone:
        rows = rows.filter(pa.array([not gone.holds(url) for url in rows["url"].to_pylist()], pa.bool_()))
    at.tally["files"] += len(rows["filename"].unique())
    at.tally["bytes"] += sum(rows["length"].to_pylist())
    seen: dict[tuple[str, int], int] = {}
    for number, key in enumerate(zip(rows["filename"].to_pylist(), rows["offset"].to_pylist(), strict=True)):
        seen.setdefault(key, number)
    return rows.take(pa.array(list(seen.values()), pa.int64()))
