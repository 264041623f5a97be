"""Checkpoints of several ranks (gloo, CPU): 1 -> 3 -> 2, FSDP2, boxes of any mesh, and what goes wrong at one of them.

python -m tests.test_checkpoint_ranks FOLDER DEED:WORLD:ARGUMENT ...       # what the tests run: ranks by fork
"""

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import torch._dynamo  # before any ranks meet: see stages/ranks.py
import torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, Replicate, Shard, distribute_tensor

from tundish.cluster import checkpoint, store
from tundish.cluster.checkpoint_load import load
from tundish.cluster.checkpoint_save import Saver

pytestmark = pytest.mark.filterwarnings("ignore:torch.distributed is disabled")
TOP = Path(__file__).resolve().parents[1]
EVERY = 4  # steps
ROWS = 12  # of a batch: as many for 1, 2 and 3 ranks


def ranks(folder, *phases):
    """Start the deeds, one after the other; what they printed."""
    command = [sys.executable, "-m", "tests.test_checkpoint_ranks", str(folder), *phases]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=TOP, start_new_session=True)


def done(folder, *phases):
    process = ranks(folder, *phases)
    told = process.communicate(timeout=300)[0]
    assert process.returncode == 0, told
    return told


def test_one_then_three_then_two_ranks_train_as_one(tmp_path):
    """Weights and optimiser are those of a training that one rank did without a break."""
    done(tmp_path, "train:1:6", "train:3:14", "train:2:24", "train:1:25", "alone:1:24")
    after = {step: torch.load(tmp_path / f"after-{step}.pt") for step in (6, 14, 24, 25)}
    assert [after[step].pop("start") for step in (6, 14, 24, 25)] == [0, 4, 12, 24]
    alone = torch.load(tmp_path / "alone-24.pt")
    assert alone["model"].keys() == {"0.weight", "0.bias", "2.weight", "2.bias"}
    assert len(alone["optimizer"]) == 12
    step, found = checkpoint.restore(f"{tmp_path}/checkpoints")
    assert (step, found["rows"]) == (24, 24 * ROWS)
    for group, tensors in alone.items():
        assert found[group].keys() == tensors.keys()
        for name, tensor in tensors.items():
            assert torch.equal(found[group][name], after[24][group][name]), "the bits that the two ranks had"
            torch.testing.assert_close(after[24][group][name], tensor, rtol=1e-10, atol=1e-12)
    names = sorted(path.name for path in (tmp_path / "checkpoints" / "step-000000024").iterdir())
    assert names == [f"{g}-0000{r}-of-00002.safetensors" for g in ("model", "optimizer") for r in (1, 2)] + [
        "whole.json"
    ]


def test_boxes_of_any_mesh_come_back_on_any_other(tmp_path):
    """Saved from a mesh of 2 x 2 in every placement, each box once; read by 3 ranks, and by 1."""
    done(tmp_path, "boxes_saved:4:0", "boxes_read:3:0", "boxes_read:1:0")
    whole = sum(each.nbytes for each in drawn().values()) * len(PLACEMENTS)
    files = list((tmp_path / "checkpoints" / "step-000000001").glob("*.safetensors"))
    shared = sum(each.nbytes for each in drawn().values())
    assert sum(path.stat().st_size for path in files) < whole + shared + 9_000, "bytes and headers"
    assert sum(path.name.startswith("alike") for path in files) > 1, "what all hold alike is shared out"
    found = checkpoint.read(f"{tmp_path}/checkpoints", 1)
    for name, tensor in drawn().items():
        assert torch.equal(found["alike"][name], tensor)
        for number in range(len(PLACEMENTS)):
            assert torch.equal(found["model"][f"{name}.{number}"], tensor)


def test_all_ranks_pass_over_what_one_of_them_finds_damaged(tmp_path):
    done(tmp_path, "train:2:8", "damage:1:8", "train:3:12", "damage:1:12", "train:1:13")
    assert torch.load(tmp_path / "after-12.pt")["start"] == 4
    assert torch.load(tmp_path / "after-13.pt")["start"] == 8, "which was written anew"


def test_what_fails_at_one_rank_is_raised_at_all(tmp_path):
    told = done(tmp_path, "full_disk:3:1").splitlines()
    assert len(told) == 3, told
    assert all("step 2 was not written" in line and "(rank 1: " in line and "must stay free" in line for line in told)
    assert checkpoint.latest(f"{tmp_path}/checkpoints") == 3, "the same saver goes on"


