"""What work takes is measured where it is done, and measuring changes nothing of it."""

import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.toy_stages import SHELVES, Length, Words
from tundish.cluster import metered
from tundish.cluster.local import Local
from tundish.cluster.metered import Metered, Timed, cpu_seconds, name_of
from tundish.pipeline.funnel import ran
from tundish.pipeline.run import run

BURN = "import time; n = 0\nwhile time.process_time() < 0.3: n += 1\nprint(time.process_time())"


def squared(item: tuple[int, str]) -> int:
    return item[0] ** 2


def burning(item: Any) -> float:
    """CPU that a process below this one says it took."""
    told = subprocess.run([sys.executable, "-c", BURN], capture_output=True, text=True, check=True)
    return float(told.stdout)


def held(item: tuple[int, str]) -> int:
    """Bytes that were held at once, for a tenth of a second."""
    bytes_ = np.ones(item[0], np.uint8)
    time.sleep(0.1)
    return int(bytes_.nbytes)


class Twice:
    twice = True

    def __call__(self, item: Any) -> Any:
        return item


@pytest.mark.parametrize("workers", [1, 2])
def test_the_answers_are_those_without_it(workers: int) -> None:
    items = [(n, f"part-{n}") for n in range(5)]
    cluster = Metered(Local(workers))
    assert sorted(cluster.each("Squares", squared, items)) == [0, 1, 4, 9, 16]
    assert sorted((one.stage, one.name) for one in cluster.spent) == [("Squares", name) for _, name in items]
    assert cluster.workers == workers
    assert all(one.wall >= 0 and one.peak > 1 << 20 for one in cluster.spent)


def test_only_the_named_items_of_a_pass_are_done() -> None:
    cluster = Metered(Local(), {"Squares": frozenset({"part-3", "part-4"})})
    items = [(n, f"part-{n}") for n in range(5)]
    assert list(cluster.each("Squares", squared, items)) == [9, 16]
    assert len(list(cluster.each("Others", squared, items))) == 5


def test_an_item_is_named_by_its_shard() -> None:
    assert name_of((3, "part-00003", ())) == "part-00003"
    assert name_of(("piece-00000", ((0, "part-00000"),))) == "piece-00000"
    assert name_of("vocabulary") == "vocabulary"
    assert name_of((3, 4, "later")) == name_of(7) == ""


def test_whether_two_may_do_it_at_once_is_still_known() -> None:
    assert Timed(Twice()).twice
    assert not Timed(squared).twice


def test_cpu_counts_processes_below_alive_and_gone() -> None:
    cluster = Metered(Local())
    (burnt,) = cluster.each("Burn", burning, [(0, "a")])
    assert cluster.spent[0].cpu >= 0.95 * burnt  # /proc counts in hundredths of a second
    script = BURN + "\nimport sys; sys.stdout.flush(); sys.stdin.read()"
    shell = ["sh", "-c", '"$0" -c "$1"; true', sys.executable, script]  # so that who burns is a child of a child
    child = subprocess.Popen(shell, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    own = time.process_time()
    told = float(child.stdout.readline())
    alive = cpu_seconds()
    child.communicate("")
    assert cpu_seconds() >= alive - 0.05, "what was counted of the living is not lost when it ends"
    if Path("/proc/self/task").exists():
        assert alive >= own + burnt + 0.9 * told


@pytest.mark.skipif(not metered.held_now(), reason="the system does not tell what a process holds")
@pytest.mark.parametrize("counted", [True, False])
def test_the_peak_is_that_of_the_item_and_not_of_those_before_it(
    counted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not counted:
        monkeypatch.setattr(metered, "forget_peak", lambda: False)
    cluster = Metered(Local())
    list(cluster.each("Held", held, [(1, "a"), (200 << 20, "large"), (1, "b")]))
    small, large, after = (one.peak for one in cluster.spent)
    assert large - small >= 150 << 20
    assert large - after >= 150 << 20


def test_what_a_process_held_at_most_outlives_counting_anew() -> None:
    np.ones(100 << 20, np.uint8)
    most = metered.most_memory()
    metered.forget_peak()
    assert metered.most_memory() >= most


def test_without_proc_the_peak_is_that_of_the_process(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(metered, "PROC", tmp_path)
    cluster = Metered(Local())
    assert list(cluster.each("Squares", squared, [(3, "a")])) == [9]
    assert cluster.spent[0].cpu >= 0


def test_a_run_tells_what_each_stage_took_and_a_later_one_keeps_it(tmp_path: Path) -> None:
    root, goal = str(tmp_path), Length(Words(SHELVES))
    run(goal, Local(), root)
    first = ran(root).costs
    assert set(first) == {stage.address for stage in goal.walk()}
    for address, cost in first.items():
        assert set(cost) == {"work", "cpu", "peak", "items", "workers"}
        assert cost["items"] == len(ran(root).datasets[address].shards)
        assert cost["workers"] == 1
    run(goal, Local(), root)
    assert ran(root).costs == first
