"""Work in a process that can be killed: what hangs, crashes or eats memory costs itself, and nobody else."""

import ctypes
import errno
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tundish.cluster.killable import Killable, Limits, Lost


def work(item: Any) -> Any:
    """What an item asks for."""
    if item == "hang":
        while True:
            pass
    if item == "hang in c":
        bytes(1 << 22).count(bytes([1]) * 2) or sum(range(10**12))
    if item == "crash":
        ctypes.string_at(0)
    if item == "exit":
        os._exit(3)
    if item == "memory":
        return len(bytearray(8 << 30))
    if item == "fail":
        raise KeyError("what the work is not meant to meet")
    return (item, os.getpid())


@pytest.fixture(scope="module")
def child() -> Iterator[Killable]:
    with Killable(work, Limits(seconds=0.5, memory=1 << 30), size=lambda item: 1 << 20) as made:
        yield made


def told(answers: list[Any]) -> list[Any]:
    return [answer.reason if isinstance(answer, Lost) else answer[0] for answer in answers]


def test_each_culprit_costs_itself_alone(child: Killable) -> None:
    items = [*range(5), "hang", *range(5, 12), "crash", 12, "exit", "memory", 13, "hang in c", 14]
    answers = list(child.map(items))
    wanted = ["timeout", "crash", "crash", "memory", "timeout"]
    expected = iter(wanted)
    assert told(answers) == [item if isinstance(item, int) else next(expected) for item in items]


def test_a_child_serves_many_items_and_batches(child: Killable) -> None:
    answers = list(child.map(list(range(100))))
    assert told(answers) == list(range(100))
    assert len({pid for _, pid in answers}) == 1
    assert answers[0][1] != os.getpid()
    assert list(child.map([])) == []


def test_what_was_lost_is_said(child: Killable) -> None:
    hang, crash, left = child.map(["hang", "crash", "exit"])
    assert "0.5 seconds" in hang.detail
    assert crash.detail == "SIGSEGV"
    assert left.detail == "exit code 3"


def test_an_error_of_the_work_ends_the_run(child: Killable) -> None:
    with pytest.raises(RuntimeError, match="what the work is not meant to meet"):
        list(child.map([0, "fail", 1, 2]))
    assert told(list(child.map([3]))) == [3]


def test_who_stops_listening_gets_no_stale_answers(child: Killable) -> None:
    assert next(iter(child.map([1, 2, 3])))[0] == 1
    assert told(list(child.map([4]))) == [4]


def test_time_is_cpu_and_an_item_s_own() -> None:
    """Many short items together take longer than the limit; none of them does."""
    with Killable(busy, Limits(seconds=0.3, memory=1 << 30)) as child:
        assert list(child.map([0.1] * 6)) == [0.1] * 6


def busy(seconds: float) -> float:
    end = time.process_time() + seconds
    while time.process_time() < end:
        pass
    return seconds


def test_the_child_goes_when_it_is_let_go() -> None:
    with Killable(work, Limits()) as child:
        [(_, pid)] = child.map([1])
        assert os.path.exists(f"/proc/{pid}") or not os.path.isdir("/proc")
    for _ in range(50):
        if not os.path.exists(f"/proc/{pid}"):
            break
        time.sleep(0.1)
    assert not os.path.exists(f"/proc/{pid}")


@pytest.mark.parametrize("how", ["raise", "exit"])
def test_a_child_that_cannot_begin_is_no_fault_of_an_item(how: str) -> None:
    warm = broken if how == "raise" else gone
    with Killable(work, Limits(), warm=warm) as child, pytest.raises(RuntimeError, match="could not begin"):
        list(child.map([1, 2]))


def broken() -> None:
    raise OSError("a library is missing")


def gone() -> None:
    os._exit(5)


def test_memory_that_is_shared_by_all_may_be_full(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Then items are handed over on disk; a write beyond what there is would have ended this process."""
    reserve = os.posix_fallocate

    def full(file: int, start: int, size: int) -> None:
        if os.path.samestat(os.stat(tmp_path), os.stat(os.path.dirname(os.readlink(f"/proc/self/fd/{file}")))):
            raise OSError(errno.ENOSPC, "No space left on device")
        reserve(file, start, size)

    monkeypatch.setattr("tundish.cluster.killable.SHARED", str(tmp_path))
    monkeypatch.setattr(os, "posix_fallocate", full)
    with Killable(measured, Limits(), size=len) as child:
        assert list(child.map([b"x" * 6_000_000, b"y"])) == [(6_000_000, b"x"), (1, b"y")]
        assert list(child.map([b"z"])) == [(1, b"z")]


SCRIPT = """
from tundish.cluster.killable import Killable, Limits
print("begins")
with Killable(len, Limits()) as child:
    print(list(child.map([b"abc"])))
"""


def test_a_script_needs_no_guard(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(SCRIPT)
    told = subprocess.run([sys.executable, tmp_path / "script.py"], capture_output=True, text=True, timeout=120)
    assert (told.stdout, told.stderr) == ("begins\n[3]\n", "")


WORK = SCRIPT.replace("print(", "def work(item): return -len(item)\nif __name__ == '__main__': print(", 1)


def test_work_may_be_in_a_script_that_has_one(tmp_path: Path) -> None:
    script = WORK.replace("with Killable(len", "if __name__ == '__main__':\n  with Killable(work")
    (tmp_path / "script.py").write_text(script.replace("\n    print(list", "\n      print(list"))
    told = subprocess.run([sys.executable, tmp_path / "script.py"], capture_output=True, text=True, timeout=120)
    assert (told.stdout, told.stderr) == ("begins\n[-3]\n", "")


def test_items_larger_than_a_batch_pass() -> None:
    items = [bytes([n]) * size for n, size in enumerate((10, 30 << 20, 5, 60 << 20, 0))]
    with Killable(measured, Limits(), size=len) as child:
        assert list(child.map(items)) == [(len(item), item[:1]) for item in items]


def measured(item: bytes) -> tuple[int, bytes]:
    return len(item), item[:1]
