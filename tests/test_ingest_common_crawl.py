"""A Common Crawl in miniature: the lists, the columnar index and the archives as they are published, all made here."""

import gzip
import hashlib
import shutil
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.test_ingest import DATE, member, page, pair, record, rows, server  # noqa: F401 - a fixture
from tundish.cluster.local import Local
from tundish.cluster.shards import opened
from tundish.operators.web.walk import Damage
from tundish.pipeline.run import run
from tundish.stages.common_crawl import CommonCrawl
from tundish.stages.common_crawl_fetch import fetched
from tundish.stages.common_crawl_index import Query, overlaps, surt
from tundish.stages.extract import Extract
from tundish.stages.stage import Place

CRAWL = "CC-MAIN-2025-05"
NAMES = ("auk", "heron", "ibis", "rail", "tern")
DOMAINS = [f"{name}.{tld}" for tld in ("com", "example", "is", "org") for name in NAMES]
LANGUAGES = ("eng", "isl", "isl,eng", "deu", None)
PER_DOMAIN, PER_GROUP, INDEX_FILES, ARCHIVES = 10, 20, 5, 4
# The columns of cc-index-table that this project reads, and some it does not, with their published types.
SCHEMA = pa.schema(
    [
        ("url_surtkey", pa.string()),
        ("url", pa.string()),
        ("url_host_name", pa.string()),
        ("url_host_tld", pa.string()),
        ("url_host_registered_domain", pa.string()),
        ("url_protocol", pa.string()),
        ("url_path", pa.string()),
        ("fetch_time", pa.timestamp("ms")),
        ("fetch_status", pa.int16()),
        ("content_digest", pa.string()),
        ("content_mime_type", pa.string()),
        ("content_mime_detected", pa.string()),
        ("content_charset", pa.string()),
        ("content_languages", pa.string()),
        ("warc_filename", pa.string()),
        ("warc_record_offset", pa.int32()),
        ("warc_record_length", pa.int32()),
        ("warc_segment", pa.string()),
    ]
)


def pages() -> list[dict[str, Any]]:
    """What was crawled: ten pages of each domain, on `www` and on `blog`, in five languages."""
    found = []
    for d, domain in enumerate(DOMAINS):
        for n in range(PER_DOMAIN):
            host = f"{('www', 'blog')[n % 2]}.{domain}"
            mime = "application/pdf" if n == 9 else "text/html"
            row = {"host": host, "domain": domain, "n": n, "number": d * PER_DOMAIN + n, "mime": mime}
            found.append(row | {"language": LANGUAGES[n % 5], "url": f"https://{host}/p/{n}"})
    return found


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return mirrored(tmp_path_factory.mktemp("commoncrawl"))


def mirrored(top: Path) -> Path:
    """A folder that holds what Common Crawl would publish of these pages."""
    crawl = f"crawl-data/{CRAWL}"
    names = [f"{crawl}/segments/1736703361941.29/warc/CC-MAIN-2025-{n:05d}.warc.gz" for n in range(ARCHIVES)]
    bodies = {name: b"" for name in names}
    index = []
    for row in pages():
        name = names[int(hashlib.sha256(row["url"].encode()).hexdigest(), 16) % ARCHIVES]
        answer = b"HTTP/1.1 200 OK\r\nContent-Type: text/html; charset=utf-8\r\n\r\n" + page(row["number"])
        both = pair(row["url"], date=DATE, request=b"GET / HTTP/1.1\r\n\r\n", response=answer)
        at = both.index(b"\x1f\x8b\x08", 10)  # the response follows the request
        offset, length = len(bodies[name]) + at, len(both) - at
        bodies[name] += both
        index.append(row | {"filename": name, "offset": offset, "length": length})
    for name, body in bodies.items():
        (top / name).parent.mkdir(parents=True, exist_ok=True)
        (top / name).write_bytes(body)
    listed(top / crawl / "warc.paths.gz", names)
    wet = f"{crawl}/segments/1736703361941.29/wet/CC-MAIN-2025-00000.warc.wet.gz"
    (top / wet).parent.mkdir(parents=True)
    (top / wet).write_bytes(texts())
    listed(top / crawl / "wet.paths.gz", [wet])
    listed(top / crawl / "cc-index-table.paths.gz", write_index(top, index))
    return top


