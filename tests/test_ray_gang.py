"""A training on Ray Train whose workers or driver are killed or asked to stop: it goes on.

The training is real and small (some 60 steps in float64); Ray has a folder of its own, and nothing calls `ray stop`.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import ray

from tests.test_model_pretrain import equal_to, losses, toy
from tundish.cluster import checkpoint
from tundish.cluster.local import Local
from tundish.cluster.on_ray import OnRay
from tundish.cluster.ray_board import RESTARTS, Board
from tundish.cluster.ray_gang import halved, scaling_of
from tundish.stages.pretrain_loop import PretrainTask, pretrain

TOP = Path(__file__).resolve().parents[1]
pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """The order of sums depends on the number of threads, and losses are compared to the last bit."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TUNDISH_TORCH_THREADS", "1")
        yield


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """A short path: Ray puts sockets there, and their names may be 107 bytes long."""
    with tempfile.TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True) as made:
        yield Path(made)


@pytest.fixture(scope="module")
def cluster(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[OnRay]:
    scratch = str(tmp_path_factory.mktemp("gangs"))
    with OnRay(cpus=4, dashboard=False, temporary=str(folder), scratch=scratch) as cluster:
        yield cluster
    shutil.rmtree(scratch, ignore_errors=True)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> PretrainTask:
    """What two workers make of it when nobody disturbs them."""
    task = toy(tmp_path_factory.mktemp("whole"))
    Local().gang("Pretrain", partial(pretrain, task), size=2)
    return task


def disturbed(
    task: PretrainTask, what: int, at: int, times: int, rank: int, world: int, tell: Callable[[dict[str, Any]], None]
) -> None:
    """Pretrain, whose second worker (the only one, alone) sends itself a signal behind a step, the first few times."""
    starts = Path(task.out).parent / "starts"
    starts.mkdir(exist_ok=True)
    begun = len(list(starts.glob(f"*-{rank}")))
    (starts / f"{begun}-of-{world}-{rank}").touch()

    def telling(row: dict[str, Any]) -> None:
        tell(row)
        if rank == 0:
            with open(Path(task.out).parent / "told", "a") as lines:
                lines.write(f"{row['step']}\n")
        if row["step"] >= at and rank == world - 1 and begun < times:
            os.kill(os.getpid(), what)
            time.sleep(0.5)

    pretrain(task, rank, world, telling)


def starts(task: PretrainTask) -> int:
    return len(list((Path(task.out).parent / "starts").glob("*-0")))


def test_a_killed_worker_costs_the_steps_since_the_last_checkpoint(
    cluster: OnRay, whole: PretrainTask, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    task = toy(tmp_path)
    heard: list[tuple[Any, ...]] = []
    cluster.watch, unwatched = lambda *said: heard.append(said), cluster.watch
    try:
        cluster.gang("Pretrain", partial(disturbed, task, signal.SIGKILL, 29, 1), size=2)
    finally:
        cluster.watch = unwatched
    assert starts(task) == 2
    assert "Pretrain: trains on CPUs, in 2 workers" in caplog.messages
    equal_to(whole, task)
    assert ("Pretrain", 9, len(losses(task)), None) in heard or heard[-1][1] > 9


def test_a_worker_that_is_asked_to_stop_has_the_gang_save_and_go_on(
    cluster: OnRay, whole: PretrainTask, tmp_path: Path
) -> None:
    """SIGTERM to one worker: all save first, so no step is taken twice."""
    task = toy(tmp_path, checkpoint_every=1000)
    cluster.gang("Pretrain", partial(disturbed, task, signal.SIGTERM, 19, 1), size=2)
    assert starts(task) == 2
    assert told(task) == sorted(set(told(task)))
    equal_to(whole, task)


def told(task: PretrainTask) -> list[int]:
    """The steps that rank 0 told of, in order, those of all starts."""
    return [int(line) for line in (Path(task.out).parent / "told").read_text().split()]


def test_a_start_is_made_as_long_as_they_come_further() -> None:
    board = Board()
    for step in (0, 9, 19, 29, 39, 49):  # a worker is lost again and again, each time somewhat later
        assert board.begin()
        board.put({"step": step})
        board.failed("RuntimeError: the connection was closed")
    for _ in range(1 + RESTARTS):
        assert board.begin()
        board.failed("RuntimeError: the disk is full")
        board.failed("RuntimeError: the connection was closed")
    assert not board.begin()
    assert board.told()["lost"] == "RuntimeError: the disk is full (3 starts came no further)"
    saved = Board()
    for _ in range(9):  # asked to stop again and again, for its nodes are taken away: nothing is lost by that
        assert saved.begin()
        assert not saved.left("it lies at step 0")
    saved.end()
    assert saved.wished() == "end"
    assert not saved.begin()
    wrong = Board()
    assert wrong.begin()
    wrong.refuse("the shards hold 3 tokens; give more")
    wrong.refuse("and another")
    assert not wrong.begin()
    assert wrong.told()["mistake"] == "the shards hold 3 tokens; give more"


def drive(address: str, folder: str) -> None:
    """A driver of its own, that joins the cluster."""
    task = toy(Path(folder), checkpoint_every=1000)
    try:
        with OnRay(address, scratch=f"{folder}/gangs") as joined:
            joined.gang("Pretrain", partial(slowly, task), size=2)
    except KeyboardInterrupt as stop:
        print(stop, file=sys.stderr)
        sys.exit(130)


def slowly(task: PretrainTask, rank: int, world: int, tell: Callable[[dict[str, Any]], None]) -> None:
    pretrain(task, rank, world, lambda row: (tell(row), time.sleep(4.0))[0])


@pytest.mark.parametrize("asked", [signal.SIGTERM, signal.SIGINT])
def test_a_driver_that_is_asked_to_stop_saves_first(
    cluster: OnRay, whole: PretrainTask, tmp_path: Path, asked: int
) -> None:
    """SIGTERM is what `ray job stop` sends."""
    address = ray.get_runtime_context().gcs_address
    script = f"from tests.test_ray_gang import drive; drive({address!r}, {str(tmp_path)!r})"
    log, until = tmp_path / "out" / "log.jsonl", time.monotonic() + 400
    with subprocess.Popen([sys.executable, "-c", script], cwd=TOP, stderr=subprocess.PIPE, text=True) as driver:
        while not log.exists() or log.read_bytes().count(b"\n") < 15:
            assert driver.poll() is None
            assert time.monotonic() < until
            time.sleep(0.05)
        driver.send_signal(asked)
        said = driver.communicate(timeout=300)[1]
    assert driver.returncode == 130, said
    task = toy(tmp_path, checkpoint_every=1000)
    step = checkpoint.latest(f"{task.out}/checkpoints")
    assert step
    assert f"was asked to stop and lies at step {step} in {task.out}" in said
    before = log.read_bytes().splitlines()[:step]
    assert [json.loads(line)["step"] for line in before] == list(range(step))
    cluster.gang("Pretrain", partial(pretrain, task), size=2)
    assert log.read_bytes().splitlines()[:step] == before, "none of these steps was taken again"
    equal_to(whole, task)


def test_what_is_asked_of_ray() -> None:
    plain = scaling_of(3, 3, 4, 0)
    assert (plain.num_workers, plain.use_gpu, plain.resources_per_worker) == (3, False, {"CPU": 1.0})
    elastic = scaling_of(8, 2, 4, 0)
    assert (elastic.num_workers, elastic.resources_per_worker) == ((2, 8), {"CPU": 1.0})
    assert scaling_of(8, 1, 1, 0).resources_per_worker == {"CPU": 1.0}
    assert scaling_of(8, 3, 2, 0).resources_per_worker == {"CPU": 0.5}
    assert [halved(share) for share in (1.0, 0.9, 0.34, 0.25)] == [1.0, 0.5, 0.25, 0.25]
    assert scaling_of(8, 2, 16, 4).use_gpu
    with pytest.raises(ValueError, match=r"^8 training workers and 4 GPUs: .* ask for 4, or for 4-8"):
        scaling_of(8, 8, 16, 4)
    with pytest.raises(ValueError, match=r"^17 training workers on 4 CPUs would starve each other"):
        scaling_of(20, 17, 4, 0)
