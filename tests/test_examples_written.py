"""Texts to write from: what files may say, their first sentences, ids back to texts, and ROUGE with many references."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from tokenizers import Tokenizer as Library

from tests.test_text_piece_offsets import library
from tests.writers import sentences, theirs, written
from tundish.operators.text import tokenizer, vocabulary
from tundish.operators.text.lead import lead
from tundish.operators.text.spelling import speller
from tundish.stages import finetune_write
from tundish.stages.examples import read


@pytest.fixture(scope="module")
def body() -> bytes:
    return vocabulary.train(sentences(), size=288)


def test_scores_are_of_stems_and_of_the_best_reference() -> None:
    truths = [["The herons were standing in rivers.", "Cranes stood."], ["no  word\nof it"], ["Relational reasons"]]
    guesses = ["A heron stands in the river", "no word of it", "reasoned relations, and more"]
    ours = finetune_write.of_texts(truths, guesses)
    assert {name: ours[name] for name in ("rouge_1", "rouge_2", "rouge_l")} == pytest.approx(theirs(truths, guesses))
    assert ours["exact"] == pytest.approx(1 / 3), "white space is left aside"


@pytest.mark.parametrize(
    ("row", "told"),
    [
        ({"text": "a b", "target": ""}, "row 2 of rows.jsonl has an empty target"),
        ({"text": "a b", "target": ["c", "  "]}, "row 2 of rows.jsonl has an empty target"),
        ({"text": "", "target": "c"}, "row 2 of rows.jsonl has an empty text"),
        ({"source": [" "], "target": "c"}, "row 2 of rows.jsonl has an empty source"),
        ({"body": "a", "target": "c"}, "has neither a text nor a source; name its column"),
    ],
)
def test_a_row_that_teaches_nothing_is_refused(tmp_path: Path, row: dict[str, Any], told: str) -> None:
    file = written(tmp_path / "rows.jsonl", [{"text": "a b", "target": "b a"}, row])
    with pytest.raises(ValueError, match=told):
        read("write", file)


def test_columns_have_two_names(tmp_path: Path) -> None:
    both = written(tmp_path / "a.jsonl", [{"text": ["One. Two.", " Three."], "source": "x.org", "target": ["a", "b"]}])
    found_ = read("write", both).table.to_pylist()[0]
    assert (found_["source"], found_["lead"], found_["targets"]) == ("One. Two.  Three.", "One. Two.", ["a", "b"])
    other = read("write", both, {"source": "source"}).table.to_pylist()[0]
    assert (other["source"], other["lead"]) == ("x.org", "x.org")
    (tmp_path / "b.tsv").write_text("source\ttarget\nOne here. Two.\tone\n")
    table = read("write", str(tmp_path / "b.tsv")).table.to_pylist()[0]
    assert (table["source"], table["lead"], table["row"]) == ("One here. Two.", "One here.", 1)
    bare = read("write", str(tmp_path / "b.tsv"), labelled=False).table.to_pylist()
    assert [(row["source"], row["targets"]) for row in bare] == [("One here. Two.", None)]


def test_scitldr_is_read_whole_with_all_its_references(data: Path) -> None:
    sizes = {"train": 1_992, "dev": 619, "test": 618}
    for name, size in sizes.items():
        found_ = read("write", str(data / f"summ-scitldr/{name}.jsonl.zst"))
        assert len(found_) == size
        assert not found_.counts
    rows = found_.table.to_pylist()
    assert max(len(row["targets"]) for row in rows) > 1
    assert all(row["source"].lstrip().startswith(row["lead"]) for row in rows)
    some = rows[:40]
    truths, leads = [row["targets"] for row in some], [row["lead"] for row in some]
    ours = finetune_write.of_texts(truths, leads)
    wanted = theirs(truths, leads)
    assert {name: ours[name] for name in wanted} == pytest.approx(wanted)


@pytest.mark.parametrize(
    ("text", "first"),
    [
        ("We ask why. Then not.", "We ask why."),
        ("Is it so?  Yes.", "Is it so?"),
        ('He said "no." Then left.', 'He said "no."'),
        ("Version 1.5 of it works. Next.", "Version 1.5 of it works."),
        ("Tides (e.g. Those of May) rise. Next.", "Tides (e.g. Those of May) rise."),
        ("A title\n\nA text. More.", "A title"),
        ("It costs approx. 5 euros. More.", "It costs approx. 5 euros."),
        ("潮が満ちる。船が出る。", "潮が満ちる。"),
        ("  no end ", "no end"),
    ],
)
def test_the_lead_is_the_first_sentence(text: str, first: str) -> None:
    assert lead(text) == first


@pytest.mark.parametrize("kind", ["model", "WordPiece", "bytes"])
def test_ids_are_spelt_as_their_library_spells_them(kind: str, body: bytes) -> None:
    data = body if kind == "model" else library(kind)
    pieces, spell = tokenizer.load(data), speller(data)
    texts = ["the heron stands", "über dem Wasser, 2 x", "a [MASK] b", ""]
    ids = pieces.encode(pa.array(texts, pa.large_string())).to_pylist()
    if kind == "model":
        theirs_ = [vocabulary.load(data).decode(one) for one in ids]
    else:
        whole = Library.from_str(data.decode())
        theirs_ = [whole.decode(one, skip_special_tokens=False) for one in ids]
    assert spell(ids) == theirs_
    framed = [[pieces.specials["[CLS]"], *one, pieces.specials["[SEP]"], pieces.size + 1] for one in ids]
    assert spell(framed) == theirs_
    assert kind != "model" or spell(ids) == texts
