"""Text repair: each step, what must stay, the prefilter against the plain definition, and broken input."""

import io
import random
import re
import tarfile
import time
import unicodedata
from pathlib import Path

import ftfy
import numpy as np
import pyarrow as pa
import pytest
import zstandard
from ftfy.badness import BADNESS_RE, is_bad
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tundish.operators.text.automaton import automaton
from tundish.operators.text.compose import composed
from tundish.operators.text.flaws import MOJIBAKE, NFC, needs
from tundish.operators.text.repair import STEPS, repair, repaired, text_of

LATIN = "ÂÃÄÅÎÐØÙàáâåæçéïñóöüßŒœŠšŸžƒ€£¢¥¤¦§¨©ª«¬\xad®¯°±²³´µ¶·¸¹º»¼½¾¿×÷‘’‚“”„†‡•…‰‹›™–—\xa0˜ˆ\x81\x85\x9d"
OTHER = "ВГРСвГЂў°ΒΓΞΟβā√≈Ä│╔█≤♪ﬁÌ़́̈̊ািা가ᄀ\u1161\u11a8がは\u3099漢字кя😀👩🔬ไม้عָ\u0327\u0301\ufffd"
ODD = (
    "\0\x07\x0b\x0c\r\n\t\x1b\x7f\x80\u200b\u200c\u200d\u2028\u2029\u2060\u206a\u200e\ufeff\ufff9\ufffe\uffff\U0002f800"
)
ASCII = "aZ .,?![0m&lt;é"
LETTERS = st.text(st.one_of(st.sampled_from(LATIN + OTHER + ODD + ASCII * 3), st.characters(exclude_categories=["Cs"])))
ENCODINGS = ("latin-1", "cp1252", "cp1251", "cp1250", "cp1253", "cp1254", "cp1257", "iso-8859-2", "mac-roman", "cp437")


def strings(*texts: str | None) -> pa.LargeStringArray:
    return pa.array(texts, pa.large_string())


def plain(text: str) -> str:
    """The definition: every step on the whole text, until nothing changes."""
    while True:
        before = text
        text = re.sub("\r\n|[\r\x0b\x0c\u2028\u2029]", "\n", text)
        lines = re.findall("[^\n]*\n|[^\n]+", text)
        pieces = [line[at : at + 1_000_000] for line in lines for at in range(0, len(line), 1_000_000)]
        text = "".join(map(ftfy.fix_encoding, pieces))
        text = re.sub("\x1b\\[[0-9;]*[A-Za-z]", "", text)
        text = "".join(
            c
            for c in text
            if c in "\t\n"
            or not (
                unicodedata.category(c) == "Cc"
                or 0x206A <= ord(c) < 0x2070
                or c in "\ufff9\ufffa\ufffb\ufffc\ufffe\uffff"
            )
        )
        text = text.replace("\u200b", "").replace("\u2060", "").replace("\ufeff", "")
        text = re.sub("(^|[\0-\x7f])[\u200c\u200d]+(?=[\0-\x7f]|$)", r"\1", text, flags=0)
        text = unicodedata.normalize("NFC", text)
        if text == before:
            return text


@pytest.mark.parametrize(
    ("broken", "whole", "steps"),
    [
        ("a\r\nb\rc\u2028d\u2029e\x0cf", "a\nb\nc\nd\ne\nf", ["line_endings"]),
        ("The Mona Lisa doesnâ€™t have eyebrows.", "The Mona Lisa doesn’t have eyebrows.", ["mojibake"]),
        ("wait\x85 \x93so\x94", "wait… “so”", ["mojibake"]),
        ("ÐŸÑ€Ð¸Ð²ÐµÑ‚, Ð¼Ð¸Ñ€", "Привет, мир", ["mojibake"]),
        ("ï»¿start", "start", ["mojibake", "zero_width"]),
        ("a\0b\x07\x7f\ufffcc", "abc", ["control"]),
        ("\x1b[36;44mblue\x1b[0m", "blue", ["control"]),
        ("\ufeffsoft\u200bly to\u2060gether", "softly together", ["zero_width"]),
        ("joi\u200dned \u200c", "joined ", ["zero_width"]),
        ("cafe\u0301 \u1112\u1161\u11ab", "café 한", ["nfc"]),
        ("q\u0307\u0323", "q\u0323\u0307", ["nfc"]),
        ("e\u200b\u0301", "é", ["zero_width", "nfc"]),
    ],
)
def test_each_step(broken: str, whole: str, steps: list[str]) -> None:
    assert repaired(broken) == (whole, steps)
    assert repaired(whole) == (whole, [])


