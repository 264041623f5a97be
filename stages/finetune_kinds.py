"""What each kind of fine-tuning is: its loss, what is asked of the model afterwards, and the scores of that.

    classify, multilabel   logits (n, C)      accuracy, F1, Matthews; log loss and calibration come later, from them
    regress                numbers (n, 1)     Pearson, Spearman, errors
    tag                    logits (W, C)      of all predicted words, one behind the other; span F1 as seqeval has it
    answer                 scores (T, 2)      of all tokens, one behind the other; exact match and F1 as SQuAD has it
    embed                  vectors (n, 2, D)  how often a text finds what belongs to it first, the mean of 1 / rank
    write                  what is written    see stages/finetune_write

Promises: scores are functions of what was asked, so that they can be worked out again from a sealed run.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from tundish.operators.model import measures
from tundish.operators.model.answer_spans import answers
from tundish.operators.model.batch import IGNORED
from tundish.operators.model.head_losses import (
    Summed,
    class_loss,
    contrast_loss,
    labels_loss,
    number_loss,
    span_loss,
)
from tundish.operators.model.mixout import call
from tundish.operators.model.shape import Shape
from tundish.operators.model.writer import Writer
from tundish.operators.text import answers as squad
from tundish.operators.text import spans
from tundish.stages import finetune_write
from tundish.stages.examples_tags import spanned
from tundish.stages.finetune_rows import Batch, Rows, flattened
from tundish.stages.finetune_task import TuneTask

SMOOTH = {"classify": "classes", "tag": "classes", "multilabel": "labels", "regress": "numbers", "write": "classes"}
Scores = dict[str, float]


def outputs(model: nn.Module, batch: Batch, weights: Mapping[str, Tensor], **more: Any) -> Tensor:
    """What the model gives for a batch, with these weights in the place of its own."""
    if isinstance(model, Writer):
        return finetune_write.outputs(model, batch, weights, **more)
    return call(model, weights, batch.tokens, batch.packed, batch.types, **more)  # type: ignore[no-any-return]


def readied(task: TuneTask, rows: Rows, shape: Shape) -> Rows:
    """The rows as a model of this shape reads them."""
    return finetune_write.fitted(rows, shape, task.writing.longest) if task.kind == "write" else rows


def loss_of(task: TuneTask, found: Tensor, batch: Batch, weights: Tensor | None) -> Summed:
    """`weights` (C,) of classes. Of an embedding `found` are the states of the asking texts, the wanted ones and the
    unwanted ones, one behind the other; a text that several rows want counts against none of them, nor does
    one that a row wants and another one does not."""
    target = batch.target
    if task.kind == "embed":
        count = len(batch.packed.bounds) - 1
        unwanted = found[2 * count :] if len(found) > 2 * count else None
        wanted, heat = found[count : 2 * count], task.temperature
        if batch.unwanted is not None and target is not None and batch.unwanted.target is not None:
            target = torch.cat([target, batch.unwanted.target])
        return contrast_loss(found[:count], wanted, unwanted, temperature=heat, same=target)
    assert target is not None
    if task.kind in ("classify", "tag", "write"):
        return class_loss(found, target, weights=weights, smoothing=task.aids.smoothing)
    if task.kind == "multilabel":
        return labels_loss(found, target, weights=weights)
    if task.kind == "regress":
        return number_loss(found, target.to(found.dtype))
    assert batch.context is not None
    return span_loss(found, batch.packed, batch.context, target[:, 0], target[:, 1])


def counted(task: TuneTask, batch: Batch) -> Tensor | None:
    """Which rows of outputs count, where not all do."""
    return batch.target != IGNORED if task.kind in ("tag", "write") and batch.target is not None else None


@torch.no_grad()
def asked(
    task: TuneTask, model: nn.Module, rows: Rows, device: torch.device, dtype: torch.dtype
) -> dict[str, np.ndarray]:
    """What the model says of every row, as arrays that can be sealed. Rows of like length go through together."""
    if isinstance(model, Writer):
        return finetune_write.asked(task, model, rows, device, dtype)
    model.eval()
    size = 4 * (task.at_once or task.batch)
    order = np.argsort(np.diff(rows.tokens[1]), kind="stable")
    found: list[Any] = [None] * len(rows)
    for at in range(0, len(order), size):
        some = order[at : at + size]
        batch = rows.batch(some, device)
        if task.kind == "embed":
            pair = [outputs(model, each, {}, dtype=dtype) for each in (batch, batch.wanted) if each is not None]
            each = torch.stack(pair, 1).float().cpu().numpy()
        else:
            each = outputs(model, batch, {}, dtype=dtype).float().cpu().numpy()
        if task.kind in ("tag", "answer"):
            each = np.split(each, batch.packed.bounds[1:-1].cpu().numpy())
        for number, one in zip(some.tolist(), each, strict=True):
            found[number] = one
    if task.kind == "tag":
        flat, offsets = flattened(rows.table["firsts"])
        return {
            "logits": np.concatenate([o[flat[a:b] + 1] for o, a, b in zip(found, offsets, offsets[1:], strict=False)])
        }
    if task.kind == "answer":
        return {"logits": np.concatenate(found)}
    return {"logits": np.stack(found)}


def scored(task: TuneTask, rows: Rows, said: Mapping[str, np.ndarray], truth: Any = None) -> Scores:
    """Measures of what was asked of these rows; `truth`: of questions, their answers and contexts."""
    if task.kind == "write":
        return finetune_write.scored(task, rows, said)
    logits = np.asarray(said["logits"], np.float64)
    if task.kind == "classify":
        return of_classes(rows.targets, logits.argmax(1), rows.classes)
    if task.kind == "multilabel":
        return of_labels(rows.targets, logits > 0)
    if task.kind == "regress":
        return of_numbers(rows.targets, logits.reshape(len(rows)))
    if task.kind == "tag":
        return of_tags(task, rows, logits.argmax(1))
    if task.kind == "answer":
        return of_answers(rows, logits, truth)
    return of_pairs(logits, rows.partners)


def of_classes(truth: Any, guesses: np.ndarray, classes: int) -> Scores:
    mean = measures.average(truth, guesses, "macro")
    told = {
        "accuracy": float((truth == guesses).mean()),
        "macro_f1": float(mean.f1),
        "balanced_accuracy": measures.balanced_accuracy(truth, guesses),
        "matthews": measures.matthews(truth, guesses),
    }
    return told | ({"f1": float(measures.per_class(truth, guesses, 2).f1[1])} if classes == 2 else {})


def of_labels(truth: Any, guesses: np.ndarray) -> Scores:
    sets = truth.astype(np.int64), guesses.astype(np.int64)
    told = {f"{how}_f1": float(measures.average(*sets, how).f1) for how in ("micro", "macro", "samples")}
    return told | {"subset_accuracy": measures.subset_accuracy(*sets)}


def of_numbers(truth: Any, guesses: np.ndarray) -> Scores:
    return {
        "spearman": measures.spearman(truth, guesses),
        "pearson": measures.pearson(truth, guesses),
        "squared_error": measures.squared_error(truth, guesses),
        "absolute_error": measures.absolute_error(truth, guesses),
    }


def sentences(rows: Rows, words: np.ndarray, names: Sequence[str] = ()) -> list[list[str]]:
    """Tags of whole sentences, from a number for each word that is predicted (W,), windows put together; by other names
    than the rows have where some are given."""
    names = names or rows.names
    numbers, offsets = flattened(rows.table["words"])
    files, places = _where(rows)
    found: dict[tuple[str, int], dict[int, str]] = {}
    for at, (file, place) in enumerate(zip(files, places, strict=True)):
        mine = found.setdefault((file, place), {})
        here = slice(int(offsets[at]), int(offsets[at + 1]))
        mine |= {int(word): names[int(tag)] for word, tag in zip(numbers[here], words[here], strict=True)}
    return [[tags[word] for word in sorted(tags)] for tags in found.values()]


def true_tags(rows: Rows) -> np.ndarray:
    """(W,) of the words that are predicted."""
    labels, offsets = flattened(rows.table["labels"])
    firsts, starts = flattened(rows.table["firsts"])
    return labels[firsts + np.repeat(offsets[:-1], np.diff(starts))]


def of_tags(task: TuneTask, rows: Rows, guesses: np.ndarray) -> Scores:
    truth = true_tags(rows)
    found = spans.found(*(sentences(rows, each, spanned(rows.names)) for each in (truth, guesses)))
    return {
        "span_f1": float(found.micro.f1),
        "span_precision": float(found.micro.precision),
        "span_recall": float(found.micro.recall),
        "span_macro_f1": float(found.macro.f1),
        "word_accuracy": float((truth == guesses).mean()),
    }


def place_of(file: str, row: int) -> str:
    """What names a question: not every file gives them ids."""
    return f"{file}:{row}"


def answers_of(
    rows: Rows, logits: np.ndarray, truth: Mapping[str, Any]
) -> tuple[list[str], np.ndarray, list[tuple[int, int] | None]]:
    """Of each question, in the order of `truth`, its best text, how far no answer is ahead of it, and where it lies."""
    order = {key: number for number, key in enumerate(truth)}
    begins, offsets = flattened(rows.table["begins"])
    ends, _ = flattened(rows.table["ends"])
    second, sizes = rows.second, np.diff(rows.tokens[1])
    assert second is not None
    bounds = np.concatenate([[0], np.cumsum(sizes + 3)])
    context, places = np.zeros(len(logits), bool), np.zeros((len(logits), 2), np.int64)
    for number in range(len(rows)):
        first, last = int(bounds[number] + second[number] + 2), int(bounds[number + 1]) - 1
        here = slice(int(offsets[number]), int(offsets[number + 1]))
        context[first:last] = True
        places[first:last, 0], places[first:last, 1] = begins[here], ends[here]
    whose = np.array([order[place_of(*where)] for where in zip(*_where(rows), strict=True)])
    texts = [one["context"] for one in truth.values()]
    said = answers(logits, bounds, context, whose, places)
    spoken = [text[slice(*one.text_span)] if one.text_span else "" for text, one in zip(texts, said, strict=True)]
    return spoken, np.array([one.margin for one in said]), [one.text_span for one in said]


def _where(rows: Rows) -> tuple[list[str], list[int]]:
    return rows.table["file"].to_pylist(), rows.table["row"].to_pylist()


def of_answers(rows: Rows, logits: np.ndarray, truth: Mapping[str, Any]) -> Scores:
    guesses, none, _ = answers_of(rows, logits, truth)
    golds = [one["answers"] for one in truth.values()]
    some = any(not gold for gold in golds)  # 2.0: there are questions without an answer
    said = ["" if some and margin > 0 else guess for guess, margin in zip(guesses, none, strict=True)]
    each = squad.answered(golds, said, unanswerable=some)
    return {"f1": float(np.mean(each.f1)), "exact": float(np.mean(each.exact))}


def of_pairs(vectors: np.ndarray, partners: np.ndarray | None = None) -> Scores:
    """(n, 2, D): of each text how it ranks what belongs to it among all."""
    first, rank = ranked(vectors, partners)
    return {"found_first": float(first.mean()), "reciprocal_rank": float((1 / rank).mean())}


def ranked(vectors: np.ndarray, partners: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Of (n, 2, D) the chance of each text to find first what belongs to it, where ties are broken by lot, and the mean
    rank it has then: (n,) and (n,). `partners` (n,) as `Rows.partners` has them: equal texts stand in the ranking once,
    as the vector of the first; all are others unless told. A number that is none lies behind all others."""
    ahead, ties = _behind(vectors, partners)
    return np.where(ahead == 0, 1 / (1 + ties), 0.0), 1 + ahead + ties / 2


