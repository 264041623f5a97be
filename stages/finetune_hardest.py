"""The examples a fine-tuned model gets most wrong, with their texts, and labels that are worth a second look.

    classify, multilabel   the least likely true label, or set of labels: `probability`, mean over seeds
    regress                the largest `error`
    tag                    the sentences with the most words wrong, as `words` (a mean over seeds)
    answer                 the lowest `f1`, a mean over seeds
    embed                  the text that stands furthest behind others: `rank` of what belongs to it

A label is worth a second look where every seed gives the same other one, each with a probability at least as high as
that label has, on average, on the examples that bear it: the thresholds of confident learning (Northcutt et al. 2021,
section 3.1), by models that were not trained on these examples. The model may be wrong, too.

Promises: a function of what was said. Costs a sort. Texts are there where `finetune_beside` kept them.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tundish.operators.model import calibration
from tundish.stages.finetune_beside import SHOWN, cut
from tundish.stages.finetune_kinds import pair_places, sentences, true_tags
from tundish.stages.finetune_rows import Rows
from tundish.stages.finetune_slices import answered, grouped
from tundish.stages.finetune_task import TuneTask

MOST, WORDS = 20, 6
ROUND = 6
Beside = Sequence[Mapping[str, Any]]


def hardest(task: TuneTask, rows: Rows, said: Sequence[np.ndarray], truth: Any, beside: Beside) -> list[dict[str, Any]]:
    """The hardest first, `MOST` of them; arguments as `finetune_slices.sliced` takes them."""
    if not len(rows) or not said:
        return []
    if task.kind == "classify":
        return _classified(rows, said, beside)
    if task.kind == "multilabel":
        return _labelled(rows, said, beside)
    if task.kind == "regress":
        return _valued(rows, said, beside)
    if task.kind == "tag":
        return _tagged(rows, said, beside)
    if task.kind == "answer":
        return _answered(rows, said, truth, beside)
    return _paired(rows, said, beside) if task.kind == "embed" else []


def place(rows: Rows, at: int, beside: Beside) -> dict[str, Any]:
    """Where a row lies, and what is known of its text."""
    told = {"file": rows.table["file"][at].as_py(), "row": rows.table["row"][at].as_py()}
    known = beside[at] if at < len(beside) else {}
    return told | {name: known[name] for name in ("text", "second") if known.get(name) is not None}


def _share(value: float) -> float:
    return round(float(value), ROUND)


def _classified(rows: Rows, said: Sequence[np.ndarray], beside: Beside) -> list[dict[str, Any]]:
    shares = np.mean([calibration.softmax(one) for one in said], 0)
    truth = np.asarray(rows.targets).astype(np.int64)
    own = shares[np.arange(len(truth)), truth]
    return [
        place(rows, at, beside)
        | {"label": rows.names[truth[at]], "guess": rows.names[int(shares[at].argmax())]}
        | {"probability": _share(own[at])}
        for at in np.argsort(own, kind="stable")[:MOST].tolist()
    ]


def _labelled(rows: Rows, said: Sequence[np.ndarray], beside: Beside) -> list[dict[str, Any]]:
    shares, held = np.mean([calibration.sigmoid(one) for one in said], 0), np.asarray(rows.targets) > 0
    own = np.where(held, shares, 1 - shares).prod(1)
    return [
        place(rows, at, beside)
        | {"label": _names(rows, held[at]), "guess": _names(rows, shares[at] > 0.5), "probability": _share(own[at])}
        for at in np.argsort(own, kind="stable")[:MOST].tolist()
    ]


def _names(rows: Rows, held: np.ndarray) -> str:
    return ", ".join(rows.names[at] for at in np.flatnonzero(held)) or "none"


def _valued(rows: Rows, said: Sequence[np.ndarray], beside: Beside) -> list[dict[str, Any]]:
    truth = np.asarray(rows.targets, np.float64)
    guess = np.mean([np.asarray(one, np.float64).reshape(len(truth)) for one in said], 0)
    errors = np.abs(guess - truth)
    return [
        place(rows, at, beside)
        | {"label": f"{truth[at]:.4g}", "guess": f"{guess[at]:.4g}", "error": _share(errors[at])}
        for at in np.argsort(-errors, kind="stable")[:MOST].tolist()
    ]


def _tagged(rows: Rows, said: Sequence[np.ndarray], beside: Beside) -> list[dict[str, Any]]:
    truth = sentences(rows, true_tags(rows))
    each = [sentences(rows, one.argmax(1)) for one in said]
    wrong = [np.mean([[a != b for a, b in zip(tags, one[at], strict=True)] for one in each], 0) for at, tags in
             enumerate(truth)]  # fmt: skip
    owner = grouped(rows)[0]
    first = [int(at) for at in np.unique(owner, return_index=True)[1]]
    order = np.argsort([-each.sum() for each in wrong], kind="stable")[:MOST].tolist()
    return [
        known | _words(truth[at], each[0][at], known.get("text", "")) | {"words": _share(wrong[at].sum())}
        for at, known in ((at, place(rows, first[at], beside)) for at in order)
        if wrong[at].any()
    ]


def _words(truth: Sequence[str], guess: Sequence[str], text: str) -> dict[str, str]:
    """The words that the first seed tags otherwise, or their numbers from 1 where the text is not whole."""
    words = text.split(" ")
    names = words if len(words) == len(truth) else [str(at) for at in range(1, len(truth) + 1)]
    odd = [at for at, (one, other) in enumerate(zip(truth, guess, strict=True)) if one != other]
    more = f" and {len(odd) - WORDS} more" if len(odd) > WORDS else ""
    told = {"label": truth, "guess": guess}
    return {key: ", ".join(f"{names[at]} {tags[at]}" for at in odd[:WORDS]) + more for key, tags in told.items()}


def _answered(rows: Rows, said: Sequence[np.ndarray], truth: Mapping[str, Any], beside: Beside) -> list[dict[str, Any]]:
    found = [answered(rows, one, truth) for one in said]
    score = np.mean([each[1] for each in found], 0)
    numbers = {where: at for at, where in enumerate(truth)}
    places = zip(rows.table["file"].to_pylist(), rows.table["row"].to_pylist(), strict=True)
    first: dict[int, int] = {}
    for at, (file, row) in enumerate(places):
        first.setdefault(numbers[f"{file}:{row}"], at)
    contexts, told = list(truth.values()), []
    for at in np.argsort(score, kind="stable")[:MOST].tolist():
        one = contexts[at]
        said_here = {
            "label": " | ".join(dict.fromkeys(one["answers"])) or "(none)",
            "guess": found[0][0][at] or "(none)",
        }
        known = place(rows, first[at], beside)
        told.append(known | said_here | {"second": around(one), "f1": _share(score[at])})
    return told


def around(question: Mapping[str, Any]) -> str:
    """The part of a context in which its first answer stands.

    >>> around({"context": "a" * 500 + "b", "answers": ["b"]}) == "…" + "a" * 150 + "b"
    True
    """
    text = question["context"]
    at = text.find(question["answers"][0]) if question["answers"] else 0
    begin = max(0, at - SHOWN // 2)
    return ("…" if begin else "") + cut(text[begin:], SHOWN - 1)


def _paired(rows: Rows, said: Sequence[np.ndarray], beside: Beside) -> list[dict[str, Any]]:
    each = (np.asarray(one, np.float64) for one in said)
    rank = np.mean([pair_places(one, rows.partners) for one in each], 0)
    order = np.argsort(-rank, kind="stable")[:MOST].tolist()
    return [place(rows, at, beside) | {"rank": _share(rank[at])} for at in order if rank[at] > 1]


def suspects(rows: Rows, said: Sequence[np.ndarray], heats: Sequence[float], beside: Beside) -> dict[str, Any]:
    """How many labels are worth a second look, and the `MOST` whose other label is furthest ahead. `heats`: the
    temperature of each seed, if one was fitted."""
    several = heats if len(heats) == len(said) else [1.0] * len(said)
    each = np.stack([calibration.softmax(one, heat) for one, heat in zip(said, several, strict=True)])
    truth, shares = np.asarray(rows.targets).astype(np.int64), each.mean(0)
    guesses = each.argmax(2)
    other = guesses[0]
    least = np.full((len(each), rows.classes), np.inf)  # of each seed, as it was with others of the class
    for at in np.unique(truth).tolist():
        least[:, at] = each[:, truth == at, at].mean(1)
    row = np.arange(len(truth))
    agreed = (guesses == other).all(0) & (other != truth) & (each[:, row, other] >= least[:, other]).all(0)
    ahead = np.where(agreed, shares[row, other] - shares[row, truth], -np.inf)
    order = np.argsort(-ahead, kind="stable")[: min(MOST, int(agreed.sum()))].tolist()
    shown = [
        place(rows, at, beside)
        | {"label": rows.names[truth[at]], "guess": rows.names[int(other[at])]}
        | {"probability": _share(shares[at, truth[at]]), "other": _share(shares[at, other[at]])}
        for at in order
    ]
    return {"count": int(agreed.sum()), "of": len(truth), "seeds": len(said), "examples": shown}
