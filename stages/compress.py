"""A fine-tuned model made smaller and faster, step by step, with what each step costs in score.

    out/compressed.json      a record of each step, sealed as it ends: size, scores by seed, before recovery and after
    out/STEP/                the model of the step's first seed, for `tundish predict`
    out/seeds/SEED/STEP/     the models of its other seeds, where another step begins from it
    out/units/               what scores are counted from, by text (stages/compress_rows)
    out/train.arrow, …       the parts, as a fine-tuning has them (stages/finetune_files)

Promises: a step that is sealed is not made again while what decides it is the same (the model and the texts by the
digests of their bytes, its means, the training), and of seeds the missing ones are made; no seed is chosen by its
score. A step behind another has its seeds: each begins from what that left with the same one. What learns is told
beside the same training with nothing taken away (`compress_task.reference_of`), which is a step more, and beside the
model; all of them are measured on the same texts in turns. Costs a training a seed of every step that learns. Refuses
models that write, classes that are not the model's, and what a step refuses.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import nn

from tundish.cluster import store
from tundish.cluster.shards import digest_of
from tundish.operators.model.heads import Tuned
from tundish.operators.model.pruning import bare, kept_layers, require_heads
from tundish.stages.compress_distil import require_teaching
from tundish.stages.compress_learnt import SEALED, unlearnt
from tundish.stages.compress_onnx import NEEDED, Session, exported, in_bytes, needed
from tundish.stages.compress_read import GRAPH, Kept, heat_of, lies, parameters_of, reader, size_of, write
from tundish.stages.compress_result import WHOLE, Record, result_of, tested, timed
from tundish.stages.compress_rows import keep
from tundish.stages.compress_speed import ROUNDS
from tundish.stages.compress_steps import STEPS, Made, Room, said_of
from tundish.stages.compress_task import Means, expanded, key_of, learns, referred
from tundish.stages.finetune_runs import read
from tundish.stages.finetune_task import TuneTask
from tundish.stages.language_model import vocabulary_in
from tundish.stages.predict import Predictor
from tundish.stages.predict_columns import Learnt, learnt_in

SEEDS = "seeds"
TRAINING = ("epochs", "batch", "lr", "warmup", "weight_decay", "clip", "dropout", "temperature", "dtype")
Tell = Callable[[str], None]


def compress(
    task: TuneTask,
    means: Means,
    steps: Sequence[str],
    *,
    tell: Tell = lambda line: None,
    rounds: int = ROUNDS,
    about: Mapping[str, Any] | None = None,
    trained: frozenset[str] = frozenset(),
) -> dict[str, Any]:
    """What `compressed.json` says in the end. `task.model`: the folder of the model; `tell` is told what begins;
    `about`: what else is to be said in it; `trained`: ids of texts that the model has learnt."""
    paths = referred(expanded(steps))
    room = replace(room_of(task, means), trained=trained)
    _refuse(room, paths)
    keys = _keys(room, paths)
    uri = store.join(task.out, SEALED)
    told = store.read_json(uri) or {}
    sealed = told.get("others", {}) | told.get("steps", {})
    records: dict[str, Record] = {WHOLE: _whole(room, keys[""])}
    for path in paths:
        old = sealed.get(path, {})
        records[path] = old if old.get("key") == keys[path] else {"key": keys[path], "seeds": {}}
        for each in _made(room, path, records, tell, stood=any(one.rpartition("+")[0] == path for one in paths)):
            records[path] = each
            store.write_json(uri, {"model": task.model, "steps": sealed | records})
    tell("measuring")
    result = result_of(room, records) | dict(about or {})
    result["means"] = {path: means.deciding(path.rpartition("+")[2]) for path in paths}
    timed(room, result, rounds)
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
    model, read_as = bare(whole.model).to(device).eval(), _read_as(whole, learnt_in(task.out, task.kind))
    return Room(task, means, parts, device, replace(whole, model=model, learnt=read_as))


def _read_as(whole: Predictor, here: Learnt) -> Learnt:
    """What a compressed model learnt from: the columns it learns from `here`, before those of the model, whose texts
    or pairs they are. Refuses pairs of a model that learnt single texts, and the other way round."""
    pair = here.pair if whole.learnt.pair is None else whole.learnt.pair
    if here.pair not in (None, pair):
        one, other = ("pairs", "single texts") if here.pair else ("single texts", "pairs")
        raise ValueError(
            f"the files are of {one}, and the model learnt {other}; name the columns it learnt, as in --column "
            f"text=premise{'' if here.pair else ' --column second=hypothesis'}"
        )
    return Learnt({**whole.learnt.columns, **here.columns}, pair)


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
    require_teaching(room.whole, means, paths, room.task.length)


def _keys(room: Room, paths: Sequence[str]) -> dict[str, str]:
    """What decides each step, by its path; of the model itself its bytes, its temperature and what others fit on."""
    task, means = room.task, room.means
    training = {name: getattr(task, name) for name in TRAINING} | {"kind": task.kind}
    data = {name: store.digest(uri) for name, uri in task.parts.items()}
    data |= {f"truth of {name}": digest_of(each) for name, each in task.truth.items()}
    folders = {
        name: _digest(folder) if folder else ""
        for name, folder in (("teacher", means.teacher), ("student", means.student))
    }
    heat = {"own": room.whole.heat, "fits": _fits(room).tolist()}
    keys = {"": digest_of({"model": _digest(task.model), "data": data, "heat": heat})}
    for path in paths:
        before, _, step = path.rpartition("+")
        keys[path] = key_of(keys[before], step, means, training, folders)
    return keys


def _digest(folder: str) -> str:
    names = [name for name in store.listing(folder) if name == "config.json" or name.endswith(".safetensors")]
    return digest_of({name: store.digest(store.join(folder, name)) for name in names})


def _fits(room: Room) -> np.ndarray:
    """(n,) bool: the rows of dev that a temperature is fitted on."""
    return unlearnt(room.parts["dev"], room.trained) if "dev" in room.parts else np.zeros(0, bool)


def _whole(room: Room, key: str) -> Record:
    own = reader(room.task.model, device=str(room.device))
    record = {"key": key, "told": "as it was tuned", "folder": room.task.model, "bytes": size_of(room.task.model)}
    return record | _sizes(own.model) | {"seeds": {"": _scored(room, room.whole.model, key, "")[0]}}


def _sizes(model: Tuned) -> Record:
    count, none = parameters_of(model)
    return {"parameters": count, "zeros": none}


def _scored(room: Room, model: nn.Module, key: str, seed: str) -> tuple[Record, float]:
    """Scores of one model, what they are counted from laid beside; and a temperature, fitted on what of dev no weight
    has learnt."""
    device = next((each.device for each in model.parameters()), torch.device("cpu"))
    said = said_of(room, model, device)
    keep(room, key, seed, {part: said[part][1] for part in tested(room.parts)})
    heat = heat_of(room.parts["dev"], said["dev"][1], _fits(room)) if "dev" in said else 1.0
    return {"scores": {name: one for name, (one, _) in said.items()}}, heat


def _made(room: Room, path: str, records: Mapping[str, Record], tell: Tell, *, stood: bool) -> Iterator[Record]:
    """The record of a step, given whenever more of it is there. `stood`: another step begins from it, so that the
    models of all its seeds are to lie there."""
    record, main = records[path], store.join(room.task.out, path)
    if not lies(main, record["key"]) or "kept" not in record:
        record = record | {"kept": None}
    for seed in map(str, room.task.seeds) if learns(path) else [""]:
        if _there(room, path, seed, record, stood):
            continue
        tell(f"{path}, seed {seed}" if seed else path)
        made = _step(room, path, seed, records)
        one, heat = (
            _told(room, made, record["key"], seed) if isinstance(made, Made) else ({"scores": {}, "failed": made}, 1.0)
        )
        record = record | {"seeds": record["seeds"] | {seed: one}}
        if not one.get("failed"):
            assert isinstance(made, Made)
            first = record["kept"] is None
            folder = main if first else _folder(room, path, seed, record)
            if first or stood:
                own = heat if learns(path) else room.whole.heat  # what did not learn is as sure as it was
                write(folder, made.model, _kept(room, record["key"], own), graph=made.graph)
            if first:
                record |= {"kept": seed, "told": made.told, "folder": path, "bytes": size_of(main)}
                record |= _sizes(made.model)
        yield record
    if record["kept"] is None:
        failed = next(one["failed"] for one in record["seeds"].values() if one.get("failed"))
        raise ValueError(
            f"{path} came to no number with every seed ({failed}); take a smaller rate (--lr), or less away"
        )
    yield record


def _there(room: Room, path: str, seed: str, record: Record, stood: bool) -> bool:
    """Whether a seed has its scores, and a model where one is to lie."""
    one = record["seeds"].get(seed)
    if one is None or one.get("failed"):
        return one is not None
    if record["kept"] is None:
        return False
    return not stood or lies(_folder(room, path, seed, record), record["key"])


def _folder(room: Room, path: str, seed: str, record: Record) -> str:
    """Where the model of a seed lies."""
    names = (path,) if seed == record["kept"] else (SEEDS, seed, path)
    return store.join(room.task.out, *names)


def _model(room: Room, path: str, seed: str, records: Mapping[str, Record]) -> Tuned:
    """What a step left with a seed; without a path the model itself."""
    if not path:
        return room.whole.model
    found = reader(_folder(room, path, seed, records[path]), device=str(room.device)).model
    return found  # type: ignore[no-any-return]


def _step(room: Room, path: str, seed: str, records: Mapping[str, Record]) -> Made | str:
    """What a step makes with a seed; or why it cannot."""
    before, _, step = path.rpartition("+")
    if before and records[before]["seeds"][seed].get("failed"):
        return f"{before} came to no number with this seed"
    if before.endswith("onnx"):
        graph = store.read(store.join(_folder(room, before, seed, records[before]), GRAPH))
        like = _model(room, before.rpartition("+")[0], seed, records)
        return Made(like, "the graph's products in bytes", graph=in_bytes(graph))
    given = _model(room, before, seed, records)
    if step != "onnx":
        return STEPS[step](room, given, int(seed or room.task.seeds[0]))
    graph = exported(given.cpu().eval())
    given.to(room.device)
    return Made(given, "rows filled up, for onnxruntime", graph=graph)


def _told(room: Room, made: Made, key: str, seed: str) -> tuple[Record, float]:
    """The record of a seed, and the temperature of its model."""
    outcome = made.outcome
    if outcome and outcome.failed:
        one, heat = {"scores": {}}, 1.0
    else:
        model = made.model if made.graph is None else Session(made.graph, made.model.head)
        one, heat = _scored(room, model, key, seed)
    if outcome is None:
        return one, heat
    told = {"before": made.before, "losses": outcome.losses, "rate": outcome.rate, "failed": outcome.failed}
    return one | told, heat


def _kept(room: Room, key: str, heat: float) -> Kept:
    """With the length that texts were cut at here."""
    it = replace(room.whole, task=replace(room.whole.task, length=room.task.length))
    return Kept(it, vocabulary_in(room.task.model), key, heat)
