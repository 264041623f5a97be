"""Schedules against what they are to be at their corners, and ramps of batches against a step-by-step twin."""

import math
from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tundish.operators.model.plan import Plan, Stretch
from tundish.operators.model.ramp import ramp, reached, steps_for
from tundish.operators.model.schedules import SCHEDULES, parameters, schedule, warm_linear, warm_stable_decay
from tundish.operators.model.tour import Source

GIVEN = {
    "warm-stable-decay": {"warm": 0.05, "decay": 0.2},
    "warm-stable-linear": {"warm": 0.05, "decay": 0.2},
    "warm-linear": {"warm": 0.05, "floor": 0.02},
    "warm-cosine": {"warm": 0.05, "floor": 0.1},
    "warm-constant": {"warm": 0.05},
    "inverse-root": {"warm": 0.05, "rising": True},
    "triangle": {"start": 0.25, "decay": 0.25},
}


def test_rates_rise_stay_and_fall_without_a_jump():
    rates = [warm_stable_decay(step, steps=1000, warm=0.05, decay=0.2) for step in range(1000)]
    assert rates[0] == pytest.approx(1 / 50)
    assert rates[49:801] == [1.0] * 752
    assert max(np.abs(np.diff(rates[49:]))) < 0.08  # the root falls steepest at once: sqrt(1/200)
    assert rates[850] == pytest.approx(1 - math.sqrt(50 / 200))
    assert 0 < rates[-1] < 0.01
    assert warm_stable_decay(0, steps=1, warm=0.0, decay=0.0) == 1.0
    assert warm_stable_decay(0, steps=1, warm=0.05, decay=0.2) == 1.0
    line = [warm_linear(step, steps=100, warm=0.1) for step in range(100)]
    assert np.diff(line[10:]) == pytest.approx(-1 / 90)
    assert line[9] == 1.0
    assert line[-1] > 0


def test_all_schedules_are_here():
    assert set(GIVEN) == set(SCHEDULES)


@pytest.mark.parametrize("name", GIVEN)
@pytest.mark.parametrize("steps", [1, 2, 7, 1000])
def test_a_rate_is_a_share_above_nothing_and_reaches_its_peak(name, steps):
    at = schedule(name, steps, **GIVEN[name])
    rates = [at(step) for step in range(steps)]
    assert all(0 < rate <= 1 for rate in rates)
    if steps == 1000:
        assert max(rates) > 0.998
        rising = rates[: int(np.argmax(rates)) + 1]
        assert rising == sorted(rising)
        falling = rates[int(np.argmax(rates)) :]
        assert falling == sorted(falling, reverse=True)


@pytest.mark.parametrize("name", GIVEN)
def test_a_longer_run_is_the_same_schedule_stretched(name):
    short, long = (schedule(name, steps, **GIVEN[name]) for steps in (1000, 4000))
    assert max(abs(short(step) - long(4 * step)) for step in range(50, 1000)) < 0.03


def test_corners():
    line = schedule("warm-stable-linear", 1000, warm=0.05, decay=0.2)
    assert [line(step) for step in (49, 800, 900)] == [1.0, 1.0, 0.5]
    assert line(999) == pytest.approx(1 / 200)
    mosaic = schedule("warm-linear", 1000, warm=0.06, floor=0.02)
    assert [mosaic(59), mosaic(60)] == [1.0, 1.0]
    assert mosaic(999) == pytest.approx(0.02 + 0.98 / 940)
    cosine = schedule("warm-cosine", 1000, warm=0.1, floor=0.1)
    assert cosine(550) == pytest.approx(0.55)
    assert cosine(999) == pytest.approx(0.1, abs=1e-5)
    # T5: 1 / sqrt(max(n, 10^4)), here as a share of its peak of 0.01
    t5 = schedule("inverse-root", 1_000_000, warm=0.01)
    assert [t5(step - 1) * 0.01 for step in (1, 10_000, 40_000, 1_000_000)] == pytest.approx([0.01, 0.01, 0.005, 0.001])
    # cramming: min(0.25 + x * (1 - 0.25) / (1 - 0.25), 1 / 0.25 - x / 0.25)
    crammed = schedule("triangle", 1000)
    for step in range(1000):
        x = step / 1000
        assert crammed(step) == pytest.approx(min(0.25 + x * 0.75 / 0.75, 4 - 4 * x))


