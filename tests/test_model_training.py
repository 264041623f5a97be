"""What a pretraining survives and what it can be asked for: spikes, signals, curricula, detection, spans, growth."""

import json
import os
import shutil
import signal
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from tests.test_model_pretrain import (
    IDS,
    SHAPE,
    VOCABULARY,
    Killed,
    equal_to,
    files,
    lines,
    losses,
    result,
    sentences,
    shard,
    silent,
    together,
    toy,
)
from tundish.cluster import checkpoint
from tundish.operators.model.family import Model
from tundish.operators.model.heads import begun
from tundish.operators.model.packed import packed
from tundish.stages import hub as hub_folders
from tundish.stages import pretrain_loop, pretrain_probe
from tundish.stages.hub import weights_of
from tundish.stages.pretrain import Pretrain
from tundish.stages.pretrain_feed import Feed, Leg
from tundish.stages.pretrain_loop import Stopped, pretrain
from tundish.stages.pretrain_task import SENTINELS, PretrainTask
from tundish.stages.ranks import joined
from tundish.stages.stage import Stage

torch.set_num_threads(1)
POISON = 39  # a token of one document only


def poisoned(folder, **other):
    """A task in whose corpus one document holds a token that nothing else does."""
    task = toy(folder, shares=(80, 0), **other)  # no drawn tokens, which could be it
    texts = sentences(90, 1)
    for text in texts:
        text[text == POISON] = 5
    texts[50][1] = POISON
    return replace(task, sources=(files(shard(folder / "part-poison.arrow", texts)),))


@pytest.fixture
def spikes(monkeypatch):
    """Rows that hold the poison make the loss no number, and say so."""
    met, plain = [], pretrain_loop.losses_of

    def losses_of(model, part, *rest):
        terms = plain(model, part, *rest)
        if not (part.tokens == POISON).any() and not (part.labels == POISON).any():
            return terms
        if model.training:
            met.append(1)
        return [term._replace(total=term.total * float("nan")) for term in terms]

    monkeypatch.setattr(pretrain_loop, "losses_of", losses_of)
    return met


def test_a_spike_is_gone_back_over_and_a_replay_goes_the_same_way(tmp_path, spikes):
    task = poisoned(tmp_path, snapshot_every=7)
    pretrain(task, 0, 1, silent)
    back = result(task)["rewound"]
    assert back, "the poisoned row came, and was met"
    assert len(spikes) == len(back)
    for each in back:
        assert "is nan" in each["why"]
        assert each["to"] <= each["step"]
        assert each["rows"][1] - each["rows"][0] == task.batch
    assert np.isfinite(losses(task)).all()
    ledger = lines(task, "ledger.jsonl")
    assert [line["step"] for line in ledger] == list(range(result(task)["steps"]))
    assert any("rewound" in line for line in lines(task, "log.jsonl"))

    # the rows are holes of the plan now; a training that is told of them from the start meets no spike
    holes = tuple(sorted(tuple(each["rows"]) for each in back))
    again = replace(task, out=str(tmp_path / "again"), holes=holes)
    spikes.clear()
    pretrain(again, 0, 1, silent)
    assert not spikes
    assert lines(again, "ledger.jsonl") == ledger
    assert (losses(again) == losses(task)).all()
    one, other = (Path(each.out) / "model.safetensors" for each in (task, again))
    assert one.read_bytes() == other.read_bytes()


