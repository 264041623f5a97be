"""A node that is ten times slower, and a worker that stands still for good and is never heard of again: the run ends,
others do what that one was at, and the bytes are those of a run that nobody disturbed."""

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests import chaos
from tests.chaos import UP_TO_TOKENS, Nodes, begun, command, driving, logged, nodes

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="processes are found in /proc"),
]
ROUND, SHARE = 0.2, 0.1  # seconds of a round, and the part of it in which a slowed process runs


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """The recipe, and the root of a run that nobody disturbed."""
    return chaos.whole(tmp_path_factory.getbasetemp())


@pytest.fixture(scope="module")
def ray() -> Iterator[Nodes]:
    """A Ray for all of them."""
    with nodes(1, 1, 1) as made:
        yield made


def told(number: int, what: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(number, what)


@contextlib.contextmanager
def slowed(workers: Callable[[], list[int]]) -> Iterator[None]:
    """These workers, and those that come, run a tenth of the time."""
    over = threading.Event()

    def work() -> None:
        while not over.is_set():
            numbers = workers()
            for number in numbers:
                told(number, signal.SIGSTOP)
            over.wait(ROUND * (1 - SHARE))
            for number in numbers:
                told(number, signal.SIGCONT)
            time.sleep(ROUND * SHARE)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


@pytest.mark.parametrize("at", ["Judge", pytest.param("Deduplicate: certificate", marks=pytest.mark.chaos)])
def test_a_worker_that_stands_still_for_good(whole: tuple[str, Path], ray: Nodes, tmp_path: Path, at: str) -> None:
    path, expected = whole
    root = tmp_path / "root"
    with driving(command(path, root, ray.address, *UP_TO_TOKENS), tmp_path) as driver:
        stands = driver.until(lambda: ray.busy(at))[0]
        told(stands, signal.SIGSTOP)
        try:
            assert driver.ended() == 0, driver.said
        finally:
            told(stands, signal.SIGKILL)  # its CPU is free again for the next test
    chaos.same(root, expected, trained_too=False)


@pytest.mark.chaos
def test_a_trainer_that_stands_still_for_good(whole: tuple[str, Path], ray: Nodes, tmp_path: Path) -> None:
    """Ray Train gives it up when it has not answered for ten minutes; here for twenty seconds."""
    root, soon = tmp_path / "root", {"RAY_TRAIN_WORKER_HEALTH_CHECK_TIMEOUT_S": "20"}
    with driving(begun(whole, root, "training", ray.address), tmp_path, **soon) as driver:
        driver.until(logged(root, 20))
        stands = ray.busy("RayTrainWorker")[0]
        told(stands, signal.SIGSTOP)
        try:
            assert driver.ended() == 0, driver.said
        finally:
            told(stands, signal.SIGKILL)
    chaos.same(root, whole[1])


@pytest.mark.chaos
@pytest.mark.parametrize("part", chaos.PARTS)
def test_a_slow_node(whole: tuple[str, Path], ray: Nodes, tmp_path: Path, part: str) -> None:
    """From the first pass to the last, or for some hundred steps of the training."""
    root, last = tmp_path / "root", ray.nodes[-1]
    with driving(begun(whole, root, part, ray.address), tmp_path) as driver:
        if part == "data":
            with slowed(lambda: [*last.workers()]):
                assert driver.ended() == 0, driver.said
        else:
            driver.until(logged(root, 20))
            slow = next(node for node in ray.nodes if node.busy("RayTrainWorker"))
            with slowed(lambda: slow.busy("RayTrainWorker")):
                driver.until(logged(root, 160))
            assert driver.ended() == 0, driver.said
    chaos.same(root, whole[1], trained_too=part == "training")
