"""Samples: what share of the documents makes so many bytes of text.

Promises: the same share however the documents are cut into shards. Costs nothing where the dataset says how much text
it holds; else one look at the text of every shard.
"""

from dataclasses import dataclass
from typing import ClassVar

import pyarrow.compute as pc

from tundish.cluster.shards import Dataset
from tundish.cluster.verbs import Cluster


def share_of(cluster: Cluster, source: Dataset, wanted: int, only: str | None = None) -> float:
    """The share of documents, at most 1, that holds about `wanted` bytes of text; `only`: of those in a language."""
    held = source.counts.get("bytes_out", 0) if only is None else 0
    if not held:
        held = sum(cluster.each("bytes of text", Sized(source, only), source.names))
    return min(1.0, wanted / max(1, held))


@dataclass(frozen=True)
class Sized:
    """A shard -> bytes of text in it."""

    twice: ClassVar[bool] = True  # it reads

    source: Dataset
    only: str | None

    def __call__(self, name: str) -> int:
        table = self.source.read(name)
        if self.only is not None:
            table = table.filter(pc.fill_null(pc.equal(table["language"], self.only), False))
        return pc.sum(pc.binary_length(table["text"])).as_py() or 0
