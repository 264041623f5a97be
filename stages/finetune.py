"""Finetune: the encoder learns to label sequences from a small labelled file; scores on a part it never saw.

The file has a header line and tab-separated columns, split at \\n alone. A row is held out by the hash of its text, so
the split does not depend on the order of rows, and equal texts never stand on both sides. Refuses a file without the
named columns, a single label, or a held-out part that is empty.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import pyarrow as pa

from tundish.cluster import store
from tundish.cluster.digests import digest_once
from tundish.cluster.shards import Dataset
from tundish.cluster.verbs import Cluster
from tundish.operators.text import tokenizer
from tundish.operators.text.digest import payload_digest
from tundish.stages.pretrain import anew_unless_same, file_of, folder_of, seal_files
from tundish.stages.stage import PLACE, Place, Stage
from tundish.stages.vocabulary import kept_in

FILES = ("model.safetensors", "config.json", "result.json", "predictions.jsonl", "train.arrow", "test.arrow")
LABELLED = pa.schema([("tokens", pa.large_list(pa.int64())), ("label", pa.int64()), ("id", pa.string())])


@dataclass(frozen=True)
class Finetune(Stage):
    """`data`: a TSV file with columns `text` and `label`. `holdout`: share of texts kept for the score."""

    makes: ClassVar[tuple[str, ...]] = ("classifier",)
    wants: ClassVar[Mapping[str, tuple[str, ...]]] = {"encoder": ("weights",)}

    encoder: Stage
    data: str = field(metadata=PLACE)
    text: str = "text"
    label: str = "label"
    holdout: float = 0.2
    seeds: tuple[int, ...] = (1, 2, 3)
    epochs: int = 5
    batch: int = 16
    lr: float = 1e-3
    length: int = 128  # pieces of a text, at most
    scratch: bool = True  # the same from fresh weights, to see what pretraining was worth

    def check(self) -> None:
        if not 0 < self.holdout < 1:
            raise ValueError(f"Finetune.holdout is {self.holdout}; it is a share between 0 and 1, such as 0.2")

    def outside(self) -> list[dict[str, Any]]:
        return [{"file": Path(self.data).name, "digest": digest_once(self.data)}]

    def run(self, cluster: Cluster, inputs: Mapping[str, Dataset], out: Place) -> Dataset:
        from tundish.stages.finetune_loop import FinetuneTask, finetune  # torch comes in here

        folder, encoder = folder_of(out), inputs["encoder"]
        for name in ("model.safetensors", "config.json"):
            file_of(encoder, name)
        anew_unless_same(out, {"encoder": encoder.digest, "data": digest_once(self.data)})
        vocabulary = kept_in(encoder)
        names = self._write(store.read(file_of(encoder, vocabulary)), out)
        task = FinetuneTask(
            model=encoder.uri,
            train=str(folder / "train.arrow"),
            test=str(folder / "test.arrow"),
            out=str(folder),
            seeds=self.seeds,
            scratch=self.scratch,
            epochs=self.epochs,
            batch=self.batch,
            lr=self.lr,
            names=names,
        )
        cluster.gang("Finetune", partial(finetune, task), size=out.settings.trainers, least=out.settings.least)
        return seal_files(out, (*FILES, vocabulary), inputs)

    def _write(self, vocabulary: bytes, out: Place) -> tuple[str, ...]:
        """Tokenize both parts, keep the vocabulary beside them; returns the names of the labels."""
        rows = rows_of(self.data, self.text, self.label)
        names = tuple(sorted({label for _, label in rows}))
        parts: dict[bool, list[dict[str, Any]]] = {True: [], False: []}
        pieces = tokenizer.load(vocabulary)
        tokens = pieces.encode(pa.array([text for text, _ in rows], pa.large_string()))
        for (text, label), ids in zip(rows, tokens.to_pylist(), strict=True):
            digest = payload_digest(text.encode())
            held = int.from_bytes(digest[:8], "little") / 2**64 < self.holdout
            parts[held].append({"tokens": ids[: self.length], "label": names.index(label), "id": digest.hex()})
        for held, name in ((False, "train"), (True, "test")):
            if not parts[held]:
                raise ValueError(f"{self.data} leaves nothing to {name} with at holdout {self.holdout}; give more rows")
            table = pa.Table.from_pylist(sorted(parts[held], key=lambda r: r["id"]), schema=LABELLED)
            sink = pa.BufferOutputStream()
            with pa.ipc.new_file(sink, LABELLED) as writer:
                writer.write_table(table)
            store.write(store.join(out.uri, f"{name}.arrow"), sink.getvalue().to_pybytes())
        store.write(store.join(out.uri, pieces.file), vocabulary)
        return names


def rows_of(path: str, text: str, label: str) -> list[tuple[str, str]]:
    """(text, label) of every row, equal rows once, in file order."""
    lines = [line.rstrip("\r") for line in store.read(path).decode().split("\n")]
    header = lines[0].split("\t")
    for column in (text, label):
        if column not in header:
            raise ValueError(f"{path} has no column {column!r}; its header names {', '.join(header)}")
    at, by = header.index(text), header.index(label)
    rows: dict[tuple[str, str], None] = {}
    for number, line in enumerate(lines[1:], 2):
        if not line.strip():
            continue
        cells = line.split("\t")
        if len(cells) != len(header):
            raise ValueError(f"line {number} of {path} has {len(cells)} columns and the header {len(header)}; mend it")
        rows[cells[at], cells[by]] = None
    if len({label for _, label in rows}) < 2:
        raise ValueError(f"{path} has fewer than two labels in column {label!r}; there is nothing to learn")
    return list(rows)
