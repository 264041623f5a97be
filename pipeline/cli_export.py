"""The command that hands a model over: a Hugging Face directory with its tokenizer and a card."""

import json

import click
from rich.console import Console

OUT = Console(emoji=False)


@click.command("export")
@click.argument("root")
@click.option("--to", required=True, metavar="DIR", help="The folder to write: local, or a URI.")
@click.option("--model", metavar="ADDRESS", help="The training, where the latest run has several (default: its last).")
@click.option(
    "--precision", type=click.Choice(["float32", "bfloat16", "float16"]), default="float32", show_default=True
)
@click.option("--generator", is_flag=True, help="The generator of a detection, in place of its discriminator.")
@click.option("--license", "licence", default="", metavar="NAME", help="For the card's header, as the Hub spells it.")
@click.option("--json", "as_json", is_flag=True)
def export_command(
    root: str, to: str, model: str | None, precision: str, generator: bool, licence: str, as_json: bool
) -> None:
    """What a run trained, as `transformers` loads it: weights, configuration, tokenizer, model card.

    ROOT is that of a run, or a folder that `tundish finetune --out` wrote, whose head goes along.
    """
    from tundish.pipeline.export import export

    told = export(root, to, model=model, precision=precision, generator=generator, licence=licence)
    if as_json:
        click.echo(json.dumps(told, ensure_ascii=False))
        return
    OUT.print(
        f"{told['to']}: {told['architecture']}, {told['parameters']:,} parameters in {told['precision']}",
        highlight=False,
        soft_wrap=True,
    )
    for name, count in told["files"].items():
        OUT.print(f"  {name}  {count:,} bytes", highlight=False, soft_wrap=True)
    for doubt in told["doubts"]:
        OUT.print(f"  the tokenizer may give other ids: {doubt}", highlight=False, soft_wrap=True)
