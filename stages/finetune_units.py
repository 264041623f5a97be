"""What a score is counted from, unit by unit, so that two fine-tunings can be compared on the same units.

    classify     a row         right                              share of right ones
    multilabel   a row         right, guessed, true labels        micro F1
    regress      a row         value, guess                       Spearman's correlation
    tag          a sentence    right, guessed, true spans         micro F1
    answer       a context     F1 of its questions, how many      mean over questions
    embed        a row         found first                        share
    write        a row         ROUGE-L of what was written        mean

    out/units.npz    PART/keys (n,), PART/pretrained and PART/fresh (runs, n, columns), and their seeds

A unit's key is a digest of its text and its truth: files may be moved, parts divided elsewhere, windows cut otherwise.

Promises: `measure_of(kind)` of a run's units is the score that is told of it. Costs one pass over what was said.
Refuses a kind whose score is no function of units.
"""

import io
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from tundish.cluster import store
from tundish.operators.model import measures
from tundish.operators.text import answers as squad
from tundish.operators.text import spans
from tundish.operators.text.digest import payload_digest
from tundish.operators.text.rouge import rouges
from tundish.stages.examples_tags import spanned
from tundish.stages.finetune_kinds import answers_of, ranked, sentences, true_tags
from tundish.stages.finetune_rows import Rows
from tundish.stages.finetune_task import Run, TuneTask
from tundish.stages.finetune_write import spelling, texts_of

FILE = "units.npz"
Found = Callable[[Run], tuple[dict[str, Any], dict[str, dict[str, np.ndarray]]]]
Measure = Callable[[np.ndarray], float]


class Units(NamedTuple):
    """`keys` (n,) of text; `runs`: start -> (runs, n, columns) float64; `seeds`: start -> seed of each run."""

    kind: str
    keys: np.ndarray
    runs: dict[str, np.ndarray]
    seeds: dict[str, list[int]]


def measure_of(kind: str) -> Measure:
    """The score of units (n, columns): the measure by which runs of this kind are compared."""
    if kind in ("classify", "embed", "write"):
        return lambda units: float(units[:, 0].mean())
    if kind in ("multilabel", "tag"):
        return _micro
    if kind == "answer":
        return lambda units: float(units[:, 0].sum() / units[:, 1].sum())
    if kind == "regress":
        return _spearman
    raise ValueError(f"scores of {kind} are not counted unit by unit, so they are not compared; leave that out")


def _micro(units: np.ndarray) -> float:
    right, guessed, true = units.sum(0)
    return float(2 * right / max(1.0, guessed + true))


def _spearman(units: np.ndarray) -> float:
    """0 where all that was drawn is of one value: nothing is in order then."""
    if (units == units[0]).all(0).any():
        return 0.0
    return measures.spearman(units[:, 0], units[:, 1])


def units_of(task: TuneTask, rows: Rows, said: Mapping[str, np.ndarray], truth: Any = None) -> np.ndarray:
    """(n, columns) float64 of what a run said of these rows; in the order of `keys_of`."""
    if task.kind == "write":
        texts = texts_of(spelling(task), said)
        return rouges(rows.table["references"].to_pylist(), texts, ("L",), stem=True)["L"][:, 2:]
    logits = np.asarray(said["logits"], np.float64)
    if task.kind == "classify":
        return (logits.argmax(1) == rows.targets).astype(np.float64)[:, None]
    if task.kind == "multilabel":
        true, guessed = np.asarray(rows.targets) > 0, logits > 0
        return np.stack([(true & guessed).sum(1), guessed.sum(1), true.sum(1)], 1).astype(np.float64)
    if task.kind == "regress":
        return np.stack([np.asarray(rows.targets, np.float64), logits.reshape(len(rows))], 1)
    if task.kind == "tag":
        each = (sentences(rows, tags, spanned(rows.names)) for tags in (true_tags(rows), logits.argmax(1)))
        return np.stack(spans.by_sentence(*each), 1).astype(np.float64)
    if task.kind == "answer":
        return _contexts(rows, logits, truth)
    return ranked(logits, rows.partners)[0][:, None]


def _contexts(rows: Rows, logits: np.ndarray, truth: Mapping[str, Any]) -> np.ndarray:
    """Questions about one text are right or wrong together, so they are one unit."""
    guesses, none, _ = answers_of(rows, logits, truth)
    golds = [one["answers"] for one in truth.values()]
    some = any(not gold for gold in golds)
    said = ["" if some and margin > 0 else guess for guess, margin in zip(guesses, none, strict=True)]
    each = squad.answered(golds, said, unanswerable=some).f1
    place = {text: at for at, text in enumerate(dict.fromkeys(one["context"] for one in truth.values()))}
    whose = np.array([place[one["context"]] for one in truth.values()])
    return np.stack([np.bincount(whose, each, len(place)), np.bincount(whose, minlength=len(place))], 1)


