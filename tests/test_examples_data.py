"""Real sets read whole: as many examples as their READMEs say, and every answer found again from its pieces."""

from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from tundish.operators.text import tokenizer, vocabulary
from tundish.operators.text.tokenizer_json import export
from tundish.stages.examples import Examples, Layout, read
from tundish.stages.examples_checks import checked, classes_of, parts, shared, without
from tundish.stages.examples_tokens import tokenized

HEADED = Layout(header=True)
SETS: dict[str, tuple[str, str, dict[str, Any], dict[str, Any], int]] = {
    "sst2 train": ("classify", "sent-sst2/train.tsv.zst", {"text": "sentence"}, {}, 60_614),
    "sst2 dev": ("classify", "sent-sst2/dev.tsv.zst", {"text": "sentence"}, {}, 6_735),
    "sst2 test": ("classify", "sent-sst2/test.tsv.zst", {"text": "sentence"}, {}, 872),
    "agnews dev": ("classify", "topic-agnews/dev.tsv.zst", {"text": 0, "label": 1}, {}, 10_001),
    "agnews test": ("classify", "topic-agnews/test.tsv.zst", {"text": 0, "label": 1}, {}, 7_600),
    "cola train": ("classify", "accept-cola/train.tsv.zst", {"text": 3, "label": 1}, {}, 7_250),
    "cola val": ("classify", "accept-cola/val.tsv.zst", {"text": 3, "label": 1}, {}, 1_301),
    "cola dev": ("classify", "accept-cola/dev.tsv.zst", {"text": 3, "label": 1}, {}, 1_043),
    "cola test": ("classify", "accept-cola/test.tsv.zst", {"text": "sentence"}, {"labelled": False}, 1_063),
    "rte train": ("classify", "nli-rte/train.tsv.zst", {"text": "sentence1", "second": "sentence2"}, {}, 2_127),
    "rte val": ("classify", "nli-rte/val.tsv.zst", {"text": 1, "second": 2, "label": 3}, {}, 363),
    "rte dev": ("classify", "nli-rte/dev.tsv.zst", {"text": "sentence1", "second": "sentence2"}, {}, 277),
    "rte test": (
        "classify",
        "nli-rte/test.tsv.zst",
        {"text": 1, "second": 2},
        {"labelled": False, "layout": HEADED},
        3_000,
    ),
    "wnut train": ("tag", "ner/WNUT17/wnut17train.conll.zst", {}, {}, 3_394),
    "wnut dev": ("tag", "ner/WNUT17/emerging.dev.conll.zst", {}, {}, 1_009),
    "wnut test": ("tag", "ner/WNUT17/emerging.test.annotated.zst", {}, {}, 1_287),
    "wikigold": ("tag", "ner/wikigold/wikigold.conll.txt.zst", {}, {}, 1_696),
    "gum train": ("tag", "ner/GUM/gum-train.conll.zst", {}, {}, 2_495),
    "gum test": ("tag", "ner/GUM/gum-test.conll.zst", {}, {}, 1_000),
    "squad 1.1": ("answer", "qa-squad/squad-dev-1.1.json.zst", {}, {}, 4_772),
    "squad 2.0": ("answer", "qa-squad/squad-dev-2.0.json.zst", {}, {}, 5_741),
    "scitldr train": ("write", "summ-scitldr/train.jsonl.zst", {}, {}, 1_992),
    "scitldr dev": ("write", "summ-scitldr/dev.jsonl.zst", {}, {}, 619),
    "scitldr test": ("write", "summ-scitldr/test.jsonl.zst", {}, {}, 618),
}
SICK = {"train": 4_500, "trial": 500, "test_annotated": 4_927}
MRPC = {"train": 3_576, "val": 500, "test": 1_725}
XQUAD = ("zh", "th", "ar", "de", "hi")


@pytest.mark.parametrize("name", SETS)
def test_a_set_is_read_whole(name: str, data: Path) -> None:
    kind, path, columns, how, size = SETS[name]
    found = read(kind, str(data / path), columns, **how)
    assert len(found) == size
    assert not found.counts
    if name.startswith(("agnews", "cola", "sst2", "rte")) and how.get("labelled", True):
        assert len(found.names) == (4 if name.startswith("agnews") else 2)


@pytest.mark.parametrize("part", SICK)
def test_sick_is_two_tasks(part: str, data: Path) -> None:
    path, pair = str(data / f"nli-sick/SICK_{part}.txt.zst"), {"text": "sentence_A", "second": "sentence_B"}
    labels = read("classify", path, {**pair, "label": "entailment_judgment"})
    values = read("regress", path, {**pair, "value": "relatedness_score"})
    assert len(labels) == len(values) == SICK[part]
    assert labels.names == ("CONTRADICTION", "ENTAILMENT", "NEUTRAL")
    assert 1 <= min(values.table["value"].to_pylist()) < max(values.table["value"].to_pylist()) <= 5
    if part == "test_annotated":
        assert round(classes_of(labels)["NEUTRAL"] / len(labels), 2) == 0.57


@pytest.mark.parametrize("part", MRPC)
def test_quotes_of_mrpc_are_letters(part: str, data: Path) -> None:
    path = str(data / f"para-mrpc/msr-para-{part}.tsv.zst")
    columns = {"text": "#1 String", "second": "#2 String", "label": "Quality"}
    found = read("classify", path, columns)
    assert len(found) == MRPC[part]
    assert any('"' in text for text in found.table["text"].to_pylist())
    with pytest.raises(ValueError, match=r"a quote out of place.*say --no-quotes"):
        read("classify", path, columns, layout=Layout(quoted=True))


