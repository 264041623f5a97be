"""Options of commands that have a model write: how its texts are chosen."""

import functools
from collections.abc import Callable
from typing import Any

import click

OPTIONS = {  # fields of `Decoding`
    "longest": click.option("--longest", type=click.IntRange(1), help="Tokens of a text at most (64, unless told)."),
    "beams": click.option("--beams", type=click.IntRange(1), help="Rows kept open; 1 takes the best token each time."),
    "no_repeat": click.option(
        "--no-repeat", type=click.IntRange(0), metavar="N", help="No run of N tokens comes twice, such as 3."
    ),
    "sample": click.option("--sample", is_flag=True, default=None, help="Draw the texts."),
    "top_p": click.option("--top-p", type=float, help="Draw from the likeliest tokens of this share together."),
    "temperature": click.option("--heat", "temperature", type=float, help="Of a draw; below 1 it is less surprising."),
    "seed": click.option("--draw", "seed", type=int, metavar="N", help="Another number, another draw."),
}


def with_writing(command: Callable[..., Any]) -> Callable[..., Any]:
    """These options, given to the command together: `writing`, those that were said."""

    @functools.wraps(command)
    def taking(**given: Any) -> Any:
        said = {name: given.pop(name) for name in OPTIONS}
        return command(writing={name: value for name, value in said.items() if value is not None}, **given)

    for option in reversed(OPTIONS.values()):
        taking = option(taking)
    return taking


def written_so(said: dict[str, Any]) -> dict[str, Any]:
    """The field of a task that says so; nothing where nothing was said."""
    from tundish.operators.model.decoding import Decoding

    return {"writing": Decoding(**said)} if said else {}
