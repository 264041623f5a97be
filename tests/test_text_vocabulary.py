"""Vocabularies: the same from the same sentences, no way in for specials, and honest about what is possible."""

import re
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pytest
import sentencepiece as spm

from tundish.operators.text import tokenizer, vocabulary
from tundish.operators.text.exact_model import parts
from tundish.operators.text.vocabulary import SPECIALS, digest, load, train

SYLLABLES = [a + b for a in "bdfgklmnprst" for b in "aeiou"]


def sentences(count: int = 400, seed: int = 1) -> list[str]:
    """Sentences of made-up words, commoner ones first, with some Japanese."""
    rng = np.random.default_rng(seed)
    made = ["".join(rng.choice(SYLLABLES, size)) for size in rng.integers(1, 4, 200)]
    common = 1 / np.arange(1, 201)
    return [" ".join(rng.choice(made, 12, p=common / common.sum())) + " 潮が満ちる。" for _ in range(count)]


@pytest.fixture(scope="module")
def model() -> bytes:
    return train(sentences(), size=400)


def encode(texts: Sequence[str | None], model: bytes) -> pa.LargeListArray:
    return tokenizer.load(model).encode(pa.array(texts, pa.large_string()))


def ids(model: bytes, *texts: str | None) -> list[list[int]]:
    return encode(texts, model).to_pylist()


@pytest.mark.parametrize("kind", ["unigram", "bpe"])
def test_the_same_sentences_give_the_same_pieces(kind: str) -> None:
    one, two, other = (train(iter(sentences(seed=seed)), size=400, kind=kind) for seed in (1, 1, 2))
    pieces = [[(p.id_to_piece(i), p.get_score(i)) for i in range(400)] for p in map(load, (one, two))]
    assert pieces[0] == pieces[1]
    assert digest(one) == digest(two) != digest(other)


def test_layout(model: bytes) -> None:
    loaded = load(model)
    assert loaded.vocab_size() == 400
    assert {piece: loaded.piece_to_id(piece) for piece in SPECIALS} == SPECIALS
    assert list(SPECIALS.values()) == [0, 1, 2, 3, 4]
    assert all(loaded.is_byte(i) for i in range(5, 261))
    assert (loaded.pad_id(), loaded.unk_id(), loaded.bos_id(), loaded.eos_id()) == (0, 1, 2, 3)


def test_no_text_makes_a_special(model: bytes) -> None:
    hostile = [
        *SPECIALS,
        "a [MASK] b",
        "[MASK][MASK]",
        "▁[CLS]",
        "<s></s><unk><pad>",
        "<0x41>",
        "\0",
        "\U0010ffff",
        "ſ😀",
    ]
    for row in ids(model, *hostile):
        assert row
        assert min(row) >= len(SPECIALS)


def test_round_trip_of_what_was_never_seen(model: bytes) -> None:
    texts = ["bada kiki", "Zürich 42", "😀 👩‍🚀", "שלום", "a [MASK] b"]
    assert [load(model).decode(row) for row in ids(model, *texts)] == texts


def test_types_and_offsets(model: bytes) -> None:
    found = encode(["bada", None, "", "kiki\nbada"], model)
    assert found.type == pa.large_list(pa.uint16())
    assert [len(row) for row in found.to_pylist()][1:3] == [0, 0]
    assert found[3].as_py() == ids(model, "kiki bada")[0]
    assert found.null_count == 0
    assert len(encode([], model)) == 0


def test_wide_ids_when_the_vocabulary_is_wide(model: bytes) -> None:
    pb = pytest.importorskip("sentencepiece.sentencepiece_model_pb2")
    message = pb.ModelProto.FromString(model)
    for number in range(len(message.pieces), (1 << 16) + 1):
        message.pieces.add(piece=f"<{number}>", score=-20.0)
    found = encode(["<65536>"], message.SerializeToString())
    assert found.type == pa.large_list(pa.uint32())
    del message.pieces[-1]
    assert encode(["bada"], message.SerializeToString()).type == pa.large_list(pa.uint16())


@pytest.mark.parametrize("kind", ["unigram", "bpe"])
def test_too_large_says_what_is_possible_and_that_is_possible(kind: str) -> None:
    with pytest.raises(ValueError, match="too small for a vocabulary of 60000 pieces") as refused:
        train(sentences(), size=60_000, kind=kind)
    most = int(re.search(r"at most (\d+)", str(refused.value))[1])
    assert load(train(sentences(), size=most, kind=kind)).vocab_size() == most


def test_too_small_says_what_is_needed_and_that_is_enough() -> None:
    with pytest.raises(ValueError, match="ask for at least") as refused:
        train(sentences(), size=100)
    least = int(re.search(r"at least (\d+)", str(refused.value))[1])
    assert load(train(sentences(), size=least)).vocab_size() == least


@pytest.mark.parametrize("nothing", [[], [""], ["  ", "\t"]])
def test_no_text(nothing: list[str]) -> None:
    with pytest.raises(ValueError, match="no text to learn"):
        train(nothing, size=300)


def test_refusals(model: bytes) -> None:
    with pytest.raises(ValueError, match="'wordpiece' is not known"):
        train(sentences(), size=400, kind="wordpiece")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="no SentencePiece model"):
        load(b"not a model")


def test_long_lines_are_learned_from() -> None:
    """SentencePiece alone leaves a line of more than 4,192 bytes out."""
    line = " ".join(sentences(200))
    assert len(line.encode()) > 2 * vocabulary.LONGEST
    assert load(train([line], size=400)).vocab_size() == 400


@pytest.mark.parametrize(
    "text", ["a" * 10_000, "word " * 3000, "潮" * 5000, "😀" * 1048, "x", "", "é" * 2096, " " * 9000]
)
def test_cut_loses_nothing(text: str) -> None:
    parts = list(vocabulary._cut(text))
    assert "".join(parts) == text
    assert all(len(part.encode()) <= vocabulary.LONGEST for part in parts)
    assert all(part.endswith(" ") for part in parts[:-1]) or " " not in text


def test_digest_asks_for_what_decides_the_ids(model: bytes) -> None:
    pb = pytest.importorskip("sentencepiece.sentencepiece_model_pb2")
    changes = {
        "path": lambda m: m.trainer_spec.input.append("/somewhere/else.txt"),
        "threads": lambda m: setattr(m.trainer_spec, "num_threads", 7),
        "score": lambda m: setattr(m.pieces[300], "score", -1.5),
        "piece": lambda m: setattr(m.pieces[300], "piece", "other"),
        "type": lambda m: setattr(m.pieces[4], "type", 4),
        "normaliser": lambda m: setattr(m.normalizer_spec, "add_dummy_prefix", False),
        "kind": lambda m: setattr(m.trainer_spec, "model_type", 2),
    }
    same = set()
    for name, change in changes.items():
        message = pb.ModelProto.FromString(model)
        change(message)
        if digest(message.SerializeToString()) == digest(model):
            same.add(name)
    assert same == {"path", "threads"}


def test_fields_equal_those_of_protobuf(model: bytes) -> None:
    pb = pytest.importorskip("sentencepiece.sentencepiece_model_pb2")
    found = [value for number, _, value in parts(model) if number == 1]
    assert found == [piece.SerializeToString() for piece in pb.ModelProto.FromString(model).pieces]


def test_encode_equals_sentencepiece_one_by_one(model: bytes) -> None:
    texts = sentences(50, seed=5)
    alone = spm.SentencePieceProcessor(model_proto=model)
    assert ids(model, *texts) == [alone.encode(text) for text in texts]
