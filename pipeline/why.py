"""why: one document's whole way, from the request that brought it to the training steps that saw it.

Promises: everything is read from what the stages sealed; nothing is computed anew but the steps that saw its rows,
which follow from the plan. Costs the columns it looks things up by (addresses of the crawl, URLs or ids of the
documents), one shard at a time; of texts it reads none. Shows where personal data would be cut and of which kind, never
the data. Refuses a URL or id that no run met, with the nearest known one.
"""

import difflib
import heapq
import re
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from rich.table import Table
from rich.text import Text

from tundish.cluster.shards import Dataset
from tundish.operators.text.digest import keyed
from tundish.operators.web import urls
from tundish.pipeline.funnel import Ran, ran
from tundish.pipeline.judgements import DECIDED, Event, Found, beside, row_at, rows_of
from tundish.pipeline.seen import Ledger, ids_at, spelt
from tundish.stages.forgotten import LEDGER, Forgotten, lines
from tundish.stages.tokenize import PLACE_SEED, part_of_place

HOPS = 8  # redirects followed each way
STEPS = 10  # shown of those that saw a document
LOGGED = ("url", "parent", "depth", "status", "outcome", "reason", "target", "archive", "offset", "time")
TOLD = ("id", "url", "source", "date", "encoding", "how", "origin", "repairs")


def why(root: str, what: str, run: str | None = None) -> list[Event]:
    """The way of a URL, or of a document by its id in hex, through the latest run (or the named one)."""
    return way(ran(root, run), root, what)[0]


def way(past: Ran, root: str, what: str) -> tuple[list[Event], set[str], list[Found]]:
    """What happened, the URLs that redirects make one with it, and where its documents lie. Raises ValueError if
    nothing did."""
    if re.fullmatch(r"[0-9a-fA-F]{32}", what):
        found = list(_documents(past, "id", [bytes.fromhex(what)], pa.binary(16)))
        known = {document.told["url"] for document in found}
        chain = redirects(past, known) if known else set()
    else:
        chain = redirects(past, {what, _canonical(what)})
        found = list(_documents(past, "url", sorted(chain), pa.large_string()))
    events = [*_crawled(past, chain), *_refused(past, chain)]
    for document in found:
        events += [event for event in _way(past, document) if event not in events]
    if not events and (when := forgotten_on(root, what)):
        raise ValueError(f"{what!r} was forgotten on {when} and nothing is kept of it; {root}/{LEDGER} says why")
    if not events:
        raise ValueError(f"no run under {root!r} met {what!r}{_nearest(past, what)}")
    return events, chain, found


def forgotten_on(root: str, what: str) -> str:
    """When a URL, or an id in hex, was forgotten; "" if it was not."""
    for line in lines(root):
        if what.lower() in line.get("ids", ()) or Forgotten.of(line).holds(what):
            return str(line["time"])
    return ""


def _canonical(what: str) -> str:
    try:
        return urls.canonical(what)
    except ValueError:
        return what  # a key of Read need not be a URL


def logs(past: Ran) -> list[tuple[str, Dataset]]:
    return [(address, log) for address in past.of("Crawl") if (log := past.inside(address, "log"))]


def redirects(past: Ran, wanted: set[str]) -> set[str]:
    """The URLs with those that redirected to them and those they redirect to."""
    return _followed(past, wanted, "target", "url") | _followed(past, wanted, "url", "target")


def _followed(past: Ran, wanted: set[str], column: str, other: str) -> set[str]:
    chain = set(wanted)
    for _ in range(HOPS):
        places = [(log, *place) for _, log in logs(past) for place in rows_of(log, column, chain, pa.large_string())]
        new = {row_at(log, name, row, other)[other] for log, name, row in places} - {None}
        if new <= chain:
            break
        chain |= new
    return chain


def _crawled(past: Ran, chain: set[str]) -> Iterator[Event]:
    """What the crawl did with each address of the chain, redirects before what they lead to."""
    for address, log in logs(past):
        rows = [row_at(log, *place, *LOGGED) for place in rows_of(log, "url", chain, pa.large_string())]
        for row in sorted(rows, key=lambda row: (row["outcome"] != "redirect", row["url"])):
            outcome = " ".join(str(row[c]) for c in ("outcome", "status") if row.get(c) is not None)
            yield Event("Crawl", address, outcome, {k: v for k, v in row.items() if k not in ("outcome", "status")})


