"""A small root for tests that look at one: a toy web of two hosts through the real stages, from documents to a score.

The crawl and the extraction are toys (no sockets, no HTML), with the layout of the real ones: an archive, a log, and
documents with what was dropped beside them. Everything after them is the project's own.
"""

import functools
import hashlib
import random
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pyarrow as pa
import pytest

from tundish.cluster import store
from tundish.cluster.local import Local
from tundish.cluster.shards import Dataset
from tundish.cluster.verbs import At, Cluster
from tundish.operators.text.digest import identity, payload_digest
from tundish.pipeline.run import run
from tundish.stages.corpus import Corpus
from tundish.stages.deduplicate import Deduplicate
from tundish.stages.documents import DOCUMENT, DROPPED, table_of
from tundish.stages.finetune import Finetune
from tundish.stages.gather import Gather
from tundish.stages.judge import Judge
from tundish.stages.mask import Mask
from tundish.stages.pretrain import Pretrain
from tundish.stages.refine import Refine
from tundish.stages.sign import Sign
from tundish.stages.stage import Columns, Place, Stage
from tundish.stages.tokenize import Tokenize

HERON, KRANICH = "http://heron.example", "http://kranich.test"
MAIL = "keeper@heron.example"
NOUNS = (
    "tide",
    "harbour",
    "boat",
    "rope",
    "mast",
    "bird",
    "worm",
    "clock",
    "smell",
    "noise",
    "water",
    "gull",
    "anchor",
)
VERBS = ("comes", "leaves", "waits", "carries", "finds", "hears", "keeps", "lifts", "pulls", "turns", "walks")
LOG = pa.schema(
    [
        ("url", pa.large_string()),
        ("parent", pa.large_string()),
        ("kind", pa.string()),
        ("depth", pa.int32()),
        ("status", pa.int32()),
        ("outcome", pa.string()),
        ("reason", pa.string()),
        ("target", pa.large_string()),
        ("seconds", pa.float64()),
        ("archive", pa.string()),
        ("offset", pa.int64()),
        ("time", pa.timestamp("us", "UTC")),
    ]
)


def prose(seed: int, sentences: int = 14) -> str:
    """Running text that no rule refuses, another one for every seed."""
    draw = random.Random(seed)
    said = (
        f"The {draw.choice(NOUNS)} that {draw.choice(VERBS)} with the {draw.choice(NOUNS)} and "
        f"{draw.choice(VERBS)} to the {draw.choice(NOUNS)} of {draw.choice(NOUNS)} number {draw.randrange(9999)}."
        for _ in range(sentences)
    )
    return "\n".join(said)


def pages() -> dict[str, str]:
    """URL -> text: twenty clean ones, exact and near copies, markup, personal data, short and repeated ones."""
    found = {f"{HERON if n % 2 else KRANICH}/page/{n}": prose(n) for n in range(20)}
    first = found[f"{KRANICH}/page/0"]
    found[f"{HERON}/copy"] = first
    found[f"{HERON}/copy/again"] = first.replace("\n", "\n\n")
    found[f"{KRANICH}/near"] = prose(1) + "\nAnd one more line of its own at the end of it."
    found[f"{HERON}/markup"] = "<script>alert('no')</script> & so on"
    found[f"{HERON}/write"] = prose(77) + f"\nWrite to {MAIL} for more of that."
    found[f"{KRANICH}/short"] = "Too short to be of use."
    found[f"{KRANICH}/again"] = "The same line over and over to the end of it.\n" * 30
    return found


REFUSED = {f"{HERON}/logo.png": ("not_text", "image/png"), f"{KRANICH}/empty": ("empty", None)}


@dataclass(frozen=True)
class Crawl(Stage):
    """An archive of nothing but its name, and the log of a crawl that might have filled it."""

    seeds: tuple[str, ...]

    def run(self, cluster: Cluster, inputs: Mapping[str, Dataset], out: Place) -> Dataset:
        log = out.target("log")
        writer = log.writer("part-00000")
        writer.write(table_of(LOG, self._log()))
        log.seal([writer.finish({}, {})])
        target = out.target()
        store.write(store.join(out.uri, "part-00-0000.warc.gz"), b"toy archive")
        stored = [row for row in self._log() if row["outcome"] == "stored"]
        shard = target.adopt("part-00-0000", "part-00-0000.warc.gz", len(stored), {}, {"fetched": len(stored)})
        return target.seal([shard], **out.about, kind="archives")

    def _log(self) -> list[dict[str, Any]]:
        seed = self.seeds[0]
        rows = [{"url": f"{HERON}/moved", "status": 301, "outcome": "redirect", "target": f"{HERON}/page/1"}]
        rows += [{"url": f"{HERON}/gone", "status": 404, "outcome": "error", "reason": "status_404"}]
        rows += [{"url": f"{HERON}/private", "outcome": "forbidden", "reason": "robots"}]
        for offset, url in enumerate([*pages(), *REFUSED]):
            rows.append({"url": url, "status": 200, "outcome": "stored", "offset": 1000 * offset})
            rows[-1]["archive"] = "part-00-0000.warc.gz"
        moved = {f"{HERON}/page/1": f"{HERON}/moved"}
        return [{"parent": moved.get(row["url"], seed), "depth": 1, "seconds": 0.01} | row for row in rows]


