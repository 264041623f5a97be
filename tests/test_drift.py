"""Drift: the index against its definition, what chance makes of it, and the columns of two runs."""

import json
import math
from pathlib import Path

import numpy as np
import pyarrow.compute as pc
import pytest
from click.testing import CliRunner

from tests import toys
from tundish.cluster.local import Local
from tundish.operators.drift import chance, counted, edges_of, shares, stability, verdict
from tundish.pipeline import drift as drifts
from tundish.pipeline.cli import cli
from tundish.pipeline.drift import Drift, drift
from tundish.pipeline.funnel import ran
from tundish.pipeline.run import run


def test_the_index_is_the_sum_it_says() -> None:
    """Worked out by hand, half a document more in each bin."""
    p, q = [10.5 / 41.5, 30.5 / 41.5, 0.5 / 41.5], [20.5 / 31.5, 10.5 / 31.5, 0.5 / 31.5]
    wanted = sum((b - a) * math.log(b / a) for a, b in zip(p, q, strict=True))
    with_empty = np.array([[10, 30, 0], [20, 10, 0]])
    assert shares(with_empty[0]) == pytest.approx(p)
    p, q = [10.5 / 41, 30.5 / 41], [20.5 / 31, 10.5 / 31]
    wanted = sum((b - a) * math.log(b / a) for a, b in zip(p, q, strict=True))
    assert stability(*with_empty) == pytest.approx(wanted), "a bin that both lack is none"
    assert stability(*with_empty[::-1]) == pytest.approx(wanted), "either way round"
    assert stability(np.array([3, 4]), np.array([3, 4])) == 0
    assert math.isfinite(stability(np.array([0, 50]), np.array([50, 0])))
    with pytest.raises(ValueError, match="cannot be compared; count both by the same edges"):
        stability(np.ones(2), np.ones(3))


def test_bins_are_tenths_of_the_reference_and_ties_stay_together() -> None:
    values = np.random.default_rng(1).permutation(1000).astype(float)
    edges = edges_of(values)
    assert counted(values, edges).tolist() == [100] * 10 + [0]
    assert counted(np.array([np.nan, -5.0, 5000.0]), edges).tolist() == [1] + [0] * 8 + [1, 1]
    zeros = np.concatenate([np.zeros(700), np.arange(1, 301)]).astype(float)
    assert counted(zeros, edges_of(zeros))[0] == 700
    assert counted(zeros, edges_of(zeros)).tolist() == [700, 100, 100, 100, 0]
    assert edges_of(np.full(5, 3.0)).tolist() == []
    assert edges_of(np.array([np.nan])).tolist() == []
    assert counted(np.full(5, 3.0), edges_of(np.full(5, 3.0))).tolist() == [5, 0]


def test_counts_are_those_of_a_plain_loop() -> None:
    draw = np.random.default_rng(2)
    values = np.round(draw.normal(size=500), 1)
    values[draw.random(500) < 0.1] = np.nan
    edges = edges_of(values[:250])
    plain = [0] * (len(edges) + 2)
    for value in values.tolist():
        plain[-1 if math.isnan(value) else sum(edge < value for edge in edges.tolist())] += 1
    assert counted(values, edges).tolist() == plain


def test_samples_of_one_population_stay_below_what_chance_is_said_to_make() -> None:
    rng, above = np.random.default_rng(3), 0
    for _ in range(400):
        one, two = rng.multinomial(300, [0.1] * 10), rng.multinomial(800, [0.1] * 10)
        above += stability(one, two) > chance(one, two)
    assert 0.02 <= above / 400 <= 0.08, "one of twenty"
    assert chance(np.array([5]), np.array([9])) == 0
    assert verdict(0.2, chance(np.array([1, 2]), np.array([2, 1]))) == "chance"


