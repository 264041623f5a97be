"""A training on a Ray of three nodes that share no folder for it: all it writes lies in an S3. A trainer is killed,
then the driver; what is sealed in the end is what a run in a folder seals, that nobody disturbed."""

import contextlib
import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from tests import chaos
from tests.s3_server import S3, serving
from tundish.cluster import store
from tundish.cluster.shards import opened

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="processes are found in /proc"),
]
ROOT = "s3://corpora/root"


def uploaded(root: Path) -> None:
    """What comes before the training, as a run under that root would have sealed it."""
    for path in sorted(root.rglob("*")):
        name = path.relative_to(root)
        if path.is_file() and not name.parts[0].startswith(("pretrain-", "runs", "lease")):
            store.write(f"{ROOT}/{name}", path.read_bytes())


def kept(s3: S3) -> set[str]:
    """Checkpoints that are whole."""
    return {key for key in list(s3.objects) if key.endswith("/whole.json")}


def trained(s3: S3) -> dict[str, Any]:
    """As `chaos.trained` says it of a folder."""
    [folder] = {key.split("/")[1] for key in s3.objects if key.split("/")[1].startswith("pretrain-")}
    dataset = opened(f"{ROOT}/{folder}")
    assert dataset is not None
    lines = [json.loads(line) for line in store.read(dataset.path("log")).splitlines()]
    return {
        "ledger": store.read(dataset.path("ledger")).decode(),
        "losses": [(line["step"], line["loss"]) for line in lines],
        "weights": store.read(dataset.path("model")),
    }


def test_a_killed_trainer_and_a_killed_driver_lose_no_step(tmp_path: Path, tmp_path_factory: Any) -> None:
    path, expected = chaos.whole(tmp_path_factory.getbasetemp())
    with serving() as s3, chaos.nodes(1, 1, 1) as ray:
        uploaded(expected)
        words = [*chaos.command(path, Path("root"), ray.address, *chaos.PAIR)]
        words[words.index("root")] = ROOT
        with chaos.driving(words, tmp_path) as driver:
            driver.until(lambda: kept(s3))
            seen = kept(s3)
            gone = driver.until(lambda: ray.busy("RayTrainWorker"))[0]
            with contextlib.suppress(ProcessLookupError):
                os.kill(gone, signal.SIGKILL)
            driver.until(lambda: kept(s3) - seen)
            driver.kill()
        with chaos.driving(words, tmp_path) as driver:
            assert driver.ended() == 0, driver.said
        assert trained(s3) == chaos.trained(expected)
