"""Ingest: every form of archive, from anywhere, cut anywhere, gives the same captures."""

import gzip
import io
import json
import random
import threading
import zipfile
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.fs as pafs
import pyarrow.parquet as pq
import pytest
import zstandard

from tundish.cluster import store
from tundish.cluster.local import Local
from tundish.cluster.shards import Dataset
from tundish.operators.web.warc_write import member, pair, record
from tundish.operators.web.wat import told
from tundish.pipeline.run import run
from tundish.stages import ingest_streams
from tundish.stages.archives import Archives
from tundish.stages.extract import Extract
from tundish.stages.ingest import Ingest
from tundish.stages.outlinks import Outlinks
from tundish.stages.stage import Place

DATE = "2026-11-21T09:30:00Z"
WORDS = ("heron", "stands", "in", "still", "water", "and", "waits", "for", "the", "fish", "of", "the", "evening")


def page(n: int) -> bytes:
    chance = random.Random(n)
    text = "".join(f"<p>{' '.join(chance.choices(WORDS, k=40))}.</p>" for _ in range(6))
    return f"<html><head><title>Page {n}</title></head><body><article>{text}</article></body></html>".encode()


def response(body: bytes) -> bytes:
    return b"HTTP/1.1 200 OK\r\nContent-Type: text/html; charset=utf-8\r\n\r\n" + body


def pairs(count: int, start: int = 0) -> list[bytes]:
    ask = b"GET / HTTP/1.1\r\n\r\n"
    urls = [f"http://heron.example/{n}" for n in range(start, start + count)]
    return [pair(u, date=DATE, request=ask, response=response(page(n))) for n, u in enumerate(urls, start)]


def dataset(stage: Ingest, root: Path, workers: int = 1) -> Dataset:
    """Sealed, and read as a later stage would."""
    where = store.join(str(root), stage.address)
    return stage.run(Local(workers), {}, Place(where, stage.fingerprint))


def rows(made: Dataset) -> list[dict[str, Any]]:
    source = Archives(made)
    return [row for name in source.names for batch in source.batches(name, 7) for row in batch.to_pylist()]


# Cuts


def test_one_large_file_gives_the_same_for_any_cut(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "a.warc.gz").write_bytes(b"".join(pairs(60)))
    shards, found = {}, {}
    for split in (64 << 20, 20_000, 5_000, 1):
        made = dataset(Ingest((str(tmp_path / "a"),), split=split), tmp_path / f"r{split}")
        shards[split], found[split] = len(made.shards), rows(made)
    assert [row["url"] for row in found[1]] == [f"http://heron.example/{n}" for n in range(60)]
    assert all(each == found[1] for each in found.values())
    assert shards[64 << 20] == 1 < shards[20_000] < shards[5_000] < shards[1]


def test_documents_do_not_depend_on_workers(tmp_path: Path) -> None:
    (tmp_path / "a.warc.gz").write_bytes(b"".join(pairs(40)))
    goal = Extract(Ingest((str(tmp_path / "a.warc.gz"),), split=4_000))
    digests = {run(goal, Local(n), str(tmp_path / f"root{n}")).dataset.digest for n in (1, 2)}
    assert len(digests) == 1


def test_the_manifest_tells_what_the_files_hold(tmp_path: Path) -> None:
    (tmp_path / "a.warc.gz").write_bytes(b"".join(pairs(3)) + b"\x1f\x8b\x08 broken")
    (tmp_path / "b.warc").write_bytes(gzip.decompress(b"".join(pairs(2, 10))))
    made = dataset(Ingest((str(tmp_path),)), tmp_path / "root")
    assert made.counts == {"record:request": 5, "record:response": 5, "damage:truncated": 1} or made.counts == {
        "record:request": 5,
        "record:response": 5,
        "damage:bad_compression": 1,
    }
    listed = Ingest((str(tmp_path / "a.warc.gz"),)).outside()
    assert [(f["label"], f["size"]) for f in listed] == [("a.warc.gz", (tmp_path / "a.warc.gz").stat().st_size)]
    assert all(len(f["digest"]) == 64 for f in listed)


# Revisits