def listed(path: Path, names: list[str]) -> None:
    path.write_bytes(gzip.compress("".join(f"{name}\n" for name in names).encode()))


def texts() -> bytes:
    fields = {"WARC-Target-URI": "https://www.heron.is/"}
    text = ("Hegrinn stendur kyrr í vatninu og bíður eftir fiskinum. " * 9).encode()
    return member(record("conversion", "<urn:w>", DATE, "text/plain", text, fields))


def write_index(top: Path, index: list[dict[str, Any]]) -> list[str]:
    made = [
        {
            "url_surtkey": f"{surt(row['host'])})/p/{row['n']}",
            "url": row["url"],
            "url_host_name": row["host"],
            "url_host_tld": row["domain"].rpartition(".")[2],
            "url_host_registered_domain": row["domain"],
            "url_protocol": "https",
            "url_path": f"/p/{row['n']}",
            "fetch_time": datetime(2026, 11, 21, tzinfo=UTC).replace(tzinfo=None),
            "fetch_status": 200,
            "content_mime_type": row["mime"],
            "content_mime_detected": row["mime"],
            "content_charset": "UTF-8",
            "content_languages": row["language"],
            "warc_filename": row["filename"],
            "warc_record_offset": row["offset"],
            "warc_record_length": row["length"],
        }
        for row in index
    ]
    made.sort(key=lambda row: row["url_surtkey"])
    table = f"cc-index/table/cc-main/warc/crawl={CRAWL}"
    names, each = [], len(made) // INDEX_FILES
    for subset in ("robotstxt", "warc"):
        (top / table / f"subset={subset}").mkdir(parents=True)
        for n in range(INDEX_FILES):
            names.append(f"{table}/subset={subset}/part-{n:05d}-5c1f.c000.gz.parquet")
            part = pa.Table.from_pylist(made[n * each : (n + 1) * each], schema=SCHEMA)
            pq.write_table(part, top / names[-1], row_group_size=PER_GROUP, compression="gzip")
    return names


def found(base: Path, root: Path, workers: int = 1, **asked: Any) -> tuple[set[str], dict[str, int], Any]:
    """Addresses, what the index counted, and the dataset."""
    stage = CommonCrawl(CRAWL, base=str(base), **asked)
    made = stage.run(Local(workers), {}, Place(str(root / stage.address), stage.fingerprint))
    index = opened(f"{made.uri}/index")
    assert index is not None
    return {row["url"] for row in rows(made)}, index.counts, made


@pytest.mark.parametrize(
    ("asked", "wanted"),
    [
        ({}, lambda p: True),
        ({"languages": ("isl",)}, lambda p: (p["language"] or "").startswith("isl")),
        ({"domains": ("heron.is", "Auk.com")}, lambda p: p["domain"] in ("heron.is", "auk.com")),
        ({"hosts": ("blog.heron.is",)}, lambda p: p["host"] == "blog.heron.is"),
        ({"hosts": ("www.heron.is",)}, lambda p: p["host"] == "www.heron.is"),
        ({"mimes": ("application/pdf",)}, lambda p: p["mime"] == "application/pdf"),
        ({"statuses": ()}, lambda p: True),
        (
            {"languages": ("eng", "deu"), "domains": ("tern.org",), "mimes": ("text/html",)},
            lambda p: p["domain"] == "tern.org" and p["language"] in ("eng", "deu") and p["mime"] == "text/html",
        ),
    ],
)
def test_what_matches_is_what_comes(base: Path, tmp_path: Path, asked: dict[str, Any], wanted: Any) -> None:
    urls, counts, _ = found(base, tmp_path, **asked)
    assert urls == {p["url"] for p in pages() if wanted(p)}
    assert counts["kept"] == len(urls)
    assert counts["groups"] == len(pages()) // PER_GROUP


