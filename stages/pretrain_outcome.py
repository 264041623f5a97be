"""A pretraining held against its forecast: what it took, and why that is more or less than was said.

    expected    by `tundish plan --probe`, where one was asked for before the run; else by the run's own first steps,
                and where batches grow by the first of the whole size as well
    tokens      more or fewer of them than were forecast
    documents   longer or shorter ones: operations a token, at the speed that was measured
    padding     places without a token that are computed all the same
    workers     another number of them
    waited      for rows          held      measuring on what is held out, beyond what was forecast for it
    saved       checkpoints and snapshots, as long as the loop stood still for them
    compiled    steps that compiled something, beyond the usual step
    rewound     steps that were gone back over
    again       steps taken before an interruption, and once more after it
    summed      adding up over the workers, and waiting for the slowest of them
    device      all that is left: it is slower, or faster, than when it was measured

Promises: causes are in seconds and add up to the difference, the last of them by its name the rest; what is counted
(parameters, checkpoint, parts of the memory) stands beside what was there. It covers the steps of every run that took
part, for it is read off the log, but not what a run does before its first step. Refuses nothing; a run of few steps
that nobody forecast has no hours to be held against.
"""

import itertools
import math
import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from tundish.cluster import checkpoint
from tundish.operators.model.phases import Schedule
from tundish.operators.model.stacks import part
from tundish.stages.pretrain_count import Counted, amount, schedule_of
from tundish.stages.pretrain_log import HELD, SAVED, SUMMED, took
from tundish.stages.pretrain_probe import hours
from tundish.stages.pretrain_task import PretrainTask

PROBE, FIRST = "plan --probe", "its first steps"
WARM, LOOKED, LEAST = 3, 32, 8  # steps that are passed over, at most looked at, and at least
TOLD = 0.01  # a cause is told from this share of the forecast on
NAMED = {
    "tokens": "more tokens",
    "documents": "longer documents",
    "padding": "more padding",
    "workers": "fewer workers",
    "waited": "waiting for rows",
    "held": "measuring on held-out rows",
    "saved": "checkpoints and snapshots",
    "compiled": "compiling",
    "rewound": "steps gone back over",
    "again": "steps taken again after an interruption",
    "summed": "adding up over the workers",
    "device": "a slower device (the rest)",
}
LESS = {
    "tokens": "fewer tokens",
    "documents": "shorter documents",
    "padding": "less padding",
    "workers": "more workers",
    "device": "a faster device (the rest)",
    "held": "less measuring on held-out rows",
}


def outcome(
    task: PretrainTask,
    own: Counted,
    lines: Sequence[Mapping[str, Any]],
    ended: Mapping[str, float],
    there: Mapping[str, Any],
    workers: int,
) -> dict[str, Any]:
    """`own`: what was counted; `lines`: of the log; `ended`: seconds after the last step, by what for; `there`: what
    `found` gives."""
    said = dict(task.foretold)
    expected = _first(lines, task) if not said else {**said, "by": PROBE}
    told: dict[str, Any] = {
        "by": expected.get("by", ""),
        "parameters": _pair(said.get("parameters", own.parameters), there["parameters"]),
        "checkpoint": _pair(said.get("checkpoint", own.checkpoint), there["checkpoint"]),
        "memory": {
            name: _pair(size, there["memory"].get(name)) for name, size in said.get("memory", own.memory).items()
        },
    }
    whole = sum(said["memory"].values()) if "memory" in said else None  # without a probe nothing is known of passes
    told["memory"]["peak"] = {"forecast": whole, "actual": there["peak"], "of": there["peak_of"]}
    if "steps" in said:
        told["steps"] = _pair(said["steps"], len(lines))
    if not expected:
        return told
    told |= {name: expected[name] for name in ("step_tokens",) if name in expected}
    actual = _actual(lines, ended)
    causes = _causes(expected, actual, workers)
    told |= {name: _pair(expected[name], actual[name]) for name in ("flops", "padding")}
    told["tokens_per_second"] = _pair(expected["tokens_per_second"], actual["tokens"] / actual["seconds"])
    told["seconds"] = _pair(3600 * expected["hours"], actual["seconds"])
    told["causes"] = causes
    return told


