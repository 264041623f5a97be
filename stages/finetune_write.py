"""Text to text: what is learnt of a source and its target, what a model writes afterwards, and how good that is.

    ids, offsets        what is written of every row, one behind the other, and where each begins
    ended               whether it came to an end by itself before `longest` tokens
    nats, counts        the loss of the first target, summed over its tokens and its end, and how many these are
    cut                 tokens that the source and the target lost; of a decoder they share its room

Told of it: ROUGE-1, -2 and -L (F1, stems, the best of several references, each as rouge-score has it), the share that
is a reference letter by letter but for white space, the loss a token in nats, the share that ended, and what share of
sources and targets were cut. Beside it stands the lead: the first sentence of every source.

Promises: scores are functions of what was sealed and of the tokenizer; of a decoder source and target lie in one
document and nothing is learnt of the source; prompts do not depend on targets; draws depend on a row's number in its
file and no other row. Costs of a decoder a forward pass a token that is written (keys and values are kept), times the
beams. Refuses encoders alone, and texts to write that leave no room for a source. ROUGE knows ASCII letters and digits
alone: of texts in another script only the share of equal ones says something.
"""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import torch
import torch.nn.functional as F
from torch import Tensor

from tundish.cluster import store
from tundish.operators.model.batch import IGNORED
from tundish.operators.model.generate import Written, generate
from tundish.operators.model.head_losses import wide
from tundish.operators.model.mixout import call
from tundish.operators.model.shape import Shape
from tundish.operators.model.writer import Writer, check
from tundish.operators.text.rouge import rouges
from tundish.operators.text.spelling import Speller, speller
from tundish.operators.text.tokenizer import JSON, MODEL
from tundish.stages.examples_tokens import Flat
from tundish.stages.finetune_rows import Batch, Rows, flattened
from tundish.stages.finetune_task import TuneTask
from tundish.stages.language_model import vocabulary_in

KINDS = ("1", "2", "L")
MEASURED = ("rouge_1", "rouge_2", "rouge_l", "exact")


def fitted(rows: Rows, shape: Shape, longest: int) -> Rows:
    """The rows as a model of this shape reads them: of a decoder, source and `longest` tokens of a target (its end
    included) in one document. What is fitted stays. Raises ValueError where the model writes nothing, or not so much.
    """
    check(shape)
    most = shape.length // (2 if shape.stack == "decoder" else 1)
    if (shape.stack == "decoder" or shape.positions == "learned") and longest > most:
        raise ValueError(
            f"{longest} tokens are to be written, and the model reads {shape.length}, of a decoder with the source; "
            f"set longest to at most {most}"
        )
    if rows.stack:
        return rows
    if shape.stack == "pair":
        return replace(rows, stack=shape.stack)
    table = rows.table
    for name, room in (("tokens", shape.length - longest - 1), ("target", longest - 1)):  # of [CLS], [SEP], the end
        flat, offsets = flattened(table[name])
        sizes = np.diff(offsets)
        kept = np.minimum(sizes, room)
        shorter = Flat(flat, sizes).cut(kept).array(table[name].is_null().to_numpy())
        lost = pa.array(table[f"cut_{name}"].to_numpy() + sizes - kept)
        for column, now in ((name, shorter), (f"cut_{name}", lost)):
            place = table.column_names.index(column)
            table = table.set_column(place, table.schema.field(place), now)
    return replace(rows, stack="decoder", table=table)


def outputs(model: Writer, batch: Batch, weights: Mapping[str, Tensor], **more: Any) -> Tensor:
    """Scores (K, V) of what a batch's model is asked for, with these weights in the place of its own."""
    if batch.wanted is None:
        return call(model, weights, batch.tokens, batch.packed, places=batch.context, **more)  # type: ignore[no-any-return]
    theirs = batch.wanted.tokens, batch.wanted.packed
    return call(model, weights, batch.tokens, batch.packed, *theirs, **more)  # type: ignore[no-any-return]


