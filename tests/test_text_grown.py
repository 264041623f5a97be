"""Vocabularies that grow: old ids stay, new pieces are reached, and texts of the new kind take fewer tokens."""

import io
import json
import random
from collections import Counter
from collections.abc import Mapping
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pytest
import sentencepiece as spm
from tokenizers import Tokenizer as Library
from tokenizers import decoders, models, normalizers, pre_tokenizers, trainers

from tests.test_text_encode import part
from tests.test_text_tokenizer import HOSTILE, SPECIALS, learned
from tests.test_text_tokenizer_json import fuzzed
from tests.test_text_vocabulary import sentences
from tundish.operators.text import growth, tokenizer, tokenizer_doubts, tokenizer_json, vocabulary
from tundish.operators.text.grown import grown
from tundish.operators.text.growth import Spelling, fits
from tundish.operators.text.growth_merges import Merges
from tundish.operators.text.tokenizer_json import Known, halves

OLD, NEW, HELD = sentences(400, seed=1), sentences(300, seed=2), sentences(360, seed=2)[300:]
MOST = 60


def column(texts: list[str]) -> pa.LargeStringArray:
    return pa.array(texts, pa.large_string())


def library(kind: str) -> bytes:
    """As people who keep words apart have them: BERT's and GPT-2's ways, with added tokens behind the model's own."""
    if kind == "WordPiece":
        made = Library(models.WordPiece(unk_token="[UNK]"))
        made.normalizer = normalizers.BertNormalizer(lowercase=True)
        made.pre_tokenizer, made.decoder = pre_tokenizers.BertPreTokenizer(), decoders.WordPiece()
        trainer = trainers.WordPieceTrainer(vocab_size=300, special_tokens=SPECIALS[:4], show_progress=False)
    else:
        made = Library(models.BPE())
        made.pre_tokenizer, made.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
        alphabet = pre_tokenizers.ByteLevel.alphabet()
        trainer = trainers.BpeTrainer(
            vocab_size=400, special_tokens=SPECIALS[:4], initial_alphabet=alphabet, show_progress=False
        )
    made.train_from_iterator(OLD, trainer)
    made.add_special_tokens(["[MASK]"])
    return made.to_str().encode()


def vocabularies() -> dict[str, bytes]:
    found = {kind: vocabulary.train(OLD, size=400, kind=kind) for kind in ("unigram", "bpe")}
    found |= {f"{kind}.json": tokenizer_json.export(data) for kind, data in found.items()}
    found |= {kind: library(kind) for kind in ("WordPiece", "ByteLevel")}
    return found | {f"their {kind}": learned(kind).to_str().encode() for kind in ("BPE", "Unigram")}


MADE = vocabularies()


@pytest.fixture(scope="module", params=list(MADE))
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def made(name: str) -> tuple[bytes, object]:
    return MADE[name], grown(MADE[name], [column(NEW)], MOST)


def names_of(data: bytes) -> dict[int, str]:
    if data[:1] == b"{":
        return {number: name for name, number in tokenizer.entries(json.loads(data))}
    return {number: piece for number, piece in enumerate(Known(data).texts)}


def decoded(data: bytes, rows: list[list[int]]) -> list[str]:
    if data[:1] != b"{":
        return [vocabulary.load(data).decode(row) for row in rows]
    found = Library.from_str(data.decode())
    return [found.decode(row, skip_special_tokens=False) for row in rows]


def test_the_new_kind_of_text_takes_fewer_tokens_and_says_the_same(made, name: str) -> None:
    data, after = made
    old, new = tokenizer.load(data), tokenizer.load(after.data)
    assert (after.first, new.size, len(after.parts)) == (old.size, old.size + MOST, MOST)
    assert dict(new.specials) == dict(old.specials)
    one, other = (found.encode(column(HELD)).to_pylist() for found in (old, new))
    assert sum(map(len, other)) < 0.85 * sum(map(len, one)), "texts it has not seen"
    texts = [[text.replace(" ", "") for text in decoded(*each)] for each in ((data, one), (after.data, other))]
    assert texts[0] == texts[1]
    if not name.startswith("their"):  # these have no decoder, and the library puts a space between pieces
        assert decoded(data, one) == decoded(after.data, other)
    assert after.tokens == tuple(len(found.encode(column(NEW)).values) for found in (old, new))
    assert after.tokens[1] < after.tokens[0]
    assert after.words > 3000


