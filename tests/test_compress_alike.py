"""Teachers and students that read the same are taken, however their files spell it; others are refused at once."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.test_compress import GIVEN, SHAPE, WORDS, folder_of, made
from tests.test_compress import place as place  # a fixture
from tests.test_compress import whole as whole  # a fixture
from tundish.pipeline.export import export
from tundish.stages.compress_run import run

torch.set_num_threads(1)
ONE: dict[str, Any] = {"seeds": (1,)}


@pytest.fixture(scope="module")
def exported(place: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The model as Hugging Face has it: the same vocabulary, in other bytes."""
    to = tmp_path_factory.mktemp("exported") / "theirs"
    export(str(place / "tuned"), str(to))
    return str(to)


def losses(found: dict[str, Any]) -> list[float]:
    return found["steps"]["distil"]["seeds"]["1"]["losses"]


def test_an_export_teaches_what_it_was_made_of(place: Path, exported: str) -> None:
    """And says the same as the model itself."""
    mine, theirs = (Path(each, "tokenizer.json").read_bytes() for each in (place / "tuned", exported))
    assert mine != theirs
    found = made(place, "by-export", "distil", {"teacher": exported}, **ONE)
    own = made(place, "by-itself", "distil", **ONE)
    assert losses(found) == pytest.approx(losses(own), rel=1e-4)
    assert found["steps"]["distil"]["told"].endswith(f"from {exported}")


def test_an_export_is_taught_by_what_it_was_made_of(place: Path, exported: str, tmp_path: Path) -> None:
    files = {"train": str(place / "train.tsv"), "test": str(place / "test.tsv")}
    means = {"teacher": str(place / "tuned")}
    found = run(exported, files, str(tmp_path / "out"), ["distil"], means, **(GIVEN | ONE))
    assert found["steps"]["distil"]["parts"]["failed"] == 0


def test_a_student_whose_vocabulary_is_spelt_otherwise(place: Path, tmp_path: Path) -> None:
    student = Path(folder_of(tmp_path / "student", replace(SHAPE, layers=1)))
    said = json.loads((student / "tokenizer.json").read_bytes())
    (student / "tokenizer.json").write_text(json.dumps(said, indent=7, sort_keys=True))
    found = made(place, "by-student", "distil", {"student": str(student)}, **ONE)
    assert found["steps"]["distil"]["told"].startswith("a student of 1 layers")


def others(place: Path, tmp_path: Path) -> dict[str, str]:
    """Folders that cannot teach, or cannot learn."""
    back = folder_of(tmp_path / "back", words=WORDS[::-1])
    short = folder_of(tmp_path / "short", replace(SHAPE, length=12))
    named = tmp_path / "named"
    shutil.copytree(place / "tuned", named, ignore=shutil.ignore_patterns("*.arrow", "runs"))
    told = json.loads((named / "config.json").read_text())
    (named / "config.json").write_text(json.dumps(told | {"names": ["low", "high"]}))
    return {"back": back, "short": short, "named": str(named)}


@pytest.mark.parametrize(
    ("steps", "means", "words"),
    [
        ("distil", {"teacher": "named"}, "the student for classify with high, low; take one of the same task"),
        ("distil", {"teacher": "encoder"}, "holds no fine-tuned model"),
        ("layers+distil", {"teacher": "onnx"}, "is a graph, whose layers nobody sees"),
        ("distil", {"student": "back"}, "reads other pieces than the model"),
        ("distil", {"student": "short"}, "reads 12 tokens, and texts here have up to 24"),
        ("distil", {"hidden": 1.0, "match": "0:7"}, "0:7 are not both there, of 1 and 3"),
        ("distil", {"hidden": 1.0, "match": "1:1"}, "1:1 are not both there, of 1 and 3"),
        ("heads+distil", {"hidden": 1.0, "match": "0:7"}, "0:7 are not both there, of 3 and 3"),
        ("layers+heads+distil", {"hidden": 1.0, "layers": 2, "match": "2:2"}, "2:2 are not both there, of 2 and 3"),
        ("distil", {"hidden": 1.0, "match": "1:1", "student": "two"}, "1:1 are not both there, of 1 and 3"),
    ],
)
def test_it_is_refused_before_anything_is_made(
    place: Path, whole: dict[str, Any], tmp_path: Path, steps: str, means: dict[str, Any], words: str
) -> None:
    known = others(place, tmp_path) | {"encoder": str(place / "encoder"), "onnx": str(place / "all" / "onnx")}
    known |= {"two": folder_of(tmp_path / "two", replace(SHAPE, layers=1))}
    means = {name: known.get(value, value) for name, value in means.items()}
    begun: list[str] = []
    with pytest.raises(ValueError, match=words):
        made(place, tmp_path.name, f"int8,{steps}", means, tell=begun.append, **ONE)
    assert not begun
    assert not (place / tmp_path.name / "compressed.json").exists()


def test_layers_that_are_there_are_matched(place: Path) -> None:
    """Of what is left, as it will be when it learns."""
    means = {"hidden": 1.0, "layers": 2, "match": "1:2"}
    found = made(place, "matched", "layers+distil", means, **ONE)
    assert found["steps"]["layers+distil"]["parts"]["failed"] == 0
