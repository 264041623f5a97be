"""Rows of a corpus with what lies beside them, ready to leave: chosen columns, and nobody who asked to stay out.

    text language score …       of the corpus itself
    confidence words …          of what its recipe judged, found by the ids of each shard
    licence author site …       what pages say of themselves, where they were pages
    signals                     stands for every column of Judge

Promises: a document whose publisher reserves it from training, or that the root was told to forget, is left out and
counted, whatever the recipe said of opt-outs; ids become hexadecimal text, as `tundish why` takes them; addresses lose
user names and passwords, counted by column. Costs a shard of the corpus at a time, with some columns of the documents;
of their texts it reads none. Refuses a column that nothing has, and a corpus whose documents are not there any more:
without them nobody knows who opted out.
"""

import functools
import posixpath
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tundish.cluster import store
from tundish.cluster.shards import Dataset, opened
from tundish.operators.web.opt_outs import forbids_training
from tundish.pipeline.funnel import Ran
from tundish.stages.extract import PAGE
from tundish.stages.forgotten import NONE, Forgotten
from tundish.stages.stage import nearest

SIGNALS = "signals"
USUAL = (
    *("id", "url", "title", "date", "text", "language", "confidence", "score"),
    *("licence", "origin", "source", SIGNALS),
)
PAGES = tuple(field.name for field in PAGE if field.name not in ("id", "links"))
SPENT = {
    *("reason", "value", "threshold", "margin", "nearest", "stratum", "edits", "opt_outs")
}  # say nothing of who stays
OPTED, FORGOTTEN = "opted_out", "forgotten"  # what documents are left out for here
SAID = 80  # characters of a licence that is no address
WORDS = ("text", "title")  # columns that hold no address, though words in them may look like one
# What stands before the @ of an address (RFC 3986 §3.2.1); against it, also a password with a slash, as Amazon has them
USERINFO = re.compile(r"(?<=://)(?:[^\s/?#\\]*@|[^\s/?#\\:@\[]*:(?!\d*(?:[/?#]|$))[^\s@]+@)")


