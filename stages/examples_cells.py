"""Cells of labelled examples: between commas, between tabs, and the columns of CoNLL; how a file is laid out.

Promises: lines end at \n alone (texts hold U+2028 and U+0085); UTF-8 with or without a mark, UTF-16 and UTF-32 with
one, any other encoding where it is named. A file whose columns are numbers has no header unless told. Costs memory of
one row. A row that cannot be read is a `Fault`, with the byte or the columns; a quote out of place is the whole file's.
"""

import csv
import difflib
import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from posixpath import basename
from typing import Any

from tundish.stages.read_cells import FIELD
from tundish.stages.read_lines import Broken, lines, said

FORMS = ("csv", "tsv", "jsonl", "json", "parquet", "arrow", "conll", "squad")
DOCUMENT = "-DOCSTART-"  # begins a document in CoNLL 2003 (Tjong Kim Sang and De Meulder, 2003) and is no sentence

Column = str | int  # a name, or a number counted from 0; from the end where it is negative
Found = tuple[int, "dict[str, Any] | Fault"]


class Fault(ValueError):
    """A row that is no example. `reason`: one word to count it by; `rows`: how many are lost with it. The sentence
    names the row and what to do."""

    def __init__(self, reason: str, sentence: str, rows: int = 1) -> None:
        super().__init__(sentence)
        self.reason, self.rows = reason, rows


@dataclass(frozen=True)
class Layout:
    """How files are to be read. `header`: whether the first row names the columns (None: unless all are numbers).
    `quoted`: whether quotes hold cells together (None: in CSV alone). `delimiter`: between cells (None: comma, tab; for
    CoNLL tabs where a line has any, else spaces)."""

    form: str | None = None
    header: bool | None = None
    delimiter: str | None = None
    quoted: bool | None = None
    encoding: str = "utf-8"

    def __post_init__(self) -> None:
        if self.form is not None and self.form not in FORMS:
            raise ValueError(f"the form {self.form!r} is not known; it is one of {', '.join(FORMS)}")
        if self.delimiter is not None and len(self.delimiter) != 1:
            raise ValueError(f"the delimiter {self.delimiter!r} is not one character; give one, such as ';'")
        try:
            end = b"\n".decode(self.encoding, "replace")
        except LookupError:
            raise ValueError(
                f"the encoding {self.encoding!r} is not known; name one such as utf-8 or latin-1"
            ) from None
        if end != "\n":
            raise ValueError(
                f"a line of {self.encoding} does not end in the byte 10; begin the file with a byte order mark and "
                "name no encoding, or save it as UTF-8"
            )


def text_of(line: bytes, where: str, layout: Layout) -> str:
    try:
        return line.decode(layout.encoding)
    except UnicodeDecodeError as error:
        raise Fault(
            "undecodable",
            f"{where} is not {layout.encoding} (byte {line[error.start]:#04x} at place {error.start}); save the file "
            "as UTF-8, or name what it is in, as in --encoding cp1252",
        ) from None


def lined(stream: Any, pack: str, uri: str, layout: Layout) -> Iterator[tuple[int, str | Fault]]:
    """(number of the line, from 1; its text without its end)."""
    for number, line in enumerate(lines(stream, pack), 1):
        where = f"line {number} of {basename(uri)}"
        if isinstance(line, Broken):
            raise ValueError(f"{where} cannot be read ({line.detail}); mend the file")
        try:
            yield number, text_of(line, where, layout).removesuffix("\n").removesuffix("\r")
        except Fault as fault:
            yield number, fault


def cells(
    stream: Any,
    pack: str,
    form: str,
    uri: str,
    columns: Mapping[str, Column],
    needed: Sequence[str],
    layout: Layout,
) -> Iterator[Found]:
    quoted = form == "csv" if layout.quoted is None else layout.quoted
    between = layout.delimiter or ("," if form == "csv" else "\t")
    named = any(isinstance(columns[role], str) for role in needed or columns)
    headed = named if layout.header is None else layout.header
    texts = lined(stream, pack, uri, layout)
    found = _quoted(texts, between, uri) if quoted else _split(texts, between)
    places: dict[str, int] = {}
    width, number = 0, 0
    for row in found:
        if not width and isinstance(row, list):
            width = len(row)
            names = [cell.strip() for cell in row] if headed else []
            places = {role: _place(c, names, width, uri, role in needed) for role, c in columns.items()}
            places = {role: place for role, place in places.items() if place >= 0}
            if headed:
                continue
        number += 1
        where = f"row {number} of {basename(uri)}"
        if isinstance(row, list) and len(row) != width:
            row = Fault(
                "columns", f"{where} has {len(row)} columns, and the first row {width}; mend it, or check the quotes"
            )
        yield number, row if isinstance(row, Fault) else {role: row[at] for role, at in places.items()}


def _split(texts: Iterator[tuple[int, str | Fault]], between: str) -> Iterator[list[str] | Fault]:
    for _, line in texts:
        if line:
            yield line if isinstance(line, Fault) else line.split(between)


