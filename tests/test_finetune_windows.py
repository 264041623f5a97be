"""Tags and answers are learnt from windows, and told by rows of the files: samples, counts, the curve, the page."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests import writers
from tests.test_finetune_runs import made
from tundish.operators.text import vocabulary
from tundish.pipeline.cli_finetune import besides
from tundish.pipeline.tuned_page import page
from tundish.pipeline.tuned_training import own_steps
from tundish.stages.examples_tokens import load
from tundish.stages.finetune_files import prepared
from tundish.stages.finetune_rows import rows_of, windows_of
from tundish.stages.finetune_runs import found
from tundish.stages.finetune_task import Run


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    body = vocabulary.train(writers.sentences(), size=288)
    return writers.folder_of(tmp_path_factory.mktemp("model"), body, stack="encoder")


def wrote(place: Path, many: int, seed: int, words: int = 8) -> str:
    """Sentences of which every third is several windows long."""
    draw, lines = np.random.default_rng(seed), []
    for number in range(many):
        for _ in range(words * 3 if number % 3 == 0 else 2):
            word = str(draw.choice(["heron", "crane", "stone", "water"]))
            lines.append(f"{word}{number} {'B-X' if word == 'heron' else 'O'}")
        lines.append("")
    place.write_text("\n".join(lines) + "\n")
    return str(place)


def task_of(model: str, folder: Path, **more: Any) -> Any:
    files = {name: wrote(folder / f"{name}.conll", n, n) for name, n in (("train", 30), ("dev", 9), ("test", 12))}
    given = {"seeds": (1,), "epochs": 1, "scratch": False, "length": 24, "sizes": (4, 11)} | more
    return prepared(model, "tag", files, str(folder / "out"), guarded=True, **given)


def test_sizes_count_rows_of_the_file_and_take_all_their_windows(model: str, tmp_path: Path) -> None:
    task, _ = task_of(model, tmp_path)
    table, _ = load(task.parts["train"])
    order = list(dict.fromkeys(table["row"].to_pylist()))  # as samples are taken
    for size, windows in zip((4, 11), task.sizes, strict=True):
        assert {*table["row"].to_pylist()[:windows]} == {*order[:size]}
        assert table["row"].to_pylist()[windows] == order[size], "the next window is of the next row"
    assert task.sizes[1] > 11
    for size in range(1, 31):
        assert windows_of(table, size) == sum(row in order[:size] for row in table["row"].to_pylist())
    asked = json.loads((tmp_path / "out/asked.json").read_text())
    assert asked["sizes"] == [4, 11]
    _, report = task_of(model, tmp_path)
    assert not any("otherwise" in each for each in report["told"])
    _, report = task_of(model, tmp_path, sizes=(4,))
    assert any("sizes was [4, 11] and is [4]" in each for each in report["told"])


def test_what_is_told_counts_rows_and_windows_apart(model: str, tmp_path: Path) -> None:
    task, _ = task_of(model, tmp_path)
    result = made(task)
    windows = {name: len(rows_of(uri, task.specials, 48)) for name, uri in task.parts.items()}
    assert result["examples"] == {"train": 30, "dev": 9, "test": 12}
    assert result["windows"] == windows
    assert [(each["size"], each["windows"]) for each in result["curve"]["pretrained"]] == [
        (4, task.sizes[0]),
        (11, task.sizes[1]),
        (30, windows["train"]),
    ]
    assert own_steps(result) == found(task, Run(True, 1))[0]["steps"] == -(-windows["train"] // 16)
    line = next(each for each in besides(result) if "by examples" in each)
    assert f"of 4 ({task.sizes[0]} windows), " in line
    (tmp_path / "out/result.json").write_text(json.dumps(result))
    text = Path(page(str(tmp_path / "out"))).read_text()
    assert f"30 examples to learn from ({windows['train']} windows), 12 of test ({windows['test']} windows);" in text


def test_rows_that_are_a_window_each_are_told_as_they_were(model: str, tmp_path: Path) -> None:
    files = {name: wrote(tmp_path / f"{name}.conll", 12, 1, words=1) for name in ("train", "dev", "test")}
    given = {"seeds": (1,), "epochs": 1, "scratch": False, "length": 40, "sizes": (5,)}
    task, _ = prepared(model, "tag", files, str(tmp_path / "out"), **given)
    assert task.sizes == (5,)
    result = made(task)
    assert "windows" not in result
    assert [each["size"] for each in result["curve"]["pretrained"]] == [5, 12]
    assert not any("windows" in each for each in result["curve"]["pretrained"])
