"""Grade: what a model that Finetune has tuned to classes makes of each document, as one number beside it.

    grade             float64 in [0, 1]: the value of the class to expect, lowest to highest value
    grade_<label>     float32: the probability of each class

A class is worth the number it is called by (`0` to `5`), or what `values` says. A text is read as Finetune read it:
the same pieces, its first `length` of them (stages/predict_corpus). Null for a blank text. Promises: the same grade, to
1e-5, in whatever company and on any number of workers. Costs one forward pass a document. Refuses labels without a
value, and models of other tasks.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa

from tundish.cluster.map import map_
from tundish.cluster.shards import Dataset
from tundish.cluster.verbs import At, Cluster, Job
from tundish.stages.predict_corpus import Asking, asking
from tundish.stages.stage import Place, Stage


@dataclass(frozen=True)
class Grade(Stage):
    """`classifier`: what Finetune gives, calibrated as its result has it. `values`: label -> what it is worth, when
    labels are no numbers."""

    version: ClassVar[int] = 2
    makes: ClassVar[tuple[str, ...]] = ("grade",)
    wants: ClassVar[Mapping[str, tuple[str, ...]]] = {"documents": ("id", "text"), "classifier": ("classifier",)}

    documents: Stage
    classifier: Stage
    values: Mapping[str, float] | None = None

    def run(self, cluster: Cluster, inputs: Mapping[str, Dataset], out: Place) -> Dataset:
        ask = asking(inputs["classifier"], getattr(self.classifier, "length", 0), ("classify",), calibrated=True)
        graded = Graded(ask, self._worth(list(ask.names)))
        job = Job(graded, (out.target(salt=ask.digest),), about={**out.about, "model": ask.digest})
        [(dataset,)] = map_(cluster, "Grade", [job], inputs["documents"].select("id", "text"))
        return dataset

    def _worth(self, names: list[str]) -> tuple[float, ...]:
        """Each class's value, the lowest 0 and the highest 1."""
        worth = dict(self.values) if self.values is not None else {n: float(n) for n in names if _number(n)}
        lacking = [name for name in names if name not in worth]
        if lacking:
            raise ValueError(
                f"Grade does not know what the label {lacking[0]!r} is worth; set values for {', '.join(names)}"
            )
        known = np.array([worth[name] for name in names])
        if not np.isfinite(known).all() or known.min() == known.max():
            raise ValueError(f"Grade.values are {known.tolist()}; give at least two different numbers")
        return tuple(((known - known.min()) / (known.max() - known.min())).tolist())


def _number(text: str) -> bool:
    try:
        return np.isfinite(float(text))
    except ValueError:
        return False


@dataclass(frozen=True)
class Graded:
    """Documents -> grades."""

    gpu: ClassVar[bool] = True

    ask: Asking
    worth: tuple[float, ...]

    def __call__(self, batch: pa.Table, at: At) -> pa.Table:
        found, none = self.ask(batch["text"])
        columns: dict[str, Any] = {"grade": pa.array(np.clip(found @ np.array(self.worth), 0.0, 1.0), mask=none)}
        for number, name in enumerate(self.ask.names):
            columns[f"grade_{name}"] = pa.array(found[:, number].astype(np.float32), mask=none)
        return pa.table({"id": batch["id"], **columns})
