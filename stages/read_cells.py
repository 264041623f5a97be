"""Rows of lines: JSON objects, cells between tabs, comma-separated values.

Promises: a row that cannot be parsed is `Broken`, and the next one is read on; a quote that nobody closes costs its own
line. Cells that are not UTF-8 are decoded by the ladder of operators/web/encoding: all by one codec, which the head of
the file tells where it can, so a row reads the same however the file is cut. JSON is UTF-8 or broken. Costs what the
parsers of Python cost. Refuses nothing.
"""

import csv
import json
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from tundish.operators.web import encoding
from tundish.stages.read_lines import BROKEN, Broken, said

FIELD = 1 << 28  # bytes of a CSV cell; the reader's own limit is 128 KiB, which whole pages outgrow
SAMPLE = 4 << 20  # bytes of the head of a file that tell its encoding

Lines = Iterable[bytes | Broken]
Rows = Iterator[Mapping[str, Any] | Broken]


def objects(lines: Lines) -> Rows:
    """JSON objects, one a line."""
    for line in lines:
        if isinstance(line, Broken):
            yield line
        elif line := line.strip():
            yield _object(line)


def _object(line: bytes) -> Mapping[str, Any] | Broken:
    try:
        value = json.loads(line.decode())
    except UnicodeDecodeError as error:
        return Broken("undecodable", said(error))
    except BROKEN as error:
        return Broken("bad_row", said(error))
    kind = type(value).__name__
    return value if isinstance(value, Mapping) else Broken("bad_row", f"it is of the type {kind}, not an object")


class Decoder:
    """Lines of one file as text. `head` gives its first lines anew."""

    def __init__(self, head: Callable[[], Lines]) -> None:
        self._head, self._codec = head, ""

    def __call__(self, line: bytes) -> str:
        try:
            return line.decode()
        except UnicodeDecodeError:
            pass
        self._codec = self._codec or self._told()
        try:
            return line.decode(self._codec)
        except UnicodeDecodeError:
            return encoding.decode(line).text

    def _told(self) -> str:
        """The codec of the head's lines that are not UTF-8; UTF-8, which no such line is in, where there are none."""
        odd, seen = bytearray(), 0
        for line in self._head():
            if isinstance(line, bytes):
                odd += b"" if _is_utf8(line) else line
                seen += len(line)
            if seen >= SAMPLE:
                break
        return encoding.decode(bytes(odd)).encoding if odd else "utf-8"


def _is_utf8(line: bytes) -> bool:
    try:
        return line.isascii() or bool(line.decode())
    except UnicodeDecodeError:
        return False


def tabbed(lines: Lines, head: Callable[[], Lines], first: bool) -> Rows:
    """Cells between tabs, quotes mean nothing. `first`: the lines begin with the one of the names."""
    text = Decoder(head)
    top = next(iter(head()), b"")
    if isinstance(top, Broken):
        yield top
        return
    names = text(top).rstrip("\r\n").split("\t")
    for number, line in enumerate(lines):
        if isinstance(line, Broken):
            yield line
        elif line.strip() and not (first and number == 0):
            yield _named(names, text(line).rstrip("\r\n").split("\t"))


def separated(lines: Lines, head: Callable[[], Lines]) -> Rows:
    """Comma-separated values with names in the first row (RFC 4180)."""
    csv.field_size_limit(FIELD)
    held = _Held(lines, Decoder(head))
    names: list[str] | None = None
    while True:
        found = held.row()
        if found is None:
            return
        if isinstance(found, Broken):
            yield found
            if names is None:  # nothing says what the cells are
                return
        elif names is None:
            names = found or None
        elif found:
            yield _named(names, found)


class _Held:
    """Rows of CSV, with the lines of the row at hand kept, so that a broken one gives back all but its first."""

    def __init__(self, lines: Lines, text: Decoder) -> None:
        self._lines, self._text = iter(lines), text
        self._back: deque[str | Broken] = deque()
        self._taken: list[str] = []
        self._cells = csv.reader(self, strict=True)

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line = self._back.popleft() if self._back else next(self._lines)
        if isinstance(line, Broken):
            self._back.appendleft(line)
            raise csv.Error("the file is broken inside of it")
        self._taken.append(line if isinstance(line, str) else self._text(line))
        return self._taken[-1]

    def row(self) -> list[str] | Broken | None:
        self._taken = []
        try:
            return next(self._cells)
        except StopIteration:
            return None
        except csv.Error as error:
            if not self._taken:
                broken = self._back.popleft()
                assert isinstance(broken, Broken), "a row breaks at its first line by damage alone"
                return broken
            self._back.extendleft(reversed(self._taken[1:]))
            self._cells = csv.reader(self, strict=True)
            return Broken("bad_row", said(error))


def _named(names: Sequence[str], cells: Sequence[str]) -> dict[str, str] | Broken:
    if len(cells) != len(names):
        return Broken("bad_row", f"it has {len(cells)} cells, and the first line names {len(names)}")
    return dict(zip(names, cells, strict=True))
