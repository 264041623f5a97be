"""The pretraining loop: masked-language modelling over token shards, the same alone, under torchrun and in Ray Train.

    out/log.jsonl          one line per step: loss, learning rate, tokens, speed
    out/ledger.jsonl       one line per step: its rows by number and digest, how many places were hidden, which
    out/plan.json          the plan: from it and the shards every step's rows follow
    out/checkpoints/       cluster/checkpoint
    out/model.safetensors, config.json, result.json      at the end

Promises: the ledger is a function of the task, whatever the number of ranks and however often the run was killed;
the loss is the mean over all hidden tokens of the global batch, so it does not depend on how the batch was shared.
Only rank 0 writes. Costs, beside the model, one gradient buffer and two optimiser buffers of its size; shards are
memory-mapped. Refuses a folder that holds the state of another task, and a loss that is no number.
"""

import contextlib
import hashlib
import json
import math
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save as bytes_of
from torch import Tensor

from tundish.cluster import checkpoint, store
from tundish.operators.model import scores
from tundish.operators.model.descent import StableAdamW, warm_stable_decay
from tundish.operators.model.encoder import Encoder, initialise, parameters_of, preset
from tundish.operators.model.objective import Part, gradients_of, loss_of, part_of
from tundish.operators.model.plan import Plan
from tundish.operators.model.rows import Layout
from tundish.operators.model.stream import Stream
from tundish.stages.pretrain_begin import beginning
from tundish.stages.pretrain_feed import ASIDE, Feed, PretrainTask, held_out, parts
from tundish.stages.ranks import Ranks, joined
from tundish.stages.token_stream import mapped

TELL_EVERY = 10  # steps
DTYPES = {"float32": torch.float32, "bfloat16": torch.float32, "float64": torch.float64}  # of the weights

Tell = Callable[[dict[str, Any]], None]


def pretrain(task: PretrainTask, rank: int, world: int, tell: Tell) -> None:
    """Train to the end of the task's tokens, from the last checkpoint in `task.out` if there is one."""
    with joined(rank, world) as ranks, contextlib.ExitStack() as leaving:
        layout = Layout(task.row or task.length, task.length)
        feed, held = Feed(task, layout, ranks), held_out(task, layout)
        leaving.callback(feed.close)
        steps = feed.steps
        model = _model(task, ranks.device)
        optimizer = StableAdamW(model.named_parameters(), decay=task.weight_decay)
        gradients = gradients_of(model)
        start, tokens = _resumed(task, feed, ranks, model, optimizer)
        log, ledger = (Lines(Path(task.out) / name, start, rank == 0) for name in ("log.jsonl", "ledger.jsonl"))

        began = time.perf_counter()
        for step, mine in enumerate(feed.batches(start), start):
            evaluate = held and step % (task.evaluate_every or steps) == 0
            holdout = {"holdout": _held_out(task, held, model, ranks)} if evaluate else {}

            # the batch: its rows and hidden places are functions of the plan and the step
            masks = sum(batch.digest for batch in mine) % 2**64
            here = [sum(len(batch.labels) for batch in mine), sum(int(batch.sizes.sum()) for batch in mine)]
            summed = torch.tensor([masks - (masks >> 63 << 64), *here], device=ranks.device)
            masks, hidden, fresh = ranks.total(summed).tolist()

            # loss and gradient: each rank's sum over the global count, then the sum over ranks
            gradients.zero_()
            for part in (part_of(batch, ranks.device) for batch in mine):
                loss = _loss(task, model, part)[0] / max(1, hidden)
                loss.backward()
                gradients[-1] += loss.detach()
            ranks.total(gradients)
            loss = float(gradients[-1])
            if not math.isfinite(loss):
                raise ValueError(f"the loss became {loss} in step {step}; lower the learning rate {task.lr}")
            lr = task.lr * warm_stable_decay(step, steps=steps, warm=task.warmup, decay=task.decay)
            optimizer.step(lr)

            # what happened
            tokens, seconds, began = tokens + fresh, time.perf_counter() - began, time.perf_counter()
            line = {"step": step, "steps": steps, "loss": loss, "lr": lr, "tokens": tokens, **holdout}
            line |= {"tokens_per_second": round(fresh / seconds, 1), "seconds": round(seconds, 4)}
            log(line)
            ledger({"step": step, **feed.booked(step), "hidden": hidden, "masks": f"{masks % 2**64:016x}"})
            if (step + 1) % task.checkpoint_every == 0 or step + 1 == steps:
                log.settle()
                ledger.settle()
                _save(task, feed.plan, step + 1, tokens, ranks, model, optimizer)
            if (step + 1) % TELL_EVERY == 0 or step + 1 == steps:
                tell(line)

        last = _held_out(task, held, model, ranks) if held else None
        if rank == 0:
            _finish(task, model, feed.stream, held, last)
        ranks.wait()


