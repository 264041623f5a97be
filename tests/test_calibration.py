"""Calibration: bins and errors against slow loops and known cases, temperatures against those that were put in."""

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tundish.operators.model import calibration, measures


def rows(count: int, classes: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Classes and shares that are rounded, so that many are equal and some lie on edges."""
    draw = np.random.default_rng(seed)
    shares = np.round(draw.dirichlet(np.full(classes, 0.5), count), 1)
    shares[:, 0] += 1 - shares.sum(1)
    shares = np.clip(shares, 0, 1)
    return draw.integers(0, classes, count), shares / shares.sum(1, keepdims=True)


def slow_width(confidence: np.ndarray, right: np.ndarray, bins: int) -> list[tuple[float, float, int]]:
    """Bin by bin: (mean confidence, accuracy, count) of those above its lower end and not above its upper."""
    found = []
    for at in range(bins):
        low, high = (-1.0 if at == 0 else at / bins), (at + 1) / bins
        here = (confidence > low) & (confidence <= high)
        if here.any():
            found.append((confidence[here].mean(), right[here].mean(), int(here.sum())))
    return found


@pytest.mark.parametrize("bins", [1, 3, 10, 15])
def test_bins_and_errors_of_equal_width_are_the_loops(bins: int) -> None:
    for seed in range(10):
        truth, shares = rows(137, 4, seed)
        wanted = slow_width(shares.max(1), shares.argmax(1) == truth, bins)
        found = calibration.reliability(truth, shares, bins=bins)
        np.testing.assert_allclose(np.stack(found[:3], 1), wanted, rtol=1e-12)
        gaps = [abs(confidence - accuracy) for confidence, accuracy, _ in wanted]
        error = sum(gap * count for gap, (*_, count) in zip(gaps, wanted, strict=True)) / 137
        assert calibration.expected_error(truth, shares, bins=bins) == pytest.approx(error, rel=1e-12)
        assert calibration.maximum_error(truth, shares, bins=bins) == pytest.approx(max(gaps), rel=1e-12)
        classes = [slow_width(shares[:, each], truth == each, bins) for each in range(4)]
        by_class = np.mean([sum(abs(c - a) * n for c, a, n in each) / 137 for each in classes])
        worst = max(abs(c - a) for each in classes for c, a, _ in each)
        assert calibration.expected_error(truth, shares, bins=bins, by="class") == pytest.approx(by_class, rel=1e-12)
        assert calibration.maximum_error(truth, shares, bins=bins, by="class") == pytest.approx(worst, rel=1e-12)


def test_bins_of_equal_mass_hold_equally_many_and_part_nothing_equal() -> None:
    draw = np.random.default_rng(0)
    confidence, right = draw.random(120), draw.random(120) < 0.5
    found = calibration.binned(confidence, right, bins=8, equal="mass")
    assert found.count.tolist() == [15] * 8
    ordered = np.argsort(confidence)
    for at, part in enumerate(np.split(ordered, 8)):
        assert found.confidence[at] == pytest.approx(confidence[part].mean(), rel=1e-12)
        assert found.accuracy[at] == pytest.approx(right[part].mean(), rel=1e-12)
        assert found.low[at] == confidence[part].min()
    assert (found.high[:-1] == found.low[1:]).all()
    rough = np.round(confidence, 1)
    found = calibration.binned(rough, right, bins=8, equal="mass")
    assert found.count.sum() == 120
    for low, high, count in zip(found.low, np.append(found.low[1:], 2), found.count, strict=True):
        assert ((low <= rough) & (rough < high)).sum() == count


@pytest.mark.parametrize("equal", ["width", "mass"])
def test_the_order_of_rows_is_of_no_consequence(equal: str) -> None:
    truth, shares = rows(300, 3, 5)
    turned = np.random.default_rng(1).permutation(300)
    for by in ("top", "class"):
        one, other = (
            calibration.expected_error(truth[order], shares[order], bins=7, equal=equal, by=by)
            for order in (np.arange(300), turned)
        )
        assert one == pytest.approx(other, rel=1e-12)


def test_known_errors() -> None:
    """Always 0.9 sure and right in 6 of 10: 0.3 whatever the bins. As sure as right: none."""
    truth, shares = np.array([0] * 6 + [1] * 4), np.tile([0.9, 0.1], (10, 1))
    for equal in ("width", "mass"):
        for error in (calibration.expected_error, calibration.maximum_error):
            for by in ("top", "class"):
                assert error(truth, shares, equal=equal, by=by) == pytest.approx(0.3, rel=1e-12)
    shares = np.tile([0.6, 0.4], (10, 1))
    assert calibration.expected_error(truth, shares, by="class") == pytest.approx(0.0, abs=1e-12)
    sure = np.linspace(0.5, 1, 20_001)  # right half of the time: the mean of p - 1/2, which is 1/4
    found = calibration.expected_error(np.arange(20_001) % 2, np.stack([sure, 1 - sure], 1), bins=50)
    assert found == pytest.approx(0.25, abs=1e-3)


def test_outputs_of_their_own_say_the_likelier_of_two() -> None:
    truth, given = rows(200, 2, 9)
    both, single = calibration.reliability(truth, given), calibration.reliability(truth, given[:, 1])
    for one, other in zip(both, single, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-12)
    columns = np.stack([given[:, 1], given[:, 0]], 1)
    labels = np.stack([truth, 1 - truth], 1)
    wanted = np.mean([calibration.expected_error(t, g, by="class") for t, g in zip(labels.T, columns.T, strict=True)])
    assert calibration.expected_error(labels, columns, by="class") == pytest.approx(wanted, rel=1e-12)


# -- temperature


@pytest.mark.parametrize("known", [0.3, 1.0, 2.5, 8.0])
def test_a_known_temperature_comes_back(known: float) -> None:
    """Labels drawn from softmax(logits / T) and from sigmoid(logits / T); the error of so many is about 1 %."""
    draw = np.random.default_rng(int(known * 10))
    logits = draw.normal(size=(60_000, 5)) * 2 * known
    shares = calibration.softmax(logits, known)
    truth = (shares.cumsum(1) < draw.random((60_000, 1))).sum(1).clip(max=4)
    assert calibration.temperature(truth, logits) == pytest.approx(known, rel=0.03)
    ones = draw.random(logits.shape) < calibration.sigmoid(logits, known)
    assert calibration.temperature(ones, logits) == pytest.approx(known, rel=0.03)
    assert calibration.temperature(ones[:, 0], logits[:, 0]) == pytest.approx(known, rel=0.05)


def test_no_other_temperature_is_better() -> None:
    """Of the rows and of the pseudo-rows together, each of these as many classes as it foretells at 1."""
    fitted = 0
    for seed in range(40):
        draw = np.random.default_rng(seed)
        classes = int(draw.integers(2, 6))
        logits = draw.normal(size=(40, classes)) * draw.choice([0.1, 1, 3, 30])
        truth = np.where(draw.random(40) < 0.5, logits.argmax(1), draw.integers(0, classes, 40))
        found = calibration.temperature(truth, logits)
        if found == 1.0:
            continue
        fitted += 1
        tried = [0.05, 20.0, *np.clip(found * np.array([0.5, 0.9, 0.999, 1.001, 1.1, 2]), 0.05, 20)]
        best = loss(truth, logits, found)
        assert all(best <= loss(truth, logits, each) + 1e-12 for each in tried)
        assert 0.05 < found < 20
    assert fitted > 15


def loss(truth: np.ndarray, logits: np.ndarray, temperature: float) -> float:
    """Log loss of the rows and the pseudo-rows, without clipping, a row at a time."""
    total, each = 0.0, calibration.PSEUDO / len(truth)
    for label, row in zip(truth, logits, strict=True):
        logs = np.log(np.exp((row - row.max()) / temperature).sum()) - (row - row.max()) / temperature
        shares = np.exp(row - row.max()) / np.exp(row - row.max()).sum()
        total += logs[label] + each * float(shares @ logs)
    return total


def test_where_there_is_no_temperature_it_is_1() -> None:
    """All told rightly, told wrongly throughout, told nothing: the rows alone would run to a bound, or anywhere."""
    logits = np.array([[2.0, 0.0], [0.0, 1.0]])
    assert calibration.temperature([0, 1], logits) == 1.0
    assert calibration.temperature([1, 0], logits) == 1.0
    assert calibration.temperature([1, 0], np.full((2, 2), 7.0)) == 1.0
    assert calibration.temperature([1, 0], np.zeros(2)) == 1.0
    many = np.random.default_rng(1).normal(size=(3000, 4)) * 5
    assert calibration.temperature(many.argmax(1), many) == 1.0
    assert calibration.temperature((many > 0).astype(int), many) == 1.0, "labels each of their own"


def test_five_rows_hardly_move_it() -> None:
    """Labels of chance, of which the rows alone would often make 10 and more."""
    moved = []
    for seed in range(200):
        draw = np.random.default_rng(seed)
        logits = draw.normal(size=(5, 3)) * 2
        moved.append(calibration.temperature(draw.integers(0, 3, 5), logits))
    assert len({each for each in moved if each != 1.0}) > 50, "it is fitted"
    assert 0.8 < min(moved) <= max(moved) < 1.9
    assert 0.9 < float(np.exp(np.abs(np.log(moved)).mean())) < 1.3


@pytest.mark.parametrize("known", [0.5, 1.5, 3.0])
def test_two_thousand_rows_do(known: float) -> None:
    """On average over draws within 3 %: the pseudo-rows pull to 1, and by no more."""
    found = []
    for seed in range(8):
        draw = np.random.default_rng(seed)
        logits = draw.normal(size=(2000, 4)) * 2 * known
        truth = (calibration.softmax(logits, known).cumsum(1) < draw.random((2000, 1))).sum(1).clip(max=3)
        found.append(calibration.temperature(truth, logits))
    assert float(np.mean(found)) == pytest.approx(known, rel=0.03)
    assert max(abs(each / known - 1) for each in found) < 0.1


def test_a_temperature_mends_what_is_too_sure() -> None:
    draw = np.random.default_rng(4)
    logits = draw.normal(size=(4000, 3))
    truth = (calibration.softmax(logits).cumsum(1) < draw.random((4000, 1))).sum(1).clip(max=2)
    half = calibration.temperature(truth[:2000], 6 * logits[:2000])
    before, after = (calibration.softmax(6 * logits[2000:], at) for at in (1.0, half))
    assert (
        calibration.expected_error(truth[2000:], after) < 0.05 < 0.2 < calibration.expected_error(truth[2000:], before)
    )
    assert measures.log_loss(truth[2000:], after) < measures.log_loss(truth[2000:], before)
    assert (after.argmax(1) == before.argmax(1)).all()


def test_shares_of_extreme_logits_are_finite() -> None:
    assert calibration.softmax([1e4, 0.0, -1e4]).tolist() == [1.0, 0.0, 0.0]
    np.testing.assert_allclose(
        calibration.sigmoid([-1e4, -1.0, 0.0, 1.0, 1e4]), [0, 1 / (1 + np.e), 0.5, 1 / (1 + np.exp(-1)), 1]
    )
    np.testing.assert_allclose(calibration.softmax([[3.0, 1.0]], 2.0)[0, 0], calibration.sigmoid(2.0, 2.0), rtol=1e-12)


ONE = np.array([[0.5, 0.5]])
BAD: list[tuple[Callable[[], Any], str]] = [
    (lambda: calibration.expected_error([0], [[0.5, 0.6]]), "row 0 sum to 1.1"),
    (lambda: calibration.expected_error([], []), "there are no labels"),
    (lambda: calibration.expected_error([0], ONE, bins=0), "0 bins"),
    (lambda: calibration.expected_error([0], ONE, equal="size"), "equal 'size'"),
    (lambda: calibration.expected_error([0], ONE, by="row"), "calibration by 'row'"),
    (lambda: calibration.temperature([0, 1], [[0.0, np.inf], [0.0, 1.0]]), "logit inf has no temperature"),
    (lambda: calibration.temperature([0, 1], [[0.0, 1.0]]), "2 labels and 1 guesses"),
    (lambda: calibration.temperature([2], [[0.0, 1.0]]), "label 2 has no output"),
    (lambda: calibration.softmax([0.0], 0.0), "0.0 is no temperature"),
]


@pytest.mark.parametrize(("asked", "told"), BAD)
def test_what_cannot_be_calibrated_is_refused(asked: Callable[[], Any], told: str) -> None:
    with pytest.raises(ValueError, match=re.escape(told)):
        asked()
