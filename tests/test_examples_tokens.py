"""Examples as token ids: what is cut and counted, where each word and each answer went, and the file between."""

import itertools
import random
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from tests.test_text_piece_offsets import library
from tests.test_text_vocabulary import sentences
from tundish.operators.text import tokenizer, vocabulary
from tundish.stages.examples import SCHEMAS, Examples, identity
from tundish.stages.examples_tokens import SCHEMAS as TOKENS
from tundish.stages.examples_tokens import load, save, tokenized, types
from tundish.stages.examples_windows import both, predicted, stretches, word_windows


@pytest.fixture(scope="module", params=["model", "WordPiece", "bytes"])
def pieces(request: pytest.FixtureRequest) -> Any:
    model = vocabulary.train(sentences(), size=400) if request.param == "model" else library(request.param)
    return tokenizer.load(model)


def examples(kind: str, rows: list[dict[str, Any]], names: tuple[str, ...] = ()) -> Examples:
    blank = dict.fromkeys(SCHEMAS[kind].names)
    whole = [blank | {"file": "f", "row": number} | row for number, row in enumerate(rows, 1)]
    whole = [row | {"id": identity(kind, row)} for row in whole]
    return Examples(kind, pa.Table.from_pylist(whole, schema=SCHEMAS[kind]), names)


def ids(pieces: Any, *texts: str) -> list[list[int]]:
    return pieces.encode(pa.array(texts, pa.large_string())).to_pylist()


def cut(first: int, second: int, length: int) -> tuple[int, int]:
    """The slow twin: one piece at a time off the longer, of equals off the second."""
    while first + second > length:
        if first > second:
            first -= 1
        else:
            second -= 1
    return first, second


def test_pairs_lose_of_the_longer_first() -> None:
    draw = np.random.default_rng(1)
    first, second = draw.integers(0, 30, 500), draw.integers(0, 30, 500)
    for length in (2, 3, 17, 40):
        found = np.stack(both(first, second, length), 1).tolist()
        assert found == [list(cut(a, b, length)) for a, b in zip(first.tolist(), second.tolist(), strict=True)]


def test_windows_cover_everything_and_move_on() -> None:
    draw = random.Random(2)
    for _ in range(300):
        size, room = draw.randint(0, 60), draw.randint(1, 20)
        overlap = draw.randint(0, room - 1)
        found = stretches(size, room, overlap)
        assert found[0][0] == 0
        assert found[-1][1] == size
        assert all(stop - begin <= room for begin, stop in found)
        assert all(a[1] - b[0] == overlap for a, b in itertools.pairwise(found))
    with pytest.raises(ValueError, match="windows of 4 pieces that overlap by 4 do not move on"):
        stretches(9, 4, 4)


def test_word_windows_hold_whole_words_and_each_is_predicted_once() -> None:
    draw = random.Random(3)
    for _ in range(300):
        length = draw.randint(2, 12)
        counts = [draw.randint(1, length) for _ in range(draw.randint(1, 40))]
        windows = word_windows(counts, length, draw.randint(0, length - 1))
        assert all(sum(counts[begin:stop]) <= length and begin < stop for begin, stop in windows)
        assert windows[0][0] == 0
        assert windows[-1][1] == len(counts)
        assert all(b[0] <= a[1] < b[1] for a, b in itertools.pairwise(windows))
        chosen = predicted(counts, windows)
        for word, window in enumerate(chosen.tolist()):
            around = [_around(counts, each, word) for each in windows]
            assert around[window] == max(around)
            assert window == around.index(max(around))


def _around(counts: list[int], window: tuple[int, int], word: int) -> float:
    begin, stop = window
    if not begin <= word < stop:
        return -1
    before = sum(counts[begin:word]) if begin else float("inf")
    behind = sum(counts[word + 1 : stop]) if stop < len(counts) else float("inf")
    return min(before, behind)


