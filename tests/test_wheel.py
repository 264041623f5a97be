"""This tundish as a wheel: the same as setuptools makes of the tree, and what a job's driver and workers import.

The jobs run on a head of their own, started in the shell of somebody who holds a secret: when they have ended, all that
Ray wrote and tells is searched for it.
"""

import base64
import contextlib
import csv
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from ray.job_submission import JobSubmissionClient

from tests.test_jobs import TOP, Head, finished, head, knowing, only  # noqa: F401 - fixtures
from tundish.cluster import jobs, wheel
from tundish.cluster.local import Local
from tundish.pipeline.recipe import load
from tundish.pipeline.run import run

CANARY = "wJalrXUtnFEMIbPxRfiCYzCANARY"
TELLS = """
import importlib.metadata, json, ray
from tundish.cluster import wheel

@ray.remote
def worker():
    return wheel.__file__, wheel.digest_of(wheel.modules())

ray.init()
driver = wheel.__file__, wheel.digest_of(wheel.modules())
print("TOLD", json.dumps([driver, ray.get(worker.remote())]))
"""


@pytest.fixture(scope="module", autouse=True)
def holding() -> Iterator[None]:
    """A secret in the environment of whoever starts the head and submits to it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_SECRET_ACCESS_KEY", CANARY)
        yield


def contents(path: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def test_the_same_files_make_the_same_wheel_and_its_name_says_which(tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / name).mkdir()
    first, again = wheel.built(tmp_path / "a"), wheel.built(tmp_path / "b")
    assert first.digest == again.digest == wheel.digest_of(wheel.modules())
    assert first.path.read_bytes() == again.path.read_bytes()
    assert first.path.name == again.path.name
    name, version, build, *tag = first.path.stem.split("-")
    assert (name, version, tag) == ("tundish", wheel.distribution("tundish").version, ["py3", "none", "any"])
    assert build == f"0{first.digest[:16]}"


def test_another_byte_or_name_is_another_digest() -> None:
    files = {"a": b"1", "b": b"2"}
    assert wheel.digest_of(files) == wheel.digest_of(dict(reversed(files.items())))
    others = [{"a": b"1", "b": b"3"}, {"a": b"1", "c": b"2"}, {"a": b"1"}, {"a": b"2", "b": b"1"}]
    assert len({wheel.digest_of(each) for each in (files, *others)}) == 5


def test_its_record_holds_for_every_file_and_it_names_no_dependency(tmp_path: Path) -> None:
    found = contents(wheel.built(tmp_path).path)
    (record,) = [name for name in found if name.endswith("/RECORD")]
    rows = list(csv.reader(found[record].decode().split("\n")[:-1]))
    assert [row[0] for row in rows] == list(found)
    for name, digest, size in rows[:-1]:
        told = base64.urlsafe_b64encode(hashlib.sha256(found[name]).digest()).rstrip(b"=").decode()
        assert (digest, int(size)) == (f"sha256={told}", len(found[name]))
    assert rows[-1] == [record, "", ""]
    assert b"Requires-Dist" not in b"".join(body for name, body in found.items() if name.endswith("METADATA"))


@pytest.mark.slow
def test_it_holds_what_setuptools_would_put_into_a_wheel(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(TOP / name, tree)
    for floor in wheel.FLOORS:
        shutil.copytree(TOP / floor, tree / floor, ignore=shutil.ignore_patterns("__pycache__"))
    build = "import setuptools.build_meta as made, sys; made.build_wheel(sys.argv[1])"
    subprocess.run([sys.executable, "-c", build, str(tmp_path)], cwd=tree, check=True, capture_output=True)
    (theirs,) = tmp_path.glob("*.whl")
    ours = wheel.built(tmp_path)
    packed = {name: body for name, body in contents(theirs).items() if name.startswith("tundish/")}
    assert packed == {name: body for name, body in contents(ours.path).items() if name.startswith("tundish/")}
    command = {name.rpartition("/")[2]: body for name, body in contents(theirs).items()}["entry_points.txt"]
    assert (
        contents(ours.path)[f"tundish-{ours.path.name.split('-')[1]}.dist-info/entry_points.txt"].strip()
        == command.strip()
    )


@pytest.mark.slow
def test_pip_installs_it_without_a_network(tmp_path: Path) -> None:
    made = wheel.built(tmp_path)
    pip = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--no-index",
        f"--target={tmp_path / 'there'}",
        str(made.path),
    ]
    subprocess.run(pip, check=True, capture_output=True)
    program = "from tundish.cluster import wheel; print(wheel.__file__, wheel.digest_of(wheel.modules()))"
    there = {**os.environ, "PYTHONPATH": str(tmp_path / "there")}
    told = subprocess.run(
        [sys.executable, "-c", program], env=there, cwd="/", capture_output=True, text=True, check=True
    )
    assert told.stdout.split() == [str(tmp_path / "there" / "tundish" / "cluster" / "wheel.py"), made.digest]


def imported(told: str, digest: str) -> None:
    """Driver and worker had the modules of the wheel, under the runtime environment's folder."""
    (line,) = [line for line in told.split("\n") if line.startswith("TOLD ")]
    for path, found in json.loads(line.removeprefix("TOLD ")):
        assert "/runtime_resources/py_modules_files/" in path
        assert found == digest


