"""Where in a text each of its pieces comes from, in bytes: for either kind of file that `tokenizer.load` takes.

Promises: the ids of `encode`, and for every piece the bytes of the original text it stands for, at the edges of
characters, whatever the normaliser did to their number. White space that a piece begins or ends with is left out of its
span, unless it is all there is; a piece that stands for part of a character (a byte of byte fallback, one letter of a
ligature) has the whole of it. Spans begin and end in the order of the pieces. A mark that the normaliser drops belongs
to the piece before it; other characters it drops may lie in none.

For a `.model` the normal form is traced by our own kernel; for a `tokenizer.json` the library says where pieces come
from, and where it gives every byte of a run of unknown characters the span of all, each is given its own character's.

Costs memory of some megabytes beside the spans; some 0.1 us a byte for a `.model`, more where it knows no bytes and
texts have unknown characters; for a `tokenizer.json` twice what `encode` costs. Refuses what `encode` refuses.
"""

import itertools
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from tundish.operators.text.column import large
from tundish.operators.text.encode import _bytes, _flags, _normal
from tundish.operators.text.kernels import origins
from tundish.operators.text.sentencepiece_file import BYTE, SPACE, UNKNOWN, Model, read
from tundish.operators.text.tokenizer import Described, Tokenizer, lists_of, wide
from tundish.operators.text.tokenizer import Model as Modelled

Span = tuple[int, int]
PART = 4 << 20  # bytes of texts taken at once
DROPPED = ("Mn", "Mc", "Me", "Cf")  # categories of characters that belong to the one before


class Spans(NamedTuple):
    """Pieces of n texts, one after the other: those of text i are `bounds[i]` to `bounds[i + 1]`."""

    ids: np.ndarray  # (pieces,) uint16 or uint32
    begins: np.ndarray  # (pieces,) int64, bytes from the beginning of the text
    ends: np.ndarray  # (pieces,) int64
    bounds: np.ndarray  # (n + 1,) int64


def spans(pieces: Tokenizer, texts: pa.LargeStringArray) -> Spans:
    """The pieces of each text and the bytes they come from; a null is empty."""
    texts = large(texts)
    texts = texts.fill_null("") if texts.null_count else texts
    own: Callable[..., Spans] = _of_model if isinstance(pieces, Modelled) else _of_library
    found = [own(pieces, part) for part in _parts(texts)]
    ends = itertools.accumulate((len(part.ids) for part in found), initial=0)
    bounds = [part.bounds[1:] + before for part, before in zip(found, ends, strict=False)]
    ids, begins, stops = (np.concatenate(each) for each in list(zip(*found, strict=True))[:3])
    return Spans(ids, begins, stops, np.concatenate([[0], *bounds]))


def _parts(texts: pa.LargeStringArray) -> Iterator[pa.LargeStringArray]:
    """The texts by some megabytes, since a byte is traced with sixteen more."""
    _, offsets = _bytes(texts)
    cuts = np.searchsorted(offsets, np.arange(offsets[0] + PART, offsets[-1], PART))
    for start, stop in itertools.pairwise([0, *np.unique(cuts).tolist(), len(texts)]):
        yield texts.slice(start, stop - start)


def characters(texts: pa.LargeStringArray, found: Spans) -> Spans:
    """The same with begins and ends in characters (code points) instead of bytes."""
    data, offsets = _bytes(large(texts).fill_null(""))
    lead = np.zeros(len(data) + 1, np.int64)
    np.cumsum((data & 0xC0) != 0x80, out=lead[1:])
    base = np.repeat(offsets[:-1], np.diff(found.bounds))
    return found._replace(
        begins=lead[base + found.begins] - lead[base],
        ends=lead[base + found.ends] - lead[base],
    )


class Plan(NamedTuple):
    """What is asked of a model; `sizes`, `leads` and `tails`: (pieces,) bytes of each in a normal form (0 for the
    unknown one), and those of the spaces it begins and ends with where there is more than these."""

    model: Model
    normal: tuple[np.ndarray, ...]
    sizes: np.ndarray
    leads: np.ndarray
    tails: np.ndarray


@lru_cache(maxsize=4)
def _plan(data: bytes) -> Plan:
    model = read(data)
    space = SPACE if model.escape else b" "
    sizes = np.array([len(piece) for piece in model.pieces])
    single, unknown = model.types == BYTE, model.types == UNKNOWN
    leads, tails = (np.array([_spaces(piece[::way], space[::way]) for piece in model.pieces]) for way in (1, -1))
    plain = single | unknown | (leads == sizes)
    sizes = np.where(single, 1, np.where(unknown, 0, sizes))
    return Plan(model, _normal(model)[0], sizes, np.where(plain, 0, leads), np.where(plain, 0, tails))


def _spaces(piece: bytes, space: bytes) -> int:
    """Bytes of the spaces that a piece begins with."""
    at = 0
    while piece.startswith(space, at):
        at += len(space)
    return at


def _of_model(pieces: Modelled, texts: pa.LargeStringArray) -> Spans:
    model, normal, sizes, leads, tails = _plan(pieces.data)
    lists = pieces.encode(texts)
    ids, bounds = lists.values.to_numpy(), lists.offsets.to_numpy()
    form, begins, ends, forms = _traced(texts, normal, _flags(model))
    each = sizes[ids]
    strange = np.concatenate([[0], np.cumsum(ids == model.unknown)])  # only the whole says how long one of these is
    for text in np.flatnonzero(np.diff(strange[bounds])):
        here = slice(bounds[text], bounds[text + 1])
        each[here] = list(_widths(model, ids[here], form[forms[text] : forms[text + 1]].tobytes()))
    stops = np.cumsum(each)
    assert np.array_equal(np.concatenate([[0], stops])[bounds], forms), "pieces spell the normal form"
    return Spans(ids, begins[stops - each + leads[ids]], ends[stops - 1 - tails[ids]], bounds)


