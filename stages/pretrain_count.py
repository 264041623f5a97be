"""What of a pretraining can be counted before it begins: steps, parameters, bytes of a worker by part, of a checkpoint.

    copied      weights, gradients and moments of the whole model on every worker
    sharded     of each weight the rows that fall to a worker, and what it gathers while blocks run
    sliced      those of a model with so many times fewer heads and less inner width, which is what a slice is

Promises: parameters, weights, gradients, moments and the files of a checkpoint to the byte, for they are counted on the
very model and optimiser, without memory (on the meta device); steps as the run has them, where the shards are there;
what a forward pass keeps for the way back in proportion to its rows. Costs some milliseconds, for `way_back` two
forward passes of a row or two on the CPU. What is gathered is a bound: how far FSDP2 gathers ahead is its own affair.
"""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor, nn

from tundish.cluster.checkpoint_parts import Part, header, in_order, total
from tundish.operators.model.curriculum import Curriculum
from tundish.operators.model.experts import Experts
from tundish.operators.model.family import Model
from tundish.operators.model.guard import Guard
from tundish.operators.model.hiding import Hiding
from tundish.operators.model.init import parameters_of
from tundish.operators.model.objective import Detection, counts_of, part_of, whole
from tundish.operators.model.phases import Phase, Schedule
from tundish.operators.model.plan import Plan, Source, Stretch, weights_of
from tundish.operators.model.rows import Layout, Shard, cut
from tundish.operators.model.shape import Shape
from tundish.operators.model.stream import Aim, Stream
from tundish.stages.pretrain_model import losses_of, optimizer_of, trainee_of
from tundish.stages.pretrain_passes import bounded
from tundish.stages.pretrain_task import PretrainTask
from tundish.stages.ranks import Ranks
from tundish.stages.scale import Scale
from tundish.stages.spread import Copied, precision_of, spread_of
from tundish.stages.spread_sharded import apart
from tundish.stages.token_stream import TokenFiles, mapped, mean_places

PAGES = (530, 1.05)  # median and spread of a web page's tokens, log-normal
FULL = 0.99  # of a row that holds something, where there are no shards to ask
SAMPLED = 4096  # documents of a source whose lengths are looked at


@dataclass(frozen=True)
class Counted:
    """`memory`: bytes of a worker by part, but for what forward passes keep; `checkpoint`: bytes of the files of one,
    written by one worker (several add a header each)."""

    parameters: int
    memory: dict[str, int]
    checkpoint: int


def counted(task: PretrainTask, workers: int = 1) -> Counted:
    weights, states = precision_of(task.dtype)
    model = bare(task, weights)
    named = dict(model.named_parameters())
    optimizer = optimizer_of(task, list(named.items()), task.shapes[0], False).state()
    guard = Guard("cpu", kinds=len(task.kinds)).state()
    groups = {
        "model": named,
        "optimizer": optimizer,
        "guard": guard,
        "scale": Scale(torch.device("cpu"), False).state(),
    }
    files = [in_order(Part.whole(name, each) for name, each in group.items()) for group in groups.values()]
    checkpoint = sum(len(header(parts)) + total(parts) for parts in files)
    mine, shards = named, 1
    if task.tensor > 1:
        mine = dict(bare(sliced(task), weights).named_parameters())
        optimizer = optimizer_of(task, list(mine.items()), task.shapes[0], False).state()
    elif task.spread == "sharded":
        shards = workers
    held = sum(_shard(each, shards) for each in mine.values())
    memory = {"weights": held, "gradients": held, "optimiser": sum(_shard(each, shards) for each in optimizer.values())}
    if shards > 1:
        memory["gathered"] = _gathered(task, model, states, workers)
    return Counted(parameters_of(model), memory, checkpoint)


def bare(task: PretrainTask, dtype: torch.dtype) -> nn.Module:
    """What a task trains, without memory."""
    shape, generator = task.shapes
    with torch.device("meta"):
        model = Detection(shape, generator, sharing=task.sharing) if generator else Model(shape)
    model.to(dtype)
    if isinstance(model, Detection):
        model.tie()
    return model


