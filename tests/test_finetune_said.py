"""What `finetune` and the card say: the right measure of the others, equal seeds, runs that all failed, and refusals
before anything is trained."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from click.testing import CliRunner

from tests.test_export_card import plain_card
from tests.test_finetune_files import labelled, model  # noqa: F401  (fixtures)
from tests.test_tuned_page import over
from tests.test_tuned_page import result as page_result
from tundish.pipeline import cli_company, cli_search, tuned_training
from tundish.pipeline.cli import cli
from tundish.pipeline.cli_finetune import table_of
from tundish.stages import finetune_units
from tundish.stages.finetune_files import prepared

BESIDE = {
    "stars": {"task": "regress", "examples": 9, "steps": 5,
              "dev": {"absolute_error": over(0.9, 1.1), "spearman": {"mean": 2 / 3, "seeds": [2 / 3] * 2,
                                                                      "interval": [2 / 3] * 2}}},
    "who": {"task": "answer", "examples": 9, "steps": 5, "dev": {"exact": over(0.1, 0.2), "f1": over(0.4, 0.5)}},
    "moods": {"task": "multilabel", "examples": 9, "steps": 5,
              "dev": {"macro_f1": over(0.1, 0.2), "micro_f1": over(0.7, 0.8)}},
}  # fmt: skip


def test_other_tasks_are_told_by_their_own_measure() -> None:
    told = page_result() | {"beside": BESIDE, "mixing": {"how": "equal", "temperature": 2.0, "limit": 0, "epochs": 0}}
    said = cli_company.lines(told)
    assert said[0] == "beside, stars: spearman 0.667 (all seeds equal) on dev, 5 steps"
    assert said[1].startswith("beside, who: f1 0.450 (0.400 to 0.500) on dev")
    assert said[2].startswith("beside, moods: micro_f1 0.750")
    found = tuned_training.company(told)
    assert found is not None
    assert [row["measure"] for row in found["rows"]] == ["", "spearman", "f1", "micro_f1"]


def header(told: dict[str, Any]) -> list[dict[str, Any]]:
    return yaml.safe_load(plain_card(told).split("---\n")[1])["model-index"][0]["results"]


def test_the_header_has_one_value_of_a_type_and_no_dust() -> None:
    told = page_result()
    told = json.loads(json.dumps(told).replace(json.dumps(told["tested"][0])[1:-1], "test"))
    next(run for run in told["runs"] if run["pretrained"])["scores"]["test"]["accuracy"] = 0.5787500000000001
    [one] = header(told)
    assert one["metrics"] == [{"type": "accuracy", "value": 0.57875, "name": "accuracy"}]
    [one] = header(json.loads(json.dumps(told).replace('"accuracy"', '"found_first"')))
    assert [each["type"] for each in one["metrics"]] == ["found_first"], "the Hub has no word for it"


@pytest.mark.parametrize("value", [999.4, 999.5, 999.99, 1000.0, 1.0, 0.9996])
def test_operations_have_a_unit_that_fits(value: float) -> None:
    for scale in (1e6, 1e9, 1e12, 1e21):
        said = tuned_training.operations(value * scale)
        assert "e+" not in said
        number, unit = said.split()
        power = dict(zip(("MFLOP", "GFLOP", "TFLOP", "PFLOP", "ZFLOP", "YFLOP"), (6, 9, 12, 15, 21, 24), strict=True))
        assert float(number) * 10.0 ** power.get(unit, 18) == pytest.approx(value * scale, rel=6e-4)


def invoked(*words: str) -> Any:
    return CliRunner(env={"COLUMNS": "100"}).invoke(cli, ["finetune", *words])


def test_runs_that_all_fail_are_a_row_of_dashes_and_a_failure(model: str, labelled: str, tmp_path: Path) -> None:  # noqa: F811
    out = str(tmp_path / "out")
    words = [model, "--train", labelled, "--column", "text=sentence", "--out", out, "--seeds", "2", "--no-fresh"]
    done = invoked(*words, "--epochs", "2", "--lr", "1e30")
    assert done.exit_code == 1
    assert "no run ended with weights" in done.stderr
    rows = [line.split() for line in done.stdout.split("\n")]
    result = json.loads((tmp_path / "out" / "result.json").read_text())
    common = result["parts"]["test"]["majority"]["accuracy"]
    assert ["test", "accuracy", "–", "–", "–", f"{common:.3f}", "2", "of", "2"] in rows
    assert "over seeds" in done.stdout
    assert "(one test set)" in done.stdout
    over_to = CliRunner().invoke(cli, ["export", out, "--to", str(tmp_path / "over")])
    assert isinstance(over_to.exception, ValueError)
    assert "all its runs failed" in str(over_to.exception)


def test_a_table_of_vectors_has_no_majority() -> None:
    told = {"tested": ["test"], "measure": "found_first", "task": "embed", "names": [],
            "parts": {"test": {"pretrained": {}, "majority": None}},
            "runs": [{"pretrained": True, "size": 0}, {"pretrained": True, "size": 9}]}  # fmt: skip
    assert [next(iter(column.cells)) for column in table_of(told).columns] == [
        "test", "found_first", "–", "–", "–", "–", "1 of 1"
    ]  # fmt: skip


def saved(folder: Path, kind: str, keys: list[str], part: str = "test") -> str:
    folder.mkdir()
    runs = {"pretrained": np.ones((2, len(keys), 1))}
    units = finetune_units.Units(kind, np.array(keys), runs, {"pretrained": [1, 2]})
    finetune_units.save(str(folder), {part: units})
    return str(folder)


def test_what_cannot_be_compared_is_refused_before_anything_is_trained(
    model: str,  # noqa: F811
    labelled: str,  # noqa: F811
    tmp_path: Path,
) -> None:
    words = [model, "--train", labelled, "--column", "text=sentence", "--out", str(tmp_path / "out")]
    other = saved(tmp_path / "named", "classify", ["a"], part="mine")
    said = str(invoked(*words, "--against", other).exception)
    assert f"{other} was tested on mine, and this is to be on test; name a test alike, as in --test mine=FILE" == said
    assert not (tmp_path / "out").exists()
    task, _ = prepared(model, "classify", {"train": labelled}, str(tmp_path / "laid"), columns={"text": "sentence"})
    for folder, kind, words in (("rows", "classify", "of which 0 are the same"), ("kind", "tag", "is of tag there")):
        wanted = cli_search.Wanted(against=saved(tmp_path / folder, kind, ["a"]))
        with pytest.raises(ValueError, match=words):
            cli_search.comparable(task, wanted)
    from tundish.stages.finetune_runs import read

    mine = finetune_units.keys_of(task, read(task, 1 << 40)["test"]).tolist()
    cli_search.comparable(task, cli_search.Wanted(against=saved(tmp_path / "same", "classify", mine[::-1])))


def test_of_too_few_rows_the_part_is_named_that_gets_none(model: str, tmp_path: Path) -> None:  # noqa: F811
    lines = [f"{'glad' if at % 2 else 'sad'}\tHeron {at}." for at in range(4)]
    (tmp_path / "few.tsv").write_text("\n".join(["label\ttext", *lines]) + "\n")
    given = {"train": str(tmp_path / "few.tsv"), "test": str(tmp_path / "few.tsv")}
    with pytest.raises(ValueError, match=r"4 rows leave nothing for dev at a share of 0\.1 held out; give more rows"):
        prepared(model, "classify", given, str(tmp_path / "out"))
