"""Scores of a fine-tuning on the contaminated and on the clean examples of a part, side by side.

    clean          no gram of it stands in the corpus
    contaminated   at least one does
    whole          at least four fifths of its grams do (the `dirty` of Touvron et al. 2023, appendix A.6, over grams)
    trained        at least one stands in a document that the model was trained on
    too short      it has no gram that could be looked for, so it is neither clean nor contaminated

Promises: a function of sealed runs from pretrained weights on all examples; a unit (an example, a sentence, a question)
has the mean over seeds for its score, and an interval is one over units: Wilson's of shares, the bootstrap's else. The
difference of two groups has the interval that follows from theirs (Zou & Donner 2008), for their units are others. What
differs may differ for other reasons than having been seen: longer or more common texts are found more often. Costs a
bootstrap a group. Tells nothing of kinds that have no score of each unit.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tundish.operators.model import certainty
from tundish.stages import finetune_slices as slices
from tundish.stages.contamination import Part
from tundish.stages.finetune_rows import Rows, rows_of
from tundish.stages.finetune_runs import found, sealed
from tundish.stages.finetune_task import TuneTask

ANY = 1 << 40  # tokens that a row may have: it was tokenized for the model already
Groups = Mapping[str, frozenset[str]]  # group -> ids of its examples


def parts_of(task: TuneTask) -> dict[str, Part]:
    """The examples of each tested part, each once, however many windows it has."""
    told = {}
    for name in task.parts:
        if name not in ("train", "dev"):
            table = rows_of(task.parts[name], task.specials, ANY).table.select(["id", "file", "row"])
            told[name] = Part(
                *map(list, zip(*dict.fromkeys(zip(*table.to_pydict().values(), strict=True)), strict=True))
            )
    return told


def side_by_side(task: TuneTask, groups: Mapping[str, Groups]) -> dict[str, Any]:
    """By part what each of its groups scores, and by how much the contaminated score more than the clean."""
    runs = [run for run in task.runs if run.pretrained and not run.size]
    good = [run for run in runs if (one := sealed(task, run)) and not one["failed"]]
    said = [found(task, run)[1] for run in good]
    told: dict[str, Any] = {}
    for part, its in groups.items():
        if task.kind in slices.MEASURES and said:
            rows = rows_of(task.parts[part], task.specials, ANY)
            logits = [each[part]["logits"] for each in said]
            told[part] = apart(task, rows, logits, task.truth.get(part), its)
    return told


def apart(task: TuneTask, rows: Rows, said: Sequence[np.ndarray], truth: Any, groups: Groups) -> dict[str, Any]:
    """Of one part. `said`: of each seed the logits; `truth`: of questions, their answers and contexts."""
    measure, units = slices.MEASURES[task.kind], slices.units_of(task, rows, said, truth)
    ids = np.array(rows.table["id"].to_pylist(), dtype=object)
    scores = {}
    for name, own in groups.items():
        here = np.zeros(len(units.counts), bool)
        here[units.whose[np.array([each in own for each in ids], bool)]] = True
        scores[name] = _scored(measure, units, here)
    two = scores.get("contaminated"), scores.get("clean")
    return {"measure": measure, "seeds": len(said), "groups": scores, "difference": difference(*two)}


def _scored(measure: str, units: slices.Units, here: np.ndarray) -> dict[str, Any]:
    counts = units.counts[here]
    if not len(counts):
        return {"n": 0, "score": None, "interval": None}
    told: dict[str, Any] = {"n": len(counts), "score": units.measure(counts), "interval": None}
    if measure in slices.SHARES:
        both = certainty.wilson(counts.sum(), len(counts))
    elif len(counts) >= slices.FEW:
        both = certainty.bootstrap(units.measure, counts, seed=0, samples=slices.SAMPLES)
    else:
        return told
    return told | {"interval": [both.low, both.high]}


def difference(first: Mapping[str, Any] | None, second: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """First less second, of scores whose units are others: by the recovery of variances (Zou & Donner 2008)."""
    if not first or not second or not first["interval"] or not second["interval"]:
        return None
    (a, (low, high)), (b, (least, most)) = ((one["score"], one["interval"]) for one in (first, second))
    value = a - b
    below = float(np.hypot(a - low, most - b))
    above = float(np.hypot(high - a, b - least))
    return {"value": value, "interval": [value - below, value + above]}
