"""One generation of a corpus that is still being written: the recipe up to its tokens, on what a harvest took.

    Crawl        -> Ingest of the generation's archives
    Gather       -> from the second generation on only the sources that stand on the crawl
    Deduplicate  -> against the indexes of the earlier generations; an Index of this one's corpus is made, too
    Tokenize     -> from the second generation on with the vocabulary that the first one learned

Promises: the stages are the recipe's own, run as any run would in a root of their own, so a killed generation goes on
and each can be looked at (`tundish report ROOT/follow/gen-0003`). Costs what a run costs, and the Index. Refuses a
recipe that has not one Crawl and one Tokenize that stands on it, or has several Deduplicates or Pretrains.
"""

import dataclasses
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from tundish.cluster import store
from tundish.cluster.shards import Dataset, opened
from tundish.cluster.verbs import Cluster
from tundish.pipeline.plan import place_of
from tundish.pipeline.recipe import replaced
from tundish.pipeline.run import NothingLeft, run
from tundish.stages.crawl import Crawl
from tundish.stages.deduplicate import Deduplicate
from tundish.stages.extract import Extract
from tundish.stages.forgotten import LEDGER
from tundish.stages.gather import Gather
from tundish.stages.generations import root_of_generation
from tundish.stages.index import Index
from tundish.stages.ingest import Ingest
from tundish.stages.pretrain import Pretrain
from tundish.stages.stage import Settings, Stage
from tundish.stages.tokenize import Tokenize
from tundish.stages.vocabulary import LEARNING

CAPTURES = ("record:response", "record:revisit")  # counts of Ingest


@dataclass(frozen=True)
class Followed:
    """What `follow` needs of a recipe."""

    crawl: Crawl
    tokens: Tokenize
    pretrain: Pretrain | None

    @classmethod
    def of(cls, goal: Stage) -> "Followed":
        crawl, tokens = _only(goal, Crawl), _only(goal, Tokenize)
        if not _stands_on_crawl(tokens):
            raise ValueError(
                "the Tokenize of the recipe does not stand on its Crawl, so nothing of it would grow; use `tundish run`"
            )
        if len(found := [s for s in tokens.walk() if isinstance(s, Deduplicate)]) > 1:
            raise ValueError(
                f"the recipe has {len(found)} Deduplicate stages under its Tokenize, and follow holds the generations "
                "of one against each other; leave one of them"
            )
        if not any(isinstance(s, Pretrain) for s in goal.walk()):
            return cls(crawl, tokens, None)
        pretrain = _only(goal, Pretrain)
        if pretrain.shards is not tokens and pretrain.shards.address != tokens.address:
            raise ValueError(
                f"Pretrain.shards is {pretrain.shards.name}, and generations are those of one Tokenize; give it that"
            )
        if pretrain.weights or pretrain.reweigh:
            raise ValueError(
                "Pretrain.weights are shares of origins, and every generation is a source of its own; leave weights "
                "and reweigh out to follow a crawl"
            )
        return cls(crawl, tokens, pretrain)

    def check(self, root: str) -> None:
        """Refuse now what the first generation would be refused for later: a file that is not there."""
        for stage in self.tokens.walk():
            if stage is not self.crawl:
                place_of(stage, root, Settings())


def _only(goal: Stage, kind: type[Any]) -> Any:
    """The one stage of a kind."""
    found = [stage for stage in goal.walk() if isinstance(stage, kind)]
    if len(found) != 1:
        number = f"{len(found)} {kind.__name__} stages" if found else f"no {kind.__name__}"
        raise ValueError(f"the recipe has {number}, and follow needs exactly one; use `tundish run`, or change it")
    return found[0]


def _stands_on_crawl(stage: Stage) -> bool:
    return any(isinstance(source, Crawl) for source in stage.walk())


