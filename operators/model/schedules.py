"""The learning rate as a plain function of the step: each schedule gives a factor on the peak rate.

    warm-stable-decay   up, flat, 1 - sqrt down       ModernBERT; Hägele et al. 2024, arXiv 2405.18392
    warm-stable-linear  up, flat, line down           the same with a straight decay
    warm-linear         up, line down to a floor      BERT, RoBERTa, MosaicBERT (floor 0.02)
    warm-cosine         up, half a cosine to a floor  NeoBERT
    warm-constant       up, flat
    inverse-root        flat or up, 1 / sqrt(step)    T5: flat; Vaswani et al. 2017: up
    triangle            line up from a share, down    cramming's "budget-triangle2"

Promises: pure functions of (step, steps) with every phase as a share of the steps, so a resume needs no state and a
longer run is the same schedule stretched; decays would reach their end in the step after the last, so no step is
wasted at a rate of 0. Refuses unknown names, unknown parameters and phases that do not fit into one run.
"""

import inspect
import math
from collections.abc import Callable, Mapping
from functools import partial

Schedule = Callable[..., float]


def warm_stable_decay(step: int, *, steps: int, warm: float, decay: float) -> float:
    """Linear up over the share `warm`, flat, then 1 - sqrt over the share `decay`.

    >>> [round(warm_stable_decay(s, steps=10, warm=0.2, decay=0.4), 3) for s in range(10)]
    [0.5, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 0.5, 0.293, 0.134]
    """
    return min(_rising(step, steps, warm), 1.0 - math.sqrt(_fallen(step, steps, decay)))


def warm_stable_linear(step: int, *, steps: int, warm: float, decay: float) -> float:
    """Linear up over the share `warm`, flat, then a line over the share `decay`.

    >>> [round(warm_stable_linear(s, steps=10, warm=0.2, decay=0.4), 3) for s in range(10)]
    [0.5, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 0.75, 0.5, 0.25]
    """
    return min(_rising(step, steps, warm), 1.0 - _fallen(step, steps, decay))


def warm_linear(step: int, *, steps: int, warm: float, floor: float = 0.0) -> float:
    """Linear up over the share `warm`, then linear to the share `floor` of the peak.

    >>> [round(warm_linear(s, steps=5, warm=0.2), 2) for s in range(5)]
    [1.0, 1.0, 0.75, 0.5, 0.25]
    >>> [round(warm_linear(s, steps=5, warm=0.2, floor=0.2), 2) for s in range(5)]
    [1.0, 1.0, 0.8, 0.6, 0.4]
    """
    up = math.ceil(warm * steps)
    return (step + 1) / up if step < up else 1.0 - (1.0 - floor) * (step - up) / max(1, steps - up)


def warm_cosine(step: int, *, steps: int, warm: float, floor: float = 0.0) -> float:
    """Linear up over the share `warm`, then half a cosine to the share `floor` of the peak.

    >>> [round(warm_cosine(s, steps=5, warm=0.2, floor=0.1), 3) for s in range(5)]
    [1.0, 1.0, 0.868, 0.55, 0.232]
    """
    up = math.ceil(warm * steps)
    if step < up:
        return (step + 1) / up
    return floor + (1.0 - floor) * (1.0 + math.cos(math.pi * (step - up) / max(1, steps - up))) / 2


def warm_constant(step: int, *, steps: int, warm: float) -> float:
    """Linear up over the share `warm`, then flat.

    >>> [warm_constant(s, steps=4, warm=0.5) for s in range(4)]
    [0.5, 1.0, 1.0, 1.0]
    """
    return _rising(step, steps, warm)


def inverse_root(step: int, *, steps: int, warm: float, rising: bool = False) -> float:
    """Flat over the share `warm`, or `rising` to the peak over it; then as one over the root of the step.

    >>> [round(inverse_root(s, steps=8, warm=0.25), 3) for s in range(8)]
    [1.0, 1.0, 0.816, 0.707, 0.632, 0.577, 0.535, 0.5]
    """
    up = max(1, math.ceil(warm * steps))
    return min((step + 1) / up if rising else 1.0, math.sqrt(up / (step + 1)))


def triangle(step: int, *, steps: int, start: float = 0.25, decay: float = 0.25) -> float:
    """Linear up from the share `start` of the peak, then a line down over the share `decay` of the steps.

    >>> [round(triangle(s, steps=8), 3) for s in range(8)]
    [0.25, 0.375, 0.5, 0.625, 0.75, 0.875, 1.0, 0.5]
    """
    at = step / steps
    up = start + (1.0 - start) * at / (1.0 - decay) if decay < 1 else 1.0
    return min(up, (1.0 - at) / decay if decay else 1.0)


def _rising(step: int, steps: int, share: float) -> float:
    up = math.ceil(share * steps)
    return min(1.0, (step + 1) / up) if up else 1.0


def _fallen(step: int, steps: int, share: float) -> float:
    """How much of the last phase is over, from 0 in its first step to 1 in the step after the last."""
    down = math.floor(share * steps)
    return max(0.0, (step - steps + down) / down) if down else 0.0


SCHEDULES: dict[str, Schedule] = {
    "warm-stable-decay": warm_stable_decay,
    "warm-stable-linear": warm_stable_linear,
    "warm-linear": warm_linear,
    "warm-cosine": warm_cosine,
    "warm-constant": warm_constant,
    "inverse-root": inverse_root,
    "triangle": triangle,
}


def parameters(name: str) -> dict[str, float | None]:
    """What a schedule takes beside the steps, with defaults; None where it must be given.

    >>> parameters("warm-linear")
    {'warm': None, 'floor': 0.0}
    """
    if name not in SCHEDULES:
        raise ValueError(f"the schedule {name!r} is not known; choose one of {', '.join(SCHEDULES)}")
    found = inspect.signature(SCHEDULES[name]).parameters.values()
    return {
        each.name: None if each.default is each.empty else each.default
        for each in found
        if each.name not in ("step", "steps")
    }


def schedule(name: str, steps: int, **given: float) -> Callable[[int], float]:
    """A schedule over so many steps: step -> factor on the peak rate.

    >>> at = schedule("warm-linear", 5, warm=0.2)
    >>> at(3)
    0.5
    """
    known = parameters(name)
    takes = ", ".join(f"{key}" if default is None else f"{key}={default}" for key, default in known.items())
    missing = [key for key, default in known.items() if default is None and key not in given]
    if missing or set(given) - set(known):
        raise ValueError(f"the schedule {name!r} was given {_told(given)}; it takes {takes}")
    if steps < 1:
        raise ValueError(f"a schedule over {steps} steps has none; give at least one")
    for key, value in given.items():
        if not 0 <= value <= 1:
            raise ValueError(f"{key} of the schedule {name!r} is {value}; give a share from 0 to 1")
    if (whole := given.get("warm", 0) + given.get("decay", 0)) > 1:
        raise ValueError(f"warm and decay of the schedule {name!r} fill {whole:g} of the run; let them fill 1 at most")
    return partial(SCHEDULES[name], steps=steps, **given)


def _told(given: Mapping[str, float]) -> str:
    return ", ".join(f"{key}={value}" for key, value in given.items()) or "nothing"
