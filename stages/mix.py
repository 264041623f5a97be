"""Mix: token shards of several corpora as one dataset to train on, by reference, wherever they lie.

    part-00017                 a shard of one of them, in its own file: in this root, in another, on S3 or GCS
    holdout/                   their held-out documents, by reference as well
    vocabulary.model           the vocabulary of all of them; grown.json, where one of them tells what was added to it

Promises: nothing is copied but the vocabulary; a shard keeps its digest, so what is read is what was sealed; every
corpus, or every origin of one that has several, is a source that can be weighed. Costs the manifests. Refuses corpora
of different vocabularies or that tell differently how one grew, and what is no sealed dataset of token shards.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

from tundish.cluster import store
from tundish.cluster.shards import Dataset, Shard, opened
from tundish.cluster.verbs import Cluster
from tundish.stages.stage import PLACE, Place, Stage
from tundish.stages.vocabulary import seal_vocabulary, vocabulary_of
from tundish.stages.vocabulary_grown import write_grown


@dataclass(frozen=True)
class Mix(Stage):
    """`of`: name -> Tokenize of this recipe. `elsewhere`: name -> URI of a folder that a Tokenize sealed."""

    makes: ClassVar[tuple[str, ...]] = ("tokens", "id", "bytes", "origin", "language", "place")

    of: Mapping[str, Stage] = field(default_factory=dict)
    elsewhere: Mapping[str, str] = field(default_factory=dict, metadata=PLACE)

    def check(self) -> None:
        if not self.of and not self.elsewhere:
            raise ValueError("Mix has no corpora; name at least one, such as elsewhere: {web: s3://bucket/tokenize-…}")
        for name in sorted({*self.of} & {*self.elsewhere}):
            raise ValueError(f"Mix has two corpora called {name!r}; give one of them another name")

    def outside(self) -> list[dict[str, Any]]:
        return [{"tokens": name, "digest": _elsewhere(uri).digest} for name, uri in sorted(self.elsewhere.items())]

    def run(self, cluster: Cluster, inputs: Mapping[str, Dataset], out: Place) -> Dataset:
        corpora = {**inputs, **{name: _elsewhere(uri) for name, uri in self.elsewhere.items()}}
        first = next(iter(corpora))
        about = corpora[first].about
        for name, tokens in corpora.items():
            _check(name, tokens, first, about)
        vocabulary, body = vocabulary_of(corpora[first])
        store.write(store.join(out.uri, vocabulary), body)
        grown = _grown(corpora)
        write_grown(store.join(out.uri, vocabulary), grown)
        seal_vocabulary(out, vocabulary)
        told = {"vocabulary": {**about["vocabulary"], **({"grown": grown} if grown else {})}}
        told["specials"] = about["specials"]
        held = {name: opened(store.join(tokens.uri, "holdout")) for name, tokens in corpora.items()}
        if lacking := [name for name, found in held.items() if found is None]:
            raise ValueError(f"{corpora[lacking[0]].uri} has no holdout beside its shards; copy the whole folder")
        out.target("holdout").seal(_numbered(held, inputs, 2), **told, origins=_origins(held))
        inside = {"inside": ["holdout", "learned"]}
        return out.target().seal(
            _numbered(corpora, inputs, 1), **out.about, **told, **inside, origins=_origins(corpora)
        )


def _elsewhere(uri: str) -> Dataset:
    found = opened(uri.rstrip("/"))
    if found is None:
        raise ValueError(f"there is no manifest in {uri!r}; give the folder of a Tokenize that has finished")
    return found


def _check(name: str, tokens: Dataset, first: str, about: Mapping[str, Any]) -> None:
    if "origins" not in tokens.about or "vocabulary" not in tokens.about:
        raise ValueError(f"{tokens.uri} holds no token shards of this version; give the folder of a Tokenize")
    ours, theirs = tokens.about["vocabulary"]["digest"], about["vocabulary"]["digest"]
    if ours != theirs:
        raise ValueError(
            f"{name!r} was written with the vocabulary {ours[:12]} and {first!r} with {theirs[:12]}; "
            "tokenize both with one vocabulary (Tokenize.vocabulary takes the path of one)"
        )


def _grown(corpora: Mapping[str, Dataset]) -> Mapping[str, Any] | None:
    """What one of the corpora tells of pieces that were added to the vocabulary; the others have the same file."""
    told = {name: tokens.about["vocabulary"].get("grown") for name, tokens in corpora.items()}
    first = next((name for name, own in told.items() if own), None)
    for name, own in told.items():
        if first and own and any(own[key] != told[first][key] for key in ("first", "parts")):
            raise ValueError(
                f"{first!r} and {name!r} have one vocabulary and tell differently which pieces were added to it; "
                "tokenize both with one file, and its grown.json beside it"
            )
    return told[first] if first else None


def _numbered(corpora: Mapping[str, Dataset | None], here: Collection[str], depth: int) -> list[Shard]:
    """All shards, one behind the other. Files of this root are named from a folder `depth` below it, so that a root
    may be moved."""
    found: list[Shard] = []
    for name, tokens in corpora.items():
        assert tokens is not None
        for shard in tokens.shards:
            far = "://" in shard.file or shard.file.startswith("/")  # of a Mix that holds shards of elsewhere
            ours = name in here and not far
            file = f"{'../' * depth}{tokens.address}/{shard.file}" if ours else tokens.at(shard)
            found.append(replace(shard, name=f"part-{len(found):05d}", file=file, inputs={}))
    return found


def _origins(corpora: Mapping[str, Dataset | None]) -> dict[str, list[int]]:
    """First shard and number of shards of every source."""
    found: dict[str, list[int]] = {}
    before = 0
    for name, tokens in corpora.items():
        assert tokens is not None
        for origin, (first, count) in tokens.about["origins"].items():
            source = name if len(tokens.about["origins"]) == 1 else f"{name}/{origin}"
            if source in found:
                raise ValueError(
                    f"two sources of a Mix would be called {source!r}; give one of the corpora another name"
                )
            found[source] = [before + first, count]
        before += len(tokens.shards)
    return found
