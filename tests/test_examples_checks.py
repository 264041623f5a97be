"""Parts of examples: one set of classes, texts that are in two, splits that keep equal texts together."""

import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from tests.test_text_vocabulary import sentences
from tundish.operators.text import tokenizer, vocabulary
from tundish.operators.text.digest import payload_digest
from tundish.stages.examples import SCHEMAS, Examples, key_of, read
from tundish.stages.examples_checks import checked, classes_of, lengths, parts, repeats, report, shared, without
from tundish.stages.examples_splits import nested, order, places, split, splits
from tundish.stages.examples_tags import entities, ordered
from tundish.stages.examples_tokens import tokenized


def made(labels: list[Any], texts: list[str] | None = None, kind: str = "classify", names: str = "abc") -> Examples:
    texts = texts or [f"text {number}" for number in range(len(labels))]
    column = {"classify": "label", "regress": "value", "multilabel": "labels"}[kind]
    rows = [
        {"id": payload_digest(text.encode()).hex(), "file": "f", "row": n, "text": text, column: label}
        for n, (text, label) in enumerate(zip(texts, labels, strict=True), 1)
    ]
    held = () if kind == "regress" else tuple(names[: 1 + max(_flat(labels))])
    return Examples(kind, pa.Table.from_pylist(rows, schema=SCHEMAS[kind]), held)


def _flat(labels: list[Any]) -> list[int]:
    return [one for each in labels for one in (each if isinstance(each, list) else [each])]


def wrote(folder: Path, **files: str) -> dict[str, str]:
    for name, body in files.items():
        (folder / f"{name}.tsv").write_text("text\tlabel\n" + body, encoding="utf-8")
    return {name: str(folder / f"{name}.tsv") for name in files}


def test_parts_share_the_classes_of_train(tmp_path: Path) -> None:
    files = wrote(tmp_path, train="a\tx\nb\ty\nc\tz\n", test="d\tz\ne\tx\n")
    found = parts("classify", files)
    assert found["test"].names == ("x", "y", "z")
    assert found["test"].table["label"].to_pylist() == [2, 0]
    assert checked(found) == ["test: of 3 classes 1 have no example, so its score says nothing of them: 'y'"]
    files = wrote(tmp_path, train="a\tx\nb\ty\n", test="c\tx\nd\tzz\n")
    with pytest.raises(ValueError, match=r"row 2 of test\.tsv has the label 'zz', and the classes are 'x', 'y'"):
        parts("classify", files)
    with pytest.raises(ValueError, match="name one of them 'train'"):
        parts("classify", {"dev": files["test"]})
    other = {"train": read("classify", files["train"]), "test": read("classify", files["test"])}
    with pytest.raises(ValueError, match="read it with the names of train"):
        checked(other)


def test_numbers_count_classes_in_an_order_that_somebody_gave(tmp_path: Path) -> None:
    """And not those that were found in train and sorted: nobody knows which of them a number means."""
    files = wrote(tmp_path, train="a\tWorld\nb\tSports\nc\tBusiness\n", test="d\t0\ne\t2\n")
    with pytest.raises(ValueError, match=r"row 1 of test\.tsv has the label '0'"):
        parts("classify", files)
    found = parts("classify", files, names=("World", "Sports", "Business"))
    assert found["test"].table["label"].to_pylist() == [0, 2]
    files = wrote(tmp_path, train="a\t4\nb\t5\n", test="c\t0\n")
    with pytest.raises(ValueError, match="has the label '0'"):
        parts("classify", files)


@pytest.mark.parametrize(("values", "words"), [([1.0, 3e5], "far apart"), ([1.0, 1.001], "close together")])
def test_values_of_which_little_is_learned_are_told(values: list[float], words: str) -> None:
    assert words in "".join(checked({"train": made(values * 4, kind="regress")}))
    assert not checked({"train": made([1.0, 3.0] * 4, kind="regress")})


