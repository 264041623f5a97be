"""Rates and the time left, against workers that are played through event by event."""

import heapq
import random
from collections.abc import Iterator

import pytest

from tundish.cluster.pace import WINDOW, Pace
from tundish.cluster.verbs import Made, Told


def played(seconds: list[float], workers: int, start: float = 100.0) -> Iterator[tuple[float, float]]:
    """(when a shard is done, how long it took) where so many workers each take the next one."""
    free, done = [start] * workers, []
    for one in seconds:
        begins = heapq.heappop(free)
        heapq.heappush(free, begins + one)
        done.append((begins + one, one))
    yield from sorted(done)


def told(seconds: float, rows: int = 10, size: int = 100, workers: int = 0, kept: bool = False) -> Told:
    made = () if kept else (Made("Judge", rows, size, {}),)
    return Told("part", rows, {}, made=made, seconds=seconds, workers=workers, kept=kept)


def paced(ends: list[tuple[float, float]], total: int, workers: int, upto: int) -> Pace:
    pace = Pace()
    pace.heard(100.0, 0, total, None)
    for number, (moment, seconds) in enumerate(ends[:upto], 1):
        pace.heard(moment, number, total, told(seconds, workers=workers))
    return pace


@pytest.mark.parametrize("workers", [1, 3, 16])
@pytest.mark.parametrize("upto", [8, 40, 300])
def test_the_end_is_foretold_where_shards_are_alike(workers: int, upto: int) -> None:
    draw = random.Random(workers)
    ends = list(played([draw.uniform(8, 12) for _ in range(400)], workers))
    pace, now = paced(ends, 400, workers, upto), ends[upto - 1][0]
    left = pace.left(now)
    assert left is not None
    assert left == pytest.approx(ends[-1][0] - now, rel=0.12)
    assert pace.left(now + 5) == pytest.approx(left - 5)
    assert pace.left(now + 1e6) == 0


def test_a_shard_that_drags_does_not_move_the_end() -> None:
    calm = list(played([10.0] * 200, 4))
    odd = list(played([10.0] * 40 + [300.0] + [10.0] * 159, 4))
    (at,) = [number for number, (_, one) in enumerate(odd) if one == 300]
    assert 100 < at < 140
    for upto in (60, 100, 140, 160):
        calmly, oddly = (paced(ends, 200, 4, upto).left(ends[upto - 1][0]) for ends in (calm, odd))
        assert oddly == pytest.approx(odd[-1][0] - odd[upto - 1][0], rel=0.2)  # by the mean of 64 it is 1.45 times
        if upto > at:
            assert oddly == pytest.approx(calmly, rel=0.1)


def test_fewer_workers_than_there_should_be_are_noticed() -> None:
    ends = list(played([10.0] * 100, 2))
    pace = paced(ends, 100, 8, 60)
    assert pace.at_once() == pytest.approx(2, rel=0.1)
    assert pace.left(ends[59][0]) == pytest.approx(ends[-1][0] - ends[59][0], rel=0.1)


def test_the_last_shards_take_as_long_as_a_shard() -> None:
    ends = list(played([10.0] * 32, 16))
    pace = paced(ends, 33, 16, 32)
    assert pace.left(ends[-1][0]) == pytest.approx(10)


def test_rates_are_of_what_was_worked_on_now() -> None:
    pace = Pace()
    pace.heard(100.0, 0, 1000, None)
    for number in range(1, 501):
        pace.heard(100.0 + number / 1000, number, 1000, told(0.0, kept=True))
    assert pace.rates().things is None
    assert pace.left(101.0) is None
    for number in range(1, 21):
        pace.heard(100.5 + 2 * number, 500 + number, 1000, told(2.0, workers=1))
    assert pace.rates().things == pytest.approx(20 / 40.5)  # counted from the first that was heard of the stage
    assert pace.rates().rows == pytest.approx(200 / 40.5)
    assert pace.rates().size == pytest.approx(2000 / 40.5)
    assert pace.left(100.5 + 40) == pytest.approx(480 * 2, rel=0.02)


def test_kept_shards_between_others_are_no_work_either() -> None:
    pace = Pace()
    pace.heard(0.0, 0, 100, None)
    for moment in range(1, 31):
        pace.heard(float(moment), moment, 100, told(1.0, workers=1, kept=moment % 3 == 0))
    assert pace.kept == 10
    assert pace.rates().things == pytest.approx(20 / 29)  # 20 shards; the last one came at 29


def test_steps_go_by_their_rate_from_where_counting_began() -> None:
    pace = Pace()
    for moment in range(10):  # a training that goes on at step 500, 20 steps a second
        pace.heard(float(moment), 500 + 20 * moment, 1000, Told("Pretrain", 0, {}, line={"step": 1}))
    assert pace.rates().things == pytest.approx(20)
    assert pace.rates().rows is None
    assert pace.left(9.0) == pytest.approx((1000 - 680) / 20)
    pace.heard(10.0, 600, 1000, None)  # it went back
    assert pace.left(10.0) is None
    pace.heard(20.0, 700, 1000, None)
    assert pace.left(20.0) == pytest.approx(30)


def test_what_is_not_known_is_none_and_what_is_done_takes_nothing() -> None:
    pace = Pace()
    assert pace.left(0.0) is None
    pace.heard(1.0, 0, 0, None)
    assert pace.rates() == (None, None, None)
    assert pace.left(1.0) is None
    pace.heard(2.0, 4, 4, None)
    assert pace.left(2.0) == 0


def test_only_the_last_things_count() -> None:
    pace = Pace()
    pace.heard(0.0, 0, 10_000, None)
    for number in range(1, 500):
        pace.heard(number * 10.0, number, 10_000, told(10.0, workers=1))
    for number in range(1, 2 * WINDOW):
        pace.heard(4990.0 + number, 499 + number, 10_000, told(1.0, workers=1))
    assert pace.rates().things == pytest.approx(1)
    assert pace.left(pace.heard_at) == pytest.approx(10_000 - pace.done, rel=0.02)
