"""Scores of slices, hardest examples and odd labels, against counting by hand; and what is kept beside tested rows."""

import itertools
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tokenizers import Tokenizer, models, pre_tokenizers

from tests.test_finetune_runs import IDS, part, rows, task_of
from tundish.operators.model import calibration, measures
from tundish.operators.text import spans
from tundish.stages import examples, finetune_slices
from tundish.stages.finetune_beside import COLUMN, keep, kept
from tundish.stages.finetune_hardest import hardest, suspects
from tundish.stages.finetune_kinds import scored, sentences, true_tags
from tundish.stages.finetune_result import result_of
from tundish.stages.finetune_rows import Rows, rows_of
from tundish.stages.finetune_slices import named, sliced, thirds
from tundish.stages.finetune_task import TuneTask

DRAW = np.random.default_rng


def toy(folder: Path, kind: str, **more: Any) -> tuple[TuneTask, Rows]:
    task = task_of("no model", folder, kind, train=20, **more)
    return task, rows_of(task.parts["test"], IDS, 48)


def guessed(truth: np.ndarray, right: np.ndarray, classes: int = 2, sure: float = 4.0) -> np.ndarray:
    """Logits that say the truth where `right`, and the next class elsewhere."""
    said = np.where(right, truth, (truth + 1) % classes)
    return sure * np.eye(classes)[said]


def by(told: dict[str, Any], name: str) -> dict[str, dict[str, Any]]:
    family = next(each for each in told["by"] if each["by"] == name)
    return {each["name"]: each for each in family["slices"]}


def ends(name: str) -> tuple[float, float]:
    low, _, high = name.partition(" to ")
    return float(low), float(high or low)


def wilson(share: float, n: int) -> tuple[float, float]:
    z = 1.959963984540054
    middle, reach = share + z * z / (2 * n), z * np.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return (middle - reach) / (1 + z * z / n), (middle + reach) / (1 + z * z / n)


def test_a_slice_has_the_mean_over_seeds_and_an_interval_over_examples(tmp_path: Path) -> None:
    task, test = toy(tmp_path, "classify")
    truth = np.asarray(test.targets)
    right = DRAW(1).random((3, len(test))) < 0.7
    told = sliced(task, test, [guessed(truth, each) for each in right], None, [{}] * len(test))
    assert told["measure"] == "accuracy"
    assert told["whole"]["score"] == pytest.approx(right.mean())
    assert told["whole"]["n"] == len(test)
    for number, name in enumerate(test.names):
        mine = by(told, "label")[name]
        here = right[:, truth == number]
        assert mine["n"] == here.shape[1]
        assert mine["score"] == pytest.approx(here.mean())
        assert mine["interval"] == pytest.approx(wilson(here.mean(), here.shape[1]))
    sizes = np.array([len(each) for each in test.table["tokens"].to_pylist()])
    for name, one in by(told, "length in pieces").items():
        low, high = ends(name)
        here = (sizes >= low) & (sizes <= high)
        assert (one["n"], one["score"]) == (here.sum(), pytest.approx(right[:, here].mean()))
    assert sum(one["n"] for one in by(told, "length in pieces").values()) == len(test)


@pytest.mark.parametrize("seed", range(20))
def test_thirds_part_no_equal_values_and_leave_none_out(seed: int) -> None:
    draw = DRAW(seed)
    values = draw.integers(0, draw.integers(1, 30), draw.integers(1, 60)) / draw.choice([1, 3])
    found = thirds(values)
    assert 1 <= len(found) <= 3
    assert (sum(each.here.astype(int) for each in found) == 1).all()
    for one, other in itertools.pairwise(found):
        assert values[one.here].max() < values[other.here].min()
    each = np.cumsum([one.here.sum() for one in found])
    assert each[0] >= len(values) / 3, "a third, or more where equal values go together"
    assert each[:2][-1] >= len(values) * 2 / 3


