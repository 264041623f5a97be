"""Labelled examples as token ids, what the fine-tuning loop reads: one Arrow table with a small schema for each kind.

    all        tokens: large_list<int64>, without [CLS] and [SEP]; id, file, row (of stages/examples)
    classify, multilabel, regress   second (where the second text begins, null for one); label, labels, value
    embed      second; negative: ids of a text that does not belong; score
    write      target: ids; lead: the first sentence of the source; references: all targets as texts; cut_tokens,
               cut_target: pieces that source and target lost
    tag        labels (-100 but at the first piece of a word that is predicted here), firsts (these places), words (the
               number of each in its sentence), window
    answer     second (where the context begins), start, end (pieces of `tokens`, both inside; -1 where the window holds
               no answer, -100 where nobody knows), holds, begins, ends (the characters of the context that each of its
               pieces comes from), window, key

`length` is what the tokens of a row may be, so take two off the model's for [CLS] and [SEP], three for pairs.

Promises: pairs lose of their longer text first; what is cut is counted. Each word of a sentence is predicted in one
window, one without a piece as [UNK] (told). An answer's text is found again from the pieces' characters, or it is told
by how many it is wider. Costs what the tokenizer costs, each context once. Refuses a length that leaves no room.
"""

import json
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from tundish.cluster import store
from tundish.operators.text.tokenizer import Tokenizer
from tundish.stages.examples import Examples
from tundish.stages.examples_answers import answered
from tundish.stages.examples_checks import lengths
from tundish.stages.examples_tagged import tagged
from tundish.stages.examples_windows import both

IDS = pa.large_list(pa.int64())
WHERE = [("id", pa.string()), ("file", pa.string()), ("row", pa.int64())]
ONE = [("tokens", IDS), ("second", pa.int64())]
SCHEMAS = {
    "classify": pa.schema([*ONE, ("label", pa.int64()), *WHERE]),
    "multilabel": pa.schema([*ONE, ("labels", IDS), *WHERE]),
    "regress": pa.schema([*ONE, ("value", pa.float64()), *WHERE]),
    "embed": pa.schema([*ONE, ("negative", IDS), ("score", pa.float64()), *WHERE]),
    "write": pa.schema(
        [
            ("tokens", IDS),
            ("target", IDS),
            ("lead", pa.large_string()),
            ("references", pa.large_list(pa.large_string())),
            ("cut_tokens", pa.int64()),
            ("cut_target", pa.int64()),
            *WHERE,
        ]
    ),
    "tag": pa.schema(
        [("tokens", IDS), ("labels", IDS), ("firsts", IDS), ("words", IDS), ("window", pa.int64()), *WHERE]
    ),
    "answer": pa.schema(
        [
            *ONE,
            ("start", pa.int64()),
            ("end", pa.int64()),
            ("holds", pa.bool_()),
            ("begins", pa.large_list(pa.int32())),
            ("ends", pa.large_list(pa.int32())),
            ("window", pa.int64()),
            ("key", pa.string()),
            *WHERE,
        ]
    ),
}
ABOUT = b"tundish"  # key of the schema's metadata: JSON


class Tokens(NamedTuple):
    """`told`: lengths in pieces before anything was cut, what was cut, for JSON."""

    table: pa.Table
    told: dict[str, Any]


def tokenized(
    examples: Examples, pieces: Tokenizer, *, length: int | None = None, overlap: int | None = None, question: int = 64
) -> Tokens:
    """The token form of some examples.

    `length`: ids of a row at most, None for any number (`write`: of the source and of the target each; `embed`: of each
    text). `overlap`: pieces that neighbouring windows share, a quarter of a window unless told. `question`: pieces of a
    question at most.
    """
    if length is not None and length < 2:
        raise ValueError(f"a length of {length} pieces holds no example; give 2 or more")
    kind = examples.kind
    if kind == "tag":
        columns, told = tagged(examples, pieces, length, overlap)
    elif kind == "answer":
        columns, told = answered(examples, pieces, length, overlap, question)
    elif kind == "write":
        columns, told = _written(examples, pieces, length)
    else:
        columns, told = _texts(examples, pieces, length)
    about = {"kind": kind, "names": list(examples.names), "length": length, "vocabulary": pieces.digest}
    schema = SCHEMAS[kind].with_metadata({ABOUT: json.dumps(about, ensure_ascii=False)})
    arrays = [columns[field.name] for field in schema]
    cast = [a if isinstance(a, pa.Array) else pa.array(a, f.type) for a, f in zip(arrays, schema, strict=True)]
    return Tokens(
        pa.Table.from_arrays([a.cast(f.type) for a, f in zip(cast, schema, strict=True)], schema=schema), told
    )


def save(uri: str, tokens: Tokens) -> None:
    """As an Arrow IPC file, whole or not at all."""
    with store.written(uri) as (stream, _), pa.ipc.new_file(stream, tokens.table.schema) as writer:
        writer.write_table(tokens.table)


def load(uri: str) -> tuple[pa.Table, dict[str, Any]]:
    """(the table, what its schema says: kind, names, length, vocabulary). Refuses another file than `save` wrote."""
    try:
        with pa.ipc.open_file(store.opened(uri)) as reader:
            table = reader.read_all()
        about = json.loads((table.schema.metadata or {})[ABOUT])
        fits = table.schema.remove_metadata() == SCHEMAS[about["kind"]]
    except (pa.ArrowInvalid, KeyError, json.JSONDecodeError):
        fits = False
    if not fits:
        raise ValueError(f"{uri} holds no examples as tokens; make it with stages/examples_tokens")
    return table, about