def recipe_of(
    tokens: Tokenize, number: int, archives: str, earlier: Sequence[str], vocabulary: str
) -> tuple[Tokenize, Index | None]:
    """The recipe of a generation, and the Index of its corpus if it is deduplicated. `archives`: a folder. `earlier`:
    roots that hold indexes. `vocabulary`: of the first generation."""
    named = f"generation-{number}"
    gathered = {s.address for g in tokens.walk() if isinstance(g, Gather) for s in g.sources.values()}

    def only_grown(stage: Stage) -> Stage:
        if not isinstance(stage, Gather) or not number or not _stands_on_crawl(stage):
            return stage
        return replace(stage, sources={n: s for n, s in stage.sources.items() if _stands_on_crawl(s)})

    def origin_kept(stage: Stage) -> Stage:
        """Documents of a Crawl that no Gather names have the origin `crawl`; they keep it."""
        found = {
            f.name: Gather({"crawl": value})
            for f in dataclasses.fields(stage)
            if isinstance(value := getattr(stage, f.name), Extract)
            and isinstance(value.archives, Crawl)
            and value.address not in gathered
        }
        return replace(stage, **found) if found else stage

    def grown(stage: Stage) -> Stage:
        if isinstance(stage, Crawl):
            return Ingest((archives,))
        if isinstance(stage, Deduplicate):
            return replace(stage, against=(*stage.against, *earlier), crawl=named)
        if isinstance(stage, Tokenize) and number and (stage.extend or not isinstance(stage.vocabulary, str)):
            learning = {f.name: _default(f) for f in dataclasses.fields(stage) if f.name in LEARNING}
            return replace(stage, vocabulary=vocabulary, **learning)
        return stage

    made: Stage = tokens
    for change in (only_grown, origin_kept, grown):
        made = replaced(made, change, {})
    assert isinstance(made, Tokenize)
    twins = next((s for s in made.walk() if isinstance(s, Deduplicate)), None)
    return made, None if twins is None else Index(twins.documents, twins.signatures, made.corpus, named)


def _default(f: "dataclasses.Field[Any]") -> Any:
    return f.default if f.default_factory is dataclasses.MISSING else f.default_factory()


def made(
    root: str,
    tokens: Tokenize,
    number: int,
    archives: str,
    lines: Sequence[dict[str, Any]],
    cluster: Callable[[], Cluster],
    settings: Settings,
    watch: Callable[..., None],
) -> dict[str, Any]:
    """Run a generation; the line of the list that tells of it. `lines`: of the generations before."""
    began, own = time.monotonic(), root_of_generation(root, number)
    if store.exists(store.join(root, LEDGER)):  # what the root was told to forget meanwhile
        store.write(store.join(own, LEDGER), store.read(store.join(root, LEDGER)))
    earlier = [root_of_generation(root, n) for n in range(number) if _indexed(root_of_generation(root, n))]
    goal, index = recipe_of(tokens, number, archives, earlier, vocabulary_of(lines))
    sealed: Dataset | None = None
    try:
        if index is not None:  # first, so that a document that is held out has no twin in a later generation
            run(index, cluster, own, settings=settings, say=watch)
        sealed = run(goal, cluster, own, settings=settings, say=watch).dataset
    except NothingLeft:
        if not number:
            raise
    return {
        "generation": number,
        "tokens": sealed.uri if sealed else None,
        "digest": sealed.digest if sealed else None,
        "documents": sealed.rows if sealed else 0,
        "held_out": _held_out(sealed) if sealed else 0,
        "size": sum(one["tokens"] for one in sealed.about["totals"]["origin"].values()) if sealed else 0,
        "captures": _captures(goal, own),
        "seconds": round(time.monotonic() - began, 1),
    }


def vocabulary_of(lines: Sequence[dict[str, Any]]) -> str:
    """The file of the vocabulary that the first generation learned; "" before there is one."""
    found = [opened(line["tokens"]) for line in lines[:1]]
    return "".join(store.join(one.uri, one.about["vocabulary"]["file"]) for one in found if one)


def _indexed(root: str) -> bool:
    return any(name.startswith("index-") and opened(store.join(root, name)) for name in store.listing(root))


def _held_out(tokens: Dataset) -> int:
    found = opened(store.join(tokens.uri, "holdout"))
    return found.rows if found else 0


def _captures(goal: Stage, root: str) -> int:
    return sum(one.counts.get(name, 0) for one in _harvested(goal, root) for name in CAPTURES)


def _harvested(goal: Stage, root: str) -> Iterator[Dataset]:
    for stage in goal.walk():
        if isinstance(stage, Ingest) and stage.archives == (store.join(root, "archives"),):
            found = opened(store.join(root, stage.address))
            if found is not None:
                yield found
