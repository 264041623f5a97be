"""A disk that is full: a root on a small tmpfs, in the data stages and in the training; with more room it goes on."""

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests import chaos
from tests.chaos import PAIR, UP_TO_TOKENS, driving, logged, nodes

pytestmark = pytest.mark.slow
Sized = Callable[[int], Path]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """The recipe, and the root of a run that nobody disturbed."""
    return chaos.whole(tmp_path_factory.getbasetemp())


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Sized]:
    """A folder that is a disk of so many kilobytes; asked again, its size is another."""
    place = tmp_path / "disk"
    place.mkdir()

    def sized(kilobytes: int) -> Path:
        again = "remount," if os.path.ismount(place) else ""
        words = ["mount", "-t", "tmpfs", "-o", f"{again}size={kilobytes}k", "tmpfs", str(place)]
        told = subprocess.run(words, capture_output=True, text=True)
        if told.returncode:
            pytest.skip(f"a small disk cannot be mounted here: {told.stderr.strip() or 'mount refuses'}")
        return place / "root"

    try:
        yield sized
    finally:
        if os.path.ismount(place):
            subprocess.run(["umount", "--lazy", str(place)], check=True)


def used(root: Path) -> int:
    """Kilobytes on the disk of a root."""
    disk = os.statvfs(root)
    return (disk.f_blocks - disk.f_bfree) * disk.f_frsize >> 10


def test_a_disk_that_grows_full_is_refused_before_it_is(whole: tuple[str, Path], disk: Sized, tmp_path: Path) -> None:
    """A fifth of it stays free (more than all workers write at a time): one sentence, and what is committed stays."""
    path, expected = whole
    root, free = disk(3000), {"TUNDISH_MIN_FREE": "20%"}
    words = chaos.command(path, root, "local", *UP_TO_TOKENS)
    with driving(words, tmp_path, **free) as driver:
        assert driver.ended() == 2
    assert "are free under" in driver.said
    assert "make room and run again" in driver.said
    assert len(driver.said.strip().split("\n")) == 1
    disk(64_000)
    kept = {each: each.stat().st_mtime_ns for each in root.glob("read-*/commits/*.json")}
    assert kept
    with driving(words, tmp_path, **free) as driver:
        assert driver.ended() == 0, driver.said
    assert kept == {each: each.stat().st_mtime_ns for each in kept}, "a committed shard was done again"
    chaos.same(root, expected, trained_too=False)


def test_a_disk_that_is_full(whole: tuple[str, Path], disk: Sized, tmp_path: Path) -> None:
    """Nothing is held back (`TUNDISH_MIN_FREE`), so writes fail in the middle of files: of a shard, of a checkpoint."""
    path, expected = whole
    root = disk(2500)
    with nodes(2, TUNDISH_MIN_FREE="0KB") as ray:
        words = chaos.command(path, root, ray.address, *PAIR)
        with driving(words, tmp_path, TUNDISH_MIN_FREE="0KB") as driver:
            assert driver.ended() in (1, 2)  # 2: a file that could not be begun says what to do
        assert "No space left on device" in driver.said
        assert not list(root.glob("tokenize-*/manifest.json"))
        disk(64_000)
        with driving([*words, *UP_TO_TOKENS], tmp_path, TUNDISH_MIN_FREE="0KB") as driver:
            assert driver.ended() == 0, driver.said
        disk(used(root) + 700)
        with driving(words, tmp_path, TUNDISH_MIN_FREE="0KB") as driver:
            assert driver.ended() in (1, 2)  # 2: so does a checkpoint that was not written
        assert "No space left on device" in driver.said
        assert logged(root, 1)(), "it was full before the training began"
        assert not list(root.glob("pretrain-*/manifest.json"))
        disk(64_000)
        with driving(words, tmp_path, TUNDISH_MIN_FREE="0KB") as driver:
            assert driver.ended() == 0, driver.said
    chaos.same(root, expected)
