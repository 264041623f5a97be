"""What a crawl under way has committed is taken once, byte for byte, and nothing else is."""

from pathlib import Path

import pytest

from tests.test_crawl import at, crawl
from tests.test_crawl_home import kept
from tundish.cluster import store
from tundish.cluster.target import Target
from tundish.cluster.wire import Request, Response
from tundish.operators.web.warc import captures
from tundish.stages.crawl_archive import Archive
from tundish.stages.crawl_frontier import Frontier
from tundish.stages.crawl_home import Home
from tundish.stages.crawl_seal import lay
from tundish.stages.crawl_tables import FRONTIER
from tundish.stages.generations import Journal
from tundish.stages.harvest import Growing

DATE = "2026-11-21T00:00:00Z"


class Keeper:
    """A part that stores what it is told to, and commits when it is told to."""

    def __init__(self, folder: Path, part: int, form: str = "zst") -> None:
        self.path = folder / "keepers" / f"{part:02d}"
        self.frontier = Frontier(self.path / FRONTIER, crawl().rules)
        about = {"software": "test"}
        self.archive = Archive(self.path, self.frontier.archives(), about, form, f"part-{part:02d}")

    def store(self, *names: str) -> None:
        for name in names:
            self.archive.append(Request(at(name)), Response(at(name), 200, (), name.encode() * 40), DATE)
        self.archive.stream.flush()

    def commit(self) -> None:
        self.archive.sync()
        self.frontier.commit(self.archive.news())

    def close(self) -> None:
        self.archive.close()
        self.frontier.close()


def growing(folder: Path, pages: int = 1000, parts: int = 2, form: str = "zst") -> Growing:
    return Growing(str(folder), parts, pages, form)


def urls(folder: str) -> list[str]:
    """What the archives of a folder hold."""
    found = []
    for path in sorted(Path(folder).iterdir()):
        with open(path, "rb") as stream:
            found += [one.url for one in captures(stream)]
    return found


@pytest.mark.parametrize("form", ["zst", "gz"])
def test_ranges_are_what_was_committed_and_together_they_are_the_archives(tmp_path: Path, form: str) -> None:
    here = tmp_path / "crawl"
    one, other = Keeper(here, 0, form), Keeper(here, 1, form)
    source, journal = growing(here, form=form), Journal(str(tmp_path), "crawl-1", "tokenize-1")
    assert source.settled(lag=0) == {}
    one.store("/a", "/b")
    one.commit()
    one.store("/c")  # on its way to disk, and not committed
    journal = journal.harvested(source.settled(lag=0), 0)
    assert urls(journal.copied(source, 0)) == [at("/a"), at("/b")]
    assert journal.harvested(source.settled(lag=0), 1) is journal, "nothing is new"
    one.commit()
    other.store("/d")
    other.commit()
    journal = journal.harvested(source.settled(lag=0), 1)
    assert urls(journal.copied(source, 1)) == [at("/c"), at("/d")]
    sizes = source.committed()[0]
    pieces: dict[str, bytes] = {}
    for number in range(2):
        for path in sorted(Path(journal.copied(source, number)).iterdir()):
            name, _, kind = path.name.split(".", 2)
            pieces[f"{name}.{kind}"] = pieces.get(f"{name}.{kind}", b"") + path.read_bytes()
    whole = {f"part-{k.path.name}-0000.warc.{form}": next(k.path.glob("*.warc.*")).read_bytes() for k in (one, other)}
    assert pieces == whole
    assert sizes == {name: len(body) for name, body in whole.items()}
    one.close(), other.close()


def test_a_crawl_near_its_budget_is_left_alone_until_it_is_sealed(tmp_path: Path) -> None:
    keeper = Keeper(tmp_path, 0)
    keeper.store("/a", "/b", "/c")
    keeper.commit()
    assert growing(tmp_path, pages=3).settled(lag=0)
    assert growing(tmp_path, pages=2).settled(lag=0) == {}, "one of them will be taken back"
    keeper.close()


def test_what_was_harvested_is_found_while_and_after_a_crawl_is_sealed(tmp_path: Path) -> None:
    here = tmp_path / "crawl"
    keeper, source = Keeper(here, 0), growing(here)
    keeper.store("/a")
    keeper.commit()
    journal = Journal(str(tmp_path), "crawl-1", "tokenize-1").harvested(source.settled(lag=0), 0)
    keeper.store("/b")
    keeper.commit()
    keeper.close()
    size = source.committed()[0]["part-00-0000.warc.zst"]
    lay(keeper.path / "archive-0000.warc.zst", size, store.join(str(here), "part-00-0000.warc.zst"))
    assert source.sealed() == {}, "there is no manifest yet"
    Home(str(here / "keepers")).remove()
    target = Target(str(here), "key")
    target.seal([target.adopt("part-00-0000", "part-00-0000.warc.zst", 2, {}, {})])
    assert urls(journal.copied(source, 0)) == [at("/a")]
    journal = journal.harvested(source.sealed(), 1)
    assert urls(journal.copied(source, 1)) == [at("/b")]
    assert journal.harvested(source.sealed(), 2) is journal


def test_checkpoints_of_keepers_that_live_elsewhere_are_harvested(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "node").mkdir()
    monkeypatch.setattr("tundish.stages.crawl_home.tempfile.gettempdir", lambda: str(tmp_path / "node"))
    home, source = Home("far", str(tmp_path / "crawl" / "keepers")), growing(tmp_path / "crawl")
    kept(home, [at("/a")])
    assert source.settled(lag=0) == {}, "nobody else sees it before the checkpoint"
    home.save(0)
    journal = Journal(str(tmp_path), "crawl-1", "tokenize-1").harvested(source.settled(lag=0), 0)
    kept(home, [at("/b"), at("/c")])
    home.save(0)
    assert urls(journal.copied(source, 0)) == [at("/a")]
    journal = journal.harvested(source.settled(lag=0), 1)
    assert urls(journal.copied(source, 1)) == [at("/b"), at("/c")]


def test_the_first_generation_grows_and_others_do_not_begin_before_it_is_made(tmp_path: Path) -> None:
    journal = Journal(str(tmp_path), "crawl-1", "tokenize-1").harvested({"a": 10}, 0).harvested({"a": 12, "b": 3}, 0)
    assert journal.generations == ({"a": (0, 12), "b": (0, 3)},)
    assert journal.harvested({}, 0).generations == journal.generations, "it is never less than it was"
    more = journal.harvested({"a": 20, "b": 3}, 1)
    assert more.generations[1] == {"a": (12, 20)}
    more.write()
    assert Journal.of(str(tmp_path), "crawl-1", "tokenize-1") == more
    with pytest.raises(ValueError, match=r"begun with another recipe .tokenize-1 of crawl-1"):
        Journal.of(str(tmp_path), "crawl-1", "tokenize-2")
