"""Ingest: archives a user holds (WARC, ARC, WAT, WET, WACZ; gzip, zstd, LZ4, plain; paths or URIs), by reference.

Promises: nothing is copied; a large file is cut into ranges of records, so that many workers read it; the order and
the place of the files do not matter; revisits find their originals in the whole input. Costs one hashing of a file the
first time it is seen on this machine and one pass over each, in parallel; a second one where there are revisits. What
lies behind a network is fetched for each of these and once more to be read (CommonCrawl fetches once). Refuses a
pattern that matches no file.

Tables with a column of HTML (`html`; the forms of stages/read_forms) give captures too.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

from tundish.cluster import store
from tundish.cluster.digests import digest_once
from tundish.cluster.shards import Dataset, Shard
from tundish.cluster.verbs import Cluster
from tundish.operators.web.warc import cuts
from tundish.stages import ingest_revisits as revisits
from tundish.stages import ingest_tables as tables
from tundish.stages.ingest_revisits import Survey, survey
from tundish.stages.ingest_streams import members, opened
from tundish.stages.read_forms import READERS, cut
from tundish.stages.read_hub import OWN
from tundish.stages.stage import PLACE, Place, Stage


@dataclass(frozen=True)
class Ingest(Stage):
    """`archives`: paths, folders, globs or URIs. `split`: bytes of archive a shard, about.

    `verify`: a capture that has not the digests it states is damage. `html`: the column of tables that holds pages,
    `url` and `date` those with their address and time; it is given where the files are tables.
    """

    version: ClassVar[int] = 3
    makes: ClassVar[tuple[str, ...]] = ("payload",)

    archives: tuple[str, ...] = field(metadata=PLACE)
    split: int = 64 << 20
    verify: bool = False
    html: str | None = None
    url: str = "url"
    date: str = "date"
    sample: int | None = None  # captures of each shard

    def check(self) -> None:
        if not self.archives:
            raise ValueError("Ingest.archives is empty; name at least one archive, folder or glob")
        if self.split < 1:
            raise ValueError(f"Ingest.split is {self.split} bytes; give 1 or more")

    def outside(self) -> list[dict[str, Any]]:
        return [{k: v for k, v in f.items() if k != "uri"} for f in self._files()]

    def _files(self) -> list[dict[str, Any]]:
        """Every matched file with its name below the common folder, size and digest, sorted by digest and name."""
        found: dict[str, dict[str, Any]] = {}
        for pattern in self.archives:
            uris = [u for u in store.matching(pattern) if self.html is None or _is_table(u)]
            if not uris:
                kind = "file" if self.html is None else "table"
                raise ValueError(f"Ingest.archives {pattern!r} matches no {kind}; check the path")
            plain = [u.partition("://")[2] or u for u in uris]
            top = os.path.commonpath([os.path.dirname(u) for u in plain])
            for uri, path in zip(uris, plain, strict=True):
                label = os.path.relpath(path, top)
                found[uri] = {"label": label, "size": store.size(uri) or 0, "digest": digest_once(uri), "uri": uri}
        return sorted(found.values(), key=lambda f: (f["label"], f["digest"]))

    def run(self, cluster: Cluster, inputs: Mapping[str, Dataset], out: Place) -> Dataset:
        files = self._files()
        if self.html is not None:
            return self._tabled(cluster, files, self.html, out)
        files = [archive for file in files for archive in archives_in(file)]
        items = [(n, f["uri"], f.get("member", ""), f.get("inner", f["size"])) for n, f in enumerate(files)]
        parts = dict(cluster.each("Ingest", Ranges(self.split), items))
        shards, first = self._shards(files, [parts[n][0] for n in range(len(files))])
        surveys = [parts[n][1] for n in range(len(files))]
        shards, inside = self._resolved(cluster, files, surveys, shards, first, out)
        counts = {name: told.counts for name, told in zip(first, surveys, strict=True)}
        shards = [_counting(shard, counts.get(shard.name)) for shard in shards]
        return out.target().seal(shards, **out.about, **inside, kind="archives")

    def _shards(self, files: list[dict[str, Any]], ranges: list[Any]) -> tuple[list[Shard], list[str]]:
        """A shard a range, and the name of the first of each file."""
        shards: list[Shard] = []
        first = []
        for file, cuts_ in zip(files, ranges, strict=True):
            first.append(f"part-{len(shards):05d}")
            for start, records in cuts_:
                constants = {"label": file["label"], "start": str(start)}
                constants |= {} if records is None else {"records": str(records)}
                constants |= {"member": file["member"]} if "member" in file else {}
                constants |= {"verify": "yes"} if self.verify else {}
                shards.append(_shard(len(shards), file, records or 0, constants))
        return shards, first

    def _resolved(
        self,
        cluster: Cluster,
        files: list[dict[str, Any]],
        surveys: list[Survey],
        shards: list[Shard],
        first: list[str],
        out: Place,
    ) -> tuple[list[Shard], dict[str, Any]]:
        """The shards, those with revisits naming the table that leads to the originals; and that it is there."""
        wanted = frozenset(key for one in surveys for _, keys in one.revisits for key in keys)
        if not wanted:
            return shards, {}
        items = [(n, f["uri"], f.get("member", "")) for n, f in enumerate(files)]
        found = dict(cluster.each("Ingest: revisits", revisits.Look(wanted), items))
        keys = [revisits.archive(f["digest"], f.get("member", "")) for f in files]
        rows = revisits.matched(keys, surveys, found, first)
        if not rows:
            return shards, {}
        revisits.written(rows, out.target(revisits.INSIDE), out.about)
        led = revisits.digests(rows)
        return [_led(shard, led) for shard in shards], {"inside": [revisits.INSIDE]}

    def _tabled(self, cluster: Cluster, files: list[dict[str, Any]], html: str, out: Place) -> Dataset:
        pieces = dict(cluster.each("Ingest", Cut(self.split), [(n, f["uri"]) for n, f in enumerate(files)]))
        shards: list[Shard] = []
        for n, file in enumerate(files):
            for piece in pieces[n]:
                constants = {"label": file["label"], **tables.constants(piece, html, self.url, self.date)}
                shards.append(_shard(len(shards), file, 0, constants))
        return out.target().seal(shards, **out.about, kind="archives")


def _is_table(uri: str) -> bool:
    return uri.endswith(READERS) and os.path.basename(uri) not in OWN


def archives_in(file: dict[str, Any]) -> list[dict[str, Any]]:
    """A file, or the archives in the WACZ file that it is."""
    held = members(file["uri"]) if file["uri"].lower().endswith(".wacz") else []
    return [file | {"member": name, "label": f"{file['label']}/{name}", "inner": size} for name, size in held] or [file]


def _shard(number: int, file: dict[str, Any], rows: int, constants: dict[str, str]) -> Shard:
    return Shard(f"part-{number:05d}", file["uri"], rows, file["size"], file["digest"], constants=constants)


def _led(shard: Shard, led: Mapping[str, str]) -> Shard:
    digest = led.get(revisits.archive(shard.digest, shard.constants.get("member", "")))
    return shard if digest is None else replace(shard, constants={**shard.constants, "revisits": digest})


def _counting(shard: Shard, counts: Mapping[str, int] | None) -> Shard:
    """The first shard of a file carries what the pass over all of it counted."""
    return shard if counts is None else replace(shard, counts=counts)


@dataclass(frozen=True)
class Ranges:
    """What an archive holds and where to cut it: (offset, number of records) each; a small one is one range."""

    twice: ClassVar[bool] = True  # it reads

    split: int

    def __call__(self, item: tuple[int, str, str, int]) -> tuple[int, tuple[list[tuple[int, int | None]], Survey]]:
        number, uri, member, size = item
        with opened(uri, member) as stream:
            told = survey(stream)
            ranges = [(0, None)] if size <= 2 * self.split else list(cuts(stream, size=self.split))
        return number, (ranges, told)


@dataclass(frozen=True)
class Cut:
    """(number, uri) of a table -> (number, its pieces)."""

    twice: ClassVar[bool] = True  # it reads

    split: int

    def __call__(self, item: tuple[int, str]) -> tuple[int, list[Any]]:
        return item[0], cut(item[1], self.split)
