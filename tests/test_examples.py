"""Labelled examples: every form of file gives the same rows, and every bad one a sentence that names it."""

import csv
import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from tundish.operators.text.digest import payload_digest
from tundish.stages.examples import SCHEMAS, Layout, read
from tundish.stages.examples_rows import DEFAULTS, KINDS

TEXTS = ["the tide comes", 'he said "no" twice', "a\u2028b\u0085c\u00a0d", "über, “so”", "深度 学习", "boat; rope"]
LABELS = ["sea", "land", "sea", "land", "sea", "10"]
ROWS = [{"text": text, "label": label} for text, label in zip(TEXTS, LABELS, strict=True)]


def lined(rows: list[dict[str, Any]]) -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def tabbed(rows: list[dict[str, Any]], header: bool = True, end: str = "\n") -> str:
    lines = [list(rows[0])] * header + [list(map(str, row.values())) for row in rows]
    return "".join("\t".join(line) + end for line in lines)


def quoted(path: Path, delimiter: str = ",") -> None:
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream, delimiter=delimiter)
        writer.writerow(ROWS[0])
        writer.writerows(row.values() for row in ROWS)


def arrow(path: Path, table: pa.Table, stream: bool = False) -> None:
    with (pa.ipc.new_stream if stream else pa.ipc.new_file)(str(path), table.schema) as writer:
        writer.write_table(table)


FILES: dict[str, Callable[[Path], object]] = {
    "a.tsv": lambda p: p.write_text(tabbed(ROWS), encoding="utf-8", newline=""),
    "crlf.tsv": lambda p: p.write_text("\ufeff" + tabbed(ROWS, end="\r\n"), encoding="utf-8", newline=""),
    "utf16.tsv": lambda p: p.write_bytes(tabbed(ROWS).encode("utf-16")),
    "a.tsv.gz": lambda p: p.write_bytes(gzip.compress(tabbed(ROWS).encode())),
    "a.txt.zst": lambda p: p.write_bytes(zstandard.compress(tabbed(ROWS).encode())),
    "a.csv": quoted,
    "a.jsonl": lambda p: p.write_text(lined(ROWS), encoding="utf-8", newline=""),
    "no-end.jsonl": lambda p: p.write_text("\n" + lined(ROWS).rstrip("\n"), encoding="utf-8", newline=""),
    "a.jsonl.zst": lambda p: p.write_bytes(zstandard.compress(lined(ROWS).encode())),
    "lines.json": lambda p: p.write_text(lined(ROWS), encoding="utf-8", newline=""),
    "array.json": lambda p: p.write_text(json.dumps(ROWS, indent=1), encoding="utf-8"),
    "data.json": lambda p: p.write_text(json.dumps({"version": 1, "data": ROWS}), encoding="utf-8"),
    "a.parquet": lambda p: pq.write_table(pa.Table.from_pylist([{"odd": 1, **row} for row in ROWS]), p),
    "a.arrow": lambda p: arrow(p, pa.Table.from_pylist(ROWS)),
    "stream.arrow": lambda p: arrow(p, pa.Table.from_pylist(ROWS), stream=True),
}


@pytest.mark.parametrize("name", FILES)
def test_every_form_gives_the_same_rows(name: str, tmp_path: Path) -> None:
    FILES[name](tmp_path / name)
    found = read("classify", str(tmp_path / name))
    assert found.table.schema == SCHEMAS["classify"]
    assert found.table["text"].to_pylist() == TEXTS
    assert found.names == ("10", "land", "sea")
    assert [found.names[label] for label in found.table["label"].to_pylist()] == LABELS
    assert found.table["row"].to_pylist() == [1, 2, 3, 4, 5, 6]
    assert set(found.table["file"].to_pylist()) == {name}
    assert found.table["id"].to_pylist() == [payload_digest(text.encode()).hex() for text in TEXTS]
    assert found.table["second"].null_count == len(ROWS)
    assert not found.told
    assert not found.counts


def write(path: Path, text: str | bytes) -> str:
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return str(path)


