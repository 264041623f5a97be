"""Deduplicate: exact and near duplicates across shards, verified; who survives; what is never removed."""

import json
import random
from collections.abc import Iterator
from itertools import combinations, pairwise
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from tundish.cluster.local import Local
from tundish.cluster.shards import Dataset, opened
from tundish.operators.text.minhash import bands, shingles
from tundish.pipeline.run import Outcome, run
from tundish.stages.deduplicate import Deduplicate
from tundish.stages.judge import Judge
from tundish.stages.read import Read
from tundish.stages.refine import Refine
from tundish.stages.sign import Sign

WORDS = [a + b for c in "bdkl" for a in (c + v for v in "aeiou") for b in "nsrtm"]


def prose(seed: int, words: int = 200) -> list[str]:
    chosen = random.Random(seed)
    return [chosen.choice(WORDS) + str(chosen.randrange(40)) for _ in range(words)]


def edited(words: list[str], seed: int, changes: int) -> list[str]:
    """The same words with a run of others at `changes` places."""
    chosen, new = random.Random(seed), list(words)
    for place in chosen.sample(range(len(new)), changes):
        new[place] = f"changed{seed}x{place}"
    return new


def write(folder: Path, shards: list[dict[str, str]]) -> str:
    folder.mkdir(parents=True, exist_ok=True)
    for number, texts in enumerate(shards):
        with open(folder / f"shard-{number}.jsonl", "w") as lines:
            lines.writelines(json.dumps({"url": url, "text": text}) + "\n" for url, text in texts.items())
    return str(folder / "*.jsonl")


def deduplicated(pattern: str, root: Path, **fields: object) -> tuple[dict[str, dict], Outcome]:
    """What each URL was told, with the survivor as its URL."""
    documents = Read((pattern,))
    goal = Deduplicate(documents, signatures=Sign(documents), **{"survivor": "length desc", **fields})  # type: ignore[arg-type]
    outcome = run(goal, Local(), str(root))
    rows = outcome.datasets[documents.address].beside(outcome.dataset).table().drop_columns(["text"]).to_pylist()
    name = {row["id"]: row["url"] for row in rows}
    return {
        row["url"]: {**row, "twin": name.get(row["twin"]), "cluster": name[row["cluster"]]} for row in rows
    }, outcome


@pytest.fixture
def shards() -> list[dict[str, str]]:
    first, second = prose(1), prose(2)
    return [
        {"exact-a": " ".join(first), "near-a": " ".join(second), "alone": " ".join(prose(3)), "short": "too short"},
        {"exact-b": " ".join(first).upper() + "!", "near-b": " ".join(edited(second, 7, 3)) + " and longer"},
        {"far": " ".join(edited(second, 8, 60)), "short-too": "Too  short.", "other": "quite another"},
    ]


def test_duplicates_across_shards_are_found_and_nothing_else(shards: list[dict[str, str]], tmp_path: Path) -> None:
    told, outcome = deduplicated(write(tmp_path / "in", shards), tmp_path / "root")
    twins = {url: (row["twin"], row["kind"]) for url, row in told.items() if row["twin"]}
    assert twins == {
        "exact-a": ("exact-b", "exact"),  # the longer one stays
        "near-a": ("near-b", "near"),
        "short": ("short-too", "exact"),
    }
    assert told["near-a"]["similarity"] == pytest.approx(0.85, abs=0.08)
    assert {u for u, row in told.items() if row["copies"] == 2} == {"exact-b", "near-b", "short-too"}
    assert told["alone"]["cluster"] == "alone"
    assert outcome.dataset.counts == {"dropped:exact_duplicate": 2, "dropped:near_duplicate": 1, "kept": 6}


def test_the_answer_does_not_depend_on_how_documents_lie_in_shards(
    shards: list[dict[str, str]], tmp_path: Path
) -> None:
    """Labels are addresses; survivors are not."""
    told, _ = deduplicated(write(tmp_path / "a", shards), tmp_path / "root-a")
    merged = {url: text for shard in reversed(shards) for url, text in shard.items()}
    again, _ = deduplicated(write(tmp_path / "b", [merged]), tmp_path / "root-b")
    assert {u: (r["twin"], r["kind"], r["similarity"]) for u, r in told.items()} == {
        u: (r["twin"], r["kind"], r["similarity"]) for u, r in again.items()
    }


