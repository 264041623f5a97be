"""How far apart two steps of a compression are on what was tested: of other texts and other seeds as well.

    out/units/KEY-SEED.npz    of a step and a seed, by part, what its score is counted from (stages/finetune_units)

    difference(sides, "int8", "model")     a score less another's, with the interval of both on the same texts
    front(costs, better)                   which steps have a star

Promises: both sides are asked of the same texts each time. What was given, and what is made of it without training, is
one model and no draw: its interval is over texts alone (the paired bootstrap). What has learnt has seeds, and its
interval is over both; seeds that both sides have are paired (operators/model/apart). Of one seed there is none. A step
that was sealed before its units were kept has none either. Costs a score a seed of each step, a thousand times.
"""

import io
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from tundish.cluster import store
from tundish.operators.model.apart import Side, apart, pairs, scored
from tundish.operators.model.certainty import Interval
from tundish.stages import finetune_means
from tundish.stages.compress_steps import Room
from tundish.stages.finetune_units import measure_of, units_of

FOLDER, GIVEN = "units", "given"
SEED, SAMPLES = 1, 1000


class Seeds(NamedTuple):
    """`names`: of the runs of `side`, in their order; "" of what has none."""

    names: list[str]
    side: Side


def _place(room: Room, key: str, seed: str) -> str:
    return store.join(room.task.out, FOLDER, f"{key}-{seed or GIVEN}.npz")


def keep(room: Room, key: str, seed: str, logits: Mapping[str, Any]) -> None:
    """Seal what the scores of a step are counted from. `logits`: of each part."""
    truth, body = room.task.truth, io.BytesIO()
    units = {
        part: units_of(room.task, room.parts[part], {"logits": each}, truth.get(part)) for part, each in logits.items()
    }
    np.savez_compressed(body, **units)  # type: ignore[arg-type]
    store.write(_place(room, key, seed), body.getvalue())


def sides_of(
    room: Room, seeds: Mapping[str, Mapping[str, Any]], keys: Mapping[str, str], part: str
) -> dict[str, Seeds]:
    """Of each step its scores on a part, by path. `seeds`: of each step those that did not fail; `keys`: of each step.
    Without those of which nothing was kept."""
    names = {path: list(each) for path, each in seeds.items() if each}
    units = {path: [_units(_place(room, keys[path], seed), part) for seed in each] for path, each in names.items()}
    units = {path: each for path, each in units.items() if not any(one is None for one in each)}
    if not units:
        return {}
    runs = np.stack([one for each in units.values() for one in each])  # all at once: all on the same texts
    whole, told, at = scored(measure_of(room.task.kind), runs, seed=SEED, samples=SAMPLES), dict[str, Seeds](), 0
    for path, each in units.items():
        mine = slice(at, at := at + len(each))
        told[path] = Seeds(names[path], Side(whole.scores[mine], whole.drawn[:, mine], whole.rows))
    return told


def _units(uri: str, part: str) -> Any:
    if not store.exists(uri):
        return None
    with np.load(io.BytesIO(store.read(uri)), allow_pickle=False) as held:
        return held[part] if part in held.files else None


def difference(sides: Mapping[str, Seeds], path: str, other: str, measure: str) -> Interval | None:
    """What the one scores less the other; None where nothing is known of it, or where both have learnt and have no
    seed in common."""
    if path not in sides or other not in sides:
        return None
    one, two, bounds = sides[path], sides[other], finetune_means.apart(measure)
    if [""] in (one.names, two.names):
        return apart(two.side, one.side, bounds=bounds)
    both = [seed for seed in one.names if seed in two.names]
    return pairs(_of(two, both), _of(one, both), bounds=bounds) if both else None


def _of(it: Seeds, seeds: Sequence[str]) -> Side:
    at = [it.names.index(seed) for seed in seeds]
    return Side(it.side.scores[at], it.side.drawn[:, at], it.side.rows)


def sure(sides: Mapping[str, Seeds], path: str, other: str) -> bool:
    """Whether a difference between them can have an interval: not of the one seed of what has learnt."""
    if path not in sides or other not in sides:
        return False
    one, two = sides[path].names, sides[other].names
    if [""] in (one, two):
        return all(names == [""] or len(names) > 1 for names in (one, two))
    return len({*one} & {*two}) > 1


def better(sides: Mapping[str, Seeds], scores: Mapping[str, float], measure: str) -> Callable[[str, str], bool]:
    """Whether one step is shown to score more than another: by the interval, of texts alone where there is one seed;
    by the scores as they are where no units were kept."""

    def shown(path: str, other: str) -> bool:
        found = difference(sides, path, other, measure)
        return scores[path] > scores[other] if found is None else found.low > 0

    return shown


def front(costs: Mapping[str, float], shown: Callable[[str, str], bool]) -> list[bool]:
    """Which have a star: from the cheapest on, each that is shown to score more than every starred one that costs less,
    while none that costs as much is shown to score more than it. Of scores that are sure that is the Pareto front.

    >>> scores = {"a": 0.9, "b": 0.8, "c": 0.8, "d": 0.85}
    >>> front({"a": 3.0, "b": 1.0, "c": 2.0, "d": 2.5}, lambda one, other: scores[one] > scores[other])
    [True, True, False, True]
    """
    starred: list[str] = []
    for path in sorted(costs, key=costs.__getitem__):
        less = [each for each in starred if costs[each] < costs[path]]
        alike = [each for each in costs if costs[each] == costs[path]]
        if all(shown(path, each) for each in less) and not any(shown(each, path) for each in alike):
            starred.append(path)
    return [path in starred for path in costs]
