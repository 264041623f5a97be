"""CDXJ: keys as replay tools make them, and an index that leads to the captures."""

import io
import json
from pathlib import Path

import pytest
from fastwarc.warc import ArchiveIterator

from tests.test_crawl import at, page, run
from tundish.cluster import store
from tundish.cluster.shards import opened
from tundish.operators.web.cdxj import key, line


@pytest.mark.parametrize(
    ("url", "found"),
    [  # what the `surt` package gives
        ("http://heron.example/", "example,heron)/"),
        ("https://www.heron.example:8443/A/B/?b=2&A=1", "example,heron:8443)/a/b?a=1&b=2"),
        ("http://www2.heron.example/a//b/", "example,heron)/a/b"),
        ("http://heron.example/%7Ea/%E2%82%AC?x=%2B+y", "example,heron)/~a/%e2%82%ac?x=++y"),
        ("http://heron.example/?b&a=&c=%2525", "example,heron)/?a=&b&c=%25"),
        ("http://10.0.0.1/x", "1,0,0,10)/x"),
        ("http://[2001::1]:8080/", "2001::1:8080)/"),
        ("http://heron.example/a?sid=0123456789abcdef0123456789abcdef&q=1", "example,heron)/a?q=1"),
    ],
)
def test_keys_are_those_of_the_internet_archive(url: str, found: str) -> None:
    assert key(url) == found


def test_a_line_has_strings_alone() -> None:
    made = line("http://heron.example/a", "20261121000000", {"status": 200, "mime": None, "offset": 7})
    place, time, told = made.split(" ", 2)
    assert (place, time) == ("example,heron)/a", "20261121000000")
    assert json.loads(told) == {"url": "http://heron.example/a", "status": "200", "offset": "7"}


@pytest.mark.parametrize("form", ["gz", "zst"])
def test_the_index_of_a_crawl_leads_to_its_captures(form: str, tmp_path: Path) -> None:
    web = {at(): page("/b", "/a?y=1&x=2"), at("/b"): page(text="B."), at("/a?y=1&x=2"): page(text="A.")}
    made = run(web, tmp_path, archive=form)
    index = opened(store.join(made.uri, "cdxj"))
    assert index is not None
    lines = [one for name in index.names for one in store.read(index.path(name)).decode().splitlines()]
    assert [one.split(" ")[0] for one in lines] == ["example,heron)/", "example,heron)/a?x=2&y=1", "example,heron)/b"]
    for one in lines:
        told = json.loads(one.split(" ", 2)[2])
        with open(Path(made.uri) / told["filename"], "rb") as stream:
            stream.seek(int(told["offset"]))
            body = stream.read(int(told["length"]))  # this one record and nothing more
        [record] = ArchiveIterator(io.BytesIO(body), parse_http=False)
        assert record.headers["WARC-Target-URI"] == told["url"]
        assert record.headers["WARC-Payload-Digest"] == "sha1:" + told["digest"]
        assert record.headers["WARC-Date"].translate({ord(c): None for c in "-:TZ"}) == one.split(" ")[1]