def test_similarity_is_the_exact_jaccard_of_the_shingles(shards: list[dict[str, str]], tmp_path: Path) -> None:
    told, _ = deduplicated(write(tmp_path / "in", shards), tmp_path / "root")
    a, b = ([*text.lower().split()] for text in (shards[0]["near-a"], shards[1]["near-b"]))
    grams = [{tuple(words[i : i + 5]) for i in range(len(words) - 4)} for words in (a, b)]
    expected = len(grams[0] & grams[1]) / len(grams[0] | grams[1])
    assert told["near-a"]["similarity"] == pytest.approx(expected, abs=1e-6)


def test_a_chain_of_resemblance_removes_only_what_resembles_the_survivor(tmp_path: Path) -> None:
    """Each link is a near-duplicate of the next; the ends have little in common and both stay."""
    link = prose(1, 300)
    texts = {}
    for number in range(8):
        texts[f"link-{number}"] = " ".join(link)
        start = 38 * number
        link = link[:start] + [f"new{number}x{i}" for i in range(14)] + link[start + 14 :]
    told, _ = deduplicated(write(tmp_path / "in", [texts]), tmp_path / "root", verify="jaccard >= 0.7")
    dropped = {url for url, row in told.items() if row["twin"]}
    assert dropped, "the links are near-duplicates"
    assert all(row["similarity"] >= 0.7 for row in told.values() if row["twin"])
    kept = set(texts) - dropped
    assert len(kept) >= 2, "one document would stand for texts it does not resemble"
    assert {row["twin"] for row in told.values() if row["twin"]} <= kept


def test_a_hot_bucket_stays_linear(tmp_path: Path) -> None:
    """A thousand copies of one template: as many pairs as copies and bands, never the square."""
    template = prose(5, 120)
    texts = {f"copy-{n}": " ".join([*template, f"unique{n}"]) for n in range(1000)}
    told, _ = deduplicated(write(tmp_path / "in", [texts]), tmp_path / "root", max_loss=1.0)
    assert sum(row["twin"] is None for row in told.values()) == 1
    (candidates,) = (tmp_path / "root").glob("deduplicate-*/steps/candidates-0")
    found = opened(str(candidates))
    assert isinstance(found, Dataset)
    assert found.rows <= 15 * 1000


def test_among_leaves_out_what_refine_drops(tmp_path: Path, shards: list[dict[str, str]]) -> None:
    pattern = write(tmp_path / "in", shards)
    documents = Read((pattern,))
    quality = Judge(documents)
    kept = Refine(documents, quality=quality, keep={"rules": "none"})  # type: ignore[arg-type]
    dropping = Refine(documents, quality=quality, rules={"gopher_short_doc": 1000})
    for refine, twins in ((kept, 3), (dropping, 0)):
        goal = Deduplicate(documents, Sign(documents), among=refine, quality=quality)
        if not twins:
            with pytest.raises(ValueError, match="no document is left after Refine"):
                run(goal, Local(), str(tmp_path / "root"))
            continue
        table = run(goal, Local(), str(tmp_path / "root")).dataset.table()
        assert table["twin"].null_count == len(table) - twins


def test_a_changed_threshold_signs_nothing_again(tmp_path: Path, shards: list[dict[str, str]]) -> None:
    pattern = write(tmp_path / "in", shards)
    deduplicated(pattern, tmp_path / "root")
    _, outcome = deduplicated(pattern, tmp_path / "root", verify="jaccard >= 0.9")
    assert {address.split("-")[0] for address in outcome.seconds} == {"deduplicate"}
    assert outcome.dataset.counts["kept"] == 7  # near-a and near-b are less alike than that


@pytest.mark.parametrize("fields", [{"verify": "none"}, {"survivor": "beauty desc"}, {"survivor": "score desc"}])
def test_a_policy_it_cannot_follow_is_refused(fields: dict) -> None:
    documents = Read(("x.txt",))
    with pytest.raises(ValueError, match=r"Deduplicate\."):
        Deduplicate(documents, Sign(documents), **{"survivor": "length desc", **fields})


