"""Online code length: in how few bits the labels of train can be sent, by a model that learns from those sent already.

    out/code/KEY-NAME-of-N.json   of each block: nats of the labels behind the first N rows, by a model trained on these
    out/code.json                 bits and compression from pretrained and fresh weights, with intervals over seeds

The first block is sent uniformly, each later one by the model of those before it; a code that is short learnt much from
few examples, whatever metric (Blier and Ollivier 2018, Voita and Titov 2020; Whitney et al. 2020 on why one size is no
answer). Blocks end at 0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.25, 12.5, 25, 50 and 100 % of train.

Rows are sent in the order of a hash of their texts (`sent`), which says nothing of a label: in train's own, of which
every prefix has the classes in their shares, the classes sent so far would tell which is due, and labels would be
counted as learnt that were counted off.

Promises: a training of a block is that of the curve on so many rows, but for which rows these are, and that it is asked
what comes behind them; nothing that other runs seal is changed. A model whose loss was no number sends its block
uniformly. Costs a training a block, in sum about one on all rows, for each seed and start. Refuses kinds without
classes.
"""

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from tundish.cluster import store
from tundish.cluster.shards import digest_of
from tundish.operators.model import certainty
from tundish.operators.model.shape import Shape
from tundish.operators.text.digest import payload_digest
from tundish.stages.finetune_compute import clocked
from tundish.stages.finetune_kinds import true_tags
from tundish.stages.finetune_means import gained, over
from tundish.stages.finetune_one import trained
from tundish.stages.finetune_rows import Rows, flattened
from tundish.stages.finetune_runs import Tell, read
from tundish.stages.finetune_task import Run, TuneTask
from tundish.stages.hub import weights_of
from tundish.stages.ranks import joined

ORDER = "of a hash of the text"  # of the rows as they are sent: it decides a block
SHARES = (0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.0625, 0.125, 0.25, 0.5, 1.0)
KINDS = ("classify", "multilabel", "tag")
LEAST = 4  # rows of the first block, and no fewer than there are classes
Told = dict[str, Any]


class Labels(NamedTuple):
    """`each` (n,) int64: labels of every row; of so many `classes` each."""

    each: np.ndarray
    classes: int


def labels_of(rows: Rows) -> Labels:
    """Of a multilabel row a yes or no for each name, of a sentence a tag for each word that is predicted."""
    if rows.kind == "classify":
        return Labels((np.asarray(rows.targets) >= 0).astype(np.int64), rows.classes)
    if rows.kind == "multilabel":
        return Labels(np.full(len(rows), rows.classes, np.int64), 2)
    if rows.kind == "tag":
        return Labels(np.diff(flattened(rows.table["firsts"])[1]), rows.classes)
    raise ValueError(f"{rows.kind} has no classes to send; a code length is told of {', '.join(KINDS)}")


def sent(rows: Rows) -> Rows:
    """The rows in the order in which they are sent: by a hash of their texts, which is none by which parts were split;
    those of one text by their places, and the windows of a row as they lie."""
    texts, files, numbers = (rows.table[name].to_pylist() for name in ("id", "file", "row"))
    marks = [payload_digest(b"code\0" + text.encode()) for text in texts]
    order = sorted(range(len(rows)), key=list(zip(marks, files, numbers, strict=True)).__getitem__)
    return replace(rows, table=rows.table.take(order).combine_chunks())


def sizes_of(rows: Rows) -> list[int]:
    """Rows at which blocks end, rising, the last all of them."""
    least = max(LEAST, rows.classes)
    ends = sorted({round(share * len(rows)) for share in SHARES})
    return [end for end in ends if least <= end < len(rows)] + [len(rows)]


def nats(rows: Rows, logits: np.ndarray) -> float:
    """Sum of -ln p of the labels."""
    found = np.asarray(logits, np.float64)
    if rows.kind == "multilabel":
        return float(np.logaddexp(0, np.where(np.asarray(rows.targets) > 0, -found, found)).sum())
    truth = np.asarray(rows.targets if rows.kind == "classify" else true_tags(rows))
    top = found.max(1, keepdims=True)
    whole, known = np.log(np.exp(found - top).sum(1)) + top[:, 0], truth >= 0
    return float((whole - found[np.arange(len(truth)), truth])[known].sum())


def between(rows: Rows, first: int, last: int) -> Rows:
    """The rows from one number to another."""
    return replace(rows, table=rows.table.slice(first, last - first).combine_chunks())


def runs_of(task: TuneTask, sizes: Sequence[int]) -> list[tuple[Run, int]]:
    """(a run, the row at which the block that it sends ends), the longest first, so that ranks end together."""
    starts = (True, False) if task.scratch else (True,)
    blocks = list(pairwise(sizes))[::-1]
    return [(Run(start, seed, size), end) for size, end in blocks for start in starts for seed in task.seeds]


