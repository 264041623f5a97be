"""The best segmentation by a unigram model (Kudo, arXiv 1804.10959): Viterbi over the pieces that fit at each place.

Ids must be SentencePiece's also where two ways are equally good or differ by less than float32 can tell, so sums are
made in its order and precision: from the start of the text, piece by piece, a later way only if it is better; and a sum
beyond 100,000 begins again at 0. `best` does that from any place that all ways pass, given the sum there.

`weighed` asks the same of a chunk in float64 and says how large the sum before it may be for float32 to choose the same
way: a sum of n terms of magnitude at most m is off by at most n * m * 2^-24, so what is behind by more than twice that
stays behind. It also holds that no sum is set back inside. So a chunk's pieces can be remembered and stay exact; where
two ways are level (a tie) no sum is small enough, and the chunk is decided anew each time.
Costs some 20 ns a byte; memory of 12 bytes a byte of the text.
"""

import numpy as np

from tundish.operators.text.kernels.machine import I64, inner, kernel
from tundish.operators.text.kernels.merges import put, width
from tundish.operators.text.kernels.trie import stepped

F32, F64 = np.float32, np.float64
FAR = np.float32(100_000)  # a sum beyond it is set back to 0, as in SentencePiece
NEAR = 99_000.0  # and one below it is not within a chunk
CERTAIN = float(1 << 22)  # 2^24, halved for the two ways compared, and halved again to be safe


@kernel
def best(text, end, total, model, work, ids):
    """Put the ids of `text[:end]` at the beginning of `ids`; (how many, the sum at the end).

    `total` is the sum at the beginning. `model`: links, values, scores, unknown, score of an unknown, fallback.
    `work`: sums, begins, pieces; each for one place more than bytes.
    """
    links, values, scores, unknown, penalty, fallback = model
    sums, begins, found = work
    for at in range(end + 1):
        begins[at] = -1
    sums[0] = total
    at, front = I64(0), I64(0)
    while at < end:
        here = sums[at]
        if here < -FAR or here > FAR:
            for one in range(at, front + 1):
                if one == at or begins[one] != -1:
                    sums[one] -= here
            here = F32(0)
        size = min(width(text[at]), end - at)
        single, place, stop = False, I64(0), at
        while stop < end:
            place = stepped(links, place, text[stop])
            if place < 0:
                break
            stop += 1
            piece = values[place]
            if piece >= 0:
                front = max(front, stop)
                score = F32(scores[piece] + here)
                if begins[stop] == -1 or score > sums[stop]:
                    sums[stop], begins[stop], found[stop] = score, at, piece
                single = single or stop - at == size
        if not single:
            stop = at + size
            front = max(front, stop)
            score = F32(penalty + here)
            if begins[stop] == -1 or score > sums[stop]:
                sums[stop], begins[stop], found[stop] = score, at, unknown
        at += size
    return _followed(text, end, begins, found, ids, unknown, fallback), sums[end]


@inner
def _followed(text, end, begins, found, ids, unknown, fallback):
    """Put the pieces of the way that ends at `end`; the links are turned round first."""
    at, after = end, I64(-1)
    while at >= 0:
        before = I64(begins[at]) if at > 0 else I64(-1)
        begins[at] = after
        after = at
        at = before
    at, count = I64(0), I64(0)
    while at < end:
        stop = I64(begins[at])
        count = put(ids, count, I64(found[stop]), text, at, stop, unknown, fallback)
        at = stop
    return count


@kernel
def weighed(text, end, model, work, wide, ids):
    """Put the ids of a chunk at the beginning of `ids`; (how many, how large a sum before it may be, 0 for never).

    `wide`: (2, places) float64, the best sums and the second best."""
    links, values, scores, unknown, penalty, fallback = model
    _, begins, found = work
    for at in range(end + 1):
        begins[at] = -1
    wide[0, 0], wide[1, 0] = 0.0, -np.inf
    at, steps, reach = I64(0), I64(0), 0.0
    while at < end:
        here = wide[0, at]
        size = min(width(text[at]), end - at)
        single, place, stop = False, I64(0), at
        steps += 1
        while stop < end:
            place = stepped(links, place, text[stop])
            if place < 0:
                break
            stop += 1
            piece = values[place]
            if piece >= 0:
                reach = max(reach, _offered(wide, begins, found, here + F64(scores[piece]), at, stop, piece))
                single = single or stop - at == size
        if not single:
            reach = max(reach, _offered(wide, begins, found, here + F64(penalty), at, at + size, unknown))
        at += size
    margin, known, at = np.inf, True, end
    while at > 0:
        margin = min(margin, wide[0, at] - wide[1, at])
        known = known and found[at] != unknown
        at = I64(begins[at])
    count = _followed(text, end, begins, found, ids, unknown, fallback)
    limit = min(margin * CERTAIN / steps, NEAR) - reach if known and steps > 0 else 0.0
    return count, F32(np.floor(max(limit, 0.0)))


@inner
def _offered(wide, begins, found, score, at, stop, piece):
    """Take a way to `stop` if it is the best; how far from 0 it leads."""
    if begins[stop] == -1:
        wide[0, stop], wide[1, stop], begins[stop], found[stop] = score, -np.inf, at, piece
    elif score > wide[0, stop]:
        wide[0, stop], wide[1, stop], begins[stop], found[stop] = score, wide[0, stop], at, piece
    else:
        wide[1, stop] = max(wide[1, stop], score)
    return abs(score)
