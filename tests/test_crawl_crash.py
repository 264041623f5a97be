"""What a kill leaves of a crawl: committed state and nothing else, and in the end every page once."""

import json
import os
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from tests.test_crawl import HTML, at, crawl, many
from tundish.cluster.wire import Request, Response
from tundish.operators.web.warc import Capture, captures
from tundish.stages.crawl_archive import Archive
from tundish.stages.crawl_frontier import Frontier
from tundish.stages.crawl_scope import Found


def test_a_frontier_has_one_owner(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tundish.stages.crawl_frontier.PATIENCE", 0.05)
    first = Frontier(tmp_path / "f.sqlite", crawl().rules)
    with pytest.raises(ValueError, match="if another crawl works on it"):
        Frontier(tmp_path / "f.sqlite", crawl().rules)
    first.close()
    Frontier(tmp_path / "f.sqlite", crawl().rules).close()


def test_a_batch_posted_twice_is_taken_once(tmp_path: Path) -> None:
    rules = crawl().rules
    frontier = Frontier(tmp_path / "f.sqlite", rules)
    assert [frontier.take(1, 4), frontier.take(1, 4), frontier.take(1, 3), frontier.take(2, 1)] == [
        True,
        False,
        False,
        True,
    ]
    frontier.commit([])
    frontier.close()
    again = Frontier(tmp_path / "f.sqlite", rules)
    assert (again.taken, again.take(1, 4), again.take(1, 5)) == (2, False, True)


def test_an_archive_ends_where_it_was_committed(tmp_path: Path) -> None:
    first = Archive(tmp_path, [], {"software": "test"})
    for n in range(3):
        first.append(Request(at(f"/{n}")), Response(at(f"/{n}"), 200, HTML, b"x" * 100), "2026-11-21T00:00:00Z")
        if n == 1:
            first.sync()
            committed = first.news()
    first.sync()
    (tmp_path / "archive-0001.warc.zst").write_bytes(b"begun and never committed")
    whole = (tmp_path / "archive-0000.warc.zst").stat().st_size
    again = Archive(tmp_path, committed, {"software": "test"})
    assert (tmp_path / "archive-0000.warc.zst").stat().st_size == committed[0][1] < whole
    assert not (tmp_path / "archive-0001.warc.zst").exists()
    again.append(Request(at("/again")), Response(at("/again"), 200, HTML, b"y"), "2026-11-21T00:00:00Z")
    again.sync()
    with open(tmp_path / "archive-0000.warc.zst", "rb") as stream:
        kept = [one.url for one in captures(stream) if isinstance(one, Capture)]
    assert kept == [at("/0"), at("/1"), at("/again")]
    os.truncate(tmp_path / "archive-0000.warc.zst", 10)
    with pytest.raises(ValueError, match="is shorter than"):
        Archive(tmp_path, committed, {"software": "test"})


def test_what_was_not_committed_is_undone(tmp_path: Path) -> None:
    frontier = Frontier(tmp_path / "f.sqlite", crawl().rules)
    part = frontier.rules.part(at())
    frontier.admit(Found(at("/a")), part)
    frontier.commit([])
    frontier.admit(Found(at("/b")), part)
    frontier.close()
    assert [row[0] for row in Frontier(tmp_path / "f.sqlite", crawl().rules).log()] == [at("/a")]


KILLED = """
import json, os, sys
from pathlib import Path
sys.path.insert(0, {top!r})
from tests import test_crawl as t
folder, at, by = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
web = t.many()
left = [at]
def counted(answer):
    def give(request):
        with open(folder / "asked", "a") as stream:
            stream.write(request.url + "\\n")
        left[0] -= 1
        if left[0] == 0:
            os.kill(os.getpid(), by)
        return answer
    return give
toy = t.Toy({{url: counted(answer) for url, answer in web.items()}}, seconds=0.02)
made = t.run(toy, folder, seeds=t.SEEDS)
print(json.dumps(t.stored(made)))
"""


@pytest.mark.parametrize(
    ("kills", "by"), [((110, 80), signal.SIGKILL), ((150,), signal.SIGKILL), ((90,), signal.SIGINT)]
)
def test_a_killed_crawl_ends_with_every_page_once(tmp_path: Path, kills: tuple[int, ...], by: signal.Signals) -> None:
    """Ended between what it appended and what it committed, after so many requests of each life, then let go on."""
    script = KILLED.format(top=str(Path(__file__).parents[1]))
    web = many()
    for kill_at in (*kills, 0):
        words = [sys.executable, "-c", script, str(tmp_path), str(kill_at), str(int(by))]
        told = subprocess.run(words, capture_output=True, text=True, env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"})
        assert told.returncode == (-by if kill_at else 0), told.stderr
    assert json.loads(told.stdout) == sorted(web)
    asked = Counter((tmp_path / "asked").read_text().split("\n")[:-1])
    assert set(asked) == set(web)
    again = sum(asked.values()) - len(web)
    assert again < sum(kills)  # what was committed is not fetched again
    assert again > 0 or by == signal.SIGINT  # what was not, is; and none of it is stored twice
