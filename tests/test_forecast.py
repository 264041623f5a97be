"""plan --probe: by the shards once they are there, by what the recipe names before; kept, and held against the run."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from tests.s3_server import serving
from tests.test_training_stages import READ
from tundish.cluster.local import Local
from tundish.cluster.shards import opened
from tundish.pipeline import forecast
from tundish.pipeline.cli import cli
from tundish.pipeline.plan import Step, plan
from tundish.pipeline.recipe import changed, load
from tundish.pipeline.report import report
from tundish.pipeline.run import run
from tundish.stages import pretrain_probe
from tundish.stages.mix import Mix
from tundish.stages.pretrain import FORETOLD, Pretrain
from tundish.stages.stage import Settings, Stage
from tundish.stages.tokenize import Tokenize

ARTICLES = Path(__file__).resolve().parents[1] / "examples" / "sample_web" / "articles" / "en"
TRAINED = """
encoder: {Pretrain: {shards: mixed, tokens: 5k, batch: 4, length: 64, checkpoint_every: 5,
  curriculum: [{tokens: [0, 50%]}, {tokens: [50%, 100%], row: 128}]}}
mixed: {Mix: {of: {articles: tokens}}}
goal: encoder
"""


@pytest.fixture(autouse=True)
def briefly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUNDISH_TORCH_THREADS", "1")
    monkeypatch.setattr(pretrain_probe, "SECONDS", 0.05)


def steps_of(goal: Stage, root: str, trainers: int = 1) -> list[Step]:
    return plan(goal, root, Settings(trainers=trainers))


@pytest.fixture
def goal(tmp_path: Path) -> Pretrain:
    folder = tmp_path / "texts"
    folder.mkdir()
    for path in sorted(ARTICLES.glob("*.txt"))[:8]:
        (folder / path.name).write_text(path.read_text())
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(READ.format(files=[str(folder / "*.txt")]) + TRAINED)
    found = changed(load(str(recipe)), ["Tokenize.vocabulary=600", "Tokenize.holdout=0.1"])
    assert isinstance(found, Pretrain)
    return found


def test_a_forecast_is_by_what_is_there_and_held_against_the_run(tmp_path: Path, goal: Pretrain) -> None:
    root = str(tmp_path / "root")
    steps = steps_of(goal, root)
    before = forecast.task_of(goal, steps)
    assert (before.vocabulary, before.sources, before.holdout) == (600, (), ())
    run(goal.shards, Local(), root)
    steps = steps_of(goal, root)
    task = forecast.task_of(goal, steps)
    tokens = opened(steps[-2].place.uri)
    assert tokens is not None
    assert task.vocabulary == tokens.about["vocabulary"]["size"]
    assert task.specials == tokens.about["specials"]
    assert [one.name for one in task.sources] == list(tokens.about["origins"])  # type: ignore[union-attr]
    told = forecast.of_step(steps[-1], steps)
    assert told is not None
    assert forecast.of_step(steps[-2], steps) is None
    kept = json.loads((Path(steps[-1].place.uri) / FORETOLD).read_text())
    assert kept == told.plain()

    outcome = run(goal, Local(), root)
    found = outcome.dataset.about["result"]
    assert found["steps"] == told.steps
    assert found["parameters"] == told.parameters
    assert found["forecast"]["by"] == "plan --probe"
    assert found["forecast"]["checkpoint"]["actual"] == told.checkpoint
    page = Path(report(root)).read_text()
    assert "plan --probe said" in page
    assert not forecast.lines_of(steps_of(goal, root)[-1], steps_of(goal, root))  # it would not run


def test_shards_too_many_to_read_are_reckoned(tmp_path: Path, goal: Pretrain, monkeypatch: pytest.MonkeyPatch) -> None:
    """From the manifests alone: within what padding and cut documents make of it."""
    root = str(tmp_path / "root")
    run(goal.shards, Local(), root)
    steps = steps_of(goal, root, trainers=2)
    exact = pretrain_probe.probe(forecast.task_of(goal, steps))
    monkeypatch.setattr(forecast, "FEW", 0)
    task = forecast.task_of(goal, steps)
    assert set(task.sources) == {(64, 64), (128, 64)}  # type: ignore[arg-type]
    assert pretrain_probe.probe(task).steps == pytest.approx(exact.steps, abs=1)

    # and what another recipe names of it, by path or by reference, is what it says of itself
    made = opened(steps[-3].place.uri)
    assert made is not None
    known = made.about["vocabulary"]["size"], made.about["specials"]
    given = Tokenize(corpus=Stage(), vocabulary=f"{made.uri}/vocabulary.model")
    assert forecast.vocabulary_of(given) == known
    assert forecast.vocabulary_of(Mix(elsewhere={"articles": made.uri})) == known


def test_pieces_are_those_that_will_be_made(tmp_path: Path) -> None:
    learned = Tokenize(corpus=Stage(), vocabulary=5000)
    assert forecast.vocabulary_of(learned) == (5000, forecast.SPECIALS)
    assert forecast.vocabulary_of(Mix(of={"web": learned})) == (5000, forecast.SPECIALS)
    assert forecast.vocabulary_of(Stage()) == (forecast.USUAL, forecast.SPECIALS)


def test_workers_that_run_would_refuse_are_refused(tmp_path: Path, goal: Pretrain) -> None:
    steps = steps_of(goal, str(tmp_path / "root"), trainers=1000)
    with pytest.raises(ValueError, match=r"1000 workers have \d+ rows a step to share"):
        [forecast.of_step(step, steps) for step in steps]


def test_who_may_only_read_a_root_is_told_all_the_same(tmp_path: Path, goal: Pretrain) -> None:
    """And that nothing was kept: minutes of probing are not lost for a note of it."""
    with serving() as server:
        server.fail("PUT", "/root/", "403", 1 << 30)
        server.fail("POST", "/root/", "403", 1 << 30)
        words = ["plan", str(tmp_path / "recipe.yaml"), "--root", "s3://corpora/root", "--probe"]
        asked = CliRunner().invoke(cli, [*words, "--set", "Tokenize.vocabulary=600", "--set", "Tokenize.holdout=0.1"])
        assert asked.exit_code == 0, asked.output
        assert not server.objects
    said = " ".join(asked.stdout.split())
    assert "parameters" in said
    assert "in all" in said
    assert said.count("not kept, so no run can be held against it: cannot write the URI 's3://corpora/root/") == 2
