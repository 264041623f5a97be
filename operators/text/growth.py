"""Which pieces a vocabulary lacks for some texts: runs of its own pieces that stand side by side within words.

A run that became one piece would save a token less than it has parts wherever it occurs; that is all the evidence there
is to choose by. Of pieces that share a place only one can stand there, so the best of an estimate are tried, and those
that serve best in a real encoding are kept. The parts of a piece are the old ids it takes the place of, for a model's
new row to begin with (their mean: Gee et al., arXiv 2402.09977; Hewitt's note of 2021 on new word embeddings).

Promises: a piece is letters of one script, or signs that are neither letters nor digits, as SentencePiece's own trainer
has it (`split_by_unicode_script`, `split_digits`), with the mark of a word's beginning or without; it occurs at least
twice. Costs some 3 us a distinct word. Refuses nothing.
"""

import math
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import pairwise

import numpy as np
from fontTools.unicodedata import script

from tundish.operators.text.exact_model import STEP
from tundish.operators.text.script import NOBODYS

LONGEST = 24  # characters of a piece: technical words, not phrases of scripts without spaces
SEEN = 2  # times a piece occurs at least
MOST = 1 << 21  # runs of one length that are counted at once: some 400 MB
TRIED = 4  # times as many candidates as pieces wanted are tried
MARK = "\u2581"
TOGETHER = dict.fromkeys(("Hira", "Kana", "Hani"), "Jpan")  # SentencePiece takes them for one script
Ids = tuple[int, ...]
Words = Mapping[Ids, int]


@dataclass(frozen=True)
class Piece:
    """A piece to be: how the vocabulary names it, the old ids it stands for, and how often they do."""

    name: str
    parts: Ids
    count: int

    @property
    def saved(self) -> int:
        return self.count * (len(self.parts) - 1)


@dataclass(frozen=True)
class Spelling:
    """How a vocabulary names its pieces. `names`: of each id, "" for what joins nothing; `known`: every name, to its
    id; `bytes`: id -> the byte it spells; `prefix`: what continues a word (`##`); `suffix`: what ends one (`</w>`);
    `level`: names are bytes, each by the sign it has in byte-level BPE."""

    names: Sequence[str]
    known: Mapping[str, int]
    bytes: Mapping[int, int] = field(default_factory=dict)
    prefix: str = ""
    suffix: str = ""
    level: Mapping[str, int] | None = None

    def joined(self, one: str, other: str) -> str:
        """The name of two neighbours as one."""
        return one + other[len(self.prefix) :]

    def name(self, ids: Ids) -> str:
        """What a run of ids would be called; "" where that is no text."""
        if self.bytes.keys().isdisjoint(ids):
            own = [self.names[one] for one in ids]
            return own[0] + "".join(name[len(self.prefix) :] for name in own[1:]) if all(own) else ""
        none = b"\xff"  # of no text
        spelt = (bytes([self.bytes[one]]) if one in self.bytes else self.names[one].encode() or none for one in ids)
        try:
            return b"".join(spelt).decode()
        except UnicodeDecodeError:
            return ""

    def fits(self, name: str) -> bool:
        """Whether a name may be a piece."""
        if self.level is not None:
            raw = bytes(self.level.get(sign, 0) for sign in name)
            return fits(raw.decode(errors="ignore").removeprefix(" "), len(raw))
        return fits(name.removeprefix(self.prefix).removeprefix(MARK).removesuffix(self.suffix))


def fits(text: str, size: int = 0) -> bool:
    """Whether a text (the mark of a beginning aside) is letters of one script, or signs alone, and at most LONGEST.

    `size`: its bytes, where some of them may be no whole character.

    >>> fits("cardiology"), fits("don't"), fits("()"), fits("2019"), fits("мирmir"), fits("東京タワー")
    (True, False, True, False, False, True)
    """
    if not 0 < len(text) <= LONGEST:
        return not text and 0 < size <= 4
    kinds = {_kind(sign) for sign in text} - {"any"}
    return len(kinds) <= 1 and "no" not in kinds


