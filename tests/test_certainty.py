"""How sure a result is: against tables, exact sums, simulation and analytic codes."""

import math
import re
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from tundish.operators.model import certainty, measures, scores

# Student's t, 0.975 and 0.995: any table
TABLE = {1: (12.706, 63.657), 2: (4.303, 9.925), 3: (3.182, 5.841), 4: (2.776, 4.604), 9: (2.262, 3.250),
         19: (2.093, 2.861), 30: (2.042, 2.750), 120: (1.980, 2.617)}  # fmt: skip


def test_students_quantiles_are_the_tables() -> None:
    for freedom, wanted in TABLE.items():
        assert tuple(round(certainty.student(share, freedom), 3) for share in (0.975, 0.995)) == wanted
    assert certainty.student(0.5, 5) == 0.0
    assert certainty.student(0.1, 7) == pytest.approx(-certainty.student(0.9, 7), rel=1e-12)


def test_students_quantiles_are_scipys() -> None:
    stats = pytest.importorskip("scipy.stats")
    for freedom in (1, 2, 3, 4, 5, 10, 51, 400):
        for share in (0.0005, 0.2, 0.6, 0.95, 0.9999):
            assert certainty.student(share, freedom) == pytest.approx(stats.t.ppf(share, freedom), rel=1e-9)


def test_the_interval_over_seeds() -> None:
    """Mean and 4.303 standard errors either way."""
    found = certainty.over_seeds([0.8, 0.9, 0.85])
    reach = certainty.student(0.975, 2) * 0.05 / math.sqrt(3)
    assert found == pytest.approx((0.85, 0.85 - reach, 0.85 + reach), rel=1e-12)
    assert certainty.over_seeds([0.5, 0.5]) == (0.5, 0.5, 0.5)


def test_intervals_over_seeds_hold_their_level() -> None:
    draw = np.random.default_rng(0)
    held = [low <= 3 <= high for _, low, high in map(certainty.over_seeds, draw.normal(3, 2, (600, 5)))]
    _, low, high = certainty.wilson(sum(held), 600, 0.9999)
    assert low < 0.95 < high


def test_an_interval_ends_where_its_measure_does() -> None:
    """Twice the arcsine of the root is where Student's interval is laid, as wide as the delta method makes it."""
    for some in ([0.8, 0.9, 0.85], [0.998, 1.0], [0.0, 1.0], [0.02, 0.0, 0.01], [0.3, 0.9]):
        value, low, high = certainty.over_seeds(some, bounds=(0.0, 1.0))
        assert 0 <= low < value < high <= 1
        moved, plain = [2 * math.asin(math.sqrt(each)) for each in (value, low, high)], certainty.over_seeds(some)
        reach = (plain.high - plain.low) / 2 / math.sqrt(value * (1 - value))
        wanted = max(0.0, moved[0] - reach), min(math.pi, moved[0] + reach)
        assert moved[1:] == pytest.approx(wanted, abs=1e-7)
    near, far = certainty.over_seeds([0.501, 0.499], bounds=(0, 1)), certainty.over_seeds([0.501, 0.499])
    assert near == pytest.approx(far, abs=1e-5), "far from both ends it is Student's"
    assert certainty.over_seeds([1.0, 1.0], bounds=(0, 1)) == (1.0, 1.0, 1.0)
    _, low, high = certainty.over_seeds([0.1, 3.0], bounds=(0, math.inf))
    assert (low, high > 3) == (0.0, True)
    turned = certainty.over_seeds([0.1, 0.4], bounds=(0, 1))
    assert certainty.over_seeds([0.9, 0.6], bounds=(0, 1))[1:] == pytest.approx((1 - turned.high, 1 - turned.low))
    wide = certainty.over_seeds([-0.8, -0.2], bounds=(-1, 1))
    assert wide == pytest.approx([2 * each - 1 for each in turned], abs=1e-12)


