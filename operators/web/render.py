"""Blocks of a page as text: a paragraph a line, or light Markdown (headings, lists, tables, code, quotations).

Promises: text order is that of the page; white space is collapsed but in code; the cells of a table row share a line.
Costs about 3 us a block. Refuses nothing.
"""

import html
from functools import cached_property
from typing import NamedTuple

import numpy as np

from tundish.operators.web.blocks import Blocks
from tundish.operators.web.elements import LINE, NONE, SPACE, TAG

_SHAPING = {"pre": "pre", "li": "item", "tr": "row", "td": "cell", "th": "cell", "blockquote": "quote"}
_HEADINGS = {TAG[f"h{level}"]: level for level in range(1, 7)}
_LISTS = {TAG["ul"]: "-", TAG["menu"]: "-", TAG["dir"]: "-", TAG["ol"]: "1."}
_CODE = {TAG[name] for name in ("code", "kbd", "samp", "tt")}
_FIELDS = {TAG[tag]: field for tag, field in _SHAPING.items()}
NEST = 6  # lists in lists that are indented


class _Tree:
    """What is asked of an outline again and again, as lists, which Python reads ten times as fast as arrays."""

    def __init__(self, blocks: Blocks, raw: bytes) -> None:
        self.tree = tree = blocks.outline
        self.raw = raw
        self.starts = [*blocks.starts.tolist(), tree.pieces.shape[1]]
        self.begins, self.ends, self.elements = tree.pieces.tolist()
        self.gaps = (tree.gaps & 15).tolist()
        self.shapes: dict[int, _Shape] = {}

    @cached_property
    def parents(self) -> list[int]:
        return self.tree.parents.tolist()  # type: ignore[no-any-return]

    @cached_property
    def tags(self) -> list[int]:
        return self.tree.tags.tolist()  # type: ignore[no-any-return]

    def shape(self, element: int) -> "_Shape":
        """What stands above an element; kept for all on the way."""
        way = []
        while element >= 0 and element not in self.shapes:
            way.append(element)
            element = self.parents[element]
        known = self.shapes[element] if element >= 0 else _NOTHING
        for one in reversed(way):
            known = self.shapes[one] = known.within(self.tags[one], one)
        return known


class _Shape(NamedTuple):
    """The innermost element of each kind that shapes a text, -1 for none, and the lists around it, innermost last."""

    pre: int = -1
    item: int = -1
    row: int = -1
    cell: int = -1
    quote: int = -1
    level: int = 0  # of a heading
    lists: tuple[int, ...] = ()

    def within(self, tag: int, element: int) -> "_Shape":
        if tag in _LISTS:
            return self._replace(lists=(*self.lists[-NEST:], tag))
        if tag in _HEADINGS:
            return self._replace(level=_HEADINGS[tag])
        field = _FIELDS.get(tag)
        return self._replace(**{field: element}) if field else self


_NOTHING = _Shape()


def _said(tree: _Tree, first: int, end: int, whole: bool, marked: bool) -> str:
    """The text of the pieces of a block. `whole`: white space counts. `marked`: code is marked."""
    if not (whole or marked):
        return _collapsed(tree, first, end)
    parts = []
    for piece in range(first, end):
        gap = tree.gaps[piece]
        text = tree.raw[tree.begins[piece] : tree.ends[piece]].decode("utf-8", "replace")
        text = html.unescape(text) if "&" in text else text
        if not whole:
            text = text.replace("\n", " ").replace("\r", " ")
            if marked and tree.tags[tree.elements[piece]] in _CODE and "`" not in text and text.strip():
                text = f"`{text.strip()}`"
        parts.append(("\n" if gap == LINE else " " if gap == SPACE else "") + text if piece > first else text)
    joined = "".join(parts)
    if whole:
        return "\n".join(line.rstrip() for line in joined.strip("\n").split("\n"))
    return "\n".join(line for part in joined.split("\n") if (line := " ".join(part.split())))


