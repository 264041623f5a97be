"""The page of a fine-tuning: scores, calibration, slices, examples and curves, self-contained, without scripts.

    out/report.html    of result.json, and of data.json, compute.json, search.json, compressed.json and
                       contamination.json that lie there

Promises: the same files give the same bytes; every text and label is escaped, texts are cut and have their personal
data replaced; what a file does not hold has no section. Costs the figures, a second or two. Refuses a folder without a
result of a fine-tuning.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from tundish.cluster import store
from tundish.operators.text import personal
from tundish.pipeline import tuned_figures as figures
from tundish.pipeline import tuned_training
from tundish.pipeline.templates import counted, template
from tundish.pipeline.tuned_beside import comparisons, compressed, contaminated, searched
from tundish.pipeline.tuned_classes import balance
from tundish.pipeline.tuned_figures import Range
from tundish.stages.finetune_means import shortfall

RESULT, PAGE = "result.json", "report.html"
CLASSES, PAIRS, OPEN = 20, 20, 5  # classes of a matrix; pairs where there are more; examples shown at once
FAIR = 30  # examples of a slice that has a say in the ends of the axis
DEEPEST = 55  # per cent of colour behind a cell: letters stay readable in light and dark
BESIDE = {"data": "data.json", "search": "search.json", "compressed": "compressed.json"}
BESIDE |= {"contamination": "contamination.json", "compute": "compute.json"}
COMMON = {  # what stands for the majority, by kind
    "classify": "the most frequent class",
    "multilabel": "the labels that most examples have",
    "regress": "the mean",
    "tag": "the most frequent tag",
    "answer": "no answer",
    "write": "the first sentence",
}
Result = Mapping[str, Any]
Lines = Sequence[float | None]


def is_tuned(folder: str) -> bool:
    """Whether a fine-tuning left its result in a folder."""
    told = store.read_json(store.join(folder, RESULT))
    return isinstance(told, dict) and "parts" in told and "tested" in told


def page(folder: str, out: str | None = None) -> str:
    """Write the page of a fine-tuning; returns its URI (`<folder>/report.html`, unless `out` says otherwise)."""
    if not is_tuned(folder):
        raise ValueError(f"{folder} holds no result of a fine-tuning; give what `tundish finetune --out` wrote")
    result = store.read_json(store.join(folder, RESULT))
    beside = {name: store.read_json(store.join(folder, file)) for name, file in BESIDE.items()}
    uri = out or store.join(folder, PAGE)
    told = shown(result, {name: each for name, each in beside.items() if isinstance(each, dict)})
    store.write(uri, template("tuned.html.j2").render(it=told).encode())
    return uri


def shown(result: Result, beside: Mapping[str, Any] | None = None, name: str = "tuned") -> dict[str, Any]:
    """What the template shows of a result. `beside`: the other files by their names without `.json`; `name` begins
    every id, so that several results have room on a page."""
    beside = dict(beside or {})
    for kept in ("contamination", "search", "compute"):
        beside.setdefault(kept, result.get(kept))
    return {
        "name": name,
        "task": result["task"],
        "measure": result["measure"],
        "result": result,
        "common": COMMON.get(result["task"], ""),
        "alike": tuned_training.alike(result),
        "first": result["tested"][0] if result["tested"] else "",
        "rows": score_rows(result),
        "training": _training(result, beside.get("compute")),
        "comparisons": comparisons(result),
        "failures": failures(result),
        "calibration": _calibration(result, name),
        "classes": _classes(result),
        "balance": balance(beside.get("data") or {}, CLASSES),
        "slices": _slices(result),
        "hardest": masked(result.get("hardest", [])),
        "rightly": _rightly(result.get("hardest", [])),
        "suspects": _suspects(result),
        "curves": _curves(result, name),
        "told": (beside.get("data") or {}).get("told", []),
        "search": searched(beside.get("search"), name),
        "compressed": compressed(beside.get("compressed"), name),
        "contamination": _contaminated(beside.get("contamination")),
        "open": OPEN,
    }


# -- scores


def score_rows(result: Result) -> list[dict[str, Any]]:
    """A row for each measure of each tested part, the measure of the task first; one axis a measure."""
    rows = [
        {"part": part, "measure": measure, "told": told, "number": number}
        for part in result["tested"]
        for number, (measure, told) in enumerate(_measures(result, result["parts"][part]))
    ]
    for row in rows:
        row |= _row(result, row["part"], row["measure"], [each for each in rows if each["measure"] == row["measure"]])
    return rows


def _measures(result: Result, part: Result) -> list[tuple[str, Any]]:
    told = [(name, one) for name, one in part.get("pretrained", {}).items() if isinstance(one, dict) and "mean" in one]
    return sorted(told, key=lambda each: each[0] != result["measure"])


def _row(result: Result, part: str, measure: str, alike: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    known = result["parts"][part]
    told, fresh = known["pretrained"][measure], known.get("fresh", {}).get(measure)
    common = (known.get("majority") or {}).get(measure)
    axis = figures.axis_of([value for row in alike for value in _values(result, row["part"], measure)])
    ranges = [_range(told)] + ([_range(fresh, "var(--second)")] if fresh else [])
    return {
        "called": tuned_training.called(measure, result),
        "interval": told.get("interval"),
        "equal": tuned_training.equal(told),
        "short": shortfall(told),
        "fresh": fresh["mean"] if fresh else None,
        "fresh_short": shortfall(fresh or {}),
        "majority": common,
        "failed": known["pretrained"].get("failed"),
        "axis": axis,
        "picture": figures.ranged(_said(part, measure, told, fresh, common), axis, ranges, common),
    }


def _values(result: Result, part: str, measure: str) -> list[float | None]:
    known = result["parts"][part]
    each = [known[kind][measure] for kind in ("pretrained", "fresh") if measure in known.get(kind, {})]
    drawn = [value for one in each for value in (one["mean"], *one["seeds"], *one.get("interval", []))]
    return [*drawn, (known.get("majority") or {}).get(measure)]


def _range(told: Mapping[str, Any], colour: str = "var(--first)") -> Range:
    low, high = told.get("interval") or (None, None)
    return Range(told["mean"], low, high, told.get("seeds", ()), colour)


def _said(part: str, measure: str, told: Result, fresh: Result | None, common: float | None) -> str:
    """What a drawn row shows, in words."""
    found = f"{measure} on {part}: {told['mean']:.3f}"
    if told.get("interval"):
        found += f", {told['interval'][0]:.3f} to {told['interval'][1]:.3f}"
    found += f"; fresh weights {fresh['mean']:.3f}" if fresh else ""
    return found + (f"; majority {common:.3f}" if common is not None else "")


def failures(result: Result) -> list[dict[str, str]]:
    """Runs that ended early, or at or below the majority on a tested part."""
    found = []
    for run in result.get("runs", []):
        if run["failed"]:
            found.append({"run": run["name"], "why": run["failed"]})
            continue
        for part in result["tested"]:
            common = (result["parts"][part].get("majority") or {}).get(result["measure"])
            score = run.get("scores", {}).get(part, {}).get(result["measure"])
            if common is not None and score is not None and not score > common:
                why = f"{score:.3f} on {part}, and the majority is {common:.3f}"
                found.append({"run": run["name"], "why": why})
    return found


def _rightly(hardest: Sequence[Mapping[str, Any]]) -> str:
    """How many of the hardest are no errors, in words; nothing where none is, or where it is not known.

    >>> _rightly([{"label": "a", "guess": "a", "probability": 0.6}])
    'All are'
    """
    right = sum("probability" in each and each.get("label") == each.get("guess") for each in hardest)
    many = counted(right, "is", "are") if right < len(hardest) else "All are"
    return many if right else ""


def _training(result: Result, compute: Result | None) -> dict[str, Any] | None:
    """Other tasks, aids, and what it took; nothing where nothing of it is known."""
    told = {
        "company": tuned_training.company(result),
        "aids": tuned_training.aided(result),
        "baseline": tuned_training.baseline(result),
        "compute": tuned_training.compute(compute),
    }
    return told if any(told.values()) else None


# -- calibration and classes


def _calibration(result: Result, name: str) -> list[dict[str, Any]]:
    found = []
    for number, (part, told) in enumerate(result.get("calibration", {}).items()):
        after, heats = told.get("after"), told.get("temperatures") or []
        title = f"Reliability on {part}, before and after temperature scaling" if after else f"Reliability on {part}"
        bins = told["before"]["reliability"], after["reliability"] if after else None
        quality = {key: (told["before"][key]["mean"], after[key]["mean"] if after else None)
                   for key in ("expected_error", "maximum_error", "log_loss", "brier")}  # fmt: skip
        heat = float(np.mean(heats)) if heats else None
        picture = figures.reliability(f"{name}-reliability-{number}", title, *bins)
        found.append({"part": part, "picture": picture, "quality": quality, "temperature": heat,
                      "fitted": heat is not None and told.get("unfitted", 0) < len(heats),
                      "unfitted": tuned_training.unfitted(told), "unjudged": told.get("unjudged", "")})  # fmt: skip
    return found


def _classes(result: Result) -> dict[str, Any] | None:
    told = result.get("classes")
    if not told:
        return None
    table, names = np.array(told.get("confusion", [])), [each["name"] for each in told["scores"]]
    found: dict[str, Any] = {"scores": told["scores"], "names": names, "matrix": [], "pairs": []}
    if not table.size:
        return found
    shares = table / np.maximum(table.sum(1, keepdims=True), 1e-12)
    if len(names) <= CLASSES:
        found["matrix"] = [
            [
                {"count": count, "share": share, "heat": round(DEEPEST * share)}
                for count, share in zip(*row, strict=True)
            ]
            for row in zip(table.tolist(), shares.tolist(), strict=True)
        ]
        return found
    wrong = np.where(np.eye(len(names), dtype=bool), 0, table)
    order = np.argsort(-wrong, axis=None, kind="stable")[:PAIRS]
    places = [divmod(int(at), len(names)) for at in order if wrong.flat[at] > 0]
    found["pairs"] = [
        {"label": names[a], "guess": names[b], "count": table[a, b], "share": shares[a, b]} for a, b in places
    ]
    return found


# -- slices and examples


def _slices(result: Result) -> list[dict[str, Any]]:
    found = []
    for part, told in result.get("slices", {}).items():
        whole = told["whole"]
        each = [one for family in told["by"] for one in family["slices"]]
        fair = [one for one in each if one["n"] >= FAIR] or each
        axis = figures.axis_of([end for one in (whole, *fair) for end in (one["score"], *(one["interval"] or []))])
        families = [
            {**family, "slices": [_drawn(one, axis, whole["score"]) for one in family["slices"]]}
            for family in told["by"]
        ]
        found.append({
            "part": part, "measure": told["measure"], "axis": axis, "whole": _drawn(whole, axis, None),
            "by": families, "count": len(each), "worse": sum(one["worse"] for one in each),
        })  # fmt: skip
    return found


def _drawn(one: Mapping[str, Any], axis: tuple[float, float], whole: float | None) -> dict[str, Any]:
    low, high = one["interval"] or (None, None)
    title = f"{one['name']}: {one['score']:.3f}" + (f", {low:.3f} to {high:.3f}" if low is not None else "")
    colour = "var(--second)" if one.get("worse") else "var(--first)"
    return {**one, "picture": figures.ranged(title, axis, [Range(one["score"], low, high, (), colour)], whole)}


def _suspects(result: Result) -> dict[str, Any] | None:
    told = result.get("suspects")
    return {**told, "examples": masked(told["examples"])} if told else None


def _contaminated(told: Result | None) -> dict[str, Any] | None:
    found = contaminated(told)
    return {**found, "worst": masked(found["worst"])} if found else None


def masked(rows: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The rows with personal data in their texts replaced, as Mask would."""
    found = [dict(row) for row in rows]
    places = [(row, name) for row in found for name in ("text", "second") if row.get(name)]
    if places:
        texts = pa.array([row[name] for row, name in places], pa.large_string())
        for (row, name), text in zip(places, personal.apply(texts, personal.edits(texts)).to_pylist(), strict=True):
            row[name] = text
    return found