@pytest.mark.slow
def test_driver_and_workers_of_a_job_import_the_wheel(knowing: Head) -> None:  # noqa: F811
    said: list[str] = []
    job = jobs.submit(["python", "-c", TELLS], address=knowing.address, wheel=True, note=said.append)
    (line,) = [line for line in said if "goes with the job" in line]
    imported(finished(knowing, job), line.rpartition(" ")[2])


@pytest.mark.slow
def test_so_do_they_by_rays_own_command(knowing: Head, tmp_path: Path) -> None:  # noqa: F811
    made = subprocess.run(
        [sys.executable, "-m", "tundish.cluster.wheel", str(tmp_path)], capture_output=True, text=True, check=True
    )
    (tmp_path / "tells.py").write_text(TELLS)
    command = [
        str(Path(sys.executable).parent / "ray"), "job", "submit", f"--address={knowing.address}",
        "--runtime-env-json", json.dumps({"py_modules": [made.stdout.strip()]}),
        "--", sys.executable, str(tmp_path / "tells.py"),
    ]  # fmt: skip
    told = subprocess.run(
        command, capture_output=True, text=True, timeout=300, env={**os.environ, "RAY_AUTH_MODE": "token"}
    )
    assert told.returncode == 0, told.stdout + told.stderr
    sent = contents(Path(made.stdout.strip()))
    imported(told.stdout, wheel.digest_of({name: body for name, body in sent.items() if name.startswith("tundish/")}))


def shown() -> str:
    """The block of docs/guide-ray.md that does it by Ray's own command."""
    blocks = re.findall(r"```sh\n(.*?)```", (TOP / "docs" / "guide-ray.md").read_text(), re.DOTALL)
    (block,) = [block for block in blocks if "ray job submit" in block]
    return str(block)


@pytest.mark.slow
def test_the_guides_own_command_finds_the_recipe_wherever_the_head_was_started(
    knowing: Head,  # noqa: F811
    tmp_path: Path,
) -> None:
    """As it is printed, but for the address, the root and the folder of the wheel. The head was started in a folder of
    its own, where no recipe is."""
    folder, root = tmp_path / "recipe", tmp_path / "root"
    folder.mkdir()
    (folder / "rows.jsonl").write_text("".join(json.dumps({"text": f"Row {n} of Ray's."}) + "\n" for n in range(30)))
    (folder / "recipe.yaml").write_text("rows: {Read: {files: [./rows.jsonl]}}\n")
    script = shown().replace("http://127.0.0.1:8265", knowing.address).replace("s3://BUCKET/root", str(root))
    script = script.replace("cluster.wheel /tmp ", f"cluster.wheel {tmp_path} > {tmp_path}/path ")
    assert all(script.count(word) for word in (f"{tmp_path}/path ", knowing.address, str(root), '"PATH"'))
    script = script.replace('"PATH"', f"\"'$(cat {tmp_path}/path)'\"")
    there = {**os.environ, "RAY_AUTH_MODE": "token", "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    told = subprocess.run(["bash", "-euc", script], cwd=folder, env=there, capture_output=True, text=True, timeout=300)
    assert told.returncode == 0, told.stdout + told.stderr
    assert only(root, "read").rows == 30
    assert not (knowing.token.parent / "recipe.yaml").exists()


@pytest.mark.slow
def test_a_recipe_that_is_sent_runs_by_the_wheel_to_the_same_bytes(knowing: Head, tmp_path: Path) -> None:  # noqa: F811
    folder, root = tmp_path / "recipe", tmp_path / "root"
    folder.mkdir()
    (folder / "rows.jsonl").write_text("".join(json.dumps({"text": f"Row {n} of the job."}) + "\n" for n in range(30)))
    (folder / "small.yaml").write_text("rows: {Read: {files: [./rows.jsonl]}}\n")
    said: list[str] = []
    job = jobs.submit_recipe(
        str(folder / "small.yaml"), address=knowing.address, root=str(root), ship=True, note=said.append
    )
    finished(knowing, job)
    assert [line for line in said if "this tundish goes with the job" in line]
    here = run(load(str(folder / "small.yaml")), Local(), str(tmp_path / "here")).dataset
    assert only(root, "read").digest == here.digest
    shown = jobs._client(knowing.address, jobs._silent).get_job_info(job).runtime_env or {}
    assert [uri for uri in shown["py_modules"] if uri.endswith("-py3-none-any.whl")]


@pytest.mark.slow
def test_ray_wrote_and_tells_nothing_of_the_secret_its_shell_held(knowing: Head) -> None:  # noqa: F811
    """After the jobs above: the folder of the head with all its logs, and what its dashboard says of them."""
    job = jobs.submit(
        ["python", "-c", "import os; print('held', 'AWS_SECRET_ACCESS_KEY' in os.environ)"], address=knowing.address
    )
    assert "held True" in finished(knowing, job)
    client: JobSubmissionClient = jobs._client(knowing.address, jobs._silent)
    assert CANARY not in repr(client.list_jobs())
    files = [path for path in knowing.token.parent.rglob("*") if path.is_file()]
    assert any(path.name == "dashboard.log" for path in files)
    assert [path for path in files if CANARY.encode() in body(path)] == []


def body(path: Path) -> bytes:
    with contextlib.suppress(FileNotFoundError):  # Ray renames what it writes anew
        return path.read_bytes()
    return b""