def _collapsed(tree: _Tree, first: int, end: int) -> str:
    """The text of the pieces of a block, white space collapsed, lines only where the page breaks them."""
    raw = tree.raw[tree.begins[first] : tree.ends[first]]
    if end - first > 1:
        parts = [raw.replace(b"\n", b" ").replace(b"\r", b" ")]
        for piece in range(first + 1, end):
            gap = tree.gaps[piece]
            if gap != NONE:
                parts.append(b"\n" if gap == LINE else b" ")
            raw = tree.raw[tree.begins[piece] : tree.ends[piece]]
            parts.append(raw.replace(b"\n", b" ").replace(b"\r", b" ") if b"\n" in raw or b"\r" in raw else raw)
        raw = b"".join(parts)
    text = raw.decode("utf-8", "replace")
    text = html.unescape(text) if "&" in text else text
    if end - first == 1 or "\n" not in text:
        return " ".join(text.split())
    return "\n".join(line for part in text.split("\n") if (line := " ".join(part.split())))


def text_of(blocks: Blocks, chosen: np.ndarray, page: bytes, shaped: np.ndarray | None = None) -> str:
    """(blocks,) bool -> paragraphs, one a line; the cells of a row with " | " between them.

    `shaped`: (blocks,) bool, which stand in a `pre`, `td` or `th`; all may, if it is not told.
    """
    return _lines(blocks, chosen, page, False, shaped)


def markdown_of(blocks: Blocks, chosen: np.ndarray, page: bytes) -> str:
    """(blocks,) bool -> CommonMark with tables; what the words themselves hold of its signs is not escaped."""
    return _lines(blocks, chosen, page, True, None)


def _lines(blocks: Blocks, chosen: np.ndarray, page: bytes, marked: bool, shaped: np.ndarray | None) -> str:
    tree, out, marks = _Tree(blocks, page), [], _Marks() if marked else None
    cells: list[str] = []
    row = -1
    elements = blocks.element.tolist()
    plain = [False] * len(elements) if shaped is None else (~shaped).tolist()
    for number in [*np.flatnonzero(chosen).tolist(), -1]:
        shape = _NOTHING if number < 0 or plain[number] else tree.shape(elements[number])
        of = shape.row if shape.cell > shape.row else -1
        if cells and of != row:
            out.append(marks.row(cells) if marks else " | ".join(cells))
            cells = []
        row = of
        if number < 0:
            break
        whole = shape.pre >= 0
        text = _said(tree, tree.starts[number], tree.starts[number + 1], whole, marked and not whole)
        if not text:
            continue
        if row >= 0:
            cells.append(" ".join(text.split("\n")))
        else:
            out.append(marks.paragraph(shape, text) if marks else text)
    return "\n".join(out).strip()


class _Marks:
    """Marks of Markdown, which depend on what stood before: the head of a table, the item a paragraph belongs to."""

    def __init__(self) -> None:
        self.table, self.item = False, -1

    def row(self, cells: list[str]) -> str:
        line = "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
        head = "" if self.table else "\n" + line + "\n|" + " --- |" * len(cells)
        self.table, self.item = True, -1
        return head or line

    def paragraph(self, shape: _Shape, text: str) -> str:
        ended, self.table = self.table, False
        before, self.item = self.item, shape.item
        if shape.pre >= 0:
            fence = "```" if "```" not in text else "````"
            return f"\n{fence}\n{text}\n{fence}"
        if shape.level:
            return f"\n{'#' * shape.level} {' '.join(text.split())}"
        if shape.item >= 0 and shape.lists:
            mark = _LISTS[shape.lists[-1]]
            indent = "  " * (min(len(shape.lists), NEST) - 1)
            lead = "\n" if ended or before < 0 else ""
            inner = text.replace("\n", f"\n{indent}{' ' * len(mark)} ")
            return f"{lead}{indent}{' ' * len(mark) if before == shape.item else mark} {inner}"
        if shape.quote >= 0:
            return "\n" + "\n".join(f"> {line}" for line in text.split("\n"))
        return "\n" + text
