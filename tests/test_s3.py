"""Archives and roots in an S3 that is asked over HTTP. Runs where moto's server is installed (`pip install
"moto[server]"` in an environment of its own, its `bin` in PATH)."""

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pyarrow.fs as pafs
import pytest

from tests.test_crawl import at, crawl, page, run, stored
from tundish.cluster import store
from tundish.cluster.local import Local
from tundish.cluster.shards import opened
from tundish.cluster.wire import Toy, answers, free_port
from tundish.stages.extract import Extract
from tundish.stages.ingest import Ingest
from tundish.stages.stage import Place

pytestmark = pytest.mark.skipif(shutil.which("moto_server") is None, reason="moto's server is not installed")
BUCKET = "corpora"


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """An empty bucket, as a URI."""
    port = free_port()
    for name, value in {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
    }.items():
        monkeypatch.setenv(name, value)
    store._filesystem.cache_clear()
    with subprocess.Popen(["moto_server", "-p", str(port)], stderr=subprocess.DEVNULL) as server:
        try:
            deadline = time.monotonic() + 60
            while not answers(f"127.0.0.1:{port}", 1.0) and time.monotonic() < deadline:
                time.sleep(0.2)
            s3 = pafs.S3FileSystem(endpoint_override=os.environ["AWS_ENDPOINT_URL"], allow_bucket_creation=True)
            s3.create_dir(BUCKET)
            yield f"s3://{BUCKET}"
        finally:
            server.kill()
            store._filesystem.cache_clear()


def test_archives_in_s3_become_documents_in_s3(bucket: str, tmp_path: Path) -> None:
    texts = {at(f"/{n}"): f"Page {n} of a small site has words enough to be a text of its own." for n in range(9)}
    web = {at(): page(*(f"/{n}" for n in range(9)))} | {url: page(text=text) for url, text in texts.items()}
    made = run(web, tmp_path / "crawled", archive="gz")
    for name in made.names:
        store.write(f"{bucket}/archives/{name}.warc.gz", Path(made.path(name)).read_bytes())
    ingest = Ingest((f"{bucket}/archives/*.warc.gz",), split=2000)
    assert [file["size"] for file in ingest.outside()]
    captured = ingest.run(Local(), {}, Place(f"{bucket}/runs/ingest", "key"))
    assert {one.constants["label"] for one in captured.shards} == {f"{name}.warc.gz" for name in made.names}
    assert len(captured.shards) > len(made.names)  # cut into ranges
    documents = Extract(ingest).run(Local(), {"archives": captured}, Place(f"{bucket}/runs/extract", "key"))
    again = opened(f"{bucket}/runs/extract")
    assert again is not None
    assert again.digest == documents.digest
    rows = again.table().to_pylist()
    assert {row["url"]: row["text"].split("\n")[0] for row in rows if row["url"] in texts} == texts
    stage = crawl()
    elsewhere = stage.through(lambda: Toy(web), Local(), Place(f"{bucket}/runs/{stage.address}", stage.fingerprint))
    assert stored(elsewhere) == sorted(web)
    assert not store.exists(f"{bucket}/runs/{stage.address}/keepers")
    here = Extract(ingest).run(Local(), {"archives": captured}, Place(str(tmp_path / "extract"), "key"))
    assert here.digest == documents.digest
