"""What is kept of tested rows beside their tokens: how their texts begin, and columns by which scores are sliced.

    out/NAME.beside.arrow    id, file, row, text, second, and of each asked column its value as text (null: none)

`text`: of a tagged sentence its words, of a question the question, of what is to be written its source.

Promises: texts cut to `SHOWN` characters, rows found by file and number and only while their text is still the same, so
what lies there from another fine-tuning is never shown. Costs one more reading of the tested files. Refuses a column
that a file has not, with the nearest it has.
"""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa

from tundish.cluster import store
from tundish.stages.examples import batches
from tundish.stages.examples_cells import Column, Fault, Layout, missing
from tundish.stages.examples_files import called, files_of, form_in, rows
from tundish.stages.examples_rows import spelt
from tundish.stages.examples_tokens import load
from tundish.stages.finetune_task import TuneTask

SHOWN, NAMED = 300, 60  # characters of a text, of a value to slice by
COLUMN = "column:"  # before the name of such a column
FIRST = {"answer": ("question", "context"), "tag": ("words", None), "write": ("source", None)}
Place = tuple[str, int]  # file and row


def tested(parts: Mapping[str, Any]) -> list[str]:
    """Names of the parts that are told: all but train and dev, or dev where there is no other."""
    return [each for each in parts if each not in ("train", "dev")] or [each for each in parts if each != "train"]


def keep(
    task: TuneTask,
    files: Mapping[str, str | Sequence[str]],
    columns: Mapping[str, Any],
    by: Sequence[Column] = (),
    *,
    layout: Layout | None = None,
) -> None:
    """Lay the texts of the tested parts beside them. `files` and `columns` as the task was made of; a part without a
    file was cut from train. `by`: columns of the files to slice scores by."""
    for name in tested(task.parts):
        given = files.get(name) or files["train"]
        table, _ = load(task.parts[name])
        wanted = {place for place in zip(table["file"].to_pylist(), table["row"].to_pylist(), strict=True)}
        found = {place: row for place, row in _texts(task.kind, given, columns, layout) if place in wanted}
        for column in by:
            for place, value in _values(task.kind, given, column, layout or Layout()):
                if place in found:
                    found[place][f"{COLUMN}{column}"] = value
        names = ("id", "file", "row", "text", "second", *(f"{COLUMN}{each}" for each in by))
        types = [(each, pa.int64() if each == "row" else pa.large_string()) for each in names]
        _save(_place(task.out, name), pa.Table.from_pylist(list(found.values()), schema=pa.schema(types)))


def _texts(
    kind: str, given: str | Sequence[str], columns: Mapping[str, Any], layout: Layout | None
) -> Iterator[tuple[Place, dict[str, Any]]]:
    first, second = FIRST.get(kind, ("text", "second"))
    for some in batches(kind, given, columns, faulty="drop", layout=layout):
        for row in some.table.to_pylist():
            text = " ".join(row[first]) if kind == "tag" else row[first]
            other = None if second is None or row[second] is None else cut(row[second])
            told = {"id": row["id"], "file": row["file"], "row": row["row"], "text": cut(text), "second": other}
            yield (row["file"], row["row"]), told


def _values(
    kind: str, given: str | Sequence[str], column: Column, layout: Layout
) -> Iterator[tuple[Place, str | None]]:
    """The value of a column in every row, as text."""
    for uri, file in called(files_of(given)).items():
        form = form_in(uri, kind, layout)
        if form == "conll":
            raise ValueError(f"{file} has words in its columns, and no {column!r} of sentences; leave --slice out")
        name = str(column)
        wanted = {"context": "context"} if kind == "answer" else {}  # by which SQuAD's nested files are known
        for number, row in rows(uri, form, {**wanted, name: column}, [name], layout):
            if isinstance(row, Fault):
                continue
            if name not in row:  # of SQuAD files: what they hold is known
                raise missing(uri, column, list(row))
            yield (file, number), None if row[name] is None else cut(spelt(row[name]), NAMED)


def cut(text: str, most: int = SHOWN) -> str:
    """The beginning of a text.

    >>> cut("abcdef", 4), cut("abcd", 4)
    ('abc…', 'abcd')
    """
    return text if len(text) <= most else text[: most - 1] + "…"


def _place(out: str, name: str) -> str:
    return store.join(out, f"{name}.beside.arrow")


def _save(uri: str, table: pa.Table) -> None:
    with store.written(uri) as (stream, _), pa.ipc.new_file(stream, table.schema) as writer:
        writer.write_table(table)


def kept(out: str, name: str, table: pa.Table) -> list[dict[str, Any]]:
    """Of each row of a part's table what lies beside it; nothing (an empty dict) where nothing does, or where the text
    is not the same any more."""
    uri = _place(out, name)
    if not store.exists(uri):
        return [{} for _ in range(table.num_rows)]
    with pa.ipc.open_file(store.opened(uri)) as reader:
        found = {(row["file"], row["row"]): row for row in reader.read_all().to_pylist()}
    places = zip(table["file"].to_pylist(), table["row"].to_pylist(), table["id"].to_pylist(), strict=True)
    rows_here = ((found.get((file, row)), digest) for file, row, digest in places)
    return [row if row and row["id"] == digest else {} for row, digest in rows_here]


def columns_of(found: Sequence[Mapping[str, Any]]) -> list[str]:
    """The columns to slice by that lie beside any row, in their order."""
    return list(dict.fromkeys(itertools.chain(*((each for each in row if each.startswith(COLUMN)) for row in found))))
