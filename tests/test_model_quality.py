"""Quality by models: fastText classifiers taught and asked, encoders that grade; on generated and on real pages."""

import io
import json
import random
import shutil
import tarfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import zstandard

from tests import toys
from tests.sample_archive import DATE
from tundish.cluster.local import Local
from tundish.operators.model.asking import outputs_of
from tundish.operators.model.heads import begun
from tundish.operators.text import classify, tokenizer
from tundish.operators.web.warc_write import pair
from tundish.pipeline.run import Outcome, run
from tundish.pipeline.verify import verify
from tundish.stages.extract import Extract
from tundish.stages.finetune import Finetune
from tundish.stages.grade import Grade
from tundish.stages.identify import Identify
from tundish.stages.ingest import Ingest
from tundish.stages.predict import predictions, predictor
from tundish.stages.predict_corpus import Asking, Predict, Predicted, opening
from tundish.stages.rate import Rate
from tundish.stages.read import Read
from tundish.stages.teach import Teach

SMALL = classify.Settings(dimension=8, buckets=500, ngrams=3, least=1, epochs=5)
GOODS = ("lamp", "chair", "kettle", "blanket", "jacket", "Becher", "靴", "torch")


def advert(seed: int) -> str:
    """A list of things for sale, another one for every seed."""
    draw = random.Random(seed)
    return "\n".join(
        f"{draw.choice(GOODS)} {draw.choice('ABCDE')}{draw.randrange(99)}\nNow {draw.randrange(99)}.90, add to cart"
        for _ in range(9)
    )


def texts(number: int) -> tuple[list[str], list[str]]:
    """Lines of prose and adverts in turn, and what they are."""
    lines = [classify.line(toys.prose(n) if n % 2 else advert(n)) for n in range(number)]
    return lines, ["good" if n % 2 else "bad" for n in range(number)]


# -- the operator


@pytest.fixture(scope="module")
def taught(tmp_path_factory: pytest.TempPathFactory) -> Any:
    path = tmp_path_factory.mktemp("model") / "model.bin"
    path.write_bytes(classify.train(*texts(60), SMALL))
    return classify.load(str(path))


def test_training_is_the_same_every_time_and_hangs_on_the_seed() -> None:
    lines, labels = texts(40)
    first = classify.train(lines, labels, SMALL)
    assert first == classify.train(lines, labels, SMALL)
    assert first != classify.train(lines, labels, classify.Settings(8, 500, 3, 1, 5, seed=2))


def test_fasttext_reads_the_model_as_it_was_meant(taught: Any) -> None:
    """fastText's own words, vectors and answers against a slow reading of the file's meaning."""
    lines, labels = texts(60)
    words = taught.words
    assert classify.labels(taught) == ["bad", "good"]
    assert set(words) == {word for line in lines for word in [*line.split(), classify.END]}
    vectors, weights = taught.get_input_matrix(), taught.get_output_matrix()
    assert vectors.shape == (len(words) + 500, 8)
    for line in [*lines[:6], "unseen words in the harbour 靴 Ørsted’s"]:
        rows = features(line, words)
        scores = weights @ vectors[rows].mean(0)
        chances = np.exp(scores) / np.exp(scores).sum()
        order = [label.removeprefix(classify.PREFIX) for label in taught.labels]
        expected = [chances[order.index(label)] for label in ("bad", "good")]
        assert classify.given([line], taught)[0] == pytest.approx(expected, abs=1e-4)
    guesses = classify.given(lines, taught).argmax(1)
    assert (guesses == [label == "good" for label in labels]).all()


def features(line: str, words: Sequence[str]) -> list[int]:
    """Rows of fastText's input matrix: words, then runs of 2 and 3 of them, hashed with signed arithmetic."""
    tokens = [*line.split(), classify.END]
    rows = [words.index(token) for token in tokens if token in words]
    hashes = [signed(token) for token in tokens]
    for n in (2, 3):
        for at in range(len(tokens) - n + 1):
            state = hashes[at]
            for value in hashes[at + 1 : at + n]:
                state = state * 116049371 + value
            rows.append(len(words) + state % 2**64 % 500)
    return rows


def signed(token: str) -> int:
    state = 2166136261
    for byte in token.encode():
        state = ((state ^ (byte - 256 if byte > 127 else byte)) * 16777619) % 2**32
    return state - 2**32 if state >= 2**31 else state


