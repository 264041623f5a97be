"""The simulation of many workers: what has to be so of any schedule, a slow twin, and the same table from a seed."""

import heapq
import importlib
import random
import sys
from collections.abc import Iterator
from pathlib import Path
from statistics import mean
from types import ModuleType
from typing import Any

import numpy as np
import pytest

FOLDER = Path(__file__).resolve().parents[1] / "benchmarks"


@pytest.fixture(scope="module")
def modules() -> Iterator[dict[str, ModuleType]]:
    """Files of benchmarks/ as the modules they are to each other."""
    before = set(sys.modules)
    sys.path.insert(0, str(FOLDER))
    try:
        yield {name: importlib.import_module(name) for name in ("simulate", "simulate_core", "simulate_costs")}
    finally:
        sys.path.remove(str(FOLDER))
        for name in set(sys.modules) - before:
            if str(FOLDER) in str(getattr(sys.modules[name], "__file__", "")):
                del sys.modules[name]


@pytest.fixture(scope="module")
def core(modules: dict[str, ModuleType]) -> ModuleType:
    return modules["simulate_core"]


@pytest.fixture(scope="module")
def simulate(modules: dict[str, ModuleType]) -> ModuleType:
    return modules["simulate"]


def fixed(*tasks: list[float]) -> Any:
    """Tasks whose shards take what they take, whoever does them."""
    return lambda task, attempt, worker: np.array(tasks[task], float)


def drawn(seed: int) -> list[list[float]]:
    draw = random.Random(seed)
    return [[draw.uniform(0.1, 9) for _ in range(draw.randint(1, 6))] for _ in range(draw.randint(1, 40))]


def failing(seed: int, nodes: int, count: int) -> list[tuple[float, int]]:
    draw = random.Random(seed)
    return sorted((draw.uniform(0, 60), draw.randrange(nodes)) for _ in range(count))


def handed_out(tasks: list[list[float]], workers: int) -> float:
    """The slow twin, without failures: each task in its turn to whoever is free first."""
    free = [0.0] * workers
    ends = []
    for shards in tasks:
        ends.append(heapq.heappop(free) + sum(shards))
        heapq.heappush(free, ends[-1])
    return max(ends)


