"""A fine-tuned model made smaller and faster, step by step, with what each step costs in score.

    out/compressed.json      a record of each step, sealed as it ends: size, scores by seed, before recovery and after
    out/STEP/                the model of the step's first seed, for `tundish predict`
    out/train.arrow, …       the parts, as a fine-tuning has them (stages/finetune_files)

Promises: a step that is sealed is not made again while what decides it is the same (the model and the texts by the
digests of their bytes, its means, the training), and of seeds the missing ones are made; no seed is chosen by its
score. The model itself is measured beside them, and all of them on the same texts in turns. Costs a training a seed of
every step that learns. Refuses models that write, classes that are not the model's, and what a step refuses.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import nn

from tundish.cluster import store
from tundish.cluster.shards import digest_of
from tundish.operators.model.certainty import over_seeds
from tundish.operators.model.heads import Tuned
from tundish.operators.model.pruning import bare, kept_layers, require_heads
from tundish.stages.compress_onnx import NEEDED, Session, exported, in_bytes, needed
from tundish.stages.compress_read import (
    GRAPH,
    Kept,
    heat_of,
    lies,
    parameters_of,
    reader,
    size_of,
    write,
)
from tundish.stages.compress_speed import ROUNDS, front, machine, speeds
from tundish.stages.compress_steps import STEPS, Room, said_of
from tundish.stages.compress_task import TRAINED, Means, expanded, key_of
from tundish.stages.finetune_rows import Rows
from tundish.stages.finetune_runs import read
from tundish.stages.finetune_task import MEASURES, TuneTask
from tundish.stages.language_model import vocabulary_in
from tundish.stages.predict import Predictor

SEALED = "compressed.json"
WHOLE = "model"  # the name of what is compressed, among its steps
TRAINING = ("epochs", "batch", "lr", "warmup", "weight_decay", "clip", "dropout", "temperature", "dtype")
ROUND = 6
Tell = Callable[[str], None]
Record = dict[str, Any]


def compress(
    task: TuneTask, means: Means, steps: Sequence[str], *, tell: Tell = lambda line: None, rounds: int = ROUNDS
) -> dict[str, Any]:
    """What `compressed.json` says in the end. `task.model`: the folder of the model; `tell` is told what begins."""
    paths = expanded(steps)
    room = room_of(task, means)
    _refuse(room, paths)
    keys = _keys(task, means, paths)
    uri = store.join(task.out, SEALED)
    told = store.read_json(uri) or {}
    sealed = told.get("others", {}) | told.get("steps", {})
    records: dict[str, Record] = {WHOLE: _whole(room)}
    for path in paths:
        old = sealed.get(path, {})
        found = old if old.get("key") == keys[path] else {"key": keys[path], "seeds": {}}
        for each in _made(room, path, keys, found, tell):
            records[path] = each
            store.write_json(uri, {"steps": sealed | records})
    tell("measuring")
    result = result_of(room, records) | {"means": {path: _means(means, path) for path in paths}}
    _timed(room, result, rounds)
    others = {path: one for path, one in sealed.items() if path not in records}
    store.write_json(uri, result | {"others": others})  # sealed by an earlier call, and not asked for in this one
    return result


def room_of(task: TuneTask, means: Means) -> Room:
    """The model as it was read, without what its head never asks, and the parts."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    whole = reader(task.model, device=str(device))
    assert isinstance(whole.model, Tuned), "`compress_run` refuses others"
    parts = read(task, whole.model.encoder.shape.length)
    if (task.kind, parts["train"].names) != (whole.task.kind, whole.names):
        raise ValueError(
            f"the files are of {task.kind} with {', '.join(parts['train'].names[:5]) or 'no classes'}, and the model "
            f"of {whole.task.kind} with {', '.join(whole.names[:5]) or 'no classes'}; read them with its names"
        )
    return Room(task, means, parts, device, replace(whole, model=bare(whole.model).to(device).eval()))


