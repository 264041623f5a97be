"""A cluster whose GPU machines come when somebody asks for them, by Ray's own autoscaler: the machines are processes
here, and their GPUs a number.

So a gang can be given GPUs on any machine, and its workers fail where torch looks for one: that they were started on
machines that came, and not on CPUs that were there, is what is shown.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import ray
from ray.autoscaler._private.fake_multi_node.node_provider import FAKE_HEAD_NODE_ID, FAKE_HEAD_NODE_TYPE

from tests.test_jobs import TOP, ended
from tundish.cluster import ray_gang, ray_room
from tundish.cluster.on_ray import OnRay
from tundish.cluster.wire import free_port

pytestmark = pytest.mark.slow  # a Ray with an autoscaler, whose machines start in half a minute
MACHINES = 2  # with a GPU each


@dataclass(frozen=True)
class Head:
    """Where a head answers, what whoever joins needs in the environment, and the folder of all it writes."""

    address: str
    environment: dict[str, str]
    folder: Path


def config(address: str) -> dict[str, object]:
    """What `ray up` would be given: a head, and a group of GPU machines with none to begin with."""
    return {
        "cluster_name": "come",
        "max_workers": MACHINES,
        "upscaling_speed": 9.0,
        "idle_timeout_minutes": 5,
        "provider": {
            "type": "external",
            "module": "ray.autoscaler._private.fake_multi_node.node_provider.FakeMultiNodeProvider",
            "gcs_address": address,
            "head_node_id": FAKE_HEAD_NODE_ID,
            "launch_multiple": True,
            "disable_node_updaters": True,
            "disable_launch_config_check": True,
        },
        **{key: {} for key in ("auth", "docker", "file_mounts")},
        **{f"{which}setup_commands": [] for which in ("", "head_", "worker_")},
        "cluster_synced_files": [],
        **{f"{which}_start_ray_commands": [] for which in ("head", "worker")},
        "available_node_types": {
            FAKE_HEAD_NODE_TYPE: {"resources": {"CPU": 1}, "node_config": {}, "max_workers": 0},
            "gpu": {
                "resources": {"CPU": 1, "GPU": 1, "object_store_memory": 100_000_000},
                "node_config": {},
                "min_workers": 0,
                "max_workers": MACHINES,
            },
        },
        "head_node_type": FAKE_HEAD_NODE_TYPE,
    }


@pytest.fixture(scope="module")
def head() -> Iterator[Head]:
    """Its path is short: Ray puts sockets there."""
    folder = Path(tempfile.mkdtemp(prefix="come-"))
    address = f"127.0.0.1:{free_port()}"
    (folder / "up.json").write_text(json.dumps(config(address)))
    (folder / "token").write_text("7" * 64)
    environment = {k: v for k, v in os.environ.items() if not k.startswith("RAY_")}
    environment |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(folder / "token")}
    cluster = {
        "RAY_FAKE_CLUSTER": "1",
        "RAY_enable_autoscaler_v2": "1",
        "RAY_CLOUD_INSTANCE_ID": FAKE_HEAD_NODE_ID,
        "AUTOSCALER_UPDATE_INTERVAL_S": "1",
    }
    command = [
        str(Path(sys.executable).parent / "ray"), "start", "--head", "--block", f"--port={address.partition(':')[2]}",
        f"--temp-dir={folder}", "--num-cpus=1", "--include-dashboard=false", "--object-store-memory=100000000",
        "--node-ip-address=127.0.0.1",
        f"--autoscaling-config={folder / 'up.json'}", f"--labels={ray_room.GPUS}={MACHINES}",
        f"--ray-client-server-port={free_port()}", f"--dashboard-agent-listen-port={free_port()}",
    ]  # fmt: skip
    with open(folder / "head.log", "wb") as log:
        process = subprocess.Popen(
            command, stdout=log, stderr=subprocess.STDOUT, env=environment | cluster, cwd=folder, start_new_session=True
        )
    try:
        until = time.monotonic() + 90
        while "Ray runtime started" not in (folder / "head.log").read_text() and time.monotonic() < until:
            assert process.poll() is None, (folder / "head.log").read_text()[-3000:]
            time.sleep(0.2)
        yield Head(address, environment, folder)
    finally:
        ended(process, folder)
        shutil.rmtree(folder, ignore_errors=True)


def drive(address: str, folder: str) -> None:
    """A driver that joins, and says what there is before and after the gang has failed for want of a real GPU; and what
    the autoscaler tells of its groups, which is nothing: were it more, the label would be needed no longer."""
    ray_gang.WAITS = 1.0
    with OnRay(address, scratch=folder) as joined:
        print("told", ray._private.state.state.get_max_resources_from_cluster_config())
        print("before", ray_room.there("GPU"), ray_room.most("GPU"), flush=True)
        try:
            joined.gang("Pretrain", nothing, size=MACHINES)
        except RuntimeError as error:
            print("failed", str(error).replace("\n", " "))
        print("after", ray_room.there("GPU"), ray_room.most("GPU"))


def nothing(rank: int, world: int, tell: object) -> None:
    """A training that would be over at once."""


def test_a_training_waits_for_machines_with_gpus_and_is_on_no_cpu(head: Head, tmp_path: Path) -> None:
    script = f"from tests.test_ray_gpus_come import drive; drive({head.address!r}, {str(tmp_path)!r})"
    told = subprocess.run(
        [sys.executable, "-c", script], cwd=TOP, env=head.environment, capture_output=True, text=True, timeout=300
    )
    logs = [path.read_text()[-2000:] for path in head.folder.glob("session_latest/logs/monitor.*")]
    said = [line for line in told.stdout.split("\n") if line]
    assert [line for line in said if not line.startswith("failed")] == ["told None", "before 0 2", "after 2 2"], (
        told,
        logs,
    )
    lacks = "Pretrain: no workers yet: it asks for 2 workers with a GPU and 0.25 CPU each"
    assert f"{lacks}, of a cluster with 1 CPUs and 0 GPUs, and 2 may be there once machines have come" in told.stderr
    assert "trains on" not in told.stderr
    (failed,) = [line for line in said if line.startswith("failed")]
    assert re.search("NCCL|CUDA|GPU", failed), failed
