"""Names of classes beside numbers, in files as the library `datasets` writes them."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tundish.stages.examples import read

datasets = pytest.importorskip("datasets")
ROWS = {"text": ["It sings.", "It waits.", "It flew.", "It left."], "label": [1, 0, 1, 2]}
TAGGED = {"words": [["The", "heron"], ["Ann"]], "tags": [[0, 2], [1]]}


def features(**more: object) -> object:
    return datasets.Features({"text": datasets.Value("string"), **more})


@pytest.fixture
def labelled() -> object:
    kind = datasets.ClassLabel(names=["dull", "glad", "gone"])
    return datasets.Dataset.from_dict(ROWS, features=features(label=kind))


def test_numbers_of_a_parquet_file_have_their_names(labelled, tmp_path: Path) -> None:
    labelled.to_parquet(str(tmp_path / "a.parquet"))
    found = read("classify", str(tmp_path / "a.parquet"))
    assert found.names == ("dull", "glad", "gone")
    assert [found.names[at] for at in found.table["label"].to_pylist()] == ["glad", "dull", "glad", "gone"]


@pytest.mark.parametrize("streamed", [True, False])
def test_so_have_those_of_an_arrow_file(labelled, tmp_path: Path, streamed: bool) -> None:
    labelled.save_to_disk(str(tmp_path / "kept"))
    (shard,) = (tmp_path / "kept").glob("*.arrow")
    if not streamed:
        with pa.ipc.open_stream(shard) as reader:
            table = reader.read_all()
        shard = tmp_path / "file.arrow"
        with pa.ipc.new_file(str(shard), table.schema) as writer:
            writer.write_table(table)
    found = read("classify", str(shard))
    assert [found.names[at] for at in found.table["label"].to_pylist()] == ["glad", "dull", "glad", "gone"]


def test_lists_of_numbers_are_lists_of_names(tmp_path: Path) -> None:
    kind = datasets.ClassLabel(names=["O", "B-PER", "B-BIRD"])
    words = datasets.Sequence(datasets.Value("string"))
    own = datasets.Features({"words": words, "tags": datasets.Sequence(kind)})
    datasets.Dataset.from_dict(TAGGED, features=own).to_parquet(str(tmp_path / "a.parquet"))
    found = read("tag", str(tmp_path / "a.parquet"))
    assert [[found.names[at] for at in tags] for tags in found.table["tags"].to_pylist()] == [
        ["O", "B-BIRD"],
        ["B-PER"],
    ]


def test_minus_one_is_no_label(tmp_path: Path) -> None:
    kind = datasets.ClassLabel(names=["dull", "glad"])
    rows = {"text": ["a", "b"], "label": [-1, 1]}
    datasets.Dataset.from_dict(rows, features=features(label=kind)).to_parquet(str(tmp_path / "a.parquet"))
    with pytest.raises(ValueError, match=r"row 1 of a\.parquet"):
        read("classify", str(tmp_path / "a.parquet"))
    assert len(read("classify", str(tmp_path / "a.parquet"), faulty="drop")) == 1


@pytest.mark.parametrize("told", [b"no json", b"[1]", b'{"info": {"features": {"label": {"_type": "ClassLabel"}}}}'])
def test_metadata_that_name_nothing_change_nothing(tmp_path: Path, told: bytes) -> None:
    table = pa.table(ROWS).replace_schema_metadata({b"huggingface": told})
    pq.write_table(table, tmp_path / "a.parquet")
    assert read("classify", str(tmp_path / "a.parquet")).names == ("0", "1", "2")
