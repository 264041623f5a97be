"""The sample a vocabulary is learned from: documents of the corpus, balanced between languages, weighed by source.

    sample/     id, text of the documents taken; documents and bytes of each language and source in its counts
    sizes/      bytes of each language and source, where the balance asks for them

A language with n of the corpus's bytes gets a part of the sample that is proportional to n^(1/temperature): as Conneau
et al. (XLM-R, arXiv 1911.02116, section 3.1: exponent 0.3) and Xue et al. (mT5, arXiv 2010.11934) have it. 1 leaves the
corpus as it is; 3.33 is their 0.3. Within a language a source's bytes count `weights` times. No document is taken
twice: what a small language cannot fill goes to the others.

Promises: a document is taken by its own hash against the share of its language and source, so the same sample for any
number of workers and any order of files; never one of a held-out cluster. Costs one pass over the text, two where a
balance or weights are asked for. Refuses weights for a source that is not there.
"""

from collections import defaultdict
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tundish.cluster.map import map_
from tundish.cluster.shards import Dataset
from tundish.cluster.verbs import At, Cluster, Job
from tundish.operators.text.digest import keyed
from tundish.stages.corpus import BYTES_OF
from tundish.stages.stage import Place, nearest

HOLDOUT_SEED, SAMPLE_SEED = 0x401D, 0x5A17
COLUMNS = ("id", "text", "origin", "language", "cluster")
NONE = "none"  # how a document without a language is called
Cell = tuple[str, str]  # language, origin
Key = TypeVar("Key", bound=Hashable)


class Balance(Protocol):
    """What decides the sample, besides the corpus: these fields of Tokenize."""

    holdout: float
    sample: int
    temperature: float
    weights: Mapping[str, float]


def share(ids: pa.Array, seed: int) -> np.ndarray:
    """A number in [0, 1) for each id: a function of the id and the seed alone."""
    return keyed(ids, seed).astype(np.float64) / 2.0**64


def sampled(cluster: Cluster, corpus: Dataset, balance: Balance, out: Place) -> Dataset:
    """The sample, sealed."""
    source = corpus.select(*COLUMNS)
    rates: dict[Cell, float] | float = min(1.0, balance.sample / max(1, corpus.counts.get("bytes_out", 1)))
    if balance.temperature != 1 or balance.weights:
        refuse_unknown_sources(balance.weights, corpus)
        sizing = Job(Sized(balance.holdout), (out.target("sizes", salt=balance.holdout),))
        [(sizes,)] = map_(cluster, "Tokenize: sizes", [sizing], source)
        rates = rates_of(_totals(sizes), balance.sample, balance.temperature, balance.weights)
    salt = rates if isinstance(rates, float) else sorted([*cell, rate] for cell, rate in rates.items())
    job = Job(Sampled(balance.holdout, rates), (out.target("sample", salt=salt),))
    [(sample,)] = map_(cluster, "Tokenize: sample", [job], source)
    return sample


def refuse_unknown_sources(weights: Mapping[str, float], corpus: Dataset) -> None:
    known = sorted(name.removeprefix(BYTES_OF) for name in corpus.counts if name.startswith(BYTES_OF))
    for name in weights:
        if name not in known:
            told = nearest(name, known) or f"; there are {len(known)}"
            raise ValueError(f"Tokenize.weights names the source {name!r}, which the corpus does not have{told}")


def _totals(sizes: Dataset) -> dict[Cell, int]:
    table = sizes.table().group_by(["language", "origin"]).aggregate([("bytes", "sum")])
    columns = (table[name].to_pylist() for name in ("language", "origin", "bytes_sum"))
    return {(language, origin): size for language, origin, size in sorted(zip(*columns, strict=True))}


def rates_of(
    sizes: Mapping[Cell, int], budget: int, temperature: float, weights: Mapping[str, float]
) -> dict[Cell, float]:
    """The share of the documents of each language and source that is taken.

    >>> rates_of({("en", "a"): 8000, ("is", "a"): 2000}, 1000, 1.0, {})
    {('en', 'a'): 0.1, ('is', 'a'): 0.1}
    >>> rates_of({("en", "a"): 8000, ("is", "a"): 2000}, 1000, float("inf"), {})
    {('en', 'a'): 0.0625, ('is', 'a'): 0.25}
    """
    held: dict[str, dict[Cell, int]] = defaultdict(dict)
    for cell, size in sizes.items():
        if weights.get(cell[1], 1.0) > 0:
            held[cell[0]][cell] = size
    worth = {lang: sum(weights.get(cell[1], 1.0) * size for cell, size in own.items()) for lang, own in held.items()}
    whole = sum(worth.values()) or 1.0
    wish = {lang: (each / whole) ** (1 / temperature) for lang, each in worth.items()}
    parts = filled(wish, {lang: sum(own.values()) for lang, own in held.items()}, budget)
    found = dict.fromkeys(sizes, 0.0)
    for lang, own in held.items():
        inside = filled({cell: weights.get(cell[1], 1.0) * size for cell, size in own.items()}, own, parts[lang])
        found |= {cell: round(inside[cell] / size, 12) if size else 1.0 for cell, size in own.items()}
    return found