def test_training_is_descent_on_the_softmax_loss(tmp_path: Path) -> None:
    """Ten epochs in plain numpy, float64, from the same start."""
    lines, labels = texts(12)
    told = classify.Settings(dimension=8, buckets=500, ngrams=3, least=1, epochs=10, lr=2.0, seed=4)
    (tmp_path / "model.bin").write_bytes(classify.train(lines, labels, told))
    model = classify.load(str(tmp_path / "model.bin"))
    words = model.words
    drawn = np.random.Generator(np.random.PCG64(4)).random((len(words) + 500, 8), np.float32)
    vectors, weights = (2.0 * drawn.astype(np.float64) - 1) / 8, np.zeros((2, 8))
    for step in range(120):
        rows, truth = features(lines[step % 12], words), np.array([step % 2 == 0, step % 2 == 1], float)
        hidden = vectors[rows].mean(0)
        chances = np.exp(weights @ hidden) / np.exp(weights @ hidden).sum()
        push = 2.0 * (1 - step / 120) * (truth - chances)
        back = push @ weights
        weights += np.outer(push, hidden)
        np.add.at(vectors, rows, back / len(rows))
    assert np.abs(weights).max() > 0.1
    assert model.get_output_matrix() == pytest.approx(weights, abs=1e-5)
    assert model.get_input_matrix() == pytest.approx(vectors, abs=1e-5)


def test_odd_texts_are_lines_and_have_chances(taught: Any) -> None:
    odd = ["a\r\nb\u2028c\x85d", "</s> tide </s>", "x __label__good", "\x00tide\x00", "\n\n", "é" * 50_000, "🙂 ‮abc"]
    lines = [classify.line(text) for text in odd]
    assert lines[:3] == ["a b c d", "</s tide </s", "x __labe__good"]
    assert all("\n" not in line for line in lines)
    found = classify.chances(pa.array([*odd, None, ""], pa.large_string()), taught, "good").to_pylist()
    assert [n for n, value in enumerate(found) if value is None] == [4, 7, 8]
    assert all(value is None or 0 <= value <= 1 for value in found)
    alone = [classify.chances(pa.array([text], pa.large_string()), taught, "good")[0].as_py() for text in odd]
    assert alone == found[: len(odd)], "a neighbour changed a result"


def test_scores_are_the_textbooks() -> None:
    truth = np.array([0, 0, 1, 1, 1])
    chances = np.array([[0.9, 0.1], [0.4, 0.6], [0.3, 0.7], [0.4, 0.6], [0.8, 0.2]])
    told = classify.scores(truth, chances)
    assert told["accuracy"] == pytest.approx(3 / 5)
    assert told["macro_f1"] == pytest.approx((2 * 1 / 4 + 2 * 2 / 6) / 2)
    assert told["auc"] == pytest.approx((1 + 1 + 1 + 0.5 + 1 + 0) / 6)


def test_one_label_and_a_wrong_file_are_refused(tmp_path: Path, taught: Any) -> None:
    with pytest.raises(ValueError, match="1 labels have text"):
        classify.train(["a", "b"], ["good", "good"], SMALL)
    with pytest.raises(ValueError, match="out of bounds"):
        classify.train(*texts(40), classify.Settings(8, 500, 1, 1, 5, lr=1e30))
    (tmp_path / "x.bin").write_bytes(b"no model at all")
    with pytest.raises(ValueError, match="is no fastText classifier"):
        classify.load(str(tmp_path / "x.bin"))
    with pytest.raises(ValueError, match="no label 'fine'; choose one of bad, good"):
        classify.chances(pa.array(["a"], pa.large_string()), taught, "fine")


# -- Teach and Rate


def documents(path: Path, made: Sequence[str], files: int = 1) -> Read:
    path.mkdir()
    for number in range(files):
        rows = [json.dumps({"id": f"{path.name}/{n}", "text": text}) for n, text in enumerate(made)][number::files]
        (path / f"{path.name}-{number}.jsonl").write_text("\n".join(rows))
    return Read((str(path / f"{path.name}-*.jsonl"),))


def recipe(folder: Path, files: int = 1, **more: Any) -> Rate:
    good = documents(folder / "good", [toys.prose(n) for n in range(60)], files)
    bad = documents(folder / "bad", [*(advert(n) for n in range(40)), "  "], files)
    asked = documents(folder / "new", [toys.prose(900), advert(900), "\n", toys.prose(901), advert(901)], files)
    teacher = Teach({"good": good, "bad": bad}, **{"dimension": 8, "buckets": 1000, **more})
    return Rate(asked, teacher)


