"""Ways of single documents for the search of the report: a bounded sample, told in a line a stage.

A page cannot hold a corpus. It holds `MOST` documents, those with the smallest keyed hash of their id in `FEW` shards
drawn by the hash of their names, and `EACH` of every reason for which something was dropped. `tundish why` knows them
all.

Promises: the same root gives the same sample, whatever else is on the page. No text is read. Costs the columns it names
of those shards, once each, and for a document that was trained on what its steps cost. Addresses lose nothing but what
a password in them would be (`user:password@`).
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from tundish.cluster import store
from tundish.cluster.shards import Dataset
from tundish.pipeline.examples import draw, drawn
from tundish.pipeline.funnel import Ran, short, urls
from tundish.pipeline.judgements import beside
from tundish.pipeline.seen import Ledger, spelt
from tundish.pipeline.why import placed

MOST, FEW, EACH, STEPS = 200, 8, 5, 10
COLUMNS = {
    "Identify": ("language", "confidence"),
    "Judge": ("score",),
    "Refine": ("reason", "value", "threshold"),
    "Deduplicate": ("twin", "kind", "similarity", "copies", "quarantine", "cluster"),
}
SECRET = re.compile(r"(?<=://)[^/@\s]+@")


@dataclass
class Way:
    """One document: its address and id (hex; "" of what became no document), what became of it in a few words, and
    what each stage said of it as (stage, words). `reason`: why it was dropped."""

    url: str
    id: str
    outcome: str = ""
    reason: str = ""
    steps: list[tuple[str, str]] = field(default_factory=list)

    @property
    def key(self) -> str:
        """What a search looks through."""
        return f"{self.url} {self.id}".lower()


@dataclass(frozen=True)
class Searched:
    """The ways in the order of their addresses, and how many documents there are in all."""

    ways: list[Way]
    documents: int


def searched(told: Ran) -> Searched | None:
    """The sample of a run; None of one that has no documents yet."""
    base = base_of(told)
    if base is None:
        return None
    ways = [*_refused(told), *_documents(told, base)]
    for way in ways:
        way.url = SECRET.sub("", way.url)
    return Searched(sorted(ways, key=lambda way: (way.url, way.id)), base.rows)


def base_of(told: Ran) -> Dataset | None:
    """The documents that were judged last, else those that were written last."""
    judged = [told.input(address, "documents") for address in (*told.of("Refine"), *told.of("Corpus"))]
    plain = [told.datasets[address] for address in (*told.of("Read"), *told.of("Extract"), *told.of("Gather"))]
    return next((one for one in reversed([*plain, *judged]) if one is not None), None)


def _refused(told: Ran) -> Iterator[Way]:
    """What Extract and Read made no document of, some of each reason."""
    for address in (*told.of("Extract"), *told.of("Read")):
        gone, stage = told.inside(address, "dropped"), told.recipe[address]["stage"]
        for row in _each(gone, "url", "reason", "detail") if gone else ():
            said = row["reason"] + (f" ({row['detail']})" if row["detail"] else "")
            yield Way(row["url"] or "", "", f"dropped by {stage}: {row['reason']}", row["reason"], [(stage, said)])


def _each(gone: Dataset, *columns: str) -> list[dict[str, Any]]:
    """Rows of every reason, those whose address has the smallest keyed hash."""
    found: dict[str, list[dict[str, Any]]] = {}
    for name in sorted(gone.names, key=draw)[:FEW]:
        for row in gone.select(*columns).read(name).to_pylist():
            found.setdefault(row["reason"], []).append(row)
        found = {reason: sorted(rows, key=lambda row: draw(row["url"] or ""))[:EACH] for reason, rows in found.items()}
    return [row for rows in found.values() for row in rows]


def _documents(told: Ran, base: Dataset) -> Iterator[Way]:
    """The sample of the documents, shard by shard."""
    chosen: list[tuple[int, str, int]] = []
    for name in sorted(base.names, key=draw)[:FEW]:
        ids = base.select("id").read(name)["id"].combine_chunks()
        chosen += [(number, name, row) for number, row in drawn(ids, np.arange(len(ids)), MOST)]
    rows: dict[str, set[int]] = {}
    for _, name, row in sorted(chosen)[:MOST]:
        rows.setdefault(name, set()).add(row)
    for address in told.of("Corpus"):
        gone = told.inside(address, "dropped") if beside(told, address) == base.address else None
        for one in _each(gone, "url", "reason", "shard", "row") if gone else ():
            rows.setdefault(one["shard"], set()).add(one["row"])
    trained = list(_trainings(told))
    for name in sorted(rows):
        yield from _of_shard(told, base, name, sorted(rows[name]), trained)


def _of_shard(told: Ran, base: Dataset, name: str, rows: list[int], trained: list["Trained"]) -> Iterator[Way]:
    """Ways of these rows of a shard."""
    kept = base.select("id", "url", "origin").read(name).take(rows).to_pylist()
    ways = [Way(one["url"] or "", one["id"].hex()) for one in kept]
    for address, stage in told.recipe.items():
        if stage["stage"] not in COLUMNS or address not in told.datasets or beside(told, address) != base.address:
            continue
        table = told.datasets[address].select(*COLUMNS[stage["stage"]]).read(name).take(rows)
        some = table.to_pylist()
        survivors = urls(base, {row["twin"] for row in some if row.get("twin")})
        for way, row in zip(ways, some, strict=True):
            _say(way, stage["stage"], row, survivors)
    for address in told.of("Corpus"):
        if beside(told, address) == base.address:
            _ended(told, address, name, rows, ways)
    for way, one in zip(ways, kept, strict=True):
        if way.outcome == IN:
            way.steps += [line for each in trained for line in each.of(one["id"], one["origin"])]
        way.outcome = way.outcome or (f"dropped: {way.reason}" if way.reason else "judged")
    yield from ways


IN = "in the corpus"


def _say(way: Way, stage: str, row: Mapping[str, Any], survivors: Mapping[bytes, str]) -> None:
    """What a stage decided of a document."""
    if stage == "Identify":
        said = f"{row['language'] or 'no language'}, confidence {short(row.get('confidence'))}"
    elif stage == "Judge":
        said = f"score {short(row['score'])}"
    elif stage == "Refine":
        said = "kept" if row["reason"] is None else f"refused: {row['reason']}"
        if row["reason"] is not None and row["value"] is not None:
            said += f", measured {short(row['value'])}, threshold {short(row['threshold'])}"
        way.reason = way.reason or row["reason"] or ""
    else:
        said = _twin(row, survivors)
        way.reason = way.reason or (f"{row['kind']} duplicate" if row["twin"] else "")
    way.steps.append((stage, said))


def _twin(row: Mapping[str, Any], survivors: Mapping[bytes, str]) -> str:
    if row["twin"]:
        stays = SECRET.sub("", survivors.get(row["twin"]) or row["twin"].hex())
        return f"{row['kind']} duplicate, similarity {short(row['similarity'])}, of {stays}"
    if row.get("quarantine"):
        return f"in quarantine for {row['quarantine']}, cluster {row['cluster'].hex()}"
    if (row.get("copies") or 1) > 1:
        return f"stands for {row['copies']:,} documents, cluster {row['cluster'].hex()}"
    return "stands for itself"


def _ended(told: Ran, address: str, name: str, rows: list[int], ways: list[Way]) -> None:
    """Whether each came into the corpus; its `dropped/` has the same shards."""
    gone = told.inside(address, "dropped")
    table = (
        gone.select("row", "reason").read(name) if gone and name in gone.names else pa.table({"row": [], "reason": []})
    )
    reasons = dict(zip(table["row"].to_pylist(), table["reason"].to_pylist(), strict=True))
    for row, way in zip(rows, ways, strict=True):
        way.outcome = f"left out: {reasons[row]}" if row in reasons else IN
        way.reason = reasons.get(row, "")
        way.steps.append(("Corpus", f"{way.outcome}, {name} row {row} of what came in"))


@dataclass(frozen=True)
class Trained:
    """Token shards, and the ledgers of the trainings that read them."""

    tokens: Dataset
    held: Dataset | None
    ledgers: tuple[tuple[str, Ledger], ...]

    def of(self, own: bytes, origin: str | None) -> Iterator[tuple[str, str]]:
        if self.held is not None and placed(self.held, own, origin):
            yield "Tokenize", "held out of training"
            return
        place = placed(self.tokens, own, origin)
        if place is None:
            return
        yield "Tokenize", f"{place[0]} row {place[1]}"
        for address, ledger in self.ledgers:
            steps, _ = ledger.steps_of(*place)
            yield (
                "Pretrain",
                f"seen in {len(steps):,} steps of {address}" + (f": {spelt(steps, STEPS)}" if steps else ""),
            )


def _trainings(told: Ran) -> Iterator[Trained]:
    """Tokenized corpora that lie on this machine: elsewhere, every document would be a request."""
    for address in told.of("Tokenize"):
        tokens = told.datasets[address]
        if store.local(tokens.uri):
            models = [a for a in told.of("Pretrain") if told.field(a, "shards") == address]
            ledgers = tuple((a, Ledger.of(told.datasets[a], tokens)) for a in models)
            yield Trained(tokens, told.inside(address, "holdout"), ledgers)
