"""Do the aids of fine-tuning do what their papers say: mixed weights, dropped blocks, rates by depth, fair orders?"""

import copy
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.tuned import SHAPE, SHAPES, TIGHT, batch, model_of, widened
from tundish.operators.model import classes, depth, descent, dropping, mixout
from tundish.operators.model.classes import Balanced, class_weights
from tundish.operators.model.family import Model
from tundish.operators.model.init import initialise
from tundish.operators.model.patience import progress
from tundish.operators.model.tasks import HOWS, Tasks

torch.set_num_threads(1)
DEEP = replace(SHAPE, layers=6, window=3, every=3)


def pretrained_of(model):
    """What the trunk began from: its weights, a bit elsewhere."""
    source = torch.Generator().manual_seed(5)
    return {
        name: weight.detach() + torch.randn(weight.shape, generator=source) * 0.1
        for name, weight in model.named_parameters()
        if name.startswith("encoder.")
    }


# mixout


def test_every_mixed_number_is_one_of_two():
    model = model_of(dropout=0.0)
    old = pretrained_of(model)
    found = mixout.mixed(model, old, 0.3, seed=1, step=2)
    assert set(found) == {n for n in mixout.linear_weights(model) if n.startswith("encoder.")}
    assert found
    share = []
    for name, weight in found.items():
        now = model.get_parameter(name)
        kept = (now - 0.3 * old[name]) / 0.7  # m = 0
        swapped = (old[name] - 0.3 * old[name]) / 0.7  # m = 1
        near = [torch.isclose(weight, each, atol=1e-6) for each in (kept, swapped)]
        assert (near[0] | near[1]).all()
        share.append(near[1].float().mean())
    assert float(np.mean(share)) == pytest.approx(0.3, abs=0.02)


@pytest.mark.parametrize("towards", ["pretrained", "zero"])
def test_its_expectation_is_the_weight(towards):
    model = model_of()
    old = pretrained_of(model) if towards == "pretrained" else None
    name = "encoder.stack.blocks.0.inner.up.weight"
    found = [mixout.mixed(model, old, 0.4, seed=1, step=step, names=[name])[name] for step in range(1000)]
    weight = model.get_parameter(name)
    other = old[name] if old else torch.zeros_like(weight)
    deviation = (weight - other).abs() * (0.4 / 0.6 / 1000) ** 0.5
    assert ((torch.stack(found).mean(0) - weight).abs() <= 5.5 * deviation + 1e-6).all()


def test_mixout_is_a_function_of_seed_and_step_in_training_alone():
    model, before = model_of(dropout=0.0), torch.random.get_rng_state()
    old = pretrained_of(model)
    first, again, later = (mixout.mixed(model, old, 0.3, seed=1, step=step) for step in (2, 2, 3))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not any(torch.equal(first[name], later[name]) for name in first)
    assert (torch.random.get_rng_state() == before).all()
    plain, weights = model(*batch()), copy.deepcopy(model.state_dict())
    found = mixout.call(model, first, *batch())
    assert (found - plain).abs().max() > 1e-3
    assert all(torch.equal(weight, weights[name]) for name, weight in model.state_dict().items())
    model.eval()
    assert mixout.mixed(model, old, 0.3, seed=1, step=2) == {}
    assert torch.equal(mixout.call(model, {}, *batch()), model(*batch()))


def test_gradients_come_through_what_was_kept():
    model = model_of(dropout=0.0)
    old, name = pretrained_of(model), "encoder.stack.blocks.1.attention.out.weight"
    weights = mixout.mixed(model, old, 0.5, seed=1, step=1)
    weights[name].retain_grad()
    mixout.call(model, weights, *batch()).square().sum().backward()
    kept = torch.isclose(weights[name], 2 * model.get_parameter(name) - old[name], atol=1e-6)
    torch.testing.assert_close(model.get_parameter(name).grad, weights[name].grad * kept * 2)
    model.get_parameter(name).requires_grad_(False)
    assert name not in mixout.mixed(model, old, 0.5, seed=1, step=1)