def found(outcome: Outcome, name: str) -> Any:
    (dataset,) = (d for a, d in outcome.datasets.items() if a.startswith(f"{name}-"))
    return dataset


def test_taught_and_rated_alike_on_any_shards(tmp_path: Path) -> None:
    outcomes = []
    for files in (1, 3):
        (tmp_path / str(files)).mkdir()
        outcomes.append(run(recipe(tmp_path / str(files), files), Local(), str(tmp_path / f"root{files}")))
    models = [{s.name: s.digest for s in found(o, "teach").shards} for o in outcomes]
    assert models[0] == models[1]
    result = found(outcomes[0], "teach").about["result"]
    assert result["accuracy"] > 0.9 > result["majority"]["accuracy"]
    assert sum(result["train"].values()) + sum(result["test"].values()) + result["left_out"] == 100
    one, three = ({row["id"]: row["quality_good"] for row in o.dataset.table().to_pylist()} for o in outcomes)
    assert one == three
    read = {r["id"]: r["text"] for r in outcomes[0].datasets[outcomes[0].goal.documents.address].table().to_pylist()}
    for name, value in one.items():
        if not read[name]:
            assert value is None
        else:
            assert (value > 0.5) == read[name].startswith("The")
    assert outcomes[0].dataset.table().schema.field("quality_good").type == pa.float64()
    assert verify(str(tmp_path / "root1")) == []
    assert not run(outcomes[0].goal, Local(), str(tmp_path / "root1")).seconds


def test_what_was_learned_from_is_not_scored(tmp_path: Path) -> None:
    same = documents(tmp_path / "same", ["The very same text."] * 30 + [toys.prose(n) for n in range(30)])
    bad = documents(tmp_path / "bad", [advert(n) for n in range(40)])
    outcome = run(Teach({"good": same, "bad": bad}, dimension=8, buckets=0, ngrams=1), Local(), str(tmp_path / "root"))
    result = outcome.dataset.about["result"]
    assert result["left_out"] >= 2
    folder = Path(outcome.dataset.uri)
    lines = [json.loads(line) for line in (folder / "predictions.jsonl").read_text().split("\n") if line]
    assert len(lines) == sum(result["test"].values())


def test_hosts_stay_on_one_side(tmp_path: Path) -> None:
    def rows(kind: str, make: Any) -> Read:
        path = tmp_path / f"{kind}.jsonl"
        made = [{"url": f"http://{kind}{n % 10}.example/{n}", "text": make(n)} for n in range(60)]
        path.write_text("\n".join(map(json.dumps, made)))
        return Read((str(path),))

    teach = Teach({"good": rows("a", toys.prose), "bad": rows("b", advert)}, apart="host", dimension=8, buckets=100)
    outcome = run(teach, Local(), str(tmp_path / "root"))
    folder = Path(outcome.dataset.uri)
    held = {json.loads(line)["id"] for line in (folder / "predictions.jsonl").read_text().split("\n") if line}
    sides: dict[str, set[bool]] = {}
    for stage in teach.corpora.values():
        for row in outcome.datasets[stage.address].table().to_pylist():
            sides.setdefault(row["host"], set()).add(row["id"].hex() in held)
    assert len(sides) == 20
    assert all(len(side) == 1 for side in sides.values())
    assert {True} in sides.values()


def test_any_fasttext_file_rates(tmp_path: Path) -> None:
    path = tmp_path / "mine.bin"
    path.write_bytes(classify.train(*texts(60), SMALL))
    asked = documents(tmp_path / "new", [toys.prose(900), advert(900)])
    rate = Rate(asked, model=str(path), label="bad", called="adverts")
    table = run(rate, Local(), str(tmp_path / "root")).dataset.table()
    assert table.column_names == ["id", "quality_adverts"]
    prose, goods = table["quality_adverts"].to_pylist()
    assert prose < 0.5 < goods
    other = run(Rate(asked, model="lid.176", label="en"), Local(), str(tmp_path / "root")).dataset.table()
    assert other["quality_en"][0].as_py() > 0.8, "hierarchical softmax, quantised"
    path.write_bytes(classify.train(*texts(40), SMALL))
    assert run(rate, Local(), str(tmp_path / "root")).seconds, "another model under the same name rates anew"


