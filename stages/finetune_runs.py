"""All runs of a fine-tuning, shared out among ranks and sealed one by one, and what they come to.

    out/runs/KEY-NAME.json, .npz     of every run: its losses and scores; what it said of every part
    out/result.json                  scores with intervals over seeds, beside the majority, fresh weights and failures
    out/compute.json                 what they took (stages/finetune_compute)
    out/model.safetensors, config.json      of the first seed whose run did not fail, named there in `run` and in the
                                            result in `kept`: no run is chosen by its score; none where all failed

Promises: the same result for any number of ranks of one machine kind; a run that is sealed is not made again while what
decides it is the same; every seed's score is told. Costs one training a run. Refuses parts of other vocabularies or
classes than train's.
"""

import io
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from functools import partial
from typing import Any

import numpy as np
import torch
from safetensors.torch import save as bytes_of
from torch import Tensor

from tundish.cluster import store
from tundish.cluster.metered import Peak, cpu_seconds
from tundish.operators.model.heads import Tuned
from tundish.operators.model.shape import Shape
from tundish.stages.finetune_compute import clocked, spent
from tundish.stages.finetune_kinds import scored
from tundish.stages.finetune_one import Outcome, told_of, trained
from tundish.stages.finetune_result import result_of
from tundish.stages.finetune_rows import Rows, rows_of
from tundish.stages.finetune_task import Run, TuneTask
from tundish.stages.hub import weights_of
from tundish.stages.ranks import held_by, joined
from tundish.stages.tuned import trunk_told

Tell = Callable[[dict[str, Any]], None]


def tune(task: TuneTask, rank: int, world: int, tell: Tell) -> None:
    """Make the runs that are missing, then the result. `tell` is called by all ranks together."""
    with joined(rank, world) as ranks:
        shape, weights = weights_of(task.model)
        parts = read(task, shape.length)
        for first in range(0, len(task.runs), world):
            line: dict[str, Any] = {"step": min(first + world, len(task.runs)), "steps": len(task.runs)}
            make = partial(_made, task, shape=shape, weights=weights, parts=parts, device=ranks.device)
            run, model = (task.runs[first + rank] if first + rank < len(task.runs) else None), None
            if run is not None:
                model = make(run) if sealed(task, run) is None else None
                line["loss"] = (sealed(task, run) or {"losses": [0.0]})["losses"][-1]
            tell(line | held_by(ranks.device))
            ranks.wait()  # whether a seed before it failed is sealed by now, whoever made it
            if run is not None and run == chosen(task) and not kept(task, run):
                _keep(task, run, model or make(run), parts["train"])
        ranks.wait()
        if rank == 0:
            stays = chosen(task)
            if stays is None:
                _clear(task)
            told = result_of(task, parts, lambda run: found(task, run)) | {"kept": stays and stays.name}
            store.write_json(store.join(task.out, "result.json"), told)
            spent(task, shape, parts["train"], lambda run: sealed(task, run), ranks.world)
        ranks.wait()


def _made(
    task: TuneTask,
    run: Run,
    *,
    shape: Shape,
    weights: Mapping[str, Tensor],
    parts: Mapping[str, Rows],
    device: torch.device,
) -> Tuned:
    """The model of a run, whose clock is kept and which is sealed."""
    began, cpu = time.perf_counter(), cpu_seconds()
    with Peak() as peak:
        model, outcome = trained(task, run, shape, weights, parts, device, lambda *_: None)
    clocked(task, run, time.perf_counter() - began, device, cpu=cpu_seconds() - cpu, peak=peak.bytes)
    seal(task, run, outcome, parts)
    return model


def chosen(task: TuneTask) -> Run | None:
    """The run whose weights stay: from pretrained weights on all examples, the first by the order of the seeds that did
    not fail. None where all failed, or where it is not known yet."""
    for run in (run for run in task.runs if run.pretrained and not run.size):
        told = sealed(task, run)
        if told is None or not told["failed"]:
            return run if told else None
    return None


def read(task: TuneTask, length: int) -> dict[str, Rows]:
    """The parts, train first; all of one kind and with the same classes."""
    parts = {name: rows_of(uri, task.specials, length) for name, uri in task.parts.items()}
    train = parts["train"]
    for name, rows in parts.items():
        if rows.kind != task.kind or rows.names != train.names:
            given = f"{rows.kind} with {', '.join(rows.names[:5]) or 'no classes'}"
            raise ValueError(
                f"{name} is of {given}, and train of {task.kind} with {', '.join(train.names[:5]) or 'no classes'}; "
                "read both with the same names"
            )
    return parts


def _place(task: TuneTask, run: Run, ending: str) -> str:
    return store.join(task.out, "runs", f"{task.of(run).key}-{run.name}.{ending}")


def sealed(task: TuneTask, run: Run) -> dict[str, Any] | None:
    """What is told of a run that was made, if it was."""
    return store.read_json(_place(task, run, "json"))  # type: ignore[no-any-return]


def found(task: TuneTask, run: Run) -> tuple[dict[str, Any], dict[str, dict[str, np.ndarray]]]:
    """A sealed run: what is told of it, and what it said of every part."""
    told = sealed(task, run)
    assert told is not None, f"{run.name} is made before it is asked for"
    with np.load(io.BytesIO(store.read(_place(task, run, "npz"))), allow_pickle=False) as held:
        said: dict[str, dict[str, np.ndarray]] = {}
        for name in held.files:
            part, _, what = name.rpartition("/")
            said.setdefault(part, {})[what] = held[name]
    return told, said


def kept(task: TuneTask, run: Run) -> bool:
    """Whether the weights that lie there are of this run, and not of another task that was run in between."""
    told = store.read_json(store.join(task.out, "config.json")) or {}
    mine = (told.get("key"), told.get("run")) == (task.key, run.name)
    return mine and bool(store.exists(store.join(task.out, "model.safetensors")))


def _clear(task: TuneTask) -> None:
    """Weights of an earlier task go, also where the runs of this one fail and leave none."""
    for name in ("config.json", "model.safetensors"):
        store.remove(store.join(task.out, name))


def seal(task: TuneTask, run: Run, outcome: Outcome, parts: Mapping[str, Rows]) -> None:
    """Its numbers first, and then the record that says it is whole."""
    body = io.BytesIO()
    arrays = {f"{part}/{what}": each for part, said in outcome.said.items() for what, each in said.items()}
    np.savez(body, **arrays)  # type: ignore[arg-type]
    scores = {
        part: scored(task, parts[part], said, task.truth.get(part))
        for part, said in outcome.said.items()
        if not outcome.failed
    }
    store.write(_place(task, run, "npz"), body.getvalue())
    store.write_json(_place(task, run, "json"), {"run": run._asdict(), **told_of(outcome), "scores": scores})


def _keep(task: TuneTask, run: Run, model: Tuned, train: Rows) -> None:
    _clear(task)
    told = {
        "kind": "tuned",
        "key": task.key,
        "run": run.name,
        "task": task.kind,
        "head": model.head,
        "pooling": model.pooling,
        "form": asdict(model.form),
        "dropout": model.dropout,
        "classes": train.classes,
        "names": list(train.names),
        "scheme": task.scheme,
        "length": task.length,
        "shape": asdict(model.encoder.shape),
        "specials": dict(task.specials),
        "trunk": trunk_told(task.model),
    }
    weights = {name: weight.detach().cpu().contiguous() for name, weight in model.state_dict().items()}
    store.write(store.join(task.out, "model.safetensors"), bytes_of(weights))
    store.write_json(store.join(task.out, "config.json"), told)
