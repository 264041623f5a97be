"""Forgetting: everything under a root that holds rows of some documents, laid down anew without them.

    documents, what lies beside them, tokens      without the rows
    a crawl's log                                 the row stays, its address masked, its answer gone
    archives                                      the place of the records is filled (stages/forget_archives)
    CDXJ, predictions                             without the lines
    steps, pieces, attempts, report.html          gone: they can be made again

Promises: nothing of the root changes here; what is laid is swapped in by stages/forget_swap. Documents that stood for
others (the survivor of a cluster, the copy of a passage that stayed) have their stage made again by the next run; all
else stays current. Costs one look at the ids of every shard, one reading and writing of each shard that holds some,
and three readings of each archive that does. Refuses a root with an unfinished crawl, and a shard that is damaged.
"""

import functools
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tundish.cluster import store
from tundish.cluster.shards import Shard, check, load, opened
from tundish.cluster.target import Target
from tundish.stages import forget_archives as archives
from tundish.stages.forget_rows import ON_THE_WAY, Piece, hits, is_log, is_table, is_tokens, pieces
from tundish.stages.forget_seal import Changes, place, sealed
from tundish.stages.forget_swap import new
from tundish.stages.forget_tables import gone_tokens, rewritten
from tundish.stages.forgotten import LEDGER, Forgotten, spelt
from tundish.stages.forgotten import lines as ledger_of

FOLLOW = "follow"  # roots inside the root, each with archives and documents of its own
PAGES = ("report.html", "page.html")  # pages in the root that show documents; whoever wants them makes them again
TOGETHER = ("Bucket", "Repeated", "Substrings")  # stages in which every document counts for every other
BECAUSE = "a document that decided over others was forgotten"


@dataclass
class Lost:
    """What a dataset or an archive loses. `rows`: captures of an archive, lines of a text file; `bytes`: on disk."""

    path: str
    kind: str  # table, log, archive, lines, begun
    rows: int = 0
    bytes: int = 0
    documents: pa.Table | None = None  # of a table that has addresses: those that go


def refuse_unreached(root: str) -> None:
    """Raises ValueError where keepers of a crawl still have what they fetched, and for what follows a crawl."""
    if store.exists(store.join(root, FOLLOW)):
        raise ValueError(
            f"{root}/{FOLLOW} holds generations of a corpus that was trained on while it grew, and forgetting does not "
            "reach into them; delete that folder once its training is done, and forget then"
        )
    for name in store.listing(root):
        if store.listing(store.join(root, name, "keepers")) and opened(store.join(root, name)) is None:
            raise ValueError(
                f"{name} under {root!r} is a crawl that has not come to its end; run it on, or delete that folder, and "
                "forget then"
            )


