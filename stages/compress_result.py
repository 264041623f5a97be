"""What a compression comes to: means over seeds, what each step scores less than its references, times, stars.

    steps[path]["parts"][part]     mean, seeds, interval, before; `less`: the difference to what it is told beside,
                                   {"model": {"difference", "interval"}, "recovery": {…}}, below 0 where it is worse
    steps[path]["reference"]       what has learnt as often and lost nothing (compress_task.reference_of)
    steps[path]["front"]           by latency and by bytes: the smallest (fastest), and what is shown to score more than
                                   every such one that is smaller (compress_rows.front)

Promises: a difference to what has seeds as well is taken seed by seed, as both draw the same batches with one; its
interval is over seeds and tested texts at once (compress_rows), over texts alone between what was given and what is
made of it without training; what has learnt with one seed has none. Times are those of compress_speed. Costs what these
cost. A step that was sealed before its answers were kept is told with an interval over seeds alone.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from tundish.cluster import store
from tundish.operators.model.certainty import FREE, Bounds, over_seeds
from tundish.stages import finetune_means
from tundish.stages.compress_read import reader
from tundish.stages.compress_rows import Seeds, better, difference, front, sides_of, sure
from tundish.stages.compress_speed import machine, speeds
from tundish.stages.compress_steps import Room
from tundish.stages.compress_task import reference_of
from tundish.stages.finetune_rows import Rows
from tundish.stages.finetune_task import MEASURES
from tundish.stages.predict import Predictor

WHOLE = "model"  # the name of what is compressed, among its steps
ROUND = 6
Record = dict[str, Any]


def tested(parts: Mapping[str, Rows]) -> list[str]:
    return [name for name in parts if name not in ("train", "dev")] or ["dev"]


def result_of(room: Room, records: Mapping[str, Record]) -> dict[str, Any]:
    """The records, with means over seeds of what was tested."""
    measure, parts = MEASURES[room.task.kind], tested(room.parts)
    asked = ["", *map(str, room.task.seeds)]
    seeds = {
        path: {seed: one["seeds"][seed] for seed in asked if seed in one["seeds"]} for path, one in records.items()
    }
    sides, steps = _sides(room, records, seeds, parts), {}
    for path, one in records.items():
        reference = "" if path == WHOLE else reference_of(path)
        beside = [each for each in (WHOLE, reference) if each not in ("", path)]
        steps[path] = one | {"parts": _parts(seeds, path, beside, sides, measure), "reference": reference}
    scores = {path: one["parts"][parts[0]]["mean"] for path, one in steps.items()}
    shown = better(sides[parts[0]], scores, measure)
    for path, one in steps.items():
        one["above"] = [other for other in steps if other != path and shown(path, other)]
    return {
        "model": room.task.model,
        "task": room.task.kind,
        "measure": measure,
        "tested": parts,
        "examples": {name: len(rows.begins) for name, rows in room.parts.items()},
        "epochs": room.task.epochs,
        "batch": room.task.batch,
        "rate": room.rate,
        "length": room.task.length,
        "order": list(steps),  # JSON keeps none
        "steps": steps,
    }


def _sides(
    room: Room, records: Mapping[str, Record], seeds: Mapping[str, Mapping[str, Record]], parts: Sequence[str]
) -> dict[str, dict[str, Seeds]]:
    """Of each part what every step scored, with the texts drawn anew."""
    sound = {path: {seed: one for seed, one in each.items() if _good(one)} for path, each in seeds.items()}
    keys = {path: one["key"] for path, one in records.items()}
    return {part: sides_of(room, sound, keys, part) for part in parts}


def _parts(
    records: Mapping[str, Mapping[str, Record]],
    path: str,
    beside: Sequence[str],
    sides: Mapping[str, Mapping[str, Seeds]],
    measure: str,
) -> Record:
    told: Record = {}
    for part in sides:
        mine = _scores(records[path], part, measure)
        told[part] = {"mean": float(np.mean([*mine.values()])), "seeds": [round(each, ROUND) for each in mine.values()]}
        told[part] |= _interval([*mine.values()], finetune_means.range_of(measure))
        before = [one["before"][part][measure] for one in records[path].values() if one.get("before") and _good(one)]
        if before:
            told[part]["before"] = float(np.mean(before))
        told[part]["less"] = {
            other: less(mine, _scores(records[other], part, measure), finetune_means.apart(measure))
            | _over_texts(sides[part], path, other, measure)
            for other in beside
        }
    return told | {"failed": sum(not _good(one) for one in records[path].values())}


def _over_texts(sides: Mapping[str, Seeds], path: str, other: str, measure: str) -> Record:
    """The interval over seeds and texts, in place of that over seeds; nothing where it cannot be known."""
    found = difference(sides, path, other, measure) if sure(sides, path, other) else None
    return {} if found is None else {"interval": [found.low, found.high]}


def _good(one: Record) -> bool:
    return not one.get("failed")


def _scores(seeds: Mapping[str, Record], part: str, measure: str) -> dict[str, float]:
    return {seed: one["scores"][part][measure] for seed, one in seeds.items() if _good(one)}


def less(mine: Mapping[str, float], other: Mapping[str, float], bounds: Bounds = FREE) -> Record:
    """What the scores of one are less those of another, by seed; where that has none, its one score is for all. Empty
    where they have no seed in common.

    >>> less({"1": 0.75, "2": 0.5}, {"": 0.5})["difference"], less({"1": 0.75, "2": 0.5}, {"2": 0.75})
    (0.125, {'difference': -0.25})
    """
    each = [score - other.get(seed, other.get("", np.nan)) for seed, score in mine.items()]
    each = [one for one in each if np.isfinite(one)]
    return {"difference": float(np.mean(each))} | _interval(each, bounds) if each else {}


def _interval(values: Sequence[float], bounds: Bounds) -> Record:
    return {"interval": [*over_seeds(values, bounds=bounds)[1:]]} if len(values) > 1 else {}


def timed(room: Room, result: dict[str, Any], rounds: int) -> None:
    """Add times of all models, and which of them have a star."""
    steps, part = result["steps"], result["tested"][0]
    each = dict(_readers(room, steps))
    found = speeds({path: it.model for path, it in each.items()}, room.parts[part], rounds=rounds)
    for path, speed in found.items():
        steps[path]["speed"] = speed._asdict() | {"device": str(each[path].device)}
    for name, costs in (
        ("latency", {path: one["speed"]["latency"] for path, one in steps.items()}),
        ("bytes", {path: one["bytes"] for path, one in steps.items()}),
    ):
        for path, best in zip(steps, front(costs, lambda one, other: other in steps[one]["above"]), strict=True):
            steps[path].setdefault("front", {})[name] = best
    result["machine"] = machine()


def _readers(room: Room, steps: Mapping[str, Any]) -> Iterator[tuple[str, Predictor]]:
    for path in steps:
        yield path, reader(room.task.model if path == WHOLE else store.join(room.task.out, path))
