"""A lease outlives a disk that is full for a while: its heartbeats go on, and what a run has to say is said."""

import threading
from pathlib import Path

import pytest

from tundish.cluster import store
from tundish.pipeline import lease
from tundish.pipeline.lease import Lease

FULL = "only 0.0 GB are free; make room"


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


def test_another_driver_is_refused_and_one_that_was_succeeded_says_so(tmp_path: Path) -> None:
    with Lease(str(tmp_path)) as held:
        other = {**store.read_json(held.uri), "name": "another", "machine": "elsewhere", "number": held.number + 1}
        store.write_json(held.uri, other)
        with pytest.raises(ValueError, match="was taken over by another run"):
            held.check()
        with pytest.raises(ValueError, match="another run holds this root"), Lease(str(tmp_path)):
            pass
    assert store.read_json(held.uri) == other, "a lease that is another's was given back"


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
