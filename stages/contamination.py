"""Contamination: which evaluation examples stand in a corpus, gram by gram, and in which of its documents.

    out/contamination/examples.arrow        the examples that are looked for, each text once: id, texts
    out/contamination/corpus-…/             of each document that holds a gram of one: id, url, origin, row (in its
                                            shard), grams (numbers, ascending)

A gram is what Decontaminate looks for (operators/text/overlap): 13 successive words, case, punctuation and spacing set
aside (Brown et al. 2020, appendix C); a text of 8 to 12 words counts whole, one of fewer is not looked for. An
example's weight is the share of its distinct grams that are met.

Promises: every document with a gram is found and no other, on any cluster, in one pass over the text without an index
of the corpus; shards that were looked through are kept while examples and corpus are the same. Costs some 8 ns a byte
of text, in each worker some 120 bytes a distinct gram, and for who asks some 150 bytes a document that holds one.
Refuses what `examples` refuses.
"""

import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tundish.cluster import store
from tundish.cluster.map import map_
from tundish.cluster.shards import Dataset, digest_of
from tundish.cluster.target import Target
from tundish.cluster.verbs import At, Cluster, Job
from tundish.operators.text.overlap import Benchmarks, Finder, benchmarks
from tundish.stages import examples
from tundish.stages.examples import IDENTITY

FOLDER = "contamination"
VERSION = 1  # raised by hand when code changes what is found
WORDS = 13  # of a gram
EXAMPLES = pa.schema([("id", pa.string()), ("texts", pa.list_(pa.large_string()))])
MET = pa.schema(
    [
        ("id", pa.binary(16)),
        ("url", pa.large_string()),
        ("origin", pa.string()),
        ("row", pa.int64()),
        ("grams", pa.list_(pa.int32())),
    ]
)

_FINDERS = threading.local()  # one belongs to one thread; kept, its next shards are quicker
_READING = threading.Lock()


# -- the examples


class Part(NamedTuple):
    """Examples of one part, in their order: `ids` (digests of their texts), `files` and `rows` they come from."""

    ids: list[str]
    files: list[str]
    rows: list[int]

    def __len__(self) -> int:  # type: ignore[override]
        return len(self.ids)


Texts = dict[str, tuple[str, ...]]  # of each example by its id


def evaluated(
    kind: str,
    files: Mapping[str, str | Sequence[str]],
    columns: Mapping[str, Any] | None = None,
    *,
    only: frozenset[str] | None = None,
) -> tuple[dict[str, Part], Texts]:
    """The examples of some files, part by part, and what they say; labels are not asked for. `only`: these ids."""
    parts: dict[str, Part] = {}
    texts: Texts = {}
    for name, paths in files.items():
        part = parts[name] = Part([], [], [])
        for some in examples.batches(kind, paths, columns):
            for own, file, row, said in _said(kind, some.table):
                if only is None or own in only:
                    texts.setdefault(own, said)
                    part.ids.append(own)
                    part.files.append(file)
                    part.rows.append(row)
    return parts, texts


def _said(kind: str, table: pa.Table) -> Iterator[tuple[str, str, int, tuple[str, ...]]]:
    names = IDENTITY.get(kind, ("text", "second"))
    columns = [table[name].to_pylist() for name in ("id", "file", "row", *names)]
    for own, file, row, *values in zip(*columns, strict=True):
        yield own, file, row, tuple(" ".join(v) if isinstance(v, list) else v for v in values if v is not None)


def write_examples(uri: str, texts: Texts) -> str:
    """The texts as an Arrow file, by id; its digest."""
    own = sorted(texts)
    table = pa.table({"id": own, "texts": [list(texts[each]) for each in own]}, schema=EXAMPLES)
    with store.written(uri) as (stream, _), pa.ipc.new_file(stream, table.schema) as writer:
        writer.write_table(table)
    return str(store.digest(uri))


# -- their grams


@dataclass(frozen=True)
class Grams:
    """Distinct grams of examples, numbered. `sought`: each as an item of its own, for `Finder`. `posts` (grams + 1,)
    and `examples`: the numbers of the examples that hold a gram. `sizes` (examples,): distinct grams of each; 0 for
    one that is too short. `ids` (examples,)."""

    sought: Benchmarks
    posts: np.ndarray
    examples: np.ndarray
    sizes: np.ndarray
    ids: tuple[str, ...] = ()

    @property
    def count(self) -> int:
        return self.sought.count

    def shared(self, met: np.ndarray) -> np.ndarray:
        """(examples,) how many grams of each are among those of the mask `met` (grams,)."""
        held = np.repeat(met, np.diff(self.posts))
        return np.bincount(self.examples[held], minlength=len(self.sizes))

    def weights(self, met: np.ndarray) -> np.ndarray:
        """(examples,) the share of each that is met; 0 for what is too short."""
        return self.shared(met) / np.maximum(self.sizes, 1)

    def of(self, example: int) -> np.ndarray:
        """The numbers of its grams, ascending."""
        return np.searchsorted(self.posts, np.flatnonzero(self.examples == example), "right") - 1


