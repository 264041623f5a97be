import json
import os
import shutil
import signal
import socket
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
import torch.multiprocessing as mp
from safetensors.torch import load_file

from tundish.cluster import checkpoint
from tundish.operators.model.plan import Plan
from tundish.operators.model.shape import Shape
from tundish.stages.pretrain_loop import PretrainTask, pretrain
from tundish.stages.token_stream import TokenFiles, mapped

torch.set_num_threads(1)
IDS = {"[PAD]": 0, "[UNK]": 1, "[CLS]": 2, "[SEP]": 3, "[MASK]": 4}
VOCABULARY = 40
SHAPE = Shape(vocabulary=VOCABULARY, width=32, layers=2, heads=2, ff=48, length=32)


def sentences(count, seed):
    """A toy language: a token is mostly followed by twice itself and one, so neighbours tell what is hidden."""
    source = np.random.default_rng(seed)
    found = []
    for _ in range(count):
        text = [int(source.integers(35))]
        for _ in range(source.integers(3, 50)):
            text.append(int(source.integers(35)) if source.random() < 0.1 else (2 * text[-1] + 1) % 35)
        found.append(np.array(text, np.uint16) + 5)
    return found


def shard(path, texts):
    offsets = np.concatenate([[0], np.cumsum([len(text) for text in texts])]).astype(np.int64)
    tokens = pa.LargeListArray.from_arrays(pa.array(offsets), pa.array(np.concatenate(texts)))
    batch = pa.record_batch({"tokens": tokens})
    with pa.ipc.new_file(str(path), batch.schema) as writer:
        writer.write_batch(batch)
    return str(path)


def files(*shards, name="toy"):
    return TokenFiles(name, shards)


def toy(folder, **other):
    """A task of about 60 steps in float64."""
    folder.mkdir(parents=True, exist_ok=True)
    texts = sentences(90, 1)
    task = PretrainTask(
        sources=(
            files(shard(folder / "part-00000.arrow", texts[:40]), shard(folder / "part-00001.arrow", texts[40:])),
        ),
        holdout=(files(shard(folder / "held.arrow", sentences(12, 2)), name="held"),),
        specials=IDS,
        vocabulary=VOCABULARY,
        out=str(folder / "out"),
        model=SHAPE,
        length=32,
        batch=5,
        tokens=8500,
        lr=5e-3,
        dtype="float64",
        checkpoint_every=20,
    )
    return replace(task, **other)


def silent(row):
    pass


def lines(task, name):
    return [json.loads(line) for line in (Path(task.out) / name).read_text().split("\n") if line]


def losses(task):
    return np.array([line["loss"] for line in lines(task, "log.jsonl")])


def result(task):
    return json.loads((Path(task.out) / "result.json").read_text())


