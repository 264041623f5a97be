"""A part that moves to another node: it goes on from its checkpoint, nobody loses a link, nothing is stored twice."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.test_crawl import at, crawl, many, page, stored
from tundish.cluster.local import Local
from tundish.cluster.wire import Request, Response, Toy
from tundish.stages import crawl_home
from tundish.stages.crawl_archive import Archive
from tundish.stages.crawl_frontier import Frontier
from tundish.stages.crawl_home import Home, Replaced
from tundish.stages.crawl_scope import Found
from tundish.stages.crawl_tables import FRONTIER
from tundish.stages.stage import Place


class Nodes(Local):
    """A cluster of two nodes, as far as a crawl can see."""

    nodes = 2


def test_a_crawl_on_many_nodes_leaves_nothing_but_its_archives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "scratch").mkdir()
    monkeypatch.setattr(crawl_home.tempfile, "gettempdir", lambda: str(tmp_path / "scratch"))
    stage, toy = crawl(), Toy({at(): page("/a"), at("/a"): page()})
    made = stage.through(lambda: toy, Nodes(), Place(str(tmp_path / "root"), stage.fingerprint))
    assert stored(made) == [at(), at("/a")]
    assert not (tmp_path / "root" / "keepers").exists()
    assert list((tmp_path / "scratch").glob("*/*")) == []


def kept(home: Home, urls: list[str]) -> None:
    """A keeper's work: addresses admitted and stored, committed."""
    rules = crawl().rules
    path, _ = home.enter(0)
    frontier = Frontier(path / FRONTIER, rules)
    archive = Archive(path, frontier.archives(), {"software": "test"})
    for url in urls:
        frontier.admit(Found(url), rules.part(url))
        archive.append(Request(url), Response(url, 200, (), b"x"), "2026-11-21T00:00:00Z")
    archive.sync()
    frontier.commit(archive.news())
    archive.close()
    frontier.close()


def known(home: Home) -> list[str]:
    frontier = Frontier(home.path(0) / FRONTIER, crawl().rules)
    found = [row[0] for row in frontier.log()]
    frontier.close()
    return found


def test_whoever_takes_over_begins_from_the_checkpoint(tmp_path: Path) -> None:
    first, second = (Home(str(tmp_path / name), str(tmp_path / "kept")) for name in ("node-1", "node-2"))
    kept(first, [at("/a")])
    assert first.save(0) == {}
    kept(first, [at("/b")])  # after the checkpoint: lost with the node, and done again
    path, brought_back = second.enter(0)
    assert (brought_back, known(second)) == (True, [at("/a")])
    archive = next(path.glob("*.warc.zst"))
    whole = (tmp_path / "node-1" / "00" / archive.name).read_bytes()
    assert whole.startswith(archive.read_bytes())
    assert len(archive.read_bytes()) < len(whole)
    with pytest.raises(Replaced, match="another keeper by now"):
        first.save(0)  # it was only cut off, and comes back
    kept(second, [at("/c")])
    second.save(0)
    assert second.enter(0) == (path, False)  # its own folder is as new as any
    assert first.enter(0)[1]  # an old one is not
    assert known(first) == [at("/a"), at("/c")]
    with pytest.raises(Replaced):
        second.save(0)
    assert len(list((tmp_path / "kept" / "00").glob("frontier-*"))) == 1


def test_batches_of_a_new_epoch_come_after_all_of_the_old(tmp_path: Path) -> None:
    first, second = (Home(str(tmp_path / name), str(tmp_path / "kept")) for name in ("node-1", "node-2"))
    rules = crawl(parts=2, hosts=("*",)).rules
    other = next(f"http://h{n}.test/" for n in range(99) if rules.part(f"http://h{n}.test/") == 1)

    def sent(home: Home, path: str) -> list[tuple[int, int]]:
        frontier = Frontier(home.enter(0)[0] / FRONTIER, rules)
        frontier.admit(Found(other + path, 1, at()), 0)
        frontier.commit([])
        found = frontier.db.execute("SELECT batch, after FROM outbox ORDER BY batch").fetchall()
        frontier.close()
        return found

    sent(first, "a")
    first.save(0)
    [*_, (lost, _)] = sent(first, "b")
    [(one, _), (new, after)] = sent(second, "c")
    assert one == after < lost < new


KILLED = """
import json, os, signal, sys
from pathlib import Path
sys.path.insert(0, {top!r})
from tests import test_crawl as t, test_crawl_home as h
from tundish.stages import crawl_home, crawl_keeper
folder, at = Path(sys.argv[1]), int(sys.argv[2])
crawl_home.tempfile.gettempdir = lambda: str(folder / "scratch")
crawl_keeper.CHECKPOINT = 0.15
(folder / "scratch").mkdir(exist_ok=True)
web, left = t.many(), [at]
def counted(answer):
    def give(request):
        left[0] -= 1
        if left[0] == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return answer
    return give
toy = t.Toy({{url: counted(answer) for url, answer in web.items()}}, seconds=0.02)
stage = t.crawl(seeds=t.SEEDS)
made = stage.through(lambda: toy, h.Nodes(), t.Place(str(folder / stage.address), stage.fingerprint))
print(json.dumps(t.stored(made)))
"""


@pytest.mark.parametrize("lost", [(0,), (1, 2), (0, 1, 2, 3)])
def test_lost_nodes_cost_no_page(tmp_path: Path, lost: tuple[int, ...]) -> None:
    """All die at once, and the disks of some parts with them, twice; the others go on from what they have."""
    script, web = KILLED.format(top=str(Path(__file__).parents[1])), many()
    for kill_at in (110, 50, 0):
        words = [sys.executable, "-c", script, str(tmp_path), str(kill_at)]
        told = subprocess.run(words, capture_output=True, text=True, env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"})
        assert told.returncode == (-signal.SIGKILL if kill_at else 0), told.stderr
        for part in lost:
            for path in (tmp_path / "scratch").glob(f"*/{part:02d}"):
                shutil.rmtree(path)
    assert json.loads(told.stdout) == sorted(web)
