"""The command that tells what a training will stream, before it begins."""

import json

import click
from rich.console import Console

OUT = Console(emoji=False)


@click.command("stream")
@click.argument("where", metavar="ROOT|TOKENS")
@click.option("--length", default=128, show_default=True, help="Places of the longest segment.")
@click.option("--row", default=0, help="Places of a row (default: as many as --length).")
@click.option("--batch", type=click.IntRange(1), default=32, show_default=True, help="Rows of a step.")
@click.option("--tokens", default="50M", show_default=True, help="To train on, such as 600k, 50M or 10B.")
@click.option(
    "--window", type=click.IntRange(0), default=8, show_default=True, help="Shards of a source in use at once."
)
@click.option("--seed", default=1, show_default=True)
@click.option("--weight", "weights", multiple=True, metavar="SOURCE=SHARE", help="Of a source; by size without any.")
@click.option("--rate", help="Rehearse storage: tokens a second that the workers of a node eat, such as 2M.")
@click.option("--bandwidth", help="Of the node's link, a second, such as 200MB (default: measured now).")
@click.option("--cache", help="Size of the node's cache, such as 40GB (default: room for all).")
@click.option("--json", "as_json", is_flag=True)
def stream_command(
    where: str, length: int, row: int, batch: int, tokens: str, window: int, seed: int, weights: tuple[str, ...],
    rate: str | None, bandwidth: str | None, cache: str | None, as_json: bool,
) -> None:  # fmt: skip
    """What a training will stream: rows, epochs, padding; with --rate, what far storage must give (a dry run)."""
    from tundish.operators.model.rows import Layout
    from tundish.pipeline.foretold import Wish, foretold, tokens_at, told
    from tundish.stages.pretrain import number
    from tundish.stages.token_stream import size_of

    shares = {}
    for one in weights:
        name, sign, share = one.rpartition("=")
        if name in shares:
            raise ValueError(f"--weight gives {name!r} two shares; give it one")
        try:
            shares[name] = float(share)
        except ValueError:
            sign = ""
        if not sign:
            raise ValueError(f"--weight {one!r} is not understood; write it as source=share, such as web=0.7")
    wish = Wish(Layout(row or length, length), batch, number(tokens), window, seed, shares)
    for option, given, read in (
        ("--tokens", tokens, number),
        ("--rate", rate, number),
        ("--bandwidth", bandwidth, size_of),
        ("--cache", cache, size_of),
    ):
        if given and read(given) < 1:
            raise ValueError(f"{option} {given} is nothing; give a positive number, or leave it out")
    link = float(size_of(bandwidth)) if bandwidth else None
    found = foretold(
        tokens_at(where),
        wish,
        rate=float(number(rate)) if rate else None,
        bandwidth=link,
        cache=size_of(cache) if cache else 0,
    )
    if as_json:
        click.echo(json.dumps(found.plain()))
        return
    for line in told(found, wish):
        OUT.print(line, highlight=False)
