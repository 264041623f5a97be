"""Jobs on a real head, started as an operator starts one: `ray start --head`, with a folder and ports of its own.

Nothing calls `ray stop`, which ends every Ray of the machine: the head runs with `--block` in a session of its own, and
that session is ended.
"""

import gzip
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests import sample_archive, test_slurm
from tundish.cluster import handed, jobs, parcel, store
from tundish.cluster.local import Local
from tundish.cluster.shards import Dataset, opened
from tundish.cluster.wire import free_port
from tundish.pipeline.recipe import load
from tundish.pipeline.run import run

TOP = Path(__file__).resolve().parents[1]
SEEDS = "http://heron.example/, http://kranich.test/, http://blog.kingfisher.example/, http://www.setun.invalid/"
CLI = [sys.executable, "-m", "tundish.pipeline.cli"]


@dataclass(frozen=True)
class Head:
    """The head of a cluster: where its dashboard is, and the token it asks for."""

    address: str
    token: Path


def started(folder: Path, environment: dict[str, str], port: int) -> "subprocess.Popen[bytes]":
    """`ray start --head --block`: ends when the head ends, and the head with it."""
    command = [
        str(Path(sys.executable).parent / "ray"), "start", "--head", "--block", f"--port={free_port()}",
        f"--dashboard-port={port}", f"--temp-dir={folder}", "--num-cpus=2", "--include-dashboard=true",
        f"--dashboard-agent-listen-port={free_port()}", f"--ray-client-server-port={free_port()}",
        "--node-ip-address=127.0.0.1",
    ]  # fmt: skip
    with open(folder / "head.log", "wb") as log:
        return subprocess.Popen(
            command, stdout=log, stderr=subprocess.STDOUT, env=environment, cwd=folder, start_new_session=True
        )


def of_head(process: "subprocess.Popen[bytes]", folder: Path) -> list[int]:
    """The processes of this head: those of its session, and any whose command names its folder."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            pid, command = int(entry.name), (entry / "cmdline").read_bytes().decode(errors="replace")
            if os.getsid(pid) == process.pid or str(folder) in command:
                found.append(pid)
        except (OSError, ProcessLookupError):
            continue
    return [pid for pid in found if pid != os.getpid()]


def ended(process: "subprocess.Popen[bytes]", folder: Path) -> None:
    """End the head and what it started: asked first, then killed."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        for pid in of_head(process, folder):
            try:
                os.kill(pid, number)
            except ProcessLookupError:
                continue
        until = time.monotonic() + 5
        while of_head(process, folder) and time.monotonic() < until:
            process.poll()  # or it stays as a zombie
            time.sleep(0.1)
    process.wait(10)


@pytest.fixture(scope="module")
def head() -> Iterator[Head]:
    """A head of two CPUs that asks for a token no other Ray has. Its path is short: Ray puts sockets there."""
    folder = Path(tempfile.mkdtemp(prefix="head-"))
    token, port = folder / "token", free_port()
    token.write_text("5" * 64)
    environment = {k: v for k, v in os.environ.items() if not k.startswith("RAY_")}
    environment |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(token), "RAY_TRAIN_ENABLE_STATE_TRACKING": "1"}
    environment["PATH"] = f"{Path(sys.executable).parent}:{environment['PATH']}"  # Ray installs wheels by the pip there
    process = started(folder, environment, port)
    try:
        yield answering(Head(f"http://127.0.0.1:{port}", token), process, folder)
    finally:
        ended(process, folder)
        shutil.rmtree(folder, ignore_errors=True)


def answering(head: Head, process: "subprocess.Popen[bytes]", folder: Path) -> Head:
    """The head, once its dashboard takes jobs."""
    until = time.monotonic() + 90
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("RAY_AUTH_MODE", raising=False)
        patch.setenv("RAY_AUTH_TOKEN_PATH", str(head.token))
        while time.monotonic() < until and process.poll() is None:
            try:
                assert jobs.status(head.address) == {}
                return head
            except ValueError:
                time.sleep(0.5)
    raise AssertionError(f"the head did not come up: {(folder / 'head.log').read_text()[-3000:]}")


@pytest.fixture
def knowing(head: Head, monkeypatch: pytest.MonkeyPatch) -> Head:
    """This process has the token's file, and has not been told to use it."""
    monkeypatch.delenv("RAY_AUTH_MODE", raising=False)
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(head.token))
    return head


def finished(head: Head, job: str) -> str:
    """What a job printed, once it has succeeded."""
    told = "".join(jobs.logs(head.address, job, follow=True))
    assert jobs.status(head.address, job) == "SUCCEEDED", told
    return told


