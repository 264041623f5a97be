"""Metrics without Ray: a file in Prometheus' text format, for the textfile collector of node_exporter.

    with TextFile("/var/lib/node_exporter/tundish.prom") as sink: …

Promises: who reads the file finds it whole, and with the latest values when the block has ended; names are those of
cluster/metrics, without `ray_`. Costs a small file every `EVERY` seconds, while something is told. Refuses a name that
the collector would not read (Prometheus, "Exposition formats"; node_exporter takes `*.prom` alone), and a place that
cannot be written, before anything runs; what goes wrong later ends nothing.
"""

import logging
import math
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping

from tundish.cluster import store
from tundish.cluster.metrics import METRICS, SECONDS, Metric, exported

LOG = logging.getLogger("tundish.metrics")
EVERY = 5.0  # seconds between writes
Labels = tuple[tuple[str, str], ...]


class TextFile:
    """A sink. Histograms are kept as the number of observations in each bucket, the last one open."""

    def __init__(self, path: str, clock: Callable[[], float] = time.monotonic) -> None:
        if not path.endswith(".prom"):
            raise ValueError(f"--metrics {path!r} is no name that Prometheus would find; let it end in .prom")
        self.path, self.clock, self.due = path, clock, -math.inf
        self.values: defaultdict[str, dict[Labels, float]] = defaultdict(dict)
        self.buckets: dict[Labels, list[int]] = {}

    def __enter__(self) -> "TextFile":
        self.write()
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self.write()
        except Exception as error:
            LOG.warning("%s does not hold the last metrics: %s", self.path, error)

    def __call__(self, metric: Metric, value: float, tags: Mapping[str, str]) -> None:
        labels, held = tuple(tags.items()), self.values[metric.name]
        held[labels] = value if metric.kind == "gauge" else held.get(labels, 0.0) + value
        if metric.kind == "histogram":
            counts = self.buckets.setdefault((("", metric.name), *labels), [0] * (len(SECONDS) + 1))
            counts[sum(value > bound for bound in SECONDS)] += 1
        if self.clock() >= self.due:
            self.due = self.clock() + EVERY
            self.write()

    def write(self) -> None:
        store.write(store.absolute(self.path), self.text().encode())

    def text(self) -> str:
        return "".join(f"{line}\n" for metric in METRICS for line in self._lines(metric))

    def _lines(self, metric: Metric) -> Iterator[str]:
        held, name = self.values.get(metric.name), exported(metric)
        if not held:
            return
        yield f"# HELP {name} {metric.about}"
        yield f"# TYPE {name} {metric.kind}"
        for labels, value in held.items():
            if metric.kind == "histogram":
                yield from self._histogram(name, labels, self.buckets[(("", metric.name), *labels)], value)
            else:
                yield f"{name}{spelt(labels)} {number(value)}"

    def _histogram(self, name: str, labels: Labels, counts: list[int], total: float) -> Iterator[str]:
        seen = 0
        for bound, count in zip((*SECONDS, math.inf), counts, strict=True):
            seen += count
            yield f"{name}_bucket{spelt((*labels, ('le', number(bound))))} {seen}"
        yield f"{name}_sum{spelt(labels)} {number(total)}"
        yield f"{name}_count{spelt(labels)} {seen}"


def spelt(labels: Labels) -> str:
    r"""Labels as the text format has them.

    >>> spelt((("stage", "Judge"), ("reason", 'a "b"\\c')))
    '{stage="Judge",reason="a \\"b\\"\\\\c"}'
    """
    escaped = ((name, value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")) for name, value in labels)
    return "{" + ",".join(f'{name}="{value}"' for name, value in escaped) + "}"


def number(value: float) -> str:
    """As Go reads floats.

    >>> number(3.0), number(0.25), number(float("inf")), number(float("nan"))
    ('3', '0.25', '+Inf', 'NaN')
    """
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    return str(int(value)) if value == int(value) else repr(value)
