"""forget: documents leave a root wherever it holds them, all else stays current, and nothing brings them back."""

import gzip
import io
import json
import shutil
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zstandard
from warcio.archiveiterator import ArchiveIterator

from tests import forget_root as made
from tests.forget_root import HERON, KRANICH, MOVED, SORA, TWICE, contents, holding, rows, secret
from tests.site_server import Site
from tests.toys import digests
from tundish.cluster import store
from tundish.cluster.local import Local
from tundish.cluster.shards import opened
from tundish.operators.web.arc import records_of
from tundish.operators.web.warc import Capture, captures
from tundish.operators.web.warc_write import packer, record, record_id
from tundish.pipeline.cli import call
from tundish.pipeline.forget import asked, forget
from tundish.pipeline.lease import Lease
from tundish.pipeline.plan import plan
from tundish.pipeline.run import run
from tundish.pipeline.verify import verify
from tundish.pipeline.why import why
from tundish.stages.forget_archives import LEAST, filler
from tundish.stages.forget_tables import as_trained
from tundish.stages.forgotten import Forgotten, domain_key, forgotten, url_key

WEB, HELD, ROW = f"{HERON}/page/5", f"{SORA}/page/21", f"{KRANICH}/page/41"
PLACED = ("date", "source")  # columns that tell of the crawl and not of the page
BESIDE = ("judge", "refine", "sign", "mask", "deduplicate", "corpus")


class Made:
    """The root of these tests, made once and copied for each."""

    def __init__(self, folder: Path, site: Site) -> None:
        self.folder, self.site = folder, site
        self.goal = made.corpus(folder)
        made.go(self.goal, folder / "root", site)

    def copy(self, to: Path) -> Path:
        shutil.copytree(self.folder / "root", to)
        return to

    def fresh(self, to: Path, ledger: Path) -> Path:
        """A root in which it was forgotten from the start."""
        to.mkdir()
        shutil.copy(ledger / "forgotten", to / "forgotten")
        made.go(self.goal, to, self.site)
        return to


