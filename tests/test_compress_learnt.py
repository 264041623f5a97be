"""No text is tested that the model has learnt, as far as its folder tells; what leaves a test is counted."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.test_compress import GIVEN
from tests.test_compress import place as place  # a fixture
from tundish.stages.compress_learnt import Learnt, apart, learnt
from tundish.stages.compress_run import run
from tundish.stages.examples_tokens import load
from tundish.stages.finetune_files import prepared

torch.set_num_threads(1)


def rows(path: Path) -> list[str]:
    return [line for line in path.read_text().split("\n")[1:] if line]


def laid(path: Path, lines: list[str]) -> str:
    path.write_text("\n".join(["text\tlabel", *lines]) + "\n")
    return str(path)


def small(place: Path, out: Path, files: dict[str, str], model: str = "tuned", **more: Any) -> dict[str, Any]:
    return run(str(place / model), files, str(out), ["int8"], {}, **(GIVEN | more))


def places(path: Path) -> set[int]:
    return set(load(str(path))[0]["row"].to_pylist())


def test_texts_that_the_model_learnt_leave_the_test(place: Path, tmp_path: Path) -> None:
    """Whatever the file, the case of the label and the row they stand in."""
    old, new = rows(place / "train.tsv"), rows(place / "test.tsv")
    test = laid(tmp_path / "mixed.tsv", [*old[:7], *new[:20], *old[150:153]])
    told: list[str] = []
    found = small(
        place, tmp_path / "out", {"train": laid(tmp_path / "t.tsv", new[20:]), "test": test}, tell=told.append
    )
    assert found["learnt"] == {"known": True, "parts": {"test": {"out": 10, "of": 30}}}
    assert found["examples"]["test"] == 20
    assert places(tmp_path / "out" / "test.arrow") == set(range(8, 28))
    body = json.loads((tmp_path / "out" / "compressed.json").read_text())
    assert body["learnt"] == found["learnt"]


def test_what_its_temperature_was_fitted_on_is_learnt_too(place: Path) -> None:
    known = learnt(str(place / "tuned"))
    assert known.known
    assert known.ids == {
        each for name in ("train", "dev") for each in load(str(place / "tuned" / f"{name}.arrow"))[0]["id"].to_pylist()
    }
    assert len(known.ids) == len({line.split("\t")[0] for line in rows(place / "train.tsv")})


def test_a_test_of_which_nothing_is_left_is_refused(place: Path, tmp_path: Path) -> None:
    """As it is without a test, where the model learnt all of train."""
    with pytest.raises(ValueError, match=r"has learnt all 40 texts of test; give --test FILE"):
        small(place, tmp_path / "out", {"train": str(place / "train.tsv")})
    assert not (tmp_path / "out" / "compressed.json").exists()


def test_without_a_test_the_same_train_is_parted_as_it_was(place: Path, tmp_path: Path) -> None:
    """Tuned without a test either, nothing that is tested was learnt."""
    task, _ = prepared(
        str(place / "encoder"), "classify", {"train": str(place / "train.tsv")}, str(tmp_path / "out"), scratch=False
    )
    mine, theirs = (set(load(task.parts[name])[0]["id"].to_pylist()) for name in ("test", "train"))
    assert not mine & theirs
    same, told = apart(task, Learnt(frozenset(theirs), True))
    assert (same, told) == (task, {"known": True, "parts": {}})


def test_a_model_of_a_compression_knows_what_the_first_one_learnt(place: Path, tmp_path: Path) -> None:
    files = {"train": laid(tmp_path / "t.tsv", rows(place / "test.tsv")[:60]), "test": str(place / "test.tsv")}
    found = small(place, tmp_path / "one", {**files, "test": laid(tmp_path / "x.tsv", rows(place / "test.tsv")[60:])})
    assert found["learnt"]["parts"] == {}
    first, own = learnt(str(place / "tuned")), learnt(str(tmp_path / "one" / "int8"))
    assert own.known
    assert first.ids < own.ids
    assert len(own.ids - first.ids) == 60, "what its recoveries learn, train and dev"
    with pytest.raises(ValueError, match=r"is where .* lie, and would be written over"):
        run(str(tmp_path / "one" / "int8"), files, str(tmp_path / "one"), ["int8"], {}, **GIVEN)


def test_a_folder_that_does_not_tell_is_told(place: Path, tmp_path: Path) -> None:
    """A file of that name that is none of ours tells nothing either."""
    shutil.copytree(place / "tuned", tmp_path / "given", ignore=shutil.ignore_patterns("*.arrow", "runs"))
    (tmp_path / "given" / "train.arrow").write_bytes(b"ARROW1 of another kind")
    assert learnt(str(tmp_path / "given")) == Learnt(frozenset(), False)
    assert learnt("tuned") == Learnt(frozenset(), False)


def test_what_a_recovery_learns_is_not_tested_either(place: Path, tmp_path: Path) -> None:
    new, told = rows(place / "test.tsv"), list[str]()
    files = {"train": laid(tmp_path / "t.tsv", new), "test": laid(tmp_path / "x.tsv", new[:5])}
    found = small(place, tmp_path / "out", files, tell=told.append)
    assert found["examples"]["test"] == 5
    learns = {
        id for name in ("train", "dev") for id in load(str(tmp_path / "out" / f"{name}.arrow"))[0]["id"].to_pylist()
    }
    assert not learns & set(load(str(tmp_path / "out" / "test.arrow"))[0]["id"].to_pylist())
    assert "train: 5 rows left it, for a test or dev has their texts" in told
    assert not any("--apart" in line for line in told), "an option that is another command's"


def test_questions_leave_with_their_answers_and_windows(tmp_path: Path, place: Path) -> None:
    """A text that is read in several windows goes whole, and what is known of it."""
    files = {}
    for name in ("train", "dev", "test"):
        context = f"{name} " + " ".join(f"w{at}" for at in range(40))
        made = [{"context": context, "question": f"w{at} w{at + 1}", "answers": [f"w{at} "]} for at in range(20)]
        path = tmp_path / f"{name}.jsonl"
        path.write_text("\n".join(map(json.dumps, made)) + "\n")
        files[name] = str(path)
    task, _ = prepared(str(place / "encoder"), "answer", files, str(tmp_path / "out"), scratch=False)
    before, _ = load(task.parts["test"])
    assert before.num_rows > len(made), "windows"
    ids = dict(zip(before["row"].to_pylist(), before["id"].to_pylist(), strict=True))
    gone = sorted(ids)[:3]
    less, told = apart(task, Learnt(frozenset(ids[row] for row in gone), True))
    assert told["parts"] == {"test": {"out": 3, "of": 20}}
    after, _ = load(less.parts["test"])
    assert set(after["row"].to_pylist()) == set(ids) - set(gone)
    assert [row for row in before["row"].to_pylist() if row not in gone] == after["row"].to_pylist()
    assert len(less.truth["test"]) == 17
    assert less.truth["dev"] == task.truth["dev"]
    assert less.digests["test"] != task.digests["test"]
    assert replace(less, digests=task.digests, truth=task.truth) == task


def test_texts_are_cut_where_the_model_learnt_them_cut(place: Path, tmp_path: Path) -> None:
    shutil.copytree(place / "tuned", tmp_path / "short", ignore=shutil.ignore_patterns("runs"))
    told = json.loads((tmp_path / "short" / "config.json").read_text())
    (tmp_path / "short" / "config.json").write_text(json.dumps(told | {"length": 8}))
    files = {"train": laid(tmp_path / "t.tsv", rows(place / "test.tsv")[40:]),
             "test": laid(tmp_path / "x.tsv", rows(place / "test.tsv")[:40])}  # fmt: skip
    for length, cut in ((0, 8), (6, 6)):
        found = run(str(tmp_path / "short"), files, str(tmp_path / str(cut)), ["int8"], {}, length=length, **GIVEN)
        assert found["length"] == cut
        assert load(str(tmp_path / str(cut) / "test.arrow"))[1]["length"] == cut - 2, "but for [CLS] and [SEP]"
        assert json.loads((tmp_path / str(cut) / "int8" / "config.json").read_text())["length"] == cut
