"""A lease outlives a disk that is full for a while: its heartbeats go on, and what a run has to say is said."""

import os
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from tundish.cluster import store
from tundish.cluster.target import Target
from tundish.pipeline import lease
from tundish.pipeline.lease import Lease

FULL = "only 0.0 KB are free; make room"


def full(uri: str, body: bytes) -> None:
    raise ValueError(FULL)


def test_heartbeats_go_on_after_some_that_could_not_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "BEAT", 0.01)
    write, failed, done = store.write, threading.Event(), threading.Event()
    left = iter([ValueError(FULL), OSError(28, "No space left on device")])

    def tried(uri: str, body: bytes) -> object:
        if error := next(left, None):
            failed.set()
            raise error
        done.set()
        return write(uri, body)

    with Lease(str(tmp_path)) as held:
        first = store.read_json(held.uri)
        monkeypatch.setattr(store, "write", tried)
        assert failed.wait(30)
        assert done.wait(30), "no heartbeat was tried after those that failed"
        held.check()
    assert store.read_json(held.uri)["heard"] > first["heard"]
    assert store.read_json(held.uri)["released"]


def failing(folder: Path, patch: pytest.MonkeyPatch) -> None:
    """A run that fails because its disk is full, which the lease's own last word then cannot be written to either."""
    with Lease(str(folder)):
        patch.setattr(store, "write", full)
        raise RuntimeError("a shard was not written")


def test_a_lease_that_cannot_be_given_back_hides_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(RuntimeError, match="a shard was not written"):
        failing(tmp_path, monkeypatch)
    monkeypatch.undo()
    with Lease(str(tmp_path)) as again:
        assert again.number == 2


def test_an_interrupt_while_it_is_taken_or_given_back_keeps_nobody_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What ended is not this process's any more, though the file on disk may say so."""
    write = store.write

    def interrupted(uri: str, body: bytes) -> None:
        write(uri, body)
        raise KeyboardInterrupt

    def ends() -> None:
        with Lease(str(tmp_path)):
            monkeypatch.setattr(store, "write", interrupted)

    with pytest.raises(KeyboardInterrupt):
        ends()
    with pytest.raises(KeyboardInterrupt), Lease(str(tmp_path)):
        pytest.fail("it was never taken")
    monkeypatch.undo()
    with Lease(str(tmp_path)) as again:
        assert again.number == 3


def test_one_that_was_succeeded_says_so_and_leaves_the_lease_as_it_is(tmp_path: Path) -> None:
    with Lease(str(tmp_path)) as held:
        other = {**store.read_json(held.uri), "name": "another", "machine": "elsewhere", "number": held.number + 1}
        store.write_json(held.uri, other)
        with pytest.raises(ValueError, match="was taken over by another run"):
            held.check()
    assert store.read_json(held.uri) == other, "a lease that is another's was given back"


def test_one_process_holds_a_root_once(tmp_path: Path) -> None:
    with Lease(str(tmp_path)), pytest.raises(ValueError, match="another run holds this root"), Lease(str(tmp_path)):
        pass
    with Lease(str(tmp_path)) as again:
        assert again.number == 2


def lying(folder: Path, **otherwise: Any) -> dict[str, Any]:
    """A lease that was not given back; by itself that of a process of this machine that is there no more."""
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    with Lease(str(folder)) as before:
        told = store.read_json(before.uri)
    told |= {"name": "another", "process": dead.pid, "released": False, "heard": time.time(), **otherwise}
    store.write_json(before.uri, told)
    return told


def hasty(patch: pytest.MonkeyPatch) -> list[float]:
    """A minute takes a third of a second; gives how long was waited for, each time."""
    patch.setattr(lease, "SILENCE", 0.3)
    patch.setattr(lease, "BEAT", 0.1)
    waits: list[float] = []
    patch.setattr(lease.LOG, "warning", lambda text, *given: waits.append(given[-1]))
    return waits


def test_a_process_of_this_machine_that_is_gone_is_succeeded_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits = hasty(monkeypatch)
    lying(tmp_path)
    (tmp_path / ".lease.json.0a1b.attempt").write_text("it was killed in the midst of a beat")
    (tmp_path / ".report.html.0a1b.attempt").write_text("what another process is about to write")
    with Lease(str(tmp_path)) as mine:
        assert mine.number == 2
        assert [each.name for each in tmp_path.glob(".*.attempt")] == [".report.html.0a1b.attempt"]
    assert waits == []


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="the system does not tell when a process began")
def test_a_process_that_has_the_number_of_one_that_is_gone_holds_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits = hasty(monkeypatch)
    lying(tmp_path, process=os.getppid(), began="1")
    with Lease(str(tmp_path)):
        assert waits == []


@pytest.mark.parametrize(
    "elsewhere",
    [{"machine": "elsewhere"}, {"boot": "another start"}, {"space": "pid:[1]"}, {"process": 1, "space": "x"}],
)
def test_one_elsewhere_is_succeeded_once_it_was_silent_long_enough(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, elsewhere: dict[str, Any]
) -> None:
    """Its process number says nothing here, though the machine's name may be the same."""
    waits = hasty(monkeypatch)
    lying(tmp_path, **elsewhere)
    with Lease(str(tmp_path)) as mine:
        assert mine.number == 2
    assert len(waits) == 1
    assert 0.15 <= waits[0] <= 0.3


