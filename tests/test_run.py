"""run and plan: what is done, what is kept, and why."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tests.toy_stages import RAN, SHELVES, File, Length, Words, recipe
from tundish.cluster.local import Local
from tundish.cluster.shards import opened
from tundish.pipeline.lease import Lease
from tundish.pipeline.plan import plan
from tundish.pipeline.run import run
from tundish.pipeline.verify import verify
from tundish.stages.stage import Stage


def ran() -> list[str]:
    """What was called since the last look."""
    calls = list(RAN)
    RAN.clear()
    return calls


def because(goal: Stage, root: Path) -> dict[str, str]:
    return {step.stage.name: step.because for step in plan(goal, str(root)) if not step.current}


def test_a_run_reaches_the_goal_and_a_second_one_does_nothing(tmp_path: Path) -> None:
    ran()
    outcome = run(recipe(), Local(), str(tmp_path))
    assert outcome.dataset.select("reason").table()["reason"].to_pylist() == ["short", None, None, "short", None]
    assert ran()
    again = run(recipe(), Local(), str(tmp_path))
    assert ran() == []
    assert again.dataset.digest == outcome.dataset.digest


def test_row_wise_stages_share_one_pass_and_one_may_read_what_another_makes(tmp_path: Path) -> None:
    ran()
    run(recipe(), Local(), str(tmp_path))
    calls = [c for c in ran() if not c.startswith("Words")]
    # in one pass the stages alternate shard by shard; in two they would not
    assert calls[:2] == ["Length part-00000", "Long part-00000"]
    manifest = opened(str(tmp_path / recipe().address))
    assert manifest is not None
    assert set(manifest.about["inputs"]) == {"documents", "length"}


def test_a_changed_threshold_runs_the_decision_alone_and_plan_names_the_field(tmp_path: Path) -> None:
    run(recipe(), Local(), str(tmp_path))
    ran()
    assert because(recipe(least=6), tmp_path) == {"Long": "Long.least: 4 -> 6"}
    run(recipe(least=6), Local(), str(tmp_path))
    assert {call.split()[0] for call in ran()} == {"Long"}


def test_a_changed_source_runs_everything_after_it(tmp_path: Path) -> None:
    run(recipe(), Local(), str(tmp_path))
    changed = recipe(shelves=(("one",), *SHELVES[1:]))
    reasons = because(changed, tmp_path)
    assert reasons["Words"].startswith("Words.shelves: ")
    assert reasons["Length"] == "documents runs"


def test_only_the_shards_of_changed_files_are_done_again(tmp_path: Path) -> None:
    """A stage sealed from other content goes on from the shards whose inputs are the same."""
    goal = recipe()
    run(goal, Local(), str(tmp_path))
    words = tmp_path / goal.documents.address
    manifest = json.loads((words / "manifest.json").read_text())
    shard = words / "part-00001.parquet"
    pq.write_table(pq.read_table(shard).slice(0, 1), shard)
    commit = words / "commits" / "part-00001.json"
    commit.unlink()
    (words / "manifest.json").unlink()
    ran()
    run(goal, Local(), str(tmp_path))
    assert [c for c in ran() if c.startswith("Words")] == ["Words part-00001"]
    assert json.loads((words / "manifest.json").read_text())["digest"] == manifest["digest"]


def test_a_changed_outside_file_is_the_reason(tmp_path: Path) -> None:
    path = tmp_path / "words.txt"
    path.write_text("one\nthree\n")
    goal = Length(File(str(path)))
    run(goal, Local(), str(tmp_path / "root"))
    assert because(goal, tmp_path / "root") == {}
    path.write_text("one\nthree\nfive\n")
    reasons = because(goal, tmp_path / "root")
    assert reasons == {"File": "an outside file changed: words.txt", "Length": "documents runs"}
    outcome = run(goal, Local(), str(tmp_path / "root"))
    assert outcome.dataset.rows == 3


def test_a_damaged_shard_is_named_and_nothing_after_it_runs(tmp_path: Path) -> None:
    goal = recipe()
    run(goal.documents, Local(), str(tmp_path))
    shard = tmp_path / goal.documents.address / "part-00000.parquet"
    body = bytearray(shard.read_bytes())
    body[len(body) // 2] ^= 0xFF
    shard.write_bytes(bytes(body))
    with pytest.raises(ValueError, match=r"part-00000.parquet does not match its digest"):
        run(goal, Local(), str(tmp_path))
    assert opened(str(tmp_path / goal.address)) is None


def test_nothing_left_names_the_stage_and_the_reasons(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no document is left after Long \(top reasons: short 5\)"):
        run(recipe(least=99), Local(), str(tmp_path))
    with pytest.raises(ValueError, match="no document is left after Long"):  # and again when it is sealed
        run(recipe(least=99), Local(), str(tmp_path))


def test_until_stops_early_and_an_unknown_stage_is_refused(tmp_path: Path) -> None:
    outcome = run(recipe(), Local(), str(tmp_path), until="Length")
    assert [a.split("-")[0] for a in outcome.datasets] == ["words", "length"]
    with pytest.raises(
        ValueError, match=r"--until names 'Sing', which the recipe does not use; it has Length, Long, Words"
    ):
        run(recipe(), Local(), str(tmp_path), until="Sing")


def test_two_drivers_do_not_share_a_root(tmp_path: Path) -> None:
    code = "import sys, time\nfrom tundish.pipeline.lease import Lease\n"
    code += f"with Lease({str(tmp_path)!r}):\n    print('held', flush=True)\n    time.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline().strip() == "held"
        with pytest.raises(ValueError, match="another run holds this root"):
            run(recipe(), Local(), str(tmp_path))
        other.kill()
        other.wait()
    assert run(recipe(), Local(), str(tmp_path)).dataset.rows == 5  # a dead driver is succeeded at once
    with Lease(str(tmp_path)) as lease:
        assert lease.number == 3


def test_what_goes_before_the_root_is_taken_is_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A prune held the root between the look at what is there and the run."""
    run(recipe(), Local(), str(tmp_path), until="Words")

    class Late(Lease):
        def __enter__(self) -> Lease:
            shutil.rmtree(tmp_path / Words(SHELVES).address)
            return super().__enter__()

    monkeypatch.setattr("tundish.pipeline.run.Lease", Late)
    assert run(recipe(), Local(), str(tmp_path)).dataset.rows == 5
    assert verify(str(tmp_path)) == []


