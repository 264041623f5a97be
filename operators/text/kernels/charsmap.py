"""The normal form of a text as SentencePiece makes it before it looks for pieces.

At each byte: a user-defined symbol that begins here stays as it is (the longest); else the longest rule of the model's
charsmap that fits is applied (a darts-clone double array over bytes; its format is Yata's, its use SentencePiece's);
else a character stays, and a byte that is no UTF-8 becomes U+FFFD. A space is written as the space symbol; with `strip`
one behind another is left out, and what leads and trails. A chunk gets the form it has within its text.

Promises: what SentencePieceProcessor.normalize gives, byte for byte. Costs 1 ns a byte of ASCII, some 5 of others.
"""

import numpy as np

from tundish.operators.text.kernels.machine import I64, PAD, inner, kernel
from tundish.operators.text.kernels.trie import EMPTY, stepped

LEAF, TOP = np.uint32(1 << 8), np.uint32(1 << 31)  # bits of a unit of the double array
GROWTH = 3  # bytes a single byte of input may become: a space, and what is no UTF-8
STRIP, DUMMY, SUFFIX, ESCAPE = 1, 2, 4, 8  # of a normaliser
EDGE, WHOLE = 0x80, 0x100  # how bytes are taken: as a chunk that begins a text, as a text; else as a chunk within
FORM, CROSSED = -1, -3  # instead of a number of bytes
REPLACED = np.frombuffer("\ufffd".encode(), np.uint8)
SYMBOL = np.frombuffer("\u2581".encode(), np.uint8)


@inner
def _offset(unit):
    return I64((unit >> np.uint32(10)) << ((unit & np.uint32(1 << 9)) >> np.uint32(6)))


@inner
def _ruled(data, at, end, units):
    """(bytes, value) of the longest rule that fits here; 0 bytes for none."""
    size, value = I64(0), I64(0)
    if units.size == 0:
        return size, value
    place = _offset(units[0])
    here = at
    while here < end:
        byte = np.uint32(data[here])
        place ^= I64(byte)
        if place >= units.size:
            break
        unit = units[place]
        if unit & np.uint32(TOP | np.uint32(0xFF)) != byte:
            break
        place ^= _offset(unit)
        here += 1
        if unit & LEAF != 0 and place < units.size:
            size, value = here - at, I64(units[place] & np.uint32(0x7FFFFFFF))
    return size, value


@inner
def _symbol(data, at, end, links, values):
    """Bytes of the longest user-defined symbol that begins here; 0 for none."""
    place, here, size = I64(0), at, I64(0)
    while here < end:
        place = stepped(links, place, data[here])
        if place < 0:
            break
        here += 1
        if values[place] >= 0:
            size = here - at
    return size


@inner
def _trail(data, at, end):
    return at < end and data[at] & 0xC0 == 0x80


@inner
def _valid(data, at, end):
    """Bytes of the character here; 0 for one that is no UTF-8."""
    first = I64(data[at])
    if first < 0x80:
        return I64(1)
    if not _trail(data, at + 1, end):
        return I64(0)
    second = I64(data[at + 1])
    if first & 0xE0 == 0xC0:
        return I64(2) if first >= 0xC2 else I64(0)
    if not _trail(data, at + 2, end):
        return I64(0)
    if first & 0xF0 == 0xE0:
        low = first == 0xE0 and second < 0xA0
        return I64(0) if low or (first == 0xED and second >= 0xA0) else I64(3)
    if first & 0xF8 != 0xF0 or not _trail(data, at + 3, end):
        return I64(0)
    code = ((first & 0x07) << 18) | ((second & 0x3F) << 12)
    return I64(4) if 0x10000 <= code <= 0x10FFFF else I64(0)


@inner
def _ends(out, at, flags):
    """Bytes of the space symbol that `out[:at]` ends with; 0 for none."""
    if flags & ESCAPE == 0:
        return I64(1) if at >= 1 and out[at - 1] == 32 else I64(0)
    if at >= 3 and out[at - 1] == SYMBOL[2] and out[at - 2] == SYMBOL[1] and out[at - 3] == SYMBOL[0]:
        return I64(3)
    return I64(0)


@inner
def spaced(out, at, flags):
    """Write a space; where the next byte goes."""
    if flags & ESCAPE == 0:
        out[at] = 32
        return at + 1
    out[at], out[at + 1], out[at + 2] = SYMBOL[0], SYMBOL[1], SYMBOL[2]
    return at + 3


@inner
def stripped(out, at, flags):
    """Where what is before the spaces at the end of `out[:at]` ends."""
    size = _ends(out, at, flags)
    while size > 0:
        at -= size
        size = _ends(out, at, flags)
    return at


