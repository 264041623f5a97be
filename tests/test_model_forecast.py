"""What is said of a training before it begins, and why it took something else."""

import math
import shutil
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.spreading import on_ranks
from tests.test_model_pretrain import SHAPE, Killed, files, lines, losses, result, shard, silent, toy
from tundish.cluster import checkpoint, checkpoint_load
from tundish.operators.model.descent import StableAdamW
from tundish.stages import (
    pretrain_begin,
    pretrain_count,
    pretrain_feed,
    pretrain_held,
    pretrain_loop,
    pretrain_memory,
    pretrain_outcome,
    pretrain_probe,
)
from tundish.stages.pretrain_log import took
from tundish.stages.pretrain_loop import pretrain
from tundish.stages.pretrain_outcome import NAMED, spoken
from tundish.stages.pretrain_state import State
from tundish.stages.spread import Copied

torch.set_num_threads(1)
SMALL = {"width": 32, "layers": 2, "heads": 2, "ff": 48}
POST = replace(SHAPE, norm="post", bias=True, final_norm=False)
BESIDE = replace(POST, width=16, heads=1, embedding=32, ff=24)


@pytest.fixture(autouse=True)
def briefly(monkeypatch):
    monkeypatch.setattr(pretrain_probe, "SECONDS", 0.05)


def on_disk(task):
    newest = Path(task.out) / "checkpoints" / f"step-{result(task)['steps']:09d}"
    return sum(path.stat().st_size for path in newest.glob("*.safetensors"))


@pytest.mark.parametrize(
    "other",
    [
        {},
        {"dtype": "float32", "optimizer": "adamw", "weights": {0: {"toy": 1.0}}},
        {"optimizer": "muon"},
        {"objective": "rtd", "model": POST, "generator": BESIDE},
        {"objective": "rtd", "model": POST, "generator": BESIDE, "sharing": "gdes", "dtype": "float32"},
        {"objective": "rtd", "model": POST, "generator": BESIDE, "sharing": "none"},
        {"model": replace(SHAPE, tied=False), "objective": {"mlm": 2, "clm": 1}, "dtype": "bfloat16"},
        {"model": "t5-small", "shape": SMALL | {"head": 16, "decoder": 2}, "objective": "spans", "dtype": "float32"},
        {"model": "switch", "shape": SMALL | {"head": 16, "decoder": 2}, "objective": "spans", "dtype": "float32"},
        {"model": replace(SHAPE, shared=True, embedding=16), "recompute": 1},
        {"model": "deberta", "shape": SMALL, "dtype": "float32"},
    ],
    ids=str,
)
def test_what_can_be_counted_is_exact(tmp_path, other):
    task = toy(tmp_path, tokens=1500, **other)
    told = pretrain_probe.probe(task)
    pretrain(replace(task, foretold=told.plain()), 0, 1, silent)
    found = result(task)
    assert told.parameters == found["parameters"]
    assert told.checkpoint == on_disk(task) == found["forecast"]["checkpoint"]["actual"]
    assert told.steps == found["steps"] == found["forecast"]["steps"]["forecast"]
    for name in ("weights", "gradients", "optimiser"):
        assert told.memory[name] == found["forecast"]["memory"][name]["actual"]
    assert told.memory["kept for the way back"] > 0
    assert told.flops > 0
    assert found["forecast"]["by"] == "plan --probe"


CURRICULUM = [
    {"tokens": [0, "40%"], "objective": "clm", "batch": [2, 6]},
    {"tokens": ["40%", "80%"], "objective": {"mlm": 2, "clm": 1}, "row": 48, "context": 24, "batch": 3},
    {"tokens": ["80%", "100%"], "row": 64, "context": 32},
]


def test_steps_of_a_curriculum_are_those_of_the_run(tmp_path):
    task = toy(tmp_path, curriculum=CURRICULUM, tokens=6000)
    told = pretrain_probe.probe(task)
    pretrain(task, 0, 1, silent)
    assert told.steps == result(task)["steps"]
    unseen = pretrain_probe.probe(replace(task, sources=(), holdout=()))
    assert unseen.steps == pytest.approx(told.steps, rel=0.15)
    assert unseen.held == 0 < told.held