def _refused(past: Ran, chain: set[str]) -> Iterator[Event]:
    """Captures, and rows of files, that became no document."""
    for address in [*past.of("Extract"), *past.of("Read")]:
        if (dropped := past.inside(address, "dropped")) is None:
            continue
        for place in rows_of(dropped, "url", chain, pa.large_string()):
            row = row_at(dropped, *place, "url", "reason", "detail")
            yield Event(past.recipe[address]["stage"], address, f"dropped: {row.pop('reason')}", row)


def _documents(past: Ran, column: str, wanted: Iterable[Any], kind: pa.DataType) -> Iterator[Found]:
    """Where documents lie that hold one of these values: in what the stages read, else where they were written."""
    wanted = list(wanted)
    bases = dict.fromkeys(past.field(address, "documents") for address in past.datasets)
    read = [past.datasets[address] for address in bases if address in past.datasets]
    for base in read or [past.datasets[address] for address in [*past.of("Extract"), *past.of("Read")]]:
        for name, row in rows_of(base, column, wanted, kind):
            yield Found(base, name, row, row_at(base, name, row, *TOLD))


def _way(past: Ran, document: Found) -> Iterator[Event]:
    """Everything that happened to one document, in the order of the recipe."""
    yield _written(past, document)
    for address, stage in past.recipe.items():
        dataset = past.datasets.get(address)
        if dataset is None or beside(past, address) != document.base.address:
            continue
        if stage["stage"] == "Corpus":
            yield from _corpus(past, address, document)
        elif tell := DECIDED.get(stage["stage"]):
            yield tell(past, address, document)


def _written(past: Ran, document: Found) -> Event:
    """Where its text was written: a gathered shard lies in the folder of the stage that wrote it."""
    file = document.base.shard(document.shard).file
    address = file.split("/")[1] if file.startswith("../") else document.base.address
    facts = {k: v for k, v in document.told.items() if k != "id"}
    what = f"became document {document.told['id'].hex()}"
    place = f"{document.base.address}/{document.shard} row {document.row}"
    return Event(past.recipe[address]["stage"], address, what, {**facts, "place": place})


def _corpus(past: Ran, address: str, document: Found) -> Iterator[Event]:
    """In the corpus, or why not; and from there into the tokens. Shards are named as those they came from."""
    gone = past.inside(address, "dropped")
    for row in gone.select("row", "reason").read(document.shard).to_pylist() if gone else ():
        if row["row"] == document.row:
            yield Event("Corpus", address, f"left out: {row['reason']}")
            return
    own = document.told["id"]
    ids = past.datasets[address].select("id").read(document.shard)["id"]
    row = pc.index(ids, pa.scalar(own, pa.binary(16))).as_py()
    yield Event("Corpus", address, "in the corpus", {"place": f"{document.shard} row {row}"})
    for tokens in past.of("Tokenize"):
        if past.field(tokens, "corpus") == address:
            yield from _tokenized(past, tokens, own, document.told["origin"])


def _tokenized(past: Ran, address: str, own: bytes, origin: str | None) -> Iterator[Event]:
    """Its row of tokens, found by the hash that placed it, and the training that read it."""
    for held, dataset in ((False, past.datasets[address]), (True, past.inside(address, "holdout"))):
        place = placed(dataset, own, origin) if dataset else None
        if dataset is None or place is None:
            continue
        row = row_at(dataset, *place, "tokens", "bytes")
        facts = {"tokens": len(row["tokens"]), "bytes": row["bytes"], "place": f"{place[0]} row {place[1]}"}
        yield Event("Tokenize", address, "held out of training" if held else "to train on", facts)
        for model in past.of("Pretrain") if not held else ():
            shards = past.field(model, "shards")
            if names := _mixed(past, shards, dataset, place[0]):
                yield _trained(past, model, past.datasets[shards], names, place[1])
        yield from _trained_meanwhile(past, dataset, *place) if not held else ()


def _trained_meanwhile(past: Ran, tokens: Dataset, name: str, row: int) -> Iterator[Event]:
    """What a followed training saw of it, if this root is one of its generations."""
    if (ledger := Ledger.followed(past.root, tokens)) is not None:
        steps, rows = ledger.steps_of(name, row)
        told = {"rows": rows, "steps": spelt(steps, STEPS)}
        yield Event("Pretrain", "follow/training", f"seen in {len(steps)} steps so far", told)


