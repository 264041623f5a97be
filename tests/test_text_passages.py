"""Passages of texts: beside a slow twin in plain Python; what is cut and what stays."""

import hashlib
import re
import unicodedata

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tundish.operators.text import passages as operators
from tundish.operators.text.kernels import blake
from tundish.operators.text.kernels.classes import SENTENCE_ENDS
from tundish.operators.text.passages import behind, cuts, passages
from tundish.operators.text.personal import EDITS, apply
from tundish.operators.text.words import UNSPACED_BLOCKS

SIGNS = 'aB9é.,!? \n\r\t"」。が東Ω#ß-\u0301\u00a0\u2028İकु0️😀 \u0e01\u0e34ﬁ≠Ⱥ'
TEXTS = st.text(st.sampled_from(SIGNS) | st.characters(exclude_categories=["Cs"]), max_size=80)
UNITS = ("line", "paragraph", "sentences")


def array(*texts: str | None) -> pa.LargeStringArray:
    return pa.array(texts, pa.large_string())


# --- the twin -----------------------------------------------------------------------------------------------------


def accent(sign: str) -> bool:
    return any(low <= ord(sign) <= high for low, high in operators.ACCENTS)


def bare(sign: str) -> str:
    left = [one for one in unicodedata.normalize("NFD", sign) if not accent(one)]
    return left[0] if len(left) == 1 else sign


def plain(sign: str) -> str:
    """One character of the normal form, or none."""
    kind = unicodedata.category(sign)
    if sign.isspace():
        return " "
    if kind == "Nd":
        return "0"
    if kind[0] == "P" or kind in ("Cc", "Cf") or accent(sign):
        return ""
    if not (sign.isalpha() or sign.isupper() or sign.islower()):
        return sign
    small = bare(sign).lower()
    return bare(small) if len(small) == 1 else sign


def normal_form(text: str) -> str:
    return re.sub(" +", " ", "".join(map(plain, text))).strip(" ")


def is_unspaced(sign: str) -> bool:
    return unicodedata.category(sign) in ("Lo", "Lm", "Nl") and any(lo <= ord(sign) <= hi for lo, hi in UNSPACED_BLOCKS)


def is_letter(sign: str) -> bool:
    return sign.isalpha() or unicodedata.category(sign)[0] in "LN"


def words_in(text: str) -> int:
    """Runs without whitespace that have a letter or digit; each letter of a script without spaces ends its run."""
    count = 0
    for run in text.split():
        inside = False
        for sign in run:
            alone = is_unspaced(sign)
            count += alone or (is_letter(sign) and not inside)
            inside = not alone and (inside or is_letter(sign))
    return count


def lines_of(text: str) -> list[tuple[int, int]]:
    """(start, end without trailing whitespace) of every line, in characters."""
    found, at = [], 0
    for stop in [*re.finditer("\r\n|\n|\r", text), None]:
        end = stop.start() if stop else len(text)
        found.append((at, at + len(text[at:end].rstrip())))
        at = stop.end() if stop else end
    return found


def twin(text: str, unit: str) -> list[tuple[int, int]]:
    """(start, end) in characters."""
    lines = lines_of(text)
    if unit == "line":
        return [span for span in lines if span[0] < span[1]]
    if unit == "sentences":
        return [(a + s, a + e) for a, b in lines for s, e in sentences(text[a:b])]
    found: list[tuple[int, int]] = []
    open_ = False
    for start, end in lines:
        if start < end and open_:
            found[-1] = (found[-1][0], end)
        elif start < end:
            found.append((start, end))
        open_ = start < end
    return found


def closes(sign: str) -> bool:
    return sign in "\"'" or sign in SENTENCE_ENDS or unicodedata.category(sign) in ("Pe", "Pf", "Pi")


def sentences(line: str) -> list[tuple[int, int]]:
    found, at = [], 0
    while at < len(line):
        if line[at].isspace():
            at += 1
            continue
        begin = at
        while at < len(line):
            if line[at] not in SENTENCE_ENDS:
                at += 1
                continue
            stop = at
            while at < len(line) and closes(line[at]):
                at += 1
            unspaced = any(s in SENTENCE_ENDS and ord(s) >= 0x3000 for s in line[stop:at])
            if at == len(line) or line[at].isspace() or unspaced:
                break
        found.append((begin, at))
    return found


