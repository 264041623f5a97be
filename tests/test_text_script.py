"""Scripts of texts: the kernels against slow twins, and languages whose script is known."""

import unicodedata
from collections import Counter
from pathlib import Path

import pyarrow as pa
import zstandard
from fontTools import unicodedata as scripts_of
from hypothesis import given, settings
from hypothesis import strategies as st

from tundish.operators.text.script import KANA, in_capitals, scripts

LETTERS = "abcXYZéßÄжЖщαΩשלעम्कগ한글漢字仮名ひらがなカタカナｶﾞ１２3 ,.!_ \n\0ªµⅷǅ𝒜𠀀\u0301\u200b"
SCRIPTS = {
    "ar": "Arab", "bg": "Cyrl", "bn": "Beng", "de": "Latn", "el": "Grek", "gu": "Gujr", "he": "Hebr", "hi": "Deva",
    "hy": "Armn", "ja": "Jpan", "ka": "Geor", "ko": "Hang", "mr": "Deva", "pa": "Guru", "ru": "Cyrl", "ta": "Taml",
    "te": "Telu", "th": "Thai", "tr": "Latn", "uk": "Cyrl", "ur": "Arab", "vi": "Latn", "zh": "Hani",
}  # fmt: skip


def twin(text: str) -> str | None:
    """Letters counted one by one."""
    counts = Counter(scripts_of.script(sign) for sign in text if unicodedata.category(sign)[0] == "L")
    kana, han = counts.pop("Hira", 0) + counts.pop("Kana", 0), counts.pop("Hani", 0)
    if kana + han:
        counts["Jpan" if kana > KANA * (kana + han) else "Hani"] = kana + han
    for nobodys in ("Zyyy", "Zinh", "Zzzz"):
        counts.pop(nobodys, 0)
    most = max(counts.values(), default=0)
    # of as many letters in two scripts either may be said
    return min((code for code, count in counts.items() if count == most), default=None, key=_first)


def _first(code: str) -> tuple[bool, str]:
    return code != "Jpan", code


def shouted(text: str) -> bool:
    letters = [sign for sign in text if unicodedata.category(sign)[0] == "L"]
    capitals = sum(sign.isupper() for sign in text)
    small = any(sign.islower() or unicodedata.category(sign) == "Lt" for sign in text)
    return not small and 2 * capitals > len(letters)


@settings(max_examples=400, deadline=None)
@given(st.lists(st.text(st.one_of(st.sampled_from(LETTERS), st.characters(codec="utf-8")), max_size=40), max_size=6))
def test_scripts_and_capitals_are_their_twins(texts: list[str]) -> None:
    column = pa.array(["padding", *texts], pa.large_string())[1:]
    assert scripts(column).to_pylist() == [twin(text) for text in texts]
    assert in_capitals(column).tolist() == [shouted(text) for text in texts]


def test_texts_of_all_capitals() -> None:
    texts = ["BREAKING NEWS: 12 DEAD", "ÄÖÜ", "МОСКВА", "I", "A b", "ﬂ", "東京", "", "42", "NASA 東京 の", "ABCDE 東京"]
    assert in_capitals(pa.array(texts, pa.large_string())).tolist() == [
        True, True, True, True, False, False, False, False, False, True, True,
    ]  # fmt: skip


def test_scripts_of_real_sentences(data: Path) -> None:
    packed = (data / "lid-lingua" / "lid.tsv.zst").read_bytes()
    lines = zstandard.ZstdDecompressor(max_window_size=2**27).stream_reader(packed).read().decode().split("\n")
    texts: dict[str, list[str]] = {}
    for line in lines[1:-1]:
        code, kind, text = line.split("\t")
        if kind == "sentences" and code in SCRIPTS:
            texts.setdefault(code, []).append(text)
    assert {*texts} == {*SCRIPTS}
    for code, sentences in texts.items():
        found = scripts(pa.array(sentences, pa.large_string())).to_pylist()
        assert found.count(SCRIPTS[code]) > 0.95 * len(found), (code, Counter(found))  # some quote English
