"""Tags of words: in which scheme they are written, and what is odd about them.

    IOB2     B- begins every entity (Tjong Kim Sang and Veenstra 1999: also BIO)
    IOB1     B- only where an entity follows one of its own type (Ramshaw and Marcus 1995); IO: never
    IOBES    S- is an entity of one word, E- ends a longer one; BILOU: U- and L- in their place (Ratinov and Roth 2009)
    plain    no such prefixes: every word has its class

Promises: a function of the tags alone. In IOB2, IOBES and BILOU an I- that continues nothing is told, with how many and
where the first is, and left as it is. Refuses nothing.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

OUTSIDE = "O"
PREFIXES = "BIESLU"
SCHEMES = {"BIES": "IOBES", "BILU": "BILOU"}


def parted(tag: str) -> tuple[str, str]:
    """(prefix, type); no prefix for what is none.

    >>> parted("B-creative-work"), parted("O"), parted("NN"), parted("S-")
    (('B', 'creative-work'), ('', 'O'), ('', 'NN'), ('', 'S-'))
    """
    if len(tag) > 2 and tag[1] in "-_" and tag[0] in PREFIXES:
        return tag[0], tag[2:]
    return "", tag


def ordered(names: Iterable[str]) -> tuple[str, ...]:
    """O first, then by type, and of each type B, I and the others.

    >>> ordered(["I-PER", "O", "B-PER", "B-LOC"])
    ('O', 'B-LOC', 'B-PER', 'I-PER')
    """
    return tuple(sorted(names, key=lambda name: (name != OUTSIDE, parted(name)[1], PREFIXES.find(parted(name)[0]))))


def spanned(names: Sequence[str]) -> list[str]:
    """The tags as spans are read from them (operators/text/spans): `B_PER` is `B-PER`; where one of them has no such
    prefix and is none by itself, every tagged word is a span.

    >>> spanned(["O", "B_PER", "I_PER"]), spanned(["O", "B", "I"]), spanned(["O", "PER", "B-LOC"])
    (['O', 'B-PER', 'I-PER'], ['O', 'B', 'I'], ['O', 'B-PER', 'B-B-LOC'])
    """
    parts = list(map(parted, names))
    if all(prefix or kind == OUTSIDE or kind in tuple(PREFIXES) for prefix, kind in parts):
        return [f"{prefix}-{kind}" if prefix else kind for prefix, kind in parts]
    return [name if name == OUTSIDE else f"B-{name}" for name in names]


def scheme_of(rows: Sequence[Mapping[str, Any]], names: Sequence[str]) -> tuple[str, list[str]]:
    """(the scheme of tags that are numbers into `names`, what is odd of them)."""
    prefixes = {parted(name)[0] for name in names} - {""}
    if not prefixes or any(not parted(name)[0] for name in names if name != OUTSIDE):
        return "plain", []
    parts = [parted(name) for name in names]
    free = first = begun = behind = 0
    where = ""
    for row in rows:
        for at, (before, prefix, kind) in enumerate(_pairs(row["tags"] or (), parts)):
            continues = before[1] == kind and before[0] in "BI"
            if prefix == "I" and not continues:
                free += 1
                where = where or f"word {at + 1} of row {row['row']} of {row['file']}"
            elif prefix == "B":
                begun += 1
                same = before[0] in PREFIXES and before[1] == kind
                behind += same
                first += not same
    if prefixes & set("ESLU"):
        scheme = "BILOU" if prefixes & set("LU") else "IOBES"
    elif not begun:
        return ("IO" if free else "plain"), []
    elif not first and free:
        return "IOB1", []
    else:
        scheme = "IOB2"
    odd = f"{free} I- tags continue no entity of their type, which {scheme} forbids (first: {where}); they are kept"
    return scheme, [odd] if free else []


def _pairs(tags: Sequence[int], parts: Sequence[tuple[str, str]]) -> Iterator[tuple[tuple[str, str], str, str]]:
    """(parts of the tag before, prefix, type) of each tag."""
    before = ("-", "")
    for tag in tags:
        yield before, *parts[tag]
        before = parts[tag] if parts[tag][0] else ("-", "")


def entities(tags: Iterable[Sequence[int]], names: Sequence[str]) -> dict[str, int]:
    """How many entities of each type there are: a run of a type, cut by B-, S- and U- and behind E- and L-."""
    found: Counter[str] = Counter()
    parts = [parted(name) for name in names]
    for each in tags:
        for (last, kind_before), prefix, kind in _pairs(each, parts):
            if prefix and (prefix in "BSU" or last not in "BI" or kind_before != kind):
                found[kind] += 1
    return dict(found)
