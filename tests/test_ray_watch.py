"""A run on a real Ray, looked at from outside: by Prometheus, in Ray's dashboard, in the report, by Grafana.

What was seen is kept in the folder that `TUNDISH_PICTURES` names, for who wants to look at it.
"""

import contextlib
import io
import json
import os
import re
import tempfile
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import ray
import yaml
from click.testing import CliRunner
from PIL import Image
from prometheus_client.parser import text_string_to_metric_families
from ray._private.authentication_test_utils import reset_auth_token_state

from tests.browser import chromium, looked_at
from tundish.cluster.dashboard import OTHERS
from tundish.cluster.metrics import METRICS, exported
from tundish.cluster.on_ray import OnRay
from tundish.cluster.verbs import Told
from tundish.pipeline.cli import cli
from tundish.pipeline.funnel import funnel
from tundish.pipeline.recipe import load
from tundish.pipeline.report import report
from tundish.pipeline.run import Outcome, run

pytestmark = pytest.mark.slow  # starts a Ray with its dashboard, and waits for what it tells every ten seconds

TEXT = (
    "The tide comes in twice a day, and the harbour has to be ready for it. When the water is high the boats leave, "
    "and those that have been out come home with what they caught. When it is low the mud lies bare and the birds "
    "walk about on it, looking for worms. Nobody here needs a clock to know which of the two it is, because the smell "
    "of the air and the noise of the ropes against the masts say it long before the eye has had a look."
)
RECIPE = """
documents: {Read: {files: ["%s/*.jsonl"]}}
quality: {Judge: {documents: documents}}
kept: {Refine: {documents: documents, quality: quality}}
corpus: {Corpus: {documents: documents, kept: kept, quality: quality}}
"""
LINE = {"step": 7, "steps": 10, "loss": 2.5, "norm": 1.5, "lr": 0.001, "tokens": 900, "tokens_per_second": 300.0,
        "seconds": 2.0, "waited": 0.5, "spent": {"saved": 0.25}, "padding": 0.125, "mfu": 0.25,
        "memory": 1 << 30, "device_memory": 1 << 29}  # fmt: skip
PATIENCE = 90.0  # seconds for values to come through Ray


@dataclass(frozen=True)
class Ran:
    """A Ray that is there, and a run that has been on it."""

    outcome: Outcome
    root: Path
    session: Path
    dashboard: str
    port: int
    job: str


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ran]:
    folder = tmp_path_factory.mktemp("watch")
    for part in range(4):
        rows = [{"url": f"http://heron.example/{part}/{n}", "text": f"{TEXT} That is page {n}."} for n in range(20)]
        rows += [
            {"url": f"http://heron.example/{part}/short-{n}", "text": f"{TEXT[:120]} {n}"} for n in range(part + 1)
        ]
        rows += [{"url": f"http://heron.example/{part}/again", "text": "the the the " * 80}]
        (folder / f"texts-{part}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "recipe.yaml").write_text(RECIPE % folder)
    with (
        tempfile.TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True) as temporary,
        without_token(),  # a browser has none
        OnRay(cpus=2, temporary=temporary) as cluster,
    ):
        outcome = run(load(str(folder / "recipe.yaml")), cluster, str(folder / "root"))
        cluster.watch("Pretrain", 7, 10, Told("Pretrain", 0, {}, line=LINE))
        node, context = ray.nodes()[0], ray.get_runtime_context()
        session = Path(temporary) / "session_latest"
        port, job = int(node["MetricsExportPort"]), context.get_job_id()
        yield Ran(outcome, folder / "root", session, str(cluster.dashboard_url), port, job)


@contextlib.contextmanager
def without_token() -> Iterator[None]:
    """Rays that ask for none, in this process, and after them again what was before: Ray reads the variable once."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_AUTH_MODE", "disabled")
        reset_auth_token_state()
        yield
    reset_auth_token_state()


Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


def scraped(port: int) -> tuple[Samples, dict[str, str]]:
    """Samples by name and by our own tags, summed over processes; and the kind of each family."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=30) as answer:
        body = answer.read()
    kept("metrics.txt", body)
    families = list(text_string_to_metric_families(body.decode()))
    found: Samples = Counter()
    for family in families:
        for sample in family.samples:
            own = {name: value for name, value in sample.labels.items() if name in ("stage", "reason", "run", "le")}
            found[(sample.name, tuple(sorted(own.items())))] += sample.value
    return found, {family.name: family.type for family in families}


def settled(port: int) -> tuple[Samples, dict[str, str]]:
    """What is scraped once the last value that was told is there: metrics come some ten seconds later."""
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        with contextlib.suppress(OSError):  # the port answers some seconds after the node is there
            found, kinds = scraped(port)
            if any(name == "ray_tundish_training_loss" for name, _ in found):
                return found, kinds
        time.sleep(1)
    raise AssertionError("the metrics did not come")