def found(state: Any, parameters: int) -> dict[str, Any]:
    """What a training had at its end: bytes of this worker by part, its peak, the files of the last checkpoint."""
    weights = [part(weight.detach()) for weight in state.spread.weights]
    gradients = [part(weight.grad) for weight in state.spread.weights if weight.grad is not None]
    moments = [part(each) for each in state.optimizer.state().values()]
    parts = {"weights": weights, "gradients": gradients, "optimiser": moments}
    newest = checkpoint.steps(state.uri)[-1:]
    files = checkpoint.sealed(state.uri, newest[0]).files if newest else {}
    device = state.ranks.device
    cuda = device.type == "cuda"
    return {
        "parameters": parameters,
        "memory": {name: sum(each.numel() * each.element_size() for each in some) for name, some in parts.items()},
        "peak": torch.cuda.max_memory_allocated(device) if cuda else resident(),
        "peak_of": "the device" if cuda else "the process, with Python, libraries and mapped shards",
        "checkpoint": sum(told["size"] for told in files.values()),
    }


def resident() -> int | None:
    """The most memory that this process ever had, in bytes, where the system says it."""
    try:
        import resource
    except ImportError:
        return None
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def _pair(forecast: float | None, actual: float | None) -> dict[str, Any]:
    told: dict[str, Any] = {"forecast": forecast, "actual": actual}
    if forecast and actual is not None:
        told["percent"] = round(100 * (actual / forecast - 1), 2)
    return told


def _spent(line: Mapping[str, Any]) -> float:
    """Seconds of a step that went into other things than the step."""
    return float(line["waited"] + sum(line.get("spent", {}).values()))


def _own(line: Mapping[str, Any]) -> float:
    return max(0.0, line["seconds"] - _spent(line))


def _fresh(lines: Sequence[Mapping[str, Any]], before: float = 0) -> list[float]:
    """Tokens of each step."""
    totals = [before, *(line["tokens"] for line in lines)]
    return [after - first for first, after in itertools.pairwise(totals)]


def _shape(lines: Sequence[Mapping[str, Any]], before: float = 0) -> dict[str, float]:
    """Tokens of these steps, their operations, and places for each token."""
    fresh = _fresh(lines, before)
    tokens = sum(fresh)
    useful = sum(line.get("tflops", 0.0) * 1e12 * line["seconds"] for line in lines)
    places = sum(each / (1 - line.get("padding", 0.0)) for each, line in zip(fresh, lines, strict=True))
    return {"tokens": tokens, "flops": useful / max(1.0, tokens), "padding": 1 - tokens / max(1.0, places)}


def _first(lines: Sequence[Mapping[str, Any]], task: PretrainTask) -> dict[str, Any]:
    """A forecast by the first steps that compiled nothing; none, where there are few. Where their batches are not as
    large as most of the plan's, the first of those count as well, and a step takes so long and so much more a token:
    small batches are slow, and few."""
    early, schedule = _looked(lines, range(len(lines))[: WARM + LOOKED]), schedule_of(task)
    if len(early) < LEAST:
        return {}
    most = _usual(schedule, len(lines))
    usual = early if {*early} <= {*most} else _looked(lines, most)
    grows = usual != early and len(usual) >= LEAST
    some = [_shape([lines[number]], lines[number - 1]["tokens"]) for number in (usual if grows else early)]
    tokens = sum(one["tokens"] for one in some)
    told = {"by": FIRST, "tokens": float(task.tokens), "held": 0.0}
    told["flops"] = sum(one["flops"] * one["tokens"] for one in some) / max(1.0, tokens)
    told["padding"] = 1 - tokens / max(1.0, sum(one["tokens"] / (1 - one["padding"]) for one in some))
    if grows:
        fresh, looked = _fresh(lines), sorted({*early, *usual})
        alone, each = line_of(np.array([fresh[n] for n in looked]), np.array([_own(lines[n]) for n in looked]))
        seconds = alone * schedule.steps + each * task.tokens
        first = float(np.mean([fresh[number] for number in early]))
        told["step_tokens"] = {"first": first, "plan": task.tokens / schedule.steps}
    else:
        seconds = task.tokens * sum(_own(lines[number]) for number in early) / max(1.0, tokens)
    seconds = max(1e-9, seconds)
    return told | {"tokens_per_second": task.tokens / seconds, "hours": seconds / 3600}


def _looked(lines: Sequence[Mapping[str, Any]], steps: Iterable[int]) -> list[int]:
    """The first of these steps that are warm and compiled nothing."""
    return [number for number in steps if number >= WARM and "compiled" not in lines[number]][:LOOKED]


def _usual(schedule: Schedule, steps: int) -> list[int]:
    """Steps that have as many places as those in which most of the plan's places are."""
    places, sums = [leg.rows * schedule.phases[leg.phase].row for leg in schedule.legs], Counter[int]()
    for leg, size in zip(schedule.legs, places, strict=True):
        sums[size] += leg.steps * size
    [(most, _)] = sums.most_common(1)
    legs = [leg for leg, size in zip(schedule.legs, places, strict=True) if size == most]
    return [number for leg in legs for number in range(leg.first, min(steps, leg.first + leg.steps))]


