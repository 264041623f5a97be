"""What a training is fed: its plan, which may grow while it goes on, and this rank's batches by it.

    plan.json     the plan as far as it is known, by legs: sources with digests, stretches with their first positions,
                  holes; a leg ends where rows become longer or shorter

Promises: all ranks have one plan; a step's rows follow from it, so a plan that grew is replayed exactly. A corpus that
is still being written (`follow`, a list of generations) is looked for every `checkpoint_every` steps; what has come
joins at that step. Batches, and what all ranks together have in them, are made one step ahead, in a thread of its own.
Refuses generations of another vocabulary, and to replay on shards that are not the plan's.
"""

import json
import os
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from tundish.cluster import store
from tundish.operators.model.batch import Batch
from tundish.operators.model.hiding import Hiding
from tundish.operators.model.order import keyed, mixed
from tundish.operators.model.phases import Phase, Schedule, Setting
from tundish.operators.model.plan import Places, Plan, Stretch, onward, weights_of
from tundish.operators.model.rows import Layout
from tundish.operators.model.stream import Aim, Stream, ahead
from tundish.stages.generations_list import arrived
from tundish.stages.pretrain_legs import (
    LEG,
    Holes,
    Leg,
    blanked,
    filled_up,
    holes_of,
    lasting,
    of_steps,
    shifted,
    until_of,
    with_holes,
)
from tundish.stages.pretrain_passes import rows_of_pass
from tundish.stages.pretrain_task import PretrainTask, causal_of
from tundish.stages.pretrain_work import places_of, useful_of
from tundish.stages.ranks import Ranks, refuse_idle
from tundish.stages.token_stream import Opened, TokenFiles, cache_of, files_of, future, mean_places

PLAN = "plan.json"
PATIENCE = 5.0  # seconds between looks for the first generation


class Step(NamedTuple):
    """`batches`: this rank's rows, in parts that fit a forward pass. Of all ranks: `guessed` places, `tokens`, `places`
    that are computed and `useful` operations (stages/pretrain_work), the digest `masks` of what was hidden, and whether
    one of them was asked to stop."""

    number: int
    setting: Setting
    batches: list[Batch]
    guessed: int
    tokens: int
    places: int
    useful: int
    masks: int
    stop: bool