# --- beside the twin ----------------------------------------------------------------------------------------------


@given(st.binary(max_size=700))
@settings(max_examples=60, deadline=None)
def test_the_digest_is_blake2b(message: bytes) -> None:
    room, state = np.zeros(len(message) + blake.BLOCK, np.uint8), np.zeros(8, np.uint64)
    room[: len(message)] = np.frombuffer(message, np.uint8)
    blake.blake(room, len(message), state)
    assert state[:2].tobytes() == hashlib.blake2b(message, digest_size=16).digest()


@given(st.lists(TEXTS | st.none(), max_size=5), st.sampled_from(UNITS), st.sampled_from(["ccnet", "exact"]))
@settings(max_examples=400, deadline=None)
def test_passages_are_those_of_the_twin(texts: list[str | None], unit: str, normal: str) -> None:
    found = passages(array("x", *texts)[1:], unit=unit, normal=normal, span=1, words=2)
    expected = []
    for row, text in enumerate(texts):
        for start, end in twin(text or "", unit):
            said = (text or "")[start:end]
            form = (normal_form(said) if normal == "ccnet" else said.strip()).encode()
            place, counted = len((text or "")[:start].encode()), words_in(said) >= 2 and bool(form)
            digest = hashlib.blake2b(form, digest_size=16).digest() if counted else b""
            expected.append((row, place, place + len(said.encode()), counted, digest))
    digests = [d.tobytes() if c else b"" for d, c in zip(found.digests, found.counted, strict=True)]
    ends = found.ends - found.starts + found.places
    columns = (found.rows.tolist(), found.places.tolist(), ends.tolist(), found.counted.tolist(), digests)
    assert list(zip(*columns, strict=True)) == expected


def test_the_normal_form_of_every_character_is_that_of_the_twin() -> None:
    """Each as a line between two words, which are there to be counted."""
    signs = [
        c for c in map(chr, range(0x110000)) if unicodedata.category(c) not in ("Cs", "Cn", "Co") and c not in "\r\n"
    ]
    found = passages(pa.array([f"a {s}b" for s in signs], pa.large_string()), words=0)
    told = [d.tobytes() for d in found.digests]
    expected = [hashlib.blake2b(normal_form(f"a {s}b").encode(), digest_size=16).digest() for s in signs]
    wrong = [f"U+{ord(s):04X}" for s, a, b in zip(signs, told, expected, strict=True) if a != b]
    assert not wrong


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("Read the NEWS of 2024!", "read — the news, of 1999", True),
        ("Été à Noël", "ete a noel", True),
        ("mangé", "mange\u0301", True),
        ("Share  on\tFacebook", "share on facebook", True),
        ("में है", "म ह", False),  # vowel signs are no accents
        ("a ≠ b", "a = b", False),
        ("12 apples", "1 apple", False),
        ("résumé 12 of", "résumé 123 of", False),
    ],
)
def test_what_says_the_same(one: str, other: str, same: bool) -> None:
    first, second = passages(array(one, other), words=0).digests.tolist()
    assert (first == second) is same
    first, second = passages(array(one, other), words=0, normal="exact").digests.tolist()
    assert first != second


def test_texts_in_slices_and_in_batches_are_the_same() -> None:
    """Texts larger than a batch of the kernels, and an array that begins in the middle of its buffers."""
    texts = array("nobody asks", *[f"line {n} here\n" * 9000 for n in range(6)], None, "the very last one")
    whole, part = passages(texts), passages(texts.slice(3))
    from_ = int(whole.bounds[3])
    assert len(whole.pieces) > 2
    assert (whole.digests[from_:] == part.digests).all()
    assert (whole.places[from_:] == part.places).all()
    assert not whole.counted[0]
    assert whole.counted[1:].sum() == 6 * 9000 + 1


def test_a_text_of_carriage_returns_is_read_once() -> None:
    """Each line asks for the next \\n; without care that is the square of the text."""
    found = passages(array("a b c\r" * 200_000))
    assert len(found.starts) == 200_000


# --- what is cut --------------------------------------------------------------------------------------------------


