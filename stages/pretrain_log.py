"""What a pretraining says of itself: a line a step in the log and the ledger, written when the device has told.

Promises: a line is written when its step is known to be good, in order, by rank 0 alone; steps that were gone back over
leave no line but are named in the next, with the seconds they took, as are steps that were taken before an interruption
(`again`). `seconds` are the host's between two steps, `waited` of them for the batch, `spent` of them on other things
(held: measuring on what is held out; saved: checkpoints and snapshots; summed: what all workers add up, on a GPU by its
own clock, read when it has passed), `padding` is the share of places without a token, `mfu` the share of the device's
peak that useful operations took. Nothing waits for the device to know it. Who is told of a step hears what memory rank
0 has held as well (`memory`, `device_memory`). Costs one line of some 350 bytes a step.
"""

import logging
import time
from array import array
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

import torch
from torch import Tensor

from tundish.cluster import store
from tundish.operators.model.guard import Verdict
from tundish.stages.blockwise import compilations
from tundish.stages.pretrain_feed import Feed, Step
from tundish.stages.pretrain_lines import Lines
from tundish.stages.pretrain_task import PretrainTask
from tundish.stages.ranks import Ranks, held_by

LOG = logging.getLogger("tundish.pretrain")
TELL_EVERY = 10  # steps, unless whoever is told says `every`
PEAKS = {
    "GB200": 2500e12,
    "B200": 2250e12,
    "H200": 989e12,
    "H100 PCIe": 756e12,
    "H100 NVL": 835e12,
    "H100": 989e12,
    "A100": 312e12,
    "A10G": 70e12,
    "A10": 125e12,
    "L40S": 362e12,
    "L40": 181e12,
    "L4": 121e12,
    "4090": 165e12,
}  # dense bf16, as their makers say; a name stands before one that is a part of it

Tell = Callable[[dict[str, Any]], None]
T = TypeVar("T")
HELD, SAVED, SUMMED = "held", "saved", "summed"  # what seconds were spent on


