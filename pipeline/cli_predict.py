"""The command that asks a fine-tuned model: a line of JSON for each row of some files."""

import json
import sys

import click

from tundish.pipeline.cli_finetune import columns_of


@click.command("predict")
@click.argument("model", metavar="FOLDER")
@click.argument("files", nargs=-1, required=True)
@click.option("--column", "columns", multiple=True, metavar="ROLE=COLUMN", help="Such as text=sentence.")
@click.option("--to", metavar="FILE", help="Where to write the lines (default: standard output).")
@click.option("--batch", type=click.IntRange(1), default=32, show_default=True, help="Rows of a forward pass.")
@click.option("--device", default="", help="Such as cpu or cuda:1 (default: a GPU, if there is one).")
@click.option("--raw", is_flag=True, help="Without the temperature that was fitted.")
def predict_command(
    model: str, files: tuple[str, ...], columns: tuple[str, ...], to: str | None, batch: int, device: str, raw: bool
) -> None:
    """What a fine-tuned model says of every row: labels, numbers, tags, answers, vectors."""
    from tundish.cluster import store
    from tundish.stages.predict import predictions, predictor

    it = predictor(model, device=device, batch=batch, calibrated=not raw)
    lines = (json.dumps(one, ensure_ascii=False) + "\n" for one in predictions(it, list(files), columns_of(columns)))
    if to is None:
        sys.stdout.writelines(lines)
        return
    count = 0
    with store.written(to) as (stream, _):
        for line in lines:
            stream.write(line.encode())
            count += 1
    click.echo(f"{to}: {count:,} rows")