def test_old_ids_stay_and_texts_without_new_pieces_have_them(made) -> None:
    data, after = made
    before, now = names_of(data), names_of(after.data)
    assert {number: now[number] for number in before} == before
    assert sorted(now) == list(range(len(before) + MOST))
    old, new = tokenizer.load(data), tokenizer.load(after.data)
    texts = [*OLD[:200], *HOSTILE, *fuzzed(400, 5, OLD[:50])]
    plain = changed = 0
    for one, other in zip(old.encode(column(texts)).to_pylist(), new.encode(column(texts)).to_pylist(), strict=True):
        if max(other, default=0) < after.first:
            assert one == other
            plain += 1
        else:
            changed += 1
    assert plain > 100
    hidden = {number for name, number in new.specials.items() if name != "[UNK]"}
    assert not any(hidden & set(row) for row in new.encode(column([*HOSTILE, *texts])).to_pylist())
    assert plain + changed == len(texts)


def test_parts_are_the_old_ids_that_spell_a_piece(made, name: str) -> None:
    data, after = made
    before, now = names_of(data), names_of(after.data)
    cut = 2 if name == "WordPiece" else 0
    for number, parts in enumerate(after.parts, after.first):
        assert len(parts) > 1
        assert max(parts) < after.first
        spelt = [before[one] for one in parts]
        assert now[number] == spelt[0] + "".join(part[cut:] for part in spelt[1:])
    old, new = tokenizer.load(data), tokenizer.load(after.data)
    rows = new.encode(column(NEW)).to_pylist()
    told = sum(len(after.parts[one - after.first]) if one >= after.first else 1 for row in rows for one in row)
    assert told == pytest.approx(len(old.encode(column(NEW)).values), rel=0.02), "put in for the pieces"


def test_every_piece_serves(made, name: str) -> None:
    _, after = made
    new = tokenizer.load(after.data)
    used = Counter(new.encode(column(NEW)).values.to_pylist())
    own = [used[number] for number in range(after.first, new.size)]
    if "bpe" in name or "BPE" in name or name == "ByteLevel":
        assert np.mean([count > 0 for count in own]) > 0.6, "the others are on the way to longer ones"
    else:
        assert min(own) > 0


def test_the_same_from_the_same_texts_however_they_lie(made) -> None:
    data, after = made
    again = grown(data, [column(NEW[:100]), column([]), column(NEW[100:])], MOST)
    assert again == after


@pytest.mark.parametrize("kind", ["unigram", "bpe"])
def test_a_grown_model_is_encoded_as_sentencepiece_does_and_exported_exactly(kind: str) -> None:
    after = grown(MADE[kind], [column(NEW)], MOST)
    theirs = vocabulary.load(after.data)
    texts = [*NEW, *fuzzed(1500, 9, NEW)]
    assert tokenizer.load(after.data).encode(column(texts)).to_pylist() == [theirs.encode(text) for text in texts]
    body = tokenizer_json.export(after.data)
    assert tokenizer_doubts.doubts(after.data) == []
    assert tokenizer_doubts.differing(after.data, body, texts) == []
    if kind == "bpe":
        normal = Known(after.data).normal
        assert all(halves(piece, normal) for piece, number in normal.items() if number >= after.first)


@pytest.mark.parametrize("kind", ["unigram", "bpe"])
def test_the_json_grows_as_its_model_does(kind: str) -> None:
    one = grown(MADE[kind], [column(NEW)], MOST)
    other = grown(MADE[f"{kind}.json"], [column(NEW)], MOST)
    assert one.parts == other.parts
    assert names_of(one.data) == names_of(other.data)
    rows = [tokenizer.load(found.data).encode(column(HELD)).to_pylist() for found in (one, other)]
    assert rows[0] == rows[1]


@pytest.mark.parametrize("kind", ["unigram", "bpe"])
def test_grown_twice(kind: str) -> None:
    once = grown(MADE[kind], [column(NEW)], 30)
    twice = grown(once.data, [column(NEW)], 30)
    assert twice.first == once.first + 30
    assert twice.tokens[0] == once.tokens[1] > twice.tokens[1]
    assert tokenizer_doubts.doubts(twice.data) == []


@pytest.mark.parametrize("kind", ["unigram", "bpe"])
def test_letters_that_were_spelt_in_bytes_become_pieces(kind: str) -> None:
    texts = ["река вскрывается в апреле", "журавли летят на север в апреле", "река течёт на север"] * 20
    after = grown(MADE[kind], [column(texts)], 40 if kind == "bpe" else 9)  # words need no pieces on the way to them
    names = names_of(after.data)
    assert any(name.strip("▁") == "апреле" for name in names.values())
    before = names_of(MADE[kind])
    bytes_of = {number: int(name[3:5], 16) for number, name in before.items() if name.startswith("<0x")}
    for number, parts in enumerate(after.parts, after.first):
        spelt = b"".join(bytes([bytes_of[one]]) if one in bytes_of else before[one].encode() for one in parts)
        assert spelt.decode() == names[number]
    assert tokenizer_doubts.differing(after.data, tokenizer_json.export(after.data), texts) == []
    assert after.tokens[1] < after.tokens[0] / 3


