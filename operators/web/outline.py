"""The outline of an HTML page: its elements and its pieces of text, in one pass over the bytes, without a tree library.

    elements   tag, parent, the pieces and elements in it, marks (not shown, aria-hidden, has a rel)
    pieces     (start, end) of bytes that are text, the element they stand in, what parts them from the piece before
    tokens     hashes of the words in class, id, role and itemprop, each with its element
    notes      start tags whose attributes somebody may want: meta, link, title, time, base, html, JSON-LD scripts

Elements open and close nearly as in a browser without scripts (void elements, implied ends, raw text, scopes); there is
no list of active formatting elements, and nothing is moved: text order is that of the bytes. Text that no browser shows
(scripts, styles, templates, options) gives no pieces; `noscript` in a body does, since whole forums lie in it.

Promises: time and memory linear in the page, whatever it holds: an end tag looks at LOOK_BACK open elements at most,
and no more than DEPTH are kept open. Costs about 0.45 ms for a page of 200 KB. Refuses nothing.
"""

from typing import NamedTuple

import numpy as np

from tundish.operators.text.kernels.machine import I64, find_byte, inner, kernel, padded
from tundish.operators.web.elements import (
    BLOCK,
    BODY,
    BR,
    BREAKS_OUT,
    CELL,
    FROM_SELECT,
    HEAD,
    HTML,
    KNOWN,
    LINE,
    MATH,
    NONE,
    NOSCRIPT,
    NOTED,
    PART,
    RAW,
    SCRIPT,
    SILENT,
    SPACE,
    STOP,
    SVG,
    TABLE,
    TABLES,
    TBODY,
    TFOOT,
    THEAD,
    TR,
    VOID,
    A,
    P,
)
from tundish.operators.web.outline_bytes import (
    attributes,
    blank,
    cdata_end,
    comment_end,
    is_letter,
    name,
    number,
    raw_end,
)

DEPTH = 512  # open elements that are kept; what lies deeper counts as the deepest
LOOK_BACK = 64  # open elements a tag is held against
NOTES = 4096  # tags that are noted
IN_LINK = 16  # beside what parts a piece from the one before it
DEEP, QUIET, LINKS, GAP, IN_HEAD, SEEN_BODY, OVER, ELEMENTS, TEXTS, USED, NOTES_USED, DEEPEST, FOREIGN = range(13)
STATE = 13  # numbers above


class Outline(NamedTuple):
    """What `outline` finds. Elements come in the order of their start tags, so what lies in one is a range of them."""

    data: np.ndarray  # the page, UTF-8, padded
    pieces: np.ndarray  # (3, pieces) int32: first byte, end, element
    gaps: np.ndarray  # (pieces,) uint8: NONE, SPACE, LINE or PART; IN_LINK added
    tags: np.ndarray  # (elements,) uint8
    parents: np.ndarray  # (elements,) int32; -1 for the first
    marks: np.ndarray  # (elements,) uint8
    spans: np.ndarray  # (4, elements) int32: first piece, end of its pieces, end of its elements, first byte of its tag
    tokens: np.ndarray  # (tokens,) uint32
    owners: np.ndarray  # (tokens,) int32: elements of the tokens
    notes: np.ndarray  # (4, notes) int32: tag, first byte, end of the tag, end of what it holds if that is raw
    deepest: int


