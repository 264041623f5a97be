"""What commands that take a recipe have in common: their options, the recipe, the settings, the cluster."""

import contextlib
import json
import os
import re
from collections.abc import Callable, Iterator
from typing import Any

import click
from rich.console import Console

OUT, ERR = Console(emoji=False), Console(stderr=True, emoji=False)  # `:b:` in a name is no picture

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")  # of a test

recipe_options = [
    click.argument("recipe"),
    click.option(
        "--root", default="tundish-root", show_default=True, help="Where everything is written: a folder or a URI."
    ),
    click.option(
        "--set", "sets", multiple=True, metavar="STAGE.FIELD=VALUE", help="Change a field of every such stage."
    ),
    click.option("--sample", type=int, help="Take only this many captures (rows, pages) of each source."),
    click.option("--wire", multiple=True, metavar="HOST:PORT=ADDRESS:PORT", help="Where hosts allowed by name are."),
]


def with_recipe(command: Callable[..., Any]) -> Callable[..., Any]:
    for option in reversed(recipe_options):
        command = option(command)
    return command


def loaded(recipe: str, sets: tuple[str, ...], sample: int | None) -> Any:
    from tundish.pipeline import recipe as recipes
    from tundish.pipeline.plan import refuse_credentials

    if sample is not None and sample < 1:
        raise ValueError(f"--sample {sample} takes nothing; give 1 or more, or leave it out to take everything")
    stage = recipes.changed(recipes.load(recipe), sets)
    for one in stage.walk():
        refuse_credentials(one)
    return recipes.sampled(stage, sample) if sample else stage


def laid_folder(out: str) -> None:
    """The folder, if it is not there; a store has none to lay."""
    from tundish.cluster import store

    try:
        if path := store.local(out):
            path.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise ValueError(f"--out {out} is a file, or lies in one; give a folder") from None


def named_tests(given: tuple[str, ...]) -> dict[str, str]:
    """Files to test on by their names: `NAME=FILE`, or a file alone, which is called test, test-2 and so on.

    >>> named_tests(("a.tsv", "other=b.tsv", "x/c=1.tsv"))
    {'test': 'a.tsv', 'other': 'b.tsv', 'test-3': 'x/c=1.tsv'}
    """
    found: dict[str, str] = {}
    for number, one in enumerate(given, 1):
        name, _, path = one.partition("=")
        if not path or not NAME.fullmatch(name):
            name, path = "test" if number == 1 else f"test-{number}", one
        if name in ("train", "dev"):
            raise ValueError(f"--test {one!r} calls a test {name}; give it a name of its own")
        if name in found:
            raise ValueError(f"two tests are called {name!r}; give each a name of its own, such as other={path}")
        found[name] = path
    return found


class Trainers(click.ParamType):
    """How many workers train together: a number, or the fewest and the most."""

    name = "N|MIN-MAX"

    def convert(self, value: Any, param: Any, ctx: Any) -> tuple[int, int]:
        """(fewest, most).

        >>> Trainers().convert("4", None, None), Trainers().convert("2-8", None, None)
        ((4, 4), (2, 8))
        """
        if isinstance(value, tuple):
            return value
        least, dash, most = str(value).partition("-")
        if not least.isdecimal() or not (most.isdecimal() if dash else not most):
            self.fail(f"{value!r} is no number of workers; give one, such as 4, or the fewest and the most, 2-8")
        found = int(least), int(most or least)
        if dash and not 1 <= found[0] <= found[1]:
            self.fail(f"{value!r}: the fewest workers come first, and are at least 1; give such as 2-8")
        return found


def spelled(trainers: tuple[int, int]) -> str:
    """As the command line takes it.

    >>> spelled((4, 4)), spelled((2, 8))
    ('4', '2-8')
    """
    return str(trainers[1]) if trainers[0] == trainers[1] else f"{trainers[0]}-{trainers[1]}"


def settings_of(wire: tuple[str, ...], trainers: tuple[int, int] = (1, 1)) -> Any:
    from tundish.stages.stage import Settings

    table = wire_of(os.environ.get("TUNDISH_WIRE", ""))
    for entry in wire:
        host, sign, address = entry.partition("=")
        if not sign or ":" not in host or ":" not in address:
            raise ValueError(f"--wire {entry!r} is not understood; write it as host:port=address:port")
        table[host] = address
    return Settings(table, trainers=trainers[1], least=trainers[0])


def wire_of(text: str) -> dict[str, str]:
    """The table in `TUNDISH_WIRE`; an empty text is an empty table."""
    table: Any = None
    with contextlib.suppress(ValueError):
        table = json.loads(text.strip() or "{}")
    if not isinstance(table, dict) or not all(isinstance(address, str) for address in table.values()):
        raise ValueError(
            f"TUNDISH_WIRE is {text!r}; make it a JSON object such as "
            '{"heron.example:80": "127.0.0.1:8080"}, or unset it'
        )
    return table


@contextlib.contextmanager
def cluster_of(on: str, workers: int | None, watch: Any) -> Iterator[Callable[[], Any]]:
    """A function that brings up the cluster when it is first needed; it is let go at the end."""
    with contextlib.ExitStack() as stack:

        def bring() -> Any:
            if on == "local":
                from tundish.cluster.local import Local

                return Local(workers or 1, watch)
            from tundish.cluster.on_ray import OnRay

            address = {"ray": None, "auto": "auto"}.get(on, on)
            cluster = stack.enter_context(OnRay(address, cpus=workers, watch=watch))
            if cluster.dashboard_url:
                ERR.print(
                    f"[dim]Ray dashboard: http://{cluster.dashboard_url}{cluster.note}[/]",
                    highlight=False,
                    soft_wrap=True,
                )
            return cluster

        yield bring
