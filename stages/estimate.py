"""Estimate: an n-gram language model of the documents given to it, as Perplex scores with.

    vocabulary.model    SentencePiece, learned from the same text, folded as it will be
    ngrams.arrow        key (uint64, sorted), log10 of probability and of back-off mass (float32), one record batch
    result.json         perplexity and bits per byte of documents it never saw; n-grams and discounts of each order
    sample/             the documents taken

Promises: the same documents give the same bytes on any number of workers; which are taken and which held out is told
by the hash of their id. Costs one pass over the text, then one worker: about 1 s a megabyte of `sample`, and 45 bytes
of memory a byte of it (3 GB for 64 MB). What is kept is bounded: `least` leaves rare n-grams out, `most` is how many of
one order stay at 16 bytes each, so at most 16 x `order` x `most` bytes. Refuses documents that leave no text to learn
from.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tundish.cluster import store
from tundish.cluster.map import map_
from tundish.cluster.shards import Dataset
from tundish.cluster.target import standing
from tundish.cluster.verbs import At, Cluster, Job
from tundish.operators.text import kneser_ney, perplexity, vocabulary
from tundish.operators.text.digest import keyed
from tundish.operators.text.pieces import Pieces, folded
from tundish.stages.pretrain import seal_files
from tundish.stages.samples import share_of
from tundish.stages.stage import Place, Stage
from tundish.stages.vocabulary import MODEL, share

NGRAMS = "ngrams.arrow"
FILES = (NGRAMS, "result.json", MODEL)
HELD_SEED, TAKE_SEED, ORDER_SEED = 0xE57E, 0x7A4E5, 0x04DE5
LETTERS = 16 << 20  # bytes of text the vocabulary is learned from
SILENT = len(vocabulary.SPECIALS) - 1  # specials no line holds; [SEP] ends each


@dataclass(frozen=True)
class Estimate(Stage):
    """`only`: the language of the documents to learn from, as the stage in `language` tells it. `least`: counts below
    it are left out, order by order. `fold`: lower case, no accents, digits as zeros, as CCNet does."""

    version: ClassVar[int] = 2
    makes: ClassVar[tuple[str, ...]] = ("ngrams",)
    wants: ClassVar[Mapping[str, tuple[str, ...]]] = {"documents": ("id", "text"), "language": ("language",)}

    documents: Stage
    language: Stage | None = None
    only: str | None = None
    order: int = 5
    vocabulary: int = 32_768
    coverage: float = 0.9995
    least: tuple[int, ...] = (1, 1, 2, 2, 2)
    most: int = 20_000_000
    sample: int = 64 << 20  # bytes of text to learn from
    holdout: float = 0.02
    fold: bool = True

    def check(self) -> None:
        if (self.language is None) != (self.only is None):
            raise ValueError("Estimate takes language and only together: the stage that tells it, and which to learn")
        if not 1 <= self.order <= 5:
            raise ValueError(f"Estimate.order is {self.order}; it is 1 to 5")
        if not self.least or list(self.least) != sorted(self.least) or self.least[0] != 1:
            raise ValueError(f"Estimate.least is {list(self.least)}; it begins with 1 and never falls, as [1, 1, 2]")
        if not 0 <= self.holdout < 1:
            raise ValueError(f"Estimate.holdout is {self.holdout}; it is a share of the documents, such as 0.02")
        if not 0.98 <= self.coverage <= 1:
            raise ValueError(f"Estimate.coverage is {self.coverage}; SentencePiece takes 0.98 to 1")
        for name in ("most", "sample"):
            if getattr(self, name) < 1:
                raise ValueError(f"Estimate.{name} is {getattr(self, name)}; make it at least 1")

    def run(self, cluster: Cluster, inputs: Mapping[str, Dataset], out: Place) -> Dataset:
        source = inputs["documents"].select("id", "text")
        if self.only is not None:
            source = inputs["documents"].beside(inputs["language"]).select("id", "text", "language")
        rate = share_of(cluster, source, self.sample, self.only)
        taken = Job(Taken(self.holdout, self.only, rate), (out.target("sample", salt=rate),))
        [(sample,)] = map_(cluster, "Estimate: sample", [taken], source)
        if (found := standing(out.target(), sample.digest)) is not None:
            return found
        store.remove(store.join(out.uri, "manifest.json"))  # its files will be written over
        list(cluster.each("Estimate", Learn(sample, out.uri, self), ["ngrams"]))
        about = {**out.about, "inside": ["sample"], "from": sample.digest}
        return seal_files(replace(out, about=about), FILES, inputs)


@dataclass(frozen=True)
class Taken:
    """Documents of the language -> those to learn from and those to score, each by its own hash."""

    holdout: float
    only: str | None
    rate: float

    def __call__(self, batch: pa.Table, at: At) -> pa.Table:
        ids = batch["id"].combine_chunks()
        taken = share(ids, TAKE_SEED) < self.rate
        if self.only is not None:
            taken &= pc.fill_null(pc.equal(batch["language"], self.only), False).to_numpy()
        held = pa.array(share(ids, HELD_SEED) < self.holdout)
        return batch.select(["id", "text"]).append_column("held", held).filter(pa.array(taken))


@dataclass(frozen=True)
class Learn:
    """Vocabulary, n-grams and their score, in an order that no shard decides."""

    sample: Dataset
    uri: str
    stage: Estimate

    def __call__(self, item: str) -> str:
        table = self.sample.table()
        table = table.append_column("place", pa.array(keyed(table["id"].combine_chunks(), ORDER_SEED)))
        table = table.take(pc.sort_indices(table, sort_keys=[("place", "ascending"), ("id", "ascending")]))
        train = table.filter(pc.invert(table["held"]))["text"].combine_chunks()
        held = table.filter(table["held"])["text"].combine_chunks()
        if not any(text and text.strip() for text in train.to_pylist()):
            told = f" in the language {self.stage.only!r}" if self.stage.only else ""
            raise ValueError(f"Estimate has no text to learn from{told}; give more documents, or lower holdout")
        model = vocabulary.train(self._lines(train), size=self.stage.vocabulary, coverage=self.stage.coverage)
        pieces = Pieces(model, folded if self.stage.fold else None)
        tokens, _ = pieces.stream(train)
        types = self.stage.vocabulary - SILENT
        s = self.stage
        ngrams, told = kneser_ney.estimate(tokens, types=types, order=s.order, least=s.least, most=s.most)
        store.write(store.join(self.uri, MODEL), model)
        store.write(store.join(self.uri, NGRAMS), body_of(ngrams, s.fold))
        scored = perplexity.measure(held, pieces, kneser_ney.table_of(ngrams))
        store.write_json(store.join(self.uri, "result.json"), {**told, **summed(scored), "documents": len(train)})
        return item

    def _lines(self, texts: pa.LargeStringArray) -> Any:
        """Lines of the first texts, up to LETTERS bytes, as they will be read."""
        left = LETTERS
        for text in texts.to_pylist():
            if left <= 0:
                return
            left -= len((text or "").encode())
            for line in (text or "").split("\n"):
                if line.strip():
                    yield folded(line) if self.stage.fold else line


def summed(scored: pa.RecordBatch) -> dict[str, Any]:
    """Medians over the documents scored, and how many there were."""
    told: dict[str, Any] = {"held": scored.num_rows}
    for name in scored.schema.names:
        values = scored[name].drop_null().to_numpy()
        told[name] = float(np.median(values)) if len(values) else None
    return told


def body_of(ngrams: kneser_ney.NGrams, fold: bool) -> bytes:
    """A model as an Arrow file; order, unseen mass and folding in its metadata."""
    told = {"order": str(ngrams.order), "unseen": ngrams.unseen.hex(), "fold": str(int(fold))}
    columns = {"key": ngrams.keys, "chance": ngrams.chances, "backoff": ngrams.backoffs}
    table = pa.table(columns).replace_schema_metadata(told)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue().to_pybytes()


def ngrams_of(body: bytes) -> tuple[kneser_ney.NGrams, bool]:
    """What `body_of` wrote, and whether texts are folded."""
    table = pa.ipc.open_file(body).read_all()
    told = {key.decode(): value.decode() for key, value in table.schema.metadata.items()}
    columns = (table[name].to_numpy() for name in ("key", "chance", "backoff"))
    return kneser_ney.NGrams(*columns, int(told["order"]), float.fromhex(told["unseen"])), told["fold"] == "1"
