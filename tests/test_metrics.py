"""What a run measures of itself, against what the manifests, the parser of Prometheus or a plain count say."""

import json
import logging
import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from prometheus_client.parser import text_string_to_metric_families

from tests.test_cli import recipe as written
from tests.test_cli import texts  # noqa: F401  (a fixture)
from tests.toy_stages import recipe
from tundish.cluster.local import Local
from tundish.cluster.metrics import BY_NAME, METRICS, OTHER, REASONS, SECONDS, Metric, Observed, exported, named, table
from tundish.cluster.metrics_text import TextFile
from tundish.cluster.shards import Dataset
from tundish.cluster.verbs import Made, Told, Watch, unwatched
from tundish.pipeline.cli import cli
from tundish.pipeline.funnel import funnel
from tundish.pipeline.run import Outcome, run

TOP = Path(__file__).resolve().parents[1]


@dataclass
class Kept:
    """A sink that keeps every value: (name, tags) -> all that was told, in order."""

    told: dict[tuple[str, tuple[tuple[str, str], ...]], list[float]] = field(default_factory=dict)

    def __call__(self, metric: Metric, value: float, tags: Mapping[str, str]) -> None:
        assert tuple(tags) == metric.tags
        assert all(isinstance(one, str) for one in tags.values())
        key = (metric.name.removeprefix("tundish_"), tuple(tags.items()))
        self.told.setdefault(key, []).append(value)

    def values(self, name: str, **tags: str) -> list[float]:
        """All values of a metric whose tags are at least these."""
        return [v for (n, t), vs in self.told.items() if n == name and tags.items() <= dict(t).items() for v in vs]


def observed(root: Path, **changed: Any) -> tuple[Outcome, Kept]:
    sink = Kept()
    return run(recipe(**changed), Local(watch=Observed(unwatched, sink)), str(root)), sink


def made(outcome: Outcome) -> dict[str, Dataset]:
    return {address.split("-")[0].capitalize(): dataset for address, dataset in outcome.datasets.items()}


def test_counters_add_up_to_the_manifests_and_the_funnel(tmp_path: Path) -> None:
    outcome, sink = observed(tmp_path)
    for stage, dataset in made(outcome).items():
        assert sum(sink.values("shards", stage=stage)) == len(dataset.shards) == 3
        assert sum(sink.values("rows_written", stage=stage)) == sum(sink.values("rows_read", stage=stage)) == 5
        assert sum(sink.values("rows_written", stage=stage)) == dataset.rows
        assert sum(sink.values("bytes_written", stage=stage)) == sum(shard.size for shard in dataset.shards)
    drops = {line.stage: line.drops for line in funnel(str(tmp_path))}
    assert drops["Long"] == {"short": 2}
    assert sum(sink.values("rows_dropped", stage="Long", reason="short")) == 2
    assert {key for key in sink.told if key[0] == "rows_dropped"} == {
        ("rows_dropped", (("stage", "Long"), ("reason", "short"), ("run", outcome.goal.address)))
    }


def test_progress_ends_with_nothing_left_and_names_the_stages_of_a_pass(tmp_path: Path) -> None:
    _, sink = observed(tmp_path)
    for stage in ("Words", "Length", "Long"):
        assert sink.values("left", stage=stage) == [3, 2, 1, 0]
        assert sink.values("done", stage=stage) == [0, 1, 2, 3]
        assert sink.values("seconds_left", stage=stage)[-1] == 0
    seconds = sink.values("shard_seconds")
    assert len(seconds) == 6  # three shards in two passes
    assert all(0 < one < 60 for one in seconds)
    assert min(sink.values("worker_memory_bytes")) > 10 << 20
    assert {tags for name, tags in sink.told if name == "shard_seconds"} == {
        (("stage", stage), ("run", recipe().address)) for stage in ("Words", "Length + Long")
    }


