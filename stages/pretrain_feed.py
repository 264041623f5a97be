"""What a training is fed: its plan, which may grow while it goes on, and this rank's batches by it.

    plan.json     the plan as far as it is known: sources with digests, stretches with their first positions, holes

Promises: all ranks have one plan; a step's rows follow from it, so a plan that grew is replayed exactly. A corpus that
is still being written (`follow`, a list of generations) is looked for every `checkpoint_every` steps; what has come
joins at that step. Costs one batch made ahead. Refuses generations of another vocabulary, and to replay on shards
that are not the plan's.
"""

import json
import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from tundish.cluster import store
from tundish.operators.model.encoder import Shape
from tundish.operators.model.order import mixed
from tundish.operators.model.plan import Places, Plan, Stretch, onward, weights_of
from tundish.operators.model.rows import Layout
from tundish.operators.model.stream import Batch, Hiding, Stream, ahead
from tundish.stages.generations_list import arrived
from tundish.stages.ranks import Ranks
from tundish.stages.token_stream import Opened, TokenFiles, cache_of, files_of, future, mean_places

EVALUATION_SEED, EVALUATION_RATE = 0xE7A1, 0.15  # 15 %, so that runs at other training rates can be compared
PLAN = "plan.json"
ASIDE = {  # fields of a task on which its losses do not depend, but for what the plan says of them
    *("sources", "holdout", "out", "checkpoint_every", "evaluate_every", "at_once", "weights", "holes"),
    *("follow", "replay"),
}
PATIENCE = 5.0  # seconds between looks for the first generation


@dataclass(frozen=True)
class PretrainTask:
    """Everything a rank needs, as plain values. `specials` names the ids of [PAD], [UNK], [CLS], [SEP] and [MASK]."""

    sources: tuple[TokenFiles, ...]
    holdout: tuple[str, ...]  # token shards
    specials: Mapping[str, int]
    vocabulary: int  # pieces, specials included
    out: str  # folder
    model: str | Shape = "tiny"
    length: int = 128  # places of the longest segment
    row: int = 0  # places of a row; 0: as many as `length`
    batch: int = 8  # rows of a step, over all ranks; a small corpus needs many steps more than large ones
    weights: Mapping[int, Mapping[str, float] | None] = field(default_factory=dict)  # from a step on: source -> share
    holes: tuple[tuple[int, int], ...] = ()  # positions that are skipped, [first, behind the last)
    window: int = 8  # shards of a source in use at once
    tokens: int = 600_000  # to train on, padding not counted
    rate: float = 0.3  # share of tokens hidden
    lr: float = 1.5e-3  # at its peak
    warmup: float = 0.05  # shares of the steps
    decay: float = 0.2
    weight_decay: float = 0.01
    seed: int = 1
    dtype: str = "float32"  # or bfloat16 (autocast over float32 weights), float64
    at_once: int = 0  # rows per forward pass of a rank, for memory; 0: all of its share
    checkpoint_every: int = 100  # steps
    evaluate_every: int = 0  # steps; 0: at the start and the end only
    holdout_rows: int = 512  # most rows to evaluate on
    follow: str = ""  # a list of generations: more sources, as they come
    replay: str = ""  # a plan to go by, written by an earlier training on the same sources


