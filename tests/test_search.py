"""A search over settings: trials that are functions of seed and number, scored on dev alone, sealed one by one."""

import contextlib
import json
import math
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from tests.test_finetune_runs import IDS, SHAPE, task_of
from tundish.cluster.local import Local
from tundish.operators.model.certainty import expected_best
from tundish.operators.model.family import Model
from tundish.operators.model.init import initialise
from tundish.stages import search as searching
from tundish.stages.finetune_kinds import scored
from tundish.stages.finetune_one import trained
from tundish.stages.finetune_runs import read
from tundish.stages.finetune_task import Aids, Run
from tundish.stages.hub import weights_of
from tundish.stages.ranks import Ranks
from tundish.stages.search import Search, best_of, chosen, lying, result_of, score_of, sealed, search
from tundish.stages.search_asha import LOWEST, stopped, trial
from tundish.stages.search_space import applied, drawn, space_of

torch.set_num_threads(1)
SPACE = ("lr=1e-4..1e-2:log", "batch=8,16", "epochs=1..3", "aid.layerwise=0.8..1.0")


def small(folder: Path) -> str:
    """A model's folder, its weights drawn and nothing learnt."""
    with torch.device("meta"):
        fresh = Model(SHAPE)
    initialise(fresh, SHAPE, seed=1)
    save_file({name: each.contiguous() for name, each in fresh.state_dict().items()}, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps({"shape": asdict(SHAPE), "specials": IDS}))
    return str(folder)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return small(tmp_path_factory.mktemp("model"))


def plan_of(model: str, folder: Path, space: tuple[str, ...] = SPACE, **more: Any) -> Search:
    return Search(task_of(model, folder, "classify", train=48, dropout=0.1), space_of(space), **({"trials": 3} | more))


def odd(said: str) -> None:
    raise AssertionError(f"{said} is no JSON")


def made(plan: Search) -> dict[str, Any]:
    search(plan, 0, 1, lambda line: None)
    return json.loads((Path(plan.task.out) / "search.json").read_text(), parse_constant=odd)


# -- the space


def test_settings_are_drawn_as_they_are_said() -> None:
    draws = [drawn(space_of(SPACE), 7, number) for number in range(3000)]
    places = np.array([math.log(one["lr"] / 1e-4) / math.log(100) for one in draws])
    assert places.min() >= 0
    assert places.max() <= 1
    assert np.quantile(places, [0.1, 0.5, 0.9]) == pytest.approx([0.1, 0.5, 0.9], abs=0.03), "even in the logarithm"
    layers = np.array([one["aid.layerwise"] for one in draws])
    assert np.quantile(layers, [0.0, 0.25, 0.75, 1.0]) == pytest.approx([0.8, 0.85, 0.95, 1.0], abs=0.01)
    for name, values in (("batch", (8, 16)), ("epochs", (1, 2, 3))):
        counts = Counter(one[name] for one in draws)
        assert set(counts) == set(values)
        assert all(type(value) is int for value in counts)
        assert all(abs(count / 3000 - 1 / len(values)) < 0.04 for count in counts.values())
    wide = Counter(drawn(space_of(["batch=1..64:log"]), 1, number)["batch"] for number in range(2000))
    assert {1, 64} <= set(wide) <= set(range(1, 65))
    assert wide[1] > 5 * wide[32] > 0


def test_draws_are_independent_of_each_other() -> None:
    both = [drawn(space_of(SPACE), 1, number) for number in range(2000)]
    columns = np.array([[math.log(one["lr"]), one["batch"], one["epochs"], one["aid.layerwise"]] for one in both])
    apart = np.corrcoef(columns.T) - np.eye(4)
    assert np.abs(apart).max() < 0.08
    assert abs(np.corrcoef(columns[:-1, 0], columns[1:, 0])[0, 1]) < 0.08, "a trial does not follow from the last"


def test_a_trial_is_a_function_of_seed_and_number_and_keeps_what_it_has() -> None:
    whole, part = space_of(SPACE), space_of(SPACE[:1])
    assert drawn(whole, 1, 4) == drawn(space_of(SPACE[::-1]), 1, 4)
    assert drawn(whole, 1, 4)["lr"] == drawn(part, 1, 4)["lr"]
    assert len({drawn(part, seed, number)["lr"] for seed in (1, 2) for number in range(5)}) == 10


