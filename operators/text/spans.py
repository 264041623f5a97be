"""Spans of tag sequences, and how many of them were found: precision, recall and F1 as seqeval 1.2.2 computes them.

    IOB2 (or BIO)     B- begins each span, I- goes on                       B-PER I-PER O B-PER
    IOB1              I- begins a span; B- where it follows one of its kind  I-PER I-PER O I-PER B-PER
    IOE2              I- until E-, which ends each span                     I-PER E-PER O E-PER
    IOBES (or BIOES)  and S- is a span of one word                          B-PER E-PER O S-PER
    BILOU             the same with L- and U-                               B-PER L-PER O U-PER

Without a scheme tags are read as conlleval.pl reads them: every tag but O belongs to a span, and a span begins wherever
it cannot go on from the word before. With one, seqeval's strict mode: what the scheme does not allow is no span, so
I-PER after O is none under IOB2. (seqeval without a scheme knows no L and U; here they are E and S in both.)

Promises: a span counts as found where sentence, start, end and kind are equal. Costs some 0.3 us a tag, and arrays of
that length. Refuses tags that are none, letters the scheme has not, and sentences of different lengths.
"""

from collections.abc import Sequence
from itertools import chain
from typing import NamedTuple

import numpy as np

from tundish.operators.tallies import Shares, Tally, averaged, comparable, shares

LETTERS = "OBIES"
SAME_AS = str.maketrans("LU", "ES")
Tags = Sequence[Sequence[str]]


class Spans(NamedTuple):
    """Each (s,) int64, in order: sentence, first word, the word behind the last, number in `kinds`, those
    there are, sorted."""

    row: np.ndarray
    start: np.ndarray
    end: np.ndarray
    kind: np.ndarray
    kinds: tuple[str, ...]


class Found(NamedTuple):
    """`each`: shares of the kinds in their order; averages are 0 where there is no span at all."""

    kinds: tuple[str, ...]
    each: Shares
    micro: Shares
    macro: Shares
    weighted: Shares


class _Rules(NamedTuple):
    """Letters, and (5, 5, 2) bool [letter before, letter here, same kind]: does a span begin here, does one go on,
    may one have ended before."""

    letters: str
    begins: np.ndarray
    goes_on: np.ndarray
    ends: np.ndarray


def _table(patterns: str) -> np.ndarray:
    """`BI=`: I after B of the same kind; `BI!`: of another; `BI`: of any; `*` is any letter."""
    table = np.zeros((5, 5, 2), bool)
    for before, here, *kind in patterns.split():
        at = [slice(None) if letter == "*" else LETTERS.index(letter) for letter in (before, here)]
        table[*at, {"=": 1, "!": 0, "": slice(None)}["".join(kind)]] = True
    return table


def _rules(letters: str, *patterns: str) -> _Rules:
    return _Rules(letters, *map(_table, patterns))


FREE = _rules("OBIESLU", "*B *I *E *S", "BI= BE= II= IE=", "**")
IOB2 = _rules("OBI", "*B", "BI= II=", "IO II! IB BO BI! BB")
IOBES = _rules("OBIES", "*B *S", "BI= BE= II= IE=", "S* E*")
SCHEMES = {
    "IOB2": IOB2,
    "BIO": IOB2,
    "IOB1": _rules("OBI", "OI II! BI IB= BB=", "BI= II=", "II! IO IB BO BI! BB="),
    "IOE2": _rules("OIE", "OI OE EI EE II! IE!", "IE= II=", "E*"),
    "IOBES": IOBES,
    "BIOES": IOBES,
    "BILOU": IOBES._replace(letters="OBILU"),
}


def spans_of(tags: Tags, scheme: str | None = None) -> Spans:
    """The spans of sentences of tags, each `O`, or a letter, a hyphen and a kind (a letter alone: the kind `_`)."""
    rules = _scheme(scheme)
    lengths = np.array([len(each) for each in tags], np.int64)
    letters, kinds, names = _read(tags, int(lengths.sum()) + len(tags), rules)
    before = np.concatenate([[0], letters])[:-1]  # O
    same = (kinds == np.concatenate([[-1], kinds])[:-1]).astype(np.int64)
    going_on = rules.goes_on[before, letters, same]
    heads = np.flatnonzero(~going_on)
    start = np.flatnonzero(rules.begins[before, letters, same])
    run, first = np.unique(np.cumsum(~going_on)[start] - 1, return_index=True)  # within a run, what begins first
    start, end = start[first], heads[run + 1]  # the O behind the last word is no span's
    whole = rules.ends[letters[end - 1], letters[end], same[end]]
    start, end = start[whole], end[whole]
    begin = np.cumsum(lengths + 1) - lengths - 1
    row = np.searchsorted(begin, start, side="right") - 1
    met, kind = np.unique(kinds[start], return_inverse=True)
    return Spans(row, start - begin[row], end - begin[row], kind, tuple(names[each] for each in met))