def filled(wish: Mapping[Key, float], most: Mapping[Key, int], budget: float) -> dict[Key, float]:
    """The budget in proportion to the wishes, nobody above what there is; what is left over goes to the others.

    >>> filled({"a": 1.0, "b": 1.0, "c": 2.0}, {"a": 10, "b": 100, "c": 100}, 100)
    {'a': 10.0, 'b': 30.0, 'c': 60.0}
    """
    found, left = dict.fromkeys(wish, 0.0), float(budget)
    open_ = [key for key in wish if wish[key] > 0 and most[key] > 0]
    while open_:
        each = left / sum(wish[key] for key in open_)
        full = [key for key in open_ if each * wish[key] >= most[key]]
        for key in full or open_:
            found[key] = float(most[key]) if full else each * wish[key]
        left -= sum(found[key] for key in full)
        open_ = [key for key in open_ if key not in full] if full else []
    return found


@dataclass(frozen=True)
class Sized:
    """Documents -> bytes of text by language and source, those of held-out clusters apart."""

    holdout: float

    def __call__(self, batch: pa.Table, at: At) -> pa.Table:
        rows = _told(batch, share(batch["cluster"].combine_chunks(), HOLDOUT_SEED) >= self.holdout)
        return (
            rows.group_by(["language", "origin"]).aggregate([("bytes", "sum")]).rename_columns({"bytes_sum": "bytes"})
        )


@dataclass(frozen=True)
class Sampled:
    """Texts to learn the vocabulary from: never a held-out cluster, each document by its own hash."""

    holdout: float
    rates: Mapping[Cell, float] | float

    def __call__(self, batch: pa.Table, at: At) -> pa.Table:
        taken = share(batch["cluster"].combine_chunks(), HOLDOUT_SEED) >= self.holdout
        taken &= share(batch["id"].combine_chunks(), SAMPLE_SEED) < self._rate(batch)
        rows = _told(batch, taken).group_by(["language", "origin"])
        for row in rows.aggregate([("bytes", "count"), ("bytes", "sum")]).to_pylist():
            for name, number in (("documents", row["bytes_count"]), ("bytes", row["bytes_sum"])):
                at.tally[f"{name}\t{row['language']}\t{row['origin']}"] += number
        return batch.select(["id", "text"]).filter(pa.array(taken))

    def _rate(self, batch: pa.Table) -> np.ndarray | float:
        if isinstance(self.rates, float):
            return self.rates
        cells = zip(*(_named(batch[name]).to_pylist() for name in ("language", "origin")), strict=True)
        return np.fromiter((self.rates.get(cell, 0.0) for cell in cells), np.float64, len(batch))


def texts_of(sample: Dataset) -> pa.ChunkedArray:
    """The texts of a sample in the order of ids: the order of shards must not matter."""
    table = sample.table()
    if not len(table):
        raise ValueError("no text is left to learn a vocabulary from; lower Tokenize.holdout or widen the sources")
    return table.take(pc.sort_indices(table, sort_keys=[("id", "ascending")]))["text"]


def _told(batch: pa.Table, chosen: np.ndarray) -> pa.Table:
    """Language, source and bytes of the chosen rows."""
    sizes = pc.fill_null(pc.binary_length(batch["text"]), 0).cast(pa.int64())
    columns = {"language": _named(batch["language"]), "origin": _named(batch["origin"]), "bytes": sizes}
    return pa.table(columns).filter(pa.array(chosen))


def _named(column: pa.ChunkedArray) -> pa.ChunkedArray:
    return pc.fill_null(column.cast(pa.string()), NONE)


def told_of(sample: Dataset) -> dict[str, Any]:
    """Documents and bytes of the sample, and of each language and source in it: for the manifest."""
    totals: dict[str, Any] = {"documents": 0, "bytes": 0, "languages": {}, "origins": {}}
    for key, number in sample.counts.items():
        name, *cell = key.split("\t")
        if len(cell) == 2:
            totals[name] += number
            for kind, value in zip(("languages", "origins"), cell, strict=True):
                own = totals[kind].setdefault(value, {"documents": 0, "bytes": 0})
                own[name] += number
    return totals
