"""Rows of one token budget, cut from the documents of a shard; each document by itself inside its row.

    row      [CLS] a a a a [SEP] [CLS] b b [SEP] [CLS] c … [SEP] [PAD]
    segment    0   0 0 0 0   0     1   1 1   1     2   2     2     -1

A row is a run of the shard's tokens, so one number, the first token's, describes it (8 bytes a row). Its segments
follow from the documents' offsets: no segment is longer than `context`, and a document longer than that goes on in
the next segment. A document that does not fit the rest of a row is cut there when the rest is worth more than `WASTE`
of the row, and goes on in the next row; otherwise the rest is padding.

Promises: every token lies in exactly one segment of exactly one row, in order; no row but a shard's last is padded by
more than `WASTE` of it (or two places, which hold no segment). Costs one pass over the offsets to cut, one copy of the
tokens to fill. Refuses rows too short for a token between [CLS] and [SEP], a context longer than the row, and offsets
that lead outside the tokens.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from tundish.operators.model import kernels
from tundish.operators.text.kernels.machine import sealed

FRAME = 2  # [CLS] and [SEP] around every segment
WASTE = 0.02


@dataclass(frozen=True)
class Layout:
    """`row`: places of a row. `context`: places of the longest segment, [CLS] and [SEP] included."""

    row: int
    context: int

    def __post_init__(self) -> None:
        if not FRAME < self.context <= self.row:
            raise ValueError(
                f"rows of {self.row} places with contexts of {self.context} cannot be cut; "
                f"a context has at least {FRAME + 1} places and no more than its row"
            )

    @property
    def spare(self) -> int:
        """Places that may be left empty at a row's end."""
        return max(FRAME, int(WASTE * self.row))


class Shard(NamedTuple):
    """Documents over a flat buffer: i is `tokens[offsets[i]:offsets[i+1]]`; row r begins at token `starts[r]`.

    `tokens` (any integers), `offsets` (documents + 1,) int64, `starts` (rows + 1,) int64; all may be mapped files.
    """

    tokens: np.ndarray
    offsets: np.ndarray
    starts: np.ndarray

    def documents(self, row: int) -> np.ndarray:
        """Numbers of the documents of which a row holds tokens, ascending."""
        first, last = int(self.starts[row]), int(self.starts[row + 1])
        found = np.arange(*(np.searchsorted(self.offsets, [first, last - 1], "right") - [1, 0]))
        return found[np.diff(self.offsets)[found] > 0]

    def rows(self, document: int) -> range:
        """Numbers of the rows that hold tokens of a document."""
        first, last = int(self.offsets[document]), int(self.offsets[document + 1])
        if first == last:
            return range(0)
        at = np.searchsorted(self.starts, [first, last - 1], "right") - 1
        return range(int(at[0]), int(at[1]) + 1)


def cut(offsets: np.ndarray, layout: Layout) -> np.ndarray:
    """The first token of every row of a shard, and the end of its last, (rows + 1,) int64."""
    return counted(offsets, layout)[0]


def counted(offsets: np.ndarray, layout: Layout) -> tuple[np.ndarray, int]:
    """As `cut`, and how many places of the rows hold something, [CLS] and [SEP] included."""
    offsets = np.ascontiguousarray(offsets, np.int64)
    if not len(offsets) or (np.diff(offsets) < 0).any():
        raise ValueError("the offsets of these documents do not ascend; the shard is damaged, write it again")
    tokens = int(offsets[-1] - offsets[0])
    # a row but the last holds at least this many tokens: half of it where every segment has one token
    least = max(1, (layout.row - layout.spare) // (FRAME + 1))
    starts = np.empty(tokens // least + 2, np.int64)
    rows, segments = kernels.cut(sealed(offsets), layout.row, layout.context - FRAME, layout.spare, starts)
    return starts[: rows + 1].copy(), tokens + FRAME * int(segments)


class Filled(NamedTuple):
    """Rows with their tokens. `tokens` (B, T) int32; `bounds` (S + 1,) int32: where segments begin in the flattened
    rows, padding at a row's end being a segment of its own, and B * T last; `sizes` (B,) int64: places not padded."""

    tokens: np.ndarray
    bounds: np.ndarray
    sizes: np.ndarray


@dataclass(frozen=True)
class Frame:
    """The ids that rows are framed with."""

    cls: int
    sep: int
    pad: int


def fill(
    shards: Sequence[Shard], which: Sequence[int] | np.ndarray, rows: np.ndarray, layout: Layout, frame: Frame
) -> Filled:
    """Row `rows[b]` of `shards[which[b]]` for every b of B; rows of one shard are filled in one go."""
    count = len(rows)
    tokens = np.empty((count, layout.row), np.int32)
    bounds = np.empty((count, layout.row // (FRAME + 1) + 2), np.int32)
    ends, sizes = np.empty(count, np.int64), np.empty(count, np.int64)
    which = np.asarray(which)
    for each in np.unique(which):
        shard, slots = shards[each], np.flatnonzero(which == each)
        wanted = np.asarray(rows, np.int64)[slots]
        if shard.starts[-1] > len(shard.tokens) or shard.starts[-1] != shard.offsets[-1]:
            raise ValueError(f"rows end at token {shard.starts[-1]} of a shard of {len(shard.tokens)}; cut them anew")
        kernels.fill(
            *map(sealed, shard),
            wanted,
            slots,
            layout.context - FRAME,
            np.array([frame.cls, frame.sep, frame.pad], np.int32),
            tokens,
            bounds,
            ends,
            sizes,
        )
    flat = np.empty(int(ends.sum()) + 1, np.int32)
    kernels.joined(bounds, ends, layout.row, flat)
    return Filled(tokens, flat, sizes)
