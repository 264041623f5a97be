"""The Grafana dashboard: held to Grafana's own schema, to the list of metrics, and to the copy that lies beside it."""

import itertools
import json
import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from click.testing import CliRunner

from tundish.cluster.dashboard import COLUMNS, OTHERS, dashboard, text, words
from tundish.cluster.metrics import METRICS, exported
from tundish.pipeline.cli import cli

TOP = Path(__file__).resolve().parents[1]
DASHBOARD = dashboard()
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
ROWS = [panel for panel in DASHBOARD["panels"] if panel["type"] == "row"]
EXPRESSIONS = [target["expr"] for panel in PANELS for target in panel["targets"]]

# Facts of grafana/grafana kinds/dashboard/dashboard_kind.cue (schema 36 and later), as JSON Schema.
WORD, NATURAL = {"type": "string", "minLength": 1}, {"type": "integer", "minimum": 0}
SOURCE = {"type": "object", "required": ["type", "uid"], "properties": {"type": {"const": "prometheus"}, "uid": WORD}}
GRID = {
    "type": "object",
    "required": ["h", "w", "x", "y"],
    "additionalProperties": False,
    "properties": {
        "h": {"type": "integer", "exclusiveMinimum": 0},
        "w": {"type": "integer", "exclusiveMinimum": 0, "maximum": 24},
        "x": {"type": "integer", "minimum": 0, "exclusiveMaximum": 24},
        "y": NATURAL,
    },
}
TARGET = {
    "type": "object",
    "required": ["refId", "expr", "datasource", "legendFormat"],
    "properties": {"refId": {"pattern": "^[A-Z]$"}, "expr": WORD, "legendFormat": WORD, "datasource": SOURCE},
}
PANEL = {
    "type": "object",
    "required": ["id", "type", "title", "gridPos"],
    "properties": {"id": {"type": "integer", "minimum": 1}, "title": WORD, "gridPos": GRID},
    "oneOf": [
        {
            "required": ["collapsed", "panels"],
            "properties": {"type": {"const": "row"}, "collapsed": {"const": False}, "panels": {"maxItems": 0}},
        },
        {
            "required": ["datasource", "targets", "fieldConfig", "options", "description"],
            "properties": {
                "type": {"const": "timeseries"},
                "datasource": SOURCE,
                "targets": {"type": "array", "minItems": 1, "items": TARGET},
                "fieldConfig": {
                    "type": "object",
                    "required": ["defaults", "overrides"],
                    "properties": {
                        "defaults": {
                            "required": ["unit", "color"],
                            "properties": {
                                "unit": WORD,
                                "min": {"type": "number"},
                                "max": {"type": "number"},
                                "color": {"properties": {"mode": {"enum": ["palette-classic", "thresholds", "fixed"]}}},
                            },
                        },
                        "overrides": {"type": "array"},
                    },
                },
            },
        },
    ],
}
VARIABLE = {
    "type": "object",
    "required": ["name", "type", "hide", "query"],
    "properties": {
        "name": {"pattern": "^[A-Za-z_]\\w*$"},
        "type": {"enum": ["query", "adhoc", "constant", "datasource", "interval", "textbox", "custom", "system"]},
        "hide": {"enum": [0, 1, 2]},
        "refresh": {"enum": [0, 1, 2]},
        "sort": {"type": "integer", "minimum": 0, "maximum": 8},
        "datasource": SOURCE,
    },
}
SCHEMA = {
    "type": "object",
    "required": ["uid", "title", "schemaVersion", "panels", "templating", "style", "editable", "graphTooltip"],
    "properties": {
        "uid": {"type": "string", "minLength": 1, "maxLength": 40, "pattern": "^[A-Za-z0-9_-]+$"},
        "title": WORD,
        "style": {"enum": ["light", "dark"]},
        "editable": {"type": "boolean"},
        "graphTooltip": {"enum": [0, 1, 2]},
        "schemaVersion": {"type": "integer", "minimum": 36, "maximum": 41},
        "tags": {"type": "array", "items": WORD},
        "refresh": {"pattern": "^\\d+[smhd]$"},
        "time": {"required": ["from", "to"]},
        "panels": {"type": "array", "items": PANEL},
        "templating": {"required": ["list"], "properties": {"list": {"type": "array", "items": VARIABLE}}},
        "annotations": {"properties": {"list": {"type": "array"}}},
    },
}


