"""Optimisers over weights that lie in parts on two ranks: the numbers of one rank that holds them whole."""

import os
import socket

import pytest
import torch
import torch._dynamo
import torch.distributed as dist
import torch.multiprocessing
from torch import nn

from tundish.operators.model.clip import clip, norm_of
from tundish.operators.model.descent import AdamW, StableAdamW
from tundish.operators.model.muon import Muon

SHAPES = {
    "embedding": (7, 4),  # uneven over two ranks
    "blocks.0.qkv": (12, 4),
    "blocks.1.qkv": (12, 4),
    "blocks.0.up": (5, 4),
    "blocks.1.up": (1, 4),  # one rank has nothing of it
    "blocks.0.norm": (4,),
    "bias": (3,),
}
KINDS = {
    "adamw": lambda named: AdamW(named.items(), decay=0.1),
    "stable": lambda named: StableAdamW(named.items(), decay=0.1, peak=0.1),
    "muon": lambda named: Muon(
        named.items(), parts={f"blocks.{at}.qkv": (4, 4, 4) for at in (0, 1)}, decay=0.1, ratio=2.0
    ),
}


def drawn(seed):
    source = torch.Generator().manual_seed(seed)
    return {name: torch.randn(shape, generator=source, dtype=torch.float64) for name, shape in SHAPES.items()}


def gradients(step):
    return {name: each * (5.0 if step == 3 else 1.0) for name, each in drawn(100 + step).items()}


def trained(kind, place, steps, begin=None):
    named = {name: nn.Parameter(place(name, each)) for name, each in drawn(0).items()}
    optimizer = KINDS[kind](named)
    if begin:
        weights, state = begin
        for name, weight in named.items():
            weight.data.copy_(place(name, weights[name]))
        optimizer.restore(state, steps[0])
    norms = []
    for step in steps:
        for name, each in gradients(step).items():
            named[name].grad = place(name, each)
        norms.append(float(norm_of(named.values())))
        if step == 2:
            clip(named.values(), 1.0)
        optimizer.step(0.05, torch.ones((), dtype=torch.float64) if step % 2 else None)
    return named, optimizer, norms


def whole(tensor):
    return tensor.detach().full_tensor() if hasattr(tensor, "full_tensor") else tensor.detach()


def near(one, two):
    assert set(one) == set(two)
    for name in one:
        torch.testing.assert_close(whole(one[name]), whole(two[name]), atol=1e-12, rtol=0, msg=name)


def on_rank(rank, port):
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.tensor import Replicate, Shard, distribute_tensor

    torch.set_num_threads(1)
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    dist.init_process_group("gloo", rank=rank, world_size=2)
    mesh = init_device_mesh("cpu", (2,))
    try:
        for kind in KINDS:
            alone, plain, norms = trained(kind, lambda _, each: each.clone(), range(6))
            for placed in ("rows", "columns", "mixed"):

                def place(name, each, placed=placed):
                    if placed == "mixed" and name in ("bias", "blocks.0.norm"):
                        return each.clone()  # FSDP2 ignores some weights: they stay whole on every rank
                    if placed == "mixed" and name == "embedding":
                        return distribute_tensor(each.clone(), mesh, [Replicate()])
                    return distribute_tensor(each.clone(), mesh, [Shard(int(placed == "columns" and each.dim() > 1))])

                shared, optimizer, found = trained(kind, place, range(6))
                near(alone, shared)
                near(plain.state(), optimizer.state())
                assert found == pytest.approx(norms, rel=1e-12)
                # a state goes from one rank to two, and from two to two
                half, first, _ = trained(kind, lambda _, each: each.clone(), range(3))
                begin = ({n: w.detach() for n, w in half.items()}, {n: t.clone() for n, t in first.state().items()})
                near(alone, trained(kind, place, range(3, 6), begin)[0])
                half, first, _ = trained(kind, place, range(3))
                begin = ({n: whole(w) for n, w in half.items()}, {n: t.clone() for n, t in first.state().items()})
                near(alone, trained(kind, place, range(3, 6), begin)[0])
        fully_sharded()
    finally:
        dist.destroy_process_group()


def fully_sharded():
    """A module as FSDP2 leaves it: gradients come from its own backward pass."""
    from torch.distributed.fsdp import fully_shard

    def learned(shard):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(5, 9), nn.Tanh(), nn.Linear(9, 3))
        if shard:
            fully_shard(model)
        optimizer = Muon(model.named_parameters(), decay=0.1)
        for step in range(4):
            inputs = torch.randn(8, 5, generator=torch.Generator().manual_seed(step))
            model(inputs).square().mean().backward()
            optimizer.step(0.05)
            for weight in model.parameters():
                weight.grad = None
        return dict(model.named_parameters())

    for (name, one), two in zip(learned(False).items(), learned(True).values(), strict=True):
        torch.testing.assert_close(whole(one), whole(two), atol=1e-5, rtol=1e-5, msg=name)


@pytest.mark.slow
def test_shards_move_as_the_whole_does():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    torch.multiprocessing.start_processes(on_rank, (port,), nprocs=2, start_method="spawn")
