"""The second recipe of the chaos suite: stages that the first one (tests/chaos.py) has not, on two hundred small pages.

Web archives, JSON lines and a crawl as Common Crawl publishes it, written here and always the same, go through every
data stage that needs neither a network nor an encoder. A recipe has one goal and this one has four ends, so it is four
files that differ in `goal` alone: they are run one after another into one root, and what an earlier one made, a later
one keeps.
"""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from tests.test_ingest_common_crawl import mirrored
from tests.toys import prose
from tundish.cluster.shards import Dataset, opened
from tundish.operators.web.warc_write import pair

ARCHIVES, PAGES, NOTES = 4, 50, 40  # files, pages of each, rows of each of two files
GOALS = ("index", "mixed", "links", "fetched")
RECIPE = """
archives: {{Ingest: {{archives: ["{files}/*.warc.gz"], split: 20000}}}}
web: {{Extract: {{archives: archives}}}}
notes: {{Read: {{files: ["{files}/*.jsonl"]}}}}
documents: {{Gather: {{sources: {{web: web, notes: notes}}}}}}
language: {{Identify: {{documents: documents}}}}
addresses: {{Vet: {{documents: documents}}}}
quality: {{Judge: {{documents: documents, language: language}}}}
signatures: {{Sign: {{documents: documents}}}}
contaminated: {{Decontaminate: {{documents: documents, against: ["{files}/exam.tsv"]}}}}
taught: {{Teach: {{corpora: {{good: web, bad: notes}}, dimension: 8, epochs: 3, buckets: 2000}}}}
rated: {{Rate: {{documents: documents, classifier: taught}}}}
english: {{Estimate: {{documents: web, vocabulary: 300, order: 3}}}}
surprise: {{Perplex: {{documents: documents, models: {{any: english}}}}}}
buckets: {{Bucket: {{perplexity: surprise}}}}
kept:
  Refine: {{documents: documents, language: language, quality: quality, addresses: addresses,
    scores: {{rated: rated, buckets: buckets}}}}
twins: {{Deduplicate: {{documents: documents, signatures: signatures, among: kept, quality: quality}}}}
lines: {{Lines: {{documents: documents}}}}
repeated:
  Repeated: {{documents: documents, among: kept, twins: twins, contamination: contaminated, edits: lines}}
substrings:
  Substrings: {{documents: documents, among: kept, twins: twins, contamination: contaminated, edits: repeated}}
masked: {{Mask: {{documents: documents, edits: substrings}}}}
corpus:
  Corpus: {{documents: documents, kept: kept, twins: twins, edits: masked, language: language, quality: quality,
    contamination: contaminated}}
index: {{Index: {{documents: documents, signatures: signatures, corpus: corpus, crawl: chaos}}}}
tokens: {{Tokenize: {{corpus: corpus, vocabulary: 300, holdout: 0.05}}}}
mixed: {{Mix: {{of: {{all: tokens}}}}}}
links: {{Outlinks: {{archives: archives}}}}
crawled: {{CommonCrawl: {{crawl: CC-MAIN-2025-05, base: "{files}/commoncrawl"}}}}
fetched: {{Extract: {{archives: crawled}}}}
goal: {goal}
"""
EXAM = [f"Which {prose(90_000 + row, 1)} And why would it be so on every day of the year?" for row in range(8)]
SHARED = " ".join(prose(91_000, 6).split("\n"))  # ninety words in a row, in lines that have little else in common
FOOT = "This was first printed in the gazette of the harbour, and is given here with kind leave of all who wrote it."


def paragraphs(number: int) -> list[str]:
    """Of a page: running text, and by its number what one or another stage takes away."""
    if number % 23 == 7:
        return ["Too short to be of use."]
    found = prose(number * 3 if number % 10 == 3 else number, 12).split("\n")  # some are copies of others, but for FOOT
    found += [FOOT] if number % 3 == 0 else []
    found += [f"{prose(70_000 + number, 1)} {SHARED} {prose(80_000 + number, 1)}"] if number % 5 == 1 else []
    found += [f"Somebody asked {EXAM[number % len(EXAM)]} Nobody knew."] if number % 11 == 2 else []
    found += ["3 likes", f"Write to keeper{number}@heron.example for more of that."] if number % 4 == 2 else []
    return found


def page(number: int) -> bytes:
    """Request and answer as an archive has them."""
    url, text = f"http://heron.example/{number}", "".join(f"<p>{each}</p>\n" for each in paragraphs(number))
    links = "".join(f'<a href="/{number + step}">page {number + step}</a> ' for step in (1, 2, 3))
    body = f"<html><head><title>Page {number}</title></head><body><main>{text}</main>{links}</body></html>".encode()
    asked = f"GET /{number} HTTP/1.1\r\nHost: heron.example\r\n\r\n".encode()
    head = f"HTTP/1.1 200 OK\r\nContent-Type: text/html; charset=utf-8\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    return pair(url, date="2026-11-21T00:00:00Z", request=asked, response=head + body)


def recipes(folder: Path) -> list[str]:
    """What is read, and a recipe for each goal."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(ARCHIVES):
        first = number * PAGES
        (folder / f"{number}.warc.gz").write_bytes(b"".join(page(first + each) for each in range(PAGES)))
    for name in ("a", "b"):
        rows = [{"url": f"http://{name}.example/{row}", "text": note(name, row)} for row in range(NOTES)]
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    mirrored(folder / "commoncrawl")
    (folder / "exam.tsv").write_text("".join(f"{line}\n" for line in ("question", *EXAM)))
    paths = [folder / f"{goal}.yaml" for goal in GOALS]
    for path, goal in zip(paths, GOALS, strict=True):
        path.write_text(RECIPE.format(files=folder, goal=goal))
    return [str(path) for path in paths]


def note(name: str, row: int) -> str:
    return "Note: " + prose(50_000 + row + NOTES * (name == "b"), 10) + ("\n" + FOOT if row % 4 == 0 else "")


def digests(root: Path) -> dict[str, str]:
    """Of every sealed dataset, steps of a stage and models among them, by its place below the root."""
    found = {}
    for manifest in sorted(root.glob("*-*/**/manifest.json")):
        dataset = opened(str(manifest.parent))
        assert dataset is not None
        found[str(manifest.parent.relative_to(root))] = dataset.digest
    return found


def sealed(root: Path, stage: str) -> list[Dataset]:
    """What the stages of this name sealed."""
    datasets = [opened(str(folder)) for folder in root.glob(f"{stage}-*/")]
    made = [dataset for dataset in datasets if dataset is not None]
    assert made, f"{stage} is not sealed"
    assert len(made) == len(datasets), f"one {stage} is not sealed"
    return made


def found(root: Path, stage: str, column: str) -> int:
    """In how many rows a column holds something: a list that is not empty, a number above 0, else any value; the
    fewest of the stages of this name."""
    return min(filled(dataset, column) for dataset in sealed(root, stage))


def filled(dataset: Dataset, column: str) -> int:
    count = 0
    for name in dataset.names:
        values = dataset.read(name)[column]
        if pa.types.is_list(values.type):
            values = pc.list_value_length(values)
        has = pc.greater(values, 0) if pa.types.is_integer(values.type) else pc.is_valid(values)
        count += pc.sum(has).as_py() or 0
    return count