def sliced(task: PretrainTask) -> PretrainTask:
    """The task of one worker alone, from fresh weights: where models are sliced, of one of fewer heads and less inner
    width, as wide as ever."""
    shape, generator = task.shapes
    mine, beside = _slice(shape, task.tensor), generator and _slice(generator, task.tensor)
    return replace(task, model=mine, shape={}, generator=beside, tensor=1, spread="copied", begin="")


def _slice(shape: Shape, of: int) -> Shape:
    if of == 1:
        return shape
    if shape.heads % of or shape.ff % of:
        raise ValueError(
            f"{shape.heads} heads and an inner width of {shape.ff} do not divide by {of}; slice into fewer"
        )
    return replace(shape, heads=shape.heads // of, head=shape.head_width, ff=shape.ff // of)


def _shard(tensor: Tensor, shards: int) -> int:
    """Bytes of the rows of a tensor that fall to the first of so many workers; what has no rows is on all."""
    if not tensor.dim() or shards == 1:
        return tensor.numel() * tensor.element_size()
    return -(-len(tensor) // shards) * (tensor.numel() // max(1, len(tensor))) * tensor.element_size()


def _gathered(task: PretrainTask, model: nn.Module, states: torch.dtype, workers: int) -> int:
    """What sharded weights take beside the shards: all that is in no block, the block that runs and the next, and
    gradients before they are summed, of all weights where a step has several parts."""
    blocks = list(apart(model))
    own = next(model.parameters()).element_size()
    inside = {id(weight) for block in blocks for weight in block.parameters()}
    outside = sum(weight.numel() for weight in model.parameters() if id(weight) not in inside) * own
    sizes = [
        sum(weight.numel() for weight in block.parameters())
        * (own if any(isinstance(each, Experts) for each in block.modules()) else states.itemsize)
        for block in blocks
    ]
    running = sum(sorted(sizes)[-2:])
    several = any(
        0 < bounded(task, phase.row) < -(-max(phase.batch) // workers) or phase.batch[0] != phase.batch[1]
        for phase in task.aims.phases
    )
    gradients = parameters_of(model) * own if several else outside + max(sizes, default=0)
    return outside + running + gradients


# how many steps


def schedule_of(task: PretrainTask) -> Schedule:
    """The steps of a task: by its shards where they are there, each phase by its own rows."""
    aims: Curriculum = task.aims
    return aims.schedule(lambda phase: mean_of(task, phase))


def mean_of(task: PretrainTask, phase: Phase) -> float:
    """Tokens of a row in a phase."""
    files = files_at(task, phase)
    if not files:
        return FULL * phase.row
    sources = [one.source for one in files]
    return mean_places(files, dict(weights_of(sources, (dict(task.weights) or {0: None}).get(0))))


def files_at(task: PretrainTask, phase: Phase) -> tuple[TokenFiles, ...]:
    """The sources of a phase with the numbers of their rows."""
    given, layout = task.sources, Layout(phase.row, phase.context)
    files = given.get((phase.row, phase.context), ()) if hasattr(given, "get") else given
    return tuple(one.counted(layout) for one in files)


# what passes keep


@contextlib.contextmanager
def noting(spread: Copied) -> Iterator[dict[int, int]]:
    """Bytes, by where they lie, that forward passes inside keep for the way back, weights not counted."""
    own = {weight.untyped_storage().data_ptr() for weight in spread.weights}
    kept: dict[int, int] = {}

    def note(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        yield kept


def copied(task: PretrainTask, device: torch.device, *, compiled: bool) -> Copied:
    """What one worker trains, a slice of it where it is sliced, alone on a device."""
    mine = sliced(task)
    spread = spread_of(mine, trainee_of(mine, precision_of(task.dtype)[0]), Ranks(0, 1, device), compiled=compiled)
    assert isinstance(spread, Copied)
    return spread


def way_back(task: PretrainTask, phase: Phase) -> tuple[float, float]:
    """Bytes that a forward pass of a phase keeps: of any, and more for each row. Counted on the CPU, uncompiled, on one
    segment and on two."""
    spread, states = copied(task, torch.device("cpu"), compiled=False), precision_of(task.dtype)[1]
    name = max(phase.mixture, key=lambda each: each[1])[0]
    aim = Aim(task.aims.objectives[name], None if phase.rate is None else max(phase.rate))
    found = []
    for rows in (1, 2):
        batch = batch_of(task, Layout(phase.context, phase.context), rows, aim, sizes=np.full(64, phase.context - 2))
        with noting(spread) as kept:
            part = part_of(batch, torch.device("cpu"), longest=phase.context)
            whole(losses_of(spread.model, part, sliced(task), aim.objective, states), counts_of(batch))
        found.append(sum(kept.values()))
    each = found[1] - found[0]
    return float(found[0] - each), each * phase.row / phase.context


def batch_of(task: PretrainTask, layout: Layout, rows: int, aim: Aim, sizes: np.ndarray | None = None):  # type: ignore[no-untyped-def]
    """A batch of tokens drawn at random, in documents of lengths drawn from `sizes`; None: as long as web pages."""
    source, count = np.random.default_rng(task.seed), 16 + 2 * rows * layout.row // 64
    if sizes is None or not len(sizes):
        sizes = source.lognormal(np.log(PAGES[0]), PAGES[1], SAMPLED).astype(np.int64) + 8
    drawn = sizes[source.integers(0, len(sizes), count)]
    ends = np.cumsum(drawn)
    enough = int(np.searchsorted(ends, (rows + 2) * layout.row)) + 1
    offsets = np.concatenate([[0], ends[:enough]]).astype(np.int64)
    held = set(task.specials.values())
    free = np.array([each for each in range(task.vocabulary) if each not in held], np.uint32)
    tokens = free[source.integers(0, len(free), int(offsets[-1]))]
    shard = Shard(tokens, offsets, cut(offsets, layout))
    one = Source("made up", (len(shard.starts) - 1,))
    plan = Plan(task.seed, (one,), (Stretch(0, weights_of([one])),), ((0, rows),))
    words = np.frombuffer(task.words, np.uint8) if task.words else np.ones(task.pieces, np.uint8)
    hiding = Hiding(task.pieces, task.specials, task.seed, 0.3, words=words)
    return Stream(plan, layout, hiding, lambda *_: shard).batch(plan.places(np.arange(rows)), aim)


def sizes_of(task: PretrainTask, phase: Phase) -> np.ndarray | None:
    """Lengths of documents of a task's shards, sources by their weights; None where there are none on this machine."""
    files = files_at(task, phase)
    weights = dict(weights_of([one.source for one in files], (dict(task.weights) or {0: None}).get(0))) if files else {}
    found = []
    for one in files:
        if not weights.get(one.name):
            continue
        lengths = np.concatenate([np.diff(mapped(shard)[1][: SAMPLED + 1]) for shard in one.shards[:4]])
        found.append((weights[one.name] / max(1.0, float(lengths.mean())), lengths))
    if not found:
        return None
    heaviest, source = max(share for share, _ in found), np.random.default_rng(task.seed)
    return np.concatenate(
        [source.choice(lengths, max(1, round(SAMPLED * share / heaviest))) for share, lengths in found]
    ).astype(np.int64)


def amount(number: float) -> str:
    """A number as people read it.

    >>> amount(6_074_368), amount(824e6), amount(12)
    ('6.1 M', '824 M', '12 ')
    """
    for unit, size in (("T", 1e12), ("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if abs(number) >= size:
            return f"{number / size:.{0 if abs(number) >= 100 * size else 1}f} {unit}"
    return f"{number:.0f} "
