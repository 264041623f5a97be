"""A supervised fastText model (`.bin` or `.ftz`) as arrays, ready for prediction by kernels.

The format is fastText's own (versions 11 and 12): arguments, dictionary, input matrix, output matrix, the last two
plain or product-quantized (Jegou, Douze, Schmid 2011). Quantized matrices are made plain, as fastText itself does row
by row; plain ones are read in place (memory-mapped), so processes share them.

Promises: every number as fastText has it. Costs a second for a million words, memory of the vocabulary. Refuses what is
no supervised model, and one that ends early, with the path.
"""

import mmap
import struct
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from tundish.operators.text.kernels.fasttext import OFF, laid, measured
from tundish.operators.text.kernels.fasttext_labels import HIERARCHICAL

MAGIC, SUPERVISED = 793712314, 3
PREFIX = b"__label__"
HUGE = 10**15  # count of a node of the tree that is not there yet, as in fastText
CENTROIDS = 256
LINE = 64  # bytes of a cache line


@dataclass(frozen=True, eq=False)
class Model:
    """`labels` without their prefix, in the model's order; the rest as the kernels want it.

    `words`: bytes of all words; `bounds`: (words + 1,) where each begins; `table`: open addressing by FNV-1a.
    `vectors`: (rows, d) float32; `weights`: (labels or inner nodes, d) float32. `pruned`: (buckets,) int32 rows of
    n-grams in a pruned model, -1 for none; empty where all are kept. `tree`: (2, inner nodes) children for a
    hierarchical softmax, leaves below `len(labels)`.
    """

    labels: tuple[str, ...]
    words: np.ndarray
    bounds: np.ndarray
    table: np.ndarray
    vectors: np.ndarray
    weights: np.ndarray
    tree: np.ndarray
    pruned: np.ndarray
    loss: int
    shortest: int
    longest: int
    buckets: int
    ngrams: int
    eos: int


class _Bytes:
    """Reads numbers one after the other."""

    def __init__(self, data: np.ndarray) -> None:
        self.data, self.at = data, 0

    def take(self, form: str) -> tuple[int, ...]:
        size = struct.calcsize("<" + form)
        found = struct.unpack("<" + form, self.data[self.at : self.at + size].tobytes())
        self.at += size
        return found

    def array(self, kind: str, *shape: int) -> np.ndarray:
        size = int(np.prod(shape, dtype=np.int64)) * np.dtype(kind).itemsize
        if size < 0 or self.at + size > len(self.data):
            raise ValueError("it ends early")
        raw = self.data[self.at : self.at + size]
        self.at += size
        return np.frombuffer(raw, kind).reshape(shape)


@lru_cache(maxsize=4)
def load(path: str, digest: str = "") -> Model:
    """The model in a file, read once a process and digest. Raises ValueError for what is none."""
    with open(path, "rb") as stream:
        try:
            mapped = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
            return _read(_Bytes(np.frombuffer(mapped, np.uint8)))
        except (ValueError, struct.error, UnicodeDecodeError) as error:
            raise ValueError(
                f"{Path(path).name} is no supervised fastText model ({error}); give a .bin or .ftz file"
            ) from None


def read(body: bytes) -> Model:
    """The model in these bytes."""
    return _read(_Bytes(np.frombuffer(body, np.uint8)))


