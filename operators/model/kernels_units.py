"""The machine code that hides units of neighbours: whole words, spans of tokens, spans of words; and draws uniforms.

A row's ordinary tokens are tiled by units, from the left: a unit ends where its number of words (or tokens) is reached,
and at every special token, so none goes across two segments. The unit with the smallest draw is hidden first.

B rows, T places of a row, K hidden places, V pieces of the vocabulary, U units of a row.
"""

import numpy as np

from tundish.operators.model.kernels import mixed
from tundish.operators.model.kernels_hiding import BITS, put
from tundish.operators.text.kernels.machine import U64, inner, kernel


@inner
def _tiled(tokens, special, begins, longer, word, places, first, size):
    """Cuts a row (T,) into units: where each begins, and how many places it has; gives U and the ordinary tokens."""
    units, ordinaries, left, open_ = 0, 0, 0, False
    for p in range(len(tokens)):
        token = tokens[p]
        if special[token]:
            open_ = False
            continue
        ordinaries += 1
        if not open_ or begins[token]:  # here a word begins
            if not open_ or left == 0:
                first[units], size[units] = p, 0
                units += 1
                left = 1
                if len(longer):
                    lot = mixed(word ^ places[p]) >> U64(32)
                    for each in range(len(longer)):
                        left += lot >= longer[each]
            left -= 1
            open_ = True
        size[units - 1] += 1
    return units, ordinaries


@inner
def _counted(draws, first, units, shift, size, ends, order):
    """The units by the upper bits of their draws: `order` (U,), and where each of `size` buckets ends in it."""
    ends[:size] = 0
    for unit in range(units):
        ends[draws[first[unit]] >> shift] += 1
    before = 0
    for bucket in range(size):
        before, ends[bucket] = before + ends[bucket], before
    for unit in range(units):
        bucket = draws[first[unit]] >> shift
        order[ends[bucket]] = unit
        ends[bucket] += 1


@inner
def _sorted(order, start, end, draws, first):
    """Puts these few units in the order of their draws; of equal ones the earlier is first, as it stands."""
    for each in range(start + 1, end):
        unit, at = order[each], each
        while at > start and draws[first[order[at - 1]]] > draws[first[unit]]:
            order[at] = order[at - 1]
            at -= 1
        order[at] = unit


@kernel
def hide_units(
    tokens,
    choose,
    draw,
    lengths,
    places,
    ordinary,
    special,
    begins,
    longer,
    rate,
    whole,
    together,
    shares,
    mask_id,
    draws,
    scratch,
    buckets,
    found,
    labels,
    counts,
    total,
):
    """Hides units of every row of `tokens` (B, T) in place; gives how many places in all. As `hide`, and besides:

    lengths (B,): each row's word in the stream of lengths; begins (V,) uint8: which pieces begin a word; longer (m,)
    uint64: a unit is of 1 + k words where its lot of 32 bits reaches k of these; whole: a unit that would pass the
    number wanted is left out, else it is cut short; together: the lot of a unit's first place is that of all its
    places; draws (T,); scratch (4, T) int32.
    """
    at, sum_ = 0, U64(0)
    first, size, order, leads = scratch[0], scratch[1], scratch[2], scratch[3]
    rows, length = tokens.shape
    bits = 4
    while bits < BITS and (8 << bits) < length:
        bits += 1
    shift, room = U64(63 - bits), 1 << bits
    for b in range(rows):
        start, word = at, choose[b]
        counts[b] = 0
        for p in range(length):
            if np.uint32(tokens[b, p]) >= np.uint32(len(special)):
                return -1 - np.int64(np.uint32(tokens[b, p]))
        for p in range(length):
            draws[p] = mixed(word ^ places[p]) >> U64(1)
            leads[p] = -1
        units, ordinaries = _tiled(tokens[b], special, begins, longer, lengths[b], places, first, size)
        if ordinaries == 0:
            continue
        wanted = min(max(int(np.rint(ordinaries * rate)), 1), ordinaries)
        _counted(draws, first, units, shift, room, buckets, order)
        left, begin, bucket = wanted, 0, 0
        while left > 0 and bucket < room:
            end = buckets[bucket]
            _sorted(order, begin, end, draws, first)
            for each in range(begin, end):
                here, many = first[order[each]], size[order[each]]
                if many > left:
                    many = 0 if whole else left
                for p in range(here, here + many):
                    leads[p] = here if together else p
                left -= many
            begin = end
            bucket += 1
        for p in range(length):
            found[at] = p
            at += leads[p] >= 0
        counts[b] = at - start
        for each in range(start, at):
            p = found[each]
            token = tokens[b, p]
            given = put(draws[leads[p]], draw[b], places[p], token, shares, mask_id, ordinary)
            tokens[b, p] = given
            found[each], labels[each] = b * length + p, token
            sum_ += mixed(draws[p] ^ U64((np.int64(token) << 32) + given))
    total[0] = sum_
    return at


@kernel
def uniforms(found, length, words, places, out):
    """A number in [0, 1) for every place found (K,) of the flattened rows, of 24 bits, as float32 holds them."""
    for each in range(len(found)):
        b = found[each] // length
        drawn = mixed(words[b] ^ places[found[each] - b * length])
        out[each] = np.float32(drawn >> U64(40)) * np.float32(2.0**-24)
