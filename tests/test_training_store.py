"""A training under a root that is no folder: checkpoints, logs and weights lie there, and are those of a folder."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from tests import chaos, toys
from tests.s3_server import serving
from tundish.cluster import jobs, store
from tundish.cluster.local import Local
from tundish.cluster.shards import Dataset, opened
from tundish.pipeline.cli import call
from tundish.pipeline.cli import cli as tundish
from tundish.pipeline.run import run
from tundish.pipeline.seen import Ledger
from tundish.stages import pretrain_state
from tundish.stages.mix import Mix
from tundish.stages.predict_corpus import Predict
from tundish.stages.pretrain import Pretrain
from tundish.stages.pretrain_lines import Lines

FAR = "memory://far-root"
SAME = ("ledger", "plan", "model", "config", "vocabulary")  # files whose bytes hold no seconds


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TUNDISH_TORCH_THREADS", "1")
    store.remove(FAR)
    yield
    store.remove(FAR)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with labels, and a root beside them in which all was trained."""
    folder = tmp_path_factory.mktemp("home")
    toys.trained_root(folder)
    return folder


def digests(dataset: Dataset) -> dict[str, str]:
    return {shard.name: shard.digest for shard in dataset.shards if shard.name in SAME}


def sealed(root: str, goal: Any) -> Dataset:
    found = opened(store.join(root, goal.address))
    assert found is not None
    return found


@pytest.mark.slow
def test_it_trains_tunes_and_predicts_there_as_in_a_folder(home: Path) -> None:
    goal = toys.trained(str(home / "labels.tsv"))
    far = run(goal, Local(), FAR)
    trained, near = far.datasets[goal.encoder.address], str(home / "trained")
    assert digests(trained) == digests(sealed(near, goal.encoder))
    assert set(digests(trained)) == set(SAME)
    tuned, at_home = sealed(FAR, goal), sealed(near, goal)
    assert digests(tuned) == digests(at_home)
    assert tuned.about["result"]["calibration"] == at_home.about["result"]["calibration"]
    checkpoints = store.listing(store.join(trained.uri, "checkpoints"))
    assert checkpoints == sorted(path.name for path in Path(near, goal.encoder.address, "checkpoints").iterdir())
    assert not run(goal, Local(), FAR).seconds, "all is kept"
    asked = Predict(goal.encoder.shards.corpus, goal)
    assert run(asked, Local(), FAR).dataset.digest == run(asked, Local(), near).dataset.digest
    ledger = Ledger.of(trained, sealed(FAR, goal.encoder.shards))
    first = next(ledger.documents(0))
    assert 0 in ledger.steps_of(*first)[0]


