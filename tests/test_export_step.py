"""A step of a compression is exported with a card of its own, or refused by its name."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from tests.test_compress import made
from tests.test_compress import place as place  # a fixture
from tundish.pipeline.export import export
from tundish.stages.compress_read import reader
from tundish.stages.export_step import step_in

torch.set_num_threads(1)
STEPS = "layers,layers+magnitude,heads,heads+int8,onnx"
MEANS = {"layers": 2, "heads": 1}


@pytest.fixture(scope="module")
def told(place: Path) -> dict[str, Any]:
    return made(place, "handed", STEPS, MEANS)


@pytest.mark.parametrize(
    ("step", "words"),
    [
        ("heads", r"heads, the step heads of a compression, cannot be exported: some heads were taken away \(1 of"),
        ("heads+int8", r"the step heads\+int8 of a compression, has its matrices in bytes"),
        ("onnx", "the step onnx of a compression, is a graph already, which onnxruntime runs"),
    ],
)
def test_what_no_class_loads_is_refused_by_its_step(
    place: Path, told: dict[str, Any], tmp_path: Path, step: str, words: str
) -> None:
    with pytest.raises(ValueError, match=words) as caught:
        export(str(place / "handed" / step), str(tmp_path / "to"))
    assert "fine-tune one listed" not in str(caught.value)
    assert "holds no fine-tuned model" not in str(caught.value)
    assert not (tmp_path / "to").exists()


def test_models_of_other_seeds_are_refused_alike(place: Path, told: dict[str, Any], tmp_path: Path) -> None:
    """Their folders are no steps, and say what they are all the same."""
    other = place / "handed" / "seeds" / "2" / "heads"
    assert step_in(str(other)) is None
    with pytest.raises(ValueError, match="some heads were taken away"):
        export(str(other), str(tmp_path / "to"))


def cells(card: str, row: str) -> list[list[str]]:
    """Of the rows of tables that have this in a cell."""
    each = [[cell.strip() for cell in line.strip("|").split("|")] for line in card.split("\n") if line.startswith("|")]
    return [one for one in each if row in one]


@pytest.mark.parametrize("step", ["layers", "layers+magnitude"])
def test_the_card_is_of_the_compression(place: Path, told: dict[str, Any], tmp_path: Path, step: str) -> None:
    to = tmp_path / "to"
    export(str(place / "handed" / step), str(to), licence="mit")
    card = (to / "README.md").read_text()
    own, part = told["steps"][step], told["steps"][step]["parts"]["test"]
    assert str(place) not in card
    assert "Nothing is known" not in card
    assert f"It is the step {step} of a compression of tuned" in card
    assert f"- layers: {told['steps']['layers']['told']}" in card
    score = cells(card, step)[0]
    less = [part["less"][each] for each in ("model", own["reference"])]
    spelt = [f"{one['difference']:+.3f} ({one['interval'][0]:+.3f} to {one['interval'][1]:+.3f})" for one in less]
    kept = own["seeds"][own["kept"]]["scores"]["test"]["accuracy"]
    assert [score[at] for at in (2, 3, 5, 6)] == [f"{part['mean']:.3f}", f"{kept:.3f}", *spelt]
    assert cells(card, "tuned")[0][2] == f"{told['steps']['model']['parts']['test']['mean']:.3f}", "beside its parent"
    assert cells(card, own["reference"])[0][1] == own["reference"]
    assert cells(card, step)[1][1:3] == [f"{own['bytes'] / 1e6:.2f}", f"{own['parameters']:,}"]
    assert f"Before its training it scored {part['before']:.3f} on test." in card
    header = yaml.safe_load(re.split(r"^---$", card, maxsplit=2, flags=re.MULTILINE)[1])
    assert header["license"] == "mit"
    [index] = header["model-index"][0]["results"]
    assert index["metrics"][0]["value"] == pytest.approx(kept, abs=1e-6)
    assert header["model-index"][0]["name"] == f"handed-{step}"
    heat = reader(str(place / "handed" / step)).heat
    assert ("temperature" in card) is (heat != 1.0)
    assert json.loads((to / "config.json").read_text())["tundish"]["temperature"] == pytest.approx(heat)


def test_of_folders_the_card_tells_names_alone(place: Path, told: dict[str, Any], tmp_path: Path) -> None:
    made(place, "taught", "distil", {"teacher": str(place / "tuned")}, seeds=(1,))
    export(str(place / "taught" / "distil"), str(tmp_path / "to"))
    card = (tmp_path / "to" / "README.md").read_text()
    assert str(place) not in card
    assert re.search(r"^- distil: layers \d of 3, from tuned$", card, re.MULTILINE)
