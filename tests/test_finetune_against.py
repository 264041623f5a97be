"""Two fine-tunings on the same units: what is counted is what is told, and a difference is a statement."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.test_finetune_runs import SHAPE, part, rows, task_of
from tests.test_search import small
from tests.writers import KIN, folder_of, sentences, turned
from tests.writers import task_of as writing_task
from tundish.operators.model import certainty
from tundish.operators.model.apart import apart, scored
from tundish.operators.text import vocabulary
from tundish.stages.finetune_against import compared, difference
from tundish.stages.finetune_runs import found, read, tune
from tundish.stages.finetune_task import MEASURES, TuneTask
from tundish.stages.finetune_units import Units, gathered, load, measure_of, save, units_of

torch.set_num_threads(1)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return small(tmp_path_factory.mktemp("model"))


def tuned(task: TuneTask) -> dict[str, Units]:
    tune(task, 0, 1, lambda line: None)
    return gathered(task, read(task, SHAPE.length), lambda run: found(task, run))


@pytest.mark.parametrize("kind", ["classify", "multilabel", "regress", "tag", "answer", "embed"])
def test_the_score_of_the_units_is_the_score_that_is_told(model: str, tmp_path: Path, kind: str) -> None:
    task = task_of(model, tmp_path, kind, seeds=(1,), epochs=3)
    (units,) = tuned(task).values()
    told = found(task, task.runs[0])[0]["scores"]["test"][MEASURES[kind]]
    assert measure_of(kind)(units.runs["pretrained"][0]) == pytest.approx(told)
    assert len(set(units.keys.tolist())) == len(units.keys) == len(units.runs["pretrained"][0])
    save(task.out, {"test": units})
    again = load(str(Path(task.out) / "result.json"))["test"]
    assert again.keys.tolist() == units.keys.tolist()
    np.testing.assert_array_equal(again.runs["pretrained"], units.runs["pretrained"])
    assert (again.kind, again.seeds) == (kind, {"pretrained": [1]})


def test_what_is_written_is_counted_row_by_row(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "model", vocabulary.train(sentences(), size=288), **KIN["decoder"])
    task = writing_task(folder, tmp_path / "rows", turned(16))
    (units,) = tuned(task).values()
    told = found(task, task.runs[0])[0]["scores"]["test"][MEASURES["write"]]
    assert measure_of("write")(units.runs["pretrained"][0]) == pytest.approx(told)
    assert len(set(units.keys.tolist())) == 16


def test_questions_of_one_context_are_one_unit(model: str, tmp_path: Path) -> None:
    task = task_of(model, tmp_path, "answer", seeds=(1,), epochs=1)
    tune(task, 0, 1, lambda line: None)
    said = found(task, task.runs[0])[1]["test"]
    truth = dict(task.truth["test"])
    half = {key: one | {"context": one["context"] + " " * (at % 2)} for at, (key, one) in enumerate(truth.items())}
    test = read(task, SHAPE.length)["test"]
    units = units_of(task, test, said, half)
    assert units[:, 1].tolist() == [30, 30]
    assert units.sum(0) == pytest.approx(units_of(task, test, said, truth).sum(0))


@pytest.fixture(scope="module")
def two(model: str, tmp_path_factory: pytest.TempPathFactory) -> tuple[TuneTask, TuneTask]:
    """One that learns, and one that learns nothing, whose test lies in another order and file."""
    folder = tmp_path_factory.mktemp("two")
    good = task_of(model, folder, "classify", scratch=True, seeds=(1, 2, 3))
    (folder / "other").mkdir()
    turned = [row | {"file": "elsewhere", "row": at} for at, row in enumerate(rows("classify", 60, 3)[::-1])]
    parts = {**good.parts, "test": part(folder / "other", "test", "classify", turned)}
    poor = replace(good, parts=parts, out=str(folder / "other" / "out"), lr=1e-7, seeds=(4, 5, 6), scratch=False)
    for task in (good, poor):
        save(task.out, tuned(task))
    return good, poor


def test_one_that_learns_is_ahead_of_one_that_does_not(two: tuple[TuneTask, TuneTask]) -> None:
    good, poor = two
    told = compared(good, load(good.out), str(Path(poor.out) / "result.json"))["parts"]["test"]["against"]
    assert told["verdict"] == "ahead"
    assert told["runs"] == [3, 3]
    scores = [[found(t, r)[0]["scores"]["test"]["accuracy"] for r in t.runs if r.pretrained] for t in (poor, good)]
    assert told["difference"] == pytest.approx(np.mean(scores[1]) - np.mean(scores[0]))
    assert 0 < told["interval"][0] < told["difference"] < told["interval"][1]
    assert told["chance"] == pytest.approx(0.1), "of 20 ways to divide six runs two are as far apart"
    back = compared(poor, load(poor.out), good.out)["parts"]["test"]["against"]
    assert back["verdict"] == "behind"
    assert back["difference"] == pytest.approx(-told["difference"])


def test_the_same_rows_are_compared_wherever_they_lie(two: tuple[TuneTask, TuneTask]) -> None:
    good, poor = two
    mine, theirs = load(good.out)["test"], load(poor.out)["test"]
    order = [theirs.keys.tolist().index(key) for key in mine.keys.tolist()]
    sides = theirs.runs["pretrained"][:, order], mine.runs["pretrained"]
    wanted = apart(*(scored(measure_of("classify"), side, seed=1) for side in sides))
    told = compared(good, {"test": mine}, poor.out)["parts"]["test"]["against"]
    assert (told["difference"], *told["interval"]) == pytest.approx(wanted[:3])
    few = {"pretrained": theirs.runs["pretrained"][:2]}, {"pretrained": theirs.seeds["pretrained"][:2]}
    save(poor.out, {"test": theirs._replace(runs=few[0], seeds=few[1])})
    told = compared(good, {"test": mine}, poor.out)["parts"]["test"]["against"]
    save(poor.out, {"test": theirs})
    assert (told["runs"], told["verdict"]) == ([2, 3], "open")
    assert order != sorted(order)


def test_pretrained_and_fresh_are_compared_seed_by_seed(two: tuple[TuneTask, TuneTask]) -> None:
    good, _ = two
    told = compared(good, load(good.out))["parts"]["test"]["fresh"]
    scores = {True: [], False: []}
    for run in good.runs:
        scores[run.pretrained].append(found(good, run)[0]["scores"]["test"]["accuracy"])
    gains = np.subtract(scores[True], scores[False])
    assert told["difference"] == pytest.approx(gains.mean())
    assert told["over_seeds"] == pytest.approx(list(certainty.over_seeds(gains, bounds=(-1, 1))[1:]))
    assert told["runs"] == [3, 3]


def sides(gaps: list[float], noise: float = 0.0) -> tuple[dict[int, np.ndarray], dict[int, np.ndarray]]:
    draw = np.random.default_rng(1)
    one = {seed: draw.normal(0, noise, (40, 1)) for seed in range(len(gaps))}
    return one, {seed: one[seed] + gap for seed, gap in enumerate(gaps)}


def test_a_verdict_needs_both_intervals() -> None:
    assert difference("classify", *sides([0.1, 0.12, 0.11]))["verdict"] == "ahead"
    assert difference("classify", *sides([-0.1, -0.12, -0.11]))["verdict"] == "behind"
    lucky = difference("classify", *sides([0.9, 0.02, 0.01]))
    assert lucky["interval"][0] > 0 > lucky["over_seeds"][0]
    assert lucky["verdict"] == "open", "three seeds do not agree by how much"
    same = difference("classify", *sides([0.0, 0.0]))
    assert (same["verdict"], same["chance"]) == ("open", 1.0)


def test_a_seed_that_failed_on_one_side_is_paired_with_none() -> None:
    one, other = sides([0.1, 0.2, 0.3])
    del one[0], other[2]
    told = difference("classify", one, other)
    assert told["difference"] == pytest.approx(0.2)
    assert told["runs"] == [1, 1]
    assert "over_seeds" not in told
    del one[1]
    assert difference("classify", one, other)["verdict"] == "open"


def test_a_correlation_is_drawn_where_all_values_are_one() -> None:
    truth = np.array([[1.0, 2.0], [1.0, 5.0], [1.0, 3.0]])
    assert measure_of("regress")(truth) == 0.0
    assert measure_of("regress")(np.array([[1.0, 2.0], [2.0, 5.0], [3.0, 9.0]])) == pytest.approx(1.0)


def test_what_is_not_the_same_is_not_compared(two: tuple[TuneTask, TuneTask], tmp_path: Path) -> None:
    good, poor = two
    mine = load(good.out)
    with pytest.raises(ValueError, match=r"holds no units\.npz to compare with; run its fine-tuning again"):
        compared(good, mine, str(tmp_path / "result.json"))
    with pytest.raises(ValueError, match=r"there is no .*nope\.json; give the folder of another fine-tuning"):
        load(str(tmp_path / "nope.json"))

    def against(**changed: Any) -> None:
        save(str(tmp_path), {"test": load(poor.out)["test"]._replace(**changed)})
        compared(good, mine, str(tmp_path))

    with pytest.raises(ValueError, match="test is of tag there and of classify here"):
        against(kind="tag")
    other = load(poor.out)["test"]
    with pytest.raises(ValueError, match="60 units here and 59 there, of which 59 are the same"):
        against(keys=other.keys[1:], runs={"pretrained": other.runs["pretrained"][:, 1:]})
    with pytest.raises(ValueError, match="every run there failed on test"):
        against(runs={}, seeds={})
    save(str(tmp_path), {"elsewhere": other})
    with pytest.raises(ValueError, match="was tested on elsewhere, and this on test"):
        compared(good, mine, str(tmp_path))


def test_a_row_with_another_truth_is_another_unit(model: str, tmp_path: Path) -> None:
    task = task_of(model, tmp_path, "classify", train=16, seeds=(1,), epochs=1)
    before = tuned(task)["test"].keys
    changed = rows("classify", 60, 3)
    changed[7]["label"] = 1 - changed[7]["label"]
    part(tmp_path, "test", "classify", changed)
    after = tuned(task)["test"].keys
    assert np.flatnonzero(before != after).tolist() == [7]


def test_equal_rows_are_units_of_their_own(model: str, tmp_path: Path) -> None:
    task = task_of(model, tmp_path, "classify", train=16, seeds=(1,), epochs=1)
    some = rows("classify", 4, 3)
    part(tmp_path, "test", "classify", [some[0], some[1], some[0]])
    keys = tuned(task)["test"].keys.tolist()
    assert keys[2] == f"{keys[0]}.2"
