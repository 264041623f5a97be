"""The search of the report: its sample says of each document what `why` says, and a browser finds what is asked for.

The browser is that of `TUNDISH_CHROMIUM`, else a Chromium on the path; where there is none, that part is skipped.
"""

import os
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import quote

import pytest

from tests import toys
from tests.toys import HERON, KRANICH, pages
from tundish.cluster.local import Local
from tundish.pipeline import searched as searches
from tundish.pipeline.funnel import ran
from tundish.pipeline.report import report
from tundish.pipeline.run import run
from tundish.pipeline.searched import IN, Way, base_of, searched
from tundish.pipeline.why import why
from tundish.stages.corpus import Corpus
from tundish.stages.read import Read
from tundish.stages.refine import Refine

BROWSER = os.environ.get("TUNDISH_CHROMIUM") or next(
    (found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), None
)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> str:
    return toys.small_root(tmp_path_factory.mktemp("searched"))


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> str:
    return toys.trained_root(tmp_path_factory.getbasetemp())


def found_in(root: str) -> dict[str, Way]:
    found = searched(ran(root))
    assert found is not None
    return {way.url: way for way in found.ways}


def test_every_way_says_what_why_says(trained: str) -> None:
    """Document by document, stage by stage; of a small run the sample is all of it."""
    ways = found_in(trained)
    assert set(ways) == {*pages(), *toys.REFUSED}
    for url, way in ways.items():
        events = why(trained, url)
        told = dict(way.steps)
        for event in events:
            if event.stage == "Extract" and event.what.startswith("dropped"):
                assert way.outcome == f"dropped by Extract: {event.what.removeprefix('dropped: ')}"
            if event.stage == "Refine":
                assert told["Refine"].split(",")[0] == event.what
            if event.stage == "Deduplicate":
                assert told["Deduplicate"].startswith(event.what.removeprefix("dropped: ").split(",")[0])
                assert event.facts.get("survivor", "") in told["Deduplicate"]
            if event.stage == "Corpus":
                assert way.outcome == event.what
            if event.stage == "Pretrain":
                assert told["Pretrain"].startswith(event.what)
                assert event.facts["steps"] in told["Pretrain"]
            if event.stage == "Tokenize":
                assert told["Tokenize"] == ("held out of training" if "held" in event.what else event.facts["place"])
        ids = {event.what.split()[-1] for event in events if event.what.startswith("became document")}
        assert ids == ({way.id} if way.id else set())
    assert any("Pretrain" in dict(way.steps) for way in ways.values())
    assert sum(way.outcome == IN for way in ways.values()) == 21


def test_the_sample_is_bounded_and_has_some_of_every_reason(root: str, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = found_in(root)
    monkeypatch.setattr(searches, "MOST", 5)
    monkeypatch.setattr(searches, "EACH", 1)
    few = found_in(root)
    reasons = {way.reason for way in whole.values()}
    assert {way.reason for way in few.values()} == reasons
    assert len(reasons) >= 6
    assert 5 <= len(few) <= 5 + len(reasons)
    assert all(whole[url].steps == way.steps for url, way in few.items())
    assert few == found_in(root)
    assert searched(ran(root)).documents == 27  # type: ignore[union-attr]


def test_passwords_in_addresses_are_not_shown(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"url": "ftp://me:secret@a.example/x", "text": "Some text."}\n')
    run(Read((str(tmp_path / "a.jsonl"),)), Local(), str(tmp_path / "root"))
    assert set(found_in(str(tmp_path / "root"))) == {"ftp://a.example/x"}


def test_a_run_before_its_corpus_tells_what_it_knows(tmp_path: Path) -> None:
    goal = toys.recipe()
    run(goal, Local(), str(tmp_path), until="Crawl")
    assert base_of(ran(str(tmp_path))) is None
    assert searched(ran(str(tmp_path))) is None
    assert 'id="find"' not in Path(report(str(tmp_path))).read_text()
    assert isinstance(goal.corpus, Corpus)
    assert isinstance(goal.corpus.kept, Refine)
    run(goal.corpus.kept, Local(), str(tmp_path))
    ways = found_in(str(tmp_path))
    assert ways[f"{KRANICH}/short"].outcome.startswith("dropped: ")
    assert ways[f"{HERON}/page/1"].outcome == "judged"
    assert list(dict(ways[f"{HERON}/page/1"].steps)) == ["Identify", "Judge", "Refine"]


class Found(HTMLParser):
    """Ways with whether they are hidden, texts by id, and which boxes are open."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.ways: dict[str, bool] = {}
        self.texts: dict[str, str] = {}
        self.attributes: dict[str, dict[str, str | None]] = {}
        self._in = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        own = dict(attrs)
        if tag == "li" and "data-key" in own:
            self.ways[str(own["data-key"])] = "hidden" in own
        self._in = own.get("id") or ""
        if self._in:
            self.attributes[self._in] = own

    def handle_endtag(self, tag: str) -> None:
        self._in = ""

    def handle_data(self, data: str) -> None:
        if self._in:
            self.texts[self._in] = self.texts.get(self._in, "") + data


def test_without_a_script_the_list_is_there_and_the_box_is_not(root: str) -> None:
    shown = Found(Path(report(root)).read_text())
    assert "hidden" in shown.attributes["search"]
    assert not any(shown.ways.values())
    assert len(shown.ways) == len(found_in(root))
    assert shown.texts["search-typed"] == "tundish why URL --root ROOT"
    box = shown.attributes["what"]
    assert shown.attributes[str(box["aria-describedby"])]["aria-live"] == "polite"
    assert str(box["aria-controls"]) in shown.attributes


def test_markup_in_an_address_stays_text(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text(
        '{"url": "x\\"><script>alert(1)</script>", "text": "Some text."}\n', encoding="utf-8"
    )
    run(Read((str(tmp_path / "a.jsonl"),)), Local(), str(tmp_path / "root"))
    page = Path(report(str(tmp_path / "root"))).read_text()
    assert "<script>alert" not in page
    assert len(re.findall("<script", page)) == 1


@pytest.mark.slow
@pytest.mark.skipif(BROWSER is None, reason="no Chromium; name one by TUNDISH_CHROMIUM")
@pytest.mark.parametrize("typed", ["", "page/1", "PAGE/1", "nowhere.example/it's", "id"])
def test_a_browser_shows_what_is_asked_for(root: str, tmp_path: Path, typed: str) -> None:
    """The page as it is after its script ran, which the policy of the page allows; held against a plain search."""
    page, ways = report(root, str(tmp_path / "page.html")), found_in(root)
    wanted = ways[f"{HERON}/page/1"].id if typed == "id" else typed
    options = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--dump-dom"]
    asked = f"file://{page}#find={quote(wanted, safe='')}"
    told = subprocess.run(
        [str(BROWSER), *options, f"--user-data-dir={tmp_path / 'profile'}", asked],
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    shown = Found(told.stdout)
    assert "hidden" not in shown.attributes["search"], told.stderr[-500:]
    assert shown.ways == {way.key: wanted.lower() not in way.key for way in ways.values()}
    hits = sum(not hidden for hidden in shown.ways.values())
    assert ("open" in shown.attributes["ways-all"]) == (hits > 0 and wanted != "")
    if wanted:
        assert shown.texts["search-told"] == f"{hits} of the {len(ways)} documents on this page"
        spelt = wanted.replace("'", "'\\''")
        assert shown.texts["search-typed"] == f"tundish why '{spelt}' --root ROOT"
