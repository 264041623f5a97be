"""Labels of texts by a fastText model, whole batches at a time, without the GIL.

Promises: for a text whose line breaks are spaces, the label that fastText gives and its likelihood to 1e-6 (to the last
bit, with lid.176); the same whatever was asked before and in however many threads. Costs some 10 to 20 ns a byte of
prose, memory of 4 to 26 MB a thread beside the model. Refuses nothing: a text of nothing but white space has no label.
"""

import threading
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tundish.operators.text.fasttext_file import Model
from tundish.operators.text.kernels.fasttext import BATCH, LONG
from tundish.operators.text.kernels.fasttext_labels import labelled

LEAST, MOST = 1 << 14, 1 << 19  # places of the memory of words; half of them are used
BYTES = 6  # of texts for a place: a word of thirteen bytes may be new
ROWS = 1 << 20  # of n-grams in it, at least


class Found(NamedTuple):
    """`labels`: (n, k) int32 numbers in `Model.labels`, most likely first, -1 for none; `scores`: (n, k) float32."""

    labels: np.ndarray
    scores: np.ndarray


class Predictor:
    """May be called from any thread; each has a memory of words of its own."""

    def __init__(self, model: Model) -> None:
        self.model, self._own = model, threading.local()
        self._pruned = model.pruned, np.packbits(model.pruned >= 0, bitorder="little")
        self._across = np.ascontiguousarray(model.weights.T)
        self._known = model.words, model.bounds, model.table
        self._sizes = np.array([model.shortest, model.longest, max(1, model.buckets), model.ngrams], np.int64)

    def __call__(self, texts: pa.LargeStringArray, k: int = 1) -> Found:
        """The k most likely labels of each text; none for a null or blank one."""
        model = self.model
        offsets = np.frombuffer(texts.buffers()[1], np.int64, len(texts) + 1, 8 * texts.offset)
        data = np.frombuffer(texts.buffers()[2] or b"\0", np.uint8)
        own = self._memory(int(offsets[-1] - offsets[0]) if len(texts) else 0)
        longest = int(np.diff(offsets).max(initial=0))
        k = min(k, len(model.labels))
        made = Found(np.empty((len(texts), k), np.int32), np.zeros((len(texts), k), np.float32))
        runs = np.empty(longest // 2 + 2 if model.ngrams > 1 else 1, np.uint32)
        mine = (own.learnt, own.state, own.hidden, runs, own.nodes, own.so_far, own.dots)
        labelled(
            data, offsets, self._known, model.vectors, self._across, model.tree, self._pruned, self._sizes,
            model.eos, model.loss, mine, *made,
        )  # fmt: skip
        made.labels[_blank(texts, data, offsets)] = -1
        made.scores[made.labels < 0] = 0
        return made

    def _memory(self, size: int) -> threading.local:
        """What this thread remembers, with room for the words of `size` more bytes: a small memory is quick to begin
        with, a large one need not be emptied often."""
        own, labels = self._own, len(self.model.labels)
        if not hasattr(own, "state"):
            own.places, own.state = 0, np.zeros(2, np.int64)
            own.hidden = np.zeros(self.model.vectors.shape[1], np.float32)
            own.dots, own.so_far = np.zeros(labels, np.float32), np.zeros(2 * labels + 2, np.float32)
            own.nodes = np.zeros(2 * labels + 2, np.int32)
        full = 16 * int(own.state[0]) > 7 * own.places  # a half is what there is room for
        wanted = max(1 << (size // BYTES).bit_length(), 2 * own.places if full else 0)
        if (wanted := min(MOST, max(LEAST, wanted))) > own.places:
            own.places, own.state[:] = wanted, 0
            hashes = np.zeros(wanted if self.model.ngrams > 1 else 1, np.uint32)
            pool, marked = np.empty(max(ROWS, 8 * wanted), np.int32), np.empty(LONG + 2, np.uint8)
            batch = np.empty(BATCH, np.uint64), np.empty((BATCH, 5), np.int64)
            own.learnt = (np.zeros((wanted, 2), np.uint64), hashes, pool, marked, *batch)
        return own


def _blank(texts: pa.LargeStringArray, data: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """Rows of null texts and of those of nothing but white space (Unicode's)."""
    first = data[np.minimum(offsets[:-1], len(data) - 1)]
    odd = np.flatnonzero((np.diff(offsets) == 0) | (first <= 32) | (first >= 127))
    if texts.null_count:
        odd = np.union1d(odd, np.flatnonzero(texts.is_null()))
    trimmed = pc.utf8_trim_whitespace(texts.take(pa.array(odd)))
    empty = pc.fill_null(pc.equal(pc.binary_length(trimmed), 0), True)
    return odd[empty.to_numpy(zero_copy_only=False)]
