"""WAT: what Common Crawl keeps of a page without the page: its headers, its title, where its links lead.

Promises: one JSON envelope in, what it tells of a response out, None for envelopes of requests and the rest; a field of
the wrong type counts as absent. Costs 0.1 ms a record. Refuses with `ValueError` a block that is no such envelope.
Source of the names: the WAT of ia-web-commons (Internet Archive), as Common Crawl publishes it.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

MOST = 10_000  # links of one page


@dataclass(frozen=True)
class Link:
    """`url` as the page spells it, relative or not. `place`: element and attribute, `A@/href`."""

    url: str
    text: str
    rel: str
    place: str


@dataclass(frozen=True)
class Told:
    """What an envelope tells of a response. `headers`: lower-case names."""

    url: str
    date: str
    status: int
    mime: str
    headers: dict[str, str]
    title: str
    base: str
    links: tuple[Link, ...]


def told(block: bytes) -> Told | None:
    """The response an envelope describes."""
    try:
        found = json.loads(block)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"no JSON: {error}") from None
    envelope = _under(found, "Envelope")
    if not envelope:
        raise ValueError(f"no envelope of a WAT file but {block[:40]!r}")
    head = _under(envelope, "WARC-Header-Metadata")
    answer = _under(envelope, "Payload-Metadata", "HTTP-Response-Metadata")
    if not answer:
        return None
    given = _under(answer, "Headers")
    headers = {_stored(name).lower(): _text(given, name) for name in given}
    page = _under(answer, "HTML-Metadata")
    status = _text(_under(answer, "Response-Message"), "Status")
    return Told(
        url=_text(head, "WARC-Target-URI"),
        date=_text(head, "WARC-Date"),
        status=int(status) if status.isascii() and status.isdigit() and len(status) < 4 else 0,
        mime=headers.get("content-type", "").partition(";")[0].strip().lower(),
        headers=headers,
        title=_text(_under(page, "Head"), "Title"),
        base=_text(_under(page, "Head"), "Base"),
        links=tuple(_links(page)),
    )


def _links(page: Mapping[str, Any]) -> Iterator[Link]:
    listed = [one for held in (page.get("Links"), _under(page, "Head").get("Link")) for one in _list(held)]
    for one in listed[:MOST]:
        if url := _text(one, "url"):
            yield Link(url, _text(one, "text") or _text(one, "title"), _text(one, "rel"), _text(one, "path"))


def _list(value: Any) -> list[Mapping[str, Any]]:
    return [one for one in value if isinstance(one, Mapping)] if isinstance(value, list) else []


def _under(value: Any, *keys: str) -> Mapping[str, Any]:
    for key in keys:
        value = value.get(key) if isinstance(value, Mapping) else None
    return value if isinstance(value, Mapping) else {}


def _text(value: Mapping[str, Any], key: str) -> str:
    found = value.get(key)
    return _stored(str(found).strip()) if isinstance(found, str | int) else ""


def _stored(text: str) -> str:
    """Lone surrogates, which JSON can spell and no file can hold, become question marks."""
    return text.encode("utf-8", "replace").decode()
