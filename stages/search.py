"""A search over settings: trials, sealed one by one, scored on dev alone, and what is to be expected of so many.

    out/search/KEY-0007.json     of every trial: its setting, losses, the score on dev behind each epoch, how it ended
    out/search.json              the best setting, all trials, and the best score to expect of 1, 2, ... n of them

A trial is one training from the pretrained weights with a seed of its own, none of those that tests are scored with. Of
the parts it reads train and dev alone: no test has a say in what is chosen.

Promises: the same trials for any number of ranks, and for both ways (`random` trains each to its end, `asha` stops
early what falls behind: `stages/search_asha`); a trial that is sealed is not made again while what decides it is the
same, so more trials add to those there are. Costs a training a trial, and dev once an epoch. Refuses a setting that the
task or the model's shape refuses before the first trial begins, and to choose among trials that all failed.
"""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from tundish.cluster import store
from tundish.operators.model import certainty
from tundish.operators.model.shape import Shape
from tundish.stages import finetune_fits, hub
from tundish.stages.finetune_compute import clocked
from tundish.stages.finetune_kinds import majority
from tundish.stages.finetune_one import Besides, trained
from tundish.stages.finetune_rows import Rows
from tundish.stages.finetune_runs import Tell, read
from tundish.stages.finetune_task import MEASURES, Run, TuneTask
from tundish.stages.hub import weights_of
from tundish.stages.ranks import joined
from tundish.stages.search_space import Dimension, Setting, applied, drawn

WAYS = ("random", "asha")
OWN = 1 << 20  # seeds of trials begin here, those of runs at 1
ROUND = 6
Trial = dict[str, Any]


@dataclass(frozen=True)
class Search:
    """`end` of a trial: `whole`, `failed` (its loss was no number), `stopped` (by ASHA), or empty while it is made."""

    task: TuneTask
    space: tuple[Dimension, ...]
    trials: int = 20
    how: str = "random"
    seed: int = 1

    def __post_init__(self) -> None:
        if self.how not in WAYS:
            raise ValueError(f"there is no search called {self.how!r}; take one of {', '.join(WAYS)}")
        if self.trials < 1:
            raise ValueError(f"{self.trials} trials choose nothing; make at least one, better twenty")
        if "dev" not in self.task.parts:
            raise ValueError("a search has no dev part to score its trials on, and must not look at a test; give one")
        tasks = [applied(self.task, setting) for setting in self.settings]  # what a task refuses, it refuses here
        if any(task.aids.fresh_top or task.pooling for task in tasks):
            shape = hub.read(self.task.model, partial=True, outlined=True).shape
            for task in tasks:
                finetune_fits.refuse(shape, task.aids, task.pooling)

    @cached_property
    def settings(self) -> tuple[Setting, ...]:
        return tuple(drawn(self.space, self.seed, number) for number in range(self.trials))

    @cached_property
    def tasks(self) -> tuple[TuneTask, ...]:
        """What each trial trains."""
        seen = without_tests(self.task)
        return tuple(applied(seen, setting) for setting in self.settings)

    def run(self, number: int) -> Run:
        return Run(True, self.seed * OWN + number)


def without_tests(task: TuneTask) -> TuneTask:
    """The task of train and dev alone, whatever else there is."""
    kept = {name: uri for name, uri in task.parts.items() if name in ("train", "dev")}
    digests = {name: each for name, each in task.digests.items() if name in kept or name not in task.parts}
    truth = {name: each for name, each in task.truth.items() if name in kept}
    return replace(task, parts=kept, digests=digests, truth=truth)


def search(plan: Search, rank: int, world: int, tell: Tell) -> None:
    """Make the trials that are missing, each to its end, then the result. `tell` is called by all ranks together."""
    with joined(rank, world) as ranks:
        shape, weights = weights_of(plan.task.model)
        parts = read(without_tests(plan.task), shape.length)
        for first in range(0, plan.trials, world):
            number = first + rank
            if number < plan.trials and sealed(plan, number) is None:
                made(plan, number, shape, weights, parts, ranks.device)
            tell({"step": min(first + world, plan.trials), "steps": plan.trials})
        ranks.wait()
        if rank == 0:
            concluded(plan, parts)
        ranks.wait()


def made(
    plan: Search,
    number: int,
    shape: Shape,
    weights: Mapping[str, Any],
    parts: Mapping[str, Rows],
    device: Any,
    report: Callable[[int, float], None] = lambda epochs, score: None,
) -> Trial:
    """Train and seal a trial. `report(epochs, score on dev)` behind each epoch, when that is sealed; what it raises
    ends the trial where it is."""
    task, told = plan.tasks[number], _begun(plan, number)

    def watch(epochs: int, score: float) -> bool:
        told["dev"] = [*told["dev"], score]
        seal(plan, told)
        report(epochs, score)
        return False

    besides, began = Besides(watch=watch), time.perf_counter()
    _, outcome = trained(task, plan.run(number), shape, weights, parts, device, lambda *_: None, besides)
    losses = [each if math.isfinite(each) else None for each in outcome.losses]  # JSON knows no other numbers
    told |= {"end": "failed" if outcome.failed else "whole", "failed": outcome.failed, "losses": losses}
    told |= {"dev": outcome.dev, "rate": outcome.rate}
    clocked(task, plan.run(number), time.perf_counter() - began, device)
    seal(plan, told)
    return told


