"""Predictions of files: what the sealed run said of the same rows, for every kind; bad folders are named."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from tests import toys
from tundish.operators.model import calibration
from tundish.operators.text import answers as squad
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
    parts = ("train", "test", "dev") if kind == "classify" else ("train", "test")  # enough to fit a temperature on
    files = {name: written(folder / f"{name}.jsonl", rows(kind, 40, at)) for at, name in enumerate(parts)}
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
        lone = [{"text": row["text"]} for row in rows(kind, 40, 1)]
        alone = list(predictions(it, written(tmp_path / "alone.jsonl", lone)))
        np.testing.assert_allclose([one["vector"] for one in alone], said[:, 0], atol=1e-4)
        assert "second_vector" not in alone[0]


def asked(folder: Path, name: str, seed: int) -> str:
    """A file in SQuAD's form; every third question has no answer."""
    paragraphs = []
    for number, row in enumerate(rows("answer", 40, seed)):
        at, none = row["context"].index(row["answers"][0]), number % 3 == 0
        answers = [] if none else [{"text": row["answers"][0], "answer_start": at}]
        one = {"id": f"{name}/{number}", "question": row["question"], "answers": answers, "is_impossible": none}
        paragraphs.append({"context": row["context"] * 3, "qas": [one]})
    (folder / f"{name}.json").write_text(json.dumps({"data": [{"title": "t", "paragraphs": paragraphs}]}))
    return str(folder / f"{name}.json")


def margins(rows: Any, logits: np.ndarray) -> list[float]:
    """Of each question by the script's words: the least score of [CLS] over its windows, less that of the best span."""
    null, best = dict[int, float](), dict[int, float]()
    ends = np.cumsum([len(ids) + 3 for ids in rows.table["tokens"].to_pylist()])
    for number, end in enumerate(ends.tolist()):
        mine = logits[end - len(rows.table["tokens"][number]) - 3 : end]
        first, key = int(rows.second[number]) + 2, rows.table["row"][number].as_py()
        spans = [
            float(mine[a, 0] + mine[b, 1])
            for a in range(first, len(mine) - 1)
            for b in range(a, min(a + 30, len(mine) - 1))
        ]
        null[key] = min(null.get(key, np.inf), float(mine[0].sum()))
        best[key] = max(best.get(key, -np.inf), *spans)
    return [null[key] - best[key] for key in null]


def test_answers_have_the_files_ids_and_a_margin_that_scores_were_told_by(model: str, tmp_path: Path) -> None:
    files = {name: asked(tmp_path, name, seed) for seed, name in enumerate(("train", "test"))}
    task, _ = prepared(model, "answer", files, str(tmp_path / "out"), seeds=(1,), epochs=2, scratch=False, length=48)
    tune(task, 0, 1, lambda line: None)
    told, said = found(task, task.runs[0])
    lines = list(predictions(predictor(task.out), files["test"], size=7))
    assert [one["id"] for one in lines] == [f"test/{number}" for number in range(40)]
    parts = read(task, 128)["test"]
    assert parts.table.num_rows > 40, "contexts are read in windows"
    np.testing.assert_allclose([one["margin"] for one in lines], margins(parts, said["test"]["logits"]), atol=1e-4)
    truth = [one["answers"] for one in task.truth["test"].values()]
    held = ["" if one["margin"] > 0 else one["answer"] for one in lines]
    assert "" in held
    scores = squad.answered(truth, held)
    assert told["scores"]["test"]["f1"] == pytest.approx(scores.f1.mean())
    assert told["scores"]["test"]["exact"] == pytest.approx(scores.exact.mean())


def test_what_is_known_of_nothing_is_null_and_no_infinity(model: str, tmp_path: Path) -> None:
    """A question without a single piece of context that could be an answer."""
    task = tuned(model, tmp_path, "answer")
    blank = written(tmp_path / "blank.jsonl", [{"context": "\u200b", "question": "Which?"}])
    [one] = predictions(predictor(task.out), blank)
    assert json.loads(json.dumps(one, allow_nan=False)) == one
    if not one["answer"]:
        assert (one["start"], one["margin"]) == (-1, None)


def test_files_in_other_encodings_and_cells_are_read(model: str, tmp_path: Path) -> None:
    made = rows("classify", 40, 0)
    lines = ["sentence;label", *(f"{row['text']} – Café “{at}”;{row['label']}" for at, row in enumerate(made))]
    (tmp_path / "a.csv").write_bytes("\n".join(lines).encode("cp1252"))
    words = ["finetune", model, "--train", str(tmp_path / "a.csv"), "--column", "text=sentence", "--seeds", "1"]
    words += ["--epochs", "1", "--no-fresh", "--slice", "label", "--out", str(tmp_path / "out")]
    said = CliRunner().invoke(cli, words)
    assert "--delimiter" in str(said.exception)
    said = CliRunner().invoke(cli, [*words, "--delimiter", ";"])
    assert "--encoding cp1252" in str(said.exception)
    plain = ["--delimiter", ";", "--encoding", "cp1252"]
    CliRunner().invoke(cli, [*words, *plain], catch_exceptions=False)
    result = json.loads((tmp_path / "out" / "result.json").read_text())
    assert any("Café “" in (one.get("text") or "") for one in result["hardest"]), "texts beside are read alike"
    asked = ["predict", str(tmp_path / "out"), str(tmp_path / "a.csv")]
    said = CliRunner().invoke(cli, [*asked, *plain], catch_exceptions=False).output
    (tmp_path / "b.csv").write_bytes("\n".join(lines).encode())
    again = CliRunner().invoke(cli, [*asked[:2], str(tmp_path / "b.csv"), *plain[:2]], catch_exceptions=False).output
    assert said == again.replace("b.csv", "a.csv")
    assert len(said.strip().split("\n")) == 40


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


def test_a_device_that_is_not_there_is_named(model: str, tmp_path: Path) -> None:
    task = tuned(model, tmp_path, "classify")
    with pytest.raises(ValueError, match=r"there is no device 'cuda:77' here; give one of cpu"):
        predictor(task.out, device="cuda:77")
    assert predictor(task.out, device="cpu").device.type == "cpu"


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
