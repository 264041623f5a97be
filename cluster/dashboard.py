"""The Grafana dashboard, made from the list of metrics: a row of panels a theme, on what Ray offers to Prometheus.

Promises: the same JSON for the same list, so a committed copy (cluster/grafana/tundish.json) can be held equal; every
metric of the list is in a panel; the source of data is chosen on the dashboard, and session, run and stage beside it.
It is Grafana's classic model (kinds/dashboard/dashboard_kind.cue: a grid of 24 columns, panels `timeseries` and `row`),
which versions 9 to 13 read. Refuses nothing.

`OTHERS` are metrics of Ray's own (2.60) that say what ours cannot: memory of nodes, of the object store and of GPUs.
"""

import json
from collections.abc import Iterator
from typing import Any, NamedTuple

from tundish.cluster.metrics import BY_NAME, METRICS, Metric, exported

COLUMNS, WIDTH, HEIGHT = 24, 8, 8  # of the grid, and of a panel
UNITS = {
    "things": "short",
    "rows": "short",
    "bytes": "bytes",
    "seconds": "s",
    "tokens": "short",
    "ratio": "percentunit",
}
RATES = {"things": "ops", "rows": "rowsps", "bytes": "Bps"}
OTHERS = (
    "ray_node_mem_used",
    "ray_node_mem_total",
    "ray_object_store_memory",
    "ray_node_gram_used",
    "ray_node_gpus_utilization",
)
SOURCE = {"type": "prometheus", "uid": "${datasource}"}
PICK = 'SessionName=~"$session",run=~"$run"'
STAGE = f'{PICK},stage=~"$stage"'
NODE = 'SessionName=~"$session"'


class Query(NamedTuple):
    """PromQL, and how a series is named."""

    expr: str
    legend: str = "{{stage}}"


class Panel(NamedTuple):
    """`unit` as Grafana names it; `most`: the top of the axis."""

    title: str
    about: str
    unit: str
    queries: tuple[Query, ...]
    most: float | None = None
    stacked: bool = False


def ray(name: str) -> str:
    """What Ray calls a metric of the list."""
    return exported(BY_NAME[name], "ray_")


def rate(name: str, by: str = "stage") -> str:
    """A counter's additions a second. Counters are the driver's, so a run that is gone on with has two of them."""
    return f"sum by ({by}) (rate({ray(name)}{{{STAGE}}}[$__rate_interval]))"


def last(name: str, how: str = "sum", pick: str = STAGE, by: str = "stage") -> str:
    return f"{how} by ({by}) ({ray(name)}{{{pick}}})"


def nodes(name: str, by: str = "instance", how: str = "max") -> str:
    """One of Ray's own metrics, of this session."""
    return f"{how} by ({by}) ({name}{{{NODE}}})"


def plain(metric: Metric) -> Panel:
    """The panel of a metric of which nothing more is known than what the list says."""
    name, title = metric.name.removeprefix("tundish_"), words(metric)
    if metric.kind == "counter":
        return Panel(f"{title} a second", metric.about, RATES.get(metric.unit, "cps"), (Query(rate(name)),))
    if metric.kind == "histogram":
        ranks = tuple(Query(quantile(name, q), f"{{{{stage}}}} {round(100 * q)} %") for q in (0.5, 0.95))
        return Panel(title, metric.about, UNITS.get(metric.unit, "short"), ranks)
    by, pick = ("stage", STAGE) if "stage" in metric.tags else ("run", PICK)
    most = 1.0 if metric.unit == "ratio" else None
    legend = f"{{{{{by}}}}}"
    return Panel(
        title, metric.about, UNITS.get(metric.unit, "short"), (Query(last(name, "max", pick, by), legend),), most
    )


def words(metric: Metric) -> str:
    """A title: the name without its theme and unit.

    >>> words(BY_NAME["training_mfu_ratio"]), words(BY_NAME["worker_memory_bytes"])
    ('MFU', 'Worker memory')
    """
    name = metric.name.removeprefix("tundish_").removeprefix(f"{metric.theme}_")
    for unit in ("_ratio", "_bytes"):
        name = name.removesuffix(unit)
    return name.upper() if name == "mfu" else name.replace("_", " ").capitalize()


def quantile(name: str, rank: float) -> str:
    rates = f"rate({ray(name)}_bucket{{{STAGE}}}[$__rate_interval])"
    return f"histogram_quantile({rank:g}, sum by (le, stage) ({rates}))"


def special() -> dict[str, Panel]:
    """Panels that say more than one metric does, by the metric in whose place they stand."""
    done, left, moved = last("done"), last("left"), last("moved_timestamp_seconds", "max")
    return {
        "done": Panel("Done", "share of a stage's shards, pages or steps that are done", "percentunit",
                      (Query(f"{done} / ({done} + {left} > 0)"),), 1.0),
        "left": Panel("Left", BY_NAME["left"].about, "short", (Query(left),)),
        "moved_timestamp_seconds": Panel(
            "Stands still", "seconds since a stage came further that has something left to do", "s",
            (Query(f"(time() - {moved}) and {left} > 0"),)),
        "rows_dropped": Panel("Rows dropped a second, by reason", BY_NAME["rows_dropped"].about, "rowsps",
                              (Query(rate("rows_dropped", "stage, reason"), "{{stage}} {{reason}}"),), stacked=True),
        "driver_memory_bytes": Panel(
            "Memory of driver and nodes", "the most the driver has held; what nodes hold and have", "bytes",
            (Query(last("driver_memory_bytes", "max", PICK, "run"), "driver {{run}}"),
             Query(nodes("ray_node_mem_used"), "used {{instance}}"),
             Query(nodes("ray_node_mem_total"), "of {{instance}}"))),
    }  # fmt: skip


