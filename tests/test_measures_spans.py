"""Spans of tagged sentences, found and scored: against seqeval, with and without a scheme."""

import random
import re
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zstandard

from tundish.operators.model.certainty import bootstrap
from tundish.operators.tallies import Tally, averaged
from tundish.operators.text import spans

LETTERS = {None: "OBIES", "IOB1": "OBI", "IOB2": "OBI", "IOE2": "OIE", "IOBES": "OBIES", "BILOU": "OBILU"}
WAYS = ("micro", "macro", "weighted")


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """The oracles warn where a share is of nothing."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def lines(path: Path) -> list[str]:
    """Of a compressed file, split at line feeds alone."""
    raw = zstandard.ZstdDecompressor(max_window_size=2**27).stream_reader(path.read_bytes()).read()
    return raw.decode().split("\n")


def tagged(draw: random.Random, letters: str, sentences: int) -> list[list[str]]:
    """Any tags in any order, a bare letter among them; some sentences are empty."""
    kinds = draw.sample(["PER", "LOC", "creative-work", "人", "_"], draw.randint(1, 4))
    tags = ["O", *(f"{letter}-{kind}" for letter in letters[1:] for kind in kinds), letters[1]]
    return [draw.choices(tags, k=draw.choice((0, 1, 2, 5, 12))) for _ in range(sentences)]


def changed(draw: random.Random, truth: list[list[str]]) -> list[list[str]]:
    flat = [tag for each in truth for tag in each] or ["O"]
    return [[draw.choice(flat) if draw.random() < 0.3 else tag for tag in each] for each in truth]


def same_scores(truth: list[list[str]], guesses: list[list[str]], scheme: str | None) -> int:
    """How many kinds there were to compare with seqeval."""
    lenient = pytest.importorskip("seqeval.metrics.sequence_labeling").precision_recall_fscore_support
    strict = pytest.importorskip("seqeval.metrics.v1").precision_recall_fscore_support
    schemes = pytest.importorskip("seqeval.scheme")
    score = strict if scheme else lenient
    how = {"scheme": getattr(schemes, scheme)} if scheme else {}
    found = spans.found(truth, guesses, scheme)
    for ours, theirs in zip(found.each, score(truth, guesses, average=None, **how), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-12)
    for ours, way in zip(found[2:], WAYS, strict=True):
        if found.kinds:  # theirs is NaN or 0 without any
            np.testing.assert_allclose(ours, score(truth, guesses, average=way, **how), rtol=1e-12)
        else:
            assert ours == (0.0, 0.0, 0.0, 0)
    return len(found.kinds)


@pytest.mark.parametrize("scheme", LETTERS)
def test_spans_score_as_seqeval_scores_them(scheme: str | None) -> None:
    draw, kinds = random.Random(str(scheme)), 0
    for _ in range(150):
        truth = tagged(draw, LETTERS[scheme], draw.randint(1, 6))
        kinds += same_scores(truth, changed(draw, truth), scheme)
        kinds += same_scores(truth, truth, scheme)
    assert kinds > 300


@pytest.mark.parametrize("scheme", [each for each in LETTERS if each])
def test_spans_of_a_scheme_are_where_seqeval_finds_them(scheme: str) -> None:
    theirs = pytest.importorskip("seqeval.scheme")
    draw, many = random.Random(7), 0
    for _ in range(100):
        tags = tagged(draw, LETTERS[scheme], 5)
        found = theirs.Entities(tags, getattr(theirs, scheme)).entities
        wanted = [(e.sent_id, e.start, e.end, e.tag) for sentence in found for e in sentence]
        assert read(spans.spans_of(tags, scheme)) == wanted
        many += len(wanted)
    assert many > 300


def test_spans_without_a_scheme_are_where_seqeval_finds_them() -> None:
    entities = pytest.importorskip("seqeval.metrics.sequence_labeling").get_entities
    draw = random.Random(3)
    for _ in range(200):
        [tags] = tagged(draw, "OBIES", 1)
        wanted = [(0, start, last + 1, kind) for kind, start, last in entities(tags)]
        assert read(spans.spans_of([tags])) == wanted
        other = [tag[0].translate(str.maketrans("ES", "LU")) + tag[1:] for tag in tags]
        assert read(spans.spans_of([other])) == wanted


@pytest.mark.parametrize("tags", [[], [[]], [["O"], []]])
def test_where_there_are_no_spans_none_are_found(tags: list[list[str]]) -> None:
    assert read(spans.spans_of(tags)) == read(spans.spans_of(tags, "BILOU")) == []


def test_counts_of_sentences_add_up_to_those_of_kinds() -> None:
    draw = random.Random(5)
    for scheme, letters in LETTERS.items():
        truth = tagged(draw, letters, 20)
        guesses = changed(draw, truth)
        rows, (_, kinds) = spans.by_sentence(truth, guesses, scheme), spans.tallied(truth, guesses, scheme)
        assert [each.sum() for each in rows] == [each.sum() for each in kinds]
        for row, pair in enumerate(zip(truth, guesses, strict=True)):
            _, alone = spans.tallied(*([side] for side in pair), scheme)
            assert [each[row] for each in rows] == [each.sum() for each in alone]


def test_f1_of_sentences_has_an_interval() -> None:
    draw = random.Random(6)
    truth = tagged(draw, "OBI", 60)
    guesses = changed(draw, truth)
    interval = bootstrap(lambda *t: averaged(Tally(*t), "micro").f1, *spans.by_sentence(truth, guesses), seed=1)
    assert interval.value == spans.found(truth, guesses).micro.f1
    assert interval.low < interval.value < interval.high


def read(found: spans.Spans) -> list[tuple[int, int, int, str]]:
    return [(*map(int, row[:3]), found.kinds[row[3]]) for row in zip(*found[:4], strict=True)]


def test_i_after_o_is_a_span_only_without_a_scheme() -> None:
    tags = [["O", "I-PER", "I-PER", "O", "B-LOC"]]
    assert read(spans.spans_of(tags)) == [(0, 1, 3, "PER"), (0, 4, 5, "LOC")]
    assert read(spans.spans_of(tags, "BIO")) == [(0, 4, 5, "LOC")]
    assert read(spans.spans_of(tags, "iob1")) == [(0, 1, 3, "PER")]


def test_a_span_does_not_cross_sentences() -> None:
    assert read(spans.spans_of([["B-X", "I-X"], ["I-X"], [], ["E-X"]])) == [
        (0, 0, 2, "X"),
        (1, 0, 1, "X"),
        (3, 0, 1, "X"),
    ]


@pytest.mark.parametrize(
    ("file", "scheme"),
    [("WNUT17/emerging.dev.conll", "IOB2"), ("wikigold/wikigold.conll.txt", "IOB1"), ("GUM/gum-test.conll", "IOB2")],
)
def test_spans_of_real_sentences(data: Path, file: str, scheme: str) -> None:
    truth: list[list[str]] = [[]]
    for line in lines(data / "ner" / f"{file}.zst"):
        if not line.strip() or line.startswith("-DOCSTART-"):
            truth.append([])
        else:
            truth[-1].append(line.split()[-1])
    assert sum(map(len, truth)) > 10_000
    truth = truth[:500]  # seqeval is slow
    draw = random.Random(1)
    guesses = [[draw.choice(each) if draw.random() < 0.1 else tag for tag in each] for each in truth]
    assert same_scores(truth, guesses, scheme) >= 4
    assert same_scores(truth, guesses, None) >= 4


@pytest.mark.parametrize(
    ("truth", "guesses", "scheme", "told"),
    [
        ([], [], None, "there are no sentences"),
        ([["O"]], [["O"], ["O"]], None, "1 sentences and 2 guesses"),
        ([["O"], ["O", "O"]], [["O"], ["O"]], None, "sentence 1 has 2 tags and 1 guesses"),
        ([["O"]], [["X-PER"]], None, "'X-PER' is no tag"),
        ([["O"]], [["S-PER"]], "IOB2", "'S-PER' is no tag"),
        ([["O"]], [[""]], None, "'' is no tag"),
        ([["O"]], [["BPER"]], None, "'BPER' is no tag"),
        ([["O"]], [["O"]], "BIOX", "no scheme 'BIOX'"),
    ],
)
def test_what_is_no_tagging_is_refused(truth: Any, guesses: Any, scheme: str | None, told: str) -> None:
    with pytest.raises(ValueError, match=re.escape(told)):
        spans.found(truth, guesses, scheme)
