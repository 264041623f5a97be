"""A dataset in Azure's Blob storage, as Azurite has it. Runs where that is installed (`npm install azurite`, and its
`node_modules/.bin` in PATH)."""

import shutil
import subprocess
import time
from collections.abc import Iterator

import pyarrow as pa
import pyarrow.fs as pafs
import pytest

from tundish.cluster import retry, store
from tundish.cluster.shards import opened, verify
from tundish.cluster.target import Target, lost
from tundish.cluster.wire import answers, free_port

pytestmark = pytest.mark.skipif(shutil.which("azurite-blob") is None, reason="Azurite is not installed")
ACCOUNT = "devstoreaccount1"  # Azurite's, and its key, as its documentation has them
KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="


@pytest.fixture
def container(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """An empty container, as a URI."""
    port = free_port()
    words = ["azurite-blob", "--silent", "--disableTelemetry", "--skipApiVersionCheck", "--inMemoryPersistence"]
    with subprocess.Popen([*words, "--blobPort", str(port)], stdout=subprocess.DEVNULL) as server:
        try:
            deadline = time.monotonic() + 60
            while not answers(f"127.0.0.1:{port}", 1.0) and time.monotonic() < deadline:
                time.sleep(0.2)
            at = f"127.0.0.1:{port}"
            pafs.AzureFileSystem(
                account_name=ACCOUNT,
                account_key=KEY,
                blob_storage_authority=at,
                dfs_storage_authority=at,
                blob_storage_scheme="http",
                dfs_storage_scheme="http",
            ).create_dir("corpora")
            monkeypatch.setenv("AZURE_STORAGE_KEY", KEY)
            monkeypatch.setenv("TUNDISH_STORAGE", f"az://corpora?endpoint=http://{at}&account={ACCOUNT}")
            store._filesystem.cache_clear()
            yield "az://corpora"
        finally:
            server.kill()
            store._filesystem.cache_clear()


def test_a_dataset_in_azure(container: str, monkeypatch: pytest.MonkeyPatch) -> None:
    target = Target(f"{container}/root/toy-0123456789", "key")
    writer = target.writer("part-00000")
    writer.write(pa.table({"n": pa.array(range(100_000))}))
    target.seal([writer.finish({}, {})])
    found = opened(target.uri)
    assert found is not None
    assert found.table()["n"].to_pylist() == list(range(100_000))
    assert verify(found) == []
    assert lost(found) is None
    assert target.committed("part-00000", {}) == found.shards[0]
    assert store.listing(target.uri) == ["commits", "manifest.json", "part-00000.parquet"]
    assert store.matching(f"{container}/root/*/*.parquet") == [f"{target.uri}/part-00000.parquet"]
    body = bytes(range(256)) * 50_000  # more than goes in one request
    store.write(f"{container}/a", body)
    store.move(f"{container}/a", f"{container}/b")
    assert (store.exists(f"{container}/a"), store.read(f"{container}/b")) == (False, body)
    store.remove(f"{container}/root")
    assert opened(target.uri) is None
    monkeypatch.setattr(retry, "PAUSES", ())
    monkeypatch.setenv("AZURE_STORAGE_KEY", KEY.replace("Eby", "Abc"))
    store._filesystem.cache_clear()
    with pytest.raises(ValueError, match="cannot read the URI 'az://corpora/b'"):
        store.read(f"{container}/b")
