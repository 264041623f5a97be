"""The plan of a training: which row every step sees, and which steps saw a row, both as functions.

    step -> numbers of consumed rows -> positions (holes left out) -> source and cursor (by the weights of the stretch)
         -> epoch and place in it -> shard and row (shards in a permuted order, rows permuted in a window of them)

A **source** is a row of shards; a **stretch** is a range of positions with one set of weights, so weights change, and
sources join a corpus that is still growing, at a position that is written down. A **hole** is a range of positions
that is never trained on (rows skipped after a loss spike).

Promises: the same on every machine and for any world size; every epoch of a source holds each of its rows once;
the position is all there is to remember, so a resume costs the same anywhere; at any time the rows in use lie in
`window` shards of each source, which is what a cache of shards can count on. Costs some integer operations a row and
one permutation of a source's shards an epoch. Refuses plans with no rows and weights for sources that are not there.
"""

import hashlib
import heapq
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from tundish.operators.model.mixture import Mixture
from tundish.operators.model.tour import Source, Tour, tour

FOREVER = 1 << 62  # a position
PARTS = 1_000_000  # given shares are read as so many parts


class Places(NamedTuple):
    """Rows of a training, each array (n,) int64; `source` counts in the plan's order, `row` in its shard."""

    position: np.ndarray
    source: np.ndarray
    epoch: np.ndarray
    shard: np.ndarray
    row: np.ndarray

    def __len__(self) -> int:  # type: ignore[override]
        return len(self.position)

    def slice(self, first: int, last: int) -> "Places":
        return Places(*(column[first:last] for column in tuple(self)))


class Use(NamedTuple):
    """A shard's rows come at positions from `first` to `last`, both included."""

    first: int
    last: int
    source: int
    shard: int


@dataclass(frozen=True)
class Stretch:
    """From position `first` on, sources come by these weights."""

    first: int
    weights: tuple[tuple[str, int], ...]


