"""What a root says that lies under it, held against what does: a dataset that is gone leaves no manifest to be wrong.

    runs/<time>.json         `digests`: each dataset as the run left it
    <stage>/manifest.json    `about.inputs`: the digest of each dataset it was made from; `about.inside`: the datasets
                             that lie in its folder

Promises: whatever the latest run that was done left, and every dataset inside a stage, is there with the digest it had,
or is named, one sentence each. What may be otherwise by right is not called wrong but not known: what a later run that
was stopped may be making again, what a `tundish forget` changed since and nothing was made from, what a `tundish prune`
that was stopped may have taken, all of a root without the record of a run that was done. Costs the reading of records
and manifests; hashes nothing. Does not notice what went together with its record: records are not signed.
"""

import datetime
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from tundish.cluster import store
from tundish.cluster.shards import Dataset, opened
from tundish.pipeline.funnel import Ran, runs, sources
from tundish.pipeline.prune import STAGE
from tundish.stages.forgotten import lines

AGAIN = "; a run that was stopped since may have begun to make it again"
Found = Mapping[str, Dataset | None]  # sealed stages of a root by address; None where the manifest cannot be read


class Held(NamedTuple):
    """Sentences, one for each dataset."""

    wrong: list[str]
    unknown: list[str]


@dataclass
class Promise:
    """A stage's dataset as the latest record that has it tells it."""

    digest: str
    run: str
    started: float  # of that run, seconds since 1970
    sure: bool = True  # since then no run was stopped that may have begun to make it again
    kept: bool = True  # the latest run stands on it, so that no prune takes it


def held(root: str, uris: Iterable[str]) -> Held:
    """`uris`: of every sealed dataset under the root. Roots inside it, such as a generation's, are looked at too."""
    top, found = store.join(root), Held([], [])  # as the URIs begin
    roots: dict[str, list[str]] = {top: []}
    for uri in uris:
        folder, _, address = uri.rpartition("/")
        if STAGE.fullmatch(address):
            roots.setdefault(folder, []).append(address)
    for place, addresses in roots.items():
        more = _held(place, addresses, top)
        found.wrong.extend(more.wrong)
        found.unknown.extend(more.unknown)
    return found


def _held(root: str, addresses: list[str], top: str) -> Held:
    """One root. `top`: the one it lies in, or itself, whose ledger a forgetting writes."""
    promises, begun, wrong, unknown = dict[str, Promise](), set[str](), list[str](), list[str]()
    forgot = 0.0
    try:
        promises, begun = promised(
            root
        )  # before the datasets: a run that ends meanwhile has sealed what its record tells
        forgot = max((_time(line) for one in {top, root} for line in lines(one)), default=0.0)
    except ValueError as error:  # a record, or the ledger, that cannot be read
        wrong.append(str(error))
    if not promises and not wrong and root == top:
        unknown.append(f"whether all is there: no run under {root!r} was done, or none that says what it left")
    stages = _stages(root, dict.fromkeys([*addresses, *promises]))
    for address, dataset in stages.items():
        for sentence in _inside(address, dataset) if dataset else ():
            unknown.append(sentence + AGAIN) if address in begun else wrong.append(sentence)
    more = _compared(root, stages, promises, forgot)
    return Held(wrong + more.wrong, unknown + more.unknown)


def _stages(root: str, addresses: Iterable[str]) -> Found:
    found: dict[str, Dataset | None] = {}
    for address in addresses:
        try:
            dataset = opened(store.join(root, address))
            found |= {address: dataset} if dataset is not None else {}
        except (KeyError, TypeError, ValueError):  # `verify` says so
            found[address] = None
    return found


def _inside(address: str, dataset: Dataset) -> Iterator[str]:
    for name in dataset.about.get("inside", ()):
        if not store.exists(store.join(dataset.uri, *name.split("/"), "manifest.json")):
            yield f"{address}/{name}: the dataset is gone, and the manifest of {address} names it"


def promised(root: str) -> tuple[dict[str, Promise], set[str]]:
    """By address, what the latest run that was done left; also what earlier runs of the same goal did, for one that
    was told where to stop (`--until`) says nothing of what comes after. And the stages that a run which was stopped
    may have begun to make, or make again."""
    records = [(name, _record(root, name)) for name in runs(root)]
    goal = next((one["goal"] for _, one in reversed(records) if _done(one)), None)
    found, begun = dict[str, Promise](), set[str]()
    for name, one in records:
        own = _done(one) and one["goal"] == goal
        for address, digest in one["digests"].items():
            if own or address in found:
                found[address] = Promise(digest, name, one["started"])
        begun |= set() if one["outcome"] == "done" else one["recipe"].keys()
        begun -= one["digests"].keys()
    for address, promise in found.items():
        promise.sure, promise.kept = address not in begun, address in records[-1][1]["recipe"]
    return found, begun


