"""What benchmarks/finetune.py tells without a training run: fastText on the same rows, and rows of the corpus."""

import importlib
import io
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

FOLDER = Path(__file__).resolve().parents[1] / "benchmarks"
KEY = "abc"


@pytest.fixture
def paired(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    monkeypatch.syspath_prepend(str(FOLDER))
    before = set(sys.modules)
    yield importlib.import_module("finetune_paired")
    for name in set(sys.modules) - before:
        if str(FOLDER) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]


def seal(folder: Path, seed: int, logits: Any, *, size: int = 0, failed: str = "") -> None:
    folder.joinpath("runs").mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps({"key": KEY}))
    name = f"{KEY}-pretrained-{seed}" + (f"-of-{size}" if size else "")
    (folder / "runs" / f"{name}.json").write_text(json.dumps({"run": {"seed": seed, "size": size}, "failed": failed}))
    body = io.BytesIO()
    np.savez(body, **{"test/logits": np.asarray(logits, np.float32), "dev/logits": np.zeros((2, 2))})
    (folder / "runs" / f"{name}.npz").write_bytes(body.getvalue())


def examples(texts: list[str], labels: list[str]) -> Any:
    second = pa.array([None] * len(texts), pa.large_string())
    table = pa.table({"text": texts, "second": second, "label": labels})
    return SimpleNamespace(kind="classify", table=table, names=("no", "yes"))


def test_a_difference_on_the_same_rows_is_a_statement(paired: ModuleType) -> None:
    draw = np.random.default_rng(1)
    truth = draw.integers(0, 2, 300)
    good, poor = (np.stack([np.where(draw.random(300) < p, truth, 1 - truth) for _ in range(3)]) for p in (0.9, 0.6))
    sides = [np.stack([paired.units("sst2", truth, one) for one in runs]) for runs in (poor, good)]
    told = paired.compared(paired.measure_of("sst2"), *sides)
    assert told["difference"] == pytest.approx((good == truth).mean() - (poor == truth).mean())
    assert told["theirs"] == pytest.approx((poor == truth).mean())
    assert 0.2 < told["interval"][0] < told["difference"] < told["interval"][1]
    assert (told["verdict"], told["chance"]) == ("ahead", pytest.approx(2 / 20)), (
        "of all ways to divide six runs two are as far apart"
    )
    back = paired.compared(paired.measure_of("sst2"), sides[1], sides[0])
    assert (back["verdict"], back["difference"]) == ("behind", pytest.approx(-told["difference"]))
    one = paired.compared(paired.measure_of("sst2"), sides[0][:1], sides[1][:1])
    assert one["verdict"] == "open", "of one seed nobody knows how far another would lie"
    same = paired.compared(paired.measure_of("sst2"), sides[0], sides[0])
    assert (same["verdict"], same["chance"]) == ("open", 1.0)


def test_each_task_is_compared_by_its_own_measure(paired: ModuleType) -> None:
    truth, said = np.array([0, 1, 1, 1]), np.array([1, 1, 1, 1])
    assert paired.measure_of("sst2")(paired.units("sst2", truth, said)) == 0.75
    assert paired.measure_of("cola")(paired.units("cola", truth, said)) == 0.0, "Matthews of one answer for all"
    assert paired.measure_of("cola")(paired.units("cola", truth, truth)) == 1.0
    assert paired.measure_of("scitldr")(paired.units("scitldr", truth, np.array([0.2, 0.4]))) == pytest.approx(0.3)