# dropping


def trunk(shape, seed=1):
    model = Model(shape)
    initialise(model, shape, seed=seed)
    return widened(model, 5.0)


def test_layers_are_left_out_as_often_as_said():
    found = Counter(layer for step in range(1500) for layer in dropping.gone(step, seed=1, layers=4, share=0.2))
    assert set(found) == {0, 1, 2, 3}
    assert all(abs(count / 1500 - 0.2) < 0.04 for count in found.values())
    pairs = sum({0, 1} <= set(dropping.gone(step, seed=1, layers=4, share=0.2)) for step in range(1500))
    assert abs(pairs / 1500 - 0.04) < 0.02  # independently
    assert dropping.gone(7, seed=1, layers=4, share=0.0) == ()


@pytest.mark.parametrize("kind", ["modern", "bert", "albert", "deberta", "gpt", "deep"])
def test_a_thinned_model_is_the_whole_one_with_the_others_skipped(kind):
    shape = DEEP if kind == "deep" else replace(SHAPES[kind], layers=4, window=0)
    keep = (0, 2, 4) if kind == "deep" else (0, 3)
    model, given = trunk(shape), batch()
    whole = model(*given)
    with dropping.skipped(model.stack, set(range(shape.layers)) - set(keep)):
        expected = model(*given)
        again = model(*given)
    smaller, weights = dropping.thinned(shape, model.state_dict(), keep)
    other = Model(smaller)
    other.load_state_dict(weights)
    torch.testing.assert_close(other(*given), expected, **TIGHT)
    assert torch.equal(expected, again)
    assert torch.equal(model(*given), whole)
    assert (whole - expected).abs().max() > 0.05
    assert smaller.layers == len(keep)


def test_the_block_that_answers_from_absolute_positions_stays():
    model, given = trunk(replace(SHAPES["deberta"], layers=3)), batch()
    with dropping.skipped(model.stack, [2]):
        found = model(*given)
    assert torch.equal(found, model(*given))


def test_a_first_layer_without_a_norm_gets_the_norm_of_its_successor():
    shape = replace(SHAPE, layers=3)
    model, given = trunk(shape), batch()
    smaller, weights = dropping.thinned(shape, model.state_dict(), (1, 2))
    other = Model(smaller)
    other.load_state_dict(weights)
    with dropping.skipped(model.stack, [0]):
        torch.testing.assert_close(other(*given), model(*given), **TIGHT)


def test_a_pairs_decoder_can_be_thinned():
    shape = replace(SHAPE, stack="pair", decoder=3, first_norm=True, embedding_norm=False)
    model, (tokens, layout) = trunk(shape), batch()
    smaller, weights = dropping.thinned(shape, model.state_dict(), (0, 2), stack="decoder")
    other = Model(smaller)
    other.load_state_dict(weights)
    with dropping.skipped(model.decoder, [1]):
        torch.testing.assert_close(other(tokens, layout, tokens, layout), model(tokens, layout, tokens, layout))


def test_what_is_skipped_does_not_learn_and_no_wrap_outlives_an_error():
    model = trunk(DEEP)
    with dropping.skipped(model.stack, [1, 4]):
        model(*batch()).square().sum().backward()
    for number, block in enumerate(model.stack.blocks):
        assert all((weight.grad is None) == (number in (1, 4)) for weight in block.parameters())
    with pytest.raises(RuntimeError, match="on the way"), dropping.skipped(model.stack, [1]):
        raise RuntimeError("on the way")
    assert "forward" not in vars(model.stack.blocks[1])