def test_ranks_that_save_different_things_are_told(tmp_path):
    told = done(tmp_path, "unlike_steps:2:0", "unlike_tensors:2:0", "other_model:2:0").splitlines()
    assert sum("rank 0 saves step 1 and rank 1 step 2" in line for line in told) == 2
    assert sum("rank 1 holds other tensors than rank 0" in line for line in told) == 2
    assert sum("is of another model" in line for line in told) == 2


@pytest.mark.slow
def test_kill_9_of_all_ranks_while_one_writes(tmp_path):
    done(tmp_path, "train:2:4")
    process = ranks(tmp_path, "stuck:2:8")
    assert process.stdout.readline() == "now\n"
    subprocess.run(["kill", "-9", "--", f"-{process.pid}"], check=True)
    process.wait()
    assert (tmp_path / "checkpoints" / "step-000000008").exists()
    done(tmp_path, "train:3:12")
    assert torch.load(tmp_path / "after-12.pt")["start"] == 4


@pytest.mark.slow
def test_a_rank_that_dies_does_not_hold_up_the_others(tmp_path):
    """Rank 1 dies before its share is written; rank 0 is told instead of waiting, and nothing is sealed."""
    process = ranks(tmp_path, "dies:2:0")
    told = process.communicate(timeout=300)[0]
    assert "step 1 was not written" in told
    assert checkpoint.latest(f"{tmp_path}/checkpoints") is None


# What the ranks do


def model_of():
    """Sizes that 2 and 3 do not divide; a bias shorter than three ranks."""
    torch.manual_seed(1)
    layers = torch.nn.Linear(7, 5), torch.nn.Tanh(), torch.nn.Linear(5, 2)
    return torch.nn.Sequential(*layers).double()


