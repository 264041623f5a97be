"""Commands that look at runs: report, drift, why, page, replay. Each is added to the group of `cli`."""

import json

import click
from rich.console import Console

OUT = Console(emoji=False)


@click.command("report")
@click.argument("root")
@click.option("--out", help="Where to write the page (default: ROOT/report.html, or ROOT/compared.html).")
@click.option("--against", metavar="OTHER", help="Another root: what differs from the latest run there.")
def report_command(root: str, out: str | None, against: str | None) -> None:
    """One self-contained HTML page: of a root its funnel, reasons, samples, curves; of a fine-tuning its scores."""
    from tundish.pipeline.compared_page import compared_page
    from tundish.pipeline.report import report
    from tundish.pipeline.tuned_page import is_tuned, page

    if against is not None:
        click.echo(compared_page(root, against, out))
        return
    click.echo(page(root, out) if is_tuned(root) else report(root, out))


@click.command("drift")
@click.argument("reference", metavar="ROOT_A")
@click.argument("other", metavar="ROOT_B")
@click.option("--out", metavar="FILE", help="Also write it there, as JSON.")
@click.option("--json", "as_json", is_flag=True)
def drift_command(reference: str, other: str, out: str | None, as_json: bool) -> None:
    """How far the signals of the latest run under ROOT_B lie from those under ROOT_A."""
    from tundish.cluster import store
    from tundish.pipeline.drift import drift, table

    found = drift(reference, other)
    plain = [one.plain() for one in found]
    if out:
        store.write_json(out, plain)
    if as_json:
        click.echo(json.dumps(plain, indent=1, ensure_ascii=False))
        return
    moved = [one for one in found if one.verdict != "chance"]
    if moved:
        OUT.print(table(moved), highlight=False)
    still = "all" if not moved else f"the {len(found) - len(moved)} others"
    OUT.print(f"{still} of {len(found)} columns moved no more than by chance (--json tells them)", highlight=False)


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
    events = why(root, what) if what is not None else step_of(root, step or 0, model)
    if not events:
        raise ValueError(f"step {step} saw no document of {root}: all it saw is another generation's; ask that one")
    OUT.print(told(events))


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
