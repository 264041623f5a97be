"""Workers, nodes, the driver and the head are killed (SIGKILL) while a recipe runs on a Ray of three nodes, in stages
that a seed draws and in the training: everything is, in the end, what a run that nobody disturbed makes of it."""

import contextlib
import os
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests import chaos
from tests.chaos import Driver, Nodes, begun, committed, drawn, driving, logged, nodes

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="processes are found in /proc"),
]
STAGES = ("read", "judge", "deduplicate", "corpus", "tokenize")  # one of each pass; judge: all that share its pass
AT = ("Read", "Judge", "Deduplicate: certificate", "Deduplicate: mark", "Corpus", "Tokenize: cut")  # what workers say
TRAINED = 60  # steps of 468; a checkpoint every 40
PARTS = pytest.mark.parametrize("part", [chaos.PARTS[0], pytest.param(chaos.PARTS[1], marks=pytest.mark.chaos)])


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """The recipe, and the root of a run that nobody disturbed."""
    return chaos.whole(tmp_path_factory.getbasetemp())


Living = Callable[[], Nodes]


@pytest.fixture(scope="module")
def living() -> Iterator[Living]:
    """Gives a Ray of three nodes: the same one to all tests while it has its head, else another."""
    with contextlib.ExitStack() as stack:
        made: list[Nodes] = []

        def give() -> Nodes:
            if not made or made[-1].nodes[0].killed:
                made.append(stack.enter_context(nodes(1, 1, 1)))
            return made[-1]

        yield give


@pytest.fixture
def root(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path / "root"
    shutil.rmtree(tmp_path, ignore_errors=True)


def killed(ray: Nodes, driver: Driver, at: str) -> int:
    """A worker that is at this, killed."""
    while True:
        number: int = driver.until(lambda: ray.busy(at))[0]
        with contextlib.suppress(ProcessLookupError):  # it ended since it was seen
            os.kill(number, signal.SIGKILL)
            return number


def moments(root: Path, part: str, seed: int, count: int) -> list[Callable[[], bool]]:
    """So many stages that have begun to commit, as the seed draws them; or steps of the training."""
    if part == "training":
        return [logged(root, TRAINED)]
    return [committed(root, stage) for stage in drawn(seed, STAGES, count)]


@PARTS
def test_workers(whole: tuple[str, Path], living: Living, root: Path, part: str) -> None:
    """In the middle of an item of three passes, or one of the two that train."""
    ray = living()
    with driving(begun(whole, root, part, ray.address), root.parent) as driver:
        if part == "training":
            driver.until(logged(root, TRAINED))
        gone = [killed(ray, driver, at) for at in (drawn(1, AT, 3) if part == "data" else ("RayTrainWorker",))]
        assert driver.ended() == 0, driver.said
    assert len(set(gone)) == (3 if part == "data" else 1)
    chaos.same(root, whole[1], trained_too=part == "training")


@PARTS
def test_the_driver(whole: tuple[str, Path], living: Living, root: Path, part: str) -> None:
    """The same command goes on, on the same Ray."""
    words = begun(whole, root, part, living().address)
    for moment in moments(root, part, 3, 2):
        with driving(words, root.parent) as driver:
            driver.until(moment)
            driver.kill()
    with driving(words, root.parent) as driver:
        assert driver.ended() == 0, driver.said
    chaos.same(root, whole[1], trained_too=part == "training")


@PARTS
def test_nodes(whole: tuple[str, Path], living: Living, root: Path, part: str) -> None:
    """The raylet of a node that works, with what stands beside it; each time another node comes instead of it."""
    ray = living()
    with driving(begun(whole, root, part, ray.address), root.parent) as driver:
        for moment in moments(root, part, 2, 2):
            driver.until(moment)
            lost(ray, driver, "RayTrainWorker" if part == "training" else "")
        assert driver.ended() == 0, driver.said
    chaos.same(root, whole[1], trained_too=part == "training")


def lost(ray: Nodes, driver: Driver, at: str) -> None:
    """Kill the youngest node with a worker that is at this (not the head: there the driver is), and start another."""
    gone = driver.until(lambda: [node for node in ray.nodes[1:] if node.busy(at)])[-1]
    gone.kill()
    ray.nodes.remove(gone)
    ray.more()


@PARTS
def test_the_head(whole: tuple[str, Path], living: Living, root: Path, part: str) -> None:
    """The GCS and its raylet. The driver fails; the same command goes on, on another Ray."""
    ray = living()
    with driving(begun(whole, root, part, ray.address), root.parent) as driver:
        driver.until(moments(root, part, 4, 1)[0])
        ray.nodes[0].kill()
        assert driver.ended() not in (0, -signal.SIGKILL)
    with driving(begun(whole, root, part, living().address), root.parent) as driver:
        assert driver.ended() == 0, driver.said
    chaos.same(root, whole[1], trained_too=part == "training")
