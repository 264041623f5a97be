"""Blocks of a page as CommonMark with tables (GFM): headings, lists, quotations, code, tables of data.

A table is data if it has columns and its cells are small; its nested tables are words of its cells then. All other
tables lay out a page, and read as what is in them. Cells stand where they stood: empty ones, and those that others
reach over, are empty.

Promises: text order is that of the page; white space is collapsed but in code. What the words themselves hold of the
signs of Markdown is not escaped. Costs about 10 us a block. Refuses nothing.
"""

import re
from collections import defaultdict
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from tundish.operators.web.blocks import Blocks
from tundish.operators.web.elements import LINE, SPACE, TAG
from tundish.operators.web.render import Holder, Shape, Tree, code_of
from tundish.operators.web.tags import attributes_at, unescaped

CELL, PARTS = 500, 6  # characters and blocks of a cell of data
COLUMNS = 40  # of a table, and of one cell
TABLES = 4  # tables in each other that are looked at
_CODE = {TAG[name] for name in ("code", "kbd", "samp", "tt")}
_CELLS = {TAG["td"], TAG["th"]}
_TICKS = re.compile("`+")
_SPAN = re.compile(r"\d{1,6}")


class _Place(NamedTuple):
    """A cell: its table, its row, itself."""

    table: int
    row: int
    cell: int


class _Block(NamedTuple):
    number: int
    shape: Shape
    text: str


def markdown_of(blocks: Blocks, chosen: np.ndarray, page: bytes) -> str:
    """(blocks,) bool -> CommonMark with tables."""
    tree = Tree(blocks)
    said = [one for one in _said(tree, blocks, chosen, page) if one.text]
    ways = [_way(tree, one.shape) for one in said]
    tables = _tables_of_data(said, ways)
    out, grid = _Writer(), _Grid(tree, page, tables)
    rows: defaultdict[_Place, defaultdict[int, list[str]]] = defaultdict(lambda: defaultdict(list))
    data = [next((place for place in way if place.table in tables), None) for way in ways]
    for one, place in zip(said, data, strict=True):
        if place:
            rows[place._replace(cell=0)][place.cell].append(one.text)
    for one, place in zip(said, data, strict=True):
        if place is None:
            out.block(one.shape, one.text)
        elif cells := rows.pop(place._replace(cell=0), None):
            columns = [" ".join(" ".join(cells.get(cell, ())).split()) for cell in grid.row(place)]
            out.row(tree.around(place.table), place.table, columns, grid.width(place.table))
    return out.whole()


def _said(tree: Tree, blocks: Blocks, chosen: np.ndarray, page: bytes) -> Iterator[_Block]:
    """The blocks with their texts; those of one `pre` are one."""
    held: _Block | None = None
    elements = blocks.element.tolist()
    for number in np.flatnonzero(chosen).tolist():
        shape = tree.shape(elements[number])
        code = shape.pre >= 0
        text = code_of(blocks, number, page) if code else _marked(tree, blocks, number, page)
        if held and code and held.shape.pre == shape.pre:
            held = held._replace(text=f"{held.text}\n{text}")
            continue
        if held:
            yield held
        held = _Block(number, shape, text)
    if held:
        yield held


def _marked(tree: Tree, blocks: Blocks, number: int, page: bytes) -> str:
    """The text of a block, code marked."""
    outline = blocks.outline
    first = int(blocks.starts[number])
    end = int(blocks.starts[number + 1]) if number + 1 < len(blocks) else outline.pieces.shape[1]
    parts: list[str] = []
    before = -1  # the element of code that the piece before is all of
    for begin, stop, element, gap in zip(
        *outline.pieces[:, first:end].tolist(), (outline.gaps[first:end] & 15).tolist(), strict=True
    ):
        text = unescaped(page[begin:stop].decode("utf-8", "replace")).replace("\n", " ").replace("\r", " ")
        parts.append("\n" if gap == LINE and parts else " " if gap == SPACE else "")
        code = text.strip()
        if tree.tags[element] in _CODE and code and "`" not in code:
            lead, tail = text[: text.index(code[0])], text[len(text.rstrip()) :]
            if before == element and not parts[-1] and not lead:
                parts[-2:] = [parts[-2][:-1], code + "`" + tail]
            else:
                parts.append(f"{lead}`{code}`{tail}")
            before = -1 if tail else element
        else:
            parts.append(text)
            before = -1
    return "\n".join(line for part in "".join(parts).split("\n") if (line := " ".join(part.split())))


def _way(tree: Tree, shape: Shape) -> list[_Place]:
    """The cells a block lies in, outermost first."""
    way: list[_Place] = []
    while shape.in_row and len(way) < TABLES:
        way.append(_Place(shape.table, shape.row, shape.cell))
        shape = tree.around(shape.table)
    return way[::-1]


