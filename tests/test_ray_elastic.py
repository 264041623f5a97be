"""A gang on Ray of no fixed size: nodes go and come while a real training runs, and its ledger is the same."""

import contextlib
import json
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent import futures
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import ray
from ray.cluster_utils import Cluster

from tests.test_model_pretrain import lines, losses, toy
from tundish.cluster import checkpoint, ray_gang
from tundish.cluster.on_ray import OnRay
from tundish.cluster.wish import wishes
from tundish.stages.pretrain_loop import PretrainTask, pretrain

pytestmark = pytest.mark.slow


@pytest.fixture
def nodes(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], Any]]:
    """A head with one CPU, and a function that adds a node with one more. The folder's path is short: Ray puts
    sockets there, and their names may be 107 bytes long. Whether they ask for a token is as in the rest of this
    process, which reads that once: a Ray that asks for none cannot talk to a driver that does."""
    with tempfile.TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True) as made:
        monkeypatch.setenv("RAY_TMPDIR", made)  # where Cluster tells its address: not to other Rays of this machine
        monkeypatch.setenv("RAY_TRAIN_PREEMPTION_POLL_INTERVAL_S", "1")
        monkeypatch.setenv("RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S", "40")  # for workers that have no place any more
        monkeypatch.setenv("TUNDISH_TORCH_THREADS", "1")
        (Path(made) / "ray").mkdir()
        common = {"temp_dir": f"{made}/r", "object_store_memory": 80 << 20, "include_dashboard": False, "num_cpus": 1}
        cluster = Cluster(initialize_head=True, head_node_args=common)
        cluster.more = partial(cluster.add_node, **common)
        try:
            yield cluster
        finally:
            cluster.shutdown()


def noted(
    task: PretrainTask, patient: int, pauses: dict[int, float], rank: int, world: int,
    tell: Callable[[dict[str, Any]], None],
) -> None:  # fmt: skip
    """Pretrain slowly, and note how large the gang is at which step. Ray reckons anew each 20 seconds what there is.

    As so many workers (`patient`) it does not get beyond step 20 before it is asked to stop, however long that takes.
    """
    end = time.monotonic() + 300

    def telling(row: dict[str, Any]) -> None:
        tell(row)
        with open(Path(task.out).parent / f"seen-{rank}", "a") as seen:
            seen.write(json.dumps([world, row["step"]]) + "\n")
        time.sleep(pauses[world])
        while world == patient and rank == 0 and row["step"] >= 20 and not wishes() and time.monotonic() < end:
            time.sleep(0.1)

    pretrain(task, rank, world, telling)


def seen(task: PretrainTask) -> list[list[int]]:
    """(workers, step) as rank 0 told, in order."""
    path = Path(task.out).parent / "seen-0"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


@contextlib.contextmanager
def training(
    nodes: Any, task: PretrainTask, folder: Path, pauses: dict[int, float], patient: int = 0
) -> Iterator[None]:
    """A gang of one or two, in a thread of its own: nodes come and go in the main one. It has ended after the block."""
    with OnRay(nodes.address, scratch=str(folder / "gangs")) as cluster, futures.ThreadPoolExecutor(1) as threads:
        done = threads.submit(cluster.gang, "Pretrain", partial(noted, task, patient, pauses), size=2, least=1)
        until = time.monotonic() + 300
        while len(seen(task)) < 2 and not done.done() and time.monotonic() < until:
            time.sleep(0.1)
        yield
        done.result(timeout=600)


def same_ledger(task: PretrainTask, folder: Path) -> None:
    whole = toy(folder)
    pretrain(whole, 0, 1, lambda row: None)
    assert lines(task, "ledger.jsonl") == lines(whole, "ledger.jsonl")
    assert losses(task) == pytest.approx(losses(whole), abs=1e-6)


def test_a_gang_grows_when_a_node_comes_and_saves_first(
    nodes: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray_gang, "LOOK", 3.0)
    task = toy(tmp_path / "task", checkpoint_every=1000)  # what is gone on from was saved because the gang grew
    with training(nodes, task, tmp_path, {1: 1.5, 2: 0.1}, patient=1):
        nodes.more()
    workers, steps = zip(*seen(task), strict=True)
    assert sorted(set(workers)) == [1, 2]
    assert list(workers) == sorted(workers), "one, then two"
    assert list(steps) == sorted(set(steps)), "no step was told of twice: the gang saved before it grew"
    same_ledger(task, tmp_path / "whole")


@pytest.mark.parametrize("how", ["lost", "drained"])
def test_a_gang_goes_on_with_fewer_when_a_node_goes(nodes: Any, tmp_path: Path, how: str) -> None:
    """A node that is lost costs the steps since the last checkpoint; one that is drained first costs none."""
    task = toy(tmp_path / "task", checkpoint_every=10 if how == "lost" else 1000)
    node = nodes.more()
    nodes.wait_for_nodes()
    with training(nodes, task, tmp_path, {1: 0.1, 2: 4.0}, patient=2 if how == "drained" else 0):
        if how == "drained":
            gcs = ray._raylet.GcsClient(address=nodes.address)
            deadline = int(time.time() * 1000) + 120_000
            assert gcs.drain_node(node.node_id, 2, "the spot is taken back", deadline)[0]  # 2: preemption
            until = time.monotonic() + 120
            while not checkpoint.latest(f"{task.out}/checkpoints") and time.monotonic() < until:
                time.sleep(0.1)
        nodes.remove_node(node, allow_graceful=False)
    workers, steps = zip(*seen(task), strict=True)
    assert sorted(set(workers)) == [1, 2]
    assert list(workers) == sorted(workers, reverse=True), "two, then one"
    if how == "drained":
        assert list(steps) == sorted(set(steps)), "no step was told of twice"
    same_ledger(task, tmp_path / "whole")