def _model(task: PretrainTask, device: torch.device) -> Encoder:
    """Drawn in float32 and then widened, so that every precision starts from the same weights."""
    if task.dtype not in DTYPES:
        raise ValueError(f"training in {task.dtype!r} is not known; choose one of {', '.join(DTYPES)}")
    shape = task.model
    if isinstance(shape, str):
        shape = preset(shape, vocabulary=task.vocabulary, length=task.length)
    with torch.device("meta"):
        model = Encoder(shape)
    initialise(model, seed=task.seed, layers=shape.layers)
    return model.to(device, DTYPES[task.dtype])


def _loss(task: PretrainTask, model: Encoder, part: Part) -> tuple[Tensor, int]:
    with torch.autocast(part.inputs.device.type, torch.bfloat16, enabled=task.dtype == "bfloat16"):
        return loss_of(model, part)


@torch.no_grad()
def _held_out(task: PretrainTask, held: Stream, model: Encoder, ranks: "Ranks") -> float:
    """Mean loss over hidden tokens of held-out rows: always the same rows and places."""
    places = held.plan.places(np.arange(min(held.plan.sources[0].size, task.holdout_rows)))
    total = torch.zeros(2, dtype=torch.float64, device=ranks.device)
    for at in range(ranks.rank * task.batch, len(places), ranks.world * task.batch):
        for batch in parts(held, places.slice(at, at + task.batch), task.at_once):
            found = _loss(task, model, part_of(batch, ranks.device))
            total += torch.tensor([float(each) for each in found], device=ranks.device)
    loss, count = ranks.total(total).tolist()
    return loss / max(1.0, count)


def _key(task: PretrainTask, plan: Plan, step: int) -> str:
    """What the losses before a step depend on: the task without places and cadences, and the plan up to there."""
    plain = {name: value for name, value in asdict(task).items() if name not in ASIDE}
    return hashlib.sha256(json.dumps([plain, plan.until(step).plain()], sort_keys=True).encode()).hexdigest()


def _save(
    task: PretrainTask, plan: Plan, step: int, tokens: int, ranks: "Ranks", model: Encoder, optimizer: StableAdamW
) -> None:
    if ranks.rank == 0:
        key = _key(task, plan, step)
        state = {"model": model.state_dict(), "optimizer": optimizer.state(), "key": key, "tokens": tokens}
        state["plan"] = json.dumps(plan.plain())
        checkpoint.save(state, store.join(task.out, "checkpoints"), step)


def _resumed(task: PretrainTask, feed: Feed, ranks: Ranks, model: Encoder, optimizer: StableAdamW) -> tuple[int, int]:
    """Step and tokens to go on from. Rank 0 reads; the others take its plan and weights over the wire."""
    step = tokens = 0
    state: dict[str, Any] = {}
    if ranks.rank == 0:
        step, state = beginning(task.out, lambda step, state: _is_own(task, feed, step, state))
    if task.follow:
        feed.resume(state.get("plan", ""))
    if state:
        model.load_state_dict(state["model"])
        optimizer.restore(state["optimizer"], step)
        tokens = state["tokens"]
    for tensor in [*model.state_dict().values(), *optimizer.state().values()]:
        ranks.first(tensor)
    step, tokens = ranks.first(torch.tensor([step, tokens], device=ranks.device)).tolist()
    optimizer.steps = step
    return step, tokens


