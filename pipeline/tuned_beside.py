"""What lies beside a fine-tuning's scores, made ready for its page: comparisons, a search, compression, contamination.

Promises: a file that lacks what is drawn has no section, never an error: these are of other commands, and may be of
another version.
"""

from collections.abc import Mapping
from typing import Any

from tundish.pipeline import tuned_figures as figures
from tundish.pipeline.templates import counted
from tundish.pipeline.tuned_figures import Range

COSTS = {"latency": "milliseconds for one text", "bytes": "megabytes of weights"}
LEAST = 0.01  # to both sides of no difference an axis has room
Told = Mapping[str, Any] | None


def searched(told: Told, name: str) -> dict[str, Any] | None:
    """The best setting of `stages/search`, and what to expect of so many trials."""
    if not told or not told.get("expected_best") or not isinstance(told.get("best"), Mapping):
        return None
    points = [one for one in told["expected_best"] if "mean" in one]
    measure = told.get("measure", "score")
    picture = figures.budget(
        f"{name}-budget",
        "Best score on dev to expect, by the number of trials",
        measure,
        [one.get("trials", number) for number, one in enumerate(points, 1)],
        [one["mean"] for one in points],
        [one.get("deviation", 0.0) for one in points],
    )
    best = told["best"]
    return {
        "picture": picture,
        "setting": dict(best.get("setting") or {}),
        "score": best.get("score"),
        "ends": dict(told.get("ends") or {}),
        "how": told.get("how", ""),
        "measure": measure,
    }


def comparisons(result: Mapping[str, Any]) -> dict[str, Any] | None:
    """Differences of the task's measure with their intervals, on one axis with 0: pretrained less fresh weights, this
    less another fine-tuning, on random splits, and with other tasks beside it; and sentences on splits and codes."""
    rows = [*_compared(result.get("compared")), *_gains(result)]
    split = result.get("splits") or {}
    over = (split.get("over_splits") or {}).get("difference")
    if over:
        many = counted(len(split["random"]), "random split")
        rows.append(_row(f"pretrained less fresh, {many}", over, agreement(split)))
    sentences = [*_splits(split), *_code(result.get("code_length"))]
    if not rows and not sentences:
        return None
    axis = figures.axis_of([-LEAST, LEAST, *(end for row in rows for end in (row["value"], *(row["interval"] or [])))])
    for row in rows:
        low, high = row["interval"] or (None, None)
        title = f"{row['what']}: {row['value']:+.3f}" + (f", {low:+.3f} to {high:+.3f}" if low is not None else "")
        row["picture"] = figures.ranged(title, axis, [Range(row["value"], low, high)], 0.0)
    return {"rows": rows, "axis": axis, "sentences": sentences}


def agreement(split: Mapping[str, Any]) -> str:
    """Whether pretrained weights are ahead, or behind, on each split; and on how many clearly.

    >>> wide, narrow = {"difference": {"interval": [-0.1, 0.3]}}, {"difference": {"interval": [0.1, 0.3]}}
    >>> agreement({"standard": wide, "random": [narrow, narrow], "keeps_its_sign": True})
    'the same sign in all 3, clear in 2'
    """
    gains = [one["difference"] for one in (split["standard"], *split["random"]) if one.get("difference")]
    clear = sum(bool((ends := each.get("interval")) and (ends[0] > 0 or ends[1] < 0)) for each in gains)
    if len(gains) == 1:
        return f"one split alone, {'clear' if clear else 'open'}"
    sign = "the same" if split.get("keeps_its_sign") else "not the same"
    every = "both" if len(gains) == 2 else f"all {len(gains)}"
    return f"{sign} sign in {every}, clear in {clear or 'none'}"


def _row(what: str, one: Mapping[str, Any], note: str = "") -> dict[str, Any]:
    value = one["difference"] if "difference" in one else one["mean"]
    return {"what": what, "value": value, "interval": one.get("interval"), "note": note}


def _compared(told: Told) -> list[dict[str, Any]]:
    names = {"fresh": "pretrained less fresh", "against": "this less the other"}
    found = []
    for part, each in ((told or {}).get("parts") or {}).items():
        for name, one in each.items():
            if "difference" in one:
                chance = f", {one['chance']:.3f} by chance" if "chance" in one else ""
                found.append(_row(f"{names.get(name, name)}, {part}", one, f"{one.get('verdict', '')}{chance}"))
    return found


