"""What room a Ray has: what its machines hold, and what machines that may yet come would bring.

Promises: a group of machines that is empty until somebody asks for it counts, where somebody says that it is there: an
autoscaler that tells Ray its groups, or the label `tundish/gpus` of a machine (the head's, in cluster/files) with the
number of GPUs that the cluster may have. The label is what speaks on clusters by `ray up` and KubeRay: Ray 2.60 has a
place for the groups, and its own autoscalers never fill it (ray-project/ray#63012). Costs two calls to the head.
Refuses a label that is no whole number.
"""

from collections.abc import Iterable, Mapping

import ray

GPUS = "tundish/gpus"  # label of a machine: how many GPUs the cluster may have, those that are there among them


def there(resource: str) -> int:
    """How much of a resource the machines have that are there."""
    return int(ray.cluster_resources().get(resource, 0))


def most(resource: str) -> int:
    """How much of it there may be, with the machines that may come; what is there, where none is said to come."""
    told = ray._private.state.state.get_max_resources_from_cluster_config() or {}
    labels = [node.get("Labels", {}) for node in ray.nodes() if node["Alive"]]
    return max(there(resource), foretold(resource, told, labels))


def foretold(resource: str, told: Mapping[str, float], labels: Iterable[Mapping[str, str]]) -> int:
    """The most of a resource that is said to come: `told` by an autoscaler, or by the labels of machines.

    >>> foretold("GPU", {}, [{}, {GPUS: "4"}]), foretold("GPU", {"GPU": 8.0}, []), foretold("CPU", {}, [{GPUS: "4"}])
    (4, 8, 0)
    """
    said = [each[GPUS] for each in labels if resource == "GPU" and GPUS in each]
    if odd := [text for text in said if not (text.isascii() and text.isdecimal())]:
        raise ValueError(
            f"a machine of the cluster has the label {GPUS}={odd[0]!r}; make it the number of GPUs that the cluster "
            "may have, such as 4"
        )
    return int(max([told.get(resource, 0), *map(int, said)]))
