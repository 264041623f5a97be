"""What is known of each block of a page, as numbers: its words, what it stands in, what stands around it, the page.

Promises: finite float32, the same on every machine (values of words are multiples of 1/256, so sums of them are exact
in any order). Costs about 1 ms for a page of 200 KB. Refuses nothing.

`said` is what the words of a text say (a table: how much more of them is main text than of their pages), `named` what
the names in class, id, role and itemprop say; both tables were counted on labelled pages by benchmarks/fit_blocks.py.
"""

from typing import NamedTuple

import numpy as np

from tundish.operators.text.kernels.machine import I64, U64, kernel
from tundish.operators.web.blocks import (
    BREAKS,
    CAPITALS,
    COMMAS,
    DIGITS,
    LINKED,
    PRICES,
    STOPS,
    WORDS,
    Blocks,
)
from tundish.operators.web.elements import ARIA_HIDDEN, BLOCK, HIDDEN, KINDS, TAG

# Groups of tags that a block may stand in; each is a bit of what it inherits.
GROUPS = (
    "nav", "header", "footer", "aside", "article", "main", "section", "form fieldset", "table", "ul ol menu", "li",
    "dl", "blockquote", "figure figcaption", "pre code", "h1", "h2 h3", "h4 h5 h6", "button", "label legend",
    "address", "details", "dialog", "p", "td", "th", "a", "noscript",
)  # fmt: skip
SHUT, ARIA = len(GROUPS), len(GROUPS) + 1
HEADINGS = np.uint32(0b111 << GROUPS.index("h1"))
ROOM = 200  # features there may be
LONG = 15  # words of a block that is prose, if few of them are links
UP = 4  # boxes above a block by which blocks look alike
ENDS = np.array([ord(c) for c in '.!?"\u3002\uff01\uff1f\u2026\u201d'])

_BITS = np.zeros(256, np.uint32)
for _number, _names in enumerate(GROUPS):
    _BITS[[TAG[name] for name in _names.split()]] |= np.uint32(1 << _number)
_IS_BLOCK = (KINDS & BLOCK) != 0


class Values(NamedTuple):
    """Values of words, by the hash of the word: a table of 2^n places with open addressing, key 0 is free."""

    keys: np.ndarray  # uint32
    values: np.ndarray  # float32, multiples of 1/256

    @classmethod
    def of(cls, keys: np.ndarray, values: np.ndarray) -> "Values":
        """From (n,) uint32 hashes and (n,) values in 1/256."""
        size = 1 << max(4, int(len(keys) * 3).bit_length())
        made = cls(np.zeros(size, np.uint32), np.zeros(size, np.float32))
        for key, value in zip(keys.tolist(), values.tolist(), strict=True):
            at = key & (size - 1)
            while made.keys[at]:
                at = (at + 1) & (size - 1)
            made.keys[at], made.values[at] = key, value / 256
        return made


@kernel
def gathered(hashes, owners, keys, values, out):
    """Add the value of each hash to `out` at its owner; how many have one."""
    mask, known = U64(keys.size - 1), I64(0)
    for one in range(hashes.size):
        key = hashes[one]
        at = U64(key) & mask
        while keys[at] != 0:
            if keys[at] == key:
                out[owners[one]] += values[at]
                known += 1
                break
            at = (at + U64(1)) & mask
    return known


@kernel
def inherit(parents, tags, is_block, bits, values, above, low, high, total, depth, box):
    """From the top down: bits of all it stands in; the least, greatest and summed value; depth; the box around it."""
    for one in range(parents.size):
        up, value = I64(parents[one]), values[one]
        if up < 0:
            above[one], low[one], high[one], total[one], depth[one] = bits[one], min(value, 0), max(value, 0), value, 0
            box[one] = one
        else:
            above[one] = above[up] | bits[one]
            low[one], high[one] = min(low[up], value), max(high[up], value)
            total[one], depth[one] = total[up] + value, depth[up] + 1
            box[one] = one if is_block[tags[one]] else box[up]


class Surroundings(NamedTuple):
    """Of each block: the element it stands in, the innermost box, the boxes above it, and who looks like it."""

    element: np.ndarray  # (blocks,)
    boxes: tuple[np.ndarray, ...]  # the innermost, then six above it, each (blocks,)
    alike: np.ndarray  # (blocks,) a number shared by those with the same tags above them
    above: np.ndarray  # (elements,) uint32: GROUPS it stands in
    values: tuple[np.ndarray, np.ndarray, np.ndarray]  # (elements,) least, greatest, summed value of names
    depth: np.ndarray  # (elements,)


