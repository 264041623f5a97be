"""Distributed components: the exact fixpoint, whatever the graph and however little fits a part."""

import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tundish.cluster.local import Local
from tundish.cluster.shards import Dataset
from tundish.cluster.target import Target
from tundish.stages import components as stage
from tundish.stages.components import components
from tundish.stages.stage import Place


def edges_of(folder: Path, pairs: list[tuple[int, int]], shards: int = 3) -> Dataset:
    target, made = Target(str(folder / "edges"), "key", "arrow"), []
    for number in range(shards):
        some = np.array(pairs[number::shards], np.uint64).reshape(-1, 2)
        writer = target.writer(f"part-{number:05d}")
        writer.write(pa.table({"a": some[:, 0], "b": some[:, 1]}))
        made.append(writer.finish({}, {}))
    return target.seal(made)


def found(folder: Path, pairs: list[tuple[int, int]], rows: int, cluster: Any = None) -> tuple[dict[int, int], Dataset]:
    place = Place(str(folder / "out-0000000000"), "key")
    made = components(cluster or Local(), edges_of(folder, pairs), place, rows_a_part=rows)
    table = made.table()
    assert len(table) == len(set(table["label"].to_pylist())), "a label is told once"
    return dict(zip(table["label"].to_pylist(), table["root"].to_pylist(), strict=True)), made


def expected(pairs: list[tuple[int, int]]) -> dict[int, int]:
    """By flooding, one label at a time."""
    near: dict[int, set[int]] = {}
    for a, b in pairs:
        near.setdefault(a, set()).add(b)
        near.setdefault(b, set()).add(a)
    root: dict[int, int] = {}
    for start in sorted(near):
        waiting = [] if start in root else [start]
        while waiting:
            one = waiting.pop()
            if one not in root:
                root[one] = start
                waiting += near[one]
    return root


def apart(pairs: list[tuple[int, int]]) -> list[tuple[int, int]]:
    return [(a, b) for a, b in pairs if a != b]


@settings(deadline=None, max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.integers(0, 60), st.integers(0, 60)), max_size=90), st.sampled_from([3, 7, 10**6]))
def test_any_graph(tmp_path_factory: pytest.TempPathFactory, pairs: list[tuple[int, int]], rows: int) -> None:
    pairs = apart(pairs)
    assert found(tmp_path_factory.mktemp("graph"), pairs, rows)[0] == expected(pairs)


def path(rng: np.random.Generator, length: int = 5000) -> list[tuple[int, int]]:
    return list(pairwise(rng.permutation(length).tolist()))


def star(rng: np.random.Generator) -> list[tuple[int, int]]:
    """Its centre is the largest of them, so every leaf has to be told of the smallest."""
    return [(100_000, n) for n in range(100_000)]


def late(rng: np.random.Generator, size: int = 4000) -> list[tuple[int, int]]:
    """Two stars of the same size, such as cliques are told as, and one edge from leaf to leaf."""
    left = [(0, n) for n in range(1, size)]
    return [*left, *((a + 5000, b + 5000) for a, b in left), (size - 1, 5000 + size - 1)]


def trees(rng: np.random.Generator) -> list[tuple[int, int]]:
    """Two random trees that one edge joins."""
    left = [(int(rng.integers(0, n)), n) for n in range(1, 2000)]
    return [*left, *((a + 5000, b + 5000) for a, b in left), (1999, 6999)]


@pytest.mark.parametrize(("graph", "rows"), [(path, 400), (star, 8000), (late, 200), (trees, 300)])
def test_long_paths_hubs_and_late_joins(graph: Callable, rows: int, tmp_path: Path) -> None:
    pairs = graph(np.random.default_rng(3))
    np.random.default_rng(4).shuffle(pairs)  # type: ignore[arg-type]
    told, made = found(tmp_path, pairs, rows)
    assert told == expected(pairs)
    assert made.counts == {"labels": len(told), "components": len(set(told.values()))}
    assert (tmp_path / "out-0000000000" / "steps" / "components-2-small").exists(), "too easy to need rounds"


def test_labels_of_64_bits(tmp_path: Path) -> None:
    top = 2**64 - 1
    pairs = [(top, 2**63), (2**63, 5), (0, top - 1)]
    assert found(tmp_path, pairs, 10**6)[0] == expected(pairs)
    assert found(tmp_path / "parts", pairs, 1)[0] == expected(pairs)


class Backwards(Local):
    """The last item first, and everything done twice, as when a worker is thought lost and is not."""

    def each(self, stage: str, work: Any, items: Any) -> Iterator[Any]:
        for item in list(items)[::-1]:
            work(item)
            yield work(item)


@dataclass
class Threads(Local):
    """So many at once, which ends when it ends."""

    def each(self, stage: str, work: Any, items: Any) -> Iterator[Any]:
        with ThreadPoolExecutor(self.workers) as pool:
            yield from pool.map(work, items)


@pytest.mark.parametrize("cluster", [Backwards(), Threads(2), Threads(8)])
def test_the_same_bytes_from_any_cluster(cluster: Local, tmp_path: Path) -> None:
    pairs = path(np.random.default_rng(1), 1500)
    assert found(tmp_path / "one", pairs, 400)[1].digest == found(tmp_path / "other", pairs, 400, cluster)[1].digest