def test_tags_of_all_parts_are_known(tmp_path: Path) -> None:
    """Other prefixes of a type that train has are told; a type that it has not is a fault."""
    (tmp_path / "a.conll").write_text("New B-LOC\nYork I-LOC\n.\tO\n".replace("\t", " "))
    (tmp_path / "b.conll").write_text("EU S-LOC\n. O\n")
    found = parts("tag", {"train": str(tmp_path / "a.conll"), "test": str(tmp_path / "b.conll")})
    assert found["train"].names == found["test"].names == ("O", "B-LOC", "I-LOC", "S-LOC")
    told = checked(found)
    assert told[0] == "train: of 4 classes 1 have no example to learn from: 'S-LOC'"


@pytest.mark.parametrize("odd", ["B-ORG", "I-FOO", "LOC", "NN"])
def test_a_type_of_tags_that_train_does_not_know_is_refused_by_its_row(tmp_path: Path, odd: str) -> None:
    (tmp_path / "a.conll").write_text("New B-LOC\nYork I-LOC\n. O\n")
    (tmp_path / "b.conll").write_text(f"York I-LOC\n\nEU {odd}\n. O\n")
    files = {"train": str(tmp_path / "a.conll"), "test": str(tmp_path / "b.conll")}
    for given in (files, {"train": files["train"], "dev": files["test"], "test": files["train"]}):
        with pytest.raises(ValueError, match=f"row 2 of b.conll has the label '{odd}', and the classes are 'O'"):
            parts("tag", given)
    found = parts("tag", files, faulty="drop")
    assert found["test"].counts["dropped:unknown_label"] == 1
    assert found["test"].names == found["train"].names == ("O", "B-LOC", "I-LOC")


def test_classes_that_are_declared_and_absent_are_told(tmp_path: Path) -> None:
    files = wrote(tmp_path, train="a\tx\nb\ty\n")
    found = parts("classify", files, names=["x", "y", "z"])
    assert checked(found) == ["train: of 3 classes 1 have no example to learn from: 'z'"]