def test_two_captures_of_the_same_url_and_bytes_are_one_document(tmp_path: Path) -> None:
    text = " ".join(prose(1))
    told = deduplicated(write(tmp_path / "in", [{"same": text}, {"same": text}]), tmp_path / "root")[1].dataset.table()
    assert told["twin"].null_count == 1
    assert pa.compute.count_distinct(told["id"]).as_py() == 1


def test_equal_texts_never_both_stay_though_neither_resembles_the_survivor(tmp_path: Path) -> None:
    """X ~ Y ~ Z, X unlike Z, and Z twice: the second round joins the copies of Z."""
    y = prose(1, 300)
    x = ["xx" + w if i < 30 else w for i, w in enumerate(y)] + prose(9, 5)
    z = ["z" + w if i >= 270 else w for i, w in enumerate(y)]
    texts = {"x": " ".join(x), "y": " ".join(y), "z": " ".join(z), "z-again": " ".join(z).upper()}
    told, outcome = deduplicated(write(tmp_path / "in", [texts]), tmp_path / "root")
    assert told["y"]["twin"] == "x"
    assert {told["z"]["twin"], told["z-again"]["twin"]} in ({None, "z"}, {None, "z-again"})
    assert outcome.dataset.counts["kept"] == 2


@pytest.fixture
def tangled() -> list[dict[str, str]]:
    """Six shards of equal texts, near duplicates of several degrees, chains, and texts that stand alone."""
    found: list[dict[str, str]] = [{} for _ in range(6)]
    for n in range(40):
        base = prose(1000 + n, 80 + 3 * n)
        found[n % 6][f"http://base.test/{n}"] = " ".join(base)
        for m in range(n % 5):
            texts = base if m == 1 else edited(base, 50 * n + m, 1 + 2 * m)
            found[(n + m + 1) % 6][f"http://copy.test/{n}/{m}"] = " ".join(texts)
    return found


def decisions(told: dict[str, dict]) -> dict[str, tuple]:
    return {url: (row["twin"], row["kind"], row["similarity"], row["copies"]) for url, row in told.items()}


class Doubtful(Local):
    """Every item is worked twice, the later ones first, as a cluster does that retries what it believes lost."""

    def each(self, stage: str, work: Any, items: Any) -> Iterator[Any]:
        for item in reversed(list(items)):
            work(item)
            yield work(item)


class Cut(Exception):
    """The power goes."""


def steps_of(tmp_path: Path, pattern: str) -> tuple[str, list[str]]:
    """The digest of an undisturbed run, and the names of its steps."""
    names: list[str] = []
    documents = Read((pattern,))
    goal = Deduplicate(documents, Sign(documents), survivor="length desc", exact=("text", "url"))
    cluster = Local(watch=lambda stage, done, total, told: names.append(stage))
    return run(goal, cluster, str(tmp_path / "calm")).dataset.digest, list(dict.fromkeys(names))


