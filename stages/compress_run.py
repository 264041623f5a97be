"""A compression from files to its table: what the command and the benchmark call.

Promises: files are read as for fine-tuning, with the classes of the model, so that a label it does not know is refused
by row; texts are tokenized by its vocabulary, and cut where it learnt them cut. No text is tested that the model has
learnt, as far as its folder tells (compress_learnt), or that a recovery learns: the first leave the test, the second
train; and no temperature is fitted on what its weights have learnt. Leaves `compressed.json` and `compressed.svg` in
`out`. Refuses the model's own folder as `out`.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from tundish.cluster import store
from tundish.operators.model.quantized import Byte, Table
from tundish.stages.compress import ROUNDS, compress
from tundish.stages.compress_learnt import SEALED, apart, heated, learnt
from tundish.stages.compress_onnx import Session
from tundish.stages.compress_plot import drawn
from tundish.stages.compress_read import HEATED, reader
from tundish.stages.compress_task import KINDS, Means, expanded, learns
from tundish.stages.finetune_files import prepared

PLOT = "compressed.svg"
NAMED = ("classify", "multilabel", "tag")


def run(
    model: str,
    files: Mapping[str, str | Sequence[str]],
    out: str,
    steps: Sequence[str],
    means: Mapping[str, Any] | None = None,
    *,
    tell: Callable[[str], None] = lambda line: None,
    columns: Mapping[str, Any] | None = None,
    length: int = 0,
    threads: int | None = None,
    rounds: int = ROUNDS,
    reading: Mapping[str, Any] | None = None,
    **more: Any,
) -> dict[str, Any]:
    """What `compressed.json` says. `files`: train, and if they are there dev and any tests, by name; `more`: fields of
    the task; `reading`: how they are laid out, as `examples.read` takes it. Refuses what cannot be read before anything
    is trained."""
    how, _ = Means(**(means or {})), expanded(steps)
    _away(model, out)
    whole, known = reader(model), learnt(model)
    kind, forms = whole.task.kind, {type(each) for each in whole.model.modules()}
    if kind not in KINDS or forms & {Byte, Table, Session}:
        raise ValueError(
            f"{model} holds a model for {kind} that no step here can change; give one for {', '.join(KINDS)}, with "
            "weights that are no bytes and no graph"
        )
    options = {"names": whole.names, **(reading or {})} if kind in NAMED else dict(reading or {})
    task, report = prepared(
        model, kind, files, out, columns=columns, length=length or whole.task.length, options=options, scratch=False,
        apart=True, **more,
    )  # fmt: skip
    task, told = apart(task, known)
    if kind in HEATED and any(learns(path) for path in expanded(steps)):
        told |= heated(task, known)
    for sentence in _odd(report):
        tell(sentence)
    own = torch.get_num_threads()
    try:
        torch.set_num_threads(threads or own)
        result = compress(task, how, steps, tell=tell, rounds=rounds, about={"learnt": told}, trained=known.trained)
    finally:
        torch.set_num_threads(own)
    store.write(store.join(out, PLOT), drawn(result).encode())
    return result


def _away(model: str, out: str) -> None:
    """Refuse to write over the model, or over the texts that it has learnt."""
    own, there = store.absolute(model.rstrip("/")), store.absolute(out.rstrip("/"))
    if own == there or (own.rpartition("/")[0] == there and store.exists(store.join(there, SEALED))):
        raise ValueError(
            f"--out {out} is where {model} and the texts that it has learnt lie, and would be written over; give "
            "another folder"
        )


def _odd(report: Mapping[str, Any]) -> list[str]:
    """What is odd about the files. That a test has texts of train is no more so: they left train."""
    gone, told = report["removed_from_train"], [each for each in report["told"] if "--apart" not in each]
    return told + ([f"train: {gone} rows left it, for a test or dev has their texts"] if gone else [])
