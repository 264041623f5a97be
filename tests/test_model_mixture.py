from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tundish.operators.model.mixture import MOST, Mixture

WEIGHTS = st.lists(st.integers(1, 60), min_size=1, max_size=7)


@settings(max_examples=200, deadline=None)
@given(WEIGHTS)
def test_every_source_comes_as_often_as_it_weighs_and_evenly(weights):
    mixture = Mixture(weights)
    length = 2 * mixture.period
    source, cursor = mixture.split(np.arange(length))
    seen = [0] * len(weights)
    for place in range(length):
        assert cursor[place] == seen[source[place]]
        seen[source[place]] += 1
        for number, weight in enumerate(weights):
            assert abs(seen[number] - Fraction((place + 1) * weight, sum(weights))) < 2
    assert seen == [2 * weight for weight in mixture.weights]
    for number in range(len(weights)):
        assert mixture.place(number, np.arange(seen[number])).tolist() == np.flatnonzero(source == number).tolist()
    for places in (0, 1, length // 3, length):
        assert mixture.counts(places) == [int((source[:places] == number).sum()) for number in range(len(weights))]


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(1, 10**9), min_size=2, max_size=3), st.integers(0, 10**13))
def test_far_out_with_heavy_weights_the_inverse_holds(weights, first):
    mixture = Mixture(weights)
    places = first + np.arange(50)
    source, cursor = mixture.split(places)
    for number in range(len(weights)):
        assert mixture.place(number, cursor[source == number]).tolist() == places[source == number].tolist()
    counts = mixture.counts(first)
    for number in range(len(weights)):
        exact = Fraction(first * mixture.weights[number], mixture.period)
        assert abs(counts[number] - exact) < 2


def test_weights_beyond_what_can_be_counted_are_scaled_and_nonsense_refused():
    assert Mixture([6 * MOST, 2 * MOST]).weights == (3, 1)
    assert sum(Mixture([MOST + 1, MOST, 5]).weights) <= MOST
    with pytest.raises(ValueError, match="at least 1"):
        Mixture([3, 0])
    with pytest.raises(ValueError, match="at least 1"):
        Mixture([])
