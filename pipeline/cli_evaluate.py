"""The command that asks a language model how good it is: minimal pairs, and texts that it never saw."""

import json
from typing import Any

import click
from rich.console import Console
from rich.table import Table

OUT = Console(emoji=False)


@click.command("evaluate")
@click.argument("model", metavar="FOLDER")
@click.option("--pairs", multiple=True, metavar="FILE", help="Rows with sentence_good and sentence_bad (BLiMP's form).")
@click.option("--text", "texts", multiple=True, metavar="FILE", help="Texts that it was not trained on.")
@click.option("--column", default="text", show_default=True, help="Of the texts, where they are rows.")
@click.option("--most", type=click.IntRange(0), default=200, show_default=True, help="Segments of a file; 0 for all.")
@click.option("--causal", is_flag=True, help="Ask an encoder for what comes next, if it was trained so.")
@click.option("--json", "as_json", is_flag=True)
def evaluate_command(
    model: str, pairs: tuple[str, ...], texts: tuple[str, ...], column: str, most: int, causal: bool, as_json: bool
) -> None:
    """How good a language model is: pairs of sentences, and bits per byte of texts, with intervals."""
    from tundish.stages import language_model as it

    if not pairs and not texts:
        raise ValueError("there is nothing to ask; give --pairs FILE or --text FILE")
    asked = it.asked(model, causal=True if causal else None)
    told: dict[str, Any] = {"model": model, "pairs": {}, "texts": {}}
    for uri in pairs:
        told["pairs"][uri] = it.judged(asked, it.pairs_of(uri))
    for uri in texts:
        told["texts"][uri] = it.coded(asked, it.texts_of(uri, column), most=most)
    if as_json:
        click.echo(json.dumps(told, ensure_ascii=False))
        return
    for table in (_pairs(told["pairs"]), _texts(told["texts"])):
        if table.row_count:
            OUT.print(table)


def _pairs(told: dict[str, Any]) -> Table:
    table = _table("pairs", "measure", "pairs", "right", "95 % interval")
    for uri, each in told.items():
        kinds = {f"  {kind}": one for kind, one in each["by"].items() if kind}
        for name, one in {_short(uri): each["all"], **kinds}.items():
            low, high = one["interval"]
            measure = each["measure"] if name == _short(uri) else ""
            table.add_row(name, measure, f"{one['pairs']:,}", f"{one['accuracy']:.1%}", f"{low:.1%} to {high:.1%}")
    return table


def _texts(told: dict[str, Any]) -> Table:
    table = _table("texts", "measure", "segments", "tokens", "bits a byte", "95 % interval", "perplexity")
    for uri, each in told.items():
        interval = "{:.3f} to {:.3f}".format(*each["interval"]) if each["interval"] else "-"
        count = f"{each['segments']:,} of {each['of']:,}"
        bits, perplexity = f"{each['bits_per_byte']:.3f}", f"{each['perplexity']:,.1f}"
        name = _short(uri)
        table.add_row(name, each["measure"], count, f"{each['tokens']:,}", bits, interval, perplexity)
    return table


def _short(uri: str) -> str:
    return uri.rstrip("/").rsplit("/", 1)[-1]


def _table(*names: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for number, name in enumerate(names):
        table.add_column(name, justify="left" if number < 2 else "right")
    return table