@pytest.fixture(scope="module")
def all_of(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("forget")
    made.sources(folder)
    with made.web() as site:
        yield Made(folder, site)


@pytest.fixture
def root(all_of: Made, tmp_path: Path) -> Path:
    return all_of.copy(tmp_path / "root")


def address(root: Path, name: str) -> str:
    return next(one.name for one in sorted(root.iterdir()) if one.name.startswith(f"{name}-"))


def because(goal: Any, root: Path) -> dict[str, str]:
    return {step.stage.name: step.because for step in plan(goal, str(root)) if not step.current}


def documents(root: Path, *but: str) -> list[dict[str, Any]]:
    found = [one.name for one in root.iterdir() if one.name.startswith(("extract-", "read-"))]
    return sorted((row for name in found for row in rows(root, name, *but)), key=lambda row: row["id"])


def id_of(root: Path, url: str) -> str:
    return next(row["id"].hex() for row in documents(root) if row["url"] == url)


@pytest.mark.parametrize("url", [WEB, HELD, ROW])
def test_nothing_holds_it_and_all_else_stays_as_it_was(url: str, all_of: Made, root: Path) -> None:
    assert holding(root, secret(url)), "else this test could not fail"
    before = {name: rows(root, address(root, name)) for name in BESIDE}
    own = id_of(root, url)
    answer = forget(str(root), [url])
    assert answer["documents"] == 1
    assert holding(root, secret(url)) == []
    assert holding(root, own) == ["forgotten"]
    assert verify(str(root)) == []
    assert because(all_of.goal, root) == {}
    outcome = made.go(all_of.goal, root, all_of.site)
    assert not outcome.seconds, "everything is current"
    for name in BESIDE:
        assert rows(root, address(root, name)) == [row for row in before[name] if row["id"].hex() != own], name


def test_a_root_that_forgot_from_the_start_holds_the_same(all_of: Made, root: Path, tmp_path: Path) -> None:
    forget(str(root), [WEB, HELD, ROW])
    seen = len(all_of.site.asked)
    fresh = all_of.fresh(tmp_path / "fresh", root)
    assert "/page/5" not in all_of.site.paths()[seen:]
    assert "/page/6" in all_of.site.paths()[seen:]
    for url in (WEB, HELD, ROW):
        assert holding(fresh, secret(url)) == []
    assert documents(fresh, *PLACED) == documents(root, *PLACED)
    for name in BESIDE:
        assert rows(fresh, address(fresh, name), *PLACED) == rows(root, address(root, name), *PLACED), name
    counts = [_counts(one) for one in (fresh, root)]
    assert counts[0]["bytes_out"] == counts[1]["bytes_out"]
    assert counts[0]["kept"] == counts[1]["kept"]


def _counts(root: Path) -> dict[str, int]:
    found = opened(str(root / address(root, "corpus")))
    assert found is not None
    return found.counts


def test_who_stood_for_others_has_its_stage_made_again(all_of: Made, root: Path, tmp_path: Path) -> None:
    """Two pages of one text: the one that goes, whichever stayed, must not take the other with it."""
    kept = {row["url"] for row in rows(root, address(root, "corpus"))}
    survivor, other = (TWICE, f"{HERON}/again") if TWICE in kept else (f"{HERON}/again", TWICE)
    assert other not in kept
    answer = forget(str(root), [survivor])
    assert [one["url"] for one in answer["copies"]] == [other]
    assert [one["stage"] for one in answer["redo"]] == [address(root, "deduplicate")]
    assert verify(str(root)) == []
    assert because(all_of.goal, root) == {
        "Deduplicate": "a document that decided over others was forgotten",
        "Corpus": "twins runs",
    }
    outcome = made.go(all_of.goal, root, all_of.site)
    assert {one.split("-")[0] for one in outcome.seconds} == {"deduplicate", "corpus"}
    assert other in {row["url"] for row in rows(root, address(root, "corpus"))}
    fresh = all_of.fresh(tmp_path / "fresh", root)
    for name in BESIDE:
        assert rows(fresh, address(fresh, name), *PLACED) == rows(root, address(root, name), *PLACED), name


def test_rows_of_what_was_dropped_are_found_where_they_are_now(root: Path) -> None:
    """Corpus says in which row of the documents lies what it left out; rows before it may go."""
    gone = opened(str(root / address(root, "corpus") / "dropped"))
    assert gone is not None
    [row] = gone.table().to_pylist()
    base = opened(str(root / address(root, "gather")))
    assert base is not None
    before = base.read(row["shard"])["url"].to_pylist()[: row["row"]]
    assert before, "else nothing moves"
    forget(str(root), [before[0]])
    [now] = opened(gone.uri).table().to_pylist()  # type: ignore[union-attr]
    assert now["row"] == row["row"] - 1
    assert opened(base.uri).read(now["shard"])["id"][now["row"]].as_py() == now["id"] == row["id"]  # type: ignore[union-attr]


def test_a_redirect_goes_with_what_it_leads_to(all_of: Made, root: Path, tmp_path: Path) -> None:
    answer = forget(str(root), [MOVED])
    assert (answer["documents"], answer["addresses"]) == (1, 2)
    assert holding(root, secret(f"{HERON}/page/3")) == []
    assert holding(root, MOVED) == []
    fresh = all_of.fresh(tmp_path / "fresh", root)
    assert holding(fresh, MOVED) == []
    log = opened(str(fresh / address(fresh, "crawl") / "log"))
    assert log is not None
    reasons = [row["reason"] for row in log.table().to_pylist() if row["url"].startswith("forgotten:")]
    assert reasons == ["forgotten", "forgotten"]


def test_a_domain_goes_with_all_its_hosts(root: Path) -> None:
    answer = forget(str(root), ["sora.example"], reason="asked by its owner")
    assert answer["documents"] == 8
    assert [one["documents"] for one in answer["outside"]] == [8]
    assert answer["outside"][0]["file"].endswith("/held.warc.gz")
    assert Path(answer["outside"][0]["file"]).exists()
    assert holding(root, "keeper of sora") == []
    assert {row["url"].split("/")[2] for row in documents(root)} == {"heron.example", "kranich.test"}
    known = forgotten(str(root))
    assert known.holds(f"{SORA}/elsewhere")
    assert known.holds("https://www.sora.example:8443/")
    assert not known.holds("http://notsora.example/")
    [line] = (root / "forgotten").read_text().splitlines()
    assert json.loads(line)["reason"] == "asked by its owner"
    assert "sora" not in line.replace("asked by its owner", "")


def test_a_document_goes_by_its_id_and_is_not_fetched_again(all_of: Made, root: Path, tmp_path: Path) -> None:
    own = id_of(root, WEB)
    assert forget(str(root), [own.upper()])["documents"] == 1
    assert holding(root, secret(WEB)) == []
    seen = len(all_of.site.asked)
    later = made.crawl(as_of="2026-12-01")
    made.go(later, root, all_of.site)
    assert "/page/5" not in all_of.site.paths()[seen:]
    assert forgotten(str(root)).ids == {bytes.fromhex(own)}


def test_sources_that_are_read_anew_do_not_bring_it_back(all_of: Made, root: Path) -> None:
    """The user's files still hold it: other fields read them again."""
    forget(str(root), [HELD, ROW, id_of(root, f"{KRANICH}/page/42")])
    rows_again = made.Read((str(all_of.folder / "rows.jsonl"),), piece=1 << 10)
    held_again = made.Extract(made.Ingest((str(all_of.folder / "held.warc.gz"),), split=1000), how="best")
    for stage, left, gone in ((rows_again, 6, 2), (held_again, 7, 1)):
        dataset = run(stage, Local(), str(root)).dataset
        assert dataset.rows == left
        assert dataset.counts["dropped:forgotten"] == gone
    for url in (HELD, ROW, f"{KRANICH}/page/42"):
        assert holding(root, secret(url)) == []


@pytest.mark.parametrize("form", ["zst", "gz"])
def test_other_records_stay_byte_for_byte_where_they_were(form: str, all_of: Made, tmp_path: Path) -> None:
    root = tmp_path / "root"
    made.go(made.Extract(made.crawl(archive=form)), root, all_of.site)
    folder = root / address(root, "crawl")
    before = {path.name: path.read_bytes() for path in folder.glob("*.warc.*")}
    log = {row["url"]: row for row in rows(root, f"{folder.name}/log")}
    gone = [f"{HERON}/page/{n}" for n in (5, 6)]
    forget(str(root), gone)
    places = {(log[url]["archive"], log[url]["offset"]) for url in gone}
    for path in folder.glob("*.warc.*"):
        body, was = path.read_bytes(), before[path.name]
        assert len(body) == len(was)
        found = {one.offset: one for one in captures(io.BytesIO(body))}
        then = {one.offset: one for one in captures(io.BytesIO(was)) if (path.name, one.offset) not in places}
        assert all(isinstance(one, Capture) for one in found.values())
        assert {at: (one.url, one.payload) for at, one in found.items()} == {
            at: (one.url, one.payload) for at, one in then.items()
        }
        differ = np.flatnonzero(np.frombuffer(body, np.uint8) != np.frombuffer(was, np.uint8))
        own = [(row["offset"], row["offset"] + row["length"]) for u, row in log.items() if u in gone]
        assert all(any(start - 700 <= at < stop for start, stop in own) for at in differ)  # with its request before it
        stream = io.BytesIO(body if form == "gz" else b"".join(list(contents(path))[1:]))
        urls = [one.rec_headers.get_header("WARC-Target-URI") for one in ArchiveIterator(stream)]
        assert not set(urls) & set(gone), "warcio reads it to its end"
        assert sum(url is None for url in urls) >= 1 + (len(body) != 0 and any(path.name == a for a, _ in places))
    lines = b"".join(path.read_bytes() for path in (folder / "cdxj").glob("*.cdxj")).decode()
    for url, row in log.items():
        if row["outcome"] == "stored":
            assert (f'"url": "{url}"' in lines) == (url not in gone)
    dataset = opened(str(folder))
    assert dataset is not None
    assert dataset.rows == dataset.about["counts"]["stored"] == 11
    assert dataset.about["counts"]["forgotten"] == 2


@pytest.mark.parametrize("form", ["zst", "gz"])
def test_a_filler_is_one_record_of_any_size(form: str) -> None:
    date, pack = "2026-11-21T00:00:00Z", packer(form)
    edges = [65_540, 131_080, 131_075, 262_150]
    sizes = [*range(LEAST, LEAST + 150), *(edge + n for edge in edges for n in range(-40, 40)), 9_990, 100_007, 700_001]
    for size in sizes:
        made_ = filler(size, form, date, 7)
        assert len(made_) == size
        raw = gzip.decompress(made_) if form == "gz" else zstandard.ZstdDecompressor().decompress(made_)
        head, _, rest = raw.partition(b"\r\n\r\n")
        assert int(head.rpartition(b"Content-Length:")[2]) + 4 == len(rest)
    other = pack(record("resource", record_id("r", "1", date, b"x"), date, "text/html", b"<p>", {}))
    for size in (LEAST, 70_000):
        found = list(records_of(io.BytesIO(other + filler(size, form, date, 7) + other)))
        assert [one.offset for one in found] == [0, len(other), len(other) + size]  # type: ignore[union-attr]
    with pytest.raises(ValueError, match="too short"):
        filler(LEAST - 1, form, date, 7)


def test_nothing_changes_for_a_dry_run_and_it_says_what_would(root: Path) -> None:
    before = digests(str(root))
    dry = forget(str(root), [WEB, "kranich.test"], dry=True)
    assert digests(str(root)) == before
    real = forget(str(root), [WEB, "kranich.test"])
    assert dry["dry"]
    assert [(one["dataset"], one["rows"]) for one in dry["lost"]] == [
        (one["dataset"], one["rows"]) for one in real["lost"]
    ]
    assert (dry["documents"], dry["redo"], dry["outside"]) == (real["documents"], real["redo"], real["outside"])


def test_shards_of_a_stage_that_was_interrupted_are_made_again(all_of: Made, root: Path) -> None:
    for name in ("corpus", "judge"):
        (root / address(root, name) / "manifest.json").unlink()
    forget(str(root), [WEB])
    assert holding(root, secret(WEB)) == []
    outcome = made.go(all_of.goal, root, all_of.site)
    assert {one.split("-")[0] for one in outcome.seconds} >= {"corpus", "judge"}
    assert holding(root, secret(WEB)) == []
    assert verify(str(root)) == []


def test_what_a_killed_writer_left_goes_too(root: Path) -> None:
    left = root / address(root, "corpus") / ".part-00000.parquet.0123456789ab.attempt"
    left.write_text(secret(WEB))
    (root / "report.html").write_text(secret(WEB))
    forget(str(root), [WEB])
    assert holding(root, secret(WEB)) == []


def test_what_is_forgotten_twice_is_forgotten_once(root: Path) -> None:
    forget(str(root), [WEB])
    before = digests(str(root))
    again = forget(str(root), [WEB])
    assert (again["documents"], again["lost"]) == (0, [])
    after = digests(str(root))
    assert {name for name in before if before[name] != after.get(name)} <= {"lease.json"}
    with pytest.raises(ValueError, match=r"was forgotten on 20\d\d-.*says why"):
        why(str(root), WEB)


@pytest.mark.parametrize(
    ("what", "said"),
    [
        ("nobody.example", "is of 'nobody.example'; check the spelling"),
        (f"{HERON}/nowhere", "check the spelling"),
        ("ab" * 16, "check the spelling"),
        ("ab" * 15, "has 30 hex digits and an id has 32"),
        ("http://", "is no address of a page"),
        ("ftp://heron.example/", "is no address of a page"),
        ("heron.example/page/1", "neither a domain, nor a URL"),
        ("co.uk", "a suffix under which everybody has domains"),
    ],
)
def test_bad_input_is_refused_in_one_sentence(
    what: str, said: str, root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {name: value for name, value in digests(str(root)).items() if not name.startswith("lease")}
    with pytest.raises(SystemExit) as ended:
        call(["forget", str(root), what])
    assert ended.value.code == 2
    assert said in capsys.readouterr().err
    now = {name: value for name, value in digests(str(root)).items() if not name.startswith("lease")}
    assert now == before


def test_a_place_without_runs_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        call(["forget", str(tmp_path / "nothing"), "heron.example"])
    assert ended.value.code == 2
    assert "nothing was run under" in capsys.readouterr().err
    assert not (tmp_path / "nothing").exists()


def test_nothing_named_and_nothing_interrupted_is_refused(root: Path) -> None:
    with pytest.raises(ValueError, match="nothing is named to be forgotten"):
        forget(str(root), [])


def test_a_root_that_a_run_holds_is_refused(root: Path) -> None:
    with Lease(str(root)):
        for dry in (False, True):
            with pytest.raises(ValueError, match="holds"):
                forget(str(root), [WEB], dry=dry)


def test_a_crawl_that_is_not_done_is_refused(root: Path) -> None:
    (root / "crawl-0123456789" / "keepers" / "00").mkdir(parents=True)
    with pytest.raises(ValueError, match=r"crawl-0123456789 under .* has not come to its end"):
        forget(str(root), [WEB])


def test_generations_of_a_followed_crawl_are_refused(root: Path) -> None:
    (root / "follow" / "gen-0000").mkdir(parents=True)
    for dry in (False, True):
        with pytest.raises(ValueError, match="forgetting does not reach into them; delete that folder"):
            forget(str(root), [WEB], dry=dry)


def test_the_command_says_what_it_did(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    call(["forget", str(root), HELD, "--dry-run"])
    assert "1 document would be forgotten" in capsys.readouterr().out
    call(["forget", str(root), HELD, "--json", "--reason", "a letter"])
    answer = json.loads(capsys.readouterr().out)
    assert (answer["documents"], answer["reason"]) == (1, "a letter")
    call(["forget", str(root), TWICE])
    said = capsys.readouterr().out
    assert "is made again by the next run" in said
    assert "the same text stays at" in said


def test_a_ledger_that_cannot_be_read_stops_its_sources(root: Path) -> None:
    (root / "forgotten").write_text("not a ledger\n")
    (root / "x.txt").write_text("A text.")
    with pytest.raises(ValueError, match=r"line 1 of .* is no line of a ledger"):
        run(made.Read((str(root / "x.txt"),)), Local(), str(root))


def test_what_is_typed_is_read() -> None:
    assert asked("Heron.EXAMPLE").domain == "heron.example"
    assert asked("AB" * 16).id == "ab" * 16
    assert asked("http://Heron.example:80/a/../b?utm_source=x#y").url == "http://heron.example/b"


def test_a_ledger_holds_addresses_in_any_spelling() -> None:
    one = Forgotten(urls=frozenset([url_key("http://heron.example/b")]), domains=frozenset([domain_key("sora.test")]))
    for url in ("HTTP://heron.example:80/a/../b#c", "https://www.sora.test/x", "http://sora.test"):
        assert one.holds(url), url
    for url in ("http://heron.example/", "https://heron.example/b", "http://sora.test.org/", "row:7", "", None):
        assert not one.holds(url), url


def test_lengths_are_as_they_were_when_a_model_was_trained() -> None:
    draw = np.random.default_rng(1)
    for _ in range(50):
        then = draw.integers(0, 9, draw.integers(1, 40))
        away = np.sort(draw.choice(len(then), draw.integers(0, len(then) + 1), replace=False))
        stays = np.setdiff1d(np.arange(len(then)), away)
        lengths, places = as_trained(then[stays], [[int(row), int(then[row])] for row in away])
        assert (lengths == then).all()
        assert (places == stays).all()


def test_gzip_members_of_fillers_hold_their_sums() -> None:
    body = filler(5_000, "gz", "2026-11-21T00:00:00Z", 1)
    raw = gzip.decompress(body)
    assert struct.unpack("<II", body[-8:]) == (zlib.crc32(raw), len(raw))


def test_another_crawl_may_refer_back_to_what_stays(all_of: Made, root: Path) -> None:
    """A later crawl that was held against this one says in its log where payloads lie: at places that do not move."""
    later = made.crawl(as_of="2026-12-01", earlier=(str(root / address(root, "crawl")),))
    made.go(later, root, all_of.site)
    forget(str(root), [WEB])
    assert because(later, root) == {}, "it stays current, though the earlier crawl changed"
    log = rows(root, f"{later.address}/log")
    held = [row for row in log if row["held"]]
    assert len(held) == 12
    for row in held:
        uri, _, place = row["held"].rpartition("#")
        start, length = map(int, place.split("-"))
        with store.opened(uri) as stream:
            [found] = captures(io.BytesIO(stream.read()[start : start + length]))
        assert found.url == row["url"]
