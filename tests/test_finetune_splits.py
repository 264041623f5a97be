"""Random splits beside the standard one: of the same sizes, in the same shares, and no group on two sides."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tundish.operators.model import certainty
from tundish.stages.examples import Examples, read
from tundish.stages.examples_checks import keys
from tundish.stages.finetune_files import split
from tundish.stages.finetune_splits import anew, joined, sides, splits_of

WORDS = ("heron", "crane", "water", "stone", "night", "river", "feather", "wind")
SIZES = {"train": 70, "dev": 13, "test": 37}


def written(path: Path, rows: list[dict[str, Any]]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def texts(count: int, seed: int) -> list[dict[str, Any]]:
    draw = np.random.default_rng(seed)
    names = ("glad", "sad", "odd")
    return [
        {"text": f"{seed} {n} {' '.join(draw.choice(WORDS, 4))}", "label": names[int(draw.random() * 2.5)]}
        for n in range(count)
    ]


@pytest.fixture
def standard(tmp_path: Path) -> dict[str, Examples]:
    found = {}
    for seed, (name, size) in enumerate(SIZES.items()):
        rows = texts(size, seed)
        rows[0] |= {"label": "odd"}
        found[name] = read("classify", written(tmp_path / f"{name}.jsonl", rows), names=("glad", "odd", "sad"))
    return found


def ids(one: Examples) -> list[str]:
    return one.table["id"].to_pylist()


def test_a_split_has_the_same_rows_the_same_sizes_and_the_same_shares(standard: dict[str, Examples]) -> None:
    whole = Counter(each for one in standard.values() for each in ids(one))
    labels = np.concatenate([one.table["label"].to_numpy() for one in standard.values()])
    for seed in range(1, 6):
        made = anew(standard, seed)
        assert {name: len(one) for name, one in made.items()} == SIZES
        assert Counter(each for one in made.values() for each in ids(one)) == whole
        for one in made.values():
            share = np.bincount(labels, minlength=3) / len(labels) * len(one)
            assert np.abs(np.bincount(one.table["label"].to_numpy(), minlength=3) - share).max() < 2


def test_a_split_is_a_function_of_the_texts_and_its_seed(standard: dict[str, Examples]) -> None:
    made = anew(standard, 1)
    draw = np.random.default_rng(5)
    mixed = {name: one.take(draw.permutation(len(one))) for name, one in standard.items()}
    again = anew(mixed, 1)
    assert {name: sorted(ids(one)) for name, one in again.items()} == {
        name: sorted(ids(one)) for name, one in made.items()
    }
    tests = [frozenset(ids(anew(standard, seed)["test"])) for seed in range(6)]
    assert len(set(tests)) == 6
    overlap = [len(a & b) / 37 for a in tests for b in tests if a is not b]
    assert np.mean(overlap) == pytest.approx(37 / 120, abs=0.06), "as two samples of the same rows overlap"


def test_train_lies_in_an_order_of_which_every_beginning_is_a_sample(standard: dict[str, Examples]) -> None:
    labels = anew(standard, 3)["train"].table["label"].to_numpy()
    for size in (10, 20, 40):
        assert np.abs(np.bincount(labels[:size], minlength=3) - np.bincount(labels) * size / 70).max() <= 1


def test_equal_texts_never_lie_on_both_sides(tmp_path: Path) -> None:
    rows = texts(40, 1)
    rows += [dict(row) for row in rows[:20]] + [{**row, "label": "odd"} for row in rows[10:25]]
    one = read("classify", written(tmp_path / "all.jsonl", rows))
    found, _ = split({"train": one}, apart=False)
    for seed in range(1, 5):
        made = anew(found, seed)
        seen = [set(keys(each)) for each in made.values()]
        assert not any(a & b for at, a in enumerate(seen) for b in seen[at + 1 :])
        assert sum(map(len, made.values())) == 75
        for name, each in made.items():
            assert abs(len(each) - len(found[name])) <= 2, "to within a group"


def test_questions_about_one_text_stay_together(tmp_path: Path) -> None:
    rows = []
    for number in range(90):
        context = f"The heron number {number // 3} stood in the river beside a stone."
        rows.append({"id": f"q{number}", "context": context, "question": f"Where, {number}?", "answers": ["the river"]})
    one = read("answer", written(tmp_path / "asked.jsonl", rows))
    found, _ = split({"train": one}, apart=False)
    whole = [set(found["test"].table["context"].to_pylist())]
    for seed in (1, 2, 3):
        made = anew(found, seed)
        sides = [set(each.table["context"].to_pylist()) for each in made.values()]
        assert not any(a & b for at, a in enumerate(sides) for b in sides[at + 1 :])
        assert all(abs(len(each) - len(found[name])) <= 2 for name, each in made.items())
        whole.append(sides[-1])
        draw = np.random.default_rng(seed)
        again = anew({name: each.take(draw.permutation(len(each))) for name, each in found.items()}, seed)
        assert [set(ids(each)) for each in again.values()] == [set(ids(each)) for each in made.values()]
    assert len({frozenset(each) for each in whole}) == 4


def test_numbers_keep_their_spread(tmp_path: Path) -> None:
    draw = np.random.default_rng(2)
    rows = [{"text": f"row {n}", "value": float(each)} for n, each in enumerate(draw.normal(3, 2, 200))]
    found, _ = split({"train": read("regress", written(tmp_path / "all.jsonl", rows))}, apart=False)
    for seed in (1, 2, 3):
        values = anew(found, seed)["test"].table["value"].to_numpy()
        everything = np.array([row["value"] for row in rows])
        assert np.quantile(values, [0.2, 0.5, 0.8]) == pytest.approx(np.quantile(everything, [0.2, 0.5, 0.8]), abs=0.7)


def test_further_tests_are_not_divided(standard: dict[str, Examples]) -> None:
    other = standard["test"].take([0, 1, 2])
    made = anew(standard | {"elsewhere": other}, 1)
    assert list(made) == ["train", "dev", "test", "elsewhere"]
    assert made["elsewhere"] is other


def test_rows_of_files_with_one_name_stay_apart(tmp_path: Path) -> None:
    """A sentence is known by its file and number; two parts may each have a `data.jsonl`."""
    found = {}
    for name in ("train", "dev", "test"):
        (tmp_path / name).mkdir()
        found[name] = read("classify", written(tmp_path / name / "data.jsonl", texts(9, len(name))))
    whole = joined(found)
    places = set(zip(whole.table["file"].to_pylist(), whole.table["row"].to_pylist(), strict=True))
    assert len(places) == 27
    alone = joined({"train": found["train"]})
    assert set(alone.table["file"].to_pylist()) == {"data.jsonl"}


def test_a_side_with_nothing_is_refused(tmp_path: Path) -> None:
    rows = [{"text": "the same", "label": ("a", "b")[n % 2]} for n in range(9)]
    one = read("classify", written(tmp_path / "all.jsonl", rows))
    parts = {"train": one.take(range(6)), "dev": one.take([6]), "test": one.take([7, 8])}
    assert len(set(sides(one, [6, 1, 2], 1).tolist())) == 1
    with pytest.raises(ValueError, match="9 rows leave nothing to dev with in split 1"):
        anew(parts, 1)


# -- what is told


class Task:
    def __init__(self, out: Path, *scores: list[float]) -> None:
        self.out, self.scores = str(out), scores


def result(task: Any) -> dict[str, Any]:
    told = {}
    for name, scores in zip(("pretrained", "fresh"), task.scores, strict=False):
        told[name] = {"accuracy": {"mean": float(np.mean(scores)), "seeds": scores, "interval": [0.0, 1.0]}}
    return {
        "parts": {"test": told},
        "measure": "accuracy",
        "tested": ["test"],
        "seeds": [1, 2],
        "examples": {"train": 70, "dev": 13, "test": 35},
    }


def test_splits_are_told_side_by_side(tmp_path: Path) -> None:
    tasks = [
        Task(tmp_path, [0.8, 0.9], [0.7, 0.7]), Task(tmp_path, [0.7, 0.7], [0.5, 0.6]),
        Task(tmp_path, [0.9, 0.8], [0.6, 0.5]), Task(tmp_path, [0.6, 0.7], [0.6, 0.6]),
    ]  # fmt: skip
    told = splits_of(tasks[0], tasks[1:], result)  # type: ignore[arg-type]
    assert json.loads((tmp_path / "splits.json").read_text()) == told
    assert told["standard"]["difference"]["seeds"] == pytest.approx([0.1, 0.2])
    over = told["over_splits"]
    assert over["pretrained"]["splits"] == pytest.approx([0.7, 0.85, 0.65])
    wanted = certainty.over_splits([0.7, 0.85, 0.65], 0.5, bounds=(0.0, 1.0))
    assert over["pretrained"]["interval"] == pytest.approx(wanted[1:])
    assert over["difference"]["interval"] == pytest.approx(
        certainty.over_splits([0.15, 0.3, 0.05], 0.5, bounds=(-1, 1))[1:]
    )
    assert over["difference"]["splits"] == pytest.approx([0.15, 0.3, 0.05])
    assert told["keeps_its_sign"] is True
    tasks[2].scores = ([0.5, 0.5], [0.6, 0.5])
    assert splits_of(tasks[0], tasks[1:], result)["keeps_its_sign"] is False  # type: ignore[arg-type]


def test_without_fresh_weights_no_sign_is_told_and_a_failed_seed_is_not_paired(tmp_path: Path) -> None:
    alone = splits_of(Task(tmp_path, [0.8, 0.9]), [Task(tmp_path, [0.7, 0.7])], result)  # type: ignore[arg-type]
    assert "keeps_its_sign" not in alone
    assert alone["over_splits"]["difference"] is None
    assert "interval" not in alone["over_splits"]["pretrained"], "one split has none"
    lost = splits_of(Task(tmp_path, [0.8], [0.7]), [Task(tmp_path, [0.7, 0.7], [0.9])], result)  # type: ignore[arg-type]
    assert lost["standard"]["difference"]["mean"] == pytest.approx(0.1)
    assert lost["standard"]["difference"]["seeds"] == []
    assert lost["keeps_its_sign"] is False
