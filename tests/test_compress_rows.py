"""Steps of a compression beside each other on the same texts: an interval for each difference, and stars that hold."""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.test_compress import made, truth
from tests.test_compress import place as place  # a fixture
from tundish.operators.model import certainty
from tundish.operators.model.apart import Side, apart, pairs, scored
from tundish.stages.compress_read import reader
from tundish.stages.compress_rows import Seeds, better, difference, front, sure
from tundish.stages.predict import predictions

torch.set_num_threads(1)


@pytest.fixture(scope="module")
def whole(place: Path) -> dict[str, Any]:
    return made(place, "rows", "heads+int8,int8", {"heads": 1})


def right(place: Path, folder: str) -> np.ndarray:
    """Text by text, as `tundish predict` says it."""
    said = predictions(reader(str(place / folder)), str(place / "test.tsv"), {"text": "text"})
    return np.array([row["label"] == true for row, true in zip(said, truth(place), strict=True)], np.float64)[:, None]


def mean(units: np.ndarray) -> float:
    return float(units[:, 0].mean())


def test_what_is_not_trained_again_has_an_interval_over_texts(place: Path, whole: dict[str, Any]) -> None:
    told = whole["steps"]["int8"]["parts"]["test"]["less"]["model"]
    given, bytes_ = right(place, "tuned"), right(place, "rows/int8")
    wanted = certainty.paired(lambda _, units: mean(units), given, given, bytes_, seed=1)
    assert (told["difference"], *told["interval"]) == pytest.approx(wanted[:3])
    assert "interval" not in whole["steps"]["int8"]["parts"]["test"], "one model has no seeds"


def test_what_learns_has_an_interval_over_texts_and_seeds(place: Path, whole: dict[str, Any]) -> None:
    """With the answers of both seeds of `heads`, and of what was made of them in bytes."""
    given, heads = right(place, "tuned"), [right(place, name) for name in ("rows/heads", "rows/seeds/2/heads")]
    told = whole["steps"]["heads"]["parts"]["test"]["less"]["model"]
    sides = [scored(mean, side, seed=1) for side in ([given], heads)]
    wanted = apart(*sides, bounds=(-1, 1))
    assert (told["difference"], *told["interval"]) == pytest.approx(tuple(wanted))
    over_seeds = certainty.over_seeds(sides[1].scores - sides[0].scores)
    assert wanted.high - wanted.low > (over_seeds.high - over_seeds.low) * 0.999 or wanted.low == -1


def drawn(*runs: np.ndarray) -> Side:
    return scored(mean, np.stack(runs)[:, :, None], seed=1, samples=300)


def sides(rows: int = 300) -> dict[str, Seeds]:
    """`same` answers as what was given does, `lucky` is right twice more, `worse` is wrong more often; `learnt` and
    `other` have seeds."""
    draw = np.random.default_rng(1)
    given = (draw.random(rows) < 0.9).astype(float)
    worse = given * (draw.random(rows) < 0.85)
    learnt = [np.where(draw.random(rows) < 0.05, 1 - given, given) for _ in range(3)]
    other = [np.where(draw.random(rows) < 0.02, 1 - one, one) for one in learnt]
    lucky = given.copy()
    lucky[np.flatnonzero(given == 0)[:2]] = 1
    every = drawn(given, given, worse, *learnt, *other, lucky)
    spans = {"model": (0, 1), "same": (1, 2), "worse": (2, 3), "learnt": (3, 6), "other": (6, 9), "lucky": (9, 10)}
    names = {path: [""] if end - at == 1 else ["1", "2", "3"] for path, (at, end) in spans.items()}
    return {
        path: Seeds(names[path], Side(every.scores[at:end], every.drawn[:, at:end], rows))
        for path, (at, end) in spans.items()
    }


