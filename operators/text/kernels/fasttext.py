"""Labels of texts by a supervised fastText model (Joulin et al., arXiv 1607.01759; Bojanowski et al., 1607.04606).

A text is the bag of its words (runs between fastText's white space), their n-grams of characters and runs of words; the
rows of all of them are added in fastText's order, in its precision, so that the sum is the same float32 for float32.
The rows of a word are looked up once and remembered (`keys` to `pool`): what costs is adding them.

Promises: no GIL; state is the caller's, so that each thread has its own. A word of a text that is `</s>` or begins with
`__label__` is fastText's own and no word. Refuses nothing.
"""

import numpy as np

from tundish.operators.text.kernels.machine import I64, U64, inner, kernel

OFF = -1  # a bucket without a row
FNV, PRIME = np.uint32(2166136261), np.uint32(16777619)
WORD_GRAM = np.uint64(116049371)
LONG = 1024  # bytes of a word that is remembered
BATCH = 64  # words looked up one after the other, before their rows are added
COUNT, MOST = np.uint64(24), np.uint64((1 << 24) - 1)  # bits that hold how many rows a word has
NAMED = np.uint64(0xFFFFFFFFFFFFFFFF)  # in their place: a label is no word
F32, U32 = np.float32, np.uint32
EOS_HASH = np.uint32(3617362777)  # of "</s>"
LABEL = np.frombuffer(b"__label__", np.uint8)


@inner
def _white(byte):
    return byte == 32 or (byte >= 9 and byte <= 13) or byte == 0


@inner
def _hashed(state, byte):
    """FNV-1a as fastText has it: bytes are signed."""
    wide = U32(byte) if byte < 128 else U32(byte) | U32(0xFFFFFF00)
    return U32(U32(state ^ wide) * PRIME)


@kernel
def measured(data, at, starts, counts):
    """Entries of a dictionary: (n + 1,) where each begins; where they end, -1 if they do not. An entry is its bytes, a
    NUL, 8 bytes of count and 1 of kind."""
    end = I64(data.size)
    for entry in range(counts.size):
        starts[entry] = at
        while at < end and data[at] != 0:
            at += 1
        if at + 10 > end:
            return I64(-1)
        count = I64(0)
        for byte in range(8):
            count |= I64(data[at + 1 + byte]) << I64(8 * byte)
        counts[entry] = count
        at += 10
    starts[counts.size] = at
    return I64(at)


@kernel
def laid(text, bounds, table):
    """Put each word into the table by its hash; which one is the end of a sentence, -1 for none."""
    mask, eos = U64(table.size - 1), I64(-1)
    for word in range(bounds.size - 1):
        start, end = I64(bounds[word]), I64(bounds[word + 1]) - 10
        state = FNV
        for at in range(start, end):
            state = _hashed(state, text[at])
        place = U64(state) * U64(0x9E3779B97F4A7C15) >> U64(20) & mask
        while table[place] >= 0:
            place = (place + U64(1)) & mask
        table[place] = word
        if end - start == 4 and text[start] == 60 and text[start + 1] == 47 and text[start + 2] == 115:
            eos = word if text[start + 3] == 62 else eos
    return eos


@inner
def _found(data, start, end, state, text, bounds, table):
    """The number of a word; -1 for one that is not known."""
    mask = U64(table.size - 1)
    place = U64(state) * U64(0x9E3779B97F4A7C15) >> U64(20) & mask
    while table[place] >= 0:
        word = I64(table[place])
        first = I64(bounds[word])
        if I64(bounds[word + 1]) - 10 - first == end - start:
            same = True
            for at in range(end - start):
                if text[first + at] != data[start + at]:
                    same = False
                    break
            if same:
                return word
        place = (place + U64(1)) & mask
    return I64(-1)


@inner
def _kept(bucket, first, pruned):
    """The row of a bucket; -1 where it was pruned away. Most were: a bit for each lies nearer than a row for each."""
    rows, bits = pruned
    if rows.size == 0:
        return first + bucket
    if (bits[bucket >> 3] >> (bucket & 7)) & 1 == 0:
        return I64(OFF)
    return first + I64(rows[bucket])


