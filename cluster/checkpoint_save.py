"""Saving while training goes on: every rank copies its share to host memory, and writes it in the background.

    with Saver(f"{out}/checkpoints", keep=2) as saver:      # on every rank
        for step in range(start, steps):
            ...                                             # train
            if (step + 1) % 100 == 0:
                saver.save({"model": model.state_dict(), "optimizer": optimizer.state(), "tokens": tokens}, step + 1)

Promises: what is written are the values at the time of the call, whatever becomes of the tensors right after; a
checkpoint is sealed, by rank 0, when all ranks have their share on disk, and only then are older ones removed; one is
written at a time, and an error of the writing is raised by the next `save` or `wait`, on every rank. A tensor that all
ranks hold alike is copied and written by one of them; of a DTensor each writes its box, and where several hold the same
box one of them. Costs host memory for this rank's share, kept for the next time (pinned where it comes from a GPU), and
a thread. Refuses ranks that save different steps or different tensors.

torch.distributed.checkpoint plans who writes what, checks that the boxes fill every tensor, and carries an error from
any rank to all. Its storages are not used. FileSystemWriter pickles the index and every tensor, so that to read is to
run what the bytes say. HuggingFaceStorageWriter needs no pickle and knows the same dtypes, but copies the whole share
once more to write it, and knows local folders only; its reader takes whatever files lie in the folder, and where one
is missing it leaves the tensor as it was (torch 2.13).
"""

import contextlib
import hashlib
import logging
import warnings
import zlib
from collections.abc import Mapping
from concurrent import futures
from dataclasses import replace
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch import Tensor
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.default_planner import DefaultSavePlanner
from torch.distributed.checkpoint.metadata import Metadata, MetadataIndex, StorageMeta
from torch.distributed.checkpoint.planner import SavePlan, SavePlanner, WriteItem
from torch.distributed.checkpoint.storage import StorageWriter, WriteResult
from torch.distributed.tensor import DTensor
from torch.futures import Future

from tundish.cluster import checkpoint, store
from tundish.cluster.checkpoint_parts import Part, in_order, total, views
from tundish.cluster.checkpoint_parts import write as write_parts

LOG = logging.getLogger("tundish.checkpoint")
FAILURES = (Exception, CheckpointException)  # the latter is a BaseException
PATIENCE = timedelta(hours=2)  # with the slowest rank's disk; a rank that died is noticed at once

# One process alone is a case like any other, and needs no warning at every checkpoint.
warnings.filterwarnings("ignore", message="torch.distributed is disabled, unavailable or uninitialized")

Staged = dict[str, tuple[list[Part], Tensor]]  # by group: the parts this rank writes, and their bytes in order


