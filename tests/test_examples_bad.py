"""Labelled examples that are none: a sentence that names the file, the row, the value and what to do."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.test_examples import ROWS, lined, tabbed, write
from tundish.stages.examples import Layout, read

TSV = "text\tlabel\n"
BAD: dict[str, tuple[str, str, str | bytes, dict[str, Any], str]] = {
    "column": ("classify", "a.tsv", "text\tLabels\na\tx\n", {}, r"a\.tsv has no column 'label'.*mean 'Labels'"),
    "key": ("classify", "a.jsonl", '{"text": "a", "lable": 1}\n', {}, r"no column 'label'.*mean 'lable'"),
    "key later": ("classify", "a.jsonl", lined(ROWS[:1]) + '{"text": "b"}\n', {}, "row 2 of a.jsonl has no 'label'"),
    "number": ("classify", "a.tsv", "a\tx\n", {"columns": {"text": 0, "label": 2}}, "has 2 columns and no number 2"),
    "twice": ("classify", "a.csv", "text,label,label\na,x,y\n", {}, "has 2 columns 'label'; give its number"),
    "width": ("classify", "a.tsv", TSV + "a\tx\nb\tc\ty\n", {}, "row 2 of a.tsv has 3 columns, and the first row 2"),
    "empty": ("classify", "a.tsv", TSV + "a\tx\n \ty\n", {}, "row 2 of a.tsv has an empty text; fill it in"),
    "null": ("classify", "a.jsonl", '{"text": null, "label": 1}\n', {}, "row 1 of a.jsonl has an empty text"),
    "no label": ("classify", "a.tsv", TSV + "a\tx\nb\t\n", {}, "row 2 of a.tsv has no label"),
    "list": ("classify", "a.jsonl", '{"text": "a", "label": ["x"]}\n', {}, "a list for a label.*the kind multilabel"),
    "unknown": ("classify", "a.tsv", TSV + "a\tpos\n", {"names": ["Pos", "neg"]}, r"label 'pos'.*did you mean 'Pos'"),
    "bytes": ("classify", "a.tsv", b"text\tlabel\na\tx\n\xfcb\ty\n", {}, r"line 3 of a\.tsv is not utf-8 \(byte 0xfc"),
    "quote": ("classify", "a.csv", 'text,label\n"a" b,x\n', {}, r"line 2 of a\.csv has a quote out of place"),
    "open": ("classify", "a.csv", 'text,label\n"a,x\n', {}, r"a\.csv has a quote out of place, or ends a cell"),
    "json": ("classify", "a.jsonl", lined(ROWS[:1]) + "{text\n", {}, r"line 2 of a\.jsonl is no JSON"),
    "array": ("classify", "a.json", "[1, 2", {}, r"a\.json is no JSON"),
    "scalar": ("classify", "a.json", "[1, 2]", {}, r"row 1 of a\.json is of the type int"),
    "delimiter": (
        "classify",
        "a.csv",
        "text;label\na;x\n",
        {},
        r"no column 'text'.*as if another sign parted the cells.*--delimiter",
    ),
    "half": ("classify", "a.jsonl", '{"text": "a", "label": "\\ud800"}\n', {}, "row 1 of .* half a surrogate pair"),
    "squad": ("classify", "a.json", '{"data": [{"paragraphs": []}]}', {}, r"no column 'text' \(it has 'paragraphs'"),
    "article": ("answer", "a.json", '{"data": [{"paragraphs": 7}]}', {}, r"a\.json is no SQuAD file"),
    "huge": ("regress", "a.jsonl", '{"text": "a", "value": 1e999}', {}, "value 'inf', which is no number"),
    "answers": ("answer", "a.jsonl", '{"context": "a", "question": "b", "answers": 7}', {}, "answers of the type int"),
    "nothing": ("classify", "a.tsv", TSV, {}, r"a\.tsv holds no example"),
    "form": ("classify", "a.xlsx", "x", {}, r"ends in '\.xlsx', which says no form"),
    "packed": ("classify", "a.tsv.gz", b"nonsense", {}, r"line 1 of a\.tsv\.gz cannot be read"),
    "parquet": ("classify", "a.parquet", b"nonsense", {}, r"a\.parquet cannot be read"),
    "value": ("regress", "a.tsv", "text\tvalue\na\t3,5\n", {}, "has the value '3,5', which is no number"),
    "nan": ("regress", "a.tsv", "text\tvalue\na\tnan\n", {}, "value 'nan', which is no number"),
    "tick": ("multilabel", "a.tsv", "text\tx\na\t7\n", {"columns": {"labels": ["x"]}}, "has '7' in column 'x'"),
    "lengths": ("tag", "a.jsonl", '{"words": ["a", "b"], "tags": ["O"]}', {}, "row 1 of .* has 2 words and 1 tags"),
    "tag": ("tag", "a.jsonl", '{"words": ["a"], "tags": [""]}', {}, r"word 1 \('a'\) has no tag"),
    "word": ("tag", "a.conll", "a\tO\n\tO\n", {}, "row 1 of a.conll has an empty word 2"),
    "columns": ("tag", "a.conll", "a O\nb\n", {}, r"line 2 of a\.conll has 1 columns, and the first 2"),
    "named": ("tag", "a.conll", "a O\n", {"columns": {"words": "form"}}, r"no header; give the number .* not 'form'"),
    "starts": (
        "answer",
        "a.jsonl",
        json.dumps({"context": "a b", "question": "c", "answers": ["a"], "start": [0, 1]}),
        {},
        "has 1 answers and 2 starts",
    ),
    "start": (
        "answer",
        "a.jsonl",
        json.dumps({"context": "a b", "question": "c", "answers": "a", "start": "x"}),
        {},
        "an answer starts at 'x'",
    ),
    "target": ("write", "a.jsonl", '{"source": "a", "target": []}', {}, "row 1 of a.jsonl has no target"),
    "negatives": (
        "embed",
        "a.jsonl",
        '{"text": "a", "second": "b", "n": ["c", "d"]}',
        {"columns": {"negative": "n"}},
        "has 2 negatives",
    ),
    "surrogate": ("classify", "a.jsonl", '{"text": "\\ud800", "label": 1}\n', {}, "half a surrogate pair"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_wrong_is_said(name: str, tmp_path: Path) -> None:
    kind, file, body, how, said = BAD[name]
    path = write(tmp_path / file, body)
    with pytest.raises(ValueError, match=said):
        read(kind, path, **how)


def test_wrong_questions_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "a.tsv", tabbed(ROWS))
    for said, deed in {
        "'clasify' is not known; did you mean 'classify'": lambda: read("clasify", path),
        "classify has no 'txt'; did you mean 'text'": lambda: read("classify", path, {"txt": "text"}),
        "no column 'target' .*'text'.*; name the right one$": lambda: read("classify", path, {"label": "target"}),
        "there is no file": lambda: read("classify", str(tmp_path / "none*.tsv")),
        "no file of examples is named": lambda: read("classify", []),
        "faulty is 'skip'": lambda: read("classify", path, faulty="skip"),
        "the form 'xls' is not known": lambda: Layout(form="xls"),
        "the encoding 'utf-9' is not known": lambda: Layout(encoding="utf-9"),
        "a line of utf-16-le does not end in the byte 10": lambda: Layout(encoding="utf-16-le"),
        "the delimiter '::' is not one character": lambda: Layout(delimiter="::"),
    }.items():
        with pytest.raises(ValueError, match=said):
            deed()


def test_a_row_group_that_is_broken_costs_its_rows(tmp_path: Path) -> None:
    rows = [{"text": f"tide number {n} of many", "label": n % 2} for n in range(30)]
    how = {"row_group_size": 10, "write_page_checksum": True, "compression": "none", "use_dictionary": False}
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "a.parquet", **how)
    body = bytearray((tmp_path / "a.parquet").read_bytes())
    body[body.index(b"number 14 of")] ^= 1
    path = write(tmp_path / "a.parquet", bytes(body))
    with pytest.raises(ValueError, match=r"row 11 of a\.parquet cannot be read"):
        read("classify", path)
    found = read("classify", path, faulty="drop")
    assert found.table["row"].to_pylist() == [*range(1, 11), *range(21, 31)]
    assert found.counts == {"dropped:bad_row": 10}


def test_faulty_rows_are_left_out_and_counted_when_asked(tmp_path: Path) -> None:
    body = TSV.encode() + b"a\tx\n\ty\nb\ty\tz\n\xff\tx\nc\t\nd\tw\ne\ty\n"
    found = read("classify", write(tmp_path / "a.tsv", body), faulty="drop", names=["x", "y"])
    assert found.table["text"].to_pylist() == ["a", "e"]
    assert found.table["row"].to_pylist() == [1, 7]
    assert found.counts == {
        f"dropped:{reason}": 1 for reason in ("empty", "columns", "undecodable", "no_label", "unknown_label")
    }
    with pytest.raises(ValueError, match=r"holds no example \(1 rows were left out\)"):
        read("classify", write(tmp_path / "b.tsv", TSV + "a\t\n"), faulty="drop")
