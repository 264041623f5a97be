"""From the sum of a text's rows to its labels: a softmax, a hierarchical one, or a yes or no for each label.

Promises: no GIL; dot products in fastText's order and precision, so that likelihoods are its own. Costs the product of
labels and dimension a text, side by side. Refuses nothing.
"""

import numpy as np

from tundish.operators.text.kernels.fasttext import summed
from tundish.operators.text.kernels.machine import I64, inner, kernel

TINY = 1e-5  # added to a likelihood before its logarithm, as in fastText
F32 = np.float32
HIERARCHICAL, SOFTMAX = 1, 3  # fastText's numbers of losses; with the others every label is yes or no by itself


@inner
def _put(label, score, labels, scores, held):
    """Into the best so far, best first; how many there are then."""
    at = min(held, labels.size - 1)
    while at > 0 and scores[at - 1] < score:
        labels[at], scores[at] = labels[at - 1], scores[at - 1]
        at -= 1
    if at < labels.size:
        labels[at], scores[at] = label, score
    return min(held + 1, I64(labels.size))


@inner
def _crossed(hidden, across, out):
    """The product of `hidden` with every column of `across`, (d, n). Columns lie side by side, so that many are added
    up at once, each in fastText's order."""
    out[:] = F32(0)
    for d in range(hidden.size):
        part = hidden[d]
        for column in range(across.shape[1]):
            out[column] += across[d, column] * part


@inner
def _log(chance):
    return F32(np.log(np.float64(chance) + TINY))


@kernel
def descended(hidden, across, tree, labels, scores, nodes, so_far, dots):
    """The most likely labels of a hierarchical softmax, best first; how many. What cannot be among them is not looked
    at. `across`: (d, nodes) weights; `nodes`, `so_far`, `dots`: room, as many as labels."""
    leaves, held, depth = I64(dots.size), I64(0), I64(1)
    nodes[0], so_far[0] = 2 * leaves - 2, F32(0)
    least = _log(F32(0))
    _crossed(hidden, across, dots)
    while depth:
        depth -= 1
        node, score = I64(nodes[depth]), so_far[depth]
        if score < least or (held == labels.size and score < scores[held - 1]):
            continue
        if node < leaves:
            held = _put(node, score, labels, scores, held)
            continue
        right = F32(1.0 / np.float64(F32(1) + np.exp(-dots[node - leaves])))
        first = I64(right < F32(0.5))  # the likelier side on top: it is looked at first, and less of the other is
        nodes[depth + 1 - first], so_far[depth + 1 - first] = tree[1, node - leaves], F32(score + _log(right))
        left = F32(score + _log(F32(1.0 - np.float64(right))))
        nodes[depth + first], so_far[depth + first] = tree[0, node - leaves], left
        depth += 2
    for one in range(held):
        scores[one] = np.exp(scores[one])
    return held


@kernel
def weighed(hidden, across, softmax, labels, scores, chances):
    """The most likely of all labels, best first; how many. `across`: (d, labels) weights; `chances`: room, as many as
    labels."""
    most, whole, held = F32(-np.inf), F32(0), I64(0)
    _crossed(hidden, across, chances)
    for label in range(chances.size):
        most = max(most, chances[label])
    for label in range(chances.size):
        if softmax:
            chances[label] = np.exp(chances[label] - most)
            whole += chances[label]
        else:
            chances[label] = F32(1) / (F32(1) + np.exp(-chances[label]))
    for label in range(chances.size):
        score = _log(chances[label] / whole if softmax else chances[label])
        if held < labels.size or score > scores[held - 1]:
            held = _put(label, score, labels, scores, held)
    for one in range(held):
        scores[one] = np.exp(scores[one])
    return held


@kernel
def labelled(data, offsets, known, vectors, across, tree, pruned, sizes, eos, loss, own, labels, scores):
    """(n, k) labels and their likelihoods, best first, for n texts; label -1 where there are fewer, and for a text
    without a row. `own`: what is learnt of words, the state of that, and room: hidden, runs, nodes, so far, dots."""
    learnt, state, hidden, runs, nodes, so_far, dots = own
    for one in range(offsets.size - 1):
        labels[one, :] = -1
        start, end = I64(offsets[one]), I64(offsets[one + 1])
        count = summed(data, start, end, known, vectors, pruned, sizes, eos, learnt, state, runs, hidden)
        if count <= 0:
            continue
        if loss == HIERARCHICAL:
            held = descended(hidden, across, tree, labels[one], scores[one], nodes, so_far, dots)
        else:
            held = weighed(hidden, across, loss == SOFTMAX, labels[one], scores[one], dots)
        labels[one, held:] = -1
