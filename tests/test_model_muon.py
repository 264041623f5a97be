"""Muon against torch's, the singular value decomposition, and what it promises about parts."""

import pytest
import torch

from tundish.operators.model.descent import AdamW
from tundish.operators.model.muon import Muon, in_block, orthogonal

torch.set_num_threads(1)

CONVERGENT = (15 / 8, -10 / 8, 3 / 8)


def drawn(*shape, seed=0, dtype=torch.float64):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def model(seed=0, dtype=torch.float64):
    shapes = {
        "embedding.weight": (12, 6),
        "blocks.0.qkv.weight": (18, 6),
        "blocks.0.out.weight": (6, 6),
        "blocks.0.up.weight": (10, 6),
        "blocks.0.norm.weight": (6,),
        "blocks.1.qkv.weight": (18, 6),
        "blocks.1.out.weight": (6, 6),
        "blocks.1.down.weight": (6, 10),
    }
    return {
        name: torch.nn.Parameter(drawn(*shape, seed=seed + at, dtype=dtype))
        for at, (name, shape) in enumerate(shapes.items())
    }


def give(named, seed):
    for at, weight in enumerate(named.values()):
        weight.grad = drawn(*weight.shape, seed=seed + at, dtype=weight.dtype)


def polar(matrix):
    u, _, v = torch.linalg.svd(matrix, full_matrices=False)
    return u @ v


@pytest.mark.parametrize("shape", [(5, 4, 9), (3, 9, 4), (2, 6, 6), (1, 1, 7)])
def test_the_iteration_finds_the_polar_factor(shape):
    matrices = drawn(*shape)
    found = orthogonal(matrices, steps=30, coefficients=CONVERGENT, precision=torch.float64)
    torch.testing.assert_close(found, torch.stack([polar(each) for each in matrices]), atol=1e-10, rtol=0)


