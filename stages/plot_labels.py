"""Names beside points in a figure, none upon another.

    named(axes, [("dense", 1.8, 0.41), ("int8", 1.2, 0.40)], size=8)

Promises: each name lies at the first of some places around its point where it touches no other name, no point and no
edge of the axes, else where it touches least; a name that lies further off has a line to its point. The same places for
the same numbers. Call it last: limits and scales are what they are then. Costs a layout of the figure. Refuses nothing.
"""

from collections.abc import Sequence
from math import cos, pi, sin
from typing import Any

ROUND = [(1, 0.6), (1, -0.6), (-1, 0.6), (-1, -0.6), (0, 1), (0, -1)]  # right of the point first, left, above, below
NEAR, FAR = 5.0, (14.0, 24.0, 36.0)  # points of a name from its point
TURNS = 12  # places on a ring around it
MARK = 3.5  # points from the middle of a mark to its edge
LEADER = {"arrowstyle": "-", "linewidth": 0.5, "color": "#8a8a8a", "shrinkA": 0, "shrinkB": 3}

Box = tuple[float, float, float, float]  # left, bottom, right, top


def named(axes: Any, points: Sequence[tuple[str, float, float]], *, size: float = 8, color: str | None = None) -> None:
    figure = axes.figure
    figure.draw_without_rendering()
    unit = figure.dpi / 72
    within = axes.get_window_extent()
    edges = (within.x0, within.y0, within.x1, within.y1)
    marks = [tuple(map(float, axes.transData.transform((x, y)))) for _, x, y in points]
    taken = [(x - MARK * unit, y - MARK * unit, x + MARK * unit, y + MARK * unit) for x, y in marks]
    for (name, x, y), (left, low) in zip(points, marks, strict=True):
        text = axes.annotate(name, (x, y), (0, 0), textcoords="offset points", fontsize=size, color=color)
        extent = text.get_window_extent()
        text.remove()
        best, least = (0.0, 0.0, False), float("inf")
        for across, up, far in _places(extent.width / unit, extent.height / unit):
            box = (left + across * unit, low + up * unit, left + across * unit + extent.width,
                   low + up * unit + extent.height)  # fmt: skip
            cost = sum(_shared(box, other) for other in taken) + _outside(box, edges)
            if cost < least:
                best, least = (across, up, far), cost
            if not cost:
                break
        across, up, far = best
        leader = LEADER if far else None
        drawn = axes.annotate(
            name, (x, y), (across, up), textcoords="offset points", fontsize=size, color=color, arrowprops=leader
        )
        drawn.set_in_layout(False)  # or the axes would move beneath what was reckoned
        taken.append((left + across * unit, low + up * unit, left + across * unit + extent.width,
                      low + up * unit + extent.height))  # fmt: skip


def _places(width: float, height: float) -> list[tuple[float, float, bool]]:
    """Where the lower left corner of a name may lie, in points from its point, and whether that is far off."""
    rings = [(*way, NEAR, False) for way in ROUND]
    for far in FAR:
        rings += [(cos(2 * pi * turn / TURNS), sin(2 * pi * turn / TURNS), far, True) for turn in range(TURNS)]
    return [
        (across * away - width * (1 - across) / 2, up * away - height * (1 - up) / 2, far)
        for across, up, away, far in rings
    ]


def _shared(one: Box, other: Box) -> float:
    """The area that two boxes share."""
    return max(0.0, min(one[2], other[2]) - max(one[0], other[0])) * max(
        0.0, min(one[3], other[3]) - max(one[1], other[1])
    )


def _outside(box: Box, edges: Box) -> float:
    """The area of a box that lies outside the axes, counted double: what lies there may be cut off."""
    return 2 * ((box[2] - box[0]) * (box[3] - box[1]) - _shared(box, edges))