@inner
def _grams(data, start, end, low, high, sizes, first, pruned, pool, used):
    """Rows of the n-grams of a word between its marks `<` and `>` that begin from `low` to `high`; how many of the pool
    are used then."""
    shortest, longest, buckets = sizes[0], sizes[1], sizes[2]
    size = end - start + 2
    for begin in range(low, high):
        byte = I64(60) if begin == 0 else I64(62) if begin == size - 1 else I64(data[start + begin - 1])
        if byte & 0xC0 == 0x80:
            continue
        state, at, n = FNV, begin, I64(1)
        while at < size and n <= longest:
            byte = I64(60) if at == 0 else I64(62) if at == size - 1 else I64(data[start + at - 1])
            state = _hashed(state, byte)
            at += 1
            while at < size - 1 and I64(data[start + at - 1]) & 0xC0 == 0x80:
                state = _hashed(state, data[start + at - 1])
                at += 1
            if n >= shortest and not (n == 1 and (begin == 0 or at == size)):
                row = _kept(I64(state % U32(buckets)), first, pruned)
                if row >= 0:
                    pool[used] = row
                    used += 1
            n += 1
    return used


@inner
def _spelt(data, start, end, sizes, first, pruned, pool, used, marked):
    """The same of a whole word, quicker: nearly all n-grams of a pruned model have no row, so each is written down and
    the next one over it, where a jump would be guessed wrong now and then."""
    shortest, longest, buckets = sizes[0], sizes[1], U32(sizes[2])
    rows, bits = pruned
    whole, size, low = rows.size == 0, end - start + 2, used
    marked[0], marked[size - 1] = 60, 62
    for at in range(start, end):
        marked[at - start + 1] = data[at]
    for begin in range(size):
        if marked[begin] & 0xC0 == 0x80:
            continue
        state, at, n = FNV, begin, I64(1)
        while at < size and n <= longest:
            state = _hashed(state, marked[at])
            at += 1
            while at < size and marked[at] & 0xC0 == 0x80:
                state = _hashed(state, marked[at])
                at += 1
            if n >= shortest and not (n == 1 and (begin == 0 or at == size)):
                bucket = I64(state % buckets)
                pool[used] = bucket
                used += I64(1) if whole else I64((bits[bucket >> 3] >> (bucket & 7)) & 1)
            n += 1
    for one in range(low, used):
        pool[one] = first + I64(pool[one]) if whole else first + I64(rows[pool[one]])
    return used


@inner
def _named(data, start, end):
    """Whether a word is a label, or the end of a sentence."""
    if end - start == 4 and data[start] == 60 and data[start + 1] == 47:
        return data[start + 2] == 115 and data[start + 3] == 62
    if end - start < LABEL.size:
        return False
    at = 0
    while at < LABEL.size and data[start + at] == LABEL[at]:
        at += 1
    return at == LABEL.size


@inner
def _added(vectors, pool, low, high, hidden):
    for one in range(low, high):
        row = I64(pool[one])
        for d in range(hidden.size):
            hidden[d] += vectors[row, d]


@inner
def _flushed(batch, low, high, vectors, pool, longest, hashes, runs, words, hidden):
    """The rows of looked-up words added up; (rows, words in `runs` then)."""
    count = I64(0)
    for one in range(low, high):
        first, many = batch[one, 2], batch[one, 3]
        if first < 0:  # a label is no word
            continue
        _added(vectors, pool, first, first + many, hidden)
        count += many
        if longest > 1:
            runs[words] = hashes[batch[one, 4]]
            words += 1
    return count, words


