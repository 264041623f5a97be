"""What a run measures of itself, as one list, and who is told: Ray's metrics, or a file that Prometheus reads.

    watch = Observed(watch, sink)      what whoever looks on is told, becomes values of METRICS in the sink

Promises: a value is told where it is known, in the driver; shards that were committed before are no work and are
counted nowhere, so rates are those of this run; tags are few (stages, reasons, the goal of a run), never shards, hosts
or documents. Nothing that goes wrong with a metric ends a run: it is said once, and metrics are over. Costs some 0.03
ms a shard, and what the sink does. Counters where things add up, gauges where a value moves both ways (Prometheus,
"Metric types" and "Metric and label naming"; Ray 2.60 puts `ray_` before a name and `_total` behind a counter's).
"""

import contextlib
import logging
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, Protocol

from tundish.cluster.metered import most_memory
from tundish.cluster.pace import Pace
from tundish.cluster.verbs import Made, Told, Watch

LOG = logging.getLogger("tundish.metrics")
REASONS = 200  # of a stage; further ones are told as OTHER, because each is a series for good
OTHER = "other"
OFTEN = 1.0  # seconds between looks at what changes all the time
SECONDS = (0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0, 3000.0)  # bounds of the buckets of a histogram


class Metric(NamedTuple):
    """`unit`: things, rows, bytes, seconds, tokens, or ratio (0 to 1), or "" for a plain number."""

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    unit: str
    about: str
    theme: str
    tags: tuple[str, ...] = ("stage", "run")


_LIST = (
    Metric("done", "gauge", "things", "shards of a stage, pages of a crawl or steps of a training: done", "progress"),
    Metric("left", "gauge", "things", "the same: known and not yet done", "progress"),
    Metric("seconds_left", "gauge", "seconds", "until the stage is done, at its present pace", "progress"),
    Metric("moved_timestamp_seconds", "gauge", "seconds", "when the stage last came further, since 1970", "progress"),
    Metric("shards", "counter", "things", "shards that were worked and committed", "throughput"),
    Metric("rows_read", "counter", "rows", "rows that a stage was given", "throughput"),
    Metric("rows_written", "counter", "rows", "rows that a stage wrote", "throughput"),
    Metric("bytes_written", "counter", "bytes", "bytes of the files that a stage wrote", "throughput"),
    Metric("shard_seconds", "histogram", "seconds", "a worker's seconds for a shard, of all stages of a pass",
           "throughput"),
    Metric("rows_dropped", "counter", "rows", "rows that a stage decided to drop, by reason", "drops",
           ("stage", "reason", "run")),
    Metric("worker_memory_bytes", "gauge", "bytes", "the most that a worker has held since it began", "memory"),
    Metric("driver_memory_bytes", "gauge", "bytes", "the most that the driver has held", "memory", ("run",)),
    Metric("training_memory_bytes", "gauge", "bytes", "the most that the first trainer's process has held", "training"),
    Metric("training_device_memory_bytes", "gauge", "bytes",
           "the most that the first trainer has held of its GPU, in tensors", "training"),
    Metric("training_loss", "gauge", "", "mean loss of a step", "training"),
    Metric("training_gradient_norm", "gauge", "", "norm of the gradient, before it is clipped", "training"),
    Metric("training_learning_rate", "gauge", "", "learning rate", "training"),
    Metric("training_tokens", "gauge", "tokens", "tokens trained on; falls where a training goes back", "training"),
    Metric("training_tokens_per_second", "gauge", "tokens", "tokens of a step by its seconds", "training"),
    Metric("training_mfu_ratio", "gauge", "ratio", "share of the device's peak that useful operations took",
           "training"),
    Metric("training_data_wait_ratio", "gauge", "ratio", "share of a step's seconds that it waited for its batch",
           "training"),
    Metric("training_overhead_ratio", "gauge", "ratio",
           "share of a step's seconds for checkpoints, held-out measures and summing over workers", "training"),
    Metric("training_padding_ratio", "gauge", "ratio", "share of places without a token", "training"),
)  # fmt: skip
METRICS: tuple[Metric, ...] = tuple(one._replace(name=f"tundish_{one.name}") for one in _LIST)
BY_NAME: Mapping[str, Metric] = {one.name.removeprefix("tundish_"): one for one in METRICS}
PLAIN = {"loss": "loss", "norm": "gradient_norm", "lr": "learning_rate", "tokens": "tokens",
         "tokens_per_second": "tokens_per_second", "mfu": "mfu_ratio", "padding": "padding_ratio",
         "memory": "memory_bytes", "device_memory": "device_memory_bytes"}  # fmt: skip


class Sink(Protocol):
    """Where values go: counters are added to, gauges set, histograms get one observation more."""

    def __call__(self, metric: Metric, value: float, tags: Mapping[str, str]) -> None: ...


class Value(NamedTuple):
    """One thing to tell."""

    metric: Metric
    value: float
    tags: Mapping[str, str]