def submitted(head: Head, recipe: str, root: Path, *words: str) -> str:
    """`tundish submit --follow`: the job's id, once it has succeeded."""
    command = [*CLI, "submit", recipe, "--address", head.address, "--root", str(root), "--follow", *words]
    told = subprocess.run(command, capture_output=True, text=True, cwd=TOP, timeout=590)
    assert told.returncode == 0, told.stdout + told.stderr
    job = told.stdout.splitlines()[0]
    assert told.stdout.splitlines()[-1] == f"{job} SUCCEEDED"
    assert "the cluster asks for a token" in told.stderr
    return job


def only(root: Path, stage: str) -> Dataset:
    """The one sealed dataset of a stage under a root."""
    (made,) = [dataset for path in root.glob(f"{stage}-*") if (dataset := opened(str(path)))]
    return made


# -- without a head


def test_nobody_at_an_address_is_one_sentence() -> None:
    with pytest.raises(ValueError, match=r"^no Ray dashboard answers at http://127\.0\.0\.1:\d+ .*ray start --head"):
        jobs.submit(["true"], address=f"http://127.0.0.1:{free_port()}")
    with pytest.raises(ValueError, match=r"^'ray://127\.0\.0\.1:10001' is no dashboard; .*http://127\.0\.0\.1:8265$"):
        jobs.status("ray://127.0.0.1:10001")


