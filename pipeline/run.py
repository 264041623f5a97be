"""run: a stage and what it stands on; what is current is kept, what was committed is not done again.

Row-wise stages that read the same source run in one pass over it. Promises: a stage whose input is damaged does not
run, nor does anything after it; every run leaves a record under `<root>/runs`; an interrupted run goes on where it was.
"""

import contextlib
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from tundish.cluster import signing, store
from tundish.cluster.credentials import redacted
from tundish.cluster.metered import Metered, Spent
from tundish.cluster.metrics import named
from tundish.cluster.shards import Dataset
from tundish.cluster.verbs import Cluster
from tundish.pipeline.lease import Lease
from tundish.pipeline.plan import Step, inputs_digests, plan, spelt
from tundish.stages.forget_swap import refuse_unfinished
from tundish.stages.stage import Columns, Settings, Stage, together


@dataclass
class Outcome:
    """What a run did: the datasets by address, how long each stage took, and what its workers spent (`spent_on`)."""

    goal: Stage
    datasets: dict[str, Dataset] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    costs: dict[str, dict[str, float]] = field(default_factory=dict)

    @property
    def dataset(self) -> Dataset:
        return self.datasets[self.goal.address]


class NothingLeft(ValueError):
    """No document is left after a stage."""


Say = Callable[[Step, str, float], None]  # (step, "kept" | "run" | "done", seconds)


def nothing(step: Step, state: str, seconds: float) -> None:
    """Nobody listens."""


def run(
    goal: Stage,
    cluster: Cluster | Callable[[], Cluster],
    root: str,
    *,
    settings: Settings | None = None,
    until: str | None = None,
    say: Say = nothing,
) -> Outcome:
    """Reach the goal (or the stages called `until`), doing only what is not current.

    `cluster` may be a function, called only if something has to run.
    """
    root = store.absolute(root)
    refuse_unfinished(root)
    signing.check()
    wanted = wanted_of(goal, until)
    outcome = Outcome(wanted[-1])

    def planned() -> list[Step]:
        return [step for step in plan(goal, root, settings) if step.stage.address in _needed(wanted)]

    steps = planned()
    if all(step.current for step in steps):
        _keep(steps, outcome, say)
        _Record(root, goal, 0).write("done", outcome)  # the latest run is what report shows and prune keeps
        return outcome
    with Lease(root) as lease:
        steps = planned()  # what lay there before may be gone: a prune held the root
        _keep(steps, outcome, say)
        record = _Record(root, goal, lease.number)
        try:
            brought = cluster() if callable(cluster) else cluster
            with named(brought.watch, goal.address):
                _run(steps, brought, outcome, lease, say)
            record.write("done", outcome)
        except KeyboardInterrupt:
            record.write("interrupted", outcome)
            raise
        except BaseException as error:
            with contextlib.suppress(ValueError, OSError):  # a full disk refuses this too: the error says why
                record.write(redacted(f"failed: {error}"), outcome)
            raise
    return outcome


def _keep(steps: list[Step], outcome: Outcome, say: Say) -> None:
    """What is sealed stays."""
    for step in steps:
        if step.sealed is not None:
            survivors(step.stage, step.sealed)
            outcome.datasets[step.stage.address] = step.sealed
            say(step, "kept", 0.0)


def wanted_of(goal: Stage, until: str | None) -> list[Stage]:
    if until is None:
        return [goal]
    found = [stage for stage in goal.walk() if stage.name == until]
    if not found:
        names = sorted({stage.name for stage in goal.walk()})
        raise ValueError(f"--until names {until!r}, which the recipe does not use; it has {', '.join(names)}")
    return found


def _needed(wanted: Iterable[Stage]) -> set[str]:
    return {stage.address for goal in wanted for stage in goal.walk()}


def _run(steps: list[Step], cluster: Cluster, outcome: Outcome, lease: Lease, say: Say) -> None:
    waiting, metered = [step for step in steps if not step.current], Metered(cluster)
    while waiting:
        group = grouped(waiting, outcome)
        waiting = waiting_behind(waiting, group)
        lease.check()
        started = time.monotonic()
        for step in group:
            say(step, "run", 0.0)
            step.stage.prepare()
        outcome.datasets |= carried(group, metered, outcome)
        lease.check()
        seconds = (time.monotonic() - started) / len(group)
        cost = spent_on(metered.spent, len(group), getattr(cluster, "workers", 1))
        metered.spent.clear()
        for step in group:
            outcome.seconds[step.stage.address] = seconds
            outcome.costs |= {step.stage.address: cost} if cost else {}
            say(step, "done", seconds)
            survivors(step.stage, outcome.datasets[step.stage.address])


def spent_on(spent: Sequence[Spent], stages: int, workers: int) -> dict[str, float]:
    """What each of some stages that ran in one pass took of all workers: seconds of `work` and `cpu`, bytes of memory
    at most (`peak`), `items`, and the `workers` there were. Empty where no items were carried, as in a crawl."""
    if not spent:
        return {}
    work, cpu = (round(sum(each) / stages, 3) for each in zip(*((s.wall, s.cpu) for s in spent), strict=True))
    return {"work": work, "cpu": cpu, "peak": max(s.peak for s in spent), "items": len(spent), "workers": workers}


