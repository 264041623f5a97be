"""A forgetting that is killed, wherever: the root is as it was or on its way, and is brought to its end by saying so.

Every deed that changes the disk (a file published, moved or removed) is counted, and the process ends at each of them.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests import forget_root as made
from tests.forget_root import HERON, holding, rows, secret
from tests.test_forget import BESIDE, HELD, ROW, address, because
from tests.toys import digests
from tundish.cluster import store
from tundish.pipeline.forget import forget
from tundish.pipeline.plan import plan
from tundish.pipeline.run import run
from tundish.pipeline.verify import verify
from tundish.stages import forget_swap as swap
from tundish.stages.forget_swap import FOLDER, READY, asked

pytestmark = pytest.mark.slow  # whole roots, again and again

WHAT = [f"{HERON}/page/5", HELD, ROW]
DEEDS = ("_renamed", "move", "remove")  # of cluster/store: all that changes a name on disk


class Killed(BaseException):
    """Nothing after it is done."""


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Any]]:
    folder = tmp_path_factory.mktemp("killed")
    made.sources(folder)
    goal = made.corpus(folder)
    with made.web() as site:
        made.go(goal, folder / "root", site)
        yield folder / "root", goal


def counted(patch: pytest.MonkeyPatch, last: int) -> list[str]:
    """Let only so many deeds be done; gives those that were."""
    done: list[str] = []

    def watched(name: str, deed: Any) -> Any:
        def once(*given: Any) -> Any:
            if len(done) >= last:
                raise Killed
            done.append(name)
            return deed(*given)

        return once

    patch.setattr("tundish.pipeline.lease.BEAT", 3600.0)  # its beats would be deeds, and how many is a matter of time
    for name in DEEDS:
        patch.setattr(store, name, watched(name, getattr(store, name)))
    return done


def killed(root: Path, last: int) -> None:
    """Forget, until so many deeds are done."""
    with pytest.MonkeyPatch.context() as patch:
        counted(patch, last)
        with pytest.raises(Killed):
            forget(str(root), WHAT)


def whole(root: Path) -> dict[str, Any]:
    """What a root holds, but for clocks: rows of every dataset by name."""
    return {name: rows(root, address(root, name)) for name in (*BESIDE, "read", "gather")}


def test_it_is_brought_to_its_end(begun: tuple[Path, Any], tmp_path: Path) -> None:
    """From every twenty-fifth deed, from the first ones, and from those around the point where there is no way back."""
    deeds, settled = undisturbed(begun[0], tmp_path)
    assert len(deeds) > 50
    some = {*range(4), *range(0, len(deeds), 25), *range(settled - 2, settled + 4), len(deeds) - 2, len(deeds) - 1}
    assert ended(begun, tmp_path, sorted(some)) >= {(False, False), (False, True), (True, True)}


@pytest.mark.slow
@pytest.mark.chaos  # minutes; the one before it takes every twenty-fifth of the deeds
def test_it_is_brought_to_its_end_from_every_deed(begun: tuple[Path, Any], tmp_path: Path) -> None:
    deeds, _ = undisturbed(begun[0], tmp_path)
    ended(begun, tmp_path, list(range(len(deeds))))


def undisturbed(origin: Path, folder: Path) -> tuple[list[str], int]:
    """The deeds of a forgetting that nobody kills, and how many were done when all was laid."""
    shutil.copytree(origin, folder / "undisturbed")
    settled = []
    with pytest.MonkeyPatch.context() as patch:
        deeds = counted(patch, 10**9)
        forward = swap.forward
        patch.setattr(swap, "forward", lambda root: (settled.append(len(deeds)), forward(root))[1])
        forget(str(folder / "undisturbed"), WHAT)
    return deeds, settled[0]


def ended(begun: tuple[Path, Any], folder: Path, kills: list[int]) -> set[tuple[bool, bool]]:
    """Kill at each of these deeds and bring it to its end; gives the states met: (all is laid, it waits)."""
    origin, goal = begun
    wanted, before, states = whole(folder / "undisturbed"), whole(origin), set()
    for last in kills:
        root = folder / "root"
        shutil.copytree(origin, root)
        killed(root, last)
        settled, waits = (root / FOLDER / READY).exists(), asked(str(root)) is not None
        states.add((settled, waits))
        if not settled and waits:
            assert whole(root) == before, "nothing has changed before all was laid"
        if waits:
            with pytest.raises(ValueError, match="was interrupted"):
                run(goal, None, str(root))  # type: ignore[arg-type]
            assert any("was interrupted" in said for said in verify(str(root)))
            forget(str(root), [])
        elif not (root / "forgotten").exists():  # not even asked for
            forget(str(root), WHAT)
        assert verify(str(root)) == [], last
        assert because(goal, root) == {}, last
        assert whole(root) == wanted, last
        assert all(holding(root, secret(url)) == [] for url in WHAT), last
        assert len((root / "forgotten").read_text().splitlines()) == 1
        shutil.rmtree(root)
    return states


KILLED = """
import os, sys
from tests.test_forget_crash import DEEDS, WHAT
from tundish.cluster import store
from tundish.pipeline.forget import forget
left = int(sys.argv[2])
def dying(deed):
    def once(*given):
        global left
        left -= 1
        if left < 0:
            os.kill(os.getpid(), 9)
        return deed(*given)
    return once
