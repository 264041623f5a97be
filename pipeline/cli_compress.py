"""The command that makes a fine-tuned model smaller and faster, and says what that costs."""

import json
from textwrap import fill
from typing import Any

import click
from rich.console import Console

from tundish.pipeline.cli_finetune import columns_of
from tundish.pipeline.cli_options import ERR, laid_folder, named_tests
from tundish.pipeline.cli_reading import COLUMNS, with_reading
from tundish.pipeline.compressed_table import besides, stacked, table_of

OUT = Console(emoji=False)


@click.command("compress")
@click.argument("model", metavar="FOLDER")
@click.option("--train", multiple=True, required=True, metavar="FILE", help="What the recovery of each step learns.")
@click.option("--dev", multiple=True, metavar="FILE", help="Without it a tenth of train.")
@click.option("--test", multiple=True, metavar="[NAME=]FILE", help="Without it a fifth of train. Not what was learnt.")
@click.option("--column", "columns", multiple=True, metavar="ROLE=COLUMN", help=COLUMNS)
@click.option("--out", required=True, metavar="DIR")
@click.option(
    "--steps", default="distil,heads,layers,magnitude,int8,onnx", show_default=True, metavar="STEP,STEP+STEP",
    help="Each from the model itself, or from what stands before its +.",
)  # fmt: skip
@click.option("--layers", type=click.IntRange(0), default=0, help="To keep; of distil the student's (default: half).")
@click.option(
    "--way", default="alternate", show_default=True, help="top | alternate | symmetric | bottom | contribution"
)
@click.option("--heads", type=click.IntRange(0), default=0, help="Of each layer to keep (default: half).")
@click.option("--share", type=float, default=0.5, show_default=True, help="Of the weights that magnitude makes zero.")
@click.option(
    "--scope", default="global", show_default=True, help="global | matrix: among which the smallest are sought."
)
@click.option("--gradual", is_flag=True, help="Zeros grow while the recovery learns.")
@click.option("--teacher", default="", metavar="FOLDER", help="Of distil (default: the model itself).")
@click.option("--student", default="", metavar="FOLDER", help="Of distil, in place of the model's own layers.")
@click.option("--alpha", type=float, default=0.5, show_default=True, help="The teacher's share of the loss.")
@click.option("--temperature", type=float, default=2.0, show_default=True)
@click.option("--hidden", type=float, default=0.0, show_default=True, help="Weight of the hidden states' loss.")
@click.option(
    "--match", default="uniform", show_default=True, help="uniform | top | last | 0:1,2:5 (student's:teacher's)"
)
@click.option("--seeds", type=click.IntRange(1), default=3, show_default=True)
@click.option("--epochs", type=click.IntRange(1), default=3, show_default=True, help="Of each recovery.")
@click.option("--batch", type=click.IntRange(1), default=16, show_default=True)
@click.option("--lr", type=float, default=0.0, help="At its peak (default: by the model's size).")
@click.option("--length", type=click.IntRange(0), default=0, help="Tokens of a text (default: as it was learnt).")
@click.option("--threads", type=click.IntRange(1), help="Of torch and onnxruntime (default: theirs).")
@click.option("--json", "as_json", is_flag=True)
@with_reading
def compress_command(
    model: str, train: tuple[str, ...], dev: tuple[str, ...], test: tuple[str, ...], columns: tuple[str, ...], out: str,
    steps: str, seeds: int, epochs: int, batch: int, lr: float, length: int, threads: int | None, as_json: bool,
    reading: dict[str, Any], **means: Any,
) -> None:  # fmt: skip
    """Distil, prune, quantize and export a fine-tuned model: size, speed and score of each, and their front."""
    from tundish.pipeline.compressed_page import page
    from tundish.stages.compress_run import run

    files: dict[str, Any] = {"train": list(train), **({"dev": list(dev)} if dev else {}), **named_tests(test)}
    laid_folder(out)

    def tell(line: str) -> None:
        if not as_json:
            ERR.print(line, highlight=False, markup=False, soft_wrap=True)

    result = run(
        model, files, out, [each.strip() for each in steps.split(",") if each.strip()], means, tell=tell,
        columns=columns_of(columns), length=length, threads=threads, seeds=tuple(range(1, seeds + 1)), epochs=epochs,
        batch=batch, lr=lr, reading=reading,
    )  # fmt: skip
    seen = page(out)
    if as_json:
        click.echo(json.dumps(result, ensure_ascii=False))
        return
    shown(result, OUT)
    OUT.print(f"the page: {seen}", highlight=False, markup=False, soft_wrap=True)


def shown(result: dict[str, Any], console: Console) -> None:
    """The table, or lines where it has no room, and the foot; words are broken at no place of a line."""
    table = table_of(result, console.width)
    lines = besides(result) if table else [*stacked(result), "", *besides(result)]
    if table:
        console.print(table)
    for line in lines:
        indent = " " * (len(line) - len(line.lstrip()) + 2)
        wrapped = fill(line, console.width, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)
        console.print(wrapped, highlight=False, markup=False, soft_wrap=True)