def _record(root: str, name: str) -> dict[str, Any]:
    uri = store.join(root, "runs", f"{name}.json")
    told = store.read_json(uri) or {}
    try:
        return {
            "goal": told.get("goal", ""),
            "outcome": told.get("outcome", ""),
            "started": float(told.get("started", 0.0)),
            "recipe": dict(told.get("recipe", {})),
            "digests": dict(told.get("digests", {})),
        }
    except (AttributeError, TypeError, ValueError) as error:
        raise ValueError(f"{uri} is no record of a run ({error}); restore it, or remove it") from None


def _done(record: Mapping[str, Any]) -> bool:
    return bool(record["outcome"] == "done" and record["digests"])


def _time(line: Mapping[str, Any]) -> float:
    """The end of the second in which something was forgotten."""
    try:
        return 1.0 + datetime.datetime.fromisoformat(line["time"]).timestamp()
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"the ledger of what is forgotten has a line without a time ({error}); restore it") from None


@dataclass
class _Told:
    """Sentences by the address they are about, so that each dataset has one; `loose`: changed by a forgetting."""

    wrong: dict[str, str]
    unknown: dict[str, str]
    loose: dict[str, None]


def _compared(root: str, stages: Found, promises: Mapping[str, Promise], forgot: float) -> Held:
    """Hold each promise against what is there. `forgot`: when something was forgotten last."""
    told = _Told({}, {}, {})
    for address, promise in promises.items():
        if address not in stages:
            _gone(root, address, promise, told)
        elif (dataset := stages[address]) is not None and dataset.digest != promise.digest:
            _other(address, promise, promise.started < forgot, told)
    for reader, source, same in _made_from(stages, promises):
        if same:
            told.loose.pop(source, None)
        elif source in told.loose:
            del told.loose[source]
            told.wrong[source] = f"{source}: its content is not what {reader} was made from"
        elif source not in told.wrong:
            told.wrong.setdefault(reader, f"{reader}: it was made from another {source} than the one there")
    if told.loose:
        names = ", ".join(told.loose)
        told.unknown[names] = f"a `tundish forget` changed {names} since the run, and what became of it is in no record"
    return Held([*told.wrong.values()], [*told.unknown.values()])


def _gone(root: str, address: str, promise: Promise, told: _Told) -> None:
    sentence = f"{address}: the dataset is gone, and the run {promise.run} left one"
    if not promise.sure and store.listing(store.join(root, address)):  # begun again it has no manifest for a while
        told.unknown[address] = sentence + AGAIN
    elif not promise.kept:
        told.unknown[address] = f"{sentence}; the latest run does not need it, so a `tundish prune` may have taken it"
    else:
        told.wrong[address] = sentence


def _other(address: str, promise: Promise, forgotten: bool, told: _Told) -> None:
    if not promise.sure:
        sentence = f"{address}: its content is not what the run {promise.run} left there"
        told.unknown[address] = sentence + AGAIN
    elif forgotten:
        told.loose[address] = None
    else:
        told.wrong[address] = f"{address}: its content is not what the run {promise.run} left there"


def _made_from(stages: Found, promises: Mapping[str, Promise]) -> Iterator[tuple[str, str, bool]]:
    """(stage, stage it was made from, whether that is the one there), as manifests say. Nothing of one that a later
    run made anew: what was made from it before is of before by right, until it runs again."""
    known = {a: stages[a] for a, promise in promises.items() if promise.sure and stages.get(a) is not None}
    for reader, dataset in known.items():
        for source, then in made_from(dataset, known).items() if dataset else ():
            if (now := known[source]) is not None and promises[reader].started >= promises[source].started:
                yield reader, source, then == now.digest


def made_from(dataset: Dataset, known: Iterable[str]) -> dict[str, str]:
    """Address -> digest of each stage among `known` that a manifest says its dataset was made from. Nothing of one
    that is to be made again after a forgetting (`redo`): its inputs are others by now."""
    if dataset.about.get("redo"):
        return {}
    addresses, found = set(known), dict[str, str]()
    for field, value in dataset.about.get("fields", {}).items():
        for name, word in value.items() if isinstance(value, Mapping) else [(field, value)]:
            then = dataset.about.get("inputs", {}).get(name)
            if isinstance(word, str) and word in addresses and then:
                found[word] = then
    return found


def refuse_other(told: Ran, address: str) -> None:
    """ValueError when a stage that this one stands on, itself or what lies in its folder is gone, or is another than
    it was made from: then numbers and columns of what is made of it would be wrong."""
    below = list(_below(told, address))
    for one in below:
        if one not in told.datasets:
            raise ValueError(
                f"{one}, which {address} stands on, is not sealed under {told.root!r}; run the recipe again"
            )
        for sentence in _inside(one, told.datasets[one]):
            raise ValueError(f"{sentence}; run the recipe again")
    for one in below:
        for source, then in made_from(told.datasets[one], below).items():
            if told.datasets[source].digest != then:
                raise ValueError(f"{one} was made from another {source} than the one there; run the recipe again")


def _below(told: Ran, address: str) -> Iterator[str]:
    """Every stage that one stands on, and itself last."""
    seen: dict[str, None] = {}

    def visit(one: str) -> Iterator[str]:
        if one not in seen:
            seen[one] = None
            for source in sources(told.recipe, one):
                yield from visit(source)
            yield one

    yield from visit(address)
