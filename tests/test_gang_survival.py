"""A training on local workers whose driver is asked to stop, interrupted, or killed: real signals to real processes."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from functools import partial
from pathlib import Path

import pytest
import torch

from tests.test_model_pretrain import equal_to, lines, toy
from tundish.cluster import checkpoint
from tundish.cluster.checkpoint_save import Saver
from tundish.cluster.local import Local
from tundish.cluster.wish import Stopped, heed, listening, wish, wishes
from tundish.stages.pretrain_loop import pretrain

TOP = Path(__file__).resolve().parents[1]
SLOW = 1.5  # seconds that each tenth step takes longer, so that a signal comes in the middle


def task_in(folder):
    return toy(folder, checkpoint_every=1000)  # whatever is found on disk was saved because of a wish


def slowly(task, seconds, rank, world, tell):
    """Pretrain, and leave the process's number where the test finds it."""
    Path(f"{task.out}/pid-{rank}").write_text(str(os.getpid()))
    pretrain(task, rank, world, lambda row: time.sleep(seconds))


def drive(folder):
    """A driver of its own, which a test may end."""
    task = task_in(Path(folder))
    Path(task.out).mkdir(exist_ok=True)
    try:
        Local().gang("Pretrain", partial(slowly, task, SLOW), size=2)
    except KeyboardInterrupt as stop:
        print(stop, file=sys.stderr)
        sys.exit(130)