def tallied(truth: Tags, guesses: Tags, scheme: str | None = None) -> tuple[tuple[str, ...], Tally]:
    """The kinds of span that are present or guessed, sorted, and the counts of each."""
    kinds, sides = _sides(truth, guesses, scheme)
    return kinds, Tally(*(np.bincount(kind, minlength=len(kinds)) for _, kind in sides))


def by_sentence(truth: Tags, guesses: Tags, scheme: str | None = None) -> Tally:
    """Counts of each sentence, (n,), kinds together: what an interval over sentences is drawn from."""
    _, sides = _sides(truth, guesses, scheme)
    return Tally(*(np.bincount(row, minlength=len(truth)) for row, _ in sides))


def found(truth: Tags, guesses: Tags, scheme: str | None = None) -> Found:
    """How many of the true spans were found, by kind and over all."""
    kinds, tally = tallied(truth, guesses, scheme)
    return Found(kinds, shares(tally), *(averaged(tally, how) for how in ("micro", "macro", "weighted")))


def _sides(truth: Tags, guesses: Tags, scheme: str | None) -> tuple[tuple[str, ...], list[tuple[np.ndarray, ...]]]:
    """Kinds that occur, sorted; (sentence, number of the kind) of the spans guessed rightly, guessed, and true."""
    comparable(truth, guesses, "sentences")
    for row, (one, other) in enumerate(zip(truth, guesses, strict=True)):
        if len(one) != len(other):
            raise ValueError(
                f"sentence {row} has {len(one)} tags and {len(other)} guesses; give one guess for each of its words"
            )
    both = spans_of(truth, scheme), spans_of(guesses, scheme)
    kinds = tuple(sorted({*both[0].kinds, *both[1].kinds}))
    places = {name: at for at, name in enumerate(kinds)}
    shape = len(truth), max(map(len, truth)) + 1, max(map(len, truth)) + 1, max(1, len(kinds))
    keys = []
    for each in both:
        kind = np.array([places[name] for name in each.kinds], np.int64)[each.kind]
        keys.append(np.ravel_multi_index((each.row, each.start, each.end, kind), shape))
    sides = np.intersect1d(*keys, assume_unique=True), keys[1], keys[0]
    return kinds, [np.unravel_index(side, shape)[::3] for side in sides]


def _scheme(name: str | None) -> _Rules:
    if name is not None and str(name).upper() not in SCHEMES:
        raise ValueError(f"there is no scheme {name!r} of tags; take one of {', '.join(SCHEMES)}, or none")
    return FREE if name is None else SCHEMES[name.upper()]


def _read(tags: Tags, size: int, rules: _Rules) -> tuple[np.ndarray, np.ndarray, tuple[str, ...]]:
    """Letters and kinds (-1 for O), each (words + sentences,): an O stands behind each sentence."""
    known = {"O": 0}
    flat = chain.from_iterable((*each, "O") for each in tags)
    codes = np.fromiter((known.setdefault(tag, len(known)) for tag in flat), np.int64, size)
    parsed = [_parsed(tag, rules.letters) for tag in known]
    names = tuple(sorted({kind for letter, kind in parsed if letter}))
    places = {name: at for at, name in enumerate(names)}
    kinds = [places[kind] if letter else -1 for letter, kind in parsed]
    return np.array([letter for letter, _ in parsed], np.int64)[codes], np.array(kinds, np.int64)[codes], names


def _parsed(tag: str, letters: str) -> tuple[int, str]:
    """A tag's letter as its place in LETTERS, and its kind."""
    letter, hyphen, kind = str(tag)[:1], str(tag)[1:2], str(tag)[2:]
    if not letter or letter not in letters or hyphen not in ("", "-") or (letter == "O" and hyphen):
        raise ValueError(
            f"{tag!r} is no tag here; write O, or one of {', '.join(letters[1:])} with a kind behind it, such as "
            f"{letters[1]}-PER"
        )
    return LETTERS.index(letter.translate(SAME_AS)), kind or "_"