class Laying:
    """Everything that will be otherwise under a root. `dry`: it is only counted."""

    def __init__(self, root: str, gone: Forgotten, date: str, *, dry: bool) -> None:
        self.root, self.gone, self.date, self.dry = root, gone, date, dry
        self.found = list(pieces(root))
        self.by_path = {piece.path: piece for piece in self.found}
        self.changes = Changes()
        self.tokens: dict[str, list[list[int]]] = {}  # file of a token shard -> (row, tokens) of documents that go
        self.away = functools.lru_cache(maxsize=64)(self._away)

    def run(self) -> list[Lost]:
        """Look at every dataset; gives those that lose something."""
        lost = [one for piece in self.found for one in self._of(piece) if one.rows]
        for piece in self.found:
            if because := self._must_be_made_again(piece, lost):
                self.changes.redo[piece.stage] = because
        if self.dry or not lost:
            return lost
        self._counts(lost)
        self.changes.remove += self._leftovers()
        sealed(self.found, self.changes)
        return lost

    def ledger(self, entry: Mapping[str, Any]) -> None:
        """Lay the ledger with one more line."""
        store.write(new(self.root, LEDGER), spelt([*ledger_of(self.root), entry]))

    # one dataset

    def _of(self, piece: Piece) -> Iterator[Lost]:
        tables = [shard for shard in piece.own if is_table(shard)]
        if tables:
            yield self._table(piece, tables)
        for shard in piece.own:
            if shard.file.endswith((".warc.gz", ".warc.zst")):
                yield self._archive(piece, shard)
            elif shard.file.endswith((".cdxj", ".jsonl")):
                yield self._lines(piece, shard)

    def _table(self, piece: Piece, tables: list[Shard]) -> Lost:
        lost = Lost(piece.path, "log" if is_log(tables[0]) else "table")
        target = Target(self._new(piece), "", tables[0].file.rpartition(".")[2])
        rows: list[pa.Table] = []
        for shard in tables:
            mask = hits(piece, shard, self.gone)
            lost.rows += int(mask.sum())
            if not piece.sealed and mask.any():
                lost.kind = "begun"
                lost.bytes += shard.size
                # what no manifest speaks of is not mended: the next run makes it again
                self.changes.remove += [f"{piece.path}/{shard.file}", f"{piece.path}/commits/{shard.name}.json"]
            elif piece.sealed and not self.dry:
                self._written(piece, shard, mask, target, lost)
            if mask.any():
                rows.append(self._told(piece, shard, mask))
                if is_tokens(shard):
                    self.tokens[place(piece, shard)] = gone_tokens(piece, shard, mask)
        if rows and {"id", "url"} <= set(rows[0].column_names):
            lost.documents = pa.concat_tables(rows)
        return lost

    def _told(self, piece: Piece, shard: Shard, mask: np.ndarray) -> pa.Table:
        """What the answer needs of the documents that go."""
        columns = ("id", "url", "content_digest", "source")
        return load(piece.dataset.at(shard), shard, columns).filter(pa.array(mask))

    def _written(self, piece: Piece, shard: Shard, mask: np.ndarray, target: Target, lost: Lost) -> None:
        made = rewritten(piece, shard, mask, self.gone, target, self._away_for(piece))
        if made is not None:
            self.changes.shards[place(piece, shard)] = made
            lost.bytes += shard.size - made.size

    def _away_for(self, piece: Piece) -> Any:
        """In which rows of its documents the forgotten ones lie, for what a Corpus dropped."""
        base = piece.about.get("fields", {}).get("documents", "")
        return functools.partial(self.away, base)

    def _away(self, base: str, name: str) -> np.ndarray:
        piece = self.by_path.get(base)
        return np.flatnonzero(hits(piece, piece.dataset.shard(name), self.gone)) if piece else np.empty(0, np.int64)

    # archives and texts

    def _archive(self, piece: Piece, shard: Shard) -> Lost:
        uri, lost = piece.dataset.at(shard), Lost(f"{piece.path}/{shard.file}", "archive")
        check(uri, shard)
        with store.opened(uri) as stream:
            gone = archives.places(stream, shard.size, self.gone)
        lost.rows, lost.bytes = sum(captures for *_, captures in gone), sum(stop - start for start, stop, _ in gone)
        if gone and not self.dry:
            told = archives.rewritten(uri, store.join(self._new(piece), shard.file), gone, self.date)
            counts = {**shard.counts, "captures": shard.counts.get("captures", shard.rows) - lost.rows}
            self._made(piece, shard, told, shard.rows - lost.rows, counts)
        return lost

    def _lines(self, piece: Piece, shard: Shard) -> Lost:
        uri, lost = piece.dataset.at(shard), Lost(f"{piece.path}/{shard.file}", "lines")
        check(uri, shard)
        held = store.read(uri).splitlines(keepends=True)
        kept = [line for line in held if not self._names(line)]
        lost.rows, lost.bytes = len(held) - len(kept), sum(map(len, held)) - sum(map(len, kept))
        if lost.rows and not self.dry:
            told = store.write(store.join(self._new(piece), shard.file), b"".join(kept))
            self._made(piece, shard, told, max(0, shard.rows - lost.rows), shard.counts)
        return lost

    def _names(self, line: bytes) -> bool:
        """Whether the JSON object of a line has a forgotten address or id."""
        try:
            value = json.loads(line[line.index(b"{") :])
            return self.gone.holds(value.get("url")) or bytes.fromhex(value.get("id") or "") in self.gone.ids
        except (ValueError, AttributeError, TypeError):
            return False

    def _made(self, piece: Piece, shard: Shard, told: store.Written, rows: int, counts: Mapping[str, int]) -> None:
        plain = {"rows": rows, "size": told.size, "digest": told.digest, "counts": dict(counts)}
        made = Shard.of(shard.plain() | plain)
        self.changes.shards[place(piece, shard)] = made
        Target(self._new(piece), "").commit(made, 0.0)

    def _new(self, piece: Piece) -> str:
        return new(self.root, *piece.path.split("/"))

    # what hangs on what

    def _must_be_made_again(self, piece: Piece, lost: list[Lost]) -> str:
        """Why a stage cannot stay as it is; "" where it can."""
        stage = piece.about.get("stage")
        if not piece.sealed or piece.path != piece.stage:
            return ""
        if stage in TOGETHER and any(one.path == piece.path for one in lost):
            return BECAUSE
        return BECAUSE if stage == "Deduplicate" and self._stood_for_others(piece) else ""

    def _stood_for_others(self, piece: Piece) -> bool:
        """Whether a forgotten document, of these or of an earlier index, shares a cluster with one that is not."""
        columns, ids = ("id", "twin", "cluster"), pa.array(sorted(self.gone.ids), pa.binary(16))
        tables = [load(piece.dataset.at(shard), shard, columns) for shard in piece.own]
        table = pa.concat_tables(tables)
        goes = pc.is_in(table["id"], ids)
        shared = pa.concat_arrays([ids, table["cluster"].filter(goes).combine_chunks()])
        left = table.filter(pc.invert(goes))
        touched = pc.or_(pc.is_in(left["cluster"], shared), pc.fill_null(pc.is_in(left["twin"], ids), False))
        return bool(pc.any(touched).as_py())

    def _counts(self, lost: list[Lost]) -> None:
        """Numbers that manifests repeat: those of a crawl from its log, rows of tokens that a training has seen."""
        for one in lost:
            piece = self.by_path.get(one.path)
            if piece is not None and one.kind == "log" and piece.stage in self.by_path:
                shards = [self.changes.shards.get(place(piece, shard), shard) for shard in piece.dataset.shards]
                self.changes.about[piece.stage] = {"counts": dict(sorted(_summed(shards).items()))}
        for tokens in (piece for piece in self.found if piece.path == piece.stage and self.tokens_of(piece)):
            for model in (m for m in self.found if m.sealed and m.path == m.stage and _trained_on(m, tokens.path)):
                then = model.about.get("forgotten", {})
                told = {**then, tokens.path: _since(then.get(tokens.path, {}), self.tokens_of(tokens))}
                self.changes.about.setdefault(model.path, {})["forgotten"] = told

    def tokens_of(self, piece: Piece) -> dict[str, list[list[int]]]:
        """Shard -> (row, tokens) of documents that go, of token shards or of a mixture of others' shards."""
        found = {shard.name: self.tokens.get(place(piece, shard), []) for shard in piece.dataset.shards}
        return {name: rows for name, rows in found.items() if rows}

    def _leftovers(self) -> list[str]:
        """What stages left on their way, and pages that show documents."""
        found = [name for name in PAGES if store.exists(store.join(self.root, name))]
        return [*found, *_on_the_way(self.root)]


