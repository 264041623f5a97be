"""Evaluation texts: the rows of files that hold benchmarks or labelled sets, whatever their layout.

    .tsv              a header, cells between tabs, no quotes; a first line with a cell of eight words is no header
    .csv              a header, quoted as RFC 4180 says
    .jsonl .ndjson    a JSON value a line, with all strings in it
    .parquet .arrow   all strings of a row, those in lists too
    .json             an array, or `data` of an object; of SQuAD each paragraph is a row, with all strings in it
    .conll .conllu .bio .iob .iob2      a sentence is a row: its words, from the first column (of .conllu the second)
    .txt              a line is a row, tabs part its texts

each plain, `.gz` or `.zst`. Rows are counted from 0, a header apart, blank lines too. Promises: text files end their
lines at \\n alone; memory of one file's batch, but a CSV, JSON or Arrow file is held whole. Refuses, by file and row,
what cannot be read, a file without rows, and one that has none of the columns asked for.
"""

import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.csv as csv
import pyarrow.parquet as pq

from tundish.cluster import store
from tundish.cluster.digests import digest_once
from tundish.operators.text.overlap import SHORTEST, Item
from tundish.stages.read import BROKEN, split

CONLL = (".conll", ".conllu", ".bio", ".iob", ".iob2")
KINDS = (".tsv", ".csv", ".jsonl", ".ndjson", ".parquet", ".arrow", ".json", ".txt", *CONLL)
PACKED = (".gz", ".zst")

File = tuple[str, str, str]  # name, URI, digest


def files_of(patterns: Sequence[str], asked_by: str) -> tuple[File, ...]:
    """The files that paths, folders and globs name, each once, sorted by name and digest.

    A file's name is the last part of its path, or as many more as tell it from the others.
    """
    found: dict[str, str] = {}
    for pattern in patterns:
        uris = [uri for uri in store.matching(pattern) if kind_of(uri) is not None]
        if not uris:
            raise ValueError(f"{asked_by} {pattern!r} names no {', '.join(KINDS)} file (or .gz, .zst); check the path")
        found |= {store.absolute(uri): digest_once(uri) for uri in uris}
    return tuple(sorted(((name, uri, found[uri]) for uri, name in names(found).items()), key=lambda f: (f[0], f[2])))


def kind_of(uri: str) -> str | None:
    """The ending that says how a file is read; None for none."""
    bare = uri.lower()
    for ending in PACKED:
        bare = bare.removesuffix(ending)
    return next((kind for kind in KINDS if bare.endswith(kind)), None)


def names(uris: Mapping[str, Any]) -> dict[str, str]:
    """URI -> the shortest end of it that no other has.

    >>> list(names({"/a/sst2/dev.tsv": 0, "/a/rte/dev.tsv": 0, "/a/x.tsv": 0}).values())
    ['sst2/dev.tsv', 'rte/dev.tsv', 'x.tsv']
    """
    parts = {uri: uri.rstrip("/").split("/") for uri in uris}
    found = {}
    for uri, own in parts.items():
        size = 1
        while size < len(own) and sum(other[-size:] == own[-size:] for other in parts.values()) > 1:
            size += 1
        found[uri] = "/".join(own[-size:])
    return found


def items(file: File, columns: Sequence[str] = ()) -> Iterator[Item]:
    """The rows of a file with their texts: all strings, or those of the named columns that it has."""
    name, uri, _ = file
    kind = kind_of(uri)
    row, seen = -1, set()
    try:
        with store.opened(uri) as stream:
            for row, texts in READERS[kind or ""](stream, uri, columns):
                seen |= {column for column in columns if column in texts}
                wanted = [texts[c] for c in columns if c in texts] if columns else list(texts.values())
                yield row, [text for value in wanted for text in strings(value)]
    except BROKEN as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        where = f"after row {row}" if row >= 0 else "at its start"
        raise ValueError(f"{name} cannot be read {where} ({reason}); mend the file, or leave it out") from error
    if row < 0:
        raise ValueError(f"{name} has no rows; give a file with evaluation texts, or leave it out")
    if columns and not seen:
        raise ValueError(f"{name} has no column {columns[0]!r}; name a column it has, or none for all its texts")


