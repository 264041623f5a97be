"""Trainers, workers and the driver are killed (SIGKILL) while a model learns a task and then reads a corpus: scores,
weights and answers are, in the end, those of a run that nobody disturbed."""

import json
import os
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests import chaos
from tests.chaos import PAIR, Driver, Nodes, command, committed, driving, nodes, undisturbed
from tests.toys import prose
from tundish.cluster.shards import opened

pytestmark = [
    pytest.mark.slow,
    pytest.mark.chaos,
    pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="processes are found in /proc"),
]
ROWS, SEEDS = 480, (1, 2, 3)
READS = ("grade", "predict")
RECIPE = """
tuned:
  Finetune: {{encoder: encoder, train: {labels}, seeds: {seeds}, epochs: 3, batch: 8}}
graded: {{Grade: {{documents: documents, classifier: tuned, values: {{sea: 0, town: 1}}}}}}
predicted: {{Predict: {{documents: documents, model: tuned, every: true}}}}
goal: {goal}
"""


def labels(path: Path) -> None:
    """Half of the texts end with a word of their own; the model is to learn which."""
    rows = [(" ".join(prose(40_000 + row, 2).split()), ("sea", "town")[row % 2]) for row in range(ROWS)]
    path.write_text("text\tlabel\n" + "".join(f"{text} {label}\t{label}\n" for text, label in rows))


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[str], Path]:
    """A recipe for each of the two that read, and the root of runs that nobody disturbed."""
    trained = chaos.whole(tmp_path_factory.getbasetemp())[1]
    base = tmp_path_factory.mktemp("tuned")
    labels(base / "labels.tsv")
    shutil.copytree(trained, base / "whole", ignore=shutil.ignore_patterns("runs", "lease*"))
    paths = []
    for goal in ("graded", "predicted"):
        more = RECIPE.format(labels=base / "labels.tsv", seeds=list(SEEDS), goal=goal)
        path = base / f"{goal}.yaml"
        path.write_text(chaos.RECIPE.format(files=trained.parent / "texts") + more)
        paths.append(str(path))
        undisturbed(str(path), base / "whole", *PAIR)
    assert {len(read(base / "whole", stage)) for stage in READS} == {chaos.FILES * chaos.ROWS}
    return paths, base / "whole"


@pytest.fixture(scope="module")
def ray() -> Iterator[Nodes]:
    with nodes(1, 1, 1) as made:
        yield made


@pytest.fixture
def root(whole: tuple[list[str], Path], tmp_path: Path) -> Iterator[Path]:
    """All that comes before, and nothing of what is to be disturbed."""
    anew = ("finetune-*", *(f"{stage}-*" for stage in READS), "runs", "lease*")
    shutil.copytree(whole[1], tmp_path / "root", ignore=shutil.ignore_patterns(*anew))
    yield tmp_path / "root"
    shutil.rmtree(tmp_path, ignore_errors=True)


def folder(root: Path, stage: str) -> Path:
    [found] = root.glob(f"{stage}-*/")
    assert opened(str(found)) is not None, f"{stage} is not sealed"
    return found


def read(root: Path, stage: str) -> list[dict[str, Any]]:
    dataset = opened(str(folder(root, stage)))
    assert dataset is not None
    return [row for name in dataset.names for row in dataset.read(name).to_pylist()]


def tuned(root: Path) -> dict[str, Any]:
    """What a fine-tuning must leave equal: weights, the answers of every run, what is told of them."""
    at = folder(root, "finetune")
    records = {each.name: json.loads(each.read_text()) for each in sorted((at / "runs").glob("*.json"))}
    answers = {each.name: each.read_bytes() for each in sorted((at / "runs").glob("*.npz"))}
    result = json.loads((at / "result.json").read_text())
    assert len(records) == len(answers) == 2 * len(SEEDS)
    return {
        "weights": (at / "model.safetensors").read_bytes(),
        "runs": records,
        "answers": answers,
        "parts": result["parts"],
    }


def same(root: Path, expected: Path) -> None:
    assert tuned(root) == tuned(expected)
    for stage in READS:
        found, wanted = (opened(str(folder(one, stage))) for one in (root, expected))
        assert found is not None
        assert wanted is not None
        assert found.digest == wanted.digest, stage


def sealed(root: Path, runs: int) -> Callable[[], bool]:
    """The moment at which so many runs of the fine-tuning are sealed."""
    return lambda: len(list(root.glob("finetune-*/runs/*.json"))) >= runs


def killed(ray: Nodes, driver: Driver, at: str) -> None:
    """A worker that is at this, killed."""
    number = driver.until(lambda: [number for node in ray.nodes for number in node.busy(at)])[0]
    os.kill(number, signal.SIGKILL)


def test_trainers_and_workers(whole: tuple[list[str], Path], ray: Nodes, root: Path) -> None:
    """A trainer with a run sealed and one with three, and a worker of each pass that reads."""
    with driving(command(whole[0][0], root, ray.address, *PAIR), root.parent) as driver:
        for runs in (1, 3):
            driver.until(sealed(root, runs))
            killed(ray, driver, "RayTrainWorker")
        killed(ray, driver, "Grade")
        assert driver.ended() == 0, driver.said
    with driving(command(whole[0][1], root, ray.address, *PAIR), root.parent) as driver:
        killed(ray, driver, "Predict")
        assert driver.ended() == 0, driver.said
    same(root, whole[1])


def test_the_driver(whole: tuple[list[str], Path], ray: Nodes, root: Path) -> None:
    """With a run sealed, with four, and with a shard of each pass that reads; the same command goes on."""
    for path, moments in zip(whole[0], ([sealed(root, 1), sealed(root, 4), committed(root, "grade")],
                                        [committed(root, "predict")]), strict=True):  # fmt: skip
        words = command(path, root, ray.address, *PAIR)
        for moment in moments:
            with driving(words, root.parent) as driver:
                driver.until(moment)
                driver.kill()
        with driving(words, root.parent) as driver:
            assert driver.ended() == 0, driver.said
    same(root, whole[1])


def test_a_node(whole: tuple[list[str], Path], ray: Nodes, root: Path) -> None:
    """The raylet of a node that trains; another node comes instead."""
    with driving(command(whole[0][0], root, ray.address, *PAIR), root.parent) as driver:
        driver.until(sealed(root, 2))
        gone = driver.until(lambda: [node for node in ray.nodes[1:] if node.busy("RayTrainWorker")])[-1]
        gone.kill()
        ray.nodes.remove(gone)
        ray.more()
        assert driver.ended() == 0, driver.said
    with driving(command(whole[0][1], root, ray.address, *PAIR), root.parent) as driver:
        assert driver.ended() == 0, driver.said
    same(root, whole[1])
