"""What Extract knows of blocks, learnt anew: writes operators/web/blocks.json.gz. Needs lightgbm (requirements.txt).

From web-wcxb (upstream's dev pages) and web-magic-html, three domains of four; labelled_pages.is_fitted says which. A
block is main text to the share of its words that stand in the gold text in runs of four. Names and words get values
from domains other than the page's own, and a second copy of each page without any values is learnt from beside it, so
that pages in languages and designs never seen are not lost. About 10 minutes on one core.

    python fit_blocks.py [--out FILE]
"""

import argparse
import gzip
import json
from collections import defaultdict
from hashlib import blake2b
from pathlib import Path
from typing import Any, NamedTuple

import lightgbm
import numpy as np
from labelled_pages import DATA, Labelled, is_fitted, labelled, words

from tundish.operators.web.blocks import WORDS, Blocks
from tundish.operators.web.features import Values, features, surroundings
from tundish.operators.web.main_text import LEARNT, other_texts
from tundish.operators.web.outline import outline
from tundish.operators.web.votes import hashes_of, held, votes

FOLDERS = ("web-wcxb", "web-magic-html")
FOLDS = 5  # values of names and words come from the other folds
LEAST = {"named": 4, "said": 6}  # domains that must have a word
MOST = {"named": 2500, "said": 3000}  # words kept
SHRINK = 4.0  # domains of no opinion that are added
BARE = 0.5  # weight of the copy without values
TREES, LEAVES, DEEP, RATE = 140, 16, 5, 0.1
NOTHING = Values.of(np.zeros(0, np.uint32), np.zeros(0))


class Lesson(NamedTuple):
    """A page to learn from: blocks, share of each that is main text, texts of others, and its domain's fold."""

    page: Labelled
    blocks: Blocks
    main: np.ndarray
    others: list[np.ndarray]
    fold: int


def lesson(page: Labelled) -> Lesson:
    blocks = Blocks(outline(page.html.encode("utf-8", "replace")))
    fold = int.from_bytes(blake2b(b"fold" + page.domain.encode(), digest_size=4).digest(), "big") % FOLDS
    return Lesson(
        page, blocks, gold_share(blocks, page.gold), [hashes_of(t) for t in other_texts(page.html, page.url)], fold
    )


def gold_share(blocks: Blocks, gold: str) -> np.ndarray:
    """(blocks,) share of words in the gold text; a block of few words must be a line of it."""
    share = held(blocks, hashes_of(gold))
    lines = {hashes_of(line).tobytes() for line in gold.split("\n")}
    owner = blocks.of_piece[blocks.owners]
    ends = np.searchsorted(owner, np.arange(len(blocks) + 1))
    for block in np.flatnonzero(np.diff(ends) <= 6).tolist():
        if blocks.hashes[ends[block] : ends[block + 1]].tobytes() in lines and ends[block] < ends[block + 1]:
            share[block] = max(share[block], 0.6)
    return share


def values(lessons: list[Lesson]) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """How much more of what has a name, or of a word, is main text than of its page, by hash; in 1/256."""
    seen: dict[str, dict[int, dict[str, list[float]]]] = {"named": defaultdict(dict), "said": defaultdict(dict)}
    for one in lessons:
        if not len(one.blocks):
            continue
        main, size, tree = one.main > 0.5, one.blocks.counts[WORDS], one.blocks.outline
        base = float((size * main).sum() / max(1, size.sum()))
        whole = np.concatenate([[0], np.cumsum(one.blocks.by_piece[WORDS])])
        part = np.concatenate([[0], np.cumsum(one.blocks.by_piece[WORDS] * main[one.blocks.of_piece])])
        first, last = tree.spans[0][tree.owners], tree.spans[1][tree.owners]
        told = [
            ("named", tree.tokens, whole[last] - whole[first], part[last] - part[first]),
            ("said", one.blocks.hashes, np.ones(len(one.blocks.hashes)), main[one.blocks.of_piece[one.blocks.owners]]),
        ]
        for name, hashes, weight, hit in told:
            keys, at = np.unique(hashes, return_inverse=True)
            weights, hits = np.bincount(at, weight), np.bincount(at, hit)
            for key, w, h in zip(keys.tolist(), weights, hits, strict=True):
                if w > 0 and key:
                    seen[name][key].setdefault(one.page.domain, []).append(h / w - base)
    return {name: _kept(by_word, LEAST[name], MOST[name]) for name, by_word in seen.items()}


