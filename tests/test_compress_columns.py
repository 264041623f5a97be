"""A compressed folder knows which columns its model learnt, and whether pairs; files are read as for fine-tuning."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from tests.test_compress import GIVEN, WORDS, folder_of, labelled
from tundish.pipeline.cli import cli
from tundish.pipeline.export import export
from tundish.stages.compress_read import reader
from tundish.stages.compress_run import run
from tundish.stages.finetune_files import prepared
from tundish.stages.finetune_runs import tune
from tundish.stages.predict import predictions
from tundish.stages.predict_columns import Learnt

torch.set_num_threads(1)
COLUMNS = {"text": "sentence1", "second": "sentence2", "label": "gold"}
STEPS = ("layers", "layers+int8", "onnx")


def pairs(path: Path, count: int, seed: int, head: str = "sentence1\tsentence2\tgold") -> str:
    draw, lines = np.random.default_rng(seed), [head]
    for number in range(count):
        one, other = (" ".join(WORDS[at] for at in draw.integers(0, 40, 4)) for _ in range(2))
        lines.append(f"{one}\t{other}\t{'no' if number % 2 else 'yes'}")
    path.write_text("\n".join(lines) + "\n")
    return str(path)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of pairs, and what was made of it."""
    folder = tmp_path_factory.mktemp("pairs")
    files = {"train": pairs(folder / "train.tsv", 60, 1), "test": pairs(folder / "test.tsv", 20, 2)}
    model = folder_of(folder / "encoder")
    how: dict[str, Any] = {"seeds": (1,), "epochs": 1, "lr": 1e-3, "scratch": False, "columns": COLUMNS}
    task, _ = prepared(model, "classify", files, str(folder / "tuned"), **how)
    tune(task, 0, 1, lambda line: None)
    more = GIVEN | {"seeds": (1,), "columns": COLUMNS}
    run(str(folder / "tuned"), files, str(folder / "made"), STEPS, {"layers": 1}, **more)
    return folder


@pytest.mark.parametrize("step", STEPS)
def test_a_compressed_folder_is_asked_by_the_columns_of_its_model(place: Path, step: str) -> None:
    it = reader(str(place / "made" / step))
    assert it.learnt == reader(str(place / "tuned")).learnt == Learnt(COLUMNS, True)
    lines = list(predictions(it, str(place / "test.tsv")))
    named = list(predictions(it, str(place / "test.tsv"), COLUMNS))
    assert len(lines) == 20
    assert lines == named
    (place / "single.tsv").write_text("sentence\tlabel\nw1 w2\tyes\n")
    with pytest.raises(ValueError, match="was fine-tuned on pairs, of the columns 'sentence1' and 'sentence2'"):
        list(predictions(it, str(place / "single.tsv"), {"text": "sentence"}))


def test_an_export_of_it_still_knows_that_it_learnt_pairs(place: Path, tmp_path: Path) -> None:
    export(str(place / "made" / "layers"), str(tmp_path / "theirs"))
    assert json.loads((tmp_path / "theirs" / "config.json").read_text())["tundish"]["pair"] is True
    assert reader(str(tmp_path / "theirs")).learnt == Learnt({}, True)


def test_what_is_compressed_again_knows_it_too(place: Path, tmp_path: Path) -> None:
    """And the columns it learnt last come before those of the first model."""
    head = "premise\thypothesis\tgold"
    files = {"train": pairs(tmp_path / "t.tsv", 40, 3, head), "test": pairs(tmp_path / "x.tsv", 20, 4, head)}
    columns = {"text": "premise", "second": "hypothesis", "label": "gold"}
    more = GIVEN | {"columns": columns}
    run(str(place / "made" / "layers"), files, str(tmp_path / "made"), ["int8"], {}, **more)
    it = reader(str(tmp_path / "made" / "int8"))
    assert it.learnt == Learnt(columns, True)
    assert len(list(predictions(it, files["test"]))) == 20


def test_pairs_and_single_texts_are_not_mixed_up(place: Path, tmp_path: Path) -> None:
    files = {"train": labelled(tmp_path / "t.tsv", 40, 3), "test": labelled(tmp_path / "x.tsv", 20, 4)}
    for uri in files.values():
        body = Path(uri).read_text().replace("\thigh", "\tyes").replace("\tlow", "\tno")
        Path(uri).write_text(body)
    with pytest.raises(ValueError, match=r"the files are of single texts, and the model learnt pairs; .*second="):
        run(str(place / "tuned"), files, str(tmp_path / "made"), ["int8"], {}, **GIVEN)


def test_files_are_laid_out_as_is_said(place: Path, tmp_path: Path) -> None:
    """As fine-tuning reads them: another encoding, other signs between cells, no names of columns."""
    paths = {}
    for name, seed in (("train", 5), ("test", 6)):
        rows = Path(pairs(tmp_path / "rows.tsv", 30, seed)).read_text().split("\n")[1:-1]
        body = "\n".join(row.replace("w7", "é").replace("\t", ";") for row in rows) + "\n"
        paths[name] = tmp_path / f"{name}.csv"
        paths[name].write_bytes(body.encode("cp1252"))
    words = ["compress", str(place / "tuned"), "--out", str(tmp_path / "out"), "--steps", "int8", "--json"]
    words += [word for name, path in paths.items() for word in (f"--{name}", str(path))]
    words += ["--column", "text=0", "--column", "second=1", "--column", "label=2"]
    words += ["--encoding", "cp1252", "--delimiter", ";", "--no-header"]
    told = CliRunner().invoke(cli, words, catch_exceptions=False)
    assert json.loads(told.stdout)["examples"]["test"] == 30
    assert reader(str(tmp_path / "out" / "int8")).learnt == Learnt({"text": 0, "second": 1, "label": 2}, True)
