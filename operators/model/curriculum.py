"""A curriculum: which objective, mask rate, context, batch and learning rate a training has at which of its tokens.

    - {tokens: [0, 40%],    objective: clm}                                  # CLM -> MLM (arXiv 2507.00994)
    - {tokens: [40%, 100%], objective: mlm, rate: [0.30, 0.15]}

    - {tokens: [0, 100%], objective: {mlm: 15, clm: 1}, rate: [0.30, 0.15]}  # GPT-BERT (arXiv 2410.24159)

    - {tokens: [0, 1.5B], row: 16384, context: 1024, batch: [32, 256]}
    - {tokens: [1.5B, 2B], context: 8192, lr: [1, 0.1]}                      # the rest as in the phase before

    tokens      the first, and the end: numbers, 600k, 50M, 1.5B, or a share of the run such as 40%
    objective   a name, or names with weights, of which each step has one, evenly interleaved
    rate        what is hidden: one share, or from which to which, in equal steps of 8 levels (static shapes); left out:
                as the objective has it
    row         places of a row, context of its longest segment
    batch       rows of a step; two: from which to which, growing in 8 stairs of equal tokens
    lr          a factor on the learning rate; two: from which to which, step by step

A mapping {objectives: …, phases: …} brings objectives of its own by name: {ours: {kind: masked, unit: span}}.

Promises: everything about a step is a function of the step; phases have the tokens they say, but for less than a step,
and rounding does not add up; a phase takes over from the one before what it does not say, but for rates and factors.
Costs nothing. Refuses unknown keys and objectives, with the nearest known one, phases that overlap, leave a gap, do not
begin at 0 or do not end with the run.
"""

import difflib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from tundish.operators.model.corrupting import Corrupted
from tundish.operators.model.following import Following
from tundish.operators.model.hiding import Masked, check_rate, geometric, uniform
from tundish.operators.model.phases import LEVELS, Phase, Schedule, fitted
from tundish.operators.model.stream import Objective

OBJECTIVES: Mapping[str, Objective] = {
    "mlm": Masked(),
    "mlm-all": Masked(shares=(100, 0)),
    "mlm-words": Masked(unit="word"),
    "mlm-spans": Masked(unit="span", lengths=geometric(0.2, 10)),
    "mlm-spans-3": Masked(unit="span", lengths=uniform(3)),
    "rtd": Masked(shares=(85, 0), sampled=True),
    "clm": Following(),
    "prefix": Following(prefixed=True),
}
MAKERS: Mapping[str, Callable[..., Objective]] = {"masked": Masked, "following": Following, "corrupted": Corrupted}
UNITS = {"k": 10**3, "M": 10**6, "B": 10**9, "T": 10**12}


@dataclass(frozen=True)
class Curriculum:
    phases: tuple[Phase, ...]
    objectives: Mapping[str, Objective]

    def schedule(self, mean: float | Callable[[Phase], float], levels: int = LEVELS) -> Schedule:
        """In steps. `mean`: tokens of a row, padding not counted, in all phases or of each."""
        return fitted(self.phases, self.objectives, mean if callable(mean) else lambda _: mean, levels)


def read(
    plain: Any, tokens: int, *, row: int, context: int, batch: int, more: Mapping[str, Objective] | None = None
) -> Curriculum:
    """The curriculum of a run of so many tokens, from plain values as YAML holds them. `row`, `context`, `batch`: what
    holds until a phase says otherwise. `more`: objectives by name, such as {"t5": sentinels_of(specials)}."""
    own: Mapping[str, Any] = {}
    if isinstance(plain, Mapping):
        _known(plain, ("objectives", "phases"), "a curriculum")
        own, plain = plain.get("objectives") or {}, plain.get("phases")
    if not isinstance(plain, Sequence) or isinstance(plain, str) or not plain:
        raise ValueError(f"a curriculum is a list of phases and not {plain!r}; give one phase or more")
    objectives = {**OBJECTIVES, **(more or {}), **{name: _objective(name, said) for name, said in own.items()}}
    before = Phase(0, 0, row=row, context=context, batch=(batch, batch))
    phases: list[Phase] = []
    for number, said in enumerate(plain):
        phases.append(_phase(f"phase {number}", said, before, tokens, objectives))
        before = phases[-1]
    if before.end != tokens:
        raise ValueError(
            f"the curriculum ends at token {before.end:,} and the run at {tokens:,}; end its last phase with 100%"
        )
    return Curriculum(tuple(phases), objectives)


KEYS = ("tokens", "objective", "rate", "row", "context", "batch", "lr")