def _kept(by_word: dict[int, dict[str, list[float]]], least: int, most: int) -> tuple[np.ndarray, np.ndarray]:
    found = []
    for key, by_domain in by_word.items():
        if (n := len(by_domain)) >= least:
            means = np.array([np.mean(v) for v in by_domain.values()])
            if abs(means.mean()) > means.std() / np.sqrt(n) + 0.05:
                value = means.mean() * n / (n + SHRINK)
                found.append((abs(value) * np.sqrt(n), key, round(256 * value)))
    found = sorted(sorted(found, reverse=True)[:most], key=lambda one: one[1])
    return np.array([key for _, key, _ in found], np.uint32), np.array([value for _, _, value in found])


def rows(lessons: list[Lesson], named: Values, said: Values) -> list[np.ndarray]:
    """Features and votes of each page, the votes last."""
    made = []
    for one in lessons:
        own = features(one.blocks, surroundings(one.blocks, named), said)[0]
        made.append(np.vstack([own, votes(one.blocks, one.others)]).T)
    return made


def crossed(lessons: list[Lesson]) -> list[np.ndarray]:
    """As `rows`, each page with values from the other folds."""
    made: list[Any] = [None] * len(lessons)
    for fold in range(FOLDS):
        told = {n: Values.of(*v) for n, v in values([one for one in lessons if one.fold != fold]).items()}
        here = [n for n, one in enumerate(lessons) if one.fold == fold]
        for n, row in zip(here, rows([lessons[n] for n in here], told["named"], told["said"]), strict=True):
            made[n] = row
    return made


def weights(one: Lesson) -> np.ndarray:
    """What a block weighs in the F1 of its page, roughly, and dampened."""
    size = one.blocks.counts[WORDS].astype(np.float64)
    return (size / max(50.0, len(words(one.page.gold)) + 0.3 * size.sum())) ** 0.7


def forest(table: np.ndarray, share: np.ndarray, weight: np.ndarray) -> list[Any]:
    """Fitted on the cross-entropy with these shares; trees as `Forest.of` takes them."""
    settings = {
        "objective": "cross_entropy", "num_leaves": LEAVES, "max_depth": DEEP, "learning_rate": RATE,
        "feature_fraction": 0.5, "bagging_fraction": 0.7, "bagging_freq": 1, "min_data_in_leaf": 40, "lambda_l2": 1.0,
        "max_bin": 63, "seed": 1, "deterministic": True, "force_row_wise": True, "num_threads": 1, "verbose": -1,
    }  # fmt: skip
    data = lightgbm.Dataset(table, share, weight=weight, params={"max_bin": 63})
    fitted = lightgbm.train(settings, data, TREES).dump_model()
    return [_nested(tree["tree_structure"]) for tree in fitted["tree_info"]]


def _nested(node: dict[str, Any]) -> Any:
    """A node with those below it; thresholds such that a float32 goes where it went in fitting."""
    if "leaf_value" in node:
        return round(node["leaf_value"], 6)
    threshold = np.float32(node["threshold"])
    if float(threshold) > node["threshold"]:
        threshold = np.nextafter(threshold, np.float32(-np.inf))
    return [node["split_feature"], float(threshold), _nested(node["left_child"]), _nested(node["right_child"])]


def fit(lessons: list[Lesson]) -> dict[str, Any]:
    full, bare = crossed(lessons), rows(lessons, NOTHING, NOTHING)
    table = np.concatenate(full + bare)
    share = np.concatenate([one.main for one in lessons] * 2)
    weight = np.concatenate([weights(one) for one in lessons] + [BARE * weights(one) for one in lessons])
    own = table.shape[1] - 12
    last = values(lessons)
    plain = {name: {"hashes": keys.tolist(), "values": told.tolist()} for name, (keys, told) in last.items()}
    return plain | {"first": forest(table[:, :own], share, weight), "second": forest(table, share, weight)}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", type=Path, default=LEARNT)
    args = parser.parse_args()
    lessons, counted = [], {}
    for folder in FOLDERS:
        found = [lesson(page) for page in labelled(DATA / folder) if is_fitted(page)]
        lessons += found
        counted[folder] = len(found)
    print(f"learning from {counted}, {sum(len(one.blocks) for one in lessons)} blocks", flush=True)
    about = {
        "pages": counted,
        "domains": sorted({blake2b(one.page.domain.encode(), digest_size=4).hexdigest() for one in lessons}),
    }
    made = {"about": about, **fit(lessons)}
    args.out.write_bytes(gzip.compress(json.dumps(made, separators=(",", ":")).encode(), mtime=0))
    print(f"{args.out.name}: {args.out.stat().st_size} bytes")


if __name__ == "__main__":
    main()
