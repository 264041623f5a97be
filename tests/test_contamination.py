"""Contamination: the grams of examples are found wherever they lie, against a search that reads word by word."""

import json
import random
import re
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from tundish.cluster.local import Local
from tundish.cluster.shards import Dataset
from tundish.operators.text.overlap import Finder
from tundish.pipeline.run import run
from tundish.stages.contamination import (
    FOLDER,
    Grams,
    evaluated,
    gathered,
    grams_of,
    met,
    write_examples,
)
from tundish.stages.read import Read

WORDS = [a + b for a in ("ban", "dor", "kil", "lem") for b in ("a", "e", "i", "o", "us")]


def prose(seed: int, words: int = 40) -> str:
    draw = random.Random(seed)
    return " ".join(f"{draw.choice(WORDS)}{draw.randrange(30)}" for _ in range(words))


def slow(text: str, n: int = 13) -> set[tuple[str, ...]]:
    """The grams of an example's text, by the rule: n words, or all of a shorter text of eight or more."""
    words = re.findall(r"[a-z0-9]+", text.lower())
    size = n if len(words) >= n else len(words) if len(words) >= 8 else 0
    return {tuple(words[at : at + size]) for at in range(len(words) - size + 1)} if size else set()


def runs_of(text: str, sizes: set[int]) -> set[tuple[str, ...]]:
    words = re.findall(r"[a-z0-9]+", text.lower())
    return {tuple(words[at : at + size]) for size in sizes for at in range(len(words) - size + 1)}


def corpus(folder: Path, texts: list[str], shards: int = 2) -> Dataset:
    (folder / "in").mkdir(parents=True)
    for number in range(shards):
        rows = [json.dumps({"url": f"u{n}", "text": t}) + "\n" for n, t in enumerate(texts) if n % shards == number]
        (folder / "in" / f"shard-{number}.jsonl").write_text("".join(rows))
    return run(Read((str(folder / "in" / "*.jsonl"),)), Local(), str(folder / "root")).dataset


def looked(folder: Path, texts: list[str], examples: dict[str, tuple[str, ...]]) -> tuple[Grams, object]:
    """(grams, documents that were met) of examples by id."""
    uri = str(folder / "examples.arrow")
    digest = write_examples(uri, examples)
    own = sorted(examples)
    found = met(Local(), corpus(folder, texts), uri, digest, str(folder))
    return grams_of([examples[each] for each in own], ids=own), gathered({"corpus": found})


def test_weights_are_the_shares_of_grams_that_a_slow_search_finds() -> None:
    """Words of a small world, cut from one another, in another spelling."""
    draw = random.Random(3)
    texts = [[prose(n, draw.randrange(4, 40)) for _ in range(1 + n % 2)] for n in range(60)]
    grams = grams_of(texts)
    wanted = [set().union(*map(slow, each)) for each in texts]
    assert grams.sizes.tolist() == [len(each) for each in wanted]
    assert (grams.sizes == 0).any()
    documents = []
    for _ in range(40):
        words = " ".join(draw.choice(draw.choice(texts)) for _ in range(2)).split()
        first = draw.randrange(len(words))
        cut = words[first : first + draw.randrange(5, 40)]
        documents.append(" ".join(draw.choice((w, w.upper(), f"“{w}”,", f"{w}\n")) for w in cut))
    found = Finder(grams.sought).find(pa.array(documents, pa.large_string())).seen
    every = set().union(*(runs_of(each, set(range(8, 14))) for each in documents))
    marked = np.zeros(grams.count, bool)
    marked[found[:, 1]] = True
    shared = [len(each & every) for each in wanted]
    assert grams.shared(marked).tolist() == shared
    assert sum(0 < s < len(w) for s, w in zip(shared, wanted, strict=True)) > 5, "some must be met in part"
    for number, document in enumerate(documents):
        here = np.zeros(grams.count, bool)
        here[found[found[:, 0] == number, 1]] = True
        runs = runs_of(document, set(range(8, 14)))
        assert grams.shared(here).tolist() == [len(each & runs) for each in wanted]
    weights = grams.weights(marked)
    assert weights == pytest.approx([s / max(1, len(w)) for s, w in zip(shared, wanted, strict=True)])
    assert all(len(grams.of(number)) == size for number, size in enumerate(grams.sizes))


def test_a_gram_of_many_examples_is_found_for_each_of_them() -> None:
    """A template: `Benchmarks` names no more than 64 items of a file."""
    lead = prose(1, 13)
    grams = grams_of([[f"{lead} {prose(n, 20)}"] for n in range(2, 152)])
    found = Finder(grams.sought).find(pa.array([f"Yes. {lead}"], pa.large_string())).seen
    marked = np.zeros(grams.count, bool)
    marked[found[:, 1]] = True
    assert grams.shared(marked).tolist() == [1] * 150


