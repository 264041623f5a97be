"""Ids by our own kernels, held against SentencePiece's own, text by text: it is the slow and obvious twin of all."""

import importlib.util
import io
import pickle
import random
import struct
import subprocess
import sys
import tarfile
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import sentencepiece as spm
import zstandard

from tundish.operators.text import encode, sentencepiece_file
from tundish.operators.text.encode import Encoder
from tundish.operators.text.kernels import trie
from tundish.operators.text.sentencepiece_file import BYTE, CONTROL, NORMAL, UNKNOWN, UNUSED, USER_DEFINED

PLAIN = [
    "The tide rises twice a day along this coast, and nobody has told the herons.",
    "A lighthouse keeper writes 1,204 letters in 1987, not one of them to the sea.",
    "Der Fahrplan der Kraniche ist älter als jede Karte, sagte die Müllerin.",
    "Où est passée la rivière ? Elle coule sous l'été, à côté d'un vieux moulin.",
    "Река вскрывается в апреле, когда тает снег на северном берегу.",
    "この町では、朝の潮が一番静かです。東京へは行きません。",
    "เรือลำเล็กออกจากท่าเรือในตอนเช้า",
    "השעון עצר כשהגשם התחיל בלילה",
    "توقفت الساعة عندما بدأ المطر",
    "한국어로 쓴 짧은 문장입니다.",
]
BITS = ["the", "word", "▁", "▁▁", " ", "  ", "\n", "\t", "\r\n", "\u3000", "\xa0", "\u2028", "\x85", "\u2003", "é"]
BITS += [
    "e\u0301",
    "a\u0308\u0323",
    "ﷺ",
    "ﬁ",
    "①",
    "½",
    "\u200b",
    "\u200d",
    "👩‍👩‍👧",
    "😀",
    "\0",
    "\x01",
    "\x7f",
    "東京",
    "カ\u3099",
    "ガ",
]
BITS += [
    "ไทย",
    "שלום",
    "العربية",
    "한",
    "\u1100\u1161",
    "12345",
    "0",
    "İ",
    "ß",
    "ſ",
    "<unk>",
    "<s>",
    "[MASK]",
    "<0x41>",
    "NEW",
]
BITS += [
    "New York",
    "foo▁bar",
    "abc",
    "´",
    "¨ ",
    "\u0301",
    "\ufeff",
    "\ufffd",
    "\U0010ffff",
    "ⅷ",
    "....",
    "aaaa",
    "xyz",
    "µ",
    "Å",
]
KINDS = ("bpe", "unigram")
USERS = ["New York", "foo▁bar", "NEW", "😀", "abc", "▁the"]
SETTINGS = {
    "default": {},
    "bytes": {"byte_fallback": True, "split_digits": True},
    "case folded": {"normalization_rule_name": "nfkc_cf"},
    "nmt case folded": {"normalization_rule_name": "nmt_nfkc_cf", "byte_fallback": True},
    "as it is": {"normalization_rule_name": "identity"},
    "like llama": {
        **{"normalization_rule_name": "identity", "byte_fallback": True, "split_digits": True},
        **{"remove_extra_whitespaces": False, "allow_whitespace_only_pieces": True},
    },
    "no prefix": {"add_dummy_prefix": False},
    "spaces kept": {"remove_extra_whitespaces": False},
    "spaces kept, no prefix": {"remove_extra_whitespaces": False, "add_dummy_prefix": False, "byte_fallback": True},
    "suffix": {"treat_whitespace_as_suffix": True},
    "suffix, no prefix": {"treat_whitespace_as_suffix": True, "add_dummy_prefix": False},
    "pieces across spaces": {"split_by_whitespace": False, "split_by_unicode_script": False},
    "user-defined": {"user_defined_symbols": USERS},
    "user-defined, spaces kept": {
        **{"user_defined_symbols": ["NEW", "▁▁", "ab", "abc", "e"], "remove_extra_whitespaces": False},
        **{"add_dummy_prefix": False, "byte_fallback": True},
    },
    "user-defined spaces": {"user_defined_symbols": ["\n", "  ", "\t"], "normalization_rule_name": "identity"},
    "control": {"control_symbols": ["[MASK]", "abc", "a"], "byte_fallback": True},
}