@pytest.mark.parametrize(
    "text",
    [
        "",
        " \n\t ",
        "می\u200cخواهم",
        "क्\u200dष",
        "👩\u200d🔬 and 👨\u200d👩\u200d👧",
        "שלום \u200fabc\u200e",
        "Größe, façade, ÉTÉ, ÅNGSTRÖM, ŁÓDŹ, œuvre, l’été",
        "« Où est-il ? » – „ja“, “yes” … 5 °C, 10 €, £5",
        "ลมพัดเย็นในตอนเช้า ที่ริมน้ำ",
        "হাওয়া বইছে",
        "नदी किनारे हवा",
        "&lt;b&gt; &amp; ﬁ Ａ “quotes”",
        "\ufffd",
        "漢字かな交じり文が、ガ",
    ],
)
def test_what_stays(text: str) -> None:
    texts = strings(text)
    once, done = repair(texts)
    assert once is texts
    assert done.to_pylist() == [[]]
    if text.isascii():
        assert needs(texts).tolist() == [0]


def test_surrogates() -> None:
    assert repaired("a\ud83d\ude0d\ud800\r") == ("a😍\ufffd\n", ["surrogates", "line_endings"])
    assert repaired("\ude0d") == ("\ufffd", ["surrogates"])


def test_strings_of_short_offsets() -> None:
    texts = pa.array(["skip", "x\r", "e\u0301", "fine"])[1:]
    assert needs(texts).tolist() == [1, 16, 0]


def test_neighbours_nulls_and_slices() -> None:
    texts = strings("skip\r", "fine", None, "e\u0301", "", "x\r", "fine too")
    whole, done = repair(texts[1:])
    assert whole.to_pylist() == ["fine", None, "é", "", "x\n", "fine too"]
    assert done.to_pylist() == [[], [], ["nfc"], [], ["line_endings"], []]
    assert whole.type == pa.large_string()
    assert repair(texts[:0])[0].to_pylist() == []
    assert repair(strings(None, None))[1].to_pylist() == [[], []]
    assert repair(pa.array([], pa.large_string()))[1].to_pylist() == []


@settings(max_examples=1000, deadline=None)
@given(LETTERS)
@example("œ\r\n")
@example("é\u0327")
@example("Ã \r b")
@example("x\rÃ  la")
@example("ГўВЂВx a" * 2)
def test_the_prefilter_misses_nothing(text: str) -> None:
    once, done = repaired(text)
    assert once == plain(text)
    assert (once != text) == bool(done)
    assert repaired(once) == (once, [])


@settings(max_examples=500, deadline=None)
@given(
    st.text(st.sampled_from(LATIN + OTHER + ASCII), max_size=12),
    st.sampled_from(ENCODINGS),
    LETTERS,
)
def test_made_mojibake(text: str, encoding: str, other: str) -> None:
    garbled = other[:10] + text.encode().decode(encoding, "replace") + "\n" + other[10:]
    assert repaired(garbled)[0] == plain(garbled)


@settings(max_examples=1000, deadline=None)
@given(st.lists(LETTERS, max_size=4))
def test_what_ftfy_calls_bad_is_seen(parts: list[str]) -> None:
    """On lines free of other flaws the automaton is ftfy's own judgement, neither more nor less."""
    lines = [re.sub("[\r\x0b\x0c\n\u2028\u2029\U00020000-\U0010ffff]", "", part) + "\n" for part in parts]
    seen = needs(strings("".join(lines)))[0] & MOJIBAKE > 0
    assert seen == any(map(is_bad, lines))


def test_composition_is_seen_for_every_character() -> None:
    """Each code point behind a letter, a mark and a jamo; each pair that composes is among them or made below."""
    points = [chr(p) for p in range(0x110000) if not 0xD800 <= p < 0xE000 and unicodedata.category(chr(p)) != "Cn"]
    plainly = re.compile("[\u4e00-\u9fff\uac00-\ud7a3\U00020000-\U000323ff]")  # 80,000 that need no more than a look
    points = [c for n, c in enumerate(points) if not plainly.match(c) or n % 16 == 0]
    texts = [before + c for c in points for before in ("a", "e\u0327", "é")]
    texts += [unicodedata.normalize("NFD", c) for c in points]
    flags = needs(strings(*texts))
    missed = [
        t for t, f in zip(texts, flags.tolist(), strict=True) if not f & NFC and not unicodedata.is_normalized("NFC", t)
    ]
    assert missed == []
    others = [c for c, f in zip(points, flags[: 3 * len(points) : 3].tolist(), strict=True) if not f & ~MOJIBAKE]
    assert all(plain("a" + c) == "a" + c for c in others if not is_bad("a" + c))


