"""The tasks of `benchmarks/finetune.py`: their files, which parts train and test, and what fastText makes of them.

Where a set has no test with labels, its dev part is the test here, and dev is cut from train; of SQuAD, whole articles
are the test. Of train so many examples are taken, every class in its share, after texts that a test has too have left.
SciTLDR is told by its sentences: which of an abstract is the summary? The likeliest one is taken, and held against what
people wrote by ROUGE-1, the best of several; its majority is the abstract's first sentence.
"""

import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import finetune_fasttext
import numpy as np
from curves_corpora import DATA, unpacked

from tundish.operators.text import rouge
from tundish.stages.examples import Examples, read
from tundish.stages.examples_checks import without
from tundish.stages.examples_splits import order, split
from tundish.stages.finetune_kinds import of_classes

TESTED = 2000  # examples of a test at most


class Set(NamedTuple):
    kind: str
    files: Mapping[str, str]  # part -> file
    columns: Mapping[str, Any] = {}
    measure: str = ""  # other than the kind's own
    dev: Mapping[str, Any] | None = None  # columns of dev, where they are others


SICK = {"train": "nli-sick/SICK_train.txt.zst", "dev": "nli-sick/SICK_trial.txt.zst"}
SICK |= {"test": "nli-sick/SICK_test_annotated.txt.zst"}
BOTH = {"text": "sentence_A", "second": "sentence_B"}
WNUT = {"train": "wnut17train.conll.zst", "dev": "emerging.dev.conll.zst", "test": "emerging.test.annotated.zst"}
TASKS: dict[str, Set] = {
    "sst2": Set(
        "classify",
        {part: f"sent-sst2/{part}.tsv.zst" for part in ("train", "test")},
        {"text": "sentence"},
    ),
    "agnews": Set(
        "classify", {"train": "topic-agnews/dev.tsv.zst", "test": "topic-agnews/test.tsv.zst"}, {"text": 0, "label": 1}
    ),
    "cola": Set(
        "classify",
        {"train": "accept-cola/train.tsv.zst", "dev": "accept-cola/val.tsv.zst", "test": "accept-cola/dev.tsv.zst"},
        {"text": 3, "label": 1},
        "matthews",
    ),
    "rte": Set(
        "classify",
        {"train": "nli-rte/train.tsv.zst", "test": "nli-rte/dev.tsv.zst"},
        {"text": "sentence1", "second": "sentence2"},
    ),
    "sick": Set("classify", SICK, {**BOTH, "label": "entailment_judgment"}),
    "sick-relatedness": Set("regress", SICK, {**BOTH, "value": "relatedness_score"}),
    "mrpc": Set(
        "classify",
        {
            part: f"para-mrpc/msr-para-{file}.tsv.zst"
            for part, file in (("train", "train"), ("dev", "val"), ("test", "test"))
        },
        {"text": "#1 String", "second": "#2 String", "label": "Quality"},
    ),
    "wnut17": Set("tag", {part: f"ner/WNUT17/{file}" for part, file in WNUT.items()}),
    "wikigold": Set("tag", {"train": "ner/wikigold/wikigold.conll.txt.zst"}),
    "squad": Set("answer", {"train": "qa-squad/squad-dev-1.1.json.zst"}),
    "scitldr": Set(
        "classify", {part: f"summ-scitldr/{part}.jsonl.zst" for part in ("train", "dev", "test")}, {}, "rouge_1"
    ),
}
PAPERS = {"train": 2000, "dev": 60, "test": 300}


