"""What drags on a Ray of several nodes: the copy comes to where there is room, and nothing of a stage outlives it."""

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import ray
from ray.cluster_utils import Cluster

from tests.test_local_cluster import once
from tests.test_ray_cluster import folder  # noqa: F401 - a fixture: a short path for Ray
from tundish.cluster.on_ray import OnRay

pytestmark = pytest.mark.slow  # a Ray of three nodes


@pytest.fixture(scope="module")
def nodes(folder: str) -> Iterator[tuple[OnRay, list[str]]]:  # noqa: F811
    """A head without CPUs and two nodes of one each; their names."""
    head = {"num_cpus": 0, "temp_dir": folder, "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    try:
        names = [cluster.add_node(num_cpus=1).node_id for _ in range(2)]
        with OnRay(cluster.address) as joined:
            joined.patience = 1.0
            yield joined, names
    finally:
        cluster.shutdown()


class Halting:
    """The fast node stands still from its third item on, as one does whose disk is gone; the other is slow and well."""

    twice = True

    def __init__(self, fast: str, marks: str) -> None:
        self.fast, self.marks = fast, marks

    def __call__(self, item: int) -> int:
        if ray.get_runtime_context().get_node_id() != self.fast:
            until = time.monotonic() + 60  # else it has done all before the fast node's worker has come
            while not os.path.exists(f"{self.marks}/second") and time.monotonic() < until:
                time.sleep(0.05)
            time.sleep(0.5)
        elif not (once(f"{self.marks}/first") or once(f"{self.marks}/second")):
            time.sleep(600)
        return item


def test_a_copy_goes_where_there_is_room_when_the_fastest_node_has_none(
    nodes: tuple[OnRay, list[str]], tmp_path: Path
) -> None:
    cluster, (fast, _) = nodes
    before = cluster.copies.won
    assert sorted(cluster.each("Halting", Halting(fast, str(tmp_path)), range(8))) == list(range(8))
    assert (tmp_path / "second").exists()
    assert cluster.copies.won > before


class Writing:
    """Who does the last item first goes on writing for a minute; a second one is done at once."""

    twice = True

    def __init__(self, marks: str) -> None:
        self.marks = marks

    def __call__(self, item: int) -> int:
        if item == 5 and once(f"{self.marks}/begun"):
            for _ in range(6000):
                with open(f"{self.marks}/written", "a") as file:
                    file.write("x")
                time.sleep(0.01)
        time.sleep(0.2)
        return item


def test_nothing_of_a_stage_runs_on_after_it(nodes: tuple[OnRay, list[str]], tmp_path: Path) -> None:
    cluster, _ = nodes
    assert sorted(cluster.each("Writing", Writing(str(tmp_path)), range(6))) == list(range(6))
    written = (tmp_path / "written").stat().st_size
    assert written > 0
    time.sleep(1)
    assert (tmp_path / "written").stat().st_size == written
