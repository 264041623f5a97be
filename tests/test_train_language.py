"""train-language: the same model from the same texts, right figures, rows it cannot read named."""

import csv
import gzip
import json
import random
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner, Result

from tundish.operators.text import fasttext_file
from tundish.operators.text.identifier import learn
from tundish.operators.text.learning import Settings
from tundish.operators.text.predict import Predictor
from tundish.pipeline.cli import cli
from tundish.pipeline.train_language import train
from tundish.stages.labelled import labelled

SAID = {
    "de": "der die und Wasser steigt zweimal am Tag Kranich Fahrplan älter Karte über Straße nicht auch eine",
    "en": "the and water rises twice day crane timetable older map over street not also harbour this with",
    "ru": "вода растет дважды день журавль расписание старше карты над улицей тоже одна река в апреле",
}
WORDS = {code: words.split() for code, words in SAID.items()}
SMALL = Settings(buckets=2000, epochs=8, least=2)


def sentences(n: int = 60, codes: str = "de en ru") -> list[tuple[str, str]]:
    draw = random.Random(5)
    return [
        (code, " ".join(draw.choices(WORDS[code], k=draw.randint(4, 12)))) for code in codes.split() for _ in range(n)
    ]


def tsv(path: Path, rows: list[tuple[str, str]]) -> Path:
    path.write_text("".join(f"{label}\t{text}\n" for label, text in rows), encoding="utf-8")
    return path


def asked(*words: object) -> Result:
    return CliRunner().invoke(cli, ["train-language", *map(str, words)])


def refusal(*words: object) -> str:
    found = asked(*words)
    assert isinstance(found.exception, ValueError), found.output
    return str(found.exception)


@pytest.mark.parametrize("loss", ["softmax", "hierarchical"])
def test_the_model_is_fasttexts_and_tells_languages_apart(tmp_path: Path, loss: str) -> None:
    import fasttext

    rows = sentences()
    texts, labels = (pa.array(column) for column in zip(*[(text, label) for label, text in rows], strict=True))
    body = learn(texts.cast(pa.large_string()), labels, Settings(buckets=2000, epochs=8, least=2, loss=loss))
    path = tmp_path / "m.bin"
    path.write_bytes(body)
    fresh = [text for _, text in sentences(90)[5::7]] + ["Wasser", "water", "вода", "ß", "nothing of it"]
    model, theirs = fasttext_file.load(str(path)), fasttext.load_model(str(path))
    found = Predictor(model)(pa.array(fresh, pa.large_string()), 3)
    for text, mine, scores in zip(fresh, found.labels, found.scores, strict=True):
        names, chances = theirs.predict(text, k=3)
        assert [f"__label__{model.labels[one]}" for one in mine] == list(names)
        assert scores == pytest.approx(chances, abs=1e-6)
    right = [model.labels[one] for one in Predictor(model)(texts.cast(pa.large_string())).labels[:, 0]]
    assert np.mean([a == b for a, (b, _) in zip(right, rows, strict=True)]) > 0.99


@pytest.mark.parametrize("loss", ["softmax", "hierarchical"])
def test_learning_is_what_its_formulas_say(loss: str) -> None:
    """One text a label, two epochs, against a slow twin in float64."""
    rows = [("de", "aa ab"), ("en", "ba"), ("fr", "ca ca aa")]
    settings = Settings(dimension=3, shortest=2, longest=2, buckets=50, least=1, epochs=2, lr=0.3, loss=loss)
    body = learn(pa.array([t for _, t in rows], pa.large_string()), pa.array([a for a, _ in rows]), settings)
    model = fasttext_file.read(body)
    before = fasttext_file.read(_untrained(rows, settings))
    words = [bytes(model.words[a : b - 10]).decode() for a, b in zip(model.bounds[:-1], model.bounds[1:], strict=True)]
    vectors = before.vectors.astype(np.float64)
    weights = np.zeros_like(model.weights, np.float64)
    order = _order(rows, settings.seed)
    for step in range(2 * len(rows)):
        label, text = rows[order[step % len(rows)]]
        pieces = [0, *(row for word in text.split() for row in _rows(word, words, settings.buckets))]
        hidden = vectors[pieces].mean(0)
        truth, rate = model.labels.index(label), 0.3 * (1 - step / (2 * len(rows)))
        back = np.zeros(3)
        for node, wanted, guess in _losses(loss, model, weights, hidden, truth):
            push = rate * (wanted - guess)
            back += push * weights[node]
            weights[node] = weights[node] + push * hidden
        np.add.at(vectors, pieces, back / len(pieces))
    assert model.weights == pytest.approx(weights, abs=1e-6)
    assert model.vectors == pytest.approx(vectors, abs=1e-6)


