"""Where pieces come from: against SentencePiece's own account of its normaliser, and the library's of its pieces."""

import io
import itertools
import random

import numpy as np
import pyarrow as pa
import pytest
import sentencepiece as spm
from tokenizers import Tokenizer as Library
from tokenizers import models, normalizers, pre_tokenizers, trainers

from tests.test_text_vocabulary import sentences
from tundish.operators.text import piece_offsets, tokenizer, vocabulary
from tundish.operators.text.piece_offsets import Spans, characters, spans
from tundish.operators.text.sentencepiece_file import BYTE, fields, read
from tundish.operators.text.tokenizer_json import export

SPECIALS = list(tokenizer.NAMES)
TEXTS = [
    "  the  tide comes 深度學 😀 é x",
    "e\u0301cole [MASK] déjà",
    "a\u2581b \u2581\u2581 c",
    "",
    " \t\n",
    "ﬁne ｆｕｌｌ ㌔ ½ … ﬃ",
    "tide\u200b boat\u00ad x",
    "潮が満ちる。 ยากที่ नीति العربية",
    "👩‍👩‍👧 flag 🇩🇪 done",
    "x" * 300 + " ﬁ" * 50,
    None,
]
ALPHABET = [
    *"abdefiklmnoprstu",
    " ",
    " ",
    "  ",
    "\t",
    "é",
    "e\u0301",
    "ﬁ",
    "ﬃ",
    "Ａ",
    "㌔",
    "深",
    "潮",
    "😀",
    "½",
    "م",
    "ที่",
]


def foreign(kind: str, **more: object) -> bytes:
    """A model as SentencePiece makes it: NFKC, no byte fallback unless asked."""
    out = io.BytesIO()
    spm.SentencePieceTrainer.train(
        sentence_iterator=iter([*sentences(), *["fine full afﬁrm キロ ABC"] * 50]),
        model_writer=out,
        vocab_size=700 if more.get("byte_fallback") else 420,
        model_type=kind,
        minloglevel=2,
        hard_vocab_limit=kind == "bpe",
        pad_id=3,
        control_symbols=["[MASK]", "[CLS]", "[SEP]"],
        **more,
    )
    return out.getvalue()


MODELS = {
    "ours": lambda: vocabulary.train(sentences(), size=400),
    "ours bpe": lambda: vocabulary.train(sentences(), size=400, kind="bpe"),
    "nfkc": lambda: foreign("unigram"),
    "nfkc bpe": lambda: foreign("bpe"),
    "bytes": lambda: foreign("bpe", byte_fallback=True),
    "suffix": lambda: foreign("unigram", treat_whitespace_as_suffix=True),
    "spaces kept": lambda: foreign("unigram", remove_extra_whitespaces=False, add_dummy_prefix=False),
    "symbols": lambda: foreign("unigram", user_defined_symbols=["the tide", "<br>", "pa"]),
}


@pytest.fixture(scope="module", params=MODELS)
def model(request: pytest.FixtureRequest) -> bytes:
    return MODELS[request.param]()


def found(data: bytes, texts: list[str | None]) -> Spans:
    return spans(tokenizer.load(data), pa.array(texts, pa.large_string()))


def apart(held: Spans, at: int) -> list[tuple[int, int]]:
    here = slice(held.bounds[at], held.bounds[at + 1])
    return list(zip(held.begins[here].tolist(), held.ends[here].tolist(), strict=True))


def twin(data: bytes, text: str) -> list[tuple[int, int]]:
    """Spans in characters: pieces laid along SentencePiece's normal form, whose characters it traces itself."""
    processor, kinds = spm.SentencePieceProcessor(model_proto=data), read(data).types
    normal, starts = processor.normalize(text, with_offsets=True)
    bytes_of = [at for at, c in enumerate(normal) for _ in c.encode()]
    proto = processor.encode(text, out_type="serialized_proto")
    pieces = [dict(fields(value)) for number, value in fields(proto) if number == 2]
    made, at = [], 0
    for piece in pieces:
        size = 1 if kinds[piece.get(2, 0)] == BYTE else len(piece[1])
        units = bytes_of[at : at + size]
        at += size
        bare = [unit for unit in units if normal[unit] not in "\u2581 "] or units
        end = next((start for start in starts[bare[-1] :] if start > starts[bare[-1]]), len(text))
        made.append((starts[bare[0]], end))
    assert at == len(normal.encode())
    return made


def agree(data: bytes, texts: list[str]) -> None:
    """Equal spans, but for white space and what the normaliser drops behind a piece, which the twin gives to it."""
    processor = spm.SentencePieceProcessor(model_proto=data)
    array = pa.array(texts, pa.large_string())
    held = characters(array, found(data, texts))
    for at, text in enumerate(texts):
        ours, theirs = apart(held, at), twin(data, text)
        assert len(ours) == len(theirs)
        for (begin, end), (start, stop) in zip(ours, theirs, strict=True):
            if not text[begin:end].strip() or text[begin:end].strip() == "\u2581":
                continue  # white space alone
            assert begin == start, (text, begin, start)
            assert end <= stop, (text, end, stop)
            assert not processor.normalize(text[end:stop]).strip("\u2581 "), (text, text[end:stop])


def test_spans_of_a_model_are_what_its_normaliser_says(model: bytes) -> None:
    agree(model, [text for text in TEXTS if text is not None])


def test_spans_of_any_text_are_what_its_normaliser_says(model: bytes) -> None:
    draw = random.Random(3)
    agree(model, ["".join(draw.choices(ALPHABET, k=draw.randint(0, 40))) for _ in range(300)])


