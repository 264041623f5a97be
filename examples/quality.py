"""`python examples/quality.py DATA`: the recipe quality.yaml on real pages of known kinds.

DATA holds `web-wcxb` (pages with their type). Writes its articles, and its listings and products, as web archives,
runs both goals of the recipe, and says how well the classifier tells hosts it never saw apart, and how the kinds fall
into the buckets of perplexity.
"""

import argparse
import io
import json
import tarfile
from collections import Counter
from pathlib import Path
from typing import Any

import yaml
import zstandard

from tundish.cluster.local import Local
from tundish.operators.web.warc_write import pair
from tundish.pipeline.recipe import build
from tundish.pipeline.run import Outcome, run

HERE = Path(__file__).resolve().parent
PAGES = Path(".demo/pages")  # where the recipe looks
KINDS = {"article": "articles", "listing": "shops", "product": "shops"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--root", default=".demo/quality")
    asked = parser.parse_args()
    print("pages:", archives(asked.data / "web-wcxb", PAGES))
    recipe = yaml.safe_load((HERE / "quality.yaml").read_text())
    rated, placed = (run(build({**recipe, "goal": goal}), Local(2), asked.root) for goal in ("rated", "buckets"))
    print(json.dumps(dataset(rated, "teach").about["result"], indent=1))
    print(json.dumps(dataset(placed, "estimate").about["result"], indent=1))
    for kind, buckets in by_kind(placed).items():
        print(kind, dict(sorted(buckets.items(), key=str)))


def archives(data: Path, folder: Path) -> dict[str, int]:
    """Write one archive for each kind; how many pages went into each."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = io.TextIOWrapper(unpacked(data / "gold.jsonl.zst"), "utf-8", newline="\n")
    gold = {row["file"].rsplit("/", 1)[-1]: row for row in map(json.loads, lines)}
    members: dict[str, list[bytes]] = {kind: [] for kind in sorted(set(KINDS.values()))}
    with tarfile.open(fileobj=unpacked(data / "html.tar.zst"), mode="r|") as pages:
        for page in pages:
            row = gold.get(page.name.rsplit("/", 1)[-1])
            stream = pages.extractfile(page)
            if row is not None and stream is not None and row["page_type"] in KINDS:
                members[KINDS[row["page_type"]]].append(record(row["url"], stream.read()))
    for kind, records in members.items():
        (folder / f"{kind}.warc.gz").write_bytes(b"".join(records))
    return {kind: len(records) for kind, records in members.items()}


def unpacked(path: Path) -> Any:
    return zstandard.ZstdDecompressor(max_window_size=2**27).stream_reader(path.open("rb"), read_across_frames=True)


def record(url: str, body: bytes) -> bytes:
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/html; charset=utf-8\r\n\r\n"
    return pair(url, date="2026-11-21T00:00:00Z", request=b"GET / HTTP/1.1\r\n\r\n", response=head + body)


def dataset(outcome: Outcome, name: str) -> Any:
    return next(found for address, found in outcome.datasets.items() if address.startswith(f"{name}-"))


def by_kind(placed: Outcome) -> dict[str, Counter]:
    """How many pages of each kind, English ones, fell into each bucket."""
    aligned = dataset(placed, "gather").beside(dataset(placed, "identify"), placed.dataset)
    told: dict[str, Counter] = {}
    for row in aligned.select("origin", "language", "perplexity_bucket").table().to_pylist():
        if row["language"] == "en":
            told.setdefault(row["origin"], Counter())[row["perplexity_bucket"]] += 1
    return told


if __name__ == "__main__":
    main()
