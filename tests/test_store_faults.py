"""A dataset in a store that fails: it is whole or not there, and what passes is waited for (tests/s3_server.py)."""

import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pyarrow as pa
import pytest

from tests.s3_server import S3, serving
from tests.test_local_cluster import SOURCE, mapped
from tundish.cluster import retry, store
from tundish.cluster.local import Local
from tundish.cluster.shards import opened
from tundish.cluster.target import Target
from tundish.pipeline.lease import Lease
from tundish.pipeline.run import run
from tundish.stages.read import Read
from tundish.stages.sign import Sign

SMALL, LARGE = random.Random(1).randbytes(100_001), random.Random(2).randbytes(11_000_001)  # in one request, in parts
PASSING = ("500", "503", "cut", "reset", "lost")


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[S3]:
    monkeypatch.setattr(retry, "PAUSES", (0.01, 0.01))
    with serving() as server:
        yield server


@pytest.mark.parametrize("fault", PASSING)
def test_a_file_is_whole_after_puts_that_failed(s3: S3, fault: str) -> None:
    """More often than the client repeats by itself."""
    s3.fail("PUT", "a.bin", fault, 5)
    told = store.write("s3://corpora/a.bin", SMALL)
    assert s3.objects == {"a.bin": SMALL}
    assert told.size == len(SMALL)
    assert Counter(each.fault for each in s3.asked if each.method == "PUT")[fault] == 5


@pytest.mark.parametrize("fault", ["500", pytest.param("reset", marks=pytest.mark.slow)])
@pytest.mark.parametrize("place", [("POST", "uploads"), ("PUT", "partNumber=2"), ("POST", "uploadId")])
def test_a_file_in_parts_is_whole_whichever_of_them_fails(s3: S3, fault: str, place: tuple[str, str]) -> None:
    s3.fail(*place, fault, 4)
    store.write("s3://corpora/a.bin", LARGE)
    assert s3.objects == {"a.bin": LARGE}


def test_a_completion_whose_answer_was_lost_is_done_again_from_the_start(s3: S3) -> None:
    s3.fail("POST", "uploadId", "lost", 1)
    store.write("s3://corpora/a.bin", LARGE)
    assert s3.objects == {"a.bin": LARGE}


@pytest.mark.parametrize(
    "body", [pytest.param(SMALL, id="one"), pytest.param(LARGE, id="parts", marks=pytest.mark.slow)]
)
def test_what_fails_for_good_leaves_what_was_there_and_says_so(s3: S3, body: bytes) -> None:
    store.write("s3://corpora/a.bin", b"before")
    s3.fail("PUT", "a.bin", "500", 999)
    with pytest.raises(ValueError, match=r"cannot write the URI 's3://corpora/a.bin' \(.*INTERNAL_FAILURE"):
        store.write("s3://corpora/a.bin", body)
    assert s3.objects == {"a.bin": b"before"}


@pytest.mark.parametrize(
    "place",
    [
        ("POST", "uploads"),
        *(pytest.param(each, marks=pytest.mark.slow) for each in [("PUT", "partNumber=2"), ("POST", "uploadId")]),
    ],
)
def test_a_file_in_parts_that_never_comes_to_its_end_is_not_there(s3: S3, place: tuple[str, str]) -> None:
    store.write("s3://corpora/a.bin", b"before")
    s3.fail(*place, "503", 999)
    with pytest.raises(ValueError, match="cannot write"):
        store.write("s3://corpora/a.bin", LARGE)
    assert s3.objects == {"a.bin": b"before"}


def test_ctrl_c_in_the_middle_of_a_put_leaves_no_part_of_a_file(s3: S3) -> None:
    """In a process of its own, at its first part; the others are answered, so that a part could be made the whole."""
    program = "import sys; from tundish.cluster import store; store.write('s3://corpora/a.bin', bytes(30_000_000))"
    s3.fail("PUT", "partNumber=1", "late", 1)
    with subprocess.Popen([sys.executable, "-c", program], stderr=subprocess.DEVNULL) as writer:
        while not any(each.fault == "late" for each in s3.asked):
            assert writer.poll() is None
            time.sleep(0.01)
        writer.send_signal(signal.SIGINT)
        assert writer.wait(60) != 0
    assert len(s3.objects.get("a.bin", b"")) in (0, 30_000_000)
    assert s3.objects.get("a.bin") != b""


@pytest.mark.parametrize("code", ["403"])
def test_what_was_refused_is_asked_once(s3: S3, code: str) -> None:
    store.write("s3://corpora/a.bin", SMALL)
    before = len(s3.asked)
    s3.fail("PUT", "a.bin", code, 99)
    s3.fail("HEAD", "a.bin", code, 99)
    with pytest.raises(ValueError, match=r"cannot write .*ACCESS_DENIED"):
        store.write("s3://corpora/a.bin", SMALL)
    with pytest.raises(ValueError, match=r"cannot read .*ACCESS_DENIED"):
        store.read("s3://corpora/a.bin")
    assert len(s3.asked) - before == 2


