"""A fine-tuning is probed: which rows are drawn, what the steps on them stand for, what it refuses."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.writers import KIN, folder_of
from tundish.operators.model.decoding import Decoding
from tundish.operators.text import vocabulary
from tundish.pipeline import probe_tuned
from tundish.stages import finetune_one, finetune_probe
from tundish.stages.examples_tokens import load as tokens_in
from tundish.stages.finetune_compute import once
from tundish.stages.finetune_files import prepared
from tundish.stages.finetune_probe import evenly, heaviest, probe
from tundish.stages.finetune_rows import Rows, sizes_of
from tundish.stages.finetune_runs import tune
from tundish.stages.finetune_task import Aids, TuneTask
from tundish.stages.hub import weights_of

WORDS = ("heron", "crane", "water", "stone", "night", "river", "feather", "wind", "moon", "reed")
PIECES = vocabulary.train([" ".join(np.random.default_rng(n).choice(WORDS, 8)) for n in range(200)], size=288)
PLAIN: dict[str, Any] = {"seeds": (1,), "epochs": 1, "batch": 8, "scratch": False}


@pytest.fixture(autouse=True)
def briefly(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TUNDISH_TORCH_THREADS", "1")
    threads = torch.get_num_threads()
    yield
    assert torch.get_num_threads() == threads, "the probe gives them back"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return folder_of(tmp_path_factory.mktemp("encoder") / "model", PIECES, types=2)


def examples(kind: str, count: int = 120) -> list[dict[str, Any]]:
    """Texts of three to eighteen words, long ones among the last."""
    draw, made = np.random.default_rng(4), []
    for number in range(count):
        words = draw.choice(WORDS, 3 + (16 * number) // count).tolist()
        text = " ".join(words)
        row: dict[str, Any] = {"text": f"{text} {number}"}
        row |= {"classify": {"label": "ab"[number % 2]}, "multilabel": {"labels": words[: number % 3]}}.get(kind, {})
        row |= {"regress": {"value": number / 7}, "write": {"target": words[0]}, "embed": {"second": text}}.get(
            kind, {}
        )
        if kind == "tag":
            row = {"words": [*words, str(number)], "tags": ["B-x", *["O"] * len(words)]}
        if kind == "answer":
            row = {"context": row["text"], "question": f"which {number}", "answers": [words[1]], "id": f"q{number}"}
            row |= {"start": [len(words[0]) + 1]}
        made.append(row)
    return made


def file_of(folder: Path, kind: str, count: int = 120) -> str:
    (folder / f"{kind}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in examples(kind, count)))
    return str(folder / f"{kind}.jsonl")


# -- what is drawn


def test_rows_are_drawn_evenly_over_their_sizes() -> None:
    """Of each of as many stretches of equal numbers of rows, in the order of sizes, the one in the middle."""
    sizes = np.random.default_rng(1).lognormal(3, 1, 1000)
    for count in (1, 7, 100, 1000, 5000):
        at = evenly(sizes, count)
        assert len(set(at.tolist())) == len(at) == min(count, 1000)
        assert at.tolist() == sorted(at.tolist())
        ranks = np.sort(np.argsort(np.argsort(sizes))[at])
        edges = np.linspace(0, 1000, len(at) + 1)
        assert all(low <= rank < high for rank, low, high in zip(ranks, edges, edges[1:], strict=False))
    assert sizes[evenly(sizes, 100)].mean() == pytest.approx(sizes.mean(), rel=0.03)


def test_the_heaviest_batch_is_that_of_all_that_a_run_draws() -> None:
    sizes = np.random.default_rng(2).integers(3, 60, 50)
    order, found = np.random.default_rng(1), []
    for _ in range(3):
        rows = order.permutation(50)
        found += [rows[at : at + 8] for at in range(0, 50, 8)]
    best = max(found, key=lambda rows: int(sizes[rows].sum()))
    assert sorted(heaviest(sizes, 8, 3 * 7)) == sorted(best)
    assert sorted(heaviest(sizes, 64, 1)) == [*range(50)], "a batch of all there are"


# -- of every kind


@pytest.mark.parametrize("kind", ["classify", "multilabel", "regress", "tag", "answer", "embed", "write"])
def test_all_rows_are_reckoned_as_the_stage_lays_them(tmp_path: Path, model: str, kind: str, monkeypatch: Any) -> None:
    """Looked at whole and by a sample, against the parts that `prepared` writes."""
    if kind == "write":
        model = folder_of(tmp_path / "model", PIECES, **KIN["pair"])
    more = PLAIN | ({"writing": Decoding(longest=4)} if kind == "write" else {})
    given = {"train": file_of(tmp_path, kind)}
    task, _ = prepared(model, kind, given, str(tmp_path / "out"), **more)
    shape, _ = weights_of(model)
    tables = {name: Rows(kind, (), tokens_in(uri)[0], task.specials) for name, uri in task.parts.items()}
    train = tables["train"]
    whole = probe(shape, PIECES, kind, given, **more)
    assert whole.rows == len(train)
    assert whole.pretrained.epoch.whole == pytest.approx(once(task, shape, train))
    assert whole.pretrained.epoch.of == -(-len(train) // 8)
    assert set(whole.pretrained.asked) == {"dev", "test"}
    for name, costs in whole.pretrained.asked.items():
        size = len(tables[name]) if kind == "write" else once(task, shape, tables[name])
        assert costs.whole == pytest.approx(size)
        assert costs.sizes.sum() == pytest.approx(costs.whole), "all batches were asked"
        assert (costs.wall > 0).all()
        assert len(costs.sizes) == costs.of
    monkeypatch.setattr(finetune_probe, "ROWS", 24)
    monkeypatch.setattr(finetune_probe, "STEPS", 2)
    monkeypatch.setattr(finetune_probe, "BATCHES", 1)
    few = probe(shape, PIECES, kind, given, **more)
    assert few.rows == pytest.approx(whole.rows, abs=1)
    assert few.pretrained.epoch.whole == pytest.approx(whole.pretrained.epoch.whole, rel=0.06)
    assert few.pretrained.epoch.sizes.sum() < whole.pretrained.epoch.whole
    assert few.parts == pytest.approx(whole.parts, rel=0.1)
    assert few.weights == whole.weights == sum(each.nbytes for each in _head(task, shape, train).values())


def _head(task: TuneTask, shape: Any, train: Rows) -> dict[str, torch.Tensor]:
    named = replace(train, names=("a", "b")) if task.kind == "classify" else train
    named = replace(train, names=WORDS) if task.kind == "multilabel" else named
    named = replace(train, names=("O", "B-x")) if task.kind == "tag" else named
    return finetune_one.begun_of(task, task.runs[0], shape, None, named).state_dict()


def test_steps_are_weighed_by_the_rows_that_were_learnt_from(model: str, tmp_path: Path, monkeypatch: Any) -> None:
    learnt: list[Rows] = []
    plain = finetune_one.step_of

    def noted(task: TuneTask, *given: Any) -> Any:
        learnt.append(finetune_probe.taken(given[2], given[3]))
        return plain(task, *given)

    shape, _ = weights_of(model)
    monkeypatch.setattr(finetune_one, "step_of", noted)
    given = {"train": file_of(tmp_path, "classify")}
    told = probe(shape, PIECES, "classify", given, **PLAIN | {"epochs": 20})
    heavy, first, *timed = learnt  # that of the most tokens, and the one that also makes the model, are not timed
    tokens = [int(sizes_of(rows).sum()) for rows in (heavy, first, *timed)]
    assert tokens[0] >= max(tokens[1:])
    assert len(told.pretrained.epoch.wall) == len(timed)
    assert told.pretrained.epoch.sizes == pytest.approx([once(told.task, shape, rows) for rows in timed])


@pytest.mark.parametrize(
    ("aids", "apart"),
    [(Aids(lora=2), True), (Aids(mixout=0.1, unfreeze=1), True), (Aids(rdrop=1.0, patience=1), False)],
)
def test_starts_that_learn_otherwise_are_measured_apart(model: str, tmp_path: Path, aids: Aids, apart: bool) -> None:
    shape, _ = weights_of(model)
    told = probe(shape, PIECES, "classify", {"train": file_of(tmp_path, "classify", 40)}, **PLAIN | {"scratch": True},
                 aids=aids)  # fmt: skip
    assert (told.fresh is not told.pretrained) == apart
    assert ("each start" in probe_tuned.forecast_of(told, 1, 0.0).said) == apart
    assert told.task.aids == aids


def test_what_the_stage_refuses_the_probe_refuses(model: str, tmp_path: Path) -> None:
    shape, _ = weights_of(model)
    given = {"train": file_of(tmp_path, "classify", 40)}
    with pytest.raises(ValueError, match="there are 28 examples to train on, and not 50"):
        probe(shape, PIECES, "classify", given, **PLAIN, sizes=(50,))
    with pytest.raises(ValueError, match="length is 99, and the model reads 48"):
        probe(shape, PIECES, "classify", given, **PLAIN, length=99)
    with pytest.raises(ValueError, match="there is no file"):
        probe(shape, PIECES, "classify", {"train": str(tmp_path / "gone.tsv")}, **PLAIN)


def test_what_lies_in_a_folder_is_as_large_as_was_said(model: str, tmp_path: Path) -> None:
    given = {"train": file_of(tmp_path, "classify")}
    shape, _ = weights_of(model)
    told = probe_tuned.forecast_of(probe(shape, PIECES, "classify", given, **PLAIN), 1, 0.0)
    task, _ = prepared(model, "classify", given, str(tmp_path / "out"), **PLAIN)
    tune(task, 0, 1, lambda line: None)
    assert told.size.middle - probe_tuned.FEW == pytest.approx(_large(tmp_path / "out"), rel=0.05)


def _large(folder: Path) -> int:
    """Bytes of weights, parts and runs; what is small beside them is reckoned by a constant."""
    kinds = ("*.arrow", "*.safetensors", "runs/*")
    return sum(path.stat().st_size for kind in kinds for path in folder.glob(kind))