def _quoted(texts: Iterator[tuple[int, str | Fault]], between: str, uri: str) -> Iterator[list[str] | Fault]:
    """Cells that quotes may hold together, line ends among them. A quote out of place is the whole file's fault."""

    def strictly() -> Iterator[str]:
        for _, line in texts:
            if isinstance(line, Fault):
                raise line
            yield line + "\n"

    csv.field_size_limit(FIELD)
    found = csv.reader(strictly(), delimiter=between, strict=True)
    while True:
        try:
            cells = next(found)
        except StopIteration:
            return
        except csv.Error as error:
            raise ValueError(
                f"line {found.line_num} of {basename(uri)} has a quote out of place, or ends a cell that nobody closed "
                f"({said(error)}); mend it, or say --no-quotes where quotes are letters"
            ) from None
        if cells:
            yield cells


def _place(column: Column, names: Sequence[str], width: int, uri: str, needed: bool) -> int:
    """The number of a column; -1 for one that is not there and need not be."""
    if isinstance(column, int):
        if not -width <= column < width:
            raise ValueError(
                f"{basename(uri)} has {width} columns and no number {column}; count them from 0, or check the delimiter"
            )
        return column % width
    if column in names:
        if names.count(column) > 1:
            raise ValueError(f"{basename(uri)} has {names.count(column)} columns {column!r}; give its number instead")
        return names.index(column)
    if needed:
        raise missing(uri, column, names)
    return -1


ALIKE = 0.7  # share of letters: a slip of the hand, not text for target


def missing(uri: str, column: Column, names: Sequence[str]) -> ValueError:
    """That a column is not there, with the nearest that is."""
    names = [str(name) for name in names]
    near = nearest(str(column), names)
    listed = ", ".join(map(repr, names[:12])) + (", …" if len(names) > 12 else "") if names else "nothing"
    hint = f"did you mean {near!r}?" if near else "name the right one"
    if len(names) == 1 and any(each in names[0] for each in ",;|\t"):
        hint = "it looks as if another sign parted the cells: name it, as in --delimiter ';'"
    return ValueError(f"{basename(uri)} has no column {column!r} (it has {listed}); {hint}")


def nearest(word: str, known: Sequence[str]) -> str | None:
    """The most similar of the known words, if any is similar.

    >>> nearest("lable", ["text", "Label"]), nearest("target", ["text", "label"])
    ('Label', None)
    """
    small = {name.casefold(): name for name in known}
    found = difflib.get_close_matches(word.casefold(), list(small), 1, ALIKE)
    return small[found[0]] if found else None


def sentences(stream: Any, pack: str, uri: str, columns: Mapping[str, Column], layout: Layout) -> Iterator[Found]:
    """Words and tags of each sentence of CoNLL columns. A line that begins with # and has other than the columns of
    the file is a remark."""
    for role, column in columns.items():
        if not isinstance(column, int):
            raise ValueError(
                f"{basename(uri)} has no header; give the number of the column of the {role}, not {column!r}"
            )
    words: dict[str, list[str]] = {role: [] for role in columns}
    number, fault = 0, None
    texts = lined(stream, pack, uri, layout)
    head = list(_head(texts, layout))
    width = _width(head, layout)
    for column in columns.values() if width else ():
        _place(column, [], width, uri, True)
    for at, line in itertools.chain(head, texts, [(0, "")]):
        if isinstance(line, Fault):
            fault = fault or line
            continue
        cells = _columns(line, layout.delimiter)
        if not cells or cells[0] == DOCUMENT:
            if fault or any(words.values()):
                number += 1
                yield number, fault or words
            words, fault = {role: [] for role in columns}, None
        elif len(cells) == width:
            for role, column in columns.items():
                words[role].append(cells[column])
        elif not line.startswith("#"):
            told = f"line {at} of {basename(uri)} has {len(cells)} columns, and the first {width}; mend it"
            fault = fault or Fault("columns", told)


def _head(texts: Iterator[tuple[int, str | Fault]], layout: Layout) -> Iterator[tuple[int, str | Fault]]:
    """The lines up to the first that is a word's, and surely no remark."""
    for at, line in texts:
        yield at, line
        if isinstance(line, str) and _columns(line, layout.delimiter) and not line.startswith(("#", DOCUMENT)):
            return


def _width(head: Sequence[tuple[int, str | Fault]], layout: Layout) -> int:
    """The columns of the last of these lines; 0 where there is none."""
    last = head[-1][1] if head else ""
    return len(_columns(last, layout.delimiter)) if isinstance(last, str) else 0


def _columns(line: str, delimiter: str | None) -> list[str]:
    """
    >>> _columns("New York\\tB-LOC", None), _columns("York  I-LOC", None), _columns(" ", None)
    (['New York', 'B-LOC'], ['York', 'I-LOC'], [])
    """
    if not line.strip(" \t"):
        return []
    if delimiter or "\t" in line:
        return line.split(delimiter or "\t")
    return [cell for cell in line.split(" ") if cell]