def _untrained(rows: list[tuple[str, str]], settings: Settings) -> bytes:
    """The same with a rate of next to nothing."""
    still = Settings(**{**settings.__dict__, "lr": 1e-30})
    return learn(pa.array([t for _, t in rows], pa.large_string()), pa.array([a for a, _ in rows]), still)


def _order(rows: list[tuple[str, str]], seed: int) -> list[int]:
    ranked = sorted(range(len(rows)), key=lambda one: (rows[one][1], rows[one][0]))
    return [ranked[one] for one in np.random.Generator(np.random.PCG64([seed, 1])).permutation(len(rows))]


def _rows(word: str, words: list[str], buckets: int) -> list[int]:
    """A word's own row and those of its pairs of letters, which are ASCII here."""
    found = [words.index(word)] if word in words else []
    marked = f"<{word}>"
    for at in range(len(marked) - 1):
        state = 2166136261
        for byte in marked[at : at + 2].encode():
            state = ((state ^ byte) * 16777619) & 0xFFFFFFFF
        found.append(len(words) + state % buckets)
    return found


def _losses(loss: str, model: fasttext_file.Model, weights: np.ndarray, hidden: np.ndarray, truth: int) -> list:
    """(row of the weights, what is wanted, what is guessed), each guess before anything is learned from the text."""
    scores = weights @ hidden
    if loss == "softmax":
        chances = np.exp(scores - scores.max())
        return [(n, float(n == truth), one) for n, one in enumerate(chances / chances.sum())]
    steps, at, size = [], truth, len(model.labels)
    while at != 2 * size - 2:
        side, node = next((s, n) for s in range(2) for n in range(size - 1) if model.tree[s, n] == at)
        steps.append((node, float(side), 1 / (1 + np.exp(-scores[node]))))
        at = node + size
    return steps


def test_order_and_files_do_not_matter(tmp_path: Path) -> None:
    rows = sentences()
    one = train((str(tsv(tmp_path / "a.tsv", rows)),), str(tmp_path / "a.ftz"), SMALL, holdout=0.2, keep=500)
    random.Random(1).shuffle(rows)
    parts = (str(tsv(tmp_path / "b.tsv", rows[:70])), str(tsv(tmp_path / "c.tsv", rows[70:])))
    two = train(parts, str(tmp_path / "b.ftz"), SMALL, holdout=0.2, keep=500)
    assert (tmp_path / "a.ftz").read_bytes() == (tmp_path / "b.ftz").read_bytes()
    assert {**one, "model": ""} == {**two, "model": ""}
    other = train(parts, str(tmp_path / "c.ftz"), Settings(buckets=2000, epochs=8, seed=2), holdout=0.2, keep=500)
    assert other["sha256"] != two["sha256"]


