"""Answers and summaries scored: against SQuAD's scripts as published, rouge-score and NLTK's stemmer."""

import collections
import json
import random
import re
import string
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zstandard

from tundish.operators.text import answers, porter, rouge


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


# -- answers


def script_normalised(text: str) -> str:
    """As SQuAD's scripts say it, step by step."""
    text = "".join(each for each in text.lower() if each not in set(string.punctuation))
    text = re.sub(r"\b(a|an|the)\b", " ", text)
    return " ".join(text.split())


def script_f1(gold: str, guess: str, version: int) -> float:
    one, other = script_normalised(gold).split(), script_normalised(guess).split()
    if version == 2 and (len(one) == 0 or len(other) == 0):
        return float(one == other)
    common = sum((collections.Counter(one) & collections.Counter(other)).values())
    if common == 0:
        return 0.0
    precision, recall = common / len(other), common / len(one)
    return 2 * precision * recall / (precision + recall)


def script_scores(golds: list[str], guess: str, version: int) -> tuple[float, float]:
    if version == 2:
        golds = [gold for gold in golds if script_normalised(gold)] or [""]
    exact = max(float(script_normalised(gold) == script_normalised(guess)) for gold in golds)
    return exact, max(script_f1(gold, guess, version) for gold in golds)


PHRASES = (
    "The Who", "the", "a", "", "U.S.A.", "in 1990–91", "an apple, a pear", "Søren’s «theory»", "北京 大学", "who",
    "1,000", "A.\u0085the b", "co-operate", "İstanbul", "$5 the", "x\u2028y",
)  # fmt: skip


@pytest.mark.parametrize("version", [1, 2])
def test_answers_score_as_the_scripts_score_them(version: int) -> None:
    draw, how = random.Random(version), {"unanswerable": version == 2}
    phrase = lambda: " ".join(draw.choices(PHRASES, k=2))  # noqa: E731
    truth = [[phrase() for _ in range(draw.randint(1, 3))] for _ in range(1500)]
    if version == 2:
        truth[::3] = [draw.choice(([], [""], ["the"])) for _ in truth[::3]]
    guesses = [draw.choice((phrase(), *PHRASES, *golds, *golds)) for golds in truth]
    found = answers.answered(truth, guesses, **how)
    wanted = np.array([script_scores(*pair, version) for pair in zip(truth, guesses, strict=True)])
    np.testing.assert_allclose(np.stack(found[:2], 1), wanted, rtol=1e-12)
    assert 0.1 < wanted[:, 0].mean() < wanted[:, 1].mean() < 0.95
    if version == 2:
        assert found.answerable.tolist() == [any(map(script_normalised, golds)) for golds in truth]
    for guess in guesses[:200]:
        for gold in PHRASES:
            assert answers.f1(gold, guess, **how) == pytest.approx(script_f1(gold, guess, version), rel=1e-12)
            assert answers.exact(gold, guess) == (script_normalised(gold) == script_normalised(guess))


def questions(path: Path) -> list[dict[str, Any]]:
    articles = json.loads("\n".join(lines(path)))["data"]
    return [qa for article in articles for paragraph in article["paragraphs"] for qa in paragraph["qas"]]


def test_answers_to_real_questions(data: Path) -> None:
    """Right ones score one; the answer to another question, what the script gives it. Three questions have `.` among
    their answers: in 1.1 to say nothing is right there."""
    for version, name in ((1, "squad-dev-1.1.json.zst"), (2, "squad-dev-2.0.json.zst")):
        asked = questions(data / "qa-squad" / name)[::2]
        truth = [[each["text"] for each in qa["answers"]] for qa in asked]
        right = [golds[0] if golds else "" for golds in truth]
        for guesses in (right, right[1:] + right[:1], [golds[-1][:9] if golds else "" for golds in truth]):
            found = answers.answered(truth, guesses, unanswerable=version == 2)
            wanted = [script_scores(*pair, version) for pair in zip(truth, guesses, strict=True)]
            np.testing.assert_allclose(np.stack(found[:2], 1), wanted, rtol=1e-12)
            assert (found.exact.all() and found.f1.all()) == (guesses is right)
            assert (found.answerable == [not qa.get("is_impossible", False) for qa in asked]).all()
        dotted = sum("." in golds for golds in truth)
        assert dotted
        silent = answers.answered(truth, [""] * len(truth), unanswerable=version == 2)
        assert silent.exact.sum() == (dotted if version == 1 else (~silent.answerable).sum())


