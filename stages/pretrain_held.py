"""How well a model does on documents it never saw: the same rows and hidden places every time, source by source.

Promises: two trainings on one corpus can be compared, whatever their own mask rates; a mean over all ranks' rows is
the same for any number of them. Costs a forward pass over at most `holdout_rows` rows a source. Bits per byte are the
mean loss of a guessed token, times the tokens of a byte; of a causal model they are its code length, of a masked one a
pseudo-likelihood at 15 % hidden, to be held only against others of its kind.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from torch import nn

from tundish.cluster import store
from tundish.operators.model.hiding import Hiding, Masked
from tundish.operators.model.objective import GUESSED, TOKENS, counts_of, part_of
from tundish.operators.model.plan import Plan, Stretch, weights_of
from tundish.operators.model.rows import Layout
from tundish.operators.model.stream import Aim, Stream
from tundish.stages.pretrain_feed import Feed
from tundish.stages.pretrain_memory import HELD, within
from tundish.stages.pretrain_model import losses_of
from tundish.stages.pretrain_task import PretrainTask
from tundish.stages.ranks import Ranks
from tundish.stages.token_stream import Opened, TokenFiles

SEED, RATE = 0xE7A1, 0.15  # 15 %, so that runs at other training rates can be compared


class Held:
    """The held-out documents of a task; nothing where there are none."""

    def __init__(self, task: PretrainTask, feed: Feed, ranks: Ranks, dtype: torch.dtype) -> None:
        self.task, self.feed, self.ranks, self.dtype = task, feed, ranks, dtype
        last = feed.schedule.at(feed.steps - 1)
        phase = feed.schedule.phases[last.phase]
        self.objective = max(phase.mixture, key=lambda each: each[1])[0]  # the heaviest
        objective = feed.schedule.objectives[self.objective]
        self.aim = Aim(objective, RATE if isinstance(objective, Masked) else last.rate)
        layout = Layout(last.row, last.context)
        self.streams = {one.name: found for one in task.holdout if (found := _stream(task, one, layout, feed.hiding))}

    def __bool__(self) -> bool:
        return bool(self.streams)

    @property
    def rows(self) -> int:
        return sum(self._rows(stream) for stream in self.streams.values())

    def _rows(self, stream: Stream) -> int:
        return min(stream.plan.sources[0].size, self.task.holdout_rows)

    @torch.no_grad()
    def measure(self, model: nn.Module) -> dict[str, Any]:
        """`holdout`: the mean loss of a guessed token, in nats; by source its bits per byte, where bytes are known;
        of a detection also `holdout_detected`, the mean loss of telling a token, and `detected`, that by source; its
        bits per byte are the generator's."""
        if not self:
            return {}
        training = model.training
        model.eval()
        sums = torch.zeros(len(self.streams), 4, dtype=torch.float64, device=self.ranks.device)
        for number, stream in enumerate(self.streams.values()):
            rows = np.arange(self._rows(stream))
            size = (self.feed.at_once(stream.layout) or 32) * self.ranks.shares
            for at in range(0, len(rows), size):
                whole = rows[at : at + size]
                first, last = (
                    len(whole) * each // self.ranks.shares for each in (self.ranks.share, self.ranks.share + 1)
                )
                places = stream.plan.places(whole[first:last])
                for batch in self.feed.levelled(stream, places, self.aim, whole):
                    with within(HELD, last - first, stream.layout.row):
                        part = part_of(batch, self.ranks.device, longest=stream.layout.context, static=self.feed.static)
                        terms = losses_of(model, part, self.task, self.aim.objective, self.dtype)
                    counts = counts_of(batch)
                    found = {term.name: float(term.total) for term in terms}
                    each = [found.get("loss", found.get("masked", 0.0)), counts[GUESSED]]
                    each += [found.get("detected", 0.0), counts[TOKENS]]
                    sums[number] += torch.tensor(each, dtype=torch.float64, device=sums.device)
        model.train(training)
        table = (self.ranks.total(sums) / self.ranks.together).tolist()
        loss, guessed, detected, tokens = (sum(row[column] for row in table) for column in range(4))
        told: dict[str, Any] = {"holdout": loss / max(1.0, guessed)}
        if self.task.detects:
            told["holdout_detected"] = detected / max(1.0, tokens)
            told["detected"] = {name: row[2] / max(1.0, row[3]) for name, row in zip(self.streams, table, strict=True)}
        bits = {
            name: row[0] / max(1.0, row[1]) / math.log(2) / self.task.holdout_bytes[name]
            for name, row in zip(self.streams, table, strict=True)
            if self.task.holdout_bytes.get(name)
        }
        return told | ({"bits_per_byte": bits} if bits else {})


def _stream(task: PretrainTask, files: TokenFiles, layout: Layout, hiding: Hiding) -> Stream | None:
    """The held-out documents of a source, always in the same order with the same places hidden."""
    held = files.counted(layout)
    if not held.source.size:
        return None
    plan = Plan(SEED, (held.source,), (Stretch(0, weights_of([held.source])),), ((0, 1),), 0)
    return Stream(plan, layout, replace(hiding, seed=SEED, rate=RATE), Opened([held], layout))


def by_source(holdout: Mapping[str, Mapping[str, float]], files: Iterable[TokenFiles] = ()) -> dict[str, float]:
    """Bytes of a token of each source: from its totals, or where a manifest has none, as a Mix's, from the shards."""
    found = {name: told["bytes"] / told["tokens"] for name, told in holdout.items() if told.get("tokens")}
    for one in files:
        if one.name not in found and (sizes := [_sizes(shard) for shard in one.shards]):
            tokens, size = map(sum, zip(*sizes, strict=True))
            found |= {one.name: size / tokens} if tokens else {}
    return found


def _sizes(shard: str) -> tuple[int, int]:
    """Tokens and bytes of a shard; none where it does not say its bytes."""
    path = store.local(shard)
    with pa.ipc.open_file(store.opened(shard) if path is None else pa.memory_map(str(path))) as reader:
        if "bytes" not in reader.schema.names or not reader.num_record_batches:
            return 0, 0
        batch = reader.get_batch(0)
        return len(batch["tokens"].flatten()), pc.sum(batch["bytes"]).as_py() or 0