@pytest.mark.parametrize("ending", [".bin", ".ftz"])
def test_the_figures_are_those_of_the_file(tmp_path: Path, ending: str) -> None:
    rows = [*sentences(80), *[("en", text) for _, text in sentences(12, "de")[:12]]]  # some German called English
    out = tmp_path / f"m{ending}"
    told = json.loads(asked(tsv(tmp_path / "a.tsv", rows), "--out", out, "--buckets", 2000, "--epochs", 8, "--holdout",
                            0.3, "--keep", 400, "--json").output)  # fmt: skip
    assert told["texts"] == len(rows)
    assert sum(row["texts"] for row in told["languages"].values()) == len(rows)
    assert sum(row["held_out"] for row in told["languages"].values()) == told["held_out"]
    assert 0.2 * len(rows) < told["held_out"] < 0.4 * len(rows)
    assert told["bytes"] == out.stat().st_size
    model = fasttext_file.load(str(out))
    held = _held(rows)
    guesses = [
        model.labels[one] for one in Predictor(model)(pa.array([t for _, t in held], pa.large_string())).labels[:, 0]
    ]
    confusion = Counter((label, guess) for (label, _), guess in zip(held, guesses, strict=True))
    assert {(a, b): n for a, row in told["confusion"].items() for b, n in row.items()} == dict(confusion)
    accuracies = []
    for label in WORDS:
        total = sum(n for (truth, _), n in confusion.items() if truth == label)
        assert told["languages"][label]["accuracy"] == confusion[label, label] / total
        accuracies.append(confusion[label, label] / total)
    assert told["macro_accuracy"] == pytest.approx(np.mean(accuracies))
    assert told["accuracy"] == pytest.approx(sum(confusion[one, one] for one in WORDS) / len(held))


def _held(rows: list[tuple[str, str]]) -> list[tuple[str, str]]:
    from hashlib import blake2b

    def lot(text: str) -> float:
        digest = blake2b(text.encode(), digest_size=8, key=b"tundish train-language").digest()
        return int.from_bytes(digest, "big") / 2**64

    return [row for row in rows if lot(row[1]) < 0.3]


def test_what_a_terminal_shows(tmp_path: Path) -> None:
    rows = [*sentences(80), ("de", "  "), *[("en", text) for _, text in sentences(12, "de")]]
    shown = asked(tsv(tmp_path / "a.tsv", rows), "--out", tmp_path / "m.bin", "--buckets", 500, "--epochs", 3).output
    lines = shown.split("\n")
    assert lines[0].split() == ["language", "texts", "held", "out", "accuracy", "taken", "for"]
    assert [line.split()[0] for line in lines[1:4]] == ["de", "en", "ru"]
    assert "252 texts of 3 languages, 1 without text left out;" in shown
    assert "mean over languages" in shown


def test_every_form_gives_the_same_rows(tmp_path: Path) -> None:
    rows = sentences(4)
    named = [{"label": label, "text": text, "more": 1} for label, text in rows]
    tsv(tmp_path / "a.tsv", rows)
    (tmp_path / "b.tsv").write_text("text\tlabel\n" + "".join(f"{text}\t{label}\n" for label, text in rows))
    (tmp_path / "c.jsonl").write_text("\n\n".join(map(json.dumps, named)))
    (tmp_path / "d.jsonl.gz").write_bytes(gzip.compress((tmp_path / "c.jsonl").read_bytes()))
    pq.write_table(pa.Table.from_pylist(named), tmp_path / "e.parquet")
    with (tmp_path / "f.csv").open("w", newline="") as stream:
        table = csv.DictWriter(stream, ["more", "text", "label"])
        table.writeheader()
        table.writerows(named)
    (tmp_path / "g.txt").write_text("".join(f"__label__{label}\t{text}\r\n" for label, text in rows))
    for path in sorted(tmp_path.iterdir()):
        found = labelled([str(path)])
        assert list(zip(found.labels.to_pylist(), found.texts.to_pylist(), strict=True)) == rows, path.name
    assert len(labelled([str(tmp_path / "*.tsv")]).labels) == 2 * len(rows)


