"""Ids of texts by a SentencePiece model, whole batches at a time, without the GIL.

Promises: for every text the ids of `SentencePieceProcessor.encode` (0.2.3), unigram or BPE, whatever the rules of
normalisation; the same whatever was asked before and in however many threads. A text is taken as it is, bytes that are
no UTF-8 included; a null is empty. No text is too long: time grows as n log n at most.

How: what a chunk between white space becomes is worked out once and kept (kernels/chunked), where the model's rules and
pieces let chunks stand for themselves, which nearly all do; other models, and texts that hold U+2581, go as a whole.
Costs about 10 ns a byte of prose (benchmarks/tokenize.py); memory of some 30 MB a thread beside the model, and for a
text beyond 100 kB a hundred bytes for each of its own. Refuses what is no such model, and one that fails its own tests.
"""

import threading

import numpy as np
import pyarrow as pa

from tundish.operators.text.column import large
from tundish.operators.text.kernels import charsmap, chunked, merge_tables
from tundish.operators.text.kernels.machine import PAD, padded, sealed
from tundish.operators.text.kernels.trie import trie
from tundish.operators.text.sentencepiece_file import (
    NORMAL,
    SPACE,
    UNUSED,
    USER_DEFINED,
    Model,
    byte_piece,
    read,
    rules,
)

PLACES = 1 << 19  # of the largest table of chunks: half as many chunks, 24 MB
ROOM = 1 << 17  # bytes of a normal form there is room for from the start
TOLERANCE = 1e-2  # of the sums of scores of two ways that are equally good
PENALTY = np.float32(10)  # what an unknown character is below the worst piece