def grams_of(texts: Sequence[Sequence[str]], *, n: int = WORDS, ids: Sequence[str] = ()) -> Grams:
    """The grams of examples, each of some texts; none goes over from one text to the next."""
    known = benchmarks({str(number): [(number, each)] for number, each in enumerate(texts)}, n=n)
    posts, owners, _ = known.postings
    every = np.arange(known.count, dtype=np.int64)
    one, none = np.array([known.count], np.int64), np.zeros(1, np.int64)
    alone = (np.arange(known.count + 1, dtype=np.int64), every.astype(np.int32), np.zeros(known.count, np.int32))
    sought = replace(
        known, names=("",), items=one, ignored=none, rows=every, owners=np.zeros(known.count, np.int64), postings=alone
    )  # fmt: skip
    return Grams(sought, posts, owners, np.bincount(owners, minlength=len(texts)), tuple(ids))


def grams_in(uri: str, digest: str, n: int = WORDS) -> Grams:
    """Of the examples in a file that `write_examples` wrote; read once a process, whichever thread comes first."""
    with _READING:
        return _read(uri, digest, n)


@lru_cache(maxsize=2)
def _read(uri: str, digest: str, n: int) -> Grams:
    if store.digest(uri) != digest:
        raise ValueError(f"{uri} changed since the search began; leave it as it is, and begin again")
    with pa.ipc.open_file(store.opened(uri)) as reader:
        table = reader.read_all()
    return grams_of(table["texts"].to_pylist(), n=n, ids=table["id"].to_pylist())


# -- the corpus


@dataclass(frozen=True)
class Meet:
    """Documents -> those that hold a gram, with the numbers of theirs; for `map`."""

    uri: str
    digest: str
    n: int = WORDS

    def __call__(self, batch: pa.Table, at: At) -> pa.Table:
        texts = batch["text"].combine_chunks()
        at.tally["documents"] += len(batch)
        at.tally["bytes"] += pc.sum(pc.binary_length(texts)).as_py() or 0
        found = _finder(self.uri, self.digest, self.n).find(texts).seen
        where, grams = found[np.lexsort((found[:, 1], found[:, 0]))].T
        which, firsts = np.unique(where, return_index=True)
        held = pa.ListArray.from_arrays(
            pa.array(np.append(firsts, len(where)).astype(np.int32)), pa.array(grams.astype(np.int32))
        )
        mine = batch.select(["id", "url", "origin"]).take(pa.array(which))
        columns = {**dict(zip(mine.column_names, mine.columns, strict=True)), "row": which + at.row, "grams": held}
        return pa.table(columns).cast(MET)


def _finder(uri: str, digest: str, n: int) -> Finder:
    known = _FINDERS.__dict__
    if known.get("for") != (uri, digest, n):
        known["finder"], known["for"] = Finder(grams_in(uri, digest, n).sought), (uri, digest, n)
    return known["finder"]  # type: ignore[no-any-return]


def met(cluster: Cluster, corpus: Dataset, uri: str, digest: str, out: str, *, n: int = WORDS) -> Dataset:
    """The documents of a corpus that hold a gram of the examples in `uri`, sealed under `out`."""
    grams_in(uri, digest, n)  # what cannot be read is refused here, and kernels are compiled before work fans out
    Finder(grams_of([["one text that is long enough to be looked for here"]]).sought).find(
        pa.array(["A text."], pa.large_string())
    )
    target = Target(store.join(out, FOLDER, corpus.address), digest_of([VERSION, digest, n]))
    source = corpus.select("id", "url", "origin", "text")
    [(found,)] = map_(cluster, "Contamination", [Job(Meet(uri, digest, n), (target,))], source)
    return found


class Documents(NamedTuple):
    """All documents that were met, in the order of their corpora: `table` as MET has it, with `corpus`; `bounds`
    (documents + 1,) into `grams`."""

    table: pa.Table
    bounds: np.ndarray
    grams: np.ndarray

    def __len__(self) -> int:  # type: ignore[override]
        return int(self.table.num_rows)

    def marked(self, count: int, which: np.ndarray | None = None) -> np.ndarray:
        """(count,) bool: the grams that documents hold; of a mask (documents,), those in it."""
        mask = np.zeros(count, bool)
        held = self.grams if which is None else self.grams[np.repeat(which, np.diff(self.bounds))]
        mask[held] = True
        return mask

    def shared(self, own: np.ndarray, count: int) -> np.ndarray:
        """(documents,) how many of these grams each holds."""
        mask = np.zeros(count, bool)
        mask[own] = True
        sums = np.concatenate([[0], np.cumsum(mask[self.grams])])
        return sums[self.bounds[1:]] - sums[self.bounds[:-1]]


def gathered(found: Mapping[str, Dataset]) -> Documents:
    """Of the corpora by address, what was met in each."""
    tables = [each.table().append_column("corpus", pa.array([name] * each.rows)) for name, each in found.items()]
    whole = pa.concat_tables(tables).combine_chunks()
    lists = whole["grams"].combine_chunks()
    lists = pa.concat_arrays(lists.chunks) if isinstance(lists, pa.ChunkedArray) else lists
    sizes = lists.value_lengths().to_numpy(zero_copy_only=False)
    bounds = np.concatenate([[0], np.cumsum(sizes, dtype=np.int64)])
    return Documents(whole.drop_columns(["grams"]), bounds, lists.flatten().to_numpy(zero_copy_only=False))