@pytest.mark.parametrize(
    ("train", "said"),
    [
        (made([0]), "the only row of train has one label, 'a'"),
        (made([0, 0, 0]), "all 3 rows of train have one label, 'a'"),
        (made([2.5, 2.5], kind="regress"), r"all 2 rows of train have the value 2\.5"),
    ],
)
def test_nothing_to_learn_is_refused(train: Examples, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        checked({"train": train})


def test_texts_in_two_parts_are_counted_and_can_be_removed() -> None:
    train = made([0, 1, 0, 1, 0], ["One  tide", "two", "three", "THREE", "four"])
    test = made([0, 1, 1, 0], ["two", "one tide", "three", "five"])
    assert shared(train, test) == {"exact": 2, "alike": 3}
    assert (
        "2 of 4 texts of test are in train too, 3 when white space and case"
        in checked({"train": train, "test": test})[0]
    )
    kept, gone = without(train, test)
    assert (kept.table["text"].to_pylist(), gone) == (["four"], 4)
    kept, gone = without(train, test, alike=False)
    assert (kept.table["text"].to_pylist(), gone) == (["One  tide", "THREE", "four"], 2)
    assert shared(kept, test)["exact"] == 0
    with pytest.raises(ValueError, match="every row of train has a text of another part"):
        without(test, test)


def test_equal_texts_with_different_labels_are_told() -> None:
    train = made([0, 1, 0, 0, 1, 1], ["a", "a", "a", "b", "c", "c"])
    assert repeats(train) == {"repeated": 2, "conflicting": 1, "conflicting_rows": 3}
    told = checked({"train": train})
    assert told == [
        "train: 2 rows are there before with the same label",
        "train: 1 texts have different labels (3 rows); no model gets all of them right",
    ]


def test_the_report_is_json_and_adds_up() -> None:
    train, test = made([0, 1, 1, 0, 1], ["a", "bb", "ccc", "dddd", "é"]), made([1, 0], ["a", "zz"])
    told = json.loads(json.dumps(report({"train": train, "test": test})))
    assert told["parts"]["train"]["classes"] == {"a": {"count": 2, "share": 0.4}, "b": {"count": 3, "share": 0.6}}
    assert told["parts"]["train"]["characters"]["text"] == lengths([1, 2, 3, 4, 1])
    assert told["parts"]["test"]["shared"] == {"exact": 1, "alike": 1}
    assert len(told["told"]) == 1
    several = made([[0, 1], [], [1]], kind="multilabel")
    assert classes_of(several) == {"a": 1, "b": 2}
    assert report({"train": several})["parts"]["train"]["classes"]["b"]["share"] == 2 / 3
    values = report({"train": made([1.0, 2.0], kind="regress")})["parts"]["train"]["values"]
    assert (values["least"], values["median"], values["most"]) == (1.0, 1.5, 2.0)


def test_every_kind_is_reported(tmp_path: Path) -> None:
    rows = {
        "tag": {"words": ["New", "York", "."], "tags": ["B-LOC", "I-LOC", "O"]},
        "answer": {"context": "The tide.", "question": "What?", "answers": "tide"},
        "write": {"source": "The tide.", "target": ["tide", "it"]},
        "embed": {"text": "tide", "second": "sea"},
        "multilabel": {"text": "tide", "labels": ["x"]},
    }
    for kind, row in rows.items():
        path = tmp_path / f"{kind}.jsonl"
        path.write_text(json.dumps(row) + "\n")
        one = read(kind, str(path))
        said = json.loads(json.dumps(report({"train": one, "dev": one})))["parts"]["dev"]
        assert said["rows"] == said["shared"]["exact"] == 1
        assert all(sizes["median"] == sizes["most"] > 0 for sizes in said["characters"].values())
        if kind == "tag":
            assert (said["scheme"], said["entities"]) == ("IOB2", {"LOC": 1})
            assert said["characters"]["words"]["most"] == len("New York .")
        if kind == "answer":
            assert (said["unanswerable"], said["counts"]) == (0, {"answers_found": 1})


def test_a_part_without_labels_is_reported_too(tmp_path: Path) -> None:
    files = wrote(tmp_path, train="a\tx\nb\ty\n", test="c\td\n")
    train = read("classify", files["train"])
    test = read("classify", files["test"], names=train.names, labelled=False)
    told = json.loads(json.dumps(report({"train": train, "test": test})))
    assert told["parts"]["test"]["classes"] == {"x": {"count": 0, "share": 0.0}, "y": {"count": 0, "share": 0.0}}
    assert told["told"] == []
    pieces = tokenizer.load(vocabulary.train(sentences(), size=400))
    tokens = {name: tokenized(one, pieces, length=2) for name, one in (("train", train), ("test", test))}
    told = json.loads(json.dumps(report({"train": train, "test": test}, tokens)))
    assert told["parts"]["test"]["pieces"]["pieces"]["most"] >= 1


def test_quantiles_are_those_of_the_numbers() -> None:
    found = lengths(range(101))
    assert [found[name] for name in ("least", "p05", "median", "p95", "most", "mean")] == [0, 5, 50, 95, 100, 50]
    assert lengths([]) == {}


def test_entities_are_counted_by_type() -> None:
    names = ordered(["O", "B-A", "I-A", "I-B", "S-A", "E-A"])
    number = {name: at for at, name in enumerate(names)}
    for tags, expected in {
        "B-A I-A O I-A I-B": {"A": 2, "B": 1},
        "S-A S-A B-A E-A I-A": {"A": 4},
        "O O": {},
    }.items():
        assert entities([[number[tag] for tag in tags.split()]], names) == expected


TEXTS = [f"tide {number}" for number in range(2000)]


def test_a_split_is_a_function_of_the_texts() -> None:
    """The same rows in another order give the same texts on each side; equal texts are never on both."""
    texts = [*TEXTS, *TEXTS[:300]]
    labels = [number % 3 for number in range(len(texts))]
    rest, held = split(made(labels, texts), 0.25)
    assert len(rest) + len(held) == len(texts)
    assert set(rest.table["text"].to_pylist()).isdisjoint(held.table["text"].to_pylist())
    assert abs(len(set(held.table["text"].to_pylist())) / 2000 - 0.25) < 0.04
    back = made(labels[::-1], texts[::-1])
    assert sorted(split(back, 0.25)[1].table["text"].to_pylist()) == sorted(held.table["text"].to_pylist())
    own = {text for text in TEXTS if int.from_bytes(payload_digest(text.encode())[:8], "little") / 2**64 < 0.25}
    assert set(held.table["text"].to_pylist()) == own  # the cut of stages/finetune


def test_seeds_split_anew() -> None:
    examples = made([number % 2 for number in range(2000)], TEXTS)
    held = [set(side.table["text"].to_pylist()) for _, side in splits(examples, [1, 2, 1], 0.2)]
    assert held[0] == held[2]
    assert held[0] != held[1]
    assert abs(len(held[0] & held[1]) / 2000 - 0.04) < 0.02  # independent


def test_stratified_splits_keep_the_shares() -> None:
    labels = [0] * 900 + [1] * 90 + [2] * 10
    rest, held = split(made(labels), 0.2, stratified=True)
    assert list(classes_of(held).values()) == [180, 18, 2]
    assert list(classes_of(rest).values()) == [720, 72, 8]
    values = made([float(number) for number in range(1000)], kind="regress")
    counts = np.histogram(split(values, 0.2, stratified=True)[1].table["value"].to_numpy(), 10, (0, 1000))[0]
    assert counts.tolist() == [20] * 10
    twice = made([0, 1] * 100, [f"same {number // 2}" for number in range(200)])
    sides = split(twice, 0.3, stratified=True)
    assert set(sides[0].table["text"].to_pylist()).isdisjoint(sides[1].table["text"].to_pylist())


def test_groups_stay_together(tmp_path: Path) -> None:
    rows = [
        {"context": f"Context {n}.", "question": "What?", "answers": "Context", "title": f"t{n // 10}"}
        for n in range(200)
    ]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = read("answer", str(tmp_path / "a.jsonl"))
    rest, held = split(found, 0.3, by="title")
    assert set(rest.table["title"].to_pylist()).isdisjoint(held.table["title"].to_pylist())
    assert len(rest) + len(held) == 200
    assert (places(found, by="context") == [places(found.take([n]), by="context")[0] for n in range(200)]).all()
    with pytest.raises(ValueError, match="have no column 'article'"):
        split(found, 0.3, by="article")


def test_wrong_shares_are_refused() -> None:
    for share, said in ((0, "between 0 and 1"), (1.0, "between 0 and 1"), (1e-9, "leave nothing for test")):
        with pytest.raises(ValueError, match=said):
            split(made([0, 1]), share)
    with pytest.raises(ValueError, match="smallest sample has 0 rows"):
        nested(made([0, 1]), 0)


def test_nested_samples_double_and_keep_the_classes() -> None:
    sizes = [700, 230, 50, *[2] * 10]
    labels = np.random.default_rng(1).permutation(np.repeat(np.arange(13), sizes)).tolist()
    examples = made(labels, names="abcdefghijklm")
    samples = nested(examples, 40, seed=3)
    assert [size for size, _ in samples] == [40, 80, 160, 320, 640, 1000]
    for (size, rows), (_, more) in itertools.pairwise(samples):
        assert rows.tolist() == more[:size].tolist()
    whole = order(examples, seed=3)
    assert sorted(whole.tolist()) == list(range(1000))
    found = np.array(labels)[whole]
    for size in range(1, 1001):
        counts = np.bincount(found[:size], minlength=13)
        assert (np.abs(counts - size * np.array(sizes) / 1000) < 1).all(), size
    assert nested(examples, 5000)[0][0] == 1000
    assert order(examples, seed=4).tolist() != whole.tolist()
    # the order of the rows plays no part
    turned = examples.take(np.arange(999, -1, -1))
    again = turned.take(order(turned, seed=3))
    assert again.table["text"].to_pylist() == examples.take(whole).table["text"].to_pylist()


def test_keys_hold_all_texts() -> None:
    assert key_of("classify", {"text": "a", "second": None}) == "a"
    assert key_of("classify", {"text": "a", "second": "b"}) == "a\0b"
    assert key_of("tag", {"words": ["a", "b"]}) == "a b"
    assert key_of("answer", {"context": "c", "question": "q"}) == "c\0q"
