"""The page of a compression: scores beside their references, costs, fronts, self-contained, without scripts.

    out/report.html    of the compressed.json that `tundish compress` left there

Promises: the same file gives the same bytes; every name is escaped. Costs the figures, a second. Refuses a folder whose
compression is not finished.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from tundish.cluster import store
from tundish.pipeline import tuned_figures as figures
from tundish.pipeline.compressed_table import WHOLE, done, faster, known_told
from tundish.pipeline.templates import template
from tundish.pipeline.tuned_beside import compressed
from tundish.pipeline.tuned_figures import Range
from tundish.pipeline.tuned_training import equal

SEALED, PAGE = "compressed.json", "report.html"
Result = Mapping[str, Any]


def is_compressed(folder: str) -> bool:
    """Whether a compression lies in a folder, finished or not."""
    told = store.read_json(store.join(folder, SEALED))
    return isinstance(told, dict) and WHOLE in told.get("steps", {})


def page(folder: str, out: str | None = None) -> str:
    """Write the page of a compression; returns its URI (`<folder>/report.html`, unless `out` says otherwise)."""
    told = store.read_json(store.join(folder, SEALED))
    if not isinstance(told, dict) or "machine" not in told:
        raise ValueError(f"the compression in {folder} is not finished; call it again, it goes on where it was")
    uri = out or store.join(folder, PAGE)
    store.write(uri, template("compressed.html.j2").render(it=shown(told)).encode())
    return uri


def shown(result: Result) -> dict[str, Any]:
    """What the template shows."""
    steps = {path: result["steps"][path] for path in result["order"]}  # JSON has sorted them
    result = {**result, "steps": steps}
    return {
        "result": result,
        "known": known_told(result),
        "parts": [_part(result, part) for part in result["tested"]],
        "costs": [_cost(steps, path, one, result["tested"][0]) for path, one in steps.items()],
        "pictures": (compressed(result, "compressed") or {}).get("pictures", []),
        "devices": len({one["speed"]["device"] for one in steps.values()}) > 1,
        "options": [f"{path}: {_spelt(how)}" for path in steps if (how := result["means"].get(path))],
        "seeds": max(len(one["seeds"]) for one in steps.values()),
    }


def _spelt(how: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in how.items() if value not in ("", False))


def _part(result: Result, part: str) -> dict[str, Any]:
    """Rows of one tested part, differences on one axis with 0."""
    rows = [_scores(path, one, part) for path, one in result["steps"].items()]
    each = [row[name] for row in rows for name in ("model", "reference") if row[name]]
    axis = figures.axis_of([0.0, *(end for one in each for end in (one["difference"], *one.get("interval", [])))])
    for row in rows:
        row["picture"] = figures.ranged(_said(row), axis, _ranges(row), 0.0) if row["model"] else ""
    return {"name": part, "rows": rows, "axis": axis, "recovered": any(row["reference"] for row in rows)}


def _scores(path: str, one: Mapping[str, Any], part: str) -> dict[str, Any]:
    told = one["parts"][part]
    return {
        "name": path,
        "mean": told["mean"],
        "interval": told.get("interval"),
        "equal": equal(told),
        "before": told.get("before"),
        "seeds": len(told["seeds"]),
        "failed": one["parts"]["failed"],
        "model": told["less"].get(WHOLE),
        "beside": one["reference"],
        "reference": told["less"].get(one["reference"]) if one["reference"] else None,
    }


def _said(row: Mapping[str, Any]) -> str:
    """What is drawn, in words."""
    found = f"{row['name']}: {row['model']['difference']:+.3f} less the model"
    return found + (f", {row['reference']['difference']:+.3f} less {row['beside']}" if row["reference"] else "")


def _ranges(row: Mapping[str, Any]) -> Sequence[Range]:
    pairs = ((row["model"], "var(--second)"), (row["reference"], "var(--first)"))
    return [
        Range(one["difference"], *(one.get("interval") or (None, None)), (), colour) for one, colour in pairs if one
    ]


def _cost(steps: Mapping[str, Any], path: str, one: Mapping[str, Any], part: str) -> dict[str, Any]:
    speed = one["speed"]
    return {
        "name": path,
        "mean": one["parts"][part]["mean"],
        "told": done(one),
        "bytes": one["bytes"] / 1e6,
        "parameters": one["parameters"],
        "zeros": one["zeros"],
        "speed": speed,
        "faster": "" if path == WHOLE else faster(steps, path),
        "front": [{"latency": "ms", "bytes": "MB"}[cost] for cost, best in one["front"].items() if best],
    }
