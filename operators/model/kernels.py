"""The machine code under the stream: rows cut, filled with tokens, and hidden places drawn, without the GIL.

The arithmetic of hashes is modulo 2^64 and that of `order.mixed`. B rows, T places of a row, K hidden places.
"""

import numpy as np

from tundish.operators.model.order import FIRST, GOLDEN, SECOND
from tundish.operators.text.kernels.machine import U64, inner, kernel

G, A, B = np.uint64(GOLDEN), np.uint64(FIRST), np.uint64(SECOND)
LOW = np.uint64(0xFFFFFFFF)
BITS = 11  # of a draw, at most, by which a row's draws are counted into buckets
BUCKETS = 2 << BITS


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


@inner
def _bound(draws, length, shift, bucket, wanted, few):
    """The `wanted`-th smallest draw of a bucket. A bucket holds few."""
    size = 0
    for p in range(length):
        if (draws[p] >> shift) == U64(bucket):
            at = size
            while at > 0 and few[at - 1] > draws[p]:
                few[at] = few[at - 1]
                at -= 1
            few[at] = draws[p]
            size += 1
    return few[wanted - 1]


@kernel
def _without(draws, found, first, last, bound, wanted):
    """Of the places found, all whose draw is below the bound and the first ones whose draw is the bound."""
    below = 0
    for each in range(first, last):
        below += draws[found[each]] < bound
    at, equal = first, wanted - below
    for each in range(first, last):
        p = found[each]
        take = draws[p] < bound or equal > 0
        equal -= draws[p] == bound
        found[at] = p
        at += take
    return at


@kernel
def hide(
    tokens, choose, draw, places, ordinary, special, span, rate, mask_id, scratch, buckets, found, labels, counts, total
):
    """Hides places of every row of `tokens` (B, T) in place; gives how many in all.

    choose, draw (B,): each row's word in two streams; places (T,): the hash of every place; ordinary (n,): ids that may
    be drawn; special (V,) uint8: which ids are never hidden; span (2,) uint32: the first and last of them where they
    are neighbours, else the last before the first; scratch (2, T), buckets (BUCKETS,) int32. Writes the hidden places
    of the flattened rows into `found`, what stood there into `labels`, the number a row into `counts` (B,), the sum of
    the hashes of what was hidden into `total` (1,). Returns -1 - t at a token t outside of the vocabulary.
    """
    at, sum_ = 0, U64(0)
    draws, few = scratch[0], scratch[1]
    rows, length = tokens.shape
    first_, last, vocabulary = span[0], span[1], np.uint32(len(special))
    bits = 4
    while bits < BITS and (8 << bits) < length:  # some eight draws a bucket
        bits += 1
    shift, size = U64(63 - bits), 2 << bits  # the upper half for specials, which have every bit set
    for b in range(rows):
        # without branches: whether a place is hidden cannot be foretold, and a wrong guess costs as much as ten places
        buckets[:size] = 0
        ordinaries, first, outside = length, at, False
        word = choose[b]
        for p in range(length):  # alone in its loop, so that it runs eight places at a time
            draws[p] = mixed(word ^ places[p]) >> U64(1)
        if last >= first_:  # the special ids are neighbours: looked at eight at a time as well
            for p in range(length):
                token = np.uint32(tokens[b, p])
                never = (token - first_) <= (last - first_)
                outside |= token >= vocabulary
                draws[p] |= U64(0) - U64(never)
                ordinaries -= never
        else:
            for p in range(length):
                token = np.uint32(tokens[b, p])
                inside = token < vocabulary
                outside |= not inside
                never = special[token * inside]
                draws[p] |= U64(0) - U64(never)
                ordinaries -= never
        for p in range(length):
            buckets[draws[p] >> shift] += 1  # specials count in the last, behind all others
        if outside:
            for p in range(length):
                if np.uint32(tokens[b, p]) >= vocabulary:
                    return -1 - np.int64(np.uint32(tokens[b, p]))
        counts[b] = 0
        if ordinaries == 0:
            continue
        wanted = min(max(int(np.rint(ordinaries * rate)), 1), ordinaries)
        bucket, before = 0, 0
        while before + buckets[bucket] < wanted:
            before += buckets[bucket]
            bucket += 1
        bound = _bound(draws, length, shift, bucket, wanted - before, few)
        for p in range(length):
            found[at] = p
            at += draws[p] <= bound
        if at - first > wanted:  # draws as large as the bound beyond those wanted: the last ones go
            at = _without(draws, found, first, at, bound, wanted)
        counts[b] = wanted
        for each in range(first, at):
            p = found[each]
            token = tokens[b, p]
            lot = ((draws[p] & LOW) * U64(100)) >> U64(32)  # the low bits: the high ones chose the place
            given = token
            if lot < U64(80):
                given = mask_id
            elif lot < U64(90):
                given = ordinary[(mixed(draw[b] ^ places[p]) >> U64(1)) % U64(len(ordinary))]
            tokens[b, p] = given
            found[each], labels[each] = b * length + p, token
            sum_ += mixed(draws[p] ^ U64((np.int64(token) << 32) + np.int64(given)))
    total[0] = sum_
    return at
