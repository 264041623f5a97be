"""The command that follows a crawl: generations of a corpus as it grows, and a training on them."""

import json
import sys
import time
from typing import Any

import click

from tundish.pipeline.cli_options import ERR, OUT, cluster_of

SPOKEN = 30.0  # seconds between lines on the training


@click.command("follow")
@click.argument("recipe")
@click.option(
    "--root", default="tundish-root", show_default=True, help="Where everything is written: a folder or a URI."
)
@click.option("--every", type=click.FloatRange(min=1), default=600, show_default=True, help="Seconds a generation.")
@click.option("--on", default="local", show_default=True, help="local | ray (started here) | ADDRESS of a Ray cluster.")
@click.option("--workers", type=click.IntRange(1), help="Processes on this machine for the stages.")
@click.option("--set", "sets", multiple=True, metavar="STAGE.FIELD=VALUE", help="Change a field of every such stage.")
@click.option("--wire", multiple=True, metavar="HOST:PORT=ADDRESS:PORT", help="Where hosts allowed by name are.")
@click.option("--replay", metavar="OUT", help="Train again in OUT by the plan of the training, and compare ledgers.")
@click.option("--json", "as_json", is_flag=True, help="The list of generations as JSON on standard output.")
def follow_command(
    recipe: str, root: str, every: float, on: str, workers: int | None, sets: tuple[str, ...], wire: tuple[str, ...],
    replay: str | None, as_json: bool,
) -> None:  # fmt: skip
    """Train while the corpus grows: a crawl goes on, and what it has becomes a generation every so often."""
    from tundish.pipeline.follow import Wish, follow, replayed
    from tundish.pipeline.progress import Progressed

    wish = Wish(recipe, root, sets, wire, on, workers, every)
    if replay:
        return _compared(replayed(wish, replay), as_json)
    with Progressed(ERR, quiet=True) as shown, cluster_of(on, workers, shown.watch) as bring:
        found = follow(wish, bring, silence if as_json else Spoken())
    if as_json:
        click.echo(json.dumps(found, indent=1))


def silence(event: str, told: dict[str, Any]) -> None:
    """For who reads JSON."""


class Spoken:
    """What happens, in lines."""

    def __init__(self) -> None:
        self.last, self.failed = time.monotonic(), False

    def __call__(self, event: str, told: dict[str, Any]) -> None:
        line = self._line(event, told)
        if line:
            self.last = time.monotonic()
            ERR.print(line, highlight=False, markup=False, soft_wrap=True)

    def _line(self, event: str, told: dict[str, Any]) -> str:
        if event == "generation":
            return _generation(told)
        if event == "not yet":
            return f"generation {told['generation']} waits for more: {told['because']}"
        if event == "nothing":
            return f"nothing new at {time.strftime('%H:%M:%S', time.localtime(told['at']))}"
        if event == "end":
            return "the crawl is sealed and all of it is listed"
        if event == "training failed" and not self.failed:
            self.failed = True
            return f"the training ended, the crawl goes on: {told['because']}"
        if event == "trained" or (event == "training" and time.monotonic() - self.last > SPOKEN):
            return _training(told)
        return ""


def _generation(told: dict[str, Any]) -> str:
    made = f"{told['documents']:,} documents, {told['size']:,} tokens" if told["tokens"] else "nothing is left of them"
    training = f"; {_training(told['training'])}" if told["training"] else ""
    return f"generation {told['generation']}: {told['captures']:,} captures, {made} ({told['seconds']:.1f} s){training}"


def _training(told: dict[str, Any]) -> str:
    if not told:
        return "the training begins"
    return f"training: step {told['step'] + 1:,} of {told['steps']:,}, loss {told['loss']:.3f}"


def _compared(told: dict[str, Any], as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(told))
    elif told["equal"]:
        OUT.print(f"the ledgers are equal: {told['steps']:,} steps, the same rows and masks", highlight=False)
    else:
        OUT.print(f"the ledgers differ from step {told['first_difference']:,} on", highlight=False)
    if not told["equal"]:
        sys.exit(1)
