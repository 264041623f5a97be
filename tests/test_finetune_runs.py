"""Fine-tuning, every kind: it learns what is there to be learnt, says so with its doubt, and goes on where it was."""

import json
import math
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from safetensors.torch import save_file

from tundish.operators.model.family import Model
from tundish.operators.model.init import initialise
from tundish.operators.model.shape import Shape
from tundish.stages import finetune_kinds, finetune_runs
from tundish.stages.examples_tokens import ABOUT, SCHEMAS, Tokens, save
from tundish.stages.finetune_runs import found, read, tune
from tundish.stages.finetune_task import Aids, TuneTask, rate_of

torch.set_num_threads(1)
IDS = {"[PAD]": 0, "[UNK]": 1, "[CLS]": 2, "[SEP]": 3, "[MASK]": 4}
SHAPE = Shape(vocabulary=40, width=32, layers=2, heads=2, ff=48, length=48, types=2)
WORDS = range(5, 40)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("model")
    with torch.device("meta"):
        fresh = Model(SHAPE)
    initialise(fresh, SHAPE, seed=1)
    save_file({name: each.contiguous() for name, each in fresh.state_dict().items()}, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps({"shape": asdict(SHAPE), "specials": IDS}))
    return str(folder)


def rows(kind: str, count: int, seed: int) -> list[dict]:
    """Examples whose answers can be read off their tokens."""
    draw, made = np.random.default_rng(seed), []
    for number in range(count):
        ids = draw.integers(5, 40, draw.integers(4, 12)).tolist()
        row = {"tokens": ids, "second": None, "id": f"{seed}-{number}", "file": "toy", "row": number + 1}
        if kind == "classify":
            row["label"] = int(np.mean(ids) > 22)
        elif kind == "multilabel":
            row["labels"] = [at for at, low in enumerate((5, 15, 30)) if {low, low + 1, low + 2} & {*ids}]
        elif kind == "regress":
            row["value"] = float(np.mean(ids)) / 5
        elif kind == "tag":
            firsts = list(range(0, len(ids), 2))
            row |= {"labels": [int(ids[at] > 22) if at in firsts else -100 for at in range(len(ids))]}
            row |= {"firsts": firsts, "words": list(range(len(firsts))), "window": 0}
        elif kind == "answer":
            at = int(draw.integers(2, len(ids) - 1))
            ids = [6 if word == 5 else word for word in ids]
            ids[at] = 5  # the answer is this piece and the one behind it
            row |= {"tokens": ids, "second": 2, "start": at, "end": at + 1, "holds": True, "window": 0}
            row |= {"begins": [3 * each for each in range(len(ids) - 2)], "key": f"q{number}"}
            row["ends"] = [each + 2 for each in row["begins"]]
        elif kind == "embed":
            row |= {"tokens": ids + ids[::-1], "second": len(ids), "negative": None, "score": None}
        made.append(row)
    return made


NAMES = {"classify": ["low", "high"], "multilabel": ["low", "mid", "high"], "tag": ["O", "B-big"]}


def part(folder: Path, name: str, kind: str, made: list[dict], names: list[str] | None = None) -> str:
    about = {
        "kind": kind,
        "names": NAMES.get(kind, []) if names is None else names,
        "length": None,
        "vocabulary": "toy",
    }
    table = pa.Table.from_pylist(made, schema=SCHEMAS[kind].with_metadata({ABOUT: json.dumps(about)}))
    save(str(folder / f"{name}.arrow"), Tokens(table, {}))
    return str(folder / f"{name}.arrow")


def task_of(model: str, folder: Path, kind: str, *, train: int = 240, **more) -> TuneTask:
    made = {"train": rows(kind, train, 1), "dev": rows(kind, 40, 2), "test": rows(kind, 60, 3)}
    parts = {name: part(folder, name, kind, each) for name, each in made.items()}
    truth = {}
    if kind == "answer":
        text = "".join(f"{letter * 2} " for letter in "abcdefghijkl")
        for name in ("dev", "test"):
            truth[name] = {
                f"toy:{r['row']}": {
                    "context": text,
                    "answers": [text[r["begins"][r["start"] - 2] : r["ends"][r["end"] - 2]]],
                }
                for r in made[name]
            }
    given = {"seeds": (1, 2), "epochs": 4, "lr": 3e-3, "scratch": False, "dropout": 0.0} | more
    return TuneTask(model, kind, parts, IDS, str(folder / "out"), truth=truth, scheme="IOB2", **given)