@lru_cache(maxsize=1 << 16)
def _kind(sign: str) -> str:
    """Script of a letter, `sign`, `any` for marks and letters of no script, `no` for what no piece holds."""
    category = unicodedata.category(sign)
    if category[0] in "LM":
        own = script(sign)
        return "any" if own in NOBODYS else TOGETHER.get(own, own)
    return "no" if category[0] in "NCZ" or sign == MARK else "sign"


def words(ids: np.ndarray, begins: np.ndarray) -> Counter[Ids]:
    """How often each word occurs, as ids: a word ends where the next begins."""
    places = np.append(np.flatnonzero(begins), len(ids)).tolist()
    raw = ids.astype("<u4").tobytes()
    found = Counter(raw[4 * a : 4 * b] for a, b in pairwise(places))
    return Counter({tuple(np.frombuffer(key, "<u4").tolist()): count for key, count in found.items()})


def runs(found: Words, spelling: Spelling) -> list[Piece]:
    """Every run within a word that may be a piece and is none, those that save most first."""
    ways: dict[str, Counter[Ids]] = defaultdict(Counter)
    often: set[Ids] = set()
    for size in range(2, LONGEST + 1):
        level = _level(found, size, often)
        often = {run for run, count in level.items() if count >= SEEN}
        for run in often:
            name = spelling.name(run)
            if name and name not in spelling.known and spelling.fits(name):
                ways[name][run] = level[run]
        if not often:
            break
    pieces = [_piece(name, own) for name, own in ways.items()]
    return sorted((one for one in pieces if one.count >= SEEN), key=lambda one: (-one.saved, one.name))


def _level(found: Words, size: int, often: set[Ids]) -> Counter[Ids]:
    """How often runs of so many ids occur, of those whose beginning and end do more than once: without spaces a word is
    as long as its paragraph, and nearly all of its runs are there once. Where they are too many all the same, those
    seen once so far are forgotten (Manku and Motwani 2002, lossy counting)."""
    level: Counter[Ids] = Counter()
    most = MOST
    for word, count in found.items():
        for start in range(len(word) - size + 1):
            run = word[start : start + size]
            if size == 2 or (run[:-1] in often and run[1:] in often):
                level[run] += count
        if len(level) > most:
            level = Counter({run: seen for run, seen in level.items() if seen > 1})
            most = max(MOST, 2 * len(level))
    return level


def _piece(name: str, ways: Mapping[Ids, int]) -> Piece:
    """The parts it has most often, the fewest where that is even; it occurs however it was cut."""
    parts = min(ways, key=lambda way: (-ways[way], len(way), way))
    return Piece(name, parts, sum(ways.values()))


def scores(pieces: Sequence[Piece], total: int, old: np.ndarray, normal: np.ndarray) -> list[float]:
    """Of a unigram vocabulary: the log of a piece's share of the tokens, as its own are, and above the sum of its
    parts, so that the best path takes it; never below the lowest of the `normal` ones, which decides what is unknown.

    Multiples of 1/64, for sums to be exact (operators/text/exact_model).
    """
    lowest = float(old[normal].min())
    found = []
    for one in pieces:
        least = float(old[[*one.parts]].sum()) + STEP if normal[[*one.parts]].all() else lowest
        found.append(math.ceil(max(math.log(one.count / total), least, lowest) / STEP) * STEP)
    return found


def chosen(pool: Sequence[Piece], most: int, used: Callable[[Sequence[Piece]], np.ndarray]) -> list[Piece]:
    """The pieces that save most when they are used: candidates are halved, by what they save beside each other.

    `used`: how often each of some pieces occurs when all of them are in the vocabulary. Fewer come back where no more
    are of use.
    """

    def serving(some: Sequence[Piece]) -> list[Piece]:
        saved = [int(count) * (len(one.parts) - 1) for count, one in zip(used(some), some, strict=True)]
        ranked = sorted(zip(saved, some, strict=True), key=lambda pair: (-pair[0], pair[1].name))
        return [one for much, one in ranked if much]

    useful: list[Piece] = []
    for first in range(0, len(pool), TRIED * most):
        useful = serving([*useful, *pool[first : first + TRIED * most]])
        if len(useful) >= most:
            break
    while len(useful) // 2 > most and len(fewer := serving(useful[: len(useful) // 2])) >= most:
        useful = fewer
    return useful[:most]
