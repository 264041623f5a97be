"""How much of a host was worth keeping, by the corpora of earlier runs: whom a crawl asks first, and how often.

Promises: hosts of which earlier runs kept less are asked after others where not all can be asked at once, and as much
less often as they are worse than the average, ten times at most; of unknown hosts the average is assumed, and the share
of their own pages that are like each other counts against them. So a budget of pages goes to hosts that survive the
filters. Never faster than a host's delay. Refuses a root that holds no finished corpus.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import pyarrow.compute as pc

from tundish.cluster import store
from tundish.cluster.shards import Dataset, opened

SLOWEST = 10.0  # times its delay, for a host of which nothing is ever kept
DOUBT = 5.0  # documents of the average that every host is given before its own are counted
FILE = "worth.json"


@dataclass(frozen=True)
class Worth:
    """Shares of documents kept, by host; `average` of all."""

    rates: Mapping[str, float]
    average: float = 0.5

    def of(self, host: str, same: float = 0.0) -> float:
        """In (0, 1]. `same`: share of its last pages that are like earlier ones."""
        return self.rates.get(host, self.average) * (1 - 0.9 * same)

    def pace(self, host: str) -> float:
        """Times its delay that a host is left alone; 1 without earlier runs.

        >>> Worth({"a.example": 0.05, "b.example": 0.9}, 0.5).pace("a.example")
        10.0
        """
        return min(SLOWEST, max(1.0, self.average / self.rates[host])) if host in self.rates else 1.0


def keep_rates(roots: Iterable[str]) -> dict[str, tuple[int, int]]:
    """Host -> (documents kept, seen) by the corpora under some roots. Raises ValueError for a root of none."""
    found: dict[str, list[int]] = {}
    for root in roots:
        names = [name for name in store.listing(root) if name.startswith("corpus-")]
        corpora = [one for name in names if (one := opened(store.join(root, name))) is not None]
        if not corpora:
            raise ValueError(f"Crawl.curated: {root} holds no finished Corpus; give the root of a run that has one")
        for corpus in corpora:
            _count(corpus, found, 0)
            if (dropped := opened(store.join(corpus.uri, "dropped"))) is not None:
                _count(dropped, found, 1)
    return {host: (counts[0], sum(counts)) for host, counts in sorted(found.items())}


def _count(dataset: Dataset, into: dict[str, list[int]], at: int) -> None:
    view = dataset.select("host")
    for name in view.names:
        for one in pc.value_counts(view.read(name)["host"].combine_chunks()).to_pylist():
            if one["values"] is not None:
                into.setdefault(one["values"], [0, 0])[at] += one["counts"]


def worth_of(counts: Mapping[str, tuple[int, int]]) -> Worth:
    """Keep-rates with `DOUBT` documents of the average added to each host.

    >>> worth_of({"a.example": (9, 10), "b.example": (0, 10)}).of("b.example")
    0.15
    """
    kept, seen = sum(k for k, _ in counts.values()), sum(n for _, n in counts.values())
    average = kept / seen if seen else 0.5
    return Worth({host: (k + DOUBT * average) / (n + DOUBT) for host, (k, n) in counts.items()}, average or 0.5)


def tell(uri: str, counts: Mapping[str, tuple[int, int]]) -> None:
    """Lay the counts where every keeper finds them. The first counts stay, however often it is run."""
    if counts and not store.exists(store.join(uri, FILE)):
        store.write_json(store.join(uri, FILE), counts)


def heard(uri: str) -> Worth:
    """What `tell` laid down; no opinion without it."""
    found = store.read_json(store.join(uri, FILE))
    return worth_of({host: (kept, seen) for host, (kept, seen) in found.items()}) if found else Worth({})
