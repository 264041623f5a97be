"""Corpus: the clean text, written once, and `dropped/` beside it with the reason for each document left out.

The only stage that materialises text after Extract. It applies the edits; dropped rows name where their text lies
and hold none of it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tundish.cluster.map import map_
from tundish.cluster.shards import Dataset
from tundish.cluster.verbs import At, Cluster, Job
from tundish.operators.text.personal import apply
from tundish.stages.documents import DROPPED, table_of
from tundish.stages.stage import Place, Stage

FINEWEB2 = {1: 1, 2: 2, 3: 3, 5: 5, 100: 8, 1000: 1}  # cluster size from -> times: arXiv 2506.20920, its repository
BYTES_OF = "bytes_out:"  # counts of clean text, by origin
CARRIED = ("id", "url", "host", "title", "date", "origin", "source", "content_digest")


@dataclass(frozen=True)
class Corpus(Stage):
    """`kept`: Refine's column; `twins`: Deduplicate's; `contamination`: Decontaminate's; `edits`: Mask's; `language`
    and `quality` are carried along. `rehydrate`: how often a mix should repeat a document by the size of its cluster
    (column `repeats`): a table from size to times, `fineweb2`, or `none`. `quarantine`: whether what Deduplicate holds
    back stays or goes.
    """

    version: ClassVar[int] = 3
    makes: ClassVar[tuple[str, ...]] = (*CARRIED, "text", "language", "score", "copies", "cluster", "repeats")
    wants: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "documents": ("id", "text"),
        "kept": ("reason",),
        "twins": ("twin", "cluster"),
        "contamination": ("contaminated",),
        "edits": ("edits",),
        "language": ("language",),
        "quality": ("score",),
    }

    documents: Stage
    kept: Stage
    twins: Stage | None = None
    edits: Stage | None = None
    language: Stage | None = None
    quality: Stage | None = None
    contamination: Stage | None = None
    rehydrate: Literal["none", "fineweb2"] | Mapping[int, int] = "none"
    quarantine: Literal["stays", "goes"] = "stays"

    def check(self) -> None:
        self._check_copies()
        if not isinstance(self.rehydrate, str) and (1 not in self.rehydrate or min(self.rehydrate.values()) < 0):
            raise ValueError(
                f"Corpus.rehydrate is {dict(self.rehydrate)}; it is a table from cluster sizes, the first of them 1, "
                "to how often a document is taken, such as {1: 1, 2: 2, 5: 3}"
            )

    def _check_copies(self) -> None:
        """What goes because a copy stays must leave that copy: whole documents, and passages of them."""
        among = getattr(self.twins, "among", None) if self.twins is not None else self.kept
        known = {stage.address for stage in self.kept.walk()} if isinstance(self.kept, Stage) else set()
        if among is None or among.address not in known:
            raise ValueError(
                "Corpus leaves out what kept refuses, and Deduplicate does not know of it: a document could go for one "
                "that goes as well; give Deduplicate among: the same Refine"
            )
        for cutter in (one for one in self.edits.walk() if one.keeps_one) if self.edits else ():
            for name, own in (("twins", self.twins), ("contamination", self.contamination)):
                given = getattr(cutter, name)
                if own is not None and (given is None or given.address != own.address):
                    raise ValueError(_one_copy(cutter, name, f"the same {name}"))
            if cutter.among is None:
                raise ValueError(_one_copy(cutter, "kept", "among: a Refine"))
            if self.quarantine == "goes":
                raise ValueError(_one_copy(cutter, "quarantine", "no passages to cut, or say quarantine: stays"))

    def run(self, cluster: Cluster, inputs: Mapping[str, Dataset], out: Place) -> Dataset:
        beside = [dataset for name, dataset in inputs.items() if name != "documents"]
        wanted = ["text", *CARRIED, "reason", "value", "threshold", "twin", "similarity", "kind", "cluster", "copies"]
        wanted += ["quarantine", "contaminated", "contaminated_grams", "edits", "language", "score"]
        source = inputs["documents"].beside(*beside).select(*wanted)
        job = Job(self.clean, (out.target(), out.target("dropped")), about={**out.about, "inside": ["dropped"]})
        [(corpus, _)] = map_(cluster, "Corpus", [job], source)
        return corpus

    def clean(self, batch: pa.Table, at: At) -> tuple[pa.Table, pa.Table]:
        """Documents with everything beside them -> (clean documents, dropped)."""
        gone = pc.is_valid(batch["reason"])
        for column in ("twin", "contaminated", *(["quarantine"] if self.quarantine == "goes" else [])):
            if column in batch.column_names:
                gone = pc.or_(gone, pc.is_valid(batch[column]))
        kept, text, gone = self._edited(batch, gone)
        columns: dict[str, Any] = {c: kept[c] for c in CARRIED}
        columns["text"] = text
        for name, kind in (("language", pa.string()), ("score", pa.float64()), ("copies", pa.int32())):
            columns[name] = kept[name].cast(kind) if name in kept.column_names else pa.nulls(len(kept), kind)
        columns["repeats"] = pa.array(self.repeats(pc.fill_null(columns["copies"], 1).to_numpy()), pa.int32())
        columns["cluster"] = kept["cluster"] if "cluster" in kept.column_names else kept["id"]
        at.tally["kept"] += len(kept)
        at.tally["bytes_in"] += pc.sum(pc.binary_length(batch["text"])).as_py() or 0
        at.tally["bytes_out"] += pc.sum(pc.binary_length(text)).as_py() or 0
        sizes = pa.table({"origin": columns["origin"], "size": pc.binary_length(text)})
        for origin, size in zip(
            *sizes.group_by("origin").aggregate([("size", "sum")]).to_pydict().values(), strict=True
        ):
            at.tally[f"{BYTES_OF}{origin}"] += size
        return pa.table(columns), self._dropped(batch, gone, at)

    def _edited(self, batch: pa.Table, gone: pa.ChunkedArray) -> tuple[pa.Table, pa.LargeStringArray, pa.ChunkedArray]:
        """(documents that stay, their texts as the edits leave them, who goes: those too of which nothing is left)."""
        kept = batch.filter(pc.invert(gone))
        before = kept["text"].combine_chunks()
        if "edits" not in kept.column_names:
            return kept, before, gone
        text = apply(before, kept["edits"].combine_chunks())
        emptied = pc.and_(_blank(text), pc.invert(_blank(before))).to_numpy(zero_copy_only=False)
        if not emptied.any():
            return kept, text, gone
        leaves = gone.to_numpy().copy()
        leaves[np.flatnonzero(~leaves)[emptied]] = True
        stays = pa.array(~emptied)
        return kept.filter(stays), text.filter(stays), pa.chunked_array([pa.array(leaves)])

    def repeats(self, copies: np.ndarray) -> np.ndarray:
        """(n,) how often a mix should take each document, by the size of its cluster.

        >>> Corpus(Stage(), Stage(), rehydrate="fineweb2").repeats(np.array([1, 4, 99, 100, 5000])).tolist()
        [1, 3, 5, 8, 1]
        """
        if self.rehydrate == "none":
            return np.ones(len(copies), np.int64)
        table = FINEWEB2 if isinstance(self.rehydrate, str) else self.rehydrate
        sizes = np.array(sorted(table))
        return np.array([table[size] for size in sizes])[np.searchsorted(sizes, copies, side="right") - 1]

    def _dropped(self, batch: pa.Table, gone: pa.ChunkedArray, at: At) -> pa.Table:
        rows = []
        for offset, row in enumerate(batch.drop_columns(["text"]).to_pylist()):
            if not gone[offset].as_py():
                continue
            why = _why(row, getattr(self.contamination, "least", None), self.quarantine == "goes")
            at.tally[f"dropped:{why['reason']}"] += 1
            known = {c: row[c] for c in ("id", "url", "host", "origin", "value", "threshold")}
            rows.append({**known, "shard": at.shard, "row": at.row + offset, **why})
        return table_of(DROPPED, rows)


def _one_copy(cutter: Stage, name: str, advice: str) -> str:
    return (
        f"Corpus leaves out documents by its {name}, and {cutter.name} does not know which: the one copy it keeps of a "
        f"passage could go with one of them; give {cutter.name} {advice}"
    )


def _why(row: Mapping[str, Any], least: float | None, held: bool) -> dict[str, Any]:
    """Who left a document out, and for what; the first of those who would have, in the order of the pipeline."""
    if row["reason"]:
        return {"stage": "refine", "reason": row["reason"]}
    if row.get("twin"):
        told = {"survivor": row["twin"], "similarity": row["similarity"]}
        return {"stage": "deduplicate", "reason": f"{row['kind'] or 'near'}_duplicate", **told}
    if row.get("contaminated"):
        told = {"value": float(row["contaminated_grams"]), "threshold": least, "detail": row["contaminated"]}
        return {"stage": "decontaminate", "reason": "contaminated", **told}
    if held and row.get("quarantine"):
        return {"stage": "deduplicate", "reason": "quarantined", "detail": row["quarantine"]}
    return {"stage": "corpus", "reason": "emptied"}  # all of it stands elsewhere, or is masked


def _blank(texts: pa.LargeStringArray) -> pa.BooleanArray:
    return pc.equal(pc.utf8_trim_whitespace(pc.fill_null(texts, "")), "")
