"""Which settings a search may take, as people write them, and those of a trial: a function of seed and number.

    lr=1e-5..1e-3:log        between two numbers, evenly in their logarithms
    weight_decay=0..0.1      between two numbers
    epochs=2..6              between two whole numbers, both among them, where the setting is one
    batch=8,16,32            one of some
    aid.layerwise=0.8..1.0   an aid of fine-tuning

Promises: trials are drawn independently (Bergstra and Bengio 2012), so what is expected of the best of n can be said;
each setting has its own stream, so that a trial keeps its learning rate when another setting joins the search. Refuses
what is no setting, values it cannot have, and ranges without room.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from typing import Any, NamedTuple

from tundish.operators.text.digest import payload_digest
from tundish.stages.examples_cells import nearest
from tundish.stages.finetune_task import Aids, TuneTask

AID = "aid."
SETTINGS = ("lr", "epochs", "batch", "warmup", "weight_decay", "clip", "dropout", "temperature", "pooling")
TYPES: dict[str, type] = {each.name: type(each.default) for each in fields(TuneTask) if each.name in SETTINGS} | {
    AID + each.name: type(each.default) for each in fields(Aids)
}
Setting = dict[str, Any]  # name -> value


class Dimension(NamedTuple):
    """`values`: one of these; else from `low` to `high`, both possible where they are whole numbers."""

    name: str
    values: tuple[Any, ...] = ()
    low: float = 0.0
    high: float = 0.0
    log: bool = False

    def at(self, share: float) -> Any:
        """The value at a share in [0, 1) of the way."""
        if self.values:
            return self.values[int(share * len(self.values))]
        whole = TYPES[self.name] is int
        low, high = self.low, self.high + whole
        found = math.exp(math.log(low) + share * math.log(high / low)) if self.log else low + share * (high - low)
        return min(int(found), int(self.high)) if whole else min(found, self.high)


def space_of(given: Sequence[str]) -> tuple[Dimension, ...]:
    """The dimensions of a space, by name.

    >>> [each.name for each in space_of(["lr=1e-5..1e-3:log", "batch=8,16"])]
    ['batch', 'lr']
    """
    found = [_dimension(each) for each in given]
    names = [each.name for each in found]
    if twice := [name for name in names if names.count(name) > 1]:
        raise ValueError(f"--space has {twice[0]} twice; say once between what it lies")
    if not found:
        raise ValueError("a search has no settings to search in; give some, such as --space lr=1e-5..1e-3:log")
    return tuple(sorted(found))


def _dimension(given: str) -> Dimension:
    name, sign, said = given.partition("=")
    if not sign or name not in TYPES:
        near = nearest(name, list(TYPES))
        hint = f"did you mean {near}?" if near else f"it is one of {', '.join(SETTINGS)}, or {AID} and an aid"
        raise ValueError(f"--space {given!r} names no setting; {hint}")
    low, dots, rest = said.partition("..")
    if not dots:
        return Dimension(name, tuple(_value(name, each, given) for each in said.split(",")))
    high, colon, how = rest.partition(":")
    if TYPES[name] is str or (colon and how != "log"):
        raise ValueError(f"--space {given!r} is no range; write such as lr=1e-5..1e-3:log, or batch=8,16,32")
    made = Dimension(name, (), _value(name, low, given), _value(name, high, given), bool(colon))
    if made.low >= made.high or (made.log and made.low <= 0):
        least = ", and above 0 where it goes by logarithms" if made.log else ""
        raise ValueError(f"--space {given!r} has no room; give the lower end first{least}")
    return made


def _value(name: str, said: str, given: str) -> Any:
    try:
        found = TYPES[name](said.strip())
    except ValueError:
        raise ValueError(f"--space {given!r}: {name} takes {TYPES[name].__name__} and not {said!r}") from None
    if TYPES[name] is float and not math.isfinite(found):
        raise ValueError(f"--space {given!r}: {said} is no setting; give finite numbers")
    return found


def drawn(space: Sequence[Dimension], seed: int, number: int) -> Setting:
    """What trial `number` (from 0) of a search takes."""
    return {each.name: each.at(_share(seed, number, each.name)) for each in space}


def _share(seed: int, number: int, name: str) -> float:
    """In [0, 1), with 53 bits, so that it is never rounded to 1."""
    body = payload_digest(f"{seed}\0{number}\0{name}".encode())
    return (int.from_bytes(body[:8], "little") >> 11) / 2**53


def applied(task: TuneTask, setting: Mapping[str, Any]) -> TuneTask:
    """The task with these settings; refuses what its fields refuse."""
    aids = {name.removeprefix(AID): value for name, value in setting.items() if name.startswith(AID)}
    own = {name: value for name, value in setting.items() if not name.startswith(AID)}
    return replace(task, **own, aids=replace(task.aids, **aids))


def spoken(setting: Mapping[str, Any]) -> str:
    """As the command line would take it, numbers short.

    >>> spoken({"lr": 0.00012345678, "batch": 16})
    'lr=0.000123457 batch=16'
    """
    return " ".join(f"{n}={v:.6g}" if isinstance(v, float) else f"{n}={v}" for n, v in setting.items())