def test_ids_are_those_of_encode(model: bytes) -> None:
    said = tokenizer.load(model).encode(pa.array(TEXTS, pa.large_string()))
    held = found(model, TEXTS)
    assert held.ids.tolist() == said.values.to_pylist()
    assert held.bounds.tolist() == said.offsets.to_pylist()
    assert held.ids.dtype == np.uint16
    sliced = spans(tokenizer.load(model), pa.array(["x", *TEXTS], pa.large_string()).slice(1))
    assert all(np.array_equal(one, other) for one, other in zip(held, sliced, strict=True))


def test_many_texts_are_taken_in_parts(model: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = found(model, TEXTS * 3)
    for size in (1, 7, 200):
        monkeypatch.setattr(piece_offsets, "PART", size)
        assert all(np.array_equal(one, other) for one, other in zip(whole, found(model, TEXTS * 3), strict=True))
    assert [len(each) for each in found(model, [])] == [0, 0, 0, 1]


def library(kind: str) -> bytes:
    """Vocabularies as other people make them."""
    made, trainer, normalizer, cutter = {
        "WordPiece": (
            models.WordPiece(unk_token="[UNK]"),
            trainers.WordPieceTrainer,
            normalizers.BertNormalizer(),
            pre_tokenizers.BertPreTokenizer(),
        ),
        "bytes": (
            models.BPE(unk_token="[UNK]"),
            trainers.BpeTrainer,
            None,
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ),
        "WordLevel": (
            models.WordLevel(unk_token="[UNK]"),
            trainers.WordLevelTrainer,
            normalizers.NFKC(),
            pre_tokenizers.WhitespaceSplit(),
        ),
        "Metaspace": (models.Unigram(), trainers.UnigramTrainer, normalizers.NFKC(), pre_tokenizers.Metaspace()),
    }[kind]
    whole = Library(made)
    if normalizer is not None:
        whole.normalizer = normalizer
    whole.pre_tokenizer = cutter
    more = {"unk_token": "[UNK]"} if kind == "Metaspace" else {}
    if kind == "bytes":
        more = {"initial_alphabet": pre_tokenizers.ByteLevel.alphabet()}
    whole.train_from_iterator(
        sentences(), trainer(vocab_size=500, special_tokens=SPECIALS, show_progress=False, **more)
    )
    return whole.to_str().encode()


@pytest.mark.parametrize("kind", ["WordPiece", "bytes", "WordLevel", "Metaspace"])
def test_spans_of_a_library_are_the_librarys_own(kind: str) -> None:
    """Trimmed of white space, and the marks that BERT's normaliser drops given to the piece before."""
    data = library(kind)
    texts = [text or "" for text in TEXTS]
    runs, array = tokenizer.load(data).runs, pa.array(texts, pa.large_string())
    held = found(data, texts)
    for at, text in enumerate(texts):
        said = runs.encode(text, add_special_tokens=False)
        here = slice(held.bounds[at], held.bounds[at + 1])
        assert held.ids[here].tolist() == said.ids
        for (begin, end), (start, stop) in zip(apart(characters(array, held), at), said.offsets, strict=True):
            assert text[begin:end].strip("\u0301\u200d\u00ad\u200b\ufe0f ").startswith(text[start:stop].strip()[:-1])
            assert begin >= start
            assert not text[start:begin].strip()
            assert end == stop or not (text[stop:end] or text[end:stop]).strip().isalnum()


def test_a_mark_that_is_dropped_belongs_to_its_letter() -> None:
    data, text = library("WordPiece"), "tidé e\u0301a ที่"
    held = characters(pa.array([text], pa.large_string()), found(data, [text]))
    covered = {at for begin, end in apart(held, 0) for at in range(begin, end)}
    assert covered == {at for at, c in enumerate(text) if c != " "}


def test_bytes_of_a_run_of_unknown_characters_have_one_each() -> None:
    """`tokenizers` gives each of the nine bytes all three characters."""
    model = vocabulary.train(sentences(), size=400)
    said = {name: found(data, ["tide 深度學 é"]) for name, data in (("model", model), ("json", export(model)))}
    runs = tokenizer.load(export(model)).runs
    assert (5, 8) in runs.encode("tide 深度學 é", add_special_tokens=False).offsets
    for held in said.values():
        wide = [span for span in apart(held, 0) if span[0] >= 5 and span[1] <= 14]
        assert [span for span, _ in itertools.groupby(wide)] == [(5, 8), (8, 11), (11, 14)]
    assert apart(said["json"], 0)[-2:] == apart(said["model"], 0)[-2:] == [(15, 17)] * 2


def test_by_hand() -> None:
    """A ligature, full width, a unit of one character: each letter has all of the character it comes from."""
    data = foreign("unigram")
    text = "ﬁne ｆｕｌｌ ㌔"
    held = found(data, [text])
    spelt = [text.encode()[begin:end].decode() for begin, end in apart(held, 0)]
    pieces = [spm.SentencePieceProcessor(model_proto=data).id_to_piece(int(one)) for one in held.ids]
    letters = dict(zip(pieces, spelt, strict=True))
    assert "".join(piece.strip("\u2581") for piece in pieces) == "finefullキロ"
    assert all(text.count(each) for each in spelt)
    assert letters[next(piece for piece in pieces if "f" in piece)].startswith("ﬁ")
    assert letters[next(piece for piece in pieces if "ロ" in piece)] == "㌔"


def test_characters_count_code_points() -> None:
    texts = ["é😀 a", None, "深 b"]
    model = vocabulary.train(sentences(), size=400)
    array = pa.array(texts, pa.large_string())
    held = found(model, texts)
    counted = characters(array, held)
    for at, text in enumerate(texts):
        for (begin, end), (first, last) in zip(apart(held, at), apart(counted, at), strict=True):
            assert (text or "")[first:last] == (text or "").encode()[begin:end].decode()
