"""What a cache will do, worked out before anything is read: bytes, rates, stalls, and how large it should be.

Promises: the decisions are those of the cache itself (`foresight.next_fetch`), on a clock that is only counted: for the
same uses, sizes, capacity and `ahead`, with nobody else in the folder, it fetches and evicts what a cache does whose
files come in time. The cache begins empty; one link of `bandwidth` brings file after file, and a request by itself
costs nothing. Costs about a millisecond a use. Refuses what the cache refuses.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from tundish.cluster.fetch import Entry
from tundish.cluster.foresight import Foresight, Future, Use, next_fetch, reach

WINDOW = 60.0  # seconds over which the worst rate is taken


@dataclass(frozen=True)
class Rehearsal:
    """Sizes in bytes, rates in bytes a second. A hit is a use whose file was there from an earlier one."""

    seconds: float  # of reading and waiting
    files: int  # different ones that are used
    distinct: int  # their bytes
    hits: int
    misses: int
    bytes: int  # fetched
    evictions: int
    mean: float  # what has to come after the start so that nothing waits
    worst: float  # the same in the worst window, were everything to come when it is needed
    steady: float  # what is enough, fetching ahead, for nothing to wait after the start
    startup: float  # seconds until the first position can be read
    first_stall: float | None  # seconds of reading until something was waited for
    stall_seconds: float
    moment: int  # the least capacity that works at all
    keeping: int  # a capacity at which nothing is fetched twice

    @property
    def hit_rate(self) -> float:
        return self.hits / max(1, self.hits + self.misses)


def rehearsal(
    future: Future,
    files: Sequence[Entry],
    capacity: int,
    *,
    rate: float,
    bandwidth: float,
    until: int,
    position: int = 0,
    ahead: int | None = None,
    window: float = WINDOW,
) -> Rehearsal:
    """Read from `position` up to `until`, without it, at `rate` positions a second."""
    if rate <= 0 or bandwidth <= 0 or until <= position:
        raise ValueError(
            f"nothing can be rehearsed from {position} to {until} at {rate} rows and {bandwidth} bytes a second; "
            "give a later end and positive rates"
        )

    def ending(first: int) -> Iterator[Use]:
        for each in future(first):
            use = Use(*each)
            if use.position >= until:
                return
            yield use

    names = [entry.digest for entry in files]
    sizes = {entry.digest: entry.size for entry in files}
    moment = max(Foresight(ending, names, position).moment(sizes), max(sizes.values(), default=0))
    if moment > capacity:
        raise ValueError(
            f"a cache of {capacity:,} bytes is too small: files in use at one moment of the plan have {moment:,} "
            "bytes; give it at least as much"
        )
    ahead = reach(ahead, moment, capacity)

    def run_at(bandwidth: float) -> _Run:
        return _Run(Foresight(ending, names, position), sizes, capacity, ahead, rate, bandwidth, until)

    run = run_at(bandwidth)
    spans = _spans(ending(position), names)
    needs = [(first, size) for first, size in run.needs if first > position]
    seconds = (until - position) / rate
    width = min(window, seconds)
    mean = sum(size for _, size in needs) / seconds
    return Rehearsal(
        seconds=run.clock,
        files=len(spans),
        distinct=sum(sizes[name] for name in spans),
        hits=run.hits,
        misses=len(run.needs),
        bytes=run.bytes,
        evictions=run.evictions,
        mean=mean,
        worst=_most(needs, width * rate) / width,
        steady=_steady(run_at, mean),
        startup=run.startup,
        first_stall=run.first_stall,
        stall_seconds=run.stalled,
        moment=moment,
        keeping=_keeping(Foresight(ending, names, position), spans, sizes, ahead, until),
    )


class _Run:
    """A cache on paper, read to the end."""

    def __init__(
        self,
        future: Foresight,
        sizes: dict[str, int],
        capacity: int,
        ahead: int,
        rate: float,
        bandwidth: float,
        until: int,
    ) -> None:
        self.future, self.sizes, self.capacity, self.ahead = future, sizes, capacity, ahead
        self.rate, self.bandwidth = rate, bandwidth
        self.whole: dict[str, int] = {}
        self.fresh: set[str] = set()
        self.used: set[str] = set()  # in use since an earlier position
        self.coming: tuple[float, str] | None = None  # when it is here, and what
        self.needs: list[tuple[int, int]] = []  # positions and sizes of the misses
        self.clock = self.stalled = self.startup = 0.0
        self.first_stall: float | None = None
        self.hits = self.bytes = self.evictions = 0
        self._read(until)

    def _read(self, until: int) -> None:
        begun, at = False, float(self.future.position)
        while at < until:
            self._fetch()
            if not self.future.now <= self.whole.keys():
                assert self.coming is not None, "a moment that fits can be fetched"
                self._wait(begun)
                continue
            begun = True
            self._use()
            following = min(self.future.until, until)
            arrives = self.coming[0] if self.coming else float("inf")
            turns = self.clock + (following - at) / self.rate
            if arrives <= turns:
                at += (arrives - self.clock) * self.rate
                self.clock = arrives
                self._arrive()
            else:
                at, self.clock = float(following), turns
                self.future.move(following)

    def _fetch(self) -> None:
        """Begin with what a cache would begin with, while the link is free."""
        while self.coming is None:
            chosen = next_fetch(
                self.future,
                sizes=self.sizes,
                whole=self.whole,
                passed=(),
                free=self.capacity - sum(self.whole.values()),
                ahead=self.ahead,
                distances=self.future.distances(),
                held=self.future.now,
            )
            if chosen is None:
                return
            name, gone = chosen
            for each in gone:
                del self.whole[each]
            self.evictions += len(gone)
            self.bytes += self.sizes[name]
            self.coming = self.clock + self.sizes[name] / self.bandwidth, name
            if self.coming[0] == self.clock:
                self._arrive()

    def _arrive(self) -> None:
        assert self.coming is not None
        name, self.coming = self.coming[1], None
        self.whole[name] = self.sizes[name]
        self.fresh.add(name)

    def _wait(self, begun: bool) -> None:
        assert self.coming is not None
        waited = self.coming[0] - self.clock
        if begun:
            self.first_stall = self.clock - self.startup if self.first_stall is None else self.first_stall
            self.stalled += waited
        else:
            self.startup += waited
        self.clock = self.coming[0]
        self._arrive()

    def _use(self) -> None:
        for name in sorted(self.future.now - self.used):
            if name in self.fresh:
                self.fresh.discard(name)
                self.needs.append((self.future.position, self.sizes[name]))
            else:
                self.hits += 1
        self.used = set(self.future.now)


def _steady(run_at: Callable[[float], _Run], mean: float) -> float:
    """The least bandwidth at which nothing waits after the start, to 2 %; infinite where files have no room ahead."""
    low, high = 0.0, mean
    while high and run_at(high).first_stall is not None:
        low, high = high, high * 2
        if high > mean * 1024:
            return float("inf")
    while low and high > low * 1.02:
        middle = (low * high) ** 0.5
        low, high = (low, middle) if run_at(middle).first_stall is None else (middle, high)
    return high


def _spans(uses: Iterator[Use], names: Sequence[str]) -> dict[str, tuple[int, int]]:
    """Where each file is used first and last."""
    spans: dict[str, tuple[int, int]] = {}
    for use in uses:
        first, last = spans.get(names[use.file], (use.position, 0))
        spans[names[use.file]] = first, max(last, use.last, use.position)
    return spans


def _most(needs: Sequence[tuple[int, int]], width: float) -> int:
    """The most bytes needed within so many positions."""
    most = held = start = 0
    for first, size in needs:
        held += size
        while needs[start][0] <= first - width:
            held -= needs[start][1]
            start += 1
        most = max(most, held)
    return most


def _keeping(
    future: Foresight, spans: dict[str, tuple[int, int]], sizes: dict[str, int], ahead: int, until: int
) -> int:
    """What is needed again and what is fetched ahead, at the position where both together are most."""
    most = 0
    while future.position < until:
        here = future.position
        kept = {name for name, (first, last) in spans.items() if first <= here <= last}
        before = 0
        for name, away in future.upcoming():
            if away and before >= ahead:
                break
            kept.add(name)
            before += sizes[name] if away else 0
        most = max(most, sum(sizes[name] for name in kept))
        future.move(future.until)
    return most


def table(found: Rehearsal, capacity: int, bandwidth: float) -> str:
    """For people."""
    size, large = _unit(found.bytes)
    rate, fast = min(_unit(found.mean * 10), ("MB", 1e6), key=lambda unit: unit[1])
    waits = "none" if found.first_stall is None else f"after {_time(found.first_stall)}"
    steady = f"{found.steady / fast:,.1f} {rate}/s is enough" if found.steady < float("inf") else "no rate is enough"
    again, keeping = (found.bytes - found.distinct) / large, found.keeping / large
    lines = [
        ("read", f"{found.files:,} files, {found.distinct / large:,.2f} {size}, in {_time(found.seconds)}"),
        ("fetched", f"{found.bytes / large:,.2f} {size}, {again:,.2f} of them again; {found.evictions:,} evictions"),
        ("hit rate", f"{found.hit_rate:.1%} of {found.hits + found.misses:,} uses"),
        ("needed", f"{found.mean / fast:,.1f} {rate}/s on average, {found.worst / fast:,.1f} in the worst minute"),
        ("there is", f"{bandwidth / fast:,.1f} {rate}/s; fetched ahead, {steady}"),
        ("start-up", _time(found.startup)),
        ("first stall", f"{waits}; {_time(found.stall_seconds)} waited in all"),
        (
            "cache",
            f"{capacity / large:,.2f} {size}; at least {found.moment / large:,.2f}, nothing twice at {keeping:,.2f}",
        ),
    ]
    return "\n".join(f"{name:<12} {value}" for name, value in lines)


def _unit(size: float) -> tuple[str, float]:
    """The unit in which an amount is told.

    >>> _unit(3e8)[0], _unit(5e6)[0], _unit(0)[0]
    ('GB', 'MB', 'kB')
    """
    return next(((name, unit) for name, unit in (("GB", 1e9), ("MB", 1e6)) if size >= unit / 10), ("kB", 1e3))


def _time(seconds: float) -> str:
    """
    >>> _time(0.25), _time(75), _time(7300)
    ('0.2 s', '1 min 15 s', '2 h 1 min')
    """
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"