def test_tags_of_every_set_have_a_scheme(data: Path) -> None:
    gold = read("tag", str(data / "ner/wikigold/wikigold.conll.txt.zst"))
    assert (gold.scheme, gold.names) == ("IO", ("O", "I-LOC", "I-MISC", "I-ORG", "I-PER"))
    files = {
        name: str(data / "ner/WNUT17" / file)
        for name, file in (
            ("train", "wnut17train.conll.zst"),
            ("dev", "emerging.dev.conll.zst"),
            ("test", "emerging.test.annotated.zst"),
        )
    }
    found = parts("tag", files)
    assert {one.scheme for one in found.values()} == {"IOB2"}
    assert len(found["train"].names) == 13


def test_some_sentences_of_btc_have_a_word_that_is_empty(data: Path) -> None:
    path = str(data / "ner/BTC/*.conll.zst")
    with pytest.raises(ValueError, match=r"row 906 of f\.conll\.zst has an empty word 34"):
        read("tag", path)
    found = read("tag", path, faulty="drop")
    assert found.counts == {"dropped:empty": 4}
    assert 9_300 <= len(found) <= 9_400
    assert found.names == ("O", "B-LOC", "I-LOC", "B-ORG", "I-ORG", "B-PER", "I-PER")
    assert found.scheme == "IOB2"


def test_texts_of_sst2_are_in_two_parts(data: Path) -> None:
    """Phrases of the same sentences are in both, as its README says; `without` leaves none."""
    files = {"train": str(data / "sent-sst2/train.tsv.zst"), "dev": str(data / "sent-sst2/dev.tsv.zst")}
    found = parts("classify", files, {"text": "sentence"})
    held = Counter(found["train"].table["text"].to_pylist())
    twin = sum(text in held for text in found["dev"].table["text"].to_pylist())
    said = shared(found["train"], found["dev"])
    assert 0 < twin == said["exact"] <= said["alike"]
    assert any(f"{twin} of 6735 texts of dev are in train too" in one for one in checked(found))
    kept, gone = without(found["train"], found["dev"])
    assert gone >= twin * 0.5
    assert shared(kept, found["dev"])["alike"] == 0


@pytest.fixture(scope="module")
def questions(data: Path) -> dict[str, Examples]:
    names = {"1.1": "squad-dev-1.1", "2.0": "squad-dev-2.0", **{code: f"xquad.{code}" for code in XQUAD}}
    return {name: read("answer", str(data / f"qa-squad/{file}.json.zst")) for name, file in names.items()}


def test_questions_are_what_their_readme_says(questions: dict[str, Examples]) -> None:
    assert {name: len(questions[name]) for name in XQUAD} == dict.fromkeys(XQUAD, 609)
    assert len(set(questions["1.1"].table["title"].to_pylist())) == 25
    assert len(set(questions["2.0"].table["title"].to_pylist())) == 18
    none = [not answers for answers in questions["2.0"].table["answers"].to_pylist()]
    assert sum(none) == 2_940
    for one in questions.values():
        assert not one.told
        for row in one.table.to_pylist():
            for text, start in zip(row["answers"], row["starts"], strict=True):
                assert row["context"][start : start + len(text)] == text


@pytest.fixture(scope="module")
def model(questions: dict[str, Examples]) -> bytes:
    texts = [text for one in questions.values() for text in one.table["context"].unique().to_pylist()[::6]]
    return vocabulary.train(texts, size=3_000)


@pytest.mark.parametrize("kind", ["model", "json"])
def test_every_answer_is_found_again_from_its_pieces(kind: str, questions: dict[str, Examples], model: bytes) -> None:
    """All but a few back to the letter; of those, a piece goes on beyond the answer: `Japan` in `Japanese`."""
    pieces = tokenizer.load(model if kind == "model" else export(model))
    for name, one in questions.items():
        if kind == "json" and name not in ("zh", "th", "ar"):
            continue
        found = tokenized(one, pieces, length=381, overlap=128)
        told = found.told
        placed = sum(len(answers) for answers in one.table["answers"].to_pylist())
        assert told["exact"] + told["wider"] == placed
        assert told["narrower"] == told["unplaced"] == told["split"] == 0
        assert told["exact"] >= 0.98 * placed
        for text, said in told["shown"]:
            begin = said.index(text)
            assert not any(character.isspace() for character in said[:begin] + said[begin + len(text) :])
        _check(one, found.table)


def _check(one: Examples, table: pa.Table) -> None:
    """Every window that holds an answer gives back a text with one of the answers in it, at its place."""
    rows = {row["row"]: row for row in one.table.to_pylist()}
    held = set()
    for window in table.to_pylist():
        if not window["holds"]:
            continue
        row, lead = rows[window["row"]], window["second"]
        begin, end = window["begins"][window["start"] - lead], window["ends"][window["end"] - lead]
        assert any(
            begin <= start and start + len(text) <= end and text in row["context"][begin:end]
            for text, start in zip(row["answers"], row["starts"], strict=True)
        )
        held.add(window["row"])
    assert held == {number for number, row in rows.items() if row["answers"]}
