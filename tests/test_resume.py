"""The same bytes for every data stage: on any cluster, with any number of workers, whatever the order and the names of
the folders of the input files, and after any kill. From committed archives of the sample web on."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests import sample_archive
from tundish.cluster.local import Local
from tundish.cluster.shards import opened
from tundish.pipeline.plan import plan
from tundish.pipeline.recipe import changed, load
from tundish.pipeline.run import run

STAGES = ("ingest", "extract", "identify", "judge", "mask", "sign", "refine", "deduplicate", "corpus", "tokenize")
INSIDE = ("extract/dropped", "corpus/dropped", "tokenize/holdout")


def digests(root: Path) -> dict[str, str]:
    """Of every stage and of what lies inside it, by name."""
    found = {}
    for folder in sorted(root.glob("*-*")):
        name = folder.name.rsplit("-", 1)[0]
        for inner in ("", "/dropped", "/holdout"):
            dataset = opened(f"{folder}{inner}")
            if dataset is not None:
                found[name + inner] = dataset.digest
    return found


@pytest.fixture(scope="module")
def archives(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return sample_archive.write(tmp_path_factory.mktemp("archives"))


@pytest.fixture(scope="module")
def undisturbed(archives: list[Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What one worker in one process writes."""
    folder = tmp_path_factory.mktemp("undisturbed")
    run(load(sample_archive.recipe(folder / "recipe.yaml", archives)), Local(), str(folder / "root"))
    found = digests(folder / "root")
    assert set(found) == {*STAGES, *INSIDE}
    return found


@pytest.mark.slow  # every stage has its own test of two workers among the fast
def test_four_workers_write_the_same_bytes(archives: list[Path], undisturbed: dict[str, str], tmp_path: Path) -> None:
    run(load(sample_archive.recipe(tmp_path / "r.yaml", archives)), Local(workers=4), str(tmp_path / "root"))
    assert digests(tmp_path / "root") == undisturbed


def test_order_and_place_of_the_files_do_not_matter(undisturbed: dict[str, str], tmp_path: Path) -> None:
    elsewhere = sample_archive.write(tmp_path / "quite" / "elsewhere")
    run(load(sample_archive.recipe(tmp_path / "r.yaml", elsewhere[::-1])), Local(), str(tmp_path / "root"))
    assert digests(tmp_path / "root") == undisturbed


@pytest.mark.slow  # tests/test_ray_cluster has one run of each among the fast
def test_ray_writes_the_same_bytes_with_one_and_with_four_workers(
    archives: list[Path], undisturbed: dict[str, str], tmp_path: Path
) -> None:
    from tundish.cluster.on_ray import OnRay

    for workers in (1, 4):
        root = tmp_path / f"root-{workers}"
        with OnRay(cpus=workers, dashboard=False) as cluster:
            run(load(sample_archive.recipe(tmp_path / "r.yaml", archives)), cluster, str(root))
        assert digests(root) == undisturbed


def written(folder: Path, texts: dict[str, list[str]]) -> str:
    folder.mkdir(exist_ok=True)
    for name, rows in texts.items():
        lines = [json.dumps({"url": f"http://{name}.example/{n}", "text": text}) + "\n" for n, text in enumerate(rows)]
        (folder / f"{name}.jsonl").write_text("".join(lines))
    return str(folder / "*.jsonl")


ARTICLES = Path(__file__).resolve().parents[1] / "examples" / "sample_web" / "articles" / "en"
TEXTS = [path.read_text() for path in sorted(ARTICLES.glob("*.txt"))[:12]]
READ = sample_archive.RECIPE.replace(
    "{{Extract: {{archives: {{Ingest: {{archives: {files}}}}}}}}}", "{{Read: {{files: {files}}}}}"
)
CHANGES = {
    "a file more": {"a": TEXTS[:6], "b": TEXTS[6:10], "c": [TEXTS[0] + " more", *TEXTS[10:]]},
    "a file less": {"a": TEXTS[:6]},
    "a row edited": {"a": [*TEXTS[:5], TEXTS[5] + " with another end to it"], "b": TEXTS[6:10]},
    "a survivor edited": {"a": TEXTS[:6], "b": [TEXTS[0] + " longer by a word or two", *TEXTS[6:9], TEXTS[1]]},
}


