"""SURT: addresses with the host turned round, so that a prefix names a domain, a host or a folder.

    http://www.heron.example/docs/a  ->  example,heron,www)/docs/a

Promises: the scheme does not matter; addresses sort by domain. Source: Heritrix's sort-friendly URI reordering
transform. Costs 1 us an address. Refuses with `ValueError` a prefix that names no host.
"""

import re

from tundish.operators.web.urls import canonical

_NUMERIC = re.compile(r"[\d.]+|\[[0-9a-f:.]+\]")


def surt(url: str) -> str:
    """A canonical URL, turned round; addresses of numbers keep their order.

    >>> surt("https://www.heron.example:8443/a?b=1"), surt("http://10.0.0.1/")
    ('example,heron,www:8443)/a?b=1', '10.0.0.1)/')
    """
    _, _, place, way = url.split("/", 3)
    host, port = place, ""
    if not place.endswith("]"):
        host, colon, port = place.rpartition(":") if ":" in place else (place, "", "")
        port = colon + port
    return f"{_turned(host)}{port})/{way}"


def _turned(host: str) -> str:
    return host if _NUMERIC.fullmatch(host) else ",".join(reversed(host.split(".")))


def prefixes(named: str) -> tuple[str, ...]:
    """What `surt` of an address has to begin with to lie in what is named: a domain with all hosts below it
    (`heron.example`), an address and what lies below it (`https://heron.example/docs/`), or a SURT prefix
    (`example,heron,`, also with `http://(` before it). Raises ValueError for anything else.

    >>> prefixes("heron.example"), prefixes("http://(example,heron,)/docs/")
    (('example,heron)', 'example,heron:', 'example,heron,'), ('example,heron)/docs/',))
    """
    text = named.strip()
    bare = re.sub(r"^(?:[a-z][a-z0-9+.-]*://)?\(", "", text.lower())
    if "," in bare:
        place, closed, way = re.sub(r"^[a-z][a-z0-9+.-]*://", "", bare).partition(")")
        place = place.removesuffix(",")
        if closed:
            return (f"{place}){text[text.index(')') + 1 :] if way else ''}",)
        return (place + ")", place + ":", place + ",")  # Heritrix ends every host with a comma, the domain's own too
    try:
        if "://" in text:
            return (surt(canonical(text)),)
        found = surt(canonical(f"http://{text}/")).removesuffix("/")
    except ValueError:
        found = ""
    if not found or "/" in text:
        raise ValueError(
            f"{named!r} names no part of the web; give a domain (heron.example), an address (https://heron.example/a/) "
            "or a SURT prefix (example,heron,)"
        )
    return (found, found.removesuffix(")") + ":", found.removesuffix(")") + ",")


def address(named: str) -> str:
    """A seed as somebody writes it (a URL, a host, a SURT prefix) as a URL to begin with.

    >>> address("heron.example/a"), address("example,heron,www)/docs/")
    ('https://heron.example/a', 'https://www.heron.example/docs/')
    """
    text = named.strip()
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]*://(?!\()", text):
        return text
    if "," in text.partition(")")[0]:
        scheme = "http" if text.lower().startswith("http://(") else "https"
        [found, *_] = prefixes(text)
        place, _, way = found.partition(")")
        host, colon, port = place.partition(":")
        return (
            f"{scheme}://{'.'.join(reversed([p for p in host.split(',') if p]))}{colon}{port}/{way.removeprefix('/')}"
        )
    return f"https://{text}"
