"""Pretrain: token shards become an encoder, by masked-LM on a gang of workers.

The loop is `stages/pretrain_loop`, one page; this file says what decides its bytes and seals what it leaves: the
weights, the shape, the vocabulary, the log of every step, the ledger of every row, the result.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import ClassVar

from tundish.cluster import store
from tundish.cluster.digests import digest_once
from tundish.cluster.shards import Damaged, Dataset, check, opened
from tundish.cluster.verbs import Cluster
from tundish.stages.stage import Place, Stage
from tundish.stages.vocabulary import vocabulary_of

MODELS = ("tiny", "mini", "small", "base")  # presets of operators/model/encoder, named here without torch
PRECISIONS = ("float32", "bfloat16", "float64")
PLAN = "plan.json"  # as pretrain_feed writes it
LEFT = ("checkpoints", "log.jsonl", "ledger.jsonl", PLAN)
FILES = ("model.safetensors", "config.json", "result.json", "log.jsonl", "ledger.jsonl", PLAN)


def number(text: int | str) -> int:
    """Tokens as people write them.

    >>> number("600k"), number("1.5B"), number(17)
    (600000, 1500000000, 17)
    """
    if isinstance(text, int):
        return text
    unit = {"k": 10**3, "M": 10**6, "B": 10**9}.get(text[-1:])
    try:
        return int(float(text[:-1]) * unit) if unit else int(text)
    except (ValueError, OverflowError):
        raise ValueError(f"{text!r} is no number of tokens; write 600000, 600k, 50M or 1B") from None


@dataclass(frozen=True)
class Pretrain(Stage):
    """`model`: a preset of operators/model/encoder. `tokens`: to train on. `batch`: rows of `row` places a step, in
    which no document's segment is longer than `length`. `weights`: shares of the origins; by their size, where none are
    given. `reweigh`: other weights from a step on, {5000: {books: 1}}. `skip`: [first, behind the last) rows by their
    position in the plan, never trained on. `window`: shards of an origin in use at once."""

    version: ClassVar[int] = 2
    makes: ClassVar[tuple[str, ...]] = ("weights",)
    wants: ClassVar[Mapping[str, tuple[str, ...]]] = {"shards": ("tokens",)}

    shards: Stage
    model: str = "tiny"
    tokens: int | str = "50M"
    length: int = 128
    row: int = 0  # 0: as long as `length`
    batch: int = 32
    weights: Mapping[str, float] = field(default_factory=dict)
    reweigh: Mapping[int, Mapping[str, float]] = field(default_factory=dict)
    skip: tuple[tuple[int, int], ...] = ()
    window: int = 8
    mask: float = 0.3
    lr: float = 1e-3
    warmup: float = 0.05
    decay: float = 0.2
    precision: str = "float32"
    checkpoint_every: int = 100
    seed: int = 1

    def check(self) -> None:
        for name, known in (("model", MODELS), ("precision", PRECISIONS)):
            if getattr(self, name) not in known:
                raise ValueError(f"Pretrain.{name} is {getattr(self, name)!r}; it is one of {', '.join(known)}")
        for name, least, what in (
            ("length", 3, "a place between [CLS] and [SEP]"),
            ("batch", 1, "a row a step"),
            ("window", 0, "shards in use at once, 0 for all"),
            ("checkpoint_every", 1, "steps"),
        ):
            if getattr(self, name) < least:
                raise ValueError(f"Pretrain.{name} is {getattr(self, name)}; it is at least {least} ({what})")
        if not 0 < self.mask <= 1:
            raise ValueError(f"Pretrain.mask is {self.mask}; it is the share of tokens that are hidden, such as 0.3")
        ends = [end for hole in self.skip for end in hole]
        if ends != sorted(ends) or min(ends, default=0) < 0 or any(first >= last for first, last in self.skip):
            raise ValueError(
                f"Pretrain.skip is {[list(hole) for hole in self.skip]}; it holds [first, behind the last) positions, "
                "ascending, that do not overlap"
            )
        for step, shares in ((0, self.weights), *self.reweigh.items()):
            if (step and not shares) or any(not 1e-100 < share < 1e100 for share in shares.values()):
                raise ValueError(
                    f"the weights of Pretrain from step {step} on are {dict(shares)}; give positive numbers"
                )
        if self.row and self.row < self.length:
            raise ValueError(f"Pretrain.row is {self.row}; a row holds at least one segment of length {self.length}")
        if min(self.reweigh, default=1) < 1:
            raise ValueError(f"Pretrain.reweigh begins at step {min(self.reweigh)}; say by `weights` how it begins")
        if number(self.tokens) < self.batch * (self.row or self.length):
            raise ValueError(
                f"Pretrain.tokens is {self.tokens}; one step alone takes {self.batch * (self.row or self.length)}"
            )

    def prepare(self) -> None:
        from tundish.operators.model import stream

        stream.warm()

    def run(self, cluster: Cluster, inputs: Mapping[str, Dataset], out: Place) -> Dataset:
        from tundish.stages.pretrain_loop import (  # torch comes in here, not with the command line
            PretrainTask,
            pretrain,
        )
        from tundish.stages.token_stream import Layout, files_of, indexed

        tokens, folder = inputs["shards"], folder_of(out)
        layout = Layout(self.row or self.length, self.length)
        index = indexed(cluster, tokens, layout, out.target("rows", format="arrow", salt=[layout.row, layout.context]))
        for shard in tokens.shards:
            uri = tokens.at(shard)  # before a trainer maps it; the cache checks what comes from elsewhere
            if store.local(uri) and (store.size(uri) != shard.size or digest_once(uri) != shard.digest):
                raise Damaged(
                    f"{uri} does not match its digest in the manifest; restore it, or delete it and run again"
                )
        size = tokens.about["vocabulary"]["size"]
        for shard in index.shards:
            if shard.counts["ids"] > size:
                raise ValueError(
                    f"{shard.name} of {tokens.uri} holds the id {shard.counts['ids'] - 1}, and its vocabulary has "
                    f"{size} pieces; tokenize again"
                )
        task = PretrainTask(
            sources=files_of(tokens, index),
            holdout=paths(_holdout(tokens)),
            specials=dict(tokens.about["specials"]),
            vocabulary=size,
            model=self.model,
            length=self.length,
            row=self.row,
            batch=self.batch,
            weights={0: dict(self.weights) or None} | dict(self.reweigh),
            holes=self.skip,
            window=self.window,
            tokens=number(self.tokens),
            rate=self.mask,
            lr=self.lr,
            warmup=self.warmup,
            decay=self.decay,
            dtype=self.precision,
            checkpoint_every=self.checkpoint_every,
            seed=self.seed,
            out=str(folder),
        )
        anew_unless_same(out, {"tokens": tokens.digest, "holdout": _holdout(tokens).digest})
        name, body = vocabulary_of(tokens)
        store.write(str(folder / name), body)
        cluster.gang("Pretrain", partial(pretrain, task), size=out.settings.trainers)
        return seal_files(out, (*FILES, name), inputs, inside=("rows",))


def anew_unless_same(out: Place, inputs: Mapping[str, str]) -> None:
    """Checkpoints and logs of a training on other inputs are no beginning for this one: they go."""
    seen = store.join(out.uri, "inputs.json")
    store.remove(store.join(out.uri, "manifest.json"))  # its files will be written over
    if store.read_json(seen) != dict(inputs):
        for name in LEFT:
            store.remove(store.join(out.uri, name))
        store.write_json(seen, dict(inputs))


def file_of(trained: Dataset, name: str) -> str:
    """A file that a training sealed, checked against its digest."""
    shard = trained.shard(name.split(".")[0])
    check(trained.at(shard), shard)
    return trained.at(shard)


def seal_files(
    out: Place, files: tuple[str, ...], inputs: Mapping[str, Dataset], inside: tuple[str, ...] = ()
) -> Dataset:
    """Files that lie in place become the shards of a dataset; the result's numbers stand in its manifest."""
    target = out.target()
    origin = {name: dataset.digest for name, dataset in inputs.items()}
    shards = [target.adopt(file.split(".")[0], file, 0, origin, {}) for file in files]
    told = {"inside": list(inside)} if inside else {}
    result = store.read_json(store.join(out.uri, "result.json"))
    return target.seal(shards, **out.about, **told, kind="files", result=result)


def folder_of(out: Place) -> Path:
    folder = store.local(out.uri)
    if folder is None:
        raise ValueError(
            f"training writes its checkpoints to a local or mounted folder, not to {out.uri!r}; use such a root"
        )
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _holdout(tokens: Dataset) -> Dataset:
    found = opened(store.join(tokens.uri, "holdout"))
    assert found is not None, "Tokenize seals its holdout before its shards"
    return found


def paths(dataset: Dataset) -> tuple[str, ...]:
    """Files of the shards, each checked against its digest before a trainer maps it."""
    for shard in dataset.shards:
        check(dataset.at(shard), shard)
    return tuple(dataset.at(shard) for shard in dataset.shards)