def test_a_folder_too_large_to_send_is_refused_and_roots_stay_at_home(tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").touch()
    for inner in ("root", ".hidden", "venv", "kept/deep"):
        (tmp_path / inner).mkdir(parents=True)
    (tmp_path / "root" / "lease.json").touch()
    for inner in ("root", ".hidden", "venv"):
        with open(tmp_path / inner / "large", "wb") as file:
            file.truncate(parcel.LARGEST + 1)
    assert parcel.packed(tmp_path).excludes == ["/.hidden", "/root", "/venv"]
    assert parcel.packed(tmp_path).says() == ""
    with open(tmp_path / "kept" / "deep" / "large", "wb") as file:
        file.truncate(parcel.LARGEST + 1)
    with pytest.raises(ValueError, match=r"holds more than 50 MB, and no more may go with a job; put the recipe"):
        parcel.packed(tmp_path)


def test_a_recipe_that_leaves_its_folder_and_a_root_that_would_be_lost_are_refused(tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("docs: {Read: {files: [./a.jsonl, ../b.jsonl]}}")
    with pytest.raises(ValueError, match=r"recipe\.yaml names '\.\./b\.jsonl', which lies outside its folder"):
        jobs.submit_recipe(str(recipe), address="http://127.0.0.1:1", root="/srv/root", ship=True)
    with pytest.raises(ValueError, match=r"^the root 'root' would lie in the job's temporary folder"):
        jobs.submit_recipe(str(recipe), address="http://127.0.0.1:1", root="root", ship=True)
    with pytest.raises(ValueError, match=r"^there is no recipe 'nowhere\.yaml'"):
        jobs.submit_recipe("nowhere.yaml", address="http://127.0.0.1:1", root="s3://bucket/root", ship=True)


def test_a_recipe_that_would_stay_and_one_that_names_what_stays_are_refused(tmp_path: Path) -> None:
    (tmp_path / "rows").mkdir()
    (tmp_path / "rows" / "api_key.txt").touch()
    (tmp_path / "away").symlink_to("/")
    for name, text, told in (
        (
            "recipe.yaml",
            "docs: {Read: {files: [rows/a.jsonl, ./rows/api_key.txt]}}",
            r"^recipe\.yaml names '\./rows/api_",
        ),
        ("secrets.yaml", "docs: {Read: {files: [./a.jsonl]}}", r"^secrets\.yaml would not go .*\(called like a key\)"),
        (".hidden.yaml", "docs: {Read: {files: [./a.jsonl]}}", r"^\.hidden\.yaml would not go .*\(hidden\)"),
        ("linked.yaml", "docs: {Read: {files: [./away/a.jsonl]}}", r"names '\./away/a\.jsonl', which lies outside its"),
    ):
        (tmp_path / name).write_text(text)
        with pytest.raises(ValueError, match=told):
            jobs.submit_recipe(str(tmp_path / name), address="http://127.0.0.1:1", root="/srv/root", ship=True)


def test_a_path_that_leads_to_something_only_from_here_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = tmp_path / "recipes" / "recipe.yaml"
    (tmp_path / "rows").mkdir()
    (tmp_path / "rows" / "a.jsonl").touch()
    (tmp_path / "en").touch()
    recipe.parent.mkdir()
    monkeypatch.chdir(tmp_path)
    for path in ("rows/a.jsonl", "rows/*.jsonl", "rows/"):
        recipe.write_text(f"docs: {{Read: {{files: [{path!r}]}}}}")
        with pytest.raises(ValueError, match=r"^recipe\.yaml names 'rows/.*lies here and not beside the recipe"):
            jobs.submit_recipe(str(recipe), address="http://127.0.0.1:1", root="/srv/root", ship=True)
    (recipe.parent / "rows").mkdir()
    (recipe.parent / "rows" / "api_key.txt").touch()
    recipe.write_text("docs: {Read: {files: [rows/api_key.txt]}}")
    with pytest.raises(ValueError, match=r"^recipe\.yaml names 'rows/api_key\.txt', which does not go with the job"):
        jobs.submit_recipe(str(recipe), address="http://127.0.0.1:1", root="/srv/root", ship=True)
    # words, what is nowhere, what all machines may have, and what goes along
    (recipe.parent / "rows" / "b.jsonl").touch()
    recipe.write_text("docs: {Read: {files: [rows/b.jsonl, /srv/c.jsonl, s3://bucket/d.jsonl, away/e.jsonl, en, '']}}")
    with pytest.raises(ValueError, match="no Ray dashboard answers"):
        jobs.submit_recipe(str(recipe), address="http://127.0.0.1:1", root="/srv/root", ship=True, wheel=False)


# -- with one


@pytest.mark.slow
def test_a_command_runs_with_this_interpreter_and_its_folder(knowing: Head, tmp_path: Path) -> None:
    (tmp_path / "beside.txt").write_text("lies beside")
    said: list[str] = []
    job = jobs.submit(
        ["python", "-c", "import os, sys; print(sys.executable, open('beside.txt').read(), os.environ['KNOWN'])"],
        address=knowing.address, working_dir=str(tmp_path), env={"KNOWN": "yes"}, name="a name", note=said.append,
    )  # fmt: skip
    assert job.rpartition("-")[0] == "a-name"
    assert f"{sys.executable} lies beside yes" in finished(knowing, job)
    assert [line for line in said if f"the job runs with {sys.executable}" in line]
    assert [line for line in said if "asks for a token" in line]
    assert "".join(jobs.logs(knowing.address, job)).count("lies beside yes") == 1
    assert jobs.status(knowing.address)[job] == "SUCCEEDED"


@pytest.mark.slow
def test_keys_and_what_links_name_elsewhere_stay_here_and_it_is_said(knowing: Head, tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "goes.txt").write_text("1")
    (folder / "key.pem").write_text("-----BEGIN PRIVATE KEY-----\nMC4C\n-----END PRIVATE KEY-----\n")
    (folder / "elsewhere").symlink_to(TOP / "docs")
    (folder / "round").symlink_to(".")
    said: list[str] = []
    job = jobs.submit(["ls", "-AR"], address=knowing.address, working_dir=str(folder), note=said.append)
    told = finished(knowing, job)
    assert "goes.txt" in told
    assert not [name for name in ("key.pem", "elsewhere", "round", "storage.md") if name in told]
    assert [line.partition("stays here: ")[2] for line in said if "stays here" in line] == [
        "elsewhere (a link out of the folder), key.pem (called like a key), round (a link in a circle)"
    ]


READS = """
import json, os
from tundish.cluster import handed
from tundish.cluster.on_ray import OnRay

def read(item):
    return {name: os.environ.get(name) for name in handed.OURS}

with OnRay("auto") as cluster:
    print("READ", json.dumps([read(0), *cluster.each("Read", read, [1])]))
"""


@pytest.mark.slow
def test_driver_and_workers_of_a_job_read_what_is_said_here(knowing: Head, monkeypatch: pytest.MonkeyPatch) -> None:
    """The driver of a job joins the cluster and would say again what the job was given, which Ray refuses."""
    told = {"TUNDISH_STORAGE": "s3://near?endpoint=http://127.0.0.1:9000", "TUNDISH_TOKENS": "/none=1GB"}
    for name, text in told.items():
        monkeypatch.setenv(name, text)
    job = jobs.submit(["python", "-c", READS], address=knowing.address, env=handed.variables())
    (line,) = [line for line in finished(knowing, job).split("\n") if line.startswith("READ ")]
    of_driver, of_worker = json.loads(line.removeprefix("READ "))
    assert of_driver == of_worker  # the shell of the head may have said more
    assert told.items() <= of_worker.items()


@pytest.mark.slow
def test_an_address_that_was_given_is_the_one_that_is_asked(knowing: Head, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "http://127.0.0.1:1")
    assert isinstance(jobs.status(knowing.address), dict)
    assert os.environ["RAY_ADDRESS"] == "http://127.0.0.1:1"


@pytest.mark.slow
def test_a_wrong_token_and_none_are_one_sentence(head: Head, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("RAY_AUTH_MODE", raising=False)
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(tmp_path / "none"))
    with pytest.raises(ValueError, match=r"^the cluster at .* asks for a token and there is none here; write"):
        jobs.status(head.address)
    (tmp_path / "none").write_text("6" * 64)
    with pytest.raises(ValueError, match=r"^the cluster at .* refuses the token; take the one of its head"):
        jobs.status(head.address)


@pytest.mark.slow
def test_slurms_script_counts_machines_by_rays_own_command(knowing: Head, tmp_path: Path) -> None:
    """`all_there` of cluster/files/slurm.sh, asked by the real `ray list`; only Slurm's own `srun` is a stand-in."""
    rays = f'rm "$HERE/bin/ray"; PATH="$HERE/bin:{Path(sys.executable).parent}:$PATH"'
    port = f"port() {{ echo {knowing.address.rpartition(':')[2]}; }}"
    asks = f"{rays}; {port}; HEAD=n1; all_there 1 && echo one; all_there 2 || echo no"
    told = test_slurm.called(tmp_path, asks, RAY_AUTH_MODE="token", RAY_AUTH_TOKEN_PATH=str(knowing.token))
    assert told.split() == ["one", "no"]


@pytest.mark.slow
def test_a_job_can_be_stopped_and_an_unknown_one_is_named(knowing: Head) -> None:
    job = jobs.submit(["sleep", "600"], address=knowing.address)
    while jobs.status(knowing.address, job) == "PENDING":
        time.sleep(0.2)
    assert jobs.stop(knowing.address, job) == "STOPPED"
    for ask in (jobs.status, jobs.stop, lambda address, name: list(jobs.logs(address, name, follow=True))):
        with pytest.raises(ValueError, match=rf"knows no job '{job}x'; did you mean '{job}'\?$"):
            ask(knowing.address, job + "x")


@pytest.mark.slow
@pytest.mark.parametrize("ship", [False, True], ids=["where it lies", "sent along"])
def test_a_recipe_of_rows_beside_it_is_read_in_the_job(knowing: Head, tmp_path: Path, ship: bool) -> None:
    folder = tmp_path / "recipe"
    folder.mkdir()
    with gzip.open(folder / "rows.jsonl.gz", "wt") as rows:
        rows.writelines(json.dumps({"text": f"Row {n} is read by the job."}) + "\n" for n in range(30))
    (folder / "small.yaml").write_text("rows: {Read: {files: [./rows.jsonl.gz]}}\n")
    said: list[str] = []
    root = tmp_path / "root"
    job = jobs.submit_recipe(
        str(folder / "small.yaml"), address=knowing.address, root=str(root), sample=20, ship=ship, note=said.append
    )
    assert job.startswith("tundish-small-")
    finished(knowing, job)
    assert only(root, "read").rows == 20
    assert any("goes with the job" in line for line in said) is ship


@pytest.mark.slow
def test_the_sample_archives_are_cleaned_in_a_job_to_the_same_bytes(knowing: Head, tmp_path: Path) -> None:
    """`tundish submit --follow` of a recipe from archives to the corpus; then read as anybody would read it."""
    recipe = sample_archive.recipe(tmp_path / "cleaned.yaml", sample_archive.write(tmp_path / "archives"))
    root = tmp_path / "root"
    job = submitted(knowing, recipe, root, "--until", "Corpus")
    assert job.startswith("tundish-cleaned-")
    corpus = only(root, "corpus")
    assert corpus.digest == run(load(recipe), Local(), str(tmp_path / "here"), until="Corpus").dataset.digest
    assert corpus.rows > 40
    assert all(corpus.select("text").table()["text"].to_pylist())
    told = subprocess.run([*CLI, "status", job, "--address", knowing.address], capture_output=True, text=True, cwd=TOP)
    assert told.stdout.strip() == "SUCCEEDED"


@pytest.mark.slow
def test_the_demo_in_small_goes_from_the_web_to_a_score_in_a_job(knowing: Head, tmp_path: Path) -> None:
    """The recipe of `make demo`, without the manual pages and with little training: crawl, clean, train, fine-tune."""
    from sample_web import hosts, server, site

    small = (
        f"Crawl.seeds=[{SEEDS}]",
        "Tokenize.vocabulary=1000",
        "Pretrain.tokens=20k",
        "Finetune.seeds=[1]",
        "Finetune.epochs=1",
        "Finetune.fresh=false",
    )
    with server.serve(site.web()) as address:
        wire = [f"{host}={there}" for host, there in server.table(address, hosts.HOSTS).items()]
        words = [
            word for option, values in (("--set", small), ("--wire", wire)) for v in values for word in (option, v)
        ]
        job = submitted(knowing, str(TOP / "examples" / "demo.yaml"), tmp_path / "root", *words)
    assert job.startswith("tundish-demo-")
    assert 40 < only(tmp_path / "root", "corpus").rows < only(tmp_path / "root", "extract").rows
    result = json.loads(store.read(only(tmp_path / "root", "finetune").path("result")))
    assert 0 < result["parts"]["test"]["pretrained"]["accuracy"]["mean"] <= 1
    assert result["examples"]["test"] > 50
