"""Commits and manifests after rows went: they name the new digests, so that all that is current stays current.

A stage is current when each digest it noted of its inputs is that of the input today. What rows of their own columns
decide (documents, signals, edits, the clean text, tokens) is, without those rows, what it would be had they never been:
its manifest is told the new digests. Where documents are held against each other it may not be: such a stage gets a
word in its manifest (`redo`), its commits go, and the next run makes it again.

Promises: a digest is replaced where it stood and nowhere else. Costs the reading of all commits and manifests. Refuses
nothing.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from tundish.cluster import store
from tundish.cluster.shards import Dataset, Shard, digest_of
from tundish.cluster.target import Target
from tundish.stages.forget_rows import Piece, is_table
from tundish.stages.forget_swap import new
from tundish.stages.forget_tables import totals


@dataclass
class Changes:
    """What is laid down: new shards by their file, `about` of manifests by path, stages to be made again with why."""

    shards: dict[str, Shard] = field(default_factory=dict)
    about: dict[str, dict[str, Any]] = field(default_factory=dict)
    redo: dict[str, str] = field(default_factory=dict)
    remove: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Digests:
    """Old digests and the new ones: of shards as (what a commit calls it, content), and of whole datasets."""

    contents: Mapping[tuple[str, str], str]
    whole: Mapping[str, str]

    def inputs(self, old: Mapping[str, str]) -> dict[str, str]:
        return {name: self.contents.get((name, value)) or self.whole.get(value, value) for name, value in old.items()}


def sealed(found: list[Piece], changes: Changes) -> None:
    """Lay down the manifests and commits that are others now."""
    now = {piece.path: _shards(piece, changes.shards) for piece in found}
    digests = _digests(found, now)
    for piece in found:
        if piece.stage in changes.redo:
            _to_be_made_again(piece, now[piece.path], digests, changes)
        else:
            _kept(piece, now[piece.path], digests, changes)


def _shards(piece: Piece, made: Mapping[str, Shard]) -> list[Shard]:
    """The shards as they are now; files of other datasets are what those say."""
    found = []
    for shard in piece.dataset.shards:
        other = made.get(place(piece, shard))
        if other is not None:
            told = {name: getattr(other, name) for name in ("rows", "size", "digest", "ids")}
            if shard.counts:  # who takes a shard in by reference may do so without its counts
                told["counts"] = other.counts
            shard = replace(shard, **told)
        found.append(shard)
    return found


def place(piece: Piece, shard: Shard) -> str:
    """The file of a shard, named alike by all who refer to it."""
    return store.resolve(piece.dataset.at(shard))[1]


def _digests(found: list[Piece], now: Mapping[str, list[Shard]]) -> Digests:
    contents, whole = {}, {}
    for piece in found:
        for old, shard in zip(piece.dataset.shards, now[piece.path], strict=True):
            if old.content != shard.content:
                contents[f"{piece.dataset.address}/{old.name}", old.content] = shard.content
                contents[f"{piece.dataset.address}/{old.name}", old.digest] = shard.digest
        after = Dataset(piece.dataset.uri, tuple(now[piece.path])).digest
        if piece.sealed and after != piece.dataset.digest:
            whole[piece.dataset.digest] = after
    return Digests(contents, whole)


def _kept(piece: Piece, shards: list[Shard], digests: Digests, changes: Changes) -> None:
    """A dataset that stays current. What has no row of its own (an index of other rows) is not told the new digests,
    so that whoever makes it again begins anew."""
    derived = any(shard.columns and not is_table(shard) for shard in shards)
    told = shards if derived else [replace(shard, inputs=digests.inputs(shard.inputs)) for shard in shards]
    about = dict(piece.about)
    if not derived:
        about = _about(piece, told, digests, changes)
    keys = {piece.about.get("key"): about.get("key")}
    renamed = piece.about.get("key") != about.get("key")
    for old, shard in zip(piece.dataset.shards, told, strict=True):
        if (old != shard or renamed) and not piece.elsewhere(shard):
            _commit(piece, shard, keys)
    if piece.sealed and (tuple(told) != piece.dataset.shards or about != piece.about):
        _manifest(piece, told, about)


def _about(piece: Piece, shards: list[Shard], digests: Digests, changes: Changes) -> dict[str, Any]:
    about = {**piece.about, **changes.about.get(piece.path, {})}
    if "inputs" in about:
        about["inputs"] = digests.inputs(about["inputs"])
    if "from" in about:
        about["from"] = _origin(piece, shards, digests)
    if about.get("totals"):
        about["totals"] = totals(shards)
    outside = [{k: digests.whole.get(v, v) if k == "digest" else v for k, v in one.items()} for one in _outside(piece)]
    if outside != _outside(piece):
        about["outside"] = outside
        if (old := _place(piece, _outside(piece))) == about.get("place"):
            about["place"] = _place(piece, outside)
            about["key"] = about["place"] if about.get("key") == old else about["key"]
    return about


def _outside(piece: Piece) -> list[dict[str, Any]]:
    return list(piece.about.get("outside", ()))


def _place(piece: Piece, outside: list[dict[str, Any]]) -> str:
    """As `pipeline.plan.place_of`: the fingerprint is the end of the folder's name."""
    return digest_of([piece.stage.rpartition("-")[2], outside])


def _origin(piece: Piece, shards: list[Shard], digests: Digests) -> str:
    """What a map noted of all it read, where that can be told from its commits."""
    then: str = piece.about["from"]
    if then == digest_of([[shard.name, dict(shard.inputs)] for shard in piece.dataset.shards]):
        return digest_of([[shard.name, dict(shard.inputs)] for shard in shards])
    return digests.whole.get(then, then)


def _to_be_made_again(piece: Piece, shards: list[Shard], digests: Digests, changes: Changes) -> None:
    """A dataset without the rows that went, that says why it is not current."""
    own = [shard for shard in shards if not piece.elsewhere(shard)]
    store.remove(new(piece.root, *piece.path.split("/"), "commits"))
    changes.remove += [f"{piece.path}/commits/{shard.name}.json" for shard in own]
    if piece.sealed:
        about = {name: value for name, value in piece.about.items() if name != "from"}
        _manifest(piece, shards, {**about, "redo": changes.redo[piece.stage]})


def _commit(piece: Piece, shard: Shard, keys: Mapping[Any, Any]) -> None:
    uri = store.join(piece.dataset.uri, "commits", f"{shard.name}.json")
    if (before := store.read_json(uri)) is not None:
        laid = Target(new(piece.root, *piece.path.split("/")), keys.get(before["key"]) or before["key"])
        laid.commit(shard, before.get("seconds", 0.0))


def _manifest(piece: Piece, shards: list[Shard], about: Mapping[str, Any]) -> None:
    laid = Target(new(piece.root, *piece.path.split("/")), about["key"])
    laid.seal(shards, **{name: value for name, value in about.items() if name != "key"})
