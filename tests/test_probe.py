"""plan --probe: a sample is run and all is foretold from it; afterwards the run is held against that."""

import json
import math
import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard
from click.testing import CliRunner

from tests import toys
from tests.test_page import archive
from tests.toys import digests, prose
from tundish.cluster.local import Local
from tundish.cluster.metered import Spent
from tundish.cluster.shards import Dataset
from tundish.operators.ratio import Band
from tundish.pipeline import probe_told
from tundish.pipeline.cli import cli
from tundish.pipeline.funnel import ran
from tundish.pipeline.plan import plan
from tundish.pipeline.predicted import Forecast, copies_of, predicted
from tundish.pipeline.probe import Base, Copies, Probed, Sample, copies_in, held_bytes, probe
from tundish.pipeline.probe_sample import drawn, few, sizes_of
from tundish.pipeline.recipe import build
from tundish.pipeline.report import report
from tundish.pipeline.run import run
from tundish.stages.corpus import Corpus
from tundish.stages.deduplicate import Deduplicate
from tundish.stages.extract import Extract
from tundish.stages.gather import Gather
from tundish.stages.identify import Identify
from tundish.stages.ingest import Ingest
from tundish.stages.judge import Judge
from tundish.stages.read import Read
from tundish.stages.read_forms import cut, portions
from tundish.stages.refine import Refine
from tundish.stages.sign import Sign
from tundish.stages.stage import Stage

