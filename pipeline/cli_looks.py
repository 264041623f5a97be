"""Commands that look at a run: report, why, page, replay. Each is added to the group of `cli`."""

import json

import click
from rich.console import Console

OUT = Console(emoji=False)


@click.command("report")
@click.argument("root")
@click.option("--out", help="Where to write the page (default: ROOT/report.html).")
def report_command(root: str, out: str | None) -> None:
    """One self-contained HTML page: of a root its funnel, reasons, samples, curves; of a fine-tuning its scores."""
    from tundish.pipeline.report import report
    from tundish.pipeline.tuned_page import is_tuned, page

    click.echo(page(root, out) if is_tuned(root) else report(root, out))


@click.command("why")
@click.argument("what", metavar="URL|ID", required=False)
@click.option("--root", default="tundish-root", show_default=True)
@click.option("--step", type=int, help="The other way: every document that this training step saw.")
@click.option("--model", metavar="ADDRESS", help="The training that --step means, where a run has several.")
def why_command(what: str | None, root: str, step: int | None, model: str | None) -> None:
    """One document's whole way, from request to the training steps that saw it."""
    from tundish.pipeline.why import step_of, told, why

    if (what is None) == (step is None):
        raise ValueError("why asks for one document or one step; give a URL, an id, or --step NUMBER")
    OUT.print(told(why(root, what) if what is not None else step_of(root, step or 0, model)))


@click.command("page")
@click.argument("what", metavar="URL|ID")
@click.option("--root", default="tundish-root", show_default=True)
@click.option("--out", help="Where to write the page (default: ROOT/page.html).")
def page_command(what: str, root: str, out: str | None) -> None:
    """The archived page, the extracted text and the decision, side by side in one HTML file."""
    from tundish.pipeline.page import page

    click.echo(page(root, what, out))


@click.command("replay")
@click.argument("root")
@click.option("--set", "sets", multiple=True, required=True, metavar="Refine.rules.REASON=VALUE")
@click.option(
    "--examples", type=click.IntRange(0), default=3, show_default=True, help="At most this many of each reason."
)
@click.option("--run", "run_name", help="An earlier run, by its name under ROOT/runs (default: the latest).")
@click.option("--json", "as_json", is_flag=True)
def replay_command(root: str, sets: tuple[str, ...], examples: int, run_name: str | None, as_json: bool) -> None:
    """Decide again from stored signals: what would enter, what would leave."""
    from tundish.pipeline.replay import replay, told

    found = replay(root, sets, examples=examples, run=run_name)
    if as_json:
        click.echo(json.dumps(found.plain(), indent=1, ensure_ascii=False))
        return
    OUT.print(told(found), highlight=False)
