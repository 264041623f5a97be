"""Means over runs: within their measure's range wherever they are told, and one verdict."""

import math
from typing import Any

import numpy as np
import pytest

from tundish.operators.model import certainty, measures
from tundish.stages.finetune_means import gained, over, range_of, verdict, verdict_of
from tundish.stages.finetune_task import MEASURES


def test_every_measure_that_runs_are_compared_by_has_ends() -> None:
    for measure in MEASURES.values():
        assert all(map(math.isfinite, range_of(measure)))


def test_ranges_hold_what_the_measures_can_be() -> None:
    truth, guesses = np.array([0, 1, 1, 0]), np.array([1, 0, 0, 1])
    assert measures.matthews(truth, guesses) == range_of("matthews")[0]
    sure = np.array([[1.0, 0.0], [0.0, 1.0]])
    assert measures.brier(np.array([1, 0]), sure) == range_of("brier")[1]
    assert range_of("log_loss") == (0.0, math.inf)
    assert range_of("balanced_accuracy") == range_of("samples_f1") == range_of("rouge_2") == (0.0, 1.0)


def test_a_mean_and_a_gain_stay_in_range() -> None:
    told = over("accuracy", [0.99, 1.0])
    assert told["mean"] == pytest.approx(0.995)
    assert told["interval"] == pytest.approx(certainty.over_seeds([0.99, 1.0], bounds=(0, 1))[1:])
    assert told["interval"][1] <= 1 < certainty.over_seeds([0.99, 1.0]).high
    assert gained("accuracy", [0.9, 0.2])["interval"][1] <= 1
    assert gained("matthews", [1.5, 1.9])["mean"] == pytest.approx(1.7)
    assert gained("log_loss", [-3.0, 2.0])["interval"] == pytest.approx(certainty.over_seeds([-3.0, 2.0])[1:])
    assert "interval" not in over("accuracy", [0.5])
    assert "interval" not in over("loss", [0.5, math.inf])


def result(pretrained: dict[int, float], fresh: dict[int, float], **more: Any) -> dict[str, Any]:
    runs = [
        {"pretrained": start, "seed": seed, "size": 0, "failed": "", "scores": {"test": {"accuracy": score}}}
        for start, scores in ((True, pretrained), (False, fresh)) for seed, score in scores.items()
    ]  # fmt: skip
    parts = {"test": {"pretrained": {}, "fresh": {}}}
    return {"measure": "accuracy", "parts": parts, "runs": runs} | more


def test_the_verdict_is_that_of_the_comparison_where_there_is_one() -> None:
    clear = result({1: 0.9, 2: 0.91, 3: 0.9}, {1: 0.5, 2: 0.5, 3: 0.51})
    assert verdict_of(clear, "test") == "ahead"
    for said in ("open", "behind"):
        assert verdict_of(clear | {"compared": {"parts": {"test": {"fresh": {"verdict": said}}}}}, "test") == said
    assert verdict_of(clear | {"compared": {"parts": {"other": {}}}}, "test") == "ahead"


def test_without_one_it_is_found_seed_by_seed() -> None:
    behind = result({1: 0.5, 2: 0.51, 3: 0.5}, {1: 0.9, 2: 0.9, 3: 0.91})
    assert verdict_of(behind, "test") == "behind"
    assert verdict_of(result({1: 0.9, 2: 0.5, 3: 0.7}, {1: 0.6, 2: 0.6, 3: 0.6}), "test") == "open"
    assert verdict_of(result({1: 0.99}, {1: 0.1}), "test") == "open", "nobody knows how far another seed would lie"
    assert verdict_of(result({1: 0.9, 2: 0.9}, {3: 0.1, 4: 0.1}), "test") == "open", "no seed is on both sides"
    failed = result({1: 0.9, 2: 0.91}, {1: 0.5, 2: 0.5})
    failed["runs"][3] |= {"failed": "the loss was nan", "scores": {}}
    assert verdict_of(failed, "test") == "open"
    smaller = result({1: 0.9, 2: 0.91}, {1: 0.5, 2: 0.5})
    smaller["runs"][2]["size"] = 40
    assert verdict_of(smaller, "test") == "open", "a run on fewer examples is another"
    alone = result({1: 0.9, 2: 0.91}, {})
    del alone["parts"]["test"]["fresh"]
    assert verdict_of(alone, "test") == ""


def test_a_verdict_of_one_run_is_open_whatever_its_interval() -> None:
    assert verdict([(0.2, 0.3)], 1) == "open"
    assert verdict([(0.2, 0.3), (0.1, 0.4)], 2) == "ahead"
    assert verdict([(-0.2, -0.1)], 2) == "behind"
    assert verdict([], 5) == "open"
