"""URLs: one spelling for each address, and the host, the authority and the registrable domain behind it.

Promises: browsers' reading of an address (the WHATWG URL standard, by ada), one canonical spelling that is its own
canonical spelling, the same on every machine (the public suffix list is the one the library ships; nothing is fetched).
Costs about 5 us an address. Refuses with `ValueError` what is no http or https address, and what is longer than 2,048
bytes. Queries keep their order and their escapes: only parameters known to track or to carry a session are dropped.
"""

import re
from functools import cache
from hashlib import blake2b

import ada_url
import tldextract

from tundish.operators.web.traps import trap as trap

LONGEST = 2048  # bytes of a canonical URL
LONGEST_INPUT = 4 * LONGEST  # characters looked at before parsing: a link of a megabyte is not worth parsing
PORTS = {"http:": 80, "https:": 443}
SPECIAL = frozenset({"http:", "https:", "ws:", "wss:", "ftp:", "file:"})  # schemes whose hosts are domains

# Parameters that say who came from where, by the advertising and mailing systems that add them; never what is shown.
# fmt: off
TRACKING = frozenset({
    "gclid", "gclsrc", "dclid", "gbraid", "wbraid", "fbclid", "msclkid", "yclid", "ysclid", "twclid", "ttclid",
    "igshid", "igsh", "srsltid", "wickedid", "epik", "li_fat_id", "mc_cid", "mc_eid", "mkt_tok", "vero_id",
    "oly_anon_id", "oly_enc_id", "s_kwcid", "rb_clickid", "_ga", "_gl", "_hsenc", "_hsmi", "__hssc", "__hstc", "__hsfp",
    "gad_source", "gad_campaignid", "fb_action_ids", "fb_action_types", "fb_source", "fb_ref", "_openstat", "wt_mc",
    "pk_campaign", "pk_kwd", "pk_source", "pk_medium", "pk_content", "pk_cid", "guccounter", "guce_referrer",
    "guce_referrer_sig", "hsctatracking", "_kx", "phpsessid", "jsessionid", "sessionid", "session_id", "sessid",
    "oscsid", "cftoken",
})
# fmt: on
TRACKING_STARTS = ("utm_", "aspsessionid", "hsa_", "mtm_", "matomo_", "piwik_")
TOKEN_NAMES = frozenset({"sid", "s", "osid", "zenid"})  # a session if the value is a token, else a story or a search
_TOKEN = re.compile(r"[0-9A-Za-z,-]{26,}")  # 128 bits at 5 bits a character, as PHP writes them
_PATH_SESSION = re.compile(r";(?:jsessionid|phpsessid)=[^/;]*", re.IGNORECASE)


def canonical(url: str, base: str | None = None) -> str:
    """The one spelling of an address, resolved against `base`.

    Drops fragment, user name and password, the default port, a final dot of the host, tracking and session
    parameters, and an empty query. Source: WHATWG URL standard for everything else. Raises `ValueError`.

    >>> canonical("../B?utm_source=x&q=1#top", "HTTP://Example.org:80/a/")
    'http://example.org/B?q=1'
    """
    href = _resolved(url, base)
    scheme, _, rest = href.partition("//")
    if scheme not in PORTS:
        raise ValueError(f"{_shown(url)} is not http or https; only those are fetched")
    place, _, way = rest.partition("#")[0].partition("/")
    place = place.rpartition("@")[2].replace(".:", ":").removesuffix(".")
    if not place or place.startswith((":", ".")) or ".." in place or place.endswith("."):
        raise ValueError(f"{_shown(url)} names no host that can exist; give a host without empty labels")
    path, _, query = way.partition("?")
    if ";" in path:
        path = _PATH_SESSION.sub("", path)
    kept = "&".join(part for part in query.split("&") if not _tracks(part)) if query else ""
    found = f"{scheme}//{place}/{path}?{kept}" if kept else f"{scheme}//{place}/{path}"
    if len(found) > LONGEST:
        raise ValueError(f"{_shown(url)} is {len(found)} bytes long; at most {LONGEST} are taken")
    return found


