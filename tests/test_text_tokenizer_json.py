"""The exported tokenizer.json: the same ids as the model, on real lines of twelve languages and on hostile strings."""

import io
import json
import random
import sys
import tarfile
from pathlib import Path

import pytest
import sentencepiece as spm
import zstandard
from tokenizers import Tokenizer

from tests.test_text_vocabulary import sentences
from tundish.operators.text import tokenizer_doubts as doubting
from tundish.operators.text import vocabulary
from tundish.operators.text.exact_model import CHARSMAP, SPACES, STEP, charsmap, exact
from tundish.operators.text.tokenizer_json import Known, cut_of, export, halves, leftmost

KINDS = ("unigram", "bpe")
LANGUAGES = ["en", "de", "fr", "ru", "zh", "ja", "ko", "ar", "hi", "th", "tr", "vi"]
PARTS = [
    *(
        "\u0301",
        "\u0308",
        "e\u0301",
        "\u200d",
        "\ufe0f",
        "👩\u200d🚀",
        "🇩🇪",
        "\u1100",
        "\u1161",
        "\u11a8",
        "한",
        "か\u3099",
    ),
    *("\u2581", " ", "  ", "\t", "\n", "\r\n", "\0", "\x01", "\x0b", "\x85", "\u00a0", "\u3000", "\ufeff", "\u2028"),
    *("[MASK]", "[PAD]", "[UNK]", "[CLS]", "[SEP]", "<0x41>", "<0xE2>", "<unk>", "<s>", "[", "]", "<", "MASK", "0x"),
    *("ﬁ", "Ａ", "①", "½", "１", "٤", "५", "𝟘", "ß", "İ", "a", "b", "1", "2", "-", "--", "---", "====", "....", "aaaa"),
    *("hahaha", "▅", "\u2047", "\U0010ffff", "\ud7ff", "中", "文", "ก", "ำ", "नि", "https://", "À", "bada", "潮が"),
]


def fuzzed(count: int, seed: int, real: list[str]) -> list[str]:
    draw = random.Random(seed)

    def part() -> str:
        kind = draw.random()
        if kind < 0.45:
            return draw.choice(PARTS)
        if kind < 0.6:
            return draw.choice(PARTS) * draw.randint(1, 30)
        if kind < 0.75:
            return _character(draw)
        if kind < 0.85:
            return chr(draw.randrange(0x3000))
        text = draw.choice(real)
        return text[(at := draw.randrange(len(text) + 1)) : at + draw.randint(1, 20)]

    return ["".join(part() for _ in range(draw.randint(1, 14))) for _ in range(count)]


def _character(draw: random.Random) -> str:
    code = draw.randrange(0x110000 - 0x800)
    return chr(code if code < 0xD800 else code + 0x800)


def differing(model: bytes, texts: list[str]) -> list[str]:
    one, other = vocabulary.load(model), Tokenizer.from_str(export(model).decode())
    return [text for text in texts if one.encode(text) != other.encode(text).ids]


@pytest.fixture(scope="module", params=KINDS)
def model(request: pytest.FixtureRequest) -> bytes:
    return vocabulary.train(sentences(), size=400, kind=request.param)


def test_the_same_ids_on_fuzzed_strings(model: bytes) -> None:
    assert differing(model, fuzzed(4000, 7, sentences(50))) == []
    assert doubting.doubts(model) == []


def test_the_same_ids_with_more_specials() -> None:
    for kind in KINDS:
        model = vocabulary.train(sentences(), size=400, kind=kind, specials=("<sep2>", "[DOC]"))
        assert vocabulary.load(model).piece_to_id("<sep2>") == 5
        assert (
            differing(model, ["a <sep2> b", "[DOC]", "[DOC]<sep2>[MASK]", "<sep2", *fuzzed(500, 3, ["<sep2> [DOC]"])])
            == []
        )


