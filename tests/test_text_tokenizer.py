"""One door to both kinds of vocabulary files: ids, specials no text becomes, and refusals that name what is wrong."""

import json

import numpy as np
import pyarrow as pa
import pytest
from tokenizers import Tokenizer as Library
from tokenizers import models, normalizers, pre_tokenizers, trainers

from tests.test_text_vocabulary import sentences
from tundish.operators.text import fertility, tokenizer, vocabulary
from tundish.operators.text.signals import signals
from tundish.operators.text.tokenizer import NAMES, load
from tundish.operators.text.tokenizer_json import export

SPECIALS = list(NAMES)
HOSTILE = ["[MASK]", "a [MASK] b", "[MASK][MASK]", "[CLS]x[SEP]", " [PAD] ", "<mask>", "[ MASK ]", "bada[MASK", ""]


@pytest.fixture(scope="module", params=["unigram", "bpe"])
def model(request: pytest.FixtureRequest) -> bytes:
    return vocabulary.train(sentences(), size=400, kind=request.param)


def encoded(data: bytes, texts: list[str | None]) -> list[list[int]]:
    return load(data).encode(pa.array(texts, pa.large_string())).to_pylist()


def test_a_model_and_its_export_are_one_tokenizer(model: bytes) -> None:
    texts = [*sentences(60, seed=4), *HOSTILE, "Zürich\t42\n", None]
    for framed in (False, True):
        body = export(model, framed=framed)
        one, other = load(model), load(body)
        assert encoded(model, texts) == encoded(body, texts)
        assert (one.size, dict(one.specials)) == (other.size, dict(other.specials))
        assert one.specials == {name: number for number, name in enumerate(SPECIALS)}
        assert np.array_equal(one.odd, other.odd)
        assert (one.file, other.file) == ("vocabulary.model", "tokenizer.json")
        assert one.digest != other.digest


def learned(kind: str) -> Library:
    """Vocabularies as other people make them."""
    if kind == "WordPiece":
        made, trainer = models.WordPiece(unk_token="[UNK]"), trainers.WordPieceTrainer
    elif kind == "BPE":
        made, trainer = models.BPE(unk_token="[UNK]"), trainers.BpeTrainer
    elif kind == "WordLevel":
        made, trainer = models.WordLevel(unk_token="[UNK]"), trainers.WordLevelTrainer
    else:
        made, trainer = models.Unigram(), trainers.UnigramTrainer
    found = Library(made)
    found.normalizer = normalizers.NFKC()
    found.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    more = {"unk_token": "[UNK]"} if kind == "Unigram" else {}
    found.train_from_iterator(
        sentences(), trainer(vocab_size=300, special_tokens=SPECIALS, show_progress=False, **more)
    )
    found.enable_truncation(5)
    found.enable_padding(length=9)
    return found


@pytest.mark.parametrize("kind", ["WordPiece", "BPE", "WordLevel", "Unigram"])
def test_no_text_makes_a_special_of_any_kind(kind: str) -> None:
    library = learned(kind)
    data = library.to_str().encode()
    found = load(data)
    hidden = {number for name, number in found.specials.items() if name != "[UNK]"}
    assert [library.token_to_id(name) for name in SPECIALS] == [found.specials[name] for name in SPECIALS]
    for text, row in zip(HOSTILE, encoded(data, HOSTILE), strict=True):
        assert not hidden & set(row), text
    assert 4 in library.encode("a [MASK] b").ids, "the library itself finds it"
    library.no_truncation()
    library.no_padding()
    texts = sentences(40, seed=9)
    assert encoded(data, texts) == [library.encode(text, add_special_tokens=False).ids for text in texts]


def test_a_special_that_text_becomes_all_the_same_is_refused() -> None:
    said = json.loads(learned("WordLevel").to_str())
    said["normalizer"] = {"type": "Replace", "pattern": {"String": "☺"}, "content": "[MASK]"}
    said["pre_tokenizer"] = None
    said["model"]["vocab"]["[MAS"] = 4  # an alias, as a damaged file may have
    with pytest.raises(ValueError, match="special token '\\[MASK\\]' of ordinary text"):
        encoded(json.dumps(said).encode(), ["[MAS"])


@pytest.mark.parametrize("kind", ["unigram", "bpe"])
def test_a_lacking_special_is_named(kind: str) -> None:
    pb = pytest.importorskip("sentencepiece.sentencepiece_model_pb2")
    message = pb.ModelProto.FromString(vocabulary.train(sentences(), size=400, kind=kind))
    message.pieces[4].piece = "[NOTHING]"
    with pytest.raises(ValueError, match=r"no \[MASK\] \(<mask>\).* add it to the control_symbols"):
        load(message.SerializeToString())
    with pytest.raises(ValueError, match=r"no \[MASK\].* add it to the added_tokens"):
        load(export(message.SerializeToString()))
    message.pieces[4].piece = "<mask>"
    assert load(message.SerializeToString()).specials["[MASK]"] == 4
    message.pieces[4].type = 4
    with pytest.raises(ValueError, match="'<mask>' as an ordinary piece"):
        load(message.SerializeToString())


