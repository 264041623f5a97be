"""What an answer means: stored, redirect, sitemap or error, and which addresses it names.

Pure: an answer in, a verdict out; no page can raise. Costs about 1 ms a page of 100 KB, most of it the scan for links
(linear, no tree is built). Refuses nothing.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from tundish.cluster.wire import Response
from tundish.operators.web import encoding, urls
from tundish.operators.web.links import links
from tundish.operators.web.message import mime_of, undone
from tundish.operators.web.sitemap import entries, same_domain
from tundish.stages.crawl_frontier import Nearer, Waiting
from tundish.stages.crawl_manners import directives
from tundish.stages.crawl_scope import HOPS, Found, host_of

HTML = ("text/html", "application/xhtml+xml")
MOVED = frozenset({301, 302, 303, 307, 308})
HOSTS = 64  # other hosts that one page brings in
SITEMAP_BYTES = 10 << 20  # sent, and decoded; the protocol allows 50 MB


@dataclass(frozen=True)
class Visit:
    """`outcome`: stored, redirect, sitemap or error."""

    outcome: str
    reason: str = ""
    target: str | None = None
    found: tuple[Found, ...] = ()
    opted: tuple[str, ...] = ()  # what robots.txt and tdmrep.json say of the use of this address


def read(answer: Response, row: Waiting, token: str) -> Visit:
    """The verdict on one answer. `token`: our name in robots rules."""
    if answer.status in MOVED:
        return _moved(answer, row)
    if row.kind == "sitemap":
        return _sitemap(answer, row)
    if answer.status != 200:
        return Visit("error", f"status_{answer.status}")
    try:
        found, reason = _links(answer, row, token)
    except Exception as error:  # whatever a page does to the scanner, it costs itself its links and nothing else
        found, reason = (), f"unparsed: {type(error).__name__}"
    return Visit("stored", reason, None, found)


def _moved(answer: Response, row: Waiting) -> Visit:
    location = answer.header("location")
    if location is None:
        return Visit("error", f"status_{answer.status}")
    try:
        # servers send the bytes of an address in UTF-8, the header parser hands them over as Latin-1
        target = urls.canonical(location.encode("latin-1", "replace").decode("utf-8", "replace"), row.url)
    except ValueError:
        return Visit("error", "bad_location")
    return Visit("redirect", "too_many_hops" if row.hops >= HOPS else "", target, onward(target, row))


def onward(target: str, row: Waiting) -> tuple[Found, ...]:
    """Where a redirect leads, unless it is one too many."""
    return (Found(target, row.depth, row.url, row.hops + 1, row.kind),) if row.hops < HOPS else ()


def named_again(one: Nearer, kept: Callable[[Nearer], Response], token: str) -> tuple[Found, ...]:
    """What an answered address names, from where it lies now. `kept`: the answer as it was archived; what is not there
    any more names nothing."""
    if one.target is not None:
        return onward(one.target, one.row)
    try:
        return read(kept(one), one.row, token).found
    except (ValueError, OSError, KeyError, IndexError):
        return ()


def _sitemap(answer: Response, row: Waiting) -> Visit:
    if answer.status != 200:
        return Visit("sitemap", f"status_{answer.status}")
    try:
        body, cut = undone(answer.body, lowered(answer), SITEMAP_BYTES)
        pages, more = (same_domain(named, row.url) for named in entries(body))
    except ValueError:
        return Visit("sitemap", "unreadable")
    found = [Found(entry.url, 1, row.url) for entry in pages]
    found += [Found(entry.url, row.depth + 1, row.url, 0, "sitemap") for entry in more]
    return Visit("sitemap", "truncated" if cut or answer.truncated else "", None, tuple(found))


def _links(answer: Response, row: Waiting, token: str) -> tuple[tuple[Found, ...], str]:
    """Links of a page, and why there are none to be followed."""
    headers = lowered(answer)
    if headers.get("content-type", "").partition(";")[0].strip().lower() not in HTML:
        return (), ""
    told = directives((value for name, value in answer.headers if name.lower() == "x-robots-tag"), token)
    if "nofollow" in told:
        return (), "nofollow"
    body, _ = undone(answer.body, headers)
    named = links(_page(body, headers), row.url, token=token)
    if named.nofollow:
        return (), "nofollow"
    return tuple(Found(url, row.depth + 1, row.url) for url in near(named.urls, row.url)), ""


def near(found: Iterable[str], url: str) -> Iterable[str]:
    """Links of a page, but for those to more than `HOSTS` other hosts: a farm of links opens no thousand of them."""
    own, hosts = "/".join(url.split("/", 3)[:3]) + "/", {host_of(url)}
    for one in found:
        if not one.startswith(own):
            host = host_of(one)
            if host not in hosts and len(hosts) > HOSTS:
                continue
            hosts.add(host)
        yield one


def _page(body: bytes, headers: Mapping[str, str]) -> str:
    """Text of a page. Plain ASCII is what every charset on the web makes of it, but for those that switch by ESC, and
    those of two bytes a character, which have NUL."""
    if body.isascii() and b"\x1b" not in body and b"\0" not in body:
        return body.decode("ascii")
    return encoding.decode(body, encoding.charset_of(headers.get("content-type"))).text


def lowered(answer: Response) -> dict[str, str]:
    """Headers by lower-case name, repeats joined."""
    found: dict[str, str] = {}
    for name, value in answer.headers:
        name = name.lower()
        found[name] = f"{found[name]}, {value}" if name in found else value
    return found


def canonical(addresses: Iterable[str], base: str) -> Iterable[str]:
    """Addresses in their one spelling; those without one are passed over."""
    for address in addresses:
        try:
            yield urls.canonical(address, base)
        except ValueError:
            continue


def told(answer: Response, visit: Visit) -> dict[str, Any]:
    """What the log keeps of an answer."""
    found = {"status": answer.status, "target": visit.target, "seconds": round(answer.seconds, 4)}
    if visit.outcome == "stored":
        found["mime"] = mime_of(answer.header("content-type") or "")
        found["etag"], found["modified"] = answer.header("etag"), answer.header("last-modified")
    return found
