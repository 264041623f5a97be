"""Rules that change lines, as edits: applied, they give exactly what the published filters would have written."""

import json
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.twins import c4 as twin
from tests.twins import refined as dclm
from tundish.cluster.local import Local
from tundish.operators.text import personal
from tundish.operators.text.c4_lines import c4_edits
from tundish.operators.text.refined_lines import dclm_words, refined_edits, refined_removed
from tundish.pipeline.run import run
from tundish.stages.lines import Lines
from tundish.stages.read import Read

PIECES = st.sampled_from(
    [
        *(
            "the",
            "Sea",
            "RISES",
            "12",
            "3,000",
            "likes",
            "views",
            "k",
            "items in cart",
            "Items In Cart",
            "Read more...",
            " ",
        ),
        *(
            "read more now",
            "sign-in",
            "Sign-In",
            ".",
            "?",
            '"',
            "...",
            "[1]",
            "[edit]",
            "[citation needed]",
            "[x]",
            "{",
        ),
        *(
            "lorem ipsum",
            "JavaScript",
            "cookie policy",
            "\n",
            "\n",
            "\n\n",
            "\n\n\n\n",
            "\r\n",
            "\t",
            "\x0b",
            "\x1c",
            "\x85",
        ),
        *("\u2028", "\u3000", "é", "東京", "שלום", "😀", "e\u0301", "\x00", "x" * 1001, "two words here.", "It is so."),
    ]
)
TEXTS = st.lists(st.one_of(PIECES, PIECES.map(lambda piece: piece + " ")), max_size=30).map("".join)


def applied(text: str, edits: list[dict]) -> str:
    return personal.apply(pa.array([text], pa.large_string()), pa.array([edits], personal.EDITS))[0].as_py()


def no_sentences(line: str) -> int:
    return 0


@settings(max_examples=500, deadline=None)
@given(TEXTS, st.booleans())
def test_c4_edits_write_what_the_filter_writes(text: str, punctuation: bool) -> None:
    left = twin.cleaned(text, no_sentences, punctuation)
    edits, counts = c4_edits(text, punctuation)
    if left.stopped:
        assert (edits, counts) == ([], {left.stopped: 1})
    else:
        assert applied(text, edits) == left.text
        for rule in {why for _, why in left.gone}:
            assert counts[rule] == sum(why == rule for _, why in left.gone)


@settings(max_examples=500, deadline=None)
@given(TEXTS)
def test_refined_edits_write_what_dclm_writes(text: str) -> None:
    edits, _, removed = refined_edits(text)
    assert applied(text, edits) == dclm.refined_text(text)
    assert removed == refined_removed(text) == dclm.refined_removed(text)


def test_c4_edits_by_hand() -> None:
    text = "  A line that stays[1].\r\nno full stop here\nToo few.\n\nThe cookie policy is here.\nIt ends, so we stop."
    edits, counts = c4_edits(text)
    assert applied(text, edits) == "A line that stays.\nIt ends, so we stop."
    assert counts == {"no_terminal_punct": 2, "too_few_words": 1, "policy": 1}  # the blank line ends in nothing
    assert [edit["reason"] for edit in edits] == [
        *("stripped", "citation", "line_break", "no_terminal_punct", "too_few_words", "no_terminal_punct", "policy")
    ]
    loose, _ = c4_edits(text, punctuation=False)
    assert applied(text, loose) == "A line that stays.\nno full stop here\nIt ends, so we stop."


@pytest.mark.parametrize(
    ("text", "left", "counts"),
    [
        ("HELLO WORLD\n\nhello world\nHello, you", "hello world\nHello, you", {"uppercase": 1}),
        ("12345\nsome words", "some words", {"numeric": 1}),
        (
            "some words\n  123K quotes!\n5.1M   views  \nwith 3 views there",
            "some words\nwith 3 views there",
            {"counter": 2},
        ),
        ("one\nand two\n\n\n\nand three", "and two\n\nand three", {"one_word": 1, "extra_newlines": 2}),
        ("You have 7 items in cart right now", "You have 7 right now", {"items_in_cart": 1}),
        ("some words\n  items in cart  \nmore words", "some words\nmore words", {"items_in_cart": 1}),
        ("sign-in for full access\nhow to sign-in", "for full access\nhow to sign-in", {"sign_in": 1}),
        ("Please read more...\nRead more... and find out", "Please\nRead more... and find out", {"read_more": 1}),
        ("Do read more!!!", "Do", {"read_more": 1}),  # three characters, whichever
        (
            "S\u0130gn-\u0131n, you\nyour \u0131tem\u017f \u0130n cart",
            ", you\nyour",
            {"sign_in": 1, "items_in_cart": 1},
        ),
        ("a b c d e f g h i j items in cart", "a b c d e f g h i j items in cart", {}),  # a long line
    ],
)
def test_refined_rules_by_hand(text: str, left: str, counts: dict[str, int]) -> None:
    edits, found, _ = refined_edits(text)
    assert applied(text, edits) == left
    assert found == counts


