"""The command that makes a language identifier, and how its figures are shown in a terminal."""

import json
from typing import Any, get_args

import click
from rich.console import Console
from rich.table import Table

from tundish.operators.text.learning import Loss, Settings

OUT = Console(emoji=False)
CONFUSED, OTHERS = 12, 3  # pairs listed; languages named beside one


@click.command("train-language")
@click.argument("files", nargs=-1, required=True)
@click.option("--out", required=True, help="Where the model goes: .bin, or .ftz for a quantized one.")
@click.option("--holdout", default=0.1, show_default=True, help="Share of the texts kept to score on, by their hash.")
@click.option("--dimension", default=Settings.dimension, show_default=True, help="Numbers of a vector.")
@click.option("--shortest", default=Settings.shortest, show_default=True, help="Shortest n-gram of characters.")
@click.option("--longest", default=Settings.longest, show_default=True, help="Longest; 0 for words alone.")
@click.option("--buckets", default=Settings.buckets, show_default=True, help="Vectors that n-grams share.")
@click.option("--least", default=Settings.least, show_default=True, help="Times a word must occur to have a vector.")
@click.option("--epochs", default=Settings.epochs, show_default=True)
@click.option("--lr", default=Settings.lr, show_default=True, help="Learning rate at the start.")
@click.option("--loss", default=Settings.loss, show_default=True, type=click.Choice(get_args(Loss)))
@click.option("--seed", default=Settings.seed, show_default=True)
@click.option("--keep", default=50_000, show_default=True, help="Words and n-grams a .ftz keeps; 0 for all.")
@click.option("--json", "as_json", is_flag=True, help="Everything as JSON on standard output.")
def train_language_command(
    files: tuple[str, ...], out: str, holdout: float, keep: int, as_json: bool, **settings: Any
) -> None:
    """Train a language identifier from label<TAB>text files (JSONL, CSV, Parquet: columns label, text)."""
    from tundish.pipeline.train_language import train

    told = train(files, out, Settings(**settings), holdout=holdout, keep=keep)
    if as_json:
        click.echo(json.dumps(told, ensure_ascii=False))
        return
    OUT.print(by_language(told))
    if (pairs := confused(told)).row_count:
        OUT.print(pairs)
    blank = f", {told['blank']:,} without text left out" if told["blank"] else ""
    OUT.print(
        f"{told['texts']:,} texts of {len(told['languages'])} languages{blank}; {told['held_out']:,} held out\n"
        f"accuracy {told['accuracy']:.4f}, mean over languages {told['macro_accuracy']:.4f}\n"
        f"{told['model']} ({told['bytes'] / 1e6:.1f} MB)",
        highlight=False,
    )


def by_language(told: dict[str, Any]) -> Table:
    """A row a language: its texts, how many of those held out are right, and what the others are taken for."""
    shown = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("language", "texts", "held out", "accuracy"):
        shown.add_column(name, justify="left" if name == "language" else "right", no_wrap=True)
    shown.add_column("taken for")
    for name, row in sorted(told["languages"].items()):
        wrong = [(guess, n) for guess, n in told["confusion"].get(name, {}).items() if guess != name]
        others = ", ".join(f"{guess or 'none'} {n}" for guess, n in wrong[:OTHERS])
        accuracy = "" if row["accuracy"] is None else f"{row['accuracy']:.3f}"
        shown.add_row(name, f"{row['texts']:,}", f"{row['held_out']:,}", accuracy, others)
    return shown


def confused(told: dict[str, Any]) -> Table:
    """The pairs that are most often taken for each other, both ways."""
    pairs: dict[tuple[str, str], list[int]] = {}
    for truth, row in told["confusion"].items():
        for guess, count in row.items():
            if guess != truth:
                first, second = sorted((truth, guess))
                pairs.setdefault((first, second), [0, 0])[truth == second] += count
    shown = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("confused", "one way", "the other"):
        shown.add_column(name, justify="left" if name == "confused" else "right", no_wrap=True)
    ranked = sorted(pairs.items(), key=lambda one: (-sum(one[1]), one[0]))
    for (first, second), (one, other) in ranked[:CONFUSED]:
        shown.add_row(f"{first or 'none'} {second}", f"{one:,}", f"{other:,}")
    return shown