def _read(raw: _Bytes) -> Model:
    magic, version = raw.take("2i")
    if magic != MAGIC or version not in (11, 12):
        raise ValueError("its first bytes are not fastText's")
    dimension, _, _, _, _, ngrams, loss, kind, buckets, shortest, longest, _ = raw.take("12i")
    raw.take("d")
    if kind != SUPERVISED:
        raise ValueError("it holds word vectors and no labels")
    if version == 11:
        longest = 0  # n-grams of characters came with version 12
    size, words, labels, _, pruned = raw.take("3i2q")
    starts = np.zeros(size + 1, np.int64)
    counts = np.zeros(size, np.int64)
    end = measured(raw.data, raw.at, starts, counts)
    if end < 0 or words + labels != size:
        raise ValueError("its dictionary ends early")
    names = [bytes(raw.data[a : b - 10]) for a, b in zip(starts[words:-1], starts[words + 1 :], strict=True)]
    first, raw.at = raw.at, end
    rows = _pruned(raw, pruned, buckets)
    vectors = _matrix(raw, quantized := bool(raw.take("?")[0]))
    weights = _matrix(raw, bool(raw.take("?")[0]) and quantized)
    if vectors.shape[1] != dimension or weights.shape != (labels, dimension):
        raise ValueError("its matrices have other sizes than it says")
    if not np.isfinite(weights).all() or not np.isfinite(vectors[: 1 << 16]).all():
        raise ValueError("its weights are no numbers")
    kept = int(rows.max(initial=OFF)) + 1 if pruned >= 0 else buckets if longest > 0 or ngrams > 1 else 0
    if vectors.shape[0] < words + kept or (buckets < 1 and (longest > 0 or ngrams > 1)):
        raise ValueError("it has fewer vectors than words and n-grams")
    bounds = starts[: words + 1] - first
    text = np.array(raw.data[first : first + int(bounds[-1])])
    table = np.full(1 << max(4, int(words * 3).bit_length()), -1, np.int32)
    eos = laid(text, bounds, table)
    return Model(
        tuple(name.removeprefix(PREFIX).decode("utf-8") for name in names),
        text,
        bounds,
        table,
        vectors,
        weights,
        tree_of(counts[words:]) if loss == HIERARCHICAL else np.zeros((2, 0), np.int32),
        rows,
        loss,
        shortest,
        longest,
        buckets,
        ngrams,
        eos,
    )


def _pruned(raw: _Bytes, pruned: int, buckets: int) -> np.ndarray:
    """Rows that buckets were moved to. fastText keeps none of them where the list is there and empty."""
    if pruned < 0:
        return np.zeros(0, np.int32)
    rows = np.full(max(1, buckets), OFF, np.int32)
    pairs = raw.array("<i4", pruned, 2)
    if len(pairs) and not (pairs.min() >= 0 and pairs[:, 0].max() < len(rows)):
        raise ValueError("its list of kept n-grams names others than it has")
    rows[pairs[:, 0]] = pairs[:, 1]
    return rows


def _matrix(raw: _Bytes, quantized: bool) -> np.ndarray:
    if not quantized:
        rows, columns = raw.take("2q")
        return raw.array("<f4", rows, columns)
    (normed,) = raw.take("?")
    rows, columns, size = raw.take("2qi")
    codes = raw.array("u1", size)
    plain = _decoded(raw, codes, rows, columns)
    if normed:
        lengths = raw.array("u1", rows)
        plain *= _decoded(raw, lengths, rows, 1)
    return plain


def _decoded(raw: _Bytes, codes: np.ndarray, rows: int, columns: int) -> np.ndarray:
    """(rows, columns) float32 of a product quantizer and its codes."""
    dim, parts, wide, last = raw.take("4i")
    centroids = raw.array("<f4", dim * CENTROIDS)
    if dim != columns or len(codes) != rows * parts:
        raise ValueError("its codes have another number than it says")
    out = _aligned(rows, columns)
    for part in range(parts):
        own = last if part == parts - 1 else wide
        start = part * CENTROIDS * wide
        book = centroids[start : start + CENTROIDS * own].reshape(CENTROIDS, own)
        out[:, part * wide : part * wide + own] = book[codes[part::parts]]
    return out


def _aligned(rows: int, columns: int) -> np.ndarray:
    """(rows, columns) float32 that begin where a cache line does: rows of 16 numbers then touch one line, not two."""
    raw = np.empty(4 * rows * columns + LINE, np.uint8)
    start = -raw.ctypes.data % LINE
    return raw[start : start + 4 * rows * columns].view(np.float32).reshape(rows, columns)


def tree_of(counts: np.ndarray) -> np.ndarray:
    """(2, labels - 1) left and right children of the inner nodes of the Huffman tree that fastText builds."""
    size = len(counts)
    weight = np.full(2 * size - 1, HUGE, np.int64)
    weight[:size] = counts
    tree = np.zeros((2, size - 1), np.int32)
    leaf, node = size - 1, size
    for one in range(size, 2 * size - 1):
        for side in range(2):
            if leaf >= 0 and weight[leaf] < weight[node]:
                tree[side, one - size], leaf = leaf, leaf - 1
            else:
                tree[side, one - size], node = node, node + 1
        weight[one] = weight[tree[:, one - size]].sum()
    return tree
