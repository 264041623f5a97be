"""Pretrain: token shards become a model, by one objective or a curriculum of several, on a gang of workers.

The loop is `stages/pretrain_loop`, one page; this file says what decides its bytes and seals what it leaves: the
weights, the shape, the vocabulary, the log of every step, the ledger of every row, the result.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from functools import cached_property, partial
from typing import Any, ClassVar

from tundish.cluster import store
from tundish.cluster.digests import digest_once
from tundish.cluster.shards import Damaged, Dataset, check, digest_of, opened
from tundish.cluster.verbs import Cluster
from tundish.operators.model.presets import PRESETS
from tundish.stages.pretrain_used import require_used
from tundish.stages.stage import PLACE, Place, Stage
from tundish.stages.vocabulary import vocabulary_of

PRECISIONS = ("float32", "bfloat16", "float16", "float64")
PLAN = "plan.json"  # as pretrain_feed writes it
FORETOLD = "forecast.json"  # as pipeline/forecast leaves it
LEFT = ("checkpoints", "log.jsonl", "ledger.jsonl", PLAN)
FILES = ("model.safetensors", "config.json", "result.json", "log.jsonl", "ledger.jsonl", PLAN)
HERE = {"shards", "precision", "skip", "reweigh", "tokens", "weights", "after"}  # fields that a task has otherwise


def number(text: int | str) -> int:
    """Tokens as people write them.

    >>> number("600k"), number("1.5B"), number(17), number("1T")
    (600000, 1500000000, 17, 1000000000000)
    """
    from tundish.operators.model.curriculum import amount

    try:
        return amount(text)
    except ValueError:
        raise ValueError(f"{text!r} is no number of tokens; write 600000, 600k, 50M, 1B or 1T") from None


@dataclass(frozen=True)
class Pretrain(Stage):
    """`model`: a preset (`docs/training.md`), `tiny` if none is said; what is None here is as its source has it.

    `shape`: fields of the preset's shape that are to be others, {layers: 6}. `tokens`: to train on. `batch`: rows
    of `row` places a step, in which no document's segment is longer than `length`; [32, 256] grows over the share
    `grow`. `objective`: mlm, mlm-words, mlm-spans, rtd, clm, prefix, spans, or a mixture of some, {mlm: 15, clm:
    1}. `mask`: the share hidden; [0.3, 0.15] falls. `curriculum`: phases, instead of objective, mask and batch.
    `begin`: a folder of weights to begin from, ours or Hugging Face's, whose shape it is then; `model` gives the
    recipe alone. `begin_generator`: another with the generator of a detection. `weights`: shares of the origins; by
    their size, where none are given. `reweigh`: other weights from a step on, {5000: {books: 1}}. `skip`: [first,
    behind the last) rows by their position in the plan, never trained on. `window`: shards of an origin in use at
    once. `spread`: copied, or sharded over the workers (FSDP2). `tensor`: workers that share the heads of one
    model. `at_once`: rows of a forward pass, fewer of longer ones. `anew`: steps from which another level of the loss
    is usual, as `rewound` of a result says without rows."""

    version: ClassVar[int] = 4
    makes: ClassVar[tuple[str, ...]] = ("weights",)
    wants: ClassVar[Mapping[str, tuple[str, ...]]] = {"shards": ("tokens",)}

    shards: Stage
    model: str = ""
    shape: Mapping[str, int | float | str | bool] = field(default_factory=dict)
    tokens: int | str = "50M"
    length: int = 0
    row: int = 0  # 0: as long as `length`
    batch: int | tuple[int, int] = 32
    grow: float = 0.1
    objective: str | Mapping[str, int] | None = None
    mask: float | tuple[float, float] | None = None
    shares: tuple[int, int] | None = None
    curriculum: tuple[Mapping[str, Any], ...] | Mapping[str, Any] = ()
    begin: str = field(default="", metadata=PLACE)
    begin_generator: str = field(default="", metadata=PLACE)
    weights: Mapping[str, float] = field(default_factory=dict)
    reweigh: Mapping[int, Mapping[str, float]] = field(default_factory=dict)
    skip: tuple[tuple[int, int], ...] = ()
    window: int = 8
    optimizer: str | None = None
    lr: float | None = None
    betas: tuple[float, float] | None = None
    eps: float | None = None
    weight_decay: float | None = None
    decoupled: bool | None = None
    clip: float | None = None
    schedule: str | None = None
    warmup: float | None = None
    decay: float | None = None
    floor: float | None = None
    z: float = 0.0
    sharing: str | None = None
    precision: str = "float32"
    spread: str = "copied"
    tensor: int = 1
    recompute: int = 0
    at_once: int = 0
    sigmas: float = 6.0
    anew: tuple[int, ...] = ()
    checkpoint_every: int = 100
    keep: int = 2
    evaluate_every: int = 0
    seed: int = 1

    def check(self) -> None:
        for name, known in (("model", tuple(PRESETS)), ("precision", PRECISIONS)):
            if getattr(self, name) not in known and (name, self.model) != ("model", ""):
                raise ValueError(f"Pretrain.{name} is {getattr(self, name)!r}; it is one of {', '.join(known)}")
        for name, least, what in (("window", 0, "shards in use at once, 0 for all"), ("checkpoint_every", 1, "steps")):
            if getattr(self, name) < least:
                raise ValueError(f"Pretrain.{name} is {getattr(self, name)}; it is at least {least} ({what})")
        if self.length and self.length < 3:
            raise ValueError(
                f"Pretrain.length is {self.length}; it is at least 3 (a place between [CLS] and [SEP]), or 0"
            )
        batch = self.batch if isinstance(self.batch, tuple) else (self.batch, self.batch)
        if min(batch) < 1:
            raise ValueError(f"Pretrain.batch is {self.batch}; it is at least 1 (a row a step)")
        for share in self.mask if isinstance(self.mask, tuple) else () if self.mask is None else (self.mask,):
            if not 0 < share <= 1:
                raise ValueError(
                    f"Pretrain.mask is {self.mask}; it is the share of tokens that are hidden, such as 0.3"
                )
        ends = [end for hole in self.skip for end in hole]
        if list(self.skip) != sorted(self.skip) or min(ends, default=0) < 0 or any(a >= b for a, b in self.skip):
            raise ValueError(
                f"Pretrain.skip is {[list(hole) for hole in self.skip]}; it holds [first, behind the last) positions, "
                "ascending"
            )
        for step, shares in ((0, self.weights), *self.reweigh.items()):
            if (step and not shares) or any(not 1e-100 < share < 1e100 for share in shares.values()):
                raise ValueError(
                    f"the weights of Pretrain from step {step} on are {dict(shares)}; give positive numbers"
                )
        if self.row and self.row < self.context:
            raise ValueError(f"Pretrain.row is {self.row}; a row holds at least one segment of length {self.context}")
        if min(self.reweigh, default=1) < 1:
            raise ValueError(f"Pretrain.reweigh begins at step {min(self.reweigh)}; say by `weights` how it begins")
        if number(self.tokens) < batch[0] * (self.row or self.context):
            raise ValueError(
                f"Pretrain.tokens is {self.tokens}; one step alone takes {batch[0] * (self.row or self.context)}"
            )
        if self.begin_generator and not self.begin:
            raise ValueError("Pretrain.begin_generator goes with begin; give that the discriminator's folder")
        require_used(self, PRESETS[self.preset].recipe)
        self._example()

    def _example(self) -> Any:
        """The task as it would be for some corpus; what is asked of every token is refused there."""
        from tundish.stages.pretrain_task import PretrainTask

        return PretrainTask(sources=(), holdout=(), specials={}, vocabulary=1 << 15, out="", **self.recipe())

    @property
    def preset(self) -> str:
        """The preset of its recipe: that of the folder's family, where it begins from one and names none."""
        return self.model or (self._adopted.recipe if self.begin else "tiny")

    @property
    def context(self) -> int:
        """Places of the longest segment, where no curriculum says otherwise."""
        if self.length or not self.begin:
            return self.length or PRESETS[self.preset].length
        return min(PRESETS[self.preset].length, self._adopted.shape.length)

    @cached_property
    def _adopted(self) -> Any:
        """What lies in the folder it begins from, by sizes."""
        from tundish.stages.pretrain_adopt import adopted  # torch comes in here

        return adopted(self.begin, self.begin_generator, outlined=True)

    def recipe(self) -> dict[str, Any]:
        """Fields of a PretrainTask: the preset's, and over them what is said here."""
        said = {each.name: getattr(self, each.name) for each in fields(self) if each.name not in HERE}
        said |= {"length": self.context, "tokens": number(self.tokens), "dtype": self.precision, "holes": self.skip}
        weights = {0: dict(self.weights) or None} | {step: dict(w) for step, w in self.reweigh.items()}
        given = {name: value for name, value in said.items() if value is not None}
        preset = dict(PRESETS[self.preset].recipe)
        if self.objective is not None and self.objective != preset.get("objective", "mlm"):
            preset.pop("shares", None)  # they are those of the preset's own objective
        told = {
            **preset,
            **given,
            "model": self.preset,
            "preset": self.preset,
            "weights": weights,
            "curriculum": self.curriculum or None,
        }
        if not self.begin:
            return told
        from tundish.stages.pretrain_adopt import fields_of

        # workers may have another home and stand elsewhere
        folders = {name: told[name] and store.absolute(told[name]) for name in ("begin", "begin_generator")}
        return told | folders | fields_of(self._adopted, self.shape) | {"shape": {}}

    def outside(self) -> list[dict[str, Any]]:
        if not self.begin:
            return []
        from tundish.stages.pretrain_adopt import files_of

        return [
            {"file": name + uri[len(folder.rstrip("/")) :], "digest": digest_once(uri)}
            for name, folder in (("begin", self.begin), ("generator", self.begin_generator))
            for uri in (files_of(folder) if folder else ())
        ]

    def notes(self) -> str:
        if not self.begin:
            return ""
        from tundish.stages.pretrain_adopt import spoken

        return spoken(self._adopted, self._example())

    def prepare(self) -> None:
        from tundish.operators.model import stream

        stream.warm()

    def run(self, cluster: Cluster, inputs: Mapping[str, Dataset], out: Place) -> Dataset:
        from tundish.stages.pretrain_loop import PretrainTask, pretrain  # torch comes in here
        from tundish.stages.ranks import require_place

        tokens = inputs["shards"]
        for shard in tokens.shards:
            uri = tokens.at(shard)  # before a trainer maps it; the cache checks what comes from elsewhere
            if store.local(uri) and (store.size(uri) != shard.size or digest_once(uri) != shard.digest):
                raise Damaged(
                    f"{uri} does not match its digest in the manifest; restore it, or delete it and run again"
                )
        task = PretrainTask(sources=(), **self.given(tokens), out=out.uri, **self.recipe())
        rows = (max(phase.batch) for phase in task.aims.phases)
        require_place(rows, out.settings.trainers, out.settings.least, task.tensor)
        sources, inside = self._rows(cluster, tokens, task, out)
        said = store.read_json(store.join(out.uri, FORETOLD)) or {}  # by `plan --probe`, if it was asked
        task = replace(task, sources=sources, foretold=said)
        begun = {"begin": task.begin_digest} if task.begin else {}
        anew_unless_same(out, {"tokens": tokens.digest, "holdout": _holdout(tokens).digest, **begun})
        name, body = vocabulary_of(tokens)
        store.write(store.join(out.uri, name), body)
        cluster.gang("Pretrain", partial(pretrain, task), size=out.settings.trainers, least=out.settings.least)
        more = ("generator.safetensors",) if task.detects else ()
        return seal_files(out, (*FILES, *more, name), inputs, inside=inside)

    def given(self, tokens: Dataset) -> dict[str, Any]:
        """What token shards say of themselves to a task."""
        from tundish.operators.text.word_begins import begins
        from tundish.stages.pretrain_held import by_source
        from tundish.stages.token_stream import files_of

        held, size = _holdout(tokens), tokens.about["vocabulary"]["size"]
        checked = paths(held)
        assert checked or not held.names, "each file of the holdout is checked before it is mapped"
        return {
            "holdout": (files := files_of(held)),
            "holdout_bytes": by_source(held.about.get("totals", {}).get("origin", {}), files),
            "specials": dict(tokens.about["specials"]),
            "vocabulary": size,
            "words": begins(vocabulary_of(tokens)[1]).tobytes() if self._by_words() else b"",
            **(self._compared(tokens) if self.begin else {}),
        }

    def _compared(self, tokens: Dataset) -> dict[str, Any]:
        """The folder's vocabulary, held against that of the shards."""
        from tundish.stages.pretrain_pieces import Corpus, compared, grown_of

        about, found = tokens.about["vocabulary"], self._adopted
        corpus = Corpus(*vocabulary_of(tokens), about["size"], tokens.about["specials"], grown_of(about))
        seen = compared(self.begin, found.shape.vocabulary, found.settings, corpus)
        return {"grown": seen.grown, "compared": seen.told, "begin_digest": digest_of(self.outside())}

    def _by_words(self) -> bool:
        return "word" in repr((self.objective, self.curriculum)) or "whole" in repr(self.curriculum)

    def _rows(self, cluster: Cluster, tokens: Dataset, task: Any, out: Place) -> tuple[Any, tuple[str, ...]]:
        """The shards with the index of their rows, for every length of rows that the task has; and where these lie."""
        from tundish.stages.token_stream import Layout, files_of, indexed

        size, found, inside = tokens.about["vocabulary"]["size"], {}, []
        for row, context in dict.fromkeys((phase.row, phase.context) for phase in task.aims.phases):
            name = "rows" if not found else f"rows-{row}-{context}"
            index = indexed(
                cluster, tokens, Layout(row, context), out.target(name, format="arrow", salt=[row, context])
            )
            for shard in index.shards:
                if shard.counts["ids"] > size:
                    raise ValueError(
                        f"{shard.name} of {tokens.uri} holds the id {shard.counts['ids'] - 1}, and its vocabulary has "
                        f"{size} pieces; tokenize again"
                    )
            found[row, context] = files_of(tokens, index)
            inside.append(name)
        return found if len(found) > 1 else next(iter(found.values())), tuple(inside)


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


def _holdout(tokens: Dataset) -> Dataset:
    found = opened(store.join(tokens.uri, "holdout"))
    assert found is not None, "Tokenize seals its holdout before its shards"
    return found


def paths(dataset: Dataset) -> tuple[str, ...]:
    """Files of the shards, each checked against its digest before a trainer maps it."""
    for shard in dataset.shards:
        check(dataset.at(shard), shard)
    return tuple(dataset.at(shard) for shard in dataset.shards)