def test_what_was_committed_before_is_done_but_counted_nowhere(tmp_path: Path) -> None:
    outcome, _ = observed(tmp_path)
    for address in outcome.datasets:
        (tmp_path / address / "manifest.json").unlink()
    shard = tmp_path / outcome.goal.address / "part-00001.parquet"
    shard.unlink()
    _, sink = observed(tmp_path)
    assert sink.values("shards") == [1]
    assert sink.values("shards", stage="Long") == [1]
    assert sink.values("rows_written") == [2]
    assert sink.values("rows_read") == [2]
    assert sink.values("done", stage="Words")[-1] == 3


def test_the_run_is_named_to_every_sink_and_the_watch_hears_all_the_same(tmp_path: Path) -> None:
    heard: list[Any] = []
    sinks = Kept(), Kept()
    watch: Watch = Observed(Observed(lambda *said: heard.append(said), sinks[0]), sinks[1])
    run(recipe(), Local(watch=watch), str(tmp_path))
    assert sinks[0].told.keys() == sinks[1].told.keys()
    assert {dict(tags)["run"] for _, tags in sinks[0].told} == {recipe().address}
    assert len(heard) == 8
    with named(unwatched, "nobody"):  # who tells no metrics is told nothing
        pass


@dataclass
class Broken:
    """A sink that fails at one metric."""

    at: str
    calls: int = 0

    def __call__(self, metric: Metric, value: float, tags: Mapping[str, str]) -> None:
        self.calls += 1
        if metric.name == self.at:
            raise OSError("the socket is gone")


