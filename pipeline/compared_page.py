"""Two runs on one page: self-contained HTML, without scripts, without a request to anywhere.

Promises: the same two roots give the same bytes; every value is escaped. Costs what `compared` costs, and a picture for
each of the `DRAWN` columns that moved most.
"""

from typing import Any

from tundish.cluster import store
from tundish.pipeline.compared import Compared, Pair, compared
from tundish.pipeline.drift import Drift
from tundish.pipeline.figures import FIRST, SECOND, drawn
from tundish.pipeline.templates import template

DRAWN, BINS = 6, 12


def compared_page(root: str, against: str, out: str | None = None) -> str:
    """Write the page of the latest run under `root` beside that under `against`, which is what it is measured by;
    returns its URI (`<root>/compared.html`, unless `out` says otherwise)."""
    found = compared(against, root)
    told = [one for one in found.drift if one.verdict in ("some", "large")]
    shown = {
        "found": found,
        "told": told,
        "quiet": [one for one in found.drift if one not in told],
        "drawn": [(one, _picture(n, one)) for n, one in enumerate(told[:DRAWN])],
        "documents": [_left(found, name) for name in ("Extract", "Read", "Corpus")],
        "points": points,
    }
    uri = out or store.join(root, "compared.html")
    store.write(uri, template("compared.html.j2").render(shown).encode())
    return uri


def _left(found: Compared, stage: str) -> tuple[str, int | None, int | None] | None:
    """What came out of a stage before and after, for the head of the page."""
    pair = next((each for each in found.funnel if each.stage == stage and each.after is not None), None)
    if pair is None or pair.after is None:
        return None
    return stage, pair.before.documents_out if pair.before else None, pair.after.documents_out


def points(pair: Pair, before: int, after: int) -> str:
    """By how many points of per cent a share of what came in has moved."""
    moved = 100 * (pair.share(after, 1) - pair.share(before, 0))
    return f"{moved:+.1f}".replace("-", "\N{MINUS SIGN}") if abs(moved) >= 0.05 else "0"


def _picture(number: int, one: Drift) -> str:
    bins = sorted(one.bins, key=lambda each: -max(each[1:]))[:BINS] if one.kind != "number" else one.bins
    bins = [each for each in bins if each[1] or each[2]]
    whole: list[Any] = [max(1, sum(each[n] for each in one.bins)) for n in (1, 2)]
    shares = {name: [100 * each[n] / whole[n - 1] for each in bins] for name, n in (("before", 1), ("now", 2))}
    return _side_by_side(f"drift-{number}", f"{one.stage}: {one.column}", [each[0] for each in bins], shares)


def _side_by_side(name: str, title: str, labels: list[str], series: dict[str, list[float]]) -> str:
    """Two bars a label, in per cent."""

    def paint(axes: Any) -> None:
        for n, ((legend, values), colour) in enumerate(zip(series.items(), (SECOND, FIRST), strict=True)):
            axes.barh([at + 0.4 * n - 0.2 for at in range(len(labels))], values, 0.4, color=colour, label=legend)
        axes.set_yticks(range(len(labels)), labels)
        axes.invert_yaxis()
        axes.set_xlabel("per cent of the documents")
        axes.grid(axis="x")

    return drawn(name, title, 0.9 + 0.28 * len(labels), paint)