@pytest.mark.parametrize(
    ("name", "body", "told"),
    [
        ("a.tsv", "de\tein Text\nund keiner\n", r"line 2 of a\.tsv has no tab; write label<TAB>text"),
        ("a.tsv", "de\tein Text\n\tText\n", r"line 2 of a\.tsv has the label ''; make it one word"),
        ("a.tsv", "de\tein Text\n\nde en\tText\n", r"line 3 of a\.tsv has the label 'de en'"),
        ("a.tsv", b"de\tein Text\nen\tcaf\xe9\n", r"line 2 of a\.tsv cannot be read \('utf-8' codec"),
        ("a.tsv", "", r"a\.tsv holds no labelled text"),
        ("a.tsv", "de\t \n", r"a\.tsv holds no labelled text"),
        ("a.jsonl", '{"label": "de", "text": "a"}\n{"label": "de"\n', r"line 2 of a\.jsonl cannot be read"),
        ("a.jsonl", '{"label": "de", "text": "a"}\n[1]\n', r"line 2 of a\.jsonl has no label and text"),
        ("a.jsonl", '{"label": "de", "text": null}\n', r"line 1 of a\.jsonl has no label and text"),
        ("a.csv", "label,txt\nde,Text\n", r"row 1 of a\.csv has no label and text"),
        ("a.parquet", b"PAR1", r"a\.parquet cannot be read"),
        ("a.tsv.gz", gzip.compress(b"de\tein Text\n" * 9999)[:-20], r"a\.tsv\.gz cannot be read"),
        ("a.xml", "<a/>", r"a\.xml is in no form that is read here"),
    ],
)
def test_a_row_that_cannot_be_read_is_named(tmp_path: Path, name: str, body: str | bytes, told: str) -> None:
    path = tmp_path / name
    path.write_bytes(body if isinstance(body, bytes) else body.encode())
    with pytest.raises(ValueError, match=told):
        labelled([str(path)])


def test_what_cannot_be_trained_is_refused(tmp_path: Path) -> None:
    one = tsv(tmp_path / "one.tsv", sentences(20, "de"))
    two = tsv(tmp_path / "two.tsv", sentences(20, "de en"))
    out = tmp_path / "m.bin"
    assert "name one language alone, de" in refusal(one, "--out", out)
    assert "there is no file" in refusal(tmp_path / "none.tsv", "--out", out)
    assert "end it in .bin, or .ftz" in refusal(two, "--out", tmp_path / "m.model")
    assert "--holdout is 0.0; it is a share" in refusal(two, "--out", out, "--holdout", 0)
    assert "every text of" in refusal(two, "--out", out, "--holdout", 0.99)
    assert "no text of 40 is held out" in refusal(two, "--out", out, "--holdout", 1e-9)
    assert "--shortest is 5 and --longest 4" in refusal(two, "--out", out, "--shortest", 5)
    assert "--epochs is 0; make it at least 1" in refusal(two, "--out", out, "--epochs", 0)
    assert "make lr more than 0" in refusal(two, "--out", out, "--lr", 0)
    assert "out of bounds with lr" in refusal(two, "--out", out, "--lr", 1e30, "--buckets", 100)
    assert "fastText cannot quantize" in refusal(two, "--out", tmp_path / "m.ftz", "--buckets", 10)
    assert not out.exists()


def test_hostile_texts_to_learn_from(tmp_path: Path) -> None:
    rows = [*sentences(10), ("de", "\x01\x02"), ("de", "__label__en </s>"), ("en", "x" * 300_000), ("ru", "a\0b\x85c")]
    told = train((str(tsv(tmp_path / "a.tsv", rows)),), str(tmp_path / "m.bin"), SMALL, holdout=0.2, keep=0)
    assert told["texts"] == len(rows)
    import fasttext

    assert {*fasttext.load_model(str(tmp_path / "m.bin")).labels} == {"__label__de", "__label__en", "__label__ru"}
