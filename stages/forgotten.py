"""What a root was told to forget: a ledger that every source asks before it takes or fetches anything.

    <root>/forgotten    a JSON object a line, one for each `tundish forget`: time, reason, rows, and what, as digests
                        {"time": "2026-11-21T18:40:00Z", "urls": ["…"], "domains": ["…"], "ids": ["…"], "rows": 3}

Promises: the ledger holds no text, no title and no address: domains and canonical URLs stand there as 16 bytes of
BLAKE2b (of a URL the `url_key` of an index), documents by their ids. Who has the ledger can ask whether an address is
in it, and cannot read one out of it, but by guessing. It decides no stage's fingerprint: what lies under the root was
rewritten when the ledger grew (stages/forget), what is made later asks it. Costs 6 us an address that is asked about.
Refuses a line that is none.
"""

import functools
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from tundish.cluster import store
from tundish.operators.text.digest import payload_digest
from tundish.operators.web import urls

LEDGER = "forgotten"
REASON = "forgotten"  # by which sources count what they leave out


@dataclass(frozen=True)
class Forgotten:
    """Digests of what is not to be had. False where there is nothing."""

    ids: frozenset[bytes] = frozenset()
    urls: frozenset[bytes] = frozenset()
    domains: frozenset[bytes] = frozenset()

    def __bool__(self) -> bool:
        return bool(self.ids or self.urls or self.domains)

    def __or__(self, other: "Forgotten") -> "Forgotten":
        return Forgotten(self.ids | other.ids, self.urls | other.urls, self.domains | other.domains)

    def __and__(self, other: "Forgotten") -> "Forgotten":
        return Forgotten(self.ids & other.ids, self.urls & other.urls, self.domains & other.domains)

    def holds(self, url: str | None) -> bool:
        """Whether an address, in whatever spelling, is one of these, or of one of these domains."""
        if not url or not (self.urls or self.domains):
            return False
        try:
            spelt = urls.canonical(url)
        except ValueError:
            return False  # a key of Read need not be a URL; such documents are forgotten by id
        return url_key(spelt) in self.urls or self._of_domain(urls.host(spelt))

    def _of_domain(self, host: str) -> bool:
        return bool(self.domains) and not self.domains.isdisjoint(_above(host))

    @property
    def plain(self) -> dict[str, list[str]]:
        """For JSON: sorted hex."""
        return {name: sorted(one.hex() for one in getattr(self, name)) for name in ("domains", "urls", "ids")}

    @classmethod
    def of(cls, line: Mapping[str, Any]) -> "Forgotten":
        """What a line of the ledger names."""
        told = {name: frozenset(bytes.fromhex(one) for one in line.get(name, ())) for name in ("ids", "urls")}
        return cls(**told, domains=frozenset(bytes.fromhex(one) for one in line.get("domains", ())))


NONE = Forgotten()


def url_key(canonical: str) -> bytes:
    """16 bytes that stand for a canonical URL: an index's `url_key`."""
    return payload_digest(canonical.encode())


def domain_key(host: str) -> bytes:
    """16 bytes that stand for a domain with all its hosts."""
    return payload_digest(b"domain\0" + host.lower().encode())


@functools.lru_cache(maxsize=1 << 12)
def _above(host: str) -> frozenset[bytes]:
    """The keys of a host and of every domain it lies in."""
    labels = host.split(".")
    return frozenset(domain_key(".".join(labels[n:])) for n in range(len(labels)))


def masked(url: str) -> str:
    """What an audit trail keeps of a forgotten address: a name that tells nothing to who does not know it.

    >>> masked("http://heron.example/")[:16]
    'forgotten:02b800'
    """
    return f"{REASON}:{url_key(url).hex()}"


def root_of(uri: str) -> str:
    """The root that a stage's folder lies in."""
    return uri.rstrip("/").rsplit("/", 1)[0]


def lines(root: str) -> list[dict[str, Any]]:
    """The ledger, a line each, in the order in which it grew."""
    uri = store.join(root, LEDGER)
    if not store.exists(uri):
        return []
    found = []
    for number, line in enumerate(store.read(uri).decode("utf-8", "replace").splitlines(), 1):
        try:
            value = json.loads(line)
            Forgotten.of(value)
        except (ValueError, TypeError, AttributeError) as error:
            raise ValueError(
                f"line {number} of {uri} is no line of a ledger ({error}); restore the file, for sources take what it "
                "does not name"
            ) from None
        found.append(value)
    return found


def forgotten(root: str) -> Forgotten:
    """All that a root was told to forget."""
    found = NONE
    for line in lines(root):
        found |= Forgotten.of(line)
    return found


def spelt(ledger: Iterable[Mapping[str, Any]]) -> bytes:
    """Lines of a ledger as the bytes of its file."""
    return b"".join(json.dumps(line, sort_keys=True, ensure_ascii=False).encode() + b"\n" for line in ledger)
