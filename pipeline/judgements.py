"""What each stage that judges says of one document: a row of what it sealed, told in a few words.

Reads one row of each dataset (Deduplicate of a survivor: the column of twins; Index: the ids of a shard). Shows where
text would be cut and why, never the text.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tundish.cluster.shards import Dataset
from tundish.pipeline.funnel import Ran, short
from tundish.pipeline.funnel import urls as urls_of

COPIES = 10  # shown of what a survivor stands for
PLACES = 20  # shown of those where text would be cut


@dataclass(frozen=True)
class Event:
    """One thing that happened to the document: where, in a few words, and with which values."""

    stage: str
    address: str
    what: str
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Found:
    """A document: the dataset the stages read it from, its row there, its columns."""

    base: Dataset
    shard: str
    row: int
    told: Mapping[str, Any]


def rows_of(dataset: Dataset, column: str, wanted: Iterable[Any], kind: pa.DataType) -> Iterator[tuple[str, int]]:
    """(shard, row) of the rows that hold one of the values; reads that column alone."""
    values = pa.array(list(wanted), kind)
    for name in dataset.names:
        held = dataset.select(column).read(name)
        if column in held.column_names:
            here = pc.is_in(held[column].cast(kind), values).to_numpy()
            yield from ((name, int(row)) for row in np.flatnonzero(here))


def row_at(dataset: Dataset, name: str, row: int, *columns: str) -> dict[str, Any]:
    """These columns of one row, those that there are."""
    return dict(dataset.select(*columns).read(name).slice(row, 1).to_pylist()[0])


def beside(past: Ran, address: str) -> str | None:
    """The documents a stage is beside; Bucket reads what Perplex found of them."""
    documents = past.field(address, "documents")
    if documents is None and (scored := past.field(address, "perplexity")):
        return beside(past, scored)
    return documents


def _identified(past: Ran, address: str, document: Found) -> Event:
    wanted = ("language", "confidence", "margin", "script", "candidates", "shares")
    row = row_at(past.datasets[address], document.shard, document.row, *wanted)
    facts = {name: short(row[name]) for name in ("confidence", "margin") if name in row}
    facts |= {"script": row["script"]} if row.get("script") else {}
    for name, value in (("candidates", "score"), ("shares", "share")):
        if found := ", ".join(f"{one['language']} {short(one[value])}" for one in row.get(name) or ()):
            facts[name] = found
    return Event("Identify", address, f"language {row['language']}", facts)


def _judged(past: Ran, address: str, document: Found) -> Event:
    dataset = past.datasets[address]
    row = row_at(dataset, document.shard, document.row, *dataset.shard(document.shard).columns)
    score = row.pop("score", None)
    signals = ", ".join(f"{name} {short(value)}" for name, value in row.items() if name != "id" and value)
    return Event("Judge", address, f"score {short(score)}", {"signals": signals})


def _refined(past: Ran, address: str, document: Found) -> Event:
    told = ("reason", "value", "threshold", "margin", "nearest")
    row = row_at(past.datasets[address], document.shard, document.row, *told)
    facts = {name: short(row[name]) for name in told[1:4] if row[name] is not None}
    facts |= {"nearest": row["nearest"]} if row["nearest"] else {}
    return Event("Refine", address, f"refused: {row['reason']}" if row["reason"] else "kept", facts)


def _cut(past: Ran, address: str, document: Found) -> Event:
    """Edits beside the text: Mask's, Lines', Repeated's and Substrings', with those they were given."""
    dataset, stage = past.datasets[address], past.recipe[address]["stage"]
    names = [name for name in dataset.shard(document.shard).columns if name != "id"]
    row = row_at(dataset, document.shard, document.row, *names)
    edits = row.pop("edits") or []
    places = [f"{edit['reason']} at bytes {edit['start']}-{edit['end']}" for edit in edits[:PLACES]]
    places += [f"and {len(edits) - PLACES:,} more"] if len(edits) > PLACES else []
    return Event(stage, address, f"{len(edits)} places to cut", ({"edits": places} if places else {}) | _measured(row))


def _measured(row: Mapping[str, Any]) -> dict[str, str]:
    """Numbers that are not 0, as people read them."""
    return {name: short(value) for name, value in row.items() if name != "id" and value}


def _vetted(past: Ran, address: str, document: Found) -> Event:
    dataset = past.datasets[address]
    facts = _measured(row_at(dataset, document.shard, document.row, *dataset.shard(document.shard).columns))
    return Event("Vet", address, f"{'something' if facts else 'nothing'} is against its address", facts)


def _scored(past: Ran, address: str, document: Found) -> Event:
    """What a model found: Rate's, Grade's and Perplex's columns, the first of them in front."""
    dataset = past.datasets[address]
    row = row_at(dataset, document.shard, document.row, *dataset.shard(document.shard).columns)
    (first, value), *rest = [(name, value) for name, value in row.items() if name != "id"]
    what = f"{first} {short(value)}" if value is not None else f"{first} is not known"
    facts = {name: short(value) for name, value in rest if value is not None}
    return Event(past.recipe[address]["stage"], address, what, facts)