def test_documents_are_as_long_as_those_of_the_shards(tmp_path):
    """So operations a token and padding are known, where there are shards to ask."""
    long = replace(toy(tmp_path, tokens=6000), length=256, model=replace(SHAPE, length=256))
    source = np.random.default_rng(1)
    texts = [source.integers(5, 40, 240).astype(np.uint16) for _ in range(60)]
    task = replace(long, sources=(files(shard(tmp_path / "long.arrow", texts)),), batch=2, holdout=())
    told = pretrain_probe.probe(task)
    pretrain(task, 0, 1, silent)
    actual = result(task)["forecast"]
    assert told.flops == pytest.approx(actual["flops"]["actual"], rel=0.02)
    assert told.padding == pytest.approx(actual["padding"]["actual"], abs=0.02)
    short = replace(long, sources=toy(tmp_path).sources, batch=2, holdout=())
    assert pretrain_probe.probe(short).flops < 0.95 * told.flops


def test_what_several_workers_share_is_counted_as_shared(tmp_path):
    task = toy(tmp_path, dtype="float32")
    alone = pretrain_count.counted(task)
    sharded = pretrain_count.counted(replace(task, spread="sharded"), 4)
    assert sharded.checkpoint == alone.checkpoint
    assert sharded.parameters == alone.parameters
    for name in ("weights", "gradients", "optimiser"):
        assert alone.memory[name] / 4 <= sharded.memory[name] < 0.4 * alone.memory[name]
    assert alone.memory["weights"] / 4 < sharded.memory["gathered"] < 3 * alone.memory["weights"]
    several = pretrain_count.counted(replace(task, spread="sharded", batch=8, at_once=1), 4)
    assert several.memory["gathered"] > sharded.memory["gathered"]  # whole gradients until the last part
    sliced = pretrain_count.counted(replace(task, tensor=2), 4)
    assert sliced.parameters == alone.parameters
    assert alone.memory["weights"] / 2 < sliced.memory["weights"] < alone.memory["weights"]
    with pytest.raises(ValueError, match="2 heads and an inner width of 48 do not divide by 5"):
        pretrain_count.counted(replace(task, tensor=5), 5)
    told = pretrain_probe.probe(replace(task, tensor=2, tokens=2000), workers=4)
    assert told.steps == pretrain_probe.probe(replace(task, tokens=2000), workers=4).steps
    assert torch.get_num_threads() == 1


def trains(ranks, task):
    pretrain(task, ranks.rank, ranks.world, silent)


@pytest.mark.slow
@pytest.mark.parametrize("other", [{"spread": "sharded"}, {"tensor": 2}], ids=str)
def test_workers_hold_what_was_counted(tmp_path, other):
    task = toy(tmp_path, dtype="float32", tokens=2000, **other)
    told = pretrain_count.counted(task, 2)
    on_ranks(trains, tmp_path, 2, task)
    found = result(task)
    assert found["parameters"] == told.parameters
    for name in ("weights", "gradients", "optimiser"):
        assert found["forecast"]["memory"][name]["actual"] == told.memory[name]
    assert found["forecast"]["checkpoint"]["actual"] == pytest.approx(told.checkpoint, abs=20_000)  # more headers
    assert found["forecast"]["causes"]["summed"] > 0