def _refuse(room: Room, paths: Sequence[str]) -> None:
    """What a later step would refuse, before an earlier one has trained for hours."""
    shape, means = room.whole.model.encoder.shape, room.means
    words = {word for path in paths for word in path.split("+")}
    if "heads" in words:
        require_heads(shape, means.heads or 1)
    if words & {"layers", "distil"}:
        kept_layers(shape, means.layers or max(1, shape.layers // 2), means.way, torch.zeros(shape.layers))
    if "onnx" in words:
        needed(*NEEDED)


def tested(parts: Mapping[str, Rows]) -> list[str]:
    return [name for name in parts if name not in ("train", "dev")] or ["dev"]


def _keys(task: TuneTask, means: Means, paths: Sequence[str]) -> dict[str, str]:
    """What decides each step, by its path; of the model itself its bytes."""
    training = {name: getattr(task, name) for name in TRAINING} | {"kind": task.kind}
    data = {name: store.digest(uri) for name, uri in task.parts.items()}
    folders = {
        name: _digest(folder) if folder else ""
        for name, folder in (("teacher", means.teacher), ("student", means.student))
    }
    keys = {"": digest_of({"model": _digest(task.model), "data": data})}
    for path in paths:
        before, _, step = path.rpartition("+")
        keys[path] = key_of(keys[before], step, means, training, folders)
    return keys


def _digest(folder: str) -> str:
    names = [name for name in store.listing(folder) if name == "config.json" or name.endswith(".safetensors")]
    return digest_of({name: store.digest(store.join(folder, name)) for name in names})


def _whole(room: Room) -> Record:
    own = reader(room.task.model, device=str(room.device))
    record = {"told": "as it was tuned", "folder": room.task.model, "bytes": size_of(room.task.model)}
    return record | _sizes(own.model) | {"seeds": {"": _scored(room, room.whole.model)[0]}}


def _sizes(model: Tuned) -> Record:
    count, none = parameters_of(model)
    return {"parameters": count, "zeros": none}


def _scored(room: Room, model: nn.Module) -> tuple[Record, float]:
    """Scores of one model, and its temperature, fitted on dev."""
    device = next((each.device for each in model.parameters()), torch.device("cpu"))
    said = said_of(room, model, device)
    heat = heat_of(room.parts["dev"], said["dev"][1]) if "dev" in said else 1.0
    return {"scores": {name: one for name, (one, _) in said.items()}}, heat


def _made(room: Room, path: str, keys: Mapping[str, str], record: Record, tell: Tell) -> Any:
    """The record of a step, given whenever more of it is there."""
    before, _, step = path.rpartition("+")
    folder = store.join(room.task.out, path)
    seeds = [str(seed) for seed in room.task.seeds] if step in TRAINED else [""]
    there = lies(folder, keys[path])
    missing = [seed for seed in seeds if not there or seed not in record["seeds"]]
    if not missing:
        yield record
        return
    if step == "onnx" or before.endswith("onnx"):
        tell(path)
        yield _graph(room, path, before, keys[path], folder)
        return
    given = room.whole.model if not before else reader(store.join(room.task.out, before), device=str(room.device)).model
    for seed in missing:
        tell(f"{path}, seed {seed}" if seed else path)
        made = STEPS[step](room, given, int(seed or room.task.seeds[0]))
        failed = made.outcome.failed if made.outcome else ""
        one, heat = ({"scores": {}}, 1.0) if failed else _scored(room, made.model)
        if made.before is not None and made.outcome is not None:
            one |= {"before": made.before, "losses": made.outcome.losses, "failed": failed}
        record = record | {"told": made.told, "folder": path} | _sizes(made.model)
        record["seeds"] = record["seeds"] | {seed: one}
        if not there and not one.get("failed"):
            write(folder, made.model, _kept(room, keys[path], heat))
            there = True
        record["bytes"] = size_of(folder)
        yield record
    if not there:
        raise ValueError(
            f"{path} came to no number with every seed ({one['failed']}); take a smaller rate (--lr), or less away"
        )


def _graph(room: Room, path: str, before: str, key: str, folder: str) -> Record:
    """An exported graph, or one in bytes, as a step."""
    within = store.join(room.task.out, before) if before else ""
    if path.endswith("onnx"):
        like = room.whole.model if not within else reader(within).model
        graph = exported(like.cpu().eval())
        like.to(room.device)
        told = "rows filled up, for onnxruntime"
    else:
        told, graph = "the graph's products in bytes", in_bytes(store.read(store.join(within, GRAPH)))
        before = before.rpartition("+")[0]
        like = room.whole.model if not before else reader(store.join(room.task.out, before)).model
    one, heat = _scored(room, Session(graph, like.head))
    write(folder, like, _kept(room, key, heat), graph=graph)
    record = {"key": key, "told": told, "folder": path, "bytes": size_of(folder)} | _sizes(like)
    return record | {"seeds": {"": one}}


def _kept(room: Room, key: str, heat: float) -> Kept:
    return Kept(room.whole, vocabulary_in(room.task.model), key, heat)


def _means(means: Means, path: str) -> dict[str, Any]:
    return means.deciding(path.rpartition("+")[2])


# -- what it comes to


def result_of(room: Room, records: Mapping[str, Record]) -> dict[str, Any]:
    """The records, with means over seeds of what was tested."""
    measure, parts = MEASURES[room.task.kind], tested(room.parts)
    asked = ["", *map(str, room.task.seeds)]
    seeds = {path: [one["seeds"][seed] for seed in asked if seed in one["seeds"]] for path, one in records.items()}
    return {
        "model": room.task.model,
        "task": room.task.kind,
        "measure": measure,
        "tested": parts,
        "examples": {name: len(rows) for name, rows in room.parts.items()},
        "epochs": room.task.epochs,
        "steps": {path: one | {"parts": _parts(seeds[path], parts, measure)} for path, one in records.items()},
    }


def _parts(seeds: Sequence[Record], parts: Sequence[str], measure: str) -> Record:
    good = [one for one in seeds if not one.get("failed")]
    told: Record = {}
    for part in parts:
        values = [one["scores"][part][measure] for one in good]
        told[part] = {"mean": float(np.mean(values)), "seeds": [round(each, ROUND) for each in values]}
        if len(values) > 1:
            told[part]["interval"] = [*over_seeds(values)[1:]]
        if before := [one["before"][part][measure] for one in good if "before" in one]:
            told[part]["before"] = float(np.mean(before))
    return told | {"failed": len(seeds) - len(good)}


def _timed(room: Room, result: dict[str, Any], rounds: int) -> None:
    """Add times of all models, and which of them no other beats."""
    steps, out, part = result["steps"], room.task.out, result["tested"][0]
    models = {path: reader(store.join(out, path)) for path in steps if path != WHOLE}
    each: dict[str, Predictor] = {WHOLE: reader(room.task.model)} | models
    found = speeds({path: it.model for path, it in each.items()}, room.parts[part], rounds=rounds)
    for path, speed in found.items():
        steps[path]["speed"] = speed._asdict() | {"device": str(each[path].device)}
    scores = [steps[path]["parts"][part]["mean"] for path in steps]
    for name, costs in (
        ("latency", [steps[path]["speed"]["latency"] for path in steps]),
        ("bytes", [steps[path]["bytes"] for path in steps]),
    ):
        for path, best in zip(steps, front(costs, scores), strict=True):
            steps[path].setdefault("front", {})[name] = best
    result["machine"] = machine()