def line_of(sizes: np.ndarray, seconds: np.ndarray) -> tuple[float, float]:
    """Seconds of a step alone, and more for each token, by least squares; neither is below nothing.

    >>> [round(float(each), 6) for each in line_of(np.array([10, 10, 40]), np.array([0.3, 0.3, 0.9]))]
    [0.1, 0.02]
    >>> [round(float(each), 6) for each in line_of(np.array([10, 40]), np.array([0.1, 0.8]))]
    [0.0, 0.019412]
    """
    apart = sizes - sizes.mean()
    each = max(0.0, float((apart * seconds).sum() / max(1e-9, (apart**2).sum())))
    alone = float(seconds.mean() - each * sizes.mean())
    return (alone, each) if alone >= 0 else (0.0, float((sizes * seconds).sum() / (sizes**2).sum()))


def _actual(lines: Sequence[Mapping[str, Any]], ended: Mapping[str, float]) -> dict[str, Any]:
    usual = float(np.median([_own(line) for line in lines if "compiled" not in line] or [0.0]))
    spent = {name: sum(line.get("spent", {}).get(name, 0.0) for line in lines) for name in (HELD, SAVED, SUMMED)}
    return {
        **_shape(lines),
        "seconds": sum(map(took, lines)) + sum(ended.values()),
        "waited": sum(line["waited"] for line in lines),
        **{name: seconds + ended.get(name, 0.0) for name, seconds in spent.items()},
        "compiled": sum(max(0.0, _own(line) - usual) for line in lines if "compiled" in line),
        "rewound": sum(each.get("seconds", 0.0) for line in lines for each in line.get("rewound", ())),
        "again": sum(line.get("again", 0.0) for line in lines),
    }


def _causes(expected: Mapping[str, Any], actual: Mapping[str, Any], workers: int) -> dict[str, float]:
    """Seconds beyond the forecast, by cause: each as if those before it were known."""
    speed, steps = expected["tokens_per_second"], 3600 * (expected["hours"] - expected["held"])
    causes: dict[str, float] = {}
    causes["tokens"] = actual["tokens"] / speed - steps
    now = steps + causes["tokens"]
    ratios = {
        "documents": actual["flops"] / expected["flops"] if expected["flops"] and actual["flops"] else 1.0,
        "padding": (1 - expected["padding"]) / max(1e-9, 1 - actual["padding"]),
        "workers": expected.get("workers", workers) / workers,
    }
    for name, ratio in ratios.items():
        causes[name], now = now * (ratio - 1), now * ratio
    causes |= {name: actual[name] for name in ("waited", HELD, SAVED, "compiled", "rewound", "again", SUMMED)}
    causes[HELD] -= 3600 * expected["held"]
    difference = actual["seconds"] - 3600 * expected["hours"]
    causes["device"] = difference - math.fsum(causes.values())
    return causes


def spoken(told: Mapping[str, Any]) -> list[str]:
    """What a run took, and why it is not what was forecast, in lines."""
    found = []
    if "seconds" in told:
        said, needed = told["seconds"]["forecast"] / 3600, told["seconds"]["actual"] / 3600
        more = f"{told['seconds']['percent']:+.0f} %"
        why = _listed(told["causes"], 3600 * said)
        each = told.get("step_tokens")
        small = f" ({each['first']:,.0f} tokens each; reckoned with {each['plan']:,.0f} a step)" if each else ""
        found.append(f"{told['by']}{small} said {hours(said)}, it took {hours(needed)} ({more}): {why}")
    sizes = [f"{amount(told['parameters']['actual'])} parameters", _beside("a checkpoint", told["checkpoint"])]
    sizes += [_beside(name, each) for name, each in told["memory"].items() if each["actual"] and name != "peak"]
    peak = told["memory"]["peak"]
    if peak["actual"]:
        sizes.append(f"{_beside('at most', peak)} of {peak['of']}")
    return [*found, "; ".join(sizes)]


def _listed(causes: Mapping[str, float], whole: float) -> str:
    kept = sorted(
        ((name, each) for name, each in causes.items() if abs(each) >= TOLD * whole), key=lambda each: -abs(each[1])
    )
    words = []
    for name, each in kept:
        named = NAMED[name] if each > 0 else LESS.get(name, NAMED[name])
        words.append(f"{'+' if each > 0 else '-'}{hours(abs(each) / 3600)} {named}")
    return ", ".join(words) or "nothing of a hundredth or more"


def _beside(name: str, each: Mapping[str, Any]) -> str:
    said = "" if each["forecast"] is None else f" (forecast {amount(each['forecast'])}B)"
    return f"{name} {amount(each['actual'])}B" + ("" if each["forecast"] == each["actual"] else said)
