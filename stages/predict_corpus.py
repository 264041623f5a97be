"""Predict: what a fine-tuned model says of every document of a corpus, on the cluster.

    classify      <name> string, <name>_probability float32, and with `every` <name>_<label> float32 of each class
    multilabel    <name> list of strings, those above one half; with `every` as above
    regress       <name> float64
    embed         <name> fixed list of D float32, at length one

`<name>` is `column`. A text is read as Finetune read it: the same pieces, its first `length` of them.
Probabilities are divided by the temperature that was fitted on dev (`calibrated: false` leaves that out). Null for a
blank text. Runs on the GPU a worker sees, else on the CPU (`TUNDISH_TORCH_THREADS` limits its threads). Promises: the
same answer, to 1e-5, in whatever company and on any number of workers. Costs one forward pass a document. Refuses
models of words or answers: those are asked of files, by `tundish predict`.
"""

import functools
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
from tundish.stages.predict_columns import learnt_in
from tundish.stages.pretrain import file_of
from tundish.stages.stage import Place, Stage
from tundish.stages.vocabulary import kept_in

FILES = ("model.safetensors", "config.json", "result.json")
KINDS = ("classify", "multilabel", "regress", "embed")
LETTERS = 32  # characters encoded at first for each piece wanted; a piece has 16 at most, spaces come on top


@dataclass(frozen=True)
class Predict(Stage):
    """`model`: what Finetune gives. `column`: how its answer is called. `every`: also the probability of each class."""

    wants: ClassVar[Mapping[str, tuple[str, ...]]] = {"documents": ("id", "text"), "model": ("classifier",)}

    documents: Stage
    model: Stage
    column: str = "prediction"
    every: bool = False
    calibrated: bool = True

    def check(self) -> None:
        if self.column in ("", "id", "text"):
            raise ValueError(f"Predict.column is {self.column!r}; give the answer a name of its own")

    def run(self, cluster: Cluster, inputs: Mapping[str, Dataset], out: Place) -> Dataset:
        ask = asking(inputs["model"], getattr(self.model, "length", 0), KINDS, calibrated=self.calibrated)
        job = Job(
            Predicted(ask, self.column, self.every),
            (out.target(salt=ask.digest),),
            about={**out.about, "model": ask.digest},
        )
        [(dataset,)] = map_(cluster, "Predict", [job], inputs["documents"].select("id", "text"))
        return dataset


@dataclass(frozen=True)
class Asking:
    """A fine-tuned model as plain values; called with texts, what it says of each and which are blank (n,) bool: (n, C)
    probabilities, (n, 1) numbers or (n, D) vectors."""

    folder: str
    digest: str
    kind: str
    names: tuple[str, ...]
    length: int  # pieces of a text
    calibrated: bool

    def __call__(self, texts: pa.ChunkedArray) -> tuple[np.ndarray, np.ndarray]:
        from tundish.operators.model import calibration  # torch comes in here
        from tundish.operators.model.asking import outputs_of

        given = texts.to_pylist()
        it = loaded(self.folder, self.digest)
        found = outputs_of(it.model, opening(given, it.pieces, self.length), it.task.specials)
        if self.kind in ("classify", "multilabel"):
            spread = calibration.softmax if self.kind == "classify" else calibration.sigmoid
            found = spread(found, it.heat if self.calibrated else 1.0)
        return found, np.array([not (text and text.strip()) for text in given], bool)


def asking(model: Dataset, length: int, kinds: tuple[str, ...], *, calibrated: bool) -> Asking:
    """What Finetune sealed, each file checked against its digest. Raises ValueError for a task not of `kinds`, and for
    a model that knows pairs of texts alone."""
    for name in (*FILES, kept_in(model)):
        file_of(model, name)
    config = store.read_json(store.join(model.uri, "config.json"))
    if config["task"] not in kinds:
        raise ValueError(
            f"the model was tuned to {config['task']}, and documents are asked by {', '.join(kinds)}; give another"
        )
    if learnt_in(model.uri, config["task"]).pair:
        raise ValueError("the model was tuned on pairs of texts, and a document is one; give one tuned on single texts")
    reads = config["shape"]["length"]
    pieces = min(length or reads, reads) - 2  # [CLS] and [SEP] count as well
    return Asking(model.uri, model.digest, config["task"], tuple(config["names"]), pieces, calibrated)


@functools.lru_cache(maxsize=2)
def loaded(folder: str, digest: str) -> Any:
    """The model, once a process for each digest."""
    from tundish.stages.predict import predictor
    from tundish.stages.ranks import joined

    with joined(0, 1) as alone:
        return predictor(folder, device=str(alone.device))


@dataclass(frozen=True)
class Predicted:
    """Documents -> predictions."""

    gpu: ClassVar[bool] = True

    ask: Asking
    name: str
    every: bool

    def __call__(self, batch: pa.Table, at: At) -> pa.Table:
        found, none = self.ask(batch["text"])
        return pa.table({"id": batch["id"], **self._columns(found, none)})

    def _columns(self, found: np.ndarray, none: np.ndarray) -> dict[str, pa.Array]:
        kind, names = self.ask.kind, np.array(self.ask.names, object)
        if kind == "regress":
            return {self.name: pa.array(found[:, 0], mask=none)}
        if kind == "embed":
            flat = pa.array(found.astype(np.float32).reshape(-1))
            return {self.name: pa.FixedSizeListArray.from_arrays(flat, found.shape[1], mask=pa.array(none))}
        if kind == "classify":
            own: dict[str, pa.Array] = {
                self.name: pa.array(names[found.argmax(1)], pa.string(), mask=none),
                f"{self.name}_probability": pa.array(found.max(1).astype(np.float32), mask=none),
            }
        else:
            held = [None if blank else names[row > 0.5].tolist() for row, blank in zip(found, none, strict=True)]
            own = {self.name: pa.array(held, pa.list_(pa.string()))}
        each = enumerate(self.ask.names) if self.every else ()
        return own | {
            f"{self.name}_{label}": pa.array(found[:, at].astype(np.float32), mask=none) for at, label in each
        }


def opening(texts: list[str | None], pieces: tokenizer.Tokenizer, length: int) -> list[list[int]]:
    """The first `length` pieces of each text, as encoding all of it would give them.

    Where no piece crosses a space, the pieces before one are known without what follows it.
    """
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
