"""Whose weights stay when runs fail: those of the first seed that did not, and everything says so; of none, none."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from tests.test_finetune_runs import IDS, model, task_of  # noqa: F401  (a fixture)
from tests.test_tuned_page import result as page_result
from tundish.pipeline import card_tuned, tuned_training
from tundish.pipeline.export import export
from tundish.pipeline.funnel import ran
from tundish.stages import finetune_runs
from tundish.stages.finetune_task import AIDED, Aids, Run, TuneTask
from tundish.stages.tuned import temperature_of


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[Run]:
    """Seed 1 fails; which runs were trained."""
    made, trained = list[Run](), finetune_runs.trained

    def failing(task: TuneTask, run: Run, *given: Any) -> Any:
        made.append(run)
        tuned, outcome = trained(task, run, *given)
        outcome.failed = "the loss was nan in epoch 1" if run.seed == 1 else ""
        return tuned, outcome

    monkeypatch.setattr(finetune_runs, "trained", failing)
    return made


def tell(line: dict[str, Any]) -> None:
    pass


def test_the_first_seed_that_did_not_fail_leaves_its_weights(model: str, tmp_path: Path, calls: list[Run]) -> None:  # noqa: F811
    task = task_of(model, tmp_path, "classify", train=32, epochs=1, seeds=(1, 2, 3))
    out = Path(task.out)
    finetune_runs.tune(task, 0, 1, tell)
    config, result = (json.loads((out / name).read_text()) for name in ("config.json", "result.json"))
    assert config["run"] == result["kept"] == "pretrained-2"
    assert tuned_training.stayed(result)["seed"] == 2
    assert temperature_of(task.out) == result["calibration"]["test"]["temperatures"][0]
    alone = replace(task, seeds=(2,), out=str(tmp_path / "alone"))
    finetune_runs.tune(alone, 0, 1, tell)
    weights, others = (load_file(each / "model.safetensors") for each in (out, tmp_path / "alone"))
    assert all(weights[name].equal(others[name]) for name in others)
    assert [run.seed for run in calls] == [1, 2, 3, 2]
    finetune_runs.tune(task, 0, 1, tell)
    assert len(calls) == 4, "all is there"
    (out / "model.safetensors").unlink()
    finetune_runs.tune(task, 0, 1, tell)
    assert [run.seed for run in calls[4:]] == [2]
    assert (out / "model.safetensors").exists()
    finetune_runs.tune(replace(task, seeds=(3, 2)), 0, 1, tell)
    assert json.loads((out / "config.json").read_text())["run"] == "pretrained-3", "by the order of the seeds asked for"


def test_where_all_fail_there_is_no_model_and_export_says_so(model: str, tmp_path: Path, calls: list[Run]) -> None:  # noqa: F811
    task = task_of(model, tmp_path, "classify", train=32, epochs=1, seeds=(1,))
    finetune_runs.tune(task, 0, 1, tell)
    assert json.loads((tmp_path / "out" / "result.json").read_text())["kept"] is None
    with pytest.raises(ValueError, match="has no weights, for all its runs failed; fine-tune there again"):
        export(task.out, str(tmp_path / "over"))
    with pytest.raises(ValueError, match="is no record of a run; give the root of a recipe"):
        ran(task.out)


def test_the_card_says_whose_weights_these_are() -> None:
    told = page_result()
    for run in told["runs"]:
        run["failed"] = "the loss was nan in epoch 1" if run["seed"] == told["seeds"][0] else ""
    assert "those of seed 2, the first whose run did not fail; no run was chosen" in " ".join(card_tuned._reading(told))
    part = told["tested"][0]
    second = next(run for run in told["runs"] if run["pretrained"] and run["seed"] == 2)
    assert card_tuned.own_scores(told, part) == second["scores"][part]
    took = {"runs": [{"name": f"pretrained-{n}", "flops": n * 1e9, "seconds": None, "device": None} for n in (1, 2)]}
    assert dict(card_tuned._took(took, "pretrained-2"))["compute, these weights"].startswith("2 GFLOP")


OTHER = {"balance": "inverse", "smoothing": 0.1, "rdrop": 1.0, "sift": 1.0, "unfreeze": 1}


@pytest.mark.parametrize("aid", OTHER)
@pytest.mark.parametrize("kind", ["classify", "multilabel", "regress", "tag", "answer", "embed", "write"])
def test_an_aid_that_a_kind_cannot_take_is_refused_at_once(kind: str, aid: str) -> None:
    def made() -> TuneTask:
        return TuneTask("", kind, {"train": "", "dev": ""}, IDS, "", aids=Aids(**{aid: OTHER[aid]}))

    if kind in AIDED[aid]:
        assert made().kind == kind
    else:
        with pytest.raises(ValueError, match=f"the aid {aid} is of .*, and not of {kind}; leave it out"):
            made()


@pytest.mark.parametrize(
    ("kind", "aids"),
    [(kind, Aids(**{aid: OTHER[aid]})) for aid in OTHER for kind in AIDED[aid] if kind != "write"],
    ids=lambda each: each if isinstance(each, str) else "",
)
def test_an_aid_that_a_kind_takes_trains(model: str, tmp_path: Path, kind: str, aids: Aids) -> None:  # noqa: F811
    task = task_of(model, tmp_path, kind, train=8, epochs=1, seeds=(1,), batch=8, aids=aids)
    finetune_runs.tune(task, 0, 1, tell)
    assert json.loads((tmp_path / "out" / "result.json").read_text())["kept"] == "pretrained-1"