def test_near_misses_are_not_found_and_other_spellings_are(tmp_path: Path) -> None:
    item, short = prose(5, 20), prose(6, 9)
    twelve = " ".join(item.split()[:12])
    texts = [
        prose(7),
        f"{prose(8)} {twelve} and {prose(9)}",
        f"{prose(10)} {item.upper().replace(' ', ', ', 4)} {prose(11)}",
        f"{prose(12)}\n{short.title()}! {prose(13)}",
        " ".join(short.split()[:8]),
    ]
    examples = {"a": (item,), "b": (short,), "c": ("too short to count",), "d": (prose(14), prose(15))}
    grams, documents = looked(tmp_path, texts, examples)
    assert documents.table["url"].to_pylist() == ["u2", "u3"]
    assert grams.weights(documents.marked(grams.count)).tolist() == [1.0, 1.0, 0.0, 0.0]
    assert grams.sizes.tolist() == [8, 1, 0, 56]
    assert documents.shared(grams.of(0), grams.count).tolist() == [8, 0]
    assert documents.marked(grams.count, np.array([False, True])).sum() == 1


def test_rows_and_ids_are_those_of_the_corpus(tmp_path: Path) -> None:
    texts = [prose(n, 60) for n in range(5000)]
    texts[4501] += " " + prose(9000, 15)
    grams, documents = looked(tmp_path, texts, {"a": (prose(9000, 15),), "b": (prose(9001, 15),)})
    [row] = documents.table.to_pylist()
    held = corpus(tmp_path / "again", texts)
    name = next(name for name in held.names if row["url"] in held.read(name)["url"].to_pylist())
    there = held.read(name).slice(row["row"], 1).to_pylist()[0]
    assert (there["url"], there["id"], there["origin"]) == ("u4501", row["id"], row["origin"])
    assert row["row"] == 2250, "beyond the first batch"
    assert grams.weights(documents.marked(grams.count)).tolist() == [1.0, 0.0]


def test_what_was_looked_through_is_kept_while_nothing_changes(tmp_path: Path) -> None:
    held = corpus(tmp_path, [prose(n) for n in range(20)])
    uri = str(tmp_path / "examples.arrow")
    digest = write_examples(uri, {"a": (prose(3),)})
    found = met(Local(), held, uri, digest, str(tmp_path))
    assert (found.rows, found.counts["documents"]) == (1, 20)
    assert found.counts["bytes"] == sum(len(prose(n)) for n in range(20))
    written = {path: path.stat().st_mtime_ns for path in (tmp_path / FOLDER).rglob("*.parquet")}
    assert len(written) == 2
    assert met(Local(), held, uri, digest, str(tmp_path)) == found
    assert {path: path.stat().st_mtime_ns for path in written} == written
    other = write_examples(uri, {"a": (prose(3),), "b": (prose(4),)})
    assert met(Local(), held, uri, other, str(tmp_path)).rows == 2
    with pytest.raises(ValueError, match="changed since the search began"):
        met(Local(), held, uri, "0" * 64, str(tmp_path))


def test_nothing_to_look_for_is_found_nowhere(tmp_path: Path) -> None:
    grams, documents = looked(tmp_path, [prose(n) for n in range(4)], {"a": ("No.",), "b": ("A word or two.",)})
    assert (grams.count, len(documents)) == (0, 0)
    assert grams.weights(documents.marked(0)).tolist() == [0.0, 0.0]


KINDS = {
    "classify": ({"text": "one\u2028line", "second": "two", "label": "x"}, ("one\u2028line", "two")),
    "tag": ({"words": ["a", "heron"], "tags": ["O", "B-bird"]}, ("a heron",)),
    "answer": ({"context": "By the river.", "question": "Where?", "answers": ["river"]}, ("By the river.", "Where?")),
    "write": ({"source": ["One.", "Two."], "target": "One."}, ("One. Two.",)),
    "embed": ({"text": "one", "second": "two"}, ("one", "two")),
}


@pytest.mark.parametrize("kind", KINDS)
def test_texts_are_those_that_make_an_example(tmp_path: Path, kind: str) -> None:
    row, said = KINDS[kind]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(one, ensure_ascii=False) + "\n" for one in (row, row)))
    columns = {"second": "second"} if kind == "classify" else {}
    parts, texts = evaluated(kind, {"test": str(tmp_path / "a.jsonl")}, columns)
    [own] = texts
    assert texts[own] == said
    assert list(zip(*parts["test"], strict=True)) == [(own, "a.jsonl", 1), (own, "a.jsonl", 2)]
    assert evaluated(kind, {"test": str(tmp_path / "a.jsonl")}, columns, only=frozenset())[1] == {}
