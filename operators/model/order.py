"""Order as a function: keyed permutations of any range, forwards and backwards, and the keys they go by.

Promises: a bijection for every key and size, the same on every machine, with nothing to remember; what was shuffled
can be found again. Costs a few integer operations per number asked for, no memory per number of the range. Refuses
numbers outside the range.

The permutation is a balanced Feistel network over the next power of four, walked until it lands inside the range
(Black and Rogaway 2002, "Ciphers with arbitrary finite domains"); its rounds are splitmix64 (Steele, Lea and Flood
2014, OOPSLA).
"""

from collections.abc import Callable
from functools import lru_cache
from typing import TypeVar

import numpy as np

GOLDEN = 0x9E3779B97F4A7C15
FIRST, SECOND = 0xBF58476D1CE4E5B9, 0x94D049BB133111EB  # splitmix64's multipliers
ALL = (1 << 64) - 1
ROUNDS = 6  # four is enough for large ranges (Luby and Rackoff); a range of a few rows mixes visibly better with six

Index = TypeVar("Index", int, np.ndarray)


def mixed(words: np.ndarray) -> np.ndarray:
    """splitmix64's finaliser over an array of uint64: a bijection in which every input bit moves half the output."""
    x = words + np.uint64(GOLDEN)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(FIRST)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(SECOND)
    return x ^ (x >> np.uint64(31))


def keyed(*words: int) -> int:
    """One 64-bit key from several integers; their order matters.

    >>> keyed(1, 2) == keyed(1, 2), keyed(1, 2) == keyed(2, 1)
    (True, False)
    """
    key = np.zeros(1, np.uint64)
    for word in words:
        key = mixed(key ^ np.uint64(word & ALL))
    return int(key[0])


def shuffled(index: Index, *, size: int, key: int) -> Index:
    """Where `index` lies after the permutation of `range(size)` that `key` names. A bijection for every key.

    >>> sorted(shuffled(i, size=7, key=1) for i in range(7))
    [0, 1, 2, 3, 4, 5, 6]
    """
    return _walked(index, size, key, _feistel)


def unshuffled(index: Index, *, size: int, key: int) -> Index:
    """What `shuffled` brought to `index`.

    >>> [unshuffled(shuffled(i, size=7, key=1), size=7, key=1) for i in range(7)]
    [0, 1, 2, 3, 4, 5, 6]
    """
    return _walked(index, size, key, _unfeistel)


def _walked(index: Index, size: int, key: int, step: Callable[..., np.ndarray]) -> Index:
    """One step of the network, and further ones while it leads outside of the range."""
    x = np.atleast_1d(np.asarray(index, np.int64))
    if size < 1 or (x.size and (x.min() < 0 or x.max() >= size)):
        raise ValueError(f"index {index!r} is not in range({size}); ask only for rows that exist")
    half = max(1, ((size - 1).bit_length() + 1) // 2)
    keys = _round_keys(key)
    x = step(x.astype(np.uint64), half, keys)
    while (outside := x >= np.uint64(size)).any():  # the domain is under four times the range: under four walks each
        x[outside] = step(x[outside], half, keys)
    found = x.astype(np.int64)
    return int(found[0]) if np.ndim(index) == 0 else found.reshape(np.shape(index))


@lru_cache(maxsize=4096)
def _round_keys(key: int) -> tuple[np.uint64, ...]:
    return tuple(np.uint64(keyed(key, number)) for number in range(ROUNDS))


def _feistel(x: np.ndarray, half: int, keys: tuple[np.uint64, ...]) -> np.ndarray:
    low = np.uint64((1 << half) - 1)
    left, right = x >> np.uint64(half), x & low
    for key in keys:
        left, right = right, left ^ (mixed(right ^ key) & low)
    return (left << np.uint64(half)) | right


def _unfeistel(x: np.ndarray, half: int, keys: tuple[np.uint64, ...]) -> np.ndarray:
    low = np.uint64((1 << half) - 1)
    left, right = x >> np.uint64(half), x & low
    for key in reversed(keys):
        left, right = right ^ (mixed(left ^ key) & low), left
    return (left << np.uint64(half)) | right
