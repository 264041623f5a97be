"""Labels by our own reading of a fastText model, held against fastText's."""

import random
import struct
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tundish.cluster.assets import asset
from tundish.operators.text import classify, fasttext_file
from tundish.operators.text.predict import Found, Predictor

WORDS = ["the", "tide", "der", "Fahrplan", "älter", "journal", "été", "река", "в", "апреле", "この町", "では", "静か"]
WORDS += ["です", "xyzzy", "123", "_", ","]
PLAIN = [
    "The tide rises twice a day along this coast.",
    "Der Fahrplan der Kraniche ist älter als jede Karte.",
    "この町では、朝の潮が一番静かです。",
    "Река вскрывается в апреле, когда тает снег.",
    "x",
    "é",
    "hello\0world\tand\vmore",
    "ab " * 3000,
    "a" * 5000,  # longer than what is remembered of a word
    "ü" * 700 + " " + "ü" * 1500,
]


@pytest.fixture(scope="module")
def path() -> str:
    try:
        return str(asset("lid.176"))
    except ValueError as error:
        pytest.skip(str(error))


def labels(found: Found, model: fasttext_file.Model) -> list[list[str]]:
    return [[model.labels[one] for one in row if one >= 0] for row in found.labels]


@lru_cache(maxsize=1)
def _wheel(path: str) -> Any:
    import fasttext

    return fasttext.load_model(path)


def agree(path: str, texts: list[str], k: int = 3, tolerance: float = 1e-6) -> None:
    """The same labels in the same order, their likelihoods alike."""
    model, theirs = fasttext_file.load(path), _wheel(path)
    found = Predictor(model)(pa.array(texts, pa.large_string()), k)
    for text, mine, scores in zip(texts, labels(found, model), found.scores, strict=True):
        names, chances = theirs.predict(text.replace("\n", " "), k=k)
        assert mine == [name.removeprefix("__label__") for name in names], text[:80]
        assert scores[: len(mine)] == pytest.approx(chances, abs=tolerance)


def drawn(n: int) -> list[str]:
    """Sentences of words of many languages, some of them in pieces."""
    draw = random.Random(5)
    return [" ".join(draw.choice(WORDS)[: draw.randint(1, 9)] for _ in range(draw.randint(1, 60))) for _ in range(n)]


def test_labels_of_a_quantized_hierarchical_model_are_fasttexts(path: str) -> None:
    agree(path, PLAIN + drawn(500))
    agree(path, [" ".join(f"word{n}" for n in range(90_000))], tolerance=1e-5)  # more than are remembered at once


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.text(st.one_of(st.sampled_from("aeinr стовä漢字 \t"), st.characters(codec="utf-8")), max_size=60)))
def test_labels_of_any_characters_are_fasttexts(path: str, texts: list[str]) -> None:
    said = [text for text in texts if text.strip() and "</s>" not in text and "\n" not in text]
    agree(path, said, k=2)


def test_labels_of_a_softmax_with_runs_of_words_are_fasttexts(tmp_path: Path) -> None:
    lines = [f"buy cheap {n} now now" for n in range(60)] + [f"the harbour wakes before the sun {n}" for n in range(60)]
    body = classify.train(lines, ["bad"] * 60 + ["good"] * 60, classify.Settings(dimension=20, buckets=5000, epochs=5))
    (tmp_path / "model.bin").write_bytes(body)
    agree(str(tmp_path / "model.bin"), [*lines[::7], *drawn(100)], k=2)


def test_what_was_asked_before_and_in_which_thread_does_not_matter(path: str) -> None:
    model = fasttext_file.load(path)
    texts = pa.array(PLAIN + drawn(400), pa.large_string())
    calm = Predictor(model)(texts, 2)
    small = Predictor(model)
    own = small._memory(0)  # so little memory that it is emptied again and again
    own.learnt, own.places = (np.zeros((256, 2), np.uint64), *own.learnt[1:]), 1 << 30
    for _ in range(2):
        assert (small(texts, 2).labels == calm.labels).all()
    shared = Predictor(model)
    with ThreadPoolExecutor(4) as pool:
        for found in pool.map(lambda start: shared(texts.slice(start), 2), range(0, 400, 37)):
            assert (found.labels == calm.labels[-len(found.labels) :]).all()
            assert np.array_equal(found.scores, calm.scores[-len(found.scores) :])


def test_nothing_and_what_is_fasttexts_own(path: str) -> None:
    model = fasttext_file.load(path)
    found = Predictor(model)(pa.array([None, "", " \n\t", "Guten Tag, Welt"], pa.large_string()))
    assert labels(found, model) == [[], [], [], ["de"]]
    texts = ["Guten Tag, Welt", "Guten </s> Tag, __label__en Welt", f"Guten Tag, __label__{'x' * 3000} Welt"]
    scores = Predictor(model)(pa.array(texts, pa.large_string())).scores
    assert len({*scores[:, 0].tolist()}) == 1  # no words of the text


@pytest.mark.parametrize("spoil", ["short", "other", "vectors", "buckets", "empty"])
def test_a_file_that_is_no_classifier(path: str, tmp_path: Path, spoil: str) -> None:
    body = Path(path).read_bytes()
    made = {
        "short": body[: len(body) // 2],
        "other": b"<html>" + body,
        "vectors": body[:36] + struct.pack("<i", 1) + body[40:],
        "buckets": body[:40] + struct.pack("<i", 1) + body[44:],
        "empty": b"",
    }[spoil]
    (tmp_path / "model.ftz").write_bytes(made)
    with pytest.raises(ValueError, match=r"model\.ftz is no supervised fastText model \(.+\); give a \.bin or \.ftz"):
        fasttext_file.load(str(tmp_path / "model.ftz"))
