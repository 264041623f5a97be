"""How fast a stage goes and when it will be done, from what whoever looks on was told. No clock: moments are given.

Promises: shards that were committed before the run count as done and not as work, so a resumed run tells its own rate;
one shard that drags moves neither rate nor end by more than its share of the last `WINDOW` (the end goes by the median
of workers' seconds). Costs some microseconds a shard. Refuses nothing: what cannot be known yet is None.
"""

import statistics
from collections import deque
from dataclasses import dataclass, field
from typing import NamedTuple

from tundish.cluster.verbs import Told

WINDOW = 64  # things that were done, by which rates and the end are reckoned
FEW = 3  # steps or pages before their rate is told: the first ones wait for what starts


class Seen(NamedTuple):
    """A thing that was done: when, how many were done by then, what it held, and a worker's seconds (0: unknown)."""

    moment: float
    done: int
    rows: int = 0
    size: int = 0
    seconds: float = 0.0


class Rates(NamedTuple):
    """A second: things done, rows and bytes written; None where that is not known."""

    things: float | None = None
    rows: float | None = None
    size: float | None = None


@dataclass
class Pace:
    """One stage, since it was first heard of."""

    done: int = 0
    total: int = 0
    kept: int = 0  # of those done, for which nobody worked
    workers: int = 0
    seen: deque[Seen] = field(default_factory=lambda: deque(maxlen=WINDOW))
    heard_at: float = 0.0
    moved: float = 0.0  # when it last came further

    def heard(self, moment: float, done: int, total: int, told: Told | None) -> None:
        """Take in what was told."""
        further = done - self.done
        if not self.seen or further < 0:  # what was there before is no work; a training goes back, a pass begins anew
            self.seen.clear()
            self.kept = 0
            self.seen.append(Seen(moment, done - self.kept))
        elif told is not None and told.kept:
            self.kept += further
        elif further:
            rows, size = (told.rows, sum(each.size for each in told.made)) if told else (0, 0)
            self.seen.append(Seen(moment, done - self.kept, rows, size, told.seconds if told else 0.0))
        if further or not self.heard_at:
            self.moved = moment
        self.workers = (told.workers if told else 0) or self.workers
        self.done, self.total, self.heard_at = done, total, moment

    def rates(self) -> Rates:
        """Over the last `WINDOW` things; of the time between the first and the last of them."""
        if len(self.seen) < 2:
            return Rates()
        first, *others = self.seen
        span = others[-1].moment - first.moment
        if span <= 0:
            return Rates()
        rows, size = sum(each.rows for each in others), sum(each.size for each in others)
        things = (others[-1].done - first.done) / span
        return Rates(things, rows / span if rows else None, size / span if size else None)

    def at_once(self) -> float:
        """Workers that are at it: as many as there are until each has done two shards, then what was really at work."""
        took = [each for each in self.seen if each.seconds]
        workers = max(1, self.workers)
        if len(took) < 2 * workers or (span := took[-1].moment - took[0].moment) <= 0:
            return float(workers)
        busy = sum(each.seconds for each in took[1:])  # up to the first one they had begun, and nothing ended
        return min(float(workers), max(1.0, busy / span))

    def ends(self) -> float | None:
        """When it will be done at this pace."""
        left, moment = self.total - self.done, self.heard_at
        if left <= 0:
            return moment if self.total else None
        took = [each.seconds for each in self.seen if each.seconds]
        if took:  # the last ones take a shard's time too, however many workers wait for them
            return self.moved + statistics.median(took) * max(1.0, left / self.at_once())
        rate = self.rates().things
        if not rate or self.seen[-1].done - self.seen[0].done < FEW:
            return None
        return self.moved + left / rate

    def left(self, moment: float) -> float | None:
        """Seconds until it will be done."""
        ends = self.ends()
        return None if ends is None else max(0.0, ends - moment)