def _bucketed(past: Ran, address: str, document: Found) -> Event:
    dataset = past.datasets[address]
    found = row_at(dataset, document.shard, document.row, "perplexity_bucket")["perplexity_bucket"]
    spoken, cuts = past.input(address, "language"), dataset.about["cuts"]
    language = row_at(spoken, document.shard, document.row, "language")["language"] if spoken else None
    known = cuts.get(language or "")
    facts = {"cuts": f"head up to {short(known[0])}, middle up to {short(known[1])}"} if known else {}
    return Event("Bucket", address, f"{found} of {language or 'all'}" if found else "in no bucket", facts)


def _decontaminated(past: Ran, address: str, document: Found) -> Event:
    dataset = past.datasets[address]
    row = row_at(dataset, document.shard, document.row, "contaminated", "contaminated_grams")
    if not row["contaminated"]:
        return Event("Decontaminate", address, "holds no evaluation text")
    facts = {"of": row["contaminated"], "grams": row.get("contaminated_grams")}
    return Event("Decontaminate", address, "holds evaluation text", facts)


def _indexed(past: Ran, address: str, document: Found) -> Event:
    """An index has rows of its own: those of the documents that stay."""
    ids = past.datasets[address].select("id").read(document.shard)["id"]
    there = pc.index(ids, pa.scalar(document.told["id"], pa.binary(16))).as_py() >= 0
    crawl = past.field(address, "crawl")
    return Event("Index", address, f"{'in' if there else 'not in'} the index of {crawl}")


def _deduplicated(past: Ran, address: str, document: Found) -> Event:
    """Its survivor, or what it stands for."""
    dataset = past.datasets[address]
    row = row_at(dataset, document.shard, document.row, "twin", "similarity", "kind", "copies", "crawl", "quarantine")
    if row["twin"]:
        facts = {"id": row["twin"].hex(), "similarity": short(row["similarity"])}
        if row["crawl"]:
            facts = {"survivor": f"in the earlier crawl {row['crawl']}"} | facts
        else:
            facts = {"survivor": urls_of(document.base, [row["twin"]])[row["twin"]]} | facts
        return Event("Deduplicate", address, f"dropped: {row['kind']} duplicate", facts)
    if row["quarantine"]:
        facts = {"held for": row["quarantine"], "similarity": short(row["similarity"])}
        return Event("Deduplicate", address, f"in quarantine: {row['kind']} duplicate that was not removed", facts)
    if row["copies"] < 2:
        return Event("Deduplicate", address, "stands for itself")
    copies = []
    for name, at in rows_of(dataset, "twin", [document.told["id"]], pa.binary(16)):
        twin = row_at(dataset, name, at, "similarity", "kind")
        url = row_at(document.base, name, at, "url")["url"]
        copies.append(f"{url} ({twin['kind']}, {short(twin['similarity'])})")
        if len(copies) == COPIES:
            break
    return Event("Deduplicate", address, f"stands for {row['copies']} documents, itself included", {"copies": copies})


DECIDED: dict[str, Callable[[Ran, str, Found], Event]] = {
    "Identify": _identified,
    "Vet": _vetted,
    "Judge": _judged,
    "Rate": _scored,
    "Grade": _scored,
    "Perplex": _scored,
    "Bucket": _bucketed,
    "Refine": _refined,
    "Lines": _cut,
    "Repeated": _cut,
    "Substrings": _cut,
    "Mask": _cut,
    "Deduplicate": _deduplicated,
    "Decontaminate": _decontaminated,
    "Index": _indexed,
}
