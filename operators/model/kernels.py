"""The machine code under the stream: the hash, rows cut and filled with tokens, without the GIL.

The arithmetic of hashes is modulo 2^64 and that of `order.mixed`. What is made of rows lies in `kernels_hiding`,
`kernels_units`, `kernels_following` and `kernels_corrupting`. B rows, T places of a row, K hidden places.
"""

import numpy as np

from tundish.operators.model.order import FIRST, GOLDEN, SECOND
from tundish.operators.text.kernels.machine import U64, inner, kernel

G, A, B = np.uint64(GOLDEN), np.uint64(FIRST), np.uint64(SECOND)
LOW = np.uint64(0xFFFFFFFF)


@inner
def mixed(x):
    x = x + G
    x = (x ^ (x >> U64(30))) * A
    x = (x ^ (x >> U64(27))) * B
    return x ^ (x >> U64(31))


@kernel
def cut(offsets, row, room, spare, starts):
    """Writes the first token of each row and the end of the last; gives the numbers of rows and of segments."""
    rows, used, segments = 0, row, 0
    for document in range(len(offsets) - 1):
        at, end = offsets[document], offsets[document + 1]
        while at < end:
            size = min(room, end - at)
            left = row - used
            if size + 2 > left:
                if left > spare:
                    size = left - 2
                else:
                    starts[rows] = at
                    rows += 1
                    used = 0
                    continue  # anew, now that there is a whole row
            at += size
            used += size + 2
            segments += 1
    starts[rows] = offsets[len(offsets) - 1]
    return rows, segments


@kernel
def fill(tokens, offsets, starts, rows, slots, room, frame, out, bounds, ends, sizes):
    """Row rows[i] of a shard into out[slots[i]] (T,); bounds[slot, :ends[slot]] are the starts of its segments, the
    padding's among them; sizes[slot] the places not padded."""
    for i in range(len(rows)):
        slot, at, end = slots[i], starts[rows[i]], starts[rows[i] + 1]
        low, high = 0, len(offsets) - 1  # the last document that begins at or before `at`
        while high - low > 1:
            middle = (low + high) >> 1
            if offsets[middle] <= at:
                low = middle
            else:
                high = middle
        document, place, segments = low, 0, 0
        while at < end:
            while offsets[document + 1] <= at:
                document += 1
            stop = min(end, offsets[document + 1], at + room)
            bounds[slot, segments] = place
            segments += 1
            out[slot, place] = frame[0]
            place += 1
            for each in range(at, stop):
                out[slot, place + each - at] = tokens[each]
            place += stop - at
            out[slot, place] = frame[1]
            place += 1
            at = stop
        sizes[slot] = place
        if place < out.shape[1]:
            bounds[slot, segments] = place
            segments += 1
            for each in range(place, out.shape[1]):
                out[slot, each] = frame[2]
        ends[slot] = segments


@kernel
def joined(bounds, ends, row, flat):
    """The rows' segments one behind the other, counted from the first row, and the end of all last."""
    at = 0
    for slot in range(len(ends)):
        for segment in range(ends[slot]):
            flat[at] = slot * row + bounds[slot, segment]
            at += 1
    flat[at] = len(ends) * row
