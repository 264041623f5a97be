"""Training on a corpus that is still being written: generations join at a step that is written down."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from tests.test_model_pretrain import IDS, VOCABULARY, Killed, lines, losses, sentences, silent, together
from tundish.cluster import checkpoint
from tundish.cluster.shards import Dataset, opened
from tundish.cluster.target import Target
from tundish.operators.model.plan import Plan
from tundish.operators.model.shape import Shape
from tundish.pipeline.seen import Ledger
from tundish.stages import follow_train
from tundish.stages.generations_list import arrived, written
from tundish.stages.pretrain import Pretrain
from tundish.stages.pretrain_loop import pretrain
from tundish.stages.stage import Stage


def sealed(folder: Path, texts: list[np.ndarray], vocabulary: str = "v") -> Dataset:
    """Token shards of one origin, with a holdout, as Tokenize seals them."""
    about = {"origins": {"web": [0, 2]}, "specials": IDS, "vocabulary": {"digest": vocabulary, "size": VOCABULARY}}
    for inside, parts in (("holdout", [texts[:3]]), ("", [texts[3::2], texts[4::2]])):
        target = Target(str(folder / inside) if inside else str(folder), f"key of {folder.name}", "arrow")
        shards = []
        for number, part in enumerate(parts):
            offsets = np.concatenate([[0], np.cumsum([len(text) for text in part])]).astype(np.int64)
            tokens = pa.LargeListArray.from_arrays(pa.array(offsets), pa.array(np.concatenate(part)))
            writer = target.writer(f"part-{number:05d}")
            writer.write(pa.table({"tokens": tokens}))
            shards.append(writer.finish({}, {"documents": len(part), "tokens": int(offsets[-1])}))
        made = target.seal(shards, **about | ({"origins": {"web": [0, 1]}} if inside else {}))
    return made


@pytest.fixture
def generations(tmp_path: Path) -> list[dict]:
    found = []
    for number, count in enumerate((40, 25, 30)):
        made = sealed(tmp_path / "follow" / f"gen-{number:04d}", sentences(count, number))
        found.append({"generation": number, "tokens": made.uri, "digest": made.digest, "documents": count})
    return [*found[:1], {"generation": 5, "tokens": None, "documents": 0}, *found[1:]]


@pytest.fixture
def wanted() -> Pretrain:
    return Pretrain(Stage(), tokens=5_000, length=32, batch=5, precision="float64", checkpoint_every=10, lr=5e-3)


def plan_of(out: Path) -> Plan:
    return Plan.of(json.loads((out / "plan.json").read_text())["plan"])


def growing(folder: Path, generations: list[dict], stops: dict[int, int], killed: int = -1):
    """What is told of progress makes the list grow: at a step, to so many lines."""

    def tell(line: dict) -> None:
        if (count := stops.get(line["step"] + 1)) is not None:
            written(str(folder / "generations.jsonl"), generations[:count])
        if line["step"] + 1 == killed:
            raise Killed

    return tell


@pytest.mark.slow
def test_generations_join_where_they_came_and_the_list_is_replayed_exactly(
    tmp_path: Path, generations: list[dict], wanted: Pretrain
) -> None:
    root, listed = tmp_path / "follow", str(tmp_path / "follow" / "generations.jsonl")
    written(listed, generations[:1])
    out = root / "training"
    follow_train.train(listed, str(out), wanted, growing(root, generations, {10: 3, 20: 4}))
    plan = plan_of(out)
    assert [source.name for source in plan.sources] == ["web@0", "web@1", "web@2"]
    steps = len((out / "log.jsonl").read_text().splitlines())
    assert steps > 30
    places = plan.places(np.concatenate([plan.share(step) for step in range(steps)]))
    first = [int(np.flatnonzero(places.source == number)[0]) // 5 for number in range(3)]
    assert first == [0, 10, 20], "a generation joins at the first look after it was listed"
    for number, source in enumerate(plan.sources):
        mine = [*zip(*(column[places.source == number].tolist() for column in tuple(places)[2:]), strict=True)]
        assert len(set(mine)) == len(mine), "no row twice in an epoch"
        assert max(epoch for epoch, *_ in mine) - min(epoch for epoch, *_ in mine) <= len(mine) // source.size
    for number, line in enumerate([generations[0], *generations[2:]]):
        own = opened(line["tokens"])
        ledger = Ledger.followed(line["tokens"], own)
        assert ledger is not None
        rows = [row for row in range(own.shards[0].rows) if ledger.steps_of("part-00000", row)[1]]
        for row in rows[:4]:
            seen_in, _ = ledger.steps_of("part-00000", row)
            assert seen_in
            assert seen_in[0] >= number * 10
            holding = [step for step in range(steps) if ("part-00000", row) in ledger.documents(step)]
            assert holding == seen_in
    assert Ledger.followed(str(root), own) is None
    follow_train.replay(str(out / "plan.json"), str(tmp_path / "again"), wanted)
    assert (tmp_path / "again" / "ledger.jsonl").read_bytes() == (out / "ledger.jsonl").read_bytes()
    assert (tmp_path / "again" / "model.safetensors").read_bytes() == (out / "model.safetensors").read_bytes()


@pytest.mark.slow
def test_a_killed_training_goes_on_by_the_plan_of_its_checkpoint(
    tmp_path: Path, generations: list[dict], wanted: Pretrain
) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    for folder in (whole, killed):
        folder.mkdir()
        written(str(folder / "generations.jsonl"), generations[:1])
    follow_train.train(str(whole / "generations.jsonl"), str(whole / "t"), wanted, growing(whole, generations, {10: 3}))
    tell = growing(killed, generations, {10: 3}, killed=30)
    with pytest.raises(Killed):
        follow_train.train(str(killed / "generations.jsonl"), str(killed / "t"), wanted, tell)
    folder = str(killed / "t" / "checkpoints")
    newest = checkpoint.latest(folder)
    (Path(folder) / f"step-{newest:09d}" / "model.safetensors").write_bytes(b"torn")
    assert newest in (20, 30)  # the last one may still have been under way
    assert checkpoint.latest(folder) == newest - 10
    follow_train.train(str(killed / "generations.jsonl"), str(killed / "t"), wanted)
    for name in ("ledger.jsonl", "plan.json", "model.safetensors"):
        assert (killed / "t" / name).read_bytes() == (whole / "t" / name).read_bytes()


def test_ranks_have_one_plan(tmp_path: Path, generations: list[dict], wanted: Pretrain) -> None:
    listed = str(tmp_path / "generations.jsonl")
    written(listed, [*generations, {"end": True}])
    shape = Shape(vocabulary=VOCABULARY, width=32, layers=2, heads=2, ff=48, length=32)
    task = replace(follow_train.task_of(listed, str(tmp_path / "one"), wanted, follow=listed), model=shape)
    two = replace(task, out=str(tmp_path / "two"))
    pretrain(task, 0, 1, silent)
    together(two, 2)
    assert lines(two, "ledger.jsonl") == lines(task, "ledger.jsonl")
    assert losses(two) == pytest.approx(losses(task), abs=1e-6)
    assert {source.name for source in plan_of(Path(task.out)).sources} == {"web@0", "web@1", "web@2"}


@pytest.mark.slow
def test_more_ranks_go_on_where_one_was_killed(tmp_path: Path, generations: list[dict], wanted: Pretrain) -> None:
    listed = str(tmp_path / "generations.jsonl")
    written(listed, generations[:1])
    shape = Shape(vocabulary=VOCABULARY, width=32, layers=2, heads=2, ff=48, length=32)
    task = replace(follow_train.task_of(listed, str(tmp_path / "one"), wanted, follow=listed), model=shape)
    killed = replace(task, out=str(tmp_path / "killed"))
    pretrain(task, 0, 1, growing(tmp_path, generations, {10: 3}))
    written(listed, generations[:1])
    with pytest.raises(Killed):
        pretrain(killed, 0, 1, growing(tmp_path, generations, {10: 3}, killed=20))
    together(killed, 2)
    assert lines(killed, "ledger.jsonl") == lines(task, "ledger.jsonl")
    assert losses(killed) == pytest.approx(losses(task), abs=1e-6)


def test_a_list_that_is_not_what_it_says_is_refused(tmp_path: Path, generations: list[dict], wanted: Pretrain) -> None:
    listed = str(tmp_path / "generations.jsonl")
    written(listed, [{**generations[0], "digest": "0" * 64}])
    with pytest.raises(ValueError, match="is not what the list of generations says"):
        follow_train.train(listed, str(tmp_path / "out"), wanted)
    other = sealed(tmp_path / "other", sentences(20, 9), vocabulary="w")
    written(listed, [generations[0], {"generation": 1, "tokens": other.uri, "digest": other.digest}])
    with pytest.raises(ValueError, match="another vocabulary than the first generation"):
        follow_train.train(listed, str(tmp_path / "out"), wanted)
    written(listed, [{"generation": 0, "tokens": None}, {"end": True}])
    assert arrived(listed, 0) == ([], True)
    with pytest.raises(ValueError, match="ends without a generation that brought tokens"):
        follow_train.train(listed, str(tmp_path / "out"), wanted)
    empty = sealed(tmp_path / "empty", [*sentences(3, 1), np.zeros(0, np.uint16), np.zeros(0, np.uint16)])
    written(listed, [{"generation": 0, "tokens": empty.uri, "digest": empty.digest}, {"end": True}])
    with pytest.raises(ValueError, match="no generation holds a row"):
        follow_train.train(listed, str(tmp_path / "out"), wanted)
    written(listed, generations)
    with pytest.raises(ValueError, match="leave the weights out"):
        follow_train.train(listed, str(tmp_path / "out"), replace(wanted, weights={"web": 1.0}))
