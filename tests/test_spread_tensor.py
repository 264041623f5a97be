"""Layers in slices give what whole ones give, in float64 to ten digits, and their checkpoints are the same."""

from dataclasses import replace

import pytest
import torch
from torch.distributed.tensor import distribute_tensor

from tests.spreading import SHAPES, alone, made, on_ranks, parts, same, trained
from tundish.cluster.checkpoint_load import load
from tundish.cluster.checkpoint_save import Saver
from tundish.operators.model.descent import StableAdamW
from tundish.operators.model.family import Model
from tundish.stages.ranks import Ranks
from tundish.stages.spread import Copied
from tundish.stages.spread_sharded import Sharded
from tundish.stages.spread_tensor import Cut, Sliced

pytestmark = pytest.mark.slow

FEW = ("encoder", "pair", "switch", "detection")
STATES = ("encoder", "deberta")
ALONE = Ranks(0, 1, torch.device("cpu"))


@pytest.fixture(scope="module")
def wanted():
    return {name: alone(name) for name in SHAPES}


def sliced(ranks, names):
    return {name: trained(Sliced(model := made(name), ranks), parts(model)) for name in names}


def test_groups_of_slices_share_a_batch(wanted, tmp_path):
    found = on_ranks(sliced, tmp_path, 4, FEW, together=2)
    for name in FEW:
        same([each[name] for each in found], wanted[name])


@pytest.mark.parametrize("pieces", [1, 2, 3])
@pytest.mark.parametrize("of", [1, 2, 4])
def test_slices_come_back_into_order(pieces, of):
    whole = torch.arange(2 * 24 * 3).view(2, 24, 3)
    cut = Cut(1, pieces)
    slices = [cut.slice(whole, number, of) for number in range(of)]
    each = 24 // pieces // of
    for number, one in enumerate(slices):  # of every piece its share
        rows = [piece * 24 // pieces + number * each + row for piece in range(pieces) for row in range(each)]
        assert torch.equal(one, whole[:, rows])
    behind = torch.cat(slices, 1)
    assert torch.equal(cut.order(behind, of), whole)
    assert torch.equal(cut.disorder(whole, of), behind)


# a state written one way is read in another


def begun(ranks, kind, name):
    spread = kind(made(name), ranks)
    optimizer = StableAdamW(spread.named(), decay=0.1)
    live = {"model": spread.state(), "optimizer": optimizer.state()}
    return spread, live, {group: spread.stored(tensors) for group, tensors in live.items()}


def writes(ranks, kind, name, uri, seed):
    """A state of which every number says where it belongs."""
    spread, live, stored = begun(ranks, kind, name)
    for group, tensors in stored.items():
        for number, (_, tensor) in enumerate(sorted(tensors.items())):
            with torch.no_grad():
                tensor.copy_(_marked(tensor, seed + number))
        spread.restore(live[group], tensors)
    with Saver(uri) as saver:
        saver.save({group: spread.stored(tensors) for group, tensors in live.items()}, 1)


def _marked(tensor, seed):
    whole = torch.arange(tensor.numel(), dtype=tensor.dtype).view(tensor.shape) + 10_000 * seed
    if not hasattr(tensor, "device_mesh"):
        return whole
    return distribute_tensor(whole, tensor.device_mesh, tensor.placements)


def reads(ranks, kind, name, uri):
    """The state, and what the model then makes of a batch."""
    spread, live, stored = begun(ranks, kind, name)
    assert load(uri, stored) is not None
    for group, tensors in live.items():
        spread.restore(tensors, stored[group])
    found = {}
    for group, tensors in live.items():
        for key, tensor in spread.stored(tensors).items():
            found[f"{group}/{key}"] = (tensor.full_tensor() if hasattr(tensor, "device_mesh") else tensor).detach()
    return {key: tensor.clone() for key, tensor in found.items()}, dict(spread.whole())


def on_two(ranks, folder):
    """Slices of every family; states that they write, and that they and shards read."""
    apart = replace(ranks, together=1)
    told = {"sliced": sliced(ranks, SHAPES), "groups of one": sliced(apart, ["encoder"])}
    for name in STATES:
        writes(ranks, Sliced, name, f"{folder}/{name}/sliced", 1)
        told[name] = [
            reads(among, kind, name, f"{folder}/{name}/{uri}")
            for uri in ("sliced", "copied")
            for among, kind in ((ranks, Sliced), (apart, Sharded))
        ]
    return told


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """With states of one rank."""
    path = tmp_path_factory.mktemp("states")
    for name in STATES:
        (path / name).mkdir()
        writes(ALONE, Copied, name, str(path / name / "copied"), 1)
    return path


@pytest.fixture(scope="module")
def two(folder):
    return on_ranks(on_two, folder, 2, str(folder), together=2)


def test_slices_give_what_one_rank_gives(two, wanted):
    for name in SHAPES:
        same([each["sliced"][name] for each in two], wanted[name])
    same([each["groups of one"]["encoder"] for each in two], wanted["encoder"])


@pytest.mark.parametrize("name", STATES)
def test_a_state_written_one_way_is_read_in_any_other(two, folder, name):
    """From slices and from one rank; into slices, shards and one rank."""
    state, whole = reads(ALONE, Copied, name, str(folder / name / "copied"))
    mine, whole_of_mine = reads(ALONE, Copied, name, str(folder / name / "sliced"))
    others = [(rank, *found) for rank, each in enumerate(two) for found in each[name]]
    for rank, found, all_of in [(0, mine, whole_of_mine), *others]:
        assert found.keys() == state.keys()
        assert all(torch.equal(state[key], found[key]) for key in state)
        assert all_of.keys() == (whole.keys() if rank == 0 else set())
        assert all(torch.equal(whole[key], all_of[key]) for key in all_of)


def test_refuses_heads_and_widths_that_do_not_divide():
    ranks = Ranks(0, 3, torch.device("cpu"), together=3)
    with pytest.raises(ValueError, match="4 heads do not divide among 3 ranks; slice into fewer"):
        Sliced(made("bert"), ranks)
    shape = replace(SHAPES["bert"], width=18, heads=3, ff=20)
    with pytest.raises(ValueError, match="an inner width of 20 does not divide among 3 ranks; slice into fewer"):
        Sliced(Model(shape), ranks)
