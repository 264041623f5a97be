"""Reading an HTML page byte by byte: names, attributes, ends of comments and of raw text. Called by `outline` alone.

Promises: each function reads on from where it is and never back, so a page is read once. Bytes behind the end may be
looked at (see `machine`), and count for nothing. Source: WHATWG HTML, 13.2.5 (2026-11).
"""

import numpy as np

from tundish.operators.text.kernels.machine import I64, U64, find_byte, inner
from tundish.operators.web.elements import ARIA_HIDDEN, HIDDEN, TOLD

CDATA = np.frombuffer(b"<![CDATA[", np.uint8)
TOKENS = 12  # words of class, id, role and itemprop of one element
TOKEN_BYTES = 96  # of one of these attributes that are read
STYLE_BYTES = 400  # of a style

CLASS, ID, ROLE, ITEMPROP, HIDE, STYLE, ARIA, REL, TYPE = (
    int.from_bytes(word[:8].ljust(8, b"\0"), "little")
    for word in (b"class", b"id", b"role", b"itemprop", b"hidden", b"style", b"aria-hid", b"rel", b"type")
)


@inner
def lower(byte):
    return byte | 0x20 if (byte >= 65) & (byte <= 90) else byte


@inner
def is_letter(byte):
    small = byte | 0x20
    return (small >= 97) & (small <= 122)


@inner
def is_blank(byte):
    return (byte == 32) | ((byte >= 9) & (byte <= 13))


@inner
def name(data, at, end):
    """(number of the tag, where its name ends)"""
    key, size = U64(0), I64(0)
    while at < end and not (is_blank(data[at]) | (data[at] == 47) | (data[at] == 62)):
        if size < 8:
            key |= U64(lower(data[at])) << U64(8 * size)
        size += 1
        at += 1
    return key ^ (U64(size) * U64(0x9E3779B97F4A7C15)), at


@inner
def number(keys, numbers, key):
    at = I64((key * U64(0xD1B54A32D192ED03)) >> U64(40)) & 1023
    while keys[at] != 0:
        if keys[at] == key:
            return I64(numbers[at])
        at = (at + 1) & 1023
    return I64(0)


@inner
def _words(data, at, end, element, tokens, owners, used):
    """Hash each word (a run of letters; a capital after a small letter begins one) and note it for the element."""
    left = I64(TOKENS)
    while at < end and left > 0 and used < tokens.size:
        while at < end and not is_letter(data[at]):
            at += 1
        start, value = at, U64(0xCBF29CE484222325)
        while at < end and is_letter(data[at]):
            if at > start and data[at] < 97 and data[at - 1] >= 97:
                break
            value = (value ^ U64(lower(data[at]))) * U64(0x100000001B3)
            at += 1
        if at - start > 1:
            tokens[used] = value >> U64(16)
            owners[used] = element
            used += 1
            left -= 1
    return used


@inner
def raw_end(data, at, end, name, size):
    """Where the end tag of a raw text element begins; `end` without one."""
    while True:
        at = find_byte(data, at, I64(60), end - at)
        if at < 0 or at + size + 2 >= end:
            return end
        if data[at + 1] == 47:
            same = True
            for n in range(size):
                if lower(data[at + 2 + n]) != lower(data[name + n]):
                    same = False
                    break
            if same and not (is_letter(data[at + 2 + size])):
                return at
        at += 1


@inner
def comment_end(data, at, end):
    """Behind a comment, a declaration or an instruction whose `<` stands at `at`."""
    if at + 3 < end and data[at + 1] == 33 and data[at + 2] == 45 and data[at + 3] == 45:
        at += 2  # `<!-->` ends itself
        while True:
            at = find_byte(data, at, I64(62), end - at)
            if at < 0:
                return end
            if data[at - 1] == 45 and data[at - 2] == 45:
                return at + 1
            if data[at - 1] == 33 and data[at - 2] == 45 and data[at - 3] == 45:
                return at + 1
            at += 1
    at = find_byte(data, at, I64(62), end - at)
    return end if at < 0 else at + 1


