"""Compression from files to its table: what is told is what lies there, and it goes on where it was."""

import functools
import json
import xml.etree.ElementTree as ET
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, models, pre_tokenizers

from tundish.operators.model.family import Model
from tundish.operators.model.init import initialise
from tundish.operators.model.shape import Shape
from tundish.pipeline.cli import cli
from tundish.stages import compress, compress_steps
from tundish.stages.compress_plot import drawn
from tundish.stages.compress_read import reader
from tundish.stages.compress_run import run
from tundish.stages.compress_speed import speeds, timed
from tundish.stages.finetune_files import prepared
from tundish.stages.finetune_runs import read, tune
from tundish.stages.predict import predictions, predictor

torch.set_num_threads(1)
SPECIALS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
WORDS = tuple(f"w{number}" for number in range(40))
SHAPE = Shape(vocabulary=45, width=32, layers=3, heads=4, ff=48, length=24)
CPU = torch.device("cpu")
GIVEN: dict[str, Any] = {"seeds": (1, 2), "epochs": 1, "lr": 2e-3, "rounds": 1}


def folder_of(folder: Path, shape: Shape = SHAPE, words: tuple[str, ...] = WORDS, seed: int = 1) -> str:
    """Fresh weights with a vocabulary of words."""
    folder.mkdir(parents=True)
    with torch.device("meta"):
        fresh = Model(shape)
    initialise(fresh, shape, seed=seed)
    ids = {word: number for number, word in enumerate((*SPECIALS, *words))}
    save_file({name: each.contiguous() for name, each in fresh.state_dict().items()}, folder / "model.safetensors")
    told = {"shape": asdict(shape), "specials": {name: ids[name] for name in SPECIALS}}
    (folder / "config.json").write_text(json.dumps(told))
    made = Tokenizer(models.WordLevel(ids, unk_token="[UNK]"))
    made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    made.add_special_tokens(list(SPECIALS))
    made.save(str(folder / "tokenizer.json"))
    return str(folder)


def labelled(path: Path, count: int, seed: int) -> str:
    """Texts whose label can be read off their words; texts hold a line separator, which is no end of a row."""
    draw, lines = np.random.default_rng(seed), ["text\tlabel"]
    for _ in range(count):
        each = draw.integers(0, 40, draw.integers(4, 12))
        lines.append(" ".join(WORDS[at] for at in each) + "\u2028\t" + ("high" if each.mean() > 19.5 else "low"))
    path.write_text("\n".join(lines) + "\n")
    return str(path)


@functools.cache
def tuned_below(base: Path) -> Path:
    """A folder with files, and a model tuned on them; once for all files of tests."""
    folder = base / "compressed"
    folder.mkdir()
    labelled(folder / "train.tsv", 200, 1)
    labelled(folder / "test.tsv", 80, 2)
    model = folder_of(folder / "encoder")
    files = {"train": str(folder / "train.tsv"), "test": str(folder / "test.tsv")}
    task, _ = prepared(model, "classify", files, str(folder / "tuned"), seeds=(1,), epochs=8, lr=3e-3, scratch=False)
    tune(task, 0, 1, lambda line: None)
    return folder


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tuned_below(tmp_path_factory.getbasetemp())


