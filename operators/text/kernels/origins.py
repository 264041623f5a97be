"""The normal form of a text, and where in the text each of its bytes comes from.

What kernels/charsmap makes of a whole text, written once more with two numbers beside every byte, because the one that
all tokens go through has no time for them. A byte comes from the character, the user-defined symbol or the stretch
that one rule of the model's charsmap replaced, as a whole: both letters that a ligature becomes come from all of it.

Promises: the same bytes as `charsmap.formed` of a WHOLE text. Costs some 10 ns a byte.
"""

import numpy as np

from tundish.operators.text.kernels.charsmap import (
    DUMMY,
    ESCAPE,
    FORM,
    REPLACED,
    STRIP,
    SUFFIX,
    _ruled,
    _symbol,
    _valid,
    spaced,
    stripped,
)
from tundish.operators.text.kernels.machine import I64, PAD, inner, kernel
from tundish.operators.text.kernels.trie import EMPTY


@inner
def _noted(begins, ends, at, to, begin, end):
    """Bytes `at` to `to` of the normal form come from bytes `begin` to `end` of the text."""
    while at < to:
        begins[at], ends[at] = begin, end
        at += 1


@kernel
def traced(data, start, stop, normal, flags, out, begins, ends):
    """Write the normal form of `data[start:stop]` to the beginning of `out`, and to `begins` and `ends` the bytes of
    the text (counted from `start`) that each byte comes from. `normal`: as `charsmap.formed` takes it. Returns its
    bytes; FORM where `out` has too little room. The space put before a text comes from nothing before its first byte.
    """
    units, texts, _, links, values = normal
    strip, dummy, escape = flags & STRIP != 0, flags & DUMMY != 0, flags & ESCAPE != 0
    room = I64(out.size) - PAD
    at, pos = I64(0), I64(start)
    if start == stop:
        return at
    if dummy and flags & SUFFIX == 0:
        at = spaced(out, at, flags)
    first = at
    behind, blank = strip, True
    while pos < stop:
        source, here = data, pos
        size = taken = _symbol(data, pos, stop, links, values) if links.shape[0] > EMPTY else I64(0)
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
        begin, end = pos - start, pos - start + taken
        pos += taken
        blank = blank and size == 1 and source[here] == 32
        last = here + size
        while behind and here < last and source[here] == 32:
            here += 1
        if here == last:
            continue
        if at + 3 * (last - here) > room:
            return I64(FORM)
        behind = strip and source[last - 1] == 32
        while here < last:
            before = at
            if source[here] == 32 and escape:
                at = spaced(out, at, flags)
            else:
                out[at] = source[here]
                at += 1
            _noted(begins, ends, before, at, begin, end)
            here += 1
    if strip:
        if blank:
            return I64(0)
        at = stripped(out, at, flags)
    if dummy and flags & SUFFIX != 0:
        before = at
        at = spaced(out, at, flags)
        _noted(begins, ends, before, at, stop - start, stop - start)
    if first > 0:
        begin = begins[first] if at > first else I64(0)
        _noted(begins, ends, I64(0), first, begin, begin)
    return at


@kernel
def traced_all(data, offsets, normal, flags, out, begins, ends, bounds):
    """The same of every text, one behind the other; `bounds` (texts + 1,): where each begins. Returns how many fitted.

    `data` as `charsmap.formed` takes it; `out`, `begins` and `ends` of one size.
    """
    at = I64(0)
    bounds[0] = 0
    for text in range(offsets.size - 1):
        size = traced(data, offsets[text], offsets[text + 1], normal, flags, out[at:], begins[at:], ends[at:])
        if size < 0:
            return I64(text)
        at += size
        bounds[text + 1] = at
    return I64(offsets.size - 1)


def room(size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What `traced_all` writes into, for normal forms of `size` bytes in all."""
    return np.zeros(size + PAD, np.uint8), np.zeros(size + PAD, np.int64), np.zeros(size + PAD, np.int64)