def test_kinds_of_layers_keep_their_order():
    for keep, said in (((0, 3), "is local"), ((1, 2), "not local"), ((2, 1), "ascending"), ((0, 6), "ascending")):
        with pytest.raises(ValueError, match=said):
            dropping.thinned(DEEP, {}, keep)
    with pytest.raises(ValueError, match="keep it, the last"):
        dropping.thinned(SHAPES["deberta"], {}, (0,))
    with pytest.raises(ValueError, match="no layer 6"), dropping.skipped(trunk(DEEP).stack, [6]):
        pass
    assert dropping.spaced(22, 11) == tuple(range(0, 22, 2))


# depth


@pytest.mark.parametrize("kind", SHAPES)
def test_every_weight_has_its_depth(kind):
    model = model_of(replace(SHAPES[kind], layers=3))
    found, blocks = depth.depths(model), 1 if kind == "albert" else 3
    assert set(found) == {name for name, _ in model.named_parameters()}
    assert found["encoder.embedding.weight"] == 0
    assert found["dense.weight"] == found["chooser.bias"] == found["encoder.head.dense.weight"] == blocks + 1
    for number in range(blocks):
        assert found[f"encoder.stack.blocks.{number}.attention.qkv.weight"] == number + 1
    assert found.get("encoder.stack.final.weight", blocks) == blocks
    assert found.get("encoder.stack.far", 0) == 0
    own = depth.depths(model.encoder)
    assert own == {name.removeprefix("encoder."): at for name, at in found.items() if name.startswith("encoder.")}


def test_a_pairs_decoder_lies_on_its_encoder():
    found = depth.depths(trunk(replace(SHAPE, stack="pair", decoder=2, positions="buckets")))
    assert found["decoder.blocks.0.across.q.weight"] == 3
    assert found["decoder.blocks.1.inner.up.weight"] == found["decoder.final.weight"] == 4
    assert found["decoder.bias.weight"] == found["stack.bias.weight"] == 0
    assert found["head.dense.weight"] == 5


def test_rates_fall_with_depth_and_split_as_descent_has_it():
    model = model_of(replace(SHAPES["bert"], layers=3))
    paces = depth.paces(model, 0.5)
    assert paces["dense.weight"] == 1.0
    assert paces["encoder.stack.blocks.2.inner.up.weight"] == 0.5
    assert paces["encoder.stack.blocks.0.inner.up.weight"] == 0.125
    assert paces["encoder.embedding.weight"] == 0.0625
    names = {id(weight): name for name, weight in model.named_parameters()}
    seen = {}
    for group in depth.groups(model, decay=0.1, layerwise=0.5, rate=0.01):
        for weight in group["params"]:
            seen[names[id(weight)]] = group
    assert seen.keys() == paces.keys()
    decaying, still = descent.groups(model, decay=0.1)
    for name, group in seen.items():
        assert group["pace"] == paces[name]
        assert group["lr"] == pytest.approx(0.01 * paces[name])
    assert {n for n, g in seen.items() if g["weight_decay"]} == {names[id(w)] for w in decaying["params"]}
    assert {n for n, g in seen.items() if not g["weight_decay"]} == {names[id(w)] for w in still["params"]}


def test_paces_are_rates_of_our_optimiser_too():
    model = model_of(dropout=0.0)
    named = [(n, w) for n, w in model.named_parameters()]
    optimizer = descent.AdamW(named, decay=0.0, rates=depth.paces(model, 0.5))
    before = {name: weight.detach().clone() for name, weight in named}
    for weight in model.parameters():
        weight.grad = torch.ones_like(weight)
    optimizer.step(1e-3)
    for name, weight in named:
        moved = (before[name] - weight).abs().mean().item()
        assert moved == pytest.approx(1e-3 * depth.paces(model, 0.5)[name], rel=1e-3)


