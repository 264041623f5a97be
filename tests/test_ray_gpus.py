"""Work that a model does goes where GPUs are, and all else anywhere: on nodes that only say that they have some. And
what a driver hands to workers of a cluster that it joins."""

import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import pytest
import ray
from ray.cluster_utils import Cluster

from tests.test_ray_cluster import TOP, folder  # noqa: F401 - a fixture: a short path for Ray
from tundish.cluster import handed
from tundish.cluster.map import _dealt
from tundish.cluster.on_ray import OnRay
from tundish.cluster.target import Target
from tundish.cluster.verbs import Job, Status, wants_gpu

pytestmark = pytest.mark.slow  # a Ray of two nodes


class Where:
    """Work that tells where it was done, and which GPUs it was shown."""

    def __init__(self, gpu: bool) -> None:
        self.gpu = gpu

    def __call__(self, item: int) -> tuple[str, str]:
        time.sleep(0.2)
        return ray.get_runtime_context().get_node_id(), os.environ.get("CUDA_VISIBLE_DEVICES", "")


@pytest.fixture(scope="module")
def nodes(folder: str) -> Iterator[tuple[OnRay, str]]:  # noqa: F811
    """A node without GPUs and one that says that it has two; the second one's name."""
    cluster = Cluster(
        initialize_head=True, head_node_args={"num_cpus": 2, "temp_dir": folder, "include_dashboard": False}
    )
    try:
        there = cluster.add_node(num_cpus=2, num_gpus=2)
        with OnRay(cluster.address) as joined:
            yield joined, there.node_id
    finally:
        cluster.shutdown()


def places(cluster: OnRay, gpu: bool, share: float | None) -> list[Any]:
    cluster.gpu_share = share
    return list(cluster.each("Where", Where(gpu), range(12)))


def test_tasks_that_want_a_gpu_are_given_one(nodes: tuple[OnRay, str]) -> None:
    cluster, with_gpus = nodes
    assert {node for node, _ in places(cluster, True, None)} == {with_gpus}
    assert {shown for _, shown in places(cluster, True, 1.0)} == {"0", "1"}


def test_all_others_go_anywhere_and_see_none(nodes: tuple[OnRay, str]) -> None:
    cluster, _ = nodes
    for gpu, share in ((False, None), (True, 0.0)):
        found = places(cluster, gpu, share)
        assert len({node for node, _ in found}) == 2
        assert {shown for _, shown in found} == {""}


def test_workers_of_a_cluster_that_is_joined_read_what_the_driver_reads(
    nodes: tuple[OnRay, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a process of its own: this one has joined already. Its machines were started without these variables."""
    told = {"TUNDISH_STORAGE": "s3://near?endpoint=http://127.0.0.1:9000", "TUNDISH_MIN_FREE": "7KB",
            "TUNDISH_TOKENS": "/none=1GB"}  # fmt: skip
    for name, text in told.items():
        monkeypatch.setenv(name, text)
    address = ray.get_runtime_context().gcs_address
    script = f"from tests.test_ray_gpus import drive; drive({address!r})"
    ran = subprocess.run([sys.executable, "-c", script], cwd=TOP, capture_output=True, text=True, timeout=200)
    assert ran.returncode == 0, ran.stderr
    read = [json.loads(line) for line in ran.stdout.split("\n") if line.startswith("{")]
    assert len(read) == 5
    assert all(told.items() <= one.items() for one in read)


def drive(address: str) -> None:
    """Tells what this process and its workers read, the keepers of a crawl as well."""
    print(json.dumps(reads(0)))
    with OnRay(address) as joined:
        for one in joined.each("Reads", reads, range(3)):
            print(json.dumps(one))
        for one in joined.attend("Keep", Reader, parts=1, stop=lambda now: True):
            print(json.dumps(one))


def reads(item: int) -> dict[str, str]:
    return {name: text for name, text in os.environ.items() if name in handed.OURS}


class Reader:
    """A keeper without work, that tells what it reads when it is closed."""

    def __init__(self, part: int) -> None:
        self.part = part

    async def work(self, post: Any) -> None:
        await asyncio.sleep(600)

    async def receive(self, sender: int, batch: str, rows: list[Any]) -> None:
        raise AssertionError

    def status(self) -> Status:
        return Status(idle=True)

    async def close(self) -> dict[str, str]:
        return reads(0)


def test_a_pass_wants_one_when_one_of_its_functions_does(nodes: tuple[OnRay, str]) -> None:
    from tests.test_local_cluster import SOURCE
    from tundish.stages.grade import Graded
    from tundish.stages.predict_corpus import Predicted

    plain, model = Job(abs, (Target("a", "k"),)), Job(Where(True), (Target("b", "k"),))  # type: ignore[arg-type]
    assert [wants_gpu(_dealt(jobs, SOURCE)[0]) for jobs in ([plain], [plain, model])] == [False, True]
    assert wants_gpu(Graded)
    assert wants_gpu(Predicted)