def _tables_of_data(said: list[_Block], ways: list[list[_Place]]) -> set[int]:
    size: defaultdict[_Place, int] = defaultdict(int)
    for one, way in zip(said, ways, strict=True):
        for place in way:
            size[place] += CELL if one.shape.pre >= 0 else max(len(one.text), CELL // PARTS)
    columns: defaultdict[_Place, int] = defaultdict(int)
    for place in size:
        columns[place._replace(cell=0)] += 1
    laid_out = {place.table for place, many in size.items() if many >= CELL}
    return {place.table for place, many in columns.items() if many > 1} - laid_out


class _Grid:
    """Where the cells of tables of data stand."""

    def __init__(self, tree: Tree, page: bytes, tables: set[int]) -> None:
        self._rows: dict[int, list[int]] = {}
        self._width: defaultdict[int, int] = defaultdict(int)
        self._tree, self._page = tree, page
        if tables:
            self._fill(tables)

    def row(self, place: _Place) -> list[int]:
        """The cells of a row, column by column; -1 for one that holds nothing of its own."""
        return self._rows.get(place.row, [place.cell])

    def width(self, table: int) -> int:
        return self._width[table]

    def _fill(self, tables: set[int]) -> None:
        cells: defaultdict[int, defaultdict[int, list[int]]] = defaultdict(lambda: defaultdict(list))
        for element, tag in enumerate(self._tree.tags):
            if tag in _CELLS and (shape := self._tree.shape(element)).in_row and shape.table in tables:
                cells[shape.table][shape.row].append(element)
        for table, rows in cells.items():
            below: dict[int, int] = {}  # column -> rows that a cell above still reaches into
            for row, members in rows.items():
                self._rows[row] = self._laid(members, below)
                self._width[table] = max(self._width[table], len(self._rows[row]))

    def _laid(self, members: list[int], below: dict[int, int]) -> list[int]:
        columns: list[int] = []
        reach: dict[int, int] = {}
        for cell in members:
            while below.get(len(columns), 0) > 0 and len(columns) < COLUMNS:
                columns.append(-1)
            wide, high = self._spans(cell)
            reach |= dict.fromkeys(range(len(columns), len(columns) + wide), high - 1)
            columns += [cell] + [-1] * (wide - 1)
        for column in below:
            below[column] -= 1
        below |= {column: more for column, more in reach.items() if more > 0}
        return columns if len(columns) <= COLUMNS else members

    def _spans(self, cell: int) -> tuple[int, int]:
        start = int(self._tree.tree.spans[3, cell])
        end = self._page.find(b">", start, start + 2048)
        if b"span" not in self._page[start : end if end > 0 else start].lower():
            return 1, 1
        attributes, _ = attributes_at(self._page[start : start + 2048].decode("utf-8", "replace"), 3)
        wide, high = (_SPAN.match(attributes.get(name, "").strip()) for name in ("colspan", "rowspan"))
        return min(max(int(wide[0]), 1), COLUMNS) if wide else 1, max(int(high[0]), 1) if high else 1


class _Writer:
    """Lines of Markdown, which depend on what stood before: the table, the items and quotations that are open."""

    def __init__(self) -> None:
        self._lines: list[str] = []
        self._open: tuple[Holder, ...] = ()
        self._signs: dict[int, str] = {}  # element of a list -> what marks its items
        self._last: dict[int, int] = {}  # how many hold a list -> the list that was written there last
        self._table = -1

    def whole(self) -> str:
        return "\n".join(self._lines).strip("\n")

    def block(self, shape: Shape, text: str) -> None:
        if shape.pre >= 0:
            fence = "`" * max(3, 1 + max(map(len, _TICKS.findall(text)), default=0))
            text = f"{fence}\n{text}\n{fence}"
        elif shape.level:
            text = f"{'#' * shape.level} {' '.join(text.split())}"
        self._table = -1
        self._write(shape.holders, text)

    def row(self, around: Shape, table: int, columns: list[str], width: int) -> None:
        line = "| " + " | ".join(one.replace("|", "\\|") for one in columns) + " |"
        if self._table == table:
            _, rest = self._prefixes(around.holders)
            self._lines.append(rest + line)
            return
        line += " |" * max(0, width - len(columns))
        self._write(around.holders, f"{line}\n|{' --- |' * max(width, len(columns))}")
        self._table = table

    def _write(self, holders: tuple[Holder, ...], text: str) -> None:
        """A block behind what holds it, a blank line before it unless it begins an item."""
        shared = _shared(self._open, holders)
        begins = len(shared) < len(holders) and holders[len(shared)].list is not None
        in_list = any(one.list is not None for one in self._open[: len(shared) + 1])
        if self._lines and not (begins and in_list and self._same_list(shared, holders)):
            self._lines.append(self._prefixes(shared)[1].rstrip())
        parts_lists = len(shared) == len(holders)
        self._last = {depth: one for depth, one in self._last.items() if depth <= len(shared) - parts_lists}
        first, rest = self._prefixes(holders, len(shared))
        head, *more = text.split("\n")
        self._lines += [first + head, *((rest + line).rstrip() for line in more)]
        self._open = holders

    def _same_list(self, shared: tuple[Holder, ...], holders: tuple[Holder, ...]) -> bool:
        """The next item of a list, or the first of a list in an item: no blank line before it."""
        new, depth = holders[len(shared)], len(shared)
        if depth < len(self._open):
            return self._open[depth].list == new.list
        return depth > 0 and shared[-1].list is not None

    def _prefixes(self, holders: tuple[Holder, ...], known: int = -1) -> tuple[str, str]:
        """What stands before the first line of a block, and before the others. `known`: holders that are open."""
        first, rest = "", ""
        known = len(holders) if known < 0 else known
        for depth, one in enumerate(holders):
            if one.list is None:
                first, rest = first + "> ", rest + "> "
            else:
                sign = self._sign(depth, one)
                first += " " * (len(sign) + 1) if depth < known else f"{sign} "
                rest += " " * (len(sign) + 1)
        return first, rest

    def _sign(self, depth: int, item: Holder) -> str:
        """Of two lists side by side the second has another sign, or they would be one."""
        assert item.list is not None
        if item.list not in self._signs:
            before = self._signs.get(self._last.get(depth, -2), "")
            signs = ("1.", "1)") if item.ordered else ("-", "*")
            self._signs[item.list] = signs[before == signs[0]]
        self._last[depth] = item.list
        return self._signs[item.list]


def _shared(one: tuple[Holder, ...], other: tuple[Holder, ...]) -> tuple[Holder, ...]:
    same = 0
    while same < min(len(one), len(other)) and one[same] == other[same]:
        same += 1
    return one[:same]
