"""The machine code that hides single tokens: exactly K a row, those with the smallest draws.

B rows, T places of a row, K hidden places, V pieces of the vocabulary.
"""

import numpy as np

from tundish.operators.model.kernels import LOW, mixed
from tundish.operators.text.kernels.machine import U64, inner, kernel

BITS = 11  # of a draw, at most, by which a row's draws are counted into buckets
BUCKETS = 2 << BITS


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


@inner
def put(lots, word, place, token, shares, mask_id, ordinary):
    """What stands in a hidden place. `lots`: the number whose low bits are the place's lot; its high ones chose it."""
    lot = ((lots & LOW) * U64(100)) >> U64(32)
    given = np.int64(token)
    if lot < shares[0]:
        given = mask_id
    elif lot < shares[1]:
        given = ordinary[(mixed(word ^ place) >> U64(1)) % U64(len(ordinary))]
    return given


@kernel
def hide(
    tokens,
    choose,
    draw,
    places,
    ordinary,
    special,
    span,
    rate,
    shares,
    mask_id,
    scratch,
    buckets,
    found,
    labels,
    counts,
    total,
):
    """Hides places of every row of `tokens` (B, T) in place; gives how many in all.

    choose, draw (B,): each row's word in two streams; places (T,): the hash of every place; ordinary (n,): ids that may
    be drawn; special (V,) uint8: which ids are never hidden; span (2,) uint32: the first and last of them where they
    are neighbours, else the last before the first; shares (2,) uint64: of a hundred lots those below the first become
    the mask, those below the second a drawn id; scratch (2, T), buckets (BUCKETS,) int32. Writes the hidden places
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
            given = put(draws[p], draw[b], places[p], token, shares, mask_id, ordinary)
            tokens[b, p] = given
            found[each], labels[each] = b * length + p, token
            sum_ += mixed(draws[p] ^ U64((np.int64(token) << 32) + np.int64(given)))
    total[0] = sum_
    return at