def revisit(url: str, **named: str) -> bytes:
    fields = {"WARC-Target-URI": url, "WARC-Profile": "http://netpreserve.org/warc/1.1/revisit/x"}
    fields |= {k.replace("_", "-"): v for k, v in named.items()}
    block = b"HTTP/1.1 200 OK\r\nContent-Type: text/html; charset=utf-8\r\nX-Seen: again\r\n\r\n"
    return member(record("revisit", f"<urn:test:{url}>", "2026-12-01T00:00:00Z", "application/http", block, fields))


def test_revisits_are_given_what_they_refer_to(tmp_path: Path) -> None:
    """By record, by address and time, by digest; in the same file or another; one has no original."""
    both = pairs(3)
    plain = gzip.decompress(both[1]).decode()
    payload = [line for line in plain.split("\r\n") if line.startswith("WARC-Payload-Digest")][1].split(" ")[1]
    ident = [line for line in plain.split("\r\n") if line.startswith("WARC-Record-ID")][1].split(" ")[1]
    again = [
        revisit("http://other.example/id", WARC_Refers_To=ident),
        revisit(
            "http://other.example/at",
            **{"WARC_Refers_To_Target_URI": "http://heron.example/2", "WARC_Refers_To_Date": DATE},
        ),
        revisit("http://other.example/digest", WARC_Payload_Digest=payload),
        revisit("http://other.example/none", WARC_Refers_To="<urn:uuid:gone>", WARC_Payload_Digest="sha1:NOT"),
    ]
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "1.warc.gz").write_bytes(again[0] + both[0] + again[1])
    (tmp_path / "a" / "2.warc.gz").write_bytes(both[1] + both[2] + again[2] + again[3])
    found = {}
    for split in (64 << 20, 1):
        made = dataset(Ingest((str(tmp_path / "a"),), split=split), tmp_path / f"r{split}")
        found[split] = rows(made)
    assert found[1] == found[64 << 20]
    by_url = {row["url"]: row for row in found[1] if row["url"]}
    assert by_url["http://other.example/id"]["payload"] == page(1)
    assert by_url["http://other.example/at"]["payload"] == page(2)
    assert by_url["http://other.example/digest"]["payload"] == page(1)
    assert by_url["http://other.example/id"]["date"] == "2026-12-01T00:00:00Z"
    assert json.loads(by_url["http://other.example/id"]["headers"])["x-seen"] == "again"
    assert [row["damage"] for row in found[1] if row["damage"]] == ["revisit"]


def test_an_input_that_moved_is_the_same_input(tmp_path: Path) -> None:
    digests = []
    for name in ("here", "there"):
        (tmp_path / name / "a").mkdir(parents=True)
        (tmp_path / name / "a" / "1.warc.gz").write_bytes(
            pairs(1)[0]
            + revisit("http://o.example/", WARC_Refers_To_Target_URI="http://heron.example/0", WARC_Refers_To_Date=DATE)
        )
        digests.append(dataset(Ingest((str(tmp_path / name / "a"),)), tmp_path / f"r{name}").digest)
    assert digests[0] == digests[1]


# Forms


def test_verify_leaves_out_what_was_changed(tmp_path: Path) -> None:
    plain = gzip.decompress(pairs(1)[0])
    changed = plain.replace(b"<title>Page 0", b"<title>Page 9")
    (tmp_path / "a.warc").write_bytes(gzip.decompress(pairs(1, 5)[0]) + changed)
    kept = rows(dataset(Ingest((str(tmp_path / "a.warc"),)), tmp_path / "1"))
    checked = rows(dataset(Ingest((str(tmp_path / "a.warc"),), verify=True), tmp_path / "2"))
    assert [row["damage"] for row in kept] == [None, None]
    assert [row["damage"] for row in checked] == [None, "bad_digest"]


@pytest.mark.parametrize("stored", [True, False])
def test_wacz_is_read_in_place(tmp_path: Path, stored: bool) -> None:
    body = b"".join(pairs(30))
    with zipfile.ZipFile(tmp_path / "a.wacz", "w") as held:
        held.writestr("datapackage.json", "{}")
        held.writestr("archive/b.warc.gz", body, zipfile.ZIP_STORED if stored else zipfile.ZIP_DEFLATED)
        held.writestr("archive/a.warc", gzip.decompress(pairs(1, 50)[0]), zipfile.ZIP_STORED)
        held.writestr("pages/pages.jsonl", "{}\n", zipfile.ZIP_DEFLATED)
    made = dataset(Ingest((str(tmp_path / "a.wacz"),), split=4_000), tmp_path / "root")
    assert len(made.shards) > 5
    found = rows(made)
    assert [row["url"] for row in found] == [f"http://heron.example/{n}" for n in (50, *range(30))]
    assert found[1]["source"] == "a.wacz/archive/b.warc.gz:" + found[1]["source"].rpartition(":")[2]
    assert found[3]["payload"] == page(2)