def _phase(where: str, said: Any, before: Phase, total: int, objectives: Mapping[str, Objective]) -> Phase:
    if not isinstance(said, Mapping):
        raise ValueError(f"{where} of the curriculum is {said!r}; give a mapping with the keys {', '.join(KEYS)}")
    _known(said, KEYS, f"{where} of the curriculum")
    if not isinstance(said.get("tokens"), Sequence) or isinstance(said["tokens"], str) or len(said["tokens"]) != 2:
        raise ValueError(f"{where} has the tokens {said.get('tokens')!r}; give the first and the end, as [0, 50M]")
    first, end = (amount(each, total) for each in said["tokens"])
    if first != before.end:
        what = "leave a gap" if first > before.end else "overlap"
        raise ValueError(
            f"{where} begins at token {first:,} and what is before it ends at {before.end:,}, so they {what}; "
            f"begin it at {before.end:,}"
        )
    if end <= first:
        raise ValueError(f"{where} goes from token {first:,} to {end:,}, which are none; end it behind its beginning")
    rows, lr = _pair(where, "batch", said, before.batch[1], amount), _pair(where, "lr", said, 1.0, float)
    rate = _pair(where, "rate", said, None, float)
    row, context = (amount(said.get(key, left)) for key, left in (("row", before.row), ("context", before.context)))
    if "context" in said and "row" not in said:
        row = max(row, context)
    for each in rate or ():
        check_rate(each)
    if rows is None or min(rows) < 1 or lr is None or not min(lr) >= 0 or not 2 < context <= row:
        raise ValueError(
            f"{where} has a batch of {rows} rows of {row} places with contexts of {context}, and the factors {lr}; "
            "give at least a row of 3 places, no context longer than its row, and no factor below 0"
        )
    mixture = _mixture(where, said["objective"], objectives) if "objective" in said else before.mixture
    return Phase(first, end, mixture, rate, row, context, rows, lr)


def _mixture(where: str, said: Any, objectives: Mapping[str, Objective]) -> tuple[tuple[str, int], ...]:
    weights = said if isinstance(said, Mapping) else {said: 1}
    for name, weight in weights.items():
        if name not in objectives:
            raise ValueError(f"{where} has no objective {name!r} to serve{_nearest(name, objectives)}")
        if type(weight) is not int or weight < 1:
            raise ValueError(f"{where} gives {name!r} the weight {weight!r}; give a whole number of at least 1")
    if not weights:
        raise ValueError(f"{where} has a mixture of no objectives; name at least one")
    return tuple(weights.items())


def _objective(name: str, said: Any) -> Objective:
    if not isinstance(said, Mapping) or said.get("kind") not in MAKERS:
        kind = said.get("kind") if isinstance(said, Mapping) else said
        raise ValueError(f"the objective {name!r} is of kind {kind!r}{_nearest(kind, MAKERS)}")
    make = MAKERS[said["kind"]]
    _known(said, ("kind", *(field.name for field in fields(make))), f"the objective {name!r}")  # type: ignore[arg-type]
    given = {key: tuple(each) if isinstance(each, list) else each for key, each in said.items() if key != "kind"}
    try:
        return make(**given)
    except TypeError as error:
        raise ValueError(f"the objective {name!r} cannot be read ({error}); look at its values") from None


def amount(said: Any, total: int | None = None) -> int:
    """A whole number as people write it.

    >>> amount("1.5B"), amount("600k"), amount(7), amount("40%", 50)
    (1500000000, 600000, 7, 20)
    """
    text = str(said).strip().replace("_", "").replace(",", "")
    unit = UNITS.get(text[-1:], total / 100 if text.endswith("%") and total is not None else None)
    try:
        if isinstance(said, bool):
            raise ValueError
        found = float(text[:-1]) * unit if unit is not None else float(text)
        if found < 0 or (round(found) != round(found, 3) and not text.endswith("%")):
            raise ValueError
        return round(found)
    except (ValueError, OverflowError):
        raise ValueError(f"{said!r} is no whole number; write 600000, 600k, 50M or 1.5B") from None


def _pair(where: str, key: str, said: Mapping[str, Any], left: Any, of: Callable[[Any], Any]) -> Any:
    """From, to: of one value or two."""
    value = said.get(key, left)
    if value is None:
        return None
    both = list(value) if isinstance(value, Sequence) and not isinstance(value, str) else [value, value]
    try:
        if len(both) != 2 or any(isinstance(each, bool) for each in both):
            raise ValueError
        return of(both[0]), of(both[1])
    except (ValueError, TypeError):
        raise ValueError(f"{where} has the {key} {value!r}; give one number, or two: from, to") from None


def _known(said: Mapping[str, Any], keys: Iterable[str], where: str) -> None:
    for key in said:
        if key not in keys:
            raise ValueError(f"{where} has the key {key!r}, which means nothing here{_nearest(key, keys)}")


def _nearest(name: Any, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(str(name), list(known), 1, 0.0)
    return f"; did you mean {near[0]!r}? (there are {', '.join(known)})"