def code_length(task: TuneTask, rank: int, world: int, tell: Tell) -> None:
    """Make the runs that are missing, then the result. `tell` is called by all ranks together."""
    task = alone(task)
    with joined(rank, world) as ranks:
        shape, weights = weights_of(task.model)
        parts = read(task, shape.length)
        parts["train"] = sent(parts["train"])
        runs = runs_of(task, sizes_of(parts["train"]))
        for first in range(0, len(runs), world):
            if first + rank < len(runs):
                run, end = runs[first + rank]
                if sealed(task, run) is None:
                    made(task, run, end, shape, weights, parts, ranks.device)
            tell({"step": min(first + world, len(runs)), "steps": len(runs)})
        ranks.wait()
        if rank == 0:
            concluded(task, parts["train"])
        ranks.wait()


def alone(task: TuneTask) -> TuneTask:
    """Train, and dev where patience asks for it: what decides a code."""
    names = ("train", "dev") if task.aids.patience else ("train",)
    kept = {name: uri for name, uri in task.parts.items() if name in names}
    digests = {name: each for name, each in task.digests.items() if name in kept or name not in task.parts}
    return replace(task, parts=kept, digests=digests, truth={})


def _place(task: TuneTask, run: Run) -> str:
    key = digest_of({"run": task.of(run).key, "order": ORDER})[:12]
    return store.join(task.out, "code", f"{key}-{run.name}.json")


def sealed(task: TuneTask, run: Run) -> Told | None:
    return store.read_json(_place(task, run))  # type: ignore[no-any-return]


def made(
    task: TuneTask,
    run: Run,
    end: int,
    shape: Shape,
    weights: Mapping[str, Tensor],
    parts: Mapping[str, Rows],
    device: torch.device,
) -> None:
    """Train on the first rows, and seal what the labels behind them cost."""
    block = between(parts["train"], run.size, end)
    labels = labels_of(block)
    began = time.perf_counter()
    _, outcome = trained(task, run, shape, weights, {**parts, "next": block}, device, lambda *_: None)
    clocked(task, run, time.perf_counter() - began, device)
    cost = math.nan if outcome.failed else nats(block, outcome.said["next"]["logits"])
    sound = math.isfinite(cost)
    count = int(labels.each.sum())
    told = {
        "run": run._asdict(),
        "end": end,
        "labels": count,
        "nats": cost if sound else count * math.log(labels.classes),
        "epochs": len(outcome.losses),
        "failed": outcome.failed or ("" if sound else "what it said was no number"),
    }
    store.write_json(_place(task, run), told)


def made_for(task: TuneTask, sizes: Sequence[int]) -> list[tuple[TuneTask, Run, int]]:
    """Of each block what was trained to send it, and through how many epochs."""
    task, found = alone(task), []
    for run, _ in runs_of(task, sizes):
        told = _sealed(task, run)
        found.append((task, run, int(told.get("epochs", task.epochs))))
    return found


def concluded(task: TuneTask, train: Rows) -> Told:
    """Write what the blocks come to."""
    sizes, labels = sizes_of(train), labels_of(train)
    told: Told = {"examples": len(train.begins), "classes": labels.classes, "sizes": sizes}
    told |= {"windows": len(train)} if len(train) > len(train.begins) else {}  # which sizes count
    counts = np.concatenate([[0], np.cumsum(labels.each)])[sizes].tolist()
    for name, pretrained in (("pretrained", True), ("fresh", False))[: 1 + task.scratch]:
        each = [[_sealed(task, Run(pretrained, seed, size)) for size in sizes[:-1]] for seed in task.seeds]
        codes = [certainty.code_length(counts, [one["nats"] for one in blocks], labels.classes) for blocks in each]
        told["uniform"] = codes[0].uniform
        told[name] = {
            "bits": over("bits", [code.bits for code in codes]),
            "compression": over("compression", [code.compression for code in codes]),
            "bits_a_label": [_point(size, [blocks[at] for blocks in each]) for at, size in enumerate(sizes[:-1])],
            "failed": sum(bool(one["failed"]) for blocks in each for one in blocks),
        }
    if task.scratch:
        pairs = zip(told["fresh"]["bits"]["seeds"], told["pretrained"]["bits"]["seeds"], strict=True)
        told["saved"] = gained("bits", [fresh - pretrained for fresh, pretrained in pairs])
    store.write_json(store.join(task.out, "code.json"), told)
    return told


def _sealed(task: TuneTask, run: Run) -> Told:
    told = sealed(task, run)
    assert told is not None, f"{run.name} is made before it is asked for"
    return told


def _point(size: int, blocks: Sequence[Told]) -> Told:
    """What a label costs behind so many rows."""
    return {"size": size} | over("bits", [one["nats"] / math.log(2) / max(1, one["labels"]) for one in blocks])
