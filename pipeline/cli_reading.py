"""Options of commands that read labelled files: how these are laid out, where names and first bytes do not say."""

import functools
from collections.abc import Callable
from typing import Any

import click

FORMS = "csv | tsv | jsonl | json | parquet | arrow | conll | squad"
COLUMNS = "Such as text=sentence; label=3 is the fourth column: numbers count from 0, -1 is the last."
OPTIONS = {  # fields of `Layout`
    "form": click.option("--form", metavar="FORM", help=f"Of the files: {FORMS} (default: by their names)."),
    "encoding": click.option("--encoding", metavar="NAME", help="Of the files, such as cp1252 (default: utf-8)."),
    "delimiter": click.option(
        "--delimiter", metavar="SIGN", help="Between cells, such as ';' (default: a comma in CSV, else a tab)."
    ),
    "header": click.option(
        "--header/--no-header",
        default=None,
        help="Whether a first row names columns (default: unless all are numbers).",
    ),
    "quoted": click.option(
        "--quotes/--no-quotes", "quoted", default=None, help="Whether quotes hold cells together (default: in CSV)."
    ),
}


def with_reading(command: Callable[..., Any]) -> Callable[..., Any]:
    """These options, given to the command together: `reading`, options of `stages/examples.read`."""

    @functools.wraps(command)
    def taking(**given: Any) -> Any:
        said = {name: value for name in OPTIONS if (value := given.pop(name)) is not None}
        return command(reading=read_so(said), **given)

    for option in reversed(OPTIONS.values()):
        taking = option(taking)
    return taking


def read_so(said: dict[str, Any]) -> dict[str, Any]:
    """The option of `read` that says so; nothing where nothing was said.

    >>> read_so({"delimiter": ";"})["layout"].delimiter, read_so({})
    (';', {})
    """
    if not said:
        return {}
    from tundish.stages.examples_cells import Layout

    if said.get("delimiter") == "\\t":  # as one writes a tab in a shell
        said = {**said, "delimiter": "\t"}
    return {"layout": Layout(**said)}