def test_teach_and_rate_refuse_in_one_sentence(tmp_path: Path) -> None:
    good = documents(tmp_path / "good", [toys.prose(n) for n in range(20)])
    blank = documents(tmp_path / "blank", [" "] * 20)
    both = {"good": good, "bad": documents(tmp_path / "bad", [advert(n) for n in range(20)])}
    for make, sentence in (
        (lambda: Teach({"good": good}), "names 1 labels"),
        (lambda: Teach({"good": good, "very bad": good}), "one word without a slash"),
        (lambda: Teach({"good": good, "bad": Identify(good)}), "gives no documents"),
        (lambda: Teach({"good": good, "bad": Read(good.files)}), "are the same stage"),
        (lambda: Teach(both, holdout=0.0), "share between 0 and 1"),
        (lambda: Teach(both, apart="day"), "one of id, host"),
        (lambda: Teach(both, epochs=0), "at least 1"),
        (lambda: Teach(both, lr=0.0), "nor lr zero"),
        (lambda: Rate(good), "either a classifier"),
        (lambda: Rate(good, Teach(both), model="x.bin"), "either a classifier"),
        (lambda: Rate(good, Teach(both), label="fine"), "does not learn; it is one of good, bad"),
        (lambda: Rate(good, Identify(good)), "gives no 'fasttext'"),
    ):
        with pytest.raises(ValueError, match=sentence):
            make()
    root = str(tmp_path / "root")
    with pytest.raises(ValueError, match=r"no document is left after Read \(top reasons: no_text 20\)"):
        run(Teach({"good": good, "bad": blank}), Local(), root)
    with pytest.raises(ValueError, match=r"there is no model '/no/such\.bin'"):
        run(Rate(good, model="/no/such.bin"), Local(), root)
    with pytest.raises(ValueError, match=r"knows no label 'good'; set Rate\.label"):
        run(Rate(good, model="lid.176"), Local(), root)


# -- Grade


@pytest.fixture
def tuned(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Finetune]:
    """A root that holds a tiny classifier of glad and sad lines, and its stage."""
    folder = tmp_path_factory.getbasetemp() / "tuned"
    folder.mkdir(exist_ok=True)
    root = toys.trained_root(folder)
    return root, toys.trained(str(folder / "labels.tsv"))


