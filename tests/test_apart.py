"""Two systems with few runs each: what is told of their difference is true of other runs and other rows."""

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tundish.operators.model import certainty
from tundish.operators.model.apart import Side, apart, divided, pairs, scored
from tundish.stages import finetune_against
from tundish.stages.finetune_against import beside

SLEEP = (  # of Student 1908, as R has it
    [0.7, -1.6, -0.2, -1.2, -0.1, 3.4, 3.7, 0.8, 0.0, 2.0],
    [1.9, 0.8, 1.1, 0.1, -0.1, 4.4, 5.5, 1.6, 4.6, 3.4],
)
Made = Callable[[np.random.Generator, int], tuple[np.ndarray, np.ndarray]]


def mean(units: np.ndarray) -> float:
    return float(units[:, 0].mean())


def level(scores: list[float], rows: int = 20) -> np.ndarray:
    """Runs that score the same on every row, so that rows say nothing."""
    return np.repeat(np.array(scores)[:, None, None], rows, 1)


def two(first: Any, second: Any, samples: int = 200) -> tuple[Side, Side]:
    return tuple(scored(mean, each, seed=1, samples=samples) for each in (first, second))  # type: ignore[return-value]


def test_of_runs_alone_it_is_welch() -> None:
    """t.test(extra ~ group, data = sleep) of R: df = 17.776, -3.3654832 to 0.2054832."""
    found = apart(*two(level(SLEEP[1]), level(SLEEP[0])))
    assert (found.low, found.high) == pytest.approx((-3.3654832, 0.2054832), abs=1e-4)
    assert found.value == pytest.approx(np.mean(SLEEP[0]) - np.mean(SLEEP[1]))
    tied = pairs(*two(level(SLEEP[1]), level(SLEEP[0])))  # paired = TRUE: -2.4598858 to -0.7001142
    assert (tied.low, tied.high) == pytest.approx((-2.4598858, -0.7001142), abs=1e-6)


def test_of_one_run_each_it_is_the_paired_bootstrap() -> None:
    draw = np.random.default_rng(1)
    first, second = draw.integers(0, 2, (2, 1, 80, 1)).astype(float)
    found = apart(*two(first, second, 500))
    wanted = certainty.paired(lambda _, units: mean(units), first[0], first[0], second[0], seed=1, samples=500)
    assert found == pytest.approx(wanted[:3])
    given = apart(*two(first, np.repeat(second, 3, 0), 500))
    assert given.high - given.low == pytest.approx(found.high - found.low, rel=0.1), "runs that are one add nothing"


def test_rows_and_runs_both_widen_it() -> None:
    """Scores that add up from independent rows, runs and both: the variance is the sum by the formula."""
    draw = np.random.default_rng(2)
    runs, rows, both = draw.normal(0, 0.2, (50, 1)), draw.normal(0, 2.0, (1, 400)), draw.normal(0, 2.0, (50, 400))
    second = (0.3 + runs + rows + both)[:, :, None]
    found = apart(*two(np.zeros((1, 400, 1)), second, 1500))
    spread = np.sqrt(0.2**2 / 50 + 2.0**2 / 400 + 2.0**2 / 400 / 50)
    assert (found.high - found.low) / 2 == pytest.approx(1.96 * spread, rel=0.15)
    assert found.value == pytest.approx(second.mean())
    cut = apart(*two(np.zeros((1, 400, 1)), second, 300), bounds=(-0.1, 0.35))
    assert (cut.low, cut.high) == (pytest.approx(found.low, abs=0.03), 0.35)


def test_what_rows_and_runs_have_together_counts_once() -> None:
    """Runs that differ row by row alone: what their scores vary by is all there is."""
    second = np.random.default_rng(6).normal(0, 1, (30, 200, 1))
    found = apart(*two(np.zeros((1, 200, 1)), second, 1000))
    assert (found.high - found.low) / 2 == pytest.approx(2.0 / np.sqrt(30 * 200), rel=0.2)


def test_runs_whose_scores_happen_to_be_alike_differ_as_their_answers_do() -> None:
    """Three runs each right on another half of the rows: equal scores, which others would not have."""
    draw = np.random.default_rng(3)
    first, second = (np.stack([draw.permutation(40) < count for _ in range(3)])[:, :, None] * 1.0 for count in (20, 25))
    found = apart(*two(first, second))
    assert found.value == pytest.approx(0.125)
    assert found.low < 0 < found.high


