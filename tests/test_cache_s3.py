"""The node's cache before an S3 that fails in every way it can: a proxy before moto's server cuts, slows and lies.

Runs where moto's server is installed (`pip install "moto[server]"` in an environment of its own, its `bin` in PATH)."""

import hashlib
import http.client
import os
import random
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.fs as pafs
import pytest

from tests.test_cache import intact, one_by_one, planned, whole
from tundish.cluster import fetch, store
from tundish.cluster.cache import Cache, Entry, entries, named
from tundish.cluster.shards import Damaged, opened
from tundish.cluster.target import Target
from tundish.cluster.wire import answers, free_port

pytestmark = pytest.mark.skipif(shutil.which("moto_server") is None, reason="moto's server is not installed")
BUCKET, SIZE, RANGE = "corpora", 900_001, 1 << 18


class Proxy(ThreadingHTTPServer):
    """Hands requests on; each GET of a shard takes the next of `faults`, if there is one."""

    daemon_threads = True

    def __init__(self, behind: int) -> None:
        super().__init__(("127.0.0.1", 0), Passing)
        self.behind, self.faults, self.lock = behind, list[str](), threading.Lock()
        self.gets: list[tuple[str, str]] = []  # path and fault, in order
        self.always = ""

    def fault(self, path: str) -> str:
        with self.lock:
            found = self.always or (self.faults.pop(0) if self.faults else "")
            self.gets.append((path, found))
            return found

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that went away is what these tests make."""


class Passing(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Proxy

    def log_message(self, format: str, *args: object) -> None:
        pass

    def do_GET(self) -> None:
        shard = self.command == "GET" and ".arrow" in self.path
        fault = self.server.fault(self.path.split("?")[0]) if shard else ""
        if fault in ("500", "503", "403"):
            code = {"500": "InternalError", "503": "SlowDown", "403": "AccessDenied"}[fault]
            body = f"<Error><Code>{code}</Code><Message>so it was wished</Message></Error>".encode()
            return self._answer(int(fault), {"Content-Type": "application/xml"}, body)
        if fault == "cut":
            self.close_connection = True
            return None
        sent = self._sent()
        behind = http.client.HTTPConnection("127.0.0.1", self.server.behind, timeout=60)
        try:
            headers = {k: v for k, v in self.headers.items() if k.lower() not in ("transfer-encoding", "expect")}
            behind.request(self.command, self.path, sent, headers)
            answer = behind.getresponse()
            body, headers = answer.read(), dict(answer.getheaders())
        finally:
            behind.close()
        if fault == "corrupt":
            body = body[:-1] + bytes([body[-1] ^ 1])
        return self._answer(answer.status, headers, body, fault)

    def _sent(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        body = b""
        while size := int(self.rfile.readline().split(b";")[0], 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        while self.rfile.readline().strip():
            pass
        return body

    do_HEAD = do_PUT = do_POST = do_DELETE = do_GET

    def _answer(self, status: int, headers: dict[str, str], body: bytes, fault: str = "") -> None:
        self.send_response(status)
        for name, value in headers.items():
            if name.lower() not in ("content-length", "connection", "transfer-encoding", "date", "server"):
                self.send_header(name, value)
        told = {k.lower(): v for k, v in headers.items()}.get("content-length", str(len(body)))
        self.send_header("Content-Length", told if self.command == "HEAD" else str(len(body)))
        self.end_headers()
        if self.command == "HEAD":
            return
        if fault == "truncate":
            self.wfile.write(body[: len(body) // 2])
            self.close_connection = True
        elif fault == "slow":
            for at in range(0, len(body), 1 << 14):
                self.wfile.write(body[at : at + (1 << 14)])
                time.sleep(0.01)
        else:
            self.wfile.write(body)


@pytest.fixture(scope="module")
def moto() -> Iterator[int]:
    port = free_port()
    with subprocess.Popen(["moto_server", "-p", str(port)], stderr=subprocess.DEVNULL) as server:
        try:
            deadline = time.monotonic() + 60
            while not answers(f"127.0.0.1:{port}", 1.0) and time.monotonic() < deadline:
                time.sleep(0.2)
            yield port
        finally:
            server.kill()


@pytest.fixture
def proxy(moto: int, monkeypatch: pytest.MonkeyPatch) -> Iterator[Proxy]:
    with Proxy(moto) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        for name, value in {
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{server.server_port}",
            "AWS_ACCESS_KEY_ID": "testing",
            "AWS_SECRET_ACCESS_KEY": "testing",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
        }.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr(fetch, "RANGE", RANGE)
        monkeypatch.setattr(fetch, "PAUSES", (0.01, 0.01, 0.01, 0.01))
        store._filesystem.cache_clear()
        s3 = pafs.S3FileSystem(endpoint_override=os.environ["AWS_ENDPOINT_URL"], allow_bucket_creation=True)
        s3.create_dir(BUCKET)
        yield server
        server.shutdown()
        store._filesystem.cache_clear()


def put(count: int) -> list[Entry]:
    draw, made = random.Random(count), []
    for number in range(count):
        uri = f"s3://{BUCKET}/tokens/{number}.arrow"
        told = store.write(uri, draw.randbytes(SIZE + number))
        made.append(Entry(uri, told.size, told.digest))
    return made


def read(cache: Cache, files: list[Entry]) -> None:
    cache.plan(planned(one_by_one(range(len(files)))))
    for number, entry in enumerate(files):
        assert intact(path := cache.path(number, number * 10))
        assert path.name == named(entry)
        assert path.stat().st_size == entry.size


def test_shards_come_from_s3_in_ranges_and_in_order(proxy: Proxy, tmp_path: Path) -> None:
    files = put(4)
    with Cache(tmp_path / "near", 10 * SIZE, files, streams=1) as cache:
        read(cache, files)
        assert cache.told.retries == 0
    paths = [path for path, _ in proxy.gets]
    assert paths == [f"/{BUCKET}/tokens/{n}.arrow" for n in range(4) for _ in range(-(-(SIZE + n) // RANGE))]


def test_a_dataset_in_s3_is_mapped_here(proxy: Proxy, tmp_path: Path) -> None:
    target = Target(f"s3://{BUCKET}/dataset", "key", "arrow")
    writer = target.writer("part-00000")
    writer.write(pa.table({"tokens": pa.array(np.arange(500_000, dtype=np.uint16))}))
    target.seal([writer.finish({}, {})])
    dataset = opened(f"s3://{BUCKET}/dataset")
    assert dataset is not None
    with Cache(tmp_path / "near", 10 * SIZE, entries(dataset)) as cache:
        cache.plan(planned(one_by_one([0])))
        rows = pa.ipc.open_file(pa.memory_map(str(cache.path(0, 0)))).read_all()
        assert rows.equals(dataset.read("part-00000"))


@pytest.mark.parametrize("fault", ["500", "503", "cut", "truncate"])
def test_what_fails_for_a_while_is_tried_again(fault: str, proxy: Proxy, tmp_path: Path) -> None:
    files = put(3)
    proxy.faults = [fault] * 12
    with Cache(tmp_path / "near", 10 * SIZE, files, streams=2) as cache:
        read(cache, files)
        assert cache.told.bytes == sum(entry.size for entry in files)
    assert [told for _, told in proxy.gets].count(fault) == 12
    assert not list((tmp_path / "near").glob("*.part"))


@pytest.mark.slow
def test_what_fails_longer_than_the_client_has_patience_is_tried_again(proxy: Proxy, tmp_path: Path) -> None:
    """The client that pyarrow brings repeats a request by itself, for some seconds."""
    files = put(1)
    proxy.faults = ["503"] * 10
    with Cache(tmp_path / "near", 10 * SIZE, files, streams=1) as cache:
        read(cache, files)
        assert cache.told.retries >= 1
    assert [told for _, told in proxy.gets].count("503") == 10


@pytest.mark.slow
def test_faults_at_random(proxy: Proxy, tmp_path: Path) -> None:
    files = put(6)
    draw = random.Random(6)
    proxy.faults = [draw.choice(["", "", "500", "503", "cut", "truncate", "slow"]) for _ in range(60)]
    with Cache(tmp_path / "near", 3 * (SIZE + 9), files, streams=4) as cache:
        read(cache, files)
    assert len(whole(tmp_path / "near")) <= 3


def test_slow_answers_are_waited_for(proxy: Proxy, tmp_path: Path) -> None:
    files = put(1)
    proxy.always = "slow"
    with Cache(tmp_path / "near", 10 * SIZE, files) as cache:
        read(cache, files)
        assert cache.told.waits == 1


def test_one_flipped_bit_on_the_way_is_met_by_fetching_again(proxy: Proxy, tmp_path: Path) -> None:
    files = put(1)
    proxy.faults = ["", "corrupt"]
    with Cache(tmp_path / "near", 10 * SIZE, files, streams=1) as cache:
        read(cache, files)
        assert cache.told.retries == 1


def test_a_store_that_lies_is_refused(proxy: Proxy, tmp_path: Path) -> None:
    files = put(1)
    proxy.always = "corrupt"
    with Cache(tmp_path / "near", 10 * SIZE, files) as cache:
        cache.plan(planned(one_by_one([0])))
        with pytest.raises(Damaged, match=r"s3://corpora/tokens/0\.arrow does not match its digest"):
            cache.path(0, 0)
        assert not whole(tmp_path / "near")


@pytest.mark.parametrize("fault", [pytest.param("500", marks=pytest.mark.slow), "403"])
def test_what_fails_for_good_is_named(
    fault: str, proxy: Proxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetch, "PAUSES", (0.01,))
    files = put(1)
    proxy.always = fault
    with Cache(tmp_path / "near", 10 * SIZE, files) as cache:
        cache.plan(planned(one_by_one([0])))
        said = "INTERNAL_FAILURE" if fault == "500" else "ACCESS_DENIED"
        with pytest.raises(ValueError, match=rf"cannot read the URI 's3://corpora/tokens/0\.arrow' \(.*{said}"):
            cache.path(0, 0)


def test_an_object_that_is_gone_or_of_another_length_is_named(proxy: Proxy, tmp_path: Path) -> None:
    files = put(2)
    store.remove(files[0].uri)
    files[1] = files[1]._replace(size=5)
    with Cache(tmp_path / "near", 10 * SIZE, files) as cache:
        cache.plan(planned(one_by_one([0, 1])))
        with pytest.raises(Damaged, match=r"0\.arrow is named in a manifest and is not there"):
            cache.path(0, 0)
        with pytest.raises(Damaged, match=r"1\.arrow has 900,002 bytes and the manifest says 5"):
            cache.path(1, 10)


def test_an_object_put_anew_under_way_is_refused(proxy: Proxy, tmp_path: Path) -> None:
    files = put(1)
    proxy.always = "slow"
    with Cache(tmp_path / "near", 10 * SIZE, files, streams=1) as cache:
        cache.plan(planned(one_by_one([0])))
        deadline = time.monotonic() + 60
        while not proxy.gets and time.monotonic() < deadline:
            time.sleep(0.005)
        other = random.Random(99).randbytes(SIZE)
        store.write(files[0].uri, other)
        with pytest.raises(Damaged, match=r"0\.arrow does not match its digest"):
            cache.path(0, 0)
    assert hashlib.sha256(other).hexdigest() != files[0].digest


def test_the_speed_of_the_store_is_measured(proxy: Proxy) -> None:
    files = put(1)
    assert fetch.speed(files[0], 4, SIZE // 2) > 0
    assert len(proxy.gets) == -(-(SIZE // 2) // RANGE)