def test_the_automaton_knows_the_whole_pattern() -> None:
    classes, moves, reach = automaton(BADNESS_RE.pattern)
    assert classes.shape == (0x10000,)
    assert moves.max() < len(moves) < 1000
    assert reach == (2, 2)
    assert (moves[2] == 2).all()


def members(archive: Path) -> list[bytes]:
    raw = zstandard.ZstdDecompressor(max_window_size=2**27).stream_reader(archive.open("rb")).read()
    with tarfile.open(fileobj=io.BytesIO(raw)) as tar:
        return [tar.extractfile(member).read() for member in tar if member.isfile()]


def test_real_pages_read_in_the_wrong_encoding(data: Path) -> None:
    """Real texts in sixty encodings, each read as five others."""
    bodies = [body[:1500] for body in members(data / "encodings-chardet" / "texts.tar.zst")]
    texts = [
        body.decode(name, "replace") for body in bodies for name in ("utf-8", "cp1252", "cp1251", "latin-1", "cp437")
    ]
    whole, done = repair(strings(*texts))
    wrong = [text for text, now in zip(texts, whole.to_pylist(), strict=True) if plain(text) != now]
    assert len(texts) > 2000
    assert wrong == []
    assert set(done.flatten().to_pylist()) == set(STEPS)


def test_bytes_as_they_come() -> None:
    bodies = [
        b"plain",
        None,
        b"caf\xe9",
        "né\ufffd".encode(),
        b"\xed\xa0\xbd\xed\xb8\x8d",
        b"a\xed\xa0\xbdb",
        b"\xc0\x80",
        b"",
    ]
    texts, lost = text_of(pa.array(bodies, pa.large_binary()))
    assert texts.to_pylist() == ["plain", None, "caf\ufffd", "né\ufffd", "😍", "a\ufffdb", "\ufffd\ufffd", ""]
    assert lost.to_pylist() == [0, 0, 1, 0, 0, 1, 2, 0]
    texts, lost = text_of(pa.array([b"good", None], pa.large_binary()))
    assert (texts.to_pylist(), lost.to_pylist()) == (["good", None], [0, 0])


@given(st.lists(st.binary(max_size=40), max_size=5))
def test_any_bytes_become_text(bodies: list[bytes]) -> None:
    texts, lost = text_of(pa.array(bodies, pa.large_binary()))
    texts.validate(full=True)
    for text, count in zip(texts.to_pylist(), lost.to_pylist(), strict=True):
        assert text.count("\ufffd") >= count
    repair(texts)[0].validate(full=True)


@pytest.mark.parametrize("unit", ["a", "é", "Ã©", "\r", "\0", "\u200d", "e\u0301", "â€", "漢", "😀", "Â ", "\x1b["])
def test_hostile_runs_are_linear(unit: str) -> None:
    times = []
    for count in (20_000, 200_000):
        text = strings(unit * count)
        start = time.process_time()
        repair(text)
        times.append(time.process_time() - start)
    assert times[1] < 40 * times[0] + 0.5


def test_one_line_of_fifty_megabytes_and_a_million_short_ones() -> None:
    for text in ("word " * 10_000_000, "naïve " * 2_000_000, "word\n" * 1_000_000, "é\n" * 1_000_000):
        texts = strings("before\r", text, "behind")
        whole, done = repair(texts)
        assert done.to_pylist() == [["line_endings"], [], []]
        assert whole[1].as_py() == text


def test_long_lines_are_mended() -> None:
    text = "x" * 999_999 + "Ã© " * 30_000
    whole, done = repaired(text)
    assert done == ["mojibake"]
    assert whole == plain(text)
    assert np.array_equal(needs(strings(whole)) & NFC, [0])


def test_runs_of_marks_are_composed_as_unicodedata_does() -> None:
    rng = random.Random(5)
    marks = [chr(p) for p in range(0x300, 0x2000) if unicodedata.combining(chr(p))] + ["\u0f73", "\u0f75", "\u0f81"]
    for size in (63, 64, 65, 300, 1000):
        text = "".join(
            letter + "".join(rng.choices(marks, k=rng.choice([0, 1, size]))) for letter in "ae\u1ea1k\uac00\u0f40"
        )
        assert composed(text) == unicodedata.normalize("NFC", text)
    hostile = "a" + "\u0301\u0323" * 500_000  # hours, where marks are put in order by insertion
    assert repaired(hostile)[0] == "\u1ea1" + "\u0323" * 499_999 + "\u0301" * 500_000
