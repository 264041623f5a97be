"""page: an address as it was archived, as it was read, and what was decided of it."""

import html
from pathlib import Path

import pytest

from tests.test_cli import TEXT
from tundish.cluster.local import Local
from tundish.operators.web.warc_write import pair
from tundish.pipeline.page import page
from tundish.pipeline.run import run
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


def test_page_text_and_decision_stand_side_by_side(root: str, tmp_path: Path) -> None:
    uri = page(root, URL, str(tmp_path / "page.html"))
    shown = Path(uri).read_text(encoding="utf-8")
    frame = html.unescape(shown.partition('srcdoc="')[2].partition('"></iframe>')[0])
    assert frame.endswith(BODY)
    assert frame.startswith('<!doctype html><meta http-equiv="Content-Security-Policy" content="default-src \'none\';')
    assert "<iframe sandbox title=" in shown  # allows no script, no form, no navigation
    assert shown.count("<script") == 0  # that of the archived page is inside the frame's attribute, escaped
    assert "The reeds bend &amp; rise again." in shown
    assert "<dt>Refine <span>" in shown
    assert TEXT[:40] not in shown


def test_an_address_that_became_no_document(root: str) -> None:
    shown = Path(page(root, "http://heron.example/empty")).read_text(encoding="utf-8")
    assert "It became no document." in shown
    assert "dropped: no_text" in shown
    with pytest.raises(ValueError, match=f"the nearest it knows is {URL}"):
        page(root, URL + "s")


def test_markup_of_an_archived_page_cannot_leave_its_frame(tmp_path: Path) -> None:
    source = archive(tmp_path / "in", x='"></iframe><script>alert(1)</script><p>Some text that stays here.</p>')
    run(Extract(Ingest((source,))), Local(), str(tmp_path / "root"))
    shown = Path(page(str(tmp_path / "root"), "http://heron.example/x")).read_text(encoding="utf-8")
    assert "<script" not in shown
    assert shown.count("</iframe>") == 1