def test_rows_at_once_and_growing_batches_are_reckoned_by_their_parts(tmp_path):
    """A part of two rows takes as long as two parts of one: what is forecast is linear in parts and in rows."""
    task = toy(tmp_path, tokens=4000, batch=(2, 8), grow=0.5, dtype="float32")
    schedule = pretrain_count.schedule_of(task)
    kinds = pretrain_probe._kinds(task, schedule, 1, False)
    kind = kinds[0, "mlm"]
    assert kind.rows == 8
    assert [pretrain_probe._parts(leg, kind, 1, False) * 8 for leg in schedule.legs] == [g.rows for g in schedule.legs]
    fixed = replace(task, at_once=3)
    kind = pretrain_probe._kinds(fixed, schedule, 1, True)[0, "mlm"]
    assert kind.rows == 3
    for leg in schedule.legs:
        assert pretrain_probe._parts(leg, kind, 1, True) == -(-leg.rows // 3)
    # of shapes that stay, the first steps are filled up to the largest batch, and that is padding
    kind = pretrain_probe._kinds(task, schedule, 2, True)[0, "mlm"]
    assert kind.rows == 4


def adds_up(task):
    told = result(task)["forecast"]
    assert told["seconds"]["actual"] == pytest.approx(sum(map(took, lines(task, "log.jsonl"))) + ended(task), abs=0.2)
    apart = told["seconds"]["actual"] - told["seconds"]["forecast"]
    assert math.fsum(told["causes"].values()) == pytest.approx(apart, abs=1e-9)
    assert spoken(told)
    return told["causes"]


def ended(task):
    """What came after the last step is part of no line."""
    told = result(task)["forecast"]
    return told["seconds"]["actual"] - sum(map(took, lines(task, "log.jsonl")))


def test_causes_add_up(tmp_path):
    task = toy(tmp_path, evaluate_every=10, checkpoint_every=10)
    pretrain(task, 0, 1, silent)
    causes = adds_up(task)
    assert causes["held"] > 0
    assert causes["saved"] > 0
    assert causes["rewound"] == causes["again"] == causes["compiled"] == causes["summed"] == 0
    spent = [line.get("spent", {}) for line in lines(task, "log.jsonl")]
    assert [step for step, each in enumerate(spent) if "held" in each] == list(range(0, len(spent), 10))
    assert sum(each.get("saved", 0) for each in spent) < causes["saved"]  # the last is behind the last line
    assert result(task)["forecast"]["by"] == "its first steps"

    foretold = pretrain_probe.probe(task, workers=2).plain()
    again = replace(task, out=str(tmp_path / "again"), foretold=foretold)
    pretrain(again, 0, 1, silent)
    causes = adds_up(again)
    assert causes["workers"] > 0  # one where two were forecast
    assert "fewer workers" in spoken(result(again)["forecast"])[0]


def slowed(monkeypatch, where, name, seconds, *, of=1, behind=0):
    """Each so-manieth call, behind the first ones, sleeps before it does what it did."""
    plain, calls = getattr(where, name), []

    def slow(*given, **more):
        calls.append(1)
        if len(calls) > behind and len(calls) % of == 0:
            time.sleep(seconds)
        return plain(*given, **more)

    monkeypatch.setattr(where, name, slow)


@pytest.mark.parametrize(
    ("cause", "where", "name", "when"),
    [
        ("waited", pretrain_feed.Stream, "batch", {"of": 5}),  # a reader that stalls
        ("saved", State, "save", {}),
        ("held", pretrain_held.Held, "measure", {}),
        ("device", StableAdamW, "step", {"behind": 40}),  # behind the first steps: it became slower
    ],
)
def test_the_cause_that_is_named_is_where_the_time_was_lost(tmp_path, monkeypatch, cause, where, name, when):
    task = toy(tmp_path, dtype="float32", evaluate_every=10, checkpoint_every=10)
    slowed(monkeypatch, where, name, 0.25, **when)
    pretrain(task, 0, 1, silent)
    causes = adds_up(task)
    assert max(causes, key=causes.get) == cause
    first = spoken(result(task)["forecast"])[0].partition("): ")[2]
    assert first.split(", ")[0].endswith(NAMED[cause])


def test_steps_that_are_taken_twice_are_causes(tmp_path, monkeypatch):
    met, plain = [], pretrain_loop.losses_of

    def losses_of(model, *rest):
        terms = plain(model, *rest)
        if model.training:
            met.append(1)
        return [term._replace(total=term.total * float("nan" if len(met) == 13 else 1)) for term in terms]

    monkeypatch.setattr(pretrain_loop, "losses_of", losses_of)

    def killer(row):
        if row["step"] >= 29:
            raise Killed

    task = toy(tmp_path, snapshot_every=5)
    with pytest.raises(Killed):
        pretrain(task, 0, 1, killer)
    lost = sum(line["seconds"] for line in lines(task, "log.jsonl")[20:])
    pretrain(task, 0, 1, silent)
    causes = adds_up(task)
    [back] = [each for line in lines(task, "log.jsonl") for each in line.get("rewound", ())]
    assert causes["rewound"] == back["seconds"] > 0
    assert "seconds" not in result(task)["rewound"][0]
    assert causes["again"] == pytest.approx(lost, abs=1e-5)


def logged(steps):
    """Lines of a log whose steps take so many seconds for so many tokens."""
    tokens, found = 0, []
    for number, (seconds, fresh) in enumerate(steps):
        tokens += fresh
        found.append({"step": number, "tokens": tokens, "seconds": seconds, "waited": 0.0, "padding": 0.0})
    return found


def test_small_batches_at_the_beginning_do_not_stand_for_all(tmp_path):
    """A step takes 30 ms and 10 us a token; the forecast by the first steps is what the whole plan takes."""
    task = toy(tmp_path, tokens=400_000, batch=(2, 40), grow=0.2)
    schedule = pretrain_count.schedule_of(task)
    rows = [schedule.at(step).rows for step in range(schedule.steps)]
    assert max(rows[:35]) < 40
    each = 400_000 / sum(rows)
    steps = [(0.03 + 1e-5 * some * each, some * each) for some in rows]
    told = pretrain_outcome._first(logged(steps), task)
    assert 3600 * told["hours"] == pytest.approx(sum(seconds for seconds, _ in steps), rel=0.01)
    small = np.mean([tokens for _, tokens in steps[3:35]])
    assert told["step_tokens"] == {"first": pytest.approx(small), "plan": pytest.approx(400_000 / len(rows))}
    alike = pretrain_outcome._first(logged([(0.03, 100)] * 60), replace(task, batch=40))
    assert alike["tokens_per_second"] == pytest.approx(100 / 0.03)
    assert "step_tokens" not in alike


def test_a_growing_batch_is_said(tmp_path):
    task = toy(tmp_path, tokens=20_000, batch=(1, 8), grow=0.3)
    pretrain(task, 0, 1, silent)
    adds_up(task)
    told = result(task)["forecast"]["step_tokens"]
    assert told["first"] < told["plan"]
    assert "tokens each; reckoned with" in spoken(result(task)["forecast"])[0]


def test_a_run_of_few_steps_that_nobody_forecast_tells_what_it_counted(tmp_path):
    task = toy(tmp_path, tokens=700)
    pretrain(task, 0, 1, silent)
    told = result(task)["forecast"]
    assert "seconds" not in told
    assert "causes" not in told
    assert told["checkpoint"]["percent"] == 0
    [only] = spoken(told)
    assert "a checkpoint" in only


def test_steps_that_float16_skipped_are_told(tmp_path, monkeypatch):
    met, plain = [], pretrain_loop.losses_of

    def losses_of(model, *rest):
        terms = plain(model, *rest)
        if model.training:
            met.append(1)
        return [term._replace(total=term.total * (1e34 if len(met) in (3, 5) else 1.0)) for term in terms]

    monkeypatch.setattr(pretrain_loop, "losses_of", losses_of)
    task = toy(tmp_path, dtype="float16", tokens=1500, sigmas=1e9)
    pretrain(task, 0, 1, silent)
    skipped = [line["step"] for line in lines(task, "log.jsonl") if line.get("skipped")]
    assert {2, 4} <= set(skipped)
    assert result(task)["skipped"] == len(skipped)


def test_what_does_not_fit_is_told_in_numbers(tmp_path, monkeypatch):
    def full(*all_):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB")

    monkeypatch.setattr(pretrain_loop, "losses_of", full)
    task = toy(tmp_path, batch=16, dtype="float32")
    with pytest.raises(
        ValueError,
        match=r"16 rows of 32 .*: about \d\.\d MB .*, [\d.]+ .B at 8 rows, beside 3\d\d kB.*; give at_once: 8",
    ):
        pretrain(task, 0, 1, silent)
    # what is said of many rows, counted on one and two, is what they take
    base, each = pretrain_count.way_back(task, task.aims.phases[0])
    told = pretrain_probe.probe(task).memory["kept for the way back"]
    assert base + 16 * each == pytest.approx(told, rel=0.25)
    less, _ = pretrain_count.way_back(replace(task, recompute=1), task.aims.phases[0])
    assert less < base + each


def spent_at(monkeypatch, where, name):
    """What is called there runs out of memory."""

    def full(*all_, **more):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB")

    monkeypatch.setattr(where, name, full)


@pytest.mark.parametrize(
    ("where", "name", "said"),
    [
        (
            pretrain_loop,
            "spread_of",
            r"^what every step needs does not .*: 3\d\d kB of weights, gradients.*; give spread",
        ),
        (
            pretrain_loop,
            "losses_of",
            r"^a forward pass of 16 rows .*kept for the way back, .* at 8 rows.*; give at_once: 8",
        ),
        (Copied, "backward", r"^a backward pass of 16 rows .*kept for the way back, .* at 8 rows.*; give at_once: 8"),
        (
            StableAdamW,
            "step",
            r"^moving the weights does not .*: about [\d.]+ kB in passing, beside 3\d\d kB .*; give spread",
        ),
        (
            pretrain_held,
            "losses_of",
            r"^an evaluation of 9 rows of 32 places at once .*there at a time.*; give at_once: 4",
        ),
        (
            Copied,
            "stored",
            r"^gathering the state of a checkpoint does not .*: up to [\d.]+ kB at a time.*; give spread",
        ),
        (Copied, "whole", r"^gathering the state of a checkpoint does not"),
    ],
)
def test_what_does_not_fit_is_told_by_its_part(tmp_path, monkeypatch, where, name, said):
    task = toy(tmp_path, batch=16, dtype="float32", tokens=1000, holdout_rows=9)
    spent_at(monkeypatch, where, name)
    with pytest.raises(ValueError, match=said):
        pretrain(task, 0, 1, silent)


def test_what_an_optimiser_needs_in_passing_is_bounded_by_the_largest_stack(tmp_path):
    task = toy(tmp_path, dtype="float32")
    assert 2 * SHAPE.ff == 3 * SHAPE.width  # so that both layers' first weights of both halves are one stack
    largest = 4 * 2 * 2 * 3 * SHAPE.width**2
    assert pretrain_memory._passing(task, 1) == pretrain_memory.PASSING * largest
    assert pretrain_memory._passing(replace(task, spread="sharded"), 2) == pretrain_memory.PASSING * largest // 2
    assert pretrain_memory._gathered(task) == 4 * max(SHAPE.ff * 2, 3 * SHAPE.width, task.shapes[0].vocabulary) * 32
    more = replace(task, tensor=2, at_once=1, recompute=1)
    assert "take more workers" in pretrain_memory.too_large(more, 2, torch.OutOfMemoryError(""))


def test_the_heaviest_objective_of_the_end_is_what_is_held_out_for(tmp_path):
    task = toy(tmp_path, objective={"mlm": 2, "clm": 1}, tokens=1000)
    pretrain(task, 0, 1, silent)
    assert result(task)["holdout_objective"] == "mlm"


def beside(tmp_path):
    """A training that has come to its end, and one beside it that differs in a late weight."""
    first = toy(tmp_path, tokens=5000, keep=9, checkpoint_every=10)
    first = replace(first, out=str(tmp_path / "pretrain-0"))
    pretrain(first, 0, 1, silent)
    later = replace(first, out=str(tmp_path / "pretrain-1"), weights={0: None, 20: {"toy": 2.0}})
    return first, later


def test_of_trainings_beside_it_only_what_is_its_own_is_read(tmp_path, monkeypatch):
    first, later = beside(tmp_path)
    read, plain = [], checkpoint.check

    def check(found, names):
        read.append(found.step)
        plain(found, names)

    monkeypatch.setattr(pretrain_begin.checkpoint, "check", check)
    pretrain(later, 0, 1, silent)
    assert read[0] == 20  # the newest it comes through, and no other
    assert set(read) == {20}
    assert lines(later, "log.jsonl")[:20] == lines(first, "log.jsonl")[:20]
    assert "again" not in lines(later, "log.jsonl")[20]  # what the other took from there on is not this one's


def test_a_checkpoint_that_goes_while_it_is_read_leaves_nothing_of_it(tmp_path, monkeypatch):
    _, later = beside(tmp_path)
    alone = replace(later, out=str(tmp_path / "alone" / "pretrain-1"))
    pretrain(alone, 0, 1, silent)
    plain, met = checkpoint_load._read, []

    def read(circle, found, table, wanted):
        """Behind the check: the neighbour prunes what is being read, when its weights have been copied."""
        for name in sorted(found.files):
            if str(tmp_path / "pretrain-0") in found.folder and not name.startswith("model"):
                met.append(name)
                (Path(found.folder) / name).unlink()
        return plain(circle, found, table, wanted)

    monkeypatch.setattr(checkpoint_load, "_read", read)
    pretrain(later, 0, 1, silent)
    assert met
    assert (losses(later) == losses(alone)).all()


def test_a_checkpoint_that_goes_while_it_is_looked_at_is_passed_over(tmp_path, monkeypatch):
    first, later = beside(tmp_path)
    plain = pretrain_begin._checked

    def pruned(uri, step):
        found = plain(uri, step)
        if step == 20:
            shutil.rmtree(Path(first.out) / "checkpoints" / "step-000000020")
        return found

    monkeypatch.setattr(pretrain_begin, "_checked", pruned)
    begun = []

    def begin(state):
        begun.append(plain_begin(state))
        return begun[-1]

    plain_begin = State.begin
    monkeypatch.setattr(State, "begin", begin)
    pretrain(later, 0, 1, silent)
    assert begun[0][0] == 10
    assert [line["step"] for line in lines(later, "ledger.jsonl")] == list(range(result(later)["steps"]))
