"""Extract: captures become documents, written once; what cannot become one is dropped with its reason and counted.

Text is decoded by the ladder of operators/web/encoding, extracted by operators/web/html and repaired last. Beside the
documents lie `dropped/`, a row for each capture that is no document, and `pages/`, row by row with the documents: what
each page says of itself (author, day of publication, language, canonical address, site, licence), the F1 that the
extractor expects, and on request the links in the text.

Promises: a page that hangs, crashes, eats the memory of its process or raises what nobody foresaw costs itself alone
(`extract_timeout`, `extract_crash`, `extract_memory`, `extract_error`); verdicts come from counts where they can
(`guard`), so they are the same everywhere, and from the clock where nothing else helps. Costs a page of 200 KB 5 ms of
CPU in `fast`, 13 in `cascade`, 70 in `best`. Refuses to go on where it is no page's fault: when the first 20 pages of a
process all raise, or more than half of its first 200 and more.
"""

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, Literal

import pyarrow as pa

from tundish.cluster.killable import Killable, Limits, Lost
from tundish.cluster.map import map_
from tundish.cluster.shards import Dataset
from tundish.cluster.verbs import At, Cluster, Job
from tundish.operators.text import warm
from tundish.operators.text.digest import identity
from tundish.operators.text.repair import repair
from tundish.stages.archives import Archives
from tundish.stages.documents import DOCUMENT, DROPPED, ID, table_of
from tundish.stages.extract_page import ERROR, Dropped, Extraction
from tundish.stages.forgotten import NONE, REASON, Forgotten, forgotten, root_of
from tundish.stages.stage import Place, Stage

PAGE = pa.schema(
    [
        ("id", ID),
        ("author", pa.large_string()),
        ("published", pa.string()),  # YYYY-MM-DD
        ("said_language", pa.string()),  # a BCP 47 tag, as the page says
        ("canonical", pa.large_string()),
        ("site", pa.large_string()),
        ("licence", pa.large_string()),  # a Creative Commons address in one spelling, else what the page says
        ("expected", pa.float64()),  # F1 over words that the extractor expects of itself
        ("links", pa.list_(pa.struct([("url", pa.large_string()), ("text", pa.large_string())]))),
    ]
)
REPAIRED = ("title", "author", "site")  # beside the text
FIRST, MANY = 20, 200  # pages that a process has read before it is judged: by all of them, by half of them
_CHILDREN = threading.local()  # a child belongs to one thread and serves shard after shard