def test_what_is_sealed_is_read_seed_by_seed(paired: ModuleType, tmp_path: Path) -> None:
    assert paired.answered("sst2", tmp_path) == {}
    for seed in (10, 2):
        seal(tmp_path, seed, [[seed, 0.0], [0.0, seed]])
    seal(tmp_path, 3, [[0.0, 0.0]], failed="the loss was nan")
    seal(tmp_path, 4, [[9.0, 9.0]], size=40)
    found = paired.answered("sst2", tmp_path)
    assert {seed: logits.tolist() for seed, logits in found.items()} == {
        2: [[2.0, 0.0], [0.0, 2.0]], 10: [[10.0, 0.0], [0.0, 10.0]],
    }  # fmt: skip
    assert list(found) == [2, 10]
    parts = {"train": examples(["a"], ["0"]), "test": examples(["a"] * 3, ["0"] * 3)}
    with pytest.raises(ValueError, match="the run of seed 2 has 2 rows, and sst2 tests 3; run the task again"):
        paired.paired("sst2", parts, found)


def test_fasttext_learns_in_a_process_of_its_own(paired: ModuleType) -> None:
    pytest.importorskip("fasttext")
    alone = importlib.import_module("finetune_fasttext")
    train = [f"__label__{n % 2} {'heron' if n % 2 else 'stone'} {n}" for n in range(60)]
    found = alone.said(train, ["a heron", "the stone", ""], seed=1)
    assert [max(one, key=one.get) for one in found[:2]] == ["1", "0"]
    assert len(found) == 3
    assert found == alone.said(train, ["a heron", "the stone", ""], seed=1)
    with pytest.raises(ValueError, match=r"fastText ended with .*Empty vocabulary"):
        alone.said([], ["a heron"], seed=1)


def test_rows_of_the_corpus_are_counted_by_corpus(paired: ModuleType) -> None:
    draw = np.random.default_rng(5)
    words = [f"word{n}" for n in range(40)]
    lines = [" ".join(draw.choice(words, size)) for size in (20, 20, 20, 9, 4)]
    book = [f"{' '.join(draw.choice(words, 50))}. {lines[0].upper()}, and on", "nothing here"]
    web = [lines[1][: len(lines[1]) // 2], f"{lines[3]} {lines[2]}", lines[4]]
    texts = [(line,) if at else (line, "its second text") for at, line in enumerate(lines)]
    found = paired.contaminated(texts, {"book": lambda: book, "web": lambda: web, "none": list})
    assert found == {"examples": 5, "too_short": 1, "rows": 3, "by": {"book": 1, "web": 2, "none": 0}}

    def shares(row: tuple[str, ...], documents: list[str]) -> bool:
        """By words, one document and one gram after another."""
        plain = [each.lower().replace(",", "").replace(".", "").split() for each in documents]
        grams = [text.split()[at : at + 13] for text in row if len(text.split()) > 7
                 for at in range(max(1, len(text.split()) - 12))]  # fmt: skip
        return any(gram == each[at : at + len(gram)] for each in plain for gram in grams for at in range(len(each)))

    assert found["by"] == {name: sum(shares(row, each) for row in texts)
                           for name, each in (("book", book), ("web", web), ("none", []))}  # fmt: skip


def test_what_was_found_is_kept(paired: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    parts = {"train": examples(["x"], ["0"]), "test": examples(["heron"] * 4, ["0", "1", "1", "1"])}
    monkeypatch.setattr(paired, "guesses", lambda name, given, seed: np.zeros(4, np.int64))

    def given() -> Any:
        asked.append("parts")
        return parts

    def told() -> Any:
        return paired.beside("sst2", tmp_path, "sst2-m", given, {"web": lambda: ["a heron"]})

    before = told()
    assert before == {"contaminated": {"examples": 4, "too_short": 4, "rows": 0, "by": {"web": 0}}}
    for seed in (1, 2):
        seal(tmp_path / "sst2-m", seed, [[1, 0], [0, 1], [0, 1], [0, 1]])
    after = told()
    assert after["paired"]["seeds"] == [1, 2]
    assert (after["paired"]["theirs"], after["paired"]["difference"]) == (0.25, 0.75)
    assert told() == after
    assert len(asked) == 2, "what is there is not found again"
    assert paired.cells(after)[0].startswith("+0.750 (")
    assert paired.cells(after)[1] == "0 of 4"
