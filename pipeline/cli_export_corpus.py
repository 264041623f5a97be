"""The command that hands a corpus over, and the group it shares with the one that hands over a model.

    tundish export ROOT --to DIR             a model: what `export` was before it had commands of its own
    tundish export corpus ROOT --to DIR      the corpus

A root that is called `corpus` or `model` is written `./corpus`.
"""

import json

import click
from rich.console import Console
from rich.progress import Progress

from tundish.pipeline.cli_options import ERR
from tundish.pipeline.funnel import size

OUT = Console(emoji=False)
MODEL = "model"  # what `export` means where it does not say


class Defaulting(click.Group):
    """A group whose commands may be left out: what names none of them goes to `MODEL`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        known = args[:1] and args[0] in {"-h", "--help", *self.commands}
        return super().parse_args(ctx, args if known else [MODEL, *args])


def export_of(model: click.Command) -> click.Group:
    """`export` as a group of two: the command that exports a model, and a corpus."""
    told = (
        "Hand over what a run made: its model (export ROOT, or export model ROOT) or its corpus (export corpus ROOT)."
    )
    return Defaulting("export", commands={MODEL: model, "corpus": export_corpus_command}, help=told)


@click.command("corpus")
@click.argument("root")
@click.option("--to", required=True, metavar="DIR", help="The folder to write: local, or a URI.")
@click.option("--corpus", metavar="ADDRESS", help="The Corpus, where the latest run has several (default: its last).")
@click.option("--columns", metavar="A,B,…", help="What leaves (default: id, url, text, language, signals, …).")
@click.option("--shard", default="256MB", show_default=True, metavar="SIZE", help="Bytes from which a file is closed.")
@click.option("--name", default="", help="What the card calls it.")
@click.option("--license", "licence", default="", metavar="NAME", help="For the card's header, as the Hub spells it.")
@click.option("--contact", default="", help="Whom to ask for removal (default: whom the crawler names).")
@click.option("--replace", is_flag=True, help="Also where the folder holds an export of another corpus.")
@click.option("--json", "as_json", is_flag=True)
def export_corpus_command(
    root: str, to: str, corpus: str | None, columns: str | None, shard: str, name: str, licence: str, contact: str,
    replace: bool, as_json: bool,
) -> None:  # fmt: skip
    """The clean text of a run as Parquet files with a data set card, as `datasets` loads it."""
    from tundish.pipeline.export_corpus import bytes_of, export_corpus
    from tundish.pipeline.export_corpus_rows import USUAL

    wanted = tuple(word.strip() for word in columns.split(",") if word.strip()) if columns else USUAL
    with Progress(console=ERR, transient=True, disable=as_json) as bar:
        line = bar.add_task("export", total=None)
        told = export_corpus(
            root, to, corpus=corpus, columns=wanted, size=bytes_of(shard), name=name, licence=licence, contact=contact,
            replace=replace, say=lambda done, rows: bar.update(line, completed=done, total=rows),
        )  # fmt: skip
    if as_json:
        click.echo(json.dumps(told, ensure_ascii=False))
        return
    words = f"{told['to']}: {told['rows']:,} documents of {told['corpus']}, {size(told['bytes'])} of text"
    OUT.print(words, highlight=False, soft_wrap=True)
    for file, count in told["files"].items():
        OUT.print(f"  {file}  {count:,} bytes", highlight=False, soft_wrap=True)
    for reason, count in told["left"].items():
        OUT.print(f"  {count:,} documents stay here: {reason.replace('_', ' ')}", highlight=False, soft_wrap=True)