def _resolved(url: str, base: str | None) -> str:
    if len(url) > LONGEST_INPUT:
        raise ValueError(f"{_shown(url)} has {len(url)} characters; at most {LONGEST_INPUT} are parsed")
    return href(url, base)


def href(url: str, base: str | None = None) -> str:
    """An address as a browser spells it, of any scheme, before any policy of ours. Raises `ValueError`.

    >>> href("../b#c", "ftp://Heron.example/a/")
    'ftp://heron.example/b#c'
    """
    try:
        found: str = ada_url.normalize_url(url) if base is None else ada_url.join_url(base, url)
    except ValueError:  # UnicodeEncodeError of a lone surrogate is one
        raise ValueError(f"{_shown(url)} is no URL; give one with scheme and host, or a base it stands on") from None
    if "xn--" in found and _no_punycode(found):
        raise ValueError(f"{_shown(url)} has a host whose punycode says nothing; give a host that can exist") from None
    return found


def _no_punycode(url: str) -> bool:
    """Whether a label of the host begins as punycode and is none: ada lets such labels pass where all is ASCII."""
    scheme, _, rest = url.partition("//")
    if scheme not in SPECIAL:
        return False
    labels = re.split(r"[/?#]", rest, maxsplit=1)[0].rpartition("@")[2].partition(":")[0].split(".")
    return any(label.startswith("xn--") and ada_url.idna.decode(label) == label for label in labels)


def _tracks(parameter: str) -> bool:
    name, _, value = parameter.partition("=")
    name = name.lower()
    if name in TRACKING or name.startswith(TRACKING_STARTS):
        return True
    return name in TOKEN_NAMES and _TOKEN.fullmatch(value) is not None


def _shown(url: str) -> str:
    """The URL as an error shows it: escaped, short."""
    return ascii(url if len(url) <= 120 else url[:117] + "...")


def host(url: str) -> str:
    """Host without port, as ada spells it: lower case, punycode, IPv6 in brackets. Raises `ValueError`.

    >>> host("http://BÜCHER.example:8080/x")
    'xn--bcher-kva.example'
    """
    return _parsed(url).hostname


def authority(url: str) -> str:
    """`host:port`, the default port filled in: what a connection goes to and what robots.txt speaks for.

    >>> authority("https://example.org/"), authority("http://[::1]:8080/")
    ('example.org:443', '[::1]:8080')
    """
    parsed = _parsed(url)
    port = parsed.port or PORTS.get(parsed.protocol)
    if port is None:
        raise ValueError(f"{_shown(url)} names no port and its scheme has none; give an http or https URL")
    return f"{parsed.hostname}:{port}"


def _parsed(url: str) -> ada_url.URL:
    try:
        return ada_url.URL(url)
    except ValueError:
        raise ValueError(f"{_shown(url)} is no URL; give one with scheme and host") from None


def registrable(host: str) -> str:
    """Registrable domain of a host: one label below a public suffix (publicsuffix.org, ICANN part, bundled snapshot).

    Outside the list the last two labels, so that hosts under reserved names fall together too; an IP address, a single
    label and a public suffix are their own.

    >>> registrable("news.bbc.co.uk"), registrable("blog.kingfisher.example"), registrable("10.0.0.1")
    ('bbc.co.uk', 'kingfisher.example', '10.0.0.1')
    """
    bare = host.rstrip(".").lower()
    if bare.startswith("[") or bare.rpartition(".")[2].isdigit():
        return bare
    found = _suffixes()(bare)
    if found.suffix:
        return found.top_domain_under_public_suffix or bare
    return ".".join(bare.split(".")[-2:])


@cache
def _suffixes() -> tldextract.TLDExtract:
    """The list inside the package: no cache folder, no network (measured: 6 us a host)."""
    return tldextract.TLDExtract(cache_dir=None, suffix_list_urls=(), fallback_to_snapshot=True)


def key(url: str) -> int:
    """64 bits of blake2b of a canonical URL, for the seen-set: 2.7 % chance of one false "seen" in 10^9 URLs."""
    return int.from_bytes(blake2b(url.encode(), digest_size=8).digest(), "big")