class Flat(NamedTuple):
    """Lists one after the other."""

    ids: np.ndarray
    sizes: np.ndarray

    def cut(self, sizes: np.ndarray) -> "Flat":
        """The first so many of each."""
        places = np.arange(len(self.ids)) - np.repeat(np.cumsum(self.sizes) - self.sizes, self.sizes)
        return Flat(self.ids[places < np.repeat(sizes, self.sizes)], sizes)

    def array(self, missing: np.ndarray | None = None) -> pa.LargeListArray:
        offsets = pa.array(np.concatenate([[0], np.cumsum(self.sizes)]))
        mask = None if missing is None else pa.array(missing)
        return pa.LargeListArray.from_arrays(offsets, pa.array(self.ids.astype(np.int64)), mask=mask)


def _encoded(pieces: Tokenizer, texts: pa.ChunkedArray) -> Flat:
    """Ids of each text; none for null."""
    found = pieces.encode(texts.combine_chunks().fill_null(""))
    return Flat(found.values.to_numpy(), np.diff(found.offsets.to_numpy()))


def _joined(first: Flat, second: Flat) -> Flat:
    """Each list of the one with that of the other behind it."""
    sizes = first.sizes + second.sizes
    starts = np.cumsum(sizes) - sizes
    ids = np.empty(int(sizes.sum()), np.int64)
    for part, begins in ((first, starts), (second, starts + first.sizes)):
        ids[np.arange(len(part.ids)) + np.repeat(begins - (np.cumsum(part.sizes) - part.sizes), part.sizes)] = part.ids
    return Flat(ids, sizes)


def _where(examples: Examples) -> dict[str, Any]:
    return {name: examples.table[name].combine_chunks() for name, _ in WHERE}


def _texts(examples: Examples, pieces: Tokenizer, length: int | None) -> tuple[dict[str, Any], dict[str, Any]]:
    table = examples.table
    first, second = _encoded(pieces, table["text"]), _encoded(pieces, table["second"])
    single = table["second"].is_null().to_numpy()
    told = _measured(first.sizes + second.sizes, length)
    columns = _where(examples)
    if examples.kind == "embed":
        negative = _encoded(pieces, table["negative"])
        told = _measured(np.concatenate([part.sizes for part in (first, second, negative)]), length)
        columns["negative"] = _shortened(negative, length).array(table["negative"].is_null().to_numpy())
        kept = _shortened(first, length), _shortened(second, length)
    elif length is not None:
        sizes = both(first.sizes, second.sizes, length)
        kept = first.cut(sizes[0]), second.cut(sizes[1])
    else:
        kept = first, second
    told |= _lost(first, kept[0], "first") | _lost(second, kept[1], "second")
    columns |= {"tokens": _joined(*kept).array(), "second": pa.array(kept[0].sizes, pa.int64(), mask=single)}
    for name in ("label", "labels", "value", "score"):
        if name in table.column_names:
            columns[name] = table[name].combine_chunks()
    return columns, told


def _written(examples: Examples, pieces: Tokenizer, length: int | None) -> tuple[dict[str, Any], dict[str, Any]]:
    """Of several targets the first is learned."""
    targets = pa.array([None if each is None else each[0] for each in examples.table["targets"].to_pylist()])
    source = _encoded(pieces, examples.table["source"])
    target = _encoded(pieces, pa.chunked_array([targets.cast(pa.large_string())]))
    kept = _shortened(source, length), _shortened(target, length)
    told = _measured(source.sizes, length) | {"target": _measured(target.sizes, length)}
    told |= _lost(source, kept[0], "source") | _lost(target, kept[1], "target")
    none = np.array([one is None for one in targets.to_pylist()])
    columns = _where(examples) | {"tokens": kept[0].array(), "target": kept[1].array(none)}
    columns |= {"lead": _whole(examples.table["lead"]), "references": _whole(examples.table["targets"])}
    columns |= {"cut_tokens": source.sizes - kept[0].sizes, "cut_target": target.sizes - kept[1].sizes}
    return columns, told


def _whole(column: pa.ChunkedArray) -> pa.Array:
    found = column.combine_chunks()
    return pa.concat_arrays(found.chunks) if isinstance(found, pa.ChunkedArray) else found


def _shortened(flat: Flat, length: int | None) -> Flat:
    return flat if length is None else flat.cut(np.minimum(flat.sizes, length))


def _measured(sizes: np.ndarray, length: int | None) -> dict[str, Any]:
    longer = 0 if length is None else int((sizes > length).sum())
    told = {"length": length, "pieces": lengths(sizes), "longer": longer, "empty": int((sizes == 0).sum())}
    return told | {"longer_share": longer / max(1, len(sizes))}


def _lost(before: Flat, after: Flat, name: str) -> dict[str, int]:
    lost = before.sizes - after.sizes
    return {f"cut_{name}": int((lost > 0).sum()), f"cut_{name}_pieces": int(lost.sum())}


def types(second: int | None, size: int) -> Sequence[int]:
    """Token types of a row: 0 for the first text, 1 for the second.

    >>> types(2, 5), types(None, 2)
    ([0, 0, 1, 1, 1], [0, 0])
    """
    first = size if second is None else second
    return [0] * first + [1] * (size - first)