@dataclass(frozen=True)
class Extract(Stage):
    """`archives`: what Crawl or Ingest gives.

    `how`: `fast` looks at a page once, `best` twice, the second time with the texts of trafilatura and Resiliparse at
    hand; `cascade` looks twice where the first look promises little. `format`: paragraphs, one a line, or light
    Markdown. `links`: also those in the text, to `pages/`. `seconds`, `memory`: CPU and bytes that one page may take.
    """

    version: ClassVar[int] = 4
    makes: ClassVar[tuple[str, ...]] = tuple(DOCUMENT.names)
    wants: ClassVar[Mapping[str, tuple[str, ...]]] = {"archives": ("payload",)}

    archives: Stage
    how: Literal["fast", "cascade", "best"] = "fast"
    format: Literal["text", "markdown"] = "text"
    links: bool = False
    seconds: float = 10.0
    memory: int = 2 << 30

    def check(self) -> None:
        if not 0.1 <= self.seconds <= 3600:
            raise ValueError(f"Extract.seconds is {self.seconds:g}; give between 0.1 and 3600 seconds of CPU a page")
        if self.memory < 64 << 20:
            raise ValueError(f"Extract.memory is {self.memory} bytes; give at least {64 << 20} (64 MB)")

    @property
    def extraction(self) -> Extraction:
        return Extraction(self.how, self.format, self.links)

    def prepare(self) -> None:
        warm.repairing()
        self.extraction.warm()

    def run(self, cluster: Cluster, inputs: Mapping[str, Dataset], out: Place) -> Dataset:
        source = Archives(inputs["archives"], getattr(self.archives, "sample", None))
        inside = ["dropped", "pages"]
        places = (out.target(), *(out.target(name) for name in inside))
        taken = partial(self.documents, gone=forgotten(root_of(out.uri)))
        job = Job(taken, places, about={**out.about, "inside": inside})
        [(documents, *_)] = map_(cluster, "Extract", [job], source)
        return documents

    def documents(self, batch: pa.Table, at: At, *, gone: Forgotten = NONE) -> tuple[pa.Table, pa.Table, pa.Table]:
        """Captures -> (documents, dropped, pages). `gone`: what the root was told to forget."""
        kept, dropped = [], []
        origin = type(self.archives).__name__.lower()
        captures = batch.to_pylist()
        for capture, answer in zip(captures, self._child().map(captures), strict=True):
            at.tally["captures"] += 1
            at.tally["bytes_in"] += len(capture["payload"] or b"")
            if isinstance(answer, Lost):
                answer = Dropped(f"extract_{answer.reason}", answer.detail)
            _CHILDREN.health.heard(capture["url"], answer)
            (dropped if isinstance(answer, Dropped) else kept).append((capture, answer))
        documents, empty = _finished([answer | {"origin": origin} for _, answer in kept])
        dropped += [(kept[row][0], Dropped("no_text", "nothing was left by repair")) for row in empty]
        for _, why in dropped:
            at.tally[f"dropped:{why.reason}"] += 1
        if gone.ids:
            left = [document for document in documents if document["id"] not in gone.ids]
            at.tally[f"dropped:{REASON}"] += len(documents) - len(left)
            documents = left
        at.tally["bytes_out"] += sum(len(document["text"].encode()) for document in documents)
        rows = [_row(capture, why, origin) for capture, why in dropped]
        return table_of(DOCUMENT, documents), table_of(DROPPED, rows), table_of(PAGE, documents)

    def _child(self) -> Killable:
        """The process that pages are handed to; one a thread, for as long as its settings hold."""
        key = (self.extraction, self.seconds, self.memory)
        if getattr(_CHILDREN, "key", None) != key:
            if hasattr(_CHILDREN, "child"):
                _CHILDREN.child.close()
            limits = Limits(self.seconds, self.memory)
            preload = ["tundish.stages.extract_page"]
            _CHILDREN.child = Killable(self.extraction, limits, warm=self.extraction.warm, preload=preload, size=_size)
            _CHILDREN.key, _CHILDREN.health = key, Health()
        return _CHILDREN.child


class Health:
    """Whether a process reads pages at all. A page that raises is that page's, but not when they all do: that is a
    fault of ours, or of the installation, and a corpus without them would look whole."""

    def __init__(self) -> None:
        self.read = self.raised = 0

    def heard(self, url: str | None, answer: Any) -> None:
        """An answer; captures that were refused are not counted. Raises RuntimeError."""
        if not isinstance(answer, Dropped):
            self.read += 1
        elif answer.reason == ERROR:
            self.raised += 1
            seen = self.read + self.raised
            if (seen >= FIRST and not self.read) or (seen >= MANY and self.raised > seen / 2):
                raise RuntimeError(
                    f"Extract: {self.raised} of the first {seen} pages of this process could not be read, which is no "
                    f"page's fault; the last one, {url}: {answer.detail}. Look at the "
                    "installation, or report it with the page"
                )


def _finished(documents: list[dict[str, Any]]) -> tuple[list[dict[str, Any]], list[int]]:
    """Documents with their texts repaired and their ids, and the rows of those of whose text nothing is left."""
    for name in ("text", *REPAIRED):
        column, done = repair(pa.array([document[name] for document in documents], pa.large_string()))
        for document, value, steps in zip(documents, column.to_pylist(), done.to_pylist(), strict=True):
            document[name] = value and (value.strip() or None)
            if name == "text":
                document["repairs"] = steps
    if documents:
        ids = identity(*([document[name] for document in documents] for name in ("url", "content_digest")))
        for document, known in zip(documents, ids.to_pylist(), strict=True):
            document["id"] = known
    empty = [row for row, document in enumerate(documents) if not document["text"]]
    return [document for document in documents if document["text"]], empty


def _size(capture: Mapping[str, Any]) -> int:
    return len(capture["payload"] or b"")


def _row(capture: Mapping[str, Any], why: Dropped, origin: str) -> dict[str, Any]:
    told = {"url": capture["url"], "source": capture["source"], "origin": origin, "stage": "extract"}
    return told | {"reason": why.reason, "detail": why.detail or None}