def cut(text: str, gone: list[int], unit: str = "line", span: int = 1) -> str:
    found = passages(array(text), unit=unit, span=span, words=0)
    marked = np.isin(np.arange(len(found.starts)), gone)
    edits, taken = cuts(found, marked, np.zeros(len(marked), bool), "repeated_line")
    left = apply(array(text), edits)[0].as_py()
    assert len(text.encode()) - len(left.encode()) == taken[0]
    return left


@pytest.mark.parametrize(
    ("text", "gone", "left"),
    [
        ("one\ntwo\nthree", [0], "two\nthree"),
        ("one\ntwo\nthree", [1], "one\nthree"),
        ("one\ntwo\nthree", [2], "one\ntwo"),
        ("one\ntwo\nthree\n", [2], "one\ntwo\n"),
        ("one\r\ntwo\r\nthree", [1, 2], "one"),
        ("one\r\ntwo\r\nthree\r\n", [1], "one\r\nthree\r\n"),
        ("one\n\nmenu\n\ntwo", [1], "one\n\ntwo"),
        ("one\nmenu\n\ntwo", [1], "one\n\ntwo"),
        ("one\n\nmenu\ntwo", [1], "one\n\ntwo"),
        ("one\nmenu\n    two", [1], "one\n    two"),
        ("one\n", [0], ""),
        ("東京\nмосква\nपेरिस", [1], "東京\nपेरिस"),
    ],
)
def test_a_cut_leaves_the_others_as_they_stand(text: str, gone: list[int], left: str) -> None:
    assert cut(text, gone) == left


def test_sentences_are_cut_within_their_line() -> None:
    assert cut("One two. Three. Four!\nFive.", [1], "sentences") == "One two. Four!\nFive."
    assert cut("One two. Three. Four!\nFive.", [2], "sentences") == "One two. Three.\nFive."
    assert cut("東京へ行く。日本だ。終わり。", [1], "sentences") == "東京へ行く。終わり。"


@given(st.text(st.sampled_from('ab. \n\r。"é'), max_size=60), st.sampled_from(UNITS), st.data())
@settings(max_examples=400, deadline=None)
def test_after_a_cut_the_passages_are_the_others(text: str, unit: str, data: st.DataObject) -> None:
    spans = twin(text, unit)
    gone = data.draw(st.lists(st.integers(0, max(0, len(spans) - 1)), unique=True))
    kept = [text[a:b] for n, (a, b) in enumerate(spans) if n not in gone]
    # of a text that makes no sense: a sentence of stops alone, brought next to one, is more stops of that one
    assume(unit != "sentences" or not any(one[0] in '.。"' for one in kept))
    left = cut(text, gone, unit)
    assert [left[a:b] for a, b in twin(left, unit)] == kept


def test_a_span_that_stays_keeps_its_sentences() -> None:
    text = array("A. B. C. D. E.")
    found = passages(text, unit="sentences", span=3, words=0)
    assert found.counted.tolist() == [True, True, True, False, False]
    at = np.arange(5)
    assert apply(text, cuts(found, at == 2, at == 0, "x")[0]).to_pylist() == ["A. B. C."]
    assert apply(text, cuts(found, at == 1, at == 9, "x")[0]).to_pylist() == ["A. E."]


def edits_of(text: str, data: st.DataObject, instead: st.SearchStrategy[str]) -> list[dict]:
    places = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=6).filter(lambda p: len(p) % 2 == 0)))
    at = [len(text[:place].encode()) for place in places]
    pairs = zip(at[::2], at[1::2], strict=True)
    return [{"start": a, "end": b, "with": data.draw(instead), "reason": f"r{n}"} for n, (a, b) in enumerate(pairs)]


@given(st.text(st.sampled_from("abcé東\n"), max_size=20), st.data())
@settings(max_examples=500, deadline=None)
def test_edits_behind_edits_are_one_list(text: str, data: st.DataObject) -> None:
    """Whatever the first put in, the second may take away, wholly or in part."""
    first = edits_of(text, data, st.text(st.sampled_from("xyß"), max_size=4))
    view = apply(array(text), pa.array([first], EDITS))
    second = edits_of(view[0].as_py(), data, st.text(st.sampled_from("z"), max_size=1))
    both = behind(pa.array([first], EDITS), pa.array([second], EDITS))
    assert apply(array(text), both) == apply(view, pa.array([second], EDITS))
