"""The files that bring up a cluster, read by those who would read them, or by a stand-in where the platform is not at
hand: Ray's own schema and options, our own command line and recipe loader, tests/kubernetes.py."""

import copy
import re
import shlex
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from ray._private.label_utils import validate_label_key, validate_label_value
from ray.autoscaler._private.util import prepare_config, validate_config
from ray.scripts.scripts import start

from tests.kubernetes import amount, wrong
from tundish.cluster.credentials import redacted, secret
from tundish.cluster.jobs import _strings
from tundish.cluster.ray_room import GPUS, foretold
from tundish.pipeline.cli import cli
from tundish.pipeline.recipe import load
from tundish.pipeline.run import wanted_of

TOP = Path(__file__).resolve().parents[1]
FOLDER = TOP / "cluster" / "files"
FILES = sorted([*FOLDER.iterdir(), *(TOP / "cluster" / "docker").iterdir()])
UP = sorted(FOLDER.glob("ray-up-*.yaml"))
KUBERAY = sorted(FOLDER.glob("kuberay-*.yaml"))
PINNED = dict(line.split("==") for line in (TOP / "constraints.txt").read_text().split() if "==" in line)


def objects(path: Path) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all(path.read_text()))


def parsed(words: list[str]) -> Mapping[str, Any]:
    """The options of a `tundish` command, by its own reader."""
    command = cli.commands[words[0]]
    return command.make_context(words[0], list(words[1:])).params


def unknown(words: list[str]) -> list[str]:
    """The options of a `ray start` that it does not have."""
    known = {option for parameter in start.params for option in (*parameter.opts, *parameter.secondary_opts)}
    return [word for word in words if word.startswith("--") and word.partition("=")[0] not in known]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_each_file_says_what_it_promises_and_shows_no_secret(path: Path) -> None:
    text = path.read_text()
    comment = text.removeprefix("#!/bin/bash\n").partition("\n\n")[0] if path.suffix else text
    assert comment.startswith("# ")
    if path.suffix != ".dockerignore":
        assert all(word in text for word in ("# Promises", "Costs", "# Checked by tests/test_cluster_files.py"))
    assert redacted(text, {}) == text
    assert max(map(len, text.split("\n"))) <= 120


def test_the_guide_says_of_each_file_how_it_was_checked() -> None:
    guide = (TOP / "docs" / "guide-ray.md").read_text()
    assert [path.name for path in FILES if path.suffix != ".dockerignore" and f"`{path.name}`" not in guide] == []


@pytest.mark.parametrize("path", [p for p in FILES if p.suffix != ".dockerignore"], ids=lambda path: path.name)
def test_the_commands_of_the_opening_comments_are_ours(path: Path) -> None:
    shown = "\n".join(re.findall(r"^#     (.*)$", path.read_text(), re.MULTILINE))
    lines = re.findall(r"\btundish ((?:run|submit) .*)$", shown, re.MULTILINE)
    lines += [
        f"run {recipe} --root {rest}" for recipe, rest in re.findall(r"slurm\.sh (\S+) (.*)$", shown, re.MULTILINE)
    ]
    for line in lines:
        assert parsed(shlex.split(line))["root"]
    assert lines or path.name == "kuberay-job.yaml"


# -- Kubernetes


@pytest.mark.parametrize("path", KUBERAY, ids=lambda path: path.name)
def test_the_manifests_are_what_kuberay_reads(path: Path) -> None:
    found = objects(path)
    assert [fault for one in found for fault in wrong(one)] == []
    spec = found[-1]["spec"].get("rayClusterSpec", found[-1]["spec"])
    assert spec["rayVersion"] == PINNED["ray"]
    version = re.search(r'^version = "(.*)"$', (TOP / "pyproject.toml").read_text(), re.MULTILINE)
    assert version
    images = set(re.findall(r"image: (\S+)", path.read_text()))
    assert {image.rpartition("-")[0] for image in images} == {f"registry.example/tundish:{version[1]}"}
    maps = {one["metadata"]["name"] for one in found if one["kind"] == "ConfigMap"}
    named = {v["configMap"]["name"] for v in spec["headGroupSpec"]["template"]["spec"].get("volumes", [])}
    assert maps == named


def test_a_gpu_is_asked_for_where_the_image_has_what_it_needs() -> None:
    (cluster,) = objects(FOLDER / "kuberay-cluster.yaml")
    for group in cluster["spec"]["workerGroupSpecs"]:
        (container,) = group["template"]["spec"]["containers"]
        has = amount(container["resources"]["limits"].get("nvidia.com/gpu", "0"))
        assert bool(has) == container["image"].endswith("-gpu") == (group["labels"]["tundish/work"] == "gpu")