@pytest.mark.slow
def test_the_commands_take_what_was_trained_there(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    goal = toys.trained(str(home / "labels.tsv"))
    run(goal, Local(), FAR)
    labels, tuned, model = str(home / "labels.tsv"), f"{FAR}/tuned", f"{FAR}/{goal.encoder.address}"
    url = sealed(FAR, goal.encoder.shards.corpus).select("url").table()["url"][1].as_py()
    kind = ["--task", "classify", "--train", labels, "--seeds", "1", "--epochs", "1"]
    for words in (
        ["finetune", model, *kind, "--out", tuned, "--json"],
        ["predict", tuned, labels, "--to", f"{FAR}/predicted"],
        ["export", tuned, "--to", f"{FAR}/handed"],
        ["export", FAR, "--to", f"{FAR}/exported"],
        ["why", url, "--root", FAR],
        ["forget", FAR, url],
        ["report", FAR],
        ["verify", FAR],
    ):
        told = CliRunner().invoke(tundish, words)
        assert told.exit_code == 0, (words, told.output, told.exception)
        if words[0] == "why":
            assert "seen in" in told.output
    assert store.read_json(f"{tuned}/result.json")["kept"]
    assert {"model.safetensors", "config.json"} <= {*store.listing(f"{FAR}/handed")} & {
        *store.listing(f"{FAR}/exported")
    }
    assert store.exists(f"{FAR}/report.html")
    assert not list(tmp_path.iterdir()), "no folder is called memory:"


class Cut(Exception):
    """The process is gone."""


def interrupted(goal: Pretrain, root: str, monkeypatch: pytest.MonkeyPatch, at: int) -> None:
    """A run of the goal that breaks off once a checkpoint of so many steps was asked for."""
    saving = pretrain_state.State.save

    def save(self: Any, step: int, *given: Any, **said: Any) -> None:
        saving(self, step, *given, **said)
        self.saver.wait()
        if step >= at:
            raise Cut

    with monkeypatch.context() as patch:
        patch.setattr(pretrain_state.State, "save", save)
        with pytest.raises(Cut):
            run(goal, Local(), root)


@pytest.mark.parametrize(
    "forgotten",
    [pytest.param(False, marks=pytest.mark.slow, id="whole"), pytest.param(True, id="without a checkpoint")],
)
def test_a_training_that_broke_off_there_goes_on(home: Path, monkeypatch: pytest.MonkeyPatch, forgotten: bool) -> None:
    goal = replace(toys.trained(str(home / "labels.tsv")).encoder, checkpoint_every=2, tokens=10_000, seed=7)
    whole = run(goal, Local(), str(home / "trained")).dataset
    steps = whole.about["result"]["steps"]
    assert steps > 4
    interrupted(goal, FAR, monkeypatch, 4)
    folder = store.join(FAR, goal.address)
    assert store.read(store.join(folder, "log.jsonl")).count(b"\n") == 4
    if forgotten:  # the newest is torn: the one before is taken, and the lines behind it go
        store.remove(store.join(folder, "checkpoints", "step-000000004", "whole.json"))
    taken: list[int] = []
    calls = Lines.__call__
    monkeypatch.setattr(Lines, "__call__", lambda self, line: (taken.append(line["step"]), calls(self, line))[1])
    again = run(goal, Local(), FAR).dataset
    assert min(taken) == (2 if forgotten else 4), "what was done was not done again"
    assert digests(again) == digests(whole)
    assert again.about["result"]["steps"] == steps
    lines = [json.loads(line) for line in store.read(again.path("log")).splitlines()]
    assert [line["step"] for line in lines] == list(range(steps))


def test_a_log_that_is_shorter_than_its_checkpoint_is_refused(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    goal = replace(toys.trained(str(home / "labels.tsv")).encoder, checkpoint_every=2, tokens=10_000, seed=8)
    interrupted(goal, FAR, monkeypatch, 4)
    store.write(store.join(FAR, goal.address, "log.jsonl"), b"")
    with pytest.raises(ValueError, match=rf"log.jsonl ends before step 4 .*remove {FAR}/{goal.address} and train anew"):
        run(goal, Local(), FAR)


def test_lines_that_lie_far_are_sent_when_they_settle_and_cut_where_training_went_back() -> None:
    uri = store.join(FAR, "log.jsonl")
    lines = Lines(uri, 0, True)
    for step in range(4):
        lines({"step": step, "loss": float("nan")})
    assert not store.exists(uri)
    lines.settle()
    assert store.read(uri).count(b'"loss": "nan"}\n') == 4
    lines.cut(2)
    lines({"step": 2})
    lines.settle()
    lines({"step": 3})
    lines.close()
    assert [json.loads(line)["step"] for line in store.read(uri).splitlines()] == [0, 1, 2]
    again = Lines(uri, 1, True)
    assert [line["step"] for line in again.beyond()] == [1, 2]
    again({"step": 9})
    again.settle()
    again.close()
    assert [json.loads(line)["step"] for line in store.read(uri).splitlines()] == [0, 9]
    other = Lines(uri, 1, False)  # another rank
    other({"step": 1})
    other.settle()
    assert store.read(uri).count(b"\n") == 2
    with pytest.raises(ValueError, match="ends before step 5"):
        Lines(uri, 5, True)


@pytest.mark.slow
def test_it_goes_on_in_s3_through_requests_that_fail(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shards = toys.trained(str(home / "labels.tsv")).encoder.shards
    web = {"web": str(home / "trained" / shards.address)}
    goal = Pretrain(Mix({}, web), tokens=7_000, length=128, batch=8, checkpoint_every=2)
    whole = run(goal, Local(), str(home / "mixed")).dataset
    with serving() as s3:
        root = "s3://corpora/root"
        s3.fail("PUT", r"log\.jsonl", "cut", 2)
        s3.fail("PUT", r"checkpoints/.*safetensors", "500", 3)
        s3.fail("POST", r"checkpoints/.*uploadId", "503", 2)  # large files go in parts
        s3.fail("PUT", r"whole\.json", "lost", 1)
        interrupted(goal, root, monkeypatch, 4)
        s3.fail("GET", r"checkpoints/.*safetensors", "truncate", 2)
        s3.fail("GET", r"ledger\.jsonl", "reset", 1)
        again = run(goal, Local(), root).dataset
        assert {asked.fault for asked in s3.asked} >= {"cut", "500", "503", "lost", "truncate", "reset"}
        assert digests(again) == digests(whole)
        assert again.uri.startswith(root)
        assert not [key for key in s3.objects if "attempt" in key]


def test_a_plan_is_made_there(tmp_path: Path) -> None:
    recipe = chaos.recipe(tmp_path / "texts")
    told = CliRunner().invoke(tundish, ["plan", recipe, "--root", FAR])
    assert told.exit_code == 0
    assert "pretrain-" in told.output
    assert "a run stops here" not in told.output


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--until", "Nope"], "--until names 'Nope', which the recipe does not use"),
        (["--until", "Tokenize", "--wire", "foo"], "foo"),
        ([], ""),
    ],
)
def test_a_submission_is_refused_where_a_run_would_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], words: list[str], sentence: str
) -> None:
    recipe = chaos.recipe(tmp_path / "texts")
    handed: list[dict[str, Any]] = []
    monkeypatch.setattr(jobs, "submit_recipe", lambda *_, **said: handed.append(said) or "job-1")
    line = ["submit", recipe, "--address", "http://127.0.0.1:1", "--root", FAR, *words]
    if sentence:
        with pytest.raises(SystemExit) as ended:
            call(line)
        assert ended.value.code == 2
        assert sentence in " ".join(capsys.readouterr().err.split())
        assert not handed
    else:
        call(line)
        assert handed[0]["root"] == FAR