def test_what_a_schedule_refuses():
    assert parameters("triangle") == {"start": 0.25, "decay": 0.25}
    for name, steps, given_, told in (
        ("wsd", 10, {}, "'wsd' is not known; choose one of warm-stable-decay, warm-stable-linear"),
        ("warm-linear", 10, {}, "was given nothing; it takes warm, floor=0.0"),
        ("warm-linear", 10, {"warm": 0.1, "decay": 0.1}, "was given warm=0.1, decay=0.1; it takes warm, floor=0.0"),
        ("warm-linear", 0, {"warm": 0.1}, "over 0 steps"),
        ("warm-linear", 10, {"warm": 10}, "warm of the schedule 'warm-linear' is 10; give a share"),
        ("warm-stable-decay", 10, {"warm": 0.6, "decay": 0.6}, "fill 1.2 of the run"),
    ):
        with pytest.raises(ValueError, match=told):
            schedule(name, steps, **given_)


def slow_ramp(first, last, tokens, row, multiple):
    """A step at a time, with fractions; the sizes of the steps until the last size is reached."""
    sizes, seen = [], 0
    while True:
        line = last if seen * row >= tokens else first + Fraction((last - first) * seen * row, tokens)
        sizes.append(int(line // multiple) * multiple)
        if sizes[-1] == last:
            return sizes
        seen += sizes[-1]


@given(st.integers(1, 6), st.integers(0, 12), st.integers(0, 3000), st.integers(1, 40), st.integers(1, 5))
def test_a_ramp_is_the_line_rounded_down(first, more, tokens, row, multiple):
    first, last = first * multiple, (first + more) * multiple
    batches = ramp(first, last, tokens=tokens, row=row, multiple=multiple)
    sizes = slow_ramp(first, last, tokens, row, multiple)
    spread = [size for (at, size), (after, _) in pairwise(batches) for _ in range(at, after)]
    assert [*spread, batches[-1][1]] == sizes
    assert len({size for _, size in batches}) == len(batches)
    assert reached(0, first, last, tokens=tokens, row=row, multiple=multiple) == sizes[0]


@given(st.integers(1, 6), st.integers(0, 12), st.integers(0, 600), st.integers(0, 400))
def test_a_plan_counts_as_the_ramp_does(first, more, tokens, rows):
    batches = ramp(first, first + more, tokens=tokens, row=10)
    plan = Plan(0, (Source("a", (1000,), ""),), (Stretch(0, (("a", 1000),)),), batches)
    steps = steps_for(rows, batches)
    assert plan.consumed(steps) >= rows
    assert steps == 0 or plan.consumed(steps - 1) < rows


def test_a_ramp_of_the_recipe_is_exact():
    """ModernBERT: from 576 to 4,608 rows of 1,024 tokens over 50 billion tokens."""
    batches = ramp(576, 4608, tokens=50_000_000_000, row=1024, multiple=192)
    assert (batches[0], batches[-1][1], len(batches)) == ((0, 576), 4608, 22)
    seen = sum(size * (after - at) for (at, size), (after, _) in pairwise(batches)) * 1024
    assert 0 <= seen - 50_000_000_000 < 4608 * 1024


def test_what_a_ramp_refuses():
    for first, last, told in ((6, 9, "no multiples of 2"), (8, 4, "cannot grow"), (0, 4, "no batch")):
        with pytest.raises(ValueError, match=told):
            ramp(first, last, tokens=10, row=10, multiple=2)
    with pytest.raises(ValueError, match="give one at step 0"):
        steps_for(10, ())