@pytest.mark.parametrize(("mean", "held"), [(0.97, 0.92), (0.9, 0.93)])
def test_bounded_intervals_hold_their_level_near_the_end(mean: float, held: float) -> None:
    """Where Student's, cut at the end, holds less of the same draws."""
    draws = np.random.default_rng(7).beta(60 * mean, 60 * (1 - mean), (1500, 3))
    inside = [low <= mean <= high for _, low, high in (certainty.over_seeds(one, bounds=(0, 1)) for one in draws)]
    plain = [low <= mean <= high for _, low, high in map(certainty.over_seeds, draws)]
    assert held < np.mean(inside) < 0.97
    assert np.mean(inside) >= np.mean(plain)


# -- over examples


def test_the_bootstrap_of_a_mean_is_nearly_normal() -> None:
    draw = np.random.default_rng(1)
    truth = draw.integers(0, 2, 400)
    guesses = np.where(draw.random(400) < 0.8, truth, 1 - truth)
    share = scores.accuracy(truth, guesses)
    found = certainty.bootstrap(scores.accuracy, truth, guesses, seed=3, samples=4000)
    assert found.value == share
    error = math.sqrt(share * (1 - share) / 400)
    assert found.low == pytest.approx(share - 1.96 * error, abs=0.006)
    assert found.high == pytest.approx(share + 1.96 * error, abs=0.006)


def test_the_bootstrap_is_its_seeds_and_rows_stay_together() -> None:
    truth = np.arange(30)
    one, same, other = (
        certainty.bootstrap(measures.pearson, truth, truth**2, seed=seed, samples=50) for seed in (1, 1, 2)
    )
    assert one == same != other
    assert certainty.bootstrap(measures.pearson, truth, 2 * truth, seed=1, samples=20) == pytest.approx((1, 1, 1))
    narrow = certainty.bootstrap(measures.pearson, truth, truth**2, seed=1, samples=50, level=0.5)
    assert one.low < narrow.low < narrow.high < one.high


def test_two_systems_on_the_same_examples() -> None:
    """A second system that mends a tenth of the first one's errors and makes none is better for sure, though its own
    interval overlaps the first one's."""
    draw = np.random.default_rng(2)
    truth = np.ones(500, int)
    first = (draw.random(500) < 0.7).astype(int)
    second = first | (draw.random(500) < 0.1)
    found = certainty.paired(scores.accuracy, truth, first, second, seed=4, samples=500)
    assert found.value == pytest.approx((second - first).mean())
    assert 0 < found.low < found.value < found.high
    assert found.doubt == 0
    alone = [certainty.bootstrap(scores.accuracy, truth, each, seed=4, samples=500) for each in (first, second)]
    assert alone[0].high > alone[1].low
    back = certainty.paired(scores.accuracy, truth, second, first, seed=4, samples=500)
    assert back == pytest.approx((-found.value, -found.high, -found.low, 0.0))
    assert certainty.paired(scores.accuracy, truth, first, first, seed=4, samples=10) == (0.0, 0.0, 0.0, 1.0)
    noise = certainty.paired(scores.accuracy, truth, first, draw.permutation(first) ^ (np.arange(500) < 1), seed=4)
    assert noise.low < 0 < noise.high
    assert noise.doubt > 0.05


def right(units: np.ndarray) -> float:
    return float(units.mean())


def test_runs_and_rows_are_drawn_anew_at_once() -> None:
    """Scores that add up from independent rows and runs: the spread is that of a mean over each."""
    draw = np.random.default_rng(5)
    runs, rows = draw.normal(0, 0.5, 40), draw.normal(0, 1.0, 300)
    first = np.zeros((40, 300))
    second = 0.3 + runs[:, None] + rows[None, :]
    found = certainty.between(right, first, second, seed=1, samples=2000)
    assert found.value == pytest.approx(second.mean())
    spread = math.sqrt(runs.var() / 40 + rows.var() / 300)
    assert found.low == pytest.approx(found.value - 1.96 * spread, abs=0.15 * spread)
    assert found.high == pytest.approx(found.value + 1.96 * spread, abs=0.15 * spread)
    alone = certainty.between(right, first[:1], second[:1], seed=1, samples=2000)
    assert alone.high - alone.low == pytest.approx(2 * 1.96 * math.sqrt(rows.var() / 300), rel=0.1)


