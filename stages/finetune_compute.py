"""What a fine-tuning took: operations by a formula, seconds by the clock, on which device; and its model's pretraining.

    out/took/KEY-NAME.json     of a run that was made: seconds of training it and asking it, CPU seconds (`cpu`), the
                               most memory of its process in bytes (`peak`), the device
    out/compute.json           of every run its operations of training, with seconds and device where a clock ran; their
                               sums; how many ranks shared them (`workers`); and of the pretraining operations and
                               seconds, or what the card says of them. What was trained beside the runs says in `of`
                               what for: search, code_length, splits

Beside the result and no part of it: clocks differ, and a result is a function of its sealed runs.

Promises: operations are those of `operators/model/flops.tuning` over the rows that were learnt from, other tasks on the
trunk included; asking a model afterwards is not counted. With `unfreeze` they are as if all layers learnt, with
`balance` of rows of mean length; a trial of a search without other tasks on its trunk, and one that was stopped up to
the epoch it was last scored after; a block of a code as if it were learnt from the first rows of train as they lie. A
run that was sealed before its clock was kept has no seconds, and is told as such. Costs a pass over the lengths, and
one over the log of a pretraining where the model's folder has one.
"""

import io
import json
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
import torch

from tundish.cluster import store
from tundish.operators.model import flops
from tundish.operators.model.shape import Shape
from tundish.stages.finetune_kinds import readied
from tundish.stages.finetune_rows import Rows, flattened, rows_of, sizes_of
from tundish.stages.finetune_task import Run, TuneTask
from tundish.stages.hub import weights_of

FILE, FOLDER, LOG, CARD = "compute.json", "took", "log.jsonl", "README.md"
SAID = re.compile(r"^\| compute \| (.+) \|$", re.MULTILINE)  # of a card of ours
ANY = 1 << 40  # tokens that a row may have, where only lengths are asked for
Told = dict[str, Any]
Beside = tuple[TuneTask, Run, int]  # a run that is not one of the task's own, with its epochs


def device_name(device: torch.device) -> str:
    """As a reader knows it: the name of the GPU, or the CPU with its threads."""
    if device.type == "cuda":
        return str(torch.cuda.get_device_name(device))
    threads = torch.get_num_threads()
    return f"CPU, {threads} thread{'s' if threads > 1 else ''}"


def _place(task: TuneTask, run: Run) -> str:
    return store.join(task.out, FOLDER, f"{task.of(run).key}-{run.name}.json")


def clocked(task: TuneTask, run: Run, seconds: float, device: torch.device, **more: float) -> None:
    """Keep what a run took. `more`: what else is known, such as `cpu` and `peak`."""
    told = {name: round(value, 3) for name, value in more.items()}
    store.write_json(_place(task, run), {"seconds": round(seconds, 3), "device": device_name(device), **told})


# -- operations


def once(task: TuneTask, shape: Shape, rows: Rows) -> float:
    """Operations of learning once from these rows."""
    how: Any = {"frozen": bool(task.aids.lora), "twice": bool(task.aids.rdrop), "moved": bool(task.aids.sift)}
    share = 1 - task.aids.layerdrop
    if rows.kind == "embed":
        return share * flops.tuning(shape, np.concatenate(list(_texts(rows))), **how)
    if rows.kind != "write":
        return share * flops.tuning(shape, sizes_of(rows), **how)
    rows = readied(task, rows, shape)
    sources, targets = np.diff(rows.tokens[1]) + 1, np.diff(rows.wanted[1]) + 1
    lengths, answers = (sources, targets) if rows.stack == "pair" else (sources + targets, ())
    return share * flops.tuning(shape, lengths, float(targets.sum()), answers, **how)


def _texts(rows: Rows) -> Iterable[np.ndarray]:
    """Lengths of all texts of an embedding's rows: the asking ones, the wanted ones and the unwanted ones."""
    sizes = np.diff(rows.tokens[1])
    assert rows.second is not None, "what belongs together are two texts"
    first = np.where(rows.second < 0, sizes, rows.second)
    unwanted = rows.table["negative"]
    known = unwanted.is_valid().combine_chunks().to_numpy(zero_copy_only=False)
    yield from (first + 2, sizes - first + 2, np.diff(flattened(unwanted)[1])[known] + 2)


