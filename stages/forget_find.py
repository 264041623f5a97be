"""Who else has what is forgotten: the ids that an address or a domain means, equal documents, files outside the root.

Promises: nothing is written. Costs the columns of ids, addresses and digests, and 6 us an address. Refuses nothing.
"""

from collections import Counter
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from tundish.cluster import store
from tundish.cluster.shards import load
from tundish.stages.forget import Lost
from tundish.stages.forget_rows import Piece, addressed, among, documents, is_table
from tundish.stages.forgotten import Forgotten

SHOWN = 20  # copies that are named
ALIKE = ("content_digest", "text_key")  # what equal documents have in common: the payload, the normal text


def met(found: list[Piece], asked: Forgotten) -> tuple[Forgotten, set[str]]:
    """What is asked for with the ids of all documents it means, and the addresses of those asked for by id."""
    ids, named = set(asked.ids), set()
    for piece, shard in documents(found):
        table = load(piece.dataset.at(shard), shard, ("id", "url"))
        known = table.filter(pc.is_valid(table["id"]))
        named |= set(pc.drop_null(known["url"].filter(pa.array(among(known["id"], asked.ids)))).to_pylist())
        if asked.urls or asked.domains:
            ids |= set(known["id"].filter(pa.array(addressed(known["url"], asked))).to_pylist())
    for piece in found if asked.urls else ():  # an index may outlive its documents
        for shard in piece.own:
            if {"id", "url_key"} <= set(shard.columns):
                table = load(piece.dataset.at(shard), shard, ("id", "url_key"))
                ids |= set(table["id"].filter(pa.array(among(table["url_key"], asked.urls))).to_pylist())
    return Forgotten(frozenset(ids), asked.urls, asked.domains), named


def others(found: list[Piece], gone: Forgotten) -> list[dict[str, str]]:
    """Documents that stay and have the very text, or the very bytes, of one that goes: at most `SHOWN` of them."""
    alike = {column: _values(found, column, gone) for column in ALIKE}
    ids: set[bytes] = set()
    for column, values in alike.items():
        for piece, shard in _holding(found, column) if values else ():
            table = load(piece.dataset.at(shard), shard, ("id", column))
            same = table["id"].filter(pa.array(among(table[column], frozenset(values))))
            ids |= {one for one in same.to_pylist() if one is not None and one not in gone.ids}
    told: dict[bytes, str] = {}
    for piece, shard in documents(found) if ids else ():
        table = load(piece.dataset.at(shard), shard, ("id", "url"))
        table = table.filter(pa.array(among(table["id"], frozenset(ids))))
        told |= dict(zip(table["id"].to_pylist(), table["url"].to_pylist(), strict=True))
    return [{"id": one.hex(), "url": told.get(one, "")} for one in sorted(ids)[:SHOWN]]


def _holding(found: list[Piece], column: str) -> list[tuple[Piece, Any]]:
    return [(p, shard) for p in found for shard in p.own if {"id", column} <= set(shard.columns) and is_table(shard)]


def _values(found: list[Piece], column: str, gone: Forgotten) -> set[bytes]:
    values: set[bytes] = set()
    for piece, shard in _holding(found, column):
        table = load(piece.dataset.at(shard), shard, ("id", column))
        values |= set(pc.drop_null(table[column].filter(pa.array(among(table["id"], gone.ids)))).to_pylist())
    return values


def outside(found: list[Piece], lost: list[Lost]) -> list[dict[str, Any]]:
    """Files that are not the root's, and how many of the documents that go each still holds."""
    by_path = {piece.path: piece for piece in found}
    counts: Counter[tuple[str, str]] = Counter()
    for one in lost:
        piece = by_path.get(one.path)
        if piece is None or piece.path != piece.stage or one.documents is None:
            continue
        if piece.about.get("stage") not in ("Extract", "Read"):
            continue
        archives = by_path.get(str(piece.about.get("fields", {}).get("archives")))
        for source in pc.drop_null(one.documents["source"]).to_pylist():
            label = source.rpartition(":")[0]
            file = _file(archives, label) if archives else label
            if file:
                counts[archives.path if archives else piece.path, file] += 1
    return [{"stage": stage, "file": file, "documents": n} for (stage, file), n in sorted(counts.items())]


def _file(archives: Piece, label: str) -> str:
    """Where an archive lies by its label; "" where it lies in the root, and was rewritten."""
    _, top = store.resolve(archives.root)
    for shard in archives.dataset.shards:
        if shard.constants.get("label", shard.file) == label:
            uri = archives.dataset.at(shard)
            inside = store.resolve(uri)[1].startswith(f"{top}/")
            return label if inside and "ranges" in shard.constants else "" if inside else uri
    return label