def added() -> dict[str, tuple[Panel, ...]]:
    """Panels that stand behind a theme's metrics."""
    gpu = "instance, GpuIndex"
    share = f"{rate('rows_dropped', 'stage, reason')} / on (stage) group_left () {rate('rows_read')}"
    each = f"{rate('rows_dropped')} / {rate('rows_read')}"
    return {
        "drops": (
            Panel("Share of rows dropped", "of the rows a stage was given", "percentunit", (Query(each),), 1.0),
            Panel("Share of rows dropped, by reason", "of the rows a stage was given", "percentunit",
                  (Query(share, "{{stage}} {{reason}}"),), stacked=True),
        ),
        "memory": (
            Panel("Ray's object store", "bytes by where they lie; tundish passes no rows through it", "bytes",
                  (Query(nodes("ray_object_store_memory", "Location", "sum"), "{{Location}}"),), stacked=True),
        ),
        "training": (
            Panel("Memory of GPUs", "of each GPU of each node", "mbytes",
                  (Query(nodes("ray_node_gram_used", gpu), "{{instance}} {{GpuIndex}}"),)),
            Panel("GPUs at work", "utilisation of each GPU of each node", "percent",
                  (Query(nodes("ray_node_gpus_utilization", gpu), "{{instance}} {{GpuIndex}}"),), 100.0),
        ),
    }  # fmt: skip


def themes() -> dict[str, list[Panel]]:
    """Panels, theme by theme, in the order of the list."""
    instead, behind = special(), added()
    found: dict[str, list[Panel]] = {}
    for metric in METRICS:
        name = metric.name.removeprefix("tundish_")
        found.setdefault(metric.theme, []).append(instead.get(name) or plain(metric))
    return {theme: [*panels, *behind.get(theme, ())] for theme, panels in found.items()}


def dashboard() -> dict[str, Any]:
    """The dashboard as Grafana reads it."""
    return {
        "uid": "tundish",
        "title": "tundish",
        "description": "Stages, throughput, drops, memory and training of tundish on Ray; made by `tundish dashboard`.",
        "tags": ["tundish", "ray"],
        "schemaVersion": 39,
        "version": 1,
        "style": "dark",
        "timezone": "browser",
        "editable": True,
        "graphTooltip": 1,
        "refresh": "10s",
        "time": {"from": "now-30m", "to": "now"},
        "annotations": {"list": []},
        "links": [],
        "templating": {"list": list(_variables())},
        "panels": list(_laid()),
    }


def text() -> str:
    """The same as JSON."""
    return json.dumps(dashboard(), indent=1) + "\n"


def _laid() -> Iterator[dict[str, Any]]:
    """Rows and panels in the grid, from the left and from the top."""
    number = y = 0
    for theme, panels in themes().items():
        place = {"x": 0, "y": y, "w": COLUMNS, "h": 1}
        number, y = number + 1, y + 1
        yield {"id": number, "type": "row", "title": theme.capitalize(), "collapsed": False, "gridPos": place,
               "panels": []}  # fmt: skip
        for at, panel in enumerate(panels):
            across, down = at % (COLUMNS // WIDTH), at // (COLUMNS // WIDTH)
            number += 1
            yield _panel(number, panel, {"x": across * WIDTH, "y": y + down * HEIGHT, "w": WIDTH, "h": HEIGHT})
        y += -(-len(panels) // (COLUMNS // WIDTH)) * HEIGHT


def _panel(number: int, panel: Panel, place: dict[str, int]) -> dict[str, Any]:
    custom = {"lineWidth": 1, "fillOpacity": 40 if panel.stacked else 10, "showPoints": "never", "spanNulls": 60_000}
    custom |= {"stacking": {"mode": "normal" if panel.stacked else "none", "group": "A"}}
    defaults: dict[str, Any] = {"unit": panel.unit, "color": {"mode": "palette-classic"}, "custom": custom}
    if panel.unit not in ("short",) or panel.stacked:
        defaults["min"] = 0
    if panel.most is not None:
        defaults["max"] = panel.most
    targets = [
        {"refId": chr(65 + at), "datasource": SOURCE, "expr": query.expr, "legendFormat": query.legend, "range": True}
        for at, query in enumerate(panel.queries)
    ]
    legend = {"showLegend": True, "displayMode": "table", "placement": "bottom", "calcs": ["lastNotNull", "max"]}
    return {
        "id": number,
        "type": "timeseries",
        "title": panel.title,
        "description": panel.about,
        "datasource": SOURCE,
        "gridPos": place,
        "fieldConfig": {"defaults": defaults, "overrides": []},
        "options": {"legend": legend, "tooltip": {"mode": "multi", "sort": "desc"}},
        "targets": targets,
    }


def _variables() -> Iterator[dict[str, Any]]:
    """What is chosen above the panels."""
    yield {"name": "datasource", "label": "Prometheus", "type": "datasource", "query": "prometheus", "hide": 0,
           "refresh": 1, "multi": False, "includeAll": False}  # fmt: skip
    before = ""
    for name, label in (("session", "SessionName"), ("run", "run"), ("stage", "stage")):
        query = f"label_values({ray('done')}{{{before}}}, {label})"
        yield {
            "name": name,
            "label": name.capitalize(),
            "type": "query",
            "datasource": SOURCE,
            "definition": query,
            "query": {"query": query, "refId": "A"},
            "refresh": 2,
            "sort": 2 if name != "stage" else 1,
            "hide": 0,
            "multi": True,
            "includeAll": True,
            "allValue": ".*",
            "current": {"selected": True, "text": ["All"], "value": ["$__all"]},
        }
        before += f'{"," if before else ""}{label}=~"${name}"'
