"""The command that makes a fine-tuned model smaller and faster, and says what that costs."""

import json
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from tundish.pipeline.cli_finetune import columns_of
from tundish.pipeline.cli_options import ERR, laid_folder, named_tests

OUT = Console(emoji=False)


@click.command("compress")
@click.argument("model", metavar="FOLDER")
@click.option("--train", multiple=True, required=True, metavar="FILE", help="What the recovery of each step learns.")
@click.option("--dev", multiple=True, metavar="FILE", help="Without it a tenth of train.")
@click.option("--test", multiple=True, metavar="[NAME=]FILE", help="Without it a fifth of train.")
@click.option("--column", "columns", multiple=True, metavar="ROLE=COLUMN", help="Such as text=sentence, label=3.")
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
@click.option("--length", type=click.IntRange(0), default=0, help="Tokens of a text (default: what the model reads).")
@click.option("--threads", type=click.IntRange(1), help="Of torch and onnxruntime (default: theirs).")
@click.option("--json", "as_json", is_flag=True)
def compress_command(
    model: str, train: tuple[str, ...], dev: tuple[str, ...], test: tuple[str, ...], columns: tuple[str, ...], out: str,
    steps: str, seeds: int, epochs: int, batch: int, lr: float, length: int, threads: int | None, as_json: bool,
    **means: Any,
) -> None:  # fmt: skip
    """Distil, prune, quantize and export a fine-tuned model: size, speed and score of each, and their front."""
    from tundish.stages.compress_run import run

    files: dict[str, Any] = {"train": list(train), **({"dev": list(dev)} if dev else {}), **named_tests(test)}
    laid_folder(out)

    def tell(line: str) -> None:
        if not as_json:
            ERR.print(line, highlight=False, markup=False, soft_wrap=True)

    result = run(
        model, files, out, [each.strip() for each in steps.split(",") if each.strip()], means, tell=tell,
        columns=columns_of(columns), length=length, threads=threads, seeds=tuple(range(1, seeds + 1)), epochs=epochs,
        batch=batch, lr=lr,
    )  # fmt: skip
    if as_json:
        click.echo(json.dumps(result, ensure_ascii=False))
        return
    OUT.print(table_of(result))
    for line in besides(result):
        OUT.print(line, highlight=False, markup=False, soft_wrap=True)
    OUT.print(f"{Path(out) / 'compressed.svg'}", highlight=False, soft_wrap=True)


def table_of(result: dict[str, Any]) -> Table:
    """A row for each step: size, times, and of each tested part the mean with its interval and what was before."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    parts = result["tested"]
    names = [f"{result['measure']}, {part}" if len(parts) > 1 else result["measure"] for part in parts]
    for name in ("step", "MB", "parameters", "zero", "ms", "texts/s"):
        table.add_column(name, justify="left" if name == "step" else "right", no_wrap=True)
    for name in names:
        table.add_column(name, justify="right", no_wrap=True)
        table.add_column("95 % interval", justify="right", no_wrap=True)
        table.add_column("before", justify="right", no_wrap=True)
    table.add_column("front", no_wrap=True)
    for path, one in result["steps"].items():
        share = one["zeros"] / max(1, one["parameters"])
        cells = [path, f"{one['bytes'] / 1e6:.2f}", f"{one['parameters']:,}", f"{share:.0%}" if share > 0.005 else ""]
        cells += [f"{one['speed']['latency']:.2f}", f"{one['speed']['throughput']:,.0f}"]
        for part in parts:
            cells += _scores(one["parts"][part])
        cells.append(", ".join({"latency": "ms", "bytes": "MB"}[cost] for cost, best in one["front"].items() if best))
        table.add_row(*cells)
    return table


def _scores(told: dict[str, Any]) -> list[str]:
    low, high = told.get("interval", (None, None))
    before = told.get("before")
    return [
        f"{told['mean']:.3f}",
        "" if low is None else f"{low:.3f} to {high:.3f}",
        "" if before is None else f"{before:.3f}",
    ]


def besides(result: dict[str, Any]) -> list[str]:
    """What was done in each step, how many times as fast it is, and where."""
    steps, lines = result["steps"], []
    whole = steps["model"]["speed"]
    for path, one in steps.items():
        if path == "model":
            continue
        faster, more = whole["latency"] / one["speed"]["latency"], one["speed"]["throughput"] / whole["throughput"]
        behind = one["speed"]["fastest"] > whole["latency"] or more < 0.95  # more than the scatter of calls
        slower = "; slower here" if behind else ""
        failed = f"; {one['parts']['failed']} seeds failed" if one["parts"]["failed"] else ""
        lines.append(f"{path}: {one['told']}; {faster:.2f} x for one text, {more:.2f} x for batches{slower}{failed}")
    it = result["machine"]
    where = it["gpu"] or f"{it['processor']} ({it['instructions']})"
    lines.append(f"times on {where}, {it['threads']} threads, batches of {it['batch']}, torch {it['torch']}")
    return lines