def keys_of(task: TuneTask, rows: Rows, truth: Any = None) -> np.ndarray:
    """(n,) of text: what each unit is, equal ones numbered in their order."""
    if task.kind == "answer":
        texts: dict[str, list[Any]] = {}
        for one in truth.values():
            texts.setdefault(one["context"], []).append(sorted(one["answers"]))
        said = [f"{text}\0{sorted(golds)}" for text, golds in texts.items()]
    elif task.kind == "tag":
        where = zip(rows.table["file"].to_pylist(), rows.table["row"].to_pylist(), strict=True)
        ids = dict(zip(where, rows.table["id"].to_pylist(), strict=True))
        said = [f"{key}\0{tags}" for key, tags in zip(ids.values(), sentences(rows, true_tags(rows)), strict=True)]
    else:
        truths = _truths(rows)
        said = [f"{key}\0{label}" for key, label in zip(rows.table["id"].to_pylist(), truths, strict=True)]
    return np.array(_numbered([payload_digest(each.encode()).hex() for each in said]))


def _truths(rows: Rows) -> Sequence[Any]:
    """Of each row what is right, in words that mean the same elsewhere."""
    if rows.kind == "write":
        return rows.table["references"].to_pylist()  # type: ignore[no-any-return]
    if rows.targets is None:
        return [""] * len(rows)
    found = np.asarray(rows.targets).tolist()
    if rows.kind == "classify":
        return [rows.names[label] if label >= 0 else "" for label in found]
    return [[name for name, true in zip(rows.names, row, strict=True) if true] if rows.names else row for row in found]


def _numbered(keys: Sequence[str]) -> list[str]:
    """Equal ones apart: the second of a key is `key.2`."""
    seen: dict[str, int] = {}
    found = []
    for key in keys:
        seen[key] = seen.get(key, 0) + 1
        found.append(key if seen[key] == 1 else f"{key}.{seen[key]}")
    return found


def gathered(task: TuneTask, parts: Mapping[str, Rows], found: Found) -> dict[str, Units]:
    """The units of each tested part, of the runs on all of train; those whose loss was no number left out."""
    told = {}
    for name in (name for name in parts if name not in ("train", "dev")):
        truth = task.truth.get(name)
        runs: dict[str, list[np.ndarray]] = {}
        seeds: dict[str, list[int]] = {}
        for run in (run for run in task.runs if not run.size):
            outcome, said = found(run)
            if not outcome["failed"]:
                start = "pretrained" if run.pretrained else "fresh"
                runs.setdefault(start, []).append(units_of(task, parts[name], said[name], truth))
                seeds.setdefault(start, []).append(run.seed)
        stacked = {start: np.stack(each) for start, each in runs.items()}
        told[name] = Units(task.kind, keys_of(task, parts[name], truth), stacked, seeds)
    return told


def save(out: str, told: Mapping[str, Units]) -> None:
    arrays: dict[str, np.ndarray] = {}
    for part, units in told.items():
        arrays |= {f"{part}/keys": units.keys, f"{part}/kind": np.array(units.kind)}
        for start, runs in units.runs.items():
            arrays |= {f"{part}/{start}": runs, f"{part}/{start}/seeds": np.array(units.seeds[start])}
    body = io.BytesIO()
    np.savez_compressed(body, **arrays)  # type: ignore[arg-type]
    store.write(store.join(out, FILE), body.getvalue())


def load(out: str) -> dict[str, Units]:
    """Of another fine-tuning, by its folder or the result.json in it."""
    folder = out.removesuffix("/result.json")
    uri = store.join(folder, FILE)
    if not store.exists(folder):
        raise ValueError(f"there is no {out}; give the folder of another fine-tuning, or its result.json")
    if not store.exists(uri):
        raise ValueError(
            f"{folder} holds no {FILE} to compare with; run its fine-tuning again: its runs are sealed, so it costs "
            "nothing but their scores"
        )
    with np.load(io.BytesIO(store.read(uri)), allow_pickle=False) as held:
        arrays = {name: held[name] for name in held.files}
    told = {}
    for part in (name.removesuffix("/keys") for name in arrays if name.endswith("/keys")):
        starts = [start for start in ("pretrained", "fresh") if f"{part}/{start}" in arrays]
        runs = {start: arrays[f"{part}/{start}"] for start in starts}
        seeds = {start: arrays[f"{part}/{start}/seeds"].tolist() for start in starts}
        told[part] = Units(str(arrays[f"{part}/kind"]), arrays[f"{part}/keys"], runs, seeds)
    return told
