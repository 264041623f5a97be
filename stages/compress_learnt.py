"""Which tested texts a model has learnt already, and the tests without them.

    folder/train.arrow, dev.arrow        what a fine-tuning learnt, and fitted its temperature and its epochs on
    above/compressed.json                of a compressed model in above/STEP: what its recovery learnt lies above, and
                                         what it was made of is named there

Promises: texts are the same by the digest of their characters (`id` of stages/examples; of a question with its
context), whatever the file, the length they were cut at and their label; what leaves a test is counted. White space and
case make texts differ. Costs the ids in memory. Refuses a test of which nothing is left. Where a folder does not say
what its model learnt, as those of others, nothing is taken out, and that is told.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from tundish.cluster import store
from tundish.cluster.digests import digest_once
from tundish.stages.examples_tokens import Tokens, load, save
from tundish.stages.finetune_files import DEV, TRAIN
from tundish.stages.finetune_kinds import place_of
from tundish.stages.finetune_rows import Rows
from tundish.stages.finetune_task import TuneTask

SEALED = "compressed.json"


class Learnt(NamedTuple):
    """Ids of texts; `known`: whether these are all; `trained`: those of them that its weights have learnt, as those of
    dev have not."""

    ids: frozenset[str]
    known: bool
    trained: frozenset[str] = frozenset()


def learnt(folder: str) -> Learnt:
    """What the model in a folder has learnt, as far as the folder says."""
    if found := _laid(folder):
        return Learnt(found, True, _laid(folder, (TRAIN,)))
    above, _, step = folder.rstrip("/").rpartition("/")
    told = store.read_json(store.join(above or ".", SEALED))
    if not isinstance(told, dict) or step not in told.get("steps", {}) or "model" not in told:
        return Learnt(frozenset(), False)
    first = learnt(told["model"])
    own, trained = _laid(above or "."), _laid(above or ".", (TRAIN,))
    return Learnt(first.ids | own, first.known, first.trained | trained)


def _laid(folder: str, names: Sequence[str] = (TRAIN, DEV)) -> frozenset[str]:
    """Ids in the parts that a training lays into its folder; none where no such files are."""
    found: set[str] = set()
    for name in names:
        uri = store.join(folder, f"{name}.arrow")
        if store.exists(uri):
            try:
                found |= set(load(uri)[0]["id"].to_pylist())
            except ValueError:  # a file of this name that is none of ours
                continue
    return frozenset(found)


def apart(task: TuneTask, known: Learnt) -> tuple[TuneTask, dict[str, Any]]:
    """The task without the tested texts that are known, its files laid anew, and what is told of that: `known`, and of
    each part that lost some rows `out`, how many, and `of` how many."""
    taken: dict[str, Any] = {}
    for name in task.parts:
        if name not in (TRAIN, DEV):
            task, rows, out = _without(task, name, known.ids)
            taken |= {name: {"out": out, "of": rows}} if out else {}
    return task, {"known": known.known, "parts": taken}


def unlearnt(rows: Rows, trained: frozenset[str]) -> np.ndarray:
    """(n,) bool: which texts of a part no weight has learnt, so that a temperature can be fitted on what is said of
    them; of texts that were learnt a model is surer than of any other."""
    return np.array([id not in trained for id in rows.table["id"].to_pylist()], bool)


def heated(task: TuneTask, known: Learnt) -> dict[str, Any]:
    """What is told of dev, where the model has learnt some of it: `out`, how many texts no temperature of what learns
    is fitted on, and `of` how many."""
    own = load(task.parts[DEV])[0]["id"].to_pylist() if DEV in task.parts else []
    out = sum(id in known.trained for id in own)
    return {DEV: {"out": out, "of": len(own)}} if out else {}


def _without(task: TuneTask, name: str, ids: frozenset[str]) -> tuple[TuneTask, int, int]:
    """The task with the rows of one part that have none of the ids; how many examples it had, and how many are gone."""
    table, _ = load(task.parts[name])
    rows = table.select(["id", "file", "row"]).to_pylist()  # several of an example that is read in windows
    every = {place_of(row["file"], row["row"]) for row in rows}
    gone = {place_of(row["file"], row["row"]) for row in rows if row["id"] in ids}
    if not gone:
        return task, len(every), 0
    if len(gone) == len(every):
        raise ValueError(
            f"the model has learnt all {len(every)} texts of {name}; give --test FILE with texts that it has not seen"
        )
    kept = [at for at, row in enumerate(rows) if row["id"] not in ids]
    save(task.parts[name], Tokens(table.take(kept), {}))
    truth: Mapping[str, Any] = task.truth
    if name in truth:
        own = {place: one for place, one in truth[name].items() if place not in gone}
        truth = {**truth, name: own}
    digests = {**task.digests, name: digest_once(task.parts[name])}
    return replace(task, digests=digests, truth=truth), len(every), len(gone)