def test_seeds_that_both_have_are_paired() -> None:
    found = sides()
    one, two = found["learnt"], found["other"]
    wanted = pairs(one.side, two.side, bounds=(-1, 1))
    assert difference(found, "other", "learnt", "accuracy") == pytest.approx(wanted)
    less = Seeds(["3", "1"], Side(two.side.scores[[2, 0]], two.side.drawn[:, [2, 0]], two.side.rows))
    mine = Side(one.side.scores[[2, 0]], one.side.drawn[:, [2, 0]], one.side.rows)
    wanted = pairs(mine, less.side, bounds=(-1, 1))
    assert difference({"a": less, "b": one}, "a", "b", "accuracy") == pytest.approx(wanted)
    none = Seeds(["7"], Side(two.side.scores[:1], two.side.drawn[:, :1], two.side.rows))
    assert difference({"a": none, "b": one}, "a", "b", "accuracy") is None
    assert difference(found, "other", "gone", "accuracy") is None
    back, forth = (difference(found, *each, "accuracy") for each in (("model", "learnt"), ("learnt", "model")))
    assert back is not None
    assert forth is not None
    assert (back.value, back.low, back.high) == pytest.approx((-forth.value, -forth.high, -forth.low))


def test_one_seed_of_what_learns_is_not_sure() -> None:
    found = sides()
    assert sure(found, "same", "model")
    assert sure(found, "learnt", "model")
    assert sure(found, "other", "learnt")
    alone = found | {"alone": Seeds(["1"], drawn(np.ones(300)))}
    assert not any(sure(alone, *each) for each in (("alone", "model"), ("model", "alone"), ("alone", "learnt")))
    assert not sure(found, "gone", "model")


def stars(costs: Mapping[str, float], found: Mapping[str, Seeds]) -> list[str]:
    scores = {path: float(found[path].side.scores.mean()) if path in found else 0.899 for path in costs}
    return [path for path, star in zip(costs, front(costs, better(found, scores, "accuracy")), strict=True) if star]


def test_a_star_is_not_given_for_luck() -> None:
    found = sides()
    assert stars({"model": 3.0, "same": 1.0, "worse": 2.0}, found) == ["same"], "as good, and smaller"
    assert stars({"lucky": 2.0, "model": 1.0}, found) == ["model"], "two texts more are no proof"
    assert stars({"model": 3.0, "worse": 1.0}, found) == ["model", "worse"], "what is shown to cost score"
    assert stars({"model": 2.0, "same": 1.0, "worse": 0.5}, found) == ["same", "worse"]
    assert stars({"model": 1.0, "same": 1.0, "worse": 1.0}, found) == ["model", "same"], "of one size"
    flipped = found["model"].side.scores[0]
    assert stars({"model": 2.0, "gone": 1.0}, found) == (["model", "gone"] if flipped > 0.899 else ["gone"])


def test_stars_that_are_lost_do_not_take_others() -> None:
    """`b` is not shown to beat `a`, nor `c` to beat `b`; but `c` is shown to beat `a`, which alone has a star."""
    shown = {("c", "a")}
    assert front({"a": 1.0, "b": 2.0, "c": 3.0}, lambda one, other: (one, other) in shown) == [True, False, True]


def test_of_sure_scores_stars_are_the_pareto_front() -> None:
    draw = np.random.default_rng(5)
    for _ in range(50):
        costs, scores = draw.integers(1, 6, 7).astype(float), draw.integers(0, 5, 7) / 5
        points = list(zip(costs, scores, strict=True))
        wanted = [not any(p <= c and s >= t and (p, s) != (c, t) for p, s in points) for c, t in points]
        named = {str(at): cost for at, cost in enumerate(costs)}
        assert front(named, lambda one, other, scores=scores: scores[int(one)] > scores[int(other)]) == wanted


def test_a_step_without_its_answers_is_told_without_them(place: Path, whole: dict[str, Any]) -> None:
    shutil.copytree(place / "rows", place / "older")
    for each in (place / "older" / "units").iterdir():
        each.unlink()
    older = made(place, "older", "heads+int8,int8", {"heads": 1})["steps"]
    assert older["int8"]["parts"]["test"]["less"] == {
        "model": {"difference": whole["steps"]["int8"]["parts"]["test"]["less"]["model"]["difference"]}
    }
    heads, new = (each["heads"]["parts"]["test"]["less"]["model"] for each in (older, whole["steps"]))
    assert heads["difference"] == pytest.approx(new["difference"])
    assert "interval" in heads, "over seeds alone"
