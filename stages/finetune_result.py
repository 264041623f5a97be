"""What the runs of a fine-tuning come to: scores with their doubt, beside what they have to beat.

    examples     of each part, rows of its files; windows: of how many windows tags and answers were learnt and read,
                 where those are more
    parts        part -> measure -> mean, interval over seeds (stages/finetune_means), every seed's; `of`: of how many
                 runs the mean leaves out those whose loss was no number
    majority     what the most frequent answer scores
    fresh        the same training from fresh weights, and its difference
    aids         those that were on; baseline: which of them fresh weights went without, and at what rate they learnt
    failed       share of runs at or below the majority, or whose loss was no number (Mosbach et al. 2021)
    calibration  of classes: log loss, Brier, expected calibration error before and after temperature scaling, whose
                 temperature is fitted on dev, never on what it is judged on; reliability before and after; `unfitted`:
                 how many runs have none, where there are any: their temperature is 1; `unjudged`: in place of what is
                 after, why there is nothing: more than half of the tested texts are in dev
    classes      precision, recall, F1 of each, and who is taken for whom; of the first tested part, all seeds together
    slices       of each tested part, where the score falls short (stages/finetune_slices)
    hardest, suspects      of the first tested part, with texts (stages/finetune_hardest)
    curve        scores by the number of examples, with their `windows` where those are more
    runs         of every run its loss by epoch, its score on dev by epoch where it was asked, and why it failed

Promises: a function of sealed runs and of what lies beside the parts. Costs milliseconds and the bootstraps.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from typing import Any

import numpy as np

from tundish.operators.model import calibration, certainty, measures
from tundish.stages.finetune_beside import kept, tested
from tundish.stages.finetune_hardest import hardest, suspects
from tundish.stages.finetune_kinds import majority
from tundish.stages.finetune_means import over
from tundish.stages.finetune_rows import Rows
from tundish.stages.finetune_slices import sliced
from tundish.stages.finetune_task import MEASURES, Aids, Run, TuneTask

MOST_SEEN = 0.5  # share of tested texts that dev may hold, where a temperature is judged that was fitted on it
Said = dict[str, dict[str, np.ndarray]]
Found = Callable[[Run], tuple[dict[str, Any], Said]]


def result_of(task: TuneTask, parts: Mapping[str, Rows], found: Found) -> dict[str, Any]:
    runs, asked = {run: found(run) for run in task.runs}, tested(parts)
    whole = [run for run in task.runs if not run.size]
    told: dict[str, Any] = {
        "task": task.kind,
        "measure": MEASURES[task.kind],
        "examples": {name: len(rows.begins) for name, rows in parts.items()},
        "names": list(parts["train"].names),
        "seeds": list(task.seeds),
        "epochs": task.epochs,
        "batch": task.batch,
        "rate": runs[whole[0]][0]["rate"],
        "tested": asked,
        "parts": {name: _part(task, name, parts, runs, whole) for name in parts if name != "train"},
        "runs": [_run(run, runs[run][0]) for run in task.runs],
    }
    if any(len(rows) > len(rows.begins) for rows in parts.values()):
        told["windows"] = {name: len(rows) for name, rows in parts.items()}
    told |= _aids(task, {run.pretrained: runs[run][0]["rate"] for run in reversed(whole)})
    ours = [run for run in whole if run.pretrained and not runs[run][0]["failed"]]
    if asked and ours:
        told |= _examined(task, parts, runs, ours, asked)
    if task.sizes and asked:
        told["curve"] = _curve(task, parts, runs, asked[0])
    return told


def _aids(task: TuneTask, rates: Mapping[bool, float]) -> dict[str, Any]:
    """The aids that were on; and where fresh weights learnt whole (`TuneTask.of`), what they went without."""
    on = {each.name: own for each in fields(Aids) if (own := getattr(task.aids, each.name)) != each.default}
    told: dict[str, Any] = {"aids": on} if on else {}
    if task.scratch and task.aids.held:
        told["baseline"] = {"without": list(task.aids.held), "rate": rates[False]}
    return told


def _run(run: Run, told: Mapping[str, Any]) -> dict[str, Any]:
    """What curves are drawn of; a loss that is no number is null."""
    losses = [each if np.isfinite(each) else None for each in told["losses"]]
    scores = {name: each for name, each in told.get("scores", {}).items() if name != "train"}
    about = {"name": run.name, **run._asdict(), "failed": told["failed"]}
    return about | {"losses": losses, "dev": told["dev"], "scores": scores}


def _examined(
    task: TuneTask, parts: Mapping[str, Rows], runs: Mapping[Run, Any], ours: Sequence[Run], asked: Sequence[str]
) -> dict[str, Any]:
    """What the sealed answers of the pretrained runs tell beyond scores."""
    first, told = asked[0], dict[str, Any]()
    said = {name: [runs[run][1][name]["logits"] for run in ours if "logits" in runs[run][1][name]] for name in asked}
    beside = {name: kept(task.out, name, parts[name].table) for name in asked}
    if task.kind in ("classify", "multilabel"):
        told["calibration"] = {name: _calibrated(name, parts, runs, ours) for name in asked}
        told["classes"] = _classes(task, parts[first], said[first])
    each = {name: sliced(task, parts[name], said[name], task.truth.get(name), beside[name]) for name in asked}
    told["slices"] = {name: one for name, one in each.items() if one}
    told["hardest"] = hardest(task, parts[first], said[first], task.truth.get(first), beside[first])
    if task.kind == "classify":
        heats = told["calibration"][first].get("temperatures", [])
        told["suspects"] = suspects(parts[first], said[first], heats, beside[first])
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
        told[kind] = {key: _of(len(mine), key, [each[key] for each in good]) for key in (good[0] if good else {})}
        if common is not None:
            scores = [np.nan if each["failed"] else each["scores"][name][measure] for each in mine]
            lost = certainty.failed(scores, common[measure])
            told[kind]["failed"] = {"runs": int(lost.sum()), "of": len(lost), "share": float(lost.mean())}
    return told


def _of(runs: int, measure: str, scores: Sequence[float]) -> dict[str, Any]:
    """A mean over the scores there are, and of how many runs they are those."""
    return over(measure, scores) | {"of": runs}


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
        told |= {"temperatures": temperatures, "fitted_on": "dev"}
        why = _seen(name, parts)
        told |= {"unjudged": why} if why else {"after": _quality(truth, after)}
        told |= {"unfitted": temperatures.count(1.0)} if 1.0 in temperatures else {}
    return told


def _seen(name: str, parts: Mapping[str, Rows]) -> str:
    """Why a temperature fitted on dev cannot be judged on a part; nothing where it can."""
    texts, known = parts[name].table["id"].to_pylist(), set(parts["dev"].table["id"].to_pylist())
    seen = sum(text in known for text in texts)
    if seen <= MOST_SEEN * len(texts):
        return ""
    return f"{seen} of {len(texts)} texts of {name} are in dev, on which the temperature was fitted"


def _quality(truth: np.ndarray, each: Sequence[np.ndarray]) -> dict[str, Any]:
    told: dict[str, Any] = {
        "log_loss": over("log_loss", [measures.log_loss(truth, one) for one in each]),
        "brier": over("brier", [measures.brier(truth, one) for one in each]),
        "expected_error": over("expected_error", [calibration.expected_error(truth, one) for one in each]),
        "maximum_error": over("maximum_error", [calibration.maximum_error(truth, one) for one in each]),
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


def _curve(task: TuneTask, parts: Mapping[str, Rows], runs: Mapping[Run, Any], name: str) -> Any:
    """Scores by size, from pretrained and fresh weights, with intervals over seeds."""
    measure, told, begins = MEASURES[task.kind], {}, parts["train"].begins
    for kind, pretrained in (("pretrained", True), ("fresh", False)):
        points = []
        for size in (*sorted(task.sizes), len(parts["train"])):
            mine = [runs[run][0] for run in task.runs if run.pretrained == pretrained]
            asked = 0 if size == len(parts["train"]) else size
            mine = [each for each in mine if each["run"]["size"] == asked]
            scores = [each["scores"][name][measure] for each in mine if not each["failed"]]
            if scores:
                examples = int(np.searchsorted(begins, size))
                cut = {"windows": size} if size > examples else {}
                points.append({"size": examples, **cut, **_of(len(mine), measure, scores)})
        if points:
            told[kind] = points
    return told
