"""What was found of evaluation texts in a corpus, for a terminal.

Shares are of all examples of a part; who trained on a document is named with how many of its steps saw it.
"""

from collections.abc import Mapping
from typing import Any

from rich.table import Table

SHOWN = 5  # of the worst


def table_of(answer: Mapping[str, Any]) -> Table:
    """A row for each part: how many of its examples were met, and how many where the model learned."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("part", "examples", "too short", "contaminated", "95 % interval", "whole", "trained on"):
        table.add_column(name, justify="left" if name == "part" else "right", no_wrap=True)
    for name, one in answer["parts"].items():
        met = one["contaminated"]
        low, high = met["interval"]
        table.add_row(
            name, f"{one['examples']:,}", f"{one['too_short']:,}", f"{met['count']:,} ({met['share']:.1%})",
            f"{low:.1%} to {high:.1%}", f"{one['whole']['count']:,}",
            f"{one['trained']['count']:,}" if one["trained"] else "not known",
        )  # fmt: skip
    return table


def lines_of(answer: Mapping[str, Any], *, parts: bool = True) -> list[str]:
    """What was met, part by part, with scores side by side where there are some; and what was looked through."""
    said = []
    for name, one in answer["parts"].items():
        if parts:
            met, saw = one["contaminated"], one["trained"]
            trained = f", {saw['count']:,} of them in documents trained on" if saw else ""
            said.append(f"{name}: {met['count']:,} of {one['examples']:,} examples stand in the corpus{trained}")
        scores = one.get("scores")
        if scores:
            each = [f"{group} {_score(told)}" for group, told in scores["groups"].items() if told["n"]]
            said.append(f"{name}, {scores['measure']}: {'; '.join(each)}")
    if answer["asked"] < answer["documents"]:
        said.append(f"of {answer['documents']:,} documents {answer['asked']:,} with most of it were asked for steps")
    return said


def _score(told: Mapping[str, Any]) -> str:
    low, high = told["interval"] or (None, None)
    return f"{told['score']:.3f}" + ("" if low is None else f" ({low:.3f} to {high:.3f})") + f" of {told['n']:,}"


def worst_of(answer: Mapping[str, Any]) -> list[str]:
    """The most contaminated, each with the first document that it stands in."""
    said = []
    for one in answer["worst"][:SHOWN]:
        first = one["from"][0]
        said.append(f"{one['file']} row {one['row']}: {one['weight']:.0%} in {first['url']} ({_steps(first)})")
    return said


def _steps(document: Mapping[str, Any]) -> str:
    """What the ledger says of a document, in a few words."""
    if document["trained"]:
        each = (f"{address} in {saw['steps']} steps" for address, saw in document["trained"].items())
        return f"trained on by {', '.join(each)}"
    return "held out" if document.get("held_out") else "never trained on"