def strings(value: Any) -> Iterator[str]:
    """Every string inside a value, in order.

    >>> list(strings({"q": "who?", "a": ["me", {"b": "you"}], "n": 3}))
    ['who?', 'me', 'you']
    """
    if isinstance(value, str):
        yield value.encode("utf-8", "replace").decode()  # a lone surrogate, which JSON can spell and no file can hold
    elif isinstance(value, Mapping):
        for inner in value.values():
            yield from strings(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from strings(inner)


Rows = Iterator[tuple[int, Mapping[str, Any]]]


def _lines(stream: Any, uri: str) -> Iterator[str]:
    for number, line in enumerate(split(stream, uri)):
        yield line.decode("utf-8-sig" if number == 0 else "utf-8").rstrip("\r\n")


def _tsv(stream: Any, uri: str, columns: Sequence[str]) -> Rows:
    header: list[str] = []
    shift = 0
    for number, line in enumerate(_lines(stream, uri)):
        cells = line.split("\t")
        if number == 0 and (columns or all(len(cell.split()) < SHORTEST for cell in cells)):
            header, shift = cells, 1
        elif line.strip():
            yield number - shift, {header[n] if n < len(header) else str(n): cell for n, cell in enumerate(cells)}


def _txt(stream: Any, uri: str, columns: Sequence[str]) -> Rows:
    for number, line in enumerate(_lines(stream, uri)):
        if line.strip():
            yield number, {str(n): cell for n, cell in enumerate(line.split("\t"))}


def _jsonl(stream: Any, uri: str, columns: Sequence[str]) -> Rows:
    for number, line in enumerate(_lines(stream, uri)):
        if line.strip():
            value = json.loads(line)
            yield number, value if isinstance(value, Mapping) else {"": value}


def _csv(stream: Any, uri: str, columns: Sequence[str]) -> Rows:
    body = pa.BufferReader(b"".join(split(stream, uri)))
    table = csv.read_csv(body, parse_options=csv.ParseOptions(newlines_in_values=True))
    yield from enumerate(row for batch in table.to_batches(1024) for row in batch.to_pylist())


def _parquet(stream: Any, uri: str, columns: Sequence[str]) -> Rows:
    if not uri.lower().endswith(".parquet"):
        stream = pa.BufferReader(b"".join(split(stream, uri)))
    batches = pq.ParquetFile(stream).iter_batches(1024)
    yield from enumerate(row for batch in batches for row in batch.to_pylist())


def _arrow(stream: Any, uri: str, columns: Sequence[str]) -> Rows:
    body = pa.BufferReader(b"".join(split(stream, uri)))
    with pa.ipc.open_file(body) as reader:
        batches = (reader.get_batch(number) for number in range(reader.num_record_batches))
        yield from enumerate(row for batch in batches for row in batch.to_pylist())


def _json(stream: Any, uri: str, columns: Sequence[str]) -> Rows:
    value = json.loads(b"".join(split(stream, uri)).decode("utf-8-sig"))
    value = value.get("data", value) if isinstance(value, Mapping) else value
    each = value if isinstance(value, list) else [value]
    for number, one in enumerate(inner for outer in each for inner in _paragraphs(outer)):
        yield number, one if isinstance(one, Mapping) else {"": one}


def _paragraphs(value: Any) -> list[Any]:
    """Of an article of SQuAD its paragraphs; of anything else itself."""
    inner = value.get("paragraphs") if isinstance(value, Mapping) else None
    return inner if isinstance(inner, list) else [value]


def _conll(stream: Any, uri: str, columns: Sequence[str]) -> Rows:
    column, row, words = int(".conllu" in uri.lower()), 0, list[str]()
    for line in itertools.chain(_lines(stream, uri), ("",)):
        cells = line.split("\t") if "\t" in line else line.split()
        if line.strip() and len(cells) > column and not (line.startswith("#") and len(cells) != 2):
            words.append(cells[column])
        elif words and not line.strip():
            yield row, {"words": " ".join(words)}
            row, words = row + 1, []


READERS = {".tsv": _tsv, ".csv": _csv, ".jsonl": _jsonl, ".ndjson": _jsonl, ".parquet": _parquet, ".txt": _txt}
READERS |= {".arrow": _arrow, ".json": _json, **dict.fromkeys(CONLL, _conll)}