@pytest.fixture(scope="module")
def lines(data: Path) -> list[str]:
    """10,000 lines of twelve languages."""

    def unpacked(path: Path) -> bytes:
        return zstandard.ZstdDecompressor(max_window_size=2**27).stream_reader(path.read_bytes()).read()

    rows = [line.split("\t") for line in unpacked(data / "lid-lingua" / "lid.tsv.zst").decode().split("\n")[1:] if line]
    found = {lang: [text for own, kind, text in rows if (own, kind) == (lang, "sentences")][:800] for lang in LANGUAGES}
    for lang in ("ja", "ru", "zh"):
        packed = unpacked(data / "text-multilingual" / f"javascript-info-{lang}.tar.zst")
        with tarfile.open(fileobj=io.BytesIO(packed)) as files:
            bodies = (files.extractfile(one).read().decode() for one in files if one.isfile())  # type: ignore[union-attr]
            more = [line for body in bodies for line in body.split("\n") if line.strip()]
        found[lang] += more[: 1100 - len(found[lang])]
    return [line for own in found.values() for line in own]


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_ids_on_ten_thousand_lines_of_twelve_languages(lines: list[str], kind: str) -> None:
    assert len(lines) >= 10_000
    model = vocabulary.train(lines[::3], size=6000, kind=kind)  # two thirds are new to it
    assert doubting.doubts(model) == []
    assert differing(model, lines) == []
    assert differing(model, fuzzed(3000, 11, lines)) == []
    assert differing(model, ["\n".join(lines[:3000])]) == [], "a long one, where float32 alone would round"
    if kind == "bpe":
        runs = list(doubting.runs(Known(model)))
        assert runs
        assert differing(model, runs) == []


def test_framed_finds_specials_and_puts_them_around(model: bytes) -> None:
    framed = Tokenizer.from_str(export(model, framed=True).decode())
    plain = vocabulary.load(model)
    assert framed.encode("bada [MASK] kiki").ids == [2, *plain.encode("bada"), 4, *plain.encode("kiki"), 3]
    assert framed.encode("bada", "kiki").ids == [2, *plain.encode("bada"), 3, *plain.encode("kiki"), 3]
    assert framed.decode(framed.encode("bada [MASK] kiki").ids) == "bada kiki"


def test_it_decodes_to_the_text(model: bytes) -> None:
    found = Tokenizer.from_str(export(model).decode())
    for text in ("bada kiki", "Zürich 42", "😀 👩\u200d🚀", "שלום", "a [MASK] b", ""):
        assert found.decode(found.encode(text).ids) == text


def foreign(**rules: object) -> bytes:
    out = io.BytesIO()
    said = {"vocab_size": 400, "byte_fallback": True, "minloglevel": 2, "num_threads": 1, **rules}
    spm.SentencePieceTrainer.train(sentence_iterator=iter(sentences()), model_writer=out, **said)
    return out.getvalue()


def test_a_foreign_model_is_exported_with_its_doubts() -> None:
    model = foreign()
    reasons = doubting.doubts(model)
    assert any("table of its own" in reason for reason in reasons)
    assert any("no multiples of 1/64" in reason for reason in reasons)
    assert differing(model, [*sentences(20), "Zürich ﬁ  x", "<unk> <s>"]) == []
    assert differing(model, ["a\u0301\u0323b ｶ\uff9e\u0301"]) or differing(model, ["ﬁ\u0301n \u1112\u1161\u11ab\u0301"])


@pytest.mark.parametrize(
    ("rules", "reason"),
    [
        ({"user_defined_symbols": ["<tag>"]}, "user-defined"),
        ({"add_dummy_prefix": False}, "multiples"),
        ({"model_type": "bpe", "split_by_unicode_script": False}, ""),
    ],
)
def test_other_kinds_of_foreign_models(rules: dict[str, object], reason: str) -> None:
    model = foreign(normalization_rule_name="identity", **rules)
    assert not reason or any(reason in said for said in doubting.doubts(model))
    assert differing(model, [*sentences(20), "a  b ", "\u2581", "a \u2581", "x\ty"]) == []


def test_what_cannot_be_said_is_refused() -> None:
    with pytest.raises(ValueError, match="use the \\.model file itself"):
        export(foreign(treat_whitespace_as_suffix=True))
    with pytest.raises(ValueError, match="no SentencePiece model"):
        export(b"nothing of the kind")