def script_threshold(scores: list[float], answerable: list[bool], none: list[float]) -> tuple[float, float]:
    """The script's walk through the questions by their chance of no answer (all of them different)."""
    current = best = float(sum(not each for each in answerable))
    threshold = 0.0
    for at in sorted(range(len(none)), key=none.__getitem__):
        current += scores[at] if answerable[at] else scores[at] - 1
        if current > best:
            best, threshold = current, none[at]
    return threshold, best / len(scores)


def test_the_threshold_is_the_scripts_where_no_chances_are_equal() -> None:
    draw = np.random.default_rng(5)
    for count in (1, 2, 3, 10, 200):
        for _ in range(20):
            answerable = draw.random(count) < 0.5
            scores = np.where(answerable, draw.choice([0, 0.4, 1], count), draw.integers(0, 2, count))
            none = np.clip(draw.permutation(count) / count + 0.3 * ~answerable, 0.01, None) + draw.random(count) * 1e-3
            found = answers.best_threshold(scores, answerable, none)
            threshold, score = script_threshold(scores.tolist(), answerable.tolist(), none.tolist())
            assert found.score == pytest.approx(score, rel=1e-12)
            assert found.value == threshold or (threshold == 0 and found.value == none.min() - 1)
            kept = answers.withheld(scores, answerable, none, found.value)
            assert kept.mean() == pytest.approx(found.score, rel=1e-12)


def test_no_threshold_is_better_where_chances_are_equal() -> None:
    draw = np.random.default_rng(6)
    for _ in range(100):
        answerable, none = draw.random(30) < 0.5, draw.integers(-2, 3, 30).astype(float)
        scores = draw.random(30) * answerable
        tried = [answers.withheld(scores, answerable, none, at).mean() for at in (-9, *np.unique(none))]
        found = answers.best_threshold(scores, answerable, none)
        assert found.score == pytest.approx(max(tried), rel=1e-12)
        assert answers.withheld(scores, answerable, none, found.value).mean() == pytest.approx(max(tried), rel=1e-12)
    assert answers.best_threshold(np.zeros(3), np.zeros(3), none[:3] - 9).value == none[:3].min() - 10


def test_what_cannot_be_answered_is_refused() -> None:
    with pytest.raises(ValueError, match="there are no questions"):
        answers.answered([], [])
    with pytest.raises(ValueError, match="2 questions and 1 guesses"):
        answers.answered([["x"], []], ["x"])
    with pytest.raises(ValueError, match="question 1 has no answer"):
        answers.answered([["x"], []], ["x", ""], unanswerable=False)
    with pytest.raises(ValueError, match="nan of no answer"):
        answers.best_threshold(np.ones(2), np.ones(2), np.array([0.1, np.nan]))


# -- summaries


KINDS = ("1", "2", "3", "L", "Lsum")
WORDS = (
    "the", "cat's", "cats", "sat", "Sitting", "on", "mats", "naïve", "北京", "U.S.", "relational", "1990s", "—",
    "flies", "generously", "\u2028", "İ", "mat", "sat", "cat", "was", "wa",
)  # fmt: skip
GAPS = "    ,\n"


def written(draw: random.Random, most: int) -> str:
    return "".join(f"{draw.choice(WORDS)}{draw.choice(GAPS)}" for _ in range(draw.randrange(most)))


def same_rouge(pairs: list[tuple[str, str]], stem: bool) -> dict[str, list[Any]]:
    theirs = pytest.importorskip("rouge_score.rouge_scorer").RougeScorer([f"rouge{k}" for k in KINDS], use_stemmer=stem)
    scores: dict[str, list[Any]] = {kind: [] for kind in KINDS}
    for truth, guess in pairs:
        wanted = theirs.score(truth, guess)
        for kind, found in rouge.rouge(truth, guess, KINDS, stem=stem).items():
            assert found == pytest.approx(wanted[f"rouge{kind}"], rel=1e-12), (kind, truth, guess)
            scores[kind].append(wanted[f"rouge{kind}"])
    return scores


@pytest.mark.parametrize("stem", [False, True])
def test_summaries_score_as_rouge_score_scores_them(stem: bool) -> None:
    draw = random.Random(11)
    pairs = [(written(draw, 30), written(draw, 30)) for _ in range(400)]
    pairs += [("", ""), ("a cat", ""), ("", "a cat"), ("\n\n", "a\n\n\nb"), ("北京", "北京"), (" a\nb ", "b\na")]
    scores = same_rouge(pairs, stem)
    assert 0.1 < np.mean([each.fmeasure for each in scores["L"]]) < 0.9
    assert sum(a != b for a, b in zip(scores["L"], scores["Lsum"], strict=True)) > 100


