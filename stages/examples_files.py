"""Rows of the files that people keep labelled examples in: which form each has, and JSON, Parquet and Arrow.

    csv      RFC 4180, any delimiter           tsv      tabs and line ends alone; quotes are letters
    jsonl    an object a line                  json     an array of objects, `{"data": [...]}`, or lines
    parquet, arrow                             conll    a word a line, a blank line behind a sentence
    squad    SQuAD 1.1 and 2.0

each but Parquet and Arrow also as `.gz`, `.zst`, `.bz2`, `.xz`. The name of a file says its form, or `Layout.form`.

Promises: a row's number counts from 1, and neither a header nor a blank line. Costs memory of one row, of the whole
file for JSON that is not lines. A row that cannot be read is a `Fault`, with the row and what to do. Refuses a file
without a column it needs, with the nearest it has, and a file that is broken as a whole.
"""

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from posixpath import basename
from typing import Any

import pyarrow.parquet as pq

from tundish.cluster import store
from tundish.stages.examples_cells import FORMS, Column, Fault, Found, Layout, cells, lined, missing, sentences, text_of
from tundish.stages.examples_features import names_in, spelt
from tundish.stages.ingest_streams import opened
from tundish.stages.read import picked
from tundish.stages.read_batches import batches, parquet
from tundish.stages.read_forms import form_of, has
from tundish.stages.read_lines import BROKEN, Broken, blame, lines, said

BY_NAME = {
    **{"." + name: name for name in FORMS},
    ".ndjson": "jsonl",
    ".feather": "arrow",
    ".conllu": "conll",
    ".bio": "conll",
    ".iob": "conll",
    ".iob2": "conll",
}
DAMAGE = tuple(kind for kind in BROKEN if kind is not ValueError)  # our own refusals are ValueErrors


def files_of(paths: str | Sequence[str]) -> list[str]:
    """The files that paths, globs, folders or URIs name, in the order they are named."""
    found: dict[str, None] = {}
    for pattern in [paths] if isinstance(paths, str) else paths:
        named = store.matching(pattern)
        if not named:
            raise ValueError(f"there is no file {pattern!r}; check the path")
        found |= dict.fromkeys(named)
    if not found:
        raise ValueError("no file of examples is named; give at least one path")
    return list(found)


def called(uris: Sequence[str]) -> dict[str, str]:
    """What each of some files is called: its name, with as much of the path before it as sets it apart.

    >>> called(["a/x/t.csv", "b/x/t.csv", "b/u.csv"])
    {'a/x/t.csv': 'a/x/t.csv', 'b/x/t.csv': 'b/x/t.csv', 'b/u.csv': 'u.csv'}
    """
    found: dict[str, str] = dict.fromkeys(uris, "")
    left, size = list(found), 0
    while left:
        size += 1
        ends = {uri: "/".join(uri.split("/")[-size:]) for uri in left}
        many = Counter(ends.values())
        found |= ends
        left = [uri for uri, end in ends.items() if many[end] > 1 and end != uri]
    return found


def form_in(uri: str, kind: str, layout: Layout) -> str:
    """The form of a file: the one that is told, its name's, else what files of this kind of task are as a rule."""
    if layout.form:
        return layout.form
    ending, _ = form_of(uri)
    if ending in BY_NAME:
        return BY_NAME[ending]
    if kind == "tag":
        return "conll"
    if ending in (".txt", ""):
        return "tsv"
    raise ValueError(
        f"{basename(uri)} ends in {ending!r}, which says no form; name it with --form ({', '.join(FORMS)})"
    )


def rows(uri: str, form: str, columns: Mapping[str, Column], needed: Sequence[str], layout: Layout) -> Iterator[Found]:
    """(number, value of each role, or why there is none) of every row; a JSON or SQuAD row under the names it has.

    `columns`: role -> column. `needed`: the roles a file is refused without.
    """
    _, pack = form_of(uri)
    with opened(uri) as stream:
        try:
            if form in ("parquet", "arrow"):
                names = names_in(stream, form)
                yield from _picked(spelt(_tables(stream, form, columns), names), uri, columns, needed)
            elif form in ("csv", "tsv"):
                yield from cells(stream, pack, form, uri, columns, needed, layout)
            elif form == "conll":
                yield from sentences(stream, pack, uri, columns, layout)
            elif form == "jsonl":
                yield from _picked(_objects(stream, pack, uri, layout), uri, columns, needed)
            else:
                yield from _whole(stream, pack, uri, columns, needed, layout)
        except DAMAGE as error:
            blame(stream, error)
            raise ValueError(f"{basename(uri)} cannot be read ({said(error)}); mend the file, or its form") from None


