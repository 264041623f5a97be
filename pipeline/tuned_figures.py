"""Figures of a fine-tuning: reliability, curves with bands, a search, a front, and small ranges inside table cells.

Promises: as `figures.drawn`: inline SVG, the same bytes for the same numbers, in the colours and the font of the page,
named for those who do not see it. Costs a tenth of a second each, a range in a cell next to nothing.
"""

import warnings
from collections.abc import Callable, Mapping, Sequence
from html import escape
from typing import Any, NamedTuple

from tundish.pipeline.figures import FIRST, INK, SECOND, drawn
from tundish.stages.plot_labels import named

COLOURS = {"pretrained": FIRST, "fresh": SECOND}
STROKES = {"pretrained": "-", "fresh": "--"}  # told apart without colours too
WIDTH, ROW = 180, 12  # of a range in a cell, in its own units
Points = Sequence[Mapping[str, Any]]


class Range(NamedTuple):
    """One line of a cell: a dot, a bar between `low` and `high`, a small dot for each of `dots`."""

    value: float | None
    low: float | None = None
    high: float | None = None
    dots: Sequence[float] = ()
    colour: str = "var(--first)"


def figure(name: str, title: str, height: float, paint: Callable[[Any], None]) -> str:
    """`drawn` with its title inside as well, and quiet about letters that no font here has: the page's has them."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        svg = drawn(name, title, height, paint)
    return svg.replace(">", f"><title>{escape(title)}</title>", 1)


def reliability(name: str, title: str, before: Mapping[str, Any], after: Mapping[str, Any] | None) -> str:
    """Accuracy by confidence before and after temperature scaling, and below how many answers each bin holds."""
    each = [("as it is", before, FIRST)] + ([("at the temperature", after, SECOND)] if after else [])

    def paint(axes: Any) -> None:
        drawing = axes.figure
        axes.remove()
        above, below = drawing.subplots(2, 1, height_ratios=(3, 1), sharex=True)
        above.plot([0, 1], [0, 1], color=INK, linestyle="--", linewidth=1, label="as sure as right")
        for label, bins, colour in each:
            above.plot(bins["confidence"], bins["accuracy"], "o-", color=colour, markersize=4, label=label)
            edges = [*bins["low"], *bins["high"][-1:]]
            whole = sum(bins["count"])
            shares = [count / max(1, whole) for count in bins["count"]]
            if all(one == other for one, other in zip(bins["high"], bins["low"][1:], strict=False)):
                below.stairs(shares, edges, color=colour, linewidth=1.5)
            else:  # bins that hold nothing lie between
                below.bar(bins["low"], shares, [b - a for a, b in zip(bins["low"], bins["high"], strict=True)],
                          align="edge", fill=False, edgecolor=colour, linewidth=1.5)  # fmt: skip
        above.set(ylabel="share right", xlim=(0, 1), ylim=(0, 1))
        below.set(xlabel="confidence", ylabel="answers")
        below.yaxis.set_major_formatter("{x:.0%}")
        above.grid(axis="y")

    return figure(name, title, 3.6, paint)


def by_size(name: str, title: str, measure: str, curve: Mapping[str, Points]) -> str:
    """Means by the number of examples with the band of their intervals."""

    def paint(axes: Any) -> None:
        for kind, points in sorted(curve.items(), reverse=True):  # pretrained before fresh
            colour = COLOURS.get(kind, INK)
            sizes, means = [one["size"] for one in points], [one["mean"] for one in points]
            banded = [one for one in points if one.get("interval")]
            axes.fill_between(
                [one["size"] for one in banded],
                [one["interval"][0] for one in banded],
                [one["interval"][1] for one in banded],
                color=colour, alpha=0.18, linewidth=0,
            )  # fmt: skip
            axes.plot(sizes, means, "o" + STROKES.get(kind, "-"), color=colour, markersize=4, label=kind)
        axes.set_xscale("log")
        sizes = sorted({one["size"] for points in curve.values() for one in points})
        axes.set_xticks(sizes, [f"{one:,}" for one in sizes])
        axes.minorticks_off()
        axes.set(xlabel="examples", ylabel=measure.replace("_", " "))
        axes.grid(axis="y")

    return figure(name, title, 2.6, paint)


def by_epoch(name: str, title: str, label: str, lines: Sequence[tuple[str, Sequence[float | None]]]) -> str:
    """A thin line a run, in the colour of what it began from; what was no number is left out. Of several epochs."""

    def paint(axes: Any) -> None:
        told: set[str] = set()
        for kind, values in lines:
            known = [(at + 1, value) for at, value in enumerate(values) if value is not None]
            legend = kind if kind not in told else None
            told.add(kind)
            style = "o" if len(known) == 1 else STROKES.get(kind, "-")
            axes.plot(*(zip(*known, strict=True) if known else ([], [])), style, color=COLOURS.get(kind, INK),
                      linewidth=1.1, markersize=3, alpha=0.8, label=legend)  # fmt: skip
        most = max((len(values) for _, values in lines), default=1)
        axes.set(xlabel="epoch", ylabel=label.replace("_", " "), xticks=range(1, most + 1, max(1, most // 10)))
        axes.grid(axis="y")

    return figure(name, title, 2.4, paint)


def after_one(name: str, title: str, label: str, lines: Sequence[tuple[str, float]]) -> str:
    """Values behind the only epoch, which make no line: a ring a run, in a row by what it began from, with the mean."""
    kinds = [kind for kind in COLOURS if any(kind == each for each, _ in lines)]

    def paint(axes: Any) -> None:
        for row, kind in enumerate(reversed(kinds)):  # the first above
            values = [value for each, value in lines if each == kind]
            mean = sum(values) / len(values)
            axes.plot(values, [row] * len(values), "o", color=COLOURS[kind], markerfacecolor="none", markersize=5)
            axes.plot([mean, mean], [row - 0.28, row + 0.28], color=COLOURS[kind], linewidth=1.5)
            axes.annotate(f"mean {mean:.3f}", (mean, row + 0.3), ha="center", va="bottom", fontsize=8, color=INK)
        axes.set_yticks(range(len(kinds)), kinds[::-1])
        axes.set(xlabel=label.replace("_", " "), ylim=(-0.6, len(kinds) - 0.2))
        axes.margins(x=0.12)
        axes.grid(axis="x")

    return figure(name, title, 1.0 + 0.5 * len(kinds), paint)


def budget(
    name: str, title: str, measure: str, trials: Sequence[float], mean: Sequence[float], band: Sequence[float]
) -> str:
    """The best validation score to expect of so many trials, one standard deviation to both sides."""

    def paint(axes: Any) -> None:
        axes.xaxis.get_major_locator().set_params(integer=True)
        low = [one - width for one, width in zip(mean, band, strict=True)]
        high = [one + width for one, width in zip(mean, band, strict=True)]
        axes.fill_between(trials, low, high, color=FIRST, alpha=0.18, linewidth=0, label="one standard deviation")
        axes.plot(trials, mean, "o-", color=FIRST, markersize=3, label="best to expect")
        axes.set(xlabel="trials", ylabel=f"{measure.replace('_', ' ')} on dev")
        axes.grid(axis="y")

    return figure(name, title, 2.4, paint)


def front(name: str, title: str, across: str, measure: str, points: Sequence[tuple[str, float, float, bool]]) -> str:
    """Models by what they cost and how well they do, (name, cost, score, whether no other is better in both)."""

    def paint(axes: Any) -> None:
        best = sorted((cost, score) for _, cost, score, first in points if first)
        axes.plot(*(zip(*best, strict=True) if best else ([], [])), "o-", color=FIRST, label="the front")
        rest = [(cost, score) for _, cost, score, first in points if not first]
        if rest:
            axes.plot(*zip(*rest, strict=True), "o", color=SECOND, label="behind it")
        axes.set(xlabel=across, ylabel=measure.replace("_", " "))
        axes.margins(x=0.18, y=0.12)
        axes.grid(axis="y")
        named(axes, [(label, cost, score) for label, cost, score, _ in points], color=INK)

    return figure(name, title, 2.6, paint)


def axis_of(values: Sequence[float | None]) -> tuple[float, float]:
    """Between which ends some values are drawn, with room at both; shares stay between 0 and 1.

    >>> axis_of([0.5, None, 0.9]), axis_of([1.0, 0.999999])
    ((0.48, 0.92), (0.0, 1.0))
    """
    known = [one for one in values if one is not None]
    low, high = min(known, default=0.0), max(known, default=1.0)
    if high - low < 1e-4:  # seeds are told to six digits
        return (0.0, 1.0) if low >= 0 and high <= 1 else (low - 1, high + 1)
    room = 0.05 * (high - low)
    ends = (low - room, high + room)
    return (max(0.0, ends[0]), min(1.0, ends[1])) if low >= 0 and high <= 1 else ends


def ranged(title: str, axis: tuple[float, float], rows: Sequence[Range], mark: float | None = None) -> str:
    """Ranges below each other on one axis, for a cell; `mark` is a dashed line across them."""
    height = ROW * len(rows) + 4
    lines = [_line(one, axis, 2 + ROW * (at + 0.5)) for at, one in enumerate(rows)]
    if mark is not None and axis[0] <= mark <= axis[1]:
        x = _across(mark, axis)
        lines.append(f'<path d="M{x} 1V{height - 1}" stroke="currentColor" stroke-dasharray="3 2"/>')
    base = f'<path d="M0 {height - 0.5}H{WIDTH}" stroke="currentColor" opacity=".35"/>'
    return (
        f'<svg class="range" role="img" aria-label="{escape(title)}" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" '
        f'height="{height}"><title>{escape(title)}</title>{base}{"".join(lines)}</svg>'
    )


def _across(value: float, axis: tuple[float, float]) -> str:
    place = (value - axis[0]) / (axis[1] - axis[0])
    return f"{4 + (WIDTH - 8) * min(1.0, max(0.0, place)):.1f}"


def _line(one: Range, axis: tuple[float, float], y: float) -> str:
    dots = "".join(
        f'<circle cx="{_across(dot, axis)}" cy="{y}" r="1.9" fill="var(--back)" stroke="{one.colour}"/>'
        for dot in one.dots
    )
    found = ""
    if one.low is not None and one.high is not None:
        ends = _across(one.low, axis), _across(one.high, axis)
        found = f'<path d="M{ends[0]} {y}H{ends[1]}" stroke="{one.colour}" stroke-width="2"/>'
    if one.value is not None:
        found += f'<circle cx="{_across(one.value, axis)}" cy="{y}" r="3.6" fill="{one.colour}"/>'
    return found + dots
