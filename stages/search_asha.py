"""A search whose poor trials are stopped early, by ASHA on Ray: the trials of `stages/search`, with epochs as resource.

Promises: what a trial seals is what it seals in a random search, as far as it comes; trials that ended or were stopped
are not made again when the search goes on, but tell the scheduler what they had told it. Which are stopped depends on
the order in which they come, so the result is no function of the seed alone. Costs a start of a process a trial.
Refuses to run without Ray.
"""

from functools import partial
from typing import Any

from tundish.stages.finetune_runs import read
from tundish.stages.hub import weights_of
from tundish.stages.ranks import joined
from tundish.stages.search import Search, concluded, lying, made, seal, sealed, without_tests

LOWEST = -1.0  # no measure that trials are compared by is lower


def search_by_halving(plan: Search, cluster: Any, at_once: int) -> None:
    """All trials, `at_once` at most, then the result. `cluster`: an entered `cluster.on_ray.OnRay`."""
    from tundish.cluster.ray_search import halving

    halving(
        "Search",
        partial(trial, plan),
        range(plan.trials),
        most=max(task.epochs for task in plan.tasks),
        ended=partial(stopped, plan),
        scratch=cluster.scratch,
        at_once=at_once,
        watch=cluster.watch,
    )
    shape, _ = weights_of(plan.task.model)
    concluded(plan, read(without_tests(plan.task), shape.length))


def trial(plan: Search, number: int, report: Any) -> None:
    """Make one, or tell again what one that is there had told."""
    told = sealed(plan, number)
    if told is None:
        most = plan.tasks[number].epochs

        def passed(epochs: int, score: float) -> None:
            if epochs < most:  # the last is told once the trial is sealed: there is nothing left to be stopped
                report(epochs, score)

        with joined(0, 1) as ranks:
            shape, weights = weights_of(plan.task.model)
            parts = read(without_tests(plan.task), shape.length)
            told = made(plan, number, shape, weights, parts, ranks.device, passed)
        if told["end"] == "whole":
            report(len(told["dev"]), told["dev"][-1])
    else:
        for epochs, score in enumerate(told["dev"], 1):
            report(epochs, score)
    if told["end"] == "failed":
        report(len(told["dev"]) + 1, LOWEST)


def stopped(plan: Search, number: int, epochs: int) -> None:
    """Seal a trial that the scheduler stopped; one that came to its end by itself stays as it is."""
    told = lying(plan, number)
    if told and not told["end"]:
        seal(plan, told | {"end": "stopped", "dev": told["dev"][:epochs]})