# -- curves


def _curves(result: Result, name: str) -> list[dict[str, str]]:
    """Pictures with their titles."""
    found, runs = [], [run for run in result.get("runs", []) if not run["size"]]
    measure = result["measure"].replace("_", " ")
    if result.get("curve"):
        title = f"{measure} by the number of examples, with 95 % intervals"
        found.append((title, figures.by_size(f"{name}-size", title, measure, result["curve"])))
    losses = [(_kind(run), run["losses"]) for run in runs if any(each is not None for each in run["losses"])]
    found += _by_epoch(f"{name}-loss", "training loss", "loss", losses)
    dev = [(_kind(run), run["dev"]) for run in runs if run["dev"]]
    found += _by_epoch(f"{name}-dev", f"{measure} on dev", measure, dev)
    return [{"title": title[0].upper() + title[1:], "picture": picture} for title, picture in found]


def _by_epoch(name: str, what: str, label: str, lines: Sequence[tuple[str, Lines]]) -> list[tuple[str, str]]:
    """The curve with its title; of one epoch there is no curve, and its values are shown as such."""
    if not lines:
        return []
    if max(len(values) for _, values in lines) > 1:
        title = f"{what} by epoch, a line a run"
        return [(title, figures.by_epoch(name, title, label, lines))]
    title = f"{what} after the one epoch, a ring a run"
    ends = [(kind, value) for kind, (value,) in lines if value is not None]
    return [(title, figures.after_one(name, title, label, ends))]


def _kind(run: Mapping[str, Any]) -> str:
    return "pretrained" if run["pretrained"] else "fresh"
