"""A language identifier learned from labelled texts, as fastText's own `.bin` (Joulin et al., arXiv 1607.01759).

A text is the bag of its words and of their n-grams of characters (Bojanowski et al., 1607.04606), n-grams hashed into
buckets; 16 numbers a vector and n-grams of 2 to 4 are what lid.176 has too. Any fastText reads the file, and `Identify`
takes its path. Descent is ours for the reason `classify` gives: with one thread fastText leaves nine tenths of its
vectors unset, and with several it is not the same twice.

Promises: the same texts and labels in any order give the same bytes (one thread, `seed`). Costs some 5 us a text of a
sentence and epoch, (words + buckets) x dimension x 4 bytes of file and memory, and 4 bytes an n-gram of each distinct
word. Refuses fewer than two labels, and a rate so high that numbers go out of bounds.
"""

import struct

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tundish.operators.text.fasttext_file import MAGIC, SUPERVISED, tree_of
from tundish.operators.text.kernels.fasttext_labels import HIERARCHICAL, SOFTMAX
from tundish.operators.text.kernels.fasttext_learn import learned, spelled
from tundish.operators.text.kernels.machine import sealed
from tundish.operators.text.learning import Settings

FORMAT, PREFIX, END = 12, "__label__", "</s>"
WHITE = r"[\x00\x09-\x0d ]+"  # fastText's white space, and no other


def learn(texts: pa.LargeStringArray, labels: pa.StringArray, settings: Settings) -> bytes:
    """A model of the labels that occur, as the bytes of a fastText `.bin`."""
    order = _mixed(texts, labels, settings.seed)
    texts, labels = texts.take(order), labels.take(order)
    names, counts = _ranked(labels)
    if len(names) < 2:
        raise ValueError(f"{len(names)} languages have text to learn from; an identifier needs at least two")
    tokens, offsets, distinct, times = _tokens(texts)
    pool, starts, named = _spelled(distinct, settings)
    kept = np.flatnonzero((times >= settings.least) & ~named)
    kept = kept[np.lexsort((kept, -times[kept]))]
    own = np.full(len(times), -1, np.int32)
    own[kept] = np.arange(1, len(kept) + 1)  # row 0 is the end of the sentence; those of n-grams come behind the words
    pool += np.int32(1 + len(kept))
    truth = pc.index_in(labels, pa.array(names, pa.string())).to_numpy().astype(np.int32)
    paths, sides, ends = _paths(np.array(counts)) if settings.loss == "hierarchical" else _no_paths(len(names))
    drawn = np.random.Generator(np.random.PCG64(settings.seed))
    vectors = drawn.random((1 + len(kept) + settings.buckets, settings.dimension), np.float32)
    vectors = (vectors * np.float32(2) - np.float32(1)) / np.float32(settings.dimension)
    weights = np.zeros((len(names), settings.dimension), np.float32)
    room = (np.zeros((2, settings.dimension), np.float32), np.zeros(len(names), np.float32))
    kind = HIERARCHICAL if settings.loss == "hierarchical" else SOFTMAX
    learned(
        tokens, offsets, truth, pool, starts, own, 0, vectors, weights, kind, paths, sides, ends, settings.epochs,
        settings.lr, room,
    )  # fmt: skip
    if not (np.isfinite(weights).all() and np.isfinite(vectors).all()):
        raise ValueError(f"training went out of bounds with lr {settings.lr}; give a smaller one, such as 0.1")
    words = [(END, len(texts)), *((distinct[int(one)].as_py(), int(times[one])) for one in kept)]
    return _file(words, list(zip(names, counts, strict=True)), vectors, weights, kind, settings)


def _mixed(texts: pa.LargeStringArray, labels: pa.StringArray, seed: int) -> pa.Array:
    """An order that depends on what the texts are and not on how they came: sorted, then shuffled."""
    table = pa.table({"text": texts, "label": labels})
    ordered = pc.sort_indices(table, [("text", "ascending"), ("label", "ascending")])
    drawn = np.random.Generator(np.random.PCG64([seed, 1]))
    return ordered.take(pa.array(drawn.permutation(len(texts))))


def _ranked(labels: pa.StringArray) -> tuple[list[str], list[int]]:
    """Labels and their counts, the most frequent first: the order the tree of a hierarchical softmax is built in."""
    found = [(entry["counts"], entry["values"]) for entry in pc.value_counts(labels).to_pylist()]
    found.sort(key=lambda one: (-one[0], one[1]))
    return [name for _, name in found], [count for count, _ in found]