@pytest.mark.parametrize("seed", range(30))
def test_one_worker_takes_the_sum_and_many_no_less_than_they_must(core: ModuleType, seed: int) -> None:
    tasks = drawn(seed)
    total, longest = sum(map(sum, tasks)), max(map(sum, tasks))
    alone = core.simulate(len(tasks), core.Farm(1), fixed(*tasks))
    assert alone.seconds == pytest.approx(total)
    assert alone.worked == pytest.approx(total)
    assert (alone.shards, alone.attempts) == (sum(map(len, tasks)), len(tasks))
    for workers in (2, 7, 100):
        told = core.simulate(len(tasks), core.Farm(workers), fixed(*tasks))
        assert told.seconds == pytest.approx(handed_out(tasks, workers))
        assert told.seconds >= max(total / workers, longest) - 1e-6
        assert told.worked == pytest.approx(total)
        broken = core.simulate(len(tasks), core.Farm(workers, 2), fixed(*tasks), failing(seed, -(-workers // 2), 5))
        assert broken.seconds >= max(total / workers, longest) - 1e-6
        assert broken.worked >= total - 1e-6
        assert broken.shards >= sum(map(len, tasks))


@pytest.mark.parametrize("seed", range(20))
def test_more_failures_never_make_a_worker_faster(core: ModuleType, seed: int) -> None:
    """One worker, where no luck of the order can hide it: of failures each more is no gain."""
    tasks, broken = drawn(seed), failing(seed, 1, 8)
    farm = core.Farm(1, known=1.0, back=4.0, look=0.01)
    seconds = [core.simulate(len(tasks), farm, fixed(*tasks), sorted(broken[:n])).seconds for n in range(9)]
    assert seconds == sorted(seconds)


def test_more_failures_take_longer_on_many(simulate: ModuleType, core: ModuleType) -> None:
    """Of many workers on the mean of seeds: where a task ends up may be luck."""
    pace = fixed(*([5.0] * 20 for _ in range(120)))
    times = []
    for mtbf in (1e9, 0.2, 0.05, 0.02):
        each = [
            core.simulate(120, core.Farm(24, 4, back=20), pace, simulate.failures(6, mtbf, 1e4, seed)).seconds
            for seed in range(8)
        ]
        assert min(each) >= 500.0
        times.append(mean(each))
    assert times[0] == 500.0
    assert times == sorted(set(times))


def test_other_hours_stretch_the_same_failures(simulate: ModuleType) -> None:
    one, other = simulate.failures(5, 2.0, 1e5, 3), simulate.failures(5, 4.0, 2e5, 3)
    assert [node for _, node in one] == [node for _, node in other]
    assert [2 * time for time, _ in one] == pytest.approx([time for time, _ in other])
    assert simulate.failures(40, 10.0, 36e5, 1)[-1][0] < 36e5
    assert len(simulate.failures(40, 10.0, 36e5, 1)) == pytest.approx(40 * 100, rel=0.05)


def test_a_lost_task_goes_on_behind_what_was_committed(core: ModuleType) -> None:
    """Three shards of 10 s; the node goes at 25 s, is known to be lost at 32 and there is another at 45."""
    farm = core.Farm(1, known=7.0, back=20.0, look=0.5)
    told = core.simulate(1, farm, fixed([10.0, 10.0, 10.0]), [(25.0, 0)])
    assert told.seconds == pytest.approx(45 + 2 * 0.5 + 10)
    assert (told.shards, told.looks, told.attempts, told.failures) == (4, 2, 2, 1)
    assert told.worked == pytest.approx(25 + 11)
    twice = core.simulate(1, farm, fixed([10.0, 10.0, 10.0]), [(25.0, 0), (40.0, 0)])
    assert twice.seconds == pytest.approx(60 + 11)


def test_a_node_that_is_lost_leaves_its_tasks_to_the_others(core: ModuleType) -> None:
    """Two nodes of two workers, four tasks of 10 s: the second node goes at 5 s and never comes back."""
    farm = core.Farm(4, 2, known=1.0, back=1e9)
    told = core.simulate(4, farm, fixed([10.0], [10.0], [10.0], [10.0]), [(5.0, 1)])
    assert told.seconds == 20.0
    assert told.worked == 2 * 10 + 2 * 5 + 2 * 10


def test_the_driver_hands_out_one_task_after_another(core: ModuleType) -> None:
    told = core.simulate(6, core.Farm(3, driver=1.0), fixed(*([10.0] for _ in range(6))))
    assert told.driver == 6.0
    assert told.seconds == 3 + 10 + 1 + 10  # the last worker begins at 3, ends at 13, begins again at 14
    slow = core.simulate(50, core.Farm(1000, driver=1.0), fixed(*([0.5] for _ in range(50))))
    assert slow.seconds == pytest.approx(50.5)


def test_second_copies_save_what_drags_and_do_not_redo_what_was_committed(core: ModuleType) -> None:
    """Worker 0 is ten times slower; worker 1 has nothing left at 4 s, when the other has committed none."""

    def pace(task: int, attempt: int, worker: int) -> np.ndarray:
        return np.array([4.0, 4.0] if task == 0 else [2.0, 2.0]) * (10 if worker == 0 else 1)

    alone = core.simulate(2, core.Farm(2), pace)
    assert (alone.seconds, alone.attempts) == (80.0, 2)
    again = core.simulate(2, core.Farm(2, again=True), pace)
    assert again.seconds == 4 + 8
    assert (again.attempts, again.shards) == (3, 2 + 2 + 1)
    assert again.worked == 4 + 8 + 12  # the slow copy ends when the other one has


def test_a_copy_that_is_lost_leaves_the_other_one_to_end(core: ModuleType) -> None:
    """The node of the slow copy goes half a second before the other copy ends, and is known to be lost after that: it
    is not done again."""

    def pace(task: int, attempt: int, worker: int) -> np.ndarray:
        return np.array(([4.0, 4.0], [4.0], [100.0])[task]) * (10 if worker == 0 else 1)

    farm = core.Farm(3, 1, known=1.0, back=2.0, again=True)
    told = core.simulate(3, farm, pace, [(11.5, 0)])
    assert told.seconds == 100.0
    assert told.attempts == 3 + 1 + 2  # a copy of the first task, at 4 s; of the last one, at 12 and at 14 s


@pytest.mark.parametrize("seed", range(20))
def test_second_copies_of_steady_tasks_gain_and_lose_nothing(core: ModuleType, seed: int) -> None:
    tasks = drawn(seed)
    for workers in (1, 3, 50):
        alone = core.simulate(len(tasks), core.Farm(workers), fixed(*tasks))
        again = core.simulate(len(tasks), core.Farm(workers, again=True), fixed(*tasks))
        assert again.seconds == pytest.approx(alone.seconds)
        assert again.attempts <= 3 * len(tasks)


def test_copies_wait_for_what_may_end_by_itself(core: ModuleType) -> None:
    """Eight tasks of 4 s and one of 40: a worker is idle from the 12th second on, a copy begins so much later."""

    def pace(task: int, attempt: int, worker: int) -> np.ndarray:
        return np.array([4.0 if (task, attempt) != (5, 0) else 40.0])

    def ended(**farm: float) -> tuple[float, int]:
        told = core.simulate(9, core.Farm(3, again=True, **farm), pace)
        return told.seconds, told.attempts

    assert ended() == (12 + 4, 9 + 1)
    assert ended(slow=1.5) == (12 + 1.5 * 4 + 4, 9 + 1)
    assert ended(slow=0.5, patience=7.0) == (12 + 7 + 4, 9 + 1)
    assert ended(patience=100.0) == (4 + 40, 9)


def test_a_farm_needs_workers(core: ModuleType) -> None:
    with pytest.raises(ValueError, match=r"^0 workers, 16 a node; give at least 1 of each$"):
        core.Farm(0)


def test_transfers_share_a_node_by_the_time_they_take(simulate: ModuleType, modules: dict[str, ModuleType]) -> None:
    """Between a worker that has the network to itself and one that shares it with all the others all the time."""
    costs = modules["simulate_costs"].kept()._replace(shards=[[100.0, 50.0, 10.0, 2e-6]])
    stated = simulate.Stated(spread=0.0, latency=0.0, network=1e6)
    load = simulate.loaded(1e11, 160, costs, stated, 1)
    cpu, moved = stated.stored * 2 * 2e-8, stated.stored * 1.2 / 1e6
    assert cpu + moved < load.seconds[0] < cpu + 16 * moved
    transfer = load.seconds[0] - cpu
    assert transfer == pytest.approx(moved * (1 + 15 * transfer / (transfer + cpu)))
    assert simulate.loaded(1e11, 1, costs, stated, 1).seconds[0] == pytest.approx(cpu + moved)


def test_the_table_follows_from_the_seed_alone(simulate: ModuleType, modules: dict[str, ModuleType]) -> None:
    costs, stated = modules["simulate_costs"].kept(), simulate.Stated(mtbf=2.0)
    small = {"300 GB": 3 * 10**11}
    one, two = (list(simulate.rows(costs, stated, 5, small, (50, 150))) for _ in range(2))
    assert one == two
    assert one != list(simulate.rows(costs, stated, 6, small, (50, 150)))
    for row in one:
        shards = row.shards
        assert shards == pytest.approx(3e11 * 0.437 / (64 << 20), rel=0.01)
        assert 0 < row.useful < 1
        assert row.read >= shards * (64 << 20)
        assert row.requests >= shards * 5
        assert row.manifest == pytest.approx(shards * costs.manifest)
        assert row.driver > 0
    assert [row.how for row in one] == ["now", "no copies", "copies at once"] * 2
    assert one[3].hours < one[0].hours
    assert one[3].hours <= one[4].hours


def test_where_a_driver_binds_is_where_its_line_crosses_the_workers(modules: dict[str, ModuleType]) -> None:
    driver = sys.modules["engine_driver"]
    tasks = (100, 300, 800)
    quadratic, linear = [n * (1e-4 + n * 1e-6) for n in tasks], [n * 1e-4 for n in tasks]
    assert driver.crossing(tasks, quadratic, 2.1e-3) == 2000
    assert driver.crossing(tasks, linear, 2.1e-3) == 0
    assert driver.crossing(tasks, linear, 1e-5) == 100
    assert driver.exponent(tasks, [n**2 for n in tasks]) == 2.0
    assert driver.exponent(tasks, linear) == 1.0
