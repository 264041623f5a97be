"""Texts to ids by way of their chunks: what a chunk's ids are is worked out once and kept in a table.

A chunk is a run of what is no white space (with what white space is before it, where the model keeps that). The table
is asked by the chunk's bytes, and answers by them: up to 16 stand in the entry itself, more are compared where they are
kept. Where a chunk's ids could depend on its neighbours (it ends with a space symbol of its own) the text is taken as a
whole; so is every text of a model whose rules or pieces cross white space (`_apart` of operators/text/encode).

State is the caller's; a table that is full is made larger by the caller (`larger`) until it is as large as it may be,
then emptied, which changes nothing but time. Nothing is allocated: where room is short the kernel says so, and begins
again with the text it stopped at.
"""

import numpy as np
from numba import types
from numba.extending import intrinsic

from tundish.operators.text.kernels.charsmap import CROSSED, DUMMY, EDGE, FORM, STRIP, WHOLE, formed
from tundish.operators.text.kernels.lattice import F32, best, weighed
from tundish.operators.text.kernels.machine import (
    I64,
    K1,
    K2,
    ONE,
    PAD,
    U64,
    as_mask,
    every,
    folded,
    hashed,
    inner,
    kernel,
    load64,
    load_bytes,
    trailing,
)
from tundish.operators.text.kernels.merges import LOW, merged

LONGEST = 96  # bytes of a chunk that is remembered
DONE, OUT, TABLE = 0, -2, -4  # why the kernel returned: all is done; ids, or chunks, or (FORM) a text need more room
TEXT, WRITTEN, ENTRIES, BYTES, IDS = range(5)  # of the state
BPE, UNIGRAM = 0, 1
SIZE, FACTS = np.uint64(0x7F), np.uint64(0xFF)  # of an entry: bytes of the chunk, and beside whether it is at an edge
MANY = 0xFFFF  # ids of a chunk that is CROSSED
LEAST = 1 << 13  # places of a new table; each has room for 8 bytes of longer chunks and for 2 of more than 2 ids


