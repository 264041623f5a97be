"""Machines that say what they are for: work without a GPU stays with its own, copies too, and outlives the last of
them."""

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import ray
from ray.cluster_utils import Cluster

from tests.test_ray_cluster import (
    Standing,
    folder,  # noqa: F401 - a fixture: a short path for Ray
)
from tundish.cluster.on_ray import OnRay
from tundish.cluster.ray_tasks import LABEL

pytestmark = pytest.mark.slow  # a Ray of four nodes


class Placed:
    """Work that tells where it was done."""

    def __call__(self, item: int) -> str:
        time.sleep(0.3)
        return str(ray.get_runtime_context().get_node_id())


@pytest.fixture(scope="module")
def nodes(folder: str) -> Iterator[tuple[OnRay, Cluster, list[Any], str]]:  # noqa: F811
    """A head without CPUs, two nodes for work without GPUs, and the name of one that has a GPU and more room."""
    head = {"num_cpus": 0, "temp_dir": folder, "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    try:
        plain = [cluster.add_node(num_cpus=1, labels={LABEL: "cpu"}) for _ in range(2)]
        large = cluster.add_node(num_cpus=3, num_gpus=1, labels={LABEL: "gpu"})
        with OnRay(cluster.address) as joined:
            joined.patience = 1.0
            yield joined, cluster, plain, large.node_id
    finally:
        cluster.shutdown()


def test_work_without_a_gpu_leaves_machines_that_have_one_to_others(
    nodes: tuple[OnRay, Cluster, list[Any], str],
) -> None:
    on, _, plain, _ = nodes
    assert set(on.each("Placed", Placed(), range(12))) == {each.node_id for each in plain}


def test_a_copy_of_what_stands_still_asks_for_the_same_machines(
    nodes: tuple[OnRay, Cluster, list[Any], str], tmp_path: Path
) -> None:
    on, _, _, _ = nodes
    before = on.copies.won
    assert sorted(on.each("Standing", Standing(str(tmp_path / "stood")), range(8))) == [*range(8)]
    assert (tmp_path / "stood").exists()
    assert on.copies.won == before + 1


def test_where_the_last_of_them_is_gone_work_goes_to_what_is_left(
    nodes: tuple[OnRay, Cluster, list[Any], str],
) -> None:
    """The last test: it takes the nodes away."""
    on, cluster, plain, large = nodes
    told: list[str] = []
    failing = threading.Thread(target=lambda: [cluster.remove_node(each, allow_graceful=False) for each in plain])
    for place in on.each("Placed", Placed(), range(40)):
        told.append(place)
        if len(told) == 4:
            failing.start()
    failing.join()
    assert len(told) == 40
    assert large not in told[:4]
    assert told[-1] == large