def operations(task: TuneTask, run: Run, told: Mapping[str, Any], shape: Shape, train: Rows) -> float:
    """Of a sealed run, in the epochs that it had, with the steps of other tasks on its trunk."""
    task, size = task.of(run), run.size or len(train)
    own = len(told["losses"]) * once(task, shape, _first(train, size))
    beside, others = told.get("beside") or {}, {each.name: each for each in getattr(task, "others", ())}
    for name, one in beside.items():
        rows = rows_of(others[name].train, task.specials, ANY)
        own += once(task, shape, rows) * one["steps"] * task.batch / max(1, len(rows))
    return own


def _first(rows: Rows, count: int) -> Rows:
    return rows if count >= len(rows) else Rows(rows.kind, rows.names, rows.table.slice(0, count), rows.specials)


# -- what is told


def spent(
    task: TuneTask, shape: Shape, train: Rows, sealed: Callable[[Run], Mapping[str, Any] | None], workers: int = 1
) -> Told:
    """What all runs took, written; see above. `workers`: ranks that shared them."""
    runs = []
    for run in task.runs:
        told = sealed(run)
        assert told is not None, f"{run.name} is made before it is told of"
        runs.append(_one(task, run, told, shape, train))
    return _told(task, runs, pretraining(task.model), workers)


def besides(task: TuneTask, named: Mapping[str, Iterable[Beside]], splits: Iterable[TuneTask] = ()) -> Told:
    """compute.json with what was trained beside the task's own runs: trials, blocks of a code, other splits. `named`:
    what they are for -> the runs; each bears that in `of`."""
    told = store.read_json(store.join(task.out, FILE))
    assert told, "the runs are told of before what stands beside them"
    runs = [each for each in told["runs"] if "of" not in each]
    if some := {name: list(each) for name, each in named.items()}:
        shape, _ = weights_of(task.model)
        train = rows_of(task.parts["train"], task.specials, shape.length)
        for name, made in some.items():
            runs += [
                _one(one, run, {"losses": [0.0] * epochs}, shape, train) | {"of": name} for one, run, epochs in made
            ]
    for other in splits:
        own = store.read_json(store.join(other.out, FILE)) or {"runs": []}
        runs += [each | {"of": "splits"} for each in own["runs"]]
    return _told(task, runs, told["pretraining"], told.get("workers", 1))


def _one(task: TuneTask, run: Run, told: Mapping[str, Any], shape: Shape, train: Rows) -> Told:
    clock = store.read_json(_place(task, run)) or {"seconds": None, "device": None}
    return {"name": run.name, "flops": operations(task, run, told, shape, train), **clock}


def _told(task: TuneTask, runs: list[Told], before: Told | None, workers: int) -> Told:
    """The sums, written."""
    known = [each for each in runs if each["seconds"] is not None]
    found = {
        "flops": sum(each["flops"] for each in runs),
        "seconds": round(sum(each["seconds"] for each in known), 3) if known else None,
        "untimed": len(runs) - len(known),
        "devices": sorted({each["device"] for each in known}),
        "workers": workers,
        "runs": runs,
        "pretraining": before,
    }
    store.write_json(store.join(task.out, FILE), found)
    return found


def pretraining(folder: str) -> Told | None:
    """What is known of the training that left a model: by its log, else by a card of ours in the folder."""
    log, card = store.join(folder, LOG), store.join(folder, CARD)
    if store.exists(log):
        seconds, useful = 0.0, 0.0
        with store.opened(log) as stream:
            for line in map(json.loads, io.TextIOWrapper(stream, "utf-8", newline="\n")):
                seconds += line.get("seconds", 0.0)
                useful += 1e12 * line.get("tflops", 0.0) * line.get("seconds", 0.0)
        return {"flops": useful, "seconds": round(seconds, 3)} if useful else None
    text = store.read(card).decode("utf-8", "replace") if store.exists(card) else ""
    said = SAID.search(text) if "\n- tundish" in text.partition("\n---\n")[0] else None
    return {"said": said[1]} if said else None