def surroundings(blocks: Blocks, named: Values) -> Surroundings:
    """Where each block stands."""
    tree = blocks.outline
    n = len(tree.tags)
    own, bits = np.zeros(n, np.float32), _BITS[tree.tags]
    gathered(tree.tokens, tree.owners, named.keys, named.values, own)
    bits |= ((tree.marks & HIDDEN) != 0).astype(np.uint32) << np.uint32(SHUT)
    bits |= ((tree.marks & ARIA_HIDDEN) != 0).astype(np.uint32) << np.uint32(ARIA)
    above, depth, box = np.empty(n, np.uint32), np.empty(n, np.int32), np.empty(n, np.int32)
    low, high, total = (np.empty(n, np.float32) for _ in range(3))
    inherit(tree.parents, tree.tags, _IS_BLOCK, bits, own, above, low, high, total, depth, box)
    boxes = [box[blocks.element]]
    look = tree.tags[boxes[0]].astype(np.int64)
    for step in range(6):
        boxes.append(box[np.maximum(tree.parents[boxes[-1]], 0)])
        look = look * 131 + tree.tags[boxes[-1]] if step < UP else look
    _, alike = np.unique(look * 131 + depth[boxes[0]], return_inverse=True)
    return Surroundings(blocks.element, tuple(boxes), alike, above, (low, high, total), depth)


class _Matrix:
    """Features being written, one row each."""

    def __init__(self, n: int) -> None:
        self.rows, self.names = np.empty((ROOM, n), np.float32), []

    def add(self, name: str, values: np.ndarray | float) -> None:
        self.rows[len(self.names)] = values
        self.names.append(name)

    def made(self) -> np.ndarray:
        return self.rows[: len(self.names)]


def features(blocks: Blocks, stand: Surroundings, said_of: Values) -> tuple[np.ndarray, list[str]]:
    """(features, blocks) float32 and what they are called."""
    to = _Matrix(len(blocks))
    by_piece = np.zeros(blocks.by_piece.shape[1], np.float32)
    known = gathered(blocks.hashes, blocks.owners, said_of.keys, said_of.values, by_piece)
    said = np.add.reduceat(by_piece, blocks.starts) if len(blocks) else by_piece
    _own(to, blocks, stand, said)
    _around(to, blocks, stand, by_piece)
    _order(to, blocks, stand)
    _neighbours(to, blocks, stand, said)
    _page(to, blocks, stand, said, known / max(1, len(blocks.hashes)))
    return to.made(), to.names


def _own(to: _Matrix, blocks: Blocks, stand: Surroundings, said: np.ndarray) -> None:
    """The block itself: its words, the elements it stands in."""
    counts, words = blocks.counts, np.maximum(blocks.counts[WORDS], 1)
    rows = {"words": WORDS, "linked": LINKED, "stops": STOPS, "commas": COMMAS, "prices": PRICES, "breaks": BREAKS}
    for name, row in rows.items():
        to.add(name, counts[row])
    to.add("link share", counts[LINKED] / words)
    to.add("capital share", counts[CAPITALS] / words)
    to.add("digit share", counts[DIGITS] / words)
    to.add("words a stop", counts[WORDS] / (counts[STOPS] + 1))
    to.add("ends", np.isin(blocks.last, ENDS) + 2.0 * (blocks.last == ord(":")))
    first = blocks.first
    to.add("begins", (first >= 65) * 1.0 + (first >= 91) + (first >= 123) - (first < 48) - (first < 58))
    bits = stand.above[stand.element]
    for number, name in enumerate((*GROUPS, "hidden", "aria-hidden")):
        to.add(name, (bits >> np.uint32(number)) & np.uint32(1))
    for name, values in zip(("least named", "most named", "all named"), stand.values, strict=True):
        to.add(name, values[stand.element])
    to.add("depth", stand.depth[stand.element])
    to.add("tag", blocks.outline.tags[stand.boxes[0]])
    to.add("said", said)
    to.add("said a word", said / words)


def _sums(row: np.ndarray) -> np.ndarray:
    return np.concatenate([[0.0], np.cumsum(row, dtype=np.float64)])


def _around(to: _Matrix, blocks: Blocks, stand: Surroundings, said: np.ndarray) -> None:
    """The boxes above it: what is in each, by sums over ranges of pieces."""
    tree, piece = blocks.outline, blocks.by_piece
    words, linked, stops, spoken = _sums(piece[WORDS]), _sums(piece[LINKED]), _sums(piece[STOPS]), _sums(said)
    begins = np.zeros(piece.shape[1])
    begins[blocks.starts] = 1
    parts = _sums(begins)
    prose = _sums(np.where((stand.above[tree.pieces[2]] >> np.uint32(GROUPS.index("p"))) & 1, piece[WORDS], 0))
    everything = max(words[-1], 1)
    for step, box in enumerate(stand.boxes[1:6], 1):
        a, b = tree.spans[0][box], tree.spans[1][box]
        count, many = words[b] - words[a], parts[b] - parts[a]
        least = np.maximum(count, 1)
        to.add(f"box {step} words", count)
        to.add(f"box {step} link share", (linked[b] - linked[a]) / least)
        to.add(f"box {step} blocks", many)
        to.add(f"box {step} words a block", count / np.maximum(many, 1))
        if step != 4:
            to.add(f"box {step} stops", (stops[b] - stops[a]) / least)
            to.add(f"box {step} share", count / everything)
            to.add(f"box {step} p share", (prose[b] - prose[a]) / least)
            to.add(f"box {step} said", (spoken[b] - spoken[a]) / least)
            to.add(f"box {step} tag", tree.tags[box])


