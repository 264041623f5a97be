"""The ranks of a training: how the processes meet, sum and broadcast; nothing of it costs anything to one alone.

`torch._dynamo` is imported here, before any ranks meet. Every optimiser imports it sooner or later, and when it finds
a process group it keeps hold of it (torch 2.13): the group outlives its destruction, its threads outlive the
interpreter, and now and then one of them aborts the process at its end ("terminate called without an active
exception").
"""

import contextlib
import logging
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
import torch._dynamo
import torch.distributed as dist
from torch import Tensor

from tundish.cluster.metered import most_memory
from tundish.cluster.wish import wishes

LOG = logging.getLogger("tundish.ranks")


@dataclass(frozen=True)
class Ranks:
    """This process among its `world`: sums and broadcasts that cost nothing when it is alone."""

    rank: int
    world: int
    device: torch.device
    hosts: dist.ProcessGroup | None = None  # for numbers that never were on a device
    together: int = 1  # ranks that share one model and therefore their rows

    @property
    def shares(self) -> int:
        """Parts a batch is shared out in."""
        return self.world // self.together

    @property
    def share(self) -> int:
        return self.rank // self.together

    def counted(self, numbers: np.ndarray) -> np.ndarray:
        """The sum over all shares of whole numbers (n,) on the host; never waits for a device."""
        if self.world == 1:
            return numbers
        told = torch.from_numpy(numbers if self.rank % self.together == 0 else np.zeros_like(numbers))
        dist.all_reduce(told, group=self.hosts)
        return told.numpy()

    def asked_to_stop(self) -> int:
        return wishes()

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
def joined(rank: int, world: int, *, together: int = 1) -> Iterator[Ranks]:
    """Meet the other ranks: through the process group there is, else through the addresses torchrun gives."""
    if threads := os.environ.get("TUNDISH_TORCH_THREADS"):
        torch.set_num_threads(int(threads))
    gpu = torch.cuda.is_available()
    index = int(os.environ.get("LOCAL_RANK", rank)) % max(1, torch.cuda.device_count()) if gpu else 0
    if gpu:
        torch.cuda.set_device(index)  # events and streams that name no device are of the current one
    ours = world > 1 and not dist.is_initialized()
    if ours:
        if not os.environ.get("MASTER_ADDR") or not os.environ.get("MASTER_PORT"):
            raise ValueError(f"{world} ranks cannot meet; start them by torchrun, or set MASTER_ADDR and MASTER_PORT")
        where = {"device_id": torch.device("cuda", index)} if gpu else {}
        dist.init_process_group("nccl" if gpu else "gloo", rank=rank, world_size=world, **where)
    if world > 1:
        gpu = gpu and "nccl" in dist.get_backend()
    if world % together:
        raise ValueError(f"{world} ranks cannot share models by {together}; take a multiple of {together} workers")
    device = torch.device("cuda", index) if gpu else torch.device("cpu")
    hosts = dist.new_group(backend="gloo") if world > 1 else None
    try:
        yield Ranks(rank, world, device, hosts, together)
    finally:
        if world > 1 and dist.is_initialized():  # Ray Train tears a gang's down beneath it, when another rank is lost
            dist.destroy_process_group(hosts)
            if ours:
                dist.destroy_process_group()


def held_by(device: torch.device) -> dict[str, int]:
    """Bytes at most since this process began: `memory` of its own, and on a GPU `device_memory`, of its tensors."""
    device_memory = {"device_memory": torch.cuda.max_memory_allocated(device)} if device.type == "cuda" else {}
    return {"memory": most_memory(), **device_memory}


def require_place(rows: Iterable[int], most: int, least: int, together: int) -> None:
    """Before a gang of `least` (0: of no fewer) to `most` begins: refuse a number that it could never go on with."""
    if together > 1 and 0 < least < most:
        raise ValueError(
            f"{least} to {most} workers cannot share models by {together}, for any number between may come; give one "
            f"number, such as {most - most % together or together}"
        )
    refuse_idle(rows, max(1, most), together, tell=False)


def refuse_idle(rows: Iterable[int], workers: int, together: int = 1, *, tell: bool) -> None:
    """Refuse workers that would never have a row; `tell` of steps in which some have none. `rows`: of each batch."""
    sizes, shares = list(rows), workers // together
    each = f" ({together} of them share one model)" if together > 1 else ""
    if shares > max(sizes):
        raise ValueError(
            f"{workers} workers{each} have {max(sizes)} rows a step to share, so some would never have one; take "
            f"{max(sizes) * together} workers, or a batch of at least {shares} rows"
        )
    if tell and shares > min(sizes):
        LOG.warning("%d workers%s share %d rows in some steps: there some of them wait", workers, each, min(sizes))