def begun(model):
    """AdamW with its tensors as they are before the first step."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for parameter in model.parameters():
        means = {"exp_avg": torch.zeros_like(parameter), "exp_avg_sq": torch.zeros_like(parameter)}
        optimizer.state[parameter] = {"step": torch.tensor(0.0), **means}
    return optimizer


def state_of(model, optimizer):
    kept = {
        f"{name}.{key}": value
        for name, parameter in model.named_parameters()
        for key, value in optimizer.state[parameter].items()
    }
    return {"model": dict(model.state_dict()), "optimizer": kept}


def whole(state):
    return {
        group: {name: each.full_tensor() if isinstance(each, DTensor) else each for name, each in tensors.items()}
        for group, tensors in state.items()
    }


def stepped(model, optimizer, step, rank, world):
    inputs = torch.randn(ROWS, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(step))
    mine = inputs[rank::world]
    loss = (model(mine) - mine[:, :2].sin()).square().sum() * world / ROWS  # FSDP takes the mean over ranks
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()


def train(rank, world, folder, steps):
    model = fully_shard(model_of())
    optimizer = begun(model)
    found = load(f"{folder}/checkpoints", state_of(model, optimizer))
    start = found.step if found else 0
    assert not found or found.plain == {"rows": start * ROWS}
    with Saver(f"{folder}/checkpoints", keep=2) as saver:
        for step in range(start, steps):
            stepped(model, optimizer, step, rank, world)
            if (step + 1) % EVERY == 0:
                saver.save({**state_of(model, optimizer), "rows": (step + 1) * ROWS}, step + 1)
    after = whole(state_of(model, optimizer))
    if rank == 0:
        torch.save({"start": start, **after}, folder / f"after-{steps}.pt")


def damage(rank, world, folder, step):
    """Of what the second rank wrote: a byte less, or all of it."""
    (path,) = (folder / "checkpoints" / f"step-{step:09d}").glob("optimizer-00002-of-*.safetensors")
    path.write_bytes(path.read_bytes()[:-1]) if step == 8 else path.unlink()


def alone(rank, world, folder, steps):
    model = model_of()
    optimizer = begun(model)
    for step in range(steps):
        stepped(model, optimizer, step, rank, world)
    torch.save(state_of(model, optimizer), folder / f"alone-{steps}.pt")


def stuck(rank, world, folder, steps):
    """Rank 1 never ends its file."""
    if rank == 1:
        store._publish = lambda *what: (print("now", flush=True), time.sleep(60))
    train(rank, world, folder, steps)


SHAPES = {"square": (6, 6), "odd": (5, 3), "thin": (1, 7), "row": (3,), "none": (), "empty": (0, 2)}
PLACEMENTS = [
    [Shard(0), Replicate()],
    [Replicate(), Shard(0)],
    [Replicate(), Replicate()],
    [Shard(0), Shard(1)],
    [Shard(1), Shard(0)],
    [Shard(0), Shard(0)],
]


def drawn():
    torch.manual_seed(3)
    return {name: torch.randn(shape) for name, shape in SHAPES.items()}


def placements(tensor, number):
    """Of a tensor with too few dimensions, replicas."""
    return [p if not p.is_shard() or p.dim < tensor.ndim else Replicate() for p in PLACEMENTS[number]]


def boxes_saved(rank, world, folder, _):
    mesh = init_device_mesh("cpu", (2, 2))
    spread = {
        f"{name}.{number}": distribute_tensor(tensor, mesh, placements(tensor, number))
        for name, tensor in drawn().items()
        for number in range(len(PLACEMENTS))
    }
    with Saver(f"{folder}/checkpoints") as saver:
        saver.save({"model": spread, "alike": drawn()}, 1)


def boxes_read(rank, world, folder, _):
    mesh = init_device_mesh("cpu", (world,))
    for dim in range(2):
        spread = {
            f"{name}.{number}": distribute_tensor(
                torch.full_like(tensor, 7), mesh, [Shard(dim) if tensor.ndim > dim else Replicate()]
            )
            for name, tensor in drawn().items()
            for number in range(len(PLACEMENTS))
        }
        alike = {name: torch.full_like(tensor, 7) for name, tensor in drawn().items()}
        assert load(f"{folder}/checkpoints", {"model": spread, "alike": alike}).step == 1
        for name, tensor in drawn().items():
            assert torch.equal(alike[name], tensor)
            for number in range(len(PLACEMENTS)):
                assert torch.equal(spread[f"{name}.{number}"].full_tensor(), tensor), (name, number, dim)


def full_disk(rank, world, folder, bad):
    state = {"model": {str(number): torch.ones(4) for number in range(world)}}
    with Saver(f"{folder}/checkpoints") as saver:
        saver.save(state, 1, block=True)
        if rank == bad:
            os.environ["TUNDISH_MIN_FREE"] = "100%"
        saver.save(state, 2)
        try:
            saver.wait()
        except ValueError as error:
            say(error)
        os.environ.pop("TUNDISH_MIN_FREE", None)
        saver.save(state, 3)


def say(error):
    """A line in one write: ranks share a pipe, and an unbuffered print writes the end of its line by itself."""
    os.write(1, f"{error}\n".encode())


def unlike_steps(rank, world, folder, _):
    told(folder, {"model": {"a": torch.ones(1)}}, rank + 1)


def unlike_tensors(rank, world, folder, _):
    told(folder, {"model": {"a": torch.ones(1 + rank)}}, 1)


def told(folder, state, step):
    try:
        with Saver(f"{folder}/checkpoints") as saver:
            saver.save(state, step)
    except (ValueError, RuntimeError) as error:
        say(error)


def other_model(rank, world, folder, _):
    with Saver(f"{folder}/checkpoints") as saver:
        saver.save({"model": {"a": torch.ones(1)}}, 1)
    try:
        load(f"{folder}/checkpoints", {"model": {"b": torch.ones(1)}})
    except ValueError as error:
        say(error)


def dies(rank, world, folder, _):
    if rank == 1:
        store._publish = lambda *what: os.kill(os.getpid(), signal.SIGKILL)
    told(folder, {"model": {str(number): torch.ones(4) for number in range(world)}}, 1)


def met(deed, rank, world, folder, argument):
    torch.set_num_threads(1)
    meeting = f"file://{folder}/meet-{deed}-{world}-{argument}"
    dist.init_process_group("gloo", init_method=meeting, rank=rank, world_size=world)
    globals()[deed](rank, world, folder, argument)
    dist.destroy_process_group()


def main(folder, *phases):
    fork = multiprocessing.get_context("fork")  # so that torch is imported once
    for phase in phases:
        deed, world, argument = phase.split(":")
        given = [(deed, rank, int(world), Path(folder), int(argument)) for rank in range(int(world))]
        processes = [fork.Process(target=met, args=one) for one in given]
        for process in processes:
            process.start()
        for process in processes:
            process.join()
        if any(process.exitcode for process in processes):
            sys.exit(f"{phase} ended with {[process.exitcode for process in processes]}")


if __name__ == "__main__":
    main(*sys.argv[1:])
