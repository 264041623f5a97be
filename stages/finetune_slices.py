"""Where a fine-tuned model falls short: its score on slices of a tested part, from what sealed runs said.

    units of   classify, multilabel, regress, embed: an example; tag: a sentence; answer: a question
    by         length (thirds), value (thirds), context length, label or entity type, question word, pieces unknown to
               the vocabulary, pieces a word (thirds), and columns of the files that the user names
    score      accuracy, found first, answers' F1 (Wilson's interval, which holds for means of numbers from 0 to 1, for
               none varies more than a share does); micro F1, span F1, absolute error (bootstrap)

Seeds answer the same units: a unit's score is its mean over them, and an interval is one over units alone, taken as
drawn one by one: of questions about few contexts it is too narrow. A slice is `worse` where its interval lies wholly on
the bad side of the whole's; one of many slices may be so by chance.

Promises: a function of what was said; no training. Costs a bootstrap a slice, of counts. Slices of fewer than `FEW`
units have no bootstrap interval. What splits a part into one slice only is left out, and so are slices in which no
label or entity is true (no F1 can say how they fare) and kinds without a score of each unit.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from tundish.cluster import store
from tundish.operators.model import certainty
from tundish.operators.text import answers as squad
from tundish.operators.text import spans, tokenizer
from tundish.operators.text.word_begins import begins
from tundish.stages import finetune_units
from tundish.stages.examples_tags import spanned
from tundish.stages.finetune_beside import COLUMN, columns_of
from tundish.stages.finetune_kinds import answers_of, place_of, sentences, true_tags
from tundish.stages.finetune_rows import Rows
from tundish.stages.finetune_task import TuneTask

FEW, MOST, SAMPLES = 10, 20, 1000
OTHERS, NONE = "all others", "(none)"
MEASURES = {
    "classify": "accuracy",
    "multilabel": "micro_f1",
    "regress": "absolute_error",
    "tag": "span_f1",
    "answer": "f1",
    "embed": "found_first",
}
SHARES = ("accuracy", "found_first", "f1")  # means of numbers from 0 to 1
ERRORS = ("absolute_error",)  # the lower the better
ASKED = ("who", "whom", "whose", "what", "when", "where", "which", "why", "how")


class Units(NamedTuple):
    """`counts` (u, k) float64, means over seeds, of which `measure` is a score. `whose` (rows,): the unit of each row
    of the part's table."""

    counts: np.ndarray
    measure: Callable[[np.ndarray], float]
    whose: np.ndarray


class Slice(NamedTuple):
    """`here` (u,) bool. `counts`: in place of the units' own; `n`: in place of how many units there are."""

    name: str
    here: np.ndarray
    counts: np.ndarray | None = None
    n: int | None = None


class Family(NamedTuple):
    by: str
    of: str  # what n counts
    slices: list[Slice]


Said = Sequence[np.ndarray]  # of each seed the logits


def sliced(
    task: TuneTask, rows: Rows, said: Said, truth: Any, beside: Sequence[Mapping[str, Any]]
) -> dict[str, Any] | None:
    """Scores of the whole part and of its slices. `truth`: of questions, their answers and contexts; `beside`: of each
    row as `finetune_beside.kept` has it."""
    if task.kind not in MEASURES or not len(rows) or not said:
        return None
    units, measure = units_of(task, rows, said, truth), MEASURES[task.kind]
    whole = _told(measure, units, Slice("all", np.ones(len(units.counts), bool)))
    families = [*_by_truth(task, rows, said, truth, units), *_by_row(task, rows, units, beside)]
    told = [{"by": each.by, "of": each.of, "slices": _each(measure, units, each, whole)} for each in families]
    return {"measure": measure, "whole": whole, "by": [each for each in told if len(each["slices"]) > 1]}


def _each(measure: str, units: Units, family: Family, whole: Mapping[str, Any]) -> list[dict[str, Any]]:
    told = [_told(measure, units, each) for each in family.slices if each.here.any() and _sought(units, each)]
    return [each | {"worse": _worse(measure, each, whole)} for each in told if each["score"] is not None]


def _sought(units: Units, one: Slice) -> bool:
    """Whether there is anything to find: where not, F1 is 0 by construction as soon as anything is said."""
    counts = (units.counts if one.counts is None else one.counts)[one.here]
    return counts.shape[1] != 3 or bool(counts[:, 2].any())