def test_a_driver_that_lost_its_lease_seals_nothing_more(tmp_path: Path) -> None:
    with Lease(str(tmp_path)) as first:
        held = json.loads((tmp_path / "lease.json").read_text())
        held |= {"name": "somebody else", "number": first.number + 1}
        (tmp_path / "lease.json").write_text(json.dumps(held))
        with pytest.raises(ValueError, match="taken over"):
            first.check()


def test_every_run_leaves_a_record(tmp_path: Path) -> None:
    goal = recipe()
    run(goal, Local(), str(tmp_path))
    (name,) = os.listdir(tmp_path / "runs")
    record = json.loads((tmp_path / "runs" / name).read_text())
    assert record["outcome"] == "done"
    assert set(record["recipe"]) == {stage.address for stage in goal.walk()}
    assert record["digests"][goal.address] == opened(str(tmp_path / goal.address)).digest  # type: ignore[union-attr]


def test_fields_decide_the_address_and_places_do_not(tmp_path: Path) -> None:
    assert recipe().address == recipe().address
    assert recipe().address != recipe(least=5).address
    one, two = tmp_path / "one", tmp_path / "two"
    assert run(recipe(), Local(), str(one)).dataset.digest == run(recipe(), Local(), str(two)).dataset.digest


def test_a_field_of_the_wrong_kind_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match=r"Long.least cannot be 'many'"):
        recipe(least="many")  # type: ignore[arg-type]
    assert Words([["a"]]).shelves == (("a",),)  # type: ignore[arg-type]


def test_going_back_to_an_earlier_recipe_makes_it_the_latest_run(tmp_path: Path) -> None:
    """Nothing has to be done, and yet it is what report shows and prune keeps."""
    for least in (4, 6, 4):
        run(recipe(least=least), Local(), str(tmp_path))
    latest = sorted(os.listdir(tmp_path / "runs"))[-1]
    assert json.loads((tmp_path / "runs" / latest).read_text())["goal"] == recipe(least=4).address


def test_a_shard_that_was_deleted_is_made_again_and_no_other(tmp_path: Path) -> None:
    """What the message about a damaged shard advises."""
    goal = recipe()
    first = run(goal, Local(), str(tmp_path)).dataset.digest
    shard = tmp_path / goal.documents.address / "part-00001.parquet"
    shard.unlink()
    assert because(goal, tmp_path)["Words"] == "the file of part-00001 is gone or cut"
    ran()
    assert run(goal, Local(), str(tmp_path)).dataset.digest == first
    assert [call for call in ran() if call.startswith("Words")] == ["Words part-00001"]
    assert shard.exists()
    assert because(goal, tmp_path) == {}


def test_what_was_emptied_does_not_keep_a_root_from_its_end(tmp_path: Path) -> None:
    """As a disk that was switched off leaves a file: its name, and nothing in it."""
    root = tmp_path / "root"
    goal = recipe()
    whole = run(goal, Local(1), str(tmp_path / "whole")).dataset
    run(goal, Local(1), str(root))
    [folder] = root.glob("length-*")
    (folder / "manifest.json").unlink()
    next((folder / "commits").glob("*.json")).write_text("")
    next((root / "runs").glob("*.json")).write_text("")
    assert set(because(goal, root)) == {"Length", "Long"}
    assert run(goal, Local(1), str(root)).dataset.digest == whole.digest
