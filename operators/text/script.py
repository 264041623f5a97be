"""Which script a text is written in, by its letters (ISO 15924 codes), and whether it is all in capitals.

Which letter is of which script is a fact of Unicode (Scripts.txt, as fontTools carries it). Some languages are written
in several at once: a text with kana among its Han is `Jpan`, one of Han alone `Hani`; one of Hangul is `Hang`, with Han
or without. `Hani` and `Hang` are the codes that FineWeb-2 and GlotLID use too.

Promises: the same on every machine of one fontTools. Costs a nanosecond or two a byte. Refuses nothing: what has no
letters has no script.
"""

from functools import lru_cache

import numpy as np
import pyarrow as pa
from fontTools.unicodedata import Scripts

from tundish.operators.text.kernels import classes
from tundish.operators.text.kernels.machine import sealed
from tundish.operators.text.kernels.script import counted, shouted

NOBODYS = ("Zyyy", "Zinh", "Zzzz")  # common to several, inherited from the letter before, unknown
KANA = 0.05  # share of kana among kana and Han from which a text is Japanese: Chinese quotes a word now and then


@lru_cache(maxsize=1)
def _table() -> tuple[np.ndarray, tuple[str, ...]]:
    """(0x110000,) uint8 numbers of scripts by code point, 0 for what is no letter, and the code of each number."""
    codes = ("", "Jpan", *sorted({*Scripts.VALUES} - {*NOBODYS}))
    number = {code: place for place, code in enumerate(codes)} | dict.fromkeys(NOBODYS, 0)
    number |= {"Hira": 1, "Kana": 1}
    starts = np.array([*Scripts.RANGES, 0x110000])
    out = np.repeat(np.array([number[code] for code in Scripts.VALUES], np.uint8), np.diff(starts))
    out[classes.table() & classes.ALPHA == 0] = 0
    return sealed(out), codes


def in_capitals(texts: pa.LargeStringArray) -> np.ndarray:
    """(n,) whether a text is all in capitals: a headline, a notice.

    >>> in_capitals(pa.array(["DER KRANICH, 2024", "Der Kranich", "NBA 東京の鶴", "123"], pa.large_string())).tolist()
    [True, False, False, False]
    """
    found = np.zeros(len(texts), np.bool_)
    if len(texts):
        shouted(*_buffers(texts), classes.table(), found)
    return found


def _buffers(texts: pa.LargeStringArray) -> tuple[np.ndarray, np.ndarray]:
    """The bytes of all texts, and (n + 1,) where each begins."""
    offsets = sealed(np.frombuffer(texts.buffers()[1], np.int64, len(texts) + 1, 8 * texts.offset))
    return sealed(np.frombuffer(texts.buffers()[2] or b"\0", np.uint8)), offsets


def scripts(texts: pa.LargeStringArray) -> pa.StringArray:
    """(n,) ISO 15924 code of the script most letters of each text are of; null without letters.

    >>> scripts(pa.array(["Kranich", "журавль", "鶴が飛ぶ", "鹤飞走了", "123"], pa.large_string())).to_pylist()
    ['Latn', 'Cyrl', 'Jpan', 'Hani', None]
    """
    table, codes = _table()
    if not len(texts):
        return pa.array([], pa.string())
    counts = np.zeros((len(texts), len(codes)), np.int32)
    counted(*_buffers(texts), table, codes.index("Latn"), counts)
    counts[:, 0] = 0
    han, kana = codes.index("Hani"), codes.index("Jpan")
    japanese = counts[:, kana] > KANA * (counts[:, han] + counts[:, kana])
    counts[:, kana] += counts[:, han]
    counts[:, han] = np.where(japanese, 0, counts[:, kana])
    counts[~japanese, kana] = 0
    best = counts.argmax(1)
    best[counts[np.arange(len(texts)), best] == 0] = 0
    return pa.array(np.array([*codes[1:], None], object)[best - 1], pa.string())