def _gains(result: Mapping[str, Any]) -> list[dict[str, Any]]:
    measure, parts = result["measure"], {part: (result.get("gain") or {}).get(part, {}) for part in result["tested"]}
    return [_row(f"with other tasks less alone, {part}", one[measure]) for part, one in parts.items() if measure in one]


def _splits(told: Mapping[str, Any]) -> list[str]:
    standard, over = (told.get("standard") or {}).get("pretrained"), (told.get("over_splits") or {}).get("pretrained")
    if not standard or not over:
        return []
    many = f"{over['mean']:.3f}{_between(over)} on {counted(len(told['random']), 'random one')}"
    return [f"{told['measure'].replace('_', ' ')}: {standard['mean']:.3f}{_between(standard)} on this split, {many}"]


def _code(told: Told) -> list[str]:
    known, found = told or {}, []
    for name in ("pretrained", "fresh"):
        one = known.get(name) or {}
        if "bits" in one and "compression" in one:
            sent = f"the labels of {known['examples']:,} examples sent in {one['bits']['mean']:,.0f} bits"
            shorter = f"{one['compression']['mean']:.3f}{_between(one['compression'])} times shorter than uniformly"
            found.append(f"{sent} from {name} weights, {shorter}")
    return found


def _between(one: Mapping[str, Any]) -> str:
    return f" ({one['interval'][0]:.3f} to {one['interval'][1]:.3f})" if one.get("interval") else ""


def contaminated(told: Told) -> dict[str, Any] | None:
    """How many tested examples stand in the corpus, their scores beside those of the clean ones, and the worst."""
    if not told or not isinstance(told.get("parts"), Mapping):
        return None
    parts = [{"part": name, **one} for name, one in told["parts"].items() if one.get("contaminated")]
    scores = [_groups(one["part"], one["scores"]) for one in parts if one.get("scores")]
    return {"parts": parts, "scores": scores, "worst": list(told.get("worst", []))} if parts else None


def _groups(part: str, told: Mapping[str, Any]) -> dict[str, Any]:
    rows = [{"name": name, **one} for name, one in told["groups"].items() if one["n"] and one["score"] is not None]
    axis = figures.axis_of([end for one in rows for end in (one["score"], *(one["interval"] or []))])
    for one in rows:
        low, high = one["interval"] or (None, None)
        title = f"{one['name']}: {one['score']:.3f}" + (f", {low:.3f} to {high:.3f}" if low is not None else "")
        one["picture"] = figures.ranged(title, axis, [Range(one["score"], low, high)])
    return {
        "part": part,
        "measure": told["measure"],
        "rows": rows,
        "axis": axis,
        "difference": told.get("difference"),
    }


def compressed(told: Told, name: str) -> dict[str, Any] | None:
    """The steps of `stages/compress` as a table, and their fronts by time and by size."""
    if not told or not isinstance(told.get("steps"), Mapping) or not told.get("tested"):
        return None
    part, measure = told["tested"][0], told.get("measure", "score")
    rows = [_step(path, one, part) for path, one in told["steps"].items() if one.get("parts", {}).get(part)]
    pictures = []
    for cost, across in COSTS.items():
        points = [(one["name"], one[cost], one["mean"], cost in one["front"]) for one in rows if one[cost] is not None]
        if len(points) > 1:
            title = f"{measure.replace('_', ' ')} on {part} by {across}"
            title = title[0].upper() + title[1:]
            picture = figures.front(f"{name}-front-{cost}", title, across, measure, points)
            pictures.append({"title": title, "picture": picture})
    return {"part": part, "measure": measure, "rows": rows, "pictures": pictures} if rows else None


def _step(path: str, one: Mapping[str, Any], part: str) -> dict[str, Any]:
    score, speed, size = one["parts"][part], one.get("speed") or {}, one.get("bytes")
    return {
        "name": path,
        "mean": score["mean"],
        "interval": score.get("interval"),
        "before": score.get("before"),
        "parameters": one.get("parameters"),
        "bytes": None if size is None else size / 1e6,
        "latency": speed.get("latency"),
        "throughput": speed.get("throughput"),
        "front": [cost for cost, first in (one.get("front") or {}).items() if first],
    }
