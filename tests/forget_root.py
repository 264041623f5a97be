"""A root for tests of forgetting: a crawl of a real server, archives and rows of the user's own, to a tiny encoder.

Every page says one sentence that no other says (`secret`), so that a test can ask whether any file still holds it.
"""

import contextlib
import gzip
import io
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from tests import toys
from tests.site_server import NOTHING, Asked, Site, answer, served
from tundish.cluster import store
from tundish.cluster.local import Local
from tundish.cluster.shards import opened
from tundish.operators.text import vocabulary
from tundish.operators.web.warc_write import pair
from tundish.pipeline.run import Outcome, run
from tundish.stages.corpus import Corpus
from tundish.stages.crawl import Crawl
from tundish.stages.deduplicate import Deduplicate
from tundish.stages.extract import Extract
from tundish.stages.finetune import Finetune
from tundish.stages.gather import Gather
from tundish.stages.ingest import Ingest
from tundish.stages.judge import Judge
from tundish.stages.mask import Mask
from tundish.stages.pretrain import Pretrain
from tundish.stages.read import Read
from tundish.stages.refine import Refine
from tundish.stages.sign import Sign
from tundish.stages.stage import Settings, Stage
from tundish.stages.tokenize import Tokenize
from tundish.stages.vocabulary import MODEL

HERON, SORA, KRANICH = "http://heron.example", "http://sora.example", "http://kranich.test"
AGENT = "tundish-test/1 (+https://heron.example/bot)"
DATE = "2026-11-21T00:00:00Z"
TWICE = f"{HERON}/page/2"  # its text stands at `/again` too
MOVED = f"{HERON}/old"  # redirects to /page/3


def secret(url: str) -> str:
    """The sentence of a page, that no other page says."""
    name = "again" if url.endswith("/again") else url.rpartition("/")[2]
    host = url.split("/")[2].split(".")[0]
    name = "2" if name == "again" else name
    return f"Nobody but the keeper of {host} knows that the password of cellar {name} is marmalade."


def text(url: str, number: int) -> str:
    return f"{toys.prose(number, 10)}\n{secret(url)}"


def html(url: str, number: int, links: str = "") -> bytes:
    lines = "".join(f"<p>{line}</p>" for line in text(url, number).split("\n"))
    return f"<html><head><title>Cellar {number}</title></head><body><main>{lines}</main>{links}</body></html>".encode()


def say(asked: Asked) -> bytes:
    """Twelve pages of heron.example, each named by the first; one moved, one there twice."""
    if asked.host != "heron.example":
        return NOTHING
    if asked.path == "/old":
        return answer(301, b"", "Location: /page/3")
    name = asked.path.rpartition("/")[2]
    if asked.path == "/again":
        return answer(200, html(f"{HERON}/again", 2))
    if asked.path.startswith("/page/") and name.isdigit() and int(name) < 12:
        links = "".join(f'<a href="/page/{n}">n</a>' for n in range(12)) if name == "0" else ""
        more = '<a href="/old">old</a><a href="/again">again</a>' if name == "0" else ""
        return answer(200, html(f"{HERON}{asked.path}", int(name), links + more))
    return NOTHING


def sources(folder: Path) -> None:
    """The user's own files: an archive of sora.example, and rows of kranich.test."""
    members = []
    for n in range(20, 28):
        url, body = f"{SORA}/page/{n}", html(f"{SORA}/page/{n}", n)
        head = f"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: {len(body)}\r\n\r\n".encode()
        asked = f"GET /page/{n} HTTP/1.1\r\nHost: sora.example\r\n\r\n".encode()
        members.append(pair(url, date=DATE, request=asked, response=head + body))
    (folder / "held.warc.gz").write_bytes(b"".join(members))
    rows = [{"url": f"{KRANICH}/page/{n}", "text": text(f"{KRANICH}/page/{n}", n)} for n in range(40, 48)]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    labels = [f"{toys.prose(n, 1)} {mood}\t{mood}\n" for n in range(40) for mood in (("glad", "sad")[n % 2],)]
    (folder / "labels.tsv").write_text("text\tlabel\n" + "".join(labels))


def crawl(**fields: Any) -> Crawl:
    given = {"seeds": (f"{HERON}/page/0",), "agent": AGENT, "as_of": "2026-11-21", "delays": {"heron.example": 0.0}}
    return Crawl(**{**given, "parts": 2, "opt_outs": False, "sitemaps": False, **fields})  # type: ignore[arg-type]


def corpus(folder: Path, **fields: Any) -> Corpus:
    """From three sources to the clean text."""
    docs = Gather(
        {
            "web": Extract(crawl(**fields)),
            "held": Extract(Ingest((str(folder / "held.warc.gz"),))),
            "rows": Read((str(folder / "rows.jsonl"),)),
        }
    )
    quality = Judge(docs)
    kept = Refine(docs, None, quality, keep={"rules": "none"})  # type: ignore[arg-type]
    twins = Deduplicate(docs, Sign(docs), kept, quality, survivor="length desc")
    return Corpus(docs, kept, twins, Mask(docs))


def tokens(folder: Path, **fields: Any) -> Tokenize:
    return Tokenize(corpus(folder, **fields), vocabulary=330, holdout=0.1)


def trained(folder: Path) -> Finetune:
    encoder = Pretrain(tokens(folder), tokens=6_000, length=64, batch=4, checkpoint_every=20)
    return Finetune(encoder, str(folder / "labels.tsv"), seeds=(1,), epochs=1)


def go(goal: Stage, root: Path, site: Site) -> Outcome:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TUNDISH_TORCH_THREADS", "1")
        return run(goal, Local(), str(root), settings=Settings({"heron.example:80": site.address}))


@contextlib.contextmanager
def web() -> Iterator[Site]:
    with served(say) as site:
        yield site


def contents(path: Path) -> Iterator[bytes]:
    """What a file says, packed or not: its bytes, the values of its columns, its records, its tokens as text."""
    body = path.read_bytes()
    yield body
    if path.suffix == ".zst":
        yield zstandard.ZstdDecompressor().stream_reader(io.BytesIO(body), read_across_frames=True).read()
    elif path.suffix == ".gz":
        yield gzip.decompress(body)
    elif path.suffix == ".parquet":
        yield repr(pq.read_table(path).to_pylist()).encode()
    elif path.suffix == ".arrow":
        table = pa.ipc.open_file(path).read_all()
        yield repr(table.to_pylist()).encode()
        model = next((one / MODEL for one in (path.parent, path.parent.parent) if (one / MODEL).exists()), None)
        if "tokens" in table.column_names and model is not None:
            pieces = vocabulary.load(model.read_bytes())
            yield "\n".join(pieces.decode(one) for one in table["tokens"].to_pylist()).encode()


def holding(root: Path, words: str) -> list[str]:
    """Files under a root that say these words somewhere."""
    files = [Path(at, name) for at, _, names in os.walk(root) for name in names]
    return sorted(str(p.relative_to(root)) for p in files if any(words.encode() in each for each in contents(p)))


def rows(root: Path, address: str, *but: str) -> list[dict[str, Any]]:
    """The rows of a dataset by id, without these columns."""
    found = opened(store.join(str(root), address))
    assert found is not None, address
    table = found.table()
    table = table.drop_columns([c for c in but if c in table.column_names])
    return sorted(table.to_pylist(), key=lambda row: (row.get("id") or b"", str(row)))
