"""Domain adaptation: a causal model of novels goes on with articles, with and without replay, with new pieces.

    alone     the articles alone
    replay    nine parts articles, one part novels
    grown     as replay, with a vocabulary to which pieces of the articles were added; their rows begin as means
    fresh     the articles alone, from random weights

Bits per byte are code lengths: of whole novels and articles that no training saw, before the first step and after the
last, by source. They do not depend on the vocabulary, so `grown` may be held against the others; at step 0 it is what
the old weights say of text in the new pieces.

    python benchmarks/adaptation.py FOLDER             some 5 minutes on one idle core
    python benchmarks/adaptation.py FOLDER --quick     one seed

Prints a table and last one line of JSON. Needs the novels and articles of `shared/data`.
"""

import argparse
import json
import os
import re
import statistics
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("TUNDISH_TORCH_THREADS", "1")

from curves_corpora import works

from tundish.cluster.local import Local
from tundish.pipeline.run import run
from tundish.stages.corpus import Corpus
from tundish.stages.gather import Gather
from tundish.stages.judge import Judge
from tundish.stages.mix import Mix
from tundish.stages.pretrain import Pretrain
from tundish.stages.read import Read
from tundish.stages.refine import Keep, Refine
from tundish.stages.stage import Stage
from tundish.stages.tokenize import Tokenize

EXCERPT = 40_000  # characters of every novel
PIECES, MORE = 2048, 512
SHAPE = {"width": 128, "layers": 4, "heads": 4, "ff": 512, "dropout": 0.0}
TRAINING: dict[str, Any] = {"length": 128, "batch": 16, "checkpoint_every": 10_000, "window": 0}
SEEDS = (1, 2, 3)
FIRST, THEN = "300k", "80k"  # tokens of the novels, and of the articles


def corpus_of(folder: Path, name: str, texts: list[str]) -> Corpus:
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"{name}.jsonl"
    file.write_text("".join(json.dumps({"text": t, "url": f"http://{name}/{n}"}) + "\n" for n, t in enumerate(texts)))
    documents = Gather({name: Read((str(file),))})
    return Corpus(documents, Refine(documents, quality=Judge(documents), keep=Keep(rules="none")))


def written(text: str) -> str:
    """WikiText as people write: it has spaces around all signs, and `@-@` for a hyphen."""
    text = re.sub(r" @(.)@ ", r"\1", text)
    return re.sub(r"([(\[]) ", r"\1", re.sub(r" ([,.;:!?%)\]]|'s\b|n't\b)", r"\1", text))


def made(goal: Stage, root: str) -> Path:
    return Path(run(goal, Local(), root).datasets[goal.address].uri)


def adapt(folder: Path, seeds: tuple[int, ...]) -> list[dict[str, Any]]:
    root = str(folder / "root")
    novels = corpus_of(folder, "novels", ["\n".join(lines)[:EXCERPT] for lines in works("novels").values()])
    articles = corpus_of(folder, "articles", [written("\n".join(lines)) for lines in works("wikitext2").values()])
    old = Tokenize(novels, vocabulary=PIECES, holdout=0.15)
    pieces = str(made(old, root) / "vocabulary.model")
    new = Tokenize(articles, vocabulary=pieces, holdout=0.15)
    more = Tokenize(articles, vocabulary=pieces, extend=MORE, holdout=0.15)
    wide = str(made(more, root) / "vocabulary.model")
    both = {
        "old": Mix({"old": old, "new": new}),
        "grown": Mix({"old": Tokenize(novels, vocabulary=wide, holdout=0.15), "new": more}),
    }
    began = Pretrain(both["old"], model="gpt2", shape=SHAPE, tokens=FIRST, lr=2e-3, weights={"old": 1}, **TRAINING)
    begin = made(began, root)
    mixed = {"old": 0.1, "new": 0.9}
    arms: dict[str, dict[str, Any]] = {
        "alone": {"shards": both["old"], "weights": {"new": 1}, "begin": str(begin)},
        "replay": {"shards": both["old"], "weights": mixed, "begin": str(begin)},
        "grown": {"shards": both["grown"], "weights": mixed, "begin": str(begin)},
        "fresh": {"shards": both["old"], "weights": {"new": 1}, "shape": SHAPE},
    }
    found = [{"arm": "novels", "seed": 1} | told(begin)]
    for seed in seeds:
        for arm, fields in arms.items():
            started = time.perf_counter()
            goal = Pretrain(model="gpt2", tokens=THEN, lr=1e-3, seed=seed, **TRAINING, **fields)
            found.append({"arm": arm, "seed": seed} | told(made(goal, root)))
            print(json.dumps(found[-1] | {"seconds": round(time.perf_counter() - started)}), flush=True)
    return found


def told(folder: Path) -> dict[str, Any]:
    result = json.loads((folder / "result.json").read_text())
    return {"before": result["bits_per_byte_first"], "after": result["bits_per_byte"], "tokens": result["tokens"]}


def spread(rows: list[dict[str, Any]], arm: str, when: str, source: str) -> tuple[float, float]:
    values = [row[when][source] for row in rows if row["arm"] == arm]
    return statistics.mean(values), statistics.stdev(values) if len(values) > 1 else 0.0


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--quick", action="store_true")
    given = parser.parse_args()
    rows = adapt(given.folder, SEEDS[:1] if given.quick else SEEDS)
    print(f"\n{'':8} {'novels before':>16} {'after':>16} {'articles before':>16} {'after':>16}")
    last: dict[str, Any] = {}
    for arm in dict.fromkeys(row["arm"] for row in rows):
        cells = [spread(rows, arm, when, source) for source in ("old", "new") for when in ("before", "after")]
        print(f"{arm:8} " + " ".join(f"{f'{mean:.3f} ± {each:.3f}':>16}" for mean, each in cells))
        names = ("old_before", "old_after", "new_before", "new_after")
        last |= {f"{arm}_{name}": round(mean, 4) for name, (mean, _) in zip(names, cells, strict=True)}
    print(json.dumps(last))


if __name__ == "__main__":
    main()
