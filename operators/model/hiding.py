"""Masked language modelling on the host: single tokens, whole words or spans are hidden, as a function of the row.

    Masked()                                        BERT: exactly K tokens a row, 80 % [MASK], 10 % drawn, 10 % as is
    Masked(shares=(100, 0))                         NeoBERT, EuroBERT: every hidden token is [MASK]
    Masked(shares=(85, 0), sampled=True)            ELECTRA: and a uniform number to sample each replacement by
    Masked(unit="word")                             whole words (Cui et al., arXiv 1906.08101), by `Hiding.words`
    Masked(unit="span", lengths=geometric(0.2, 10)) SpanBERT (Joshi et al., arXiv 1907.10529)
    Masked(unit="span", lengths=uniform(3))         LTG-BERT (Samuel et al., arXiv 2303.09859)

Promises: inputs, labels and the digest of a row depend on (seed, epoch, row key, place), the rate and what is chosen
here, not on the batch; with K = round(rate x n) of a row's n ordinary tokens, at least 1, tokens and spans hide exactly
K (the last span is cut short), words at most K (one that would pass K is left out, so a row of few long words may have
none); special tokens are never hidden, drawn, or inside a span, even where the text has one; a row without ordinary
tokens has no label. The bits of single tokens are those of `masking.mask`. Costs some 7 ns a token for tokens, 13 to
20 for units, without the GIL. Refuses rates outside (0, 1], tokens outside the vocabulary, words without their table.

Spans tile the row from the left and are chosen by their draws, so two chosen ones may be neighbours, and lengths follow
the distribution but where a segment ends. The lot (mask, drawn, as is) is each token's own for tokens and words, as in
BERT, and one for a whole span, as in SpanBERT.

B rows, T places of a row, K hidden places, V pieces of the vocabulary.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import Literal, NamedTuple

import numpy as np

from tundish.operators.model import kernels_hiding, kernels_units
from tundish.operators.model.batch import Batch
from tundish.operators.model.order import keyed, mixed
from tundish.operators.model.rows import FRAME, Filled, Frame, Layout

CHOOSE, DRAW, SAMPLE, LENGTH, PREFIX, NOISE = range(1, 7)  # streams of numbers per place; masking draws from the same


@dataclass(frozen=True)
class Hiding:
    """What all objectives of a training share. `specials` names [PAD], [UNK], [CLS], [SEP], [MASK]; `rate` holds where
    neither the step nor the objective has one; `words` (V,) uint8 tells which pieces begin a word."""

    vocabulary: int
    specials: Mapping[str, int]
    seed: int
    rate: float
    words: np.ndarray | None = field(default=None, compare=False, repr=False)

    def __post_init__(self) -> None:
        check_rate(self.rate)
        if not len(self.ordinary):
            raise ValueError(
                f"all {self.vocabulary} tokens of the vocabulary are special, so nothing is left to hide; take more"
            )
        if self.words is not None and len(self.words) != self.vocabulary:
            raise ValueError(
                f"the table of words has {len(self.words)} pieces and the vocabulary {self.vocabulary}; "
                "make it from the vocabulary of the shards"
            )

    @cached_property
    def special(self) -> np.ndarray:
        """(V,) uint8: 1 for what is neither hidden nor drawn."""
        found = np.zeros(self.vocabulary, np.uint8)
        found[[each for each in self.specials.values() if each < self.vocabulary]] = 1
        return found

    @cached_property
    def span(self) -> np.ndarray:
        """(2,) uint32: the first and last special id where they are neighbours, else (1, 0)."""
        found = np.flatnonzero(self.special)
        together = len(found) and found[-1] - found[0] + 1 == len(found)
        return np.array([found[0], found[-1]] if together else [1, 0], np.uint32)

    @cached_property
    def ordinary(self) -> np.ndarray:
        return np.flatnonzero(self.special == 0).astype(np.int32)

    @cached_property
    def begins(self) -> np.ndarray:
        """(V,) uint8: which pieces begin a word; all of them where there is no table."""
        return np.ones(self.vocabulary, np.uint8) if self.words is None else np.ascontiguousarray(self.words, np.uint8)

    @property
    def frame(self) -> Frame:
        return Frame(self.specials["[CLS]"], self.specials["[SEP]"], self.specials["[PAD]"])

    def refuse(self, token: int) -> ValueError:
        return ValueError(
            f"token {token} is outside the vocabulary of {self.vocabulary}; "
            "train on shards written with this vocabulary"
        )


def check_rate(rate: float) -> None:
    if not 0 < rate <= 1:
        raise ValueError(f"a mask rate of {rate} hides nothing or more than all; use a share such as 0.3")


def geometric(p: float, most: int) -> tuple[float, ...]:
    """Shares of the lengths 1 to `most`, each (1 - p) times the one before."""
    return tuple((1 - p) ** each for each in range(most))


def uniform(most: int) -> tuple[float, ...]:
    return (1.0,) * most


@dataclass(frozen=True)
class Masked:
    """`shares`: of a hundred hidden tokens so many become [MASK], and so many a drawn token. `unit`: what is hidden as
    one. `lengths`: how often a span has 1, 2, … tokens. `whole`: spans count words, of which none is cut, and a row
    hides at most K. `sampled`: a batch has `uniforms`. `rate`: where the step has none."""

    shares: tuple[int, int] = (80, 10)
    unit: Literal["token", "word", "span"] = "token"
    lengths: tuple[float, ...] = geometric(0.2, 10)
    whole: bool = False
    sampled: bool = False
    rate: float | None = None

    def __post_init__(self) -> None:
        if self.rate is not None:
            check_rate(self.rate)
        if len(self.shares) != 2 or min(self.shares) < 0 or sum(self.shares) > 100:
            raise ValueError(
                f"shares of {self.shares} are no parts of a hundred; say how many become [MASK] and how many are "
                "drawn, as (80, 10)"
            )
        if self.unit not in ("token", "word", "span"):
            raise ValueError(f"a unit {self.unit!r} cannot be hidden; it is token, word or span")
        if not self.lengths or min(self.lengths) < 0 or not sum(self.lengths):
            raise ValueError(f"spans of lengths {self.lengths} cannot be drawn; give each length from 1 on its share")

    @property
    def by_words(self) -> bool:
        """Whether it needs `Hiding.words`."""
        return self.unit == "word" or self.whole

    @cached_property
    def longer(self) -> np.ndarray:
        """(m,) uint64: what a lot of 32 bits must reach for one more token."""
        if self.unit != "span":
            return np.zeros(0, np.uint64)
        below = np.cumsum(self.lengths)[:-1] / sum(self.lengths)
        return np.rint(below * 2.0**32).astype(np.uint64)

    @cached_property
    def lots(self) -> np.ndarray:
        return np.cumsum(self.shares).astype(np.uint64)

    def batch(self, rows: Filled, keys: np.ndarray, epochs: np.ndarray, hiding: Hiding, rate: float | None) -> Batch:
        hidden = hide(rows.tokens, keys, epochs, hiding, self, rate)
        uniforms = None
        if self.sampled:
            uniforms = np.empty(len(hidden.places), np.float32)
            length = rows.tokens.shape[1]
            words = words_of(SAMPLE, hiding.seed, keys, epochs)
            kernels_units.uniforms(hidden.places, length, words, place_words(length), uniforms)
        made = (hidden.inputs, rows.bounds, rows.sizes, hidden.places, hidden.labels, hidden.counts, hidden.digest)
        return Batch(*made, uniforms)

    def most(self, rows: int, layout: Layout, rate: float) -> int:
        """No batch of so many rows hides more places."""
        return rows * max(1, round(rate * (layout.row - FRAME)))


TOKENS = Masked()


class Hidden(NamedTuple):
    """`inputs` (B, T) int32; of what is hidden the `places` (K,) int64 in the flattened rows and the `labels` (K,)
    int64; `counts` (B,) int64: how many a row; `digest`: a 64-bit sum that adds up, wrapping, over parts of a batch."""

    inputs: np.ndarray
    places: np.ndarray
    labels: np.ndarray
    counts: np.ndarray
    digest: int


def hide(
    tokens: np.ndarray,
    keys: np.ndarray,
    epochs: np.ndarray,
    hiding: Hiding,
    masked: Masked = TOKENS,
    rate: float | None = None,
) -> Hidden:
    """Rows `tokens` (B, T) int32 with places hidden, written over them; `keys` (B,) uint64 and `epochs` (B,) int64
    name each row; `rate`: of this step."""
    count, length = tokens.shape
    rate = float(next(each for each in (rate, masked.rate, hiding.rate) if each is not None))
    check_rate(rate)
    words = [words_of(stream, hiding.seed, keys, epochs) for stream in (CHOOSE, DRAW)]
    found, labels = np.empty((2, tokens.size + 1), np.int32)  # the kernel writes one place ahead
    told = np.zeros(1, np.uint64)
    counts = np.zeros(count, np.int64)
    written = (found, labels, counts, told)
    given, mask = (hiding.ordinary, hiding.special), hiding.specials["[MASK]"]
    if masked.unit == "token":
        total = kernels_hiding.hide(
            tokens,
            *words,
            place_words(length),
            *given,
            hiding.span,
            rate,
            masked.lots,
            mask,
            np.empty((2, length), np.uint64),
            np.empty(kernels_hiding.BUCKETS, np.int32),
            *written,
        )
    else:
        if masked.by_words and hiding.words is None:
            raise ValueError(
                "whole words are to be hidden and nothing tells which pieces begin one; give Hiding.words, "
                "or hide tokens or spans of them"
            )
        total = kernels_units.hide_units(
            tokens,
            *words,
            words_of(LENGTH, hiding.seed, keys, epochs),
            place_words(length),
            *given,
            hiding.begins if masked.by_words else np.ones(hiding.vocabulary, np.uint8),
            masked.longer,
            rate,
            masked.by_words,
            masked.unit == "span",
            masked.lots,
            mask,
            np.empty(length, np.uint64),
            np.empty((4, length), np.int32),
            np.empty(kernels_hiding.BUCKETS, np.int32),
            *written,
        )
    if total < 0:
        raise hiding.refuse(-1 - total)
    return Hidden(tokens, found[:total].astype(np.int64), labels[:total].astype(np.int64), counts, int(told[0]))


def words_of(stream: int, seed: int, keys: np.ndarray, epochs: np.ndarray) -> np.ndarray:
    """Each row's word (B,) uint64 in a stream of numbers."""
    return mixed(mixed(epochs.astype(np.uint64) ^ np.uint64(keyed(seed, stream))) ^ keys)


@lru_cache(maxsize=8)
def place_words(length: int) -> np.ndarray:
    """The hash of every place, (T,) uint64."""
    return mixed(np.arange(length, dtype=np.uint64))
