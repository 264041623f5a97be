"""Going on from a checkpoint: read in place, into tensors that are spread over any number of ranks.

    found = load(f"{out}/checkpoints", {"model": model.state_dict(), "optimizer": optimizer.state()})    # on every rank
    step, plain = (found.step, found.plain) if found else (0, {})

Promises: nothing is read into a tensor before every byte of the checkpoint was compared with its seal, each rank a
share of the files; all ranks take the same checkpoint, the newest that is whole, and what was passed over is said with
the reason. Each rank reads the boxes it needs, whatever ranks wrote them. Costs one reading to check, by all ranks
together, and one reading of what each holds. Refuses a checkpoint of other tensors than those asked for, before one of
them is touched.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch import Tensor
from torch.distributed.checkpoint.default_planner import DefaultLoadPlanner
from torch.distributed.checkpoint.metadata import (
    ChunkStorageMetadata,
    Metadata,
    MetadataIndex,
    TensorProperties,
    TensorStorageMetadata,
)
from torch.distributed.checkpoint.planner import LoadPlan, LoadPlanner
from torch.distributed.checkpoint.storage import StorageReader
from torch.futures import Future

from tundish.cluster import checkpoint, store
from tundish.cluster.checkpoint import Sealed, Torn
from tundish.cluster.checkpoint_parts import Part, read_box, read_header
from tundish.cluster.checkpoint_save import FAILURES, reason

T = TypeVar("T")
Table = dict[str, list[tuple[Part, int]]]  # by file: its parts, and where each begins


@dataclass(frozen=True)
class Found:
    """The checkpoint that was read: its step, its plain values, and what was passed over for it, and why."""

    step: int
    plain: dict[str, Any]
    passed: tuple[str, ...] = ()


def load(uri: str, state: Mapping[str, Any], step: int | None = None) -> Found | None:
    """Read the newest whole checkpoint, or that of a step, into the tensors of a state; None when there is none.

    Values of the state that are no mappings of tensors are left alone.
    """
    wanted, _ = checkpoint.split({name: value for name, value in state.items() if isinstance(value, Mapping)})
    with _circle() as circle:
        passed: list[Torn] = []
        for each in [step] if step is not None else circle.first(lambda: checkpoint.steps(uri)[::-1]):
            try:
                found, table = _whole(circle, uri, each)
            except Torn as torn:
                if step is not None:
                    raise ValueError(f"the checkpoint of step {step} is not whole ({torn}); take another") from torn
                passed.append(checkpoint.tell(torn) if circle.rank == 0 else torn)
                continue
            circle.all(lambda table=table, found=found: _require_same(found, table, wanted))
            _read(circle, found, table, wanted)
            return Found(found.step, found.plain, tuple(map(str, passed)))
        checkpoint.require_read(uri, passed)
    return None


@dataclass(frozen=True)
class Circle:
    """The ranks that load together; what goes wrong at one is raised at all."""

    rank: int
    world: int
    group: Any

    def first(self, deed: Callable[[], T]) -> T:
        """What rank 0 finds."""
        return self._shared([_tried(deed)] if self.rank == 0 else [None])[0]

    def all(self, deed: Callable[[], T]) -> list[T]:
        """What each rank finds."""
        tried = _tried(deed)
        if self.world == 1:
            return _opened([tried])
        every: list[Any] = [None] * self.world
        dist.all_gather_object(every, tried, group=self.group)
        return _opened(every)

    def _shared(self, tried: list[Any]) -> list[Any]:
        if self.world > 1:
            dist.broadcast_object_list(tried, src=0, group=self.group)
        return _opened(tried)


def _tried(deed: Callable[[], T]) -> tuple[T | None, Exception | None]:
    try:
        return deed(), None
    except Exception as error:  # of a kind that surely goes over the wire
        return None, error if type(error) in (Torn, ValueError) else RuntimeError(f"{type(error).__name__}: {error}")


def _opened(tried: list[tuple[T, Exception | None]]) -> list[T]:
    for _, error in tried:
        if error is not None:
            raise error
    return [value for value, _ in tried]


@contextmanager
def _circle() -> Iterator[Circle]:
    if not (dist.is_available() and dist.is_initialized()) or dist.get_world_size() == 1:
        yield Circle(0, 1, None)
        return
    group = dist.new_group(backend="gloo")  # what is said here is said in host memory
    try:
        yield Circle(dist.get_rank(), dist.get_world_size(), group)
    finally:
        dist.destroy_process_group(group)


def _whole(circle: Circle, uri: str, step: int) -> tuple[Sealed, Table]:
    """A checkpoint all of whose bytes are as they were sealed, each rank having read its share."""
    found = circle.first(lambda: checkpoint.sealed(uri, step))
    largest = sorted(found.files, key=lambda name: (-found.files[name]["size"], name))
    circle.all(lambda: checkpoint.check(found, largest[circle.rank :: circle.world]))
    return found, circle.first(lambda: {name: _header(found, name) for name in found.files})


def _header(found: Sealed, name: str) -> list[tuple[Part, int]]:
    with store.opened(store.join(found.folder, name)) as stream:
        return read_header(stream)


def _require_same(found: Sealed, table: Table, wanted: checkpoint.Groups) -> None:
    """That the checkpoint holds the tensors that are asked for, and in their groups no others."""
    there: dict[str, dict[str, tuple[torch.dtype, tuple[int, ...]]]] = {}
    for file, parts in table.items():
        there.setdefault(found.files[file]["group"], {}).update({p.name: (p.dtype, p.shape) for p, _ in parts})
    for group, tensors in wanted.items():
        here = {name: (tensor.dtype, tuple(tensor.shape)) for name, tensor in tensors.items()}
        if here == (held := there.get(group, {})):
            continue
        name = min(name for name in {*here, *held} if here.get(name) != held.get(name))
        raise ValueError(
            f"{found.folder} is of another model: it holds {_said(held.get(name))} as {group}/{name} and "
            f"{_said(here.get(name))} is asked for; use the configuration it was trained with, or another folder"
        )


def _said(kind: tuple[torch.dtype, tuple[int, ...]] | None) -> str:
    """
    >>> _said((torch.int8, (2, 3)))
    'int8 (2, 3)'
    """
    return "nothing" if kind is None else f"{str(kind[0]).removeprefix('torch.')} {kind[1]}"


@torch.no_grad()
def _read(circle: Circle, found: Sealed, table: Table, wanted: checkpoint.Groups) -> None:
    flat: dict[str, Any] = {f"{group}/{name}": each for group, some in wanted.items() for name, each in some.items()}
    if meta := [name for name, each in flat.items() if each.is_meta]:
        raise ValueError(f"{meta[0]} has no memory yet; move the model to its device before it is read into")
    planner = DefaultLoadPlanner(flatten_state_dict=False, flatten_sharded_tensors=False)
    try:
        reader = Reader(found, table)
        dcp.load(flat, storage_reader=reader, planner=planner, process_group=circle.group, no_dist=circle.world == 1)
    except FAILURES as error:
        raise ValueError(f"{found.folder} could not be read ({reason(error)}); mend this and run again") from error


class Reader(StorageReader):
    """Boxes of the parts in a checkpoint's files."""

    def __init__(self, found: Sealed, table: Table) -> None:
        self.folder = found.folder
        self.places = {
            MetadataIndex(f"{found.files[file]['group']}/{part.name}", part.offsets): (file, part, begin)
            for file, parts in table.items()
            for part, begin in parts
        }

    def reset(self, checkpoint_id: Any = None) -> None:
        """One reader reads one checkpoint."""

    def read_metadata(self) -> Metadata:
        told: dict[str, TensorStorageMetadata] = {}
        for index, (_, part, _) in self.places.items():
            new = TensorStorageMetadata(TensorProperties(dtype=part.dtype), torch.Size(part.shape), [])
            chunk = ChunkStorageMetadata(torch.Size(part.offsets), torch.Size(part.sizes))
            told.setdefault(index.fqn, new).chunks.append(chunk)
        return Metadata(told)

    def set_up_storage_reader(self, metadata: Metadata, is_coordinator: bool) -> None:
        """Everything needed is in the table."""

    def prepare_local_plan(self, plan: LoadPlan) -> LoadPlan:
        return plan

    def prepare_global_plan(self, plans: list[LoadPlan]) -> list[LoadPlan]:
        return plans

    def read_data(self, plan: LoadPlan, planner: LoadPlanner) -> Future[None]:
        by_file: dict[str, list[Any]] = {}
        for item in plan.items:
            by_file.setdefault(self.places[item.storage_index][0], []).append(item)
        for file, items in by_file.items():
            with store.opened(store.join(self.folder, file)) as stream:
                for item in sorted(items, key=lambda item: self.places[item.storage_index][2]):
                    _, part, begin = self.places[item.storage_index]
                    target: Tensor = planner.resolve_tensor(item).detach()
                    target.copy_(read_box(stream, part, begin, item.storage_offsets, item.lengths))
                    planner.commit_tensor(item, target)
        done: Future[None] = Future()
        done.set_result(None)
        return done

    @classmethod
    def validate_checkpoint_id(cls, checkpoint_id: Any) -> bool:
        return False
