"""Measures of classes, sets of labels, numbers, scores and probabilities against scikit-learn."""

import re
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from tundish.operators.model import measures, scores
from tundish.operators.tallies import Tally, averaged

theirs = pytest.importorskip("sklearn.metrics")
WAYS = ("micro", "macro", "weighted")


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """scikit-learn warns of classes that are never guessed or never there."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def labelled() -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Classes and guesses: odd numbers of classes, some never guessed, some never there, all one class, all wrong."""
    draw = np.random.default_rng(0)
    for classes in (1, 2, 3, 7):
        for count in (1, 2, 9, 200):
            for _ in range(5):
                truth = draw.choice(classes, count, p=draw.dirichlet(np.ones(classes) * 0.7))
                yield truth, np.where(draw.random(count) < 0.6, truth, draw.integers(0, classes, count))
    yield np.array([0, 0, 3, 3]), np.array([0, 5, 5, 0])
    yield np.array([2, 2, 2]), np.array([1, 1, 1])
    yield np.array([0, 1, 2]), np.array([1, 1, 1])


def sets() -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Sets of labels: empty rows, columns never there or never guessed."""
    draw = np.random.default_rng(1)
    for columns in (1, 2, 5):
        for count in (1, 3, 60):
            for _ in range(5):
                truth = (draw.random((count, columns)) < draw.random(columns) * 0.6).astype(int)
                yield truth, np.where(draw.random(truth.shape) < 0.7, truth, draw.random(truth.shape) < 0.4).astype(int)
    yield np.zeros((3, 2), int), np.zeros((3, 2), int)


def close(found: Any, wanted: Any) -> None:
    np.testing.assert_allclose(np.array(found, float), np.array(wanted, float), rtol=1e-10, atol=1e-14)


# -- classes


def test_shares_of_classes_are_scikit_learns() -> None:
    for truth, guesses in labelled():
        size = int(max(truth.max(), guesses.max())) + 2
        every = list(range(size))
        assert (measures.confusion(truth, guesses, size) == theirs.confusion_matrix(truth, guesses, labels=every)).all()
        wanted = theirs.precision_recall_fscore_support(truth, guesses, labels=every, zero_division=0)
        close(measures.per_class(truth, guesses, size), wanted)
        for way in WAYS:
            found = measures.average(truth, guesses, way)
            close(found[:3], theirs.precision_recall_fscore_support(truth, guesses, average=way, zero_division=0)[:3])
            assert found.support == len(truth)


def test_macro_f1_is_what_it_was() -> None:
    for truth, guesses in labelled():
        assert measures.average(truth, guesses, "macro").f1 == pytest.approx(scores.macro_f1(truth, guesses), rel=1e-12)


def test_one_number_of_classes_is_scikit_learns() -> None:
    for truth, guesses in labelled():
        close(measures.matthews(truth, guesses), theirs.matthews_corrcoef(truth, guesses))
        close(measures.balanced_accuracy(truth, guesses), theirs.balanced_accuracy_score(truth, guesses))


def test_tallies_of_parts_add_up() -> None:
    draw = np.random.default_rng(2)
    truth, guesses = draw.integers(0, 4, (2, 90))
    parts = [measures.tally(truth[part], guesses[part], 4) for part in (slice(0, 20), slice(20, 90))]
    whole = Tally(*(sum(each) for each in zip(*parts, strict=True)))
    assert averaged(whole, "macro") == measures.average(truth, guesses, "macro")


# -- sets of labels


def test_shares_of_sets_are_scikit_learns() -> None:
    for truth, guesses in sets():
        if truth.shape[1] > 1:  # one column is no set for scikit-learn
            wanted = theirs.precision_recall_fscore_support(truth, guesses, zero_division=0)
            close(measures.per_class(truth, guesses), wanted)
            for way in (*WAYS, "samples"):
                wanted = theirs.precision_recall_fscore_support(truth, guesses, average=way, zero_division=0)
                close(measures.average(truth, guesses, way)[:3], wanted[:3])
        close(measures.subset_accuracy(truth, guesses), theirs.accuracy_score(truth, guesses))


# -- numbers


def numbers() -> Iterator[tuple[np.ndarray, np.ndarray]]:
    draw = np.random.default_rng(3)
    for count in (2, 3, 10, 300):
        for _ in range(5):
            truth = draw.normal(size=count)
            yield truth, truth + draw.normal(size=count)
            yield np.append(draw.integers(0, 4, count), [0, 3]), np.append(draw.integers(0, 3, count), [2, 0])  # ties
            yield 1e9 + truth, 1e-9 * truth**3


def test_correlations_are_scipys() -> None:
    stats = pytest.importorskip("scipy.stats")
    for truth, guesses in numbers():
        np.testing.assert_allclose(measures.pearson(truth, guesses), stats.pearsonr(truth, guesses)[0], rtol=1e-7)
        np.testing.assert_allclose(measures.spearman(truth, guesses), stats.spearmanr(truth, guesses)[0], atol=1e-12)
        close(measures.ranks(guesses), stats.rankdata(guesses) - 1)


def test_what_does_not_vary_correlates_with_nothing() -> None:
    for same in (np.full(3, 0.1), np.zeros(3)):
        assert measures.pearson(np.arange(3), same) == measures.spearman(same, np.arange(3)) == 0.0


def test_errors_are_scikit_learns() -> None:
    for truth, guesses in numbers():
        close(measures.squared_error(truth, guesses), theirs.mean_squared_error(truth, guesses))
        close(measures.absolute_error(truth, guesses), theirs.mean_absolute_error(truth, guesses))


# -- scores


def test_areas_are_scikit_learns() -> None:
    draw = np.random.default_rng(4)
    for count in (2, 3, 10, 500):
        for _ in range(10):
            truth = draw.permutation(np.arange(count) < draw.integers(1, count))
            for given in (draw.normal(size=count) + truth, draw.integers(0, 3, count), np.zeros(count)):
                close(measures.roc_auc(truth, given), theirs.roc_auc_score(truth, given))
                close(measures.average_precision(truth, given), theirs.average_precision_score(truth, given))


# -- probabilities


@pytest.mark.parametrize("kind", [np.float64, np.float32])
def test_losses_of_probabilities_are_scikit_learns(kind: type) -> None:
    draw, tolerance = np.random.default_rng(5), 1e-5 if kind is np.float32 else 1e-9
    for classes in (2, 3, 6):
        for count in (1, 4, 100):
            truth = draw.integers(0, classes, count)
            shares = draw.dirichlet(np.full(classes, 0.2), count)
            shares[0] = np.eye(classes)[(truth[0] + 1) % classes]  # sure and wrong
            shares, every = shares.astype(kind), list(range(classes))
            wanted = theirs.log_loss(truth, shares, labels=every)
            np.testing.assert_allclose(measures.log_loss(truth, shares), wanted, rtol=tolerance)
            wanted = theirs.brier_score_loss(truth, shares, labels=every, scale_by_half=False)
            np.testing.assert_allclose(measures.brier(truth, shares), wanted, rtol=tolerance)


def test_losses_of_single_probabilities_are_scikit_learns() -> None:
    draw = np.random.default_rng(6)
    truth, given = draw.integers(0, 2, (50, 3)), draw.random((50, 3))
    for one, other in zip(truth.T, given.T, strict=True):
        close(measures.log_loss(one, other), theirs.log_loss(one, other))
        close(measures.brier(one, other), theirs.brier_score_loss(one, other))
    close(measures.log_loss(truth, given), theirs.log_loss(truth.ravel(), given.ravel()))
    close(measures.brier(truth, given), theirs.brier_score_loss(truth.ravel(), given.ravel()))


def test_the_last_bit_of_a_product_is_forgiven() -> None:
    assert measures.brier([1, 0], [1 + 2e-7, -2e-7]) == 0.0
    assert measures.log_loss([1], np.array([[0.0, 1.0000001]], np.float32)) == 0.0


# -- what is refused

HALF = np.array([[0.5, 0.5], [0.5, 0.5]])
BAD: list[tuple[Callable[..., Any], Any, Any, str]] = [
    (measures.confusion, [], [], "there are no labels"),
    (measures.matthews, [0, 1], [0], "2 labels and 1 guesses"),
    (measures.per_class, [0, -1], [0, 0], "label -1 is no class"),
    (measures.per_class, [0, 1], [0, 0.5], "a guess of type float64 is no class"),
    (measures.per_class, ["a"], ["a"], "is no class"),
    (measures.confusion, np.zeros((2, 2, 2), int), np.zeros((2, 2, 2), int), "are no rows of classes"),
    (measures.subset_accuracy, np.zeros((2, 3), int), np.zeros((2, 2), int), "are no sets to compare"),
    (measures.subset_accuracy, np.full((2, 3), 2), np.zeros((2, 3), int), "are no sets to compare"),
    (measures.pearson, [1.0, np.nan], [1.0, 2.0], "not finite"),
    (measures.pearson, HALF, HALF, "more than one correlation"),
    (measures.squared_error, [[1.0], [2.0]], [1.0, 2.0], "are not alike"),
    (measures.roc_auc, [1, 1], [0.1, 0.2], "all 2 labels are 1"),
    (measures.roc_auc, [0, 2], [0.1, 0.2], "label 2 is neither 0 nor 1"),
    (measures.roc_auc, [0, 1, 1], [0.1, 0.2], "3 numbers and 2 guesses"),
    (measures.average_precision, [0, 0], [0.1, 0.2], "none of 2 labels is 1"),
    (measures.log_loss, [0, 1], [[0.5, 0.5], [0.5, 0.6]], "the probabilities of row 1 sum to 1.1"),
    (measures.log_loss, [0, 1], [[0.5, 0.5], [np.nan, 1.0]], "nan is no probability"),
    (measures.brier, [0, 1], [0.5, 1.2], "1.2 is no probability"),
    (measures.brier, [0, 2], HALF, "label 2 has no output"),
    (measures.brier, [[0], [1]], HALF, "do not belong together"),
    (measures.brier, [0, 1, 1], HALF, "3 labels and 2 guesses"),
    (measures.brier, np.array([], int), np.zeros((0, 2)), "there are no labels"),
]


@pytest.mark.parametrize(("measure", "truth", "guesses", "told"), BAD)
def test_what_cannot_be_measured_is_refused(measure: Callable[..., Any], truth: Any, guesses: Any, told: str) -> None:
    with pytest.raises(ValueError, match=re.escape(told)):
        measure(truth, guesses)


def test_more_classes_than_there_are_and_unknown_averages_are_refused() -> None:
    with pytest.raises(ValueError, match="class 3 is none of 3 classes"):
        measures.confusion([0, 3], [0, 1], 3)
    with pytest.raises(ValueError, match="no average called 'mean'"):
        measures.average([0, 1], [0, 1], "mean")
