"""Causal and prefix language modelling on the host: every token but a segment's first is guessed from those before it.

Promises: inputs stay as they are; a place guesses the next token of its own segment, [SEP] included, never one of
another segment or padding; a prefix of a segment of n tokens is of 1 to n - 1, each equally likely, drawn from (seed,
epoch, row key, place), and only what stands behind it is guessed. Causal modelling is that with every prefix of 1, so
both are masked language modelling whose masks are the places ahead. Costs some 4 ns a token, without the GIL. Refuses
tokens outside the vocabulary.
"""

from dataclasses import dataclass

import numpy as np

from tundish.operators.model import kernels_following
from tundish.operators.model.batch import Batch
from tundish.operators.model.hiding import CHOOSE, PREFIX, Hiding, place_words, words_of
from tundish.operators.model.rows import Filled, Layout


@dataclass(frozen=True)
class Following:
    """`prefixed`: a segment begins with a prefix whose tokens see one another; a batch has `prefixes`."""

    prefixed: bool = False

    def batch(self, rows: Filled, keys: np.ndarray, epochs: np.ndarray, hiding: Hiding, rate: float | None) -> Batch:
        count, length = rows.tokens.shape
        found, labels = np.empty((2, rows.tokens.size), np.int64)
        prefixes, counts = np.empty(len(rows.bounds) - 1, np.int32), np.empty(count, np.int64)
        told = np.zeros(1, np.uint64)
        total = kernels_following.follow(
            rows.tokens.reshape(-1),
            length,
            rows.bounds,
            rows.sizes,
            words_of(CHOOSE, hiding.seed, keys, epochs),
            place_words(length),
            self.prefixed,
            words_of(PREFIX, hiding.seed, keys, epochs),
            hiding.vocabulary,
            found,
            labels,
            prefixes,
            counts,
            told,
        )
        if total < 0:
            raise hiding.refuse(-1 - total)
        made = (rows.tokens, rows.bounds, rows.sizes, found[:total], labels[:total], counts, int(told[0]))
        return Batch(*made, prefixes=prefixes if self.prefixed else None)

    def most(self, rows: int, layout: Layout, rate: float) -> int:
        """No batch of so many rows guesses at more places."""
        return rows * (layout.row - 1)
