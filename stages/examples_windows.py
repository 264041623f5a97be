"""How long texts are cut into windows, and what is cut off pairs: numbers in, numbers out.

Promises: every word is in at least one window and is predicted in exactly one, where it has most around it; words stay
whole unless one is longer than a window. A pair loses pieces from its longer text first, one by one. Costs nothing of
note. Refuses windows that overlap so far that they would not move on.
"""

from collections.abc import Sequence

import numpy as np

Window = tuple[int, int]  # first, and behind the last


def both(first: np.ndarray, second: np.ndarray, length: int) -> tuple[np.ndarray, np.ndarray]:
    """Pieces that stay of each text of pairs, `length` at most together: the longer one is cut first, of equals the
    second.

    >>> both(np.array([5, 3, 9, 2]), np.array([3, 3, 1, 2]), 5)
    (array([3, 3, 4, 2]), array([2, 2, 1, 2]))
    """
    fits = first + second <= length
    kept = np.minimum(first, np.maximum(length - second, -(-length // 2)))
    return np.where(fits, first, kept), np.where(fits, second, length - kept)


def stretches(size: int, room: int, overlap: int) -> list[Window]:
    """Windows over `size` pieces, `room` at most in each, `overlap` of them in the one before too.

    >>> stretches(10, 4, 1), stretches(3, 4, 1), stretches(0, 4, 1)
    ([(0, 4), (3, 7), (6, 10)], [(0, 3)], [(0, 0)])
    """
    check(room, overlap)
    found = [(0, min(size, room))]
    while found[-1][1] < size:
        start = found[-1][1] - overlap
        found.append((start, min(size, start + room)))
    return found


def check(room: int, overlap: int) -> None:
    if not 0 <= overlap < room:
        raise ValueError(
            f"windows of {room} pieces that overlap by {overlap} do not move on; give them an overlap of 0 or more, "
            "and more room than that"
        )


def word_windows(counts: Sequence[int], length: int, overlap: int) -> list[Window]:
    """Windows over words of so many pieces (at most `length` each): as many words as fit, from at most `overlap` pieces
    before the end of the last one on.

    >>> word_windows([2, 2, 2, 2], 4, 2), word_windows([1, 4, 1], 4, 2)
    ([(0, 2), (1, 3), (2, 4)], [(0, 1), (1, 2), (2, 3)])
    """
    check(length, overlap)
    ends = np.concatenate([[0], np.cumsum(counts)])
    found, begin = [], 0
    while True:
        stop = int(np.searchsorted(ends, ends[begin] + length, side="right")) - 1
        found.append((begin, stop))
        if stop == len(counts):
            return found
        back = min(overlap, length - counts[stop])  # the next word at least is new
        begin = int(np.searchsorted(ends, ends[stop] - back, side="left"))


def predicted(counts: Sequence[int], windows: Sequence[Window]) -> np.ndarray:
    """(words,) the window that each word is predicted in: where the nearer end of the window is farthest from it, as
    far as the text goes on behind it; of equals the first.

    >>> predicted([2, 2, 2, 2], [(0, 3), (1, 4)])
    array([0, 0, 1, 1])
    """
    ends = np.concatenate([[0], np.cumsum(counts)])
    size = len(counts)
    best, found = np.full(size, -1.0), np.zeros(size, np.int64)
    for number, (begin, stop) in enumerate(windows):
        words = np.arange(begin, stop)
        before = ends[words] - ends[begin] if begin else np.full(len(words), np.inf)
        behind = ends[stop] - ends[words + 1] if stop < size else np.full(len(words), np.inf)
        around = np.minimum(before, behind)
        better = words[around > best[words]]
        best[better], found[better] = around[better - begin], number
    return found
