"""The machine code of objectives that guess the next token: causal, and behind a prefix.

B rows, T places of a row, K guessed places, S segments.
"""

import numpy as np

from tundish.operators.model.kernels import LOW, mixed
from tundish.operators.text.kernels.machine import U64, kernel


@kernel
def follow(
    tokens, length, bounds, sizes, words, places, prefixed, drawn, vocabulary, found, labels, prefixes, counts, total
):
    """Of flattened rows `tokens` (B * T,), the places whose next place is of the same segment, and what stands there.

    bounds (S + 1,), sizes (B,): as the rows were filled; words, drawn (B,): each row's word in the stream of places and
    in that of prefixes; places (T,): the hash of every place; prefixed: whether a segment of n tokens has a prefix of 1
    to n - 1 of them, behind which alone is guessed. Writes `found` and `labels` (K,), the length of each prefix into
    `prefixes` (S,) (0 for padding), the number a row into `counts` (B,), the sum of the hashes of what is guessed into
    `total` (1,). Gives K, or -1 - t at a token t outside of the vocabulary.
    """
    for p in range(len(tokens)):
        if np.uint32(tokens[p]) >= np.uint32(vocabulary):
            return -1 - np.int64(np.uint32(tokens[p]))
    counts[:] = 0
    at, sum_ = 0, U64(0)
    for segment in range(len(bounds) - 1):
        first, end = bounds[segment], bounds[segment + 1]
        prefixes[segment] = 0
        if first == end:
            continue
        b = first // length
        row = b * length
        if first - row >= sizes[b]:
            continue  # padding
        begin = first
        if prefixed:
            most = end - first - 1
            lot = mixed(drawn[b] ^ places[first - row]) & LOW
            prefix = min(1 + np.int64((lot * U64(most)) >> U64(32)), end - first)
            prefixes[segment] = prefix
            begin = first + prefix - 1  # the last place of the prefix guesses the first token behind it
        word = words[b]
        for p in range(begin, end - 1):
            label = tokens[p + 1]
            found[at + p - begin] = p
            labels[at + p - begin] = label
            sum_ += mixed(mixed(word ^ places[p - row]) ^ U64((np.int64(label) << 32) + np.int64(tokens[p])))
        at += max(0, end - 1 - begin)
        counts[b] += max(0, end - 1 - begin)
    total[0] = sum_
    return at
