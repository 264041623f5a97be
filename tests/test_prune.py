"""prune and verify: what goes, what stays, and what is found changed."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.toys import digests, recipe, small_root
from tundish.cluster import store
from tundish.cluster.local import Local
from tundish.pipeline.funnel import runs
from tundish.pipeline.prune import prune
from tundish.pipeline.run import run
from tundish.pipeline.verify import verify

HOLDER = """
import sys, time
from tundish.pipeline.lease import Lease
Lease(sys.argv[1]).__enter__()
print("held", flush=True)
time.sleep(60)
"""


def test_no_run_begins_while_it_removes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root, remove, tried = small_root(tmp_path), store.remove, []
    run(recipe(short=60), Local(), root)

    def removing(uri: str) -> None:
        with pytest.raises(ValueError, match="another run holds this root"):
            run(recipe(short=70), Local(), root)
        tried.append(uri)
        remove(uri)

    monkeypatch.setattr("tundish.pipeline.prune.store.remove", removing)
    assert len(prune(root)) == len(tried) > 3
    monkeypatch.undo()
    assert run(recipe(short=70), Local(), root).dataset.rows


def folders(root: str) -> set[str]:
    return {p.name for p in Path(root).iterdir() if p.is_dir() and "-" in p.name}


def without_runs(root: str) -> dict[str, str]:
    """Every run leaves a record, also one that found everything done."""
    return {name: digest for name, digest in digests(root).items() if not name.startswith("runs/")}


def test_what_the_last_run_does_not_need_goes_and_nothing_else_runs_again(tmp_path: Path) -> None:
    root = small_root(tmp_path)
    before = folders(root)
    new = recipe(short=60)
    run(new, Local(), root)
    stale = before - {stage.address for stage in new.walk()}
    assert {name.split("-")[0] for name in stale} == {"refine", "deduplicate", "corpus", "tokenize"}

    files = digests(root)
    said = prune(root, dry=True)
    assert digests(root) == files, "dry says, and does nothing"
    assert prune(root) == said
    names = {name for name, _ in said}
    assert stale <= names
    assert all(size > 0 for name, size in said if name in stale)
    assert folders(root) == {stage.address for stage in new.walk()}
    assert len(runs(root)) == 1

    left = without_runs(root)
    run(new, Local(), root)
    assert without_runs(root) == left, "all that was kept is still whole: nothing ran"
    assert verify(root) == []
    assert not [name for name, _ in prune(root) if not name.startswith("runs/")]


def test_two_kept_runs_keep_both(tmp_path: Path) -> None:
    root = small_root(tmp_path)
    run(recipe(short=60), Local(), root)
    before = folders(root)
    prune(root, keep_runs=2)
    assert folders(root) == before


def test_files_that_a_gathered_dataset_lies_on_stay_even_when_no_kept_recipe_names_their_stage(tmp_path: Path) -> None:
    root = small_root(tmp_path)
    name = runs(root)[-1]
    uri = store.join(root, "runs", f"{name}.json")
    record = store.read_json(uri)
    gather = next(a for a in record["recipe"] if a.startswith("gather-"))
    extract = next(a for a in record["recipe"] if a.startswith("extract-"))
    alone = {**record["recipe"][gather], "fields": {"sources": {}}}
    store.write_json(uri, {**record, "goal": gather, "recipe": {gather: alone}})
    prune(root)
    assert folders(root) == {gather, extract}
    assert verify(root) == []


def test_leftovers_of_sealed_stages_go_and_those_of_others_stay(tmp_path: Path) -> None:
    root = small_root(tmp_path)
    twins = next(p for p in Path(root).iterdir() if p.name.startswith("deduplicate-"))
    corpus = next(p for p in Path(root).iterdir() if p.name.startswith("corpus-"))
    half, unsealed = twins / ".part-00000.parquet.0123456789ab.attempt", corpus / ".part-00000.parquet.ab.attempt"
    half.write_bytes(b"half")
    unsealed.write_bytes(b"half")
    (corpus / "manifest.json").unlink()
    own = Path(root) / "notes-0123456789"
    own.mkdir()
    (own / "mine.txt").write_text("of no stage")
    prune(root)
    assert not half.exists()
    assert not (twins / "steps").exists()
    assert unsealed.exists()
    assert (own / "mine.txt").exists()


def test_a_root_at_work_is_left_alone(tmp_path: Path) -> None:
    root = small_root(tmp_path)
    holder = subprocess.Popen([sys.executable, "-c", HOLDER, root], stdout=subprocess.PIPE)
    try:
        assert holder.stdout is not None
        holder.stdout.readline()
        with pytest.raises(ValueError, match=f"process {holder.pid}"):
            prune(root)
    finally:
        holder.kill()
        holder.wait()
        holder.stdout.close()
    prune(root)  # a dead holder holds nothing


def test_what_cannot_be_pruned_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no run under"):
        prune(str(tmp_path))
    with pytest.raises(ValueError, match="at least 1"):
        prune(small_root(tmp_path), keep_runs=0)


def test_verify_names_what_changed_what_is_gone_and_what_is_cut_inside_stages_too(tmp_path: Path) -> None:
    root = small_root(tmp_path)
    assert verify(root) == []
    parts = {
        p.parent.relative_to(root).as_posix().split("-")[0] + "/" + p.parent.name: p
        for p in Path(root).rglob("part-*.*")
    }
    changed, gone = parts["corpus/dropped"], next(p for p in Path(root).glob("judge-*/part-00001.parquet"))
    body = bytearray(changed.read_bytes())
    body[len(body) // 2] ^= 1
    changed.write_bytes(body)
    gone.unlink()
    cut = next(Path(root).glob("sign-*/manifest.json"))
    os.truncate(cut, 100)
    said = verify(root)
    assert len(said) == 3
    assert any("/dropped" in line and changed.stem in line and "differ" in line for line in said)
    assert any(gone.parent.name in line and "gone" in line for line in said)
    assert any(cut.parent.name in line and "cannot be read" in line for line in said)


def test_verify_refuses_a_root_without_a_dataset(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no sealed dataset"):
        verify(str(tmp_path))