@pytest.mark.parametrize(
    ("code", "most"),  # requests: the client repeats by itself what may be its clock's
    [
        ("403 AllAccessDisabled", 1), ("403 AccountProblem", 1), ("400 ExpiredToken", 1), ("400 InvalidToken", 1),
        ("403 RequestTimeTooSkewed", 3), ("301 PermanentRedirect", 1), ("401 Unauthorized", 1),
    ],
)  # fmt: skip
def test_a_refusal_of_any_name_is_not_tried_again(s3: S3, code: str, most: int) -> None:
    s3.fail("PUT", "a.bin", code, 99)
    with pytest.raises(ValueError, match="cannot write the URI"):
        store.write("s3://corpora/a.bin", SMALL)
    assert len(s3.asked) == most
    s3.objects["b.json"] = b"{}" + bytes(1000)  # of one smaller than its answer pyarrow cannot tell why
    s3.fail("GET", "b.json", code, 99)
    with pytest.raises(ValueError, match="cannot read the URI"):
        store.read_json("s3://corpora/b.json")
    assert len(s3.asked) <= 2 * most + 1


@pytest.mark.parametrize("code", ["400 IncompleteBody", "400 BadDigest", "409 OperationAborted", "429 TooManyRequests"])
def test_bytes_lost_on_the_way_and_a_store_at_its_limit_are_no_refusals(s3: S3, code: str) -> None:
    s3.fail("PUT", "a.bin", code, 2)
    store.write("s3://corpora/a.bin", SMALL)
    assert s3.objects == {"a.bin": SMALL}


@pytest.mark.parametrize("fault", ["500", "503", "cut", "truncate", "slow"])
def test_a_file_is_read_through_what_passes(s3: S3, fault: str) -> None:
    told = store.write("s3://corpora/a.bin", SMALL)
    s3.fail("GET", "a.bin", fault, 5)
    assert store.read("s3://corpora/a.bin") == SMALL
    s3.fail("GET", "a.bin", fault, 5)
    assert store.digest("s3://corpora/a.bin") == told.digest
    assert Counter(each.fault for each in s3.asked)[fault] >= (5 if fault != "slow" else 2)


def test_a_stream_goes_on_where_it_was(s3: S3) -> None:
    store.write("s3://corpora/a.bin", SMALL)
    with store.opened("s3://corpora/a.bin") as stream:
        head = stream.read(1000)
        s3.fail("GET", "a.bin", "truncate", 5)
        assert head + stream.read(70_000) + stream.read() == SMALL
        assert stream.read_at(7, 50) == SMALL[50:57]
        assert stream.size() == len(SMALL)


def test_a_file_that_is_replaced_under_a_reader_is_not_read_on(s3: S3) -> None:
    store.write("s3://corpora/a.bin", SMALL)
    with store.opened("s3://corpora/a.bin") as stream:
        stream.read(1000)
        s3.objects["a.bin"] = SMALL[::-1]
        s3.fail("GET", "a.bin", "403", 1)
        with pytest.raises(OSError, match="ACCESS_DENIED"):
            stream.read(1000)
        with pytest.raises(retry.Replaced, match="was replaced"):
            stream.read(1000)


def sealed(uri: str) -> None:
    target = Target(uri, "key")
    writer = target.writer("part-00000")
    writer.write(pa.table({"n": pa.array(range(1000))}))
    target.seal([writer.finish({}, {})])


@pytest.mark.parametrize("name", ["part-00000.parquet", "commits/part-00000.json", "manifest.json"])
def test_a_dataset_is_there_when_all_of_it_is(s3: S3, name: str) -> None:
    uri = "s3://corpora/toy-0123456789"
    s3.fail("PUT", name, "500", 999)
    with pytest.raises(ValueError, match="cannot write"):
        sealed(uri)
    assert opened(uri) is None
    assert f"toy-0123456789/{name}" not in s3.objects
    assert (Target(uri, "key").committed("part-00000", {}) is not None) == (name == "manifest.json")
    s3.rules.clear()
    sealed(uri)
    again = opened(uri)
    assert again is not None
    assert again.table()["n"].to_pylist() == list(range(1000))


@pytest.mark.slow
def test_a_map_in_a_store_that_fails_at_random_gives_the_same_bytes(s3: S3, tmp_path: Path) -> None:
    mapped(Local(), str(tmp_path / "first-0123456789"))
    draw = random.Random(7)
    for method in ("GET", "PUT", "HEAD", "POST", "DELETE"):
        for fault in PASSING if method == "PUT" else ("500", "503", "cut", "truncate" if method == "GET" else "cut"):
            s3.fail(method, rf"[{draw.choice('0123')}{draw.choice('4567')}]\.", fault, 2)
    mapped(Local(), "s3://corpora/first-0123456789")
    for name in ("lengths", "even", "odd"):
        there, here = opened(f"s3://corpora/first-0123456789/{name}"), opened(str(tmp_path / "first-0123456789" / name))
        assert (there and there.digest) == (here and here.digest), name
    assert sum(bool(each.fault) for each in s3.asked) > 10