def test_paired_runs_share_what_their_seed_does() -> None:
    """A seed that helps both sides alike says nothing of their difference, unless its runs are drawn apart."""
    luck = np.random.default_rng(6).normal(0, 1, (8, 1)) * np.ones((1, 50))
    tied = certainty.between(right, luck, luck + 0.1, seed=2, samples=300)
    assert tied == pytest.approx((0.1, 0.1, 0.1, 0.0))
    apart = certainty.between(right, luck, luck + 0.1, seed=2, samples=300, together=False)
    assert apart.low < 0 < apart.high
    uneven = certainty.between(right, luck[:3], luck + 9.0, seed=2, samples=300, together=False)
    assert 0 < uneven.low < uneven.value < uneven.high
    assert uneven.doubt == 0
    same = certainty.between(right, luck, luck, seed=2, samples=10)
    assert same == (0.0, 0.0, 0.0, 1.0)


def test_exchanging_is_the_exact_sign_test_where_all_exchanges_can_be_listed() -> None:
    draw = np.random.default_rng(7)
    first, second = draw.integers(0, 2, (2, 2, 9, 1)).astype(float)
    second[:, :6] = 1.0
    gaps = (second - first).mean(0)[:, 0]
    signs = 1 - 2 * ((np.arange(2**9)[:, None] >> np.arange(9)) & 1)
    exact = (np.abs(signs @ gaps) >= abs(gaps.sum()) - 1e-9).mean()
    assert 0.01 < exact < 0.9
    found = certainty.exchanged(right, first, second, seed=3, samples=4000)
    assert found == pytest.approx(exact, abs=4 * math.sqrt(exact / 4000))
    assert found == certainty.exchanged(right, first, second, seed=3, samples=4000)
    assert certainty.exchanged(right, first, first, seed=3, samples=20) == 1.0
    sure = certainty.exchanged(right, np.zeros((1, 200, 1)), np.ones((1, 200, 1)), seed=3, samples=99)
    assert sure == 0.01, "the difference itself is one of them"


def test_exchanges_find_what_is_there_as_often_as_they_say() -> None:
    """Of systems that are one, a chance below a tenth comes one time in ten."""
    draw = np.random.default_rng(8)
    chances = [
        certainty.exchanged(right, *draw.normal(0, 1, (2, 3, 30, 1)), seed=each, samples=39) for each in range(250)
    ]
    share, low, high = certainty.wilson(sum(chance <= 0.1 for chance in chances), 250, 0.999)
    assert low < 0.1 < high, share


def test_splits_that_share_examples_are_less_sure_than_runs() -> None:
    """Nadeau and Bengio: 1/J + n2/n1 in the place of 1/J."""
    scores = [0.8, 0.82, 0.77, 0.81]
    spread = np.std(scores, ddof=1)
    reach = certainty.student(0.975, 3) * spread * math.sqrt(1 / 4 + 0.25)
    mean = np.mean(scores)
    assert certainty.over_splits(scores, 0.25) == pytest.approx((mean, mean - reach, mean + reach), rel=1e-12)
    plain = certainty.over_seeds(scores)
    assert certainty.over_splits(scores, 1e-12) == pytest.approx(plain)


def test_wilsons_interval_solves_its_equation() -> None:
    """Its ends are the p at which the share seen is z standard errors of p away."""
    for right, total in ((0, 1), (0, 20), (1, 9), (50, 100), (7, 7)):
        found = certainty.wilson(right, total)
        for end in found[1:]:
            if 0 < end < 1:
                away = abs(right / total - end) / math.sqrt(end * (1 - end) / total)
                assert away == pytest.approx(1.959963984540054, rel=1e-9)
        assert found.low <= found.value <= found.high
    assert certainty.wilson(0, 20).low == 0
    assert certainty.wilson(7, 7).high == 1


