"""Totals from samples: exact where all was looked at, and bands that hold what they promise."""

import numpy as np
import pytest

from tundish.operators.ratio import Band, banded, drawn_again, total


def test_the_estimate_is_the_cost_a_size_times_the_size_of_all() -> None:
    costs, sizes = np.array([1.0, 2.0, 3.0]), np.array([10.0, 10.0, 20.0])
    assert total(costs, sizes, 400.0) == 400 * 6 / 40
    with pytest.raises(ValueError, match="a sample of 2 units has the size 0"):
        total(np.ones(2), np.zeros(2), 1.0)


def test_all_units_leave_no_doubt_and_one_of_several_leaves_all() -> None:
    costs, sizes = np.array([1.0, 5.0]), np.array([1.0, 2.0])
    assert banded(costs, sizes, 3.0, of=2) == Band(6.0, 6.0, 6.0)
    assert banded(costs[:1], sizes[:1], 3.0, of=2) == Band(3.0, 0.0, float("inf"))


def test_samples_drawn_again_have_as_many_units_and_the_same_ones_for_a_seed() -> None:
    times = drawn_again(7, 3, 500)
    assert times.shape == (500, 7)
    assert (times.sum(axis=1) == 7).all()
    assert times.mean(axis=0) == pytest.approx(np.ones(7), abs=0.15)
    assert (times == drawn_again(7, 3, 500)).all()
    assert (times != drawn_again(7, 4, 500)).any()


@pytest.mark.parametrize(("units", "least"), [(4, 0.80), (8, 0.80), (20, 0.82)])
def test_bands_hold_the_truth_about_as_often_as_they_say(units: int, least: float) -> None:
    """Sizes and costs a byte that scatter as real shards do. Nine of ten is what many shards reach."""
    rng, held = np.random.default_rng(11), 0
    for _ in range(300):
        sizes = rng.lognormal(0, 0.8, 200)
        costs = sizes * rng.lognormal(0, 0.4, 200)
        drawn = rng.choice(200, units, replace=False)
        held += banded(costs[drawn], sizes[drawn], sizes.sum(), of=200).holds(costs.sum())
    assert least <= held / 300 <= 0.97


def test_a_larger_part_of_all_makes_the_band_narrower() -> None:
    rng = np.random.default_rng(5)
    sizes, costs = rng.lognormal(0, 0.5, 10), rng.lognormal(0, 0.5, 10)
    few, most = (banded(costs, sizes, sizes.sum(), of=of) for of in (1000, 12))
    assert few.middle == most.middle
    assert most.high - most.low == pytest.approx((few.high - few.low) * np.sqrt(1 - 10 / 12) / np.sqrt(1 - 0.01))


def test_bands_add_up_and_are_widened() -> None:
    one = Band(10.0, 8.0, 13.0)
    assert one.times(2) == Band(20.0, 16.0, 26.0)
    assert one.plus(Band(1.0, 0.5, 2.0)) == Band(11.0, 8.5, 15.0)
    wide = one.widened(0.2)
    assert (10 - wide.low, wide.high - 10) == pytest.approx((np.hypot(2, 2), np.hypot(3, 2)))
    assert Band(1.0, 0.1, 2.0).widened(3.0).low == 0
    assert one.holds(8.0)
    assert not one.holds(13.1)
