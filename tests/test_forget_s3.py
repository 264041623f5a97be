"""Forgetting in a root that lies in S3: the same, through an object store that knows no renames."""

import shutil
from pathlib import Path
from typing import Any

import pyarrow.fs as pafs
import pyarrow.parquet as pq
import pytest

from tests import forget_root as made
from tests.forget_root import KRANICH, secret
from tests.test_s3 import bucket as bucket
from tundish.cluster import store
from tundish.cluster.local import Local
from tundish.pipeline.forget import forget
from tundish.pipeline.plan import plan
from tundish.pipeline.run import run
from tundish.pipeline.verify import verify
from tundish.stages.corpus import Corpus
from tundish.stages.deduplicate import Deduplicate
from tundish.stages.read import Read
from tundish.stages.refine import Refine
from tundish.stages.sign import Sign

pytestmark = pytest.mark.skipif(shutil.which("moto_server") is None, reason="moto's server is not installed")


def objects(uri: str) -> dict[str, bytes]:
    """What every object under a URI says."""
    filesystem, path = store.resolve(uri)
    found = filesystem.get_file_info(pafs.FileSelector(path, recursive=True))
    said: dict[str, bytes] = {}
    for one in (each for each in found if each.is_file):
        with filesystem.open_input_file(one.path) as stream:
            table = pq.read_table(stream) if one.path.endswith(".parquet") else None
            said[one.path] = stream.read() if table is None else repr(table.to_pylist()).encode()
    return said


@pytest.mark.slow  # a whole pipeline over a server of S3
def test_a_root_in_s3_forgets(bucket: Any, tmp_path: Path) -> None:
    made.sources(tmp_path)
    docs = Read((str(tmp_path / "rows.jsonl"),))
    kept = Refine(docs, keep={"rules": "none"})  # type: ignore[arg-type]
    goal = Corpus(docs, kept, Deduplicate(docs, Sign(docs), kept, survivor="length desc"))
    root, url = f"{bucket}/root", f"{KRANICH}/page/41"
    run(goal, Local(), root)
    holds = {name for name, said in objects(root).items() if secret(url).encode() in said}
    assert len(holds) == 2
    answer = forget(root, [url])
    assert answer["documents"] == 1
    assert not any(secret(url).encode() in said for said in objects(root).values())
    assert not any(".forgetting" in name for name in objects(root))
    assert verify(root) == []
    assert [step.because for step in plan(goal, root) if not step.current] == []