def test_the_dashboard_is_what_grafana_reads() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    jsonschema.validate(DASHBOARD, SCHEMA)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("panels", 1, "gridPos", "w"), 25),
        (("panels", 1, "targets", 0, "expr"), ""),
        (("panels", 0, "type"), "text"),
        (("templating", "list", 0, "type"), "source"),
        (("uid",), "a b"),
        (("schemaVersion",), 16),
    ],
)
def test_the_schema_refuses_what_grafana_would_not_draw(path: tuple[Any, ...], value: Any) -> None:
    broken = json.loads(text())
    at = broken
    for step in path[:-1]:
        at = at[step]
    at[path[-1]] = value
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(broken, SCHEMA)


def test_numbers_are_given_once_and_panels_do_not_lie_on_each_other() -> None:
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        at = panel["gridPos"]
        assert at["x"] + at["w"] <= COLUMNS
        cells = set(itertools.product(range(at["x"], at["x"] + at["w"]), range(at["y"], at["y"] + at["h"])))
        assert not cells & taken, panel["title"]
        taken |= cells
    assert max(y for _, y in taken) < len(PANELS) * 8, "no holes"


def test_a_row_stands_over_each_theme_and_above_its_panels() -> None:
    assert [row["title"].lower() for row in ROWS] == list(dict.fromkeys(one.theme for one in METRICS))
    assert [row["title"] for row in ROWS] == ["Progress", "Throughput", "Drops", "Memory", "Training"]
    places = [panel["gridPos"]["y"] for panel in DASHBOARD["panels"]]
    assert places == sorted(places)
    titles = [panel["title"] for panel in PANELS]
    assert len(set(titles)) == len(titles)


KNOWN = {exported(one, "ray_"): one for one in METRICS}
SERIES = re.compile(r"\bray_\w+")


def metric_of(name: str) -> str:
    return name.removesuffix("_bucket") if name.removesuffix("_bucket") in KNOWN else name


def test_every_metric_has_a_panel_and_every_name_is_in_a_list() -> None:
    used = {metric_of(name) for expression in EXPRESSIONS for name in SERIES.findall(expression)}
    assert used == set(KNOWN) | set(OTHERS)


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_an_expression_can_be_read(expression: str) -> None:
    depth: list[str] = []
    for letter in re.sub(r'"[^"]*"', '""', expression):
        if letter in "({[":
            depth.append(letter)
        elif letter in ")}]":
            assert depth.pop() + letter in ("()", "{}", "[]")
    assert not depth
    variables = {name for name in re.findall(r"\$(\w+)", expression) if name != "__rate_interval"}
    assert variables <= {one["name"] for one in DASHBOARD["templating"]["list"]}


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_counters_are_asked_for_their_rate_and_labels_are_those_of_the_metric(expression: str) -> None:
    for name, labels in re.findall(r"\b(ray_\w+)\{([^}]*)\}", expression):
        metric = KNOWN.get(metric_of(name))
        asked = {label for label, _ in re.findall(r'(\w+)=~("[^"]*")', labels)} - {"SessionName"}
        assert asked <= set(metric.tags if metric else ())
        counts = metric is not None and metric.kind in ("counter", "histogram")
        assert counts == bool(re.search(rf"rate\({name}\{{[^}}]*\}}\[\$__rate_interval\]\)", expression))


def test_the_source_is_chosen_on_the_dashboard() -> None:
    (first, *others) = DASHBOARD["templating"]["list"]
    assert (first["name"], first["type"], first["query"]) == ("datasource", "datasource", "prometheus")
    assert [one["name"] for one in others] == ["session", "run", "stage"]
    for panel in PANELS:
        assert panel["datasource"]["uid"] == "${datasource}"
        assert all(target["datasource"]["uid"] == "${datasource}" for target in panel["targets"])


def test_the_committed_copy_is_what_is_made() -> None:
    """`tundish dashboard --grafana cluster/grafana/tundish.json` mends it."""
    assert (TOP / "cluster" / "grafana" / "tundish.json").read_text() == text()


def test_the_command_writes_it_to_a_file_a_folder_or_the_terminal(tmp_path: Path) -> None:
    def dashboard_of(*words: str) -> Any:
        return CliRunner().invoke(cli, ["dashboard", *words])

    assert dashboard_of().output == text()
    told = dashboard_of("--grafana", str(tmp_path))
    assert Path(told.output.strip()) == tmp_path / "tundish_grafana_dashboard.json"
    assert (tmp_path / "tundish_grafana_dashboard.json").read_text() == text()
    refused = dashboard_of("--grafana", str(tmp_path / "none" / "a.json"))
    assert isinstance(refused.exception, ValueError)
    assert "cannot be written (No such file or directory)" in str(refused.exception)


def test_titles_are_words() -> None:
    assert {words(one) for one in METRICS if one.theme == "training"} == {
        "Loss", "Gradient norm", "Learning rate", "Tokens", "Tokens per second", "MFU", "Data wait", "Overhead",
        "Padding", "Memory", "Device memory",
    }  # fmt: skip
