"""Labelled texts from files: what `tundish train-language` learns from.

    .tsv .txt                label<TAB>text a line, or a first line that names the columns label and text
    .jsonl .ndjson .json     objects with label and text, one a line
    .csv                     with a first line that names the columns
    .parquet .arrow          with these columns

All but the last also as `.gz`, `.zst`, `.bz2`, `.xz`. Line breaks within a text are spaces.

Promises: every row is read or refused by file and number; a row whose text is blank is counted. Costs the texts in
memory. Refuses a file without rows, a row that cannot be read, a label that is no single word.
"""

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from tundish.cluster import store
from tundish.stages.ingest_streams import opened
from tundish.stages.read_forms import LINES, READERS, Piece, form_of, rows
from tundish.stages.read_lines import BROKEN, Broken, lines, said

COLUMNS = ("label", "text")
TABBED = (".tsv", ".txt")
PREFIX = "__label__"  # fastText's own; labels are the same with it and without


@dataclass(frozen=True)
class Labelled:
    """`texts` and their `labels`; `blank`: rows that had a label and nothing else."""

    texts: pa.LargeStringArray
    labels: pa.StringArray
    blank: int


def labelled(paths: Sequence[str]) -> Labelled:
    """The rows of all files, in their order."""
    texts, labels, blank = [], [], 0
    for path in (one for pattern in paths for one in _files(pattern)):
        before = len(labels)
        for where, label, text in _rows(path):
            if not isinstance(text, str) or not isinstance(label, str):
                raise ValueError(f"{where} has no label and text; give both as texts")
            word = label.strip().removeprefix(PREFIX)
            if not word or len(word.split()) != 1:
                raise ValueError(f"{where} has the label {label[:60]!r}; make it one word, such as de or deu_Latn")
            blank += not text.strip()
            labels += [word] if text.strip() else []
            texts += [text] if text.strip() else []
        if len(labels) == before:
            raise ValueError(f"{path} holds no labelled text; write label<TAB>text, one a line")
    joined = pc.replace_substring_regex(pa.array(texts, pa.large_string()), r"[\r\n]+", " ")
    return Labelled(joined, pa.array(labels, pa.string()), blank)


def _files(pattern: str) -> list[str]:
    if not (found := store.matching(pattern)):
        raise ValueError(f"there is no file {pattern!r}; check the path")
    return found


def _rows(path: str) -> Iterator[tuple[str, Any, Any]]:
    """(place in words, label, text) of every row of a file."""
    form, pack = form_of(path)
    if form in TABBED or form in LINES:
        yield from _lined(path, form, pack)
    elif f"{form}{pack}" in READERS:
        for number, row in enumerate(rows(path, Piece(), COLUMNS), 1):
            yield _told(f"row {number} of {os.path.basename(path)}", row)
    else:
        raise ValueError(f"{path} is in no form that is read here; give .tsv, .jsonl, .csv or .parquet")


def _lined(path: str, form: str, pack: str) -> Iterator[tuple[str, Any, Any]]:
    header: list[str] | None = None
    with opened(path) as stream:
        for number, line in enumerate(lines(stream, pack), 1):
            where = f"line {number} of {os.path.basename(path)}"
            if isinstance(line, Broken):
                raise ValueError(f"{where} cannot be read ({line.detail}); mend the file")
            if not line.strip():
                continue
            try:
                text = line.decode("utf-8-sig" if number == 1 else "utf-8").rstrip("\r\n")
                row: Any = json.loads(text) if form in LINES else text.split("\t")
            except BROKEN as error:
                raise ValueError(f"{where} cannot be read ({said(error)}); mend the line, or take it out") from None
            if form in LINES:
                yield _told(where, row if isinstance(row, Mapping) else {})
            elif number == 1 and {*COLUMNS} <= {*row}:
                header = row
            elif header:
                yield _told(where, dict(zip(header, row, strict=False)))
            else:
                if len(row) < 2:
                    raise ValueError(f"{where} has no tab; write label<TAB>text")
                yield where, row[0], " ".join(row[1:])


def _told(where: str, row: Mapping[str, Any] | Broken) -> tuple[str, Any, Any]:
    if isinstance(row, Broken):
        raise ValueError(f"{where} cannot be read ({row.detail}); mend the file")
    return where, row.get("label"), row.get("text")