class Saver:
    """Writes the states of a training under `uri`; made, called and closed by all ranks alike."""

    def __init__(self, uri: str, *, keep: int = 2) -> None:
        checkpoint.require_keep(keep)
        self.uri, self.keep = uri, keep
        together = dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1
        self.rank, self.world = (dist.get_rank(), dist.get_world_size()) if together else (0, 1)
        # a group of its own: the background must not wait for, or be waited for by, what training says meanwhile
        self.group = dist.new_group(backend="gloo", timeout=PATIENCE) if together else None
        self.buffers: dict[str, Tensor] = {}
        self.thread = futures.ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        self.under_way: futures.Future[None] | None = None

    def save(self, state: Mapping[str, Any], step: int, *, block: bool = False) -> None:
        """Take the values of a state as they are now, and write them in the background; with `block`, wait for that.

        A value is a mapping of names to tensors or DTensors, or plain JSON, which rank 0 writes.
        """
        try:
            self.wait()
        except ValueError as error:
            if not block:
                raise
            LOG.warning("%s", error)  # who blocks may be about to be stopped: this state matters more
        groups, plain = checkpoint.split(state)
        plan, staged = self._staged(groups, step)
        self.under_way = self.thread.submit(self._write, plan, staged, plain, step)
        if block:
            self.wait()

    def wait(self) -> None:
        """Until what is under way is on disk; raises why it is not."""
        done, self.under_way = self.under_way, None
        if done is not None:
            done.result()

    def close(self) -> None:
        """Wait, and leave the group; before the process group is destroyed."""
        try:
            self.wait()
        finally:
            self.thread.shutdown()
            self.buffers.clear()
            if self.group is not None and dist.is_initialized():
                dist.destroy_process_group(self.group)
            self.group = None

    def __enter__(self) -> "Saver":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            self.close()
        except ValueError as error:
            if kind is None:
                raise
            LOG.warning("%s", error)  # what ended the training is the error to be seen

    @torch.no_grad()
    def _staged(self, groups: checkpoint.Groups, step: int) -> tuple[SavePlan, Staged]:
        """This rank's share: what it is, for the plan, and its bytes in host memory."""
        flat = {f"{group}/{name}": each for group, found in groups.items() for name, each in found.items()}
        planner = DefaultSavePlanner(flatten_state_dict=False, flatten_sharded_tensors=False)
        planner.set_up_planner(flat, is_coordinator=self.rank == 0)
        owners = _owners({name: each for name, each in flat.items() if not isinstance(each, DTensor)}, self.world)
        items = [
            item
            for item in planner.create_local_plan().items
            if owners.get(item.index.fqn, self.rank) == self.rank and _is_mine(item, flat[item.index.fqn])
        ]
        staged: Staged = {}
        gpus: set[torch.device] = set()
        for group in groups:
            mine = {item.index.fqn.partition("/")[2]: item for item in items if item.index.fqn.startswith(f"{group}/")}
            if not mine:
                continue
            parts = in_order(_part(name, item) for name, item in mine.items())
            sources = {name: planner.resolve_data(item) for name, item in mine.items()}
            here = {source.device for source in sources.values() if source.is_cuda}
            buffer = self._buffer(group, total(parts), pinned=bool(here))
            for part, place in views(parts, buffer):
                place.copy_(sources[part.name], non_blocking=sources[part.name].is_cuda)
            staged[group] = parts, buffer
            gpus |= here
        for gpu in gpus:
            torch.cuda.current_stream(gpu).synchronize()
        alike = sorted((name, str(each.dtype), tuple(each.shape)) for name, each in flat.items() if name in owners)
        told = (step, hashlib.sha256(repr(alike).encode()).hexdigest())
        return SavePlan(items, planner_data=told), staged

    def _buffer(self, group: str, size: int, pinned: bool) -> Tensor:
        found = self.buffers.get(group)
        if found is None or len(found) != size or found.is_pinned() != pinned:
            self.buffers.pop(group, None)  # not both at once
            found = self.buffers[group] = torch.empty(size, dtype=torch.uint8, device="cpu", pin_memory=pinned)
        return found

    def _write(self, plan: SavePlan, staged: Staged, plain: str, step: int) -> None:
        writer = Writer(self.uri, step, self.keep, staged, plain, self.rank, self.world)
        try:
            dcp.save(
                {},
                storage_writer=writer,
                planner=Made(plan, self.world),
                process_group=self.group,
                no_dist=self.world == 1,
            )
        except FAILURES as error:
            if isinstance(error, CheckpointException):  # all ranks know of it, so nobody will seal
                writer.withdraw()
            causes = [why for why, _ in error.failures.values()] if isinstance(error, CheckpointException) else [error]
            theirs = any(isinstance(why, OSError | ValueError) for why in causes)  # else another rank is gone
            raise (ValueError if theirs else RuntimeError)(
                f"the checkpoint of step {step} was not written under {self.uri!r} ({reason(error)}); the ones before "
                "it are as they were: mend this and save again"
            ) from error


def reason(error: BaseException) -> str:
    """What went wrong, on which rank."""
    if not isinstance(error, CheckpointException):
        return str(error) or type(error).__name__
    return "; ".join(f"rank {rank}: {why!s}" for rank, (why, _) in sorted(error.failures.items()))


def _owners(tensors: Mapping[str, Tensor], world: int) -> dict[str, int]:
    """Who writes each tensor that all ranks hold alike: the largest first, each to whom has least."""
    loads, found = [0] * world, {}
    for name in sorted(tensors, key=lambda name: (-tensors[name].nbytes, name)):
        found[name] = loads.index(min(loads))
        loads[found[name]] += tensors[name].nbytes
    return found