class Feed:
    """The stream of a task for one rank. `steps`: how many its tokens take, by what there is at the start."""

    def __init__(self, task: PretrainTask, layout: Layout, ranks: Ranks) -> None:
        self.task, self.layout, self.ranks = task, layout, ranks
        self._hiding = Hiding(task.vocabulary, task.specials, task.seed, task.rate)
        self._files = {one.name: one.counted(layout) for one in task.sources}
        if len(self._files) < len(task.sources):
            raise ValueError(f"two sources of a training have one name; give each of {sorted(self._files)} its own")
        self._opened = 0  # generations among them
        self.steps = 0
        if task.follow:
            self._wait()
        files = tuple(self._files.values())
        self.plan = self._replayed(files) if task.replay else _planned(task, files)
        mean = mean_places(files, dict(self.plan.stretches[0].weights))
        self.steps = self.steps or max(1, int(task.tokens / (task.batch * mean)))
        self._open()

    def batches(self, start: int) -> Iterator[list[Batch]]:
        """This rank's batches from a step to the end, each in parts that fit a forward pass."""
        while start < self.steps:
            until = self.steps if not self.task.follow else min(self.steps, start + self.task.checkpoint_every)
            if self.task.follow:
                self._grow(start, until)
            if self.ranks.rank == 0:
                told = {"plan": self.plan.plain(), "steps": self.steps, **asdict(self.layout)}
                store.write_json(store.join(self.task.out, PLAN), told)
            if self.stream.open.cache:
                uses = future(self.stream.open.files, self.plan, int(self.plan.share(until)[-1]))
                self.stream.open.cache.plan(uses, int(self.plan.share(start)[0]), slack=2 * self.task.batch)
            shares = self.stream.shares(range(start, until), world=self.ranks.world, rank=self.ranks.rank)
            yield from ahead(parts(self.stream, places, self.task.at_once) for _, places in shares)
            start = until

    def close(self) -> None:
        self.stream.open.close()

    def booked(self, step: int) -> dict[str, Any]:
        """A step's rows, for the ledger: numbers of the first consumed and of all, a digest of which they are."""
        places = self.plan.places(self.plan.share(step))
        words = mixed(self.stream.keys(places) ^ mixed(places.epoch.astype(np.uint64)))
        order = int(mixed(words + np.arange(len(words), dtype=np.uint64)).sum())
        return {"first": self.plan.consumed(step), "rows": len(places), "order": f"{order:016x}"}

    def resume(self, told: str) -> None:
        """Go on by the plan of a checkpoint, which rank 0 has ("": by the plan there is). All ranks say it together."""
        if self.ranks.rank == 0 and told:
            self.plan = Plan.of(json.loads(told))
        self._share_out()

    def _wait(self) -> None:
        """Until there is a first generation. All ranks begin with it alone: what else there is joins at step 0."""
        while not self._files:
            self._look(1)
            left, ended = arrived(self.task.follow, self._opened)
            if not self._files and ended and not left:
                raise ValueError(f"{self.task.follow} ends and no generation holds a row; widen the recipe's sources")
            if not self._files and not left:
                time.sleep(PATIENCE)

    def _look(self, most: int | None = None) -> None:
        """Take up the generations that came, named by origin and generation."""
        for one in arrived(self.task.follow, self._opened)[0][:most]:
            for file in files_of(one.tokens(), suffix=f"@{one.number}"):
                counted = file.counted(self.layout)
                self._files |= {file.name: counted} if counted.source.size else {}
            self._opened += 1

    def _grow(self, step: int, until: int) -> None:
        """Take in what came, and make the plan last until a step. Rank 0 decides."""
        if self.ranks.rank == 0:
            self._look()
            have = {source.name for source in self.plan.sources}
            if fresh := tuple(one.source for one in self._files.values() if one.name not in have):
                self.plan = onward(self.plan, int(self.plan.share(step)[0]), fresh)
            self.plan = _lasting(self.plan, until)
        self._share_out()

    def _share_out(self) -> None:
        """Give rank 0's plan to all, and open what it names."""
        told = self.ranks.told(json.dumps(self.plan.plain()).encode() if self.ranks.rank == 0 else b"")
        self.plan = Plan.of(json.loads(told))
        if any(source.name not in self._files for source in self.plan.sources):
            self._look()
        self._open()

    def _open(self) -> None:
        """The stream by the plan as it is now; shards stay mapped where the sources are the same."""
        files = tuple(self._files[source.name] for source in self.plan.sources)
        opened = self.stream.open if hasattr(self, "stream") else None
        if opened is None or opened.files != files:
            if opened is not None:
                opened.close()
            cache = cache_of(files, os.environ.get("TUNDISH_TOKENS", ""))
            opened = Opened(files, self.layout, cache, self.task.window)
        self.stream = Stream(self.plan, self.layout, self._hiding, opened)

    def _replayed(self, files: tuple[TokenFiles, ...]) -> Plan:
        told = json.loads(store.read(self.task.replay))
        plan, self.steps = Plan.of(told["plan"]), told["steps"]
        have = {one.name: one.source for one in files}
        for source in plan.sources:
            if have.get(source.name) != source:
                raise ValueError(
                    f"the plan {self.task.replay!r} was made for other shards of {source.name!r}; "
                    "give the generations it was trained on"
                )
        return plan


def _planned(task: PretrainTask, files: tuple[TokenFiles, ...]) -> Plan:
    """The plan of the sources there are, by the weights the task gives from each step on."""
    sources = tuple(one.source for one in files)
    named = dict(task.weights) or {0: None}
    if 0 not in named:
        raise ValueError(f"weights begin at step {min(named)}; say by which ones training begins, at step 0")
    stretches = []
    for step, shares in sorted(named.items()):
        first = step * task.batch
        for hole, end in task.holes if step else ():
            first += end - hole if first >= hole else 0
        stretches.append(Stretch(first, weights_of(sources, shares)))
    return Plan(task.seed, sources, tuple(stretches), ((0, task.batch),), task.window, tuple(task.holes))


def _lasting(plan: Plan, until: int) -> Plan:
    """The plan with stretches up to a step: each lasts until its sources have been seen as often as one another."""
    end = int(plan.share(until)[0])
    while (over := plan.runs_out()) < end:
        plan = onward(plan, over)
    return plan


def held_out(task: PretrainTask, layout: Layout) -> Stream | None:
    """The held-out documents, always in the same order with the same places hidden; None where there are none."""
    held = TokenFiles("holdout", task.holdout).counted(layout)
    if not held.source.size:
        return None
    hiding = Hiding(task.vocabulary, task.specials, EVALUATION_SEED, EVALUATION_RATE)
    plan = Plan(EVALUATION_SEED, (held.source,), (Stretch(0, weights_of([held.source])),), ((0, 1),), 0)
    return Stream(plan, layout, hiding, Opened([held], layout))


def parts(stream: Stream, places: Places, at_once: int) -> list[Batch]:
    """These rows, as many at once as a forward pass takes; 0: all."""
    size = at_once or max(1, len(places))
    return [stream.batch(places.slice(at, at + size)) for at in range(0, len(places), size)]
