"""Trees that say of each block how likely it is main text, and which blocks are taken.

A forest is gradient-boosted regression trees on the logistic loss (Friedman 2001; fitted by benchmarks/fit_blocks.py
with LightGBM). What is taken maximises the expected F1 over words: sorted by likelihood, the best cut is where the
expected overlap outweighs the length most (Ye, Chai, Lee, Chieu 2012, "Optimizing F-measure").

Promises: likelihoods are multiples of 2^-16, so that the last bit of a logarithm decides nothing. Costs about 0.3 ms
for 300 blocks and 200 trees.
"""

from typing import Any, NamedTuple

import numpy as np

from tundish.operators.text.kernels.machine import I64, kernel

GRAIN = 65_536


class Forest(NamedTuple):
    """Nodes of all trees, one array a field. Children of node n lie at 2 n (the feature is not above the threshold) and
    2 n + 1. A leaf is its own child, so that all blocks take as many steps as the tree is deep."""

    roots: np.ndarray  # (trees,) int32
    steps: np.ndarray  # (trees,) int32
    feature: np.ndarray  # (nodes,) int32
    threshold: np.ndarray  # (nodes,) float32; infinite in a leaf
    children: np.ndarray  # (2 nodes,) int32
    values: np.ndarray  # (nodes,) float32; 0 but in a leaf

    @classmethod
    def of(cls, trees: list[Any]) -> "Forest":
        """From trees as nested lists: [feature, threshold, below, above], or a number for a leaf."""
        rows: list[list[float]] = []
        roots, steps = [], []
        for tree in trees:
            roots.append(len(rows))
            steps.append(_laid(tree, rows))
        feature, threshold, left, right, value = zip(*rows, strict=True)
        children = np.array([left, right], np.int32).T.ravel()
        whole = (np.array(one, np.int32) for one in (roots, steps, feature))
        return cls(*whole, np.array(threshold, np.float32), children, np.array(value, np.float32))


def _laid(tree: Any, rows: list[list[float]]) -> int:
    """Append a tree to the rows; how many steps it is deep."""
    at = len(rows)
    if not isinstance(tree, list):
        rows.append([0, np.inf, at, at, tree])
        return 0
    rows.append([tree[0], tree[1], 0, 0, 0])
    rows[at][2] = len(rows)
    below = _laid(tree[2], rows)
    rows[at][3] = len(rows)
    return 1 + max(below, _laid(tree[3], rows))


@kernel
def _sums(rows, roots, steps, feature, threshold, children, values, at, out):
    """`at`: (blocks,) int32 to work in."""
    n = rows.shape[1]
    for row in range(n):
        out[row] = 0.0
    for tree in range(roots.size):
        for row in range(n):
            at[row] = roots[tree]
        for _ in range(steps[tree]):
            for row in range(n):
                node = I64(at[row])
                at[row] = children[2 * node + I64(rows[feature[node], row] > threshold[node])]
        for row in range(n):
            out[row] += values[at[row]]


def likelihoods(forest: Forest, rows: np.ndarray) -> np.ndarray:
    """(blocks,) float64 in [0, 1], for (features, blocks) float32."""
    out = np.empty(rows.shape[1], np.float64)
    _sums(rows, *forest, np.empty(rows.shape[1], np.int32), out)
    return np.round(GRAIN / (1 + np.exp(-out))) / GRAIN


class Cut(NamedTuple):
    """Where blocks are cut. `wary`: what is left out counts so much; below 1 fewer are taken. Nothing below `floor` is
    taken while something else is, nor below `high` where at least `sure` is expected: what a page that is read so
    surely has beside is furniture."""

    wary: float = 0.8
    floor: float = 0.45
    high: float = 0.65
    sure: float = 0.9


def taken(likely: np.ndarray, words: np.ndarray, cut: Cut = Cut()) -> tuple[np.ndarray, float]:  # noqa: B008
    """(blocks,) bool: which to take, and the F1 that is expected of it."""
    if not len(likely):
        return np.zeros(0, bool), 0.0
    order = np.argsort(-likely, kind="stable")
    gain, size = np.cumsum((likely * words)[order]), np.cumsum(words[order])
    best = int((gain / np.maximum(1, size + cut.wary * gain[-1])).argmax())
    expected = float(2 * gain[best] / max(1.0, size[best] + gain[-1]))
    out = np.zeros(len(likely), bool)
    out[order[: best + 1]] = True
    for floor in (cut.floor, cut.high if expected >= cut.sure else 0.0):
        if (out & (likely > floor)).any():
            out &= likely > floor
    return out, expected
