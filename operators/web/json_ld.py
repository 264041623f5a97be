"""What the JSON-LD of a page states of the page itself: author, day, licence, language, headline.

A page holds many things: pictures with their photographers and licences, comments, products, lists of other articles.
Only a thing whose @type can be the page itself speaks for it: articles, postings, pages, reports, recipes. What it
refers to by @id is looked up in all documents of the page. Sources: JSON-LD 1.1 (W3C, 2020), schema.org 29.

Promises: linear in the documents, whatever they nest; an author is a name, never an address. Costs about 0.1 ms for a
script of 4 KB. Refuses nothing: what cannot be read says nothing.
"""

import json
import re
from collections.abc import Iterable, Iterator
from typing import Any

import msgspec

NESTED = 12  # levels that are read
LISTED = 200  # things of a list
NAMES = 10  # authors of one page
THINGS = 10_000  # of a page that can be referred to
_OPENED = ("@graph", "mainEntity", "mainEntityOfPage")  # where things that may be the page lie
_TYPES = frozenset({"report", "recipe", "howto", "creativework"})
_ENDINGS = ("article", "posting", "page")  # NewsArticle, BlogPosting, QAPage, ...
_ADDRESS = re.compile(r"(?:[a-z][a-z0-9+.-]*:)?//|www\.|mailto:|_:|[/#]|[^\s/]+\.[a-z]{2,}/\S*$|\S+@\S+$", re.I)


def parsed(raw: bytes) -> Any:
    """A document, None where it is none. msgspec is five times as fast as json, which bears line feeds in strings."""
    try:
        return msgspec.json.decode(raw)
    except (ValueError, RecursionError):
        pass
    try:
        return json.loads(raw.decode("utf-8", "replace"), strict=False)
    except (ValueError, RecursionError):
        return None


def is_address(text: str) -> bool:
    """Whether words that should be a name are an address.

    >>> is_address("https://x.example/ann"), is_address("/author/ann"), is_address("Ann Reed"), is_address("St. Ann")
    (True, True, False, False)
    """
    return _ADDRESS.match(text.strip()) is not None


def stated(documents: list[Any]) -> dict[str, str]:
    """`datePublished`, `license`, `author`, `inLanguage` and `headline` of the page, as its documents state them; of
    several statements the first."""
    found: dict[str, str] = {}
    names = _Names(documents)
    for thing in (thing for one in documents for thing in _things(one, NESTED) if _is_page(thing)):
        for key in ("datePublished", "inLanguage", "headline"):
            if isinstance(value := thing.get(key), str) and value.strip():
                found.setdefault(key, value.strip())
        if "author" not in found and (name := names.of(thing.get("author")) or names.of(thing.get("creator"))):
            found["author"] = name
        if "license" not in found and (terms := _terms(thing.get("license"))):
            found["license"] = terms
    return found


def _is_page(thing: dict[str, Any]) -> bool:
    """
    >>> [_is_page({"@type": one}) for one in ("http://schema.org/NewsArticle", ["Thing", "WebPage"], "ImageObject")]
    [True, True, False]
    """
    kinds = thing.get("@type")
    for kind in kinds[:NAMES] if isinstance(kinds, list) else [kinds]:
        if isinstance(kind, str):
            last = re.split(r"[/#:]", kind.strip())[-1].lower()
            if last in _TYPES or last.endswith(_ENDINGS):
                return True
    return False


def _things(value: Any, depth: int) -> Iterator[dict[str, Any]]:
    """Things that may be the page, outer ones first."""
    if depth and isinstance(value, list):
        for one in value[:LISTED]:
            yield from _things(one, depth - 1)
    elif depth and isinstance(value, dict):
        yield value
        for key in _OPENED:
            if key in value:
                yield from _things(value[key], depth - 1)


class _Names:
    """Names of people and organisations; those referred to by @id are looked up, once somebody is."""

    def __init__(self, documents: list[Any]) -> None:
        self._documents = documents
        self._known: dict[str, dict[str, Any]] | None = None

    def of(self, value: Any) -> str | None:
        """The name of who is named, of a list all of them."""
        several = value if isinstance(value, list) else [value]
        names = (name for one in several[:NAMES] if (name := self._one(one)))
        return ", ".join(dict.fromkeys(names)) or None

    def _one(self, value: Any) -> str | None:
        if isinstance(value, dict):
            own = _words(value.get("name"))
            if not own and isinstance(known := value.get("@id"), str):
                own = _words(self._referred(known).get("name"))
            return own
        if isinstance(value, str) and is_address(value):
            return _words(self._referred(value.strip()).get("name"))
        return _words(value)

    def _referred(self, known: str) -> dict[str, Any]:
        if self._known is None:
            self._known = {}
            for thing in _everything(self._documents):
                if isinstance(one := thing.get("@id"), str) and "name" in thing:
                    self._known.setdefault(one, thing)
        return self._known.get(known, {})


def _words(value: Any) -> str | None:
    """A text that is no address; of several, or of one in a language, the first."""
    for _ in range(3):
        if isinstance(value, list):
            value = value[0] if value else None
        elif isinstance(value, dict):
            value = value.get("@value")
    text = value.strip() if isinstance(value, str) else ""
    return text if text and not is_address(text) else None


def _terms(value: Any) -> str | None:
    """A licence: words or an address, or the address or name of a thing."""
    if isinstance(value, list):
        value = value[0] if len(value) == 1 else None
    if isinstance(value, dict):
        value = next((value[key] for key in ("url", "@id", "name") if isinstance(value.get(key), str)), None)
    return (value.strip() or None) if isinstance(value, str) else None


def _everything(documents: Iterable[Any]) -> Iterator[dict[str, Any]]:
    """Every object, level by level, up to THINGS and NESTED."""
    level, given = list(documents), 0
    for _ in range(2 * NESTED):
        inner: list[Any] = []
        for one in level:
            if isinstance(one, dict):
                yield one
                inner += [value for value in one.values() if isinstance(value, dict | list)]
            elif isinstance(one, list):
                inner += [value for value in one if isinstance(value, dict | list)]
            given += 1
            if given == THINGS:
                return
        level = inner
