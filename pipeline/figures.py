"""Figures of the report: inline SVG by matplotlib, the same bytes for the same numbers, in the colours of the page."""

import io
import re
from collections.abc import Callable, Mapping, Sequence
from html import escape
from typing import Any

import numpy as np

from tundish.pipeline.funnel import short

# Colours no figure uses otherwise: the page puts its own in their place, so that they follow light and dark.
INK, GRID, FIRST, SECOND = "#010203", "#010204", "#010205", "#010206"
STYLES = {INK: "currentColor", GRID: "var(--line)", FIRST: "var(--first)", SECOND: "var(--second)"}
Series = Mapping[str, Sequence[float] | np.ndarray]


def drawn(name: str, title: str, height: float, paint: Callable[[Any], None]) -> str:
    """A figure as SVG that says the same bytes every time, its text left as text. `name` is unique on the page."""
    import matplotlib
    from matplotlib.figure import Figure

    ink = dict.fromkeys(("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color"), INK)
    plain = {"svg.fonttype": "none", "svg.hashsalt": name, "text.parse_math": False, "font.size": 9, "grid.color": GRID}
    ends = {"axes.spines.top": False, "axes.spines.right": False, "legend.frameon": False, "axes.axisbelow": True}
    body = io.StringIO()
    with matplotlib.rc_context({**matplotlib.rcParamsDefault, **ink, **plain, **ends, "backend": "svg"}):
        figure = Figure(figsize=(4.6, height), layout="constrained")
        axes = figure.subplots()
        paint(axes)
        if any(each.get_legend_handles_labels()[1] for each in figure.axes):
            figure.legend(loc="outside upper right", ncols=3)
        figure.savefig(body, format="svg", transparent=True, metadata={"Date": None})
    svg = re.sub(r"<metadata>.*?</metadata>", "", body.getvalue()[body.getvalue().index("<svg") :], flags=re.DOTALL)
    svg = re.sub(r'\b(id="|xlink:href="#|url\(#)', lambda m: f"{m[1]}{name}-", svg)
    svg = re.sub(
        r'^<svg [^>]*?viewBox="([^"]*)"[^>]*>', rf'<svg role="img" aria-label="{escape(title)}" viewBox="\1">', svg
    )
    return re.sub("|".join(STYLES), lambda m: STYLES[m[0]], svg)


def bars(name: str, title: str, labels: Sequence[str], series: Series) -> str:
    """Horizontal bars, one a label, the series of each laid end to end."""

    def paint(axes: Any) -> None:
        start = np.zeros(len(labels))
        for (legend, values), colour in zip(series.items(), (FIRST, SECOND), strict=False):
            axes.barh(range(len(labels)), values, left=start, color=colour, label=legend)
            start = start + np.asarray(values)
        axes.set_yticks(range(len(labels)), labels)
        axes.invert_yaxis()
        axes.set_xlabel("documents")
        axes.xaxis.set_major_formatter("{x:,.0f}")
        axes.grid(axis="x")

    return drawn(name, title, 0.9 + 0.24 * len(labels), paint)


def histogram(name: str, title: str, edges: np.ndarray, series: Series) -> str:
    """How many documents lie in each bin, the series stacked."""

    def paint(axes: Any) -> None:
        bins = [edges[:-1]] * len(series)
        axes.hist(bins, edges, weights=[*series.values()], stacked=True, label=[*series], color=[FIRST, SECOND])
        axes.set(xlabel=title.replace("_", " "), ylabel="documents")

    return drawn(name, f"Documents by {title}", 2.1, paint)


def distribution(
    name: str, title: str, edges: np.ndarray, kept: np.ndarray, refused: np.ndarray, marks: Sequence[float]
) -> str:
    """How many documents lie in each bin, those kept filled and those refused as a line, their number on a
    logarithmic scale, since a rule is about few; thresholds are dashed lines."""
    from matplotlib.ticker import NullLocator

    def paint(axes: Any) -> None:
        axes.stairs(kept, edges, fill=True, color=FIRST, alpha=0.6, label="kept")
        axes.stairs(refused, edges, color=SECOND, linewidth=1.8, label="refused")
        for number, mark in enumerate(marks):
            told = f"threshold {short(mark)}" if len(marks) == 1 else "thresholds" if not number else None
            axes.axvline(mark, color=INK, linestyle="--", linewidth=1, label=told)
        axes.set_yscale("symlog", linthresh=1)
        axes.yaxis.set_major_formatter("{x:,.0f}")
        axes.yaxis.set_minor_locator(NullLocator())
        if edges[-1] > 1000:
            axes.set_xscale("log")
            axes.xaxis.set_major_formatter("{x:,.0f}")  # matplotlib's own would be a formula
            axes.xaxis.set_minor_locator(NullLocator())
        axes.set(xlabel=title.replace("_", " "), ylabel="documents", xlim=(edges[0], edges[-1]))
        axes.set_ylim(bottom=0)

    return drawn(name, f"Documents by {title}", 2.1, paint)


def certified(
    name: str,
    curve: Sequence[tuple[float, float]],
    at: Sequence[float],
    shares: Sequence[float],
    errors: Sequence[float],
    joined: Sequence[float],
) -> str:
    """The S-curve of theory, the measured shares of pairs that share a band with one standard error, and the shares
    that ended in one cluster."""

    def paint(axes: Any) -> None:
        axes.plot(*zip(*curve, strict=True), color=INK, linestyle="--", linewidth=1, label="theory")
        axes.errorbar(at, shares, errors, fmt="o", color=FIRST, markersize=4, capsize=2, label="share a band")
        axes.plot(at, joined, "s", color=SECOND, markersize=4, label="one cluster")
        axes.set(xlabel="Jaccard similarity", ylabel="share of pairs", xlim=(0.4, 1.0), ylim=(-0.03, 1.03))
        axes.grid(axis="y")

    return drawn(name, "Pairs found, by similarity", 2.6, paint)


def curves(
    name: str, title: str, loss: Sequence[tuple[float, float]], held: Sequence[tuple[float, float]], level: float
) -> str:
    """Training loss, held-out points, and the entropy of single tokens as a level to fall below."""

    def paint(axes: Any) -> None:
        axes.plot(*zip(*loss, strict=True), color=FIRST, linewidth=1.2, label="training")
        if held:
            axes.plot(*zip(*held, strict=True), "o", color=SECOND, label="held out")
        axes.axhline(level, color=INK, linestyle="--", linewidth=1, label="unigram entropy")
        axes.set(xlabel="step", ylabel="loss (nats a token)")
        axes.grid(axis="y")

    return drawn(name, title, 2.8, paint)