@pytest.mark.parametrize("at", ["tundish_done", "tundish_rows_dropped"])
def test_no_metric_ends_a_run_and_it_is_said_once(at: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    sink, heard = Broken(at), list[Any]()
    with caplog.at_level(logging.WARNING, "tundish.metrics"):
        outcome = run(recipe(), Local(watch=Observed(lambda *said: heard.append(said), sink)), str(tmp_path))
    assert outcome.dataset.rows == 5
    assert [each.getMessage() for each in caplog.records] == [
        "no more metrics are told, the run goes on: OSError: the socket is gone"
    ]
    assert len(heard) == 8
    assert sink.calls > 0


def test_reasons_without_end_become_one(tmp_path: Path) -> None:
    sink = Kept()
    watch = Observed(unwatched, sink)
    counts = {f"dropped:reason {n}": 2 for n in range(REASONS + 50)} | {"kept": 7}
    for done in (1, 2):
        watch("Refine", done, 2, Told("part", 500, counts, made=(Made("Refine", 500, 9, counts),), read=500))
    reasons = {dict(tags)["reason"] for name, tags in sink.told if name == "rows_dropped"}
    assert len(reasons) == REASONS + 1
    assert sum(sink.values("rows_dropped")) == 2 * 2 * (REASONS + 50)
    assert sum(sink.values("rows_dropped", reason=OTHER)) == 2 * 2 * 50


LINE = {
    "step": 41, "steps": 100, "loss": 3.5, "norm": 1.25, "lr": 1e-3, "tokens": 5000, "tokens_per_second": 2500.0,
    "seconds": 2.0, "waited": 0.5, "spent": {"held": 0.1, "saved": 0.3}, "padding": 0.125, "mfu": 0.4,
    "memory": 3 << 30, "device_memory": 2 << 30,
}  # fmt: skip


def test_the_line_of_a_step_becomes_gauges_and_no_shard() -> None:
    sink = Kept()
    Observed(unwatched, sink, run="pretrain-1")("Pretrain", 42, 100, Told("Pretrain", 0, {}, line=LINE))
    found = {name.removeprefix("training_"): v for (name, _), v in sink.told.items() if name.startswith("training_")}
    assert found == {
        "loss": [3.5], "gradient_norm": [1.25], "learning_rate": [1e-3], "tokens": [5000], "padding_ratio": [0.125],
        "tokens_per_second": [2500], "mfu_ratio": [0.4], "data_wait_ratio": [0.25], "overhead_ratio": [0.2],
        "memory_bytes": [3 << 30], "device_memory_bytes": [2 << 30],
    }  # fmt: skip
    assert {f"training_{name}" for name in found} == {name for name in BY_NAME if name.startswith("training_")}
    assert not sink.values("shards")
    assert sink.values("done") == [42]
    assert sink.values("left") == [58]


@pytest.mark.parametrize("line", [{"step": 1}, {"loss": None, "seconds": 0.0, "waited": 1.0}, {"loss": "nan"}])
def test_a_line_that_tells_little_gives_little(line: dict[str, Any]) -> None:
    sink = Kept()
    watch = Observed(unwatched, sink)
    watch("Finetune", 1, 2, Told("Finetune", 0, {}, line=line))
    assert not watch.over
    assert not [name for name, _ in sink.told if name.startswith("training_")]


def test_a_note_of_a_crawl_is_no_shard_and_a_bare_record_is_one() -> None:
    sink = Kept()
    watch = Observed(unwatched, sink)
    watch("Crawl", 5, 9, Told("Crawl", 0, {}, "hosts rest until 12:30"))
    assert not sink.values("shards")
    watch("Tokenize: cut", 1, 2, Told("piece-00000", 40, {}))
    assert sink.values("shards", stage="Tokenize: cut") == [1]
    assert sink.values("rows_written") == [40]


def test_the_clock_of_what_stands_still_is_that_of_the_last_move() -> None:
    sink, now = Kept(), [1000.0]
    watch = Observed(unwatched, sink, clock=lambda: now[0])
    for moment, done in ((1000.0, 0), (1010.0, 3), (1070.0, 3), (1090.0, 4)):
        now[0] = moment
        watch("Crawl", done, 9, None)
    assert sink.values("moved_timestamp_seconds", stage="Crawl") == [1000, 1010, 1010, 1090]


def test_what_has_ended_has_nothing_left() -> None:
    """A crawl that had enough knows of more pages, and a training counts its steps from 0."""
    sink = Kept()
    watch = Observed(unwatched, sink)
    with named(watch, "pretrain-1"):
        watch("Crawl", 5, 9, None)
        assert sink.values("left", stage="Crawl") == [4]
        watch("Pretrain", 99, 100, Told("Pretrain", 0, {}, line=LINE))
        assert sink.values("left", stage="Crawl") == [4, 0]
        assert sink.values("left", stage="Pretrain") == [1]
    assert sink.values("left", stage="Pretrain") == [1, 0]
    assert sink.values("done", stage="Pretrain") == [99]


# -- the text format


def samples(text: str) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    found = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found[(sample.name, tuple(sorted(sample.labels.items())))] = sample.value
    return found


def test_the_file_says_to_prometheus_what_the_sink_was_told(tmp_path: Path) -> None:
    kept, path = Kept(), tmp_path / "tundish.prom"
    with TextFile(str(path)) as sink:
        run(recipe(), Local(watch=Observed(Observed(unwatched, kept), sink, clock=lambda: 1.0)), str(tmp_path / "root"))
    found = samples(path.read_text())
    for (name, tags), values in kept.told.items():
        metric = BY_NAME[name]
        if metric.kind == "counter":
            assert found[(exported(metric), tuple(sorted(tags)))] == sum(values)
        if name in ("done", "left"):
            assert found[(exported(metric), tuple(sorted(tags)))] == values[-1]
    kinds = {family.name: family.type for family in text_string_to_metric_families(path.read_text())}
    assert kinds == {
        exported(m).removesuffix("_total"): m.kind for m in METRICS if not m.name.startswith("tundish_training")
    }


def test_buckets_are_those_of_a_plain_count_and_labels_survive(tmp_path: Path) -> None:
    sink = TextFile(str(tmp_path / "a.prom"), clock=lambda: -math.inf)
    values, odd = [0.05, 0.1, 0.2, 5.0, 5.0, 99.0, 4000.0], 'a "b" \\next c\nd, {e="f"}'
    for value in values:
        sink(BY_NAME["shard_seconds"], value, {"stage": odd, "run": ""})
    sink(BY_NAME["rows_dropped"], 3, {"stage": "Refine", "reason": odd, "run": "r"})
    sink(BY_NAME["training_loss"], math.nan, {"stage": "Pretrain", "run": "r"})
    sink(BY_NAME["left"], 2.5, {"stage": "Pretrain", "run": "r"})
    found = samples(sink.text())
    for bound in (*SECONDS, math.inf):
        (count,) = [
            v
            for (name, tags), v in found.items()
            if name == "tundish_shard_seconds_bucket" and float(dict(tags)["le"]) == bound
        ]
        assert count == sum(value <= bound for value in values)
    assert found[("tundish_shard_seconds_sum", (("run", ""), ("stage", odd)))] == pytest.approx(sum(values))
    assert found[("tundish_shard_seconds_count", (("run", ""), ("stage", odd)))] == len(values)
    assert found[("tundish_rows_dropped_total", (("reason", odd), ("run", "r"), ("stage", "Refine")))] == 3
    assert math.isnan(found[("tundish_training_loss", (("run", "r"), ("stage", "Pretrain")))])
    assert found[("tundish_left", (("run", "r"), ("stage", "Pretrain")))] == 2.5


def test_a_file_is_written_every_few_seconds_and_at_the_end(tmp_path: Path) -> None:
    now, path = [0.0], tmp_path / "tundish.prom"
    left, tags = BY_NAME["left"], {"stage": "a", "run": "b"}
    with TextFile(str(path), clock=lambda: now[0]) as sink:
        assert path.read_text() == ""
        for moment, value, held in ((0, 9, 9), (1, 8, 9), (4.9, 7, 9), (5, 6, 6), (6, 5, 6)):
            now[0] = moment
            sink(left, value, tags)
            assert list(samples(path.read_text()).values()) == [held]
    assert list(samples(path.read_text()).values()) == [5]


def test_a_place_that_cannot_be_read_or_written_is_refused_before_anything_runs(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"--metrics 'tundish.txt' is no name .* let it end in .prom"):
        TextFile("tundish.txt")
    (tmp_path / "file").touch()
    with (
        pytest.raises(ValueError, match=r"file/a\.prom"),
        TextFile(f"{tmp_path}/file/a.prom"),
    ):
        pass


def test_the_command_keeps_a_file(tmp_path: Path, texts: Path) -> None:  # noqa: F811
    path = written(tmp_path, f"documents: {{Read: {{files: [{texts}]}}}}")
    words = ["run", path, "--on", "local", "--root", str(tmp_path / "root"), "--metrics"]
    told = CliRunner().invoke(cli, [*words, str(tmp_path / "told.txt")])
    assert "--metrics" in str(told.exception)
    assert not (tmp_path / "root").exists()
    told = CliRunner().invoke(cli, [*words, str(tmp_path / "told.prom"), "--json"])
    assert told.exit_code == 0, told.output
    goal = json.loads(told.output)["goal"]
    rows = Counter({dict(t)["stage"]: v for (n, t), v in samples((tmp_path / "told.prom").read_text()).items()
                    if n == "tundish_rows_written_total" and dict(t)["run"] == goal})  # fmt: skip
    assert rows["Read"] == 4


# -- the list


def test_names_and_tags_of_the_list_are_those_prometheus_allows() -> None:
    assert len({one.name for one in METRICS}) == len(METRICS)
    for one in METRICS:
        assert one.name.startswith("tundish_")
        assert one.name.replace("_", "").isalnum()
        assert one.name.islower()
        assert set(one.tags) <= {"stage", "reason", "run"}
        assert not one.name.endswith(("_total", "_bucket", "_sum", "_count"))


def test_the_guide_has_the_list_as_it_is() -> None:
    """`python -c "from tundish.cluster.metrics import table; print(table())"` says what the guide has to."""
    assert table() in (TOP / "docs" / "guide-ray.md").read_text()