def _is_own(task: PretrainTask, feed: Feed, step: int, state: Mapping[str, Any]) -> bool:
    """Whether a state is one this training comes through: of the same task, and of the plan up to there."""
    plan = Plan.of(json.loads(state["plan"])) if task.follow else feed.plan
    return bool(state["key"] == _key(task, plan, step))


class Lines:
    """JSON lines of the steps before `start`, to which this run adds; only a `writer` touches the file."""

    def __init__(self, path: Path, start: int, writer: bool) -> None:
        if not writer:
            self.stream = None
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        self.stream = open(path, "ab+")  # noqa: SIM115 - lives as long as the run
        self.stream.seek(0)
        kept = end = 0
        for line in self.stream:
            if not line.endswith(b"\n") or kept == start:
                break
            kept, end = kept + 1, end + len(line)
        if kept < start:
            raise ValueError(f"{path} ends before step {start} of its checkpoint; remove {path.parent} and train anew")
        self.stream.truncate(end)

    def __call__(self, line: Mapping[str, Any]) -> None:
        if self.stream:
            self.stream.write(json.dumps(line).encode() + b"\n")
            self.stream.flush()

    def settle(self) -> None:
        """On disk, before a checkpoint says that these steps were taken."""
        if self.stream:
            os.fsync(self.stream.fileno())


def _finish(task: PretrainTask, model: Encoder, corpus: Stream, held: Stream | None, holdout: float | None) -> None:
    """The weights, the shape and the result, from the log: it covers the steps of every run that took part."""
    out = task.out
    with open(Path(out) / "log.jsonl", encoding="utf-8") as stream:
        log = [json.loads(line) for line in stream]
    ending = [line["loss"] for line in log[-max(1, len(log) // 20) :]]
    seconds = sum(line["seconds"] for line in log)
    counts = _counts(task, _shards(task, corpus))
    rows = sum(source.size for source in corpus.plan.sources)
    result = {
        "first_loss": log[0]["loss"],
        "last_loss": sum(ending) / len(ending),
        "holdout_first": log[0].get("holdout"),
        "holdout_last": holdout,
        "holdout_rows": min(held.plan.sources[0].size, task.holdout_rows) if held else 0,
        "unigram_entropy": scores.unigram_entropy(counts),
        "holdout_unigram": scores.unigram_loss(counts, _counts(task, map(mapped, task.holdout))) if held else None,
        "steps": len(log),
        "tokens": log[-1]["tokens"],
        "rows": rows,
        "padding": 1 - sum(one.places for one in corpus.open.files) / (rows * corpus.layout.row),
        "steps_per_second": len(log) / seconds,
        "tokens_per_second": log[-1]["tokens"] / seconds,
        "parameters": parameters_of(model),
    }
    store.write(store.join(out, "model.safetensors"), bytes_of({k: v.cpu() for k, v in model.state_dict().items()}))
    shape = {"kind": "encoder", "shape": asdict(model.shape), "specials": dict(task.specials)}
    store.write_json(store.join(out, "config.json"), shape)
    store.write_json(store.join(out, "result.json"), result)


def _shards(task: PretrainTask, corpus: Stream) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Tokens and offsets of the shards; where they come from far, of a window of each source, which is a sample."""
    for source, files in enumerate(corpus.open.files):
        count = len(files.shards)
        for number in range(min(count, task.window or count) if corpus.open.cache else count):
            found = corpus.open(source, number, 0)
            yield found.tokens, found.offsets


def _counts(task: PretrainTask, shards: Iterable[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
    """How often each ordinary token occurs, (V,); one sequential reading of the shards."""
    counts = np.zeros(task.vocabulary, np.int64)
    for flat, offsets in shards:
        for at in range(int(offsets[0]), int(offsets[-1]), 1 << 24):
            some = flat[at : min(at + (1 << 24), int(offsets[-1]))]
            counts += np.bincount(
                some[some < task.vocabulary], minlength=task.vocabulary
            )  # others were refused or unseen
    counts[sorted(task.specials.values())] = 0
    return counts
