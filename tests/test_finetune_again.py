"""A folder that a fine-tuning went to before: the same task goes on, another leaves it as it is, changes are told."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from tests import tuned_folders as toys
from tests import writers
from tundish.pipeline.cli import cli
from tundish.stages.finetune_again import ASKED
from tundish.stages.finetune_files import prepared


@pytest.fixture
def model(tmp_path: Path) -> str:
    return writers.folder_of(tmp_path / "model", toys.words("bert").to_str().encode(), types=2)


def texts(path: Path, seed: int = 1, names: tuple[str, ...] = ("glad", "sad"), count: int = 60) -> str:
    draw, rows = np.random.default_rng(seed), []
    for at in range(count):
        words = " ".join(f"w{word}" for word in draw.integers(5, 97, 8))
        rows.append({"text": words, "label": names[at % len(names)], "other": names[at % 3 % 2], "value": at % 7})
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def laid(model: str, file: str, out: Path, kind: str = "classify", **more: Any) -> tuple[Any, list[str]]:
    """The task, and what is said of the last time."""
    task, report = prepared(model, kind, {"train": file}, str(out), guarded=True, **({"lr": 0.01} | more))
    return task, [each for each in report["told"] if each.startswith("otherwise")]


def ended(out: Path) -> dict[str, bytes]:
    """As if its first run had ended; everything that lies there."""
    (out / "config.json").write_text(json.dumps({"kind": "tuned"}))
    return {path.name: path.read_bytes() for path in sorted(out.iterdir())}


def test_another_task_changes_nothing_in_a_folder(model: str, tmp_path: Path) -> None:
    out, train = tmp_path / "out", texts(tmp_path / "train.jsonl")
    laid(model, train, out)
    before = ended(out)
    for words, kind, file, more in (
        (r"classify \(glad, sad\), not regress; give another --out", "regress", train, {}),
        (r"not classify \(glad, mad, sad\)", "classify", texts(tmp_path / "b.jsonl", 1, ("glad", "sad", "mad")), {}),
        (r"learnt other texts \(train.jsonl\)", "classify", texts(tmp_path / "c.jsonl", 2), {}),
        ("learnt the column 'label', not 'other'", "classify", train, {"columns": {"label": "other"}}),
    ):
        with pytest.raises(ValueError, match=words):
            laid(model, file, out, kind, **more)
        assert {path.name: path.read_bytes() for path in sorted(out.iterdir())} == before
    prepared(model, "regress", {"train": train}, str(out))  # of a recipe, whose folders are its own


def test_other_true_answers_are_said(model: str, tmp_path: Path) -> None:
    asked = {"context": "The heron stood in the river.", "question": "Where?", "answers": ["the river"]}
    rows = [asked | {"context": f"{asked['context']} {at}", "question": f"{at}?"} for at in range(20)]
    files = {name: str(tmp_path / f"{name}.jsonl") for name in ("train", "dev", "test")}
    for name, some in zip(files, (rows[:12], rows[12:16], rows[16:]), strict=True):
        Path(files[name]).write_text("".join(json.dumps(row) + "\n" for row in some))
    first, _ = prepared(model, "answer", files, str(tmp_path / "out"), guarded=True)
    more = [row | {"answers": [*row["answers"], "a river"]} for row in rows[16:]]
    Path(files["test"]).write_text("".join(json.dumps(row) + "\n" for row in more))
    second, report = prepared(model, "answer", files, str(tmp_path / "out"), guarded=True)
    assert first.key != second.key
    assert "other true answers in test (runs are made anew" in report["told"][-1]


def test_a_folder_without_weights_is_free(model: str, tmp_path: Path) -> None:
    laid(model, texts(tmp_path / "a.jsonl"), tmp_path / "out")
    laid(model, texts(tmp_path / "b.jsonl", 2), tmp_path / "out", "regress")


def test_models_of_others_stay(model: str, tmp_path: Path) -> None:
    train = texts(tmp_path / "train.jsonl")
    with pytest.raises(ValueError, match="is the folder of the model that is to be tuned"):
        laid(model, train, tmp_path / "out" / ".." / "model")
    other = writers.folder_of(tmp_path / "other", toys.words("bert").to_str().encode(), types=2)
    with pytest.raises(ValueError, match="holds a model that no fine-tuning left there; give another --out"):
        laid(model, train, Path(other))
    (tmp_path / "small").mkdir()
    ended(tmp_path / "small")  # such as `tundish compress` leaves: no parts beside it
    with pytest.raises(ValueError, match="no fine-tuning left there"):
        laid(model, train, tmp_path / "small")


def test_the_same_task_goes_on_and_what_is_otherwise_is_said(model: str, tmp_path: Path) -> None:
    out, train = tmp_path / "out", texts(tmp_path / "train.jsonl")
    first, said = laid(model, train, out)
    assert said == []
    ended(out)
    again, said = laid(model, train, out)
    assert (again.key, said) == (first.key, [])
    more, [said] = laid(model, train, out, seeds=(1, 2))
    assert "seeds was [1, 2, 3, 4, 5] and is [1, 2] (sealed runs are kept)" in said
    assert more.key == first.key
    other, [said] = laid(model, train, out, seeds=(1, 2), lr=0.02, epochs=7)
    assert said.endswith(
        "epochs was 5 and is 7; lr was 0.01 and is 0.02 (runs are made anew, and the sealed ones stay)"
    )
    assert other.key != first.key
    _, [said] = laid(model, train, out, seeds=(1, 2), lr=0.02, epochs=7, length=20)
    assert "length was 48 and is 20 (runs are made anew" in said
    assert "rows" not in said


def test_rows_that_were_mended_are_the_same_task(model: str, tmp_path: Path) -> None:
    out, train = tmp_path / "out", texts(tmp_path / "train.jsonl")
    laid(model, train, out)
    ended(out)
    lines = Path(train).read_text().split("\n")
    Path(train).write_text("\n".join([lines[0].replace('"glad"', '"sad"'), *lines[1:50]]) + "\n")
    task, [said] = laid(model, train, out)
    assert "other rows in dev, test, train (runs are made anew" in said
    assert json.loads((out / ASKED).read_text())["rows"]["train"] == task.digests["train"]


def test_the_command_keeps_the_weights_that_lie_there(model: str, tmp_path: Path) -> None:
    train, out = texts(tmp_path / "train.jsonl"), tmp_path / "out"
    words = ["finetune", model, "--train", train, "--out", str(out), "--epochs", "1", "--no-fresh"]
    CliRunner().invoke(cli, [*words, "--seeds", "1"], catch_exceptions=False)
    weights = (out / "model.safetensors").read_bytes()
    refused = CliRunner().invoke(cli, [*words, "--task", "regress"])
    assert "give another --out" in str(refused.exception)
    done = CliRunner().invoke(cli, [*words, "--seeds", "2"], catch_exceptions=False)
    assert "seeds was [1] and is [1, 2] (sealed runs are kept)" in done.output
    assert (out / "model.safetensors").read_bytes() == weights
    assert len(list((out / "runs").glob("*.json"))) == 2
