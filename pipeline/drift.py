"""drift: how far the signals of one run lie from those of another, column by column.

Every number and every category that both runs sealed beside their documents (scores, signals, lengths, languages,
scripts, kinds) by the population stability index of operators/drift, and of each stage the reasons of what it dropped.
Bins are quantiles of the first run, the reference.

Promises: stages are paired by their kind and place in the recipe, columns by their name. Costs one pass over the
columns, of at most `FEW` shards of each dataset, drawn by the hash of their names; reasons are counted in manifests, of
all. Refuses runs that have nothing in common.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from rich.markup import escape
from rich.table import Table

from tundish.cluster.shards import Dataset
from tundish.operators import drift as operators
from tundish.pipeline.examples import draw
from tundish.pipeline.funnel import Ran, dropped, ran, short

FEW = 32  # shards
MOST = 1_000_000  # values of the reference that bins are cut by
CATEGORIES = 64  # values of a text that counts as a category; more, and it says nothing but itself
PAIRED = (
    "Extract", "Read", "Gather", "Identify", "Vet", "Judge", "Rate", "Grade", "Perplex", "Bucket", "Lines", "Repeated",
    "Substrings", "Mask", "Refine", "Deduplicate", "Decontaminate", "Corpus",
)  # fmt: skip
DOCUMENTS = ("Extract", "Read", "Gather", "Corpus")
NAMED = ("origin", "mime", "status", "encoding", "how", "language")  # columns of documents that are categories
TOLD = ("row", "cluster", "copies", "crawl")  # numbers that name something, or that reasons tell better
DECISION = ("value", "threshold", "margin", "nearest")  # of Refine: about the rule that decided, another one each time


@dataclass(frozen=True)
class Drift:
    """One column. `index`: PSI; `chance`: what it stays below where nothing moved; `bins`: label, counts of both."""

    stage: str
    column: str
    kind: str  # number, category or reasons
    index: float
    chance: float
    bins: list[tuple[str, int, int]]

    @property
    def verdict(self) -> str:
        return operators.verdict(self.index, self.chance)

    @property
    def most(self) -> tuple[str, float, float]:
        """The bin that moved most, and its share before and after."""
        before, after = (max(1, sum(each[n] for each in self.bins)) for n in (1, 2))
        label, p, q = max(self.bins, key=lambda bin: abs(bin[1] / before - bin[2] / after))
        return label, p / before, q / after

    def plain(self) -> dict[str, Any]:
        return asdict(self) | {"verdict": self.verdict}


def drift(reference: str, other: str) -> list[Drift]:
    """The latest runs under two roots, the column that moved most first."""
    return between(ran(reference), ran(other))


def between(one: Ran, two: Ran) -> list[Drift]:
    """Two runs, of one root or of two."""
    found = [each for pair in paired(one, two) for each in _of_stage(one, two, *pair)]
    if not found:
        raise ValueError(
            f"the runs under {one.root!r} and {two.root!r} have no stage in common whose columns could be compared; "
            "give two runs that judge documents"
        )
    return sorted(found, key=lambda each: (-each.index, each.stage, each.column))


def paired(one: Ran, two: Ran) -> list[tuple[str, str]]:
    """Addresses of the stages of one kind, the first with the first and so on."""
    return [pair for name in PAIRED for pair in zip(one.of(name), two.of(name), strict=False)]


def _of_stage(one: Ran, two: Ran, here: str, there: str) -> Iterator[Drift]:
    stage = one.recipe[here]["stage"]
    a, b = one.datasets[here], two.datasets[there]
    reasons = [Counter(dropped(each)) + Counter(kept=each.counts.get("kept", each.rows)) for each in (a, b)]
    if len(reasons[0] + reasons[1]) > 1:
        yield _categories(stage, "reasons", "reasons", *reasons)
    for column in sorted(a.held & b.held):
        if stage in DOCUMENTS and column not in (*NAMED, "text"):
            continue
        yield from _of_column(stage, column, _few(a), _few(b))


def _few(dataset: Dataset) -> tuple[Dataset, list[str]]:
    return dataset, sorted(dataset.names, key=draw)[:FEW]


Some = tuple[Dataset, list[str]]


def _of_column(stage: str, column: str, a: Some, b: Some) -> Iterator[Drift]:
    kind = _kind(column, next(_columns(a, column), None))
    if kind == "number":
        yield _numbers(stage, column, a, b)
    elif kind == "category":
        counts = [Counter[str]() for _ in (a, b)]
        for found, some in zip(counts, (a, b), strict=True):
            for values in _columns(some, column):
                found.update({_named(e["values"]): e["counts"] for e in pc.value_counts(values).to_pylist()})
                if len(found) > CATEGORIES:
                    return
        yield _categories(stage, column, "category", *counts)


def _kind(column: str, values: pa.ChunkedArray | None) -> str:
    """What a column is to be compared as; "" for what names or holds things."""
    if values is None or column in (*TOLD, *DECISION) or column.endswith("_key"):
        return ""
    if column in NAMED or pa.types.is_boolean(values.type):
        return "category"
    if column == "text" or pa.types.is_integer(values.type) or pa.types.is_floating(values.type):
        return "number"
    texts = pa.types.is_string(values.type) or pa.types.is_large_string(values.type)
    return "category" if texts and column not in ("url", "title", "host", "date", "source", "reason") else ""


def _columns(some: Some, column: str) -> Iterator[pa.ChunkedArray]:
    dataset, names = some
    for name in names:
        table = dataset.select(column).read(name)
        if column in table.column_names:
            yield table[column]


def _named(value: Any) -> str:
    return "none" if value is None else str(value)


def _values(some: Some, column: str) -> Iterator[np.ndarray]:
    """Numbers, NaN where there is none; of a text its length in characters."""
    for values in _columns(some, column):
        counted = pc.utf8_length(values) if column == "text" else values
        yield counted.cast(pa.float64()).to_numpy(zero_copy_only=False) if len(counted) else np.empty(0)


def _numbers(stage: str, column: str, a: Some, b: Some) -> Drift:
    held, size = [], 0
    for values in _values(a, column):
        held.append(values[: max(0, MOST - size)])
        size += len(held[-1])
    edges = operators.edges_of(np.concatenate([np.empty(0), *held]))
    sides = [
        sum((operators.counted(v, edges) for v in _values(some, column)), np.zeros(len(edges) + 2, np.int64))
        for some in (a, b)
    ]
    ends = [short(float(edge)) for edge in edges]
    labels = [f"up to {end}" for end in ends] + [f"above {ends[-1]}" if ends else "any", "none"]
    bins = [(label, int(p), int(q)) for label, p, q in zip(labels, *sides, strict=True)]
    name = "length of the text" if column == "text" else column
    return Drift(stage, name, "number", operators.stability(*sides), operators.chance(*sides), bins)


def _categories(stage: str, column: str, kind: str, a: Mapping[str, int], b: Mapping[str, int]) -> Drift:
    labels = sorted({*a, *b}, key=lambda label: (-a.get(label, 0) - b.get(label, 0), label))
    sides = [np.array([each.get(label, 0) for label in labels], np.int64) for each in (a, b)]
    bins = [(label, a.get(label, 0), b.get(label, 0)) for label in labels]
    return Drift(stage, column, kind, operators.stability(*sides), operators.chance(*sides), bins)


def table(found: list[Drift], most: int | None = None) -> Table:
    """A line a column for a terminal, what moved most first."""
    shown = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("signal", "PSI", "by chance", "", "moved most", "before", "after"):
        right = name in ("PSI", "by chance", "before", "after")
        shown.add_column(name, justify="right" if right else "left", overflow="ellipsis", no_wrap=name != "moved most")
    for one in found[:most]:
        label, before, after = one.most
        colour = {"large": "red", "some": "yellow"}.get(one.verdict, "dim")
        numbers, shares = (f"{one.index:.3f}", f"{one.chance:.3f}"), (f"{100 * each:.1f} %" for each in (before, after))
        name = f"{one.stage}: {one.column}"
        shown.add_row(name, *numbers, f"[{colour}]{one.verdict}[/]", escape(label), *shares)
    return shown