@torch.no_grad()
def asked(task: TuneTask, model: Writer, rows: Rows, device: torch.device, dtype: torch.dtype) -> dict[str, np.ndarray]:
    """What the model writes to every row, and the loss of what it should have. Rows of like length go together."""
    model.eval()
    rows = fitted(rows, model.encoder.shape, task.writing.longest)
    sizes, size = np.diff(rows.tokens[1]), max(1, 4 * (task.at_once or task.batch) // task.writing.beams)
    order, keys = np.argsort(sizes, kind="stable"), rows.table["row"].to_numpy()
    found: list[Written | None] = [None] * len(rows)
    nats, counts = np.full(len(rows), np.nan), np.zeros(len(rows), np.int64)
    known = rows.table["target"].is_valid().to_numpy()
    for some in (order[at : at + size] for at in range(0, len(order), size)):
        for row, one in zip(some.tolist(), _written(task, model, rows, some, keys), strict=True):
            found[row] = one
        told = some[known[some]]
        if len(told):
            nats[told], counts[told] = _losses(model, rows, told, device, dtype)
    texts = [np.array(one.tokens if one else (), np.int64) for one in found]
    return {
        "ids": np.concatenate(texts).astype(np.int32),
        "offsets": np.cumsum([0, *map(len, texts)]),
        "ended": np.array([one is not None and one.ended for one in found]),
        "nats": nats,
        "counts": counts,
        "cut": np.stack([rows.table[f"cut_{name}"].to_numpy() for name in ("tokens", "target")], 1),
    }


def _written(task: TuneTask, model: Writer, rows: Rows, some: np.ndarray, keys: np.ndarray) -> list[Written]:
    """The best text of each row."""
    prompts = [rows.prompt(int(row)).tolist() for row in some]
    start = [rows.specials["[PAD]"]] if rows.stack == "pair" else []
    ends, own = [rows.specials["[SEP]"]], keys[some].tolist()
    return [each[0] for each in generate(model.encoder, prompts, task.writing, ends=ends, start=start, keys=own)]


def _losses(
    model: Writer, rows: Rows, some: np.ndarray, device: torch.device, dtype: torch.dtype
) -> tuple[np.ndarray, np.ndarray]:
    """(n,) nats of the targets of some rows, and how many tokens count."""
    batch = rows.batch(some, device)
    assert batch.target is not None
    scores = wide(outputs(model, batch, {}, dtype=dtype))
    each = F.cross_entropy(scores, batch.target, ignore_index=IGNORED, reduction="none").double().cpu().numpy()
    starts = np.cumsum([0, *(np.diff(rows.wanted[1])[some] + 1)])[:-1]
    counted = (batch.target != IGNORED).long().cpu().numpy()
    return np.add.reduceat(each, starts), np.add.reduceat(counted, starts)


def spelling(task: TuneTask) -> Speller:
    """What spells the ids of a task: by the vocabulary beside its parts, else that of its model."""
    for name in (MODEL, JSON):
        if store.exists(uri := store.join(task.out, name)):
            return speller(store.read(uri))
    return speller(vocabulary_in(task.model))


def texts_of(spell: Speller, said: Mapping[str, np.ndarray]) -> list[str]:
    """What was written of each row."""
    ends = said["offsets"].tolist()
    return spell(said["ids"][first:last].tolist() for first, last in itertools.pairwise(ends))


def scored(task: TuneTask, rows: Rows, said: Mapping[str, np.ndarray]) -> dict[str, float]:
    tokens = max(1, int(said["counts"].sum()))
    return of_texts(rows.table["references"].to_pylist(), texts_of(spelling(task), said)) | {
        "loss": float(np.nansum(said["nats"]) / tokens),
        "ended": float(said["ended"].mean()),
        "sources_cut": float((said["cut"][:, 0] > 0).mean()),
        "targets_cut": float((said["cut"][:, 1] > 0).mean()),
    }


def of_texts(truths: Sequence[Sequence[str]], guesses: Sequence[str]) -> dict[str, float]:
    """Means over rows, each against the best of its true texts."""
    found = rouges(truths, guesses, KINDS, stem=True)
    same = [_plain(guess) in map(_plain, each) for each, guess in zip(truths, guesses, strict=True)]
    means = [float(found[kind][:, 2].mean()) for kind in KINDS]
    return dict(zip(MEASURED, [*means, float(np.mean(same))], strict=True))


def _plain(text: str) -> str:
    return " ".join(text.split())


def lead(rows: Rows) -> dict[str, float]:
    """What the first sentence of every source scores."""
    return of_texts(rows.table["references"].to_pylist(), rows.table["lead"].to_pylist())
