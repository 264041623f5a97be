"""Training on token shards in an S3 that is asked over HTTP: the same steps as on those of this disk. Runs where moto's
server is installed (see test_s3)."""

import shutil
from pathlib import Path

import pytest

from tests.test_mix import corpus_of
from tests.test_s3 import bucket  # noqa: F401 - a fixture
from tests.toys import pages
from tundish.cluster import store
from tundish.cluster.local import Local
from tundish.pipeline.run import run
from tundish.stages import tokenize
from tundish.stages.mix import Mix
from tundish.stages.pretrain import Pretrain
from tundish.stages.tokenize import Tokenize

pytestmark = pytest.mark.skipif(shutil.which("moto_server") is None, reason="moto's server is not installed")


@pytest.mark.slow
def test_shards_from_s3_give_the_steps_of_those_at_home(
    bucket: str,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TUNDISH_TORCH_THREADS", "1")
    monkeypatch.setattr(tokenize, "BYTES_A_SHARD", 3_000)  # ten shards from a small corpus
    monkeypatch.setenv("TUNDISH_TOKENS", f"{tmp_path / 'cache'}=30kB")
    web = Tokenize(corpus_of(tmp_path, "web", list(pages().values())), vocabulary=312, holdout=0.2)
    made = run(web, Local(), str(tmp_path / "made")).datasets[web.address]
    assert len(made.shards) > 6
    far = f"{bucket}/{web.address}"
    for path in Path(made.uri).rglob("*"):
        if path.is_file():
            store.write(f"{far}/{path.relative_to(made.uri)}", path.read_bytes())
    found = {}
    for where, uri in (("home", made.uri), ("s3", far)):
        goal = Pretrain(Mix({}, {"web": uri}), tokens=20_000, length=64, batch=8, window=2)
        trained = run(goal, Local(), str(tmp_path / where)).datasets[goal.address]
        found[where] = [
            Path(trained.uri, name).read_bytes() for name in ("ledger.jsonl", "plan.json", "model.safetensors")
        ]
    assert found["home"] == found["s3"]
    kept = [path for path in (tmp_path / "cache").rglob("*.arrow") if path.is_file()]
    assert kept, "the shards came through the cache"
    assert sum(path.stat().st_size for path in kept) <= 30_000 < sum(shard.size for shard in made.shards)
