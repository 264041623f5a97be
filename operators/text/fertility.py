"""How well a vocabulary suits texts: words, pieces, and the characters it has no piece for.

*Fertility* is pieces a word (Rust et al., arXiv 2012.15613). A word is what operators/text/words calls one, in any
script, by the kernels that measure signals; in scripts without spaces every letter is one, so fertility is compared
within a language, and bytes a piece between them. Promises: sums of counts, so parts of a corpus can be added up. Costs
about 3 ns a byte. Refuses nothing.
"""

import threading

import numpy as np
import pyarrow as pa

from tundish.operators.text.kernels.chunks import LIMIT, PROPER, Chunks
from tundish.operators.text.measure import batches
from tundish.operators.text.signals import splitter_of

_OWN = threading.local()  # a table belongs to one thread; it makes every next batch quicker
COUNTS = ("words", "unknown", "spelt")
RATES = {  # name -> (of what, by what), of the sums over some texts
    "tokens_per_word": ("tokens", "words"),
    "bytes_per_token": ("bytes", "tokens"),
    "unknown_rate": ("unknown", "tokens"),
    "byte_rate": ("spelt", "tokens"),
}


class Words:
    """Counts words, and keeps what it knows of every distinct chunk. Belongs to one thread."""

    def __init__(self) -> None:
        self.chunks = Chunks(splitter_of("unicode"))
        self.each = np.ones(1, np.int64)  # words of each chunk known; the last is of WHOLE, which is -1: one word

    def count(self, texts: pa.LargeStringArray) -> np.ndarray:
        found = np.zeros(len(texts), np.int64)
        for first, last, data, offsets in batches(texts):
            if self.chunks.known > LIMIT:  # its table begins anew
                self.each = np.ones(1, np.int64)
            scanned = self.chunks.scan(data, offsets, 0, last - first)
            self._learn()
            run = np.concatenate([[0], np.cumsum(self.each[scanned.chunks[:, 2]])])
            found[first:last] = np.diff(run[scanned.places])
        return found

    def _learn(self) -> None:
        seen, known = len(self.each) - 1, self.chunks.known
        if known > seen:
            ends = self.chunks.ends[seen : known + 1].astype(np.int64)
            run = np.concatenate([[0], np.cumsum(self.chunks.kinds[ends[0] : ends[-1]] & PROPER > 0)])
            self.each = np.concatenate([self.each[:seen], np.diff(run[ends - ends[0]]), [1]])


def words(texts: pa.LargeStringArray) -> np.ndarray:
    """(n,) int64: words of each text. Null counts as empty."""
    if not hasattr(_OWN, "words"):
        _OWN.words = Words()
    return _OWN.words.count(texts)


def counted(
    texts: pa.LargeStringArray, tokens: pa.LargeListArray, odd: np.ndarray, unknown: int
) -> dict[str, pa.Array]:
    """Of each text, (n,) uint32: its words, its unknown pieces, and the bytes that characters without one are spelt in.

    `odd`: which ids are either; `unknown`: the id of the former, -1 for none.
    """
    flat = tokens.values.to_numpy()
    bounds = tokens.offsets.to_numpy()
    lost, strange = (_summed(mask, bounds) for mask in (flat == unknown, odd[flat]))
    found = (words(texts), lost, strange - lost)
    return {name: pa.array(values.astype(np.uint32)) for name, values in zip(COUNTS, found, strict=True)}


def _summed(mask: np.ndarray, bounds: np.ndarray) -> np.ndarray:
    run = np.concatenate([[0], np.cumsum(mask)])
    return np.diff(run[bounds])


def rates(sums: dict[str, int]) -> dict[str, float | None]:
    """The rates of `RATES` from sums over some texts; None where there is nothing to divide by.

    >>> rates({"tokens": 12, "words": 8, "bytes": 48, "unknown": 0, "spelt": 3})["tokens_per_word"]
    1.5
    """
    return {name: sums[part] / sums[whole] if sums.get(whole) else None for name, (part, whole) in RATES.items()}
