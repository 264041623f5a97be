"""A training under a root that is no folder is refused before a data stage has run for days."""

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from tests import chaos
from tests.toys import trained
from tundish.cluster import jobs, store
from tundish.cluster.local import Local
from tundish.pipeline.cli import call
from tundish.pipeline.cli import cli as tundish
from tundish.pipeline.recipe import load
from tundish.pipeline.run import run

FAR = "memory://far-root"
REFUSED = "Pretrain writes its checkpoints to a local or mounted folder and memory://far-root"


def never() -> Any:
    raise AssertionError("nothing may begin")


@pytest.fixture
def recipe(tmp_path: Path) -> str:
    return chaos.recipe(tmp_path / "texts")


def test_a_run_refuses_it_before_anything_begins(recipe: str, tmp_path: Path) -> None:
    for goal in (load(recipe), trained(str(tmp_path))):
        with pytest.raises(ValueError, match=rf"^{REFUSED} .*--until Tokenize"):
            run(goal, never, FAR)
    assert store.listing(FAR) == []


def test_what_comes_before_it_runs_there(recipe: str) -> None:
    goal = load(recipe)
    other = "memory://another-root"
    outcome = run(goal, Local(), other, until="Read")
    assert outcome.goal.name == "Read"
    assert outcome.dataset.rows
    with pytest.raises(ValueError, match=r"^Pretrain writes its checkpoints to a local"):
        run(goal, never, other)


def test_a_plan_says_so_under_the_training(recipe: str, tmp_path: Path) -> None:
    told = CliRunner().invoke(tundish, ["plan", recipe, "--root", FAR])
    assert told.exit_code == 0
    assert f"a run stops here: {REFUSED}" in " ".join(told.output.split())
    told = CliRunner().invoke(tundish, ["plan", recipe, "--root", str(tmp_path / "root")])
    assert "a run stops here" not in told.output


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--root", FAR], REFUSED),
        (["--root", FAR, "--until", "Nope"], "--until names 'Nope', which the recipe does not use"),
        (["--root", FAR, "--until", "Tokenize", "--wire", "foo"], "foo"),
        (["--root", FAR, "--until", "Tokenize"], ""),
    ],
)
def test_a_submission_is_refused_where_a_run_would_be(
    recipe: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], words: list[str], sentence: str
) -> None:
    handed: list[dict[str, Any]] = []
    monkeypatch.setattr(jobs, "submit_recipe", lambda *_, **said: handed.append(said) or "job-1")
    if sentence:
        with pytest.raises(SystemExit) as ended:
            call(["submit", recipe, "--address", "http://127.0.0.1:1", *words])
        assert ended.value.code == 2
        assert sentence in " ".join(capsys.readouterr().err.split())
        assert not handed
    else:
        call(["submit", recipe, "--address", "http://127.0.0.1:1", *words])
        assert json.dumps(handed[0]["until"]) == '"Tokenize"'
