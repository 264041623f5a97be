"""What the runs of a fine-tuning come to: scores with their doubt, beside what they have to beat.

    parts        part -> measure -> mean, interval over seeds (Student's), every seed's
    majority     what the most frequent answer scores
    fresh        the same training from fresh weights, and its difference
    failed       share of runs at or below the majority, or whose loss was no number (Mosbach et al. 2021)
    calibration  of classes: log loss, Brier, expected calibration error before and after temperature scaling, whose
                 temperature is fitted on dev, never on what it is judged on; reliability before and after
    confusion, classes, hardest      of the first tested part, all seeds together
    curve        scores by the number of examples, and the online code length where the kind has classes

Promises: a function of sealed runs. Costs milliseconds and the bootstrap.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from tundish.operators.model import calibration, certainty, measures
from tundish.stages.finetune_kinds import majority
from tundish.stages.finetune_rows import Rows
from tundish.stages.finetune_task import MEASURES, Run, TuneTask

Said = dict[str, dict[str, np.ndarray]]
Found = Callable[[Run], tuple[dict[str, Any], Said]]
HARDEST = 20
ROUND = 6


def result_of(task: TuneTask, parts: Mapping[str, Rows], found: Found) -> dict[str, Any]:
    tested = [name for name in parts if name not in ("train", "dev")] or [name for name in parts if name != "train"]
    runs = {run: found(run) for run in task.runs}
    whole = [run for run in task.runs if not run.size]
    told: dict[str, Any] = {
        "task": task.kind,
        "measure": MEASURES[task.kind],
        "examples": {name: len(rows) for name, rows in parts.items()},
        "names": list(parts["train"].names),
        "seeds": list(task.seeds),
        "epochs": task.epochs,
        "batch": task.batch,
        "rate": runs[whole[0]][0]["rate"],
        "tested": tested,
        "parts": {name: _part(task, name, parts, runs, whole) for name in parts if name != "train"},
    }
    if task.kind in ("classify", "multilabel") and tested:
        first, ours = tested[0], [run for run in whole if run.pretrained and not runs[run][0]["failed"]]
        if ours:
            told["calibration"] = {name: _calibrated(name, parts, runs, ours) for name in tested}
            told["classes"] = _classes(task, parts[first], [runs[run][1][first]["logits"] for run in ours])
            told["hardest"] = _hardest(parts[first], [runs[run][1][first]["logits"] for run in ours])
    if task.sizes and tested:
        told["curve"] = _curve(task, parts, runs, tested[0])
    return told


def _part(task: TuneTask, name: str, parts: Mapping[str, Rows], runs: Mapping[Run, Any], whole: Sequence[Run]) -> Any:
    measure = MEASURES[task.kind]
    common = majority(task, parts["train"], parts[name], task.truth.get(name))
    told: dict[str, Any] = {"majority": common}
    for kind, pretrained in (("pretrained", True), ("fresh", False)):
        mine = [runs[run][0] for run in whole if run.pretrained == pretrained]
        if not mine:
            continue
        good = [each["scores"][name] for each in mine if not each["failed"]]
        told[kind] = {key: _over([each[key] for each in good]) for key in (good[0] if good else {})}
        if common is not None:
            scores = [np.nan if each["failed"] else each["scores"][name][measure] for each in mine]
            lost = certainty.failed(scores, common[measure])
            told[kind]["failed"] = {"runs": int(lost.sum()), "of": len(lost), "share": float(lost.mean())}
    return told


def _over(values: Sequence[float]) -> dict[str, Any]:
    """Mean over seeds; one seed has no interval."""
    told: dict[str, Any] = {"mean": float(np.mean(values)), "seeds": [round(float(each), ROUND) for each in values]}
    if len(values) > 1:
        found = certainty.over_seeds(values)
        told["interval"] = [found.low, found.high]
    return told


def _truth(rows: Rows) -> np.ndarray:
    return np.asarray(rows.targets).astype(np.int64)


def _calibrated(name: str, parts: Mapping[str, Rows], runs: Mapping[Run, Any], ours: Sequence[Run]) -> Any:
    """Each run with its own temperature, then means over them; and the diagram of all of them together."""
    truth, several = _truth(parts[name]), parts[name].kind == "multilabel"
    spread = calibration.sigmoid if several else calibration.softmax
    before, after, temperatures = [], [], []
    for run in ours:
        said = runs[run][1]
        before.append(spread(said[name]["logits"]))
        if "dev" in parts and name != "dev":
            heat = calibration.temperature(_truth(parts["dev"]), np.asarray(said["dev"]["logits"], np.float64))
            temperatures.append(heat)
            after.append(spread(said[name]["logits"], heat))
    told: dict[str, Any] = {"before": _quality(truth, before)}
    if after:
        told |= {"temperatures": temperatures, "after": _quality(truth, after), "fitted_on": "dev"}
    return told


def _quality(truth: np.ndarray, each: Sequence[np.ndarray]) -> dict[str, Any]:
    told: dict[str, Any] = {
        "log_loss": _over([measures.log_loss(truth, one) for one in each]),
        "brier": _over([measures.brier(truth, one) for one in each]),
        "expected_error": _over([calibration.expected_error(truth, one) for one in each]),
        "maximum_error": _over([calibration.maximum_error(truth, one) for one in each]),
    }
    drawn = calibration.reliability(np.concatenate([truth] * len(each)), np.concatenate(list(each)))
    told["reliability"] = {key: np.asarray(value).tolist() for key, value in drawn._asdict().items()}
    return told


def _classes(task: TuneTask, rows: Rows, logits: Sequence[np.ndarray]) -> Any:
    """Precision, recall and F1 of each class, and for single labels who is taken for whom; over all seeds."""
    truth = np.concatenate([_truth(rows)] * len(logits))
    guesses = np.concatenate([one.argmax(1) if task.kind == "classify" else (one > 0) for one in logits]).astype(
        np.int64
    )
    each = measures.per_class(truth, guesses, rows.classes if task.kind == "classify" else None)
    told = [
        {
            "name": name,
            "precision": float(each.precision[at]),
            "recall": float(each.recall[at]),
            "f1": float(each.f1[at]),
            "support": int(each.support[at]) // len(logits),
        }
        for at, name in enumerate(rows.names)
    ]
    if task.kind != "classify":
        return {"scores": told}
    table = measures.confusion(truth, guesses, rows.classes) / len(logits)
    return {"scores": told, "confusion": np.round(table, 2).tolist()}


def _hardest(rows: Rows, logits: Sequence[np.ndarray]) -> list[dict[str, Any]]:
    """The examples whose true label all seeds together find least likely."""
    if rows.kind != "classify":
        return []
    mean = np.mean([calibration.softmax(one) for one in logits], 0)
    truth = _truth(rows)
    own = mean[np.arange(len(truth)), truth]
    places = np.argsort(own, kind="stable")[:HARDEST]
    files, numbers = rows.table["file"].to_pylist(), rows.table["row"].to_pylist()
    return [
        {
            "file": files[at],
            "row": numbers[at],
            "label": rows.names[truth[at]],
            "guess": rows.names[int(mean[at].argmax())],
            "probability": round(float(own[at]), ROUND),
        }
        for at in places.tolist()
    ]


def _curve(task: TuneTask, parts: Mapping[str, Rows], runs: Mapping[Run, Any], name: str) -> Any:
    """Scores by size, from pretrained and fresh weights, with intervals over seeds."""
    measure, told = MEASURES[task.kind], {}
    for kind, pretrained in (("pretrained", True), ("fresh", False)):
        points = []
        for size in (*sorted(task.sizes), len(parts["train"])):
            mine = [runs[run][0] for run in task.runs if run.pretrained == pretrained]
            asked = 0 if size == len(parts["train"]) else size
            scores = [e["scores"][name][measure] for e in mine if e["run"]["size"] == asked and not e["failed"]]
            if scores:
                points.append({"size": size, **_over(scores)})
        if points:
            told[kind] = points
    return told
