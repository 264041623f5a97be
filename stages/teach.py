"""Teach: a fastText classifier learned from documents of two or more kinds, and how good it is on those it never saw.

    model.bin            fastText's own file: Rate scores with it, and so does anything else that reads fastText
    result.json          accuracy, macro F1 and AUC on the held-out documents, beside guessing the commonest label
    predictions.jsonl    of every held-out document its label and what the model thinks
    sample/<label>/      the documents taken, as the lines learned from

Promises: the same documents give the same bytes on any number of workers; which are held out is told by the hash of
their id (or host), never by their order; one whose very text was learned from is not scored. Costs one pass over each
corpus, then one worker with the sample in memory. Refuses a single label, a label without documents to learn from or
to score.
"""

import json
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tundish.cluster import store
from tundish.cluster.map import map_
from tundish.cluster.shards import Dataset, digest_of
from tundish.cluster.target import standing
from tundish.cluster.verbs import At, Cluster, Job
from tundish.operators.text import classify
from tundish.operators.text.digest import keyed, payload_digest
from tundish.stages.pretrain import seal_files
from tundish.stages.samples import share_of
from tundish.stages.stage import Place, Stage
from tundish.stages.vocabulary import share

MODEL = "model.bin"
FILES = (MODEL, "result.json", "predictions.jsonl")
HELD_SEED, TAKE_SEED, ORDER_SEED = 0x7EAC4, 0x7A4E, 0x04DE4
APART = ("id", "host")


@dataclass(frozen=True)
class Teach(Stage):
    """`corpora`: label -> documents. `holdout`: share kept to score on, by `apart`: `id`, or `host`, which keeps all
    pages of a host on one side. `sample`: bytes of text taken of each label."""

    makes: ClassVar[tuple[str, ...]] = ("fasttext",)

    corpora: Mapping[str, Stage]
    holdout: float = 0.2
    apart: str = "id"
    sample: int = 64 << 20
    dimension: int = 64
    ngrams: int = 2
    buckets: int = 200_000
    least: int = 2  # times a word must occur
    epochs: int = 25
    lr: float = 0.5
    seed: int = 1

    def check(self) -> None:
        if len(self.corpora) < 2:
            raise ValueError(f"Teach.corpora names {len(self.corpora)} labels; a classifier needs two, as good and bad")
        for label, stage in self.corpora.items():
            if label.split() != [label] or "/" in label:
                raise ValueError(f"Teach.corpora has the label {label!r}; make it one word without a slash")
            if isinstance(stage, Stage) and stage.makes and not {"id", "text"} <= {*stage.makes}:
                raise ValueError(
                    f"Teach.corpora.{label} is {stage.name}, which gives no documents; give a stage that does"
                )
        self._check_different()
        if not 0 < self.holdout < 1:
            raise ValueError(f"Teach.holdout is {self.holdout}; it is a share between 0 and 1, such as 0.2")
        if self.apart not in APART:
            raise ValueError(f"Teach.apart is {self.apart!r}; it is one of {', '.join(APART)}")
        for name in ("dimension", "ngrams", "least", "epochs", "sample"):
            if getattr(self, name) < 1:
                raise ValueError(f"Teach.{name} is {getattr(self, name)}; make it at least 1")
        if self.buckets < 0 or self.lr <= 0:
            raise ValueError(f"Teach.buckets is {self.buckets} and lr {self.lr}; neither can be negative, nor lr zero")

    def _check_different(self) -> None:
        """A path enters a stage's name without its folder, so two folders of equal file names would be one corpus."""
        known: dict[str, str] = {}
        for label, stage in self.corpora.items():
            if isinstance(stage, Stage) and (other := known.setdefault(stage.address, label)) != label:
                raise ValueError(
                    f"Teach.corpora.{label} and {other} are the same stage, {stage.address}; give different documents "
                    "(files that differ only in their folder need names of their own)"
                )

    def run(self, cluster: Cluster, inputs: Mapping[str, Dataset], out: Place) -> Dataset:
        samples = {}
        for label, corpus in sorted(inputs.items()):
            source = corpus.select("id", "text", *(["host"] if self.apart == "host" else []))
            taken = Taken(self.holdout, self.apart, share_of(cluster, source, self.sample))
            job = Job(taken, (out.target("sample", label, salt=taken.rate),))
            [(samples[label],)] = map_(cluster, f"Teach: {label}", [job], source)
        origin = digest_of({label: sample.digest for label, sample in samples.items()})
        if (found := standing(out.target(), origin)) is not None:
            return found
        store.remove(store.join(out.uri, "manifest.json"))  # its files will be written over
        list(cluster.each("Teach", Learn(samples, out.uri, self.settings), ["model"]))
        inside = [f"sample/{label}" for label in samples]
        about = {**out.about, "inside": inside, "labels": sorted(samples), "from": origin}
        return seal_files(replace(out, about=about), FILES, inputs)

    @property
    def settings(self) -> classify.Settings:
        return classify.Settings(self.dimension, self.ngrams, self.buckets, self.least, self.epochs, self.lr, self.seed)


