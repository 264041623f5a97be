"""From files to a fine-tuning: what is read, split and told, and the command on top."""

import json
import math
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from tests import toys
from tundish.pipeline import tuned_classes
from tundish.pipeline.cli import cli
from tundish.pipeline.cli_finetune import aids_of, besides, columns_of, fallen, sizes_of, table_of
from tundish.pipeline.cli_options import laid_folder, named_tests
from tundish.pipeline.export import export
from tundish.stages import finetune_task
from tundish.stages.examples_tokens import load
from tundish.stages.finetune_files import prepared
from tundish.stages.finetune_task import Aids

WORDS = ("heron", "crane", "water", "stone", "night", "river", "feather", "wind")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    to = tmp_path_factory.mktemp("tuned") / "model"
    export(toys.trained_root(tmp_path_factory.getbasetemp()), str(to))
    return str(to)


@pytest.fixture
def labelled(tmp_path: Path) -> str:
    draw = np.random.default_rng(3)
    lines = ["label\tsentence"]
    for number in range(120):
        words = draw.choice(WORDS, 6)
        lines.append(f"{'glad' if number % 3 else 'sad'}\t{number} {' '.join(words)}")
    (tmp_path / "labelled.tsv").write_text("\n".join(lines) + "\n")
    return str(tmp_path / "labelled.tsv")


def texts(task, name: str) -> set[str]:
    return set(load(task.parts[name])[0]["id"].to_pylist())


def test_without_more_files_train_gives_dev_and_test(model: str, labelled: str, tmp_path: Path) -> None:
    task, report = prepared(model, "classify", {"train": labelled}, str(tmp_path), columns={"text": "sentence"})
    parts = {name: texts(task, name) for name in task.parts}
    assert sorted(parts) == ["dev", "test", "train"]
    assert sum(map(len, parts.values())) == 120
    assert not parts["train"] & (parts["dev"] | parts["test"])
    shares = {name: len(each) / 120 for name, each in parts.items()}
    assert shares["test"] == pytest.approx(0.2, abs=0.02)
    assert shares["dev"] == pytest.approx(0.08, abs=0.02)
    for part in report["parts"].values():
        assert part["classes"]["glad"]["share"] == pytest.approx(2 / 3, abs=0.08)
    labels = load(task.parts["train"])[0]["label"].to_numpy()
    for size in (12, 24, 48):
        assert labels[:size].mean() == pytest.approx(labels.mean(), abs=0.5 / size + 0.05), (
            "the first rows are a sample"
        )


def test_runs_are_of_what_the_files_hold_and_not_of_where_they_lie(model: str, labelled: str, tmp_path: Path) -> None:
    def key(file: str, out: str, folder: str = model) -> str:
        (tmp_path / out).mkdir(exist_ok=True)
        return prepared(folder, "classify", {"train": file}, str(tmp_path / out), columns={"text": "sentence"})[0].key

    first = key(labelled, "one")
    shutil.copytree(model, tmp_path / "moved")
    assert key(labelled, "two", str(tmp_path / "moved")) == first
    Path(labelled).write_text(Path(labelled).read_text().replace("glad\t4 ", "sad\t4 "))
    assert key(labelled, "one") != first, "a label is another now"
    config = json.loads((tmp_path / "moved" / "config.json").read_text())
    (tmp_path / "moved" / "config.json").write_text(json.dumps(config | {"more": 1}))
    assert key(labelled, "two", str(tmp_path / "moved")) != key(labelled, "two")


def test_texts_that_a_test_has_as_well_are_told_and_can_leave(model: str, labelled: str, tmp_path: Path) -> None:
    rows = Path(labelled).read_text().split("\n")
    (tmp_path / "other.tsv").write_text("\n".join([rows[0], *rows[1:11]]) + "\n")
    files = {"train": labelled, "other": str(tmp_path / "other.tsv")}
    given = {"columns": {"text": "sentence"}}
    task, report = prepared(model, "classify", files, str(tmp_path / "both"), **given)
    assert any("10 of 10 texts of other are in train too" in each for each in report["told"])
    assert texts(task, "other") & (texts(task, "train") | texts(task, "dev"))
    task, report = prepared(model, "classify", files, str(tmp_path / "apart"), apart=True, **given)
    assert report["removed_from_train"] == 10
    assert not texts(task, "other") & (texts(task, "train") | texts(task, "dev"))