def _begun(plan: Search, number: int) -> Trial:
    return {
        "number": number,
        "setting": plan.settings[number],
        "seed": plan.run(number).seed,
        "end": "",
        "failed": "",
        "dev": [],
    }


def _place(plan: Search, number: int) -> str:
    name = f"{plan.tasks[number].key}-{plan.run(number).seed}.json"
    return store.join(plan.task.out, "search", name)


def seal(plan: Search, told: Trial) -> None:
    store.write_json(_place(plan, told["number"]), told)


def lying(plan: Search, number: int) -> Trial | None:
    """What is there of a trial, however far it came."""
    return store.read_json(_place(plan, number))  # type: ignore[no-any-return]


def sealed(plan: Search, number: int) -> Trial | None:
    """A trial that need not be made: one that came to its end, or that ASHA stopped where that is what searches."""
    told = lying(plan, number)
    enough = ("whole", "failed", "stopped") if plan.how == "asha" else ("whole", "failed")
    return told if told and told["end"] in enough else None


def score_of(task: TuneTask, trial: Trial) -> float | None:
    """On dev: of the weights it ended with, with patience of the best; None where it failed."""
    if trial["end"] == "failed" or not trial["dev"]:
        return None
    return float(max(trial["dev"]) if task.aids.patience else trial["dev"][-1])


def best_of(trials: Sequence[Trial], scores: Sequence[float | None]) -> int:
    """The place of the best that came to its end, the first of equals; where none did, of those that were stopped."""
    for end in ("whole", "stopped"):
        among = [(score, -at) for at, score in enumerate(scores) if score is not None and trials[at]["end"] == end]
        if among:
            return -max(among)[1]
    said = next((each["failed"] for each in trials if each["failed"]), "none came to an end of an epoch")
    which = f"all {len(trials)} trials" if len(trials) != 1 else "the only trial"
    raise ValueError(f"{which} failed ({said}); search lower learning rates")


def concluded(plan: Search, parts: Mapping[str, Rows]) -> dict[str, Any]:
    """Write what the trials come to."""
    floor = majority(plan.tasks[0], parts["train"], parts["dev"], plan.task.truth.get("dev"))
    trials = [sealed(plan, number) for number in range(plan.trials)]
    assert None not in trials, "every trial is made before they are told"
    measure = MEASURES[plan.task.kind]
    told = result_of(plan, [each for each in trials if each], None if floor is None else floor[measure])
    store.write_json(store.join(plan.task.out, "search.json"), told)
    return told


def result_of(plan: Search, trials: Sequence[Trial], floor: float | None) -> dict[str, Any]:
    """A function of the trials. `floor`: the score that a failed trial counts as; None: the lowest of the others."""
    scores = [score_of(task, trial) for task, trial in zip(plan.tasks, trials, strict=True)]
    best = best_of(trials, scores)
    known = [score for score in scores if score is not None]
    counted = [(min(known) if floor is None else floor) if score is None else score for score in scores]
    expected = certainty.expected_best(counted)
    return {
        "how": plan.how,
        "seed": plan.seed,
        "measure": MEASURES[plan.task.kind],
        "scored_on": "dev",
        "space": [each._asdict() for each in plan.space],
        "best": {"number": trials[best]["number"], "setting": trials[best]["setting"], "score": scores[best]},
        "ends": {end: sum(each["end"] == end for each in trials) for end in ("whole", "stopped", "failed")},
        "epochs": sum(len(each["dev"]) for each in trials),
        "expected_best": [
            {"trials": n, "mean": round(float(mean), ROUND), "deviation": round(float(deviation), ROUND)}
            for n, (mean, deviation) in enumerate(zip(*expected, strict=True), 1)
        ],
        "trials": [each | {"score": score} for each, score in zip(trials, scores, strict=True)],
    }


def made_for(plan: Search) -> list[tuple[TuneTask, Run, int]]:
    """Of each trial what it trained, and through how many epochs."""
    each = [sealed(plan, number) or _begun(plan, number) for number in range(plan.trials)]
    epochs = [max(len(told["dev"]), len(told.get("losses", ()))) for told in each]
    return [(plan.tasks[number], plan.run(number), many) for number, many in enumerate(epochs)]


def chosen(plan: Search) -> tuple[TuneTask, dict[str, Any]]:
    """The whole task with the best setting, and what the search told."""
    told = store.read_json(store.join(plan.task.out, "search.json"))
    assert told, "a search is concluded before it is read"
    return applied(plan.task, told["best"]["setting"]), told
