"""Workers and the driver are killed (SIGKILL) in stages that the first recipe of this suite has not: everything is, in
the end, what a run that nobody disturbed makes of it. Two hundred pages and eighty notes, in some five minutes."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.chaos import ENV, TOP, Nodes, command, driving, nodes, undisturbed
from tests.chaos_stages import GOALS, digests, found, recipes

pytestmark = [
    pytest.mark.slow,
    pytest.mark.chaos,
    pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="processes are found in /proc"),
]
AT = {  # what workers say they are at, of every stage that has a pass; some share one
    "index": (
        "Ingest", "Extract", "Read", "Identify", "Judge", "Sign", "Vet", "Lines", "Decontaminate", "Teach: good",
        "Teach", "Rate", "Estimate: sample", "Estimate", "Perplex", "Bucket", "Refine", "Deduplicate: mark",
        "Repeated: cut", "Substrings: runs", "Substrings: cut", "Mask", "Corpus", "Index",
    ),
    "mixed": ("Tokenize: cut",),
    "links": ("Outlinks",),
    "fetched": ("CommonCrawl: index", "CommonCrawl: ranges: cut", "CommonCrawl: ranges", "Extract"),
}  # fmt: skip
BEGUN = {
    "index": ("gather", "estimate", "substrings", "index"),
    "mixed": ("mix",),
    "links": ("outlinks",),
    "fetched": ("commoncrawl",),
}
COLUMNS = {  # what a stage has found in some documents, or there would be nothing to lose
    "extract": "id", "lines": "edits", "repeated": "repeated_bytes", "substrings": "repeated_bytes", "mask": "edits",
    "decontaminate": "contaminated", "deduplicate": "twin", "refine": "reason", "rate": "quality_good",
    "bucket": "perplexity_bucket", "index": "signature", "outlinks": "target",
}  # fmt: skip


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[str], dict[str, str]]:
    """A recipe for each goal, and the digests of a run that nobody disturbed."""
    base = tmp_path_factory.mktemp("stages")
    paths = recipes(base / "pages")
    for path in paths:
        undisturbed(path, base / "whole")
    assert all(found(base / "whole", stage, column) for stage, column in COLUMNS.items())
    return paths, digests(base / "whole")


@pytest.fixture(scope="module")
def ray() -> Iterator[Nodes]:
    """A Ray for all of them."""
    with nodes(1, 1, 1) as made:
        yield made


@pytest.fixture
def root(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path / "root"
    shutil.rmtree(tmp_path, ignore_errors=True)


def same(root: Path, expected: dict[str, str]) -> None:
    """By the manifests, and by the bytes on disk. A writer that was killed may have left an attempt's file beside them,
    which nobody reads: it goes when its stage runs again."""
    assert digests(root) == expected
    words = [sys.executable, "-m", "tundish.pipeline.cli", "verify", str(root)]
    told = subprocess.run(words, cwd=TOP, env={**os.environ, **ENV}, capture_output=True, text=True)
    assert told.returncode == 0, told.stdout + told.stderr


def killing(ray: Nodes, names: list[str]) -> Callable[[], bool]:
    """Kills a worker at each of these passes, once, in whatever order they come; a moment that has come when there is
    none left. A worker is stopped and looked at again: it may have ended what it was at."""

    def moment() -> bool:
        for node in ray.nodes:
            for number in [number for number, title in node.workers().items() if said(title) & {*names}]:
                os.kill(number, signal.SIGSTOP)
                at = said(node.workers().get(number, "")) & {*names}
                os.kill(number, signal.SIGKILL if at else signal.SIGCONT)
                names[:] = [name for name in names if name not in at]
        return not names

    return moment


def said(title: str) -> set[str]:
    """The stages of a pass that several share, each by its own words."""
    return {*title.split(" + ")}


def test_workers(whole: tuple[list[str], dict[str, str]], ray: Nodes, root: Path) -> None:
    """In the middle of an item of every pass that is named above; of stages that share one, a worker of all."""
    for path, goal in zip(whole[0], GOALS, strict=True):
        left = [*AT[goal]]
        with driving(command(path, root, ray.address), root.parent) as driver:
            try:
                driver.until(killing(ray, left))
            except AssertionError as error:
                raise AssertionError(f"nobody was seen at {', '.join(left)}") from error
            assert driver.ended() == 0, driver.said
    same(root, whole[1])


def test_the_driver(whole: tuple[list[str], dict[str, str]], ray: Nodes, root: Path) -> None:
    """As soon as there is something of a stage; the same command goes on, on the same Ray."""
    for path, goal in zip(whole[0], GOALS, strict=True):
        words = command(path, root, ray.address)
        for stage in BEGUN[goal]:
            with driving(words, root.parent) as driver:
                driver.until(lambda stage=stage: any(root.glob(f"{stage}-*/**/*.json")))
                driver.kill()
        with driving(words, root.parent) as driver:
            assert driver.ended() == 0, driver.said
    same(root, whole[1])
