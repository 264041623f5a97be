"""The state of a pretraining: where it begins, what it keeps, and how it goes back.

    checkpoint    on disk, every `checkpoint_every` steps and when asked to stop: weights, optimiser, guard, plan
    snapshot      the same in memory, every `snapshot_every` steps: what a spike goes back to

Promises: what is taken up is what training from step 0 would have given, for its key covers the task and the plan up to
its step; also that of another training beside this one that comes through the same state. A spike's rows become a hole
in the plan. A wish to stop that any rank heard (cluster/wish) is one of all: the next step saves and leaves. Costs one
copy of the state on the host. Refuses a folder that holds the state of another training, and a loss that is no number
`most_rewinds` times in a row; one that is only high so often is the new level, which is told as well.
"""

import hashlib
import json
import logging
import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from tundish.cluster import store
from tundish.cluster.checkpoint_load import load
from tundish.cluster.checkpoint_save import Saver
from tundish.cluster.wish import Stopped, listening
from tundish.operators.model.guard import Guard, Verdict
from tundish.operators.model.stacks import part
from tundish.stages.pretrain_begin import beginning
from tundish.stages.pretrain_feed import Feed
from tundish.stages.pretrain_legs import Leg, until_of
from tundish.stages.pretrain_log import Log
from tundish.stages.pretrain_memory import KEPT, within
from tundish.stages.pretrain_model import Optimizer
from tundish.stages.pretrain_task import PretrainTask
from tundish.stages.ranks import Ranks
from tundish.stages.scale import Scale
from tundish.stages.spread import Spread

LOG = logging.getLogger("tundish.pretrain")
CHECKPOINTS = "checkpoints"
LEAST = 2.0**-14  # a scale of the loss below which float16 cannot be helped
ALIGNED = 64  # bytes at whose multiples a tensor begins
LYING = ("model", "optimizer")  # on the ranks as the model does; the rest is the same on all

__all__ = ["State", "Stopped", "holes_in"]


