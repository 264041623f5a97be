"""Labels of texts by a fastText model, whole batches at a time, without the GIL.

Promises: for a text whose line breaks are spaces, the label that fastText gives and its likelihood to 1e-6 (to the last
bit, with lid.176); the same whatever was asked before and in however many threads. Costs some 10 to 20 ns a byte of
prose, memory of up to 26 MB a thread beside the model. Refuses nothing: a text of nothing but white space has no label.
"""

import threading
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tundish.operators.text.fasttext_file import Model
from tundish.operators.text.kernels.fasttext import labelled
from tundish.operators.text.kernels.machine import PAD, padded, sealed

PLACES, ROWS = 1 << 19, 1 << 22  # of the memory of words: those of a million pages of one language, and more


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
        model, own = self.model, self._memory()
        offsets = sealed(np.frombuffer(texts.buffers()[1], np.int64, len(texts) + 1, 8 * texts.offset))
        data = sealed(np.frombuffer(texts.buffers()[2] or b"", np.uint8))
        if int(offsets[-1]) + PAD > len(data):  # kernels read a little further
            data, offsets = padded(data, int(offsets[0]), int(offsets[-1])), sealed(offsets - offsets[0])
        longest = int(np.diff(offsets).max(initial=0))
        k = min(k, len(model.labels))
        made = Found(np.empty((len(texts), k), np.int32), np.zeros((len(texts), k), np.float32))
        runs = np.empty(longest // 2 + 2 if model.ngrams > 1 else 1, np.uint32)
        mine = (own.learnt, own.state, own.hidden, runs, own.nodes, own.so_far, own.dots)
        labelled(
            data, offsets, self._known, model.vectors, self._across, model.tree, self._pruned, self._sizes,
            model.eos, model.loss, mine, *made,
        )  # fmt: skip
        blank = ~np.asarray(_said(texts))
        made.labels[blank] = -1
        made.scores[made.labels < 0] = 0
        return made

    def _memory(self) -> threading.local:
        own = self._own
        if not hasattr(own, "learnt"):
            hashes = np.zeros(PLACES if self.model.ngrams > 1 else 1, np.uint32)
            own.learnt = (np.zeros((PLACES, 2), np.uint64), hashes, np.empty(ROWS, np.int32))
            own.state = np.zeros(2, np.int64)
            own.hidden = np.zeros(self.model.vectors.shape[1], np.float32)
            size = 2 * len(self.model.labels) + 2
            own.dots = np.zeros(len(self.model.labels), np.float32)
            own.nodes, own.so_far = np.zeros(size, np.int32), np.zeros(size, np.float32)
        return own


def _said(texts: pa.LargeStringArray) -> np.ndarray:
    """(n,) whether there is anything but white space."""
    said = pc.greater(pc.binary_length(pc.utf8_trim_whitespace(texts)), 0)
    return pc.fill_null(said, False).to_numpy(zero_copy_only=False)