def test_the_same_bytes_after_the_power_went_in_every_step(tangled: list[dict[str, str]], tmp_path: Path) -> None:
    pattern = write(tmp_path / "in", tangled)
    calm, names = steps_of(tmp_path, pattern)
    assert len([name for name in names if name.startswith("Deduplicate")]) > 12
    documents = Read((pattern,))
    goal = Deduplicate(documents, Sign(documents), survivor="length desc", exact=("text", "url"))
    cut: list[str] = []

    def watch(stage: str, done: int, total: int, told: object) -> None:
        if stage not in cut and done == max(1, total // 2):
            cut.append(stage)
            raise Cut

    while True:  # the same root: each run goes on where the last was cut, and is cut in the next step
        try:
            outcome = run(goal, Local(watch=watch), str(tmp_path / "cut"))
            break
        except Cut:
            continue
    assert set(cut) == set(names)
    assert outcome.dataset.digest == calm


def test_a_task_that_is_worked_twice_makes_and_removes_nobody(tangled: list[dict[str, str]], tmp_path: Path) -> None:
    pattern = write(tmp_path / "in", tangled)
    calm, _ = steps_of(tmp_path, pattern)
    documents = Read((pattern,))
    goal = Deduplicate(documents, Sign(documents), survivor="length desc", exact=("text", "url"))
    assert run(goal, Doubtful(), str(tmp_path / "doubtful")).dataset.digest == calm


@pytest.mark.parametrize("workers", [2, pytest.param(8, marks=pytest.mark.slow)])
def test_the_same_bytes_for_any_number_of_workers(workers: int, tangled: list[dict[str, str]], tmp_path: Path) -> None:
    pattern = write(tmp_path / "in", tangled)
    calm, _ = steps_of(tmp_path, pattern)
    documents = Read((pattern,))
    goal = Deduplicate(documents, Sign(documents), survivor="length desc", exact=("text", "url"))
    assert run(goal, Local(workers=workers), str(tmp_path / "more")).dataset.digest == calm


@pytest.mark.parametrize("seed", [1, 2])
def test_decisions_do_not_depend_on_files(tangled: list[dict[str, str]], seed: int, tmp_path: Path) -> None:
    """The same documents in other files, in another order: the same survivors, kinds and similarities."""
    told, _ = deduplicated(write(tmp_path / "a", tangled), tmp_path / "root-a")
    rows = [item for shard in tangled for item in shard.items()]
    random.Random(seed).shuffle(rows)
    cuts = sorted(random.Random(seed).sample(range(1, len(rows)), 2))
    parts = [dict(rows[a:b]) for a, b in pairwise([0, *cuts, len(rows)])]
    again, _ = deduplicated(write(tmp_path / "b", parts), tmp_path / "root-b")
    assert decisions(told) == decisions(again)
    assert sum(row["twin"] is not None for row in told.values()) > 40


def test_unverified_is_the_transitive_closure_of_shared_bands(tangled: list[dict[str, str]], tmp_path: Path) -> None:
    """`verify: none, diameter: none`, for parity with other systems: every chain of collisions has one survivor."""
    told, outcome = deduplicated(
        write(tmp_path / "in", tangled), tmp_path / "root", verify="none", diameter="none", max_loss=1.0
    )
    signed = next(d for a, d in outcome.datasets.items() if a.startswith("sign-"))
    documents = next(d for a, d in outcome.datasets.items() if a.startswith("read-"))
    table = documents.beside(signed).select("url", "signature", "text_key").table()
    keys = bands(table["signature"].combine_chunks(), bands=14, rows=8).to_pylist()
    group: dict[object, set[str]] = {}
    for url, own, text in zip(table["url"].to_pylist(), keys, table["text_key"].to_pylist(), strict=True):
        met = {url}.union(*(group.get(key, {url}) for key in [*own, text]))
        for other in met:
            for key in [k for k, members in group.items() if other in members]:
                group[key] = met
        group |= dict.fromkeys([*own, text], met)
    expected = {frozenset(members) for members in group.values()}
    found: dict[str, set[str]] = {}
    for url, row in told.items():
        found.setdefault(row["cluster"], set()).add(url)
    assert {frozenset(members) for members in found.values()} == expected


def test_urls_and_payloads_can_make_documents_equal(tmp_path: Path) -> None:
    shards = [
        {"http://a.test/x?utm_source=y": " ".join(prose(1)), "http://b.test/": " ".join(prose(2))},
        {"http://a.test/x": " ".join(prose(3))},
    ]
    pattern = write(tmp_path / "in", shards)
    assert not [u for u, row in deduplicated(pattern, tmp_path / "root")[0].items() if row["twin"]]
    told, _ = deduplicated(pattern, tmp_path / "root", exact=["url"])
    (gone,) = [row for row in told.values() if row["twin"]]
    assert gone["kind"] == "url"


def test_the_policy_is_an_order_over_columns_and_formulas(tmp_path: Path) -> None:
    text = " ".join(prose(1))
    pattern = write(tmp_path / "in", [{"http://b.test/": text, "http://a.test/": text + "!", "http://c.test/": text}])
    for survivor, expected in (
        ("length desc", "http://a.test/"), ("url", "http://a.test/"), ("url desc", "http://c.test/"),
        ("length", None), ("0 - length", "http://a.test/"),
    ):  # fmt: skip
        told, _ = deduplicated(pattern, tmp_path / "root", survivor=survivor)
        (stays,) = [url for url, row in told.items() if row["twin"] is None]
        assert stays == expected or (expected is None and stays != "http://a.test/")


def test_containment_lets_a_part_go_for_the_whole(tmp_path: Path) -> None:
    whole = prose(1, 400)
    pattern = write(tmp_path / "in", [{"whole": " ".join(whole), "part": " ".join(whole[:330])}])
    assert not any(row["twin"] for row in deduplicated(pattern, tmp_path / "root", verify="jaccard >= 0.9")[0].values())
    told, _ = deduplicated(pattern, tmp_path / "root", verify="containment >= 0.9")
    assert told["part"]["twin"] == "whole"
    assert told["part"]["similarity"] == 1.0


def near_copies(count: int, host: str = "near.test") -> dict[str, str]:
    base = prose(77, 150)
    return {f"http://{host}/{n}": " ".join([*base, f"unique{n}"]) for n in range(count)}


def test_a_cluster_too_large_to_be_believed_is_held_back(tmp_path: Path) -> None:
    pattern = write(tmp_path / "in", [near_copies(30)])
    told, outcome = deduplicated(pattern, tmp_path / "root", max_cluster=20)
    assert all(row["twin"] is None for row in told.values())
    assert sum(row["quarantine"] == "cluster" for row in told.values()) == 29
    assert outcome.dataset.counts["quarantine:cluster"] == 29
    held = opened(f"{outcome.dataset.uri}/quarantine")
    assert held is not None
    assert held.rows == 29
    told, _ = deduplicated(pattern, tmp_path / "root", max_cluster=29)
    assert sum(row["twin"] is not None for row in told.values()) == 29


def test_a_host_that_would_lose_too_much_is_held_back_and_equal_texts_are_not(tmp_path: Path) -> None:
    others = {f"http://other.test/{n}": " ".join(prose(500 + n, 60)) for n in range(400)}
    pattern = write(tmp_path / "in", [near_copies(120), others])
    told, outcome = deduplicated(pattern, tmp_path / "root", max_loss=0.5)
    assert {row["quarantine"] for url, row in told.items() if "near.test" in url} == {None, "host:near.test"}
    assert outcome.dataset.counts["quarantine:host:near.test"] == 119
    told, _ = deduplicated(pattern, tmp_path / "root", max_loss=1.0)
    assert sum(row["twin"] is not None for row in told.values()) == 119
    equal = {url: " ".join(prose(5)) for url in near_copies(120)}
    told, _ = deduplicated(write(tmp_path / "equal", [equal, others]), tmp_path / "root-2", max_loss=0.5)
    assert sum(row["twin"] is not None for row in told.values()) == 119


def test_the_certificate_is_what_brute_force_says(tangled: list[dict[str, str]], tmp_path: Path) -> None:
    told, outcome = deduplicated(write(tmp_path / "in", tangled), tmp_path / "root", certificate=10_000)
    found = outcome.dataset.about["certificate"]
    assert found["documents"] == found["held_against"] == len(told)
    grams = {u: set(shingles(text, 5).tolist()) for shard in tangled for u, text in shard.items()}
    pairs = [(len(a & b) / len(a | b), u, v) for (u, a), (v, b) in combinations(grams.items(), 2)]
    for one in found["bins"]:
        top = 1.1 if one["to"] == 1.0 else one["to"]
        here = [(u, v) for s, u, v in pairs if one["from"] <= s < top]
        assert one["pairs"] == len(here)
        assert one["joined"] == sum(told[u]["cluster"] == told[v]["cluster"] for u, v in here)
    twins = sum(row["twin"] is not None for row in told.values())
    assert found["acted"]["pairs"] == found["acted"]["at_least"]["0.8"] == twins


def test_a_star_that_refutes_a_pair_is_not_the_last_word(tmp_path: Path) -> None:
    """Two near duplicates that share every band with a document unlike both are still found."""
    for seed in range(6):
        base = prose(seed, 200)
        texts = {f"c{n}": " ".join(edited(base, n, 12)) for n in range(30)}
        pair = edited(base, 99, 12)
        texts |= {"x": " ".join(pair), "y": " ".join([*pair[:-1], "last"])}
        told, _ = deduplicated(
            write(tmp_path / f"in-{seed}", [texts]), tmp_path / f"root-{seed}", verify="jaccard >= 0.9"
        )
        assert [told["x"]["twin"], told["y"]["twin"]].count(None) == 1
