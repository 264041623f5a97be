"""Toys of text to text: small folders that write, rows to learn by heart, and what rouge-score says of texts."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rouge_score.rouge_scorer import RougeScorer
from safetensors.torch import save_file

from tundish.operators.model.decoding import Decoding
from tundish.operators.model.family import Model
from tundish.operators.model.init import initialise
from tundish.operators.model.shape import Shape
from tundish.operators.text import tokenizer
from tundish.stages.finetune_files import prepared
from tundish.stages.finetune_runs import tune
from tundish.stages.finetune_task import TuneTask

WORDS = ("heron", "crane", "water", "stone", "night", "river", "feather", "wind", "moon", "reed")
KIN: dict[str, dict[str, Any]] = {
    "pair": {"stack": "pair", "decoder": 1, "positions": "buckets", "rms": True, "scaled": False, "gated": True},
    "decoder": {"stack": "decoder", "positions": "learned", "gated": False, "bias": True},
}
ORACLE = RougeScorer(["rouge1", "rouge2", "rougeL"], use_stemmer=True)


def sentences(count: int = 300) -> list[str]:
    draw = np.random.default_rng(5)
    return [" ".join(draw.choice(WORDS, 8)) + "." for _ in range(count)]


def folder_of(to: Path, body: bytes, length: int = 48, **more: Any) -> str:
    pieces = tokenizer.load(body)
    sizes = {"width": 48, "layers": 1, "heads": 4, "ff": 96, "length": length}
    plain = {"embedding_norm": False, "first_norm": True, "transform": False, "head_bias": False}
    shape = Shape(vocabulary=pieces.size + 2, **(sizes | plain | more))  # a table is padded
    with torch.device("meta"):
        fresh = Model(shape)
    initialise(fresh, shape, seed=1)
    to.mkdir(parents=True, exist_ok=True)
    save_file({name: each.contiguous() for name, each in fresh.state_dict().items()}, to / "model.safetensors")
    (to / "config.json").write_text(json.dumps({"shape": asdict(shape), "specials": dict(pieces.specials)}))
    (to / pieces.file).write_bytes(body)
    return str(to)


def written(path: Path, made: list[dict[str, Any]]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in made))
    return str(path)


def turned(count: int, seed: int = 2) -> list[dict[str, Any]]:
    """Three words, and the same from the last to the first."""
    draw, found = np.random.default_rng(seed), []
    for _ in range(count):
        words = draw.choice(WORDS, 3).tolist()
        found.append({"text": " ".join(words), "target": " ".join(words[::-1])})
    return found


def task_of(model: str, to: Path, rows: list[dict[str, Any]], **more: Any) -> TuneTask:
    to.mkdir(parents=True, exist_ok=True)
    file = written(to / "rows.jsonl", rows)
    given = {"seeds": (1,), "epochs": 1, "scratch": False, "lr": 5e-3, "dropout": 0.0, "batch": 10}
    given |= {"writing": Decoding(longest=12)}
    return prepared(model, "write", {"train": file, "dev": file, "test": file}, str(to / "out"), **(given | more))[0]


def made(task: TuneTask) -> dict[str, Any]:
    tune(task, 0, 1, lambda line: None)
    return json.loads((Path(task.out) / "result.json").read_text())


def theirs(references: list[list[str]], guesses: list[str]) -> dict[str, float]:
    """Means of rouge-score's F1, of several references the best."""
    each = [ORACLE.score_multi(truth, guess) for truth, guess in zip(references, guesses, strict=True)]
    names = {"rouge_1": "rouge1", "rouge_2": "rouge2", "rouge_l": "rougeL"}
    return {ours: float(np.mean([one[name].fmeasure for one in each])) for ours, name in names.items()}