@dataclass(frozen=True)
class Plan:
    """`batches`: (first step, rows of a step from there on). `window`: shards of a source in use at once; 0: all."""

    seed: int
    sources: tuple[Source, ...]
    stretches: tuple[Stretch, ...]
    batches: tuple[tuple[int, int], ...]
    window: int = 8
    holes: tuple[tuple[int, int], ...] = ()  # [first, behind the last) positions, sorted, disjoint

    def __post_init__(self) -> None:
        known = {source.name: source.size for source in self.sources}
        for stretch in self.stretches:
            for name, _ in stretch.weights:
                if not known.get(name):
                    raise ValueError(
                        f"there is a weight for {name!r}, which has no rows; the sources are {', '.join(sorted(known))}"
                    )
        if len(known) < len(self.sources):
            raise ValueError(f"two sources of a plan have one name; give each of {sorted(known)} its own")
        if not self.stretches or self.stretches[0].first or not self.batches or self.batches[0][0]:
            raise ValueError("a plan needs a stretch at position 0 and a batch at step 0; give one of each")
        for first in ([s.first for s in self.stretches], [step for step, _ in self.batches]):
            if first != sorted(set(first)):
                raise ValueError(f"the stretches or batches of a plan begin at {first}; give them in order, each once")
        if min(rows for _, rows in self.batches) < 1:
            raise ValueError(f"batches of {self.batches} rows hold nothing; give at least one row")
        ends = [end for hole in self.holes for end in hole]
        if ends != sorted(ends) or any(first >= last for first, last in self.holes):
            raise ValueError(f"the holes {list(self.holes)} of a plan overlap or are empty; give them in order")

    # what a step sees

    def consumed(self, step: int) -> int:
        """Rows that the steps before this one saw."""
        total = 0
        for (first, rows), last in zip(self.batches, [*(f for f, _ in self.batches[1:]), step], strict=True):
            total += rows * max(0, min(last, step) - first)
        return total

    def share(self, step: int, *, world: int = 1, rank: int = 0) -> np.ndarray:
        """Positions (share,) int64 of a rank in a step. The ranks in order spell the same batch for every world size;
        a share may be empty."""
        if step < 0 or not 0 <= rank < world:
            raise ValueError(f"there is no rank {rank} of {world} in step {step}; give a rank below the world size")
        first = self.consumed(step)
        size = self.consumed(step + 1) - first
        return self._around(np.arange(first + size * rank // world, first + size * (rank + 1) // world, dtype=np.int64))

    def _around(self, consumed: np.ndarray) -> np.ndarray:
        """Positions of rows by their number among those that are not skipped."""
        positions = consumed.copy()
        for first, last in self.holes:
            positions[positions >= first] += last - first
        return positions

    def places(self, positions: np.ndarray) -> Places:
        """Where the rows at these positions (n,) lie."""
        found = Places(positions, *(np.empty(len(positions), np.int64) for _ in Places._fields[1:]))
        which = np.searchsorted([stretch.first for stretch in self.stretches], positions, "right") - 1
        for number in np.unique(which):
            stretch, mixture, bases = self._legs[number]
            here = np.flatnonzero(which == number)
            side, cursors = mixture.split(positions[here] - stretch.first)
            for each in np.unique(side):
                index, chosen = self._index[stretch.weights[each][0]], side == each
                mine = here[chosen]
                found.source[mine] = index
                epoch, shard, row = self._rows(index, cursors[chosen] + bases[index])
                found.epoch[mine], found.shard[mine], found.row[mine] = epoch, shard, row
        return found

    @cached_property
    def _index(self) -> dict[str, int]:
        return {source.name: number for number, source in enumerate(self.sources)}

    @cached_property
    def _legs(self) -> list[tuple[Stretch, Mixture, list[int]]]:
        """Each stretch with its mixture, and how many rows of every source came before it."""
        legs, bases = [], [0] * len(self.sources)
        for number, stretch in enumerate(self.stretches):
            mixture = Mixture([weight for _, weight in stretch.weights])
            legs.append((stretch, mixture, list(bases)))
            if number + 1 < len(self.stretches):
                counts = mixture.counts(self.stretches[number + 1].first - stretch.first)
                for (name, _), count in zip(stretch.weights, counts, strict=True):
                    bases[self._index[name]] += count
        return legs

    def _rows(self, index: int, cursors: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        epochs, within = np.divmod(cursors, self.sources[index].size)
        shards, rows = np.empty_like(within), np.empty_like(within)
        for epoch in np.unique(epochs):
            here = np.flatnonzero(epochs == epoch)
            shards[here], rows[here] = self._tour(index, int(epoch)).rows(within[here])
        return epochs, shards, rows

    def _tour(self, index: int, epoch: int) -> Tour:
        return tour(self.sources[index], self.seed, epoch, self.window)

    # which steps saw a row

    def steps(self, source: int, shard: int, row: int, *, until: int) -> list[int]:
        """The steps before `until` that saw a row, ascending; none for one that fell into a hole."""
        size = self.sources[source].size
        end = int(self._around(np.array([self.consumed(until)]))[0])
        found: list[int] = []
        for stretch, mixture, bases in self._legs:
            names = [name for name, _ in stretch.weights]
            if stretch.first >= end or self.sources[source].name not in names:
                continue
            side = names.index(self.sources[source].name)
            following = [leg.first for leg in self.stretches if leg.first > stretch.first]
            length = min([end, *following]) - stretch.first
            first, last = bases[source], bases[source] + mixture.counts(length)[side]
            for epoch in range(first // size, -(-last // size)):
                cursor = epoch * size + self._tour(source, epoch).place(shard, row)
                if first <= cursor < last:
                    place = int(mixture.place(side, np.array([cursor - first]))[0])
                    found += self._step_at(stretch.first + place)
        return [step for step in sorted(found) if step < until]

    def _step_at(self, position: int) -> list[int]:
        consumed = position
        for first, last in self.holes:
            if first <= position < last:
                return []
            consumed -= last - first if position >= last else 0
        for number, (step, rows) in reversed(list(enumerate(self.batches))):
            before = self.consumed(step)
            if consumed >= before or not number:
                return [step + (consumed - before) // rows]
        raise AssertionError("a plan has a batch at step 0")

    # how it goes on

    def cursors(self, position: int) -> list[int]:
        """How many rows of every source come before a position."""
        stretch, mixture, bases = [leg for leg in self._legs if leg[0].first <= position][-1]
        found = list(bases)
        for (name, _), count in zip(stretch.weights, mixture.counts(position - stretch.first), strict=True):
            found[self._index[name]] += count
        return found

    def runs_out(self) -> int:
        """The position at which the last stretch has given as many rows as its weights sum to; FOREVER for one in
        which every source weighs its rows: then epoch follows upon epoch."""
        last = self.stretches[-1]
        if dict(last.weights) == {source.name: source.size for source in self.sources if source.size}:
            return FOREVER
        return last.first + sum(weight for _, weight in last.weights)

    # which shards are used when

    def uses(self, first: int, last: int) -> Iterator[Use]:
        """The spans of positions in [first, last) in which each shard is used, in the order in which they begin: what a
        cache of shards can know beforehand."""
        for number, (stretch, mixture, bases) in enumerate(self._legs):
            end = min(last, self._legs[number + 1][0].first if number + 1 < len(self._legs) else last)
            start = max(first, stretch.first)
            if start < end:
                sides = (
                    self._spans(stretch, mixture, side, bases[self._index[name]], (start, end))
                    for side, (name, _) in enumerate(stretch.weights)
                )
                yield from heapq.merge(*sides)

    def _spans(
        self, stretch: Stretch, mixture: Mixture, side: int, base: int, between: tuple[int, int]
    ) -> Iterator[Use]:
        """The uses of one source's shards by one stretch, between two positions."""
        index = self._index[stretch.weights[side][0]]
        size = self.sources[index].size
        cursor, end = (base + mixture.counts(place - stretch.first)[side] for place in between)
        while cursor < end:
            epoch, within = divmod(cursor, size)
            shards, stops = self._tour(index, epoch).around(within)
            behind = min(end, epoch * size + stops)
            places = mixture.place(side, np.array([cursor - base, behind - 1 - base])) + stretch.first
            for shard in shards:
                yield Use(int(places[0]), int(places[1]), index, shard)
            cursor = behind

    # as it is written down

    def plain(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def of(cls, plain: Mapping[str, Any]) -> "Plan":
        return cls(
            plain["seed"],
            tuple(Source(each["name"], tuple(each["rows"]), each["digest"]) for each in plain["sources"]),
            tuple(Stretch(s["first"], tuple((name, w) for name, w in s["weights"])) for s in plain["stretches"]),
            tuple((step, rows) for step, rows in plain["batches"]),
            plain["window"],
            tuple((first, last) for first, last in plain["holes"]),
        )

    def until(self, step: int) -> "Plan":
        """What of the plan decides the steps before this one: a plan may grow behind it and stay the same training."""
        end = int(self._around(np.array([self.consumed(step) - 1]))[0]) + 1 if step else 0
        stretches = tuple(stretch for stretch in self.stretches if stretch.first < end) or self.stretches[:1]
        named = {name for stretch in stretches for name, _ in stretch.weights}
        return replace(
            self,
            sources=tuple(source for source in self.sources if source.name in named),
            stretches=stretches,
            batches=tuple(batch for batch in self.batches if batch[0] < max(1, step)),
            holes=tuple(hole for hole in self.holes if hole[0] < end),
        )

    @cached_property
    def digest(self) -> str:
        return hashlib.sha256(json.dumps(self.plain(), sort_keys=True).encode()).hexdigest()


def onward(plan: Plan, position: int, fresh: Sequence[Source] = ()) -> Plan:
    """The plan with further sources, and a stretch from `position` on in which those that were seen least often are
    seen until none is behind: each weighs what it owes, so all are done together (`runs_out`)."""
    cursors = plan.cursors(position)
    sources = (*plan.sources, *fresh)
    known = [(s, c) for s, c in zip(sources, [*cursors, *(0 for _ in fresh)], strict=True) if s.size]
    turn = min(cursor // source.size for source, cursor in known)
    owed = tuple((s.name, s.size * (turn + 1) - c) for s, c in known if c // s.size == turn)
    kept = tuple(stretch for stretch in plan.stretches if stretch.first < position)
    return replace(plan, sources=sources, stretches=(*kept, Stretch(position, owed)))


def weights_of(sources: Sequence[Source], shares: Mapping[str, float] | None = None) -> tuple[tuple[str, int], ...]:
    """Weights as whole numbers: the given shares, or each source by its rows, so that an epoch holds every row once."""
    sizes = {source.name: source.size for source in sources if source.size}
    if shares is None:
        if not sizes:
            raise ValueError("there are no rows to train on; give a corpus that holds tokens")
        return tuple(sizes.items())
    for name, share in shares.items():
        if not sizes.get(name):
            raise ValueError(f"there is a weight for {name!r}, which has no rows; the sources are {', '.join(sizes)}")
        if not 1e-100 < share < 1e100:
            raise ValueError(f"the weight of {name!r} is {share}; give a positive number, or leave the source out")
    total = sum(shares.values())
    if not total:
        raise ValueError("no source has a weight; give at least one of them one")
    return tuple((name, max(1, round(PARTS * share / total))) for name, share in shares.items())
