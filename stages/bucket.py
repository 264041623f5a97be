"""Bucket: head, middle or tail of its language by perplexity, as CCNet cuts: at the 30th and the 60th percentile.

The percentiles are exact, over the perplexities of all documents of a language, and so a stage of their own: they are
known only when every document is scored, depend on no shard, and other shares are decided again in seconds. CCNet cut
by the corpus itself, too. Where two documents tie at a cut both fall into the lower bucket. The cuts stand in the
manifest. `bucket_number` (0 head, 1 middle, 2 tail) is what rules compare. Costs 8 bytes a document in one process
(1 GB holds 100 million). Refuses shares that are not in order.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tundish.cluster.map import map_
from tundish.cluster.shards import Dataset
from tundish.cluster.verbs import At, Cluster, Job
from tundish.operators.text.perplexity import buckets, quantiles
from tundish.stages.stage import Place, Stage

NAMES = ("head", "middle", "tail")
ALL = ""  # the language of documents without one


@dataclass(frozen=True)
class Bucket(Stage):
    """`head` and `middle`: percentiles of perplexity up to which a document belongs there."""

    version: ClassVar[int] = 2
    makes: ClassVar[tuple[str, ...]] = ("perplexity_bucket", "bucket_number")
    wants: ClassVar[Mapping[str, tuple[str, ...]]] = {"perplexity": ("perplexity",), "language": ("language",)}

    perplexity: Stage
    language: Stage | None = None
    head: float = 30.0
    middle: float = 60.0

    def check(self) -> None:
        if not 0 < self.head < self.middle < 100:
            raise ValueError(
                f"Bucket.head is {self.head} and middle {self.middle}; they are percentiles in order, such as 30 and 60"
            )

    def run(self, cluster: Cluster, inputs: Mapping[str, Dataset], out: Place) -> Dataset:
        source = inputs["perplexity"].select("id", "perplexity")
        if self.language is not None:
            source = inputs["perplexity"].beside(inputs["language"]).select("id", "perplexity", "language")
        cuts = self._cuts(cluster.each("Bucket: percentiles", Gathered(source), source.names))
        job = Job(Placed(cuts), (out.target(salt=cuts),), about={**out.about, "cuts": cuts})
        [(dataset,)] = map_(cluster, "Bucket", [job], source)
        return dataset

    def _cuts(self, gathered: Any) -> dict[str, list[float]]:
        """Language -> perplexity up to which it is head, and up to which middle."""
        values: dict[str, list[np.ndarray]] = {}
        for told in gathered:
            for language, found in told.items():
                values.setdefault(language, []).append(found)
        shares = (self.head / 100, self.middle / 100)
        return {language: quantiles(np.concatenate(parts), shares) for language, parts in sorted(values.items())}


def _languages(table: pa.Table) -> np.ndarray:
    if "language" not in table.column_names:
        return np.full(len(table), ALL, object)
    return np.array([one or ALL for one in table["language"].to_pylist()], object)


@dataclass(frozen=True)
class Gathered:
    """A shard's perplexities by language."""

    twice: ClassVar[bool] = True  # it reads

    source: Dataset

    def __call__(self, name: str) -> dict[str, np.ndarray]:
        table = self.source.read(name)
        values = table["perplexity"].to_numpy()
        languages, known = _languages(table), ~np.isnan(values)
        return {each: values[known & (languages == each)] for each in sorted({*languages[known]})}


@dataclass(frozen=True)
class Placed:
    """Perplexity -> bucket, by the cuts of the language."""

    cuts: Mapping[str, list[float]]

    def __call__(self, batch: pa.Table, at: At) -> pa.Table:
        none = [np.nan, np.nan]
        bounds = np.array([self.cuts.get(each, none) for each in _languages(batch)], np.float64).reshape(-1, 2)
        found = buckets(batch["perplexity"].to_numpy(), bounds[:, 0], bounds[:, 1])
        number = pc.index_in(found, pa.array(NAMES)).cast(pa.int8())
        return pa.table({"id": batch["id"], "perplexity_bucket": found, "bucket_number": number})
