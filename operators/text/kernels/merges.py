"""Byte-pair encoding (Sennrich et al., arXiv 1508.07909) as SentencePiece does it: from characters, best merge first.

Two neighbours merge where they spell a piece; the piece of the best score goes first, the leftmost among equals. What
two symbols spell is looked up by their numbers: pieces have their ids, a character that is in pieces and is none has
the next ones, any other is STRANGE. A user-defined symbol is taken whole and merges with nothing (FROZEN down).

Between characters that stand side by side in no piece nothing ever merges, so a text is a row of short stretches, each
merged for itself: few symbols by looking at all of them each time, many by a heap and links, n log n in all. Pieces
that are unused merge and are taken apart again as they were last made anywhere in the text, which is then one stretch.
Promises: SentencePiece's ids. Costs some 30 ns a character of a text that is new.
"""

import numpy as np

from tundish.operators.text.kernels.charsmap import _symbol
from tundish.operators.text.kernels.machine import ALL, I64, ONE, U64, decoded, inner, kernel
from tundish.operators.text.kernels.trie import EMPTY, stepped

STRANGE, FROZEN = -1, -2  # FROZEN - id: a user-defined symbol of this id
FEW = 40  # symbols that are merged without a heap
SHORT = 16  # and that are one stretch whatever they are
LOW = np.uint64(0xFFFFFFFF)
BITS, MOST = np.uint64(21), np.uint64((1 << 21) - 1)  # of a symbol in a table; the highest, which none is
SPREAD = np.uint64(0x9E3779B97F4A7C15)
CODES = 0x110000
JOINED = np.uint64(20)  # bits of the place of a pair of characters in the map of those that pieces hold side by side
DEEPEST = 100  # pieces inside pieces that are taken apart; SentencePiece's bound


@inner
def width(byte):
    """Bytes of the character that begins with this one, as SentencePiece counts them."""
    return I64(1) if byte < 0xC0 else I64(2) if byte < 0xE0 else I64(3) if byte < 0xF0 else I64(4)


@inner
def pair_key(left, right):
    return U64(left) << BITS | U64(right)


@inner
def _paired(pairs, left, right):
    """What two symbols spell: rank and id in one number, small is good; ALL for no piece.

    `pairs`: open addressing, each entry two symbols and id + 1 in one number; ranks of the ids."""
    if left < 0 or right < 0:
        return ALL
    known, ranks = pairs
    key = pair_key(left, right)
    mask = U64(known.size - 1)
    at = (key * SPREAD >> U64(24)) & mask
    while known[at] != 0:
        if known[at] >> BITS == key:
            piece = (known[at] & MOST) - ONE
            return U64(ranks[piece]) << U64(32) | piece
        at = (at + ONE) & mask
    return ALL


@inner
def _read(text, start, end, pieces, symbols, starts):
    """The symbols of a text and where they begin; how many."""
    codes, links, values = pieces
    count, at = I64(0), start
    while at < end:
        starts[count] = at
        size = _symbol(text, at, end, links, values) if links.shape[0] > EMPTY else I64(0)
        if size > 0:
            place = I64(0)
            for here in range(at, at + size):
                place = stepped(links, place, text[here])
            symbols[count] = FROZEN - values[place]
        elif text[at] < 0x80:
            symbols[count] = codes[text[at]] - 1
            size = I64(1)
        else:
            size = min(width(text[at]), end - at)
            code, wide = decoded(text, at)
            symbols[count] = codes[code] - 1 if wide == size and code < CODES else I64(STRANGE)
        at += size
        count += 1
    starts[count] = end
    return count


@inner
def _few(count, pairs, symbols, starts, waits):
    """Merge in place; how many symbols are left."""
    for one in range(count - 1):
        waits[one] = _paired(pairs, symbols[one], symbols[one + 1])
    while True:
        best, place = ALL >> U64(32), I64(-1)
        for one in range(count - 1):
            rank = waits[one] >> U64(32)
            if rank < best:
                best, place = rank, I64(one)
        if place < 0:
            return count
        symbols[place] = waits[place] & LOW
        count -= 1
        for one in range(place + 1, count):
            symbols[one], starts[one] = symbols[one + 1], starts[one + 1]
        for one in range(place + 1, count - 1):
            waits[one] = waits[one + 1]
        starts[count] = starts[count + 1]
        if place > 0:
            waits[place - 1] = _paired(pairs, symbols[place - 1], symbols[place])
        if place + 1 < count:
            waits[place] = _paired(pairs, symbols[place], symbols[place + 1])


@inner
def _down(heap, size, at):
    """Let what stands at `at` sink to where it belongs."""
    value = heap[at]
    while True:
        child = 2 * at + 1
        if child >= size:
            break
        if child + 1 < size and heap[child + 1] < heap[child]:
            child += 1
        if heap[child] >= value:
            break
        heap[at] = heap[child]
        at = child
    heap[at] = value


@inner
def _up(heap, at, value):
    while at > 0 and heap[(at - 1) >> 1] > value:
        heap[at] = heap[(at - 1) >> 1]
        at = (at - 1) >> 1
    heap[at] = value


@inner
def _noted(wait, left, right, unused, halves):
    """Remember what an unused piece would be taken apart into."""
    piece = I64(wait & LOW)
    if piece < unused.size and unused[piece]:
        halves[piece, 0], halves[piece, 1] = left, right