def test_files_of_one_name_are_told_apart(tmp_path: Path) -> None:
    for folder, text in (("a", "one"), ("b", "two")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "q.jsonl").write_text(json.dumps({"text": text, "label": folder}) + "\n")
    found = read("classify", [str(tmp_path / "a"), str(tmp_path / "b")]).table
    assert found["file"].to_pylist() == ["a/q.jsonl", "b/q.jsonl"]
    assert read("classify", str(tmp_path / "a" / "q.jsonl")).table["file"].to_pylist() == ["q.jsonl"]


def test_columns_by_number_need_no_header(tmp_path: Path) -> None:
    body = "a1\t1\t*\tone tide\nb2\t0\t\ttwo tides\n"
    path = write(tmp_path / "cola.tsv", body)
    for columns in ({"text": 3, "label": 1}, {"text": -1, "label": -3}):
        found = read("classify", path, columns)
        assert found.table["text"].to_pylist() == ["one tide", "two tides"]
        assert found.table["label"].to_pylist() == [1, 0]
    headed = read("classify", write(tmp_path / "h.tsv", "x\ty\n" + "one\t1\ntwo\t0\n"), {"text": 0, "label": "y"})
    assert headed.table["text"].to_pylist() == ["one", "two"]
    skipped = read("classify", path, {"text": 3, "label": 1}, layout=Layout(header=True))
    assert skipped.table["text"].to_pylist() == ["two tides"]


def test_a_header_nobody_told_of_is_suspected(tmp_path: Path) -> None:
    path = write(tmp_path / "a.tsv", tabbed(ROWS * 2))
    found = read("classify", path, {"text": 0, "label": 1})
    assert len(found) == 13
    assert "the label of the first row of a.tsv is in no other row" in found.told[0]
    assert not read("classify", path, {"text": 0, "label": 1}, layout=Layout(header=True)).told


def test_questions_by_number(tmp_path: Path) -> None:
    path = write(tmp_path / "a.tsv", "The tide.\tWhat?\ttide\nA boat.\tWho?\tboat\n")
    found = read("answer", path, {"context": 0, "question": 1, "answers": 2})
    assert found.table["starts"].to_pylist() == [[4], [2]]
    assert found.counts == {"answers_found": 2}


def test_layouts_are_told(tmp_path: Path) -> None:
    quoted(tmp_path / "a.csv", ";")
    assert len(read("classify", str(tmp_path / "a.csv"), layout=Layout(delimiter=";"))) == len(ROWS)
    held = write(tmp_path / "q.tsv", 'text\tlabel\n"one\ttide"\tx\n"two\nlines"\ty\n')
    found = read("classify", held, layout=Layout(quoted=True))
    assert found.table["text"].to_pylist() == ["one\ttide", "two\nlines"]
    latin = write(tmp_path / "l.tsv", "text\tlabel\nüber\tx\nunter\ty\n".encode("latin-1"))
    assert read("classify", latin, layout=Layout(encoding="latin-1")).table["text"][0].as_py() == "über"
    assert len(read("classify", write(tmp_path / "odd.name", lined(ROWS)), layout=Layout(form="jsonl"))) == len(ROWS)


def test_several_files_and_globs(tmp_path: Path) -> None:
    for name in ("b.tsv", "a.tsv"):
        write(tmp_path / name, tabbed(ROWS[:2]))
    write(tmp_path / "c.jsonl", lined(ROWS[2:3]))
    named = read("classify", [str(tmp_path / "b.tsv"), str(tmp_path / "a.tsv"), str(tmp_path / "c.jsonl")])
    assert named.table["file"].to_pylist() == ["b.tsv"] * 2 + ["a.tsv"] * 2 + ["c.jsonl"]
    assert named.table["row"].to_pylist() == [1, 2, 1, 2, 1]
    assert len(read("classify", str(tmp_path / "*.tsv"))) == 4
    assert len(read("classify", tmp_path.as_uri())) == 5


def test_labels_are_named_in_their_order(tmp_path: Path) -> None:
    whole = read("classify", write(tmp_path / "a.tsv", "text\tlabel\na\t10\nb\t9\nc\t-1\n"))
    assert whole.names == ("-1", "9", "10")
    rows = [{"text": "a", "label": 2.0}, {"text": "b", "label": 1}, {"text": "c", "label": True}]
    assert read("classify", write(tmp_path / "a.jsonl", lined(rows))).names == ("1", "2", "true")
    given = read("classify", write(tmp_path / "b.tsv", "text\tlabel\na\tx\nb\ty\n"), names=["y", "x", "z"])
    assert (given.names, given.table["label"].to_pylist()) == (("y", "x", "z"), [1, 0])
    coded = read("classify", write(tmp_path / "n.tsv", "text\tlabel\na\t1\nb\t0\n"), names=["land", "sea"])
    assert (coded.names, coded.table["label"].to_pylist()) == (("land", "sea"), [1, 0])
    assert read("classify", write(tmp_path / "c.tsv", "text\na\nb\n"), labelled=False).table["label"].null_count == 2


