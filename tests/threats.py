"""What tests of threats share: a web without end, a crawl over real sockets, and an end for what hangs."""

import io
import signal
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.test_crawl import crawl, page
from tundish.cluster import store
from tundish.cluster.local import Local
from tundish.cluster.shards import Dataset
from tundish.cluster.wire import Response, Web
from tundish.operators.web.warc import Capture, captures
from tundish.stages.stage import Place

HOST = "heron.example"
MiB = 1 << 20


class Endless(Mapping[str, Any]):
    """A web without end: `make` answers every address below `prefix`, `more` knows some others."""

    def __init__(self, prefix: str, make: Callable[[str], Response], more: dict[str, Response]) -> None:
        self.prefix, self.make, self.more = prefix, make, more

    def __getitem__(self, url: str) -> Response:
        if url in self.more:
            return self.more[url]
        if not url.startswith(self.prefix) or url.endswith(("/robots.txt", "/sitemap.xml", "/tdmrep.json")):
            raise KeyError(url)
        return self.make(url)

    def __len__(self) -> int:
        return len(self.more)

    def __iter__(self) -> Iterator[str]:
        return iter(self.more)


def through(web: Callable[[], Any], folder: Path, **fields: object) -> Dataset:
    stage = crawl(**fields)
    return stage.through(web, Local(), Place(str(folder / stage.address), stage.fingerprint))


def over(address: str, folder: Path, hosts: tuple[str, ...] = (), deadline: float = 1.0, **fields: object) -> Dataset:
    """A crawl of the server at `address`, over real sockets. `hosts`: those beside HOST that lead to it."""
    table = {f"{host}:80": address for host in (HOST, *hosts)}
    return through(lambda: Web(table, deadline=deadline), folder, **{"sitemaps": False, **fields})


def body(*links: str, text: str = "A page.") -> bytes:
    return page(*links, text=text).body


def kept(made: Dataset) -> list[Capture]:
    found = []
    for name in made.names:
        with store.opened(made.path(name)) as stream:
            found += [one for one in captures(io.BytesIO(stream.read())) if isinstance(one, Capture)]
    return found


@pytest.fixture
def ends() -> Iterator[None]:
    """A test that hangs is a test that failed."""

    def late(*_: object) -> None:
        raise TimeoutError("two minutes have passed; something here does not end")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(120)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)
