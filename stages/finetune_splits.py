"""The standard split beside random ones: is what one split shows true of others (Gorman and Bedrick 2019)?

    out/splits/1/     a fine-tuning of its own: train, dev and test joined and divided anew by a hash with the seed 1
    out/splits.json   the standard split and the random ones side by side

Promises: a split is a function of the texts and its seed; its parts have as many rows as the standard ones, to within
a group, each class its share of every part; equal texts never lie on both sides, nor questions about one context.
Runs are sealed as those of the standard split are. Intervals over splits are widened for that they share rows (Nadeau
and Bengio 2003). Costs every run once a split. Refuses parts in which a side gets nothing. Further tests are scored
again beside the first, and not divided.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa

from tundish.cluster import store
from tundish.operators.model import certainty
from tundish.stages import examples_checks, examples_splits
from tundish.stages.examples import Examples
from tundish.stages.finetune_files import DEV, TRAIN, laid, split
from tundish.stages.finetune_means import apart, gained, range_of
from tundish.stages.finetune_task import TuneTask

Told = dict[str, Any]
Values = Sequence[float]


def divided(
    task: TuneTask,
    files: Mapping[str, str | Sequence[str]],
    seeds: Sequence[int],
    *,
    columns: Mapping[str, Any] | None = None,
    length: int = 0,
    apart: bool = False,
    options: Mapping[str, Any] | None = None,
    others: Callable[[Mapping[str, Examples], str], Any] | None = None,
) -> list[TuneTask]:
    """The task on each random split, its files laid; `files` and the rest as `finetune_files.prepared` had them.
    `others(parts, out)`: the tasks beside it on a split, where what they learn depends on its parts."""
    standard, _ = split(examples_checks.parts(task.kind, files, columns, **(options or {})), apart=apart)
    made = []
    for seed in seeds:
        out = store.join(task.out, "splits", str(seed))
        found = anew(standard, seed)
        other, _ = laid(task.model, found, out, length=length)
        here = {name: getattr(other, name) for name in ("parts", "digests", "truth", "out")}
        here |= {"others": others(found, out)} if others else {}
        made.append(replace(task, sizes=(), **here))
    return made


def anew(found: Mapping[str, Examples], seed: int) -> dict[str, Examples]:
    """Train, dev and the first test of some parts, joined and divided by a seed; the others as they are."""
    test = next(name for name in found if name not in (TRAIN, DEV))
    names = (TRAIN, DEV, test)
    whole = joined({name: found[name] for name in names})
    side = sides(whole, [len(found[name]) for name in names], seed)
    made = {name: whole.take(np.flatnonzero(side == at)) for at, name in enumerate(names)}
    for name, one in made.items():
        if not len(one):
            raise ValueError(f"{len(whole)} rows leave nothing to {name} with in split {seed}; give more texts")
    made[TRAIN] = made[TRAIN].take(examples_splits.order(made[TRAIN]))
    return {name: made.get(name, one) for name, one in found.items()}


def joined(found: Mapping[str, Examples]) -> Examples:
    """All rows of some parts; where two files of one name are among them, the part stands before it."""
    places = [place for one in found.values() for place in {*one.table["file"].to_pylist()}]
    tables = []
    for name, one in found.items():
        table = one.table
        if len(places) > len(set(places)):
            files = pa.array([f"{name}/{file}" for file in table["file"].to_pylist()], table["file"].type)
            table = table.set_column(table.schema.get_field_index("file"), "file", files)
        tables.append(table)
    return replace(next(iter(found.values())), table=pa.concat_tables(tables).combine_chunks(), told=())


def sides(whole: Examples, sizes: Sequence[int], seed: int) -> np.ndarray:
    """(n,) int64: the part of each row. Groups are never divided; they come in an order in which each class has its
    share of every beginning (a group counts to the class of its first text), and fill one part after another."""
    keys, classes = examples_checks.keys(whole), examples_splits.strata(whole)
    groups = whole.table["context"].to_pylist() if whole.kind == "answer" else keys
    rows: dict[str, list[int]] = {}
    for at in sorted(range(len(whole)), key=lambda at: (keys[at], classes[at])):  # whatever the order of the rows
        rows.setdefault(groups[at], []).append(at)
    each = list(rows.values())
    found, ends, had = np.zeros(len(whole), np.int64), np.cumsum(sizes), 0
    for group in examples_splits.order(whole.take([mine[0] for mine in each]), seed=seed).tolist():
        middle = had + (len(each[group]) - 1) / 2  # it goes where most of it belongs
        found[each[group]] = np.searchsorted(ends, middle, side="right")
        had += len(each[group])
    return found


def splits_of(task: TuneTask, others: Sequence[TuneTask], result: Callable[[TuneTask], Told]) -> Told:
    """The standard split and the others side by side, written. `result`: what a task's result.json holds."""
    results = [result(each) for each in (task, *others)]
    part, measure = results[0]["tested"][0], results[0]["measure"]
    each = [_of_split(told["parts"][part], measure, len(told["seeds"])) for told in results]
    sizes, ends = results[0]["examples"], range_of(measure)
    told = {
        "measure": measure,
        "part": part,
        "examples": sizes,
        "standard": each[0],
        "random": [{"split": number} | one for number, one in enumerate(each[1:], 1)],
        "over_splits": {
            name: _over([one[name]["mean"] for one in each[1:] if one.get(name)], sizes[part] / sizes["train"], bounds)
            for name, bounds in (("pretrained", ends), ("fresh", ends), ("difference", apart(measure)))
        },
    }
    gains = [one["difference"]["mean"] for one in each if one.get("difference")]
    if gains:
        told["keeps_its_sign"] = bool(len({np.sign(gain) for gain in gains}) == 1 and gains[0])
    store.write_json(store.join(task.out, "splits.json"), told)
    return told


def _of_split(told: Mapping[str, Any], measure: str, seeds: int) -> Told:
    """Scores of a split, and how far pretrained weights are ahead of fresh ones: seed by seed, unless one failed."""
    found = {name: told.get(name, {}).get(measure) for name in ("pretrained", "fresh")}
    one, other = found["pretrained"], found["fresh"]
    if one and other:
        whole = len(one["seeds"]) == len(other["seeds"]) == seeds
        each = [a - b for a, b in zip(one["seeds"], other["seeds"], strict=True)] if whole else []
        found["difference"] = gained(measure, each) if each else {"mean": one["mean"] - other["mean"], "seeds": []}
    return found


def _over(values: Values, ratio: float, bounds: certainty.Bounds) -> Told | None:
    if not values:
        return None
    told: Told = {"mean": float(np.mean(values)), "splits": list(values)}
    return told | (
        {"interval": list(certainty.over_splits(values, ratio, bounds=bounds)[1:])} if len(values) > 1 else {}
    )
