"""A node of three is cut off the network for 30 seconds, by a switch of namespaces that loses what it is given: nobody
is told that the line is down. Needs root; the patience with a node that is not heard of is Ray's own."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests import chaos
from tests.chaos import begun, committed, driving, logged

pytestmark = [pytest.mark.slow, pytest.mark.chaos]
NET, PORT = "10.213.7", 6379
GLOO = {"GLOO_SOCKET_IFNAME": "eth0"}  # the machine's name leads to its loopback, which ends with the namespace
CUT = 30.0


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """The recipe, and the root of a run that nobody disturbed."""
    return chaos.whole(tmp_path_factory.getbasetemp())


def ip(*words: str) -> str:
    """Runs `ip`. Skips the test, with what it says, where it refuses."""
    if shutil.which("ip") is None:
        pytest.skip("there is no program `ip` here")
    told = subprocess.run(["ip", *words], capture_output=True, text=True)
    if told.returncode:
        pytest.skip(f"ip {' '.join(words)}: {told.stderr.strip()}")
    return told.stdout


@dataclass
class Wired:
    """Machines, as far as the network goes, and a switch between them. `names`: of their namespaces."""

    names: tuple[str, ...]
    switch: str
    folder: str

    @property
    def address(self) -> str:
        return f"{NET}.1:{PORT}"

    def inside(self, number: int, *words: str) -> list[str]:
        return ["ip", "netns", "exec", self.names[number], *words]

    def start(self, number: int, *words: str) -> None:
        """`ray start`, with a CPU; its processes stay in the namespace."""
        own = f"--node-ip-address={NET}.{number + 1}"
        start = [sys.executable, "-m", "ray.scripts.scripts", "start", own, "--num-cpus=1", "--disable-usage-stats"]
        told = subprocess.run(
            self.inside(number, *start, "--object-store-memory=80000000", *words),
            capture_output=True, text=True, cwd=chaos.TOP,
            env={**os.environ, **chaos.ENV, **GLOO, "RAY_TMPDIR": self.folder},  # not where others look for their Ray
        )  # fmt: skip
        assert told.returncode == 0, told.stdout + told.stderr

    @contextlib.contextmanager
    def cut(self, number: int) -> Iterator[None]:
        """A machine's port belongs to no switch until the block ends."""
        ip("-n", self.switch, "link", "set", f"port{number}", "nomaster")
        try:
            yield
        finally:
            ip("-n", self.switch, "link", "set", f"port{number}", "master", "bridge")

    def at(self, title: str) -> list[int]:
        """Machines but the head's with a worker that is at this."""
        return [number for number, name in enumerate(self.names) if number and title in self._titles(name)]

    def _titles(self, name: str) -> str:
        found = []
        for number in ip("netns", "pids", name).split():
            with contextlib.suppress(OSError):
                found.append(Path(f"/proc/{number}/cmdline").read_text())
        return "\n".join(found)

    def end(self) -> None:
        """Kill what runs in the namespaces, which is all ours, and let them go."""
        for name in (*self.names, self.switch):
            pids = subprocess.run(["ip", "netns", "pids", name], capture_output=True, text=True).stdout
            for number in map(int, pids.split()):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(number, signal.SIGKILL)
            subprocess.run(["ip", "netns", "del", name], capture_output=True)


@pytest.fixture
def wired() -> Iterator[Wired]:
    mark = f"tundish-{os.getpid()}"
    with tempfile.TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True) as folder:
        made = Wired(tuple(f"{mark}-{number}" for number in range(3)), f"{mark}-s", folder)
        (Path(folder) / "ray").mkdir()
        try:
            ip("netns", "add", made.switch)
            ip("-n", made.switch, "link", "add", "bridge", "type", "bridge")
            ip("-n", made.switch, "link", "set", "bridge", "up")
            for number, name in enumerate(made.names):
                ip("netns", "add", name)
                port = f"port{number}"
                ip("-n", name, "link", "add", "eth0", "type", "veth", "peer", "name", port, "netns", made.switch)
                ip("-n", made.switch, "link", "set", port, "master", "bridge", "up")
                ip("-n", name, "addr", "add", f"{NET}.{number + 1}/24", "dev", "eth0")
                ip("-n", name, "link", "set", "eth0", "up")
                ip("-n", name, "link", "set", "lo", "up")
            made.start(0, "--head", f"--port={PORT}", f"--temp-dir={folder}/r", "--include-dashboard=false")
            for number in (1, 2):
                made.start(number, f"--address={made.address}")
            yield made
        finally:
            made.end()


@pytest.mark.parametrize("part", chaos.PARTS)
def test_a_line_that_is_cut(whole: tuple[str, Path], wired: Wired, tmp_path: Path, part: str) -> None:
    """Of a node in the middle of a pass, or between the two workers of a training: each takes a node's one CPU."""
    root = tmp_path / "root"
    with driving(wired.inside(0, *begun(whole, root, part, wired.address)), tmp_path, **GLOO) as driver:
        driver.until(logged(root, 60) if part == "training" else committed(root, "judge"))
        machine = wired.at("RayTrainWorker")[0] if part == "training" else 1
        with wired.cut(machine):
            time.sleep(CUT)
            assert not list(root.glob("pretrain-*/manifest.json")), "the two workers went on without each other"
        assert driver.ended() == 0, driver.said
    chaos.same(root, whole[1], trained_too=part == "training")