def test_the_uppermost_blocks_are_drawn_anew():
    shape = replace(SHAPES["bert"], layers=4)
    model = model_of(shape)
    before = copy.deepcopy(model.state_dict())
    state = torch.random.get_rng_state()
    names = depth.reinitialised(model, 2, seed=9)
    assert (torch.random.get_rng_state() == state).all()
    changed = {name for name, weight in model.state_dict().items() if not torch.equal(weight, before[name])}
    assert changed <= {f"encoder.{name}" for name in names}
    assert {name.split(".")[3] for name in changed} == {"2", "3"}
    fresh = Model(shape)
    initialise(fresh, shape, seed=9)
    assert all(torch.equal(model.encoder.get_parameter(name), fresh.get_parameter(name)) for name in names)
    assert depth.reinitialised(model, 0, seed=1) == []
    with pytest.raises(ValueError, match="are one block"):
        depth.reinitialised(model_of(SHAPES["albert"]), 1, seed=1)
    with pytest.raises(ValueError, match="5 of 4 blocks"):
        depth.reinitialised(model, 5, seed=1)


def test_thawing_goes_down_a_depth_an_epoch_and_what_is_frozen_keeps_its_bits():
    model = model_of(replace(SHAPES["bert"], layers=2))
    depths = depth.depths(model)
    lowest = [min(depths[name] for name in depth.thawed(depths, epoch)) for epoch in range(6)]
    assert lowest == [3, 2, 1, 0, 0, 0]
    assert [min(depths[n] for n in depth.thawed(depths, epoch, each=2)) for epoch in range(5)] == [3, 3, 2, 2, 1]
    for epoch in (0, 1):
        depth.thaw(model, depth.thawed(depths, epoch))
        before = copy.deepcopy(model.state_dict())
        parts = depth.groups(model, decay=0.1, layerwise=0.9, rate=0.01)
        optimizer = torch.optim.AdamW(parts)
        with torch.random.fork_rng():
            model(*batch()).square().sum().backward()
        optimizer.step()
        for name, weight in model.named_parameters():
            if weight.grad is not None:
                assert depths[name] >= 3 - epoch
                assert not torch.equal(weight, before[name])
            else:
                assert torch.equal(weight, before[name])
    with pytest.raises(ValueError, match="no weight of the model"):
        depth.thaw(model, ["nothing"])


# classes


def test_class_weights_by_their_formulas():
    counts = np.array([90, 10, 0, 400])
    found = class_weights(counts)
    assert found[2] == 0
    assert np.allclose(found[[0, 1, 3]] * counts[[0, 1, 3]], 500 / 3)
    for how in ("inverse", "root"):
        assert (class_weights(counts, how) * counts).sum() == pytest.approx(500)
    root = class_weights([100, 25], "root")
    assert root[1] / root[0] == pytest.approx(2)
    effective = class_weights([90, 10, 400], "effective", beta=0.99)
    expected = np.array([0.01 / (1 - 0.99**n) for n in (90, 10, 400)])
    assert np.allclose(effective, 3 * expected / expected.sum())
    assert np.allclose(class_weights([5, 50], "effective", beta=0.0), 1)
    for wrong in (([0, 0],), ([1], "effort"), ([-1, 2],)):
        with pytest.raises(ValueError, match=r"classes|choose"):
            class_weights(*wrong)


def test_every_class_is_equally_likely_and_shows_all_it_has():
    labels = np.array([0] * 50 + [2] * 7 + [5] * 3)
    order = Balanced(labels, seed=4)
    epochs = [order.at(np.arange(60), epoch) for epoch in range(5)]
    for rows in epochs:
        assert Counter(labels[rows].tolist()) == {0: 20, 2: 20, 5: 20}
        assert all(set(labels[rows[at : at + 3]].tolist()) == {0, 2, 5} for at in range(0, 60, 3))
    whole = np.concatenate(epochs)
    for each, size in ((0, 50), (2, 7), (5, 3)):
        shown = whole[labels[whole] == each]
        for at in range(0, len(shown) - size + 1, size):
            assert len(set(shown[at : at + size].tolist())) == size
    assert not np.array_equal(epochs[0], epochs[1])
    assert len({tuple(labels[epochs[0][at : at + 3]]) for at in range(0, 60, 3)}) > 3