@pytest.mark.parametrize("precision", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("shape", [(16, 40), (40, 16), (24, 24)])
def test_five_steps_keep_the_vectors_and_level_the_values(precision, shape):
    """The quintic ends between 0.7 and 1.2, except for directions that were almost nothing."""
    u, _, v = torch.linalg.svd(drawn(*shape), full_matrices=False)
    values = torch.linspace(0.05, 1.0, min(shape), dtype=torch.float64)
    found = orthogonal((u * values @ v)[None], precision=precision)[0].double()
    inside = u.mT @ found @ v.mT
    slack = 0.05 if precision == torch.bfloat16 else 1e-4 if precision == torch.float32 else 1e-9
    assert (inside - inside.diag().diag()).abs().max() < slack
    assert inside.diag().min() > 0.65 - slack
    assert inside.diag().max() < 1.21 + slack


def test_nothing_stays_nothing():
    assert torch.equal(orthogonal(torch.zeros(2, 3, 4)), torch.zeros(2, 3, 4))


@pytest.mark.parametrize("scale", ["original", "match_rms_adamw"])
@pytest.mark.parametrize("nesterov", [True, False])
def test_it_is_torchs_step_for_step(scale, nesterov):
    ours, theirs = model(dtype=torch.float32), model(dtype=torch.float32)
    one = Muon(ours.items(), scale=scale, nesterov=nesterov, decay=0.1, precision=torch.bfloat16, others=AdamW)
    mine = [weight for name, weight in theirs.items() if in_block(name, weight)]
    two = torch.optim.Muon(mine, lr=0.02, weight_decay=0.1, nesterov=nesterov, adjust_lr_fn=scale)
    rest = [weight for name, weight in theirs.items() if not in_block(name, weight)]
    three = torch.optim.AdamW(rest[:1], lr=0.02, betas=(0.9, 0.98), eps=1e-6, weight_decay=0.01)
    assert len(mine) == 6
    for at in range(10):
        for named in (ours, theirs):
            give(named, 100 * at)
        one.step(0.02)
        two.step()
        three.step()
    for name, weight in ours.items():
        if name.endswith("norm.weight"):
            continue
        moved = (theirs[name] - model(dtype=torch.float32)[name]).abs().max()
        torch.testing.assert_close(weight, theirs[name], atol=0.02 * float(moved.detach()), rtol=0, msg=name)


def test_it_is_the_polar_step_by_hand():
    """In float64, without the rounding: decay, momentum, look-ahead, orthogonal matrix, scale."""
    named = {"blocks.0.up.weight": torch.nn.Parameter(drawn(10, 6))}
    weight, mean = named["blocks.0.up.weight"].detach().clone(), torch.zeros(10, 6, dtype=torch.float64)
    one = Muon(named.items(), decay=0.1, scale="match_rms_adamw", peak=0.04, ratio=0.5)
    for at in range(4):
        give(named, 10 * at)
        gradient = named["blocks.0.up.weight"].grad
        mean = 0.95 * mean + 0.05 * gradient
        ahead = 0.05 * gradient + 0.95 * mean
        one.step(0.02)
        turned = orthogonal(ahead[None], precision=torch.float64)[0] * 0.2 * 10**0.5
        weight = weight - 0.01 * turned - 0.02 / 0.04 * 0.1 * weight
        torch.testing.assert_close(named["blocks.0.up.weight"].detach(), weight, atol=1e-12, rtol=0)


@pytest.mark.parametrize("rows", [(6, 6, 6), (10, 4, 4)])
@pytest.mark.parametrize("scale", ["original", "match_rms_adamw"])
def test_parts_move_as_if_they_were_weights(rows, scale):
    fused, apart = model(), model()
    names = ["blocks.0.qkv.weight", "blocks.1.qkv.weight"]
    for name in names:
        whole = apart.pop(name).detach()
        apart |= {f"{name}.{at}": torch.nn.Parameter(each.clone()) for at, each in enumerate(whole.split(rows))}
    one = Muon(fused.items(), parts=dict.fromkeys(names, rows), scale=scale)
    two = Muon(apart.items(), scale=scale)
    for at in range(3):
        give(fused, 100 * at)
        for name, weight in apart.items():
            whole, _, number = name.rpartition(".")
            weight.grad = fused[whole].grad.split(rows)[int(number)] if whole in names else fused[name].grad
        one.step(0.02)
        two.step(0.02)
    for name, weight in fused.items():
        other = torch.cat([apart[f"{name}.{at}"] for at in range(3)]) if name in names else apart[name]
        torch.testing.assert_close(weight, other, atol=1e-12, rtol=0, msg=name)
    assert set(one.state()) >= {f"momentum.{name}" for name in names}
    if rows == (6, 6, 6):
        plain = Muon(model().items(), scale=scale)
        assert set(plain.state()) == set(one.state())


def test_experts_move_as_if_they_were_weights():
    shapes = {"blocks.0.inner.up": (3, 8, 5), "blocks.1.inner.up": (3, 8, 5), "blocks.0.inner.router": (3, 5)}
    together = {name: torch.nn.Parameter(drawn(*shape, seed=at)) for at, (name, shape) in enumerate(shapes.items())}
    apart = {
        f"{name}.{expert}": torch.nn.Parameter(each.detach().clone())
        for name, weight in together.items()
        if name.endswith("up")
        for expert, each in enumerate(weight)
    }
    one = Muon(together.items(), parts={"blocks.1.inner.up": (4, 4)})
    two = Muon(apart.items(), parts={f"blocks.1.inner.up.{expert}": (4, 4) for expert in range(3)})
    assert {name for name, _ in one.others.stacks.named} == {"blocks.0.inner.router"}
    for at in range(3):
        give(together, 10 * at)
        for name, weight in apart.items():
            whole, _, expert = name.rpartition(".")
            weight.grad = together[whole].grad[int(expert)]
        one.step(0.02)
        two.step(0.02)
    for name, weight in apart.items():
        whole, _, expert = name.rpartition(".")
        torch.testing.assert_close(together[whole][int(expert)], weight, atol=1e-12, rtol=0)


def test_every_weight_is_one_of_two():
    named = model()
    optimizer = Muon(named.items())
    found = {name.partition(".")[2] for name in optimizer.state()}
    assert found == set(named)
    assert {name for name, _ in optimizer.stacks.named} == {
        name for name, weight in named.items() if name.startswith("blocks") and weight.dim() == 2
    }
    matrices = {name: weight for name, weight in named.items() if in_block(name, weight)}
    alone = Muon(matrices.items())
    assert alone.others is None
    give(matrices, 0)
    alone.step(0.1)
    alone.restore({name: each.clone() for name, each in alone.state().items()}, 1)


def test_it_learns_faster_than_adamw_where_scales_differ():
    """A linear map under inputs of very uneven scale: what orthogonal steps are for."""
    lost = {}
    inputs = drawn(256, 16) * torch.logspace(0, -2, 16, dtype=torch.float64)
    target = inputs @ drawn(16, 16, seed=1)
    for kind in ("muon", "adamw"):
        named = {"layers.0.weight": torch.nn.Parameter(torch.zeros(16, 16, dtype=torch.float64))}
        weight = named["layers.0.weight"]
        optimizer = Muon(named.items(), decay=0.0) if kind == "muon" else AdamW(named.items(), decay=0.0)
        for step in range(200):
            weight.grad = None
            loss = (inputs @ weight - target).square().mean()
            loss.backward()
            optimizer.step(0.05 * (1 - step / 200))
        lost[kind] = float(loss.detach())
    start = float(target.square().mean())
    assert lost["muon"] < 0.2 * start
    assert lost["adamw"] < 0.9 * start


def test_what_is_refused():
    named = model()
    for options, told in (
        ({"scale": "spectral"}, "'spectral' is not known; choose one of original, match_rms_adamw"),
        ({"momentum": 1.0}, "no Muon"),
        ({"ratio": 0.0}, "no Muon"),
        ({"matrices": lambda *_: False}, "none of 8 weights"),
        ({"matrices": lambda *_: True}, "of shape \\(6,\\), no matrix"),
        ({"parts": {"blocks.0.qkv.weight": (6, 6)}}, "not its 18 rows"),
        ({"parts": {"embedding.weight": (6, 6)}}, "no matrix here"),
    ):
        with pytest.raises(ValueError, match=told):
            Muon(named.items(), **options)