def test_the_head_says_how_many_gpus_may_come() -> None:
    """Ray does not: a training would be on CPUs for as long as no GPU machine is there."""
    (cluster,) = objects(FOLDER / "kuberay-cluster.yaml")
    come = 0
    for group in cluster["spec"]["workerGroupSpecs"]:
        (container,) = group["template"]["spec"]["containers"]
        come += group["maxReplicas"] * int(container["resources"]["limits"].get("nvidia.com/gpu", "0"))
    assert foretold("GPU", {}, [cluster["spec"]["headGroupSpec"]["labels"]]) == come > 0
    for path in UP:
        types = yaml.safe_load(path.read_text())["available_node_types"]
        assert foretold("GPU", {}, [types["head"]["labels"]]) == types["gpu"]["max_workers"] > 0  # one GPU each
        assert [name for name, one in types.items() if GPUS in one.get("labels", {})] == ["head"]
    (job,) = [one for one in objects(FOLDER / "kuberay-job.yaml") if one["kind"] == "RayJob"]
    assert GPUS not in str(job)  # which has no group with GPUs


def test_the_job_runs_a_recipe_that_loads_by_a_command_that_is_ours(tmp_path: Path) -> None:
    recipe, job = objects(FOLDER / "kuberay-job.yaml")
    program, *words = shlex.split(job["spec"]["entrypoint"])
    assert program == "tundish"
    options = parsed(words)
    assert options["on"] == "auto"  # joins the cluster it is started in
    head = job["spec"]["rayClusterSpec"]["headGroupSpec"]["template"]["spec"]
    (mount,) = head["containers"][0]["volumeMounts"]
    folder, name = str(options["recipe"]).rsplit("/", 1)
    assert (folder, mount["name"]) == (mount["mountPath"], head["volumes"][0]["name"])
    (tmp_path / name).write_text(recipe["data"][name])
    assert wanted_of(load(str(tmp_path / name)), options["until"])


def changed(manifest: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    """A copy with another value at a dotted place; without it when the value is None."""
    made = copy.deepcopy(manifest)
    *way, last = [int(word) if word.isdecimal() else word for word in path.split(".")]
    here: Any = made
    for word in way:
        here = here[word]
    if value is None:
        del here[last]
    else:
        here[last] = value
    return made


POD = "spec.workerGroupSpecs.1.template.spec"
FAULTS: dict[str, tuple[str, Any]] = {
    "no kind that is known": ("apiVersion", "ray.io/v2"),
    "unknown": ("spec.headGroup", {}),
    "has no rayVersion": ("spec.rayVersion", None),
    "name is 'A_b'": ("metadata.name", "A_b"),
    "two groups of one name": ("spec.workerGroupSpecs.1.groupName", "cpu"),
    "not minReplicas <= replicas": ("spec.workerGroupSpecs.0.replicas", 0),
    "is '2', no int": ("spec.workerGroupSpecs.0.maxReplicas", "2"),
    "not 'ray-worker'": (f"{POD}.containers.0.name", "worker"),
    "no quantity": (f"{POD}.containers.0.resources.limits.memory", "48GB"),
    "more than its limit": (f"{POD}.containers.0.resources.requests.cpu", "9"),
    "no limit that is its request": (f"{POD}.containers.0.resources.requests", {"cpu": "1"}),
    "stands here in clear": (f"{POD}.containers.0.env.1", {"name": "AWS_SECRET_ACCESS_KEY", "value": "abc"}),
    "not one of value and valueFrom": (f"{POD}.containers.0.env.1", {"name": "HF_TOKEN"}),
    "no volume 'data'": (f"{POD}.containers.0.volumeMounts", [{"name": "data", "mountPath": "/data"}]),
    "image is 'tundish:latest'": (f"{POD}.containers.0.image", "tundish:latest"),
    "runAsNonRoot is 'yes'": (f"{POD}.securityContext", {"runAsNonRoot": "yes", "runAsUser": 0}),
    "serviceType is 'LoadBalancer'": ("spec.headGroupSpec.serviceType", "LoadBalancer"),
    "mode is 'disabled'": ("spec.authOptions.mode", "disabled"),
    "is 1, no str": ("spec.headGroupSpec.rayStartParams", {"num-cpus": 1}),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_the_reader_of_manifests_sees_each_fault(fault: str) -> None:
    (cluster,) = objects(FOLDER / "kuberay-cluster.yaml")
    assert any(fault in told for told in wrong(changed(cluster, *FAULTS[fault])))


# -- ray up


@pytest.mark.parametrize("path", UP, ids=lambda path: path.name)
def test_ray_takes_the_cluster_for_one_it_can_bring_up(path: Path) -> None:
    made = prepare_config(yaml.safe_load(path.read_text()))
    validate_config(made)
    types = made["available_node_types"]
    assert set(types) == {"head", "cpu", "gpu"}
    assert sum(one["max_workers"] for one in types.values()) <= made["max_workers"]
    for one in types.values():
        for key, value in one.get("labels", {}).items():
            validate_label_key(key)
            validate_label_value(value)
    assert not [text for text in _strings(made["available_node_types"]) if secret(text.partition("=")[0])]


@pytest.mark.parametrize("path", UP, ids=lambda path: path.name)
def test_ray_is_started_with_options_it_has_and_a_dashboard_on_the_loopback(path: Path) -> None:
    made = yaml.safe_load(path.read_text())
    for role in ("head", "worker"):
        (line,) = [one for one in made[f"{role}_start_ray_commands"] if "ray start" in one]
        words = shlex.split(line.partition("ray start")[2])
        assert unknown(words) == []
        assert ("--head" in words) == ("--dashboard-host=127.0.0.1" in words) == (role == "head")
    installs = [line for line in made["setup_commands"] if "pip install" in line]
    assert installs
    assert all("--constraint ~/deploy/constraints.txt" in line and "~/deploy/tundish-" in line for line in installs)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda it: it.update(workers=3), "workers"),
        (lambda it: it["available_node_types"]["cpu"].update(min_workers=99), "smaller than the sum"),
        (lambda it: it.update(head_node_type="chief"), "head_node_type"),
        (lambda it: it["available_node_types"]["gpu"].update(resources={"GPU": "one"}), "one"),
    ],
)
def test_rays_own_schema_refuses_what_is_no_cluster(change: Callable[[Any], None], told: str) -> None:
    made = yaml.safe_load(UP[0].read_text())
    change(made)
    with pytest.raises(Exception, match=told):
        validate_config(prepare_config(made))


