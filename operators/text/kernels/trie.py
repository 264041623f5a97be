"""A set of strings as a double array (Aoe 1989): from the place of a prefix, one addition leads to each longer one.

`links` (places, 2) int32: `base` and the place before. The next place is `base + byte`, and it is one if the place
before it is where we are. `values` (places,) int32: what the string that ends there stands for, -1 for nothing. The
root is place 0. Whoever walks it may ask for any byte: there is always room for 256 behind the last base.
"""

from collections.abc import Sequence

import numpy as np

from tundish.operators.text.kernels.machine import I64, inner, kernel

TRIES = 24  # free places tried for a family before it goes behind all others
FULL = -2
EMPTY = 257  # places of a trie of no strings


@inner
def stepped(links, place, byte):
    """Where this byte leads; -1 for nowhere."""
    at = I64(links[place, 0]) + I64(byte)
    return at if I64(links[at, 1]) == place else I64(-1)


@kernel
def built(text, bounds, values_of, links, values, free, queue):
    """Lay out strings that are sorted and each there once. `free` (places, 2): the list of free places, after and
    before; `queue` (bytes + 1, 4): room. Returns the places used, or FULL."""
    places = I64(links.shape[0])
    for at in range(places):
        links[at, 0], links[at, 1], values[at] = 0, -1, -1
        free[at, 0], free[at, 1] = at + 1, at - 1
    last = I64(0)  # the highest place taken
    head = I64(1)
    queue[0, 0], queue[0, 1], queue[0, 2], queue[0, 3] = 0, 0, bounds.size - 1, 0
    waiting = I64(1)
    taken = I64(0)
    while taken < waiting:
        node, low, high, depth = queue[taken, 0], queue[taken, 1], queue[taken, 2], queue[taken, 3]
        taken += 1
        if low < high and bounds[low] + depth == bounds[low + 1]:
            values[node] = values_of[low]
            low += 1
        if low == high:
            continue
        first = I64(text[bounds[low] + depth])
        base, tries, at = I64(-1), 0, head
        while at < places and tries < TRIES:
            tries += 1
            if at - first >= 0:
                fits = True
                for one in range(low, high):
                    there = at - first + I64(text[bounds[one] + depth])
                    if there >= places or there == 0 or links[there, 1] != -1:
                        fits = False
                        break
                if fits:
                    base = at - first
                    break
            at = I64(free[at, 0])
        if base < 0:
            base = max(I64(0), last + 1 - first)
        if base + 256 >= places:
            return I64(FULL)
        links[node, 0] = base
        begin = low
        while begin < high:
            byte, end = I64(text[bounds[begin] + depth]), begin + 1
            while end < high and I64(text[bounds[end] + depth]) == byte:
                end += 1
            child = base + byte
            links[child, 1] = node
            after, before = I64(free[child, 0]), I64(free[child, 1])
            if after < places:
                free[after, 1] = before
            if before > 0:
                free[before, 0] = after
            else:
                head = after
            last = max(last, child)
            queue[waiting, 0], queue[waiting, 1], queue[waiting, 2], queue[waiting, 3] = child, begin, end, depth + 1
            waiting += 1
            begin = end
    return min(places, last + EMPTY)


def trie(strings: Sequence[bytes], numbers: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """(links, values) of these strings, each there once; `numbers` are what they stand for."""
    order = sorted(range(len(strings)), key=strings.__getitem__)
    sizes = np.fromiter((len(strings[one]) for one in order), np.int64, len(order))
    bounds = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
    text = np.frombuffer(b"".join(strings[one] for one in order) + b"\0", np.uint8)
    given = np.array([numbers[one] for one in order], np.int32)
    queue = np.empty((len(text) + 1, 4), np.int64)
    places = 1024 + int(1.5 * len(text))
    while True:
        links, values = np.empty((places, 2), np.int32), np.empty(places, np.int32)
        used = built(text, bounds, given, links, values, np.empty((places, 2), np.int32), queue)
        if used != FULL:
            return links[:used].copy(), values[:used].copy()
        places *= 2
