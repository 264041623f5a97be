"""88 real archives: what they hold, counted by type beside another reader; what is wrong with them; where they cut."""

import io
import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tundish.operators.web.arc import records_of
from tundish.operators.web.walk import Found
from tundish.operators.web.warc import Capture, Damage, captures, cuts

NO_ARCHIVE = (".cdx", ".cdxj", ".cdx.gz", ".idx", ".loc", ".wacz", ".paths.gz")
ONE_MEMBER = "one gzip member for all records: the other reader gives up after the first, we read on"
NO_LZ4 = "LZ4: the other reader has none"
BAD_LENGTHS = "two lengths are -1 and one is abc: told as damage, not counted as records"

# Files counted otherwise than the manifest: ours, and why. docs/ingest.md tells it to people.
OTHERWISE = {
    "warcio/bad.arc": ({"response": 1}, BAD_LENGTHS),
    "pywb/bad.arc": ({"response": 1}, BAD_LENGTHS),
    "warcio/example-bad-non-chunked.warc.gz": (
        {"warcinfo": 2, "response": 1, "request": 2, "revisit": 1},
        ONE_MEMBER,
    ),
    "warcio/example-bad.warc.gz.bad": ({"warcinfo": 1, "response": 2, "request": 2, "revisit": 1}, ONE_MEMBER),
    "pywb/example-bad.warc.gz.bad": ({"warcinfo": 1, "response": 2, "request": 2, "revisit": 1}, ONE_MEMBER),
    "warcio/example-wrong-chunks.warc.gz": (
        {"response": 1, "request": 1},
        "the other reader trips over the chunks of the response; the request after it is there",
    ),
    "chatnoir-resiliparse/block-sized-records.warc.lz4": ({"unknown": 3}, NO_LZ4),
    "chatnoir-resiliparse/warcfile.warc.lz4": (
        {"warcinfo": 1, "request": 17, "response": 16, "metadata": 16},
        NO_LZ4,
    ),
    "warc2zim/single-page-test.warc": (
        {"warcinfo": 2, "response": 52, "request": 53, "revisit": 1},
        "the manifest has no count",
    ),
}
DAMAGED = {
    "warcio/bad.arc": [(0, "bad_record"), (134, "bad_record"), (202, "bad_http"), (262, "bad_record")],
    "pywb/bad.arc": [(0, "bad_record"), (134, "bad_record"), (202, "bad_http"), (262, "bad_record")],
    "warcio/example-trunc.warc": [(1197, "bad_record")],
    "pywb/example.warc": [(4061, "bad_record")],
    "pywb/example-extra.warc": [(3207, "bad_http")],
    "pywb/missing-status-text.warc": [(0, "truncated")],
    "warc2zim/http-return-codes.warc.gz": [(13074, "bad_http")],
    "whirlwind-python/whirlwind.warc.wat": [(545, "wat")],
    "whirlwind-python/whirlwind.warc.wat.gz": [(443, "wat")],
}
# Captures whose digests are not theirs, and how many.
MISMATCHED = {
    "warcio/example-trunc.warc": 1,  # the block ends early
    "warcio/example-wrong-chunks.warc.gz": 1,  # its chunks were changed after it was written
    "pywb/example-extra.warc": 1,  # the response whose status line was made HTTPX
    "chatnoir-resiliparse/clueweb-quirk.warc.gz": 29,  # all of them, and why is not known
    "warc2zim/example-with-timestamp.warc": 1,  # changed after it was written
}


def manifest(data: Path) -> Iterator[tuple[str, dict, bytes]]:
    for line in (data / "warc" / "manifest.jsonl").read_text().split("\n"):
        if line:
            row = json.loads(line)
            yield row["file"].removeprefix("files/"), row, (data / "warc" / row["file"]).read_bytes()


@pytest.fixture(scope="module")
def files() -> list[tuple[str, dict, bytes]]:
    data = Path(__file__).parents[2] / "shared" / "data"
    if not (data / "warc").is_dir():
        pytest.skip("no real archives here")
    return list(manifest(data))