def made(task: TuneTask) -> dict:
    tune(task, 0, 1, lambda line: None)
    return json.loads((Path(task.out) / "result.json").read_text())


@pytest.fixture(scope="module")
def tuned(model: str, tmp_path_factory: pytest.TempPathFactory) -> tuple[TuneTask, dict]:
    task = task_of(model, tmp_path_factory.mktemp("classify"), "classify", scratch=True, sizes=(60,), epochs=6)
    return task, made(task)


def test_it_learns_and_says_how_sure_it_is(tuned: tuple[TuneTask, dict]) -> None:
    _, result = tuned
    test = result["parts"]["test"]
    scores = test["pretrained"]["accuracy"]
    assert scores["mean"] > test["majority"]["accuracy"] + 0.15
    assert scores["interval"][0] <= scores["mean"] == pytest.approx(np.mean(scores["seeds"]), abs=1e-6)
    assert test["pretrained"]["failed"] == {"runs": 0, "of": 2, "share": 0.0}
    assert set(test["fresh"]) == set(test["pretrained"])
    assert [point["size"] for point in result["curve"]["pretrained"]] == [60, 240]


def test_temperature_is_fitted_on_dev_and_judged_on_test(tuned: tuple[TuneTask, dict]) -> None:
    from tundish.operators.model import calibration, measures

    task, result = tuned
    told = result["calibration"]["test"]
    assert told["fitted_on"] == "dev"
    parts = read(task, SHAPE.length)
    for number, run in enumerate(run for run in task.runs if run.pretrained and not run.size):
        said = found(task, run)[1]
        heat = calibration.temperature(np.asarray(parts["dev"].targets), said["dev"]["logits"].astype(float))
        assert told["temperatures"][number] == pytest.approx(heat)
        shares = calibration.softmax(said["test"]["logits"], heat)
        loss = measures.log_loss(np.asarray(parts["test"].targets), shares)
        assert told["after"]["log_loss"]["seeds"][number] == pytest.approx(loss, abs=1e-5)
    assert sum(told["before"]["reliability"]["count"]) == 2 * 60


def test_classes_and_the_hardest_examples_are_told(tuned: tuple[TuneTask, dict]) -> None:
    _, result = tuned
    table = np.array(result["classes"]["confusion"])
    assert table.sum() == pytest.approx(60, abs=0.1)
    assert [each["support"] for each in result["classes"]["scores"]] == table.sum(1).round().astype(int).tolist()
    shares = [each["probability"] for each in result["hardest"]]
    assert shares == sorted(shares)
    assert all(each["guess"] != each["label"] for each in result["hardest"] if each["probability"] < 0.5)


def test_a_run_that_is_sealed_is_not_made_again(tuned: tuple[TuneTask, dict], monkeypatch: pytest.MonkeyPatch) -> None:
    task, result = tuned
    (Path(task.out) / "result.json").unlink()
    gone = sorted(Path(task.out, "runs").glob("*pretrained-2.json"))
    assert len(gone) == 1
    gone[0].unlink()
    again, trained = [], finetune_runs.trained
    monkeypatch.setattr(finetune_runs, "trained", lambda *given: again.append(given[1]) or trained(*given))
    assert made(task) == result
    assert [run.name for run in again] == ["pretrained-2"]


def test_the_weights_are_those_of_the_result_that_lies_beside_them(model: str, tmp_path: Path) -> None:
    """Also when another task was run there in between."""
    first = task_of(model, tmp_path, "classify", train=32, seeds=(1,), epochs=1)
    seen = []
    for task in (first, replace(first, lr=1e-4), first):
        made(task)
        seen.append((Path(task.out) / "model.safetensors").read_bytes())
    assert seen[0] == seen[2] != seen[1]


def test_what_decides_a_run_names_it(tuned: tuple[TuneTask, dict]) -> None:
    task, _ = tuned
    assert replace(task, out="elsewhere", seeds=(5,), at_once=3).key == task.key
    assert replace(task, lr=1e-4).key != task.key
    assert replace(task, aids=Aids(rdrop=1.0)).key != task.key