@kernel
def summed(data, start, end, known, vectors, pruned, sizes, eos, learnt, state, runs, hidden):
    """The rows of a text added up in `hidden`, divided by their number, which is returned.

    `known`: text, bounds and table of the model's words. `sizes`: shortest and longest n-gram of characters, buckets,
    longest run of words. `learnt`: by place, the key of a word, and its first row in the pool above the number of its
    rows, side by side in one line of the cache; its hash; the pool; room for a word between its marks, and for `BATCH`
    words. `state`: words remembered, rows in the pool. `runs`: room for the hashes of the words of a text.

    Words are cut and hashed, then looked up, then added, some at a time: so the memory is asked for many at once.
    """
    text, bounds, table = known
    memory, hashes, pool, marked, keys, batch = learnt
    places = I64(memory.shape[0])
    mask, first, longest = U64(places - 1), I64(bounds.size - 1), sizes[3]
    hidden[:] = F32(0)
    count, words, at, held = I64(0), I64(0), start, I64(1)
    while held:
        held = I64(0)
        while at < end and held < BATCH:
            while at < end and _white(data[at]):
                at += 1
            begin, key = at, U64(0xCBF29CE484222325)
            while at < end and not _white(data[at]):
                key = (key ^ U64(data[at])) * U64(0x9FB21C651E98DF25)
                key ^= key >> U64(29)
                at += 1
            if at == begin:
                break
            keys[held], batch[held, 0], batch[held, 1] = key | U64(1), begin, at
            held += 1
        done = I64(0)  # words of these that are added up
        for one in range(held):
            key = keys[one]
            place = (key >> U64(17)) & mask
            while memory[place, 0] != 0 and memory[place, 0] != key:
                place = (place + U64(1)) & mask
            if memory[place, 0] == 0:
                begin, last = batch[one, 0], batch[one, 1]
                low, lasting = I64(state[1]), last - begin <= LONG
                full = 2 * state[0] >= places
                full = full or low + (min(last - begin, I64(LONG)) + 3) * (sizes[1] + 1) > pool.size
                if full or not lasting:
                    more, words = _flushed(batch, done, one, vectors, pool, longest, hashes, runs, words, hidden)
                    count, done = count + more, I64(one)
                if full:
                    memory[:, 0] = U64(0)  # what is remembered is forgotten; what is added up stays
                    state[:] = 0
                    low, place = I64(0), (key >> U64(17)) & mask
                used, named, code = low, _named(data, begin, last), FNV
                if not named:
                    for byte in range(begin, last):
                        code = _hashed(code, data[byte])
                    word = _found(data, begin, last, code, text, bounds, table)
                    if word >= 0:
                        pool[used] = word
                        used += 1
                if not lasting:
                    done += 1
                    if named:
                        continue
                    _added(vectors, pool, low, used, hidden)
                    count += used - low
                    for part in range(0, last - begin + 2 if sizes[1] > 0 else 0, LONG):
                        to = min(I64(part) + LONG, last - begin + 2)
                        used = _grams(data, begin, last, I64(part), to, sizes, first, pruned, pool, low)
                        _added(vectors, pool, low, used, hidden)
                        count += used - low
                    if longest > 1:
                        runs[words] = code
                        words += 1
                    continue
                if sizes[1] > 0 and not named:
                    used = _spelt(data, begin, last, sizes, first, pruned, pool, used, marked)
                memory[place, 0] = key
                memory[place, 1] = NAMED if named else U64(low) << COUNT | U64(used - low)
                if longest > 1:
                    hashes[place] = code
                state[0], state[1] = state[0] + 1, used
            packed = memory[place, 1]
            batch[one, 2] = I64(-1) if packed == NAMED else I64(packed >> COUNT)
            batch[one, 3], batch[one, 4] = I64(packed & MOST), I64(place)
        more, words = _flushed(batch, done, held, vectors, pool, longest, hashes, runs, words, hidden)
        count += more
    if eos >= 0:
        for d in range(hidden.size):
            hidden[d] += vectors[eos, d]
        count += 1
    if longest > 1:
        runs[words] = EOS_HASH
        words += 1
        for one in range(words):
            run = U64(I64(np.int32(runs[one])))
            for other in range(one + 1, min(words, one + longest)):
                run = run * WORD_GRAM + U64(I64(np.int32(runs[other])))
                row = _kept(I64(run % U64(sizes[2])), first, pruned)
                if row >= 0:
                    for d in range(hidden.size):
                        hidden[d] += vectors[row, d]
                    count += 1
    if count:
        part = F32(1.0 / count)
        for d in range(hidden.size):
            hidden[d] *= part
    return count
