"""The command that looks at a vocabulary: what it is, how it suits a corpus or files, and its tokenizer.json."""

import json
from typing import Any

import click
from rich.console import Console
from rich.table import Table

OUT = Console(emoji=False)
LISTED = 30  # languages
TRIED = 10_000  # texts on which an export that is not proven is tried


@click.command("vocabulary")
@click.argument("what", metavar="MODEL|ROOT")
@click.argument("files", nargs=-1)
@click.option("--to", metavar="FILE", help="Write it as a tokenizer.json for Hugging Face tokenizers.")
@click.option(
    "--framed", is_flag=True, help="With --to: find special tokens in texts, put [CLS] and [SEP] around them."
)
@click.option("--json", "as_json", is_flag=True)
def vocabulary_command(what: str, files: tuple[str, ...], to: str | None, framed: bool, as_json: bool) -> None:
    """What a vocabulary is: a .model, a tokenizer.json, or the one of a ROOT; its fertility on FILES; its export."""
    from tundish.pipeline import vocabulary_told

    if framed and not to:
        raise ValueError("--framed says how to write a tokenizer.json; give --to FILE as well")
    told = vocabulary_told.told(what, files)
    if to:
        told["export"] = vocabulary_told.exported(what, to, files, framed=framed, most=TRIED)
    if as_json:
        click.echo(json.dumps(told, ensure_ascii=False))
        return
    OUT.print("\n".join(_lines(told)), highlight=False, soft_wrap=True)
    if told["languages"]:
        OUT.print(table(told["languages"]))
    if told["broken"]:
        OUT.print("left out: " + ", ".join(f"{n:,} rows {reason}" for reason, n in told["broken"].items()))
    if to:
        OUT.print("\n".join(_export(told["export"])), highlight=False, soft_wrap=True)


def _lines(told: dict[str, Any]) -> list[str]:
    specials = ", ".join(f"{name} {number}" for name, number in told["specials"].items())
    return [
        f"{told['file']}: {told['kind']}, {told['size']:,} pieces, ids of {told['type']}",
        f"digest {told['digest']}",
        f"specials {specials}",
        *([told["grown"]] if told["grown"] else []),
    ]


def table(languages: dict[str, Any]) -> Table:
    """A row a language: how many pieces a word, how many bytes a piece."""
    shown = Table(box=None, pad_edge=False, header_style="bold")
    names = ("language", "documents", "tokens", "tokens a word", "bytes a token", "unknown", "spelt in bytes")
    for name in names:
        shown.add_column(name, justify="left" if name == "language" else "right")
    for row in languages["rows"][:LISTED]:
        shown.add_row(
            row["name"],
            f"{row['documents']:,}",
            f"{row['tokens']:,}",
            *(_short(row[name], 2) for name in ("tokens_per_word", "bytes_per_token")),
            *(_percent(row[name]) for name in ("unknown_rate", "byte_rate")),
        )
    return shown


def _short(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:.{digits}f}"


def _percent(value: float | None) -> str:
    return "" if value is None else f"{100 * value:.2f} %"


def _export(told: dict[str, Any]) -> list[str]:
    first = f"wrote {told['file']} ({told['bytes']:,} bytes)"
    if not told["doubts"]:
        proof = "the same ids for every text, by construction"
        return [f"{first}: {proof}; {told['differing']} of {told['checked']:,} texts tried differ"]
    said = [f"{first}: the same ids are not certain; {told['differing']:,} of {told['checked']:,} texts tried differ"]
    return said + [f"  because {doubt}" for doubt in told["doubts"]]
