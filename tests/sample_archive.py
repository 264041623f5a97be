"""The sample web as web archives, written without a network: what a crawl of it would leave, always the same bytes."""

import sys
import zlib
from pathlib import Path

from tundish.operators.web.warc_write import pair

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "examples"))

DATE = "2026-11-21T00:00:00Z"


def write(folder: Path, files: int = 4) -> list[Path]:
    """Every answered page of the sample web, spread over `files` archives by the hash of its URL."""
    from sample_web import site

    folder.mkdir(parents=True, exist_ok=True)
    parts: list[list[bytes]] = [[] for _ in range(files)]
    for (host, target), page in sorted(site.web().items()):
        url = site.url(host, target)
        request = f"GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode()
        head = "".join(f"{name}: {value}\r\n" for name, value in page.headers)
        response = f"HTTP/1.1 {page.status} Answer\r\n{head}\r\n".encode() + page.body
        parts[zlib.crc32(url.encode()) % files].append(pair(url, date=DATE, request=request, response=response))
    paths = [folder / f"sample-{number}.warc.gz" for number in range(files)]
    for path, members in zip(paths, parts, strict=True):
        path.write_bytes(b"".join(members))
    return paths


RECIPE = """
documents: {{Extract: {{archives: {{Ingest: {{archives: {files}}}}}}}}}
language: {{Identify: {{documents: documents}}}}
quality: {{Judge: {{documents: documents, language: language}}}}
masked: {{Mask: {{documents: documents}}}}
kept: {{Refine: {{documents: documents, language: language, quality: quality}}}}
signatures: {{Sign: {{documents: documents}}}}
twins: {{Deduplicate: {{documents: documents, signatures: signatures, among: kept, quality: quality}}}}
corpus:
  Corpus: {{documents: documents, kept: kept, twins: twins, edits: masked, language: language, quality: quality}}
tokens: {{Tokenize: {{corpus: corpus, vocabulary: 2000, holdout: 0.05, coverage: 0.98}}}}
"""


def recipe(path: Path, files: list[Path]) -> str:
    path.write_text(RECIPE.format(files=[str(f) for f in files]))
    return str(path)
