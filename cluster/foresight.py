"""Which files will be needed and when: what a cache of files may know when the order of reading is a function.

A **use** is a file and the positions at which it is needed, from one to another. A **future** is a function: from a
position to every use that ends there or later, in the order in which they begin; it may be endless. A **moment** is a
position: the files needed at it are in use together.

Promises: what is fetched and what goes for it depends on positions and sizes alone. Without looking ahead (`ahead` 0)
the files fetched are as few as can be, if all are of one size (Belady 1966: what is needed last goes first); looking
ahead costs files fetched again, never one that is needed sooner (Cao, Felten, Karlin and Li 1995, "do no harm"). Costs
a walk over the uses to come, up to `horizon` of them, each time something changes. Refuses a future that is out of
order or names a file that is not there.
"""

from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

NEVER = 1 << 62  # positions away
AHEAD = 1 << 30  # bytes: at 1 MB/s of tokens a GPU a quarter of an hour


class Use(NamedTuple):
    """A file, needed from `position` to `last`, this one included. -1: at `position` alone."""

    position: int
    file: int
    last: int = -1


Future = Callable[[int], Iterable[tuple[int, ...]]]  # each a Use, or its first two


class Span(NamedTuple):
    first: int
    name: str | None  # None: nothing that a cache holds
    last: int


class Foresight:
    """One reader's uses, from where it is. `names`: of the files; those of one name are one, None is not held.

    `slack`: how many positions after its last a file is still in use, for readers that prepare several batches at once.

    >>> ahead = Foresight(lambda position: [(0, 0, 9), (10, 1, 19), (20, 0, 29)], ["a", "b"])
    >>> ahead.move(10), ahead.now, ahead.until, ahead.distances()
    (True, {'b'}, 20, {'a': 10})
    """

    def __init__(self, future: Future, names: Sequence[str | None], position: int = 0, slack: int = 0) -> None:
        self._future, self._names, self.slack = future, names, slack
        self.horizon = 8 * len(names) + 256
        self._begin(position)

    def _begin(self, position: int) -> None:
        self.position = position
        self._source, self._ended, self._first = iter(self._future(position)), False, -NEVER
        self._current: list[Span] = []
        self._later: deque[Span] = deque()
        self._settle()

    def move(self, position: int) -> bool:
        """Go to a position; whether anything changed by it. Back by more than the slack means to begin again there."""
        if position < self.position - self.slack:
            self._begin(position)
            return True
        self.position = max(position, self.position)
        if self.position < self.until:
            return False
        self._settle()
        return True

    def insist(self, name: str) -> None:
        """A file is in use at this position though the future does not name it."""
        self._current.append(Span(self.position, name, self.position + self.slack))
        self._settle()

    def _settle(self) -> None:
        while (self._later or self._grow()) and self._later[0].first <= self.position:
            span = self._later.popleft()
            if span.last >= self.position:
                self._current.append(span)
        self._current = [span for span in self._current if span.last >= self.position]
        ends = [span.last + 1 for span in self._current]
        self.until = min([*ends, *(span.first for span in list(self._later)[:1]), NEVER])
        self.now = {span.name for span in self._current if span.name is not None}
        self._distances: dict[str, int] | None = None

    def _grow(self) -> bool:
        """Take one more use from the future; False at its end."""
        found = None if self._ended else next(self._source, None)  # type: ignore[call-overload]
        if found is None:
            self._ended = True
            return False
        use = Use(*found)
        if use.position < self._first or not 0 <= use.file < len(self._names):
            raise ValueError(
                f"the plan names file {use.file} at position {use.position} after position {self._first}, of "
                f"{len(self._names)} files; give uses in order, of files that are there"
            )
        self._first = use.position
        last = max(use.last, use.position) + self.slack
        self._later.append(Span(use.position, self._names[use.file], last))
        return True

    def _walk(self) -> Iterator[Span]:
        """Every use that begins later, in order, up to the horizon."""
        at = 0
        while at < self.horizon and (at < len(self._later) or self._grow()):
            yield self._later[at]
            at += 1

    def upcoming(self) -> Iterator[tuple[str, int]]:
        """Names and how far off they are, each once, in the order of need; 0: now."""
        seen = set(self.now)
        yield from ((name, 0) for name in sorted(seen))
        for span in self._walk():
            if span.name is not None and span.name not in seen:
                seen.add(span.name)
                yield span.name, span.first - self.position

    def distances(self) -> dict[str, int]:
        """How far off the next use is of every file that is not in use. What is not named is not seen again."""
        if self._distances is None:
            self._distances = {name: away + self.position for name, away in self.upcoming() if away}
        return {name: first - self.position for name, first in self._distances.items()}

    def moment(self, sizes: Mapping[str, int]) -> int:
        """The most bytes in use at one position, as far as the horizon."""
        most, held = 0, list(self._current)
        for span in (None, *self._walk()):
            if span is not None:
                held = [*(each for each in held if each.last >= span.first), span]
            most = max(most, sum(sizes[name] for name in {each.name for each in held} if name is not None))
        return most


def reach(ahead: int | None, moment: int, capacity: int) -> int:
    """How many bytes to look ahead where nobody said: 1 GiB or a quarter of the room, for all that is fetched ahead
    leaves less to keep; and never less than is in use at one moment, for files in use together may give way at once."""
    return max(min(AHEAD, capacity // 4), moment) if ahead is None else ahead


def next_fetch(
    ahead_of: Foresight,
    *,
    sizes: Mapping[str, int],
    whole: Mapping[str, int],
    passed: Collection[str],
    free: int,
    ahead: int,
    distances: Mapping[str, int],
    held: Collection[str],
) -> tuple[str, list[str]] | None:
    """The file to fetch now and those that go for it; None while nothing is missing or no room may be made.

    A file is fetched when there is room, or only files that are never needed again have to go for it; while fewer than
    `ahead` bytes of others are needed before it, those go that are needed later than it. `whole`: what is there, with
    sizes; `passed`: what is on its way or cannot be had; `held`: what is in use by anyone; `distances`: to the next use
    of the rest by anyone.
    """
    before = 0
    for name, away in ahead_of.upcoming():
        if name not in whole and name not in passed:
            if sizes[name] <= free:
                return name, []
            beyond = away if before < ahead or not away else NEVER - 1
            gone = victims(whole, held, distances, room=sizes[name] - free, beyond=beyond)
            return (name, gone) if gone else None
        before += sizes[name] if away else 0
    return None


def victims(
    whole: Mapping[str, int], held: Collection[str], distances: Mapping[str, int], *, room: int, beyond: int
) -> list[str]:
    """Files that go to make `room` bytes, those needed last first, none before `beyond`; empty if that is not enough.

    >>> victims({"a": 5, "b": 5, "c": 5}, {"c"}, {"a": 7, "b": 9}, room=6, beyond=3)
    ['b', 'a']
    """
    gone: list[str] = []
    for away, name in sorted(((distances.get(name, NEVER), name) for name in whole if name not in held), reverse=True):
        if room <= 0 or away <= beyond:
            break
        gone.append(name)
        room -= whole[name]
    return gone if room <= 0 else []


def merged(readers: Iterable[tuple[Collection[str], Mapping[str, int]]]) -> tuple[set[str], dict[str, int]]:
    """Of what each reader holds and how far off it needs what: all that is held, and the nearest need of the rest."""
    held: set[str] = set()
    nearest: dict[str, int] = {}
    for holds, distances in readers:
        held.update(holds)
        for name, away in distances.items():
            nearest[name] = min(away, nearest.get(name, away))
    return held, nearest
