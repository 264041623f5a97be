"""follow: train while the corpus grows. A crawl goes on, and every so often what it has committed becomes a generation.

    <root>/crawl-…/                     the crawl, as `tundish run` makes it, in a process of its own
    <root>/follow/harvest.json          how far each archive was taken
    <root>/follow/gen-0003/             a root of its own: the recipe up to its tokens, on what was new
    <root>/follow/generations.jsonl     the list: a line a generation, {"end": true} after the last
    <root>/follow/training/             the Pretrain of the recipe, on the list as it grows; its plan replays from it
    <root>/follow/crawl.log, training.log

Promises: no capture in two generations and none left out; a generation, once listed, is never changed; whatever is
killed, the same command goes on with all of it. The first generation waits until there is enough to learn the
vocabulary from. Costs what the stages cost, and a copy of the archives. Refuses a second follow of one root.
"""

import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from tundish.cluster import store
from tundish.cluster.verbs import Cluster
from tundish.pipeline.children import Child, crawled, trained
from tundish.pipeline.cli_options import loaded, settings_of
from tundish.pipeline.generation import Followed, made
from tundish.pipeline.lease import Lease
from tundish.pipeline.run import nothing
from tundish.stages.generations import FOLLOW, LIST, Journal
from tundish.stages.generations_list import lines, written
from tundish.stages.harvest import Growing

LOOK, FAR = 1.0, 30.0  # seconds between looks at a training's log, once there is nothing else to do; in a store
LINES = 4096  # bytes at the end of that log, which hold its last whole line
Tell = Callable[[str, dict[str, Any]], None]  # (what happened, what of it)


@dataclass(frozen=True)
class Wish:
    """What was asked for, as words: the children read the recipe themselves."""

    recipe: str
    root: str
    sets: tuple[str, ...] = ()
    wire: tuple[str, ...] = ()
    on: str = "local"
    workers: int | None = None
    every: float = 600.0


def silent(event: str, told: dict[str, Any]) -> None:
    """Nobody listens."""


def follow(
    wish: Wish, cluster: Callable[[], Cluster], tell: Tell = silent, say: Callable[..., None] = nothing
) -> list[dict[str, Any]]:
    """Follow a crawl to its end, and the training on it to its own; gives the list. `say`: of each stage, as a run."""
    root = store.absolute(wish.root)
    parts = Followed.of(loaded(wish.recipe, wish.sets, None))
    parts.check(root)
    with Lease(store.join(root, FOLLOW)) as lease:
        following = Following(wish, root, parts, lease, cluster, tell, say)
        try:
            following.crawl()
            following.train()
        finally:
            for child in following.children.values():
                child.stop()
        return following.lines


