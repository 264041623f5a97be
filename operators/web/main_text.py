"""Which blocks of a page are its main text: a first look by its own blocks alone, a second that asks two extractors.

The first look never builds a tree of a library and is linear in the page. The second adds, for every block, how much of
it Resiliparse and trafilatura took (`votes`); both parse the page with C libraries, so only pages that pass `guard`
may be looked at twice. What was learnt lies in `blocks.json.gz`: values of words, two forests, what they were fitted
on. Promises: the same blocks on every machine. Refuses nothing: a page without text gives no blocks.
"""

import gzip
import json
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import trafilatura
from resiliparse.extract.html2text import extract_plain_text

from tundish.operators.web.blocks import LINKED, WORDS, Blocks
from tundish.operators.web.features import SHUT, Surroundings, Values, features, surroundings
from tundish.operators.web.forest import Forest, likelihoods, taken
from tundish.operators.web.outline import outline
from tundish.operators.web.votes import hashes_of, votes

LEARNT = Path(__file__).with_name("blocks.json.gz")
HIDDEN_SHARE = 0.25  # of the words of a text, above which those that are not shown are part of it
SENTENCE = 8  # words of a block that may go with those beside it
DOUBTFUL = 0.35  # a block less likely than this goes with nobody
SLOW_ANGLES = 20_000  # "<" of a page that trafilatura may see: 100,000 flat paragraphs cost it 12 s


class Learnt(NamedTuple):
    """Values of names and of words, a forest for each look, and what they were fitted on."""

    named: Values
    said: Values
    first: Forest
    second: Forest
    about: dict[str, Any]


@lru_cache(maxsize=2)
def learnt(path: str = str(LEARNT)) -> Learnt:
    """From the file that benchmarks/fit_blocks.py writes."""
    plain = json.loads(gzip.decompress(Path(path).read_bytes()))
    tables = [Values.of(*(np.array(plain[name][part]) for part in ("hashes", "values"))) for name in ("named", "said")]
    return Learnt(*tables, Forest.of(plain["first"]), Forest.of(plain["second"]), plain["about"])


class Page(NamedTuple):
    """A page looked at: its bytes in UTF-8, its blocks, where they stand, and their features."""

    raw: bytes
    blocks: Blocks
    stand: Surroundings
    rows: np.ndarray  # (features, blocks) float32


class Choice(NamedTuple):
    """`chosen`: (blocks,) bool. `expected`: the F1 over words that is expected of them; 0 for a page without words."""

    chosen: np.ndarray
    expected: float


def page_of(raw: bytes, known: Learnt) -> Page:
    """A page in UTF-8, ready to be looked at."""
    blocks = Blocks(outline(raw))
    stand = surroundings(blocks, known.named)
    return Page(raw, blocks, stand, features(blocks, stand, known.said)[0])


def first_look(page: Page, known: Learnt) -> Choice:
    """By the page's own blocks."""
    return _choice(page, likelihoods(known.first, page.rows))


def second_look(page: Page, known: Learnt, others: list[str]) -> Choice:
    """With the texts that Resiliparse and trafilatura made of it, in this order: the mean of what both looks say, which
    is better than either."""
    rows = np.vstack([page.rows, votes(page.blocks, [hashes_of(text) for text in others])])
    return _choice(page, (likelihoods(known.first, page.rows) + likelihoods(known.second, rows)) / 2)


def _choice(page: Page, likely: np.ndarray) -> Choice:
    chosen, expected = taken(likely, page.blocks.counts[WORDS].astype(np.float64))
    return Choice(_shown(page, _with_siblings(page, likely, chosen)), min(expected, 1.0))


def _shown(page: Page, chosen: np.ndarray) -> np.ndarray:
    """Without what is not shown, if that is little: words hidden in an article are there for machines. Where they are
    more, a page hides its text until somebody asks for it (answers, tabs), and F1 falls without (by 0.3 on one of 400
    pages; it rises by 0.05 on 11)."""
    hidden = chosen & ((page.stand.above[page.blocks.element] >> np.uint32(SHUT)) & np.uint32(1)).astype(bool)
    if not hidden.any():
        return chosen
    words = page.blocks.counts[WORDS]
    return chosen & ~hidden if words[hidden].sum() < HIDDEN_SHARE * words[chosen].sum() else chosen


def _with_siblings(page: Page, likely: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """A paragraph goes with those beside it: of the same tag in the same box as one that was taken. It adds nothing to
    the F1 of large pages (-0.0006), but small ones, whose last words stand where others have a footer, keep them."""
    blocks, box = page.blocks, page.stand.boxes[0]
    tree, words = blocks.outline, blocks.counts[WORDS]
    kind = tree.parents[box].astype(np.int64) * 256 + tree.tags[box]
    prose = (words >= SENTENCE) & (blocks.counts[LINKED] < 0.5 * words)
    with_them = set(kind[chosen & prose].tolist())
    maybe = np.flatnonzero(prose & (likely > DOUBTFUL) & ~chosen)
    out = chosen.copy()
    out[[block for block, one in zip(maybe.tolist(), kind[maybe].tolist(), strict=True) if one in with_them]] = True
    return out


def other_texts(html: str, url: str | None) -> list[str]:
    """Of Resiliparse and trafilatura; the page has passed `guard`. An extractor that fails has no text."""
    return [_resiliparse(html), _trafilatura(html, url)]


def _resiliparse(html: str) -> str:
    try:
        return extract_plain_text(html, main_content=True, alt_texts=False)
    except Exception:  # a parser's failure on one page, whatever its type, is that page's
        return ""


def _trafilatura(html: str, url: str | None) -> str:
    """Nothing where it fails (MemoryError on a huge colspan, lxml errors on NULs) or would take too long."""
    if html.count("<") > SLOW_ANGLES:
        return ""
    try:
        return trafilatura.extract(html, url=url) or ""
    except Exception:
        return ""