def test_summaries_of_real_papers(data: Path) -> None:
    """The first sentence of an abstract, against the best of its references."""
    multi = pytest.importorskip("rouge_score.rouge_scorer").RougeScorer(
        ["rouge1", "rouge2", "rougeLsum"], use_stemmer=True
    )
    papers = [json.loads(line) for line in lines(data / "summ-scitldr" / "dev.jsonl.zst") if line][:60]
    truths, guesses = [each["target"] for each in papers], ["\n".join(each["source"][:2]) for each in papers]
    found = rouge.rouges(truths, guesses, ("1", "2", "Lsum"), stem=True)
    for row, (golds, guess) in enumerate(zip(truths, guesses, strict=True)):
        wanted = multi.score_multi(golds, guess)
        for kind, scores in found.items():
            np.testing.assert_allclose(scores[row], wanted[f"rouge{kind}"], rtol=1e-12)
    assert 0.2 < found["1"][:, 2].mean() < 0.5


def test_the_interval_of_rouge_is_rouge_scores() -> None:
    scoring = pytest.importorskip("rouge_score.scoring")
    scores = np.random.default_rng(1).random((40, 3))
    theirs = scoring.BootstrapAggregator(confidence_interval=0.9, n_samples=200)
    for row in scores:
        theirs.add_scores({"rouge1": scoring.Score(*row)})
    state = np.random.get_state()
    np.random.seed(5)
    wanted = theirs.aggregate()["rouge1"]
    np.random.set_state(state)
    found = rouge.bounds(scores, seed=5, samples=200, level=0.9)
    np.testing.assert_allclose(np.array(found), np.array(wanted), rtol=1e-12)
    assert (found.low < scores.mean(0)).all()
    assert (scores.mean(0) < found.high).all()


def test_long_texts_have_the_subsequence_of_the_table() -> None:
    """Beyond 64 tokens: the slow table."""
    draw = random.Random(2)
    one, other = (draw.choices("abcdef", k=size) for size in (211, 170))
    table = np.zeros((212, 171), int)
    for i, a in enumerate(one):
        for j, b in enumerate(other):
            table[i + 1, j + 1] = table[i, j] + 1 if a == b else max(table[i, j + 1], table[i + 1, j])
    found = rouge.rouge(" ".join(one), " ".join(other), ("L",))["L"]
    assert found.recall == table[-1, -1] / 211
    assert found.precision == table[-1, -1] / 170


def test_stems_are_nltks() -> None:
    theirs = pytest.importorskip("nltk.stem.porter").PorterStemmer()
    draw = random.Random(0)
    ends = ["ies", "sses", "s", "eed", "ed", "ing", "y", "ied", "logi", "e", "ll", "ss"]
    ends += [*porter.SECOND, *porter.THIRD, *porter.FOURTH]
    words = {*porter.IRREGULAR, "", "a", "yyyy", "feed", "agreed", "died", "ties", "1990s", "été", "naïvely"}
    for _ in range(20_000):
        begin = "".join(draw.choices("abceiotyslzwdn", k=draw.randrange(6)))
        words.add(begin + "".join(draw.choices(ends, k=draw.randrange(3))))
    assert {word: porter.stem(word) for word in words} == {word: theirs.stem(word) for word in words}


def test_stems_of_real_words_are_nltks(data: Path) -> None:
    theirs = pytest.importorskip("nltk.stem.porter").PorterStemmer()
    words = {w for line in lines(data / "summ-scitldr" / "dev.jsonl.zst") for w in re.findall("[a-z]+", line.lower())}
    assert len(words) > 5_000
    assert {word: porter.stem(word) for word in words} == {word: theirs.stem(word) for word in words}


def test_what_is_no_summary_is_refused() -> None:
    with pytest.raises(ValueError, match="there is no ROUGE-W"):
        rouge.rouge("a", "b", ("W",))
    with pytest.raises(ValueError, match="there is no true text"):
        rouge.best([], "b")
    with pytest.raises(ValueError, match="there are no texts"):
        rouge.rouges([], [])
    with pytest.raises(ValueError, match="2 texts and 1 guesses"):
        rouge.rouges([["a"], ["b"]], ["a"])
    for scores, kwargs in (
        (np.zeros((0, 3)), {}),
        (np.ones((2, 3)), {"samples": 0}),
        (np.ones((2, 3)), {"level": 1.0}),
    ):
        with pytest.raises(ValueError, match="give no interval"):
            rouge.bounds(scores, seed=0, **kwargs)
