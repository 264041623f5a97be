"""Predict: what a fine-tuned model says of files, row by row, as lines of JSON.

    classify     label, probability, probabilities     calibrated where a temperature was fitted
    multilabel   labels, probabilities
    regress      value
    tag          words, tags
    answer       answer, start (in characters), margin: how far it is ahead of no answer
    embed        vector, of each text one

Each line begins with file, row and id. Promises: rows in the order of the files; what is predicted of a row does not
depend on the others, but for rounding. Costs `size` rows in memory at a time. Refuses folders that hold no fine-tuned
model, and what `examples` refuses.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from safetensors.torch import load

from tundish.cluster import store
from tundish.operators.model import calibration
from tundish.operators.model.family import Model
from tundish.operators.model.heads import Tuned
from tundish.operators.model.shape import Shape
from tundish.operators.text import tokenizer
from tundish.stages.examples import Examples, batches
from tundish.stages.finetune_files import tokens_of
from tundish.stages.finetune_kinds import answers_of, asked, place_of, sentences
from tundish.stages.finetune_rows import Rows
from tundish.stages.finetune_task import TuneTask
from tundish.stages.language_model import vocabulary_in

ROUND = 6


@dataclass(frozen=True)
class Predictor:
    """A fine-tuned model, ready. `heat`: the temperature that its logits are divided by."""

    task: TuneTask
    model: Tuned
    pieces: tokenizer.Tokenizer
    names: tuple[str, ...]
    heat: float
    device: torch.device


def predictor(folder: str, *, device: str = "", batch: int = 32, calibrated: bool = True) -> Predictor:
    """What a fine-tuning left in a folder. Raises ValueError where it holds none."""
    told = store.read_json(store.join(folder, "config.json"))
    if not isinstance(told, dict) or told.get("kind") != "tuned":
        raise ValueError(f"{folder} holds no fine-tuned model; give the folder that `tundish finetune --out` wrote")
    shape = Shape(**told["shape"])
    model = Tuned(Model(shape), told["head"], told["classes"], pooling=told["pooling"])
    model.load_state_dict(load(store.read(store.join(folder, "model.safetensors"))))
    where = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    task = TuneTask(folder, told["task"], {"train": ""}, told["specials"], folder, scheme=told["scheme"], batch=batch)
    pieces = tokenizer.load(vocabulary_in(folder))
    heat = _heat(folder) if calibrated else 1.0
    return Predictor(task, model.eval().to(where), pieces, tuple(told["names"]), heat, where)


def _heat(folder: str) -> float:
    """The temperature of the run whose weights stayed, the first, if one was fitted."""
    result = store.read_json(store.join(folder, "result.json")) or {}
    each = [part.get("temperatures") for part in result.get("calibration", {}).values()]
    return float(each[0][0]) if each and each[0] else 1.0


def predictions(
    it: Predictor, files: str | Sequence[str], columns: Mapping[str, Any] | None = None, **options: Any
) -> Iterator[dict[str, Any]]:
    """A dict a row, in order. `options`: as `examples.batches` takes them."""
    for some in batches(it.task.kind, files, columns, **options):
        table = tokens_of(some, it.pieces, it.model.encoder.shape.length).table
        rows = Rows(it.task.kind, it.names, table, it.task.specials)
        said = asked(it.task, it.model, rows, it.device, torch.float32)["logits"]
        yield from _told(it, some, rows, said)


def _told(it: Predictor, some: Examples, rows: Rows, logits: np.ndarray) -> Iterator[dict[str, Any]]:
    own = some.table.select(["file", "row", "id"]).to_pylist()
    for where, one in zip(own, _each(it, some, rows, logits), strict=True):
        yield where | one


def _each(it: Predictor, some: Examples, rows: Rows, logits: np.ndarray) -> Iterator[dict[str, Any]]:
    kind = it.task.kind
    if kind == "classify":
        for shares in calibration.softmax(logits, it.heat):
            best = int(shares.argmax())
            told = {"label": it.names[best], "probability": round(float(shares[best]), ROUND)}
            yield told | {"probabilities": _named(it, shares)}
    elif kind == "multilabel":
        for shares in calibration.sigmoid(logits, it.heat):
            held = [name for name, share in zip(it.names, shares, strict=True) if share > 0.5]
            yield {"labels": held, "probabilities": _named(it, shares)}
    elif kind == "regress":
        yield from ({"value": round(float(value), ROUND)} for value in logits.reshape(-1))
    elif kind == "tag":
        words = some.table["words"].to_pylist()
        tags = iter(sentences(rows, logits.argmax(1)))
        yield from ({"words": each, "tags": next(tags) if each else []} for each in words)
    elif kind == "answer":
        yield from _answers(some, rows, logits)
    else:
        single = some.table["second"].is_null().to_pylist()
        for vectors, alone in zip(logits, single, strict=True):
            told = {"vector": np.round(vectors[0], ROUND).tolist()}
            yield told if alone else told | {"second_vector": np.round(vectors[1], ROUND).tolist()}


def _named(it: Predictor, shares: np.ndarray) -> dict[str, float]:
    return {name: round(float(share), ROUND) for name, share in zip(it.names, shares, strict=True)}


def _answers(some: Examples, rows: Rows, logits: np.ndarray) -> Iterator[dict[str, Any]]:
    questions = some.table.to_pylist()
    truth = {place_of(row["file"], row["row"]): {"context": row["context"], "answers": []} for row in questions}
    texts, none, spans = answers_of(rows, logits, truth)
    for row, text, margin, span in zip(questions, texts, none.tolist(), spans, strict=True):
        start = span[0] if span else -1
        yield {"question": row["question"], "answer": text, "start": start, "margin": round(-margin, ROUND)}
