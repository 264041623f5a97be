"""A compression as a terminal shows it: a table as wide as there is room for, or lines below each other, and its foot.

Promises: nothing is cut: columns that always stand are left out together, for lines, where they have no room or where
fewer than 80 columns are; the others come in the order of OPTIONAL while there is room. What is told beside what stands
in the head of its column. Costs nothing. All there is stands in `compressed.json` and on the page.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from rich.table import Table

from tundish.pipeline.templates import counted, spoken
from tundish.pipeline.tuned_training import equal

LEAST = 80  # columns of a terminal that has a table
BETWEEN = 2  # blanks
OPTIONAL = ("texts/s", "seeds", "before", "parameters", "zeros")
WHOLE, RECOVERY = "model", "recovery"  # of stages/compress_task, which brings torch in
Result = Mapping[str, Any]


class Column(NamedTuple):
    head: str
    cells: list[str]

    @property
    def width(self) -> int:
        return max(len(line) for cell in (self.head, *self.cells) for line in cell.split("\n"))


def table_of(result: Result, width: int = 100) -> Table | None:
    """A row for each step and tested part; None where there is no room for it."""
    needed, more = columns(result)
    if width < LEAST or _wide(needed) > width:
        return None
    shown = needed
    for one in more:
        if _wide([*shown, one]) <= width:
            shown = [*shown, one]
    table = Table(box=None, pad_edge=False, header_style="bold")
    for one in shown:
        table.add_column(one.head, justify="left" if one.head in ("step", "test") else "right", no_wrap=True)
    for cells in zip(*(one.cells for one in shown), strict=True):
        table.add_row(*cells)
    return table


def _wide(some: Sequence[Column]) -> int:
    return sum(one.width for one in some) + BETWEEN * (len(some) - 1)


def columns(result: Result) -> tuple[list[Column], list[Column]]:
    """Those that always stand, and the optional ones in their order; empty ones are none."""
    rows = [_row(result, path, part, at) for path in result["steps"] for at, part in enumerate(result["tested"])]
    found = [Column(head, [row[head] for row in rows]) for head in rows[0]]
    needed = [one for one in found if one.head not in OPTIONAL and any(one.cells)]
    by_name = {one.head: one for one in found}
    return needed, [by_name[head] for head in OPTIONAL if any(by_name[head].cells)]


def _row(result: Result, path: str, part: str, at: int) -> dict[str, str]:
    """Cells by head; what a step costs stands beside the first part alone."""
    one = result["steps"][path]
    score, costs = one["parts"][part], _costs(one)
    row = {"step": path, **costs} if at == 0 else dict.fromkeys(("step", *costs), "")
    row |= {"test": part} if len(result["tested"]) > 1 else {}
    row |= {spoken(result["measure"]): _measured(score)}
    row |= {f"less {other}": _less(score, other) for other in (WHOLE, RECOVERY)}
    row |= {"before": f"{score['before']:.3f}" if "before" in score else ""}
    failed = one["parts"]["failed"]
    return row | {"seeds": f"{len(score['seeds'])}" + (f" of {len(score['seeds']) + failed}" if failed else "")}


def _costs(one: Mapping[str, Any]) -> dict[str, str]:
    """A star where no other model is as cheap and as good."""
    speed, star = one["speed"], {cost: "*" if best else " " for cost, best in one["front"].items()}
    share = one["zeros"] / max(1, one["parameters"])
    return {
        "MB ": f"{one['bytes'] / 1e6:.2f}{star['bytes']}",
        "ms ": f"{speed['latency']:.2f}{star['latency']}",
        "texts/s": f"{speed['throughput']:,.0f}",
        "parameters": f"{one['parameters']:,}",
        "zeros": f"{share:.0%}" if share > 0.005 else "",
    }


def _measured(score: Mapping[str, Any]) -> str:
    return f"{score['mean']:.3f}{_ends(score, '{:.3f}')}"


def _ends(told: Mapping[str, Any], form: str) -> str:
    """The ends of an interval, which seldom lie evenly on both sides, on a line below; of equal scores that they are
    equal, which is no sign that others would be."""
    low, high = told.get("interval") or (None, None)
    if low is None:
        return ""
    return "\n" + (equal(told).replace(" equal", "\nequal") or f"{form.format(low)}..{form.format(high)}")


def _less(score: Mapping[str, Any], other: str) -> str:
    """Of a seed or more."""
    told = dict(score["less"].get(other) or {})
    if other == RECOVERY:  # of what has learnt twice, beside the same training twice
        told = next((each for name, each in score["less"].items() if name != WHOLE), {})
    return f"{told['difference']:+.3f}{_ends(told, '{:+.3f}')}" if told else ""


def stacked(result: Result) -> list[str]:
    """The same as lines, a few for each step."""
    lines = []
    for path, one in result["steps"].items():
        costs, name = {head.strip(): cell.strip() for head, cell in _costs(one).items()}, spoken(result["measure"])
        lines += [path, f"  {costs['MB']} MB, {costs['ms']} ms, {costs['texts/s']} texts/s"]
        for part in result["tested"]:
            score = one["parts"][part]
            on = f" on {part}" if len(result["tested"]) > 1 else ""
            lines.append(f"  {name}{on} {_measured(score)}".replace("\n", " "))
            each = ((other, _less(score, other)) for other in (WHOLE, RECOVERY))
            lines += [f"    less {other} {said}".replace("\n", " ") for other, said in each if said]
    return lines


# -- the foot


def besides(result: Result) -> list[str]:
    """What the table does not say of itself, what was done in each step and how many times as fast it is, and where."""
    steps, lines = result["steps"], signs(result)
    lines += known_told(result)
    several = len({one["speed"]["device"] for one in steps.values()}) > 1
    for path, one in steps.items():
        if path != WHOLE:
            where = _where(one) if several else ""
            lines.append(f"{path}: {done(one)}; {faster(steps, path)}{_failed(one)}{where}")
    it = result["machine"]
    where = it["gpu"] or f"{it['processor']} ({it['instructions']})"
    return [
        *lines,
        f"times on {where}, {counted(it['threads'], 'thread')}, batches of {it['batch']}, torch {it['torch']}",
    ]


def done(one: Mapping[str, Any]) -> str:
    """What a step did; and where it made zeros, how many there are of all that an answer depends on."""
    share = one["zeros"] / max(1, one["parameters"])
    return str(one["told"]) + (f" ({100 * share:.1f} % of all numbers)" if "zero" in one["told"] else "")


def signs(result: Result) -> list[str]:
    """What stands in the columns."""
    steps, each = result["steps"], [one["parts"][part] for one in result["steps"].values() for part in result["tested"]]
    lines = ["*: the smallest (fastest), or shown to score more than each smaller (faster) one with a star"]
    if any("interval" in one for one in each):
        lines.append("below a score: its 95 % interval over seeds")
    if any("interval" in less for one in each for less in one["less"].values()):
        lines.append("below a difference: its 95 % interval over tested texts, and over seeds where there are some")
    if any(one["reference"] for one in steps.values()):
        lines.append(f"less {WHOLE}: beside what was given, which has learnt for fewer epochs than what recovers")
        lines.append(f"less {RECOVERY}: beside the same training with nothing taken away: what the step itself costs")
    twice = [path for path, one in steps.items() if one["reference"] not in ("", RECOVERY)]
    return lines + [f"{path} has learnt several times: it is told beside {steps[path]['reference']}" for path in twice]


def known_told(result: Result) -> list[str]:
    """Texts that the model has learnt, and which so test nothing and calibrate nothing."""
    told = result.get("learnt")
    if not told:
        return []
    lines = [
        f"{part}: {one['out']} of {one['of']} texts were taken out, for the model has learnt them"
        for part, one in told["parts"].items()
    ]
    lines += _unfitted(told["dev"]) if "dev" in told else []
    unknown = (
        "the model's folder does not tell what it learnt: of tested texts among that the scores are too high, and a "
        "temperature fitted on such texts is too low"
    )
    return lines if told["known"] else [*lines, unknown]


def _unfitted(dev: Mapping[str, int]) -> list[str]:
    """Of texts that were learnt a model is too sure."""
    left, known = dev["of"] - dev["out"], f"dev: the model has learnt {dev['out']} of {dev['of']} texts"
    if not left:
        return [f"{known}, so what learns has no temperature, and is too sure; give --dev with texts it has not seen"]
    return [f"{known}; the temperature of what learns is fitted on the other {left}"]


def faster(steps: Mapping[str, Any], path: str) -> str:
    own, whole = steps[path]["speed"], steps[WHOLE]["speed"]
    once, more = whole["latency"] / own["latency"], own["throughput"] / whole["throughput"]
    behind = own["fastest"] > whole["latency"] or more < 0.95  # more than the scatter of calls
    return f"{once:.2f} x for one text, {more:.2f} x for batches{'; slower here' if behind else ''}"


def _failed(one: Mapping[str, Any]) -> str:
    return f"; {counted(one['parts']['failed'], 'seed')} failed" if one["parts"]["failed"] else ""


def _where(one: Mapping[str, Any]) -> str:
    return f"; on {one['speed']['device']}"