def test_balanced_places_can_be_asked_in_any_order():
    labels = np.random.default_rng(1).integers(0, 4, 90)
    order, places = Balanced(labels, seed=4), np.array([88, 3, 3, 40])
    assert order.at(places, 2).tolist() == Balanced(labels, seed=4).at(np.arange(90), 2)[places].tolist()
    assert order.at(places, 2).tolist() != Balanced(labels, seed=5).at(places, 2).tolist()
    with pytest.raises(ValueError, match="ask only for those"):
        order.at(np.array([90]), 0)
    with pytest.raises(ValueError, match="below 0"):
        Balanced([-1, 0], seed=1)
    assert classes.HOWS == ("inverse", "root", "effective")


# tasks


@pytest.mark.parametrize("how", HOWS)
def test_tasks_come_as_often_as_their_shares_and_evenly(how):
    tasks = Tasks((1000, 100, 10), how=how, steps=300, epochs=3, temperature=4.0)
    seen, turns = np.zeros(3), [0, 0, 0]
    for step in range(900):
        task, turn = tasks.at(step)
        assert turn == turns[task]
        turns[task] += 1
        if step % 300 == 0:
            seen[:] = 0
        seen[task] += 1
        assert (abs(seen - (step % 300 + 1) * tasks.shares(step // 300)) < 2.01).all()
    assert tuple(turns) == tuple(tasks.counts())
    with pytest.raises(ValueError, match="beyond 3 epochs"):
        tasks.at(900)


def test_shares_by_their_formulas():
    sizes = (400, 100)
    assert np.allclose(Tasks(sizes).shares(0), [0.8, 0.2])
    assert np.allclose(Tasks(sizes, limit=100).shares(0), [0.5, 0.5])
    assert np.allclose(Tasks(sizes, how="root").shares(0), [2 / 3, 1 / 3])
    assert np.allclose(Tasks(sizes, how="equal").shares(0), [0.5, 0.5])
    assert np.allclose(Tasks(sizes, how="temperature", temperature=2.0).shares(0), [2 / 3, 1 / 3])
    annealed = Tasks(sizes, how="annealed", epochs=5)
    for epoch, power in enumerate((1.0, 0.8, 0.6, 0.4, 0.2)):
        assert annealed.shares(epoch)[0] / annealed.shares(epoch)[1] == pytest.approx(4**power)
    for wrong in ({"how": "often"}, {"temperature": 0.0}, {"steps": 0}):
        with pytest.raises(ValueError, match=r"choose|above 0"):
            Tasks(sizes, **wrong)
    with pytest.raises(ValueError, match="at least one"):
        Tasks((3, 0))


# patience


def slow(scores, patience, least, higher):
    """The usual loop, stopped where it stops."""
    best = mark = None
    number = waited = 0
    for at, score in enumerate(scores):
        value = score if higher else -score
        if best is None or value > best:
            best, number = value, at
        if mark is None or value > mark + least:
            mark, waited = value, 0
        else:
            waited += 1
    return number, waited, waited >= patience


@pytest.mark.parametrize("higher", [True, False])
@pytest.mark.parametrize("least", [0.0, 2.0])
def test_patience_is_the_usual_loop(higher, least):
    source = np.random.default_rng(1)
    for _ in range(200):
        scores = source.integers(0, 8, source.integers(1, 12)).astype(float).tolist()
        assert tuple(progress(scores, patience=3, least=least, higher=higher)) == slow(scores, 3, least, higher)


def test_patience_with_nothing_and_with_what_is_no_number():
    assert progress([], patience=2) == (-1, 0, False)
    nan = float("nan")
    assert progress([nan, 0.5, nan, nan], patience=2) == (1, 2, True)
    assert progress([nan, nan], patience=2) == (-1, 2, True)
    with pytest.raises(ValueError, match="patience 0"):
        progress([1.0], patience=0)