def test_one_text_and_pairs(pieces: Any) -> None:
    texts = [*sentences(6, seed=5), "é 深", "tide"]
    one = examples("classify", [{"text": text, "label": n % 2} for n, text in enumerate(texts)], ("x", "y"))
    found = tokenized(one, pieces)
    assert found.table["tokens"].to_pylist() == ids(pieces, *texts)
    assert found.table["label"].to_pylist() == [0, 1] * 4
    assert found.table["id"].to_pylist() == one.table["id"].to_pylist()
    assert found.table["second"].null_count == len(texts)
    short = tokenized(one, pieces, length=5)
    assert short.table["tokens"].to_pylist() == [each[:5] for each in ids(pieces, *texts)]
    sizes = [len(each) for each in ids(pieces, *texts)]
    assert short.told["cut_first"] == short.told["longer"] == sum(size > 5 for size in sizes)
    assert short.told["cut_first_pieces"] == sum(max(0, size - 5) for size in sizes)
    assert short.told["pieces"]["most"] == max(sizes)
    assert short.told["longer_share"] == sum(size > 5 for size in sizes) / len(sizes)

    pairs = examples(
        "regress", [{"text": a, "second": b, "value": 0.5} for a, b in zip(texts, texts[::-1], strict=True)]
    )
    found = tokenized(pairs, pieces, length=20)
    for row, a, b in zip(found.table.to_pylist(), ids(pieces, *texts), ids(pieces, *texts[::-1]), strict=True):
        first, second = cut(len(a), len(b), 20)
        assert row["tokens"] == a[:first] + b[:second]
        assert row["second"] == first
        assert types(row["second"], len(row["tokens"])) == [0] * first + [1] * second


def test_lists_of_labels_and_negatives(pieces: Any) -> None:
    several = examples(
        "multilabel", [{"text": "tide", "labels": [0, 2]}, {"text": "boat", "labels": []}], ("a", "b", "c")
    )
    assert tokenized(several, pieces).table["labels"].to_pylist() == [[0, 2], []]
    near = examples(
        "embed", [{"text": "tide", "second": "boat " * 9, "negative": "rope"}, {"text": "a", "second": "b"}]
    )
    found = tokenized(near, pieces, length=4).table.to_pylist()
    assert found[0]["negative"] == ids(pieces, "rope")[0][:4]
    assert found[1]["negative"] is None
    assert found[0]["tokens"][found[0]["second"] :] == ids(pieces, "boat " * 9)[0][:4]


def test_sources_and_targets(pieces: Any) -> None:
    rows = [{"source": "tide " * 9, "targets": ["boat", "rope"]}, {"source": "a", "targets": None}]
    found = tokenized(examples("write", rows), pieces, length=6)
    assert found.table["tokens"].to_pylist()[0] == ids(pieces, "tide " * 9)[0][:6]
    assert found.table["target"].to_pylist() == [ids(pieces, "boat")[0][:6], None]
    assert found.told["cut_source"] == 1


WORDS = [
    ["the", "tide", "comes", "深度學", "😀", ".", "e\u0301", "ﬁne", "[MASK]"],
    ["a"],
    ["New\u2028York", "\u00a0", "x" * 40, "don", "'t"],
    ["潮が満ちる。"] * 30,
    [*"abcdefghij", "tide" * 30, *"klmnop"],
]


@pytest.mark.parametrize("length", [None, 7, 16])
def test_every_word_is_predicted_once_and_leads_back(pieces: Any, length: int | None) -> None:
    draw = random.Random(4)
    tags = [[draw.randint(0, 4) for _ in each] for each in WORDS]
    found = tokenized(
        examples("tag", [{"words": w, "tags": t} for w, t in zip(WORDS, tags, strict=True)], tuple("Oabcd")),
        pieces,
        length=length,
        overlap=3 if length else None,
    )
    seen: dict[int, list[int]] = {}
    for row in found.table.to_pylist():
        assert len(row["tokens"]) == len(row["labels"]) <= (length or 10**9)
        said = tags[row["row"] - 1]
        labelled = [at for at, label in enumerate(row["labels"]) if label != -100]
        assert labelled == row["firsts"]
        assert [row["labels"][at] for at in row["firsts"]] == [said[word] for word in row["words"]]
        seen.setdefault(row["row"], []).extend(row["words"])
    assert {row: sorted(words) for row, words in seen.items()} == {
        number: list(range(len(words))) for number, words in enumerate(WORDS, 1)
    }
    if length is None:
        assert len(found.table) == len(WORDS)