def test_no_shard_of_a_map_lists_anything(s3: S3) -> None:
    mapped(Local(), "s3://corpora/first-0123456789")
    assert len(SOURCE.names) > 1
    assert [path for path in s3.listings() if "part-" in path] == []
    assert len(s3.listings()) <= 3 * 2  # each of three datasets is looked for once, and removed where it would lie


def test_a_run_lists_as_often_for_many_shards_as_for_few(s3: S3, tmp_path: Path) -> None:
    counts = {}
    for shards in (2, 9):
        folder = tmp_path / str(shards)
        folder.mkdir()
        for number in range(shards):
            (folder / f"{number}.txt").write_text(f"The text of file {number} has words enough to be signed.\n")
        s3.asked.clear()
        goal = Sign(Read((f"{folder}/*.txt",)))
        made = run(goal, Local(), f"s3://corpora/{shards}")
        assert len(made.datasets[goal.address].shards) == shards
        counts[shards] = len(s3.listings())
    assert counts[2] == counts[9]


def test_one_client_serves_all_files_of_a_bucket(s3: S3) -> None:
    for number in range(5):
        store.write(f"s3://corpora/many/{number}.bin", b"x")
    assert store._filesystem.cache_info().misses == 1


def test_a_key_is_taken_as_it_is_spelt(s3: S3) -> None:
    for key in ("a b", "a%20b", "ä#b", "a?b", "a+b"):
        store.write(f"s3://corpora/odd/{key}", key.encode())
        assert store.read(f"s3://corpora/odd/{key}") == key.encode()
    assert {"odd/a b", "odd/a%20b", "odd/ä#b", "odd/a?b", "odd/a+b"} == set(s3.objects)
    assert store.matching("s3://corpora/odd/a%*") == ["s3://corpora/odd/a%20b"]


def test_a_folder_is_listed_and_not_what_holds_it(s3: S3) -> None:
    for key in ("one/a", "one/deep/b", "other/c", "one-more/d"):
        store.write(f"s3://corpora/held/{key}", b"x")
    before = len(s3.listings())
    for folder in ("s3://corpora/held/one", "s3://corpora/held/one/"):
        assert store.matching(folder) == ["s3://corpora/held/one/a", "s3://corpora/held/one/deep/b"]
    assert store.matching("s3://corpora/held/none") == []
    asked = [parse_qs(urlsplit(path).query)["prefix"][0].rstrip("/") for path in s3.listings()[before:]]
    assert asked
    assert {*asked} == {"held/one", "held/none"}


@pytest.mark.slow
def test_removing_and_moving_pass_through_faults(s3: S3) -> None:
    for number in range(3):
        store.write(f"s3://corpora/gone/{number}", b"x")
    store.write("s3://corpora/old", SMALL)
    for method, path in (("POST", "delete"), ("DELETE", "old"), ("PUT", "new"), ("HEAD", "old")):
        s3.fail(method, path, "503", 4)
    s3.fail("DELETE", "old", "lost", 1)
    store.move("s3://corpora/old", "s3://corpora/new")
    store.remove("s3://corpora/gone")
    assert {key: body for key, body in s3.objects.items() if not key.endswith("/")} == {"new": SMALL}


def test_a_lease_outlives_an_outage_of_its_store(s3: S3, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tundish.pipeline.lease.BEAT", 0.05)
    monkeypatch.setattr(retry, "PAUSES", (60.0,))  # a heartbeat is tried once; waiting would end the test
    with Lease("s3://corpora/root") as lease:
        s3.fail("PUT", "lease.json", "403", 2)
        heard, beats = store.read_json(lease.uri)["heard"], threading.Event()
        for _ in range(400):
            if store.read_json(lease.uri)["heard"] > heard and not s3.rules[0].times:
                break
            beats.wait(0.02)
        assert not s3.rules[0].times
        assert store.read_json(lease.uri)["heard"] > heard
        lease.check()


def test_pauses_grow_and_are_drawn_anew() -> None:
    assert list(retry.PAUSES) == sorted(retry.PAUSES)
    drawn = [retry.drawn(1.0) for _ in range(200)]
    assert len(set(drawn)) > 100
    assert 0.5 <= min(drawn) < max(drawn) <= 1.5


def test_what_does_not_pass_is_raised_at_once() -> None:
    tries = []

    def deed(error: Exception) -> None:
        tries.append(error)
        raise error

    for error in (FileNotFoundError("x"), PermissionError("x"), OSError(28, os.strerror(28)), ValueError("x")):
        with pytest.raises(type(error)):
            retry.patiently(lambda error=error: deed(error))
    with pytest.raises(OSError, match="NO_SUCH_BUCKET"):
        retry.patiently(lambda: deed(OSError("AWS Error NO_SUCH_BUCKET during PutObject operation")))
    assert len(tries) == 5