@pytest.mark.parametrize("body", [b"", b"PK\x03\x04 no zip", b"PK\x05\x06" + bytes(18)])
def test_what_is_no_wacz_is_told(tmp_path: Path, body: bytes) -> None:
    (tmp_path / "a.wacz").write_bytes(body)
    found = rows(dataset(Ingest((str(tmp_path / "a.wacz"),)), tmp_path / "root"))
    assert {row["damage"] for row in found} <= {"not_warc"}


@pytest.mark.parametrize("stored", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_a_broken_wacz_costs_itself(tmp_path: Path, stored: int) -> None:
    """Bytes changed anywhere: rows come, or damage; what lies in another file comes in any case."""
    whole = io.BytesIO()
    with zipfile.ZipFile(whole, "w") as held:
        held.writestr("archive/b.warc.gz", b"".join(pairs(2)), stored)
        held.writestr("archive/a.warc", gzip.decompress(pairs(1, 50)[0]), stored)
    (tmp_path / "a" / "z.warc.gz").parent.mkdir()
    (tmp_path / "a" / "z.warc.gz").write_bytes(pairs(1, 77)[0])
    for seed in range(40):
        chance, hurt = random.Random(seed), bytearray(whole.getvalue())
        low = 0 if seed % 2 else len(hurt) - 250  # the directory at its end, every other time
        for _ in range(3):
            hurt[chance.randrange(low, len(hurt))] = chance.randrange(256)
        (tmp_path / "a" / "a.wacz").write_bytes(bytes(hurt))
        found = rows(dataset(Ingest((str(tmp_path / "a"),)), tmp_path / f"r{seed}"))
        assert found[-1]["url"] == "http://heron.example/77"


def test_real_wacz(data: Path, tmp_path: Path) -> None:
    [row] = rows(dataset(Ingest((str(data / "warc/files/pywb/valid_example_1.wacz"),)), tmp_path / "root"))
    assert (row["url"], row["status"]) == ("http://www.example.com/", 200)


def test_tables_with_pages(tmp_path: Path) -> None:
    table = pa.table(
        {
            "where": [*(f"http://heron.example/{n}" for n in range(50)), None],
            "content": [page(n) for n in range(51)],
            "seen": [pa.scalar(1_700_000_000_000, pa.timestamp("ms", "UTC")).as_py()] * 51,
        }
    )
    pq.write_table(table, tmp_path / "a.parquet", row_group_size=8)
    lines = [json.dumps({"where": f"http://heron.example/x{n}", "content": page(n).decode()}) for n in range(3)]
    (tmp_path / "b.jsonl").write_text("\n".join([*lines, '{"where": "http://heron.example/none"}']))
    (tmp_path / "c.md").write_bytes(b"no table")
    asked = dict(html="content", url="where", date="seen")
    found = {}
    for split in (64 << 20, 1):
        made = dataset(Ingest((f"{tmp_path}/[ab].*",), split=split, **asked), tmp_path / f"r{split}")
        found[split] = rows(made)
    assert found[1] == found[64 << 20]
    assert [row["damage"] for row in found[1]] == [None] * 50 + ["bad_record"] + [None] * 3 + ["bad_record"]
    assert found[1][7] | {"payload": b""} == {
        "url": "http://heron.example/7",
        "date": "2023-11-14T22:13:20Z",
        "opted": None,
        "status": 0,
        "mime": "text/html",
        "headers": '{"content-type": "text/html"}',
        "payload": b"",
        "truncated": False,
        "source": "a.parquet:7",
        "damage": None,
        "detail": None,
    }
    goal = Extract(Ingest((str(tmp_path / "b.jsonl"),), **asked))
    assert run(goal, Local(), str(tmp_path / "root")).dataset.rows == 3


def test_broken_rows_of_tables_are_damage(tmp_path: Path) -> None:
    lines = [json.dumps({"url": f"http://heron.example/{n}", "html": page(n).decode()}).encode() for n in range(30)]
    lines[10:10] = [b"{broken", b'{"url": "http://heron.example/x", "html": "\xff"}']
    (tmp_path / "tables").mkdir()
    (tmp_path / "tables" / "a.jsonl").write_bytes(b"\n".join(lines))
    (tmp_path / "tables" / "b.jsonl.gz").write_bytes(gzip.compress(b"\n".join(lines[:9]))[:-9])
    found = {}
    for split in (64 << 20, 1):
        found[split] = rows(
            dataset(Ingest((str(tmp_path / "tables"),), html="html", split=split), tmp_path / f"r{split}")
        )
    assert found[1] == found[64 << 20]
    damaged = [(row["source"], row["damage"]) for row in found[1] if row["damage"]]
    assert damaged == [("a.jsonl:10", "bad_row"), ("a.jsonl:11", "undecodable"), ("b.jsonl.gz:8", "truncated")]
    assert len(found[1]) == 32 + 9
    with pytest.raises(
        ValueError, match=r"a\.jsonl has no 'page' \(it has url, html\); name the right key in Ingest\.html"
    ):
        rows(dataset(Ingest((str(tmp_path / "tables"),), html="page"), tmp_path / "none"))


@pytest.mark.parametrize("name", ["a.WACZ", "b.wacz"])
def test_archives_elsewhere_in_a_wacz_are_found(tmp_path: Path, name: str) -> None:
    with zipfile.ZipFile(tmp_path / name, "w") as held:
        held.writestr("warcs/a.warc.gz", pairs(1)[0])
        held.writestr("pages/pages.jsonl", "{}\n")
    [row] = rows(dataset(Ingest((str(tmp_path / name),)), tmp_path / "root"))
    assert row["url"] == "http://heron.example/0"


def test_an_archive_whose_head_is_lost_is_ingested(tmp_path: Path) -> None:
    (tmp_path / "a.warc.gz").write_bytes(b"".join(pairs(40))[60:])
    found = []
    for split in (64 << 20, 4_000):
        made = dataset(Ingest((str(tmp_path / "a.warc.gz"),), split=split), tmp_path / f"r{split}")
        found.append(rows(made))
        assert (len(made.shards) > 3) == (split == 4_000)
        assert made.counts["damage:not_warc"] == 1
    assert found[0] == found[1]
    assert [row["damage"] for row in found[0]] == ["not_warc"] + [None] * (len(found[0]) - 1)
    assert len(found[0]) >= 40


# WAT


def test_outlinks_of_a_wat_file(data: Path, tmp_path: Path) -> None:
    """The sample's envelope is that of a request, so one with a page is laid beside it."""
    envelope = {
        "Envelope": {
            "WARC-Header-Metadata": {"WARC-Target-URI": "http://heron.example/a/", "WARC-Date": DATE},
            "Payload-Metadata": {
                "HTTP-Response-Metadata": {
                    "Response-Message": {"Status": "200"},
                    "Headers": {"Content-Type": "text/html; charset=utf-8"},
                    "HTML-Metadata": {
                        "Head": {"Title": "Herons"},
                        "Links": [
                            {"path": "A@/href", "url": "b?x=1", "text": "a heron"},
                            {"path": "A@/href", "url": "mailto:nobody@heron.example"},
                            {"path": "IMG@/src", "url": "/heron.png"},
                            "no link",
                        ],
                    },
                }
            },
        }
    }
    block = json.dumps(envelope).encode()
    fields = {"WARC-Target-URI": "http://heron.example/a/"}
    (tmp_path / "a.warc.wat.gz").write_bytes(
        member(record("metadata", "<urn:x>", DATE, "application/json", block, fields))
        + member(record("metadata", "<urn:y>", DATE, "application/json", b"{oops", fields))
    )
    real = str(data / "warc/files/whirlwind-python/whirlwind.warc.wat.gz")
    source = Ingest((str(tmp_path / "a.warc.wat.gz"), real))
    outcome = run(Outlinks(source), Local(), str(tmp_path / "root"))
    [link] = outcome.dataset.table().to_pylist()
    assert (link["target"], link["text"], link["place"]) == ("http://heron.example/a/b?x=1", "a heron", "A@/href")
    assert outcome.dataset.counts["damage:bad_record"] == 1
    every = run(Outlinks(source, every=True), Local(), str(tmp_path / "root")).dataset.table()
    assert every["target"].to_pylist()[-1] == "http://heron.example/heron.png"
    with pytest.raises(ValueError, match="top reasons: wat 3"):
        run(Extract(source), Local(), str(tmp_path / "root"))


def test_outlinks_of_pages(tmp_path: Path) -> None:
    body = b'<a href="/b">b</a><a href="http://other.example/">o</a>'
    one = pair("http://heron.example/a", date=DATE, request=b"GET / HTTP/1.1\r\n\r\n", response=response(body))
    (tmp_path / "a.warc.gz").write_bytes(one)
    found = run(Outlinks(Ingest((str(tmp_path / "a.warc.gz"),))), Local(), str(tmp_path / "root")).dataset.table()
    assert found["target"].to_pylist() == ["http://heron.example/b", "http://other.example/"]


@pytest.mark.parametrize("block", [b"", b"[]", b"{}", b"[" * 100_000, b'{"Envelope": 3}', b"\xff\xfe"])
def test_what_is_no_envelope(block: bytes) -> None:
    with pytest.raises(ValueError, match=r"JSON|envelope"):
        told(block)


def test_envelopes_of_wrong_types() -> None:
    odd = {"Envelope": {"Payload-Metadata": {"HTTP-Response-Metadata": {"Headers": {"a": ["b"], "\ud800": "\udfff"}}}}}
    found = told(json.dumps(odd).encode())
    assert found is not None
    assert (found.url, found.status, found.links) == ("", 0, ())
    assert json.dumps(found.headers, ensure_ascii=False).encode()


# Elsewhere


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """`s3://bucket/` as a folder: the same calls, without a network."""
    folder = tmp_path / "bucket"
    folder.mkdir()
    real = store.resolve
    inner = pafs.SubTreeFileSystem(str(folder), pafs.LocalFileSystem())

    def resolve(uri: str, parts: bool = False) -> tuple[pafs.FileSystem, str]:
        scheme, _, path = uri.partition("://bucket")
        return (inner, path.strip("/")) if scheme == "s3" else real(uri)

    monkeypatch.setattr(store, "resolve", resolve)
    return folder


def test_archives_in_a_bucket(elsewhere: Path, tmp_path: Path) -> None:
    (elsewhere / "a.warc.zst").write_bytes(b"".join(zstandard.compress(gzip.decompress(p)) for p in pairs(3)))
    with zipfile.ZipFile(elsewhere / "b.wacz", "w") as held:
        held.writestr("archive/b.warc.gz", pairs(1, 9)[0])
    made = dataset(Ingest(("s3://bucket/a.warc.zst", "s3://bucket/b.wacz")), tmp_path / "root")
    assert [row["url"][-1] for row in rows(made)] == ["0", "1", "2", "9"]


@pytest.mark.parametrize("name", ["a.warc.gz", "a.warc.zst", "a.arrow.bz2", "a.txt"])
def test_what_is_written_to_a_bucket_is_what_lies_there(elsewhere: Path, name: str) -> None:
    """pyarrow would compress by the name: archives of a crawl for the second time."""
    body = gzip.compress(b"a body that is compressed already", mtime=0)
    store.write(f"s3://bucket/in/{name}", body)
    assert (elsewhere / "in" / name).read_bytes() == body == store.read(f"s3://bucket/in/{name}")


@pytest.mark.parametrize(
    ("uris", "labels"),
    [
        (["s3://bucket/crawls/one/a.warc.gz", "s3://bucket/crawls/two/a.warc.gz"], ["one/a.warc.gz", "two/a.warc.gz"]),
        (["s3://bucket/crawls/one/a.warc.gz"], ["a.warc.gz"]),
        (["/crawls/one/a.warc.gz", "/crawls/b.warc.gz"], ["b.warc.gz", "one/a.warc.gz"]),
    ],
)
def test_files_are_named_below_their_common_folder(
    uris: list[str], labels: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "matching", lambda _: uris)
    monkeypatch.setattr("tundish.stages.ingest.digest_once", lambda uri: uri)
    monkeypatch.setattr(store, "size", len)
    assert [file["label"] for file in Ingest(("anything",))._files()] == labels


Answer = Callable[[BaseHTTPRequestHandler, int, int, bytes], bool]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[tuple[str, Path, dict[str, Any]]]:
    """A folder over HTTP with ranges. `state["trouble"]` may answer instead; `state["asked"]` holds the ranges."""
    folder = tmp_path / "served"
    folder.mkdir()
    state: dict[str, Any] = {"asked": [], "trouble": None}

    class Serve(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_HEAD(self) -> None:
            self.answer(body=False)

        def do_GET(self) -> None:
            self.answer(body=True)

        def answer(self, body: bool) -> None:
            path = folder / self.path.lstrip("/")
            if not path.is_file():
                self.send_error(404)
                return
            raw = path.read_bytes()
            low, high = 0, len(raw)
            if asked := self.headers.get("Range"):
                first, _, last = asked.removeprefix("bytes=").partition("-")
                low, high = int(first), min(len(raw), int(last) + 1 if last else len(raw))
            if body:
                state["asked"].append((self.path, low, high))
                if state["trouble"] and state["trouble"](self, low, high, raw):
                    return
            self.send_response(206 if asked else 200)
            self.send_header("Accept-Ranges", "bytes")
            self.send_header("Content-Length", str(high - low))
            if asked:
                self.send_header("Content-Range", f"bytes {low}-{high - 1}/{len(raw)}")
            self.end_headers()
            if body:
                self.wfile.write(raw[low:high])

        def log_message(self, *_: Any) -> None:
            pass

    made = ThreadingHTTPServer(("127.0.0.1", 0), Serve)
    thread = threading.Thread(target=made.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{made.server_address[1]}", folder, state
    made.shutdown()
    made.server_close()


def busy_then_cut(times: int) -> Answer:
    """503 at first, then answers that break off half-way, `times` each."""
    left = {"busy": times, "cut": times}

    def trouble(handler: BaseHTTPRequestHandler, low: int, high: int, raw: bytes) -> bool:
        if left["busy"]:
            left["busy"] -= 1
            handler.send_error(503)
            return True
        if left["cut"]:
            left["cut"] -= 1
            handler.send_response(206)
            handler.send_header("Content-Length", str(high - low))
            handler.send_header("Content-Range", f"bytes {low}-{high - 1}/{len(raw)}")
            handler.end_headers()
            handler.wfile.write(raw[low : (low + high) // 2])
            handler.close_connection = True
            return True
        return False

    return trouble


def test_a_server_that_asks_for_patience_and_hangs_up(
    server: tuple[str, Path, dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("aiohttp")
    base, folder, state = server
    slept: list[float] = []
    monkeypatch.setattr(ingest_streams.time, "sleep", slept.append)
    (folder / "a.warc.gz").write_bytes(b"".join(pairs(20)))
    made = dataset(Ingest((f"{base}/a.warc.gz",)), tmp_path / "root")
    state["trouble"] = busy_then_cut(2)
    assert [row["url"] for row in rows(made)] == [f"http://heron.example/{n}" for n in range(20)]
    assert slept[:4] == [1.0, 2.0, 4.0, 8.0]


def test_patience_ends_and_says_so(
    server: tuple[str, Path, dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("aiohttp")
    base, folder, state = server
    monkeypatch.setattr(ingest_streams.time, "sleep", lambda seconds: None)
    (folder / "a.warc.gz").write_bytes(b"".join(pairs(2)))
    made = dataset(Ingest((f"{base}/a.warc.gz",)), tmp_path / "root")
    state["trouble"] = busy_then_cut(10**6)
    with pytest.raises(ValueError, match=r"cannot read the URI 'http://127.*503"):
        rows(made)


def test_windows_are_streams() -> None:
    window = ingest_streams.Window(io.BytesIO(bytes(range(100))), 10, 20)
    assert window.read(3) == bytes([10, 11, 12])
    assert (window.seek(-2, 2), window.read(9), window.read(1), window.tell()) == (18, bytes([28, 29]), b"", 20)
