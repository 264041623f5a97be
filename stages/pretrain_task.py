"""Everything that decides a pretraining, as plain values.

Promises: two equal tasks on equal shards give the same ledger, whatever the number of ranks, and the same losses up to
rounding where there is no dropout. Refuses recipes that
contradict themselves, before anything is read.
"""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from typing import Any

from tundish.operators.model.corrupting import Corrupted
from tundish.operators.model.curriculum import OBJECTIVES, Curriculum, amount, read
from tundish.operators.model.following import Following
from tundish.operators.model.hiding import Masked
from tundish.operators.model.presets import generator_of, shape_of
from tundish.operators.model.schedules import parameters, schedule
from tundish.operators.model.shape import Shape
from tundish.stages.token_stream import TokenFiles

Sources = tuple[TokenFiles, ...] | Mapping[tuple[int, int], tuple[TokenFiles, ...]]  # the latter by (row, context)

ASIDE = {  # fields of a task on which its losses do not depend, but for what the plan says of them and for dropout
    *("sources", "holdout", "out", "checkpoint_every", "keep", "evaluate_every", "holdout_rows", "at_once", "weights"),
    *("holes", "follow", "replay", "compiled", "recompute", "spread", "tensor", "snapshot_every", "peak"),
    *("most_rewinds", "holdout_bytes", "compared", "foretold", "preset"),
}
SPREADS = ("copied", "sharded")
SHARED = ("all", "gdes", "none")  # as operators/model/objective has them, named here without torch
OPTIMIZERS = ("stable-adamw", "adamw", "muon")
FIRST = "<extra_id_0>"  # a sentinel of a vocabulary that has its own, as T5's tokenizer.json; the others lie below
SPANS = "spans"  # an objective that needs sentinels, so it is not among the others
SENTINELS = 100
MULTIPLE = 64  # of a table's rows: what a GPU multiplies fastest