@dataclass(frozen=True)
class Taken:
    """Documents -> the lines to learn from and to score, each by its own hash; blank ones are left out."""

    holdout: float
    apart: str
    rate: float

    def __call__(self, batch: pa.Table, at: At) -> pa.Table:
        ids = batch["id"].combine_chunks()
        names = ids
        if self.apart == "host":
            names = pa.array(
                [payload_digest((host or "").encode()) for host in batch["host"].to_pylist()], pa.binary(16)
            )
        lines = [classify.line(text or "") for text in batch["text"].to_pylist()]
        taken = (share(ids, TAKE_SEED) < self.rate) & np.array([bool(one) for one in lines], bool)
        told = pa.table(
            {
                "id": ids,
                "line": pa.array(lines, pa.large_string()),
                "held": pa.array(share(names, HELD_SEED) < self.holdout),
            }
        )
        at.tally["taken"] += int(taken.sum())
        return told.filter(pa.array(taken))


@dataclass(frozen=True)
class Learn:
    """Train on one side of the samples and score the other, in an order that no shard decides."""

    samples: Mapping[str, Dataset]
    uri: str
    settings: classify.Settings

    def __call__(self, item: str) -> str:
        table = self._rows()
        held = table["held"].to_numpy()
        train = table.filter(pa.array(~held))
        known = {payload_digest(line.encode()) for line in train["line"].to_pylist()}
        fresh = [payload_digest(line.encode()) not in known for line in table["line"].to_pylist()]
        test = table.filter(pa.array(held & np.array(fresh, bool)))
        for part, deed in ((train, "learn from"), (test, "score on")):
            lacking = sorted(set(self.samples) - set(part["label"].to_pylist()))
            if lacking:
                raise ValueError(
                    f"Teach has no documents of the label {lacking[0]!r} to {deed}; give more, or change holdout"
                )
        model = classify.train(train["line"].to_pylist(), train["label"].to_pylist(), self.settings)
        store.write(store.join(self.uri, MODEL), model)
        self._score(model, train, test, int(held.sum()) - len(test))
        return MODEL

    def _rows(self) -> pa.Table:
        """All rows of all labels, mixed by the hash of their ids."""
        parts = [
            dataset.table().append_column("label", pa.array([label] * dataset.rows, pa.string()))
            for label, dataset in sorted(self.samples.items())
        ]
        table = pa.concat_tables(parts).combine_chunks()
        table = table.append_column("place", pa.array(keyed(table["id"].combine_chunks(), ORDER_SEED)))
        order = pc.sort_indices(table, sort_keys=[("place", "ascending"), ("id", "ascending"), ("label", "ascending")])
        return table.take(order)

    def _score(self, model: bytes, train: pa.Table, test: pa.Table, seen: int) -> None:
        names = sorted(self.samples)
        with tempfile.NamedTemporaryFile(suffix=".bin") as file:
            file.write(model)
            file.flush()
            given = classify.given(test["line"].to_pylist(), classify.load(file.name, digest=file.name))
        truth = np.array([names.index(label) for label in test["label"].to_pylist()])
        commonest = int(np.bincount([names.index(label) for label in train["label"].to_pylist()]).argmax())
        always = np.tile(np.eye(len(names))[commonest], (len(truth), 1))
        guesses = given.argmax(1)
        result = {
            **classify.scores(truth, given),
            "majority": classify.scores(truth, always),
            "train": {label: train["label"].to_pylist().count(label) for label in names},
            "test": {label: int((truth == number).sum()) for number, label in enumerate(names)},
            "confusion": {
                label: {other: int(((truth == t) & (guesses == g)).sum()) for g, other in enumerate(names)}
                for t, label in enumerate(names)
            },
            "left_out": seen,  # held out, and the same text was learned from
        }
        store.write_json(store.join(self.uri, "result.json"), result)
        lines = [_told(*row) for row in zip(test["id"].to_pylist(), test["label"].to_pylist(), given, strict=True)]
        store.write(store.join(self.uri, "predictions.jsonl"), "".join(lines).encode())


def _told(name: bytes, label: str, chances: Any) -> str:
    return json.dumps({"id": name.hex(), "label": label, "probabilities": chances.round(6).tolist()}) + "\n"
