"""What a step is told beside, and with which seeds: no row looks better by more training, or by a lucky draw."""

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.test_compress import GIVEN, SHAPE, counting, folder_of, made, truth
from tests.test_compress import place as place  # a fixture
from tundish.operators.model.pruning import bare
from tundish.operators.model.quantized import quantized
from tundish.stages import compress, compress_steps, finetune_one
from tundish.stages.compress_read import reader
from tundish.stages.predict import predictions

torch.set_num_threads(1)


@pytest.fixture(scope="module")
def whole(place: Path) -> dict[str, Any]:
    return made(place, "few", "heads+int8,layers,int8", {"heads": 1, "layers": 1})


def test_what_stands_behind_a_step_has_its_seeds(place: Path, whole: dict[str, Any]) -> None:
    """Each begins from what the step left with the same seed, and is scored."""
    chain, bodies = whole["steps"]["heads+int8"], set()
    assert list(chain["seeds"]) == ["1", "2"]
    for seed, folder in (("1", "few/heads"), ("2", "few/seeds/2/heads")):
        it = reader(str(place / folder))
        for path, model in (("heads", it.model), ("heads+int8", quantized(copy.deepcopy(it.model)))):
            guesses = [row["label"] for row in predictions(replace(it, model=model), str(place / "test.tsv"))]
            accuracy = np.mean([mine == true for mine, true in zip(guesses, truth(place), strict=True)])
            assert whole["steps"][path]["seeds"][seed]["scores"]["test"]["accuracy"] == pytest.approx(accuracy), path
        bodies.add((place / folder / "model.safetensors").read_bytes())
    assert len(bodies) == 2
    assert sorted(each.name for each in (place / "few" / "seeds" / "2").iterdir()) == ["heads"], "nothing else is kept"


def test_a_step_is_told_beside_the_same_training_with_nothing_taken_away(place: Path, whole: dict[str, Any]) -> None:
    steps = whole["steps"]
    assert {path: one["reference"] for path, one in steps.items() if one["reference"]} == dict.fromkeys(
        ("heads", "heads+int8", "layers"), "recovery"
    )
    for path, one in steps.items():
        scores = {name: steps[name]["parts"]["test"]["seeds"] for name in ("model", "recovery", path)}
        less = one["parts"]["test"]["less"]
        assert set(less) == ({"model"} if path != "model" else set()) | ({"recovery"} if one["reference"] else set())
        for other, told in less.items():
            each = np.subtract(scores[path], scores[other])
            assert told["difference"] == pytest.approx(each.mean(), abs=1e-5), (path, other)
            assert told["interval"][0] <= told["difference"] <= told["interval"][1]
    assert steps["recovery"]["parameters"] == steps["model"]["parameters"]
    learnt = {
        path: one["seeds"]["1"] for path, one in steps.items() if "1" in one["seeds"] and "losses" in one["seeds"]["1"]
    }
    assert set(learnt) == {"recovery", "heads", "layers"}
    assert {len(one["losses"]) for one in learnt.values()} == {GIVEN["epochs"]}


@pytest.mark.slow
def test_all_recoveries_learn_at_one_rate(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A smaller model would learn faster by its size, and be told for that; a student of another folder does."""
    for module in (compress_steps, finetune_one):  # so small models all have the highest rate there is
        monkeypatch.setattr(module, "rate_of", lambda weights, **more: 30 / weights)
    count = sum(each.numel() for each in bare(reader(str(place / "tuned")).model).parameters())
    found = made(place, "rate", "layers,distil", {"layers": 1}, lr=0.0, seeds=(1,))["steps"]
    assert {found[path]["seeds"]["1"]["rate"] for path in ("recovery", "layers", "distil")} == {30 / count}
    own = folder_of(place / "student", replace(SHAPE, layers=1))
    found = made(place, "rate", "distil", {"student": own}, lr=0.0, seeds=(1,))["steps"]
    assert found["distil"]["seeds"]["1"]["rate"] == 30 / found["distil"]["parameters"] > 30 / count
    assert (
        made(place, "rate", "layers", {"layers": 1}, seeds=(1,))["steps"]["layers"]["seeds"]["1"]["rate"] == GIVEN["lr"]
    )


@pytest.mark.slow
def test_what_learns_twice_is_told_beside_what_learnt_twice(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = counting(monkeypatch)
    found = made(place, "twice", "layers+magnitude", seeds=(1, 2))
    assert list(found["steps"]) == ["model", "recovery", "recovery+recovery", "layers", "layers+magnitude"]
    assert [name for name, seed in calls if seed == 2] == ["recovery", "recovery", "layers", "magnitude"]
    assert found["steps"]["layers+magnitude"]["reference"] == "recovery+recovery"
    assert set(found["steps"]["layers+magnitude"]["parts"]["test"]["less"]) == {"model", "recovery+recovery"}


def test_a_seed_that_fails_takes_with_it_what_begins_from_it(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def half(room: Any, given: Any, seed: int) -> Any:
        it = compress_steps.STEPS["layers"](room, given, seed)
        return it._replace(outcome=replace(it.outcome, failed="the loss was nan in epoch 1")) if seed == 1 else it

    monkeypatch.setattr(compress, "STEPS", {**compress_steps.STEPS, "layers": half})
    steps = made(place, "half", "layers+int8", seeds=(1, 2))["steps"]
    for path in ("layers", "layers+int8"):
        assert steps[path]["parts"]["failed"] == 1
        assert steps[path]["kept"] == "2"
        assert len(steps[path]["parts"]["test"]["seeds"]) == 1
        scores = (steps[name]["seeds"]["2"]["scores"]["test"]["accuracy"] for name in (path, "recovery"))
        told = steps[path]["parts"]["test"]["less"]["recovery"]
        assert told == {"difference": pytest.approx(np.subtract(*scores))}, "of the seeds that both have"
