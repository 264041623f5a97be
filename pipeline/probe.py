"""plan --probe: the stages that would run, run on a sample in a scratch root, each item of their work measured.

The sample is whole shards (pipeline/probe_sample): of what is sealed, of the archives that Ingest lists, of the pieces
that Read cuts; where a source is still to be read, of a sample of its files.

Promises: nothing is written under the root but what is foretold (`forecast.json` of each stage). The sample is done
twice, first with one shard of each source, so that what is measured is work and not the start of a process (kernels,
libraries, a model). Costs what the sample costs, on this machine, in one process. What asks the web (Crawl,
CommonCrawl) is not probed, nor what stands on it before it is there; nor what a sample of the corpus says nothing of:
Pretrain and Finetune have forecasts of their own (`pipeline/forecast`, `pipeline/probe_tuned`).
"""

import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import pyarrow.compute as pc

from tundish.cluster import signing, store
from tundish.cluster.local import Local
from tundish.cluster.metered import Metered, Spent, held_now, peak_memory
from tundish.cluster.shards import Dataset
from tundish.pipeline.plan import Step, place_of
from tundish.pipeline.probe_sample import LEAST, Base, Taken, alike, drawn, pieces, smaller
from tundish.pipeline.recipe import replaced
from tundish.pipeline.run import Outcome, carried, grouped, waiting_behind
from tundish.stages.gather import Gather
from tundish.stages.ingest import Ingest
from tundish.stages.pretrain import FORETOLD
from tundish.stages.read import Read
from tundish.stages.stage import Stage
from tundish.stages.vocabulary import vocabulary_of

SHARE = 0.01
WEB = "it asks the web, which a probe does not; run it with --until {name}, and probe what follows"
APART = "its forecast is one of its own"
UNPROBED = {"Crawl": WEB, "CommonCrawl": WEB, "Pretrain": APART, "Finetune": APART}

Lineage = Mapping[str, tuple[int, str]]  # name of a shard -> number of its base, and its name there


@dataclass(frozen=True)
class Probed:
    """One stage on the sample: what its items took, seconds on the clock of it and the `together` stages of its pass,
    memory before it (`floor`), bytes left on disk (`size`), and of which shards of which base its items were."""

    stage: Stage
    spent: tuple[Spent, ...]
    wall: float
    together: int
    floor: int
    made: Dataset
    size: int
    lineage: Lineage
    copies: "Copies | None" = None  # of a Deduplicate


class Copies(NamedTuple):
    """Documents with a survivor in their own shard, in another one, and all documents that took part."""

    same: int
    apart: int
    documents: int


@dataclass
class Sample:
    """What a probe found: stages by their address in the recipe, sources, why others were not probed, and the files of
    vocabularies that the sample taught, by the address of what they belong to."""

    bases: list[Base] = field(default_factory=list)
    stages: dict[str, Probed] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)
    vocabularies: dict[str, bytes] = field(default_factory=dict)


def probe(steps: Sequence[Step], share: float = SHARE, least: int = LEAST) -> Sample:
    """Run what would run on a share of the shards of its inputs, at least so many of each."""
    if not 0 < share <= 1:
        raise ValueError(f"--share is {share:g}; give a share of the shards above 0 and up to 1, such as 0.01")
    if any(not step.current and step.stage.name not in UNPROBED for step in steps):
        _Run(steps, 1e-9, 1).run()  # so that the next one pays for no start
    return _Run(steps, share, least).run()


