"""Text repair: what is broken in a text is mended before anything reads it, and said by name.

Promises: texts that need nothing come back as they are, found by one pass over the Arrow buffers (2 to 10 GB/s for
ASCII, about 0.5 to 1 GB/s for other scripts); what needs something goes to Python. Repairing twice changes nothing.
Refuses nothing. Null stays null. HTML entities, quotes, ligatures and full-width forms are spelling and stay as they
are, though ftfy would change them by default.

A text is repaired when no step, in this order, changes it; steps are repeated until that holds:

1. `line_endings`: CR LF, CR, VT, FF, U+2028 and U+2029 become LF (Unicode 5.8, newline guidelines).
2. `mojibake`: `ftfy.fix_encoding` (ftfy 6, its own defaults) on each line, as `ftfy.fix_text` goes by lines. C1
   controls are read as windows-1252, as browsers do: so U+0085 becomes an ellipsis, which it nearly always was.
3. `control`: terminal escapes, C0 but tab and LF, DEL, C1, deprecated format characters (U+206A-206F), interlinear
   annotation and object replacement (U+FFF9-FFFC), the noncharacters U+FFFE and U+FFFF go.
4. `zero_width`: zero-width space, word joiner, byte order mark go everywhere; the joiners U+200C and U+200D only where
   ASCII or nothing is on both sides: Persian, Indic scripts and emoji are spelled with them. Bidi marks stay.
5. `nfc`: canonical composition (Unicode annex 15).

Surrogates cannot be in an Arrow string: where bytes become text, `text_of` mends them with all that is no UTF-8, and
`repaired` mends those of a Python string (step `surrogates`, before the others).
"""

import re
from collections.abc import Callable

import ftfy
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tundish.operators.text.column import large
from tundish.operators.text.compose import composed
from tundish.operators.text.flaws import (
    CONTROL,
    CONTROLS,
    INVISIBLE,
    LINES,
    MOJIBAKE,
    NFC,
    PIECE,
    ZERO,
    flags_of,
    needs,
)

_LINE_END = re.compile("\r\n|[\r\x0b\x0c\u2028\u2029]")
_ESCAPE = re.compile("\x1b\\[[0-9;]*[A-Za-z]")
_JOINER = re.compile("(?<![^\0-\x7f])[\u200c\u200d]+(?![^\0-\x7f])")
_LONE = re.compile(rb"\xed[\xa0-\xaf][\x80-\xbf]\xed[\xb0-\xbf][\x80-\xbf]|\xed[\xa0-\xbf][\x80-\xbf]")


def repair(texts: pa.LargeStringArray) -> tuple[pa.LargeStringArray, pa.ListArray]:
    r"""(n,) repaired texts, and (n,) lists of the names of the steps that changed something, in the order of steps.

    The same array comes back when no text needs anything (large strings, that is: another column of text is made one
    first). Raises TypeError for what is no column of text.

    >>> texts, done = repair(pa.array(["na\u00c3\u00afve\r\n", "fine"], pa.large_string()))
    >>> texts.to_pylist(), done.to_pylist()
    (['naïve\n', 'fine'], [['line_endings', 'mojibake'], []])
    """
    texts = large(texts)
    needed = needs(texts)
    rows = np.flatnonzero(needed)
    now = dict(zip(rows.tolist(), texts.take(pa.array(rows)).to_pylist(), strict=True)) if rows.size else {}
    done: dict[int, set[str]] = {row: set() for row in now}
    changed: set[int] = set()
    while rows.size:
        before = [now[row] for row in rows.tolist()]
        for row, flags in zip(rows.tolist(), needed[needed > 0].tolist(), strict=True):
            now[row] = _mended(now[row], flags, done[row])
        rows = rows[[now[row] != text for row, text in zip(rows.tolist(), before, strict=True)]]
        changed.update(rows.tolist())
        needed = needs(pa.array([now[row] for row in rows.tolist()], pa.large_string()))
        rows = rows[needed > 0]
    return _replaced(texts, {row: now[row] for row in sorted(changed)}), _named(len(texts), done)


def repaired(text: str) -> tuple[str, list[str]]:
    r"""One Python string, which may hold surrogates: a pair becomes its character, one alone U+FFFD.

    >>> repaired("\ud83d\ude0d e\u0301\ud800")
    ('😍 é�', ['surrogates', 'nfc'])
    """
    whole = _whole(text)
    texts, done = repair(pa.array([whole], pa.large_string()))
    return texts[0].as_py(), ["surrogates"] * (whole != text) + done[0].as_py()