@intrinsic
def low_bytes(typing, array, at):  # type: ignore[no-untyped-def]
    """Mask of 64 bytes: which are at most 32, as all ASCII white space is."""

    def code(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        value = load_bytes(context, builder, signature.args[0], *arguments)
        return as_mask(builder, builder.icmp_unsigned("<=", value, every(32)))

    return types.uint64(array, types.int64), code


@inner
def _chunk_end(data, at, end, white):
    """Where the next white byte is, or the end."""
    while at < end:
        mask = low_bytes(data, at)
        while mask != 0:
            here = at + I64(trailing(mask))
            if here >= end or white[data[here]]:
                return min(here, end)
            mask &= mask - ONE
        at += 64
    return end


@inner
def _first_bytes(data, at, size):
    """Up to eight bytes as a number."""
    if size >= 8:
        return load64(data, at)
    return load64(data, at) & ((ONE << U64(8 * size)) - ONE)


@inner
def _same(data, at, kept, there, size):
    """Whether these bytes are those; both may be read a word further."""
    done = I64(0)
    while done + 8 <= size:
        if load64(data, at + done) != load64(kept, there + done):
            return False
        done += 8
    if done == size:
        return True
    return (load64(data, at + done) ^ load64(kept, there + done)) << U64(8 * (8 - (size - done))) == 0


@inner
def _home(low, high, size, told, places):
    """Where an entry is looked for first."""
    key = folded(low ^ K1, high ^ K2 ^ size) if size <= 16 else low
    return (key ^ (key >> U64(32)) ^ told) & U64(places - 1)


@inner
def _place(data, start, size, edge, entries, kept):
    """Where the entry of a chunk is or goes: (place, the first two words of it, whether it is there)."""
    if size <= 16:
        low = _first_bytes(data, start, size)
        high = _first_bytes(data, start + 8, size - 8) if size > 8 else U64(0)
    else:
        low, high = hashed(data, start, size), U64(0)
    told = U64(size) | U64(edge)
    mask = U64(entries.shape[0] - 1)
    place = _home(low, high, U64(size), told, entries.shape[0])
    while entries[place, 2] != 0:
        if entries[place, 2] & FACTS == told and entries[place, 0] == low:
            same = entries[place, 1] == high
            if size > 16:
                same = _same(data, start, kept, I64(entries[place, 1]), size)
            if same:
                return place, low, high, True
        place = (place + ONE) & mask
    return place, low, high, False


@kernel
def moved(old, entries):
    """Every entry of the old table at its place in a larger one."""
    mask = U64(entries.shape[0] - 1)
    for one in range(old.shape[0]):
        facts = old[one, 2]
        if facts == 0:
            continue
        place = _home(old[one, 0], old[one, 1], facts & SIZE, facts & FACTS, entries.shape[0])
        while entries[place, 2] != 0:
            place = (place + ONE) & mask
        for word in range(4):
            entries[place, word] = old[one, word]


@kernel
def learnt(data, start, size, edge, count, limit, place, low, high, ids, state, table, most):
    """Put a chunk and its ids into the table; whether there was room, or no larger table is to be had."""
    entries, kept, kept_ids = table
    stored = count if 2 < count < MANY else I64(0)
    full = state[BYTES] + size + PAD > kept.size or state[IDS] + stored > kept_ids.size
    if full or 2 * state[ENTRIES] >= entries.shape[0]:
        if entries.shape[0] < most:
            return False
        entries[:] = U64(0)
        state[ENTRIES], state[BYTES], state[IDS] = 0, 0, 0
        place, low, high, _ = _place(data, start, size, edge, entries, kept)
    if size > 16:
        high = U64(state[BYTES])
        for one in range(size):
            kept[state[BYTES] + one] = data[start + one]
        state[BYTES] += size
    where = U64(state[IDS]) if stored else U64(np.uint32(ids[0])) | U64(np.uint32(ids[1])) << U64(32)
    for one in range(stored):
        kept_ids[state[IDS] + one] = ids[one]
    state[IDS] += stored
    entries[place, 0], entries[place, 1], entries[place, 3] = low, high, where
    entries[place, 2] = U64(size) | U64(edge) | U64(count) << U64(8) | U64(limit) << U64(32)
    state[ENTRIES] += 1
    return True


@kernel
def coded(data, offsets, plan, normal, model, table, own, out, ends):
    """Put the ids of the texts from `state[TEXT]` on to `out`; says why it stopped.

    `plan`: kind, flags of the normaliser, `white` (256,) which bytes end a chunk, whether chunks stand for themselves,
    places of the largest table. `normal`: of kernels/charsmap. `model`: of merges and of lattice.
    `table`: entries (places, 4) (bytes or a hash, bytes or where they are kept, size and edge and ids and limit, ids or
    where they are kept), kept bytes, kept ids. `own`: state, normal form, ids of a text, work of merges and of lattice,
    the wide sums of the latter.
    """
    kind, flags, white, apart, most = plan
    entries, kept, kept_ids = table
    state, form, ids, work, wide = own
    scores, unknown = model[1][2], model[1][3]
    strip, dummy = flags & STRIP != 0, flags & DUMMY != 0
    text, restart = I64(state[TEXT]), False
    while text < offsets.size - 1:
        begin, end, back = I64(offsets[text]), I64(offsets[text + 1]), I64(state[WRITTEN])
        at, written, total, crossed = begin, back, F32(0), restart or not apart
        restart = False
        while at < end:
            start = word = origin = at
            how, asked, there, known = I64(WHOLE), False, False, False
            facts, where, place, low, high = U64(0), U64(0), U64(0), U64(0), U64(0)
            count, length = I64(0), I64(0)
            if crossed:
                at = end
            else:
                while at < end and white[data[at]]:
                    at += 1
                word = at
                if strip:
                    start = at
                if start == end:
                    break
                at = _chunk_end(data, at, end, white)
                first = (not dummy and written == back) if strip else (dummy and start == begin and word > start)
                how = I64(EDGE if first else 0)
                asked = at - start <= LONGEST
            if asked:
                place, low, high, there = _place(data, start, at - start, how, entries, kept)
                if there:
                    facts, where = entries[place, 2], entries[place, 3]
                    count = I64(facts >> U64(8)) & MANY
                    known = kind == BPE or count == 0 or count == MANY or abs(total) < F32(facts >> U64(32))
                    length = I64(CROSSED) if count == MANY else length
            if not known:
                length = formed(data, start, word, at, how, normal, flags, form)
                if length == FORM:
                    return I64(FORM)
                limit = F32(0)
                if length < 0:
                    count = I64(MANY)
                elif kind == BPE:
                    count = merged(form, length, model[0], work[0], ids)
                elif asked and not there:
                    count, limit = weighed(form, length, model[1], work[1], wide, ids)
                else:
                    count, total = best(form, length, total, model[1], work[1], ids)
                if asked and not there:
                    size = at - start
                    if not learnt(data, start, size, how, count, limit, place, low, high, ids, state, table, most):
                        return I64(TABLE)
                    at = origin  # and ask again
                    continue
            if length == CROSSED:
                restart = True
                break
            if written + count > out.size:
                return I64(OUT)
            for one in range(count):
                if not known:
                    piece = I64(ids[one])
                elif count <= 2:
                    piece = I64(where & LOW)
                    where >>= U64(32)
                else:
                    piece = I64(kept_ids[I64(where) + one])
                if known and kind == UNIGRAM:
                    total = F32(scores[piece] + total)
                if piece != unknown or written == back or out[written - 1] != unknown:  # two unknown ones are one
                    out[written] = piece
                    written += 1
        if restart:
            continue
        text += 1
        state[TEXT], state[WRITTEN], ends[text] = text, written, written
    return I64(DONE)


Table = tuple[np.ndarray, np.ndarray, np.ndarray]


def table(places: int) -> Table:
    """Entries, kept bytes, kept ids: none yet."""
    return np.zeros((places, 4), np.uint64), np.zeros(8 * places + 2 * PAD, np.uint8), np.zeros(2 * places, np.uint32)


def larger(old: Table, most: int) -> Table:
    """The same chunks in a table of four times the places."""
    made = table(min(most, 4 * len(old[0])))
    moved(old[0], made[0])
    for kept, room in zip(old[1:], made[1:], strict=True):
        room[: len(kept)] = kept
    return made
