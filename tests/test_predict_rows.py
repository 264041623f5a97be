"""Predictions of rows that people have: faulty ones in their place, cut ones counted, standard input, running text."""

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from tests.test_predict import WORDS, model, rows, tuned, unlabelled, written  # noqa: F401  (a fixture)
from tundish.operators.text import spans
from tundish.pipeline.cli import cli
from tundish.stages.examples import batches
from tundish.stages.finetune_task import TuneTask
from tundish.stages.predict import Met, Running, _spotted, entities_of, predictions, predictor, split_into_words


@pytest.fixture(scope="module")
def texts(model: str, tmp_path_factory: pytest.TempPathFactory) -> TuneTask:  # noqa: F811
    return tuned(model, tmp_path_factory.mktemp("texts"), "multilabel")


@pytest.fixture(scope="module")
def tagger(model: str, tmp_path_factory: pytest.TempPathFactory) -> TuneTask:  # noqa: F811
    return tuned(model, tmp_path_factory.mktemp("tags"), "tag")


def lines_of(output: str) -> list[dict]:
    return [json.loads(line) for line in output.strip().split("\n")]


GIVEN = [
    {"text": ""},
    {"text": "one heron"},
    {"text": " "},
    {"body": 1},
    {"text": "a river"},
    {"text": "night"},
    {"text": ""},
]
FAULTY = [0, 2, 3, 6]


@pytest.mark.parametrize("size", [1, 2, 3, 4096])
def test_a_faulty_row_has_its_line_and_the_others_theirs(texts: TuneTask, tmp_path: Path, size: int) -> None:
    new, met, it = written(tmp_path / "new.jsonl", GIVEN), Met(), predictor(texts.out)
    said = list(predictions(it, new, {"text": "text"}, faulty="tell", met=met, size=size))
    assert [one["row"] for one in said] == [1, 2, 3, 4, 5, 6, 7]
    assert [at for at, one in enumerate(said) if "error" in one] == FAULTY
    assert all(("labels" in one) != ("error" in one) for one in said)
    assert said[2]["error"].startswith("row 3 of new.jsonl has an empty text; ")
    good = written(tmp_path / "good.jsonl", [row for at, row in enumerate(GIVEN) if at not in FAULTY])
    alone = [one["probabilities"] for one in predictions(it, good)]
    for one, other in zip((one["probabilities"] for one in said if "error" not in one), alone, strict=True):
        assert one == pytest.approx(other, abs=1e-5)
    assert (met.rows, met.faulty) == (7, 4)
    with pytest.raises(ValueError, match="row 1 of new"):
        list(predictions(it, new, {"text": "text"}))


def test_the_command_goes_on_and_counts_what_is_faulty_and_cut(texts: TuneTask, tmp_path: Path) -> None:
    made = [{"text": "river " * 90}, {"text": "stone"}, {"text": ""}]
    done = CliRunner().invoke(cli, ["predict", texts.out, written(tmp_path / "a.jsonl", made)], catch_exceptions=False)
    assert done.exit_code == 0
    assert ["error" in one for one in lines_of(done.stdout)] == [False, False, True]
    pieces = 48 - 2
    assert done.stderr.strip().split("\n") == [
        f"1 of 3 texts are cut at {pieces} pieces",
        "1 of 3 rows are faulty (first: row 3 of a.jsonl has an empty text; fill it in, or take the row out)",
    ]
    plain = CliRunner().invoke(cli, ["predict", texts.out, written(tmp_path / "b.jsonl", made[1:2])])
    assert plain.stderr == ""


def test_standard_input_and_output_are_files(texts: TuneTask, tmp_path: Path) -> None:
    new = unlabelled(tmp_path, "multilabel")
    from_file = CliRunner().invoke(cli, ["predict", texts.out, new], catch_exceptions=False).stdout
    words = ["predict", texts.out, "-", "--form", "jsonl", "--to", "-"]
    piped = CliRunner().invoke(cli, words, input=Path(new).read_bytes(), catch_exceptions=False)
    assert piped.stdout.replace('"file": "-"', '"file": "new.jsonl"') == from_file
    assert len(lines_of(from_file)) == 40
    nameless = CliRunner().invoke(cli, words[:3], input=b"{}")
    assert "no name that says its form; say it, as in --form jsonl" in str(nameless.exception)


