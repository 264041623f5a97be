"""What a pretraining leaves at its end: the weights, the shape, and the result in numbers.

Promises: the result covers the steps of every run that took part, for it is read off the log. Costs one sequential
reading of the shards, to count tokens; of shards that lie elsewhere, of a window of each source.
"""

import json
import logging
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict
from typing import Any

import numpy as np
from safetensors.torch import save as bytes_of

from tundish.cluster import store
from tundish.operators.model import scores
from tundish.operators.model.objective import TABLES
from tundish.stages.hub import PIECES
from tundish.stages.pretrain_count import counted
from tundish.stages.pretrain_feed import Feed
from tundish.stages.pretrain_held import Held
from tundish.stages.pretrain_outcome import found, outcome, spoken
from tundish.stages.pretrain_state import State
from tundish.stages.pretrain_task import PretrainTask
from tundish.stages.ranks import Ranks
from tundish.stages.token_stream import mapped

LOG = logging.getLogger("tundish.pretrain")


BEFORE = ("bits_per_byte", "holdout_detected", "detected")  # of the held-out documents, told of the first step as well


def finish(
    task: PretrainTask,
    feed: Feed,
    held: Held,
    state: State,
    last: Mapping[str, Any],
    ranks: Ranks,
    ended: Mapping[str, float],
) -> None:
    """`ended`: seconds since the last step, by what they were spent on."""
    spread = state.spread
    weights = spread.whole()
    if ranks.rank:
        return
    out = task.out
    feed.write(state.levels)
    lines = [json.loads(line) for line in store.read(store.join(out, "log.jsonl")).splitlines()]
    ending = [line["loss"] for line in lines[-max(1, len(lines) // 20) :]]
    seconds = sum(line["seconds"] for line in lines)
    counts = _counts(task, _shards(task, feed))
    files = feed.stream(0).open.files  # type: ignore[attr-defined]
    rows = sum(source.size for source in feed.plan.sources)
    held_out = [mapped(shard) for one in task.holdout for shard in one.shards] if held else []
    result = {
        "first_loss": lines[0]["loss"],
        "last_loss": sum(ending) / len(ending),
        "holdout_first": lines[0].get("holdout"),
        "holdout_last": last.get("holdout"),
        "holdout_rows": held.rows,
        "holdout_objective": held.objective if held else None,
        **{name: value for name, value in last.items() if name != "holdout"},
        **{f"{name}_first": lines[0][name] for name in BEFORE if name in lines[0]},
        "unigram_entropy": scores.unigram_entropy(counts),
        "holdout_unigram": scores.unigram_loss(counts, _counts(task, held_out)) if held else None,
        "steps": len(lines),
        "tokens": lines[-1]["tokens"],
        "rows": rows,
        "padding": 1 - sum(one.places for one in files) / (rows * feed.legs[0].layout.row),
        "steps_per_second": len(lines) / seconds,
        "tokens_per_second": lines[-1]["tokens"] / seconds,
        "rewound": state.spikes,
        "parameters": sum(weight.numel() for weight in weights.values()),  # of all workers, where they have slices
    }
    speed = {"waited_share": sum(line["waited"] for line in lines) / seconds}
    for name in ("tflops", "mfu"):
        if each := [line[name] for line in lines if name in line]:
            speed[name] = float(np.median(each))
    result["speed"] = speed
    if task.dtype == "float16":
        result["skipped"] = sum("skipped" in line for line in lines)  # gradients were no numbers at their scale
    there = found(state, result["parameters"])
    result["forecast"] = outcome(task, counted(task, ranks.world), lines, ended, there, ranks.world)
    for sentence in spoken(result["forecast"]):
        LOG.info("%s", sentence)
    shape, generator = task.shapes
    kept = weights
    if generator:  # the discriminator is what is used; the generator lies beside it
        kept = part_of(weights, "discriminator.", task.sharing)
        beside = {name.removeprefix("generator."): w for name, w in weights.items() if name.startswith("generator.")}
        store.write(store.join(out, "generator.safetensors"), bytes_of(beside))
        kept |= {name: w for name, w in weights.items() if name.startswith("detector.")}
    store.write(store.join(out, "model.safetensors"), bytes_of(dict(kept)))
    told = {"kind": "detection" if generator else "model", "shape": asdict(shape), "specials": dict(task.specials)}
    told |= {PIECES: [task.vocabulary, shape.vocabulary]}
    told |= {"preset": name} if (name := task.preset or (task.model if isinstance(task.model, str) else "")) else {}
    if begun := dict(getattr(spread.model, "begun", {})):  # what it goes back to, and what was taken over
        told["begun"] = {"architecture": begun["architecture"], "settings": begun.pop("settings")}
        result["begun"] = begun
    store.write_json(store.join(out, "config.json"), told | ({"generator": asdict(generator)} if generator else {}))
    store.write_json(store.join(out, "result.json"), result)


def part_of(weights: Mapping[str, Any], prefix: str, sharing: str) -> dict[str, Any]:
    """One of two models' weights, with the tables that it used."""
    found = {name.removeprefix(prefix): weight for name, weight in weights.items() if name.startswith(prefix)}
    if sharing == "all":  # what both have is named once, as the generator's
        shared = [f"embedding.{name}" for name in TABLES]
        given = {name: weights.get(f"generator.{name}") for name in shared if name not in found}
        found |= {name: table.clone() for name, table in given.items() if table is not None}
    elif sharing == "gdes":
        found["embedding.weight"] = found["embedding.weight"] + weights["generator.embedding.weight"]
    return found


def _shards(task: PretrainTask, feed: Feed) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Tokens and offsets of the shards; where they come from far, of a window of each source, which is a sample."""
    opened: Any = feed.stream(0).open
    for source, files in enumerate(opened.files):
        count = len(files.shards)
        for number in range(min(count, task.window or count) if opened.cache else count):
            found = opened(source, number, 0)
            yield found.tokens, found.offsets


def _counts(task: PretrainTask, shards: Iterable[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
    """How often each ordinary token occurs, (V,)."""
    counts = np.zeros(task.vocabulary, np.int64)
    for flat, offsets in shards:
        for at in range(int(offsets[0]), int(offsets[-1]), 1 << 24):
            some = flat[at : min(at + (1 << 24), int(offsets[-1]))]
            # others were refused or unseen
            counts += np.bincount(some[some < task.vocabulary], minlength=task.vocabulary)
    counts[sorted(task.specials.values())] = 0
    return counts
