"""What is known of each block of a page, as numbers: its words, what it stands in, what stands around it, the page.

Promises: finite float32, the same on every machine (values of words are multiples of 1/256, so sums of them are exact
in any order). Costs about 0.25 ms for a page of 200 KB. Refuses nothing.

`said` is what the words of a text say (a table: how much more of them is main text than of their pages), `named` what
the names in class, id, role and itemprop say; both tables were counted on labelled pages by benchmarks/fit_blocks.py.
"""

from itertools import accumulate, pairwise
from typing import NamedTuple

import numpy as np

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
from tundish.operators.web.feature_kernels import (
    SPREAD,
    gathered,
    inherit,
    is_prose,
    look_alike,
    of_boxes,
    of_itself,
    of_neighbours,
    of_order,
    of_page,
    of_windows,
    summed,
)

# Groups of tags that a block may stand in; each is a bit of what it inherits.
GROUPS = (
    "nav", "header", "footer", "aside", "article", "main", "section", "form fieldset", "table", "ul ol menu", "li",
    "dl", "blockquote", "figure figcaption", "pre code", "h1", "h2 h3", "h4 h5 h6", "button", "label legend",
    "address", "details", "dialog", "p", "td", "th", "a", "noscript",
)  # fmt: skip
SHUT, ARIA = len(GROUPS), len(GROUPS) + 1
LONG, MOSTLY = 15, np.float32(0.3)  # a block of so many words is prose, if a smaller share of them are links
UP = 4  # boxes above a block by which blocks look alike
FEW = 4  # of this box above a block less is told
NAMED = ("least", "most", "all")  # values of the names above a block
BESIDE, REACHES = (1, 2, -1, -2), (3, 8, 20)  # blocks before (negative: behind), blocks on either side
SHOWN = ("words", "link share", "tag", "all named", "depth", "said a word")  # what is told of those before and behind
INSIDE = ("article", "main", "h1", "form fieldset", "table", "li", "p")  # groups: how much of the page stands in them
COUNTED = ("article", "form", "img", "p")  # how many of these elements there are
ENDS = np.array([ord(c) for c in '.!?"\u3002\uff01\uff1f\u2026\u201d'])

_BITS = np.zeros(256, np.uint32)
for _number, _names in enumerate(GROUPS):
    _BITS[[TAG[name] for name in _names.split()]] |= np.uint32(1 << _number)
_MARKED = np.zeros(256, np.uint32)
for _mark, _at in ((HIDDEN, SHUT), (ARIA_HIDDEN, ARIA)):
    _MARKED[(np.arange(256) & _mark) != 0] |= np.uint32(1 << _at)
_IS_BLOCK = (KINDS & BLOCK) != 0
_P, _H1, _HEADINGS = GROUPS.index("p"), 1 << GROUPS.index("h1"), 0b111 << GROUPS.index("h1")
_BESIDE, _REACHES = np.array(BESIDE), np.array(REACHES)
_INSIDE, _COUNTED = np.array([1 << GROUPS.index(name) for name in INSIDE]), np.array([TAG[name] for name in COUNTED])


class Values(NamedTuple):
    """Values of words, by the hash of the word: a table of 2^n places with open addressing, key 0 is free. The place
    comes from all bits of a hash: by the low ones alone, those of names lie in heaps of hundreds."""

    keys: np.ndarray  # uint32
    values: np.ndarray  # float32, multiples of 1/256

    @classmethod
    def of(cls, keys: np.ndarray, values: np.ndarray) -> "Values":
        """From (n,) uint32 hashes and (n,) values in 1/256."""
        size = 1 << max(4, int(len(keys) * 3).bit_length())
        made = cls(np.zeros(size, np.uint32), np.zeros(size, np.float32))
        for key, value in zip(keys.tolist(), values.tolist(), strict=True):
            at = (key * SPREAD >> 40) & (size - 1)
            while made.keys[at]:
                at = (at + 1) & (size - 1)
            made.keys[at], made.values[at] = key, value / 256
        return made


class Surroundings(NamedTuple):
    """Of each block: the element it stands in, the innermost box, the boxes above it, and who looks like it."""

    element: np.ndarray  # (blocks,)
    boxes: np.ndarray  # (7, blocks) the innermost, then six above it
    alike: np.ndarray  # (blocks,) a number shared by those with the same tags above them
    above: np.ndarray  # (elements,) uint32: GROUPS it stands in
    values: np.ndarray  # (3, elements) least, greatest, summed value of names
    depth: np.ndarray  # (elements,)


