"""Temperatures of compressed models: the model's own where nothing learns, and none fitted on what was learnt."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.test_compress import GIVEN, labelled
from tests.test_compress import place as place  # a fixture
from tests.test_compress_learnt import laid, rows
from tundish.operators.model import calibration
from tundish.pipeline.compressed_table import known_told
from tundish.stages.compress_learnt import learnt
from tundish.stages.compress_read import reader
from tundish.stages.compress_run import run
from tundish.stages.examples_tokens import load
from tundish.stages.predict import predictions

torch.set_num_threads(1)


def of_the_model(place: Path, part: str) -> list[str]:
    """Rows that the model has learnt (train), or that its temperature was fitted on (dev)."""
    every = rows(place / "train.tsv")
    return [every[row - 1] for row in load(str(place / "tuned" / f"{part}.arrow"))[0]["row"].to_pylist()]


def compressed(place: Path, out: Path, dev: list[str], steps: str) -> dict[str, Any]:
    """With a dev file of these rows."""
    files = {
        "train": labelled(out / "new.tsv", 60, 3),
        "dev": laid(out / "dev.tsv", dev),
        "test": str(place / "test.tsv"),
    }
    return run(str(place / "tuned"), files, str(out / "made"), steps.split(","), {}, **(GIVEN | {"seeds": (1,)}))


def fitted(folder: Path, path: Path, lines: list[str]) -> float:
    """The temperature that these rows alone would have, by what the folder's model says without one."""
    said = list(predictions(reader(str(folder), calibrated=False), laid(path, lines), {"text": "text"}))
    logits = np.log([[row["probabilities"][name] for name in ("high", "low")] for row in said])
    return calibration.temperature(np.array([line.endswith("low") for line in lines], int), logits)


def test_the_rows_of_the_model_are_those_of_its_files(place: Path) -> None:
    train, dev = (of_the_model(place, part) for part in ("train", "dev"))
    assert {*train, *dev} == set(rows(place / "train.tsv"))
    known = learnt(str(place / "tuned"))
    assert known.trained == set(load(str(place / "tuned" / "train.arrow"))[0]["id"].to_pylist())
    assert known.trained < known.ids


def test_what_does_not_learn_keeps_the_temperature_of_the_model(place: Path, tmp_path: Path) -> None:
    """Whatever dev holds; what is exported and put into bytes too."""
    found = compressed(place, tmp_path, of_the_model(place, "train")[:60], "int8,onnx,onnx+int8")
    own = reader(str(place / "tuned")).heat
    assert own != 1.0
    for path in ("int8", "onnx", "onnx+int8"):
        assert reader(str(tmp_path / "made" / path)).heat == own, path
    assert "dev" not in found["learnt"], "nothing is fitted"


def test_no_temperature_is_fitted_on_what_was_learnt(place: Path, tmp_path: Path) -> None:
    found = compressed(place, tmp_path, of_the_model(place, "train")[:60], "layers,layers+int8")
    for path in ("recovery", "layers", "layers+int8"):
        assert reader(str(tmp_path / "made" / path)).heat == 1.0, path
    assert found["learnt"]["dev"] == {"out": 60, "of": 60}
    assert known_told(found) == [
        "dev: the model has learnt 60 of 60 texts, so what learns has no temperature, and is too sure; give --dev with "
        "texts it has not seen"
    ]


def test_it_is_fitted_on_the_others(place: Path, tmp_path: Path) -> None:
    fresh = rows(Path(labelled(tmp_path / "fresh.tsv", 50, 5)))
    found = compressed(place, tmp_path, [*of_the_model(place, "train")[:60], *fresh], "layers,layers+int8")
    for path in ("recovery", "layers", "layers+int8"):
        folder = tmp_path / "made" / path
        heat = reader(str(folder)).heat
        assert heat != 1.0
        assert heat == pytest.approx(fitted(folder, tmp_path / "alone.tsv", fresh), rel=1e-3), path
    assert found["learnt"]["dev"] == {"out": 60, "of": 110}
    assert known_told(found) == [
        "dev: the model has learnt 60 of 110 texts; the temperature of what learns is fitted on the other 50"
    ]


def test_what_the_model_was_calibrated_on_calibrates_again(place: Path, tmp_path: Path) -> None:
    """Its dev was never learnt: the same train is parted into the same dev."""
    files = {"train": str(place / "train.tsv"), "test": str(place / "test.tsv")}
    found = run(str(place / "tuned"), files, str(tmp_path / "made"), ["layers"], {}, **(GIVEN | {"seeds": (1,)}))
    assert found["learnt"] == {"known": True, "parts": {}}
    heat = reader(str(tmp_path / "made" / "layers")).heat
    own = of_the_model(place, "dev")
    assert heat == pytest.approx(fitted(tmp_path / "made" / "layers", tmp_path / "dev.tsv", own), rel=1e-3)


def test_a_model_of_a_compression_has_learnt_what_its_recovery_learnt(place: Path, tmp_path: Path) -> None:
    """And not what was dev there."""
    compressed(place, tmp_path, of_the_model(place, "dev"), "layers")
    known, first = learnt(str(tmp_path / "made" / "layers")), learnt(str(place / "tuned"))
    own = set(load(str(tmp_path / "made" / "train.arrow"))[0]["id"].to_pylist())
    assert known.trained == first.trained | own
    assert known.ids - known.trained == first.ids - first.trained
