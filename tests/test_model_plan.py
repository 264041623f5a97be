import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tundish.operators.model.plan import Plan, Source, Stretch, onward, weights_of


def one(rows=(7, 0, 5, 9), seed=1, batch=4, window=2, **other):
    source = Source("web", tuple(rows))
    return Plan(seed, (source,), (Stretch(0, weights_of([source])),), ((0, batch),), window, **other)


def row_list(places):
    return list(zip(*(column.tolist() for column in tuple(places)[1:]), strict=True))


ROWS = st.lists(st.integers(0, 9), min_size=1, max_size=6).filter(any)


@settings(max_examples=80, deadline=None)
@given(st.lists(ROWS, min_size=1, max_size=3), st.integers(0, 5), st.integers(0, 2**40), st.integers(1, 9))
def test_an_epoch_holds_every_row_of_every_source_once(sources, window, seed, batch):
    named = tuple(Source(f"source {n}", tuple(rows)) for n, rows in enumerate(sources))
    plan = Plan(seed, named, (Stretch(0, weights_of(named)),), ((0, batch),), window)
    size = sum(source.size for source in named)
    every = sorted((n, s, r) for n, rows in enumerate(sources) for s, count in enumerate(rows) for r in range(count))
    epochs = [plan.places(np.arange(size) + epoch * size) for epoch in range(3)]
    for number, places in enumerate(epochs):
        assert (places.epoch == number).all()
        assert sorted((s, h, r) for s, _, h, r in row_list(places)) == every
    steps = -(-3 * size // batch)
    spelt = row_list(plan.places(np.concatenate([plan.share(step) for step in range(steps)])))[: 3 * size]
    assert spelt == [row for places in epochs for row in row_list(places)]
    for source, shard, row in every[:10]:
        wanted = [at // batch for at, (s, _, h, r) in enumerate(spelt) if (s, h, r) == (source, shard, row)]
        until = 3 * size // batch
        assert plan.steps(source, shard, row, until=until) == [step for step in wanted if step < until]


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**12), st.integers(1, 40), st.integers(1, 9))
def test_the_ranks_spell_the_same_batch_for_every_world_size(step, batch, world):
    plan = one(batch=batch)
    parts = [plan.share(step, world=world, rank=rank) for rank in range(world)]
    assert np.concatenate(parts).tolist() == plan.share(step).tolist()
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_only_a_window_of_shards_is_in_use_at_once():
    plan = one(rows=[10] * 12, window=3)
    shards = plan.places(np.arange(240)).shard.reshape(-1, 30)
    assert all(len(set(each.tolist())) == 3 for each in shards)
    assert sorted({*shards[:4].flatten().tolist()}) == list(range(12))
    assert shards[:4].tolist() != shards[4:].tolist()
    assert len(set(one(rows=[10] * 12, window=0).places(np.arange(30)).shard.tolist())) > 6


def test_neighbours_in_a_window_come_far_apart():
    places = one(rows=[1000, 1000], window=2).places(np.arange(2000))
    place_of = np.argsort(places.shard * 1000 + places.row)
    gaps = np.abs(np.diff(place_of))
    assert abs(gaps.mean() - 2000 / 3) < 30  # as of a random permutation


def mixed(holes=()):
    sources = (Source("web", (40, 60)), Source("books", (30,)), Source("code", (0, 11)))
    stretches = (
        Stretch(0, weights_of(sources, {"web": 0.5, "books": 0.25, "code": 0.25})),
        Stretch(100, weights_of(sources, {"books": 1})),
        Stretch(137, weights_of(sources, {"web": 3, "code": 1})),
    )
    return Plan(5, sources, stretches, ((0, 2), (10, 7), (13, 3)), 2, tuple(holes))


def test_weights_change_at_a_position_and_every_source_goes_on_where_it_was():
    plan = mixed()
    places = plan.places(np.arange(400))
    shares = [[int((places.source[a:b] == s).sum()) for s in range(3)] for a, b in ((0, 100), (100, 137), (137, 337))]
    assert shares == [[50, 25, 25], [0, 37, 0], [150, 0, 50]]
    rows = row_list(places)
    for number, source in enumerate(plan.sources):
        mine = [(shard, row) for s, _, shard, row in rows if s == number]
        for start in range(0, len(mine) - source.size, source.size):
            assert len(set(mine[start : start + source.size])) == source.size


def test_steps_of_a_row_and_rows_of_a_step_are_inverse_through_weights_batches_and_holes():
    for plan in (mixed(), mixed([(3, 9), (100, 120), (200, 201)])):
        until = 70
        seen = {}
        for step in range(until):
            for s, _, shard, row in row_list(plan.places(plan.share(step))):
                seen.setdefault((s, shard, row), []).append(step)
        for s, source in enumerate(plan.sources):
            for shard, count in enumerate(source.rows):
                for row in range(count):
                    assert plan.steps(s, shard, row, until=until) == seen.get((s, shard, row), [])


def test_holes_are_left_out_and_nothing_else_moves():
    whole, holed = one(), one(holes=((5, 8), (8, 9), (20, 24)))
    consumed = np.concatenate([holed.share(step) for step in range(10)])
    assert consumed.tolist() == [at for at in range(48) if at not in {5, 6, 7, 8, 20, 21, 22, 23}]
    assert row_list(holed.places(consumed)) == [row_list(whole.places(np.array([at])))[0] for at in consumed]


