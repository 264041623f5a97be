"""A crawl on a real Ray, of which keepers, the driver and a node with its disk are killed: kill -9, real sockets."""

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from ray.cluster_utils import Cluster

from tests.site_server import NOTHING, Asked, answer, served
from tests.test_crawl import HOSTS, SEEDS, crawl, many, stored
from tundish.cluster.on_ray import OnRay
from tundish.cluster.shards import Dataset
from tundish.cluster.wire import Web
from tundish.stages import crawl_keeper
from tundish.stages.stage import Place

TOP = Path(__file__).resolve().parents[1]
PARTS = 4


class Hasty:
    """The web of the toy hosts, asked by keepers that leave a checkpoint every half second."""

    def __init__(self, address: str) -> None:
        self.address = address

    def __call__(self) -> Web:
        crawl_keeper.CHECKPOINT = 0.5
        return Web({f"{host}:80": self.address for host in HOSTS})


@pytest.fixture
def folder() -> Iterator[Path]:
    """A short path: Ray puts sockets there, and their names may be 107 bytes long."""
    with tempfile.TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True) as made:
        yield Path(made)


@pytest.fixture
def head(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[int], Cluster]]:
    """Starts a Ray of one node with so many CPUs. Whether it asks for a token is as in the rest of this process."""
    monkeypatch.setenv("RAY_TMPDIR", str(folder))  # where Cluster tells its address: not to other Rays of this machine
    (folder / "ray").mkdir()
    begun: list[Cluster] = []

    def begin(cpus: int) -> Cluster:
        begun.append(Cluster(initialize_head=True, head_node_args={"num_cpus": cpus, **common(folder)}))
        return begun[0]

    try:
        yield begin
    finally:
        for cluster in begun:
            cluster.shutdown()


def common(folder: Path) -> dict[str, Any]:
    return {"temp_dir": str(folder / "r"), "object_store_memory": 80 << 20, "include_dashboard": False}


@pytest.fixture
def nodes(head: Callable[[int], Cluster], folder: Path) -> Cluster:
    """A head that only leads, and two nodes with a temporary folder each, which stands for a disk of their own."""
    made = head(0)
    for name in ("one", "two"):
        (folder / name).mkdir()
        made.add_node(num_cpus=2, env_vars={**os.environ, "TMPDIR": str(folder / name)}, **common(folder))
    return made


class Said:
    """The toy web as a server says it; `at`: what is done when so many were asked."""

    def __init__(self, at: dict[int, Callable[[], None]]) -> None:
        self.web, self.asked, self.at = many(), [], at

    def __call__(self, one: Asked) -> bytes:
        url = f"http://{one.host}{one.path}"
        if url not in self.web:
            return NOTHING
        self.asked.append(url)
        if deed := self.at.get(len(self.asked)):
            threading.Thread(target=deed).start()
        return answer(200, self.web[url].body)


def crawled(address: str, site: str, folder: str) -> Dataset:
    """The toy hosts with their delays, on the Ray at `address`."""
    with OnRay(address, dashboard=False) as cluster:
        stage = crawl(seeds=SEEDS, delays=dict.fromkeys(HOSTS, 0.25), parts=PARTS)
        return stage.through(Hasty(site), cluster, Place(folder, stage.fingerprint))


@pytest.mark.slow  # Ray takes a while to believe that a node is dead
def test_a_node_that_dies_with_its_disk_costs_no_page(nodes: Cluster, folder: Path, tmp_path: Path) -> None:
    """Killed with 60 of 200 pages stored; its parts go on at the other node from their checkpoints."""
    died = threading.Event()

    def lose() -> None:
        [gone, *_] = [node for node in nodes.worker_nodes if list(disk(node).glob("tundish-crawl-*/*/*.sqlite"))]
        disk(gone).rename(folder / "lost")  # at once: a keeper writes there, and what is half gone it could repair
        time.sleep(1.5)  # in which keepers find their folders gone, and begin anew from their checkpoints
        nodes.remove_node(gone, allow_graceful=False)
        died.set()

    def disk(node: Any) -> Path:
        return Path(node._ray_params.env_vars["TMPDIR"])

    say = Said({60: lose})
    with served(say) as site:
        made = crawled(nodes.address, site.address, str(tmp_path / "crawl"))
    assert died.is_set()
    once(made, say)
    assert len(say.asked) - len(say.web) < 90  # what its checkpoints did not know, and none of what they did


def processes(title: str, folder: Path) -> list[int]:
    """Of the Ray in this folder (Linux)."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if (path / "cmdline").read_bytes().startswith(title.encode()):
                found += [int(path.name)] if str(folder).encode() in (path / "environ").read_bytes() else []
    return found


def once(made: Dataset, say: Said) -> None:
    """Every page stored once, though some were asked for twice."""
    assert stored(made) == sorted(say.web)
    assert set(say.asked) == set(say.web)
    assert len(say.asked) > len(say.web)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="keepers are found in /proc")
def test_a_killed_keeper_and_a_killed_driver_cost_no_page(
    head: Callable[[int], Cluster], folder: Path, tmp_path: Path
) -> None:
    """kill -9 of a keeper's process with 40 of 200 pages asked for, of the driver with 110, of a keeper with 150."""
    address, killed = head(4).address, []

    def keeper() -> None:
        """Ray ends those of a killed driver by itself, and it takes a while until the next one's are there."""
        until = time.monotonic() + 60
        while time.monotonic() < until:
            with contextlib.suppress(IndexError, ProcessLookupError):
                os.kill(processes("ray::KeeperActor", folder)[0], signal.SIGKILL)
                killed.append("keeper")
                return
            time.sleep(0.05)

    def leader() -> None:
        driver.kill()
        killed.append("driver")

    say = Said({40: keeper, 110: leader, 150: keeper})
    words = "from tests.test_crawl_nodes import crawled; crawled({!r}, {!r}, {!r})"
    with served(say) as site:
        told = address, site.address, str(tmp_path / "crawl")
        with subprocess.Popen([sys.executable, "-c", words.format(*told)], cwd=TOP) as driver:
            assert driver.wait() == -signal.SIGKILL
        made = crawled(*told)
    assert killed == ["keeper", "driver", "keeper"]
    once(made, say)