def pair_places(vectors: np.ndarray, partners: np.ndarray | None = None) -> np.ndarray:
    """(n,) the place of what belongs to each text, 1 where nothing is ahead of it; as `ranked` counts."""
    return 1 + _behind(vectors, partners)[0]


def _behind(vectors: np.ndarray, partners: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """How many other texts are ahead of the wanted one, and how many stand with it, (n,) and (n,)."""
    distinct, own = np.unique(np.arange(len(vectors)) if partners is None else partners, return_inverse=True)
    return measures.found(vectors[:, 0], vectors[distinct, 1], own=own)


def majority(task: TuneTask, train: Rows, test: Rows, truth: Any = None) -> Scores | None:
    """What saying the most frequent class, no label, the mean, no span, nothing or the first sentence would score; None
    for embeddings."""
    if task.kind == "write":
        return finetune_write.lead(test)
    if task.kind == "classify":
        common = int(np.bincount(_labelled(train.targets)).argmax())
        return of_classes(test.targets, np.full(len(test), common), test.classes)
    if task.kind == "multilabel":
        often = np.asarray(train.targets).mean(0) > 0.5
        return of_labels(test.targets, np.tile(often, (len(test), 1)))
    if task.kind == "regress":
        return of_numbers(test.targets, np.full(len(test), float(np.nanmean(train.targets))))
    if task.kind == "tag":
        tags = true_tags(train)
        return of_tags(task, test, np.full(len(true_tags(test)), int(np.bincount(tags[tags >= 0]).argmax())))
    if task.kind == "answer":
        each = squad.answered([one["answers"] for one in truth.values()], [""] * len(truth))
        return {"f1": float(np.mean(each.f1)), "exact": float(np.mean(each.exact))}
    return None


def _labelled(labels: Any) -> np.ndarray:
    return np.asarray(labels)[np.asarray(labels) >= 0]