def test_the_pieces_of_words_are_those_of_the_running_text(pieces: Any) -> None:
    words = sentences(3, seed=6)[0].split()
    found = tokenized(examples("tag", [{"words": words, "tags": [0] * len(words)}], ("O",)), pieces)
    assert found.table["tokens"].to_pylist() == ids(pieces, " ".join(words))
    firsts = found.table["firsts"].to_pylist()[0]
    whole, words_alone = found.table["tokens"].to_pylist()[0], ids(pieces, *words)
    ends = [*firsts[1:], len(whole)]
    if pieces.apart:  # then each word's own pieces stand there, a mark of a space before some
        assert all(set(words_alone[n]) >= set(whole[firsts[n] : ends[n] - 1]) for n in range(len(words)))


def test_a_word_without_a_piece_is_unknown_and_told() -> None:
    pieces = tokenizer.load(library("WordPiece"))  # whose normaliser drops what is no letter to it
    words = ["tide", "\u200b", "boat", "\ufe0f"]
    found = tokenized(examples("tag", [{"words": words, "tags": [0, 1, 0, 1]}], ("O", "x")), pieces)
    [row] = found.table.to_pylist()
    assert row["words"] == [0, 1, 2, 3]
    assert [row["tokens"][row["firsts"][at]] for at in (1, 3)] == [pieces.specials["[UNK]"]] * 2
    assert (found.told["by_word"], found.told["unknown_words"]) == (1, 2)


CONTEXT = "  The 😀 tide comes in May, 深度 said ﬁne. " + " ".join(sentences(4, seed=8)) + " The end is école é."


def asked(answers: list[str], starts: list[int] | None = None, question: str = "When tide?") -> dict[str, Any]:
    starts = [CONTEXT.index(text) for text in answers] if starts is None else starts
    return {"context": CONTEXT, "question": question, "answers": answers, "starts": starts, "key": "q"}