def made(place: Path, out: str, steps: str, means: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    files = {"train": str(place / "train.tsv"), "test": str(place / "test.tsv")}
    return run(str(place / "tuned"), files, str(place / out), steps.split(","), means, **(GIVEN | more))


@pytest.fixture(scope="module")
def whole(place: Path) -> dict[str, Any]:
    return made(place, "all", "heads,layers,magnitude,int8,onnx,heads+int8", {"share": 0.95, "heads": 1, "layers": 1})


def said(place: Path, folder: str) -> list[dict[str, Any]]:
    """What `predictions` says of the test, whatever the form of the model."""
    return list(predictions(reader(folder), str(place / "test.tsv"), {"text": "text"}))


def truth(place: Path) -> list[str]:
    return [line.split("\t")[1] for line in (place / "test.tsv").read_text().split("\n")[1:] if line]


def test_every_step_is_there_and_says_what_lies_there(place: Path, whole: dict[str, Any]) -> None:
    steps = whole["steps"]
    assert list(steps) == ["model", "recovery", "heads", "layers", "magnitude", "int8", "onnx", "heads+int8"]
    for path, one in steps.items():
        folder = str(place / "tuned") if path == "model" else str(place / "all" / path)
        weights = next(p for p in Path(folder).iterdir() if p.name in ("model.safetensors", "model.onnx"))
        assert one["bytes"] == weights.stat().st_size
        right = [row["label"] for row in said(place, folder)]
        accuracy = float(np.mean([mine == true for mine, true in zip(right, truth(place), strict=True)]))
        assert one["parts"]["test"]["seeds"][0] == pytest.approx(accuracy, abs=1e-6), path
        assert one["parts"]["test"]["mean"] == pytest.approx(np.mean(one["parts"]["test"]["seeds"]), abs=1e-6)
    assert json.loads((place / "all" / "compressed.json").read_text()) == whole | {"others": {}}


@pytest.mark.slow
def test_what_is_taken_away_is_gone(place: Path, whole: dict[str, Any]) -> None:
    steps, own = whole["steps"], whole["steps"]["model"]
    shapes = {p: json.loads((place / "all" / p / "config.json").read_text())["shape"] for p in steps if p != "model"}
    assert [shapes[path]["layers"] for path in ("heads", "layers", "int8")] == [3, 1, 3]
    assert [shapes[path]["heads"] for path in ("heads", "layers", "int8")] == [1, 4, 4]
    for path in ("heads", "layers"):
        assert steps[path]["parameters"] < own["parameters"]
        assert steps[path]["bytes"] < own["bytes"]
    assert steps["int8"]["bytes"] < 0.5 * own["bytes"]
    assert steps["heads+int8"]["bytes"] < steps["int8"]["bytes"]
    weights = load_file(place / "all" / "magnitude" / "model.safetensors")
    blocks = [each for name, each in weights.items() if ".blocks." in name and each.dim() == 2]
    none, of = sum(int((each == 0).sum()) for each in blocks), sum(each.numel() for each in blocks)
    assert none == round(0.95 * of), "as many zeros as were asked for, also behind the recovery"
    assert steps["magnitude"]["zeros"] == sum(int((each == 0).sum()) for each in weights.values())


def test_recoveries_are_told_and_bytes_and_graphs_say_nearly_the_same(place: Path, whole: dict[str, Any]) -> None:
    steps = whole["steps"]
    assert steps["model"]["parts"]["test"]["mean"] > 0.75
    for path in ("heads", "layers", "magnitude"):
        part = steps[path]["parts"]["test"]
        assert len(part["seeds"]) == 2
        assert part["interval"][0] <= part["mean"] <= part["interval"][1]
        assert [len(one["losses"]) for one in steps[path]["seeds"].values()] == [1, 1]
        assert steps[path]["parts"]["failed"] == 0
    rows = {path: said(place, str(place / ("all/" + path if path else "tuned"))) for path in ("", "int8", "onnx")}
    for path, close in (("onnx", 1e-5), ("int8", 0.05)):
        apart = [abs(one["probabilities"]["low"] - other["probabilities"]["low"]) for one, other in
                 zip(rows[""], rows[path], strict=True)]  # fmt: skip
        # each has a temperature of its own, fitted on dev
        assert max(apart) < close + 0.02, path
        assert {row["file"] for row in rows[path]} == {"test.tsv"}


def test_the_figure_shows_every_step(whole: dict[str, Any]) -> None:
    figure = drawn(whole)
    assert drawn(whole) == figure
    marks = {each.get("id") for each in ET.fromstring(figure).iter() if each.get("id")}
    assert {f"{cost}-{path}" for cost in ("latency", "bytes") for path in whole["steps"]} <= marks
    for cost, value in (("bytes", lambda one: one["bytes"]), ("latency", lambda one: one["speed"]["latency"])):
        price = {path: value(one) for path, one in whole["steps"].items()}
        for path, one in whole["steps"].items():
            rivals = [each for each in price if price[each] < price[path] and whole["steps"][each]["front"][cost]]
            beaten = any(path in whole["steps"][each]["above"] for each in price if price[each] == price[path])
            assert one["front"][cost] is (set(rivals) <= set(one["above"]) and not beaten), (cost, path)


def counting(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """Which steps are made from here on, with their seeds."""
    calls: list[tuple[str, int]] = []

    def noted(name: str, step: Callable[..., Any]) -> Callable[..., Any]:
        return lambda room, given, seed: calls.append((name, seed)) or step(room, given, seed)

    steps = {name: noted(name, step) for name, step in compress_steps.STEPS.items()}
    monkeypatch.setattr(compress, "STEPS", steps)
    return calls


@pytest.mark.slow
def test_what_is_sealed_is_not_made_again(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = counting(monkeypatch)
    first = made(place, "again", "layers,magnitude,layers+int8", seeds=(1,), epochs=1)
    assert calls == [("recovery", 1), ("layers", 1), ("magnitude", 1), ("int8", 1)]
    body = (place / "again" / "layers" / "model.safetensors").read_bytes()
    calls.clear()
    second = made(place, "again", "layers,magnitude,layers+int8", seeds=(1,), epochs=1)
    assert not calls
    for path, one in first["steps"].items():
        assert {k: v for k, v in one.items() if k not in ("speed", "front")} == {
            k: v for k, v in second["steps"][path].items() if k not in ("speed", "front")
        }
    made(place, "again", "layers", seeds=(1, 2), epochs=1)
    assert calls == [("recovery", 2), ("layers", 2)], "of seeds those that are missing"
    assert (place / "again" / "layers" / "model.safetensors").read_bytes() == body, "the first seed's"
    calls.clear()
    kept = made(place, "again", "magnitude,layers", {"share": 0.3}, seeds=(1, 2), epochs=1)
    assert calls == [("magnitude", 1), ("magnitude", 2)], "what its means decide, and nothing else"
    assert len(kept["steps"]["layers"]["parts"]["test"]["seeds"]) == 2
    calls.clear()
    fewer = made(place, "again", "layers", seeds=(2,), epochs=1)
    own = kept["steps"]["layers"]["parts"]["test"]["seeds"]
    assert fewer["steps"]["layers"]["parts"]["test"]["seeds"] == own[1:], "the seeds that are asked for"
    assert (
        made(place, "again", "magnitude", {"share": 0.3}, epochs=1)["steps"]["magnitude"]["parts"]
        == (kept["steps"]["magnitude"]["parts"])
    )
    assert not calls, "what was not asked for in between is still there"
    made(place, "again", "layers+int8", seeds=(1,), epochs=2)
    assert [name for name, _ in calls] == ["recovery", "layers", "int8"], "another training, and what stands on it"
    assert not (place / "again" / "seeds").exists(), "of one seed there are no others"
    calls.clear()
    for seeds in ((1, 2), (1, 2)):
        made(place, "again", "layers+int8", seeds=seeds, epochs=2)
    assert calls == [("recovery", 2), ("layers", 2), ("int8", 2)]
    calls.clear()
    (place / "again" / "seeds" / "2" / "layers" / "config.json").unlink()
    last = made(place, "again", "layers+int8", seeds=(1, 2), epochs=2)
    assert calls == [("layers", 2)], "a model that another step begins from is made again where it is gone"
    calls.clear()
    (place / "again" / "layers" / "config.json").unlink()
    again = made(place, "again", "layers+int8", seeds=(1, 2), epochs=2)
    assert calls == [("layers", 1)], "and so is the first seed's"
    assert again["steps"]["layers"]["seeds"] == last["steps"]["layers"]["seeds"], "with the same scores"


def test_a_step_is_a_function_of_its_seed(place: Path) -> None:
    one, two = (made(place, f"twin-{at}", "distil", {"hidden": 1.0}, seeds=(3,), epochs=1) for at in range(2))
    assert one["steps"]["distil"]["seeds"] == two["steps"]["distil"]["seeds"]
    bodies = [(place / f"twin-{at}" / "distil" / "model.safetensors").read_bytes() for at in range(2)]
    assert bodies[0] == bodies[1]


def test_before_is_before_the_recovery(place: Path) -> None:
    """Of a recovery that learns nothing both are one; of one that learns the seeds part."""
    how = {"layers": 1, "share": 0.97}
    still = made(place, "still", "layers,magnitude", how, lr=1e-12, seeds=(1,))
    moved = made(place, "moved", "layers", how, lr=5e-3)
    assert still["steps"]["recovery"]["seeds"]["1"]["scores"] == still["steps"]["model"]["seeds"][""]["scores"]
    for path in ("layers", "magnitude"):
        assert still["steps"][path]["seeds"]["1"]["scores"] == still["steps"][path]["seeds"]["1"]["before"]
    seeds = moved["steps"]["layers"]["seeds"]
    assert [each["before"] for each in seeds.values()] == [still["steps"]["layers"]["seeds"]["1"]["before"]] * 2
    assert len({each["losses"][0] for each in seeds.values()}) == 2
    assert all(each["scores"] != each["before"] for each in seeds.values())


def test_a_run_whose_loss_is_no_number_is_told(place: Path) -> None:
    with pytest.raises(ValueError, match="recovery came to no number with every seed"):
        made(place, "broken", "layers", seeds=(1, 2), epochs=1, lr=1e30)


def test_float_folders_are_those_of_a_fine_tuning(place: Path, whole: dict[str, Any]) -> None:
    """`stages/predict` reads them as they are, with the temperature that was fitted on dev."""
    for path in ("heads", "layers", "magnitude"):
        it = predictor(str(place / "all" / path))
        assert it.names == ("high", "low")
        assert it.heat == reader(str(place / "all" / path)).heat != 1.0
    assert reader(str(place / "all" / "int8")).heat != 1.0
    assert reader(str(place / "all" / "int8"), calibrated=False).heat == 1.0
    with pytest.raises(ValueError, match="no fine-tuned model"):
        reader(str(place))


def test_the_command(place: Path, whole: dict[str, Any]) -> None:
    words = ["compress", str(place / "tuned"), "--train", str(place / "train.tsv"), "--out", str(place / "command")]
    words += ["--test", f"in={place / 'test.tsv'}", "--steps", "int8", "--threads", "1"]
    told = CliRunner().invoke(cli, [*words, "--json"], catch_exceptions=False)
    result = json.loads(told.stdout)
    assert list(result["steps"]) == ["model", "int8"]
    assert result["tested"] == ["in"]
    assert result["machine"]["threads"] == 1
    assert (place / "command" / "compressed.svg").read_text().startswith("<?xml")
    shown = CliRunner().invoke(cli, words, catch_exceptions=False)
    assert "int8: matrices in bytes" in shown.output
    assert f"the page: {place / 'command' / 'report.html'}" in shown.output
    assert max(map(len, shown.output.split("\n")[:-2])) <= 80, "as wide as what is no terminal"


@pytest.mark.parametrize(
    ("steps", "means", "words"),
    [
        ("melt", {}, "'melt' is no step"),
        ("int8+heads", {}, "let int8 be the last"),
        ("onnx+heads", {}, "let onnx be the last"),
        ("heads+heads", {}, "a step twice"),
        ("int8+recovery", {}, "let int8 be the last"),
        ("", {}, "'' is no step"),
        ("heads", {"share": 1.0}, "share of 1.0"),
        ("heads", {"alpha": 2.0}, "alpha is 2.0"),
        ("heads", {"temperature": 0.0}, "temperature is 0.0"),
        ("magnitude,heads", {"heads": 9}, "9 of 4 heads"),
        ("magnitude,layers", {"layers": 9}, "9 of 3 layers"),
        ("heads", {"way": "luck"}, "way is 'luck'"),
        ("heads", {"scope": "row"}, "scope is 'row'"),
        ("distil", {"hidden": 1.0, "match": "0:7"}, "0:7 are not both there"),
    ],
)
def test_what_cannot_be_done_is_said(place: Path, steps: str, means: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        made(place, "refused", steps, means, seeds=(1,), epochs=1)
    assert not (place / "refused" / "magnitude").exists(), "before anything is trained"


def test_labels_that_the_model_does_not_know_are_refused(place: Path, tmp_path: Path) -> None:
    path = tmp_path / "other.tsv"
    path.write_text("text\tlabel\n" + "w1 w2 w3\tmiddle\nw3 w4 w9\tlow\n" * 10)
    with pytest.raises(ValueError, match="middle"):
        run(str(place / "tuned"), {"train": str(path)}, str(tmp_path / "out"), ["int8"], {}, **GIVEN)


def test_bytes_and_graphs_are_no_beginning(place: Path, whole: dict[str, Any], tmp_path: Path) -> None:
    files = {"train": str(place / "train.tsv"), "test": str(place / "test.tsv")}
    for path in ("int8", "onnx"):
        with pytest.raises(ValueError, match="no bytes and no graph"):
            run(str(place / "all" / path), files, str(tmp_path / path), ["int8"], {}, **GIVEN)


def test_only_the_forward_pass_is_timed(place: Path) -> None:
    files = {"train": str(place / "train.tsv"), "test": str(place / "test.tsv")}
    task, _ = prepared(str(place / "tuned"), "classify", files, str(place / "timed"), scratch=False)
    rows = read(task, 24)["test"]
    ticks = iter((1.0, 3.5))
    asked: list[int] = []
    model = reader(str(place / "tuned")).model
    model.register_forward_hook(lambda _, given, __: asked.append(len(given[1].bounds) - 1))
    batches = [rows.batch(range(3), CPU), rows.batch(range(3, 8), CPU)]
    assert timed(model, batches, lambda: asked.append(-1) or next(ticks)) == 2.5
    assert asked == [-1, 3, 5, -1]
    asked.clear()
    found = speeds({"one": model, "two": model}, rows, rounds=2)
    assert set(asked) == {1, 32, 80 - 2 * 32}, "one text, and batches of 32"
    assert set(found) == {"one", "two"}
    assert all(each > 0 for speed in found.values() for each in speed)