def test_share_of_words_removed() -> None:
    assert refined_removed("nine words stay here in this line of text\nSUBSCRIBE") == pytest.approx(1 / 10)
    assert refined_removed("plain words") == 0
    assert refined_removed("SUBSCRIBE") == 1
    assert (
        refined_removed("") == refined_removed(" \n ") == refined_removed("...") == 1
    )  # no words: DCLM drops them too


def test_words_are_those_of_fasttext() -> None:
    fasttext = pytest.importorskip("fasttext")
    for text in ("a b", "\n\na (b) \tc\0d\u00a0e ", "é １ 東京 😀 ... _x", "", "\n"):
        tokens = fasttext.FastText.tokenize(text)
        assert dclm_words(text) == sum(token[0].isalnum() for token in tokens)


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "\n",
        "\n \n\t\n",
        "\x00",
        "\x00\n\x00 a b.",
        "😀 👩\u200d👩\u200d👧 !",
        "שלום לכל העולם.\nمرحبا بكم هنا؟",
        "e\u0301\u0302 " * 9,
    ],
)
def test_odd_texts(text: str) -> None:
    assert applied(text, refined_edits(text)[0]) == dclm.refined_text(text)
    for punctuation in (True, False):
        assert applied(text, c4_edits(text, punctuation)[0]) == twin.cleaned(text, no_sentences, punctuation).text


def test_long_and_many_lines_cost_linear_time() -> None:
    line = "some words [1] and items in cart. " * 30_000  # 1 MB
    assert "[1]" not in applied(line, c4_edits(line)[0])
    assert applied(line, refined_edits(line)[0]) == line.strip()
    many = "word\n" * 60_000
    assert applied(many, refined_edits(many)[0]) == applied(many, c4_edits(many)[0]) == ""
    kept = "two words\n" * 30_000
    assert applied(kept, refined_edits(kept)[0]) == kept.strip()


def test_lines_lie_beside_the_documents_as_edits(tmp_path: Path) -> None:
    texts = ["one word lines go\nhere\nand these stay", "A full sentence here.\nno full stop\nA second one here."]
    (tmp_path / "rows.jsonl").write_text("\n".join(json.dumps({"text": text}) for text in texts))
    read = Read((str(tmp_path / "rows.jsonl"),))
    left = {}
    for rules in ("c4", "fineweb", "refinedweb"):
        stage = Lines(read, rules=rules)
        outcome = run(stage, Local(), str(tmp_path / "root"))
        table, documents = outcome.dataset.table(), outcome.datasets[read.address].table()
        assert table["id"] == documents["id"]
        before = documents["text"].combine_chunks()
        after = personal.apply(before, table["edits"].combine_chunks()).to_pylist()
        left[rules] = dict(zip(before.to_pylist(), after, strict=True))
        assert {*table.column_names} == {"id", *stage.makes}
        if rules == "refinedweb":
            removed = dict(zip(before.to_pylist(), table["refined_removed"].to_pylist(), strict=True))
            assert removed[texts[0]] == 1 / 8
        else:
            assert stage.makes == ("edits",), "a rule on refined_removed would never speak"
    assert left["c4"] == {texts[0]: "", texts[1]: "A full sentence here.\nA second one here."}
    assert left["fineweb"] == {texts[0]: "one word lines go\nand these stay", texts[1]: texts[1]}
    assert left["refinedweb"] == {texts[0]: "one word lines go\nand these stay", texts[1]: texts[1]}


def test_unknown_rules_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="rules cannot be 'c5'"):
        Lines(Read((str(tmp_path / "rows.jsonl"),)), rules="c5")
