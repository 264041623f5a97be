"""What a fine-tuning will take, before it begins: real steps and asked batches, on rows drawn evenly over their length.

    a part     its files are read whole and split as the run will; `ROWS` of its examples at most become tokens, drawn
               evenly over the length of their texts
    steps      of those of train `STEPS` batches, drawn evenly over their tokens, learnt from once in the run's own
               loop; until `SECONDS` are over, and `LEAST` steps at least. Before that the batch with the most tokens of
               those a run will draw, which is not timed: it warms up, and is what memory is counted on
    asked      of every other part `BATCHES` batches of rows of like length, the longest among them

Steps of other lengths cost other times: what was measured grows as the operations (`finetune_compute.once`) of all rows
over those of the rows that were timed, and its band is the bootstrap's (`operators/ratio`).

Promises: needs no weights, for what is fresh takes as long; nothing is written but in a folder of its own that goes.
Of each start (pretrained, fresh) a training of its own where aids hold the one and not the other, else one for both.
Said as if all epochs were run, all layers learnt (`unfreeze`) and no class were drawn oftener (`balance`); where texts
are written, as if each were as long as it may be. Costs the files in memory, and some seconds. Refuses what the stage
itself refuses.
"""

import contextlib
import math
import os
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import torch

from tundish.cluster import store
from tundish.cluster.metered import Peak, held_now
from tundish.operators.model import lora
from tundish.operators.model.heads import Tuned
from tundish.operators.model.shape import Shape
from tundish.operators.ratio import Band, banded
from tundish.operators.text import tokenizer
from tundish.stages import examples_checks, finetune_fits
from tundish.stages.examples import Examples, key_of
from tundish.stages.finetune_beside import SHOWN, tested
from tundish.stages.finetune_compute import once
from tundish.stages.finetune_files import DEV, TRAIN, refuse_unfit, split, tokens_of, truth_of
from tundish.stages.finetune_kinds import asked, place_of, scored
from tundish.stages.finetune_one import DTYPES, Besides, begun_of, order_of, trained
from tundish.stages.finetune_rows import Rows, sizes_of
from tundish.stages.finetune_task import Aids, Run, TuneTask

ROWS = 4096
STEPS, LEAST, SECONDS = 32, 4, 5.0
BATCHES = 8
DRAWS = 4096  # batches at most of which the heaviest is looked for


class Costs(NamedTuple):
    """What some units took (n,), and their sizes; `whole`: the size of all, of which there are `of`."""

    wall: np.ndarray
    cpu: np.ndarray
    sizes: np.ndarray
    whole: float
    of: int

    def total(self, kind: str) -> Band:
        """Of all units, `kind` wall or cpu."""
        return banded(getattr(self, kind), self.sizes, self.whole, of=max(self.of, 1))


class Start(NamedTuple):
    """What runs from one kind of weights take: `begin`, seconds and CPU seconds of making a model; one epoch on all of
    train; asking every other part; `scoring`: seconds of all scores of a run; `said`: bytes of its answers."""

    begin: tuple[float, float]
    epoch: Costs
    asked: Mapping[str, Costs]
    scoring: float
    said: float


class Part(NamedTuple):
    """The sample of a part; all rows are `times` as many; `texts`: bytes of what is shown of all of them."""

    rows: Rows
    times: float
    truth: Mapping[str, Any]
    texts: float

    @property
    def count(self) -> int:
        return round(len(self.rows) * self.times)


