"""A Ray of several nodes in a process of its own, told by lines what to start: `python -m tests.chaos_nodes FOLDER`.

    head 1        ->  {"address": "127.0.0.1:6379", "raylet": 4711, "others": [4709, 4710], "disk": "FOLDER/disk-0"}
    node 1        ->  {"address": "127.0.0.1:6379", "raylet": 4720, "others": [4721], "disk": "FOLDER/disk-1"}

The number is that of CPUs. Each node has a temporary folder of its own, which stands for its disk. A node is a raylet
and what stands beside it (the head: the GCS); all of them are this process's children, so that whoever asked may kill
each by its number, and they end with this process, however that ends. A Ray in the process of the tests themselves
would take over whatever an earlier test had set there.
"""

import json
import os
import sys
from typing import Any

from ray.cluster_utils import Cluster

# A node is given up some five seconds after its last word; Ray's own patience is some twenty.
PATIENCE = {"health_check_initial_delay_ms": 1000, "health_check_period_ms": 1000, "health_check_timeout_ms": 5000}


def told(node: Any, disk: str) -> dict[str, Any]:
    """Where a node is asked, and the numbers of its processes."""
    numbers = {kind: [one.process.pid for one in those] for kind, those in node.all_processes.items()}
    [raylet] = numbers.pop("raylet")
    others = [number for kind, those in numbers.items() if kind != "reaper" for number in those]
    return {"address": node.gcs_address, "raylet": raylet, "others": others, "disk": disk}


def main(folder: str) -> None:
    os.makedirs(f"{folder}/ray", exist_ok=True)  # where Cluster writes its address
    common = {"temp_dir": f"{folder}/r", "object_store_memory": 80 << 20, "include_dashboard": False}
    cluster = Cluster()
    try:
        for line in sys.stdin:
            kind, cpus = line.split()
            own = {"_system_config": PATIENCE} if kind == "head" else {}
            disk = f"{folder}/disk-{len(cluster.list_all_nodes())}"
            os.makedirs(disk)
            node = cluster.add_node(num_cpus=int(cpus), env_vars={**os.environ, "TMPDIR": disk}, **common, **own)
            print(json.dumps(told(node, disk)), flush=True)
    finally:
        cluster.shutdown()


if __name__ == "__main__":
    main(sys.argv[1])