class Feed:
    """The stream of a task for one rank. `steps`: how many its tokens take, by what there is at the start."""

    def __init__(self, task: PretrainTask, ranks: Ranks) -> None:
        self.task, self.ranks = task, ranks
        self.static = False  # whether batches keep their shape: what is compiled is compiled for one
        self.even = False  # whether all ranks must go forward equally often: sharded weights meet in every pass
        self.holes = list(task.holes)
        self.levels: list[int] = list(task.anew)  # steps from which on another level of the loss is usual
        begins = np.frombuffer(task.words, np.uint8) if task.words else None
        self.hiding = Hiding(task.pieces, task.specials, task.seed, 0.3, words=begins)
        self._files: dict[Layout, dict[str, TokenFiles]] = {}
        self._opened = 0  # generations among them
        self._streams: dict[int, Stream] = {}
        for layout in self._layouts():
            self._files[layout] = {one.name: one.counted(layout) for one in self._given(layout)}
        if task.follow:
            self._wait()
        self.schedule = self._schedule()
        refuse_idle((rows for _, rows in self.schedule.batches), ranks.world, ranks.together, tell=ranks.rank == 0)
        self.legs = self._replayed() if task.replay else self._planned()
        self.holes += [hole for number, leg in enumerate(self.legs) for hole in shifted(leg.plan.holes, number)]
        self.steps = self.schedule.steps

    # what is asked

    @property
    def plan(self) -> Plan:
        """The plan of a training whose rows never change their length."""
        return self.legs[0].plan

    def leg(self, step: int) -> tuple[int, Leg]:
        """The leg a step is in, by number."""
        number = max(each for each, leg in enumerate(self.legs) if leg.first <= step or not each)
        return number, self.legs[number]

    def batches(self, start: int) -> Iterator[Step]:
        """This rank's batches from a step to the end."""
        while start < self.steps:
            number, leg = self.leg(start)
            until = leg.first + leg.steps
            if self.task.follow:
                until = min(until, start + self.task.checkpoint_every)
                self._grow(start, until)
                leg = self.legs[0]
            self.write()
            stream, shift = self.stream(number), leg.first
            if stream.open.cache:  # type: ignore[attr-defined]
                files: tuple[TokenFiles, ...] = stream.open.files  # type: ignore[attr-defined]
                uses = future(files, leg.plan, int(leg.plan.share(until - shift)[-1]))
                slack = 2 * max(rows for _, rows in leg.plan.batches)
                stream.open.cache.plan(uses, int(leg.plan.share(start - shift)[0]), slack=slack)  # type: ignore[attr-defined]
            steps = range(start - shift, until - shift)
            yield from ahead(self._steps(stream, shift, steps))
            start = until

    def _steps(self, stream: Stream, shift: int, steps: range) -> Iterator[Step]:
        for step, those in stream.shares(steps, world=self.ranks.shares, rank=self.ranks.share):
            setting = self.schedule.at(step + shift)
            mine = self.levelled(stream, those, Aim(setting.objective, setting.rate), stream.plan.share(step))
            masks = sum(batch.digest for batch in mine) % 2**64
            causal = causal_of(setting.objective)
            here = np.array(
                [
                    masks - (masks >> 63 << 64),
                    sum(int(batch.counts.sum()) for batch in mine),
                    sum(int(batch.sizes.sum()) for batch in mine),
                    sum(map(places_of, mine)),
                    sum(int(useful_of(self.task, batch, causal)) for batch in mine),
                    self.ranks.asked_to_stop(),
                ],
                np.int64,
            )
            masks, guessed, tokens, places, useful, stop = self.ranks.counted(here).tolist()
            yield Step(step + shift, setting, mine, guessed, tokens, places, useful, masks % 2**64, bool(stop))

    def at_once(self, layout: Layout) -> int:
        """Rows of a forward pass, where that is fixed; else 0."""
        return rows_of_pass(self.task, self.schedule, layout, self.ranks.shares, static=self.static)

    def parts(self, stream: Stream, places: Places, aim: Aim) -> list[Batch]:
        """These rows, as many at once as a forward pass takes; where shapes are to stay, the last ones filled up."""
        size = self.at_once(stream.layout) or max(1, len(places))
        found = [stream.batch(places.slice(at, at + size), aim) for at in range(0, len(places), size)]
        if self.static:
            found = [filled_up(batch, size, self.task.specials["[PAD]"]) for batch in found]
        return found

    def levelled(self, stream: Stream, places: Places, aim: Aim, all_: np.ndarray) -> list[Batch]:
        """As `parts`; where it matters, with parts that count nothing, so that no rank has fewer than another. `all_`:
        the positions that all ranks share."""
        found = self.parts(stream, places, aim)
        if self.even:
            most = -(-len(all_) // self.ranks.shares)
            missing = -(-most // (self.at_once(stream.layout) or max(1, most))) - len(found)
            if missing > 0:
                [none] = self.parts(stream, stream.plan.places(all_[:1]), aim)
                found += [blanked(none)] * missing
        return found

    def booked(self, step: int) -> dict[str, Any]:
        """A step's rows, for the ledger: numbers of the first consumed and of all, a digest of which they are."""
        number, leg = self.leg(step)
        places = leg.plan.places(leg.plan.share(step - leg.first))
        words = mixed(self.stream(number).keys(places) ^ mixed(places.epoch.astype(np.uint64)))
        order = int(mixed(words + np.arange(len(words), dtype=np.uint64)).sum())
        before = sum(each.plan.consumed(each.steps) for each in self.legs[:number])
        told = {"first": before + leg.plan.consumed(step - leg.first), "rows": len(places), "order": f"{order:016x}"}
        return told | ({"leg": number} if number else {})

    def positions(self, step: int) -> tuple[int, int]:
        """The positions of a step's rows, [first, behind the last), those of later legs above those of earlier ones."""
        number, leg = self.leg(step)
        share = leg.plan.share(step - leg.first)
        return (number << LEG) + int(share[0]), (number << LEG) + int(share[-1]) + 1

    def changes(self, step: int) -> bool:
        """Whether other sources, or others of their weights, begin within a step."""
        leg = self.leg(step)[1]
        share = leg.plan.share(step - leg.first)
        return any(share[0] <= stretch.first <= share[-1] for stretch in leg.plan.stretches[1:])

    def until(self, step: int, holes: Holes = ()) -> list[dict[str, Any]]:
        """What of the plan decides the steps before this one; `holes`: besides those it has."""
        return until_of(with_holes(self.legs, [*self.holes, *holes]) if holes else self.legs, step)

    def plain(self) -> list[dict[str, Any]]:
        return [leg.plain() for leg in self.legs]

    # how it changes

    def add(self, holes: Holes) -> None:
        """Never train on these positions: what comes after them moves up. All ranks say it together."""
        self.holes = sorted({*self.holes, *holes})
        self.legs = with_holes(self.legs, self.holes)
        for number, stream in self._streams.items():
            self._streams[number] = replace(stream, plan=self.legs[number].plan)

    def resume(self, told: str) -> None:
        """Go on by the plan of a checkpoint, which rank 0 has ("": by the plan there is). All ranks say it together."""
        if self.ranks.rank == 0 and told:
            self.legs = tuple(map(Leg.of, json.loads(told)))
            self.holes = [hole for number, leg in enumerate(self.legs) for hole in shifted(leg.plan.holes, number)]
        self._share_out()

    def write(self, levels: Iterable[int] = ()) -> None:
        """The plan, with the steps at which the training found that another level of the loss is usual."""
        if self.ranks.rank == 0:
            first = self.legs[0]
            told = {"plan": first.plan.plain(), "steps": self.steps, "row": first.layout.row}
            told |= {"context": first.layout.context}
            if len(self.legs) > 1:
                told["legs"] = self.plain()
            if levels := sorted(levels):
                told["levels"] = levels
            store.write_json(store.join(self.task.out, PLAN), told)

    def close(self) -> None:
        for stream in self._streams.values():
            stream.open.close()  # type: ignore[attr-defined]

    # how it begins

    def _layouts(self) -> list[Layout]:
        return list(dict.fromkeys(Layout(phase.row, phase.context) for phase in self.task.aims.phases))

    def _given(self, layout: Layout) -> tuple[TokenFiles, ...]:
        sources = self.task.sources
        given = sources[layout.row, layout.context] if isinstance(sources, Mapping) else sources
        if len({one.name for one in given}) < len(given):
            names = sorted({one.name for one in given})
            raise ValueError(f"two sources of a training have one name; give each of {names} its own")
        return given

    def _schedule(self) -> Schedule:
        named = dict(self.task.weights) or {0: None}

        def mean(phase: Phase) -> float:
            files = tuple(self._files[Layout(phase.row, phase.context)].values())
            return mean_places(files, dict(weights_of([one.source for one in files], named.get(0))))

        return self.task.aims.schedule(mean)

    def _planned(self) -> tuple[Leg, ...]:
        """The plan of the sources there are, by the weights the task gives from each step on."""
        named = dict(self.task.weights) or {0: None}
        if 0 not in named:
            raise ValueError(f"weights begin at step {min(named)}; say by which ones training begins, at step 0")
        legs, ends = [], [first for first, _ in self.schedule.layouts[1:]] + [self.schedule.steps]
        for number, ((first, (row, context)), end) in enumerate(zip(self.schedule.layouts, ends, strict=True)):
            layout = Layout(row, context)
            sources = tuple(one.source for one in self._files[layout].values())
            mine = {max(0, step - first): named[step] for step in sorted(named) if step < end}
            batches = {max(0, step - first): rows for step, rows in self.schedule.batches if step < end}
            seed = keyed(self.task.seed, number) if number else self.task.seed
            holes = holes_of(self.task.holes, number)
            start = Stretch(0, weights_of(sources, mine[0]))
            plan = Plan(seed, sources, (start,), tuple(batches.items()), self.task.window, holes)
            later = [Stretch(int(plan.share(step)[0]), weights_of(sources, w)) for step, w in list(mine.items())[1:]]
            legs.append(Leg(first, end - first, layout, replace(plan, stretches=(start, *later))))
        return tuple(legs)

    def _replayed(self) -> tuple[Leg, ...]:
        told = json.loads(store.read(self.task.replay))
        self.levels += told.get("levels", [])
        alone = {"first": 0, **{name: told[name] for name in ("steps", "row", "context", "plan")}}
        legs = tuple(map(Leg.of, told.get("legs") or [alone]))
        for leg in legs:
            have = {name: one.source for name, one in self._files[leg.layout].items()}
            for source in leg.plan.sources:
                if have.get(source.name) != source:
                    raise ValueError(
                        f"the plan {self.task.replay!r} was made for other shards of {source.name!r}; "
                        "give the generations it was trained on"
                    )
        if told["steps"] != self.schedule.steps:  # it was made when there was less to train on
            self.schedule = of_steps(self.schedule, told["steps"])
        return legs

    def stream(self, number: int) -> Stream:
        """The stream of a leg by its plan as it is now; shards stay mapped where the sources are the same."""
        if number not in self._streams:
            leg = self.legs[number]
            files = tuple(self._files[leg.layout][source.name] for source in leg.plan.sources)
            cache = cache_of(files, os.environ.get("TUNDISH_TOKENS", ""))
            opened = Opened(files, leg.layout, cache, self.task.window)
            self._streams[number] = Stream(leg.plan, leg.layout, self.hiding, opened)
        return self._streams[number]

    # a corpus that grows

    def _wait(self) -> None:
        """Until there is a first generation. All ranks begin with it alone: what else there is joins at step 0."""
        if len(self._files) > 1:
            raise ValueError("a corpus that is followed is cut into rows of one length; give the curriculum one")
        files = next(iter(self._files.values()))
        while not files:
            self._look(1)
            left, ended = arrived(self.task.follow, self._opened)
            if not files and ended and not left:
                raise ValueError(f"{self.task.follow} ends and no generation holds a row; widen the recipe's sources")
            if not files and not left:
                time.sleep(PATIENCE)

    def _look(self, most: int | None = None) -> None:
        """Take up the generations that came, named by origin and generation."""
        [(layout, files)] = self._files.items()
        for one in arrived(self.task.follow, self._opened)[0][:most]:
            for file in files_of(one.tokens(), suffix=f"@{one.number}"):
                counted = file.counted(layout)
                files |= {file.name: counted} if counted.source.size else {}
            self._opened += 1

    def _grow(self, step: int, until: int) -> None:
        """Take in what came, and make the plan last until a step. Rank 0 decides."""
        if self.ranks.rank == 0:
            self._look()
            plan, [files] = self.plan, self._files.values()
            have = {source.name for source in plan.sources}
            if fresh := tuple(one.source for one in files.values() if one.name not in have):
                plan = onward(plan, int(plan.share(step)[0]), fresh)
            self.legs = (replace(self.legs[0], plan=lasting(plan, until)),)
        self._share_out()

    def _share_out(self) -> None:
        """Give rank 0's plan to all, and open what it names."""
        told = self.ranks.told(json.dumps(self.plain()).encode() if self.ranks.rank == 0 else b"")
        legs = tuple(map(Leg.of, json.loads(told)))
        if any(source.name not in self._files[leg.layout] for leg in legs for source in leg.plan.sources):
            self._look()
        for number, leg in enumerate(legs):
            kept = self._streams.pop(number, None)
            if kept and kept.plan.sources == leg.plan.sources:
                self._streams[number] = replace(kept, plan=leg.plan)
            elif kept:
                kept.open.close()  # type: ignore[attr-defined]
        self.legs = legs