def test_questions_about_one_text_stay_together(model: str, tmp_path: Path) -> None:
    rows = []
    for number in range(60):
        context = f"The heron number {number // 3} stood in the river beside a stone."
        rows.append({"id": f"q{number}", "context": context, "question": f"Where, {number}?", "answers": ["the river"]})
    (tmp_path / "asked.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    task, _ = prepared(model, "answer", {"train": str(tmp_path / "asked.jsonl")}, str(tmp_path), length=40)
    found = {name: load(uri)[0]["key"].to_pylist() for name, uri in task.parts.items()}
    whose = {name: {int(key[1:]) // 3 for key in keys} for name, keys in found.items()}
    assert not whose["train"] & whose["test"]
    assert not whose["train"] & whose["dev"]
    assert len(set(found["test"])) == len(task.truth["test"])
    assert all(each["answers"] == ["the river"] for each in task.truth["test"].values())


def test_the_command_tells_scores_beside_what_they_have_to_beat(model: str, labelled: str, tmp_path: Path) -> None:
    words = ["finetune", model, "--train", labelled, "--column", "text=sentence", "--out", str(tmp_path / "out")]
    words += ["--seeds", "2", "--epochs", "1", "--sizes", "30", "--aid", "smoothing=0.1"]
    shown = CliRunner().invoke(cli, words, catch_exceptions=False).output
    result = json.loads((tmp_path / "out" / "result.json").read_text())
    scores = result["parts"]["test"]["pretrained"]["accuracy"]
    assert f"{scores['mean']:.3f}" in shown
    assert f"{result['parts']['test']['majority']['accuracy']:.3f}" in shown
    assert "expected calibration error" in shown
    assert result["f1_of"] == "sad"
    assert "f1 of sad" in shown
    assert "of 30" in shown
    again = CliRunner().invoke(cli, [*words, "--json"], catch_exceptions=False).output
    assert json.loads(again[again.index("{") :]) == result, "every run is there already"


def run_of(seed: int, score: float, *, pretrained: bool = True, failed: str = "", size: int = 0) -> dict:
    scores = {} if failed else {"test": {"accuracy": score}, "other": {"accuracy": 0.9}}
    return {"seed": seed, "size": size, "pretrained": pretrained, "failed": failed, "scores": scores}


def test_seeds_that_failed_or_learnt_nothing_are_named() -> None:
    runs = [run_of(1, 0.5), run_of(2, 0.8), run_of(3, float("nan")), run_of(4, 0, failed="the loss was nan in epoch 1")]
    runs += [run_of(1, 0.7, pretrained=False), run_of(2, 0.4, pretrained=False), run_of(2, 0.1, size=30)]
    parts = {name: {"majority": {"accuracy": 0.5}} for name in ("test", "other")}
    told = {"task": "classify", "measure": "accuracy", "runs": runs, "parts": parts, "tested": ["test", "other"]}
    assert fallen(told) == [
        "pretrained weights: seed 4 failed: the loss was nan in epoch 1",
        "pretrained weights, test: 2 of 4 seeds (1, 3) no better than the most frequent class (accuracy 0.500)",
        "fresh weights, test: 1 of 2 seeds (2) no better than the most frequent class (accuracy 0.500)",
    ]
    parts = {name: {"majority": None} for name in ("test", "other")}
    assert len(fallen(told | {"parts": parts})) == 1


def calibrated(**told: Any) -> dict[str, Any]:
    after = {"after": {"expected_error": {"mean": 0.05}}}
    return {"measure": "", "calibration": {"test": {"before": {"expected_error": {"mean": 0.1}}, **after, **told}}}


def test_seeds_without_a_temperature_are_told_in_the_terminal() -> None:
    (said,) = besides(calibrated(temperatures=[1.5, 2.5]))
    assert said == "test: expected calibration error 0.100, 0.050 at a temperature of 2.00 (fitted on dev)"
    (said,) = besides(calibrated(temperatures=[1.0, 2.0], unfitted=1))
    assert "at a temperature of 1.50 (fitted on dev); no temperature was fitted for 1 of 2 seeds (" in said
    (said,) = besides(calibrated(temperatures=[1.0, 1.0], unfitted=2))
    assert said.startswith("test: expected calibration error 0.100; no temperature was fitted (dev is all told")


def test_classes_are_counted_in_a_line() -> None:
    classes = {f"c{number}": {"count": 100 - number} for number in range(10)}
    parts = {"train": {"classes": classes}, "test": {"classes": {"other": {"count": 1}}}}
    said = ", ".join(f"c{number} {100 - number}" for number in range(8))
    assert tuned_classes.line({"parts": parts}) == f"classes of train: {said}, and 2 more with 183 together"
    entities = {"train": {"entities": {"PER": 2, "LOC": 30}}}
    assert tuned_classes.line({"parts": entities}) == "entities of train: LOC 30, PER 2"
    assert tuned_classes.line({"parts": {"train": {"rows": 3}}}) == ""


def test_equal_seeds_are_told_in_the_table() -> None:
    mean = {"mean": 1.0, "seeds": [1.0, 1.0], "interval": [1.0, 1.0]}
    apart = {"mean": 0.9, "seeds": [0.8, 1.0], "interval": [0.7, 1.0]}
    parts = {"test": {"pretrained": {"accuracy": mean, "macro_f1": apart}, "majority": None}}
    table = table_of({"tested": ["test"], "measure": "accuracy", "parts": parts, "task": "classify", "names": []})
    assert list(table.columns[3].cells) == ["all seeds equal", "0.700 to 1.000"]


QUICK = """
import sys
from tundish.pipeline import tuned_classes
from tundish.pipeline.cli import cli
for words in {given}:
    try:
        cli.main(words, standalone_mode=False)
    except Exception as error:
        print(error.format_message() if hasattr(error, "format_message") else error)
print("slow:", *(name for name in ("torch", "transformers") if name in sys.modules))
"""


def test_what_cannot_be_is_refused_before_torch_comes(labelled: str, tmp_path: Path) -> None:
    given = ["finetune", "model", "--train", labelled, "--out", str(tmp_path / "out")]
    each = {
        "no aid 'luck'": [*given, "--aid", "luck=1"],
        "lr is -1.0": [*given, "--lr", "-1"],
        "'tell' is not one of": [*given, "--task", "tell"],
        "balance is of classify, and not of regress": [*given, "--task", "regress", "--aid", "balance=root"],
        "there is no file": [*given, "--dev", "none.tsv"],
        "'utf-9' is not known": [*given, "--encoding", "utf-9"],
        "the form 'xls' is not known": [*given, "--form", "xls"],
        "write it as role=column": ["predict", "model", labelled, "--column", "text"],
        "there is no file 'none": ["predict", "model", "none.tsv"],
    }
    code = QUICK.format(given=list(each.values()))
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    *lines, last = said.strip().split("\n")
    assert last.strip() == "slow:"
    assert len(lines) == len(each)
    for words, line in zip(each, lines, strict=True):
        assert words in line
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("label\tsentence\nglad\tone\nglad\ttwo\n", "glad"),
        ("label\ttext\nglad\tone\nsad\ttwo\n", "sentence"),
    ],
)
def test_bad_files_are_one_sentence(model: str, tmp_path: Path, line: str, words: str) -> None:
    (tmp_path / "bad.tsv").write_text(line)
    with pytest.raises(ValueError, match=words):
        prepared(model, "classify", {"train": str(tmp_path / "bad.tsv")}, str(tmp_path), columns={"text": "sentence"})


def test_an_unknown_label_in_a_test_is_named(model: str, labelled: str, tmp_path: Path) -> None:
    (tmp_path / "test.tsv").write_text("label\tsentence\nsorry\tA heron.\n")
    with pytest.raises(ValueError, match="sorry"):
        prepared(
            model, "classify", {"train": labelled, "test": str(tmp_path / "test.tsv")}, str(tmp_path),
            columns={"text": "sentence"},
        )  # fmt: skip


def test_what_is_cut_is_told_and_too_large_a_sample_refused_at_once(model: str, labelled: str, tmp_path: Path) -> None:
    given = {"columns": {"text": "sentence"}}
    _, report = prepared(model, "classify", {"train": labelled}, str(tmp_path), length=8, **given)
    assert any("texts are cut at 6 pieces" in each and each.startswith("train: ") for each in report["told"])
    _, report = prepared(model, "classify", {"train": labelled}, str(tmp_path), **given)
    assert not any("are cut" in each for each in report["told"])
    with pytest.raises(ValueError, match="and not 5000; ask for smaller"):
        prepared(model, "classify", {"train": labelled}, str(tmp_path), sizes=(20, 5000), **given)


def test_a_file_is_no_folder_to_write_to(labelled: str, tmp_path: Path) -> None:
    for out in (labelled, f"{labelled}/inside"):
        with pytest.raises(ValueError, match="give a folder"):
            laid_folder(out)
    laid_folder(str(tmp_path / "new" / "one"))
    assert (tmp_path / "new" / "one").is_dir()


def test_tests_have_names_of_their_own() -> None:
    assert named_tests(("a.tsv", "b.tsv", "out=c.tsv")) == {"test": "a.tsv", "test-2": "b.tsv", "out": "c.tsv"}
    assert named_tests(("x/a=1.tsv",)) == {"test": "x/a=1.tsv"}
    for given, words in ((("train=a.tsv",), "calls a test train"), (("a.tsv", "test=b.tsv"), "two tests are called")):
        with pytest.raises(ValueError, match=words):
            named_tests(given)


def test_what_the_shape_of_a_model_refuses_is_refused_before_a_part_is_laid(
    model: str, labelled: str, tmp_path: Path
) -> None:
    for more, words in (
        ({"aids": Aids(fresh_top=99)}, "fresh_top is 99, and the model has [0-9]+ blocks"),
        ({"pooling": "luck"}, "cannot be pooled by 'luck'"),
    ):
        with pytest.raises(ValueError, match=words):
            prepared(model, "classify", {"train": labelled}, str(tmp_path / "o"), columns={"text": "sentence"}, **more)
    assert not (tmp_path / "o").exists()


def test_words_of_the_command_are_understood_or_named() -> None:
    assert columns_of(("text=a", "label=-1")) == {"text": "a", "label": -1}
    assert aids_of(("rdrop=0.5", "lora=4", "balance=inverse")) == Aids(rdrop=0.5, lora=4, balance="inverse")
    for given, words in ((("rdrop",), "is not understood"), (("luck=1",), "of balance"), (("lora=many",), "as int")):
        with pytest.raises(ValueError, match=words):
            aids_of(given)
    from_recipe = {"lora": 4.0, "rdrop": 1, "balance": "root"}
    assert finetune_task.aids_of(from_recipe) == Aids(rdrop=1.0, lora=4, balance="root")
    for odd in (
        {"lora": 4.9},
        {"patience": 1.7},
        {"lora": math.nan},
        {"lora": math.inf},
        {"lora": None},
        {"rdrop": []},
    ):
        with pytest.raises(ValueError, match=f"the aid {next(iter(odd))} is .*; give it as"):
            finetune_task.aids_of(odd)
    with pytest.raises(ValueError, match="write it as role=column"):
        columns_of(("text",))
    for given in ("x", "100,0", "-5"):
        with pytest.raises(ValueError, match="is no number of examples"):
            sizes_of(given)
