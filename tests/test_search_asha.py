"""Trials on a real Ray, of which the poor are stopped early; what is sealed is what a search without Ray seals."""

import json
import tempfile
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.test_finetune_runs import task_of
from tests.test_search import small
from tundish.cluster.on_ray import OnRay
from tundish.cluster.ray_search import halving
from tundish.stages.search import Search, chosen, lying, search
from tundish.stages.search_asha import search_by_halving
from tundish.stages.search_space import space_of

torch.set_num_threads(1)
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OnRay]:
    """A short path: Ray puts sockets there, and their names may be 107 bytes long."""
    scratch = str(tmp_path_factory.mktemp("trials"))
    with (
        tempfile.TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True) as folder,
        OnRay(cpus=2, dashboard=False, temporary=folder, scratch=scratch) as cluster,
    ):
        yield cluster


def falling(number: int, report: Callable[[int, float], None]) -> None:
    """Each trial is worse than the one before; the third says that it cannot be."""
    for at in range(1, 10):
        report(at, 1.0 - number - 0.01 * at)


def refused(number: int, report: Callable[[int, float], None]) -> None:
    raise ValueError(f"trial {number} is none; give another")


def test_what_falls_behind_is_stopped_at_its_first_rung(cluster: OnRay) -> None:
    """One at a time, so that who was first is known."""
    ended: list[tuple[int, int]] = []
    heard: list[tuple[int, int]] = []
    bar = threading.RLock()  # as a terminal's progress has one, which cannot be pickled

    def watch(stage: str, done: int, total: int, told: Any) -> None:
        with bar:
            heard.append((done, total))

    halving(
        "Falling", falling, range(4), most=9, at_once=1, scratch=cluster.scratch,
        ended=lambda number, at: ended.append((number, at)), watch=watch,
    )  # fmt: skip
    assert ended == [(0, 9), (1, 1), (2, 1), (3, 1)]
    assert heard == [(1, 4), (2, 4), (3, 4), (4, 4)]


def test_what_is_the_users_to_mend_comes_back_as_itself(cluster: OnRay) -> None:
    with pytest.raises(ValueError, match=r"^trial 0 is none; give another$"):
        halving("Refused", refused, [0], most=3, scratch=cluster.scratch, ended=lambda number, at: None)


def test_a_search_by_halving_makes_the_trials_of_a_random_search(cluster: OnRay, tmp_path: Path) -> None:
    model = small(tmp_path)
    task = replace(task_of(model, tmp_path, "classify", train=240), epochs=9)
    plan = Search(task, space_of(["lr=1e-9,3e-3"]), 5, "asha", seed=8)
    search_by_halving(plan, cluster, 2)
    told = json.loads((Path(task.out) / "search.json").read_text())
    whole = replace(plan, how="random", task=replace(task, out=str(tmp_path / "random")))
    search(whole, 0, 1, lambda line: None)
    for number, one in enumerate(told["trials"]):
        twin = lying(whole, number) or {}
        assert one["setting"] == twin["setting"]
        assert one["dev"] == twin["dev"][: len(one["dev"])], "as far as it came, it is the same"
        assert one["end"] == ("whole" if len(one["dev"]) == 9 else "stopped")
    assert told["ends"]["stopped"] + told["ends"]["whole"] == 5
    assert told["ends"]["stopped"] > 0
    assert told["best"]["setting"] == {"lr": 3e-3}
    assert chosen(plan)[0] == replace(task, lr=3e-3)
    seen = {path: path.stat().st_mtime_ns for path in (Path(task.out) / "search").iterdir()}
    search_by_halving(replace(plan, trials=6), cluster, 2)
    later = {path: path.stat().st_mtime_ns for path in (Path(task.out) / "search").iterdir()}
    assert {path: later[path] for path in seen} == seen, "what ended or was stopped is not made again"
    assert len(later) == 6