def test_a_doubt_is_seen_where_a_condition_is_broken(model: bytes) -> None:
    pb = pytest.importorskip("sentencepiece.sentencepiece_model_pb2")
    message = pb.ModelProto.FromString(model)
    kind = "unigram" if message.trainer_spec.model_type == 1 else "bpe"
    message.pieces[300].score = -3.3 if kind == "unigram" else message.pieces[301].score
    assert len(doubting.doubts(message.SerializeToString())) == 1
    message.pieces[310].type = 5
    assert any("1 unused pieces" in reason for reason in doubting.doubts(message.SerializeToString()))


def test_merges_that_overlap_are_taken_from_the_left() -> None:
    """A hand-made BPE in which the order of the pairs of one piece decides."""
    pb = pytest.importorskip("sentencepiece.sentencepiece_model_pb2")
    message = pb.ModelProto.FromString(vocabulary.train(sentences(), size=400, kind="bpe"))
    kept = [piece for piece in message.pieces if piece.type != 1]
    del message.pieces[:]
    message.pieces.extend(kept)
    for number, text in enumerate(["ba", "ab", "xab", "aba", "abax", "▁", "a", "b", "x"]):
        message.pieces.add(piece=text, score=-float(number))
    model = message.SerializeToString()
    alphabet = random.Random(5)
    texts = ["".join(alphabet.choices("abx", k=alphabet.randint(1, 12))) for _ in range(3000)]
    assert differing(model, texts) == []


def test_the_order_of_halves() -> None:
    normal = dict.fromkeys(["a", "aa", "aaa", "b", "ab", "ba"], 0)
    assert halves("aaa", normal) == [1, 2]
    assert leftmost("aaa", [1, 2]) == [2, 1]
    assert leftmost("aba", [1, 2]) == [2, 1]
    assert cut_of("[MASK]", {"[M"}) == 2
    assert cut_of("ab", {"ab"}) == 0


def test_white_space_and_nothing_else_is_normalised(model: bytes) -> None:
    loaded = vocabulary.load(model)
    for code in range(sys.maxunicode + 1):
        if not 0xD800 <= code < 0xE000:
            text = f"a{chr(code)}b"
            assert loaded.normalize(text) == ("▁a▁b" if chr(code) in SPACES else f"▁{text}"), hex(code)


def test_the_list_of_white_space_is_that_of_this_python() -> None:
    own = {chr(code) for code in range(sys.maxunicode + 1) if chr(code).isspace()}
    assert own - set(SPACES) == set("\x1c\x1d\x1e\x1f"), "separators that Unicode does not call white space"
    assert set(SPACES) - own == {"\u2581"}


def test_a_char_map_of_many_keys_is_read_by_sentencepiece() -> None:
    draw = random.Random(2)
    mapping = {_character(draw): draw.choice("xyz") + draw.choice(["", "é", "中"]) for _ in range(500)}
    mapping = {key: text for key, text in mapping.items() if key not in SPACES and key != "\0"}
    pb = pytest.importorskip("sentencepiece.sentencepiece_model_pb2")
    message = pb.ModelProto.FromString(vocabulary.train(sentences(), size=400))
    message.normalizer_spec.precompiled_charsmap = charsmap(mapping)
    loaded = spm.SentencePieceProcessor(model_proto=message.SerializeToString())
    for key, text in mapping.items():
        assert loaded.normalize(f"a{key}b") == f"▁a{text}b"
    for character in set("abcé中ß") - set(mapping):
        assert loaded.normalize(character) == f"▁{character}"


def test_scores_are_steps_and_pieces_stay(model: bytes) -> None:
    pb = pytest.importorskip("sentencepiece.sentencepiece_model_pb2")
    message = pb.ModelProto.FromString(model)
    assert all(piece.score / STEP == round(piece.score / STEP) for piece in message.pieces)
    assert message.normalizer_spec.precompiled_charsmap == CHARSMAP
    assert exact(model) == model, "done twice, it changes nothing"


def test_the_json_is_plain(model: bytes) -> None:
    said = json.loads(export(model))
    assert said["added_tokens"] == []
    assert export(model) == export(bytes(model)), "the same bytes every time"