@dataclass
class Observed:
    """`watch` that tells a sink as well. `run` is the address of what is run for, which is the same when a run is gone
    on with; none outside of a run."""

    watch: Watch
    sink: Sink
    run: str = ""
    clock: Callable[[], float] = time.time
    paces: dict[str, Pace] = field(default_factory=dict)
    reasons: dict[str, set[str]] = field(default_factory=dict)
    looked: dict[str, float] = field(default_factory=dict)
    stage: str = ""  # the one that was told of last
    over: bool = False

    def __call__(self, stage: str, done: int, total: int, told: Told | None) -> None:
        self.watch(stage, done, total, told)
        if stage != self.stage:
            self.ended()
            self.stage = stage
        self._tell(self.values(stage, done, total, told))

    def ended(self) -> None:
        """A stage has come to its end, with nothing more to do: a crawl had enough pages, a training counts from 0."""
        pace = self.paces.get(self.stage)
        if pace and pace.done < pace.total:
            names = names_of(self.stage)
            self._tell(Value(BY_NAME[name], 0, {"stage": one}) for one in names for name in ("left", "seconds_left"))

    def _tell(self, values: Iterator[Value]) -> None:
        if self.over:
            return
        try:
            for metric, value, tags in values:
                self.sink(metric, value, {name: {"run": self.run, **tags}[name] for name in metric.tags})
        except Exception as error:  # whatever it is, a run is worth more than what is measured of it
            self.over = True
            LOG.warning("no more metrics are told, the run goes on: %s: %s", type(error).__name__, error)

    def values(self, stage: str, done: int, total: int, told: Told | None) -> Iterator[Value]:
        """What follows from one thing that was told."""
        now = self.clock()
        pace = self.paces.setdefault(stage, Pace())
        pace.heard(now, done, total, told)
        yield from self._progress(stage, pace, now)
        if told is not None and told.line:
            yield from trained(stage, told.line)
        elif told is not None and not told.kept and not told.note:
            yield from self._worked(stage, told)

    def _progress(self, stage: str, pace: Pace, now: float) -> Iterator[Value]:
        often = pace.done >= pace.total or now - self.looked.get(stage, 0.0) >= OFTEN
        for name in names_of(stage):
            tags = {"stage": name}
            yield Value(BY_NAME["done"], pace.done, tags)
            yield Value(BY_NAME["left"], max(0, pace.total - pace.done), tags)
            yield Value(BY_NAME["moved_timestamp_seconds"], pace.moved, tags)
            left = pace.left(now) if often else None
            if left is not None:
                yield Value(BY_NAME["seconds_left"], left, tags)
        if often:
            self.looked[stage] = now
            yield Value(BY_NAME["driver_memory_bytes"], most_memory(), {})

    def _worked(self, stage: str, told: Told) -> Iterator[Value]:
        """Of a shard that was worked on; of one whose worker says little, what it says."""
        for made in told.made or (Made(stage, told.rows, 0, told.counts),):
            tags = {"stage": made.stage}
            yield Value(BY_NAME["shards"], 1, tags)
            yield Value(BY_NAME["rows_read"], told.read, tags)
            yield Value(BY_NAME["rows_written"], made.rows, tags)
            yield Value(BY_NAME["bytes_written"], made.size, tags)
            for count, reason in dropped(made.counts):
                yield Value(BY_NAME["rows_dropped"], count, {**tags, "reason": self._bounded(made.stage, reason)})
        if told.seconds:
            yield Value(BY_NAME["shard_seconds"], told.seconds, {"stage": stage})
        if told.memory:
            yield Value(BY_NAME["worker_memory_bytes"], self._most(stage, told.memory), {"stage": stage})

    def _bounded(self, stage: str, reason: str) -> str:
        known = self.reasons.setdefault(stage, set())
        if len(known) < REASONS:
            known.add(reason)
        return reason if reason in known else OTHER

    def _most(self, stage: str, memory: int) -> float:
        """Of all workers of a stage."""
        self.looked[f"{stage} memory"] = most = max(self.looked.get(f"{stage} memory", 0.0), memory)
        return most


@contextlib.contextmanager
def named(watch: Watch, run: str) -> Iterator[None]:
    """Say what is run for, to all metrics that a watch tells, and when that has ended."""
    observers = []
    while isinstance(watch, Observed):
        watch.run = run
        observers.append(watch)
        watch = watch.watch
    try:
        yield
    finally:
        for one in observers:
            one.ended()


def names_of(stage: str) -> list[str]:
    """Stages that share a pass, each by its own name.

    >>> names_of("Identify + Judge"), names_of("Deduplicate: mark")
    (['Identify', 'Judge'], ['Deduplicate: mark'])
    """
    return stage.split(" + ")


def dropped(counts: Mapping[str, int]) -> list[tuple[int, str]]:
    """(rows, reason) of a shard's counters."""
    return [(count, key.removeprefix("dropped:")) for key, count in counts.items() if key.startswith("dropped:")]


def trained(stage: str, line: Mapping[str, Any]) -> Iterator[Value]:
    """What the line of a step tells (stages/pretrain_log); a line that tells less gives less."""
    tags = {"stage": stage}
    for key, name in PLAIN.items():
        if isinstance(line.get(key), int | float):
            yield Value(BY_NAME[f"training_{name}"], float(line[key]), tags)
    seconds = line.get("seconds")
    if isinstance(seconds, int | float) and seconds > 0:
        yield Value(BY_NAME["training_data_wait_ratio"], min(1.0, line.get("waited", 0.0) / seconds), tags)
        other = sum((line.get("spent") or {}).values())
        yield Value(BY_NAME["training_overhead_ratio"], min(1.0, other / seconds), tags)


def exported(metric: Metric, prefix: str = "") -> str:
    """The name that Prometheus sees.

    >>> exported(BY_NAME["rows_read"], "ray_"), exported(BY_NAME["left"])
    ('ray_tundish_rows_read_total', 'tundish_left')
    """
    return f"{prefix}{metric.name}{'_total' if metric.kind == 'counter' else ''}"


def table() -> str:
    """The list as Markdown, for the guide."""
    rows = [
        f"| `{exported(one, 'ray_')}` | {one.kind} | {one.unit} | {', '.join(one.tags)} | {one.about} |"
        for one in METRICS
    ]
    return "\n".join(["| metric | kind | unit | tags | |", "|---|---|---|---|---|", *rows])
