"""Which source each row of the training comes from: an even interleaving by weights, as a function of the position.

Sources are joined two by two, the lightest first, into a tree. At a node whose two sides weigh a and b, the first i
places hold round(i a / (a + b)) of the first side: a balanced word (Tijdeman 1980, the chairman assignment problem,
for two states), so a side is never more than half a place off its share, and a source less than two.

Promises: over as many places as the weights sum to, every source comes exactly as often as it weighs; `split` and
`place` are inverse. Costs a few integer operations a place and level of the tree, nothing to remember. Refuses
weights below one.
"""

import heapq
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

MOST = 3_000_000_000  # sum of the weights: two numbers below it multiply within 63 bits


@dataclass(frozen=True)
class _Node:
    """Two sides, each a source's number or another node."""

    left: "int | _Node"
    right: "int | _Node"
    a: int
    b: int

    def before(self, places: np.ndarray) -> np.ndarray:
        """How many of the first `places` are the left side's."""
        turns, rest = np.divmod(places, self.a + self.b)
        return turns * self.a + (rest * self.a + (self.a + self.b) // 2) // (self.a + self.b)

    def left_at(self, cursors: np.ndarray) -> np.ndarray:
        """The place of the left side's row number `cursors`: the first at whose end one more has come."""
        both = self.a + self.b
        turns, rest = np.divmod(cursors, self.a)
        return turns * both - ((both // 2 - (rest + 1) * both) // self.a) - 1

    def right_at(self, cursors: np.ndarray) -> np.ndarray:
        both = self.a + self.b
        turns, rest = np.divmod(cursors, self.b)
        return turns * both + (rest * both + both // 2) // self.b


class Mixture:
    """`weights`: of each source, whole numbers."""

    def __init__(self, weights: Sequence[int]) -> None:
        if not weights or min(weights) < 1:
            raise ValueError(f"weights {list(weights)} cannot be mixed; give every source one of at least 1")
        while sum(weights) > MOST:  # as exact as 32 bits are
            weights = [max(1, weight // 2) for weight in weights]
        divisor = math.gcd(*weights)
        self.weights = tuple(weight // divisor for weight in weights)
        self.period = sum(self.weights)
        heap: list[tuple[int, int, int | _Node]] = [(w, number, number) for number, w in enumerate(self.weights)]
        heapq.heapify(heap)
        while len(heap) > 1:
            (b, _, right), (a, number, left) = heapq.heappop(heap), heapq.heappop(heap)
            heapq.heappush(heap, (a + b, number, _Node(left, right, a, b)))
        self._root = heap[0][2]

    def split(self, places: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Source and number within the source, each (n,) int64, of `places` (n,) int64."""
        source, cursor = np.empty_like(places), np.empty_like(places)
        left: list[tuple[int | _Node, np.ndarray, np.ndarray]] = [(self._root, np.arange(len(places)), places)]
        while left:
            node, which, here = left.pop()
            if isinstance(node, int):
                source[which], cursor[which] = node, here
                continue
            before = node.before(here)
            first = node.before(here + 1) > before
            left.append((node.left, which[first], before[first]))
            left.append((node.right, which[~first], (here - before)[~first]))
        return source, cursor

    def counts(self, places: int) -> list[int]:
        """How often each source comes among the first `places`."""
        found = [0] * len(self.weights)
        left: list[tuple[int | _Node, int]] = [(self._root, places)]
        while left:
            node, here = left.pop()
            if isinstance(node, int):
                found[node] = here
                continue
            before = int(node.before(np.array(here)))
            left += [(node.left, before), (node.right, here - before)]
        return found

    def place(self, source: int, cursors: np.ndarray) -> np.ndarray:
        """The places (n,) int64 at which a source's rows `cursors` (n,) come."""
        return self._place(self._root, source, cursors)

    def _place(self, node: "int | _Node", source: int, cursors: np.ndarray) -> np.ndarray:
        if isinstance(node, int):
            return cursors
        if _holds(node.left, source):
            return node.left_at(self._place(node.left, source, cursors))
        return node.right_at(self._place(node.right, source, cursors))


def _holds(node: "int | _Node", source: int) -> bool:
    return node == source if isinstance(node, int) else _holds(node.left, source) or _holds(node.right, source)