@pytest.mark.parametrize("length", [None, 60, 25])
def test_answers_are_found_again_from_their_pieces(pieces: Any, length: int | None) -> None:
    said = ["tide", "May", "深度", "😀 tide", "école", "The", "é"]
    rows = [asked([text]) for text in said]
    rows[-1]["starts"] = [CONTEXT.rindex("é")]
    found = tokenized(examples("answer", rows), pieces, length=length, overlap=None if length is None else length // 3)
    by_row: dict[int, list[dict[str, Any]]] = {}
    for row in found.table.to_pylist():
        by_row.setdefault(row["row"], []).append(row)
    for text, start, (_, windows) in zip(said, (row["starts"][0] for row in rows), by_row.items(), strict=True):
        assert any(row["holds"] for row in windows)
        covered = np.zeros(len(CONTEXT), bool)
        for row in windows:
            lead = row["second"]
            assert row["tokens"][:lead] == ids(pieces, "When tide?")[0]
            assert len(row["tokens"]) - lead == len(row["begins"]) == len(row["ends"])
            for begin, end in zip(row["begins"], row["ends"], strict=True):
                covered[begin:end] = True
            if row["holds"]:
                assert row["begins"][row["start"] - lead] <= start
                assert row["ends"][row["end"] - lead] >= start + len(text)
                back = CONTEXT[row["begins"][row["start"] - lead] : row["ends"][row["end"] - lead]]
                assert text in back
                assert back == text or found.told["wider"]
            else:
                assert (row["start"], row["end"]) == (-1, -1)
        assert all(covered[at] for at, character in enumerate(CONTEXT) if not character.isspace())
    assert found.told["exact"] + found.told["wider"] == len(said)
    assert found.told["windows"] == len(found.table)


def test_no_answer_and_no_place_are_two_things() -> None:
    pieces = tokenizer.load(vocabulary.train(sentences(), size=400))
    rows = [
        asked([]),
        asked(["June"], [-1]),
        {**asked([]), "answers": None, "starts": None},
        asked(["June", "May"], [-1, 26]),
    ]
    found = tokenized(examples("answer", rows), pieces).table
    assert found["start"].to_pylist()[:3] == found["end"].to_pylist()[:3] == [-1, -100, -100]
    assert found["holds"].to_pylist() == [False, False, False, True]


def test_an_answer_is_learned_from_a_window_that_holds_one_whole() -> None:
    """Of several, the first that lies in the window; one that no window holds whole is told."""
    pieces = tokenizer.load(vocabulary.train(sentences(), size=400))
    last = CONTEXT.rindex("é")
    rows = [asked(["tide", "é"], [CONTEXT.index("tide"), last]), asked([CONTEXT[2:120]], [2])]
    found = tokenized(examples("answer", rows), pieces, length=30, overlap=5)
    first = [row for row in found.table.to_pylist() if row["row"] == 1]
    held = [row["holds"] for row in first]
    assert held[0]
    assert held[-1]
    assert held.count(False) > 3
    assert found.told["split"] == 1
    assert not any(row["holds"] for row in found.table.to_pylist() if row["row"] == 2)


def test_long_questions_are_cut_and_short_lengths_refused() -> None:
    pieces = tokenizer.load(vocabulary.train(sentences(), size=400))
    rows = [asked(["May"], question="tide " * 200)]
    found = tokenized(examples("answer", rows), pieces, length=60, question=20)
    assert set(found.table["second"].to_pylist()) == {20}
    assert found.told["cut_questions"] == 1
    with pytest.raises(ValueError, match="a length of 20 pieces leaves no context beside a question of 20"):
        tokenized(examples("answer", rows), pieces, length=20, question=20)
    with pytest.raises(ValueError, match="a length of 1 pieces holds no example"):
        tokenized(examples("answer", rows), pieces, length=1)


KINDS: dict[str, dict[str, Any]] = {
    "classify": {"text": "tide", "label": 1},
    "multilabel": {"text": "tide", "labels": [0, 1]},
    "regress": {"text": "tide", "second": "boat", "value": 1.5},
    "embed": {"text": "tide", "second": "boat", "negative": "rope", "score": 0.5},
    "write": {"source": "tide", "targets": ["boat"]},
    "tag": {"words": ["tide", "boat"], "tags": [1, 0]},
    "answer": asked(["May"]),
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_holds_what_was_made(kind: str, tmp_path: Path) -> None:
    pieces = tokenizer.load(vocabulary.train(sentences(), size=400))
    found = tokenized(examples(kind, [KINDS[kind]], ("x", "y")), pieces, length=100)
    assert found.table.schema.remove_metadata() == TOKENS[kind]
    uri = str(tmp_path / "train.arrow")
    save(uri, found)
    table, about = load(uri)
    assert table.equals(found.table)
    assert about == {"kind": kind, "names": ["x", "y"], "length": 100, "vocabulary": pieces.digest}


def test_another_file_is_refused(tmp_path: Path) -> None:
    for name, body in {"a": b"nonsense", "b": b""}.items():
        (tmp_path / name).write_bytes(body)
        with pytest.raises(ValueError, match="holds no examples as tokens"):
            load(str(tmp_path / name))
    other = pa.table({"tokens": [[1]]})
    with pa.ipc.new_file(str(tmp_path / "c"), other.schema) as writer:
        writer.write_table(other)
    with pytest.raises(ValueError, match="holds no examples as tokens"):
        load(str(tmp_path / "c"))
