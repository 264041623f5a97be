"""Online code length: what sending the labels costs, block by block, by models trained on those sent before."""

import json
import math
from dataclasses import replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.test_finetune_runs import SHAPE, part, rows, task_of
from tests.test_search import small
from tundish.operators.model import certainty
from tundish.stages import finetune_code
from tundish.stages.finetune_code import alone, between, code_length, labels_of, nats, runs_of, sent, sizes_of
from tundish.stages.finetune_kinds import asked, true_tags
from tundish.stages.finetune_one import trained
from tundish.stages.finetune_rows import Rows
from tundish.stages.finetune_runs import read, tune
from tundish.stages.finetune_task import Aids, Run, TuneTask
from tundish.stages.hub import weights_of

torch.set_num_threads(1)
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return small(tmp_path_factory.mktemp("model"))


def made(task: TuneTask) -> dict[str, Any]:
    code_length(task, 0, 1, lambda line: None)
    return json.loads((Path(task.out) / "code.json").read_text())


def rows_of(task: TuneTask) -> Rows:
    return read(task, SHAPE.length)["train"]


@pytest.fixture(scope="module")
def coded(model: str, tmp_path_factory: pytest.TempPathFactory) -> tuple[TuneTask, dict[str, Any]]:
    task = task_of(model, tmp_path_factory.mktemp("coded"), "classify", train=96, scratch=True, epochs=2)
    return task, made(task)


def slow_nats(rows: Rows, logits: np.ndarray) -> float:
    """Label by label."""
    total = 0.0
    if rows.kind == "multilabel":
        for each, truth in zip(logits.tolist(), np.asarray(rows.targets).tolist(), strict=True):
            for logit, true in zip(each, truth, strict=True):
                chance = 1 / (1 + math.exp(-logit))
                total -= math.log(chance if true else 1 - chance)
        return total
    truths = rows.targets if rows.kind == "classify" else true_tags(rows)
    for each, true in zip(logits.tolist(), np.asarray(truths).tolist(), strict=True):
        total -= math.log(math.exp(each[true]) / sum(math.exp(one) for one in each))
    return total


@pytest.mark.parametrize("kind", ["classify", "multilabel", "tag"])
def test_nats_are_the_labels_log_losses(model: str, tmp_path: Path, kind: str) -> None:
    task = task_of(model, tmp_path, kind, train=30)
    rows = rows_of(task)
    labels = labels_of(rows)
    some = between(rows, 7, 19)
    draw = np.random.default_rng(1)
    shape = (len(true_tags(some)) if kind == "tag" else 12, rows.classes)
    logits = draw.normal(0, 3, shape)
    assert nats(some, logits) == pytest.approx(slow_nats(some, logits), rel=1e-9)
    assert nats(some, np.zeros(shape)) == pytest.approx(labels.each[7:19].sum() * math.log(labels.classes))
    if kind != "multilabel":
        assert nats(some, logits + 1e4) == pytest.approx(nats(some, logits), rel=1e-6), "no overflow"
    assert math.isfinite(nats(some, 1e4 * logits))


def test_a_block_is_the_rows_it_names(model: str, tmp_path: Path) -> None:
    for kind in ("classify", "tag"):
        (tmp_path / kind).mkdir()
        rows = rows_of(task_of(model, tmp_path / kind, kind, train=30))
        some = between(rows, 7, 19)
        wanted = rows.batch(range(7, 19), CPU)
        found = some.batch(range(12), CPU)
        assert torch.equal(found.tokens, wanted.tokens)
        assert torch.equal(found.target, wanted.target)  # type: ignore[arg-type]
        assert [*labels_of(some).each] == [*labels_of(rows).each[7:19]]


def test_blocks_end_at_the_shares_that_hold_enough(coded: tuple[TuneTask, dict[str, Any]]) -> None:
    rows = rows_of(coded[0])
    assert sizes_of(rows) == [6, 12, 24, 48, 96]
    many = replace(rows, table=rows.table.take(np.arange(20_000) % 96))
    assert sizes_of(many) == [20, 40, 80, 160, 320, 640, 1250, 2500, 5000, 10_000, 20_000]
    assert sizes_of(between(rows, 0, 5)) == [5]
    assert sizes_of(replace(many, names=tuple(map(str, range(100)))))[0] == 160


def test_the_code_is_what_models_of_the_rows_before_say(coded: tuple[TuneTask, dict[str, Any]]) -> None:
    """By hand: train on the first so many rows, ask for those behind."""
    task, told = coded
    shape, weights = weights_of(task.model)
    train = sent(rows_of(task))
    sizes = [6, 12, 24, 48, 96]
    for start, pretrained in (("pretrained", True), ("fresh", False)):
        losses = []
        for first, last in pairwise(sizes):
            model, _ = trained(
                task, Run(pretrained, 2, first), shape, weights, {"train": train}, CPU, lambda *_: None
            )  # fmt: skip
            said = asked(task, model, train, CPU, torch.float32)["logits"][first:last]
            losses.append(slow_nats(between(train, first, last), said))
        wanted = certainty.code_length(sizes, losses, 2)
        assert told[start]["bits"]["seeds"][1] == pytest.approx(wanted.bits, rel=1e-4)
        assert told[start]["compression"]["seeds"][1] == pytest.approx(wanted.compression, rel=1e-4)
        points = [point["seeds"][1] for point in told[start]["bits_a_label"]]
        counts = np.diff(sizes)
        assert points == pytest.approx(
            [loss / math.log(2) / n for loss, n in zip(losses, counts, strict=True)], rel=1e-4
        )
    assert told["uniform"] == pytest.approx(96)
    ahead = np.subtract(told["fresh"]["bits"]["seeds"], told["pretrained"]["bits"]["seeds"])
    assert told["saved"]["mean"] == pytest.approx(ahead.mean(), abs=1e-4)
    assert told["saved"]["interval"] == pytest.approx(list(certainty.over_seeds(ahead)[1:]), abs=1e-3)


