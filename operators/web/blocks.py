"""The blocks of a page: what a reader sees as one paragraph, cell or item; what their words, links and tags look like.

A block is text between two places where a browser begins a new box. Numbers of a block come from its bytes in one pass:
words (runs of letters and digits; a CJK character is one), those in links, capitals, digits, stops, commas.

Promises: linear time. Costs about 0.5 ms for a page of 200 KB. Refuses nothing: a page without text has no blocks.
"""

import numpy as np

from tundish.operators.text.kernels.machine import I64, U64, decoded, inner, kernel
from tundish.operators.web.elements import PART
from tundish.operators.web.outline import IN_LINK, Outline

WORDS, LINKED, LETTERS, CAPITALS, DIGITS, STOPS, COMMAS, SIGNS, PRICES, BREAKS, BYTES, CHARACTERS = range(12)
COUNTS = 12

LETTER, DIGIT, CAPITAL, STOP, COMMA, SIGN, PRICE, BLANK = 1, 2, 4, 8, 16, 32, 64, 128


def _ascii() -> np.ndarray:
    kinds = np.full(128, SIGN, np.uint8)
    for byte in range(128):
        sign = chr(byte)
        if sign.isdigit():
            kinds[byte] = DIGIT
        elif sign.isalpha():
            kinds[byte] = LETTER | CAPITAL if sign.isupper() else LETTER
        elif sign.isspace() or byte < 32:
            kinds[byte] = BLANK
    kinds[[ord(c) for c in ".!?"]] = STOP
    kinds[ord(",")] = COMMA
    kinds[ord("$")] = PRICE
    kinds[ord("'")] = BLANK
    return kinds


ASCII = _ascii()


@inner
def _kind(code):
    """What a character beyond ASCII is; 0 for one that is a word by itself."""
    if code == 0xA0 or code == 0x3000 or (code >= 0x2000 and code <= 0x200B):
        return I64(128)
    if code == 0x3002 or code == 0xFF01 or code == 0xFF1F or code == 0x2026:
        return I64(8)
    if code == 0x3001 or code == 0xFF0C:
        return I64(16)
    if code == 0xA3 or code == 0x20AC or code == 0xA5 or code == 0x20B9:
        return I64(64)
    if code < 0xC0 or (code >= 0x2000 and code < 0x2C00) or (code >= 0x3000 and code < 0x3040) or code >= 0x1F000:
        return I64(32)
    if (code >= 0x3040 and code < 0xA000) or (code >= 0xF900 and code < 0xFB00) or code >= 0x20000:
        return I64(0)
    return I64(1)


@kernel
def count(data, pieces, gaps, ascii_kinds, counts, shown, hashes, owners, used):
    """Counts of each piece, and a hash of each of its words (small letters, ASCII alike) with its piece.

    `shown`: (2, pieces) first and last character that is no blank. `used`: (1,) how many hashes.
    """
    n = I64(0)
    for piece in range(pieces.shape[1]):
        at, end = I64(pieces[0, piece]), I64(pieces[1, piece])
        linked = (gaps[piece] & 16) != 0
        word, value, first, last = False, U64(0xCBF29CE484222325), I64(0), I64(0)
        capital, letters = False, False
        while at < end:
            byte = I64(data[at])
            code, width = byte, I64(1)
            if byte < 128:
                kind = I64(ascii_kinds[byte])
                if byte == 38:  # a character reference
                    stop = at + 1
                    while stop < end and stop < at + 10 and data[stop] != 59 and data[stop] > 32:
                        stop += 1
                    if stop < end and data[stop] == 59:
                        kind, width = I64(128), stop - at + 1
            else:
                code, width = decoded(data, at)
                kind = _kind(code)
            if kind != 128 and kind != 0:
                first = code if first == 0 else first
                last = code
            if kind & 3:
                if not word:
                    word, value, capital, letters = True, U64(0xCBF29CE484222325), (kind & 4) != 0, False
                letters |= (kind & 1) != 0
                value = (value ^ U64(code | 0x20 if kind & 4 else code)) * U64(0x100000001B3)
                counts[2, piece] += kind & 1
            if word and (not (kind & 3) or at + width >= end):
                word = False
                counts[0, piece] += 1
                counts[1, piece] += linked
                counts[3, piece] += capital
                counts[4, piece] += not letters
                if n < hashes.size:
                    hashes[n], owners[n] = np.uint32(value >> U64(16)), piece
                    n += 1
            if kind == 0:
                if n < hashes.size:
                    hashes[n], owners[n] = np.uint32((U64(code) * U64(0x9E3779B97F4A7C15)) >> U64(16)), piece
                    n += 1
                counts[11, piece] += 1
                counts[2, piece] += 1
                first = code if first == 0 else first
                last = code
            counts[5, piece] += kind == 8
            counts[6, piece] += kind == 16
            counts[7, piece] += kind == 32
            counts[8, piece] += kind == 64
            at += width
        shown[0, piece], shown[1, piece] = first, last
        counts[9, piece] = (gaps[piece] & 15) == 2
        counts[10, piece] = end - I64(pieces[0, piece])
    used[0] = n


class Blocks:
    """Blocks of an outline. `starts`: (blocks,) first piece of each; `counts`: (COUNTS, blocks) float32."""

    def __init__(self, outline: Outline) -> None:
        pieces = outline.pieces.shape[1]
        counts = np.zeros((COUNTS, pieces), np.int32)
        shown = np.zeros((2, pieces), np.int32)
        size = int((outline.pieces[1] - outline.pieces[0]).sum())
        hashes, owners = np.empty(size // 2 + pieces + 1, np.uint32), np.empty(size // 2 + pieces + 1, np.int32)
        used = np.zeros(1, np.int64)
        count(outline.data, outline.pieces, outline.gaps, ASCII, counts, shown, hashes, owners, used)
        counts[WORDS] += counts[CHARACTERS] // 2  # two characters of Chinese or Japanese are about a word
        counts[LINKED] += np.where(outline.gaps & IN_LINK, counts[CHARACTERS] // 2, 0)
        self.outline = outline
        self.hashes, self.owners = hashes[: used[0]], owners[: used[0]]
        begins = (outline.gaps & 15) == PART
        if pieces:
            begins[0] = True
        self.starts = np.flatnonzero(begins)
        self.of_piece = np.cumsum(begins) - 1  # (pieces,) block of each
        self.by_piece = counts
        self.counts = np.add.reduceat(counts, self.starts, axis=1).astype(np.float32) if pieces else counts
        self.first = shown[0][self.starts] if pieces else shown[0]
        stops = np.append(self.starts[1:], pieces) - 1
        self.last = shown[1][stops] if pieces else shown[1]
        self.element = outline.pieces[2][self.starts] if pieces else shown[0]

    def __len__(self) -> int:
        return len(self.starts)
