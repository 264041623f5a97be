"""Trials of which the poor are stopped early: ASHA (Li et al. 2020) by Ray Tune, over any `trial(number, report)`.

A trial reports its score at each whole number of its resource (epochs, say). At `grace`, `grace * factor` and so on it
goes on only if it lies in the best 1 / factor of those that came so far by then; nobody waits for the others, so which
are stopped depends on who was first.

Promises: `ended(number, reported)` in the driver as soon as a trial has ended or was stopped, so what it seals outlives
the driver; a trial lost with its node begins anew; a user's ValueError comes back as itself. Costs some seconds a trial
to start its process. Refuses nothing by itself.
"""

import os
import time
from collections.abc import Callable, Sequence
from typing import Any

from ray import tune
from ray.tune.schedulers import ASHAScheduler

from tundish.cluster import ray_room
from tundish.cluster.verbs import Watch, unwatched

AGAIN = 3  # starts of a trial whose process or node was lost
NUMBER, AT, SCORE, MISTAKE = "number", "at", "score", "mistake"
Report = Callable[[int, float], None]


class Ended(tune.Callback):
    """Hands on what ended. Ray Tune copies and writes down its callbacks, and what looks on may be a terminal's bar,
    which is neither copied nor written: a copy is the same one, and nothing of it is written."""

    def __init__(self, ended: Callable[[int, int], None], watch: Watch, stage: str, total: int) -> None:
        self.ended, self.watch, self.stage, self.total, self.done = ended, watch, stage, total, 0

    def __deepcopy__(self, memo: Any) -> "Ended":
        return self

    def __getstate__(self) -> dict[str, Any]:
        return {}

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self.done += 1
        self.ended(int(trial.config[NUMBER]), int((trial.last_result or {}).get(AT, 0)))
        self.watch(self.stage, self.done, self.total, None)


def halving(
    stage: str,
    trial: Callable[[int, Report], None],
    numbers: Sequence[int],
    *,
    most: int,
    ended: Callable[[int, int], None],
    scratch: str,
    grace: int = 1,
    factor: int = 3,
    at_once: int = 1,
    watch: Watch = unwatched,
) -> None:
    """Run `trial` with each number on the Ray there is, `at_once` at most; `most`: the resource of the longest."""
    os.environ["TUNE_DISABLE_AUTO_CALLBACK_LOGGERS"] = "1"  # no files a trial for boards that nobody opens
    os.environ["TUNE_DISABLE_SIGINT_HANDLER"] = "1"  # Ctrl-C is ours to hear
    os.environ["RAY_AIR_NEW_OUTPUT"] = "0"  # the new one prints a table even when it is asked for silence
    gpu = min(1.0, ray_room.most("GPU") / at_once)
    scheduler = ASHAScheduler(
        time_attr=AT, metric=SCORE, mode="max", max_t=max(most, grace), grace_period=grace, reduction_factor=factor
    )
    tuner = tune.Tuner(
        tune.with_resources(_reported(trial, stage), {"cpu": 1, "gpu": gpu}),
        param_space={NUMBER: tune.grid_search(list(numbers))},
        tune_config=tune.TuneConfig(scheduler=scheduler, max_concurrent_trials=at_once),
        run_config=tune.RunConfig(
            name=f"{stage}-{os.getpid()}-{int(time.time())}",
            storage_path=os.path.abspath(scratch),
            failure_config=tune.FailureConfig(max_failures=AGAIN),
            callbacks=[Ended(ended, watch, stage, len(numbers))],
            verbose=0,
        ),
    )
    results = tuner.fit()
    for at in range(len(results)):
        if said := (results[at].metrics or {}).get(MISTAKE):
            raise ValueError(said)
        if error := results[at].error:
            raise RuntimeError(f"{stage} failed in a trial: {str(error).strip().splitlines()[-1]}") from error


def _reported(trial: Callable[[int, Report], None], stage: str) -> Callable[[dict[str, Any]], None]:
    def run(config: dict[str, Any]) -> None:
        def report(at: int, score: float) -> None:
            tune.report({AT: at, SCORE: score})

        try:
            trial(config[NUMBER], report)
        except ValueError as error:  # the user's to mend: another start would not help
            tune.report({AT: 0, SCORE: float("-inf"), MISTAKE: str(error)})

    run.__name__ = run.__qualname__ = stage.replace(" ", "")
    return run