def counted_off(labels: list[int]) -> float:
    """How often the label that lags most behind its share, of those sent before, is the one that comes."""
    hits, had = 0, [0, 0]
    for at, label in enumerate(labels):
        hits += label == int(np.argmax([labels.count(one) / len(labels) * (at + 1) - had[one] for one in (0, 1)]))
        had[label] += 1
    return hits / len(labels)


def test_labels_do_not_follow_from_those_sent_before(tmp_path: Path) -> None:
    """Train lies so that its classes take turns; a receiver who counts would know every label."""
    given = rows("classify", 400, 1)
    for at, row in enumerate(given):
        row["label"] = at % 2
    task = task_of("", tmp_path, "classify")
    part(tmp_path, "train", "classify", given)
    train = rows_of(task)
    assert counted_off(np.asarray(train.targets).tolist()) > 0.99
    assert counted_off(np.asarray(sent(train).targets).tolist()) < 0.56
    part(tmp_path, "train", "classify", [row | {"label": 1 - row["label"]} for row in given[::-1]])
    turned = sent(rows_of(task)).table
    assert turned["id"].to_pylist() == sent(train).table["id"].to_pylist(), "whatever the labels, and where rows lie"
    assert turned["label"].to_pylist() == [1 - label for label in sent(train).table["label"].to_pylist()]


def test_windows_of_a_sentence_are_sent_as_they_lie(tmp_path: Path) -> None:
    task, given = task_of("", tmp_path, "tag"), rows("tag", 30, 1)
    part(tmp_path, "train", "tag", [row | {"window": window} for row in given for window in range(3)])
    found = sent(rows_of(task)).table
    assert found["window"].to_pylist() == [0, 1, 2] * 30
    assert all(len(set(found["id"].to_pylist()[at : at + 3])) == 1 for at in range(0, 90, 3))


def test_blocks_that_were_sent_in_another_order_are_made_anew(
    coded: tuple[TuneTask, dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    task, (run, _) = alone(coded[0]), runs_of(coded[0], [6, 12])[0]
    assert finetune_code.sealed(task, run) is not None
    assert not (Path(task.out) / "code" / f"{task.of(run).key}-{run.name}.json").exists(), "where older ones lie"
    monkeypatch.setattr(finetune_code, "ORDER", "another")
    assert finetune_code.sealed(task, run) is None


def test_what_can_be_learnt_is_sent_in_fewer_bits(model: str, tmp_path: Path) -> None:
    task = task_of(model, tmp_path, "classify", train=320, seeds=(1,), epochs=6)
    told = made(task)
    assert told["pretrained"]["compression"]["mean"] > 1.2
    points = told["pretrained"]["bits_a_label"]
    assert points[-1]["mean"] < 0.75 < points[0]["mean"]


def test_nothing_else_is_changed_and_blocks_are_sealed(
    coded: tuple[TuneTask, dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    task, told = coded
    again: list[str] = []
    before = finetune_code.trained
    monkeypatch.setattr(finetune_code, "trained", lambda *given: again.append(given[1].name) or before(*given))
    folder = Path(task.out)
    assert sorted(each.name for each in folder.iterdir()) == ["code", "code.json", "took"]
    lost = next((folder / "code").glob("*-fresh-1-of-24.json"))
    lost.unlink()
    assert made(task) == told
    assert again == ["fresh-1-of-24"]
    (folder.parent / "test.arrow").write_bytes(b"")
    (folder.parent / "dev.arrow").write_bytes(b"")
    assert made(task) == told, "neither test nor dev is looked at"


def test_a_run_of_the_curve_is_the_same_with_a_code_beside_it(model: str, tmp_path: Path) -> None:
    task = task_of(model, tmp_path, "classify", train=24, seeds=(1,), epochs=1)
    tune(task, 0, 1, lambda line: None)
    seen = {path.name: path.read_bytes() for path in (Path(task.out) / "runs").iterdir()}
    made(task)
    tune(task, 0, 1, lambda line: None)
    assert {path.name: path.read_bytes() for path in (Path(task.out) / "runs").iterdir()} == seen


def test_a_model_that_failed_sends_uniformly(model: str, tmp_path: Path) -> None:
    told = made(task_of(model, tmp_path, "classify", train=24, seeds=(1,), epochs=2, lr=1e30))
    assert told["pretrained"]["failed"] == len(told["sizes"]) - 1
    assert told["pretrained"]["compression"]["mean"] == pytest.approx(1.0)


def test_tags_are_counted_by_word_and_patience_asks_dev(model: str, tmp_path: Path) -> None:
    task = task_of(model, tmp_path, "tag", train=40, seeds=(1,), epochs=2, aids=Aids(patience=1))
    assert set(alone(task).parts) == {"train", "dev"}
    told = made(task)
    assert told["uniform"] == pytest.approx(len(true_tags(rows_of(task))))
    assert told["classes"] == 2


def test_longest_first_and_kinds_without_classes_are_refused(model: str, tmp_path: Path) -> None:
    task = task_of(model, tmp_path, "regress", train=20, scratch=True)
    runs = runs_of(task, [5, 10, 20])
    assert [(run.size, end) for run, end in runs] == [(10, 20)] * 4 + [(5, 10)] * 4
    assert {run.pretrained for run, _ in runs} == {True, False}
    with pytest.raises(ValueError, match="regress has no classes to send"):
        partial(code_length, task)(0, 1, lambda line: None)
