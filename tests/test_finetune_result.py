"""What the runs of a fine-tuning come to where some failed, and where dev has seen what is tested."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.test_examples_checks import made as examples_of
from tests.test_finetune_runs import SHAPE, part, rows, task_of
from tests.test_search import small
from tests.test_tuned_page import result as page_result
from tundish.pipeline.templates import template
from tundish.pipeline.tuned_page import score_rows, shown
from tundish.stages.examples_checks import checked, report
from tundish.stages.finetune_means import shortfall
from tundish.stages.finetune_result import result_of
from tundish.stages.finetune_runs import found, read, tune
from tundish.stages.finetune_task import TuneTask

torch.set_num_threads(1)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return small(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def tuned(model: str, tmp_path_factory: pytest.TempPathFactory) -> TuneTask:
    task = task_of(
        model, tmp_path_factory.mktemp("tuned"), "classify", train=60, seeds=(1, 2, 3), sizes=(20,), epochs=2
    )
    tune(task, 0, 1, lambda line: None)
    return task


def told(task: TuneTask, failed: tuple[int, ...] = ()) -> dict[str, Any]:
    """The result, with the runs of these seeds as if their loss had been no number."""

    def each(run: Any) -> Any:
        record, said = found(task, run)
        return (record | {"failed": "the loss was nan", "scores": {}} if run.seed in failed else record), said

    return result_of(task, read(task, SHAPE.length), each)


def test_a_mean_says_of_how_many_runs_it_is(tuned: TuneTask) -> None:
    every, some = (told(tuned, failed) for failed in ((), (2,)))
    for result, count in ((every, 3), (some, 2)):
        one = result["parts"]["test"]["pretrained"]["accuracy"]
        assert (len(one["seeds"]), one["of"]) == (count, 3)
        assert shortfall(one) == ("" if count == 3 else "mean of 2 of 3")
        for point in result["curve"]["pretrained"]:
            assert (len(point["seeds"]), point["of"]) == (count, 3)
    kept = every["parts"]["test"]["pretrained"]["accuracy"]["seeds"]
    assert some["parts"]["test"]["pretrained"]["accuracy"]["mean"] == pytest.approx(np.mean([kept[0], kept[2]]))
    assert [row["short"] for row in score_rows(some)] == ["mean of 2 of 3"] * len(score_rows(some))


def test_the_page_says_of_how_many_runs_a_mean_is() -> None:
    whole = page_result()
    some = page_result()
    (told_part,) = some["parts"].values()
    for kind, of in (("pretrained", 3), ("fresh", 5)):
        for measure in ("accuracy", "macro_f1"):
            told_part[kind][measure]["of"] = of
    text = template("tuned.html.j2").render(it=shown(some))
    assert text.count(", mean of 2 of 3</td>") == 2
    assert text.count(", mean of 2 of 5</td>") == 2
    assert text.count("mean of 2 of 3") == 3, "and the tile"
    assert "mean of" not in template("tuned.html.j2").render(it=shown(whole))


def overlapping(task: TuneTask, folder: Path, of_dev: int) -> TuneTask:
    """The test is `of_dev` rows of dev, and others up to forty."""
    some = rows("classify", 40, 2)[:of_dev] + rows("classify", 40 - of_dev, 9)
    part(folder, "test", "classify", [row | {"file": "test", "row": at} for at, row in enumerate(some)])
    return task


def test_a_temperature_is_not_judged_on_what_it_was_fitted_on(model: str, tmp_path: Path) -> None:
    task = task_of(model, tmp_path, "classify", train=60, seeds=(1, 2), epochs=2)
    for of_dev, judged in ((40, False), (21, False), (20, True), (0, True)):
        place = tmp_path / str(of_dev)
        place.mkdir()
        one = overlapping(task, tmp_path, of_dev)
        one = TuneTask(**{**vars(one), "out": str(place)})
        tune(one, 0, 1, lambda line: None)
        calibration = json.loads((place / "result.json").read_text())["calibration"]["test"]
        assert ("after" in calibration) is judged, of_dev
        assert calibration.get("unjudged", "") == (
            "" if judged else f"{of_dev} of 40 texts of test are in dev, on which the temperature was fitted"
        )
        assert len(calibration["temperatures"]) == 2, "what predicts with it does not change"
        assert calibration["before"]["log_loss"]["mean"] > 0


def test_the_page_says_why_a_temperature_is_not_judged() -> None:
    result = page_result()
    (one,) = result["calibration"].values()
    del one["after"]
    one["unjudged"] = "9 of 9 texts of it are in dev, on which the temperature was fitted"
    text = template("tuned.html.j2").render(it=shown(result))
    assert "not judged here: 9 of 9 texts of it are in dev, on which the temperature was fitted" in text
    assert "at the temperature" not in text


def test_texts_that_dev_and_a_test_share_are_told() -> None:
    train, dev = examples_of([0, 1], ["a", "b"]), examples_of([0, 1, 1], ["c", "D  e", "f"])
    test, other = examples_of([0, 1, 0, 1], ["c", "c", "d e", "h"]), examples_of([1, 0], ["x", "y"])
    parts = {"train": train, "dev": dev, "test": test, "other": other}
    said = [sentence for sentence in checked(parts) if " are in dev too" in sentence]
    assert len(said) == 1
    assert said[0].startswith("2 of 4 texts of test are in dev too, 3 when white space and case are left aside; ")
    assert "--apart" not in said[0], "which takes texts out of train alone"
    found = report(parts)["parts"]
    assert found["test"]["shared_with_dev"] == {"exact": 2, "alike": 3}
    assert found["other"]["shared_with_dev"] == {"exact": 0, "alike": 0}
    assert "shared_with_dev" not in found["dev"]
    assert not [each for each in checked({"train": train, "test": test}) if "dev" in each]