class State:
    def __init__(
        self,
        task: PretrainTask,
        feed: Feed,
        ranks: Ranks,
        spread: Spread,
        optimizer: Optimizer,
        guard: Guard,
        scale: Scale,
    ) -> None:
        self.task, self.feed, self.ranks = task, feed, ranks
        self.spread, self.optimizer, self.guard, self.scale = spread, optimizer, guard, scale
        self.uri = store.join(task.out, CHECKPOINTS)
        self.plain = task.decides
        self.snapshot: tuple[int, int, dict[str, dict[str, Tensor]]] | None = None
        self.levels = {*feed.levels}  # steps from which on another level is usual, because too many were skipped
        self.rewinds = 0  # since the last snapshot that a step came through
        self.spikes: list[dict[str, Any]] = []  # what was gone back over: step, why, to which step, rows

    def __enter__(self) -> "State":
        self.saver = Saver(self.uri, keep=self.task.keep)
        self.listening = listening()
        self.listening.__enter__()
        return self

    def __exit__(self, *about: Any) -> None:
        self.listening.__exit__(*about)
        self.saver.__exit__(*about)

    def groups(self) -> dict[str, dict[str, Tensor]]:
        """Every tensor that decides what comes next, alive."""
        return {
            "model": self.spread.state(),
            "optimizer": self.optimizer.state(),
            "guard": self.guard.state(),
            "scale": self.scale.state(),
        }

    def begin(self) -> tuple[int, int]:
        """Step and tokens to go on from."""
        passed: list[tuple[str, int]] = []
        while True:
            told = b""
            if self.ranks.rank == 0:
                told = json.dumps(beginning(self.task.out, self.uri, self._owns, passed)).encode()
            uri, step, plain = json.loads(self.ranks.told(told))
            if step and self.snapshot is None:
                self._snap(0, 0)  # a reading that breaks off leaves some weights of others
            stored = self._stored() if step else {}
            try:
                found = load(uri, stored, step) if step else None
                break
            except ValueError:
                if uri == self.uri:
                    raise
                passed.append((uri, step))  # of a training beside this one, which may have removed it by now
                self._back()
        tokens = 0
        if step:
            assert found is not None, "a checkpoint whose seal was read is there"
            for group, live in self.groups().items():
                if group in LYING:
                    self.spread.restore(live, stored[group])
            self.optimizer.restore(self.optimizer.state(), step)
            tokens, self.spikes = plain["tokens"], plain["spikes"]
            self.feed.add(holes_in(self.spikes))
            self.levels |= {spike["step"] for spike in self.spikes if "rows" not in spike}
        if self.task.follow:
            self.feed.resume(plain.get("legs", ""))
        self._snap(step, tokens)
        return step, tokens

    def _owns(self, step: int, plain: Mapping[str, Any]) -> bool:
        """Whether a state is one this training comes through: of the same task, and of the plan up to there."""
        if "spikes" not in plain:
            return False
        if self.task.follow:
            legs = until_of([Leg.of(each) for each in json.loads(plain["legs"])], step)
        else:
            legs = self.feed.until(step, holes_in(plain["spikes"]))
        return bool(plain["key"] == self._key(legs))

    def _key(self, legs: list[dict[str, Any]]) -> str:
        """What the losses before a step depend on: the task without places and cadences, and the plan up to there."""
        return hashlib.sha256(json.dumps([self.plain, legs], sort_keys=True, default=str).encode()).hexdigest()

    # what is kept

    def due(self, step: int) -> bool:
        """Whether something is kept when so many steps are done."""
        ends = step == self.feed.steps
        return ends or not step % self.task.checkpoint_every or not step % self.task.snapshot_every

    def keep(self, step: int, log: Log) -> None:
        tokens = log.line["tokens"]
        if step == self.feed.steps or not step % self.task.checkpoint_every:
            self.save(step, log)
        if self.scale.needed and float(self.scale.value) < LEAST:
            raise ValueError(
                f"gradients before step {step} are no numbers in float16 at any scale; take bfloat16, or lower the "
                f"learning rate {self.task.lr}"
            )
        if not step % self.task.snapshot_every or not step % self.task.checkpoint_every:
            self._snap(step, tokens)
            self.rewinds = 0

    def save(self, step: int, log: Log, *, block: bool = False) -> None:
        log.on_disk()
        plain = {"key": self._key(self.feed.until(step)), "tokens": log.line["tokens"], "spikes": self.spikes}
        legs = json.dumps(self.feed.plain())
        with within(KEPT):
            self.saver.save({**self._stored(), **plain, "legs": legs}, step, block=block)

    def _stored(self) -> dict[str, dict[str, Tensor]]:
        """The state in the form that it has for any number of ranks."""
        return {group: self.spread.stored(live) if group in LYING else live for group, live in self.groups().items()}

    @torch.no_grad()
    def _snap(self, step: int, tokens: int) -> None:
        live = {
            group: {name: part(each).detach() for name, each in named.items()} for group, named in self.groups().items()
        }
        # the same memory each time: there is never a second copy
        held = self.snapshot[2] if self.snapshot else {}
        for group, named in live.items():
            if group not in held or held[group].keys() != named.keys():
                held[group] = _room(named)
            for name, each in named.items():
                held[group][name].copy_(each, non_blocking=each.is_cuda)
        if self.ranks.device.type == "cuda":
            torch.cuda.current_stream(self.ranks.device).synchronize()  # once, not for each of some hundred tensors
        self.snapshot = step, tokens, held

    # how it goes back

    @torch.no_grad()
    def _back(self) -> None:
        """Everything as it was at the snapshot."""
        assert self.snapshot is not None
        for group, named in self.groups().items():
            for name, each in named.items():
                part(each).copy_(self.snapshot[2][group][name])

    @torch.no_grad()
    def rewind(self, bad: Verdict, log: Log) -> tuple[int, int]:
        """Back to before a step that was not to be taken, whose rows are then skipped; the step to go on from."""
        assert self.snapshot is not None, "a training begins with a snapshot"
        step, tokens, _ = self.snapshot
        self.rewinds += 1
        many = self.rewinds > self.task.most_rewinds
        if many and not all(map(math.isfinite, bad.values.values())):
            raise ValueError(
                f"{bad.why} in step {bad.step}, and {self.task.most_rewinds} batches were skipped before it; "
                f"lower the learning rate {self.task.lr}"
            )
        self._back()
        self.guard.restore(self.guard.state())  # what is under way is of steps that are undone
        told: dict[str, Any] = {"step": bad.step, "why": bad.why, "to": step}
        if many:  # no accident of some rows, but how it is now
            self.levels.add(bad.step)
            self.rewinds = 0
            LOG.warning("%s in step %d, whatever rows are skipped: taken to be usual from here on", bad.why, bad.step)
        else:
            hole = self.feed.positions(bad.step)
            told["rows"] = list(hole)
            self.feed.add([hole])
            LOG.warning("%s in step %d: back to step %d, without rows %d to %d", bad.why, bad.step, step, *hole)
        self.spikes.append(told)
        log.back(step, tokens, told)
        return step, tokens


def holes_in(spikes: list[dict[str, Any]]) -> list[tuple[int, int]]:
    """The rows that were skipped, as holes of a plan."""
    return [(spike["rows"][0], spike["rows"][1]) for spike in spikes if "rows" in spike]


def _room(named: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Host memory for tensors, in one piece; pinned where they lie on a GPU, which then copies without waiting."""
    ends = [0]
    for each in named.values():
        ends.append(ends[-1] + -(-each.numel() * each.element_size() // ALIGNED) * ALIGNED)
    whole = torch.empty(ends[-1], dtype=torch.uint8, pin_memory=any(each.is_cuda for each in named.values()))
    return {
        name: whole[at : at + each.numel() * each.element_size()].view(each.dtype).view(each.shape)
        for at, (name, each) in zip(ends, named.items(), strict=False)
    }
