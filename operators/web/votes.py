"""What other extractors say of each block: how much of its words their text holds.

A word of the page is held by a text if four words in a row, of which it is one, stand in that text.

Promises: linear time in page and texts. Costs some 0.3 ms a text. Refuses nothing.
"""

import numpy as np

from tundish.operators.text.kernels.machine import padded
from tundish.operators.web.blocks import ASCII, COUNTS, WORDS, Blocks, count
from tundish.operators.web.features import shifted, window

GRAM = 4  # words
NEAR = 4  # blocks on either side


def hashes_of(text: str) -> np.ndarray:
    """(words,) uint32 hashes as `Blocks` has them."""
    raw = text.encode("utf-8", "replace")
    pieces = np.array([[0], [len(raw)], [0]], np.int32)
    hashes, owners, used = np.empty(len(raw) + 1, np.uint32), np.empty(len(raw) + 1, np.int32), np.zeros(1, np.int64)
    counts, shown = np.zeros((COUNTS, 1), np.int32), np.zeros((2, 1), np.int32)
    data = padded(np.frombuffer(raw, np.uint8), 0, len(raw))
    count(data, pieces, np.zeros(1, np.uint8), ASCII, counts, shown, hashes, owners, used)
    return hashes[: used[0]]


def _grams(hashes: np.ndarray) -> np.ndarray:
    """(words - GRAM + 1,) uint64: each run of GRAM words as one number."""
    size = max(0, len(hashes) - GRAM + 1)
    made = np.zeros(size, np.uint64)
    for step in range(GRAM):
        made = made * np.uint64(0x9E3779B97F4A7C15) + hashes[step : step + size]
        made ^= made >> np.uint64(29)
    return made


def held(blocks: Blocks, other: np.ndarray) -> np.ndarray:
    """(blocks,) share of the words of each that another text holds, given by its hashes."""
    hit = np.isin(_grams(blocks.hashes), _grams(other))
    marked = np.zeros(len(blocks.hashes), bool)
    for step in range(GRAM):
        marked[step : step + len(hit)] |= hit
    owner = blocks.of_piece[blocks.owners]
    words = np.bincount(owner, minlength=len(blocks))
    return np.bincount(owner, marked, minlength=len(blocks)) / np.maximum(words, 1)


def votes(blocks: Blocks, others: list[np.ndarray]) -> np.ndarray:
    """(6 a text, blocks) float32: share held here, before, behind, near by; length of the text, and by the page's."""
    words, rows = blocks.counts[WORDS].astype(np.float64), []
    for other in others:
        share = held(blocks, other).astype(np.float32)
        near = window(share * words, NEAR) / np.maximum(window(words, NEAR), 1)
        ones = np.ones(len(blocks))
        ratio = len(other) / max(1, len(blocks.hashes))
        rows += [share, shifted(share, 1), shifted(share, -1), near, ones * len(other), ones * ratio]
    return np.array(rows, np.float32).reshape(len(rows), len(blocks))
