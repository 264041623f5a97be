"""How many workers train together: what is asked for on the command line, what is refused, what is told; and what a
driver on Ray makes of a wish to stop, without a Ray."""

import math
from functools import partial

import click
import pytest
import torch

from tests.test_local_cluster import meeting
from tests.test_model_pretrain import lines, toy
from tests.test_training_stages import texts, trained  # noqa: F401 - a fixture
from tundish.cluster.local import Local
from tundish.cluster.ray_board import WAITS, Board, Telling
from tundish.cluster.ray_gang import GRACE, Heard, Wish, answered, placed, scaling_of, wanted_by
from tundish.cluster.ray_gang import WAITS as PATIENT
from tundish.cluster.ray_room import GPUS, foretold
from tundish.cluster.verbs import PATIENCE
from tundish.pipeline.cli_options import Trainers, settings_of, spelled
from tundish.stages.pretrain_feed import Feed
from tundish.stages.pretrain_loop import pretrain
from tundish.stages.ranks import Ranks, require_place
from tundish.stages.stage import Settings


def asked(text):
    return Trainers().convert(text, None, None)


def test_a_number_or_the_fewest_and_the_most():
    assert [asked(text) for text in ("1", "0", "8", "2-8", "3-3")] == [(1, 1), (0, 0), (8, 8), (2, 8), (3, 3)]
    assert [asked(spelled(each)) for each in ((4, 4), (2, 8))] == [(4, 4), (2, 8)]
    settings = settings_of((), asked("2-8"))
    assert (settings.trainers, settings.least) == (8, 2)
    assert settings_of(()).trainers == 1
    for text in ("many", "8-2", "0-4", "4-", "-4", "1-2-3", "2.5"):
        with pytest.raises(click.UsageError, match=r"give one, such as 4|the fewest workers come first"):
            asked(text)


def test_here_the_most_train(tmp_path):
    Local().gang("Two", partial(meeting, str(tmp_path)), size=2, least=1)
    assert {p.name for p in tmp_path.iterdir()} == {"0-of-2", "1-of-2"}


def ranks(world, together=1, rank=0):
    return Ranks(rank, world, torch.device("cpu"), None, together)


def test_workers_that_would_never_have_a_row_are_refused(tmp_path):
    task = toy(tmp_path, batch=5)
    Feed(task, ranks(5)).close()
    with pytest.raises(ValueError, match=r"^6 workers have 5 rows a step to share.*take 5 workers, or a batch of"):
        Feed(task, ranks(6))
    Feed(task, ranks(10, together=2)).close()
    with pytest.raises(ValueError, match=r"^12 workers \(2 of them share one model\) have 5 rows.*take 10 workers"):
        Feed(task, ranks(12, together=2))


def test_steps_in_which_some_have_none_are_told_of_once(tmp_path, caplog):
    task = toy(tmp_path, batch=(2, 5))
    Feed(task, ranks(4)).close()
    Feed(task, ranks(4, rank=3)).close()
    assert [record.message for record in caplog.records if record.name == "tundish.ranks"] == [
        "4 workers share 2 rows in some steps: there some of them wait"
    ]
    caplog.clear()
    Feed(task, ranks(2)).close()
    assert not [record for record in caplog.records if record.name == "tundish.ranks"]


def test_what_could_never_go_on_is_refused_before_a_gang_begins():
    require_place([2, 5], 5, 2, 1)
    require_place([4], 0, 0, 1)
    require_place([4], 4, 4, 2)
    with pytest.raises(ValueError, match=r"^8 workers have 5 rows a step to share"):
        require_place([2, 5], 8, 2, 1)
    with pytest.raises(ValueError, match=r"^2 to 7 workers cannot share models by 2.* such as 6$"):
        require_place([9], 7, 2, 2)


def test_a_recipe_with_too_many_workers_ends_in_one_sentence(tmp_path, texts, monkeypatch):  # noqa: F811
    monkeypatch.setattr("tundish.pipeline.plan.Settings", lambda: Settings(trainers=9))
    with pytest.raises(ValueError, match=r"^9 workers have 4 rows a step to share"):
        trained(tmp_path, texts)