def rank(number, task, world, port):
    """One of `world` processes, as torchrun starts them."""
    torch.set_num_threads(1)
    os.environ |= {"RANK": str(number), "WORLD_SIZE": str(world), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    pretrain(task, number, world, silent)
    # torch's FSDP2 (2.13) keeps a group beyond its destruction, so only copies are held to this
    if (
        task.spread == "copied" and (tasks := Path("/proc/self/task")).exists()
    ):  # threads that outlive the group abort some processes at their end
        assert not [name for t in tasks.iterdir() if "gloo" in (name := (t / "comm").read_text())]


def together(task, world):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    mp.spawn(rank, (task, world, port), nprocs=world)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    task = toy(tmp_path_factory.mktemp("undisturbed"))
    told = []
    pretrain(task, 0, 1, told.append)
    return task, told


def test_it_learns_the_toy_language(tmp_path):
    task = toy(tmp_path, dtype="float32", tokens=60_000, batch=8, lr=1e-2)
    pretrain(task, 0, 1, silent)
    found = result(task)
    assert found["unigram_entropy"] == pytest.approx(np.log(35), abs=0.1)
    assert found["last_loss"] < found["unigram_entropy"] - 1.5
    assert found["holdout_last"] < found["holdout_unigram"] - 1.5


def test_what_is_told_agrees_with_what_is_written(undisturbed):
    task, told = undisturbed
    found = result(task)
    assert found["steps"] == len(lines(task, "log.jsonl")) == len(lines(task, "ledger.jsonl")) >= 50
    assert found["first_loss"] == pytest.approx(np.log(VOCABULARY), abs=0.1)
    assert found["holdout_first"] == pytest.approx(np.log(VOCABULARY), abs=0.1)
    assert found["last_loss"] == pytest.approx(losses(task)[-(found["steps"] // 20) :].mean())
    assert abs(found["tokens"] - task.tokens) < 200
    assert [row["step"] + 1 for row in told[:3]] == [10, 20, 30]
    assert told[-1]["step"] + 1 == told[-1]["steps"] == found["steps"]


GOLDEN = [3.688609113, 3.701988600, 3.694205899, 3.633411566]


def test_the_first_losses_are_these(undisturbed):
    assert losses(undisturbed[0])[:4] == pytest.approx(GOLDEN, abs=1e-6)


def test_the_ledger_says_what_was_seen(undisturbed):
    task, _ = undisturbed
    ledger = lines(task, "ledger.jsonl")
    assert [line["step"] for line in ledger] == list(range(len(ledger)))
    plan = Plan.of(json.loads((Path(task.out) / "plan.json").read_text())["plan"])
    size = result(task)["rows"]
    seen = [place for line in ledger for place in rows_of(plan.places(plan.share(line["step"])))]
    assert len(seen) == sum(line["rows"] for line in ledger)
    assert len(set(seen[:size])) == size == plan.sources[0].size
    assert len({line["order"] for line in ledger}) == len(ledger)
    assert len({line["masks"] for line in ledger}) == len(ledger)
    assert all(line["guessed"] > 5 for line in ledger)


def rows_of(places):
    return list(zip(places.shard.tolist(), places.row.tolist(), strict=True))


class Killed(Exception):
    pass


def test_a_killed_run_goes_on_to_the_same_end(undisturbed, tmp_path):
    task = toy(tmp_path)

    def killer(row):
        if row["step"] == 49:
            raise Killed

    with pytest.raises(Killed):
        pretrain(task, 0, 1, killer)
    assert checkpoint.latest(f"{task.out}/checkpoints") == 40
    with open(Path(task.out) / "ledger.jsonl", "a") as stream:
        stream.write('{"step": 50, "torn')
    pretrain(task, 0, 1, silent)
    equal_to(undisturbed[0], task)


def equal_to(whole, task):
    assert lines(task, "ledger.jsonl") == lines(whole, "ledger.jsonl")
    assert (losses(task) == losses(whole)).all()
    assert (Path(task.out) / "model.safetensors").read_bytes() == (Path(whole.out) / "model.safetensors").read_bytes()
    timed = ("steps_per_second", "tokens_per_second", "speed", "forecast")
    timeless = [{k: v for k, v in result(each).items() if k not in timed} for each in (task, whole)]
    assert timeless[0] == timeless[1]


def dying(number, task):
    torch.set_num_threads(1)

    def die(row):
        if row["step"] >= 39:
            os.kill(os.getpid(), signal.SIGKILL)

    pretrain(task, 0, 1, die)


def test_kill_9_and_a_torn_checkpoint_change_nothing(undisturbed, tmp_path):
    task = toy(tmp_path, checkpoint_every=10)
    with pytest.raises(mp.ProcessExitedException):
        mp.spawn(dying, (task,), nprocs=1)
    folder = f"{task.out}/checkpoints"
    newest = checkpoint.latest(folder)  # the last one may still have been under way
    assert newest in (20, 30)
    torn = Path(folder) / f"step-{newest:09d}" / "model.safetensors"
    torn.write_bytes(torn.read_bytes()[:-8])
    assert checkpoint.latest(folder) == newest - 10
    pretrain(task, 0, 1, silent)
    equal_to(undisturbed[0], task)


def test_two_ranks_are_one(undisturbed, tmp_path):
    task = toy(tmp_path)
    together(task, 2)
    assert lines(task, "ledger.jsonl") == lines(undisturbed[0], "ledger.jsonl")
    assert len(losses(task)) >= 50
    assert losses(task) == pytest.approx(losses(undisturbed[0]), abs=1e-6)
    assert result(task)["holdout_last"] == pytest.approx(result(undisturbed[0])["holdout_last"], abs=1e-6)


@pytest.mark.slow
def test_one_rank_then_three_then_one_keeps_the_ledger(undisturbed, tmp_path):
    """More ranks than rows do not hurt either: a share may be empty."""
    task = toy(tmp_path, batch=(2, 3), grow=0.9, tokens=3000)
    whole = replace(task, out=str(tmp_path / "whole"))
    pretrain(whole, 0, 1, silent)

    def stop(row):
        if row["step"] >= 19:
            raise Killed

    with pytest.raises(Killed):
        pretrain(task, 0, 1, stop)
    together(task, 3)
    assert lines(task, "ledger.jsonl") == lines(whole, "ledger.jsonl")
    assert losses(task) == pytest.approx(losses(whole), abs=1e-6)


def test_parts_and_precision_change_little(undisturbed, tmp_path):
    wanted = losses(undisturbed[0])[:20]
    for other, tolerance in (({"at_once": 2}, 1e-9), ({"dtype": "float32"}, 1e-3), ({"dtype": "bfloat16"}, 0.05)):
        task = toy(tmp_path / "".join(map(str, other.values())), **other)

        def stop(row):
            if row["step"] >= 19:
                raise Killed

        with pytest.raises(Killed):
            pretrain(task, 0, 1, stop)
        assert losses(task)[:20] == pytest.approx(wanted, abs=tolerance)


def test_without_held_out_documents_and_with_evaluations(tmp_path):
    task = toy(tmp_path, holdout=(), tokens=600)
    pretrain(task, 0, 1, silent)
    assert result(task)["holdout_last"] is None
    assert result(task)["holdout_unigram"] is None
    task = toy(tmp_path / "other", tokens=1600, evaluate_every=4)
    pretrain(task, 0, 1, silent)
    held = {line["step"]: line["holdout"] for line in lines(task, "log.jsonl") if "holdout" in line}
    assert list(held) == [0, 4, 8]
    assert held[0] == result(task)["holdout_first"]


def test_rows_longer_than_a_context_and_the_places_of_a_wider_row(tmp_path):
    task = toy(tmp_path, row=96, batch=2, tokens=4000)
    pretrain(task, 0, 1, silent)
    found = result(task)
    assert found["padding"] <= 0.02 + 2 / found["rows"]  # the last row of each of the two shards is not full
    assert found["holdout_last"] < found["holdout_first"]


def test_weights_change_at_a_step_and_what_was_done_before_stands(tmp_path):
    """A plan that differs behind the checkpoint alone goes on from it; one that differs before it does not."""
    one, two = (files(shard(tmp_path / f"{n}.arrow", sentences(40, n)), name=str(n)) for n in range(2))
    task = toy(tmp_path / "a", sources=(one, two), weights={0: {"0": 3, "1": 1}}, tokens=3200, checkpoint_every=10)
    pretrain(task, 0, 1, silent)
    later = replace(task, weights={0: {"0": 3, "1": 1}, 12: {"1": 1}}, holes=((70, 90),))
    whole = replace(later, out=str(tmp_path / "whole"))
    pretrain(whole, 0, 1, silent)
    checkpoint_of(task, 20)
    with pytest.raises(ValueError, match="checkpoint of another training"):
        pretrain(later, 0, 1, silent)
    checkpoint_of(task, 10)
    beside = replace(task, out=str(tmp_path / "a" / "pretrain-0123456789"))  # as stages lie beside each other
    shutil.copytree(task.out, tmp_path / "a" / "pretrain-9876543210")
    pretrain(replace(later, out=beside.out), 0, 1, silent)
    assert lines(beside, "log.jsonl")[:10] == lines(task, "log.jsonl")[:10], "with their seconds: they were taken over"
    assert lines(beside, "ledger.jsonl") == lines(whole, "ledger.jsonl")
    assert (losses(beside) == losses(whole)).all()
    pretrain(later, 0, 1, silent)
    assert lines(task, "ledger.jsonl") == lines(whole, "ledger.jsonl")
    assert (losses(task) == losses(whole)).all()
    plan = Plan.of(json.loads((Path(task.out) / "plan.json").read_text())["plan"])
    seen = [plan.places(plan.share(step)).source.tolist() for step in range(12, 20)]
    assert {source for step in seen for source in step} == {1}
    assert {*range(70, 90)}.isdisjoint(at for step in range(20) for at in plan.share(step).tolist())


def checkpoint_of(task, step):
    """Only the checkpoints up to a step are left."""
    for folder in (Path(task.out) / "checkpoints").glob("step-*"):
        if int(folder.name.split("-")[1]) > step:
            shutil.rmtree(folder)


def test_what_is_written_can_be_loaded(undisturbed):
    task, _ = undisturbed
    config = json.loads((Path(task.out) / "config.json").read_text())
    weights = load_file(Path(task.out) / "model.safetensors")
    assert Shape(**config["shape"]) == SHAPE
    assert config["specials"] == IDS
    assert sum(each.numel() for each in weights.values()) == result(task)["parameters"]


def test_shards_are_mapped_and_wide_tokens_are_read(tmp_path):
    texts = [np.array([70_000, 5], np.uint32), np.array([6], np.uint32)]
    tokens, offsets = mapped(shard(tmp_path / "wide.arrow", texts))
    assert (tokens.tolist(), offsets.tolist()) == ([70_000, 5, 6], [0, 2, 3])
    assert not tokens.flags.writeable


def test_a_users_mistakes_are_one_sentence(tmp_path):
    task = toy(tmp_path, tokens=300)
    pretrain(task, 0, 1, silent)
    with pytest.raises(ValueError, match="checkpoint of another training"):
        pretrain(replace(task, lr=1e-4), 0, 1, silent)
    with pytest.raises(ValueError, match="no token shard"):
        pretrain(replace(task, sources=(files(str(tmp_path / "none.arrow")),)), 0, 1, silent)
    with pytest.raises(ValueError, match="no rows to train on"):
        pretrain(replace(task, sources=(files(),)), 0, 1, silent)
    with pytest.raises(ValueError, match="weight for 'books', which has no rows; the sources are toy"):
        pretrain(replace(task, weights={0: {"books": 1}}), 0, 1, silent)
    with pytest.raises(ValueError, match="'float8' is not known"):
        pretrain(replace(task, dtype="float8"), 0, 1, silent)
    with pytest.raises(ValueError, match="2 ranks cannot meet"):
        pretrain(task, 0, 2, silent)
    with pytest.raises(ValueError, match="lower the learning rate"):
        pretrain(replace(task, lr=1e300, tokens=3000, out=str(tmp_path / "wild")), 0, 1, silent)
    (Path(task.out) / "log.jsonl").unlink()
    with pytest.raises(ValueError, match="ends before step"):
        pretrain(task, 0, 1, silent)