def _summed(shards: list[Shard]) -> dict[str, int]:
    found: dict[str, int] = {}
    for shard in shards:
        for name, number in shard.counts.items():
            found[name] = found.get(name, 0) + number
    return found


def _trained_on(model: Piece, tokens: str) -> bool:
    return model.about.get("kind") == "files" and tokens in json.dumps(model.about.get("fields", {}))


def _since(then: Mapping[str, Any], now: Mapping[str, list[list[int]]]) -> dict[str, list[list[int]]]:
    """(row, tokens) of all that went since a training, by shard; rows as they were numbered then."""
    found = {name: list(rows) for name, rows in then.items()}
    for name, rows in now.items():
        before = sorted(row for row, _ in found.get(name, []))
        moved = [[_as_it_was(row, before), tokens] for row, tokens in rows]
        found[name] = sorted([*found.get(name, []), *moved])
    return found


def _as_it_was(row: int, before: list[int]) -> int:
    """The number a row had before those at `before` (ascending) went."""
    for one in before:
        row += one <= row
    return row


def _on_the_way(root: str, below: str = "") -> Iterator[str]:
    for name in store.listing(store.join(root, *below.split("/")) if below else root):
        inside = f"{below}/{name}" if below else name
        if name.endswith(".attempt") or (below and name in ON_THE_WAY):
            yield inside
        elif "." not in name and store.size(store.join(root, *inside.split("/"))) is None:
            yield from _on_the_way(root, inside)