def acted(signals, waits, until):
    """What is done and said, by second, of a gang that is never gone; `waits`: from when to when it has no workers."""
    wish, found = Wish(), []
    for now in range(until):
        asked = sum(second <= now for second in signals)
        wish, act, say = answered(wish, asked, any(first <= now < last for first, last in waits), 1000.0 + now)
        assert bool(say) == (act in ("ask", "end")), "whatever is done is said, and once"
        found += [(now, act)] if act else []
        if act == "leave":
            break
    return found


def test_a_wish_is_answered_at_once_and_a_second_one_ends_it_within_seconds():
    assert acted([], [], 9) == []
    assert acted([3], [], 60) == [(3, "ask")]
    assert acted([3, 7], [], 60) == [(3, "ask"), (7, "end"), (7 + GRACE, "leave")]
    assert acted([3, 3], [], 60) == [(3, "ask"), (4, "end"), (4 + GRACE, "leave")]
    assert acted([3], [], 2000) == [(3, "ask"), (3 + PATIENCE, "end"), (3 + PATIENCE + GRACE, "leave")]
    assert acted([3, 7, 8, 9], [], 60) == [(3, "ask"), (7, "end"), (7 + GRACE, "leave")]
    assert "save first" in answered(Wish(), 1, False, 0.0).say


def test_a_gang_that_waits_for_room_is_ended_and_not_asked():
    assert acted([3], [(0, math.inf)], 60) == [(3, "end"), (3 + GRACE, "leave")]
    assert acted([9], [(0, 8)], 60) == [(9, "ask")]
    # its workers are lost before they saved: there is nobody left to wait for
    assert acted([9], [(0, 8), (15, math.inf)], 60) == [(9, "ask"), (15, "end"), (15 + GRACE, "leave")]
    board = Board()
    assert board.seen() == ({}, True, "")
    board.waits("RunningState" in WAITS)
    board.put({"step": 4})
    assert board.seen() == ({"step": 4}, False, "")
    board.trains("2 GPUs")
    assert board.seen() == ({"step": 4}, False, "2 GPUs")
    board.waits("SchedulingState" in WAITS)  # where it trains next is not known
    assert board.seen() == ({"step": 4}, True, "")


@pytest.mark.parametrize(("size", "least"), [(4, 4), (4, 2), (1, 1)])
def test_a_gpu_is_asked_for_where_one_may_come(size, least):
    """A group of GPU machines that is empty until somebody asks: workers without would be on CPUs for good."""
    for gpus, most in ((0, 4), (1, 4), (4, 4), (4, 0), (9, 4)):
        assert scaling_of(size, least, 8, gpus, most).use_gpu
    assert not scaling_of(size, least, 8, 0, 0).use_gpu


def test_more_workers_than_gpus_that_may_come_are_refused_at_once():
    with pytest.raises(ValueError, match=r"^8 training workers and 4 GPUs at most: .* ask for 4, or for 4-8 to begin"):
        scaling_of(8, 8, 8, 0, 4)
    with pytest.raises(ValueError, match=r"^8 training workers and 4 GPUs: .* ask for 4, or for 4-8 to begin"):
        scaling_of(8, 8, 8, 4, 2)
    assert scaling_of(8, 4, 8, 0, 4).num_workers == (4, 8)
    assert scaling_of(40, 40, 8, 0, 64).use_gpu  # the machines that come bring CPUs
    with pytest.raises(ValueError, match=r"^40 training workers on 8 CPUs would starve each other"):
        scaling_of(40, 40, 8, 64)


def test_few_cpus_are_shared_with_one_left_and_elastic_workers_take_what_there_is():
    """What docs/guide-ray.md says."""
    for size, cpus in ((1, 2), (2, 4), (8, 2), (4, 2), (3, 1), (16, 4), (8, 64)):
        share = scaling_of(size, size, cpus, 0).resources_per_worker["CPU"]
        assert 0.1 <= share <= 1
        assert share * size <= max(0.5, cpus - 1)
    elastic = scaling_of(8, 2, 4, 0)
    assert elastic.resources_per_worker["CPU"] * 4 == 4