for name in DEEDS:
    setattr(store, name, dying(getattr(store, name)))
forget(sys.argv[1], WHAT)
"""


@pytest.mark.parametrize("last", [5, 30, 60])
def test_a_process_that_dies_leaves_what_another_finishes(last: int, begun: tuple[Path, Any], tmp_path: Path) -> None:
    origin, goal = begun
    root = tmp_path / "root"
    shutil.copytree(origin, root)
    ended = subprocess.run(
        [sys.executable, "-c", KILLED, str(root), str(last)],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[1])},
        capture_output=True,
        timeout=300,
    )
    assert ended.returncode == -9, ended.stderr.decode()
    forget(str(root), [])
    assert verify(str(root)) == []
    assert not [step for step in plan(goal, str(root)) if not step.current]
    assert all(holding(root, secret(url)) == [] for url in WHAT)
    assert not (root / FOLDER).exists()


def test_another_forgetting_finishes_the_one_before(begun: tuple[Path, Any], tmp_path: Path) -> None:
    origin, goal = begun
    root = tmp_path / "root"
    shutil.copytree(origin, root)
    killed(root, 12)
    assert asked(str(root)) is not None
    forget(str(root), [f"{HERON}/page/6"])
    assert all(holding(root, secret(url)) == [] for url in (*WHAT, f"{HERON}/page/6"))
    assert len((root / "forgotten").read_text().splitlines()) == 2
    assert (verify(str(root)), because(goal, root)) == ([], {})


def test_a_full_disk_leaves_the_root_as_it_was(
    begun: tuple[Path, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    origin, _ = begun
    root = tmp_path / "root"
    shutil.copytree(origin, root)
    before = {name: one for name, one in digests(str(root)).items() if not name.startswith((".forgetting", "lease"))}
    with monkeypatch.context() as patch:
        patch.setattr(store, "require_space", _full)
        with pytest.raises(ValueError, match=r"only 0\.0 KB are free"):
            forget(str(root), WHAT)
    now = {name: one for name, one in digests(str(root)).items() if not name.startswith((".forgetting", "lease"))}
    assert now == before
    assert asked(str(root)) is None, "nothing waits for it"
    forget(str(root), WHAT)
    assert all(holding(root, secret(url)) == [] for url in WHAT)


def _full(folder: Path) -> None:
    if "new" in folder.parts:
        raise ValueError(f"only 0.0 KB are free under {folder}; make room and run again")