def trained(kind: str, lines: Iterable[str] = (), size: int = 700, **settings: object) -> bytes:
    out = io.BytesIO()
    asked = {"hard_vocab_limit": False, "character_coverage": 0.995, "num_threads": 1, "minloglevel": 2} | settings
    spm.SentencePieceTrainer.train(
        sentence_iterator=iter(lines or sentences()), model_writer=out, vocab_size=size, model_type=kind, **asked
    )
    return out.getvalue()


def sentences() -> list[str]:
    """Sentences of the words of PLAIN, some twice in a row, so that there is something to learn."""
    draw = random.Random(1)
    words = [line.split() for line in PLAIN]
    return [*PLAIN, *(" ".join(draw.choices(draw.choice(words), k=draw.randint(2, 15))) for _ in range(600))]


def drawn(seed: int, count: int) -> list[str]:
    """Strings of what is odd, in among words, characters of anywhere and pieces of sentences."""
    draw, made = random.Random(seed), []
    for _ in range(count):
        parts = []
        for _ in range(draw.choice([1, 2, 3, 5, 9, 30])):
            lot = draw.random()
            anywhere = chr(
                draw.choice([draw.randrange(1, 128), draw.randrange(1, 0x3000), draw.randrange(0xE000, 0x10FFFF)])
            )
            parts.append(
                draw.choice(BITS)
                if lot < 0.75
                else anywhere
                if lot < 0.87
                else draw.choice(PLAIN)[: draw.randrange(60)]
            )
        text = "".join(parts)
        text = text.replace("▁", "") if draw.random() < 0.5 else text  # few texts hold it, and those go another way
        made.append(text + draw.choice(["", "", " ", "  ", "\n", "▁", " ▁ "]))
    return made