# -- the image


def instructions(text: str) -> list[tuple[str, str]]:
    """A Dockerfile as (instruction, the rest), comments and line ends inside an instruction taken out."""
    kept = "\n".join(line for line in text.split("\n") if not line.lstrip().startswith("#"))
    lines = re.sub(r"\\\n", " ", kept).split("\n")
    return [(word.upper(), rest.strip()) for word, _, rest in (line.strip().partition(" ") for line in lines) if word]


def faults(text: str) -> list[str]:
    """What is wrong with a Dockerfile whose context is the top of the tree."""
    found, users, stages, here = [], {}, set[str](), ""
    for word, rest in instructions(text):
        if word == "FROM":
            image, _, here = rest.partition(" AS ")
            if image not in stages and not re.fullmatch(r"[\w./-]+:(\$\{\w+\}|[\w.-]+)", image):
                found.append(f"{image} has no tag")
            users[here], _ = users.get(image, "root"), stages.add(here)
        elif word == "COPY" and "--from" not in rest:
            found += [f"nothing to copy: {one}" for one in rest.split()[:-1] if not (TOP / one).exists()]
        elif word == "USER":
            users[here] = rest
        elif word == "RUN" and "pip install" in rest and rest.count("--constraint") < rest.count("pip install"):
            found.append(f"not pinned: {rest}")
        elif word in ("ENV", "ARG"):
            found += [f"a secret: {one}" for one in rest.split() if secret(one.partition("=")[0])]
        elif word not in ("RUN", "COPY", "WORKDIR", "CMD"):
            found.append(f"{word} is not for us")
    return found + [f"{stage} runs as root" for stage in ("cpu", "gpu") if users.get(stage, "root") in ("root", "0")]


DOCKERFILE = (TOP / "cluster" / "docker" / "Dockerfile").read_text()


def test_the_image_is_pinned_without_root_and_made_of_what_is_there() -> None:
    assert faults(DOCKERFILE) == []
    sources = {
        one
        for word, rest in instructions(DOCKERFILE)
        if word == "COPY" and "--from" not in rest
        for one in rest.split()[:-1]
    }
    setup = (TOP / "pyproject.toml").read_text()
    needed = {"pyproject.toml", "README.md", "LICENSE", "constraints.txt"}
    needed |= set(re.findall(r'^"tundish\.\w+" = "(\w+)"$', setup, re.MULTILINE))
    assert sources == needed
    ignore = (TOP / "cluster" / "docker" / "Dockerfile.dockerignore").read_text().split("\n")
    assert {line[1:] for line in ignore if line.startswith("!")} == needed
    assert "*" in ignore


@pytest.mark.parametrize(
    ("before", "after", "told"),
    [
        ("FROM python:${PYTHON} AS cpu", "FROM python AS cpu", "has no tag"),
        ("USER 1000", "USER root", "gpu runs as root"),
        ("COPY stages stages", "COPY levels levels", "nothing to copy: levels"),
        ("COPY stages stages", "ADD http://host.invalid/a a", "ADD is not for us"),
        ("--constraint constraints.txt wheels", "wheels", "not pinned"),
        ("ENV TUNDISH_CACHE=/opt/tundish", "ENV HF_TOKEN=abc", "a secret"),
    ],
)
def test_the_reader_of_the_image_sees_each_fault(before: str, after: str, told: str) -> None:
    assert DOCKERFILE.count(before) == 1
    assert any(told in fault for fault in faults(DOCKERFILE.replace(before, after)))
