"""Fine-tuning in company: other tasks learn on the trunk of the one that counts, each with a head of its own.

    how of `operators/model/tasks`    all tasks in one training, a step a batch of one of them (MT-DNN, Liu et al. 2019)
    first                             the others by themselves, and then the task from their trunk with a head and an
                                      optimiser of its own (STILTs, Phang et al. 2018)

Promises: the task's own batches are those it has alone, in their order: an epoch ends with its last one, and the others
come between as often as the mixture's shares ask. Which task a step is of is a function of the step, which rows and
what is dropped of seed and step. Its runs are sealed as any other, under a key that holds the others' examples and the
mixture. What the others learn is told by their own dev part. Costs a step for each batch of theirs, and a head. Of the
aids those of the trunk hold for all (layerwise, mixout, layerdrop). Refuses mixtures it does not know, and
to thaw a trunk step by step under a task that has no head of its own to begin with.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from tundish.cluster import store
from tundish.cluster.shards import digest_of
from tundish.operators.model.decoding import Decoding
from tundish.operators.model.heads import Tuned
from tundish.operators.model.order import keyed
from tundish.operators.model.shape import Shape
from tundish.operators.model.tasks import HOWS, Tasks
from tundish.stages import finetune_runs
from tundish.stages.finetune_files import DEV, TRAIN
from tundish.stages.finetune_kinds import asked, readied, scored
from tundish.stages.finetune_means import gained, over
from tundish.stages.finetune_one import DTYPES, Besides, Weights, begun_of, order_of, step_of, trained
from tundish.stages.finetune_rows import Rows, rows_of
from tundish.stages.finetune_task import AIDED, VERSIONS, Aids, Run, TuneTask

FIRST = "first"
BESIDE = 79  # a stream of seeds
ANY = 1 << 40  # tokens that a row may have, where only rows are counted


@dataclass(frozen=True)
class Mixing:
    """`temperature` and `limit`: as `Tasks` has them. `epochs`: of the others, where they come first; 0: the task's."""

    how: str = "proportional"
    temperature: float = 2.0
    limit: int = 0
    epochs: int = 0

    def __post_init__(self) -> None:
        if self.how not in (*HOWS, FIRST):
            raise ValueError(f"tasks cannot be mixed by {self.how!r}; choose one of {', '.join((*HOWS, FIRST))}")
        if self.temperature <= 0 or self.limit < 0 or self.epochs < 0:
            raise ValueError(
                f"a mixture of temperature {self.temperature}, limit {self.limit} and {self.epochs} epochs is none; "
                "give a temperature above 0, and no number below 0"
            )


@dataclass(frozen=True)
class Other:
    """A task beside the one that counts: its parts as tokens, the digest of both, and where the truth of questions of
    its dev part lies (empty for none). `shared`: part of the one that counts -> how many of its texts this one learns
    (`examples_checks.shared`), where there are any; it is told, and decides no run."""

    name: str
    kind: str
    train: str
    dev: str
    digest: str
    scheme: str = ""
    truth: str = ""
    shared: Mapping[str, Mapping[str, int]] = field(default_factory=dict)


@dataclass(frozen=True)
class MixedTask(TuneTask):
    """A fine-tuning with `others`; without any it is the plain one."""

    others: tuple[Other, ...] = ()
    mixing: Mixing = field(default_factory=Mixing)

    def __post_init__(self) -> None:
        super().__post_init__()
        still = [each for each in self.others if each.kind not in AIDED["unfreeze"]]
        if self.aids.unfreeze and still and self.mixing.how != FIRST:  # those that come first learn on the whole trunk
            raise ValueError(
                f"{still[0].name} beside is a task of {still[0].kind}, which learns nothing while unfreeze holds the "
                "trunk; leave the aid unfreeze out, or let it learn before: --mixing first"
            )

    @property
    def key(self) -> str:
        """That of the training alone, with the others' examples and the mixture; no place where anything lies."""
        own = [[each.name, each.kind, each.digest, each.scheme, *_version(each.kind)] for each in self.others]
        return digest_of([alone(self).key, own, asdict(self.mixing)])[:12] if own else alone(self).key

    def joined(
        self, run: Run, shape: Shape, given: Weights | None, parts: Mapping[str, Rows], device: torch.device,
        besides: Besides,
    ) -> tuple[Weights | None, Besides]:  # fmt: skip
        """What a run begins with, weights of a trunk or none, and its company."""
        if not self.others:
            return given, besides
        members = [_member(self, number, run, shape) for number in range(len(self.others))]
        if self.mixing.how == FIRST:
            given, told = _taught(self, members, run, shape, given, device)
            return given, replace(besides, company=Earlier(told))
        model = besides.start or begun_of(self, run, shape, given, parts[TRAIN])
        models = tuple(_upon(each, model, shape) for each in members)
        size = run.size or len(parts[TRAIN])
        return given, replace(besides, start=model, company=Mixed(self, size, tuple(members), models))


