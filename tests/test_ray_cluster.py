"""The verbs on a real Ray: the bytes of the other clusters, whoever is killed.

Ray has a folder of its own here, and nothing calls `ray stop`: that ends every Ray of the machine. The toys are those
of tests/test_local_cluster.py.
"""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import ray

from tests.test_local_cluster import (
    SOURCE,
    Counting,
    Failing,
    Killed,
    Marked,
    Numbers,
    Refusing,
    began,
    lengths,
    mapped,
    meeting,
    met,
    never,
    once,
    refused,
    sums,
    written,
)
from tundish.cluster.local import Local
from tundish.cluster.on_ray import OnRay
from tundish.cluster.shards import opened
from tundish.cluster.verbs import At, Fn

TOP = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def folder() -> Iterator[str]:
    """A short path: Ray puts sockets there, and their names may be 107 bytes long."""
    with tempfile.TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True) as made:
        yield made


@pytest.fixture(scope="module")
def single(folder: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What a Ray of one CPU writes. It is gone before the other one starts."""
    out = tmp_path_factory.mktemp("single")
    with OnRay(cpus=1, dashboard=False, temporary=folder) as cluster:
        assert cluster.workers == 1
        return written(cluster, str(out))


@pytest.fixture(scope="module")
def cluster(single: dict[str, str], folder: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[OnRay]:
    scratch = str(tmp_path_factory.mktemp("gangs"))
    with OnRay(cpus=4, dashboard=False, temporary=folder, scratch=scratch) as cluster:
        yield cluster
    shutil.rmtree(scratch, ignore_errors=True)


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What one process writes."""
    return written(Local(), str(tmp_path_factory.mktemp("here")))


def by_name(made: dict[str, Any]) -> dict[str, str]:
    return {name: dataset.digest for name, dataset in made.items()}


def only(names: str, of: dict[str, str]) -> dict[str, str]:
    return {name: of[name] for name in names.split()}


def test_ray_and_this_machine_write_the_same_bytes(
    here: dict[str, str], single: dict[str, str], cluster: OnRay, tmp_path: Path
) -> None:
    assert cluster.workers == 4
    assert single == here
    assert written(cluster, str(tmp_path / "ray")) == here
    assert written(Local(workers=4), str(tmp_path / "spawned")) == here


def test_the_order_of_shards_and_the_number_of_files_do_not_matter(
    here: dict[str, str], cluster: OnRay, tmp_path: Path
) -> None:
    assert met(cluster, str(tmp_path), Numbers(SOURCE.shards[::-1]), files=2).digest == here["sums"]


@pytest.mark.slow
def test_a_killed_worker_is_replaced(here: dict[str, str], cluster: OnRay, tmp_path: Path) -> None:
    fn = Killed(lengths, "part-00004", str(tmp_path / "died"))
    assert by_name(mapped(cluster, str(tmp_path / "out"), first=fn)) == only("lengths even odd", here)
    assert (tmp_path / "died").exists()
    fn = Killed(sums, "part-00001", str(tmp_path / "died again"))
    assert met(cluster, str(tmp_path / "out"), fn=fn).digest == here["sums"]
    assert (tmp_path / "died again").exists()


class Stopped:
    """A function whose process stands still once, for good, in the middle of a shard: a node that hangs."""

    def __init__(self, fn: Fn, shard: str, marker: str) -> None:
        self.fn, self.shard, self.marker = fn, shard, marker

    def __call__(self, batch: pa.Table, at: At) -> Any:
        if at.shard == self.shard and once(self.marker):
            os.kill(os.getpid(), signal.SIGSTOP)
        return self.fn(batch, at)


@pytest.mark.slow
def test_what_drags_is_done_again_elsewhere(here: dict[str, str], cluster: OnRay, tmp_path: Path) -> None:
    before = replace(cluster.copies)
    cluster.patience, patient = 1.0, cluster.patience
    try:
        fn = Stopped(lengths, "part-00004", str(tmp_path / "stood"))
        assert by_name(mapped(cluster, str(tmp_path / "out"), first=fn)) == only("lengths even odd", here)
    finally:
        cluster.patience = patient
    assert (tmp_path / "stood").exists()
    assert cluster.copies.begun > before.begun
    assert cluster.copies.won - before.won == 1
    assert not [path for path in tmp_path.glob("**/*.attempt") if path.parent.name == "out"]


class Standing:
    """Work that two may do at once; who does the first item first stands still for good."""

    twice = True

    def __init__(self, marker: str) -> None:
        self.marker = marker

    def __call__(self, item: int) -> int:
        if item == 0 and once(self.marker):
            os.kill(os.getpid(), signal.SIGSTOP)
        return item


@pytest.mark.slow  # a copy waits thirty times as long where nothing says how long a task takes
@pytest.mark.parametrize("items", [1, 2])
def test_what_drags_alone_is_done_again_after_a_while(cluster: OnRay, tmp_path: Path, items: int) -> None:
    cluster.patience, patient = 0.3, cluster.patience
    try:
        assert sorted(cluster.each("Standing", Standing(str(tmp_path / "stood")), range(items))) == [*range(items)]
    finally:
        cluster.patience = patient
    assert (tmp_path / "stood").exists()


class Sleeping:
    """Work that writes what nobody else may write meanwhile, and drags."""

    def __call__(self, item: int) -> int:
        time.sleep(6.0 * (item == 5))
        return item


@pytest.mark.slow
def test_work_that_must_be_done_by_one_alone_is(cluster: OnRay) -> None:
    before = replace(cluster.copies)
    cluster.patience, patient = 0.5, cluster.patience
    try:
        assert sorted(cluster.each("Sleeping", Sleeping(), range(8))) == list(range(8))
    finally:
        cluster.patience = patient
    assert cluster.copies == before


def fatal(item: int) -> int:
    if item == 3:
        os._exit(1)
    return item


@pytest.mark.slow  # nine workers are lost one after another
def test_work_that_kills_every_worker_is_given_up(cluster: OnRay) -> None:
    with pytest.raises(RuntimeError, match=r"^Fatal lost its worker 9 times: "):
        list(cluster.each("Fatal", fatal, range(6)))
    assert sorted(cluster.each("Sound", abs, range(6))) == list(range(6))


def drive(address: str, folder: str, seconds: str) -> None:
    """A driver of its own, that joins the cluster: what `--on ADDRESS` does. Run in a process that can be killed."""
    with OnRay(address) as joined:
        mapped(joined, f"{folder}/out", first=Marked(lengths, f"{folder}/marks", float(seconds)))


@pytest.mark.slow  # tests/test_resume kills drivers among the fast
def test_a_killed_driver_is_gone_on_from(here: dict[str, str], cluster: OnRay, tmp_path: Path) -> None:
    """Only the shards without a commit are begun again."""
    marks, out = tmp_path / "marks", tmp_path / "out"
    marks.mkdir()
    address = ray.get_runtime_context().gcs_address
    script = f"from tests.test_ray_cluster import drive; drive({address!r}, {str(tmp_path)!r}, '0.5')"
    commits = out / "odd" / "commits"
    with subprocess.Popen([sys.executable, "-c", script], cwd=TOP, stderr=subprocess.PIPE, text=True) as driver:
        while driver.poll() is None and not list(commits.glob("*.json")):
            time.sleep(0.005)
        driver.send_signal(signal.SIGKILL)
        assert driver.stderr is not None
        said = driver.stderr.read()
    assert driver.returncode == -signal.SIGKILL, said
    assert opened(str(out / "lengths")) is None
    time.sleep(2)  # Ray ends the workers of a driver that is gone
    done = {path.stem for path in commits.glob("*.json")}
    assert 0 < len(done) < len(SOURCE.names)
    before = began(marks)
    made = mapped(cluster, str(out), first=Marked(lengths, str(marks)))
    assert by_name(made) == only("lengths even odd", here)
    assert began(marks) - before == Counter(set(SOURCE.names) - done)
    assert not list(out.glob("**/*.attempt"))


def test_keepers_hand_each_other_every_row_once_though_one_is_killed(cluster: OnRay, tmp_path: Path) -> None:
    heard: list[tuple[Any, ...]] = []
    cluster.watch, unwatched = lambda *said: heard.append(said), cluster.watch
    try:
        told = cluster.attend("Toy keepers", partial(Counting, str(tmp_path), 200, 3, True), parts=3, stop=never)
    finally:
        cluster.watch = unwatched
    assert (tmp_path / "died").exists()
    assert sorted(n for part in told for n in part) == list(range(600))
    assert len(list(tmp_path.glob("born-1-*"))) == 2, "keeper 1 was restarted, and it alone"
    assert len(list(tmp_path.glob("born-*"))) == 4
    calls = Counter((tmp_path / "calls").read_text().splitlines())
    assert len(calls) == 180
    assert max(calls.values()) > 1, "the batch whose receipt was lost came again"
    assert heard[-1][:3] == ("Toy keepers", 180, 180)


def test_a_keeper_that_fails_says_why(cluster: OnRay, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"seed 'heron' has no scheme; write http://heron"):
        cluster.attend("Toy keepers", partial(Failing, str(tmp_path), 10, 2, False), parts=2, stop=never)


def test_a_refusal_in_a_worker_is_the_same_sentence_here(cluster: OnRay, tmp_path: Path) -> None:
    fn = Refusing(lengths, "part-00002", str(tmp_path / "mended"))
    sentence = r"^part-00002 holds a row that is 'crooked'; straighten it$"
    with pytest.raises(ValueError, match=sentence):
        mapped(cluster, str(tmp_path / "out"), first=fn)
    with pytest.raises(ValueError, match=sentence):
        met(cluster, str(tmp_path / "out"), fn=Refusing(sums, "part-00002", str(tmp_path / "mended")))
    (tmp_path / "mended").touch()
    mapped(cluster, str(tmp_path / "out"), first=fn)


@pytest.mark.slow
def test_a_gang_starts_together_and_tells(cluster: OnRay, tmp_path: Path) -> None:
    heard: list[tuple[Any, ...]] = []
    cluster.watch, unwatched = lambda *said: heard.append(said), cluster.watch
    try:
        cluster.gang("Toy gang", partial(meeting, str(tmp_path)), size=2)
    finally:
        cluster.watch = unwatched
    assert {p.name for p in tmp_path.iterdir()} == {"0-of-2", "1-of-2"}
    assert ("Toy gang", 1, 2, {"step": 1, "steps": 2}) in [(*each[:3], each[3].line) for each in heard]


@pytest.mark.slow  # Ray Train starts the gang again before it gives up
def test_a_gang_that_is_refused_says_why(cluster: OnRay) -> None:
    with pytest.raises(ValueError, match=r"the shards hold 3 tokens; give more"):
        cluster.gang("Toy gang", refused, size=2)
    with pytest.raises(ValueError, match=r"^17 training workers on 4 CPUs would starve each other"):
        cluster.gang("Toy gang", refused, size=17)
