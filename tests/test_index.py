"""Index, deduplication against it, and forgetting."""

import json
import shutil
from pathlib import Path

import pyarrow as pa
import pytest

from tests.test_deduplicate import edited, prose, write
from tundish.cluster.local import Local
from tundish.cluster.shards import verify
from tundish.pipeline.forget import forget
from tundish.pipeline.run import Outcome, run
from tundish.stages.corpus import Corpus
from tundish.stages.deduplicate import Deduplicate
from tundish.stages.forgotten import forgotten
from tundish.stages.index import Index, indexes
from tundish.stages.read import Read
from tundish.stages.refine import Refine
from tundish.stages.sign import Sign

WHOLE = prose(1, 200)


def crawl(pattern: str, root: Path, name: str, against: tuple[str, ...] = (), **fields: object) -> Outcome:
    documents = Read((pattern,))
    signatures = Sign(documents, **{k: v for k, v in fields.items() if k in ("preset", "size")})  # type: ignore[arg-type]
    rest = {k: v for k, v in fields.items() if k not in ("preset", "size")}
    kept = Refine(documents, keep={"rules": "none"})  # type: ignore[arg-type]
    twins = Deduplicate(
        documents,
        signatures,
        among=kept,
        survivor="length desc",
        against=against,
        crawl=name,
        max_loss=1.0,
        **rest,  # type: ignore[arg-type]
    )
    return run(Index(documents, signatures, Corpus(documents, kept, twins), crawl=name), Local(), str(root))


def told(outcome: Outcome) -> dict[str, dict]:
    parts = {a.split("-")[0]: d for a, d in outcome.datasets.items()}
    rows = parts["read"].beside(parts["deduplicate"]).table().drop_columns(["text"]).to_pylist()
    return {row["url"]: row for row in rows}


@pytest.fixture
def first(tmp_path: Path) -> Path:
    """The root of a first crawl of three documents."""
    texts = {
        "http://old.test/a": " ".join(WHOLE),
        "http://old.test/b": " ".join(prose(2)),
        "http://old.test/c": "too short",
    }
    crawl(write(tmp_path / "first", [texts]), tmp_path / "old", "2026-46")
    return tmp_path / "old"


def second(tmp_path: Path) -> str:
    near = edited(WHOLE, 5, 2)
    return write(
        tmp_path / "second",
        [
            {"http://new.test/near": " ".join(near), "http://new.test/nearer": " ".join([*near, "once", "more"])},
            {"http://new.test/equal": " ".join(prose(2)).upper(), "http://new.test/other": " ".join(prose(3))},
            {"http://new.test/short": "Too short!", "http://new.test/new": " ".join(prose(4))},
        ],
    )


def test_what_an_earlier_crawl_has_is_named(first: Path, tmp_path: Path) -> None:
    outcome = crawl(second(tmp_path), tmp_path / "new", "2026-47", (str(first),))
    rows = told(outcome)
    assert {url for url, row in rows.items() if row["twin"] is None} == {"http://new.test/other", "http://new.test/new"}
    assert {row["crawl"] for row in rows.values() if row["twin"]} == {"2026-46"}
    assert rows["http://new.test/equal"]["kind"] == rows["http://new.test/short"]["kind"] == "exact"
    near = rows["http://new.test/near"]
    a, b = WHOLE, edited(WHOLE, 5, 2)
    grams = [{tuple(words[i : i + 5]) for i in range(len(words) - 4)} for words in (a, b)]
    assert near["kind"] == "near"
    assert near["similarity"] == pytest.approx(len(grams[0] & grams[1]) / len(grams[0] | grams[1]), abs=1e-6)
    (made,) = indexes(str(tmp_path / "new"))
    assert made.rows == 2  # what stays of the second crawl


def test_texts_of_earlier_crawls_are_not_read(first: Path, tmp_path: Path) -> None:
    for file in first.glob("read-*/*.parquet"):
        file.unlink()
    outcome = crawl(second(tmp_path), tmp_path / "new", "2026-47", (str(first),))
    assert sum(row["twin"] is not None for row in told(outcome).values()) == 4


def test_a_crawl_is_not_held_against_its_own_index(first: Path, tmp_path: Path) -> None:
    """The same root, the same name: to run again changes nothing."""
    pattern = str(tmp_path / "first" / "*.jsonl")
    before = crawl(pattern, first, "2026-46", (str(first),))
    after = crawl(pattern, first, "2026-46", (str(first),))
    assert before.datasets.keys() == after.datasets.keys()
    assert all(row["twin"] is None for row in told(after).values())


def test_crawls_may_share_a_root(first: Path, tmp_path: Path) -> None:
    outcome = crawl(second(tmp_path), first, "2026-47", (str(first),))
    assert sum(row["twin"] is not None for row in told(outcome).values()) == 4
    assert {index.about["crawl"] for index in indexes(str(first))} == {"2026-46", "2026-47"}
    again = crawl(second(tmp_path), first, "2026-47", (str(first),))
    assert not again.seconds, "everything is current"


def test_two_earlier_crawls_are_both_asked(first: Path, tmp_path: Path) -> None:
    middle = write(tmp_path / "middle", [{"http://mid.test/": " ".join(prose(3))}])
    crawl(middle, tmp_path / "mid", "2026-46b")
    outcome = crawl(second(tmp_path), tmp_path / "new", "2026-47", (str(first), str(tmp_path / "mid")))
    rows = told(outcome)
    assert rows["http://new.test/other"]["crawl"] == "2026-46b"
    assert [url for url, row in rows.items() if row["twin"] is None] == ["http://new.test/new"]


