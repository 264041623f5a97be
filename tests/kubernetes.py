"""A reader of Kubernetes objects that says what is wrong with them: the part of the API that our manifests use alone.

A field that is not listed here is reported, as the API server would report it under strict validation; so a manifest
that grows makes this file grow. Sources: the API reference of Kubernetes 1.34 (PodSpec, Container, EnvVar, ConfigMap,
quantities, names of DNS-1123 and labels); KubeRay's API reference for ray.io/v1 (RayClusterSpec, HeadGroupSpec,
WorkerGroupSpec, AutoscalerOptions, AuthOptions, RayJobSpec); Ray's guide to authentication on KubeRay.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from decimal import Decimal
from typing import Any

from tundish.cluster.credentials import secret

Check = Callable[[Any, str], Iterator[str]]
DNS = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
LABEL = re.compile(r"([a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?")
VALUE = re.compile(r"([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?")
QUANTITY = re.compile(r"([0-9]+(?:\.[0-9]+)?)(m|k|M|G|T|Ki|Mi|Gi|Ti)?")
UNITS = {"m": Decimal("0.001"), **{u: Decimal(1000) ** n for n, u in enumerate("kMGT", 1)}}
UNITS |= {f"{u}i": Decimal(1024) ** n for n, u in enumerate("KMGT", 1)}


def amount(quantity: Any) -> Decimal | None:
    """A quantity as a number; None when it is none.

    >>> amount("500m"), amount("2Gi"), amount("8"), amount("2GB")
    (Decimal('0.500'), Decimal('2147483648'), Decimal('8'), None)
    """
    found = QUANTITY.fullmatch(str(quantity))
    return Decimal(found[1]) * UNITS.get(found[2] or "", Decimal(1)) if found else None


def of(kind: type) -> Check:
    def check(value: Any, where: str) -> Iterator[str]:
        if type(value) is not kind:  # True is an int to Python, and none to the API
            yield f"{where} is {value!r}, no {kind.__name__}"

    return check


def matching(pattern: re.Pattern[str]) -> Check:
    def check(value: Any, where: str) -> Iterator[str]:
        if not isinstance(value, str) or not pattern.fullmatch(value):
            yield f"{where} is {value!r}"

    return check


def one_of(*values: str) -> Check:
    return matching(re.compile("|".join(map(re.escape, values))))


def each(inner: Check) -> Check:
    def check(value: Any, where: str) -> Iterator[str]:
        if not isinstance(value, list) or not value:
            yield f"{where} is {value!r}, no list"
            return
        for number, item in enumerate(value):
            yield from inner(item, f"{where}[{number}]")

    return check


def pairs(key: Check, inner: Check) -> Check:
    def check(value: Any, where: str) -> Iterator[str]:
        if not isinstance(value, Mapping):
            yield f"{where} is {value!r}, no mapping"
            return
        for name, item in value.items():
            yield from key(name, f"{where}: the key")
            yield from inner(item, f"{where}.{name}")

    return check


def fields(needed: str = "", **known: Check) -> Check:
    """A mapping of these fields; those in `needed` have to be there."""

    def check(value: Any, where: str) -> Iterator[str]:
        if not isinstance(value, Mapping):
            yield f"{where} is {value!r}, no mapping"
            return
        yield from (f"{where} has no {name}" for name in needed.split() if name not in value)
        for name, item in value.items():
            if name in known:
                yield from known[name](item, f"{where}.{name}")
            else:
                yield f"{where}.{name} is unknown"

    return check


def all_of(*checks: Check) -> Check:
    def check(value: Any, where: str) -> Iterator[str]:
        for inner in checks:
            if found := list(inner(value, where)):  # the later ones take for granted what the earlier ones look at
                yield from found
                return

    return check


def quantity(value: Any, where: str) -> Iterator[str]:
    if amount(value) is None:
        yield f"{where} is {value!r}, no quantity"


def enough(value: Any, where: str) -> Iterator[str]:
    """No request above its limit; devices have a limit, and the same request."""
    asked, most = value.get("requests", {}), value.get("limits", {})
    for name in {*asked, *most}:
        least, limit = amount(asked.get(name)), amount(most.get(name))
        if least is not None and limit is not None and least > limit:
            yield f"{where}: {name} asks for more than its limit"
        if "/" in name and (least is None or least != limit):
            yield f"{where}: {name} has no limit that is its request"


def harmless(value: Any, where: str) -> Iterator[str]:
    """A variable that names a secret has it from a Secret."""
    name = value.get("name", "")
    if ("value" in value) == ("valueFrom" in value):
        yield f"{where}: {name} has not one of value and valueFrom"
    if "value" in value and (secret(name) or name.endswith("ACCESS_KEY_ID")):
        yield f"{where}: {name} stands here in clear"


def mounted(value: Any, where: str) -> Iterator[str]:
    """What containers mount is declared, and they have names of their own."""
    there = {volume.get("name") for volume in value.get("volumes", [])}
    containers = value.get("containers", [])
    for mount in (mount for one in containers for mount in one.get("volumeMounts", [])):
        if mount.get("name") not in there:
            yield f"{where}: no volume {mount.get('name')!r}"
    if len({one.get("name") for one in containers}) < len(containers):
        yield f"{where}: two containers of one name"


TEXT, WHOLE, YES = of(str), of(int), of(bool)
NAME, TEXTS = matching(DNS), pairs(TEXT, TEXT)
LABELS = pairs(matching(LABEL), matching(VALUE))
META = fields("name", name=NAME, namespace=NAME, labels=LABELS, annotations=TEXTS)
QUANTITIES = pairs(matching(LABEL), quantity)
RESOURCES = all_of(fields(requests=QUANTITIES, limits=QUANTITIES), enough)
ENV = all_of(
    fields(
        "name",
        name=matching(re.compile(r"[A-Za-z_][A-Za-z0-9_]*")),
        value=TEXT,
        valueFrom=fields("secretKeyRef", secretKeyRef=fields("name key", name=NAME, key=TEXT)),
    ),
    harmless,
)
IMAGE = matching(re.compile(r"[a-z0-9.\-/]+:(?!latest$)[A-Za-z0-9_.-]+"))
CONTAINER = fields(
    "name image resources securityContext",
    name=NAME,
    image=IMAGE,
    securityContext=fields(
        "allowPrivilegeEscalation capabilities",
        allowPrivilegeEscalation=YES,
        capabilities=fields("drop", drop=each(one_of("ALL"))),
    ),
    ports=each(fields("containerPort", containerPort=WHOLE, name=matching(re.compile(r"[a-z0-9-]{1,15}")))),
    env=each(ENV),
    resources=RESOURCES,
    volumeMounts=each(fields("name mountPath", name=NAME, mountPath=TEXT, readOnly=YES)),
)
POD = all_of(
    fields(
        "containers securityContext",
        automountServiceAccountToken=YES,
        serviceAccountName=NAME,
        securityContext=fields(
            "runAsNonRoot runAsUser",
            runAsNonRoot=YES,
            runAsUser=WHOLE,
            fsGroup=WHOLE,
            seccompProfile=fields("type", type=one_of("RuntimeDefault")),
        ),
        nodeSelector=LABELS,
        tolerations=each(
            fields(
                "operator",
                key=matching(LABEL),
                operator=one_of("Exists", "Equal"),
                effect=one_of("NoSchedule", "PreferNoSchedule", "NoExecute"),
                value=TEXT,
            )
        ),
        containers=each(CONTAINER),
        volumes=each(fields("name configMap", name=NAME, configMap=fields("name", name=NAME))),
    ),
    mounted,
)
TEMPLATE = fields("spec", metadata=fields(labels=LABELS), spec=POD)


def called(name: str) -> Check:
    """The first container is the one Ray runs in; KubeRay starts Ray there."""

    def check(value: Any, where: str) -> Iterator[str]:
        if (found := value["template"]["spec"]["containers"][0]["name"]) != name:
            yield f"{where}: the first container is {found!r}, not {name!r}"

    return check


def between(value: Any, where: str) -> Iterator[str]:
    if not 0 <= value["minReplicas"] <= value["replicas"] <= value["maxReplicas"] > 0:
        yield f"{where}: not minReplicas <= replicas <= maxReplicas"


def apart(value: Any, where: str) -> Iterator[str]:
    if len({group["groupName"] for group in value}) < len(value):
        yield f"{where}: two groups of one name"


HEAD = all_of(
    fields(
        "template rayStartParams",
        template=TEMPLATE,
        rayStartParams=TEXTS,
        serviceType=one_of("ClusterIP"),  # the API has more; ours is not reached from outside
        labels=LABELS,
    ),
    called("ray-head"),
)
GROUP = all_of(
    fields(
        "groupName template minReplicas replicas maxReplicas",
        groupName=NAME,
        minReplicas=WHOLE,
        replicas=WHOLE,
        maxReplicas=WHOLE,
        rayStartParams=TEXTS,
        labels=LABELS,
        template=TEMPLATE,
        idleTimeoutSeconds=WHOLE,
    ),
    between,
    called("ray-worker"),
)
CLUSTER = fields(
    "rayVersion authOptions headGroupSpec workerGroupSpecs",
    rayVersion=TEXT,
    authOptions=fields("mode", mode=one_of("token")),
    enableInTreeAutoscaling=YES,
    autoscalerOptions=fields(
        version=one_of("v1", "v2"),
        upscalingMode=one_of("Default", "Aggressive", "Conservative"),
        idleTimeoutSeconds=WHOLE,
        resources=RESOURCES,
    ),
    headGroupSpec=HEAD,
    workerGroupSpecs=all_of(each(GROUP), apart),
)
JOB = fields(
    "entrypoint rayClusterSpec",
    entrypoint=TEXT,
    submissionMode=one_of("K8sJobMode", "HTTPMode", "InteractiveMode", "SidecarMode"),
    backoffLimit=WHOLE,
    shutdownAfterJobFinishes=YES,
    ttlSecondsAfterFinished=WHOLE,
    rayClusterSpec=CLUSTER,
)
KINDS: dict[tuple[str, str], Check] = {
    ("v1", "ConfigMap"): fields("apiVersion kind metadata data", apiVersion=TEXT, kind=TEXT, metadata=META, data=TEXTS),
    **{
        ("ray.io/v1", kind): fields(
            "apiVersion kind metadata spec", apiVersion=TEXT, kind=TEXT, metadata=META, spec=spec
        )
        for kind, spec in (("RayCluster", CLUSTER), ("RayJob", JOB))
    },
}


def wrong(manifest: Mapping[str, Any]) -> list[str]:
    """What is wrong with one object, by the place of it; nothing when all is well."""
    key = str(manifest.get("apiVersion")), str(manifest.get("kind"))
    return list(KINDS[key](manifest, key[1])) if key in KINDS else [f"{key} is no kind that is known here"]
