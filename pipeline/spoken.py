"""What commands print under their tables: what a stage has to say before it runs, and what is odd about rules."""

import json
from collections.abc import Container, Mapping
from typing import Any

import click
from rich.console import Console
from rich.markup import escape

from tundish.cluster.shards import Dataset
from tundish.pipeline import firing
from tundish.pipeline.funnel import ran, runs
from tundish.pipeline.plan import Step
from tundish.pipeline.run import survivors
from tundish.stages.decontaminate import uncovered
from tundish.stages.stage import Stage

SAID = 12  # warnings in a terminal


def firing_of(console: Console, told: firing.Firing) -> None:
    """The rules of one Refine under the funnel, and what is odd about them."""
    for shown in (firing.table(told), firing.by_group(told)):
        if shown is not None and shown.row_count:
            console.print()
            console.print(shown)
    sentences = list(firing.warnings(told))
    if len(sentences) > SAID + 1:  # hosts are many
        sentences[SAID:] = [f"and {len(sentences) - SAID} more such sentences; --json and the report have them all"]
    for sentence in sentences:
        console.print(f"[yellow]{escape(sentence)}[/]", highlight=False)


def decided(console: Console, root: str, addresses: Container[str], value: dict[str, Any] | None) -> None:
    """What the rules of these stages did in the latest run, whether it came to its end or was refused; `value`: what a
    JSON object is to hold besides (None: for people)."""
    past = ran(root) if runs(root) else None
    fired = [firing.firing(past, a) for a in past.of("Refine") if a in addresses] if past else []
    if value is None:
        for one in fired:
            firing_of(console, one)
    elif value or fired:
        click.echo(json.dumps(value | {"firing": {one.address: one.plain() for one in fired}}, indent=1))


def refusal_of(console: Console, step: Step) -> None:
    """Why a run would stop at a stage, under its name."""
    try:
        if step.sealed is not None:
            survivors(step.stage, step.sealed)
    except ValueError as error:
        console.print(f"       [yellow]a run stops here: {escape(str(error))}[/]", highlight=False)


def notes(console: Console, stage: Stage) -> None:
    """What a stage has to say before it runs, under its name."""
    for line in stage.notes().splitlines():
        console.print(f"       {escape(line)}", style="dim", highlight=False)


def uncovered_of(console: Console, goal: Stage) -> None:
    """Labelled files that the recipe fine-tunes on and does not keep out of its corpus."""
    for path in uncovered(goal):
        console.print(
            f"[yellow]{escape(path)} is fine-tuned on and Decontaminate is not against it; "
            "add labelled to Decontaminate.against[/]",
            highlight=False,
        )


def quarantined(console: Console, root: str) -> None:
    """Documents that Deduplicate holds back, and for what; and what its certificate says in a line."""
    past = ran(root)
    for address in past.of("Deduplicate"):
        made = past.datasets[address]
        held = {key.removeprefix("quarantine:"): n for key, n in made.counts.items() if key.startswith("quarantine:")}
        if held:
            named = ", ".join(
                f"{reason} {count:,}" for reason, count in sorted(held.items(), key=lambda kv: -kv[1])[:5]
            )
            console.print(
                f"[yellow]{sum(held.values()):,} near duplicates are in quarantine and stay ({escape(named)}); look at "
                "them in the report, then raise Deduplicate.max_cluster or max_loss, or leave it so[/]",
                highlight=False,
            )
        told = made.about.get("certificate")
        high = [one for one in told["bins"] if one["from"] >= 0.9] if told else []
        if told and (pairs := sum(one["pairs"] for one in high)):
            missed = sum(one["missed"] for one in high)
            console.print(
                f"[dim]{address}: of {pairs:,} pairs at or above 0.9 that a sample of {told['documents']:,} documents "
                f"has, {missed:,} were missed[/]",
                highlight=False,
            )


def trained(console: Console, made: Mapping[str, Dataset]) -> None:
    """What trainings took, held against their forecasts."""
    for address, dataset in made.items():
        told = (dataset.about.get("result") or {}).get("forecast")
        if told:
            from tundish.stages.pretrain_outcome import spoken  # torch comes in here

            for line in spoken(told):
                console.print(f"[dim]{address}: {escape(line)}[/]", highlight=False, soft_wrap=True)