# -- over runs and trials


def test_runs_that_learnt_no_more_than_the_majority_failed() -> None:
    truth = np.array([1, 1, 0, 1, 0])
    base = certainty.majority(truth, scores.accuracy)
    assert base == 0.6
    assert certainty.majority(truth, measures.matthews) == 0.0
    assert certainty.majority(truth, lambda a, b: scores.f1(a, b, 1)) == pytest.approx(0.75)
    found = certainty.failed([0.6, 0.8, 0.2, math.nan, 1.0], base)
    assert found.tolist() == [True, False, True, True, False]
    entropy = scores.unigram_entropy(np.bincount(truth))
    stuck = certainty.failed([0.8, 0.8, 0.8], base, losses=[0.1, entropy, math.nan], entropy=entropy)
    assert stuck.tolist() == [False, True, True]


def test_the_best_of_n_trials_is_what_simulation_finds() -> None:
    draw = np.random.default_rng(3)
    seen = np.round(draw.beta(4, 2, 12), 1)  # with ties
    found = certainty.expected_best(seen, 20)
    assert found.mean[0] == pytest.approx(seen.mean(), rel=1e-12)
    assert found.deviation[0] == pytest.approx(seen.std(), rel=1e-12)
    for n in (1, 2, 3, 7, 20):
        best = draw.choice(seen, (100_000, n)).max(1)
        assert found.mean[n - 1] == pytest.approx(best.mean(), abs=5 * best.std() / math.sqrt(100_000) + 1e-9)
        assert found.deviation[n - 1] == pytest.approx(best.std(), abs=0.01)
    assert (np.diff(found.mean) >= 0).all()
    assert found.mean[-1] <= seen.max()
    assert len(certainty.expected_best(seen).mean) == 12


# -- over examples seen


@pytest.mark.parametrize("classes", [2, 5])
def test_the_code_of_an_adaptive_model_is_its_marginal_likelihood(classes: int) -> None:
    """Counts plus 1/2 as shares (a Dirichlet prior; Krichevsky and Trofimov): label by label they send a sequence in
    -log2 of its marginal likelihood, which is a quotient of gamma functions."""
    draw = np.random.default_rng(classes)
    labels = draw.choice(classes, 300, p=draw.dirichlet(np.ones(classes)))
    losses, counts = [], np.full(classes, 0.5)
    counts[labels[0]] += 1
    for label in labels[1:]:
        losses.append(-math.log(counts[label] / counts.sum()))
        counts[label] += 1
    found = certainty.code_length(range(1, 301), losses, classes)
    totals = np.bincount(labels, minlength=classes)
    marginal = math.lgamma(classes / 2) - math.lgamma(classes / 2 + 300)
    marginal += sum(math.lgamma(0.5 + each) - math.lgamma(0.5) for each in totals)
    assert found.bits == pytest.approx(-marginal / math.log(2), rel=1e-10)  # its first label is sent uniformly as well
    assert found.uniform == pytest.approx(300 * math.log2(classes))
    assert found.compression == pytest.approx(found.uniform / found.bits)
    by_blocks = certainty.code_length([1, 100, 300], [sum(losses[:99]), sum(losses[99:])], classes)
    assert by_blocks == pytest.approx(found)


def test_a_model_that_knows_nothing_compresses_nothing() -> None:
    found = certainty.code_length([10, 20, 40], [10 * math.log(3), 20 * math.log(3)], 3)
    assert found.compression == pytest.approx(1.0)
    assert certainty.code_length([10], [], 3).bits == pytest.approx(10 * math.log2(3))


