"""Metrics on Ray: values of cluster/metrics become Ray's own, which every node offers to Prometheus.

Promises: each metric is made when it is first told, by its name in the list; what a process has told is there until it
ends (about 10 s after it was told, Ray's `metrics_report_interval_ms`), and goes with it. Refuses nothing: a counter
that is told nothing new is left as it is.
"""

from collections.abc import Mapping
from typing import Any

from ray.util.metrics import Counter, Gauge, Histogram

from tundish.cluster.metrics import SECONDS, Metric, Observed
from tundish.cluster.verbs import Watch


class RaySink:
    """Values to Ray's metrics, in this process."""

    def __init__(self) -> None:
        self.made: dict[str, Any] = {}

    def __call__(self, metric: Metric, value: float, tags: Mapping[str, str]) -> None:
        if metric.name not in self.made:
            self.made[metric.name] = made(metric)
        instrument = self.made[metric.name]
        if metric.kind == "gauge":
            instrument.set(value, tags=dict(tags))
        elif metric.kind == "histogram":
            instrument.observe(value, tags=dict(tags))
        elif value > 0:
            instrument.inc(value, tags=dict(tags))


def made(metric: Metric) -> Any:
    """One of Ray's."""
    if metric.kind == "histogram":
        return Histogram(metric.name, metric.about, list(SECONDS), metric.tags)
    return (Counter if metric.kind == "counter" else Gauge)(metric.name, metric.about, metric.tags)


def observed(watch: Watch) -> Watch:
    """The same watch; what it is told becomes metrics of the Ray that this process has joined, once."""
    if isinstance(watch, Observed) and isinstance(watch.sink, RaySink):
        watch = watch.watch
    return Observed(watch, RaySink())