def test_one_elsewhere_that_beats_is_not_succeeded_whatever_its_clock_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits = hasty(monkeypatch)
    told, over = lying(tmp_path, machine="elsewhere", heard=time.time() - 600), threading.Event()

    def beating() -> None:
        while not over.wait(0.02):
            told["heard"] += 0.02
            store.write_json(str(tmp_path / "lease.json"), told)

    other = threading.Thread(target=beating)
    other.start()
    try:
        with pytest.raises(ValueError, match=r"another run holds this root .* on elsewhere"), Lease(str(tmp_path)):
            pass
    finally:
        over.set()
        other.join()
    assert len(waits) == 1, "a clock ten minutes behind does not make it dead"
    assert store.read_json(str(tmp_path / "lease.json"))["name"] == "another"


def test_a_silence_that_no_clocks_differ_by_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    waits = hasty(monkeypatch)
    lying(tmp_path, machine="elsewhere", heard=time.time() - 2 * lease.LONG)
    with Lease(str(tmp_path)):
        assert waits == []


def test_what_is_given_back_while_it_is_waited_for_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hasty(monkeypatch)
    monkeypatch.setattr(lease, "SILENCE", 60.0)
    told = lying(tmp_path, machine="elsewhere")
    back = threading.Timer(0.2, lambda: store.write_json(str(tmp_path / "lease.json"), told | {"released": True}))
    back.start()
    with Lease(str(tmp_path)) as mine:
        assert mine.number == 2


def test_a_lease_has_one_length_whatever_it_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Read from an object store by size and then by bytes, it may be another one by then."""
    sizes, write = set(), store.write

    def weighed(uri: str, body: bytes) -> object:
        sizes.add(len(body))
        return write(uri, body)

    monkeypatch.setattr(store, "write", weighed)
    for moment in (1.0, 1763800000.0, 1763800000.123456):
        monkeypatch.setattr(lease.time, "time", lambda moment=moment: moment)
        with Lease(str(tmp_path)) as held:
            held._say()
    assert sizes == {lease.LENGTH}


@pytest.mark.parametrize("place", ["folder", "store"])
def test_a_late_word_of_who_has_lost_it_counts_for_nothing(tmp_path: Path, place: str) -> None:
    """It stood still between looking and writing, and a successor began meanwhile."""
    root = str(tmp_path) if place == "folder" else f"memory://{tmp_path.name}"
    first, second = Lease(root), Lease(root)
    assert first._take() is None
    assert second._take(first.name) is None
    assert second.number == first.number + 1
    with pytest.raises(ValueError, match="was taken over"):
        first.check()
    first._say()
    second.check()
    second._renew()
    assert store.read_json(second.uri)["number"] == 2
    first._renew(released=True)
    told = store.read_json(second.uri)
    assert (told["number"], told["name"], told["released"]) == (2, second.name, False)
    with pytest.raises(ValueError, match="was taken over"):
        first.check()


def test_of_two_that_began_in_one_instant_one_holds_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a store without compare-and-swap both have read that nobody does, and have the same number."""
    root = f"memory://{tmp_path.name}"
    one, other = sorted((Lease(root), Lease(root)), key=lambda lease: lease.name)
    for lease_ in (one, other):
        lease_.number = 1
    other._say()
    one._say()
    other._renew()
    other.check()
    with pytest.raises(ValueError, match="was taken over"):
        one.check()
    third, read = Lease(root), iter([None])
    real = store.read_json
    third.name = "!"  # the smaller of two: the other's word came between its own and its look
    with monkeypatch.context() as patch:
        patch.setattr(store, "read_json", lambda uri: next(read, real(uri)))
        patch.setattr(third, "_say", other._say)
        held = third._take()
    assert held is not None
    assert held["name"] == other.name


def test_who_has_lost_a_root_seals_nothing_under_it(tmp_path: Path) -> None:
    root, other = str(tmp_path / "root"), str(tmp_path / "other")
    with Lease(root) as mine, Lease(other):
        made = Target(f"{root}/before-1", "key").seal([])
        told = store.read_json(mine.uri) | {"name": "another", "number": mine.number + 1}
        store.write_json(mine.uri, told)
        with pytest.raises(ValueError, match="taken over by another run"):
            Target(f"{root}/after-1", "key").seal([])
        assert Target(f"{other}/after-1", "key").seal([]).names == made.names
    assert not (tmp_path / "root" / "after-1" / "manifest.json").exists()
    assert store.read_json(mine.uri) == told, "nor does it give back what is another's"
    assert Target(f"{root}/after-1", "key").seal([]).names == (), "it is over: whoever writes now asks for a lease anew"


def test_a_root_that_is_gone_does_not_come_back(tmp_path: Path) -> None:
    with Lease(str(tmp_path / "root")) as mine:
        shutil.rmtree(tmp_path / "root")
        mine._renew()
        with pytest.raises(ValueError, match="was taken over"):
            mine.check()
    assert not (tmp_path / "root").exists()


def test_an_emptied_lease_says_which_file_to_delete(tmp_path: Path) -> None:
    (tmp_path / "lease.json").write_text("")
    with (
        pytest.raises(ValueError, match=r"lease\.json holds no JSON .* delete it and run again$"),
        Lease(str(tmp_path)),
    ):
        pass
    (tmp_path / "lease.json").unlink()
    with Lease(str(tmp_path)):
        pass