@dataclass(frozen=True)
class Extract(Stage):
    """The toy pages as documents in three shards, and what was refused."""

    archives: Stage

    def run(self, cluster: Cluster, inputs: Mapping[str, Dataset], out: Place) -> Dataset:
        everything = list(pages().items())
        refused = [
            {"url": url, "origin": "crawl", "stage": "extract", "reason": reason, "detail": detail}
            for url, (reason, detail) in REFUSED.items()
        ]
        shards: dict[str, list[Any]] = {"documents": [], "dropped": []}
        for number in range(3):
            name, mine = f"part-{number:05d}", everything[number::3]
            gone = refused if number == 0 else []
            tally = {"captures": len(mine) + len(gone), "bytes_in": sum(len(text) for _, text in mine) * 2}
            tally["bytes_out"] = sum(len(text.encode()) for _, text in mine)
            tally |= {f"dropped:{row['reason']}": 1 for row in gone}
            for kind, table in (
                ("documents", table_of(DOCUMENT, [document(*page) for page in mine])),
                ("dropped", table_of(DROPPED, gone)),
            ):
                target = out.target() if kind == "documents" else out.target("dropped")
                writer = target.writer(name)
                writer.write(table)
                shards[kind].append(writer.finish({}, tally))
        out.target("dropped").seal(shards["dropped"], **out.about)
        return out.target().seal(shards["documents"], **out.about)


def document(url: str, text: str) -> dict[str, Any]:
    digest = payload_digest(text.encode())
    offset = 1000 * [*pages()].index(url)
    return {
        "id": identity([url], [digest])[0].as_py(),
        "content_digest": digest,
        "url": url,
        "host": url.split("/")[2],
        "text": text,
        "title": url.rsplit("/", 1)[-1],
        "date": "2026-11-21T00:00:00Z",
        "origin": "crawl",
        "source": f"part-00-0000.warc.gz:{offset}",
        "mime": "text/html",
        "status": 200,
        "encoding": "utf-8",
        "how": "toy",
    }


@dataclass(frozen=True)
class Identify(Columns):
    """A toy of the language model: sure that all is English, less so of short texts."""

    needs: ClassVar[tuple[str, ...]] = ("text",)
    documents: Stage

    def columns(self, batch: pa.Table, at: At) -> pa.Table:
        sure = [min(0.99, len(text) / 500) for text in batch["text"].to_pylist()]
        return pa.table({"language": pa.array(["en"] * len(batch)), "confidence": pa.array(sure, pa.float32())})


def recipe(short: float = 50.0) -> Tokenize:
    """From the toy crawl to tokens. `short`: least words of a document."""
    docs = Gather({"web": Extract(Crawl((f"{HERON}/",)))})
    language = Identify(docs)
    quality = Judge(docs, language)
    kept = Refine(docs, language, quality, rules={"gopher_short_doc": short})
    twins = Deduplicate(docs, Sign(docs), kept, quality)
    corpus = Corpus(docs, kept, twins, Mask(docs), language, quality)
    return Tokenize(corpus, vocabulary=320, holdout=0.15)


def trained(labels: str) -> Finetune:
    """The recipe on to a tiny encoder and its score."""
    encoder = Pretrain(recipe(), tokens=6_000, length=128, batch=8, checkpoint_every=1000)
    return Finetune(encoder, labels, seeds=(1,), epochs=1, lr=1e-3)


def small_root(folder: Path) -> str:
    """A root with one finished run up to the tokens."""
    root = str(folder / "root")
    run(recipe(), Local(), root)
    return root


@functools.cache
def trained_root(folder: Path) -> str:
    """A root with a run up to the fine-tuned encoder; made once for a folder, so leave it as it is."""
    labels = folder / "labels.tsv"
    rows = [(f"{prose(n, 1)}".strip(), "glad" if n % 2 else "sad") for n in range(40)]
    labels.write_text("text\tlabel\n" + "".join(f"{text} {label}\t{label}\n" for text, label in rows))
    root = str(folder / "trained")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TUNDISH_TORCH_THREADS", "1")  # so small a model only waits for its threads
        run(trained(str(labels)), Local(), root)
    return root


def digests(root: str) -> dict[str, str]:
    """What every file under a root holds."""
    files = (p for p in sorted(Path(root).rglob("*")) if p.is_file())
    return {str(p.relative_to(root)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}
