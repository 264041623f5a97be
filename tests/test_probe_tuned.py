"""plan --probe of a Finetune: what it grows by, how trainers share it, and what became of it."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from tests.test_finetune_probe import PIECES, PLAIN, briefly, file_of  # noqa: F401
from tundish.cluster.local import Local
from tundish.operators.ratio import Band
from tundish.pipeline import probe_told, probe_tuned
from tundish.pipeline.cli import cli
from tundish.pipeline.funnel import ran
from tundish.pipeline.plan import plan
from tundish.pipeline.predicted import Forecast
from tundish.pipeline.probe import held_bytes
from tundish.pipeline.recipe import load
from tundish.pipeline.report import report
from tundish.pipeline.run import run
from tundish.stages.finetune_probe import Costs, Probed, Start
from tundish.stages.finetune_task import Aids, TuneTask
from tundish.stages.mix import Mix
from tundish.stages.pretrain import Pretrain
from tundish.stages.stage import Settings, Stage
from tundish.stages.tokenize import Tokenize

ARTICLES = Path(__file__).resolve().parents[1] / "examples" / "sample_web" / "articles" / "en"


# -- what it grows by


def toy(**more: Any) -> Probed:
    """Twelve steps an epoch of 2 s on the clock and 1 s of CPU, two asked batches of 3 s, 5 s of beginning."""
    steps = Costs(np.full(12, 2.0), np.full(12, 1.0), np.ones(12), 12.0, 12)
    asked = Costs(np.full(2, 3.0), np.full(2, 1.5), np.ones(2), 2.0, 2)
    start = Start((5.0, 4.0), steps, {"dev": asked, "test": asked}, 0.5, 1000.0)
    task = TuneTask("", "classify", {"train": "", "dev": "", "test": ""}, {}, "", **(PLAIN | {"epochs": 3} | more))
    return Probed(task, start, start, 96, 100, 900, 2000.0, 5000, 7.0)


def work(**more: Any) -> float:
    return probe_tuned.forecast_of(toy(**more), 1, 0.0).work.middle


def test_runs_epochs_and_rows_scale_it() -> None:
    alone = 5.0 + 3 * 24.0 + 2 * 6.0
    assert work() == pytest.approx(alone)
    assert work(seeds=(1, 2)) == pytest.approx(2 * alone)
    assert work(scratch=True) == pytest.approx(2 * alone)
    assert work(epochs=6) == pytest.approx(alone + 3 * 24.0)
    assert work(sizes=(48,)) == pytest.approx(2 * alone - 3 * 12.0), "half of the rows, half of the steps"
    told = probe_tuned.forecast_of(toy(sizes=(49,)), 1, 0.0)
    assert told.turns == pytest.approx((alone, alone - 3 * 24.0 * (1 - (49 / 96 + 7 / 12) / 2)))
    assert told.cpu.middle == pytest.approx(2 * 4.0 + 2 * 2 * 3.0 + 3 * 12.0 * (1 + (49 / 96 + 7 / 12) / 2))
    assert told.longest == pytest.approx(alone)
    assert told.driver.middle == pytest.approx(7.0 + 2 * 0.5)
    own = probe_tuned.RECORD + 1000.0
    assert told.size.middle == pytest.approx(5000 + 2000 + probe_tuned.FEW + 2 * own)
    more = probe_tuned.forecast_of(toy(sizes=(49,), seeds=(1, 2)), 1, 0.0)
    assert more.size.middle - told.size.middle == pytest.approx(2 * own), "the weights of one run are kept"
    assert (told.peak.middle, told.rows) == (900, Band(0.0, 0.0, 0.0))


def test_patience_asks_dev_after_each_epoch_and_may_end_soon() -> None:
    plain, patient = toy(epochs=9), toy(epochs=9, aids=Aids(patience=2))
    (one,) = plain.task.runs
    told = patient.seconds(one, "wall")
    assert told.middle - plain.seconds(one, "wall").middle == pytest.approx(9 * 6.0)
    assert told.low == pytest.approx(5.0 + 3 * (24.0 + 6.0) + 2 * 6.0)
    assert told.high == told.middle


def test_trainers_share_the_runs_round_by_round() -> None:
    """Against the clock of each trainer, run by run."""
    probed = toy(seeds=(1, 2, 3), scratch=True, sizes=(24,))
    each = [probed.seconds(run, "wall").middle for run in probed.task.runs]
    assert len(each) == 12
    for trainers in (1, 2, 4, 5, 12, 40):
        told = probe_tuned.forecast_of(probed, trainers, 0.0)
        clock = 0.0
        for first in range(0, 12, trainers):
            clock += max(each[first : first + trainers])
        wanted = clock + told.driver.middle
        assert told.seconds(99).middle == pytest.approx(wanted), "workers of other stages do not matter"
        assert replace(told, trainers=1).seconds(1).middle == pytest.approx(sum(each) + told.driver.middle)
        assert told.cost(4, 0.5).middle == pytest.approx(4 * 0.5 * wanted / 3600)
        assert Forecast.of_plain(json.loads(json.dumps(told.plain()))) == told


def test_processes_that_begin_are_counted() -> None:
    alone = probe_tuned.forecast_of(toy(seeds=(1, 2)), 1, 10.0, loaded=True).driver.middle
    assert probe_tuned.forecast_of(toy(seeds=(1, 2)), 1, 10.0).driver.middle == pytest.approx(alone + 10.0)
    several = probe_tuned.forecast_of(toy(seeds=(1, 2)), 2, 10.0, loaded=True).driver
    assert several.middle == pytest.approx(alone + 10.0)
    assert several.high >= alone + 20.0


# -- of a recipe

RECIPE = """
docs: {{Read: {{files: ['{texts}/*.txt']}}}}
quality: {{Judge: {{documents: docs}}}}
kept: {{Refine: {{documents: docs, quality: quality, keep: {{rules: gopher}}}}}}
corpus: {{Corpus: {{documents: docs, kept: kept}}}}
tokens: {{Tokenize: {{corpus: corpus, vocabulary: 600, holdout: 0.1}}}}
encoder: {{Pretrain: {{shards: tokens, tokens: 3k, batch: 4, length: 64}}}}
labels: {{Finetune: {{encoder: encoder, train: '{labels}', seeds: [1, 2], epochs: 1, fresh: false, sizes: [16]}}}}
goal: labels
"""


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("recipe")
    (folder / "texts").mkdir()
    for path in sorted(ARTICLES.glob("*.txt"))[:10]:
        (folder / "texts" / path.name).write_text(path.read_text())
    labels = file_of(folder, "classify", 60)
    (folder / "recipe.yaml").write_text(RECIPE.format(texts=folder / "texts", labels=labels))
    return folder / "recipe.yaml"


@pytest.mark.slow
def test_a_recipe_is_foretold_before_anything_is_there_and_held_against_its_run(
    recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tundish.stages import pretrain_probe

    monkeypatch.setattr(pretrain_probe, "SECONDS", 0.05)
    root = str(tmp_path / "root")
    words = ["plan", str(recipe), "--root", root]
    answer = CliRunner().invoke(cli, [*words, "--probe", "--json", "--share", "1", "--workers", "3"])
    rows = {row["address"].split("-")[0]: row for row in json.loads(answer.stdout)}
    told = rows["finetune"]["probe"]
    assert "4 runs of up to 3 steps in each of 1 epoch, by " in told["said"]
    assert told["trainers"] == 1
    assert told["seconds"][0] == pytest.approx(told["work"][0] + told["driver"][0]), "trainers share it, not workers"
    assert "forecast" in rows["pretrain"]

    goal = load(str(recipe))
    run(goal, Local(), root)
    past = ran(root)
    (address,) = past.of("Finetune")
    dataset = past.datasets[address]
    compute = json.loads((Path(dataset.uri) / "compute.json").read_text())
    assert compute["workers"] == 1
    cpu, peak = sum(one["cpu"] for one in compute["runs"]), max(one["peak"] for one in compute["runs"])
    held = {one.what: one for one in probe_told.held_against(past) if one.address == address}
    wanted = {"seconds": past.seconds[address], "CPU seconds": cpu, "memory": peak, "bytes": held_bytes(dataset.uri)}
    assert {what: one.actual for what, one in held.items()} == pytest.approx(wanted)
    assert list(held) == list(wanted), "a fine-tuning has no rows"
    assert held["bytes"].inside
    assert cpu > 0
    assert held["memory"].band.middle == pytest.approx(peak, rel=0.5)
    shown = json.loads(CliRunner().invoke(cli, [*words, "--compare", "--json"]).stdout)
    assert [row["what"] for row in shown if row["stage"] == "Finetune"] == list(wanted)
    assert "Finetune" in CliRunner().invoke(cli, [*words, "--compare"]).stdout
    page = Path(report(root)).read_text()
    assert f"of {len(shown)} lie in their range" in page

    again = CliRunner().invoke(cli, [*words, "--probe", "--set", "Finetune.epochs=2", "--trainers", "3"])
    said = " ".join(again.stdout.split())
    assert "4 runs of up to 3 steps in each of 2 epochs" in said
    assert "with 3 trainers Below each number its range" in said, "there are no shards to tell of"

    compute["workers"] = 2
    (Path(dataset.uri) / "compute.json").write_text(json.dumps(compute))
    two = {one.what: one for one in probe_told.held_against(past) if one.address == address}
    assert two["seconds"].band.middle < held["seconds"].band.middle
    for one in compute["runs"]:
        one.pop("cpu")
    (Path(dataset.uri) / "compute.json").write_text(json.dumps(compute))
    untold = {one.what for one in probe_told.held_against(past) if one.address == address}
    assert untold == {"seconds", "bytes"}, "runs that were sealed before CPU was kept"


def test_without_a_vocabulary_it_says_so_and_what_to_do(tmp_path: Path) -> None:
    from tests import toys

    (tmp_path / "labels.tsv").write_text("text\tlabel\na b\tx\nc d\ty\n")
    goal = toys.trained(str(tmp_path / "labels.tsv"))
    told = probe_told.said(plan(goal, str(tmp_path / "root")), 0.01, 1, None)
    assert not told.forecasts
    assert told.refused[goal.address].startswith("there is no vocabulary yet to tell the lengths of its rows by; run")
    assert any(line.startswith("Finetune is not probed: there is no voc") for line in probe_told.remarks(told))


def test_the_shape_and_the_vocabulary_are_those_that_are_there(recipe: Path, tmp_path: Path) -> None:
    """Of a file that the recipe names, of shards elsewhere, of the corpora that are mixed, else of the sample."""
    (tmp_path / "v.model").write_bytes(PIECES)
    given = Tokenize(corpus=Stage(), vocabulary=str(tmp_path / "v.model"))
    learnt = Tokenize(corpus=Stage(), vocabulary=600)
    of = probe_tuned.vocabulary_of
    assert of(Pretrain(given, tokens=5_000), [], {}) == PIECES
    assert of(Pretrain(Mix({"a": learnt, "b": given}), tokens=5_000), [], {}) == PIECES
    assert of(Pretrain(learnt, tokens=5_000), [], {learnt.address: b"those"}) == b"those"
    with pytest.raises(ValueError, match="there is no vocabulary yet"):
        of(Pretrain(learnt, tokens=5_000), [], {})
    with pytest.raises(ValueError, match="Tokenize says no shape before it ran"):
        probe_tuned.shape_of(learnt, [])
    encoder = load(str(recipe)).encoder  # type: ignore[attr-defined]
    steps = plan(load(str(recipe)), str(tmp_path / "root"), Settings())
    shape = probe_tuned.shape_of(encoder, steps)
    assert (shape.vocabulary, shape.length) == (640, 64), "pieces, and places that fill up the table"
    detects = replace(encoder, model="electra-small", length=64)
    found = probe_tuned.shape_of(detects, steps)
    assert (found.transform, found.head_bias, found.tied) == (False, False, True)