def _tokens(texts: pa.LargeStringArray) -> tuple[np.ndarray, np.ndarray, pa.LargeStringArray, np.ndarray]:
    """(tokens,) numbers of words; (texts + 1,) where each text's begin; the words, sorted; how often each occurs."""
    split = pc.split_pattern_regex(texts, WHITE)
    words = split.flatten()
    owners = np.repeat(np.arange(len(texts)), pc.list_value_length(split).to_numpy())
    there = pc.greater(pc.binary_length(words), 0)
    words, owners = words.filter(there), owners[there.to_numpy(zero_copy_only=False)]
    coded = words.dictionary_encode()
    coded = coded.combine_chunks() if isinstance(coded, pa.ChunkedArray) else coded
    order = pc.sort_indices(coded.dictionary).to_numpy()
    rank = np.empty(len(order), np.int32)
    rank[order] = np.arange(len(order), dtype=np.int32)
    tokens = rank[coded.indices.to_numpy()]
    offsets = np.searchsorted(owners, np.arange(len(texts) + 1)).astype(np.int64)
    distinct = coded.dictionary.take(pa.array(order)).cast(pa.large_string())
    return tokens, offsets, distinct, np.bincount(tokens, minlength=len(order))


def _spelled(words: pa.LargeStringArray, settings: Settings) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Buckets of the n-grams of all words; where each word's begin; which are fastText's own and no words."""
    bounds = np.frombuffer(words.buffers()[1], np.int64, len(words) + 1, 8 * words.offset)
    data = np.frombuffer(words.buffers()[2] or b"\0", np.uint8)
    each = np.diff(bounds) + 2
    most = settings.longest - settings.shortest + 1 if settings.longest else 0
    pool, starts = np.empty(int(each.sum()) * most + 1, np.int32), np.zeros(len(words) + 1, np.int64)
    sizes = np.array([settings.shortest, settings.longest, max(1, settings.buckets), 1], np.int64)
    named = np.zeros(len(words), np.bool_)
    whole = np.zeros(0, np.int32), np.zeros(0, np.uint8)
    used = spelled(sealed(data), sealed(bounds), sizes, whole, pool, starts, named)
    return pool[:used], starts, named


def _paths(counts: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Nodes above each label of fastText's Huffman tree, whether it is right of them, and where each label's begin."""
    size, tree = len(counts), tree_of(counts)
    above = {int(tree[side, node]): (node, side) for node in range(size - 1) for side in range(2)}
    paths: list[list[tuple[int, int]]] = []
    for label in range(size):
        path, at = [], label
        while at in above:
            node, side = above[at]
            path.append((node, side))
            at = node + size
        paths.append(path)
    flat = np.array([step for path in paths for step in path], np.int32).reshape(-1, 2)
    ends = np.concatenate([[0], np.cumsum([len(path) for path in paths])]).astype(np.int64)
    return np.ascontiguousarray(flat[:, 0]), np.ascontiguousarray(flat[:, 1]), ends


def _no_paths(labels: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return np.zeros(0, np.int32), np.zeros(0, np.int32), np.zeros(labels + 1, np.int64)


def _file(
    words: list[tuple[str, int]], labels: list[tuple[str, int]], vectors: np.ndarray, weights: np.ndarray, loss: int,
    settings: Settings,
) -> bytes:  # fmt: skip
    """fastText's file: arguments, dictionary, input matrix, output matrix; little endian."""
    s, size = settings, len(words) + len(labels)
    told = (s.dimension, 5, s.epochs, s.least, 5, 1, loss, SUPERVISED, s.buckets, s.shortest, s.longest, 100)
    parts = [struct.pack("<2i12id", MAGIC, FORMAT, *told, 1e-4)]
    parts.append(struct.pack("<3i2q", size, len(words), len(labels), sum(count for _, count in words), -1))
    parts += [word.encode() + b"\0" + struct.pack("<qb", count, 0) for word, count in words]
    parts += [(PREFIX + label).encode() + b"\0" + struct.pack("<qb", count, 1) for label, count in labels]
    for matrix in (vectors, weights):
        parts.append(struct.pack("<?2q", False, *matrix.shape) + matrix.astype("<f4").tobytes())
    return b"".join(parts)