FILES = 16


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files of different sizes; some texts lie in two of them."""
    folder, draw = tmp_path_factory.mktemp("texts"), random.Random(7)
    for n in range(FILES):
        rows = [prose(100 * n + k, draw.randrange(8, 20)) for k in range(draw.randrange(4, 12))]
        rows += [prose(9_000 + n // 2)] if n < 8 else []
        lines = [json.dumps({"url": f"http://a.example/{n}/{k}", "text": text}) for k, text in enumerate(rows)]
        (folder / f"f{n:02d}.jsonl").write_text("\n".join(lines) + "\n")
    return folder


def recipe(texts: Path) -> Corpus:
    docs = Read((str(texts / "*.jsonl"),))
    quality = Judge(docs)
    kept = Refine(docs, quality=quality)
    return Corpus(docs, kept, Deduplicate(docs, Sign(docs), kept, quality, certificate=0))


def foretold(goal: Stage, root: str, share: float = 0.01) -> tuple[Sample, dict[str, Forecast]]:
    sample = probe(plan(goal, root), share)
    return sample, predicted(sample)


def by_name(found: dict[str, Forecast]) -> dict[str, Forecast]:
    return {address.split("-")[0]: one for address, one in found.items()}


def test_names_are_drawn_by_their_hash_whatever_their_order() -> None:
    names = [f"part-{n:05d}" for n in range(1000)]
    kept = few(names, 0.01, 4)
    assert len(kept) == 10
    assert kept == sorted(kept)
    assert set(few(names[::-1], 0.01, 4)) == set(kept)
    assert set(few(names, 0.02, 4)) > set(kept)
    assert few(names[:3], 0.01, 4) == names[:3]
    assert len(few(names, 0.0001, 4)) == 4


def test_all_of_a_corpus_as_its_own_sample_is_foretold_exactly(tmp_path: Path, texts: Path) -> None:
    root, goal = str(tmp_path / "root"), recipe(texts)
    sample, found = foretold(goal, root, share=1.0)
    assert not sample.refused
    assert not (tmp_path / "root").exists(), "nothing is written under the root"
    run(goal, Local(), root)
    past = ran(root)
    assert set(found) == set(past.datasets)
    for address, dataset in past.datasets.items():
        one = found[address]
        assert one.rows == Band(dataset.rows, dataset.rows, dataset.rows), address
        assert one.size.middle == pytest.approx(held_bytes(dataset.uri), rel=0.05), address
        assert one.units == one.of == FILES
        assert one.cpu.low < one.cpu.middle < one.cpu.high
        assert len(sample.stages[address].spent) == past.costs[address]["items"]
    _where_survivors_lie(past.datasets[goal.twins.address])  # type: ignore[union-attr]


def test_a_sample_foretells_rows_by_the_bytes_of_its_files(tmp_path: Path, texts: Path) -> None:
    """Against the ratio worked out here from the files themselves."""
    goal = recipe(texts).kept
    sample, found = foretold(goal, str(tmp_path / "root"))
    (base,) = sample.bases
    assert (len(base.sizes), base.of) == (4, FILES)
    files = {path: path.stat().st_size for path in texts.glob("*.jsonl")}
    taken = few(sorted(map(str, files)), 0.01, 4)
    rows = sum(len(Path(path).read_text().split("\n")) - 1 for path in taken)
    whole = sum(files.values())
    told = by_name(found)
    wanted = rows * whole / sum(files[Path(path)] for path in taken)
    for name in ("read", "judge", "refine"):
        assert told[name].rows.middle == pytest.approx(wanted)
        assert told[name].rows.low < wanted < told[name].rows.high
    actual = sum(len(path.read_text().split("\n")) - 1 for path in files)
    assert told["read"].rows.holds(actual)
    again = by_name(foretold(goal, str(tmp_path / "root"))[1])
    assert again["read"].rows == told["read"].rows
    assert again["judge"].size.middle == pytest.approx(told["judge"].size.middle, rel=1e-3)  # manifests tell seconds


@pytest.mark.parametrize("form", [".jsonl", ".jsonl.zst", ".parquet", ".arrow"])
def test_the_last_piece_of_a_file_is_shorter_and_counts_so(tmp_path: Path, form: str) -> None:
    """Pieces begin where a size is reached, so what is left over for the last is less: as one of like pieces it would
    make the source larger than it is, by a tenth here, in a band that says a thousandth."""
    texts = [prose(number, 20) for number in range(2200)]
    path = tmp_path / f"all{form}"
    table = pa.table({"url": [f"http://a.example/{n}" for n in range(len(texts))], "text": texts})
    lines = [json.dumps(row) + "\n" for row in table.to_pylist()]
    if form == ".parquet":
        pq.write_table(table, path, row_group_size=20, compression="none", use_dictionary=False)
    elif form == ".arrow":
        with pa.ipc.new_file(str(path), table.schema) as writer:
            writer.write_table(table, max_chunksize=20)
    elif form == ".jsonl":
        path.write_text("".join(lines))
    else:
        frames = ["".join(lines[at : at + 20]).encode() for at in range(0, len(lines), 20)]
        path.write_bytes(b"".join(map(zstandard.ZstdCompressor().compress, frames)))
    piece = int(path.stat().st_size / 4.5)
    held = portions(str(path), cut(str(path), piece), path.stat().st_size)
    assert len(held) == 5
    assert sum(held) == pytest.approx(path.stat().st_size)
    assert held[-1] < 0.6 * held[0]
    read = Read((str(path),), piece=piece)
    for goal in (read, Identify(read)):
        _, found = foretold(goal, str(tmp_path / "root"))
        assert by_name(found)["read"].rows.middle == pytest.approx(len(texts), rel=0.03)
        assert by_name(found)["read"].rows.holds(len(texts))


def test_ranges_of_an_archive_count_by_their_bytes(tmp_path: Path) -> None:
    archive(tmp_path / "in", **{f"p{n}": f"<article><p>{prose(n)}</p></article>" for n in range(44)})
    path = tmp_path / "in" / "a.warc.gz"
    made = run(Ingest((str(path),), split=path.stat().st_size // 4), Local(), str(tmp_path / "root")).dataset
    held = sizes_of(made)
    starts = [int(shard.constants["start"]) for shard in made.shards]
    assert len(starts) > 3
    assert list(held.values()) == [b - a for a, b in zip(starts, [*starts[1:], path.stat().st_size], strict=True)]


def test_what_is_sealed_is_sampled_where_it_lies(tmp_path: Path, texts: Path) -> None:
    goal = recipe(texts).twins
    assert goal is not None
    root = str(tmp_path / "root")
    run(goal, Local(), root, until="Refine")
    before = digests(root)
    sample, found = foretold(goal, root)
    assert digests(root) == before
    assert set(by_name(found)) == {"sign", "deduplicate"}
    assert len(sample.bases) == 1, "datasets that lie beside each other give the same shards"
    documents = ran(root).input(goal.among.address, "documents")  # type: ignore[union-attr]
    assert documents is not None
    taken = few(documents.names, 0.01, 4)
    assert set(sample.bases[0].sizes) == set(taken)
    sizes = {shard.name: shard.size for shard in documents.shards}
    wanted = sum(documents.shard(n).rows for n in taken) * sum(sizes.values()) / sum(sizes[n] for n in taken)
    assert by_name(found)["sign"].rows.middle == pytest.approx(wanted)

    told = probe_told.Said(plan(goal, root), found, {}, 2, 0.05)
    sentences = list(probe_told.remarks(told))
    assert sentences[-1].startswith("From 4 of 16 shards, for 2 workers")
    assert any(sentence.startswith("Deduplicate: ") for sentence in sentences)
    assert probe_told.table(told).row_count == len(found) + 1


def test_gathered_sources_are_sampled_each_by_itself(tmp_path: Path, texts: Path) -> None:
    """One of them sealed, one still to be read: the shards of both are found, under the root and in the scratch."""
    first = Read((str(texts / "f0*.jsonl"),))
    goal = Judge(Gather({"a": first, "b": Read((str(texts / "f1*.jsonl"),))}))
    root = str(tmp_path / "root")
    run(first, Local(), root)
    sample, found = foretold(goal, root)
    assert not sample.refused
    assert sorted(base.of for base in sample.bases) == [6, 10]
    assert by_name(found)["judge"].units == 8
    run(goal, Local(), root)
    assert by_name(found)["judge"].rows.holds(ran(root).datasets[goal.address].rows)


def test_archives_are_sampled_by_files_and_then_by_ranges(tmp_path: Path) -> None:
    for n in range(6):
        archive(
            tmp_path / f"in{n}", **{f"p{n}x{k}": f"<article><p>{prose(10 * n + k)}</p></article>" for k in range(3)}
        )
    for n in range(6):
        (tmp_path / f"in{n}" / "a.warc.gz").rename(tmp_path / f"a{n}.warc.gz")
    goal = Extract(Ingest((str(tmp_path / "*.warc.gz"),)))
    sample, found = foretold(goal, str(tmp_path / "root"))
    assert not sample.refused
    told = by_name(found)
    assert (told["extract"].units, told["extract"].of) == (4, 6)
    assert told["extract"].rows.middle == pytest.approx(18, rel=0.02)
    assert told["extract"].cpu.middle > 0


def test_what_asks_the_web_is_not_probed_nor_what_stands_on_it(tmp_path: Path) -> None:
    goal = toys.recipe()
    sample, found = foretold(goal, str(tmp_path / "root"))
    assert not found
    assert "run it with --until Crawl" in next(why for a, why in sample.refused.items() if a.startswith("crawl"))
    assert next(why for a, why in sample.refused.items() if a.startswith("judge")).startswith("it stands on ")
    run(goal, Local(), str(tmp_path / "root"), until="Extract")
    judged = Judge(Gather({"web": toys.Extract(toys.Crawl((f"{toys.HERON}/",)))}))
    sample, found = foretold(judged, str(tmp_path / "root"))
    assert set(by_name(found)) == {"gather", "judge"}


def test_what_refuses_a_sample_is_said_and_the_rest_is_probed(tmp_path: Path, texts: Path) -> None:
    told = {"docs": {"Read": {"files": [str(texts / "*.jsonl")]}}, "sign": {"Sign": {"documents": "docs"}}}
    told |= {"goal": "model", "judged": {"Judge": {"documents": "docs"}}}
    told["corpus"] = {"Corpus": {"documents": "docs", "kept": {"Refine": {"documents": "docs", "quality": "judged"}}}}
    told["model"] = {"Tokenize": {"corpus": "corpus", "vocabulary": 20_000}}
    sample, found = foretold(build(told), str(tmp_path / "root"))
    (why,) = sample.refused.values()
    assert why.startswith("a sample is not enough for it (")
    assert set(by_name(found)) == {"read", "judge", "refine", "corpus"}
    with pytest.raises(ValueError, match="--share is 0; give a share"):
        probe([], 0.0)


def toy(spent: list[Spent], lineage: list[str], **more: object) -> Probed:
    given = {"wall": sum(one.wall for one in spent), "together": 1, "floor": 0, "size": 0, "made": Dataset("x", ())}
    names = {name: (0, name) for name in lineage}
    return Probed(Stage(), tuple(spent), lineage=names, **(given | more))  # type: ignore[arg-type]


def test_passes_grow_by_what_they_are_about() -> None:
    """Items of shards by the bytes of their shards; parts as the corpus; copies by their own number."""
    base = Base({"a": 1.0, "b": 3.0}, 40.0, 20, 6.0)
    sharded = [Spent("Judge", "a", 1.0, 0.5, 100), Spent("Judge", "b", 3.0, 1.5, 200)]
    (told,) = predicted(Sample([base], {"x": toy(sharded, ["a", "b"])})).values()
    assert told.work.middle == pytest.approx(40.0)
    assert told.cpu.middle == pytest.approx(20.0)
    assert told.longest == 3.0
    assert told.peak.middle == pytest.approx(200 * 2), "the largest shard is twice the largest that was seen"
    parts = [Spent("Judge: parts", "part-00000", 2.0, 1.0, 300)]
    (told,) = predicted(Sample([base], {"x": toy(sharded + parts, ["a", "b"])})).values()
    assert told.work.middle == pytest.approx(40.0 + 2.0 * 10)
    pairs = [Spent("Deduplicate: bands again", "part-00000", 2.0, 1.0, 300)]
    copies = Copies(same=1, apart=4, documents=100)
    (told,) = predicted(Sample([base], {"x": toy(sharded + pairs, ["a", "b"], copies=copies)})).values()
    grown = copies_of(copies, 10.0, 2, 20)
    assert told.work.middle == pytest.approx(40.0 + 2.0 * grown.low)
    assert told.work.high > 40.0 + 2.0 * grown.high
    assert 10.0 == grown.low < grown.middle < grown.high
    named = [Spent("Deduplicate: bands again", name, 1.0, 0.5, 0) for name in ("a", "b")]  # parts, called like shards
    (same,) = predicted(Sample([base], {"x": toy(sharded + named, ["a", "b"], copies=copies)})).values()
    assert same.work == told.work
    assert told.seconds(4).middle == pytest.approx(told.work.middle / 4 + told.driver.middle)
    assert told.seconds(10_000).middle == pytest.approx(3.0 + told.driver.middle), "no item is cut"
    assert told.cost(4, 0.5).middle == pytest.approx(4 * 0.5 * told.seconds(4).middle / 3600)
    assert Forecast.of_plain(json.loads(json.dumps(told.plain()))) == told


def test_copies_are_foretold_between_what_lies_together_and_what_lies_apart() -> None:
    """Pairs scattered over shards: the most that is said is right in the mean; all in one shard: the least."""
    rng, shards, units = np.random.default_rng(3), 40, 8
    pairs = rng.integers(0, shards, (2000, 2))
    found = []
    for _ in range(200):
        kept = rng.choice(shards, units, replace=False)
        here = np.isin(pairs, kept).all(axis=1)
        same = int((pairs[here, 0] == pairs[here, 1]).sum())
        copies = Copies(same, int(here.sum()) - same, 10_000)
        found.append(copies_of(copies, shards / units, units, shards).high * here.sum())
    assert np.mean(found) == pytest.approx(2000, rel=0.03)
    assert copies_of(Copies(0, 3, 1000), 2.0, 2, 4).high == 6.0, "one pair of shards of six was seen"
    together = copies_of(Copies(50, 0, 1000), 5.0, units, shards)
    assert together == Band(5.0, 5.0, 5.0)
    assert copies_of(Copies(0, 0, 1000), 5.0, units, shards) == Band(5.0, 5.0, 5.0)
    many = copies_of(Copies(0, 900, 1000), 100.0, units, 800)
    assert many.high == pytest.approx((1000 * 100 - 100) / 900), "the survivors of the sample stay"
    assert math.isfinite(many.middle)


def _where_survivors_lie(twins: Dataset) -> None:
    home = {row["id"]: name for name in twins.names for row in twins.read(name).to_pylist()}
    told = [(name, row["twin"]) for name in twins.names for row in twins.read(name).to_pylist() if row["twin"]]
    same = sum(home[twin] == name for name, twin in told)
    assert copies_in(twins) == Copies(same, len(told) - same, twins.counts["kept"] + len(told))
    assert len(told) - same == 4


def test_the_run_is_held_against_what_was_said(tmp_path: Path, texts: Path) -> None:
    root, path = str(tmp_path / "root"), tmp_path / "recipe.yaml"
    path.write_text(
        f"docs: {{Read: {{files: ['{texts}/*.jsonl']}}}}\nquality: {{Judge: {{documents: docs}}}}\n"
        "kept: {Refine: {documents: docs, quality: quality}}\n"
    )
    words = ["plan", str(path), "--root", root]
    answer = CliRunner().invoke(cli, [*words, "--probe", "--json", "--workers", "3", "--price", "0.1", "--share", "1"])
    rows = json.loads(answer.stdout)
    assert [row["address"].split("-")[0] for row in rows] == ["read", "judge", "refine"]
    for row in rows:
        told = row["probe"]
        assert told["workers"] == 3
        assert told["cost"] == pytest.approx([3 * 0.1 * each / 3600 for each in told["seconds"]])
        assert probe_told.kept(root, row["address"]) is not None
    with pytest.raises(ValueError, match="there is no run under"):
        CliRunner().invoke(cli, [*words, "--compare"], catch_exceptions=False)
    run(recipe(texts).kept, Local(), root)
    held = probe_told.held_against(ran(root))
    assert [one.what for one in held] == ["seconds", "CPU seconds", "memory", "bytes", "rows"] * 3
    for one in held:
        dataset = ran(root).datasets[one.address]
        wanted = {"rows": dataset.rows, "bytes": held_bytes(dataset.uri), "seconds": ran(root).seconds[one.address]}
        assert one.actual == wanted.get(one.what, one.actual)
        assert one.inside or one.what not in ("rows",)
    told = json.loads(CliRunner().invoke(cli, [*words, "--compare", "--json"]).stdout)
    assert [row["inside"] for row in told] == [one.inside for one in held]
    assert "of 15 numbers lie in their band" in " ".join(CliRunner().invoke(cli, [*words, "--compare"]).stdout.split())
    page = Path(report(root)).read_text()
    assert "Forecast and outcome" in page
    assert f"{sum(one.inside for one in held)} of 15 lie in their range" in page


def test_a_run_that_was_not_foretold_is_not_compared(tmp_path: Path, texts: Path) -> None:
    root = str(tmp_path / "root")
    run(Read((str(texts / "f00.jsonl"),)), Local(), root)
    with pytest.raises(ValueError, match=r"nothing of the run \S+ was foretold; probe with"):
        probe_told.compared(ran(root))
    assert "Forecast and outcome" not in Path(report(root)).read_text()


def test_stages_that_took_the_cpu_and_more_time_are_told_apart() -> None:
    late = probe_told.Held("Judge", "j", "seconds", Band(10, 5, 20), 90)
    same = probe_told.Held("Judge", "j", "CPU seconds", Band(1, 0.5, 2), 1)
    assert "1 stage took the CPU foretold and more time" in next(probe_told.busier([late, same]))
    assert not list(probe_told.busier([late]))
    short = replace(late, actual=9)
    assert list(probe_told.busier([short])) == [
        "all of it took 9 s, most of which is beginning: too small to be foretold"
    ]


def test_a_dataset_is_drawn_with_the_sizes_of_its_files(tmp_path: Path, texts: Path) -> None:
    made = run(Read((str(texts / "*.jsonl"),)), Local(), str(tmp_path / "root")).dataset
    part, base = drawn(made, 0.5, 4)
    assert part.names == tuple(few(made.names, 0.5, 4))
    assert base.sizes == {name: made.shard(name).size for name in part.names}
    assert base.whole == sum(shard.size for shard in made.shards)
    assert base.factor == base.whole / sum(base.sizes.values())