def _traced(
    texts: pa.LargeStringArray, normal: tuple[np.ndarray, ...], flags: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """(normal forms one after the other, where each byte begins and ends in its text, where each form begins)."""
    data, offsets = _bytes(texts)
    forms = np.zeros(len(texts) + 1, np.int64)
    size = 2 * int(offsets[-1] - offsets[0]) + 64 * (len(texts) + 1)
    while True:
        out = origins.room(size)
        if origins.traced_all(data, offsets, normal, flags, *out, forms) == len(texts):
            return (*out, forms)
        size *= 2


def _widths(model: Model, ids: np.ndarray, form: bytes) -> Iterator[int]:
    """Bytes of each piece of one text where some stand for unknown characters: what is known between these is looked
    for in turn, at least a character behind them; what follows the last of them stands at the end."""
    at = 0
    runs = list(_runs(model, ids))
    for number, (unknown, widths, spelt) in enumerate(runs):
        place = at
        if unknown:
            first = len(form[at : at + 4].decode("utf-8", "ignore")[:1].encode())
            place = len(form) - len(spelt) if number == len(runs) - 1 else form.find(spelt, at + first)
            yield place - at
        assert form[place : place + len(spelt)] == spelt, "what is known of a text stands in its normal form"
        yield from widths
        at = place + len(spelt)


def _runs(model: Model, ids: np.ndarray) -> Iterator[tuple[bool, list[int], bytes]]:
    """(whether an unknown piece comes first, widths of the known ones behind it, what these spell)."""
    starts = [0, *np.flatnonzero(ids == model.unknown).tolist(), len(ids)]
    for start, stop in itertools.pairwise(starts):
        unknown = start < stop and ids[start] == model.unknown
        spelt = [_spelt(model, one) for one in ids[start + unknown : stop].tolist()]
        yield unknown, [len(piece) for piece in spelt], b"".join(spelt)


def _spelt(model: Model, one: int) -> bytes:
    return bytes([int(model.pieces[one][3:5], 16)]) if model.types[one] == BYTE else model.pieces[one]


def _of_library(pieces: Described, texts: pa.LargeStringArray) -> Spans:
    ids: list[Sequence[int]] = []
    begins, ends = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
    values = {one: byte for byte in range(256) if (one := pieces.runs.token_to_id(f"<0x{byte:02X}>")) is not None}
    values = {one: byte for one, byte in values.items() if pieces.odd[one]}  # else the model never falls back on it
    for text in texts.to_pylist():
        said = pieces.runs.encode(text, add_special_tokens=False)
        places = _apart(text, said.ids, said.offsets, values) if values else said.offsets
        places = places if text.isascii() else _marked(text, places)
        at = np.cumsum([0, *map(_bytes_of, text)])
        held = np.array([_trimmed(text, *place) for place in places], np.int64).reshape(-1, 2)
        ids.append(said.ids)
        begins.append(at[held[:, 0]])
        ends.append(at[held[:, 1]])
    lists = lists_of(ids, wide(pieces.size))
    flat = lists.values.to_numpy()
    if (name := next((n for n, i in pieces.specials.items() if n != "[UNK]" and (flat == i).any()), None)) is not None:
        raise ValueError(
            f"this tokenizer.json makes its special token {name!r} of ordinary text; give it a name no text spells"
        )
    return Spans(flat, np.concatenate(begins), np.concatenate(ends), lists.offsets.to_numpy())


def _bytes_of(character: str) -> int:
    code = ord(character)
    return 1 + (code > 0x7F) + (code > 0x7FF) + (code > 0xFFFF)


def _trimmed(text: str, begin: int, end: int) -> tuple[int, int]:
    """A span without the white space around it, where there is more.

    >>> _trimmed("a  b ", 1, 5), _trimmed("a  b", 1, 3)
    ((3, 4), (1, 3))
    """
    bare = text[begin:end].lstrip()
    return (end - len(bare), end - len(bare) + len(bare.rstrip())) if bare else (begin, end)


def _marked(text: str, places: Sequence[Span]) -> list[Span]:
    """Spans that go on over the marks and format characters behind them that no piece has: where a normaliser drops
    accents, it drops the vowels of Thai and Hindi with them.

    >>> _marked("e\u0301a", [(0, 1), (2, 3)])
    [(0, 2), (2, 3)]
    """
    found = []
    for (begin, end), (after, _) in itertools.zip_longest(places, places[1:], fillvalue=(len(text), 0)):
        while begin < end < after and unicodedata.category(text[end]) in DROPPED:
            end += 1
        found.append((begin, end))
    return found


def _apart(text: str, ids: Sequence[int], places: Sequence[Span], values: Mapping[int, int]) -> list[Span]:
    """Spans, with each byte of a run of unknown characters in its own character: the library fuses the run first, and
    gives all of its bytes the span of the whole."""
    found = list(places)
    for (place, odd), run in itertools.groupby(range(len(ids)), key=lambda n: (places[n], ids[n] in values)):
        numbers = list(run)
        if odd and bytes(values[ids[n]] for n in numbers) == text[place[0] : place[1]].encode():
            owners = [place[0] + n for n, c in enumerate(text[place[0] : place[1]]) for _ in range(_bytes_of(c))]
            for number, owner in zip(numbers, owners, strict=True):
                found[number] = owner, owner + 1
    return found