@pytest.mark.parametrize("change", CHANGES)
def test_an_old_root_after_a_change_holds_what_a_fresh_one_would(change: str, tmp_path: Path) -> None:
    """Nothing of an earlier run may shine through: not its steps, its samples, its vocabulary."""
    before = {"a": TEXTS[:6], "b": [TEXTS[0] + " longer by a word", *TEXTS[6:9], TEXTS[1]]}
    rules = ["Refine.keep.rules=none", "Tokenize.vocabulary=400", "Tokenize.sample=12000", "Tokenize.holdout=0.1"]

    def reached(folder: Path, root: Path, until: str | None = None) -> dict[str, str]:
        recipe = tmp_path / "recipe.yaml"
        recipe.write_text(READ.format(files=[str(folder / "*.jsonl")]))
        run(changed(load(str(recipe)), rules), Local(), str(root), until=until)
        return digests(root)

    old, new = tmp_path / "old", tmp_path / "new"
    written(old, before)
    reached(old, tmp_path / "root", until="Identify")  # other stages share its pass then than in a fresh root
    first = reached(old, tmp_path / "root")
    for path in old.glob("*.jsonl"):
        path.unlink()
    for folder in (old, new):
        written(folder, CHANGES[change])
    again, fresh = reached(old, tmp_path / "root"), reached(new, tmp_path / "fresh")
    assert again == fresh
    assert again != first


def whole(commit: Path) -> bool:
    """Whether a shard is committed: what its function writes beside is committed a moment later."""
    stage, _, _ = commit.parents[1].name.partition("-")
    beside = {"extract": ("dropped", "pages"), "read": ("dropped",), "corpus": ("dropped",)}.get(stage, ())
    return all((commit.parents[1] / name / "commits" / commit.name).exists() for name in beside)


QUICK = ("ingest", "tokenize")  # files in, shards out
KILLED_IN = [each if each in QUICK else pytest.param(each, marks=pytest.mark.slow) for each in STAGES]


@pytest.mark.parametrize("stage", KILLED_IN)
def test_a_driver_killed_in_any_stage_goes_on(
    stage: str, archives: list[Path], undisturbed: dict[str, str], tmp_path: Path
) -> None:
    """SIGKILL at the stage's first commit; the next run keeps what was committed and ends with the same digests."""
    path, root = sample_archive.recipe(tmp_path / "r.yaml", archives), tmp_path / "root"
    command = [sys.executable, "-m", "tundish.pipeline.cli", "run", path, "--on", "local", "--root", str(root)]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL) as driver:
        while driver.poll() is None and not list(root.glob(f"{stage}-*/**/*.json")):
            time.sleep(0.002)
        driver.send_signal(signal.SIGKILL)
    assert driver.returncode == -signal.SIGKILL, "the driver was done before it could be killed"
    before = {p: p.stat().st_mtime_ns for p in root.glob("*-*/commits/*.json") if whole(p)}
    told = subprocess.run([*command, "--json"], capture_output=True, text=True)
    assert told.returncode == 0, told.stderr
    assert digests(root) == undisturbed
    again = {p: p.stat().st_mtime_ns for p in before}
    assert again == before, "a committed shard was done again"
    assert not list(root.glob("**/*.attempt"))


@pytest.mark.slow
def test_a_ray_driver_killed_in_the_middle_goes_on(
    archives: list[Path], undisturbed: dict[str, str], tmp_path: Path
) -> None:
    path, root = sample_archive.recipe(tmp_path / "r.yaml", archives), tmp_path / "root"
    command = [sys.executable, "-m", "tundish.pipeline.cli", "run", path, "--on", "ray", "--root", str(root)]
    with subprocess.Popen(
        command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL, start_new_session=True
    ) as driver:
        while driver.poll() is None and not list(root.glob("judge-*/commits/*.json")):
            time.sleep(0.01)
        os.kill(driver.pid, signal.SIGKILL)
    time.sleep(2)  # Ray's own processes notice that their driver is gone
    told = subprocess.run([*command, "--json"], capture_output=True, text=True)
    assert told.returncode == 0, told.stderr
    assert digests(root) == undisturbed
    goal = json.loads(told.stdout)["goal"]
    assert all(step.current for step in plan(load(path), str(root))), goal
