"""Two runs side by side: fields of their recipes, their funnels with every reason, how far signals moved, their scores.

Promises: stages are paired by their kind and place in the recipe; what only one of the runs has is said to be there
alone. Everything is read from records and manifests, but the drift (pipeline/drift), which reads columns. Refuses roots
without a run.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from tundish.pipeline import drift as drifts
from tundish.pipeline.funnel import Line, Ran, funnel, ran
from tundish.pipeline.plan import fields_of


@dataclass(frozen=True)
class Changed:
    """A field of a stage, before and after; the field "" is the stage itself, which one of the runs lacks."""

    stage: str
    field: str
    before: Any
    after: Any


@dataclass(frozen=True)
class Pair:
    """A stage in both funnels, None where it is not; `reasons`: what was dropped for each, before and after."""

    stage: str
    before: Line | None
    after: Line | None

    @property
    def reasons(self) -> list[tuple[str, int, int]]:
        """What moved most first."""
        sides = [line.drops if line else {} for line in (self.before, self.after)]
        rows = [(name, *(side.get(name, 0) for side in sides)) for name in {*sides[0], *sides[1]}]
        return sorted(rows, key=lambda row: (-abs(self.share(row[2], 1) - self.share(row[1], 0)), row[0]))

    def share(self, count: int | None, side: int) -> float:
        """A count of the documents that came in, before (0) or after (1)."""
        line = (self.before, self.after)[side]
        return (count or 0) / max(1, (line.documents_in or 0) if line else 0)


@dataclass(frozen=True)
class Score:
    """A number of a training or a fine-tuning; None where one of the runs has none. `less`: less is better."""

    stage: str
    name: str
    before: float | None
    after: float | None
    less: bool

    @property
    def better(self) -> bool | None:
        """Whether it got better; None where nothing can be said."""
        if self.before is None or self.after is None or self.before == self.after:
            return None
        return (self.after < self.before) == self.less


@dataclass(frozen=True)
class Compared:
    """Two runs; `drift` is empty where they have no column in common, and `why` says so."""

    before: Ran
    after: Ran
    fields: list[Changed]
    funnel: list[Pair]
    drift: list[drifts.Drift]
    why: str
    scores: list[Score]


def compared(before: str, after: str) -> Compared:
    """The latest runs under two roots."""
    one, two = ran(before), ran(after)
    try:
        found, why = drifts.between(one, two), ""
    except ValueError as error:
        found, why = [], str(error)
    return Compared(
        one, two, list(changed(one, two)), paired(funnel(before), funnel(after)), found, why, scores(one, two)
    )


def changed(one: Ran, two: Ran) -> Iterator[Changed]:
    """Fields that differ, stage by stage; a stage that another reads is told by its kind: addresses always differ."""
    for stage, here, there in _kin(one, two):
        if here is None or there is None:
            yield Changed(stage, "", here and "there", there and "there")
            continue
        a, b = one.recipe[here], two.recipe[there]
        if a["version"] != b["version"]:
            yield Changed(stage, "version", a["version"], b["version"])
        for name, before, after in fields_of(_named(one, a["fields"]), _named(two, b["fields"])):
            yield Changed(stage, name, before, after)


def _kin(one: Ran, two: Ran) -> Iterator[tuple[str, str | None, str | None]]:
    """(stage, address before, address after) of stages of one kind, the first with the first; in the order of the
    second recipe, then what is gone."""
    left = {stage: [a for a, told in one.recipe.items() if told["stage"] == stage] for stage in _kinds(one)}
    for address, told in two.recipe.items():
        kin = left.get(told["stage"], [])
        yield told["stage"], kin.pop(0) if kin else None, address
    for stage, gone in left.items():
        for address in gone:
            yield stage, address, None


def _kinds(run: Ran) -> list[str]:
    return list(dict.fromkeys(told["stage"] for told in run.recipe.values()))


def _named(run: Ran, value: Any) -> Any:
    """Fields with the stages in them by their kind."""
    if isinstance(value, Mapping):
        return {name: _named(run, inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_named(run, inner) for inner in value]
    return run.recipe[value]["stage"] if isinstance(value, str) and value in run.recipe else value


def paired(before: list[Line], after: list[Line]) -> list[Pair]:
    """Funnels line by line, in the order of the second, what is gone behind."""
    left: dict[str, list[Line]] = {}
    for line in before:
        left.setdefault(line.stage, []).append(line)
    found = [Pair(line.stage, left[line.stage].pop(0) if left.get(line.stage) else None, line) for line in after]
    return found + [Pair(stage, line, None) for stage, lines in left.items() for line in lines]


def scores(one: Ran, two: Ran) -> list[Score]:
    """What trainings reached: losses, bits a byte, and the measures of fine-tunings."""
    found: dict[tuple[str, str, bool], list[float | None]] = {}
    for side, run in enumerate((one, two)):
        for stage, name, less, value in _reached(run):
            found.setdefault((stage, name, less), [None, None])[side] = value
    return [Score(stage, name, *values, less) for (stage, name, less), values in found.items()]


def _reached(run: Ran) -> Iterator[tuple[str, str, bool, float]]:
    for address in run.of("Pretrain"):
        result = run.datasets[address].about.get("result") or {}
        named = {"last_loss": "training loss", "holdout_last": "held-out loss"}
        yield from (
            ("Pretrain", said, True, result[name]) for name, said in named.items() if result.get(name) is not None
        )
        for source, bits in (result.get("bits_per_byte") or {}).items():
            yield "Pretrain", f"bits a byte, {source}", True, bits
    for address in run.of("Finetune"):
        result = run.datasets[address].about.get("result") or {}
        for part in result.get("tested", []):
            mean = result["parts"][part].get("pretrained", {}).get(result.get("measure", ""), {}).get("mean")
            if mean is not None:
                yield "Finetune", f"{result['measure'].replace('_', ' ')} on {part}", False, mean
