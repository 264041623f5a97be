"""Index: what a later crawl needs to know of the documents that stay here, and none of their text.

A row a document that is kept: id, crawl, its keys of equality, its signature and the sorted upper halves (32 bits) of
its shingles' hashes. So `Deduplicate(against=[root])` names, for what it drops, the earlier document, the similarity
and the crawl. Costs about 500 bytes a document and 4 a word. `tundish forget` takes documents out of an index, too.
"""

import functools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import pyarrow as pa
import pyarrow.compute as pc

from tundish.cluster import store
from tundish.cluster.map import map_
from tundish.cluster.shards import Dataset, opened
from tundish.cluster.verbs import At, Cluster, Job
from tundish.operators.text import minhash
from tundish.operators.text.similarity import Sets
from tundish.stages.sign import Sign
from tundish.stages.stage import Place, Stage

KEPT = ("id", "text_key", "url_key", "content_digest", "text_bytes", "signature")
SHINGLES = pa.large_list(pa.uint32())


@dataclass(frozen=True)
class Index(Stage):
    """`corpus`: whose documents are kept, each as it was in `documents`. `crawl` names what this is an index of."""

    may_be_empty: ClassVar[bool] = True  # a crawl that brought nothing new
    makes: ClassVar[tuple[str, ...]] = (*KEPT, "crawl", "shingles")
    wants: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "documents": ("id", "text"),
        "signatures": ("signature", "text_key"),
        "corpus": ("id", "repeats"),
    }

    documents: Stage
    signatures: Sign
    corpus: Stage
    crawl: str

    def check(self) -> None:
        if not self.crawl.strip():
            raise ValueError("Index.crawl is empty; name the crawl, such as 2026-47, for those who meet it later")

    def prepare(self) -> None:
        self.signatures.prepare()

    def run(self, cluster: Cluster, inputs: Mapping[str, Dataset], out: Place) -> Dataset:
        source = inputs["documents"].beside(inputs["signatures"])
        if inputs["corpus"].names != source.names:
            raise ValueError("Index.corpus is of other documents than Index.documents; give it those the corpus is of")
        job = Job(
            Row(self.crawl, *self.signatures.shingled, inputs["corpus"]),
            (out.target(salt=inputs["corpus"].digest),),
            about={**out.about, "crawl": self.crawl, "signed": signed(self.signatures)},
        )
        [(sealed,)] = map_(cluster, "Index", [job], source.select("text", *KEPT))
        return sealed


def signed(signatures: Sign) -> dict[str, Any]:
    """What two signatures must have in common to be compared."""
    bands, rows = signatures.cut
    named = {name: getattr(signatures, name) for name in ("scheme", "unit", "size", "seed")}
    return {"bands": bands, "rows": rows, "version": signatures.version, **named}


@dataclass(frozen=True)
class Row:
    """Documents with what lies beside them -> what an index keeps of those that stay."""

    crawl: str
    size: int
    scheme: minhash.Scheme
    unit: minhash.Unit
    corpus: Dataset

    def __call__(self, batch: pa.Table, at: At) -> pa.Table:
        kept = pc.is_in(batch["id"], _ids(self.corpus.uri, self.corpus.digest, at.shard))
        batch = batch.filter(kept)
        at.tally["kept"] += len(batch)
        sets = Sets.of(batch["text"].combine_chunks(), self.size, minhash.shingler_for(self.scheme, self.unit)).upper()
        told = {name: batch[name] for name in KEPT if name in batch.column_names}
        return pa.table({**told, "crawl": pa.array([self.crawl] * len(batch), pa.string()), "shingles": _halves(sets)})


@functools.lru_cache(maxsize=2)
def _ids(uri: str, digest: str, shard: str) -> pa.Array:
    """The ids of one shard of a corpus. A document whose id another of its shard has is the same one twice."""
    corpus = opened(uri)
    assert corpus is not None, f"{uri} is not sealed"
    assert corpus.digest == digest, f"{uri} changed while it was read"
    return corpus.select("id").read(shard)["id"].combine_chunks()


def _halves(sets: Sets) -> pa.LargeListArray:
    return sets.lists().cast(SHINGLES)


def indexes(root: str, but: str = "") -> list[Dataset]:
    """Of each crawl the index that the latest finished run under a root made, by name; not that of the crawl `but`.

    An index that a changed recipe has left behind names documents that no corpus holds, and is passed over. Raises
    ValueError if there is no index, and for two of one crawl where no run tells which is the later.
    """
    found = [opened(store.join(root, name)) for name in store.listing(root) if name.startswith("index-")]
    sealed = {index.address: index for index in found if index is not None}
    if not sealed:
        raise ValueError(f"{root} holds no index to deduplicate against; run a recipe with an Index there first")
    chosen: dict[str, Dataset] = {}
    for address in _latest_first(root):
        if address in sealed:
            index = sealed.pop(address)
            chosen.setdefault(index.about["crawl"], index)
            sealed = {a: one for a, one in sealed.items() if one.about["crawl"] != index.about["crawl"]}
    for index in sealed.values():  # of roots without records of runs: an index copied to a place of its own
        crawl = index.about["crawl"]
        if crawl in chosen:
            raise ValueError(
                f"{root} holds two indexes of the crawl {crawl!r}, {chosen[crawl].address} and {index.address}, and no "
                "run says which is the later; remove one"
            )
        chosen[crawl] = index
    return [chosen[crawl] for crawl in sorted(chosen) if crawl != but]


def _latest_first(root: str) -> Iterator[str]:
    """Addresses of the indexes of finished runs, those of the latest run first."""
    runs = store.join(root, "runs")
    for name in sorted((n for n in store.listing(runs) if n.endswith(".json")), reverse=True):
        record = store.read_json(store.join(runs, name)) or {}
        if record.get("outcome") == "done":
            yield from (address for address in record.get("digests", {}) if address.startswith("index-"))


def refuse_own_documents(index: Dataset, documents: Dataset) -> None:
    """Raises ValueError for an index of these very documents: each would go for itself."""
    if index.about.get("inputs", {}).get("documents") == documents.digest:
        raise ValueError(
            f"{index.uri} is an index of these very documents, made as the crawl {index.about['crawl']!r}; give "
            "Deduplicate.crawl that name, or deduplicate against other roots"
        )


def refuse_other_signatures(index: Dataset, signatures: Sign) -> None:
    """Raises ValueError for an index whose signatures cannot be compared with these."""
    theirs, ours = index.about["signed"], signed(signatures)
    for name, value in ours.items():
        if theirs.get(name) != value:
            raise ValueError(
                f"{index.uri} was signed with {name} {theirs.get(name)!r} and Sign has {value!r}; sign alike, or make "
                "the index again"
            )