@pytest.fixture(scope="module")
def roots(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """Two runs over the same pages: the second refuses short texts."""
    folder = tmp_path_factory.mktemp("drift")
    run(toys.recipe().corpus, Local(), str(folder / "a"))
    run(toys.recipe(short=225).corpus, Local(), str(folder / "b"))
    return str(folder / "a"), str(folder / "b")


def by_column(found: list[Drift]) -> dict[tuple[str, str], Drift]:
    return {(one.stage, one.column): one for one in found}


def test_a_run_has_not_moved_from_itself(roots: tuple[str, str]) -> None:
    found = drift(roots[0], roots[0])
    assert {one.index for one in found} == {0.0}
    assert {one.verdict for one in found} == {"chance"}
    columns = by_column(found)
    assert {("Judge", "score"), ("Identify", "language"), ("Gather", "length of the text")} <= set(columns)
    assert not {name for _, name in columns} & {"id", "url", "text", "row", "reason", "threshold", "title", "twin"}


def test_what_a_changed_rule_moves_stands_first(roots: tuple[str, str]) -> None:
    found = drift(*roots)
    assert [one.index for one in found] == sorted((one.index for one in found), reverse=True)
    assert (found[0].stage, found[0].column, found[0].verdict) == ("Refine", "reasons", "large")
    one, two = (ran(root) for root in roots)
    for side, past in enumerate((one, two)):
        counts = past.datasets[past.of("Refine")[0]].counts
        told = {label: each[side] for label, *each in found[0].bins}
        assert told["kept"] == counts["kept"]
        assert told["gopher_short_doc"] == counts.get("dropped:gopher_short_doc", 0)
    columns = by_column(found)
    assert columns["Judge", "score"].index == 0, "signals are of the same pages"
    assert columns["Corpus", "length of the text"].index > 0
    label, before, after = found[0].most
    assert label in ("kept", "gopher_short_doc")
    assert abs(before - after) > 0.5


def test_bins_of_a_column_are_counted_as_in_the_table(roots: tuple[str, str]) -> None:
    found = by_column(drift(*roots))["Corpus", "length of the text"]
    tables = [past.datasets[past.of("Corpus")[0]].table() for past in map(ran, roots)]
    sides = [pc.utf8_length(table["text"]).to_numpy().astype(float) for table in tables]
    edges = edges_of(sides[0])
    for n, values in enumerate(sides, 1):
        assert [each[n] for each in found.bins] == counted(values, edges).tolist()
    assert found.bins[0][0] == f"up to {edges[0]:,.0f}"


def test_of_many_shards_some_are_looked_at(roots: tuple[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drifts, "FEW", 1)
    found = by_column(drift(*roots))
    assert sum(p for _, p, _ in found["Judge", "score"].bins) == 9, "of three shards one"
    assert sum(p for _, p, _ in found["Refine", "reasons"].bins) == 27, "reasons are those of all"


def test_a_text_of_many_values_is_no_category(roots: tuple[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drifts, "CATEGORIES", 0)
    assert ("Identify", "language") not in by_column(drift(*roots))


def test_runs_with_nothing_in_common_are_refused(roots: tuple[str, str], tmp_path: Path) -> None:
    run(toys.Crawl((f"{toys.HERON}/",)), Local(), str(tmp_path / "root"))
    with pytest.raises(ValueError, match="have no stage in common"):
        drift(roots[0], str(tmp_path / "root"))


def test_the_command_prints_a_table_and_writes_json(roots: tuple[str, str], tmp_path: Path) -> None:
    out = str(tmp_path / "drift.json")
    told = CliRunner().invoke(cli, ["drift", *roots, "--out", out], catch_exceptions=False)
    lines = [line for line in told.stdout.split("\n") if ":" in line]
    assert [line.split("  ")[0] for line in lines] == [f"{o.stage}: {o.column}" for o in drift(*roots)][: len(lines)]
    written = json.loads(Path(out).read_text())
    assert written == json.loads(CliRunner().invoke(cli, ["drift", *roots, "--json"]).stdout)
    assert [one["column"] for one in written] == [one.column for one in drift(*roots)]
    assert written[0]["verdict"] == "large"
