"""Identify: each document's language and script and how sure the model is, beside it.

    language     the most likely (null for a blank text)
    confidence   how likely, from 0 to 1 (0 for a blank text)
    margin       by how much it is more likely than the next
    script       most letters are of it (ISO 15924; null without letters)
    candidates   `top` above 1: so many languages with their scores, the likeliest first
    shares       `lines`: which share of the bytes is of which language, line by line, the largest first

Promises: the label and likelihood fastText gives for the whole text, whatever is in the same batch. Costs some 20 ns a
byte, as much again with `lines`. Refuses a file that is no supervised fastText model.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import pyarrow as pa

from tundish.cluster.assets import asset, digest
from tundish.cluster.verbs import At
from tundish.operators.text import language
from tundish.stages.stage import Columns, Stage

FIRST = ("language", "confidence", "margin", "script")


@dataclass(frozen=True)
class Identify(Columns):
    """`model`: `lid.176` (fastText's, 176 languages, put in place by `make`) or a path to another fastText model, such
    as GlotLID's, OpenLID's or one of `tundish train-language`. `codes`: `short` makes the labels of such models
    (`deu_Latn`) the codes that rules know languages by (`de`); `model` leaves them as they are."""

    version: ClassVar[int] = 2
    needs: ClassVar[tuple[str, ...]] = ("text",)
    wants: ClassVar[Mapping[str, tuple[str, ...]]] = {"documents": ("id", "text")}

    documents: Stage
    model: str = "lid.176"
    top: int = 1
    lines: bool = False
    codes: Literal["short", "model"] = "short"

    def check(self) -> None:
        if self.top < 1:
            raise ValueError(f"Identify.top is {self.top}; make it at least 1")

    @property
    def makes(self) -> tuple[str, ...]:  # type: ignore[override]
        return (*FIRST, *(("candidates",) if self.top > 1 else ()), *(("shares",) if self.lines else ()))

    def outside(self) -> list[dict[str, Any]]:
        return [{"model": self.model.rsplit("/", 1)[-1], "digest": digest(asset(self.model))}]

    def prepare(self) -> None:
        """Compiles the kernels, and refuses a file that is no model before any work is handed out."""
        language.identify(pa.array(["Warm text,\n東京へ"], pa.large_string()), self._model(), lines=True)

    def columns(self, batch: pa.Table, at: At) -> pa.Table:
        texts, own = batch["text"].combine_chunks(), self.codes == "model"
        found = language.identify(texts, self._model(), top=self.top, lines=self.lines, own=own)
        return pa.Table.from_batches([found])

    def _model(self) -> language.Predictor:
        path = asset(self.model)
        return language.load(str(path), digest(path))