@pytest.mark.parametrize(("few", "many", "worse"), [(30, 270, True), (66, 234, False), (30, 90, False)])
def test_worse_is_what_lies_wholly_below_the_whole(tmp_path: Path, few: int, many: int, worse: bool) -> None:
    """Of 100 odd ones so few are right, of 300 even ones so many; at 66 and 234 the intervals overlap."""
    task, _ = toy(tmp_path, "classify")
    test = rows_of(part(tmp_path, "test", "classify", rows("classify", 400, 5)), IDS, 48)
    odd = np.arange(400) % 4 == 0
    right = np.empty(400, bool)
    right[odd], right[~odd] = np.arange(100) < few, np.arange(300) < many
    beside = [{f"{COLUMN}genre": "odd" if each else "even"} for each in odd]
    told = sliced(task, test, [guessed(np.asarray(test.targets), right)], None, beside)
    found = by(told, "genre")
    assert (found["odd"]["n"], found["odd"]["score"]) == (100, few / 100)
    assert found["odd"]["worse"] == worse
    assert found["odd"]["interval"][1] < told["whole"]["interval"][1] or few == many / 3
    assert not found["even"]["worse"], "above the whole is not worse"


def test_of_numbers_the_larger_error_is_worse(tmp_path: Path) -> None:
    task, test = toy(tmp_path, "regress")
    test = rows_of(part(tmp_path, "test", "regress", rows("regress", 300, 4)), IDS, 48)
    truth = np.asarray(test.targets)
    high = truth > np.quantile(truth, 2 / 3)
    draw = DRAW(3)
    said = [(truth + np.where(high, 1.0, 0.1) * draw.normal(size=300))[:, None] for _ in range(2)]
    told = sliced(task, test, said, None, [{}] * 300)
    errors = np.mean([np.abs(each[:, 0] - truth) for each in said], 0)
    assert told["measure"] == "absolute_error"
    assert told["whole"]["score"] == pytest.approx(errors.mean())
    found = list(by(told, "value").values())
    assert [each["worse"] for each in found] == [False, False, True]
    assert found[2]["score"] == pytest.approx(errors[high].mean(), rel=0.05)
    assert found[2]["interval"][0] < found[2]["score"] < found[2]["interval"][1]


def test_labels_of_which_there_are_several(tmp_path: Path) -> None:
    task, test = toy(tmp_path, "multilabel")
    truth = np.asarray(test.targets) > 0
    said = np.where(DRAW(1).random(truth.shape) < 0.8, truth, ~truth) * 2.0 - 1
    told = sliced(task, test, [said], None, [{}] * len(test))
    assert told["whole"]["score"] == pytest.approx(scored(task, test, {"logits": said})["micro_f1"])
    for at, name in enumerate(test.names):
        here = truth[:, at]
        want = measures.average(truth[here].astype(int), (said[here] > 0).astype(int), "micro").f1
        assert by(told, "label")[name]["score"] == pytest.approx(want)


def test_where_no_label_is_true_no_slice_is_told(tmp_path: Path) -> None:
    """Their F1 is 0 whatever the model says, so it is no place where it falls short."""
    task, test = toy(tmp_path, "multilabel")
    truth = np.asarray(test.targets) > 0
    bare = ~truth.any(1)
    assert bare.any(), "else nothing is shown"
    beside = [{f"{COLUMN}genre": "bare" if each else "other"} for each in bare]
    beside[int(np.flatnonzero(truth.any(1))[0])] = {f"{COLUMN}genre": "third"}
    told = sliced(task, test, [np.ones(truth.shape)], None, beside)
    assert set(by(told, "label")) == set(test.names)
    assert set(by(told, "genre")) == {"other", "third"}


TAGS = ["O", "B-one", "I-one", "B-two", "I-two"]