@dataclass(frozen=True)
class PretrainTask:
    """`specials` names the ids of [PAD], [UNK], [CLS], [SEP] and [MASK]."""

    sources: Sources
    holdout: tuple[TokenFiles, ...]
    specials: Mapping[str, int]
    vocabulary: int  # pieces, specials included
    out: str  # folder
    model: str | Shape = "tiny"
    preset: str = ""  # whose recipe it has, where `model` does not say that
    shape: Mapping[str, Any] = field(default_factory=dict)  # fields of the preset's shape that are to be others
    generator: Shape | None = None  # of a detection, where the preset's is not wanted
    sharing: str = "all"  # of its tables
    begin: str = ""  # a folder with weights to begin from
    begin_generator: str = ""  # another with those of a detection's generator
    begin_digest: str = ""  # of what lies there: where it is given, a moved folder is the same folder
    grown: tuple[tuple[int, ...], ...] = ()  # of the last pieces, which that folder lacks, the pieces they are made of
    compared: Mapping[str, Any] = field(
        default_factory=dict
    )  # how the folder's vocabulary was held against the corpus's
    holdout_bytes: Mapping[str, float] = field(default_factory=dict)  # of a token, by source
    words: bytes = b""  # a 1 for every piece that begins a word, for objectives that hide whole words

    length: int = 128  # places of the longest segment
    row: int = 0  # places of a row; 0: as many as `length`
    batch: int | tuple[int, int] = 8  # rows of a step over all ranks; two: growing from one to the other
    grow: float = 0.1  # the share of the tokens over which they grow
    weights: Mapping[int, Mapping[str, float] | None] = field(default_factory=dict)  # from a step on: source -> share
    holes: tuple[tuple[int, int], ...] = ()  # positions that are skipped, [first, behind the last)
    window: int = 8  # shards of a source in use at once
    tokens: int = 600_000  # to train on, padding not counted

    objective: str | Mapping[str, int] = "mlm"
    mask: float | tuple[float, float] = 0.3  # share hidden; two: from one to the other
    shares: tuple[int, int] | None = None  # of a hundred hidden tokens: [MASK], a drawn one; None: the objective's
    curriculum: Any = None  # phases, as operators/model/curriculum reads them; instead of objective, mask and batch

    optimizer: str = "stable-adamw"
    lr: float = 1.5e-3  # at its peak
    betas: tuple[float, float] = (0.9, 0.98)
    eps: float = 1e-6
    weight_decay: float = 0.01
    decoupled: bool = False  # decay told for a step at the peak rate, not for a rate of 1
    clip: float = 0.0  # longest gradient; 0: as it is
    schedule: str = "warm-stable-decay"
    warmup: float = 0.05  # shares of the steps
    decay: float = 0.2
    floor: float = 0.0
    z: float = 0.0  # weight of the squared logarithm of the normaliser

    seed: int = 1
    dtype: str = "float32"  # or bfloat16, float16 (states; weights stay float32), float64
    spread: str = "copied"
    tensor: int = 1  # ranks that share the heads of one model
    compiled: bool | None = None  # None: on a GPU
    recompute: int = 0  # each so-manieth block keeps nothing for the way back
    at_once: int = 0  # rows per forward pass of a rank, for memory, of longer ones as many fewer; 0: all of its share

    sigmas: float = 6.0  # beyond which a loss or a gradient is a spike
    anew: tuple[int, ...] = ()  # steps from which on another level of the loss is usual
    snapshot_every: int = 25  # steps; what a spike goes back to
    most_rewinds: int = 8
    checkpoint_every: int = 100  # steps
    keep: int = 2  # checkpoints
    evaluate_every: int = 0  # steps; 0: at the start and the end only
    holdout_rows: int = 512  # most rows of each source to evaluate on
    peak: float = 0.0  # operations a second of a rank's device; 0: by its name, where that is known
    follow: str = ""  # a list of generations: more sources, as they come
    replay: str = ""  # a plan to go by, written by an earlier training on the same sources
    foretold: Mapping[str, Any] = field(default_factory=dict)  # by `plan --probe`, to be held against what it takes

    def __post_init__(self) -> None:
        for name, known in (("spread", SPREADS), ("optimizer", OPTIMIZERS)):
            if getattr(self, name) not in known:
                raise ValueError(f"{name} of a training is {getattr(self, name)!r}; choose one of {', '.join(known)}")
        self._refuse()
        self.rates(10)
        kinds = {self.aims.objectives[name].__class__ for phase in self.aims.phases for name, _ in phase.mixture}
        sampled = {getattr(self.aims.objectives[n], "sampled", False) for p in self.aims.phases for n, _ in p.mixture}
        if len(sampled) > 1:
            raise ValueError("rtd trains two models and the other objectives one; give it a training of its own")
        pair = self.shapes[0].stack == "pair"
        if pair != (Corrupted in kinds) or (pair and len(kinds) > 1):
            raise ValueError(
                f"a {self.shapes[0].stack} cannot be trained on {self.objective!r}; spans are for an encoder with a "
                "decoder (t5-small, switch), and those are for spans alone"
            )
        if self.shapes[0].stack == "decoder" and Masked in kinds:
            raise ValueError("a decoder sees nothing behind a hidden token; give it the objective clm or prefix")

    def _refuse(self) -> None:
        """What no training can be made of."""
        for name, least, what in (
            *(("at_once", 0, "rows of a forward pass; 0: all"), ("clip", 0, "the longest gradient; 0: as it is")),
            *(("z", 0, "a weight"), ("recompute", 0, "each so-manieth block; 0: none"), ("tensor", 1, "ranks")),
            *(("keep", 1, "checkpoints"), ("snapshot_every", 1, "steps"), ("checkpoint_every", 1, "steps")),
            *(
                ("most_rewinds", 0, "times"),
                ("weight_decay", 0, "a share"),
                ("evaluate_every", 0, "steps; 0: at the ends"),
            ),
        ):
            if not getattr(self, name) >= least:
                raise ValueError(f"{name} of a training is {getattr(self, name)}; it is at least {least} ({what})")
        for name in ("lr", "sigmas", "eps"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} of a training is {getattr(self, name)}; give a number above 0")
        if not 0 <= self.grow <= 1 or not all(0 <= beta < 1 for beta in self.betas):
            raise ValueError(f"grow {self.grow} and betas {self.betas} are shares; give them from 0 to 1")
        if self.sharing not in SHARED:
            raise ValueError(f"a table is shared as {', '.join(SHARED)}, not as {self.sharing!r}; choose one of them")
        if self.tensor > 1 and (self.spread == "sharded" or self.optimizer == "muon"):
            raise ValueError("heads that ranks share go with copies and AdamW; leave out tensor, or sharded and muon")

    @cached_property
    def decides(self) -> dict[str, Any]:
        """What the losses depend on, besides the plan."""
        found = {name: value for name, value in asdict(self).items() if name not in ASIDE}
        return found | ({"begin": "", "begin_generator": ""} if self.begin_digest else {})

    @cached_property
    def detects(self) -> bool:
        """Whether two models are trained, one to fill in and one to tell what was filled in."""
        return any(
            getattr(self.aims.objectives[name], "sampled", False) for p in self.aims.phases for name, _ in p.mixture
        )

    @cached_property
    def pieces(self) -> int:
        """Ids that a batch may hold: the vocabulary's, and behind them the sentinels of spans."""
        named = isinstance(self.model, str) and shape_of(self.model, vocabulary=1, length=1, changes=self.shape)
        pair = (named or self.model).stack == "pair"  # type: ignore[union-attr]
        return self.vocabulary + (SENTINELS if pair and FIRST not in self.specials else 0)

    @cached_property
    def shapes(self) -> tuple[Shape, Shape | None]:
        """Of the model, and of the generator beside it."""
        if isinstance(self.model, Shape):
            shape = self._begun(self.model) if self.begin else self.model
            if shape.vocabulary < self.pieces:
                raise ValueError(f"a model of {shape.vocabulary} tokens cannot learn {self.pieces}; give it as many")
        else:
            table = -(-self.pieces // MULTIPLE) * MULTIPLE
            shape = shape_of(self.model, vocabulary=table, length=self.longest, changes=self.shape)
        name = self.model if isinstance(self.model, str) else ""
        generator = (self.generator or generator_of(name, shape)) if self.detects else None
        if generator and self.begin:
            generator = replace(generator, vocabulary=shape.vocabulary, length=shape.length)
        return shape, generator

    def _begun(self, shape: Shape) -> Shape:
        """The shape of a folder, with rows for all pieces and, where positions are not learned, as long as is asked."""
        learned = shape.positions == "learned" or shape.absolute or shape.enhanced
        if learned and self.longest > shape.length:
            raise ValueError(
                f"{self.begin} has {shape.length} learned positions and the recipe's longest segment {self.longest} "
                f"places; give length: {shape.length} or less"
            )
        table = -(-self.pieces // MULTIPLE) * MULTIPLE if self.pieces > shape.vocabulary else shape.vocabulary
        return replace(shape, vocabulary=table, length=max(shape.length, self.longest))

    @cached_property
    def kinds(self) -> dict[tuple[int, str], int]:
        """A number for every phase and objective in it: losses of different ones are not held against one another."""
        each = [(number, name) for number, phase in enumerate(self.aims.phases) for name, _ in phase.mixture]
        return {kind: number for number, kind in enumerate(each)}

    @cached_property
    def longest(self) -> int:
        """Places of the longest segment of all phases."""
        return max(phase.context for phase in self.aims.phases)

    @cached_property
    def aims(self) -> Curriculum:
        """What is asked of every token of the run."""
        plain = self.curriculum
        if not plain:
            mask = list(self.mask) if isinstance(self.mask, tuple | list) else [self.mask, self.mask]
            batch = list(self.batch) if isinstance(self.batch, tuple | list) else self.batch
            objective = self.objective if isinstance(self.objective, str) else dict(self.objective)
            whole = {"objective": objective, "rate": mask}
            if isinstance(batch, list) and 0 < self.grow < 1:
                share = f"{100 * self.grow:g}%"
                # the rate goes on falling through both phases
                between = mask[0] + (mask[1] - mask[0]) * self.grow
                plain = [
                    whole | {"tokens": [0, share], "batch": batch, "rate": [mask[0], between]},
                    whole | {"tokens": [share, "100%"], "batch": batch[1], "rate": [between, mask[1]]},
                ]
            else:
                plain = [whole | {"tokens": [0, "100%"], "batch": batch}]
        if isinstance(plain, Mapping):
            if strange := sorted({*plain} - {"objectives", "phases"}):
                raise ValueError(f"a curriculum has the keys {strange}; give objectives and phases, or phases alone")
            phases, own = plain.get("phases"), plain.get("objectives") or {}
        else:
            phases, own = plain, {}
        if not isinstance(own, Mapping):
            raise ValueError(f"the objectives of a curriculum are {own!r}; give a mapping of names to objectives")
        phases = self._carried(
            phases, [name for name, said in own.items() if isinstance(said, Mapping) and "rate" in said]
        )
        return read(
            {"phases": phases, "objectives": {**self._own(), **own}},
            self.tokens,
            row=self.row or self.length,
            context=self.length,
            batch=self.batch if isinstance(self.batch, int) else self.batch[-1],
        )

    def _carried(self, phases: Any, rated: list[str]) -> Any:
        """Phases that begin as the task says, and take over the rate at which the one before ended, but for those
        whose objectives all have a rate of their own (`rated`)."""
        if not isinstance(phases, list | tuple) or not all(isinstance(phase, Mapping) for phase in phases):
            return phases  # refused where it is read
        mask = list(self.mask) if isinstance(self.mask, tuple | list) else [self.mask, self.mask]
        batch = list(self.batch) if isinstance(self.batch, tuple | list) else self.batch
        told = any("rate" in phase for phase in phases)
        found: list[dict[str, Any]] = []
        last, names = mask[0], self.objective
        for phase in phases:
            each = {"objective": self.objective, "batch": batch} | dict(phase) if not found else dict(phase)
            names = each.get("objective", names)
            if "rate" not in each and all(name in rated for name in (names if isinstance(names, Mapping) else [names])):
                pass
            elif not told and isinstance(each.get("tokens"), list | tuple) and len(each["tokens"]) == 2:
                ends = [amount(end, self.tokens) / self.tokens for end in each["tokens"]]
                each["rate"] = [mask[0] + (mask[1] - mask[0]) * min(1.0, end) for end in ends]
            elif "rate" not in each:
                each["rate"] = last
            if "rate" in each:
                last = each["rate"][-1] if isinstance(each["rate"], list | tuple) else each["rate"]
            found.append(each)
        return found

    def _own(self) -> dict[str, Any]:
        """Objectives that this task's vocabulary and shares make."""
        last = self.specials.get(FIRST, self.vocabulary + SENTINELS - 1)  # the first is the highest, as in T5
        own: dict[str, Any] = {SPANS: {"kind": "corrupted", "sentinel": last, "sentinels": SENTINELS}}
        if self.shares is not None:
            asked = [self.objective] if isinstance(self.objective, str) else list(self.objective)
            for name, objective in OBJECTIVES.items():
                if isinstance(objective, Masked) and name in asked:
                    told = {key: getattr(objective, key) for key in ("unit", "lengths", "whole", "sampled", "rate")}
                    own[name] = {"kind": "masked", "shares": list(self.shares), **told}
        return own

    def rates(self, steps: int) -> Callable[[int], float]:
        """Step -> factor on the peak rate."""
        given = {"warm": self.warmup, "decay": self.decay, "floor": self.floor}
        known = parameters(self.schedule)
        return schedule(self.schedule, steps, **{name: share for name, share in given.items() if name in known})


def causal_of(objective: object) -> bool | None:
    """Whether places see only what is before them, for an objective; None: as the model is made."""
    return True if isinstance(objective, Following) else None if isinstance(objective, Corrupted) else False
