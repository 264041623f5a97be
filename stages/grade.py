"""Grade: what a fine-tuned tundish encoder makes of each document, beside it.

    grade             float64 in [0, 1]: the value of the class to expect, lowest to highest value
    grade_<label>     float32: the probability of each class

A class is worth the number it is called by (`0` to `5`), or what `values` says. A text is read as Finetune read it:
the same pieces, its first `length` of them. Null for a blank text. Runs on the GPU a worker sees, else on the CPU
(`TUNDISH_TORCH_THREADS` limits its threads). Promises: the same grade, to 1e-5, in whatever company and on any number
of workers. Costs one forward pass a document. Refuses labels without a value.
"""

import functools
import json
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa

from tundish.cluster import store
from tundish.cluster.map import map_
from tundish.cluster.shards import Dataset
from tundish.cluster.verbs import At, Cluster, Job
from tundish.operators.text import tokenizer
from tundish.stages.pretrain import file_of
from tundish.stages.stage import Place, Stage
from tundish.stages.vocabulary import kept_in

FILES = ("model.safetensors", "config.json")
LETTERS = 32  # characters encoded at first for each piece wanted; a piece has 16 at most, spaces come on top


@dataclass(frozen=True)
class Grade(Stage):
    """`classifier`: what Finetune gives. `values`: label -> what it is worth, when labels are no numbers."""

    makes: ClassVar[tuple[str, ...]] = ("grade",)
    wants: ClassVar[Mapping[str, tuple[str, ...]]] = {"documents": ("id", "text"), "classifier": ("classifier",)}

    documents: Stage
    classifier: Stage
    values: Mapping[str, float] | None = None

    def run(self, cluster: Cluster, inputs: Mapping[str, Dataset], out: Place) -> Dataset:
        classifier = inputs["classifier"]
        uris = tuple(
            file_of(classifier, name) for name in (*FILES, kept_in(classifier))
        )  # each checked against its digest
        digest = classifier.digest
        config = json.loads(store.read(uris[1]))
        length = getattr(self.classifier, "length", config["shape"]["length"])
        graded = Graded(uris, digest, tuple(config["names"]), self._worth(config["names"]), length)
        job = Job(graded, (out.target(salt=digest),), about={**out.about, "model": digest})
        [(dataset,)] = map_(cluster, "Grade", [job], inputs["documents"].select("id", "text"))
        return dataset

    def _worth(self, names: list[str]) -> tuple[float, ...]:
        """Each class's value, the lowest 0 and the highest 1."""
        worth = dict(self.values) if self.values is not None else {n: float(n) for n in names if _number(n)}
        lacking = [name for name in names if name not in worth]
        if lacking:
            raise ValueError(
                f"Grade does not know what the label {lacking[0]!r} is worth; set values for {', '.join(names)}"
            )
        known = np.array([worth[name] for name in names])
        if not np.isfinite(known).all() or known.min() == known.max():
            raise ValueError(f"Grade.values are {known.tolist()}; give at least two different numbers")
        return tuple(((known - known.min()) / (known.max() - known.min())).tolist())


def _number(text: str) -> bool:
    try:
        return np.isfinite(float(text))
    except ValueError:
        return False


@dataclass(frozen=True)
class Graded:
    """Documents -> grades."""

    uris: tuple[str, ...]
    digest: str
    names: tuple[str, ...]
    worth: tuple[float, ...]
    length: int

    def __call__(self, batch: pa.Table, at: At) -> pa.Table:
        from tundish.operators.model.grades import probabilities  # torch comes in here

        model, config, pieces = loaded(self.uris, self.digest)
        texts = batch["text"].to_pylist()
        found = probabilities(model, opening(texts, pieces, self.length), config["specials"])
        none = np.array([not (text and text.strip()) for text in texts], bool)
        columns = {"grade": pa.array(np.clip(found @ np.array(self.worth), 0.0, 1.0), mask=none)}
        for number, name in enumerate(self.names):
            columns[f"grade_{name}"] = pa.array(found[:, number].astype(np.float32), mask=none)
        return pa.table({"id": batch["id"], **columns})


@functools.lru_cache(maxsize=2)
def loaded(uris: tuple[str, ...], digest: str) -> tuple[Any, dict[str, Any], bytes]:
    """(classifier, configuration, vocabulary), once a process."""
    from tundish.operators.model.grades import classifier_of
    from tundish.stages.ranks import joined

    weights, config, pieces = map(store.read, uris)
    told = json.loads(config)
    with joined(0, 1) as alone:
        return classifier_of(told, weights, alone.device), told, pieces


def opening(texts: list[str | None], model: bytes, length: int) -> list[list[int]]:
    """The first `length` pieces of each text, as encoding all of it would give them.

    Where no piece crosses a space, the pieces before one are known without what follows it.
    """
    pieces = tokenizer.load(model)
    begins = [_before_space(text or "", LETTERS * length) if pieces.apart else text or "" for text in texts]
    found = pieces.encode(pa.array(begins, pa.large_string())).to_pylist()
    short = [n for n, tokens in enumerate(found) if len(tokens) < length and len(begins[n]) < len(texts[n] or "")]
    if short:
        whole = pieces.encode(pa.array([texts[n] for n in short], pa.large_string())).to_pylist()
        for number, tokens in zip(short, whole, strict=True):
            found[number] = tokens
    return [tokens[:length] for tokens in found]


def _before_space(text: str, most: int) -> str:
    """The text up to the last space within `most` characters, if no mark stands upon that space; else all of it."""
    if len(text) <= most:
        return text
    at = text.rfind(" ", 0, most)
    return text[:at] if at > 0 and not unicodedata.combining(text[at + 1]) else text