def test_a_setting_goes_to_the_task_and_its_aids(model: str, tmp_path: Path) -> None:
    task = task_of(model, tmp_path, "classify", train=8, aids=Aids(smoothing=0.1))
    found = applied(task, {"lr": 0.5, "epochs": 9, "aid.rdrop": 2.0})
    assert (found.lr, found.epochs, found.batch) == (0.5, 9, task.batch)
    assert found.aids == Aids(smoothing=0.1, rdrop=2.0)
    words = space_of(["aid.balance=,sampling"])
    assert {drawn(words, 1, number)["aid.balance"] for number in range(20)} == {"", "sampling"}


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (["lr"], "names no setting"),
        (["leyers=1..2"], "names no setting"),
        (["aid.layrwise=0.1..1"], "did you mean aid.layerwise?"),
        (["epochs=2..2.5"], "epochs takes int and not '2.5'"),
        (["lr=1e-3..1e-5"], "no room; give the lower end first"),
        (["lr=0..1:log"], "above 0"),
        (["lr=1e-5..1e-3:even"], "is no range"),
        (["aid.balance=root..inverse"], "is no range"),
        (["lr=nan"], "nan is no setting"),
        (["lr=1e-4..inf"], "inf is no setting"),
        (["lr=1", "lr=2"], "lr twice"),
        ([], "no settings to search in"),
    ],
)
def test_what_is_no_space_is_named(given: list[str], words: str) -> None:
    with pytest.raises(ValueError, match=words.replace("?", r"\?")):
        space_of(given)


def test_what_a_task_refuses_is_refused_before_the_first_trial(model: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="smoothing is 1"):
        plan_of(model, tmp_path, ("aid.smoothing=0.0,1.0",), trials=20)
    for space, words in (
        ("aid.fresh_top=0..9", f"and the model has {SHAPE.layers} blocks"),
        ("pooling=mean,luck", "cannot be pooled by 'luck'"),
        ("dropout=0..2", "dropout is 1"),
    ):
        with pytest.raises(ValueError, match=words):
            plan_of(model, tmp_path, (space,), trials=20)
    assert plan_of(model, tmp_path, (f"aid.fresh_top=0..{SHAPE.layers}",), trials=20).trials == 20
    with pytest.raises(ValueError, match="no search called 'grid'"):
        plan_of(model, tmp_path, how="grid")
    with pytest.raises(ValueError, match="0 trials"):
        plan_of(model, tmp_path, trials=0)
    task = task_of(model, tmp_path, "classify", train=8)
    with pytest.raises(ValueError, match="no dev part"):
        Search(replace(task, parts={"train": task.parts["train"]}), space_of(SPACE))


# -- the trials


@pytest.fixture(scope="module")
def searched(model: str, tmp_path_factory: pytest.TempPathFactory) -> tuple[Search, dict[str, Any]]:
    plan = plan_of(model, tmp_path_factory.mktemp("searched"), trials=4)
    Path(plan.task.parts["test"]).unlink()  # no test has a say, so none need be there
    return plan, made(plan)


def twin(plan: Search, number: int) -> list[float]:
    """The scores on dev of the same training, by hand."""
    task = applied(plan.task, drawn(plan.space, plan.seed, number))
    shape, weights = weights_of(task.model)
    parts = read(replace(task, parts={name: task.parts[name] for name in ("train", "dev")}), shape.length)
    run = Run(True, plan.run(number).seed)
    _, outcome = trained(task, run, shape, weights, parts, torch.device("cpu"), lambda *_: None)
    return [scored(task, parts["dev"], outcome.said["dev"])["accuracy"]]


def test_a_trial_is_a_training_scored_on_dev(searched: tuple[Search, dict[str, Any]]) -> None:
    plan, told = searched
    assert [one["setting"] for one in told["trials"]] == [drawn(plan.space, plan.seed, n) for n in range(4)]
    assert [len(one["dev"]) for one in told["trials"]] == [one["setting"]["epochs"] for one in told["trials"]]
    for number in (0, 3):
        assert [told["trials"][number]["score"]] == twin(plan, number)
    assert len({one["seed"] for one in told["trials"]}) == 4
    assert not {one["seed"] for one in told["trials"]} & set(range(1, 1000)), "seeds that tests are scored with"


