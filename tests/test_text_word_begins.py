"""Which pieces begin a word, by vocabularies of every kind, against the words of texts."""

import json

import numpy as np
import pyarrow as pa
import pytest
from tokenizers import Tokenizer as Library
from tokenizers import models, pre_tokenizers, trainers

from tundish.operators.text import tokenizer, tokenizer_json, vocabulary
from tundish.operators.text.word_begins import begins

TEXTS = ["the heron waits by the weir, and the tide turns twice a day", "herons wade; weirs hold 1986 tides"] * 40
SPECIALS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]


def counted(data, text):
    """Words of a text, by the table: every beginning, and the first piece."""
    loaded, table = tokenizer.load(data), begins(data)
    assert len(table) == loaded.size
    assert set(table.tolist()) <= {0, 1}
    ids = loaded.encode(pa.array([text], pa.large_string())).values.to_numpy()
    return int(table[ids[1:]].sum()) + 1, len(ids)


def saved(model, before, trainer):
    library = Library(model)
    library.pre_tokenizer = before
    library.train_from_iterator(TEXTS, trainer)
    return library.to_str().encode()


@pytest.fixture(scope="module")
def model():
    return vocabulary.train([*TEXTS, "鷺は堰のそばで待つ"] * 3, size=330, kind="bpe")


def test_words_of_sentencepiece_and_of_its_export(model):
    for data in (model, tokenizer_json.export(model)):
        words, pieces = counted(data, "the herons wade twice, zebra")
        assert words == 5 < pieces
    assert begins(model).tolist()[:261] == [1] * 5 + [0] * 256
    assert begins(model).tolist() == begins(tokenizer_json.export(model, framed=True)).tolist()


def test_scripts_without_spaces_begin_a_word_with_every_piece(model):
    loaded, table = tokenizer.load(model), begins(model)
    ids = loaded.encode(pa.array(["のそばの"], pa.large_string())).values.to_numpy()
    assert len(ids) > 3
    assert table[ids].all()


def test_words_of_wordpiece_byte_level_and_word_level():
    small = {"vocab_size": 400, "special_tokens": SPECIALS}
    pieces = saved(
        models.WordPiece(unk_token="[UNK]"), pre_tokenizers.WhitespaceSplit(), trainers.WordPieceTrainer(**small)
    )
    words, many = counted(pieces, "the herons wade twice weird")
    assert words == 5 < many
    bytes_ = saved(models.BPE(), pre_tokenizers.ByteLevel(add_prefix_space=False), trainers.BpeTrainer(**small))
    assert counted(bytes_, "the herons wade twice weird")[0] == 5
    whole = saved(models.WordLevel(unk_token="[UNK]"), pre_tokenizers.Whitespace(), trainers.WordLevelTrainer(**small))
    assert begins(whole).all()


def test_vocabularies_that_tell_where_words_end_are_refused():
    ending = saved(
        models.BPE(end_of_word_suffix="</w>"),
        pre_tokenizers.Whitespace(),
        trainers.BpeTrainer(vocab_size=100, special_tokens=SPECIALS, end_of_word_suffix="</w>"),
    )
    assert json.loads(ending)["model"]["end_of_word_suffix"] == "</w>"
    with pytest.raises(ValueError, match="tell where a word ends"):
        begins(ending)


def test_the_table_is_what_hiding_takes(model):
    from tundish.operators.model.hiding import Hiding, Masked, hide

    loaded, table = tokenizer.load(model), begins(model)
    ids = loaded.encode(pa.array(["the herons wade twice, zebra"], pa.large_string())).values.to_numpy()
    tokens = np.array([[2, *ids, 3]], np.int32)
    hiding = Hiding(loaded.size, loaded.specials, 1, 0.5, table)
    found = hide(tokens, np.zeros(1, np.uint64), np.zeros(1, np.int64), hiding, Masked(unit="word", shares=(100, 0)))
    chosen = set(found.places.tolist())
    words = np.cumsum(np.concatenate([[1], table[ids[1:]]]))
    assert chosen
    for word in np.unique(words):
        assert len({place in chosen for place in np.flatnonzero(words == word) + 1}) == 1