def outline(page: bytes) -> Outline:
    """The outline of a page in UTF-8.

    >>> outline(b"<p>The <b>sea</b> rises<p>twice").pieces.tolist()
    [[3, 10, 17, 26], [7, 13, 23, 31], [1, 2, 1, 3]]
    """
    data, room = padded(np.frombuffer(page, np.uint8), 0, len(page)), page.count(b"<") + 2
    pieces, gaps = np.empty((3, room), np.int32), np.empty(room, np.uint8)
    tags, parents, marks = np.empty(room, np.uint8), np.empty(room, np.int32), np.empty(room, np.uint8)
    spans, notes = np.empty((4, room), np.int32), np.empty((4, min(room, NOTES)), np.int32)
    most = min(6 * room, len(page) // 3) + 1
    tokens, owners = np.empty(most, np.uint32), np.empty(most, np.int32)
    state, opened = np.zeros(STATE, np.int64), (np.empty(DEPTH, np.int64), np.empty(DEPTH, np.uint64))
    walk(data, len(page), TABLES, (pieces, gaps), (tags, parents, marks, spans), tokens, owners, notes, opened, state)
    e, p, t, n = state[ELEMENTS], state[TEXTS], state[USED], state[NOTES_USED]
    tree = (tags[:e], parents[:e], marks[:e], spans[:, :e])
    return Outline(data, pieces[:, :p], gaps[:p], *tree, tokens[:t], owners[:t], notes[:, :n], int(state[DEEPEST]))


@inner
def _pop(to, opened, tree, kinds, state):
    """Close the open elements from place `to` on."""
    tags, _, _, spans = tree
    for place in range(to, state[DEEP]):
        one = opened[0][place]
        spans[1, one], spans[2, one] = state[TEXTS], state[ELEMENTS]
        kind = kinds[tags[one]]
        state[QUIET] -= (kind & SILENT) != 0
        state[LINKS] -= tags[one] == A
        state[FOREIGN] -= (tags[one] == SVG) | (tags[one] == MATH)
        if kind & BLOCK:
            state[GAP] = PART
    state[DEEP] = to
    state[IN_HEAD] = state[IN_HEAD] if to > 1 else 0


@inner
def _foreign(stack, depth, tags):
    """Place of the outermost element of the svg or math that we are in; `depth` where HTML has begun again."""
    place = depth
    for back in range(1, min(LOOK_BACK, depth - 1) + 1):
        tag = tags[stack[depth - back]]
        if (tag == SVG) | (tag == MATH):
            place = depth - back
        elif tag != 0:
            break
    return place


@inner
def _ended(row, implied, stack, depth, tags):
    """Place of the open element that a start tag ends; `depth` for none."""
    for back in range(1, min(LOOK_BACK, depth - 1) + 1):
        told = implied[row, tags[stack[depth - back]]]
        if told == 1:
            return depth - back
        if told == 2:
            break
    return depth


@inner
def _closed(key, tag, opened, depth, tags, kinds):
    """Place of the open element that an end tag closes; `depth` for none."""
    inline = (tag != 0) & ((kinds[tag] & BLOCK) == 0)
    tabular = (tag == TABLE) | (tag == TR) | (tag == TBODY) | (tag == THEAD) | (tag == TFOOT)
    for back in range(1, min(LOOK_BACK, depth - 1) + 1):
        place = depth - back
        if opened[1][place] == key:
            return place
        inside = tags[opened[0][place]]
        if inside == BODY or (inline and kinds[inside] & BLOCK and inside != SVG and inside != MATH):
            break
        if kinds[inside] & STOP and not (tabular and kinds[inside] & CELL):
            break
    return depth


@inner
def _text(data, begin, end, texts, opened, tree, kinds, state):
    """A run of text: a piece, if there is more in it than white space and it is shown."""
    if blank(data, begin, end):
        state[GAP] = max(state[GAP], SPACE)
        return
    if state[IN_HEAD] and state[DEEP] == 2:
        _pop(I64(1), opened, tree, kinds, state)
    if state[QUIET] == 0:
        pieces, gaps = texts
        at = state[TEXTS]
        pieces[0, at], pieces[1, at], pieces[2, at] = begin, end, opened[0][state[DEEP] - 1]
        gaps[at] = state[GAP] + (IN_LINK if state[LINKS] > 0 else 0)
        state[TEXTS] += 1
        state[GAP] = NONE


@inner
def _end_tag(key, tag, before_tag, opened, tree, kinds, state):
    """`before_tag`: another tag follows at once."""
    kind = kinds[tag]
    if state[OVER] > 0:
        state[OVER] -= 1
        return
    if kind & BLOCK:
        state[GAP] = PART
    elif tag == BR:
        state[GAP] = max(state[GAP], LINE)
    elif state[GAP] == NONE and before_tag:
        state[GAP] = SPACE  # <b>one</b><i>two</i> are shown apart more often than not
    if state[FOREIGN] > 0 and ((tag == P) | (tag == BR)):
        _pop(_foreign(opened[0], state[DEEP], tree[0]), opened, tree, kinds, state)
    if (tag == HTML) | (tag == BODY) or kind & VOID:
        return
    to = _closed(key, tag, opened, state[DEEP], tree[0], kinds)
    if to < state[DEEP]:
        _pop(to, opened, tree, kinds, state)


@inner
def _make_way(tag, tables, opened, tree, state):
    """Close what a start tag ends. False for a tag that gives no element."""
    _, _, kinds, rows, implied, headish, leaves_select, _ = tables
    kind = kinds[tag]
    if state[IN_HEAD] and not headish[tag]:
        _pop(I64(1), opened, tree, kinds, state)
    if tag == HTML or (tag == BODY and state[SEEN_BODY]) or (tag == HEAD and (state[IN_HEAD] or state[SEEN_BODY])):
        return False
    if state[QUIET] > 0 and leaves_select[tag]:  # one that is never closed must not silence the rest of the page
        _pop(_ended(I64(FROM_SELECT), implied, opened[0], state[DEEP], tree[0]), opened, tree, kinds, state)
    if rows[tag]:
        to = _ended(I64(rows[tag]), implied, opened[0], state[DEEP], tree[0])
        _pop(to, opened, tree, kinds, state)
    if kind & BLOCK:
        to = _ended(I64(1), implied, opened[0], state[DEEP], tree[0])
        _pop(to, opened, tree, kinds, state)
        state[GAP] = PART
    elif tag == BR:
        state[GAP] = max(state[GAP], LINE)
    return tag != BR


@inner
def _note(tag, start, end, close, notes, state):
    at = state[NOTES_USED]
    if at < notes.shape[1]:
        notes[0, at], notes[1, at], notes[2, at], notes[3, at] = tag, start, end, close
        state[NOTES_USED] += 1


@inner
def _raw(data, start, at, end):
    """Where the content of the raw text element whose tag starts at `start` and ends at `at` ends."""
    size = I64(0)
    while size < 12 and is_letter(data[start + 1 + size]):
        size += 1
    return raw_end(data, at, end, start + 1, size)


@inner
def _open(key, tag, void, start, opened, tree, kinds, state):
    """Note an element and, unless it is void, keep it open."""
    tags, parents, _, spans = tree
    here = state[ELEMENTS]
    tags[here], parents[here] = tag, opened[0][state[DEEP] - 1]
    spans[0, here] = spans[1, here] = state[TEXTS]
    spans[2, here], spans[3, here] = here + 1, start
    state[ELEMENTS] += 1
    if void:
        return
    if state[DEEP] == DEPTH:
        state[OVER] += 1
        return
    opened[0][state[DEEP]], opened[1][state[DEEP]] = here, key
    state[DEEP] += 1
    state[DEEPEST] = max(state[DEEPEST], state[DEEP])
    state[QUIET] += (kinds[tag] & SILENT) != 0
    state[LINKS] += tag == A
    state[FOREIGN] += (tag == SVG) | (tag == MATH)
    state[IN_HEAD] |= tag == HEAD
    state[SEEN_BODY] |= tag == BODY


@inner
def _start_tag(data, at, end, key, tag, start, closed, json, tables, opened, tree, notes, state):
    """What a start tag does; returns where to read on."""
    kinds, in_foreign = tables[2], tables[7]
    kind = kinds[tag]
    if state[FOREIGN] > 0:
        to = _foreign(opened[0], state[DEEP], tree[0])
        if to < state[DEEP] and in_foreign[tag] == BREAKS_OUT:
            _pop(to, opened, tree, kinds, state)
        elif to < state[DEEP]:  # nothing is raw here, and whatever closes itself is void
            _open(key, tag if in_foreign[tag] == KNOWN else I64(0), closed, start, opened, tree, kinds, state)
            return at, True
    if not _make_way(tag, tables, opened, tree, state):
        if kind & NOTED:
            _note(tag, start, at, at, notes, state)
        return at, False
    raw = (kind & RAW) != 0 or (tag == NOSCRIPT and state[IN_HEAD] != 0)
    close = _raw(data, start, at, end) if raw else at
    if kind & NOTED or (json and tag == SCRIPT):
        _note(tag, start, at, close, notes, state)
    void = raw or (kind & VOID) != 0 or (closed and (tag == 0 or state[QUIET] > 0))
    _open(key, tag, void, start, opened, tree, kinds, state)
    return close, True


@kernel
def walk(data, end, tables, texts, tree, tokens, owners, notes, opened, state):
    """Fill the arrays; `state` says how much of each is used."""
    keys, numbers, kinds, _, _, _, _, _ = tables
    tree[0][0], tree[1][0], tree[2][0], tree[3][0, 0], tree[3][3, 0] = HTML, -1, 0, 0, 0
    opened[0][0], opened[1][0] = 0, 0
    state[DEEP], state[ELEMENTS], state[GAP], state[DEEPEST] = 1, 1, PART, 1
    at = begin = I64(0)  # `begin`: where the text before the next tag begins
    while begin < end:
        at = find_byte(data, at, I64(60), end - at)
        if at < 0 or at + 1 >= end:
            at = end
        else:
            after = data[at + 1]
            if not (is_letter(after) or after == 33 or after == 63 or after == 47):
                at += 1
                continue
        if at > begin:
            _text(data, begin, at, texts, opened, tree, kinds, state)
        if at >= end:
            break
        start, ending = at, data[at + 1] == 47
        if not is_letter(data[at + 1 + ending]):
            at = begin = cdata_end(data, at, end) if state[FOREIGN] > 0 else comment_end(data, at, end)
            continue
        key, at = name(data, at + 1 + ending, end)
        tag = number(keys, numbers, key)
        before = state[USED]
        tree[2][state[ELEMENTS]] = 0
        at, used, closed, json = attributes(data, at, end, state[ELEMENTS], tree[2], tokens, owners, before)
        if at < 0:
            break  # a tag that never ends
        if ending:
            _end_tag(key, tag, at < end and data[at] == 60, opened, tree, kinds, state)
        else:
            at, kept = _start_tag(data, at, end, key, tag, start, closed, json, tables, opened, tree, notes, state)
            state[USED] = used if kept else before
        begin = at
    _pop(I64(0), opened, tree, kinds, state)