def test_sizes_double_up_to_the_last() -> None:
    for total, first in ((1, 1), (64, 64), (65, 64), (1000, 7), (5, 9)):
        sizes = certainty.doubling(total, first)
        assert sizes[-1] == total
        assert sizes[0] == min(first, total)
        assert all(b == 2 * a for a, b in pairwise(sizes[:-1]))
        assert len(sizes) < 2 or sizes[-2] < sizes[-1] <= 2 * sizes[-2]


def test_a_curve_has_an_interval_at_each_size() -> None:
    runs = [[0.5, 0.6, 0.4], [0.7, 0.72, 0.71]]
    found = certainty.efficiency([100, 200], runs, 0.9)
    assert [point.size for point in found] == [100, 200]
    for point, each in zip(found, runs, strict=True):
        assert point[1:] == certainty.over_seeds(each, 0.9)


BAD: list[tuple[Callable[[], Any], str]] = [
    (lambda: certainty.over_seeds([0.5]), "more scores than 1"),
    (lambda: certainty.over_seeds([0.5, 0.6], 95), "95 is no level"),
    (lambda: certainty.over_seeds([0.5, 1.6], bounds=(0.0, 1.0)), "0.5 to 1.6 lies outside 0.0 to 1.0"),
    (lambda: certainty.over_splits([-0.5, 0.6], 0.5, bounds=(0.0, 1.0)), "-0.5 to 0.6 lies outside"),
    (lambda: certainty.student(1.0, 3), "no quantile 1.0"),
    (lambda: certainty.bootstrap(scores.accuracy, [], [], seed=0), "there are no examples"),
    (lambda: certainty.bootstrap(scores.accuracy, [1, 0], [1], seed=0), "2 examples and 1 guesses"),
    (lambda: certainty.bootstrap(scores.accuracy, [1], [1], seed=0, samples=0), "0 resamples"),
    (lambda: certainty.paired(scores.accuracy, [1, 0], [1, 0], [1], seed=0), "2 examples and 1 guesses"),
    (lambda: certainty.between(right, [[[1]]], [[[1], [0]]], seed=0), "1 examples and 2 examples"),
    (lambda: certainty.between(right, [[[1]]], [[[1]], [[0]]], seed=0), "1 runs and 2 runs"),
    (lambda: certainty.between(right, [[[1]]], [[[1]]], seed=0, samples=0), "0 resamples"),
    (lambda: certainty.exchanged(right, [[[1]]], [[[1]], [[0]]], seed=0), "1 runs and 2 runs"),
    (lambda: certainty.exchanged(right, [[[1]]], [[[1]]], seed=0, samples=0), "0 resamples give no chance"),
    (lambda: certainty.over_splits([0.5, 0.6], 0.0), "ratio of test to train is 0.0"),
    (lambda: certainty.wilson(3, 2), "3 of 2 is no share"),
    (lambda: certainty.majority(np.array([]), scores.accuracy), "there are no labels"),
    (lambda: certainty.failed([0.5], 0.4, losses=[0.1]), "give both"),
    (lambda: certainty.failed([0.5], 0.4, losses=[0.1, 0.2], entropy=0.6), "1 scores and 2 losses"),
    (lambda: certainty.expected_best([]), "there are no scores"),
    (lambda: certainty.expected_best([0.5, math.nan]), "score nan has no order"),
    (lambda: certainty.code_length([2, 2], [0.0], 2), "make no code"),
    (lambda: certainty.code_length([1, 2], [], 2), "have 1 blocks and not 0"),
    (lambda: certainty.code_length([1, 2], [0.0], 1), "make no code"),
    (lambda: certainty.doubling(10, 0), "no sizes lead from 0"),
    (lambda: certainty.efficiency([10], [[0.5], [0.6]]), "1 sizes and 2 rows of scores"),
]


@pytest.mark.parametrize(("asked", "told"), BAD)
def test_what_leaves_nothing_to_say_is_refused(asked: Callable[[], Any], told: str) -> None:
    with pytest.raises(ValueError, match=re.escape(told)):
        asked()