def shifted(draw: np.random.Generator, runs: int) -> tuple[np.ndarray, np.ndarray]:
    """Seed noise alone."""
    one, other = (level(draw.normal(size=runs).tolist(), 30) for _ in range(2))
    return one, other


def answered(draw: np.random.Generator, runs: int) -> tuple[np.ndarray, np.ndarray]:
    """Right or wrong: rows are hard for all, harder for one of the two, or for a run; and runs differ."""
    hard = draw.normal(1.2, 1.5, 100)
    one, other = (
        hard + draw.normal(0, 0.7, 100) + draw.normal(0, 0.2, (runs, 1)) + draw.normal(0, 0.7, (runs, 100)) > 0
        for _ in range(2)
    )
    return one[:, :, None] * 1.0, other[:, :, None] * 1.0


@pytest.mark.parametrize("runs", [3, 5])
@pytest.mark.parametrize("made", [shifted, answered])
def test_a_verdict_on_what_does_not_differ_is_rare(made: Made, runs: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(finetune_against, "SAMPLES", 60)
    false = 0
    for number in range(400):
        one, other = made(np.random.default_rng([number, runs]), runs)
        false += beside("classify", dict(enumerate(one)), dict(enumerate(other)))["verdict"] != "open"
    assert false / 400 <= 0.06


def test_a_verdict_on_what_differs_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(finetune_against, "SAMPLES", 60)
    verdicts = []
    for number in range(40):
        one, other = shifted(np.random.default_rng([number, 7]), 5)
        verdicts.append(beside("classify", dict(enumerate(one)), dict(enumerate(other + 4)))["verdict"])
    assert verdicts.count("ahead") >= 36


def test_two_runs_of_a_side_give_no_verdict() -> None:
    near, far = level([0.5, 0.501, 0.502]), level([0.9, 0.901, 0.902])
    for few, verdict in ((3, "ahead"), (2, "open"), (1, "open")):
        assert beside("classify", dict(enumerate(near)), dict(enumerate(far[:few])))["verdict"] == verdict
        back = beside("classify", dict(enumerate(far[:few])), dict(enumerate(near)))
        assert back["verdict"] == {"ahead": "behind"}.get(verdict, verdict)


def test_the_chance_is_of_the_difference_that_is_told() -> None:
    """Five runs against two: of all 21 ways to divide the seven, and not of two runs on each side."""
    first, second = [0.7, 0.7, 0.8, 0.8, 0.8], [0.7, 0.7]
    pool, gap = [*first, *second], abs(np.mean(second) - np.mean(first))
    ways = [set(some) for some in itertools.combinations(range(7), 2)]
    gaps = [abs(np.mean([pool[at] for at in some]) - np.mean([pool[at] for at in {*range(7)} - some])) for some in ways]
    wanted = np.mean([each >= gap - 1e-9 for each in gaps])
    assert divided(first, second, seed=1) == pytest.approx(wanted)
    runs = [dict(enumerate(level(each))) for each in (first, second)]
    told = beside("classify", *runs)
    assert told["difference"] == pytest.approx(-0.06)
    assert told["chance"] == pytest.approx(wanted)
    assert told["verdict"] == "open", "two runs do not say how far others would lie from them"
    alone = beside("classify", runs[0], {1: runs[1][0]})
    assert "interval" not in alone
    assert alone["verdict"] == "open"


def test_many_runs_are_divided_by_lot() -> None:
    draw = np.random.default_rng(4)
    first, second = draw.normal(0, 1, 8), draw.normal(0.7, 1, 7)
    exact, lot = (divided(first.tolist(), second.tolist(), seed=1, samples=some) for some in (6435, 4000))
    assert 0.01 < exact < 0.9
    assert lot == pytest.approx(exact, abs=4 * np.sqrt(exact / 4000))
    assert divided([0.0] * 10, [1.0] * 10, seed=1, samples=99) == 0.01, "the way it is among them"


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: divided([], [1.0], seed=1), "0 and 1 runs are not two sides"),
        (lambda: scored(mean, level([1.0]), seed=1, samples=1), "1 resamples have no spread"),
        (lambda: apart(*two(level([1.0], 4), level([1.0], 5))), "on 4 and on 5 rows"),
        (lambda: pairs(*two(level([1.0]), level([1.0, 2.0]))), "1 runs and 2 runs"),
    ],
)
def test_what_is_no_two_sides_is_refused(call: Callable[[], Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        call()
