"""Token shards as others read them, as they lie: pyarrow, Hugging Face datasets, DuckDB, Polars."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.dataset as pads
import pytest

from tests.test_mix import corpus_of
from tests.toys import pages
from tundish.cluster.local import Local
from tundish.cluster.shards import Dataset
from tundish.pipeline.run import run
from tundish.stages import tokenize
from tundish.stages.tokenize import Tokenize


@pytest.fixture(scope="module")
def tokens(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    folder = tmp_path_factory.mktemp("readers")
    before, tokenize.BYTES_A_SHARD = tokenize.BYTES_A_SHARD, 9_000
    try:
        goal = Tokenize(corpus_of(folder, "web", list(pages().values())), vocabulary=312, holdout=0.1)
        return run(goal, Local(), str(folder / "root")).datasets[goal.address]
    finally:
        tokenize.BYTES_A_SHARD = before


def files(tokens: Dataset) -> list[str]:
    return [tokens.path(name) for name in tokens.names]


def whole(tokens: Dataset) -> pa.Table:
    table = tokens.table()
    assert len(table) > 15
    assert len(tokens.names) > 1
    return table


def test_pyarrow_maps_a_shard_and_copies_nothing(tokens: Dataset) -> None:
    for name in tokens.names:
        before = pa.total_allocated_bytes()
        reader = pa.ipc.open_file(pa.memory_map(tokens.path(name)))
        assert reader.num_record_batches == 1
        column = reader.get_batch(0).column("tokens")
        assert column.type == pa.large_list(pa.uint16())
        flat, offsets = column.values.to_numpy(zero_copy_only=True), column.offsets.to_numpy()
        assert pa.total_allocated_bytes() - before < 20_000
        assert not flat.flags.writeable
        rows = whole(tokens).num_rows
        assert 0 < len(offsets) - 1 < rows
        assert len(flat) == offsets[-1] == tokens.shard(name).counts["tokens"]
    found = pads.dataset(files(tokens), format="ipc").to_table(columns=["id", "bytes", "language"])
    assert found["id"].to_pylist() == whole(tokens)["id"].to_pylist()


def test_rows_lie_by_the_keyed_hash_of_their_id(tokens: Dataset) -> None:
    for name in tokens.names:
        table = tokens.read(name)
        place = table["place"].to_numpy()
        assert (np.diff(place.astype(object)) >= 0).all()
        assert set(table["origin"].to_pylist()) == {"web"}
    totals = tokens.about["totals"]
    assert totals["origin"]["web"]["documents"] == tokens.rows
    assert sum(one["tokens"] for one in totals["language"].values()) == tokens.counts["tokens"]


def test_datasets_reads_them(tokens: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    datasets = pytest.importorskip("datasets")
    parts = [datasets.Dataset(pa.ipc.open_file(pa.memory_map(file)).read_all()) for file in files(tokens)]  # no copy
    found = datasets.concatenate_datasets(parts)
    wanted = whole(tokens)
    assert found["tokens"][:3] == wanted["tokens"].to_pylist()[:3]
    assert len(found) == len(wanted)
    loaded = datasets.load_dataset("arrow", data_files=files(tokens), split="train", cache_dir=str(tmp_path))
    assert loaded["id"][:] == wanted["id"].to_pylist()


def test_duckdb_reads_them(tokens: Dataset) -> None:
    duckdb = pytest.importorskip("duckdb")
    shards = pads.dataset(files(tokens), format="ipc")  # noqa: F841 - DuckDB finds it by its name
    query = "SELECT origin, count(*), sum(len(tokens)), sum(bytes) FROM shards GROUP BY origin"
    table = whole(tokens)
    wanted = [("web", len(table), tokens.counts["tokens"], sum(table["bytes"].to_pylist()))]
    assert duckdb.sql(query).fetchall() == wanted


def test_polars_reads_them(tokens: Dataset) -> None:
    polars = pytest.importorskip("polars")
    frame = (
        polars.scan_ipc(files(tokens)).select("id", polars.col("tokens").list.len().alias("n"), "language").collect()
    )
    table = whole(tokens)
    assert frame["n"].to_list() == [len(row) for row in table["tokens"].to_pylist()]
    assert frame["id"].to_list() == table["id"].to_pylist()
