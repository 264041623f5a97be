"""A crawl on a Ray of several nodes, one of which dies with its disk: real raylets, real sockets, kill -9."""

import os
import shutil
import tempfile
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from ray.cluster_utils import Cluster

from tests.site_server import NOTHING, Asked, Said, answer, served
from tests.test_crawl import HOSTS, SEEDS, crawl, many, stored
from tundish.cluster.on_ray import OnRay
from tundish.cluster.wire import Web
from tundish.stages import crawl_keeper
from tundish.stages.stage import Place

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
def nodes(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    """A head that only leads, and two nodes with a temporary folder each, which stands for a disk of their own."""
    monkeypatch.setenv("RAY_TMPDIR", str(folder))  # where Cluster tells its address: not to other Rays of this machine
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    (folder / "ray").mkdir()
    common = {"temp_dir": str(folder / "r"), "object_store_memory": 80 << 20, "include_dashboard": False}
    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, **common})
    try:
        for name in ("one", "two"):
            (folder / name).mkdir()
            made.add_node(num_cpus=2, env_vars={**os.environ, "TMPDIR": str(folder / name)}, **common)
        yield made
    finally:
        made.shutdown()


@pytest.mark.slow  # Ray takes a while to believe that a node is dead
def test_a_node_that_dies_with_its_disk_costs_no_page(nodes: Cluster, folder: Path, tmp_path: Path) -> None:
    """Killed with 60 of 200 pages stored; its parts go on at the other node from their checkpoints."""
    web, died = many(), threading.Event()
    asked: list[str] = []

    def say(one: Asked) -> Said:
        url = f"http://{one.host}{one.path}"
        if url not in web:
            return NOTHING
        asked.append(url)
        if len(asked) == 60:
            threading.Thread(target=lose).start()
        page = web[url]
        assert not callable(page)
        return answer(200, page.body)

    def lose() -> None:
        [gone, *_] = [node for node in nodes.worker_nodes if held(disk(node))]
        nodes.remove_node(gone, allow_graceful=False)
        shutil.rmtree(disk(gone))
        died.set()

    def disk(node: object) -> Path:
        return Path(node._ray_params.env_vars["TMPDIR"])  # type: ignore[attr-defined]

    def held(path: Path) -> list[Path]:
        return list(path.glob("tundish-crawl-*/*/*.sqlite"))

    with served(say) as site, OnRay(nodes.address, dashboard=False) as cluster:
        assert cluster.nodes == 3
        stage = crawl(seeds=SEEDS, delays=dict.fromkeys(HOSTS, 0.1), parts=PARTS)
        made = stage.through(Hasty(site.address), cluster, Place(str(tmp_path / "crawl"), stage.fingerprint))
    assert died.is_set()
    assert stored(made) == sorted(web)
    times = Counter(asked)
    assert set(times) == set(web)
    assert 0 < sum(times.values()) - len(web) < 60  # what its checkpoints did not know, and none of what they did
    assert {urlsplit(url).hostname for url, n in times.items() if n > 1} < set(HOSTS)  # the other node lost nothing
