"""Token form of labelled examples -> batches of documents in one flat array, framed, with what is to be learnt of them.

    one text     [CLS] a a a [SEP]                 types 0
    a pair       [CLS] a a a [SEP] b b [SEP]       types 0 up to the first [SEP], then 1
    to write     [CLS] a a a [SEP] t t             a decoder: from the [SEP] on it is asked for t t [SEP]
                 a a a [SEP], and [PAD] t t        an encoder and its decoder, as T5 is framed

Promises: a batch is a function of the row numbers; places of tags and answers move with the frame; nothing is padded,
and nothing cut: what is longer than the model reads is refused by number. Costs the tokens in memory once.

N rows, T tokens of a batch, C classes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from tundish.operators.model.batch import IGNORED
from tundish.operators.model.packed import Packed, packed, there
from tundish.stages.examples_tokens import load


class Batch(NamedTuple):
    """`types` (T,). `target`: labels (N,), truth (N, C), values (N,), tags (T,), an answer's ends (N, 2), what is to be
    written, one text behind the other, or of an embedding a number (N,) that equal wanted texts share; None where
    nothing is known. `context` (T,) bool: where an answer may lie, or where a decoder is asked for what follows.
    `wanted`, `unwanted`: of an embedding the texts that belong and do not belong, of a pair what its decoder reads (as
    batches of their own)."""

    tokens: Tensor
    packed: Packed
    types: Tensor
    target: Tensor | None = None
    context: Tensor | None = None
    wanted: "Batch | None" = None
    unwanted: "Batch | None" = None


def begins_of(table: pa.Table) -> np.ndarray:
    """(examples,) where the windows of each begin; without windows each row is an example."""
    if "window" not in table.column_names:
        return np.arange(table.num_rows)
    return np.flatnonzero(table["window"].combine_chunks().fill_null(0).to_numpy() == 0)


def windows_of(table: pa.Table, size: int) -> int:
    """Rows that hold the first `size` examples."""
    begins = begins_of(table)
    return int(begins[size]) if size < len(begins) else int(table.num_rows)


@dataclass(frozen=True)
class Rows:
    """All examples of a part. `kind` and `names` as its file says; `specials` of the vocabulary. `stack`: whether a
    `pair` or a `decoder` writes; nothing until `finetune_write.fitted` has seen the model."""

    kind: str
    names: tuple[str, ...]
    table: pa.Table
    specials: Mapping[str, int]
    stack: str = ""

    def __len__(self) -> int:
        return int(self.table.num_rows)

    @cached_property
    def tokens(self) -> tuple[np.ndarray, np.ndarray]:
        return flattened(self.table["tokens"])

    @cached_property
    def begins(self) -> np.ndarray:
        """(examples,) the first row of each example of the files: tags and answers are read in one or more windows."""
        return begins_of(self.table)

    @cached_property
    def second(self) -> np.ndarray | None:
        """(n,) where the second text begins, -1 for one text alone."""
        if "second" not in self.table.column_names:
            return None
        return self.table["second"].combine_chunks().fill_null(-1).to_numpy()

    @cached_property
    def classes(self) -> int:
        return {"regress": 1}.get(self.kind, len(self.names))

    @cached_property
    def targets(self) -> np.ndarray | None:
        """(n,) labels, (n, C) truth, (n,) values or (n, 2) ends of answers."""
        if self.kind == "classify":
            return self.table["label"].combine_chunks().fill_null(IGNORED).to_numpy()
        if self.kind == "regress":
            return self.table["value"].combine_chunks().fill_null(np.nan).to_numpy()
        if self.kind == "multilabel":
            truth = np.zeros((len(self), len(self.names)), np.float32)
            flat, offsets = flattened(self.table["labels"])
            truth[np.repeat(np.arange(len(self)), np.diff(offsets)), flat] = 1
            return truth
        if self.kind == "answer":
            return np.stack([self.table[name].combine_chunks().to_numpy() for name in ("start", "end")], 1)
        return None

    @cached_property
    def partners(self) -> np.ndarray:
        """(n,) of pairs the first row whose second text has the same tokens: what finds the one has found the other."""
        return self._wanted_by[0]

    @cached_property
    def _wanted_by(self) -> tuple[np.ndarray, np.ndarray]:
        """`partners`, and (n,) the same of every negative: the first row that wants its text; -1 where none does."""
        assert self.second is not None, "what belongs together are two texts"
        flat, offsets = self.tokens
        begins = np.where(self.second < 0, offsets[1:], offsets[:-1] + self.second)
        first: dict[bytes, int] = {}
        where = enumerate(zip(begins.tolist(), offsets[1:].tolist(), strict=True))
        wanted = np.array([first.setdefault(flat[a:b].tobytes(), row) for row, (a, b) in where], np.int64)
        other, starts = flattened(self.table["negative"])
        ends = zip(starts[:-1].tolist(), starts[1:].tolist(), strict=True)
        return wanted, np.array([first.get(other[a:b].tobytes(), -1) if b > a else -1 for a, b in ends], np.int64)

    def batch(self, rows: Sequence[int] | np.ndarray, device: torch.device | str = "cpu") -> Batch:
        """The documents of these rows, in their order."""
        if self.kind == "write":
            return self._written(rows, device)
        parts = [self._framed(int(row)) for row in rows]
        made = _flat([part.ids for part in parts], [part.first for part in parts], device)
        if self.kind == "embed":
            return self._pairs(rows, device)
        if self.kind == "tag":
            flat, offsets = flattened(self.table["labels"])
            tags = [np.pad(flat[offsets[row] : offsets[row + 1]], 1, constant_values=IGNORED) for row in rows]
            return made._replace(target=there(np.concatenate(tags), device))
        if self.targets is None:
            return made
        truth = self.targets[np.asarray(rows, np.int64)]
        if self.kind != "answer":
            return made._replace(target=there(truth, device))
        first = np.array([part.first for part in parts])
        context = made.types.bool() & (made.tokens != self.specials["[SEP]"])
        inside = truth >= 0  # two more places lie before the context: [CLS], and the [SEP] behind the question
        ends = np.where(inside, truth + 2, np.where(truth == IGNORED, IGNORED, 0))
        assert (first > 0).all(), "a question stands before its context"
        return made._replace(target=there(ends, device), context=context)

    def _framed(self, row: int) -> "_Part":
        flat, offsets = self.tokens
        ids = flat[offsets[row] : offsets[row + 1]]
        cls, sep = self.specials["[CLS]"], self.specials["[SEP]"]
        cut = -1 if self.second is None or self.kind == "embed" else int(self.second[row])
        if cut < 0:
            return _Part(np.concatenate([[cls], ids, [sep]]), len(ids) + 2)
        return _Part(np.concatenate([[cls], ids[:cut], [sep], ids[cut:], [sep]]), cut + 2)

    @cached_property
    def wanted(self) -> tuple[np.ndarray, np.ndarray]:
        """What is to be written."""
        return flattened(self.table["target"])

    def prompt(self, row: int) -> np.ndarray:
        """What a model is given to write to."""
        flat, offsets = self.tokens
        ids, sep = flat[offsets[row] : offsets[row + 1]], [self.specials["[SEP]"]]
        assert self.stack, "rows are fitted to a model before it writes"
        return np.concatenate([ids, sep] if self.stack == "pair" else [[self.specials["[CLS]"]], ids, sep])

    def _written(self, rows: Sequence[int] | np.ndarray, device: torch.device | str) -> Batch:
        (flat, offsets), where = self.wanted, torch.device(device)
        given = [self.prompt(int(row)) for row in rows]
        told = [flat[offsets[row] : offsets[row + 1]] for row in rows]
        cut, end = self.table["cut_target"].to_numpy(), self.specials["[SEP]"]  # what was cut does not end there
        ends = [IGNORED if cut[row] else end for row in rows]
        target = np.concatenate([np.append(each, last) for each, last in zip(told, ends, strict=True)])
        if self.stack == "pair":
            made = _flat(given, None, device, grouped=True)
            keys = np.cumsum([0, *map(len, given)])
            start = [self.specials["[PAD]"]]
            answers = _flat([np.concatenate([start, each]) for each in told], None, device, grouped=True, keys=keys)
            return made._replace(target=there(target, where), wanted=answers)
        made = _flat([np.concatenate(both) for both in zip(given, told, strict=True)], None, device)
        last = [np.arange(len(p) + len(t)) >= len(p) - 1 for p, t in zip(given, told, strict=True)]
        return made._replace(target=there(target, where), context=there(np.concatenate(last), where))

    def _pairs(self, rows: Sequence[int] | np.ndarray, device: torch.device | str) -> Batch:
        flat, offsets = self.tokens
        assert self.second is not None, "what belongs together are two texts"
        cls, sep = [self.specials["[CLS]"]], [self.specials["[SEP]"]]
        one, two = [], []
        for row in rows:
            ids, cut = flat[offsets[row] : offsets[row + 1]], int(self.second[row])
            cut = len(ids) if cut < 0 else cut
            one.append(np.concatenate([cls, ids[:cut], sep]))
            two.append(np.concatenate([cls, ids[cut:], sep]))
        known = self.table["negative"].is_valid().combine_chunks().to_numpy(zero_copy_only=False)
        other, starts = flattened(self.table["negative"])
        not_so = [np.concatenate([cls, other[starts[row] : starts[row + 1]], sep]) for row in rows if known[row]]
        made, rows = _flat(one, None, device), np.asarray(rows, np.int64)
        wanted, unwanted = self._wanted_by
        against = None
        if not_so:
            against = _flat(not_so, None, device)._replace(target=there(unwanted[rows[known[rows]]], device))
        return made._replace(target=there(wanted[rows], device), wanted=_flat(two, None, device), unwanted=against)


class _Part(NamedTuple):
    ids: np.ndarray
    first: int  # tokens of type 0


def rows_of(path: str, specials: Mapping[str, int], length: int) -> Rows:
    """The examples in a file of `stages/examples_tokens`, for a model that reads `length` tokens with their frame."""
    table, about = load(path)
    found = Rows(about["kind"], tuple(about["names"]), table, specials)
    longest = int(sizes_of(found).max(initial=0))
    if longest > length:
        raise ValueError(
            f"{path} has a row of {longest} tokens with its frame, and the model reads {length}; tokenize it shorter"
        )
    return found


def flattened(column: pa.ChunkedArray) -> tuple[np.ndarray, np.ndarray]:
    """Flat values and offsets of lists; a null is an empty one."""
    lists = column.combine_chunks()
    lists = pa.concat_arrays(lists.chunks) if isinstance(lists, pa.ChunkedArray) else lists
    sizes = np.asarray(lists.value_lengths().fill_null(0).to_numpy(zero_copy_only=False), np.int64)
    return lists.flatten().to_numpy(), np.concatenate([[0], np.cumsum(sizes)])


def _flat(
    documents: Sequence[np.ndarray], firsts: Sequence[int] | None, device: torch.device | str, **laid: Any
) -> Batch:
    sizes = np.array([len(each) for each in documents], np.int64)
    bounds = np.concatenate([[0], np.cumsum(sizes)])
    tokens = np.concatenate(documents).astype(np.int64)
    first = sizes if firsts is None else np.array(firsts, np.int64)
    types = (np.arange(len(tokens)) - np.repeat(bounds[:-1], sizes)) >= np.repeat(first, sizes)
    layout = packed(bounds, device=device, **laid)
    return Batch(there(tokens, torch.device(device)), layout, there(types.astype(np.int64), torch.device(device)))


def sizes_of(rows: Rows) -> np.ndarray:
    """(n,) tokens of each row with its frame; of an embedding of its longest text; of what is written to, and of what
    is to be written, the longer."""
    sizes = np.diff(rows.tokens[1])
    if rows.kind == "write":
        return np.maximum(sizes, np.diff(rows.wanted[1])) + 2
    if rows.second is None:
        return sizes + 2
    if rows.kind == "embed":
        negative = np.diff(flattened(rows.table["negative"])[1])
        return np.maximum(np.maximum(rows.second, sizes - rows.second), negative) + 2
    return sizes + np.where(rows.second < 0, 2, 3)


def counts(rows: Rows) -> list[int]:
    """Examples of each class."""
    return np.bincount(_known(rows.targets), minlength=rows.classes).tolist() if rows.kind == "classify" else []


def _known(labels: Any) -> np.ndarray:
    return labels[labels >= 0]
