"""Is one fine-tuning better than another on the same examples: a statement with an interval, not two means.

    out/compared.json   of each tested part: pretrained weights against fresh ones, and against another fine-tuning

    difference   of the means over runs, and its 95 % interval over rows and runs at once: of pretrained and fresh runs,
                 whose seeds are the same, both drawn anew (`certainty.between`); of another fine-tuning, whose seeds
                 are its own, by the spreads of runs and of rows (`apart.apart`, Welch's where rows say nothing)
    over_seeds   of the same seeds Student's interval of the differences, seed by seed
    chance       of one as large, if the two were one: of the same seeds with units exchanged (`certainty.exchanged`),
                 else with all runs divided anew among the two sides (`apart.divided`)
    verdict      ahead, behind, or open: whether every interval there is lies on one side of 0; of one seed it is open,
                 and so is it against another with fewer than LEAST runs on a side, whose spread nobody knows

Promises: a function of sealed runs; units are found by what they are, and none is left out in silence. Costs a thousand
scores a run. Refuses another fine-tuning of another kind, and parts of other units.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from tundish.cluster import store
from tundish.operators.model import certainty
from tundish.operators.model.apart import apart, divided, scored
from tundish.operators.model.certainty import Difference, Interval
from tundish.stages import finetune_means
from tundish.stages.finetune_means import gained, verdict
from tundish.stages.finetune_task import MEASURES, TuneTask
from tundish.stages.finetune_units import Units, load, measure_of

SEED, SAMPLES = 1, 1000
LEAST = 3  # runs of a side whose seeds are its own
Told = dict[str, Any]


def compared(task: TuneTask, mine: Mapping[str, Units], against: str = "") -> Told:
    """What is told of each part, written. `against`: the folder or the result.json of another fine-tuning."""
    theirs = load(against) if against else {}
    told: Told = {"measure": MEASURES[task.kind], "parts": {}}
    if against:
        told["against"] = against
        if not set(mine) & set(theirs):
            raise ValueError(f"{against} was tested on {_list(theirs)}, and this on {_list(mine)}; name a part alike")
    for part, units in mine.items():
        said = {}
        if {"pretrained", "fresh"} <= set(units.runs):
            said["fresh"] = difference(units.kind, _runs(units, "fresh"), _runs(units, "pretrained"))
        if part in theirs:
            said["against"] = other(part, theirs[part], units)
        if said:
            told["parts"][part] = said
    store.write_json(store.join(task.out, "compared.json"), told)
    return told


def _list(parts: Mapping[str, Any]) -> str:
    return ", ".join(parts) or "nothing"


Runs = dict[int, np.ndarray]  # seed -> (n, columns)


def _runs(units: Units, start: str) -> Runs:
    return dict(zip(units.seeds[start], units.runs[start], strict=True))


def other(part: str, theirs: Units, mine: Units) -> Told:
    """Mine against theirs, the units of both put in one order."""
    if theirs.kind != mine.kind:
        raise ValueError(f"{part} is of {theirs.kind} there and of {mine.kind} here; compare what is of one kind")
    for units, where in ((theirs, "there"), (mine, "here")):
        if "pretrained" not in units.runs:
            raise ValueError(f"every run {where} failed on {part}, so there is nothing to compare; see its losses")
    places = {key: at for at, key in enumerate(theirs.keys.tolist())}
    missing = [key for key in mine.keys.tolist() if key not in places]
    if missing or len(places) != len(mine.keys):
        shared = len(mine.keys) - len(missing)
        raise ValueError(
            f"{part} has {len(mine.keys)} units here and {len(places)} there, of which {shared} are the same; "
            "test both on the same file"
        )
    order = [places[key] for key in mine.keys.tolist()]
    return beside(
        mine.kind, {seed: runs[order] for seed, runs in _runs(theirs, "pretrained").items()}, _runs(mine, "pretrained")
    )  # fmt: skip


def difference(kind: str, first: Runs, second: Runs) -> Told:
    """How far the second is ahead of the first, of the seeds that both have: one means the same on both sides, its
    order of examples and its head."""
    measure = measure_of(kind)
    both = sorted(first.keys() & second.keys())
    if not both:
        return {"runs": [len(first), len(second)], "verdict": "open"}  # each seed failed on one side
    one, two = (np.stack([side[seed] for seed in both]) for side in (first, second))
    found = certainty.between(measure, one, two, seed=SEED, samples=SAMPLES)
    told = _told(one, two, found, certainty.exchanged(measure, one, two, seed=SEED, samples=SAMPLES))
    ends = [(found.low, found.high)]
    if len(both) > 1:
        low, high = gained(MEASURES[kind], [measure(b) - measure(a) for a, b in zip(one, two, strict=True)])["interval"]
        told["over_seeds"] = [low, high]
        ends.append((low, high))
    return told | {"verdict": verdict(ends, len(both))}


def beside(kind: str, first: Runs, second: Runs) -> Told:
    """The same of runs that have nothing in common but what they were tested on, all of both sides."""
    measure = measure_of(kind)
    one, two = (np.stack([side[seed] for seed in sorted(side)]) for side in (first, second))
    sides = [scored(measure, runs, seed=SEED, samples=SAMPLES) for runs in (one, two)]
    found = apart(*sides, bounds=finetune_means.apart(MEASURES[kind]))
    told = _told(one, two, found, divided(*(side.scores for side in sides), seed=SEED, samples=SAMPLES))
    if min(len(one), len(two)) < 2:
        del told["interval"]  # of one run nobody knows how far another would lie from it
    ends = [(found.low, found.high)] if min(len(one), len(two)) >= LEAST else []
    return told | {"verdict": verdict(ends, min(len(one), len(two)))}


def _told(one: np.ndarray, two: np.ndarray, found: Interval | Difference, chance: float) -> Told:
    return {
        "runs": [len(one), len(two)],
        "units": one.shape[1],
        "difference": found.value,
        "interval": [found.low, found.high],
        "chance": chance,
    }