def _told(measure: str, units: Units, one: Slice) -> dict[str, Any]:
    counts = (units.counts if one.counts is None else one.counts)[one.here]
    number = int(one.here.sum()) if one.n is None else one.n
    empty = counts.shape[1] == 3 and not counts[:, 1:].any()  # nothing to find and nothing found: no F1
    score = None if empty else units.measure(counts)
    told: dict[str, Any] = {"name": one.name, "n": number, "score": score, "interval": None}
    if measure in SHARES:
        found = certainty.wilson(float(counts.sum()), len(counts))  # type: ignore[arg-type]
        told["interval"] = [found.low, found.high]
    elif score is not None and len(counts) >= FEW:
        found = certainty.bootstrap(units.measure, counts, seed=0, samples=SAMPLES)
        if found.low == found.high and measure not in ERRORS:  # all or none were found: no spread to draw from
            right, guessed, true = counts.sum(0)
            found = certainty.wilson(float(right), max(1.0, float(guessed + true) / 2))  # type: ignore[arg-type]
        told["interval"] = [found.low, found.high]
    return told


def _worse(measure: str, one: Mapping[str, Any], whole: Mapping[str, Any]) -> bool:
    if not one["interval"] or not whole["interval"]:
        return False
    (low, high), (least, most) = one["interval"], whole["interval"]
    return bool(low > most if measure in ERRORS else high < least)


# -- units and what is counted of them


def units_of(task: TuneTask, rows: Rows, said: Said, truth: Any) -> Units:
    """What is counted of every unit, as means over seeds. Unlike those that two fine-tunings are compared by
    (stages/finetune_units), a question is a unit of its own, and what is told of a number is its error."""
    whose = np.arange(len(rows))
    if task.kind == "regress":
        truth = np.asarray(rows.targets, np.float64)[:, None]
        each = [np.abs(np.asarray(one, np.float64).reshape(truth.shape) - truth) for one in said]
        return Units(np.mean(each, 0), _mean, whose)
    if task.kind == "answer":
        numbers = {place: at for at, place in enumerate(truth)}
        files, places = rows.table["file"].to_pylist(), rows.table["row"].to_pylist()
        whose = np.array([numbers[place_of(*each)] for each in zip(files, places, strict=True)])
        return Units(np.mean([answered(rows, one, truth)[1] for one in said], 0)[:, None], _mean, whose)
    each = [finetune_units.units_of(task, rows, {"logits": one}, truth) for one in said]
    whose = grouped(rows)[0] if task.kind == "tag" else whose
    return Units(np.mean(each, 0), finetune_units.measure_of(task.kind), whose)


def _mean(counts: np.ndarray) -> float:
    return float(counts.mean())


def grouped(rows: Rows) -> tuple[np.ndarray, int]:
    """Of each row of tagged windows the number of its sentence, in the order in which `sentences` has them."""
    places = zip(rows.table["file"].to_pylist(), rows.table["row"].to_pylist(), strict=True)
    seen: dict[tuple[str, int], int] = {}
    whose = np.array([seen.setdefault(each, len(seen)) for each in places], np.int64)
    return whose, len(seen)


def answered(rows: Rows, logits: np.ndarray, truth: Mapping[str, Any]) -> tuple[list[str], np.ndarray]:
    """What is said to each question, "" where there being no answer is ahead, and its F1 as SQuAD has it."""
    guesses, none, _ = answers_of(rows, np.asarray(logits, np.float64), truth)
    golds = [one["answers"] for one in truth.values()]
    some = any(not gold for gold in golds)
    said = ["" if some and margin > 0 else guess for guess, margin in zip(guesses, none, strict=True)]
    return said, squad.answered(golds, said, unanswerable=some).f1


# -- families


def _by_truth(task: TuneTask, rows: Rows, said: Said, truth: Any, units: Units) -> list[Family]:
    """By what is true of a unit."""
    if task.kind == "classify":
        return [named("label", [rows.names[each] for each in np.asarray(rows.targets)])]
    if task.kind == "multilabel":
        held = np.asarray(rows.targets) > 0
        each = [Slice(name, held[:, at]) for at, name in enumerate(rows.names)]
        each = sorted(each, key=lambda one: -int(one.here.sum()))[:MOST]
        return [Family("label", "examples", each)]
    if task.kind == "regress":
        return [Family("value", "examples", thirds(np.asarray(rows.targets, np.float64)))]
    if task.kind == "tag":
        return [Family("type", "spans", _types(rows, said))]
    if task.kind == "answer":
        sizes = np.array([len(one["context"]) for one in truth.values()])
        holds = ["has an answer" if one["answers"] else "has none" for one in truth.values()]
        return [Family("characters of context", "questions", thirds(sizes)), named("answer", holds, "questions")]
    return []


