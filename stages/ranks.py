"""The ranks of a training: how the processes meet, sum and broadcast; nothing of it costs anything to one alone.

`torch._dynamo` is imported here, before any ranks meet. Every optimiser imports it sooner or later, and when it finds
a process group it keeps hold of it (torch 2.13): the group outlives its destruction, its threads outlive the
interpreter, and now and then one of them aborts the process at its end ("terminate called without an active
exception").
"""

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch._dynamo
import torch.distributed as dist
from torch import Tensor


@dataclass(frozen=True)
class Ranks:
    """This process among its `world`: sums and broadcasts that cost nothing when it is alone."""

    rank: int
    world: int
    device: torch.device

    def total(self, tensor: Tensor) -> Tensor:
        """The sum over all ranks, in place."""
        if self.world > 1:
            dist.all_reduce(tensor)
        return tensor

    def first(self, tensor: Tensor) -> Tensor:
        """What rank 0 holds, in place."""
        if self.world > 1:
            dist.broadcast(tensor, 0)
        return tensor

    def told(self, text: bytes) -> bytes:
        """What rank 0 says."""
        if self.world == 1:
            return text
        size = int(self.first(torch.tensor([len(text)], device=self.device)))
        body = (
            torch.frombuffer(bytearray(text), dtype=torch.uint8)
            if self.rank == 0
            else torch.zeros(size, dtype=torch.uint8)
        )
        return bytes(self.first(body.to(self.device)).cpu().numpy().tobytes())

    def wait(self) -> None:
        self.total(torch.zeros(1, device=self.device))


@contextlib.contextmanager
def joined(rank: int, world: int) -> Iterator[Ranks]:
    """Meet the other ranks: through the process group there is, else through the addresses torchrun gives."""
    if threads := os.environ.get("TUNDISH_TORCH_THREADS"):
        torch.set_num_threads(int(threads))
    gpu = torch.cuda.is_available()
    ours = world > 1 and not dist.is_initialized()
    if ours:
        if not os.environ.get("MASTER_ADDR") or not os.environ.get("MASTER_PORT"):
            raise ValueError(f"{world} ranks cannot meet; start them by torchrun, or set MASTER_ADDR and MASTER_PORT")
        dist.init_process_group("nccl" if gpu else "gloo", rank=rank, world_size=world)
    if world > 1:
        gpu = gpu and "nccl" in dist.get_backend()
    index = int(os.environ.get("LOCAL_RANK", rank)) % max(1, torch.cuda.device_count()) if gpu else 0
    try:
        yield Ranks(rank, world, torch.device("cuda", index) if gpu else torch.device("cpu"))
    finally:
        if ours:
            dist.destroy_process_group()