@dataclass(frozen=True)
class Probed:
    """`pretrained`, `fresh`: a run of each. `rows` of train. Bytes: `floor` before the first step, `peak` at most in
    it, all rows counted; `parts` and `weights` on disk. `reading`: seconds from files to tokens."""

    task: TuneTask
    pretrained: Start
    fresh: Start
    rows: int
    floor: int
    peak: int
    parts: float
    weights: int
    reading: float

    def seconds(self, run: Run, kind: str) -> Band:
        """Of a run, `kind` wall or cpu. With `patience` it ends when that is over, at the soonest."""
        start, task = self.pretrained if run.pretrained else self.fresh, self.task
        begin, epoch = start.begin[kind == "cpu"], start.epoch.total(kind)
        if run.size:
            epoch = _part(epoch, run.size, self.rows, task.batch)
        if patience := task.aids.patience:
            epoch = epoch.plus(start.asked[DEV].total(kind))
        told = epoch.times(task.epochs).plus(Band(begin, begin, begin))
        if patience:
            told = told._replace(low=begin + epoch.low * min(task.epochs, patience + 1))
        for costs in start.asked.values():
            told = told.plus(costs.total(kind))
        return told


def _part(epoch: Band, size: int, rows: int, batch: int) -> Band:
    """An epoch on the first `size` rows: between their share of the rows and that of the steps, the last of which is
    no whole one."""
    low, high = sorted((size / rows, -(-size // batch) / -(-rows // batch)))
    return Band(epoch.middle * (low + high) / 2, epoch.low * low, epoch.high * high)


def probe(
    shape: Shape,
    body: bytes,
    kind: str,
    files: Mapping[str, str | Sequence[str]],
    *,
    columns: Mapping[str, Any] | None = None,
    length: int = 0,
    apart: bool = False,
    trainers: int = 1,
    device: torch.device | None = None,
    **more: Any,
) -> Probed:
    """What the runs of `finetune_files.prepared` of the same arguments will take, from weights of this shape, with the
    vocabulary whose file's bytes are `body`. `trainers`: that share this machine's CPUs. `more`: fields of the task."""
    device = device or torch.device("cuda" if torch.cuda.is_available() else "cpu")
    began, pieces = time.perf_counter(), tokenizer.load(body)
    given = examples_checks.parts(kind, files, columns)
    examples_checks.checked(given)
    found, _ = split(given, apart=apart)
    refuse_unfit(found, shape, length, more.get("sizes") or ())
    finetune_fits.refuse(shape, more.get("aids") or Aids(), more.get("pooling") or "")
    read = time.perf_counter() - began
    parts, tokenizing = _parts(found, pieces, length or shape.length)
    if kind in ("tag", "answer") and more.get("sizes"):  # of examples, and runs are of windows
        more["sizes"] = tuple(round(size * parts[TRAIN].count / len(found[TRAIN])) for size in more["sizes"])
    again = sum(len(given.get(name, given[TRAIN])) for name in tested(found)) / sum(map(len, given.values()))
    with tempfile.TemporaryDirectory(prefix="tundish-probe-") as out:
        store.write(store.join(out, pieces.file), body)
        task = TuneTask(
            "", kind, dict.fromkeys(parts, ""), dict(pieces.specials), out, scheme=found[TRAIN].scheme,
            length=length or shape.length, **more,
        )  # fmt: skip
        with threads_of(trainers, device):
            return _probed(task, shape, parts, device, read * (1 + again) + tokenizing)


@contextlib.contextmanager
def threads_of(trainers: int, device: torch.device) -> Iterator[None]:
    """Those of a worker: as the run is told, or its share of this machine."""
    before = torch.get_num_threads()
    told = int(os.environ.get("TUNDISH_TORCH_THREADS", 0))
    if device.type == "cpu" and (told or trainers > 1):
        torch.set_num_threads(told or max(1, (os.cpu_count() or 1) // trainers))
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _parts(found: Mapping[str, Examples], pieces: tokenizer.Tokenizer, length: int) -> tuple[dict[str, Part], float]:
    """The samples as tokens, and the seconds that all of them would take to become that."""
    parts, seconds, shown = dict[str, Part](), 0.0, tested(found)
    for name, one in found.items():
        sizes = np.array([len(key_of(one.kind, row)) for row in one.table.to_pylist()])
        some, times = one.take(evenly(sizes, ROWS)), len(one) / min(len(one), ROWS)
        began = time.perf_counter()
        table = tokens_of(some, pieces, length).table
        seconds += (time.perf_counter() - began) * times
        rows = Rows(one.kind, one.names, table, pieces.specials)
        truth = truth_of(some) if one.kind == "answer" and name != TRAIN else {}
        texts = float(np.minimum(sizes, SHOWN).sum()) if name in shown else 0.0
        parts[name] = Part(rows, times, truth, texts)
    return parts, seconds


def evenly(sizes: np.ndarray, count: int) -> np.ndarray:
    """So many numbers of rows at most, ascending, whose sizes lie evenly among all: in the order of sizes the middles
    of as many equal stretches.

    >>> evenly(np.array([9, 1, 5, 7, 3, 8]), 3).tolist()
    [0, 3, 4]
    """
    count = min(count, len(sizes))
    order = np.argsort(sizes, kind="stable")
    return np.sort(order[((np.arange(count) + 0.5) * len(sizes) / max(1, count)).astype(np.int64)])


def heaviest(sizes: np.ndarray, batch: int, steps: int) -> np.ndarray:
    """The rows of the batch with the most tokens, of so many drawn as a run draws them: epoch by epoch anew."""
    draw, best, most = np.random.default_rng(1), np.arange(min(batch, len(sizes))), -1
    for _ in range(-(-steps // max(1, -(-len(sizes) // batch)))):
        order = draw.permutation(len(sizes))
        for at in range(0, len(order), batch):
            if (held := int(sizes[order[at : at + batch]].sum())) > most:
                best, most = order[at : at + batch], held
    return best


def _probed(task: TuneTask, shape: Shape, parts: Mapping[str, Part], device: torch.device, reading: float) -> Probed:
    train, floor = parts[TRAIN], held_now()
    with Peak() as peak:
        own = begun_of(replace(task, aids=Aids()), Run(False, 0), shape, None, train.rows)
        weights, size = own.encoder.state_dict(), sum(each.nbytes for each in own.state_dict().values())
        del own
        pretrained = _start(task, Run(True, 1), shape, weights, parts, device)
        apart = task.scratch and bool(task.aids.held)
        fresh = _start(task, Run(False, 1), shape, weights, parts, device) if apart else pretrained
    best = size if task.aids.patience else 0  # the best weights so far
    unseen = sum((part.times - 1) * part.rows.table.nbytes for part in parts.values())
    held = sum(part.times * part.rows.table.nbytes + part.texts for part in parts.values())
    return Probed(
        task, pretrained, fresh, train.count, floor, int(peak.bytes + best + unseen), held, size, reading
    )  # fmt: skip


def _start(
    task: TuneTask, run: Run, shape: Shape, weights: Mapping[str, Any], parts: Mapping[str, Part], device: torch.device
) -> Start:
    """Measured with the loop itself, on the sample."""
    off = replace(task.aids, balance="", patience=0, unfreeze=0)
    task, train = replace(task, aids=off), parts[TRAIN]
    tokens, steps = sizes_of(train.rows), -(-train.count // task.batch)
    heavy = taken(train.rows, heaviest(tokens, task.batch, min(DRAWS, steps * task.epochs)))
    trained(replace(task, epochs=1), run, shape, weights, {TRAIN: heavy}, device, lambda *_: None)
    some = taken(train.rows, evenly(tokens, STEPS * task.batch))
    each = -(-len(some) // task.batch)
    brief = replace(task, epochs=max(1, -(-(LEAST + 1) // each)))
    clock = _Clock(device)
    with contextlib.suppress(_Enough):
        trained(brief, run, shape, weights, {TRAIN: some}, device, lambda *_: None, Besides(after=clock))
    took = np.diff(np.array(clock.at), axis=0)  # the first with making the model
    sizes = np.array(list(_sizes(brief, run, shape, some, len(took))))
    epoch = Costs(took[1:, 0], took[1:, 1], sizes[1:], once(task, shape, train.rows) * train.times, steps)
    begin = np.maximum(0.0, took[0] - sizes[0] * took[1:].sum(0) / sizes[1:].sum())
    asked_of, scoring, said = dict[str, Costs](), 0.0, 0.0
    if task.of(run).aids.lora:
        lora.merged(clock.model)
    for name, part in parts.items():
        if name != TRAIN:
            asked_of[name], score, answers = _asked(task, clock.model, shape, part, device)
            scoring, said = scoring + score, said + answers
    return Start((float(begin[0]), float(begin[1])), epoch, asked_of, scoring, said)


class _Enough(Exception):
    """It was measured for long enough."""


class _Clock:
    """Behind every step what time it is, and how much CPU was spent; ends the training when there are enough."""

    def __init__(self, device: torch.device) -> None:
        self.device, self.at = device, [self.now(device)]
        self.model: Any = None

    @staticmethod
    def now(device: torch.device) -> tuple[float, float]:
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return time.perf_counter(), time.process_time()

    def __call__(self, model: Tuned) -> None:
        self.model = model
        self.at.append(self.now(self.device))
        if len(self.at) > LEAST + 1 and self.at[-1][0] - self.at[1][0] > SECONDS:
            raise _Enough


def _sizes(task: TuneTask, run: Run, shape: Shape, rows: Rows, steps: int) -> Iterator[float]:
    """Operations of the first so many steps."""
    task, each = task.of(run), -(-len(rows) // task.batch)
    order = order_of(task, run, rows, len(rows))
    for step in range(steps):
        epoch, part = divmod(step, each)
        places = np.arange(part * task.batch, min(len(rows), (part + 1) * task.batch))
        yield once(task, shape, taken(rows, order(places, epoch)))


def taken(rows: Rows, at: np.ndarray) -> Rows:
    """The rows of these numbers."""
    return Rows(rows.kind, rows.names, rows.table.take(at), rows.specials, rows.stack)


def _asked(task: TuneTask, model: Tuned, shape: Shape, part: Part, device: torch.device) -> tuple[Costs, float, float]:
    """Batches of rows of like length, the longest first; seconds of scoring all rows, and bytes of the answers."""
    size = max(1, 4 * (task.at_once or task.batch) // (task.writing.beams if task.kind == "write" else 1))
    tokens = sizes_of(part.rows)
    chosen = evenly(tokens, BATCHES * size)
    chosen = chosen[np.argsort(tokens[chosen], kind="stable")]
    starts, took, sizes, scoring, said, seen = range(0, len(chosen), size), [], [], 0.0, 0.0, 0
    began = time.perf_counter()
    for at in sorted(starts, key=lambda start: _turned(start // size, len(starts))):
        if len(took) > 1 and time.perf_counter() - began > SECONDS:
            break
        some = taken(part.rows, np.sort(chosen[at : at + size]))
        before = _Clock.now(device)
        answers = asked(task, model, some, device, DTYPES[task.dtype])
        took.append(np.subtract(_Clock.now(device), before))
        sizes.append(len(some) if task.kind == "write" else once(task, shape, some))
        scoring -= time.perf_counter()
        scored(task, some, answers, _of(part.truth, some))
        scoring += time.perf_counter()
        said, seen = said + sum(each.nbytes for each in answers.values()), seen + len(some)
    whole = part.count if task.kind == "write" else once(task, shape, part.rows) * part.times
    wall, cpu = np.array(took).T
    times = part.count / seen
    return Costs(wall, cpu, np.array(sizes), float(whole), -(-part.count // size)), scoring * times, said * times


def _turned(number: int, of: int) -> float:
    """Where a batch stands in the order of asking: the last first, then the others far from each other."""
    return -1.0 if number == of - 1 else math.modf(number * 0.6180339887)[0]


def _of(truth: Mapping[str, Any], rows: Rows) -> dict[str, Any]:
    """Of questions, what is true of those in these rows."""
    if not truth:
        return {}
    files, numbers = rows.table["file"].to_pylist(), rows.table["row"].to_pylist()
    return {place: truth[place] for place in (place_of(*where) for where in zip(files, numbers, strict=True))}
