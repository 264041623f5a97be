"""How long models take, side by side: one text, and batches of 32.

Promises: nothing but the forward pass is timed, of texts that were tokenized before; models take turns, so that what
else the machine does falls on all alike; medians of rounds, after a pass to warm up, beside what else decides them:
threads, processor, versions. Costs a few seconds a model. Times are of this machine and this minute, and are sealed
nowhere.

N texts.
"""

import os
import platform
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from time import perf_counter
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn

from tundish.stages.finetune_kinds import outputs
from tundish.stages.finetune_rows import Batch, Rows

BATCH = 32
TEXTS = 256  # at most
CALLS = 5  # of the one text in a round
ROUNDS = 7
PATIENT = 1.0  # seconds of a model's round, about; fewer texts where that is not enough


class Speed(NamedTuple):
    """Milliseconds of one text, their first and last tenth, and texts a second of batches."""

    latency: float
    fastest: float
    slowest: float
    throughput: float


def speeds(models: Mapping[str, nn.Module], rows: Rows, *, rounds: int = ROUNDS) -> dict[str, Speed]:
    """Of every model, where it lies. The one text is of median length, the batches are the first texts."""
    devices = {
        name: next((each.device for each in one.parameters()), torch.device("cpu")) for name, one in models.items()
    }
    alone, many = {}, {}
    for name, device in devices.items():
        alone[name] = [rows.batch([int(np.argsort(_sizes(rows), kind="stable")[len(rows) // 2])], device)]
        many[name] = [rows.batch(range(at, min(len(rows), at + BATCH)), device) for at in _starts(rows)]
    taken = {name: ([], []) for name in models}
    for name, model in models.items():  # warm up, and see how many texts a round has time for
        timed(model, alone[name])
        one = timed(model, many[name][:1])
        fit = max(1, int(PATIENT / max(one, 1e-9)))
        many = {each: batches[: min(len(batches), fit)] for each, batches in many.items()}
    for _ in range(rounds):
        for name, model in models.items():
            taken[name][0].extend(timed(model, alone[name]) for _ in range(CALLS))
            taken[name][1].append(timed(model, many[name]))
    count = {name: sum(len(batch.packed.bounds) - 1 for batch in batches) for name, batches in many.items()}
    return {name: _speed(*taken[name], count[name]) for name in models}


def _speed(ones: Sequence[float], all_of: Sequence[float], count: int) -> Speed:
    fastest, latency, slowest = (1e3 * float(each) for each in np.quantile(ones, (0.1, 0.5, 0.9)))
    return Speed(latency, fastest, slowest, count / float(np.median(all_of)))


@torch.inference_mode()
def timed(model: nn.Module, batches: Iterable[Batch], clock: Callable[[], float] = perf_counter) -> float:
    """Seconds of a pass over batches."""
    model.eval()
    _waited()
    begun = clock()
    for batch in batches:
        outputs(model, batch, {}, dtype=torch.float32)
    _waited()
    return clock() - begun


def _waited() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def _sizes(rows: Rows) -> np.ndarray:
    return np.diff(rows.tokens[1])


def _starts(rows: Rows) -> range:
    return range(0, min(len(rows), TEXTS), BATCH)


def machine() -> dict[str, Any]:
    """What decides times beside the models."""
    return {
        "processor": _processor(),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else "",
        "torch": torch.__version__,
        "batch": BATCH,
    }


def _processor() -> str:
    told = Path("/proc/cpuinfo")
    for line in told.read_text().split("\n") if told.exists() else ():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
