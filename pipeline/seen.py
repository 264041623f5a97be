"""The ledger of a training, both ways: the steps that saw a document, and the documents that a step saw.

Promises: both follow from the plan, the index of rows and the shards that the training sealed; no step is replayed and
no token read. What was forgotten since counts as it lay, so the rows of others stay what they were. Costs the offsets
of one shard for a document, those of a step's shards for a step. Refuses a step that was not taken.
"""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np

from tundish.cluster import store
from tundish.cluster.shards import Dataset, opened
from tundish.operators.model.plan import Plan
from tundish.operators.model.rows import Layout, Shard, cut
from tundish.stages.forget_tables import as_trained
from tundish.stages.pretrain import PLAN, file_of
from tundish.stages.token_stream import mapped

GENERATION = re.compile(r"gen-\d+")


@dataclass(frozen=True)
class Ledger:
    """A training as it can be asked: its plan, the steps it took, its token shards and the index of their rows."""

    plan: Plan
    steps: int
    tokens: Dataset
    index: Dataset | Layout  # sealed, or how the rows are cut
    gone: Mapping[str, list[list[int]]] = field(default_factory=dict)  # by shard, (row, tokens) forgotten since

    suffix: str = ""  # of the names that these shards' origins have in the plan
    first: int = 0  # step, of this leg of the training
    later: "Ledger | None" = None  # the next leg, in which rows have another length

    @classmethod
    def followed(cls, root: str, tokens: Dataset) -> "Ledger | None":
        """What a followed training saw of the generation in this root (`ROOT/follow/gen-0003`); None elsewhere."""
        above, _, name = store.absolute(root).rstrip("/").rpartition("/")
        told = store.read_json(store.join(above, "training", PLAN)) if GENERATION.fullmatch(name) else None
        if told is None:
            return None
        log = store.join(above, "training", "log.jsonl")
        taken = store.read(log).count(b"\n") if store.exists(log) else 0
        layout, plan = Layout(told["row"], told["context"]), Plan.of(told["plan"])
        return cls(plan, taken, tokens, layout, {}, f"@{int(name.rpartition('-')[2])}")

    @classmethod
    def of(cls, trained: Dataset, tokens: Dataset) -> "Ledger":
        told = json.loads(store.read(file_of(trained, PLAN)))
        gone = trained.about.get("forgotten", {}).get(tokens.address, {})
        steps, found = trained.about["result"]["steps"], None
        names: dict[tuple[int, int], str] = {}  # of the index of each length of rows, as Pretrain names them
        for leg in (legs := told.get("legs") or [{"first": 0, **told}]):
            layout = leg["row"], leg["context"]
            names.setdefault(layout, f"rows-{layout[0]}-{layout[1]}" if names else "rows")
        for leg in reversed(legs):
            index = opened(store.join(trained.uri, names[leg["row"], leg["context"]]))
            assert index is not None, "Pretrain seals its rows before it trains"
            taken = min(steps, leg["first"] + leg["steps"]) - leg["first"]
            found = cls(Plan.of(leg["plan"]), taken, tokens, index, gone, "", leg["first"], found)
        assert found is not None, "a plan has a leg"
        return found

    def steps_of(self, name: str, row: int) -> tuple[list[int], int]:
        """The steps that saw the document in this row of a token shard, ascending, and how many rows hold it."""
        source, number = self._number(name)
        shard, then = self._shard(name)
        rows = shard.rows(int(then[row]))
        found = {self.first + step for each in rows for step in self.plan.steps(source, number, each, until=self.steps)}
        after = self.later.steps_of(name, row)[0] if self.later else []
        return sorted(found) + after, len(rows)

    def documents(self, step: int) -> Iterator[tuple[str, int]]:
        """(token shard, row in it) of every document of which a step saw tokens, in the order of the batch."""
        if self.later and step >= self.later.first:
            yield from self.later.documents(step)
            return
        if not self.first <= step < self.first + self.steps:
            raise ValueError(f"step {step} was not taken; the training took steps 0 to {self.first + self.steps - 1}")
        places = self.plan.places(self.plan.share(step - self.first))
        seen: dict[tuple[str, int], None] = {}
        for source, shard, row in zip(places.source, places.shard, places.row, strict=True):
            if not self.plan.sources[source].name.endswith(self.suffix):
                continue
            name = self._name(int(source), int(shard))
            held, then = self._shard(name)
            now = {int(old): number for number, old in enumerate(then)}  # of what was forgotten nothing can be told
            seen |= dict.fromkeys((name, now[d]) for d in held.documents(int(row)).tolist() if d in now)
        yield from seen

    def _shard(self, name: str) -> tuple[Shard, np.ndarray]:
        """A token shard as it was trained on, and the row then of each of its documents now."""
        tokens, offsets = mapped(self.tokens.path(name))
        lengths, then = as_trained(np.diff(offsets), self.gone.get(name, []))
        offsets = np.concatenate([offsets[:1], offsets[0] + np.cumsum(lengths)])
        if isinstance(self.index, Layout):
            return Shard(tokens, offsets, cut(offsets, self.index)), then
        return Shard(tokens, offsets, self.index.read(name)["start"].to_numpy()), then

    def _number(self, name: str) -> tuple[int, int]:
        """Source and shard, as the plan numbers them, of a token shard."""
        part = int(name.rsplit("-", 1)[1])
        for number, source in enumerate(self.plan.sources):
            first, count = self.tokens.about["origins"].get(source.name.removesuffix(self.suffix), (0, 0))
            if source.name.endswith(self.suffix) and first <= part < first + count:
                return number, part - first
        raise ValueError(f"{name} belongs to no source of the plan; train anew on these shards")

    def _name(self, source: int, shard: int) -> str:
        first = self.tokens.about["origins"][self.plan.sources[source].name.removesuffix(self.suffix)][0]
        return f"part-{first + shard:05d}"


def spelt(steps: list[int], most: int) -> str:
    """Steps for a line of text: the first few, and the last."""
    return ", ".join(map(str, steps[:most])) + (f", ... {steps[-1]}" if len(steps) > most else "")


def ids_at(tokens: Dataset, places: list[tuple[str, int]]) -> list[bytes]:
    """The ids of documents by shard and row; one look at each shard."""
    found: dict[tuple[str, int], bytes] = {}
    for name in dict.fromkeys(name for name, _ in places):
        rows = [row for each, row in places if each == name]
        column = tokens.select("id").read(name)["id"].take(np.array(rows))
        found |= {(name, row): value.as_py() for row, value in zip(rows, column, strict=True)}
    return [found[place] for place in places]
