"""The sample of a probe: which shards of each source, how large they are, and how many times that all of it is.

Promises: drawn by the keyed hash of names (of files, without their folders) alone, so the same every time, and datasets
that lie beside each other give the same shards. A shard that is a range of a file counts its part of the file. Costs
manifests, and for Read a look at the files it will read.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from tundish.cluster import store
from tundish.cluster.shards import Dataset, Shard
from tundish.pipeline.examples import draw
from tundish.stages.ingest import Ingest
from tundish.stages.read import Cut, Read
from tundish.stages.read_forms import Piece, portions

LEAST = 4  # shards of each source


@dataclass(frozen=True)
class Base:
    """A source: `sizes` of the units drawn, by name, in bytes; `whole`: that of all; `of`: how many there are;
    `largest` of all that were seen."""

    sizes: Mapping[str, float]
    whole: float
    of: int
    largest: float

    @property
    def factor(self) -> float:
        """How many times the sample the source is."""
        return self.whole / max(1e-9, sum(self.sizes.values()))

    @property
    def larger(self) -> float:
        """How many times the largest unit drawn the largest there is is."""
        return self.largest / max(1e-9, *self.sizes.values()) if self.sizes else 1.0


class Taken(NamedTuple):
    """A source with a sample of its files: `whole` bytes of all, those taken by URI, how many there are."""

    stage: Ingest | Read
    whole: int
    files: dict[str, int]
    of: int

    @property
    def times(self) -> float:
        """How many times the files taken all of them are."""
        return self.of / max(1, len(self.files))


def few(names: Sequence[str], share: float, least: int) -> list[str]:
    """The names that are drawn, in their own order: a share of them, at least so many, at most all."""
    most = max(least, int(-(-len(names) * share // 1)))
    kept = set(sorted(names, key=lambda name: (draw(name.rsplit("/", 1)[-1]), name))[:most])
    return [name for name in names if name in kept]


def smaller(stage: Ingest | Read, share: float, least: int) -> Taken:
    """The source with a sample of its files, by name instead of by pattern."""
    if isinstance(stage, Ingest):
        sizes = {one["uri"]: int(one["size"]) for one in stage._files()}
    else:
        sizes = {uri: store.size(uri) or 0 for uri, _ in stage._files()}
    kept = tuple(few(list(sizes), share, least))
    ingested = isinstance(stage, Ingest)
    new = replace(stage, archives=kept) if ingested else replace(stage, files=kept, subset=None, split=None)
    return Taken(new, sum(sizes.values()), {uri: sizes[uri] for uri in kept}, len(sizes))


def pieces(taken: Taken, share: float, least: int) -> Base:
    """Of a Read the pieces of its files that are drawn, by the names of their shards."""
    assert isinstance(taken.stage, Read)
    sizes: list[float] = []
    for uri, _ in taken.stage._files():
        sizes += portions(uri, Cut(taken.stage.piece)((0, uri))[1], taken.files[uri])
    named = {f"part-{number:05d}": size for number, size in enumerate(sizes)}
    kept = few(list(named), share, least)
    of = round(len(named) * taken.times)
    return Base({name: named[name] for name in kept}, float(taken.whole), of, max(sizes, default=0.0))


def drawn(dataset: Dataset, share: float, least: int, taken: Taken | None = None) -> tuple[Dataset, Base]:
    """A dataset with the shards of the sample alone; `taken`: of which files it is, where it is not of all."""
    sizes = sizes_of(dataset)
    kept, largest = few(dataset.names, share, least), max(sizes.values(), default=0.0)
    whole, of = (float(taken.whole), round(len(sizes) * taken.times)) if taken else (sum(sizes.values()), len(sizes))
    base = Base({name: sizes[name] for name in kept}, whole, of, largest)
    return replace(dataset, shards=tuple(dataset.shard(name) for name in kept)), base


def sizes_of(dataset: Dataset) -> dict[str, float]:
    """Bytes of each shard by name. One that is a range of a file has its part of the file's."""
    files: dict[str, list[Shard]] = {}
    for shard in dataset.shards:
        files.setdefault(dataset.at(shard), []).append(shard)
    found: dict[str, float] = {}
    for uri, shards in files.items():
        told = [shard.constants for shard in shards]
        if any("member" in one or "start" not in one for one in told):  # nothing says how large an archive in one is
            held = [shard.size / len(shards) for shard in shards]
        else:
            stops = [*(int(one["start"]) for one in told[1:]), None]
            pieces = [Piece(int(one["start"]), stop) for one, stop in zip(told, stops, strict=True)]
            held = portions(uri, pieces, float(shards[0].size))
        found |= zip((shard.name for shard in shards), held, strict=True)
    return found


def alike(one: Dataset, other: Dataset) -> bool:
    """Whether two datasets lie beside each other."""
    return [(s.name, s.ids, s.rows) for s in one.shards] == [(s.name, s.ids, s.rows) for s in other.shards]
