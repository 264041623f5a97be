"""The machine code of span corruption: segments cut into what the encoder is shown and what the decoder says.

B rows, T places of a row, S segments, E places of the encoder, D of the decoder.
"""

import numpy as np

from tundish.operators.model.kernels import mixed
from tundish.operators.text.kernels.machine import U64, inner, kernel


@inner
def _composed(draws, at, items, parts, sizes):
    """Cuts `items` into so many parts, none empty, every way equally likely: each of the places between two is taken
    with the share of those still wanted among those still left (selection sampling, Knuth's algorithm S)."""
    wanted, part, size = parts - 1, 0, 1
    for each in range(items - 1):
        left = U64(items - 1 - each)
        if ((draws[at + each] >> U64(32)) * left) >> U64(32) < U64(wanted):
            sizes[part] = size
            part += 1
            wanted -= 1
            size = 0
        size += 1
    sizes[part] = size


@kernel
def corrupt(
    tokens,
    length,
    bounds,
    sizes,
    words,
    places,
    rate,
    mean,
    sentinel,
    step,
    most,
    start,
    vocabulary,
    draws,
    spans,
    inputs,
    ends,
    answers,
    labels,
    answer_ends,
    shown,
    counts,
    total,
):
    """Every segment of flattened rows `tokens` (B * T,) without its first token ([CLS]), its noise spans replaced by
    sentinels `sentinel`, `sentinel + step`, …, at most `most`; the last ([SEP]) ends what is shown and what is said.

    bounds, sizes, words, places: as in `follow`; draws (T,), spans (2, T): scratch. Writes `inputs` (E,) and `labels`
    (D,), the labels one place later behind `start` into `answers` (D,), where each segment ends into `ends` and
    `answer_ends` (S,), the places a row into `shown` and `counts` (B,), the sum of the hashes of what was done into
    `total` (1,). Gives S, padding left out, or -1 - t at a token t outside of the vocabulary.
    """
    for p in range(len(tokens)):
        if np.uint32(tokens[p]) >= np.uint32(vocabulary):
            return -1 - np.int64(np.uint32(tokens[p]))
    shown[:] = 0
    counts[:] = 0
    e, d, segments, sum_ = 0, 0, 0, U64(0)
    kept, hidden = spans[0], spans[1]
    for segment in range(len(bounds) - 1):
        first, end = bounds[segment], bounds[segment + 1]
        if first == end:
            continue
        b = first // length
        row = b * length
        if first - row >= sizes[b]:
            continue  # padding
        size = end - first - 2
        word, e_before, d_before = words[b], e, d
        for p in range(size):
            draws[p] = mixed(word ^ places[first - row + 1 + p])
        noise = min(max(int(np.rint(size * rate)), 1), size - 1)
        parts = 1
        if noise > 0:
            parts = min(max(int(np.rint(noise / mean)), 1), noise, size - noise, most)
            _composed(draws, 0, noise, parts, hidden)
            _composed(draws, noise - 1, size - noise, parts, kept)
        else:  # a segment of one token is shown as it is
            kept[0], hidden[0] = max(size, 0), 0
        p = first + 1
        for part in range(parts):
            for _ in range(kept[part]):
                inputs[e] = tokens[p]
                sum_ += mixed(draws[p - first - 1] ^ U64(np.int64(tokens[p]) << 32))
                e += 1
                p += 1
            if noise > 0:
                mark = sentinel + step * part
                inputs[e], labels[d] = mark, mark
                e += 1
                d += 1
                for _ in range(hidden[part]):
                    labels[d] = tokens[p]
                    sum_ += mixed(draws[p - first - 1] ^ U64((np.int64(tokens[p]) << 32) + mark))
                    d += 1
                    p += 1
        inputs[e], labels[d] = tokens[end - 1], tokens[end - 1]
        e += 1
        d += 1
        answers[d_before] = start
        for each in range(d_before + 1, d):
            answers[each] = labels[each - 1]
        shown[b] += e - e_before
        counts[b] += d - d_before
        ends[segments], answer_ends[segments] = e, d
        segments += 1
    total[0] = sum_
    return segments