def _whole(text: str) -> str:
    try:
        text.encode()
        return text
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def _mended(text: str, flags: int, done: set[str]) -> str:
    """One round. A step that was not asked for still runs once another has changed the text; mojibake alone is told
    by `flags`, which see lines as the first step leaves them."""
    changed = False
    for flag, name, step in _STEPS:
        if flags & flag or (changed and flag != MOJIBAKE):
            new = step(text)
            if new != text:
                text, changed = new, True
                done.add(name)
    return text


def _decoded(text: str) -> str:
    """Mojibake undone, line by line; a line keeps its LF, which is what ftfy judges it with."""
    *lines, last = text.split("\n")
    pieces = [line + "\n" for line in lines] + [last]
    if len(text) > PIECE:
        pieces = [line[at : at + PIECE] for line in pieces for at in range(0, len(line), PIECE)]
    other = [number for number, piece in enumerate(pieces) if not piece.isascii()]
    bad = flags_of(pa.array([pieces[number] for number in other], pa.large_string()), cut=False) & MOJIBAKE
    for at in np.flatnonzero(bad).tolist():
        pieces[other[at]] = ftfy.fix_encoding(pieces[other[at]])
    return "".join(pieces)


_STEPS: tuple[tuple[int, str, Callable[[str], str]], ...] = (
    (LINES, "line_endings", lambda text: _LINE_END.sub("\n", text)),
    (MOJIBAKE, "mojibake", _decoded),
    (CONTROL, "control", lambda text: CONTROLS.sub("", _ESCAPE.sub("", text) if "\x1b" in text else text)),
    (ZERO, "zero_width", lambda text: _JOINER.sub("", INVISIBLE.sub("", text))),
    (NFC, "nfc", composed),
)
STEPS = tuple(name for _, name, _ in _STEPS)


def _replaced(texts: pa.LargeStringArray, new: dict[int, str]) -> pa.LargeStringArray:
    if not new:
        return texts
    mask = np.zeros(len(texts), bool)
    mask[list(new)] = True
    return pc.replace_with_mask(texts, pa.array(mask), pa.array(list(new.values()), pa.large_string()))


def _named(rows: int, done: dict[int, set[str]]) -> pa.ListArray:
    counts = np.zeros(rows + 1, np.int32)
    names: list[str] = []
    for row in sorted(done):
        names += [name for name in STEPS if name in done[row]]
        counts[row + 1] = len(done[row])
    return pa.ListArray.from_arrays(pa.array(np.cumsum(counts, dtype=np.int32)), pa.array(names, pa.string()))


def text_of(binary: pa.LargeBinaryArray) -> tuple[pa.LargeStringArray, pa.Int32Array]:
    r"""(n,) texts of what should be UTF-8, and (n,) numbers of characters that were no UTF-8 and became U+FFFD.

    Surrogate pairs that were encoded one by one (CESU-8) become their character and count as none. Null stays null, 0.

    >>> texts, lost = text_of(pa.array([b"caf\xe9", b"\xed\xa0\xbd\xed\xb8\x8d"], pa.large_binary()))
    >>> texts.to_pylist(), lost.to_pylist()
    (['caf�', '😍'], [1, 0])
    """
    try:
        return binary.cast(pa.large_string()), pa.array(np.zeros(len(binary), np.int32))
    except pa.ArrowInvalid:
        pairs = [(None, 0) if body is None else _text_of(body) for body in binary.to_pylist()]
    texts, lost = zip(*pairs, strict=True)
    return pa.array(texts, pa.large_string()), pa.array(lost, pa.int32())


def _text_of(body: bytes) -> tuple[str, int]:
    try:
        return body.decode(), 0
    except UnicodeDecodeError:
        own = body.count(b"\xef\xbf\xbd")
        text = _LONE.sub(_surrogate, body).decode("utf-8", "replace")
        return text, text.count("\ufffd") - own


def _surrogate(found: re.Match[bytes]) -> bytes:
    """A pair as its character, one alone as a byte that UTF-8 never has."""
    if len(found[0]) == 3:
        return b"\xff"
    return found[0].decode("utf-8", "surrogatepass").encode("utf-16-le", "surrogatepass").decode("utf-16-le").encode()