@dataclass(frozen=True)
class Leaving:
    """The corpus at an address of a run. `columns`: names, `signals` among them; `gone`: what the root forgot."""

    told: Ran
    address: str
    columns: tuple[str, ...] = USUAL
    gone: Forgotten = NONE

    @functools.cached_property
    def corpus(self) -> Dataset:
        return self.told.datasets[self.address]

    @functools.cached_property
    def documents(self) -> Dataset:
        found = self.told.input(self.address, "documents")
        if found is None or "opt_outs" not in found.held:
            raise ValueError(
                f"the documents of {self.address} do not lie under {self.told.root!r}, or without their opt-outs, so "
                "nobody knows who keeps them out of training; run the recipe again"
            )
        return found

    @functools.cached_property
    def beside(self) -> Dataset:
        """The documents with all that its recipe found of them."""
        return self.documents.beside(*(self.told.datasets[one] for one in self._judges()))

    def _judges(self) -> list[str]:
        """Stages beside the documents whose columns may leave: of the corpus, and of the Refine it obeys."""
        own = [self.told.field(self.address, name) for name in ("language", "quality", "kept")]
        refine = self.told.field(self.address, "kept")
        fields = self.told.recipe[refine]["fields"] if refine in self.told.recipe else {}
        more = [fields.get("addresses"), *(fields.get("scores") or {}).values()]
        return [one for one in dict.fromkeys([*own, *more]) if one in self.told.datasets]

    @functools.cached_property
    def by_name(self) -> bool:
        """Whether the recipe has left out those too that turn crawlers for training away by name."""
        refine = self.told.field(self.address, "kept")
        return refine in self.told.recipe and self.told.field(refine, "opt_outs") == "by_name"

    @functools.cached_property
    def signals(self) -> tuple[str, ...]:
        """The columns of Judge, `score` apart."""
        quality = self.told.input(self.address, "quality")
        return tuple(c for c in quality.shards[0].columns if c not in ("id", "score")) if quality else ()

    @functools.cached_property
    def chosen(self) -> tuple[str, ...]:
        """Every column that leaves, in order; a usual one that this corpus lacks is passed over."""
        wide = [name for one in self.columns for name in (self.signals if one == SIGNALS else (one,))]
        known = (*self.corpus.held, *(self.beside.held - SPENT), *(PAGES if self._paged else ()))
        for name in wide:
            if name not in known and self.columns != USUAL:
                raise ValueError(f"there is no column {name!r} to export{nearest(name, [*known, SIGNALS])}")
        return tuple(dict.fromkeys(name for name in wide if name in known))

    @functools.cached_property
    def _paged(self) -> bool:
        return any(self._page(name) is not None for name in self.documents.names)

    def rows(self, name: str) -> tuple[pa.Table, Counter[str]]:
        """(what leaves of one shard, counts of it and of what does not)."""
        held = [c for c in (*self.chosen, *TOLD) if c in self.corpus.held]
        kept = self.corpus.select(*dict.fromkeys(("id", "url", "text", *held))).read(name)
        places = self._places(name, kept["id"])
        stays, tally = self._stays(name, kept, places)
        kept, places = kept.filter(stays), places.filter(stays)
        for column, values in self._others(name, places).items():
            kept = kept.append_column(column, values)
        kept, bared = without_userinfo(kept)
        tally.update({f"bared:{column}": n for column, n in bared.items() if column in self.chosen})
        tally.update(counted(kept))
        shown = kept.select([*self.chosen])
        for at, field in enumerate(shown.schema):
            if pa.types.is_fixed_size_binary(field.type):
                shown = shown.set_column(at, field.name, hexed(shown[field.name]))
        return shown, tally

    def _places(self, name: str, ids: pa.ChunkedArray) -> pa.Array:
        """(rows,) where each document of a shard of the corpus lies in that shard of the documents."""
        known = self.documents.select("id").read(name)["id"].combine_chunks()
        found = pc.index_in(ids.combine_chunks(), value_set=known)
        if found.null_count:
            raise ValueError(f"{name} of {self.address} has documents that its source lacks; run the recipe again")
        return found

    def _stays(self, name: str, kept: pa.Table, places: pa.Array) -> tuple[pa.Array, Counter[str]]:
        """(rows,) who may leave, and how many may not."""
        said = self.documents.select("opt_outs").read(name)["opt_outs"].combine_chunks().take(places)
        stated = np.flatnonzero(pc.fill_null(pc.list_value_length(said), 0).to_numpy() > 0)
        opted, gone = np.zeros(len(kept), bool), np.zeros(len(kept), bool)
        for row in stated.tolist():
            opted[row] = forbids_training(said[row].as_py())
        if self.gone:
            rows = zip(kept["id"].to_pylist(), kept["url"].to_pylist(), strict=True)
            gone = np.array([one in self.gone.ids or self.gone.holds(url) for one, url in rows], bool)
        told = Counter({f"left:{OPTED}": int((opted & ~gone).sum()), f"left:{FORGOTTEN}": int(gone.sum())})
        return pa.array(~(opted | gone)), +told

    def _others(self, name: str, places: pa.Array) -> dict[str, Any]:
        """Columns that the corpus itself lacks, for the documents at these places."""
        found: dict[str, Any] = {}
        lacking = [c for c in self.chosen if c not in self.corpus.held]
        if wanted := [c for c in lacking if c in self.beside.held - SPENT]:
            table = self.beside.select(*wanted).read(name).take(places)
            found |= {column: table[column] for column in wanted}
        if self._paged:
            page, wanted = self._page(name), dict.fromkeys([*(c for c in lacking if c not in found), "licence"])
            table = page[0].select(*wanted).read(page[1]).take(places) if page else None
            kinds = {column: PAGE.field(column).type for column in wanted}
            found |= {c: table[c] if table else pa.nulls(len(places), kind) for c, kind in kinds.items()}
        return found

    def _page(self, name: str) -> tuple[Dataset, str] | None:
        """Where that which the pages of a shard say of themselves lies, if they were pages: (dataset, shard)."""
        file = self.documents.shard(name).file
        at = posixpath.normpath(f"{self.documents.address}/{file}")
        if "://" in file or at.startswith(("/", "..")) or (pages := self._inside(posixpath.dirname(at))) is None:
            return None
        own = posixpath.basename(at).rsplit(".", 1)[0]
        return (pages, own) if own in pages.names else None

    def _inside(self, address: str) -> Dataset | None:
        known = self.__dict__.setdefault("_opened", {})
        if address not in known:
            known[address] = opened(store.join(self.told.root, address, "pages"))
        return known[address]