def _types(rows: Rows, said: Said) -> list[Slice]:
    """Spans of each entity type by themselves, all other tags taken for O; by how many there are."""
    names = spanned(rows.names)
    truth = sentences(rows, true_tags(rows), names)
    guesses = [sentences(rows, one.argmax(1), names) for one in said]
    kinds, tally = spans.tallied(truth, truth)
    found = []
    for at in np.argsort(-tally.true, kind="stable")[:MOST]:
        only = [_only(each, kinds[at]) for each in (truth, *guesses)]
        counts = np.mean([np.stack(spans.by_sentence(only[0], each), 1) for each in only[1:]], 0)
        found.append(Slice(kinds[at], counts[:, 1:].any(1), counts, int(tally.true[at])))
    return found


def _only(tags: spans.Tags, kind: str) -> list[list[str]]:
    return [[tag if (tag[2:] or "_") == kind and tag != "O" else "O" for tag in each] for each in tags]


def _by_row(task: TuneTask, rows: Rows, units: Units, beside: Sequence[Mapping[str, Any]]) -> list[Family]:
    """By what is known of a unit's tokens and of its row in the file."""
    of = {"tag": "sentences", "answer": "questions"}.get(task.kind, "examples")
    count, sizes = len(units.counts), np.diff(rows.tokens[1])
    pieces = np.bincount(units.whose, weights=sizes, minlength=count)
    families = [Family("length in pieces", of, thirds(pieces))] if task.kind != "answer" else []
    odd, opening = _vocabulary(task.out, int(rows.tokens[0].max(initial=0)))
    owners = units.whose[np.repeat(np.arange(len(rows)), sizes)]  # the unit of each piece
    if odd is not None:
        strange = np.bincount(owners, weights=odd[rows.tokens[0]], minlength=count) > 0
        families.append(named("pieces", ["unknown pieces" if each else "all known" for each in strange], of))
    if opening is not None:
        words = np.bincount(owners, weights=opening[rows.tokens[0]], minlength=count)
        families.append(Family("pieces a word", of, thirds(np.round(pieces / np.maximum(words, 1), 2))))
    first = np.full(count, -1)
    first[units.whose[::-1]] = np.arange(len(rows))[::-1]
    rest = [beside[at] if at >= 0 else {} for at in first]
    if task.kind == "answer" and any(rest):
        families.append(named("question word", [asked(each.get("text") or "") for each in rest], of))
    for column in columns_of(rest):
        families.append(named(column.removeprefix(COLUMN), [each.get(column) or NONE for each in rest], of))
    return families


def _vocabulary(out: str, most: int) -> tuple[np.ndarray | None, np.ndarray | None]:
    """Which ids are of unknown characters or single bytes, and which begin a word, by the vocabulary beside a result;
    None where there is none, or where it does not tell."""
    place = next((p for p in (store.join(out, f) for f in (tokenizer.MODEL, tokenizer.JSON)) if store.exists(p)), None)
    if place is None:
        return None, None
    body = store.read(place)
    odd = tokenizer.load(body).odd
    try:
        opening = begins(body)
    except ValueError:  # its pieces tell where a word ends
        opening = None
    return tuple(each if each is not None and len(each) > most else None for each in (odd, opening))  # type: ignore[return-value]


def asked(question: str) -> str:
    """The question word that comes first in it.

    >>> asked("In what year did it end?"), asked("Is it so?")
    ('what', 'no question word')
    """
    words = "".join(each if each.isalpha() else " " for each in question.lower()).split()
    return next((each for each in words if each in ASKED), "no question word")


def named(by: str, values: Sequence[str], of: str = "examples") -> Family:
    """A slice for each value, the most frequent first, and one for all that are rarer than `MOST` of them."""
    array = np.array(values, dtype=object)
    names, counts = np.unique(array, return_counts=True)
    order = sorted(range(len(names)), key=lambda at: (-counts[at], names[at]))
    kept = [Slice(str(names[at]), array == names[at]) for at in order[:MOST]]
    rare = np.isin(array, [names[at] for at in order[MOST:]])
    return Family(by, of, [*kept, *([Slice(OTHERS, rare)] if rare.any() else [])])


def thirds(values: np.ndarray) -> list[Slice]:
    """Three slices by size, equal values never parted; fewer where values are few.

    >>> [(one.name, int(one.here.sum())) for one in thirds(np.array([1, 1, 2, 3, 4, 9]))]
    [('1', 2), ('2 to 3', 2), ('4 to 9', 2)]
    """
    low, high = np.quantile(values, [1 / 3, 2 / 3], method="inverted_cdf")
    parts = [values <= low, (values > low) & (values <= high), values > high]
    return [Slice(_ends(values[each]), each) for each in parts if each.any()]


def _ends(values: np.ndarray) -> str:
    return " to ".join(f"{each:.4g}" for each in sorted({values.min(), values.max()}))