@pytest.mark.parametrize("first", [0, 13, 90, 150, 399])
def test_the_shards_in_use_are_known_beforehand(first):
    for plan in (one(rows=[10, 0, 7, 3, 9, 12, 4], window=3), mixed()):
        uses, last = list(plan.uses(first, 400)), 400
        assert [use.first for use in uses] == sorted(use.first for use in uses)
        places = plan.places(np.arange(first, last))
        named = {}
        for use in uses:
            assert first <= use.first <= use.last < last
            for at in range(use.first, use.last + 1):
                named.setdefault(at, set()).add((use.source, use.shard))
        for at, (source, _, shard, _) in zip(range(first, last), row_list(places), strict=True):
            assert (source, shard) in named[at]
        assert max(map(len, named.values())) <= sum(min(plan.window, len(s.rows)) for s in plan.sources)


def test_batches_grow_at_a_step():
    plan = mixed()
    assert [len(plan.share(step)) for step in (0, 9, 10, 12, 13, 99)] == [2, 2, 7, 7, 3, 3]
    assert np.concatenate([plan.share(step) for step in range(20)]).tolist() == list(range(20 + 21 + 21))
    assert [plan.consumed(step) for step in (0, 10, 13, 20)] == [0, 20, 41, 62]


def test_a_plan_survives_being_written_and_grows_behind_what_was_done():
    plan = mixed([(3, 9)])
    again = Plan.of(json.loads(json.dumps(plan.plain())))
    assert again == plan
    assert again.digest == plan.digest
    longer = replace(
        plan,
        sources=(*plan.sources, Source("late", (5,))),
        stretches=(*plan.stretches, Stretch(500, (("late", 1), ("web", 2)))),
        holes=(*plan.holes, (480, 490)),
    )
    at = 100
    assert longer.until(at).digest == plan.until(at).digest
    assert longer.until(at).digest != replace(plan, seed=6).until(at).digest
    assert longer.until(200).digest != plan.until(200).digest
    assert row_list(longer.places(np.arange(400))) == row_list(plan.places(np.arange(400)))


def test_a_hole_right_behind_what_was_done_does_not_count_as_before_it():
    plan = one(batch=5)
    for hole, same in (((50, 60), True), ((51, 60), True), ((49, 60), False), ((0, 5), False)):
        assert (replace(plan, holes=(hole,)).until(10).digest == plan.until(10).digest) is same


def grown(rows, steps):
    plan = one(rows=rows, batch=4)
    plan = onward(plan, 17, (Source("late", (9,)),))
    while plan.runs_out() < steps * 4:
        plan = onward(plan, plan.runs_out())
    return plan


def test_what_comes_late_is_seen_first_and_then_all_go_on_together():
    plan = grown((7, 0, 5, 9), 10**6)
    assert len(plan.stretches) < 5, "once none is behind, one stretch lasts for ever"
    places = plan.places(np.arange(17, 17 + 3000))
    assert sorted(places.source[:13].tolist()) == [0] * 4 + [1] * 9, "what each owes its first epoch"
    rows = [(s, h, r) for s, _, h, r in row_list(places)]
    first = 9 + 21 - 17
    assert len(set(rows[:first])) == first, "each row once before any comes again"
    for start in range(first, 2900, 30):
        assert len(set(rows[start : start + 30])) == 30


def test_the_order_is_the_same_on_every_machine():
    assert row_list(mixed().places(np.array([0, 1, 2, 101, 10**12]))) == GOLDEN


GOLDEN = [(2, 0, 1, 5), (0, 0, 1, 17), (1, 0, 0, 7), (1, 0, 0, 24), (0, 7499999999, 1, 57)]


def test_what_makes_no_plan_is_refused():
    with pytest.raises(ValueError, match="weight for 'wiki', which has no rows; the sources are web"):
        weights_of([Source("web", (3,))], {"wiki": 1})
    with pytest.raises(ValueError, match="weight for 'wiki', which has no rows"):
        Plan(1, (Source("web", (3,)),), (Stretch(0, (("wiki", 1),)),), ((0, 1),))
    with pytest.raises(ValueError, match="no rows to train on"):
        weights_of([Source("web", (0,))])
    with pytest.raises(ValueError, match="weight of 'web' is 0"):
        weights_of([Source("web", (3,))], {"web": 0})
    with pytest.raises(ValueError, match="two sources of a plan have one name"):
        Plan(1, (Source("web", (3,)), Source("web", (4,))), (Stretch(0, (("web", 1),)),), ((0, 1),))
    with pytest.raises(ValueError, match=r"weight of 'web' is 1e\+300"):
        weights_of([Source("web", (3,))], {"web": 1e300})
    with pytest.raises(ValueError, match="rank 2 of 2"):
        one().share(0, world=2, rank=2)
    with pytest.raises(ValueError, match="overlap"):
        one(holes=((5, 8), (7, 9)))
    with pytest.raises(ValueError, match="at least one row"):
        one(batch=0)
