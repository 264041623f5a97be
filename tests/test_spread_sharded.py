"""Copies and shards on several ranks give what one rank gives, in float64 to ten digits."""

import pytest
import torch

from tests.spreading import SHAPES, Trained, alone, loss_of, made, on_ranks, parts, same, trained
from tundish.stages.ranks import Ranks
from tundish.stages.spread import Copied
from tundish.stages.spread_sharded import Sharded

pytestmark = pytest.mark.slow

FEW = ("encoder", "pair", "switch", "detection")


def copied(ranks, names):
    return {name: trained(Copied(model := made(name), ranks), parts(model)) for name in names}


def sharded(ranks, names, hybrid=0):
    return {name: trained(Sharded(model := made(name), ranks, hybrid=hybrid), parts(model)) for name in names}


def on_two(ranks):
    return {"copied": copied(ranks, FEW), "sharded": sharded(ranks, SHAPES), **filled(ranks), "half": half(ranks)}


def on_three(ranks):
    return {"sharded": sharded(ranks, SHAPES)}


def on_four(ranks):
    return {"copied": copied(ranks, FEW), "hybrid": sharded(ranks, FEW, 2)}


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    return on_ranks(on_two, tmp_path_factory.mktemp("two"), 2)


@pytest.fixture(scope="module")
def three(tmp_path_factory):
    return on_ranks(on_three, tmp_path_factory.mktemp("three"), 3)


@pytest.fixture(scope="module")
def four(tmp_path_factory):
    return on_ranks(on_four, tmp_path_factory.mktemp("four"), 4)


@pytest.fixture(scope="module")
def wanted():
    return {name: alone(name) for name in SHAPES}


def agree(found: list[dict], kind: str, wanted: dict[str, Trained]) -> None:
    for name in found[0][kind]:
        same([each[kind][name] for each in found], wanted[name])


def test_copies_give_what_one_rank_gives(two, wanted):
    """Eight parts on one rank, four on each of two."""
    agree(two, "copied", wanted)


def test_copies_on_four_ranks_give_it_as_well(four, wanted):
    """Two parts on each."""
    agree(four, "copied", wanted)


def test_shards_give_what_one_rank_gives(two, wanted):
    agree(two, "sharded", wanted)


def test_shards_on_three_ranks_with_a_blank_part_as_well(three, wanted):
    """Of eight parts the last rank has two, and nothing divides by three."""
    agree(three, "sharded", wanted)


def test_copies_of_shards_give_what_one_rank_gives(four, wanted):
    agree(four, "hybrid", wanted)


def filled(ranks):
    """How much a rank holds, and a loss before and after its shards are written over as by a checkpoint, while what is
    not in blocks still lies gathered from an evaluation."""
    model = made("encoder")
    spread, given = Sharded(model, ranks), parts(model)[0]
    held = sum(each.to_local().numel() for each in spread.state().values())
    with torch.no_grad():
        losses = [float(loss_of(model, given))]
        for each in spread.state().values():
            each.mul_(0.5)
        losses.append(float(loss_of(model, given)))
    return {"held": held, "losses": losses}


def test_a_rank_holds_its_share(two):
    size = sum(weight.numel() for weight in made("encoder").parameters())
    assert sum(each["held"] for each in two) == size
    assert max(each["held"] for each in two) < 0.55 * size


def test_what_a_checkpoint_fills_is_what_is_gathered_next(two):
    model = made("encoder")
    given = parts(model)[0]
    losses = []
    with torch.no_grad():
        losses.append(float(loss_of(model, given)))
        for weight in model.parameters():
            weight.mul_(0.5)
        losses.append(float(loss_of(model, given)))
    assert abs(losses[0] - losses[1]) > 1e-4
    for each in two:
        assert each["losses"] == pytest.approx(losses, abs=1e-12)


def half(ranks, kind=Sharded):
    model = made("bert", torch.float32)
    spread = Sharded(model, ranks, states=torch.bfloat16) if kind is Sharded else Copied(model, ranks)
    return trained(spread, parts(model), dtype=torch.bfloat16, steps=1)


def test_half_precision_gathers_half_and_sums_in_full(two):
    wanted = half(Ranks(0, 1, torch.device("cpu")), Copied)
    assert two[0]["half"].losses == pytest.approx(wanted.losses, abs=1e-2)
    for name, gradient in wanted.gradients.items():
        found = two[0]["half"].gradients[name]
        assert found.dtype == torch.float32
        assert (found - gradient).norm() <= 0.03 * gradient.norm() + 1e-4, name


def test_refuses_groups_that_do_not_divide():
    with pytest.raises(ValueError, match="3 ranks do not divide into groups of 2; give"):
        Sharded(made("bert"), Ranks(0, 3, torch.device("cpu")), hybrid=2)
