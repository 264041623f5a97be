"""Tasks beside a fine-tuning that learn texts of its dev and tests: told with counts, or taken out of their trains."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from tests import toys, writers
from tundish.operators.text import vocabulary
from tundish.pipeline.cli import cli
from tundish.pipeline.cli_company import Wanted, joined
from tundish.pipeline.export import export
from tundish.pipeline.tuned_training import company, leaks
from tundish.stages.examples_checks import parts
from tundish.stages.examples_tokens import load
from tundish.stages.finetune_files import split
from tundish.stages.finetune_mixed import Other, mixed
from tundish.stages.finetune_others import drawn_from, others_of
from tundish.stages.finetune_task import TuneTask

WORDS = ("heron", "crane", "water", "stone", "night", "river")


def texts(count: int, seed: int) -> list[str]:
    draw = np.random.default_rng(seed)
    return [f"{seed} {number} {' '.join(draw.choice(WORDS, 5))}" for number in range(count)]


def wrote(place: Path, given: list[str]) -> str:
    rows = [f"{('sad', 'glad')[n % 2]}\t{text}" for n, text in enumerate(given)]
    place.write_text("\n".join(["label\ttext", *rows]) + "\n")
    return str(place)


@pytest.fixture
def files(tmp_path: Path) -> dict[str, str]:
    each = {"train": texts(60, 1), "dev": texts(20, 2), "test": texts(30, 3)}
    return {name: wrote(tmp_path / f"{name}.tsv", given) for name, given in each.items()}


@pytest.fixture
def model(tmp_path: Path) -> str:
    return writers.folder_of(tmp_path / "model", vocabulary.train(writers.sentences(), size=288), stack="encoder")


@pytest.fixture
def beside(tmp_path: Path) -> dict[str, Any]:
    """40 texts of its own, 12 of the test, two of those with other case, and 5 of dev."""
    tested = texts(30, 3)[:12]
    mine = [*texts(40, 4), *tested[:10], *(each.upper() for each in tested[10:]), *texts(20, 2)[:5]]
    dev = wrote(tmp_path / "beside-dev.tsv", texts(10, 5))
    return {"moods": {"train": wrote(tmp_path / "beside.tsv", mine), "dev": dev}}


def known(other: Other) -> set[str]:
    return {*load(other.train)[0]["id"].to_pylist()}


def test_texts_of_tests_that_a_task_beside_learns_are_told(
    model: str, files: dict, beside: dict, tmp_path: Path
) -> None:
    own, _ = split(parts("classify", files), apart=False)
    (other,), odd = others_of(model, beside, str(tmp_path / "out"), of=own)
    assert other.shared == {"dev": {"exact": 5, "alike": 5}, "test": {"exact": 10, "alike": 12}}
    assert [each.partition(";")[0] for each in odd] == [
        "moods: 5 of 20 texts of dev are in its train too, 5 when white space and case are left aside",
        "moods: 10 of 30 texts of test are in its train too, 12 when white space and case are left aside",
    ]
    assert all("--apart" in each for each in odd)
    assert drawn_from([other], own)[0].startswith("moods: random splits draw tests from all parts, and 15 of 110 texts")
    about = json.loads((tmp_path / "out/beside/moods/data.json").read_text())
    assert about["shared_with"] == other.shared
    assert about["told"] == [each.removeprefix("moods: ") for each in odd]


def test_apart_takes_them_out_and_leaves_what_was_right(model: str, files: dict, beside: dict, tmp_path: Path) -> None:
    own, _ = split(parts("classify", files), apart=True)
    (other,), odd = others_of(model, beside, str(tmp_path / "a"), of=own, apart=True)
    why = "its own dev, or dev or a test of the task beside it, has their texts"
    assert odd == [f"moods: 17 rows leave its train: {why}"]
    assert other.shared == {}
    assert not known(other) & {each for name in ("dev", "test") for each in own[name].table["id"].to_pylist()}
    assert len(known(other)) == 40
    clean = {"moods": {"train": wrote(tmp_path / "clean.tsv", texts(40, 4)), "dev": beside["moods"]["dev"]}}
    digests = []
    for number, how in enumerate(({}, {"of": own}, {"of": own, "apart": True})):
        (one,), odd = others_of(model, clean, str(tmp_path / f"c{number}"), **how)
        assert odd == []
        digests.append(one.digest)
    assert len({*digests}) == 1, "runs of tasks that share nothing keep their key"
    seen = {"moods": {"train": clean["moods"]["train"], "dev": wrote(tmp_path / "seen.tsv", texts(40, 4)[:6])}}
    (one,), odd = others_of(model, seen, str(tmp_path / "s"), of=own, apart=True)
    assert odd == [f"moods: 6 rows leave its train: {why}"]
    assert len(known(one)) == 34
    with pytest.raises(ValueError, match="every row that the task 'moods' beside learns has a text of dev, test"):
        others_of(model, {"moods": {"train": files["test"]}}, str(tmp_path / "d"), of=own, apart=True)


def test_what_is_shared_decides_no_key_and_is_told_in_words() -> None:
    task = TuneTask("m", "classify", {"train": "a"}, {}, "o", digests={"train": "1"})
    one = Other("moods", "classify", "a", "b", "digest")
    other = replace(one, shared={"test": {"exact": 3, "alike": 4}})
    assert mixed(task, [one]).key == mixed(task, [other]).key
    told = {"task": "classify", "steps": 3, "examples": 9, "dev": {}, "shared": other.shared}
    result: dict[str, Any] = {"task": "classify", "tested": ["test"], "epochs": 1, "batch": 4, "examples": {"train": 4}}
    result |= {"beside": {"moods": told}, "mixing": {"how": "equal"}}
    assert "moods beside learnt 4 texts of test" in leaks(result)[0]
    assert company(result)["how"].endswith(leaks(result)[0])
    del told["shared"]
    assert leaks(result) == []


def test_other_kinds_share_texts_as_well(model: str, files: dict, tmp_path: Path) -> None:
    own, _ = split(parts("classify", files), apart=False)
    rows = [{"source": each, "target": each} for each in (*texts(30, 3)[:7], *texts(20, 6))]
    (tmp_path / "r.jsonl").write_text(
        "".join(json.dumps({"text": r["source"], "value": n}) + "\n" for n, r in enumerate(rows))
    )
    (other,), _ = others_of(
        model, {"value": {"task": "regress", "train": str(tmp_path / "r.jsonl"), "dev": str(tmp_path / "r.jsonl")}},
        str(tmp_path / "out"), of=own,
    )  # fmt: skip
    assert other.shared == {"test": {"exact": 7, "alike": 7}}


def test_the_command_tells_them_and_takes_them_out_of_every_split(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, files: dict, beside: dict
) -> None:
    export(toys.trained_root(tmp_path_factory.getbasetemp()), str(tmp_path / "model"))
    whole = [*texts(60, 1), *texts(20, 2), *texts(30, 3), *texts(25, 4)]
    tasks = {"moods": {"train": wrote(tmp_path / "whole.tsv", whole), "dev": beside["moods"]["dev"]}}
    (tmp_path / "tasks.json").write_text(json.dumps(tasks))
    given = ["finetune", str(tmp_path / "model"), "--seeds", "1", "--epochs", "1", "--no-fresh", "--length", "24"]
    given += [word for name in files for word in (f"--{name}", files[name])]
    given += ["--beside", str(tmp_path / "tasks.json"), "--splits", "1"]
    shown = CliRunner().invoke(cli, [*given, "--out", str(tmp_path / "out")], catch_exceptions=False)
    assert "moods: 30 of 30 texts of test are in its train too" in shown.output
    assert "and 110 of 110 texts are in its train" in shown.output
    assert "moods beside learnt 30 texts of test, so scores on test are too high" in shown.output
    assert json.loads((tmp_path / "out/result.json").read_text())["beside"]["moods"]["shared"]["dev"]["exact"] == 20
    shown = CliRunner().invoke(cli, [*given, "--apart", "--out", str(tmp_path / "b")], catch_exceptions=False)
    assert "50 rows leave its train" in shown.output
    assert "beside learnt" not in shown.output
    for place, least in ((tmp_path / "b", 85), (tmp_path / "b/splits/1", 85)):
        held = {each for name in ("dev", "test") for each in load(str(place / f"{name}.arrow"))[0]["id"].to_pylist()}
        mine = {*load(str(place / "beside/moods/train.arrow"))[0]["id"].to_pylist()}
        assert len(mine) == least
        assert not mine & held


def test_without_a_task_beside_nothing_is_read_again() -> None:
    assert joined("the task", Wanted(), {"train": "nowhere.tsv"}) == ("the task", [])