def test_more_than_can_be_found_says_how_many_can(made, name: str) -> None:
    data, _ = made
    few = [column(NEW[:12])]
    with pytest.raises(ValueError, match=r"100000 pieces that the vocabulary lacks .* \d+ can") as told:
        grown(data, few, 100_000)
    most = int(str(told.value).split(": ")[1].split(" can")[0])
    assert 10 < most < 1000
    assert len(grown(data, few, most // 2).parts) == most // 2


def test_what_cannot_grow_is_refused() -> None:
    with pytest.raises(ValueError, match="a word is one token, known or not"):
        grown(learned("WordLevel").to_str().encode(), [column(NEW)], 5)
    out = io.BytesIO()
    spm.SentencePieceTrainer.train(
        sentence_iterator=iter(OLD), model_writer=out, vocab_size=400, byte_fallback=True, minloglevel=2, pad_id=3,
        treat_whitespace_as_suffix=True, control_symbols=["[MASK]"],
    )  # fmt: skip
    with pytest.raises(ValueError, match="ends words with its mark"):
        grown(out.getvalue(), [column(NEW)], 5)
    pb = pytest.importorskip("sentencepiece.sentencepiece_model_pb2")
    message = pb.ModelProto.FromString(MADE["bpe"])
    message.pieces[300].type = 5
    with pytest.raises(ValueError, match="unused pieces"):
        grown(message.SerializeToString(), [column(NEW)], 5)
    said = json.loads(MADE["their Unigram"])
    said["added_tokens"].append({**said["added_tokens"][0], "id": len(said["model"]["vocab"]) + 3, "content": "<far>"})
    with pytest.raises(ValueError, match="no entry for the id"):
        grown(json.dumps(said).encode(), [column(NEW)], 5)


def test_a_model_that_tests_itself_grows_without_its_tests() -> None:
    loaded = vocabulary.load(MADE["unigram"])
    pairs = [(text, " ".join(loaded.encode(text, out_type=str))) for text in OLD[:5]]
    tests = part(4, b"".join(part(1, part(1, text.encode()) + part(2, pieces.encode())) for text, pieces in pairs))
    after = grown(MADE["unigram"] + tests, [column(OLD)], 20)
    assert after == grown(MADE["unigram"], [column(OLD)], 20)


def naive(words: Mapping[tuple[int, ...], int], names: list[str], most: int) -> list[tuple[str, int]]:
    """Merges one after the other, everything counted anew each time."""
    rows, found = [([names[one] for one in word], count) for word, count in words.items()], []
    while len(found) < most:
        counts: Counter[str] = Counter()
        for row, count in rows:
            for left, right in pairwise(row):
                counts[left + right] += count
        best = min(
            (item for item in counts.items() if item[1] >= 2 and fits(item[0])),
            key=lambda x: (-x[1], x[0]),
            default=None,
        )
        if best is None:
            return found
        found.append(best)
        known = {name for name, _ in found}
        for row, _ in rows:
            at = 0
            while at < len(row) - 1:
                if row[at] + row[at + 1] in known:
                    row[at : at + 2] = [row[at] + row[at + 1]]
                    at = max(0, at - 1)
                else:
                    at += 1
    return found


@pytest.mark.parametrize("seed", range(30))
def test_merges_are_those_of_the_slow_way(seed: int) -> None:
    draw = random.Random(seed)
    names = ["a", "b", "c", "-", "=", "7", "д"][: draw.randint(2, 7)]
    words = {
        tuple(draw.randrange(len(names)) for _ in range(draw.randint(1, 9))): draw.randint(1, 5) for _ in range(25)
    }
    spelling = Spelling(names, {name: number for number, name in enumerate(names)})
    found = Merges(words, spelling, len(names)).learn(12)
    assert [(one.name, one.count) for one in found] == naive(words, names, 12)
    for one in found:
        assert "".join(names[part] for part in one.parts) == one.name


def test_what_fits() -> None:
    good = ["a", "Müller", "नमस्ते", "東京タワー", "()", "...", "한국", "́a"]
    bad = ["", "a1", "12", "don't", "aя", "a b", "▁", "x" * 25, "a▁", "\n"]
    assert [fits(one) for one in good] == [True] * len(good)
    assert [fits(one) for one in bad] == [False] * len(bad)


def test_words_of_ids() -> None:
    ids, begins = np.array([3, 4, 3, 4, 9, 3], np.uint16), np.array([1, 0, 1, 0, 1, 1], bool)
    assert growth.words(ids, begins) == {(3, 4): 2, (9,): 1, (3,): 1}
    assert growth.words(ids[:0], begins[:0]) == {}