def test_the_best_is_chosen_and_what_was_to_be_expected_told(searched: tuple[Search, dict[str, Any]]) -> None:
    plan, told = searched
    scores = [one["score"] for one in told["trials"]]
    assert told["best"]["score"] == max(scores)
    assert told["best"]["number"] == scores.index(max(scores))
    mean, deviation = expected_best(scores)
    assert [one["mean"] for one in told["expected_best"]] == pytest.approx(mean.tolist(), abs=1e-6)
    assert [one["deviation"] for one in told["expected_best"]] == pytest.approx(deviation.tolist(), abs=1e-6)
    assert told["ends"] == {"whole": 4, "stopped": 0, "failed": 0}
    task, _ = chosen(plan)
    assert task == applied(plan.task, told["best"]["setting"])
    assert task.parts == plan.task.parts, "the chosen task is tested again"


def test_a_search_goes_on_where_it_was(
    searched: tuple[Search, dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    plan, told = searched
    place = searching._place(plan, 2)
    Path(place).unlink()
    again: list[int] = []
    before = searching.trained
    monkeypatch.setattr(searching, "trained", lambda *given: again.append(given[1].seed) or before(*given))
    assert made(plan) == told
    assert again == [plan.run(2).seed]
    more = made(replace(plan, trials=5))
    assert more["trials"][:4] == told["trials"]
    assert len(again) == 2


def test_each_rank_makes_its_trials_and_the_first_tells_them(
    searched: tuple[Search, dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second rank, and then the first, in this process; they need not meet."""
    plan, told = searched
    other = replace(plan, task=replace(plan.task, out=str(tmp_path)))
    monkeypatch.setattr(
        searching, "joined", lambda *_: contextlib.nullcontext(Ranks(0, 1, torch.device("cpu")))
    )  # fmt: skip
    search(other, 1, 2, lambda line: None)
    assert [sealed(other, number) is not None for number in range(4)] == [False, True, False, True]
    assert not (tmp_path / "search.json").exists()
    search(other, 0, 2, lambda line: None)
    assert json.loads((tmp_path / "search.json").read_text()) == told


@pytest.mark.slow
def test_ranks_share_the_trials(searched: tuple[Search, dict[str, Any]], tmp_path: Path) -> None:
    plan, told = searched
    other = replace(plan, task=replace(plan.task, out=str(tmp_path)))
    Local().gang("Search", partial(search, other), size=2)
    assert json.loads((tmp_path / "search.json").read_text()) == told


def test_a_trial_whose_loss_is_no_number_counts_as_the_majority(model: str, tmp_path: Path) -> None:
    plan = plan_of(model, tmp_path, ("lr=1e-3,1e30",), trials=4)
    told = made(plan)
    ends = ["failed" if one["setting"]["lr"] == 1e30 else "whole" for one in told["trials"]]
    assert {"failed", "whole"} == set(ends), "both are drawn"
    assert [one["end"] for one in told["trials"]] == ends
    assert [one["score"] is None for one in told["trials"]] == [end == "failed" for end in ends]
    parts = read(plan.task, SHAPE.length)
    often = np.bincount(parts["train"].targets).argmax()
    floor = float((parts["dev"].targets == often).mean())
    counted = [floor if one["score"] is None else one["score"] for one in told["trials"]]
    assert told["expected_best"][0]["mean"] == pytest.approx(np.mean(counted), abs=1e-6)
    with pytest.raises(ValueError, match="search lower learning rates"):
        made(plan_of(model, tmp_path, ("lr=1e30",), trials=2))


def test_the_best_ended_and_comes_first() -> None:
    def trials(*ends: str) -> list[dict[str, Any]]:
        return [{"end": end, "failed": ""} for end in ends]

    assert best_of(trials("whole", "stopped", "whole"), [0.5, 0.9, 0.7]) == 2
    assert best_of(trials("whole", "whole", "failed"), [0.5, 0.5, None]) == 0
    assert best_of(trials("stopped", "stopped", "failed"), [0.5, 0.6, None]) == 1


def test_with_patience_the_best_epoch_is_scored(model: str, tmp_path: Path) -> None:
    task = task_of(model, tmp_path, "classify", train=8)
    told = {"end": "whole", "dev": [0.5, 0.7, 0.6]}
    assert score_of(task, told) == 0.6
    assert score_of(replace(task, aids=Aids(patience=2)), told) == 0.7
    assert score_of(task, told | {"end": "failed"}) is None


# -- trials that may be stopped


Stop = Callable[[int, float], None]


def stopping(after: int, heard: list[tuple[int, float]]) -> Stop:
    def report(epochs: int, score: float) -> None:
        heard.append((epochs, score))
        if len(heard) == after:
            raise SystemExit  # as a process ends whose trial is stopped

    return report


def test_a_trial_of_both_ways_is_the_same(searched: tuple[Search, dict[str, Any]], tmp_path: Path) -> None:
    plan, told = searched
    number = max(range(4), key=lambda n: plan.settings[n]["epochs"])
    other = replace(plan, task=replace(plan.task, out=str(tmp_path)), how="asha")
    heard: list[tuple[int, float]] = []
    trial(other, number, stopping(99, heard))
    assert sealed(other, number) == lying(plan, number)
    assert heard == list(enumerate(told["trials"][number]["dev"], 1))
    again: list[tuple[int, float]] = []
    trial(replace(plan, how="asha"), number, stopping(99, again))
    assert again == heard, "one that is there tells what it had told"


def test_a_trial_that_is_stopped_is_sealed_as_far_as_it_came(model: str, tmp_path: Path) -> None:
    plan = plan_of(model, tmp_path, ("lr=1e-3..1e-2:log",), trials=1, how="asha")
    heard: list[tuple[int, float]] = []
    with pytest.raises(SystemExit):
        trial(plan, 0, stopping(2, heard))
    assert (lying(plan, 0) or {})["end"] == ""
    assert sealed(plan, 0) is None, "one that was cut off is made again"
    stopped(plan, 0, 2)
    told = sealed(plan, 0)
    assert told is not None
    assert told["end"] == "stopped"
    assert [*enumerate(told["dev"], 1)] == heard
    assert sealed(replace(plan, how="random"), 0) is None, "where nothing is stopped it is made to its end"
    again: list[tuple[int, float]] = []
    trial(plan, 0, stopping(99, again))
    assert again == heard
    search(replace(plan, how="random"), 0, 1, lambda line: None)
    stopped(plan, 0, 1)
    assert (lying(plan, 0) or {})["end"] == "whole", "one that ended stays as it is"


def test_the_last_epoch_is_told_when_the_trial_is_sealed(model: str, tmp_path: Path) -> None:
    """A scheduler may stop a trial at its last report; there is nothing left of it to be stopped."""
    plan = plan_of(model, tmp_path, ("lr=1e-3..1e-2:log",), trials=1, how="asha")
    heard: list[tuple[int, float]] = []
    with pytest.raises(SystemExit):
        trial(plan, 0, stopping(plan.task.epochs, heard))
    assert (lying(plan, 0) or {})["end"] == "whole"


def test_a_trial_that_fails_is_the_last_of_its_rung(model: str, tmp_path: Path) -> None:
    plan = plan_of(model, tmp_path, ("lr=1e30",), trials=1, how="asha")
    heard: list[tuple[int, float]] = []
    trial(plan, 0, stopping(99, heard))
    assert heard == [(1, LOWEST)]


def test_a_stopped_trial_counts_as_it_stood(model: str, tmp_path: Path) -> None:
    task = task_of(model, tmp_path, "classify", train=8)
    plan = Search(task, space_of(["lr=1e-3..1e-2:log"]), 3, "asha")
    ends = (("whole", [0.5, 0.6]), ("stopped", [0.9]), ("failed", []))
    given = [
        {"number": n, "setting": plan.settings[n], "end": end, "dev": dev, "failed": "" if dev else "nan"}
        for n, (end, dev) in enumerate(ends)
    ]
    told = result_of(plan, given, 0.4)
    assert told["best"]["number"] == 0
    assert told["expected_best"][0]["mean"] == pytest.approx((0.6 + 0.9 + 0.4) / 3, abs=1e-6)
    assert told["epochs"] == 3