def test_a_training_killed_after_a_spike_knows_of_it(tmp_path, spikes):
    whole = poisoned(tmp_path, snapshot_every=7)
    pretrain(whole, 0, 1, silent)
    step = result(whole)["rewound"][0]["step"]
    late = 10 * ((step + 25) // 10)
    if late >= result(whole)["steps"]:
        pytest.skip("the spike came too late for a checkpoint behind it")
    task = replace(whole, out=str(tmp_path / "killed"))

    def killer(row):
        if row["step"] + 1 >= late:
            raise Killed

    with pytest.raises(Killed):
        pretrain(task, 0, 1, killer)
    pretrain(task, 0, 1, silent)
    assert lines(task, "ledger.jsonl") == lines(whole, "ledger.jsonl")
    assert (losses(task) == losses(whole)).all()


def test_a_loss_that_never_is_a_number_ends_the_training(tmp_path, monkeypatch):
    plain = pretrain_loop.losses_of
    monkeypatch.setattr(
        pretrain_loop,
        "losses_of",
        lambda *all: [term._replace(total=term.total * float("inf")) for term in plain(*all)],
    )
    with pytest.raises(ValueError, match=r"the loss is inf.*lower the learning rate"):
        pretrain(toy(tmp_path, most_rewinds=3), 0, 1, silent)


def test_a_level_that_stays_is_taken_to_be_usual_and_a_replay_is_told(tmp_path, monkeypatch):
    """From a step on every loss is ninefold, whatever rows are skipped: after so many the training goes on."""
    plain, seen = pretrain_loop.losses_of, []

    def losses_of(model, part, *rest):
        terms = plain(model, part, *rest)
        seen.extend([1] if model.training else [])
        return [term._replace(total=term.total * (9.0 if model.training and len(seen) > 80 else 1.0)) for term in terms]

    monkeypatch.setattr(pretrain_loop, "losses_of", losses_of)
    task = toy(tmp_path / "one", most_rewinds=2, snapshot_every=5, at_once=0, tokens=15_000)
    pretrain(task, 0, 1, silent)
    back = result(task)["rewound"]
    assert [("rows" in each) for each in back] == [True, True, False]
    [level] = json.loads((Path(task.out) / "plan.json").read_text())["levels"]
    assert level == back[-1]["step"]

    # the same losses again, by the step: the plan alone says what to skip and where the level begins
    def by_step(model, part, *rest):
        terms = plain(model, part, *rest)
        seen.extend([1] if model.training else [])
        return [
            term._replace(total=term.total * (9.0 if model.training and len(seen) > level else 1.0)) for term in terms
        ]

    seen.clear()
    monkeypatch.setattr(pretrain_loop, "losses_of", by_step)
    again = replace(task, out=str(tmp_path / "again"), replay=str(Path(task.out) / "plan.json"))
    pretrain(again, 0, 1, silent)
    assert result(again)["rewound"] == []
    assert lines(again, "ledger.jsonl") == lines(task, "ledger.jsonl")
    assert (losses(again) == losses(task)).all()


def test_a_wish_to_stop_saves_first(tmp_path):
    whole, task = toy(tmp_path / "whole"), toy(tmp_path / "stopped")

    def stopping(row):
        if row["step"] == 29:
            os.kill(os.getpid(), signal.SIGTERM)

    pretrain(whole, 0, 1, silent)
    with pytest.raises(Stopped, match="start it again"):
        pretrain(task, 0, 1, stopping)
    assert 30 <= checkpoint.latest(f"{task.out}/checkpoints") <= 33
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    pretrain(task, 0, 1, silent)
    equal_to(whole, task)


PHASES = [
    {"tokens": [0, "40%"], "objective": "clm", "batch": [2, 5]},
    {"tokens": ["40%", "75%"], "objective": {"mlm": 2, "mlm-spans": 1}, "rate": [0.3, 0.15], "lr": 0.5},
    {"tokens": ["75%", "100%"], "row": 64, "context": 48, "batch": 3},
]


@pytest.mark.slow
def test_a_curriculum_is_gone_through_and_taken_up_anywhere(tmp_path):
    shape = replace(SHAPE, length=48)
    whole = toy(tmp_path / "whole", curriculum=PHASES, model=shape, checkpoint_every=10, tokens=16_000)
    pretrain(whole, 0, 1, silent)
    log, ledger = lines(whole, "log.jsonl"), lines(whole, "ledger.jsonl")
    asked = [line.get("objective", "mlm") for line in log]
    first = asked.index("mlm")
    assert set(asked[:first]) == {"clm", "mlm-spans"} or set(asked[:first]) == {"clm"}
    assert {"mlm", "mlm-spans"} == set(asked[first + 1 :])
    rows = [line["rows"] for line in ledger]
    assert rows[0] == 2
    assert set(rows) >= {2, 5, 3}
    legs = json.loads((Path(whole.out) / "plan.json").read_text())["legs"]
    assert [(leg["row"], leg["context"]) for leg in legs] == [(32, 32), (64, 48)]
    assert abs(log[-1]["tokens"] - whole.tokens) < 300
    for late in (len(log) // 3, legs[1]["first"] + 8):
        task = replace(whole, out=str(tmp_path / f"killed{late}"))

        def killer(row, late=late):
            if row["step"] >= late:
                raise Killed

        with pytest.raises(Killed):
            pretrain(task, 0, 1, killer)
        pretrain(task, 0, 1, silent)
        equal_to(whole, task)
    two = replace(whole, out=str(tmp_path / "two"))
    together(two, 2)
    assert lines(two, "ledger.jsonl") == ledger
    assert losses(two) == pytest.approx(losses(whole), abs=1e-6)


def test_a_spike_in_a_later_leg_is_skipped_there(tmp_path):
    with joined(0, 1) as ranks:
        feed = Feed(toy(tmp_path, curriculum=PHASES, model=replace(SHAPE, length=48)), ranks)
        late = feed.legs[1].first + 2
        before, place = feed.booked(late), feed.positions(late)
        assert place[0] >> 40 == 1
        feed.add([place])
        assert feed.legs[0].plan.holes == ()
        assert feed.booked(late) != before
        assert [Leg.of(each).plan for each in feed.plain()] == [leg.plan for leg in feed.legs]
        feed.close()


def test_a_detection_leaves_a_discriminator_that_is_a_model(tmp_path):
    shape = replace(SHAPE, norm="post", bias=True, final_norm=False)
    small = replace(shape, width=16, heads=1, embedding=32, ff=24)
    for sharing in ("all", "gdes"):
        task = toy(tmp_path / sharing, model=shape, generator=small, objective="rtd", sharing=sharing, batch=8)
        pretrain(task, 0, 1, silent)
        log = lines(task, "log.jsonl")
        assert log[-1]["loss"] == pytest.approx(log[-1]["loss_masked"] + 50 * log[-1]["loss_detected"])
        assert log[-1]["loss_detected"] < log[0]["loss_detected"]
        assert result(task)["holdout_detected"] < 0.69
        weights = load_file(Path(task.out) / "model.safetensors")
        model = Model(replace(shape, transform=False, head_bias=False)).double()
        model.load_state_dict({name: each for name, each in weights.items() if not name.startswith("detector.")})
        assert model(torch.tensor([2, 9, 3]), packed([0, 3])).shape == (3, 32)
        assert (Path(task.out) / "generator.safetensors").exists()


def test_a_pair_learns_spans(tmp_path):
    shape = replace(
        SHAPE,
        vocabulary=VOCABULARY + SENTINELS,
        **{"stack": "pair", "decoder": 1, "positions": "buckets", "rms": True, "scaled": False},
        **{"embedding_norm": False, "first_norm": True, "transform": False, "head_bias": False},
    )
    task = toy(tmp_path, model=shape, objective="spans", batch=8, tokens=20_000, lr=1e-2, mask=0.15)
    pretrain(task, 0, 1, silent)
    assert result(task)["last_loss"] < result(task)["first_loss"] - 1.5
    assert result(task)["holdout_last"] < result(task)["holdout_first"] - 1.5


@pytest.mark.parametrize(
    "other",
    [{"optimizer": "muon"}, {"optimizer": "adamw", "clip": 1.0}, {"dtype": "float16"}, {"recompute": 2}],
    ids=lambda other: "-".join(map(str, other.values())),
)
def test_every_way_of_moving_learns(tmp_path, other):
    task = toy(tmp_path, tokens=20_000, **{"dtype": "float32", "lr": 1e-2, **other})
    pretrain(task, 0, 1, silent)
    assert result(task)["last_loss"] < result(task)["unigram_entropy"] - 0.4
    assert result(task)["speed"]["tflops"] > 0


@pytest.mark.slow
def test_sharded_ranks_are_one_and_hand_over_to_one(tmp_path):
    whole = toy(tmp_path / "whole")
    pretrain(whole, 0, 1, silent)
    task = toy(tmp_path / "two", spread="sharded")
    together(task, 2)
    assert lines(task, "ledger.jsonl") == lines(whole, "ledger.jsonl")
    assert losses(task) == pytest.approx(losses(whole), abs=1e-6)
    # its checkpoint is taken up by one rank, and by a training beside it
    for later in checkpoint.steps(f"{task.out}/checkpoints")[1:]:
        os.remove(f"{task.out}/checkpoints/step-{later:09d}/whole.json")
    pretrain(replace(task, spread="copied"), 0, 1, silent)
    assert lines(task, "ledger.jsonl") == lines(whole, "ledger.jsonl")
    assert losses(task) == pytest.approx(losses(whole), abs=1e-6)


def test_bits_per_byte_are_told_by_source(tmp_path):
    held = tuple(
        files(shard(tmp_path / f"{name}.arrow", sentences(8, seed)), name=name)
        for name, seed in (("web", 5), ("books", 6))
    )
    task = toy(tmp_path / "task", holdout=held, holdout_bytes={"web": 4.0, "books": 2.0}, tokens=1600)
    pretrain(task, 0, 1, silent)
    bits = result(task)["bits_per_byte"]
    assert set(bits) == {"web", "books"}
    assert bits["web"] == pytest.approx(np.log2(VOCABULARY) / 4, rel=0.1)
    assert bits["books"] == pytest.approx(np.log2(VOCABULARY) / 2, rel=0.1)
    assert set(result(task)["bits_per_byte_first"]) == {"web", "books"}


def test_a_training_goes_on_from_a_folder_of_others(tmp_path):
    """Its first loss is the folder's, on a corpus that the folder's model never saw; fields that differ are named."""
    other = toy(tmp_path / "other", tokens=30_000, lr=1e-2)
    pretrain(other, 0, 1, silent)
    found = hub_folders.read(other.out)
    hub_folders.write(str(tmp_path / "folder"), found.shape, found.tensors, architecture=found.architecture)
    begun = toy(tmp_path / "begun", begin=str(tmp_path / "folder"), tokens=1600)
    pretrain(begun, 0, 1, silent)
    assert result(begun)["holdout_first"] == pytest.approx(result(other)["holdout_last"], abs=1e-4)
    # a larger vocabulary begins with fresh rows for what is new; all else is the folder's
    wider = replace(begun, out=str(tmp_path / "wider"), model=replace(SHAPE, vocabulary=VOCABULARY + 8))
    pretrain(wider, 0, 1, silent)
    assert result(wider)["holdout_first"] == pytest.approx(result(other)["holdout_last"], abs=0.15)
    with pytest.raises(ValueError, match="holds a model with layers 2 and not 3"):
        pretrain(replace(begun, out=str(tmp_path / "deep"), model=replace(SHAPE, layers=3)), 0, 1, silent)


def test_tasks_that_contradict_themselves_are_refused(tmp_path):
    for other, sentence in (
        (
            {"objective": "rtd", "curriculum": [{"tokens": [0, "100%"], "objective": {"rtd": 1, "mlm": 1}}]},
            "of its own",
        ),
        ({"objective": "spans"}, "spans are for an encoder with a decoder"),
        ({"model": replace(SHAPE, stack="decoder")}, "give it the objective clm"),
        ({"objective": "mlm-word"}, "did you mean 'mlm-words'"),
        ({"optimizer": "sgd"}, "choose one of stable-adamw"),
        ({"schedule": "warm"}, "is not known"),
        ({"spread": "spilled"}, "choose one of copied"),
        ({"model": replace(SHAPE, vocabulary=30)}, "cannot learn 40"),
        ({"clip": -1.0}, "it is at least 0"),
        ({"at_once": -1}, "it is at least 0"),
        ({"lr": 0.0}, "give a number above 0"),
        ({"grow": 2.0}, "from 0 to 1"),
        ({"sharing": "gdess"}, "shared as all, gdes, none"),
        ({"tensor": 2, "spread": "sharded"}, "leave out tensor"),
        ({"model": "tiny", "shape": {"layer": 6}}, "did you mean 'layers'"),
        ({"model": "tiny", "shape": {"vocabulary": 20}}, "cannot be changed so"),
        ({"model": "tiny", "shape": {"dropout": 3.0}}, "a share below 1"),
    ):
        with pytest.raises(ValueError, match=sentence):
            toy(tmp_path, **other).shapes  # noqa: B018 - asking is what refuses
    assert isinstance(toy(tmp_path, model="modern-tiny").shapes[0].vocabulary, int)
    assert toy(tmp_path, model="t5-small", objective="spans").pieces == VOCABULARY + SENTINELS


@pytest.mark.skipif(not shutil.which("g++"), reason="inductor compiles C++ for a CPU")
def test_compiled_training_is_the_same_and_compiles_in_its_first_step_alone(tmp_path):
    plain = toy(tmp_path / "plain", dtype="float32", tokens=2400, batch=4)
    task = replace(plain, out=str(tmp_path / "compiled"), compiled=True)
    pretrain(plain, 0, 1, silent)
    pretrain(task, 0, 1, silent)
    assert losses(task) == pytest.approx(losses(plain), abs=1e-4)
    compiled = [line.get("compiled", 0) for line in lines(task, "log.jsonl")]
    assert compiled[0] > 0
    assert not any(compiled[1:])


def test_what_is_dropped_out_is_a_function_of_the_step(tmp_path):
    task = toy(tmp_path, model=replace(SHAPE, dropout=0.1), tokens=4000)
    whole = replace(task, out=str(tmp_path / "whole"))
    pretrain(whole, 0, 1, silent)

    def killer(row):
        if row["step"] >= 24:
            raise Killed

    with pytest.raises(Killed):
        pretrain(replace(task, checkpoint_every=10), 0, 1, killer)
    pretrain(replace(task, checkpoint_every=10), 0, 1, silent)
    assert (losses(task) == losses(whole)).all()


def test_a_forecast_says_what_a_training_takes(tmp_path):
    task = toy(tmp_path, dtype="float32", tokens=5000)
    told = pretrain_probe.probe(task, workers=2)
    pretrain(task, 0, 1, silent)
    assert told.parameters == result(task)["parameters"]
    assert told.steps == pytest.approx(result(task)["steps"], rel=0.1)
    newest = Path(task.out) / "checkpoints" / f"step-{result(task)['steps']:09d}"
    written = sum(path.stat().st_size for path in newest.glob("*.safetensors"))
    assert told.checkpoint == pytest.approx(written, rel=0.15)  # a small model's names weigh, too
    useful = sum(line["tflops"] * line["seconds"] * 1e12 for line in lines(task, "log.jsonl"))
    assert told.flops == pytest.approx(useful / result(task)["tokens"], rel=0.25)
    assert told.memory["weights"] == 4 * told.parameters
    assert told.memory["kept for the way back"] > told.memory["weights"]
    assert told.hours == pytest.approx(told.tokens / told.tokens_per_second / 3600 + told.held)
    assert "2 workers" in " ".join(pretrain_probe.spoken(told))


def test_a_device_that_is_too_small_says_what_to_lower(tmp_path, monkeypatch):
    def full(*all):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB")

    monkeypatch.setattr(pretrain_loop, "losses_of", full)
    for other, way in (
        ({}, "give at_once: 2"),
        ({"at_once": 1}, "give recompute: 1"),
        ({"at_once": 1, "recompute": 1}, "sharded"),
    ):
        with pytest.raises(ValueError, match=f"rows of 32 places does not fit.*20.00 MiB.*{way}"):
            pretrain(toy(tmp_path / way.replace(" ", "")[:12], holdout=(), **other), 0, 1, silent)


def test_a_detection_is_fine_tuned_like_any_encoder(tmp_path):
    shape = replace(SHAPE, norm="post", bias=True, final_norm=False)
    task = toy(tmp_path, model=shape, generator=replace(shape, width=16, heads=1, embedding=32, ff=24), objective="rtd")
    pretrain(task, 0, 1, silent)
    found, weights = weights_of(task.out)
    tuned = begun(found, "sequence", 2, seed=1, weights=weights)
    assert "detector.dense.weight" in weights
    torch.testing.assert_close(tuned.encoder.embedding.weight, weights["embedding.weight"].float())


def test_a_curriculum_begins_as_the_task_says(tmp_path):
    """What no phase says is the task's: objective, shares of the mask rate, growing batches."""
    whole = toy(
        tmp_path,
        mask=(0.3, 0.1),
        batch=(2, 6),
        curriculum=[{"tokens": [0, "50%"]}, {"tokens": ["50%", "100%"], "lr": 0.5}],
    )
    first, last = whole.aims.phases
    assert first.rate == pytest.approx((0.3, 0.2))
    assert last.rate == pytest.approx((0.2, 0.1))
    assert first.batch == (2, 6)
    assert last.batch == (6, 6)
    said = toy(tmp_path, curriculum=[{"tokens": [0, "50%"], "rate": [0.3, 0.15]}, {"tokens": ["50%", "100%"]}])
    assert said.aims.phases[1].rate == (0.15, 0.15)
    small = Pretrain(
        shards=Stage(), model="electra-small", tokens="1M", curriculum=({"tokens": [0, "100%"], "batch": 8},)
    )
    assert PretrainTask(sources=(), holdout=(), specials=IDS, vocabulary=100, out="", **small.recipe()).detects
    plain = Pretrain(shards=Stage(), model="electra-small", tokens="1M", objective="mlm").recipe()
    assert "shares" not in plain


def test_a_replay_that_is_taken_up_keeps_the_holes_of_its_plan(tmp_path):
    first = toy(tmp_path, holes=((40, 60),))
    pretrain(first, 0, 1, silent)
    again = replace(first, holes=(), out=str(tmp_path / "again"), replay=str(Path(first.out) / "plan.json"))

    def killer(row):
        if row["step"] >= 29:
            raise Killed

    with pytest.raises(Killed):
        pretrain(again, 0, 1, killer)
    pretrain(again, 0, 1, silent)
    assert lines(again, "ledger.jsonl") == lines(first, "ledger.jsonl")


def test_another_beginning_is_another_training(tmp_path):
    other = toy(tmp_path / "other", tokens=2000)
    pretrain(other, 0, 1, silent)
    scratch = replace(toy(tmp_path / "x", tokens=2000), out=str(tmp_path / "x" / "pretrain-0"))
    pretrain(scratch, 0, 1, silent)
    begun = replace(scratch, begin=other.out, out=str(tmp_path / "x" / "pretrain-1"))
    pretrain(begun, 0, 1, silent)
    assert losses(begun)[0] != losses(scratch)[0]
