"""Whether a corpus's ids are a folder's: pieces, special ids, sizes; and what a recipe says before anything runs."""

import json
from pathlib import Path

import pytest
from tokenizers import Tokenizer as Library
from tokenizers import models, pre_tokenizers

from tests.test_model_pretrain import IDS
from tundish.operators.text import tokenizer_json, vocabulary
from tundish.operators.text.tokenizer import JSON, MODEL, load
from tundish.stages.pretrain_pieces import Corpus, compared, grown_of

WORDS = ["a warm room", "the kettle sings", "rain on the roof", "a letter came", "bread and butter", "over the hills"]


@pytest.fixture(scope="module")
def model() -> bytes:
    lines = [f"{one} {other} {number}" for number, one in enumerate(WORDS * 9) for other in WORDS]
    return vocabulary.train(iter(lines), size=300, kind="unigram", coverage=0.9995, specials=())


def corpus(name: str, body: bytes, grown: tuple[tuple[int, ...], ...] = ()) -> Corpus:
    found = load(body)
    return Corpus(name, body, found.size, found.specials, grown)


def listed(pieces: list[str], special: tuple[str, ...]) -> bytes:
    """A tokenizer.json of words."""
    made = Library(models.WordLevel({piece: number for number, piece in enumerate(pieces)}, unk_token=special[0]))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    made.add_special_tokens([*special])
    return made.to_str().encode()


def test_the_same_pieces_in_any_form_are_the_same(model: bytes, tmp_path: Path) -> None:
    exported = tokenizer_json.export(model)
    size = load(model).size
    for theirs, body in ((MODEL, model), (JSON, exported), ("spiece.model", model)):
        for name, mine in ((MODEL, model), (JSON, exported)):
            folder = tmp_path / f"{theirs}-{name}"
            folder.mkdir()
            (folder / theirs).write_bytes(body)
            found = compared(str(folder), size, {}, corpus(name, mine))
            assert found == ((), {"compared": "pieces", "file": theirs})


def test_another_vocabulary_is_refused_with_its_first_piece(model: bytes, tmp_path: Path) -> None:
    other = vocabulary.train(
        iter([f"{one} {number}" for number, one in enumerate(["moss and fern", "granite", "a shallow pool"] * 60)]),
        size=289,
        kind="unigram",
        coverage=0.9995,
        specials=(),
    )
    (tmp_path / MODEL).write_bytes(other)
    with pytest.raises(ValueError, match=r"another vocabulary than .* \(piece \d+ is '.+' there and '.+' here\)"):
        compared(str(tmp_path), 320, {}, corpus(MODEL, model))
    (tmp_path / MODEL).unlink()
    (tmp_path / "vocab.txt").write_text(
        "\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "rain", "roof"]) + "\n"
    )
    with pytest.raises(ValueError, match=r"give Tokenize `vocabulary: .*vocab\.txt`"):
        compared(str(tmp_path), 320, {}, corpus(MODEL, model))


def test_without_a_vocabulary_ids_of_specials_and_sizes_are_compared(model: bytes, tmp_path: Path) -> None:
    one = corpus(MODEL, model)
    assert one.specials["[CLS]"] == IDS["[CLS]"]
    assert compared(str(tmp_path), 300, {}, one).told == {"compared": "sizes", "file": ""}
    told = compared(str(tmp_path), 300, {"pad_token_id": 0, "mask_token_id": 4, "bos_token_id": None}, one).told
    assert told["compared"] == "the ids of [PAD], [MASK]"
    for settings, sentence in (
        ({"cls_token_id": 7}, r"\[CLS\] is 2 in the corpus and 7"),
        ({"mask_token_id": 9}, r"\[MASK\] is 4 in the corpus and 9"),
        ({"bos_token_id": 2, "eos_token_id": 2}, r"\[SEP\] is 3 in the corpus and 2"),
    ):
        with pytest.raises(ValueError, match=sentence):
            compared(str(tmp_path), 300, settings, one)
    with pytest.raises(ValueError, match=r"has 300 pieces and the table of .* 256 rows"):
        compared(str(tmp_path), 256, {}, one)


