"""A fastText classifier learned from words and their n-grams of characters: stochastic descent, one text a step.

A text is the mean of the rows of its words, of their n-grams and of the end of the sentence; the loss is a softmax over
the labels, or a hierarchical one over a Huffman tree of them, which costs the logarithm of their number.

Promises: no GIL; the same order of texts gives the same numbers. Costs two passes over the rows of a text and epoch.
"""

import numpy as np

from tundish.operators.text.kernels.fasttext import _grams, _named
from tundish.operators.text.kernels.fasttext_labels import HIERARCHICAL
from tundish.operators.text.kernels.machine import I64, inner, kernel

F32 = np.float32


@kernel
def spelled(data, offsets, sizes, whole, pool, starts, named):
    """Buckets of the n-grams of each word into `pool`; (words + 1,) `starts` says where each word's begin. `named`:
    (words,) whether it is fastText's own and no word; `whole`: which n-grams were pruned, an empty array for none."""
    used = I64(0)
    for word in range(offsets.size - 1):
        starts[word] = used
        begin, end = I64(offsets[word]), I64(offsets[word + 1])
        named[word] = _named(data, begin, end)
        if sizes[1] > 0 and not named[word]:
            used = _grams(data, begin, end, I64(0), end - begin + 2, sizes, I64(0), whole, pool, used)
    starts[offsets.size - 1] = used
    return used


@inner
def _gathered(tokens, low, high, pool, starts, own, eos, vectors, hidden):
    """The mean of a text's rows in `hidden`; how many they are."""
    hidden[:] = F32(0)
    for d in range(hidden.size):
        hidden[d] = vectors[eos, d]
    count = I64(1)
    for token in range(low, high):
        word = I64(tokens[token])
        if own[word] >= 0:
            row = I64(own[word])
            for d in range(hidden.size):
                hidden[d] += vectors[row, d]
            count += 1
        for one in range(starts[word], starts[word + 1]):
            row = I64(pool[one])
            for d in range(hidden.size):
                hidden[d] += vectors[row, d]
        count += I64(starts[word + 1] - starts[word])
    part = F32(1.0 / count)
    for d in range(hidden.size):
        hidden[d] *= part
    return count


@inner
def _spread(tokens, low, high, pool, starts, own, eos, vectors, back):
    """What was learned, added to every row of a text."""
    for d in range(back.size):
        vectors[eos, d] += back[d]
    for token in range(low, high):
        word = I64(tokens[token])
        if own[word] >= 0:
            row = I64(own[word])
            for d in range(back.size):
                vectors[row, d] += back[d]
        for one in range(starts[word], starts[word + 1]):
            row = I64(pool[one])
            for d in range(back.size):
                vectors[row, d] += back[d]


@inner
def _dot(weights, row, hidden):
    """Eight sums side by side: one after the other would wait for each addition."""
    s0, s1, s2, s3 = F32(0), F32(0), F32(0), F32(0)
    s4, s5, s6, s7 = F32(0), F32(0), F32(0), F32(0)
    d, size = I64(0), I64(hidden.size)
    while d + 8 <= size:
        s0 += weights[row, d] * hidden[d]
        s1 += weights[row, d + 1] * hidden[d + 1]
        s2 += weights[row, d + 2] * hidden[d + 2]
        s3 += weights[row, d + 3] * hidden[d + 3]
        s4 += weights[row, d + 4] * hidden[d + 4]
        s5 += weights[row, d + 5] * hidden[d + 5]
        s6 += weights[row, d + 6] * hidden[d + 6]
        s7 += weights[row, d + 7] * hidden[d + 7]
        d += 8
    while d < size:
        s0 += weights[row, d] * hidden[d]
        d += 1
    return ((s0 + s1) + (s2 + s3)) + ((s4 + s5) + (s6 + s7))


@inner
def _pushed(weights, row, hidden, back, push):
    for d in range(hidden.size):
        back[d] += push * weights[row, d]
        weights[row, d] += push * hidden[d]


@kernel
def learned(
    tokens, offsets, truth, pool, starts, own, eos, vectors, weights, loss, paths, sides, ends, epochs, lr, room
):
    """Descend in place. `tokens`: words of all texts, `offsets`: (texts + 1,) where each text's begin; `truth`: their
    labels. `paths`, `sides`: nodes above each label and which side of them it is on, `ends`: (labels + 1,) where each
    label's begin. `room`: (2, d) and (labels,) float32. The rate falls linearly to nothing."""
    means, chances = room
    hidden, back = means[0], means[1]
    texts, labels = I64(truth.size), I64(chances.size)
    for step in range(epochs * texts):
        text = step % texts
        low, high = I64(offsets[text]), I64(offsets[text + 1])
        rate = F32(lr * (1.0 - step / (epochs * texts)))
        count = _gathered(tokens, low, high, pool, starts, own, eos, vectors, hidden)
        back[:] = F32(0)
        label = I64(truth[text])
        if loss == HIERARCHICAL:
            for at in range(ends[label], ends[label + 1]):
                node = I64(paths[at])
                score = F32(1) / (F32(1) + np.exp(-_dot(weights, node, hidden)))
                _pushed(weights, node, hidden, back, rate * (F32(sides[at]) - score))
        else:
            most, whole = F32(-np.inf), F32(0)
            for one in range(labels):
                chances[one] = _dot(weights, one, hidden)
                most = max(most, chances[one])
            for one in range(labels):
                chances[one] = np.exp(chances[one] - most)
                whole += chances[one]
            for one in range(labels):
                _pushed(weights, one, hidden, back, rate * (F32(one == label) - chances[one] / whole))
        part = F32(1.0 / count)
        for d in range(back.size):
            back[d] *= part
        _spread(tokens, low, high, pool, starts, own, eos, vectors, back)