def _version(kind: str) -> list[int]:
    return [VERSIONS[kind]] if kind in VERSIONS else []


class Member(NamedTuple):
    """One of the others in a run."""

    name: str
    task: TuneTask
    run: Run
    train: Rows
    dev: Rows

    @property
    def turns(self) -> int:
        """Batches of one of its epochs."""
        return -(-len(self.train) // self.task.batch)

    def rows(self, turn: int) -> np.ndarray:
        """Those of the batch that comes after `turn` others of this task."""
        epoch, part = divmod(turn, self.turns)
        order, batch = order_of(self.task, self.run, self.train, len(self.train)), self.task.batch
        return order(np.arange(part * batch, min(len(self.train), (part + 1) * batch)), epoch)


@dataclass(frozen=True)
class Mixed:
    """Company of one run: `finetune_one.Company`. `size`: examples of the task that counts."""

    task: MixedTask
    size: int
    members: tuple[Member, ...]
    models: tuple[Tuned, ...]
    losses: dict[str, list[Tensor]] = field(default_factory=dict)

    @cached_property
    def line(self) -> tuple[np.ndarray, np.ndarray]:
        return line_of(self.task, (self.size, *(len(each.train) for each in self.members)))

    @cached_property
    def own(self) -> np.ndarray:
        """The places of the task's own steps in the line."""
        return np.flatnonzero(self.line[0] == 0)

    @property
    def steps(self) -> int:
        return len(self.line[0]) - len(self.own)

    def before(self, step: int, began: Mapping[str, Tensor] | None) -> Iterator[Tuned]:
        which, turns = self.line
        for place in range(int(self.own[step - 1]) + 1 if step else 0, int(self.own[step])):
            number, turn = int(which[place]) - 1, int(turns[place])
            yield self._learned(self.members[number], self.models[number], turn, began)

    def _learned(self, member: Member, model: Tuned, turn: int, began: Mapping[str, Tensor] | None) -> Tuned:
        """The model, with the gradient of one batch."""
        rows, dtype = member.rows(turn), DTYPES[self.task.dtype]
        loss = step_of(member.task, member.run, model, member.train, rows, turn, began, None, dtype)
        self.losses.setdefault(member.name, []).append(loss)
        return model

    def told(self, dtype: torch.dtype) -> dict[str, Any]:
        """Of each other task its score on dev by the last weights, its steps, and its mean loss in the last epoch's."""
        found = {}
        for member, model in zip(self.members, self.models, strict=True):
            losses = self.losses.get(member.name, [])
            loss = float(torch.stack(losses[-member.turns :]).mean()) if losses else None
            found[member.name] = _told(member, model, len(losses), loss, dtype)
        return found


@dataclass(frozen=True)
class Earlier:
    """Company that has learned already: it is told of, and takes no step more."""

    found: dict[str, Any]
    models: Sequence[Tuned] = ()
    steps: int = 0

    def before(self, step: int, began: Mapping[str, Tensor] | None) -> Iterator[Tuned]:
        return iter(())

    def told(self, dtype: torch.dtype) -> dict[str, Any]:
        return self.found


def line_of(task: MixedTask, sizes: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """(n,) the task of every step of a training, 0 for the one that counts, and (n,) how often it has come before.
    `sizes`: examples of each."""
    mixing, turns = task.mixing, -(-sizes[0] // task.batch)
    tasks = Tasks(sizes, mixing.how, epochs=task.epochs, temperature=mixing.temperature, limit=mixing.limit)
    which = np.concatenate([tasks.led(epoch, turns) for epoch in range(task.epochs)])
    before = np.empty_like(which)
    for number in range(len(sizes)):
        mine = which == number
        before[mine] = np.arange(int(mine.sum()))
    return which, before


def planned(task: MixedTask) -> dict[str, int]:
    """How many steps of each other task there are in a run on all examples, before it is made."""
    uris = task.parts[TRAIN], *(each.train for each in task.others)
    sizes = tuple(len(rows_of(uri, task.specials, ANY)) for uri in uris)
    names = [each.name for each in task.others]
    if task.mixing.how == FIRST:
        own = {"epochs": task.mixing.epochs or task.epochs, "aids": Aids()}
        ahead = replace(task, mixing=Mixing(limit=task.mixing.limit), **own)
        counts = np.bincount(line_of(ahead, sizes[1:])[0], minlength=len(names))
    else:
        counts = np.bincount(line_of(task, sizes)[0], minlength=len(names) + 1)[1:]
    return dict(zip(names, counts.tolist(), strict=True))


def _member(task: MixedTask, number: int, run: Run, shape: Shape) -> Member:
    other = task.others[number]
    truth = {DEV: store.read_json(other.truth)} if other.truth else {}
    own = Aids(layerwise=task.aids.layerwise, mixout=task.aids.mixout, layerdrop=task.aids.layerdrop)
    parts = {TRAIN: other.train, DEV: other.dev}
    more = {"aids": own, "sizes": (), "writing": _writing(task, other, shape)}
    plain = alone(task, kind=other.kind, parts=parts, truth=truth, scheme=other.scheme, **more)
    rows = {name: rows_of(uri, task.specials, shape.length) for name, uri in parts.items()}
    seed = keyed(run.seed, BESIDE, number) >> 33
    return Member(other.name, plain, Run(run.pretrained, seed), readied(plain, rows[TRAIN], shape), rows[DEV])


def _writing(task: MixedTask, other: Other, shape: Shape) -> Decoding:
    """How the texts of another task are chosen: as the task's own, if it writes as well."""
    if other.kind != "write":
        return Decoding()
    return task.writing if task.kind == "write" else Decoding(longest=min(Decoding().longest, shape.length // 2))


def _upon(member: Member, model: Tuned, shape: Shape) -> Tuned:
    """Its head, upon the trunk of a model."""
    own = begun_of(member.task, member.run, shape, None, member.train)
    own.encoder = model.encoder
    return own


def _told(member: Member, model: Tuned, steps: int, loss: float | None, dtype: torch.dtype) -> dict[str, Any]:
    said = asked(member.task, model, member.dev, next(model.parameters()).device, dtype)
    scores = scored(member.task, member.dev, said, member.task.truth.get(DEV))
    return {"task": member.task.kind, "examples": len(member.train), "steps": steps, "loss": loss, "dev": scores}


def _taught(
    task: MixedTask, members: Sequence[Member], run: Run, shape: Shape, given: Weights | None, device: torch.device
) -> tuple[Weights, dict[str, Any]]:
    """The trunk once the others have learned, by size where they are several, and what is told of them."""
    lead, more = members[0], task.others[1:]
    own = {f.name: getattr(lead.task, f.name) for f in fields(TuneTask)} | {"epochs": task.mixing.epochs or task.epochs}
    parts = {TRAIN: lead.train, DEV: lead.dev}
    together = MixedTask(**own, others=more, mixing=Mixing(limit=task.mixing.limit))
    model, outcome = trained(together, lead.run, shape, given or {}, parts, device, lambda *_: None)
    told: dict[str, Any] = {}
    if not outcome.failed:
        steps = outcome.steps - sum(each["steps"] for each in outcome.beside.values())
        told = {lead.name: _told(lead, model, steps, outcome.losses[-1], DTYPES[task.dtype]), **outcome.beside}
    return {name: weight.detach() for name, weight in model.encoder.state_dict().items()}, told


def alone(task: TuneTask, **more: Any) -> TuneTask:
    """The same training without company; `more`: fields that are others."""
    return TuneTask(**{f.name: getattr(task, f.name) for f in fields(TuneTask)} | more)


def mixed(task: TuneTask, others: Sequence[Other], mixing: Mixing | None = None) -> MixedTask:
    """A fine-tuning with these tasks beside it."""
    own = {f.name: getattr(task, f.name) for f in fields(TuneTask)}
    return MixedTask(**own, others=tuple(others), mixing=mixing or Mixing())


# -- runs and what they come to


def told(task: MixedTask) -> dict[str, Any]:
    """What there is to say of sealed runs: the `mixing`, `beside` (each other task's dev scores over seeds) and, where
    the same runs without company lie in the same folder, the `gain` over them, seed by seed."""
    return {"mixing": asdict(task.mixing), "beside": beside(task), "gain": gain(task)}


def beside(task: MixedTask) -> dict[str, Any]:
    """What the other tasks came to in the sealed runs from pretrained weights on all examples."""
    runs = [finetune_runs.sealed(task, run) for run in _whole(task)]
    each = [one["beside"] for one in runs if one and not one["failed"] and one.get("beside")]
    found = {}
    for other in task.others if each else ():
        mine = [one[other.name] for one in each]
        scores = {key: over(key, [one["dev"][key] for one in mine]) for key in mine[0]["dev"]}
        about = {key: mine[0][key] for key in ("task", "examples", "steps")} | {"dev": scores}
        examples = len(rows_of(other.train, task.specials, ANY).begins)
        about |= {"examples": examples, "windows": about["examples"]} if examples < about["examples"] else {}
        found[other.name] = about | ({"shared": dict(other.shared)} if other.shared else {})
    return found


def gain(task: MixedTask) -> dict[str, Any]:
    """By part and measure the score in company less the one alone, of the seeds that have both; empty for none."""
    plain, pairs = alone(task), list[tuple[Any, Any]]()
    for run in _whole(task):
        two = finetune_runs.sealed(plain, run), finetune_runs.sealed(task, run)
        pairs += [two] if all(one and not one["failed"] for one in two) else []

    def each(part: str, key: str) -> list[float]:
        return [after["scores"][part][key] - before["scores"][part][key] for before, after in pairs]

    parts: dict[str, Any] = pairs[0][0]["scores"] if pairs else {}
    return {part: {key: gained(key, each(part, key)) for key in measures} for part, measures in parts.items()}


def _whole(task: TuneTask) -> list[Run]:
    return [run for run in task.runs if run.pretrained and not run.size]
