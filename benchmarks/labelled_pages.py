"""Pages with their main text, as folders laid out like web-wcxb hold them, and how an extraction is scored.

`gold.jsonl.zst`: a row a page with `file`, `url`, `main_content`, `page_type` (or `kind`); `html.tar.zst`: the pages.
The score is the one of the folder's README: F1 over the bag of words, lower case, each CJK character a word.
"""

import io
import json
import re
import tarfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any

import tldextract
import zstandard

from tundish.operators.web.encoding import decode

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
HELD_OUT = 4  # one domain in so many is kept from fitting
_CJK = r"\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
_WORD = re.compile(rf"[{_CJK}]|[^\W_{_CJK}]+")
_suffixes = tldextract.TLDExtract(cache_dir=None, suffix_list_urls=())


@dataclass(frozen=True)
class Labelled:
    """One page: `html` decoded, `gold` the main text, `more` the row as it is."""

    html: str
    gold: str
    url: str | None
    kind: str
    split: str
    more: dict[str, Any]

    @property
    def domain(self) -> str:
        return domain(self.url) if self.url else f"page {self.more['id']}"


def domain(url: str) -> str:
    """Registrable domain; a host without one is its own."""
    found = _suffixes(url)
    return found.top_domain_under_public_suffix or found.fqdn or found.domain


def is_fitted(page: Labelled) -> bool:
    """Whether benchmarks/fit_blocks.py may learn from a page: not from upstream's test split, nor from held domains."""
    key = blake2b(page.domain.encode(), digest_size=4).digest()
    return page.split != "test" and int.from_bytes(key, "big") % HELD_OUT != 0


def opened(path: Path) -> bytes:
    return zstandard.ZstdDecompressor(max_window_size=2**27).stream_reader(path.open("rb")).read()


def gold(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in opened(folder / "gold.jsonl.zst").decode().split("\n") if line]


def labelled(folder: Path) -> Iterator[Labelled]:
    """Pages of a folder that have a main text, in the order of its archive."""
    rows = {row["file"].rpartition("/")[2]: row for row in gold(folder)}
    with tarfile.open(fileobj=io.BytesIO(opened(folder / "html.tar.zst"))) as archive:
        for member in archive:
            row = rows.get(member.name.rpartition("/")[2], {})
            if not row.get("main_content"):
                continue
            body = archive.extractfile(member).read()
            html = decode(body, row.get("declared_charset")).text
            kind = row.get("page_type") or row.get("kind") or "page"
            yield Labelled(html, row["main_content"], row.get("url"), kind, row.get("upstream_split") or "", row)


def words(text: str) -> list[str]:
    return _WORD.findall(text.lower())


def f1(ours: str, theirs: str) -> float:
    """Over the bags of words."""
    a, b = Counter(words(ours)), Counter(words(theirs))
    common = sum((a & b).values())
    return 2 * common / (sum(a.values()) + sum(b.values())) if common else float(not a and not b)


def snippet_pages(folder: Path) -> Iterator[tuple[Labelled, list[str], list[str]]]:
    """Pages of a folder laid out like web-trafilatura, with the snippets a text must hold and those it must not."""
    rows = {row["file"].rpartition("/")[2]: row for row in gold(folder)}
    with tarfile.open(fileobj=io.BytesIO(opened(folder / "html.tar.zst"))) as archive:
        for member in archive:
            row = rows.get(member.name.rpartition("/")[2])
            if row:
                html = decode(archive.extractfile(member).read(), row.get("declared_charset")).text
                yield Labelled(html, "", row.get("url"), "page", "", row), row["with"], row["without"]