def grouped(waiting: list[Step], outcome: Outcome) -> list[Step]:
    """The first step that can run, with those that share its pass; their places say what they read."""
    group = _next(waiting, outcome)
    return [replace(step, place=_told(step, group, outcome)) for step in group]


def waiting_behind(waiting: list[Step], group: list[Step]) -> list[Step]:
    """Those that are left."""
    taken = {step.stage.address for step in group}
    return [step for step in waiting if step.stage.address not in taken]


def _next(waiting: list[Step], outcome: Outcome) -> list[Step]:
    """The first stage that can run, with all row-wise ones that can share its pass over the source."""
    ready = set(outcome.datasets)
    first = next(s for s in waiting if all(i.address in ready for i in s.stage.inputs.values()))
    if not isinstance(first.stage, Columns):
        return [first]
    group = [first]
    for step in waiting:
        stage = step.stage
        if step is first or not isinstance(stage, Columns) or stage.source.address != first.stage.source.address:
            continue
        if all(i.address in ready or i.address in {g.stage.address for g in group} for i in stage.inputs.values()):
            group.append(step)
    return group


def _told(step: Step, group: list[Step], outcome: Outcome) -> Any:
    """The place, with what the manifest will say of the inputs. Those made in the same pass are said when sealed."""
    known = {name: s for name, s in step.stage.inputs.items() if s.address in outcome.datasets}
    digests = {name: outcome.datasets[source.address].digest for name, source in known.items()}
    return replace(step.place, about={**step.place.about, "inputs": digests})


def carried(group: list[Step], cluster: Cluster, outcome: Outcome) -> dict[str, Dataset]:
    """The datasets of one group, by address."""
    if len(group) == 1:
        (step,) = group
        inputs = {name: outcome.datasets[source.address] for name, source in step.stage.inputs.items()}
        made = {step.stage.address: step.stage.run(cluster, inputs, step.place)}
        return {step.stage.address: _resealed(step.stage, made, outcome, step.place)}
    stages = [step.stage for step in group if isinstance(step.stage, Columns)]
    places = {step.stage.address: step.place for step in group}
    made = together(stages, cluster, outcome.datasets, places)
    return {stage.address: _resealed(stage, made, outcome, places[stage.address]) for stage in stages}


def _resealed(stage: Stage, made: dict[str, Dataset], outcome: Outcome, place: Any) -> Dataset:
    """The dataset, its manifest naming today's inputs: those of the same pass were not known when it was sealed,
    and a dataset that stood already may have been sealed when an input was spelt otherwise and held the same rows."""
    dataset = made[stage.address]
    digests = inputs_digests(stage, {**outcome.datasets, **made})
    if digests == dataset.about.get("inputs"):
        return dataset
    kept = {k: v for k, v in dataset.about.items() if k != "key"}
    return place.target().seal(dataset.shards, **{**kept, "inputs": digests})


def survivors(stage: Stage, dataset: Dataset) -> None:
    """Refuse to go on with nothing, or with what the stage itself refuses; says which stage, and the top reasons."""
    if dataset.about.get("kind") == "files":
        return
    counts = dataset.counts
    dropped = {k.removeprefix("dropped:"): v for k, v in counts.items() if k.startswith("dropped:")}
    left = counts.get("kept", 0) if dropped and isinstance(stage, Columns) else dataset.rows
    if left or stage.may_be_empty:
        return stage.accept(dataset)
    if dataset.about.get("kind") == "archives" and dataset.shards:  # how many records they hold is seen by who reads
        return
    top = ", ".join(
        f"{reason} {count}" for reason, count in sorted(dropped.items(), key=lambda kv: (-kv[1], kv[0]))[:5]
    )
    raise NothingLeft(
        f"no document is left after {stage.name} (top reasons: {top or 'nothing came in'}); "
        "widen the sources or loosen what drops them"
    )


class _Record:
    """`<root>/runs/<time>.json`: recipe, addresses, outcome."""

    def __init__(self, root: str, goal: Stage, number: int) -> None:
        self.started, self.goal, self.number = time.time(), goal, number
        stamp = time.strftime("%Y%m%dT%H%M%S", time.gmtime(self.started)) + f"{self.started % 1:.3f}"[1:]
        store.sweep(store.join(root, "runs"))
        self.uri = store.join(root, "runs", f"{stamp}-{number:06d}.json")
        self.write("running", Outcome(goal))

    def write(self, state: str, outcome: Outcome) -> None:
        value = {
            "goal": self.goal.address,
            "order": [stage.address for stage in self.goal.walk()],
            "recipe": spelt(self.goal),
            "lease": self.number,
            "outcome": state,
            "started": self.started,
            "seconds": {k: round(v, 3) for k, v in outcome.seconds.items()},
            "costs": outcome.costs,
            "digests": {k: d.digest for k, d in outcome.datasets.items()},
        }
        store.write_json(self.uri, value)