def test_what_a_gang_asks_for_in_words():
    said = [wanted_by(scaling_of(*each)) for each in ((4, 4, 8, 0, 4), (1, 1, 8, 0), (8, 2, 4, 0), (8, 8, 2, 0))]
    assert said == [
        "4 workers with a GPU and 1 CPU each",
        "a worker with 1 CPU",
        "2 to 8 workers with 1 CPU each",
        "8 workers with 0.12 CPU each",
    ]


def test_a_wait_for_room_is_said_once_and_on_what_it_trains_each_time_that_changes():
    heard, said = Heard(), []
    moments = [(0, "", True), (PATIENT - 1, "", True), (PATIENT, "", True), (500, "", True)]
    moments += [(501, "", False), (502, "2 GPUs (x)", False), (503, "2 GPUs (x)", False)]
    moments += [(600, "", True), (601, "2 GPUs (x)", False), (700, "", True), (701 + PATIENT, "", True)]
    moments += [(800, "a GPU (x)", False), (801, "a GPU (x)", False)]
    for now, place, waiting in moments:
        heard, news = placed(heard, place, waiting, "it lacks", now)
        said += [(now, news)] if news else []
    assert said == [
        (PATIENT, "it lacks"),
        (502, "trains on 2 GPUs (x)"),
        (701 + PATIENT, "it lacks"),
        (800, "trains on a GPU (x)"),
    ]


def test_gpus_that_may_come_are_those_that_somebody_tells_of():
    plain = {"ray.io/node-id": "a", "tundish/work": "cpu"}
    assert foretold("GPU", {}, [plain, {}]) == 0
    assert foretold("GPU", {"CPU": 9, "GPU": 2}, [plain, {GPUS: "4"}, {GPUS: "3"}]) == 4
    assert foretold("GPU", {"GPU": 6}, [{GPUS: "4"}]) == 6
    assert foretold("CPU", {"CPU": 9, "GPU": 6}, [{GPUS: "40"}]) == 9
    for odd in ("four", "-1", "", "1.5", "²"):
        with pytest.raises(ValueError, match=rf"label tundish/gpus='{odd}'; make it the number of GPUs"):
            foretold("GPU", {}, [{GPUS: odd}])


def test_the_states_of_a_gang_without_workers_are_rays():
    from ray.train.v2._internal.execution.controller import state

    assert all(issubclass(getattr(state, name), state.TrainControllerState) for name in WAITS)


def test_the_board_hears_of_each_step(tmp_path, monkeypatch):
    """A gang that comes fewer than ten steps further between two starts moves."""
    monkeypatch.setattr("tundish.cluster.ray_board.POLL", 0.0)
    task, board, heard = toy(tmp_path, tokens=1000), Board(), []
    assert board.begin()
    pretrain(task, 0, 1, Telling(lambda row: (board.put(row), heard.append(board.furthest))))
    assert heard == list(range(len(lines(task, "log.jsonl"))))
    assert board.begin()
    assert (board.starts, board.fruitless) == (2, 0)


def test_who_is_told_of_a_step_hears_what_memory_was_held_and_the_log_does_not(tmp_path):
    task, told = toy(tmp_path, tokens=1000), []

    def tell(row):
        told.append(row)

    tell.every = 1
    pretrain(task, 0, 1, tell)
    written = lines(task, "log.jsonl")
    assert [{name: row[name] for name in row if name != "memory"} for row in told] == written
    assert all(10 << 20 < row["memory"] < 1 << 37 for row in told)
    assert sorted(row["memory"] for row in told) == [row["memory"] for row in told], "the most so far never falls"


def test_what_is_told_between_two_looks_is_told_at_the_end():
    put = []
    tell = Telling(put.append)
    for step in range(9):
        tell({"step": step})
    assert put == [{"step": 0}]
    tell.last()
    assert put[-1] == {"step": 8}
