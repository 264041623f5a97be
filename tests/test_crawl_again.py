"""Crawling again: what has not changed is not sent, not stored and still followed."""

import io
from collections.abc import Callable
from pathlib import Path

from fastwarc.warc import ArchiveIterator, WarcRecordType

from tests.test_crawl import Pages, at, crawl, fate, log, page, run
from tundish.cluster import store
from tundish.cluster.shards import Dataset
from tundish.cluster.wire import Request, Response, Toy


def tagged(answer: Response, tag: str) -> Callable[[Request], Response]:
    """A server that knows `If-None-Match` and `If-Modified-Since`."""

    def answered(request: Request) -> Response:
        asked = dict(request.headers)
        if asked.get("If-None-Match") == tag:
            return Response("", 304, (("ETag", tag),))
        return Response("", answer.status, (*answer.headers, ("ETag", tag)), answer.body)

    return answered


def web(second: str = "Second.") -> Pages:
    return {
        at(): tagged(page("/a", "/b", "/c"), '"1"'),
        at("/a"): page("/d", text="No tag."),
        at("/b"): tagged(page("/e", text=second), f'"{second}"'),
        at("/c"): page(text=f"Changes: {second}"),
        at("/d"): page(),
        at("/e"): page(),
    }


def revisits(made: Dataset) -> dict[str, dict[str, str]]:
    found = {}
    for name in made.names:
        stream = io.BytesIO(store.read(made.path(name)))
        for record in ArchiveIterator(stream, record_types=WarcRecordType.revisit, parse_http=False):
            found[record.headers["WARC-Target-URI"]] = dict(record.headers) | {"body": record.reader.read().decode()}
    return found


def test_what_has_not_changed_is_a_revisit_and_its_links_are_followed(tmp_path: Path) -> None:
    first = run(web(), tmp_path / "one")
    root = str(tmp_path / "one")
    second = run(web("Other."), tmp_path / "two", earlier=(root,), as_of="2026-12-21")
    assert fate(second) == {
        at(): ("unchanged", "not_modified"),
        at("/a"): ("unchanged", "identical"),
        at("/b"): ("stored", None),
        at("/c"): ("stored", None),
        at("/d"): ("unchanged", "identical"),
        at("/e"): ("unchanged", "identical"),
    }
    assert second.about["counts"]["unchanged"] == 4
    assert second.rows == 6
    found, before, after = revisits(second), log(first), log(second)
    assert set(found) == {at(), at("/a"), at("/d"), at("/e")}
    assert found[at()]["WARC-Profile"].endswith("/revisit/server-not-modified")
    assert found[at("/a")]["WARC-Profile"].endswith("/revisit/identical-payload-digest")
    assert found[at("/a")]["WARC-Payload-Digest"] == before[at("/a")]["digest"] == after[at("/a")]["digest"]
    assert found[at("/a")]["body"].startswith("HTTP/1.1 200 OK\r\n")
    assert found[at("/a")]["body"].endswith("\r\n\r\n")
    assert after[at()]["status"] == 304
    # a third crawl refers to where the payload lies, not to the second's revisit
    third = run(web("Other."), tmp_path / "three", earlier=(str(tmp_path / "two"),), as_of="2027-01-21")
    assert {outcome for outcome, _ in fate(third).values()} == {"unchanged"}
    assert log(third)[at()]["held"] == after[at()]["held"]
    assert str(log(third)[at("/b")]["held"]).startswith(second.uri)


def test_an_earlier_archive_that_is_gone_is_made_up_for(tmp_path: Path) -> None:
    first = run(web(), tmp_path / "one")
    for name in first.names:
        Path(first.path(name)).unlink()
    toy = Toy(web())
    second = run(toy, tmp_path / "two", earlier=(str(tmp_path / "one"),), as_of="2026-12-21")
    assert fate(second)[at()] == ("stored", None)  # asked again without the tag, for its links are needed
    assert [url for url, _ in toy.asked].count(at()) == 2
    assert at("/e") in fate(second)
    assert at() not in revisits(second)


def test_which_crawl_is_taken(tmp_path: Path) -> None:
    first = run(web(), tmp_path / "one")
    same = crawl(earlier=(str(tmp_path / "one"),), as_of="2026-12-21")
    moved = crawl(earlier=(str(tmp_path / "elsewhere" / "one"),), as_of="2026-12-21")
    assert same.fingerprint == moved.fingerprint
    assert same.outside() == [{"earlier": first.address, "digest": first.digest}]
