"""The options of a fine-tuning that search, divide, code and compare: what they say, and what they refuse."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from tests.writers import WORDS, folder_of, sentences
from tundish.operators.text import vocabulary
from tundish.pipeline.cli import cli
from tundish.pipeline.cli_search import lines

SEARCH = ["--search", "random", "--trials", "3", "--space", "lr=1e-3..1e-2:log", "--space", "batch=8,16"]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return folder_of(tmp_path_factory.mktemp("tuned") / "model", vocabulary.train(sentences(), size=288))


@pytest.fixture(scope="module")
def labelled(tmp_path_factory: pytest.TempPathFactory) -> str:
    draw = np.random.default_rng(3)
    path = tmp_path_factory.mktemp("labelled") / "rows.tsv"
    rows = [draw.choice(WORDS, 5) for _ in range(90)]
    said = [f"{'wet' if {'water', 'river'} & {*words} else 'dry'}\t{' '.join(words)}" for words in rows]
    path.write_text("label\ttext\n" + "\n".join(said) + "\n")
    return str(path)


def asked(model: str, labelled: str, out: Path, *more: str) -> str:
    words = ["finetune", model, "--train", labelled, "--out", str(out), "--seeds", "2", "--epochs", "1", *more]
    found = CliRunner().invoke(cli, words, catch_exceptions=False)
    assert found.exit_code == 0, found.output
    return found.output


def result(out: Path) -> dict[str, Any]:
    return json.loads((out / "result.json").read_text())


@pytest.fixture(scope="module")
def whole(model: str, labelled: str, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    out = tmp_path_factory.mktemp("whole") / "out"
    return out, asked(model, labelled, out, *SEARCH, "--splits", "2", "--code-length")


def test_the_runs_are_those_of_the_setting_that_was_found(whole: tuple[Path, str]) -> None:
    out, shown = whole
    told = result(out)
    assert told["search"] == json.loads((out / "search.json").read_text())
    best = told["search"]["best"]["setting"]
    assert (told["rate"], told["batch"]) == (best["lr"], best["batch"])
    assert len(list((out / "search").iterdir())) == 3
    assert len(list((out / "runs").glob("*.json"))) == 4
    config = json.loads((out / "config.json").read_text())
    assert all(path.name.startswith(config["key"]) for path in (out / "runs").iterdir())
    assert f"is best, accuracy {told['search']['best']['score']:.3f} on dev" in shown
    for point in told["search"]["expected_best"]:
        assert f"{point['mean']:.3f} ± {point['deviation']:.3f}" in shown


def test_splits_have_runs_of_their_own_by_the_same_setting(whole: tuple[Path, str]) -> None:
    out, shown = whole
    told = result(out)
    for number in (1, 2):
        other = result(out / "splits" / str(number))
        assert (other["rate"], other["batch"]) == (told["rate"], told["batch"])
        assert other["examples"] == told["examples"]
        scores = other["parts"]["test"]["pretrained"]["accuracy"]
        assert told["splits"]["random"][number - 1]["pretrained"] == scores
    assert told["splits"]["standard"]["pretrained"] == told["parts"]["test"]["pretrained"]["accuracy"]
    assert f"{told['splits']['over_splits']['pretrained']['mean']:.3f}" in shown
    sign = "the same" if told["splits"]["keeps_its_sign"] else "not the same"
    assert f"{sign} sign in all 3, clear in " in shown


def test_what_stands_beside_the_runs_is_counted_with_them(whole: tuple[Path, str]) -> None:
    out, shown = whole
    told = json.loads((out / "compute.json").read_text())
    assert result(out)["compute"] == told
    kinds: dict[str, list[Any]] = {}
    for run in told["runs"]:
        kinds.setdefault(run.get("of", ""), []).append(run)
    blocks = 4 * (len(json.loads((out / "code.json").read_text())["sizes"]) - 1)
    assert {name: len(each) for name, each in kinds.items()} == {"": 4, "search": 3, "splits": 8, "code_length": blocks}
    assert told["untimed"] == 0, "a clock ran for each of them"
    assert told["flops"] == sum(run["flops"] for run in told["runs"])
    assert {run["flops"] for run in kinds["search"]} == {kinds[""][0]["flops"]}, "an epoch each, whatever its batch"
    least, most = min(run["flops"] for run in kinds["code_length"]), max(run["flops"] for run in kinds["code_length"])
    assert least < most < kinds[""][0]["flops"], "a block is learnt from a part of the rows"
    assert f"{4 + 3 + 8 + blocks} runs took " in shown
    assert "trials of the search" in (out / "report.html").read_text()


def test_code_and_comparison_are_told(whole: tuple[Path, str]) -> None:
    out, shown = whole
    told = result(out)
    assert told["code_length"] == json.loads((out / "code.json").read_text())
    assert f"{told['code_length']['pretrained']['compression']['mean']:.3f} times as many (" in shown
    fresh = told["compared"]["parts"]["test"]["fresh"]
    means = [told["parts"]["test"][name]["accuracy"]["mean"] for name in ("pretrained", "fresh")]
    assert fresh["difference"] == pytest.approx(means[0] - means[1])
    assert f"accuracy {fresh['difference']:+.3f} ({fresh['interval'][0]:.3f} to" in shown


def test_called_again_it_says_the_same(whole: tuple[Path, str], model: str, labelled: str) -> None:
    out, _ = whole
    before = result(out)
    again = asked(model, labelled, out, *SEARCH, "--splits", "2", "--code-length", "--json")
    assert json.loads(again[again.index("{") :]) == before


def test_another_result_is_what_it_is_compared_with(
    whole: tuple[Path, str], model: str, labelled: str, tmp_path: Path
) -> None:
    first = str(whole[0] / "result.json")
    shown = asked(model, labelled, tmp_path / "out", "--lr", "1e-9", "--no-fresh", "--against", first)
    told = result(tmp_path / "out")["compared"]
    assert told["against"] == first
    one = told["parts"]["test"]["against"]
    assert one["runs"] == [2, 2]
    means = [result(out)["parts"]["test"]["pretrained"]["accuracy"]["mean"] for out in (tmp_path / "out", whole[0])]
    assert one["difference"] == pytest.approx(means[0] - means[1])
    assert f"of {first}" in shown or f"behind {first}" in shown


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--space", "lr=1e-4,1e-3"], "nothing is searched; add --search random"),
        (["--search", "random"], "no settings to search in"),
        (["--search", "random", "--space", "rate=1..2"], "names no setting"),
        (["--search", "asha", "--space", "lr=1e-4,1e-3"], "add --on ray"),
        (["--task", "regress", "--code-length"], "regress has no classes to send"),
        (["--against", "nowhere"], "there is no nowhere"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_read(
    model: str, tmp_path: Path, more: list[str], words: str
) -> None:
    given = ["finetune", model, "--train", str(tmp_path / "absent.tsv"), "--out", str(tmp_path / "out"), *more]
    found = CliRunner().invoke(cli, given)
    assert isinstance(found.exception, ValueError) or found.exit_code == 2
    assert words in found.output + str(found.exception)
    assert not (tmp_path / "out").exists()


def test_what_is_open_or_failed_is_said_so() -> None:
    one = {"verdict": "open", "difference": 0.01, "interval": [-0.02, 0.04], "chance": 0.4, "runs": [2, 2]}
    parts = {"test": {"fresh": one, "against": {"verdict": "open", "runs": [1, 0]}}}
    said = lines({"compared": {"measure": "accuracy", "against": "other", "parts": parts}})
    assert said[0].startswith(
        "test: whether pretrained weights are ahead of fresh ones is open: accuracy +0.010 (-0.020"
    )
    assert said[1] == "test: whether this is ahead of other is open: no seed ended on both sides"
    lost = {"over_splits": {"pretrained": None}, "standard": {"pretrained": None}, "random": [], "part": "test"}
    assert lines({"splits": lost | {"measure": "accuracy"}}) == ["splits: every run of a split failed"]
    assert lines({}) == []