@inner
def cdata_end(data, at, end):
    """Behind a CDATA section whose `<` stands at `at`, which svg and math may hold; else what `comment_end` says."""
    for n in range(9):
        if at + n >= end or data[at + n] != CDATA[n]:
            return comment_end(data, at, end)
    at += 9
    while True:
        at = find_byte(data, at, I64(62), end - at)
        if at < 0:
            return end
        if data[at - 1] == 93 and data[at - 2] == 93:
            return at + 1
        at += 1


@inner
def blank(data, at, end):
    while at < end:
        if not is_blank(data[at]):
            return False
        at += 1
    return True


@inner
def not_shown(data, at, end):
    """Does a style say display:none or visibility:hidden?"""
    begin = at
    while at + 4 < end:
        if data[at] == 58:  # what stands before and behind a colon
            value = at + 1
            while value < end and is_blank(data[value]):
                value += 1
            if value + 4 <= end and at - begin >= 7:
                before, behind = lower(data[at - 1]), lower(data[value])
                none = behind == 110 and lower(data[value + 1]) == 111 and lower(data[value + 2]) == 110
                if before == 121 and none and lower(data[at - 2]) == 97:
                    return True  # displAY: NONe
                if before == 121 and behind == 104 and lower(data[value + 1]) == 105 and lower(data[at - 2]) == 116:
                    return True  # visibiliTY: HIdden
        at += 1
    return False


@inner
def _value(data, at, end):
    """(first byte, end, where to read on) of an attribute value that may begin at `at`; -1 if it never ends."""
    while at < end and is_blank(data[at]):
        at += 1
    if at >= end or data[at] != 61:
        return at, at, at
    at += 1
    while at < end and is_blank(data[at]):
        at += 1
    if at < end and ((data[at] == 34) | (data[at] == 39)):
        last = find_byte(data, at + 1, I64(data[at]), end - at - 1)
        return at + 1, last, (last + 1 if last >= 0 else last)
    first = at
    while at < end and not (is_blank(data[at]) | (data[at] == 62)):
        at += 1
    return first, at, at


@inner
def _attribute(data, at, end):
    """(where the name ends, up to eight small letters of it as a number)"""
    start, key = at, U64(0)
    while (
        at < end and (at == start or data[at] != 61) and not (is_blank(data[at]) | (data[at] == 47) | (data[at] == 62))
    ):
        if at - start < 8:
            key |= U64(lower(data[at])) << U64(8 * (at - start))
        at += 1
    return at, key


@inner
def attributes(data, at, end, element, marks, tokens, owners, used):
    """Read the attributes of the tag whose name ends at `at`: (behind the tag or -1, tokens used, is it `<x/>`, JSON).

    JSON: its type ends like application/ld+json.
    """
    closed, json = False, False
    while True:
        while at < end and (is_blank(data[at]) | (data[at] == 47)):
            closed = data[at] == 47
            at += 1
        if at >= end:
            return I64(-1), used, closed, json
        if data[at] == 62:
            return at + 1, used, closed, json
        closed = False
        start = at
        at, key = _attribute(data, at, end)
        size = at - start
        value, last, at = _value(data, at, end)
        if at < 0:
            return I64(-1), used, closed, json
        if size > 8 and key != ARIA:
            continue
        if (key == CLASS) | (key == ID) | (key == ROLE) | (key == ITEMPROP):
            used = _words(data, value, min(last, value + TOKEN_BYTES), element, tokens, owners, used)
        elif key == HIDE or (key == STYLE and not_shown(data, value, min(last, value + STYLE_BYTES))):
            marks[element] |= HIDDEN
        elif key == ARIA and size == 11 and last - value == 4:
            marks[element] |= ARIA_HIDDEN
        elif key == REL and last > value:
            marks[element] |= TOLD
        elif key == TYPE:
            json |= last - value > 12 and lower(data[last - 4]) == 106 and lower(data[last - 1]) == 110
