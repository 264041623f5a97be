"""Curricula: the four of the field in three lines, steps that join, and what is refused."""

import itertools

import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from tundish.operators.model.corrupting import Corrupted
from tundish.operators.model.curriculum import OBJECTIVES, amount, read
from tundish.operators.model.hiding import Masked
from tundish.operators.model.phases import LEVELS
from tundish.operators.model.stream import Aim

TOTAL = 2_000_000


def scheduled(text, total=TOTAL, mean=250.0, **other):
    given = {"row": 256, "context": 256, "batch": 32} | other
    return read(yaml.safe_load(text), total, **given).schedule(mean)


def test_causal_then_masked():
    schedule = scheduled("""
        - {tokens: [0, 40%], objective: clm}
        - {tokens: [40%, 100%], objective: mlm, rate: 0.4}
    """)
    assert schedule.steps == 250  # of 8,000 tokens
    assert [schedule.at(step).name for step in (0, 99, 100, 249)] == ["clm", "clm", "mlm", "mlm"]
    assert schedule.aim(99) == Aim(OBJECTIVES["clm"], None)
    assert schedule.aim(100) == Aim(OBJECTIVES["mlm"], 0.4)
    assert schedule.batches == ((0, 32),)
    assert schedule.layouts == ((0, (256, 256)),)


def test_causal_among_masked_steps():
    schedule = scheduled("[{tokens: [0, 2M], objective: {mlm: 15, clm: 1}, rate: 0.3}]", mean=62.5)
    names = [schedule.at(step).name for step in range(schedule.steps)]
    assert len(names) == 1000
    assert {names[at : at + 16].count("clm") for at in range(0, 992, 16)} == {1}
    assert [schedule.at(step).name for step in reversed(range(schedule.steps))] == names[::-1]  # remembers nothing
    late = scheduled("[{tokens: [0, 14k]}, {tokens: [14k, 2014k], objective: {mlm: 15, clm: 1}}]", 2_014_000, 62.5)
    first, steps = late.phase(1)
    assert (first, steps) == (7, 1000)
    assert [late.at(first + step).name for step in range(steps)] == names  # each phase from its own beginning


def test_a_rate_that_decays_in_few_levels():
    schedule = scheduled("[{tokens: [0, 100%], rate: [0.30, 0.15]}]")
    rates = [schedule.at(step).rate for step in range(schedule.steps)]
    assert (rates[0], rates[-1]) == (0.3, 0.15)
    assert rates == sorted(rates, reverse=True)
    assert len(set(rates)) == LEVELS
    assert np.mean(rates) == pytest.approx(0.225, abs=0.001)
    line = np.linspace(0.3, 0.15, schedule.steps)
    assert abs(np.array(rates) - line).max() < 0.15 / LEVELS + 0.001


def test_a_context_that_grows_at_the_end():
    curriculum = read(
        yaml.safe_load("""
            - {tokens: [0, 1.5M], context: 256, row: 1024, batch: 8}
            - {tokens: [1.5M, 1.9M], context: 8192, batch: 1}
            - {tokens: [1.9M, 2M], lr: [1, 0]}
        """),
        TOTAL,
        row=256,
        context=256,
        batch=32,
    )
    schedule = curriculum.schedule(lambda phase: phase.row - 24)
    assert [value for _, value in schedule.layouts] == [(1024, 256), (8192, 8192)]
    first, steps = schedule.phase(1)
    assert (first, schedule.layouts[1][0]) == (round(1.5e6 / 8000), first)
    assert schedule.at(first).rows == 1
    assert (first + steps, schedule.steps) == (schedule.phase(2)[0], first + steps + schedule.phase(2)[1])
    assert [schedule.at(step).lr for step in (0, first, first + steps, schedule.steps - 1)] == [1, 1, 1, 0]
    assert schedule.at(schedule.steps - 1).context == 8192  # as in the phase before


def test_a_batch_that_grows_in_stairs_of_equal_tokens():
    schedule = scheduled("[{tokens: [0, 2M], batch: [4, 32]}]")
    rows = [schedule.at(step).rows for step in range(schedule.steps)]
    assert (rows[0], rows[-1], len(set(rows))) == (4, 32, LEVELS)
    assert rows == sorted(rows)
    assert sum(rows) * 250 == pytest.approx(TOTAL, abs=32 * 250)
    for _, steps, each, _ in schedule.legs:
        assert steps * each * 250 == pytest.approx(TOTAL / LEVELS, abs=32 * 250)
    assert schedule.batches == tuple((leg.first, leg.rows) for leg in schedule.legs)


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.tuples(st.integers(1, 10**7), st.integers(1, 300), st.integers(1, 300)), min_size=1, max_size=6),
    st.floats(3, 3000),
)
def test_phases_join_and_have_their_tokens(phases, mean):
    ends = np.cumsum([0, *(tokens for tokens, _, _ in phases)]).tolist()
    said = [
        {"tokens": [first, end], "batch": [low, high]}
        for (first, end), (_, low, high) in zip(itertools.pairwise(ends), phases, strict=True)
    ]
    schedule = read(said, ends[-1], row=9, context=9, batch=1).schedule(mean)
    step, used = 0, 0.0
    for number, phase in enumerate(schedule.phases):
        assert schedule.phase(number)[0] == step
        for leg in schedule.legs:
            if leg.phase == number:
                assert (leg.first, leg.steps > 0) == (step, True)
                step, used = step + leg.steps, used + leg.steps * leg.rows * mean
        # a phase shorter than half a step has one all the same, and those behind it wait for their turn
        small = len(phases) * max(max(p[1:]) for p in phases) * mean
        assert abs(used - phase.end) <= small
    assert step == schedule.steps
    assert schedule.at(step - 1).phase == len(phases) - 1


