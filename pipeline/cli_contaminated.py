"""The command that looks for evaluation texts in a corpus that was made here, and asks the ledger who saw them."""

import json

import click
from rich.console import Console

from tundish.pipeline.cli_finetune import KINDS, columns_of
from tundish.pipeline.cli_options import ERR, cluster_of, laid_folder, named_tests
from tundish.pipeline.contaminated_told import lines_of, table_of, worst_of

OUT = Console(emoji=False)


@click.command("contaminated")
@click.argument("root")
@click.option("--task", "kind", type=click.Choice(KINDS), default="classify", show_default=True)
@click.option("--test", multiple=True, required=True, metavar="[NAME=]FILE", help="Several are told side by side.")
@click.option("--column", "columns", multiple=True, metavar="ROLE=COLUMN", help="Such as text=sentence.")
@click.option("--out", required=True, metavar="DIR")
@click.option("--run", "run_name", help="An earlier run, by its name under ROOT/runs (default: the latest).")
@click.option("--on", default="local", show_default=True, help="local | ray (started here) | ADDRESS of a Ray cluster.")
@click.option("--workers", type=click.IntRange(1), help="Processes on this machine.")
@click.option("--json", "as_json", is_flag=True)
def contaminated_command(
    root: str, kind: str, test: tuple[str, ...], columns: tuple[str, ...], out: str, run_name: str | None, on: str,
    workers: int | None, as_json: bool,
) -> None:  # fmt: skip
    """Which evaluation texts stand in a root's corpus, in which documents, and which of these were trained on."""
    from tundish.pipeline.contaminated import of_files
    from tundish.pipeline.progress import Progressed

    files = named_tests(test)
    laid_folder(out)
    with Progressed(ERR, quiet=as_json) as shown, cluster_of(on, workers, shown.watch) as bring:
        answer = of_files(root, kind, files, columns_of(columns), out, bring(), run=run_name)
    if as_json:
        click.echo(json.dumps(answer, ensure_ascii=False))
        return
    OUT.print(table_of(answer))
    for line in [*lines_of(answer, parts=False), *worst_of(answer)]:
        OUT.print(line, highlight=False, soft_wrap=True, markup=False)
