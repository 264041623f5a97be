"""Blocks compiled and blocks computed anew give what plain ones give; nothing is compiled twice."""

import shutil
from dataclasses import replace

import pytest
import torch
from torch import nn

from tests.spreading import SHAPES, alone, loss_of, made, on_ranks, part, parts, same, trained
from tundish.operators.model.family import Model
from tundish.stages.blockwise import compilations, compiled, recomputed
from tundish.stages.ranks import Ranks
from tundish.stages.spread import Copied
from tundish.stages.spread_sharded import Sharded
from tundish.stages.spread_tensor import Sliced

ALONE = Ranks(0, 1, torch.device("cpu"))


@pytest.fixture(autouse=True)
def forgotten():
    """Blocks of an earlier test would lend their code."""
    torch._dynamo.reset()


def steps(model: nn.Module, count: int) -> tuple[list[float], dict[str, torch.Tensor], list[int]]:
    """Losses, gradients and compilations of steps over other documents in the same shapes."""
    answered = isinstance(model, Model) and model.decoder is not None
    losses, compiles = [], []
    for number in range(count):
        loss = loss_of(model, part(number, answered=answered, grouped=False))
        loss.backward()
        losses.append(float(loss.detach()))
        compiles.append(compilations())
    return losses, {name: weight.grad for name, weight in model.named_parameters()}, compiles


@pytest.mark.skipif(not shutil.which("g++"), reason="inductor compiles C++ for a CPU")
def test_compiled_blocks_give_what_plain_ones_give():
    """As they are on a CPU, down to machine code."""
    names = list(made("bert").state_dict())
    model = compiled(made("bert", torch.float32))
    assert list(model.state_dict()) == names
    losses, gradients, compiles = steps(model, 5)
    plain_losses, plain_gradients, _ = steps(made("bert", torch.float32), 5)
    assert losses == pytest.approx(plain_losses, abs=1e-5)
    for name, gradient in plain_gradients.items():
        torch.testing.assert_close(gradients[name], gradient, rtol=0, atol=1e-5)
    assert set(compiles) == {compiles[0]}


@pytest.mark.parametrize("name", SHAPES)
def test_every_family_compiles_whole_and_once(name):
    """Without the last step to machine code, which asks nothing of the model."""
    before = compilations()
    losses, gradients, compiles = steps(compiled(made(name), backend="aot_eager"), 5)
    assert compiles[0] > before
    assert set(compiles) == {compiles[0]}
    plain_losses, plain_gradients, _ = steps(made(name), 5)
    assert losses == pytest.approx(plain_losses, abs=1e-10)
    for key, gradient in plain_gradients.items():
        torch.testing.assert_close(gradients[key], gradient, rtol=0, atol=1e-10)


def test_another_shape_is_counted():
    model = compiled(made("encoder"), backend="aot_eager")
    loss_of(model, part(0, grouped=False)).backward()
    before = compilations()
    loss_of(model, part(1, grouped=False)).backward()
    assert compilations() == before
    loss_of(model, part(1, grouped=False, size=32)).backward()
    assert compilations() > before


def saved(model: nn.Module) -> int:
    """Bytes kept for the backward pass of one part; what a recomputed block was given is counted as well."""
    kept: dict[int, int] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    def given(module: nn.Module, args: tuple, kwargs: dict) -> None:
        for each in (*args, *kwargs.values()):
            if isinstance(each, torch.Tensor):
                keep(each)

    blocks = [module for module in model.modules() if type(module).__name__ == "Block"]
    hooks = [block.register_forward_pre_hook(given, with_kwargs=True) for block in blocks]
    answered = isinstance(model, Model) and model.decoder is not None
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        loss = loss_of(model, part(0, answered=answered))  # held until the count is taken
    for hook in hooks:
        hook.remove()
    total = sum(kept.values()) - sum(each.nbytes for each in model.parameters())
    loss.backward()
    return total


def test_blocks_computed_anew_keep_less():
    plain, second, all_of = (saved(model) for model in (made("encoder"), *map(again, (2, 1))))
    assert all_of < 0.45 * plain
    assert all_of < second < plain


def again(every: int) -> nn.Module:
    return recomputed(made("encoder"), every=every)


@pytest.mark.parametrize("name", SHAPES)
def test_blocks_computed_anew_give_the_same(name):
    model = recomputed(made(name))
    same([trained(Copied(model, ALONE), parts(model))], alone(name), 1e-12)


def test_blocks_computed_anew_drop_the_same():
    def dropping(model: Model) -> Model:
        for module in model.modules():
            if hasattr(module, "shape"):
                module.shape = replace(module.shape, dropout=0.3)
        return model

    found = []
    for model in (dropping(made("encoder")), recomputed(dropping(made("encoder")))):
        torch.manual_seed(3)
        found.append(steps(model, 2)[:2])
    assert found[0][0] == pytest.approx(found[1][0], abs=1e-12)
    for name, gradient in found[0][1].items():
        torch.testing.assert_close(found[1][1][name], gradient, rtol=0, atol=1e-12)


def test_refuses_every_block_of_none():
    with pytest.raises(ValueError, match="each 0th block is none; give 1"):
        recomputed(made("encoder"), every=0)


# both, on blocks that are spread


def both(ranks, names):
    found = {}
    for kind, among in ((Sharded, replace(ranks, together=1)), (Sliced, ranks)):
        for name in names:
            model = recomputed(compiled(made(name), backend="aot_eager"), every=2)
            spread, given = kind(model, among), static(model)
            found[kind.__name__, name] = trained(spread, given)
            before = compilations()
            spread.backward(loss_of(model, given[0]), last=True)
            assert compilations() == before
    return found


def static(model: nn.Module) -> list:
    answered = isinstance(model, Model) and model.decoder is not None
    return [part(number, answered=answered, grouped=False) for number in range(8)]


@pytest.mark.slow
def test_blocks_that_are_spread_can_be_compiled_and_computed_anew(tmp_path):
    names = ("encoder", "switch")
    found = on_ranks(both, tmp_path, 2, names, together=2)
    for kind, name in found[0]:
        same([each[kind, name] for each in found], alone(name))
