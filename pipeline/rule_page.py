"""What each rule did, for the report: how often it fired and where, documents it dropped, near misses, its signal.

Promises: every rule has a page, fired or not; examples are a fair sample and the same every time, near misses are the
kept documents closest to the threshold in the whole corpus, however far (of a threshold of 0 there are none: what it
keeps is all at it). Documents of unwanted languages are in no picture. Costs one pass over the signals that the rules
ask for, one shard at a time, and of the texts only those shards that hold an example.
"""

import heapq
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tundish.operators.text.rule import Rule
from tundish.operators.text.rules import bounds, margins
from tundish.pipeline.decisions import measured, refined
from tundish.pipeline.examples import drawn, ranks, texts
from tundish.pipeline.figures import distribution
from tundish.pipeline.firing import Firing, firing, warnings
from tundish.pipeline.funnel import Ran
from tundish.stages.fired import APART, KINDS

EXAMPLES = 10  # dropped, and near misses, of each rule
COLUMNS = {"source": 4, "language": 6}  # of the table of where rules fire
BINS, MARKS = 40, 5
LONG = ("words", "tokens", "perplexity")  # signals that run to the thousands
MOST = {"mean_word_length": 20, "median_word_length": 20, "stop_words": 20, "c4_sentences": 40, "open_sentences": 40}
MOST |= {"entropy": 12, "bits_per_byte": 12, "url_hard_words": 10, "url_soft_words": 10, "url_subwords": 10}
SYSTEMS = ("_dclm", "_dolma", "_paper")
STORED = ("id", "stratum", "reason", "value", "threshold")


@dataclass
class Page:
    """One rule (none: a reason that is about the language) and what was found for it. `dropped`: documents it was the
    first to drop; where there are none, those it would drop alone, with the reason they fell to."""

    reason: str
    rule: Rule | None
    fired: int
    alone: int
    dropped: list[dict[str, Any]] = field(default_factory=list)
    misses: list[dict[str, Any]] = field(default_factory=list)
    bins: np.ndarray = field(default_factory=lambda: np.zeros((2, BINS), np.int64))  # kept, refused
    marks: set[float] = field(default_factory=set)
    picture: str = ""


def rule_page(told: Ran, address: str) -> dict[str, Any]:
    """The pages of the rules, the table of where, and what is odd, of the Refine at this address."""
    refine, counts = refined(told, address), firing(told, address)
    by = {rule.reason: rule for rule in refine.decisive}
    pages = [Page(row.reason, by.get(row.reason), row.fired, row.alone) for row in counts.rows]
    source = measured(told, refine, told.datasets[address]).select(*STORED, *refine.needs)
    order = ranks(source.names)
    for name in source.names:
        table = source.read(name).combine_chunks()
        for page in pages:
            if page.rule is not None:
                _measured(page, page.rule, table, (name, order[name]))
            if page.fired:
                _drawn(page, table, _mask(pc.equal(table["reason"], page.reason)), (name, order[name]))
    rows = [row for page in pages for row in (*page.dropped, *page.misses)]
    texts(told.input(address, "documents"), rows, "url")
    for page in pages:
        page.picture = _picture(page)
    return {"pages": pages, "where": _where(counts), "warnings": list(warnings(counts))}


def _mask(found: pa.ChunkedArray) -> np.ndarray:
    """(rows,) bool, null as no."""
    return np.asarray(pc.fill_null(found, False).to_numpy(zero_copy_only=False))


def _drawn(page: Page, table: pa.Table, here: np.ndarray, shard: tuple[str, int]) -> None:
    """Add the marked documents of this shard (its name, its rank) to those dropped, if they are drawn."""
    rows, (name, rank) = np.flatnonzero(here), shard
    if not len(rows) or (len(page.dropped) >= EXAMPLES and page.dropped[-1]["draw"][0] < rank):
        return
    chosen = drawn(table["id"].combine_chunks(), rows, EXAMPLES)
    found = _rows(table, np.array([row for _, row in chosen]), name)
    for row, (lot, _) in zip(found, chosen, strict=True):
        row["draw"] = (rank, lot)
    page.dropped = heapq.nsmallest(EXAMPLES, [*page.dropped, *found], key=lambda row: row["draw"])


def _measured(page: Page, rule: Rule, table: pa.Table, shard: tuple[str, int]) -> None:
    """Add this shard to the distribution, its kept documents to the near misses, and where the rule came behind others
    everywhere, what it would have dropped to the examples."""
    kept, wanted = _mask(pc.is_null(table["reason"])), ~_mask(pc.is_in(table["reason"], pa.array(APART)))
    values = np.asarray(table[rule.signal].cast(pa.float64()).to_numpy(), np.float64)
    edges, limits = edges_of(rule), bounds(table, rule)
    clipped = np.clip(values, edges[0], edges[-1])
    for side, here in enumerate((kept, ~kept & wanted)):
        page.bins[side] += np.histogram(clipped[here & ~np.isnan(values)], edges)[0]
    page.marks |= set(np.unique(limits).tolist())
    margin = margins(table, rule)
    told = pa.table({"value": values, "threshold": limits, "margin": margin})
    close = np.flatnonzero(kept & ~np.isnan(margin) & (limits != 0))
    close = close[np.argsort(margin[close], kind="stable")[:EXAMPLES]]
    own = told.take(pa.array(close)).to_pylist()
    found = [row | its for row, its in zip(_rows(table, close, shard[0]), own, strict=True)]
    if page.alone and not page.fired:
        beside = table.drop_columns(["value", "threshold"])
        for name in told.column_names:
            beside = beside.append_column(name, told[name])
        _drawn(page, beside, wanted & (margin < 0), shard)
    page.misses = heapq.nsmallest(EXAMPLES, [*page.misses, *found], key=lambda row: (row["margin"], row["id"]))


def _rows(table: pa.Table, rows: np.ndarray, name: str) -> list[dict[str, Any]]:
    """These documents, with where their texts are."""
    told = [column for column in (*STORED, "margin", "language") if column in table.column_names]
    found = table.select(told).take(pa.array(rows)).to_pylist()
    return [row | {"shard": name, "row": int(at)} for row, at in zip(found, rows, strict=True)]


def edges_of(rule: Rule) -> np.ndarray:
    """(BINS + 1,) bounds of the bins of a signal: what lies beyond counts in the last. Of a share with a small
    threshold only the part near it is looked at."""
    signal = rule.signal
    for system in SYSTEMS:
        signal = signal.removesuffix(system)
    if signal in LONG:
        return np.geomspace(1, 1e5, BINS + 1)
    most = MOST.get(signal, 1.0 if abs(rule.value) <= 1 else 2 * abs(rule.value))
    return np.linspace(0, 10 * rule.value if 0 < rule.value < 0.05 else most, BINS + 1)


def _picture(page: Page) -> str:
    if page.rule is None or not page.bins.any():
        return ""
    marks = sorted(page.marks) if len(page.marks) <= MARKS else [page.rule.value]
    edges = edges_of(page.rule)
    return distribution(f"rule-{page.reason}", page.rule.signal, edges, *page.bins, marks)


def _where(told: Firing) -> dict[str, Any]:
    """Columns of the largest sources and languages; for each rule the share of their documents it was first to drop."""
    columns = [group for kind in KINDS for group in told.groups[kind][: COLUMNS[kind]]]
    rows = [
        (row, told.asked(row), [group.drops.get(row.reason, 0) / group.came for group in columns])
        for row in told.rows
        if row.alone or row.fired
    ]
    return {"columns": columns, "rows": rows}