def _is_mine(item: WriteItem, tensor: Tensor) -> bool:
    """Whether this rank writes its box: it is not empty, and of those who hold the same it is the one."""
    if not isinstance(tensor, DTensor):
        return True
    if tensor.numel() and not item.tensor_data.chunk.sizes.numel():
        return False
    mesh, turn = tensor.device_mesh, zlib.crc32(item.index.fqn.encode())
    coordinates = mesh.get_coordinate()
    return all(
        coordinates[dim] == turn % mesh.size(dim)
        for dim, placement in enumerate(tensor.placements)
        if placement.is_replicate()
    )


def _part(name: str, item: WriteItem) -> Part:
    told = item.tensor_data
    offsets, sizes = tuple(told.chunk.offsets), tuple(told.chunk.sizes)
    return Part(name, told.properties.dtype, tuple(told.size), offsets, sizes)


class Made(DefaultSavePlanner):
    """A plan that was made, and whose tensors were copied, when `save` was called."""

    def __init__(self, made: SavePlan, world: int = 1) -> None:
        super().__init__(flatten_state_dict=False, flatten_sharded_tensors=False)
        self.made, self.world = made, world

    def set_up_planner(
        self, state_dict: Any, storage_meta: StorageMeta | None = None, is_coordinator: bool = False
    ) -> None:
        """Nothing is looked at any more."""

    def create_local_plan(self) -> SavePlan:
        return self.made

    def create_global_plan(self, all_plans: list[SavePlan]) -> tuple[list[SavePlan], Metadata]:
        if len(all_plans) != self.world:  # where no groups are left, DCP takes a rank for one that is alone (2.13)
            raise ValueError(f"{self.world} ranks save, of which only {len(all_plans)} are here; start them again")
        first, *others = [plan.planner_data for plan in all_plans]
        for rank, told in enumerate(others, 1):
            if told[0] != first[0]:
                raise ValueError(f"rank 0 saves step {first[0]} and rank {rank} step {told[0]}; save the same step")
            if told != first:
                raise ValueError(f"rank {rank} holds other tensors than rank 0; what is not alike must be DTensors")
        return super().create_global_plan(all_plans)


class Writer(StorageWriter):
    """One file per group and rank; the seal after all of them."""

    def __init__(
        self, uri: str, step: int, keep: int, staged: Staged, plain: str, rank: int = 0, world: int = 1
    ) -> None:
        self.uri, self.step, self.keep, self.staged, self.plain = uri, step, keep, staged, plain
        self.folder = checkpoint.folder_of(uri, step)
        self.names: list[str] = []
        self.share = f"-{rank + 1:05d}-of-{world:05d}" if world > 1 else ""

    def reset(self, checkpoint_id: Any = None) -> None:
        """One writer writes one checkpoint."""

    def set_up_storage_writer(self, is_coordinator: bool, *args: Any, **kwargs: Any) -> None:
        """What is staged is all there is to write."""

    def prepare_local_plan(self, plan: SavePlan) -> SavePlan:
        return plan

    def prepare_global_plan(self, plans: list[SavePlan]) -> list[SavePlan]:
        mark = checkpoint.fresh(self.folder)
        return [replace(plan, storage_data=mark) for plan in plans]

    def write_data(self, plan: SavePlan, planner: SavePlanner) -> Future[list[WriteResult]]:
        results = []
        for group, (parts, buffer) in self.staged.items():
            name = f"{group}{self.share}{plan.storage_data}.safetensors"
            told = write_parts(store.join(self.folder, name), parts, buffer)
            self.names.append(name)
            about = {"group": group, "size": told.size, "digest": told.digest}
            results.append(WriteResult(MetadataIndex(name), told.size, about))
        done: Future[list[WriteResult]] = Future()
        done.set_result(results)
        return done

    def finish(self, metadata: Metadata, results: list[list[WriteResult]]) -> None:
        files = {one.index.fqn: one.storage_data for rank in results for one in rank}
        checkpoint.seal(self.folder, self.step, files, self.plain)
        try:
            checkpoint.prune(self.uri, self.step, self.keep)
        except (OSError, ValueError) as error:  # this one is whole; the old ones go next time
            LOG.warning("checkpoints before step %d stay (%s)", self.step, error)

    def withdraw(self) -> None:
        """Make room: on a full disk a share of nothing would be in the way of the next try."""
        for name in self.names:
            with contextlib.suppress(OSError, ValueError):
                store.remove(store.join(self.folder, name))

    @classmethod
    def validate_checkpoint_id(cls, checkpoint_id: Any) -> bool:
        return False
