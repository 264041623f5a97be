"""Keeps a bad step out of the weights while it happens, and says so a few steps later.

    factor = guard.look(step, loss, norm)     0-d on the device: 1, or 0 where a value is NaN, infinite or a spike
    optimizer.step(rate, factor)              with 0, neither weights nor moments change
    for verdict in guard.due(): ...           what the host learns, always of the step `lag` looks ago

A spike is a value beyond mean + `sigmas` deviations of its last `window` (OLMo-core skips such steps at 6 over 128).
Only upwards: a falling loss is no accident. The deviation counts as at least `floor` of the mean (one for each value,
or one for all), so that rounding is no spike where a loss stands still; below `least` values everything finite passes.
A spike enters the history at the height of the limit: one does not blind the guard, and a level that has changed for
good is accepted after some steps. What is not finite does not enter.

Promises: `look` never waits for the device; the host hears of every step in order and exactly `lag` looks late, so
ranks that look at the same (reduced) values decide the same in the same step; state in two tensors. Costs a ring of
numbers, and some twenty kernels over it a step. `due` waits only when the device is `lag` steps behind the host, which
also bounds how far it falls behind. Refuses a ring that is shorter than the values it wants to see first.
"""

import math
from collections import deque
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

LATE = 4  # looks, where the device works behind the host


class Verdict(NamedTuple):
    """What was seen in a step: values by name, the limit each was held to, and whether the step was taken."""

    step: int
    taken: bool
    values: dict[str, float]
    limits: dict[str, float]

    @property
    def why(self) -> str:
        """One clause per value that was not as it should be; empty for a step that was taken."""
        clauses = [
            f"the {name} is {value}" if not math.isfinite(value) else f"the {name} {value:.6g} is beyond {limit:.6g}"
            for (name, value), limit in zip(self.values.items(), self.limits.values(), strict=True)
            if not value <= limit or not math.isfinite(value)
        ]
        return "; ".join(clauses)


class Guard:
    """The last values of everything `watched`, for each of some `kinds` of steps, and what they say of the next."""

    def __init__(
        self,
        device: torch.device | str,
        *,
        watched: tuple[str, ...] = ("loss", "gradient norm"),
        window: int = 128,
        sigmas: float = 6.0,
        least: int = 64,
        floor: float | tuple[float, ...] = 1e-3,
        lag: int | None = None,
        kinds: int = 1,
    ) -> None:
        if not 2 <= least <= window:
            raise ValueError(
                f"a ring of {window} values never holds the {least} that are to be seen first; give a longer one, and "
                "at least 2"
            )
        floors = floor if isinstance(floor, tuple) else (floor,) * len(watched)
        if not watched or sigmas <= 0 or min(floors) < 0 or len(floors) != len(watched):
            raise ValueError(
                f"{len(watched)} values within {sigmas} deviations of at least {floor} of the mean are no guard; "
                "watch something, and give a number of deviations above 0"
            )
        self.device = torch.device(device)
        self.watched, self.sigmas, self.least = watched, sigmas, least
        self.lag = (LATE if self.device.type == "cuda" else 0) if lag is None else lag
        self.floor = torch.tensor(floors, dtype=torch.float64, device=self.device)
        self.ring = torch.zeros(kinds, len(watched), window, dtype=torch.float64, device=self.device)
        self.seen = torch.zeros(
            kinds, dtype=torch.int64, device=self.device
        )  # values that entered, since the beginning
        self.pending: deque[tuple[int, Tensor, Any]] = deque()

    @torch.no_grad()
    def look(self, step: int, *values: Tensor, kind: int = 0) -> Tensor:
        """1 or 0, 0-d float32 on the device: whether the step that gave these 0-d values is to be taken. Steps of one
        kind are held against one another: what is usual for one objective is a spike for another."""
        if len(values) != len(self.watched):
            raise ValueError(f"{len(values)} values were given for {', '.join(self.watched)}; give one for each")
        now = torch.stack([value.detach().reshape(()).double() for value in values])
        taken, limits = self._judged(now, self.ring[kind], self.seen[kind])
        self._tell(step, torch.cat([taken.double().reshape(1), now, limits]))
        return taken.float()

    def _judged(self, now: Tensor, ring: Tensor, seen: Tensor) -> tuple[Tensor, Tensor]:
        limits = limits_of(ring, seen, sigmas=self.sigmas, least=self.least, floor=self.floor)
        finite = now.isfinite().all()
        here = torch.arange(ring.shape[1], device=self.device) == seen % ring.shape[1]
        ring.copy_(torch.where(here & finite, torch.minimum(now, limits).unsqueeze(1), ring))
        seen.add_(finite)
        return finite & (now <= limits).all(), limits

    @torch.no_grad()
    def forget(self, kind: int = 0) -> None:
        """Everything is usual again for a kind, until enough was seen: its level is known to have changed."""
        self.seen[kind].zero_()

    def _tell(self, step: int, told: Tensor) -> None:
        if told.device.type != "cuda":
            self.pending.append((step, told, None))
            return
        host = torch.empty(told.shape, dtype=told.dtype, pin_memory=True)
        host.copy_(told, non_blocking=True)
        event = torch.cuda.Event()
        event.record()
        self.pending.append((step, host, event))

    def due(self) -> list[Verdict]:
        """Verdicts that are `lag` looks old by now, in order."""
        return [self._verdict() for _ in range(len(self.pending) - self.lag)]

    def drain(self) -> list[Verdict]:
        """All verdicts that are left: at the end, and before a checkpoint is trusted. Waits for the device."""
        return [self._verdict() for _ in range(len(self.pending))]

    def _verdict(self) -> Verdict:
        step, told, event = self.pending.popleft()
        if event is not None:
            event.synchronize()
        taken, *numbers = told.tolist()
        half = len(self.watched)
        values, limits = (dict(zip(self.watched, side, strict=True)) for side in (numbers[:half], numbers[half:]))
        return Verdict(step, bool(taken), values, limits)

    def state(self) -> dict[str, Tensor]:
        """Everything that decides what comes next, alive."""
        return {"ring": self.ring, "seen": self.seen}

    @torch.no_grad()
    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Go on from a state; verdicts that nobody heard are forgotten with the steps they were of."""
        if state["ring"].shape != self.ring.shape:
            raise ValueError(
                f"the state watched {tuple(state['ring'].shape)} kinds, values and steps, this guard "
                f"{tuple(self.ring.shape)}; give it the window it had"
            )
        self.ring.copy_(state["ring"])
        self.seen.copy_(state["seen"])
        self.pending.clear()


def limits_of(ring: Tensor, seen: Tensor, *, sigmas: float, least: int, floor: float | Tensor) -> Tensor:
    """How high the next value of each row (k,) may be, with a floor for each, (k,), or one for all; infinite before
    `least` values are there."""
    held = seen.clamp(max=ring.shape[1])
    valid = torch.arange(ring.shape[1], device=ring.device) < held
    mean = torch.where(valid, ring, 0.0).sum(1) / held.clamp(min=1)
    apart = torch.where(valid, ring - mean.unsqueeze(1), 0.0)
    deviation = (apart.square().sum(1) / (held - 1).clamp(min=1)).sqrt()
    limits = mean + sigmas * torch.maximum(deviation, floor * mean.abs())
    return torch.where(held >= least, limits, torch.inf)
