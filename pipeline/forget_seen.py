"""Which models saw forgotten documents: the steps of each training, the checkpoints since, and what was built on them.

Promises: steps come from the training's own plan (pipeline/seen), asked before its token shards lose the rows; a
checkpoint saw a document if it was written after the first of those steps. Costs the offsets of the shards that held
one. Refuses nothing: a training that was not finished begins anew, for its shards are others.
"""

import json
from collections.abc import Iterator
from typing import Any

from tundish.cluster import store
from tundish.pipeline.funnel import Ran
from tundish.pipeline.seen import Ledger
from tundish.stages.forget import Laying, Lost
from tundish.stages.forget_rows import Piece

SAMPLES = {"tokenize": "vocabulary.model", "estimate": "ngrams.arrow", "teach": "model.bin"}  # learned from a sample


def models(past: Ran, laying: Laying) -> list[dict[str, Any]]:
    """Each model that saw a row, and those that stand on one that did."""
    told: list[dict[str, Any]] = []
    for address, stage in past.recipe.items():
        tokens = laying.by_path.get(str(past.field(address, "shards")))
        lost = laying.tokens_of(tokens) if tokens is not None and stage["stage"] == "Pretrain" else {}
        if lost and address in past.datasets:
            told.append(_trained(past, address, lost))
        elif lost and (steps := _checkpoints(past, address, -1)):
            told.append({"model": address, "unfinished": True, "checkpoints": steps})
    seen = {one["model"] for one in told if one.get("steps")}
    return [*told, *_standing_on(laying.found, seen)]


def _trained(past: Ran, address: str, lost: dict[str, list[list[int]]]) -> dict[str, Any]:
    """The steps of a training that saw rows of what goes. Rows in a shard are as they are before it is rewritten."""
    ledger = Ledger.of(past.datasets[address], past.datasets[past.field(address, "shards")])
    steps: set[int] = set()
    documents = rows = 0
    for name, places in lost.items():
        for row, _ in places:
            of_it, number = ledger.steps_of(name, row)
            steps, documents, rows = steps | set(of_it), documents + bool(of_it), rows + number
    told: dict[str, Any] = {"model": address, "documents": documents, "rows": rows, "steps": sorted(steps)}
    return told | {"checkpoints": _checkpoints(past, address, min(steps))} if steps else told


def _checkpoints(past: Ran, address: str, first: int) -> list[str]:
    """Checkpoints written after this step (counted from 0), and the weights at the end."""
    folder = store.join(past.root, address)
    named = [name for name in store.listing(store.join(folder, "checkpoints")) if name.startswith("step-")]
    since = [f"checkpoints/{name}" for name in named if int(name.removeprefix("step-")) > first]
    return [*since, *(name for name in ("model.safetensors",) if store.exists(store.join(folder, name)))]


def _standing_on(found: list[Piece], seen: set[str]) -> Iterator[dict[str, Any]]:
    """Models that began with the weights of one that saw it, however far away."""
    known = dict.fromkeys(seen)
    for _ in found:
        more = [
            (piece.path, base)
            for piece in found
            if piece.path == piece.stage and piece.about.get("kind") == "files" and piece.path not in known
            for base in known
            if base in json.dumps(piece.about.get("fields", {}))
        ]
        if not more:
            return
        for path, base in dict(more).items():
            known[path] = None
            yield {"model": path, "stands_on": base}


def learned(lost: list[Lost]) -> list[dict[str, Any]]:
    """What was learned from a sample of texts that held some: vocabularies, n-gram models, classifiers."""
    found: dict[str, int] = {}
    for one in lost:
        stage, _, inside = one.path.partition("/")
        if inside.split("/")[0] == "sample" and stage.split("-")[0] in SAMPLES:
            found[stage] = found.get(stage, 0) + one.rows
    return [{"file": f"{stage}/{SAMPLES[stage.split('-')[0]]}", "documents": rows} for stage, rows in found.items()]
