"""Whose turn it is: the hosts of one part by when they may be asked, those that may be by their worth.

Promises: a host is on it once, at the earliest time anybody gave; never twice under way; of the hosts of one
registrable domain at most `CROWD` under way (they often share a machine; a domain without a key has no such limit).
Costs about 2 us a turn, 200 bytes a host that waits. Refuses nothing.
"""

import heapq
import math
from collections import Counter
from collections.abc import Callable

CROWD = 8  # hosts of a registrable domain that are asked at once
ASKED = -math.inf  # no time is earlier: a host that is due or under way is not put on again

Entry = tuple[float, float, int]  # less its worth, when it may be asked, its number


class Agenda:
    """`rank`: the worth of a host by its number. `domain`: the key of its registrable domain, None without a limit."""

    def __init__(self, rank: Callable[[int], float], domain: Callable[[int], str | None]) -> None:
        self.rank, self.domain = rank, domain
        self.heap: list[tuple[float, int]] = []  # with entries that no longer hold
        self.when: dict[int, float] = {}  # the time that holds
        self.due: list[Entry] = []
        self.crowded: dict[str, list[Entry]] = {}
        self.under_way: Counter[str] = Counter()

    def __len__(self) -> int:
        """Hosts that wait, are due or under way."""
        return len(self.when)

    def hold(self, host: int, ready: float) -> bool:
        """Put a host on, unless it is on at an earlier time; whether that changed anything."""
        known = self.when.get(host)
        if known is not None and known <= ready:
            return False
        self.when[host] = ready
        heapq.heappush(self.heap, (ready, host))
        return True

    def ripen(self, now: float) -> None:
        """Hosts whose time has come are due."""
        while self.heap and self.heap[0][0] <= now:
            ready, host = heapq.heappop(self.heap)
            if self.when.get(host) == ready:
                self.when[host] = ASKED
                heapq.heappush(self.due, (-self.rank(host), ready, host))

    def next(self) -> int | None:
        """The worthiest that is due and whose domain has room, from now on under way."""
        while self.due:
            entry = heapq.heappop(self.due)
            domain = self.domain(entry[-1])
            if domain is None:
                return entry[-1]
            if self.under_way[domain] < CROWD:
                self.under_way[domain] += 1
                return entry[-1]
            heapq.heappush(self.crowded.setdefault(domain, []), entry)
        return None

    def landed(self, host: int) -> None:
        """It is not under way any more, and off."""
        del self.when[host]
        domain = self.domain(host)
        if domain is None:
            return
        self.under_way[domain] -= 1
        if not self.under_way[domain]:
            del self.under_way[domain]
        if waiting := self.crowded.get(domain):
            heapq.heappush(self.due, heapq.heappop(waiting))
            if not waiting:
                del self.crowded[domain]

    def soonest(self) -> float | None:
        """When the first host that waits may be asked; None when none waits."""
        while self.heap and self.when.get(self.heap[0][1]) != self.heap[0][0]:
            heapq.heappop(self.heap)
        return self.heap[0][0] if self.heap else None