class Log:
    """`line`: the last one that was written."""

    def __init__(self, task: PretrainTask, feed: Feed, ranks: Ranks, tell: Tell, step: int, tokens: int) -> None:
        self.task, self.feed, self.tell = task, feed, tell
        if ranks.device.type == "cuda" and ranks.rank == 0 and task.dtype == "float32":
            LOG.warning("float32 takes a GPU several times as long as bfloat16; say precision: bfloat16")
        self.tell_every = getattr(tell, "every", TELL_EVERY)
        self.lines, self.ledger = (
            Lines(store.join(task.out, name), step, ranks.rank == 0) for name in ("log.jsonl", "ledger.jsonl")
        )
        self.pending: dict[int, dict[str, Any]] = {}
        self.notes: dict[int, dict[str, Any]] = {}
        self.rewound: list[dict[str, Any]] = []  # since the last line
        self.last, self.line = time.perf_counter(), {"tokens": tokens}
        self.start, self.clocks = step, array("d", [self.last])  # when each step began
        self.spent: dict[str, float] = {}  # since the last step
        self.passing: list[tuple[str, Any, Any]] = []  # the same on a device: events that it has yet to reach
        self.again = sum(map(took, self.lines.beyond()))
        self.compiled = compilations()
        self.peak = ranks.world * (task.peak or peak_of(ranks.device))
        self.device, self.alone = ranks.device, ranks.world == 1

    def note(self, step: int, told: Mapping[str, Any]) -> None:
        """More to say in the line of a step that is yet to come."""
        self.notes[step] = dict(told)

    def lap(self, name: str, function: Callable[..., T], *given: Any) -> T:
        """What a function gives; how long it took is said in the line of the step that it is part of."""
        device, summed = self.device, name == SUMMED
        if summed and self.alone:
            return function(*given)
        if summed and device.type == "cuda":  # the host only says that they shall be added up
            ends = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
            ends[0].record()
            found = function(*given)
            ends[1].record()
            self.passing.append((name, *ends))
            return found
        began = time.perf_counter()
        found = function(*given)
        self.spent[name] = self.spent.get(name, 0.0) + time.perf_counter() - began
        return found

    def step(self, batch: Step, told: Mapping[str, Any], means: Mapping[str, Tensor]) -> None:
        """A step was taken on the device; its numbers are asked for when it has told them."""
        now = time.perf_counter()
        self.pending[batch.number] = {
            **told,
            "fresh": batch.tokens,
            "seconds": now - self.last,
            "useful": batch.useful,
            "places": batch.places,
            "spent": self.spent,
            "passing": self.passing,
            "means": means if len(means) > 1 else {},
            "objective": batch.setting.name,
            "ledger": {"guessed": batch.guessed, "masks": f"{batch.masks:016x}"},
        }
        self.last, self.spent, self.passing = now, {}, []
        self.clocks.append(now)

    def settled(self, verdicts: Iterable[Verdict]) -> Verdict | None:
        """Write the lines of steps that are known to be good, up to the first that is not, which is given back."""
        for verdict in verdicts:
            if not verdict.taken:
                return verdict
            told = self.pending.pop(verdict.step)
            loss, norm = verdict.values.values()
            line = {"step": verdict.step, "steps": self.feed.steps, "loss": loss, "norm": norm}
            line |= {name: told[name] for name in ("lr", "tokens")}
            line |= {f"loss_{name}": float(value) for name, value in told["means"].items()}
            if told["objective"] != "mlm":
                line["objective"] = told["objective"]
            line |= self.notes.pop(verdict.step, {})
            if self.rewound:
                line["rewound"], self.rewound = self.rewound, []
            seconds = max(told["seconds"], 1e-9)
            line |= {"tokens_per_second": round(told["fresh"] / seconds, 1), "seconds": round(seconds, 6)}
            line |= {"waited": round(told["waited"], 6)}
            if spent := spent_of(told):
                line["spent"] = spent
            if self.again:
                line["again"], self.again = round(self.again, 6), 0.0
            if told["places"] and self.task.shapes[0].stack != "pair":
                line["padding"] = round(1 - told["fresh"] / told["places"], 6)
            if self.task.dtype == "float16" and norm == 0:  # gradients were no numbers at this scale (stages/scale)
                line["skipped"] = True
            if told["compiled"] > self.compiled:  # that should be at the beginning alone
                line["compiled"], self.compiled = told["compiled"] - self.compiled, told["compiled"]
            if told["useful"]:
                line["tflops"] = round(told["useful"] / seconds / 1e12, 6)
                if self.peak:
                    line["mfu"] = round(told["useful"] / seconds / self.peak, 4)
            self.lines(line)
            self.ledger({"step": verdict.step, **self.feed.booked(verdict.step), **told["ledger"]})
            self.line = line
            if (verdict.step + 1) % self.tell_every == 0 or verdict.step + 1 == self.feed.steps:
                self.tell({**line, **held_by(self.device)})
        return None

    def back(self, step: int, tokens: int, why: dict[str, Any]) -> None:
        """Training went back to a step: what came from there on is forgotten, and why is said in the next line."""
        for each in (self.lines, self.ledger):
            each.cut(step)
        for known in (self.pending, self.notes):
            for number in [number for number in known if number >= step]:
                del known[number]
        now = time.perf_counter()
        self.rewound.append({**why, "seconds": round(now - self.clocks[step - self.start], 6)})
        del self.clocks[step - self.start + 1 :]
        self.line = {**self.line, "tokens": tokens}
        self.last, self.spent, self.passing = now, {}, []
        self.clocks[-1] = now

    def on_disk(self) -> None:
        """Before a checkpoint says that these steps were taken."""
        self.lines.settle()
        self.ledger.settle()

    def close(self) -> None:
        self.lines.close()
        self.ledger.close()


def on_host(numbers: Tensor) -> Tensor:
    """A copy on the host that is under way; nobody waits for it here."""
    if not numbers.is_cuda:
        return numbers
    host = torch.empty(numbers.shape, dtype=numbers.dtype, pin_memory=True)
    return host.copy_(numbers, non_blocking=True)


def took(line: Mapping[str, Any]) -> float:
    """Seconds until a line was there: its step's, those of steps that were gone back over, or taken before."""
    undone = sum(each.get("seconds", 0.0) for each in line.get("rewound", ()))
    return float(line["seconds"] + line.get("again", 0.0) + undone)


def spent_of(told: Mapping[str, Any]) -> dict[str, float]:
    """Seconds of a step that did not go into the step, by what for; what a device took, it has told by now."""
    spent = dict(told["spent"])
    for name, first, last in told["passing"]:
        if last.query():
            spent[name] = spent.get(name, 0.0) + first.elapsed_time(last) / 1000
    return {name: round(seconds, 6) for name, seconds in spent.items()}


def peak_of(device: torch.device) -> float:
    """Operations a second in bfloat16 that a device's maker promises; 0 where that is not known."""
    return peak_named(torch.cuda.get_device_name(device)) if device.type == "cuda" else 0.0


def peak_named(name: str) -> float:
    """By the name that the driver gives a device, of which a kind is whole words.

    >>> peak_named("NVIDIA H100 80GB HBM3") / 1e12, peak_named("NVIDIA L40S") / 1e12, peak_named("NVIDIA A1000")
    (989.0, 362.0, 0.0)
    """
    return next((peak for kind, peak in PEAKS.items() if f" {kind} " in f" {name} ".replace("-", " ")), 0.0)
