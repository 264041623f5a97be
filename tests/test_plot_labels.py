"""Names in a figure lie beside their points, and upon nothing."""

from itertools import combinations

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text

from tundish.stages.plot_labels import named

PLACES = [(1.0, 0.40), (1.01, 0.401), (1.02, 0.399), (1.02, 0.402), (3, 0.5), (3.02, 0.5), (9, 0.44)]
CROWD = [(f"step-{n}+calibrate", x, y) for n, (x, y) in enumerate(PLACES)]


def lying(points: list[tuple[str, float, float]], **how: float) -> tuple[Figure, list[tuple[float, ...]]]:
    figure = Figure(figsize=(6, 4), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    axes.set_xscale("log")
    for _, x, y in points:
        axes.plot(x, y, "o")
    axes.margins(x=0.15, y=0.1)
    named(axes, points, **how)
    figure.canvas.draw()
    return figure, [tuple(Text.get_window_extent(text).extents) for text in axes.texts]  # without lines to points


def touching(one: tuple[float, ...], other: tuple[float, ...]) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


@pytest.mark.parametrize("seed", [None, 1, 2, 3])
def test_names_touch_neither_each_other_nor_points_nor_edges(seed: int | None) -> None:
    points = CROWD
    if seed is not None:
        draw = np.random.default_rng(seed)
        points = [(f"point-{n}", float(x), float(y)) for n, (x, y) in enumerate(draw.uniform(1, 1.5, (12, 2)))]
    figure, boxes = lying(points)
    axes = figure.axes[0]
    assert [text.get_text() for text in axes.texts] == [name for name, _, _ in points]
    assert not [pair for pair in combinations(boxes, 2) if touching(*pair)]
    marks = [axes.transData.transform((x, y)) for _, x, y in points]
    assert not [(box, x) for box in boxes for x, y in marks if touching(box, (x - 3, y - 3, x + 3, y + 3))]
    edges = axes.get_window_extent()
    assert all(edges.x0 <= box[0] and box[2] <= edges.x1 and edges.y0 <= box[1] and box[3] <= edges.y1 for box in boxes)


def test_a_name_that_has_room_lies_right_at_its_point_and_one_that_has_none_has_a_line() -> None:
    figure, _ = lying([("alone", 1.0, 0.4), ("other", 9.0, 0.5)])
    assert all(text.arrow_patch is None and abs(text.get_position()[0]) < 60 for text in figure.axes[0].texts)
    figure = Figure(figsize=(6, 4))
    axes = figure.subplots()
    named(axes, [(name, 0.5, 0.5) for name in ("one of them", "another one", "third of all", "fourth one", "fifth one",
                                               "sixth one", "seventh one", "eighth one")])  # fmt: skip
    assert sum(text.arrow_patch is not None for text in axes.texts) >= 2