@pytest.mark.parametrize(
    ("kind", "measure", "least"),
    [("multilabel", "micro_f1", 0.6), ("regress", "spearman", 0.75), ("tag", "span_f1", 0.8), ("answer", "f1", 0.8)],
)
def test_every_kind_learns_what_can_be_read_off(
    model: str, tmp_path: Path, kind: str, measure: str, least: float
) -> None:
    result = made(task_of(model, tmp_path, kind, seeds=(1,), epochs=8))
    test = result["parts"]["test"]
    assert test["pretrained"][measure]["mean"] > max(least, test["majority"][measure] + 0.1)


def test_tags_without_prefixes_are_spans_of_one_word(
    model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is asked and scored is the same as of B- alone."""
    with_prefix = made(task_of(model, tmp_path / "b", "tag", seeds=(1,)))
    for name in ("big", "B_big"):
        monkeypatch.setitem(NAMES, "tag", ["O", name])
        result = made(task_of(model, tmp_path / name, "tag", seeds=(1,)))
        assert result["parts"] == with_prefix["parts"]
        assert result["slices"] == with_prefix["slices"]


def test_true_answers_decide_a_score(model: str, tmp_path: Path) -> None:
    task = task_of(model, tmp_path, "answer", seeds=(1,), epochs=1)
    first = made(task)["parts"]["test"]["pretrained"]["f1"]["mean"]
    golds = {place: one | {"answers": ["no such words"]} for place, one in task.truth["test"].items()}
    again = replace(task, truth={**task.truth, "test": golds})
    assert again.key != task.key
    assert first > 0 == made(again)["parts"]["test"]["pretrained"]["f1"]["mean"]


def test_texts_find_what_belongs_to_them(model: str, tmp_path: Path) -> None:
    result = made(task_of(model, tmp_path, "embed", seeds=(1,), epochs=3))
    before = made(task_of(model, tmp_path, "embed", seeds=(1,), epochs=1, lr=1e-9))
    score = result["parts"]["test"]["pretrained"]["found_first"]["mean"]
    assert score >= before["parts"]["test"]["pretrained"]["found_first"]["mean"]
    assert score > 0.8


AIDS = {
    "balance": "sampling",
    "smoothing": 0.1,
    "layerwise": 0.5,
    "fresh_top": 1,
    "rdrop": 1.0,
    "sift": 1e4,  # a small move of a small model changes little
    "mixout": 0.3,
    "layerdrop": 0.4,
    "lora": 2,
    "unfreeze": 1,
}


@pytest.mark.parametrize("name", AIDS)
def test_an_aid_changes_a_run_and_is_a_function_of_its_seed(model: str, tmp_path: Path, name: str) -> None:
    plain = task_of(model, tmp_path, "classify", train=48, seeds=(1,), epochs=2, dropout=0.1)
    aided = replace(plain, aids=Aids(**{name: AIDS[name]}), out=str(tmp_path / "one"))
    torch.manual_seed(5)
    losses = []
    for task in (plain, aided, replace(aided, out=str(tmp_path / "two"))):
        made(task)
        losses.append(found(task, task.runs[0])[0]["losses"])
    assert losses[1] == losses[2]
    assert losses[0] != losses[1]
    torch.manual_seed(5)
    assert torch.rand(1) == torch.rand(1, generator=torch.Generator().manual_seed(5)), (
        "the stream outside is left alone"
    )


@pytest.mark.parametrize("aids", [Aids(), Aids(balance="inverse", smoothing=0.1), Aids(mixout=0.2)])
def test_parts_of_a_batch_add_up(model: str, tmp_path: Path, aids: Aids) -> None:
    whole = task_of(model, tmp_path, "classify", train=50, seeds=(1,), epochs=2, dtype="float32", aids=aids)
    parted = replace(whole, at_once=5, out=str(tmp_path / "parted"))
    for task in (whole, parted):
        made(task)
    one, two = (found(task, task.runs[0]) for task in (whole, parted))
    assert one[0]["losses"] == pytest.approx(two[0]["losses"], abs=1e-5)
    np.testing.assert_allclose(one[1]["test"]["logits"], two[1]["test"]["logits"], atol=2e-3)


def test_with_patience_the_best_on_dev_stays(model: str, tmp_path: Path) -> None:
    task = task_of(model, tmp_path, "classify", seeds=(1,), epochs=12, lr=2e-2, aids=Aids(patience=3))
    made(task)
    told, said = found(task, task.runs[0])
    best = int(np.argmax(told["dev"]))
    assert len(told["dev"]) == min(12, best + 4)
    dev = read(task, SHAPE.length)["dev"]
    assert (said["dev"]["logits"].argmax(1) == np.asarray(dev.targets)).mean() == pytest.approx(told["dev"][best])


def test_a_run_whose_loss_is_no_number_failed(model: str, tmp_path: Path) -> None:
    result = made(task_of(model, tmp_path, "classify", train=64, lr=1e30, seeds=(1, 2), epochs=2))
    assert result["parts"]["test"]["pretrained"]["failed"]["share"] == 1.0


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"kind": "sort"}, "no kind of fine-tuning"),
        ({"seeds": ()}, "without a seed"),
        ({"parts": {"test": "x"}}, "nothing to train on"),
        ({"epochs": 0}, "epochs is 0"),
        ({"lr": math.nan}, "lr is nan"),
        ({"lr": math.inf}, "lr is inf"),
        ({"dropout": 1.5}, "dropout is 1.5; give a number from 0 to 1"),
        ({"temperature": 0.0}, "temperature is 0.0"),
        ({"aids": Aids(patience=1), "parts": {"train": "x"}}, "give a dev part"),
    ],
)
def test_what_is_no_task_is_named(model: str, tmp_path: Path, more: dict, words: str) -> None:
    given = {"model": model, "kind": "classify", "parts": {"train": "a", "dev": "b"}, "specials": IDS, "out": "o"}
    with pytest.raises(ValueError, match=words):
        TuneTask(**(given | more))


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"balance": "luck"}, "not balanced by"),
        ({"mixout": 1.0}, "mixout is 1.0"),
        ({"lora": 2, "unfreeze": 1}, "LoRA"),
        ({"lora": 2, "mixout": 0.1}, "mixout has nothing to mix"),
        ({"rdrop": math.nan}, "rdrop is nan"),
        ({"sift": math.inf}, "sift is inf"),
        ({"smoothing": math.nan}, "smoothing is nan"),
        ({"layerwise": math.nan}, "layerwise is nan"),
    ],
)
def test_what_is_no_aid_is_named(more: dict, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Aids(**more)


def test_parts_of_other_classes_and_rows_that_are_too_long_are_refused(model: str, tmp_path: Path) -> None:
    task = task_of(model, tmp_path, "classify", train=20)
    part(tmp_path, "test", "classify", rows("classify", 5, 3), names=["high", "low"])
    with pytest.raises(ValueError, match="test is of classify with high, low, and train of classify with low, high"):
        tune(task, 0, 1, lambda line: None)
    long = rows("classify", 1, 3)
    long[0]["tokens"] = [5] * 60
    part(tmp_path, "test", "classify", long)
    with pytest.raises(ValueError, match="a row of 62 tokens with its frame, and the model reads 48"):
        tune(task, 0, 1, lambda line: None)


def test_smaller_models_learn_faster() -> None:
    assert rate_of(110_000_000) == pytest.approx(3e-5)
    assert rate_of(400_000_000) < 3e-5 < rate_of(10_000_000) < rate_of(1_000_000) <= 1e-3


def test_vectors_that_fell_together_find_nothing():
    same = np.full((50, 2, 8), 8**-0.5)
    found = finetune_kinds.of_pairs(same)
    assert found["found_first"] == pytest.approx(1 / 50)
    assert found["reciprocal_rank"] == pytest.approx(1 / 25.5)
    assert finetune_kinds.of_pairs(np.full((5, 2, 8), np.nan))["found_first"] == pytest.approx(1 / 5)
    apart = np.stack([np.eye(6)] * 2, 1)
    assert finetune_kinds.of_pairs(apart) == {"found_first": 1.0, "reciprocal_rank": 1.0}


def test_a_run_that_fails_leaves_no_weights_and_is_not_made_again(model, tmp_path, monkeypatch):
    task = task_of(model, tmp_path, "classify", epochs=1, seeds=(1,), scratch=False)
    finetune_runs.tune(task, 0, 1, lambda line: None)
    assert (tmp_path / "out" / "config.json").exists()
    lost = replace(task, lr=1e30, epochs=3)
    finetune_runs.tune(lost, 0, 1, lambda line: None)
    assert json.loads((tmp_path / "out" / "result.json").read_text())["runs"][0]["failed"]
    assert not (tmp_path / "out" / "config.json").exists(), "those of the earlier task are not this one's"
    monkeypatch.setattr(finetune_runs, "trained", None)
    finetune_runs.tune(lost, 0, 1, lambda line: None)
