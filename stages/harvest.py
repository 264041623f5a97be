"""Harvest: what a crawl that is under way has committed, byte range by byte range, as archives of their own.

    <crawl>/keepers/PP/frontier.sqlite     says how many bytes of each archive are committed, while it is written
    <crawl>/keepers/PP/checkpoint.json     says it where the keepers live on other nodes
    <crawl>/part-PP-NNNN.warc.zst          the archives of a sealed crawl
    gen-0003/archives/part-PP-NNNN.FROM.warc.zst     the bytes from FROM on that were new

Promises: a range begins and ends between two captures; what is taken while the crawl is under way is in the sealed
crawl too, for a budget that is overrun takes back the newest captures and these are older (where keepers checkpoint to
other nodes, that last promise is kept but in the minute between the end of the crawl and its seal). Costs a copy of
every archive byte, once. Refuses nothing: what is not committed, or not there yet, is not seen.
"""

import sqlite3
import time
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from tundish.cluster import store
from tundish.cluster.shards import opened
from tundish.stages.crawl_home import POINTER
from tundish.stages.crawl_tables import FRONTIER

LAG = 2.5  # seconds in which a keeper commits what it has stored: it does so every second
TRIES = 20  # while a crawl seals its archives they lie now here, now there
Range = tuple[int, int]


@dataclass(frozen=True)
class Growing:
    """The archives of a crawl in its stage's folder. `pages`: its budget."""

    uri: str
    parts: int
    pages: int
    form: str = "zst"

    def committed(self) -> tuple[dict[str, int], int]:
        """(bytes of each archive, by the name it will be sealed under; captures in all) as of the last commits."""
        sizes, captures = {}, 0
        for part in range(self.parts):
            for name, size, count in self._part(part):
                sizes[f"part-{part:02d}-{name.removeprefix('archive-')}"] = size
                captures += count
        return sizes, captures

    def settled(self, lag: float = LAG) -> dict[str, int]:
        """What is committed and will stay; nothing when the crawl is so near its budget that some may be taken back.

        Every capture stored before the first look is committed at the second. If those are no more than the budget,
        the ones of the first look are among its oldest captures, and stay.
        """
        sizes, _ = self.committed()
        time.sleep(lag)
        return sizes if self.committed()[1] <= self.pages else {}

    def sealed(self) -> dict[str, int]:
        """Bytes of each archive of the finished crawl."""
        found = opened(self.uri)
        return {shard.file: shard.size for shard in found.shards} if found else {}

    def copied(self, name: str, taken: Range, to: str) -> None:
        """Write a range of an archive to a file, whole or not at all; one that is there already stays."""
        start, stop = taken
        if store.size(to) == stop - start:
            return
        for attempt in range(TRIES):
            try:
                with store.opened(self._source(name, stop)) as source, store.written(to) as (sink, _):
                    source.seek(start)
                    left = stop - start
                    while left and (block := source.read(min(left, store.CHUNK))):
                        sink.write(block)
                        left -= len(block)
                    if left:
                        raise ValueError(f"{name} of {self.uri} is {left} bytes shorter than it was; restore it")
                return
            except (ValueError, OSError):
                if attempt == TRIES - 1:
                    raise
                time.sleep(0.1 * attempt)

    def _part(self, part: int) -> list[tuple[str, int, int]]:
        """(name, bytes, captures) of the archives of a keeper."""
        folder = store.join(self.uri, "keepers", f"{part:02d}")
        if told := store.read_json(store.join(folder, POINTER)):
            return [(name, size, 0) for name, size, _ in told["archives"]]
        path = store.local(store.join(folder, FRONTIER))
        return _archives(path) if path is not None and path.exists() else []

    def _source(self, name: str, size: int) -> str:
        """Where an archive lies that has at least so many bytes."""
        for uri in self._places(name):
            if (store.size(uri) or -1) >= size:
                return uri
        raise ValueError(f"{name} of {self.uri} has fewer than the {size} bytes that were committed; restore it")

    def _places(self, name: str) -> Iterator[str]:
        _, part, file = name.split("-", 2)
        folder, own = store.join(self.uri, "keepers", part), f"archive-{file}"
        if told := store.read_json(store.join(folder, POINTER)):
            yield from (store.join(folder, place) for known, _, place in told["archives"] if known == own)
        yield store.join(folder, own)
        yield store.join(self.uri, name)


def _archives(path: Path) -> list[tuple[str, int, int]]:
    """What a frontier says, that its keeper writes to meanwhile."""
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=5)) as db:
            return db.execute("SELECT name, bytes, captures FROM archive ORDER BY name").fetchall()
    except sqlite3.OperationalError:  # it is being made, or was just removed
        return []


def fresh(taken: Mapping[str, int], now: Mapping[str, int]) -> dict[str, Range]:
    """The ranges that are new.

    >>> fresh({"a": 10, "b": 5}, {"a": 12, "b": 5, "c": 3})
    {'a': (10, 12), 'c': (0, 3)}
    """
    return {name: (taken.get(name, 0), size) for name, size in sorted(now.items()) if size > taken.get(name, 0)}


def file_of(name: str, start: int) -> str:
    """The file of a range: what lies at an offset of it lay that much behind `start`.

    >>> file_of("part-00-0003.warc.zst", 4096)
    'part-00-0003.000000004096.warc.zst'
    """
    stem, _, form = name.partition(".")
    return f"{stem}.{start:012d}.{form}"