class _Run:
    """One run over a sample. Addresses are those of the sample's stages; `named` leads back to those of the recipe."""

    def __init__(self, steps: Sequence[Step], share: float, least: int) -> None:
        self.share, self.least, self.sample = share, least, Sample()
        self.taken: dict[str, Taken] = {}
        self.lineages: dict[str, Lineage] = {}
        self.drawn: dict[str, frozenset[str]] = {}  # pieces of each Read
        self.cut: set[str] = set()  # addresses of which the sample alone is left
        self.steps = [step for step in steps if not step.current]
        self._refuse()
        moved: dict[str, Stage] = {}
        kept = {step.stage.address for step in steps if step.current} | set(self.sample.refused)
        replaced(steps[-1].stage, lambda one: one if one.address in kept else self._smaller(one), moved)
        self.moved, self.named = moved, {moved[s.stage.address].address: s.stage.address for s in self.steps}
        self.outcome = Outcome(steps[-1].stage, {s.stage.address: s.sealed for s in steps if s.sealed is not None})

    def _refuse(self) -> None:
        """Stages that are not probed, and those that stand on them."""
        for step in self.steps:
            name = step.stage.name
            gone = [s.name for s in step.stage.inputs.values() if s.address in self.sample.refused]
            if name in UNPROBED or gone:
                why = UNPROBED.get(name, f"it stands on {gone[0] if gone else ''}, which was not probed")
                self.sample.refused[step.stage.address] = why.format(name=name)

    def _smaller(self, stage: Stage) -> Stage:
        """A source with a sample of its files, its bases noted."""
        if not isinstance(stage, Ingest | Read):
            return stage
        found = smaller(stage, self.share, self.least)
        new, self.taken[found.stage.address] = found.stage, found
        if isinstance(new, Read):
            base = pieces(found, self.share, self.least)
            self.drawn[new.address] = frozenset(base.sizes)
        else:
            sizes = {uri: float(size) for uri, size in found.files.items()}
            base = Base(sizes, float(found.whole), found.of, max(sizes.values(), default=0.0))
        self.lineages[new.address] = self._based(base)
        return new

    def _based(self, base: Base) -> Lineage:
        self.sample.bases.append(base)
        return {name: (len(self.sample.bases) - 1, name) for name in base.sizes}

    def run(self) -> Sample:
        with tempfile.TemporaryDirectory(prefix="tundish-probe-") as scratch:
            stages = [(step, self.moved[step.stage.address]) for step in self.steps]
            stages = [(step, stage) for step, stage in stages if step.stage.address not in self.sample.refused]
            waiting = [Step(s, place_of(s, scratch, step.place.settings), None, "") for step, s in stages]
            for step in waiting:
                for source in step.stage.inputs.values():
                    self._cut(source.address)
            while waiting := self._left(waiting):
                group = grouped(waiting, self.outcome)
                waiting = waiting_behind(waiting, group)
                self._group(group)
        return self.sample

    def _left(self, waiting: list[Step]) -> list[Step]:
        """Without those that stand on what could not be done on the sample."""
        left = []
        for step in waiting:
            gone = [s for s in step.stage.inputs.values() if self.named.get(s.address) in self.sample.refused]
            if gone:
                why = f"it stands on {gone[0].name}, which was not probed"
                self.sample.refused[self.named[step.stage.address]] = why
            else:
                left.append(step)
        return left

    def _cut(self, address: str) -> None:
        """Of a sealed dataset the shards of the sample."""
        whole = self.outcome.datasets.get(address)
        if whole is None or address in self.cut or whole.about.get("kind") == "files":
            return
        self.cut.add(address)
        part, base = drawn(whole, self.share, self.least, self.taken.get(address))
        others = ((a, d) for a, d in self.outcome.datasets.items() if a in self.lineages and a != address)
        beside = next((self.lineages[a] for a, other in others if alike(other, part)), None)
        self.lineages[address] = beside or self._based(base)
        self.outcome.datasets[address] = part

    def _group(self, group: list[Step]) -> None:
        """Run the stages of one pass and note what they took; what refuses the sample is not probed."""
        pieces_drawn = self.drawn.get(group[0].stage.address)
        only = {"Read": pieces_drawn} if pieces_drawn is not None else {}
        cluster, started = Metered(Local(1), only), time.monotonic()
        floor = held_now() or peak_memory()
        try:
            for step in group:
                step.stage.prepare()
            made = carried(group, cluster, self.outcome)
        except ValueError as error:
            why = f"a sample is not enough for it ({error})"
            self.sample.refused |= {self.named[step.stage.address]: why for step in group}
            return
        wall = time.monotonic() - started
        for step in group:
            self._note(step, made[step.stage.address], tuple(cluster.spent), wall, len(group), floor)

    def _note(
        self, step: Step, made: Dataset, spent: tuple[Spent, ...], wall: float, together: int, floor: int
    ) -> None:
        stage, address = step.stage, step.stage.address
        inputs = [self.lineages[s.address] for s in stage.inputs.values() if s.address in self.lineages]
        found = next((one for one in inputs if set(made.names) == set(one)), {})
        if isinstance(stage, Gather):
            made, found = self._gathered(made)
        lineage = self.lineages.get(address) or (inputs[0] if inputs and not found else found)
        size, copies = held_bytes(made.uri), copies_in(made) if "twin" in made.held else None
        told = Probed(stage, spent, wall, together, floor, made, size, lineage, copies)
        self.sample.stages[self.named[address]] = told
        if "vocabulary" in made.about:
            self.sample.vocabularies[self.named[address]] = vocabulary_of(made)[1]
        self.outcome.datasets[address] = made
        if isinstance(stage, Ingest):
            self._cut(address)
        elif found:
            self.lineages[address] = found

    def _gathered(self, made: Dataset) -> tuple[Dataset, Lineage]:
        """A Gather whose shards lie where they really are: some of its sources are under the root."""
        shards, lineage = [], {}
        for shard in made.shards:
            _, address, file = shard.file.split("/", 2)
            source = self.outcome.datasets[address]
            (own,) = [one for one in source.shards if one.file == file]
            shards.append(replace(shard, file=source.at(own)))
            lineage[shard.name] = self.lineages[address][own.name]
        return replace(made, shards=tuple(shards)), lineage


def copies_in(made: Dataset) -> Copies:
    """Where the survivors of copies lie. Holds the ids of the dataset."""
    home: dict[bytes, str] = {}
    twins: list[tuple[str, bytes]] = []
    for name in made.names:
        rows = made.select("id", "twin").read(name)
        home |= dict.fromkeys(rows["id"].to_pylist(), name)
        twins += [(name, twin) for twin in pc.drop_null(rows["twin"]).to_pylist()]
    same = sum(home.get(twin) == name for name, twin in twins)
    took_part = made.counts.get("kept", len(home) - len(twins)) + len(twins)
    return Copies(same, len(twins) - same, took_part)


def held_bytes(uri: str) -> int:
    """Bytes of all files under a folder that its stage wrote: what was foretold of it and who sealed it are not."""
    sizes = store.sizes(uri)
    own = sum(size for name, size in sizes.items() if name not in (FORETOLD, signing.FILE))
    return own + sum(held_bytes(store.join(uri, name)) for name in store.listing(uri) if name not in sizes)