def test_several_labels_in_their_spellings(tmp_path: Path) -> None:
    cell = read("multilabel", write(tmp_path / "a.tsv", "text\tlabels\na\tx, y\nb\t\nc\ty,y\n"))
    lists = [{"text": "a", "labels": ["x", "y"]}, {"text": "b", "labels": []}, {"text": "c", "labels": ["y"]}]
    listed = read("multilabel", write(tmp_path / "a.jsonl", lined(lists)))
    ticks = "text,x,y\na,1,True\nb,0,\nc,no,1\n"
    ticked = read("multilabel", write(tmp_path / "a.csv", ticks), {"labels": ["x", "y"]})
    for found in (cell, listed, ticked):
        assert (found.names, found.table["labels"].to_pylist()) == (("x", "y"), [[0, 1], [], [1]])
    bars = write(tmp_path / "b.tsv", "text\tlabels\na\tx|y\n")
    assert read("multilabel", bars, between="|").table["labels"].to_pylist() == [[0, 1]]


def test_numbers_and_pairs(tmp_path: Path) -> None:
    path = write(tmp_path / "a.tsv", "a\tb\tscore\none\ttwo\t3.5\nthree\tfour\t-1e2\n")
    found = read("regress", path, {"text": "a", "second": "b", "value": "score"})
    assert found.table["value"].to_pylist() == [3.5, -100.0]
    assert found.table["second"].to_pylist() == ["two", "four"]
    assert found.table["id"][0].as_py() == payload_digest(b"one\0two").hex()
    rows = [{"text": "a", "second": "b", "no": ["c"], "s": 0.5}, {"text": "d", "second": "e", "no": None, "s": 1}]
    pairs = read("embed", write(tmp_path / "a.jsonl", lined(rows)), {"negative": "no", "score": "s"})
    assert pairs.table["negative"].to_pylist() == ["c", None]
    assert pairs.table["score"].to_pylist() == [0.5, 1.0]


def test_sources_and_targets(tmp_path: Path) -> None:
    rows = [{"source": ["One.", "Two."], "target": ["a", "b"]}, {"source": "Three.", "target": "c"}]
    found = read("write", write(tmp_path / "a.jsonl", lined(rows)))
    assert found.table["source"].to_pylist() == ["One. Two.", "Three."]
    assert found.table["targets"].to_pylist() == [["a", "b"], ["c"]]


CONLL = (
    "-DOCSTART- O\n\n# about this set\nEU NNP B-ORG\nrejects VBZ O\n\n\n\u00a0 SYM O\n# NN O\nNew\u2028York NNP B-LOC\n"
)


def test_sentences_of_columns(tmp_path: Path) -> None:
    tabs = CONLL.replace(" ", "\t").replace("#\tabout\tthis\tset", "# about this set")
    for body in (CONLL, tabs, CONLL.replace("\n", "\r\n")):
        found = read("tag", write(tmp_path / "a.conll", body))
        assert found.table["words"].to_pylist() == [["EU", "rejects"], ["\u00a0", "#", "New\u2028York"]]
        assert found.names == ("O", "B-LOC", "B-ORG")
        assert found.table["tags"].to_pylist() == [[2, 0], [0, 0, 1]]
    first = read("tag", write(tmp_path / "c.conll", "# about this set\n# NN O\n1 CD O\n"))
    assert first.table["words"].to_pylist() == [["#", "1"]]  # the remark has as many columns as no other line
    kinds = read("tag", write(tmp_path / "b.txt", CONLL), {"tags": 1})
    assert (kinds.scheme, kinds.names) == ("plain", ("NN", "NNP", "SYM", "VBZ"))
    rows = [{"words": ["EU", "rejects"], "tags": ["B-ORG", "O"]}, {"words": "New York", "tags": "B-LOC I-LOC"}]
    listed = read("tag", write(tmp_path / "a.jsonl", lined(rows)))
    assert listed.table["words"].to_pylist() == [["EU", "rejects"], ["New", "York"]]
    assert listed.names == ("O", "B-LOC", "I-LOC", "B-ORG")


