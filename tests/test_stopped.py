"""A driver that is asked to end in a data stage, and one who looks away from a job."""

import json
import os
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests import chaos
from tests.chaos import TOP, UP_TO_TOKENS, committed, driving
from tundish.cluster import jobs, wish
from tundish.pipeline.cli import call


@pytest.mark.parametrize("on", ["local", pytest.param("ray", marks=pytest.mark.slow)])
@pytest.mark.parametrize("asked", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.slow)])
def test_a_driver_that_is_asked_to_end_gives_its_root_back(tmp_path: Path, on: str, asked: int) -> None:
    """SIGTERM is what `scancel`, systemd, `docker stop` and `ray job stop` send; Ray takes it for itself."""
    root = tmp_path / "root"
    words = [*chaos.command(chaos.recipe(tmp_path / "texts"), root, on, *UP_TO_TOKENS), "--workers", "2"]
    with driving(words, tmp_path) as driver:
        driver.until(committed(root, "judge"))
        os.kill(driver.process.pid, asked)
        assert driver.ended(120) == 130, driver.said
    assert "stopped; run the same command again to go on from here" in driver.said
    [record] = (root / "runs").glob("*.json")
    assert json.loads(record.read_text())["outcome"] == "interrupted"
    assert json.loads((root / "lease.json").read_text())["released"]
    with driving(words, tmp_path) as driver:
        assert driver.ended() == 0, driver.said


def test_one_that_is_ignored_stays_so_and_a_listener_comes_first() -> None:
    before = signal.getsignal(signal.SIGTERM)
    try:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        wish.interrupts()
        assert signal.getsignal(signal.SIGTERM) == signal.SIG_IGN
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        wish.interrupts()
        with wish.interrupted_still():
            signal.signal(signal.SIGTERM, signal.SIG_DFL)  # as Ray does
        with wish.listening():
            signal.raise_signal(signal.SIGTERM)
            assert wish.wishes() == 1
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGTERM)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        with wish.interrupted_still():
            pass
        assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL, "of a program that uses this as a library"
    finally:
        signal.signal(signal.SIGTERM, before)


@pytest.mark.parametrize("command", ["logs", "submit"])
def test_who_looks_away_from_a_job_does_not_end_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    def followed(*_: Any, **__: Any) -> Any:
        yield "begun\n"
        raise KeyboardInterrupt

    monkeypatch.setattr(jobs, "submit_recipe", lambda *_, **__: "job-1")
    monkeypatch.setattr(jobs, "logs", followed)
    what = ["job-1"] if command == "logs" else [chaos.recipe(tmp_path / "texts"), "--root", str(tmp_path / "root")]
    with pytest.raises(SystemExit) as ended:
        call([command, *what, "--address", "http://127.0.0.1:1", "--follow"])
    assert ended.value.code == 130
    said = " ".join(capsys.readouterr().err.split())
    assert "job-1 runs on; `tundish logs job-1 --address http://127.0.0.1:1 --follow` shows it again" in said
    assert "run the same command again" not in said


@pytest.mark.parametrize(("state", "code"), [("STOPPED", None), ("SUCCEEDED", None), ("RUNNING", 1)])
def test_a_job_that_is_still_at_work_after_a_wish_is_no_success(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], state: str, code: int | None
) -> None:
    waited: list[float] = []
    monkeypatch.setattr(jobs, "stop", lambda address, job, wait: waited.append(wait) or state)
    ended = None
    try:
        call(["stop", "job-1", "--address", "http://127.0.0.1:1", *(["--wait", "600"] if code else [])])
    except SystemExit as end:
        ended = end.code
    told = capsys.readouterr()
    assert (ended, told.out) == (code, f"job-1 {state}\n")
    assert waited == [600.0 if code else 10.0]
    assert told.err.startswith("tundish: job-1 was asked to stop and is still at work") == (code == 1)


def test_heads_of_the_files_let_a_training_save() -> None:
    """Ray kills a job three seconds after it was asked to stop, unless its head was started otherwise."""
    for name, way in (("kuberay-cluster.yaml", ("spec",)), ("kuberay-job.yaml", ("spec", "rayClusterSpec"))):
        files = yaml.safe_load_all((TOP / "cluster" / "files" / name).read_text())
        [told] = [one for one in files if one and one["kind"] in ("RayCluster", "RayJob")]
        for key in way:
            told = told[key]
        [head] = told["headGroupSpec"]["template"]["spec"]["containers"]
        assert {"name": "RAY_JOB_STOP_WAIT_TIME_S", "value": "600"} in head["env"], name
    for cloud in ("aws", "gcp"):
        text = (TOP / "cluster" / "files" / f"ray-up-{cloud}.yaml").read_text()
        heads = text.split("head_start_ray_commands:")[1].split("worker_start")[0].split("  - ")
        [start] = [line for line in heads if "--head" in line]
        script = start.replace(">-", "").replace("ulimit -n 65536;", "")
        script = script.replace("ray start", "echo $RAY_JOB_STOP_WAIT_TIME_S")
        told = subprocess.run(["bash", "-c", " ".join(script.split())], capture_output=True, text=True, check=True)
        assert told.stdout.startswith("600 ")
