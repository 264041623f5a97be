"""page: an address as it was archived, as it was read, and what was decided of it."""

import html
import json
import zipfile
from pathlib import Path

import pytest

from tests.test_cli import TEXT
from tests.test_ingest_common_crawl import CRAWL, base  # noqa: F401 - a fixture
from tundish.cluster.local import Local
from tundish.operators.web.warc_write import IDENTICAL, Earlier, Fetch, member, pair, records
from tundish.pipeline.page import page
from tundish.pipeline.run import run
from tundish.stages.common_crawl import CommonCrawl
from tundish.stages.extract import Extract
from tundish.stages.ingest import Ingest
from tundish.stages.judge import Judge
from tundish.stages.refine import Refine

URL = "http://heron.example/reeds"
BODY = "<title>Reeds</title><script>steal()</script><article><p>The reeds bend & rise again.</p></article>"


def archive(folder: Path, **pages: str) -> str:
    folder.mkdir()
    records = [
        pair(
            f"http://heron.example/{name}",
            date="2026-11-21T00:00:00Z",
            request=b"GET / HTTP/1.1\r\n\r\n",
            response=b"HTTP/1.1 200 OK\r\nContent-Type: text/html; charset=utf-8\r\n\r\n" + body.encode(),
        )
        for name, body in pages.items()
    ]
    (folder / "a.warc.gz").write_bytes(b"".join(records))
    return str(folder / "*.warc.gz")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("page")
    source = archive(folder / "in", other=f"<article><p>{TEXT}</p></article>", reeds=BODY, empty="<p></p>")
    documents = Extract(Ingest((source,)))
    run(Refine(documents, quality=Judge(documents)), Local(), str(folder / "root"))
    return str(folder / "root")


def framed(shown: str) -> str:
    """The archived page inside a page."""
    return html.unescape(shown.partition('srcdoc="')[2].partition('"></iframe>')[0])


def test_page_text_and_decision_stand_side_by_side(root: str, tmp_path: Path) -> None:
    uri = page(root, URL, str(tmp_path / "page.html"))
    shown = Path(uri).read_text(encoding="utf-8")
    frame = framed(shown)
    assert frame.endswith(BODY)
    assert frame.startswith('<!doctype html><meta http-equiv="Content-Security-Policy" content="default-src \'none\';')
    assert "<iframe sandbox title=" in shown  # allows no script, no form, no navigation
    assert shown.count("<script") == 0  # that of the archived page is inside the frame's attribute, escaped
    assert "The reeds bend &amp; rise again." in shown
    assert "<dt>Refine <span>" in shown
    assert TEXT[:40] not in shown


def test_an_address_that_became_no_document(root: str) -> None:
    """It is shown as it was archived, which is what one wants to know then."""
    shown = Path(page(root, "http://heron.example/empty")).read_text(encoding="utf-8")
    assert framed(shown).endswith("<p></p>")
    assert "It became no document." in shown
    assert "dropped: no_text" in shown
    with pytest.raises(ValueError, match=f"the nearest it knows is {URL}"):
        page(root, URL + "s")


REST = "<p>Reeds bend in the wind, and rise again when it is gone.</p>"


@pytest.mark.parametrize("kind", ["wacz", "jsonl", "split", "revisit"])
def test_archives_of_every_kind_are_shown(tmp_path: Path, kind: str) -> None:
    goal = KINDS[kind](tmp_path)
    run(Extract(goal), Local(), str(tmp_path / "root"))
    shown = Path(page(str(tmp_path / "root"), URL)).read_text(encoding="utf-8")
    assert framed(shown).endswith(REST)


def in_wacz(folder: Path) -> Ingest:
    archive(folder / "in", other=f"<p>{TEXT}", reeds=REST)
    with zipfile.ZipFile(folder / "a.wacz", "w") as held:
        held.write(folder / "in" / "a.warc.gz", "archive/a.warc.gz")
    return Ingest((str(folder / "a.wacz"),))


def in_table(folder: Path) -> Ingest:
    rows = [{"url": f"http://heron.example/{name}", "html": body} for name, body in (("x", TEXT), ("reeds", REST))]
    (folder / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return Ingest((str(folder / "a.jsonl"),), html="html")


def in_parts(folder: Path) -> Ingest:
    pages = {f"n{n}": f"<p>{n} {TEXT}" for n in range(30)}
    return Ingest((archive(folder / "in", **pages, reeds=REST),), split=2000)


def seen_again(folder: Path) -> Ingest:
    """The same answer at another address, stored as a revisit."""
    archive(folder / "in", other=REST)
    file = folder / "in" / "a.warc.gz"
    answer = b"HTTP/1.1 200 OK\r\nContent-Type: text/html; charset=utf-8\r\n\r\n"
    fetch = Fetch(URL, "2026-11-22T00:00:00Z", b"GET / HTTP/1.1\r\n\r\n", answer + REST.encode())
    digest = records(fetch)[2]
    again = records(fetch, Earlier(IDENTICAL, "http://heron.example/other", "2026-11-21T00:00:00Z", digest))
    file.write_bytes(file.read_bytes() + b"".join(member(one) for one in again[:2]))
    return Ingest((str(file),))


KINDS = {"wacz": in_wacz, "jsonl": in_table, "split": in_parts, "revisit": seen_again}


def test_ranges_of_a_crawl_elsewhere_are_shown(base: Path, tmp_path: Path) -> None:  # noqa: F811 - the fixture
    goal = Extract(CommonCrawl(CRAWL, base=str(base), mimes=("text/html",), domains=("heron.is",)))
    made = run(goal, Local(), str(tmp_path / "root")).dataset.table()
    shown = Path(page(str(tmp_path / "root"), made["url"][3].as_py())).read_text(encoding="utf-8")
    assert made["text"][3].as_py().split("\n")[-1][:30] in framed(shown)


def test_markup_of_an_archived_page_cannot_leave_its_frame(tmp_path: Path) -> None:
    source = archive(tmp_path / "in", x='"></iframe><script>alert(1)</script><p>Some text that stays here.</p>')
    run(Extract(Ingest((source,))), Local(), str(tmp_path / "root"))
    shown = Path(page(str(tmp_path / "root"), "http://heron.example/x")).read_text(encoding="utf-8")
    assert "<script" not in shown
    assert shown.count("</iframe>") == 1