@pytest.mark.parametrize(
    ("tags", "scheme", "odd"),
    [
        ("B-A I-A O B-A B-A", "IOB2", 0),
        ("B-A I-A O I-A B-A I-B", "IOB2", 2),
        ("I-A B-A O I-A I-B", "IOB1", 0),
        ("I-A I-A O I-B", "IO", 0),
        ("S-A B-A E-A O B-B I-B E-B", "IOBES", 0),
        ("U-A B-A L-A O I-B", "BILOU", 1),
        ("NN VB NN", "plain", 0),
    ],
)
def test_the_scheme_of_tags_is_learned(tags: str, scheme: str, odd: int, tmp_path: Path) -> None:
    found = read("tag", write(tmp_path / "a.conll", "".join(f"w {tag}\n" for tag in tags.split())))
    assert found.scheme == scheme
    assert bool(found.told) == bool(odd)
    assert not odd or found.told[0].startswith(f"{odd} I- tags continue no entity")


CONTEXT = "  😀 The tide comes in May. The boat waits; the tide goes."


def squad(*answers: dict[str, Any], **more: Any) -> dict[str, Any]:
    asked = {"id": "q1", "question": "When?", "answers": list(answers), **more}
    return {"version": "v2.0", "data": [{"title": "Tides", "paragraphs": [{"context": CONTEXT, "qas": [asked]}]}]}


def answers(tmp_path: Path, *said: dict[str, Any], **more: Any) -> Any:
    return read("answer", write(tmp_path / "s.json", json.dumps(squad(*said, **more))))


def test_questions_in_their_spellings(tmp_path: Path) -> None:
    start = CONTEXT.index("in May")
    found = answers(tmp_path, {"text": "in May", "answer_start": start}, {"text": " May", "answer_start": start + 2})
    [row] = found.table.to_pylist()
    assert (row["answers"], row["starts"]) == (["in May", "May"], [start, start + 3])
    assert (row["key"], row["title"], row["context"]) == ("q1", "Tides", CONTEXT)
    rows = [
        {"answers": {"text": ["in May"], "answer_start": [start]}},
        {"answers": [{"text": "in May", "answer_start": start}]},
        {"answers": ["in May"], "start": [start]},
        {"answers": "in May", "start": start},
        {"answers": "in May", "start": str(start)},
    ]
    rows = [{"id": "q", "context": CONTEXT, "question": "When?", **row} for row in rows]
    for number, row in enumerate(rows):
        listed = read("answer", write(tmp_path / f"{number}.jsonl", lined([row])))
        assert listed.table["starts"].to_pylist() == [[start]]
        assert not listed.told
    pq.write_table(pa.Table.from_pylist(rows[:1]), tmp_path / "a.parquet")
    assert read("answer", str(tmp_path / "a.parquet")).table["starts"].to_pylist() == [[start]]


def test_questions_without_an_answer(tmp_path: Path) -> None:
    found = answers(tmp_path, {"text": "May", "answer_start": 20}, is_impossible=True)
    assert found.table["answers"].to_pylist() == [[]]
    assert answers(tmp_path, is_impossible=True).table["starts"].to_pylist() == [[]]


def test_an_answer_not_at_its_start_is_mended_or_told(tmp_path: Path) -> None:
    start = CONTEXT.index("in May")
    found = answers(tmp_path, {"text": "in May", "answer_start": start + 3})  # counted in UTF-8, say
    assert found.table["starts"].to_pylist() == [[start]]
    assert found.counts == {"answers_mended": 1}
    assert "1 answers were not at their start" in found.told[0]
    for text, what in (("in June", "answers_missing"), ("tide", "answers_ambiguous")):
        found = answers(tmp_path, {"text": text, "answer_start": 0})
        assert found.table["starts"].to_pylist() == [[-1]]
        assert found.counts == {what: 1, "questions_unplaced": 1}
        assert len(found.told) == 2


def test_every_kind_has_a_schema_and_names() -> None:
    assert set(KINDS) == set(SCHEMAS) == set(DEFAULTS)
