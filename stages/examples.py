"""Labelled examples: files people have, read, checked and told about, as one Arrow table with a schema for each kind.

    id      hex digest of the text (of all texts of a pair, of the words, of context and question)
    file    where the row lies, by its name, with folders where two files have one name
    row     its number there (from 1; no header; a sentence of CoNLL is one)
    classify, multilabel, regress   text, second; label (int64), labels (list<int64>), value (float64)
    tag     words, tags: lists        answer  context, question, answers, starts (in characters), key, title
    write   source, lead, targets: a list              embed   text, second, negative, score

`lead` is the first sentence of a source: of a list its first text.

What `stages/examples_rows` says is asked of the values. Labels are numbers into `names`, which are sorted, whole
numbers by their size, tags with O first and of each type B before I; a test part is read with the names of train.

Promises: every row is taken, refused by file and number with what to do, or (`faulty="drop"`) left out and counted by
its reason. What is odd and no fault is told. Costs the texts in memory, some microseconds a row. Refuses a label that
is not among the given names, and files without a single example.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, NamedTuple

import pyarrow as pa

from tundish.operators.text.digest import payload_digest
from tundish.stages.examples_cells import Column, Fault, Layout, nearest
from tundish.stages.examples_files import called, files_of, form_in, rows
from tundish.stages.examples_rows import DEFAULTS, KINDS, OPTIONAL, TRUTH, Seen, maker, unknown
from tundish.stages.examples_tags import ordered, scheme_of

TEXT = pa.large_string()
PLACE = [("id", pa.string()), ("file", pa.string()), ("row", pa.int64())]
PAIR = [("text", TEXT), ("second", TEXT)]
SCHEMAS = {
    "classify": pa.schema([*PLACE, *PAIR, ("label", pa.int64())]),
    "multilabel": pa.schema([*PLACE, *PAIR, ("labels", pa.list_(pa.int64()))]),
    "regress": pa.schema([*PLACE, *PAIR, ("value", pa.float64())]),
    "tag": pa.schema([*PLACE, ("words", pa.list_(TEXT)), ("tags", pa.list_(pa.int64()))]),
    "answer": pa.schema(
        [
            *PLACE,
            ("context", TEXT),
            ("question", TEXT),
            ("answers", pa.list_(TEXT)),
            ("starts", pa.list_(pa.int64())),
            ("key", pa.string()),
            ("title", TEXT),
        ]
    ),
    "write": pa.schema([*PLACE, ("source", TEXT), ("lead", TEXT), ("targets", pa.list_(TEXT))]),
    "embed": pa.schema([*PLACE, *PAIR, ("negative", TEXT), ("score", pa.float64())]),
}
NAMED = {"classify": "label", "multilabel": "labels", "tag": "tags"}  # kinds with classes, and the column of them
IDENTITY = {"tag": ("words",), "answer": ("context", "question"), "write": ("source",)}  # else text and second
COUNTED = {  # what `Seen` counts -> what to say of it
    "answers_mended": "{n} answers were not at their start and stand in one place of the context: put there",
    "answers_found": "{n} answers had no start and stand in one place of the context: put there",
    "answers_missing": "{n} answers are nowhere in their context: they have no place",
    "answers_ambiguous": "{n} answers stand in several places of their context and at none that is named: no place",
    "questions_unplaced": "{n} questions have answers and none with a place: nothing is learned from them",
}


@dataclass(frozen=True)
class Examples:
    """`names` of the classes; `scheme` of tags (as `scheme_of` says); `told`: what is odd, a sentence each; `counts`:
    rows left out by reason (`dropped:empty`), and of what is told."""

    kind: str
    table: pa.Table
    names: tuple[str, ...] = ()
    scheme: str = ""
    told: tuple[str, ...] = ()
    counts: Mapping[str, int] = field(default_factory=dict)
    faults: tuple["Faulted", ...] = ()  # of `batches`, where they are to be told

    def __len__(self) -> int:
        return int(self.table.num_rows)

    def take(self, at: Any) -> "Examples":
        """The rows of these numbers, in their order."""
        return replace(self, table=self.table.take(pa.array(at, pa.int64())))


class Faulted(NamedTuple):
    """A row that is no example. `at`: its place among all rows of the batch, the faulty ones counted."""

    at: int
    file: str
    row: int
    fault: Fault


def read(
    kind: str,
    paths: str | Sequence[str],
    columns: Mapping[str, Column | Sequence[Column]] | None = None,
    *,
    layout: Layout | None = None,
    names: Sequence[str] = (),
    labelled: bool = True,
    faulty: Literal["refuse", "drop"] = "refuse",
    between: str = ",",
    by_number: bool = True,
) -> Examples:
    """The examples of some files. `columns`: role -> column, over the names that roles have by themselves (see
    `DEFAULTS`); several for `labels`: one a class. `names`: the classes there are, in their order; labels that are
    numbers count them from 0, unless a name is a number or `by_number` is False. `labelled`: False for rows that have
    no label to be read.
    `between`: what separates several labels in a cell.
    """
    asked, needed = _roles(kind, columns or {}, labelled)
    if faulty not in ("refuse", "drop"):
        raise ValueError(f"faulty is {faulty!r}; it is 'refuse' or 'drop'")
    uris, seen, made = called(files_of(paths)), Seen(), []
    for uri, file in uris.items():
        made += list(_of_file(kind, uri, file, asked, needed, layout or Layout(), between, seen, faulty == "drop"))
    if not made:
        gone = f" ({sum(seen.counts.values())} rows were left out)" if seen.counts else ""
        raise ValueError(f"{', '.join([*uris.values()][:5])} holds no example{gone}; check the file and its form")
    several = asked.get("labels")
    known = tuple(names) or (tuple(map(str, several)) if isinstance(several, list | tuple) else ())
    told, scheme = [], ""
    if kind in NAMED:
        known, made = _numbered(kind, made, known, seen, faulty == "drop", by_number)
    if kind == "tag":
        scheme, told = scheme_of(made, known)
    told += [
        COUNTED[what].format(n=n) + f" (first: {seen.first[what]})"
        for what, n in seen.counts.items()
        if what in COUNTED
    ]
    told += _headed(kind, made)
    table = _table(kind, made)
    return Examples(kind, table, known, scheme, tuple(told), dict(seen.counts))


def batches(
    kind: str,
    paths: str | Sequence[str],
    columns: Mapping[str, Column | Sequence[Column]] | None = None,
    *,
    size: int = 4096,
    layout: Layout | None = None,
    faulty: Literal["refuse", "drop", "tell"] = "refuse",
) -> Iterator[Examples]:
    """Rows that have no labels to be read, so many at a time: for files that do not fit into memory. `faulty`: "tell"
    leaves rows out and says so in `faults`."""
    asked, needed = _roles(kind, columns or {}, labelled=False)
    seen, part = Seen(), list[dict[str, Any]]()
    for uri, file in called(files_of(paths)).items():
        for row in _of_file(
            kind, uri, file, asked, needed, layout or Layout(), ",", seen, faulty == "drop", faulty == "tell"
        ):
            part.append(row)
            if len(part) == size:
                yield _batch(kind, part, seen)
                part = []
    if part:
        yield _batch(kind, part, seen)


def _batch(kind: str, part: Sequence[dict[str, Any]], seen: Seen) -> Examples:
    faults = [Faulted(at, row["file"], row["row"], row["fault"]) for at, row in enumerate(part) if "fault" in row]
    table = _table(kind, [row for row in part if "fault" not in row])
    return Examples(kind, table, counts=dict(seen.counts), faults=tuple(faults))


def _headed(kind: str, made: Sequence[Mapping[str, Any]]) -> list[str]:
    """That a first row may be a header that nobody told of: its label is nowhere else."""
    if kind != "classify" or len(made) < 4:
        return []
    counts = Counter(row["label"] for row in made)
    odd = [row["file"] for row in made if row["row"] == 1 and counts[row["label"]] == 1]
    told = "the label of the first row of {file} is in no other row; if it is a header, say --header"
    return [told.format(file=file) for file in odd]


def _table(kind: str, made: list[dict[str, Any]]) -> pa.Table:
    try:
        return pa.Table.from_pylist(made, schema=SCHEMAS[kind])
    except UnicodeEncodeError:
        for row in made:
            try:
                pa.Table.from_pylist([row], schema=SCHEMAS[kind])
            except UnicodeEncodeError:
                where = f"row {row['row']} of {row['file']}"
                raise Fault("undecodable", f"{where} holds half a surrogate pair; write it as UTF-8") from None
        raise


def _roles(kind: str, columns: Mapping[str, Any], labelled: bool) -> tuple[dict[str, Any], list[str]]:
    """(role -> column, the roles that must be there)."""
    if kind not in KINDS:
        near = nearest(kind, KINDS)
        hint = f"did you mean {near!r}?" if near else f"it is one of {', '.join(KINDS)}"
        raise ValueError(f"the kind of task {kind!r} is not known; {hint}")
    known = (*DEFAULTS[kind], *OPTIONAL[kind])
    for role in columns:
        if role not in known:
            near = nearest(role, known)
            hint = f"did you mean {near!r}?" if near else f"give some of {', '.join(dict.fromkeys(known))}"
            raise ValueError(f"{kind} has no {role!r}; {hint}")
    asked: dict[str, Any] = {**DEFAULTS[kind], **columns}
    if kind == "write" and len({"text", "source"} & columns.keys()) == 1:
        asked.pop("source" if "text" in columns else "text")
    if not labelled:
        asked = {role: column for role, column in asked.items() if role not in TRUTH and role not in ("start", "score")}
    free = OPTIONAL[kind] if labelled or kind != "embed" else (*OPTIONAL[kind], "second")  # a text alone has a vector
    needed = [role for role in asked if role not in free or role in columns]
    return asked, needed


def _of_file(
    kind: str,
    uri: str,
    file: str,
    asked: Mapping[str, Any],
    needed: Sequence[str],
    layout: Layout,
    between: str,
    seen: Seen,
    drop: bool,
    tell: bool = False,
) -> Iterable[dict[str, Any]]:
    form = form_in(uri, kind, layout)
    columns: dict[str, Column] = {}
    for role, column in asked.items():
        several = {f"{role}.{one}": one for one in column} if isinstance(column, list | tuple) else {role: column}
        columns |= several
    if form == "conll":
        columns = _numbers(columns)
    needed = [role for role in columns if role.partition(".")[0] in needed]
    make = maker(kind, asked, between, seen)
    for number, row in rows(uri, form, columns, needed, layout):
        where = f"row {number} of {file}"
        try:
            if isinstance(row, Fault):
                raise row
            example = make(row, where)
        except Fault as fault:
            if tell:
                yield {"file": file, "row": number, "fault": fault}
                continue
            if not drop:
                raise
            seen.note(f"dropped:{fault.reason}", where, fault.rows)
            continue
        yield {"id": identity(kind, example), "file": file, "row": number, **example}


def _numbers(columns: Mapping[str, Column]) -> dict[str, Column]:
    """Of CoNLL columns that nobody numbered: the word comes first and the tag last."""
    plain = {"words": 0, "tags": -1}
    return {role: plain[role] if column == role else column for role, column in columns.items()}


def key_of(kind: str, example: Mapping[str, Any]) -> str:
    """What makes two examples the same, but for their labels."""
    parts = (example[name] for name in IDENTITY.get(kind, ("text", "second")))
    return "\0".join(" ".join(part) if isinstance(part, list) else part for part in parts if part is not None)


def identity(kind: str, example: Mapping[str, Any]) -> str:
    return payload_digest(key_of(kind, example).encode()).hex()


def _numbered(
    kind: str, made: list[dict[str, Any]], known: tuple[str, ...], seen: Seen, drop: bool, by_number: bool
) -> tuple[tuple[str, ...], list[dict[str, Any]]]:
    """(names of the classes, the examples with numbers for labels)."""
    column = NAMED[kind]
    if not known:
        held = (row[column] for row in made if row[column] is not None)
        found = {name for each in held for name in ([each] if isinstance(each, str) else each)}
        known = ordered(found) if kind == "tag" else in_order(found)
    numbers = _numbers_of(known, made if by_number else None, column)
    kept = []
    for row in made:
        value = row[column]
        several = [] if value is None else [value] if isinstance(value, str) else value
        strange = next((name for name in several if name not in numbers), None)
        if strange is not None:
            where = f"row {row['row']} of {row['file']}"
            if not drop:
                raise unknown(strange, known, where)
            seen.note("dropped:unknown_label", where)
            continue
        coded = [numbers[name] for name in several]
        kept.append({**row, column: None if value is None else coded[0] if isinstance(value, str) else coded})
    if not kept:
        raise ValueError(f"none of {len(made)} rows has a label of {', '.join(known[:12])}; check the label column")
    return known, kept


def _numbers_of(known: Sequence[str], made: Iterable[Mapping[str, Any]] | None, column: str) -> dict[str, int]:
    """label -> its number. Labels that are numbers already, as many data sets keep them, count the names from 0; where
    the names are those of another file they are only theirs, and there are no rows (None) to look at."""
    names = {name: number for number, name in enumerate(known)}
    if made is None:
        return names
    plain = {str(number): number for number in range(len(known))}
    held = (row[column] for row in made if row[column] is not None)
    if plain.keys().isdisjoint(known) and all(
        each in plain if isinstance(each, str) else {*each} <= plain.keys() for each in held
    ):
        return plain
    return names


def in_order(names: Iterable[str]) -> tuple[str, ...]:
    """Sorted; whole numbers by their size.

    >>> in_order(["10", "9", "-1"]), in_order(["10", "9", "a"])
    (('-1', '9', '10'), ('10', '9', 'a'))
    """
    names = list(names)
    whole = all(name.removeprefix("-").isascii() and name.removeprefix("-").isdigit() for name in names)
    return tuple(sorted(names, key=lambda name: (int(name), name)) if whole else sorted(names))
