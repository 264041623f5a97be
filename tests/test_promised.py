"""A dataset that is gone is missed: what runs and manifests name is there with its content, or is named; what may be
otherwise by right is not called wrong."""

import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests import toys
from tests.test_signing import keys  # noqa: F401
from tundish.cluster import store
from tundish.cluster.local import Local
from tundish.cluster.shards import Dataset, opened
from tundish.cluster.target import Target
from tundish.pipeline.cli import call
from tundish.pipeline.forget import forget
from tundish.pipeline.funnel import ran, runs
from tundish.pipeline.plan import plan
from tundish.pipeline.prune import prune
from tundish.pipeline.run import run
from tundish.pipeline.verify import sign, unknown, verify


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> str:
    return toys.small_root(tmp_path_factory.mktemp("promised"))


@pytest.fixture
def root(whole: str, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "root"))


class Stopped(Exception):
    """What stands for a kill."""


class Stopping(Local):
    """A cluster that is ended at its first pass."""

    def each(self, *_: Any, **__: Any) -> Any:
        raise Stopped


def of(root: Path, stage: str) -> Path:
    (found,) = root.glob(f"{stage}-*")
    return found


def shortened(folder: Path) -> Dataset:
    """Seal a dataset anew without its last shard: whole by itself, and another one."""
    dataset = opened(str(folder))
    assert dataset is not None
    about = {k: v for k, v in dataset.about.items() if k != "key"}
    return Target(dataset.uri, dataset.about["key"]).seal(dataset.shards[:-1], **about)


def record(root: Path, change: Callable[[dict[str, Any]], Any], which: int = -1) -> None:
    uri = f"{root}/runs/{runs(str(root))[which]}.json"
    told = store.read_json(uri)
    change(told)
    store.write_json(uri, told)


def lost(root: Path) -> list[str]:
    """Take three datasets away as a copy that was cut short would; their names."""
    (of(root, "judge") / "manifest.json").unlink()
    shutil.rmtree(of(root, "corpus") / "dropped")
    names = [of(root, "judge").name, f"{of(root, 'corpus').name}/dropped", of(root, "refine").name]
    shutil.rmtree(of(root, "refine"))
    return names