def test_groups_that_cannot_match_are_not_read(base: Path, tmp_path: Path) -> None:
    _, counts, _ = found(base, tmp_path, domains=("heron.is",))
    assert counts["files"] == INDEX_FILES
    assert counts["groups_read"] <= 2 < counts["groups"] == 10
    assert counts["rows_read"] <= 2 * PER_GROUP
    _, counts, _ = found(base, tmp_path)
    assert counts["groups_read"] == 10


def test_a_share_is_chosen_by_address(base: Path, tmp_path: Path) -> None:
    some, _, _ = found(base, tmp_path, share=0.3)
    more, _, _ = found(base, tmp_path, share=0.6)
    assert some < more
    assert 30 < len(some) < 90 < len(more) < 150


def test_pages_become_documents_the_same_for_any_number_of_workers(base: Path, tmp_path: Path) -> None:
    goal = Extract(CommonCrawl(CRAWL, base=str(base), mimes=("text/html",), domains=("heron.is", "ibis.org")))
    made = [run(goal, Local(n), str(tmp_path / f"root{n}")).dataset for n in (1, 2)]
    assert made[0].digest == made[1].digest
    table = made[0].table()
    assert sorted(table["url"].to_pylist()) == sorted(
        p["url"] for p in pages() if p["domain"] in ("heron.is", "ibis.org") and p["n"] < 9
    )
    assert set(table["origin"].to_pylist()) == {"commoncrawl"}
    assert all(source.startswith(f"crawl-data/{CRAWL}/segments/") for source in table["source"].to_pylist())


def test_whole_files(base: Path, tmp_path: Path) -> None:
    stage = CommonCrawl(CRAWL, base=str(base), files=2)
    made = stage.run(Local(), {}, Place(str(tmp_path / stage.address), stage.fingerprint))
    assert [row["damage"] for row in rows(made)] == [None] * len(rows(made))
    assert len(made.shards) == 2
    goal = Extract(CommonCrawl(CRAWL, base=str(base), kind="wet", files=9))
    [text] = run(goal, Local(), str(tmp_path / "root")).dataset.table()["text"].to_pylist()
    assert text.startswith("Hegrinn stendur")


def test_over_http_in_few_requests(
    base: Path,
    tmp_path: Path,
    server: tuple[str, Path, dict[str, Any]],  # noqa: F811 - the fixture
) -> None:
    pytest.importorskip("aiohttp")
    address, folder, state = server
    for name in ("crawl-data", "cc-index"):
        (folder / name).symlink_to(base / name)
    asked: dict[str, Any] = {"domains": ("heron.is",)}
    local, _, here = found(base, tmp_path / "a", **asked)
    stage = CommonCrawl(CRAWL, base=address + "/", **asked)
    made = stage.run(Local(), {}, Place(str(tmp_path / stage.address), stage.fingerprint))
    assert made.digest == here.digest
    state["asked"].clear()
    assert {row["url"] for row in rows(made)} == local
    assert all(path.endswith(".warc.gz") for path, _, _ in state["asked"])
    assert len(state["asked"]) <= len(local)
    assert Counter(high - low for _, low, high in state["asked"])[0] == 0