@dataclass
class Following:
    """One life of a follow: the journal, the list, the children."""

    wish: Wish
    root: str
    parts: Followed
    lease: Lease
    cluster: Callable[[], Cluster]
    tell: Tell
    say: Callable[..., None]
    children: dict[str, Child] = field(default_factory=dict)

    def __post_init__(self) -> None:
        crawl = self.parts.crawl
        rules = crawl.rules
        self.growing = Growing(store.join(self.root, crawl.address), rules.parts, rules.pages, rules.archive)
        self.journal = Journal.of(self.root, crawl.address, self.parts.tokens.address)
        self.listed = store.join(self.root, FOLLOW, LIST)
        self.told = lines(self.listed)

    @property
    def ended(self) -> bool:
        return bool(self.told) and bool(self.told[-1].get("end"))

    @property
    def lines(self) -> list[dict[str, Any]]:
        return self.told

    def crawl(self) -> None:
        """Until the crawl is sealed and all of it listed."""
        self._begin_training()
        if self.ended:
            return
        wish = self.wish
        given = (wish.recipe, wish.sets, wish.wire, self.root, wish.on, wish.workers)
        child = self._start("crawl", crawled, *given)
        while self._pending() and self._generation(sure=self._pending() > 1):
            pass  # what was harvested in an earlier life: the same bytes again
        while not child.ended(wish.every):
            self._harvest(self.growing.settled())
            self._watch_training()
        child.check()
        self._harvest(self.growing.sealed(), sure=True)
        self._list({"end": True})

    def _harvest(self, now: dict[str, int], sure: bool = False) -> None:
        """Make a generation of what is new. `sure`: nothing more will come."""
        journal = self.journal.harvested(now, len(self.told))
        if journal is self.journal and not (sure and self._pending()):
            return self.tell("nothing", {"at": time.time()})
        self.lease.check()
        self.journal = journal
        journal.write()
        self._generation(sure)

    def _pending(self) -> int:
        """How many generations are harvested and not listed."""
        return len(self.journal.generations) - len(self.told)

    def _generation(self, sure: bool) -> bool:
        """Make the next generation that is harvested; whether it could be. The first one may have to grow for it."""
        number = len(self.told)
        archives = self.journal.copied(self.growing, number)
        wish, parts = self.wish, self.parts
        try:
            settings = settings_of(wish.wire)
            line = made(self.root, parts.tokens, number, archives, self.told, self.cluster, settings, self.say)
        except ValueError as error:
            if number or sure:
                raise
            self.tell("not yet", {"generation": number, "because": str(error)})
            return False
        self._list(line)
        self._begin_training()
        return True

    def _list(self, line: dict[str, Any]) -> None:
        self.lease.check()
        self.told = [*self.told, line]
        written(self.listed, self.told)
        for child in self.children.values():
            child.keep()
        self.tell("end" if "end" in line else "generation", {**line, "training": self.training()})

    # the training

    @property
    def out(self) -> str:
        return store.join(self.root, FOLLOW, "training")

    def _begin_training(self) -> None:
        if self.parts.pretrain is not None and "training" not in self.children and self.told:
            self._start("training", trained, self.listed, self.out, self.parts.pretrain)

    def _watch_training(self) -> None:
        """Say once if it failed: the crawl and the generations are worth going on with."""
        child = self.children.get("training")
        if child is not None and child.ended() and child.code:
            self.tell("training failed", {"because": child.sentence()})

    def train(self) -> None:
        """Until the training is at its end."""
        if (child := self.children.get("training")) is None:
            return
        while not child.ended(FAR if store.local(self.root) is None else LOOK):
            self.tell("training", self.training())
        child.check()
        self.tell("trained", self.training())

    def training(self) -> dict[str, Any]:
        """The last line of the training's log; empty before there is one."""
        log = store.join(self.out, "log.jsonl")
        if not (size := store.size(log)):
            return {}
        with store.opened(log) as stream:
            stream.seek(max(0, size - LINES))
            whole = [line for line in stream.read().split(b"\n")[:-1] if line.startswith(b"{") and line.endswith(b"}")]
        return dict(json.loads(whole[-1])) if whole else {}

    def _start(self, name: str, work: Callable[..., None], *given: Any) -> Child:
        self.children[name] = Child(name, store.join(self.root, FOLLOW, f"{name}.log"), work, *given)
        return self.children[name]


def replayed(wish: Wish, out: str) -> dict[str, Any]:
    """Train again in `out` by the plan that a followed training left; whether the ledgers are equal, and where not."""
    pretrain = Followed.of(loaded(wish.recipe, wish.sets, None)).pretrain
    plan = store.join(store.absolute(wish.root), FOLLOW, "training", "plan.json")
    if pretrain is None:
        raise ValueError(f"{wish.recipe} has no Pretrain, so there is no training to replay; add one and follow again")
    if not store.exists(plan):
        raise ValueError(f"there is no plan {plan}; let `tundish follow` train first")
    from tundish.stages.follow_train import replay

    out = store.absolute(out)
    replay(plan, out, pretrain)
    one, other = (
        store.read(store.join(folder, "ledger.jsonl")).splitlines() for folder in (plan.rpartition("/")[0], out)
    )
    differ = [n for n, pair in enumerate(zip(one, other, strict=False)) if pair[0] != pair[1]]
    first = differ[0] if differ else min(len(one), len(other))
    return {"equal": one == other, "steps": len(other), "first_difference": None if one == other else first}
