"""An HTML page as a document: its main text, and what it says of itself.

`fast` looks at the page once, by its own blocks (main_text), and builds no tree of a library: nothing in a page can
make it slow or deep. `best` asks Resiliparse and trafilatura too and looks again; `cascade` does so for the pages whose
first look promises little. A page that would cost a parser in C too much (`guard`) is looked at once, whatever was
asked.

Promises: the same text on every machine. Costs about 4 ms a page of 200 KB in `fast`, 70 ms in `best`; what each is
worth is in benchmarks/RESULTS.md and docs/extraction.md. Refuses with `Unextractable` and a reason to count by.
"""

import json
import re
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np

from tundish.operators.web.elements import NAMES, SCRIPT, TAG
from tundish.operators.web.features import GROUPS
from tundish.operators.web.guard import verdict
from tundish.operators.web.main_text import Choice, Page, first_look, learnt, other_texts, page_of, second_look
from tundish.operators.web.markdown import markdown_of
from tundish.operators.web.metadata import JSON_BYTES, Metadata, metadata
from tundish.operators.web.render import text_of
from tundish.operators.web.tags import attributes_at, unescaped

How = Literal["fast", "cascade", "best"]
Form = Literal["text", "markdown"]

SURE = 0.5  # expected F1 of a first look that `cascade` is content with: it looks again at one page in forty
BYTES = 16_000_000  # of a page; a larger one is no text to be read
TAGS = 200_000  # a block takes 1 KB while a page is looked at
LITTLE = 250  # characters of a text that may stand for a page whose words are in its scripts
LINKS = 1000  # links of a page that are told
_ARTICLE = re.compile(rb'"articleBody"\s{0,9}:\s{0,9}"')
_BLOCK_TAG = re.compile(r"</?(?:p|div|br|li|ul|ol|tr|h[1-6])\b[^<>]{0,500}>", re.I)
_TAG = re.compile(r"</?[a-z][^<>]{0,500}>", re.I)
_A = TAG["a"]
_SHAPED = np.uint32(sum(1 << GROUPS.index(name) for name in ("pre code", "td", "th")))


class Unextractable(ValueError):
    """A page without text to be had. `reason`: empty, too_large, too_many_tags or no_text."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


class Link(NamedTuple):
    """A link in the main text: its address as written, and its words."""

    href: str
    text: str


@dataclass(frozen=True)
class Extracted:
    """`text`: paragraphs, one a line, or Markdown. `how`: `first` or `second` look, `guarded` (a first look, because a
    parser would have choked), `json-ld` (the body its metadata state). `expected`: F1 that the look expects of itself.
    `about`: all that it says of itself."""

    text: str
    title: str | None
    date: str | None
    how: str
    expected: float
    about: Metadata
    links: tuple[Link, ...] = ()


def extract(
    html: str,
    url: str | None = None,
    *,
    how: How = "fast",
    form: Form = "text",
    links: bool = False,
    raw: bytes | None = None,
) -> Extracted:
    """Main text of a page and what it says of itself. `links`: also those in the main text. `raw`: the page in UTF-8,
    where it is at hand. Raises `Unextractable`.

    >>> extract("<title>Tide</title><article><p>The sea rises twice a day.</p></article>").text
    'The sea rises twice a day.'
    """
    if not html or html.isspace():
        raise Unextractable("empty", "the page holds nothing but white space")
    raw = html.encode("utf-8", "replace") if raw is None else raw
    if len(raw) > BYTES:
        raise Unextractable("too_large", f"the page has {len(raw)} bytes; at most {BYTES} are read")
    if (angles := raw.count(b"<")) > TAGS:
        raise Unextractable("too_many_tags", f"the page has {angles} tags or so; at most {TAGS} are read")
    page = page_of(raw, learnt())
    choice, told = _chosen(html, url, page, how)
    about = metadata(page.blocks.outline, raw)
    text = _written(page, choice.chosen, form)
    stated = _article_body(page) if len(text) < LITTLE else ""
    if len(stated) > 2 * len(text):
        text, told = stated, "json-ld"
    if not text:
        raise Unextractable("no_text", "the page has markup and no text")
    found = _links(page, choice.chosen) if links and told != "json-ld" else ()
    return Extracted(text, about.title, about.date, told, choice.expected, about, found)


def _written(page: Page, chosen: np.ndarray, form: Form) -> str:
    if form == "markdown":
        return markdown_of(page.blocks, chosen, page.raw)
    shaped = (page.stand.above[page.blocks.element] & _SHAPED) != 0
    return text_of(page.blocks, chosen, page.raw, shaped)


def _chosen(html: str, url: str | None, page: Page, how: How) -> tuple[Choice, str]:
    known = learnt()
    first = first_look(page, known)
    if how == "fast" or (how == "cascade" and first.expected >= SURE):
        return first, "first"
    if verdict(html) is not None:
        return first, "guarded"
    return second_look(page, known, other_texts(html, url)), "second"


def _article_body(page: Page) -> str:
    """The text that JSON-LD states as the body of an article (schema.org articleBody); pages of scripts have it there
    alone."""
    for tag, _, start, end in page.blocks.outline.notes.T.tolist():
        if tag != SCRIPT or end - start > JSON_BYTES:
            continue
        if found := _ARTICLE.search(page.raw, start, end):
            try:
                body, _ = json.JSONDecoder(strict=False).raw_decode(
                    page.raw[found.end() - 1 : end].decode("utf-8", "replace")
                )
            except ValueError:
                continue
            body = _TAG.sub("", _BLOCK_TAG.sub("\n", body))
            body = unescaped(body).encode("utf-8", "replace").decode()
            return "\n".join(line for part in body.split("\n") if (line := " ".join(part.split())))
    return ""


def _links(page: Page, chosen: np.ndarray) -> tuple[Link, ...]:
    """Links of the blocks that were taken, in page order. Words of a link in a link are those of the inner one alone,
    or 500 of them in each other would be 500 copies of a page."""
    tree, blocks = page.blocks.outline, page.blocks
    kept = np.flatnonzero(chosen[blocks.of_piece]) if len(blocks) else np.zeros(0, np.int64)
    owner = np.full(tree.pieces.shape[1], -1, np.int32)
    for element in np.flatnonzero(tree.tags == _A).tolist():  # the inner ones come later
        owner[tree.spans[0, element] : tree.spans[1, element]] = element
    linked: dict[int, list[int]] = {}
    for piece, element in zip(kept.tolist(), owner[kept].tolist(), strict=True):
        if element >= 0:
            linked.setdefault(element, []).append(piece)
    found: list[Link] = []
    for element, pieces in sorted(linked.items()):
        start = int(tree.spans[3, element])
        attributes, _ = attributes_at(page.raw[start : start + 8192].decode("utf-8", "replace"), len(NAMES[_A]) + 1)
        if href := attributes.get("href", "").strip():
            words = b" ".join(page.raw[a:b] for a, b in tree.pieces[:2, pieces].T.tolist()).decode("utf-8", "replace")
            found.append(Link(href, " ".join(unescaped(words).split())))
        if len(found) == LINKS:
            break
    return tuple(found)
