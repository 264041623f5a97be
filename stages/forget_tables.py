"""Tables without the rows of what is forgotten, written anew as their stages write them.

Promises: the rows that stay keep their order and their values; a table that says where other rows lie (`shard` and
`row` of what Corpus dropped) says where they lie now; counts in the commits lose what the rows that go had brought.
Costs one reading and one writing of a shard that holds such rows, in memory. Refuses a shard whose bytes changed.
"""

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tundish.cluster.shards import Shard, load
from tundish.cluster.target import Target
from tundish.stages.forget_rows import Piece, is_log, reduced
from tundish.stages.forgotten import REASON, Forgotten

Away = Callable[[str], np.ndarray]  # shard of the documents -> sorted numbers of the rows that go


def rewritten(
    piece: Piece, shard: Shard, mask: np.ndarray, gone: Forgotten, target: Target, away: Away
) -> Shard | None:
    """The shard without the rows of the mask (of a log: with these reduced), as it is written to `target`; None where
    nothing changes. `away` is asked where a table says in which row of its documents a text lies.
    """
    placed = {"shard", "row"} <= set(shard.columns)
    if not mask.any() and not (placed and len(away(shard.name))):
        return None
    table = load(piece.dataset.at(shard), shard)
    lost = table.filter(pa.array(mask))
    if is_log(shard):
        kept, counts = reduced(table, gone), _relogged(shard.counts, lost, gone)
    else:
        kept, counts = table.filter(pa.array(~mask)), _recounted(shard.counts, lost)
        kept = _moved(kept, away) if placed else kept
    writer = target.writer(shard.name)
    try:
        writer.write(kept)
        return writer.finish(shard.inputs, counts)
    except BaseException as error:
        writer.abandon(error)
        raise


def _moved(table: pa.Table, away: Away) -> pa.Table:
    """Rows that say where a text lies, with the numbers they have now."""
    rows = table["row"].to_pylist()
    for number, (name, row) in enumerate(zip(table["shard"].to_pylist(), rows, strict=True)):
        if name is not None and row is not None:
            rows[number] = row - int(np.searchsorted(away(name), row))
    at = table.schema.get_field_index("row")
    return table.set_column(at, table.schema.field(at), pa.array(rows, pa.int64()))


def _recounted(counts: Mapping[str, int], lost: pa.Table) -> dict[str, int]:
    """Counts without what these rows brought. A document that goes was left out as forgotten."""
    less = _brought(lost)
    told = {name: max(0, number - less[name]) for name, number in counts.items()}
    if "how" in lost.column_names and len(lost):  # what sources write
        told[f"dropped:{REASON}"] = told.get(f"dropped:{REASON}", 0) + len(lost)
    return told


def _brought(rows: pa.Table) -> Counter[str]:
    """What rows added to the counts of their shard, by the names that stages use."""
    found: Counter[str] = Counter()
    names = set(rows.column_names)
    if {"tokens", "place"} <= names:
        sizes = {"tokens": pc.list_value_length(rows["tokens"]).to_pylist(), "bytes": rows["bytes"].to_pylist()}
        for kind, each in {"documents": [1] * len(rows), **sizes}.items():
            found[kind] += sum(each)
            for column in names & {"origin", "language"}:
                for value, number in zip(rows[column].to_pylist(), each, strict=True):
                    found[f"{kind}:{column}:{value or ''}"] += number
    elif {"text", "origin"} <= names:
        found["kept"] += len(rows)
        for origin, size in zip(rows["origin"].to_pylist(), pc.binary_length(rows["text"]).to_pylist(), strict=True):
            found["bytes_out"] += size
            found[f"bytes_out:{origin}"] += size
    elif "reason" in names and "stage" not in names:  # Refine's; Corpus tells of its dropped ones beside the corpus
        for reason in rows["reason"].to_pylist():
            found["kept" if reason is None else f"dropped:{reason}"] += 1
    elif "twin" in names:
        for twin, kind in zip(rows["twin"].to_pylist(), rows["kind"].to_pylist(), strict=True):
            found["kept" if twin is None else f"dropped:{kind}_duplicate"] += 1
    return found


def _relogged(counts: Mapping[str, int], lost: pa.Table, gone: Forgotten) -> dict[str, int]:
    """Counts of a log: addresses that are forgotten were no outcome of any other kind."""
    told = Counter(counts)
    own = lost.filter(pa.array([gone.holds(url) for url in lost["url"].to_pylist()], pa.bool_()))
    for outcome in own["outcome"].to_pylist():
        told[outcome] -= 1
        told[REASON] += 1
    return {name: number for name, number in sorted(told.items()) if number > 0}


def totals(shards: list[Shard]) -> dict[str, dict[str, dict[str, int]]]:
    """What the manifest of token shards says of each origin and language, from the counts of its shards."""
    found: dict[str, dict[str, dict[str, int]]] = {"origin": {}, "language": {}}
    for shard in shards:
        for key, number in shard.counts.items():
            name, _, rest = key.partition(":")
            column, _, value = rest.partition(":")
            if column in found:
                sums = found[column].setdefault(value, {})
                sums[name] = sums.get(name, 0) + number
    return found


def gone_tokens(piece: Piece, shard: Shard, mask: np.ndarray) -> list[list[int]]:
    """(row, tokens) of the documents that leave a token shard: with them its rows can be told as they were."""
    tokens = load(piece.dataset.at(shard), shard, ("tokens",))["tokens"].filter(pa.array(mask))
    lengths: Any = pc.list_value_length(tokens).to_pylist()
    return [[int(row), int(size)] for row, size in zip(np.flatnonzero(mask), lengths, strict=True)]


def as_trained(now: np.ndarray, gone: list[list[int]]) -> tuple[np.ndarray, np.ndarray]:
    """(lengths then, row then of each row now) of a token shard. `now`: lengths of its documents; `gone`: (row then,
    tokens) of those that were forgotten since, sorted.

    >>> lengths, rows = as_trained(np.array([5, 7]), [[0, 3], [2, 9]])
    >>> lengths.tolist(), rows.tolist()
    ([3, 5, 9, 7], [1, 3])
    """
    away = np.array([row for row, _ in gone], np.int64)
    lengths = np.empty(len(now) + len(gone), np.int64)
    stays = np.ones(len(lengths), bool)
    stays[away] = False
    lengths[away], lengths[stays] = [size for _, size in gone], now
    return lengths, np.flatnonzero(stays)
