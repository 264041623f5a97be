import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tundish.operators.model.order import ROUNDS, keyed, shuffled, unshuffled

MASK = (1 << 64) - 1


def slow_mixed(x):
    x = (x + 0x9E3779B97F4A7C15) & MASK
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & MASK
    return x ^ (x >> 31)


def slow_shuffled(index, size, key):
    half = max(1, ((size - 1).bit_length() + 1) // 2)
    low = (1 << half) - 1
    while True:
        left, right = index >> half, index & low
        for number in range(ROUNDS):
            left, right = right, left ^ (slow_mixed(right ^ keyed(key, number)) & low)
        index = (left << half) | right
        if index < size:
            return index


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 700), st.integers(0, MASK))
def test_every_row_comes_once_and_the_plain_integers_agree(size, key):
    found = shuffled(np.arange(size), size=size, key=key)
    assert sorted(found) == list(range(size))
    assert [int(each) for each in found[:20]] == [slow_shuffled(i, size, key) for i in range(min(20, size))]
    assert shuffled(size - 1, size=size, key=key) == found[-1]


def test_the_permutation_is_the_same_on_every_machine():
    assert shuffled(np.arange(12), size=12, key=7).tolist() == [4, 9, 1, 7, 0, 11, 8, 5, 6, 10, 2, 3]
    assert shuffled(123_456_789_012, size=10**12, key=7) == 465850754437


def test_each_row_lands_everywhere_equally_often():
    size, keys = 13, 6000
    landed = np.zeros((size, size))
    for key in range(keys):
        landed[np.arange(size), shuffled(np.arange(size), size=size, key=key)] += 1
    expected = keys / size
    chi_square, free = ((landed - expected) ** 2 / expected).sum(), (size - 1) ** 2
    assert chi_square < free + 5 * np.sqrt(2 * free)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 700), st.integers(0, MASK))
def test_what_was_shuffled_is_found_again(size, key):
    there = shuffled(np.arange(size), size=size, key=key)
    assert unshuffled(there, size=size, key=key).tolist() == list(range(size))
    assert shuffled(unshuffled(0, size=size, key=key), size=size, key=key) == 0


def test_far_numbers_are_found_again():
    assert unshuffled(shuffled(123_456_789_012, size=10**12, key=7), size=10**12, key=7) == 123_456_789_012


def test_what_does_not_exist_is_refused():
    with pytest.raises(ValueError, match="not in range"):
        shuffled(7, size=7, key=1)
    with pytest.raises(ValueError, match="not in range"):
        unshuffled(-1, size=7, key=1)