def _prose(blocks: Blocks) -> np.ndarray:
    return (blocks.counts[WORDS] >= LONG) & (blocks.counts[LINKED] < 0.3 * blocks.counts[WORDS])


def _order(to: _Matrix, blocks: Blocks, stand: Surroundings) -> None:
    """Where it stands among the others: after which heading, how far from prose."""
    n, count = len(blocks), blocks.counts[WORDS].astype(np.float64)
    at, before = np.arange(n), np.cumsum(count) - count
    to.add("place", at / max(n, 1))
    to.add("words before", before)
    to.add("share before", before / max(count.sum(), 1))
    bits = stand.above[stand.element]
    top = np.flatnonzero((bits >> np.uint32(GROUPS.index("h1"))) & np.uint32(1))
    to.add("from h1", at - top[0] if len(top) else -9999)
    heading = np.maximum.accumulate(np.where(bits & HEADINGS, at, -1))
    to.add("from heading", np.where(heading >= 0, at - heading, 999))
    prose = _prose(blocks)
    to.add("from prose", np.minimum(at - np.maximum.accumulate(np.where(prose, at, -999)), 999))
    coming = np.minimum.accumulate(np.where(prose, at, n + 999)[::-1])[::-1]
    to.add("to prose", np.minimum(coming - at, 999))
    to.add("prose before", np.cumsum(prose))
    to.add("prose after", prose.sum() - np.cumsum(prose))


def shifted(values: np.ndarray, by: int) -> np.ndarray:
    """The value of the block `by` before (negative: behind); -1 beyond the ends."""
    out = np.full(len(values), -1, np.float32)
    if by > 0:
        out[by:] = values[:-by]
    else:
        out[:by] = values[-by:]
    return out


def window(values: np.ndarray, reach: int) -> np.ndarray:
    """Sum over the blocks up to `reach` away on both sides."""
    sums, at = _sums(values), np.arange(len(values))
    return sums[np.minimum(at + reach + 1, len(values))] - sums[np.maximum(at - reach, 0)]


def _neighbours(to: _Matrix, blocks: Blocks, stand: Surroundings, said: np.ndarray) -> None:
    count, linked = blocks.counts[WORDS], blocks.counts[LINKED]
    share, spoken = linked / np.maximum(count, 1), said / np.maximum(count, 1)
    tags, total = blocks.outline.tags[stand.boxes[0]].astype(np.float32), stand.values[2][stand.element]
    depth = stand.depth[stand.element].astype(np.float32)
    for by in (1, 2, -1, -2):
        to.add(f"words {by}", shifted(count, by))
        to.add(f"link share {by}", shifted(share, by))
        to.add(f"tag {by}", shifted(tags, by))
        to.add(f"all named {by}", shifted(total, by))
        to.add(f"depth {by}", shifted(depth, by) - depth)
        to.add(f"said {by}", shifted(spoken, by))
    for reach in (3, 8, 20):
        near = np.maximum(window(count, reach), 1)
        to.add(f"near {reach} words", near)
        to.add(f"near {reach} link share", window(linked, reach) / near)
        to.add(f"near {reach} said", window(said, reach) / near)


def _page(to: _Matrix, blocks: Blocks, stand: Surroundings, said: np.ndarray, known: float) -> None:
    """Those that look like it, and the page as a whole."""
    tree, counts = blocks.outline, blocks.counts
    count, linked = counts[WORDS].astype(np.float64), counts[LINKED].astype(np.float64)
    everything = max(float(count.sum()), 1.0)
    many = np.bincount(stand.alike)
    words = np.bincount(stand.alike, count)
    to.add("alike", many[stand.alike])
    to.add("alike words", words[stand.alike])
    to.add("alike words each", (words / np.maximum(many, 1))[stand.alike])
    to.add("alike link share", (np.bincount(stand.alike, linked) / np.maximum(words, 1))[stand.alike])
    to.add("alike share", (words / everything)[stand.alike])
    prose = _prose(blocks)
    to.add("page words", everything)
    to.add("page blocks", len(blocks))
    to.add("page link share", linked.sum() / everything)
    to.add("page prose words", count[prose].sum())
    to.add("page prose", prose.sum())
    to.add("page prices", counts[PRICES].sum())
    to.add("page known", known)
    to.add("page said", said.sum(dtype=np.float64) / everything)
    bits = stand.above[stand.element]
    for name in ("article", "main", "h1", "form fieldset", "table", "li", "p"):
        inside = (bits & np.uint32(1 << GROUPS.index(name))) != 0
        to.add(f"page in {name}", count[inside].sum() / everything)
    kinds = np.bincount(tree.tags, minlength=256)
    for name in ("article", "form", "img", "p"):
        to.add(f"page {name} elements", kinds[TAG[name]])