def test_places_that_are_not_there(base: Path, tmp_path: Path) -> None:
    """A file that is gone, one that ends early, bytes that are no record, a name that leads outside."""
    name = next((base / "crawl-data" / CRAWL).rglob("*.warc.gz")).relative_to(base)
    size = (base / name).stat().st_size
    places = [
        {"filename": "../../etc/passwd", "offset": 0, "length": 9},
        {"filename": str(name), "offset": -7, "length": 9},
        {"filename": str(name), "offset": 7, "length": -9},
        {"filename": "crawl-data/gone.warc.gz", "offset": 3, "length": 9},
        {"filename": "crawl-data/gone.warc.gz", "offset": 0, "length": -1},
        {"filename": str(name), "offset": 5, "length": 50},
        {"filename": str(name), "offset": size - 10, "length": 100},
        {"filename": str(name), "offset": size + 1000, "length": 1 << 40},
    ]
    pq.write_table(pa.Table.from_pylist(places), tmp_path / "places.parquet")
    told = [one for _, one in fetched(str(tmp_path / "places.parquet"), str(base))]
    assert all(isinstance(one, Damage) for one in told)
    assert [one.reason for one in told][:5] == ["missing"] * 5
    assert [one.reason for one in told].count("truncated") >= 2


def test_statistics_that_are_missing_exclude_nothing(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"fetch_status": [200]}), path, write_statistics=False)
    assert overlaps(pq.ParquetFile(path).metadata.row_group(0), Query(statuses=(404,)).within)
    pq.write_table(pa.table({"fetch_status": [200]}), path)
    assert not overlaps(pq.ParquetFile(path).metadata.row_group(0), Query(statuses=(404,)).within)


@pytest.mark.parametrize(
    ("asked", "sentence"),
    [
        ({"crawl": "2025-05"}, r"CommonCrawl\.crawl is '2025-05'; name one such as CC-MAIN"),
        ({"languages": ("en",)}, r"languages holds 'en'; the index has ISO 639-3"),
        ({"share": 0.0}, r"share is 0\.0; give a share above 0"),
        ({"kind": "wet"}, r"kind wet has no index; say how many whole files"),
        ({"files": 0}, r"files is 0; give 1 or more"),
        ({"files": 1, "domains": ("a.is",)}, r"files takes whole files, and domains chooses pages"),
        ({"kind": "waz"}, r"kind cannot be 'waz'"),
    ],
)
def test_what_is_refused(asked: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        CommonCrawl(**({"crawl": CRAWL} | asked))


def test_what_is_not_there_is_said(base: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no page of CC-MAIN-2025-05 matches \(0 of 10 row groups were read\)"):
        found(base, tmp_path, domains=("nobody.aero",))
    stage = CommonCrawl("CC-MAIN-1999-01", base=str(base))
    with pytest.raises(ValueError, match=r"there is no file '.*CC-MAIN-1999-01/cc-index-table\.paths\.gz'"):
        stage.run(Local(), {}, Place(str(tmp_path / "x"), "k"))


def test_a_run_that_broke_off_goes_on(base: Path, tmp_path: Path) -> None:
    """A file of the index was not to be had: what was selected before stays, and the end is that of a whole run."""
    copy = tmp_path / "copy"
    shutil.copytree(base, copy)
    lacking = sorted(copy.rglob("subset=warc/*.parquet"))[-1]
    lacking.rename(tmp_path / "aside")
    with pytest.raises(ValueError, match="there is no file"):
        found(copy, tmp_path / "root", domains=("heron.is", "tern.org"))
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "root").rglob("index/*.parquet")}
    assert len(before) == INDEX_FILES - 1
    (tmp_path / "aside").rename(lacking)
    urls, _, made = found(copy, tmp_path / "root", domains=("heron.is", "tern.org"))
    assert {path: path.stat().st_mtime_ns for path in before} == before
    again, _, whole = found(base, tmp_path / "other", domains=("heron.is", "tern.org"))
    assert (urls, made.digest) == (again, whole.digest)


@pytest.mark.slow
def test_eight_workers_write_the_same(base: Path, tmp_path: Path) -> None:
    goal = Extract(CommonCrawl(CRAWL, base=str(base), mimes=("text/html",)))
    made = [run(goal, Local(n), str(tmp_path / f"root{n}")).dataset.digest for n in (1, 8)]
    assert made[0] == made[1]