def test_what_is_gone_is_named_one_sentence_each(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert verify(str(root)) == unknown(str(root)) == []
    names = lost(root)
    said = verify(str(root))
    assert sorted(line.partition(":")[0] for line in said) == sorted(names)
    assert all("the dataset is gone" in line for line in said)
    with pytest.raises(SystemExit) as ended:
        call(["verify", str(root)])
    assert ended.value.code == 2
    told = capsys.readouterr().err
    assert all(name in told for name in names)


def test_signatures_do_not_stand_for_what_is_gone(root: Path, keys: tuple[str, str]) -> None:  # noqa: F811
    sign(str(root))
    assert verify(str(root), keys[1]) == []
    names = lost(root)
    assert sorted(line.partition(":")[0] for line in verify(str(root), keys[1])) == sorted(names)
    with pytest.raises(ValueError, match=r"the dataset is gone.*; nothing was signed"):
        sign(str(root))


def test_every_stage_and_every_dataset_inside_one_is_missed(root: Path) -> None:
    """The slow way: take each away alone."""
    recipe = [stage.address for stage in toys.recipe().walk()]
    inside = [f"{a}/{name}" for a in recipe for name in opened(f"{root}/{a}").about.get("inside", ())]  # type: ignore[union-attr]
    assert len(recipe) == 11
    assert {name.partition("-")[0] for name in inside} == {"corpus", "deduplicate", "tokenize"}
    for name in [*recipe, *inside]:
        manifest = root / name / "manifest.json"
        body = manifest.read_bytes()
        manifest.unlink()
        (said,) = verify(str(root))
        assert said.startswith(f"{name}: the dataset is gone")
        manifest.write_bytes(body)
    assert verify(str(root)) == []


@pytest.mark.parametrize("stage", ["judge", "tokenize"])
def test_another_content_than_the_run_left_is_named_once(root: Path, stage: str) -> None:
    shortened(of(root, stage))
    (said,) = verify(str(root))
    assert said.startswith(f"{of(root, stage).name}: its content is not what the run {runs(str(root))[0]} left")


def test_a_manifest_that_was_made_from_another_input_is_named(root: Path) -> None:
    """As one of an earlier state that was put back: its own shards are the same."""
    uri = str(of(root, "corpus"))
    dataset = opened(uri)
    assert dataset is not None
    about = {k: v for k, v in dataset.about.items() if k != "key"}
    about["inputs"] = {**about["inputs"], "kept": "0" * 64}
    Target(uri, dataset.about["key"]).seal(dataset.shards, **about)
    (said,) = verify(str(root))
    assert said == f"{of(root, 'corpus').name}: it was made from another {of(root, 'refine').name} than the one there"


def test_what_prune_took_is_not_missed(root: Path) -> None:
    run(toys.recipe(short=60).corpus, Local(), str(root))
    prune(str(root))
    assert verify(str(root)) == unknown(str(root)) == []


def test_a_prune_that_was_stopped_is_no_fault_and_what_the_latest_run_needs_is_missed_still(root: Path) -> None:
    """It takes stages away before the records of their runs; the runs that it keeps may be unfinished ones."""
    old = of(root, "refine").name
    with pytest.raises(Stopped):
        run(toys.recipe(short=60).corpus, Stopping(), str(root))
    shutil.rmtree(root / old)
    assert verify(str(root)) == []
    (said,) = unknown(str(root))
    assert said.startswith(f"{old}: the dataset is gone")
    assert "prune" in said
    shutil.rmtree(of(root, "judge"))
    (said,) = verify(str(root))
    assert said.startswith("judge-")


def test_a_stage_that_a_stopped_run_makes_again_is_not_known(root: Path) -> None:
    judge, folder = of(root, "judge").name, of(root, "judge")
    next(folder.glob("part-*")).unlink()
    with pytest.raises(Stopped):
        run(toys.recipe(), Stopping(), str(root))
    assert not (folder / "manifest.json").exists()
    assert verify(str(root)) == []
    said = unknown(str(root))
    assert said[0].startswith(f"{judge}: the dataset is gone")
    assert "stopped" in said[0]
    shutil.rmtree(folder)  # no run takes a folder away
    assert [line.partition(":")[0] for line in verify(str(root))] == [judge]
    run(toys.recipe(), Local(), str(root))
    assert verify(str(root)) == unknown(str(root)) == []


def test_another_content_after_a_run_that_was_killed_is_not_known(root: Path) -> None:
    """Its record says of all it was to make only that it ran."""
    with pytest.raises(Stopped):
        run(toys.recipe(short=60).corpus, Stopping(), str(root))
    record(root, lambda told: told.update(outcome="running", digests={}))
    assert verify(str(root)) == unknown(str(root)) == []
    shortened(of(root, "judge"))
    assert verify(str(root)) == []
    (said,) = unknown(str(root))
    assert said.startswith("judge-")
    assert "may have begun to make it again" in said
    shortened(of(root, "tokenize"))
    assert [line.partition("-")[0] for line in verify(str(root))] == ["tokenize"], "that run was not to make it"


def test_what_lies_inside_a_stage_that_a_killed_run_makes_again_is_not_known(root: Path) -> None:
    """Some stages begin with what lies inside them, and their own manifest goes later."""
    with pytest.raises(Stopped):
        run(toys.recipe(short=60), Stopping(), str(root))
    record(
        root, lambda told: told.update(outcome="running", digests={}, recipe=ran(str(root), runs(str(root))[0]).recipe)
    )
    shutil.rmtree(of(root, "tokenize") / "holdout")
    assert verify(str(root)) == []
    (said,) = unknown(str(root))
    assert said.startswith(f"{of(root, 'tokenize').name}/holdout: the dataset is gone")


def test_what_a_later_run_made_anew_leaves_what_was_made_from_it_behind_by_right(root: Path) -> None:
    made = shortened(of(root, "judge"))
    record(root, lambda told: told["digests"].update({made.address: opened(made.uri).digest}))  # type: ignore[union-attr]
    stale = verify(str(root))
    assert {line.partition("-")[0] for line in stale} == {"refine", "deduplicate", "corpus"}, "who reads Judge"
    assert all(f"made from another {made.address}" in line for line in stale)
    later = store.read_json(f"{root}/runs/{runs(str(root))[0]}.json")
    below = [stage.address for stage in toys.recipe().walk() if stage.name in ("Crawl", "Extract", "Gather", "Judge")]
    digests = {address: later["digests"][address] for address in below}
    recipe = {address: later["recipe"][address] for address in below}
    told = {**later, "goal": below[-1], "recipe": recipe, "outcome": "interrupted", "digests": digests}
    told["started"] += 60
    store.write_json(f"{root}/runs/99991231T000000.000-000002.json", told)
    assert verify(str(root)) == []


def test_a_run_until_a_stage_does_not_hide_what_comes_after_it(root: Path) -> None:
    run(toys.recipe(), Local(), str(root), until="Corpus")
    assert verify(str(root)) == unknown(str(root)) == []
    shutil.rmtree(of(root, "tokenize"))
    (said,) = verify(str(root))
    assert said.startswith("tokenize-")


@pytest.mark.parametrize("change", [lambda told: told.pop("digests"), lambda told: told.update(outcome="running")])
def test_without_the_record_of_a_run_that_was_done_it_is_not_known(
    root: Path, change: Callable[[dict[str, Any]], Any], capsys: pytest.CaptureFixture[str]
) -> None:
    record(root, change)
    (of(root, "judge") / "manifest.json").unlink()
    call(["verify", str(root)])
    first, second = capsys.readouterr().out.splitlines()
    assert first == "every shard matches its manifest"
    assert second.startswith("not known: whether all is there")


def test_a_forgetting_changes_what_a_record_tells_and_manifests_hold_it_then(root: Path) -> None:
    before = {address: dataset.digest for address, dataset in ran(str(root)).datasets.items()}
    forget(str(root), [f"{toys.KRANICH}/page/0", *(f"{toys.HERON}/page/{n}" for n in (3, 5, 7, 9))], reason="asked")
    dataset = opened(str(of(root, "deduplicate")))
    assert dataset is not None
    assert dataset.about["redo"], "it has to be made again, and tells of inputs of before"
    changed = {a for a, dataset in ran(str(root)).datasets.items() if dataset.digest != before[a]}
    assert len(changed) >= 5
    assert verify(str(root)) == []
    (said,) = unknown(str(root))
    assert of(root, "tokenize").name in said, "nothing is made from the goal"
    assert of(root, "gather").name not in said, "what is made from it tells its digest"
    manifest = of(root, "identify") / "manifest.json"
    body = manifest.read_bytes()
    shortened(of(root, "identify"))
    (wrong,) = verify(str(root))
    assert wrong.startswith(f"{of(root, 'identify').name}: its content is not what ")
    assert wrong.endswith(" was made from")
    manifest.write_bytes(body)
    run(toys.recipe(), Local(), str(root))
    assert verify(str(root)) == unknown(str(root)) == []


def test_forgotten_before_the_run_is_no_excuse(root: Path) -> None:
    (root / "forgotten").write_text('{"time": "2026-01-01T00:00:00Z"}\n')
    shortened(of(root, "judge"))
    (said,) = verify(str(root))
    assert said.startswith("judge-")
    record(root, lambda told: told.update(started=time.time() - 1e9))
    assert [line.partition("-")[0] for line in verify(str(root))] == ["judge"], "Refine says what Judge was"
    shortened(of(root, "tokenize"))
    assert [line.partition("-")[0] for line in verify(str(root))] == ["judge"]
    assert any(of(root, "tokenize").name in line for line in unknown(str(root)))


def test_roots_inside_a_root_are_looked_at_too(root: Path, tmp_path: Path) -> None:
    inner = root / "follow" / "gen-0000"
    shutil.copytree(root, tmp_path / "copy")
    shutil.copytree(tmp_path / "copy", inner)
    assert verify(str(root)) == unknown(str(root)) == []
    shutil.rmtree(of(inner, "judge"))
    (said,) = verify(str(root))
    assert said.startswith("judge-")


def test_a_record_that_cannot_be_read_is_named(root: Path) -> None:
    path = root / "runs" / f"{runs(str(root))[0]}.json"
    body = path.read_text()
    path.write_text(body[:50])
    (said,) = verify(str(root))
    assert path.name in said
    path.write_text(json.dumps([1]))
    (said,) = verify(str(root))
    assert "is no record of a run" in said


def test_what_plan_calls_current_verify_calls_well(root: Path) -> None:
    assert all(step.current for step in plan(toys.recipe(), str(root)))
    for stage in ("gather", "sign"):
        shortened(of(root, stage))
    stale = {step.stage.address for step in plan(toys.recipe(), str(root)) if not step.current}
    assert {line.partition(":")[0] for line in verify(str(root))} == {of(root, s).name for s in ("gather", "sign")}
    assert {of(root, "deduplicate").name, of(root, "identify").name} <= stale
