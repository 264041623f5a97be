"""Where a model that was fine-tuned looks for texts: by what it learnt from, what a file has, and what is said."""

import json
from pathlib import Path
from typing import Any

import pytest

from tundish.stages.examples import batches
from tundish.stages.examples_cells import Layout
from tundish.stages.predict_columns import Learnt, learnt_in, sources

PAIR = Learnt({"text": "premise", "second": "hypothesis", "label": "gold"}, True)
NOBODY = Learnt()  # nobody knows
SINGLE = Learnt({"text": "sentence"}, False)


def found(path: Path, kind: str, learnt: Learnt = NOBODY, /, **given: Any) -> dict[str, Any]:
    [(uri, columns)] = sources(kind, learnt, "tuned", str(path), given, Layout())
    assert uri == str(path)
    return columns


def read(path: Path, kind: str, learnt: Learnt = NOBODY, /, **given: Any) -> list[dict[str, Any]]:
    """The rows that are read by the columns that were found."""
    each = batches(kind, str(path), found(path, kind, learnt, **given))
    return [row for some in each for row in some.table.to_pylist()]


def csv(path: Path, *lines: str) -> Path:
    path.write_text("".join(line + "\n" for line in lines))
    return path


def test_columns_are_those_of_training_where_a_file_has_them_all(tmp_path: Path) -> None:
    both = csv(tmp_path / "both.csv", "premise,text,hypothesis,second", "one,two,three,four")
    assert found(both, "classify", PAIR) == {"text": "premise", "second": "hypothesis"}
    usual = csv(tmp_path / "usual.csv", "text,second,premise", "one,two,three")
    [row] = read(usual, "classify", PAIR)
    assert (row["text"], row["second"]) == ("one", "two")
    assert found(both, "classify", PAIR, text="second", second="text") == {"text": "second", "second": "text"}
    [row] = read(both, "regress", SINGLE)
    assert (row["text"], row["second"]) == ("two", None), "no column is called sentence"


def test_one_text_is_not_asked_of_a_model_of_pairs(tmp_path: Path) -> None:
    alone = csv(tmp_path / "alone.csv", "text,label", "one,x")
    for given in ({}, {"text": "text"}):
        with pytest.raises(ValueError, match=r"pairs, of the columns 'premise' and 'hypothesis', and alone\.csv lacks"):
            found(alone, "classify", PAIR, **given)
    with pytest.raises(ValueError, match="of the columns 'text' and 'second'"):
        found(alone, "multilabel", Learnt({}, True))
    with pytest.raises(ValueError, match="no column 'other'"):
        read(alone, "classify", PAIR, text="text", second="other")
    with pytest.raises(ValueError, match="tuned was fine-tuned on single texts; leave second=label out"):
        found(alone, "classify", SINGLE, second="label")
    [row] = read(alone, "classify", Learnt(), second="label")  # nobody knows what it learnt
    assert (row["text"], row["second"]) == ("one", "x")


def test_numbers_are_columns_of_files_without_a_header(tmp_path: Path) -> None:
    plain = csv(tmp_path / "plain.tsv", "x\tA heron.\tno", "y\tA crane.\tyes")
    rows = read(plain, "classify", Learnt({"text": 1, "label": 0}, False))
    assert [row["text"] for row in rows] == ["A heron.", "A crane."]
    headed = csv(tmp_path / "headed.tsv", "text", "A stone.")
    assert [row["text"] for row in read(headed, "classify", Learnt({"text": 1}, False))] == ["A stone."]


def test_vectors_are_of_one_text_or_of_two(tmp_path: Path) -> None:
    alone, both = csv(tmp_path / "a.csv", "text", "one"), csv(tmp_path / "b.csv", "text,second", "one,two")
    assert [row["second"] for row in read(alone, "embed")] == [None]
    assert [row["second"] for row in read(both, "embed")] == ["two"]
    asked = Learnt({"text": "question", "second": "passage"})
    passages = csv(tmp_path / "c.csv", "question,passage", "why,so")
    assert [(row["text"], row["second"]) for row in read(passages, "embed", asked)] == [("why", "so")]
    assert [(row["text"], row["second"]) for row in read(passages, "embed", asked, text="passage")] == [("so", None)]


def test_words_questions_and_sources_are_found(tmp_path: Path) -> None:
    conll = csv(tmp_path / "a.conll", "1 Heron B", "2 sees O", "", "1 Crane B")
    assert [row["words"] for row in read(conll, "tag", Learnt({"words": 1, "tags": 2}))] == [
        ["Heron", "sees"],
        ["Crane"],
    ]
    assert [row["words"] for row in read(conll, "tag", Learnt({"words": "tokens"}))] == [["1", "2"], ["1"]]
    listed = tmp_path / "a.jsonl"
    listed.write_text(json.dumps({"tokens": ["a", "b"]}) + "\n")
    assert [row["words"] for row in read(listed, "tag", Learnt({"words": "tokens"}))] == [["a", "b"]]
    asked = {"c": "A heron.", "question": "Who?", "n": "q7"}
    listed.write_text(json.dumps(asked) + "\n")
    learnt = Learnt({"context": "c", "key": "n"})
    [row] = read(listed, "answer", learnt)
    assert (row["context"], row["question"], row["key"]) == ("A heron.", "Who?", "q7")
    for name in ("text", "source", "article"):
        listed.write_text(json.dumps({name: "A long text."}) + "\n")
        assert [row["source"] for row in read(listed, "write", Learnt({"text": "article"}))] == ["A long text."]


def test_a_key_that_one_row_lacks_is_no_fault(tmp_path: Path) -> None:
    rows = [{"context": "A heron.", "question": "Who?", "id": "q1"}, {"context": "A heron.", "question": "What?"}]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert [row["key"] for row in read(tmp_path / "a.jsonl", "answer")] == ["q1", None]


@pytest.mark.parametrize("line", ["", "text\n", "\n\n"])
def test_a_file_without_a_row_is_named_and_passed_over_beside_others(tmp_path: Path, line: str) -> None:
    (tmp_path / "empty.tsv").write_text(line)
    with pytest.raises(ValueError, match=r"empty\.tsv holds no row"):
        found(tmp_path / "empty.tsv", "classify")
    csv(tmp_path / "full.tsv", "text", "A heron.")
    each = sources("classify", Learnt(), "tuned", [str(tmp_path)], {}, Layout())
    assert [Path(uri).name for uri, _ in each] == ["full.tsv"]


def test_what_a_model_learnt_from_stands_in_its_folder(tmp_path: Path) -> None:
    assert learnt_in(str(tmp_path), "classify") == Learnt({}, None)
    (tmp_path / "config.json").write_text(json.dumps({"tundish": {"pair": True}}))
    assert learnt_in(str(tmp_path), "classify") == Learnt({}, True)
    for texts, kind, pair in ((("text", "second"), "classify", True), (("text",), "regress", False)):
        parts = {"train": {"characters": {name: {"mean": 9.0} for name in texts}}}
        (tmp_path / "data.json").write_text(json.dumps({"parts": parts, "columns": {"text": "a"}}))
        assert learnt_in(str(tmp_path), kind) == Learnt({"text": "a"}, pair)
    assert learnt_in(str(tmp_path), "embed").pair is None