def test_the_names_of_others_are_found() -> None:
    pb = pytest.importorskip("sentencepiece.sentencepiece_model_pb2")
    message = pb.ModelProto.FromString(vocabulary.train(sentences(), size=400, specials=("<extra>",)))
    for number, name in enumerate(["<pad>", "<unk>", "<s>", "</s>", "<mask>"]):
        message.pieces[number].piece = name
    found = load(message.SerializeToString())
    assert dict(found.specials) == {**{name: number for number, name in enumerate(SPECIALS)}, "<extra>": 5}


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (b"", "no SentencePiece model"),
        (b"nothing", "no SentencePiece model"),
        (b"{", "are none"),
        (b"{}", "are none"),
        (b'{"model": []}', "are none"),
        (b'{"model": {"type": "Sentence"}}', "model of type 'Sentence'; it is one of Unigram, BPE"),
        (b"\xff\xfe{", "no SentencePiece model"),
    ],
)
def test_what_is_none_is_refused(data: bytes, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        load(data)


def test_a_cut_file_is_refused(model: bytes) -> None:
    for data in (model[:5000], export(model)[:5000], export(model).replace(b'"vocab"', b'"vocal"')):
        with pytest.raises(ValueError, match=r"give|save|add|used"):
            load(data)


def test_ids_are_as_wide_as_the_vocabulary() -> None:
    assert [tokenizer.wide(size) for size in (1, 1 << 16, (1 << 16) + 1, 1 << 32)] == [np.uint16] * 2 + [np.uint32] * 2
    with pytest.raises(ValueError, match="ids that no uint32 holds"):
        tokenizer.wide((1 << 32) + 1)
    said = json.loads(export(vocabulary.train(sentences(), size=400)))
    said["model"]["vocab"] += [[f"piece{number}", -20.0] for number in range(1 << 16)]
    found = load(json.dumps(said).encode())
    rows = found.encode(pa.array(["piece65535"], pa.large_string()))
    assert rows.type == pa.large_list(pa.uint32())
    assert found.size == 400 + (1 << 16)


def test_a_text_of_unknown_characters_alone(model: bytes) -> None:
    texts = ["\U0001f9c0\U0001f9c1", "ꙮꙮꙮ"]
    for data in (model, export(model)):
        found = load(data)
        rows = found.encode(pa.array(texts, pa.large_string()))
        told = fertility.counted(pa.array(texts, pa.large_string()), rows, found.odd, found.specials["[UNK]"])
        assert [len(row) for row in rows.to_pylist()] == [1 + 8, 1 + 9], "a mark, and every byte"
        assert told["spelt"].to_pylist() == [8, 9]
        assert told["unknown"].to_pylist() == [0, 0]
    plain = learned("WordPiece").to_str().encode()
    rows = load(plain).encode(pa.array(texts, pa.large_string()))
    told = fertility.counted(pa.array(texts, pa.large_string()), rows, load(plain).odd, load(plain).specials["[UNK]"])
    assert told["unknown"].to_pylist() == [1, 1]
    assert told["spelt"].to_pylist() == [0, 0]


def test_words_are_those_of_judge() -> None:
    texts = [
        *sentences(50),
        "don't stop, mod_ssl 1,000.5",
        "潮が満ちる",
        "-> ... $",
        "",
        None,
        "x" * 5000,
        "नमस्ते दुनिया ก็",
    ]
    column = pa.array(texts, pa.large_string())
    own = signals(column)["words"].to_pylist()
    assert fertility.words(column).tolist() == own
    assert fertility.words(column[10:]).tolist() == own[10:]
    assert fertility.Words().count(column).tolist() == own, "from an empty table"
    assert own[50] == 4


def test_words_after_the_table_began_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    from tundish.operators.text.kernels import chunks

    monkeypatch.setattr(chunks, "LIMIT", 10)
    monkeypatch.setattr(fertility, "LIMIT", 10)
    found = fertility.Words()
    for seed in range(5):
        column = pa.array([f"{text} {seed} x{seed}y, z" for text in sentences(20, seed=seed)], pa.large_string())
        assert found.count(column).tolist() == signals(column)["words"].to_pylist()


def test_counts_add_up_to_rates() -> None:
    model = vocabulary.train(sentences(), size=400)
    found, column = load(model), pa.array([*sentences(30, seed=8), "😀", ""], pa.large_string())
    rows = found.encode(column)
    told = fertility.counted(column, rows, found.odd, found.specials["[UNK]"])
    loaded = vocabulary.load(model)
    for text, count in zip(column.to_pylist(), told["spelt"].to_pylist(), strict=True):
        assert count == sum(loaded.is_byte(i) for i in loaded.encode(text))
    sums = {name: int(np.sum(values.to_numpy())) for name, values in told.items()}
    sums |= {"tokens": len(rows.values), "bytes": sum(len(text.encode()) for text in column.to_pylist())}
    assert fertility.rates(sums)["tokens_per_word"] == pytest.approx(len(rows.values) / sum(fertility.words(column)))
    assert fertility.rates(dict.fromkeys(sums, 0)) == dict.fromkeys(fertility.RATES)


@pytest.mark.parametrize(
    "change",
    [
        {"pre_tokenizer": {"type": "Sequence"}},
        {"added_tokens": -1},
        {"model": {"type": "WordLevel", "vocab": [3]}},
        {"model": {"type": "Unigram", "unk_id": None, "vocab": [["[PAD]", 0.0], ["[UNK]", 0.0], ["a", -1.0]]}},
    ],
)
def test_a_tokenizer_json_of_another_form_is_told_in_a_sentence(change: dict) -> None:
    said = {"version": "1.0", "added_tokens": [], "model": {"type": "WordLevel", "vocab": {"a": 0}, "unk_token": "a"}}
    with pytest.raises(ValueError, match=r"tokenizer\.json|the vocabulary has"):
        tokenizer.load(json.dumps(said | change).encode())
