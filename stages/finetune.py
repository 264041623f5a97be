"""Finetune: a model learns a task from labelled files, several times over, and says how sure its scores are.

The runs are those of `tundish finetune` (stages/finetune_runs); this file says what decides their bytes and seals what
they leave: the weights and configuration of the first seed whose run did not fail, the result, what is known of the
data, the vocabulary.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from posixpath import basename
from typing import Any, ClassVar

from tundish.cluster import store
from tundish.cluster.digests import digest_once
from tundish.cluster.shards import Dataset
from tundish.cluster.verbs import Cluster
from tundish.stages.finetune_task import TuneTask, aids_of
from tundish.stages.pretrain import file_of, seal_files
from tundish.stages.stage import PLACE, Place, Stage
from tundish.stages.vocabulary import kept_in

FILES = ("model.safetensors", "config.json", "result.json", "data.json")
TEST = re.compile(r"(?!train$|dev$)[A-Za-z0-9][A-Za-z0-9_-]*")
Paths = str | tuple[str, ...]


@dataclass(frozen=True)
class Finetune(Stage):
    """`train`, `dev`: labelled files; `test`: files, or several tests by name. Without dev a tenth of train is, without
    test a fifth (`docs/finetune.md`). `task`: classify, multilabel, regress, tag, answer, write or embed. `columns`:
    role -> column. `lr`: 0 is by the model's size. `length`: tokens of a text; 0: what the model reads. `fresh`: the
    same from fresh weights, to see what pretraining was worth. `sizes`: also on so many examples. `apart`: texts of the
    tests leave train. `aids`: for small data, by name. `slices`: columns by whose values scores are told apart."""

    version: ClassVar[int] = 4
    makes: ClassVar[tuple[str, ...]] = ("classifier",)
    wants: ClassVar[Mapping[str, tuple[str, ...]]] = {"encoder": ("weights",)}

    encoder: Stage
    train: Paths = field(metadata=PLACE)
    task: str = "classify"
    dev: Paths = field(default=(), metadata=PLACE)
    test: Paths | Mapping[str, str] = field(default=(), metadata=PLACE)
    columns: Mapping[str, str | int] = field(default_factory=dict)
    seeds: tuple[int, ...] = (1, 2, 3, 4, 5)
    epochs: int = 5
    batch: int = 16
    lr: float = 0.0
    length: int = 0
    fresh: bool = True
    sizes: tuple[int, ...] = ()
    pooling: str = ""
    apart: bool = False
    aids: Mapping[str, str | float] = field(default_factory=dict)
    slices: tuple[str, ...] = ()

    def check(self) -> None:
        if not self.train:
            raise ValueError("Finetune.train is empty; name at least one labelled file")
        if odd := [name for name in self.tests if not TEST.fullmatch(name)]:
            raise ValueError(f"Finetune.test has a name {odd[0]!r}; use letters, digits, - and _, and not train or dev")
        parts = dict.fromkeys(("train", "dev", *(self.tests or ("test",))), "")
        TuneTask("", self.task, parts, {}, "", **self._options())  # what it refuses, it refuses before anything runs

    @property
    def tests(self) -> dict[str, Paths]:
        """Test files by name."""
        return dict(self.test) if isinstance(self.test, Mapping) else ({"test": self.test} if self.test else {})

    @property
    def files(self) -> dict[str, Paths]:
        """Files by the part they are."""
        return {"train": self.train, **({"dev": self.dev} if self.dev else {}), **self.tests}

    def outside(self) -> list[dict[str, Any]]:
        from tundish.stages.examples_files import files_of

        each = sorted({path for given in self.files.values() for path in files_of(given)})
        return [{"file": basename(path), "digest": digest_once(path)} for path in each]

    def run(self, cluster: Cluster, inputs: Mapping[str, Dataset], out: Place) -> Dataset:
        from tundish.stages.finetune_beside import keep
        from tundish.stages.finetune_files import prepared  # torch comes in here
        from tundish.stages.finetune_runs import tune

        encoder = inputs["encoder"]
        vocabulary = kept_in(encoder)
        for name in ("model.safetensors", "config.json", vocabulary):
            file_of(encoder, name)
        store.remove(store.join(out.uri, "manifest.json"))  # its files will be written over
        task, _ = prepared(
            encoder.uri, self.task, self.files, out.uri, columns=self.columns, length=self.length, apart=self.apart,
            **self._options(),
        )  # fmt: skip
        keep(task, self.files, self.columns, by=self.slices)
        cluster.gang("Finetune", partial(tune, task), size=out.settings.trainers, least=out.settings.least)
        if not store.exists(store.join(out.uri, "config.json")):
            raise ValueError("the loss of every seed of Finetune was no number, so there are no weights; lower lr")
        return seal_files(out, (*FILES, vocabulary), inputs)

    def _options(self) -> dict[str, Any]:
        """Fields of the task that are fields here."""
        said = {name: getattr(self, name) for name in ("seeds", "epochs", "batch", "lr", "sizes", "pooling")}
        return said | {"scratch": self.fresh, "aids": aids_of(self.aids)}
