"""What a training will stream, told before it begins: rows, epochs and padding, and what storage far away must give.

Promises: nothing is read but manifests; rows are reckoned from the counts in them (within a percent of what the index
says), the order in which shards are used is the training's own. Costs about a millisecond a use of a shard. Refuses
what the training would refuse: unknown sources, a cache too small for one moment.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tundish.cluster import store
from tundish.cluster.fetch import Entry, speed
from tundish.cluster.rehearsal import Rehearsal, rehearsal, table
from tundish.cluster.shards import Dataset, opened
from tundish.operators.model.plan import Plan, Stretch, weights_of
from tundish.operators.model.rows import FRAME, Layout
from tundish.pipeline.funnel import ran, runs
from tundish.stages.pretrain import FORETOLD
from tundish.stages.token_stream import TokenFiles, future, mean_places


@dataclass(frozen=True)
class Wish:
    """What is asked about: rows of `layout`, `batch` rows a step, `tokens` in all."""

    layout: Layout
    batch: int
    tokens: int
    window: int
    seed: int
    weights: Mapping[str, float]


@dataclass(frozen=True)
class Foretold:
    """The sources with rows, tokens and epochs of each, and the whole."""

    sources: list[dict[str, Any]]
    steps: int
    rows: int
    padding: float
    storage: Rehearsal | None
    cache: int
    bandwidth: float

    def plain(self) -> dict[str, Any]:
        storage = {**vars(self.storage), "hit_rate": self.storage.hit_rate} if self.storage else None
        return {**vars(self), "storage": storage}


def tokens_at(where: str) -> Dataset:
    """Token shards at a URI: the dataset itself, or that of the latest run under a root."""
    found = opened(where.rstrip("/"))
    if found is None and runs(where):
        past = ran(where)
        trained = [past.field(address, "shards") for address in past.of("Pretrain")]
        for address in [*trained, *past.of("Mix"), *past.of("Tokenize")]:
            if address in past.datasets:
                return past.datasets[address]
    if found is None or "origins" not in found.about:
        raise ValueError(f"there are no token shards at {where!r}; give a root, or the folder of a Tokenize or Mix")
    return found


def foretold(
    tokens: Dataset, wish: Wish, *, rate: float | None = None, bandwidth: float | None = None, cache: int = 0
) -> Foretold:
    """`rate`: tokens a second that the workers of one node eat; `bandwidth`: bytes a second of its link (None: measured
    by reading from the first shard); `cache`: bytes."""
    files = [reckoned(tokens, name, first, count, wish.layout) for name, (first, count) in parts(tokens)]
    sources = tuple(one.source for one in files)
    weights = weights_of(sources, wish.weights or None)
    plan = Plan(wish.seed, sources, (Stretch(0, weights),), ((0, wish.batch),), wish.window)
    mean = mean_places(files, dict(weights))
    steps = max(1, int(wish.tokens / (wish.batch * mean)))
    rows, total = steps * wish.batch, sum(weight for _, weight in weights)
    told = [
        {
            "source": one.name,
            "rows": sum(one.rows),
            "places": one.places,
            "epochs": rows * weight / total / sum(one.rows),
        }
        for one in files
        for name, weight in weights
        if name == one.name
    ]
    storage, link = None, bandwidth or 0.0
    if rate:
        every = [entry for one in files for entry in one.entries]
        link, cache = link or speed(every[0]), cache or sum(entry.size for entry in every)
        uses = future(files, plan, rows)
        storage = rehearsal(uses, every, cache, rate=rate / mean, bandwidth=link, until=rows)
    return Foretold(told, steps, rows, 1 - mean / wish.layout.row, storage, cache, link)


def keep(folder: str, told: Mapping[str, Any]) -> str:
    """Keep beside a stage what was foretold of it; a sentence where that cannot be, and "" where it was kept."""
    try:
        store.write_json(store.join(folder, FORETOLD), told)
    except (OSError, ValueError) as error:  # the second is what `store` makes of a refusal
        return f"not kept, so no run can be held against it: {error}"
    return ""


def parts(tokens: Dataset) -> list[tuple[str, tuple[int, int]]]:
    return [(name, (first, count)) for name, (first, count) in sorted(tokens.about["origins"].items())]


def reckoned(tokens: Dataset, name: str, first: int, count: int, layout: Layout) -> TokenFiles:
    """A source with rows as its shards' counts of documents and tokens lead to expect."""
    shards = tokens.shards[first : first + count]
    rows, places = [], 0
    for shard in shards:
        held, documents = shard.counts["tokens"], shard.counts["documents"]
        here = held + FRAME * (documents + held // (layout.context - FRAME)) if held else 0
        rows.append(-(-here // layout.row))
        places += here
    uris = tuple(tokens.at(shard) for shard in shards)
    known = tuple(Entry(uri, shard.size, shard.digest) for uri, shard in zip(uris, shards, strict=True))
    return TokenFiles(name, uris, tokens.digest, ("",) * count, tuple(rows), places, known)


def told(found: Foretold, wish: Wish) -> Sequence[str]:
    """For people, line by line."""
    lines = [f"{'source':<24}{'rows':>14}{'places':>18}{'epochs':>9}"]
    lines += [f"{s['source']:<24}{s['rows']:>14,}{s['places']:>18,}{s['epochs']:>9.2f}" for s in found.sources]
    most = max(wish.layout.spare / wish.layout.row, found.padding)
    lines.append(
        f"{found.steps:,} steps of {wish.batch} rows of {wish.layout.row} places, "
        f"{found.padding:.2%} to {most:.2%} of them padding"
    )
    if found.storage:
        lines.append(table(found.storage, found.cache, found.bandwidth))
    return lines
