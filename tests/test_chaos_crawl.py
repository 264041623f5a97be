"""The sample web is crawled on a Ray of three nodes, of which a keeper, a node with its disk, the driver and another
keeper are killed: the same pages are stored, none twice, and the same documents come out of the corpus.

The archives differ, as they do between any two crawls; pages, documents and decisions do not. tests/test_crawl_nodes.py
kills keepers of a toy web; here all of it is the command line's own.
"""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests import chaos
from tests.chaos import Driver, Nodes, driving, nodes
from tests.test_crawl import stored
from tundish.cluster.shards import Dataset, opened

sys.path.insert(0, str(chaos.TOP / "examples"))

from sample_web import hosts, server, site

pytestmark = [
    pytest.mark.slow,
    pytest.mark.chaos,
    pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="processes are found in /proc"),
]
RECIPE = f"""
pages:
  Crawl:
    seeds: {list(site.SEEDS)}
    agent: chaos/0.1 (+http://heron.example/bot; crawler@heron.example)
    as_of: "2026-11-21"
    delays: {dict.fromkeys(hosts.HOSTS, 0.2)}
documents: {{Extract: {{archives: pages}}}}
language: {{Identify: {{documents: documents}}}}
quality: {{Judge: {{documents: documents, language: language}}}}
kept: {{Refine: {{documents: documents, language: language, quality: quality}}}}
signatures: {{Sign: {{documents: documents}}}}
twins: {{Deduplicate: {{documents: documents, signatures: signatures, among: kept, quality: quality}}}}
corpus: {{Corpus: {{documents: documents, kept: kept, twins: twins, language: language, quality: quality}}}}
"""


class Counted(dict[Any, Any]):
    """Pages, and how often any of them was asked for."""

    asked = 0

    def get(self, key: Any, default: Any = None) -> Any:
        self.asked += 1
        return super().get(key, default)


@pytest.fixture
def web() -> Iterator[tuple[Counted, list[str]]]:
    """The sample web, and the options that lead to it."""
    pages = Counted(site.web())
    with server.serve(pages) as address:
        table = server.table(address, hosts.HOSTS)
        yield pages, [word for host, at in table.items() for word in ("--wire", f"{host}={at}")]


def dataset(root: Path, name: str) -> Dataset:
    [folder] = root.glob(f"{name.partition('/')[0]}-*/")
    found = opened(str(folder / name.partition("/")[2]))
    assert found is not None, name
    return found


def became(root: Path) -> dict[str, Any]:
    """What is the same between two crawls of a web that stands still."""
    corpus, dropped = dataset(root, "corpus").table(), dataset(root, "corpus/dropped").table()
    return {
        "pages": stored(dataset(root, "crawl")),
        "documents": sorted((row["id"], row["url"], row["text"]) for row in corpus.to_pylist()),
        "dropped": sorted((row["url"], row["stage"], row["reason"]) for row in dropped.to_pylist()),
    }


def keeper(ray: Nodes, driver: Driver) -> None:
    os.kill(driver.until(lambda: ray.busy("KeeperActor"))[-1], signal.SIGKILL)


def node(ray: Nodes, driver: Driver) -> None:
    """The youngest node that has a keeper, with its disk; another one comes instead."""
    gone = driver.until(lambda: [each for each in ray.nodes[1:] if each.busy("KeeperActor")])[-1]
    gone.kill()
    shutil.rmtree(gone.disk)
    ray.nodes.remove(gone)
    ray.more()


def test_a_crawl(web: tuple[Counted, list[str]], tmp_path: Path) -> None:
    pages, wire = web
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    path, root = str(tmp_path / "recipe.yaml"), tmp_path / "root"
    chaos.undisturbed(path, tmp_path / "whole", *wire)
    usual, pages.asked = pages.asked, 0
    with nodes(1, 1, 1) as ray:
        words = chaos.command(path, root, ray.address, *wire)
        with driving(words, tmp_path) as driver:
            for asked, fault in ((30, keeper), (60, node)):
                driver.until(lambda asked=asked: pages.asked >= asked)
                fault(ray, driver)
            seen = pages.asked
            driver.until(lambda: pages.asked >= seen + 20)  # somebody is at work again
            driver.kill()
        with driving(words, tmp_path) as driver:
            seen = pages.asked
            driver.until(lambda: pages.asked >= seen + 20)
            keeper(ray, driver)
            assert driver.ended() == 0, driver.said
    assert pages.asked > usual, "what was not committed is asked for again"
    found = became(root)
    assert len(set(found["pages"])) == len(found["pages"]), "a page was stored twice"
    assert found == became(tmp_path / "whole")
    assert subprocess.run(verify(root), cwd=chaos.TOP).returncode == 0


def verify(root: Path) -> list[str]:
    return [sys.executable, "-m", "tundish.pipeline.cli", "verify", str(root)]