def _tables(stream: Any, form: str, columns: Mapping[str, Column]) -> Iterator[Any]:
    if form == "arrow":
        return batches(stream, 0, None, None)
    known = pq.ParquetFile(stream).schema_arrow.names
    asked = [str(c) for c in columns.values()]
    stream.seek(0)
    wanted = [c for c in dict.fromkeys((*asked, *(c.partition(".")[0] for c in asked))) if c in known]
    every = {c.partition(".")[0] for c in asked} <= set(known)  # else all, so that a refusal can name what there is
    return parquet(stream, 0, None, wanted if every else None)


def _objects(stream: Any, pack: str, uri: str, layout: Layout) -> Iterator[Any]:
    for number, line in lined(stream, pack, uri, layout):
        if isinstance(line, Fault):
            yield line
        elif line.strip():
            try:
                yield json.loads(line)
            except BROKEN as error:
                yield Fault(
                    "bad_row", f"line {number} of {basename(uri)} is no JSON ({said(error)}); mend it, or take it out"
                )


def _picked(found: Iterator[Any], uri: str, columns: Mapping[str, Column], needed: Sequence[str]) -> Iterator[Found]:
    """The values of each role. What the first row lacks, the file lacks."""
    first, number = True, 0
    for row in found:
        number += 1
        where = f"row {number} of {basename(uri)}"
        if isinstance(row, Broken):
            row = Fault(row.reason, f"{where} cannot be read ({row.detail}); mend the file", row.rows)
            number += row.rows - 1
        elif not isinstance(row, Mapping | Fault):
            row = Fault("bad_row", f"{where} is of the type {type(row).__name__}; make it an object with named values")
        if isinstance(row, Fault):
            yield number, row
            continue
        lacking = [role for role in needed if not has(row, str(columns[role]))]
        if lacking and first:
            raise missing(uri, columns[lacking[0]], list(row))
        first = False
        if lacking:
            yield number, Fault("columns", f"{where} has no {columns[lacking[0]]!r}; add it, or take the row out")
            continue
        values = {role: picked(row, str(c)) for role, c in columns.items() if has(row, str(c))}
        yield number, values


def _whole(
    stream: Any, pack: str, uri: str, columns: Mapping[str, Column], needed: Sequence[str], layout: Layout
) -> Iterator[Found]:
    """Of a file that is one JSON value; of one that is lines after all, these."""
    blocks = list(lines(stream, pack))
    if broken := next((block for block in blocks if isinstance(block, Broken)), None):
        raise ValueError(f"{basename(uri)} cannot be read ({broken.detail}); mend the file")
    body = b"".join(block for block in blocks if isinstance(block, bytes))
    text = text_of(body, basename(uri), layout)
    try:
        value = json.loads(text)
    except BROKEN as error:
        head = text.lstrip().partition("\n")[0]
        if not (head.startswith("{") and head.rstrip().endswith("}")):
            raise ValueError(f"{basename(uri)} is no JSON ({said(error)}); mend it") from None
        stream.seek(0)
        yield from _picked(_objects(stream, pack, uri, layout), uri, columns, needed)
        return
    held = value.get("data") if isinstance(value, Mapping) else value
    if not isinstance(held, list):
        held = [value]
    if held and "context" in columns and all(isinstance(one, Mapping) and "paragraphs" in one for one in held):
        try:
            yield from articles(held)
        except (TypeError, AttributeError) as error:
            raise ValueError(f"{basename(uri)} is no SQuAD file ({error}); write paragraphs, qas and answers") from None
        return
    yield from _picked(iter(held), uri, columns, needed)


def articles(held: Sequence[Mapping[str, Any]]) -> Iterator[Found]:
    """The questions of a SQuAD file (Rajpurkar et al. 2016; 2018 for those with no answer), in its order."""
    number = 0
    for article in held:
        for paragraph in article["paragraphs"]:
            for question in paragraph.get("qas") or ():
                number += 1
                answers = [] if question.get("is_impossible") else question.get("answers") or []
                yield (
                    number,
                    {
                        "context": paragraph.get("context"),
                        "question": question.get("question"),
                        "answers": answers,
                        "key": question.get("id"),
                        "title": article.get("title"),
                    },
                )
