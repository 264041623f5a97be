"""Predictions of files: what the sealed run said of the same rows, for every kind; bad folders are named."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from tests import toys
from tundish.operators.model import calibration
from tundish.pipeline.cli import cli
from tundish.pipeline.export import export
from tundish.stages.finetune_files import prepared
from tundish.stages.finetune_runs import found, read, tune
from tundish.stages.finetune_task import TuneTask
from tundish.stages.predict import predictions, predictor

WORDS = ("heron", "crane", "water", "stone", "night", "river", "feather", "wind")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    to = tmp_path_factory.mktemp("predicted") / "model"
    export(toys.trained_root(tmp_path_factory.getbasetemp()), str(to))
    return str(to)


def rows(kind: str, count: int, seed: int) -> list[dict[str, Any]]:
    draw, made = np.random.default_rng(seed), []
    for number in range(count):
        words = draw.choice(WORDS, 5).tolist()
        text = " ".join([*words, str(number)])
        row: dict[str, Any] = {"text": text}
        if kind == "classify":
            row |= {"label": "wet" if "river" in words else "dry", "second": "A second text."}
        elif kind == "multilabel":
            row["labels"] = [word for word in ("river", "stone") if word in words] or ["none"]
        elif kind == "regress":
            row["value"] = float(words.count("heron"))
        elif kind == "tag":
            row = {"words": words, "tags": ["B-bird" if word in ("heron", "crane") else "O" for word in words]}
        elif kind == "answer":
            row = {"context": text, "question": f"Which word, {number}?", "answers": [words[2]]}
        else:
            row["second"] = " ".join(words[::-1])
        made.append(row)
    return made


def written(path: Path, made: list[dict[str, Any]]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in made))
    return str(path)


def tuned(model: str, folder: Path, kind: str) -> TuneTask:
    files = {name: written(folder / f"{name}.jsonl", rows(kind, 40, at)) for at, name in enumerate(("train", "test"))}
    given = {"seeds": (1,), "epochs": 1, "scratch": False, "length": 48, "lr": 1e-3}
    task, _ = prepared(model, kind, files, str(folder / "out"), **given)
    tune(task, 0, 1, lambda line: None)
    return task


def unlabelled(folder: Path, kind: str) -> str:
    gone = {"label", "labels", "value", "tags", "answers"}
    return written(folder / "new.jsonl", [{k: v for k, v in r.items() if k not in gone} for r in rows(kind, 40, 1)])


@pytest.mark.parametrize("kind", ["classify", "multilabel", "regress", "tag", "answer", "embed"])
def test_it_says_of_new_files_what_the_run_said_of_the_test(model: str, tmp_path: Path, kind: str) -> None:
    task = tuned(model, tmp_path, kind)
    said = found(task, task.runs[0])[1]["test"]["logits"].astype(np.float64)
    it = predictor(task.out, batch=7)
    told = list(predictions(it, unlabelled(tmp_path, kind), size=16))
    assert [(one["file"], one["row"]) for one in told] == [("new.jsonl", number + 1) for number in range(40)]
    if kind == "classify":
        assert it.heat != 1.0
        shares = calibration.softmax(said, it.heat)
        mine = [[one["probabilities"][name] for name in it.names] for one in told]
        np.testing.assert_allclose(mine, shares, atol=1e-4)
        assert all(one["probability"] == max(one["probabilities"].values()) for one in told)
    elif kind == "multilabel":
        mine = [[one["probabilities"][name] for name in it.names] for one in told]
        np.testing.assert_allclose(mine, calibration.sigmoid(said, it.heat), atol=1e-4)
        assert all(one["labels"] == [n for n, p in one["probabilities"].items() if p > 0.5] for one in told)
    elif kind == "regress":
        np.testing.assert_allclose([one["value"] for one in told], said.reshape(-1), atol=1e-4)
    elif kind == "tag":
        tags = [it.names[at] for at in said.argmax(1)]
        assert [tag for one in told for tag in one["tags"]] == tags
        assert all(len(one["tags"]) == len(one["words"]) for one in told)
    elif kind == "answer":
        contexts = [row["context"] for row in rows(kind, 40, 1)]
        for one, context in zip(told, contexts, strict=True):
            assert context[one["start"] : one["start"] + len(one["answer"])] == one["answer"] != ""
    else:
        np.testing.assert_allclose([one["vector"] for one in told], said[:, 0], atol=1e-4)
        np.testing.assert_allclose([one["second_vector"] for one in told], said[:, 1], atol=1e-4)


def test_the_command_writes_a_line_a_row(model: str, tmp_path: Path) -> None:
    task = tuned(model, tmp_path, "classify")
    new = unlabelled(tmp_path, "classify")
    to = tmp_path / "said.jsonl"
    done = CliRunner().invoke(cli, ["predict", task.out, new, "--to", str(to)], catch_exceptions=False)
    assert "40 rows" in done.output
    lines = CliRunner().invoke(cli, ["predict", task.out, new], catch_exceptions=False).output
    assert lines == to.read_text()
    raw = CliRunner().invoke(cli, ["predict", task.out, new, "--raw"], catch_exceptions=False).output
    assert [json.loads(line)["label"] for line in raw.splitlines()] == [
        json.loads(line)["label"] for line in lines.splitlines()
    ]
    assert raw != lines


def test_what_holds_no_fine_tuned_model_is_named(model: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="holds no fine-tuned model"):
        predictor(model)
    with pytest.raises(ValueError, match="holds no fine-tuned model"):
        predictor(str(tmp_path))
    task = tuned(model, tmp_path, "regress")
    bad = written(tmp_path / "bad.jsonl", [{"body": "no text here"}])
    with pytest.raises(ValueError, match="text"):
        list(predictions(predictor(task.out), bad))
    assert len(read(task, 128)["test"]) == 40


def test_a_text_is_read_as_far_as_it_was_learnt(model: str, tmp_path: Path) -> None:
    """What stands behind the pieces that training kept changes nothing, though the model could read it."""
    files = {
        name: written(tmp_path / f"{name}.jsonl", rows("classify", 40, at)) for at, name in enumerate(("train", "test"))
    }
    task, _ = prepared(model, "classify", files, str(tmp_path / "out"), seeds=(1,), epochs=1, scratch=False, length=12)
    tune(task, 0, 1, lambda line: None)
    begin = rows("classify", 1, 5)[0]["text"] * 9
    asked = [{"text": begin[:120]}, {"text": begin[:120] + " and then zebras " * 3}]
    said = list(predictions(predictor(task.out), written(tmp_path / "asked.jsonl", asked)))
    assert said[0]["probabilities"] == said[1]["probabilities"]
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    (tmp_path / "out" / "config.json").write_text(json.dumps(config | {"length": 0}))
    whole = list(predictions(predictor(task.out), written(tmp_path / "asked.jsonl", asked)))
    assert whole[0]["probabilities"] != whole[1]["probabilities"]
