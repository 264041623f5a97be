"""A crawl that is followed, and its training, under a root in S3: stopped midway, gone on with, replayed there."""

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.s3_server import serving
from tests.site_server import Asked, Say, served
from tests.test_cli import tundish
from tests.test_follow import PAGES, PRETRAIN, _until, page, refuses, words, written
from tundish.cluster import store
from tundish.cluster.shards import opened
from tundish.pipeline.children import Child
from tundish.pipeline.generation import Followed
from tundish.pipeline.recipe import load
from tundish.stages.generations_list import lines

ROOT = "s3://corpora/root"
OFTEN = "from tundish.stages import crawl_keeper\n\ncrawl_keeper.CHECKPOINT = 0.5\n"  # in every process of the crawl


def gated() -> Say:
    """A site that gives a third of its pages, another third for every generation listed, and the last one not before
    the training has a log."""
    met: set[str] = set()

    def shut() -> bool:
        if len(met) <= PAGES // 3:
            return False
        held = len(met) > PAGES // 3 * 2 and not store.exists(f"{ROOT}/follow/training/log.jsonl")
        return held or len(met) > PAGES // 3 * (1 + len(lines(f"{ROOT}/follow/generations.jsonl")))

    def say(asked: Asked) -> Iterator[bytes | float]:
        met.add(asked.path)
        while asked.path.startswith("/page/") and shut():
            yield 0.2
        yield page(asked)

    return say


@pytest.mark.slow
def test_a_follow_under_s3_is_stopped_gone_on_with_and_replayed(tmp_path: Path) -> None:
    recipe = written(tmp_path, PRETRAIN)
    (tmp_path / "often").mkdir()
    (tmp_path / "often" / "sitecustomize.py").write_text(OFTEN)
    training, log = f"{ROOT}/follow/training", f"{ROOT}/follow/training/log.jsonl"
    with serving(PYTHONPATH=str(tmp_path / "often"), TUNDISH_TORCH_THREADS="1") as server:
        with served(gated()) as site:
            asked = words(recipe, ROOT, site)
            with subprocess.Popen(asked, stderr=subprocess.PIPE, text=True, cwd=tmp_path) as process:
                _until(lambda: store.exists(log) or process.poll() is not None)
                crawl = Followed.of(load(recipe)).crawl
                assert opened(f"{ROOT}/{crawl.address}") is None, "trained with the crawl still running"
                process.send_signal(signal.SIGINT)
                _, said = process.communicate(timeout=300)
            assert process.returncode == 130, said
            assert store.read(f"{ROOT}/follow/training.log"), "what a child said is kept when it is stopped"
            before = lines(f"{ROOT}/follow/generations.jsonl")
            assert before
            assert "end" not in before[-1]
            told = subprocess.run([*asked, "--json"], capture_output=True, text=True, cwd=tmp_path)
        assert told.returncode == 0, told.stderr
        *generations, last = json.loads(told.stdout)
        assert last == {"end": True}
        assert len(generations) > 1
        assert generations[: len(before)] == before, "what was listed stays"
        assert sum(line["captures"] for line in generations) == PAGES
        steps = [json.loads(line)["step"] for line in store.read(log).splitlines()]
        assert steps == list(range(len(steps)))
        again = tundish(
            "follow", recipe, "--root", ROOT, "--replay", "s3://corpora/again", "--json", env=dict(os.environ)
        )
        assert again.returncode == 0, again.stderr
        assert json.loads(again.stdout) == {"equal": True, "steps": len(steps), "first_difference": None}
        weights = [store.read(f"{out}/model.safetensors") for out in (training, "s3://corpora/again")]
        assert weights[0] == weights[1]
        assert {name.partition("/")[0] for name in server.objects} == {"root", "again"}
    assert sorted(each.name for each in tmp_path.iterdir()) == ["often", "recipe.yaml"], "nothing lies here"


def test_a_childs_log_in_a_store_grows_life_by_life() -> None:
    log = "memory://followed/training.log"
    for count in (1, 2):
        child = Child("training", log, refuses, "the loss became nan; lower the rate")
        assert child.ended(60)
        assert store.read(log).decode().count("the loss became nan") == count
        with pytest.raises(
            ValueError, match=r"the training ended: the loss became nan.*memory://followed/training.log"
        ):
            child.check()


def test_a_store_that_refuses_a_log_stops_nothing() -> None:
    with serving() as server:
        server.fail("PUT", "/", "403", 1 << 30)
        child = Child("training", "s3://corpora/training.log", refuses, "the loss became nan; lower the rate")
        assert child.ended(60)
        with pytest.raises(ValueError, match="the training ended: the loss became nan; lower the rate"):
            child.check()
        assert not server.objects