class Encoder:
    """May be called from any thread; each has a table of chunks of its own."""

    def __init__(self, model: bytes) -> None:
        self.bytes, self.model = bytes(model), read(model)
        self._own = threading.local()
        self._normal, white = _normal(self.model)
        kind = chunked.BPE if self.model.kind == "bpe" else chunked.UNIGRAM
        self._plan = (kind, _flags(self.model), white, _apart(self.model), PLACES)
        self._tables = _merging(self.model), _graph(self.model)
        self._test()

    @property
    def size(self) -> int:
        """How many pieces there are."""
        return len(self.model.pieces)

    def __reduce__(self) -> tuple[type, tuple[bytes]]:
        return Encoder, (self.bytes,)

    def __call__(self, texts: pa.LargeStringArray, *, warm: bool = True) -> pa.LargeListArray:
        """(n,) lists of ids, no specials added; uint16 where the pieces are at most 65,536, else uint32.

        `warm`: with what this thread remembers of chunks; without, it begins anew.
        """
        texts = large(texts)
        own = self._memory(warm)
        data, offsets = _bytes(texts)
        own.state[: chunked.ENTRIES] = 0
        size, longest = int(offsets[-1] - offsets[0]), int(np.diff(offsets).max(initial=0))
        out = np.empty(size // 2 + 1024, np.uint32)
        ends = np.zeros(len(texts) + 1, np.int64)
        while True:
            mine = (own.state, own.form, own.ids, own.work, own.wide)
            why = chunked.coded(data, offsets, self._plan, self._normal, self._tables, own.table, mine, out, ends)
            if why == chunked.DONE:
                break
            if why == chunked.OUT:
                out = np.concatenate([out, np.empty(len(out), np.uint32)])
            elif why == chunked.TABLE:
                own.table = chunked.larger(own.table, PLACES)
            else:
                self._make_room(max(2 * len(own.form), longest * 5 // 4))
        if len(own.form) > 8 * ROOM:
            self._make_room(ROOM)
        kind = np.uint16 if self.size <= 1 << 16 else np.uint32
        return pa.LargeListArray.from_arrays(pa.array(ends), pa.array(out[: ends[-1]].astype(kind)))

    def _memory(self, warm: bool) -> threading.local:
        own = self._own
        if not hasattr(own, "form"):
            self._make_room(ROOM)
        if not warm or not hasattr(own, "table"):
            own.state, own.table = np.zeros(5, np.int64), chunked.table(min(chunked.LEAST, PLACES))
        return own

    def _make_room(self, room: int) -> None:
        """For a normal form of so many bytes."""
        own, bpe = self._own, self.model.kind == "bpe"
        own.form, own.ids = np.zeros(room + PAD, np.uint8), np.zeros(room + PAD, np.int32)
        many, few = (room + PAD, 1) if bpe else (1, room + PAD)
        numbers = [np.empty(many, np.int32) for _ in range(4)]
        halves = np.zeros((self.size if (self.model.types == UNUSED).any() else 1, 2), np.int32)
        symbols, starts, after, before = numbers
        waits, heap = np.empty(many, np.uint64), np.empty(3 * many, np.uint64)
        merging = symbols, starts, waits, after, before, heap, halves, np.zeros((256, 2), np.int64)
        seeking = np.empty(few, np.float32), np.empty(few, np.int32), np.empty(few, np.int32)
        own.work, own.wide = (merging, seeking), np.empty((2, few), np.float64)

    def _test(self) -> None:
        """The texts that came with the model, if any did, must give the pieces that came with them; a unigram model's
        as good ones, for SentencePiece has not always taken the same among equals."""
        samples = self.model.samples
        if not samples:
            return
        found = self(pa.array([text for text, _ in samples], pa.large_string())).to_pylist()
        numbers = {piece.decode(): number for number, piece in enumerate(self.model.pieces)}
        scores, penalty = self._tables[1][2], self._tables[1][4]
        for (text, pieces), ids in zip(samples, found, strict=True):
            said = [numbers.get(piece, self.model.unknown) for piece in pieces.split(" ") if piece]
            sums = [
                sum(float(penalty if one == self.model.unknown else scores[one]) for one in way) for way in (said, ids)
            ]
            level = self.model.kind == "unigram" and abs(sums[0] - sums[1]) < TOLERANCE
            if said != ids and not level:
                raise ValueError(
                    f"the model fails its own test: {text[:60]!r} becomes {ids[:9]}, not {said[:9]}; "
                    "give the file as SentencePiece wrote it"
                )


def _bytes(texts: pa.LargeStringArray) -> tuple[np.ndarray, np.ndarray]:
    """The bytes of some texts, with room behind them, and where each begins; a null has none."""
    if not len(texts):
        return sealed(np.zeros(PAD, np.uint8)), sealed(np.zeros(1, np.int64))
    if texts.null_count:
        texts = texts.fill_null("")
    offsets = np.frombuffer(texts.buffers()[1], np.int64, len(texts) + 1, 8 * texts.offset)
    data = np.frombuffer(texts.buffers()[2] or b"", np.uint8)
    first, last = int(offsets[0]), int(offsets[-1])
    if last + PAD <= len(data):
        return sealed(data), sealed(offsets)
    return padded(data, first, last), sealed(offsets - first)


def _flags(model: Model) -> int:
    """The normaliser's, as kernels/charsmap asks them."""
    said = model.strip, model.dummy_prefix, model.suffix, model.escape
    bits = charsmap.STRIP, charsmap.DUMMY, charsmap.SUFFIX, charsmap.ESCAPE
    return sum(bit for bit, is_so in zip(bits, said, strict=True) if is_so)


def _usable(model: Model) -> np.ndarray:
    """(pieces,) which may be found in a text, or merged on the way."""
    found = np.isin(model.types, (NORMAL, USER_DEFINED, UNUSED))
    return found & np.array([piece != b"\0" for piece in model.pieces])


def _apart(model: Model) -> bool:
    """Whether what follows white space never joins what is before it: a space stands in pieces at their beginning."""
    usable = _usable(model)
    if model.suffix or not model.escape or (model.kind == "bpe" and (model.types[usable] == UNUSED).any()):
        return False  # an unused piece is taken apart as it was last made, anywhere in the text
    spaced = [piece for piece, asked in zip(model.pieces, usable, strict=True) if asked and SPACE in piece]
    mark = SPACE.decode()
    return not any(mark in piece.decode().lstrip(mark) for piece in spaced)


def _normal(model: Model) -> tuple[tuple[np.ndarray, ...], np.ndarray]:
    """What kernels/charsmap asks of a model, and (256,) which bytes are white space and part of nothing longer."""
    units, texts = rules(model.charsmap) if model.charsmap else (np.zeros(0, np.uint32), np.zeros(0, np.uint8))
    users = {piece: int(at) for at, piece in enumerate(model.pieces) if model.types[at] == USER_DEFINED}
    alone, behind, inside = charsmap.spread(units)
    plain, white = np.zeros(256, np.uint8), np.zeros(256, np.bool_)
    for byte in range(128):
        said = texts[alone[byte] :].tobytes().partition(b"\0")[0] if byte in alone else bytes([byte])
        if len(said) == 1 and said != b" " and not any(behind[byte][:128]) and not any(own[0] == byte for own in users):
            plain[byte] = said[0]
        longer = any(behind[byte]) or inside[byte] or any(byte in own for own in users)
        white[byte] = said == b" " and byte <= 32 and not longer
    return (sealed(units), sealed(texts), plain, *trie(list(users), list(users.values()))), white


def _merging(model: Model) -> tuple[object, ...]:
    """What kernels/merges asks of a model."""
    pairs = np.zeros(1, np.uint64), np.zeros(1, np.uint32)
    codes, bits = np.zeros(1, np.int32), np.zeros(1, np.uint64)
    links, values = trie([], [])
    if model.kind == "bpe":
        pairs, codes, bits = merge_tables.tables(model.pieces, model.scores, _usable(model))
        users = {piece: at for at, piece in enumerate(model.pieces) if model.types[at] == USER_DEFINED}
        links, values = trie(list(users), list(users.values()))
    lengths = np.array([len(piece) for piece in model.pieces], np.int32)
    return pairs, (codes, links, values), bits, model.types == UNUSED, lengths, model.unknown, _fallback(model)


def _graph(model: Model) -> tuple[object, ...]:
    """What kernels/lattice asks of a model. A user-defined symbol's score is SentencePiece's own, by its bytes."""
    own = [at for at in np.flatnonzero(_usable(model)) if model.types[at] != UNUSED and model.kind == "unigram"]
    links, values = trie([model.pieces[at] for at in own], [int(at) for at in own])
    lengths = np.array([len(piece) for piece in model.pieces])
    scores = np.where(model.types == USER_DEFINED, 0.1 * (lengths - 1), model.scores).astype(np.float32)
    worst = model.scores[model.types == NORMAL].min(initial=np.finfo(np.float32).max)
    return links, values, scores, model.unknown, np.float32(worst - PENALTY), _fallback(model)


def _fallback(model: Model) -> np.ndarray:
    """(256,) the ids of the bytes; -1 without byte fallback."""
    if not model.byte_fallback:
        return np.full(256, -1, np.int32)
    numbers = {piece: at for at, piece in enumerate(model.pieces)}
    return np.array([numbers[byte_piece(byte)] for byte in range(256)], np.int32)
