"""plan: what would run and why; with a probe what it would take, and afterwards what became of that."""

import contextlib
import json
import math
import os
from typing import Any

import click
from rich.markup import escape

from tundish.pipeline.cli_options import ERR, OUT, Trainers, loaded, settings_of, with_recipe


@click.command("plan")
@with_recipe
@click.option("--json", "as_json", is_flag=True)
@click.option(
    "--probe", is_flag=True,
    help="Also run a sample of the data through every stage, and a few steps of each training: hours, memory, disk.",
)  # fmt: skip
@click.option(
    "--share", type=float, default=0.01, show_default=True, help="Of the shards that a probe takes; at least 4."
)
@click.option("--workers", type=click.IntRange(1), help="That the run will have (default: the CPUs of this machine).")
@click.option("--price", type=click.FloatRange(0), metavar="PER_CPU_HOUR", help="What a CPU costs in an hour.")
@click.option("--compare", is_flag=True, help="Hold the latest run under the root against what was foretold of it.")
@click.option("--trainers", type=Trainers(), default="1", show_default=True, help="As `run` shall have them.")
def plan_command(
    recipe: str, root: str, sets: tuple[str, ...], sample: int | None, wire: tuple[str, ...], as_json: bool,
    probe: bool, share: float, workers: int | None, price: float | None, compare: bool, trainers: tuple[int, int],
) -> None:  # fmt: skip
    """Which stages would run, which are kept, and the changed field that is the reason."""
    from tundish.pipeline import probe_told
    from tundish.pipeline.plan import plan

    goal = loaded(recipe, sets, sample)
    if compare:
        _compared(root, as_json)
        return
    steps, told = plan(goal, root, settings_of(wire, trainers)), None
    if probe:
        with _patience(as_json):
            told = probe_told.said(steps, share, workers or os.cpu_count() or 1, price)
    if as_json:
        click.echo(json.dumps([_plain(step, steps, told) for step in steps], indent=1))
        return
    _printed(goal, steps, told)


def _patience(quiet: bool) -> Any:
    words = "probing: a sample of the data goes through every stage that would run, twice"
    return contextlib.nullcontext() if quiet else ERR.status(words)


def _plain(step: Any, steps: list[Any], told: Any) -> dict[str, Any]:
    from tundish.pipeline import forecast

    row = {"address": step.stage.address, "current": step.current, "because": step.because}
    if told is None:
        return row
    if (trained := forecast.of_step(step, steps)) is not None:
        return row | {"forecast": trained.plain()}
    found = told.plain(step.stage.address)
    return row | ({"probe": finite(found)} if found else {})


def finite(value: Any) -> Any:
    """A value for JSON, which has no infinity: null is what nobody knows.

    >>> finite({"a": [1.0, float("inf")]})
    {'a': [1.0, None]}
    """
    if isinstance(value, dict):
        return {name: finite(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [finite(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _printed(goal: Any, steps: list[Any], told: Any) -> None:
    from tundish.pipeline import forecast, probe_told, spoken

    for step in steps:
        state = "[dim]kept[/]" if step.current else "[cyan]run [/]"
        OUT.print(f"{state} {step.stage.address:<24} [dim]{step.because}[/]", highlight=False)
        spoken.notes(OUT, step.stage)
        spoken.refusal_of(OUT, step)
        for line in forecast.lines_of(step, steps) if told else ():
            OUT.print(f"     {line}", highlight=False, soft_wrap=True)
    spoken.uncovered_of(OUT, goal)
    if told is not None and told.forecasts:
        OUT.print()
        OUT.print(probe_told.table(told), highlight=False)
    for sentence in probe_told.remarks(told) if told else ():
        OUT.print(f"[dim]{escape(sentence)}[/]", highlight=False)


def _compared(root: str, as_json: bool) -> None:
    from tundish.pipeline import probe_told
    from tundish.pipeline.funnel import ran

    past = ran(root)
    shown = probe_told.compared(past)
    if not as_json:
        OUT.print(shown, highlight=False)
        return
    rows = [{**vars(one), "band": list(one.band), "inside": one.inside} for one in probe_told.held_against(past)]
    click.echo(json.dumps(finite(rows), indent=1))
