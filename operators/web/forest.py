"""Trees that say of each block how likely it is main text, and which blocks are taken.

A forest is gradient-boosted regression trees on the logistic loss (Friedman 2001; fitted by benchmarks/fit_blocks.py
with LightGBM). What is taken maximises the expected F1 over words: sorted by likelihood, the best cut is where the
expected overlap outweighs the length most (Ye, Chai, Lee, Chieu 2012, "Optimizing F-measure").

Promises: likelihoods are multiples of 2^-16, so that the last bit of a logarithm decides nothing. Costs about 0.2 ms
for 300 blocks and 140 trees of 16 leaves.
"""

from typing import Any, NamedTuple

import numpy as np

from tundish.operators.text.kernels.machine import U64, kernel, trailing

GRAIN = 65_536
LEAVES = 32  # a tree may have
ABREAST = 5  # nodes asked in one pass over the blocks
ROWS = 512  # blocks that all trees see before the next ones


class Forest(NamedTuple):
    """Trees as QuickScorer has them (Lucchese et al. 2015): a node whose feature is above its threshold strikes the
    leaves below the other side; the first leaf that nobody strikes is the one a walk from the root would reach. So
    nodes of a tree can be asked in any order, of many blocks at once, without a branch. Places left over ask for more
    than there is."""

    feature: np.ndarray  # (trees, nodes) uint32; nodes a multiple of ABREAST
    threshold: np.ndarray  # (trees, nodes) float32
    struck: np.ndarray  # (trees, nodes) uint32: a bit for each leaf not above
    values: np.ndarray  # (trees, leaves) float64, float32 numbers

    @classmethod
    def of(cls, trees: list[Any]) -> "Forest":
        """From trees as nested lists: [feature, threshold, below, above], or a number for a leaf. ValueError for one of
        more than LEAVES leaves."""
        laid: list[tuple[list[Any], list[float]]] = [([], []) for _ in trees]
        for tree, (nodes, leaves) in zip(trees, laid, strict=True):
            _lay(tree, nodes, leaves)
        most, wide = max(len(nodes) for nodes, _ in laid), max(len(leaves) for _, leaves in laid)
        if wide > LEAVES:
            raise ValueError(f"a tree of {wide} leaves; {LEAVES} are the most")
        shape = len(trees), -(-most // ABREAST) * ABREAST
        feature, threshold = np.zeros(shape, np.uint32), np.full(shape, np.inf, np.float32)
        struck, values = np.zeros(shape, np.uint32), np.zeros((len(trees), wide))
        for tree, (nodes, leaves) in enumerate(laid):
            values[tree, : len(leaves)] = np.array(leaves, np.float32)
            for at, node in enumerate(nodes):
                feature[tree, at], threshold[tree, at], struck[tree, at] = node
        return cls(feature, threshold, struck, values)


def _lay(tree: Any, nodes: list[Any], leaves: list[float]) -> int:
    """Append a tree to the nodes and leaves; its leaves as bits."""
    if not isinstance(tree, list):
        leaves.append(tree)
        return 1 << (len(leaves) - 1)
    at = len(nodes)
    nodes.append(None)
    below = _lay(tree[2], nodes, leaves)
    nodes[at] = (tree[0], tree[1], below)
    return below | _lay(tree[3], nodes, leaves)


@kernel
def _sums(rows, feature, threshold, struck, values, gone, out):
    """Five nodes (ABREAST) a pass. `gone`: uint32 to work in, as many as blocks are seen at once."""
    n, no = rows.shape[1], np.uint32(0)
    for one in range(n):
        out[one] = 0.0
    for start in range(0, n, gone.size):
        many = min(gone.size, n - start)
        for tree in range(feature.shape[0]):
            for one in range(many):
                gone[one] = 0
            for at in range(0, feature.shape[1], ABREAST):
                f, t, s = feature[tree, at:], threshold[tree, at:], struck[tree, at:]
                a, b, c, d = rows[f[0], start:], rows[f[1], start:], rows[f[2], start:], rows[f[3], start:]
                e, t0, t1, t2, t3, t4 = rows[f[4], start:], t[0], t[1], t[2], t[3], t[4]
                s0, s1, s2, s3, s4 = s[0], s[1], s[2], s[3], s[4]
                for one in range(many):
                    left = (s0 if a[one] > t0 else no) | (s1 if b[one] > t1 else no) | (s2 if c[one] > t2 else no)
                    gone[one] |= left | (s3 if d[one] > t3 else no) | (s4 if e[one] > t4 else no)
            value, to = values[tree], out[start:]
            for one in range(many):
                to[one] += value[trailing(~U64(gone[one]))]


def summed(forest: Forest, rows: np.ndarray) -> np.ndarray:
    """(blocks,) float64: what all trees say, from the first to the last."""
    out = np.empty(rows.shape[1], np.float64)
    _sums(rows, *forest, np.empty(ROWS, np.uint32), out)
    return out


def likelihoods(forest: Forest, rows: np.ndarray) -> np.ndarray:
    """(blocks,) float64 in [0, 1], for (features, blocks) float32."""
    return np.round(GRAIN / (1 + np.exp(-summed(forest, rows)))) / GRAIN


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