def test_an_index_that_was_signed_otherwise_is_refused(first: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"was signed with bands 14 and Sign has 26"):
        crawl(second(tmp_path), tmp_path / "new", "2026-47", (str(first),), preset="olmo3")


def test_a_root_without_an_index_and_a_crawl_without_a_name_are_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="holds no index to deduplicate against"):
        crawl(second(tmp_path), tmp_path / "new", "2026-47", (str(tmp_path / "empty"),))
    documents = Read(("x.txt",))
    with pytest.raises(ValueError, match="name this one"):
        Deduplicate(documents, Sign(documents), against=("elsewhere",), survivor="length")


@pytest.mark.parametrize("by", ["id", "url"])
def test_what_is_forgotten_is_gone_and_stays_gone(by: str, first: Path, tmp_path: Path) -> None:
    (index,) = indexes(str(first))
    row = next(row for row in index.table().to_pylist() if len(row["shingles"]) > 100)
    what = row["id"].hex() if by == "id" else "http://old.test/a#part"
    lost = {one["dataset"]: one["rows"] for one in forget(str(first), [what])["lost"]}
    assert lost[index.address] == 1
    (index,) = indexes(str(first))
    assert index.rows == 2
    assert not verify(index)
    assert row["id"] not in index.table()["id"].to_pylist()
    assert len(forgotten(str(first)).ids) == 1
    again = crawl(str(tmp_path / "first" / "*.jsonl"), first, "2026-46")
    assert not again.seconds  # current: what was forgotten does not come back
    remade = crawl(str(tmp_path / "first" / "*.jsonl"), first, "2026-46b")
    assert remade.dataset.rows == 2


def test_an_index_that_outlived_its_documents_forgets_by_address(first: Path, tmp_path: Path) -> None:
    """An index may be copied to a place of its own; of an address it knows the digest."""
    (index,) = indexes(str(first))
    kept = tmp_path / "kept" / index.address
    shutil.copytree(index.uri, kept)
    forget(str(tmp_path / "kept"), ["http://old.test/b"])
    (index,) = indexes(str(tmp_path / "kept"))
    assert index.rows == 2
    assert not verify(index)


def test_who_went_for_what_is_forgotten_comes_back(first: Path, tmp_path: Path) -> None:
    """A later crawl of the same root left out what an earlier one had, and that is to be forgotten."""
    crawl(second(tmp_path), first, "2026-47", (str(first),))
    answer = forget(str(first), ["http://old.test/b"])
    assert [one["stage"].split("-")[0] for one in answer["redo"]] == ["deduplicate"]
    rows = told(crawl(second(tmp_path), first, "2026-47", (str(first),)))
    assert rows["http://new.test/equal"]["twin"] is None


def test_an_index_holds_no_text(first: Path) -> None:
    (index,) = indexes(str(first))
    kinds = {f.name: f.type for f in index.table().schema}
    assert "text" not in kinds
    assert kinds["shingles"] == pa.large_list(pa.uint32())
    assert json.dumps(index.about["signed"], sort_keys=True).startswith('{"bands": 14')


def test_an_index_that_a_changed_recipe_left_behind_is_passed_over(first: Path, tmp_path: Path) -> None:
    """The crawl is run again with one document less: what it had of that one is in no corpus any more."""
    lines = (tmp_path / "first" / "shard-0.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "first" / "shard-0.jsonl").write_text("".join(line for line in lines if "old.test/b" not in line))
    documents = Read((str(tmp_path / "first" / "*.jsonl"),))
    signatures, kept = Sign(documents), Refine(documents, keep={"rules": "none"}, max_loss=0.99)  # type: ignore[arg-type]
    twins = Deduplicate(documents, signatures, among=kept, survivor="length desc", crawl="2026-46")
    run(Index(documents, signatures, Corpus(documents, kept, twins), crawl="2026-46"), Local(), str(first))
    assert len(list(first.glob("index-*"))) == 2
    (index,) = indexes(str(first))
    assert index.rows == 2
    rows = told(crawl(second(tmp_path), tmp_path / "new", "2026-47", (str(first),)))
    assert rows["http://new.test/equal"]["twin"] is None


def test_an_index_of_these_very_documents_is_refused(first: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="is an index of these very documents, made as the crawl '2026-46'"):
        crawl(str(tmp_path / "first" / "*.jsonl"), first, "2026-47", (str(first),))


def test_a_host_that_is_crawled_again_goes(tmp_path: Path) -> None:
    """Losses to an earlier crawl are what one asked for: no quarantine."""
    old = {f"http://news.test/{n}": " ".join(prose(900 + n, 80)) for n in range(120)}
    crawl(write(tmp_path / "old-in", [old]), tmp_path / "old", "2026-46")
    new = {f"{url}?v=2": f"{text} once more" for url, text in old.items()}
    documents = Read((write(tmp_path / "new-in", [new]),))
    twins = Deduplicate(
        documents, Sign(documents), survivor="length desc", crawl="2026-47", against=(str(tmp_path / "old"),)
    )
    made = run(twins, Local(), str(tmp_path / "new")).dataset
    assert made.counts == {"dropped:near_duplicate": 120, "kept": 0}