def test_rows_that_a_folder_without_a_vocabulary_has_learned_are_kept(model: bytes, tmp_path: Path) -> None:
    """By what our own training says it knew; of others by whether the table has grown."""
    size, parts = load(model).size, ((7, 9), (11,))
    one = corpus(MODEL, model, parts)
    first, rounded = size - 2, -(-(size - 2) // 64) * 64
    for rows, settings, kept in (
        (first, {}, 0),
        (rounded, {}, 0),  # as wide as the old vocabulary is rounded up to
        (rounded + 64, {}, 2),
        (rounded, {"pieces": [first, rounded]}, 0),
        (rounded, {"pieces": [first + 1, rounded]}, 1),
        (rounded, {"pieces": [size, rounded]}, 2),
        (rounded + 64, {"pieces": [first, rounded + 64]}, 0),
        (rounded + 64, {"pieces": [first, rounded]}, 2),  # somebody has changed the table since
    ):
        found = compared(str(tmp_path), rows, settings, one)
        assert found.grown == parts[kept:]
        assert found.told.get("known", 0) == kept
    with pytest.raises(ValueError, match=rf"has {first} pieces and the table of .* {first - 9} rows for some"):
        compared(str(tmp_path), rounded, {"pieces": [first - 9, rounded]}, one)


def test_a_table_that_is_smaller_than_the_vocabulary_beside_it_is_refused(model: bytes, tmp_path: Path) -> None:
    (tmp_path / MODEL).write_bytes(model)
    size = load(model).size
    assert compared(str(tmp_path), size, {}, corpus(MODEL, model)).grown == ()
    with pytest.raises(ValueError, match=rf"vocabulary\.model names piece {size - 3} \('.+'\) .* has {size - 3} rows"):
        compared(str(tmp_path), size - 3, {}, corpus(MODEL, model))


def test_a_grown_vocabulary_is_known_or_made_of_what_is_known(tmp_path: Path) -> None:
    special = ("[UNK]", "[PAD]", "[CLS]", "[SEP]", "[MASK]")
    old, new = [*special, "rain", "roof"], [*special, "rain", "roof", "kettle", "hills"]
    parts = ((5,), (5, 6))
    (tmp_path / JSON).write_bytes(listed(old, special))
    body = listed(new, special)
    assert compared(str(tmp_path), 64, {}, corpus(JSON, body, parts)).grown == parts
    with pytest.raises(ValueError, match=r"piece 7 is none there and 'kettle' here"):
        compared(str(tmp_path), 64, {}, corpus(JSON, body))  # nobody says what it is made of
    with pytest.raises(ValueError, match=r"piece 7 is none there"):
        compared(str(tmp_path), 64, {}, corpus(JSON, body, ((5,),)))
    (tmp_path / JSON).write_bytes(body)  # a model that has learned the new pieces keeps what it learned
    assert compared(str(tmp_path), 64, {}, corpus(JSON, body, parts)).grown == ()
    (tmp_path / JSON).write_bytes(listed([*old, "kettle"], special))  # or what it learned of them
    assert compared(str(tmp_path), 64, {}, corpus(JSON, body, parts)).grown == ((), (5, 6))
    (tmp_path / JSON).write_bytes(listed([*old, "enzyme", "ligand"], special))  # others are not written over
    with pytest.raises(ValueError, match=r"piece 7 is 'enzyme' there and 'kettle' here"):
        compared(str(tmp_path), 64, {}, corpus(JSON, body, parts))


def test_specials_that_were_added_for_us_begin_as_what_stood_for_them(tmp_path: Path) -> None:
    """GPT-2 has one token for beginning and end, and none for the rest."""
    old = ["<|endoftext|>", "rain", "roof"]
    special = ("[UNK]", "[PAD]", "[CLS]", "[SEP]", "[MASK]")
    (tmp_path / JSON).write_bytes(listed(old, ("<|endoftext|>",)))
    body = listed([*old, *special], (*special, "<|endoftext|>"))
    settings = {"bos_token_id": 0, "eos_token_id": 0}
    assert compared(str(tmp_path), 3, settings, corpus(JSON, body)).grown == ((), (), (0,), (0,), ())


def test_what_a_manifest_says_of_growth_is_checked() -> None:
    assert grown_of({"size": 9}) == ()
    assert grown_of({"size": 9, "grown": {"first": 7, "parts": [[1, 2], [3]]}}) == ((1, 2), (3,))
    for parts in ([[1, 2]], [[1, 2], []], [[1, 2], [8]]):
        with pytest.raises(ValueError, match="tokenize again"):
            grown_of({"size": 9, "grown": {"first": 7, "parts": parts}})


def test_a_file_that_is_no_vocabulary_of_ours_is_read_by_its_ids(tmp_path: Path) -> None:
    special = ("[UNK]", "[PAD]", "[CLS]", "[SEP]", "[MASK]")
    pieces = {"<unk>": 0, "<pad>": 1, "<s>": 2, "</s>": 3, "<mask>": 4, "rain": 5}  # as RoBERTa spells them
    (tmp_path / "vocab.json").write_text(json.dumps(pieces))
    assert compared(str(tmp_path), 6, {}, corpus(JSON, listed([*special, "rain"], special))).grown == ()
