"""Blocks of a page as text: a paragraph a line; the cells of a row of data share one.

A row is data if each of its cells is one short block; all other tables lay out a page, and read as paragraphs.

Promises: text order is that of the page; white space is collapsed but in `pre`. Costs about 1 us a block: all blocks
are decoded as one. Refuses nothing.
"""

from collections import Counter, defaultdict
from functools import cached_property
from typing import NamedTuple

import numpy as np

from tundish.operators.web.blocks import Blocks
from tundish.operators.web.elements import LINE, NAMES, PART, SPACE, TAG
from tundish.operators.web.tags import unescaped

SHORT = 200  # characters of a cell of data
NEST = 12  # quotations and lists in each other that are told apart
_BLOCK, _LINE = "\x1e", "\x1f"  # what parts blocks and lines while all are one text; white space, if a page holds them
_BETWEEN = {SPACE: b" ", LINE: _LINE.encode(), PART: _BLOCK.encode()}
_SEPARATORS = [_BETWEEN.get(gap, b"") for gap in range(16)]
_LISTS = {TAG[name] for name in ("ul", "menu", "dir", "ol")}
_HEADINGS = {TAG[f"h{level}"]: level for level in range(1, 7)}
_FIELDS = {TAG["pre"]: "pre", TAG["table"]: "table", TAG["tr"]: "row", TAG["td"]: "cell", TAG["th"]: "cell"}
_ITEM, _QUOTE = TAG["li"], TAG["blockquote"]


class Holder(NamedTuple):
    """What holds a block and is marked in front of it: a quotation (`list` None) or an item of a list."""

    element: int
    list: int | None = None
    ordered: bool = False


class Shape(NamedTuple):
    """The innermost element of each kind that shapes a text, -1 for none; the quotations and items it lies in."""

    pre: int = -1
    table: int = -1
    row: int = -1
    cell: int = -1
    level: int = 0  # of a heading
    list: int = -1
    ordered: bool = False
    holders: tuple[Holder, ...] = ()

    def within(self, tag: int, element: int) -> "Shape":
        if field := _FIELDS.get(tag):
            return self._replace(**{field: element})
        if tag in _LISTS:
            return self._replace(list=element, ordered=NAMES[tag] == "ol")
        if tag in _HEADINGS:
            return self._replace(level=_HEADINGS[tag])
        if tag in (_ITEM, _QUOTE) and len(self.holders) < NEST:
            one = Holder(element, self.list, self.ordered) if tag == _ITEM else Holder(element)
            return self._replace(holders=(*self.holders, one))
        return self

    @property
    def in_row(self) -> bool:
        return self.cell > self.row > self.table >= 0


_NOTHING = Shape()


class Tree:
    """What is asked of an outline again and again, as lists, which Python reads ten times as fast as arrays."""

    def __init__(self, blocks: Blocks) -> None:
        self.tree = blocks.outline
        self._shapes: dict[int, Shape] = {}

    @cached_property
    def parents(self) -> list[int]:
        return self.tree.parents.tolist()  # type: ignore[no-any-return]

    @cached_property
    def tags(self) -> list[int]:
        return self.tree.tags.tolist()  # type: ignore[no-any-return]

    def shape(self, element: int) -> Shape:
        """What stands above an element; kept for all on the way."""
        way = []
        while element >= 0 and element not in self._shapes:
            way.append(element)
            element = self.parents[element]
        known = self._shapes[element] if element >= 0 else _NOTHING
        for one in reversed(way):
            known = self._shapes[one] = known.within(self.tags[one], one)
        return known

    def around(self, table: int) -> Shape:
        """What stands around a table."""
        return self.shape(self.parents[table]) if table >= 0 else _NOTHING


def text_of(blocks: Blocks, chosen: np.ndarray, page: bytes, shaped: np.ndarray | None = None) -> str:
    """(blocks,) bool -> paragraphs, one a line; the cells of a row of data with " | " between them.

    `shaped`: (blocks,) bool, which stand in a `pre`, `td` or `th`; all may, if it is not told.
    """
    texts = _texts(blocks, chosen, page)
    maybe = chosen if shaped is None else shaped & chosen
    if maybe.any():
        _shape(texts, blocks, chosen, page, maybe)
    return "\n".join([text for text in texts if text]).strip()


def _texts(blocks: Blocks, chosen: np.ndarray, page: bytes) -> list[str]:
    """The text of each block that was chosen: white space collapsed, a line where the page breaks one."""
    if not len(blocks) or not chosen.any():
        return []
    tree, which = blocks.outline, np.flatnonzero(chosen[blocks.of_piece])
    begins, ends = tree.pieces[:2, which].tolist()
    parts = [b""] * (2 * len(begins))
    parts[0::2] = [_SEPARATORS[gap] for gap in (tree.gaps[which] & 15).tolist()]
    parts[1::2] = [page[begin:end] for begin, end in zip(begins, ends, strict=True)]
    if b"\x1e" in page or b"\x1f" in page:
        parts[1::2] = [part.replace(b"\x1e", b" ").replace(b"\x1f", b" ") for part in parts[1::2]]
    whole = unescaped(b"".join(parts).decode("utf-8", "replace"))
    return [_lines(text) if _LINE in text else " ".join(text.split()) for text in whole.split(_BLOCK)[1:]]


def _lines(text: str) -> str:
    return "\n".join([line for part in text.split(_LINE) if (line := " ".join(part.split()))])


def code_of(blocks: Blocks, number: int, page: bytes) -> str:
    """The text of a block in `pre`, where white space counts."""
    tree = blocks.outline
    first = int(blocks.starts[number])
    end = int(blocks.starts[number + 1]) if number + 1 < len(blocks) else tree.pieces.shape[1]
    parts = []
    for piece in range(first, end):
        gap = int(tree.gaps[piece]) & 15 if piece > first else 0
        text = page[tree.pieces[0, piece] : tree.pieces[1, piece]].decode("utf-8", "replace")
        parts.append(("\n" if gap == LINE else " " if gap == SPACE else "") + unescaped(text))
    return "\n".join(line.rstrip() for line in "".join(parts).strip("\n").split("\n"))


def _shape(texts: list[str], blocks: Blocks, chosen: np.ndarray, page: bytes, maybe: np.ndarray) -> None:
    """Mend the texts of blocks in `pre`, and write rows of data at the place of their first cell."""
    tree, numbers = Tree(blocks), np.flatnonzero(chosen)
    places = np.flatnonzero(maybe[numbers]).tolist()
    rows: defaultdict[int, list[int]] = defaultdict(list)
    cells: Counter[int] = Counter()
    holding: set[int] = set()  # rows with a table in one of their cells
    for at, element in zip(places, blocks.element[numbers[places]].tolist(), strict=True):
        shape = tree.shape(element)
        if shape.pre >= 0:
            texts[at] = code_of(blocks, int(numbers[at]), page)
        if shape.in_row and texts[at]:
            rows[shape.row].append(at)
            cells[shape.cell] += 1
            outer = tree.around(shape.table)
            if cells[shape.cell] > 1 or shape.pre >= 0 or len(texts[at]) > SHORT:
                holding.add(shape.row)
            while outer.in_row and outer.row not in holding:
                holding.add(outer.row)
                outer = tree.around(outer.table)
    for row, members in rows.items():
        if row not in holding:
            texts[members[0]] = " | ".join(" ".join(texts[at].split("\n")) for at in members)
            for at in members[1:]:
                texts[at] = ""