def said(root: str, texts: list[str], folder: Path) -> list[dict[str, Any]]:
    """What `tundish predict` says of the texts, row by row."""
    (tuned,) = Path(root).glob("finetune-*")
    (folder / "asked.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    return list(predictions(predictor(str(tuned)), [str(folder / "asked.jsonl")]))


def test_grades_are_those_of_the_fine_tuned_encoder(tmp_path: Path, tuned: tuple[str, Finetune]) -> None:
    root, finetune = tuned
    made = [toys.prose(n, 1 + n % 5) for n in range(12)] + ["harbour" + " harbour" * 300, "東京" * 400]
    grade = Grade(documents(tmp_path / "new", made), finetune, {"glad": 3.0, "sad": 1.0})
    outcome = run(grade, Local(), root)
    table, read = outcome.dataset.table(), outcome.datasets[grade.documents.address].table()
    assert table.column_names == ["id", "grade", "grade_glad", "grade_sad"]
    given = dict(zip(map(str.strip, read["text"].to_pylist()), table.to_pylist(), strict=True))
    for text, expected in zip(map(str.strip, made), said(root, made, tmp_path), strict=True):
        assert given[text]["grade_glad"] == pytest.approx(expected["probabilities"]["glad"], abs=1e-5)
        assert given[text]["grade"] == pytest.approx(expected["probabilities"]["glad"], abs=1e-5)


def test_predictions_lie_beside_the_documents(tmp_path: Path, tuned: tuple[str, Finetune]) -> None:
    root, finetune = tuned
    made = [toys.prose(n, 1 + n % 3) for n in range(9)]
    read = documents(tmp_path / "new", made)
    outcome = run(Predict(read, finetune, column="mood", every=True), Local(), root)
    table = outcome.dataset.table()
    assert table.column_names == ["id", "mood", "mood_probability", "mood_glad", "mood_sad"]
    texts = outcome.datasets[read.address].table()["text"].to_pylist()
    given = dict(zip(map(str.strip, texts), table.to_pylist(), strict=True))
    for text, expected in zip(map(str.strip, made), said(root, made, tmp_path), strict=True):
        assert given[text]["mood"] == expected["label"]
        assert given[text]["mood_probability"] == pytest.approx(expected["probability"], abs=1e-5)
        assert given[text]["mood_sad"] == pytest.approx(expected["probabilities"]["sad"], abs=1e-5)
    assert verify(root) == []
    raw = run(Predict(read, finetune, calibrated=False), Local(), root).dataset.table()
    assert raw.column_names == ["id", "prediction", "prediction_probability"]
    assert raw["prediction"].to_pylist() == table["mood"].to_pylist(), "a temperature changes no order"
    (folder,) = Path(root).glob("finetune-*")
    odds = [
        np.log(p / (1 - p)) for p in (raw["prediction_probability"].to_numpy(), table["mood_probability"].to_numpy())
    ]
    assert odds[0] / predictor(str(folder)).heat == pytest.approx(odds[1], abs=1e-4)
    with pytest.raises(ValueError, match="a name of its own"):
        Predict(read, finetune, column="text")


def test_what_is_asked_is_divided_by_the_temperature_of_the_folder(tmp_path: Path, tuned: tuple[str, Finetune]) -> None:
    (sealed,) = Path(tuned[0]).glob("finetune-*")
    told = json.loads((shutil.copytree(sealed, tmp_path / "cold") / "result.json").read_text())
    next(iter(told["calibration"].values()))["temperatures"] = [0.5]
    told["runs"][0]["failed"] = ""
    (tmp_path / "cold" / "result.json").write_text(json.dumps(told))
    ask = Asking(str(tmp_path / "cold"), "cold", "classify", ("glad", "sad"), 16, True)
    texts = pa.chunked_array([[toys.prose(n, 2) for n in range(5)]])
    (found, _), (raw, _) = ask(texts), replace(ask, calibrated=False)(texts)
    assert np.log(found[:, 0] / found[:, 1]) == pytest.approx(2 * np.log(raw[:, 0] / raw[:, 1]))


NUMBERS = np.array([[0.1, 0.9], [0.8, 0.2], [0.5, 0.5]])
BLANK = np.array([False, False, True])


@pytest.mark.parametrize(
    ("kind", "found", "expected"),
    [
        ("regress", NUMBERS[:, :1], {"p": [0.1, 0.8, None]}),
        ("embed", NUMBERS, {"p": [[0.1, 0.9], [0.8, 0.2], None]}),
        ("multilabel", NUMBERS, {"p": [["b"], ["a"], None]}),
        ("multilabel", NUMBERS * 0.1, {"p": [[], [], None]}),
        ("classify", NUMBERS, {"p": ["b", "a", None], "p_probability": [0.9, 0.8, None]}),
    ],
)
def test_each_task_has_its_column(kind: str, found: np.ndarray, expected: dict[str, Any]) -> None:
    made = Predicted(Asking("", "", kind, ("a", "b"), 8, True), "p", False)._columns(found, BLANK)
    assert list(made) == list(expected)
    for name, values in expected.items():
        for one, other in zip(made[name].to_pylist(), values, strict=True):
            plain = other is None or isinstance(other, str) or kind == "multilabel"
            assert one == (other if plain else pytest.approx(other))


def test_outputs_do_not_hang_on_their_company(tuned: tuple[str, Finetune]) -> None:
    (folder,) = Path(tuned[0]).glob("finetune-*")
    it = predictor(str(folder))
    draw = random.Random(3)
    asked = [[draw.randrange(5, 300) for _ in range(draw.choice([0, 1, 5, 40, 126, 300]))] for _ in range(60)]
    together = outputs_of(it.model, asked, it.task.specials, budget=4000)
    alone = np.concatenate([outputs_of(it.model, [one], it.task.specials) for one in asked])
    assert np.abs(together - alone).max() < 1e-5
    assert np.array_equal(together, outputs_of(it.model, asked, it.task.specials, budget=4000))
    assert outputs_of(it.model, [], it.task.specials).shape == (0, 2)
    with pytest.raises(ValueError, match="says no one thing of a text"):
        outputs_of(begun(it.model.encoder.shape, "tokens", 3, seed=1), asked, it.task.specials)


def test_the_opening_of_a_text_has_the_pieces_of_the_whole(tuned: tuple[str, Finetune]) -> None:
    (folder,) = Path(tuned[0]).glob("finetune-*")
    pieces = tokenizer.load((folder / "vocabulary.model").read_bytes())
    made = [toys.prose(1, 300), "a " * 9000, " " * 9000 + "late", "x" * 9000, "東京へ行く。" * 2000, "", None]
    made += [toys.prose(2, 300).replace(" ", " \u0301")]
    whole = pieces.encode(pa.array(made, pa.large_string())).to_pylist()
    for length in (1, 16, 128):
        assert opening(made, pieces, length) == [tokens[:length] for tokens in whole]


def test_grade_refuses_labels_without_worth(tmp_path: Path, tuned: tuple[str, Finetune]) -> None:
    root, finetune = tuned
    new = documents(tmp_path / "new", ["A text."])
    for values, sentence in (
        (None, "what the label 'glad' is worth"),
        ({"glad": 1.0}, "what the label 'sad' is worth"),
        ({"glad": 1.0, "sad": 1.0}, "two different numbers"),
    ):
        with pytest.raises(ValueError, match=sentence):
            run(Grade(new, finetune, values), Local(), root)
    with pytest.raises(ValueError, match="gives no 'classifier'"):
        Grade(new, new)


def test_a_model_of_pairs_is_asked_about_no_document(tmp_path: Path, tuned: tuple[str, Finetune]) -> None:
    root = shutil.copytree(tuned[0], tmp_path / "root")
    rows = [f"{toys.prose(n, 1).strip()}\t{toys.prose(n + n % 2, 1).strip()}\t{n % 2}" for n in range(40)]
    (tmp_path / "pairs.tsv").write_text("\n".join(["text\tsecond\tlabel", *rows]) + "\n")
    own = {"seeds": (1,), "epochs": 1, "fresh": False, "columns": {"second": "second"}}
    pairs = replace(tuned[1], train=str(tmp_path / "pairs.tsv"), **own)
    new = documents(tmp_path / "new", ["A text."])
    for stage in (Predict(new, pairs), Grade(new, pairs)):
        with pytest.raises(ValueError, match="tuned on pairs of texts, and a document is one"):
            run(stage, Local(), str(root))


# -- real pages


def unpacked(path: Path) -> Any:
    return zstandard.ZstdDecompressor(max_window_size=2**27).stream_reader(path.open("rb"), read_across_frames=True)


def test_articles_are_told_from_listings_and_products(data: Path, tmp_path: Path) -> None:
    """The pages of web-wcxb through the project's own extractor; whole hosts are held out."""
    folder = data / "web-wcxb"
    if not folder.is_dir():
        pytest.skip("web-wcxb does not lie beside this checkout")
    kinds = {"article": "good", "listing": "bad", "product": "bad"}
    lines = io.TextIOWrapper(unpacked(folder / "gold.jsonl.zst"), "utf-8", newline="\n")
    gold = {row["file"].rsplit("/", 1)[-1]: row for row in map(json.loads, lines)}
    captures: dict[str, list[bytes]] = {"good": [], "bad": []}
    with tarfile.open(fileobj=unpacked(folder / "html.tar.zst"), mode="r|") as pages:
        for page in pages:
            row = gold.get(page.name.rsplit("/", 1)[-1])
            if row is None or row["page_type"] not in kinds or len(captures[kinds[row["page_type"]]]) >= 70:
                continue
            stream = pages.extractfile(page)
            assert stream is not None
            head = b"HTTP/1.1 200 OK\r\nContent-Type: text/html; charset=utf-8\r\n\r\n"
            request = b"GET / HTTP/1.1\r\n\r\n"
            one = pair(row["url"], date=DATE, request=request, response=head + stream.read())
            captures[kinds[row["page_type"]]].append(one)
    sources = {}
    for label, members in captures.items():
        (tmp_path / f"{label}.warc.gz").write_bytes(b"".join(members))
        sources[label] = Extract(Ingest((str(tmp_path / f"{label}.warc.gz"),)))
    outcome = run(Teach(sources, apart="host", epochs=50, ngrams=1, buckets=0), Local(), str(tmp_path / "root"))
    result = outcome.dataset.about["result"]
    assert result["auc"] > 0.8
    assert result["accuracy"] > result["majority"]["accuracy"]
