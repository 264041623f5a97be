"""Byte-pair encoding that goes on: merges behind those a vocabulary has, learned from the words it has cut.

The two neighbours that stand side by side most often become one piece, again and again, from where the vocabulary's own
merges ended: each takes as many tokens away as it was counted. A vocabulary learned anew and poured in has pieces that
no merge leads to (Purason et al., arXiv 2512.03989, who call this continued BPE training). A character that is spelt in
bytes is no merge: it becomes a piece where that saves more than the best merge.

Promises: every piece is made of two that are there before it, so it is reached; a text in which the letters of no new
piece stand is merged as ever, for two old pieces never become another old one. Costs some seconds for a million
distinct words.
"""

import heapq
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping
from itertools import pairwise

from tundish.operators.text.growth import SEEN, Ids, Piece, Spelling, Words

Pair = tuple[int, int]


class Merges:
    """Words as symbols (ids, and from `first` on pieces to be), and how often each two neighbours stand together.

    `pieces`: what was learned, in order; `rules`: which two names become one, in order of rank.
    """

    def __init__(self, found: Words, spelling: Spelling, first: int) -> None:
        self.spelling, self.known, self.first = spelling, dict(spelling.known), first
        self.pieces: list[Piece] = []
        self.rules: dict[tuple[str, str], None] = {}
        self.rows = [list(word) for word in found]
        self.often = list(found.values())
        self.counts: Counter[str] = Counter()  # by what two neighbours would be called
        self.where: dict[str, set[int]] = defaultdict(set)
        self._made: dict[Pair, str] = {}
        for row in range(len(self.rows)):
            self._take(row, 1)

    def learn(self, most: int) -> list[Piece]:
        """Up to so many pieces, each the one that saves most when its turn comes."""
        letters, rows = _characters(self.rows, self.often, self.spelling)
        heap = [(-count, name) for name, count in self.counts.items()]
        heapq.heapify(heap)
        while len(self.pieces) < most:
            while heap and -heap[0][0] != self.counts[heap[0][1]]:
                heapq.heappop(heap)  # its count changed, and another entry says so
            best = -heap[0][0] if heap else 0
            if letters and letters[-1].saved >= max(best, SEEN):
                changed = self._spell(letter := letters.pop(), rows[letter.parts])
            elif best >= SEEN:
                changed = self._merge(heapq.heappop(heap)[1])
            else:
                break
            for name in sorted(changed):
                heapq.heappush(heap, (-self.counts[name], name))
        return self.pieces

    def _merge(self, name: str) -> set[str]:
        rows = sorted(self.where.pop(name))
        pair = next(pair for row in rows for pair in pairwise(self.rows[row]) if self._joined(pair) == name)
        self._add(Piece(name, (*self._parts(pair[0]), *self._parts(pair[1])), self.counts[name]))
        return self._change(rows, self._settled)

    def _spell(self, letter: Piece, rows: list[int]) -> set[str]:
        new = self._add(letter)

        def spelt(symbols: list[int]) -> list[int]:
            while (at := _place(symbols, letter.parts)) is not None:
                symbols[at : at + len(letter.parts)] = [new]
            return self._settled(symbols)

        return self._change(sorted(set(rows)), spelt)

    def _add(self, piece: Piece) -> int:
        self.known[piece.name] = self.first + len(self.pieces)
        self.pieces.append(piece)
        return self.known[piece.name]

    def _change(self, rows: list[int], made: Callable[[list[int]], list[int]]) -> set[str]:
        changed: set[str] = set()
        for row in rows:
            changed.update(self._take(row, -1))
            self.rows[row] = made(self.rows[row])
            changed.update(self._take(row, 1))
        return {name for name in changed if self.counts[name] >= SEEN}

    def _take(self, row: int, sign: int) -> list[str]:
        """Count the neighbours of a row in (1) or out (-1); what they would be called."""
        names = [name for pair in pairwise(self.rows[row]) if (name := self._joined(pair))]
        for name in names:
            self.counts[name] += sign * self.often[row]
            if sign > 0:
                self.where[name].add(row)
        return names

    def _settled(self, symbols: list[int]) -> list[int]:
        """Merge what spells a piece, as long as something does."""
        at = 0
        while at < len(symbols) - 1:
            pair = (symbols[at], symbols[at + 1])
            name = self._joined(pair)
            if name and name in self.known:
                self.rules[self._name(pair[0]), self._name(pair[1])] = None
                symbols[at : at + 2] = [self.known[name]]
                at = max(0, at - 1)
            else:
                at += 1
        return symbols

    def _joined(self, pair: Pair) -> str:
        """What two symbols would be called, where they may merge; else empty."""
        if pair not in self._made:
            left, right = map(self._name, pair)
            name = self.spelling.joined(left, right) if left and right else ""
            old = self.known.get(name, self.first) < self.first and max(pair) < self.first
            self._made[pair] = "" if old or not name or not self.spelling.fits(name) else name
        return self._made[pair]

    def _name(self, symbol: int) -> str:
        return self.pieces[symbol - self.first].name if symbol >= self.first else self.spelling.names[symbol]

    def _parts(self, symbol: int) -> Ids:
        return self.pieces[symbol - self.first].parts if symbol >= self.first else (symbol,)


def _characters(
    rows: list[list[int]], often: list[int], spelling: Spelling
) -> tuple[list[Piece], dict[Ids, list[int]]]:
    """Characters that are spelt in bytes, those that save most last; and the rows they are in."""
    counts: Counter[Ids] = Counter()
    where: dict[Ids, list[int]] = defaultdict(list)
    if spelling.bytes:
        for row, symbols in enumerate(rows):
            for run in _spelt(symbols, spelling.bytes):
                counts[run] += often[row]
                where[run].append(row)
    found = [Piece(spelling.name(run), run, count) for run, count in counts.items() if count >= SEEN]
    return sorted((one for one in found if spelling.fits(one.name)), key=lambda one: (one.saved, one.name)), where


def _spelt(symbols: list[int], bytes_: Mapping[int, int]) -> Iterator[Ids]:
    """The runs of bytes in a word that are one character each."""
    at = 0
    while at < len(symbols):
        lead = bytes_.get(symbols[at], 0)
        size = 4 if lead >= 0xF0 else 3 if lead >= 0xE0 else 2 if lead >= 0xC0 else 1
        run = tuple(symbols[at : at + size])
        if size > 1 and len(run) == size and all(0x80 <= bytes_.get(one, 0) < 0xC0 for one in run[1:]):
            yield run
            at += size
        else:
            at += 1


def _place(symbols: list[int], run: Ids) -> int | None:
    return next((at for at in range(len(symbols) - len(run) + 1) if tuple(symbols[at : at + len(run)]) == run), None)
