"""Tokenize: a vocabulary learned from the corpus itself, and token shards a trainer maps into memory.

    vocabulary.model           SentencePiece, trained on one thread from a sample chosen by hash; or one that was given,
                               with pieces added that it lacks for this corpus
    part-00017.arrow           tokens: large_list<uint16|uint32>, id, bytes, origin, language, place; one record batch
                               of one origin, rows placed and sorted by a keyed hash of `id` (`place`)
    holdout/part-00000.arrow   documents kept out of vocabulary and training, chosen by the hash of their cluster

Promises: the same corpus gives the same pieces and shards on any number of workers. Costs one pass for the sample and
two for the tokens. Refuses a vocabulary the corpus is too small for, and says which size is possible.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tundish.cluster.exchange import exchange_, mixed
from tundish.cluster.shards import Dataset
from tundish.cluster.target import Target
from tundish.cluster.verbs import At, Cluster
from tundish.operators.text import warm
from tundish.operators.text.digest import keyed
from tundish.operators.text.fertility import COUNTS
from tundish.stages.corpus import BYTES_OF
from tundish.stages.stage import PLACE, Place, Stage
from tundish.stages.vocabulary import (
    HOLDOUT_SEED,
    check_wanted,
    encode,
    measured,
    outside_of,
    settled,
    share,
    write_fertility,
)

PLACE_SEED = 0x91ACE
BYTES_A_SHARD = 256 << 20  # of text; decides how many token shards there are
TOTALS = ("documents", "tokens", "bytes", *COUNTS)


@dataclass(frozen=True)
class Tokenize(Stage):
    """`vocabulary`: pieces, specials included; or the file of one, to which `extend` pieces are added. `holdout`: share
    of clusters kept out. `sample`: bytes to learn from."""

    version: ClassVar[int] = 3
    makes: ClassVar[tuple[str, ...]] = ("tokens", "id", "bytes", "origin", "language", "place")
    wants: ClassVar[Mapping[str, tuple[str, ...]]] = {"corpus": ("id", "text", "cluster")}

    corpus: Stage
    vocabulary: int | str = field(default=32_768, metadata=PLACE)
    holdout: float = 0.005
    kind: str = "unigram"
    coverage: float = 0.9995  # share of characters with a piece of their own; the others are spelt in bytes
    sample: int = 64 << 20
    temperature: float = 1.0
    weights: Mapping[str, float] = field(default_factory=dict)
    specials: tuple[str, ...] = ()
    extend: int = 0

    def check(self) -> None:
        if not 0 <= self.holdout < 1:
            raise ValueError(f"Tokenize.holdout is {self.holdout}; it is a share of the clusters, such as 0.01")
        check_wanted(self)

    def outside(self) -> list[dict[str, Any]]:
        return outside_of(self)

    def prepare(self) -> None:
        warm.encoding()

    def run(self, cluster: Cluster, inputs: Mapping[str, Dataset], out: Place) -> Dataset:
        corpus = inputs["corpus"]
        found = settled(cluster, corpus, self, out)
        parts = parts_of(corpus)
        about = {**out.about, **found.about, "inside": ["holdout", *found.inside]}
        sides = []
        for held in (True, False):
            own = {origin: (number, 1) for number, origin in enumerate(parts)} if held else parts
            placed = exchange_(
                cluster,
                "Tokenize: holdout" if held else "Tokenize",
                sorted_rows,
                corpus.select("id", "text", "origin", "language", "cluster"),
                out.target(*(["holdout"] if held else []), format="arrow", salt=found.digest),
                by="part",
                parts=max((first + count for first, count in own.values()), default=1),
                numbered=True,
                sort=("place", "id"),
                first=Encoded(found.uri, found.digest, self.holdout, held, own),
                about=about | {"origins": {origin: list(each) for origin, each in own.items()}},
            )
            sides.append(totalled(placed))
        return sides[-1]


def parts_of(corpus: Dataset) -> dict[str, tuple[int, int]]:
    """First shard and number of shards of each origin: a shard holds one origin, so that origins can be weighed."""
    sizes = {name.removeprefix(BYTES_OF): size for name, size in corpus.counts.items() if name.startswith(BYTES_OF)}
    found, first = {}, 0
    for origin, size in sorted(sizes.items()):
        found[origin] = first, max(1, -(-size // BYTES_A_SHARD))
        first += found[origin][1]
    return found


def part_of_place(place: np.ndarray, first: int, count: int) -> np.ndarray:
    """The shard of rows at these places (n,) uint64, among those of their origin."""
    return first + (mixed(place) % np.uint64(count)).astype(np.int64)


@dataclass(frozen=True)
class Encoded:
    """Documents -> their tokens, the place their id gives them, and the shard their origin and place do."""

    model: str
    digest: str
    holdout: float
    held: bool
    parts: Mapping[str, tuple[int, int]]

    def __call__(self, batch: pa.Table, at: At) -> pa.Table:
        away = share(batch["cluster"].combine_chunks(), HOLDOUT_SEED) < self.holdout
        batch = batch.filter(pa.array(away if self.held else ~away))
        text, ids = batch["text"].combine_chunks(), batch["id"].combine_chunks()
        tokens, place = encode(text, self.model, self.digest), keyed(ids, PLACE_SEED)
        at.tally["documents"] += len(batch)
        at.tally["tokens"] += len(tokens.flatten())
        part = np.full(len(batch), -1, np.int64)
        for origin, (first, count) in self.parts.items():
            mine = pc.equal(batch["origin"], origin).to_numpy(zero_copy_only=False)
            part[mine] = part_of_place(place[mine], first, count)
        if (part < 0).any():
            strange = batch["origin"][int(np.flatnonzero(part < 0)[0])].as_py()
            raise ValueError(f"the corpus did not count the origin {strange!r}; make the corpus anew and tokenize then")
        columns: dict[str, Any] = {
            "tokens": tokens,
            "id": ids,
            "bytes": pc.binary_length(text).cast(pa.uint32()),
            "origin": batch["origin"].cast(pa.string()),
            "language": batch["language"].cast(pa.string()),
            "place": pa.array(place),
            "part": pa.array(part),
        }
        return pa.table(columns | measured(text, tokens, self.model, self.digest))


def sorted_rows(batch: pa.Table, at: At) -> pa.Table:
    """Rows of one shard, sorted by place: an id leads to its row by binary search."""
    sizes = {"tokens": pc.list_value_length(batch["tokens"]), **{name: batch[name] for name in TOTALS[2:]}}
    for column in ("origin", "language"):
        table = pa.table({column: batch[column], **sizes})
        found = table.group_by(column).aggregate([("tokens", "count"), *((name, "sum") for name in sizes)])
        for value, *numbers in zip(*(found[name] for name in found.column_names), strict=True):
            for name, number in zip(TOTALS, numbers, strict=True):
                at.tally[f"{name}:{column}:{value.as_py() or ''}"] += number.as_py() or 0
    for name, number in zip(TOTALS, (len(batch), *map(pc.sum, sizes.values())), strict=True):
        at.tally[name] += number if isinstance(number, int) else number.as_py() or 0
    return batch.drop_columns(["part", *COUNTS])


def totalled(tokens: Dataset) -> Dataset:
    """The shards with their totals in the manifest: documents, tokens and bytes of each origin and language."""
    totals: dict[str, dict[str, dict[str, int]]] = {"origin": {}, "language": {}}
    for key, number in tokens.counts.items():
        name, _, rest = key.partition(":")
        column, _, value = rest.partition(":")
        if column in totals:
            totals[column].setdefault(value, {})[name] = number
    write_fertility(tokens.uri, totals)
    if tokens.about.get("totals") == totals:
        return tokens
    about = {name: value for name, value in tokens.about.items() if name != "key"}
    return Target(tokens.uri, tokens.about["key"]).seal(tokens.shards, **about, totals=totals)
