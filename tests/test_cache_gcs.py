"""The node's cache before a Google Cloud Storage that is asked over HTTP. Runs where an emulator is installed
(`pip install gcp-storage-emulator` in an environment of its own, its `bin` in PATH)."""

import random
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.test_cache import intact, one_by_one, planned
from tundish.cluster import fetch, store
from tundish.cluster.cache import Cache, Entry
from tundish.cluster.shards import Damaged
from tundish.cluster.wire import answers, free_port

pytestmark = pytest.mark.skipif(shutil.which("gcp-storage-emulator") is None, reason="no emulator is installed")
SIZE = 900_001


@pytest.fixture
def bucket() -> Iterator[tuple[str, str]]:
    """An empty bucket as a URI, and what has to stand behind it."""
    port = free_port()
    command = ["gcp-storage-emulator", "start", "--port", str(port), "--in-memory", "--default-bucket", "corpora"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
        try:
            deadline = time.monotonic() + 60
            while not answers(f"127.0.0.1:{port}", 1.0) and time.monotonic() < deadline:
                time.sleep(0.2)
            yield "gs://anonymous@corpora", f"?scheme=http&endpoint_override=127.0.0.1%3A{port}"
        finally:
            server.kill()


def test_shards_come_from_gcs(bucket: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch, "RANGE", 1 << 18)
    monkeypatch.setattr(fetch, "PAUSES", (0.01,))
    draw, files = random.Random(1), []
    for number in range(3):
        uri = f"{bucket[0]}/tokens/{number}.arrow{bucket[1]}"
        told = store.write(uri, draw.randbytes(SIZE + number))
        files.append(Entry(uri, told.size, told.digest))
    with Cache(tmp_path / "near", 2 * SIZE + 9, files, streams=4) as cache:
        cache.plan(planned(one_by_one([0, 1, 2])))
        for number, entry in enumerate(files):
            assert intact(path := cache.path(number, number * 10))
            assert path.name == f"{entry.digest}.arrow"
    files[1] = files[1]._replace(digest="0" * 64)
    store.remove(files[2].uri)
    with Cache(tmp_path / "again", 10 * SIZE, files) as cache:
        cache.plan(planned(one_by_one([0, 1, 2])))
        assert intact(cache.path(0, 0))
        with pytest.raises(Damaged, match="does not match its digest"):
            cache.path(1, 10)
        with pytest.raises(Damaged, match="is not there"):
            cache.path(2, 20)