def _mixed(past: Ran, shards: str, tokens: Dataset, name: str) -> list[str]:
    """The names that a token shard has in what a training reads: these shards, or a Mix that holds them."""
    if shards == tokens.address:
        return [name]
    mix, held = past.datasets.get(shards), tokens.shard(name)
    return [shard.name for shard in mix.shards if shard.digest == held.digest] if mix else []


def placed(dataset: Dataset, own: bytes, origin: str | None) -> tuple[str, int] | None:
    """Shard and row of an id: the shard is computed from its origin and hash, the row found by binary search."""
    if (parts := dataset.about["origins"].get(origin)) is None:
        return None
    place = keyed(pa.array([own], pa.binary(16)), PLACE_SEED)
    name = f"part-{int(part_of_place(place, *parts)[0]):05d}"
    table = dataset.select("id", "place").read(name)
    first, last = (int(np.searchsorted(table["place"].to_numpy(), place[0], side)) for side in ("left", "right"))
    row = pc.index(table["id"].slice(first, last - first), pa.scalar(own, pa.binary(16))).as_py()
    return None if row < 0 else (name, first + row)


def _trained(past: Ran, address: str, tokens: Dataset, names: list[str], row: int) -> Event:
    """The steps whose batch held one of its rows."""
    ledger = Ledger.of(past.datasets[address], tokens)
    each = [ledger.steps_of(name, row) for name in names]
    steps, rows = sorted({step for found, _ in each for step in found}), sum(number for _, number in each)
    return Event("Pretrain", address, f"seen in {len(steps)} steps", {"rows": rows, "steps": spelt(steps, STEPS)})


def step_of(root: str, step: int, model: str | None = None, run: str | None = None) -> list[Event]:
    """Every document of which a training step saw tokens, with its URL. `model`: the address of the Pretrain, where a
    run has several."""
    past = ran(root, run)
    alone = [past.datasets[address] for address in past.of("Tokenize")]
    if len(alone) == 1 and (followed := Ledger.followed(root, alone[0])) is not None:
        return _documents_of(past, followed, step, "follow/training")
    trained = [address for address in past.of("Pretrain") if model in (None, address)]
    if len(trained) != 1:
        there = ", ".join(past.of("Pretrain")) or "none"
        raise ValueError(f"the run has not one training {model or ''}".rstrip() + f" but {there}; name one of them")
    tokens = past.input(trained[0], "shards")
    assert tokens is not None, "a training names its shards"
    return _documents_of(past, Ledger.of(past.datasets[trained[0]], tokens), step, trained[0])


def _documents_of(past: Ran, ledger: Ledger, step: int, model: str) -> list[Event]:
    places = list(ledger.documents(step))
    ids = ids_at(ledger.tokens, places)
    known = {found.told["id"]: found.told for found in _documents(past, "id", sorted(set(ids)), pa.binary(16))}
    return [
        Event(
            "Pretrain",
            model,
            known.get(own, {}).get("url") or own.hex(),
            {"id": own.hex(), "place": f"{n} row {r}"},
        )
        for own, (n, r) in zip(ids, places, strict=True)
    ]


def _nearest(past: Ran, what: str) -> str:
    """The known URL most like this one, of those that begin alike, so that millions need no long comparison."""

    def alike(url: str) -> tuple[int, str]:
        return next((n for n, (a, b) in enumerate(zip(url, what, strict=False)) if a != b), len(what)), url

    near: list[str] = []
    written = [past.datasets[address] for address in [*past.of("Extract"), *past.of("Read")]]
    for dataset in [*(log for _, log in logs(past)), *written]:
        for name in dataset.names:
            found = pc.drop_null(dataset.select("url").read(name)["url"]).to_pylist()
            near = heapq.nlargest(50, {*near, *found}, key=alike)
    best = difflib.get_close_matches(what, near, 1, 0.0)
    return f"; the nearest it knows is {best[0]}" if best else "; it met no URL at all"


def told(events: list[Event]) -> Table:
    """The way, for a terminal: one stage after the other."""
    shown = Table(box=None, show_header=False, pad_edge=False)
    shown.add_column(no_wrap=True)
    shown.add_column(overflow="fold")
    for event in events:
        shown.add_row(Text(event.stage, "bold"), Text(event.what))
        for name, value in event.facts.items():
            for one in value if isinstance(value, list) else [value]:
                if one not in (None, ""):
                    shown.add_row("", Text.assemble((f"{name} ", "dim"), str(one)))
    return shown
