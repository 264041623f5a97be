"""Perplex: how surprising each document is to an n-gram model, beside it: `perplexity` and `bits_per_byte`.

A model a language, as CCNet has them, or one for all. Null where no model is for the document's language and where a
text is blank. Costs about 0.05 s a megabyte, and 32 to 64 bytes of memory an n-gram. Refuses a model that changed.
"""

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa

from tundish.cluster import store
from tundish.cluster.map import map_
from tundish.cluster.shards import Dataset
from tundish.cluster.verbs import At, Cluster, Job
from tundish.operators.text import kneser_ney, perplexity
from tundish.operators.text.pieces import Pieces, folded
from tundish.stages.estimate import NGRAMS, ngrams_of
from tundish.stages.pretrain import file_of
from tundish.stages.stage import Place, Stage
from tundish.stages.vocabulary import MODEL

ANY = "any"


@dataclass(frozen=True)
class Perplex(Stage):
    """`models`: language -> what Estimate gives; `any` is for the documents of every other language."""

    makes: ClassVar[tuple[str, ...]] = ("perplexity", "bits_per_byte")
    wants: ClassVar[Mapping[str, tuple[str, ...]]] = {"documents": ("id", "text"), "language": ("language",)}

    documents: Stage
    models: Mapping[str, Stage]
    language: Stage | None = None

    def check(self) -> None:
        if not self.models:
            raise ValueError("Perplex has no models; name at least one, such as any: the name of an Estimate")
        for name, stage in self.models.items():
            if name in ("documents", "language"):
                raise ValueError(f"Perplex.models has the key {name!r}, which is no language; give its code, or any")
            if isinstance(stage, Stage) and stage.makes and "ngrams" not in stage.makes:
                raise ValueError(f"Perplex.models.{name} is {stage.name}, which gives no n-grams; give an Estimate")
        if self.language is None and {*self.models} != {ANY}:
            raise ValueError(f"Perplex has models for {', '.join(self.models)} and no language; add one, or use any")

    def run(self, cluster: Cluster, inputs: Mapping[str, Dataset], out: Place) -> Dataset:
        documents = inputs["documents"]
        models = {}
        for name in sorted(self.models):
            uris = [file_of(inputs[name], file) for file in (NGRAMS, MODEL)]  # checked against their digests
            models[name] = (*uris, inputs[name].digest)
        source = documents.select("id", "text")
        if self.language is not None:
            source = documents.beside(inputs["language"]).select("id", "text", "language")
        salt = {name: digest for name, (*_, digest) in models.items()}
        job = Job(Measured(models), (out.target(salt=salt),), about={**out.about, "models": salt})
        [(dataset,)] = map_(cluster, "Perplex", [job], source)
        return dataset


@dataclass(frozen=True)
class Measured:
    """Documents -> how surprising they are to the model of their language."""

    models: Mapping[str, tuple[str, str, str]]

    def __call__(self, batch: pa.Table, at: At) -> pa.Table:
        chosen = np.full(len(batch), ANY, object)
        if "language" in batch.column_names:
            chosen[:] = [one if one in self.models else ANY for one in batch["language"].to_pylist()]
        found = {name: np.full(len(batch), np.nan) for name in perplexity.SCHEMA.names}
        for name, model in self.models.items():
            rows = np.flatnonzero(chosen == name)
            if not len(rows):
                continue
            told = perplexity.measure(batch["text"].take(rows).combine_chunks(), *loaded(*model))
            for column, values in found.items():
                values[rows] = told[column].to_numpy(zero_copy_only=False)
        columns = {name: pa.array(values, mask=np.isnan(values)) for name, values in found.items()}
        return pa.table({"id": batch["id"], **columns})


@functools.lru_cache(maxsize=16)
def loaded(ngrams: str, vocabulary: str, digest: str) -> tuple[Any, Any]:
    """(pieces, table) of a model, once a process."""
    model, fold = ngrams_of(store.read(ngrams))
    return Pieces(store.read(vocabulary), folded if fold else None), kneser_ney.table_of(model)