def agree(model: bytes, texts: Sequence[str | bytes]) -> Encoder:
    """The same ids for every text; all at once, one by one with nothing remembered, and in another order."""
    encoder, theirs = Encoder(model), spm.SentencePieceProcessor(model_proto=model)
    wanted = theirs.encode(list(texts), num_threads=1)
    rows = pa.array(texts, pa.large_binary() if isinstance(texts[0], bytes) else pa.large_string())
    column = pa.Array.from_buffers(pa.large_string(), len(rows), rows.buffers(), 0)  # bytes as they are, valid or not
    for text, mine, ids in zip(texts, encoder(column).to_pylist(), wanted, strict=True):
        assert mine == ids, ascii(text[:200])
    assert (
        encoder(column[::-1] if False else column.take(pa.array(range(len(texts) - 1, -1, -1)))).to_pylist()
        == wanted[::-1]
    )
    for row in range(0, len(texts), max(1, len(texts) // 20)):
        assert encoder(column.slice(row, 1), warm=False).to_pylist() == [wanted[row]]
    return encoder


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", SETTINGS)
def test_ids_are_sentencepieces(name: str, kind: str) -> None:
    model = trained(kind, **SETTINGS[name])
    agree(model, [*PLAIN, *drawn(sum(map(ord, name + kind)), 700), "", " ", "\n \t", "▁", "a▁ ▁", "\u200b", "\u200b "])


def var(number: int) -> bytes:
    return bytes([number]) if number < 128 else bytes([number & 127 | 128]) + var(number >> 7)


def part(number: int, body: bytes) -> bytes:
    return var(number << 3 | 2) + var(len(body)) + body


def flag(number: int, value: int) -> bytes:
    return var(number << 3) + var(value)


def written(pieces: Sequence[tuple[str, float, int]], kind: int, trainer: bytes = b"", normal: bytes = b"") -> bytes:
    """A model with these pieces: their scores and types."""
    bodies = [part(1, name.encode()) + b"\x15" + struct.pack("<f", score) + flag(3, of) for name, score, of in pieces]
    return b"".join(part(1, body) for body in bodies) + part(2, flag(3, kind) + trainer) + part(3, normal)


SCORES = (
    [-1.0, -2.0, -3.0],
    [-1.5],  # all ways of as many pieces are level
    [-0.1 * n for n in range(1, 60)],
    [-2000.0, -3000.5, -1000.25],  # sums are soon beyond what is set back
    [0.0, -0.0, 1.0, -1.0],
    [-9.3, -9.1, -18.4, -4.2, -4.6],
)


def invented(seed: int) -> tuple[bytes, str]:
    """A model no trainer would make, and its letters: level scores, unused pieces, pieces of what is no piece."""
    draw = random.Random(seed)
    letters, scores = draw.choice(["ab", "abc", "abé", "aé東"]), draw.choice(SCORES)
    inside, unused, users, fallback = (draw.random() < share for share in (0.3, 0.3, 0.3, 0.4))
    found: dict[str, tuple[float, int]] = {"<unk>": (0.0, UNKNOWN), "<s>": (0.0, CONTROL)}
    for _ in range(draw.choice([3, 8, 20, 60])):
        name = "".join(draw.choice(letters + "▁" * inside) for _ in range(draw.choice([1, 1, 2, 2, 3, 4, 6])))
        name = "▁" * draw.randrange(1, 4) if draw.random() < 0.1 else "▁" + name if draw.random() < 0.4 else name
        of = CONTROL if draw.random() < 0.03 else USER_DEFINED if users and draw.random() < 0.2 else NORMAL
        found.setdefault(name, (draw.choice(scores), UNUSED if unused and draw.random() < 0.4 else of))
    for name in ["▁", *letters]:
        if draw.random() < 0.7:
            found.setdefault(name, (draw.choice(scores), NORMAL))
    if fallback:
        found |= {sentencepiece_file.byte_piece(byte).decode(): (0.0, BYTE) for byte in range(256)}
    pieces = [(name, *facts) for name, facts in found.items()]
    draw.shuffle(pieces)
    trainer = flag(35, fallback) + flag(24, draw.random() < 0.15)
    normal = b"".join(flag(number, draw.random() < share) for number, share in ((3, 0.7), (4, 0.6), (5, 0.92)))
    return written(pieces, draw.choice([1, 2]), trainer, normal), letters


def test_ids_of_invented_models_are_sentencepieces() -> None:
    for seed in range(150):
        model, letters = invented(seed)
        draw, texts = random.Random(seed), []
        for _ in range(40):
            spaces = draw.choice([0, 0.05, 0.2, 0.5])
            size = draw.choice([1, 2, 5, 12, 40, 150, 400])
            signs = (draw.random() for _ in range(size))
            texts.append(
                "".join(
                    " " if n < spaces else draw.choice("▁xz\n") if n > 0.98 else draw.choice(letters) for n in signs
                )
            )
        try:
            agree(model, texts)
        except AssertionError as error:
            raise AssertionError(f"model {seed}: {error}") from None


@pytest.mark.parametrize("kind", KINDS)
def test_long_words_and_texts_without_a_space(kind: str) -> None:
    draw = random.Random(2)
    word = "".join(draw.choice("thewordnix") for _ in range(50_000))
    japanese = "".join(draw.choice("この町では、朝の潮が静かです。") for _ in range(40_000))
    texts = [word, f"a {word} b", japanese, " " * 70_000, "▁" * 70_000, "é" * 95 + " " + "é" * 97, "ﷺ" * 5000]
    agree(
        trained(kind, byte_fallback=True),
        [*texts, *("x" * size for size in range(90, 100)), *(word[:size] for size in range(20))],
    )


def test_five_megabytes_without_a_space() -> None:
    model = written(
        [("<unk>", 0.0, UNKNOWN), ("▁", -9.0, NORMAL), *(("a" * n, -float(n), NORMAL) for n in range(1, 9))], 2
    )
    text = "a" * 5_000_000  # a heap of five million pairs; in the square of them this would take days
    wanted = spm.SentencePieceProcessor(model_proto=model).encode(text, out_type="numpy")
    assert np.array_equal(Encoder(model)(pa.array([text], pa.large_string())).values, wanted)


@pytest.mark.parametrize("kind", KINDS)
def test_sums_are_set_back_where_sentencepiece_does_it(kind: str) -> None:
    text = " ".join(" ".join(random.Random(n).choices(" ".join(PLAIN[:5]).split(), k=40)) for n in range(1500))
    agree(trained(kind), [text, text.replace(" ", ""), text[: len(text) // 2]])


def test_rounding_decides_between_equals_as_it_does_there() -> None:
    """`ab` and `a`, `b` are level but for float32, so a choice hangs on the sum before, and where that was set back."""
    pieces = [("<unk>", 0.0, UNKNOWN), ("▁", -0.7, NORMAL), ("a", -1.1, NORMAL), ("b", -2.2, NORMAL)]
    pieces += [("ab", -3.3, NORMAL), ("ba", -3.3, NORMAL), ("▁z", -3000.3, NORMAL), ("z", -4000.7, NORMAL)]
    words = ["ab", "ba", "abab", "baab", "z", "zz", "zab", "abz", "zzabab", "ababzbaba", "abzzab"]
    agree(
        written([*pieces, ("zz", -8001.4, NORMAL)], 1),
        [" ".join(random.Random(n).choices(words, k=3000)) for n in range(9)],
    )


@pytest.mark.parametrize("kind", KINDS)
def test_bytes_that_are_no_text(kind: str) -> None:
    draw = random.Random(3)
    texts = [
        b"a\xffb",
        b"\xc3",
        b"\xe3\x81",
        b"\xed\xa0\x80 x",
        b"\xf4\x90\x80\x80",
        b"\xc0\xaf",
        b"ab\xf0\x9f\x98",
        b"\x80\x80",
    ]
    texts += [
        bytes(draw.choice(b"ab \xc3\xa9\xe3\x81\x82\xff\xf0\x9f\x98\x80\0") for _ in range(draw.randint(1, 30)))
        for _ in range(500)
    ]
    for settings in ({}, {"byte_fallback": True, "user_defined_symbols": ["a", "あ"]}):
        agree(trained(kind, **settings), texts)


@pytest.fixture(scope="module")
def real(data: Path) -> list[str]:
    """Markdown in three languages, an encyclopaedia, and sentences in 75 languages."""

    def opened(path: Path) -> bytes:
        return zstandard.ZstdDecompressor(max_window_size=2**27).stream_reader(path.read_bytes()).read()

    texts = []
    for file in sorted((data / "text-multilingual").glob("*.tar.zst")):
        with tarfile.open(fileobj=io.BytesIO(opened(file))) as archive:
            pages = [archive.extractfile(one).read().decode() for one in archive if one.name.endswith(".md")]
            texts += pages[:60]
    texts += opened(data / "lm-wikitext2" / "valid.txt.zst").decode().split("\n = ")
    texts += opened(data / "lid-lingua" / "lid.tsv.zst").decode().split("\n")[::12]
    return texts


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("settings", [{"byte_fallback": True, "split_digits": True}, SETTINGS["like llama"], {}])
def test_ids_of_real_texts_are_sentencepieces(kind: str, settings: dict[str, object], real: list[str]) -> None:
    lines = [line for text in real[::5] for line in text.split("\n") if line.strip()]
    agree(trained(kind, random.Random(1).sample(lines, 4000), 4000, **settings), real)


def test_what_is_remembered_and_in_which_thread_does_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = pa.array(PLAIN * 9 + drawn(5, 500), pa.large_string())
    for kind in KINDS:
        model = trained(kind)
        calm = Encoder(model)(texts)
        with monkeypatch.context() as small:  # so little memory that it is emptied again and again
            small.setattr(encode, "PLACES", 512)
            small.setattr(encode.chunked, "LEAST", 128)
            small.setattr(encode, "ROOM", 64)
            assert Encoder(model)(texts) == calm
        one = Encoder(model)
        with ThreadPoolExecutor(4) as pool:
            assert all(found == calm for found in pool.map(one, [texts] * 12))
        assert pickle.loads(pickle.dumps(one))(texts) == calm


def test_columns_of_any_kind() -> None:
    encoder = Encoder(trained("bpe"))
    texts = ["The tide", None, "", "rises\ntwice"]
    whole = pa.array(texts, pa.large_string())
    found = encoder(whole)
    assert found.type == pa.large_list(pa.uint16())
    assert found.to_pylist()[1:3] == [[], []]
    assert found.null_count == 0
    assert encoder(pa.array(texts, pa.string())) == encoder(pa.chunked_array([whole, whole])).slice(0, 4) == found
    assert encoder(whole.slice(3)).to_pylist() == found.to_pylist()[3:]
    assert encoder(pa.array([], pa.large_string())).to_pylist() == encoder(whole.slice(1, 0)).to_pylist() == []
    assert encoder(pa.array([None], pa.large_string())).to_pylist() == [[]]
    with pytest.raises(TypeError, match="no column of text"):
        encoder(["The tide"])


def test_many_pieces_have_wide_ids() -> None:
    """More pieces than 16 bits count, the last ones among those found."""
    names = [chr(0x4E00 + n // 300) + chr(0x4E00 + 300 + n % 300) for n in range(70_000)]
    pieces = [("<unk>", 0.0, UNKNOWN), *((name, -float(n), NORMAL) for n, name in enumerate(names))]
    for kind in (1, 2):
        encoder = agree(written(pieces, kind), [names[0] + " " + names[-1], "".join(names[60_000::500])])
        assert encoder(pa.array([names[-1]], pa.large_string())).type == pa.large_list(pa.uint32())
        assert encoder.size == 70_001


def test_a_trie_holds_its_strings_and_no_others() -> None:
    for seed in range(40):
        draw = random.Random(seed)
        count = draw.choice([0, 1, 5, 300])
        strings = sorted({bytes(draw.choice(b"\x01abc\xff") for _ in range(draw.randint(1, 7))) for _ in range(count)})
        links, values = trie.trie(strings, list(range(len(strings))))
        known = {string: number for number, string in enumerate(strings)}
        for asked in [
            *strings,
            *(bytes(draw.choice(b"\0\x01abc\xff") for _ in range(draw.randint(1, 8))) for _ in range(200)),
        ]:
            place = 0
            for byte in asked:
                step = int(links[place, 0]) + byte
                place = step if place >= 0 and links[step, 1] == place else -1
                if place < 0:
                    break
            assert (int(values[place]) if place >= 0 else -1) == known.get(asked, -1)


def test_a_model_is_read_as_it_was_written() -> None:
    model = trained("bpe", user_defined_symbols=["NEW"], control_symbols=["[MASK]"], byte_fallback=True)
    found, theirs = sentencepiece_file.read(model), spm.SentencePieceProcessor(model_proto=model)
    assert [piece.decode() for piece in found.pieces] == [theirs.id_to_piece(n) for n in range(theirs.vocab_size())]
    assert found.scores.tolist() == [theirs.get_score(n) for n in range(theirs.vocab_size())]
    of = {BYTE: theirs.is_byte, CONTROL: theirs.is_control, UNKNOWN: theirs.is_unknown, UNUSED: theirs.is_unused}
    for number, kind in enumerate(found.types):
        assert [name for name, is_so in of.items() if is_so(number)] == [kind] * (kind in of)
    assert (found.kind, found.unknown, found.byte_fallback, found.suffix) == ("bpe", theirs.unk_id(), True, False)
    assert (found.dummy_prefix, found.strip, found.escape) == (True, True, True)


@pytest.mark.parametrize("kind", KINDS)
def test_a_models_own_tests_are_asked(kind: str) -> None:
    """As SentencePiece wrote them until 0.2.0: a text, and its pieces with spaces between, unknown ones as they are."""
    model = trained(kind, user_defined_symbols=["NEW"])
    theirs = spm.SentencePieceProcessor(model_proto=model)
    texts = ["The tide rises", "NEW 1,204 letters 😀😀", ""]
    samples = [(text, " ".join(theirs.encode(text, out_type=str))) for text in texts]
    body = b"".join(part(1, part(1, text.encode()) + part(2, pieces.encode())) for text, pieces in samples)
    assert sentencepiece_file.read(model + part(4, body)).samples == tuple(samples)
    Encoder(model + part(4, body))
    worse = part(1, part(1, b"The tide") + part(2, " ".join("▁The▁tide").encode()))
    with pytest.raises(ValueError, match="fails its own test: 'The tide'"):
        Encoder(model + part(4, body + worse))


def bad_models() -> dict[str, tuple[bytes, str]]:
    good, plain = trained("bpe"), [("<unk>", 0.0, UNKNOWN), ("a", -1.0, NORMAL)]
    bytes_ = [(f"<0x{byte:02X}>", 0.0, BYTE) for byte in range(255)]
    sample = part(4, part(1, part(1, b"aa") + part(2, "▁ b".encode())))
    return {
        "nothing": (b"", "no pieces"),
        "text": (b"hello, this is a text", "wire type|ends early|no pieces"),
        "cut off": (good[:-100], "ends early"),
        "of words": (written(plain, 3), "its type is word"),
        "twice": (written([*plain, ("a", -2.0, NORMAL)], 2), "twice"),
        "empty piece": (written([*plain, ("", -2.0, NORMAL)], 2), "a piece is empty"),
        "no unknown": (written(plain[1:], 2), "no unknown piece"),
        "two unknown": (written([*plain, ("b", 0.0, UNKNOWN)], 2), "more than one"),
        "one byte short": (written([*plain, *bytes_], 1, flag(35, 1)), "256"),
        "bytes without fallback": (written([*plain, *bytes_], 1), "256"),
        "no number": (written([*plain, ("b", float("nan"), NORMAL)], 1), "finite"),
        "NUL": (written([*plain, ("a\0b", -2.0, NORMAL)], 2), "NUL"),
        "broken rules": (written(plain, 1, b"", part(2, b"\x00\x04\x00\x00" + b"\1" * 900)), "rules"),
        "number for a name": (part(1, flag(1, 7)), "no SentencePiece model"),
    } | {"own test": (written(plain, 2) + sample, "fails its own test: 'aa'")}


@pytest.mark.parametrize("name", bad_models())
def test_what_is_no_model_is_refused(name: str) -> None:
    model, why = bad_models()[name]
    with pytest.raises(ValueError, match=why):
        Encoder(model)


@pytest.mark.parametrize("seed", range(4))
def test_an_altered_model_is_refused_or_used_in_bounds(seed: int) -> None:
    """Single bytes changed: no crash, no id that is no piece, no endless loop."""
    model, draw = trained(KINDS[seed % 2]), random.Random(seed)
    texts = pa.array([*PLAIN, *drawn(seed, 30)], pa.large_string())
    used = 0
    for _ in range(40):
        raw = bytearray(model)
        for _ in range(draw.choice([1, 3, 20])):
            raw[draw.randrange(len(raw))] = draw.randrange(256)
        try:
            encoder = Encoder(bytes(raw))
        except ValueError:
            continue
        used += 1
        assert encoder(texts).values.to_numpy().max(initial=0) < encoder.size
    assert used


def test_a_nul_piece_some_converters_leave_is_ignored() -> None:
    pieces = [("<unk>", 0.0, UNKNOWN), ("\0", -1.0, NORMAL), ("a", -1.0, NORMAL), ("\0", -1.0, NORMAL)][:3]
    bytes_ = [(f"<0x{byte:02X}>", 0.0, BYTE) for byte in range(256)]
    for kind in (1, 2):
        agree(written([*pieces, *bytes_], kind, flag(35, 1)), ["a\0a", "\0", "\0\0 a"])


def test_scores_are_compared_by_their_bits() -> None:
    pieces = [("<unk>", 0.0, UNKNOWN), *((name, score, NORMAL) for name, score in zip("▁abc", [-9.0] * 4, strict=True))]
    for one, other in ((0.0, -0.0), (-0.0, 0.0), (1e-45, 0.0), (-1e-45, -0.0), (np.float32(3e38), 1.0)):
        agree(
            written([*pieces, ("ab", float(one), NORMAL), ("bc", float(other), NORMAL)], 2), ["abc", "abcabc", "bcab"]
        )


def test_the_benchmarks_name_hides_no_module_of_the_standard_library() -> None:
    """benchmarks/tokenize.py is what `make bench` asks for; to its neighbours `tokenize` is what it is everywhere."""
    folder = Path(__file__).parents[1] / "benchmarks"
    said = (
        "import inspect, tokenize; print(tokenize.__file__, len(list(tokenize.generate_tokens(iter(['1']).__next__))))"
    )
    code = f"import sys; sys.path.insert(0, {str(folder)!r}); {said}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert str(folder) not in done.stdout
    asked = subprocess.run(
        [sys.executable, folder / "tokenize.py", "--help"], capture_output=True, text=True, check=False
    )
    missing = [name for name in ("tiktoken", "tokenizers") if importlib.util.find_spec(name) is None]
    assert "usage: tokenize.py" in asked.stdout or any(f"No module named '{name}'" in asked.stderr for name in missing)