def counted(raw: bytes) -> dict[str, int]:
    found = (r.record.record_type for r in records_of(io.BytesIO(raw)) if isinstance(r, Found))
    return dict(Counter(str(kind).rpartition(".")[2] for kind in found))


def test_records_of_each_type(files: list[tuple[str, dict, bytes]]) -> None:
    differing = {}
    for name, row, raw in files:
        ours = counted(raw)
        if ours != (row.get("warcio_records") or {}):
            differing[name] = ours
    assert len(files) == 88
    assert differing == {name: ours for name, (ours, _) in OTHERWISE.items()}


def test_html_responses(files: list[tuple[str, dict, bytes]]) -> None:
    """As many HTML responses as the other reader found, where both read the same records."""
    for name, row, raw in files:
        if row.get("html_responses") is None or name in OTHERWISE:
            continue
        pages = [c for c in captures(io.BytesIO(raw)) if isinstance(c, Capture) and c.kind == "response"]
        cut_short = 1 if name == "pywb/example-extra.warc" else 0  # its second status line begins HTTPX
        assert sum(page.mime == "text/html" for page in pages) == row["html_responses"] - cut_short, name


def test_what_is_wrong_is_told(files: list[tuple[str, dict, bytes]]) -> None:
    told = {
        n: [(d.offset, d.reason) for d in captures(io.BytesIO(raw)) if isinstance(d, Damage)] for n, _, raw in files
    }
    for name in [n for n in told if n.endswith(NO_ARCHIVE)]:
        assert [reason for _, reason in told.pop(name)] == ["not_warc"], name
    assert {name: damage for name, damage in told.items() if damage} == DAMAGED


def test_digests(files: list[tuple[str, dict, bytes]]) -> None:
    found = {}
    right = 0
    for name, _, raw in files:
        told = list(captures(io.BytesIO(raw), verify=True))
        right += sum(isinstance(one, Capture) for one in told)
        if wrong := sum(isinstance(one, Damage) and one.reason == "bad_digest" for one in told):
            found[name] = wrong
    assert found == MISMATCHED
    assert right > 430


def test_ranges_give_what_one_pass_gives(files: list[tuple[str, dict, bytes]]) -> None:
    many = 0
    for name, _, raw in files:
        whole = list(captures(io.BytesIO(raw), revisits=True))
        for size in (2_000, 20_000):
            ranges = cuts(io.BytesIO(raw), size=size)
            many += len(ranges) > 1
            parts = [c for start, n in ranges for c in captures(io.BytesIO(raw), start=start, records=n, revisits=True)]
            assert parts == whole, name
            assert ranges[-1][1] is None
    assert many > 30


def test_arc_captures_are_those_of_the_warc_beside_it(files: list[tuple[str, dict, bytes]]) -> None:
    """The same page was written in both formats."""
    raws = {name: raw for name, _, raw in files}
    [arc] = captures(io.BytesIO(raws["warcio/example.arc.gz"]))
    [plain] = captures(io.BytesIO(raws["warcio/example.arc"]))
    warc = next(c for c in captures(io.BytesIO(raws["warcio/example.warc.gz"])) if isinstance(c, Capture))
    assert (arc.url, arc.date, arc.status, arc.mime) == (warc.url, "2014-02-16T05:02:21Z", 200, "text/html")
    assert arc.payload == plain.payload
    assert arc.payload.split() == warc.payload.split()
    [spaced] = captures(io.BytesIO(raws["warcio/example-space-in-url.arc"]))
    assert spaced.url.endswith("EmailTitle=Examples From The Live Web&IsPopUp=False")


def test_the_page_about_it_names_every_difference() -> None:
    page = (Path(__file__).parents[1] / "docs" / "ingest.md").read_text()
    for name in {*OTHERWISE, *DAMAGED, *MISMATCHED}:
        assert f"`{name.split('/')[1]}`" in page, name