@kernel
def _many(count, pairs, symbols, starts, waits, after, before, heap, unused, halves):
    """Merge by a heap; how many symbols are left, in place."""
    size = I64(0)
    for one in range(count):
        after[one], before[one] = one + 1, one - 1
        waits[one] = ALL
        if one + 1 < count:
            wait = _paired(pairs, symbols[one], symbols[one + 1])
            waits[one] = wait
            if wait != ALL:
                heap[size] = (wait & ~LOW) | U64(one)
                size += 1
                _noted(wait, symbols[one], symbols[one + 1], unused, halves)
    for one in range(size // 2 - 1, -1, -1):
        _down(heap, size, I64(one))
    while size > 0:
        top = heap[0]
        size -= 1
        if size > 0:
            heap[0] = heap[size]
            _down(heap, size, I64(0))
        left = I64(top & LOW)
        if waits[left] == ALL or waits[left] & ~LOW != top & ~LOW:
            continue  # one of the two has gone into another piece since
        right = I64(after[left])
        symbols[left] = waits[left] & LOW
        after[left] = after[right]
        waits[right] = ALL
        waits[left] = ALL
        if after[right] < count:
            before[after[right]] = left
            wait = _paired(pairs, symbols[left], symbols[after[right]])
            waits[left] = wait
            if wait != ALL:
                _up(heap, size, (wait & ~LOW) | U64(left))
                size += 1
        if before[left] >= 0:
            last = I64(before[left])
            wait = _paired(pairs, symbols[last], symbols[left])
            waits[last] = wait
            if wait != ALL:
                _up(heap, size, (wait & ~LOW) | U64(last))
                size += 1
                _noted(wait, symbols[last], symbols[left], unused, halves)
        if waits[left] != ALL:  # SentencePiece notes the pair before ours first
            _noted(waits[left], symbols[left], symbols[after[left]], unused, halves)
    end, at, left = starts[count], I64(0), I64(0)
    while at < count:
        symbols[left], starts[left] = symbols[at], starts[at]
        left += 1
        at = I64(after[at])
    starts[left] = end
    return left


@inner
def put(ids, count, piece, text, start, end, unknown, fallback):
    """One piece to the ids of a text: an unknown one as its bytes, or as one with the unknown piece before it."""
    if piece != unknown:
        ids[count] = piece
        return count + 1
    if fallback[0] >= 0:
        for at in range(start, end):
            ids[count] = fallback[text[at]]
            count += 1
        return count
    if count > 0 and ids[count - 1] == unknown:
        return count
    ids[count] = unknown
    return count + 1


@inner
def _apart(piece, start, ids, count, text, lengths, unused, halves, stack, unknown, fallback):
    """An unused piece as what it was made of; how many ids there are then."""
    stack[0, 0], stack[0, 1] = piece, 0
    depth = I64(1)
    while depth > 0:
        depth -= 1
        one, level = I64(stack[depth, 0]), I64(stack[depth, 1])
        known = one >= 0 and one < unused.size
        size = I64(lengths[one]) if known else width(text[start])
        if known and unused[one] and level <= DEEPEST and halves[one, 0] != STRANGE:
            stack[depth, 0], stack[depth, 1] = halves[one, 1], level + 1
            stack[depth + 1, 0], stack[depth + 1, 1] = halves[one, 0], level + 1
            depth += 2
            continue
        said = one if known and (not unused[one] or level > DEEPEST) else unknown
        count = put(ids, count, said, text, start, start + size, unknown, fallback)
        start += size
    return count


@inner
def joint(left, right):
    """Where two characters stand in the map: (word, bit)."""
    place = (U64(left) << U64(32) | U64(right)) * SPREAD >> (U64(64) - JOINED)
    return I64(place >> U64(6)), ONE << (place & U64(63))


@kernel
def merged(text, end, model, work, ids):
    """Put the ids of the normal form `text[:end]` at the beginning of `ids`; how many.

    `model`: pairs, (codes, links, values), map of joined characters, unused, lengths, unknown, fallback. `work`:
    symbols, starts, waits, after, before, heap, halves, stack.
    """
    pairs, pieces, bits, unused, lengths, unknown, fallback = model
    symbols, starts, waits, after, before, heap, halves, stack = work
    taking_apart = halves.shape[0] > 1
    if taking_apart:
        halves[:] = STRANGE
    all_, count, at = _read(text, I64(0), end, pieces, symbols, starts), I64(0), I64(0)
    while at < all_:
        stop = at + 1 if all_ > SHORT else all_
        while stop < all_:
            left, right = I64(symbols[stop - 1]), I64(symbols[stop])
            if not taking_apart:
                if left < 0 or right < 0:
                    break
                word, bit = joint(left, right)
                if bits[word] & bit == 0:
                    break
            stop += 1
        left = stop - at
        if taking_apart or left > FEW:
            mine = symbols[at:stop], starts[at : stop + 1]
            left = _many(left, pairs, mine[0], mine[1], waits, after, before, heap, unused, halves)
        elif left > 1:
            left = _few(left, pairs, symbols[at:stop], starts[at : stop + 1], waits)
        for one in range(at, at + left):
            piece = I64(symbols[one])
            if piece <= FROZEN:
                piece = FROZEN - piece
            elif piece < 0 or piece >= unused.size:
                piece = unknown
            elif taking_apart and unused[piece]:
                count = _apart(piece, starts[one], ids, count, text, lengths, unused, halves, stack, unknown, fallback)
                continue
            count = put(ids, count, piece, text, starts[one], starts[one + 1], unknown, fallback)
        at = stop
    return count