@pytest.mark.slow
def test_the_same_bytes_from_1_2_and_8_processes(tmp_path: Path) -> None:
    pairs = late(np.random.default_rng(1))
    made = {found(tmp_path / str(workers), pairs, 2500, Local(workers))[1].digest for workers in (1, 2, 8)}
    assert len(made) == 1


def test_neither_the_order_of_edges_nor_their_cut_into_shards_decides_who_is_joined(tmp_path: Path) -> None:
    pairs = trees(np.random.default_rng(5))
    place = Place(str(tmp_path / "out-0000000000"), "key")
    one = components(Local(), edges_of(tmp_path / "a", pairs, 2), place, rows_a_part=500).table()
    turned = [(b, a) for a, b in pairs[::-1]] + pairs[:100]
    place = Place(str(tmp_path / "again-0000000000"), "key")
    other = components(Local(), edges_of(tmp_path / "b", turned, 7), place, rows_a_part=900).table()
    assert one.sort_by("label").equals(other.sort_by("label"))


class Cut(Exception):
    pass


def cut_every(calls: int) -> Local:
    """A cluster that is cut off again and again, each time a little further on."""
    seen: list[int] = []

    def watch(name: str, done: int, total: int, told: object) -> None:
        seen.append(done)
        if len(seen) % calls == 0:
            raise Cut

    return Local(watch=watch)


def test_the_same_bytes_however_often_it_is_cut(tmp_path: Path) -> None:
    pairs = path(np.random.default_rng(1), 1500)
    calm = found(tmp_path / "one", pairs, 400)[1]
    cuts, cluster = 0, cut_every(29)
    while True:
        try:
            again = found(tmp_path / "cut", pairs, 400, cluster)[1]
            break
        except Cut:
            cuts += 1
    assert cuts > 3
    assert again.digest == calm.digest


@pytest.mark.parametrize("step", ["components-1-asked", "components-1-small", "components-2-small"])
def test_what_was_begun_with_parts_of_another_size_is_not_mixed_in(step: str, tmp_path: Path) -> None:
    pairs, begun = path(np.random.default_rng(1), 1500), tmp_path / "out-0000000000" / "steps" / step / "commits"

    def watch(name: str, done: int, total: int, told: object) -> None:
        if len(list(begun.glob("*.json"))) == 2:
            raise Cut

    with pytest.raises(Cut):
        found(tmp_path, pairs, 300, Local(watch=watch))
    assert found(tmp_path, pairs, 400)[0] == expected(pairs)


KILLED = """
import os, signal
import numpy as np
from pathlib import Path
from tests.test_components import found, path
from tundish.cluster.local import Local
begun = Path({step!r}) / "commits"
watch = lambda *_: os.kill(os.getpid(), signal.SIGKILL) if list(begun.glob("*.json")) else None
found(Path({folder!r}), path(np.random.default_rng(1), 1500), 250, Local(watch=watch))
"""


LATER = [pytest.param(step, marks=pytest.mark.slow) for step in ("components-1-asked", "components-3-small")]


@pytest.mark.parametrize("step", ["components-0", "components-2-large", *LATER])
def test_a_process_killed_in_any_round_goes_on(step: str, tmp_path: Path) -> None:
    pairs, steps = path(np.random.default_rng(1), 1500), tmp_path / "killed" / "out-0000000000" / "steps"
    calm = found(tmp_path / "one", pairs, 250)[1]
    script = KILLED.format(folder=str(tmp_path / "killed"), step=str(steps / step))
    ended = subprocess.run([sys.executable, "-c", script], cwd=Path(__file__).parents[1]).returncode
    assert ended == -signal.SIGKILL, "no shard of this step was ever committed"
    sealed = {file: file.stat().st_mtime_ns for file in steps.glob("*/manifest.json")}
    told, made = found(tmp_path / "killed", pairs, 250)
    assert told == expected(pairs)
    assert made.digest == calm.digest
    assert {file: file.stat().st_mtime_ns for file in sealed} == sealed, "a sealed step was done again"


def test_no_part_holds_all_edges(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    most: list[int] = []
    for name in ("_forest", "_asked", "_answered", "_downwards", "_small_star", "_finished", "_with_roots"):
        fn = getattr(stage, name)
        monkeypatch.setattr(stage, name, lambda batch, at, fn=fn: (most.append(len(batch)), fn(batch, at))[1])
    pairs = trees(np.random.default_rng(2))
    assert found(tmp_path, pairs, 500)[0] == expected(pairs)
    assert most
    assert max(most) < len(pairs) / 2


def test_a_hub_brings_a_row_a_shard_and_not_one_a_neighbour(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    met: list[int] = []
    for name in ("_answered", "_small_star"):
        fn = getattr(stage, name)

        def counted(batch: pa.Table, at: Any, fn: Callable = fn) -> pa.Table:
            met.append(max(Counter(batch["u"].to_pylist()).values(), default=0))
            return fn(batch, at)

        monkeypatch.setattr(stage, name, counted)
    for hub in (0, 100_000):
        pairs = [(hub, n) for n in range(20_000) if n != hub]
        np.random.default_rng(4).shuffle(pairs)  # type: ignore[arg-type]
        assert found(tmp_path / str(hub), pairs, 2000)[0] == expected(pairs)
    assert len(met) > 20
    assert max(met) <= 11, "more rows than ten shards ask and one that tells"
