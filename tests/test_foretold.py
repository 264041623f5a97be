"""What a training will stream, told from manifests, against what its index and its plan say."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from tests.test_mix import corpus_of
from tests.toys import pages
from tundish.cluster.local import Local
from tundish.cluster.rehearsal import rehearsal
from tundish.cluster.shards import Dataset
from tundish.operators.model.plan import Plan, Stretch, weights_of
from tundish.operators.model.rows import Layout
from tundish.pipeline.cli import cli
from tundish.pipeline.foretold import Wish, foretold, tokens_at
from tundish.pipeline.run import run
from tundish.stages import tokenize
from tundish.stages.token_stream import files_of, future
from tundish.stages.tokenize import Tokenize

WISH = Wish(Layout(64, 64), 8, 30_000, 2, 1, {})


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("foretold")
    before, tokenize.BYTES_A_SHARD = tokenize.BYTES_A_SHARD, 3_000
    try:
        goal = Tokenize(corpus_of(folder, "web", list(pages().values())), vocabulary=312, holdout=0.1)
        run(goal, Local(), str(folder / "root"))
    finally:
        tokenize.BYTES_A_SHARD = before
    return str(folder / "root")


def test_rows_are_reckoned_from_the_manifest_to_a_few_percent(root: str) -> None:
    tokens: Dataset = tokens_at(root)
    (counted,) = (one.counted(WISH.layout) for one in files_of(tokens))
    found = foretold(tokens, WISH)
    (told,) = found.sources
    assert told["rows"] == pytest.approx(sum(counted.rows), rel=0.05)
    assert told["places"] == pytest.approx(counted.places, rel=0.02)
    assert told["epochs"] == pytest.approx(found.steps * 8 / sum(counted.rows), rel=0.05)
    assert found.storage is None
    assert tokens_at(tokens.uri).digest == tokens.digest


def test_storage_is_rehearsed_as_the_plan_would_use_it(root: str) -> None:
    tokens = tokens_at(root)
    size = sum(shard.size for shard in tokens.shards)
    found = foretold(tokens, WISH, rate=10_000, bandwidth=10_000.0, cache=3 * size // 4)
    assert found.storage is not None
    assert found.storage.distinct == size
    assert found.storage.bytes > size, "three quarters do not keep all for the next epoch"
    (counted,) = (one.counted(WISH.layout) for one in files_of(tokens))
    plan = Plan(1, (counted.source,), (Stretch(0, weights_of([counted.source])),), ((0, 8),), 2)
    rows = found.steps * 8
    exact = rehearsal(
        future([counted], plan, rows),
        list(counted.entries),
        3 * size // 4,
        rate=10_000 / (counted.places / sum(counted.rows)),
        bandwidth=10_000.0,
        until=rows,
    )
    assert found.storage.bytes == pytest.approx(exact.bytes, rel=0.1)
    assert found.storage.mean == pytest.approx(exact.mean, rel=0.1)
    all_of_it = foretold(tokens, WISH, rate=10_000, bandwidth=10_000.0)
    assert all_of_it.storage is not None
    assert all_of_it.storage.bytes == size


def test_the_command_prints_it_and_refuses_in_a_sentence(root: str) -> None:
    def said(*arguments: str) -> str:
        done = CliRunner().invoke(cli, ["stream", root, *arguments])
        assert done.exit_code == 0, done.output
        return done.output

    assert "steps of 8 rows of 64 places" in said("--length", "64", "--batch", "8", "--tokens", "30k")
    dry = said("--length", "64", "--batch", "8", "--tokens", "30k", "--rate", "10k", "--bandwidth", "10kB")
    for name in ("hit rate", "needed", "first stall", "cache"):
        assert name in dry
    told = json.loads(said("--length", "64", "--tokens", "30k", "--rate", "10k", "--bandwidth", "10kB", "--json"))
    assert 0 <= told["storage"]["hit_rate"] <= 1
    assert told["sources"][0]["source"] == "web"
    for arguments, sentence in (
        (["--weight", "wiki=1"], "weight for 'wiki', which has no rows; the sources are web"),
        (["--weight", "web"], "write it as source=share"),
        (["--rate", "10k", "--bandwidth", "10kB", "--cache", "1kB"], "too small"),
        (["--cache", "much", "--rate", "1k"], "'much' is no size of a cache"),
    ):
        done = CliRunner().invoke(cli, ["stream", root, *arguments])
        assert isinstance(done.exception, ValueError)
        assert sentence in str(done.exception)
    with pytest.raises(ValueError, match="there are no token shards at"):
        tokens_at(str(Path(root) / "nowhere"))
