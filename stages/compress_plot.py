"""The trade of a compression as a figure: score against time of one text, and against bytes, the front marked.

Promises: SVG with its text as text, the same bytes for the same numbers; every step is a point with its name, those on
the front are filled and joined. Costs half a second.
"""

import io
from collections.abc import Mapping
from typing import Any

from tundish.stages.plot_labels import named

FRONT, OTHER, LINE = "#1b6ca8", "#8a8a8a", "#1b6ca866"
PANELS = (("latency", "one text, ms"), ("bytes", "weights, MB"))


def drawn(result: Mapping[str, Any]) -> str:
    """What `compress` found, for its first tested part."""
    import matplotlib
    from matplotlib.figure import Figure

    part, steps = result["tested"][0], result["steps"]
    plain = {"svg.fonttype": "none", "svg.hashsalt": "compressed", "text.parse_math": False, "font.size": 9}
    ends = {"axes.spines.top": False, "axes.spines.right": False, "axes.axisbelow": True}
    body = io.StringIO()
    with matplotlib.rc_context({**matplotlib.rcParamsDefault, **plain, **ends, "backend": "svg"}):
        figure = Figure(figsize=(9.6, 4.2), layout="constrained")
        for axes, (cost, label) in zip(figure.subplots(1, 2, sharey=True), PANELS, strict=True):
            _panel(axes, part, steps, cost)
            axes.set_xlabel(label)
            axes.grid(alpha=0.3)
        figure.axes[0].set_ylabel(f"{result['measure']} on {part}")
        for axes, (cost, _) in zip(figure.axes, PANELS, strict=True):  # last: the panels share an axis
            named(axes, [(name, _cost(one, cost), one["parts"][part]["mean"]) for name, one in sorted(steps.items())])
        figure.savefig(body, format="svg", metadata={"Date": None, "Creator": None})
    return body.getvalue()


def _panel(axes: Any, part: str, steps: Mapping[str, Any], cost: str) -> None:
    from matplotlib.ticker import LogLocator, NullLocator

    points = sorted(
        (_cost(one, cost), one["parts"][part]["mean"], name, one["front"][cost]) for name, one in steps.items()
    )
    best = [point for point in points if point[3]]
    axes.step([each[0] for each in best], [each[1] for each in best], where="post", color=LINE)
    for x, y, name, front in points:
        low, high = steps[name]["parts"][part].get("interval", (y, y))
        axes.plot([x, x], [low, high], color=FRONT if front else OTHER, linewidth=0.8, alpha=0.5)
        axes.plot(x, y, "o", color=FRONT, markerfacecolor=FRONT if front else "white", gid=f"{cost}-{name}")
    axes.set_xscale("log")
    axes.margins(x=0.15, y=0.1)
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_locator(NullLocator())


def _cost(one: Mapping[str, Any], cost: str) -> float:
    return float(one["bytes"] / 1e6 if cost == "bytes" else one["speed"]["latency"])