def surroundings(blocks: Blocks, named: Values) -> Surroundings:
    """Where each block stands; costs about 0.1 ms for a page of 200 KB."""
    tree = blocks.outline
    n, many = len(tree.tags), len(blocks)
    own, values = np.zeros(n, np.float32), np.empty((3, n), np.float32)
    above, depth, box = np.empty(n, np.uint32), np.empty(n, np.int32), np.empty(n, np.int32)
    boxes, alike, looks = np.empty((7, many), np.int32), np.empty(many, np.int64), np.empty(many, np.int64)
    gathered(tree.tokens, tree.owners, named.keys, named.values, own)
    inherit(tree.parents, tree.tags, tree.marks, _IS_BLOCK, _BITS, _MARKED, own, above, values, depth, box)
    places = np.full(1 << (2 * many).bit_length(), -1, np.int64)
    look_alike(blocks.element, tree.parents, tree.tags, depth, box, UP, boxes, looks, places, alike)
    return Surroundings(blocks.element, boxes, alike, above, values, depth)


def _called() -> list[list[str]]:
    """What the rows are called, a list for each kernel that writes some."""
    own = ["words", "linked", "stops", "commas", "prices", "breaks", "link share", "capital share", "digit share"]
    own += ["words a stop", "ends", "begins", *GROUPS, "hidden", "aria-hidden", *(f"{x} named" for x in NAMED)]
    own += ["depth", "tag", "said", "said a word"]
    most = ("words", "link share", "blocks", "words a block")
    every = (*most, "stops", "share", "p share", "said", "tag")
    boxes = [f"box {step} {what}" for step in range(1, 6) for what in (most if step == FEW else every)]
    order = ["place", "words before", "share before", "from h1", "from heading", "from prose", "to prose"]
    order += ["prose before", "prose after"]
    near = [f"{what.removesuffix(' a word')} {by}" for by in BESIDE for what in SHOWN]
    windows = [f"near {reach} {what}" for reach in REACHES for what in ("words", "link share", "said")]
    page = ["alike", "alike words", "alike words each", "alike link share", "alike share"]
    page += [f"page {what}" for what in ("words", "blocks", "link share", "prose words", "prose", "prices", "known")]
    page += ["page said", *(f"page in {group}" for group in INSIDE), *(f"page {name} elements" for name in COUNTED)]
    return [own, boxes, order, near, windows, page]


_PARTS = _called()
NAMES = [name for part in _PARTS for name in part]
_BOUNDS = list(accumulate((len(part) for part in _PARTS), initial=0))
_OWN_ROWS = np.array([WORDS, LINKED, STOPS, COMMAS, PRICES, BREAKS, CAPITALS, DIGITS])
_DEPTH = NAMES.index("depth")
_SHOWN = np.array([NAMES.index(name) for name in SHOWN])


def features(blocks: Blocks, stand: Surroundings, said_of: Values) -> tuple[np.ndarray, list[str]]:
    """(features, blocks) float32 and what they are called; costs about 0.15 ms for a page of 200 KB."""
    n, to = len(blocks), np.empty((len(NAMES), len(blocks)), np.float32)
    if not n:
        return to, list(NAMES)
    tree, piece, counts, element, above = blocks.outline, blocks.by_piece, blocks.counts, stand.element, stand.above
    own, boxes, order, near, windows, page = (to[a:b] for a, b in pairwise(_BOUNDS))
    pieces = piece.shape[1]
    by_piece, work = np.zeros(pieces, np.float32), np.empty((max(pieces, n) + 1) * 6)
    known = gathered(blocks.hashes, blocks.owners, said_of.keys, said_of.values, by_piece)
    spoken = np.add.reduceat(by_piece, blocks.starts)
    words, linked, prose = counts[WORDS], counts[LINKED], np.empty(n, np.bool_)
    proses = is_prose(words, linked, LONG, MOSTLY, prose)

    standing = (element, stand.boxes[0], tree.tags, above, len(GROUPS) + 2, stand.values, stand.depth, spoken)
    of_itself(own, counts, _OWN_ROWS, blocks.first, blocks.last, ENDS, *standing)
    sums = work[: 6 * (pieces + 1)].reshape(-1, 6)
    summed(piece[WORDS], piece[LINKED], piece[STOPS], by_piece, blocks.of_piece, tree.pieces[2], above, _P, sums)
    of_boxes(boxes, stand.boxes, FEW, tree.spans[0], tree.spans[1], tree.tags, sums)
    of_order(order, words, element, above, _H1, _HEADINGS, prose, proses)
    of_neighbours(near, own, _SHOWN, _DEPTH, _BESIDE)
    of_windows(windows, words, linked, spoken, _REACHES, work[: 3 * (n + 1)].reshape(-1, 3))
    whole = (words, linked, counts[PRICES], spoken, stand.alike, prose, proses, known / max(1, len(blocks.hashes)))
    of_page(page, *whole, element, above, _INSIDE, tree.tags, _COUNTED, work[: 3 * n].reshape(3, n))
    return to, list(NAMES)


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
    sums, at = np.concatenate([[0.0], np.cumsum(values, dtype=np.float64)]), np.arange(len(values))
    return sums[np.minimum(at + reach + 1, len(values))] - sums[np.maximum(at - reach, 0)]