@kernel
def formed(data, start, word, stop, how, normal, flags, out):
    """The normal form of a text (WHOLE), or of a chunk and the white space before it: at an EDGE or within.

    Bytes `start` to `word` are spaces, `word` to `stop` the rest. `normal`: units and texts of the charsmap, `plain`
    (256,) what a byte becomes with which no rule and no symbol of more ASCII than that begins (0: look), links and
    values of the user-defined symbols. Returns its bytes, at the beginning of `out`; FORM where `out` has too little
    room; CROSSED for a chunk whose neighbours may change what it becomes.
    """
    units, texts, plain, links, values = normal
    strip, dummy, escape = flags & STRIP != 0, flags & DUMMY != 0, flags & ESCAPE != 0
    room = I64(out.size) - PAD
    edge, complete = how & EDGE != 0, how & WHOLE != 0
    at = I64(0)
    if complete:
        if start == stop:
            return at
        if dummy and flags & SUFFIX == 0:
            at = spaced(out, at, flags)
    elif (dummy or not edge) if strip else (dummy and (edge or start == word)):
        at = spaced(out, at, flags)
    for _ in range(start, word):
        at = spaced(out, at, flags)
    begin, pos = at, word
    behind, literal, blank = strip, False, True
    while pos < stop:
        easy = plain[data[pos]]
        if easy != 0 and (pos + 1 == stop or data[pos + 1] < 0x80):
            if at >= room:
                return I64(FORM)
            out[at] = easy
            at += 1
            pos += 1
            behind, blank = False, False
            continue
        source, here, taken = data, pos, _symbol(data, pos, stop, links, values) if links.shape[0] > EMPTY else I64(0)
        size = taken
        if taken == 0:
            taken, value = _ruled(data, pos, stop, units)
            if taken > 0 and value < texts.size:
                source, here, size = texts, value, I64(0)
                while texts[here + size] != 0:
                    size += 1
            else:
                size = taken = _valid(data, pos, stop)
                if taken == 0:
                    source, here, size, taken = REPLACED, I64(0), I64(3), I64(1)
        pos += taken
        blank = blank and size == 1 and source[here] == 32
        last = here + size
        while behind and here < last and source[here] == 32:
            here += 1
        if here == last:
            continue
        if at + GROWTH * (last - here) > room:
            return I64(FORM)
        behind = strip and source[last - 1] == 32
        while here < last:
            byte = source[here]
            here += 1
            if byte == 32 and escape:
                at = spaced(out, at, flags)
                continue
            out[at] = byte
            at += 1
            if byte == SYMBOL[2] and at >= 3 and out[at - 2] == SYMBOL[1] and out[at - 3] == SYMBOL[0]:
                literal = True
    bare = stripped(out, at, flags)
    if complete:
        if strip:
            if blank:
                return I64(0)
            at = bare
        if dummy and flags & SUFFIX != 0:
            at = spaced(out, at, flags)
        return at
    if strip:
        return I64(CROSSED) if literal else bare if bare > begin else I64(0)
    return I64(CROSSED) if word < stop and (at == begin or bare < at) else at


def spread(units: np.ndarray) -> tuple[dict[int, int], np.ndarray, np.ndarray]:
    """What the rules begin with and hold: the values of those of one byte; (256, 256) which byte goes on behind which
    first; (256,) which stand behind the first."""
    alone, behind, inside = {}, np.zeros((256, 256), np.bool_), np.zeros(256, np.bool_)
    if not len(units):
        return alone, behind, inside
    every, size = np.arange(256), len(units)
    seen = np.zeros(size, np.bool_)

    def offsets(of: np.ndarray) -> np.ndarray:
        return (of >> 10).astype(np.int64) << ((of & 512) >> 6)

    def children(places: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(which of the places, byte, place of its own children) of all there are."""
        there = places[:, None] ^ every
        found = (there < size) & ((units[np.minimum(there, size - 1)] & 0x800000FF) == every)
        one, byte = np.nonzero(found)
        unit = there[one, byte]
        return one, byte, unit

    _, firsts, at = children(offsets(units[:1]))
    places = at ^ offsets(units[at])
    for byte, unit, place in zip(firsts.tolist(), units[at], places.tolist(), strict=True):
        if unit & LEAF:
            alone[byte] = int(units[place] & 0x7FFFFFFF)
        behind[byte][children(np.array([place]))[1]] = True
    while len(places):
        _, bytes_, at = children(places)
        inside[bytes_] = True
        at = np.unique(at)
        at = at[~seen[at]]
        seen[at] = True
        places = at ^ offsets(units[at])
    return alone, behind, inside