def test_vectors_end_without_dust(model: str, tmp_path: Path) -> None:  # noqa: F811
    task = tuned(model, tmp_path, "embed")
    [said, *_] = predictions(predictor(task.out), unlabelled(tmp_path, "embed"))
    for vector in (said["vector"], said["second_vector"]):
        assert vector == [round(value, 6) for value in vector]
        assert np.linalg.norm(vector) == pytest.approx(1, abs=1e-4)


def test_a_tagger_reads_running_text(tagger: TuneTask, tmp_path: Path) -> None:
    it, draw = predictor(tagger.out), np.random.default_rng(7)
    made = [" ".join(draw.choice(WORDS, 9)) for _ in range(20)]
    told = list(predictions(it, written(tmp_path / "words.jsonl", [{"words": text.split()} for text in made])))
    loose = [text.replace(" ", "  \n").replace("river  \n", "river, ") for text in made]
    said = list(predictions(it, written(tmp_path / "text.jsonl", [{"body": text} for text in loose]), {"text": "body"}))
    assert all("entities" not in one for one in told)
    seen = 0
    for one, other, text, before in zip(said, told, loose, made, strict=True):
        assert [word for word in one["words"] if word != ","] == before.split()
        if "," not in text:
            assert one["tags"] == other["tags"]
        assert all(text[each["start"] : each["end"]] == each["text"] for each in one["entities"])
        found = spans.spans_of([one["tags"]])
        assert len(one["entities"]) == len(found.start)
        for each, first, last in zip(one["entities"], found.start, found.end, strict=True):
            assert each["text"].replace(",", " , ").split() == one["words"][first:last]
        seen += len(one["entities"])
    assert bool(seen) == any(tag != "O" for one in said for tag in one["tags"])
    named = list(predictions(it, written(tmp_path / "own.jsonl", [{"text": text} for text in loose])))
    assert [one["entities"] for one in named] == [one["entities"] for one in said], "a file with a text alone will do"


def test_entities_lie_in_the_text_that_was_given(tagger: TuneTask) -> None:
    text = "A  grey\nheron, and Ada."
    running = Running([text], [[(0, 1), (3, 7), (8, 13), (13, 14), (15, 18), (19, 22), (22, 23)]])
    [line] = _spotted(
        predictor(tagger.out), running, iter([{"tags": ["O", "B-bird", "I-bird", "O", "O", "B-who", "O"]}])
    )
    assert line["entities"] == [
        {"start": 3, "end": 13, "label": "bird", "text": "grey\nheron"},
        {"start": 19, "end": 22, "label": "who", "text": "Ada"},
    ]


def test_words_and_their_places_in_any_script(tmp_path: Path) -> None:
    made = ["Ann's (well-known) U.N. 東京へ!", "\u200b", " ¿Qué?\u2028So… "]
    [some] = batches("write", written(tmp_path / "a.jsonl", [{"text": text} for text in made]), {"text": "text"})
    examples, running = split_into_words(some)
    words = examples.table["words"].to_pylist()
    assert words[0] == ["Ann's", "(", "well", "-", "known", ")", "U.N", ".", "東", "京", "へ", "!"]
    assert words[1:] == [["\u200b"], ["¿", "Qué", "?", "So", "…"]]
    for text, places, each in zip(made, running.places, words, strict=True):
        assert [text[start:end] for start, end in places] == each


@pytest.mark.parametrize(
    ("tags", "scheme", "found"),
    [
        (["B-A", "I-A", "B-A", "O", "I-B"], "IOB2", [(0, 2, "A"), (2, 3, "A"), (4, 5, "B")]),
        (["S-A", "B-B", "E-B", "O"], "IOBES", [(0, 1, "A"), (1, 3, "B")]),
        (["NN", "NN", "O", "VB"], "plain", [(0, 1, "NN"), (1, 2, "NN"), (3, 4, "VB")]),
        (["O", "O"], "IOB2", []),
    ],
)
def test_entities_of_tags(tags: list[str], scheme: str, found: list[tuple[int, int, str]]) -> None:
    assert entities_of(tags, scheme) == found
