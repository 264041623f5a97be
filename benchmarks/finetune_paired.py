"""What stands beside a result of `benchmarks/finetune.py` without a training run: fastText row by row, contamination.

    FOLDER/beside/STEM.json     kept once found: `paired` and `contaminated`

`paired`: how far the encoder is ahead of fastText on the same test rows, with a 95 % interval of rows and runs at once
(`apart`), the chance of as large a difference were all runs divided anew among the two (`divided`), and a verdict; both
sides with the same number of seeds. What the encoder said is read from its sealed runs; fastText, whose answers are not
sealed, is trained again for each seed, which takes seconds. Of SciTLDR a row is a paper and its score.

`contaminated`: test rows of which 13 words in a row stand in a pretraining text (operators/text/overlap), by corpus.
Rows of fewer than 8 words are not looked for, and are counted.

Refuses runs whose rows are not those of the task's test: another reading of the files.
"""

import io
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from finetune_tasks import TASKS, guesses, labels_of, scored_papers

from tundish.operators.model import measures
from tundish.operators.model.apart import apart, divided, scored
from tundish.operators.text.overlap import Finder
from tundish.stages.contamination import Grams, grams_of
from tundish.stages.examples import IDENTITY, Examples
from tundish.stages.finetune_against import LEAST
from tundish.stages.finetune_means import verdict
from tundish.stages.finetune_task import MEASURES

SAMPLES = 1000
BATCH = 64  # documents looked through at once
Told = dict[str, Any]
Corpora = Mapping[str, Callable[[], list[str]]]


def beside(name: str, folder: Path, stem: str, given: Callable[[], Mapping[str, Examples]], corpora: Corpora) -> Told:
    """Both, kept in a file beside the runs; what is there by now is not found again. `given`: the task's parts."""
    place = folder / "beside" / f"{stem}.json"
    told: Told = json.loads(place.read_text()) if place.exists() else {}
    parts: Mapping[str, Examples] | None = None
    if "contaminated" not in told:
        parts = given()
        told["contaminated"] = contaminated(texts_of(parts["test"]), corpora)
    if told.get("paired") is None:
        runs = answered(name, folder / stem)
        if runs and TASKS[name].kind == "classify":
            parts = parts or given()
            told["paired"] = {"seeds": list(runs)} | paired(name, parts, runs)
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text(json.dumps(told, indent=1))
    return told


# -- row by row


def answered(name: str, folder: Path) -> dict[int, np.ndarray]:
    """By seed what the pretrained runs that are sealed in a folder gave for the test, (n, C); without those that
    failed."""
    config, found = folder / "config.json", {}
    if not config.exists():
        return {}
    key = json.loads(config.read_text())["key"]
    for path in sorted((folder / "runs").glob(f"{key}-pretrained-*.json")):
        told = json.loads(path.read_text())
        if told["failed"] or told["run"]["size"]:
            continue
        with np.load(io.BytesIO(path.with_suffix(".npz").read_bytes()), allow_pickle=False) as held:
            found[int(told["run"]["seed"])] = held["test/logits"].astype(np.float64)
    return dict(sorted(found.items()))


def paired(name: str, parts: Mapping[str, Examples], runs: Mapping[int, np.ndarray]) -> Told:
    """The encoder less fastText, both with these seeds."""
    truth = np.array(labels_of(parts["test"]))
    for seed, logits in runs.items():
        if len(logits) != len(truth):
            raise ValueError(
                f"the run of seed {seed} has {len(logits)} rows, and {name} tests {len(truth)}; "
                "run the task again with the files as they are"
            )
    theirs = [units(name, truth, guesses(name, parts, seed)) for seed in runs]
    mine = [units(name, truth, said_of(name, logits)) for logits in runs.values()]
    return compared(measure_of(name), np.stack(theirs), np.stack(mine))


def said_of(name: str, logits: np.ndarray) -> np.ndarray:
    """What a run's outputs come to, row by row: a class, or of SciTLDR the score of the chosen sentence."""
    return scored_papers(logits[:, 1] - logits[:, 0]) if name == "scitldr" else logits.argmax(1)


def units(name: str, truth: np.ndarray, said: np.ndarray) -> np.ndarray:
    """(n, columns) float64, of which `measure_of` makes a score."""
    columns = [said] if name == "scitldr" else [truth, said]
    return np.stack(columns, 1).astype(np.float64)


def measure_of(name: str) -> Callable[[np.ndarray], float]:
    measure = TASKS[name].measure or MEASURES[TASKS[name].kind]
    if measure == "matthews":
        return lambda rows: measures.matthews(rows[:, 0], rows[:, 1])
    if measure == "accuracy":
        return lambda rows: float((rows[:, 0] == rows[:, 1]).mean())
    return lambda rows: float(rows[:, 0].mean())


def compared(measure: Callable[[np.ndarray], float], theirs: np.ndarray, mine: np.ndarray) -> Told:
    """Mine (runs, n, columns) less theirs on the same rows; a seed means nothing to both."""
    first, second = (scored(measure, runs, seed=1, samples=SAMPLES) for runs in (theirs, mine))
    found, few = apart(first, second), min(len(theirs), len(mine))
    return {
        "theirs": float(first.scores.mean()),
        "difference": found.value,
        "interval": [found.low, found.high],
        "chance": divided(first.scores, second.scores, seed=1, samples=SAMPLES),
        "verdict": verdict([(found.low, found.high)] if few >= LEAST else [], few),
    }


# -- contamination


def texts_of(test: Examples) -> list[tuple[str, ...]]:
    """The texts of each row."""
    columns = [test.table[name].to_pylist() for name in IDENTITY.get(test.kind, ("text", "second"))]
    return [
        tuple(" ".join(v) if isinstance(v, list) else v for v in row if v is not None)
        for row in zip(*columns, strict=True)
    ]


def contaminated(texts: Sequence[tuple[str, ...]], corpora: Corpora) -> Told:
    """How many rows share a gram with each corpus, and with any of them."""
    grams = grams_of(texts)
    masks = {name: met(grams, found()) for name, found in corpora.items()}
    hit = {name: int((grams.shared(mask) > 0).sum()) for name, mask in masks.items()}
    every = np.logical_or.reduce(list(masks.values()))
    return {
        "examples": len(texts),
        "too_short": int((grams.sizes == 0).sum()),
        "rows": int((grams.shared(every) > 0).sum()),
        "by": hit,
    }


def met(grams: Grams, documents: Iterable[str]) -> np.ndarray:
    """(grams,) bool: those that stand in a document."""
    finder, mask, each = Finder(grams.sought), np.zeros(grams.count, bool), list(documents)
    for at in range(0, len(each), BATCH):
        seen = finder.find(pa.array(each[at : at + BATCH], pa.large_string())).seen
        mask[seen[:, 1]] = True
    return mask


# -- for the table


def cells(told: Told | None) -> tuple[str, str]:
    """Of the table: the difference from fastText, and rows that stand in the pretraining texts.

    >>> cells(None), cells({"paired": None, "contaminated": {"rows": 13, "examples": 2000}})
    (('-', '-'), ('-', '13 of 2,000'))
    """
    one, rows = (told or {}).get("paired"), (told or {}).get("contaminated")
    ahead = "-"
    if one:
        low, high = one["interval"]
        ahead = f"{one['difference']:+.3f} ({low:+.3f} to {high:+.3f}), {one['verdict']}"
    return ahead, f"{rows['rows']:,} of {rows['examples']:,}" if rows else "-"
