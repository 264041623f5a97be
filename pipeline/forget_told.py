"""The answer of a forgetting, for a terminal: what was lost where, who saw it, what could not be reached."""

from collections.abc import Iterator
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from tundish.pipeline.seen import spelt

STEPS = 8  # of a training, shown
KINDS = {
    "table": "rows removed",
    "log": "addresses masked",
    "archive": "captures removed",
    "lines": "lines removed",
    "begun": "rows removed with their shards",
}


def told(answer: dict[str, Any], out: Console) -> None:
    """Print it."""
    dry = answer.get("dry", False)
    shown = Table(box=None, pad_edge=False)
    for name, side in (("", "left"), ("number", "right"), ("bytes", "right"), ("what", "left")):
        shown.add_column(name, justify=side, overflow="fold")  # type: ignore[arg-type]
    for one in answer["lost"]:
        size = "" if dry else f"{one['bytes']:,}"
        shown.add_row(Text(one["dataset"]), str(one["rows"]), size, KINDS[one["kind"]])
    if answer["lost"]:
        out.print(shown)
    for line in lines(answer):
        out.print(line, highlight=False, markup=False, soft_wrap=True)


def lines(answer: dict[str, Any]) -> Iterator[str]:
    """Everything but the table."""
    number, would = answer["documents"], "would be " if answer.get("dry") else ""
    yield f"{number} document{'s' if number != 1 else ''} {would}forgotten"
    if not answer["lost"]:
        yield "the root holds nothing of it any more"
    for one in answer["outside"]:
        yield f"not the root's, and left as it is: {one['file']} still holds {one['documents']} of them"
    for one in answer["copies"]:
        yield f"the same text stays at {one['url'] or one['id']} (id {one['id']}); forget that too, if it is meant"
    for one in answer["redo"]:
        yield f"{one['stage']} is made again by the next run: {one['because']}"
    for one in answer["learned"]:
        yield f"{one['file']} was learned from a sample with {one['documents']} of them, and is kept"
    seen = [sentence for one in answer["models"] for sentence in _model(one)]
    yield from seen
    if seen:
        yield answer["weights"]


def _model(one: dict[str, Any]) -> Iterator[str]:
    if "stands_on" in one:
        yield f"{one['model']} began with the weights of {one['stands_on']}"
    elif one.get("unfinished"):
        yield f"{one['model']} is not finished and begins anew: {', '.join(one['checkpoints'])} may have seen them"
    elif not one["steps"]:
        yield f"{one['model']} took no step that saw them"
    else:
        steps = one["steps"]
        yield (
            f"{one['model']} saw {one['documents']} of them in {len(steps)} step{'s' if len(steps) > 1 else ''} "
            f"({spelt(steps, STEPS)}), the first of them {steps[0]}"
        )
        yield f"  written since: {', '.join(one['checkpoints'])}"
