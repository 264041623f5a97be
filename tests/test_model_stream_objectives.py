"""The stream with every objective: any world size, any order of steps, a curriculum, and sizes that never change."""

import numpy as np
import pytest

from tests.test_model_objectives_host import IDS, SENTINEL, V, shard
from tundish.operators.model.batch import IGNORED, Static
from tundish.operators.model.corrupting import Corrupted
from tundish.operators.model.curriculum import read
from tundish.operators.model.following import Following
from tundish.operators.model.hiding import Hiding, Masked
from tundish.operators.model.plan import Plan, Source, Stretch, weights_of
from tundish.operators.model.rows import Layout
from tundish.operators.model.stream import Aim, Stream

LAYOUT = Layout(64, 24)
AIMS = {
    "tokens": Aim(),
    "all": Aim(Masked(shares=(100, 0)), 0.4),
    "rtd": Aim(Masked(shares=(85, 0), sampled=True), 0.15),
    "words": Aim(Masked(unit="word"), 0.2),
    "spans": Aim(Masked(unit="span"), 0.2),
    "clm": Aim(Following()),
    "prefix": Aim(Following(True)),
    "corruption": Aim(Corrupted(SENTINEL), None),
}


def streamed(aim=None, static=None, batch=7):
    held = {"web": [shard(40, 90, LAYOUT, 1), shard(31, 90, LAYOUT, 2)], "books": [shard(18, 90, LAYOUT, 3)]}
    sources = tuple(Source(name, tuple(len(s.starts) - 1 for s in each)) for name, each in held.items())
    plan = Plan(3, sources, (Stretch(0, weights_of(sources)),), ((0, batch),), 2)
    named = list(held.values())
    words = (np.random.default_rng(0).random(V) < 0.6).astype(np.uint8)
    hiding = Hiding(V, IDS, 7, 0.3, words)
    return Stream(plan, LAYOUT, hiding, lambda source, number, position: named[source][number], aim, static)


@pytest.mark.parametrize("name", AIMS)
@pytest.mark.parametrize("world", [1, 2, 3, 4, 5])
def test_every_objective_is_bit_identical_for_any_world_size(name, world):
    stream = streamed(lambda step: AIMS[name])
    steps = [0, 1, 17, 10**9]
    alone = dict(stream.batches(steps))
    parts = {step: [] for step in steps}
    for rank in range(world):
        for step, batch in stream.batches(reversed(steps), world=world, rank=rank):  # in any order
            parts[step].append(batch)
    for step in steps:
        one = alone[step]
        for field in ("inputs", "sizes", "labels", "counts", "uniforms", "prefixes", "answers"):
            whole = getattr(one, field)
            found = [getattr(part, field) for part in parts[step]]
            if whole is None:
                assert all(each is None for each in found)
            else:
                assert np.array_equal(np.concatenate(found), whole)
        assert sum(part.digest for part in parts[step]) % 2**64 == one.digest
        ends = np.cumsum([0, *(part.bounds[-1] for part in parts[step])])
        joined = [part.bounds[:-1] + end for part, end in zip(parts[step], ends, strict=False)]
        assert np.concatenate([*joined, ends[-1:]]).tolist() == one.bounds.tolist()


GOLDEN = {
    "tokens": 18286917471967042499,
    "all": 113590896096823352,
    "rtd": 16779572465202594828,
    "words": 15550460194224753781,
    "spans": 6432608761220668208,
    "clm": 4432008435267282959,
    "prefix": 2362875361830134210,
    "corruption": 10396398318142127756,
}


@pytest.mark.parametrize("name", AIMS)
def test_every_objective_does_the_same_on_every_machine(name):
    [(_, batch)] = streamed(lambda step: AIMS[name]).batches([11])
    assert batch.digest == GOLDEN[name]


@pytest.mark.parametrize("name", AIMS)
def test_sizes_that_never_change_add_nothing_that_counts(name):
    static = Static(places=500, segments=80, inputs=500, answers=500)
    plain, padded = streamed(lambda step: AIMS[name]), streamed(lambda step: AIMS[name], static)
    shapes = set()
    for (_, one), (_, other) in zip(plain.batches(range(20)), padded.batches(range(20)), strict=True):
        shapes.add(tuple(None if each is None else np.shape(each) for each in other))
        k = len(one.labels)
        assert other.labels[:k].tolist() == one.labels.tolist()
        assert (other.labels[k:] == IGNORED).all()
        assert other.places[:k].tolist() == one.places.tolist()
        assert not other.places[k:].any()
        assert other.bounds[: len(one.bounds)].tolist() == one.bounds.tolist()
        assert other.bounds[-1] == other.inputs.size
        sizes = np.diff(other.bounds)[len(one.bounds) - 1 :]
        assert not sizes[1 if one.answers is not None else 0 :].any()
        if one.answers is not None:
            assert np.diff(other.answer_bounds)[: len(one.bounds) - 1].tolist() == np.diff(one.answer_bounds).tolist()
            assert other.answer_bounds[-1] == len(other.answers) == 500
        assert other.digest == one.digest
        assert [getattr(other, field) is None for field in one._fields] == [each is None for each in one]
    assert len(shapes) == 1


def test_a_curriculum_says_what_each_step_asks_and_is_taken_up_anywhere():
    said = [
        {"tokens": [0, "40%"], "objective": {"mlm": 3, "clm": 1}, "rate": [0.5, 0.2]},
        {"tokens": ["40%", "100%"], "objective": "rtd", "rate": 0.15},
    ]
    schedule = read(said, 40_000, row=64, context=24, batch=7).schedule(60.0)
    stream = streamed(schedule.aim)
    whole = dict(stream.batches(range(schedule.steps)))
    for step, batch in stream.batches(range(schedule.steps - 1, -1, -3)):
        assert batch.digest == whole[step].digest
    names = [schedule.at(step).name for step in whole]
    assert [batch.uniforms is not None for batch in whole.values()] == [name == "rtd" for name in names]
    guessed: dict[str, set[float]] = {name: set() for name in names}
    for name, batch in zip(names, whole.values(), strict=True):
        guessed[name].add(round(len(batch.labels) / int((batch.inputs > 3).sum()), 1))
    assert guessed["mlm"] >= {0.5, 0.2}
    assert min(guessed["clm"]) > 0.9


def test_a_batch_larger_than_its_sizes_is_refused():
    [(_, batch)] = streamed().batches([0])
    with pytest.raises(ValueError, match=r"has \d+ guessed places and \d+ segments, and there is room for 3 and 80"):
        Static(3, 80).of(batch)
    with pytest.raises(ValueError, match="give more room"):
        Static(500, 3).of(batch)
    [(_, batch)] = streamed(lambda step: AIMS["corruption"]).batches([0])
    with pytest.raises(ValueError, match=r"shows \d+ tokens and asks for \d+"):
        Static(500, 80, 5, 500).of(batch)
    most = AIMS["all"].objective.most(7, LAYOUT, 0.4)
    assert all(len(each.labels) <= most for _, each in streamed(lambda step: AIMS["all"]).batches(range(40)))
    most = Following().most(7, LAYOUT, 0)
    assert all(len(each.labels) <= most for _, each in streamed(lambda step: AIMS["clm"]).batches(range(40)))