def tagged(folder: Path, count: int = 40) -> tuple[TuneTask, Rows]:
    """Sentences of which every third lies in two windows that share pieces, each word predicted in one."""
    draw, made = DRAW(7), []
    for number in range(count):
        tags = draw.integers(0, 5, draw.integers(4, 9)) * (number % 10 != 9)  # some have no span
        cuts = [(0, len(tags))] if number % 3 else [(0, len(tags) // 2), (len(tags) // 2, len(tags))]
        for window, (begin, end) in enumerate(cuts):
            row = {"tokens": list(range(5, 5 + len(tags))), "firsts": list(range(begin, end)), "window": window}
            row |= {"labels": [int(tags[at]) if begin <= at < end else -100 for at in range(len(tags))]}
            made.append(row | {"words": list(range(begin, end)), "id": str(number), "file": "toy", "row": number + 1})
    task = task_of("no model", folder, "tag", train=20)
    return task, rows_of(part(folder, "test", "tag", made, TAGS), IDS, 48)


def test_spans_are_scored_by_type_as_seqeval_has_them(tmp_path: Path) -> None:
    task, test = tagged(tmp_path)
    truth, draw = true_tags(test), DRAW(1)
    said = [np.eye(5)[np.where(draw.random(len(truth)) < 0.7, truth, draw.integers(0, 5, len(truth)))]]
    told = sliced(task, test, said, None, [{}] * len(test))
    want = spans.found(sentences(test, truth), sentences(test, said[0].argmax(1)))
    assert told["whole"] == told["whole"] | {"n": 40, "score": pytest.approx(float(want.micro.f1))}
    found = by(told, "type")
    for at, kind in enumerate(want.kinds):
        assert found[kind]["score"] == pytest.approx(float(want.each.f1[at]))
        assert found[kind]["n"] == int(want.each.support[at])
    assert sum(one["n"] for one in by(told, "length in pieces").values()) == 40


def test_what_was_neither_there_nor_found_has_no_score(tmp_path: Path) -> None:
    task, test = tagged(tmp_path)
    truth, owners = true_tags(test), finetune_slices.grouped(test)[0]
    words = np.repeat(owners, [len(each) for each in test.table["firsts"].to_pylist()])
    empty = np.array([(truth[words == at] == 0).all() for at in range(40)])
    assert empty.any()
    beside = [{f"{COLUMN}tags": "none" if empty[at] else "some"} for at in owners]
    told = sliced(task, test, [np.eye(5)[np.zeros(len(truth), int)]], None, beside)
    assert told["whole"]["score"] == 0.0
    spread = wilson(0.0, sum(one["n"] for one in by(told, "type").values()) / 2)
    assert told["whole"]["interval"] == pytest.approx(spread), "nothing found is no certainty"
    assert "tags" not in [each["by"] for each in told["by"]], "one slice with a score splits nothing"


def test_answers_are_scored_by_question_word(tmp_path: Path) -> None:
    task, test = toy(tmp_path, "answer")
    truth = task.truth["test"]
    draw = DRAW(1)
    said = [draw.normal(size=(sum(len(each) + 3 for each in test.table["tokens"].to_pylist()), 2)) for _ in range(2)]
    asks = ["In what year?", "Who, and why?", "Is it?"]
    beside = [{"text": asks[at % 3]} for at in range(len(test))]
    told = sliced(task, test, said, truth, beside)
    assert told["whole"]["score"] == pytest.approx(
        np.mean([scored(task, test, {"logits": e}, truth)["f1"] for e in said])
    )
    found = by(told, "question word")
    assert {name: one["n"] for name, one in found.items()} == {"what": 20, "who": 20, "no question word": 20}
    each = np.mean([finetune_slices.answered(test, one, truth)[1] for one in said], 0)
    assert found["who"]["score"] == pytest.approx(each[1::3].mean())
    assert found["who"]["interval"] == pytest.approx(wilson(each[1::3].mean(), 20))


def vocabulary(folder: Path) -> None:
    """Words of one piece, and pieces that go on; 1 is unknown."""
    words = [*IDS, *(f"w{at}" for at in range(5, 20)), *(f"##c{at}" for at in range(20, 40))]
    made = Tokenizer(models.WordPiece({word: at for at, word in enumerate(words)}, unk_token="[UNK]"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    made.add_special_tokens([*IDS])
    folder.mkdir(exist_ok=True)
    made.save(str(folder / "tokenizer.json"))


def test_unknown_pieces_and_pieces_a_word_are_read_off_the_vocabulary(tmp_path: Path) -> None:
    task, _ = toy(tmp_path, "classify")
    vocabulary(Path(task.out))
    made = rows("classify", 90, 8)
    for at in range(0, 90, 3):
        made[at]["tokens"] = [*made[at]["tokens"], 1]
    test = rows_of(part(tmp_path, "test", "classify", made), IDS, 48)
    truth = np.asarray(test.targets)
    right = DRAW(1).random(90) < 0.6
    told = sliced(task, test, [guessed(truth, right)], None, [{}] * 90)
    unknown = np.array([1 in each["tokens"] for each in made])
    found = by(told, "pieces")
    assert (found["unknown pieces"]["n"], found["unknown pieces"]["score"]) == (
        30,
        pytest.approx(right[unknown].mean()),
    )
    assert found["all known"]["score"] == pytest.approx(right[~unknown].mean())
    shares = np.array([round(len(e["tokens"]) / max(1, sum(i < 20 for i in e["tokens"])), 2) for e in made])
    for name, one in by(told, "pieces a word").items():
        low, high = ends(name)
        assert one["n"] == ((shares >= low) & (shares <= high)).sum()


def test_rare_values_are_one_slice() -> None:
    values = [f"v{at:02d}" for at in range(30) for _ in range(30 - at)]
    found = named("genre", values).slices
    assert [each.name for each in found[:3]] == ["v00", "v01", "v02"]
    assert (len(found), found[-1].name, int(found[-1].here.sum())) == (21, "all others", sum(range(1, 11)))
    assert (sum(each.here.astype(int) for each in found) == 1).all()


# -- examples


def test_the_hardest_come_first_with_their_texts(tmp_path: Path) -> None:
    task, test = toy(tmp_path, "classify")
    draw = DRAW(2)
    said = [draw.normal(size=(len(test), 2)) * 2 for _ in range(3)]
    beside = [{"text": f"text {at}"} for at in range(len(test))]
    own = np.mean([calibration.softmax(each) for each in said], 0)[np.arange(len(test)), np.asarray(test.targets)]
    found = hardest(task, test, said, None, beside)
    assert [each["text"] for each in found] == [f"text {at}" for at in np.argsort(own)[:20]]
    assert [each["probability"] for each in found] == pytest.approx(np.sort(own)[:20], abs=1e-5)


def test_the_hardest_of_other_kinds(tmp_path: Path) -> None:
    task, test = toy(tmp_path, "regress")
    truth = np.asarray(test.targets)
    said = truth[:, None] + np.where(np.arange(len(test)) == 7, 9.0, 0.1)[:, None]
    assert hardest(task, test, [said], None, [])[0] == {
        "file": "toy", "row": 8, "label": f"{truth[7]:.4g}", "guess": f"{truth[7] + 9:.4g}", "error": 9.0,
    }  # fmt: skip
    task, test = tagged(tmp_path)
    tags = true_tags(test)
    wrong = tags.copy()
    wrong[0] = (tags[0] + 1) % 5
    first = hardest(task, test, [np.eye(5)[wrong]], None, [])
    assert len(first) == 1
    assert first[0] == {
        "file": "toy",
        "row": 1,
        "words": 1.0,
        "label": f"1 {TAGS[tags[0]]}",
        "guess": f"1 {TAGS[wrong[0]]}",
    }
    text = " ".join(f"w{at}" for at in range(len(sentences(test, tags)[0])))
    first = hardest(task, test, [np.eye(5)[wrong]], None, [{"text": text}])
    assert (first[0]["text"], first[0]["label"]) == (text, f"w0 {TAGS[tags[0]]}")
    task, test = toy(tmp_path, "embed")
    vectors = np.stack([np.eye(len(test)), np.eye(len(test))], 1)
    vectors[3, 1] = -1.0
    assert [(each["row"], each["rank"]) for each in hardest(task, test, [vectors], None, [])] == [(4, len(test))]


def test_a_label_that_all_seeds_doubt_is_worth_a_second_look(tmp_path: Path) -> None:
    test = rows_of(part(tmp_path, "test", "classify", rows("classify", 200, 6)), IDS, 48)
    truth = np.asarray(test.targets)
    planted, doubtful = [11, 50, 120], [20, 60]
    said = []
    for seed in range(3):
        right = np.ones(200, bool)
        right[planted] = False
        right[20] = seed != 1  # one seed agrees with the file
        logits = guessed(truth, right, sure=2.0 + seed)
        logits[planted] *= 1.2  # sure enough: a sure error is above what sure hits are on average
        logits[60] = guessed(truth[60:61], np.array([False]), sure=0.2)[0]  # all seeds, none of them sure
        said.append(logits)
    found = suspects(test, said, [], [{"text": str(at)} for at in range(200)])
    assert sorted(int(each["text"]) for each in found["examples"]) == planted
    assert found["count"] == 3
    assert not {str(at) for at in doubtful} & {each["text"] for each in found["examples"]}
    for each in found["examples"]:
        assert each["label"] == test.names[truth[int(each["text"])]] != each["guess"]
        assert each["other"] + each["probability"] == pytest.approx(1, abs=1e-5)


def test_one_seed_that_agrees_with_the_file_is_enough(tmp_path: Path) -> None:
    """Also where a class is found with so little sureness that every seed is above its threshold."""
    made = rows("classify", 31, 6)
    for at, row in enumerate(made):
        row["label"] = at % 3
    test = rows_of(part(tmp_path, "test", "classify", made, ["a", "b", "c"]), IDS, 48)
    each = np.array([[0.9, 0.05, 0.05], [0.05, 0.9, 0.05], [0.3, 0.3, 0.4]])[np.arange(31) % 3]
    sure, unsure = each.copy(), each.copy()
    sure[30], unsure[30] = (0.2, 0.1, 0.7), (0.5, 0.02, 0.48)
    assert suspects(test, [np.log(sure), np.log(sure)], [], [])["count"] == 1
    assert suspects(test, [np.log(sure), np.log(unsure)], [], [])["count"] == 0


# -- what is kept beside


def lines(folder: Path, name: str, many: int, genre: bool = True) -> str:
    head = "sentence\tlabel" + ("\tgenre" if genre else "")
    made = [f"{name}\u2028word {at}\t{at % 2}" + (f"\t{'abc'[at % 3]}" if genre else "") for at in range(many)]
    (folder / f"{name}.tsv").write_text("\n".join([head, *made]) + "\n")
    return str(folder / f"{name}.tsv")


def read(file: str, many: list[int]) -> list[dict[str, Any]]:
    """Token rows as if of these rows of a file."""
    table = examples.read("classify", file, {"text": "sentence"}).table.to_pylist()
    known = [{name: table[at][name] for name in ("id", "file", "row", "label")} for at in many]
    return [each | {"tokens": [5, 6], "second": None} for each in known]


def test_texts_and_columns_are_found_again_in_the_files(tmp_path: Path) -> None:
    train, test = lines(tmp_path, "train", 30), lines(tmp_path, "other", 12)
    task = task_of("no model", tmp_path, "classify", train=20)
    held = [4, 2, 9]
    parts = {"test": part(tmp_path, "test", "classify", read(train, held))}
    parts["other"] = part(tmp_path, "other", "classify", read(test, list(range(12))))
    task = replace(task, parts=dict(task.parts) | parts)
    keep(task, {"train": train, "other": test}, {"text": "sentence", "label": "label"}, ["genre"])
    found = kept(task.out, "test", rows_of(parts["test"], IDS, 48).table)
    assert [each["text"] for each in found] == [f"train\u2028word {at}" for at in held], "cut from train"
    assert [each[f"{COLUMN}genre"] for each in found] == ["abc"[at % 3] for at in held]
    found = kept(task.out, "other", rows_of(parts["other"], IDS, 48).table)
    assert [each["text"] for each in found] == [f"other\u2028word {at}" for at in range(12)]


def test_nested_files_of_questions_have_their_titles(tmp_path: Path) -> None:
    def asked(number: int) -> dict[str, Any]:
        return {"question": f"why {number}?", "id": f"q{number}", "answers": [{"text": "it", "answer_start": 0}]}

    paragraphs = [{"context": f"it was so {at}", "qas": [asked(2 * at), asked(2 * at + 1)]} for at in range(4)]
    articles = [{"title": name, "paragraphs": paragraphs[2 * at : 2 * at + 2]} for at, name in enumerate("ab")]
    (tmp_path / "squad.json").write_text(json.dumps({"data": articles}))
    made = examples.read("answer", str(tmp_path / "squad.json")).table.to_pylist()
    task = task_of("no model", tmp_path, "answer", train=20)
    held = rows("answer", 8, 1)
    for row, one in zip(held, made, strict=True):
        row |= {name: one[name] for name in ("id", "file", "row")}
    table = part(tmp_path, "test", "answer", held)
    task = replace(task, parts={"train": table, "test": table})
    keep(task, {"train": str(tmp_path / "squad.json")}, {}, ["title"])
    found = kept(task.out, "test", rows_of(table, IDS, 48).table)
    assert [each[f"{COLUMN}title"] for each in found] == list("aaaabbbb")
    assert [each["text"] for each in found] == [f"why {at}?" for at in range(8)]
    with pytest.raises(ValueError, match="no column 'genre'"):
        keep(task, {"train": str(tmp_path / "squad.json")}, {}, ["genre"])


def test_a_text_that_is_another_now_is_not_shown(tmp_path: Path) -> None:
    train = lines(tmp_path, "train", 30)
    made = read(train, [0, 1])
    task = task_of("no model", tmp_path, "classify", train=20)
    table = part(tmp_path, "test", "classify", made)
    task = replace(task, parts={"train": table, "test": table})
    keep(task, {"train": train}, {"text": "sentence"})
    made[1]["id"] = "another"
    later = rows_of(part(tmp_path, "test", "classify", made), IDS, 48).table
    assert [each.get("text") for each in kept(task.out, "test", later)] == ["train\u2028word 0", None]
    assert kept(str(tmp_path / "nowhere"), "test", later) == [{}, {}]


def test_a_long_text_is_cut_and_a_column_that_is_not_there_is_named(tmp_path: Path) -> None:
    long = "x" * 5000
    (tmp_path / "train.tsv").write_text(f"sentence\tlabel\tgenre\n{long}\t0\t{long}\nshort\t1\ta\n")
    train = str(tmp_path / "train.tsv")
    task = task_of("no model", tmp_path, "classify", train=20)
    table = part(tmp_path, "test", "classify", read(train, [0, 1]))
    task = replace(task, parts={"train": table, "test": table})
    keep(task, {"train": train}, {"text": "sentence"}, ["genre"])
    first = kept(task.out, "test", rows_of(table, IDS, 48).table)[0]
    assert (len(first["text"]), len(first[f"{COLUMN}genre"])) == (300, 60)
    with pytest.raises(ValueError, match=r"no column 'gener'.*did you mean 'genre'"):
        keep(task, {"train": train}, {"text": "sentence"}, ["gener"])
    (tmp_path / "train.conll").write_text("word O\n\n")
    with pytest.raises(ValueError, match="no 'genre' of sentences"):
        keep(replace(task, kind="tag"), {"train": str(tmp_path / "train.conll")}, {}, ["genre"])


# -- the result


def test_the_result_tells_runs_and_slices_and_is_json(tmp_path: Path) -> None:
    task, test = toy(tmp_path, "classify", seeds=(1, 2), scratch=True)
    parts = {name: rows_of(uri, IDS, 48) for name, uri in task.parts.items()}
    draw = DRAW(1)

    def found(run: Any) -> Any:
        lost = run.seed == 2 and not run.pretrained
        said = {name: {"logits": draw.normal(size=(len(parts[name]), 2))} for name in ("dev", "test")}
        scores = {name: scored(task, parts[name], each) for name, each in said.items()}
        told = {"run": run._asdict(), "losses": [0.7, float("nan")] if lost else [0.7, 0.5], "dev": [], "rate": 1e-3}
        return told | {"failed": "the loss was nan" if lost else "", "scores": {} if lost else scores}, said

    result = json.loads(json.dumps(result_of(task, parts, found), allow_nan=False))
    assert [each["name"] for each in result["runs"]] == ["pretrained-1", "pretrained-2", "fresh-1", "fresh-2"]
    assert result["runs"][3]["losses"] == [0.7, None]
    assert result["slices"]["test"]["whole"]["n"] == len(test)
    mean = result["parts"]["test"]["pretrained"]["accuracy"]["mean"]
    assert result["slices"]["test"]["whole"]["score"] == pytest.approx(mean)
    assert result["suspects"]["of"] == len(test)