def test_prometheus_scrapes_the_rows_of_the_manifests_and_the_drops_of_the_funnel(ran: Ran) -> None:
    found, kinds = settled(ran.port)
    goal = ran.outcome.goal.address

    def value(name: str, **tags: str) -> float:
        return found[(f"ray_tundish_{name}", tuple(sorted({**tags, "run": goal}.items())))]

    stages = {address.split("-")[0].capitalize(): made for address, made in ran.outcome.datasets.items()}
    assert set(stages) == {"Read", "Judge", "Refine", "Corpus"}
    for stage, made in stages.items():
        assert value("rows_written_total", stage=stage) == made.rows > 0
        assert value("shards_total", stage=stage) == len(made.shards) == 4
        assert value("left", stage=stage) == 0
        assert value("done", stage=stage) == 4
        assert value("seconds_left", stage=stage) == 0
        assert abs(time.time() - value("moved_timestamp_seconds", stage=stage)) < 600
    for stage in ("Judge", "Refine"):
        assert value("rows_read_total", stage=stage) == stages["Read"].rows == 94
        assert value("bytes_written_total", stage=stage) == sum(shard.size for shard in stages[stage].shards)
    lines = {line.stage: line.drops for line in funnel(str(ran.root))}
    drops = {dict(tags)["reason"]: int(v) for (name, tags), v in found.items()
             if name == "ray_tundish_rows_dropped_total" and dict(tags)["stage"] == "Refine"}  # fmt: skip
    assert drops == lines["Refine"]
    assert sorted(drops.values()) == [4, 1 + 2 + 3 + 4]
    assert kinds["ray_tundish_rows_written"] == "counter"
    for title in ("Read", "Judge + Refine", "Corpus"):
        assert value("shard_seconds_count", stage=title) == 4
        assert value("shard_seconds_bucket", stage=title, le="+Inf") == 4
        assert 1 << 25 < value("worker_memory_bytes", stage=title) < 1 << 34
        assert 0 < value("shard_seconds_sum", stage=title) < 600


def test_every_metric_of_the_list_is_there_as_its_kind(ran: Ran) -> None:
    found, kinds = settled(ran.port)
    for metric in METRICS:
        assert kinds[exported(metric, "ray_").removesuffix("_total")] == metric.kind, metric.name
    goal = ran.outcome.goal.address
    tags = (("run", goal), ("stage", "Pretrain"))
    prefix = "ray_tundish_training_"
    training = {key[0].removeprefix(prefix): v for key, v in found.items() if key[0].startswith(prefix)}
    assert {key[1] for key in found if key[0].startswith(prefix)} == {tags}
    assert training == {
        "loss": 2.5, "gradient_norm": 1.5, "learning_rate": 0.001, "tokens": 900, "tokens_per_second": 300,
        "mfu_ratio": 0.25, "data_wait_ratio": 0.25, "overhead_ratio": 0.125, "padding_ratio": 0.125,
        "memory_bytes": 1 << 30, "device_memory_bytes": 1 << 29,
    }  # fmt: skip
    names = {name for name, _ in found}
    assert {name for name in OTHERS if "gpu" not in name and "gram" not in name} <= names
    series = [key for key in found if key[0].startswith("ray_tundish_")]
    assert len(series) < 300, "few tags"


def test_our_dashboard_lies_beside_those_that_ray_provides(ran: Ran) -> None:
    folder = ran.session / "metrics" / "grafana"
    with (folder / "provisioning" / "dashboards" / "default.yml").open() as told:
        (provider,) = yaml.safe_load(told)["providers"]
    place = Path(provider["options"]["path"])
    assert place.resolve() == (folder / "dashboards").resolve()
    theirs = [json.loads(path.read_text()) for path in place.glob("*.json")]
    assert len(theirs) > 3
    told_of = CliRunner().invoke(cli, ["dashboard", "--grafana", str(folder / "dashboards")])
    assert told_of.exit_code == 0, told_of.output
    ours = json.loads((place / "tundish_grafana_dashboard.json").read_text())
    assert ours["uid"] not in {one["uid"] for one in theirs}
    assert ours["title"] not in {one["title"] for one in theirs}
    sources = {variable["name"]: variable for one in theirs for variable in one["templating"]["list"]}
    assert sources["datasource"]["query"] == "prometheus"
    assert "SessionName" in str(sources["SessionName"]["definition"])
    assert (ran.session / "metrics" / "prometheus" / "prometheus.yml").is_file()


# -- pictures


def kept(name: str, body: bytes) -> None:
    if folder := os.environ.get("TUNDISH_PICTURES"):
        Path(folder, name).write_bytes(body)


def colours(png: bytes) -> int:
    """Different colours of a picture, in steps of 16."""
    pixels = np.asarray(Image.open(io.BytesIO(png)).convert("RGB")) >> 4
    return len(np.unique(pixels.reshape(-1, 3), axis=0))


needs_browser = pytest.mark.skipif(
    chromium() is None, reason="no Chromium is on the path, and TUNDISH_CHROMIUM names none"
)


@needs_browser
def test_the_dashboard_of_ray_shows_the_stages_by_name(ran: Ran, tmp_path: Path) -> None:
    words = ["Read", "Judge + Refine", "Corpus"]
    url, bar = f"http://{ran.dashboard}/#/jobs/{ran.job}", '[data-testid="progress-bar-segment"]'
    seen = looked_at(url, words, tmp_path, press=bar, size=(1500, 1400))
    kept("ray-job.png", seen.png)
    assert all(word in seen.text for word in words), seen.text[:2000]
    assert colours(seen.png) > 8


@needs_browser
def test_the_report_shows_the_stages_and_their_reasons(ran: Ran, tmp_path: Path) -> None:
    page, lines = report(str(ran.root), str(tmp_path / "report.html")), funnel(str(ran.root))
    words = [word for line in lines for word in (line.stage, *line.drops)]
    assert len(words) > 4
    seen = looked_at(Path(page).resolve().as_uri(), words, tmp_path, size=(1300, 2600))
    kept("report.png", seen.png)
    assert all(word in seen.text for word in words), seen.text[:2000]
    assert colours(seen.png) > 12
    text = re.sub(r"\s+", " ", seen.text)
    for line in lines:
        assert f"{line.documents_out:,}" in text


@needs_browser
def test_a_blank_page_would_be_noticed(tmp_path: Path) -> None:
    (tmp_path / "blank.html").write_text("<html><body></body></html>")
    seen = looked_at((tmp_path / "blank.html").as_uri(), ["Read"], tmp_path, seconds=1)
    assert seen.text.strip() == ""
    assert colours(seen.png) == 1