def test_objectives_of_its_own():
    curriculum = read(
        yaml.safe_load("""
            objectives:
              ours: {kind: masked, unit: span, lengths: [1, 1], shares: [100, 0]}
              t5: {kind: corrupted, sentinel: 31999, mean: 3}
            phases:
              - {tokens: [0, 1M], objective: {ours: 1, t5: 1}}
              - {tokens: [1M, 2M]}
        """),
        TOTAL,
        row=256,
        context=256,
        batch=32,
    )
    assert curriculum.objectives["ours"] == Masked(unit="span", lengths=(1, 1), shares=(100, 0))
    schedule = curriculum.schedule(250.0)
    assert {schedule.at(step).name for step in range(200, 210)} == {"ours", "t5"}
    assert schedule.at(3).rate is None
    t5 = Corrupted(99)
    more = read([{"tokens": [0, 9], "objective": "t5"}], 9, row=9, context=9, batch=1, more={"t5": t5})
    assert more.schedule(9.0).aim(0) == Aim(t5, None)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[{tokens: [0, 1M]}, {tokens: [1.2M, 2M]}]", r"phase 1 begins at token 1,200,000 .* leave a gap; begin it at"),
        ("[{tokens: [0, 1M]}, {tokens: [0.9M, 2M]}]", "overlap"),
        ("[{tokens: [5, 2M]}]", "phase 0 begins at token 5"),
        ("[{tokens: [0, 1M]}]", "ends at token 1,000,000 and the run at 2,000,000"),
        ("[{tokens: [0, 0]}]", "which are none"),
        ("[{tokens: 2M}]", "give the first and the end"),
        ("[{tokens: [0, 2M], objektive: mlm}]", "key 'objektive', .* did you mean 'objective'"),
        ("[{tokens: [0, 2M], objective: clmm}]", "no objective 'clmm' .* did you mean 'clm'"),
        ("[{tokens: [0, 2M], objective: {mlm: 0}}]", "weight 0; give a whole number"),
        ("[{tokens: [0, 2M], objective: {}}]", "mixture of no objectives"),
        ("[{tokens: [0, 2M], rate: 30}]", "mask rate of 30"),
        ("[{tokens: [0, 2M], rate: [0.3, 0.2, 0.1]}]", "give one number, or two"),
        ("[{tokens: [0, 2Q]}]", "'2Q' is no whole number; write 600000"),
        ("[{tokens: [0, 2M], batch: 0}]", "batch of .0, 0. rows"),
        ("[{tokens: [0, 2M], lr: -1}]", "no factor below 0"),
        ("[{tokens: [0, 2M], context: 2}]", "contexts of 2"),
        ("[{tokens: [0, 2M], row: 128}]", "no context longer than its row"),
        ("[7]", "phase 0 of the curriculum is 7"),
        ("[]", "give one phase or more"),
        ("hello", "a list of phases"),
        ("{phase: []}", "key 'phase', .* did you mean 'phases'"),
        ("{objectives: {a: {kind: maskd}}, phases: [{tokens: [0, 2M]}]}", "kind 'maskd'; did you mean 'masked'"),
        ("{objectives: {a: {kind: masked, units: word}}, phases: [{tokens: [0, 2M]}]}", "did you mean 'unit'"),
        ("{objectives: {a: {kind: corrupted}}, phases: [{tokens: [0, 2M]}]}", "sentinel"),
    ],
)
def test_what_is_no_curriculum_is_refused(text, told):
    with pytest.raises(ValueError, match=told):
        scheduled(text)


def test_amounts_and_steps_outside():
    assert [amount(each) for each in ("50M", "1.5B", 12, "0", "2_000", "1k")] == [
        50_000_000,
        1_500_000_000,
        12,
        0,
        2000,
        1000,
    ]
    assert amount("33.3%", 1_000_003) == 333_001
    for wrong in ("", "M", "-1", "1.5", True, None, "40%", "infk"):
        with pytest.raises(ValueError, match="is no whole number"):
            amount(wrong)
    schedule = scheduled("[{tokens: [0, 100%]}]")
    for step in (-1, schedule.steps):
        with pytest.raises(ValueError, match=f"no step {step} in a curriculum of {schedule.steps} steps"):
            schedule.at(step)