TOLD = ("language", "origin", "date")  # counted for the card, whether they leave or not


def counted(kept: pa.Table) -> Counter[str]:
    """Documents and bytes of text: in all, by language and origin; documents by licence and by month."""
    sizes = pc.fill_null(pc.binary_length(kept["text"]), 0)
    tally = Counter({"documents": len(kept), "bytes": pc.sum(sizes).as_py() or 0})
    for column in ("language", "origin"):
        table = pa.table({"of": kept[column].cast(pa.string()), "size": sizes})
        for row in table.group_by("of").aggregate([("size", "sum"), ("size", "count")]).to_pylist():
            tally[f"{column}:{row['of'] or ''}"] += row["size_count"]
            tally[f"{column}_bytes:{row['of'] or ''}"] += row["size_sum"]
    tally.update(_each("month", (str(day or "")[:7] for day in kept["date"].to_pylist())))
    if "licence" in kept.column_names:
        tally.update(_each("licence", (_licence(said) for said in kept["licence"].to_pylist())))
    return tally


def _each(name: str, values: Iterable[str]) -> Mapping[str, int]:
    return Counter(f"{name}:{value}" for value in values)


def _licence(said: str | None) -> str:
    """A licence's address; of what is said in words only that it is: words are without number."""
    if not said:
        return ""
    return said if said.startswith(("http://", "https://")) and len(said) <= SAID else "said in words"


def without_userinfo(table: pa.Table) -> tuple[pa.Table, dict[str, int]]:
    """(the table, its addresses without user names and passwords; column -> values that had some)."""
    bared = {}
    for at, field in enumerate(table.schema):
        if field.name in WORDS or not (pa.types.is_string(field.type) or pa.types.is_large_string(field.type)):
            continue
        column = table[field.name].combine_chunks()
        rows = np.flatnonzero(pc.fill_null(pc.match_substring_regex(column, "://.*@"), False).to_numpy(False))
        said = {row: bare(whole) for row, whole in zip(rows.tolist(), column.take(rows).to_pylist(), strict=True)}
        if changed := sum(column[row].as_py() != value for row, value in said.items()):
            values = column.to_pylist()
            for row, value in said.items():
                values[row] = value
            table, bared[field.name] = table.set_column(at, field, pa.array(values, field.type)), changed
    return table, bared


def bare(address: str) -> str:
    """Without what stands before the host: names and passwords.

    >>> bare("http://u:secretpw@h0.example/0"), bare("s3://AKIA:wJalr/XUt@bucket/a.warc.gz:17")
    ('http://h0.example/0', 's3://bucket/a.warc.gz:17')
    >>> bare("http://heron.example:8080/@user?to=a@b.example")
    'http://heron.example:8080/@user?to=a@b.example'
    """
    return USERINFO.sub("", address)


def hexed(ids: pa.ChunkedArray) -> pa.Array:
    """Ids as hexadecimal text.

    >>> hexed(pa.chunked_array([pa.array([b"\\x00\\xff"], pa.binary(2))])).to_pylist()
    ['00ff']
    """
    return pa.array([None if one is None else one.hex() for one in ids.to_pylist()], pa.string())