def begun(folder, steps=15, **other):
    """A driver whose training has come some steps far."""
    script = f"from tests.test_gang_survival import drive; drive({str(folder)!r})"
    driver = subprocess.Popen([sys.executable, "-c", script], cwd=TOP, stderr=subprocess.PIPE, text=True, **other)
    log, until = folder / "out" / "log.jsonl", time.monotonic() + 400
    while not log.exists() or log.read_bytes().count(b"\n") < steps:
        assert driver.poll() is None, driver.stderr.read()
        assert time.monotonic() < until
        time.sleep(0.02)
    return driver


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """The order of sums depends on the number of threads, and losses are compared to the last bit."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TUNDISH_TORCH_THREADS", "1")
        yield


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    task = task_in(tmp_path_factory.mktemp("whole"))
    Local().gang("Pretrain", partial(pretrain, task), size=2)
    return task


def goes_on_from_there(whole, folder, said):
    """The training lies at the step it said, and goes on at that one."""
    task = task_in(folder)
    step = checkpoint.latest(f"{task.out}/checkpoints")
    assert step
    assert step > 10
    assert f"was asked to stop and lies at step {step} in {task.out}" in said
    before = (folder / "out" / "log.jsonl").read_bytes().splitlines()[:step]
    assert [json.loads(line)["step"] for line in before] == list(range(step))
    Local().gang("Pretrain", partial(slowly, task, 0.0), size=2)
    after = (folder / "out" / "log.jsonl").read_bytes().splitlines()
    assert after[:step] == before, "the times of steps are in their lines: none was taken again"
    equal_to(whole, task)


@pytest.mark.slow
@pytest.mark.parametrize("asked", ["driver", "group", "interrupt", "worker"])
def test_a_wish_to_stop_reaches_local_workers_and_saves_first(whole, tmp_path, asked):
    driver = begun(tmp_path, start_new_session=True)
    if asked == "driver":
        driver.send_signal(signal.SIGTERM)
    elif asked == "worker":
        os.kill(int((tmp_path / "out" / "pid-1").read_text()), signal.SIGTERM)
    else:  # as a terminal does, or a system that stops a service
        os.killpg(driver.pid, signal.SIGINT if asked == "interrupt" else signal.SIGTERM)
    said = driver.communicate(timeout=300)[1]
    assert driver.returncode == 130, said
    assert "Traceback" not in said
    goes_on_from_there(whole, tmp_path, said)


@pytest.mark.slow
def test_a_second_wish_does_not_wait(tmp_path):
    driver = begun(tmp_path, start_new_session=True)
    number = int((tmp_path / "out" / "pid-0").read_text())
    os.kill(number, signal.SIGSTOP)  # a worker that will not come to its next step
    for _ in range(2):
        driver.send_signal(signal.SIGTERM)
        time.sleep(1)
    driver.communicate(timeout=60)
    assert driver.returncode == 130
    assert gone(number)


@pytest.mark.slow
def test_a_killed_driver_leaves_no_workers_behind(tmp_path):
    driver = begun(tmp_path)
    numbers = [int((tmp_path / "out" / f"pid-{rank}").read_text()) for rank in range(2)]
    assert not any(map(gone, numbers))
    driver.kill()
    driver.wait()
    until = time.monotonic() + 30
    while not all(map(gone, numbers)) and time.monotonic() < until:
        time.sleep(0.05)
    assert all(map(gone, numbers))
    assert len(lines(task_in(tmp_path), "log.jsonl")) < 60, "there was something left to do"


def gone(number):
    try:
        os.kill(number, 0)
    except ProcessLookupError:
        return True
    stat = Path(f"/proc/{number}/stat")
    return stat.exists() and stat.read_text().rpartition(")")[2].split()[0] == "Z"


def test_a_wish_is_for_who_listens(monkeypatch):
    assert not wish("nobody hears it")
    assert wishes() == 0
    heard = []
    before = signal.signal(signal.SIGTERM, lambda number, frame: heard.append(number))
    try:
        undo = heed()
        signal.raise_signal(signal.SIGTERM)
        assert heard == [signal.SIGTERM], "without a listener the signal does what it did"
        found = []

        def work():  # as Ray Train's loop, in a thread of its own
            with listening():
                os.kill(os.getpid(), signal.SIGTERM)
                until = time.monotonic() + 30
                while not wishes() and time.monotonic() < until:
                    time.sleep(0.01)
                found.append(wishes())

        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
        assert found == [1]
        assert heard == [signal.SIGTERM]
        assert wishes() == 0, "what was heard ends with who listened"
        undo()
        with listening():
            assert wish("again")
            assert wishes() == 1
        signal.raise_signal(signal.SIGTERM)
        assert heard == [signal.SIGTERM] * 2
    finally:
        signal.signal(signal.SIGTERM, before)


def saves_for_long(rank, world, tell):
    """Asked by its group, and again by the driver while what it saves is on its way."""
    with listening():
        os.kill(os.getpid(), signal.SIGTERM)
        assert wishes() == 1
    os.kill(os.getpid(), signal.SIGTERM)
    raise Stopped("it lies there")


def unasked(rank, world, tell):
    with listening():
        pass
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(60)


@pytest.mark.slow
def test_a_wish_that_comes_twice_does_not_end_who_saves():
    with pytest.raises(Stopped, match="it lies there"):
        Local().gang("Saves", saves_for_long, size=2)
    with pytest.raises(RuntimeError, match="ended with exit code -15"):
        Local().gang("Unasked", unasked, size=2)


def test_the_command_line_says_where_a_stopped_training_lies(monkeypatch, capsys):
    from tundish.pipeline import cli

    def stopped(*_, **__):
        raise Stopped("the training was asked to stop and lies at step 7 in there; start it again")

    for stop, sentence in ((stopped, "lies at step 7 in there"), (interrupted, "run the same command again")):
        monkeypatch.setattr("tundish.pipeline.verify.verify", stop)
        with pytest.raises(SystemExit) as ended:
            cli.call(["verify", "root"])
        assert ended.value.code == 130
        assert sentence in capsys.readouterr().err


def test_a_rank_whose_group_is_gone_seals_nothing(tmp_path):
    """As when Ray Train tears the groups down beneath a rank that saves, because another is lost."""
    with Saver(str(tmp_path)) as saver:
        saver.world = 2
        state = {"model": {"one": torch.ones(3), "two": torch.ones(3)}}
        with pytest.raises(ValueError, match=r"2 ranks save, of which only 1 are here"):
            saver.save(state, 1, block=True)
        assert checkpoint.latest(str(tmp_path)) is None
        assert not list(tmp_path.glob("**/*.safetensors"))
        saver.world = 1
        saver.save(state, 1, block=True)
    assert checkpoint.latest(str(tmp_path)) == 1


def interrupted(*_, **__):
    raise KeyboardInterrupt