def parts_of(name: str, most: int) -> dict[str, Examples]:
    """Train, dev and test of a task."""
    if name == "scitldr":
        return sentences(most)
    one = TASKS[name]
    names: tuple[str, ...] = ()
    found: dict[str, Examples] = {}
    if one.kind == "tag":
        each = [read("tag", str(DATA / file), dict(one.columns)).names for file in one.files.values()]
        names = max(each, key=len)
    for part, file in one.files.items():
        found[part] = read(one.kind, str(DATA / file), dict(one.columns), names=names)
        names = found["train"].names
    train, by = found["train"], "title" if one.kind == "answer" else None
    if "test" not in found:
        train, found["test"] = split(train, 0.2, by=by)
    if one.kind != "answer":
        train, _ = without(train, *(each for part, each in found.items() if part != "train"))
    if "dev" not in found:
        train, found["dev"] = split(train, 0.1, seed=1, by=by)
    test, dev = (each.take(order(each)[:TESTED]) for each in (found["test"], found["dev"]))
    return {"train": train.take(order(train)[:most]), "dev": dev, "test": test}


def papers(part: str) -> list[dict[str, Any]]:
    lines = unpacked(DATA / "summ-scitldr" / f"{part}.jsonl.zst").decode().split("\n")
    found = [json.loads(line) for line in lines if line][: PAPERS[part]]
    for paper in found:  # some sentences are blank
        told = [at for at, text in enumerate(paper["source"]) if text.strip()]
        paper |= {name: [paper[name][at] for at in told] for name in ("source", "source_labels")}
    return found


def sentences(most: int) -> dict[str, Examples]:
    """Each sentence of the abstracts with the paper's title; the label says whether it is the best summary."""
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        for part in PAPERS:
            rows = [
                {"text": text, "second": paper["title"], "label": str(label)}
                for paper in papers(part)
                for text, label in zip(paper["source"], paper["source_labels"], strict=True)
            ]
            file = Path(folder) / f"{part}.jsonl"
            file.write_text("".join(json.dumps(row) + "\n" for row in rows))
            found[part] = read("classify", str(file), {"second": "second"}, names=("0", "1"))
    train, _ = without(found["train"], found["dev"], found["test"])
    return found | {"train": train.take(order(train)[:most])}


def scored_papers(likely: np.ndarray) -> np.ndarray:
    """(papers,) ROUGE-1 of the likeliest sentence (n,) of each abstract of the test, n sentences in all."""
    at, scores = 0, []
    for paper in papers("test"):
        own = likely[at : at + len(paper["source"])]
        guess, at = paper["source"][int(own.argmax())], at + len(own)
        scores.append(rouge.best(paper["target"], guess, ("1",))["1"].f1)
    assert at == len(likely), "every sentence of the test is asked"
    return np.array(scores)


def summarised(likely: np.ndarray) -> dict[str, float]:
    """Their mean."""
    return {"rouge_1": float(scored_papers(likely).mean())}


def lead() -> dict[str, float]:
    """The first sentence of each abstract."""
    return summarised(np.concatenate([-np.arange(len(paper["source"]), dtype=float) for paper in papers("test")]))


def baseline(name: str, found: Mapping[str, Examples]) -> dict[str, float] | None:
    """What fastText scores on the same examples; None where there are no classes of whole texts."""
    if found["train"].kind != "classify":
        return None
    said, test = guesses(name, found, 1), found["test"]
    if name == "scitldr":
        return {"rouge_1": float(said.mean())}
    return of_classes(np.array(labels_of(test)), said, len(found["train"].names))


def guesses(name: str, found: Mapping[str, Examples], seed: int) -> np.ndarray:
    """What a fastText classifier (word pairs, 25 epochs, one thread) that learnt from train says of each row of test: a
    class, or of SciTLDR the score of the sentence that it chooses of each paper."""
    train, test = found["train"], found["test"]
    lines = [f"__label__{label} {text}" for text, label in zip(_texts(train), labels_of(train), strict=True)]
    each = finetune_fasttext.said(lines, _texts(test), seed=seed)
    if name == "scitldr":
        return scored_papers(np.array([one.get("1", 0.0) for one in each]))
    return np.array([int(next(iter(one))) for one in each])


def _texts(one: Examples) -> list[str]:
    rows = zip(one.table["text"].to_pylist(), one.table["second"].to_pylist(), strict=True)
    return [" ".join(f"{text} {second or ''}".lower().split()) for text, second in rows]


def labels_of(one: Examples) -> list[int]:
    return [int(label) for label in one.table["label"].to_pylist()]
